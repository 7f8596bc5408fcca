//! One thing at a time: what happens, what the loop does about it, and in how many turns.

use super::protocols::{Feeder, text_of};
use super::*;
use crate::echo::Echo;
use crate::http::protocol::Http;
use crate::http::site::Site;
use crate::limits::{
    ACCEPTS_PER_TURN, EVENTS_PER_TURN, EXPIRIES_PER_TURN, HIGH_WATERMARK_BYTES, READ_BYTES_MAX,
    SOURCE_BYTES_PER_TURN_MAX, TURN_BYTES_MAX,
};
use crate::testing::simulated::errno;
use crate::testing::simulated::stream::{ERROR, HANG_UP, IN, OUT};

const ECHO: u16 = 2000;
const DATAGRAMS: u16 = 2001;
const HTTP: u16 = 8080;

/// A calm world with an echo in it.
fn echoing() -> World {
    let mut world = World::calm();
    world.serve(ECHO, |_| Echo::new());
    world
}

/// The same, with `count` connections that have been accepted and are waited for.
fn echoing_to(count: u16) -> (World, Vec<usize>) {
    let mut world = echoing();
    let streams = (1..=count).map(|number| world.connect(ECHO, number)).collect();
    world.settle();
    (world, streams)
}

/// Where the one connection of `world` has its descriptor.
fn descriptor_of(world: &World, stream: usize) -> usize {
    world.kernel().streams[stream].descriptor.expect("it is open")
}

fn mailbox(world: &World, number: u16) -> SocketAddr {
    world.kernel().open_mailbox(peer(number));
    peer(number)
}

// ---- edges

#[test]
fn all_who_stand_behind_one_edge_are_served() {
    let mut world = echoing();
    let datagrams = world.answer(DATAGRAMS, Echo::new());
    let streams: Vec<usize> = (1..=20).map(|number| world.connect(ECHO, number)).collect();
    let peer = mailbox(&world, 99);
    for (number, &stream) in streams.iter().enumerate() {
        world.says(stream, b"Anybody there?");
        world.kernel().peer_sends_datagram(peer, datagrams, text_of(1, number, number));
    }
    world.turn();
    world.turn(); // who has come in one turn is heard in the next
    for &stream in &streams {
        assert_eq!(world.hears(stream), b"Anybody there?");
        world.kernel().peer_closes(stream);
    }
    for number in 0..20 {
        assert_eq!(world.kernel().take_mail(peer), Some(text_of(1, number, number)));
    }
    world.settle();
    world.stop();
}

#[test]
fn more_newcomers_than_a_budget_are_accepted_without_another_edge() {
    let mut world = echoing();
    let count = u16::try_from(5 * ACCEPTS_PER_TURN).unwrap();
    let streams: Vec<usize> = (1..=count).map(|number| world.connect(ECHO, number)).collect();
    for state in 1..=5 {
        world.turn();
        assert_eq!(
            world.stats().accepted,
            state * ACCEPTS_PER_TURN as u64,
            "a budget in each turn"
        );
    }
    for stream in streams {
        world.kernel().peer_closes(stream);
    }
    world.settle();
    world.stop();
}

#[test]
fn a_crowd_at_the_door_does_not_keep_those_inside_waiting() {
    let (mut world, streams) = echoing_to(1);
    let crowd: Vec<usize> = (2..=2000).map(|number| world.connect(ECHO, number)).collect();
    for _ in 0..10 {
        world.says(streams[0], b"And me?");
        world.turn();
        assert_eq!(world.hears(streams[0]), b"And me?", "in that very turn");
    }
    for stream in crowd.into_iter().chain(streams) {
        world.kernel().peer_closes(stream);
    }
    world.settle();
    world.stop();
}

