//! Readiness: which results prove that a socket is not ready, and which prove nothing.

use super::*;

#[test]
fn one_message_costs_one_recv_and_one_send() {
    // A short read proves that the socket is empty: it is not read again before the next event.
    let mut harness = echo();
    assert_eq!(harness.drive([recv("hello"), send_all("hello")]), Blocked);
    assert_eq!(harness.drive([]), Blocked);
    assert_eq!(harness.drive_readable([recv("again"), send_all("again")]), Blocked);
}

#[test]
fn full_read_is_followed_by_another_read() {
    // Five bytes of room, five bytes read: there may be more. Only `WouldBlock` proves that there
    // is not.
    let mut harness = echo();
    harness.scratch = vec![0; 5];
    assert_eq!(
        harness.drive([
            recv("hello"),
            send_all("hello"),
            recv("world"),
            send_all("world"),
            RECV_BLOCKS
        ]),
        Blocked
    );
    assert_eq!(harness.drive([]), Blocked);
}

// pitfall: 4
#[test]
fn fin_merged_into_the_edge_of_the_last_bytes_is_found() {
    // No further edge comes for the FIN, so a short read proves nothing here.
    let mut harness = echo();
    harness.ready.set_read_until_would_block(true);
    assert_eq!(
        harness.drive([recv("hello"), send_all("hello"), FIN]),
        Ended(CloseReason::Finished)
    );
}

// pitfall: 5
#[test]
fn urgent_mark_does_not_hide_bytes_behind_it() {
    // The urgent mark cuts a read short, so the socket is read until `WouldBlock`. After that a
    // short read is a proof again.
    let mut harness = echo();
    harness.ready.set_read_until_would_block(true);
    assert_eq!(
        harness.drive([
            recv("before"),
            send_all("before"),
            recv("behind"),
            send_all("behind"),
            RECV_BLOCKS
        ]),
        Blocked
    );
    assert_eq!(harness.drive_readable([recv("later"), send_all("later")]), Blocked);
}

// pitfall: 91
#[test]
fn short_read_of_a_unix_socket_never_proves_that_it_is_empty() {
    // A descriptor that the peer passes cuts the read after its bytes, at any time and without an
    // edge of its own.
    let mut harness = echo();
    harness.ready = Readiness::of_stream(Peer::Unix).with_both();
    assert_eq!(
        harness.drive([
            recv("before"),
            send_all("before"),
            recv("behind"),
            send_all("behind"),
            RECV_BLOCKS
        ]),
        Blocked
    );
    assert_eq!(
        harness.drive_readable([
            recv("one"),
            send_all("one"),
            recv("two"),
            send_all("two"),
            RECV_BLOCKS
        ]),
        Blocked
    );
}

// pitfall: 5
#[test]
fn interrupted_calls_are_made_again() {
    // EINTR proves nothing about the socket: the same call is made again.
    let mut harness = echo();
    let eintr = || ErrorKind::Interrupted;
    let script =
        [recv_fails(eintr()), recv("x"), send_fails(eintr()), send_fails(eintr()), send_all("x")];
    assert_eq!(harness.drive(script), Blocked);
    assert_eq!(
        harness.drive_readable([recv_fails(eintr()), recv_fails(eintr()), FIN]),
        Ended(CloseReason::Finished)
    );
    let mut lingering = scripted(ScriptedProtocol::default());
    assert_eq!(lingering.drive([recv("close\n"), SHUTDOWN]), Blocked);
    assert_eq!(lingering.drive_readable([recv_fails(eintr()), recv("x")]), Blocked);
}

// pitfall: 13
#[test]
fn spurious_readiness_does_no_harm() {
    // Events report readable and writable, and each call then returns `WouldBlock`.
    let mut harness = echo();
    assert_eq!(harness.drive([RECV_BLOCKS]), Blocked);
    assert_eq!(harness.drive_writable([]), Blocked);
    assert_eq!(harness.drive_readable([RECV_BLOCKS]), Blocked);
    assert_eq!(harness.drive_readable([recv("x"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.drive_writable([SEND_BLOCKS]), Blocked);
    assert_eq!(harness.drive_writable([send_all("x")]), Blocked);
}
