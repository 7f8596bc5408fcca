//! The loop.
//!
//! ```text
//!             kernel                       ours
//!  socket ──► epoll ──► event ──► token ──► slot (slab) ──► source
//!                                                             │ Listener    accept → new slot
//!                                                             │ Datagram    receive a batch → answer a batch
//!                                                             ▼ Connection
//!               socket ◄── output ◄── protocol ◄── input ◄── socket
//! ```
//!
//! One pass of the loop is a turn of five stages, which follow in this file in the order in which they run:
//!
//! ```text
//! wait     sleep until something is ready, a deadline is due, or (somebody is unfinished) not at all
//! note     for each event: remember on its slot what is ready, and queue the slot; nothing runs yet
//! drive    for each slot in the queue: let it work until it blocks, ends, or has spent its budget
//! expire   for each deadline due: ask the source whether it is really late
//! reap     free the slots that ended, with their queue entries and deadlines; wake resting listeners
//! ```
//!
//! Two things here are part of correctness, not of speed. The **queue**: epoll tells of an edge once, so a source that
//! stopped before the kernel said `WouldBlock` hears nothing more, and must be in the queue (invariant 2, checked over
//! the whole slab before each wait in debug builds). And the **order**: all events are noted before anything can end, and
//! slots are freed last, so that within a turn a token means one source (invariant 4) and no event can be stale.

mod open;
mod accept;
mod dispatch;
pub(crate) mod tasks;

use std::any::Any;
use std::fmt::Display;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use log::{debug, error, info, trace};
use slab::Slab;

use self::tasks::{Handle, NextTask, TaskQueue};
use crate::clock::Time;
use crate::datagram::socket::DatagramSocket;
use crate::deadline::Deadlines;
use crate::limits::{
    ACCEPTS_PER_TURN, EVENTS_PER_TURN, EXPIRIES_PER_TURN, Limits, NOTIFICATIONS_PENDING_DIVISOR,
    NOTIFICATIONS_PER_TURN, READ_BYTES_MAX, SHRINK_FLOOR_SLOTS, TASKS_PER_TURN,
};
use crate::loop_state::LoopState;
use crate::protocol::datagram::DatagramProtocol;
use crate::protocol::effects::Effects;
use crate::protocol::ident::CloseReason;
use crate::protocol::outcome::Outcome;
use crate::protocol::protocol::Protocol;
use crate::stats::Stats;
use crate::stream::connection::Connection;
use crate::stream::listener::Listener;
use crate::stream::readiness::{Readiness, Registered};
use crate::sys::{self, Events, Interest, Poll, TcpStream, Token};

/// An event loop with its sockets: one thread, one poll, one slab.
///
/// A reactor stays on the thread that made it. It never blocks but in its own wait, and no peer can end it.
pub struct Reactor {
    poll: Poll,
    events: Events,
    slots: Slab<Slot>,
    /// When fewer slots than this are used, the others are given back.
    shrink_threshold: usize,
    /// Who can go on without any news from the kernel.
    run_queue: Vec<usize>,
    /// Who is being driven in this turn, and how many of them have been. Empty between the turns.
    batch: Vec<usize>,
    batch_cursor: usize,
    /// Whose protocol is running, if one is.
    running: usize,
    deadlines: Deadlines,
    /// How much news is still to be told in this turn.
    notifications_left: usize,
    /// Who has ended in this turn, and why.
    ended: Vec<(usize, CloseReason)>,
    /// The slots of the listeners.
    listeners: Vec<usize>,
    /// Before then, nobody is asked again to give way.
    next_eviction_at: Time,
    /// What streams are read into.
    scratch: Box<[u8; READ_BYTES_MAX]>,
    state: LoopState,
    /// What connections want done to each other.
    effects: Effects,
    /// When a stop ends what is still under way. `NEVER` until the first turn after a stop was asked for.
    drain_until: Time,
    /// How many have been accepted since then.
    accepted_while_draining: i32,
    /// How many connections were cut off when that time had come.
    forced_closes: Option<usize>,
    /// Calls that have failed at once, and whose protocols have yet to be told.
    failed_connects: Vec<(FailedConnect, CloseReason)>,
    /// How many sockets of datagram clients are open.
    datagram_clients: usize,
    /// To be given to other threads, once one has been asked for.
    handle: Option<Handle>,
    /// A turn is being taken: it is within a call of `turn`.
    is_in_turn: bool,
}

