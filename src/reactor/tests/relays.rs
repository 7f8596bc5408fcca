//! Sends between connections: order, ids, limits, watermarks and timeouts.
//!
//! What one connection sends to another waits in the output of that other connection. The sender is
//! notified above the high watermark, below the low one, and when its bytes were not taken.

use super::group::*;
use super::protocols::text_of;
use super::*;
use crate::limits::{HIGH_WATERMARK_BYTES, LOW_WATERMARK_BYTES, OUTPUT_BYTES_MAX};
use crate::protocol::notification::Notification;
use crate::testing::simulated::errno;

#[test]
fn broadcast_reaches_each_in_order_with_one_send_per_turn() {
    let (mut world, streams, log) = group(
        5,
        |byte, members, cx| {
            let own = cx.id();
            let others = members.iter().copied().filter(|&member| member != own);
            cx.connections().send_to_all(others, byte);
            cx.send(b"!");
            Next::Continue
        },
        unchanged,
    );
    for input in [&b"abc"[..], b"d", b"ef"] {
        world.take_calls();
        world.peer_sends(streams[2], input);
        assert_eq!(world.run_until_blocked(), 2, "fed in one turn, relayed in the next");
        let sends = world.take_calls().into_iter().filter(|&call| call == "send").count();
        assert_eq!(sends, 5, "one for each connection, however many bytes");
    }
    for (number, &stream) in streams.iter().enumerate() {
        assert_eq!(
            world.peer_receives_all(stream),
            if number == 2 { &b"!!!!!!"[..] } else { b"abcdef" },
            "member {number}"
        );
    }
    assert_eq!(log.borrow().notifications, [], "success is not notified");
    reset_and_stop(world, &streams);
}

#[test]
fn two_senders_to_one_connection_neither_lose_nor_mix_bytes() {
    let (mut world, streams, _) = group(
        3,
        |byte, members, cx| {
            cx.connections().send_to(members[0], &[byte, byte].concat());
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"aaaa");
    world.peer_sends(streams[2], b"bb");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[0]), b"aaaaaaaabbbb");
    reset_and_stop(world, &streams);
}

#[test]
fn stale_id_does_not_reach_the_connection_in_the_reused_slot() {
    let (mut world, streams, log) = group(
        2,
        |byte, members, cx| {
            cx.connections().send_to(members[0], byte);
            Next::Continue
        },
        unchanged,
    );
    world.kernel().fail(streams[0], errno::ECONNRESET);
    world.run_until_blocked();
    let successor = world.connect(GROUP, 3);
    world.run_until_blocked();
    let (old, new) = (log.borrow().members[0], log.borrow().members[2]);
    assert_eq!(old.slot, new.slot, "the slot is reused");
    world.peer_sends(streams[1], b"x");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(successor), b"", "sent to the id of its predecessor");
    assert_eq!(log.borrow().notifications, [(1, 0, Notification::Closed)]);
    assert_eq!(world.reactor().send_to(old, b"x"), Err(SendError::Closed));
    assert_eq!(world.reactor().send_to(new, b"y"), Ok(SendStatus::Accepted));
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(successor), b"y");
    reset_and_stop(world, &[streams[1], successor]);
}

#[test]
fn closing_connection_sends_its_output_and_takes_no_more() {
    let (mut world, streams, log) = group(
        2,
        |_, members, cx| {
            cx.connections().send_to(members[0], &text_of(1, 0, 30_000));
            cx.connections().close(members[0]);
            cx.connections().send_to(members[0], b"too late");
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"x");
    world.run_until_blocked();
    assert_eq!(log.borrow().notifications, [(1, 0, Notification::Closed)]);
    assert_eq!(world.close_reason_of(1), None, "its peer has not read its output yet");
    let mut received = Vec::new();
    loop {
        match world.kernel().peer_receives(streams[0], 1000) {
            PeerReceived::Bytes(bytes) => received.extend(bytes),
            PeerReceived::WouldBlock => {}
            end @ (PeerReceived::Fin | PeerReceived::Reset) => {
                break assert_eq!(end, PeerReceived::Fin);
            }
        }
        world.run_until_blocked();
    }
    assert!(received == text_of(1, 0, 30_000));
    world.kernel().peer_closes(streams[0]);
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::Finished));
    reset_and_stop(world, &streams[1..]);
}

/// For each byte of input, sends 20,000 bytes to the first member.
fn send_large(_: &[u8], members: &[ConnectionId], cx: &mut Context<'_>) -> Next {
    cx.connections().send_to(members[0], &text_of(1, 0, 20_000));
    Next::Continue
}