#[test]
fn a_fin_merged_into_the_edge_of_the_last_bytes_ends_the_connection() {
    let (mut world, streams) = echoing_to(1);
    world.says(streams[0], b"Bye.");
    world.kernel().peer_finishes(streams[0]);
    world.turn();
    assert_eq!(world.hears(streams[0]), b"Bye.");
    world.settle();
    assert_eq!(world.ending_of(1), Some(CloseReason::Finished));
    assert_eq!(world.hears_at_last(streams[0]), Heard::Fin);
    world.stop();
}

#[test]
fn what_lies_behind_an_urgent_mark_is_read_without_another_edge() {
    let (mut world, streams) = echoing_to(1);
    world.says(streams[0], b"before ");
    world.kernel().peer_marks_as_urgent(streams[0]);
    world.says(streams[0], b"behind");
    world.turn();
    assert_eq!(world.hears(streams[0]), b"before behind");
    world.kernel().peer_closes(streams[0]);
    world.settle();
    world.stop();
}

/// Some kernels tell of an error, or of both ends being closed, and of nothing else.
#[test]
fn an_event_of_an_error_or_a_hang_up_alone_ends_the_connection() {
    for bits in [ERROR, HANG_UP, ERROR | HANG_UP, ERROR | OUT] {
        let (mut world, streams) = echoing_to(1);
        let descriptor = descriptor_of(&world, streams[0]);
        world.kernel().streams[streams[0]].fail(errno::ECONNRESET);
        world.kernel().raise_false_alarm(descriptor, bits);
        assert_eq!(world.settle(), 1, "{bits:#x}");
        assert_eq!(world.ending_of(1), Some(CloseReason::PeerReset), "{bits:#x}");
        world.stop();
    }
}

#[test]
fn an_event_for_nothing_costs_one_call_and_ends_nothing() {
    let (mut world, streams) = echoing_to(1);
    world.answer(DATAGRAMS, Echo::new());
    world.settle();
    world.take_calls();
    let (stream, descriptors) = (streams[0], world.kernel().descriptors_open());
    for number in 2..descriptors {
        world.kernel().raise_false_alarm(number, IN);
    }
    world.turn();
    let mut calls = world.take_calls();
    calls.sort_unstable();
    assert!(matches!(calls[..], ["accept", "poll", "recv", "recv_from" | "recvmmsg"]), "{calls:?}");
    world.says(stream, b"Still there?");
    world.turn();
    assert_eq!(world.hears(stream), b"Still there?");
    world.kernel().peer_closes(stream);
    world.settle();
    world.stop();
}

#[test]
fn what_came_during_a_pause_is_heard_after_it_without_another_edge() {
    let mut world = World::calm();
    world.serve(3000, |peer| Feeder::new(peer.port(), 1000));
    let stream = world.connect(3000, 7);
    world.says(stream, &Feeder::order(100, 5));
    world.settle();
    world.says(stream, &Feeder::order(0, 5));
    world.live(99);
    assert_eq!(
        world.hears(stream),
        b"",
        "it still thinks, and the edge of the second order has been told"
    );
    world.live(1);
    assert_eq!(world.hears(stream), text_of(7, 0, 10));
    world.kernel().peer_closes(stream);
    world.settle();
    world.stop();
}

#[test]
fn a_reader_that_makes_room_bit_by_bit_gets_every_byte() {
    let mut world = echoing();
    let stream = world.kernel().connect(peer(1), server(ECHO), 1000).unwrap();
    let bytes = text_of(1, 0, 400_000);
    world.says(stream, &bytes);
    world.settle();
    let left = world.kernel().streams[stream].arrived.len();
    assert!(
        left >= bytes.len() - HIGH_WATERMARK_BYTES - 2 * READ_BYTES_MAX,
        "who does not read is not read: {left} bytes left"
    );
    let mut heard = Vec::new();
    while heard.len() < bytes.len() {
        let more = world.kernel().peer_hears(stream, 900);
        let Heard::Bytes(more) = more else { panic!("{more:?} after {} bytes", heard.len()) };
        heard.extend(more);
        world.settle();
    }
    assert!(heard == bytes);
    world.kernel().peer_closes(stream);
    world.settle();
    world.stop();
}

