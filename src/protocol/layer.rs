//! A protocol inside another: a layer between the connection and the protocol that it serves.
//!
//! ```text
//!     connection ──► Layered ──► layer: decodes the input ──► Inner ──► protocol
//!     connection ◄────────────── layer: encodes the output ◄──────────── protocol
//! ```
//!
//! TLS, a PROXY header and WebSocket frames are layers. The layer gets the connection's callbacks,
//! and calls the inner protocol through [`Inner`], with bytes that it has decoded. The inner
//! protocol is lent the same context. So what it sends, its timer, its effects and its decisions
//! pass through the layer to the connection, and it need not know that there is one.
//!
//! Invariant: the inner protocol sees the callbacks that it would see on a connection of its own,
//! in the same order: `opened` first, no input while it is paused or too much output waits, and
//! `eof` only after all input. (After a pause, `output_low` may come although nothing was sent in
//! the call that paused, but before it in the same piece of input.)

use std::any::Any;
use std::fmt;
use std::mem;

use super::context::Context;
use super::ident::{CloseReason, ConnectionId};
use super::notification::Notification;
use super::protocol::{Advance, Next, Protocol};
use crate::limits::{HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, OUTPUT_SCRATCH_BYTES};
use crate::stream::buffer::Buffer;
use crate::time::Time;

/// What a layer does to the callbacks of its connection. Used with [`Layered`].
///
/// Every method has a default, which passes the callback on unchanged. A layer without any method
/// of its own changes nothing:
///
/// ```
/// use mio_reactor::{Echo, Layer, Layered, TestConnection};
///
/// struct Identity;
/// impl Layer for Identity {}
///
/// let mut echo = TestConnection::new(Layered::new(Identity, Echo::new()));
/// echo.peer_sends(b"Hello world");
/// assert_eq!(echo.take_received(), b"Hello world");
/// ```
///
/// A layer that decodes consumes the input in [`advance`](Layer::advance), and passes what it has
/// decoded to [`Inner::receive`]. A layer that encodes returns an [`Encoder`].
pub trait Layer: Sized {
    /// Returns what encodes the output of the inner protocol; `None` if that is sent as it is. The
    /// answer is always the same for one connection.
    fn encoder(&mut self) -> Option<&mut dyn Encoder> {
        None
    }

    /// As [`Protocol::opened`]. A layer with a handshake leaves `inner` unopened until that is
    /// over.
    fn opened<P: Protocol>(&mut self, inner: &mut Inner<P>, cx: &mut Context<'_>) -> Next {
        inner.open(self, cx)
    }

    /// As [`Protocol::advance`].
    fn advance<'i, P: Protocol>(
        &mut self,
        input: &'i [u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'i>,
    ) -> Advance {
        inner.advance(self, input, cx)
    }

    /// As [`Protocol::eof`]. If the peer should have announced its end in the words of this layer,
    /// and has not, what it sent may have been cut short: return [`Next::Abort`].
    fn eof<P: Protocol>(
        &mut self,
        rest: &[u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'_>,
    ) -> Next {
        if !rest.is_empty() {
            inner.keep(rest);
        }
        inner.eof(self, cx)
    }

    /// As [`Protocol::timer_expired`], for the timer that the layer has set. The inner protocol has
    /// one of its own.
    fn timer_expired<P: Protocol>(&mut self, inner: &mut Inner<P>, cx: &mut Context<'_>) -> Next {
        let _ = (inner, cx);
        Next::Close
    }
}

/// Encodes what leaves a connection: what the inner protocol of a [`Layer`] sends, and what other
/// connections send to it.
pub trait Encoder {
    /// Appends the encoded form of `output` to `encoded`.
    fn encode(&mut self, output: &[u8], encoded: &mut Vec<u8>);

    /// Appends what announces the end of the output, such as a close_notify alert of TLS. Called
    /// once, before our FIN, when the connection closes gracefully. Not called before a reset.
    fn finish(&mut self, encoded: &mut Vec<u8>) {
        let _ = encoded;
    }
}

/// A protocol that consists of a [`Layer`] and the protocol inside it, which may itself be layered.
pub struct Layered<L, P> {
    layer: L,
    inner: Inner<P>,
    /// When the layer's own timer expires.
    timer: Time,
}

impl<L: Layer, P: Protocol> Layered<L, P> {
    /// Puts `protocol` inside `layer`.
    pub fn new(layer: L, protocol: P) -> Layered<L, P> {
        Layered { layer, inner: Inner::new(protocol), timer: Time::NEVER }
    }

