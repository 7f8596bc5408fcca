//! What an idle connection takes on the heap, to the byte: slot, deadline, protocol and allocator.
//!
//! This test has a process of its own, because it counts all that the process allocates.

// Over poll(2), mio's sockets are larger.
#![cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    feature = "http",
    not(mio_unsupported_force_poll_poll)
))]
// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use mio_reactor::{
    Advance, ContentType, Context, Echo, Http, HttpContext, Limits, Protocol, Reactor, Request,
    Responder, Response,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use common::{TIMEOUT, connect, may_open};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// With the listener just below a power of two, since the slab doubles: hardly a slot is vacant.
const CONNECTIONS: usize = 1020;

/// What a connection may take. In debug builds, a socket of mio's has 12 bytes more, and so a slot
/// 16.
const BYTES_MAX: usize = if cfg!(debug_assertions) { 100 + 16 } else { 100 };

/// A responder with state that all connections share, as most have.
#[derive(Clone)]
struct Site(Rc<String>);

impl Responder for Site {
    fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
        Response::ok(ContentType::TEXT, self.0.as_bytes())
    }
}

/// Answers each input with one byte, and has no state.
struct Dots;

impl Protocol for Dots {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(b".");
        Advance::consumed(input.len())
    }
}

/// Returns the bytes that are allocated now.
fn heap_bytes() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Returns what the allocator of the GNU C library adds to a piece of `bytes`: eight bytes before
/// it, and what makes the whole a multiple of 16, of 32 at least. Nothing has no piece.
fn overhead_bytes(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16).max(32) - bytes }
}

/// Connects, sends `request`, and reads the answer.
fn exchange(reactor: &mut Reactor, address: SocketAddr, request: &[u8]) -> TcpStream {
    let mut peer = connect(address);
    peer.write_all(request).unwrap();
    peer.set_nonblocking(true).unwrap();
    let mut answer = [0; 4096];
    while peer.read(&mut answer).is_err() {
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    peer
}

/// Returns what each of `CONNECTIONS` idle connections takes, in bytes.
fn bytes_each<P: Protocol + 'static>(request: &[u8], make: impl Fn() -> P + 'static) -> usize {
    let mut reactor = Reactor::new(Limits::default().with_idle_timeout(6 * TIMEOUT)).unwrap();
    let address = reactor.listen("127.0.0.1:0", move |_| make()).unwrap();
    let mut peers = Vec::with_capacity(CONNECTIONS);
    drop(exchange(&mut reactor, address, request)); // what is allocated only once
    while reactor.stats().connections > 0 {
        reactor.turn(Some(TIMEOUT)).unwrap();
    }
    let before = heap_bytes();
    peers.extend((0..CONNECTIONS).map(|_| exchange(&mut reactor, address, request)));
    assert_eq!(reactor.stats().connections, CONNECTIONS);
    (heap_bytes() - before).div_ceil(CONNECTIONS) + overhead_bytes(size_of::<P>())
}

// pitfall: 68, 233
#[test]
fn idle_connection_takes_a_hundred_bytes_at_most() {
    if !may_open(2 * CONNECTIONS + 100) {
        return;
    }
    let site = Site(Rc::new("Hello".to_owned()));
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let echo = bytes_each(b"x", Echo::new);
    let http = bytes_each(request, move || Http::new(site.clone()));
    let stateless = bytes_each(b"x", || Dots);
    assert!(
        echo <= BYTES_MAX && http <= BYTES_MAX && stateless + 32 <= BYTES_MAX,
        "echo takes {echo} bytes, HTTP {http}, and a protocol without state {stateless}"
    );
}
