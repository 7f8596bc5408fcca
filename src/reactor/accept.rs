//! Accepting connections, and evicting idle ones when there is no room for another.
//!
//! A listener accepts until the backlog is empty (`WouldBlock`), its budget is spent, or no slot or
//! descriptor is left. In the last case it pauses: new connections wait in the kernel's backlog,
//! and idle connections are evicted if their protocols allow it. Accepting resumes when a slot is
//! freed, or after `ACCEPT_RETRY_MS`.
//!
//! A connection is never accepted only to be closed: that would turn away a client that can be
//! served in a moment.

use std::collections::BinaryHeap;
use std::fmt::Display;

use log::debug;

use super::Reactor;
use super::slots::{Slot, SlotState, enqueue, mark_ended};
use super::sources::Source;
use crate::limits::{CALL_COST_BYTES, CONNECTION_COST_BYTES};
use crate::loop_limits::{AcceptBound, ListenerIndex};
use crate::loop_state::LoopState;
use crate::overload_limits::{
    ACCEPT_RETRY_MS, EVICTION_IDLE_MS, EVICTIONS_MAX, SLOTS_SCANNED_PER_CALL, SLOTS_WALKED_MAX,
};
use crate::protocol::effects::Effects;
use crate::protocol::ident::{CloseReason, ConnectionId, Peer};
use crate::protocol::outcome::Outcome;
use crate::protocol::protocol::Protocol;
use crate::stream::connection::Connection;
use crate::stream::listener::Accepted;
use crate::stream::maybe_traced::MaybeTraced;
use crate::stream::readiness::{Readiness, Registered};
use crate::sys::TcpStream;
use crate::trace::{self, Acceptance, Line};

/// Which idle connections are evicted to make room for a listener that pauses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EvictionScope {
    /// None: connections are not what is lacking, so their end would not help.
    Nothing,
    /// Those of the listener itself: its own bound is reached.
    OwnListener,
    /// Its own, and those of listeners that have more than their minimum.
    AboveMinimum,
}

impl Reactor {
    /// Queues the paused listeners, after slots were freed.
    pub(super) fn resume_listeners(&mut self) {
        // Mostly one slot was freed. Another listener is first each time, so that all get one.
        if self.listeners.len() > 1 {
            self.listeners.rotate_left(1);
        }
        for &token in &self.listeners {
            let slot = &mut self.slots[token];
            let Source::Listener(listener) = &slot.source else { continue };
            // At a bound of its own, only its own connections make room.
            if listener.is_paused() && !self.state.loop_limits.of(listener.index).is_full() {
                enqueue(&mut self.run_queue, token, slot);
            }
        }
    }