// ---- ends

/// A protocol that goes on until one of its calls, and ends there.
struct EndsAt {
    call: &'static str,
    how: Next,
}

impl EndsAt {
    fn next(&self, call: &str, otherwise: Next) -> Next {
        if self.call == call { self.how } else { otherwise }
    }
}

impl Protocol for EndsAt {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.set_timer(Duration::from_secs(1));
        self.next("opened", Next::Continue)
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        cx.send(input);
        Advance::consumed(input.len()).then(self.next("advance", Next::Pause))
    }

    fn eof(&mut self, _: &[u8], _: &mut Context<'_>) -> Next {
        self.next("ended", Next::Close)
    }

    fn output_low(&mut self, _: &mut Context<'_>) -> Next {
        self.next("drained", Next::Continue)
    }

    fn timer_expired(&mut self, _: &mut Context<'_>) -> Next {
        self.next("elapsed", Next::Continue)
    }
}

#[test]
fn an_end_from_any_call_is_told_once_and_leaves_nothing() {
    for call in ["opened", "advance", "drained", "elapsed", "ended"] {
        for (how, why) in [
            (Next::Close, CloseReason::Finished),
            (Next::CloseWithoutLinger, CloseReason::Finished),
            (Next::Abort, CloseReason::Aborted),
        ] {
            let mut world = World::calm();
            world.serve(ECHO, move |_| EndsAt { call, how });
            let streams: Vec<usize> = (1..=3).map(|number| world.connect(ECHO, number)).collect();
            for &stream in &streams {
                world.says(stream, b"Hello");
            }
            world.live(1001);
            for &stream in &streams {
                world.kernel().peer_finishes(stream);
            }
            world.live(3000);
            for (number, &stream) in (1..).zip(&streams) {
                assert_eq!(world.ending_of(number), Some(why), "{how:?} in {call}");
                let end = if how == Next::Abort { Heard::Reset } else { Heard::Fin };
                assert_eq!(world.hears_at_last(stream), end, "{how:?} in {call}");
            }
            world.stop();
        }
    }
}

// ---- slots

#[test]
fn a_slot_is_not_given_away_in_the_turn_in_which_it_ends() {
    let (mut world, streams) = echoing_to(2);
    let slots = |world: &World| {
        let slots = &world.reactor.as_ref().unwrap().slots;
        slots
            .iter()
            .filter(|(_, slot)| matches!(slot.source, Source::Connection(..)))
            .map(|(token, _)| token)
            .collect::<Vec<_>>()
    };
    let before = slots(&world);
    // In one batch: the first ends, the second speaks, a third comes.
    world.kernel().peer_closes(streams[0]);
    world.says(streams[1], b"two");
    let third = world.connect(ECHO, 3);
    world.says(third, b"three");
    world.turn();
    let after = slots(&world);
    assert!(!after.contains(&before[0]), "{before:?}, then {after:?}");
    // Then the fourth has the slot and the descriptor of the first.
    let fourth = world.connect(ECHO, 4);
    world.says(fourth, b"four");
    world.turn();
    assert_eq!(slots(&world).len(), 3);
    assert!(slots(&world).contains(&before[0]));
    world.turn();
    assert_eq!(
        [world.hears(streams[1]), world.hears(third), world.hears(fourth)],
        [&b"two"[..], b"three", b"four"]
    );
    for stream in [streams[1], third, fourth] {
        world.kernel().peer_closes(stream);
    }
    world.settle();
    world.stop();
}

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

// ---- calls

