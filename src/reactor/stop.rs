//! Graceful stop: stop accepting, finish what has begun, close the rest by force.
//!
//! A stop drains: connections in a listener's backlog are still accepted, then the listener closes.
//! Idle connections are closed, all others may finish. Datagrams that wait in a receive queue are
//! still answered. After `Limits::drain_timeout` the remaining connections are closed by force, and
//! those that still wait in a backlog are counted. `src/stop_state.rs` has the states of a stop.
//!
//! Invariant: a stop that left a connection unserved is never reported as graceful.

use log::info;

use super::Reactor;
use super::slots::{SlotState, enqueue, mark_ended};
use super::sources::{Ended, Source};
use crate::datagram::scratch::Unfinished;
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
        let now = self.state.clock.now;
        let until = now.plus(self.state.limits.drain_timeout);
        self.state.stop = StopState::Draining { until };
        self.effects.on_stopping();
        for (token, slot) in &mut self.slots {
            match &mut slot.source {
                Source::Listener(listener) => listener.begin_drain(now),
                Source::Datagram(socket) => socket.begin_drain(),
                Source::Connection(..)
                | Source::Tasks(_)
                | Source::Periodic(_)
                | Source::StopSignal(_) => {}
            }
            slot.ready.set_readable(true); // each is read once more before it counts as idle
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

    /// Ends all remaining sources: the drain timeout has passed. A listener ends once its backlog
    /// is counted.
    pub(super) fn force_close_all(&mut self) {
        let ended_before = self.ended.len();
        for token in self.run_queue.take(usize::MAX) {
            self.slots[token].state = SlotState::Waiting;
        }
        for (token, slot) in &mut self.slots {
            match &mut slot.source {
                Source::Listener(listener) if !listener.is_closed() => {
                    listener.begin_count(self.state.clock.now);
                    enqueue(&mut self.run_queue, token, slot);
                }
                Source::Listener(_)
                | Source::Connection(..)
                | Source::Datagram(_)
                | Source::Tasks(_)
                | Source::Periodic(_)
                | Source::StopSignal(_) => {
                    let why = CloseReason::Stopped;
                    mark_ended(&mut self.ended, &mut self.run_queue, token, slot, why);
                }
            }
        }
        // A lingering connection has sent all its output and our FIN. It is closed gracefully.
        let slots = &self.slots;
        let is_forced = |(ended, _): &&(Ended, CloseReason)| match ended {
            Ended::Stream(_) | Ended::Datagram(_) => false,
            Ended::Slot(token) => match &slots[*token].source {
                Source::Connection(connection) => !connection.is_lingering(),
                Source::Datagram(socket) => socket.unfinished() != Unfinished::NOTHING,
                Source::Listener(_)
                | Source::Tasks(_)
                | Source::Periodic(_)
                | Source::StopSignal(_) => false,
            },
        };
        let closed = self.ended.range(ended_before..).filter(is_forced).count();
        self.state.stop = self.state.stop.forced(closed);
    }
}
