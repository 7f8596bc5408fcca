//! What connections do to each other.
//!
//! ```text
//!     a protocol's call ──► queued ──► (the call is over) ──► applied to the others ──► news for who asked
//!                                                                                         │
//!     told, later in the turn or in the next one ◄────────────────────────────────────────┘
//! ```
//!
//! A protocol that runs has nobody but itself in its hands: what it wants done to others is written down here, and the reactor
//! does it when the call is over. So nobody is changed while it is being driven, and no call leads into another. What comes
//! of it, where there is something to say, is told with [`Protocol::notified`].
//!
//! Invariant: effects are applied in the order in which they were asked for, and all of them before anybody else is driven.

use std::collections::VecDeque;
use std::iter;
use std::net::SocketAddr;
use std::ops::Range;

use slab::Slab;

use super::ident::{CloseReason, ConnectionId};
use super::notification::{Notification, PendingNotification};
use super::protocol::Protocol;
use super::subscriptions::Subscriptions;
use crate::limits::{
    EFFECT_BYTES, EFFECTS_BYTES_MAX, EFFECTS_HIGH_WATERMARK, EFFECTS_HIGH_WATERMARK_BYTES,
    EFFECTS_MAX, OUTPUT_SCRATCH_BYTES, TURN_BYTES_MAX,
};
use crate::protocol::datagram::DatagramProtocol;
use crate::stats::Stats;

/// What one connection wants done to another, beside sending to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Close,
    ShutdownWrite,
    Pause,
    Resume,
}

pub(crate) enum Effect {
    /// These of the bytes that wait here.
    Send(ConnectionId, Range<usize>),
    /// They were too many to wait here.
    SendOverflow(ConnectionId),
    Command(ConnectionId, Command),
    Abort(ConnectionId),
    Monitor(ConnectionId),
    Connect(Box<PendingConnect>),
    ConnectDatagram(Box<(SocketAddr, Box<dyn DatagramProtocol>)>),
}

/// A connection that is to be begun.
pub(crate) struct PendingConnect {
    pub(crate) id: ConnectionId,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Box<dyn Protocol>,
}

/// What the name of an outgoing connection stands for. It is named before it has a slot.
struct Outbound {
    generation: u32,
    token: Option<usize>,
    /// Who began it, if that was a connection.
    caller: Option<ConnectionId>,
    is_connected: bool,
}

/// What has been asked for and not been done yet, and what has come of what was.
#[derive(Default)]
pub(crate) struct Effects {
    /// With who asked for it.
    pub(crate) queued: Vec<(ConnectionId, Effect)>,
    /// What is to be sent, once for all who are to have it.
    pub(crate) bytes: Vec<u8>,
    /// What has been done in this stage of the turn, in bytes.
    applied_bytes: u64,
    notifications: VecDeque<PendingNotification>,
    /// Who has much waiting, and who wants to know when that is no longer so.
    above_watermark: Subscriptions,
    /// Who is watched, and by whom.
    monitored: Subscriptions,
    outbound: Slab<Outbound>,
    /// How many connections of either kind have been named.
    ids_issued: u32,
}

impl Effects {
    /// Is there nothing to do?
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Is so much to do that it had better be done before more is asked for?
    #[inline]
    pub(crate) fn is_above_high_watermark(&self) -> bool {
        self.queued.len() >= EFFECTS_HIGH_WATERMARK
            || self.bytes.len() >= EFFECTS_HIGH_WATERMARK_BYTES
    }

    /// A stage begins in which protocols are called.
    #[inline]
    pub(crate) fn begin_stage(&mut self) {
        self.applied_bytes = 0;
    }