    /// Accepts connections until the backlog is empty, the budget is spent, or there is no room.
    ///
    /// A new connection is queued for the next turn, but is not registered with epoll yet. If its
    /// request has arrived by then and the reply ends the exchange, no epoll_ctl is needed at all.
    /// Reading in this turn was measured, and is too early for a third to two thirds of requests
    /// (docs/design.md). Where accepting is deferred, the request is there, and the connection is
    /// driven in this turn.
    pub(super) fn accept_batch(&mut self, token: usize) -> Outcome {
        let share = self.state.budget.quarter_share();
        let mut room = 0; // not known
        let mut any_accepted = false;
        let mut failure = None;
        while !self.state.budget.share_is_spent(share) {
            if room == 0 {
                room = match self.accept_room(token) {
                    Ok(room) => room,
                    Err(outcome) => return outcome,
                };
            }
            let Source::Listener(listener) = &mut self.slots[token].source else { break };
            self.state.budget.charge(CONNECTION_COST_BYTES);
            match listener.accept() {
                Accepted::Stream(stream, peer) => {
                    any_accepted = true;
                    if listener.is_counting() {
                        trace_accept(&self.state, token, Acceptance::Counted);
                        listener.count(&stream);
                        continue;
                    }
                    let (index, is_deferred) = (listener.index, listener.is_deferred());
                    let protocol = (listener.make_protocol)(peer);
                    let takes_only_a_slot =
                        self.on_accepted(stream, peer, index, is_deferred, protocol);
                    room = if takes_only_a_slot { room - 1 } else { 0 };
                }
                Accepted::WouldBlock => {
                    if trace::is_on() && !listener.is_closed() {
                        trace_accept(&self.state, token, Acceptance::WouldBlock);
                    }
                    listener.recover(self.state.clock.now);
                    let is_stopping = self.state.stop.is_stopping();
                    if is_stopping {
                        listener.close_drained(self.state.clock.now);
                        if listener.is_closed() {
                            trace::log(&self.state, token, || Line::Close);
                        }
                    }
                    self.slots[token].ready = Readiness::NOT_READY;
                    // Idle, also during an overload: its deadline has been filed since the first
                    // pause.
                    return if is_stopping { Outcome::Blocked } else { Outcome::Idle };
                }
                Accepted::Interrupted => {
                    trace_accept(&self.state, token, Acceptance::Interrupted);
                }
                Accepted::HandshakeFailed(error) => {
                    trace_accept(&self.state, token, Acceptance::Failed(&error));
                    self.state.stats.accepts_failed += 1;
                    debug!("accept failed: {error}");
                    failure = Some(error);
                }
                Accepted::Exhausted(error) => {
                    trace_accept(&self.state, token, Acceptance::Failed(&error));
                    return self.pause_listener(token, EvictionScope::AboveMinimum, &error);
                }
                Accepted::Broken(error) => {
                    trace_accept(&self.state, token, Acceptance::Failed(&error));
                    listener.close_broken(&error);
                    trace::log(&self.state, token, || Line::Close);
                    return Outcome::Ended(error.into());
                }
            }
        }
        match failure {
            Some(error) if !any_accepted => {
                let why = format_args!("every handshake failed: {error}");
                self.pause_listener(token, EvictionScope::Nothing, &why)
            }
            _ => Outcome::Unfinished,
        }
    }

    /// Returns how many connections the listener may accept before this is asked again, at least
    /// one. Or there is no room: pauses it, and returns the outcome of its drive.
    fn accept_room(&mut self, token: usize) -> Result<usize, Outcome> {
        let Source::Listener(listener) = &self.slots[token].source else {
            unreachable!("only a listener accepts")
        };
        if listener.is_counting() {
            // What has ended has descriptors, of which accept(2) needs one.
            return if self.ended.is_empty() { Ok(usize::MAX) } else { Err(Outcome::Unfinished) };
        }
        let is_paused = listener.is_paused();
        let room = match self.state.loop_limits.room(listener.index, self.open_connections()) {
            Ok(room) => room,
            Err(bound) => {
                let scope = match bound {
                    AcceptBound::Listener(_) => EvictionScope::OwnListener,
                    AcceptBound::Reactor(_)
                    | AcceptBound::Reserved(..)
                    | AcceptBound::ReservedDescriptors(..) => EvictionScope::AboveMinimum,
                };
                return Err(self.pause_listener(token, scope, &bound));
            }
        };
        if is_paused && self.state.memory.pauses_accepting(self.effects.queue_bytes()) {
            self.evict_for_paused_listener();
        }
        if self.state.memory.pauses_accepting(self.effects.queue_bytes()) {
            let max = self.state.memory.max;
            let why = format_args!("seven eighths of memory_bytes_max ({max}) held");
            return Err(self.pause_listener(token, EvictionScope::Nothing, &why));
        }
        Ok(room)
    }

    /// Pauses a listener, and evicts idle connections to make room, if those of `scope` would. A
    /// listener whose backlog is only counted is closed instead.
    fn pause_listener(&mut self, token: usize, scope: EvictionScope, why: &dyn Display) -> Outcome {
        let Source::Listener(listener) = &mut self.slots[token].source else {
            unreachable!("only a listener accepts")
        };
        if listener.is_counting() {
            listener.close();
            trace::log(&self.state, token, || Line::Close);
            return Outcome::Blocked;
        }
        listener.pause(why, self.state.clock.now, &mut self.state.stats);
        let index = listener.index;
        let idle_ms = listener.eviction_idle_ms(self.state.clock.now);
        if self.state.stop.is_stopping() {
            self.end_lingering(index);
        }
        let evicted = self.evict_idle(index, scope, idle_ms);
        if let Source::Listener(listener) = &mut self.slots[token].source {
            listener.evicted += evicted;
        }
        Outcome::Blocked
    }

