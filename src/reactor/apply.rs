//! Effects, applied: what connections want done to each other is done here, when nobody is being driven.
//!
//! A connection that something was done to is put into the queue, and goes on from there as after any other news. Nothing here
//! calls a protocol but `tell_some`, and what a protocol asks for when it is told is applied before the next is told.

use std::io;
use std::net::SocketAddr;

use log::{debug, trace};

use super::{Reactor, Source, Standing, Unreached, enqueue, tell_of_end};
use crate::connection::Connection;
use crate::datagram::{DatagramProtocol, DatagramSocket};
use crate::effects::{Call, Effect, News, Wish};
use crate::net::{self, Interest, Token};
use crate::protocol::{CloseReason, ConnectionId, Protocol};
use crate::wire::Watched;

impl Reactor {
    /// Sends `bytes` to the peer of the connection `to`, as [`Context::send_to`](crate::Context::send_to) does, but at once.
    /// Returns what a connection would be told of it; `None` is success. Of `OverMark` and what follows nothing is told,
    /// since there is nobody to tell it to.
    pub fn send_to(&mut self, to: ConnectionId, bytes: &[u8]) -> Option<News> {
        self.read_clock();
        self.put(to, bytes)
    }

    /// Begins a connection to `address`, on which `protocol` speaks, as [`Context::connect`](crate::Context::connect) does,
    /// but at once. What comes of it is told to `protocol` alone.
    pub fn connect(
        &mut self,
        address: SocketAddr,
        protocol: impl Protocol + 'static,
    ) -> ConnectionId {
        self.read_clock();
        let id = self.turn.effects.name_outgoing(None);
        self.call(Call { id, address, protocol: Box::new(protocol) });
        id
    }

    /// Closes the connection `id`, as [`Context::close`](crate::Context::close) does.
    pub fn close(&mut self, id: ConnectionId) {
        self.oblige(id, Wish::Close);
    }

    /// Sends our FIN on the connection `id`, as [`Context::finish`](crate::Context::finish) does.
    pub fn finish(&mut self, id: ConnectionId) {
        self.oblige(id, Wish::Finish);
    }

    /// Resets the connection `id`, as [`Context::abort`](crate::Context::abort) does.
    pub fn abort(&mut self, id: ConnectionId) {
        let Some(token) = self.find(id) else { return };
        let slot = &mut self.slots[token];
        if let Source::Connection(_, connection) = &mut slot.source {
            connection.abort();
            enqueue(&mut self.queue, token, slot);
        }
    }

    /// Takes no more input on the connection `id` for now, as [`Context::pause`](crate::Context::pause) does.
    pub fn pause(&mut self, id: ConnectionId) {
        self.oblige(id, Wish::Pause);
    }

    /// Takes input on the connection `id` again, as [`Context::resume`](crate::Context::resume) does.
    pub fn resume(&mut self, id: ConnectionId) {
        self.oblige(id, Wish::Resume);
    }

    /// Does what the protocol that has just run wants done to others.
    #[inline]
    pub(super) fn apply_effects(&mut self) {
        debug_assert!(
            !self.turn.effects.is_empty() || self.turn.effects.bytes.is_empty(),
            "what waits is for somebody"
        );
        if !self.turn.effects.is_empty() {
            self.apply_all();
        }
    }

    #[cold]
    fn apply_all(&mut self) {
        let mut queued = std::mem::take(&mut self.turn.effects.queued);
        let bytes = std::mem::take(&mut self.turn.effects.bytes);
        for (from, effect) in queued.drain(..) {
            self.turn.effects.charge(if let Effect::Send(_, range) = &effect {
                range.len()
            } else {
                0
            });
            match effect {
                Effect::Send(to, range) => match self.put(to, &bytes[range]) {
                    None => {}
                    Some(News::OverMark) => self.turn.effects.is_over_mark(to, from),
                    Some(news) => self.turn.effects.tell(from, to, news),
                },
                Effect::SendTooMuch(to) => {
                    self.turn.stats.sends_refused += 1;
                    self.turn.effects.tell(from, to, News::Refused);
                }
                Effect::Ask(id, wish) => self.oblige(id, wish),
                Effect::Abort(id) => self.abort(id),
                Effect::Watch(id) if self.find(id).is_some() => self.turn.effects.watch(id, from),
                Effect::Watch(id) => self.turn.effects.tell(from, id, News::Gone),
                Effect::Connect(call) => self.call(*call),
                Effect::ConnectDatagram(call) => self.call_datagram(call.0, call.1),
            }
        }
        self.turn.effects.take_back(queued, bytes);
        if self.turn.effects.is_spent() {
            self.put_off();
        }
    }

