//! One connection, driven as the loop drives it, over any transport and on a clock that is set.
//!
//! Whatever runs a [`Connection`] without a socket runs it here: [`TestConnection`], the fuzz
//! targets and the connection's own unit tests. The stages of a turn are those of `src/reactor.rs`,
//! in the same order: drive, notify, expire, reap. Effects on the connection itself are applied as
//! `src/reactor/dispatch.rs` applies them; those on others are recorded.
//!
//! Invariant: between turns, a connection that can progress is queued (invariant 2). Panics are not
//! caught here, the counters of the loop itself are not kept, and nothing stops or is evicted.
//!
//! [`TestConnection`]: super::test_connection::TestConnection

#![allow(unreachable_pub, reason = "the fuzz targets use what is public here")]

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::recorded_effect::RecordedEffect;
use crate::budget::QUARTER_TURN_BYTES;
use crate::limits::{CALL_COST_BYTES, Limits, NOTIFICATIONS_PENDING_DIVISOR};
use crate::loop_state::LoopState;
use crate::protocol::connections::SendStatus;
use crate::protocol::effects::{Command, Effect, Effects};
use crate::protocol::ident::{CloseReason, ConnectionId, Peer};
use crate::protocol::notification::{Content, Notification};
use crate::protocol::outcome::Outcome;
use crate::protocol::protocol::Protocol;
use crate::stop_state::StopState;
use crate::stream::connection::Connection;
use crate::stream::readiness::{Readiness, Transport};
use crate::time::Time;

/// A [`Transport`] that a test implements: it may change when it is used. The documentation of the
/// methods is there.
#[allow(missing_docs, reason = "they are documented there")]
pub trait TransportMut {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize>;
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn send_before_fin(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)
    }
    fn shutdown_write(&mut self) -> io::Result<()>;
    fn local_address(&self) -> Option<SocketAddr> {
        None
    }
}

impl<T: TransportMut> Transport for RefCell<T> {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        self.borrow_mut().receive(into)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.borrow_mut().send(bytes)
    }

    fn send_before_fin(&self, bytes: &[u8]) -> io::Result<usize> {
        self.borrow_mut().send_before_fin(bytes)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.borrow_mut().shutdown_write()
    }

    fn local_address(&self) -> Option<SocketAddr> {
        self.borrow().local_address()
    }
}

/// A connection with all that a loop has for it: a slot, and the state that it is lent.
pub struct Driver<T> {
    /// `None` once it has ended and its `closed` was called.
    pub(crate) connection: Option<Connection>,
    /// A test changes at any time what it does next.
    pub transport: RefCell<T>,
    pub(crate) ready: Readiness,
    /// The buffer that is read into.
    pub(crate) scratch: Vec<u8>,
    pub(crate) state: LoopState,
    pub(crate) effects: Effects,
    /// Effects on other connections.
    pub(crate) recorded: Vec<RecordedEffect>,
    /// Messages to other connections.
    pub(crate) recorded_messages: Vec<(ConnectionId, Box<dyn Any>)>,
    slot: Slot,
    /// Never later than the connection's own deadline (invariant 7).
    filed_deadline: Time,
}

/// The states of a slot in the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Waiting,
    Queued,
    Ended(CloseReason),
}

impl<T> fmt::Debug for Driver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl<T: TransportMut> Driver<T> {
    /// Makes a connection that has just been accepted. Its protocol has not been called yet. One
    /// read returns at most `read_bytes`.
    pub fn new(
        protocol: Box<dyn Protocol>,
        transport: T,
        limits: Limits,
        read_bytes: usize,
    ) -> Driver<T> {
        let (mut state, mut effects) = (LoopState::new(limits), Effects::default());
        let id = ConnectionId { slot: 0, generation: effects.next_generation() };
        let peer = Peer::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let kept = state.peers.keep(peer);
        Driver {
            connection: Some(Connection::new(protocol, id, kept, state.clock.now)),
            transport: RefCell::new(transport),
            ready: Readiness::of_stream(peer).with_both(),
            scratch: vec![0; read_bytes],
            state,
            effects,
            recorded: Vec::new(),
            recorded_messages: Vec::new(),
            slot: Slot::Queued,
            filed_deadline: Time::NEVER,
        }
    }

    /// Calls the protocol's `opened`, as the loop does when it accepts.
    pub fn open(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        connection.open(&self.transport, &mut self.ready, &mut self.state, &mut self.effects);
        self.apply_effects();
    }

    /// Notes an event. `read_until_would_block`: it reports a FIN, an error or the urgent mark, so
    /// a short read proves nothing.
    pub fn note(&mut self, readable: bool, writable: bool, read_until_would_block: bool) {
        self.ready.set_readable(self.ready.readable() || readable);
        self.ready.set_writable(self.ready.writable() || writable);
        self.ready.set_read_until_would_block(
            self.ready.read_until_would_block() || read_until_would_block,
        );
        self.enqueue();
    }

