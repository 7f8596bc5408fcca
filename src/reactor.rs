//! The event loop: wait, note, drive, expire, reap.
//!
//! ```text
//!             kernel                       this library
//!  socket ──► epoll ──► event ──► token ──► slot (slab) ──► source
//!                                                             │ Listener    accept → new slot
//!                                                             │ Datagram    receive → reply
//!                                                             ▼ Connection
//!               socket ◄── output ◄── protocol ◄── input ◄── socket
//! ```
//!
//! One iteration is a turn. It has five stages, which follow below in the order in which they run:
//!
//! ```text
//! wait     sleep in poll until an event or a deadline; not at all while other work is left
//! note     for each event: store the readiness on its slot and queue the slot; nothing runs yet
//! drive    for each queued slot: run its source until it blocks, ends or spends its budget
//! expire   for each deadline that is due: let the source check its timer and timeouts
//! reap     close and free the slots that ended; queue the paused listeners
//! ```
//!
//! Two things here are part of correctness, not of speed. The **run queue**: the poller is
//! edge-triggered, so a source that stopped before `WouldBlock` gets no second event for the bytes
//! it left behind. It must be in the run queue (invariant 2, checked over the whole slab before
//! each wait in debug builds). And the **order**: all events are noted before any source can end,
//! and slots are freed last. So within one turn a token means one source (invariant 4), and no
//! event is stale.

mod run_queue; // which slots are driven, and in which order
mod slots; // the slab's entries: queueing, registering, ending
mod sources; // what each kind of source does when it is driven, expires or ends
mod listen; // opening listeners
mod open; // opening streams, datagram sockets and the others
mod accept; // accepting connections, evicting idle ones
mod dispatch; // applying effects, delivering notifications
mod memory; // metering what connections hold, evicting the largest holder
mod deferred; // effects that are more than a turn has time for
mod stop; // graceful stop
mod panics; // panics in protocols and tasks
pub(crate) mod tasks; // tasks that other threads submit

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use log::debug;
use slab::Slab;

use self::deferred::DeferredEffects;
use self::run_queue::RunQueue;
use self::slots::{Slot, SlotState, note_event};
use self::sources::{Ended, Source};
use self::tasks::Handle;
use crate::budget::QUARTER_TURN_BYTES;
use crate::datagram::scratch::DatagramScratch;
use crate::deadline::Deadlines;
use crate::limits::{
    CALL_COST_BYTES, CONNECTION_COST_BYTES, EVENTS_PER_TURN, Limits, NOTIFICATIONS_BYTES_MAX,
    NOTIFICATIONS_PENDING_DIVISOR, READ_BYTES_MAX, TURN_BYTES_MAX,
};
use crate::loop_state::LoopState;
use crate::protocol::effects::Effects;
use crate::protocol::ident::CloseReason;
use crate::protocol::outcome::Outcome;
use crate::stop_state::Stopped;
use crate::stream::readiness::Registered;
use crate::sys::{Events, Poll};
use crate::time::Time;
use crate::trace::{self, Stage};

/// An event loop with its sockets: one thread, one poller, one slab of connections.
///
/// It blocks only in its own wait, and in reads of files that it serves. No peer can end it.
///
/// Neither `Send` nor `Sync`: it owns the protocols, which need not be either. So make it on the
/// thread that runs it. Other threads reach it through a [`Handle`].
pub struct Reactor {
    poll: Poll,
    events: Events,
    slots: Slab<Slot>,
    run_queue: RunQueue, // the slots whose source can go on without a further event
    running: usize,      // the slot whose source is being run: a panic is handled as that source's
    deadlines: Deadlines,
    notifications_left: usize, // still to be delivered in this turn
    ended: VecDeque<(Ended, CloseReason)>, // what has ended, and why; `reap` frees it
    listeners: Vec<usize>,     // their slots
    scratch: Box<[u8; READ_BYTES_MAX]>, // streams are read into it
    datagram_scratch: Option<Box<DatagramScratch>>, // made with the first datagram socket
    state: LoopState,
    effects: Effects, // what protocols have asked to be done to other connections
    deferred: VecDeque<DeferredEffects>,
    connections: usize,      // open now, outbound ones included
    datagram_clients: usize, // datagram sockets that are connected to a peer
    handle: Option<Handle>,  // made when the first one is asked for; others are clones of it
}