    /// The slot of a connection that has not ended. A name that is older than whoever is in its slot now is nobody's.
    fn find(&self, id: ConnectionId) -> Option<usize> {
        let token = self.turn.effects.slot_of(id)?;
        let slot = self.slots.get(token)?;
        let is_it =
            matches!(&slot.source, Source::Connection(_, connection) if connection.id() == id);
        (is_it && slot.standing != Standing::Ended).then_some(token)
    }

    fn put(&mut self, to: ConnectionId, bytes: &[u8]) -> Option<News> {
        let Some(token) = self.find(to) else { return Some(News::Gone) };
        let slot = &mut self.slots[token];
        let Source::Connection(stream, connection) = &mut slot.source else {
            return Some(News::Gone);
        };
        let news = connection.take(bytes, stream, &mut slot.ready, &mut self.turn);
        self.turn.stats.sends_refused += u64::from(news == Some(News::Refused));
        enqueue(&mut self.queue, token, slot);
        news
    }

    fn oblige(&mut self, id: ConnectionId, wish: Wish) {
        let Some(token) = self.find(id) else { return };
        let slot = &mut self.slots[token];
        if let Source::Connection(stream, connection) = &mut slot.source {
            connection.oblige(wish, stream, &self.turn);
            enqueue(&mut self.queue, token, slot);
        }
    }

    /// Begins a connection. It is watched from the start: to be writable is to be decided.
    fn call(&mut self, call: Call) {
        let token = Token(self.slots.vacant_key());
        let begun = match self.turn.stats.connections < self.turn.limits.connections_max {
            true => net::connect(call.address).and_then(|mut stream| {
                self.poll.registry().register(
                    &mut stream,
                    token,
                    net::reading() | Interest::WRITABLE,
                )?;
                Ok(stream)
            }),
            false => Err(io::ErrorKind::QuotaExceeded.into()),
        };
        trace!("{} connect {} -> {begun:?}", call.id, call.address);
        match begun {
            Ok(stream) => {
                let connection = Connection::outgoing(
                    call.protocol,
                    call.id,
                    call.address.into(),
                    self.turn.now,
                );
                let token =
                    self.insert(Source::Connection(stream, connection), Watched::ReadingAndWriting);
                self.turn.effects.has_slot(call.id, token);
                self.turn.stats.connections += 1;
                self.provide(token, false);
            }
            Err(error) => {
                debug!("{} {} is not reached: {error}", call.id, call.address);
                // Now, so that it is the first that is heard of it; the protocol itself is told when nobody else runs.
                let why = CloseReason::ConnectFailed(error.kind());
                self.turn.effects.has_gone(call.id, why, &mut self.turn.stats);
                self.turn.stats.closed += 1;
                self.unreached.push((Unreached::Stream(call.protocol), why));
            }
        }
    }

    /// Opens a socket for a datagram client.
    fn call_datagram(&mut self, peer: SocketAddr, protocol: Box<dyn DatagramProtocol>) {
        let opened = match self.turn.stats.connections + self.datagram_clients
            < self.turn.limits.connections_max
        {
            true => self.open_datagram_client(peer),
            false => Err(io::ErrorKind::QuotaExceeded.into()),
        };
        trace!("connect datagram {peer} -> {:?}", opened.as_ref().map(|(_, address, _)| address));
        match opened {
            Ok((socket, address, peer)) => {
                let source = DatagramSocket::new(socket, address, Some(peer), protocol, &self.turn);
                self.add_datagram(source);
            }
            Err(error) => {
                debug!("{peer} is not reached: {error}");
                self.unreached.push((
                    Unreached::Datagram(protocol),
                    CloseReason::ConnectFailed(error.kind()),
                ));
            }
        }
    }

    /// Tells the protocols whose calls have failed at once.
    #[cold]
    pub(super) fn tell_unreached(&mut self) {
        for (unreached, why) in std::mem::take(&mut self.unreached) {
            tell_of_end(&mut self.turn.stats, &"nobody", || match unreached {
                Unreached::Stream(mut protocol) => protocol.closed(why),
                Unreached::Datagram(mut protocol) => protocol.closed(why),
            });
        }
    }

    /// Tells the news that there was when this turn had driven everybody, or the first of it. What comes of it is told in the next
    /// turn, behind the rest.
    pub(super) fn tell_some(&mut self) {
        while self.untold > 0
            && !self.turn.effects.is_spent()
            && let Some(tiding) = self.turn.effects.next_tiding()
        {
            self.untold -= 1;
            let Some(token) = self.find(tiding.to) else { continue }; // it has gone itself
            self.running = token;
            let slot = &mut self.slots[token];
            if let Source::Connection(stream, connection) = &mut slot.source {
                connection.hear_of(&tiding, stream, &mut slot.ready, &mut self.turn);
                enqueue(&mut self.queue, token, slot);
            }
            self.apply_effects();
        }
    }
}
