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

mod inner; // the protocol inside a layer

use std::any::Any;
use std::fmt;

pub use self::inner::Inner;
use super::context::Context;
use super::ident::{CloseReason, ConnectionId};
use super::notification::Notification;
use super::protocol::{Advance, Next, Protocol};
use crate::time::KeptTime;

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
///
/// A layer may open the protocol inside late, and choose it ([`Inner::replace`]) and its peer
/// ([`Context::set_peer`]) by what it has read. This one reads the header of the [PROXY protocol],
/// version 1, with which a proxy names its client (`UNKNOWN`, which names none, is refused here):
///
/// ```
/// use std::net::{IpAddr, SocketAddr};
/// use mio_reactor::{Advance, Context, Inner, Layer, Layered, Next, Protocol};
/// use mio_reactor::{CloseReason, TestConnection};
///
/// struct ProxyHeader;
///
/// /// `PROXY TCP4 192.0.2.7 198.51.100.1 51514 80`, without its CRLF.
/// fn client_of(line: &[u8]) -> Option<SocketAddr> {
///     let mut words = std::str::from_utf8(line).ok()?.split(' ');
///     (words.next()? == "PROXY" && matches!(words.next()?, "TCP4" | "TCP6")).then_some(())?;
///     let client: IpAddr = words.next()?.parse().ok()?;
///     let _server: IpAddr = words.next()?.parse().ok()?;
///     Some(SocketAddr::new(client, words.next()?.parse().ok()?))
/// }
///
/// impl Layer for ProxyHeader {
///     fn opened<P: Protocol>(&mut self, _: &mut Inner<P>, _: &mut Context<'_>) -> Next {
///         Next::Continue // the protocol is opened when its client is known
///     }
///
///     fn advance<'i, P: Protocol>(
///         &mut self,
///         input: &'i [u8],
///         inner: &mut Inner<P>,
///         cx: &mut Context<'i>,
///     ) -> Advance {
///         if inner.is_open() {
///             return inner.advance(self, input, cx);
///         }
///         let Some(end) = input.windows(2).position(|bytes| bytes == b"\r\n") else {
///             let is_too_long = input.len() >= 107; // the longest header, with its CRLF
///             let next = if is_too_long { Next::Abort } else { Next::Continue };
///             return Advance::need_more().then(next);
///         };
///         let Some(client) = client_of(&input[..end]) else {
///             return Advance::consumed(0).then(Next::Abort);
///         };
///         cx.set_peer(client.into());
///         Advance::consumed(end + 2).then(inner.open(self, cx))
///     }
/// }
///
/// /// Greets its client.
/// struct Greeter;
///
/// impl Protocol for Greeter {
///     fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
///         cx.send(format!("Hello {}\n", cx.peer()).as_bytes());
///         Advance::consumed(input.len())
///     }
/// }
///
/// let mut greeter = TestConnection::new(Layered::new(ProxyHeader, Greeter));
/// greeter.peer_sends(b"PROXY TCP4 192.0.2.7 198.51.100.1 515");
/// greeter.peer_sends(b"14 80\r\nHi");
/// assert_eq!(greeter.take_received(), b"Hello 192.0.2.7:51514\n");
///
/// let mut stranger = TestConnection::new(Layered::new(ProxyHeader, Greeter));
/// stranger.peer_sends(b"Hi, no proxy here\r\n");
/// assert_eq!(stranger.close_reason(), Some(CloseReason::Aborted));
/// ```
///
/// [PROXY protocol]: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
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
    #[inline(always)]
    fn advance<'i, P: Protocol>(
        &mut self,
        input: &'i [u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'i>,
    ) -> Advance {
        inner.advance(self, input, cx)
    }

    /// As [`Protocol::eof`]. What the layer has not consumed is input of the inner protocol, unless
    /// there is an [`encoder`](Layer::encoder): then it is a part of what the peer has encoded.
    ///
    /// If the peer should have announced its end in the words of this layer, and has not, what it
    /// sent may have been cut short: return [`Next::Abort`].
    fn eof<P: Protocol>(
        &mut self,
        rest: &[u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'_>,
    ) -> Next {
        if !rest.is_empty() && self.encoder().is_none() {
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
    timer: KeptTime,
}

impl<L: Layer, P: Protocol> Layered<L, P> {
    /// Puts `protocol` inside `layer`.
    pub fn new(layer: L, protocol: P) -> Layered<L, P> {
        Layered { layer, inner: Inner::new(protocol), timer: KeptTime::NEVER }
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
        self.merge_timers(cx);
        result
    }

    #[inline(always)]
    fn merge_timers(&mut self, cx: &mut Context<'_>) {
        self.timer = cx.meta.timer;
        cx.meta.timer = self.timer.get().min(self.inner.timer.get()).into();
    }

    #[inline(never)] // else it takes registers from the fast path
    fn advance_slowly<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        self.call(cx, |layer, inner, cx| layer.advance(input, inner, cx))
    }

    #[cold]
    fn merge_timers_after(&mut self, step: Advance, cx: &mut Context<'_>) -> Advance {
        self.merge_timers(cx);
        step
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
        // Fast path: neither has a timer, and the input is passed on as it is. An identity layer
        // over echo costs 17 instructions then (measured: benches/what_does_a_protocol_cost.rs).
        if !cx.meta.timer.is_never() || !self.inner.is_direct() {
            return self.advance_slowly(input, cx);
        }
        let step = self.layer.advance(input, &mut self.inner, cx);
        if !cx.meta.timer.is_never() || !self.inner.timer.is_never() {
            return self.merge_timers_after(step, cx);
        }
        step
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
        if self.timer.get() <= cx.state.clock.now {
            self.timer = KeptTime::NEVER;
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

#[cfg(test)]
mod tests;
