//! The protocol inside a layer: what it is offered, and when.
//!
//! ```text
//!     decoded bytes ──► input ──► advance ──► … ──► what it needs more for stays in `input`
//! ```
//!
//! It stands in the place of the connection: it keeps what the protocol has not consumed, offers
//! nothing while the protocol is paused or too much output waits, and remembers its decisions.
//!
//! Invariant: `eof` is called only after all input has been offered.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::mem;

use super::Layer;
use crate::budget::Share;
use crate::caught::{CaughtDrop, catch_drop};
use crate::limits::{
    CALL_COST_BYTES, HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, MAILBOX_MESSAGES_MAX,
    OUTPUT_SCRATCH_BYTES,
};
use crate::protocol::context::Context;
use crate::protocol::ident::ConnectionId;
use crate::protocol::notification::Notification;
use crate::protocol::protocol::{Advance, Next, Protocol};
use crate::stream::buffer::Buffer;
use crate::time::KeptTime;

/// The protocol inside a layer. Each method calls it, and returns what the connection is to do
/// next: the layer passes this on, unless it has a reason of its own to close.
///
/// `layer` is the layer itself, which encodes what the call sends.
pub struct Inner<P> {
    pub(super) protocol: P,
    /// When its timer expires.
    pub(super) timer: KeptTime,
    /// Decoded input that it has not consumed.
    pub(super) input: Buffer,
    /// Messages that wait until it is open, and then until the output has room for what they give
    /// rise to. Each may panic when it is dropped, and two of them.
    early: VecDeque<CaughtDrop<Box<dyn Any>>>,
    state: InnerState,
    /// The end of the input has been announced, and is to be told after the rest of it.
    is_eof_pending: bool,
}

/// What becomes of the input of an inner protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InnerState {
    /// `opened` has not been called. Input waits.
    Unopened,
    Open,
    /// It has not been offered all input: too much output or too many effects waited, or it had
    /// spent its share of the turn.
    Backpressured,
    /// It takes no input until it returns `Next::Continue`.
    Paused,
    /// Its `eof` has been called.
    Eof,
    /// It has decided to close. It is not called again, but for `closed`.
    Closing,
}

impl<P> fmt::Debug for Inner<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<P: Protocol> Inner<P> {
    pub(super) fn new(protocol: P) -> Inner<P> {
        Inner {
            protocol,
            timer: KeptTime::NEVER,
            input: Buffer::default(),
            early: VecDeque::new(),
            state: InnerState::Unopened,
            is_eof_pending: false,
        }
    }

    /// Returns whether its [`opened`](Protocol::opened) has been called.
    pub fn is_open(&self) -> bool {
        self.state != InnerState::Unopened
    }

    /// Replaces the protocol by `protocol`, which the layer has chosen by what it has read.
    ///
    /// # Panics
    ///
    /// If the protocol is open already, or is not a `Box<dyn Protocol>`.
    pub fn replace(&mut self, protocol: impl Protocol + 'static) {
        assert!(!self.is_open(), "a protocol that is open is not replaced");
        let boxed = self.protocol.as_boxed().expect("only a `Box<dyn Protocol>` is replaced");
        *boxed = Box::new(protocol);
    }

    /// Calls [`Protocol::opened`], and then offers the input and the messages that have waited for
    /// it. Called once.
    ///
    /// # Panics
    ///
    /// If it is open already.
    pub fn open<L: Layer>(&mut self, layer: &mut L, cx: &mut Context<'_>) -> Next {
        assert!(!self.is_open(), "a protocol is opened once");
        self.state = InnerState::Open;
        let next = self.call(layer, cx, |protocol, _, cx| protocol.opened(cx));
        let next = self.settle(next, layer, cx);
        let takes_messages = matches!(self.state, InnerState::Open | InnerState::Paused);
        if takes_messages && !self.early.is_empty() { self.offer_early(layer, cx) } else { next }
    }

