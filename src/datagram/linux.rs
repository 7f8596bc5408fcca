//! Batches by recvmmsg(2) and sendmmsg(2), with UDP_GRO in and UDP_SEGMENT out (udp(7)), and on sockets that have all
//! addresses with IP_PKTINFO both ways (ip(7)), so that a reply leaves from the address that was asked.
//!
//! The one module with unsafe code: the two calls take arrays of pointers, and no crate known to us offers them, with
//! trains gathered from several places, at the floor's cost (docs/design.md has the figures). All pointers are made from
//! live slices within the function that makes the call, and none outlives it.

#![allow(unsafe_code)]
// The widths of the structures' fields differ between C libraries; all values here are a few thousand at most.
#![allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::ptr;

use super::batch::{BUFFER_BYTES, Batch, Message, STRIDE_BYTES};
use crate::limits::DATAGRAM_BATCH;
use crate::net::UdpSocket;

pub(super) struct Exchange {
    /// The sender of each message of the batch, in the kernel's form, so that a reply names its peer as it came.
    names: Vec<Name>,
    controls: Vec<Control>,
    // Scratch of the two calls, empty between them.
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
}

/// A socket address in the kernel's form: room for a `sockaddr_in6`, the larger of the two that can come.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Name {
    bytes: [u8; mem::size_of::<libc::sockaddr_in6>()],
    length: libc::socklen_t,
}

/// Control messages (cmsg(3)): the size of a train's datagrams, an `int` from UDP_GRO or a `u16` for UDP_SEGMENT, and our
/// own address, an `in_pktinfo` or `in6_pktinfo`. Written and read byte by byte, in the kernel's layout: a `size_t` with
/// the length, two `int`s with level and type, then the value.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control {
    bytes: [u8; 80],
    length: usize,
}

impl Exchange {
    pub(super) fn new(socket: &UdpSocket) -> Exchange {
        // A kernel older than 5.0 has no UDP_GRO: then no trains arrive, and nothing is lost.
        switch_on(socket, libc::SOL_UDP, libc::UDP_GRO);
        match socket.local_addr() {
            Ok(address) if address.ip() == Ipv4Addr::UNSPECIFIED => switch_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO),
            Ok(address) if address.ip() == Ipv6Addr::UNSPECIFIED => {
                switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO);
            }
            Ok(_) | Err(_) => {}
        }
        let name = Name { bytes: [0; mem::size_of::<libc::sockaddr_in6>()], length: 0 };
        Exchange {
            names: vec![name; DATAGRAM_BATCH],
            controls: vec![Control::empty(); DATAGRAM_BATCH],
            headers: Vec::with_capacity(DATAGRAM_BATCH),
            vectors: Vec::new(),
        }
    }

    /// Receives a batch. Says whether it is full, so that there may be more.
    pub(super) fn receive(&mut self, socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool> {
        batch.messages.clear();
        self.headers.clear();
        self.vectors.clear();
        for buffer in batch.buffers.chunks_mut(STRIDE_BYTES) {
            self.vectors.push(libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER_BYTES });
        }
        // Names and controls are described anew for each call: the kernel has overwritten their lengths in the last one.
        for ((name, control), vector) in self.names.iter_mut().zip(&mut self.controls).zip(&mut self.vectors) {
            let mut header = empty_header();
            header.msg_hdr.msg_name = name.bytes.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = size_of_as_socklen::<libc::sockaddr_in6>();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.bytes.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = control.bytes.len() as _;
            self.headers.push(header);
        }
        // SAFETY: each header describes one name, one control and one vector of `self`, and each vector one chunk of
        // `batch.buffers`: at least BUFFER_BYTES long (the last of 64 whole strides included), disjoint, initialised, and
        // untouched by anyone else until the call returns. The count is that of `headers`. The timeout is null, as the
        // socket does not block.
        let count = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), self.headers.len() as libc::c_uint, 0, ptr::null_mut())
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for index in 0..count {
            let header = &self.headers[index];
            let length = header.msg_len as usize;
            self.names[index].length = header.msg_hdr.msg_namelen;
            self.controls[index].length = header.msg_hdr.msg_controllen as usize;
            let (segment, local) = self.controls[index].parse();
            batch.messages.push(Message {
                peer: self.names[index].parse(),
                local,
                length,
                segment: segment.unwrap_or(length),
                is_cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            });
        }
        Ok(count == DATAGRAM_BATCH)
    }

    /// Sends what waits, as far as one call goes: at most DATAGRAM_BATCH trains. Returns how many the kernel took, at
    /// least one; what the first one failed with otherwise.
    pub(super) fn send(&mut self, socket: &UdpSocket, batch: &Batch) -> io::Result<usize> {
        self.headers.clear();
        self.vectors.clear();
        let trains = batch.waiting();
        let trains = &trains[..trains.len().min(DATAGRAM_BATCH)];
        for train in trains {
            for piece in &batch.outgoing.pieces[train.first_piece..][..train.pieces] {
                let bytes = batch.bytes(piece);
                // The kernel only reads from here; the field is `*mut` because receiving uses the same structure.
                self.vectors.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
            }
        }
        let vectors = self.vectors.as_mut_ptr();
        let mut first = 0;
        for (train, control) in trains.iter().zip(&mut self.controls) {
            *control = Control::empty();
            if train.datagrams > 1 {
                control.cut_every(train.segment);
            }
            if let Some(local) = batch.messages[train.to].local {
                control.leave_from(local);
            }
            let name = &self.names[train.to];
            let mut header = empty_header();
            header.msg_hdr.msg_name = name.bytes.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = name.length;
            header.msg_hdr.msg_iov = vectors.wrapping_add(first);
            header.msg_hdr.msg_iovlen = train.pieces as _;
            if control.length > 0 {
                header.msg_hdr.msg_control = control.bytes.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = control.length as _;
            }
            first += train.pieces;
            self.headers.push(header);
        }
        // SAFETY: each header describes a name and (for a train) a control of `self`, and as many vectors from `first`
        // on as the train has pieces, all of them pushed above; each vector describes a live, initialised slice of
        // `batch`, which is borrowed until the call has returned. The kernel only reads them. The count is that of
        // `headers`, which is not empty: the caller sends only when something waits.
        let count = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), self.headers.len() as libc::c_uint, libc::MSG_NOSIGNAL)
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

