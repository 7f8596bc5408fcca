//! Datagrams in the simulated kernel: what arrives waits, and what is sent goes to its peer's mailbox or is refused.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::faults::OF_A_DATAGRAM;
use super::{Due, File, Kernel};
use crate::testing::simulated::errno;
use crate::testing::simulated::stream::{ERROR, IN};

/// A UDP socket.
pub(super) struct Datagrams {
    pub(super) address: SocketAddr,
    /// Nobody else is heard.
    pub(super) connected: Option<SocketAddr>,
    pub(super) descriptor: Option<usize>,
    pub(super) arrived: VecDeque<Arrived>,
    pub(super) error: Option<i32>,
    /// Bytes that have not left the machine yet.
    pub(super) leaving: usize,
    pub(super) unread_since: Option<u64>,
}

pub(super) struct Arrived {
    payload: Vec<u8>,
    peer: SocketAddr,
    has_bad_checksum: bool,
}

/// What a datagram takes beside its payload, in the kernel's memory.
const DATAGRAM_OVERHEAD: usize = 256;
/// What arrives beyond it is dropped.
const DATAGRAMS_WAITING_MAX: usize = 4096;

impl Kernel {
    pub(crate) fn bind_datagram(&mut self, address: SocketAddr) -> io::Result<usize> {
        self.open_datagrams(address, None)
    }

    /// Ports that the system chooses begin at 50,000.
    pub(crate) fn connect_datagram(&mut self, peer: SocketAddr) -> io::Result<usize> {
        let port = 50_000 + u16::try_from(self.datagrams.len()).expect("there are few");
        self.open_datagrams(SocketAddr::from(([127, 0, 0, 1], port)), Some(peer))
    }

    pub(crate) fn peer_of_datagrams(&mut self, number: usize) -> SocketAddr {
        let socket = self.datagrams_of(number);
        self.datagrams[socket].connected.expect("who sends without an address is connected")
    }

    fn open_datagrams(
        &mut self,
        address: SocketAddr,
        connected: Option<SocketAddr>,
    ) -> io::Result<usize> {
        let descriptor = self.open(File::Datagrams(self.datagrams.len()))?;
        self.datagrams.push(Datagrams {
            address,
            connected,
            descriptor: Some(descriptor),
            arrived: VecDeque::new(),
            error: None,
            leaving: 0,
            unread_since: None,
        });
        Ok(descriptor)
    }

    /// One datagram for `recv_from`.
    pub(crate) fn receive_datagram(&mut self, number: usize) -> io::Result<(Vec<u8>, SocketAddr)> {
        self.call("recv_from");
        self.take_datagram(number)
    }

