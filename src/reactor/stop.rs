//! Graceful stop: stop accepting, finish what has begun, close the rest by force.
//!
//! A stop drains: connections in a listener's backlog are still accepted, then the listener closes.
//! Idle connections are closed, all others may finish. After `Limits::drain_timeout_ms` the
//! remaining ones are closed by force.

use log::info;

use super::Reactor;
use super::slots::{SlotState, enqueue, mark_ended};
use super::sources::Source;
use crate::clock::Time;
use crate::loop_state::LoopState;
use crate::protocol::ident::CloseReason;

/// How a reactor has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// All connections closed in order.
    Graceful,
    /// The drain timeout was over, and this many connections were closed by force.
    Forced(usize),
}

/// The progress of a stop.
pub(super) struct Drain {
    /// When the remaining connections are closed by force. `NEVER` until the first turn after the
    /// stop began, and again once that is done.
    pub(super) until: Time,
    /// Connections accepted since the stop began.
    pub(super) accepted: i32,
    /// How many connections were closed by force, once the drain timeout was over.
    forced: Option<usize>,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { until: Time::NEVER, accepted: 0, forced: None }
    }
}

impl Drain {
    /// Sets the time limit, in the first turn of a stop.
    pub(super) fn begin(&mut self, state: &LoopState) {
        if state.stopping && self.until == Time::NEVER && self.forced.is_none() {
            self.until = state.clock.now.plus_ms(state.limits.drain_timeout_ms);
        }
    }

    pub(super) fn result(&self) -> Stopped {
        match self.forced {
            None | Some(0) => Stopped::Graceful,
            Some(connections) => Stopped::Forced(connections),
        }
    }
}

impl Reactor {
    /// Begins a graceful stop. Does nothing if one has begun.
    ///
    /// Connections in the backlogs are accepted, then the listeners are closed. Idle connections
    /// are closed. All others may finish within
    /// [`Limits::drain_timeout_ms`](crate::Limits::drain_timeout_ms).
    pub fn stop(&mut self) {
        if self.state.stopping {
            return;
        }
        info!("stopping: {} connections open", self.state.stats.connections);
        self.state.stopping = true;
        for (token, slot) in &mut self.slots {
            slot.ready.readable = true; // each is read once more before it counts as idle
            enqueue(&mut self.run_queue, token, slot);
        }
    }

    /// Returns whether the reactor was asked to stop and has stopped.
    pub fn is_stopped(&self) -> bool {
        self.state.stopping && self.slots.is_empty() && self.failed_connects.is_empty()
    }

    /// Ends all remaining sources: the drain timeout is over.
    pub(super) fn force_close_all(&mut self) {
        let ended_before = self.ended.len();
        for token in self.run_queue.drain(..) {
            self.slots[token].state = SlotState::Waiting;
        }
        for (token, slot) in &mut self.slots {
            mark_ended(&mut self.ended, &mut self.run_queue, token, slot, CloseReason::Stopped);
        }
        // A lingering connection has sent all its output and our FIN. It is closed in order.
        let is_forced = |&&(token, _): &&(usize, CloseReason)| match &self.slots[token].source {
            Source::Connection(_, connection) => !connection.is_lingering(),
            Source::Listener(_)
            | Source::Datagram(_)
            | Source::Tasks(_)
            | Source::StopSignal(_) => false,
        };
        self.drain.forced = Some(self.ended[ended_before..].iter().filter(is_forced).count());
        self.drain.until = Time::NEVER;
    }
}
