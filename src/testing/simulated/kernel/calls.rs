//! The calls on listeners and streams: ours, and those of the peers.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::faults::{OF_A_STREAM, OF_ONE_CONNECTION};
use super::{Door, Due, File, Host, Kernel};
use crate::testing::simulated::errno;
use crate::testing::simulated::stream::{Heard, IN, OUT, PRIORITY, Stream};

impl Kernel {
    // ---- our calls on streams

    pub(crate) fn listen(&mut self, address: SocketAddr) -> io::Result<usize> {
        let descriptor = self.open(File::Door(self.doors.len()))?;
        self.doors.push(Door {
            address,
            descriptor: Some(descriptor),
            waiting: VecDeque::new(),
            may_pause: false,
        });
        Ok(descriptor)
    }

    pub(crate) fn address_of(&self, number: usize) -> SocketAddr {
        match self.file(number) {
            File::Door(door) => self.doors[door].address,
            File::Datagrams(socket) => self.datagrams[socket].address,
            other @ (File::Poll | File::Stream(_) | File::Bell(_) | File::Waker) => {
                panic!("{other:?} has no address that we ask for")
            }
        }
    }

    pub(crate) fn accept(&mut self, number: usize) -> io::Result<(usize, SocketAddr)> {
        self.call("accept");
        let File::Door(door) = self.file(number) else { panic!("{number} does not listen") };
        let fails = |error| Err(io::Error::from_raw_os_error(error));
        // Linux looks for a descriptor first, and so says EMFILE even where nobody waits.
        if let Some(error) = self.faults.exhausted {
            return fails(error);
        }
        let stream = self.doors[door].waiting.front().copied();
        let fd = self.open(File::Stream(stream.unwrap_or(0)));
        let fd = match fd {
            Ok(fd) => fd,
            Err(error) => {
                self.tell(|| format!("accept -> {error}"));
                return Err(error);
            }
        };
        let Some(stream) = stream else {
            self.descriptors[fd] = None;
            return fails(errno::EAGAIN);
        };
        self.something_happened = true;
        self.doors[door].waiting.pop_front();
        if self.chance(self.faults.failed_accepts) {
            self.descriptors[fd] = None;
            self.streams[stream].was_hurt = true;
            self.streams[stream].fail(errno::ECONNRESET);
            let error = self.one_of(&OF_ONE_CONNECTION);
            self.tell(|| format!("accept -> errno {error}"));
            return fails(error);
        }
        let accepted = &mut self.streams[stream];
        accepted.descriptor = Some(fd);
        accepted.is_accepted = true;
        accepted.moved_at = self.now_us;
        accepted.unread_since = accepted.has_something_to_read().then_some(self.polls);
        let peer = accepted.peer;
        self.tell(|| format!("accept -> {fd} {peer}"));
        Ok((fd, peer))
    }

    pub(crate) fn call_out(&mut self, address: SocketAddr) -> io::Result<usize> {
        self.call("connect");
        self.something_happened = true;
        let host = self.hosts.get(&address).copied();
        if let Some(Host::Unreachable { error }) = host {
            return Err(io::Error::from_raw_os_error(error));
        }
        let number = self.streams.len();
        let descriptor = self.open(File::Stream(number))?;
        let room_max = if let Some(Host::Answers { room_max, .. }) = host { room_max } else { 0 };
        let mut stream = Stream::new(address, room_max, self.now_us);
        (stream.descriptor, stream.is_accepted, stream.is_connecting) =
            (Some(descriptor), true, true);
        stream.may_be_paused = true; // for another's sake
        self.streams.push(stream);
        match host {
            Some(Host::Answers { after_us, .. }) => self.plan(after_us, Due::Answer(number, None)),
            Some(Host::Fails { after_us, error }) => {
                self.plan(after_us, Due::Answer(number, Some(error)));
            }
            Some(Host::Silent | Host::Unreachable { .. }) => {}
            None => self.plan(0, Due::Answer(number, Some(errno::ECONNREFUSED))),
        }
        self.tell(|| format!("connect {address} -> {descriptor}"));
        Ok(descriptor)
    }

    pub(super) fn answer_call(&mut self, stream: usize, error: Option<i32>) {
        let polls = self.polls;
        let called = &mut self.streams[stream];
        if called.descriptor.is_none() {
            return; // it has been given up
        }
        called.is_connecting = false;
        called.moved_at = self.now_us;
        match error {
            None => self.list(self.streams[stream].descriptor, OUT),
            Some(error) => {
                self.fail(stream, error);
                self.streams[stream].unread_since = Some(polls);
            }
        }
    }

