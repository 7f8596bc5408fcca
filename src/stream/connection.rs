//! One conversation: the phases of a stream, and what is owed in each.
//!
//! ```text
//!                         ┌────────────── Paused ◄─ Pause ─┐
//!                         ▼ drained                        │
//!   accept ► Silent ► Talking ────────────────────────────►┤──► Flushing ──► Lingering ──► ended
//!                         ▲ │ output above the high mark   │  (rest of the     (our FIN is
//!                         │ ▼                              │   output)          sent: discard)
//!                        Held                   the peer's FIN
//! ```
//!
//! A connection that we begin is `Connecting` first, and then `Open`.
//!
//! The connection owns everything that a protocol could get wrong: it keeps what the kernel did not take and sends it
//! first, stops reading a peer that does not read, answers a half-closed peer in full, and closes so that the last answer
//! survives. It has no socket: that is meta for each drive, so that all of this can be tested over a scripted one.
//!
//! Invariant 5: bytes leave `output` only by the count that a send returned, and `input` only by the count that the protocol
//! consumed.

mod phase; // the phases, and what holds in each
mod commands; // what other connections, and the loop, ask of a connection
mod feed; // what is put to the protocol, and what it decides
mod timeouts; // deadlines, timers, idleness

use log::trace;

use self::phase::{AfterConnect, CloseMode, Phase, WriteSide};
use crate::clock::Time;
use crate::limits::{
    HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, LINGER_BYTES_MAX, LOW_WATERMARK_BYTES, STEP_BYTES,
};
use crate::loop_state::LoopState;
use crate::protocol::context::ConnectionMeta;
use crate::protocol::effects::Effects;
use crate::protocol::ident::{CloseReason, ConnectionId, Peer};
use crate::protocol::outcome::Outcome;
use crate::protocol::protocol::Protocol;
use crate::stream::buffer::Buffer;
use crate::stream::readiness::{Readiness, Received, Registered, Transport, receive, send};

pub(crate) struct Connection {
    protocol: Box<dyn Protocol>,
    /// What has been read and not been consumed.
    input: Buffer,
    /// What has been said and not been taken by the kernel.
    output: Buffer,
    /// When a byte last moved; while output waits, when the peer last took some of it; when we sent our FIN.
    last_activity: Time,
    phase: Phase,
    write_side: WriteSide,
    /// How many bytes of `output` others have sent, at most.
    relayed_output: u32,
    meta: ConnectionMeta,
}

impl Connection {
    pub(crate) fn new(
        protocol: Box<dyn Protocol>,
        id: ConnectionId,
        peer: Peer,
        now: Time,
    ) -> Connection {
        Connection {
            protocol,
            input: Buffer::default(),
            output: Buffer::default(),
            last_activity: now,
            phase: Phase::AwaitingFirstByte,
            write_side: WriteSide::Open,
            relayed_output: 0,
            meta: ConnectionMeta { timer: Time::NEVER, peer, id },
        }
    }

    /// One that has been begun and not been reached.
    pub(crate) fn outbound(
        protocol: Box<dyn Protocol>,
        id: ConnectionId,
        peer: Peer,
        now: Time,
    ) -> Connection {
        let phase = Phase::Connecting { then: AfterConnect::StayOpen };
        Connection { phase, ..Connection::new(protocol, id, peer, now) }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.meta.id
    }

    pub(crate) fn peer(&self) -> Peer {
        self.meta.peer
    }

    /// Lets the protocol speak first.
    pub(crate) fn open<W: Transport>(
        &mut self,
        wire: &mut W,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        self.call_protocol(wire, ready, state, effects, |protocol, _, cx| protocol.opened(cx));
    }

    /// Works until it blocks, ends, or has spent its budget of this turn.
    #[inline(always)]
    pub(crate) fn drive<W: Transport>(
        &mut self,
        wire: &mut W,
        ready: &mut Readiness,
        scratch: &mut [u8],
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        // Nearly every drive is one read and one reply, with nothing left over; it need not ask all that `run_until_blocked` asks.
        if self.is_idle() {
            self.read(wire, ready, scratch, state, effects);
            if self.is_idle() && !ready.readable {
                return Outcome::Idle;
            }
        }
        self.run_until_blocked(wire, ready, scratch, state, effects)
    }

    /// Drives it although the kernel has told nothing of it.
    pub(crate) fn probe<W: Transport>(
        &mut self,
        wire: &mut W,
        ready: &mut Readiness,
        scratch: &mut [u8],
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        (ready.readable, ready.writable) = (true, true);
        self.run_until_blocked(wire, ready, scratch, state, effects)
    }

