//! What does a batch of datagrams cost: received, answered and sent?
//!
//! Measured over loopback, with 64 datagrams of 64 bytes that are all there before the server's turn begins. Only the
//! server's part is timed, until all 64 echoes are with the kernel.
//!
//! - `1 peer x 64`: sent one by one from one socket. Received with one recvmmsg, and one more, as the first was full; the
//!   answers leave as one train.
//! - `16 peers x 4`: sent one by one from 16 sockets, peer after peer. Received in the same way; the answers leave as 16
//!   trains in one sendmmsg.
//! - `a train of 64`: sent as one train (UDP_SEGMENT), so that it is received as one (UDP_GRO), and answered as one. The
//!   peer here is a second reactor, as plain sockets send no trains without unsafe code. Elsewhere than on Linux there
//!   are no trains, and this is the first case again.
//!
//! How to read it. The time is that of the whole batch; `elem/s` counts datagrams. `floor` is a plain non-blocking
//! socket that echoes the same datagrams one by one, recv_from and send_to, and does not even wait for them. This is a
//! floor for single calls only: `reactor` should be well below it, and most clearly so with trains.

mod common;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use mio_reactor::{Datagram, DatagramProtocol, Echo, Limits, Reactor, Replies};

use common::{LOOPBACK, PATIENCE, time_until_done};

const DATAGRAMS: u64 = 64;
const PAYLOAD: [u8; 64] = [b'x'; 64];

fn batches(c: &mut Criterion) {
    compare(c, "1 peer x 64", |server| Box::new(Singles::started(server, 1)));
    compare(c, "16 peers x 4", |server| Box::new(Singles::started(server, 16)));
    compare(c, "a train of 64", |server| Box::new(Trains::started(server)));
}

/// Measures the reactor and the floor, each with peers of its own, which `start` makes for the server at an address.
fn compare(c: &mut Criterion, name: &str, mut start: impl FnMut(SocketAddr) -> Box<dyn Peers>) {
    let mut group = c.benchmark_group(format!("datagrams: {name}"));
    group.throughput(Throughput::Elements(DATAGRAMS));

    let mut reactor = Reactor::new(Limits::default()).expect("a poll can be made");
    let address = reactor.bind_datagram(LOOPBACK.into(), Echo::new()).expect("a port is free");
    let mut peers = start(address);
    exchange(&mut group, "reactor", &mut *peers, || {
        let before = reactor.stats().datagrams_out;
        reactor.turn(Some(PATIENCE)).expect("the poll works");
        reactor.stats().datagrams_out - before
    });

    let socket = UdpSocket::bind(LOOPBACK).expect("a port is free");
    socket.set_nonblocking(true).expect("the socket is open");
    let mut peers = start(socket.local_addr().expect("it is bound"));
    let mut buffer = [0; 65_536];
    exchange(&mut group, "floor", &mut *peers, || echo_singly(&socket, &mut buffer));
    group.finish();
}

/// Takes turns until a batch is answered, and has the peers send the next. `turn` returns how many datagrams it answered.
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
        assert_eq!(answered, DATAGRAMS, "each datagram has one answer");
        peers.go_on();
        spent
    };
    answer_a_batch(); // the first one is sent singly in any case
    group.bench_function(name, |b| {
        b.iter_custom(|batches| (0..batches).map(|_| answer_a_batch()).sum());
    });
}

/// Answers what is there, and returns how much that was.
fn echo_singly(socket: &UdpSocket, buffer: &mut [u8]) -> u64 {
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

/// Who sends 64 datagrams, gets them back, and sends them again. The first batch is sent as soon as there is such a value.
trait Peers {
    /// Takes the answers to the last batch, and sends the next.
    fn go_on(&mut self);
}

/// Plain sockets, which send their share one by one.
struct Singles {
    sockets: Vec<UdpSocket>,
}

impl Singles {
    fn started(server: SocketAddr, count: usize) -> Singles {
        let sockets = (0..count).map(|_| {
            let socket = UdpSocket::bind(LOOPBACK).expect("a port is free");
            socket.connect(server).expect("the server has bound its address");
            socket.set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
            socket
        });
        let singles = Singles { sockets: sockets.collect() };
        singles.send();
        singles
    }

    fn send(&self) {
        for socket in self.shares() {
            socket.send(&PAYLOAD).expect("the server has room");
        }
    }

    /// Each socket, as often as it has a datagram to send.
    fn shares(&self) -> impl Iterator<Item = &UdpSocket> {
        let share = DATAGRAMS / self.sockets.len() as u64;
        self.sockets.iter().flat_map(move |socket| (0..share).map(move |_| socket))
    }
}

impl Peers for Singles {
    fn go_on(&mut self) {
        let mut buffer = [0; 65_536];
        for socket in self.shares() {
            let length = socket.recv(&mut buffer).expect("the answer has been sent");
            assert_eq!(buffer[..length], PAYLOAD, "an echo is what was sent");
        }
        self.send();
    }
}

/// A reactor, which echoes what the server has echoed: all of it to one peer, and so as a train.
struct Trains {
    reactor: Reactor,
}

impl Trains {
    /// An echo does not speak first. So a plain socket does, and leaves its port, and the answers to come, to the reactor.
    fn started(server: SocketAddr) -> Trains {
        let singles = Singles::started(server, 1);
        let address = singles.sockets[0].local_addr().expect("it is bound");
        drop(singles);
        let mut reactor = Reactor::new(Limits::default()).expect("a poll can be made");
        reactor.bind_datagram(address, Mirror).expect("the port has just become free");
        Trains { reactor }
    }
}

impl Peers for Trains {
    fn go_on(&mut self) {
        let sent_before = self.reactor.stats().datagrams_out;
        time_until_done(|| {
            self.reactor.turn(Some(PATIENCE)).expect("the poll works");
            self.reactor.stats().datagrams_out == sent_before + DATAGRAMS
        });
    }
}

/// An echo that looks at what it echoes.
struct Mirror;

impl DatagramProtocol for Mirror {
    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        assert_eq!(datagram.payload, PAYLOAD, "an echo is what was sent");
        replies.echo(b"");
    }
}

criterion_group!(benches, batches);
criterion_main!(benches);
