//! What a reactor serves, and how others reach it: its sources, opened before it runs or while it does.

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
    /// Serves streams on `address`: `make` makes the protocol of each connection that is accepted, given its peer.
    /// Returns the address bound, in which port 0 has become a real one.
    ///
    /// # Errors
    ///
    /// The address is taken, is not ours, or is not allowed to us (see bind(2)).
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

    /// Serves streams on a Unix socket at `path`, as [`listen`](Reactor::listen) does over TCP: `make` makes the protocol of
    /// each connection, which need not know the difference.
    ///
    /// The file that appears at `path` belongs to the socket, and is removed when the reactor stops or is dropped, if it is
    /// still this one. Who finds it finds somebody who listens: it is made beside `path` first, under the name `PATH.0` or the
    /// like, which is also what tools such as ss(8) call the socket. A process that is killed leaves its file behind; where
    /// nobody listens behind a socket's file any more, it is removed here and `path` taken over. (Of two who do that with the same
    /// file at the same moment, one may end up with a socket that nobody can reach: to ask and to remove are two steps.)
    ///
    /// Who may write to the file may connect: with the usual umask of 022, only the user who runs this. For others, set the
    /// umask before, or the file's mode after; to keep others out for certain, put the file into a directory of their own.
    ///
    /// A Unix socket knows no reset. Where a TCP peer would see one ([`Next::Abort`](crate::Next::Abort)), this one sees an end.
    ///
    /// # Errors
    ///
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if somebody listens at `path`, or if something other than a socket is there, and
    /// then it is left as it is. [`InvalidInput`](io::ErrorKind::InvalidInput) if `path` is empty, too long (on Linux, beyond
    /// 107 bytes) or has a zero byte in it. Otherwise what the kernel says: its directory does not exist, or we may not write
    /// there.
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

    /// Answers datagrams on `address` with `protocol`. Returns the address bound.
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

    /// Opens a socket for datagrams on a port that the system chooses, and connects it to `peer`: `protocol` speaks to nobody else,
    /// hears nobody else, whatever the peer's port, and is told when the peer's machine says that nobody is there. Returns
    /// the socket's own address. Its first call is [`DatagramProtocol::opened`], in the next turn; it ends when the protocol
    /// says [`Replies::close`](crate::Replies::close), or with the reactor.
    ///
    /// # Errors
    ///
    /// There is no way to `peer`, or no descriptor or port left (see connect(2)). That nobody answers is no error here.
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

    /// A socket that is connected to `peer` and watched, for the next slot; its address; and its peer's, which is another where
    /// the system takes the one that was named for "this machine" (`0.0.0.0`).
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
        slot.ready.writable = true; // until the kernel says otherwise
        enqueue(&mut self.run_queue, token, slot); // its protocol may want to speak first
    }

    /// Stops the reactor, as [`stop`](Reactor::stop) does, once `bell` is readable: a pipe into which a signal handler
    /// writes, say.
    ///
    /// # Errors
    ///
    /// What the kernel says when it cannot watch `bell`.
    pub fn stop_on(&mut self, mut bell: impl sys::Source + 'static) -> io::Result<()> {
        self.poll.registry().register(
            &mut bell,
            Token(self.slots.vacant_key()),
            Interest::READABLE,
        )?;
        self.insert(Source::StopSignal(Box::new(bell)), Registered::Reading);
        Ok(())
    }

    /// A way to this reactor from other threads. It costs a descriptor and some 25 KiB when it is first asked for.
    ///
    /// # Errors
    ///
    /// What the kernel says when it has no descriptor or no memory for a waker (on Linux, see eventfd(2)).
    pub fn handle(&mut self) -> io::Result<Handle> {
        if let Some(handle) = &self.handle {
            return Ok(handle.clone());
        }
        let inbox = TaskQueue::open(self.poll.registry(), Token(self.slots.vacant_key()))?;
        let handle = inbox.handle();
        self.insert(Source::Tasks(Box::new(inbox)), Registered::Reading);
        self.handle = Some(handle.clone());
        Ok(handle)
    }
}
