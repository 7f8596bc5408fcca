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

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::deadline::Time;
use crate::effects::Notification;
use crate::errno::{self, StreamError};
use crate::limits::Limits;
use crate::turn::LoopState;

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

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// All that we had to say was sent, and the connection closed in order.
    Finished,
    /// The peer of a connection that we began was not reached (see [`Context::connect`]).
    ConnectFailed(io::ErrorKind),
    /// The protocol gave it up with [`Next::Abort`].
    Aborted,
    /// The peer reset the connection, or was gone when we wrote.
    PeerReset,
    /// The peer has never said anything, and no byte moved for [`first_byte_timeout_ms`](crate::Limits::first_byte_timeout_ms).
    FirstByteTimeout,
    /// No byte moved for [`idle_timeout_ms`](crate::Limits::idle_timeout_ms).
    IdleTimeout,
    /// The peer took none of its bytes for [`write_timeout_ms`](crate::Limits::write_timeout_ms).
    WriteTimeout,
    /// One message filled [`INPUT_BYTES_MAX`](crate::limits::INPUT_BYTES_MAX), and the protocol still wanted more.
    InputTooLong,
    /// The protocol sent more at once than [`OUTPUT_BYTES_MAX`](crate::limits::OUTPUT_BYTES_MAX).
    OutputOverflow,
    /// The protocol sent something when our FIN was out ([`Context::shutdown_write`]), and so to nobody.
    WriteAfterShutdown,
    /// A call of its protocol panicked.
    ProtocolPanicked,
    /// Cut off: the reactor was asked to stop, and the time to finish was over.
    Stopped,
    /// The kernel reported another error.
    Io(io::ErrorKind),
}

impl From<io::Error> for CloseReason {
    fn from(error: io::Error) -> CloseReason {
        match errno::classify_send(&error) {
            StreamError::Disconnected => CloseReason::PeerReset,
            StreamError::WouldBlock | StreamError::Interrupted | StreamError::Failed => {
                CloseReason::Io(error.kind())
            }
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Finished => f.write_str("finished"),
            CloseReason::ConnectFailed(kind) => write!(f, "not reached: {kind}"),
            CloseReason::Aborted => f.write_str("aborted by the protocol"),
            CloseReason::PeerReset => f.write_str("reset by the peer"),
            CloseReason::FirstByteTimeout => f.write_str("silent since it connected"),
            CloseReason::IdleTimeout => f.write_str("idle for too long"),
            CloseReason::WriteTimeout => f.write_str("the peer does not take its bytes"),
            CloseReason::InputTooLong => f.write_str("a message too long"),
            CloseReason::OutputOverflow => f.write_str("the protocol sent too much at once"),
            CloseReason::WriteAfterShutdown => {
                f.write_str("the protocol sent something after its FIN")
            }
            CloseReason::ProtocolPanicked => f.write_str("its protocol panicked"),
            CloseReason::Stopped => f.write_str("the reactor stops"),
            CloseReason::Io(kind) => write!(f, "{kind}"),
        }
    }
}

/// Names a connection, also after it has ended: no two connections of a reactor are equal (but after 2³² of them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    pub(crate) const MIN: ConnectionId = ConnectionId { slot: 0, generation: 0 };
    pub(crate) const MAX: ConnectionId = ConnectionId { slot: u32::MAX, generation: u32::MAX };
    /// No connection: there are not that many.
    pub(crate) const NONE: ConnectionId = ConnectionId::MAX;
    /// Set where `slot` is a place in the list of outgoing connections, which are named before they have a slot.
    const OUTBOUND: u32 = 1 << 31;

    pub(crate) fn outbound(place: usize, generation: u32) -> ConnectionId {
        let place = u32::try_from(place)
            .expect("fewer calls than EFFECTS_MAX wait, and the others have descriptors");
        assert!(place & ConnectionId::OUTBOUND == 0, "there are fewer than 2³¹ descriptors");
        ConnectionId { slot: place | ConnectionId::OUTBOUND, generation }
    }

    pub(crate) fn outbound_index(self) -> Option<usize> {
        (self.slot & ConnectionId::OUTBOUND != 0)
            .then_some((self.slot & !ConnectionId::OUTBOUND) as usize)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outbound_index() {
            Some(place) => write!(f, "#out{place}.{}", self.generation),
            None => write!(f, "#{}.{}", self.slot, self.generation),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// It is at this address, and reached us over IP.
    Ip(SocketAddr),
    /// It is on this machine, and reached us over a Unix socket. Such peers have no names.
    Unix,
}

const _: () = assert!(
    size_of::<Peer>() == size_of::<SocketAddr>(),
    "that a peer may have no address costs no connection memory"
);

impl Peer {
    /// Its address, if it has one.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Peer::Ip(address) => Some(address),
            Peer::Unix => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer::Ip(address)
    }
}

