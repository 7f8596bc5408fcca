//! Input offered to the protocol, message by message, and what the connection does next.
//!
//! ```text
//!     feed ──► advance ──► advance ──► … ──► write_or_buffer ──► apply_next
//!              (each consumes a message)     (one send for       (the next phase)
//!                                             all replies)
//! ```
//!
//! The other callbacks take the same way through `call_protocol`, without input.

use super::{CloseMode, Connection, Phase, ReadSide, WriteSide};
use crate::limits::{HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, LOW_WATERMARK_BYTES, OUTPUT_BYTES_MAX};
use crate::loop_state::LoopState;
use crate::protocol::context::Context;
use crate::protocol::effects::Effects;
use crate::protocol::ident::CloseReason;
use crate::protocol::protocol::{Advance, Next, Protocol};
use crate::stream::buffer::Buffers;
use crate::stream::readiness::{Readiness, Transport, send};
use crate::time::KeptTime;

impl Connection {
    /// Ends the connection: the protocol's output cannot be sent. After our FIN it is the
    /// protocol's fault, whatever the error is.
    #[cold]
    fn end_unwritten(&mut self, why: CloseReason, state: &mut LoopState) {
        state.take_wants_output_low(); // it was about this connection
        let is_shut = self.write_side == WriteSide::Shut;
        self.phase = Phase::Ended(if is_shut { CloseReason::WriteAfterShutdown } else { why });
    }

    /// Offers the protocol the buffered input.
    #[cold]
    pub(super) fn feed_buffered<T: Transport>(
        &mut self,
        transport: &T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        self.phase = Phase::Established(ReadSide::Open);
        let mut input = self.buffers.take_input();
        let consumed = self.feed(input.as_slice(), transport, ready, state, effects);
        input.consume(consumed);
        self.buffers.put_back_input(input);
    }

