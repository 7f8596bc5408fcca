//! Effects: what one connection does to another, queued during a call and applied after it.
//!
//! ```text
//!     protocol call ──► effect queued ──► call returns ──► effect applied ──► notification queued
//!                                                          to the others           │
//!                                                                                  ▼
//!                                           delivered with `notified`, in this turn or the next
//! ```
//!
//! A protocol that is being called can change only its own connection. What it does to others is
//! queued here, and the reactor applies it when the call is over. So no connection changes while it
//! is being driven, and no call leads to another call. If the result matters to the protocol, it is
//! notified of it ([`Protocol::notified`]).
//!
//! Invariant: the effects of one caller are applied in the order in which it has queued them, and
//! all of them before it is driven again. Unless they are more than a turn has time for, they are
//! also applied before any other protocol is called (`src/reactor/deferred.rs`).

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;

use slab::Slab;

use super::id_set::IdSet;
use super::ident::{CloseReason, ConnectionId, Generations};
use super::notification::{Content, Notification, PendingNotification};
use super::pending::{Fanout, PendingNotifications};
use super::protocol::Protocol;
use super::slow_reader::{KeptValues, SlowReader};
use super::subscriptions::Subscriptions;
use crate::limits::{
    CALL_COST_BYTES, EFFECTS_HIGH_WATERMARK, EFFECTS_HIGH_WATERMARK_BYTES, EFFECTS_MAX,
    OUTPUT_SCRATCH_BYTES,
};
use crate::overload_limits::SUBSCRIPTION_BYTES;
use crate::protocol::datagram::DatagramProtocol;
use crate::stats::Stats;

/// What can be done to a connection by its id ([`Connections`](crate::Connections)), beside sending
/// to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// [`Connections::close`](crate::Connections::close)
    Close,
    /// [`Connections::shutdown_write`](crate::Connections::shutdown_write)
    ShutdownWrite,
    /// [`Connections::abort`](crate::Connections::abort)
    Abort,
    /// [`Connections::pause`](crate::Connections::pause)
    Pause,
    /// [`Connections::resume`](crate::Connections::resume)
    Resume,
}

pub(crate) enum Effect {
    /// Sends this range of [`Effects::bytes`].
    Send(ConnectionId, Range<usize>, SlowReader),
    /// A send of more bytes than may be queued here. It is rejected.
    SendOverflow(ConnectionId),
    Command(ConnectionId, Command),
    Message(ConnectionId, Box<dyn Any>),
    Monitor(ConnectionId),
    MonitorStop,
    Connect(Box<PendingConnect>),
    ConnectDatagram(Box<(SocketAddr, Box<dyn DatagramProtocol>)>),
    /// Completions are to wake the loop. If that cannot be, the caller is sent this value.
    OpenWaker(Box<dyn Any>),
    /// The bound on memory is exceeded by what the protocol says that it holds.
    EvictLargest,
}

/// A connect that has not been started.
pub(crate) struct PendingConnect {
    pub(crate) id: ConnectionId,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Box<dyn Protocol>,
}

/// What the id of an outbound connection refers to. It has an id before it has a slot.
struct Outbound {
    generation: u32,
    token: Option<usize>,
    /// The connection that has started it, if one has.
    caller: Option<ConnectionId>,
    is_connected: bool,
}

/// The effects that have been queued and not applied, and the notifications that are not delivered.
#[derive(Default)]
pub(crate) struct Effects {
    /// Each with the connection that queued it.
    pub(crate) queued: VecDeque<(ConnectionId, Effect)>,
    /// The bytes of the sends. A broadcast has them once for all its recipients.
    pub(crate) bytes: Vec<u8>,
    /// The memory of effects that are applied in the next turns (`src/reactor/deferred.rs`).
    pub(crate) deferred_bytes: usize,
    pub(super) notifications: PendingNotifications,
    /// How many messages wait for each connection, if any.
    pub(super) mailboxes: BTreeMap<ConnectionId, usize>,
    /// Those among them that wait until a connect has succeeded.
    pub(super) unconnected: BTreeMap<ConnectionId, Vec<Box<dyn Any>>>,
    /// Subjects: connections whose output is above the high watermark. Subscribers: connections
    /// that have sent to them, and await `BelowLowWatermark`.
    above_watermark: Subscriptions,
    /// Subjects: monitored connections. Subscribers: those that monitor them.
    pub(super) monitored: Subscriptions,
    /// What is sent to slow readers once they have caught up.
    pub(super) kept: KeptValues,
    outbound: Slab<Outbound>,
    generations: Generations,
}

impl Effects {
    /// Returns whether no effect is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Returns whether the queued effects are to be applied before the protocol may queue more.
    pub(crate) fn is_above_high_watermark(&self) -> bool {
        self.queued.len() >= EFFECTS_HIGH_WATERMARK
            || self.bytes.len() >= EFFECTS_HIGH_WATERMARK_BYTES
    }

