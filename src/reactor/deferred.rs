//! Effects that are more than a turn has time for: the rest is applied in the next turns.
//!
//! ```text
//!     call ──► effects ──► applied, as far as the budget goes ──► the rest is deferred
//!                                                                     │ its caller is held
//!     next turns: each caller in its turn gets a slice ◄──────────────┘
//! ```
//!
//! Nearly always all effects of a call are applied when the call is over. But one call may ask for
//! ten thousand connects. Other connections are served between the parts of such a burst.
//!
//! Invariant: a slot whose effects are deferred is `Held`: it is neither driven nor notified. So
//! the effects of one caller are applied in order, and its notifications, which are kept here
//! meanwhile, are delivered in order. No more than `EFFECTS_MAX` effects and
//! `EFFECTS_BYTES_MAX` bytes are deferred: beyond that they are applied at once, however long that
//! takes.

use std::collections::VecDeque;

use super::Reactor;
use super::slots::{SlotState, enqueue};
use crate::budget::Share;
use crate::limits::{EFFECTS_BYTES_MAX, EFFECTS_MAX};
use crate::protocol::effects::Effect;
use crate::protocol::ident::ConnectionId;
use crate::protocol::notification::PendingNotification;

/// The effects of one caller that are not applied yet.
pub(super) struct DeferredEffects {
    pub(super) caller: Caller,
    pub(super) queued: VecDeque<(ConnectionId, Effect)>,
    /// The bytes of the sends.
    pub(super) bytes: Vec<u8>,
    /// The notifications that were due to the caller while it was held.
    notifications: VecDeque<PendingNotification>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The source in this slot, which is held.
    Slot(usize),
    /// The owner of the reactor, between two turns.
    Owner,
    /// A source that has ended meanwhile.
    Ended,
}

impl Reactor {
    /// Keeps the rest of the effects of a call for the next turns, and holds its caller. If there
    /// is no room for them, they are applied at once.
    #[cold]
    pub(super) fn defer_effects(&mut self, mut rest: DeferredEffects) {
        let (effects, bytes) = self
            .deferred
            .iter()
            .fold((rest.queued.len(), rest.bytes.len()), |(effects, bytes), other| {
                (effects + other.queued.len(), bytes + other.bytes.len())
            });
        if effects > EFFECTS_MAX || bytes > EFFECTS_BYTES_MAX {
            self.finish_deferred(rest.caller);
            self.apply_part(&mut rest, Share::UNBOUNDED);
            return;
        }
        if let Caller::Slot(token) = rest.caller {
            let slot = &mut self.slots[token];
            match slot.state {
                SlotState::Waiting => slot.state = SlotState::Held,
                SlotState::Queued => {
                    self.run_queue.remove(token);
                    slot.state = SlotState::Held;
                }
                SlotState::Held | SlotState::Ended => {}
            }
        }
        match self.deferred.iter_mut().find(|other| other.caller == rest.caller) {
            Some(earlier) => earlier.append(rest),
            None => self.deferred.push_back(rest),
        }
        self.count_deferred();
    }

    /// Counts what waits, for the memory meter.
    fn count_deferred(&mut self) {
        self.effects.deferred_bytes = self.deferred.iter().map(DeferredEffects::held_bytes).sum();
    }

    /// Keeps a notification for the source in this slot, which is held.
    #[cold]
    pub(super) fn hold_notification(&mut self, token: usize, pending: PendingNotification) {
        self.effects.count_again(&pending);
        let mut deferred = self.deferred.iter_mut();
        deferred
            .find(|effects| effects.caller == Caller::Slot(token))
            .expect("a slot is held for its effects")
            .notifications
            .push_back(pending);
    }

    /// Applies deferred effects, a slice of each caller in turn, until their share of the turn is
    /// spent.
    pub(super) fn apply_deferred(&mut self) {
        let share = self.state.budget.quarter_share();
        while !self.state.budget.share_is_spent(share)
            && let Some(mut next) = self.deferred.pop_front()
        {
            let slice = self.state.budget.stream_share();
            if self.apply_part(&mut next, slice) {
                self.release(next.caller, next.notifications);
            } else {
                self.deferred.push_back(next);
            }
        }
        self.count_deferred();
    }

    /// Applies all that is left of the effects of `caller`: what it asks for now comes after them.
    pub(super) fn finish_deferred(&mut self, caller: Caller) {
        if let Some(index) = self.deferred.iter().position(|other| other.caller == caller)
            && let Some(mut earlier) = self.deferred.remove(index)
        {
            self.apply_part(&mut earlier, Share::UNBOUNDED);
            self.release(caller, earlier.notifications);
            self.count_deferred();
        }
    }

    /// Applies effects until the share is spent, at least one. Returns whether all are applied.
    pub(super) fn apply_part(&mut self, effects: &mut DeferredEffects, share: Share) -> bool {
        while let Some((from, effect)) = effects.queued.pop_front() {
            self.apply_effect(from, effect, &effects.bytes);
            if self.state.budget.share_is_spent(share) {
                break;
            }
        }
        effects.queued.is_empty()
    }

    /// All effects of `caller` are applied: it may be driven again, and is notified first of what
    /// it has missed.
    fn release(&mut self, caller: Caller, missed: VecDeque<PendingNotification>) {
        self.effects.put_back(missed);
        if let Caller::Slot(token) = caller
            && let Some(slot) = self.slots.get_mut(token)
            && slot.state == SlotState::Held
        {
            slot.state = SlotState::Waiting;
            enqueue(&mut self.run_queue, token, slot);
        }
    }

    /// The source in this slot is freed. What it has asked for is still done.
    pub(super) fn orphan_deferred(&mut self, token: usize) {
        for effects in &mut self.deferred {
            if effects.caller == Caller::Slot(token) {
                effects.caller = Caller::Ended;
                self.effects.put_back(effects.take_notifications());
            }
        }
    }
}

impl DeferredEffects {
    pub(super) fn new(
        caller: Caller,
        (queued, bytes): (VecDeque<(ConnectionId, Effect)>, Vec<u8>),
    ) -> DeferredEffects {
        DeferredEffects { caller, queued, bytes, notifications: VecDeque::new() }
    }

    /// Returns the memory that it takes, in bytes.
    fn held_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.queued.capacity() * size_of::<(ConnectionId, Effect)>()
            + self.notifications.capacity() * size_of::<PendingNotification>()
    }

    /// Takes the notifications that were kept for the caller.
    pub(super) fn take_notifications(&mut self) -> VecDeque<PendingNotification> {
        std::mem::take(&mut self.notifications)
    }

    fn append(&mut self, mut later: DeferredEffects) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&later.bytes);
        for (_, effect) in &mut later.queued {
            if let Effect::Send(_, range, _) = effect {
                *range = range.start + start..range.end + start;
            }
        }
        self.queued.append(&mut later.queued);
    }
}
