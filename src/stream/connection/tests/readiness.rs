//! Readiness: which results of recv and send prove that a socket is not ready.

use super::*;

#[test]
fn one_message_costs_one_recv_and_one_send() {
    // A short read shows that the socket is drained: it is not read again until the kernel says so.
    let mut talk = Talk::with(Echo::new());
    assert_eq!(talk.drive([recv("hello"), send_replies("hello")]), Blocked);
    assert_eq!(talk.drive([]), Blocked);
    assert_eq!(talk.drive_readable([recv("again"), send_replies("again")]), Blocked);
}

#[test]
fn a_full_read_is_followed_by_another() {
    // Five bytes of room, five bytes read: there may be more. Only the kernel's word ends it.
    let mut talk = Talk::with(Echo::new());
    talk.scratch = vec![0; 5];
    assert_eq!(
        talk.drive([
            recv("hello"),
            send_replies("hello"),
            recv("world"),
            send_replies("world"),
            RECV_BLOCKS
        ]),
        Blocked
    );
    assert_eq!(talk.drive([]), Blocked);
}

#[test]
fn a_fin_merged_into_the_edge_of_the_last_bytes_is_found() {
    // No further edge comes for it, so a short read proves nothing here.
    let mut talk = Talk::with(Echo::new());
    talk.ready.read_until_would_block = true;
    assert_eq!(
        talk.drive([recv("hello"), send_replies("hello"), FIN]),
        Ended(CloseReason::Finished)
    );
}

#[test]
fn an_urgent_mark_does_not_hide_what_lies_behind_it() {
    // The mark cuts a read short, so it is read on until the kernel says that this was all. Then a short read counts again.
    let mut talk = Talk::with(Echo::new());
    talk.ready.read_until_would_block = true;
    assert_eq!(
        talk.drive([
            recv("before"),
            send_replies("before"),
            recv("behind"),
            send_replies("behind"),
            RECV_BLOCKS
        ]),
        Blocked
    );
    assert_eq!(talk.drive_readable([recv("later"), send_replies("later")]), Blocked);
}

#[test]
fn a_short_read_of_a_unix_socket_never_proves_that_it_is_empty() {
    // A descriptor that the peer passes along cuts the read behind its bytes, at any time and without an edge of its own.
    let mut talk = Talk::with(Echo::new());
    talk.ready = Readiness::UNKNOWN_UNIX;
    assert_eq!(
        talk.drive([
            recv("before"),
            send_replies("before"),
            recv("behind"),
            send_replies("behind"),
            RECV_BLOCKS
        ]),
        Blocked
    );
    assert_eq!(
        talk.drive_readable([
            recv("one"),
            send_replies("one"),
            recv("two"),
            send_replies("two"),
            RECV_BLOCKS
        ]),
        Blocked
    );
}

#[test]
fn a_signal_interrupts_nothing() {
    // EINTR says nothing of the socket: the same call is made again.
    let mut talk = Talk::with(Echo::new());
    let again = || ErrorKind::Interrupted;
    let steps = [
        recv_fails(again()),
        recv("x"),
        send_fails(again()),
        send_fails(again()),
        send_replies("x"),
    ];
    assert_eq!(talk.drive(steps), Blocked);
    assert_eq!(
        talk.drive_readable([recv_fails(again()), recv_fails(again()), FIN]),
        Ended(CloseReason::Finished)
    );
    let mut lingering = Talk::with_puppet(Puppet::default());
    assert_eq!(lingering.drive([recv("close\n"), FINISH]), Blocked);
    assert_eq!(lingering.drive_readable([recv_fails(again()), recv("x")]), Blocked);
}

#[test]
fn news_that_were_none_do_no_harm() {
    // The kernel says readable and writable, and then that it is neither.
    let mut talk = Talk::with(Echo::new());
    assert_eq!(talk.drive([RECV_BLOCKS]), Blocked);
    assert_eq!(talk.drive_writable([]), Blocked);
    assert_eq!(talk.drive_readable([RECV_BLOCKS]), Blocked);
    assert_eq!(talk.drive_readable([recv("x"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_writable([SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_writable([send_replies("x")]), Blocked);
}
