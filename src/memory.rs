//! The memory meter: what all connections together hold, and which of them holds the most.
//!
//! ```text
//!     buffers of a connection   input and output that wait       src/reactor/memory.rs, after each
//!                                                                drive but the fast path
//!     its protocol              what it says that it holds       Context::set_held_bytes
//!     its subscriptions         whom it awaits or monitors       when one begins or ends
//!     datagram sockets          what they keep between drives    src/datagram/scratch.rs
//!     queues                    notifications, deferred effects  computed when it is asked for
//!
//!     0 ───────────────── 3/4 ────────────── 7/8 ─────────── memory_bytes_max
//!                          │ request bodies   │ accepting         │ the largest holder
//!                          ▼ get 503          ▼ pauses            ▼ is evicted
//! ```
//!
//! A connection that holds nothing has no entry here. So the fast path, which leaves nothing over,
//! does not come here either: the meter moves only where capacity does.
//!
//! Invariant: `held` is the sum of all entries and of `datagrams`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::overload_limits::{ACCEPT_MEMORY_EIGHTHS, BODY_MEMORY_EIGHTHS};
use crate::time::Time;

pub(crate) struct Memory {
    pub(crate) max: usize,
    /// Up to so much, a request body may begin, and up to so much, connections are accepted.
    bodies_max: u128,
    accepting_max: u128,
    /// The sum. Whatever protocols say that they hold, it does not overflow.
    held: u128,
    /// What datagram sockets hold.
    datagrams: usize,
    /// What each slot's connection holds, if anything.
    holders: BTreeMap<usize, Holding>,
    /// The same connections, the largest last.
    by_size: BTreeSet<(usize, usize)>,
    /// Earliest time at which another connection is evicted for a listener that pauses.
    pub(crate) next_eviction_at: Time,
    /// Earliest time of the next log line, and evictions since the last.
    pub(crate) next_warning_at: Time,
    pub(crate) unlogged: u64,
}

/// What one connection holds, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Holding {
    buffers: usize,
    protocol: usize,
    subscriptions: usize,
}

impl Holding {
    fn bytes(self) -> usize {
        self.buffers.saturating_add(self.protocol).saturating_add(self.subscriptions)
    }
}

impl Memory {
    pub(crate) fn new(max: usize) -> Memory {
        let eighths = |eighths| max as u128 * eighths / 8;
        Memory {
            max,
            bodies_max: eighths(BODY_MEMORY_EIGHTHS),
            accepting_max: eighths(ACCEPT_MEMORY_EIGHTHS),
            held: 0,
            datagrams: 0,
            holders: BTreeMap::new(),
            by_size: BTreeSet::new(),
            next_eviction_at: Time::at(Duration::ZERO),
            next_warning_at: Time::at(Duration::ZERO),
            unlogged: 0,
        }
    }

    /// The buffers of the connection in `slot` take `bytes` now.
    pub(crate) fn set_buffers(&mut self, slot: usize, bytes: usize) {
        self.change(slot, |holding| holding.buffers = bytes);
    }

    /// The protocol of the connection in `slot` says that it holds `bytes` now. Returns whether
    /// that is more than before.
    pub(crate) fn set_protocol(&mut self, slot: usize, bytes: usize) -> bool {
        let held_before = self.held;
        self.change(slot, |holding| holding.protocol = bytes);
        self.held > held_before
    }

    /// The subscriptions of the connection in `slot` take `bytes` now.
    pub(crate) fn set_subscriptions(&mut self, slot: usize, bytes: usize) {
        self.change(slot, |holding| holding.subscriptions = bytes);
    }

    /// Returns whether no connection holds anything, and nothing is to be logged.
    pub(crate) fn has_no_holder(&self) -> bool {
        self.holders.is_empty() && self.unlogged == 0
    }

    /// The connection in `slot` has been freed.
    pub(crate) fn remove(&mut self, slot: usize) {
        if self.holders.is_empty() {
            return;
        }
        self.change(slot, |holding| *holding = Holding::default());
    }

    fn change(&mut self, slot: usize, change: impl FnOnce(&mut Holding)) {
        let before = self.holders.get(&slot).copied().unwrap_or_default();
        let mut after = before;
        change(&mut after);
        if after == before {
            return;
        }
        self.by_size.remove(&(before.bytes(), slot));
        if after.bytes() == 0 {
            self.holders.remove(&slot);
        } else {
            self.holders.insert(slot, after);
            self.by_size.insert((after.bytes(), slot));
        }
        self.held = self.held - before.bytes() as u128 + after.bytes() as u128;
    }