    /// Puts `message` into the mailbox of the connection.
    pub(crate) fn send_message(&mut self, message: Box<dyn Any>) {
        if let Some(connection) = &self.connection
            && self.effects.push_message(connection.id(), false, message).is_err()
        {
            self.state.stats.messages_rejected += 1;
        }
    }

    /// Begins a stop. The connection is not closed when it is idle, but notified if it has asked.
    pub(crate) fn begin_stop(&mut self) {
        let until = self.state.clock.now.plus(self.state.limits.drain_timeout);
        self.state.stop = StopState::Draining { until };
        self.effects.on_stopping();
    }

    /// Queues `notification` about the connection `about`. What the loop remembers of that
    /// connection changes with it: after `AboveHighWatermark`, for example, this one waits for it.
    pub(crate) fn notify(&mut self, about: ConnectionId, notification: Notification) {
        let Some(connection) = &self.connection else { return };
        let (to, pending) = (connection.id(), self.effects.pending_notifications());
        let (effects, stats) = (&mut self.effects, &mut self.state.stats);
        match notification {
            Notification::AboveHighWatermark => effects.on_above_watermark(about, to),
            Notification::BelowLowWatermark => effects.on_output_low(about),
            Notification::Closed => effects.on_closed(about, CloseReason::Finished, stats),
            Notification::Connected => effects.on_connected(about),
            Notification::ConnectFailed(kind) => {
                effects.on_closed(about, CloseReason::ConnectFailed(kind), stats);
            }
            Notification::Stopping => effects.on_stopping(),
            Notification::Rejected | Notification::MailboxFull => {}
        }
        if effects.pending_notifications() == pending {
            effects.notify(to, about, notification); // no subscription has queued it
        }
    }

    /// Runs turns until the connection waits for an event or for its deadline.
    pub(crate) fn run(&mut self) {
        while self.take_completions()
            || self.has_work()
            || self.filed_deadline <= self.state.clock.now
        {
            self.turn();
        }
    }

    /// Advances the clock by `ms`, and runs the connection at each of its deadlines on the way, as
    /// a loop that is never late.
    pub(crate) fn advance_clock(&mut self, ms: u64) {
        let until = self.state.clock.now.plus_ms(ms);
        while self.filed_deadline <= until && self.filed_deadline < Time::NEVER {
            self.state.clock.now = self.filed_deadline;
            self.run();
        }
        self.state.clock.now = until;
    }

    /// Takes what other threads have sent. Returns whether that was anything.
    fn take_completions(&mut self) -> bool {
        let pending = self.effects.pending_notifications();
        if let Some(completions) = &self.state.completions {
            completions.deliver(&mut self.effects);
        }
        self.effects.pending_notifications() > pending
    }

    /// Returns whether there is work to do without an event.
    fn has_work(&self) -> bool {
        self.slot == Slot::Queued || self.effects.pending_notifications() > 0
    }

    /// Runs one turn, and returns whether there is more work to do without an event.
    ///
    /// # Panics
    ///
    /// If the connection waits although it could go on, or the other way round.
    pub fn turn(&mut self) -> bool {
        let is_queued = self.slot == Slot::Queued;
        self.state.budget.begin_turn(usize::from(is_queued));
        if is_queued {
            self.drive();
        }
        self.take_completions();
        self.deliver_notifications();
        if self.filed_deadline <= self.state.clock.now && self.close_reason().is_none() {
            self.state.budget.begin_stage(QUARTER_TURN_BYTES);
            self.expire();
        }
        self.reap();
        self.has_work()
    }