/// Its address, such as `127.0.0.1:2000`, or `unix`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) => address.fmt(f),
            Peer::Unix => f.pad("unix"),
        }
    }
}

/// What a connection lends its protocol for one call.
pub struct Context<'i> {
    pub(crate) turn: &'i mut LoopState,
    /// Output that is still where it came from. Whatever is sent after it moves it to the scratch first.
    pub(crate) borrowed: &'i [u8],
    pub(crate) meta: &'i mut ConnectionMeta,
}

/// What a connection lends its protocol of itself.
pub(crate) struct ConnectionMeta {
    /// When the protocol wants to be called.
    pub(crate) timer: Time,
    pub(crate) peer: Peer,
    pub(crate) id: ConnectionId,
}

impl<'i> Context<'i> {
    /// Sends `bytes` to the peer, behind all that was sent before. Never blocks: what the kernel does not take now waits.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) {
        if !self.borrowed.is_empty() {
            self.copy_borrowed();
        }
        self.turn.output.extend_from_slice(bytes);
    }

    #[cold]
    fn copy_borrowed(&mut self) {
        self.turn.output.extend_from_slice(self.borrowed);
        self.borrowed = &[];
    }

    /// Sends a part of the input (or anything that lives as long), without copying it where that can be avoided.
    #[inline]
    pub fn send_borrowed(&mut self, bytes: &'i [u8]) {
        if self.borrowed.is_empty() && self.turn.output.is_empty() {
            self.borrowed = bytes;
        } else {
            self.send_copied(bytes);
        }
    }

    #[cold]
    fn send_copied(&mut self, bytes: &[u8]) {
        self.send(bytes);
    }

    /// Bytes sent in this call that have not gone to the kernel yet.
    #[inline]
    pub(crate) fn bytes_pending(&self) -> usize {
        self.turn.output.len() + self.borrowed.len()
    }

    /// The present moment: the same throughout a turn.
    pub fn now(&self) -> Instant {
        self.turn.now_as_instant()
    }

    /// The present moment as an HTTP date, e.g. `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
    #[inline]
    pub fn date(&mut self) -> [u8; 29] {
        self.turn.date()
    }

    /// Where output is composed, behind all that was sent before, and the date to put into it.
    #[inline]
    pub(crate) fn compose(&mut self) -> (&mut Vec<u8>, &[u8; 29]) {
        if !self.borrowed.is_empty() {
            self.copy_borrowed();
        }
        self.turn.compose()
    }

    /// Asks for a call of [`Protocol::timer_expired`] once `delay` is over (rounded up to whole milliseconds), and not for the one
    /// asked for before. The connection's own deadlines hold all the same. When the reactor stops, a conversation with an
    /// alarm set counts as one that is under way.
    pub fn set_timer(&mut self, delay: Duration) {
        let ms = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.meta.timer = self.turn.now.plus_ms(ms.max(1));
    }

    /// Takes back what was asked for with [`set_timer`](Context::set_timer).
    #[inline]
    pub fn cancel_timer(&mut self) {
        self.meta.timer = Time::NEVER;
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.meta.peer
    }

    /// This connection's name.
    pub fn id(&self) -> ConnectionId {
        self.meta.id
    }

    /// The reactor's limits.
    pub fn limits(&self) -> &Limits {
        &self.turn.limits
    }

    /// Whether the reactor has been asked to stop: finish what is begun, and say that it is the last.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.turn.stopping
    }
}
