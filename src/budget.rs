//! The budgets of bytes: how many a turn may still move, and how many of them one source may.
//!
//! Without a budget, a peer that sends as fast as we read would hold the loop for ever. The budget
//! counts bytes, because moving bytes is what takes the time. It is checked between steps, so the
//! last step may overshoot it.

use crate::limits::{READ_BYTES_MAX, SOURCE_BYTES_PER_TURN_MAX, TURN_BYTES_MAX};

/// With up to this many sources, each has its full budget.
const SHARERS_FEW: u64 = TURN_BYTES_MAX / SOURCE_BYTES_PER_TURN_MAX;

pub(crate) struct Budget {
    /// The budget of each connection in this turn, in bytes.
    pub(crate) bytes_each: u64,
    /// The turn is spent when the bytes moved since the reactor was made reach this.
    moved_max: u64,
}

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget { bytes_each: SOURCE_BYTES_PER_TURN_MAX, moved_max: 0 }
    }

    /// Divides the bytes that a turn may move among so many `sources`. Each source may move at
    /// least one full read. So if there are very many, not all of them run in this turn, and the
    /// rest run in the next. `moved`: bytes moved since the reactor was made.
    #[inline]
    pub(crate) fn share(&mut self, sources: usize, moved: u64) {
        self.moved_max = moved + TURN_BYTES_MAX;
        self.bytes_each = match sources as u64 {
            0..SHARERS_FEW => SOURCE_BYTES_PER_TURN_MAX,
            sources => (TURN_BYTES_MAX / sources).max(READ_BYTES_MAX as u64),
        };
    }

    /// Returns whether this turn has moved all the bytes that a turn may move.
    #[inline]
    pub(crate) fn is_spent(&self, moved: u64) -> bool {
        moved >= self.moved_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_budget_is_shared_with_at_least_one_read_for_each_source() {
        let mut budget = Budget::new();
        for (sources, bytes_each) in [
            (0, SOURCE_BYTES_PER_TURN_MAX),
            (1, SOURCE_BYTES_PER_TURN_MAX),
            (32, SOURCE_BYTES_PER_TURN_MAX),
            (64, 128 * 1024),
            (100_000, READ_BYTES_MAX as u64),
        ] {
            budget.share(sources, 0);
            assert_eq!(budget.bytes_each, bytes_each, "{sources}");
        }
    }
}
