//! Applying effects and delivering notifications: what connections do to each other.
//!
//! A protocol only queues effects while it is called. They are applied here when the call is over,
//! so that no protocol is called within a call of another. A connection that an effect has changed
//! is put into the run queue, and is driven as after an event. Only `deliver_notifications` calls
//! protocols. What a turn has no time for is deferred
//! (`src/reactor/deferred.rs`).

use std::any::Any;
use std::io;
use std::net::SocketAddr;

use log::{debug, error};

use super::Reactor;
use super::deferred::{Caller, DeferredEffects};
use super::slots::{SlotState, enqueue, mark_ended};
use super::sources::{Ended, Source};
use crate::budget::Share;
use crate::caught::{Panicked, catch, catch_drop};
use crate::datagram::socket::DatagramSocket;
use crate::limits::{
    CALL_COST_BYTES, CONNECTION_COST_BYTES, STEP_COST_BYTES, SUBSCRIPTION_COST_BYTES,
};
use crate::loop_limits::ListenerIndex;
use crate::protocol::completions::Completions;
use crate::protocol::connections::{Connections, SendError, SendStatus};
use crate::protocol::datagram::DatagramProtocol;
use crate::protocol::effects::{Command, Effect, PendingConnect};
use crate::protocol::ident::{CloseReason, ConnectionId, Peer};
use crate::protocol::notification::{Content, Notification};
use crate::protocol::protocol::Protocol;
use crate::protocol::slow_reader::SlowReader;
use crate::stream::connection::Connection;
use crate::stream::maybe_traced::MaybeTraced;
use crate::stream::readiness::Registered;
use crate::sys::{self, Interest, TcpStream};
use crate::trace::{self, Line, Returned, Stage};

impl Reactor {
    /// Reads the clock if no turn is running: a program with a loop of its own may call long after
    /// the last turn.
    pub(super) fn read_clock(&mut self) {
        if !self.is_in_turn() {
            self.state.clock.read();
        }
    }

    /// Returns whether a turn is running: this is a call of a protocol or of a task.
    pub(super) fn is_in_turn(&self) -> bool {
        self.state.stage != Stage::Owner
    }

