//! What does a batch of datagrams cost: received, answered and sent?
//!
//! Measured over loopback, with 64 datagrams of 64 bytes that are all in the kernel before the
//! server's turn begins. Only the server's part is timed, until the kernel has all 64 echoes.
//!
//! - `1 peer x 64`: sent one by one from one socket. They are received with one recvmmsg(2), and
//!   one more because the first was full. The replies leave as one GSO batch.
//! - `16 peers x 4`: sent one by one from 16 sockets, peer after peer. They are received in the
//!   same way. The replies leave as 16 GSO batches in one sendmmsg(2).
//! - `a GSO batch of 64`: sent as one GSO batch (UDP_SEGMENT), so that it is received as one
//!   (UDP_GRO) and answered as one. The peer is a second reactor here, because a plain socket would
//!   need unsafe code to send GSO batches. Elsewhere than on Linux there are none, and this is the
//!   first case again.
//!
//! How to read it. The time is that of the whole batch; `elem/s` counts datagrams. `baseline` is a
//! plain non-blocking socket that echoes the same datagrams one by one with recv_from and send_to,
//! and does not even wait for them. It is a baseline for single calls only: `reactor` should be
//! well below it, and most clearly so for the GSO batch.

mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use mio_reactor::{Datagram, DatagramProtocol, Echo, Limits, Reactor, Replies};

use common::{LOOPBACK, TIMEOUT, time_turns, time_until_done};

const DATAGRAMS: u64 = 64;
const PAYLOAD: [u8; 64] = [b'x'; 64];

fn batches(c: &mut Criterion) {
    compare(c, "1 peer x 64", |server| Box::new(PlainPeers::start(server, 1)));
    compare(c, "16 peers x 4", |server| Box::new(PlainPeers::start(server, 16)));
    compare(c, "a GSO batch of 64", |server| Box::new(GsoPeer::start(server)));
}

/// Measures the reactor and the baseline, each with peers of its own, which `start` makes for the
/// server at an address.
fn compare(c: &mut Criterion, name: &str, mut start: impl FnMut(SocketAddr) -> Box<dyn Peers>) {
    let mut group = c.benchmark_group(format!("datagrams: {name}"));
    group.throughput(Throughput::Elements(DATAGRAMS));

    let mut reactor = Reactor::new(Limits::default()).expect("a poll can be made");
    let address = reactor.bind_datagram(LOOPBACK, Echo::new()).expect("a port is free");
    let mut peers = start(address);
    exchange(&mut group, "reactor", &mut *peers, || {
        let before = reactor.stats().datagrams_out;
        reactor.turn(Some(TIMEOUT)).expect("the poll works");
        reactor.stats().datagrams_out - before
    });

    let socket = UdpSocket::bind(LOOPBACK).expect("a port is free");
    socket.set_nonblocking(true).expect("the socket is open");
    let mut peers = start(socket.local_addr().expect("it is bound"));
    let mut buffer = [0; 65_536];
    exchange(&mut group, "baseline", &mut *peers, || echo_one_by_one(&socket, &mut buffer));
    group.finish();
}

/// Runs turns until a batch is answered, and makes the peers send the next. `turn` returns how many
/// datagrams it answered.
fn exchange(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    peers: &mut dyn Peers,
    mut turn: impl FnMut() -> u64,
) {
    let mut answer_a_batch = || {
        let mut answered = 0;
        let spent = time_until_done(|| {
            answered += turn();
            answered >= DATAGRAMS
        });
        assert_eq!(answered, DATAGRAMS, "each datagram has one reply");
        peers.next_batch();
        spent
    };
    answer_a_batch(); // the peers send the first one as single datagrams in any case
    group.bench_function(name, |b| {
        b.iter_custom(|batches| (0..batches).map(|_| answer_a_batch()).sum());
    });
}

/// Echoes until no datagram is left, and returns how many it has echoed.
fn echo_one_by_one(socket: &UdpSocket, buffer: &mut [u8]) -> u64 {
    let mut answered = 0;
    loop {
        match socket.recv_from(buffer) {
            Ok((length, peer)) => {
                let sent = socket.send_to(&buffer[..length], peer).expect("the peer has room");
                assert_eq!(sent, length, "a datagram is sent whole");
                answered += 1;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return answered,
            Err(error) => panic!("recv_from: {error}"),
        }
    }
}

/// The peers of a server: they send 64 datagrams, receive them back, and send them again. Creating
/// a value sends the first batch.
trait Peers {
    /// Receives the replies to the last batch, and sends the next.
    fn next_batch(&mut self);
}

/// Plain sockets, which send their datagrams one by one.
struct PlainPeers {
    sockets: Vec<UdpSocket>,
}

impl PlainPeers {
    fn start(server: SocketAddr, count: usize) -> PlainPeers {
        let sockets = (0..count).map(|_| {
            let socket = UdpSocket::bind(LOOPBACK).expect("a port is free");
            socket.connect(server).expect("the server has bound its address");
            socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
            socket
        });
        let peers = PlainPeers { sockets: sockets.collect() };
        peers.send();
        peers
    }

    fn send(&self) {
        for socket in self.senders() {
            socket.send(&PAYLOAD).expect("the server has room");
        }
    }

    /// Returns each socket as often as it has a datagram to send.
    fn senders(&self) -> impl Iterator<Item = &UdpSocket> {
        let share = DATAGRAMS / self.sockets.len() as u64;
        self.sockets.iter().flat_map(move |socket| (0..share).map(move |_| socket))
    }
}

impl Peers for PlainPeers {
    fn next_batch(&mut self) {
        let mut buffer = [0; 65_536];
        for socket in self.senders() {
            let length = socket.recv(&mut buffer).expect("the reply has been sent");
            assert_eq!(buffer[..length], PAYLOAD, "an echo is what was sent");
        }
        self.send();
    }
}

/// A reactor that echoes what the server has echoed. All of it goes to one peer, and so as a GSO
/// batch.
struct GsoPeer {
    reactor: Reactor,
}

impl GsoPeer {
    /// An echo does not send first. So a plain socket sends the first batch, and leaves its port to
    /// the reactor, which receives the replies.
    fn start(server: SocketAddr) -> GsoPeer {
        let plain = PlainPeers::start(server, 1);
        let address = plain.sockets[0].local_addr().expect("it is bound");
        drop(plain);
        let mut reactor = Reactor::new(Limits::default()).expect("a poll can be made");
        reactor.bind_datagram(address, CheckedEcho).expect("the port has just become free");
        GsoPeer { reactor }
    }
}

impl Peers for GsoPeer {
    fn next_batch(&mut self) {
        let target = self.reactor.stats().datagrams_out + DATAGRAMS;
        time_turns(&mut self.reactor, |stats| stats.datagrams_out == target);
    }
}

/// An echo that checks what it echoes.
struct CheckedEcho;

impl DatagramProtocol for CheckedEcho {
    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        assert_eq!(datagram.payload, PAYLOAD, "an echo is what was sent");
        replies.echo(b"");
    }
}

criterion_group!(benches, batches);
criterion_main!(benches);
