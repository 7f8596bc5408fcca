//! A panic in a protocol ends its own connection, and nothing else.
//!
//! Catching costs one call per stage of a turn, not one per connection. When a protocol panics, the
//! loop knows which slot was running (`running`). It ends that slot's source and resumes the stage
//! from where it was.

use std::fmt::Display;
use std::iter;

use log::error;
use slab::Slab;

use super::Reactor;
use super::slots::{Slot, enqueue, mark_ended};
use super::sources::Source;
use crate::caught::{catch, catch_drop, log_panic_in_drop};
use crate::peers::Peers;
use crate::protocol::ident::CloseReason;
use crate::stats::Stats;

impl Reactor {
    /// Runs `stage`, and resumes it from where it was each time that a protocol panics in it.
    pub(super) fn catch_panics(&mut self, stage: fn(&mut Reactor)) {
        while catch(|| stage(self)).is_err() {
            self.on_panic();
        }
    }

    /// Ends the connection whose protocol has panicked. State that it shares with other protocols
    /// may be half changed; that is for the application to handle.
    #[cold]
    fn on_panic(&mut self) {
        self.state.stats.panics += 1;
        self.state.clear_output();
        self.state.take_wants_output_low(); // it was about the connection that ends
        let slot = &mut self.slots[self.running];
        match &slot.source {
            Source::Connection(connection) => {
                let peer = self.state.peers.get(connection.peer());
                error!("{} {peer}: protocol panicked", connection.id());
                let why = CloseReason::ProtocolPanicked;
                mark_ended(&mut self.ended, &mut self.run_queue, self.running, slot, why);
            }
            Source::Listener(listener) => {
                error!("{}: making a protocol panicked, connection dropped", listener.address);
                self.state.stats.accepts_failed += 1;
            }
            // Panics of datagram protocols and tasks are caught at the call. This is our own bug.
            Source::Datagram(_)
            | Source::Tasks(_)
            | Source::Periodic(_)
            | Source::StopSignal(_) => {
                panic!("the loop itself has panicked")
            }
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
    if catch(closed).is_err() {
        stats.panics += 1;
        error!("{id} {peer}: protocol panicked in closed()");
    }
}

/// Calls the protocol in a slot for the last time, if there is one, and drops the slot. Either may
/// panic, or both.
pub(super) fn close_and_drop(
    stats: &mut Stats,
    peers: &Peers,
    slots: &mut Slab<Slot>,
    token: usize,
    why: CloseReason,
) {
    // One catch for both, because each connection that ends comes here.
    let result = catch(|| {
        slots[token].source.call_closed(why);
        drop(slots.remove(token));
    });
    if result.is_err() {
        on_last_panic(stats, peers, slots.try_remove(token));
    }
}

/// `close_and_drop` has panicked: in `closed` if the slot is left, and in `drop` otherwise.
#[cold]
fn on_last_panic(stats: &mut Stats, peers: &Peers, slot: Option<Slot>) {
    stats.panics += 1;
    let Some(slot) = slot else { return log_panic_in_drop() };
    match &slot.source {
        Source::Connection(it) => log_panic_in_closed(&it.id(), &peers.get(it.peer())),
        Source::Datagram(socket) => log_panic_in_closed(&"udp", &socket.address),
        Source::Listener(_) | Source::Tasks(_) | Source::Periodic(_) | Source::StopSignal(_) => {}
    }
    catch_drop(stats, slot);
}

fn log_panic_in_closed(id: &dyn Display, peer: &dyn Display) {
    error!("{id} {peer}: protocol panicked in closed()");
}

/// Drops the tasks that wait, each in a catch of its own.
pub(super) fn drop_tasks(stats: &mut Stats, source: &mut Source) {
    if let Source::Tasks(queue) = source {
        while let Some(task) = queue.take() {
            catch_drop(stats, task);
        }
    }
}

/// Nothing of the application is dropped outside of a catch: a second panic would end the process.
impl Drop for Reactor {
    fn drop(&mut self) {
        let stats = &mut self.state.stats;
        for effects in &mut self.deferred {
            self.effects.put_back(effects.take_notifications());
        }
        while let Some(content) = self.effects.take_undelivered() {
            catch_drop(stats, content);
        }
        let deferred = self.deferred.iter_mut().flat_map(|effects| effects.queued.drain(..));
        let effects = deferred.chain(self.effects.queued.drain(..));
        effects.for_each(|effect| catch_drop(stats, effect));
        self.ended.drain(..).for_each(|ended| catch_drop(stats, ended));
        self.slots.drain().for_each(|mut slot| {
            drop_tasks(stats, &mut slot.source);
            catch_drop(stats, slot);
        });
        // Last: what is dropped above may settle promises.
        let completions = self.state.completions.iter();
        let arrived = completions.flat_map(|completions| iter::from_fn(|| completions.take()));
        arrived.for_each(|completion| catch_drop(stats, completion));
    }
}
