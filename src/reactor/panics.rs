//! A panic in a protocol ends its own connection, and nothing else.
//!
//! Catching costs one call per stage of a turn, not one per connection. When a protocol panics, the
//! loop knows which slot was running (`running`). It ends that slot's source and resumes the stage
//! from where it was.

use std::any::Any;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};

use log::error;

use super::Reactor;
use super::slots::{enqueue, mark_ended};
use super::sources::Source;
use crate::protocol::ident::CloseReason;
use crate::stats::Stats;

impl Reactor {
    /// Runs `stage`, and resumes it from where it was each time that a protocol panics in it.
    pub(super) fn catch_panics(&mut self, stage: fn(&mut Reactor)) {
        while let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| stage(self))) {
            self.on_panic(payload);
        }
    }

    /// Ends the connection whose protocol has panicked. State that it shares with other protocols
    /// may be half changed; that is for the application to handle.
    #[cold]
    fn on_panic(&mut self, payload: Box<dyn Any + Send>) {
        self.state.stats.panics += 1;
        self.state.clear_output();
        let slot = &mut self.slots[self.running];
        match &slot.source {
            Source::Connection(_, connection) => {
                error!("{} {}: protocol panicked", connection.id(), connection.peer());
                let why = CloseReason::ProtocolPanicked;
                mark_ended(&mut self.ended, &mut self.run_queue, self.running, slot, why);
            }
            Source::Listener(listener) => {
                error!("{}: making a protocol panicked, connection dropped", listener.address);
                self.state.stats.accepts_failed += 1;
            }
            Source::Tasks(_) => {
                error!("task panicked");
                enqueue(&mut self.run_queue, self.running, slot); // there may be more tasks
            }
            // Panics of datagram protocols are caught at the call. This one is our own bug.
            Source::Datagram(_) | Source::StopSignal(_) => panic::resume_unwind(payload),
        }
        self.apply_effects(); // those that were queued before the panic
        // If it panicked while it was accepted, the listener was interrupted.
        for &token in &self.listeners {
            enqueue(&mut self.run_queue, token, &mut self.slots[token]);
        }
    }
}

/// Calls `closed` of a protocol, and catches and logs a panic in it.
pub(super) fn call_closed(
    stats: &mut Stats,
    id: &dyn Display,
    peer: &dyn Display,
    closed: impl FnOnce(),
) {
    if panic::catch_unwind(AssertUnwindSafe(closed)).is_err() {
        stats.panics += 1;
        error!("{id} {peer}: protocol panicked in closed()");
    }
}

/// Drops a slot with its protocol, and catches and logs a panic in it.
pub(super) fn catch_drop(stats: &mut Stats, drop: impl FnOnce()) {
    if panic::catch_unwind(AssertUnwindSafe(drop)).is_err() {
        stats.panics += 1;
        error!("protocol panicked in drop, connection closed");
    }
}
