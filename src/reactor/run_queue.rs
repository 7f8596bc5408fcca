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
//! Invariant: a slot is here at most once, and only while its state is `Queued` (`slots.rs`).

use std::mem;

pub(super) struct RunQueue {
    /// Slots with something new: an event, a command, a timer.
    fresh: Vec<usize>,
    /// How many of these, at the front, an earlier turn had no time for.
    left_over: usize,
    /// Bulk transfers: the last drive spent its share, or the kernel had no room for the output.
    bulk: Vec<usize>,
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
    next_batch: Vec<usize>,
}

impl RunQueue {
    pub(super) fn with_capacity(slots: usize) -> RunQueue {
        RunQueue {
            fresh: Vec::with_capacity(slots),
            left_over: 0,
            bulk: Vec::new(),
            batch: Vec::with_capacity(slots),
            driven: 0,
            is_bulk: false,
            old: 0,
            pairs: 0,
            next_batch: Vec::new(),
        }
    }

    /// Returns how many slots wait.
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.bulk.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.bulk.is_empty()
    }

    pub(super) fn has_bulk(&self) -> bool {
        !self.bulk.is_empty()
    }

    pub(super) fn push(&mut self, token: usize) {
        self.fresh.push(token);
    }

    pub(super) fn push_bulk(&mut self, token: usize) {
        self.bulk.push(token);
    }

    /// Adds a slot to those that are driven now.
    pub(super) fn join_batch(&mut self, token: usize) {
        self.batch.push(token);
    }

    /// Begins a turn with the fresh slots. What is pushed from here on runs in the next turn.
    pub(super) fn begin(&mut self) {
        mem::swap(&mut self.bulk, &mut self.next_batch);
        if self.left_over == 0 {
            mem::swap(&mut self.fresh, &mut self.batch);
            return;
        }
        let (old, new) = self.fresh.split_at(self.left_over);
        (self.old, self.pairs) = (old.len(), old.len().min(new.len()));
        self.batch.extend(old.iter().zip(new).flat_map(|(&old, &new)| [old, new]));
        self.batch.extend(old[self.pairs..].iter().chain(&new[self.pairs..]));
        self.fresh.clear();
    }

    /// Ends a batch: what the budget was not enough for waits in front, and what has waited longest
    /// before the rest. Returns whether the bulk of this turn is next.
    pub(super) fn end_batch(&mut self) -> bool {
        let queue = if self.is_bulk { &mut self.bulk } else { &mut self.fresh };
        let left_over = self.batch.len() - self.driven;
        if left_over > 0 {
            let (batch, pairs, old) = (&self.batch, self.pairs, self.old);
            let is_old =
                |place| if place < 2 * pairs { place % 2 == 0 } else { place < pairs + old };
            let places = self.driven..batch.len();
            let first = places.clone().filter(|&place| is_old(place));
            let then = places.filter(|&place| !is_old(place));
            drop(queue.splice(..0, first.chain(then).map(|place| batch[place])));
        }
        (self.old, self.pairs) = (0, 0);
        if !self.is_bulk {
            self.left_over = left_over;
        }
        self.batch.clear();
        self.driven = 0;
        mem::swap(&mut self.batch, &mut self.next_batch);
        self.is_bulk = !self.batch.is_empty();
        self.is_bulk
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
        if let Some(place) = self.fresh.iter().position(|&queued| queued == token) {
            self.fresh.remove(place);
            self.left_over -= usize::from(place < self.left_over);
        }
        self.bulk.retain(|&queued| queued != token);
    }

    /// Empties the queues, and returns what was in them.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = usize> {
        self.left_over = 0;
        self.fresh.drain(..).chain(self.bulk.drain(..))
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
            assert!(!queue.end_batch());
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
}
