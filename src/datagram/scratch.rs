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

use std::mem;

use super::receive::Batch;
use super::replies::ReplyQueue;
use super::socket::DatagramSocket;
use crate::memory::Memory;
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

/// What a socket keeps from one drive to the next because it could not be answered or sent.
pub(crate) struct Kept {
    pub(super) batch: Batch,
    pub(super) replies: ReplyQueue,
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

impl Kept {
    /// Returns the memory that it takes, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.batch.held_bytes() + self.replies.held_bytes()
    }

    #[cold]
    fn swap(&mut self, scratch: &mut DatagramScratch) {
        mem::swap(&mut scratch.batch, &mut self.batch);
        mem::swap(&mut scratch.replies, &mut self.replies);
    }

    pub(super) fn unfinished(&self) -> Unfinished {
        Unfinished::of(&self.batch, &self.replies)
    }
}

impl Unfinished {
    pub(crate) const NOTHING: Unfinished = Unfinished { datagrams: false, replies: false };

    fn of(batch: &Batch, replies: &ReplyQueue) -> Unfinished {
        Unfinished { datagrams: !batch.is_answered(), replies: !replies.is_empty() }
    }

    /// Returns whether a batch can be sent, answered or received now. While replies wait, only
    /// sending helps.
    pub(super) fn can_answer(self, ready: &Readiness) -> bool {
        if self.replies { ready.writable } else { ready.readable || self.datagrams }
    }
}

impl DatagramSocket {
    /// Begins a drive: what the socket has kept is continued. The buffers of the loop are in `kept`
    /// meanwhile, until they are needed.
    #[inline(always)] // every drive makes this call
    pub(super) fn begin_in(&mut self, scratch: &mut DatagramScratch) {
        match &mut self.kept {
            Some(kept) => kept.swap(scratch),
            None => scratch.batch.clear(), // it has what another socket has answered
        }
        scratch.replies.begin(self.peer, self.gso_enabled);
    }

    /// What was kept is answered and sent: gives the buffers back to the loop. The memory that the
    /// replies took is good for the next ones.
    #[cold]
    pub(super) fn return_buffers(&mut self, scratch: &mut DatagramScratch, memory: &mut Memory) {
        if let Some(kept) = self.kept.take() {
            scratch.batch = kept.batch;
        }
        self.meter(memory);
    }

    /// Ends a drive: keeps what could not be answered or sent.
    #[inline(always)] // as above
    pub(super) fn end_in(&mut self, scratch: &mut DatagramScratch, memory: &mut Memory) {
        self.gso_enabled = scratch.replies.gso_enabled;
        if self.kept.is_some() || scratch.unfinished() != Unfinished::NOTHING {
            self.keep(scratch, memory);
        }
    }

    #[cold]
    fn keep(&mut self, scratch: &mut DatagramScratch, memory: &mut Memory) {
        if scratch.unfinished() == Unfinished::NOTHING {
            return self.return_buffers(scratch, memory);
        }
        match &mut self.kept {
            Some(kept) => kept.swap(scratch),
            None => {
                let batch = scratch.batch.to_size();
                let mut replies = mem::replace(&mut scratch.replies, ReplyQueue::new());
                replies.move_to_copy(&scratch.batch, &batch);
                scratch.batch.clear();
                self.kept = Some(Box::new(Kept { batch, replies }));
            }
        }
        self.meter(memory);
    }

    /// Counts the memory that it keeps.
    fn meter(&mut self, memory: &mut Memory) {
        let held = self.kept.as_ref().map_or(0, |kept| kept.held_bytes());
        memory.change_datagrams(mem::replace(&mut self.metered, held), held);
    }
}
