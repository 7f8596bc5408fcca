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

use std::io::ErrorKind;

use log::trace;

use crate::clock::Time;
use crate::limits::{
    DRAIN_QUIET_MS, HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, LINGER_BYTES_MAX, LOW_WATERMARK_BYTES,
    Limits, OUTPUT_BYTES_MAX, STEP_BYTES, TIMER_LATE_MS,
};
use crate::loop_state::LoopState;
use crate::protocol::context::{ConnectionMeta, Context};
use crate::protocol::effects::{Command, Effects};
use crate::protocol::ident::{CloseReason, ConnectionId, Peer};
use crate::protocol::notification::{Notification, PendingNotification};
use crate::protocol::outcome::Outcome;
use crate::protocol::protocol::{Advance, Next, Protocol};
use crate::stream::buffer::Buffer;
use crate::stream::readiness::{Readiness, Received, Registered, Transport, receive, send};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The peer has not said anything yet. Else as `Open`.
    AwaitingFirstByte,
    /// We read, and the protocol has been offered all that we read.
    Open,
    /// `input` holds something that the protocol has not been offered, because too much output waited or it was paused.
    /// It is offered before anything else is read.
    Backpressured,
    /// The protocol takes no input until its output has drained or its alarm rings. `awaits_output_low`: it said something when it
    /// paused, or older output waited then, so it will be asked for more once that has drained. `at_eof`: the peer has
    /// sent its FIN, so only output is still to come.
    Paused { awaits_output_low: bool, at_eof: bool },
    /// The protocol has said all. The rest of the output goes out, and then what `last` says.
    Flushing { last: CloseMode },
    /// All is sent and our FIN with it (that was when `last_activity` says). We read and discard until the peer's FIN, but not for
    /// ever, and not more than so many bytes.
    Lingering { bytes_left: u32 },
    /// We have begun it, when `last_activity` says, and the peer has not been reached yet. What others send waits; `then` is what
    /// else they have asked for.
    Connecting { then: AfterConnect },
    /// Over, for this reason.
    Ended(CloseReason),
}

/// What becomes of a connection once its peer has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterConnect {
    StayOpen,
    ShutdownWrite,
    Close,
}

/// How a connection closes whose output has gone. Unread input would turn our FIN into a reset that destroys the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CloseMode {
    /// At once: the peer's FIN has been read, so nothing can be unread.
    Immediate,
    /// At once, unless something has come that has not been read: the peer has said that it would say no more.
    IfNothingUnread,
    /// After our FIN, what the peer still sends is read and discarded for a while.
    Linger,
}

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

