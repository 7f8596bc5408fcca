//! A datagram protocol that sends unasked: when opened, when its timer expires, or when writable.
//!
//! ```text
//!     New ──opened──► Receiving ◄───────────────────┐
//!                      │    │ wake_when_writable    │ writable, once the kernel has taken all
//!                close │    └──► AwaitingWritable ──┘
//!                      ▼
//!                   Closing ──► ended, once the kernel has taken all
//! ```
//!
//! A message calls it as well. What such a protocol sends is queued with the replies, leaves with
//! them and counts towards their bound. A protocol that only answers pays no more than a comparison
//! or two for each drive.

use std::any::Any;
use std::time::Duration;

use super::requests::SocketPhase;
use super::scratch::DatagramScratch;
use super::sending::count_unsendable;
use super::socket::DatagramSocket;
use super::transport::DatagramTransport;
use crate::caught::{catch, catch_drop};
use crate::limits::TIMER_LATE_MS;
use crate::loop_state::LoopState;
use crate::protocol::datagram::{DatagramProtocol, LateReply, Replies};
use crate::protocol::effects::Effects;
use crate::protocol::ident::{CloseReason, ConnectionId};
use crate::protocol::outcome::Outcome;
use crate::stream::readiness::Readiness;
use crate::time::Time;

impl<T: DatagramTransport> DatagramSocket<T> {
    /// When the protocol's timer expires. `NEVER`: none is set.
    fn timer(&self) -> Time {
        self.requests.timer
    }

    /// Returns the time of the timer or of the next receive after a failed one, whichever is
    /// earlier.
    pub(crate) fn deadline(&self) -> Time {
        self.timer().min(self.retry_at)
    }

    pub(crate) fn phase(&self) -> SocketPhase {
        self.requests.phase
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.requests.id
    }

    fn set_phase(&mut self, phase: SocketPhase) {
        self.requests.phase = phase;
    }

    /// Begins the drive of a socket that is not merely receiving: calls `opened`, or flushes what
    /// is closing. Returns an outcome if the drive ends with that.
    #[inline(never)]
    pub(crate) fn begin_drive(
        &mut self,
        ready: &mut Readiness,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Option<Outcome> {
        match self.phase() {
            SocketPhase::Receiving | SocketPhase::AwaitingWritable => None,
            SocketPhase::New => {
                self.set_phase(SocketPhase::Receiving);
                self.call_protocol(scratch, state, effects, |protocol, replies| {
                    protocol.opened(replies);
                });
                None
            }
            SocketPhase::Closing => Some(self.flush_and_report(ready, scratch, state)),
        }
    }

    /// Ends a drive in which all that could be answered has been: calls `error_received` and
    /// `writable` if they are due, then sends what the protocol has queued.
    #[inline(never)]
    pub(crate) fn call_pending(
        &mut self,
        ready: &mut Readiness,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        // A protocol that has closed its socket gets no further errors. A panic in such a call
        // would also undo the close: `call_protocol` then resets the phase.
        if let Some(error) = self.failure.take()
            && self.phase() != SocketPhase::Closing
        {
            self.call_protocol(scratch, state, effects, |protocol, replies| {
                protocol.error_received(&error, replies);
            });
        }
        if self.phase() == SocketPhase::AwaitingWritable && scratch.replies.is_empty() {
            self.set_phase(SocketPhase::Receiving); // until it is requested again
            self.call_protocol(scratch, state, effects, |protocol, replies| {
                protocol.writable(replies);
            });
        }
        self.flush_and_report(ready, scratch, state)
    }

    /// The filed deadline is due. The timer itself may have been set to a later time since.
    pub(crate) fn expire(
        &mut self,
        ready: &mut Readiness,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        self.requests.now = state.clock.now;
        let is_late = self.timer() <= state.clock.now
            && state.clock.now.since(self.timer()) >= Duration::from_millis(TIMER_LATE_MS);
        if is_late || self.retry_at <= state.clock.now {
            // If the loop is late, a datagram that arrived before the timer expired may not have
            // been reported yet, so receive first.
            self.retry_at = Time::NEVER;
            ready.set_readable(true);
            if let Outcome::Ended(why) = self.drive(ready, scratch, state, effects) {
                return Outcome::Ended(why);
            }
        }
        self.begin_in(scratch);
        if self.timer() <= state.clock.now {
            self.requests.timer = Time::NEVER;
            self.call_protocol(scratch, state, effects, |protocol, replies| {
                protocol.timer_expired(replies);
            });
        }
        let outcome = self.flush_and_report(ready, scratch, state);
        self.end_in(scratch, state);
        outcome
    }

    /// Calls the protocol with a message, and sends what it answers. A socket that is closing takes
    /// no message. One that is new has not been called, so its id is unknown.
    pub(crate) fn deliver(
        &mut self,
        message: Box<dyn Any>,
        ready: &mut Readiness,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        debug_assert!(self.phase() != SocketPhase::New, "its id is known once it was called");
        self.requests.now = state.clock.now;
        self.begin_in(scratch);
        if self.phase() == SocketPhase::Closing {
            catch_drop(&mut state.stats, message);
        } else {
            self.call_protocol(scratch, state, effects, |protocol, replies| {
                match message.downcast::<LateReply>() {
                    Ok(reply) => reply.send(replies),
                    Err(message) => protocol.message_received(message, replies),
                }
            });
        }
        let outcome = self.flush_and_report(ready, scratch, state);
        self.end_in(scratch, state);
        outcome
    }

    /// Sends what was queued last, and returns the outcome of the drive.
    pub(crate) fn flush_and_report(
        &mut self,
        ready: &mut Readiness,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
    ) -> Outcome {
        self.send(ready, scratch, state);
        let left = scratch.unfinished();
        if self.phase() == SocketPhase::Closing && !left.replies {
            Outcome::Ended(CloseReason::Finished)
        } else if self.can_progress_with(left, ready) {
            Outcome::Unfinished
        } else {
            Outcome::Blocked
        }
    }

    /// Makes a call of the protocol that is not about a datagram. If it panics, what it has sent
    /// before is still sent, but the requests to its socket are cancelled: the wake-up, the close
    /// and the timer.
    fn call_protocol(
        &mut self,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
        effects: &mut Effects,
        call: impl FnOnce(&mut dyn DatagramProtocol, &mut Replies<'_>),
    ) {
        let DatagramSocket { protocol, requests, .. } = self;
        let DatagramScratch { batch, replies, .. } = &mut *scratch;
        let mut replies = Replies::unsolicited(batch, replies, requests, effects);
        if catch(|| call(&mut **protocol, &mut replies)).is_err() {
            state.stats.panics += 1;
            self.set_phase(SocketPhase::Receiving);
            self.requests.timer = Time::NEVER;
            self.unlogged.panics += 1;
            self.unlogged.log(self.address);
        }
        count_unsendable(&mut scratch.replies, state);
    }
}
