//! Which connection wants to be notified about which.

use std::collections::BTreeSet;

use super::ident::ConnectionId;

/// Who wants to know something about whom. Found from both sides, so that nothing is left of a connection that has gone: at
/// most one entry for each two that live. To add and to remove costs the logarithm of their number.
#[derive(Default)]
pub(super) struct Subscriptions {
    by_subject: BTreeSet<(ConnectionId, ConnectionId)>,
    by_subscriber: BTreeSet<(ConnectionId, ConnectionId)>,
}

impl Subscriptions {
    /// Returns whether that is new.
    pub(super) fn subscribe(&mut self, subject: ConnectionId, asker: ConnectionId) -> bool {
        self.by_subscriber.insert((asker, subject));
        self.by_subject.insert((subject, asker))
    }

    /// Takes out all who want to know something about `subject`.
    pub(super) fn take_subscribers(&mut self, subject: ConnectionId) -> BTreeSet<ConnectionId> {
        let askers = second_halves(&self.by_subject, subject);
        for &asker in &askers {
            self.by_subject.remove(&(subject, asker));
            self.by_subscriber.remove(&(asker, subject));
        }
        askers
    }

    pub(super) fn has_subscriber(&self, asker: ConnectionId) -> bool {
        self.by_subscriber
            .range((asker, ConnectionId::MIN)..=(asker, ConnectionId::MAX))
            .next()
            .is_some()
    }

    /// `asker` wants to know nothing any more.
    pub(super) fn unsubscribe_all(&mut self, asker: ConnectionId) {
        for subject in second_halves(&self.by_subscriber, asker) {
            self.by_subscriber.remove(&(asker, subject));
            self.by_subject.remove(&(subject, asker));
        }
    }

    /// Does nobody want to know anything? As in most servers.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.by_subject.is_empty()
    }
}

/// The second halves of all pairs whose first is `first`. Takes no time where there are none at all.
fn second_halves(
    pairs: &BTreeSet<(ConnectionId, ConnectionId)>,
    first: ConnectionId,
) -> BTreeSet<ConnectionId> {
    pairs
        .range((first, ConnectionId::MIN)..=(first, ConnectionId::MAX))
        .map(|&(_, second)| second)
        .collect()
}
