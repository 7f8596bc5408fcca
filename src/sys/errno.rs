//! What each error of the kernel means to each call: one table for one call.
//!
//! ```text
//!     accept ──┐
//!     recv   ──┤    errno ──► row ──► meaning ──► what is done
//!     send   ──┤       └──► no row: what is said above the table
//!     sendmsg ─┤
//!     openat2 ─┘
//! ```
//!
//! No errno is fatal to the process, and only three are to a listener. The tables are searched where a call has failed,
//! never where it went well. Where a system has no errnos, or an error was not made from one, its `ErrorKind` decides.

use std::io::{self, ErrorKind};

/// What an error of accept(2) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// Nobody waits.
    WouldBlock,
    /// Nothing has been said about anybody: ask again.
    Interrupted,
    /// This one has failed, and has left the backlog; the next may not. An errno that is not in the table means this.
    HandshakeFailed,
    /// There is no descriptor or no memory for it, and it stays in the backlog.
    Exhausted,
    /// The socket does not listen. No peer can bring this about, and no waiting mends it.
    Broken,
}

/// What an error of recv(2) or send(2) says of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamError {
    /// There is nothing, or no room, until the kernel tells of it.
    WouldBlock,
    /// Nothing has happened: call again.
    Interrupted,
    /// The peer has left, or has thrown us out.
    Disconnected,
    /// The connection is no more, or we must not rely on it. An errno that is not in the table means this.
    Failed,
}

/// What an error of openat2(2), or of what stands in for it, says of a file that a peer has asked for.
#[cfg(all(unix, feature = "files"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// There is no such file.
    NotFound,
    /// There is one, and it is not for everybody, or not below the root.
    Forbidden,
    /// The process has no descriptor for it.
    NoDescriptor,
    /// Perhaps later.
    TryLater,
    /// It should have been opened. An errno that is not in the table means this.
    Failed,
}

/// What an error of sendmsg(2) or sendmmsg(2) says of the first message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatagramError {
    /// There is no room in the socket until the kernel tells of it.
    WouldBlock,
    /// Nothing has happened: call again.
    Interrupted,
    /// The device cannot cut a train. Its datagrams can go one by one, and so had all better from now on.
    GsoUnsupported,
    /// The path's packets are smaller than the datagrams of the train. Those can go one by one; other trains are well.
    GsoTooLargeForPath,
    /// It cannot be sent, and holds up nobody. An errno that is not in the table means this.
    Unsendable,
}

// EAGAIN stands for EWOULDBLOCK too: nearly everywhere they are one number, and elsewhere the kind finds it.

#[cfg(unix)]
const ACCEPT: &[(i32, AcceptError)] = &[
    (libc::EAGAIN, AcceptError::WouldBlock),
    (libc::EINTR, AcceptError::Interrupted), // a signal
    (libc::ECONNABORTED, AcceptError::HandshakeFailed), // it has left again
    (libc::EPROTO, AcceptError::HandshakeFailed), // the same, on some systems
    (libc::EPERM, AcceptError::HandshakeFailed), // a firewall forbids it
    (libc::ETIMEDOUT, AcceptError::HandshakeFailed), // its handshake was not finished
    // Linux hands on an error that waits on the new socket. accept(2) says to go on after these.
    (libc::ENETDOWN, AcceptError::HandshakeFailed),
    (libc::ENETUNREACH, AcceptError::HandshakeFailed),
    (libc::EHOSTDOWN, AcceptError::HandshakeFailed),
    (libc::EHOSTUNREACH, AcceptError::HandshakeFailed),
    (libc::ENOPROTOOPT, AcceptError::HandshakeFailed),
    // It is among them. It also means a socket that can never listen, which none of ours is; and if it came for ever, the
    // listener would rest.
    (libc::EOPNOTSUPP, AcceptError::HandshakeFailed),
    #[cfg(any(target_os = "linux", target_os = "android"))]
    (libc::ENONET, AcceptError::HandshakeFailed),
    (libc::EMFILE, AcceptError::Exhausted), // the process has no descriptor
    (libc::ENFILE, AcceptError::Exhausted), // the system has none
    (libc::ENOBUFS, AcceptError::Exhausted), // no memory, often that of sockets
    (libc::ENOMEM, AcceptError::Exhausted),
    (libc::EBADF, AcceptError::Broken), // closed behind our back
    (libc::ENOTSOCK, AcceptError::Broken), // and another file has its number
    (libc::EINVAL, AcceptError::Broken), // it does not listen any more
];

