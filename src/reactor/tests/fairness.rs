//! Fairness: no source keeps the others waiting.

use super::*;
use crate::echo::Echo;
use crate::limits::{
    ACCEPTS_PER_TURN, EVENTS_PER_TURN, READ_BYTES_MAX, SOURCE_BYTES_PER_TURN_MAX, TURN_BYTES_MAX,
};
use crate::testing::simulated::errno;

const ECHO: u16 = 2000;
const DATAGRAMS: u16 = 2001;

#[test]
fn more_newcomers_than_a_budget_are_accepted_without_another_edge() {
    let mut world = echo_world();
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
    world.run_until_blocked();
    world.stop();
}

#[test]
fn a_crowd_at_the_door_does_not_keep_those_inside_waiting() {
    let (mut world, streams) = echo_world_with(1);
    let crowd: Vec<usize> = (2..=2000).map(|number| world.connect(ECHO, number)).collect();
    for _ in 0..10 {
        world.peer_sends(streams[0], b"And me?");
        world.turn();
        assert_eq!(world.peer_receives_all(streams[0]), b"And me?", "in that very turn");
    }
    for stream in crowd.into_iter().chain(streams) {
        world.kernel().peer_closes(stream);
    }
    world.run_until_blocked();
    world.stop();
}

#[test]
fn a_thousand_who_are_ready_at_once_are_each_served_before_any_is_served_twice() {
    let (mut world, streams) = echo_world_with(1000);
    for &stream in &streams {
        world.peer_sends(stream, b"First");
    }
    let mut waiting = streams.clone();
    while !waiting.is_empty() {
        let waiting_before = waiting.len();
        world.turn();
        for &stream in &streams {
            let received = world.peer_receives_all(stream);
            if !received.is_empty() {
                world.peer_sends(stream, b"Second");
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
    world.run_until_blocked();
    world.stop();
}

#[test]
fn an_endless_sender_and_endless_datagrams_keep_nobody_waiting() {
    let (mut world, streams) = echo_world_with(101);
    let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
    let flood = vec![7; 2 << 20];
    for _ in 0..10 {
        world.peer_sends(streams[0], &flood);
        for _ in 0..1000 {
            world.kernel().peer_sends_datagram(
                peer(999),
                datagrams,
                b"And another thing:".to_vec(),
            );
        }
        for &stream in &streams[1..] {
            world.peer_sends(stream, b"Hello");
        }
        let moved_before = world.stats().bytes_in + world.stats().bytes_out;
        world.turn();
        let moved = world.stats().bytes_in + world.stats().bytes_out - moved_before;
        assert!(moved < 2 * SOURCE_BYTES_PER_TURN_MAX, "{moved} bytes in one turn");
        world.peer_receives_all(streams[0]);
        for &stream in &streams[1..] {
            assert_eq!(world.peer_receives_all(stream), b"Hello", "in that very turn");
        }
    }
    for stream in streams {
        world.kernel().peer_closes(stream);
    }
    world.run_until_blocked();
    world.stop();
}

#[test]
fn of_very_many_who_move_much_a_turn_serves_as_many_as_it_may() {
    // Four hundred have sent as much as one read brings, and each gets it back. All of that in one turn would keep whoever comes
    // meanwhile waiting for longer than a tenth of a second.
    let (mut world, streams) = echo_world_with(400);
    streams.iter().for_each(|&stream| world.peer_sends(stream, &vec![b'x'; READ_BYTES_MAX]));
    let of_each = 2 * READ_BYTES_MAX as u64;
    let mut served = vec![0; streams.len()];
    let mut turns = 0;
    while served.iter().any(|&bytes| bytes < READ_BYTES_MAX) {
        let before = world.stats().bytes_moved();
        world.turn();
        let moved = world.stats().bytes_moved() - before;
        assert!(moved < TURN_BYTES_MAX + of_each, "{moved} bytes in turn {turns}");
        for (&stream, served) in streams.iter().zip(&mut served) {
            *served += world.peer_receives_all(stream).len();
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
    world.run_until_blocked();
    world.stop();
}
