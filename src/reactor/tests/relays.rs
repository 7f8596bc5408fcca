//! What connections send to each other, and the watermarks of it.

use super::group::*;
use super::protocols::text_of;
use super::*;
use crate::limits::{HIGH_WATERMARK_BYTES, LOW_WATERMARK_BYTES, OUTPUT_BYTES_MAX};
use crate::protocol::notification::Notification;

#[test]
fn what_one_sends_to_many_reaches_each_in_order_and_with_one_send_a_turn() {
    let (mut world, streams, log) = group(
        5,
        |word, members, cx| {
            cx.send_to_all(
                members.iter().copied().filter(|&member| member != cx.id()).collect::<Vec<_>>(),
                word,
            );
            cx.send(b"!");
            Next::Continue
        },
        unchanged,
    );
    for word in [&b"abc"[..], b"d", b"ef"] {
        world.take_calls();
        world.peer_sends(streams[2], word);
        assert_eq!(world.run_until_blocked(), 2, "heard in one turn, sent on in the next");
        let sends = world.take_calls().into_iter().filter(|&call| call == "send").count();
        assert_eq!(sends, 5, "one for each, however many words");
    }
    for (number, &stream) in streams.iter().enumerate() {
        assert_eq!(
            world.peer_receives_all(stream),
            if number == 2 { &b"!!!!!!"[..] } else { b"abcdef" },
            "member {number}"
        );
    }
    assert_eq!(log.borrow().notifications, [], "success is not told");
    reset_and_stop(world, &streams);
}

