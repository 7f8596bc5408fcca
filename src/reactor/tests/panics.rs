//! Panics in a protocol, and what becomes of the effects that it asked for.

use super::group::*;
use super::*;
use crate::limits::EFFECTS_MAX;
use crate::protocol::notification::Notification;

#[test]
fn what_was_asked_for_before_a_panic_is_done() {
    let (mut world, streams, _) = group(
        3,
        |word, members, cx| {
            cx.send_to_all(members[..2].iter().copied(), b"farewell");
            assert_ne!(word, b"!", "this is the panic");
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[2], b"!");
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(3), Some(CloseReason::ProtocolPanicked));
    assert_eq!(
        [world.peer_receives_all(streams[0]), world.peer_receives_all(streams[1])],
        [b"farewell", b"farewell"]
    );
    reset_and_stop(world, &streams[..2]);
}

#[test]
fn a_panic_while_news_is_told_costs_who_was_told_and_the_others_are_told_too() {
    let (mut world, streams, log) = group(
        4,
        |word, members, cx| {
            if word == b"w" {
                cx.monitor(members[0]);
            }
            Next::Continue
        },
        |_, _, cx| {
            assert_ne!(cx.peer(), peer(3).into(), "this is the panic");
            Next::Unchanged
        },
    );
    for &stream in &streams[1..] {
        world.peer_sends(stream, b"w");
    }
    world.run_until_blocked();
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.run_until_blocked();
    assert_eq!(
        log.borrow().notifications,
        [(1, 0, Notification::Closed), (2, 0, Notification::Closed), (3, 0, Notification::Closed)]
    );
    assert_eq!(
        [2, 3, 4].map(|number| world.close_reason_of(number)),
        [None, Some(CloseReason::ProtocolPanicked), None]
    );
    reset_and_stop(world, &[streams[1], streams[3]]);
}

#[test]
fn a_call_that_asks_for_more_than_may_be_costs_its_own_connection() {
    let (mut world, streams, log) = group(
        2,
        |word, members, cx| {
            if word == b"!" {
                cx.send_to_all(std::iter::repeat_n(members[0], EFFECTS_MAX + 1), b"");
            }
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"!");
    world.run_until_blocked();
    assert_eq!(
        (world.close_reason_of(2), world.stats().panics),
        (Some(CloseReason::ProtocolPanicked), 1)
    );
    assert_eq!((world.close_reason_of(1), log.borrow().notifications.len()), (None, 0));
    reset_and_stop(world, &streams[..1]);
}

/// Of a name that was never given out nothing may stay behind.
#[test]
fn a_call_that_is_one_effect_too_many_leaves_no_name_behind() {
    let (mut world, streams, _) = group(
        1,
        |_, members, cx| {
            cx.send_to_all(std::iter::repeat_n(members[0], EFFECTS_MAX), b"");
            cx.connect(peer(9), crate::echo::Echo::new());
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[0], b"!");
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::ProtocolPanicked));
    world.stop(); // which looks whether anything is left
}