    /// Would more input be read? (`select`'s read list.)
    pub(crate) fn wants_read(&self) -> bool {
        match self.phase {
            Phase::AwaitingFirstByte | Phase::Open => self.own_output() < HIGH_WATERMARK_BYTES,
            Phase::Lingering { .. } => true,
            Phase::Backpressured
            | Phase::Paused { .. }
            | Phase::Flushing { .. }
            | Phase::Connecting { .. }
            | Phase::Ended(_) => false,
        }
    }

    /// Does output wait? (`select`'s write list.)
    #[inline]
    pub(crate) fn wants_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// How much waits of what its own protocol has said. To read on makes no more of it than that, and what others have sent
    /// must not keep us from reading: of two peers at the ends of a proxy, each would then read only when the other does,
    /// and a peer that answers as it reads would never do so again. (Where bytes of both kinds wait, its own count as sent
    /// first.)
    #[inline]
    fn own_output(&self) -> usize {
        self.output.len() - self.relayed_output as usize
    }

    /// What the kernel has to tell of it.
    #[inline]
    pub(crate) fn interest(&self) -> Registered {
        if self.wants_write() { Registered::ReadingAndWriting } else { Registered::Reading }
    }

    /// Could it do something right now, without any news from the kernel?
    pub(crate) fn can_progress(&self, ready: &Readiness) -> bool {
        let not_waiting_for_the_kernel = match self.phase {
            Phase::Backpressured => self.own_output() < HIGH_WATERMARK_BYTES,
            Phase::Paused { awaits_output_low: produced, .. } => {
                produced && self.output.len() <= LOW_WATERMARK_BYTES
            }
            Phase::Flushing { .. } => self.output.is_empty(),
            Phase::Connecting { .. } => ready.writable,
            Phase::Ended(_) => true,
            Phase::AwaitingFirstByte | Phase::Open | Phase::Lingering { .. } => false,
        };
        not_waiting_for_the_kernel
            || (ready.readable && self.wants_read())
            || (ready.writable && self.wants_write())
    }

