//! What does a protocol cost, with its connection but without any socket?
//!
//! Measured with a `TestConnection`: the connection that the reactor drives, over a transport of
//! two vectors. There is no system call in it, so this is our own part of an exchange. Datagrams
//! have no such transport; they are in `what_does_a_datagram_batch_cost`.
//!
//! How to read it. `reactor` is one exchange: the peer's bytes arrive, are read, fed to the
//! protocol and answered, and the reply is discarded. Beside it:
//!
//! - `baseline` for echo: the same bytes copied once, which is the least that a reply can cost.
//! - `three copies` for echo in bulk: a `TestConnection` copies each byte when it arrives, when it
//!   is read and when it is sent. Over a socket the kernel does that, so `reactor` should be about
//!   equal to this line.
//! - `baseline` for HTTP: httparse alone on the same requests, and a prepared response copied for
//!   each. It checks no framing, has no date and decides nothing.
//!
//! - `echo 64 in a layer` and `message`: what a layer that changes nothing adds to a message, and
//!   what a message to a protocol costs.
//!
//! - `http answer`: a response at once (`baseline`), promised and given when a message comes
//!   (`later`), and promised and fulfilled (`promise`, without a thread and without a waker).
//!
//! The time given for 16 requests is that of all of them together.

mod common;

use std::any::Any;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mio_reactor::{
    Advance, ContentType, Context, Echo, Http, HttpContext, Layer, Layered, Next, Protocol,
    Request, Responder, Response, TestConnection,
};

use common::site::Site;
use common::{REQUEST, RESPONSE_END, response_to};

/// A message so large that copying it is most of the cost, in bytes.
const BULK: usize = 65_536;

fn echo(c: &mut Criterion) {
    for size in [64, BULK] {
        let message = vec![b'x'; size];
        let mut group = c.benchmark_group(format!("protocol: echo {size}"));
        group.throughput(Throughput::Bytes(size as u64));
        let mut echo = TestConnection::new(Echo::new());
        echo.peer_sends(&message);
        assert_eq!(echo.take_received(), message);
        group.bench_function("reactor", |b| {
            b.iter(|| {
                echo.peer_sends(black_box(&message));
                echo.clear_received();
            });
        });
        let (mut first, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
        group.bench_function("baseline", |b| b.iter(|| copy(&message, &mut first)));
        if size == BULK {
            group.bench_function("three copies", |b| {
                b.iter(|| {
                    copy(&message, &mut first);
                    copy(&first, &mut second);
                    copy(&second, &mut third);
                });
            });
        }
        group.finish();
    }
}

/// A layer that changes nothing.
struct Identity;

impl Layer for Identity {}

/// `baseline` has no layer, so `reactor` minus `baseline` is the cost of one.
fn layer(c: &mut Criterion) {
    let message = vec![b'x'; 64];
    let mut group = c.benchmark_group("protocol: echo 64 in a layer");
    let mut layered = TestConnection::new(Layered::new(Identity, Echo::new()));
    let mut plain = TestConnection::new(Echo::new());
    for (name, connection) in [("reactor", &mut layered), ("baseline", &mut plain)] {
        connection.peer_sends(&message);
        assert_eq!(connection.take_received(), message);
        group.bench_function(name, |b| {
            b.iter(|| {
                connection.peer_sends(black_box(&message));
                connection.clear_received();
            });
        });
    }
    group.finish();
}

/// Sends what it is told, and discards what its peer sends.
struct Told;

impl Protocol for Told {
    fn advance(&mut self, input: &[u8], _cx: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }

    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        if let Ok(number) = message.downcast::<u64>() {
            cx.send(&number.to_be_bytes());
        }
        Next::Unchanged
    }
}

/// A message to the protocol, which sends it on. `baseline` is eight bytes that are echoed.
fn message(c: &mut Criterion) {
    let mut group = c.benchmark_group("protocol: message");
    let mut told = TestConnection::new(Told);
    told.send_message(Box::new(7_u64));
    assert_eq!(told.take_received(), 7_u64.to_be_bytes());
    group.bench_function("reactor", |b| {
        b.iter(|| {
            told.send_message(Box::new(black_box(7_u64)));
            told.clear_received();
        });
    });
    let mut echo = TestConnection::new(Echo::new());
    group.bench_function("baseline", |b| {
        b.iter(|| {
            echo.peer_sends(&black_box(7_u64).to_be_bytes());
            echo.clear_received();
        });
    });
    group.finish();
}

/// Copies in a way that the compiler can neither remove nor merge with another copy.
fn copy(from: &[u8], to: &mut Vec<u8>) {
    to.clear();
    to.extend_from_slice(black_box(from));
    black_box(to);
}

fn http(c: &mut Criterion) {
    for depth in [1, 16] {
        let requests = REQUEST.repeat(depth);
        let mut group = c.benchmark_group(format!("protocol: http {depth}"));
        group.throughput(Throughput::Elements(depth as u64));
        let mut http = TestConnection::new(Http::new(Site::new()));
        http.peer_sends(&requests);
        assert!(http.take_received().ends_with(RESPONSE_END));
        group.bench_function("reactor", |b| {
            b.iter(|| {
                http.peer_sends(black_box(&requests));
                http.clear_received();
            });
        });
        let response = response_to(REQUEST);
        let mut sent = Vec::new();
        group.bench_function("baseline", |b| {
            b.iter(|| parse_and_copy(black_box(&requests), &response, &mut sent));
        });
        assert!(
            sent.is_empty() || sent.len() == depth * response.len(),
            "all requests are answered, unless a filter has skipped the run"
        );
        group.finish();
    }
}

/// Parses one request after the other, and copies the response for each.
fn parse_and_copy(requests: &[u8], response: &[u8], sent: &mut Vec<u8>) {
    sent.clear();
    let mut rest = requests;
    while !rest.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut fields);
        let Ok(httparse::Status::Complete(length)) = request.parse(rest) else {
            panic!("the requests are complete")
        };
        black_box(&request);
        sent.extend_from_slice(response);
        rest = &rest[length..];
    }
    black_box(sent);
}

/// Answers as the path says.
struct Answers;

fn hello() -> Response<'static> {
    Response::ok(ContentType::TEXT, &b"Hello, World!"[..])
}

impl Responder for Answers {
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        match request.path() {
            b"/later" => {
                let own = cx.id();
                cx.connections().send_message(own, ());
                Response::later(Response::DEADLINE_DEFAULT)
            }
            b"/promise" => {
                let (promise, response) = cx.promise(Response::DEADLINE_DEFAULT);
                promise.fulfill(hello);
                response
            }
            _ => hello(),
        }
    }

    fn message_received(
        &mut self,
        _: Box<dyn Any>,
        _: &mut HttpContext<'_, '_>,
    ) -> Option<Response<'_>> {
        Some(hello())
    }
}

/// What it costs to answer late.
fn answer(c: &mut Criterion) {
    let mut group = c.benchmark_group("protocol: http answer");
    for name in ["baseline", "later", "promise"] {
        let request = format!("GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut http = TestConnection::new(Http::new(Answers));
        http.peer_sends(request.as_bytes());
        assert!(http.take_received().ends_with(b"Hello, World!"));
        group.bench_function(name, |b| {
            b.iter(|| {
                http.peer_sends(black_box(request.as_bytes()));
                http.clear_received();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, echo, http, layer, message, answer);
criterion_main!(benches);