    /// Returns access to the connections of this reactor, by their ids. What is asked of them is
    /// done when the next turn begins or the present task is over, or by
    /// [`send_to`](Reactor::send_to).
    pub fn connections(&mut self) -> Connections<'_> {
        Connections::anonymous(&mut self.effects)
    }

    /// Sends `bytes` to the peer of the connection `to`, as [`Connections::send_to`] does, but at
    /// once, and returns the result. What [`connections`](Reactor::connections) was asked before is
    /// done first.
    ///
    /// # Errors
    ///
    /// Nothing was accepted: see [`SendError`].
    pub fn send_to(&mut self, to: ConnectionId, bytes: &[u8]) -> Result<SendStatus, SendError> {
        self.apply_earlier_effects();
        self.state.budget.charge(bytes.len());
        self.relay(to, bytes, SlowReader::Queue)
    }

    /// Applies what the owner has asked for before, all of it.
    fn apply_earlier_effects(&mut self) {
        self.read_clock();
        self.finish_deferred(Caller::Owner);
        let mut before = DeferredEffects::new(Caller::Owner, self.effects.take_queued());
        self.apply_part(&mut before, Share::UNBOUNDED);
        self.effects.return_buffers(before.queued, before.bytes);
    }

    /// Sends `message` to the protocol of the connection `to`, as [`Connections::send_message`]
    /// does, but at once, and returns the result. What [`connections`](Reactor::connections) was
    /// asked before is done first.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if the connection does not exist any more, and
    /// [`SendError::Rejected`] if its mailbox is full.
    pub fn send_message(&mut self, to: ConnectionId, message: impl Any) -> Result<(), SendError> {
        self.apply_earlier_effects();
        self.push_message(to, Box::new(message))
    }

    /// Connects to `address`, as [`Context::connect`](crate::Context::connect) does, but at once.
    /// The connection is served by `protocol`, and only `protocol` is notified of the result. It
    /// takes an address and no name, because looking up a name would block the loop.
    pub fn connect(
        &mut self,
        address: SocketAddr,
        protocol: impl Protocol + 'static,
    ) -> ConnectionId {
        self.read_clock();
        let id = self.effects.new_outbound_id(None);
        self.start_connect(PendingConnect { id, address, protocol: Box::new(protocol) });
        id
    }

    /// Applies the effects that the protocol called last has queued.
    pub(super) fn apply_effects(&mut self) {
        debug_assert!(
            !self.effects.is_empty() || self.effects.bytes.is_empty(),
            "queued bytes belong to a queued effect"
        );
        if !self.effects.is_empty() {
            self.apply_queued_effects();
        }
    }

    #[cold]
    fn apply_queued_effects(&mut self) {
        let caller = if self.is_in_turn() { Caller::Slot(self.running) } else { Caller::Owner };
        let mut effects = DeferredEffects::new(caller, self.effects.take_queued());
        // What the owner asks for waits if an earlier burst of it does. A source is held then.
        let has_earlier = caller == Caller::Owner
            && self.deferred.iter().any(|earlier| earlier.caller == Caller::Owner);
        let share = self.state.budget.effects_share();
        if has_earlier || !self.apply_part(&mut effects, share) {
            self.defer_effects(effects);
        } else {
            self.effects.return_buffers(effects.queued, effects.bytes);
        }
    }

    pub(super) fn apply_effect(&mut self, from: ConnectionId, effect: Effect, bytes: &[u8]) {
        self.state.budget.charge(CALL_COST_BYTES);
        match effect {
            Effect::Send(to, range, slow) => {
                self.state.budget.charge(range.len());
                match self.relay(to, &bytes[range], slow) {
                    Ok(SendStatus::Accepted) => {}
                    // A sender that has ended meanwhile is not to be notified.
                    Ok(SendStatus::AboveHighWatermark) if self.find(from).is_none() => {}
                    Ok(SendStatus::AboveHighWatermark) => {
                        self.effects.on_above_watermark(to, from);
                        self.meter_subscriptions(from);
                    }
                    Err(error) => self.effects.notify(from, to, error.into()),
                }
            }
            Effect::EvictLargest => self.evict_largest(),
            Effect::OpenWaker(on_failure) => self.open_waker(from, on_failure),
            Effect::Message(to, message) => match self.push_message(to, message) {
                Ok(()) => {}
                Err(SendError::Closed) => self.effects.notify(from, to, Notification::Closed),
                Err(SendError::Rejected) => {
                    self.effects.notify(from, to, Notification::MailboxFull);
                }
            },
            Effect::SendOverflow(to) => {
                self.state.stats.sends_rejected += 1;
                self.effects.notify(from, to, Notification::Rejected);
            }
            Effect::Command(id, command) => self.apply_command(id, command),
            Effect::Monitor(id) if self.find(id).is_some() && self.find(from).is_some() => {
                self.state.budget.charge(SUBSCRIPTION_COST_BYTES);
                self.effects.monitor(id, from);
                self.meter_subscriptions(from);
            }
            Effect::Monitor(id) => self.effects.notify(from, id, Notification::Closed),
            Effect::MonitorStop if self.find(from).is_some() => {
                self.state.budget.charge(SUBSCRIPTION_COST_BYTES);
                self.effects.monitor_stop(from);
                if self.state.stop.is_stopping() {
                    self.effects.on_stopping();
                }
                self.meter_subscriptions(from);
            }
            Effect::MonitorStop => {} // it has ended
            Effect::Connect(connect) => self.start_connect(*connect),
            Effect::ConnectDatagram(connect) => {
                self.start_datagram_client(connect.0, connect.1);
            }
        }
    }

    /// Lets completions wake the loop, with the waker of the task queue.
    fn open_waker(&mut self, from: ConnectionId, on_failure: Box<dyn Any>) {
        let handle = self.handle();
        match (handle, &self.state.completions) {
            (Ok(handle), Some(completions)) => {
                completions.set_wake(handle.waker().clone());
                self.take_completions(); // those that have woken nothing
            }
            (Ok(_), None) => unreachable!("a completer was made before"),
            (Err(error), completions) => {
                // A line for each would be one for each request.
                if completions.as_ref().is_some_and(Completions::warns) {
                    error!("promised answers get 500: no waker for the loop: {error}");
                }
                self.effects.push_completion(from, on_failure);
            }
        }
    }

    /// Returns the slot of the connection or datagram socket `id`, or `None` if it has ended. Its
    /// slot may hold another source by now, so the ids are compared.
    pub(super) fn find(&self, id: ConnectionId) -> Option<usize> {
        let token = self.effects.slot_of(id)?;
        let slot = self.slots.get(token)?;
        (slot.source.id() == Some(id) && slot.state != SlotState::Ended).then_some(token)
    }

    fn relay(
        &mut self,
        to: ConnectionId,
        bytes: &[u8],
        slow: SlowReader,
    ) -> Result<SendStatus, SendError> {
        let token = self.find(to).ok_or(SendError::Closed)?;
        let slot = &mut self.slots[token];
        let (Some(stream), Source::Connection(connection)) = (&slot.stream, &mut slot.source)
        else {
            return Err(SendError::Closed);
        };
        let transport = MaybeTraced::new(stream, token, &self.state);
        let result = connection.publish(
            bytes,
            slow,
            &transport,
            &mut slot.ready,
            &mut self.state,
            &mut self.effects,
        );
        self.state.stats.sends_rejected += u64::from(result == Err(SendError::Rejected));
        if slot.state == SlotState::Waiting {
            // The drive that sends the bytes is paid for here. Otherwise one short broadcast would
            // fill the run queue, and each source behind it would wait for thousands of sends.
            self.state.budget.charge(STEP_COST_BYTES);
        }
        enqueue(&mut self.run_queue, token, slot);
        self.meter(token);
        if slow == SlowReader::KeepLatest {
            self.meter_subscriptions(to);
        }
        result
    }

    /// Sends the value that is kept for the connection `id`, if there is one.
    fn send_kept(&mut self, id: ConnectionId) {
        if let Some(bytes) = self.effects.take_kept(id) {
            self.state.budget.charge(bytes.len());
            let _ = self.relay(id, &bytes, SlowReader::Queue); // if it is closing, it is too late
            self.meter_subscriptions(id);
        }
    }

    fn push_message(&mut self, to: ConnectionId, message: Box<dyn Any>) -> Result<(), SendError> {
        let Some(token) = self.find(to) else {
            catch_drop(&mut self.state.stats, message);
            return Err(SendError::Closed);
        };
        let slot = &self.slots[token];
        let is_connecting = matches!(&slot.source, Source::Connection(it) if it.is_connecting());
        self.effects.push_message(to, is_connecting, message).map_err(|message| {
            self.state.stats.messages_rejected += 1;
            catch_drop(&mut self.state.stats, message);
            SendError::Rejected
        })
    }

    fn apply_command(&mut self, id: ConnectionId, command: Command) {
        let Some(token) = self.find(id) else { return };
        self.state.budget.charge(match command {
            // The kernel sends a FIN or a reset, now or in the drive that follows.
            Command::Close | Command::Abort | Command::ShutdownWrite => CONNECTION_COST_BYTES,
            Command::Pause | Command::Resume => CALL_COST_BYTES,
        });
        if matches!(command, Command::Close | Command::ShutdownWrite) {
            self.send_kept(id);
        }
        let slot = &mut self.slots[token];
        if let (Some(stream), Source::Connection(connection)) = (&slot.stream, &mut slot.source) {
            let transport = MaybeTraced::new(stream, token, &self.state);
            connection.apply(command, &transport, &mut self.state);
            if command == Command::Abort && slot.state == SlotState::Waiting {
                // Not driven once more: thousands of aborts would keep others from their turn.
                let why = CloseReason::Aborted;
                mark_ended(&mut self.ended, &mut self.run_queue, token, slot, why);
            } else {
                enqueue(&mut self.run_queue, token, slot);
            }
            self.meter(token); // an abort frees its output
        }
    }

    /// Starts an outbound connection. Its socket is registered for writing at once: it becomes
    /// writable when the result of connect(2) is known.
    fn start_connect(&mut self, connect: PendingConnect) {
        self.state.budget.charge(CONNECTION_COST_BYTES);
        let connecting = match self.has_room() {
            true => self.connect_next(connect.address),
            false => Err(io::ErrorKind::QuotaExceeded.into()),
        };
        match connecting {
            Ok(stream) => {
                let connection = Connection::outbound(
                    connect.protocol,
                    connect.id,
                    self.state.peers.keep(connect.address.into()),
                    self.state.clock.now,
                );
                let token =
                    self.insert_connection(stream, connection, Registered::ReadingAndWriting);
                self.effects.bind_slot(connect.id, token);
                self.connections += 1;
                self.state.stats.connections = self.connections;
                self.rearm(token, false);
            }
            Err(error) => {
                self.state.budget.charge(CONNECTION_COST_BYTES); // it has also ended
                debug!("{} {}: connect failed: {error}", connect.id, connect.address);
                // The caller is notified now, so this is its first notification of this connection.
                // The protocol itself is called in `reap`, when no other protocol is running.
                let why = CloseReason::ConnectFailed(error.kind());
                self.effects.on_closed(connect.id, why, &mut self.state.stats);
                self.state.stats.closed += 1;
                self.ended.push_back((Ended::Stream(connect.protocol), why));
            }
        }
    }

    /// Connects a stream, and registers it for the slot that is inserted next.
    fn connect_next(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let connecting = sys::connect(address);
        trace::log(&self.state, self.slots.vacant_key(), || Line::Connect {
            peer: Peer::Ip(address),
            returned: Returned(connecting.as_ref().map(|_| 0)),
        });
        let mut stream = connecting?;
        self.register_next(&mut stream, sys::read_interest() | Interest::WRITABLE)?;
        Ok(stream)
    }

    /// Returns how many connections and datagram clients there are. Each has a slot and a
    /// descriptor, so `connections_max` bounds their sum.
    pub(super) fn open_connections(&self) -> usize {
        self.connections + self.datagram_clients
    }

    /// Returns whether one more connection or datagram client may be started: they have what no
    /// listener is guaranteed.
    pub(super) fn has_room(&self) -> bool {
        self.state.loop_limits.room(ListenerIndex::REACTOR, self.open_connections()).is_ok()
    }

    /// Opens the socket of a datagram client.
    fn start_datagram_client(&mut self, peer: SocketAddr, protocol: Box<dyn DatagramProtocol>) {
        self.state.budget.charge(CONNECTION_COST_BYTES);
        let opened = match self.has_room() {
            true => self.open_datagram_client(peer),
            false => Err(io::ErrorKind::QuotaExceeded.into()),
        };
        match opened {
            Ok((socket, address, peer)) => {
                let state = &self.state;
                match catch(|| DatagramSocket::new(socket, address, Some(peer), protocol, state)) {
                    Ok(source) => self.insert_datagram(source),
                    // Caught here: it must not cost the other effects of the call.
                    Err(Panicked) => {
                        self.state.stats.panics += 1;
                        error!("udp {peer}: protocol panicked when its socket was made");
                    }
                }
            }
            Err(error) => {
                debug!("udp {peer}: connect failed: {error}");
                let why = CloseReason::ConnectFailed(error.kind());
                self.ended.push_back((Ended::Datagram(protocol), why));
            }
        }
    }

    /// Queues the completions that have arrived.
    #[inline]
    pub(super) fn take_completions(&mut self) {
        if let Some(completions) = &self.state.completions {
            completions.deliver(&mut self.effects);
        }
    }

    /// Delivers notifications, the oldest first, until the budget is spent. `notifications_left`
    /// counts only those that were pending when the turn had driven its batch. New ones are
    /// delivered in the next turn, after the rest.
    pub(super) fn deliver_notifications(&mut self) {
        while self.notifications_left > 0
            && !self.state.budget.is_spent()
            && let Some(pending) = self.effects.next_notification()
        {
            self.notifications_left -= 1;
            self.state.budget.charge(pending.cost_bytes);
            if let Content::Kept = pending.content {
                self.send_kept(pending.to);
                continue;
            }
            let Some(token) = self.find(pending.to) else {
                catch_drop(&mut self.state.stats, pending.content); // it has ended itself
                continue;
            };
            let slot = &mut self.slots[token];
            if slot.state == SlotState::Held {
                self.hold_notification(token, pending);
                continue;
            }
            self.meter_subscriptions(pending.to);
            let slot = &mut self.slots[token];
            self.running = token;
            let (Some(stream), Source::Connection(connection)) = (&slot.stream, &mut slot.source)
            else {
                self.deliver_to_datagram(token, pending.content);
                continue;
            };
            let transport = MaybeTraced::new(stream, token, &self.state);
            let (state, effects) = (&mut self.state, &mut self.effects);
            connection.deliver(pending, &transport, &mut slot.ready, state, effects);
            enqueue(&mut self.run_queue, token, slot);
            self.meter(token);
            self.apply_effects();
        }
    }
}
