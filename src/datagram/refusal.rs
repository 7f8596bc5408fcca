//! Who is not answered, and why.
//!
//! Anybody can send a datagram in another's name. So an answer must never set two services on each other which then talk for
//! ever, nor reach many because one has asked. What is refused is counted, and the debug log says why.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::batch::{Asked, Sender};
use crate::net;
use crate::turn::LoopState;

/// Why a datagram is not put to the protocol.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its sender's address is of no family that we know.
    Nameless,
    /// Nobody can be answered at port 0, and nobody is at `Limits::unanswered_ports`.
    Port,
    /// Its sender's address is no host's, but a group's, everybody's or nobody's. What is sent to nobody's comes back to us.
    NoHost,
    /// The answer would come to one of our own sockets, and be answered.
    Ourselves,
    /// So it might: the system does not say whether the address is ours.
    PerhapsOurselves(io::Error),
    /// It was sent to a group or to a whole network, and all of them would answer the one who is named as its sender
    /// (RFC 1122 section 3.2.2.6 says so of its own echo).
    AskedMany,
    /// The socket has another peer. The kernel keeps strangers out once it is connected; one may have come in the moment before.
    Stranger,
    /// The kernel had more of it than a datagram can have.
    Cut,
}

impl Sender {
    /// The peer, unless it must not be answered. Linear in the number of datagram sockets and of unanswered ports, which are
    /// few; it is asked once for all that one peer has in a batch.
    #[inline(never)] // so that the loop over what it has sent has the registers for itself
    pub(super) fn peer_to_answer(&self, turn: &LoopState) -> Result<SocketAddr, Refusal> {
        let Some(peer) = self.peer else { return Err(Refusal::Nameless) };
        let port = peer.port();
        if port == 0 || turn.limits.unanswered_ports.contains(&port) {
            return Err(Refusal::Port);
        }
        if self.asked == Asked::Many {
            return Err(Refusal::AskedMany);
        }
        if !is_host(peer.ip()) {
            return Err(Refusal::NoHost);
        }
        if turn.datagram_addresses.iter().any(|own| own.port() == port) {
            return peer_unless_ours(peer, &turn.datagram_addresses);
        }
        Ok(peer)
    }

    /// The peer, if it is the one that the socket is connected to: then whoever it is, we have chosen it.
    pub(super) fn peer_if_it_is(&self, connected: SocketAddr) -> Result<SocketAddr, Refusal> {
        match self.peer {
            Some(peer) if (peer.ip(), peer.port()) == (connected.ip(), connected.port()) => {
                Ok(connected)
            }
            Some(_) => Err(Refusal::Stranger),
            None => Err(Refusal::Nameless),
        }
    }
}

fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

/// `peer`, which has the port of one of `ours`, unless it is that one. A socket on all addresses does not know which these
/// are, and they may change at any time: so the system is asked, at the price of three calls.
#[cold]
fn peer_unless_ours(peer: SocketAddr, ours: &[SocketAddr]) -> Result<SocketAddr, Refusal> {
    let mut with_its_port = ours.iter().filter(|own| own.port() == peer.port());
    if with_its_port.clone().any(|own| own.ip() == peer.ip()) {
        return Err(Refusal::Ourselves);
    }
    if !with_its_port.any(|own| own.ip().is_unspecified() && own.is_ipv4() == peer.is_ipv4()) {
        return Ok(peer);
    }
    match net::is_own_address(peer) {
        Ok(false) => Ok(peer),
        Ok(true) => Err(Refusal::Ourselves),
        Err(error) => Err(Refusal::PerhapsOurselves(error)),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Nameless => f.write_str("its address is of no known family"),
            Refusal::Port => f.write_str("nobody is answered at this port"),
            Refusal::NoHost => f.write_str("that is no host's address"),
            Refusal::Ourselves => f.write_str("that is us"),
            Refusal::PerhapsOurselves(error) => write!(f, "that may be us: {error}"),
            Refusal::AskedMany => f.write_str("it has asked many at once"),
            Refusal::Stranger => f.write_str("this socket has another peer"),
            Refusal::Cut => f.write_str("the datagram was cut"),
        }
    }
}
