//! A datagram socket without a network, for testing a protocol.
//!
//! The protocol runs on the socket that the reactor uses, over a transport that is a queue and a
//! vector. The stages of a turn are those of `src/reactor.rs`, in the same order: drive, expire,
//! reap. All effects on connections are recorded.
//!
//! Invariant: each call returns when the socket waits, as it would in a reactor without other
//! sources.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use super::recorded_effect::RecordedEffect;
use crate::datagram::receive::{Batch, STRIDE_BYTES};
use crate::datagram::replies::ReplyQueue;
use crate::datagram::scratch::{CallArrays, DatagramScratch};
use crate::datagram::socket::DatagramSocket;
use crate::datagram::transport::DatagramTransport;
use crate::limits::{DATAGRAM_BATCH, DATAGRAM_BYTES_MAX_V6, Limits};
use crate::loop_state::LoopState;
use crate::protocol::datagram::DatagramProtocol;
use crate::protocol::effects::{Effect, Effects};
use crate::protocol::ident::{CloseReason, ConnectionId};
use crate::protocol::notification::Content;
use crate::protocol::outcome::Outcome;
use crate::stats::Stats;
use crate::stream::readiness::Readiness;
use crate::sys::LocalAddress;
use crate::time::Time;

/// Turns within one call of a test. A protocol that asks for `writable` in each of them would never
/// wait: the test panics then. In so many turns a protocol can send a gibibyte.
const TURNS_MAX: usize = 1_000;

/// A datagram socket without a network, for testing a protocol. The test is its peers.
///
/// ```
/// use mio_reactor::{Echo, TestDatagram};
///
/// let peer = "198.51.100.7:4000".parse().unwrap();
/// let mut echo = TestDatagram::new(Echo::new());
/// echo.peer_sends(peer, b"Hello");
/// echo.peer_sends(peer, b"world");
/// assert_eq!(echo.take_sent(), [(peer, b"Hello".to_vec()), (peer, b"world".to_vec())]);
/// ```
///
/// The protocol runs on the socket that the reactor uses, so that timers, the bounds of replies and
/// what is not answered are the real ones. The clock moves only with
/// [`advance_clock`](TestDatagram::advance_clock). The kernel takes every datagram at once, unless
/// the test says otherwise ([`kernel_takes`](TestDatagram::kernel_takes)). Effects on connections
/// are recorded ([`take_effects`](TestDatagram::take_effects)). A panic of the protocol is one of
/// the test.
///
/// Neither `Send` nor `Sync`, as a reactor.
pub struct TestDatagram {
    /// `None` once it has ended and its `closed` was called.
    socket: Option<DatagramSocket<MemoryDatagrams>>,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    ready: Readiness,
    scratch: DatagramScratch,
    state: LoopState,
    id: ConnectionId,
    effects: Effects,
    recorded: Vec<RecordedEffect>,
    recorded_messages: Vec<(ConnectionId, Box<dyn Any>)>,
    is_queued: bool,
    close_reason: Option<CloseReason>,
}

impl fmt::Debug for TestDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestDatagram")
            .field("sent", &self.sent.len())
            .field("close_reason", &self.close_reason)
            .finish_non_exhaustive()
    }
}

/// A transport that takes as many datagrams as the test says.
struct MemoryDatagrams {
    arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    errors: VecDeque<io::Error>,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    /// How many more datagrams the kernel takes.
    window: usize,
}

impl DatagramTransport for MemoryDatagrams {
    fn receive(&mut self, batch: &mut Batch, _: &mut CallArrays) -> io::Result<bool> {
        batch.clear();
        if let Some(error) = self.errors.pop_front() {
            return Err(error);
        }
        while batch.messages.len() < DATAGRAM_BATCH
            && let Some((peer, payload)) = self.arrived.pop_front()
        {
            let offset = batch.messages.len() * STRIDE_BYTES;
            batch.buffers[offset..][..payload.len()].copy_from_slice(&payload);
            batch.push_message(
                Some(peer),
                LocalAddress::Fixed,
                payload.len(),
                payload.len(),
                false,
            );
        }
        match batch.messages.len() {
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count == DATAGRAM_BATCH),
        }
    }

    fn send(
        &mut self,
        batch: &Batch,
        replies: &ReplyQueue,
        _: &mut CallArrays,
    ) -> io::Result<usize> {
        if self.window == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut pending = replies.pending_slices(batch);
        let (reply, slices) = pending.next().expect("it is called only if replies wait");
        let peer = replies.peer_of(reply.to, &batch.senders).ok_or(ErrorKind::AddrNotAvailable)?;
        if reply.datagrams() > 1 {
            return Err(ErrorKind::Unsupported.into());
        }
        self.window -= 1;
        self.sent.push((peer, slices.flatten().copied().collect()));
        Ok(1)
    }
}

