//! Effects, applied: what connections want done to each other is done here, when nobody is being driven.
//!
//! A connection that something was done to is put into the queue, and goes on from there as after any other news. Nothing here
//! calls a protocol but `deliver_notifications`, and what a protocol asks for when it is told is applied before the next is told.

use std::io;
use std::net::SocketAddr;

use log::{debug, trace};

use super::Reactor;
use super::panics::call_closed;
use super::slots::{SlotState, enqueue};
use super::sources::Source;
use crate::datagram::socket::DatagramSocket;
use crate::protocol::datagram::DatagramProtocol;
use crate::protocol::effects::{Command, Effect, PendingConnect};
use crate::protocol::ident::{CloseReason, ConnectionId};
use crate::protocol::notification::Notification;
use crate::protocol::protocol::Protocol;
use crate::stream::connection::Connection;
use crate::stream::readiness::Registered;
use crate::sys::{self, Interest, Token};

/// The protocol of a connect that failed at once. It has no slot.
pub(super) enum FailedConnect {
    Stream(Box<dyn Protocol>),
    Datagram(Box<dyn DatagramProtocol>),
}

impl Reactor {
    /// Reads the clock again if no turn is running: a program with a loop of its own may have been away for
    /// long.
    pub(super) fn read_clock(&mut self) {
        if !self.is_in_turn {
            self.state.clock.read();
        }
    }

    /// Sends `bytes` to the peer of the connection `to`, as [`Context::send_to`](crate::Context::send_to) does, but at once.
    /// Returns what a connection would be told of it; `None` is success. Of `AboveHighWatermark` and what follows nothing is told,
    /// since there is nobody to tell it to.
    pub fn send_to(&mut self, to: ConnectionId, bytes: &[u8]) -> Option<Notification> {
        self.read_clock();
        self.relay(to, bytes)
    }

    /// Begins a connection to `address`, on which `protocol` speaks, as [`Context::connect`](crate::Context::connect) does,
    /// but at once. What comes of it is told to `protocol` alone.
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

    /// Closes the connection `id`, as [`Context::close`](crate::Context::close) does.
    pub fn close(&mut self, id: ConnectionId) {
        self.apply_command(id, Command::Close);
    }

    /// Sends our FIN on the connection `id`, as [`Context::shutdown_write`](crate::Context::shutdown_write) does.
    pub fn shutdown_write(&mut self, id: ConnectionId) {
        self.apply_command(id, Command::ShutdownWrite);
    }

    /// Resets the connection `id`, as [`Context::abort`](crate::Context::abort) does.
    pub fn abort(&mut self, id: ConnectionId) {
        let Some(token) = self.find(id) else { return };
        let slot = &mut self.slots[token];
        if let Source::Connection(_, connection) = &mut slot.source {
            connection.abort();
            enqueue(&mut self.run_queue, token, slot);
        }
    }

    /// Takes no more input on the connection `id` for now, as [`Context::pause`](crate::Context::pause) does.
    pub fn pause(&mut self, id: ConnectionId) {
        self.apply_command(id, Command::Pause);
    }

    /// Takes input on the connection `id` again, as [`Context::resume`](crate::Context::resume) does.
    pub fn resume(&mut self, id: ConnectionId) {
        self.apply_command(id, Command::Resume);
    }

    /// Does what the protocol that has just run wants done to others.
    #[inline]
    pub(super) fn apply_effects(&mut self) {
        debug_assert!(
            !self.effects.is_empty() || self.effects.bytes.is_empty(),
            "what waits is for somebody"
        );
        if !self.effects.is_empty() {
            self.apply_queued_effects();
        }
    }

    #[cold]
    fn apply_queued_effects(&mut self) {
        let mut queued = std::mem::take(&mut self.effects.queued);
        let bytes = std::mem::take(&mut self.effects.bytes);
        for (from, effect) in queued.drain(..) {
            self.effects.charge(if let Effect::Send(_, range) = &effect { range.len() } else { 0 });
            match effect {
                Effect::Send(to, range) => match self.relay(to, &bytes[range]) {
                    None => {}
                    Some(Notification::AboveHighWatermark) => {
                        self.effects.on_above_watermark(to, from);
                    }
                    Some(news) => self.effects.notify(from, to, news),
                },
                Effect::SendOverflow(to) => {
                    self.state.stats.sends_rejected += 1;
                    self.effects.notify(from, to, Notification::Rejected);
                }
                Effect::Command(id, wish) => self.apply_command(id, wish),
                Effect::Abort(id) => self.abort(id),
                Effect::Monitor(id) if self.find(id).is_some() => {
                    self.effects.monitor(id, from);
                }
                Effect::Monitor(id) => self.effects.notify(from, id, Notification::Closed),
                Effect::Connect(call) => self.start_connect(*call),
                Effect::ConnectDatagram(call) => self.start_datagram_client(call.0, call.1),
            }
        }
        self.effects.return_buffers(queued, bytes);
        if self.effects.is_spent() {
            self.defer();
        }
    }