    /// Offers it the input of the connection as it is, and returns its own step. What it does not
    /// consume stays in the connection. For a layer that changes no input.
    #[inline(always)]
    pub fn advance<'i, L: Layer>(
        &mut self,
        layer: &mut L,
        input: &'i [u8],
        cx: &mut Context<'i>,
    ) -> Advance {
        if layer.encoder().is_some() || !self.is_direct() {
            let next = self.receive(layer, input, cx);
            return Advance::consumed(input.len()).then(next);
        }
        let has_timer = self.timer != cx.meta.timer;
        if has_timer {
            mem::swap(&mut cx.meta.timer, &mut self.timer);
        }
        let step = self.protocol.advance(input, cx);
        if has_timer || cx.meta.timer != self.timer {
            mem::swap(&mut cx.meta.timer, &mut self.timer);
        }
        if step.next != Next::Continue {
            self.record(step.next);
        }
        step
    }

    /// Returns whether it can be offered the input of the connection as it is.
    #[inline(always)]
    pub(super) fn is_direct(&self) -> bool {
        self.input.is_empty() && self.state == InnerState::Open
    }

    /// Offers it `bytes`, message by message, after those that it has not consumed. What it does
    /// not consume is kept, up to [`INPUT_BYTES_MAX`] for one message; a longer one aborts the
    /// connection. What comes before it is open is kept as well, up to twice as much.
    pub fn receive<L: Layer>(&mut self, layer: &mut L, bytes: &[u8], cx: &mut Context<'_>) -> Next {
        match self.state {
            InnerState::Eof | InnerState::Closing => return Next::Unchanged,
            InnerState::Unopened | InnerState::Backpressured | InnerState::Paused => {
                self.keep(bytes);
                // One read may come on top of an incomplete message. After that, nothing is read.
                if self.input.len() > 2 * INPUT_BYTES_MAX {
                    return Next::Abort;
                }
                // Until it is open, the layer reads on.
                let is_open = self.state != InnerState::Unopened;
                return if is_open { Next::Pause } else { Next::Continue };
            }
            InnerState::Open => self.keep(bytes),
        }
        self.offer_input(layer, cx)
    }

    /// Keeps `bytes` until it can be offered input again.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.input.append(bytes);
    }

    /// Announces the end of the input: [`Protocol::eof`] is called once all input has been offered.
    pub fn eof<L: Layer>(&mut self, layer: &mut L, cx: &mut Context<'_>) -> Next {
        match self.state {
            InnerState::Unopened => Next::Close,
            InnerState::Eof | InnerState::Closing => Next::Unchanged,
            InnerState::Backpressured | InnerState::Paused => {
                self.is_eof_pending = true;
                Next::Pause
            }
            InnerState::Open => {
                self.is_eof_pending = true;
                self.offer_input(layer, cx)
            }
        }
    }

    pub(super) fn output_low<L: Layer>(&mut self, layer: &mut L, cx: &mut Context<'_>) -> Next {
        match self.state {
            InnerState::Unopened | InnerState::Closing => Next::Unchanged,
            _ if !self.early.is_empty() => self.offer_early(layer, cx),
            InnerState::Open => Next::Continue,
            InnerState::Backpressured => {
                self.state = InnerState::Open;
                self.offer_input(layer, cx)
            }
            InnerState::Paused | InnerState::Eof => {
                let next = self.call(layer, cx, |protocol, _, cx| protocol.output_low(cx));
                self.settle(next, layer, cx)
            }
        }
    }

    pub(super) fn resumed<L: Layer>(&mut self, layer: &mut L, cx: &mut Context<'_>) -> Next {
        match self.state {
            // As for a connection: after the end of the input, there is nothing to resume.
            InnerState::Eof => Next::Unchanged,
            // It is the layer that reads on.
            InnerState::Unopened | InnerState::Open | InnerState::Closing => Next::Continue,
            InnerState::Backpressured | InnerState::Paused => {
                let next = match self.protocol.layers() {
                    Some(_) => self.call(layer, cx, |protocol, _, cx| {
                        protocol.layers().map_or(Next::Continue, |layers| layers.resumed(cx))
                    }),
                    None => Next::Continue,
                };
                self.settle(next, layer, cx)
            }
        }
    }

    pub(super) fn notified<L: Layer>(
        &mut self,
        layer: &mut L,
        about: ConnectionId,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Next {
        self.tell(layer, cx, |protocol, cx| protocol.notified(about, notification, cx))
    }

    pub(super) fn message_received<L: Layer>(
        &mut self,
        layer: &mut L,
        message: Box<dyn Any>,
        cx: &mut Context<'_>,
    ) -> Next {
        if self.state == InnerState::Unopened || !self.early.is_empty() {
            if self.early.len() < MAILBOX_MESSAGES_MAX {
                self.early.push_back(CaughtDrop::new(message));
            } else {
                cx.state.stats.messages_rejected += 1;
                catch_drop(&mut cx.state.stats, message); // its panic is not the protocol's
            }
            return Next::Unchanged;
        }
        self.tell(layer, cx, |protocol, cx| protocol.message_received(message, cx))
    }

    /// Calls it about something other than its own connection.
    fn tell<L: Layer>(
        &mut self,
        layer: &mut L,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut P, &mut Context<'_>) -> Next,
    ) -> Next {
        if matches!(self.state, InnerState::Unopened | InnerState::Closing) {
            return Next::Unchanged;
        }
        let is_eof = self.state == InnerState::Eof;
        let next = self.call(layer, cx, |protocol, _, cx| call(protocol, cx));
        // As for a connection: after the end of the input, there is nothing to continue.
        let next = if is_eof && next == Next::Continue { Next::Unchanged } else { next };
        self.settle(next, layer, cx)
    }

    pub(super) fn timer_expired<L: Layer>(&mut self, layer: &mut L, cx: &mut Context<'_>) -> Next {
        if self.timer.get() > cx.state.clock.now || self.state == InnerState::Closing {
            return Next::Unchanged;
        }
        self.timer = KeptTime::NEVER;
        let next = self.call(layer, cx, |protocol, _, cx| protocol.timer_expired(cx));
        self.settle(next, layer, cx)
    }

    /// Waits for `output_low`, which the connection calls for a pause that has asked for it.
    fn wait(&mut self, cx: &mut Context<'_>) -> Next {
        if self.state == InnerState::Open {
            self.state = InnerState::Backpressured; // a pause of its own stays one
        }
        cx.state.wants_output_low = true;
        Next::Pause
    }

    /// Delivers the messages that came before it was open, as far as output, effects and the turn
    /// have room, also while it is paused. Then it is offered its input, unless it is paused.
    #[cold]
    fn offer_early<L: Layer>(&mut self, layer: &mut L, cx: &mut Context<'_>) -> Next {
        let share = cx.state.budget.stream_share();
        while !self.early.is_empty() {
            if must_wait(cx, share) {
                return self.wait(cx);
            }
            let Some(message) = self.early.pop_front() else { break };
            cx.state.budget.charge(CALL_COST_BYTES);
            let message = message.into_inner();
            match self.call(layer, cx, |protocol, _, cx| protocol.message_received(message, cx)) {
                Next::Unchanged => {}
                Next::Continue => self.state = InnerState::Open,
                next @ (Next::Pause | Next::Close | Next::CloseWithoutLinger | Next::Abort) => {
                    self.record(next);
                    if next != Next::Pause {
                        return next;
                    }
                }
            }
        }
        if self.state == InnerState::Paused {
            Next::Pause
        } else {
            self.settle(Next::Continue, layer, cx)
        }
    }

    /// Offers it the input that waits, until that is consumed, or it needs more, or must wait.
    fn offer_input<L: Layer>(&mut self, layer: &mut L, cx: &mut Context<'_>) -> Next {
        let share = cx.state.budget.stream_share();
        if !self.early.is_empty() {
            return self.offer_early(layer, cx);
        }
        while !self.input.is_empty() {
            if must_wait(cx, share) {
                return self.wait(cx);
            }
            let step = self.call(layer, cx, |protocol, input, cx| protocol.advance(input, cx));
            self.input.consume(step.consumed);
            match step.next {
                Next::Continue | Next::Unchanged if step.consumed > 0 => {}
                Next::Continue | Next::Unchanged if self.input.len() >= INPUT_BYTES_MAX => {
                    self.state = InnerState::Closing;
                    return Next::Abort;
                }
                Next::Continue | Next::Unchanged => break, // it needs more
                next @ (Next::Pause | Next::Close | Next::CloseWithoutLinger | Next::Abort) => {
                    self.record(next);
                    return next;
                }
            }
        }
        if !self.is_eof_pending {
            return Next::Continue;
        }
        self.state = InnerState::Eof;
        let next = self.call(layer, cx, |protocol, rest, cx| protocol.eof(rest, cx));
        self.input = Buffer::default();
        self.settle(next, layer, cx)
    }

    /// Calls the protocol with the input that waits. Its timer and its output are its own during
    /// the call. Then the layer encodes the output.
    fn call<L: Layer, T>(
        &mut self,
        layer: &mut L,
        cx: &mut Context<'_>,
        call: impl for<'a> FnOnce(&mut P, &'a [u8], &mut Context<'a>) -> T,
    ) -> T {
        let encodes = layer.encoder().is_some();
        cx.copy_borrowed();
        let outer = encodes.then(|| {
            let unencoded = mem::take(&mut cx.state.unencoded);
            mem::replace(&mut cx.state.output, unencoded)
        });
        mem::swap(&mut cx.meta.timer, &mut self.timer);
        let mut inner = Context {
            state: &mut *cx.state,
            effects: &mut *cx.effects,
            borrowed: &[],
            meta: &mut *cx.meta,
            transport: cx.transport,
        };
        let result = call(&mut self.protocol, self.input.as_slice(), &mut inner);
        inner.copy_borrowed();
        mem::swap(&mut cx.meta.timer, &mut self.timer);
        if let (Some(outer), Some(encoder)) = (outer, layer.encoder()) {
            let mut unencoded = mem::replace(&mut cx.state.output, outer);
            if !unencoded.is_empty() {
                encoder.encode(&unencoded, &mut cx.state.output);
                unencoded.clear();
                unencoded.shrink_to(OUTPUT_SCRATCH_BYTES);
            }
            cx.state.unencoded = unencoded;
        }
        result
    }

    /// Acts on a decision of the protocol, and returns what the connection is to do.
    fn settle<L: Layer>(&mut self, next: Next, layer: &mut L, cx: &mut Context<'_>) -> Next {
        match (next, self.state) {
            (Next::Continue, InnerState::Eof) => {
                self.state = InnerState::Closing;
                Next::Close
            }
            (Next::Pause | Next::Unchanged, InnerState::Eof) => Next::Pause,
            (Next::Continue, _) => {
                self.state = InnerState::Open;
                cx.state.wants_output_low = false; // an earlier message may have met backpressure
                self.offer_input(layer, cx)
            }
            (next, _) => {
                self.record(next);
                next
            }
        }
    }

    /// Records a decision other than `Next::Continue`.
    #[cold]
    fn record(&mut self, next: Next) {
        match next {
            Next::Continue | Next::Unchanged => {}
            Next::Pause => self.state = InnerState::Paused,
            Next::Close | Next::CloseWithoutLinger | Next::Abort => {
                self.state = InnerState::Closing;
            }
        }
    }
}

/// Returns whether output or effects must leave first, or others have their turn.
fn must_wait(cx: &Context<'_>, share: Share) -> bool {
    cx.bytes_pending() >= HIGH_WATERMARK_BYTES
        || cx.effects.is_above_high_watermark()
        || cx.state.budget.share_is_spent(share)
}