impl TestDatagram {
    /// Makes a socket bound to `192.0.2.1:2000`, with the default limits, and calls
    /// [`DatagramProtocol::opened`].
    pub fn new(protocol: impl DatagramProtocol + 'static) -> TestDatagram {
        TestDatagram::with_limits(protocol, Limits::default())
    }

    /// The same, with these limits.
    pub fn with_limits(protocol: impl DatagramProtocol + 'static, limits: Limits) -> TestDatagram {
        TestDatagram::open(Box::new(protocol), None, limits)
    }

    /// Makes a socket that is connected to `peer`, as
    /// [`Reactor::connect_datagram`](crate::Reactor::connect_datagram) does.
    pub fn connected_to(
        peer: SocketAddr,
        protocol: impl DatagramProtocol + 'static,
    ) -> TestDatagram {
        TestDatagram::open(Box::new(protocol), Some(peer), Limits::default())
    }

    fn open(
        protocol: Box<dyn DatagramProtocol>,
        peer: Option<SocketAddr>,
        limits: Limits,
    ) -> TestDatagram {
        let address = SocketAddr::from(([192, 0, 2, 1], 2000));
        let mut state = LoopState::new(limits);
        let transport = MemoryDatagrams {
            arrived: VecDeque::new(),
            errors: VecDeque::new(),
            sent: Vec::new(),
            window: usize::MAX,
        };
        let mut socket = DatagramSocket::over(address, peer, protocol, &state, |_| transport);
        let mut effects = Effects::default();
        let id = ConnectionId { slot: 0, generation: effects.next_generation() };
        socket.requests.id = id;
        if peer.is_none() {
            state.datagram_addresses.push(address);
        }
        let mut test = TestDatagram {
            socket: Some(socket),
            sent: Vec::new(),
            ready: Readiness::WRITABLE,
            scratch: DatagramScratch::new(),
            state,
            effects,
            id,
            recorded: Vec::new(),
            recorded_messages: Vec::new(),
            is_queued: true,
            close_reason: None,
        };
        test.run();
        test
    }

    /// Sends a datagram from `peer`, and drives the socket until it waits.
    ///
    /// # Panics
    ///
    /// If `payload` is longer than a datagram can be, 65,527 bytes.
    pub fn peer_sends(&mut self, peer: SocketAddr, payload: &[u8]) {
        self.peers_send([(peer, payload)]);
    }

