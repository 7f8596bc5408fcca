//! What each errno means to each system call: one table per call.
//!
//! ```text
//!     accept ──┐
//!     recv   ──┤    errno ──► row ──► meaning ──► what the caller does
//!     send   ──┤       └──► no row: the default that `classify_…` names
//!     recvmsg ─┤
//!     sendmsg ─┤
//!     openat2 ─┘
//! ```
//!
//! No errno is fatal to the process, and only three are fatal to a listener. A table is searched
//! only after a call has failed, never on success. Windows has numbers of its own (`winsock`).
//! Where an error was not made from a number, its `ErrorKind` decides.

use std::io::{self, ErrorKind};

mod names;
#[cfg(any(not(unix), test))]
mod winsock;

#[cfg(not(unix))]
use self::winsock::{ACCEPT, RECEIVE, RECEIVE_DATAGRAM, SEND, SEND_DATAGRAM};

/// What an error of accept(2) means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// The backlog is empty.
    WouldBlock,
    /// Interrupted before a result: retry.
    Interrupted,
    /// This connection has failed and has left the backlog; the next may succeed. The default for
    /// an errno without a row.
    HandshakeFailed,
    /// There is no descriptor or no memory for the connection. It stays in the backlog.
    Exhausted,
    /// The socket does not listen. No peer can cause this, and waiting does not help.
    Broken,
}

/// What an error of recv(2) or send(2) means for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamError {
    /// Nothing to read, or no room to write, until the next event.
    WouldBlock,
    /// Interrupted before a result: retry.
    Interrupted,
    /// The peer has closed or reset the connection.
    Disconnected,
    /// The connection is lost, or is not reliable any more. The default for an errno without a row.
    Failed,
}

/// What an error of openat2(2), or of its substitute, means for a file that a peer has requested.
#[cfg(all(unix, feature = "files"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// No such file.
    NotFound,
    /// The file exists, but we may not open it, or it is not below the root.
    Forbidden,
    /// The process has no descriptor left.
    NoDescriptor,
    /// A later attempt may succeed.
    TryLater,
    /// It should have been possible to open it. The default for an errno without a row.
    Failed,
}

/// What an error of recvfrom(2) or recvmmsg(2) means for a datagram socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceiveDatagramError {
    /// No datagram until the next event.
    WouldBlock,
    /// Interrupted before a result: retry.
    Interrupted,
    /// An error of one datagram, mostly of one that was sent before (ICMP). It is reported once,
    /// and datagrams may wait behind it: receive again.
    OfOneDatagram,
    /// The next receive would probably fail, too, and no event reports when it would not: retry
    /// after a while. The default for an errno without a row.
    Failed,
}

/// What an error of sendmsg(2) or sendmmsg(2) means for the first message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatagramError {
    /// No room in the socket buffer until the next event.
    WouldBlock,
    /// Interrupted before a result: retry.
    Interrupted,
    /// The device cannot segment a GSO batch. Its datagrams can be sent one by one, and so are all
    /// from now on.
    GsoUnsupported,
    /// The datagrams of the GSO batch are larger than the path's packets. They can be sent one by
    /// one; other batches are not affected.
    GsoTooLargeForPath,
    /// The message cannot be sent. It is dropped, so the others need not wait. The default for an
    /// errno without a row.
    Unsendable,
}

// EAGAIN stands for EWOULDBLOCK, too: nearly everywhere they are one number, and elsewhere
// `ErrorKind` finds it.

#[cfg(unix)]
const ACCEPT: &[(i32, AcceptError)] = &[
    (libc::EAGAIN, AcceptError::WouldBlock),
    (libc::EINTR, AcceptError::Interrupted), // a signal
    (libc::ECONNABORTED, AcceptError::HandshakeFailed), // the peer has closed it again
    (libc::EPROTO, AcceptError::HandshakeFailed), // the same, on some systems
    (libc::EPERM, AcceptError::HandshakeFailed), // a firewall forbids it
    (libc::ETIMEDOUT, AcceptError::HandshakeFailed), // the handshake was not completed
    // Linux returns an error that is pending on the new socket. accept(2) says to retry after
    // these.
    (libc::ENETDOWN, AcceptError::HandshakeFailed),
    (libc::ENETUNREACH, AcceptError::HandshakeFailed),
    (libc::EHOSTDOWN, AcceptError::HandshakeFailed),
    (libc::EHOSTUNREACH, AcceptError::HandshakeFailed),
    (libc::ENOPROTOOPT, AcceptError::HandshakeFailed),
    // One of those errors. It could also mean a socket that can never listen, but ours can. If it
    // came for ever, the listener would pause.
    (libc::EOPNOTSUPP, AcceptError::HandshakeFailed),
    #[cfg(any(target_os = "linux", target_os = "android"))]
    (libc::ENONET, AcceptError::HandshakeFailed),
    (libc::EMFILE, AcceptError::Exhausted), // the process has no descriptor left
    (libc::ENFILE, AcceptError::Exhausted), // the system has none left
    (libc::ENOBUFS, AcceptError::Exhausted), // no memory, often no socket memory
    (libc::ENOMEM, AcceptError::Exhausted),
    (libc::EBADF, AcceptError::Broken), // closed by other code in the process
    (libc::ENOTSOCK, AcceptError::Broken), // the same, and another file has its number now
    (libc::EINVAL, AcceptError::Broken), // it does not listen any more
];

