//! Who is not answered, and why.
//!
//! Anybody can send a datagram in another's name. So an answer must never set two services on each other which then talk for
//! ever, nor reach many because one has asked. What is refused is counted, and the debug log says why.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::receive::Sender;
use crate::loop_state::LoopState;
use crate::sys::{self, LocalAddress};

/// Why a datagram is not put to the protocol.
#[derive(Debug)]
pub(crate) enum DropReason {
    /// Its sender's address is of no family that we know.
    UnknownFamily,
    /// Nobody can be answered at port 0, and nobody is at `Limits::unanswered_ports`.
    UnansweredPort,
    /// Its sender's address is no host's, but a group's, everybody's or nobody's. What is sent to nobody's comes back to us.
    NotUnicast,
    /// The answer would come to one of our own sockets, and be answered.
    OwnAddress,
    /// So it might: the system does not say whether the address is ours.
    MaybeOwnAddress(io::Error),
    /// It was sent to a group or to a whole network, and all of them would answer the one who is named as its sender
    /// (RFC 1122 section 3.2.2.6 says so of its own echo).
    SentToGroup,
    /// The socket has another peer. The kernel keeps strangers out once it is connected; one may have come in the moment before.
    WrongPeer,
    /// The kernel had more of it than a datagram can have.
    Truncated,
}

impl Sender {
    /// The peer, unless it must not be answered. Linear in the number of datagram sockets and of unanswered ports, which are
    /// few; it is asked once for all that one peer has in a batch.
    #[inline(never)] // so that the loop over what it has sent has the registers for itself
    pub(crate) fn permitted_peer(&self, state: &LoopState) -> Result<SocketAddr, DropReason> {
        let Some(peer) = self.peer else { return Err(DropReason::UnknownFamily) };
        let port = peer.port();
        if port == 0 || state.limits.unanswered_ports.contains(&port) {
            return Err(DropReason::UnansweredPort);
        }
        if self.local == LocalAddress::Group {
            return Err(DropReason::SentToGroup);
        }
        if !is_unicast(peer.ip()) {
            return Err(DropReason::NotUnicast);
        }
        if state.datagram_addresses.iter().any(|own| own.port() == port) {
            return peer_unless_own(peer, &state.datagram_addresses);
        }
        Ok(peer)
    }

    /// The peer, if it is the one that the socket is connected to: then whoever it is, we have chosen it.
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

/// `peer`, which has the port of one of `ours`, unless it is that one. A socket on all addresses does not know which these
/// are, and they may change at any time: so the system is asked, at the price of three calls.
#[cold]
fn peer_unless_own(peer: SocketAddr, ours: &[SocketAddr]) -> Result<SocketAddr, DropReason> {
    let mut with_its_port = ours.iter().filter(|own| own.port() == peer.port());
    if with_its_port.clone().any(|own| own.ip() == peer.ip()) {
        return Err(DropReason::OwnAddress);
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
            DropReason::NotUnicast => f.write_str("not a unicast address"),
            DropReason::OwnAddress => f.write_str("own address"),
            DropReason::MaybeOwnAddress(error) => write!(f, "perhaps an own address: {error}"),
            DropReason::SentToGroup => f.write_str("sent to a group or a whole network"),
            DropReason::WrongPeer => f.write_str("not the connected peer"),
            DropReason::Truncated => f.write_str("truncated by the kernel"),
        }
    }
}
