//! Graceful stop: stop accepting, finish what has begun, close the rest by force.
//!
//! A stop drains: connections in a listener's backlog are still accepted, then the listener closes.
//! Idle connections are closed, all others may finish. Datagrams that wait in a receive queue are
//! still answered. After `Limits::drain_timeout` the remaining connections are closed by force, and
//! those that still wait in a backlog are counted. `src/stop_state.rs` has the states of a stop.
//! Each turn queues or ends a part of the slots, so also a million delay nothing for long.
//!
//! Invariant: a stop that left a connection unserved is never reported as graceful.

use log::info;

use super::Reactor;
use super::slots::{SlotState, enqueue, mark_ended};
use super::sources::Source;
use crate::datagram::scratch::Unfinished;
use crate::limits::{BATCH_SLOTS_MAX, CALL_COST_BYTES};
use crate::overload_limits::{SLOTS_SCANNED_PER_CALL, SLOTS_WALKED_MAX};
use crate::protocol::ident::CloseReason;
use crate::stop_state::StopState;
use crate::time::Time;
use crate::trace::{self, Line, Returned};
use crate::walk::Walk;

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
        self.effects.on_stopping();
        for index in 0..self.listeners.len() {
            self.begin_drain(self.listeners[index]);
        }
        self.queue_part(until, Walk::default());
    }

    /// Lets a listener close once its backlog is empty.
    pub(super) fn begin_drain(&mut self, token: usize) {
        if let Source::Listener(listener) = &mut self.slots[token].source
            && listener.begin_drain(self.state.clock.now)
        {
            trace::log(&self.state, token, || Line::AcceptAtOnce);
        }
    }

    /// Does what a stop does in each turn: queues further slots, or closes them by force.
    #[cold]
    pub(super) fn continue_stop(&mut self) {
        let now = self.state.clock.now;
        if self.state.stop.must_force(now) {
            self.state.stop = self.state.stop.forced(0);
        }
        match self.state.stop {
            StopState::Running | StopState::Draining { .. } => {}
            StopState::Beginning { until, walk } => self.queue_part(until, walk),
            StopState::Forced { closed, walk } => self.force_close_part(closed, walk),
        }
    }

    /// Queues the next part of the slots, no more than one turn takes out of the queue, so that an
    /// event does not wait behind all of them. Each is read once more before it counts as idle.
    fn queue_part(&mut self, until: Time, mut walk: Walk) {
        let part = walk.advance(self.slots.capacity(), BATCH_SLOTS_MAX);
        self.state.stop = match walk.is_at_start() {
            true => StopState::Draining { until },
            false => StopState::Beginning { until, walk },
        };
        self.state.budget.charge(part.len() / SLOTS_SCANNED_PER_CALL * CALL_COST_BYTES);
        for token in part {
            let Some(slot) = self.slots.get_mut(token) else { continue };
            if let Source::Datagram(socket) = &mut slot.source {
                let result = socket.begin_drain();
                trace::log(&self.state, token, || Line::DropArrivals {
                    returned: Returned(result.as_ref().map(|()| 0)),
                });
            }
            slot.ready.set_readable(true);
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

    /// Ends the sources of the next part of the slots, and as many of those in the run queue: the
    /// drain timeout has passed.
    fn force_close_part(&mut self, closed: usize, mut walk: Walk) {
        let part = walk.advance(self.slots.capacity(), SLOTS_WALKED_MAX);
        self.state.budget.charge(part.len() / SLOTS_SCANNED_PER_CALL * CALL_COST_BYTES);
        let queued = self.run_queue.take(SLOTS_WALKED_MAX);
        for &token in &queued {
            self.slots[token].state = SlotState::Waiting;
        }
        let tokens = queued.into_iter().chain(part);
        let closed = closed + tokens.filter(|&token| self.force_close(token)).count();
        self.state.stop = StopState::Forced { closed, walk };
    }

    /// Ends the source of a slot. A listener ends once its backlog is counted. One that is still
    /// queued is ended when it is taken out of the queue. Returns whether it was cut off.
    fn force_close(&mut self, token: usize) -> bool {
        let Some(slot) = self.slots.get_mut(token) else { return false };
        if matches!(slot.state, SlotState::Queued | SlotState::Ended) {
            return false;
        }
        let is_cut_off = match &mut slot.source {
            Source::Listener(listener) if !listener.is_closed() => {
                listener.begin_count(self.state.clock.now);
                enqueue(&mut self.run_queue, token, slot);
                return false;
            }
            // A lingering connection has sent all its output and our FIN. It is closed gracefully.
            Source::Connection(connection) => !connection.is_lingering(),
            Source::Datagram(socket) => socket.unfinished() != Unfinished::NOTHING,
            Source::Listener(_)
            | Source::Tasks(_)
            | Source::Periodic(_)
            | Source::StopSignal(_) => false,
        };
        mark_ended(&mut self.ended, &mut self.run_queue, token, slot, CloseReason::Stopped);
        is_cut_off
    }
}
