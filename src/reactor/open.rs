//! Opening a reactor's sources: listeners, datagram sockets, the stop signal and the task queue.
//!
//! Sources can be opened before the reactor runs and while it runs. Each is registered with the
//! poller under the number of the next vacant slot, and then put into that slot.

use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::Path;

use super::Reactor;
use super::slots::enqueue;
use super::sources::Source;
use crate::datagram::socket::DatagramSocket;
use crate::protocol::datagram::DatagramProtocol;
use crate::protocol::ident::Peer;
use crate::protocol::protocol::Protocol;
use crate::reactor::tasks::{Handle, TaskQueue};
use crate::stream::listener::{Listener, MakeProtocol, Socket};
use crate::stream::readiness::Registered;
use crate::sys::{self, Interest, Token, UdpSocket};

impl Reactor {
    /// Serves TCP connections on `address`, and returns the bound address, with the real port in
    /// place of port 0.
    ///
    /// `make` is called for each accepted connection, with its peer's address, and makes its
    /// protocol.
    ///
    /// # Errors
    ///
    /// The kernel's error if the address is in use, is not one of this machine's, or is not
    /// permitted (bind(2)).
    pub fn listen<P: Protocol + 'static>(
        &mut self,
        address: SocketAddr,
        mut make: impl FnMut(SocketAddr) -> P + 'static,
    ) -> io::Result<SocketAddr> {
        let socket = sys::listen(address)?;
        let address = socket.local_addr()?;
        let make = move |peer: Peer| -> Box<dyn Protocol> {
            Box::new(make(peer.address().expect("a TCP socket accepts from addresses only")))
        };
        self.listen_on(Socket::Tcp(socket), address.to_string(), Box::new(make))?;
        Ok(address)
    }

    /// Serves connections on a Unix stream socket at `path`, as [`listen`](Reactor::listen) does
    /// over TCP.
    ///
    /// `make` is called for each accepted connection and makes its protocol, which need not know
    /// the difference.
    ///
    /// The file at `path` belongs to the socket. It is removed when the reactor stops or is
    /// dropped, unless another file has replaced it. A client that finds the file can connect: the
    /// socket is bound and listens under a temporary name first, `PATH.0` or similar, which is also
    /// the name that tools such as ss(8) show. A process that is killed leaves a stale file, behind
    /// which no process listens. Such a file is removed here, and `path` is taken over. (If two
    /// processes take over the same stale file at the same moment, one of them may get a socket
    /// that no client can reach: probing the file and removing it are two steps.)
    ///
    /// Write permission for the file allows a user to connect. With the usual umask of 022, that is
    /// only the user who runs this process. To permit others, set the umask before, or the file's
    /// mode afterwards. To exclude others reliably, put the file into a directory that only
    /// permitted users can enter.
    ///
    /// A Unix socket has no reset. Where a TCP peer would get one
    /// ([`Next::Abort`](crate::Next::Abort)), a Unix peer gets an end of file.
    ///
    /// # Errors
    ///
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if a process listens at `path`, or if something
    /// other than a socket is there; it is left as it is.
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if `path` is empty, too long (on Linux, over
    /// 107 bytes) or contains a zero byte. Otherwise the kernel's error, if the directory does not
    /// exist or is not writable.
    #[cfg(unix)]
    pub fn listen_unix<P: Protocol + 'static>(
        &mut self,
        path: impl AsRef<Path>,
        mut make: impl FnMut() -> P + 'static,
    ) -> io::Result<()> {
        let path = path.as_ref();
        let socket = sys::UnixListener::bind(path)?;
        let make = move |_: Peer| -> Box<dyn Protocol> { Box::new(make()) };
        self.listen_on(Socket::Unix(socket), format!("unix:{}", path.display()), Box::new(make))
    }

    fn listen_on(
        &mut self,
        mut socket: Socket,
        address: String,
        make: MakeProtocol,
    ) -> io::Result<()> {
        self.poll.registry().register(
            socket.source(),
            Token(self.slots.vacant_key()),
            Interest::READABLE,
        )?;
        let listener = Box::new(Listener::new(socket, address, make));
        let token = self.insert(Source::Listener(listener), Registered::Reading);
        self.listeners.push(token);
        Ok(())
    }

    /// Serves datagrams on `address` with `protocol`. Returns the bound address.
    ///
    /// # Errors
    ///
    /// As for [`listen`](Reactor::listen).
    pub fn bind_datagram(
        &mut self,
        address: SocketAddr,
        protocol: impl DatagramProtocol + 'static,
    ) -> io::Result<SocketAddr> {
        let mut socket = sys::bind_datagram(address, self.state.limits.udp_buffer_bytes)?;
        self.poll.registry().register(
            &mut socket,
            Token(self.slots.vacant_key()),
            Interest::READABLE,
        )?;
        let address = socket.local_addr()?;
        self.add_datagram(DatagramSocket::new(
            socket,
            address,
            None,
            Box::new(protocol),
            &self.state,
        ));
        self.state.datagram_addresses.push(address);
        Ok(address)
    }

    /// Opens a datagram socket on an ephemeral port, connects it to `peer`, and returns its own
    /// address.
    ///
    /// `protocol` sends only to this peer and receives only from it. The peer may have any port,
    /// also one of [`Limits::unanswered_ports`](crate::Limits::unanswered_ports).
    /// [`DatagramProtocol::error_received`] is called when the peer's machine reports that its port
    /// is closed. Its first call is [`DatagramProtocol::opened`], in the next turn. The socket is
    /// closed when the protocol calls [`Replies::close`](crate::Replies::close), or with the
    /// reactor.
    ///
    /// # Errors
    ///
    /// The kernel's error if there is no route to `peer`, or no descriptor or port left
    /// (connect(2)). A peer that does not answer is no error here.
    pub fn connect_datagram(
        &mut self,
        peer: SocketAddr,
        protocol: impl DatagramProtocol + 'static,
    ) -> io::Result<SocketAddr> {
        let (socket, address, peer) = self.open_datagram_client(peer)?;
        self.add_datagram(DatagramSocket::new(
            socket,
            address,
            Some(peer),
            Box::new(protocol),
            &self.state,
        ));
        Ok(address)
    }

    /// Opens a socket that is connected to `peer`, and registers it for the next slot. Returns it
    /// with its address and its peer's. The latter differs from `peer` where the system takes that
    /// for "this machine" (`0.0.0.0`).
    pub(super) fn open_datagram_client(
        &mut self,
        peer: SocketAddr,
    ) -> io::Result<(UdpSocket, SocketAddr, SocketAddr)> {
        let mut socket = sys::connect_datagram(peer, self.state.limits.udp_buffer_bytes)?;
        self.poll.registry().register(
            &mut socket,
            Token(self.slots.vacant_key()),
            Interest::READABLE,
        )?;
        let (address, peer) = (socket.local_addr()?, socket.peer_addr()?);
        Ok((socket, address, peer))
    }

    pub(super) fn add_datagram(&mut self, source: DatagramSocket) {
        self.datagram_clients += usize::from(source.peer().is_some());
        let token = self.insert(Source::Datagram(Box::new(source)), Registered::Reading);
        let slot = &mut self.slots[token];
        slot.ready.writable = true; // until a send would block
        enqueue(&mut self.run_queue, token, slot); // its protocol may send first
    }

    /// Stops the reactor, as [`stop`](Reactor::stop) does, once `signal` is readable. It may be the
    /// read end of a pipe or socket pair to which a signal handler writes (the self-pipe trick).
    ///
    /// # Errors
    ///
    /// The kernel's error if `signal` cannot be registered with the poller (epoll_ctl(2)).
    pub fn stop_on(&mut self, mut signal: impl sys::Source + 'static) -> io::Result<()> {
        self.poll.registry().register(
            &mut signal,
            Token(self.slots.vacant_key()),
            Interest::READABLE,
        )?;
        self.insert(Source::StopSignal(Box::new(signal)), Registered::Reading);
        Ok(())
    }

    /// Returns a handle, with which other threads can submit tasks to this reactor or stop it. The
    /// first call takes a descriptor and some 25 KiB.
    ///
    /// # Errors
    ///
    /// The kernel's error if it has no descriptor or no memory for a waker (on Linux, eventfd(2)).
    pub fn handle(&mut self) -> io::Result<Handle> {
        if let Some(handle) = &self.handle {
            return Ok(handle.clone());
        }
        let queue = TaskQueue::open(self.poll.registry(), Token(self.slots.vacant_key()))?;
        let handle = queue.handle();
        self.insert(Source::Tasks(Box::new(queue)), Registered::Reading);
        self.handle = Some(handle.clone());
        Ok(handle)
    }
}
