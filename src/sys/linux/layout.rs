//! Socket addresses and control messages (cmsg(3)) as bytes, in the layout of Linux's kernel.
//!
//! They are written and read byte by byte, with the layouts of ip(7) and ipv6(7), so this needs no
//! unsafe code.
//!
//! Invariant: bytes that are no address or message that we know are `None`, never a fault.

#![deny(unsafe_code)]

use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::sys::LocalAddress;

/// A socket address in the kernel's form, with room for a `sockaddr_in6`, the larger of the two.
#[derive(Clone, Copy, Eq)]
#[repr(C, align(8))]
pub(crate) struct SockAddr {
    bytes: [u8; mem::size_of::<libc::sockaddr_in6>()],
}

/// Control messages (cmsg(3)): the size of a GSO batch's datagrams, an `int` from UDP_GRO or a
/// `u16` for UDP_SEGMENT; and our own address, an `in_pktinfo` or `in6_pktinfo`. Written and read
/// byte by byte, in the kernel's layout: a `size_t` with the length, two `int`s with level and
/// type, then the value.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct ControlMessages {
    bytes: [u8; CONTROL_BYTES],
}

/// The control messages that one message was received with.
#[derive(Clone, Copy)]
pub(crate) struct Control<'m> {
    messages: &'m ControlMessages,
    /// How many bytes of them the kernel has written.
    length: usize,
}

/// Room for the two control messages that one message can have.
pub(super) const CONTROL_BYTES: usize = 80;

pub(super) fn size_of_as_socklen<T>() -> libc::socklen_t {
    mem::size_of::<T>() as libc::socklen_t
}

impl SockAddr {
    pub(super) const EMPTY: SockAddr =
        SockAddr { bytes: [0; mem::size_of::<libc::sockaddr_in6>()] };

    /// Returns the kernel's form of `peer`, and its length.
    pub(super) fn new(peer: SocketAddr) -> (SockAddr, libc::socklen_t) {
        let SockAddr { mut bytes } = SockAddr::EMPTY;
        bytes[2..4].copy_from_slice(&peer.port().to_be_bytes());
        let (family, length) = match peer {
            SocketAddr::V4(peer) => {
                bytes[4..8].copy_from_slice(&peer.ip().octets());
                (libc::AF_INET, size_of_as_socklen::<libc::sockaddr_in>())
            }
            SocketAddr::V6(peer) => {
                bytes[4..8].copy_from_slice(&peer.flowinfo().to_ne_bytes());
                bytes[8..24].copy_from_slice(&peer.ip().octets());
                bytes[24..28].copy_from_slice(&peer.scope_id().to_ne_bytes());
                (libc::AF_INET6, size_of_as_socklen::<libc::sockaddr_in6>())
            }
        };
        bytes[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
        (SockAddr { bytes }, length)
    }

    fn family(&self) -> libc::c_int {
        u16::from_ne_bytes([self.bytes[0], self.bytes[1]]).into()
    }

    /// Returns the address, if it is IPv4 or IPv6. Read byte by byte, with the layouts of ip(7) and
    /// ipv6(7).
    pub(crate) fn parse(&self) -> Option<SocketAddr> {
        let bytes = &self.bytes;
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        match self.family() {
            libc::AF_INET => {
                let address = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
                Some(SocketAddrV4::new(address, port).into())
            }
            libc::AF_INET6 => {
                let mut address = [0; 16];
                address.copy_from_slice(&bytes[8..24]);
                Some(SocketAddrV6::new(Ipv6Addr::from(address), port, word(4), word(24)).into())
            }
            _ => None,
        }
    }
}

impl PartialEq for SockAddr {
    // IPv4 has family, port and address in the first 8 bytes, which are compared as one number.
    // What follows is padding, or left from a longer name.
    fn eq(&self, other: &SockAddr) -> bool {
        self.bytes[..8] == other.bytes[..8]
            && (self.family() == libc::AF_INET || self.bytes == other.bytes)
    }
}

impl ControlMessages {
    pub(super) const EMPTY: ControlMessages = ControlMessages { bytes: [0; CONTROL_BYTES] };
    const WORD: usize = mem::size_of::<usize>();
    const HEADER: usize = ControlMessages::WORD + 2 * mem::size_of::<libc::c_int>();

