//! One conversation: the phases of a stream, and what is owed in each.
//!
//! ```text
//!              ┌────────────── Paused ◄─ Pause ─┐
//!              ▼ drained                        │
//!   accept ► Talking ──────────────────────────►┤──► Flushing ──► Lingering ──► ended
//!              ▲ │ output above the high mark   │  (rest of the     (our FIN is
//!              │ ▼                              │   output)          sent: discard)
//!             Held                   the peer's FIN
//! ```
//!
//! The connection owns everything that a protocol could get wrong: it keeps what the kernel did not take and sends it
//! first, stops reading a peer that does not read, answers a half-closed peer in full, and closes so that the last answer
//! survives. It has no socket: that is lent for each drive, so that all of this can be tested over a scripted one.
//!
//! Invariant 5: bytes leave `unsent` only by the count that a send returned, and `input` only by the count that the protocol
//! consumed.

use std::net::SocketAddr;

use crate::buffer::Buffer;
use crate::deadline::Time;
use crate::limits::{
    INPUT_BYTES_MAX, LINGER_BYTES_MAX, Limits, OUTPUT_BYTES_MAX, OUTPUT_HIGH_BYTES, OUTPUT_LOW_BYTES, READ_BYTES_PER_TURN,
};
use crate::protocol::{CloseReason, ConnectionId, Context, Next, Protocol};
use crate::turn::Turn;
use crate::wire::{Link, Ready, Received, Wire};

/// Where a source stands after it was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It can do nothing until the kernel tells of it or its deadline comes.
    Blocked,
    /// It has spent its budget and could go on. No edge will come for what it left (invariant 2): it must be queued.
    Unfinished,
    /// It is over.
    Ended(CloseReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// We read, and the protocol has been offered all that we read.
    Talking,
    /// `input` holds something that the protocol has not been offered, because too much output waited. It is offered
    /// before anything else is read.
    Held,
    /// The protocol takes no input until its output has drained or its alarm rings. `produced`: it has sent something
    /// since it was last asked, so it will be asked for more once that has drained. `at_end`: the peer has sent its FIN,
    /// so only output is still to come.
    Paused { produced: bool, at_end: bool },
    /// The protocol has said all. The rest of the output goes out; then we close, or linger first.
    Flushing { lingers: bool },
    /// All is sent and our FIN with it. We read and discard until the peer's FIN, or one of these.
    Lingering { until: Time, bytes_left: usize },
}

pub(crate) struct Connection {
    protocol: Box<dyn Protocol>,
    /// What has been read and not been consumed.
    input: Buffer,
    /// What has been said and not been taken by the kernel.
    unsent: Buffer,
    /// When a byte last moved.
    active: Time,
    /// When the protocol wants to be called.
    alarm: Time,
    phase: Phase,
    id: ConnectionId,
    peer: SocketAddr,
}

