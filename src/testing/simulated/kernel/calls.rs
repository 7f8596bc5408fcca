//! System calls on TCP listeners and streams: the reactor's, and those of its peers.
//!
//! The reactor's calls take time, may be interrupted and may fail, as `faults` has it. The peers'
//! calls take no time and always succeed, since peers are part of the test.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::faults::{ACCEPT_ERRORS, STREAM_ERRORS};
use super::{File, Host, Kernel, ListeningSocket, Scheduled};
use crate::overload_limits::DEFERRED_ACCEPT_SECONDS;
use crate::sys::PeerState;
use crate::testing::simulated::errno;
use crate::testing::simulated::stream::{IN, OUT, PRIORITY, PeerReceived, Stream};

impl Kernel {
    // ---- the reactor's calls

    pub(crate) fn listen(&mut self, address: SocketAddr) -> io::Result<usize> {
        let descriptor = self.open(File::Listener(self.listeners.len()))?;
        self.listeners.push(ListeningSocket {
            address,
            descriptor: Some(descriptor),
            backlog: VecDeque::new(),
            may_pause_reading: false,
            is_deferred: false,
            silent: Vec::new(),
        });
        Ok(descriptor)
    }

    pub(crate) fn defer_accept(&mut self, number: usize, is_deferred: bool) {
        let File::Listener(listener) = self.file(number) else { panic!("{number} is no listener") };
        self.listeners[listener].is_deferred = is_deferred;
    }

    pub(crate) fn address_of(&self, number: usize) -> SocketAddr {
        match self.file(number) {
            File::Listener(listener) => self.listeners[listener].address,
            File::Udp(socket) => self.udp_sockets[socket].address,
            File::Stream(stream) => self.streams[stream].local,
            other @ (File::Poll | File::StopSignal(_) | File::Waker) => {
                panic!("{other:?} has no address")
            }
        }
    }

    pub(crate) fn accept(&mut self, number: usize) -> io::Result<(usize, SocketAddr)> {
        self.begin_call("accept");
        let File::Listener(listener) = self.file(number) else { panic!("{number} is no listener") };
        let fails = |error| Err(io::Error::from_raw_os_error(error));
        // Linux takes a descriptor before it looks at the backlog, so EMFILE does not mean that a
        // connection waits there.
        if let Some(error) = self.faults.accept_error {
            return fails(error);
        }
        let stream = self.listeners[listener].backlog.front().copied();
        let fd = self.open(File::Stream(stream.unwrap_or(0)));
        let fd = match fd {
            Ok(fd) => fd,
            Err(error) => {
                self.trace(|| format!("accept -> {error}"));
                return Err(error);
            }
        };
        let Some(stream) = stream else {
            self.free(fd);
            return fails(errno::EAGAIN);
        };
        self.something_happened = true;
        self.listeners[listener].backlog.pop_front();
        if self.chance(self.faults.failed_accepts) {
            self.free(fd);
            self.streams[stream].was_faulted = true;
            self.streams[stream].fail(errno::ECONNRESET);
            let error = self.pick_error(&ACCEPT_ERRORS);
            self.trace(|| format!("accept -> errno {error}"));
            return fails(error);
        }
        let accepted = &mut self.streams[stream];
        accepted.descriptor = Some(fd);
        accepted.is_accepted = true;
        accepted.moved_at_us = self.now_us;
        accepted.unread_since = accepted.has_something_to_read().then_some(self.polls);
        let peer = accepted.peer;
        self.trace(|| format!("accept -> {fd} {peer}"));
        Ok((fd, peer))
    }

    /// Connects to a host. `hosts` has the result, and the time until it is known.
    pub(crate) fn connect_out(&mut self, address: SocketAddr) -> io::Result<usize> {
        self.begin_call("connect");
        self.something_happened = true;
        let host = self.hosts.get(&address).copied();
        if let Some(Host::Unreachable { error }) = host {
            return Err(io::Error::from_raw_os_error(error));
        }
        let number = self.streams.len();
        let descriptor = self.open(File::Stream(number))?;
        let buffer_bytes =
            if let Some(Host::Accepts { buffer_bytes, .. }) = host { buffer_bytes } else { 0 };
        let mut stream = Stream::new(address, buffer_bytes, self.now_us);
        (stream.descriptor, stream.is_accepted, stream.is_connecting) =
            (Some(descriptor), true, true);
        let port = u16::try_from(number).expect("a run has fewer streams than ports");
        stream.local = ([127, 0, 0, 1], port).into();
        stream.may_be_paused = true; // by the connection that began it
        self.streams.push(stream);
        match host {
            Some(Host::Accepts { after_us, .. }) => {
                self.schedule(after_us, Scheduled::ConnectResult(number, None));
            }
            Some(Host::Fails { after_us, error }) => {
                self.schedule(after_us, Scheduled::ConnectResult(number, Some(error)));
            }
            Some(Host::Silent | Host::Unreachable { .. }) => {}
            None => self.schedule(0, Scheduled::ConnectResult(number, Some(errno::ECONNREFUSED))),
        }
        self.trace(|| format!("connect {address} -> {descriptor}"));
        Ok(descriptor)
    }

