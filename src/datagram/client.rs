//! A datagram protocol that speaks without having been asked: at the beginning, at its alarm, and as fast as the kernel takes it.
//!
//! ```text
//!     New ──opened──► Answering ◄───────────────┐
//!                       │   │ wake_when_writable        │ drained, once all that was said is with the kernel
//!                 close │   └────► Producing ───┘
//!                       ▼
//!                    Closing ──► ended, once all that was said is with the kernel
//! ```
//!
//! What it says waits and leaves with the replies, and is bounded with them. None of this costs those who only answer more
//! than a comparison or two for each drive.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::requests::SocketPhase;
use super::socket::DatagramSocket;
use crate::clock::Time;
use crate::limits::TIMER_LATE_MS;
use crate::loop_state::LoopState;
use crate::protocol::datagram::{DatagramProtocol, Replies};
use crate::protocol::effects::Effects;
use crate::protocol::ident::CloseReason;
use crate::protocol::outcome::Outcome;
use crate::stream::readiness::Readiness;

impl DatagramSocket {
    /// The moment that the protocol wants to be called at.
    #[inline]
    pub(crate) fn timer(&self) -> Time {
        self.requests.timer
    }

    #[inline]
    pub(crate) fn phase(&self) -> SocketPhase {
        self.requests.phase
    }

    fn set_phase(&mut self, phase: SocketPhase) {
        self.requests.phase = phase;
    }

    /// A drive begins of a socket that does not only answer. Returns an outcome if that is all.
    #[inline(never)]
    pub(crate) fn begin_drive(
        &mut self,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Option<Outcome> {
        match self.phase() {
            SocketPhase::Receiving | SocketPhase::AwaitingWritable => None,
            SocketPhase::New => {
                self.set_phase(SocketPhase::Receiving);
                self.call_protocol(state, effects, |protocol, replies| protocol.opened(replies));
                None
            }
            SocketPhase::Closing => Some(self.flush_and_report(ready, state)),
        }
    }

    /// A drive ends: all that could be answered has been. Tells the protocol what else there is to tell, and asks what else it has to say.
    #[inline(never)]
    pub(crate) fn call_pending(
        &mut self,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        // Who has closed has done with it all, and a panic must not open again what it has closed.
        if let Some(error) = self.failure.take()
            && self.phase() != SocketPhase::Closing
        {
            self.call_protocol(state, effects, |protocol, replies| {
                protocol.error_received(&error, replies);
            });
        }
        if self.phase() == SocketPhase::AwaitingWritable && !self.wants_write() {
            self.set_phase(SocketPhase::Receiving); // until it asks anew
            self.call_protocol(state, effects, |protocol, replies| protocol.writable(replies));
        }
        self.flush_and_report(ready, state)
    }

    /// The filed moment has come, though perhaps not yet the true one.
    pub(crate) fn expire(
        &mut self,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        self.requests.now = state.clock.now;
        if self.timer() <= state.clock.now
            && state.clock.now.since(self.timer()) >= Duration::from_millis(TIMER_LATE_MS)
        {
            // The loop has been held up, and may not have heard of what has come in time.
            ready.readable = true;
            if let Outcome::Ended(why) = self.drive(ready, state, effects) {
                return Outcome::Ended(why);
            }
        }
        if self.timer() <= state.clock.now {
            self.requests.timer = Time::NEVER;
            self.call_protocol(state, effects, |protocol, replies| protocol.timer_expired(replies));
        }
        self.flush_and_report(ready, state)
    }

    /// Sends what was said last, and says how to go on.
    pub(crate) fn flush_and_report(
        &mut self,
        ready: &mut Readiness,
        state: &mut LoopState,
    ) -> Outcome {
        self.send(ready, &mut state.stats);
        if self.phase() == SocketPhase::Closing && !self.wants_write() {
            Outcome::Ended(CloseReason::Finished)
        } else if self.can_progress(ready) {
            Outcome::Unfinished
        } else {
            Outcome::Blocked
        }
    }

    /// Calls the protocol. If it panics, what it has said before is sent, and what it has asked for is forgotten.
    fn call_protocol(
        &mut self,
        state: &mut LoopState,
        effects: &mut Effects,
        what: impl FnOnce(&mut dyn DatagramProtocol, &mut Replies<'_>),
    ) {
        let DatagramSocket { protocol, batch, replies, requests, .. } = self;
        let mut replies = Replies::unsolicited(batch, replies, requests, effects);
        if catch_unwind(AssertUnwindSafe(|| what(&mut **protocol, &mut replies))).is_err() {
            state.stats.panics += 1;
            self.set_phase(SocketPhase::Receiving);
            self.requests.timer = Time::NEVER;
            self.log_dropped(0, 1);
        }
        self.count_unsendable(state);
    }
}
