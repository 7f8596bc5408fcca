//! The notification that a graceful stop has begun, for the protocols that have asked for it.
//!
//! It goes the way of all notifications: the reactor stands in the place of the connection that is
//! monitored. A protocol that does not ask has no entry anywhere.
//!
//! Invariant: a connection that has asked is not closed as idle before it has been notified.

use super::effects::Effects;
use super::id_set::IdSet;
use super::ident::ConnectionId;
use super::notification::Notification;
use super::pending::Fanout;

impl Effects {
    /// `subscriber` is to be notified when a stop begins.
    pub(crate) fn monitor_stop(&mut self, subscriber: ConnectionId) {
        self.monitored.subscribe(ConnectionId::REACTOR, subscriber);
    }

    /// A stop has begun: notifies all that have asked for it.
    pub(crate) fn on_stopping(&mut self) {
        let monitoring = self.monitored.take_subscribers(ConnectionId::REACTOR);
        self.notifications.push_all(Fanout {
            about: ConnectionId::REACTOR,
            notification: Notification::Stopping,
            waiting: IdSet::default(),
            monitoring,
            own_waits: IdSet::default(),
            own_monitored: IdSet::default(),
        });
    }

    /// Returns whether `subscriber` has asked to be notified of a stop, and has not been yet.
    pub(crate) fn expects_stop_notice(&self, subscriber: ConnectionId) -> bool {
        self.monitored.is_subscribed(subscriber, ConnectionId::REACTOR)
    }
}
