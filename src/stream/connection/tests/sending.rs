//! Sending: partial writes, the order of replies, and a greeting.

use super::*;

// pitfall: 17
#[test]
fn partial_write_at_any_byte_loses_and_repeats_nothing() {
    // The kernel takes a part. The rest is offered after the next event, not before.
    for taken in 0..5 {
        let mut harness = echo();
        let first = if taken == 0 { SEND_BLOCKS } else { send_takes(taken) };
        assert_eq!(harness.drive([recv("hello"), first]), Blocked);
        assert_eq!(harness.drive([]), Blocked);
        assert_eq!(harness.drive_writable([send_all(&b"hello"[taken..])]), Blocked);
        assert_eq!(harness.transport.get_mut().sent, b"hello");
    }
}

// pitfall: 19
#[test]
fn reply_does_not_overtake_an_older_one() {
    // The older reply waits. The newer one is appended to it, even if the socket is writable by
    // now.
    let mut harness = echo();
    assert_eq!(harness.drive([recv("hello"), send_takes(4)]), Blocked);
    assert_eq!(harness.drive_readable([recv(" wor")]), Blocked);
    harness.ready.set_readable(true);
    assert_eq!(harness.drive_writable([send_takes(1), recv("ld")]), Blocked);
    assert_eq!(harness.drive_writable([send_all(" world")]), Blocked);
}

#[test]
fn replies_to_one_read_leave_with_one_send() {
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(
        harness.drive([recv("3\n4\n5\nand half of a line"), send_all(bytes(0, 12))]),
        Blocked
    );
    assert_eq!(harness.calls(), ["3", "4", "5"]);
}

#[test]
fn greeting_is_sent_before_the_first_read() {
    // What the kernel does not take of the greeting waits as a reply does. Then the peer is read.
    let mut harness = scripted(ScriptedProtocol { opened: "9", ..ScriptedProtocol::default() });
    assert_eq!(harness.open([send_takes(2), recv("1\n")]), Blocked);
    assert_eq!(harness.drive_writable([send_all(bytes(2, 8))]), Blocked);
    assert_eq!(harness.calls(), ["opened", "1"]);
    let mut harness = scripted(ScriptedProtocol { opened: "9", ..ScriptedProtocol::default() });
    assert_eq!(harness.open([send_fails(ErrorKind::BrokenPipe)]), Ended(CloseReason::PeerReset));
}