#[cfg(unix)]
const RECEIVE: &[(i32, StreamError)] = &[
    (libc::EAGAIN, StreamError::WouldBlock),
    (libc::EINTR, StreamError::Interrupted), // a signal
    (libc::ECONNRESET, StreamError::Disconnected),
    (libc::ECONNABORTED, StreamError::Disconnected), // the same, on some systems
    (libc::EPIPE, StreamError::Disconnected),        // reported late, of an earlier send
    (libc::ENOTCONN, StreamError::Disconnected),     // reset before this call, on some systems
    (libc::ETIMEDOUT, StreamError::Failed),          // no data of ours was acknowledged
    (libc::EHOSTUNREACH, StreamError::Failed),       // the route to the peer is gone
    (libc::ENETUNREACH, StreamError::Failed),
    (libc::ENETDOWN, StreamError::Failed),
    (libc::ECONNREFUSED, StreamError::Failed), // does not happen to an accepted connection
    // No event reports that memory is free again, so waiting would never end.
    (libc::ENOMEM, StreamError::Failed),
    (libc::ENOBUFS, StreamError::Failed),
    (libc::EBADF, StreamError::Failed), // closed by other code: our bug, it ends only this stream
    (libc::ENOTSOCK, StreamError::Failed),
    (libc::EINVAL, StreamError::Failed),
    (libc::EFAULT, StreamError::Failed),
];

#[cfg(unix)]
const SEND: &[(i32, StreamError)] = &[
    (libc::EAGAIN, StreamError::WouldBlock),
    (libc::EINTR, StreamError::Interrupted),  // a signal
    (libc::EPIPE, StreamError::Disconnected), // it was reset, and that has been reported already
    (libc::ECONNRESET, StreamError::Disconnected),
    (libc::ECONNABORTED, StreamError::Disconnected), // the same, on some systems
    (libc::ENOTCONN, StreamError::Disconnected),     // reset before this call, on some systems
    (libc::EPROTOTYPE, StreamError::Disconnected),   // on macOS: it is being closed at this moment
    (libc::ETIMEDOUT, StreamError::Failed),          // no data of ours was acknowledged
    (libc::EHOSTUNREACH, StreamError::Failed),       // the route to the peer is gone
    (libc::ENETUNREACH, StreamError::Failed),
    (libc::ENETDOWN, StreamError::Failed),
    (libc::EACCES, StreamError::Failed), // a firewall forbids it
    (libc::EPERM, StreamError::Failed),
    // As for recv: the stream is ended now, before a byte is lost. Waiting would never end.
    (libc::ENOMEM, StreamError::Failed),
    (libc::ENOBUFS, StreamError::Failed),
    (libc::EMSGSIZE, StreamError::Failed), // does not happen to a stream
    (libc::EBADF, StreamError::Failed), // closed by other code: our bug, it ends only this stream
    (libc::ENOTSOCK, StreamError::Failed),
    (libc::EINVAL, StreamError::Failed),
    (libc::EFAULT, StreamError::Failed),
];