#[test]
fn one_echo_after_the_accept_costs_these_calls_and_no_others() {
    let mut world = echoing();
    world.settle();
    world.take_calls();
    let stream = world.connect(ECHO, 1);
    world.says(stream, b"Hello");
    world.turn();
    assert_eq!(world.take_calls(), ["poll", "accept", "accept"]);
    world.turn();
    assert_eq!(world.take_calls(), ["poll", "recv", "send", "watch"]);
    for _ in 0..100 {
        world.says(stream, b"Hello again");
        world.turn();
        assert_eq!(world.take_calls(), ["poll", "recv", "send"]);
    }
    world.kernel().peer_closes(stream);
    world.turn();
    assert_eq!(world.take_calls(), ["poll", "recv", "close"]);
    world.stop();
}

#[test]
fn a_request_that_has_come_with_its_connection_is_never_watched() {
    let mut world = World::calm();
    world.serve(HTTP, |_| Http::new(Site::new()));
    world.settle();
    world.take_calls();
    let stream = world.connect(HTTP, 1);
    world.says(stream, b"GET /plaintext HTTP/1.0\r\n\r\n");
    world.turn();
    world.turn();
    assert_eq!(world.take_calls(), ["poll", "accept", "accept", "poll", "recv", "send", "close"]);
    assert!(world.hears(stream).ends_with(b"Hello, World!"));
    world.stop();
}

// ---- fairness

#[test]
fn a_thousand_who_are_ready_at_once_are_each_served_before_any_is_served_twice() {
    let (mut world, streams) = echoing_to(1000);
    for &stream in &streams {
        world.says(stream, b"First");
    }
    let mut waiting = streams.clone();
    while !waiting.is_empty() {
        let waiting_before = waiting.len();
        world.turn();
        for &stream in &streams {
            let heard = world.hears(stream);
            if !heard.is_empty() {
                world.says(stream, b"Second");
                match waiting.iter().position(|&other| other == stream) {
                    Some(place) => drop(waiting.remove(place)),
                    None => assert!(
                        waiting_before < EVENTS_PER_TURN,
                        "who is served again has waited for everybody else"
                    ),
                }
            }
        }
        assert_eq!(
            waiting_before - waiting.len(),
            waiting_before.min(EVENTS_PER_TURN),
            "each turn serves as many as it may"
        );
    }
    for &stream in &streams {
        world.kernel().peer_closes(stream);
    }
    world.settle();
    world.stop();
}

#[test]
fn an_endless_sender_and_endless_datagrams_keep_nobody_waiting() {
    let (mut world, streams) = echoing_to(101);
    let datagrams = world.answer(DATAGRAMS, Echo::new());
    let flood = vec![7; 2 << 20];
    for _ in 0..10 {
        world.says(streams[0], &flood);
        for _ in 0..1000 {
            world.kernel().peer_sends_datagram(
                peer(999),
                datagrams,
                b"And another thing:".to_vec(),
            );
        }
        for &stream in &streams[1..] {
            world.says(stream, b"Hello");
        }
        let moved_before = world.stats().bytes_in + world.stats().bytes_out;
        world.turn();
        let moved = world.stats().bytes_in + world.stats().bytes_out - moved_before;
        assert!(moved < 2 * SOURCE_BYTES_PER_TURN_MAX, "{moved} bytes in one turn");
        world.hears(streams[0]);
        for &stream in &streams[1..] {
            assert_eq!(world.hears(stream), b"Hello", "in that very turn");
        }
    }
    for stream in streams {
        world.kernel().peer_closes(stream);
    }
    world.settle();
    world.stop();
}

// ---- time

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

// ---- the door

