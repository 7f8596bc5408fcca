//! A TCP connection in the simulated kernel: our end, and the peer's.
//!
//! What each call answers, and in which order, follows Linux: what has arrived is read before an error is told, an error is
//! told once, a FIN is told for ever, a read stops at the urgent mark, and to close with something unread is a reset.

use std::net::SocketAddr;

use super::errno;

/// What poll(2) and epoll(7) call these states.
pub(crate) const IN: u32 = 0x001;
pub(crate) const PRIORITY: u32 = 0x002;
pub(crate) const OUT: u32 = 0x004;
pub(crate) const ERROR: u32 = 0x008;
pub(crate) const HANG_UP: u32 = 0x010;
pub(crate) const PEER_HAS_FINISHED: u32 = 0x2000;

/// Bytes on their way. Copied in and out by the slice, since tests run unoptimised.
#[derive(Default)]
pub(crate) struct Bytes {
    all: Vec<u8>,
    start: usize,
}

impl Bytes {
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
    /// Our descriptor of it, from accept to close.
    pub(crate) descriptor: Option<usize>,
    pub(crate) is_accepted: bool,
    /// We have begun it, and the world has not answered yet.
    pub(crate) is_connecting: bool,

    // Towards us.
    pub(crate) arrived: Bytes,
    read: usize,
    /// Before which byte of all that arrive a read stops.
    urgent_mark: Option<usize>,
    fin_came: bool,
    /// What the next call fails with.
    error: Option<i32>,
    /// Reset, or timed out: no byte moves any more.
    is_dead: bool,

    // Towards the peer.
    pub(crate) sent: Bytes,
    /// How much fits between us and a peer that does not read.
    pub(crate) room_max: usize,
    /// We were told that there is no room, and are owed an edge when there is.
    pub(crate) wants_room: bool,
    has_finished: bool,
    resets_on_close: bool,

    // The peer.
    peer_has_closed: bool,

    // What the schedules ask about it.
    /// The kernel itself did something to it that no server can make good.
    pub(crate) was_hurt: bool,
    /// Its protocol may leave input unread though nothing keeps it from reading.
    pub(crate) may_be_paused: bool,
    /// When a byte last moved over it through one of our calls, in microseconds.
    pub(crate) moved_at: u64,
    /// Since which poll there has been something to read.
    pub(crate) unread_since: Option<u64>,
}

/// What the peer's end of it says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Bytes(Vec<u8>),
    Nothing,
    Fin,
    Reset,
}

impl Stream {
    pub(crate) fn new(peer: SocketAddr, room_max: usize, now: u64) -> Stream {
        Stream {
            peer,
            descriptor: None,
            is_accepted: false,
            is_connecting: false,
            arrived: Bytes::default(),
            read: 0,
            urgent_mark: None,
            fin_came: false,
            error: None,
            is_dead: false,
            sent: Bytes::default(),
            room_max,
            wants_room: false,
            has_finished: false,
            resets_on_close: false,
            peer_has_closed: false,
            was_hurt: false,
            may_be_paused: false,
            moved_at: now,
            unread_since: None,
        }
    }

    /// What epoll would tell of it, as tcp_poll() computes it.
    pub(crate) fn state(&mut self) -> u32 {
        if self.is_connecting {
            return 0;
        }
        let receives_no_more = self.fin_came || self.is_dead;
        let sends_no_more = self.has_finished || self.is_dead;
        let mut state = 0;
        if self.is_dead || (receives_no_more && sends_no_more) {
            state |= HANG_UP;
        }
        if receives_no_more {
            state |= IN | PEER_HAS_FINISHED;
        }
        if self.arrived.len() > 0 {
            state |= IN;
        }
        if sends_no_more || self.has_ample_room() {
            state |= OUT;
        } else {
            self.wants_room = true;
        }
        if self.urgent_mark.is_some() {
            state |= PRIORITY;
        }
        if self.error.is_some() {
            state |= ERROR;
        }
        state
    }

    /// Linux tells of room only once a third is free.
    fn has_ample_room(&self) -> bool {
        self.room_max - self.sent.len() >= self.sent.len() / 2
    }

