//! A connection: the phases of one stream, and what it does in each.
//!
//! ```text
//!     phase        accept ──────────────► Established ──► Flushing ──► Lingering ──► Ended
//!                  connect ► Connecting ──┘        Next::Close
//!
//!     read side    Open ◄─────────────────► Backpressured     Open ──► Eof
//!                  │  ▲  input read, not offered           the peer's FIN
//!      Next::Pause ▼  │ Next::Continue
//!                  Paused
//!     write side   Open ──► ShutdownPending ──► Shut
//!           shutdown_write         all output is sent, and our FIN
//! ```
//!
//! While it is established, each half goes its own way. In `Backpressured`, input has been read but
//! not offered yet: output or effects are above a watermark, or the connection was paused. Only in
//! `Open` is anything read, the peer's FIN included. In `Eof`, `Next::Continue` closes, too: no
//! input is left. `Flushing` sends the rest of the output. `Lingering` discards input after our
//! FIN. An abort, an error or a timeout leads to `Ended` from every phase.
//!
//! The connection does what a protocol could get wrong. It keeps the output that the kernel has not
//! taken, and sends it first. It stops reading a peer that does not read. It answers a half-closed
//! peer in full, and closes so that the last answer arrives. It has no socket: each drive is lent a
//! transport, so that the tests can use a scripted one.
//!
//! Invariant 5: bytes leave the output only by the count that a send returned, and the input only
//! by the count that the protocol consumed.

mod phase; // the phases, and the two halves of an established connection
mod commands; // what other connections and the loop do to a connection
mod feed; // input offered to the protocol, and what it decides
mod output; // how output leaves, and what layers add to it
mod timeouts; // deadlines, timers, idleness

use self::phase::{Blocks, CloseMode, Phase, ReadSide, WriteSide};
use crate::limits::{HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, LOW_WATERMARK_BYTES, STEP_COST_BYTES};
use crate::loop_limits::ListenerIndex;
use crate::loop_state::LoopState;
use crate::peers::KeptPeer;
use crate::protocol::context::ConnectionMeta;
use crate::protocol::effects::Effects;
use crate::protocol::ident::{CloseReason, ConnectionId};
use crate::protocol::outcome::Outcome;
use crate::protocol::protocol::Protocol;
use crate::stream::buffer::Buffers;
use crate::stream::readiness::{Readiness, Received, Registered, Transport, receive};
use crate::time::{KeptTime, Time};

pub(crate) struct Connection {
    protocol: Box<dyn Protocol>,
    /// The input and the output that wait.
    buffers: Buffers,
    /// The time from which the current timeout counts. Idle timeout, and that of the first byte:
    /// when a byte last moved. Write timeout: when the kernel last took some of the output, or when
    /// it began to wait. Linger timeout: when our FIN was sent. Connect timeout: when the connect
    /// began.
    last_activity: KeptTime,
    phase: Phase,
    write_side: WriteSide,
    /// An accepted connection whose peer has not sent a byte yet.
    is_silent: bool,
    /// Whose limits it has.
    listener: ListenerIndex,
    meta: ConnectionMeta,
}

#[cfg(target_pointer_width = "64")]
const _: () =
    assert!(size_of::<Connection>() == 56, "it is full, and grows by eight bytes at a time");

impl Connection {
    pub(crate) fn new(
        mut protocol: Box<dyn Protocol>,
        id: ConnectionId,
        peer: KeptPeer,
        now: Time,
    ) -> Connection {
        let has_layers = protocol.layers().is_some();
        Connection {
            protocol,
            buffers: Buffers::default(),
            last_activity: now.into(),
            phase: Phase::Established(ReadSide::Open),
            is_silent: true,
            write_side: WriteSide::Open { has_layers },
            listener: ListenerIndex::REACTOR,
            meta: ConnectionMeta { timer: KeptTime::NEVER, peer, id },
        }
    }

    /// Makes a connection whose connect is in progress.
    pub(crate) fn outbound(
        protocol: Box<dyn Protocol>,
        id: ConnectionId,
        peer: KeptPeer,
        now: Time,
    ) -> Connection {
        let phase = Phase::Connecting { then: None };
        Connection { phase, is_silent: false, ..Connection::new(protocol, id, peer, now) }
    }

    /// Gives it the limits of `listener`, which has accepted it.
    pub(crate) fn set_listener(&mut self, listener: ListenerIndex) {
        self.listener = listener;
    }

    pub(crate) fn listener(&self) -> ListenerIndex {
        self.listener
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.meta.id
    }

    pub(crate) fn peer(&self) -> KeptPeer {
        self.meta.peer
    }

    /// Calls the protocol's `opened`, once, before the first drive.
    pub(crate) fn open<T: Transport>(
        &mut self,
        transport: &T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        self.call_protocol(transport, ready, state, effects, |protocol, _, cx| protocol.opened(cx));
    }

