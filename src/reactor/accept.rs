//! Newcomers: let in as long as there is room, and what is done when there is none.

use std::collections::BinaryHeap;
use std::io;

use log::{debug, trace};

use super::Reactor;
use super::slots::{SlotState, enqueue};
use super::sources::Source;
use crate::limits::{ACCEPT_RETRY_MS, ACCEPTS_PER_TURN, BACKLOG, EVICTION_IDLE_MS, EVICTIONS_MAX};
use crate::protocol::ident::{ConnectionId, Peer};
use crate::protocol::outcome::Outcome;
use crate::protocol::protocol::Protocol;
use crate::stream::connection::Connection;
use crate::stream::listener::Accepted;
use crate::stream::readiness::{Readiness, Registered};
use crate::sys::TcpStream;

impl Reactor {
    /// After slots were freed: queues the listeners that are paused for want of room.
    pub(super) fn resume_listeners(&mut self) {
        // There is room again, mostly for one connection. So the listeners take turns.
        if self.listeners.len() > 1 {
            self.listeners.rotate_left(1);
        }
        for &token in &self.listeners {
            let slot = &mut self.slots[token];
            if matches!(&slot.source, Source::Listener(listener) if listener.is_paused()) {
                enqueue(&mut self.run_queue, token, slot);
            }
        }
    }

    /// Accepts until there are no more, the budget is spent, or there is no room. Each newcomer goes to the queue, and is not
    /// watched yet: a short exchange whose request arrives before the next turn needs no epoll_ctl at all. (To try it in
    /// this very turn would be a little too early for most requests.)
    pub(super) fn accept_batch(&mut self, token: usize) -> Outcome {
        let accepted_before = self.state.stats.accepted;
        for _ in 0..ACCEPTS_PER_TURN {
            let Source::Listener(listener) = &mut self.slots[token].source else { break };
            if self.drain.accepted >= BACKLOG {
                listener.close(); // the stop has let in more than can have stood at the door
            }
            if self.state.stats.connections >= self.state.limits.connections_max {
                let why =
                    format_args!("connections_max ({}) reached", self.state.limits.connections_max);
                listener.pause(&why, self.state.clock.now, &mut self.state.stats);
                self.evict_idle();
                return Outcome::Blocked;
            }
            let accepted = listener.accept();
            match accepted {
                Accepted::Stream(stream, peer) => {
                    self.drain.accepted += i32::from(self.state.stopping);
                    let protocol = (listener.make_protocol)(peer);
                    self.on_accepted(stream, peer, protocol);
                    if self.effects.is_spent() {
                        return Outcome::Unfinished; // what each of them does to others when it has come adds up
                    }
                }
                Accepted::WouldBlock => {
                    trace!("{} accept -> WouldBlock", listener.address);
                    listener.recover(self.state.clock.now);
                    if self.state.stopping {
                        listener.close(); // now, lest somebody comes who will not be let in
                    }
                    self.slots[token].ready = Readiness::NOT_READY;
                    // Idle also where an episode has yet to end: its deadline has been filed since it first had to rest.
                    return if self.state.stopping { Outcome::Blocked } else { Outcome::Idle };
                }
                Accepted::Interrupted => {}
                Accepted::HandshakeFailed(error) => self.on_accept_failed(&error),
                Accepted::Exhausted(error) => {
                    listener.pause(&error, self.state.clock.now, &mut self.state.stats);
                    self.evict_idle();
                    return Outcome::Blocked;
                }
                Accepted::Broken(error) => {
                    listener.close_broken(&error);
                    return Outcome::Ended(error.into());
                }
            }
        }
        match &mut self.slots[token].source {
            Source::Listener(listener) if self.state.stats.accepted == accepted_before => {
                listener.pause(
                    &"every handshake failed",
                    self.state.clock.now,
                    &mut self.state.stats,
                );
                Outcome::Blocked
            }
            Source::Listener(_)
            | Source::Connection(..)
            | Source::Datagram(_)
            | Source::Tasks(_)
            | Source::StopSignal(_) => Outcome::Unfinished,
        }
    }