#[test]
fn sender_is_notified_once_above_and_once_below_the_watermarks() {
    let (mut world, streams, log) = group(3, send_large, unchanged);
    // The kernel takes 10,000 bytes. The rest waits in the connection's output.
    for (sends, notifications) in [
        (3, &[][..]),
        (1, &[(1, 0, Notification::AboveHighWatermark)]),
        (4, &[(1, 0, Notification::AboveHighWatermark)]),
    ] {
        world.peer_sends(streams[1], &vec![b'x'; sends]);
        world.run_until_blocked();
        assert_eq!(log.borrow().notifications, notifications, "{sends} sends more");
    }
    world.peer_sends(streams[2], b"x");
    world.run_until_blocked();
    assert_eq!(
        log.borrow_mut().notifications.split_off(1),
        [(2, 0, Notification::AboveHighWatermark)],
        "each sender is notified for itself"
    );
    log.borrow_mut().notifications.clear();
    let mut received = 0;
    while received < 9 * 20_000 {
        received += world.peer_receives_all(streams[0]).len();
        world.run_until_blocked();
        let left = 9 * 20_000 - received.min(9 * 20_000);
        let output = left.saturating_sub(10_000);
        let notifications = if output <= LOW_WATERMARK_BYTES {
            &[(1, 0, Notification::BelowLowWatermark), (2, 0, Notification::BelowLowWatermark)][..]
        } else {
            &[]
        };
        assert_eq!(log.borrow().notifications, notifications, "{output} bytes of output");
    }
    assert!(log.borrow().output_low_calls.is_empty(), "its own protocol has not paused");
    reset_and_stop(world, &streams);
}

#[test]
fn send_beyond_the_output_limit_is_rejected_whole() {
    let (mut world, streams, log) = group(
        2,
        |byte, members, cx| {
            match byte {
                // As much as the kernel takes.
                b"0" => cx.connections().send_to(members[0], &[6; 10_000]),
                b"a" => cx.connections().send_to(members[0], &vec![7; OUTPUT_BYTES_MAX - 1]),
                b"b" => cx.connections().send_to(members[0], &[8; 2]),
                _ => cx.connections().send_to(members[0], &[9; 1]),
            }
            Next::Continue
        },
        unchanged,
    );
    assert_eq!(world.kernel().streams[streams[0]].buffer_bytes, 10_000);
    world.peer_sends(streams[1], b"0abc");
    world.run_until_blocked();
    assert_eq!(
        log.borrow().notifications,
        [(1, 0, Notification::AboveHighWatermark), (1, 0, Notification::Rejected)]
    );
    assert_eq!(world.stats().sends_rejected, 1);
    let mut received = Vec::new();
    while received.len() < 10_000 + OUTPUT_BYTES_MAX {
        received.extend(world.peer_receives_all(streams[0]));
        world.run_until_blocked();
    }
    let expected = [vec![6; 10_000], vec![7; OUTPUT_BYTES_MAX - 1], vec![9]].concat();
    assert!(received == expected);
    reset_and_stop(world, &streams);
}

/// The exact number of bytes at which a sender is notified.
#[test]
fn output_of_exactly_the_high_watermark_is_not_above_it() {
    let (mut world, streams, log) = group(
        2,
        |byte, members, cx| {
            let count = if byte == b"a" { HIGH_WATERMARK_BYTES } else { 1 };
            cx.connections().send_to(members[0], &vec![0; count]);
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"a");
    world.turn();
    assert_eq!(log.borrow().notifications, []);
    world.peer_sends(streams[1], b"ab");
    world.run_until_blocked();
    assert_eq!(log.borrow().notifications, [(1, 0, Notification::AboveHighWatermark)]);
    reset_and_stop(world, &streams);
}

#[test]
fn sender_waiting_for_low_watermark_is_notified_of_the_close() {
    let (mut world, streams, log) = group(2, send_large, unchanged);
    world.peer_sends(streams[1], b"xxxxx");
    world.run_until_blocked();
    world.kernel().fail(streams[0], errno::ECONNRESET);
    world.run_until_blocked();
    assert_eq!(
        log.borrow().notifications,
        [(1, 0, Notification::AboveHighWatermark), (1, 0, Notification::Closed)]
    );
    reset_and_stop(world, &streams[1..]);
}

#[test]
fn notifications_for_a_closed_connection_are_dropped() {
    let (mut world, streams, log) = group(3, send_large, unchanged);
    world.peer_sends(streams[1], b"xxxxx");
    world.run_until_blocked();
    world.kernel().fail(streams[1], errno::ECONNRESET);
    world.run_until_blocked();
    assert!(
        world.reactor().effects.has_nothing_pending(),
        "its subscription is gone, although output still waits"
    );
    for _ in 0..30 {
        world.peer_receives_all(streams[0]);
        world.run_until_blocked();
    }
    assert_eq!(log.borrow().notifications, [(1, 0, Notification::AboveHighWatermark)]);
    assert!(world.reactor().effects.has_nothing_pending());
    reset_and_stop(world, &[streams[0], streams[2]]);
}

/// The peers at both ends of a proxy may each read only as fast as the other. If a connection with
/// much relayed output were not read, both would wait for each other. Found with a proxy to an echo
/// server.
#[test]
fn relayed_output_above_the_watermark_does_not_stop_reading() {
    let (mut world, streams, log) = group(
        2,
        |byte, members, cx| {
            match byte {
                b"m" => {
                    cx.connections().send_to(members[0], &text_of(1, 0, 3 * HIGH_WATERMARK_BYTES));
                }
                b"e" => cx.send(&text_of(2, 0, HIGH_WATERMARK_BYTES)),
                b"" => return Next::Pause,
                _ => cx.connections().send_to(members[1], byte),
            }
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"m");
    world.run_until_blocked();
    world.peer_sends(streams[0], b"hi");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[1]), b"hi");
    // Output of its own protocol, which its peer does not read, does stop the reading.
    world.peer_sends(streams[0], b"eagain");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[1]), b"");
    let mut received = Vec::new();
    while received.len() < 4 * HIGH_WATERMARK_BYTES {
        received.extend(world.peer_receives_all(streams[0]));
        world.run_until_blocked();
    }
    assert!(received[..3 * HIGH_WATERMARK_BYTES] == text_of(1, 0, 3 * HIGH_WATERMARK_BYTES));
    assert_eq!(world.peer_receives_all(streams[1]), b"again");
    // Its peer sends a FIN while relayed output waits: its own protocol is not asked for more.
    world.peer_sends(streams[1], b"m");
    world.kernel().peer_shuts_down(streams[0]);
    world.run_until_blocked();
    while !world.peer_receives_all(streams[0]).is_empty() {
        world.run_until_blocked();
    }
    assert_eq!((log.borrow().output_low_calls.len(), world.close_reason_of(1)), (0, None));
    reset_and_stop(world, &streams);
}