    /// Reads, calls the protocol and writes until the connection blocks, ends or has spent its
    /// budget of this turn.
    #[inline(always)]
    pub(crate) fn drive<T: Transport>(
        &mut self,
        transport: &T,
        ready: &mut Readiness,
        scratch: &mut [u8],
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        // Fast path: one read and one reply, with nothing left over. Nearly every drive is like
        // this, and needs none of the checks in `run_until_blocked`.
        if self.is_idle() {
            self.read(transport, ready, scratch, state, effects);
            if self.is_idle() && !ready.readable() {
                return Outcome::Idle;
            }
        }
        self.run_until_blocked(transport, ready, scratch, state, effects)
    }

    /// Drives the connection as if it were ready in both directions: input may have arrived that
    /// epoll has not reported yet.
    pub(crate) fn probe<T: Transport>(
        &mut self,
        transport: &T,
        ready: &mut Readiness,
        scratch: &mut [u8],
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        ready.set_both();
        self.run_until_blocked(transport, ready, scratch, state, effects)
    }

    /// Returns whether more input would be read on EPOLLIN.
    pub(crate) fn wants_read(&self) -> bool {
        match self.phase {
            Phase::Established(ReadSide::Open) => self.own_output() < HIGH_WATERMARK_BYTES,
            Phase::Lingering { .. } => true,
            Phase::Established(_)
            | Phase::Flushing { .. }
            | Phase::Connecting { .. }
            | Phase::Ended(_) => false,
        }
    }

    /// Returns whether output waits, to be sent on EPOLLOUT.
    pub(crate) fn wants_write(&self) -> bool {
        !self.buffers.output().is_empty()
    }

    /// Returns since when output has waited for a TCP peer to take any of it.
    pub(crate) fn output_waits_since(&self) -> Option<Time> {
        let waits = self.wants_write() && self.meta.peer != KeptPeer::Unix;
        waits.then_some(self.last_activity.get())
    }

    /// Returns how much of the output its own protocol has sent, in bytes.
    ///
    /// Only this part is compared with the high watermark, because only this part grows by reading.
    /// Output from other connections must not stop the reading. Otherwise a proxy would read each
    /// of its peers only when the other one reads, and a peer that answers as it reads would never
    /// be read again.
    fn own_output(&self) -> usize {
        self.buffers.own_output()
    }

    /// Returns the events that it needs from the poller.
    pub(crate) fn interest(&self) -> Registered {
        if self.wants_write() { Registered::ReadingAndWriting } else { Registered::Reading }
    }

