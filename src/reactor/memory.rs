//! Metering what connections hold, and evicting the one that holds the most.
//!
//! Each drive that is not the fast path comes here, and so does each effect and notification: the
//! buffers of the connection may have grown or were freed (`src/memory.rs` has the meter). If the
//! bound is exceeded then, the largest holder gives up its buffers at once, and ends with its next
//! drive. So the bound is overshot by what one drive adds, and no more. A connection that has ended
//! counts until it is freed.
//!
//! Invariant: between two drives, the meter has the capacity of all buffers of all connections.

use log::{debug, warn};

use super::Reactor;
use super::slots::{SlotState, enqueue};
use super::sources::Source;
use crate::limits::CONNECTION_COST_BYTES;
use crate::overload_limits::{ACCEPT_RECOVERY_MS, ACCEPT_RETRY_MS, EVICTIONS_MAX};
use crate::protocol::ident::ConnectionId;

impl Reactor {
    /// Counts what the source holds now, and evicts if that is too much.
    #[inline(always)]
    pub(super) fn meter(&mut self, token: usize) {
        let Source::Connection(connection) = &self.slots[token].source else { return };
        let bytes = connection.buffer_bytes();
        if bytes > 0 || !self.state.memory.has_no_holder() {
            self.meter_buffers(token, bytes); // nearly every connection comes and goes without
        }
    }

    fn meter_buffers(&mut self, token: usize, bytes: usize) {
        self.state.memory.set_buffers(token, bytes);
        self.evict_largest();
        if self.state.memory.unlogged > 0 {
            self.log_evictions();
        }
    }

    /// Counts the subscriptions of the connection `id`, which have begun or ended, and evicts if
    /// that is too much.
    pub(super) fn meter_subscriptions(&mut self, id: ConnectionId) {
        if let Some(token) = self.find(id) {
            self.state.memory.set_subscriptions(token, self.effects.subscription_bytes(id));
            self.evict_largest();
        }
    }

    /// Evicts the connections that hold the most, until the rest is within the bound.
    pub(super) fn evict_largest(&mut self) {
        while self.state.memory.is_exceeded(self.effects.queue_bytes()) {
            if !self.evict_one_for_memory() {
                return; // what is left is no connection's alone; accepting is paused meanwhile
            }
        }
    }

    /// Evicts for a listener that was paused for want of memory, and retries: as many as it takes
    /// until it may accept, but at most `EVICTIONS_MAX` in `ACCEPT_RETRY_MS`.
    pub(super) fn evict_for_paused_listener(&mut self) {
        let now = self.state.clock.now;
        if now < self.state.memory.next_eviction_at {
            return;
        }
        self.state.memory.next_eviction_at = now.plus_ms(ACCEPT_RETRY_MS);
        for _ in 0..EVICTIONS_MAX {
            let queues = self.effects.queue_bytes();
            if !self.state.memory.pauses_accepting(queues) || !self.evict_one_for_memory() {
                return;
            }
        }
    }

    /// Evicts the connection that holds the most. Returns false if none holds anything.
    #[cold]
    fn evict_one_for_memory(&mut self) -> bool {
        // What its protocol holds is freed in `reap`.
        let Some((token, bytes)) = self.state.memory.take_largest() else { return false };
        self.state.budget.charge(CONNECTION_COST_BYTES);
        let slot = &mut self.slots[token];
        let Source::Connection(connection) = &mut slot.source else { return true };
        if slot.state == SlotState::Ended {
            return true;
        }
        let (id, peer) = (connection.id(), self.state.peers.get(connection.peer()));
        connection.evict_for_memory();
        self.effects.end_subscriptions_of(id);
        enqueue(&mut self.run_queue, token, slot);
        self.state.stats.evicted_for_memory += 1;
        debug!("{id} {peer}: evicted: {bytes} bytes are the most that a connection holds");
        self.state.memory.unlogged += 1;
        self.log_evictions();
        true
    }

    /// Logs how many were evicted, in one line at most in `ACCEPT_RECOVERY_MS`. What is left then
    /// is logged with a later drive.
    #[cold]
    fn log_evictions(&mut self) {
        let (memory, now) = (&mut self.state.memory, self.state.clock.now);
        if now >= memory.next_warning_at {
            memory.next_warning_at = now.plus_ms(ACCEPT_RECOVERY_MS);
            let (max, count) = (memory.max, std::mem::take(&mut memory.unlogged));
            warn!("memory_bytes_max ({max}) reached: {count} largest holders reset");
        }
    }
}
