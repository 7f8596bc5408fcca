//! Which connection is to be notified about which.

use std::collections::BTreeMap;

use super::id_set::IdSet;
use super::ident::ConnectionId;

/// A set of pairs: a subscriber, and the subject that it is to be notified about.
///
/// It is indexed from both sides, so that no pair outlives one of its connections. All pairs of one
/// connection are taken out of one index at once, whatever their number. The other index follows
/// pair by pair (`forget_subject`, `forget_subscriber`), as the loop has time for it.
#[derive(Default)]
pub(super) struct Subscriptions {
    by_subject: Index,
    by_subscriber: Index,
}

/// The second halves of the pairs, by the first.
type Index = BTreeMap<ConnectionId, IdSet>;

impl Subscriptions {
    /// Adds a pair, and returns whether it is new.
    pub(super) fn subscribe(&mut self, subject: ConnectionId, subscriber: ConnectionId) -> bool {
        self.by_subscriber.entry(subscriber).or_default().insert(subject);
        self.by_subject.entry(subject).or_default().insert(subscriber)
    }

    /// Takes the subscribers of `subject`. `forget_subject` is to be called for each.
    pub(super) fn take_subscribers(&mut self, subject: ConnectionId) -> IdSet {
        self.by_subject.remove(&subject).unwrap_or_default()
    }

    /// Takes the subjects of `subscriber`. `forget_subscriber` is to be called for each.
    pub(super) fn take_subjects(&mut self, subscriber: ConnectionId) -> IdSet {
        self.by_subscriber.remove(&subscriber).unwrap_or_default()
    }

    /// Removes the half of a pair that `take_subscribers` has left, unless it was added again.
    pub(super) fn forget_subject(&mut self, subscriber: ConnectionId, subject: ConnectionId) {
        let is_back = self.by_subject.get(&subject).is_some_and(|set| set.contains(subscriber));
        if !is_back {
            remove(&mut self.by_subscriber, subscriber, subject);
        }
    }

    /// Removes the half of a pair that `take_subjects` has left.
    pub(super) fn forget_subscriber(&mut self, subject: ConnectionId, subscriber: ConnectionId) {
        remove(&mut self.by_subject, subject, subscriber);
    }

    /// Returns whether `subscriber` is part of any pair.
    pub(super) fn has_subscriber(&self, subscriber: ConnectionId) -> bool {
        self.by_subscriber.contains_key(&subscriber)
    }

    /// Returns whether `subscriber` is to be notified about `subject`, and has not been yet.
    pub(super) fn is_subscribed(&self, subscriber: ConnectionId, subject: ConnectionId) -> bool {
        self.by_subscriber.get(&subscriber).is_some_and(|subjects| subjects.contains(subject))
    }

    /// Returns how many pairs `subscriber` is part of.
    pub(super) fn count_of(&self, subscriber: ConnectionId) -> usize {
        self.by_subscriber.get(&subscriber).map_or(0, IdSet::len)
    }

    /// Returns whether there is no pair, as in most servers.
    pub(super) fn is_empty(&self) -> bool {
        self.by_subject.is_empty() && self.by_subscriber.is_empty()
    }
}

fn remove(index: &mut Index, first: ConnectionId, second: ConnectionId) {
    if let Some(set) = index.get_mut(&first) {
        set.remove(second);
        if set.is_empty() {
            index.remove(&first);
        }
    }
}
