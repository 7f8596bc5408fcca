//! recvmmsg(2) and sendmmsg(2): batches of datagrams in one system call.
//!
//! UDP_GRO is used on receiving and UDP_SEGMENT on sending (udp(7)). Sockets bound to all addresses
//! use IP_PKTINFO both ways (ip(7)), so that a reply leaves from the address to which the request
//! was sent.
//!
//! A sandbox (seccomp(2)) may refuse the two calls, or not know them. Then recvmsg(2) and
//! sendmsg(2) take their place, with one message in each call, and all else is as before.
//!
//! The one module with unsafe code: the calls take arrays of pointers, and no crate known to us
//! offers them for messages that are gathered from several places in memory. The pointers for
//! sending are made within the call that uses them. The pointers for receiving are made once,
//! because making them for each call cost a sixth of the whole. They point into vectors that `Mmsg`
//! owns and never lets grow, and into buffers whose address and length each call compares.

#![allow(unsafe_code)]
// The structures' fields differ in width between C libraries; values are a few thousand at most.
#![allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]

mod layout; // addresses and control messages as bytes
mod options; // socket options that no library has

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr;

use log::warn;

use self::layout::{CONTROL_BYTES, ControlMessages, size_of_as_socklen};
pub(crate) use self::layout::{Control, SockAddr};
pub(crate) use self::options::{bound_unsent, defer_accept, enable_gro, enable_pktinfo};
use super::errno::is_refused_call;
use super::{LocalAddress, UdpSocket};
use crate::limits::DATAGRAM_BATCH;

/// The arrays for both calls, which all sockets of a reactor use in turn.
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
    /// recvmmsg and sendmmsg are refused: each call has one message.
    is_single: bool,
    /// recvmsg is refused, too, and that has been logged.
    recvmsg_refused: bool,
    /// The same for sendmsg.
    sendmsg_refused: bool,
}

const RECVMMSG: &str = "recvmmsg";
const SENDMMSG: &str = "sendmmsg";

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
    pub(crate) control: Control<'m>,
    pub(crate) length: usize,
    pub(crate) is_truncated: bool,
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

