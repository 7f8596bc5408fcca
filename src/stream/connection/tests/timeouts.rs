//! Timeouts: the first byte, idleness, and writing.

use super::*;

#[test]
fn a_peer_that_never_says_anything_is_ended_after_half_a_minute() {
    // Whatever it is told meanwhile, if it takes that. Its first byte ends this, and begins the minute of the others.
    let mut talk = Talk::with(Echo::new());
    assert_eq!(talk.drive([RECV_BLOCKS]), Blocked);
    talk.ends_at(30_000, CloseReason::FirstByteTimeout);
    let mut talk =
        Talk::with_puppet(Puppet { opened: "5 wake:10000", elapsed: "5", ..Puppet::default() });
    assert_eq!(talk.open([send_some(5), RECV_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(10_000, [send_some(5)]), Blocked);
    talk.ends_at(40_000, CloseReason::FirstByteTimeout);
    let mut talk = Talk::with(Echo::new());
    talk.at_ms(29_999);
    assert_eq!(talk.drive([recv("x"), send_replies("x")]), Blocked);
    talk.ends_at(89_999, CloseReason::IdleTimeout);
}

#[test]
fn a_peer_that_falls_silent_is_idle_after_a_minute() {
    // The minute begins with the last byte, either way.
    let mut talk = Talk::with(Echo::new());
    talk.at_ms(10_000);
    assert_eq!(talk.drive([recv("x"), SEND_BLOCKS]), Blocked);
    talk.at_ms(20_000);
    assert_eq!(talk.drive_writable([send_replies("x")]), Blocked);
    talk.ends_at(80_000, CloseReason::IdleTimeout);
}

#[test]
fn a_peer_that_takes_nothing_is_too_slow_after_half_a_minute() {
    // Each byte that it takes gives it another one. Nothing else does, such as a look of the kernel's that was for nothing.
    let wait = || {
        let mut talk = Talk::with_puppet(Puppet::default());
        talk.at_ms(1000);
        assert_eq!(talk.drive([recv("9\n"), SEND_BLOCKS]), Blocked);
        talk
    };
    wait().ends_at(31_000, CloseReason::WriteTimeout);
    let mut talk = wait();
    talk.at_ms(30_000);
    assert_eq!(talk.drive_writable([send_some(1)]), Blocked);
    talk.at_ms(40_000);
    assert_eq!(talk.drive_writable([SEND_BLOCKS]), Blocked);
    talk.ends_at(60_000, CloseReason::WriteTimeout);
}

#[test]
fn a_peer_that_takes_nothing_of_the_last_answer_is_too_slow_as_well() {
    for order in ["9 close\n", "9 agree\n"] {
        let mut talk = Talk::with_puppet(Puppet::default());
        talk.at_ms(1000);
        assert_eq!(talk.drive([recv(order), SEND_BLOCKS]), Blocked);
        talk.ends_at(31_000, CloseReason::WriteTimeout);
    }
}

#[test]
fn a_peer_that_takes_nothing_is_too_slow_whoever_talks() {
    // It sends a little every twenty seconds, and so is never idle; but its replies wait since the first.
    let mut talk = Talk::with(Echo::new());
    assert_eq!(talk.drive([recv("x"), SEND_BLOCKS]), Blocked);
    talk.at_ms(20_000);
    assert_eq!(talk.drive_readable([recv("x")]), Blocked);
    talk.ends_at(30_000, CloseReason::WriteTimeout);
    // Nor does it help that an alarm says more.
    let mut talk = Talk::with_puppet(Puppet { elapsed: "1 wake:20000", ..Puppet::default() });
    assert_eq!(talk.drive([recv("9 wake:20000\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(20_000, []), Blocked);
    talk.ends_at(30_000, CloseReason::WriteTimeout);
}

#[test]
fn what_an_alarm_has_sent_counts_as_a_byte_that_moved() {
    // A server that pushes something every 40 seconds to a peer that only listens.
    let mut talk = Talk::with_puppet(Puppet {
        opened: "wake:40000",
        elapsed: "5 wake:40000",
        ..Puppet::default()
    });
    assert_eq!(talk.open([RECV_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(40_000, [send_replies(bytes(0, 5))]), Blocked);
    assert_eq!(talk.expire_at(60_000, []), Blocked, "the last byte moved 20 seconds ago");
    assert_eq!(talk.expire_at(80_000, [send_replies(bytes(5, 5))]), Blocked);
}

#[test]
fn who_takes_nothing_is_not_excused_by_what_it_sends() {
    // Its time is up, and in the last look there are orders without end, but no room for their answers.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("9\n"), SEND_BLOCKS]), Blocked);
    talk.at_ms(30_000);
    assert_eq!(
        talk.expire_at(30_000, [SEND_BLOCKS, recv("9\n")]),
        Ended(CloseReason::WriteTimeout)
    );
}

#[test]
fn a_peer_is_given_its_time_from_when_something_waits_for_it() {
    // Nothing moved for 40 seconds; then an alarm says more than the kernel takes.
    for taken in [send_some(2), SEND_BLOCKS] {
        let mut talk = Talk::with_puppet(Puppet { elapsed: "5", ..Puppet::default() });
        assert_eq!(talk.drive([recv("wake:40000\n")]), Blocked);
        assert_eq!(talk.expire_at(40_000, [taken]), Blocked);
        talk.ends_at(70_000, CloseReason::WriteTimeout);
    }
    // Or it ends a pause, and what was carried is answered.
    for (taken, ends_at, why) in [
        (send_some(2), 70_000, CloseReason::WriteTimeout),
        (SEND_BLOCKS, 70_000, CloseReason::WriteTimeout),
        (send_some(5), 100_000, CloseReason::IdleTimeout),
    ] {
        let mut talk = Talk::with_puppet(Puppet { elapsed: "", ..Puppet::default() });
        assert_eq!(talk.drive([recv("wake:40000 pause\n5\n")]), Blocked);
        assert_eq!(talk.expire_at(40_000, [taken]), Blocked);
        talk.ends_at(ends_at, why);
    }
}

/// Found by a simulated schedule: it was to be looked at in a moment that had passed, and so in every turn.
#[test]
fn a_peer_may_be_given_longer_to_read_than_to_speak() {
    let mut talk = Talk::with(Echo::new());
    (talk.state.limits.idle_timeout_ms, talk.state.limits.write_timeout_ms) = (5_000, 20_000);
    assert_eq!(talk.drive([recv("abc"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(5_000, []), Blocked);
    let look_at = talk.connection.filing_time(&talk.state.limits, talk.state.clock.now);
    assert!(
        look_at > talk.state.clock.now && look_at <= talk.connection.deadline(&talk.state.limits)
    );
    talk.ends_at(20_000, CloseReason::WriteTimeout);
}