/// Whoever was not reached, and has no slot.
enum FailedConnect {
    Stream(Box<dyn Protocol>),
    Datagram(Box<dyn DatagramProtocol>),
}

struct Slot {
    source: Source,
    ready: Readiness,
    registered: Registered,
    /// The deadline filed for it.
    filed_deadline: Time,
    state: SlotState,
}

/// Where a slot stands in the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    /// It waits for the kernel, or for its deadline.
    Waiting,
    /// It is in the queue, once.
    Queued,
    /// It has ended, and will be freed in `reap`. Nothing is done with it any more.
    Ended,
}

impl Slot {
    /// What the kernel has to tell of it, and when it has to be looked at, at the latest.
    #[inline]
    fn interest_and_deadline(&self, state: &LoopState) -> (Registered, Time) {
        match &self.source {
            Source::Connection(_, connection) if state.stopping => {
                let idle_at = connection.idle_at().unwrap_or(Time::NEVER);
                (
                    connection.interest(),
                    connection.filing_time(&state.limits, state.clock.now).min(idle_at),
                )
            }
            Source::Connection(_, connection) => {
                (connection.interest(), connection.filing_time(&state.limits, state.clock.now))
            }
            Source::Datagram(socket) if socket.wants_write() => {
                (Registered::ReadingAndWriting, socket.timer())
            }
            Source::Listener(listener) => (Registered::Reading, listener.deadline(state.clock.now)),
            Source::Datagram(socket) => (Registered::Reading, socket.timer()),
            Source::Tasks(_) | Source::StopSignal(_) => (Registered::Reading, Time::NEVER),
        }
    }

    /// At a stop: has it done all that was begun?
    fn can_stop(&self, now: Time) -> bool {
        match &self.source {
            Source::Connection(_, connection) => {
                connection.idle_at().is_some_and(|idle_at| idle_at <= now)
            }
            Source::Listener(listener) => listener.is_closed(),
            Source::Datagram(socket) => socket.is_done(),
            Source::Tasks(_) => false, // it ends by itself, when it is empty
            Source::StopSignal(_) => true,
        }
    }
}

enum Source {
    Connection(TcpStream, Connection),
    Listener(Box<Listener>),
    Datagram(Box<DatagramSocket>),
    /// Readable: others have handed in work.
    Tasks(Box<TaskQueue>),
    /// The stop signal: readable means stop.
    #[expect(dead_code, reason = "it is only kept open")]
    StopSignal(Box<dyn sys::Source>),
}

/// How a reactor came to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// All conversations had ended in order.
    Graceful,
    /// The time for that was over, and this many were cut off.
    Forced(usize),
}

impl Reactor {
    /// A reactor without sockets.
    ///
    /// # Errors
    ///
    /// What the kernel says when it cannot make another poll: no descriptor or no memory.
    pub fn new(limits: Limits) -> io::Result<Reactor> {
        Ok(Reactor {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            slots: Slab::new(),
            shrink_threshold: 0,
            run_queue: Vec::with_capacity(EVENTS_PER_TURN + ACCEPTS_PER_TURN),
            batch: Vec::with_capacity(EVENTS_PER_TURN + ACCEPTS_PER_TURN),
            batch_cursor: 0,
            running: 0,
            deadlines: Deadlines::new(),
            notifications_left: 0,
            ended: Vec::with_capacity(EVENTS_PER_TURN),
            listeners: Vec::new(),
            next_eviction_at: Time::at(Duration::ZERO),
            scratch: Box::new([0; READ_BYTES_MAX]),
            state: LoopState::new(limits),
            effects: Effects::default(),
            drain_until: Time::NEVER,
            accepted_while_draining: 0,
            forced_closes: None,
            failed_connects: Vec::new(),
            datagram_clients: 0,
            handle: None,
            is_in_turn: false,
        })
    }