    /// The slot of a connection that has not ended. A name that is older than whoever is in its slot now is nobody's.
    fn find(&self, id: ConnectionId) -> Option<usize> {
        let token = self.effects.slot_of(id)?;
        let slot = self.slots.get(token)?;
        let is_it =
            matches!(&slot.source, Source::Connection(_, connection) if connection.id() == id);
        (is_it && slot.state != SlotState::Ended).then_some(token)
    }

    fn relay(&mut self, to: ConnectionId, bytes: &[u8]) -> Option<Notification> {
        let Some(token) = self.find(to) else { return Some(Notification::Closed) };
        let slot = &mut self.slots[token];
        let Source::Connection(stream, connection) = &mut slot.source else {
            return Some(Notification::Closed);
        };
        let news = connection.push_relayed(
            bytes,
            stream,
            &mut slot.ready,
            &mut self.state,
            &mut self.effects,
        );
        self.state.stats.sends_rejected += u64::from(news == Some(Notification::Rejected));
        enqueue(&mut self.run_queue, token, slot);
        news
    }

    fn apply_command(&mut self, id: ConnectionId, wish: Command) {
        let Some(token) = self.find(id) else { return };
        let slot = &mut self.slots[token];
        if let Source::Connection(stream, connection) = &mut slot.source {
            connection.apply(wish, stream, &self.state);
            enqueue(&mut self.run_queue, token, slot);
        }
    }

    /// Begins a connection. It is watched from the start: to be writable is to be decided.
    fn start_connect(&mut self, call: PendingConnect) {
        let token = Token(self.slots.vacant_key());
        let begun = match self.state.stats.connections < self.state.limits.connections_max {
            true => sys::connect(call.address).and_then(|mut stream| {
                self.poll.registry().register(
                    &mut stream,
                    token,
                    sys::read_interest() | Interest::WRITABLE,
                )?;
                Ok(stream)
            }),
            false => Err(io::ErrorKind::QuotaExceeded.into()),
        };
        trace!("{} connect {} -> {begun:?}", call.id, call.address);
        match begun {
            Ok(stream) => {
                let connection = Connection::outbound(
                    call.protocol,
                    call.id,
                    call.address.into(),
                    self.state.clock.now,
                );
                let token = self
                    .insert(Source::Connection(stream, connection), Registered::ReadingAndWriting);
                self.effects.bind_slot(call.id, token);
                self.state.stats.connections += 1;
                self.rearm(token, false);
            }
            Err(error) => {
                debug!("{} {}: connect failed: {error}", call.id, call.address);
                // Now, so that it is the first that is heard of it; the protocol itself is told when nobody else runs.
                let why = CloseReason::ConnectFailed(error.kind());
                self.effects.on_closed(call.id, why, &mut self.state.stats);
                self.state.stats.closed += 1;
                self.failed_connects.push((FailedConnect::Stream(call.protocol), why));
            }
        }
    }

    /// Opens a socket for a datagram client.
    fn start_datagram_client(&mut self, peer: SocketAddr, protocol: Box<dyn DatagramProtocol>) {
        let opened = match self.state.stats.connections + self.datagram_clients
            < self.state.limits.connections_max
        {
            true => self.open_datagram_client(peer),
            false => Err(io::ErrorKind::QuotaExceeded.into()),
        };
        trace!("connect datagram {peer} -> {:?}", opened.as_ref().map(|(_, address, _)| address));
        match opened {
            Ok((socket, address, peer)) => {
                let source =
                    DatagramSocket::new(socket, address, Some(peer), protocol, &self.state);
                self.add_datagram(source);
            }
            Err(error) => {
                debug!("udp {peer}: connect failed: {error}");
                self.failed_connects.push((
                    FailedConnect::Datagram(protocol),
                    CloseReason::ConnectFailed(error.kind()),
                ));
            }
        }
    }

    /// Tells the protocols whose calls have failed at once.
    #[cold]
    pub(super) fn report_failed_connects(&mut self) {
        for (unreached, why) in std::mem::take(&mut self.failed_connects) {
            call_closed(&mut self.state.stats, &"connect", &why, || match unreached {
                FailedConnect::Stream(mut protocol) => protocol.closed(why),
                FailedConnect::Datagram(mut protocol) => protocol.closed(why),
            });
        }
    }

    /// Tells the news that there was when this turn had driven everybody, or the first of it. What comes of it is told in the next
    /// turn, behind the rest.
    pub(super) fn deliver_notifications(&mut self) {
        while self.notifications_left > 0
            && !self.effects.is_spent()
            && let Some(tiding) = self.effects.next_notification()
        {
            self.notifications_left -= 1;
            let Some(token) = self.find(tiding.to) else { continue }; // it has gone itself
            self.running = token;
            let slot = &mut self.slots[token];
            if let Source::Connection(stream, connection) = &mut slot.source {
                connection.deliver(
                    &tiding,
                    stream,
                    &mut slot.ready,
                    &mut self.state,
                    &mut self.effects,
                );
                enqueue(&mut self.run_queue, token, slot);
            }
            self.apply_effects();
        }
    }
}