/// Returns how many descriptors the process may have: the soft limit of RLIMIT_NOFILE. rustix takes
/// this call for one that cannot fail.
///
/// # Errors
///
/// Only that of a sandbox, which refuses prlimit(2).
pub(crate) fn descriptors_max() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is that of `limit`, which has the call's type and lives through it.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => Ok(limit.rlim_cur as u64),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Mmsg {
    pub(crate) fn new() -> Mmsg {
        Mmsg {
            recv_names: vec![SockAddr::EMPTY; DATAGRAM_BATCH],
            recv_controls: vec![ControlMessages::EMPTY; DATAGRAM_BATCH],
            recv_iovecs: Vec::with_capacity(DATAGRAM_BATCH),
            recv_headers: Vec::with_capacity(DATAGRAM_BATCH),
            received: 0,
            prepared_for: (ptr::null(), 0),
            send_headers: Vec::with_capacity(DATAGRAM_BATCH),
            send_iovecs: Vec::new(),
            send_controls: Vec::with_capacity(DATAGRAM_BATCH),
            send_names: Vec::with_capacity(DATAGRAM_BATCH),
            is_single: false,
            recvmsg_refused: false,
            sendmsg_refused: false,
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

    /// How many messages a receive takes at most. After so many there may be more.
    pub(crate) fn batch_max(&self) -> usize {
        if self.is_single { 1 } else { DATAGRAM_BATCH }
    }

    /// After `call` has failed with `error`: returns whether that was because such calls are
    /// refused, and does without them from now on.
    ///
    /// The error alone does not tell, because a firewall makes a send fail with EPERM, too. So the
    /// call is made once more, with no message: then only a refusal makes it fail.
    #[cold]
    fn falls_back(&mut self, call: &str, error: &io::Error, socket: &UdpSocket) -> bool {
        if !is_refused_call(error) {
            return false;
        }
        if self.is_single {
            if call == RECVMMSG && !mem::replace(&mut self.recvmsg_refused, true) {
                warn!("udp: recvmsg refused ({error}): no datagram is received");
            }
            if call == SENDMMSG && !self.sendmsg_refused && sendmsg_is_refused() {
                self.sendmsg_refused = true;
                warn!("udp: sendmsg refused ({error}): no datagram is sent");
            }
            return false;
        }
        let (descriptor, none) = (socket.as_raw_fd(), ptr::null_mut());
        // SAFETY: with a length of 0, the kernel reads and writes no element of the array.
        let result = unsafe {
            match call {
                RECVMMSG => libc::recvmmsg(descriptor, none, 0, 0 as _, ptr::null_mut()),
                _ => libc::sendmmsg(descriptor, none, 0, 0 as _),
            }
        };
        self.is_single = result < 0 && is_refused_call(&io::Error::last_os_error());
        if self.is_single {
            warn!("udp: {call} refused ({error}): from now on, each call has one datagram");
        }
        self.is_single
    }

    /// Takes the errno from an error that says that recvmsg is refused, too. EACCES would pass for
    /// the error of one datagram, and the call would be repeated at once, without end.
    #[cold]
    fn without_errno(&self, error: io::Error) -> io::Error {
        match self.is_single && is_refused_call(&error) {
            true => io::Error::new(io::ErrorKind::Unsupported, error),
            false => error,
        }
    }

    /// Receives up to `batch_max` messages, each into the next of `buffers`. Returns what the
    /// kernel reports of them.
    pub(crate) fn receive(
        &mut self,
        socket: &UdpSocket,
        mut buffers: RecvBuffers<'_>,
    ) -> io::Result<impl Iterator<Item = RecvMessage<'_>> + Clone> {
        self.prepare_headers(&mut buffers);
        self.received = 0;
        self.received = match self.fill_headers(socket) {
            Err(error) if self.falls_back(RECVMMSG, &error, socket) => self.fill_headers(socket),
            other => other,
        }
        .map_err(|error| self.without_errno(error))?;
        let written = self.recv_headers[..self.received].iter().zip(&self.recv_names);
        Ok(written.zip(&self.recv_controls).map(|((header, name), control)| {
            let control = control.received(header.msg_hdr.msg_controllen as usize);
            let is_truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            RecvMessage { name, control, length: header.msg_len as usize, is_truncated }
        }))
    }

    /// Receives into the buffers for which the headers were prepared. Returns how many messages.
    #[inline(always)]
    fn fill_headers(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        if self.is_single {
            let header = &mut self.recv_headers[0];
            // SAFETY: as below, for the first header.
            let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header.msg_hdr, 0) };
            let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
            header.msg_len = length as libc::c_uint;
            return Ok(1);
        }
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
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
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
                        ptr::from_ref(&self.recv_names[number]).cast_mut().cast();
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
        match self.send_prepared(socket) {
            Err(error) if self.falls_back(SENDMMSG, &error, socket) => {
                let sent = self.send_prepared(socket);
                if let Err(error) = &sent {
                    self.falls_back(SENDMMSG, error, socket); // logs that this is refused, too
                }
                sent
            }
            other => other,
        }
    }

    /// Sends what `send_headers` describe, in one call. Returns how many messages the kernel took.
    /// Only `send` calls it, at its end.
    #[inline(always)]
    fn send_prepared(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        if self.is_single {
            let header = &self.send_headers[0].msg_hdr;
            // SAFETY: as below, for the first header.
            let sent =
                unsafe { libc::sendmsg(socket.as_raw_fd(), header, libc::MSG_NOSIGNAL as _) };
            return if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(1) };
        }
        // SAFETY: each header describes no name, one of `recv_names`, or one of `send_names`; and
        // no control, or one of `send_controls`. `send_names` and `send_controls` were pushed to
        // within their capacity, as there are at most DATAGRAM_BATCH messages, so the pointers
        // taken before are valid. Each header also describes as many of `send_iovecs` as were
        // pushed for its message. Each of these describes a slice that is borrowed for 's, and so
        // alive until `send` has returned. The kernel only reads them. The count is that of
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

/// Returns whether each sendmsg(2) is refused. If the kernel saw the call, it would say that -1 is
/// no descriptor (EBADF).
#[cold]
fn sendmsg_is_refused() -> bool {
    let header = empty_header();
    // SAFETY: the header describes no name, no control and no bytes, and lives through the call.
    let result = unsafe { libc::sendmsg(-1, &raw const header.msg_hdr, 0) };
    result < 0 && is_refused_call(&io::Error::last_os_error())
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: an `mmsghdr` has integers and pointers. Zero is valid for each, and means "none".
    unsafe { mem::zeroed() }
}
