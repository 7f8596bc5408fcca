//! What does a whole turn cost, over a real socket, when one connection has input?
//!
//! Measured over loopback, with one connection that stays open. The peer, in the same thread, sends
//! its message. Then the server runs turns until the kernel has the whole reply, which is nearly
//! always one turn: epoll_wait, recv, send. Only the server's part is timed. After that the peer
//! reads the reply.
//!
//! How to read it. `baseline` answers the same bytes with the least that a mio program can do:
//! `Poll::poll`, one read, one write, on one registered stream. It has no slab, phases, deadlines,
//! limits or parsing, and its HTTP responses are prepared. So `baseline` is the kernel's share, and
//! `reactor` minus `baseline` is ours. On loopback the kernel delivers a reply to the peer's socket
//! within the server's write, which is a good part of both.
//!
//! Both read into buffers of one size, which hold a message of 65,536 bytes with room to spare.
//! Where such a message arrives in two pieces all the same, both take two reads and two writes. The
//! time given for 16 requests is that of all of them together.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use mio::{Events, Interest, Poll, Token};
use mio_reactor::limits::READ_BYTES_MAX;
use mio_reactor::{Echo, Http, Protocol};

use common::site::Site;
use common::{
    REQUEST, RESPONSE_END, TIMEOUT, accept_bare, bare_listener, connect, listening, response_to,
    source, time_turns, time_until_done,
};

fn echo(c: &mut Criterion) {
    for size in [64, 65_536] {
        let message = vec![b'x'; size];
        let mut group = c.benchmark_group(format!("turn: echo {size}"));
        group.throughput(Throughput::Bytes(size as u64));
        through_the_reactor(&mut group, Echo::new, &message, &message);
        through_the_floor(&mut group, None, &message, &message);
        group.finish();
    }
}

fn http(c: &mut Criterion) {
    for depth in [1, 16] {
        let requests = REQUEST.repeat(depth);
        let responses = response_to(&requests);
        let mut group = c.benchmark_group(format!("turn: http {depth}"));
        group.throughput(Throughput::Elements(depth as u64));
        let site = Site::new();
        through_the_reactor(&mut group, move || Http::new(site.clone()), &requests, &responses);
        through_the_floor(&mut group, Some(responses.clone()), &requests, &responses);
        group.finish();
    }
}

fn through_the_reactor<P: Protocol + 'static>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    make: impl Fn() -> P + 'static,
    message: &[u8],
    reply: &[u8],
) {
    let (mut reactor, address) = listening(make);
    let mut peer = connect(address, source(0)).expect("it listens");
    time_turns(&mut reactor, |stats| stats.connections == 1);
    exchange(group, "reactor", &mut peer, message, reply, || {
        let before = reactor.stats().bytes_out;
        reactor.turn(Some(TIMEOUT)).expect("the poll works");
        reactor.stats().bytes_out - before
    });
}

fn through_the_floor(
    group: &mut BenchmarkGroup<'_, WallTime>,
    prepared: Option<Vec<u8>>,
    message: &[u8],
    reply: &[u8],
) {
    let (listener, address) = bare_listener();
    let mut peer = connect(address, source(0)).expect("it listens");
    let mut baseline = Baseline::new(accept_bare(&listener), prepared);
    exchange(group, "baseline", &mut peer, message, reply, || baseline.turn());
}

/// Sends `message`, runs turns until the kernel has the whole reply, and reads it. `turn` returns
/// how many bytes of it were sent.
fn exchange(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    peer: &mut TcpStream,
    message: &[u8],
    reply: &[u8],
    mut turn: impl FnMut() -> u64,
) {
    let mut received = vec![0; reply.len()];
    group.bench_function(name, |b| {
        b.iter_custom(|exchanges| {
            let mut spent = Duration::ZERO;
            for _ in 0..exchanges {
                peer.write_all(message).expect("the connection is open");
                let mut left = reply.len() as u64;
                spent += time_until_done(|| {
                    left = left.checked_sub(turn()).expect("there is only one reply");
                    left == 0
                });
                peer.read_exact(&mut received).expect("the reply has been sent");
                // The date in a response may have changed.
                assert!(
                    received == reply || received.ends_with(RESPONSE_END),
                    "the reply is correct"
                );
            }
            spent
        });
    });
}

/// A loop over one stream, and nothing else.
struct Baseline {
    poll: Poll,
    events: Events,
    stream: mio::net::TcpStream,
    buffer: Vec<u8>,
    /// The reply to any input. `None`: it echoes.
    prepared: Option<Vec<u8>>,
}

impl Baseline {
    fn new(mut stream: mio::net::TcpStream, prepared: Option<Vec<u8>>) -> Baseline {
        let poll = Poll::new().expect("a poll can be made");
        poll.registry()
            .register(&mut stream, Token(0), Interest::READABLE)
            .expect("it is not registered yet");
        Baseline {
            poll,
            events: Events::with_capacity(1024),
            stream,
            buffer: vec![0; READ_BYTES_MAX],
            prepared,
        }
    }

    /// Waits, and answers until the socket is empty, which a short read proves. Returns how many
    /// bytes it has sent.
    fn turn(&mut self) -> u64 {
        self.poll.poll(&mut self.events, Some(TIMEOUT)).expect("the poll works");
        let mut sent = 0;
        for _ in &self.events {
            loop {
                let count = match self.stream.read(&mut self.buffer) {
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("read: {error}"),
                };
                let reply = self.prepared.as_deref().unwrap_or(&self.buffer[..count]);
                sent += self.stream.write(reply).expect("the peer has room for the reply") as u64;
                if count < self.buffer.len() {
                    break;
                }
            }
        }
        sent
    }
}

criterion_group!(benches, echo, http);
criterion_main!(benches);
