//! Timers and timeouts: none is early, none is missed, and only the monotonic clock counts.
//!
//! A timeout that seems due may only show that the loop itself is late, so the loop looks for input
//! first. The wall clock moves the `Date` field and nothing else.

use super::protocols::BulkServer;
use super::*;
use crate::echo::Echo;
use crate::http::protocol::Http;
use crate::http::site::Site;

const ECHO: u16 = 2000;
const HTTP: u16 = 8080;

#[test]
fn reused_slot_does_not_inherit_the_old_deadline() {
    let (mut world, streams) = echo_world_with(1);
    world.kernel().peer_closes(streams[0]);
    world.run_for(30_000);
    let second = world.connect(ECHO, 2);
    world.peer_sends(second, b"hello");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(second), b"hello");
    world.run_for(59_000);
    assert_eq!(
        world.close_reason_of(2),
        None,
        "the deadline of the first has passed, and the second has its slot"
    );
    world.run_for(1_001);
    assert_eq!(world.close_reason_of(2), Some(CloseReason::IdleTimeout));
    assert_eq!(world.peer_receives_end(second), PeerReceived::Fin);
    world.stop();
}

// pitfall: 63, 230
#[test]
fn neighbour_of_a_slot_that_expires_keeps_its_own_deadline() {
    let mut world = World::without_faults();
    world.serve(ECHO, |_| Echo::new());
    for peer in [1, 2] {
        let stream = world.connect(ECHO, peer);
        world.peer_sends(stream, b"hello");
        world.run_for(20_000);
    }
    world.run_for(20_001);
    assert_eq!(
        world.close_reason_of(1),
        Some(CloseReason::IdleTimeout),
        "a minute after its bytes"
    );
    assert_eq!(world.close_reason_of(2), None);
    world.run_for(19_990);
    assert_eq!(world.close_reason_of(2), None, "it is looked at early, but does not end early");
    world.run_for(20);
    assert_eq!(world.close_reason_of(2), Some(CloseReason::IdleTimeout));
    world.stop();
}

// pitfall: 14
#[test]
fn interrupted_polls_neither_delay_nor_advance_a_timer() {
    let mut world = World::without_faults();
    world.serve(3000, |peer| BulkServer::new(peer.port(), 1000));
    let stream = world.connect(3000, 1);
    world.peer_sends(stream, &BulkServer::request(200, 5));
    world.run_until_blocked();
    let began_us = world.kernel().now_us();
    world.kernel().faults.interrupted_polls = 900;
    while world.peer_receives_all(stream).is_empty() {
        world.reactor().turn(None).unwrap();
    }
    let waited_us = world.kernel().now_us() - began_us;
    assert!((200_000..202_000).contains(&waited_us), "{waited_us} us");
    world.kernel().faults.interrupted_polls = 0;
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}

