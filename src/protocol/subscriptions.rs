//! Which connection is to be notified about which.

use std::collections::BTreeSet;

use super::ident::ConnectionId;

/// A set of pairs: a subscriber, and the subject that it is to be notified about.
///
/// It is indexed from both sides, so that no pair outlives one of its connections. Adding and
/// removing a pair costs the logarithm of the number of pairs.
#[derive(Default)]
pub(super) struct Subscriptions {
    by_subject: BTreeSet<(ConnectionId, ConnectionId)>,
    by_subscriber: BTreeSet<(ConnectionId, ConnectionId)>,
}

impl Subscriptions {
    /// Adds a pair, and returns whether it is new.
    pub(super) fn subscribe(&mut self, subject: ConnectionId, subscriber: ConnectionId) -> bool {
        self.by_subscriber.insert((subscriber, subject));
        self.by_subject.insert((subject, subscriber))
    }

    /// Removes all pairs of `subject`, and returns the subscribers.
    pub(super) fn take_subscribers(&mut self, subject: ConnectionId) -> BTreeSet<ConnectionId> {
        let subscribers = second_halves(&self.by_subject, subject);
        for &subscriber in &subscribers {
            self.by_subject.remove(&(subject, subscriber));
            self.by_subscriber.remove(&(subscriber, subject));
        }
        subscribers
    }

    /// Returns whether `subscriber` is part of any pair.
    pub(super) fn has_subscriber(&self, subscriber: ConnectionId) -> bool {
        self.by_subscriber
            .range((subscriber, ConnectionId::MIN)..=(subscriber, ConnectionId::MAX))
            .next()
            .is_some()
    }

    /// Removes all pairs of `subscriber`.
    pub(super) fn unsubscribe_all(&mut self, subscriber: ConnectionId) {
        for subject in second_halves(&self.by_subscriber, subscriber) {
            self.by_subscriber.remove(&(subscriber, subject));
            self.by_subject.remove(&(subject, subscriber));
        }
    }

    /// Returns how many pairs there are.
    pub(super) fn len(&self) -> usize {
        self.by_subject.len()
    }

    /// Returns whether there is no pair, as in most servers.
    pub(super) fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }
}

/// Returns the second halves of all pairs whose first half is `first`. Costs nothing while the set
/// is empty.
fn second_halves(
    pairs: &BTreeSet<(ConnectionId, ConnectionId)>,
    first: ConnectionId,
) -> BTreeSet<ConnectionId> {
    pairs
        .range((first, ConnectionId::MIN)..=(first, ConnectionId::MAX))
        .map(|&(_, second)| second)
        .collect()
}
