//! A datagram protocol that speaks without having been asked: at the beginning, at its alarm, and as fast as the kernel takes it.
//!
//! ```text
//!     New ──opened──► Answering ◄───────────────┐
//!                       │   │ wake_when_writable        │ drained, once all that was said is with the kernel
//!                 close │   └────► Producing ───┘
//!                       ▼
//!                    Closing ──► ended, once all that was said is with the kernel
//! ```
//!
//! What it says waits and leaves with the replies, and is bounded with them. None of this costs those who only answer more
//! than a comparison or two for each drive.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::batch::Replies;
use super::socket::{DatagramProtocol, DatagramSocket};
use crate::clock::Time;
use crate::limits::TIMER_LATE_MS;
use crate::loop_state::LoopState;
use crate::protocol::ident::CloseReason;
use crate::protocol::outcome::Outcome;
use crate::stream::readiness::Readiness;
use crate::sys;

/// What a protocol has asked for, and the moment at which it is called.
pub(crate) struct SocketRequests {
    pub(crate) phase: SocketPhase,
    /// When it wants to be called. `NEVER`: it does not.
    pub(crate) timer: Time,
    pub(crate) now: Time,
    /// When the reactor was made.
    pub(crate) started: Instant,
    /// When the batch was received, if that has been asked for.
    pub(crate) received_at: Option<Instant>,
}

/// Where a datagram socket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketPhase {
    /// It has not been driven yet, nor its protocol called.
    New,
    /// It answers what comes, or rings when the alarm is due.
    Receiving,
    /// The same, and its protocol has more to say once all that waits is gone.
    AwaitingWritable,
    /// It ends once all that waits is gone.
    Closing,
}

impl SocketRequests {
    pub(crate) fn new() -> SocketRequests {
        let now = Time::at(Duration::ZERO);
        SocketRequests {
            phase: SocketPhase::New,
            timer: Time::NEVER,
            now,
            started: sys::now(),
            received_at: None,
        }
    }
}

impl Replies<'_> {
    /// Asks for a call of [`DatagramProtocol::writable`]: in the next turn, or as soon after it as all that was sent has been taken
    /// by the kernel. It has to be asked for anew to come again. While it is being asked for, the loop does not sleep: this is
    /// how to send as fast as the kernel takes it, or by a clock more precise than the alarm's; who waits for anything else
    /// has [`set_timer`](Replies::set_timer).
    #[inline]
    pub fn wake_when_writable(&mut self) {
        if self.outgoing.requests.phase != SocketPhase::Closing {
            self.outgoing.requests.phase = SocketPhase::AwaitingWritable;
        }
    }

    /// Closes the socket once all that was sent has been taken by the kernel, and drops the protocol. What has been received
    /// already may still be put to it before.
    pub fn close(&mut self) {
        self.outgoing.requests.phase = SocketPhase::Closing;
        self.outgoing.requests.timer = Time::NEVER;
    }

    /// Asks for a call of [`DatagramProtocol::timer_expired`] once `delay` is over (rounded up to whole milliseconds), and not for the
    /// one asked for before.
    pub fn set_timer(&mut self, delay: Duration) {
        let wishes = &mut self.outgoing.requests;
        if wishes.phase != SocketPhase::Closing {
            let ms = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            wishes.timer = wishes.now.plus_ms(ms.max(1));
        }
    }

    /// Takes back what was asked for with [`set_timer`](Replies::set_timer).
    pub fn cancel_timer(&mut self) {
        self.outgoing.requests.timer = Time::NEVER;
    }

    /// The present moment: the same throughout a turn, in whole milliseconds since the reactor was made.
    pub fn now(&self) -> Instant {
        self.outgoing.requests.started + self.outgoing.requests.now.since(Time::at(Duration::ZERO))
    }

    /// When the datagram being answered was received, by a clock that is read once for each batch, when this is first called.
    /// Where none is being answered: when the last one was, or now.
    #[inline]
    pub fn received_at(&mut self) -> Instant {
        *self.outgoing.requests.received_at.get_or_insert_with(sys::now)
    }
}

