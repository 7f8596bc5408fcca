//! The memory in which a reactor's datagram sockets receive and answer: one set, lent for a drive.
//!
//! ```text
//!     drive begins   batch, replies: empty, or what the socket has kept ◄── kept
//!       receive, answer, send
//!     drive ends     all answered and sent: nothing is kept, the usual case
//!                    otherwise: what was received is copied, to its size ──► kept
//! ```
//!
//! The receive buffers take 4 MiB. If each socket had its own, the first ones would cost address
//! space only. But memory that the process has freed before is used again, and then all of it is
//! written to when it is allocated. So every client that comes and goes would cost its 4 MiB.
//!
//! Invariant: between drives no socket has a part of it. What a socket keeps is a copy of what was
//! received, and ends when that is answered and sent.

use super::receive::Batch;
use super::replies::ReplyQueue;
use crate::stream::readiness::Readiness;
#[cfg(target_os = "linux")]
use crate::sys::linux::Mmsg;

/// What the loop lends to the datagram socket that it drives.
pub(crate) struct DatagramScratch {
    /// Of the socket that is driven: what it has received last.
    pub(crate) batch: Batch,
    /// Of the same: the replies that wait. Empty between drives.
    pub(crate) replies: ReplyQueue,
    pub(crate) arrays: CallArrays,
}

/// What the system calls need beside the bytes. Only one call's at a time.
pub(crate) struct CallArrays {
    #[cfg(target_os = "linux")]
    pub(crate) mmsg: Mmsg,
    /// A reply of several pieces is put together here, because sendto takes one slice.
    pub(crate) assembled: Vec<u8>,
}

/// What is left to do with what a socket has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// Datagrams are to be answered.
    pub(crate) datagrams: bool,
    /// Replies are to be sent.
    pub(crate) replies: bool,
}

impl DatagramScratch {
    pub(crate) fn new() -> DatagramScratch {
        DatagramScratch {
            batch: Batch::new(),
            replies: ReplyQueue::new(),
            arrays: CallArrays::new(),
        }
    }

    pub(crate) fn unfinished(&self) -> Unfinished {
        Unfinished::of(&self.batch, &self.replies)
    }
}

impl CallArrays {
    pub(crate) fn new() -> CallArrays {
        CallArrays {
            #[cfg(target_os = "linux")]
            mmsg: Mmsg::new(),
            assembled: Vec::new(),
        }
    }
}

impl Unfinished {
    pub(crate) const NOTHING: Unfinished = Unfinished { datagrams: false, replies: false };

    pub(super) fn of(batch: &Batch, replies: &ReplyQueue) -> Unfinished {
        Unfinished { datagrams: !batch.is_answered(), replies: !replies.is_empty() }
    }

    /// Returns whether a batch can be sent, answered or received now. While replies wait, only
    /// sending helps.
    pub(super) fn can_answer(self, ready: &Readiness) -> bool {
        if self.replies { ready.writable() } else { ready.readable() || self.datagrams }
    }
}
