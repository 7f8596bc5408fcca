//! What connections ask of each other beside sending: pause, resume, FIN, close, abort; and monitoring.

use super::group::*;
use super::protocols::text_of;
use super::*;
use crate::protocol::notification::Notification;

#[test]
fn who_is_paused_by_another_is_not_heard_until_it_is_resumed() {
    let (mut world, streams, _) = group(
        2,
        |word, members, cx| {
            match word {
                b"p" => cx.pause(members[0]),
                b"r" => cx.resume(members[0]),
                _ => cx.send(word),
            }
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"p");
    world.run_until_blocked();
    world.peer_sends(streams[0], b"abc");
    world.run_until_blocked();
    assert_eq!(
        (world.peer_receives_all(streams[0]), world.kernel().streams[streams[0]].arrived.len()),
        (vec![], 3),
        "not even read"
    );
    world.peer_sends(streams[1], b"r");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[0]), b"abc");
    world.peer_sends(streams[0], b"pd"); // itself, behind which it has read more
    world.run_until_blocked();
    world.peer_sends(streams[1], b"r");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[0]), b"d");
    reset_and_stop(world, &streams);
}

#[test]
fn a_connection_that_has_sent_its_fin_hears_on_and_takes_nothing() {
    let (mut world, streams, log) = group(
        2,
        |word, members, cx| {
            match word {
                b"f" => {
                    cx.send_to(members[0], &text_of(1, 0, 15_000));
                    cx.shutdown_write(members[0]);
                }
                b"s" => cx.send_to(members[0], b"too late"),
                b"" => return Next::Close,
                _ => cx.send_to(members[1], word),
            }
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"fs");
    world.run_until_blocked();
    assert_eq!(
        log.borrow().notifications,
        [(1, 0, Notification::Closed)],
        "from when the FIN was asked for"
    );
    let mut received = world.peer_receives_all(streams[0]);
    assert_eq!(
        world.kernel().peer_receives(streams[0], 1),
        PeerReceived::WouldBlock,
        "it comes behind the rest"
    );
    world.run_until_blocked();
    received.extend(world.peer_receives_all(streams[0]));
    world.run_until_blocked();
    assert!(received == text_of(1, 0, 15_000));
    assert_eq!(world.kernel().peer_receives(streams[0], 1), PeerReceived::Fin);
    world.peer_sends(streams[0], b"On and on");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[1]), b"On and on");
    world.kernel().peer_shuts_down(streams[0]);
    world.run_until_blocked();
    assert_eq!(
        world.close_reason_of(1),
        Some(CloseReason::Finished),
        "both have said all, and it is over at once"
    );
    assert_eq!(world.take_calls().into_iter().filter(|&call| call == "shutdown").count(), 1);
    reset_and_stop(world, &streams[1..]);
}

/// The end of each direction, in either order: whoever has heard the peer's FIN and pauses is there for what others still send.
#[test]
fn a_connection_ends_when_both_directions_have_and_not_before() {
    for ours_comes_first in [true, false] {
        let (mut world, streams, log) = group(
            2,
            |word, members, cx| {
                match word {
                    b"f" => cx.shutdown_write(members[0]),
                    b"r" => cx.resume(members[0]),
                    b"w" => cx.monitor(members[0]),
                    b"" => return Next::Pause,
                    _ => cx.send_to(members[0], word),
                }
                Next::Continue
            },
            |_, _, _| Next::Continue,
        );
        let finish = |world: &mut World, is_ours: bool| {
            if is_ours {
                world.peer_sends(streams[1], b"f");
            } else {
                world.kernel().peer_shuts_down(streams[0]);
            }
            world.run_until_blocked();
        };
        world.peer_sends(streams[1], b"w");
        finish(&mut world, ours_comes_first);
        // To resume who hears nothing more, and to tell it news, ends nothing.
        world.peer_sends(streams[1], b"ra");
        world.run_until_blocked();
        assert_eq!(world.close_reason_of(1), None);
        assert_eq!(
            world.peer_receives_all(streams[0]),
            if ours_comes_first { &b""[..] } else { b"a" }
        );
        finish(&mut world, !ours_comes_first);
        assert_eq!(world.close_reason_of(1), Some(CloseReason::Finished), "at once");
        assert_eq!(log.borrow().notifications.last(), Some(&(1, 0, Notification::Closed)));
        reset_and_stop(world, &streams[1..]);
    }
}

