//! What do deadlines cost: those that are filed, and those that come?
//!
//! The table of deadlines is not public, so both are measured as a user meets them, over loopback.
//!
//! - `a turn beside idle connections`, 0, 1,000 and 8,000 of them: one connection has 64 bytes echoed while the others
//!   only lie there, each with its deadline filed. Timed are the server's turns until the echo is with the kernel. The
//!   three must be equal within the noise: a turn costs for who is active, not for who is there.
//! - `all expire`: 5,000 connections become idle for too long, all at once. Timed are the server's turns from then until
//!   the last is closed, at most 256 a turn. The time given is that of one connection. `floor` closes as many plain
//!   sockets, each registered with a poll as ours are. This close(2) is nearly all of it; `reactor` less floor is what it
//!   costs to find who is late, ask whether it really is, and free its slot.
//!
//! The peers' ends are in this process too, which so needs 16,200 descriptors. It raises its limit where it may.

mod common;

use std::env;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group};
use mio::{Interest, Poll, Token};
use mio_reactor::{Echo, Limits, Reactor};

use common::{LOOPBACK, NO_ROOM, PATIENCE, advice, connect, once_more, source, time_until_done};

const IDLE_MAX: usize = 8_000;
const DESCRIPTORS: usize = 2 * IDLE_MAX + 200;
const EXPIRING: usize = 5_000;

/// How soon those expire that do, in milliseconds. All of them have to be connected within that time.
const EXPIRING_MS: u64 = 2_000;

/// So late that it does not come while we measure.
const NOT_TODAY_MS: u64 = 24 * 60 * 60 * 1000;

const MESSAGE: [u8; 64] = [b'x'; 64];

fn a_turn_beside_idle_connections(c: &mut Criterion) {
    let mut group = c.benchmark_group("deadlines: a turn beside idle connections");
    for count in [0, 1_000, IDLE_MAX] {
        let (mut reactor, address) = echoing(NOT_TODAY_MS);
        let mut active = open(&mut reactor, address, 1).remove(0);
        let idle = open(&mut reactor, address, count);
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_custom(|exchanges| {
                let mut spent = Duration::ZERO;
                for _ in 0..exchanges {
                    active.write_all(&MESSAGE).expect("the connection is open");
                    let target = reactor.stats().bytes_out + MESSAGE.len() as u64;
                    spent += time_until_done(|| {
                        reactor.turn(Some(PATIENCE)).expect("the poll works");
                        reactor.stats().bytes_out == target
                    });
                    let mut echo = [0; MESSAGE.len()];
                    active.read_exact(&mut echo).expect("the echo has been sent");
                    assert_eq!(echo, MESSAGE, "an echo is what was sent");
                }
                spent
            });
        });
        assert_eq!(reactor.stats().connections, 1 + count, "nobody has left meanwhile");
        drop(idle);
    }
    group.finish();
}

fn all_expire(c: &mut Criterion) {
    let mut group = c.benchmark_group("deadlines: all expire");
    // Each sample has thousands of connections to open, and then to wait for.
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let share = u32::try_from(EXPIRING).expect("it is a few thousand");
    group.bench_function("reactor", |b| {
        b.iter_custom(|times| (0..times).map(|_| time_to_expire()).sum::<Duration>() / share);
    });
    group.bench_function("floor", |b| {
        b.iter_custom(|times| (0..times).map(|_| time_to_close()).sum::<Duration>() / share);
    });
    group.finish();
}

fn time_to_expire() -> Duration {
    let (mut reactor, address) = echoing(EXPIRING_MS);
    let peers = open(&mut reactor, address, EXPIRING);
    assert_eq!(
        reactor.stats().deadlines_expired,
        0,
        "all were connected before the first was late"
    );
    thread::sleep(Duration::from_millis(EXPIRING_MS + 10));
    let spent = time_until_done(|| {
        // It does not sleep, though it need not: what is measured is the work.
        reactor.turn(Some(Duration::ZERO)).expect("the poll works");
        reactor.stats().connections == 0
    });
    assert_eq!(reactor.stats().deadlines_expired, EXPIRING as u64, "each was looked at once");
    drop(peers);
    spent
}

fn time_to_close() -> Duration {
    let poll = Poll::new().expect("a poll can be made");
    let listener = TcpListener::bind(LOOPBACK).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let pairs = (0..EXPIRING).map(|number| {
        let peer = connect(address, source(number)).expect("it listens");
        let (stream, _) = listener.accept().expect("the peer has connected");
        stream.set_nonblocking(true).expect("the socket is open");
        let mut stream = mio::net::TcpStream::from_std(stream);
        poll.registry()
            .register(&mut stream, Token(number), Interest::READABLE)
            .expect("it is not registered yet");
        (peer, stream)
    });
    let (peers, streams): (Vec<TcpStream>, Vec<mio::net::TcpStream>) = pairs.unzip();
    let begun = Instant::now();
    drop(streams);
    let spent = begun.elapsed();
    drop(peers);
    spent
}

fn echoing(idle_timeout_ms: u64) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new(Limits {
        first_byte_timeout_ms: idle_timeout_ms,
        idle_timeout_ms,
        ..Limits::default()
    })
    .expect("a poll can be made");
    let address = reactor.listen(LOOPBACK.into(), |_| Echo::new()).expect("a port is free");
    (reactor, address)
}

/// Opens so many connections, and returns the peers' ends when all are accepted.
fn open(reactor: &mut Reactor, address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut peers = Vec::with_capacity(count);
    while peers.len() < count {
        let target = reactor.stats().connections + 1;
        peers.push(connect(address, source(peers.len())).expect("it listens"));
        time_until_done(|| {
            reactor.turn(Some(PATIENCE)).expect("the poll works");
            reactor.stats().connections == target
        });
    }
    peers
}

criterion_group!(benches, a_turn_beside_idle_connections, all_expire);

fn main() -> io::Result<()> {
    const HAS_ROOM: &str = "REACTOR_BENCH_HAS_ROOM";
    if env::var_os(HAS_ROOM).is_some() {
        benches();
        Criterion::default().configure_from_args().final_summary();
        return Ok(());
    }
    let status = once_more(DESCRIPTORS, env::args_os().skip(1))?.env(HAS_ROOM, "1").status()?;
    match status.code() {
        Some(0) => Ok(()),
        Some(NO_ROOM) => writeln!(io::stdout(), "what_do_deadlines_cost: {}", advice(DESCRIPTORS)),
        _ => Err(io::Error::other(format!("ended with {status}"))),
    }
}
