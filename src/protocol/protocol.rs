//! What a protocol is: bytes in, bytes out.
//!
//! A protocol has no socket, no clock, no log and no reactor. It is told what came, it says what goes, and it says what
//! should happen next. So it can be tested with slices, and it cannot get reading, writing or closing wrong: partial
//! writes, backpressure, half-close, lingering and deadlines are the connection's.
//!
//! ```text
//!            opened ──► advance ──► advance ──► … ──► ended ──► closed
//!                       (input)     (input)           (FIN)     (exactly once, last)
//!                          │ ▲
//!                    Pause ▼ │ Continue
//!                  drained, told
//! ```

use super::context::Context;
use super::ident::{CloseReason, ConnectionId};
use super::notification::Notification;

/// A conversation over a stream, as a state machine without I/O.
///
/// One value is made per connection, by the closure given to [`Reactor::listen`](crate::Reactor::listen), or given to
/// [`Context::connect`]. Only
/// [`advance`](Protocol::advance) has to be written. Every call must return soon: while it runs, nobody else is served.
pub trait Protocol {
    /// The connection has just been accepted, or its peer reached. The place for a server that speaks first, and for a client.
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        let _ = cx;
        Next::Continue
    }

    /// Takes one step through `input`: all bytes that have arrived and are not consumed yet, never empty.
    ///
    /// Where `input` begins with a whole message, answer it and return how many bytes it had; the call comes again at once
    /// with the rest. Where it does not, return [`Advance::need_more`]; the call comes again when there is more. Bytes
    /// are not messages: the same conversation may arrive in pieces of any size, and must have the same outcome.
    ///
    /// While more output waits than [`HIGH_WATERMARK_BYTES`](crate::limits::HIGH_WATERMARK_BYTES) the call does not come, nor
    /// is anything read. Of one message, at most [`INPUT_BYTES_MAX`](crate::limits::INPUT_BYTES_MAX) can be waited for.
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance;

    /// The peer has sent its FIN: nothing comes after `rest`, the input that was never consumed. Our direction is still
    /// open. What was sent and what is sent now still reaches the peer; then the connection is closed. ([`Next::Pause`]
    /// keeps it open for what [`output_low`](Protocol::output_low) has still to produce, or for what others still send to it; it
    /// then ends when our FIN is sent too, see [`Context::shutdown_write`].)
    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        let _ = (rest, cx);
        Next::Close
    }

    /// Called after [`Next::Pause`], when what was said with it, or much that waited before, has fallen to
    /// [`LOW_WATERMARK_BYTES`](crate::limits::LOW_WATERMARK_BYTES) or less: the moment to produce more of a long answer. Who
    /// pauses without having said anything, and without much waiting, has only its alarm, or news, to wait for. Who has
    /// paused for another's sake, as a proxy does, answers [`Next::Unchanged`].
    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        let _ = cx;
        Next::Continue
    }

    /// News of the connection `about`, which this one has sent something to or watches (see [`Context::send_to`],
    /// [`Context::monitor`]). Never comes within another call, and not when this connection closes already: its protocol has
    /// then said its last word. Where the peer has sent its FIN, [`Next::Continue`] is as [`Next::Unchanged`]: only `Close` says
    /// that there is nothing more to say.
    ///
    /// News is told in the order in which it came about. One turn tells what there was when it had driven everybody, up to
    /// [`NOTIFICATIONS_PER_TURN`](crate::limits::NOTIFICATIONS_PER_TURN) or until much is set off by it; the rest, and what comes of that, is told in
    /// the next turns. So connections that answer news with effects hold up nobody else.
    fn notified(&mut self, about: ConnectionId, news: Notification, cx: &mut Context<'_>) -> Next {
        let _ = (about, news, cx);
        Next::Unchanged
    }

    /// The moment asked for with [`Context::set_timer`] has come. It has to be asked for anew to come again.
    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        let _ = cx;
        Next::Close
    }

    /// Whether the connection may be closed, while nothing is begun on it, to make room for another when descriptors or places
    /// run out. Asked only of a connection that has no input, no output and no alarm, and on which nothing has moved for a
    /// while. Say yes only where the peer expects such an end at any time, as a client of HTTP does between two requests.
    fn is_evictable(&self) -> bool {
        false
    }

    /// The connection has ended, and is closed when this returns. Called exactly once, and last; but not where the reactor
    /// itself is dropped before.
    fn closed(&mut self, why: CloseReason) {
        let _ = why;
    }
}

/// What [`Protocol::advance`] did with its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Advance {
    /// Bytes consumed, from the front. At most the length of the input: more is a bug of the protocol, and a panic.
    pub consumed: usize,
    /// What happens then.
    pub next: Next,
}

impl Advance {
    /// `count` bytes are dealt with; go on with the rest.
    pub fn consumed(count: usize) -> Advance {
        Advance { consumed: count, next: Next::Continue }
    }

    /// Nothing can be done with so little: come again when there is more.
    pub fn need_more() -> Advance {
        Advance::consumed(0)
    }

    /// The same, with another `next`.
    pub fn then(self, next: Next) -> Advance {
        Advance { next, ..self }
    }
}

/// What a connection does after its protocol's turn to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on listening. Who had paused listens again.
    Continue,
    /// Let all be as it was: who listens goes on listening, and who has paused stays paused. Where the peer has sent its
    /// FIN, that is as `Pause`.
    Unchanged,
    /// Take no more input until [`Protocol::output_low`], [`Protocol::timer_expired`] or [`Protocol::notified`] says otherwise, or another
    /// connection resumes this one.
    Pause,
    /// We have said all we want. What was sent reaches the peer, then our FIN; what the peer still sends is discarded
    /// for a bounded time, so that it does not turn into a reset that destroys the answer (RFC 9112 section 9.6).
    Close,
    /// As `Close`, and the peer has announced in the protocol's own words that it says no more either. Nothing is then
    /// waited for: if all it sent has been read, the connection is closed once the output is with the kernel.
    CloseWithoutLinger,
    /// Drop everything, and reset the connection.
    Abort,
}
