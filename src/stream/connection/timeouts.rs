//! A connection's deadlines: its timer, its timeouts, and what counts as idle.
//!
//! ```text
//!     phase                               timeout               ends as
//!     output waits (up to Flushing)       write_timeout         WriteTimeout
//!     else, Established, no first byte    first_byte_timeout    FirstByteTimeout
//!     else, Established                   idle_timeout          IdleTimeout
//!     Lingering                           linger_timeout        Finished
//!     Connecting                          connect_timeout       ConnectFailed(TimedOut)
//! ```
//!
//! The first three are those of the connection's listener, if it has its own (`ListenOptions`).
//!
//! Each timeout counts from `last_activity`. I/O only stores a new time there; no deadline is
//! cancelled or filed again. When a filed deadline is due, the connection computes its true one
//! (see `src/deadline.rs`).
//!
//! Invariant: a late loop costs no connection. Before a timeout ends one that does not linger, it
//! is driven once more, because what it waits for may have arrived.

use std::io::ErrorKind;

use super::{Connection, Phase, ReadSide};
use crate::limits::{DRAIN_QUIET_MS, TIMER_LATE_MS};
use crate::loop_limits::LoopLimits;
use crate::loop_state::LoopState;
use crate::protocol::effects::Effects;
use crate::protocol::ident::CloseReason;
use crate::protocol::outcome::Outcome;
use crate::stream::readiness::{Readiness, Transport};
use crate::time::{KeptTime, Time};

impl Connection {
    /// Acts on a filed deadline that is due: calls the protocol's `timer_expired`, or ends the
    /// connection if a timeout has passed.
    pub(crate) fn expire<T: Transport>(
        &mut self,
        transport: &T,
        ready: &mut Readiness,
        scratch: &mut [u8],
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        if self.deadline(&state.loop_limits) > state.clock.now {
            return Outcome::Blocked; // filed too early: bytes have moved since
        }
        match self.phase {
            Phase::Established(_) if self.meta.timer.get() <= state.clock.now => {
                // The loop is late, or this slot was deferred with an event: bytes may have arrived
                // before the timer expired. Drive first.
                if self.meta.timer.get().plus_ms(TIMER_LATE_MS) <= state.clock.now
                    || ready.readable()
                {
                    let outcome = self.probe(transport, ready, scratch, state, effects);
                    let still_waits = match self.phase {
                        Phase::Established(_) => self.meta.timer.get() <= state.clock.now,
                        Phase::Connecting { .. }
                        | Phase::Flushing { .. }
                        | Phase::Lingering { .. }
                        | Phase::Ended(_) => false,
                    };
                    if !still_waits {
                        return outcome; // the protocol has reset its timer, or has closed
                    }
                }
                self.meta.timer = KeptTime::NEVER;
                self.call_protocol(transport, ready, state, effects, |protocol, _, cx| {
                    protocol.timer_expired(cx)
                });
                self.run_until_blocked(transport, ready, scratch, state, effects)
            }
            Phase::Established(_) | Phase::Flushing { .. } => {
                // A connection that is paused until its timer expires, or until another's output
                // has fallen, moves no bytes by design, so the idle timeout must not fire. The
                // timer bounds the wait, or the deadlines of the other connection do.
                let is_paused = matches!(
                    self.phase,
                    Phase::Established(ReadSide::Paused { .. } | ReadSide::Eof { .. })
                );
                let waits = self.has_timer() || effects.waits_for_low_watermark(self.meta.id);
                if is_paused && !self.wants_write() && waits {
                    self.last_activity = state.clock.now.into();
                    return Outcome::Blocked;
                }
                // The loop may be late itself. Drive once more before ending the connection.
                let (_, why) = self.timeout_rule(&state.loop_limits);
                let outcome = self.probe(transport, ready, scratch, state, effects);
                let has_ended = matches!(outcome, Outcome::Ended(_));
                // Any progress has moved `last_activity`, and the deadline with it.
                if !has_ended && self.deadline(&state.loop_limits) <= state.clock.now {
                    Outcome::Ended(why)
                } else {
                    outcome
                }
            }
            Phase::Lingering { .. } => Outcome::Ended(CloseReason::Finished),
            Phase::Connecting { .. } => {
                let outcome = self.probe(transport, ready, scratch, state, effects);
                let has_timed_out = matches!(self.phase, Phase::Connecting { .. });
                if has_timed_out {
                    Outcome::Ended(CloseReason::ConnectFailed(ErrorKind::TimedOut))
                } else {
                    outcome
                }
            }
            Phase::Ended(why) => Outcome::Ended(why),
        }
    }

