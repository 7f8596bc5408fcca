//! The addresses of peers, kept so that an IPv4 address takes no memory of its own.
//!
//! Each connection knows its peer until it is freed, since its last log line names it, and a socket
//! that was reset no longer does. An IPv4 address and its port have room in the connection. An IPv6
//! address is kept in a table, and the connection has its place there.
//!
//! Invariant: the table has an entry for each connection whose peer has an IPv6 address.

use std::net::{SocketAddr, SocketAddrV6};

use slab::Slab;

use crate::protocol::ident::Peer;

/// A peer, as a connection has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeptPeer {
    /// Address and port, in bytes: so it needs no alignment.
    V4([u8; 4], [u8; 2]),
    /// Its place in the table.
    V6([u8; 4]),
    Unix,
}

const _: () = assert!(size_of::<KeptPeer>() == 7, "each connection has one");

#[derive(Default)]
pub(crate) struct Peers {
    v6: Slab<SocketAddrV6>,
}

impl Peers {
    /// Keeps `peer` until it is removed.
    #[inline]
    pub(crate) fn keep(&mut self, peer: Peer) -> KeptPeer {
        match peer {
            Peer::Ip(SocketAddr::V4(address)) => {
                KeptPeer::V4(address.ip().octets(), address.port().to_ne_bytes())
            }
            Peer::Ip(SocketAddr::V6(address)) => {
                let place = self.v6.insert(address);
                let place = u32::try_from(place).expect("each belongs to a descriptor");
                KeptPeer::V6(place.to_ne_bytes())
            }
            Peer::Unix => KeptPeer::Unix,
        }
    }

    pub(crate) fn get(&self, kept: KeptPeer) -> Peer {
        match kept {
            KeptPeer::V4(ip, port) => Peer::Ip((ip, u16::from_ne_bytes(port)).into()),
            KeptPeer::V6(place) => Peer::Ip(self.v6[u32::from_ne_bytes(place) as usize].into()),
            KeptPeer::Unix => Peer::Unix,
        }
    }

    pub(crate) fn remove(&mut self, kept: KeptPeer) {
        if let KeptPeer::V6(place) = kept {
            self.v6.remove(u32::from_ne_bytes(place) as usize);
        }
    }

    /// Returns how many addresses are in the table.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.v6.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // pitfall: 231
    #[test]
    fn kept_peer_is_what_was_kept_until_it_is_removed() {
        let mut peers = Peers::default();
        let all = ["192.0.2.7:80", "[2001:db8::7]:80", "[fe80::1%3]:9", "[::ffff:192.0.2.7]:80"];
        let all: Vec<Peer> = all
            .iter()
            .map(|address| Peer::Ip(address.parse().expect("it is an address")))
            .chain([Peer::Unix])
            .collect();
        let kept: Vec<KeptPeer> = all.iter().map(|&peer| peers.keep(peer)).collect();
        assert_eq!(kept.iter().map(|&kept| peers.get(kept)).collect::<Vec<_>>(), all);
        assert_eq!(peers.len(), 3, "those of IPv6");
        kept.into_iter().for_each(|kept| peers.remove(kept));
        assert_eq!(peers.len(), 0);
    }
}
