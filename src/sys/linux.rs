//! recvmmsg(2) and sendmmsg(2): batches of datagrams in one system call.
//!
//! UDP_GRO is used on receiving and UDP_SEGMENT on sending (udp(7)). Sockets bound to all addresses
//! use IP_PKTINFO both ways (ip(7)), so that a reply leaves from the address to which the request
//! was sent.
//!
//! The one module with unsafe code: the two calls take arrays of pointers, and no crate known to us
//! offers them for messages that are gathered from several places in memory. The pointers for
//! sending are made within the call that uses them. The pointers for receiving are made once,
//! because making them for each call cost a sixth of the whole. They point into vectors that `Mmsg`
//! owns and never lets grow, and into buffers whose address and length each call compares.

#![allow(unsafe_code)]
// The structures' fields differ in width between C libraries; values are a few thousand at most.
#![allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::ptr;

use super::{LocalAddress, UdpSocket};
use crate::limits::DATAGRAM_BATCH;

/// The arrays of one socket for both calls.
pub(crate) struct Mmsg {
    // What the kernel writes on receiving, one of each per message, and reads again on replying. We
    // neither grow nor write these vectors once they are made, so the pointers in `recv_headers`
    // stay valid.
    recv_names: Vec<SockAddr>,
    recv_controls: Vec<ControlMessages>,
    recv_iovecs: Vec<libc::iovec>,
    recv_headers: Vec<libc::mmsghdr>,
    /// How many of `recv_headers` the last receive has written to.
    received: usize,
    /// The buffers that `recv_iovecs` point to: where they begin, and their size in bytes.
    prepared_for: (*const u8, usize),
    // Scratch of `send`, empty between its calls.
    send_headers: Vec<libc::mmsghdr>,
    send_iovecs: Vec<libc::iovec>,
    send_controls: Vec<ControlMessages>,
    send_names: Vec<SockAddr>,
}

/// Memory for the messages of one receive: `DATAGRAM_BATCH` buffers of `bytes_each`, one every
/// `stride_bytes`.
pub(crate) struct RecvBuffers<'b> {
    pub(crate) memory: &'b mut [u8],
    pub(crate) bytes_each: usize,
    pub(crate) stride_bytes: usize,
}

/// What the kernel reports of one received message.
pub(crate) struct RecvMessage<'m> {
    pub(crate) name: &'m SockAddr,
    pub(crate) length: usize,
    pub(crate) is_truncated: bool,
    /// The size of the datagrams that the kernel has joined, if it has (UDP_GRO).
    pub(crate) segment: Option<usize>,
    pub(crate) local: LocalAddress,
}

/// One message to be sent, gathered from `slices`.
pub(crate) struct SendMessage<S> {
    pub(crate) to: SendTo,
    pub(crate) slices: S,
    /// The kernel segments it into datagrams of this many bytes (UDP_SEGMENT).
    pub(crate) segment: Option<usize>,
    /// The local address to send from, where the socket has several.
    pub(crate) local: LocalAddress,
}

/// Where a message goes.
pub(crate) enum SendTo {
    /// To the peer that the socket is connected to.
    Connected,
    /// To the sender of the message with this number in the last receive.
    Sender(usize),
    /// To this address; `None`: the message has none, and the kernel refuses it.
    Address(Option<SocketAddr>),
}

/// A socket address in the kernel's form, with room for a `sockaddr_in6`, the larger of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
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
struct ControlMessages {
    bytes: [u8; CONTROL_BYTES],
}

/// Room for the two control messages that one message can have.
const CONTROL_BYTES: usize = 80;

/// Has the kernel join datagrams of one size and one sender on receiving (GRO). A kernel older than
/// 5.0 has no UDP_GRO: then none are joined, and nothing is lost.
pub(crate) fn enable_gro(socket: &UdpSocket) {
    enable_option(socket, libc::SOL_UDP, libc::UDP_GRO);
}

/// On a socket bound to all addresses: has the kernel report to which of them each datagram was
/// sent.
pub(crate) fn enable_pktinfo(socket: &UdpSocket) {
    match socket.local_addr() {
        Ok(address) if address.ip() == Ipv4Addr::UNSPECIFIED => {
            enable_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO);
        }
        Ok(address) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            enable_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO);
        }
        Ok(_) | Err(_) => {}
    }
}

fn enable_option(socket: &UdpSocket, level: libc::c_int, option: libc::c_int) {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `on`, which lives through the call; the
    // descriptor is open, because `socket` is borrowed.
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
        log::debug!("setsockopt {level}/{option}: {}", io::Error::last_os_error());
    }
}

