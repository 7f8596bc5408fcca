//! What a protocol is notified of about another connection.

use std::any::Any;
use std::fmt;
use std::io;

use super::ident::ConnectionId;

/// What has happened to another connection, as passed to
/// [`Protocol::notified`](crate::Protocol::notified).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Notification {
    /// One of these: it accepts no more bytes, because it is closing or has sent its FIN, and what
    /// was sent to it was dropped; it has ended while this connection awaited `BelowLowWatermark`;
    /// it was monitored, and has ended; or its connect, which this connection started, was aborted.
    ///
    /// Output may still wait on this connection for its own peer. The answer
    /// [`Next::Abort`](crate::Next::Abort) drops it, so a relay that gives it loses those bytes.
    /// [`Relay`](crate::Relay) gives it only for a failure of the other side: a regular end is
    /// passed on by half-close, and there is no `Closed`.
    Closed,
    /// What was sent to it was accepted, but more than
    /// [`HIGH_WATERMARK_BYTES`](crate::limits::HIGH_WATERMARK_BYTES) of output wait there now
    /// (backpressure): send no more until `BelowLowWatermark`.
    ///
    /// Not repeated until then. Either `BelowLowWatermark` or `Closed` follows. A connection that
    /// is paused meanwhile does not count as idle, however long that lasts: the deadlines of the
    /// other connection bound the wait. asyncio: `pause_writing`.
    AboveHighWatermark,
    /// After `AboveHighWatermark`: the output that waits there has fallen to
    /// [`LOW_WATERMARK_BYTES`](crate::limits::LOW_WATERMARK_BYTES) or less. asyncio:
    /// `resume_writing`.
    BelowLowWatermark,
    /// Nothing of what was sent to it was accepted: more than
    /// [`OUTPUT_BYTES_MAX`](crate::limits::OUTPUT_BYTES_MAX) would have waited there, or one
    /// callback has sent too much to others (see
    /// [`Connections::send_to`](crate::Connections::send_to)).
    Rejected,
    /// A message to its protocol was dropped: its mailbox has
    /// [`MAILBOX_MESSAGES_MAX`](crate::limits::MAILBOX_MESSAGES_MAX) messages already (see
    /// [`Connections::send_message`](crate::Connections::send_message)).
    MailboxFull,
    /// The connect that this connection has started with
    /// [`Context::connect`](crate::Context::connect) has succeeded.
    Connected,
    /// A graceful stop of the reactor has begun
    /// ([`Context::monitor_stop`](crate::Context::monitor_stop)). It is about no other connection:
    /// the id is that of this one.
    Stopping,
    /// That connect has failed for this reason, and the connection has ended.
    ConnectFailed(io::ErrorKind),
}

/// What a protocol is called with.
pub(crate) enum Content {
    /// Something has happened to this other connection.
    Notification(ConnectionId, Notification),
    /// A value of the application's own type.
    Message(Box<dyn Any>),
    /// No call: the output has fallen to the low watermark, and a value is kept for the peer.
    Kept,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Notification(about, notification) => write!(f, "{about} {notification:?}"),
            Content::Message(_) => f.write_str("message"),
            Content::Kept => f.write_str("kept value"),
        }
    }
}

/// A notification or a message for `to` that has not been delivered. If `to` is `NONE`, only
/// subscriptions were removed, and nothing is to be delivered.
#[derive(Debug)]
pub(crate) struct PendingNotification {
    pub(crate) to: ConnectionId,
    pub(crate) content: Content,
    /// It ends a wait of `to` for the output of another connection to fall to the low watermark.
    pub(crate) ends_wait: bool,
    /// What the turn is charged for it, in bytes.
    pub(crate) cost_bytes: usize,
}
