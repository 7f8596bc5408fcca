//! How long does a burst of work delay the other connections of a reactor?
//!
//! ```text
//! cargo bench --bench what_does_a_burst_delay            # every case
//! cargo bench --bench what_does_a_burst_delay -- queue   # the case that is named
//! ```
//!
//! - `monitors`: 2,000 connections that all monitor each other, 4 million subscriptions, close
//!   together.
//! - `datagrams`: 200 datagram clients each send 3.9 MiB in their first call.
//! - `queue`: 1,000 connections each have a full read to echo, and then one more sends a byte.
//!
//! How to read the table: `set-up` is the time in milliseconds until the burst can begin, `burst`
//! the time until it is over, in turns and in milliseconds. `longest turn` is the longest time of
//! one turn, which a connection waits that sends meanwhile. In the case `queue` it is the time from
//! that byte to its echo instead, which takes one turn or more. All are times that this thread was
//! running where the system tells them (Linux), so that other processes do not count, and elapsed
//! times elsewhere.
//!
//! Not a Criterion benchmark, because the longest time is asked for, and not the mean. In test mode
//! it runs with a few connections, and prints no figures.

mod common;

use std::cell::RefCell;
use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio_reactor::limits::{DATAGRAM_BYTES_MAX, READ_BYTES_MAX};
use mio_reactor::{
    Advance, ConnectionId, Context, Datagram, DatagramProtocol, Echo, Limits, Next, Protocol,
    Reactor, Replies, Stats,
};

use common::{LOOPBACK, TIMEOUT, connect, is_test, source};

/// Bytes that each datagram client sends: a little less than a socket may keep.
const CLIENT_BYTES: usize = 3_900 * 1024;

/// Time of this thread since it began: running, or elapsed where that is not known.
struct Stopwatch(Instant);

impl Stopwatch {
    fn read(&self) -> Duration {
        fs::read_to_string("/proc/thread-self/schedstat")
            .ok()
            .and_then(|times| times.split(' ').next()?.parse().ok())
            .map_or_else(|| self.0.elapsed(), Duration::from_nanos)
    }
}

/// What a burst has taken.
struct Burst {
    setup: Duration,
    turns: u64,
    total: Duration,
    longest: Duration,
}

/// Runs turns until `is_done`, and returns how many, how long they took, and the longest.
fn run(reactor: &mut Reactor, mut is_done: impl FnMut(&Reactor) -> bool) -> Burst {
    let watch = Stopwatch(Instant::now());
    let begun = watch.read();
    let mut burst =
        Burst { setup: Duration::ZERO, turns: 0, total: Duration::ZERO, longest: Duration::ZERO };
    while !is_done(reactor) {
        let before = watch.read();
        reactor.turn(Some(Duration::from_millis(1))).expect("the poll works");
        burst.longest = burst.longest.max(watch.read() - before);
        burst.turns += 1;
        assert!(watch.0.elapsed() < 12 * TIMEOUT, "the burst has an end");
    }
    burst.total = watch.read() - begun;
    burst
}

fn until(stats: impl Fn(&Stats) -> bool) -> impl FnMut(&Reactor) -> bool {
    move |reactor| stats(reactor.stats())
}

/// Monitors all others once its peer sends a byte.
struct Monitor(Rc<RefCell<Vec<ConnectionId>>>);

impl Protocol for Monitor {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.0.borrow_mut().push(cx.id());
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        self.0.borrow().iter().for_each(|&id| cx.monitor(id));
        cx.send(b"x");
        Advance::consumed(input.len())
    }
}

fn reactor() -> Reactor {
    let limits = Limits::default().with_memory_bytes_max(usize::MAX);
    Reactor::new(limits).expect("a poll can be made")
}

fn connect_all(reactor: &mut Reactor, address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let connect = |number| {
        let peer = connect(address, source(number)).expect("it listens");
        run(reactor, until(|stats| stats.accepted > number as u64));
        peer
    };
    (0..count).map(connect).collect()
}

