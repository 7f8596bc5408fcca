//! The phases of a connection, and what holds in each.

use crate::protocol::ident::CloseReason;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepted, and the peer has not sent a byte yet. Otherwise as `Open`.
    AwaitingFirstByte,
    /// Reading. The protocol has been offered all input that was read.
    Open,
    /// `input` holds bytes that the protocol has not been offered: too much output or too many
    /// effects waited, or it was paused. They are offered before anything else is read.
    Backpressured,
    /// The protocol takes no input until it returns `Next::Continue` from `output_low`,
    /// `timer_expired` or `notified`, or until another connection resumes it.
    Paused {
        /// Call `output_low` once the output has fallen to the low watermark: the protocol sent
        /// something when it paused, or older output waited then.
        awaits_output_low: bool,
        /// The peer's FIN has been read, so only output is still to come.
        at_eof: bool,
    },
    /// Closing. The rest of the output is sent, and then the connection closes in the way of
    /// `last`.
    Flushing { last: CloseMode },
    /// All output and our FIN are sent, the FIN at `last_activity`. Input is read and discarded
    /// until the peer's FIN, for a bounded time and for no more than `bytes_left` bytes.
    Lingering { bytes_left: u32 },
    /// An outbound connection: the connect began at `last_activity` and is in progress. What other
    /// connections send is kept in `output`.
    Connecting { then: AfterConnect },
    /// Over, for this reason.
    Ended(CloseReason),
}

/// What other connections have asked for before the connect succeeded. It is done when it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterConnect {
    StayOpen,
    ShutdownWrite,
    Close,
}

/// How a connection closes once its output is sent. Closing a socket with unread input sends a
/// reset (RST) instead of a FIN, and a reset destroys output that is still on its way (RFC 9112
/// section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseMode {
    /// Close at once. The peer's FIN has been read, so no input can be unread.
    Immediate,
    /// Close at once, unless unread input has arrived: the peer has announced that it will send no
    /// more.
    IfNothingUnread,
    /// Send our FIN, then read and discard what the peer still sends, for a bounded time.
    Linger,
}

/// Our direction of the stream while the peer's is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteSide {
    Open,
    /// Our FIN follows the output that waits. Nothing more is accepted from other connections.
    ShutdownPending,
    /// Our FIN is sent.
    Shut,
}
