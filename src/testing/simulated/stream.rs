//! A TCP connection in the simulated kernel: our end of it, and the peer's.
//!
//! What each call returns, and in which order, follows Linux:
//!
//! - Bytes that have arrived are read before an error is reported.
//! - An error is reported once (SO_ERROR), a FIN for ever.
//! - A read stops at the urgent mark (sockatmark(3)), and the next one goes on after it.
//! - Closing with unread input sends a reset instead of a FIN.
//!
//! This file knows one connection. Which descriptor it has, when time passes and what epoll reports
//! is the business of `kernel`.

use std::net::SocketAddr;

use super::errno;
use crate::sys::PeerState;

// The bits of epoll_ctl(2): EPOLLIN, EPOLLPRI, EPOLLOUT, EPOLLERR, EPOLLHUP and EPOLLRDHUP.
pub(crate) const IN: u32 = 0x001;
pub(crate) const PRIORITY: u32 = 0x002;
pub(crate) const OUT: u32 = 0x004;
pub(crate) const ERROR: u32 = 0x008;
pub(crate) const HANG_UP: u32 = 0x010;
pub(crate) const READ_HANG_UP: u32 = 0x2000;

/// Bytes on their way, first in, first out. Copied by the slice, since tests run unoptimised.
#[derive(Default)]
pub(crate) struct ByteQueue {
    all: Vec<u8>,
    start: usize,
}

impl ByteQueue {
    pub(crate) fn len(&self) -> usize {
        self.all.len() - self.start
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.all.extend_from_slice(bytes);
    }

    pub(crate) fn take(&mut self, count: usize) -> &[u8] {
        if self.start > self.all.len() / 2 {
            self.all.drain(..std::mem::take(&mut self.start));
        }
        self.start += count;
        &self.all[self.start - count..self.start]
    }

    pub(crate) fn clear(&mut self) {
        (self.all, self.start) = (Vec::new(), 0);
    }
}

pub(crate) struct Stream {
    pub(crate) peer: SocketAddr,
    /// Our end's address: that of the listener, or a port of its own. Unspecified until then.
    pub(crate) local: SocketAddr,
    /// Our descriptor of it: from accept or connect until close.
    pub(crate) descriptor: Option<usize>,
    pub(crate) is_accepted: bool,
    /// We have called connect, and the host has neither accepted nor refused yet.
    pub(crate) is_connecting: bool,

    // From the peer to us.
    pub(crate) arrived: ByteQueue,
    read: usize,
    /// A read stops before this byte, counted from the first that ever arrived.
    urgent_mark: Option<usize>,
    fin_received: bool,
    /// The error that the next call returns (SO_ERROR).
    error: Option<i32>,
    /// Reset, or timed out: no byte moves any more.
    is_dead: bool,

    // From us to the peer.
    pub(crate) sent: ByteQueue,
    /// How many of the last bytes sent wait in our kernel for what follows them (MSG_MORE). Linux
    /// sends them after 200 ms; this one never does, so that a FIN that does not follow is noticed.
    held_back: usize,
    /// How much fits between us and a peer that does not read: our send buffer and its receive
    /// buffer.
    pub(crate) buffer_bytes: usize,
    /// A send or a poll found the buffer full, so an edge is owed when it has room (SOCK_NOSPACE).
    pub(crate) owes_writable_edge: bool,
    has_shut_down: bool,
    resets_on_close: bool,

    // The peer's end.
    peer_has_closed: bool,

    // For the checks of the random schedules.
    /// A fault was injected that no server could hide from its peer.
    pub(crate) was_faulted: bool,
    /// The kernel had no memory for the last send, although the peer had read.
    pub(crate) was_starved: bool,
    /// Its protocol may leave input unread although its output has room.
    pub(crate) may_be_paused: bool,
    /// When one of our calls last moved a byte over it, in microseconds.
    pub(crate) moved_at_us: u64,
    /// The number of the poll since which there has been something to read.
    pub(crate) unread_since: Option<u64>,
}

