//! Datagrams over real sockets on loopback.
//!
//! First what both exchanges promise, the one that batches and the one that does not: each story is told over each of
//! them, over IPv4 and IPv6. Then the whole socket, as a reactor drives it, over the exchange of this system.

mod batch_io;
mod filter;
mod panics;
mod receive;
mod send;

use std::net::UdpSocket as Peer;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::*;
use crate::datagram::receive::Unanswered;
use crate::echo::Echo;
use crate::limits::{
    DATAGRAM_BATCH, DATAGRAM_BYTES_MAX, Limits, REPLIES_BYTES_MAX, REPLIES_HIGH_WATERMARK_BYTES,
    REPLY_OVERHEAD_BYTES,
};
use crate::sys::{self, LocalAddress};

/// The longest that anything here waits.
const PATIENCE: Duration = Duration::from_secs(10);
const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";
const PREFIX: &[u8] = b"echo -> ";

// ---- peers

fn bind(address: &str) -> UdpSocket {
    sys::bind_datagram(address.parse().unwrap(), Limits::default().udp_buffer_bytes).unwrap()
}

/// Somebody who talks with `server` and hears nobody else.
fn peer_of(server: SocketAddr) -> Peer {
    let peer = Peer::bind(SocketAddr::new(server.ip(), 0)).unwrap();
    peer.connect(server).unwrap();
    SockRef::from(&peer).set_recv_buffer_size(Limits::default().udp_buffer_bytes).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    peer
}

/// `length` bytes that no other `number` has.
fn payload(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| ((number + 1) * 0x9E37_79B1 + at * 0x85EB_CA77).to_le_bytes()[3]).collect()
}

/// Each of `datagrams` comes to `peer` behind `prefix`, whole and in order.
#[track_caller]
fn check_replies<'d>(peer: &Peer, prefix: &[u8], datagrams: impl IntoIterator<Item = &'d Vec<u8>>) {
    let mut buffer = vec![0; 65_536];
    for (number, datagram) in datagrams.into_iter().enumerate() {
        let length = peer
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("reply {number} does not come: {error}"));
        assert!(
            buffer[..length] == [prefix, datagram].concat(),
            "reply {number}, of {length} bytes, is another one"
        );
    }
}

/// Waits until `is_done`, and tries again and again.
#[track_caller]
fn wait_until(mut is_done: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_done() {
        assert!(Instant::now() < give_up, "it has waited for {PATIENCE:?}");
        thread::yield_now();
    }
}

/// Returns when all that was sent before has arrived. Loopback delivers in order: so once a witness has heard what was sent
/// last, the others have heard all that came before.
fn let_all_arrive() {
    let witness = Peer::bind(V4).unwrap();
    witness.connect(witness.local_addr().unwrap()).unwrap();
    witness.set_read_timeout(Some(PATIENCE)).unwrap();
    witness.send(b"I am last.").unwrap();
    witness.recv(&mut [0; 16]).unwrap();
}

// ---- the whole socket

/// A socket that echoes with a prefix, and what a reactor would lend it.
struct Service {
    source: DatagramSocket,
    ready: Readiness,
    state: LoopState,
    effects: Effects,
}

impl Service {
    fn on(address: &str) -> Service {
        Service::of(Echo::with_prefix(PREFIX), address)
    }

    fn of(protocol: impl DatagramProtocol + 'static, address: &str) -> Service {
        let mut state = LoopState::new(Limits::default());
        let socket = bind(address);
        let bound = socket.local_addr().unwrap();
        let source = DatagramSocket::new(socket, bound, None, Box::new(protocol), &state);
        state.datagram_addresses.push(source.address);
        let ready = Readiness { writable: true, ..Readiness::NOT_READY };
        Service { source, ready, state, effects: Effects::default() }
    }

    fn begin_answering(&mut self) -> (Unanswered<'_>, &[u8], Replies<'_>) {
        let DatagramSocket { batch, replies, requests, .. } = &mut self.source;
        Replies::answering(batch, replies, requests, &mut self.effects)
    }

    /// Somebody whom the kernel has named as the sender of a datagram, which is forgotten: so what is pretended to come from
    /// there can be answered.
    fn known_peer(&mut self) -> Peer {
        let peer = peer_of(self.source.address);
        peer.send(b"It is me.").unwrap();
        let_all_arrive();
        self.ready.readable = true;
        self.source.receive(&mut self.ready, &mut self.state.stats);
        assert_eq!(self.source.batch.senders[0].peer, Some(peer.local_addr().unwrap()));
        peer
    }

    /// Puts `bytes` to the protocol as if `peer` had sent them, in datagrams of `segment` that the kernel has joined. The
    /// replies wait.
    fn pretend(
        &mut self,
        peer: Option<SocketAddr>,
        asked: LocalAddress,
        segment: usize,
        bytes: &[u8],
    ) {
        self.source.batch.clear();
        self.source.batch.buffers[..bytes.len()].copy_from_slice(bytes);
        self.source.batch.push_message(peer, asked, bytes.len(), segment, false);
        self.source.answer_batch(&mut self.state, &mut self.effects);
    }

    /// Drives it once. Whatever the test: what it says of itself afterwards is true.
    fn drive(&mut self) -> Outcome {
        let outcome = self.source.drive(&mut self.ready, &mut self.state, &mut self.effects);
        assert_eq!(
            outcome == Outcome::Unfinished,
            self.source.can_progress(&self.ready),
            "{outcome:?}"
        );
        assert!(!(self.source.wants_write() && self.ready.writable), "it sends what it can");
        outcome
    }

    /// The kernel says that it can be read, and it is driven.
    fn drive_readable(&mut self) -> Outcome {
        self.ready.readable = true;
        self.drive()
    }

    /// Drives it until it has heard `count` datagrams in all.
    fn hear(&mut self, count: u64) {
        wait_until(|| {
            self.drive_readable();
            self.state.stats.datagrams_in >= count
        });
        assert_eq!(self.state.stats.datagrams_in, count);
    }

    /// What was counted: replies sent, datagrams refused, replies too long, replies that the kernel refused.
    fn counted(&self) -> (u64, u64, u64, u64) {
        let stats = &self.state.stats;
        (
            stats.datagrams_out,
            stats.datagrams_dropped,
            stats.datagrams_too_long,
            stats.datagrams_unsent,
        )
    }
}

/// Calls a function for each datagram.
struct Answers<F>(F);

impl<F: FnMut(&Datagram<'_>, &mut Replies<'_>)> DatagramProtocol for Answers<F> {
    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        self.0(datagram, replies);
    }
}
