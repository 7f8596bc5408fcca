//! The filed deadlines: when the loop must look at which slots, soonest first.
//!
//! A filed deadline is a promise to look, not to act (a lazy timer). A busy connection only stores
//! the time of its last byte. When the filed deadline is due, the reactor computes the true
//! deadline and files that, if it is still in the future. So activity costs one store.
//!
//! Neighbouring slots share one filed deadline, the soonest of theirs:
//!
//! ```text
//!     slots        0 … 15    16 … 31    32 … 47
//!     filed          40 ms      never      25 ms     ◄── due next: 32 … 47 are looked at
//! ```
//!
//! So an idle connection takes some two bytes here, and filing mostly finds that an earlier
//! deadline is filed already. A slot that ends leaves its deadline behind, which costs one look.
//!
//! Invariant: `order` has exactly the groups whose time in `filed` is not `NEVER`.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::overload_limits::SLOTS_PER_DEADLINE;
use crate::time::Time;

pub(crate) struct Deadlines {
    /// The deadline of each group of slots; [`Time::NEVER`] if none is filed.
    filed: Vec<Time>,
    /// The groups with a deadline, soonest first.
    order: BTreeSet<(Time, usize)>,
    /// The slots of the group that is due, as far as they have not been looked at.
    due: Range<usize>,
    /// When there is something to look at. It is stored because it is read twice a turn.
    soonest: Time,
}

impl Deadlines {
    pub(crate) fn new() -> Deadlines {
        Deadlines { filed: Vec::new(), order: BTreeSet::new(), due: 0..0, soonest: Time::NEVER }
    }

    /// Makes sure that `token` is looked at when `due` comes, or before.
    pub(crate) fn file(&mut self, token: usize, due: Time) {
        if due < self.filed_for(token) {
            self.refile(token / SLOTS_PER_DEADLINE, due);
        }
    }

    /// Returns when `token` is looked at, or earlier: what is filed for its group.
    pub(crate) fn filed_for(&self, token: usize) -> Time {
        self.filed.get(token / SLOTS_PER_DEADLINE).copied().unwrap_or(Time::NEVER)
    }

    /// O(log n) in the number of groups: about 0.1 µs with a hundred thousand connections.
    #[cold]
    fn refile(&mut self, group: usize, due: Time) {
        if group >= self.filed.len() {
            self.filed.resize(group + 1, Time::NEVER);
        }
        let old = std::mem::replace(&mut self.filed[group], due);
        let was_filed = self.order.remove(&(old, group));
        assert_eq!(was_filed, old != Time::NEVER, "a group has one deadline filed at most");
        self.order.insert((due, group));
        self.soonest = self.soonest.min(due);
    }

    /// Returns when there is something to look at, at the earliest; [`Time::NEVER`] if never.
    pub(crate) fn soonest(&self) -> Time {
        self.soonest
    }

    /// Returns a slot to look at: it may be vacant, or not be due yet. Its own deadline, if it has
    /// one, is to be filed again. The groups that are longest overdue come first.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<usize> {
        if self.soonest > now {
            return None;
        }
        if self.due.is_empty()
            && let Some((_, group)) = self.order.pop_first()
        {
            self.filed[group] = Time::NEVER;
            let first = group * SLOTS_PER_DEADLINE;
            self.due = first..first + SLOTS_PER_DEADLINE;
        }
        let token = self.due.next();
        if self.due.is_empty() {
            self.soonest = self.order.first().map_or(Time::NEVER, |&(due, _)| due);
        }
        token
    }
}

