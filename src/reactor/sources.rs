//! What each kind of source does when it is driven, when its deadline is due, and when it ends.
//!
//! Every kind has its arm in each `match`: connections, listeners, datagram sockets, tasks and the
//! stop signal. Connections, the frequent ones, are driven in `src/reactor.rs` itself.

use std::fmt;

use log::{LevelFilter, debug, error, info, warn};

use super::panics::{call_closed, close_and_drop, drop_tasks};
use super::slots::SlotState;
use super::tasks::TaskQueue;
use super::tasks::periodic::Periodic;
use super::{Reactor, Slot};
use crate::caught::{catch, catch_drop};
use crate::datagram::scratch::Unfinished;
use crate::datagram::socket::DatagramSocket;
use crate::loop_state::LoopState;
use crate::peers::KeptPeer;
use crate::protocol::datagram::DatagramProtocol;
use crate::protocol::ident::{CloseReason, ConnectionId, WithLimit};
use crate::protocol::notification::Content;
use crate::protocol::outcome::Outcome;
use crate::protocol::protocol::Protocol;
use crate::stream::connection::Connection;
use crate::stream::listener::Listener;
use crate::stream::maybe_traced::MaybeTraced;
use crate::stream::readiness::{Readiness, Registered};
use crate::sys;
use crate::time::Time;
use crate::trace::{self, Line};

/// Why a datagram socket that is driven has a scratch.
const SCRATCH_IS_MADE: &str = "the scratch is made with the first datagram socket";

/// Why the slot of a connection has a stream.
const STREAM_IS_BESIDE: &str = "a connection comes into its slot with its stream";

/// What a slot holds.
pub(super) enum Source {
    /// Its socket is in the slot.
    Connection(Connection),
    Listener(Box<Listener>),
    Datagram(Box<DatagramSocket>),
    /// Readable: other threads have submitted tasks.
    Tasks(Box<TaskQueue>),
    /// Readable: a call is due.
    Periodic(Box<Periodic>),
    /// The stop signal (the self-pipe trick). Readable: stop.
    #[cfg_attr(not(unix), allow(dead_code, reason = "it exists on Unix only"))]
    StopSignal(Box<StopSignal>),
}

/// What stops the reactor when it is readable.
pub(super) struct StopSignal {
    /// It is only kept open.
    pub(super) _source: Box<dyn sys::Source>,
    /// Called once, before the stop.
    pub(super) on_signal: Option<Box<dyn FnOnce()>>,
}

/// What `reap` frees.
pub(super) enum Ended {
    /// The source in this slot.
    Slot(usize),
    /// The protocol of a connect that failed at once, before it had a slot.
    Stream(Box<dyn Protocol>),
    Datagram(Box<dyn DatagramProtocol>),
}

/// What it is, for the trace log.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Connection(connection) => write!(f, "the connection {}", connection.id()),
            Source::Listener(listener) => write!(f, "the listener {}", listener.address),
            Source::Datagram(socket) => write!(f, "the datagram socket {}", socket.address),
            Source::Tasks(_) => f.write_str("the task queue"),
            Source::Periodic(_) => f.write_str("a periodic task"),
            Source::StopSignal(_) => f.write_str("the stop signal"),
        }
    }
}

impl Source {
    /// Returns which events it needs from the kernel, and its deadline.
    pub(super) fn interest_and_deadline(&self, state: &LoopState) -> (Registered, Time) {
        let now = state.clock.now;
        match self {
            Source::Connection(connection) => {
                let mut due = connection.filing_time(&state.loop_limits, now);
                if state.stop.is_stopping() {
                    due = due.min(connection.idle_at().unwrap_or(Time::NEVER));
                }
                (connection.interest(), due)
            }
            Source::Datagram(socket) if socket.unfinished().replies => {
                (Registered::ReadingAndWriting, socket.deadline())
            }
            Source::Datagram(socket) => (Registered::Reading, socket.deadline()),
            Source::Listener(listener) => (Registered::Reading, listener.deadline()),
            Source::Periodic(periodic) => (Registered::Reading, periodic.due()),
            Source::Tasks(_) | Source::StopSignal(_) => (Registered::Reading, Time::NEVER),
        }
    }

