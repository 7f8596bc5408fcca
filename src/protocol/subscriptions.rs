//! Which connection is to be notified about which.

use std::collections::{BTreeMap, BTreeSet};

use super::ident::ConnectionId;
use crate::overload_limits::{SUBSCRIPTION_HALF_BYTES, SUBSCRIPTION_SET_BYTES};

/// A set of pairs: a subscriber, and the subject that it is to be notified about.
///
/// It is indexed from both sides, so that no pair outlives one of its connections. All pairs of one
/// connection are taken out of one index at once, whatever their number. The other index follows
/// pair by pair (`forget_subject`, `forget_subscriber`), as the loop has time for it.
#[derive(Default)]
pub(super) struct Subscriptions {
    by_subject: Index,
    by_subscriber: Index,
    /// The entries of all sets of both indexes: two for each pair, one if the other is taken out.
    halves: usize,
}

/// The second halves of the pairs, by the first.
type Index = BTreeMap<ConnectionId, BTreeSet<ConnectionId>>;

impl Subscriptions {
    /// Adds a pair, and returns whether it is new.
    pub(super) fn subscribe(&mut self, subject: ConnectionId, subscriber: ConnectionId) -> bool {
        let adds_half = self.by_subscriber.entry(subscriber).or_default().insert(subject);
        let is_new = self.by_subject.entry(subject).or_default().insert(subscriber);
        self.halves += usize::from(adds_half) + usize::from(is_new);
        is_new
    }

    /// Takes the subscribers of `subject`. `forget_subject` is to be called for each.
    pub(super) fn take_subscribers(&mut self, subject: ConnectionId) -> BTreeSet<ConnectionId> {
        let subscribers = self.by_subject.remove(&subject).unwrap_or_default();
        self.halves -= subscribers.len();
        subscribers
    }

    /// Takes the subjects of `subscriber`. `forget_subscriber` is to be called for each.
    pub(super) fn take_subjects(&mut self, subscriber: ConnectionId) -> BTreeSet<ConnectionId> {
        let subjects = self.by_subscriber.remove(&subscriber).unwrap_or_default();
        self.halves -= subjects.len();
        subjects
    }

    /// Removes the half of a pair that `take_subscribers` has left, unless it was added again.
    pub(super) fn forget_subject(&mut self, subscriber: ConnectionId, subject: ConnectionId) {
        let is_back = self.by_subject.get(&subject).is_some_and(|set| set.contains(&subscriber));
        if !is_back {
            self.halves -= remove(&mut self.by_subscriber, subscriber, subject);
        }
    }

    /// Removes the half of a pair that `take_subjects` has left.
    pub(super) fn forget_subscriber(&mut self, subject: ConnectionId, subscriber: ConnectionId) {
        self.halves -= remove(&mut self.by_subject, subject, subscriber);
    }

    /// Returns whether `subscriber` is part of any pair.
    pub(super) fn has_subscriber(&self, subscriber: ConnectionId) -> bool {
        self.by_subscriber.contains_key(&subscriber)
    }

    /// Returns how much memory the pairs take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.halves * SUBSCRIPTION_HALF_BYTES
            + (self.by_subject.len() + self.by_subscriber.len()) * SUBSCRIPTION_SET_BYTES
    }

    /// Returns whether there is no pair, as in most servers.
    pub(super) fn is_empty(&self) -> bool {
        self.by_subject.is_empty() && self.by_subscriber.is_empty()
    }
}

/// Removes one half of a pair. Returns how many there were: one, or none.
fn remove(index: &mut Index, first: ConnectionId, second: ConnectionId) -> usize {
    let Some(set) = index.get_mut(&first) else { return 0 };
    let removed = usize::from(set.remove(&second));
    if set.is_empty() {
        index.remove(&first);
    }
    removed
}
