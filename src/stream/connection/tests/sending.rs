//! Sending: partial writes, order, and the first bytes of a server.

use super::*;

#[test]
fn a_short_send_at_any_byte_loses_and_repeats_nothing() {
    // The kernel takes one part, and the rest when it says that it can be written; not before.
    for taken in 0..5 {
        let mut talk = Talk::with(Echo::new());
        let first = if taken == 0 { SEND_BLOCKS } else { send_some(taken) };
        assert_eq!(talk.drive([recv("hello"), first]), Blocked);
        assert_eq!(talk.drive([]), Blocked);
        assert_eq!(talk.drive_writable([send_replies(&b"hello"[taken..])]), Blocked);
        assert_eq!(talk.wire.sent, b"hello");
    }
}

#[test]
fn a_reply_does_not_overtake_an_older_one() {
    // The older waits. The newer is not even tried before it, also where the kernel could be written by now.
    let mut talk = Talk::with(Echo::new());
    assert_eq!(talk.drive([recv("hello"), send_some(4)]), Blocked);
    assert_eq!(talk.drive_readable([recv(" wor")]), Blocked);
    talk.ready.readable = true;
    assert_eq!(talk.drive_writable([send_some(1), recv("ld")]), Blocked);
    assert_eq!(talk.drive_writable([send_replies(" world")]), Blocked);
}

#[test]
fn replies_to_all_that_one_read_brought_leave_together() {
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(
        talk.drive([recv("3\n4\n5\nand half of an ord"), send_replies(bytes(0, 12))]),
        Blocked
    );
    assert_eq!(talk.log(), ["3", "4", "5"]);
}

#[test]
fn a_server_may_speak_first() {
    // What the kernel does not take of the greeting waits like any other reply; then the peer is heard.
    let mut talk = Talk::with_puppet(Puppet { opened: "9", ..Puppet::default() });
    assert_eq!(talk.open([send_some(2), recv("1\n")]), Blocked);
    assert_eq!(talk.drive_writable([send_replies(bytes(2, 8))]), Blocked);
    assert_eq!(talk.log(), ["opened", "1"]);
    let mut talk = Talk::with_puppet(Puppet { opened: "9", ..Puppet::default() });
    assert_eq!(talk.open([send_fails(ErrorKind::BrokenPipe)]), Ended(CloseReason::PeerReset));
}
