//! The callbacks of a stream protocol: bytes in, bytes out, no socket.
//!
//! A protocol has no socket, no clock, no log and no reactor. It is given the bytes that have
//! arrived, sends bytes, and returns what happens next. So it can be tested with slices, and it
//! cannot get reading, writing or closing wrong: partial writes, backpressure, half-close,
//! lingering and timeouts belong to the connection.

use std::any::Any;

use super::context::Context;
use super::ident::{CloseReason, ConnectionId};
use super::layer::Layers;
use super::notification::Notification;

/// The behaviour of one stream connection, as a state machine without I/O.
///
/// ```text
///     opened ──► advance ──► advance ──► … ──► eof ─────────────► closed
///                (input)     (input)           (the peer's FIN)   (exactly once, last)
///                   │ ▲
///       Next::Pause │ │ Next::Continue
///                   ▼ │
///                 (paused)
///
///     between opened and closed, also while paused:
///       timer_expired   the timer has expired
///       notified        something has happened to another connection
///       message_received   another connection or a task has sent a value
///     only while paused:
///       output_low      the output has fallen to the low watermark
/// ```
///
/// One value is made for each connection: by the closure given to
/// [`Reactor::listen`](crate::Reactor::listen), or by the caller of [`Context::connect`]. Only
/// [`advance`](Protocol::advance) has to be written.
///
/// Every call must return soon: while it runs, no other connection is served. A call must not
/// block.
///
/// Where asyncio has the same callback under another name, the method gives that name.
pub trait Protocol {
    /// The connection has just been accepted, or its connect has succeeded. Called once, and first:
    /// the place to send a greeting or a client's first request. By default, nothing is done.
    ///
    /// asyncio: `connection_made`.
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        let _ = cx;
        Next::Continue
    }

    /// Takes one step through `input`: all bytes that have arrived and are not consumed yet, never
    /// empty.
    ///
    /// If `input` begins with a whole message, answer it and return how many bytes it had
    /// ([`Advance::consumed`]). The call comes again at once with the rest. If it does not, return
    /// [`Advance::need_more`]. The call comes again when more has arrived, with the same bytes in
    /// front. Bytes are not messages: the same input may arrive in pieces of any size, and must
    /// have the same outcome.
    ///
    /// While [`HIGH_WATERMARK_BYTES`](crate::limits::HIGH_WATERMARK_BYTES) or more of the output
    /// that this protocol itself has sent waits, the call does not come and nothing is read
    /// (backpressure). Output that other connections have sent does not count here. One message may
    /// have at most [`INPUT_BYTES_MAX`](crate::limits::INPUT_BYTES_MAX) bytes.
    ///
    /// asyncio: `data_received`, which leaves the buffering of incomplete messages to the protocol.
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance;

    /// The peer has sent its FIN: nothing comes after `rest`, the input that was never consumed.
    /// Our direction is still open (half-close).
    ///
    /// What was sent and what is sent now still reaches the peer. Then the connection closes,
    /// unless the answer is [`Next::Pause`]. That keeps it open for what
    /// [`output_low`](Protocol::output_low) has still to produce, or for bytes that other
    /// connections send to it. It then ends when our FIN is sent too (see
    /// [`Connections::shutdown_write`](crate::Connections::shutdown_write)). By default, `rest` is
    /// dropped and the connection closes.
    ///
    /// asyncio: `eof_received`.
    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        let _ = (rest, cx);
        Next::Close
    }

    /// After [`Next::Pause`]: the output has fallen to
    /// [`LOW_WATERMARK_BYTES`](crate::limits::LOW_WATERMARK_BYTES) or less. The moment to produce
    /// more of a long answer.
    ///
    /// Called if something was sent in the call that paused, or if more than the low watermark
    /// waited then. A protocol that pauses without either is continued only by its timer, a
    /// notification, a message, or another connection. A protocol that has paused on behalf of
    /// another connection, as a proxy does, returns [`Next::Unchanged`]. Not called for a pause
    /// that another connection has ordered ([`Connections::pause`](crate::Connections::pause)). By
    /// default, the pause ends.
    ///
    /// asyncio: `resume_writing`. Node.js: the `drain` event.
    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        let _ = cx;
        Next::Continue
    }

    /// Something has happened to the connection `about`: this one has sent to it, connected it or
    /// monitors it (see [`Connections::send_to`](crate::Connections::send_to),
    /// [`Context::connect`], [`Context::monitor`]).
    ///
    /// Never called within another call, and not when this connection is closing. After the peer's
    /// FIN, [`Next::Continue`] counts as [`Next::Unchanged`]: only [`Next::Close`] closes.
    ///
    /// Notifications are delivered in the order in which they arose. A turn delivers those that
    /// exist once all connections have been driven, until the turn's budget is spent. The rest, and
    /// those that the delivery gives rise to, follow in the next turns. So connections that answer
    /// notifications with effects do not delay the others. By default, nothing is done.
    fn notified(
        &mut self,
        about: ConnectionId,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Next {
        let _ = (about, notification, cx);
        Next::Unchanged
    }

    /// A message to this connection, from another one, from a datagram protocol or from a task
    /// ([`Connections::send_message`](crate::Connections::send_message)). The values have any type,
    /// so ask for the types that are expected: `message.downcast::<MyMessage>()`.
    ///
    /// Called as [`notified`](Protocol::notified) is, in one order with it, and the answer means
    /// the same. By default, the message is dropped.
    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        let _ = (message, cx);
        Next::Unchanged
    }

    /// The timer that was set with [`Context::set_timer`] has expired. It has to be set anew to
    /// expire again. By default, the connection closes.
    ///
    /// asyncio: a callback scheduled with `loop.call_later`.
    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        let _ = cx;
        Next::Close
    }

    /// Returns whether the connection may be closed to make room for a new one, when descriptors or
    /// slots run out (eviction).
    ///
    /// Asked only of a connection without input, output and timer, on which no byte has moved for
    /// half a second. If new connections have found no room for a second, this time does not count.
    /// Return true only if the peer expects such a close at any time, as an HTTP client does
    /// between two requests.
    fn is_evictable(&self) -> bool {
        false
    }

    /// Returns the layers that the connection's bytes pass through; `None` if there are none. Only
    /// [`Layered`](crate::Layered) has any.
    #[doc(hidden)]
    fn layers(&mut self) -> Option<&mut dyn Layers> {
        None
    }

    /// Returns the box that it is, if it is one: a layer may put another protocol into it.
    #[doc(hidden)]
    fn as_boxed(&mut self) -> Option<&mut Box<dyn Protocol>> {
        None
    }

    /// The connection has ended for the reason `why`, and is closed when this returns. Called
    /// exactly once, and last; but not if the reactor itself is dropped before.
    ///
    /// There is nothing left to send to or to ask, so no context. A protocol that needs its id
    /// here keeps it in [`opened`](Protocol::opened).
    ///
    /// asyncio: `connection_lost`.
    fn closed(&mut self, why: CloseReason) {
        let _ = why;
    }
}