    fn on_accepted(&mut self, stream: TcpStream, peer: Peer, protocol: Box<dyn Protocol>) {
        let slot = u32::try_from(self.slots.vacant_key())
            .expect("there are no more slots than descriptors");
        let id = ConnectionId { slot, generation: self.effects.next_generation() };
        trace!("{id} accept {peer}");
        self.state.stats.accepted += 1;
        self.state.stats.connections += 1;
        let connection = Connection::new(protocol, id, peer, self.state.clock.now);
        let token = self.insert(Source::Connection(stream, connection), Registered::Nothing);
        let slot = &mut self.slots[token];
        slot.ready = if peer == Peer::Unix { Readiness::UNKNOWN_UNIX } else { Readiness::UNKNOWN };
        if let Source::Connection(stream, connection) = &mut slot.source {
            let listener = std::mem::replace(&mut self.running, token);
            connection.open(stream, &mut slot.ready, &mut self.state, &mut self.effects);
            self.running = listener;
        }
        enqueue(&mut self.run_queue, token, slot);
        self.apply_effects();
    }

    fn on_accept_failed(&mut self, error: &io::Error) {
        self.state.stats.accepts_failed += 1;
        debug!("accept failed: {error}");
    }

    /// Has idle connections close whose protocols give way, the longest idle first and no more than `EVICTIONS_MAX`, so that
    /// those who wait can be let in as soon as they are reaped. Who else waits stays in the backlog: to refuse them would
    /// send away those who can be served in a moment.
    ///
    /// Whether anybody waits is not known here: accept(2) fails for want of a descriptor before it looks, and in a full house it
    /// is not called. At worst so many idle ones close for nobody, and then there is room.
    ///
    /// This looks at every slot, which takes some 6 ns for each: 50 µs with nine thousand connections, perhaps 1 ms with a
    /// hundred thousand. So it is done once in `ACCEPT_RETRY_MS` at most, however often listeners rest.
    fn evict_idle(&mut self) {
        let now = self.state.clock.now;
        if now < self.next_eviction_at {
            return;
        }
        self.next_eviction_at = now.plus_ms(ACCEPT_RETRY_MS);
        let listener = self.running;
        let mut longest_idle = BinaryHeap::with_capacity(EVICTIONS_MAX);
        for (token, slot) in &self.slots {
            let Source::Connection(_, connection) = &slot.source else { continue };
            if slot.state != SlotState::Waiting || slot.ready.readable {
                continue; // there is news of it
            }
            let Some(since) = connection.idle_since() else { continue };
            let is_full = longest_idle.len() == EVICTIONS_MAX;
            let is_long = since.plus_ms(EVICTION_IDLE_MS) <= now
                && longest_idle.peek().is_none_or(|last| !is_full || (since, token) < *last);
            // The protocol lies elsewhere in memory, and is asked last.
            self.running = token;
            if is_long && connection.is_evictable() {
                if is_full {
                    longest_idle.pop(); // who has been idle for the shortest time
                }
                longest_idle.push((since, token));
            }
        }
        for (since, token) in longest_idle {
            self.running = token;
            let slot = &mut self.slots[token];
            let Source::Connection(stream, connection) = &mut slot.source else { continue };
            // In a crowd the kernel may not have told of it yet: whoever has said something is served, and stays.
            let outcome = connection.probe(
                stream,
                &mut slot.ready,
                &mut self.scratch[..],
                &mut self.state,
                &mut self.effects,
            );
            if outcome == Outcome::Blocked && connection.idle_since() == Some(since) {
                debug!("{} {}: evicted", connection.id(), connection.peer());
                connection.evict();
                enqueue(&mut self.run_queue, token, slot);
                self.state.stats.evicted += 1;
            } else {
                self.finish_drive(token, outcome);
                self.apply_effects();
            }
        }
        self.running = listener;
    }
}
