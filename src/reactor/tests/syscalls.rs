//! Which system calls a connection costs, exactly and in order.
//!
//! `register` is epoll_ctl(2). Throughput depends on these counts, so they change only on purpose.

use super::*;
use crate::http::protocol::Http;
use crate::http::site::Site;

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
    assert_eq!(world.take_calls(), ["poll", "accept", "accept", "poll", "recv", "send", "close"]);
    assert!(world.peer_receives_all(stream).ends_with(b"Hello, World!"));
    world.stop();
}