impl Mmsg {
    pub(crate) fn new() -> Mmsg {
        Mmsg {
            recv_names: vec![SockAddr::EMPTY; DATAGRAM_BATCH],
            recv_controls: vec![ControlMessages { bytes: [0; CONTROL_BYTES] }; DATAGRAM_BATCH],
            recv_iovecs: Vec::with_capacity(DATAGRAM_BATCH),
            recv_headers: Vec::with_capacity(DATAGRAM_BATCH),
            received: 0,
            prepared_for: (ptr::null(), 0),
            send_headers: Vec::with_capacity(DATAGRAM_BATCH),
            send_iovecs: Vec::new(),
            send_controls: Vec::with_capacity(DATAGRAM_BATCH),
            send_names: Vec::with_capacity(DATAGRAM_BATCH),
        }
    }

    /// Sets where the kernel writes names, controls and bytes: all of it once for each set of
    /// buffers, and then only the lengths that the last call has overwritten (recvmmsg(2)).
    fn prepare_headers(&mut self, buffers: &mut RecvBuffers<'_>) {
        let RecvBuffers { memory, bytes_each, stride_bytes } = buffers;
        if self.prepared_for == (memory.as_ptr(), memory.len()) {
            for header in &mut self.recv_headers[..self.received] {
                header.msg_hdr.msg_namelen = size_of_as_socklen::<libc::sockaddr_in6>();
                header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
            }
            return;
        }
        self.prepared_for = (memory.as_ptr(), memory.len());
        self.recv_iovecs.clear();
        self.recv_headers.clear();
        for buffer in memory.chunks_mut(*stride_bytes).take(DATAGRAM_BATCH) {
            let buffer = &mut buffer[..*bytes_each];
            let (iov_base, iov_len) = (buffer.as_mut_ptr().cast(), buffer.len());
            self.recv_iovecs.push(libc::iovec { iov_base, iov_len });
        }
        assert_eq!(self.recv_iovecs.len(), DATAGRAM_BATCH, "there is a buffer for each message");
        let names = self.recv_names.as_mut_ptr();
        let controls = self.recv_controls.as_mut_ptr();
        let iovecs = self.recv_iovecs.as_mut_ptr();
        for index in 0..DATAGRAM_BATCH {
            let mut header = empty_header();
            header.msg_hdr.msg_name = names.wrapping_add(index).cast();
            header.msg_hdr.msg_namelen = size_of_as_socklen::<libc::sockaddr_in6>();
            header.msg_hdr.msg_iov = iovecs.wrapping_add(index);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = controls.wrapping_add(index).cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
            self.recv_headers.push(header);
        }
    }