#[cfg(unix)]
const RECEIVE: &[(i32, StreamError)] = &[
    (libc::EAGAIN, StreamError::WouldBlock),
    (libc::EINTR, StreamError::Interrupted), // a signal
    (libc::ECONNRESET, StreamError::Disconnected),
    (libc::ECONNABORTED, StreamError::Disconnected), // the same, on some systems
    (libc::EPIPE, StreamError::Disconnected),        // reported late, of an earlier send
    (libc::ENOTCONN, StreamError::Disconnected),     // reset before we looked, on some systems
    (libc::ETIMEDOUT, StreamError::Failed),          // nothing of ours was acknowledged
    (libc::EHOSTUNREACH, StreamError::Failed),       // the way there has gone
    (libc::ENETUNREACH, StreamError::Failed),
    (libc::ENETDOWN, StreamError::Failed),
    (libc::ECONNREFUSED, StreamError::Failed), // not of a connection that was accepted
    // To wait for memory would be to wait for an edge that never comes.
    (libc::ENOMEM, StreamError::Failed),
    (libc::ENOBUFS, StreamError::Failed),
    (libc::EBADF, StreamError::Failed), // closed behind our back: our mistake, and nobody else's end
    (libc::ENOTSOCK, StreamError::Failed),
    (libc::EINVAL, StreamError::Failed),
    (libc::EFAULT, StreamError::Failed),
];

#[cfg(unix)]
const SEND: &[(i32, StreamError)] = &[
    (libc::EAGAIN, StreamError::WouldBlock),
    (libc::EINTR, StreamError::Interrupted),  // a signal
    (libc::EPIPE, StreamError::Disconnected), // it was reset, and that has been told already
    (libc::ECONNRESET, StreamError::Disconnected),
    (libc::ECONNABORTED, StreamError::Disconnected), // the same, on some systems
    (libc::ENOTCONN, StreamError::Disconnected),     // reset before we spoke, on some systems
    (libc::EPROTOTYPE, StreamError::Disconnected), // on macOS: it is being taken down at this moment
    (libc::ETIMEDOUT, StreamError::Failed),        // nothing of ours was acknowledged
    (libc::EHOSTUNREACH, StreamError::Failed),     // the way there has gone
    (libc::ENETUNREACH, StreamError::Failed),
    (libc::ENETDOWN, StreamError::Failed),
    (libc::EACCES, StreamError::Failed), // a firewall forbids it
    (libc::EPERM, StreamError::Failed),
    // As for recv: a stream that has lost nothing yet is ended, rather than one that hears nothing more be kept.
    (libc::ENOMEM, StreamError::Failed),
    (libc::ENOBUFS, StreamError::Failed),
    (libc::EMSGSIZE, StreamError::Failed), // not of a stream
    (libc::EBADF, StreamError::Failed), // closed behind our back: our mistake, and nobody else's end
    (libc::ENOTSOCK, StreamError::Failed),
    (libc::EINVAL, StreamError::Failed),
    (libc::EFAULT, StreamError::Failed),
];