    /// A datagram socket that held `before` bytes holds `after` now.
    pub(crate) fn change_datagrams(&mut self, before: usize, after: usize) {
        self.datagrams = self.datagrams - before + after;
        self.held = self.held - before as u128 + after as u128;
    }

    /// Removes the connection that holds the most: it gives up what it holds. Returns its slot, and
    /// how many bytes these are.
    pub(crate) fn take_largest(&mut self) -> Option<(usize, usize)> {
        let &(bytes, slot) = self.by_size.last()?;
        self.remove(slot);
        Some((slot, bytes))
    }

    /// Returns whether a request body that takes `bytes` may begin, while the queues of the loop
    /// take `queues`.
    pub(crate) fn admits_body(&self, queues: usize, bytes: usize) -> bool {
        self.total(queues) + bytes as u128 <= self.bodies_max
    }

    /// Returns whether accepting pauses.
    pub(crate) fn pauses_accepting(&self, queues: usize) -> bool {
        self.total(queues) > self.accepting_max
    }

    /// Returns whether the bound is exceeded.
    pub(crate) fn is_exceeded(&self, queues: usize) -> bool {
        self.total(queues) > self.max as u128
    }

    fn total(&self, queues: usize) -> u128 {
        self.held + queues as u128
    }

    /// Returns what is held, in bytes, without the queues of the loop.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        let sum: u128 = self.holders.values().map(|holding| holding.bytes() as u128).sum();
        assert_eq!(self.held, sum + self.datagrams as u128, "the sum of all entries");
        assert_eq!(self.holders.len(), self.by_size.len(), "each entry has its place by size");
        usize::try_from(self.held).unwrap_or(usize::MAX)
    }

    /// Returns what the buffers of the connection in `slot` count for.
    #[cfg(test)]
    pub(crate) fn buffers_of(&self, slot: usize) -> usize {
        self.holders.get(&slot).map_or(0, |holding| holding.buffers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bodies_stop_before_accepting_and_accepting_before_the_bound() {
        let mut memory = Memory::new(800);
        memory.set_buffers(1, 500);
        assert!(memory.admits_body(0, 100) && !memory.admits_body(0, 101));
        assert!(!memory.admits_body(1, 100), "the queues of the loop count as well");
        memory.set_protocol(1, 200);
        assert!(!memory.pauses_accepting(0) && memory.pauses_accepting(1));
        memory.set_buffers(2, 100);
        assert!(!memory.is_exceeded(0) && memory.is_exceeded(1));
        assert_eq!((memory.take_largest(), memory.held()), (Some((1, 700)), 100));
        assert_eq!((memory.take_largest(), memory.held()), (Some((2, 100)), 0));
        assert_eq!(memory.take_largest(), None);
    }

    #[test]
    fn amount_that_no_memory_can_hold_is_counted_as_the_most() {
        let mut memory = Memory::new(800);
        memory.set_protocol(1, usize::MAX);
        memory.set_buffers(1, 100);
        assert!(memory.is_exceeded(0) && !memory.admits_body(usize::MAX, usize::MAX));
        memory.remove(1);
        assert_eq!(memory.held(), 0);
    }

    proptest! {
        #[test]
        fn meter_is_the_sum_of_what_each_holds(
            steps in prop::collection::vec((0..4usize, 0..4u8, 0..100usize), 0..60),
        ) {
            let mut memory = Memory::new(100);
            let mut model = [[0; 3]; 4];
            for (slot, kind, bytes) in steps {
                match kind {
                    0 => (model[slot][0], _) = (bytes, memory.set_buffers(slot, bytes)),
                    1 => (model[slot][1], _) = (bytes, memory.set_protocol(slot, bytes)),
                    2 => (model[slot][2], _) = (bytes, memory.set_subscriptions(slot, bytes)),
                    _ => (model[slot], _) = ([0; 3], memory.remove(slot)),
                }
                let sums = model.map(|parts| parts.iter().sum::<usize>());
                prop_assert_eq!(memory.held(), sums.iter().sum::<usize>());
                let most = sums.into_iter().max().filter(|&most| most > 0);
                prop_assert_eq!(memory.by_size.last().map(|&(bytes, _)| bytes), most);
            }
        }
    }
}
