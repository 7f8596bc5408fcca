//! Datagram sockets of the system, on loopback, driven as a reactor drives them.
//!
//! `batch_io` checks each kind of batch I/O by itself, over IPv4 and IPv6. The others drive a whole
//! `DatagramSocket` over the kind that this system offers. The helpers that they share are here.

mod batch_io; // many datagrams in a call, or one by one
mod filter; // datagrams that are dropped
mod kept; // what a socket keeps from one drive to the next
mod panics; // panics of the protocol
mod receive; // what one drive receives and answers
mod send; // how replies leave, and what an error costs

use std::io::ErrorKind;
use std::net::UdpSocket as Peer;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::*;
use crate::datagram::options::DatagramOptions;
use crate::datagram::receive::Unanswered;
use crate::datagram::replies::ReplyQueue;
use crate::datagram::sending::send_replies;
use crate::echo::Echo;
use crate::limits::{
    DATAGRAM_BATCH, DATAGRAM_BYTES_MAX, Limits, REPLIES_BYTES_MAX, REPLIES_HIGH_WATERMARK_BYTES,
    REPLY_OVERHEAD_BYTES,
};
use crate::sys::errno::DatagramError;
use crate::sys::{self, LocalAddress};

/// The longest that any call here waits.
const TIMEOUT: Duration = Duration::from_secs(10);
const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";
const PREFIX: &[u8] = b"echo -> ";

// ---- peers

fn bind(address: &str) -> UdpSocket {
    let (address, bytes) = (address.parse().unwrap(), Limits::default().udp_buffer_bytes);
    sys::bind_datagram(address, &DatagramOptions::default(), bytes).unwrap()
}

/// A socket of the standard library that is connected to `server`.
fn peer_of(server: SocketAddr) -> Peer {
    let peer = Peer::bind(SocketAddr::new(server.ip(), 0)).unwrap();
    peer.connect(server).unwrap();
    SockRef::from(&peer).set_recv_buffer_size(Limits::default().udp_buffer_bytes).unwrap();
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    peer.set_write_timeout(Some(TIMEOUT)).unwrap();
    peer
}

/// Returns `length` bytes that differ for each `number`.
fn payload(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| ((number + 1) * 0x9E37_79B1 + at * 0x85EB_CA77).to_le_bytes()[3]).collect()
}

/// Asserts that `peer` receives each of `datagrams`, after `prefix`, whole and in order.
#[track_caller]
fn check_replies<'d>(peer: &Peer, prefix: &[u8], datagrams: impl IntoIterator<Item = &'d Vec<u8>>) {
    let mut buffer = vec![0; 65_536];
    for (number, datagram) in datagrams.into_iter().enumerate() {
        let length = peer
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("reply {number} was not received: {error}"));
        assert!(
            buffer[..length] == [prefix, datagram].concat(),
            "reply {number}, of {length} bytes, differs"
        );
    }
}

/// Calls `is_done` until it returns true.
#[track_caller]
fn wait_until(mut is_done: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_done() {
        assert!(Instant::now() < deadline, "not done after {TIMEOUT:?}");
        thread::yield_now();
    }
}

/// Returns when all that was sent before has arrived. Loopback delivers in order. So once another
/// socket has received a datagram that is sent now, all earlier ones are in their receive buffers.
fn wait_for_arrival() {
    let other = Peer::bind(V4).unwrap();
    other.connect(other.local_addr().unwrap()).unwrap();
    other.set_read_timeout(Some(TIMEOUT)).unwrap();
    other.send(b"last").unwrap();
    other.recv(&mut [0; 16]).unwrap();
}

// ---- a whole socket

/// A datagram socket with its protocol, and what a reactor lends it.
struct DrivenSocket {
    source: DatagramSocket,
    ready: Readiness,
    state: LoopState,
    effects: Effects,
    scratch: DatagramScratch,
}

impl DrivenSocket {
    /// A server that echoes with a prefix.
    fn echo(address: &str) -> DrivenSocket {
        DrivenSocket::new(Echo::with_prefix(PREFIX), address)
    }

    /// A protocol between equals: it answers in the same way, also peers at its own port number.
    fn symmetric(address: &str) -> DrivenSocket {
        let answer = |_: &Datagram<'_>, replies: &mut Replies<'_>| replies.echo(PREFIX);
        DrivenSocket::new(OnReceived(answer), address)
    }