    /// Returns why it has ended; `None` while it has not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        if let Slot::Ended(why) = self.slot { Some(why) } else { None }
    }

    // ---- the stages of a turn

    /// Drives the connection once.
    pub(crate) fn drive(&mut self) -> Outcome {
        self.slot = Slot::Waiting;
        let outcome = self.connection.as_mut().expect("it has not ended").drive(
            &self.transport,
            &mut self.ready,
            &mut self.scratch,
            &mut self.state,
            &mut self.effects,
        );
        self.finish_drive(outcome)
    }

    /// Delivers the notifications that are pending now, within the budget.
    fn deliver_notifications(&mut self) {
        let mut left = self.effects.pending_notifications();
        let at_least = left / NOTIFICATIONS_PENDING_DIVISOR * CALL_COST_BYTES;
        self.state.budget.begin_stage(at_least.max(QUARTER_TURN_BYTES));
        while left > 0
            && !self.state.budget.is_spent()
            && let Some(pending) = self.effects.next_notification()
        {
            left -= 1;
            self.state.budget.charge(pending.cost_bytes);
            if let Content::Kept = pending.content {
                self.send_kept();
            } else if let Some(connection) = &mut self.connection
                && !matches!(self.slot, Slot::Ended(_))
                && pending.to == connection.id()
            {
                let (state, effects) = (&mut self.state, &mut self.effects);
                connection.deliver(pending, &self.transport, &mut self.ready, state, effects);
                self.enqueue();
                self.apply_effects();
            }
        }
    }

    /// Sends the value that is kept for the peer, if there is one.
    fn send_kept(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        if let Some(bytes) = self.effects.take_kept(connection.id()) {
            let (state, effects) = (&mut self.state, &mut self.effects);
            let (transport, ready) = (&self.transport, &mut self.ready);
            // A connection that is closing does not take it.
            let _ = connection.push_relayed(&bytes, transport, ready, state, effects);
            self.enqueue();
        }
    }

    /// Lets the connection act on a filed deadline that is due. Its own may be later.
    pub(crate) fn expire(&mut self) -> Outcome {
        self.state.budget.charge(CALL_COST_BYTES);
        self.filed_deadline = Time::NEVER;
        let outcome = self.connection.as_mut().expect("it has not ended").expire(
            &self.transport,
            &mut self.ready,
            &mut self.scratch,
            &mut self.state,
            &mut self.effects,
        );
        self.finish_drive(outcome)
    }

    /// Frees a connection that has ended.
    fn reap(&mut self) {
        if let Slot::Ended(why) = self.slot
            && let Some(mut connection) = self.connection.take()
        {
            self.filed_deadline = Time::NEVER;
            connection.call_closed(why);
            self.effects.on_closed(connection.id(), why, &mut self.state.stats);
        }
    }

    // ---- after a call of the connection

    /// Acts on the outcome of a drive, and returns it.
    fn finish_drive(&mut self, outcome: Outcome) -> Outcome {
        let connection = self.connection.as_ref().expect("a connection was driven");
        assert!(self.state.output.is_empty(), "the output scratch is empty between drives");
        let can_progress = connection.can_progress(&self.ready);
        match outcome {
            Outcome::Ended(why) => self.slot = Slot::Ended(why),
            Outcome::Blocked | Outcome::Idle | Outcome::Unfinished => {
                let now = self.state.clock.now;
                let due = connection.filing_time(&self.state.loop_limits, now).max(now.plus_ms(1));
                self.filed_deadline = self.filed_deadline.min(due);
                if outcome == Outcome::Unfinished {
                    assert!(can_progress, "an unfinished connection can progress");
                    self.slot = Slot::Queued;
                }
                assert!(
                    !can_progress || self.slot == Slot::Queued,
                    "a blocked connection cannot progress"
                );
            }
        }
        self.apply_effects();
        outcome
    }

    /// Applies the effects on the connection itself, and records those on others.
    fn apply_effects(&mut self) {
        if self.effects.is_empty() {
            return;
        }
        let (mut queued, bytes) = self.effects.take_queued();
        for (own, effect) in queued.drain(..) {
            self.state.budget.charge(CALL_COST_BYTES);
            let connection = self.connection.as_mut();
            match (effect, connection.filter(|_| !matches!(self.slot, Slot::Ended(_)))) {
                (Effect::SendOverflow(to), _) => {
                    self.effects.notify(own, to, Notification::Rejected);
                }
                (Effect::Send(to, range, slow), Some(connection)) if to == own => {
                    self.state.budget.charge(range.len());
                    match connection.publish(
                        &bytes[range],
                        slow,
                        &self.transport,
                        &mut self.ready,
                        &mut self.state,
                        &mut self.effects,
                    ) {
                        Ok(SendStatus::Accepted) => {}
                        Ok(SendStatus::AboveHighWatermark) => {
                            self.effects.on_above_watermark(to, own);
                        }
                        Err(error) => self.effects.notify(own, to, error.into()),
                    }
                    self.enqueue();
                }
                (Effect::Command(to, command), Some(_)) if to == own => {
                    if matches!(command, Command::Close | Command::ShutdownWrite) {
                        self.send_kept();
                    }
                    let connection = self.connection.as_mut().expect("it has not ended");
                    connection.apply(command, &self.transport, &mut self.state);
                    self.enqueue();
                }
                (Effect::Message(to, message), Some(_)) if to == own => {
                    if self.effects.push_message(to, false, message).is_err() {
                        self.effects.notify(own, to, Notification::MailboxFull);
                    }
                }
                (Effect::MonitorStop, Some(_)) => {
                    self.effects.monitor_stop(own);
                    if self.state.stop.is_stopping() {
                        self.effects.on_stopping();
                    }
                    self.recorded.push(RecordedEffect::MonitorStop);
                }
                (Effect::Message(to, message), _) => self.recorded_messages.push((to, message)),
                // It has ended, or asks to be notified of its own end.
                (Effect::Send(to, ..) | Effect::Command(to, _) | Effect::Monitor(to), _)
                    if to == own => {}
                (effect, _) => self.recorded.extend(RecordedEffect::from(effect, &bytes)),
            }
        }
        self.effects.return_buffers(queued, bytes);
        // It is the only connection, so it holds the most.
        if self.state.memory.is_exceeded(self.effects.queue_bytes())
            && let Some(connection) = &mut self.connection
            && !matches!(self.slot, Slot::Ended(_))
        {
            connection.evict_for_memory();
            self.enqueue();
        }
    }

    fn enqueue(&mut self) {
        if self.slot == Slot::Waiting {
            self.slot = Slot::Queued;
        }
    }
}
