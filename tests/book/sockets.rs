//! Sockets of the tests themselves: one that holds a port, and those that send datagrams.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Socket, Type};

use super::programs::TIMEOUT;

/// Returns a socket that holds a free port. Bound but not listening, it keeps the port free for the
/// program alone, which may serve datagrams there, too.
pub(super) fn hold_port() -> (Socket, SocketAddr) {
    loop {
        let holder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        holder.set_reuse_address(true).unwrap();
        holder.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = holder.local_addr().unwrap().as_socket().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return (holder, address);
        }
    }
}

/// A client that sends datagrams. Each wait fails after the timeout.
pub(super) struct DatagramClient {
    socket: UdpSocket,
    server: SocketAddr,
}

impl DatagramClient {
    /// Binds a socket at 127.0.0.`host`. All of 127.0.0.0/8 is this computer, and programs are at
    /// 127.0.0.1. So no port of theirs is taken.
    pub(super) fn bind(host: u8, port: u16, server: SocketAddr) -> DatagramClient {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), port)).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        socket.set_write_timeout(Some(TIMEOUT)).unwrap();
        DatagramClient { socket, server }
    }

    pub(super) fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.server).unwrap();
    }

    /// Sends a datagram, unless it is longer than one can be.
    pub(super) fn can_send(&self, datagram: &[u8]) -> bool {
        match self.socket.send_to(datagram, self.server) {
            Ok(_) => true,
            Err(error) => {
                assert!(datagram.len() > 65_507, "{error}");
                false
            }
        }
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let count = self.socket.recv(&mut buffer)?;
        buffer.truncate(count);
        Ok(buffer)
    }

    /// Returns a datagram that has arrived already.
    pub(super) fn received_already(&self) -> Option<Vec<u8>> {
        self.socket.set_nonblocking(true).unwrap();
        let received = self.receive();
        self.socket.set_nonblocking(false).unwrap();
        received.ok()
    }

    /// Sends a datagram, and waits for its reply.
    #[track_caller]
    pub(super) fn echo(&self, datagram: &[u8]) {
        self.send(datagram);
        self.expect(datagram);
    }

    /// Waits for the reply to a datagram.
    #[track_caller]
    pub(super) fn expect(&self, datagram: &[u8]) {
        assert_eq!(self.receive().unwrap(), [b"echo -> ", datagram].concat());
    }
}