#[test]
fn a_house_without_descriptors_rests_and_opens_again() {
    for error in [errno::EMFILE, errno::ENFILE, errno::ENOBUFS, errno::ENOMEM] {
        let (mut world, streams) = echoing_to(1);
        world.kernel().faults.exhausted = Some(error);
        let newcomer = world.connect(ECHO, 2);
        world.says(newcomer, b"May I?");
        let turns = world.live(1000);
        assert!(turns <= 20, "{turns} turns in a second: it looks ten times");
        assert!(
            (9..=11).contains(&world.stats().accept_pauses),
            "{} rests",
            world.stats().accept_pauses
        );
        world.says(streams[0], b"I am in.");
        world.turn();
        assert_eq!(world.hears(streams[0]), b"I am in.");
        world.kernel().faults.exhausted = None;
        world.live(101);
        assert_eq!(world.hears(newcomer), b"May I?", "no new edge has come");
        // And it opens at once when somebody leaves.
        world.kernel().faults.exhausted = Some(error);
        let third = world.connect(ECHO, 3);
        world.settle();
        world.kernel().faults.exhausted = None;
        world.kernel().peer_closes(streams[0]);
        world.settle();
        assert_eq!(world.stats().accepted, 3);
        world.kernel().peer_closes(newcomer);
        world.kernel().peer_closes(third);
        world.settle();
        world.stop();
    }
}

#[test]
fn an_error_that_concerns_one_connection_ends_neither_the_listener_nor_its_turn() {
    use errno::{
        ECONNABORTED, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENONET, ENOPROTOOPT,
        EOPNOTSUPP, EPERM, EPROTO, ETIMEDOUT,
    };
    const UNKNOWN_ERRNO: i32 = 4000;
    for error in [
        ECONNABORTED,
        EHOSTDOWN,
        EHOSTUNREACH,
        ENETDOWN,
        ENETUNREACH,
        ENONET,
        ENOPROTOOPT,
        EOPNOTSUPP,
        EPERM,
        EPROTO,
        ETIMEDOUT,
        UNKNOWN_ERRNO,
    ] {
        let mut world = echoing();
        world.kernel().faults.exhausted = Some(error);
        let stream = world.connect(ECHO, 1);
        world.says(stream, b"Hello");
        world.turn();
        assert_eq!(
            world.stats().accepts_failed,
            ACCEPTS_PER_TURN as u64,
            "errno {error}: each is counted, and the next is tried"
        );
        world.kernel().faults.exhausted = None;
        world.live(200);
        assert_eq!(world.hears(stream), b"Hello", "errno {error}");
        world.kernel().peer_closes(stream);
        world.settle();
        world.stop();
    }
}

#[test]
fn a_listener_that_does_not_listen_any_more_is_closed_and_the_others_serve_on() {
    for error in [errno::EINVAL, errno::EBADF, errno::ENOTSOCK] {
        let mut world = echoing();
        world.serve(HTTP, |_| Echo::new());
        world.kernel().faults.exhausted = Some(error);
        world.connect(ECHO, 1);
        world.settle();
        world.kernel().faults.exhausted = None;
        assert!(
            world.kernel().connect(peer(2), server(ECHO), 1000).is_none(),
            "errno {error}: nobody listens there"
        );
        let stream = world.connect(HTTP, 3);
        world.says(stream, b"Hello");
        world.settle();
        assert_eq!(world.hears(stream), b"Hello", "errno {error}");
        world.kernel().peer_closes(stream);
        world.settle();
        world.stop();
    }
}

#[test]
fn a_full_house_lets_in_who_waits_as_others_leave() {
    let mut world =
        World::new(1, Limits { connections_max: 2, ..Limits::default() }, Faults::default());
    world.serve(ECHO, |_| Echo::new());
    let streams: Vec<usize> = (1..=50).map(|number| world.connect(ECHO, number)).collect();
    for &stream in &streams {
        world.says(stream, b"Good day");
        world.kernel().peer_finishes(stream);
    }
    let mut turns = 0;
    while world.stats().closed < 50 {
        world.turn();
        turns += 1;
        assert!(
            world.stats().connections <= 2 && turns < 100,
            "{} inside",
            world.stats().connections
        );
    }
    for stream in streams {
        assert_eq!(world.hears(stream), b"Good day");
    }
    world.stop();
}

