//! UDP sockets: simulated ones, or the system's where no simulated kernel is installed.

use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::{AsRawFd, RawFd};

use super::kernel::Kernel;
use super::{OwnedDescriptor, Source, installed};
use crate::datagram::options::DatagramOptions;
use crate::sys::mio as system;

/// A simulated socket, or one of the system's where no kernel is installed.
pub(crate) enum UdpSocket {
    Simulated(SimulatedUdpSocket),
    System(system::UdpSocket),
}

pub(crate) struct SimulatedUdpSocket(OwnedDescriptor);

pub(crate) fn bind_datagram(
    address: SocketAddr,
    options: &DatagramOptions,
    buffer_bytes: usize,
) -> io::Result<UdpSocket> {
    match installed() {
        Some(_) => {
            let descriptor = OwnedDescriptor::open(|kernel| kernel.bind_datagram(address))?;
            Ok(UdpSocket::Simulated(SimulatedUdpSocket(descriptor)))
        }
        None => system::bind_datagram(address, options, buffer_bytes).map(UdpSocket::System),
    }
}

pub(crate) fn connect_datagram(peer: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    match installed() {
        Some(_) => {
            let descriptor = OwnedDescriptor::open(|kernel| kernel.connect_datagram(peer))?;
            Ok(UdpSocket::Simulated(SimulatedUdpSocket(descriptor)))
        }
        None => system::connect_datagram(peer, buffer_bytes).map(UdpSocket::System),
    }
}

pub(crate) fn adopt_datagram(
    _socket: std::net::UdpSocket,
    _options: &DatagramOptions,
) -> io::Result<UdpSocket> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The simulated machine has one address.
pub(crate) fn is_own_address(peer: SocketAddr) -> io::Result<bool> {
    match installed() {
        Some(_) => Ok(peer.ip().is_loopback()),
        None => system::is_own_address(peer),
    }
}

/// The simulated kernel can do it or not, by its faults.
pub(crate) fn stop_receiving(socket: &UdpSocket) -> io::Result<()> {
    match socket {
        UdpSocket::Simulated(socket) => {
            socket.0.kernel.borrow_mut().stop_receiving(socket.0.number)
        }
        UdpSocket::System(socket) => system::stop_receiving(socket),
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
                Ok(socket.0.kernel.borrow_mut().peer_of_datagram_socket(socket.0.number))
            }
            UdpSocket::System(socket) => socket.peer_addr(),
        }
    }

    pub(crate) fn recv_from(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self {
            UdpSocket::Simulated(socket) => {
                let (payload, peer) = socket.0.call(Kernel::receive_datagram)?;
                into[..payload.len()].copy_from_slice(&payload);
                Ok((payload.len(), peer))
            }
            UdpSocket::System(socket) => socket.recv_from(into),
        }
    }

    pub(crate) fn send(&self, payload: &[u8]) -> io::Result<usize> {
        match self {
            UdpSocket::Simulated(socket) => {
                let peer = socket.0.kernel.borrow_mut().peer_of_datagram_socket(socket.0.number);
                socket.send_one(payload, peer)
            }
            UdpSocket::System(socket) => socket.send(payload),
        }
    }

    pub(crate) fn send_to(&self, payload: &[u8], peer: SocketAddr) -> io::Result<usize> {
        match self {
            UdpSocket::Simulated(socket) => socket.send_one(payload, peer),
            UdpSocket::System(socket) => socket.send_to(payload, peer),
        }
    }
}

impl SimulatedUdpSocket {
    pub(crate) fn receive_batch(&self, count_max: usize) -> io::Result<Vec<(Vec<u8>, SocketAddr)>> {
        self.0.kernel.borrow_mut().receive_datagrams(self.0.number, count_max)
    }

    pub(crate) fn send_segments(&self, datagrams: &[&[u8]], peer: SocketAddr) -> io::Result<()> {
        self.0.kernel.borrow_mut().send_segments(self.0.number, datagrams, peer)
    }

    fn send_one(&self, payload: &[u8], peer: SocketAddr) -> io::Result<usize> {
        self.0.call(|kernel, number| kernel.send_segments(number, &[payload], peer))?;
        Ok(payload.len())
    }

    /// Draws whether this socket sends and receives in batches: about every other one does.
    pub(crate) fn draw_batching(&self) -> bool {
        self.0.kernel.borrow_mut().rng.bool()
    }
}

impl Source for UdpSocket {
    fn number(&self) -> usize {
        match self {
            UdpSocket::Simulated(socket) => socket.0.number,
            UdpSocket::System(_) => {
                panic!("a system socket cannot be registered with a simulated poll")
            }
        }
    }
}

#[cfg(unix)]
impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            UdpSocket::Simulated(_) => panic!("a simulated socket has no system descriptor"),
            UdpSocket::System(socket) => socket.as_raw_fd(),
        }
    }
}
