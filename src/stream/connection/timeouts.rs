//! A connection's deadlines: its timer, its timeouts, and what counts as idle.

use std::io::ErrorKind;

use super::{Connection, Phase};
use crate::clock::Time;
use crate::limits::{DRAIN_QUIET_MS, Limits, TIMER_LATE_MS};
use crate::loop_state::LoopState;
use crate::protocol::effects::Effects;
use crate::protocol::ident::CloseReason;
use crate::protocol::outcome::Outcome;
use crate::stream::readiness::{Readiness, Transport};

impl Connection {
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
}
