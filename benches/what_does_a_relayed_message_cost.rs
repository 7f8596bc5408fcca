//! What does it cost to send a message from one connection to others, including effects and
//! notifications?
//!
//! Measured over loopback. The sender's peer sends 64 bytes. The sender's protocol queues them for
//! other connections ([`send_to`] or [`send_to_all`]). Then the server runs turns until the kernel
//! has the bytes for all recipients. Only the server's part is timed.
//!
//! - `1 recipient` and `64 recipients`: the message is read in one turn, and its effects put it
//!   into the recipients' output and queue their slots. In the next turn each recipient is driven
//!   and sends its output.
//! - `64 notifications`: the sender sends 64 times to a connection that has closed. Each send is an
//!   effect that is rejected because the connection is closed, and queues a `Closed` notification.
//!   At the last of them the protocol answers its own peer with the message.
//!
//! How to read it. `baseline` does the same system calls with the least that a mio program can do:
//! one poll, one read, and one write for each recipient, without slab, effects or output buffers.
//! For the notifications, `baseline` is an echo by the reactor. There, `reactor` minus `baseline`
//! is the cost of 64 effects and 64 notifications. The time for 64 recipients is the total, not per
//! recipient.
//!
//! [`send_to`]: mio_reactor::Connections::send_to
//! [`send_to_all`]: mio_reactor::Connections::send_to_all

mod common;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use mio::{Events, Interest, Poll, Token};
use mio_reactor::limits::READ_BYTES_MAX;
use mio_reactor::{Advance, ConnectionId, Context, Echo, Next, Notification, Protocol, Reactor};

use common::{
    TIMEOUT, accept_bare, bare_listener, connect, listening, source, time_turns, time_until_done,
};

const MESSAGE: [u8; 64] = [b'x'; 64];
const NOTIFICATIONS: u64 = 64;

/// Sends its input to all connections of the group but itself.
struct Relay {
    group: Rc<RefCell<Vec<ConnectionId>>>,
}

impl Protocol for Relay {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.group.borrow_mut().push(cx.id());
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let own = cx.id();
        match self.group.borrow()[..] {
            [one, other] => cx.connections().send_to(if one == own { other } else { one }, input),
            ref all => {
                cx.connections().send_to_all(all.iter().copied().filter(|id| *id != own), input);
            }
        }
        Advance::consumed(input.len())
    }
}

fn recipients(c: &mut Criterion) {
    for (count, name) in [(1, "1 recipient"), (64, "64 recipients")] {
        let mut group = c.benchmark_group(format!("relayed message: {name}"));
        group.throughput(Throughput::Elements(count as u64));

        let connections = Rc::new(RefCell::new(Vec::new()));
        let (mut reactor, address) = listening(move || Relay { group: Rc::clone(&connections) });
        let mut peers: Vec<TcpStream> = (0..=count)
            .map(|number| {
                let peer = connect(address, source(0)).expect("it listens");
                time_turns(&mut reactor, |stats| stats.connections == number + 1);
                peer
            })
            .collect();
        relay(&mut group, "reactor", &mut peers, || time_until_sent(&mut reactor, count));

        let (listener, address) = bare_listener();
        let (mut peers, streams): (Vec<TcpStream>, Vec<mio::net::TcpStream>) = (0..=count)
            .map(|_| {
                let peer = connect(address, source(0)).expect("it listens");
                (peer, accept_bare(&listener))
            })
            .unzip();
        let mut baseline = Baseline::new(streams);
        relay(&mut group, "baseline", &mut peers, || baseline.time_until_sent());
        group.finish();
    }
}

/// Has the first of `peers` send a message, calls `serve`, and has all others read it. `serve`
/// returns the time that the server took.
fn relay(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    peers: &mut [TcpStream],
    mut serve: impl FnMut() -> Duration,
) {
    group.bench_function(name, |b| {
        b.iter_custom(|messages| {
            let mut spent = Duration::ZERO;
            for _ in 0..messages {
                peers[0].write_all(&MESSAGE).expect("the connection is open");
                spent += serve();
                for peer in &mut peers[1..] {
                    read_message(peer);
                }
            }
            spent
        });
    });
}