    /// Returns the id by which messages reach its protocol, if it has one.
    pub(super) fn id(&self) -> Option<ConnectionId> {
        match self {
            Source::Connection(connection) => Some(connection.id()),
            Source::Datagram(socket) => Some(socket.id()),
            Source::Listener(_)
            | Source::Tasks(_)
            | Source::Periodic(_)
            | Source::StopSignal(_) => None,
        }
    }

    /// Returns whether it could do something now, without a further event.
    pub(super) fn can_progress(&self, ready: &Readiness) -> bool {
        match self {
            Source::Connection(connection) => connection.can_progress(ready),
            Source::Datagram(socket) => socket.can_progress(ready),
            Source::Listener(listener) => ready.readable() && !listener.is_paused(),
            Source::Tasks(_) | Source::Periodic(_) | Source::StopSignal(_) => ready.readable(),
        }
    }

    /// Calls its protocol for the last time, if it has one.
    pub(super) fn call_closed(&mut self, why: CloseReason) {
        match self {
            Source::Connection(connection) => connection.call_closed(why),
            Source::Datagram(socket) => socket.call_closed(why),
            Source::Listener(_)
            | Source::Tasks(_)
            | Source::Periodic(_)
            | Source::StopSignal(_) => {}
        }
    }

    /// Returns whether it is a connection whose connect is in progress.
    pub(super) fn is_connecting(&self) -> bool {
        matches!(self, Source::Connection(connection) if connection.is_connecting())
    }

    /// During a stop: returns whether it has finished what had begun.
    pub(super) fn can_stop(&self, now: Time) -> bool {
        match self {
            Source::Connection(connection) => {
                connection.idle_at().is_some_and(|idle_at| idle_at <= now)
            }
            Source::Listener(listener) => listener.is_closed(),
            Source::Datagram(socket) => socket.unfinished() == Unfinished::NOTHING,
            Source::Tasks(_) => false, // it ends by itself once it is empty
            Source::Periodic(_) | Source::StopSignal(_) => true,
        }
    }
}

impl Reactor {
    /// Drives a source that is not a connection.
    #[inline(never)] // else it takes registers from the path of each message
    pub(super) fn drive_other_source(&mut self, token: usize) {
        let slot = &mut self.slots[token];
        let outcome = match &mut slot.source {
            Source::Listener(_) => match self.accept_batch(token) {
                Outcome::Idle => return, // nearly always
                outcome @ (Outcome::Blocked | Outcome::Unfinished | Outcome::Ended(_)) => outcome,
            },
            Source::Datagram(socket) => {
                let scratch = self.datagram_scratch.as_mut().expect(SCRATCH_IS_MADE);
                socket.drive(&mut slot.ready, scratch, &mut self.state, &mut self.effects)
            }
            Source::Tasks(_) => match self.run_tasks(token) {
                Outcome::Idle => return, // `self` is another reactor now
                outcome @ (Outcome::Blocked | Outcome::Unfinished | Outcome::Ended(_)) => outcome,
            },
            Source::Periodic(_) => match self.run_periodic(token) {
                Outcome::Idle => return, // as above
                outcome @ (Outcome::Blocked | Outcome::Unfinished | Outcome::Ended(_)) => outcome,
            },
            Source::StopSignal(_) if self.state.stop.is_stopping() => {
                Outcome::Ended(CloseReason::Stopped)
            }
            Source::StopSignal(_) if !slot.ready.readable() => Outcome::Blocked,
            Source::StopSignal(signal) => {
                if let Some(on_signal) = signal.on_signal.take()
                    && catch(on_signal).is_err()
                {
                    self.state.stats.panics += 1;
                    error!("what a stop signal calls has panicked");
                }
                self.stop();
                Outcome::Ended(CloseReason::Stopped)
            }
            Source::Connection(..) => unreachable!("drive_batch drives connections itself"),
        };
        self.finish_drive(token, outcome);
    }

