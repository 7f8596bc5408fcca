//! What does a reply cost that the kernel takes only in parts, because the peer reads slowly?
//!
//! Measured over loopback, with one connection that stays open. The peer has small socket buffers.
//! It sends one byte, and the server replies with 16 MiB in pieces of 64 KiB: the protocol pauses
//! after each piece, and sends the next in `output_low`. The kernel soon takes only a part of a
//! piece. The rest is kept as output, and the connection waits for EPOLLOUT. Then the peer reads 1
//! MiB, and the server goes on as soon as the kernel reports room. Only the server's part is timed.
//!
//! How to read it. The time is that of the whole reply, most of which is the kernel's copy.
//! `baseline` makes the same writes with mio alone: it waits for room, and writes a prepared piece
//! until `WouldBlock`. `reactor` minus `baseline` is our share: a copy of each piece when the
//! protocol sends it, a copy of what the kernel did not take, and the turns, each of which moves
//! 320 KiB at most.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use mio::{Events, Interest, Poll, Token};
use mio_reactor::{Advance, Context, Next, Protocol};

use common::{
    TIMEOUT, accept_bare, bare_listener, connect_with_buffers, listening, source, time_turns,
};

/// Much more than the kernel takes for a peer that does not read.
const REPLY_BYTES: usize = 16 * 1024 * 1024;

/// What the protocol sends at a time.
static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// What the peer reads at a time, in bytes.
const READ_BYTES: usize = 1024 * 1024;

/// The size of the peer's socket buffers.
const BUFFER_BYTES: usize = 64 * 1024;

/// Answers each byte with the whole reply, piece by piece.
struct LongReply {
    sent: usize,
}

impl LongReply {
    fn send_piece(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(&PIECE);
        self.sent += PIECE.len();
        if self.sent < REPLY_BYTES { Next::Pause } else { Next::Continue }
    }
}

impl Protocol for LongReply {
    fn advance(&mut self, _: &[u8], cx: &mut Context<'_>) -> Advance {
        self.sent = 0;
        Advance::consumed(1).then(self.send_piece(cx))
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.send_piece(cx)
    }
}

fn long_reply(c: &mut Criterion) {
    let mut group = c.benchmark_group("partial write: 16 MiB to a slow reader");
    group.throughput(Throughput::Bytes(REPLY_BYTES as u64));

    let (mut reactor, address) = listening(|| LongReply { sent: 0 });
    let mut peer = connect_with_buffers(address, source(0), BUFFER_BYTES).expect("it listens");
    time_turns(&mut reactor, |stats| stats.connections == 1);
    slow_reader(&mut group, "reactor", &mut peer, || {
        let before = reactor.stats().bytes_out;
        reactor.turn(Some(Duration::ZERO)).expect("the poll works");
        usize::try_from(reactor.stats().bytes_out - before).expect("no more than the reply")
    });

    let (listener, address) = bare_listener();
    let mut peer = connect_with_buffers(address, source(0), BUFFER_BYTES).expect("it listens");
    let mut baseline = Baseline::new(accept_bare(&listener));
    slow_reader(&mut group, "baseline", &mut peer, || baseline.turn());
    group.finish();
}

/// Makes `peer` request a reply, and read a part of it whenever the server can send no more. `turn`
/// returns how many bytes it has sent.
fn slow_reader(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    peer: &mut TcpStream,
    mut turn: impl FnMut() -> usize,
) {
    let mut buffer = vec![0; READ_BYTES];
    group.bench_function(name, |b| {
        b.iter_custom(|replies| {
            let mut spent = Duration::ZERO;
            for _ in 0..replies {
                let give_up = Instant::now() + TIMEOUT;
                peer.write_all(b"x").expect("the connection is open");
                let (mut sent, mut read) = (0, 0);
                while read < REPLY_BYTES {
                    let begun = Instant::now();
                    assert!(begun < give_up, "the reply arrives");
                    loop {
                        let count = turn();
                        sent += count;
                        if count == 0 {
                            break; // the kernel takes no more
                        }
                    }
                    spent += begun.elapsed();
                    assert!(
                        sent < REPLY_BYTES || read > 0,
                        "the kernel takes only a part at first"
                    );
                    let count = READ_BYTES.min(sent - read);
                    peer.read_exact(&mut buffer[..count]).expect("so much was sent");
                    read += count;
                }
            }
            spent
        });
    });
}

/// A loop over one stream, on which it sends the reply.
struct Baseline {
    poll: Poll,
    events: Events,
    stream: mio::net::TcpStream,
    left: usize,
}

impl Baseline {
    fn new(mut stream: mio::net::TcpStream) -> Baseline {
        let poll = Poll::new().expect("a poll can be made");
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut stream, Token(0), interest)
            .expect("it is not registered yet");
        Baseline { poll, events: Events::with_capacity(1024), stream, left: 0 }
    }

    /// Takes the events that are there, and sends what the kernel takes. Returns how much that was.
    fn turn(&mut self) -> usize {
        self.poll.poll(&mut self.events, Some(Duration::ZERO)).expect("the poll works");
        if self.events.is_empty() {
            return 0;
        }
        if self.left == 0 {
            match self.stream.read(&mut [0]) {
                Ok(_) => self.left = REPLY_BYTES,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return 0,
                Err(error) => panic!("read: {error}"),
            }
        }
        let before = self.left;
        while self.left > 0 {
            let offset = (REPLY_BYTES - self.left) % PIECE.len();
            match self.stream.write(&PIECE[offset..]) {
                Ok(count) => self.left -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("write: {error}"),
            }
        }
        before - self.left
    }
}

criterion_group!(benches, long_reply);
criterion_main!(benches);