    pub(super) fn queue(&mut self, from: ConnectionId, effect: Effect) {
        self.assert_room();
        self.queued.push_back((from, effect));
    }

    pub(super) fn assert_room(&self) {
        assert!(
            self.queued.len() < EFFECTS_MAX,
            "one call queues no more than EFFECTS_MAX effects"
        );
    }

    /// Takes the queued effects, and the bytes of their sends, to apply them.
    pub(crate) fn take_queued(&mut self) -> (VecDeque<(ConnectionId, Effect)>, Vec<u8>) {
        (std::mem::take(&mut self.queued), std::mem::take(&mut self.bytes))
    }

    /// Returns the buffers that were taken to apply the effects, so that their memory is reused.
    pub(crate) fn return_buffers(
        &mut self,
        mut queued: VecDeque<(ConnectionId, Effect)>,
        mut bytes: Vec<u8>,
    ) {
        debug_assert!(
            self.queued.is_empty() && self.bytes.is_empty(),
            "applying effects queues no others"
        );
        queued.clear();
        bytes.clear();
        queued.shrink_to(EFFECTS_HIGH_WATERMARK);
        bytes.shrink_to(OUTPUT_SCRATCH_BYTES);
        (self.queued, self.bytes) = (queued, bytes);
    }

    // ---- ids

    /// Returns the generation for a new connection.
    pub(crate) fn next_generation(&mut self) -> u32 {
        self.generations.next()
    }

    /// Issues an id for a connection that `caller` starts.
    pub(crate) fn new_outbound_id(&mut self, caller: Option<ConnectionId>) -> ConnectionId {
        let generation = self.next_generation();
        let index =
            self.outbound.insert(Outbound { generation, token: None, caller, is_connected: false });
        ConnectionId::outbound(index, generation)
    }

    fn outbound_mut(&mut self, id: ConnectionId) -> Option<&mut Outbound> {
        let outbound = self.outbound.get_mut(id.outbound_index()?)?;
        (outbound.generation == id.generation).then_some(outbound)
    }

    /// Records the slot of the outbound connection `id`.
    pub(crate) fn bind_slot(&mut self, id: ConnectionId, token: usize) {
        if let Some(outbound) = self.outbound_mut(id) {
            outbound.token = Some(token);
        }
    }

    /// Returns the slot that a connection with this id would have. The slot may hold a later one.
    pub(crate) fn slot_of(&self, id: ConnectionId) -> Option<usize> {
        match id.outbound_index() {
            Some(index) => {
                self.outbound
                    .get(index)
                    .filter(|outbound| outbound.generation == id.generation)?
                    .token
            }
            None => Some(id.slot as usize),
        }
    }

    /// Records that the connect of `id` has succeeded, and notifies the connection that started it.
    pub(crate) fn on_connected(&mut self, id: ConnectionId) {
        if let Some(outbound) = self.outbound_mut(id) {
            outbound.is_connected = true;
            if let Some(caller) = outbound.caller {
                self.notify(caller, id, Notification::Connected);
            }
        }
        self.queue_unconnected(id);
    }

    // ---- notifications

    pub(crate) fn notify(
        &mut self,
        to: ConnectionId,
        about: ConnectionId,
        notification: Notification,
    ) {
        self.notifications.push(PendingNotification {
            to,
            content: Content::Notification(about, notification),
            ends_wait: false,
            cost_bytes: CALL_COST_BYTES,
        });
    }

    /// Puts notifications back, before all others: their connection could not be called.
    pub(crate) fn put_back(&mut self, missed: VecDeque<PendingNotification>) {
        self.notifications.put_back(missed);
    }

    /// Returns how many steps it takes to deliver all notifications, and to remove the
    /// subscriptions of connections that have ended.
    pub(crate) fn pending_notifications(&self) -> usize {
        self.notifications.steps()
    }

    /// Returns the length of the queue, in which one entry may stand for many notifications.
    pub(crate) fn queued_notifications(&self) -> usize {
        self.notifications.entries()
    }

    /// Takes the next step.
    pub(crate) fn next_notification(&mut self) -> Option<PendingNotification> {
        let pending = self.notifications.next(&mut self.above_watermark, &mut self.monitored)?;
        if let Content::Message(_) = pending.content
            && let Some(waiting) = self.mailboxes.get_mut(&pending.to)
        {
            *waiting -= 1;
            if *waiting == 0 {
                self.mailboxes.remove(&pending.to);
            }
        }
        Some(pending)
    }

    /// `sender` has sent to `id`, and the output there is above the high watermark now. Notifies
    /// it, once until the output has fallen.
    pub(crate) fn on_above_watermark(&mut self, id: ConnectionId, sender: ConnectionId) {
        if sender != ConnectionId::NONE && self.above_watermark.subscribe(id, sender) {
            self.notify(sender, id, Notification::AboveHighWatermark);
        }
    }

