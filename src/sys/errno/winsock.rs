//! The same tables for Windows, whose sockets have error codes of their own (winsock2.h).
//!
//! They also stand in where a system has neither: none of its errors has such a number.

use super::{AcceptError, DatagramError, ReceiveDatagramError, StreamError};

const WSAEINTR: i32 = 10004;
const WSAEFAULT: i32 = 10014;
const WSAEINVAL: i32 = 10022;
const WSAEMFILE: i32 = 10024;
const WSAEWOULDBLOCK: i32 = 10035;
const WSAENOTSOCK: i32 = 10038;
const WSAEMSGSIZE: i32 = 10040;
const WSAEOPNOTSUPP: i32 = 10045;
const WSAENETDOWN: i32 = 10050;
const WSAENETUNREACH: i32 = 10051;
const WSAENETRESET: i32 = 10052;
const WSAECONNABORTED: i32 = 10053;
const WSAECONNRESET: i32 = 10054;
const WSAENOBUFS: i32 = 10055;
const WSAENOTCONN: i32 = 10057;
const WSAESHUTDOWN: i32 = 10058;
const WSAETIMEDOUT: i32 = 10060;
const WSAECONNREFUSED: i32 = 10061;
const WSAEHOSTUNREACH: i32 = 10065;

pub(super) const ACCEPT: &[(i32, AcceptError)] = &[
    (WSAEWOULDBLOCK, AcceptError::WouldBlock),
    (WSAEINTR, AcceptError::Interrupted),
    (WSAECONNRESET, AcceptError::HandshakeFailed), // the peer has closed it again
    (WSAENETDOWN, AcceptError::HandshakeFailed),
    (WSAEMFILE, AcceptError::Exhausted),
    (WSAENOBUFS, AcceptError::Exhausted),
    (WSAENOTSOCK, AcceptError::Broken), // closed by other code in the process
    (WSAEINVAL, AcceptError::Broken),   // it does not listen any more
];

pub(super) const RECEIVE: &[(i32, StreamError)] = &[
    (WSAEWOULDBLOCK, StreamError::WouldBlock),
    (WSAEINTR, StreamError::Interrupted),
    (WSAECONNRESET, StreamError::Disconnected),
    (WSAECONNABORTED, StreamError::Disconnected),
    (WSAENOTCONN, StreamError::Disconnected),
    (WSAESHUTDOWN, StreamError::Disconnected),
    (WSAENETRESET, StreamError::Failed), // the probes of a silent peer were not answered
    (WSAETIMEDOUT, StreamError::Failed),
    (WSAEHOSTUNREACH, StreamError::Failed),
    (WSAENETUNREACH, StreamError::Failed),
    (WSAENETDOWN, StreamError::Failed),
    (WSAENOBUFS, StreamError::Failed),
    (WSAENOTSOCK, StreamError::Failed),
    (WSAEINVAL, StreamError::Failed),
    (WSAEFAULT, StreamError::Failed),
];

/// A send reports what a receive would.
pub(super) const SEND: &[(i32, StreamError)] = RECEIVE;

pub(super) const RECEIVE_DATAGRAM: &[(i32, ReceiveDatagramError)] = &[
    (WSAEWOULDBLOCK, ReceiveDatagramError::WouldBlock),
    (WSAEINTR, ReceiveDatagramError::Interrupted),
    // Each ICMP message about a datagram that was sent fails one receive, also on a socket that is
    // not connected: the peer's port is closed, or the datagram's time to live has expired.
    (WSAECONNRESET, ReceiveDatagramError::OfOneDatagram),
    (WSAENETRESET, ReceiveDatagramError::OfOneDatagram),
    (WSAECONNREFUSED, ReceiveDatagramError::OfOneDatagram),
    (WSAEHOSTUNREACH, ReceiveDatagramError::OfOneDatagram),
    (WSAENETUNREACH, ReceiveDatagramError::OfOneDatagram),
    (WSAEMSGSIZE, ReceiveDatagramError::OfOneDatagram), // longer than a datagram can be
    (WSAENETDOWN, ReceiveDatagramError::Failed),
    (WSAENOBUFS, ReceiveDatagramError::Failed),
    (WSAENOTSOCK, ReceiveDatagramError::Failed),
    (WSAEINVAL, ReceiveDatagramError::Failed),
    (WSAEFAULT, ReceiveDatagramError::Failed),
];

pub(super) const SEND_DATAGRAM: &[(i32, DatagramError)] = &[
    (WSAEWOULDBLOCK, DatagramError::WouldBlock),
    (WSAEINTR, DatagramError::Interrupted),
    (WSAEOPNOTSUPP, DatagramError::GsoUnsupported),
    (WSAEMSGSIZE, DatagramError::GsoTooLargeForPath),
    (WSAECONNRESET, DatagramError::Unsendable), // about an earlier datagram; now it is cleared
    (WSAENETRESET, DatagramError::Unsendable),  // the same
    (WSAENOBUFS, DatagramError::Unsendable),
    (WSAENETUNREACH, DatagramError::Unsendable),
    (WSAEHOSTUNREACH, DatagramError::Unsendable),
    (WSAENETDOWN, DatagramError::Unsendable),
    (WSAENOTSOCK, DatagramError::Unsendable),
    (WSAEINVAL, DatagramError::Unsendable),
    (WSAEFAULT, DatagramError::Unsendable),
];