    pub(crate) fn is_connected(&mut self, number: usize) -> io::Result<bool> {
        self.call("is connected");
        let stream = self.stream_of(number);
        let result = self.streams[stream].is_connected();
        self.something_happened |= result != Ok(false);
        self.tell(|| format!("is connected {number} -> {result:?}"));
        result.map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn receive(&mut self, number: usize, into: &mut [u8]) -> io::Result<usize> {
        self.call("recv");
        let stream = self.stream_of(number);
        self.interrupt()?;
        self.fail_perhaps(stream);
        let polls = self.polls;
        let socket = &mut self.streams[stream];
        let result = socket.receive(into);
        // An end that was read is served; bytes may remain.
        let is_over = matches!(result, Ok(0) | Err(_));
        socket.unread_since = (!is_over && socket.has_something_to_read()).then_some(polls);
        if matches!(result, Ok(1..)) {
            socket.moved_at = self.now_us;
        }
        self.something_happened |= result != Err(errno::EAGAIN);
        self.tell(|| format!("recv {number}, {} -> {result:?}", into.len()));
        result.map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn send(&mut self, number: usize, bytes: &[u8]) -> io::Result<usize> {
        self.call("send");
        let stream = self.stream_of(number);
        self.interrupt()?;
        self.fail_perhaps(stream);
        let mut memory = usize::MAX;
        if self.chance(self.faults.short_sends) {
            memory = self.rng.usize(..=bytes.len().max(1) - 1);
            let delay_us = self.rng.u64(..20_000);
            self.plan(delay_us, Due::Memory(stream));
        }
        let socket = &mut self.streams[stream];
        let result = socket.send(bytes, memory);
        if socket.unread_since.is_some() {
            socket.unread_since = Some(self.polls); // what waits to be sent goes first
        }
        if result.is_ok() {
            socket.moved_at = self.now_us;
            if socket.is_sent_to_nobody() {
                socket.fail(errno::ECONNRESET);
                let descriptor = socket.descriptor;
                self.list(descriptor, 0);
            }
        } else if result != Err(errno::EAGAIN) {
            socket.unread_since = None; // it will be closed
        }
        self.something_happened |= result != Err(errno::EAGAIN);
        self.tell(|| format!("send {number}, {} -> {result:?}", bytes.len()));
        result.map_err(io::Error::from_raw_os_error)
    }

    fn interrupt(&mut self) -> io::Result<()> {
        if self.chance(self.faults.interrupted_calls) {
            Err(io::ErrorKind::Interrupted.into())
        } else {
            Ok(())
        }
    }

    fn fail_perhaps(&mut self, stream: usize) {
        if self.chance(self.faults.failed_streams) {
            let error = self.one_of(&OF_A_STREAM);
            self.streams[stream].was_hurt = true;
            self.fail(stream, error);
        }
    }

    pub(crate) fn finish(&mut self, number: usize) -> io::Result<()> {
        self.call("shutdown");
        self.something_happened = true;
        let stream = self.stream_of(number);
        let result = self.streams[stream].finish();
        self.streams[stream].moved_at = self.now_us;
        self.list(Some(number), 0);
        self.tell(|| format!("shutdown {number} -> {result:?}"));
        result.map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn reset_on_close(&mut self, number: usize) {
        let stream = self.stream_of(number);
        self.streams[stream].reset_on_close();
    }

    // ---- the peers' calls on streams

    /// Those who connect to `address` may be kept waiting by their protocol itself.
    pub(crate) fn let_pause(&mut self, address: SocketAddr) {
        for door in self.doors.iter_mut().filter(|door| door.address == address) {
            door.may_pause = true;
        }
    }

    /// Connects `peer` to `address`. `None`: nobody listens there.
    pub(crate) fn connect(
        &mut self,
        peer: SocketAddr,
        address: SocketAddr,
        room_max: usize,
    ) -> Option<usize> {
        let door = self
            .doors
            .iter()
            .position(|door| door.address == address && door.descriptor.is_some())?;
        let mut stream = Stream::new(peer, room_max, self.now_us);
        stream.may_be_paused = self.doors[door].may_pause;
        self.streams.push(stream);
        let stream = self.streams.len() - 1;
        self.doors[door].waiting.push_back(stream);
        self.list(self.doors[door].descriptor, IN);
        Some(stream)
    }

    fn tell_of_news(&mut self, stream: usize, bits: u32) {
        let polls = self.polls;
        let stream = &mut self.streams[stream];
        if stream.descriptor.is_some() {
            stream.unread_since.get_or_insert(polls);
        }
        let descriptor = stream.descriptor;
        self.list(descriptor, bits);
    }

    pub(super) fn tell_of_room(&mut self, stream: usize) {
        if self.streams[stream].takes_room() {
            self.list(self.streams[stream].descriptor, OUT);
        }
    }

    pub(crate) fn peer_sends(&mut self, stream: usize, bytes: &[u8]) {
        self.tell(|| format!("         {} sends {} bytes", self.streams[stream].peer, bytes.len()));
        if self.streams[stream].peer_sends(bytes) {
            self.tell_of_news(stream, IN | PRIORITY);
        }
    }

    /// What comes next comes behind an urgent mark.
    pub(crate) fn peer_marks_as_urgent(&mut self, stream: usize) {
        self.streams[stream].peer_marks_as_urgent();
        self.list(self.streams[stream].descriptor, IN | PRIORITY);
    }

    pub(crate) fn peer_finishes(&mut self, stream: usize) {
        self.tell(|| format!("         {} finishes", self.streams[stream].peer));
        self.streams[stream].peer_finishes();
        self.tell_of_news(stream, 0);
    }

    pub(crate) fn peer_closes(&mut self, stream: usize) {
        self.tell(|| format!("         {} closes", self.streams[stream].peer));
        self.streams[stream].peer_closes();
        self.tell_of_news(stream, 0);
    }

    /// The peer resets the connection, or the network reports another error.
    pub(crate) fn fail(&mut self, stream: usize, error: i32) {
        self.tell(|| format!("         {} fails: errno {error}", self.streams[stream].peer));
        self.streams[stream].fail(error);
        self.tell_of_news(stream, 0);
    }

    pub(crate) fn peer_hears(&mut self, stream: usize, count_max: usize) -> Heard {
        let heard = self.streams[stream].peer_hears(count_max);
        self.tell(|| match &heard {
            Heard::Bytes(bytes) => {
                format!("         {} hears {} bytes", self.streams[stream].peer, bytes.len())
            }
            Heard::Nothing | Heard::Fin | Heard::Reset => {
                format!("         {} hears {heard:?}", self.streams[stream].peer)
            }
        });
        self.tell_of_room(stream);
        heard
    }
}
