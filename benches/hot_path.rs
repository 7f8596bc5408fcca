//! What does one exchange cost: in the protocol and its connection alone, and in a whole turn over a real socket?
//!
//! The first group has no socket and no system call: it is the part that is ours. The second adds the kernel's part, which
//! is nearly all of it.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use reactor::{Echo, Http, Limits, Protocol, Reactor, Rehearsal, Site};

const REQUEST: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const ANSWER_END: &[u8] = b"Hello, World!";

fn without_sockets(c: &mut Criterion) {
    let mut group = c.benchmark_group("without sockets");
    for size in [64, 65_536] {
        let message = vec![b'x'; size];
        let mut echo = Rehearsal::of(Echo::new());
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("echo", size), |b| {
            b.iter(|| {
                echo.peer_sends(black_box(&message));
                echo.peer_forgets();
            });
        });
    }
    for depth in [1, 16] {
        let requests = REQUEST.repeat(depth);
        let mut http = Rehearsal::of(Http::new(Site::new()));
        group.throughput(Throughput::Elements(depth as u64));
        group.bench_function(BenchmarkId::new("http, pipelined", depth), |b| {
            b.iter(|| {
                http.peer_sends(black_box(&requests));
                http.peer_forgets();
            });
        });
    }
    group.finish();
}

fn a_turn_over_a_socket(c: &mut Criterion) {
    let mut group = c.benchmark_group("a turn over a socket");
    let echo_message = [b'x'; 64];
    exchange(&mut group, "echo 64", Echo::new, &echo_message, &echo_message);
    let site = Site::new();
    exchange(&mut group, "http", move || Http::new(site.clone()), REQUEST, ANSWER_END);
    group.finish();
}

/// Sends `message`, takes turns until the reply is there, and reads it to its `end`.
fn exchange<P: Protocol + 'static>(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    name: &str,
    make: impl Fn() -> P + 'static,
    message: &[u8],
    end: &[u8],
) {
    let mut reactor = Reactor::new(Limits::default()).expect("a poll can be made");
    let address = reactor.listen(([127, 0, 0, 1], 0).into(), move |_| make()).expect("a port is free");
    let mut peer = TcpStream::connect(address).expect("it listens");
    peer.set_nodelay(true).expect("the socket is open");
    peer.set_read_timeout(Some(Duration::from_secs(5))).expect("the time is not zero");
    let mut reply = [0; 4096];
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |b| {
        b.iter(|| {
            let sent_before = reactor.stats().bytes_out;
            peer.write_all(message).expect("it reads");
            while reactor.stats().bytes_out == sent_before {
                reactor.turn(Some(Duration::from_secs(5))).expect("the poll works");
            }
            let count = peer.read(&mut reply).expect("it answers");
            assert!(reply[..count].ends_with(end), "the reply is whole");
        });
    });
}

criterion_group!(benches, without_sockets, a_turn_over_a_socket);
criterion_main!(benches);
