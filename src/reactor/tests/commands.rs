//! Commands between connections: pause, resume, shut down, close, abort and monitor.
//!
//! A command is applied when the call that asked for it is over. To a connection that has closed it
//! does nothing, except that `monitor` is answered at once.

use super::group::*;
use super::protocols::text_of;
use super::*;
use crate::protocol::notification::Notification;
use crate::testing::simulated::errno;

#[test]
fn connection_paused_by_another_is_not_read_until_resumed() {
    let (mut world, streams, _) = group(
        2,
        |byte, members, cx| {
            match byte {
                b"p" => cx.connections().pause(members[0]),
                b"r" => cx.connections().resume(members[0]),
                _ => cx.send(byte),
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
        "a paused connection is not read"
    );
    world.peer_sends(streams[1], b"r");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[0]), b"abc");
    world.peer_sends(streams[0], b"pd"); // it pauses itself, with more input buffered after that
    world.run_until_blocked();
    world.peer_sends(streams[1], b"r");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[0]), b"d");
    reset_and_stop(world, &streams);
}

#[test]
fn connection_after_its_fin_reads_on_and_takes_no_sends() {
    let (mut world, streams, log) = group(
        2,
        |byte, members, cx| {
            match byte {
                b"f" => {
                    cx.connections().send_to(members[0], &text_of(1, 0, 15_000));
                    cx.connections().shutdown_write(members[0]);
                }
                b"s" => cx.connections().send_to(members[0], b"too late"),
                b"" => return Next::Close,
                _ => cx.connections().send_to(members[1], byte),
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
        "it takes no sends once its FIN is requested"
    );
    let mut received = world.peer_receives_all(streams[0]);
    assert_eq!(
        world.kernel().peer_receives(streams[0], 1),
        PeerReceived::WouldBlock,
        "the FIN follows all output"
    );
    world.run_until_blocked();
    received.extend(world.peer_receives_all(streams[0]));
    world.run_until_blocked();
    assert!(received == text_of(1, 0, 15_000));
    assert_eq!(world.kernel().peer_receives(streams[0], 1), PeerReceived::Fin);
    world.peer_sends(streams[0], b"more");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[1]), b"more");
    world.kernel().peer_shuts_down(streams[0]);
    world.run_until_blocked();
    assert_eq!(
        world.close_reason_of(1),
        Some(CloseReason::Finished),
        "both sides are shut down, so it closes without lingering"
    );
    assert_eq!(world.take_calls().into_iter().filter(|&call| call == "shutdown").count(), 1);
    reset_and_stop(world, &streams[1..]);
}

/// The two FINs may come in either order. A connection that pauses at the peer's FIN stays open for
/// what others still send to it.
#[test]
fn connection_closes_once_both_directions_are_shut_down() {
    for our_fin_is_first in [true, false] {
        let (mut world, streams, log) = group(
            2,
            |byte, members, cx| {
                match byte {
                    b"f" => cx.connections().shutdown_write(members[0]),
                    b"r" => cx.connections().resume(members[0]),
                    b"w" => cx.monitor(members[0]),
                    b"" => return Next::Pause,
                    _ => cx.connections().send_to(members[0], byte),
                }
                Next::Continue
            },
            |_, _, _| Next::Continue,
        );
        let shut_down = |world: &mut World, is_ours: bool| {
            if is_ours {
                world.peer_sends(streams[1], b"f");
            } else {
                world.kernel().peer_shuts_down(streams[0]);
            }
            world.run_until_blocked();
        };
        world.peer_sends(streams[1], b"w");
        shut_down(&mut world, our_fin_is_first);
        // Resuming it and notifying it do not end it.
        world.peer_sends(streams[1], b"ra");
        world.run_until_blocked();
        assert_eq!(world.close_reason_of(1), None);
        assert_eq!(
            world.peer_receives_all(streams[0]),
            if our_fin_is_first { &b""[..] } else { b"a" }
        );
        shut_down(&mut world, !our_fin_is_first);
        assert_eq!(world.close_reason_of(1), Some(CloseReason::Finished), "at once");
        assert_eq!(log.borrow().notifications.last(), Some(&(1, 0, Notification::Closed)));
        reset_and_stop(world, &streams[1..]);
    }
}

#[test]
fn write_after_shutdown_ends_the_connection() {
    let (mut world, streams, _) = group(
        1,
        |byte, _, cx| {
            match byte {
                b"f" => {
                    let own = cx.id();
                    cx.connections().shutdown_write(own);
                }
                _ => cx.send(byte),
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

/// Its deadline may expire in the turn in which it is closed, before it is driven again.
#[test]
fn close_in_the_turn_of_the_deadline_is_still_orderly() {
    let (mut world, streams, _) = group(
        2,
        |_, members, cx| {
            cx.connections().close(members[0]);
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
fn aborted_connection_is_reset_whatever_its_state() {
    let (mut world, streams, log) = group(
        5,
        |byte, members, cx| {
            match byte {
                b"m" => (0..3).for_each(|other| {
                    cx.connections().send_to(members[other], &text_of(1, 0, 50_000));
                }),
                b"c" => cx.connections().close(members[1]),
                b"w" => (0..4).for_each(|other| cx.monitor(members[other])),
                b"p" => return Next::Pause,
                b"a" => (0..4).for_each(|other| cx.connections().abort(members[other])),
                _ => {}
            }
            Next::Continue
        },
        unchanged,
    );
    // Member 0 is open with much output, 1 is closing, 2 is paused, 3 is idle.
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
    // Aborting closed connections does nothing.
    world.peer_sends(streams[4], b"a");
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(5), None);
    reset_and_stop(world, &streams[4..]);
}

#[test]
fn monitor_notifies_once_of_a_close_and_at_once_if_already_closed() {
    let (mut world, streams, log) = group(
        3,
        |byte, members, cx| {
            if byte == b"w" {
                cx.monitor(members[0]);
                cx.monitor(members[0]);
            }
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"w");
    world.run_until_blocked();
    world.kernel().fail(streams[0], errno::ECONNRESET);
    world.run_until_blocked();
    assert_eq!(log.borrow().notifications, [(1, 0, Notification::Closed)]);
    world.peer_sends(streams[2], b"w");
    world.run_until_blocked();
    assert_eq!(
        log.borrow().notifications[1..],
        [(2, 0, Notification::Closed), (2, 0, Notification::Closed)],
        "once for each call of monitor()"
    );
    reset_and_stop(world, &streams[1..]);
}

#[test]
fn what_the_reactor_is_asked_for_is_done_in_this_order() {
    let (mut world, streams, log) = group(2, |_, _, _| Next::Continue, unchanged);
    let members = log.borrow().members.clone();
    let mut connections = world.reactor().connections();
    connections.send_to(members[0], b"first, ");
    connections.send_to_all(members.iter().copied(), b"second");
    connections.close(members[0]);
    let late = world.reactor().send_to(members[0], b"late");
    assert_eq!(late, Err(SendError::Closed), "the close was asked for before");
    assert_eq!(world.reactor().send_to(members[1], b", third"), Ok(SendStatus::Accepted));
    world.reactor().connections().abort(members[1]); // for the next turn
    world.turn();
    assert_eq!(world.peer_receives_all(streams[0]), b"first, second");
    assert_eq!(world.peer_receives_end(streams[0]), PeerReceived::Fin);
    assert_eq!(world.peer_receives_end(streams[1]), PeerReceived::Reset);
    world.kernel().peer_closes(streams[0]);
    world.run_until_blocked();
    world.stop();
}
