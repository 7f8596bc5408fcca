//! UDP sockets in the simulated kernel: receive queue, send queue, GSO, ICMP errors.
//!
//! What is sent to a peer that is bound arrives at once and in order; what is sent elsewhere is
//! lost. It stays in the socket's send queue for a moment all the same, so that the queue can be
//! full (EAGAIN).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::faults::SEND_DATAGRAM_ERRORS;
use super::{File, Kernel, Scheduled};
use crate::testing::simulated::errno;
use crate::testing::simulated::stream::{ERROR, IN};

/// A UDP socket of the reactor.
pub(super) struct UdpEndpoint {
    pub(super) address: SocketAddr,
    /// The only peer from which it receives, if it is connected.
    pub(super) connected: Option<SocketAddr>,
    pub(super) descriptor: Option<usize>,
    pub(super) arrived: VecDeque<Arrived>,
    /// The errors that the next calls return, one each. Linux keeps one of them (SO_ERROR), Windows
    /// all.
    pub(super) errors: VecDeque<i32>,
    /// What has not left the machine yet, in bytes, with the overhead of each datagram.
    pub(super) send_queue_bytes: usize,
    /// The number of the poll since which there has been something to read.
    pub(super) unread_since: Option<u64>,
    /// What arrives is dropped (SO_ATTACH_FILTER).
    pub(super) takes_no_more: bool,
}

/// A datagram in the receive queue.
pub(super) struct Arrived {
    payload: Vec<u8>,
    peer: SocketAddr,
    has_bad_checksum: bool,
}

/// What a datagram takes in the send queue beside its payload, in bytes.
const DATAGRAM_OVERHEAD_BYTES: usize = 256;
/// The capacity of a receive queue, in datagrams. What arrives beyond it is dropped.
const RECEIVE_QUEUE_MAX: usize = 4096;

impl Kernel {
    pub(crate) fn bind_datagram(&mut self, address: SocketAddr) -> io::Result<usize> {
        self.open_udp(address, None)
    }

    /// Opens a socket that is connected to `peer`. Ephemeral ports begin at 50,000.
    pub(crate) fn connect_datagram(&mut self, peer: SocketAddr) -> io::Result<usize> {
        let port = 50_000 + u16::try_from(self.udp_sockets.len()).expect("a test has few sockets");
        self.open_udp(SocketAddr::from(([127, 0, 0, 1], port)), Some(peer))
    }

    /// Drops what arrives at the socket from now on.
    pub(crate) fn stop_receiving(&mut self, number: usize) -> io::Result<()> {
        if self.faults.refuses_socket_filters {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let socket = self.udp_socket_of(number);
        self.udp_sockets[socket].takes_no_more = true;
        Ok(())
    }

    pub(crate) fn peer_of_datagram_socket(&mut self, number: usize) -> SocketAddr {
        let socket = self.udp_socket_of(number);
        self.udp_sockets[socket]
            .connected
            .expect("a socket that sends without an address is connected")
    }

    fn open_udp(
        &mut self,
        address: SocketAddr,
        connected: Option<SocketAddr>,
    ) -> io::Result<usize> {
        let descriptor = self.open(File::Udp(self.udp_sockets.len()))?;
        self.udp_sockets.push(UdpEndpoint {
            address,
            connected,
            descriptor: Some(descriptor),
            arrived: VecDeque::new(),
            errors: VecDeque::new(),
            send_queue_bytes: 0,
            unread_since: None,
            takes_no_more: false,
        });
        Ok(descriptor)
    }

    /// recvfrom(2): one datagram.
    pub(crate) fn receive_datagram(&mut self, number: usize) -> io::Result<(Vec<u8>, SocketAddr)> {
        self.begin_call("recv_from");
        self.take_datagram(number)
    }

    /// recvmmsg(2): a batch. An error after the first datagram is left for the next call.
    pub(crate) fn receive_datagrams(
        &mut self,
        number: usize,
        count_max: usize,
    ) -> io::Result<Vec<(Vec<u8>, SocketAddr)>> {
        self.begin_call("recvmmsg");
        let mut received = vec![self.take_datagram(number)?];
        while received.len() < count_max {
            match self.take_datagram(number) {
                Ok(datagram) => received.push(datagram),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    let socket = self.udp_socket_of(number);
                    self.udp_sockets[socket].errors.extend(error.raw_os_error());
                    break;
                }
            }
        }
        Ok(received)
    }

    fn take_datagram(&mut self, number: usize) -> io::Result<(Vec<u8>, SocketAddr)> {
        let socket = self.udp_socket_of(number);
        let polls = self.polls;
        let socket = &mut self.udp_sockets[socket];
        if let Some(error) = socket.errors.pop_front().or(self.faults.receive_error) {
            if socket.unread_since.is_some() {
                socket.unread_since = Some(polls); // errors go first; input may wait meanwhile
            }
            self.something_happened = true;
            return Err(io::Error::from_raw_os_error(error));
        }
        let mut taken = socket.arrived.pop_front();
        while taken.as_ref().is_some_and(|datagram| datagram.has_bad_checksum) {
            taken = socket.arrived.pop_front();
        }
        socket.unread_since = (!socket.arrived.is_empty()).then_some(polls);
        let datagram = taken.ok_or(io::ErrorKind::WouldBlock)?;
        self.something_happened = true;
        self.trace(|| {
            format!(
                "recv {number} -> datagram of {} from {}",
                datagram.payload.len(),
                datagram.peer
            )
        });
        Ok((datagram.payload, datagram.peer))
    }