    /// Calls the layer, or the protocol inside. While the layer runs, the context's timer is the
    /// layer's own. Afterwards it is the earlier one of the two.
    #[inline(always)]
    fn call<'i, T>(
        &mut self,
        cx: &mut Context<'i>,
        call: impl FnOnce(&mut L, &mut Inner<P>, &mut Context<'i>) -> T,
    ) -> T {
        cx.meta.timer = self.timer;
        let result = call(&mut self.layer, &mut self.inner, cx);
        self.timer = cx.meta.timer;
        cx.meta.timer = self.timer.min(self.inner.timer);
        result
    }
}

impl<L, P: fmt::Debug> fmt::Debug for Layered<L, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layered").field("inner", &self.inner.protocol).finish_non_exhaustive()
    }
}

impl<L: Layer, P: Protocol> Protocol for Layered<L, P> {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.call(cx, |layer, inner, cx| layer.opened(inner, cx))
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        self.call(cx, |layer, inner, cx| layer.advance(input, inner, cx))
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.call(cx, |layer, inner, cx| layer.eof(rest, inner, cx))
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.call(cx, |layer, inner, cx| inner.output_low(layer, cx))
    }

    fn notified(
        &mut self,
        about: ConnectionId,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Next {
        self.call(cx, |layer, inner, cx| inner.notified(layer, about, notification, cx))
    }

    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        self.call(cx, |layer, inner, cx| inner.message_received(layer, message, cx))
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        // If both are due, that of the inner protocol expires in the next turn.
        if self.timer <= cx.state.clock.now {
            self.timer = Time::NEVER;
            return self.call(cx, |layer, inner, cx| layer.timer_expired(inner, cx));
        }
        self.call(cx, |layer, inner, cx| inner.timer_expired(layer, cx))
    }

    fn is_evictable(&self) -> bool {
        self.inner.input.is_empty() && self.inner.protocol.is_evictable()
    }

    fn closed(&mut self, why: CloseReason) {
        self.inner.protocol.closed(why);
    }

    fn layers(&mut self) -> Option<&mut dyn Layers> {
        Some(self)
    }
}

/// The layers of a connection, as it sees them.
pub trait Layers {
    /// Appends the encoded form of `output`, which another connection sends, to `encoded`.
    fn encode(&mut self, output: &[u8], encoded: &mut Vec<u8>);

    /// Appends what announces the end of the output to `encoded`.
    fn finish(&mut self, encoded: &mut Vec<u8>);

    /// Another connection has resumed this one.
    fn resumed(&mut self, cx: &mut Context<'_>) -> Next;
}

/// Layers inside each other encode from the innermost outwards.
impl<L: Layer, P: Protocol> Layers for Layered<L, P> {
    fn encode(&mut self, output: &[u8], encoded: &mut Vec<u8>) {
        match (self.layer.encoder(), self.inner.protocol.layers()) {
            (Some(outer), Some(inner)) => {
                let mut between = Vec::new();
                inner.encode(output, &mut between);
                outer.encode(&between, encoded);
            }
            (Some(encoder), None) => encoder.encode(output, encoded),
            (None, Some(inner)) => inner.encode(output, encoded),
            (None, None) => encoded.extend_from_slice(output),
        }
    }

    fn finish(&mut self, encoded: &mut Vec<u8>) {
        let mut last = Vec::new();
        if let Some(inner) = self.inner.protocol.layers() {
            inner.finish(&mut last);
        }
        match self.layer.encoder() {
            Some(outer) => {
                if !last.is_empty() {
                    outer.encode(&last, encoded);
                }
                outer.finish(encoded);
            }
            None => encoded.append(&mut last),
        }
    }

    fn resumed(&mut self, cx: &mut Context<'_>) -> Next {
        self.call(cx, |layer, inner, cx| inner.resumed(layer, cx))
    }
}

/// The protocol inside a layer. Each method calls it, and returns what the connection is to do
/// next: the layer passes this on, unless it has a reason of its own to close.
///
/// `layer` is the layer itself, which encodes what the call sends.
pub struct Inner<P> {
    protocol: P,
    /// When its timer expires.
    timer: Time,
    /// Decoded input that it has not consumed.
    input: Buffer,
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
    fn new(protocol: P) -> Inner<P> {
        Inner {
            protocol,
            timer: Time::NEVER,
            input: Buffer::default(),
            state: InnerState::Unopened,
            is_eof_pending: false,
        }
    }

