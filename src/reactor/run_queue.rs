//! The run queue: the slots whose source can go on, and the order in which a turn drives them.
//!
//! ```text
//!     an event, a command, a timer … ──► fresh ──► batch ──► half of the turn, or all of it
//!     moved its share, and has more  ──► bulk  ──► batch ──► what is left: at least half
//! ```
//!
//! There are two queues, so that neither keeps the other waiting: a thousand downloads delay no new
//! request, and a stream of requests stops no download. (FQ-CoDel does so with packets and calls
//! them new and old flows, RFC 8290 section 4.2.) What a turn has no time for comes first in the
//! next one. Among the fresh, it alternates with what is new then: so a thousand that came at once
//! delay no later one, and a stream of new ones does not keep them waiting.
//!
//! A turn takes at most `BATCH_SLOTS_MAX` slots out of each queue. So what it does here does not
//! grow with the slots that wait, of which there may be a million.
//!
//! Invariant: a slot is here at most once, and only while its state is `Queued` (`slots.rs`).

use std::collections::VecDeque;
use std::mem;

use crate::limits::BATCH_SLOTS_MAX;

pub(super) struct RunQueue {
    /// Slots with something new: an event, a command, a timer.
    fresh: Vec<usize>,
    /// Those of them that an earlier turn had no time for, the longest waiting first.
    left_over: VecDeque<usize>,
    /// Bulk transfers: the last drive spent its share, or the kernel had no room for the output.
    bulk: VecDeque<usize>,
    /// The slots of one queue that are driven now, and how many have been.
    batch: Vec<usize>,
    driven: usize,
    /// The batch is that of the bulk queue.
    is_bulk: bool,
    /// How many of the batch had been left over, and how many of these alternate with new ones.
    old: usize,
    pairs: usize,
    /// The bulk of this turn, while the fresh ones are driven. What is pushed meanwhile is not of
    /// this turn.
    bulk_batch: Vec<usize>,
}

impl RunQueue {
    pub(super) fn with_capacity(slots: usize) -> RunQueue {
        RunQueue {
            fresh: Vec::with_capacity(slots),
            left_over: VecDeque::new(),
            bulk: VecDeque::new(),
            batch: Vec::with_capacity(slots),
            driven: 0,
            is_bulk: false,
            old: 0,
            pairs: 0,
            bulk_batch: Vec::new(),
        }
    }