#[test]
fn a_connection_that_fails_at_the_door_does_not_keep_out_the_next() {
    let mut world = echoing();
    world.kernel().faults.failed_accepts = 1000;
    for number in 1..=12 {
        world.connect(ECHO, number);
    }
    world.settle();
    assert_eq!(world.stats().accepts_failed, 12);
    world.kernel().faults.failed_accepts = 0;
    let stream = world.connect(ECHO, 13);
    world.says(stream, b"At last");
    world.turn();
    world.turn();
    assert_eq!(world.hears(stream), b"At last");
    world.kernel().peer_closes(stream);
    world.settle();
    world.stop();
}

#[test]
fn who_cannot_be_watched_is_closed_and_counted() {
    let mut world = echoing();
    world.kernel().faults.failed_watches = 1000;
    let descriptors = world.kernel().descriptors_open();
    let stream = world.connect(ECHO, 1);
    world.settle();
    assert_eq!((world.stats().accepts_failed, world.stats().connections), (1, 0));
    assert!(matches!(world.ending_of(1), Some(CloseReason::Io(_))));
    assert_eq!(world.kernel().descriptors_open(), descriptors, "its descriptor is closed");
    assert_eq!(world.hears_at_last(stream), Heard::Fin);
    world.stop();
}

// ---- datagrams

#[test]
fn one_peer_that_cannot_be_reached_costs_no_neighbour_its_answer() {
    let errors = [
        errno::EPERM,
        errno::EACCES,
        errno::EINVAL,
        errno::EMSGSIZE,
        errno::ENETUNREACH,
        errno::EHOSTUNREACH,
    ];
    for error in
        errors.into_iter().chain([errno::ENOBUFS, errno::ENOMEM, errno::EIO, errno::EADDRNOTAVAIL])
    {
        for seed in 1..=4 {
            let mut world = World::new(seed, Limits::default(), Faults::default()); // by batches and one by one
            let datagrams = world.answer(DATAGRAMS, Echo::new());
            world.kernel().faults.unreachable = Some((peer(103), error));
            for number in 101..=110 {
                let peer = mailbox(&world, number);
                world.kernel().peer_sends_datagram(peer, datagrams, text_of(number, 0, 20));
            }
            assert_eq!(world.settle(), 1, "errno {error}");
            for number in 101..=110 {
                let answer = (number != 103).then(|| text_of(number, 0, 20));
                assert_eq!(world.kernel().take_mail(peer(number)), answer, "errno {error}");
            }
            assert_eq!((world.stats().datagrams_out, world.stats().datagrams_unsent), (9, 1));
            world.stop();
        }
    }
}

#[test]
fn a_train_that_no_device_cuts_leaves_one_by_one() {
    for seed in 1..=8 {
        let mut world = World::new(
            seed,
            Limits::default(),
            Faults { refuses_trains: true, ..Faults::default() },
        );
        let datagrams = world.answer(DATAGRAMS, Echo::new());
        let peer = mailbox(&world, 1);
        for number in 0..30 {
            world.kernel().peer_sends_datagram(peer, datagrams, text_of(number, 0, 100));
        }
        world.settle();
        for number in 0..30 {
            assert_eq!(world.kernel().take_mail(peer), Some(text_of(number, 0, 100)));
        }
        world.stop();
    }
}

#[test]
fn answers_that_find_no_room_wait_and_leave_in_order() {
    for seed in 1..=4 {
        let mut world = World::new(
            seed,
            Limits::default(),
            Faults { datagram_room: 2_000, ..Faults::default() },
        );
        let datagrams = world.answer(DATAGRAMS, Echo::new());
        let peer = mailbox(&world, 1);
        for number in 0..500 {
            world.kernel().peer_sends_datagram(
                peer,
                datagrams,
                text_of(number, 0, 300 + usize::from(number % 7)),
            );
        }
        world.settle();
        for number in 0..500 {
            assert_eq!(
                world.kernel().take_mail(peer),
                Some(text_of(number, 0, 300 + usize::from(number % 7)))
            );
        }
        world.stop();
    }
}