    fn new(protocol: impl DatagramProtocol + 'static, address: &str) -> DrivenSocket {
        let mut state = LoopState::new(Limits::default());
        let socket = bind(address);
        let bound = socket.local_addr().unwrap();
        let source = DatagramSocket::new(socket, bound, None, Box::new(protocol), &state);
        state.datagram_addresses.push(source.address);
        DrivenSocket::of(source, state)
    }

    fn of(source: DatagramSocket, state: LoopState) -> DrivenSocket {
        DrivenSocket {
            source,
            ready: Readiness::WRITABLE,
            state,
            effects: Effects::default(),
            scratch: DatagramScratch::new(),
        }
    }

    /// Does with the socket what a drive would do between its beginning and its end.
    fn within_a_drive<T>(&mut self, action: impl FnOnce(&mut DrivenSocket) -> T) -> T {
        self.source.begin_in(&mut self.scratch);
        let result = action(self);
        self.source.end_in(&mut self.scratch, &mut self.state);
        result
    }

    fn receive(&mut self) {
        self.source.receive(&mut self.ready, &mut self.scratch, &mut self.state);
    }

    fn answer_batch(&mut self) {
        self.source.answer_batch(&mut self.scratch, &mut self.state, &mut self.effects);
    }

    fn begin_answering(&mut self) -> (Unanswered<'_>, &[u8], Replies<'_>) {
        let DatagramScratch { batch, replies, .. } = &mut self.scratch;
        Replies::answering(batch, replies, &mut self.source.requests, &mut self.effects)
    }

    /// How many GSO batches of replies the socket keeps for its next drive.
    fn pending_len(&self) -> usize {
        self.source.kept.as_ref().map_or(0, |kept| kept.replies.pending_len())
    }

    /// Returns a peer that the kernel has reported as the sender of a datagram. That datagram is
    /// discarded, but one from the same peer that is passed to `receive_fake` can now be answered.
    fn known_peer(&mut self) -> Peer {
        let peer = peer_of(self.source.address);
        peer.send(b"first").unwrap();
        wait_for_arrival();
        self.ready.set_readable(true);
        self.within_a_drive(|server| {
            server.receive();
            let sender = server.scratch.batch.senders[0].peer;
            assert_eq!(sender, Some(peer.local_addr().unwrap()));
            server.scratch.batch.clear();
        });
        peer
    }

    /// Answers `bytes` as if `peer` had sent them to `local`, as a GRO batch of datagrams of
    /// `segment` bytes. The replies wait; those of before are forgotten.
    fn receive_fake(
        &mut self,
        peer: Option<SocketAddr>,
        local: LocalAddress,
        segment: usize,
        bytes: &[u8],
    ) {
        self.source.kept = None;
        self.scratch = DatagramScratch::new();
        self.within_a_drive(|server| {
            let batch = &mut server.scratch.batch;
            batch.buffers[..bytes.len()].copy_from_slice(bytes);
            batch.push_message(peer, local, bytes.len(), segment, false);
            server.answer_batch();
        });
    }

    /// Drives it once, and checks what must hold after every drive.
    fn drive(&mut self) -> Outcome {
        let outcome = self.source.drive(
            &mut self.ready,
            &mut self.scratch,
            &mut self.state,
            &mut self.effects,
        );
        assert_eq!(
            outcome == Outcome::Unfinished,
            self.source.can_progress(&self.ready),
            "{outcome:?}"
        );
        assert!(
            !(self.source.unfinished().replies && self.ready.writable()),
            "all that can be sent is sent"
        );
        outcome
    }

    /// Drives it as if the kernel had reported it readable.
    fn drive_readable(&mut self) -> Outcome {
        self.ready.set_readable(true);
        self.drive()
    }

    /// Drives it until it has received `count` datagrams in all.
    fn receive_until(&mut self, count: u64) {
        wait_until(|| {
            self.drive_readable();
            self.state.stats.datagrams_in >= count
        });
        assert_eq!(self.state.stats.datagrams_in, count);
    }

    /// Replies sent, datagrams dropped, replies that were too long, replies that were not sent.
    fn counters(&self) -> (u64, u64, u64, u64) {
        let stats = &self.state.stats;
        (
            stats.datagrams_out,
            stats.datagrams_dropped,
            stats.datagrams_too_long,
            stats.datagrams_unsent,
        )
    }
}

/// A protocol that calls a function for each datagram.
struct OnReceived<F>(F);

impl<F: FnMut(&Datagram<'_>, &mut Replies<'_>)> DatagramProtocol for OnReceived<F> {
    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        self.0(datagram, replies);
    }
}