fn monitors() -> Burst {
    let count = if is_test() { 20 } else { 2_000 };
    let ids = Rc::default();
    let mut reactor = reactor();
    let shared = Rc::clone(&ids);
    let address = reactor.listen(LOOPBACK, move |_| Monitor(Rc::clone(&shared)));
    let mut peers = connect_all(&mut reactor, address.expect("a port is free"), count);
    peers.iter_mut().for_each(|peer| peer.write_all(b"x").expect("the connection is open"));
    let setup = run(&mut reactor, until(|stats| stats.bytes_out == count as u64)).total;
    peers.iter_mut().for_each(|peer| peer.read_exact(&mut [0]).expect("it is answered"));
    drop(peers);
    let mut burst = run(&mut reactor, until(|stats| stats.closed == count as u64));
    // The subscriptions end over the next turns.
    let watch = Stopwatch(Instant::now());
    for _ in 0..20 * count {
        let before = watch.read();
        reactor.turn(Some(Duration::ZERO)).expect("the poll works");
        burst.longest = burst.longest.max(watch.read() - before);
    }
    Burst { setup, ..burst }
}

struct Sender(Rc<RefCell<usize>>);

impl DatagramProtocol for Sender {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        let datagram = vec![b'x'; DATAGRAM_BYTES_MAX];
        (0..CLIENT_BYTES / DATAGRAM_BYTES_MAX).for_each(|_| replies.send(&datagram));
        *self.0.borrow_mut() += 1;
    }

    fn received(&mut self, _: &Datagram<'_>, _: &mut Replies<'_>) {}
}

fn datagrams() -> Burst {
    let count = if is_test() { 3 } else { 200 };
    let mut reactor = reactor();
    let peer = UdpSocket::bind(LOOPBACK).expect("a port is free");
    let address = peer.local_addr().expect("it is bound");
    let opened = Rc::default();
    for _ in 0..count {
        let client = Sender(Rc::clone(&opened));
        reactor.connect_datagram(address, client).expect("it can be connected");
    }
    run(&mut reactor, |_| *opened.borrow() == count)
}

fn queue() -> Burst {
    let count = if is_test() { 20 } else { 1_000 };
    let mut reactor = reactor();
    let address = reactor.listen(LOOPBACK, |_| Echo::new()).expect("a port is free");
    let mut peers = connect_all(&mut reactor, address, count + 1);
    let mut probe = peers.pop().expect("there is one");
    let message = vec![b'x'; READ_BYTES_MAX];
    peers.iter_mut().for_each(|peer| peer.write_all(&message).expect("the kernel takes it"));
    reactor.turn(Some(TIMEOUT)).expect("the poll works");
    probe.write_all(b"x").expect("the connection is open");
    probe.set_nonblocking(true).expect("the socket is open");
    let mut echoed = [0];
    let burst = run(&mut reactor, |_| probe.read(&mut echoed).is_ok());
    Burst { longest: burst.total, ..burst }
}

type Case = (&'static str, fn() -> Burst);

const CASES: [Case; 3] = [("monitors", monitors), ("datagrams", datagrams), ("queue", queue)];

fn main() -> io::Result<()> {
    let mut table = io::stdout();
    if !is_test() {
        writeln!(table, "| burst | set-up (ms) | turns | burst (ms) | longest turn (ms) |")?;
        writeln!(table, "| --- | ---: | ---: | ---: | ---: |")?;
    }
    let named = env::args().skip(1).find(|argument| !argument.starts_with('-'));
    for (name, case) in CASES {
        if named.as_ref().is_some_and(|named| named != name) {
            continue;
        }
        let Burst { setup, turns, total, longest } = case();
        if !is_test() {
            let [setup, total, longest] =
                [setup, total, longest].map(|time| time.as_secs_f64() * 1000.0);
            writeln!(table, "| {name} | {setup:.0} | {turns} | {total:.1} | {longest:.1} |")?;
        }
    }
    Ok(())
}
