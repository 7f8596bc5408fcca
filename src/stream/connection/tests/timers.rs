//! The timer of a protocol.

use super::*;

#[test]
fn an_alarm_rings_at_its_time_and_once() {
    // What was asked for last counts.
    let mut talk = Talk::with_puppet(Puppet { elapsed: "3", ..Puppet::default() });
    talk.at_ms(1000);
    assert_eq!(talk.drive([recv("wake:500\nwake:700\n")]), Blocked);
    assert_eq!(talk.expire_at(1500, []), Blocked);
    assert_eq!(talk.expire_at(1699, []), Blocked);
    assert_eq!(talk.log().len(), 2);
    assert_eq!(talk.expire_at(1700, [send_replies(bytes(0, 3))]), Blocked);
    assert_eq!(talk.log(), ["wake:500", "wake:700", "elapsed"]);
    assert_eq!(talk.expire_at(20_000, []), Blocked);
    assert_eq!(talk.log().len(), 3);
}

#[test]
fn an_alarm_that_was_taken_back_does_not_ring() {
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("wake:500\nsleep\n")]), Blocked);
    assert_eq!(talk.expire_at(500, []), Blocked);
    talk.ends_at(60_000, CloseReason::IdleTimeout);
}

#[test]
fn an_alarm_can_be_set_again_and_again() {
    let mut talk = Talk::with_puppet(Puppet {
        opened: "wake:100",
        elapsed: "1 wake:100",
        ..Puppet::default()
    });
    assert_eq!(talk.open([RECV_BLOCKS]), Blocked);
    for ms in [100, 200, 300] {
        assert_eq!(talk.expire_at(ms - 1, []), Blocked);
        assert_eq!(talk.expire_at(ms, [send_some(1)]), Blocked);
    }
}

#[test]
fn an_alarm_ends_a_pause_and_reads_what_has_come_meanwhile() {
    // Nothing was said, so nothing drains: only the alarm is left.
    let mut talk = Talk::with_puppet(Puppet { elapsed: "", ..Puppet::default() });
    assert_eq!(talk.drive([recv("wake:500 pause\n1\n")]), Blocked);
    assert_eq!(talk.drive_readable([]), Blocked);
    assert_eq!(talk.expire_at(500, [send_some(1), recv("2\n"), send_some(2)]), Blocked);
    assert_eq!(talk.log(), ["wake:500 pause", "elapsed", "1", "2"]);
}

#[test]
fn an_alarm_that_keeps_up_a_pause_does_not_cost_it_its_call() {
    // It has nothing to add. What was said before the pause still waits, and so does the protocol.
    let mut talk = Talk::with_puppet(Puppet { elapsed: "pause", ..Puppet::default() });
    assert_eq!(talk.drive([recv("20000 wake:500 pause\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(500, []), Blocked);
    assert_eq!(talk.drive_writable([send_some(20_000)]), Blocked);
    assert_eq!(talk.log(), ["20000 wake:500 pause", "elapsed", "drained"]);
}

#[test]
fn what_an_alarm_says_does_not_overtake_what_waits() {
    // It rings in the same turn in which the kernel can be written again.
    let mut talk = Talk::with_puppet(Puppet { elapsed: "5", ..Puppet::default() });
    assert_eq!(talk.drive([recv("9 wake:500\n"), send_some(2)]), Blocked);
    talk.ready.writable = true;
    assert_eq!(talk.expire_at(500, [send_replies(bytes(2, 12))]), Blocked);
}

#[test]
fn an_alarm_may_end_the_conversation() {
    // As `Protocol` does unless it is told otherwise. It keeps the peer's answer whole, and its own time.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("9 wake:500\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(500, []), Blocked);
    assert_eq!(talk.drive_writable([send_replies(bytes(0, 9)), FINISH]), Blocked);
    assert_eq!(talk.drive_readable([FIN]), Ended(CloseReason::Finished));
}

#[test]
fn an_alarm_does_not_ring_for_who_has_closed() {
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("9 wake:500 close\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(500, []), Blocked);
    assert_eq!(talk.drive_writable([send_replies(bytes(0, 9)), FINISH]), Blocked);
    talk.ends_at(2500, CloseReason::Finished);
    assert_eq!(talk.log(), ["9 wake:500 close"]);
}

/// Found by a simulated schedule, in which the conversation came to life again and heard the peer's FIN twice.
#[test]
fn a_late_alarm_does_not_ring_once_the_last_word_has_been_said() {
    // The loop was held up. Looking at the connection before it rings, it meets the peer's FIN, or an order to close.
    for (last, farewell) in [(FIN, "ended "), (recv("9 close\n"), "9 close")] {
        let mut talk = Talk::with_puppet(Puppet { ended: "9", elapsed: "", ..Puppet::default() });
        assert_eq!(talk.drive([recv("wake:500\n")]), Blocked);
        assert_eq!(talk.expire_at(600, [last, SEND_BLOCKS]), Blocked);
        assert_eq!(talk.log(), ["wake:500", farewell]);
        assert!(!talk.connection.wants_read());
    }
}