    /// Is nothing begun, in either direction?
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::AwaitingFirstByte | Phase::Open)
            && self.input.is_empty()
            && self.output.is_empty()
    }

    /// Is nothing left to do but to wait for the peer's FIN?
    pub(crate) fn is_lingering(&self) -> bool {
        matches!(self.phase, Phase::Lingering { .. })
    }

    fn run_until_blocked<W: Transport>(
        &mut self,
        wire: &mut W,
        ready: &mut Readiness,
        scratch: &mut [u8],
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        if let Phase::Connecting { then } = self.phase
            && ready.writable
        {
            self.finish_connect(then, wire, ready, state, effects);
            if let Phase::Ended(why) = self.phase {
                return Outcome::Ended(why); // what waits has nobody to go to
            }
        }
        let moved_before = state.stats.bytes_moved();
        let mut steps = 0;
        loop {
            steps += 1;
            // What is owed goes first: it keeps the order, and it is what the peer waits for.
            if self.wants_write() && ready.writable {
                self.flush(wire, ready, state, effects);
            }
            // What is to be done to others is done before more is asked for.
            let is_spent = state.stats.bytes_moved() - moved_before + steps * STEP_BYTES
                >= state.budget.bytes_each;
            if is_spent || effects.is_above_high_watermark() {
                return if self.can_progress(ready) {
                    Outcome::Unfinished
                } else {
                    Outcome::Blocked
                };
            }
            match self.phase {
                Phase::AwaitingFirstByte | Phase::Open
                    if ready.readable && self.own_output() < HIGH_WATERMARK_BYTES =>
                {
                    self.read(wire, ready, scratch, state, effects);
                }
                Phase::Backpressured if self.own_output() < HIGH_WATERMARK_BYTES => {
                    self.feed_buffered(wire, ready, state, effects);
                }
                Phase::Paused { awaits_output_low: true, at_eof: at_end }
                    if self.output.len() <= LOW_WATERMARK_BYTES =>
                {
                    self.phase = Phase::Paused { awaits_output_low: false, at_eof: at_end };
                    self.call_protocol(wire, ready, state, effects, |protocol, _, cx| {
                        protocol.output_low(cx)
                    });
                }
                Phase::AwaitingFirstByte
                | Phase::Open
                | Phase::Backpressured
                | Phase::Paused { .. } => {
                    return Outcome::Blocked;
                }
                Phase::Flushing { .. } if self.wants_write() => return Outcome::Blocked,
                Phase::Flushing { last: CloseMode::Immediate } => {
                    return self.end(CloseReason::Finished);
                }
                Phase::Flushing { last: CloseMode::IfNothingUnread } if !ready.readable => {
                    return self.end(CloseReason::Finished);
                }
                Phase::Flushing { last: CloseMode::IfNothingUnread | CloseMode::Linger } => {
                    self.phase = Phase::Lingering { bytes_left: LINGER_BYTES_MAX };
                    self.shutdown_write(wire, state);
                }
                Phase::Lingering { .. } if !ready.readable => return Outcome::Blocked,
                Phase::Lingering { bytes_left } => {
                    self.phase = match receive(wire, ready, self.meta.id, scratch) {
                        Ok(Received::Bytes(count)) => {
                            state.stats.bytes_in += count as u64;
                            match bytes_left
                                .saturating_sub(u32::try_from(count).unwrap_or(u32::MAX))
                            {
                                0 => Phase::Ended(CloseReason::Finished),
                                bytes_left => Phase::Lingering { bytes_left },
                            }
                        }
                        Ok(Received::Eof) => Phase::Ended(CloseReason::Finished),
                        Ok(Received::WouldBlock) => return Outcome::Blocked,
                        Err(why) => Phase::Ended(why),
                    }
                }
                Phase::Connecting { .. } => return Outcome::Blocked,
                Phase::Ended(why) => return Outcome::Ended(why),
            }
        }
    }

    fn end(&mut self, why: CloseReason) -> Outcome {
        self.phase = Phase::Ended(why);
        Outcome::Ended(why)
    }

    /// Sends what the kernel takes of what is owed.
    fn flush<W: Transport>(
        &mut self,
        wire: &mut W,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        match send(wire, ready, self.meta.id, self.output.as_slice()) {
            Ok(taken) => {
                let was_above = self.output.len() > LOW_WATERMARK_BYTES;
                self.output.consume(taken); // perhaps only half: the rest stays
                let left = u32::try_from(self.output.len()).unwrap_or(u32::MAX);
                self.relayed_output = self.relayed_output.min(left);
                state.stats.bytes_out += taken as u64;
                self.last_activity = if taken > 0 { state.clock.now } else { self.last_activity };
                if was_above && self.output.len() <= LOW_WATERMARK_BYTES {
                    effects.on_output_low(self.meta.id);
                }
                if self.write_side == WriteSide::ShutdownPending && self.output.is_empty() {
                    self.shutdown_write(wire, state);
                }
            }
            Err(why) => self.phase = Phase::Ended(why),
        }
    }

    /// Sends our FIN, unless that is done.
    fn shutdown_write<W: Transport>(&mut self, wire: &mut W, state: &LoopState) {
        self.last_activity = state.clock.now;
        if self.write_side == WriteSide::Shut {
            return;
        }
        self.write_side = WriteSide::Shut;
        let finished = wire.shutdown_write();
        trace!("{} shutdown -> {finished:?}", self.meta.id);
        if let Err(error) = finished {
            self.phase = Phase::Ended(error.into());
        } else if matches!(self.phase, Phase::Paused { at_eof: true, .. }) {
            self.phase = Phase::Flushing { last: CloseMode::Immediate }; // both have said all
        }
    }

    /// Reads once, and has the protocol hear what came.
    #[inline(always)]
    fn read<W: Transport>(
        &mut self,
        wire: &mut W,
        ready: &mut Readiness,
        scratch: &mut [u8],
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        let room = scratch.len().min(INPUT_BYTES_MAX - self.input.len());
        match receive(wire, ready, self.meta.id, &mut scratch[..room]) {
            Ok(Received::Bytes(count)) => {
                if self.phase == Phase::AwaitingFirstByte {
                    self.phase = Phase::Open;
                }
                if self.output.is_empty() {
                    self.last_activity = state.clock.now;
                }
                state.stats.bytes_in += count as u64;
                if self.input.is_empty() {
                    let heard = self.feed(&scratch[..count], wire, ready, state, effects);
                    if heard < count {
                        self.input.append(&scratch[heard..count]);
                    }
                } else {
                    self.input.append(&scratch[..count]);
                    self.feed_buffered(wire, ready, state, effects);
                }
            }
            Ok(Received::Eof) => {
                self.phase = Phase::Paused {
                    awaits_output_low: self.own_output() > LOW_WATERMARK_BYTES,
                    at_eof: true,
                };
                self.call_protocol(wire, ready, state, effects, |protocol, rest, cx| {
                    protocol.eof(rest, cx)
                });
            }
            Ok(Received::WouldBlock) => {}
            Err(why) => self.phase = Phase::Ended(why),
        }
    }
}

#[cfg(test)]
mod tests;