// rule: date
#[test]
fn setting_the_wall_clock_changes_the_date_and_no_deadline() {
    let mut world = World::without_faults();
    world.serve(HTTP, |_| Http::new(Site::new()));
    let stream = world.connect(HTTP, 1);
    let date = |world: &mut World| {
        world.peer_sends(stream, b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n");
        world.run_until_blocked();
        let response = String::from_utf8(world.peer_receives_all(stream)).unwrap();
        response.split("Date: ").nth(1).unwrap()[..29].to_string()
    };
    assert_eq!(date(&mut world), "Sat, 28 Feb 2026 23:59:59 GMT");
    world.kernel().wall_us += 86_400_000_000;
    world.run_for(1000);
    assert_eq!(date(&mut world), "Mon, 02 Mar 2026 00:00:00 GMT", "one day forward");
    world.kernel().wall_us -= 2 * 86_400_000_000;
    world.run_for(1000);
    assert_eq!(date(&mut world), "Sat, 28 Feb 2026 00:00:01 GMT", "two days back");
    world.run_for(59_999);
    assert_eq!(world.close_reason_of(1), None);
    world.run_for(1);
    assert_eq!(
        world.close_reason_of(1),
        Some(CloseReason::IdleTimeout),
        "a minute after its last byte"
    );
    world.stop();
}

// rule: date
#[test]
fn date_is_that_of_the_response_even_after_a_slow_request_body() {
    // RFC 9110 section 6.6.1. The body is skipped, so the response is known long before it can be
    // sent.
    let mut world = World::without_faults();
    world.serve(HTTP, |_| Http::new(Site::new()));
    let stream = world.connect(HTTP, 1);
    world.peer_sends(stream, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell");
    world.run_for(31_000);
    world.peer_sends(stream, b"o");
    world.run_until_blocked();
    let response = String::from_utf8(world.peer_receives_all(stream)).unwrap();
    assert!(
        response.contains("\r\nDate: Sun, 01 Mar 2026 00:00:30 GMT\r\n"),
        "half a minute after 23:59:59: {response}"
    );
    world.stop();
}

#[test]
fn input_in_time_for_a_late_loop_prevents_the_idle_timeout() {
    let (mut world, streams) = echo_world_with(1);
    world.deschedule(59_000);
    world.peer_sends(streams[0], b"in time");
    world.deschedule(2_000);
    world.turn();
    assert_eq!(world.peer_receives_all(streams[0]), b"in time");
    assert_eq!(world.close_reason_of(1), None);
    world.run_for(60_001);
    assert_eq!(world.close_reason_of(1), Some(CloseReason::IdleTimeout));
    world.stop();
}

#[test]
fn deadlines_due_together_expire_over_several_turns() {
    let (mut world, _) = echo_world_with(1000);
    world.deschedule(60_001);
    let mut closed = 0;
    while closed < 1000 {
        world.turn();
        let more = usize::try_from(world.stats().closed).unwrap() - closed;
        assert!((1..=EXPIRIES_PER_TURN).contains(&more), "{more} in one turn");
        closed += more;
    }
    world.stop();
}

// rule: timeouts
#[test]
fn dripping_request_head_gets_408_after_the_head_timeout() {
    let mut world = World::without_faults();
    world.serve(HTTP, |_| Http::new(Site::new()));
    let stream = world.connect(HTTP, 1);
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n";
    for byte in &head[..usize::try_from(Limits::default().head_timeout.as_secs()).unwrap()] {
        world.peer_sends(stream, &[*byte]);
        world.run_for(1000);
    }
    world.run_for(1);
    assert!(world.peer_receives_all(stream).starts_with(b"HTTP/1.0 408 "));
    world.run_for(ms(Limits::default().linger_timeout) + 1);
    assert_eq!(world.close_reason_of(1), Some(CloseReason::Finished), "lingering is bounded");
    world.stop();
}

#[test]
fn peer_that_keeps_sending_is_closed_after_the_linger_timeout() {
    let mut world = World::without_faults();
    world.serve(HTTP, |_| Http::new(Site::new()));
    let stream = world.connect(HTTP, 1);
    world.peer_sends(stream, b"Nonsense\r\n\r\n");
    world.run_until_blocked();
    assert!(world.peer_receives_all(stream).starts_with(b"HTTP/1.0 400 "));
    for _ in 1..ms(Limits::default().linger_timeout) / 100 {
        world.peer_sends(stream, b"more");
        world.run_for(100);
        assert_eq!(world.close_reason_of(1), None);
    }
    world.run_for(101);
    assert_eq!(world.close_reason_of(1), Some(CloseReason::Finished));
    world.stop();
}

/// Found by a random schedule: between the two timeouts the connection was due in every turn, so
/// that the loop did not sleep.
#[test]
fn write_timeout_may_exceed_the_idle_timeout() {
    let limits = Limits::default()
        .with_idle_timeout(Duration::from_secs(5))
        .with_write_timeout(Duration::from_secs(20));
    let mut world = World::new(1, limits, Faults::default());
    world.serve(ECHO, |_| Echo::new());
    let stream = world.kernel().peer_connects(peer(1), server(ECHO), 100).unwrap();
    world.peer_sends(stream, &[7; 1000]);
    let turns = world.run_for(19_999);
    assert!(turns < 12, "{turns} turns");
    assert_eq!(world.close_reason_of(1), None);
    world.run_for(2);
    assert_eq!(world.close_reason_of(1), Some(CloseReason::WriteTimeout));
    assert_eq!(world.peer_receives_end(stream), PeerReceived::Reset);
    world.stop();
}