#[cfg(unix)]
const SEND_DATAGRAM: &[(i32, DatagramError)] = &[
    (libc::EAGAIN, DatagramError::WouldBlock),
    (libc::EINTR, DatagramError::Interrupted), // a signal
    // A single datagram can fail with these four too; then it is unsendable.
    (libc::EINVAL, DatagramError::GsoUnsupported), // the kernel knows of no trains
    (libc::EIO, DatagramError::GsoUnsupported),    // the device cannot finish their checksums
    (libc::EOPNOTSUPP, DatagramError::GsoUnsupported),
    (libc::EMSGSIZE, DatagramError::GsoTooLargeForPath), // too long for a packet
    // The device's queue is full. The socket itself stays writable, so whoever waited for that would spin.
    (libc::ENOBUFS, DatagramError::Unsendable),
    (libc::ENOMEM, DatagramError::Unsendable),
    (libc::EPERM, DatagramError::Unsendable), // a firewall forbids it
    (libc::EACCES, DatagramError::Unsendable), // a broadcast address
    (libc::ENETUNREACH, DatagramError::Unsendable), // there is no way there
    (libc::EHOSTUNREACH, DatagramError::Unsendable),
    (libc::ENETDOWN, DatagramError::Unsendable),
    (libc::ECONNREFUSED, DatagramError::Unsendable), // said of an earlier one; to have told it clears it
    (libc::EADDRNOTAVAIL, DatagramError::Unsendable), // port 0, or our address has gone
    (libc::EAFNOSUPPORT, DatagramError::Unsendable), // not our kind of address
    (libc::EDESTADDRREQ, DatagramError::Unsendable), // no address
    (libc::EPIPE, DatagramError::Unsendable),        // somebody has shut the socket down
    (libc::EBADF, DatagramError::Unsendable),        // our mistake, which must not end the streams
    (libc::ENOTSOCK, DatagramError::Unsendable),
    (libc::EFAULT, DatagramError::Unsendable),
];

#[cfg(all(unix, feature = "files"))]
const OPEN: &[(i32, OpenError)] = &[
    (libc::ENOENT, OpenError::NotFound),
    (libc::ENOTDIR, OpenError::NotFound), // it would be below a file
    (libc::ENAMETOOLONG, OpenError::NotFound), // no name is so long
    (libc::EILSEQ, OpenError::NotFound),  // nor in an encoding that this file system does not have
    (libc::ELOOP, OpenError::NotFound),   // a link that leads to itself
    (libc::ENXIO, OpenError::NotFound),   // a socket, or a device that is not there
    (libc::ENODEV, OpenError::NotFound),
    (libc::ESTALE, OpenError::NotFound), // it has just gone, on another machine
    (libc::EACCES, OpenError::Forbidden),
    (libc::EPERM, OpenError::Forbidden),
    (libc::EXDEV, OpenError::Forbidden), // out of the root; cap-std says it by its kind
    (libc::EMFILE, OpenError::NoDescriptor),
    (libc::ENFILE, OpenError::TryLater), // the system has none
    (libc::ENOMEM, OpenError::TryLater),
    (libc::EAGAIN, OpenError::TryLater), // somebody holds a lease on it
    (libc::EINTR, OpenError::TryLater),  // a signal, on a slow file system
    (libc::EIO, OpenError::Failed),
];

#[cfg(not(unix))]
const ACCEPT: &[(i32, AcceptError)] = &[];
#[cfg(not(unix))]
const RECEIVE: &[(i32, StreamError)] = &[];
#[cfg(not(unix))]
const SEND: &[(i32, StreamError)] = &[];
#[cfg(not(unix))]
const SEND_DATAGRAM: &[(i32, DatagramError)] = &[];

/// An errno without a row: this one is skipped and counted.
#[cold]
pub(crate) fn classify_accept(error: &io::Error) -> AcceptError {
    let kinds = [
        (ErrorKind::WouldBlock, AcceptError::WouldBlock),
        (ErrorKind::Interrupted, AcceptError::Interrupted),
        (ErrorKind::OutOfMemory, AcceptError::Exhausted),
    ];
    lookup(error, ACCEPT, &kinds, AcceptError::HandshakeFailed)
}

/// An errno without a row: the connection ends, as `CloseReason::Io`.
#[cold]
pub(crate) fn classify_receive(error: &io::Error) -> StreamError {
    lookup(error, RECEIVE, &STREAM_KINDS, StreamError::Failed)
}

