//! What does a connection cost, from accept to close, with one exchange in between?
//!
//! Measured over loopback. Only the server's part is timed; the peer, in the same thread, does its
//! own part in between.
//!
//! - `http, closed by us`: the peer connects and sends a request with `Connection: close`. Then the
//!   server runs turns until the connection is closed, which is nearly always one turn: epoll_wait,
//!   accept (twice, the second time until `WouldBlock`), recv, send, shutdown, close.
//! - `echo, closed by the peer`: the peer connects and sends 64 bytes, and the server runs turns
//!   until they are echoed. The peer reads them and closes, and the server runs turns until it has
//!   closed, too. Both parts are timed, as one. This connection has to wait, so it is registered
//!   with the poll, once.
//!
//! How to read it. `baseline` is the standard library's accept, read, write and close of the same
//! bytes on blocking sockets that are ready anyway. It has no poll, no parsing and a prepared
//! response, and never more than one connection.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use mio_reactor::{Echo, Http};

use common::site::Site;
use common::{
    LAST_REQUEST, RESPONSE_END, bare_listener, connect, listening, response_to, source, time_turns,
    time_until_done,
};

const MESSAGE: [u8; 64] = [b'x'; 64];

fn closed_by_us(c: &mut Criterion) {
    let mut group = c.benchmark_group("connection: http, closed by us");

    let site = Site::new();
    let (mut reactor, address) = listening(move || Http::new(site.clone()));
    closing_by_us(&mut group, "reactor", address, || {
        let closed_before = reactor.stats().closed;
        time_turns(&mut reactor, |stats| stats.closed > closed_before)
    });

    let (listener, address) = bare_listener();
    let response = response_to(LAST_REQUEST);
    let mut buffer = [0; 65_536];
    closing_by_us(&mut group, "baseline", address, || {
        time_until_done(|| {
            let (mut stream, _) = listener.accept().expect("a peer has connected");
            let length = stream.read(&mut buffer).expect("the peer has sent a request");
            assert_eq!(length, LAST_REQUEST.len(), "a short request arrives whole");
            stream.write_all(&response).expect("the peer has room");
            true
        })
    });
    group.finish();
}

/// Connects, sends a request, calls `serve`, and reads the response to its end. `serve` returns the
/// time that the server took.
fn closing_by_us(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    address: SocketAddr,
    mut serve: impl FnMut() -> Duration,
) {
    let (mut sources, mut response) = ((0..).map(source), Vec::new());
    group.bench_function(name, |b| {
        b.iter_custom(|connections| {
            let connections = sources.by_ref().zip(0..connections);
            let times = connections.map(|(from, _)| {
                let mut peer = connect(address, from).expect("it listens");
                peer.write_all(LAST_REQUEST).expect("the connection is open");
                let time = serve();
                response.clear();
                peer.read_to_end(&mut response).expect("the response has been sent");
                assert!(response.ends_with(RESPONSE_END), "the response is complete");
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
            time_turns(&mut reactor, |stats| stats.bytes_out == echoed)
        }
        Step::Close => {
            closed += 1;
            time_turns(&mut reactor, |stats| stats.closed == closed)
        }
    });

    let (listener, address) = bare_listener();
    let mut open: Option<TcpStream> = None;
    let mut buffer = [0; 65_536];
    closing_by_the_peer(&mut group, "baseline", address, |step| {
        time_until_done(|| {
            match step {
                Step::Echo => {
                    let (mut stream, _) = listener.accept().expect("a peer has connected");
                    let length = stream.read(&mut buffer).expect("the peer has sent a message");
                    stream.write_all(&buffer[..length]).expect("the peer has room");
                    open = Some(stream);
                }
                Step::Close => {
                    let mut stream = open.take().expect("it was accepted in the step before");
                    let length = stream.read(&mut buffer).expect("the peer has closed gracefully");
                    assert_eq!(length, 0, "the peer sends nothing but its FIN");
                }
            }
            true
        })
    });
    group.finish();
}

/// What the server does next.
#[derive(Clone, Copy)]
enum Step {
    /// Accept, and echo the message.
    Echo,
    /// Notice that the peer has closed, and close.
    Close,
}

/// Connects, sends a message, has it echoed, closes, and has the server close. `serve` returns the
/// time that the server's step took.
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

criterion_group!(benches, closed_by_us, closed_by_the_peer);
criterion_main!(benches);
