//! A graceful stop, seen from a connection: what has begun is finished.

use super::*;
use crate::http::protocol::Http;
use crate::http::site::Site;
use crate::limits::READ_BYTES_MAX;
use crate::testing::simulated::errno;

const HTTP: u16 = 8080;

#[test]
fn request_deferred_in_the_first_turn_of_a_stop_is_answered() {
    // 200 connections use up the budget of the turn, so the slot of a quiet one is deferred, with a
    // request that has just arrived. In the same turn the deadline of the quiet one expires. It
    // must not be closed as idle.
    let (mut world, streams) = echo_world_with(200);
    world.serve(HTTP, |_| Http::new(Site::new()));
    let quiet = world.connect(HTTP, 1000);
    world.run_for(20_000);
    let request = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";
    world.peer_sends(quiet, request);
    world.run_until_blocked();
    assert!(world.peer_receives_all(quiet).ends_with(b"Hello, World!"));
    streams.iter().for_each(|&stream| world.peer_sends(stream, b"x"));
    world.run_for(9_995);
    streams.iter().for_each(|&stream| world.peer_sends(stream, &vec![b'x'; READ_BYTES_MAX]));
    world.peer_sends(quiet, request);
    world.reactor().stop();
    world.deschedule(10);
    world.turn();
    assert!(world.peer_receives_all(quiet).is_empty(), "it is deferred to the next turn");
    world.run_for(1_000);
    assert!(world.peer_receives_all(quiet).ends_with(b"Hello, World!"));
    for stream in streams.into_iter().chain([quiet]) {
        world.kernel().fail(stream, errno::ECONNRESET);
    }
    world.run_for(3_000);
    world.stop();
}

#[test]
fn reactor_without_sockets_stops_at_once() {
    for has_run_a_turn in [false, true] {
        let _installed = Installed::new(Kernel::new(1));
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        reactor.stop();
        if has_run_a_turn {
            reactor.turn(None).unwrap();
        }
        assert_eq!(reactor.run().unwrap(), Stopped::Graceful);
    }
}
