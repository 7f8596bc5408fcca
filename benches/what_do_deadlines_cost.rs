//! What do deadlines cost: those that are only filed, and those that expire?
//!
//! The table of deadlines is not public, so both are measured through connections over loopback.
//!
//! - `a turn beside idle connections`, 0, 1,000 and 8,000 of them: one connection has 64 bytes
//!   echoed while the others are idle, each with its deadline filed. The server's turns are timed
//!   until the kernel has the echo. The three figures must be equal within the noise: the cost of a
//!   turn depends on the active connections, not on the open ones.
//! - `all expire`: 5,000 connections reach their idle timeout at once. The server's turns are timed
//!   from then until the last is closed, at most 256 in a turn. The time given is that of one
//!   connection. `baseline` closes as many plain sockets, each registered with a poll as ours are.
//!   This close(2) is nearly all of the time. `reactor` minus `baseline` is the cost to find a due
//!   connection, check its true deadline and free its slot.
//!
//! The peers' sockets are in this process, too, so it needs 16,200 descriptors. It raises its soft
//! limit if the hard limit allows that.

mod common;

use std::env;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group};
use mio::{Interest, Poll, Token};
use mio_reactor::{Echo, Limits, Reactor};

use common::{
    LOOPBACK, TOO_FEW_DESCRIPTORS, accept_bare, advice, bare_listener, connect, is_test,
    rerun_with_descriptors, source, time_turns, time_until_done,
};

/// The sizes of one run.
struct Sizes {
    /// How many idle connections there are beside the active one.
    idle: [usize; 3],
    /// How many connections expire together.
    expiring: usize,
    /// Their idle timeout, in milliseconds. All of them have to be connected within that time.
    expiring_ms: u64,
}

fn sizes() -> Sizes {
    if is_test() {
        Sizes { idle: [0, 10, 100], expiring: 100, expiring_ms: 500 }
    } else {
        Sizes { idle: [0, 1_000, 8_000], expiring: 5_000, expiring_ms: 2_000 }
    }
}

/// An idle timeout that does not expire while we measure.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const MESSAGE: [u8; 64] = [b'x'; 64];

fn a_turn_beside_idle_connections(c: &mut Criterion) {
    let mut group = c.benchmark_group("deadlines: a turn beside idle connections");
    for count in sizes().idle {
        let (mut reactor, address) = echoing(DAY);
        let mut active = open(&mut reactor, address, 1).remove(0);
        let idle = open(&mut reactor, address, count);
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_custom(|exchanges| {
                let mut spent = Duration::ZERO;
                for _ in 0..exchanges {
                    active.write_all(&MESSAGE).expect("the connection is open");
                    let target = reactor.stats().bytes_out + MESSAGE.len() as u64;
                    spent += time_turns(&mut reactor, |stats| stats.bytes_out == target);
                    let mut echo = [0; MESSAGE.len()];
                    active.read_exact(&mut echo).expect("the echo has been sent");
                    assert_eq!(echo, MESSAGE, "an echo is what was sent");
                }
                spent
            });
        });
        assert_eq!(reactor.stats().connections, 1 + count, "no connection has closed meanwhile");
        drop(idle);
    }
    group.finish();
}

fn all_expire(c: &mut Criterion) {
    let mut group = c.benchmark_group("deadlines: all expire");
    // Each sample opens thousands of connections, and waits until they are due.
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let Sizes { expiring, expiring_ms, .. } = sizes();
    let share = u32::try_from(expiring).expect("it is a few thousand");
    group.bench_function("reactor", |b| {
        b.iter_custom(|times| {
            (0..times)
                .map(|_| time_to_expire(expiring, Duration::from_millis(expiring_ms)))
                .sum::<Duration>()
                / share
        });
    });
    group.bench_function("baseline", |b| {
        b.iter_custom(|times| {
            (0..times).map(|_| time_to_close(expiring)).sum::<Duration>() / share
        });
    });
    group.finish();
}

fn time_to_expire(count: usize, idle_timeout: Duration) -> Duration {
    let (mut reactor, address) = echoing(idle_timeout);
    let peers = open(&mut reactor, address, count);
    assert_eq!(reactor.stats().deadlines_expired, 0, "all were connected before the first was due");
    thread::sleep(idle_timeout + Duration::from_millis(10));
    let spent = time_until_done(|| {
        // The turns never sleep, because only the work is measured.
        reactor.turn(Some(Duration::ZERO)).expect("the poll works");
        reactor.stats().connections == 0
    });
    assert_eq!(reactor.stats().deadlines_expired, count as u64, "each was checked once");
    drop(peers);
    spent
}

fn time_to_close(count: usize) -> Duration {
    let poll = Poll::new().expect("a poll can be made");
    let (listener, address) = bare_listener();
    let pairs = (0..count).map(|number| {
        let peer = connect(address, source(number)).expect("it listens");
        let mut stream = accept_bare(&listener);
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

fn echoing(idle_timeout: Duration) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new(
        Limits::default().with_first_byte_timeout(idle_timeout).with_idle_timeout(idle_timeout),
    )
    .expect("a poll can be made");
    let address = reactor.listen(LOOPBACK, |_| Echo::new()).expect("a port is free");
    (reactor, address)
}

/// Opens `count` connections, and returns the peers' sockets when all are accepted.
fn open(reactor: &mut Reactor, address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut peers = Vec::with_capacity(count);
    while peers.len() < count {
        let target = reactor.stats().connections + 1;
        peers.push(connect(address, source(peers.len())).expect("it listens"));
        time_turns(reactor, |stats| stats.connections == target);
    }
    peers
}

criterion_group!(benches, a_turn_beside_idle_connections, all_expire);

fn main() -> io::Result<()> {
    const IS_RERUN: &str = "REACTOR_BENCH_IS_RERUN";
    if is_test() || env::var_os(IS_RERUN).is_some() {
        benches();
        Criterion::default().configure_from_args().final_summary();
        return Ok(());
    }
    let descriptors = 2 * sizes().idle[2] + 200;
    let arguments = env::args_os().skip(1);
    let status = rerun_with_descriptors(descriptors, arguments)?.env(IS_RERUN, "1").status()?;
    match status.code() {
        Some(0) => Ok(()),
        Some(TOO_FEW_DESCRIPTORS) => {
            writeln!(io::stdout(), "what_do_deadlines_cost: {}", advice(descriptors))
        }
        _ => Err(io::Error::other(format!("ended with {status}"))),
    }
}