    /// Drives a connection as `drive_batch` does, and writes its system calls to the trace log.
    #[cold]
    #[inline(never)] // else it takes registers from the path of each message
    pub(super) fn drive_traced(&mut self, token: usize) {
        let Slot { source, stream, ready, .. } = &mut self.slots[token];
        let (Some(stream), Source::Connection(connection)) = (stream, source) else { return };
        let transport = MaybeTraced::new(stream, token, &self.state);
        let (state, effects) = (&mut self.state, &mut self.effects);
        let outcome = connection.drive(&transport, ready, &mut self.scratch[..], state, effects);
        self.finish_drive(token, outcome);
    }

    /// Calls the protocol of a datagram socket with a message.
    pub(super) fn deliver_to_datagram(&mut self, token: usize, content: Content) {
        let Slot { source, ready, .. } = &mut self.slots[token];
        let (Source::Datagram(socket), Content::Message(message)) = (source, content) else {
            return; // it sends without its id, and so is notified of nothing
        };
        let scratch = self.datagram_scratch.as_mut().expect(SCRATCH_IS_MADE);
        let outcome = socket.deliver(message, ready, scratch, &mut self.state, &mut self.effects);
        self.finish_drive(token, outcome);
    }

    /// Looks at a slot whose filed deadline is due: if its own is, too, its source acts on it.
    /// Otherwise that is filed again, since the one that was due is a neighbour's, or was too
    /// early.
    pub(super) fn look_at(&mut self, token: usize) {
        let Some(slot) = self.slots.get(token) else { return };
        let (_, due) = slot.source.interest_and_deadline(&self.state);
        if slot.state == SlotState::Ended || due == Time::NEVER {
            return;
        }
        self.state.stats.deadlines_expired += 1;
        let now = self.state.clock.now;
        let is_due = due <= now;
        trace::log(&self.state, token, || match is_due {
            true => Line::Due,
            false => Line::NotDue { left: due.since(now) },
        });
        if !is_due {
            return self.deadlines.file(token, due);
        }
        self.running = token;
        let outcome = self.expire_source(token);
        self.finish_drive(token, outcome);
    }

    /// Lets a source act on its deadline, which is due.
    fn expire_source(&mut self, token: usize) -> Outcome {
        let Slot { source, stream, ready, state: slot_state, .. } = &mut self.slots[token];
        if *slot_state == SlotState::Held {
            return Outcome::Blocked; // looked at again in the next turn
        }
        let (state, effects) = (&mut self.state, &mut self.effects);
        match source {
            Source::Connection(connection) => {
                let stream = stream.as_ref().expect(STREAM_IS_BESIDE);
                let transport = MaybeTraced::new(stream, token, state);
                connection.expire(&transport, ready, &mut self.scratch[..], state, effects)
            }
            Source::Listener(listener) => listener.expire(state.clock.now),
            Source::Datagram(socket) => {
                let scratch = self.datagram_scratch.as_mut().expect(SCRATCH_IS_MADE);
                socket.expire(ready, scratch, state, effects)
            }
            Source::Periodic(periodic) => match periodic.take_due(state.clock.now) {
                true => {
                    ready.set_readable(true);
                    Outcome::Unfinished // it is driven in the next turn
                }
                false => Outcome::Blocked,
            },
            Source::Tasks(_) | Source::StopSignal(_) => Outcome::Blocked,
        }
    }