    /// An effect that puts so many `bytes` to another has been applied.
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.applied_bytes += (bytes as u64).max(EFFECT_BYTES);
    }

    /// Has so much been done in this stage that the others had better have their turn?
    pub(crate) fn is_spent(&self) -> bool {
        self.applied_bytes >= TURN_BYTES_MAX
    }

    pub(super) fn queue(&mut self, from: ConnectionId, effect: Effect) {
        self.assert_room();
        self.queued.push((from, effect));
    }

    pub(super) fn assert_room(&self) {
        assert!(
            self.queued.len() < EFFECTS_MAX,
            "a protocol asks for no more than EFFECTS_MAX effects in one call"
        );
    }

    /// Gives back what was taken out to be applied, for its memory.
    pub(crate) fn return_buffers(
        &mut self,
        mut queued: Vec<(ConnectionId, Effect)>,
        mut bytes: Vec<u8>,
    ) {
        debug_assert!(
            self.queued.is_empty() && self.bytes.is_empty(),
            "to apply effects makes no others"
        );
        queued.clear();
        bytes.clear();
        queued.shrink_to(EFFECTS_HIGH_WATERMARK);
        bytes.shrink_to(OUTPUT_SCRATCH_BYTES);
        (self.queued, self.bytes) = (queued, bytes);
    }

    // ---- names

    /// The generation of the next connection.
    pub(crate) fn next_generation(&mut self) -> u32 {
        self.ids_issued = self.ids_issued.wrapping_add(1);
        self.ids_issued
    }

    /// Names a connection that `caller` begins.
    pub(crate) fn new_outbound_id(&mut self, caller: Option<ConnectionId>) -> ConnectionId {
        let generation = self.next_generation();
        let place =
            self.outbound.insert(Outbound { generation, token: None, caller, is_connected: false });
        ConnectionId::outbound(place, generation)
    }

    fn outbound_mut(&mut self, id: ConnectionId) -> Option<&mut Outbound> {
        let outgoing = self.outbound.get_mut(id.outbound_index()?)?;
        (outgoing.generation == id.generation).then_some(outgoing)
    }

    /// The outgoing connection `id` has been given a slot.
    pub(crate) fn bind_slot(&mut self, id: ConnectionId, token: usize) {
        if let Some(outgoing) = self.outbound_mut(id) {
            outgoing.token = Some(token);
        }
    }

    /// Where a connection of that name would be.
    pub(crate) fn slot_of(&self, id: ConnectionId) -> Option<usize> {
        match id.outbound_index() {
            Some(place) => {
                self.outbound
                    .get(place)
                    .filter(|outgoing| outgoing.generation == id.generation)?
                    .token
            }
            None => Some(id.slot as usize),
        }
    }

    /// The peer of the outgoing connection `id` has been reached.
    pub(crate) fn on_connected(&mut self, id: ConnectionId) {
        if let Some(outgoing) = self.outbound_mut(id) {
            outgoing.is_connected = true;
            if let Some(caller) = outgoing.caller {
                self.notify(caller, id, Notification::Connected);
            }
        }
    }

    // ---- news

    pub(crate) fn notify(&mut self, to: ConnectionId, about: ConnectionId, news: Notification) {
        self.push_notification(PendingNotification {
            to,
            about,
            notification: news,
            ends_wait: false,
        });
    }

    fn push_notification(&mut self, tiding: PendingNotification) {
        if tiding.to != ConnectionId::NONE {
            self.notifications.push_back(tiding);
        }
    }

    /// How much news waits to be told.
    #[inline]
    pub(crate) fn pending_notifications(&self) -> usize {
        self.notifications.len()
    }

    pub(crate) fn next_notification(&mut self) -> Option<PendingNotification> {
        let tiding = self.notifications.pop_front();
        if self.notifications.is_empty() {
            self.notifications.shrink_to(EFFECTS_HIGH_WATERMARK); // after a crowd
        }
        tiding
    }

    /// `sender` has sent to `id`, where much waits now.
    pub(crate) fn on_above_watermark(&mut self, id: ConnectionId, sender: ConnectionId) {
        if sender != ConnectionId::NONE && self.above_watermark.subscribe(id, sender) {
            self.notify(sender, id, Notification::AboveHighWatermark);
        }
    }

    /// What waits on `id` has fallen to the low mark.
    pub(crate) fn on_output_low(&mut self, id: ConnectionId) {
        for sender in self.above_watermark.take_subscribers(id) {
            self.push_notification(PendingNotification {
                to: sender,
                about: id,
                notification: Notification::BelowLowWatermark,
                ends_wait: true,
            });
        }
    }

    /// Does `asker` wait to be told that another has drained?
    pub(crate) fn waits_for_low_watermark(&self, asker: ConnectionId) -> bool {
        self.above_watermark.has_subscriber(asker)
    }

    /// `asker` wants to know when `id` has gone.
    pub(crate) fn monitor(&mut self, id: ConnectionId, asker: ConnectionId) {
        self.monitored.subscribe(id, asker);
    }

    /// `id` has gone: who began it is told if it was in vain, those who wait for something of it are told, each once, and it
    /// wants to know nothing any more.
    pub(crate) fn on_closed(&mut self, id: ConnectionId, why: CloseReason, stats: &mut Stats) {
        if self.outbound_mut(id).is_some()
            && let Some(place) = id.outbound_index()
        {
            let outgoing = self.outbound.remove(place);
            stats.connects_failed += u64::from(!outgoing.is_connected);
            if let Some(caller) = outgoing.caller.filter(|_| !outgoing.is_connected) {
                let news = if let CloseReason::ConnectFailed(kind) = why {
                    Notification::ConnectFailed(kind)
                } else {
                    Notification::Closed
                };
                self.notify(caller, id, news);
            }
        }
        if !self.above_watermark.is_empty() || !self.monitored.is_empty() {
            self.notify_closed(id);
        }
    }

    #[cold]
    fn notify_closed(&mut self, id: ConnectionId) {
        let waiting = self.above_watermark.take_subscribers(id);
        let watching = self.monitored.take_subscribers(id);
        for &to in waiting.union(&watching) {
            self.push_notification(PendingNotification {
                to,
                about: id,
                notification: Notification::Closed,
                ends_wait: waiting.contains(&to),
            });
        }
        self.above_watermark.unsubscribe_all(id);
        self.monitored.unsubscribe_all(id);
    }

    /// For how much news there is memory.
    #[cfg(test)]
    pub(crate) fn notification_capacity(&self) -> usize {
        self.notifications.capacity()
    }

    /// Does nobody wait for anything?
    #[cfg(test)]
    pub(crate) fn has_nothing_pending(&self) -> bool {
        self.is_empty()
            && self.above_watermark.is_empty()
            && self.monitored.is_empty()
            && self.outbound.is_empty()
    }
}