impl Reactor {
    /// Makes a reactor without sockets.
    ///
    /// # Errors
    ///
    /// The kernel's error if it has no descriptor or memory for another poller (epoll_create1(2)).
    pub fn new(limits: Limits) -> io::Result<Reactor> {
        Ok(Reactor {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            slots: Slab::new(),
            run_queue: RunQueue::with_capacity(2 * EVENTS_PER_TURN),
            running: 0,
            deadlines: Deadlines::new(),
            notifications_left: 0,
            ended: VecDeque::with_capacity(EVENTS_PER_TURN),
            listeners: Vec::new(),
            scratch: Box::new([0; READ_BYTES_MAX]),
            datagram_scratch: None,
            state: LoopState::new(limits),
            effects: Effects::default(),
            deferred: VecDeque::new(),
            connections: 0,
            datagram_clients: 0,
            handle: None,
        })
    }

    /// Runs turns until the reactor has been asked to stop and has drained. Returns how it has
    /// stopped: at once if it has already, as after a loop of [`turn`](Reactor::turn).
    ///
    /// # Errors
    ///
    /// Only if the poll itself fails (epoll_wait(2)), which no peer can cause.
    ///
    /// # Panics
    ///
    /// As [`turn`](Reactor::turn) does.
    pub fn run(&mut self) -> io::Result<Stopped> {
        debug!("connections may use up to {} bytes of memory", self.state.limits.bytes_max());
        self.read_clock();
        self.apply_effects();
        while !self.is_stopped() {
            self.run_turn(Time::NEVER)?;
        }
        Ok(self.state.stop.result())
    }

    /// Runs one turn, which waits for an event or a deadline, but no longer than `at_most`, rounded
    /// up to whole milliseconds. For programs that have a loop of their own, and for benchmarks.
    /// With `None`, returns at once if the reactor has stopped.
    ///
    /// Such a loop ends once [`is_stopped`](Reactor::is_stopped) is true. Then
    /// [`run`](Reactor::run) returns at once, and says how the reactor has stopped.
    ///
    /// # Errors
    ///
    /// As for [`run`](Reactor::run).
    ///
    /// # Panics
    ///
    /// If it is called from a task that was submitted with a [`Handle`]: tasks run within a turn.
    pub fn turn(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        if at_most.is_none() && self.is_stopped() {
            return Ok(()); // nothing would end the wait
        }
        self.read_clock();
        self.apply_effects();
        self.run_turn(at_most.map_or(Time::NEVER, |at_most| self.state.clock.now.plus(at_most)))
    }

    fn run_turn(&mut self, until: Time) -> io::Result<()> {
        assert!(!self.is_in_turn(), "a turn cannot run within another turn");
        self.wait(until)?;
        self.state.stage = Stage::Note;
        self.note();
        self.state.stage = Stage::Drive;
        self.drive();
        self.expire();
        self.reap();
        self.state.stage = Stage::Owner;
        Ok(())
    }

    // ---- wait: the one place where the program sleeps (invariant 1)

    fn wait(&mut self, until: Time) -> io::Result<()> {
        debug_assert!(self.every_ready_source_is_queued(), "invariant 2");
        self.note_lost_wake();
        let timeout = if self.has_work() {
            Some(Duration::ZERO)
        } else {
            let due = self.next_deadline().min(until);
            (due != Time::NEVER).then(|| due.since(self.state.clock.now))
        };
        self.state.stats.turns += 1;
        let result = self.poll.poll(&mut self.events, timeout);
        self.state.clock.read();
        self.trace_wait(timeout, &result);
        match result {
            // EINTR: a signal handler ran. If it wrote to the self-pipe, the next poll reports it.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            other => other?,
        }
        Ok(())
    }

    /// Returns whether there is work to do without an event.
    fn has_work(&self) -> bool {
        !self.run_queue.is_empty()
            || self.effects.pending_notifications() > 0
            || !self.ended.is_empty()
            || !self.deferred.is_empty()
    }

    /// Returns the time at which there will be work to do even without an event.
    fn next_deadline(&self) -> Time {
        self.deadlines.soonest().min(self.state.stop.deadline(!self.slots.is_empty()))
    }

