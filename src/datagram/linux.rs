//! Batches by recvmmsg(2) and sendmmsg(2), with UDP_GRO in and UDP_SEGMENT out (udp(7)), and on sockets that have all
//! addresses with IP_PKTINFO both ways (ip(7)), so that a reply leaves from the address that was asked.
//!
//! The one module with unsafe code: the two calls take arrays of pointers, and no crate known to us offers them with trains
//! that are gathered from several places in memory. The pointers for sending are made within the call that uses them. Those
//! for receiving are made once, since to make them anew each time cost a sixth of the whole: they point into vectors that
//! `MmsgIo` and `Batch` own and never let grow, and each call compares whose they are.

#![allow(unsafe_code)]
// The widths of the structures' fields differ between C libraries; all values here are a few thousand at most.
#![allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::ptr;

use super::batch::{BUFFER_BYTES, Batch, LocalAddress, Message, Recipient, STRIDE_BYTES, Sender};
use super::socket::Batching;
use crate::limits::DATAGRAM_BATCH;
use crate::sys::UdpSocket;

pub(crate) struct MmsgIo {
    /// What the kernel writes on receiving, one of each per message, and reads again on replying. None of these vectors
    /// grows or is written by us after it was made, so that the pointers in `recv_headers` stay good.
    recv_names: Vec<SockAddr>,
    recv_controls: Vec<ControlMessages>,
    recv_iovecs: Vec<libc::iovec>,
    recv_headers: Vec<libc::mmsghdr>,
    /// How many of `recv_headers` the last receive has written to.
    received: usize,
    /// Whose buffers `recv_iovecs` point to.
    prepared_for: *const u8,
    // Scratch of `send`, empty between its calls.
    send_headers: Vec<libc::mmsghdr>,
    send_iovecs: Vec<libc::iovec>,
    send_controls: Vec<ControlMessages>,
    send_names: Vec<SockAddr>,
    /// The kernel knows whom all goes to.
    is_connected: bool,
}

/// A socket address in the kernel's form: room for a `sockaddr_in6`, the larger of the two that can come.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
struct SockAddr {
    bytes: [u8; mem::size_of::<libc::sockaddr_in6>()],
}

/// Control messages (cmsg(3)): the size of a train's datagrams, an `int` from UDP_GRO or a `u16` for UDP_SEGMENT, and our
/// own address, an `in_pktinfo` or `in6_pktinfo`. Written and read byte by byte, in the kernel's layout: a `size_t` with
/// the length, two `int`s with level and type, then the value.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct ControlMessages {
    bytes: [u8; CONTROL_BYTES],
}

/// Room for the two that can come together.
const CONTROL_BYTES: usize = 80;

