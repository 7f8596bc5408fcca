//! Opening a reactor's other sources: streams, datagram sockets, stop signal, task queue.
//!
//! Sources can be opened before the reactor runs and while it runs. Each is registered with the
//! poller under the number of the next vacant slot, and then put into that slot.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use super::Reactor;
use super::listen::first_that_opens;
use super::slots::enqueue;
use super::sources::Source;
#[cfg(any(unix, test))]
use super::sources::StopSignal;
use crate::datagram::options::DatagramOptions;
use crate::datagram::scratch::DatagramScratch;
use crate::datagram::socket::DatagramSocket;
use crate::protocol::datagram::DatagramProtocol;
use crate::protocol::ident::{ConnectionId, Peer};
use crate::protocol::protocol::Protocol;
use crate::reactor::tasks::{Handle, TaskQueue};
use crate::stream::connection::Connection;
use crate::stream::readiness::Registered;
use crate::sys::{self, Interest, TcpStream, Token, UdpSocket};
use crate::trace::{self, Line, Returned};

impl Reactor {
    /// Serves an established TCP connection with `protocol`, and returns its id. It may have been
    /// accepted or connected elsewhere, for example by another thread that hands it over in a
    /// [task](crate::Handle::submit).
    ///
    /// Makes the socket non-blocking, without Nagle's delay. `protocol` is first called in the next
    /// turn ([`Protocol::opened`]); before that, effects on the connection wait as for an outbound
    /// one ([`Context::connect`](crate::Context::connect)). It counts among
    /// [`Stats::connected`](crate::Stats::connected).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use mio_reactor::{Echo, Limits, Reactor};
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let peer = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// let (stream, _) = listener.accept()?;
    /// let mut reactor = Reactor::new(Limits::default())?;
    /// reactor.add_stream(stream, Echo::new())?;
    /// # drop(peer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded) if there are
    /// [`connections_max`](crate::Limits::connections_max) connections already, or as many as leave
    /// the listeners what they are guaranteed. The kernel's error
    /// if the stream is not connected (`NotConnected`) or cannot be made non-blocking. The stream
    /// is closed then.
    pub fn add_stream(
        &mut self,
        stream: std::net::TcpStream,
        protocol: impl Protocol + 'static,
    ) -> io::Result<ConnectionId> {
        if !self.has_room() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let (stream, peer) = sys::adopt_stream(stream)?;
        Ok(self.serve_stream(stream, peer.into(), Box::new(protocol)))
    }

    /// Serves a connected Unix stream with `protocol`, as [`add_stream`](Reactor::add_stream) does
    /// a TCP stream, and returns its id. The peer is [`Peer::Unix`].
    ///
    /// A connect to a Unix socket does not wait for the network, so it is left to the caller. It
    /// fails with `WouldBlock` on a non-blocking socket while the listener's backlog is full
    /// (unix(7)).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::os::unix::net::UnixStream;
    /// use mio_reactor::{Echo, Limits, Reactor};
    ///
    /// let (stream, peer) = UnixStream::pair()?;
    /// let mut reactor = Reactor::new(Limits::default())?;
    /// reactor.add_unix_stream(stream, Echo::new())?;
    /// # drop(peer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`add_stream`](Reactor::add_stream).
    #[cfg(unix)]
    pub fn add_unix_stream(
        &mut self,
        stream: std::os::unix::net::UnixStream,
        protocol: impl Protocol + 'static,
    ) -> io::Result<ConnectionId> {
        if !self.has_room() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let stream = sys::adopt_unix_stream(stream)?;
        Ok(self.serve_stream(stream, Peer::Unix, Box::new(protocol)))
    }

    fn serve_stream(
        &mut self,
        stream: TcpStream,
        peer: Peer,
        protocol: Box<dyn Protocol>,
    ) -> ConnectionId {
        self.read_clock();
        let id = self.next_id();
        // As if a connect had just succeeded: so the protocol is called by the loop, where panics
        // are caught, and not from here.
        let now = self.state.clock.now;
        let connection = Connection::outbound(protocol, id, self.state.peers.keep(peer), now);
        let token = self.insert_connection(stream, connection, Registered::Nothing);
        let source = &self.slots[token].source;
        trace::log(&self.state, token, || Line::Source { source });
        self.connections += 1;
        self.state.stats.connections = self.connections;
        let slot = &mut self.slots[token];
        slot.ready.set_both(); // unknown: try
        enqueue(&mut self.run_queue, token, slot);
        id
    }