    // ---- note: store what the kernel reported, before anything can change

    fn note(&mut self) {
        for event in &self.events {
            let token = event.token().0;
            // A closed descriptor has no events, unless the process has forked and a copy is open.
            let Some(slot) = self.slots.get_mut(token) else { continue };
            note_event(&mut self.run_queue, token, slot, event, &self.state);
        }
        self.take_completions();
        if !self.has_work() && self.next_deadline() > self.state.clock.now {
            self.state.stats.empty_turns += 1;
        }
    }

    // ---- drive: let every queued source work

    /// Drives each queued slot once, then notifies. What is queued meanwhile runs in the next turn.
    /// Half of the turn is for the bulk queue, if any slot waits there.
    fn drive(&mut self) {
        let reserved = if self.run_queue.has_bulk() { TURN_BYTES_MAX / 2 } else { 0 };
        self.state.budget.begin_turn(self.run_queue.len());
        self.state.budget.charge(reserved);
        self.apply_deferred();
        self.run_queue.begin();
        loop {
            self.catch_panics(Reactor::drive_batch);
            self.run_queue.end_batch();
            if !self.run_queue.has_bulk_batch() {
                break;
            }
            self.state.budget.release(reserved);
            self.run_queue.begin_bulk();
        }
        self.notifications_left = self.effects.pending_notifications();
        if self.notifications_left > 0 {
            let due = self.effects.queued_notifications() / NOTIFICATIONS_PENDING_DIVISOR;
            let cost = (due * CALL_COST_BYTES).clamp(QUARTER_TURN_BYTES, NOTIFICATIONS_BYTES_MAX);
            self.state.budget.begin_stage(cost);
            self.catch_panics(Reactor::deliver_notifications);
        }
    }

    fn drive_batch(&mut self) {
        while let Some(token) = self.run_queue.next() {
            if self.state.budget.is_spent() {
                break;
            }
            self.run_queue.advance();
            self.running = token;
            let slot = &mut self.slots[token];
            slot.state = SlotState::Waiting;
            let (Some(stream), Source::Connection(connection)) = (&slot.stream, &mut slot.source)
            else {
                self.drive_other_source(token);
                continue;
            };
            if trace::is_on() {
                self.drive_traced(token);
                continue;
            }
            let outcome = connection.drive(
                stream,
                &mut slot.ready,
                &mut self.scratch[..],
                &mut self.state,
                &mut self.effects,
            );
            // Fast path: nearly every drive ends here. I/O only moves a deadline later, so the
            // filed one is early enough unless the protocol has set an earlier timer.
            if matches!(outcome, Outcome::Idle)
                && (!connection.has_timer()
                    || self.deadlines.filed_for(token) <= connection.timer())
                && slot.registered != Registered::Nothing
                && !self.state.stop.is_stopping()
                && self.effects.is_empty()
            {
                continue;
            }
            self.finish_drive(token, outcome);
        }
    }

    // ---- expire: timers and timeouts

    fn expire(&mut self) {
        if self.state.stop.is_stopping() {
            self.continue_stop();
        }
        if self.deadlines.soonest() <= self.state.clock.now {
            self.state.budget.begin_stage(QUARTER_TURN_BYTES);
            self.catch_panics(Reactor::expire_batch);
        }
    }

    fn expire_batch(&mut self) {
        self.state.stage = Stage::Expire;
        // What is left when the budget is spent is due in the next turn.
        while !self.state.budget.is_spent()
            && let Some(token) = self.deadlines.take_due(self.state.clock.now)
        {
            self.state.budget.charge(CALL_COST_BYTES);
            self.look_at(token);
        }
    }

    // ---- reap: free what has ended, last

    fn reap(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        self.state.stage = Stage::Reap;
        self.state.budget.begin_stage(TURN_BYTES_MAX);
        let slots_before = self.slots.len();
        // What is left when the budget is spent is freed in the next turn.
        while !self.state.budget.is_spent()
            && let Some((ended, why)) = self.ended.pop_front()
        {
            self.state.budget.charge(CONNECTION_COST_BYTES);
            self.free(ended, why);
        }
        if self.slots.len() < slots_before {
            self.resume_listeners();
        }
    }
}

#[cfg(test)]
mod tests;