#[test]
fn two_who_send_to_one_in_the_same_turn_do_not_lose_or_mix_a_byte() {
    let (mut world, streams, _) = group(
        3,
        |word, members, cx| {
            cx.send_to(members[0], &[word, word].concat());
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
fn a_name_that_is_older_than_its_slot_reaches_nobody() {
    let (mut world, streams, log) = group(
        2,
        |word, members, cx| {
            cx.send_to(members[0], word);
            Next::Continue
        },
        unchanged,
    );
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.run_until_blocked();
    let newcomer = world.connect(GROUP, 3);
    world.run_until_blocked();
    let (old, new) = (log.borrow().members[0], log.borrow().members[2]);
    assert_eq!(old.slot, new.slot, "the slot has been given to the next");
    world.peer_sends(streams[1], b"x");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(newcomer), b"", "it was not meant");
    assert_eq!(log.borrow().notifications, [(1, 0, Notification::Closed)]);
    assert_eq!(world.reactor().send_to(old, b"x"), Some(Notification::Closed));
    assert_eq!(world.reactor().send_to(new, b"y"), None);
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(newcomer), b"y");
    reset_and_stop(world, &[streams[1], newcomer]);
}

#[test]
fn who_closes_takes_nothing_more_but_sends_what_it_took() {
    let (mut world, streams, log) = group(
        2,
        |_, members, cx| {
            cx.send_to(members[0], &text_of(1, 0, 30_000));
            cx.close(members[0]);
            cx.send_to(members[0], b"too late");
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"x");
    world.run_until_blocked();
    assert_eq!(log.borrow().notifications, [(1, 0, Notification::Closed)]);
    assert_eq!(world.close_reason_of(1), None, "its peer has not read");
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

// ---- marks

/// Each word is 20,000 bytes for the first member.
pub(super) fn much(_: &[u8], members: &[ConnectionId], cx: &mut Context<'_>) -> Next {
    cx.send_to(members[0], &text_of(1, 0, 20_000));
    Next::Continue
}

#[test]
fn a_sender_is_told_once_that_much_waits_and_once_that_it_has_drained() {
    let (mut world, streams, log) = group(3, much, unchanged);
    // The peer takes 10,000 bytes, and the others wait here.
    for (words, notifications) in [
        (3, &[][..]),
        (1, &[(1, 0, Notification::AboveHighWatermark)]),
        (4, &[(1, 0, Notification::AboveHighWatermark)]),
    ] {
        world.peer_sends(streams[1], &vec![b'x'; words]);
        world.run_until_blocked();
        assert_eq!(log.borrow().notifications, notifications, "{words} words more");
    }
    world.peer_sends(streams[2], b"x");
    world.run_until_blocked();
    assert_eq!(
        log.borrow_mut().notifications.split_off(1),
        [(2, 0, Notification::AboveHighWatermark)],
        "who is another is told too"
    );
    log.borrow_mut().notifications.clear();
    let mut received = 0;
    while received < 9 * 20_000 {
        received += world.peer_receives_all(streams[0]).len();
        world.run_until_blocked();
        let waits = 9 * 20_000 - received.min(9 * 20_000);
        let inside = waits.saturating_sub(10_000);
        let notifications = if inside <= LOW_WATERMARK_BYTES {
            &[(1, 0, Notification::BelowLowWatermark), (2, 0, Notification::BelowLowWatermark)][..]
        } else {
            &[]
        };
        assert_eq!(log.borrow().notifications, notifications, "{inside} bytes wait");
    }
    assert!(log.borrow().output_low_calls.is_empty(), "its own protocol has not paused");
    reset_and_stop(world, &streams);
}

#[test]
fn what_would_be_too_much_is_refused_whole() {
    let (mut world, streams, log) = group(
        2,
        |word, members, cx| {
            match word {
                b"0" => cx.send_to(members[0], &[6; 10_000]), // as much as the peer takes
                b"a" => cx.send_to(members[0], &vec![7; OUTPUT_BYTES_MAX - 1]),
                b"b" => cx.send_to(members[0], &[8; 2]),
                _ => cx.send_to(members[0], &[9; 1]),
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

/// The mark at which a sender is told, exactly.
#[test]
fn as_much_as_the_high_mark_is_not_over_it() {
    let (mut world, streams, log) = group(
        2,
        |word, members, cx| {
            let count = if word == b"a" { HIGH_WATERMARK_BYTES } else { 1 };
            cx.send_to(members[0], &vec![0; count]);
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
fn who_waits_for_one_to_drain_that_goes_is_told_so() {
    let (mut world, streams, log) = group(2, much, unchanged);
    world.peer_sends(streams[1], b"xxxxx");
    world.run_until_blocked();
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.run_until_blocked();
    assert_eq!(
        log.borrow().notifications,
        [(1, 0, Notification::AboveHighWatermark), (1, 0, Notification::Closed)]
    );
    reset_and_stop(world, &streams[1..]);
}

#[test]
fn news_for_who_has_gone_is_dropped_and_nothing_is_left_of_it() {
    let (mut world, streams, log) = group(3, much, unchanged);
    world.peer_sends(streams[1], b"xxxxx");
    world.run_until_blocked();
    world.kernel().fail(streams[1], crate::testing::simulated::errno::ECONNRESET);
    world.run_until_blocked();
    assert!(
        world.reactor().effects.has_nothing_pending(),
        "it does not wait any more, though much waits there still"
    );
    for _ in 0..30 {
        world.peer_receives_all(streams[0]);
        world.run_until_blocked();
    }
    assert_eq!(log.borrow().notifications, [(1, 0, Notification::AboveHighWatermark)]);
    assert!(world.reactor().effects.has_nothing_pending());
    reset_and_stop(world, &[streams[0], streams[2]]);
}

/// Two peers at the ends of a proxy may each read only what the other has read. Found by a proxy to an echo, which stood still.
#[test]
fn who_does_not_read_what_others_send_is_heard_all_the_same() {
    let (mut world, streams, log) = group(
        2,
        |word, members, cx| {
            match word {
                b"m" => cx.send_to(members[0], &text_of(1, 0, 3 * HIGH_WATERMARK_BYTES)),
                b"e" => cx.send(&text_of(2, 0, HIGH_WATERMARK_BYTES)),
                b"" => return Next::Pause,
                _ => cx.send_to(members[1], word),
            }
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"m");
    world.run_until_blocked();
    world.peer_sends(streams[0], b"Hi!");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[1]), b"Hi!");
    // What its own protocol has said, and it does not read, keeps it from being heard.
    world.peer_sends(streams[0], b"eAgain");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[1]), b"");
    let mut received = Vec::new();
    while received.len() < 4 * HIGH_WATERMARK_BYTES {
        received.extend(world.peer_receives_all(streams[0]));
        world.run_until_blocked();
    }
    assert!(received[..3 * HIGH_WATERMARK_BYTES] == text_of(1, 0, 3 * HIGH_WATERMARK_BYTES));
    assert_eq!(world.peer_receives_all(streams[1]), b"Again");
    // It finishes while much of another's waits: its own protocol is not asked for more.
    world.peer_sends(streams[1], b"m");
    world.kernel().peer_shuts_down(streams[0]);
    world.run_until_blocked();
    while !world.peer_receives_all(streams[0]).is_empty() {
        world.run_until_blocked();
    }
    assert_eq!((log.borrow().output_low_calls.len(), world.close_reason_of(1)), (0, None));
    reset_and_stop(world, &streams);
}

/// Found by a schedule, in which somebody lived on who had long been silent.
#[test]
fn to_be_sent_nothing_does_not_put_off_the_end_of_who_is_idle() {
    let (mut world, streams, _) = group(
        2,
        |word, members, cx| {
            cx.send_to(members[0], b"");
            cx.send(word);
            Next::Continue
        },
        unchanged,
    );
    let idle_timeout_ms = world.reactor().state.limits.idle_timeout_ms;
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

/// Somebody who has paused until another drains does nothing itself for as long as that takes: half an hour, if the other reads
/// slowly but steadily. It is still there then, and not taken for idle.
#[test]
fn who_waits_for_a_slow_but_steady_reader_is_not_idle() {
    let (mut world, streams, log) = group(
        2,
        |_, members, cx| {
            cx.send_to(members[0], &text_of(1, 0, 1_000_000));
            Next::Pause
        },
        |_, notifications, _| {
            if notifications == Notification::BelowLowWatermark {
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
        world.run_for(20_000); // below the time in which some of it must be taken
        rounds += 1;
        assert_eq!(
            (world.close_reason_of(1), world.close_reason_of(2)),
            (None, None),
            "after {} s",
            rounds * 20
        );
    }
    assert!(rounds > 30 * 3, "half an hour");
    // And from then on its own time counts again.
    received.extend(world.peer_receives_all(streams[0]));
    world.peer_sends(streams[1], b"x");
    while log.borrow().notifications.len() < 3 {
        world.run_for(1);
    }
    // The other one reads no more. Who waits for it is told, and from then on has its own time, but not for ever.
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
