//! A walk over all slots in parts, so that no turn has to look at a million of them.
//!
//! With no more slots than one part has, each part is a whole walk.

use std::ops::Range;

/// Where a walk goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walk {
    next: usize,
}

impl Walk {
    /// Returns the next part of `slots` slots, of which it has `part_max` at most. After the last
    /// one, the walk begins anew.
    pub(crate) fn advance(&mut self, slots: usize, part_max: usize) -> Range<usize> {
        let part = self.next..slots.min(self.next + part_max);
        self.next = if part.end == slots { 0 } else { part.end };
        part
    }

    /// Returns whether this walk has come to the slot.
    pub(crate) fn has_passed(self, slot: usize) -> bool {
        slot < self.next
    }

    /// Returns whether the next part is the first one.
    pub(crate) fn is_at_start(self) -> bool {
        self.next == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walk_comes_to_each_slot_once_before_it_begins_anew() {
        const PART_MAX: usize = 8;
        for slots in [0, 1, PART_MAX, PART_MAX + 1, 3 * PART_MAX - 1] {
            let mut walk = Walk::default();
            for _ in 0..2 {
                let mut end = 0;
                loop {
                    let part = walk.advance(slots, PART_MAX);
                    assert_eq!(part.start, end);
                    assert!(part.len() <= PART_MAX);
                    end = part.end;
                    if walk.is_at_start() {
                        break;
                    }
                }
                assert_eq!(end, slots);
            }
        }
    }
}