#[cfg(test)]
impl Deadlines {
    /// Returns whether `token` is looked at next, whatever is filed for its group.
    pub(crate) fn is_due(&self, token: usize) -> bool {
        self.due.contains(&token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(ms: u64) -> Time {
        Time::at(Duration::from_millis(ms))
    }

    /// The slots to be looked at by `now`.
    fn take_all(deadlines: &mut Deadlines, now: Time) -> Vec<usize> {
        std::iter::from_fn(|| deadlines.take_due(now)).collect()
    }

    /// The slots of the group of `token`.
    fn group_of(token: usize) -> Vec<usize> {
        let first = token / SLOTS_PER_DEADLINE * SLOTS_PER_DEADLINE;
        (first..first + SLOTS_PER_DEADLINE).collect()
    }

    #[test]
    fn groups_become_due_in_order_and_never_early() {
        let mut deadlines = Deadlines::new();
        deadlines.file(70, at(30));
        deadlines.file(80, at(10));
        deadlines.file(90, at(20));
        deadlines.file(71, at(40)); // in the group of 70, whose deadline is earlier
        assert_eq!((deadlines.soonest(), deadlines.filed_for(71)), (at(10), at(30)));
        assert_eq!(take_all(&mut deadlines, at(9)), []);
        let both = [group_of(80), group_of(90)].concat();
        let expected = if group_of(80) == group_of(90) { group_of(80) } else { both };
        assert_eq!(take_all(&mut deadlines, at(20)), expected);
        assert_eq!(take_all(&mut deadlines, at(30)), group_of(70));
        assert_eq!(deadlines.soonest(), Time::NEVER);
    }

    // pitfall: 32
    #[test]
    fn earlier_deadline_of_a_group_replaces_the_later_one() {
        let mut deadlines = Deadlines::new();
        deadlines.file(1, at(50));
        deadlines.file(2, at(5));
        deadlines.file(3, at(6));
        assert_eq!(deadlines.soonest(), at(5));
        assert_eq!(take_all(&mut deadlines, at(100)), group_of(1), "each is looked at once");
    }

    // pitfall: 230
    #[test]
    fn look_that_is_interrupted_goes_on_with_the_rest_of_its_group() {
        let mut deadlines = Deadlines::new();
        deadlines.file(0, at(5));
        deadlines.file(SLOTS_PER_DEADLINE, at(6));
        for token in 0..SLOTS_PER_DEADLINE {
            assert_eq!(deadlines.soonest(), at(5), "there is something to look at");
            assert_eq!(deadlines.take_due(at(7)), Some(token));
            deadlines.file(token, at(8)); // as a source does that is not due
        }
        assert_eq!(deadlines.soonest(), at(6));
        assert_eq!(take_all(&mut deadlines, at(7)), group_of(SLOTS_PER_DEADLINE));
        assert_eq!(take_all(&mut deadlines, at(8)), group_of(0));
    }

    proptest! {
        /// No slot is looked at later than its own deadline, however it is filed and looked at. The
        /// loop never turns for nothing: when `soonest` is due, there is a slot to look at.
        #[test]
        fn every_slot_is_looked_at_by_its_own_deadline(
            steps in prop::collection::vec((0..100usize, 1..200u64, 0..60usize, 0..50u64), 1..80),
        ) {
            let mut deadlines = Deadlines::new();
            let mut own = [Time::NEVER; 100];
            let mut now = at(0);
            for (token, delay, looks, pass) in steps {
                own[token] = now.plus_ms(delay);
                deadlines.file(token, own[token]);
                now = now.plus_ms(pass);
                let is_due = deadlines.soonest() <= now;
                prop_assert_eq!(is_due, deadlines.order.first().is_some_and(|&(due, _)| due <= now)
                    || !deadlines.due.is_empty());
                for _ in 0..looks {
                    let Some(token) = deadlines.take_due(now) else { break };
                    let Some(own) = own.get_mut(token) else { continue };
                    if *own <= now {
                        *own = Time::NEVER;
                    }
                    deadlines.file(token, *own);
                }
                for (token, &own) in own.iter().enumerate() {
                    prop_assert!(deadlines.is_due(token) || deadlines.filed_for(token) <= own);
                }
                let filed = deadlines.filed.iter().filter(|&&filed| filed != Time::NEVER).count();
                prop_assert_eq!(filed, deadlines.order.len());
            }
        }
    }
}