    /// Offers the protocol `input`, message by message, and sends all its replies with one send.
    /// Returns how many bytes need not be kept: those consumed, or all if the connection is
    /// closing.
    #[inline(always)]
    pub(super) fn feed<T: Transport>(
        &mut self,
        input: &[u8],
        transport: &T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> usize {
        let mut cx = Context { state, effects, borrowed: &[], meta: &mut self.meta, transport };
        let step = self.protocol.advance(input, &mut cx);
        if step.consumed == input.len() && step.next == Next::Continue {
            // Fast path: one message and nothing after it, as in nearly every call.
            let (buffers, last_activity) = (&mut self.buffers, &mut self.last_activity);
            if let Err(why) = write_or_buffer(cx, buffers, last_activity, transport, ready, false) {
                self.end_unwritten(why, state);
            }
            return input.len();
        }
        let room = HIGH_WATERMARK_BYTES.saturating_sub(self.buffers.own_output());
        let steps = advance_rest(step, input, room, &mut *self.protocol, &mut cx);
        let (buffers, last_activity) = (&mut self.buffers, &mut self.last_activity);
        let fin_follows = fin_follows(steps.last.next, self.phase, self.write_side);
        match write_or_buffer(cx, buffers, last_activity, transport, ready, fin_follows) {
            Ok(_) => {
                let consumed = self.after_steps(&steps, input.len());
                self.send_due_fin(transport, state);
                consumed
            }
            Err(why) => {
                self.end_unwritten(why, state);
                input.len()
            }
        }
    }

    /// Sets the next phase after several steps through `offered` bytes, or one that consumed only a
    /// part of them. Returns how many bytes need not be kept.
    #[inline(never)]
    fn after_steps(&mut self, steps: &Steps, offered: usize) -> usize {
        let rest = offered - steps.consumed;
        match steps.last.next {
            // All input is consumed.
            Next::Continue | Next::Unchanged if rest == 0 => {}
            // A watermark has interrupted the steps: the rest is offered again later.
            Next::Continue | Next::Unchanged if steps.last.consumed > 0 => {
                self.phase = Phase::Established(ReadSide::Backpressured);
            }
            // The protocol needs more for one message than is kept.
            Next::Continue | Next::Unchanged if rest >= INPUT_BYTES_MAX => {
                self.phase = Phase::Ended(CloseReason::InputTooLong);
            }
            // The rest is the beginning of a message: the next read brings more.
            Next::Continue | Next::Unchanged => {}
            // The protocol does not continue.
            next @ (Next::Pause | Next::Close | Next::CloseWithoutLinger | Next::Abort) => {
                self.apply_next(next, steps.last_sent_output, rest > 0);
            }
        }
        match self.phase {
            Phase::Established(_) => steps.consumed,
            Phase::Flushing { .. }
            | Phase::Lingering { .. }
            | Phase::Connecting { .. }
            | Phase::Ended(_) => offered,
        }
    }

    /// Calls the protocol for any other reason than new input, sends its output and applies its
    /// decision.
    pub(super) fn call_protocol<T: Transport>(
        &mut self,
        transport: &T,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
        call: impl FnOnce(&mut dyn Protocol, &[u8], &mut Context<'_>) -> Next,
    ) {
        let mut cx = Context { state, effects, borrowed: &[], meta: &mut self.meta, transport };
        let next = call(&mut *self.protocol, self.buffers.input(), &mut cx);
        let fin_follows = fin_follows(next, self.phase, self.write_side);
        let (buffers, last_activity) = (&mut self.buffers, &mut self.last_activity);
        match write_or_buffer(cx, buffers, last_activity, transport, ready, fin_follows) {
            Ok(_) if next == Next::Continue && self.is_idle() => {} // the usual case
            Ok(sent_output) => {
                let wants = state.take_wants_output_low() || sent_output;
                self.apply_next(next, wants, !self.buffers.input().is_empty());
                self.send_due_fin(transport, state);
            }
            Err(why) => self.end_unwritten(why, state),
        }
    }

    /// Applies the decision of the protocol. `sent_output`: it sent something in the same call.
    /// `has_unconsumed`: there is input that it has not consumed.
    pub(super) fn apply_next(&mut self, next: Next, sent_output: bool, has_unconsumed: bool) {
        let Phase::Established(read_side) = self.phase else {
            unreachable!("only the protocol of an established connection is called")
        };
        let is_eof = matches!(read_side, ReadSide::Eof { .. });
        let is_paused = matches!(read_side, ReadSide::Paused { .. });
        self.phase = match next {
            Next::Abort => Phase::Ended(CloseReason::Aborted),
            // The peer's FIN has been read, so no input can be unread.
            Next::Continue | Next::Close | Next::CloseWithoutLinger if is_eof => {
                Phase::Flushing { close_mode: CloseMode::Immediate }
            }
            Next::Pause | Next::Unchanged if is_eof && self.write_side == WriteSide::Shut => {
                Phase::Flushing { close_mode: CloseMode::Immediate }
            }
            Next::Pause | Next::Unchanged if is_eof => {
                let wants_output_low = sent_output || read_side.wants_output_low();
                Phase::Established(ReadSide::Eof { wants_output_low })
            }
            Next::CloseWithoutLinger if !has_unconsumed => {
                Phase::Flushing { close_mode: CloseMode::IfNothingUnread }
            }
            Next::Close | Next::CloseWithoutLinger => {
                Phase::Flushing { close_mode: CloseMode::Linger }
            }
            Next::Continue if self.buffers.input().is_empty() => Phase::Established(ReadSide::Open),
            Next::Continue => Phase::Established(ReadSide::Backpressured),
            Next::Unchanged if !is_paused => self.phase,
            // A protocol that was paused already keeps the call of `output_low` that it awaits, if
            // any. One that pauses now is called if older output above the low watermark waits.
            Next::Pause | Next::Unchanged => {
                let wants_output_low = sent_output
                    || if is_paused {
                        read_side.wants_output_low()
                    } else {
                        self.own_output() > LOW_WATERMARK_BYTES
                    };
                Phase::Established(ReadSide::Paused { wants_output_low })
            }
        };
    }
}

/// Returns whether our FIN is sent right after the output of a call that has returned `next`. The
/// end that layers announce is between the two. After the peer's FIN, close(2) sends ours.
fn fin_follows(next: Next, phase: Phase, write_side: WriteSide) -> bool {
    matches!(next, Next::Close | Next::CloseWithoutLinger)
        && !matches!(phase, Phase::Established(ReadSide::Eof { .. }))
        && write_side == WriteSide::Open { has_layers: false }
}

/// The result of offering input message by message.
struct Steps {
    /// Bytes consumed by all steps together.
    consumed: usize,
    last: Advance,
    /// The last step sent something.
    last_sent_output: bool,
}

/// Continues after the `first` step until one of these holds: the input is consumed, the protocol
/// needs more input or does not continue, its output has used up `room`, the effects have reached
/// their high watermark, or what the protocol has charged has spent a share.
#[inline(never)]
fn advance_rest<'i>(
    first: Advance,
    input: &'i [u8],
    room: usize,
    protocol: &mut dyn Protocol,
    cx: &mut Context<'i>,
) -> Steps {
    let (mut last, mut consumed, mut sent_before) = (first, 0, 0);
    let share = cx.state.budget.stream_share();
    loop {
        assert!(
            last.consumed <= input.len() - consumed,
            "a protocol consumes no more than it was offered"
        );
        consumed += last.consumed;
        let has_continued =
            matches!(last.next, Next::Continue | Next::Unchanged) && last.consumed > 0;
        if !has_continued
            || consumed == input.len()
            || cx.bytes_pending() >= room
            || cx.effects.is_above_high_watermark()
            || cx.state.budget.share_is_spent(share)
        {
            let sent_output = cx.bytes_pending() > sent_before;
            let last_sent_output = cx.state.take_wants_output_low() || sent_output;
            return Steps { consumed, last, last_sent_output };
        }
        sent_before = cx.bytes_pending();
        last = protocol.advance(&input[consumed..], cx);
    }
}

/// Sends what the protocol has written in this call, and returns whether that was anything. What
/// the kernel does not take is appended to the output, and all of it if older output waits, to keep
/// the order. `fin_follows`: our FIN is sent next, if all of it is taken.
#[inline(always)]
fn write_or_buffer<T: Transport>(
    cx: Context<'_>,
    buffers: &mut Buffers,
    last_activity: &mut KeptTime,
    transport: &T,
    ready: &mut Readiness,
    fin_follows: bool,
) -> Result<bool, CloseReason> {
    let Context { state, borrowed, .. } = cx;
    let reply = if borrowed.is_empty() { &state.output[..] } else { borrowed };
    if reply.is_empty() {
        return Ok(false);
    }
    let mut sent = Ok(0);
    if buffers.output().is_empty() {
        *last_activity = state.clock.now.into(); // the write timeout begins
        sent = send(transport, ready, reply, fin_follows);
    }
    if let Ok(taken) = sent {
        state.budget.charge(reply.len()); // what the kernel does not take is copied, too
        state.stats.bytes_out += taken as u64;
        let rest = &reply[taken..];
        if !rest.is_empty() && buffers.output().len() + rest.len() > OUTPUT_BYTES_MAX {
            sent = Err(CloseReason::OutputOverflow);
        } else {
            buffers.append_output(rest);
        }
    }
    state.clear_output();
    sent.map(|_| true)
}