    /// Sends `datagrams` to `peer` with one call. Several of them are a GSO batch (UDP_SEGMENT,
    /// udp(7)).
    pub(crate) fn send_segments(
        &mut self,
        number: usize,
        datagrams: &[&[u8]],
        peer: SocketAddr,
    ) -> io::Result<()> {
        self.begin_call("send_to");
        let socket = self.udp_socket_of(number);
        if self.udp_sockets[socket].unread_since.is_some() {
            self.udp_sockets[socket].unread_since = Some(self.polls);
        }
        let fails = |error| Err(io::Error::from_raw_os_error(error));
        if let Some(error) = self.udp_sockets[socket].errors.pop_front() {
            self.something_happened = true;
            return fails(error);
        }
        if datagrams.len() > 1 && self.faults.refuses_gso {
            self.something_happened = true;
            let error =
                self.pick_error(&[errno::EIO, errno::EINVAL, errno::EMSGSIZE, errno::EOPNOTSUPP]);
            self.trace(|| {
                format!("send {number} GSO batch of {} -> errno {error}", datagrams.len())
            });
            return fails(error);
        }
        let is_injected = self.chance(self.faults.failed_datagrams);
        let error = if is_injected { Some(self.pick_error(&SEND_DATAGRAM_ERRORS)) } else { None };
        let of_peer = self
            .faults
            .unreachable
            .and_then(|(unreachable, error)| (unreachable == peer).then_some(error));
        if let Some(error) = of_peer.or(error) {
            self.something_happened = true;
            self.trace(|| format!("send {number} {} datagrams -> errno {error}", datagrams.len()));
            return fails(error);
        }
        if self.udp_sockets[socket].send_queue_bytes >= self.faults.send_queue_bytes_max {
            return fails(errno::EAGAIN);
        }
        self.something_happened = true;
        let bytes: usize =
            datagrams.iter().map(|datagram| datagram.len() + DATAGRAM_OVERHEAD_BYTES).sum();
        self.udp_sockets[socket].send_queue_bytes += bytes;
        let delay_us = if self.faults.call_us_max == 0 { 0 } else { self.rng.u64(..2_000) };
        self.schedule(delay_us, Scheduled::DatagramsLeft(socket, bytes));
        let lengths = || datagrams.iter().map(|datagram| datagram.len()).collect::<Vec<_>>();
        self.trace(|| format!("send {number} datagrams of {:?} to {peer} -> taken", lengths()));
        let from = self.udp_sockets[socket].address;
        for datagram in datagrams {
            if let Some(received) = self.peer_datagrams.get_mut(&peer) {
                received.push_back((datagram.to_vec(), from));
            }
        }
        Ok(())
    }

    /// Binds a socket for `peer`, which receives from now on.
    pub(crate) fn bind_peer(&mut self, peer: SocketAddr) {
        self.peer_datagrams.insert(peer, VecDeque::new());
    }

    pub(crate) fn peer_receives_datagram(&mut self, peer: SocketAddr) -> Option<Vec<u8>> {
        self.peer_receives_datagram_from(peer).map(|(payload, _)| payload)
    }

    /// The next datagram that `peer` has received, and its sender.
    pub(crate) fn peer_receives_datagram_from(
        &mut self,
        peer: SocketAddr,
    ) -> Option<(Vec<u8>, SocketAddr)> {
        self.peer_datagrams.get_mut(&peer)?.pop_front()
    }

    /// Sends a datagram from `peer` to `address`. Returns whether it arrives with a good checksum.
    pub(crate) fn peer_sends_datagram(
        &mut self,
        peer: SocketAddr,
        address: SocketAddr,
        payload: Vec<u8>,
    ) -> bool {
        let has_bad_checksum = self.chance(self.faults.bad_checksums);
        let has_error = self.chance(self.faults.icmp_errors);
        let polls = self.polls;
        let to =
            |socket: &&mut UdpEndpoint| socket.address == address && socket.descriptor.is_some();
        let Some(socket) = self.udp_sockets.iter_mut().find(to) else { return false };
        if socket.connected.is_some_and(|connected| connected != peer) {
            return false;
        }
        if socket.arrived.len() >= RECEIVE_QUEUE_MAX || socket.takes_no_more {
            return false;
        }
        if has_error {
            socket.errors.push_back(errno::ECONNREFUSED);
        }
        socket.arrived.push_back(Arrived { payload, peer, has_bad_checksum });
        socket.unread_since.get_or_insert(polls);
        let descriptor = socket.descriptor;
        self.add_to_ready_list(descriptor, IN);
        !has_bad_checksum
    }

    /// An ICMP message reports that an earlier datagram from `address` did not reach its peer.
    pub(crate) fn report_icmp_error(&mut self, address: SocketAddr, error: i32) {
        let socket = self
            .udp_sockets
            .iter_mut()
            .find(|socket| socket.address == address)
            .expect("a socket is bound to the address");
        socket.errors.push_back(error);
        let descriptor = socket.descriptor;
        self.add_to_ready_list(descriptor, ERROR);
    }
}
