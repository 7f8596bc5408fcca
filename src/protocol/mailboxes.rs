//! Mailboxes: the messages that wait for each connection, in one queue with its notifications.
//!
//! Invariant: a message that is not delivered is dropped by the loop, in a catch. It is a value of
//! the application, and may panic when it is dropped.

use std::any::Any;

use super::effects::Effects;
use super::ident::ConnectionId;
use super::notification::{Content, PendingNotification};
use crate::limits::{CALL_COST_BYTES, MAILBOX_MESSAGES_MAX};

impl Effects {
    /// Puts `message` into the mailbox of `to`, or gives it back if that is full. While the
    /// connect of `to` is in progress, the message waits for its success.
    pub(crate) fn push_message(
        &mut self,
        to: ConnectionId,
        is_connecting: bool,
        message: Box<dyn Any>,
    ) -> Result<(), Box<dyn Any>> {
        let waiting = self.mailboxes.entry(to).or_default();
        if *waiting >= MAILBOX_MESSAGES_MAX {
            return Err(message);
        }
        *waiting += 1;
        if is_connecting {
            self.unconnected.entry(to).or_default().push(message);
        } else {
            self.queue_message(to, message);
        }
        Ok(())
    }

    /// Puts a completion into the mailbox of `to`, however full that is.
    pub(crate) fn push_completion(&mut self, to: ConnectionId, message: Box<dyn Any>) {
        *self.mailboxes.entry(to).or_default() += 1;
        self.queue_message(to, message);
    }

    fn queue_message(&mut self, to: ConnectionId, message: Box<dyn Any>) {
        self.notifications.push(PendingNotification {
            to,
            content: Content::Message(message),
            ends_wait: false,
            cost_bytes: CALL_COST_BYTES,
        });
    }

    /// A message that was taken out of the queue still waits: its connection cannot be called.
    pub(crate) fn count_again(&mut self, pending: &PendingNotification) {
        if let Content::Message(_) = pending.content {
            *self.mailboxes.entry(pending.to).or_default() += 1;
        }
    }

    /// Queues the messages that have waited for the connect of `id`.
    pub(super) fn queue_unconnected(&mut self, id: ConnectionId) {
        for message in self.unconnected.remove(&id).unwrap_or_default() {
            self.queue_message(id, message);
        }
    }

    /// Takes a message or notification that will not be delivered, to drop it.
    pub(crate) fn take_undelivered(&mut self) -> Option<Content> {
        while let Some(&id) = self.unconnected.keys().next() {
            self.queue_unconnected(id);
        }
        self.next_notification().map(|pending| pending.content)
    }
}