/// What one read by the peer brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PeerReceived {
    Bytes(Vec<u8>),
    WouldBlock,
    Fin,
    Reset,
}

impl Stream {
    pub(crate) fn new(peer: SocketAddr, buffer_bytes: usize, now_us: u64) -> Stream {
        Stream {
            peer,
            local: ([0, 0, 0, 0], 0).into(),
            descriptor: None,
            is_accepted: false,
            is_connecting: false,
            arrived: ByteQueue::default(),
            read: 0,
            urgent_mark: None,
            fin_received: false,
            error: None,
            is_dead: false,
            sent: ByteQueue::default(),
            held_back: 0,
            buffer_bytes,
            owes_writable_edge: false,
            has_shut_down: false,
            resets_on_close: false,
            peer_has_closed: false,
            was_faulted: false,
            was_starved: false,
            may_be_paused: false,
            moved_at_us: now_us,
            unread_since: None,
        }
    }

    /// The bits that epoll finds set at this moment, computed as Linux does in tcp_poll().
    pub(crate) fn event_bits(&mut self) -> u32 {
        if self.is_connecting {
            return 0;
        }
        let read_side_closed = self.fin_received || self.is_dead;
        let write_side_closed = self.has_shut_down || self.is_dead;
        let mut bits = 0;
        if self.is_dead || (read_side_closed && write_side_closed) {
            bits |= HANG_UP;
        }
        if read_side_closed {
            bits |= IN | READ_HANG_UP;
        }
        if self.arrived.len() > 0 {
            bits |= IN;
        }
        if write_side_closed || self.is_writable() {
            bits |= OUT;
        } else {
            self.owes_writable_edge = true;
        }
        if self.urgent_mark.is_some() {
            bits |= PRIORITY;
        }
        if self.error.is_some() {
            bits |= ERROR;
        }
        bits
    }

    /// Linux reports a socket as writable only once a third of its buffer is free.
    fn is_writable(&self) -> bool {
        self.buffer_bytes - self.sent.len() >= self.sent.len() / 2
    }

    /// Returns whether an edge is owed and the buffer has room again. The edge is then no longer
    /// owed.
    pub(crate) fn take_writable_edge(&mut self) -> bool {
        self.owes_writable_edge && self.is_writable() && {
            self.owes_writable_edge = false;
            true
        }
    }

    pub(crate) fn has_something_to_read(&self) -> bool {
        self.arrived.len() > 0 || self.fin_received || self.is_dead
    }

    // ---- our calls

    pub(crate) fn receive(&mut self, into: &mut [u8]) -> Result<usize, i32> {
        let mut count = self.arrived.len().min(into.len());
        match self.urgent_mark {
            Some(mark) if mark <= self.read => self.urgent_mark = None, // passed
            Some(mark) => count = count.min(mark - self.read),
            None => {}
        }
        if count > 0 {
            into[..count].copy_from_slice(self.arrived.take(count));
            self.read += count;
            return Ok(count);
        }
        if self.fin_received {
            return Ok(0);
        }
        match self.error.take() {
            Some(error) => Err(error),
            None if self.is_dead => Ok(0),
            None => Err(errno::EAGAIN),
        }
    }

