//! What does a connection cost, from accept to close, with one exchange in between?
//!
//! Measured over loopback. Only the server's part is timed: the peer, in the same thread, does its own in between.
//!
//! - `http, closed by us`: the peer connects and sends a request with `Connection: close`. Then the server takes turns
//!   until the connection is closed, which is nearly always one turn: epoll_wait, accept (twice, the second to learn that
//!   there is nobody else), recv, send, close.
//! - `echo, closed by the peer`: the peer connects and sends 64 bytes; the server takes turns until they are echoed. The
//!   peer reads them and closes; the server takes turns until it has noticed and closed too. Both parts are timed, as
//!   one. As this connection has to wait, it is registered with the poll, once.
//!
//! How to read it. `floor` is the standard library's accept, read, write and close of the same bytes on blocking sockets
//! that are ready anyway: no poll, no parsing, a prepared answer, and never more than one connection.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use mio_reactor::{Echo, Http, Limits, Protocol, Reactor, Stats};

use common::site::Site;

use common::{
    ANSWER_END, LAST_REQUEST, LOOPBACK, PATIENCE, answer_to, connect, source, time_until_done,
};

const MESSAGE: [u8; 64] = [b'x'; 64];

fn closed_by_us(c: &mut Criterion) {
    let mut group = c.benchmark_group("connection: http, closed by us");

    let site = Site::new();
    let (mut reactor, address) = listening(move || Http::new(site.clone()));
    closing_by_us(&mut group, "reactor", address, || {
        let closed_before = reactor.stats().closed;
        time_of_turns(&mut reactor, |stats| stats.closed > closed_before)
    });

    let (listener, address) = bare_listener();
    let answer = answer_to(LAST_REQUEST);
    let mut buffer = [0; 65_536];
    closing_by_us(&mut group, "floor", address, || {
        time_until_done(|| {
            let (mut stream, _) = listener.accept().expect("a peer has connected");
            let length = stream.read(&mut buffer).expect("it has sent a request");
            assert_eq!(length, LAST_REQUEST.len(), "a short request arrives whole");
            stream.write_all(&answer).expect("it reads");
            true
        })
    });
    group.finish();
}

/// Connects and sends a request, has it `served`, and reads the answer to its end. `served` returns the time that it took.
fn closing_by_us(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    address: SocketAddr,
    mut served: impl FnMut() -> Duration,
) {
    let (mut sources, mut answer) = ((0..).map(source), Vec::new());
    group.bench_function(name, |b| {
        b.iter_custom(|connections| {
            let connections = sources.by_ref().zip(0..connections);
            let times = connections.map(|(from, _)| {
                let mut peer = connect(address, from).expect("it listens");
                peer.write_all(LAST_REQUEST).expect("the connection is open");
                let time = served();
                answer.clear();
                peer.read_to_end(&mut answer).expect("the answer has been sent");
                assert!(answer.ends_with(ANSWER_END), "the answer is whole");
                time
            });
            times.sum()
        });
    });
}

fn closed_by_the_peer(c: &mut Criterion) {
    let mut group = c.benchmark_group("connection: echo, closed by the peer");

    let (mut reactor, address) = listening(Echo::new);
    let (mut echoed, mut closed) = (0, 0);
    closing_by_the_peer(&mut group, "reactor", address, |step| match step {
        Step::Echo => {
            echoed += MESSAGE.len() as u64;
            time_of_turns(&mut reactor, |stats| stats.bytes_out == echoed)
        }
        Step::Close => {
            closed += 1;
            time_of_turns(&mut reactor, |stats| stats.closed == closed)
        }
    });

    let (listener, address) = bare_listener();
    let mut open: Option<TcpStream> = None;
    let mut buffer = [0; 65_536];
    closing_by_the_peer(&mut group, "floor", address, |step| {
        time_until_done(|| {
            match step {
                Step::Echo => {
                    let (mut stream, _) = listener.accept().expect("a peer has connected");
                    let length = stream.read(&mut buffer).expect("it has sent a message");
                    stream.write_all(&buffer[..length]).expect("it reads");
                    open = Some(stream);
                }
                Step::Close => {
                    let mut stream = open.take().expect("it was accepted in the step before");
                    let length = stream.read(&mut buffer).expect("the peer has closed in order");
                    assert_eq!(length, 0, "the peer has nothing to add");
                }
            }
            true
        })
    });
    group.finish();
}

/// What the server is to do next.
#[derive(Clone, Copy)]
enum Step {
    /// Accept, and echo the message.
    Echo,
    /// Notice that the peer has closed, and close.
    Close,
}

/// Connects and sends a message, has it echoed, closes, and has that followed. `serve` returns the time that its step took.
fn closing_by_the_peer(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    address: SocketAddr,
    mut serve: impl FnMut(Step) -> Duration,
) {
    let mut sources = (0..).map(source);
    group.bench_function(name, |b| {
        b.iter_custom(|connections| {
            let connections = sources.by_ref().zip(0..connections);
            let times = connections.map(|(from, _)| {
                let mut peer = connect(address, from).expect("it listens");
                peer.write_all(&MESSAGE).expect("the connection is open");
                let time = serve(Step::Echo);
                let mut echo = [0; MESSAGE.len()];
                peer.read_exact(&mut echo).expect("the echo has been sent");
                assert_eq!(echo, MESSAGE, "an echo is what was sent");
                drop(peer);
                time + serve(Step::Close)
            });
            times.sum()
        });
    });
}

fn listening<P: Protocol + 'static>(make: impl Fn() -> P + 'static) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new(Limits::default()).expect("a poll can be made");
    let address = reactor.listen(LOOPBACK.into(), move |_| make()).expect("a port is free");
    (reactor, address)
}

fn bare_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(LOOPBACK).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// How long it takes until the reactor `has_done` it.
fn time_of_turns(reactor: &mut Reactor, has_done: impl Fn(&Stats) -> bool) -> Duration {
    time_until_done(|| {
        reactor.turn(Some(PATIENCE)).expect("the poll works");
        has_done(reactor.stats())
    })
}

criterion_group!(benches, closed_by_us, closed_by_the_peer);
criterion_main!(benches);