// The errors of ICMP are those of icmp_err_convert in Linux, and of its counterpart for IPv6.
#[cfg(unix)]
const RECEIVE_DATAGRAM: &[(i32, ReceiveDatagramError)] = &[
    (libc::EAGAIN, ReceiveDatagramError::WouldBlock),
    (libc::EINTR, ReceiveDatagramError::Interrupted), // a signal
    (libc::ECONNREFUSED, ReceiveDatagramError::OfOneDatagram), // the peer's port is closed
    (libc::EHOSTUNREACH, ReceiveDatagramError::OfOneDatagram),
    (libc::ENETUNREACH, ReceiveDatagramError::OfOneDatagram),
    (libc::EHOSTDOWN, ReceiveDatagramError::OfOneDatagram),
    #[cfg(any(target_os = "linux", target_os = "android"))]
    (libc::ENONET, ReceiveDatagramError::OfOneDatagram),
    (libc::EACCES, ReceiveDatagramError::OfOneDatagram), // a firewall on the way forbids it
    (libc::EPROTO, ReceiveDatagramError::OfOneDatagram),
    (libc::ENOPROTOOPT, ReceiveDatagramError::OfOneDatagram),
    (libc::EOPNOTSUPP, ReceiveDatagramError::OfOneDatagram),
    (libc::EMSGSIZE, ReceiveDatagramError::OfOneDatagram), // too long for the path
    (libc::ECONNRESET, ReceiveDatagramError::OfOneDatagram), // on some systems
    (libc::ENOMEM, ReceiveDatagramError::Failed),
    (libc::ENOBUFS, ReceiveDatagramError::Failed),
    (libc::ENETDOWN, ReceiveDatagramError::Failed),
    (libc::EBADF, ReceiveDatagramError::Failed), // our bug, which must not end the streams
    (libc::ENOTSOCK, ReceiveDatagramError::Failed),
    (libc::EINVAL, ReceiveDatagramError::Failed),
    (libc::EFAULT, ReceiveDatagramError::Failed),
];

#[cfg(unix)]
const SEND_DATAGRAM: &[(i32, DatagramError)] = &[
    (libc::EAGAIN, DatagramError::WouldBlock),
    (libc::EINTR, DatagramError::Interrupted), // a signal
    // A single datagram can fail with these four, too. Then it is unsendable.
    (libc::EINVAL, DatagramError::GsoUnsupported), // the kernel has no UDP_SEGMENT
    (libc::EIO, DatagramError::GsoUnsupported),    // the device cannot compute their checksums
    (libc::EOPNOTSUPP, DatagramError::GsoUnsupported),
    (libc::EMSGSIZE, DatagramError::GsoTooLargeForPath), // too long for a packet
    // The device's queue is full. The socket itself stays writable, so waiting for a writable event
    // would spin.
    (libc::ENOBUFS, DatagramError::Unsendable),
    (libc::ENOMEM, DatagramError::Unsendable),
    (libc::EPERM, DatagramError::Unsendable), // a firewall forbids it
    (libc::EACCES, DatagramError::Unsendable), // a broadcast address
    (libc::ENETUNREACH, DatagramError::Unsendable), // no route to the peer
    (libc::EHOSTUNREACH, DatagramError::Unsendable),
    (libc::ENETDOWN, DatagramError::Unsendable),
    (libc::ECONNREFUSED, DatagramError::Unsendable), // about an earlier datagram; now it is cleared
    (libc::EADDRNOTAVAIL, DatagramError::Unsendable), // port 0, or our address is gone
    (libc::EAFNOSUPPORT, DatagramError::Unsendable), // an address of another family
    (libc::EDESTADDRREQ, DatagramError::Unsendable), // no address
    (libc::EPIPE, DatagramError::Unsendable),        // shutdown(2) was called on the socket
    (libc::EBADF, DatagramError::Unsendable),        // our bug, which must not end the streams
    (libc::ENOTSOCK, DatagramError::Unsendable),
    (libc::EFAULT, DatagramError::Unsendable),
];

#[cfg(all(unix, feature = "files"))]
const OPEN: &[(i32, OpenError)] = &[
    (libc::ENOENT, OpenError::NotFound),
    (libc::ENOTDIR, OpenError::NotFound), // the path leads through a file
    (libc::ENAMETOOLONG, OpenError::NotFound), // no file name is so long
    (libc::EILSEQ, OpenError::NotFound),  // an encoding that this file system does not have
    (libc::ELOOP, OpenError::NotFound),   // a symbolic link that leads to itself
    (libc::ENXIO, OpenError::NotFound),   // a socket, or a device that is not there
    (libc::ENODEV, OpenError::NotFound),
    (libc::ESTALE, OpenError::NotFound), // just removed, on another machine (NFS)
    (libc::EACCES, OpenError::Forbidden),
    (libc::EPERM, OpenError::Forbidden),
    (libc::EXDEV, OpenError::Forbidden), // leads out of the root; cap-std reports this by its kind
    (libc::EMFILE, OpenError::NoDescriptor),
    (libc::ENFILE, OpenError::TryLater), // the system has none left
    (libc::ENOMEM, OpenError::TryLater),
    (libc::EAGAIN, OpenError::TryLater), // another process holds a lease on it
    (libc::EINTR, OpenError::TryLater),  // a signal, on a slow file system
    (libc::EIO, OpenError::Failed),
];