#[test]
fn a_protocol_that_speaks_after_its_fin_ends_its_connection() {
    let (mut world, streams, _) = group(
        1,
        |word, _, cx| {
            match word {
                b"f" => cx.shutdown_write(cx.id()),
                _ => cx.send(word),
            }
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[0], b"af");
    world.run_until_blocked();
    assert_eq!(
        (world.peer_receives_all(streams[0]), world.close_reason_of(1)),
        (b"a".to_vec(), None)
    );
    world.peer_sends(streams[0], b"b");
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::WriteAfterShutdown));
    world.stop();
}

/// Its deadline may come in the very turn in which it is closed, before it has been driven again.
#[test]
fn who_is_closed_in_the_turn_in_which_its_deadline_comes_closes_in_order() {
    let (mut world, streams, _) = group(
        2,
        |_, members, cx| {
            cx.close(members[0]);
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"x");
    world.deschedule(61_000);
    world.run_until_blocked();
    assert_eq!(
        (world.close_reason_of(1), world.peer_receives_end(streams[0])),
        (None, PeerReceived::Fin),
        "it lingers"
    );
    world.kernel().peer_closes(streams[0]);
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::Finished));
    reset_and_stop(world, &streams[1..]);
}

#[test]
fn who_is_aborted_is_reset_whatever_it_was_about_to_do() {
    let (mut world, streams, log) = group(
        5,
        |word, members, cx| {
            match word {
                b"m" => (0..3).for_each(|other| cx.send_to(members[other], &text_of(1, 0, 50_000))),
                b"c" => cx.close(members[1]),
                b"w" => (0..4).for_each(|other| cx.monitor(members[other])),
                b"p" => return Next::Pause,
                b"a" => (0..4).for_each(|other| cx.abort(members[other])),
                _ => {}
            }
            Next::Continue
        },
        unchanged,
    );
    // One listens and much waits, one closes, one has paused, one is idle.
    world.peer_sends(streams[2], b"p");
    world.peer_sends(streams[4], b"wmc");
    world.run_until_blocked();
    world.peer_sends(streams[4], b"a");
    world.run_until_blocked();
    for number in 1..=4 {
        assert_eq!(world.close_reason_of(number), Some(CloseReason::Aborted), "{number}");
    }
    for &stream in &streams[..4] {
        assert_eq!(world.peer_receives_end(stream), PeerReceived::Reset);
    }
    assert_eq!(
        log.borrow().notifications,
        [0, 1, 2, 3].map(|about| (4, about, Notification::Closed))
    );
    // Who has gone is left alone.
    world.peer_sends(streams[4], b"a");
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(5), None);
    reset_and_stop(world, &streams[4..]);
}

#[test]
fn who_watches_is_told_once_of_the_end_and_at_once_if_that_was_before() {
    let (mut world, streams, log) = group(
        3,
        |word, members, cx| {
            if word == b"w" {
                cx.monitor(members[0]);
                cx.monitor(members[0]);
            }
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"w");
    world.run_until_blocked();
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.run_until_blocked();
    assert_eq!(log.borrow().notifications, [(1, 0, Notification::Closed)]);
    world.peer_sends(streams[2], b"w");
    world.run_until_blocked();
    assert_eq!(
        log.borrow().notifications[1..],
        [(2, 0, Notification::Closed), (2, 0, Notification::Closed)],
        "each time that it asks"
    );
    reset_and_stop(world, &streams[1..]);
}
