//! The phases of a connection, and the two halves of an established one.

use crate::limits::{LINGER_BLOCK_BYTES, LINGER_BLOCKS_MAX};
use crate::protocol::effects::Command;
use crate::protocol::ident::CloseReason;
use crate::stream::readiness::PeerCheck;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// An outbound connection: the connect began at `last_activity` and is in progress. What other
    /// connections send is kept in the output. `then` is what they have asked for meanwhile, and is
    /// done once it has succeeded: a close or a shutdown of the write side.
    Connecting { then: Option<Command> },
    /// The protocol is called, and both halves work on their own.
    Established(ReadSide),
    /// Closing. The rest of the output is sent, and then the connection closes as `close_mode`
    /// says.
    Flushing { close_mode: CloseMode },
    /// All output and our FIN are sent, the FIN at `last_activity`. Input is read and discarded
    /// until the peer's FIN, for a bounded time and for no more than `blocks_left` blocks of
    /// `LINGER_BLOCK_BYTES`.
    Lingering { blocks_left: Blocks },
    /// Ended, for this reason.
    Ended(CloseReason),
}

/// A number of blocks, in two bytes that need no alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks([u8; 2]);

impl Blocks {
    pub(super) const MAX: Blocks = Blocks(LINGER_BLOCKS_MAX.to_ne_bytes());

    /// Returns how many are left after a read of `count` bytes; `None` if none is.
    pub(super) fn after(self, count: usize) -> Option<Blocks> {
        let blocks = u16::try_from(count.div_ceil(LINGER_BLOCK_BYTES)).unwrap_or(u16::MAX);
        let left = u16::from_ne_bytes(self.0).saturating_sub(blocks);
        (left > 0).then_some(Blocks(left.to_ne_bytes()))
    }
}

/// The peer's half of an established connection: what becomes of its input.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadSide {
    /// Reading. The protocol has been offered all input that was read.
    Open,
    /// The input holds bytes that the protocol has not been offered: too much output or too many
    /// effects waited, or it was paused. They are offered before anything else is read.
    Backpressured,
    /// The protocol takes no input until it returns `Next::Continue` from `output_low`,
    /// `timer_expired` or `notified`, or until another connection resumes it.
    Paused { wants_output_low: bool },
    /// Another connection has resumed this one, and its layers have not been told. If they have
    /// nothing to resume, it is paused as it was before.
    Resumed { wants_output_low: bool },
    /// The peer's FIN has been read, so only output is still to come.
    ///
    /// Here, in `Paused` and in `Resumed`, `wants_output_low` says that `output_low` is called once
    /// the output has fallen to the low watermark: the protocol sent something when it paused, or
    /// older output waited then.
    Eof { wants_output_low: bool },
}

impl ReadSide {
    /// Returns whether `output_low` is still to be called.
    pub(super) fn wants_output_low(self) -> bool {
        matches!(
            self,
            ReadSide::Paused { wants_output_low: true }
                | ReadSide::Resumed { wants_output_low: true }
                | ReadSide::Eof { wants_output_low: true }
        )
    }

    /// Returns whether the socket is to be asked whether the peer is gone: nothing is read that
    /// would show it.
    pub(super) fn needs_peer_check(self, check: PeerCheck) -> bool {
        match self {
            ReadSide::Open | ReadSide::Backpressured | ReadSide::Resumed { .. } => false,
            ReadSide::Paused { .. } => check == PeerCheck::Due,
            ReadSide::Eof { .. } => check != PeerCheck::NotNeeded,
        }
    }

    /// The same, with no call of `output_low` to come.
    pub(super) fn without_wait(self) -> ReadSide {
        match self {
            ReadSide::Paused { .. } => ReadSide::Paused { wants_output_low: false },
            ReadSide::Eof { .. } => ReadSide::Eof { wants_output_low: false },
            ReadSide::Open | ReadSide::Backpressured | ReadSide::Resumed { .. } => self,
        }
    }
}

/// Our half of the stream: whether the protocol and other connections may still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteSide {
    /// `has_layers`: there are layers between it and its protocol (`src/protocol/layer.rs`), which
    /// announce the end of the output before our FIN.
    Open { has_layers: bool },
    /// Our FIN follows the output that waits. Nothing more is accepted from other connections.
    ShutdownPending,
    /// Our FIN is sent.
    Shut,
}

/// How a connection closes once its output is sent. Closing a socket with unread input sends a
/// reset (RST) instead of a FIN, and a reset destroys output that is still on its way (RFC 9112
/// section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseMode {
    /// Close at once, without a call for our FIN. The peer's has been read, so no input can be
    /// unread.
    Immediate,
    /// Send our FIN and close, unless unread input has arrived: the peer has announced that it will
    /// send no more.
    IfNothingUnread,
    /// Send our FIN, then read and discard what the peer still sends, for a bounded time.
    Linger,
}