    /// During a stop, makes room for what waits in a backlog: ends connections that only linger.
    fn end_lingering(&mut self, index: ListenerIndex) {
        let walk = &mut self.state.loop_limits.of_mut(index).lingering_walk;
        let part = walk.advance(self.slots.capacity(), SLOTS_WALKED_MAX);
        self.state.budget.charge(part.len() / SLOTS_SCANNED_PER_CALL * CALL_COST_BYTES);
        for token in part {
            let Some(slot) = self.slots.get_mut(token) else { continue };
            let Source::Connection(connection) = &slot.source else { continue };
            if connection.is_lingering() && slot.state == SlotState::Waiting {
                let (ended, run_queue) = (&mut self.ended, &mut self.run_queue);
                mark_ended(ended, run_queue, token, slot, CloseReason::Finished);
            }
        }
    }

    /// Puts an accepted connection into a slot, and calls its protocol. Returns whether it takes
    /// its slot and nothing else: no connection holds memory, and its protocol has asked for
    /// nothing.
    fn on_accepted(
        &mut self,
        stream: TcpStream,
        peer: Peer,
        index: ListenerIndex,
        is_deferred: bool,
        protocol: Box<dyn Protocol>,
    ) -> bool {
        let slot = u32::try_from(self.slots.vacant_key())
            .expect("there are no more slots than descriptors");
        let id = ConnectionId { slot, generation: self.effects.next_generation() };
        self.state.stats.accepted += 1;
        self.connections += 1;
        self.state.stats.connections = self.connections;
        self.state.loop_limits.on_accepted(index);
        let now = self.state.clock.now;
        let peer = self.state.peers.keep(peer);
        let mut connection = Connection::new(protocol, id, peer, now);
        connection.set_listener(index);
        let token = self.insert_connection(stream, connection, Registered::Nothing);
        let slot = &mut self.slots[token];
        slot.ready.set_both(); // unknown: try
        let listener = std::mem::replace(&mut self.running, token);
        if trace::is_on() {
            open_traced(slot, token, listener, &mut self.state, &mut self.effects);
        } else if let (Some(stream), Source::Connection(connection)) =
            (&slot.stream, &mut slot.source)
        {
            connection.open(stream, &mut slot.ready, &mut self.state, &mut self.effects);
        }
        if !is_deferred {
            enqueue(&mut self.run_queue, token, slot);
        }
        let asks_for_nothing = self.effects.is_empty();
        self.apply_effects();
        self.meter(token); // a greeting may wait
        let slot = &mut self.slots[token];
        // If it has effects that are deferred, it is held.
        if is_deferred && slot.state == SlotState::Waiting {
            slot.state = SlotState::Queued;
            self.run_queue.join_batch(token);
        }
        self.running = listener;
        asks_for_nothing && self.state.memory.has_no_holder()
    }

