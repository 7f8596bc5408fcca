//! Periodic tasks: closures that the reactor calls once in each period.
//!
//! A periodic task is a source without a descriptor. Its deadline is filed as that of any other
//! slot. When that is due, the slot is queued, and the closure runs in the next drive, as a task
//! does, with the whole reactor as its argument.
//!
//! Invariant: a call is never made up for. The next one is due in the future, at a whole number of
//! periods after the first.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use crate::caught::{Panicked, catch_drop};
use crate::protocol::ident::CloseReason;
use crate::protocol::outcome::Outcome;
use crate::reactor::Reactor;
use crate::reactor::sources::Source;
use crate::stream::readiness::{Readiness, Registered};
use crate::time::{Time, ms_rounded_up};

/// The closure. The slot keeps it while it runs, so that it is there if the reactor is replaced
/// meanwhile, and put back.
type Call = Rc<RefCell<dyn FnMut(&mut Reactor) -> ControlFlow<()>>>;

pub(crate) struct Periodic {
    call: Call,
    period_ms: u64,
    due: Time,
}

impl Periodic {
    pub(in crate::reactor) fn due(&self) -> Time {
        self.due
    }

    /// Returns whether a call is due, and moves on to the next one, which is in the future.
    pub(in crate::reactor) fn take_due(&mut self, now: Time) -> bool {
        let is_due = self.due <= now;
        if is_due {
            let late_ms = u64::try_from(now.since(self.due).as_millis()).unwrap_or(u64::MAX);
            let skipped = late_ms / self.period_ms;
            self.due = self.due.plus_ms((skipped + 1).saturating_mul(self.period_ms));
        }
        is_due
    }
}

impl Reactor {
    /// Calls `task` once in each `period`, for the first time when one is over: to log a line of
    /// statistics, or to remove what is old. libuv: `uv_timer_start` with a repeat; JavaScript:
    /// `setInterval`.
    ///
    /// The task ends when it returns [`ControlFlow::Break`], when it panics, and when the reactor
    /// begins to stop. A panic is caught, counted ([`Stats::panics`](crate::Stats::panics)) and
    /// logged. While it runs, no source is served, so it must not block, and what is much is done
    /// in parts. It may do whatever a task may do that was submitted
    /// ([`Handle::submit`](crate::Handle::submit)).
    ///
    /// `period` is rounded up to whole milliseconds; 0 counts as 1 ms. Periods that have passed
    /// without a call, since the loop was busy or the machine slept, are not made up for: there is
    /// one call, and the next is due in the future, at a whole number of periods after this. Each
    /// periodic task takes a slot and some 200 bytes, and no descriptor.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::ops::ControlFlow;
    /// use std::time::Duration;
    /// use mio_reactor::{Limits, Reactor};
    ///
    /// let mut reactor = Reactor::new(Limits::default())?;
    /// let mut seconds = 0;
    /// reactor.run_every(Duration::from_millis(2), move |reactor| {
    ///     println!("{} connections", reactor.stats().connections);
    ///     seconds += 1;
    ///     if seconds == 3 {
    ///         reactor.stop();
    ///     }
    ///     ControlFlow::Continue(())
    /// });
    /// reactor.run()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// The task panics if it calls [`Reactor::run`] or [`Reactor::turn`], because it runs within a
    /// turn.
    pub fn run_every(
        &mut self,
        period: Duration,
        task: impl FnMut(&mut Reactor) -> ControlFlow<()> + 'static,
    ) {
        self.read_clock();
        let period_ms = ms_rounded_up(period).max(1);
        let due = self.state.clock.now.plus_ms(period_ms);
        let periodic = Periodic { call: Rc::new(RefCell::new(task)), period_ms, due };
        let token = self.insert(Source::Periodic(Box::new(periodic)), Registered::Reading);
        self.rearm(token, false); // files its deadline
    }

    /// Makes the call that is due. Returns `Idle` if the closure has put another reactor in the
    /// place of this one.
    pub(in crate::reactor) fn run_periodic(&mut self, token: usize) -> Outcome {
        let slot = &mut self.slots[token];
        if self.state.stop.is_stopping() {
            return Outcome::Ended(CloseReason::Stopped);
        }
        let was_due = std::mem::replace(&mut slot.ready, Readiness::NOT_READY).readable();
        let call = match &slot.source {
            Source::Periodic(periodic) if was_due => periodic.call.clone(),
            Source::Periodic(_)
            | Source::Connection(..)
            | Source::Listener(_)
            | Source::Datagram(_)
            | Source::Tasks(_)
            | Source::StopSignal(_) => return Outcome::Blocked,
        };
        let result = self.call_task(|reactor| (call.borrow_mut())(reactor));
        let is_same = matches!(
            self.slots.get(token).map(|slot| &slot.source),
            Some(Source::Periodic(periodic)) if Rc::ptr_eq(&periodic.call, &call)
        );
        if !is_same {
            catch_drop(&mut self.state.stats, call); // perhaps the last to hold it
            self.take_over();
            return Outcome::Idle;
        }
        match result {
            Ok(ControlFlow::Continue(())) => Outcome::Blocked,
            Ok(ControlFlow::Break(())) | Err(Panicked) => Outcome::Ended(CloseReason::Finished),
        }
    }
}