/// The same, of send(2) and shutdown(2).
#[cold]
pub(crate) fn classify_send(error: &io::Error) -> StreamError {
    lookup(error, SEND, &STREAM_KINDS, StreamError::Failed)
}

/// An errno without a row: this datagram is dropped and counted.
#[cold]
pub(crate) fn classify_send_datagram(error: &io::Error) -> DatagramError {
    let kinds = [
        (ErrorKind::WouldBlock, DatagramError::WouldBlock),
        (ErrorKind::Interrupted, DatagramError::Interrupted),
        (ErrorKind::Unsupported, DatagramError::GsoUnsupported),
    ];
    lookup(error, SEND_DATAGRAM, &kinds, DatagramError::Unsendable)
}

/// An errno without a row: the peer is told that it is our fault, and so is the operator.
#[cfg(all(unix, feature = "files"))]
#[cold]
pub(crate) fn classify_open(error: &io::Error) -> OpenError {
    lookup(error, OPEN, &[(ErrorKind::PermissionDenied, OpenError::Forbidden)], OpenError::Failed)
}

const STREAM_KINDS: [(ErrorKind, StreamError); 6] = [
    (ErrorKind::WouldBlock, StreamError::WouldBlock),
    (ErrorKind::Interrupted, StreamError::Interrupted),
    (ErrorKind::ConnectionReset, StreamError::Disconnected),
    (ErrorKind::ConnectionAborted, StreamError::Disconnected),
    (ErrorKind::BrokenPipe, StreamError::Disconnected),
    (ErrorKind::NotConnected, StreamError::Disconnected),
];

/// The row of the error's number, or else of its kind, or else what is said of all others. Linear: a table has some twenty
/// rows, those that come often stand first, and whoever looks has just made a system call.
fn lookup<M: Copy>(
    error: &io::Error,
    rows: &[(i32, M)],
    kinds: &[(ErrorKind, M)],
    otherwise: M,
) -> M {
    let by_number = rows.iter().find(|row| Some(row.0) == error.raw_os_error()).map(|row| row.1);
    let by_kind = || kinds.iter().find(|row| row.0 == error.kind()).map(|row| row.1);
    by_number.or_else(by_kind).unwrap_or(otherwise)
}

#[cfg(test)]
#[cfg(unix)]
pub(crate) mod tests {
    use super::*;

    /// What the tables have rows for. What each must lead to is written down a second time, in the tests here and in those of
    /// whoever makes the call, and a row that they forget fails there.
    pub(crate) fn all_of_receive() -> impl Iterator<Item = i32> {
        RECEIVE.iter().map(|row| row.0)
    }

    pub(crate) fn all_of_send() -> impl Iterator<Item = i32> {
        SEND.iter().map(|row| row.0)
    }

    /// An errno that no system has.
    pub(crate) const UNKNOWN_ERRNO: i32 = 4000;

    #[test]
    fn no_errno_has_two_rows() {
        fn check<M>(table: &[(i32, M)]) {
            for (number, row) in table.iter().enumerate() {
                assert!(table[..number].iter().all(|other| other.0 != row.0), "errno {}", row.0);
            }
        }
        check(ACCEPT);
        check(RECEIVE);
        check(SEND);
        check(SEND_DATAGRAM);
        #[cfg(feature = "files")]
        check(OPEN);
    }

    #[test]
    fn nothing_but_a_socket_that_does_not_listen_ends_a_listener_and_only_a_full_house_makes_it_rest()
     {
        let nobody = [libc::EAGAIN, libc::EWOULDBLOCK];
        let full = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        let broken = [libc::EBADF, libc::EINVAL, libc::ENOTSOCK];
        for errno in ACCEPT.iter().map(|row| row.0).chain(nobody).chain(full).chain(broken).chain([
            UNKNOWN_ERRNO,
            1,
            0,
        ]) {
            let expected = match errno {
                errno if nobody.contains(&errno) => AcceptError::WouldBlock,
                errno if full.contains(&errno) => AcceptError::Exhausted,
                errno if broken.contains(&errno) => AcceptError::Broken,
                libc::EINTR => AcceptError::Interrupted,
                _ => AcceptError::HandshakeFailed,
            };
            assert_eq!(
                classify_accept(&io::Error::from_raw_os_error(errno)),
                expected,
                "errno {errno}"
            );
        }
    }