    /// Sends several datagrams, which the socket receives as a batch, and drives it until it waits.
    ///
    /// # Panics
    ///
    /// As for [`peer_sends`](TestDatagram::peer_sends).
    pub fn peers_send<'p>(&mut self, datagrams: impl IntoIterator<Item = (SocketAddr, &'p [u8])>) {
        let Some(socket) = &mut self.socket else { return };
        for (peer, payload) in datagrams {
            assert!(payload.len() <= DATAGRAM_BYTES_MAX_V6, "it does not fit a datagram");
            socket.transport.arrived.push_back((peer, payload.to_vec()));
        }
        self.ready.set_readable(true);
        self.is_queued = true;
        self.run();
    }

    /// Has the kernel report `error` before it hands out the next datagram, and drives the socket
    /// until it waits: `ConnectionRefused`, for example, if the port of the connected peer is
    /// closed.
    pub fn report_error(&mut self, error: io::Error) {
        let Some(socket) = &mut self.socket else { return };
        socket.transport.errors.push_back(error);
        self.ready.set_readable(true);
        self.is_queued = true;
        self.run();
    }

    /// From now on, the kernel takes `datagrams` more datagrams and no others: first of those that
    /// wait, then of those that are sent later. Drives the socket until it waits. Before the first
    /// call, the kernel takes every datagram, as after `kernel_takes(usize::MAX)`.
    ///
    /// While replies wait, nothing is received. A protocol that is called again whenever it may
    /// send ([`Replies::wake_when_writable`](crate::Replies::wake_when_writable)) and never ends
    /// needs such a bound before it begins.
    pub fn kernel_takes(&mut self, datagrams: usize) {
        let Some(socket) = &mut self.socket else { return };
        socket.transport.window = datagrams;
        self.ready.set_writable(datagrams > 0);
        self.is_queued = true;
        self.run();
    }

    /// Advances the clock by `time`, in whole milliseconds. A timer that is due on the way expires
    /// at its own time.
    pub fn advance_clock(&mut self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let until = self.state.clock.now.plus_ms(ms);
        while let Some(socket) = &self.socket
            && socket.deadline() <= until
            && socket.deadline() < Time::NEVER
        {
            self.state.clock.now = socket.deadline();
            self.run();
        }
        self.state.clock.now = until;
    }

    /// Sends the protocol `message`, as a connection or a task does, and drives the socket until it
    /// waits.
    pub fn send_message(&mut self, message: Box<dyn Any>) {
        self.push_message(message);
        self.run();
    }

    /// Takes the datagrams that have been sent since the last call, each with its recipient, in
    /// order.
    pub fn take_sent(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.sent)
    }

    /// Takes the effects on connections that the protocol has queued since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<RecordedEffect> {
        std::mem::take(&mut self.recorded)
    }

    /// Takes the messages to connections that the protocol has sent since the last call, in order.
    /// ([`take_effects`](TestDatagram::take_effects) does not return them.)
    pub fn take_messages(&mut self) -> Vec<(ConnectionId, Box<dyn Any>)> {
        std::mem::take(&mut self.recorded_messages)
    }

    /// Returns the id of a connection, for the protocol. Each call returns a new one.
    pub fn other_connection(&mut self) -> ConnectionId {
        ConnectionId { slot: 1, generation: self.effects.next_generation() }
    }

    /// Returns the counters: of datagrams that were not answered, for example, or not sent.
    pub fn stats(&self) -> &Stats {
        &self.state.stats
    }

    /// Returns why the socket has ended; `None` while it has not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.close_reason
    }

    // ---- the stages of a turn

    /// Runs turns until the socket waits for a datagram or for its timer.
    fn run(&mut self) {
        for _ in 0..TURNS_MAX {
            self.turn();
            let deadline = self.socket.as_ref().map(DatagramSocket::deadline);
            let has_work = self.is_queued || self.effects.pending_notifications() > 0;
            if !has_work && deadline.is_none_or(|due| due > self.state.clock.now) {
                return;
            }
        }
        panic!("the protocol never stops sending: bound it with `kernel_takes`");
    }

    fn turn(&mut self) {
        self.state.budget.begin_turn(1);
        let Some(socket) = &mut self.socket else { return };
        let TestDatagram { ready, scratch, state, effects, .. } = self;
        if std::mem::take(&mut self.is_queued) {
            let outcome = socket.drive(ready, scratch, state, effects);
            self.finish_drive(outcome);
        }
        self.take_completions();
        self.deliver_messages();
        let Some(socket) = &mut self.socket else { return };
        let TestDatagram { ready, scratch, state, effects, .. } = self;
        if self.close_reason.is_none() && socket.deadline() <= state.clock.now {
            let outcome = socket.expire(ready, scratch, state, effects);
            self.finish_drive(outcome);
        }
        self.reap();
    }

    /// Takes what other threads have sent.
    fn take_completions(&mut self) {
        if let Some(completions) = &self.state.completions {
            completions.deliver(&mut self.effects);
        }
    }

    /// Puts `message` into the mailbox of the socket.
    fn push_message(&mut self, message: Box<dyn Any>) {
        if self.close_reason.is_none()
            && self.effects.push_message(self.id, false, message).is_err()
        {
            self.state.stats.messages_rejected += 1;
        }
    }

    /// Delivers the messages that wait now.
    fn deliver_messages(&mut self) {
        for _ in 0..self.effects.pending_notifications() {
            let Some(pending) = self.effects.next_notification() else { return };
            let TestDatagram { ready, scratch, state, effects, .. } = self;
            if let Some(socket) = &mut self.socket
                && self.close_reason.is_none()
                && pending.to == self.id
                && let Content::Message(message) = pending.content
            {
                let outcome = socket.deliver(message, ready, scratch, state, effects);
                self.finish_drive(outcome);
            }
        }
    }

    fn finish_drive(&mut self, outcome: Outcome) {
        let Some(socket) = &mut self.socket else { return };
        self.sent.append(&mut socket.transport.sent);
        match outcome {
            Outcome::Ended(why) => self.close_reason = Some(why),
            Outcome::Unfinished => self.is_queued = true,
            Outcome::Blocked | Outcome::Idle => {
                assert!(!socket.can_progress(&self.ready), "a blocked socket cannot progress");
            }
        }
        assert_eq!(self.state.stats.panics, 0, "the protocol has panicked");
        let (mut queued, bytes) = self.effects.take_queued();
        for (_, effect) in queued.drain(..) {
            if let Effect::Message(to, message) = effect {
                match to == self.id {
                    true => self.push_message(message),
                    false => self.recorded_messages.push((to, message)),
                }
            } else {
                self.recorded.extend(RecordedEffect::from(effect, &bytes));
            }
        }
        self.effects.return_buffers(queued, bytes);
    }

    fn reap(&mut self) {
        if let Some(why) = self.close_reason
            && let Some(mut socket) = self.socket.take()
        {
            self.is_queued = false;
            socket.call_closed(why);
        }
    }
}

#[cfg(test)]
mod tests;
