//! Errors of the kernel, and what each of them ends as.

use super::*;

#[test]
fn every_error_of_the_kernel_is_the_reason_of_the_end() {
    // Each in every place where it can come: on receiving, on sending at once, on sending the rest, on our FIN, and after.
    use ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, OutOfMemory, TimedOut,
    };
    let kinds = [
        BrokenPipe,
        ConnectionAborted,
        ConnectionReset,
        HostUnreachable,
        OutOfMemory,
        TimedOut,
        ErrorKind::Other,
    ];
    for kind in kinds {
        let peer_has_left = matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset);
        let expected =
            Ended(if peer_has_left { CloseReason::PeerReset } else { CloseReason::Io(kind) });
        let talk = || Talk::with_puppet(Puppet::default());
        assert_eq!(talk().drive([recv_fails(kind)]), expected);
        assert_eq!(talk().drive([recv("1\n"), send_fails(kind)]), expected);
        let mut slow = talk();
        assert_eq!(slow.drive([recv("9\n"), send_some(4)]), Blocked);
        assert_eq!(slow.drive_writable([send_fails(kind)]), expected);
        assert_eq!(
            talk().drive([recv("1 close\n"), send_some(1), Step::Finish(Err(Fault::Kind(kind)))]),
            expected
        );
        let mut lingering = talk();
        assert_eq!(lingering.drive([recv("close\n"), FINISH]), Blocked);
        assert_eq!(lingering.drive_readable([recv_fails(kind)]), expected);
    }
}

#[test]
#[cfg(unix)]
fn every_errno_of_recv_and_send_leads_to_what_it_should() {
    // What the peer brought about is told from what happened to us; to be blocked or interrupted is no end. All rows of the
    // tables are tried, and an errno that they do not have. What follows is said here once more, by number and kind.
    use crate::sys::errno::tests::{UNKNOWN_ERRNO, all_of_receive, all_of_send};
    let left = [libc::ECONNRESET, libc::ECONNABORTED, libc::EPIPE, libc::ENOTCONN];
    let io = |errno: i32| Ended(CloseReason::Io(io::Error::from_raw_os_error(errno).kind()));
    let talk = || Talk::with_puppet(Puppet::default());
    for errno in all_of_receive().chain(left).chain([libc::EWOULDBLOCK, UNKNOWN_ERRNO]) {
        let fails = || Step::Recv(Err(Fault::Errno(errno)));
        match errno {
            libc::EWOULDBLOCK => assert_eq!(talk().drive([fails()]), Blocked),
            libc::EINTR => {
                assert_eq!(
                    talk().drive([fails(), recv("1\n"), send_replies(bytes(0, 1))]),
                    Blocked
                );
            }
            errno if left.contains(&errno) => {
                assert_eq!(talk().drive([fails()]), Ended(CloseReason::PeerReset), "{errno}");
            }
            errno => assert_eq!(talk().drive([fails()]), io(errno), "{errno}"),
        }
    }
    for errno in
        all_of_send().chain(left).chain([libc::EPROTOTYPE, libc::EWOULDBLOCK, UNKNOWN_ERRNO])
    {
        let fails = || Step::Send(Err(Fault::Errno(errno)));
        let ends = |why: Outcome| {
            assert_eq!(talk().drive([recv("1\n"), fails()]), why, "{errno}");
            let mut slow = talk();
            assert_eq!(slow.drive([recv("9\n"), send_some(4)]), Blocked);
            assert_eq!(slow.drive_writable([fails()]), why, "{errno}");
        };
        match errno {
            libc::EWOULDBLOCK => {
                let mut blocked = talk();
                assert_eq!(blocked.drive([recv("1\n"), fails()]), Blocked);
                assert_eq!(
                    blocked.drive_writable([send_replies(bytes(0, 1))]),
                    Blocked,
                    "nothing is lost"
                );
            }
            libc::EINTR => {
                assert_eq!(
                    talk().drive([recv("1\n"), fails(), send_replies(bytes(0, 1))]),
                    Blocked
                );
            }
            libc::EPROTOTYPE => ends(Ended(CloseReason::PeerReset)),
            errno if left.contains(&errno) => ends(Ended(CloseReason::PeerReset)),
            errno => ends(io(errno)),
        }
    }
}

#[test]
fn a_send_that_takes_nothing_and_gives_no_reason_is_an_error() {
    // Otherwise it would be tried for ever.
    let ended = Talk::with(Echo::new()).drive([recv("x"), send_some(0)]);
    assert_eq!(ended, Ended(CloseReason::Io(ErrorKind::WriteZero)));
}
