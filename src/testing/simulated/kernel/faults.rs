//! Which faults the simulated kernel injects, and how often.
//!
//! By default it injects none. A random schedule draws a value for each field; a test of one
//! situation sets the one that it is about. A fault is always one that Linux may produce: an error
//! number that the call can return, an event that epoll may report, a delay that a busy machine may
//! cause.

use std::net::SocketAddr;

use crate::testing::simulated::errno;

/// Faults and bounds. A `u32` is a probability in thousandths, for each call or event that it
/// concerns.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// A poll is interrupted by a signal (EINTR).
    pub(crate) interrupted_polls: u32,
    /// A recv or send is interrupted by a signal (EINTR).
    pub(crate) interrupted_calls: u32,
    /// A send is short because the kernel has little memory at the moment.
    pub(crate) short_sends: u32,
    /// An accept fails with an error of that one connection.
    pub(crate) failed_accepts: u32,
    /// A stream fails for a reason that has nothing to do with its peer.
    pub(crate) failed_streams: u32,
    /// Registering a stream with epoll fails (epoll_ctl(2): ENOSPC, ENOMEM).
    pub(crate) failed_registrations: u32,
    /// A datagram cannot be sent.
    pub(crate) failed_datagrams: u32,
    /// An ICMP error about an earlier datagram arrives together with a datagram.
    pub(crate) icmp_errors: u32,
    /// A datagram arrives with a wrong checksum: the socket is readable, but the kernel discards
    /// it.
    pub(crate) bad_checksums: u32,
    /// No device splits GSO batches: sending one fails.
    pub(crate) refuses_gso: bool,
    /// A socket gets no filter: what arrives cannot be stopped.
    pub(crate) refuses_socket_filters: bool,
    /// A poll reports an event that does not match the socket's state.
    pub(crate) spurious_events: u32,
    /// A poll reports its events in random order.
    pub(crate) shuffles: bool,
    /// The most events that one poll reports.
    pub(crate) events_per_poll_max: usize,
    /// The longest that a call takes, in microseconds.
    pub(crate) call_us_max: u64,
    /// The process is not run for up to `descheduled_us_max` when it makes a call.
    pub(crate) descheduled: u32,
    pub(crate) descheduled_us_max: u64,
    pub(crate) descriptors_max: usize,
    /// The error that every accept returns at present.
    pub(crate) accept_error: Option<i32>,
    /// The error that every receive of datagrams returns at present.
    pub(crate) receive_error: Option<i32>,
    /// The peer to which no datagram can be sent, and the error that a send to it returns.
    pub(crate) unreachable: Option<(SocketAddr, i32)>,
    /// The send buffer of a datagram socket (SO_SNDBUF), in bytes: no more may wait to leave the
    /// machine.
    pub(crate) send_queue_bytes_max: usize,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            interrupted_polls: 0,
            interrupted_calls: 0,
            short_sends: 0,
            failed_accepts: 0,
            failed_streams: 0,
            failed_registrations: 0,
            failed_datagrams: 0,
            icmp_errors: 0,
            bad_checksums: 0,
            refuses_gso: false,
            refuses_socket_filters: false,
            spurious_events: 0,
            shuffles: false,
            events_per_poll_max: usize::MAX,
            call_us_max: 0,
            descheduled: 0,
            descheduled_us_max: 0,
            descriptors_max: 1 << 20,
            accept_error: None,
            receive_error: None,
            unreachable: None,
            send_queue_bytes_max: 1 << 20,
        }
    }
}

/// What accept(2) may return for one connection: an error of the network, or a firewall's EPERM.
pub(super) const ACCEPT_ERRORS: [i32; 12] = [
    errno::ECONNABORTED,
    errno::EPROTO,
    errno::EPERM,
    errno::ENETDOWN,
    errno::ENOPROTOOPT,
    errno::EHOSTDOWN,
    errno::ENONET,
    errno::EHOSTUNREACH,
    errno::EOPNOTSUPP,
    errno::ENETUNREACH,
    errno::ETIMEDOUT,
    errno::ECONNRESET,
];

/// What a stream may fail with, other than a reset by its peer.
pub(super) const STREAM_ERRORS: [i32; 7] = [
    errno::ETIMEDOUT,
    errno::EHOSTUNREACH,
    errno::ENETUNREACH,
    errno::ECONNREFUSED,
    errno::ECONNABORTED,
    errno::ENETDOWN,
    errno::EIO,
];

/// What sending a datagram may fail with.
pub(super) const SEND_DATAGRAM_ERRORS: [i32; 10] = [
    errno::EPERM,
    errno::EACCES,
    errno::EINVAL,
    errno::EMSGSIZE,
    errno::ENETUNREACH,
    errno::EHOSTUNREACH,
    errno::ENOBUFS,
    errno::ENOMEM,
    errno::EADDRNOTAVAIL,
    errno::ENETDOWN,
];
