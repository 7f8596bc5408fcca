//! The slab's entries: how a slot is queued, armed, registered and marked as ended.
//!
//! Invariant: a slot is in the run queue at most once, and only while its state is `Queued`.
//! Nothing here frees a slot: `reap` does (invariant 4).

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::Duration;

use log::debug;

use super::Reactor;
use super::run_queue::RunQueue;
use super::sources::{Ended, Source};
use crate::limits::CONNECTION_COST_BYTES;
use crate::loop_state::LoopState;
use crate::overload_limits::{FAST_READER_MS, UNSENT_BYTES_MAX};
use crate::protocol::ident::CloseReason;
use crate::protocol::outcome::Outcome;
use crate::stats::Stats;
use crate::stream::connection::Connection;
use crate::stream::readiness::{Readiness, Registered};
use crate::sys::{self, Event, Interest, TcpStream, Token};
use crate::trace::{self, Line, Place, Returned, Stage};

/// A slot: 64 bytes, one cache line, with the stream of a connection beside the small fields.
pub(super) struct Slot {
    pub(super) source: Source,
    /// The socket, if the source is a connection. In `source` it would have four bytes of padding.
    pub(super) stream: Option<TcpStream>,
    pub(super) ready: Readiness,
    pub(super) registered: Registered,
    pub(super) state: SlotState,
}

// In debug builds, a socket of mio's is larger.
#[cfg(all(not(any(test, debug_assertions)), target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(size_of::<Slot>() == 64, "one cache line");

/// What the loop may do with a slot in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotState {
    /// It waits for an event, or for its deadline.
    Waiting,
    /// It is in the run queue, once.
    Queued,
    /// Its effects are not all applied (`src/reactor/deferred.rs`). Until then it is not driven.
    Held,
    /// It has ended, and `reap` will free it. Nothing else is done with it.
    Ended,
}

/// Stores what `event` reports, and queues the slot. One whose output has waited for room in the
/// kernel is a bulk transfer.
pub(super) fn note_event(
    run_queue: &mut RunQueue,
    token: usize,
    slot: &mut Slot,
    event: &Event,
    state: &LoopState,
) {
    let had_no_room = slot.registered == Registered::ReadingAndWriting && !slot.ready.writable();
    slot.ready.note(event);
    // mio's poll(2) selector forgets a socket whose error it has reported, until it is registered
    // anew. A stream ends with its error. A datagram socket lives on.
    if sys::rearms_only_on_would_block()
        && event.is_error()
        && matches!(slot.source, Source::Datagram(_))
    {
        slot.registered = Registered::Nothing;
    }
    if had_no_room && is_sending(slot) {
        if slot.ready.writable() {
            bound_kernel_buffer(token, slot, state);
        }
        enqueue_bulk(run_queue, token, slot);
    } else {
        enqueue(run_queue, token, slot);
    }
}

/// Returns whether output waits on an established connection.
#[cold]
fn is_sending(slot: &Slot) -> bool {
    matches!(&slot.source, Source::Connection(connection)
        if connection.wants_write() && !connection.is_connecting())
}

/// Lets the kernel take more for a peer that has made room soon, and less for one that has not.
#[cold]
fn bound_kernel_buffer(token: usize, slot: &Slot, state: &LoopState) {
    if let (Source::Connection(connection), Some(stream)) = (&slot.source, &slot.stream)
        && let Some(since) = connection.output_waits_since()
    {
        let is_bounded = since.plus_ms(FAST_READER_MS) <= state.clock.now;
        sys::bound_unsent(stream, is_bounded);
        if cfg!(target_os = "linux") {
            let bytes = if is_bounded { UNSENT_BYTES_MAX } else { 0 };
            trace::log(state, token, || Line::BoundUnsent { bytes });
        }
    }
}

/// Puts a slot into the run queue, unless it is there, is held or has ended.
pub(super) fn enqueue(run_queue: &mut RunQueue, token: usize, slot: &mut Slot) {
    enqueue_by(RunQueue::push, run_queue, token, slot);
}

/// The same for a bulk transfer.
pub(super) fn enqueue_bulk(run_queue: &mut RunQueue, token: usize, slot: &mut Slot) {
    enqueue_by(RunQueue::push_bulk, run_queue, token, slot);
}

fn enqueue_by(
    push: impl FnOnce(&mut RunQueue, usize),
    run_queue: &mut RunQueue,
    token: usize,
    slot: &mut Slot,
) {
    if slot.state == SlotState::Waiting {
        slot.state = SlotState::Queued;
        push(run_queue, token);
    }
}

