//! Idle connections: what counts as idle, eviction, and the stop.

use super::*;

#[test]
fn who_gives_way_is_closed_at_once_unless_its_peer_is_just_speaking() {
    // Nothing is unread: it is over without another call. If there is news, what is unread would destroy what may still be on
    // its way: so it is read and discarded behind our FIN.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("1\n"), send_replies(bytes(0, 1))]), Blocked);
    talk.connection.evict();
    assert_eq!(talk.drive([]), Ended(CloseReason::Finished));

    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([RECV_BLOCKS]), Blocked);
    talk.connection.evict();
    assert_eq!(talk.drive_readable([FINISH, recv("1\n")]), Blocked);
    assert!(talk.log().is_empty(), "nobody hears it");
    assert_eq!(talk.drive_readable([FIN]), Ended(CloseReason::Finished));
}

#[test]
fn nobody_is_quiet_while_something_is_under_way() {
    // Half an order, a reply that waits, an alarm, a pause. (And a protocol gives way only if it says so.)
    let idle_since = |orders: &'static str, steps: Vec<Step>| {
        let mut talk = Talk::with_puppet(Puppet::default());
        talk.at_ms(7);
        talk.wire.steps = [vec![recv(orders)], steps].into_iter().flatten().collect();
        assert_eq!(talk.drive_once(), Blocked);
        assert!(!talk.connection.is_evictable());
        talk.connection.idle_since()
    };
    assert_eq!(
        idle_since("1\n", vec![send_replies(bytes(0, 1))]),
        Some(Time::at(Duration::from_millis(7)))
    );
    assert_eq!(idle_since("half", vec![]), None);
    assert_eq!(idle_since("2\n", vec![send_some(1)]), None);
    assert_eq!(idle_since("wake:100\n", vec![]), None);
    assert_eq!(idle_since("pause\n", vec![]), None);
}

#[test]
fn who_is_idle_owns_no_buffer() {
    // Much has waited, in both directions. When it has gone, its memory has gone too.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("60000\n60000\n      "), SEND_BLOCKS]), Blocked);
    assert!(!talk.connection.input.is_empty() && talk.connection.output.len() == 120_000);
    assert_eq!(talk.drive_writable([send_replies(bytes(0, 120_000))]), Blocked);
    assert_eq!(talk.drive_readable([recv("\n")]), Blocked);
    assert!(
        talk.connection.input.is_empty() && talk.connection.output.is_empty(),
        "an empty one is a null pointer"
    );
    assert!(size_of::<Connection>() <= 128, "{} bytes for each", size_of::<Connection>());
}

#[test]
fn only_who_has_begun_nothing_is_idle() {
    // These are closed without further ado when the reactor stops.
    let is_idle = |steps: [Step; 2]| {
        let mut talk = Talk::with_puppet(Puppet::default());
        assert_eq!(talk.drive(steps), Blocked);
        talk.connection.is_idle()
    };
    assert!(is_idle([recv("5\n"), send_some(5)]));
    assert!(!is_idle([recv("5\n"), send_some(4)]), "output waits");
    assert!(!is_idle([recv("5\nhal"), send_some(5)]), "half an order is here");
    assert!(!is_idle([recv("wake:9 5 pause\n"), SEND_BLOCKS]), "it pauses");
    assert!(!is_idle([recv("close\n"), FINISH]), "it lingers");
}

#[test]
fn who_is_idle_can_be_ended_from_our_side() {
    // As when the protocol closes: a FIN, and what was under way towards us is discarded.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("1\n"), send_some(1)]), Blocked);
    talk.at_ms(10_000);
    talk.connection.close_idle();
    assert_eq!(talk.drive([FINISH]), Blocked);
    assert_eq!(talk.drive_readable([recv("2\n")]), Blocked);
    assert_eq!(talk.log(), ["1"]);
    talk.ends_at(12_000, CloseReason::Finished);
}
