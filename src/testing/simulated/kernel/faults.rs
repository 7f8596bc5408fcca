//! What can go wrong in the simulated kernel, and how often.

use std::net::SocketAddr;

use crate::testing::simulated::errno;

/// So many times in a thousand, where it is not said otherwise. Nothing goes wrong by default.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// A poll is interrupted by a signal.
    pub(crate) interrupted_polls: u32,
    /// A recv or send is.
    pub(crate) interrupted_calls: u32,
    /// A send meets a kernel that is short of memory for a moment.
    pub(crate) short_sends: u32,
    /// An accept fails with an error that concerns one connection.
    pub(crate) failed_accepts: u32,
    /// The connection is gone for a reason that has nothing to do with the peer.
    pub(crate) failed_streams: u32,
    /// An epoll_ctl fails.
    pub(crate) failed_watches: u32,
    /// A datagram cannot be sent.
    pub(crate) failed_datagrams: u32,
    /// An old datagram's ICMP error comes in.
    pub(crate) icmp_errors: u32,
    /// A datagram's checksum is wrong.
    pub(crate) bad_checksums: u32,
    /// No device cuts trains of datagrams.
    pub(crate) refuses_trains: bool,
    /// A poll tells of something that is not so.
    pub(crate) false_alarms: u32,
    /// A poll tells in no particular order.
    pub(crate) shuffles: bool,
    /// The most events that one poll tells.
    pub(crate) events_at_once: usize,
    /// The longest that a call takes, in microseconds.
    pub(crate) call_us_max: u64,
    /// The process is not run for a while, up to `held_up_us_max`.
    pub(crate) held_up: u32,
    pub(crate) held_up_us_max: u64,
    pub(crate) descriptors_max: usize,
    /// What every accept answers at present.
    pub(crate) exhausted: Option<i32>,
    /// What a send of a datagram to this peer answers; everybody else can be reached.
    pub(crate) unreachable: Option<(SocketAddr, i32)>,
    /// The bytes of datagrams that may wait to leave the machine.
    pub(crate) datagram_room: usize,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            interrupted_polls: 0,
            interrupted_calls: 0,
            short_sends: 0,
            failed_accepts: 0,
            failed_streams: 0,
            failed_watches: 0,
            failed_datagrams: 0,
            icmp_errors: 0,
            bad_checksums: 0,
            refuses_trains: false,
            false_alarms: 0,
            shuffles: false,
            events_at_once: usize::MAX,
            call_us_max: 0,
            held_up: 0,
            held_up_us_max: 0,
            descriptors_max: 1 << 20,
            exhausted: None,
            unreachable: None,
            datagram_room: 1 << 20,
        }
    }
}

/// What accept(2) and a firewall may answer for one connection.
pub(super) const OF_ONE_CONNECTION: [i32; 12] = [
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
/// What a stream may die of.
pub(super) const OF_A_STREAM: [i32; 7] = [
    errno::ETIMEDOUT,
    errno::EHOSTUNREACH,
    errno::ENETUNREACH,
    errno::ECONNREFUSED,
    errno::ECONNABORTED,
    errno::ENETDOWN,
    errno::EIO,
];
/// What a send of a datagram may fail with.
pub(super) const OF_A_DATAGRAM: [i32; 10] = [
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