impl DatagramSocket {
    /// The moment that the protocol wants to be called at.
    #[inline]
    pub(crate) fn timer(&self) -> Time {
        self.batch.replies.requests.timer
    }

    #[inline]
    pub(crate) fn phase(&self) -> SocketPhase {
        self.batch.replies.requests.phase
    }

    fn set_phase(&mut self, phase: SocketPhase) {
        self.batch.replies.requests.phase = phase;
    }

    /// A drive begins of a socket that does not only answer. Returns an outcome if that is all.
    #[inline(never)]
    pub(crate) fn begin_drive(
        &mut self,
        ready: &mut Readiness,
        turn: &mut LoopState,
    ) -> Option<Outcome> {
        match self.phase() {
            SocketPhase::Receiving | SocketPhase::AwaitingWritable => None,
            SocketPhase::New => {
                self.set_phase(SocketPhase::Receiving);
                self.call_protocol(turn, |protocol, replies| protocol.opened(replies));
                None
            }
            SocketPhase::Closing => Some(self.flush_and_report(ready, turn)),
        }
    }

    /// A drive ends: all that could be answered has been. Tells the protocol what else there is to tell, and asks what else it has to say.
    #[inline(never)]
    pub(crate) fn call_pending(&mut self, ready: &mut Readiness, turn: &mut LoopState) -> Outcome {
        // Who has closed has done with it all, and a panic must not open again what it has closed.
        if let Some(error) = self.failure.take()
            && self.phase() != SocketPhase::Closing
        {
            self.call_protocol(turn, |protocol, replies| protocol.error_received(&error, replies));
        }
        if self.phase() == SocketPhase::AwaitingWritable && !self.wants_write() {
            self.set_phase(SocketPhase::Receiving); // until it asks anew
            self.call_protocol(turn, |protocol, replies| protocol.writable(replies));
        }
        self.flush_and_report(ready, turn)
    }

    /// The filed moment has come, though perhaps not yet the true one.
    pub(crate) fn expire(&mut self, ready: &mut Readiness, turn: &mut LoopState) -> Outcome {
        self.batch.replies.requests.now = turn.clock.now;
        if self.timer() <= turn.clock.now
            && turn.clock.now.since(self.timer()) >= Duration::from_millis(TIMER_LATE_MS)
        {
            // The loop has been held up, and may not have heard of what has come in time.
            ready.readable = true;
            if let Outcome::Ended(why) = self.drive(ready, turn) {
                return Outcome::Ended(why);
            }
        }
        if self.timer() <= turn.clock.now {
            self.batch.replies.requests.timer = Time::NEVER;
            self.call_protocol(turn, |protocol, replies| protocol.timer_expired(replies));
        }
        self.flush_and_report(ready, turn)
    }

    /// Sends what was said last, and says how to go on.
    pub(crate) fn flush_and_report(
        &mut self,
        ready: &mut Readiness,
        turn: &mut LoopState,
    ) -> Outcome {
        self.send(ready, &mut turn.stats);
        if self.phase() == SocketPhase::Closing && !self.wants_write() {
            Outcome::Ended(CloseReason::Finished)
        } else if self.can_progress(ready) {
            Outcome::Unfinished
        } else {
            Outcome::Blocked
        }
    }

    /// Calls the protocol. If it panics, what it has said before is sent, and what it has asked for is forgotten.
    fn call_protocol(
        &mut self,
        turn: &mut LoopState,
        what: impl FnOnce(&mut dyn DatagramProtocol, &mut Replies<'_>),
    ) {
        let (protocol, mut replies) = (&mut *self.protocol, self.batch.begin_unsolicited());
        if catch_unwind(AssertUnwindSafe(|| what(protocol, &mut replies))).is_err() {
            turn.stats.panics += 1;
            self.set_phase(SocketPhase::Receiving);
            self.batch.replies.requests.timer = Time::NEVER;
            self.log_dropped(0, 1);
        }
        self.count_unsendable(turn);
    }
}