    /// Is there an edge to tell now that room has been made?
    pub(crate) fn takes_room(&mut self) -> bool {
        self.wants_room && self.has_ample_room() && {
            self.wants_room = false;
            true
        }
    }

    pub(crate) fn has_something_to_read(&self) -> bool {
        self.arrived.len() > 0 || self.fin_came || self.is_dead
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
        if self.fin_came {
            return Ok(0);
        }
        match self.error.take() {
            Some(error) => Err(error),
            None if self.is_dead => Ok(0),
            None => Err(errno::EAGAIN),
        }
    }

    /// Takes at most `memory` of `bytes`: what the kernel can spare at the moment.
    pub(crate) fn send(&mut self, bytes: &[u8], memory: usize) -> Result<usize, i32> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.is_dead || self.has_finished {
            return Err(errno::EPIPE);
        }
        assert!(!self.is_connecting, "nothing is sent before the peer has been reached");
        let count = bytes.len().min(self.room_max - self.sent.len()).min(memory);
        if count < bytes.len() {
            self.wants_room = true;
        }
        if count == 0 {
            return Err(errno::EAGAIN);
        }
        if !self.peer_has_closed {
            self.sent.push(&bytes[..count]);
        }
        Ok(count)
    }

    /// Of one that we have begun: has it been answered? What went wrong is told once.
    pub(crate) fn is_connected(&mut self) -> Result<bool, i32> {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(!self.is_connecting),
        }
    }

    /// Our FIN.
    pub(crate) fn finish(&mut self) -> Result<(), i32> {
        if self.is_dead {
            return Err(errno::ENOTCONN);
        }
        self.has_finished = true;
        Ok(())
    }

    pub(crate) fn reset_on_close(&mut self) {
        self.resets_on_close = true;
    }

    pub(crate) fn close(&mut self) {
        if self.resets_on_close || self.arrived.len() > 0 {
            self.reset_peer();
        }
        self.has_finished = true;
        self.descriptor = None;
        self.arrived.clear();
    }

    fn reset_peer(&mut self) {
        self.is_dead = true;
        self.sent.clear(); // what the peer had not read is lost, as on many systems
    }

    fn is_closed(&self) -> bool {
        self.is_accepted && self.descriptor.is_none()
    }

    // ---- the peer's

    /// Returns whether there is an edge to tell.
    pub(crate) fn peer_sends(&mut self, bytes: &[u8]) -> bool {
        if self.is_closed() {
            self.reset_peer();
        } else if !self.is_dead {
            self.arrived.push(bytes);
            return true;
        }
        false
    }

    pub(crate) fn peer_marks_as_urgent(&mut self) {
        self.urgent_mark = Some(self.read + self.arrived.len());
    }

    pub(crate) fn peer_finishes(&mut self) {
        self.fin_came = true;
    }

    /// Whatever the peer has not read turns its close into a reset.
    pub(crate) fn peer_closes(&mut self) {
        self.peer_has_closed = true;
        if self.sent.len() > 0 { self.fail(errno::ECONNRESET) } else { self.fin_came = true }
    }

    /// Does what we have just sent reach nobody, and come back as a reset?
    pub(crate) fn is_sent_to_nobody(&self) -> bool {
        self.peer_has_closed && !self.is_dead
    }

    /// The peer's reset, or the network's word that it is gone.
    pub(crate) fn fail(&mut self, error: i32) {
        if !self.is_dead {
            let of_half_closed = self.fin_came && error == errno::ECONNRESET;
            self.error = Some(if of_half_closed { errno::EPIPE } else { error });
            self.is_dead = true;
            self.sent.clear();
        }
    }

    pub(crate) fn peer_hears(&mut self, count_max: usize) -> Heard {
        if self.is_dead {
            return Heard::Reset;
        }
        let count = self.sent.len().min(count_max);
        match count {
            0 if self.has_finished && self.sent.len() == 0 => Heard::Fin,
            0 => Heard::Nothing,
            _ => Heard::Bytes(self.sent.take(count).to_vec()),
        }
    }
}