    /// Begins to stop. Who already stands at the door is let in, and then the listeners are closed; idle connections are
    /// closed as soon as they have nothing more to say; and conversations under way may finish, all of it within
    /// [`Limits::drain_timeout_ms`].
    pub fn stop(&mut self) {
        if self.state.stopping {
            return;
        }
        info!("stops: {} connections", self.state.stats.connections);
        self.state.stopping = true;
        for (token, slot) in &mut self.slots {
            slot.ready.readable = true; // nobody goes without having looked once more
            enqueue(&mut self.run_queue, token, slot);
        }
    }

    /// Takes turns until it is asked to stop and all has drained.
    ///
    /// # Errors
    ///
    /// Only if the poll itself fails (see epoll_wait(2)), which no peer can bring about.
    ///
    /// # Panics
    ///
    /// As [`turn`](Reactor::turn) does.
    pub fn run(&mut self) -> io::Result<Stopped> {
        debug!("may come to hold {} bytes for its connections", self.state.limits.bytes_max());
        loop {
            self.run_turn(Time::NEVER)?;
            if self.is_stopped() {
                return Ok(match self.forced_closes {
                    None | Some(0) => Stopped::Graceful,
                    Some(connections) => Stopped::Forced(connections),
                });
            }
        }
    }

    /// Takes one turn, which waits for something to do, but no longer than `at_most`, in whole milliseconds. For those who
    /// bring a loop of their own, and for benchmarks.
    ///
    /// # Errors
    ///
    /// As for [`run`](Reactor::run).
    ///
    /// # Panics
    ///
    /// If it is called from work that a [`Handle`] has brought, which itself is run in a turn.
    pub fn turn(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        self.read_clock();
        self.run_turn(at_most.map_or(Time::NEVER, |at_most| self.state.clock.now.plus(at_most)))
    }

    fn run_turn(&mut self, until: Time) -> io::Result<()> {
        assert!(!self.is_in_turn, "a turn is not taken within another");
        self.wait(until)?;
        self.is_in_turn = true;
        self.note();
        self.drive();
        self.expire();
        self.reap();
        self.is_in_turn = false;
        Ok(())
    }

    /// Whether it was asked to stop, and has.
    pub fn is_stopped(&self) -> bool {
        self.state.stopping && self.slots.is_empty() && self.failed_connects.is_empty()
    }

    /// What has been counted so far.
    pub fn stats(&self) -> &Stats {
        &self.state.stats
    }

    /// Between two turns some time may have passed: who brings a loop of his own may have been away for long.
    fn read_clock(&mut self) {
        if !self.is_in_turn {
            self.state.clock.read();
        }
    }

    // ---- wait: the one place where the program sleeps (invariant 1)

    fn wait(&mut self, until: Time) -> io::Result<()> {
        debug_assert!(
            self.every_ready_source_is_queued(),
            "at wait, every source that can progress is in the queue"
        );
        let timeout = if self.has_work() {
            Some(Duration::ZERO)
        } else {
            let due = self.next_deadline().min(until);
            (due != Time::NEVER).then(|| due.since(self.state.clock.now))
        };
        self.state.stats.turns += 1;
        let result = self.poll.poll(&mut self.events, timeout);
        self.state.clock.read();
        if self.state.stopping && self.drain_until == Time::NEVER && self.forced_closes.is_none() {
            self.drain_until = self.state.clock.now.plus_ms(self.state.limits.drain_timeout_ms);
        }
        trace!("wait {timeout:?} -> {result:?}, {} events", self.events.iter().count());
        match result {
            // A signal; whoever sent it has left word elsewhere.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            other => other?,
        }
        Ok(())
    }

    /// Is there something to do that nobody has to wait for?
    #[inline]
    fn has_work(&self) -> bool {
        !self.run_queue.is_empty()
            || self.effects.pending_notifications() > 0
            || !self.failed_connects.is_empty()
    }

    /// When there is, although nothing comes meanwhile.
    #[inline]
    fn next_deadline(&self) -> Time {
        self.deadlines.soonest().min(self.drain_until)
    }

    // ---- note: remember what the kernel told, before anything can change

    fn note(&mut self) {
        for event in &self.events {
            let token = event.token().0;
            // A closed descriptor has no events, unless the application has forked and so kept a copy of it open.
            let Some(slot) = self.slots.get_mut(token) else { continue };
            slot.ready.note(event);
            enqueue(&mut self.run_queue, token, slot);
        }
        if !self.has_work() && self.next_deadline() > self.state.clock.now {
            self.state.stats.empty_turns += 1;
        }
    }