/// Returns whether `error` may be what a sandbox answers in the kernel's place: the call is
/// unknown, or not permitted (seccomp(2)). Some calls fail so for other reasons, too.
#[cfg(target_os = "linux")]
#[cold]
pub(crate) fn is_refused_call(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES))
}

/// Returns the name of the errno, such as `EAGAIN`, if it has one here.
#[cold]
pub(crate) fn name(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error() {
        Some(number) => names::NAMES.iter().find(|row| row.0 == number).map(|row| row.1),
        None => (error.kind() == ErrorKind::WouldBlock).then_some("EAGAIN"),
    }
}

/// Classifies an error of accept(2). Default: this connection is skipped and counted.
#[cold]
pub(crate) fn classify_accept(error: &io::Error) -> AcceptError {
    let kinds = [
        (ErrorKind::WouldBlock, AcceptError::WouldBlock),
        (ErrorKind::Interrupted, AcceptError::Interrupted),
        (ErrorKind::OutOfMemory, AcceptError::Exhausted),
    ];
    lookup(error, ACCEPT, &kinds, AcceptError::HandshakeFailed)
}

/// Classifies an error of recv(2). Default: the connection ends, as `CloseReason::Io`.
#[cold]
pub(crate) fn classify_receive(error: &io::Error) -> StreamError {
    lookup(error, RECEIVE, &STREAM_KINDS, StreamError::Failed)
}

/// Classifies an error of send(2) or shutdown(2). Default: as for recv(2).
#[cold]
pub(crate) fn classify_send(error: &io::Error) -> StreamError {
    lookup(error, SEND, &STREAM_KINDS, StreamError::Failed)
}

/// Classifies an error of recvfrom(2) or recvmmsg(2). Default: it is counted, and the socket
/// receives again after `DATAGRAM_RETRY_MS`.
#[cold]
pub(crate) fn classify_receive_datagram(error: &io::Error) -> ReceiveDatagramError {
    if is_would_block_of_forgotten(error) {
        return ReceiveDatagramError::WouldBlock;
    }
    let kinds = [
        (ErrorKind::WouldBlock, ReceiveDatagramError::WouldBlock),
        (ErrorKind::Interrupted, ReceiveDatagramError::Interrupted),
        (ErrorKind::ConnectionReset, ReceiveDatagramError::OfOneDatagram),
        (ErrorKind::ConnectionRefused, ReceiveDatagramError::OfOneDatagram),
    ];
    lookup(error, RECEIVE_DATAGRAM, &kinds, ReceiveDatagramError::Failed)
}

/// Returns whether this is what mio makes of `WouldBlock` where its poll(2) selector has forgotten
/// the descriptor, as it does after an error (`Slot::note`).
fn is_would_block_of_forgotten(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && error.kind() == ErrorKind::NotFound
}

/// Classifies an error of sendmsg(2) or sendmmsg(2). Default: this datagram is dropped and counted.
#[cold]
pub(crate) fn classify_send_datagram(error: &io::Error) -> DatagramError {
    if is_would_block_of_forgotten(error) {
        return DatagramError::WouldBlock;
    }
    let kinds = [
        (ErrorKind::WouldBlock, DatagramError::WouldBlock),
        (ErrorKind::Interrupted, DatagramError::Interrupted),
        (ErrorKind::Unsupported, DatagramError::GsoUnsupported),
    ];
    lookup(error, SEND_DATAGRAM, &kinds, DatagramError::Unsendable)
}

/// Classifies an error of opening a file. Default: a server error, in the response and in the log.
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

/// Returns the meaning by errno, or else by kind, or else the default. The search is linear: a
/// table has some twenty rows, the frequent ones are first, and the caller has just made a system
/// call.
fn lookup<M: Copy>(
    error: &io::Error,
    rows: &[(i32, M)],
    kinds: &[(ErrorKind, M)],
    default: M,
) -> M {
    let by_number = rows.iter().find(|row| Some(row.0) == error.raw_os_error()).map(|row| row.1);
    let by_kind = || kinds.iter().find(|row| row.0 == error.kind()).map(|row| row.1);
    by_number.or_else(by_kind).unwrap_or(default)
}

#[cfg(test)]
#[cfg(unix)]
pub(crate) mod tests;