    /// Returns the time of the timer or of the timeout, whichever is earlier.
    pub(crate) fn deadline(&self, limits: &LoopLimits) -> Time {
        match self.phase {
            Phase::Established(_) => self
                .last_activity
                .get()
                .plus_ms(self.timeout_rule(limits).0)
                .min(self.meta.timer.get()),
            Phase::Flushing { .. } => {
                self.last_activity.get().plus_ms(limits.of(self.listener).write_ms)
            }
            Phase::Lingering { .. } => self.last_activity.get().plus_ms(limits.linger_ms),
            Phase::Connecting { .. } => self.last_activity.get().plus_ms(limits.connect_ms),
            Phase::Ended(_) => Time::NEVER,
        }
    }

    /// Returns how long no byte may move, in milliseconds, and the reason of the end after that.
    fn timeout_rule(&self, limits: &LoopLimits) -> (u64, CloseReason) {
        let limits = limits.of(self.listener);
        match () {
            () if self.wants_write() => (limits.write_ms, CloseReason::WriteTimeout),
            () if self.is_silent
                && matches!(self.phase, Phase::Established(ReadSide::Open))
                && limits.first_byte_ms < limits.idle_ms =>
            {
                (limits.first_byte_ms, CloseReason::FirstByteTimeout)
            }
            () => (limits.idle_ms, CloseReason::IdleTimeout),
        }
    }

    /// Returns the time to file: early enough for any deadline that the connection may have by
    /// then.
    ///
    /// Moving bytes only puts the deadline off. But its kind may change, from the write timeout to
    /// the idle timeout, which may be shorter, or at the end of a pause to that of the first byte.
    /// So the filed time is no more than the shortest of them away. It counts from `now`, not from
    /// `last_activity`: a time in the past would be due in every turn. (So at the end of a long
    /// pause, a peer has some time left to send its first byte.)
    pub(crate) fn filing_time(&self, limits: &LoopLimits, now: Time) -> Time {
        let own = limits.of(self.listener);
        let shortest_ms = match self.is_silent {
            true => own.idle_ms.min(own.first_byte_ms),
            false => own.idle_ms,
        };
        self.deadline(limits).min(now.plus_ms(shortest_ms))
    }

    /// Returns whether the protocol has set a timer.
    pub(crate) fn has_timer(&self) -> bool {
        !self.meta.timer.is_never()
    }

    /// Returns when the protocol's timer expires; [`Time::NEVER`] if none is set.
    pub(crate) fn timer(&self) -> Time {
        self.meta.timer.get()
    }

    /// Returns from when on a stop may close it as idle, if no byte moves until then. `None`:
    /// something is under way.
    pub(crate) fn idle_at(&self) -> Option<Time> {
        match self.phase {
            // The peer has not been sent anything yet, so nothing is lost.
            Phase::Connecting { .. } => (!self.wants_write()).then_some(self.last_activity.get()),
            Phase::Established(_) => self.idle_since(),
            Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Ended(_) => None,
        }
        .map(|since| since.plus_ms(DRAIN_QUIET_MS))
    }

    /// Returns since when no byte has moved. `None`: something is under way.
    pub(crate) fn idle_since(&self) -> Option<Time> {
        let is_inactive = self.is_idle() && !self.has_timer();
        is_inactive.then_some(self.last_activity.get())
    }
}