    /// Closes idle connections whose protocols allow it, the longest idle first, `EVICTIONS_MAX` at
    /// most. New connections are accepted once these are reaped. If more wait, they stay in the
    /// backlog.
    ///
    /// Whether a connection waits there is not known: accept(2) reports EMFILE before it looks at
    /// the backlog, and with `connections_max` reached it is not called. At worst, `EVICTIONS_MAX`
    /// idle connections are closed although none waits, and then there is room. Of those that are
    /// not idle for long, one is closed, and the listener is not starved again for a second.
    ///
    /// A scan takes some 6 ns for each slot: 50 µs with nine thousand connections. It looks at
    /// `SLOTS_WALKED_MAX` of them, and the next one goes on from there. And there is one scan in
    /// `ACCEPT_RETRY_MS` at most for each listener, however often it pauses.
    ///
    /// `index` is the listener that needs room, for which what has been idle for `idle_ms` may be
    /// evicted. Its own connections make room for it, and those of others only as far as they are
    /// above their minimum. Returns how many it has evicted.
    fn evict_idle(&mut self, index: ListenerIndex, scope: EvictionScope, idle_ms: u64) -> u64 {
        let now = self.state.clock.now;
        let limits = self.state.loop_limits.of_mut(index);
        if scope == EvictionScope::Nothing || now < limits.next_eviction_at {
            return 0;
        }
        let mut evicted = 0;
        limits.next_eviction_at = now.plus_ms(ACCEPT_RETRY_MS);
        let part = limits.eviction_walk.advance(self.slots.capacity(), SLOTS_WALKED_MAX);
        self.state.budget.charge(part.len() / SLOTS_SCANNED_PER_CALL * CALL_COST_BYTES);
        let listener = self.running;
        // For each listener, how many of its connections may be evicted.
        let mut evictable = match scope {
            EvictionScope::AboveMinimum => self.state.loop_limits.above_minimum(),
            EvictionScope::OwnListener | EvictionScope::Nothing => Vec::new(),
        };
        evictable.resize(evictable.len().max(index.place() + 1), 0);
        evictable[index.place()] = usize::MAX;
        let evictable_of = |evictable: &[usize], owner: ListenerIndex| {
            evictable.get(owner.place()).copied().unwrap_or(0)
        };
        let evictions_max = if idle_ms < EVICTION_IDLE_MS { 1 } else { EVICTIONS_MAX };
        let mut longest_idle = BinaryHeap::with_capacity(evictions_max);
        for token in part {
            let Some(slot) = self.slots.get(token) else { continue };
            let Source::Connection(connection) = &slot.source else { continue };
            if slot.state != SlotState::Waiting || slot.ready.readable() {
                continue; // has readiness that has not been acted on: not idle
            }
            if evictable_of(&evictable, connection.listener()) == 0 {
                continue; // its end would make no room
            }
            let Some(since) = connection.idle_since() else { continue };
            let is_full = longest_idle.len() == evictions_max;
            let is_long = since.plus_ms(idle_ms) <= now
                && longest_idle.peek().is_none_or(|last| !is_full || (since, token) < *last);
            // The protocol is elsewhere in memory, so it is called last.
            self.running = token;
            if is_long && connection.is_evictable() {
                if is_full {
                    longest_idle.pop(); // the most recently active of the candidates
                }
                longest_idle.push((since, token));
            }
        }
        for (since, token) in longest_idle {
            self.running = token;
            let slot = &mut self.slots[token];
            let (Some(stream), Source::Connection(connection)) = (&slot.stream, &mut slot.source)
            else {
                continue;
            };
            let owner = connection.listener();
            if evictable_of(&evictable, owner) == 0 {
                continue; // others of its listener have been evicted, down to the minimum
            }
            // Under load the poller may not have reported new input yet. A connection with input is
            // served, and stays.
            let transport = MaybeTraced::new(stream, token, &self.state);
            let outcome = connection.probe(
                &transport,
                &mut slot.ready,
                &mut self.scratch[..],
                &mut self.state,
                &mut self.effects,
            );
            if outcome == Outcome::Blocked && connection.idle_since() == Some(since) {
                debug!("{} {}: evicted", connection.id(), self.state.peers.get(connection.peer()));
                connection.evict();
                enqueue(&mut self.run_queue, token, slot);
                evictable[owner.place()] -= 1;
                evicted += 1;
            } else {
                self.finish_drive(token, outcome);
            }
        }
        self.running = listener;
        self.state.stats.evicted += evicted;
        evicted
    }
}

/// Calls the protocol of an accepted connection, as `on_accepted` does, after the trace line of the
/// accept.
#[cold]
#[inline(never)] // else it takes registers from the path of each connection
fn open_traced(
    slot: &mut Slot,
    token: usize,
    listener: usize,
    state: &mut LoopState,
    effects: &mut Effects,
) {
    let (Some(stream), Source::Connection(connection)) = (&slot.stream, &mut slot.source) else {
        return;
    };
    let peer = state.peers.get(connection.peer());
    trace_accept(state, listener, Acceptance::Slot(connection.id(), peer));
    let transport = MaybeTraced::new(stream, token, state);
    connection.open(&transport, &mut slot.ready, state, effects);
}

/// Writes what has become of an accept, if the trace log is on.
#[cold]
#[inline(never)] // as above
fn trace_accept(state: &LoopState, listener: usize, accepted: Acceptance<'_>) {
    trace::log(state, listener, || Line::Accept { accepted });
}