    /// Calls the protocol of what has ended for the last time, and frees it.
    pub(super) fn free(&mut self, ended: Ended, why: CloseReason) {
        let stats = &mut self.state.stats;
        match ended {
            Ended::Slot(token) => self.free_slot(token, why),
            // Dropped apart from the call: both may panic.
            Ended::Stream(mut protocol) => {
                call_closed(stats, &"connect", &why, || protocol.closed(why));
                catch_drop(stats, protocol);
            }
            Ended::Datagram(mut protocol) => {
                call_closed(stats, &"connect", &why, || protocol.closed(why));
                catch_drop(stats, protocol);
            }
        }
    }

    /// Frees the slot of a source that has ended, and closes it.
    fn free_slot(&mut self, token: usize, why: CloseReason) {
        if !self.deferred.is_empty() {
            self.orphan_deferred(token);
        }
        if log::max_level() >= LevelFilter::Debug {
            self.log_freed(token, why);
        }
        let slot = &mut self.slots[token];
        let stats = &mut self.state.stats;
        let mut kept_peer = KeptPeer::Unix; // the last line about a connection names its peer
        match &mut slot.source {
            Source::Connection(connection) => {
                kept_peer = connection.peer();
                let id = connection.id();
                self.connections -= 1;
                stats.connections = self.connections;
                stats.closed += 1;
                stats.closed_finished += u64::from(why == CloseReason::Finished);
                self.state.loop_limits.on_closed(connection.listener());
                self.state.memory.remove(token);
                if why.resets() {
                    sys::reset_on_close(slot.stream.as_ref().expect(STREAM_IS_BESIDE));
                }
                self.effects.on_closed(id, why, stats);
            }
            Source::Listener(listener) => {
                let unaccepted = listener.unaccepted();
                if unaccepted > 0 {
                    let address = &listener.address;
                    warn!("{address}: {unaccepted} connections in the backlog never accepted");
                    stats.unaccepted += unaccepted as u64;
                    self.state.stop = self.state.stop.forced(unaccepted);
                }
                info!("{}: listener closed", listener.address);
                self.state.loop_limits.on_listener_closed(listener.index);
                self.listeners.retain(|&other| other != token);
            }
            Source::Datagram(socket) => {
                socket.log_closed(why);
                self.effects.on_closed(socket.id(), why, stats);
                self.state.memory.change_datagrams(socket.metered, 0);
                self.datagram_clients -= usize::from(socket.peer().is_some());
                let address = socket.address;
                let addresses = &mut self.state.datagram_addresses;
                if socket.peer().is_none()
                    && let Some(index) = addresses.iter().position(|&other| other == address)
                {
                    addresses.swap_remove(index); // one: with SO_REUSEPORT, several are the same
                }
            }
            source @ Source::Tasks(_) => drop_tasks(stats, source),
            Source::Periodic(_) | Source::StopSignal(_) => {}
        }
        let state = &mut self.state;
        close_and_drop(&mut state.stats, &state.peers, &mut self.slots, token, why);
        self.state.peers.remove(kept_peer);
    }

    /// Logs that a slot is freed, at `debug` and `trace`. It is one function, since each connection
    /// that ends would pay for the check before another.
    #[cold]
    #[inline(never)]
    fn log_freed(&self, token: usize, why: CloseReason) {
        let log = |line| trace::log(&self.state, token, || line);
        let has_socket = match &self.slots[token].source {
            Source::Connection(connection) => {
                let (id, peer) = (connection.id(), self.state.peers.get(connection.peer()));
                let limits = self.state.loop_limits.of(connection.listener());
                debug!("{id} {peer}: closed: {}", WithLimit(why, limits));
                if why.resets() {
                    log(Line::ResetOnClose);
                }
                true
            }
            Source::Listener(listener) => !listener.is_closed(),
            Source::Datagram(_) | Source::StopSignal(_) => true,
            Source::Tasks(_) | Source::Periodic(_) => false,
        };
        if has_socket {
            log(Line::Close);
        }
        log(Line::Free { why });
    }
}