    // ---- drive: let everyone work who can

    /// Serves who is in the queue, each once. Who is unfinished, and who is accepted meanwhile, waits for the next turn.
    /// Then tells the news that there is of others.
    fn drive(&mut self) {
        std::mem::swap(&mut self.run_queue, &mut self.batch);
        self.state.budget.share(self.batch.len(), self.state.stats.bytes_moved());
        self.effects.begin_stage();
        self.catch_panics(Reactor::drive_batch);
        self.batch.clear();
        self.batch_cursor = 0; // nobody is left who could be put off
        if self.effects.pending_notifications() > 0 {
            let untold = self.effects.pending_notifications();
            self.notifications_left =
                untold.min(NOTIFICATIONS_PER_TURN.max(untold / NOTIFICATIONS_PENDING_DIVISOR));
            self.effects.begin_stage(); // however much has been done before, some of it is told
            self.catch_panics(Reactor::deliver_notifications);
        }
    }

    fn drive_batch(&mut self) {
        while let Some(&token) = self.batch.get(self.batch_cursor) {
            if self.state.budget.is_spent(self.state.stats.bytes_moved()) {
                self.defer();
                break;
            }
            self.batch_cursor += 1;
            self.running = token;
            let slot = &mut self.slots[token];
            slot.state = SlotState::Waiting;
            let Source::Connection(stream, connection) = &mut slot.source else {
                self.drive_rare(token);
                continue;
            };
            let outcome = connection.drive(
                stream,
                &mut slot.ready,
                &mut self.scratch[..],
                &mut self.state,
                &mut self.effects,
            );
            // Activity has only put its deadline off since it was filed; an alarm may have brought it forward.
            let is_provided_for =
                slot.filed_deadline <= connection.timer() && slot.registered != Registered::Nothing;
            if outcome == Outcome::Idle
                && is_provided_for
                && !self.state.stopping
                && self.effects.is_empty()
            {
                continue; // as nearly always
            }
            self.finish_drive(token, outcome);
            self.apply_effects();
        }
    }

    /// Leaves who has not been driven yet for the next turn, in which it comes first.
    #[cold]
    fn defer(&mut self) {
        drop(self.run_queue.splice(..0, self.batch.drain(self.batch_cursor..)));
    }

    /// Drives a source that is no connection.
    #[inline(never)] // lest it take registers from what is done for each message
    fn drive_rare(&mut self, token: usize) {
        let slot = &mut self.slots[token];
        let outcome = match &mut slot.source {
            Source::Listener(_) => match self.accept_batch(token) {
                Outcome::Idle => return, // as mostly
                outcome @ (Outcome::Blocked | Outcome::Unfinished | Outcome::Ended(_)) => outcome,
            },
            Source::Datagram(socket) => {
                let outcome = socket.drive(&mut slot.ready, &mut self.state, &mut self.effects);
                outcome
            }
            Source::Tasks(_) => self.run_tasks(token),
            Source::StopSignal(_) => {
                self.stop();
                Outcome::Ended(CloseReason::Stopped)
            }
            Source::Connection(..) => unreachable!("connections are driven where this was called"),
        };
        self.finish_drive(token, outcome);
        self.apply_effects();
    }

    /// Runs what other threads have handed in, until there is no more or the budget is spent.
    fn run_tasks(&mut self, token: usize) -> Outcome {
        for _ in 0..TASKS_PER_TURN {
            let slot = &mut self.slots[token];
            let Source::Tasks(inbox) = &mut slot.source else { break };
            match inbox.next(self.state.stopping) {
                NextTask::Run(work) => {
                    self.state.stats.tasks_run += 1;
                    work(self);
                }
                NextTask::Empty => {
                    slot.ready = Readiness::NOT_READY; // whoever hands in more wakes us again
                    return Outcome::Blocked;
                }
                NextTask::Stop => {
                    self.stop();
                    return Outcome::Ended(CloseReason::Stopped);
                }
            }
        }
        Outcome::Unfinished
    }

    // ---- expire: look at who may be late

    fn expire(&mut self) {
        if self.state.clock.now >= self.drain_until {
            self.force_close_all();
        }
        if self.deadlines.soonest() <= self.state.clock.now {
            self.effects.begin_stage();
            self.catch_panics(Reactor::expire_batch);
        }
    }