fn read_message(peer: &mut TcpStream) {
    let mut received = [0; MESSAGE.len()];
    peer.read_exact(&mut received).expect("the message has been sent");
    assert_eq!(received, MESSAGE, "the message arrives unchanged");
}

/// Runs turns until `count` messages have been sent, and returns how long that took.
fn time_until_sent(reactor: &mut Reactor, count: usize) -> Duration {
    let target = reactor.stats().bytes_out + (count * MESSAGE.len()) as u64;
    time_turns(reactor, |stats| stats.bytes_out == target)
}

/// Sends its input 64 times to a connection that has closed, and answers the last notification
/// about that.
struct SendsToClosed {
    closed: Rc<Cell<Option<ConnectionId>>>,
    notifications: u64,
}

impl Protocol for SendsToClosed {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        if self.closed.get().is_none() {
            self.closed.set(Some(cx.id())); // the first connection, which closes before any message
        }
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let closed = self.closed.get().expect("the first connection has been opened");
        for _ in 0..NOTIFICATIONS {
            cx.connections().send_to(closed, input);
        }
        Advance::consumed(input.len())
    }

    fn notified(
        &mut self,
        _about: ConnectionId,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Next {
        assert_eq!(notification, Notification::Closed, "the recipient has closed");
        self.notifications += 1;
        if self.notifications.is_multiple_of(NOTIFICATIONS) {
            cx.send(&MESSAGE);
        }
        Next::Unchanged
    }
}

fn notifications(c: &mut Criterion) {
    let mut group = c.benchmark_group("relayed message: 64 notifications");
    group.throughput(Throughput::Elements(NOTIFICATIONS));

    let closed = Rc::new(Cell::new(None));
    let (mut reactor, address) =
        listening(move || SendsToClosed { closed: Rc::clone(&closed), notifications: 0 });
    drop(connect(address, source(0)).expect("it listens"));
    time_turns(&mut reactor, |stats| stats.closed == 1);
    let mut peer = connect(address, source(0)).expect("it listens");
    time_turns(&mut reactor, |stats| stats.connections == 1);
    answered(&mut group, "reactor", &mut reactor, &mut peer);

    let (mut reactor, address) = listening(Echo::new);
    let mut peer = connect(address, source(0)).expect("it listens");
    time_turns(&mut reactor, |stats| stats.connections == 1);
    answered(&mut group, "baseline", &mut reactor, &mut peer);
    group.finish();
}

/// Has `peer` send a message, and runs turns until it is answered.
fn answered(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    reactor: &mut Reactor,
    peer: &mut TcpStream,
) {
    group.bench_function(name, |b| {
        b.iter_custom(|messages| {
            let mut spent = Duration::ZERO;
            for _ in 0..messages {
                peer.write_all(&MESSAGE).expect("the connection is open");
                spent += time_until_sent(reactor, 1);
                read_message(peer);
            }
            spent
        });
    });
}

/// Reads from the first stream, and writes to all others.
struct Baseline {
    poll: Poll,
    events: Events,
    streams: Vec<mio::net::TcpStream>,
    buffer: Vec<u8>,
}

impl Baseline {
    fn new(mut streams: Vec<mio::net::TcpStream>) -> Baseline {
        let poll = Poll::new().expect("a poll can be made");
        poll.registry()
            .register(&mut streams[0], Token(0), Interest::READABLE)
            .expect("it is not registered yet");
        let buffer = vec![0; READ_BYTES_MAX];
        Baseline { poll, events: Events::with_capacity(1024), streams, buffer }
    }

    fn time_until_sent(&mut self) -> Duration {
        time_until_done(|| {
            self.poll.poll(&mut self.events, Some(TIMEOUT)).expect("the poll works");
            let count = match self.streams[0].read(&mut self.buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("read: {error}"),
            };
            assert_eq!(count, MESSAGE.len(), "a short message arrives whole");
            for stream in &mut self.streams[1..] {
                let sent = stream.write(&self.buffer[..count]).expect("the peer has room");
                assert_eq!(sent, count, "a short message is sent whole");
            }
            true
        })
    }
}

criterion_group!(benches, recipients, notifications);
criterion_main!(benches);