    /// Returns whether its [`opened`](Protocol::opened) has been called.
    pub fn is_open(&self) -> bool {
        self.state != InnerState::Unopened
    }

    /// Replaces the protocol by one that is made late, when the layer knows more.
    ///
    /// # Panics
    ///
    /// If it is open already.
    pub fn replace(&mut self, protocol: P) {
        assert!(!self.is_open(), "a protocol that is open is not replaced");
        self.protocol = protocol;
    }

    /// Calls [`Protocol::opened`], and then offers the input that has waited for it. Called once.
    ///
    /// # Panics
    ///
    /// If it is open already.
    pub fn open<L: Layer>(&mut self, layer: &mut L, cx: &mut Context<'_>) -> Next {
        assert!(!self.is_open(), "a protocol is opened once");
        self.state = InnerState::Open;
        let next = self.call(layer, cx, |protocol, _, cx| protocol.opened(cx));
        self.settle(next, layer, cx)
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
        if layer.encoder().is_some() || !self.input.is_empty() || self.state != InnerState::Open {
            let next = self.receive(layer, input, cx);
            return Advance::consumed(input.len()).then(next);
        }
        mem::swap(&mut cx.meta.timer, &mut self.timer);
        let step = self.protocol.advance(input, cx);
        mem::swap(&mut cx.meta.timer, &mut self.timer);
        if step.next != Next::Continue {
            self.record(step.next);
        }
        step
    }

    /// Offers it `bytes`, message by message, after those that it has not consumed. What it does
    /// not consume is kept, up to [`INPUT_BYTES_MAX`](crate::limits::INPUT_BYTES_MAX) for one
    /// message; a longer one aborts the connection.
    pub fn receive<L: Layer>(&mut self, layer: &mut L, bytes: &[u8], cx: &mut Context<'_>) -> Next {
        match self.state {
            InnerState::Eof | InnerState::Closing => return Next::Unchanged,
            InnerState::Unopened | InnerState::Backpressured | InnerState::Paused => {
                self.keep(bytes);
                return if self.input.len() > INPUT_BYTES_MAX { Next::Abort } else { Next::Pause };
            }
            InnerState::Open => self.keep(bytes),
        }
        self.offer_input(layer, cx)
    }

    /// Keeps `bytes` until it can be offered input again.
    fn keep(&mut self, bytes: &[u8]) {
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

    fn output_low<L: Layer>(&mut self, layer: &mut L, cx: &mut Context<'_>) -> Next {
        match self.state {
            InnerState::Unopened | InnerState::Closing => Next::Unchanged,
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

    fn resumed<L: Layer>(&mut self, layer: &mut L, cx: &mut Context<'_>) -> Next {
        match self.state {
            InnerState::Unopened | InnerState::Eof | InnerState::Closing => Next::Unchanged,
            InnerState::Open => Next::Continue,
            InnerState::Backpressured | InnerState::Paused => {
                self.state = InnerState::Open;
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

    fn notified<L: Layer>(
        &mut self,
        layer: &mut L,
        about: ConnectionId,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Next {
        self.tell(layer, cx, |protocol, cx| protocol.notified(about, notification, cx))
    }

    fn message_received<L: Layer>(
        &mut self,
        layer: &mut L,
        message: Box<dyn Any>,
        cx: &mut Context<'_>,
    ) -> Next {
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

    fn timer_expired<L: Layer>(&mut self, layer: &mut L, cx: &mut Context<'_>) -> Next {
        if self.timer > cx.state.clock.now || self.state == InnerState::Closing {
            return Next::Unchanged;
        }
        self.timer = Time::NEVER;
        let next = self.call(layer, cx, |protocol, _, cx| protocol.timer_expired(cx));
        self.settle(next, layer, cx)
    }

    /// Offers it the input that waits, until that is consumed, or it needs more, or must wait.
    fn offer_input<L: Layer>(&mut self, layer: &mut L, cx: &mut Context<'_>) -> Next {
        let share = cx.state.budget.stream_share();
        while !self.input.is_empty() {
            if cx.bytes_pending() >= HIGH_WATERMARK_BYTES
                || cx.effects.is_above_high_watermark()
                || cx.state.budget.share_is_spent(share)
            {
                self.state = InnerState::Backpressured;
                cx.state.wants_output_low = true;
                return Next::Pause;
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
                next => {
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

#[cfg(test)]
mod tests;