/// A protocol that is chosen while the program runs: by a listener for each peer, or by a
/// [`Layer`](crate::Layer) that has seen the first bytes.
///
/// ```
/// use mio_reactor::{Echo, Limits, Protocol, Reactor};
///
/// # fn main() -> std::io::Result<()> {
/// let mut reactor = Reactor::new(Limits::default())?;
/// reactor.listen("127.0.0.1:0", |peer| -> Box<dyn Protocol> {
///     match peer.ip().is_loopback() {
///         true => Box::new(Echo::with_prefix("local -> ")),
///         false => Box::new(Echo::new()),
///     }
/// })?;
/// # Ok(())
/// # }
/// ```
impl Protocol for Box<dyn Protocol> {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        (**self).opened(cx)
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        (**self).advance(input, cx)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        (**self).eof(rest, cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        (**self).output_low(cx)
    }

    fn notified(
        &mut self,
        about: ConnectionId,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Next {
        (**self).notified(about, notification, cx)
    }

    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        (**self).message_received(message, cx)
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        (**self).timer_expired(cx)
    }

    fn is_evictable(&self) -> bool {
        (**self).is_evictable()
    }

    fn layers(&mut self) -> Option<&mut dyn Layers> {
        (**self).layers()
    }

    fn as_boxed(&mut self) -> Option<&mut Box<dyn Protocol>> {
        Some(self)
    }

    fn closed(&mut self, why: CloseReason) {
        (**self).closed(why);
    }
}

/// What [`Protocol::advance`] did with its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Advance {
    /// Bytes consumed, from the front. At most the length of the input: more is a bug of the
    /// protocol, and a panic.
    pub consumed: usize,
    /// What happens then.
    pub next: Next,
}

impl Advance {
    /// Consumes `count` bytes, and continues with the rest.
    pub fn consumed(count: usize) -> Advance {
        Advance { consumed: count, next: Next::Continue }
    }

    /// Consumes nothing, and waits for more input: `input` does not hold a whole message yet.
    pub fn need_more() -> Advance {
        Advance::consumed(0)
    }

    /// Returns the same step with another `next`.
    pub fn then(self, next: Next) -> Advance {
        Advance { next, ..self }
    }
}

/// What a connection does after a call of its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Reads on. A paused connection resumes. After the peer's FIN, closes as `Close` does (but see
    /// [`Protocol::notified`]).
    Continue,
    /// Changes nothing: a connection that reads keeps reading, and a paused one stays paused. After
    /// the peer's FIN, acts as `Pause`.
    Unchanged,
    /// Takes no more input until [`Protocol::output_low`], [`Protocol::timer_expired`],
    /// [`Protocol::notified`] or [`Protocol::message_received`] returns `Continue`, or until
    /// another connection resumes this one.
    ///
    /// While the timer of a paused connection is set, it does not count as idle, however long that
    /// lasts: the timer bounds the wait.
    Pause,
    /// Closes gracefully. What was sent reaches the peer, then our FIN. What the peer still sends
    /// is discarded for a bounded time, so that it does not lead to a reset that destroys the
    /// answer (RFC 9112 section 9.6; nginx: lingering close).
    Close,
    /// Closes gracefully, without lingering: the peer has announced, in the words of the protocol,
    /// that it sends no more either. If all that it sent has been read, the connection closes as
    /// soon as the kernel has taken the output.
    CloseWithoutLinger,
    /// Drops the output, and resets the connection.
    Abort,
}