/// Marks the slot as ended. It is freed in `reap`.
pub(super) fn mark_ended(
    ended: &mut VecDeque<(Ended, CloseReason)>,
    run_queue: &mut RunQueue,
    token: usize,
    slot: &mut Slot,
    why: CloseReason,
) {
    match slot.state {
        SlotState::Ended => return,
        // Its deadline was due, or a stop ended it, while it was unfinished.
        SlotState::Queued => run_queue.remove(token),
        SlotState::Waiting | SlotState::Held => {}
    }
    slot.state = SlotState::Ended;
    ended.push_back((Ended::Slot(token), why));
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").field("stats", &self.state.stats).finish_non_exhaustive()
    }
}

impl Reactor {
    /// Returns the counters.
    pub fn stats(&self) -> &Stats {
        &self.state.stats
    }

    /// Registers `source` for the slot that is inserted next.
    pub(super) fn register_next(
        &self,
        source: &mut (impl sys::Source + ?Sized),
        interest: Interest,
    ) -> io::Result<()> {
        let token = self.slots.vacant_key();
        let result = self.poll.registry().register(source, Token(token), interest);
        trace::log(&self.state, token, || Line::Register {
            before: Registered::Nothing,
            interest: match interest.is_writable() {
                true => Registered::ReadingAndWriting,
                false => Registered::Reading,
            },
            returned: Returned(result.as_ref().map(|()| 0)),
        });
        result
    }

    /// Puts a source that is no connection into a slot.
    pub(super) fn insert(&mut self, source: Source, registered: Registered) -> usize {
        let (stream, ready) = (None, Readiness::NOT_READY);
        trace::log(&self.state, self.slots.vacant_key(), || Line::Source { source: &source });
        self.insert_slot(Slot { source, stream, ready, registered, state: SlotState::Waiting })
    }

    /// Puts a connection with its socket into a slot.
    #[inline(always)]
    pub(super) fn insert_connection(
        &mut self,
        stream: TcpStream,
        connection: Connection,
        registered: Registered,
    ) -> usize {
        let ready = Readiness::of_stream(self.state.peers.get(connection.peer()));
        let (source, stream) = (Source::Connection(connection), Some(stream));
        self.insert_slot(Slot { source, stream, ready, registered, state: SlotState::Waiting })
    }

    #[inline(always)]
    fn insert_slot(&mut self, slot: Slot) -> usize {
        let token = self.slots.insert(slot);
        if self.state.stop.is_stopping() {
            let slot = &mut self.slots[token];
            slot.ready.set_readable(true); // as `stop` has set on all others
            enqueue(&mut self.run_queue, token, slot);
        }
        token
    }

    /// Acts on the outcome of a drive, after which a connection may hold more or less memory.
    pub(super) fn finish_drive(&mut self, token: usize, outcome: Outcome) {
        match outcome {
            Outcome::Ended(why) => {
                trace::log(&self.state, token, || Line::Ended { why });
                self.state.budget.charge(CONNECTION_COST_BYTES);
                let slot = &mut self.slots[token];
                mark_ended(&mut self.ended, &mut self.run_queue, token, slot, why);
            }
            Outcome::Blocked | Outcome::Idle => {
                self.rearm(token, false);
                self.meter(token);
            }
            Outcome::Unfinished => {
                trace::log(&self.state, token, || Line::Unfinished);
                self.rearm(token, true);
                self.meter(token);
            }
        }
        self.apply_effects();
    }

    /// Makes sure that a source is looked at again: it is queued if it is unfinished, registered
    /// for events otherwise, and its deadline is filed. During a stop, a source that has finished
    /// ends instead.
    pub(super) fn rearm(&mut self, token: usize, is_unfinished: bool) {
        let now = self.state.clock.now;
        let slot = &mut self.slots[token];
        let may_stop = self.state.stop.has_queued(token)
            && match &slot.source {
                Source::Datagram(socket) => {
                    !is_unfinished || socket.may_stop_unfinished(&slot.ready)
                }
                // Whatever has asked to be told of the stop is told before it is closed.
                Source::Connection(connection) => {
                    !is_unfinished && !self.effects.expects_stop_notice(connection.id())
                }
                Source::Listener(_)
                | Source::Tasks(_)
                | Source::Periodic(_)
                | Source::StopSignal(_) => !is_unfinished,
            };
        // A slot that is queued, or was deferred, may have readiness that it has not acted on yet.
        let is_waiting = slot.state == SlotState::Waiting;
        if may_stop && is_waiting && slot.source.can_stop(now) {
            match &mut slot.source {
                Source::Connection(connection) => {
                    connection.close_idle();
                    enqueue(&mut self.run_queue, token, slot);
                }
                Source::Listener(_)
                | Source::Datagram(_)
                | Source::Tasks(_)
                | Source::Periodic(_)
                | Source::StopSignal(_) => {
                    let why = CloseReason::Stopped;
                    mark_ended(&mut self.ended, &mut self.run_queue, token, slot, why);
                }
            }
            return;
        }
        let (interest, due) = slot.source.interest_and_deadline(&self.state);
        self.deadlines.file(token, due.max(now.plus_ms(1))); // not again in this turn
        let is_datagram = matches!(slot.source, Source::Datagram(_));
        if is_unfinished && matches!(slot.source, Source::Connection(..)) {
            enqueue_bulk(&mut self.run_queue, token, slot);
        } else if is_unfinished {
            enqueue(&mut self.run_queue, token, slot);
        } else if sys::rearms_only_on_would_block() && slot.source.is_connecting() {
            // A connect that was not decided when its event came has not met `WouldBlock`.
            self.register(token, Registered::ReadingAndWriting);
        } else if interest > slot.registered || (interest < slot.registered && is_datagram) {
            self.register(token, interest);
        }
    }

