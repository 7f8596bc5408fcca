//! Closing: half-close, lingering and aborts.

use super::*;

#[test]
fn half_closed_peer_still_gets_its_reply() {
    // Its FIN comes with half an order left over, and while the reply waits. Whether the protocol goes on or closes: the rest
    // is sent, and that is the end, without a FIN of ours to linger behind.
    for ended in ["3", "3 close", "3 agree"] {
        let mut talk = Talk::with_puppet(Puppet { ended, ..Puppet::default() });
        assert_eq!(talk.drive([recv("5\nhalf"), SEND_BLOCKS]), Blocked);
        assert_eq!(talk.drive_readable([FIN]), Blocked);
        assert_eq!(talk.log(), ["5", "ended half"]);
        assert_eq!(talk.drive_readable([]), Blocked, "nothing comes any more");
        assert_eq!(talk.drive_writable([send_some(7)]), Blocked);
        assert_eq!(talk.drive_writable([send_replies(bytes(7, 1))]), Ended(CloseReason::Finished));
    }
}

#[test]
fn a_peer_that_only_ends_is_let_go_at_once() {
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([FIN]), Ended(CloseReason::Finished));
    assert_eq!(talk.log(), ["ended "]);
}

#[test]
fn who_closes_first_sends_all_then_its_fin_and_waits_for_the_peers() {
    // What the peer says meanwhile is read, lest it becomes a reset, and heard by nobody.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("5 close\n6\n"), send_some(3)]), Blocked);
    assert_eq!(talk.drive_readable([]), Blocked, "first things first");
    assert_eq!(talk.drive_writable([send_replies(bytes(3, 2)), FINISH, recv("7\n")]), Blocked);
    assert_eq!(talk.drive_readable([recv("8\n")]), Blocked);
    assert_eq!(talk.drive_writable([]), Blocked);
    assert_eq!(talk.drive_readable([FIN]), Ended(CloseReason::Finished));
    assert_eq!(talk.log(), ["5 close"]);
}

#[test]
fn lingering_has_an_end_in_time() {
    // Bytes that come meanwhile do not move it.
    let mut talk = Talk::with_puppet(Puppet::default());
    talk.at_ms(1000);
    assert_eq!(talk.drive([recv("close\n"), FINISH]), Blocked);
    talk.at_ms(2500);
    assert_eq!(talk.drive_readable([recv("still here")]), Blocked);
    talk.ends_at(3000, CloseReason::Finished);
}

#[test]
fn lingering_has_an_end_in_bytes() {
    let mut talk =
        Talk::over_puppet(Kernel::default(), Puppet { opened: "close", ..Puppet::default() });
    talk.scratch = vec![0; 65_536]; // of which the bound is a multiple
    talk.wire.arrived = usize::MAX / 2;
    let mut outcome = talk.open_once();
    while outcome == Unfinished {
        assert!(talk.wire.read <= LINGER_BYTES_MAX as usize);
        outcome = talk.drive_once();
    }
    assert_eq!(
        (outcome, talk.wire.read),
        (Ended(CloseReason::Finished), LINGER_BYTES_MAX as usize)
    );
}

#[test]
fn an_agreed_end_is_not_waited_for() {
    // All has been read (the read was short), so nothing can become a reset.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("5 agree\n"), send_some(3)]), Blocked);
    assert_eq!(talk.drive_writable([send_replies(bytes(3, 2))]), Ended(CloseReason::Finished));
}

#[test]
fn a_peer_that_says_more_after_an_agreed_end_is_lingered_for() {
    // More that was read with it, or that may be in the kernel, for the read was full.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("5 agree\n6\n"), send_replies(bytes(0, 5)), FINISH]), Blocked);
    assert_eq!(talk.drive_readable([FIN]), Ended(CloseReason::Finished));
    let mut talk = Talk::with_puppet(Puppet::default());
    talk.scratch = vec![0; 8];
    assert_eq!(
        talk.drive([recv("5 agree\n"), send_replies(bytes(0, 5)), FINISH, FIN]),
        Ended(CloseReason::Finished)
    );
}

#[test]
fn a_peer_that_says_more_while_the_agreed_ends_answer_leaves_is_lingered_for_too() {
    // All had been read when the end was agreed. More came while the answer waited: unread, it would reset the connection
    // and destroy the answer's last part.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("5 agree\n"), send_some(3)]), Blocked);
    assert_eq!(talk.drive_readable([]), Blocked);
    assert_eq!(talk.drive_writable([send_replies(bytes(3, 2)), FINISH, recv("6\n")]), Blocked);
    assert_eq!(talk.drive_readable([FIN]), Ended(CloseReason::Finished));
}

#[test]
fn who_aborts_leaves_at_once_from_anywhere() {
    let aborted = Ended(CloseReason::Aborted);
    let puppet = || Puppet {
        opened: "",
        drained: ["abort"].into(),
        elapsed: "abort",
        ended: "abort",
        ..Puppet::default()
    };
    assert_eq!(Talk::with_puppet(Puppet { opened: "abort", ..puppet() }).open([]), aborted);
    assert_eq!(Talk::with_puppet(puppet()).drive([recv("abort\n")]), aborted);
    assert_eq!(Talk::with_puppet(puppet()).drive([FIN]), aborted);
    assert_eq!(Talk::with_puppet(puppet()).drive([recv("1 pause\n"), send_some(1)]), aborted);
    let mut talk = Talk::with_puppet(puppet());
    assert_eq!(talk.drive([recv("9 wake:5\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(5, []), aborted);
}

#[test]
fn the_protocol_is_told_of_the_end_once_and_last() {
    for why in [CloseReason::Finished, CloseReason::Aborted, CloseReason::Stopped] {
        let mut talk = Talk::with_puppet(Puppet::default());
        assert_eq!(talk.drive([recv("1\n"), send_some(1)]), Blocked);
        talk.connection.call_closed(why);
        assert_eq!(*talk.log.borrow(), ["1".to_owned(), format!("closed {why:?}")]);
    }
}