    /// Makes the control messages "segment into datagrams of `segment` bytes" and "send from the
    /// address `local`". Returns their length in bytes, too.
    pub(super) fn for_send(
        segment: Option<usize>,
        local: LocalAddress,
    ) -> (ControlMessages, usize) {
        let mut control = ControlMessages::EMPTY;
        let mut length = 0;
        if let Some(segment) = segment {
            let segment = u16::try_from(segment).expect("a segment has at most SEGMENT_BYTES_MAX");
            length = control.add(length, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        // The interface is 0: routing chooses it. For a link-local address it is the scope in the
        // peer's name.
        let mut info = [0; 20];
        match local {
            LocalAddress::V4(address) => {
                info[4..8].copy_from_slice(&address.octets()); // ipi_spec_dst of in_pktinfo
                length = control.add(length, libc::IPPROTO_IP, libc::IP_PKTINFO, &info[..12]);
            }
            LocalAddress::V6(address) => {
                info[..16].copy_from_slice(&address.octets()); // ipi6_addr of in6_pktinfo
                length = control.add(length, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            LocalAddress::Fixed | LocalAddress::Group => {}
        }
        (control, length)
    }

    /// Appends one control message to `length` bytes of them, and returns the new length. The two
    /// that we send fit.
    fn add(&mut self, length: usize, level: libc::c_int, kind: libc::c_int, value: &[u8]) -> usize {
        let message = &mut self.bytes[length..];
        let message_bytes = ControlMessages::HEADER + value.len();
        message[..ControlMessages::WORD].copy_from_slice(&message_bytes.to_ne_bytes());
        message[ControlMessages::WORD..][..4].copy_from_slice(&level.to_ne_bytes());
        message[ControlMessages::WORD + 4..][..4].copy_from_slice(&kind.to_ne_bytes());
        message[ControlMessages::HEADER..][..value.len()].copy_from_slice(value);
        length + message_bytes.next_multiple_of(ControlMessages::WORD)
    }

    /// Returns those that the kernel has written, `length` bytes of them.
    pub(super) fn received(&self, length: usize) -> Control<'_> {
        Control { messages: self, length }
    }
}

impl PartialEq for Control<'_> {
    // Most messages have none, and comparing them then takes no call of memcmp.
    fn eq(&self, other: &Control<'_>) -> bool {
        self.length == other.length && (self.length == 0 || self.bytes() == other.bytes())
    }
}

impl Control<'_> {
    fn bytes(&self) -> &[u8] {
        &self.messages.bytes[..self.length.min(CONTROL_BYTES)]
    }

    /// Returns the size of the datagrams that the kernel has joined, if it has, and the address to
    /// which they were sent, if it is reported.
    #[inline(never)] // most messages have none
    pub(crate) fn parse(self) -> (Option<usize>, LocalAddress) {
        let (mut segment, mut local) = (None, LocalAddress::Fixed);
        let mut rest = self.bytes();
        while rest.len() >= ControlMessages::HEADER {
            let int = |at: usize| {
                i32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]])
            };
            let mut length = [0; ControlMessages::WORD];
            length.copy_from_slice(&rest[..ControlMessages::WORD]);
            let length = usize::from_ne_bytes(length);
            let Some(value) = rest.get(ControlMessages::HEADER..length) else { break };
            match (int(ControlMessages::WORD), int(ControlMessages::WORD + 4), value) {
                (libc::SOL_UDP, libc::UDP_GRO, [_, _, _, _, ..]) => {
                    let size = usize::try_from(int(ControlMessages::HEADER));
                    segment = size.ok().filter(|&segment| segment > 0);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO, &[_, _, _, _, a, b, c, d, e, f, g, h]) => {
                    // ipi_spec_dst, from which a reply leaves, and ipi_addr, the destination. If
                    // they differ, the destination is a multicast or broadcast address (ip(7)).
                    let (spec_dst, destination) = ([a, b, c, d], Ipv4Addr::new(e, f, g, h));
                    let is_ours = destination.octets() == spec_dst && !destination.is_multicast();
                    local = match is_ours {
                        true => LocalAddress::V4(destination),
                        false => LocalAddress::Group,
                    };
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, value) => {
                    local = match value.first_chunk::<16>().map(|&octets| Ipv6Addr::from(octets)) {
                        Some(address) if address.is_multicast() => LocalAddress::Group,
                        Some(address) => LocalAddress::V6(address),
                        None => LocalAddress::Fixed,
                    };
                }
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(ControlMessages::WORD)..).unwrap_or(&[]);
        }
        (segment, local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(peer: &str) -> SockAddr {
        SockAddr::new(peer.parse().unwrap()).0
    }

    #[test]
    fn names_are_equal_if_the_addresses_are() {
        let v4 = name("192.0.2.1:7000");
        let mut with_rest = v4;
        with_rest.bytes[8..].fill(1); // as after a longer name at the same place
        assert!(v4 == with_rest);
        assert!(v4 != name("192.0.2.1:7001") && v4 != name("192.0.2.2:7000"));
        let v6 = name("[2001:db8::1%2]:7000");
        assert!(v6 == name("[2001:db8::1%2]:7000"));
        assert!(v6 != name("[2001:db8::1%3]:7000") && v6 != name("[2001:db8::2%2]:7000"));
    }
}