fn switch_on(socket: &UdpSocket, level: libc::c_int, option: libc::c_int) {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `on`, which lives through the call; the descriptor is open, for
    // `socket` is borrowed.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), size_of_as_socklen::<libc::c_int>())
    };
    if result != 0 {
        log::debug!("socket option {level}/{option}: {}", io::Error::last_os_error());
    }
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: an `mmsghdr` is integers and pointers; all zeroes are valid for each of them, and mean "none".
    unsafe { mem::zeroed() }
}

fn size_of_as_socklen<T>() -> libc::socklen_t {
    mem::size_of::<T>() as libc::socklen_t
}

impl Name {
    /// The address, where it is one of IPv4 or IPv6. Read byte by byte: the layouts are those of ip(7) and ipv6(7).
    fn parse(&self) -> Option<SocketAddr> {
        let bytes = &self.bytes;
        let family = u16::from_ne_bytes([bytes[0], bytes[1]]);
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        match libc::c_int::from(family) {
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

impl Control {
    const WORD: usize = mem::size_of::<usize>();
    const HEADER: usize = Control::WORD + 2 * mem::size_of::<libc::c_int>();

    const fn empty() -> Control {
        Control { bytes: [0; 80], length: 0 }
    }

    /// "Cut what I send into datagrams of `segment` bytes."
    fn cut_every(&mut self, segment: usize) {
        let segment = u16::try_from(segment).expect("a train's datagrams have at most SEGMENT_BYTES_MAX bytes");
        self.add(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    }

    /// "Let it leave from `local`." The interface is left to the routes, but for link-local addresses, whose scope is in the
    /// peer's name.
    fn leave_from(&mut self, local: IpAddr) {
        let mut value = [0; 20];
        match local {
            IpAddr::V4(address) => {
                value[4..8].copy_from_slice(&address.octets()); // in_pktinfo: interface, ours, theirs
                self.add(libc::IPPROTO_IP, libc::IP_PKTINFO, &value[..12]);
            }
            IpAddr::V6(address) => {
                value[..16].copy_from_slice(&address.octets()); // in6_pktinfo: ours, interface
                self.add(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &value);
            }
        }
    }

    /// Puts one control message behind the others. Both that we know fit.
    fn add(&mut self, level: libc::c_int, kind: libc::c_int, value: &[u8]) {
        let message = &mut self.bytes[self.length..];
        message[..Control::WORD].copy_from_slice(&(Control::HEADER + value.len()).to_ne_bytes());
        message[Control::WORD..][..4].copy_from_slice(&level.to_ne_bytes());
        message[Control::WORD + 4..][..4].copy_from_slice(&kind.to_ne_bytes());
        message[Control::HEADER..][..value.len()].copy_from_slice(value);
        self.length += (Control::HEADER + value.len()).next_multiple_of(Control::WORD);
    }

    /// The size of the datagrams that the kernel has joined, and the address that they were sent to, if it says so.
    #[inline]
    fn parse(&self) -> (Option<usize>, Option<IpAddr>) {
        let (mut segment, mut local) = (None, None);
        let mut rest = &self.bytes[..self.length.min(self.bytes.len())];
        while rest.len() >= Control::HEADER {
            let int = |at: usize| i32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
            let mut length = [0; Control::WORD];
            length.copy_from_slice(&rest[..Control::WORD]);
            let length = usize::from_ne_bytes(length);
            let Some(value) = rest.get(Control::HEADER..length) else { break };
            match (int(Control::WORD), int(Control::WORD + 4), value) {
                (libc::SOL_UDP, libc::UDP_GRO, [_, _, _, _, ..]) => {
                    segment = usize::try_from(int(Control::HEADER)).ok().filter(|&segment| segment > 0);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO, &[_, _, _, _, a, b, c, d, ..]) => local = Some(IpAddr::from([a, b, c, d])),
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, value) => {
                    local = value.first_chunk::<16>().map(|&octets| IpAddr::from(octets));
                }
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(Control::WORD)..).unwrap_or(&[]);
        }
        (segment, local)
    }
}
