//! What does each unit of work cost that the loop charges to its budget?
//!
//! The costs in `src/limits.rs` come from here. Each case does many units of one kind. Only the
//! turns that do them are timed, over loopback, so the kernel's part is in it.
//!
//! - `bytes`: 64 KiB read from a stream and echoed, which moves 128 KiB. The cost is per KiB.
//! - `call`: a notification delivered, whose protocol does nothing, and the `monitor` effect that
//!   caused it.
//! - `effect`: 64 bytes that one connection sends to another one, up to their being sent.
//! - `step`: a call of `output_low` that sends one byte, and the send(2) for it.
//! - `datagram`: a datagram of 64 bytes received, echoed and sent, in batches of 64.
//! - `accept`: a connection accepted, up to its slot in the run queue.
//! - `close`: an idle connection closed by its timeout.

mod common;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use mio_reactor::{
    Advance, ConnectionId, Context, Echo, Limits, Next, Notification, Protocol, Reactor,
};

use common::{LOOPBACK, TIMEOUT, connect, listening, source, time_turns};

fn bytes(group: &mut BenchmarkGroup<'_, WallTime>) {
    const MESSAGE: usize = 64 * 1024;
    let (mut reactor, address) = listening(Echo::new);
    let mut peer = connect(address, source(0)).expect("it listens");
    time_turns(&mut reactor, |stats| stats.connections == 1);
    let (message, mut reply) = (vec![b'x'; MESSAGE], vec![0; MESSAGE]);
    group.throughput(Throughput::Bytes(2 * MESSAGE as u64));
    group.bench_function("bytes", |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                peer.write_all(&message).expect("the connection is open");
                let target = reactor.stats().bytes_out + MESSAGE as u64;
                spent += time_turns(&mut reactor, |stats| stats.bytes_out == target);
                peer.read_exact(&mut reply).expect("it is echoed");
            }
            spent
        });
    });
}

/// Does `UNITS` units at each message of its peer. With `Notifications` it then answers with one
/// byte, with `Effects` never, and with `Steps` it sends `UNITS` bytes one by one.
struct Worker {
    ids: Rc<RefCell<Vec<ConnectionId>>>,
    kind: Kind,
    units_left: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Notifications,
    Effects,
    Steps,
}

const UNITS: u64 = 512;

impl Protocol for Worker {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.ids.borrow_mut().push(cx.id());
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let to = self.ids.borrow()[0];
        self.units_left = UNITS;
        let next = match self.kind {
            Kind::Notifications => {
                (0..UNITS).for_each(|_| cx.monitor(to));
                Next::Continue
            }
            Kind::Effects => {
                (0..UNITS).for_each(|_| cx.connections().send_to(to, &[b'x'; 64]));
                Next::Continue
            }
            Kind::Steps => {
                cx.send(b"x");
                Next::Pause
            }
        };
        Advance::consumed(input.len()).then(next)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.units_left = self.units_left.saturating_sub(1);
        if self.units_left == 0 {
            return Next::Continue;
        }
        cx.send(b"x");
        Next::Pause
    }

    fn notified(&mut self, _: ConnectionId, _: Notification, cx: &mut Context<'_>) -> Next {
        self.units_left = self.units_left.saturating_sub(1);
        if self.units_left == 0 {
            cx.send(b"x");
        }
        Next::Unchanged
    }
}

fn worker(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, kind: Kind) {
    let ids = Rc::new(RefCell::new(Vec::new()));
    let (mut reactor, address) =
        listening(move || Worker { ids: Rc::clone(&ids), kind, units_left: 0 });
    let mut recipient = connect(address, source(0)).expect("it listens");
    time_turns(&mut reactor, |stats| stats.connections == 1);
    let mut sender = connect(address, source(0)).expect("it listens");
    time_turns(&mut reactor, |stats| stats.connections == 2);
    let mut received = Vec::new();
    if kind == Kind::Notifications {
        drop(recipient);
        time_turns(&mut reactor, |stats| stats.connections == 1);
        // The first id now names a closed connection.
        recipient = connect(address, source(0)).expect("it listens");
    }
    group.throughput(Throughput::Elements(UNITS));
    group.bench_function(name, |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                let before = reactor.stats().bytes_out;
                sender.write_all(b"x").expect("the connection is open");
                let (target, reader) = match kind {
                    Kind::Notifications => (1, &mut sender),
                    Kind::Effects => (64 * UNITS, &mut recipient),
                    Kind::Steps => (UNITS, &mut sender),
                };
                spent += time_turns(&mut reactor, |stats| stats.bytes_out == before + target);
                reader.take(target).read_to_end(&mut received).expect("it was sent");
                received.clear();
            }
            spent
        });
    });
}

fn datagram(group: &mut BenchmarkGroup<'_, WallTime>) {
    const COUNT: u64 = 64;
    let mut reactor = Reactor::new(Limits::default()).expect("a poll can be made");
    let address = reactor.bind_datagram(LOOPBACK, Echo::new()).expect("a port is free");
    let peer = UdpSocket::bind(LOOPBACK).expect("a port is free");
    peer.set_read_timeout(Some(TIMEOUT)).expect("it is open");
    peer.connect(address).expect("it is bound");
    let mut reply = [0; 64];
    group.throughput(Throughput::Elements(COUNT));
    group.bench_function("datagram", |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                (0..COUNT).for_each(|_| assert_eq!(peer.send(&[b'x'; 64]).expect("room"), 64));
                let target = reactor.stats().datagrams_out + COUNT;
                spent += time_turns(&mut reactor, |stats| stats.datagrams_out == target);
                (0..COUNT).for_each(|_| assert_eq!(peer.recv(&mut reply).expect("echo"), 64));
            }
            spent
        });
    });
}

fn accept_and_close(group: &mut BenchmarkGroup<'_, WallTime>) {
    const COUNT: usize = 64;
    group.throughput(Throughput::Elements(COUNT as u64));
    let (mut reactor, address) = listening(Echo::new);
    group.bench_function("accept", |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                let peers: Vec<TcpStream> =
                    (0..COUNT).map(|_| connect(address, source(0)).expect("it listens")).collect();
                spent += time_turns(&mut reactor, |stats| stats.connections == COUNT);
                drop(peers);
                time_turns(&mut reactor, |stats| stats.connections == 0);
            }
            spent
        });
    });
    let limits = Limits::default().with_first_byte_timeout(Duration::from_millis(1));
    let mut reactor = Reactor::new(limits).expect("a poll can be made");
    let address = reactor.listen(LOOPBACK, |_| Echo::new()).expect("a port is free");
    group.bench_function("close", |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                let peers: Vec<TcpStream> =
                    (0..COUNT).map(|_| connect(address, source(0)).expect("it listens")).collect();
                let accepted = reactor.stats().accepted + COUNT as u64;
                time_turns(&mut reactor, |stats| stats.accepted == accepted);
                time_turns(&mut reactor, |_| true);
                std::thread::sleep(Duration::from_millis(2));
                spent += time_turns(&mut reactor, |stats| stats.connections == 0);
                drop(peers);
            }
            spent
        });
    });
}

fn costs(c: &mut Criterion) {
    let mut group = c.benchmark_group("unit of work");
    bytes(&mut group);
    worker(&mut group, "call", Kind::Notifications);
    worker(&mut group, "effect", Kind::Effects);
    worker(&mut group, "step", Kind::Steps);
    datagram(&mut group);
    accept_and_close(&mut group);
    group.finish();
}

criterion_group!(benches, costs);
criterion_main!(benches);
