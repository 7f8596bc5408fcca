//! Panics in a protocol: each ends its own connection, and effects requested before it are applied.

use super::group::*;
use super::*;
use crate::limits::EFFECTS_MAX;
use crate::protocol::notification::Notification;
use crate::testing::simulated::errno;

#[test]
fn effects_requested_before_a_panic_are_applied() {
    let (mut world, streams, _) = group(
        3,
        |byte, members, cx| {
            cx.connections().send_to_all(members[..2].iter().copied(), b"sent before");
            assert_ne!(byte, b"!", "panics on purpose");
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[2], b"!");
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(3), Some(CloseReason::ProtocolPanicked));
    assert_eq!(
        [world.peer_receives_all(streams[0]), world.peer_receives_all(streams[1])],
        [b"sent before", b"sent before"]
    );
    reset_and_stop(world, &streams[..2]);
}

#[test]
fn panic_in_notified_costs_only_its_own_connection() {
    let (mut world, streams, log) = group(
        4,
        |byte, members, cx| {
            if byte == b"w" {
                cx.monitor(members[0]);
            }
            Next::Continue
        },
        |_, _, cx| {
            assert_ne!(cx.peer(), peer(3).into(), "panics on purpose");
            Next::Unchanged
        },
    );
    for &stream in &streams[1..] {
        world.peer_sends(stream, b"w");
    }
    world.run_until_blocked();
    world.kernel().fail(streams[0], errno::ECONNRESET);
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
fn call_with_too_many_effects_costs_only_its_own_connection() {
    let (mut world, streams, log) = group(
        2,
        |byte, members, cx| {
            if byte == b"!" {
                cx.connections().send_to_all(std::iter::repeat_n(members[0], EFFECTS_MAX + 1), b"");
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

/// The call panics in `connect`, so the new id is never returned, and nothing may be left of it.
#[test]
fn connect_beyond_the_effect_limit_leaves_no_id_behind() {
    let (mut world, streams, _) = group(
        1,
        |_, members, cx| {
            cx.connections().send_to_all(std::iter::repeat_n(members[0], EFFECTS_MAX), b"");
            cx.connect(peer(9), crate::echo::Echo::new());
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[0], b"!");
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::ProtocolPanicked));
    world.stop(); // checks that nothing is left
}
