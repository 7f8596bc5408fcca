//! What a datagram socket keeps from one drive to the next, and how a drive begins and ends.
//!
//! Mostly nothing: all that was received is answered, and all replies are sent. Otherwise the
//! socket keeps a copy, and the next drive goes on with it.
//!
//! Invariant: between drives the loop's buffers are the loop's. Only during a drive that goes on
//! with what was kept, they are in `kept`.

use std::mem;

use super::receive::Batch;
use super::replies::ReplyQueue;
use super::scratch::{DatagramScratch, Unfinished};
use super::socket::DatagramSocket;
use super::transport::DatagramTransport;
use crate::loop_state::LoopState;
use crate::memory::Memory;

/// What a socket keeps from one drive to the next because it could not be answered or sent.
pub(crate) struct Kept {
    pub(super) batch: Batch,
    pub(super) replies: ReplyQueue,
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

impl<T: DatagramTransport> DatagramSocket<T> {
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
    pub(super) fn end_in(&mut self, scratch: &mut DatagramScratch, state: &mut LoopState) {
        self.gso_enabled = scratch.replies.gso_enabled;
        if self.kept.is_some() || scratch.unfinished() != Unfinished::NOTHING {
            self.keep(scratch, state);
        }
    }

    #[cold]
    fn keep(&mut self, scratch: &mut DatagramScratch, state: &mut LoopState) {
        if scratch.unfinished() == Unfinished::NOTHING {
            return self.return_buffers(scratch, &mut state.memory);
        }
        match &mut self.kept {
            Some(kept) => kept.swap(scratch),
            None => {
                let batch = scratch.batch.to_size();
                let mut replies = mem::replace(&mut scratch.replies, ReplyQueue::new());
                replies.move_to_copy(&scratch.batch, &batch);
                scratch.batch.clear();
                let kept = Kept { batch, replies };
                state.budget.charge(kept.held_bytes()); // copied, or composed and not sent
                self.kept = Some(Box::new(kept));
            }
        }
        self.meter(&mut state.memory);
    }

    /// Counts the memory that it keeps.
    fn meter(&mut self, memory: &mut Memory) {
        let held = self.kept.as_ref().map_or(0, |kept| kept.held_bytes());
        memory.change_datagrams(mem::replace(&mut self.metered, held), held);
    }
}