    /// Issues the id of what is inserted next.
    fn next_id(&mut self) -> ConnectionId {
        let slot = u32::try_from(self.slots.vacant_key())
            .expect("there are no more slots than descriptors");
        ConnectionId { slot, generation: self.effects.next_generation() }
    }

    /// Serves datagrams on `address` with `protocol`. Returns the bound address.
    ///
    /// Several addresses are tried as in [`listen`](Reactor::listen), and looking up a name blocks.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use mio_reactor::{Echo, Limits, Reactor};
    ///
    /// let mut reactor = Reactor::new(Limits::default())?;
    /// let address = reactor.bind_datagram("127.0.0.1:0", Echo::new())?;
    /// assert_ne!(address.port(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`listen`](Reactor::listen).
    pub fn bind_datagram(
        &mut self,
        address: impl ToSocketAddrs,
        protocol: impl DatagramProtocol + 'static,
    ) -> io::Result<SocketAddr> {
        self.bind_datagram_with(address, &DatagramOptions::default(), protocol)
    }

    /// Serves datagrams on `address`, as [`bind_datagram`](Reactor::bind_datagram) does, with
    /// options of its own: [`DatagramOptions`] has an example.
    ///
    /// # Errors
    ///
    /// As for [`bind_datagram`](Reactor::bind_datagram), and the kernel's error if a group cannot
    /// be joined: it is no multicast address (`InvalidInput`), or there is no such interface
    /// (ip(7), ipv6(7)). `InvalidInput` also if a group has the other IP version than the address.
    pub fn bind_datagram_with(
        &mut self,
        address: impl ToSocketAddrs,
        options: &DatagramOptions,
        protocol: impl DatagramProtocol + 'static,
    ) -> io::Result<SocketAddr> {
        let buffer_bytes = self.state.limits.udp_buffer_bytes;
        let open = |address| sys::bind_datagram(address, options, buffer_bytes);
        let socket = first_that_opens(address, open)?;
        self.serve_datagrams(socket, None, options, Box::new(protocol))
    }

    /// Serves datagrams with `protocol` on a UDP socket that is bound already. Returns its address.
    ///
    /// Makes the socket non-blocking; its buffers stay as they are. If it is connected, `protocol`
    /// is a client, as with [`connect_datagram`](Reactor::connect_datagram).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use mio_reactor::{Echo, Limits, Reactor};
    ///
    /// let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let mut reactor = Reactor::new(Limits::default())?;
    /// reactor.add_datagram(socket, Echo::new())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the socket receives both IPv6 and IPv4
    /// (IPV6_V6ONLY is off): our own addresses would not be recognised in their IPv4-mapped form.
    /// The kernel's error if it cannot be made non-blocking or registered with the poller.
    pub fn add_datagram(
        &mut self,
        socket: std::net::UdpSocket,
        protocol: impl DatagramProtocol + 'static,
    ) -> io::Result<SocketAddr> {
        self.add_datagram_with(socket, &DatagramOptions::default(), protocol)
    }

    /// Serves datagrams on a UDP socket that is bound already, as
    /// [`add_datagram`](Reactor::add_datagram) does, and sets `options` on it.
    ///
    /// # Errors
    ///
    /// As for [`add_datagram`](Reactor::add_datagram), and as for
    /// [`bind_datagram_with`](Reactor::bind_datagram_with) about groups.
    pub fn add_datagram_with(
        &mut self,
        socket: std::net::UdpSocket,
        options: &DatagramOptions,
        protocol: impl DatagramProtocol + 'static,
    ) -> io::Result<SocketAddr> {
        let peer = match socket.peer_addr() {
            Ok(peer) => Some(peer),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
            Err(error) => return Err(error),
        };
        let socket = sys::adopt_datagram(socket, options)?;
        self.serve_datagrams(socket, peer, options, Box::new(protocol))
    }

