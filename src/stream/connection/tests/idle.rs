//! Idle connections: what counts as idle, what they cost, eviction, and a stop.

use super::*;

#[test]
fn evicted_connection_lingers_only_if_input_has_arrived() {
    // Without unread input, it ends at once. Unread input would turn the close into a reset, which
    // destroys output that is still on its way. So it is read and discarded after our FIN.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("1\n"), send_all(bytes(0, 1))]), Blocked);
    harness.connection_mut().evict();
    assert_eq!(harness.drive([SHUTDOWN]), Ended(CloseReason::Finished));

    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([RECV_BLOCKS]), Blocked);
    harness.connection_mut().evict();
    assert_eq!(harness.drive_readable([SHUTDOWN, recv("1\n")]), Blocked);
    assert!(harness.calls().is_empty(), "discarded, not offered to the protocol");
    assert_eq!(harness.drive_readable([FIN]), Ended(CloseReason::Finished));
}

#[test]
fn idle_since_is_none_while_something_is_under_way() {
    // Half a line, a reply that waits, a timer, a pause. (By default, a protocol is not evictable.)
    let idle_since = |input: &'static str, script: Vec<Syscall>| {
        let mut harness = scripted(ScriptedProtocol::default());
        harness.at_ms(7);
        harness.transport.get_mut().script =
            [vec![recv(input)], script].into_iter().flatten().collect();
        assert_eq!(harness.drive_once(), Blocked);
        assert!(!harness.connection().is_evictable());
        harness.connection().idle_since()
    };
    assert_eq!(
        idle_since("1\n", vec![send_all(bytes(0, 1))]),
        Some(Time::at(Duration::from_millis(7)))
    );
    assert_eq!(idle_since("half", vec![]), None);
    assert_eq!(idle_since("2\n", vec![send_takes(1)]), None);
    assert_eq!(idle_since("timer:100\n", vec![]), None);
    assert_eq!(idle_since("pause\n", vec![]), None);
}

// pitfall: 67, 68
// rule: idle-connection
#[test]
fn idle_connection_owns_no_buffer() {
    // Input and output have waited. When both are gone, their memory is freed.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("60000\n60000\n      "), SEND_BLOCKS]), Blocked);
    assert!(
        !harness.connection().buffers.input().is_empty()
            && harness.connection().buffers.output().len() == 120_000
    );
    assert_eq!(harness.drive_writable([send_all(bytes(0, 120_000))]), Blocked);
    assert_eq!(harness.drive_readable([recv("\n")]), Blocked);
    assert!(
        harness.connection().buffers.input().is_empty()
            && harness.connection().buffers.output().is_empty(),
        "an empty buffer is a null pointer"
    );
    assert!(size_of::<Connection>() <= 64, "{} bytes for each", size_of::<Connection>());
}

#[test]
fn is_idle_is_false_while_something_is_under_way() {
    // A stop closes idle connections at once, and only these.
    let is_idle = |script: [Syscall; 2]| {
        let mut harness = scripted(ScriptedProtocol::default());
        assert_eq!(harness.drive(script), Blocked);
        harness.connection().is_idle()
    };
    assert!(is_idle([recv("5\n"), send_takes(5)]));
    assert!(!is_idle([recv("5\n"), send_takes(4)]), "output waits");
    assert!(!is_idle([recv("5\nhal"), send_takes(5)]), "half a line is buffered");
    assert!(!is_idle([recv("timer:9 5 pause\n"), SEND_BLOCKS]), "paused");
    assert!(!is_idle([recv("close\n"), SHUTDOWN]), "lingering");
}

#[test]
fn idle_connection_closed_by_a_stop_sends_fin_and_lingers() {
    // As after `Next::Close`: our FIN is sent, and input that was on its way is discarded.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("1\n"), send_takes(1)]), Blocked);
    harness.at_ms(10_000);
    harness.connection_mut().close_idle();
    assert_eq!(harness.drive([SHUTDOWN]), Blocked);
    assert_eq!(harness.drive_readable([recv("2\n")]), Blocked);
    assert_eq!(harness.calls(), ["1"]);
    harness.ends_at(12_000, CloseReason::Finished);
}