/// What becomes of our direction while the peer's is still heard, when somebody has asked for our FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteSide {
    Open,
    /// Our FIN follows when what waits has been sent. Nothing is taken from others any more.
    ShutdownPending,
    /// Our FIN is sent.
    Shut,
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

    /// Its deadline has come: rings the protocol's alarm, or ends what has been waited for in vain.
    pub(crate) fn expire<W: Transport>(
        &mut self,
        wire: &mut W,
        ready: &mut Readiness,
        scratch: &mut [u8],
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        if self.deadline(&state.limits) > state.clock.now {
            return Outcome::Blocked; // the promise was to look: it has been active since
        }
        match self.phase {
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. }
                if self.meta.timer <= state.clock.now =>
            {
                // Late; or there is news of it, and it has been put off.
                if self.meta.timer.plus_ms(TIMER_LATE_MS) <= state.clock.now || ready.readable {
                    let outcome = self.probe(wire, ready, scratch, state, effects);
                    let still_waits = match self.phase {
                        Phase::AwaitingFirstByte
                        | Phase::Open
                        | Phase::Backpressured
                        | Phase::Paused { .. } => self.meta.timer <= state.clock.now,
                        Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Ended(_) => false,
                        Phase::Connecting { .. } => false,
                    };
                    if !still_waits {
                        return outcome; // what it waited for had come, or all has been said
                    }
                }
                self.meta.timer = Time::NEVER;
                self.call_protocol(wire, ready, state, effects, |protocol, _, cx| {
                    protocol.timer_expired(cx)
                });
                self.run_until_blocked(wire, ready, scratch, state, effects)
            }
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. }
            | Phase::Flushing { .. } => {
                // Who has stopped reading until another has drained does nothing that could move a byte, and is no idler for it.
                // How long that may take is for the other's deadlines to say.
                if matches!(self.phase, Phase::Paused { .. })
                    && !self.wants_write()
                    && effects.waits_for_low_watermark(self.meta.id)
                {
                    self.last_activity = state.clock.now;
                    return Outcome::Blocked;
                }
                // The loop may be late itself, and not have heard of what has come: so look once more.
                let (_, why) = self.timeout_rule(&state.limits);
                // Who does not take its bytes is not excused by sending others.
                let counts_input = !self.wants_write();
                let moved = |state: &LoopState| {
                    if counts_input { state.stats.bytes_moved() } else { state.stats.bytes_out }
                };
                let moved_before = moved(state);
                let outcome = self.probe(wire, ready, scratch, state, effects);
                // Somebody may have closed it a moment ago: then it has just sent its FIN, and begins to linger.
                let has_gone_on = matches!(outcome, Outcome::Ended(_)) || self.is_lingering();
                let nothing_came = moved(state) == moved_before && !has_gone_on;
                if nothing_came { Outcome::Ended(why) } else { outcome }
            }
            Phase::Lingering { .. } => Outcome::Ended(CloseReason::Finished),
            Phase::Connecting { .. } => {
                let outcome = self.probe(wire, ready, scratch, state, effects);
                let is_late = matches!(self.phase, Phase::Connecting { .. }); // and the loop is not
                if is_late {
                    Outcome::Ended(CloseReason::ConnectFailed(ErrorKind::TimedOut))
                } else {
                    outcome
                }
            }
            Phase::Ended(why) => Outcome::Ended(why),
        }
    }

    /// Look at me no later than this.
    #[inline]
    pub(crate) fn deadline(&self, limits: &Limits) -> Time {
        match self.phase {
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. } => {
                self.last_activity.plus_ms(self.timeout_rule(limits).0).min(self.meta.timer)
            }
            Phase::Flushing { .. } => self.last_activity.plus_ms(limits.write_timeout_ms),
            Phase::Lingering { .. } => self.last_activity.plus_ms(limits.linger_timeout_ms),
            Phase::Connecting { .. } => self.last_activity.plus_ms(limits.connect_timeout_ms),
            Phase::Ended(_) => Time::NEVER,
        }
    }

    /// How many milliseconds may pass without a byte moving, and what it ends as then.
    #[inline]
    fn timeout_rule(&self, limits: &Limits) -> (u64, CloseReason) {
        match () {
            () if self.wants_write() => (limits.write_timeout_ms, CloseReason::WriteTimeout),
            () if self.phase == Phase::AwaitingFirstByte
                && limits.first_byte_timeout_ms < limits.idle_timeout_ms =>
            {
                (limits.first_byte_timeout_ms, CloseReason::FirstByteTimeout)
            }
            () => (limits.idle_timeout_ms, CloseReason::IdleTimeout),
        }
    }

    /// When to look at it, so that its deadline is not missed whatever it does meanwhile: as long as bytes move, the deadline
    /// only moves back, but it may come to be of the other kind. It is counted from `now`, not from when a byte last moved: a
    /// moment that has passed would be looked at in every turn.
    pub(crate) fn filing_time(&self, limits: &Limits, now: Time) -> Time {
        self.deadline(limits).min(now.plus_ms(limits.idle_timeout_ms))
    }

    /// When the protocol wants to be called.
    #[inline]
    pub(crate) fn timer(&self) -> Time {
        self.meta.timer
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

    /// When, if nothing moves until then, a stop may take it for one on which nothing is under way. `None`: something is.
    pub(crate) fn idle_at(&self) -> Option<Time> {
        match self.phase {
            // Nothing has been said to the peer yet.
            Phase::Connecting { .. } => self.output.is_empty().then_some(self.last_activity),
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. } => self.idle_since(),
            Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Ended(_) => None,
        }
        .map(|since| since.plus_ms(DRAIN_QUIET_MS))
    }

    /// Since when nothing has moved, if nothing is under way. `None`: something is.
    pub(crate) fn idle_since(&self) -> Option<Time> {
        let is_quiet = self.is_idle() && self.meta.timer == Time::NEVER;
        is_quiet.then_some(self.last_activity)
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

    /// Ends an idle conversation from our side, or one that has not begun. What the peer still says is discarded for a
    /// while, so that it does not destroy what may still be on its way to it.
    pub(crate) fn close_idle(&mut self) {
        let is_reached = !matches!(self.phase, Phase::Connecting { .. });
        self.phase = if is_reached {
            Phase::Flushing { last: CloseMode::Linger }
        } else {
            Phase::Ended(CloseReason::Stopped)
        };
    }

    /// Would its protocol give way when there is no room?
    pub(crate) fn is_evictable(&self) -> bool {
        self.protocol.is_evictable()
    }

    /// Ends an idle conversation whose place is needed, and so without lingering. But if the peer is just speaking, what it
    /// says must not destroy what may still be on its way to it.
    pub(crate) fn evict(&mut self) {
        self.phase = Phase::Flushing { last: CloseMode::IfNothingUnread };
    }

    /// Takes `bytes` that somebody else sends to the peer, and says what there is to be told of it. They leave with the next
    /// drive; but before they would make more wait than the high mark, what the kernel takes leaves at once. So what is told
    /// is that the peer does not keep up, and not only that somebody has said much in one turn.
    pub(crate) fn push_relayed<W: Transport>(
        &mut self,
        bytes: &[u8],
        wire: &mut W,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Option<Notification> {
        let is_reached = !matches!(self.phase, Phase::Connecting { .. });
        if is_reached
            && self.wants_write()
            && ready.writable
            && self.output.len() + bytes.len() > HIGH_WATERMARK_BYTES
        {
            self.flush(wire, ready, state, effects);
        }
        let is_open = match self.phase {
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. } => self.write_side == WriteSide::Open,
            Phase::Connecting { then } => then == AfterConnect::StayOpen,
            Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Ended(_) => false,
        };
        if !is_open {
            return Some(Notification::Closed);
        }
        if self.output.len() + bytes.len() > OUTPUT_BYTES_MAX {
            return Some(Notification::Rejected);
        }
        if self.output.is_empty() && !bytes.is_empty() && is_reached {
            self.last_activity = state.clock.now; // the peer's time to take it begins
        }
        self.output.append(bytes);
        self.relayed_output += u32::try_from(bytes.len()).expect("OUTPUT_BYTES_MAX fits");
        (self.output.len() > HIGH_WATERMARK_BYTES).then_some(Notification::AboveHighWatermark)
    }

    /// Ends it, as somebody else asks for: at once, whatever it was about to do.
    pub(crate) fn abort(&mut self) {
        (self.output, self.relayed_output) = (Buffer::default(), 0);
        self.phase = Phase::Ended(CloseReason::Aborted);
    }

    /// Does what else somebody asks of it. Who closes is left alone.
    pub(crate) fn apply<W: Transport>(&mut self, wish: Command, wire: &mut W, state: &LoopState) {
        match self.phase {
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. } => {}
            Phase::Connecting { then } => {
                let then = match wish {
                    Command::Close => AfterConnect::Close,
                    Command::ShutdownWrite if then == AfterConnect::StayOpen => {
                        AfterConnect::ShutdownWrite
                    }
                    Command::ShutdownWrite | Command::Pause | Command::Resume => then,
                };
                self.phase = Phase::Connecting { then };
                return;
            }
            Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Ended(_) => return,
        }
        match wish {
            Command::Close => self.apply_next(Next::Close, false, !self.input.is_empty()),
            // There is nothing to go on with, and it has not said that it has said all.
            Command::Resume if matches!(self.phase, Phase::Paused { at_eof: true, .. }) => {}
            Command::Resume => self.apply_next(Next::Continue, false, !self.input.is_empty()),
            // Its protocol has not asked to be called when its output has drained, and is not.
            Command::Pause if !matches!(self.phase, Phase::Paused { .. }) => {
                self.phase = Phase::Paused { awaits_output_low: false, at_eof: false };
            }
            Command::Pause => {}
            Command::ShutdownWrite if self.write_side != WriteSide::Open => {}
            Command::ShutdownWrite if self.wants_write() => {
                self.write_side = WriteSide::ShutdownPending;
            }
            Command::ShutdownWrite => self.shutdown_write(wire, state),
        }
    }

    /// Tells the protocol news of another connection. Who closes has said its last word, and is told nothing.
    pub(crate) fn deliver<W: Transport>(
        &mut self,
        tiding: &PendingNotification,
        wire: &mut W,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        match self.phase {
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. } => {
                let at_end = matches!(self.phase, Phase::Paused { at_eof: true, .. });
                if tiding.ends_wait
                    && matches!(self.phase, Phase::Paused { .. })
                    && !self.wants_write()
                {
                    self.last_activity = state.clock.now; // from here on its own time counts again
                }
                self.call_protocol(wire, ready, state, effects, |protocol, _, cx| {
                    let next = protocol.notified(tiding.about, tiding.notification, cx);
                    // There is nothing to go on with, and it has not said that it has said all.
                    if at_end && next == Next::Continue { Next::Unchanged } else { next }
                });
            }
            Phase::Connecting { .. }
            | Phase::Flushing { .. }
            | Phase::Lingering { .. }
            | Phase::Ended(_) => {}
        }
    }

    /// The end, told to the protocol.
    pub(crate) fn call_closed(&mut self, why: CloseReason) {
        self.protocol.closed(why);
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

    /// The kernel has told something of a connection that we have begun: has the peer been reached?
    #[cold]
    fn finish_connect<W: Transport>(
        &mut self,
        then: AfterConnect,
        wire: &mut W,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        let reached = wire.is_connected();
        trace!("{} connect {} -> {reached:?}", self.meta.id, self.meta.peer);
        match reached {
            Ok(true) => {}
            Ok(false) => {
                ready.writable = false; // another edge comes
                return;
            }
            Err(error) => {
                self.phase = Phase::Ended(CloseReason::ConnectFailed(error.kind()));
                return;
            }
        }
        state.stats.connected += 1;
        effects.on_connected(self.meta.id);
        self.phase = Phase::Open;
        self.last_activity = state.clock.now;
        self.call_protocol(wire, ready, state, effects, |protocol, _, cx| protocol.opened(cx));
        match then {
            AfterConnect::StayOpen => {}
            AfterConnect::ShutdownWrite => self.apply(Command::ShutdownWrite, wire, state),
            AfterConnect::Close => self.apply(Command::Close, wire, state),
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

    /// Why a protocol's bytes could not be sent: if our FIN is out, it is no wonder.
    #[cold]
    fn write_error_reason(&self, why: CloseReason) -> CloseReason {
        if self.write_side == WriteSide::Shut { CloseReason::WriteAfterShutdown } else { why }
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

    /// Has the protocol hear the input that is carried.
    #[cold]
    fn feed_buffered<W: Transport>(
        &mut self,
        wire: &mut W,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        self.phase = Phase::Open;
        let mut input = std::mem::take(&mut self.input);
        let heard = self.feed(input.as_slice(), wire, ready, state, effects);
        input.consume(heard);
        self.input = input;
    }

    /// Offers the protocol `window`, message by message, and sends all its replies at once. Returns how many bytes of it are
    /// done with: those consumed, or all, once nobody will read the rest.
    #[inline(always)]
    fn feed<W: Transport>(
        &mut self,
        window: &[u8],
        wire: &mut W,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> usize {
        let mut cx = Context { state, effects, borrowed: &[], meta: &mut self.meta };
        let step = self.protocol.advance(window, &mut cx);
        if step.consumed == window.len() {
            // One message, and nothing more: as nearly always.
            match write_or_buffer(cx, &mut self.output, &mut self.last_activity, wire, ready) {
                Ok(_) if step.next == Next::Continue => {}
                Ok(has_replied) => self.apply_next(step.next, has_replied, false),
                Err(why) => self.phase = Phase::Ended(self.write_error_reason(why)),
            }
            return window.len();
        }
        let own_output = self.output.len() - self.relayed_output as usize;
        let room = HIGH_WATERMARK_BYTES.saturating_sub(own_output);
        let steps = advance_rest(step, window, room, &mut *self.protocol, &mut cx);
        match write_or_buffer(cx, &mut self.output, &mut self.last_activity, wire, ready) {
            Ok(_) => self.after_steps(&steps, window.len()),
            Err(why) => {
                self.phase = Phase::Ended(self.write_error_reason(why));
                window.len()
            }
        }
    }

    /// What follows from the steps through `offered` bytes, where they were not a single one.
    #[inline(never)]
    fn after_steps(&mut self, steps: &Steps, offered: usize) -> usize {
        let rest = offered - steps.consumed;
        match steps.last.next {
            Next::Continue | Next::Unchanged if rest == 0 => {}
            Next::Continue | Next::Unchanged if steps.last.consumed > 0 => {
                self.phase = Phase::Backpressured;
            }
            Next::Continue | Next::Unchanged if rest >= INPUT_BYTES_MAX => {
                self.phase = Phase::Ended(CloseReason::InputTooLong);
            }
            Next::Continue | Next::Unchanged => {}
            next @ (Next::Pause | Next::Close | Next::CloseWithoutLinger | Next::Abort) => {
                self.apply_next(next, steps.last_has_replied, rest > 0);
            }
        }
        match self.phase {
            Phase::AwaitingFirstByte
            | Phase::Open
            | Phase::Backpressured
            | Phase::Paused { .. } => steps.consumed,
            Phase::Flushing { .. }
            | Phase::Lingering { .. }
            | Phase::Connecting { .. }
            | Phase::Ended(_) => offered,
        }
    }

    /// Lets the protocol speak when it was not its input that came.
    fn call_protocol<W: Transport>(
        &mut self,
        wire: &mut W,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
        call: impl FnOnce(&mut dyn Protocol, &[u8], &mut Context<'_>) -> Next,
    ) {
        let mut cx = Context { state, effects, borrowed: &[], meta: &mut self.meta };
        let next = call(&mut *self.protocol, self.input.as_slice(), &mut cx);
        match write_or_buffer(cx, &mut self.output, &mut self.last_activity, wire, ready) {
            Ok(_) if next == Next::Continue && self.is_idle() => {} // as mostly
            Ok(has_replied) => self.apply_next(next, has_replied, !self.input.is_empty()),
            Err(why) => self.phase = Phase::Ended(self.write_error_reason(why)),
        }
    }

    /// Does what the protocol decided. `has_more`: the peer has said more than the protocol has heard.
    fn apply_next(&mut self, next: Next, has_replied: bool, has_more: bool) {
        let at_end = matches!(self.phase, Phase::Paused { at_eof: true, .. });
        self.phase = match next {
            Next::Continue | Next::Close | Next::CloseWithoutLinger if at_end => {
                Phase::Flushing { last: CloseMode::Immediate }
            }
            // Both have said all.
            Next::Pause | Next::Unchanged if at_end && self.write_side == WriteSide::Shut => {
                Phase::Flushing { last: CloseMode::Immediate }
            }
            Next::Continue if self.phase == Phase::AwaitingFirstByte => Phase::AwaitingFirstByte,
            Next::Continue if self.input.is_empty() => Phase::Open,
            Next::Continue => Phase::Backpressured,
            Next::Unchanged if !matches!(self.phase, Phase::Paused { .. }) => self.phase,
            Next::Pause | Next::Unchanged => Phase::Paused {
                awaits_output_low: has_replied || self.owes_output_low(),
                at_eof: at_end,
            },
            Next::CloseWithoutLinger if !has_more => {
                Phase::Flushing { last: CloseMode::IfNothingUnread }
            }
            Next::Close | Next::CloseWithoutLinger => Phase::Flushing { last: CloseMode::Linger },
            Next::Abort => Phase::Ended(CloseReason::Aborted),
        };
    }

    /// Of one that pauses and says nothing: will it be asked for more when its output has drained? Who pauses anew is if much
    /// was said before and waits; who was paused already, only for what it has said since.
    fn owes_output_low(&self) -> bool {
        if let Phase::Paused { awaits_output_low: produced, .. } = self.phase {
            produced
        } else {
            self.own_output() > LOW_WATERMARK_BYTES
        }
    }
}

/// What came of offering a window message by message.
struct Steps {
    consumed: usize,
    last: Advance,
    last_has_replied: bool,
}

/// Goes on from the `first` step, until the window is heard, the protocol wants something else, so much has been said that
/// `room` is used up, or much is to be done to others.
#[inline(never)]
fn advance_rest<'i>(
    first: Advance,
    window: &'i [u8],
    room: usize,
    protocol: &mut dyn Protocol,
    cx: &mut Context<'i>,
) -> Steps {
    let (mut last, mut heard, mut said) = (first, 0, 0);
    loop {
        assert!(
            last.consumed <= window.len() - heard,
            "a protocol consumes no more than it was offered"
        );
        heard += last.consumed;
        let has_gone_on =
            matches!(last.next, Next::Continue | Next::Unchanged) && last.consumed > 0;
        if !has_gone_on
            || heard == window.len()
            || cx.bytes_pending() >= room
            || cx.effects.is_above_high_watermark()
        {
            return Steps { consumed: heard, last, last_has_replied: cx.bytes_pending() > said };
        }
        said = cx.bytes_pending();
        last = protocol.advance(&window[heard..], cx);
    }
}

/// Sends what the protocol has said, and says whether that was anything. What the kernel does not take now, or must not
/// since older output waits, is kept.
#[inline(always)]
fn write_or_buffer<W: Transport>(
    cx: Context<'_>,
    unsent: &mut Buffer,
    active: &mut Time,
    wire: &mut W,
    ready: &mut Readiness,
) -> Result<bool, CloseReason> {
    let Context { state, borrowed, meta, .. } = cx;
    let reply = if borrowed.is_empty() { &state.output[..] } else { borrowed };
    if reply.is_empty() {
        return Ok(false);
    }
    let mut sent = Ok(0);
    if unsent.is_empty() {
        *active = state.clock.now; // the peer's time to take it begins
        sent = send(wire, ready, meta.id, reply);
    }
    if let Ok(taken) = sent {
        state.stats.bytes_out += taken as u64;
        let rest = &reply[taken..];
        if !rest.is_empty() && unsent.len() + rest.len() > OUTPUT_BYTES_MAX {
            sent = Err(CloseReason::OutputOverflow);
        } else {
            unsent.append(rest);
        }
    }
    state.clear_output();
    sent.map(|_| true)
}

#[cfg(test)]
mod tests;
