//! Errors of the kernel, and the close reason that each becomes.

use super::*;

// pitfall: 29
#[test]
fn every_kernel_error_becomes_the_close_reason() {
    // Each in every place where it can occur: receiving, sending a reply, sending the rest of it,
    // sending our FIN, and lingering.
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
        let is_disconnect = matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset);
        let expected =
            Ended(if is_disconnect { CloseReason::PeerReset } else { CloseReason::Io(kind) });
        let harness = || scripted(ScriptedProtocol::default());
        assert_eq!(harness().drive([recv_fails(kind)]), expected);
        assert_eq!(harness().drive([recv("1\n"), send_fails(kind)]), expected);
        let mut slow = harness();
        assert_eq!(slow.drive([recv("9\n"), send_takes(4)]), Blocked);
        assert_eq!(slow.drive_writable([send_fails(kind)]), expected);
        assert_eq!(
            harness().drive([
                recv("1 close\n"),
                send_takes(1),
                Syscall::Shutdown(Err(SyscallError::Kind(kind)))
            ]),
            expected
        );
        let mut lingering = harness();
        assert_eq!(lingering.drive([recv("close\n"), SHUTDOWN]), Blocked);
        assert_eq!(lingering.drive_readable([recv_fails(kind)]), expected);
    }
}

// pitfall: 29
#[test]
#[cfg(unix)]
fn every_errno_of_recv_and_send_has_its_documented_outcome() {
    // A disconnect by the peer is distinguished from a failure on our side. EWOULDBLOCK and EINTR
    // end nothing. All rows of the tables in errno.rs are tried, and an errno that is not in them.
    // The outcomes are stated here a second time.
    use crate::sys::errno::tests::{UNKNOWN_ERRNO, all_of_receive, all_of_send};
    let disconnects = [libc::ECONNRESET, libc::ECONNABORTED, libc::EPIPE, libc::ENOTCONN];
    let io = |errno: i32| Ended(CloseReason::Io(io::Error::from_raw_os_error(errno).kind()));
    let harness = || scripted(ScriptedProtocol::default());
    for errno in all_of_receive().chain(disconnects).chain([libc::EWOULDBLOCK, UNKNOWN_ERRNO]) {
        let fails = || Syscall::Recv(Err(SyscallError::Errno(errno)));
        match errno {
            libc::EWOULDBLOCK => assert_eq!(harness().drive([fails()]), Blocked),
            libc::EINTR => {
                assert_eq!(harness().drive([fails(), recv("1\n"), send_all(bytes(0, 1))]), Blocked);
            }
            errno if disconnects.contains(&errno) => {
                assert_eq!(harness().drive([fails()]), Ended(CloseReason::PeerReset), "{errno}");
            }
            errno => assert_eq!(harness().drive([fails()]), io(errno), "{errno}"),
        }
    }
    for errno in
        all_of_send().chain(disconnects).chain([libc::EPROTOTYPE, libc::EWOULDBLOCK, UNKNOWN_ERRNO])
    {
        let fails = || Syscall::Send(Err(SyscallError::Errno(errno)));
        let ends = |why: Outcome| {
            assert_eq!(harness().drive([recv("1\n"), fails()]), why, "{errno}");
            let mut slow = harness();
            assert_eq!(slow.drive([recv("9\n"), send_takes(4)]), Blocked);
            assert_eq!(slow.drive_writable([fails()]), why, "{errno}");
        };
        match errno {
            libc::EWOULDBLOCK => {
                let mut blocked = harness();
                assert_eq!(blocked.drive([recv("1\n"), fails()]), Blocked);
                assert_eq!(
                    blocked.drive_writable([send_all(bytes(0, 1))]),
                    Blocked,
                    "nothing is lost"
                );
            }
            libc::EINTR => {
                assert_eq!(harness().drive([recv("1\n"), fails(), send_all(bytes(0, 1))]), Blocked);
            }
            libc::EPROTOTYPE => ends(Ended(CloseReason::PeerReset)),
            errno if disconnects.contains(&errno) => ends(Ended(CloseReason::PeerReset)),
            errno => ends(io(errno)),
        }
    }
}

#[test]
fn send_that_returns_zero_is_an_error() {
    // Otherwise the send would be repeated for ever.
    let outcome = echo().drive([recv("x"), send_takes(0)]);
    assert_eq!(outcome, Ended(CloseReason::Io(ErrorKind::WriteZero)));
}