    fn expire_batch(&mut self) {
        for _ in 0..EXPIRIES_PER_TURN {
            if self.effects.is_spent() {
                break; // the others are due in the next turn
            }
            let Some(token) = self.deadlines.take_due(self.state.clock.now) else { break };
            self.state.stats.deadlines_expired += 1;
            self.running = token;
            let slot = &mut self.slots[token];
            slot.filed_deadline = Time::NEVER;
            if slot.state == SlotState::Ended {
                continue; // in this very turn
            }
            let outcome = match &mut slot.source {
                Source::Connection(stream, connection) => connection.expire(
                    stream,
                    &mut slot.ready,
                    &mut self.scratch[..],
                    &mut self.state,
                    &mut self.effects,
                ),
                Source::Listener(listener) => listener.expire(&self.state),
                Source::Datagram(socket) => {
                    let outcome =
                        socket.expire(&mut slot.ready, &mut self.state, &mut self.effects);
                    outcome
                }
                Source::Tasks(_) | Source::StopSignal(_) => Outcome::Blocked,
            };
            self.finish_drive(token, outcome);
            self.apply_effects();
        }
    }

    // ---- a panic in a protocol ends its own connection

    /// Runs `stage`, and again from where it was, as often as a protocol panics in it. So to expect the worst costs nothing
    /// but this call; it is not done for each connection.
    #[inline]
    fn catch_panics(&mut self, stage: fn(&mut Reactor)) {
        while let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| stage(self))) {
            self.on_panic(payload);
        }
    }

    /// Ends whose protocol has panicked. What it shares with others is the application's own concern: it may be left halfway.
    #[cold]
    fn on_panic(&mut self, payload: Box<dyn Any + Send>) {
        self.state.stats.panics += 1;
        self.state.clear_output();
        let slot = &mut self.slots[self.running];
        match &slot.source {
            Source::Connection(_, connection) => {
                error!("{} {}: its protocol panicked", connection.id(), connection.peer());
                mark_ended(
                    &mut self.ended,
                    &mut self.run_queue,
                    self.running,
                    slot,
                    CloseReason::ProtocolPanicked,
                );
            }
            Source::Listener(listener) => {
                error!("{}: a protocol panicked before it had a connection", listener.address);
                self.state.stats.accepts_failed += 1;
            }
            Source::Tasks(_) => {
                error!("work from another thread panicked");
                enqueue(&mut self.run_queue, self.running, slot); // there may be more
            }
            // What a datagram protocol does is caught where it is called. This is a mistake of ours.
            Source::Datagram(_) | Source::StopSignal(_) => panic::resume_unwind(payload),
        }
        self.apply_effects(); // what it had asked for
        // If it was a newcomer's or a listener's, one of these was not done.
        for &token in &self.listeners {
            enqueue(&mut self.run_queue, token, &mut self.slots[token]);
        }
    }

    // ---- reap: free who has ended, last

    fn reap(&mut self) {
        if !self.failed_connects.is_empty() {
            self.report_failed_connects();
        }
        if self.ended.is_empty() {
            return;
        }
        for (token, why) in self.ended.drain(..) {
            let slot = &mut self.slots[token];
            if slot.filed_deadline != Time::NEVER {
                self.deadlines.refile(token, slot.filed_deadline, Time::NEVER);
            }
            match &mut slot.source {
                Source::Connection(stream, connection) => {
                    self.state.stats.connections -= 1;
                    self.state.stats.closed += 1;
                    self.state.stats.closed_finished += u64::from(why == CloseReason::Finished);
                    debug!("{} {} closed: {why}", connection.id(), connection.peer());
                    if matches!(
                        why,
                        CloseReason::Aborted
                            | CloseReason::WriteTimeout
                            | CloseReason::OutputOverflow
                            | CloseReason::ProtocolPanicked
                    ) {
                        sys::reset_on_close(stream);
                    }
                    trace!("{} close", connection.id());
                    let id = connection.id();
                    call_closed(&mut self.state.stats, &id, || connection.call_closed(why));
                    self.effects.on_closed(connection.id(), why, &mut self.state.stats);
                }
                Source::Listener(listener) => {
                    listener.end_overload(&self.state);
                    info!("stops listening on {}", listener.address);
                    self.listeners.retain(|&other| other != token);
                }
                Source::Datagram(socket) => {
                    socket.log_closed(why);
                    self.datagram_clients -= usize::from(socket.peer().is_some());
                    let address = socket.address;
                    call_closed(&mut self.state.stats, &address, || socket.call_closed(why));
                    self.state.datagram_addresses.retain(|&other| other != socket.address);
                }
                Source::Tasks(_) | Source::StopSignal(_) => {}
            }
            let slot = self.slots.remove(token);
            call_closed(&mut self.state.stats, &"who is dropped", || drop(slot));
        }
        self.shrink();
        // There is room again, mostly for one. So they take turns.
        if self.listeners.len() > 1 {
            self.listeners.rotate_left(1);
        }
        for &token in &self.listeners {
            let slot = &mut self.slots[token];
            if matches!(&slot.source, Source::Listener(listener) if listener.is_paused()) {
                enqueue(&mut self.run_queue, token, slot);
            }
        }
    }

    /// Gives the slots of a crowd back when most of it has left. To try takes time that grows with the crowd, and is in vain while
    /// somebody has one of the last slots: so it is tried again only when as many more have left.
    fn shrink(&mut self) {
        if self.slots.len() < self.shrink_threshold {
            self.slots.shrink_to_fit();
            self.shrink_threshold = self.slots.len() / 2;
        }
    }

    // ---- what the stages share

    /// Goes on with a source as it asks for after it was driven.
    #[inline]
    fn finish_drive(&mut self, token: usize, outcome: Outcome) {
        match outcome {
            Outcome::Ended(why) => {
                mark_ended(
                    &mut self.ended,
                    &mut self.run_queue,
                    token,
                    &mut self.slots[token],
                    why,
                );
            }
            Outcome::Blocked | Outcome::Idle => self.rearm(token, false),
            Outcome::Unfinished => self.rearm(token, true),
        }
    }

    /// Leaves a source with what it needs to be looked at again; at a stop, if it has done its part, it ends.
    fn rearm(&mut self, token: usize, can_go_on: bool) {
        let slot = &mut self.slots[token];
        let would_never_stop = matches!(slot.source, Source::Datagram(_)); // in a flood
        // Who is in the queue, or has been put off, may have been told of something that it has not looked at yet.
        let is_waiting = slot.state == SlotState::Waiting;
        if self.state.stopping
            && is_waiting
            && (!can_go_on || would_never_stop)
            && slot.can_stop(self.state.clock.now)
        {
            match &mut slot.source {
                Source::Connection(_, connection) => {
                    connection.close_idle();
                    enqueue(&mut self.run_queue, token, slot);
                }
                Source::Listener(_)
                | Source::Datagram(_)
                | Source::Tasks(_)
                | Source::StopSignal(_) => {
                    mark_ended(
                        &mut self.ended,
                        &mut self.run_queue,
                        token,
                        slot,
                        CloseReason::Stopped,
                    );
                }
            }
            return;
        }
        let (wanted, due) = slot.interest_and_deadline(&self.state);
        let due = due.max(self.state.clock.now.plus_ms(1)); // who is looked at in this turn is not looked at again in it
        if due < slot.filed_deadline {
            self.deadlines.refile(token, slot.filed_deadline, due);
            slot.filed_deadline = due;
        }
        if can_go_on {
            enqueue(&mut self.run_queue, token, slot);
        } else if wanted > slot.registered
            || (wanted < slot.registered && matches!(slot.source, Source::Datagram(_)))
        {
            self.register(token, wanted);
        }
    }

    /// Asks the kernel to tell of the source: once when it first has to wait, and once more if it ever has to wait for
    /// its peer to read. (A datagram socket goes back to reading then: it would be told of every reply that has left.)
    fn register(&mut self, token: usize, wanted: Registered) {
        let slot = &mut self.slots[token];
        let source: &mut dyn sys::Source = match &mut slot.source {
            Source::Connection(stream, _) => stream,
            Source::Datagram(socket) => &mut socket.socket,
            Source::Listener(_) | Source::Tasks(_) | Source::StopSignal(_) => return,
        };
        let interest = if wanted == Registered::Reading {
            sys::reading()
        } else {
            sys::reading() | Interest::WRITABLE
        };
        let registry = self.poll.registry();
        let result = match slot.registered {
            Registered::Nothing => registry.register(source, Token(token), interest),
            Registered::Reading | Registered::ReadingAndWriting => {
                registry.reregister(source, Token(token), interest)
            }
        };
        trace!("watch {token} {interest:?} -> {result:?}");
        match result {
            Ok(()) => slot.registered = wanted,
            // No memory, or the user's share of watches is used up: whoever cannot be watched cannot be served.
            Err(error) => {
                debug!("watch: {error}");
                self.state.stats.accepts_failed +=
                    u64::from(slot.registered == Registered::Nothing);
                mark_ended(
                    &mut self.ended,
                    &mut self.run_queue,
                    token,
                    slot,
                    CloseReason::Io(error.kind()),
                );
            }
        }
    }

    fn insert(&mut self, source: Source, watched: Registered) -> usize {
        let quarter = self.slots.len() / 4;
        if quarter > self.shrink_threshold && quarter >= SHRINK_FLOOR_SLOTS {
            self.shrink_threshold = quarter;
        }
        let slot = Slot {
            source,
            ready: Readiness::NOT_READY,
            registered: watched,
            filed_deadline: Time::NEVER,
            state: SlotState::Waiting,
        };
        let token = self.slots.insert(slot);
        if self.state.stopping {
            let slot = &mut self.slots[token];
            slot.ready.readable = true; // as `stop` has done with all others
            enqueue(&mut self.run_queue, token, slot);
        }
        token
    }

    /// Ends all that is left.
    fn force_close_all(&mut self) {
        let ended_before = self.ended.len();
        for token in self.run_queue.drain(..) {
            self.slots[token].state = SlotState::Waiting;
        }
        for (token, slot) in &mut self.slots {
            mark_ended(&mut self.ended, &mut self.run_queue, token, slot, CloseReason::Stopped);
        }
        // Who only lingers has been sent all, and our FIN.
        let is_cut_off = |&&(token, _): &&(usize, CloseReason)| match &self.slots[token].source {
            Source::Connection(_, connection) => !connection.is_lingering(),
            Source::Listener(_)
            | Source::Datagram(_)
            | Source::Tasks(_)
            | Source::StopSignal(_) => false,
        };
        self.forced_closes = Some(self.ended[ended_before..].iter().filter(is_cut_off).count());
        self.drain_until = Time::NEVER;
    }

    /// Invariant 2.
    fn every_ready_source_is_queued(&self) -> bool {
        self.slots.iter().all(|(_, slot)| {
            let can_progress = match &slot.source {
                Source::Connection(_, connection) => connection.can_progress(&slot.ready),
                Source::Datagram(socket) => socket.can_progress(&slot.ready),
                Source::Listener(listener) => slot.ready.readable && !listener.is_paused(),
                Source::Tasks(_) | Source::StopSignal(_) => slot.ready.readable,
            };
            slot.state != SlotState::Waiting || !can_progress
        })
    }
}

/// Tells a protocol of its end, of which it may make one of its own.
fn call_closed(stats: &mut Stats, who: &dyn Display, tell: impl FnOnce()) {
    if panic::catch_unwind(AssertUnwindSafe(tell)).is_err() {
        stats.panics += 1;
        error!("{who}: a protocol panicked at its end");
    }
}

#[inline]
fn enqueue(queue: &mut Vec<usize>, token: usize, slot: &mut Slot) {
    if slot.state == SlotState::Waiting {
        slot.state = SlotState::Queued;
        queue.push(token);
    }
}

/// Marks the slot as over; it is freed in `reap`.
#[inline]
fn mark_ended(
    ended: &mut Vec<(usize, CloseReason)>,
    queue: &mut Vec<usize>,
    token: usize,
    slot: &mut Slot,
    why: CloseReason,
) {
    match slot.state {
        SlotState::Ended => return,
        // Linear, and rare: it had more to do when its time was up, or when all were asked to stop.
        SlotState::Queued => queue.retain(|&queued| queued != token),
        SlotState::Waiting => {}
    }
    slot.state = SlotState::Ended;
    ended.push((token, why));
}

#[cfg(test)]
mod tests;