    fn serve_datagrams(
        &mut self,
        mut socket: UdpSocket,
        peer: Option<SocketAddr>,
        options: &DatagramOptions,
        protocol: Box<dyn DatagramProtocol>,
    ) -> io::Result<SocketAddr> {
        self.register_next(&mut socket, Interest::READABLE)?;
        let address = socket.local_addr()?;
        let mut source = DatagramSocket::new(socket, address, peer, protocol, &self.state);
        if options.answers_groups() {
            source.answer_groups();
        }
        self.insert_datagram(source);
        if peer.is_none() {
            self.state.datagram_addresses.push(address);
        }
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
    /// reactor. It takes an address and no name, because looking up a name would block the loop.
    ///
    /// # Errors
    ///
    /// The kernel's error if there is no route to `peer`, or no descriptor or port left
    /// (connect(2)). A peer that does not answer is no error here. `ConnectionRefused` if the
    /// system has given the socket the very port of `peer`, so that it would answer itself.
    pub fn connect_datagram(
        &mut self,
        peer: SocketAddr,
        protocol: impl DatagramProtocol + 'static,
    ) -> io::Result<SocketAddr> {
        let (socket, address, peer) = self.open_datagram_client(peer)?;
        self.insert_datagram(DatagramSocket::new(
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
        let connected = sys::connect_datagram(peer, self.state.limits.udp_buffer_bytes);
        trace::log(&self.state, self.slots.vacant_key(), || Line::Connect {
            peer: Peer::Ip(peer),
            returned: Returned(connected.as_ref().map(|_| 0)),
        });
        let mut socket = connected?;
        self.register_next(&mut socket, Interest::READABLE)?;
        let (address, peer) = (socket.local_addr()?, socket.peer_addr()?);
        Ok((socket, address, peer))
    }

    pub(super) fn insert_datagram(&mut self, mut source: DatagramSocket) {
        source.requests.id = self.next_id();
        source.slot = self.slots.vacant_key();
        self.datagram_clients += usize::from(source.peer().is_some());
        self.datagram_scratch.get_or_insert_with(|| Box::new(DatagramScratch::new()));
        let token = self.insert(Source::Datagram(Box::new(source)), Registered::Reading);
        let slot = &mut self.slots[token];
        slot.ready.set_writable(true); // until a send would block
        enqueue(&mut self.run_queue, token, slot); // its protocol may send first
    }

    /// Stops the reactor, as [`stop`](Reactor::stop) does, once `signal` is readable or its other
    /// end is closed. It may be the read end of a pipe or socket pair to which a signal handler
    /// writes (the self-pipe trick). It is not read, and is closed with the reactor.
    ///
    /// On other systems than Unix, use [`Handle::stop`], which works everywhere.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use mio_reactor::{Limits, Reactor, Stopped};
    ///
    /// let (read_end, write_end) = std::io::pipe()?;
    /// let mut reactor = Reactor::new(Limits::default())?;
    /// reactor.stop_on(read_end.into())?;
    /// drop(write_end);
    /// assert_eq!(reactor.run()?, Stopped::Graceful);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The kernel's error if `signal` cannot be registered with the poller (epoll_ctl(2)):
    /// `PermissionDenied` for a file on disk, which has no readiness.
    #[cfg(unix)]
    pub fn stop_on(&mut self, signal: std::os::fd::OwnedFd) -> io::Result<()> {
        self.stop_on_with(signal, || {})
    }

    /// Stops the reactor as [`stop_on`](Reactor::stop_on) does, and calls `on_signal` right before
    /// the stop begins: to log who has asked for it. It may not block. A panic in it is caught and
    /// counted ([`Stats::panics`](crate::Stats::panics)).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use mio_reactor::{Limits, Reactor};
    ///
    /// let (read_end, write_end) = std::io::pipe()?;
    /// let mut reactor = Reactor::new(Limits::default())?;
    /// reactor.stop_on_with(read_end.into(), || println!("a stop is requested"))?;
    /// drop(write_end);
    /// reactor.run()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`stop_on`](Reactor::stop_on).
    #[cfg(unix)]
    pub fn stop_on_with(
        &mut self,
        signal: std::os::fd::OwnedFd,
        on_signal: impl FnOnce() + 'static,
    ) -> io::Result<()> {
        self.insert_stop_signal(sys::Descriptor::from(signal), on_signal)
    }

    #[cfg(any(unix, test))]
    pub(super) fn insert_stop_signal(
        &mut self,
        mut signal: impl sys::Source + 'static,
        on_signal: impl FnOnce() + 'static,
    ) -> io::Result<()> {
        self.register_next(&mut signal, Interest::READABLE)?;
        let signal = StopSignal { _source: Box::new(signal), on_signal: Some(Box::new(on_signal)) };
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