    /// A batch for `recvmmsg`: an error behind a first datagram is left for the next call.
    pub(crate) fn receive_datagrams(
        &mut self,
        number: usize,
        count_max: usize,
    ) -> io::Result<Vec<(Vec<u8>, SocketAddr)>> {
        self.call("recvmmsg");
        let mut received = vec![self.take_datagram(number)?];
        while received.len() < count_max {
            match self.take_datagram(number) {
                Ok(datagram) => received.push(datagram),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    let socket = self.datagrams_of(number);
                    self.datagrams[socket].error = error.raw_os_error();
                    break;
                }
            }
        }
        Ok(received)
    }

    fn take_datagram(&mut self, number: usize) -> io::Result<(Vec<u8>, SocketAddr)> {
        let socket = self.datagrams_of(number);
        let polls = self.polls;
        let socket = &mut self.datagrams[socket];
        if let Some(error) = socket.error.take() {
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
        self.tell(|| {
            format!(
                "recv {number} -> datagram of {} from {}",
                datagram.payload.len(),
                datagram.peer
            )
        });
        Ok((datagram.payload, datagram.peer))
    }

    /// Sends `datagrams` to `peer` in one piece: several of them are a train.
    pub(crate) fn send_train(
        &mut self,
        number: usize,
        datagrams: &[&[u8]],
        peer: SocketAddr,
    ) -> io::Result<()> {
        self.call("send_to");
        let socket = self.datagrams_of(number);
        if self.datagrams[socket].unread_since.is_some() {
            self.datagrams[socket].unread_since = Some(self.polls);
        }
        let fails = |error| Err(io::Error::from_raw_os_error(error));
        if let Some(error) = self.datagrams[socket].error.take() {
            self.something_happened = true;
            return fails(error);
        }
        if datagrams.len() > 1 && self.faults.refuses_trains {
            self.something_happened = true;
            let error =
                self.one_of(&[errno::EIO, errno::EINVAL, errno::EMSGSIZE, errno::EOPNOTSUPP]);
            self.tell(|| format!("send {number} a train of {} -> errno {error}", datagrams.len()));
            return fails(error);
        }
        let has_bad_luck = self.chance(self.faults.failed_datagrams);
        let error = if has_bad_luck { Some(self.one_of(&OF_A_DATAGRAM)) } else { None };
        let of_peer = self
            .faults
            .unreachable
            .and_then(|(unreachable, error)| (unreachable == peer).then_some(error));
        if let Some(error) = of_peer.or(error) {
            self.something_happened = true;
            self.tell(|| format!("send {number} {} datagrams -> errno {error}", datagrams.len()));
            return fails(error);
        }
        if self.datagrams[socket].leaving >= self.faults.datagram_room {
            return fails(errno::EAGAIN);
        }
        self.something_happened = true;
        let bytes: usize =
            datagrams.iter().map(|datagram| datagram.len() + DATAGRAM_OVERHEAD).sum();
        self.datagrams[socket].leaving += bytes;
        let delay_us = if self.faults.call_us_max == 0 { 0 } else { self.rng.u64(..2_000) };
        self.plan(delay_us, Due::Left(socket, bytes));
        let lengths = || datagrams.iter().map(|datagram| datagram.len()).collect::<Vec<_>>();
        self.tell(|| format!("send {number} datagrams of {:?} to {peer} -> taken", lengths()));
        let from = self.datagrams[socket].address;
        for datagram in datagrams {
            if let Some(mailbox) = self.mailboxes.get_mut(&peer) {
                mailbox.push_back((datagram.to_vec(), from));
            }
        }
        Ok(())
    }

    /// Gives `peer` a mailbox.
    pub(crate) fn open_mailbox(&mut self, peer: SocketAddr) {
        self.mailboxes.insert(peer, VecDeque::new());
    }

    pub(crate) fn take_mail(&mut self, peer: SocketAddr) -> Option<Vec<u8>> {
        self.take_mail_and_sender(peer).map(|(mail, _)| mail)
    }

    pub(crate) fn take_mail_and_sender(
        &mut self,
        peer: SocketAddr,
    ) -> Option<(Vec<u8>, SocketAddr)> {
        self.mailboxes.get_mut(&peer)?.pop_front()
    }

    /// `peer` sends a datagram to `address`. Says whether it gets there whole.
    pub(crate) fn peer_sends_datagram(
        &mut self,
        peer: SocketAddr,
        address: SocketAddr,
        payload: Vec<u8>,
    ) -> bool {
        let has_bad_checksum = self.chance(self.faults.bad_checksums);
        let has_error = self.chance(self.faults.icmp_errors);
        let polls = self.polls;
        let to = |socket: &&mut Datagrams| socket.address == address && socket.descriptor.is_some();
        let Some(socket) = self.datagrams.iter_mut().find(to) else { return false };
        if socket.connected.is_some_and(|connected| connected != peer) {
            return false;
        }
        if socket.arrived.len() >= DATAGRAMS_WAITING_MAX {
            return false;
        }
        if has_error {
            socket.error = Some(errno::ECONNREFUSED);
        }
        socket.arrived.push_back(Arrived { payload, peer, has_bad_checksum });
        socket.unread_since.get_or_insert(polls);
        let descriptor = socket.descriptor;
        self.list(descriptor, IN);
        !has_bad_checksum
    }

    /// An ICMP message tells of a datagram that did not reach its peer.
    pub(crate) fn report_to_datagrams(&mut self, address: SocketAddr, error: i32) {
        let socket = self
            .datagrams
            .iter_mut()
            .find(|socket| socket.address == address)
            .expect("somebody is bound there");
        socket.error = Some(error);
        let descriptor = socket.descriptor;
        self.list(descriptor, ERROR);
    }
}
