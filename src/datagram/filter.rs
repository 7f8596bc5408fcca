//! Which datagrams are dropped instead of answered, and why.
//!
//! The source address of a datagram is easily forged. Two things must therefore never happen: a
//! reply that makes two services answer each other for ever, and one request that makes many hosts
//! reply. What is dropped is counted (`Stats::datagrams_dropped`), and the debug log has the
//! reason.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::receive::Sender;
use crate::loop_state::LoopState;
use crate::sys::{self, LocalAddress};

/// Which datagrams a socket answers, as far as that differs between sockets. One byte, so that a
/// batch loads it once (measured: benches/what_does_a_datagram_batch_cost.rs).
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerRules(u8);

impl AnswerRules {
    const REFUSES_OWN_PORTS: u8 = 1;
    const ANSWERS_GROUPS: u8 = 2;

    pub(super) fn new(refuses_own_ports: bool) -> AnswerRules {
        AnswerRules(if refuses_own_ports { AnswerRules::REFUSES_OWN_PORTS } else { 0 })
    }

    /// Returns the same rules, by which datagrams are answered also if they were sent to a
    /// multicast or broadcast address.
    pub(super) fn with_groups(self) -> AnswerRules {
        AnswerRules(self.0 | AnswerRules::ANSWERS_GROUPS)
    }

    /// Peers at the port numbers of this reactor are not answered.
    fn refuses_own_ports(self) -> bool {
        self.0 & AnswerRules::REFUSES_OWN_PORTS != 0
    }

    fn answers_groups(self) -> bool {
        self.0 & AnswerRules::ANSWERS_GROUPS != 0
    }
}

/// Why the protocol is not called with a datagram.
#[derive(Debug)]
pub(crate) enum DropReason {
    /// The address family of its source is neither IPv4 nor IPv6.
    UnknownFamily,
    /// Its source port is 0, to which nothing can be sent, or one of `Limits::unanswered_ports`.
    UnansweredPort,
    /// Its source port is that of one of our own sockets, and the protocol answers everything: a
    /// server of the same kind may sit there.
    OwnPort,
    /// Its source address is multicast, broadcast or unspecified. What is sent to the unspecified
    /// address comes back to this machine.
    NotUnicast,
    /// Its source address is that of one of our own sockets, which would answer the reply.
    OwnAddress,
    /// The source address may be that of one of our own sockets: the check failed with this error.
    MaybeOwnAddress(io::Error),
    /// It was sent to a multicast or broadcast address, and the socket has joined no group. All
    /// hosts there would answer its alleged sender (RFC 1122 section 3.2.2.6 says so of ICMP echo).
    SentToGroup,
    /// The socket is connected to another peer. Once it is, the kernel drops such datagrams itself,
    /// but one may have arrived just before.
    WrongPeer,
    /// The kernel cut it short: it was longer than its buffer, which has room for the longest
    /// datagram.
    Truncated,
}

impl Sender {
    /// Returns the peer, unless it must not be answered. Takes time linear in the number of
    /// datagram sockets and of unanswered ports, which are few, and is called once for all that one
    /// peer has in a batch.
    #[inline(never)] // so that the loop over what it has sent has the registers for itself
    pub(crate) fn permitted_peer(
        &self,
        state: &LoopState,
        rules: AnswerRules,
    ) -> Result<SocketAddr, DropReason> {
        let Some(peer) = self.peer else { return Err(DropReason::UnknownFamily) };
        let port = peer.port();
        if port == 0 || state.limits.unanswered_ports.contains(&port) {
            return Err(DropReason::UnansweredPort);
        }
        if self.local == LocalAddress::Group && !rules.answers_groups() {
            return Err(DropReason::SentToGroup);
        }
        if !is_unicast(peer.ip()) {
            return Err(DropReason::NotUnicast);
        }
        if state.datagram_addresses.iter().any(|own| own.port() == port) {
            return peer_unless_own(peer, &state.datagram_addresses, rules.refuses_own_ports());
        }
        Ok(peer)
    }

    /// Returns the peer, if it is the one that the socket is connected to. The checks of
    /// `permitted_peer` do not apply, because we have chosen that peer ourselves.
    pub(crate) fn expected_peer(&self, connected: SocketAddr) -> Result<SocketAddr, DropReason> {
        match self.peer {
            Some(peer) if (peer.ip(), peer.port()) == (connected.ip(), connected.port()) => {
                Ok(connected)
            }
            Some(_) => Err(DropReason::WrongPeer),
            None => Err(DropReason::UnknownFamily),
        }
    }
}

fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

/// Returns `peer`, which has the port of one of `ours`, unless such ports are refused, or it is
/// that socket itself. A socket bound to all addresses does not know which these are, and they may
/// change at any time. So the system is asked, which costs three calls (socket, bind, close).
#[cold]
fn peer_unless_own(
    peer: SocketAddr,
    ours: &[SocketAddr],
    refuses_own_ports: bool,
) -> Result<SocketAddr, DropReason> {
    let mut with_its_port = ours.iter().filter(|own| own.port() == peer.port());
    if with_its_port.clone().any(|own| own.ip() == peer.ip()) {
        return Err(DropReason::OwnAddress);
    }
    if refuses_own_ports {
        return Err(DropReason::OwnPort);
    }
    if !with_its_port.any(|own| own.ip().is_unspecified() && own.is_ipv4() == peer.is_ipv4()) {
        return Ok(peer);
    }
    match sys::is_own_address(peer) {
        Ok(false) => Ok(peer),
        Ok(true) => Err(DropReason::OwnAddress),
        Err(error) => Err(DropReason::MaybeOwnAddress(error)),
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DropReason::UnknownFamily => f.write_str("unknown address family"),
            DropReason::UnansweredPort => f.write_str("this port is not answered"),
            DropReason::OwnPort => f.write_str("this port number is our own"),
            DropReason::NotUnicast => f.write_str("not a unicast address"),
            DropReason::OwnAddress => f.write_str("own address"),
            DropReason::MaybeOwnAddress(error) => write!(f, "perhaps an own address: {error}"),
            DropReason::SentToGroup => f.write_str("sent to a multicast or broadcast address"),
            DropReason::WrongPeer => f.write_str("not the connected peer"),
            DropReason::Truncated => f.write_str("truncated by the kernel"),
        }
    }
}
