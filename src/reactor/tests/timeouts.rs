//! Timers, timeouts and the two clocks.

use super::protocols::Feeder;
use super::*;
use crate::echo::Echo;
use crate::http::protocol::Http;
use crate::http::site::Site;
use crate::limits::EXPIRIES_PER_TURN;

const ECHO: u16 = 2000;
const HTTP: u16 = 8080;

#[test]
fn a_deadline_does_not_outlive_its_connection() {
    let (mut world, streams) = echoing_to(1);
    world.kernel().peer_closes(streams[0]);
    world.live(30_000);
    let second = world.connect(ECHO, 2);
    world.says(second, b"Hello");
    world.settle();
    assert_eq!(world.hears(second), b"Hello");
    world.live(59_000);
    assert_eq!(
        world.ending_of(2),
        None,
        "the first one's minute is over, and its slot has been given to the second"
    );
    world.live(1_001);
    assert_eq!(world.ending_of(2), Some(CloseReason::IdleTimeout));
    assert_eq!(world.hears_at_last(second), Heard::Fin);
    world.stop();
}

#[test]
fn signals_neither_hold_up_a_deadline_nor_bring_it_forward() {
    let mut world = World::calm();
    world.serve(3000, |peer| Feeder::new(peer.port(), 1000));
    let stream = world.connect(3000, 1);
    world.says(stream, &Feeder::order(200, 5));
    world.settle();
    let began_us = world.kernel().now_us();
    world.kernel().faults.interrupted_polls = 900;
    while world.hears(stream).is_empty() {
        world.reactor().turn(None).unwrap();
    }
    let waited_us = world.kernel().now_us() - began_us;
    assert!((200_000..202_000).contains(&waited_us), "{waited_us} us");
    world.kernel().faults.interrupted_polls = 0;
    world.kernel().peer_closes(stream);
    world.settle();
    world.stop();
}

#[test]
fn a_clock_on_the_wall_that_is_set_moves_the_date_and_no_deadline() {
    let mut world = World::calm();
    world.serve(HTTP, |_| Http::new(Site::new()));
    let stream = world.connect(HTTP, 1);
    let date = |world: &mut World| {
        world.says(stream, b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n");
        world.settle();
        let answer = String::from_utf8(world.hears(stream)).unwrap();
        answer.split("Date: ").nth(1).unwrap()[..29].to_string()
    };
    assert_eq!(date(&mut world), "Sat, 28 Feb 2026 23:59:59 GMT");
    world.kernel().wall_us += 86_400_000_000;
    world.live(1000);
    assert_eq!(date(&mut world), "Mon, 02 Mar 2026 00:00:00 GMT", "a day on");
    world.kernel().wall_us -= 2 * 86_400_000_000;
    world.live(1000);
    assert_eq!(date(&mut world), "Sat, 28 Feb 2026 00:00:01 GMT", "two days back");
    world.live(59_999);
    assert_eq!(world.ending_of(1), None);
    world.live(1);
    assert_eq!(world.ending_of(1), Some(CloseReason::IdleTimeout), "a minute after it last spoke");
    world.stop();
}

#[test]
fn the_date_is_that_of_the_answer_however_long_the_body_before_it_took() {
    // RFC 9110 section 6.6.1. Nobody wants the body, so what is to be said is known long before it can be said.
    let mut world = World::calm();
    world.serve(HTTP, |_| Http::new(Site::new()));
    let stream = world.connect(HTTP, 1);
    world.says(stream, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell");
    world.live(31_000);
    world.says(stream, b"o");
    world.settle();
    let answer = String::from_utf8(world.hears(stream)).unwrap();
    assert!(
        answer.contains("\r\nDate: Sun, 01 Mar 2026 00:00:30 GMT\r\n"),
        "half a minute after 23:59:59: {answer}"
    );
    world.stop();
}

#[test]
fn who_speaks_in_time_to_a_loop_that_is_late_is_not_idle() {
    let (mut world, streams) = echoing_to(1);
    world.be_held_up(59_000);
    world.says(streams[0], b"Just in time.");
    world.be_held_up(2_000);
    world.turn();
    assert_eq!(world.hears(streams[0]), b"Just in time.");
    assert_eq!(world.ending_of(1), None);
    world.live(60_001);
    assert_eq!(world.ending_of(1), Some(CloseReason::IdleTimeout));
    world.stop();
}

#[test]
fn a_thousand_deadlines_that_fall_due_together_are_looked_at_in_several_turns() {
    let (mut world, _) = echoing_to(1000);
    world.be_held_up(60_001);
    let mut closed = 0;
    while closed < 1000 {
        world.turn();
        let more = usize::try_from(world.stats().closed).unwrap() - closed;
        assert!((1..=EXPIRIES_PER_TURN).contains(&more), "{more} in one turn");
        closed += more;
    }
    world.stop();
}

#[test]
fn a_head_that_drips_is_refused_when_its_time_is_up() {
    let mut world = World::calm();
    world.serve(HTTP, |_| Http::new(Site::new()));
    let stream = world.connect(HTTP, 1);
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n";
    for byte in &head[..usize::try_from(Limits::default().head_timeout_ms / 1000).unwrap()] {
        world.says(stream, &[*byte]);
        world.live(1000);
    }
    world.live(1);
    assert!(world.hears(stream).starts_with(b"HTTP/1.0 408 "));
    world.live(Limits::default().linger_timeout_ms + 1);
    assert_eq!(
        world.ending_of(1),
        Some(CloseReason::Finished),
        "it is not lingered for without end"
    );
    world.stop();
}

#[test]
fn who_drips_while_we_linger_is_left_in_time() {
    let mut world = World::calm();
    world.serve(HTTP, |_| Http::new(Site::new()));
    let stream = world.connect(HTTP, 1);
    world.says(stream, b"Nonsense\r\n\r\n");
    world.settle();
    assert!(world.hears(stream).starts_with(b"HTTP/1.0 400 "));
    for _ in 1..Limits::default().linger_timeout_ms / 100 {
        world.says(stream, b"and more of it");
        world.live(100);
        assert_eq!(world.ending_of(1), None);
    }
    world.live(101);
    assert_eq!(world.ending_of(1), Some(CloseReason::Finished));
    world.stop();
}

/// Found by a schedule: between the two times the loop looked at the connection in every turn, and took them without a pause.
#[test]
fn a_peer_may_be_given_longer_to_read_than_to_speak() {
    let limits = Limits { idle_timeout_ms: 5_000, write_timeout_ms: 20_000, ..Limits::default() };
    let mut world = World::new(1, limits, Faults::default());
    world.serve(ECHO, |_| Echo::new());
    let stream = world.kernel().connect(peer(1), server(ECHO), 100).unwrap();
    world.says(stream, &[7; 1000]);
    let turns = world.live(19_999);
    assert!(turns < 12, "{turns} turns");
    assert_eq!(world.ending_of(1), None);
    world.live(2);
    assert_eq!(world.ending_of(1), Some(CloseReason::WriteTimeout));
    assert_eq!(world.hears_at_last(stream), Heard::Reset);
    world.stop();
}
