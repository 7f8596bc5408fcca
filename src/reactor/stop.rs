//! Graceful stop: stop accepting, finish what has begun, close the rest by force.
//!
//! A stop drains: connections in a listener's backlog are still accepted, then the listener closes.
//! Idle connections are closed, all others may finish. After `Limits::drain_timeout` the
//! remaining ones are closed by force. `src/stop_state.rs` has the states of a stop.

use log::info;

use super::Reactor;
use super::slots::{SlotState, enqueue, mark_ended};
use super::sources::{Ended, Source};
use crate::protocol::ident::CloseReason;
use crate::stop_state::StopState;

impl Reactor {
    /// Begins a graceful stop. Does nothing if one has begun.
    ///
    /// Connections in the backlogs are accepted, then the listeners are closed. Idle connections
    /// are closed. All others may finish within
    /// [`Limits::drain_timeout`](crate::Limits::drain_timeout).
    pub fn stop(&mut self) {
        if self.state.stop.is_stopping() {
            return;
        }
        info!("stopping: {} connections open", self.connections);
        self.read_clock();
        let until = self.state.clock.now.plus(self.state.limits.drain_timeout);
        self.state.stop = StopState::Draining { until };
        for (token, slot) in &mut self.slots {
            if let Source::Listener(listener) = &mut slot.source {
                listener.begin_drain();
            }
            slot.ready.readable = true; // each is read once more before it counts as idle
            enqueue(&mut self.run_queue, token, slot);
        }
    }

    /// Returns whether the reactor was asked to stop and has stopped.
    pub fn is_stopped(&self) -> bool {
        self.state.stop.is_stopping()
            && self.slots.is_empty()
            && self.ended.is_empty()
            && self.deferred.is_empty()
            && self.effects.pending_notifications() == 0
    }

    /// Ends all remaining sources: the drain timeout has passed.
    pub(super) fn force_close_all(&mut self) {
        let ended_before = self.ended.len();
        for token in self.run_queue.drain(..) {
            self.slots[token].state = SlotState::Waiting;
        }
        for (token, slot) in &mut self.slots {
            mark_ended(&mut self.ended, &mut self.run_queue, token, slot, CloseReason::Stopped);
        }
        // A lingering connection has sent all its output and our FIN. It is closed gracefully.
        let is_forced = |(ended, _): &&(Ended, CloseReason)| match ended {
            Ended::Stream(_) | Ended::Datagram(_) => false,
            Ended::Slot(token) => match &self.slots[*token].source {
                Source::Connection(_, connection) => !connection.is_lingering(),
                // Connections wait in its backlog, for which there was no room. It counts as one.
                Source::Listener(listener) => !listener.is_closed(),
                Source::Datagram(_) | Source::Tasks(_) | Source::StopSignal(_) => false,
            },
        };
        let closed = self.ended.range(ended_before..).filter(is_forced).count();
        self.state.stop = self.state.stop.forced(closed);
    }
}