    /// Returns whether its connect is in progress.
    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.phase, Phase::Connecting { .. })
    }

    /// Returns whether a drive would do something now, without a further event (invariant 2).
    pub(crate) fn can_progress(&self, ready: &Readiness) -> bool {
        let needs_no_event = match self.phase {
            Phase::Established(read_side) => match read_side {
                ReadSide::Open => false,
                ReadSide::Resumed { .. } => true,
                ReadSide::Backpressured => self.own_output() < HIGH_WATERMARK_BYTES,
                ReadSide::Paused { .. } | ReadSide::Eof { .. } => {
                    (read_side.wants_output_low()
                        && self.buffers.output().len() <= LOW_WATERMARK_BYTES)
                        || read_side.needs_peer_check(ready.peer_check())
                }
            },
            Phase::Flushing { .. } => !self.wants_write(),
            Phase::Connecting { .. } => ready.writable(),
            Phase::Ended(_) => true,
            Phase::Lingering { .. } => false,
        };
        needs_no_event
            || self.must_finish_layers()
            || (ready.readable() && self.wants_read())
            || (ready.writable() && self.wants_write())
    }

    /// Returns whether nothing is under way in either direction.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Established(ReadSide::Open)) && self.buffers.are_empty()
    }

    /// Returns whether our FIN is sent and only the peer's is awaited.
    pub(crate) fn is_lingering(&self) -> bool {
        matches!(self.phase, Phase::Lingering { .. })
    }

    /// Runs steps until the connection blocks, ends or has spent its budget. Each step sends what
    /// waits, and then does one thing that the phase allows.
    #[inline(never)] // else it takes registers from the path of each message
    fn run_until_blocked<T: Transport>(
        &mut self,
        transport: &T,
        ready: &mut Readiness,
        scratch: &mut [u8],
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        if let Phase::Connecting { then } = self.phase
            && ready.writable()
        {
            self.finish_connect(then, transport, ready, state, effects);
            if let Phase::Ended(why) = self.phase {
                return Outcome::Ended(why); // output that waits has no peer to go to
            }
        }
        let share = state.budget.stream_share();
        loop {
            state.budget.charge(STEP_COST_BYTES);
            if self.must_finish_layers() {
                self.finish_layers(state);
            }
            // Output that waits goes first: this keeps the order, and the peer waits for it.
            if self.wants_write() && ready.writable() {
                self.flush(transport, ready, state, effects);
            }
            // From the high watermark of effects on, they are applied before the protocol may add
            // more.
            if state.budget.share_is_spent(share) || effects.is_above_high_watermark() {
                return if self.can_progress(ready) {
                    Outcome::Unfinished
                } else {
                    Outcome::Blocked
                };
            }
            match self.phase {
                Phase::Established(ReadSide::Open)
                    if ready.readable() && self.own_output() < HIGH_WATERMARK_BYTES =>
                {
                    self.read(transport, ready, scratch, state, effects);
                }
                Phase::Established(ReadSide::Backpressured)
                    if self.own_output() < HIGH_WATERMARK_BYTES =>
                {
                    self.feed_buffered(transport, ready, state, effects);
                }
                Phase::Established(ReadSide::Resumed { wants_output_low }) => {
                    self.phase = Phase::Established(ReadSide::Paused { wants_output_low });
                    self.resume_layers(transport, ready, state, effects);
                }
                Phase::Established(read_side)
                    if read_side.wants_output_low()
                        && self.buffers.output().len() <= LOW_WATERMARK_BYTES =>
                {
                    self.phase = Phase::Established(read_side.without_wait());
                    self.call_protocol(transport, ready, state, effects, |protocol, _, cx| {
                        protocol.output_low(cx)
                    });
                }
                Phase::Established(read_side) if read_side.needs_peer_check(ready.peer_check()) => {
                    self.check_peer(read_side, transport, ready);
                }
                Phase::Established(_) => return Outcome::Blocked,
                Phase::Flushing { .. } if self.wants_write() => return Outcome::Blocked,
                Phase::Flushing { close_mode: CloseMode::Immediate } => {
                    return self.end(CloseReason::Finished);
                }
                // No short read has shown that nothing is unread, so ask.
                Phase::Flushing { close_mode: CloseMode::IfNothingUnread }
                    if ready.readable() && ready.short_read_inconclusive() =>
                {
                    match receive(transport, ready, scratch) {
                        Ok(Received::Bytes(count)) => {
                            state.budget.charge(count);
                            state.stats.bytes_in += count as u64;
                            self.phase = Phase::Flushing { close_mode: CloseMode::Linger };
                        }
                        Ok(Received::Eof | Received::WouldBlock) => {} // it is not readable now
                        Err(why) => self.phase = Phase::Ended(why),
                    }
                }
                // If no output came before it, our FIN is sent here. Left to close(2), it would
                // become a reset if input arrived meanwhile.
                Phase::Flushing { close_mode } => {
                    let ends = close_mode == CloseMode::IfNothingUnread && !ready.readable();
                    self.phase = if ends {
                        Phase::Ended(CloseReason::Finished)
                    } else {
                        Phase::Lingering { blocks_left: Blocks::MAX }
                    };
                    self.shutdown_write(transport, state); // if it fails, that is the end
                    if let Phase::Ended(why) = self.phase {
                        return Outcome::Ended(why);
                    }
                }
                Phase::Lingering { .. } if !ready.readable() => return Outcome::Blocked,
                Phase::Lingering { blocks_left } => {
                    self.phase = match receive(transport, ready, scratch) {
                        Ok(Received::Bytes(count)) => {
                            state.budget.charge(count);
                            state.stats.bytes_in += count as u64;
                            match blocks_left.after(count) {
                                Some(blocks_left) => Phase::Lingering { blocks_left },
                                None => Phase::Ended(CloseReason::Finished),
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

    /// Reads once, and offers the protocol what was read.
    #[inline(always)]
    fn read<T: Transport>(
        &mut self,
        transport: &T,
        ready: &mut Readiness,
        scratch: &mut [u8],
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        let room = scratch.len().min(INPUT_BYTES_MAX - self.buffers.input().len());
        match receive(transport, ready, &mut scratch[..room]) {
            Ok(Received::Bytes(count)) => {
                self.is_silent = false;
                if !self.wants_write() {
                    self.last_activity = state.clock.now.into();
                }
                state.budget.charge(count);
                state.stats.bytes_in += count as u64;
                if self.buffers.input().is_empty() {
                    let consumed = self.feed(&scratch[..count], transport, ready, state, effects);
                    if consumed < count {
                        self.buffers.append_input(&scratch[consumed..count]);
                    }
                } else {
                    self.buffers.append_input(&scratch[..count]);
                    self.feed_buffered(transport, ready, state, effects);
                }
            }
            Ok(Received::Eof) => {
                self.is_silent = false;
                let wants_output_low = self.own_output() > LOW_WATERMARK_BYTES;
                self.phase = Phase::Established(ReadSide::Eof { wants_output_low });
                self.call_protocol(transport, ready, state, effects, |protocol, rest, cx| {
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
