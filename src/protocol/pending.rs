//! Notifications that are not delivered yet: a queue, in which one entry may stand for many.
//!
//! Thousands of connections may wait for one, or monitor it. When it ends, one entry is queued for
//! all of them, in constant time. Each step of the loop then takes one connection from that entry.
//!
//! Invariant: `steps` is the number of calls of `next` that it takes to empty the queue, or more.

use std::collections::VecDeque;

use super::id_set::IdSet;
use super::ident::ConnectionId;
use super::notification::{Content, Notification, PendingNotification};
use super::subscriptions::Subscriptions;
use crate::limits::{
    CALL_COST_BYTES, EFFECTS_HIGH_WATERMARK, SUBSCRIPTION_COST_BYTES,
    SUBSCRIPTIONS_CLEARED_PER_COST,
};

#[derive(Default)]
pub(super) struct PendingNotifications {
    queue: VecDeque<Entry>,
    steps: usize,
}

enum Entry {
    One(PendingNotification),
    All(Box<Fanout>),
}

/// One notification about `about` for many connections, and the subscriptions that end with it.
pub(super) struct Fanout {
    pub(super) about: ConnectionId,
    pub(super) notification: Notification,
    /// Connections that wait for its output to fall to the low watermark.
    pub(super) waiting: IdSet,
    /// Connections that monitor it.
    pub(super) monitoring: IdSet,
    /// Connections that it has waited for itself, and those that it has monitored.
    pub(super) own_waits: IdSet,
    pub(super) own_monitored: IdSet,
}

impl Fanout {
    fn steps(&self) -> usize {
        self.waiting.len() + self.monitoring.len() + self.own_waits.len() + self.own_monitored.len()
    }

    /// Ends one subscription, and returns its notification. Or ends all that concern no connection
    /// that is still open.
    fn next(
        &mut self,
        above_watermark: &mut Subscriptions,
        monitored: &mut Subscriptions,
    ) -> PendingNotification {
        let about = self.about;
        let (mut to, mut ends_wait, mut cost_bytes) =
            (ConnectionId::NONE, false, SUBSCRIPTION_COST_BYTES);
        let steps_before = self.steps();
        // Not `waiting`: a pair may be in several entries, since a wait can begin and end again
        // before it is delivered.
        if above_watermark.is_empty() {
            self.own_waits.clear();
        }
        if monitored.is_empty() {
            self.monitoring.clear();
            self.own_monitored.clear();
        }
        let cleared = steps_before - self.steps();
        if cleared > 0 {
            cost_bytes = cleared * SUBSCRIPTION_COST_BYTES / SUBSCRIPTIONS_CLEARED_PER_COST;
        } else if let Some(subscriber) = self.waiting.pop_first() {
            (to, ends_wait) = (subscriber, true);
            above_watermark.forget_subject(subscriber, about);
            if self.monitoring.remove(subscriber) {
                monitored.forget_subject(subscriber, about);
            }
        } else if let Some(subscriber) = self.monitoring.pop_first() {
            to = subscriber;
            monitored.forget_subject(subscriber, about);
        } else if let Some(subject) = self.own_waits.pop_first() {
            above_watermark.forget_subscriber(subject, about);
        } else if let Some(subject) = self.own_monitored.pop_first() {
            monitored.forget_subscriber(subject, about);
        }
        // A stop is about no other connection.
        let about = if about == ConnectionId::REACTOR { to } else { about };
        let content = Content::Notification(about, self.notification);
        PendingNotification { to, content, ends_wait, cost_bytes }
    }
}

impl PendingNotifications {
    pub(super) fn push(&mut self, pending: PendingNotification) {
        if pending.to != ConnectionId::NONE {
            self.queue.push_back(Entry::One(pending));
            self.steps += 1;
        }
    }

    /// Puts notifications that were taken back to the front, in their order.
    pub(super) fn put_back(&mut self, taken: VecDeque<PendingNotification>) {
        self.steps += taken.len();
        for pending in taken.into_iter().rev() {
            // What its subscription costs has been charged.
            let pending = PendingNotification { cost_bytes: CALL_COST_BYTES, ..pending };
            self.queue.push_front(Entry::One(pending));
        }
    }

    pub(super) fn push_all(&mut self, fanout: Fanout) {
        let steps = fanout.steps();
        if steps > 0 {
            self.queue.push_back(Entry::All(Box::new(fanout)));
            self.steps += steps;
        }
    }

    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// Returns how many entries the queue has.
    pub(super) fn entries(&self) -> usize {
        self.queue.len()
    }

    /// Takes one step. `None`: the queue is empty.
    pub(super) fn next(
        &mut self,
        above_watermark: &mut Subscriptions,
        monitored: &mut Subscriptions,
    ) -> Option<PendingNotification> {
        let pending = match self.queue.pop_front()? {
            Entry::One(pending) => {
                self.steps -= 1;
                pending
            }
            Entry::All(mut fanout) => {
                let steps_before = fanout.steps();
                let pending = fanout.next(above_watermark, monitored);
                self.steps -= steps_before - fanout.steps();
                if fanout.steps() > 0 {
                    self.queue.push_front(Entry::All(fanout));
                }
                pending
            }
        };
        if self.queue.is_empty() {
            // A burst is over: return its memory.
            self.queue.shrink_to(EFFECTS_HIGH_WATERMARK);
        }
        Some(pending)
    }

    /// Returns how many entries fit in the memory that is allocated.
    pub(super) fn capacity(&self) -> usize {
        self.queue.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::effects::Effects;

    #[test]
    fn wait_that_ends_twice_before_delivery_is_notified_twice() {
        let [subject, sender] =
            [1, 2].map(|generation| ConnectionId { slot: generation, generation });
        let mut effects = Effects::default();
        for _ in 0..2 {
            effects.on_above_watermark(subject, sender);
            effects.on_output_low(subject);
        }
        let delivered: Vec<Notification> = std::iter::from_fn(|| effects.next_notification())
            .map(|pending| match pending.content {
                Content::Notification(_, notification) => notification,
                Content::Message(_) | Content::Kept => panic!("nothing else was queued"),
            })
            .collect();
        let once = [Notification::AboveHighWatermark, Notification::BelowLowWatermark];
        assert_eq!(delivered, [once, once].concat());
        assert!(effects.has_nothing_pending());
    }
}