    /// The host has answered our connect: with an error, or by accepting.
    pub(super) fn finish_connect(&mut self, stream: usize, error: Option<i32>) {
        let polls = self.polls;
        let connecting = &mut self.streams[stream];
        if connecting.descriptor.is_none() {
            return; // it has been closed meanwhile
        }
        connecting.is_connecting = false;
        connecting.moved_at_us = self.now_us;
        match error {
            None => self.add_to_ready_list(self.streams[stream].descriptor, OUT),
            Some(error) => {
                self.fail(stream, error);
                self.streams[stream].unread_since = Some(polls);
            }
        }
    }

    pub(crate) fn is_connected(&mut self, number: usize) -> io::Result<bool> {
        self.begin_call("is_connected");
        let stream = self.stream_of(number);
        let result = self.streams[stream].is_connected();
        self.something_happened |= result != Ok(false);
        self.trace(|| format!("is_connected {number} -> {result:?}"));
        result.map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn peer_state(&mut self, number: usize) -> io::Result<PeerState> {
        self.begin_call("peer_state");
        let stream = self.stream_of(number);
        let result = self.streams[stream].peer_state();
        self.trace(|| format!("peer_state {number} -> {result:?}"));
        result.map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn receive(&mut self, number: usize, into: &mut [u8]) -> io::Result<usize> {
        self.begin_call("recv");
        let stream = self.stream_of(number);
        self.maybe_interrupt()?;
        self.maybe_fail(stream);
        let polls = self.polls;
        let socket = &mut self.streams[stream];
        let result = socket.receive(into);
        // A FIN or an error that was read is done with. After bytes there may be more.
        let is_over = matches!(result, Ok(0) | Err(_));
        socket.unread_since = (!is_over && socket.has_something_to_read()).then_some(polls);
        if matches!(result, Ok(1..)) {
            socket.moved_at_us = self.now_us;
        }
        self.something_happened |= result != Err(errno::EAGAIN);
        self.trace(|| format!("recv {number}, {} -> {result:?}", into.len()));
        result.map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn send(&mut self, number: usize, bytes: &[u8]) -> io::Result<usize> {
        self.send_with(number, bytes, false)
    }

    /// A send with MSG_MORE.
    pub(crate) fn send_before_fin(&mut self, number: usize, bytes: &[u8]) -> io::Result<usize> {
        self.send_with(number, bytes, true)
    }

    fn send_with(&mut self, number: usize, bytes: &[u8], has_more: bool) -> io::Result<usize> {
        self.begin_call("send");
        let stream = self.stream_of(number);
        self.maybe_interrupt()?;
        self.maybe_fail(stream);
        let mut memory = usize::MAX;
        if self.chance(self.faults.short_sends) {
            memory = self.rng.usize(..=bytes.len().max(1) - 1);
            let delay_us = self.rng.u64(..20_000);
            self.schedule(delay_us, Scheduled::SendMemory(stream));
        }
        let socket = &mut self.streams[stream];
        socket.was_starved = memory == 0;
        let result = socket.send(bytes, memory, has_more);
        if socket.unread_since.is_some() {
            socket.unread_since = Some(self.polls); // output goes first; input may wait meanwhile
        }
        if result.is_ok() {
            socket.moved_at_us = self.now_us;
            if socket.answers_with_reset() {
                socket.fail(errno::ECONNRESET);
                let descriptor = socket.descriptor;
                self.add_to_ready_list(descriptor, 0);
            }
        } else if result != Err(errno::EAGAIN) {
            socket.unread_since = None; // it will be closed
        }
        self.something_happened |= result != Err(errno::EAGAIN);
        self.trace(|| format!("send {number}, {}, more: {has_more} -> {result:?}", bytes.len()));
        result.map_err(io::Error::from_raw_os_error)
    }

    fn maybe_interrupt(&mut self) -> io::Result<()> {
        if self.chance(self.faults.interrupted_calls) {
            Err(io::ErrorKind::Interrupted.into())
        } else {
            Ok(())
        }
    }

    fn maybe_fail(&mut self, stream: usize) {
        if self.chance(self.faults.failed_streams) {
            let error = self.pick_error(&STREAM_ERRORS);
            self.streams[stream].was_faulted = true;
            self.fail(stream, error);
        }
    }

    pub(crate) fn shutdown_write(&mut self, number: usize) -> io::Result<()> {
        self.begin_call("shutdown");
        self.something_happened = true;
        let stream = self.stream_of(number);
        let result = self.streams[stream].shutdown_write();
        self.streams[stream].moved_at_us = self.now_us;
        self.add_to_ready_list(Some(number), 0);
        self.trace(|| format!("shutdown {number} -> {result:?}"));
        result.map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn reset_on_close(&mut self, number: usize) {
        let stream = self.stream_of(number);
        self.streams[stream].reset_on_close();
    }

    /// Has no effect on how much fits: only the calls are counted.
    pub(crate) fn bound_unsent(&mut self, number: usize, is_bounded: bool) {
        self.begin_call(if is_bounded { "bound_unsent" } else { "unbound_unsent" });
        self.trace(|| format!("bound_unsent {number} {is_bounded}"));
    }

    // ---- the peers' calls

    /// Lets the protocols of connections to `address` pause reading by themselves. Of all others,
    /// unread input is an error of the reactor (`checks`).
    pub(crate) fn allow_pauses(&mut self, address: SocketAddr) {
        for listener in self.listeners.iter_mut().filter(|other| other.address == address) {
            listener.may_pause_reading = true;
        }
    }

    /// Connects `peer` to `address`. Returns the stream, or `None` if no socket listens there.
    pub(crate) fn peer_connects(
        &mut self,
        peer: SocketAddr,
        address: SocketAddr,
        buffer_bytes: usize,
    ) -> Option<usize> {
        let listener = self
            .listeners
            .iter()
            .position(|other| other.address == address && other.descriptor.is_some())?;
        let mut stream = Stream::new(peer, buffer_bytes, self.now_us);
        stream.local = address;
        stream.may_be_paused = self.listeners[listener].may_pause_reading;
        self.streams.push(stream);
        let stream = self.streams.len() - 1;
        self.listeners[listener].silent.push(stream);
        if self.listeners[listener].is_deferred {
            let delay_us = DEFERRED_ACCEPT_SECONDS as u64 * 1_000_000;
            self.schedule(delay_us, Scheduled::DeferralEnds(listener, stream));
        } else {
            self.end_deferral(listener, stream);
        }
        Some(stream)
    }

    /// Puts a stream into the listener's backlog, unless that has been done.
    pub(super) fn end_deferral(&mut self, listener: usize, stream: usize) {
        let listener = &mut self.listeners[listener];
        let Some(index) = listener.silent.iter().position(|&other| other == stream) else { return };
        listener.silent.remove(index);
        listener.backlog.push_back(stream);
        let descriptor = listener.descriptor;
        self.add_to_ready_list(descriptor, IN);
    }

    /// The peer of `stream` has spoken, closed or reset it.
    fn end_deferral_of(&mut self, stream: usize) {
        for listener in 0..self.listeners.len() {
            self.end_deferral(listener, stream);
        }
    }

    /// Something has arrived on `stream`: epoll reports `bits` of it, and the reactor has to read
    /// it.
    fn report_arrival(&mut self, stream: usize, bits: u32) {
        self.end_deferral_of(stream);
        let polls = self.polls;
        let stream = &mut self.streams[stream];
        if stream.descriptor.is_some() {
            stream.unread_since.get_or_insert(polls);
        }
        let descriptor = stream.descriptor;
        self.add_to_ready_list(descriptor, bits);
    }

    /// Reports that `stream` is writable again, if an edge is owed.
    pub(super) fn report_writable(&mut self, stream: usize) {
        if self.streams[stream].take_writable_edge() {
            self.add_to_ready_list(self.streams[stream].descriptor, OUT);
        }
    }

    pub(crate) fn peer_sends(&mut self, stream: usize, bytes: &[u8]) {
        self.trace(|| {
            format!("         {} sends {} bytes", self.streams[stream].peer, bytes.len())
        });
        if self.streams[stream].peer_sends(bytes) {
            self.report_arrival(stream, IN | PRIORITY);
        }
    }

    /// Puts the urgent mark after what `stream`'s peer has sent so far.
    pub(crate) fn peer_sends_urgent_mark(&mut self, stream: usize) {
        self.streams[stream].peer_sends_urgent_mark();
        self.add_to_ready_list(self.streams[stream].descriptor, IN | PRIORITY);
    }

    pub(crate) fn peer_shuts_down(&mut self, stream: usize) {
        self.trace(|| format!("         {} shuts down", self.streams[stream].peer));
        self.streams[stream].peer_shuts_down();
        self.report_arrival(stream, 0);
    }

    pub(crate) fn peer_closes(&mut self, stream: usize) {
        self.trace(|| format!("         {} closes", self.streams[stream].peer));
        self.streams[stream].peer_closes();
        self.report_arrival(stream, 0);
    }

    /// The peer resets the connection, or the network reports another error.
    pub(crate) fn fail(&mut self, stream: usize, error: i32) {
        self.trace(|| format!("         {} fails: errno {error}", self.streams[stream].peer));
        self.streams[stream].fail(error);
        self.report_arrival(stream, 0);
    }

    pub(crate) fn peer_receives(&mut self, stream: usize, count_max: usize) -> PeerReceived {
        let received = self.streams[stream].peer_receives(count_max);
        self.trace(|| match &received {
            PeerReceived::Bytes(bytes) => {
                format!("         {} receives {} bytes", self.streams[stream].peer, bytes.len())
            }
            PeerReceived::WouldBlock | PeerReceived::Fin | PeerReceived::Reset => {
                format!("         {} receives {received:?}", self.streams[stream].peer)
            }
        });
        self.report_writable(stream);
        received
    }
}