    /// Returns how many slots wait.
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.left_over.len() + self.bulk.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.left_over.is_empty() && self.bulk.is_empty()
    }

    pub(super) fn has_bulk(&self) -> bool {
        !self.bulk.is_empty()
    }

    pub(super) fn push(&mut self, token: usize) {
        self.fresh.push(token);
    }

    pub(super) fn push_bulk(&mut self, token: usize) {
        self.bulk.push_back(token);
    }

    /// Adds a slot to those that are driven now.
    pub(super) fn join_batch(&mut self, token: usize) {
        self.batch.push(token);
    }

    /// Begins a turn with the fresh slots. What is pushed from here on runs in the next turn.
    pub(super) fn begin(&mut self) {
        if self.has_bulk() {
            let count = self.bulk.len().min(BATCH_SLOTS_MAX);
            self.bulk_batch.extend(self.bulk.drain(..count));
        }
        // Fast path: the batch is what is new.
        if self.left_over.is_empty() && self.fresh.len() <= BATCH_SLOTS_MAX {
            mem::swap(&mut self.fresh, &mut self.batch);
        } else {
            self.begin_interleaved();
        }
    }

    /// What earlier turns had no time for alternates with what is new. The new ones for which there
    /// is no room in the batch are left over, too.
    #[cold]
    fn begin_interleaved(&mut self) {
        let new_count = self.fresh.len().min(BATCH_SLOTS_MAX);
        let (new, rest) = self.fresh.split_at(new_count);
        let old_count = self.left_over.len().min(BATCH_SLOTS_MAX);
        (self.old, self.pairs) = (old_count, old_count.min(new.len()));
        let mut old = self.left_over.drain(..old_count);
        for &new in &new[..self.pairs] {
            self.batch.extend(old.next());
            self.batch.push(new);
        }
        self.batch.extend(old);
        self.batch.extend(&new[self.pairs..]);
        self.left_over.extend(rest);
        self.fresh.clear();
    }

    /// Goes on with the bulk of this turn.
    pub(super) fn begin_bulk(&mut self) {
        mem::swap(&mut self.batch, &mut self.bulk_batch);
        self.is_bulk = true;
    }

    /// Returns whether this turn has bulk that it has not gone on with.
    pub(super) fn has_bulk_batch(&self) -> bool {
        !self.bulk_batch.is_empty()
    }

    /// Ends a batch. What the budget was not enough for waits for the next turn: in front, but
    /// behind older slots if it is new.
    pub(super) fn end_batch(&mut self) {
        if self.driven < self.batch.len() {
            self.put_back();
        }
        self.batch.clear();
        (self.driven, self.old, self.pairs, self.is_bulk) = (0, 0, 0, false);
    }

    /// Puts the slots of the batch back that have not been driven.
    #[cold]
    fn put_back(&mut self) {
        let left = self.driven..self.batch.len();
        if self.is_bulk {
            left.rev().for_each(|place| self.bulk.push_front(self.batch[place]));
            return;
        }
        let (pairs, old) = (self.pairs, self.old);
        let is_old = |&place: &usize| match place < 2 * pairs {
            true => place % 2 == 0,
            false => place < pairs + old,
        };
        for place in left.clone().rev().filter(is_old) {
            self.left_over.push_front(self.batch[place]);
        }
        self.left_over.extend(left.filter(|place| !is_old(place)).map(|place| self.batch[place]));
    }

    /// Ends the turn before it is over: what it has not driven waits for the next one.
    #[cold]
    pub(super) fn end_turn(&mut self) {
        self.end_batch();
        self.begin_bulk();
        self.end_batch();
    }

    /// Returns the slot that is next to be driven.
    pub(super) fn next(&self) -> Option<usize> {
        self.batch.get(self.driven).copied()
    }

    /// Counts it as driven, before it is: if its protocol panics, the next one follows.
    pub(super) fn advance(&mut self) {
        self.driven += 1;
    }

    /// Takes a slot out of the queues. Linear, but rare.
    #[cold]
    pub(super) fn remove(&mut self, token: usize) {
        self.fresh.retain(|&queued| queued != token);
        self.left_over.retain(|&queued| queued != token);
        self.bulk.retain(|&queued| queued != token);
    }

    /// Takes slots out of the queues, at most `count_max`, and returns them.
    pub(super) fn take(&mut self, count_max: usize) -> Vec<usize> {
        let mut taken = Vec::new();
        taken.extend(self.left_over.drain(..self.left_over.len().min(count_max)));
        taken.extend(self.fresh.drain(..self.fresh.len().min(count_max - taken.len())));
        taken.extend(self.bulk.drain(..self.bulk.len().min(count_max - taken.len())));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs turns that drive so many slots each. All of them are queued again by the next turn.
    /// Returns how often each was driven.
    fn drive(slots: usize, per_turn: usize, turns: usize) -> Vec<usize> {
        let mut queue = RunQueue::with_capacity(slots);
        (0..slots).for_each(|token| queue.push(token));
        let mut driven = vec![0; slots];
        for _ in 0..turns {
            queue.begin();
            let mut again = Vec::new();
            while let Some(token) = queue.next().filter(|_| again.len() < per_turn) {
                queue.advance();
                driven[token] += 1;
                again.push(token);
            }
            queue.end_batch();
            again.into_iter().for_each(|token| queue.push(token));
        }
        driven
    }

    // pitfall: 197
    #[test]
    fn no_slot_starves_however_many_are_new_in_each_turn() {
        for (slots, per_turn) in [(64, 20), (400, 128), (1000, 128), (3, 1), (5, 4)] {
            let turns = 400;
            let driven = drive(slots, per_turn, turns);
            let share = turns * per_turn / slots;
            let least = driven.iter().min().expect("there are slots");
            assert!(
                *least >= share / 3,
                "{least} of {share} for one of {slots}, {per_turn} a turn"
            );
        }
    }

    // pitfall: 262
    #[test]
    fn turn_takes_a_bounded_part_of_the_slots_that_wait() {
        const COUNT: usize = 100_000;
        const LATE: usize = 1_000_000;
        let mut queue = RunQueue::with_capacity(0);
        (0..COUNT).for_each(|token| queue.push(token));
        (0..COUNT).for_each(|token| queue.push_bulk(COUNT + token));
        let mut driven = vec![false; 2 * COUNT];
        for turn in 0.. {
            queue.push(LATE + turn);
            queue.begin();
            for batch in [&queue.batch, &queue.bulk_batch] {
                assert!(batch.len() <= 2 * BATCH_SLOTS_MAX);
            }
            for _ in 0..2 {
                let mut is_late_driven = queue.is_bulk || turn == 0;
                for _ in 0..64 {
                    let Some(token) = queue.next() else { break };
                    queue.advance();
                    is_late_driven |= token == LATE + turn;
                    if let Some(driven) = driven.get_mut(token) {
                        assert!(!std::mem::replace(driven, true), "{token} is driven once");
                    }
                }
                assert!(is_late_driven, "a new slot is driven in its turn");
                queue.end_batch();
                queue.begin_bulk();
            }
            queue.end_batch();
            if queue.is_empty() {
                break;
            }
        }
        assert!(driven.into_iter().all(|driven| driven), "none is lost");
    }

    #[test]
    fn turn_that_ends_early_leaves_every_slot_in_the_queue() {
        let mut queue = RunQueue::with_capacity(8);
        (0..3).for_each(|token| queue.push(token));
        (3..6).for_each(|token| queue.push_bulk(token));
        queue.begin();
        queue.advance();
        queue.end_turn();
        assert_eq!(queue.take(4), [1, 2, 3, 4]);
        assert_eq!(queue.take(4), [5]);
        assert!(queue.is_empty());
    }
}
