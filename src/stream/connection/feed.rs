//! What is put to the protocol, and what it decides.

use super::{CloseMode, Connection, Phase, WriteSide};
use crate::clock::Time;
use crate::limits::{HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, LOW_WATERMARK_BYTES, OUTPUT_BYTES_MAX};
use crate::loop_state::LoopState;
use crate::protocol::context::Context;
use crate::protocol::effects::Effects;
use crate::protocol::ident::CloseReason;
use crate::protocol::protocol::{Advance, Next, Protocol};
use crate::stream::buffer::Buffer;
use crate::stream::readiness::{Readiness, Transport, send};

impl Connection {
    /// Why a protocol's bytes could not be sent: if our FIN is out, it is no wonder.
    #[cold]
    fn write_error_reason(&self, why: CloseReason) -> CloseReason {
        if self.write_side == WriteSide::Shut { CloseReason::WriteAfterShutdown } else { why }
    }

    /// Has the protocol hear the input that is carried.
    #[cold]
    pub(super) fn feed_buffered<W: Transport>(
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
    pub(super) fn feed<W: Transport>(
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
    pub(super) fn call_protocol<W: Transport>(
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
    pub(super) fn apply_next(&mut self, next: Next, has_replied: bool, has_more: bool) {
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