impl MmsgIo {
    pub(crate) fn new(socket: &UdpSocket, batching: Batching) -> MmsgIo {
        if batching == Batching::Gso {
            // A kernel older than 5.0 has no UDP_GRO: then no trains arrive, and nothing is lost.
            enable_option(socket, libc::SOL_UDP, libc::UDP_GRO);
        }
        match socket.local_addr() {
            Ok(address) if address.ip() == Ipv4Addr::UNSPECIFIED => {
                enable_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO);
            }
            Ok(address) if address.ip() == Ipv6Addr::UNSPECIFIED => {
                enable_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO);
            }
            Ok(_) | Err(_) => {}
        }
        MmsgIo {
            recv_names: vec![
                SockAddr { bytes: [0; mem::size_of::<libc::sockaddr_in6>()] };
                DATAGRAM_BATCH
            ],
            recv_controls: vec![ControlMessages { bytes: [0; CONTROL_BYTES] }; DATAGRAM_BATCH],
            recv_iovecs: Vec::with_capacity(DATAGRAM_BATCH),
            recv_headers: Vec::with_capacity(DATAGRAM_BATCH),
            received: 0,
            prepared_for: ptr::null(),
            send_headers: Vec::with_capacity(DATAGRAM_BATCH),
            send_iovecs: Vec::new(),
            send_controls: Vec::with_capacity(DATAGRAM_BATCH),
            send_names: Vec::with_capacity(DATAGRAM_BATCH),
            is_connected: socket.peer_addr().is_ok(),
        }
    }

    /// Tells the kernel where to put names, controls and bytes: all of it once for each batch's buffers, and after that
    /// only the lengths that the last call has overwritten (recvmmsg(2) wants them set anew for each).
    fn prepare_headers(&mut self, batch: &mut Batch) {
        if self.prepared_for == batch.buffers.as_ptr() {
            for header in &mut self.recv_headers[..self.received] {
                header.msg_hdr.msg_namelen = size_of_as_socklen::<libc::sockaddr_in6>();
                header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
            }
            return;
        }
        self.prepared_for = batch.buffers.as_ptr();
        self.recv_iovecs.clear();
        self.recv_headers.clear();
        let buffers = batch.buffers.as_mut_ptr();
        for index in 0..DATAGRAM_BATCH {
            let buffer = buffers.wrapping_add(index * STRIDE_BYTES);
            self.recv_iovecs.push(libc::iovec { iov_base: buffer.cast(), iov_len: BUFFER_BYTES });
        }
        let (names, controls, vectors) = (
            self.recv_names.as_mut_ptr(),
            self.recv_controls.as_mut_ptr(),
            self.recv_iovecs.as_mut_ptr(),
        );
        for index in 0..DATAGRAM_BATCH {
            let mut header = empty_header();
            header.msg_hdr.msg_name = names.wrapping_add(index).cast();
            header.msg_hdr.msg_namelen = size_of_as_socklen::<libc::sockaddr_in6>();
            header.msg_hdr.msg_iov = vectors.wrapping_add(index);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = controls.wrapping_add(index).cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
            self.recv_headers.push(header);
        }
    }

    /// Receives a batch. Says whether it is full, so that there may be more.
    #[inline(never)] // so that its loop has the registers for itself
    pub(crate) fn receive(&mut self, socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool> {
        batch.clear();
        self.prepare_headers(batch);
        // SAFETY: there are DATAGRAM_BATCH headers. Each describes one name, one control and one vector of `self`, which have
        // not moved since `prepare_headers` made the pointers: these vectors are never pushed to but there, each within the
        // capacity it was made with. Each vector describes BUFFER_BYTES of `batch.buffers`, one for each of its DATAGRAM_BATCH strides: in
        // bounds, disjoint, initialised, at the address that `prepare_headers` has just compared,
        // borrowed by us until the call returns. The timeout is null, as the socket does not block.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.recv_headers.as_mut_ptr(),
                DATAGRAM_BATCH as libc::c_uint,
                0 as _,
                ptr::null_mut(),
            )
        };
        self.received = 0;
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.received = count;
        let mut last = None;
        let written = self.recv_headers[..count]
            .iter()
            .zip(&self.recv_names)
            .zip(&self.recv_controls)
            .enumerate();
        batch.messages.extend(written.map(|(number, ((header, name), control))| {
            let (segment, asked) = match header.msg_hdr.msg_controllen as usize {
                0 => (None, LocalAddress::Fixed),
                control_bytes => control.parse(control_bytes),
            };
            if last != Some((name, asked)) {
                last = Some((name, asked));
                batch.senders.push(Sender { peer: name.parse(), local: asked, first: number });
            }
            let length = header.msg_len as usize;
            let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            Message {
                offset: number * STRIDE_BYTES,
                length,
                segment: segment.unwrap_or(length),
                is_truncated: is_cut,
            }
        }));
        Ok(count == DATAGRAM_BATCH)
    }

    /// Sends what waits, as far as one call goes: at most DATAGRAM_BATCH trains. Returns how many the kernel took, at
    /// least one; what the first one failed with otherwise.
    pub(crate) fn send(&mut self, socket: &UdpSocket, batch: &Batch) -> io::Result<usize> {
        self.send_headers.clear();
        self.send_iovecs.clear();
        self.send_controls.clear();
        self.send_names.clear();
        let trains = batch.pending();
        let trains = &trains[..trains.len().min(DATAGRAM_BATCH)];
        let (Some(first), Some(last)) = (trains.first(), trains.last()) else { return Ok(0) };
        let pieces = &batch.replies.iovecs[first.first_iovec..last.first_iovec + last.iovec_count];
        self.send_iovecs.extend(pieces.iter().map(|piece| {
            let bytes = batch.bytes(piece);
            // The kernel only reads from here; the field is `*mut` because receiving uses the same structure.
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
        }));
        let pieces = self.send_iovecs.as_mut_ptr();
        // These have the capacity for all of them, and do not move.
        let (orders, recipients) = (self.send_controls.as_mut_ptr(), self.send_names.as_ptr());
        let mut first_iovec = 0;
        for train in trains {
            let mut header = empty_header();
            let mut asked = LocalAddress::Fixed;
            match train.to {
                Recipient::Sender(_) | Recipient::Connected if self.is_connected => {}
                Recipient::Sender(number) => {
                    let sender = &batch.senders[number];
                    header.msg_hdr.msg_name =
                        self.recv_names[sender.first].bytes.as_ptr().cast_mut().cast();
                    let named = self.recv_headers[..self.received].get(sender.first);
                    header.msg_hdr.msg_namelen =
                        named.map_or(0, |header| header.msg_hdr.msg_namelen);
                    asked = sender.local;
                }
                Recipient::Peer(_) => {
                    let (name, length) = SockAddr::of(
                        batch.peer_of(train.to).expect("who was named has an address"),
                    );
                    header.msg_hdr.msg_name =
                        recipients.wrapping_add(self.send_names.len()).cast_mut().cast();
                    header.msg_hdr.msg_namelen = length;
                    self.send_names.push(name);
                }
                Recipient::Connected => {} // to nobody, which the kernel refuses
            }
            header.msg_hdr.msg_iov = pieces.wrapping_add(first_iovec);
            header.msg_hdr.msg_iovlen = train.iovec_count as _;
            first_iovec += train.iovec_count;
            let is_train = train.datagrams() > 1;
            if is_train || asked != LocalAddress::Fixed {
                let (order, length) =
                    ControlMessages::for_send(is_train.then_some(train.segment), asked);
                header.msg_hdr.msg_control = orders.wrapping_add(self.send_controls.len()).cast();
                header.msg_hdr.msg_controllen = length as _;
                self.send_controls.push(order);
            }
            self.send_headers.push(header);
        }
        // SAFETY: each header describes no name, one of `recv_names`, or one of `send_names`; (for a train, or a socket with all
        // addresses) one of `send_controls`, which like `send_names` was pushed to within its capacity, for there are at most
        // DATAGRAM_BATCH trains, so that the pointer taken before is good; and as many of `send_iovecs` as the train has, all pushed above. Each of these describes a live, initialised slice of `batch`, which is borrowed until
        // the call has returned. The kernel only reads them. The count is that of `send_headers`, which is not empty: the
        // caller sends only when something waits.
        let count = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.send_headers.as_mut_ptr(),
                self.send_headers.len() as libc::c_uint,
                libc::MSG_NOSIGNAL as _,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

fn enable_option(socket: &UdpSocket, level: libc::c_int, option: libc::c_int) {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `on`, which lives through the call; the descriptor is open, for
    // `socket` is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of_as_socklen::<libc::c_int>(),
        )
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

impl SockAddr {
    /// The name of `peer`, and its length.
    fn of(peer: SocketAddr) -> (SockAddr, libc::socklen_t) {
        let mut bytes = [0; mem::size_of::<libc::sockaddr_in6>()];
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

    /// The address, where it is one of IPv4 or IPv6. Read byte by byte: the layouts are those of ip(7) and ipv6(7).
    fn parse(&self) -> Option<SocketAddr> {
        let bytes = &self.bytes;
        let family = u16::from_ne_bytes([bytes[0], bytes[1]]);
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
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

impl ControlMessages {
    const WORD: usize = mem::size_of::<usize>();
    const HEADER: usize = ControlMessages::WORD + 2 * mem::size_of::<libc::c_int>();

    /// "Cut what I send into datagrams of `segment` bytes", and "let it leave from the address that was asked": the order, and
    /// its length.
    fn for_send(segment: Option<usize>, asked: LocalAddress) -> (ControlMessages, usize) {
        let mut order = ControlMessages { bytes: [0; CONTROL_BYTES] };
        let mut length = 0;
        if let Some(segment) = segment {
            let segment = u16::try_from(segment)
                .expect("a train's datagrams have at most SEGMENT_BYTES_MAX bytes");
            length = order.add(length, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        // The interface, which is 0 here, is left to the routes; a link-local address has its scope in the peer's name.
        let mut info = [0; 20];
        match asked {
            LocalAddress::V4(address) => {
                info[4..8].copy_from_slice(&address.octets()); // in_pktinfo: interface, ours, theirs
                length = order.add(length, libc::IPPROTO_IP, libc::IP_PKTINFO, &info[..12]);
            }
            LocalAddress::V6(address) => {
                info[..16].copy_from_slice(&address.octets()); // in6_pktinfo: ours, interface
                length = order.add(length, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            LocalAddress::Fixed | LocalAddress::Group => {}
        }
        (order, length)
    }

    /// Puts one control message behind those of `length` bytes, and returns the new length. The two that we know fit.
    fn add(&mut self, length: usize, level: libc::c_int, kind: libc::c_int, value: &[u8]) -> usize {
        let message = &mut self.bytes[length..];
        message[..ControlMessages::WORD]
            .copy_from_slice(&(ControlMessages::HEADER + value.len()).to_ne_bytes());
        message[ControlMessages::WORD..][..4].copy_from_slice(&level.to_ne_bytes());
        message[ControlMessages::WORD + 4..][..4].copy_from_slice(&kind.to_ne_bytes());
        message[ControlMessages::HEADER..][..value.len()].copy_from_slice(value);
        length + (ControlMessages::HEADER + value.len()).next_multiple_of(ControlMessages::WORD)
    }

    /// The size of the datagrams that the kernel has joined, if it has, and whom they were sent to, if it says so.
    #[inline(never)] // most have none, and the loop that asks has no registers to spare
    fn parse(&self, length: usize) -> (Option<usize>, LocalAddress) {
        let (mut segment, mut asked) = (None, LocalAddress::Fixed);
        let mut rest = &self.bytes[..length.min(CONTROL_BYTES)];
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
                    segment = usize::try_from(int(ControlMessages::HEADER))
                        .ok()
                        .filter(|&segment| segment > 0);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO, &[_, _, _, _, a, b, c, d, e, f, g, h]) => {
                    // The address that we would answer from, and the one that was asked. Where they differ, that is nobody's
                    // own: a group's, or a network's.
                    let (own, named) = ([a, b, c, d], [e, f, g, h]);
                    asked = if own == named {
                        LocalAddress::V4(own.into())
                    } else {
                        LocalAddress::Group
                    };
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, value) => {
                    asked = match value.first_chunk::<16>().map(|&octets| Ipv6Addr::from(octets)) {
                        Some(named) if named.is_multicast() => LocalAddress::Group,
                        Some(named) => LocalAddress::V6(named),
                        None => LocalAddress::Fixed,
                    };
                }
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(ControlMessages::WORD)..).unwrap_or(&[]);
        }
        (segment, asked)
    }
}