    /// Receives up to `DATAGRAM_BATCH` messages, each into the next of `buffers`. Returns what the
    /// kernel reports of them.
    pub(crate) fn receive(
        &mut self,
        socket: &UdpSocket,
        mut buffers: RecvBuffers<'_>,
    ) -> io::Result<impl ExactSizeIterator<Item = RecvMessage<'_>>> {
        self.prepare_headers(&mut buffers);
        // SAFETY: there are DATAGRAM_BATCH headers. Each describes one name, one control and one
        // iovec of `self`, which have not moved since `prepare_headers` made the pointers: these
        // vectors are pushed to only there, within the capacity that they were made with. Each
        // iovec describes `bytes_each` bytes of `buffers.memory`: in bounds, disjoint, initialised,
        // at the address and of the size that `prepare_headers` has just compared, mutably borrowed
        // by us until the call returns. (If its owner has made another vector of the same size at
        // the same address, that one is borrowed now.) The timeout is null, because the socket does
        // not block.
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
        let written = self.recv_headers[..count].iter().zip(&self.recv_names);
        Ok(written.zip(&self.recv_controls).map(|((header, name), control)| {
            let (segment, local) = match header.msg_hdr.msg_controllen as usize {
                0 => (None, LocalAddress::Fixed),
                control_bytes => control.parse(control_bytes),
            };
            let is_truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            RecvMessage { name, length: header.msg_len as usize, is_truncated, segment, local }
        }))
    }

    /// Sends `messages`, at most `DATAGRAM_BATCH` of them. Returns how many the kernel took, at
    /// least one; otherwise the error of the first one.
    pub(crate) fn send<'s, S: Iterator<Item = &'s [u8]>>(
        &mut self,
        socket: &UdpSocket,
        messages: impl Iterator<Item = SendMessage<S>>,
    ) -> io::Result<usize> {
        self.send_headers.clear();
        self.send_iovecs.clear();
        self.send_controls.clear();
        self.send_names.clear();
        // Both have capacity for all messages, so they do not move.
        let controls = self.send_controls.as_mut_ptr();
        let names = self.send_names.as_ptr();
        for SendMessage { to, slices, segment, local } in messages.take(DATAGRAM_BATCH) {
            let mut header = empty_header();
            match to {
                SendTo::Connected | SendTo::Address(None) => {}
                SendTo::Sender(number) => {
                    header.msg_hdr.msg_name =
                        self.recv_names[number].bytes.as_ptr().cast_mut().cast();
                    let received = self.recv_headers[..self.received].get(number);
                    header.msg_hdr.msg_namelen =
                        received.map_or(0, |received| received.msg_hdr.msg_namelen);
                }
                SendTo::Address(Some(peer)) => {
                    let (name, length) = SockAddr::new(peer);
                    header.msg_hdr.msg_name =
                        names.wrapping_add(self.send_names.len()).cast_mut().cast();
                    header.msg_hdr.msg_namelen = length;
                    self.send_names.push(name);
                }
            }
            let iovecs_before = self.send_iovecs.len();
            self.send_iovecs.extend(slices.map(|slice| {
                // The kernel only reads these; `*mut` is for receiving, which uses the same type.
                libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() }
            }));
            header.msg_hdr.msg_iovlen = (self.send_iovecs.len() - iovecs_before) as _;
            if segment.is_some() || local != LocalAddress::Fixed {
                let (control, length) = ControlMessages::for_send(segment, local);
                header.msg_hdr.msg_control = controls.wrapping_add(self.send_controls.len()).cast();
                header.msg_hdr.msg_controllen = length as _;
                self.send_controls.push(control);
            }
            self.send_headers.push(header);
        }
        let iovecs = self.send_iovecs.as_mut_ptr(); // all are pushed, so it does not move any more
        let mut first = 0;
        for header in &mut self.send_headers {
            header.msg_hdr.msg_iov = iovecs.wrapping_add(first);
            first += header.msg_hdr.msg_iovlen as usize;
        }
        // SAFETY: each header describes no name, one of `recv_names`, or one of `send_names`; and
        // no control, or one of `send_controls`. `send_names` and `send_controls` were pushed to
        // within their capacity, as there are at most DATAGRAM_BATCH messages, so the pointers
        // taken before are valid. Each header also describes as many of `send_iovecs` as were
        // pushed for its message. Each of these describes a slice that is borrowed for 's, and so
        // alive until the call has returned. The kernel only reads them. The count is that of
        // `send_headers`.
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

fn empty_header() -> libc::mmsghdr {
    // SAFETY: an `mmsghdr` has integers and pointers. Zero is valid for each, and means "none".
    unsafe { mem::zeroed() }
}

fn size_of_as_socklen<T>() -> libc::socklen_t {
    mem::size_of::<T>() as libc::socklen_t
}

impl SockAddr {
    const EMPTY: SockAddr = SockAddr { bytes: [0; mem::size_of::<libc::sockaddr_in6>()] };

    /// Returns the kernel's form of `peer`, and its length.
    fn new(peer: SocketAddr) -> (SockAddr, libc::socklen_t) {
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

    /// Returns the address, if it is IPv4 or IPv6. Read byte by byte, with the layouts of ip(7) and
    /// ipv6(7).
    pub(crate) fn parse(&self) -> Option<SocketAddr> {
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

    /// Makes the control messages "segment into datagrams of `segment` bytes" and "send from the
    /// address `local`". Returns their length in bytes, too.
    fn for_send(segment: Option<usize>, local: LocalAddress) -> (ControlMessages, usize) {
        let mut control = ControlMessages { bytes: [0; CONTROL_BYTES] };
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

    /// Returns the size of the datagrams that the kernel has joined, if it has, and the address to
    /// which they were sent, if it is reported.
    #[inline(never)] // most messages have none, and the caller's loop has no registers to spare
    fn parse(&self, length: usize) -> (Option<usize>, LocalAddress) {
        let (mut segment, mut local) = (None, LocalAddress::Fixed);
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
                    let size = usize::try_from(int(ControlMessages::HEADER));
                    segment = size.ok().filter(|&segment| segment > 0);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO, &[_, _, _, _, a, b, c, d, e, f, g, h]) => {
                    // ipi_spec_dst, from which a reply leaves, and ipi_addr, the destination. If
                    // they differ, the destination is a multicast or broadcast address (ip(7)).
                    let (spec_dst, destination) = ([a, b, c, d], [e, f, g, h]);
                    local = match spec_dst == destination {
                        true => LocalAddress::V4(spec_dst.into()),
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