    /// The output of `id` has fallen to the low watermark: notifies all that wait for it.
    pub(crate) fn on_output_low(&mut self, id: ConnectionId) {
        if self.kept.contains(id) {
            self.notifications.push(PendingNotification {
                to: id,
                content: Content::Kept,
                ends_wait: false,
                cost_bytes: CALL_COST_BYTES,
            });
        }
        let waiting = self.above_watermark.take_subscribers(id);
        self.notifications.push_all(Fanout {
            about: id,
            notification: Notification::BelowLowWatermark,
            waiting,
            monitoring: IdSet::default(),
            own_waits: IdSet::default(),
            own_monitored: IdSet::default(),
        });
    }

    /// Returns whether `subscriber` waits for the output of another connection to fall to the low
    /// watermark.
    pub(crate) fn waits_for_low_watermark(&self, subscriber: ConnectionId) -> bool {
        self.above_watermark.has_subscriber(subscriber)
    }

    /// `subscriber` is to be notified when `id` has ended.
    pub(crate) fn monitor(&mut self, id: ConnectionId, subscriber: ConnectionId) {
        self.monitored.subscribe(id, subscriber);
    }

    /// `id` has ended. If it was never connected, the connection that started it is notified of the
    /// failed connect. Then each connection that waits for its output or monitors it is notified
    /// once of the end, the former perhaps among them. Its own subscriptions are removed.
    #[inline]
    pub(crate) fn on_closed(&mut self, id: ConnectionId, why: CloseReason, stats: &mut Stats) {
        let is_outbound = id.outbound_index().is_some();
        let is_unused = self.unconnected.is_empty() && self.kept.is_empty();
        if is_outbound || !is_unused || self.has_subscriptions() {
            self.forget(id, why, stats);
        }
    }

    fn has_subscriptions(&self) -> bool {
        !self.above_watermark.is_empty() || !self.monitored.is_empty()
    }

    #[cold]
    fn forget(&mut self, id: ConnectionId, why: CloseReason, stats: &mut Stats) {
        self.kept.take(id);
        // As a delivery to a connection that has ended: there they are dropped in a catch.
        self.queue_unconnected(id);
        if self.outbound_mut(id).is_some()
            && let Some(index) = id.outbound_index()
        {
            let outbound = self.outbound.remove(index);
            stats.connects_failed += u64::from(!outbound.is_connected);
            if let Some(caller) = outbound.caller.filter(|_| !outbound.is_connected) {
                let notification = if let CloseReason::ConnectFailed(kind) = why {
                    Notification::ConnectFailed(kind)
                } else {
                    Notification::Closed
                };
                self.notify(caller, id, notification);
            }
        }
        self.notifications.push_all(Fanout {
            about: id,
            notification: Notification::Closed,
            waiting: self.above_watermark.take_subscribers(id),
            monitoring: self.monitored.take_subscribers(id),
            own_waits: self.above_watermark.take_subjects(id),
            own_monitored: self.monitored.take_subjects(id),
        });
    }

    /// Returns how much memory the notifications and the deferred effects take, in bytes. (Other
    /// effects wait only until the call is over.)
    pub(crate) fn queue_bytes(&self) -> usize {
        self.deferred_bytes + self.notifications.capacity() * size_of::<PendingNotification>()
    }

    /// Returns how much memory the subscriptions of `subscriber` take, and what is kept for it, in
    /// bytes.
    pub(crate) fn subscription_bytes(&self, subscriber: ConnectionId) -> usize {
        let count = self.above_watermark.count_of(subscriber) + self.monitored.count_of(subscriber);
        count * SUBSCRIPTION_BYTES + self.kept.bytes_of(subscriber)
    }

    /// `subscriber` is to end for want of memory: its own subscriptions end now.
    pub(crate) fn end_subscriptions_of(&mut self, subscriber: ConnectionId) {
        self.kept.take(subscriber);
        self.notifications.push_all(Fanout {
            about: subscriber,
            notification: Notification::Closed,
            waiting: IdSet::default(),
            monitoring: IdSet::default(),
            own_waits: self.above_watermark.take_subjects(subscriber),
            own_monitored: self.monitored.take_subjects(subscriber),
        });
    }

    /// Returns how many notifications fit in the memory that is allocated.
    #[cfg(test)]
    pub(crate) fn notification_capacity(&self) -> usize {
        self.notifications.capacity()
    }

    /// Returns whether nothing is queued, and no connection waits for another.
    #[cfg(test)]
    pub(crate) fn has_nothing_pending(&self) -> bool {
        self.is_empty()
            && self.above_watermark.is_empty()
            && self.monitored.is_empty()
            && self.outbound.is_empty()
            && self.mailboxes.is_empty()
            && self.kept.is_empty()
    }
}