#[test]
fn neither_port_0_nor_our_own_address_is_answered() {
    let mut world = World::calm();
    let datagrams = world.answer(DATAGRAMS, Echo::new());
    for peer in [peer(0), datagrams] {
        world.kernel().open_mailbox(peer);
        world.kernel().peer_sends_datagram(peer, datagrams, b"Who are you?".to_vec());
        world.settle();
        assert_eq!(world.kernel().take_mail(peer), None);
    }
    assert_eq!(world.stats().datagrams_dropped, 2);
    world.stop();
}

#[test]
fn an_old_datagrams_error_hides_no_new_datagram() {
    for seed in 1..=4 {
        let mut world = World::new(seed, Limits::default(), Faults::default());
        let datagrams = world.answer(DATAGRAMS, Echo::new());
        let peer = mailbox(&world, 1);
        for round in 0..20 {
            world.kernel().report_to_datagrams(datagrams, errno::ECONNREFUSED);
            world.kernel().peer_sends_datagram(peer, datagrams, vec![round; 9]);
            world.settle();
            assert_eq!(world.kernel().take_mail(peer), Some(vec![round; 9]));
        }
        assert_eq!(world.stats().datagram_errors, 20);
        world.stop();
    }
}

#[test]
fn of_very_many_who_move_much_a_turn_serves_as_many_as_it_may() {
    // Four hundred have sent as much as one read brings, and each gets it back. All of that in one turn would keep whoever comes
    // meanwhile waiting for longer than a tenth of a second.
    let (mut world, streams) = echoing_to(400);
    streams.iter().for_each(|&stream| world.says(stream, &vec![b'x'; READ_BYTES_MAX]));
    let of_each = 2 * READ_BYTES_MAX as u64;
    let mut served = vec![0; streams.len()];
    let mut turns = 0;
    while served.iter().any(|&bytes| bytes < READ_BYTES_MAX) {
        let before = world.stats().bytes_moved();
        world.turn();
        let moved = world.stats().bytes_moved() - before;
        assert!(moved < TURN_BYTES_MAX + of_each, "{moved} bytes in turn {turns}");
        for (&stream, served) in streams.iter().zip(&mut served) {
            *served += world.hears(stream).len();
        }
        turns += 1;
    }
    assert!(
        turns <= 2 + (400 * of_each).div_ceil(TURN_BYTES_MAX),
        "{turns} turns: nobody waits for longer than it takes"
    );
    assert!(served.iter().all(|&bytes| bytes == READ_BYTES_MAX));
    for stream in streams {
        world.kernel().fail(stream, errno::ECONNRESET);
    }
    world.settle();
    world.stop();
}

#[test]
fn a_request_that_comes_as_the_loop_is_asked_to_stop_is_answered_although_it_has_to_wait_for_its_turn()
 {
    // Two hundred others use up the turn, in which somebody who has long been quiet is looked at: just then it has asked again, and
    // is not taken for idle.
    let (mut world, streams) = echoing_to(200);
    world.serve(HTTP, |_| Http::new(Site::new()));
    let quiet = world.connect(HTTP, 1000);
    world.live(20_000);
    let request = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";
    world.says(quiet, request);
    world.settle();
    assert!(world.hears(quiet).ends_with(b"Hello, World!"));
    streams.iter().for_each(|&stream| world.says(stream, b"x"));
    world.live(9_995);
    streams.iter().for_each(|&stream| world.says(stream, &vec![b'x'; READ_BYTES_MAX]));
    world.says(quiet, request);
    world.reactor().stop();
    world.be_held_up(10);
    world.turn();
    assert!(world.hears(quiet).is_empty(), "it has been put off");
    world.live(1_000);
    assert!(world.hears(quiet).ends_with(b"Hello, World!"));
    for stream in streams.into_iter().chain([quiet]) {
        world.kernel().fail(stream, errno::ECONNRESET);
    }
    world.live(3_000);
    world.stop();
}