    #[test]
    fn a_datagram_is_dropped_unless_it_can_go_later_or_alone() {
        // Above all ENOBUFS: the socket stays writable, so to wait for that would be to spin.
        let blocked = [libc::EAGAIN, libc::EWOULDBLOCK];
        for errno in SEND_DATAGRAM.iter().map(|row| row.0).chain(blocked).chain([
            libc::ENOBUFS,
            UNKNOWN_ERRNO,
            0,
        ]) {
            let expected = match errno {
                errno if blocked.contains(&errno) => DatagramError::WouldBlock,
                libc::EINTR => DatagramError::Interrupted,
                libc::EINVAL | libc::EIO | libc::EOPNOTSUPP => DatagramError::GsoUnsupported,
                libc::EMSGSIZE => DatagramError::GsoTooLargeForPath,
                _ => DatagramError::Unsendable,
            };
            assert_eq!(
                classify_send_datagram(&io::Error::from_raw_os_error(errno)),
                expected,
                "errno {errno}"
            );
        }
    }

    #[test]
    #[cfg(feature = "files")]
    fn a_file_that_cannot_be_opened_is_missing_or_forbidden_or_not_to_be_had_now() {
        let forbidden = [libc::EACCES, libc::EPERM, libc::EXDEV];
        let not_now = [libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EINTR];
        for errno in
            OPEN.iter().map(|row| row.0).chain(forbidden).chain(not_now).chain([UNKNOWN_ERRNO, 0])
        {
            let expected = match errno {
                errno if forbidden.contains(&errno) => OpenError::Forbidden,
                errno if not_now.contains(&errno) => OpenError::TryLater,
                libc::EMFILE => OpenError::NoDescriptor,
                libc::EIO | UNKNOWN_ERRNO | 0 => OpenError::Failed,
                _ => OpenError::NotFound,
            };
            assert_eq!(
                classify_open(&io::Error::from_raw_os_error(errno)),
                expected,
                "errno {errno}"
            );
        }
        // So cap-std says that a path leads out.
        assert_eq!(
            classify_open(&io::Error::new(ErrorKind::PermissionDenied, "out")),
            OpenError::Forbidden
        );
    }

    #[test]
    fn where_there_is_no_errno_the_kind_decides() {
        use ErrorKind::{
            ConnectionAborted, Interrupted, NotConnected, OutOfMemory, Unsupported, WouldBlock,
        };
        let accept = |kind: ErrorKind| classify_accept(&kind.into());
        assert_eq!(
            (accept(WouldBlock), accept(Interrupted)),
            (AcceptError::WouldBlock, AcceptError::Interrupted)
        );
        assert_eq!(
            (accept(OutOfMemory), accept(ConnectionAborted)),
            (AcceptError::Exhausted, AcceptError::HandshakeFailed)
        );
        for of in [classify_receive, classify_send] {
            assert_eq!(
                (of(&WouldBlock.into()), of(&Interrupted.into())),
                (StreamError::WouldBlock, StreamError::Interrupted)
            );
            assert_eq!(
                (of(&NotConnected.into()), of(&OutOfMemory.into())),
                (StreamError::Disconnected, StreamError::Failed)
            );
        }
        let send = |kind: ErrorKind| classify_send_datagram(&kind.into());
        assert_eq!(
            (send(WouldBlock), send(Interrupted)),
            (DatagramError::WouldBlock, DatagramError::Interrupted)
        );
        assert_eq!(
            (send(Unsupported), send(OutOfMemory)),
            (DatagramError::GsoUnsupported, DatagramError::Unsendable)
        );
    }
}
