//! Accepting connections when something is in the way: descriptors, memory, limits, errors.

use super::*;
use crate::echo::Echo;
use crate::limits::ACCEPTS_PER_TURN;
use crate::testing::simulated::errno;

const ECHO: u16 = 2000;
const HTTP: u16 = 8080;

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