impl Connection {
    pub(crate) fn new(protocol: Box<dyn Protocol>, id: ConnectionId, peer: SocketAddr, now: Time) -> Connection {
        Connection {
            protocol,
            input: Buffer::default(),
            unsent: Buffer::default(),
            active: now,
            alarm: Time::NEVER,
            phase: Phase::Talking,
            id,
            peer,
        }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Lets the protocol speak first.
    pub(crate) fn open<W: Wire>(&mut self, wire: &mut W, ready: &mut Ready, turn: &mut Turn) -> Outcome {
        let mut link = Link { wire, ready, budget: READ_BYTES_PER_TURN, id: self.id };
        match self.speak(&mut link, turn, |protocol, _, cx| protocol.opened(cx)) {
            Ok(()) => Outcome::Unfinished,
            Err(why) => Outcome::Ended(why),
        }
    }

    /// Works until it blocks, ends, or has spent its budget of this turn.
    #[inline]
    pub(crate) fn drive<W: Wire>(&mut self, wire: &mut W, ready: &mut Ready, scratch: &mut [u8], turn: &mut Turn) -> Outcome {
        let mut link = Link { wire, ready, budget: READ_BYTES_PER_TURN, id: self.id };
        self.work(&mut link, scratch, turn).unwrap_or_else(Outcome::Ended)
    }

    /// Its deadline has come: rings the protocol's alarm, or ends what has been waited for in vain.
    pub(crate) fn expire<W: Wire>(&mut self, wire: &mut W, ready: &mut Ready, scratch: &mut [u8], turn: &mut Turn) -> Outcome {
        if self.deadline(&turn.limits) > turn.now {
            return Outcome::Blocked; // the promise was to look: it has been active since
        }
        match self.phase {
            Phase::Talking | Phase::Held | Phase::Paused { .. } if self.alarm <= turn.now => {
                self.alarm = Time::NEVER;
                let mut link = Link { wire, ready, budget: READ_BYTES_PER_TURN, id: self.id };
                match self.speak(&mut link, turn, |protocol, _, cx| protocol.elapsed(cx)) {
                    Ok(()) => self.work(&mut link, scratch, turn).unwrap_or_else(Outcome::Ended),
                    Err(why) => Outcome::Ended(why),
                }
            }
            Phase::Talking | Phase::Held | Phase::Paused { .. } if self.unsent.is_empty() => Outcome::Ended(CloseReason::Idle),
            Phase::Talking | Phase::Held | Phase::Paused { .. } | Phase::Flushing { .. } => Outcome::Ended(CloseReason::TooSlow),
            Phase::Lingering { .. } => Outcome::Ended(CloseReason::Finished),
        }
    }

    /// Look at me no later than this.
    #[inline]
    pub(crate) fn deadline(&self, limits: &Limits) -> Time {
        match self.phase {
            Phase::Talking | Phase::Held | Phase::Paused { .. } => {
                let patience_ms = if self.unsent.is_empty() { limits.idle_ms_max } else { limits.stall_ms_max };
                self.active.plus_ms(patience_ms).min(self.alarm)
            }
            Phase::Flushing { .. } => self.active.plus_ms(limits.stall_ms_max),
            Phase::Lingering { until, .. } => until,
        }
    }

    /// Would more input be read? (`select`'s read list.)
    pub(crate) fn wants_read(&self) -> bool {
        match self.phase {
            Phase::Talking => self.unsent.len() < OUTPUT_HIGH_BYTES,
            Phase::Lingering { .. } => true,
            Phase::Held | Phase::Paused { .. } | Phase::Flushing { .. } => false,
        }
    }

    /// Does output wait? (`select`'s write list.)
    #[inline]
    pub(crate) fn wants_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Could it do something right now, without any news from the kernel?
    pub(crate) fn can_progress(&self, ready: &Ready) -> bool {
        let not_waiting_for_the_kernel = match self.phase {
            Phase::Held => self.unsent.len() < OUTPUT_HIGH_BYTES,
            Phase::Paused { produced, .. } => produced && self.unsent.len() <= OUTPUT_LOW_BYTES,
            Phase::Flushing { .. } => self.unsent.is_empty(),
            Phase::Talking | Phase::Lingering { .. } => false,
        };
        not_waiting_for_the_kernel || (ready.readable && self.wants_read()) || (ready.writable && self.wants_write())
    }

    /// Is nothing begun, in either direction? Then it can be closed without anybody losing anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Talking && self.input.is_empty() && self.unsent.is_empty()
    }

    /// The end, told to the protocol.
    pub(crate) fn close(mut self, why: CloseReason) {
        self.protocol.closed(why);
    }

    fn work<W: Wire>(&mut self, link: &mut Link<'_, W>, scratch: &mut [u8], turn: &mut Turn) -> Result<Outcome, CloseReason> {
        loop {
            // What is owed goes first: it keeps the order, and it is what the peer waits for.
            if self.wants_write() && link.ready.writable {
                let taken = link.send(self.unsent.as_slice())?; // perhaps only half: the rest stays
                self.unsent.consume(taken);
                self.active = if taken > 0 { turn.now } else { self.active };
            }
            if link.budget == 0 {
                return Ok(if self.can_progress(link.ready) { Outcome::Unfinished } else { Outcome::Blocked });
            }
            match self.phase {
                Phase::Talking if self.unsent.len() < OUTPUT_HIGH_BYTES => {
                    let room = scratch.len().min(INPUT_BYTES_MAX - self.input.len());
                    match link.receive(&mut scratch[..room])? {
                        Received::Bytes(count) => {
                            self.active = turn.now;
                            self.hear(&scratch[..count], link, turn)?;
                        }
                        Received::End => {
                            self.phase = Phase::Paused { produced: false, at_end: true };
                            self.speak(link, turn, |protocol, rest, cx| protocol.ended(rest, cx))?;
                        }
                        Received::Nothing => return Ok(Outcome::Blocked),
                    }
                }
                Phase::Held if self.unsent.len() < OUTPUT_HIGH_BYTES => self.hear(&[], link, turn)?,
                Phase::Paused { produced: true, at_end } if self.unsent.len() <= OUTPUT_LOW_BYTES => {
                    self.phase = Phase::Paused { produced: false, at_end };
                    self.speak(link, turn, |protocol, _, cx| protocol.drained(cx))?;
                }
                Phase::Talking | Phase::Held | Phase::Paused { .. } => return Ok(Outcome::Blocked),
                Phase::Flushing { .. } if self.wants_write() => return Ok(Outcome::Blocked),
                Phase::Flushing { lingers: false } => return Err(CloseReason::Finished),
                Phase::Flushing { lingers: true } => {
                    link.wire.finish().map_err(CloseReason::from)?;
                    self.phase =
                        Phase::Lingering { until: turn.now.plus_ms(turn.limits.linger_ms_max), bytes_left: LINGER_BYTES_MAX };
                }
                Phase::Lingering { until, bytes_left } => match link.receive(scratch)? {
                    Received::Bytes(count) if count < bytes_left => {
                        self.phase = Phase::Lingering { until, bytes_left: bytes_left - count };
                    }
                    Received::Bytes(_) | Received::End => return Err(CloseReason::Finished),
                    Received::Nothing => return Ok(Outcome::Blocked),
                },
            }
        }
    }

