//! A walk over all slots in parts, so that no turn has to look at a million of them.
//!
//! With no more slots than one part has, each part is a whole walk.

use std::ops::Range;

use crate::overload_limits::SLOTS_WALKED_MAX;

/// Where a walk goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walk {
    next: usize,
}

impl Walk {
    /// Returns the next part of `slots` slots. After the last one, the walk begins anew.
    pub(crate) fn advance(&mut self, slots: usize) -> Range<usize> {
        let part = self.next..slots.min(self.next + SLOTS_WALKED_MAX);
        self.next = if part.end == slots { 0 } else { part.end };
        part
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
        for slots in [0, 1, SLOTS_WALKED_MAX, SLOTS_WALKED_MAX + 1, 3 * SLOTS_WALKED_MAX - 1] {
            let mut walk = Walk::default();
            for _ in 0..2 {
                let mut end = 0;
                loop {
                    let part = walk.advance(slots);
                    assert_eq!(part.start, end);
                    assert!(part.len() <= SLOTS_WALKED_MAX);
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
