//! UDP sockets: simulated, or the system's where no kernel is installed.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use super::{Descriptor, Source, installed};
use crate::sys::mio as system;

/// A simulated socket, or one of the system's where no kernel is installed.
pub(crate) enum UdpSocket {
    Simulated(DatagramSocket),
    System(system::UdpSocket),
}

pub(crate) struct DatagramSocket(Descriptor);

pub(crate) fn bind_datagram(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    match installed() {
        Some(_) => {
            let descriptor = Descriptor::open(|kernel| kernel.bind_datagram(address))?;
            Ok(UdpSocket::Simulated(DatagramSocket(descriptor)))
        }
        None => system::bind_datagram(address, buffer_bytes).map(UdpSocket::System),
    }
}

pub(crate) fn connect_datagram(peer: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    match installed() {
        Some(_) => {
            let descriptor = Descriptor::open(|kernel| kernel.connect_datagram(peer))?;
            Ok(UdpSocket::Simulated(DatagramSocket(descriptor)))
        }
        None => system::connect_datagram(peer, buffer_bytes).map(UdpSocket::System),
    }
}

/// The simulated machine has one address.
pub(crate) fn is_own_address(peer: SocketAddr) -> io::Result<bool> {
    match installed() {
        Some(_) => Ok(peer.ip().is_loopback()),
        None => system::is_own_address(peer),
    }
}

impl UdpSocket {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            UdpSocket::Simulated(socket) => {
                Ok(socket.0.kernel.borrow().address_of(socket.0.number))
            }
            UdpSocket::System(socket) => socket.local_addr(),
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            UdpSocket::Simulated(socket) => {
                Ok(socket.0.kernel.borrow_mut().peer_of_datagrams(socket.0.number))
            }
            UdpSocket::System(socket) => socket.peer_addr(),
        }
    }

    pub(crate) fn recv_from(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self {
            UdpSocket::Simulated(socket) => {
                let (payload, peer) =
                    socket.0.kernel.borrow_mut().receive_datagram(socket.0.number)?;
                into[..payload.len()].copy_from_slice(&payload);
                Ok((payload.len(), peer))
            }
            UdpSocket::System(socket) => socket.recv_from(into),
        }
    }

    pub(crate) fn send(&self, payload: &[u8]) -> io::Result<usize> {
        match self {
            UdpSocket::Simulated(socket) => {
                let peer = socket.0.kernel.borrow_mut().peer_of_datagrams(socket.0.number);
                socket.send_train(&[payload], peer).map(|()| payload.len())
            }
            UdpSocket::System(socket) => socket.send(payload),
        }
    }

    pub(crate) fn send_to(&self, payload: &[u8], peer: SocketAddr) -> io::Result<usize> {
        match self {
            UdpSocket::Simulated(socket) => {
                socket.send_train(&[payload], peer).map(|()| payload.len())
            }
            UdpSocket::System(socket) => socket.send_to(payload, peer),
        }
    }
}

impl DatagramSocket {
    pub(crate) fn receive_many(&self, count_max: usize) -> io::Result<Vec<(Vec<u8>, SocketAddr)>> {
        self.0.kernel.borrow_mut().receive_datagrams(self.0.number, count_max)
    }

    pub(crate) fn send_train(&self, datagrams: &[&[u8]], peer: SocketAddr) -> io::Result<()> {
        self.0.kernel.borrow_mut().send_train(self.0.number, datagrams, peer)
    }

    /// Every other socket batches.
    pub(crate) fn batches(&self) -> bool {
        self.0.kernel.borrow_mut().rng.bool()
    }
}

impl Source for UdpSocket {
    fn number(&self) -> usize {
        match self {
            UdpSocket::Simulated(socket) => socket.0.number,
            UdpSocket::System(_) => panic!("a socket of the system's is on no simulated poll"),
        }
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            UdpSocket::Simulated(_) => panic!("the system knows nothing of a simulated socket"),
            UdpSocket::System(socket) => socket.as_raw_fd(),
        }
    }
}