    /// Offers the protocol what is carried and what is `fresh`, message by message, and sends all its replies at once.
    #[inline]
    fn hear<W: Wire>(&mut self, fresh: &[u8], link: &mut Link<'_, W>, turn: &mut Turn) -> Result<(), CloseReason> {
        let is_carried = !self.input.is_empty();
        if is_carried {
            self.input.append(fresh);
        }
        let window = if is_carried { self.input.as_slice() } else { fresh };
        let room = OUTPUT_HIGH_BYTES.saturating_sub(self.unsent.len());
        let mut heard = 0;
        let mut cx = Context { turn, borrowed: &[], alarm: &mut self.alarm, peer: &self.peer, id: self.id };
        let step = loop {
            let step = self.protocol.advance(&window[heard..], &mut cx);
            assert!(step.consumed <= window.len() - heard, "a protocol consumes no more than it was offered");
            heard += step.consumed;
            if step.next != Next::Continue || step.consumed == 0 || heard == window.len() || cx.waiting() >= room {
                break step;
            }
        };
        let rest = window.len() - heard;
        let reply = if cx.borrowed.is_empty() { &cx.turn.output[..] } else { cx.borrowed };
        let has_replied = !reply.is_empty();
        let sent = send_or_keep(reply, &mut self.unsent, link);
        turn.clear_output();
        sent?;
        if is_carried {
            self.input.consume(heard);
        } else {
            self.input.append(&fresh[heard..]);
        }
        if step.next != Next::Continue {
            return self.follow(step.next, has_replied, link.ready);
        }
        if step.consumed == 0 && rest >= INPUT_BYTES_MAX {
            return Err(CloseReason::TooLong);
        }
        self.phase = if rest > 0 && step.consumed > 0 { Phase::Held } else { Phase::Talking };
        Ok(())
    }

    /// Lets the protocol speak when it was not its input that came.
    fn speak<W: Wire>(
        &mut self,
        link: &mut Link<'_, W>,
        turn: &mut Turn,
        call: impl FnOnce(&mut dyn Protocol, &[u8], &mut Context<'_>) -> Next,
    ) -> Result<(), CloseReason> {
        let mut cx = Context { turn, borrowed: &[], alarm: &mut self.alarm, peer: &self.peer, id: self.id };
        let next = call(&mut *self.protocol, self.input.as_slice(), &mut cx);
        let reply = if cx.borrowed.is_empty() { &cx.turn.output[..] } else { cx.borrowed };
        let has_replied = !reply.is_empty();
        let sent = send_or_keep(reply, &mut self.unsent, link);
        turn.clear_output();
        sent?;
        self.follow(next, has_replied, link.ready)
    }

    /// Does what the protocol decided.
    fn follow(&mut self, next: Next, has_replied: bool, ready: &Ready) -> Result<(), CloseReason> {
        let (was_produced, at_end) = match self.phase {
            Phase::Paused { produced, at_end } => (produced, at_end),
            Phase::Talking | Phase::Held | Phase::Flushing { .. } | Phase::Lingering { .. } => (false, false),
        };
        self.phase = match next {
            Next::Continue if at_end => Phase::Flushing { lingers: false },
            Next::Continue if self.input.is_empty() => Phase::Talking,
            Next::Continue => Phase::Held,
            Next::Pause => Phase::Paused { produced: has_replied || was_produced, at_end },
            Next::Close => Phase::Flushing { lingers: !at_end },
            // Only what has been read is known to be all: unread input would turn our FIN into a reset.
            Next::CloseAgreed => Phase::Flushing { lingers: !at_end && (ready.readable || !self.input.is_empty()) },
            Next::Abort => return Err(CloseReason::Aborted),
        };
        if matches!(self.phase, Phase::Flushing { .. }) {
            self.input = Buffer::default(); // nobody will read it
        }
        Ok(())
    }
}

/// Sends `reply` unless older output waits; what is not taken waits behind it.
#[inline]
fn send_or_keep<W: Wire>(reply: &[u8], unsent: &mut Buffer, link: &mut Link<'_, W>) -> Result<(), CloseReason> {
    if reply.is_empty() {
        return Ok(());
    }
    let taken = if unsent.is_empty() { link.send(reply)? } else { 0 };
    unsent.append(&reply[taken..]);
    if unsent.len() > OUTPUT_BYTES_MAX { Err(CloseReason::Overrun) } else { Ok(()) }
}
