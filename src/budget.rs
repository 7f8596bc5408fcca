//! The budget: what a turn, a stage of it and one source may still spend.
//!
//! Without a budget, a peer that sends as fast as we read would hold the loop for ever. There is
//! one unit, bytes, because moving bytes is what takes the time. Other work is charged as if it had
//! moved the bytes that the kernel moves in the same time (the costs in `src/limits.rs`).
//!
//! ```text
//!     turn              TURN_BYTES_MAX
//!     stage             what the stages before it have left, but at least a quarter of the turn
//!     stream            an equal share of the turn: at least READ_BYTES_MAX, and at most
//!                       STREAM_BYTES_PER_TURN_MAX
//!     any other source  a quarter of the turn: it stands for many peers
//! ```
//!
//! The budget is checked between two steps, so the last step may overshoot it. What is left when
//! the budget is spent is not lost: it stays in a queue. Slots that were not driven come before
//! others in the next turn. A connection that has spent its share goes to the queue of bulk, for
//! which half of each turn is reserved (`src/reactor/run_queue.rs`).
//!
//! Only time is bounded here. What bounds memory, the watermarks and maxima, is checked where the
//! memory is.

use std::time::Duration;

use crate::limits::{BYTES_PER_US, READ_BYTES_MAX, STREAM_BYTES_PER_TURN_MAX, TURN_BYTES_MAX};

/// A quarter of what a turn may spend, in bytes.
pub(crate) const QUARTER_TURN_BYTES: usize = TURN_BYTES_MAX / 4;

pub(crate) struct Budget {
    /// What this turn may still spend, in bytes. Negative: it has overspent.
    left: i64,
    /// What each stream may spend in this turn.
    stream_bytes: usize,
}

/// The share of one source: it is spent when `left` has fallen to this.
#[derive(Clone, Copy)]
pub(crate) struct Share(i64);

impl Share {
    /// It is never spent.
    pub(crate) const UNBOUNDED: Share = Share(i64::MIN);
}

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget { left: TURN_BYTES_MAX as i64, stream_bytes: STREAM_BYTES_PER_TURN_MAX }
    }

    /// Begins a turn that drives `sources` sources. Each stream may move at least one full read. So
    /// if there are very many, not all of them run in this turn, and the rest run in the next.
    pub(crate) fn begin_turn(&mut self, sources: usize) {
        self.left = TURN_BYTES_MAX as i64;
        self.stream_bytes = match sources * STREAM_BYTES_PER_TURN_MAX > TURN_BYTES_MAX {
            true => (TURN_BYTES_MAX / sources).max(READ_BYTES_MAX),
            false => STREAM_BYTES_PER_TURN_MAX, // few sources, as mostly
        };
    }

    /// Lets the turn spend what was reserved at its beginning: it was charged in advance.
    pub(crate) fn release(&mut self, reserved: usize) {
        self.left = self.left.max(0) + reserved as i64;
    }

    /// Begins a further stage of the turn, which may spend what is left, but never less than
    /// `at_least`.
    pub(crate) fn begin_stage(&mut self, at_least: usize) {
        self.left = self.left.max(at_least as i64);
    }

    /// Charges bytes that were moved, or the cost of other work (`src/limits.rs`).
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.left -= bytes as i64;
    }

    /// Charges work that takes about this long.
    pub(crate) fn charge_time(&mut self, work: Duration) {
        let us = usize::try_from(work.as_micros()).unwrap_or(usize::MAX);
        self.charge(us.saturating_mul(BYTES_PER_US).min(TURN_BYTES_MAX));
    }

    /// Returns whether the turn, or its present stage, has spent what it may.
    pub(crate) fn is_spent(&self) -> bool {
        self.left <= 0
    }

    /// Returns the share of a stream that begins to work now.
    pub(crate) fn stream_share(&self) -> Share {
        Share(self.left - self.stream_bytes as i64)
    }

    /// Returns the share of a source that begins to work now and stands for many peers.
    pub(crate) fn quarter_share(&self) -> Share {
        Share(self.left - QUARTER_TURN_BYTES as i64)
    }

    /// Returns the share of effects that are applied after a call: what is left of the turn, or a
    /// quarter of it if less is left.
    pub(crate) fn effects_share(&self) -> Share {
        Share((self.left - QUARTER_TURN_BYTES as i64).min(0))
    }

    /// Returns whether the source has spent its share.
    pub(crate) fn share_is_spent(&self, share: Share) -> bool {
        self.left <= share.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_share_the_turn_with_at_least_one_read_each() {
        let mut budget = Budget::new();
        for (sources, bytes_each) in [
            (0, STREAM_BYTES_PER_TURN_MAX),
            (1, STREAM_BYTES_PER_TURN_MAX),
            (16, STREAM_BYTES_PER_TURN_MAX),
            (64, 128 * 1024),
            (100_000, READ_BYTES_MAX),
        ] {
            budget.begin_turn(sources);
            let share = budget.stream_share();
            budget.charge(bytes_each - 1);
            assert!(!budget.share_is_spent(share), "{sources}");
            budget.charge(1);
            assert!(budget.share_is_spent(share) && !budget.is_spent(), "{sources}");
        }
    }

    #[test]
    fn overspent_turn_leaves_later_stages_their_minimum() {
        let mut budget = Budget::new();
        budget.begin_turn(1);
        budget.charge(3 * TURN_BYTES_MAX);
        assert!(budget.is_spent());
        budget.begin_stage(1000);
        budget.charge(999);
        assert!(!budget.is_spent());
        budget.charge(1);
        assert!(budget.is_spent());
        budget.begin_turn(1);
        budget.begin_stage(1000);
        budget.charge(TURN_BYTES_MAX - 1);
        assert!(!budget.is_spent(), "a stage may spend what those before it have left");
    }
}
