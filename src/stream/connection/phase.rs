//! The phases of a connection, and what holds in each.

use crate::protocol::ident::CloseReason;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The peer has not said anything yet. Else as `Open`.
    AwaitingFirstByte,
    /// We read, and the protocol has been offered all that we read.
    Open,
    /// `input` holds something that the protocol has not been offered, because too much output waited or it was paused.
    /// It is offered before anything else is read.
    Backpressured,
    /// The protocol takes no input until its output has drained or its alarm rings. `awaits_output_low`: it said something when it
    /// paused, or older output waited then, so it will be asked for more once that has drained. `at_eof`: the peer has
    /// sent its FIN, so only output is still to come.
    Paused { awaits_output_low: bool, at_eof: bool },
    /// The protocol has said all. The rest of the output goes out, and then what `last` says.
    Flushing { last: CloseMode },
    /// All is sent and our FIN with it (that was when `last_activity` says). We read and discard until the peer's FIN, but not for
    /// ever, and not more than so many bytes.
    Lingering { bytes_left: u32 },
    /// We have begun it, when `last_activity` says, and the peer has not been reached yet. What others send waits; `then` is what
    /// else they have asked for.
    Connecting { then: AfterConnect },
    /// Over, for this reason.
    Ended(CloseReason),
}

/// What becomes of a connection once its peer has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterConnect {
    StayOpen,
    ShutdownWrite,
    Close,
}

/// How a connection closes whose output has gone. Unread input would turn our FIN into a reset that destroys the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseMode {
    /// At once: the peer's FIN has been read, so nothing can be unread.
    Immediate,
    /// At once, unless something has come that has not been read: the peer has said that it would say no more.
    IfNothingUnread,
    /// After our FIN, what the peer still sends is read and discarded for a while.
    Linger,
}

/// What becomes of our direction while the peer's is still heard, when somebody has asked for our FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteSide {
    Open,
    /// Our FIN follows when what waits has been sent. Nothing is taken from others any more.
    ShutdownPending,
    /// Our FIN is sent.
    Shut,
}