    /// Registers the source with the poller: for reading when it first blocks, and also for writing
    /// from its first blocked write on. (A datagram socket goes back to reading only: otherwise
    /// each reply that leaves would cause an event.)
    fn register(&mut self, token: usize, registered: Registered) {
        let slot = &mut self.slots[token];
        let source: &mut dyn sys::Source = match (&mut slot.stream, &mut slot.source) {
            (Some(stream), _) => stream,
            (None, Source::Datagram(socket)) => &mut socket.transport.socket,
            (
                None,
                Source::Connection(_)
                | Source::Listener(_)
                | Source::Tasks(_)
                | Source::Periodic(_)
                | Source::StopSignal(_),
            ) => return,
        };
        let interest = match registered {
            Registered::Nothing | Registered::Reading => sys::read_interest(),
            Registered::ReadingAndWriting => sys::read_interest() | Interest::WRITABLE,
        };
        let registry = self.poll.registry();
        let result = match slot.registered {
            // Anew, because the selector may have forgotten it (`Slot::note`).
            _ if sys::rearms_only_on_would_block() => {
                let _ = registry.deregister(source); // fails if it has
                registry.register(source, Token(token), interest)
            }
            Registered::Nothing => registry.register(source, Token(token), interest),
            Registered::Reading | Registered::ReadingAndWriting => {
                registry.reregister(source, Token(token), interest)
            }
        };
        trace::log(&self.state, token, || Line::Register {
            before: slot.registered,
            interest: registered,
            returned: Returned(result.as_ref().map(|()| 0)),
        });
        match result {
            Ok(()) => slot.registered = registered,
            // No memory, or the user's limit of watches is reached (epoll_ctl(2), ENOSPC). A source
            // without events cannot be served.
            Err(error) => {
                debug!("register {token}: {error}");
                let is_new = slot.registered == Registered::Nothing;
                self.state.stats.accepts_failed += u64::from(is_new);
                let why = CloseReason::Io(error.kind());
                mark_ended(&mut self.ended, &mut self.run_queue, token, slot, why);
            }
        }
    }

    /// Writes what the poll has returned, and what is noted next, if the trace log is on.
    #[inline(always)]
    pub(super) fn trace_wait(&self, timeout: Option<Duration>, result: &io::Result<()>) {
        if trace::is_on() {
            self.write_wait(timeout, result);
        }
    }

    #[cold]
    #[inline(never)] // else it takes registers from the path of each turn
    fn write_wait(&self, timeout: Option<Duration>, result: &io::Result<()>) {
        let count = self.events.iter().count();
        let returned = Returned(result.as_ref().map(|()| count));
        trace::write_wait(&self.state, &Line::Wait { timeout, returned });
        for event in self.events.iter().take_while(|_| result.is_ok()) {
            let token = event.token().0;
            let Some(slot) = self.slots.get(token) else { continue };
            let queue = match slot.state {
                SlotState::Waiting => "queued",
                SlotState::Queued => "queued already",
                SlotState::Held => "held",
                SlotState::Ended => "ended",
            };
            let place = Place::new(&self.state, token).in_stage(Stage::Note);
            place.write(&Line::Event { event, queue });
        }
    }

    /// Returns whether each source that can progress is in the run queue (invariant 2).
    pub(super) fn every_ready_source_is_queued(&self) -> bool {
        self.slots.iter().all(|(_, slot)| {
            slot.state != SlotState::Waiting || !slot.source.can_progress(&slot.ready)
        })
    }
}
