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
        let (mut world, streams) = echo_world_with(1);
        world.kernel().faults.accept_error = Some(error);
        let newcomer = world.connect(ECHO, 2);
        world.peer_sends(newcomer, b"May I?");
        let turns = world.run_for(1000);
        assert!(turns <= 20, "{turns} turns in a second: it looks ten times");
        assert!(
            (9..=11).contains(&world.stats().accept_pauses),
            "{} rests",
            world.stats().accept_pauses
        );
        world.peer_sends(streams[0], b"I am in.");
        world.turn();
        assert_eq!(world.peer_receives_all(streams[0]), b"I am in.");
        world.kernel().faults.accept_error = None;
        world.run_for(101);
        assert_eq!(world.peer_receives_all(newcomer), b"May I?", "no new edge has come");
        // And it opens at once when somebody leaves.
        world.kernel().faults.accept_error = Some(error);
        let third = world.connect(ECHO, 3);
        world.run_until_blocked();
        world.kernel().faults.accept_error = None;
        world.kernel().peer_closes(streams[0]);
        world.run_until_blocked();
        assert_eq!(world.stats().accepted, 3);
        world.kernel().peer_closes(newcomer);
        world.kernel().peer_closes(third);
        world.run_until_blocked();
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
        let mut world = echo_world();
        world.kernel().faults.accept_error = Some(error);
        let stream = world.connect(ECHO, 1);
        world.peer_sends(stream, b"Hello");
        world.turn();
        assert_eq!(
            world.stats().accepts_failed,
            ACCEPTS_PER_TURN as u64,
            "errno {error}: each is counted, and the next is tried"
        );
        world.kernel().faults.accept_error = None;
        world.run_for(200);
        assert_eq!(world.peer_receives_all(stream), b"Hello", "errno {error}");
        world.kernel().peer_closes(stream);
        world.run_until_blocked();
        world.stop();
    }
}

#[test]
fn a_listener_that_does_not_listen_any_more_is_closed_and_the_others_serve_on() {
    for error in [errno::EINVAL, errno::EBADF, errno::ENOTSOCK] {
        let mut world = echo_world();
        world.serve(HTTP, |_| Echo::new());
        world.kernel().faults.accept_error = Some(error);
        world.connect(ECHO, 1);
        world.run_until_blocked();
        world.kernel().faults.accept_error = None;
        assert!(
            world.kernel().peer_connects(peer(2), server(ECHO), 1000).is_none(),
            "errno {error}: nobody listens there"
        );
        let stream = world.connect(HTTP, 3);
        world.peer_sends(stream, b"Hello");
        world.run_until_blocked();
        assert_eq!(world.peer_receives_all(stream), b"Hello", "errno {error}");
        world.kernel().peer_closes(stream);
        world.run_until_blocked();
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
        world.peer_sends(stream, b"Good day");
        world.kernel().peer_shuts_down(stream);
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
        assert_eq!(world.peer_receives_all(stream), b"Good day");
    }
    world.stop();
}

#[test]
fn a_connection_that_fails_at_the_door_does_not_keep_out_the_next() {
    let mut world = echo_world();
    world.kernel().faults.failed_accepts = 1000;
    for number in 1..=12 {
        world.connect(ECHO, number);
    }
    world.run_until_blocked();
    assert_eq!(world.stats().accepts_failed, 12);
    world.kernel().faults.failed_accepts = 0;
    let stream = world.connect(ECHO, 13);
    world.peer_sends(stream, b"At last");
    world.turn();
    world.turn();
    assert_eq!(world.peer_receives_all(stream), b"At last");
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}

#[test]
fn who_cannot_be_watched_is_closed_and_counted() {
    let mut world = echo_world();
    world.kernel().faults.failed_registrations = 1000;
    let descriptors = world.kernel().descriptors_open();
    let stream = world.connect(ECHO, 1);
    world.run_until_blocked();
    assert_eq!((world.stats().accepts_failed, world.stats().connections), (1, 0));
    assert!(matches!(world.close_reason_of(1), Some(CloseReason::Io(_))));
    assert_eq!(world.kernel().descriptors_open(), descriptors, "its descriptor is closed");
    assert_eq!(world.peer_receives_end(stream), PeerReceived::Fin);
    world.stop();
}
