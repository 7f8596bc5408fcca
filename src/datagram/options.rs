//! What one datagram socket does otherwise than others: multicast groups, broadcast, a shared port.
//!
//! The socket options are set by `src/sys/multicast.rs`.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The options of one datagram socket, for
/// [`Reactor::bind_datagram_with`](crate::Reactor::bind_datagram_with).
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// use std::net::Ipv4Addr;
/// use mio_reactor::{DatagramOptions, Echo, Limits, Reactor};
///
/// let mut reactor = Reactor::new(Limits::default())?;
/// // What mDNS needs (RFC 6762). Port 5353 is shared with the other responders of this machine.
/// let options = DatagramOptions::default()
///     .with_group_v4(Ipv4Addr::new(224, 0, 0, 251), Ipv4Addr::UNSPECIFIED)
///     .with_multicast_hops(255)
///     .with_reuse_address(true);
/// reactor.bind_datagram_with("0.0.0.0:5353", &options, Echo::new())?;
/// # Ok(())
/// # }
/// ```
///
/// A socket without groups and without broadcast answers no datagram that was sent to a group: all
/// hosts there would answer its alleged sender. One with either answers those, too. Linux reports
/// where a datagram was sent to; elsewhere all are answered. A reply to such a datagram leaves from
/// the address that routing chooses, never from that of the group.
///
/// What the socket sends to a group leaves by the interface of the address that it is bound to, or
/// by the one that routing chooses if it is bound to all. It may come back to the socket itself,
/// which drops it: it does not answer its own address. So two sockets of one machine that share a
/// port do not answer each other either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatagramOptions {
    /// The IPv4 groups that it joins, each with an address of the interface that it joins on
    /// (IP_ADD_MEMBERSHIP, ip(7)). With `0.0.0.0`, routing chooses the interface. Linux permits 20
    /// for a socket (`net.ipv4.igmp_max_memberships`).
    ///
    /// It leaves them when it is closed. To leave one earlier, keep a clone of the socket
    /// ([`UdpSocket::try_clone`](std::net::UdpSocket::try_clone)), give it to
    /// [`Reactor::add_datagram_with`](crate::Reactor::add_datagram_with), and call
    /// [`leave_multicast_v4`](std::net::UdpSocket::leave_multicast_v4) of the clone.
    pub groups_v4: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// The IPv6 groups that it joins, each with the index of the interface that it joins on
    /// (IPV6_ADD_MEMBERSHIP, ipv6(7)). With 0, routing chooses the interface.
    pub groups_v6: Vec<(Ipv6Addr, u32)>,
    /// How many networks a datagram to a group may cross (IP_MULTICAST_TTL,
    /// IPV6_MULTICAST_HOPS): 0 keeps it on this machine, 1 on the local network. `None`: as the
    /// system has it, which is 1.
    pub multicast_hops: Option<u8>,
    /// Whether other sockets of this machine receive what it sends to a group (IP_MULTICAST_LOOP,
    /// IPV6_MULTICAST_LOOP). `None`: as the system has it, mostly `true`.
    pub multicast_loopback: Option<bool>,
    /// Whether it may send to broadcast addresses (SO_BROADCAST, socket(7)), and answers what is
    /// sent to them. Without it, such a reply is not sent, and counted in
    /// [`Stats::datagrams_unsent`](crate::Stats::datagrams_unsent). IPv6 has no broadcast. Default:
    /// `false`.
    pub broadcast: bool,
    /// Whether the port may be shared with other sockets that permit it (SO_REUSEADDR, socket(7)).
    /// Each of them gets what is sent to a group that it has joined. Of other datagrams, only one
    /// of them gets each, so this is for multicast only. Without effect on a socket that is bound
    /// already. Default: `false`.
    pub reuse_address: bool,
}

impl DatagramOptions {
    /// Joins `group` on the interface that has the address `interface`: adds to
    /// [`groups_v4`](DatagramOptions::groups_v4).
    #[must_use]
    pub fn with_group_v4(mut self, group: Ipv4Addr, interface: Ipv4Addr) -> DatagramOptions {
        self.groups_v4.push((group, interface));
        self
    }

    /// Joins `group` on the interface of the index `interface`: adds to
    /// [`groups_v6`](DatagramOptions::groups_v6).
    #[must_use]
    pub fn with_group_v6(mut self, group: Ipv6Addr, interface: u32) -> DatagramOptions {
        self.groups_v6.push((group, interface));
        self
    }

    /// Sets [`multicast_hops`](DatagramOptions::multicast_hops).
    #[must_use]
    pub fn with_multicast_hops(self, value: u8) -> DatagramOptions {
        DatagramOptions { multicast_hops: Some(value), ..self }
    }

    /// Sets [`multicast_loopback`](DatagramOptions::multicast_loopback).
    #[must_use]
    pub fn with_multicast_loopback(self, value: bool) -> DatagramOptions {
        DatagramOptions { multicast_loopback: Some(value), ..self }
    }

    /// Sets [`broadcast`](DatagramOptions::broadcast).
    #[must_use]
    pub fn with_broadcast(self, value: bool) -> DatagramOptions {
        DatagramOptions { broadcast: value, ..self }
    }

    /// Sets [`reuse_address`](DatagramOptions::reuse_address).
    #[must_use]
    pub fn with_reuse_address(self, value: bool) -> DatagramOptions {
        DatagramOptions { reuse_address: value, ..self }
    }

    /// Returns whether datagrams that were sent to a multicast or broadcast address are answered.
    pub(crate) fn answers_groups(&self) -> bool {
        self.broadcast || !self.groups_v4.is_empty() || !self.groups_v6.is_empty()
    }
}