/// Found by a random schedule, in which an idle connection was not closed.
#[test]
fn empty_send_does_not_postpone_the_idle_timeout() {
    let (mut world, streams, _) = group(
        2,
        |byte, members, cx| {
            cx.connections().send_to(members[0], b"");
            cx.send(byte);
            Next::Continue
        },
        unchanged,
    );
    let idle_timeout_ms = ms(world.reactor().state.limits.idle_timeout);
    for _ in 0..5 {
        world.run_for(idle_timeout_ms / 4);
        world.peer_sends(streams[1], b"x");
        world.run_until_blocked();
    }
    assert_eq!(
        (world.close_reason_of(1), world.close_reason_of(2)),
        (Some(CloseReason::FirstByteTimeout), None)
    );
    reset_and_stop(world, &streams[1..]);
}

/// A connection that is paused until another one has sent its output moves no bytes by design. It
/// must not be closed as idle, even if the other's peer takes half an hour to read, slowly but
/// steadily.
#[test]
fn connection_paused_for_a_slow_reader_is_not_idle() {
    let (mut world, streams, log) = group(
        2,
        |_, members, cx| {
            cx.connections().send_to(members[0], &text_of(1, 0, 1_000_000));
            Next::Pause
        },
        |_, notification, _| {
            if notification == Notification::BelowLowWatermark {
                Next::Continue
            } else {
                Next::Unchanged
            }
        },
    );
    world.kernel().idle_us_max = u64::MAX;
    world.peer_sends(streams[1], b"x");
    let (mut received, mut rounds) = (Vec::new(), 0);
    while log.borrow().notifications
        != [(1, 0, Notification::AboveHighWatermark), (1, 0, Notification::BelowLowWatermark)]
    {
        received.extend(world.peer_receives_all(streams[0]));
        world.run_for(20_000); // within the write timeout
        rounds += 1;
        assert_eq!(
            (world.close_reason_of(1), world.close_reason_of(2)),
            (None, None),
            "after {} s",
            rounds * 20
        );
    }
    assert!(rounds > 30 * 3, "half an hour");
    // Now its own idle timeout counts again.
    received.extend(world.peer_receives_all(streams[0]));
    world.peer_sends(streams[1], b"x");
    while log.borrow().notifications.len() < 3 {
        world.run_for(1);
    }
    // The peer reads no more. After the write timeout the waiting connection is notified, and from
    // then on its own idle timeout counts.
    while log.borrow().notifications.len() < 4 {
        world.run_for(1_000);
    }
    world.run_for(50_000);
    assert_eq!(
        (world.close_reason_of(1), world.close_reason_of(2)),
        (Some(CloseReason::WriteTimeout), None)
    );
    world.run_for(150_000);
    assert_eq!(
        (world.close_reason_of(1), world.close_reason_of(2)),
        (Some(CloseReason::WriteTimeout), Some(CloseReason::IdleTimeout))
    );
    assert_eq!(log.borrow().notifications[3..], [(1, 0, Notification::Closed)]);
    reset_and_stop(world, &[]);
}