    /// Takes as many of `bytes` as fit, but at most `memory`, which is what the kernel can spare.
    /// `has_more`: if it takes all, it waits for more before it sends them. If it does not, it
    /// sends what it has, as Linux does.
    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        memory: usize,
        has_more: bool,
    ) -> Result<usize, i32> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.is_dead || self.has_shut_down {
            return Err(errno::EPIPE);
        }
        assert!(!self.is_connecting, "nothing is sent before the connection is established");
        let count = bytes.len().min(self.buffer_bytes - self.sent.len()).min(memory);
        if count < bytes.len() {
            self.owes_writable_edge = true;
        }
        if count == 0 {
            return Err(errno::EAGAIN);
        }
        if !self.peer_has_closed {
            self.sent.push(&bytes[..count]);
            self.held_back = if has_more && count == bytes.len() { count } else { 0 };
        }
        Ok(count)
    }

    /// Returns whether a connection that we began is established. Its error is reported once.
    pub(crate) fn is_connected(&mut self) -> Result<bool, i32> {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(!self.is_connecting),
        }
    }

    /// Its error is reported once, as by every call.
    pub(crate) fn peer_state(&mut self) -> Result<PeerState, i32> {
        let can_send = !self.is_dead && !self.has_shut_down;
        match self.error.take() {
            Some(error) => Err(error),
            None if can_send => Ok(PeerState::Present),
            None if self.arrived.len() > 0 => Ok(PeerState::Unread),
            None if self.fin_received || self.is_dead => Ok(PeerState::Gone),
            None => Ok(PeerState::Present),
        }
    }

    /// Returns whether an error waits that no call has returned yet.
    pub(crate) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// Sends our FIN (shutdown(2) with SHUT_WR).
    pub(crate) fn shutdown_write(&mut self) -> Result<(), i32> {
        if self.is_dead {
            return Err(errno::ENOTCONN);
        }
        self.has_shut_down = true;
        self.held_back = 0;
        Ok(())
    }

    pub(crate) fn reset_on_close(&mut self) {
        self.resets_on_close = true;
    }

    pub(crate) fn close(&mut self) {
        if self.resets_on_close || self.arrived.len() > 0 {
            self.reset_peer();
        }
        self.has_shut_down = true;
        self.held_back = 0;
        self.descriptor = None;
        self.arrived.clear();
    }

    fn reset_peer(&mut self) {
        self.is_dead = true;
        self.clear_sent(); // a reset discards what the peer has not read, as on many systems
    }

    fn clear_sent(&mut self) {
        self.sent.clear();
        self.held_back = 0;
    }

    fn is_closed(&self) -> bool {
        self.is_accepted && self.descriptor.is_none()
    }

    // ---- the peer's calls

    /// Returns whether epoll is to report an edge.
    pub(crate) fn peer_sends(&mut self, bytes: &[u8]) -> bool {
        if self.is_closed() {
            self.reset_peer();
        } else if !self.is_dead {
            self.arrived.push(bytes);
            return true;
        }
        false
    }

    pub(crate) fn peer_sends_urgent_mark(&mut self) {
        self.urgent_mark = Some(self.read + self.arrived.len());
    }

    pub(crate) fn peer_shuts_down(&mut self) {
        self.fin_received = true;
    }

    /// The peer closes. If it has not read everything, that is a reset.
    pub(crate) fn peer_closes(&mut self) {
        self.peer_has_closed = true;
        if self.sent.len() > 0 { self.fail(errno::ECONNRESET) } else { self.fin_received = true }
    }

    /// Returns whether the peer has closed, so that what we send is answered with a reset.
    pub(crate) fn answers_with_reset(&self) -> bool {
        self.peer_has_closed && !self.is_dead
    }

    /// The peer resets the connection, or the network reports another error.
    pub(crate) fn fail(&mut self, error: i32) {
        if !self.is_dead {
            let of_half_closed = self.fin_received && error == errno::ECONNRESET;
            self.error = Some(if of_half_closed { errno::EPIPE } else { error });
            self.is_dead = true;
            self.clear_sent();
        }
    }

    pub(crate) fn peer_receives(&mut self, count_max: usize) -> PeerReceived {
        if self.is_dead {
            return PeerReceived::Reset;
        }
        let count = (self.sent.len() - self.held_back).min(count_max);
        match count {
            0 if self.has_shut_down && self.sent.len() == 0 => PeerReceived::Fin,
            0 => PeerReceived::WouldBlock,
            _ => PeerReceived::Bytes(self.sent.take(count).to_vec()),
        }
    }
}
