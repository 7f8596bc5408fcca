//! Which system calls a connection costs, exactly and in order.
//!
//! `register` is epoll_ctl(2). Throughput depends on these counts, so they change only on purpose.

use super::*;
use crate::http::protocol::Http;
use crate::http::site::Site;
use crate::overload_limits::FAST_READER_MS;

const ECHO: u16 = 2000;
const HTTP: u16 = 8080;

#[test]
fn echo_costs_poll_recv_and_send_and_one_registration() {
    let mut world = echo_world();
    world.run_until_blocked();
    world.take_calls();
    let stream = world.connect(ECHO, 1);
    world.peer_sends(stream, b"hello");
    world.turn();
    assert_eq!(world.take_calls(), ["poll", "accept", "accept"]);
    world.turn();
    assert_eq!(world.take_calls(), ["poll", "recv", "send", "register"]);
    for _ in 0..100 {
        world.peer_sends(stream, b"hello again");
        world.turn();
        assert_eq!(world.take_calls(), ["poll", "recv", "send"]);
    }
    world.kernel().peer_closes(stream);
    world.turn();
    assert_eq!(world.take_calls(), ["poll", "recv", "close"]);
    world.stop();
}

#[test]
fn request_that_arrives_with_its_connection_needs_no_epoll_ctl() {
    let mut world = World::without_faults();
    world.serve(HTTP, |_| Http::new(Site::new()));
    world.run_until_blocked();
    world.take_calls();
    let stream = world.connect(HTTP, 1);
    world.peer_sends(stream, b"GET /plaintext HTTP/1.0\r\n\r\n");
    world.turn();
    world.turn();
    let calls = ["poll", "accept", "accept", "poll", "recv", "send", "shutdown", "close"];
    assert_eq!(world.take_calls(), calls);
    assert!(world.peer_receives_all(stream).ends_with(b"Hello, World!"));
    world.stop();
}

/// The kernel's buffer is bounded for a peer that does not read, and not for one that reads fast:
/// one call each time it has made room.
// pitfall: 196
#[test]
fn kernel_buffer_is_unbounded_only_for_a_peer_that_makes_room_soon() {
    let mut world = echo_world();
    let stream = world.kernel().peer_connects(peer(1), server(ECHO), 10_000).unwrap();
    let mut calls_after = |ms| {
        world.peer_sends(stream, &[b'x'; 25_000]); // more than fits until the peer reads
        world.run_until_blocked();
        world.run_for(ms);
        world.take_calls();
        world.peer_receives_all(stream);
        world.turn();
        let calls = world.take_calls();
        while !world.peer_receives_all(stream).is_empty() {
            world.run_until_blocked();
        }
        calls
    };
    assert_eq!(calls_after(FAST_READER_MS - 10), ["poll", "unbound_unsent", "send"]);
    assert_eq!(calls_after(FAST_READER_MS + 10), ["poll", "bound_unsent", "send"]);
    // Only room lifts the bound, and not a byte of a peer that reads nothing.
    world.peer_sends(stream, &[b'x'; 25_000]);
    world.run_until_blocked();
    world.take_calls();
    world.peer_sends(stream, b"x");
    world.turn();
    assert!(!world.take_calls().contains(&"unbound_unsent"));
    while !world.peer_receives_all(stream).is_empty() {
        world.run_until_blocked();
    }
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}