/// The connections of the same reactor, by their names: what a datagram protocol may ask for on them, in the same way as
/// [`Context`](crate::Context) lets a connection's protocol do it. Nothing is told of what comes of it, for there is no name that it could be told
/// to: bytes that are not taken are lost.
///
/// # Panics
///
/// As for [`Context`](crate::Context).
pub struct Connections<'t> {
    pub(super) effects: &'t mut Effects,
    pub(super) from: ConnectionId,
}

impl<'t> Connections<'t> {
    /// Asked by nobody who could be told anything.
    pub(crate) fn anonymous(effects: &'t mut Effects) -> Connections<'t> {
        Connections { effects, from: ConnectionId::NONE }
    }

    /// As [`Context::send_to`](crate::Context::send_to).
    pub fn send_to(&mut self, to: ConnectionId, bytes: &[u8]) {
        self.send_to_all([to], bytes);
    }

    /// As [`Context::send_to_all`](crate::Context::send_to_all).
    pub fn send_to_all(&mut self, to: impl IntoIterator<Item = ConnectionId>, bytes: &[u8]) {
        let effects = &mut *self.effects;
        let mut to = to.into_iter();
        let Some(first) = to.next() else { return }; // bytes that are for nobody would lie there for ever
        let start = effects.bytes.len();
        let has_room = start + bytes.len() <= EFFECTS_BYTES_MAX;
        if has_room {
            effects.bytes.extend_from_slice(bytes);
        }
        let end = effects.bytes.len();
        for to in iter::once(first).chain(to) {
            effects.queue(
                self.from,
                if has_room { Effect::Send(to, start..end) } else { Effect::SendOverflow(to) },
            );
        }
    }

    /// As [`Context::close`](crate::Context::close).
    pub fn close(&mut self, id: ConnectionId) {
        self.queue(Effect::Command(id, Command::Close));
    }

    /// As [`Context::shutdown_write`](crate::Context::shutdown_write).
    pub fn shutdown_write(&mut self, id: ConnectionId) {
        self.queue(Effect::Command(id, Command::ShutdownWrite));
    }

    /// As [`Context::abort`](crate::Context::abort).
    pub fn abort(&mut self, id: ConnectionId) {
        self.queue(Effect::Abort(id));
    }

    /// As [`Context::pause`](crate::Context::pause).
    pub fn pause(&mut self, id: ConnectionId) {
        self.queue(Effect::Command(id, Command::Pause));
    }

    /// As [`Context::resume`](crate::Context::resume).
    pub fn resume(&mut self, id: ConnectionId) {
        self.queue(Effect::Command(id, Command::Resume));
    }

    pub(super) fn queue(&mut self, effect: Effect) {
        self.effects.queue(self.from, effect);
    }
}
