//! A listening socket, and what it does when there is no room for another connection.
//!
//! A listener accepts until the backlog is empty (`WouldBlock`), its budget is spent, or no slot or
//! descriptor is left. In the last case it pauses: new connections wait in the kernel's backlog
//! until a slot is freed, or until `ACCEPT_RETRY_MS` have passed. Nothing that a peer can cause
//! ends a listener. Only a socket that does not listen at all is closed, and the reactor serves the
//! others.
//!
//! ```text
//!                  no room                 backlog empty
//!     Accepting ─────────────► Paused ◄─────────────────► Recovering
//!         ▲                               no room              │
//!         └────────────────────────────────────────────────────┘
//!                       ACCEPT_RECOVERY_MS without a pause
//! ```
//!
//! The time from the first pause until it is `Accepting` again is an overload. It has one log line
//! at its beginning and one at its end, however often the listener pauses in between.
//!
//! Invariant: a paused listener never spins. Only a freed slot or its deadline wakes it.

use std::fmt::Display;
use std::io;

use log::{error, info, warn};

use crate::limits::{BACKLOG, DRAIN_QUIET_MS};
use crate::loop_limits::ListenerIndex;
use crate::overload_limits::{
    ACCEPT_RECOVERY_MS, ACCEPT_RETRY_MS, EVICTION_IDLE_MS, STARVED_LISTENER_MS,
};
use crate::protocol::ident::Peer;
use crate::protocol::outcome::Outcome;
use crate::protocol::protocol::Protocol;
use crate::stats::Stats;
use crate::stream::listen_options::ListenOptions;
#[cfg(unix)]
use crate::sys::UnixListener;
use crate::sys::errno::{self, AcceptError};
use crate::sys::{self, AcceptedOptions, TcpListener, TcpStream};
use crate::time::Time;

pub(crate) struct Listener {
    /// `None` once it is closed: at a stop, or because it is broken.
    socket: Option<Socket>,
    /// The address that it listens on, as the log shows it.
    pub(crate) address: String,
    /// Whose limits its connections have.
    pub(crate) index: ListenerIndex,
    /// How many connections its backlog may hold, at most.
    backlog: u32,
    accept_state: AcceptState,
    /// Makes the protocol of each connection.
    pub(crate) make_protocol: MakeProtocol,
    /// How many connections it has accepted.
    accepted: u64,
    /// During a stop: how often it may still accept until it has taken all that can have waited in
    /// the backlog when the stop began. Those that came later may be refused.
    accepts_left: u64,
    /// During a stop: the time from which on an empty backlog closes it. Where accepting is
    /// deferred, a peer that has connected before the stop may still be sending its first byte.
    closes_at: Time,
    /// accept4(2) is refused here (seccomp(2)), and accept(2) takes its place.
    accept4_refused: bool,
    /// How many idle connections were evicted for its sake, for the log.
    pub(crate) evicted: u64,
}

pub(crate) type MakeProtocol = Box<dyn FnMut(Peer) -> Box<dyn Protocol>>;

/// The socket of a listener. The streams that it accepts have one type for both families.
pub(crate) enum Socket {
    Tcp(TcpListener, AcceptedOptions),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Socket {
    /// What is registered with the poll.
    pub(crate) fn source(&mut self) -> &mut dyn sys::Source {
        match self {
            Socket::Tcp(socket, _) => socket,
            #[cfg(unix)]
            Socket::Unix(socket) => socket,
        }
    }
}

/// Whether new connections are accepted.
enum AcceptState {
    Accepting,
    /// There may be connections in the backlog, but there is no room for them. Nothing is accepted
    /// until a slot is freed or the retry is due, which counts from this time.
    Paused(Overload, Time),
    /// The backlog was empty at this time. After `ACCEPT_RECOVERY_MS` without another pause the
    /// overload is over.
    Recovering(Overload, Time),
    /// A stop was forced. What waits in the backlog is accepted to be counted, and reset: only on
    /// Linux, and only for TCP, does a call tell their number.
    Counting(Unaccepted),
}

/// The connections in the backlog at a forced stop.
struct Unaccepted {
    counted: usize,
    /// How many are known to wait although none can be accepted (there is no descriptor, or a
    /// sandbox refuses the call): one, if the listener had paused.
    known: usize,
}

/// From the first pause on. The counts at that time are for the log line at the end.
struct Overload {
    started: Time,
    pauses: u64,
    accepted_before: u64,
    evicted_before: u64,
    /// The first pause since a connection was accepted, or since the backlog was empty.
    starved_since: Time,
    /// How many connections had been accepted by then.
    accepted_when_starved: u64,
}

/// The result of one accept(2).
pub(crate) enum Accepted {
    Stream(TcpStream, Peer),
    /// The backlog is empty.
    WouldBlock,
    /// A signal interrupted the call (EINTR).
    Interrupted,
    /// This connection failed before it was accepted. The next may not.
    HandshakeFailed(io::Error),
    /// There is no descriptor or no memory for the connection, which stays in the backlog.
    Exhausted(io::Error),
    /// The socket does not listen.
    Broken(io::Error),
}

impl Listener {
    pub(crate) fn new(
        socket: Socket,
        address: String,
        index: ListenerIndex,
        options: &ListenOptions,
        make: MakeProtocol,
    ) -> Listener {
        Listener {
            socket: Some(socket),
            address,
            index,
            backlog: options.backlog.max(BACKLOG),
            accept_state: AcceptState::Accepting,
            make_protocol: make,
            accepted: 0,
            accepts_left: u64::MAX,
            closes_at: Time::NEVER,
            accept4_refused: false,
            evicted: 0,
        }
    }

    /// How many connections may wait in the backlog: Linux lets one more than asked for wait
    /// (listen(2)).
    fn backlog_max(&self) -> u64 {
        u64::from(self.backlog) + 1
    }

    /// A stop has begun: what waits in the backlog now is still accepted.
    ///
    /// Where accepting is deferred, those that have connected get some time to speak. Others that
    /// connect meanwhile are not deferred, or some would always be refused in the end. (A socket
    /// that was opened elsewhere may be shared, so it stays as it is.) Returns whether that has
    /// taken a call.
    pub(crate) fn begin_drain(&mut self, now: Time) -> bool {
        self.accepts_left = self.backlog_max();
        self.closes_at = if self.is_deferred() { now.plus_ms(DRAIN_QUIET_MS) } else { now };
        let Some(Socket::Tcp(socket, options)) = &self.socket else { return false };
        let was_asked_by_us = options.is_deferred && options.had_before_listen;
        if was_asked_by_us {
            sys::defer_accept(socket, false);
        }
        was_asked_by_us
    }

    /// The backlog is empty during a stop: closes the socket, unless peers are still waited for.
    /// From then on connects are refused, not left unanswered.
    pub(crate) fn close_drained(&mut self, now: Time) {
        if self.closes_at <= now {
            self.close();
        }
    }

    /// Returns whether the kernel keeps its connections until their first byte has arrived.
    pub(crate) fn is_deferred(&self) -> bool {
        match &self.socket {
            Some(Socket::Tcp(_, options)) => options.is_deferred,
            #[cfg(unix)]
            Some(Socket::Unix(_)) => false,
            None => false,
        }
    }

    pub(crate) fn accept(&mut self) -> Accepted {
        if self.accepts_left == 0 {
            self.close();
        }
        let was_refused = self.accept4_refused;
        let accepted = self.accept_one();
        if self.accept4_refused && !was_refused {
            warn!("{}: accept4 refused: from now on, accept is used", self.address);
        }
        let connections = u64::from(matches!(accepted, Accepted::Stream(..)));
        self.accepted += connections;
        self.accepts_left -= connections;
        accepted
    }

    fn accept_one(&mut self) -> Accepted {
        let refused = &mut self.accept4_refused;
        match &self.socket {
            None => Accepted::WouldBlock,
            Some(Socket::Tcp(socket, options)) => match sys::accept(socket, refused) {
                Ok((stream, peer)) => match sys::set_accepted_options(&stream, *options) {
                    Ok(()) => Accepted::Stream(stream, Peer::Ip(peer)),
                    // Whatever the error is, it concerns this connection alone.
                    Err(error) => Accepted::HandshakeFailed(error),
                },
                Err(error) => Accepted::from(error),
            },
            #[cfg(unix)]
            Some(Socket::Unix(socket)) => match socket.accept(refused) {
                Ok(stream) => Accepted::Stream(stream, Peer::Unix),
                Err(error) => Accepted::from(error),
            },
        }
    }

    /// Closes the socket: from now on, connects are refused at once.
    pub(crate) fn close(&mut self) {
        self.socket = None;
    }

    /// A stop was forced: what waits in the backlog now is accepted only to be counted. Does
    /// nothing if that has begun.
    pub(crate) fn begin_count(&mut self, now: Time) {
        if !self.is_counting() {
            let known = usize::from(self.is_paused());
            self.accept_state = AcceptState::Counting(Unaccepted { counted: 0, known });
            self.accepts_left = self.backlog_max();
            self.closes_at = now;
        }
    }

    pub(crate) fn is_counting(&self) -> bool {
        matches!(self.accept_state, AcceptState::Counting(_))
    }

    /// Counts a connection that was in the backlog, and resets it.
    #[cold]
    pub(crate) fn count(&mut self, stream: &TcpStream) {
        sys::reset_on_close(stream);
        if let AcceptState::Counting(unaccepted) = &mut self.accept_state {
            unaccepted.counted += 1;
        }
    }

    /// Returns how many connections were never accepted, as far as that is known.
    pub(crate) fn unaccepted(&self) -> usize {
        match &self.accept_state {
            AcceptState::Counting(unaccepted) => unaccepted.counted.max(unaccepted.known),
            AcceptState::Accepting | AcceptState::Paused(..) | AcceptState::Recovering(..) => 0,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.socket.is_none()
    }

    /// Closes a socket that cannot accept any more, and logs an error: an operator has to act. The
    /// other listeners and all connections are still served.
    pub(crate) fn close_broken(&mut self, why: &io::Error) {
        error!("{}: listener broken and closed: {why}", self.address);
        self.close();
    }

    /// Stops accepting for want of room, until a slot is freed or the retry is due. The first pause
    /// of an overload is logged.
    pub(crate) fn pause(&mut self, why: &dyn Display, now: Time, stats: &mut Stats) {
        stats.accept_pauses += 1;
        let mut overload = self.take_overload().unwrap_or_else(|| {
            warn!("{}: accept paused: {why}", self.address);
            Overload {
                started: now,
                pauses: 0,
                accepted_before: self.accepted,
                evicted_before: self.evicted,
                starved_since: now,
                accepted_when_starved: self.accepted,
            }
        });
        overload.pauses += 1;
        if overload.accepted_when_starved != self.accepted {
            (overload.starved_since, overload.accepted_when_starved) = (now, self.accepted);
        }
        self.accept_state = AcceptState::Paused(overload, now);
    }

    /// The backlog is empty: all connections that waited in it have been accepted.
    pub(crate) fn recover(&mut self, now: Time) {
        let is_closed = self.is_closed(); // then the backlog may not be empty
        match &mut self.accept_state {
            AcceptState::Paused(..) => {
                if let Some(overload) = self.take_overload() {
                    let accepted_when_starved = self.accepted;
                    let overload =
                        Overload { starved_since: now, accepted_when_starved, ..overload };
                    self.accept_state = AcceptState::Recovering(overload, now);
                }
            }
            AcceptState::Counting(unaccepted) if !is_closed => unaccepted.known = 0,
            AcceptState::Accepting | AcceptState::Recovering(..) | AcceptState::Counting(_) => {}
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        matches!(self.accept_state, AcceptState::Paused(..))
    }

    /// Returns how long a connection must have been idle to be evicted for its sake.
    pub(crate) fn eviction_idle_ms(&self, now: Time) -> u64 {
        let AcceptState::Paused(overload, _) = &self.accept_state else { return EVICTION_IDLE_MS };
        let is_starved = overload.starved_since.plus_ms(STARVED_LISTENER_MS) <= now;
        if is_starved { 0 } else { EVICTION_IDLE_MS }
    }

    /// Returns when [`expire`](Listener::expire) is to be called.
    pub(crate) fn deadline(&self) -> Time {
        match &self.accept_state {
            AcceptState::Accepting => self.closes_at,
            AcceptState::Counting(_) => Time::NEVER,
            AcceptState::Paused(_, since) => since.plus_ms(ACCEPT_RETRY_MS),
            AcceptState::Recovering(_, since) => {
                since.plus_ms(ACCEPT_RECOVERY_MS).min(self.closes_at)
            }
        }
    }

    /// Acts on the deadline: accepts again after a pause or before it closes, or ends the overload.
    pub(crate) fn expire(&mut self, now: Time) -> Outcome {
        match &mut self.accept_state {
            AcceptState::Paused(_, since) => {
                *since = now;
                Outcome::Unfinished
            }
            _ if self.closes_at <= now => Outcome::Unfinished,
            AcceptState::Recovering(_, since) => {
                if since.plus_ms(ACCEPT_RECOVERY_MS) <= now {
                    self.end_overload(now);
                }
                Outcome::Blocked
            }
            AcceptState::Accepting | AcceptState::Counting(_) => Outcome::Blocked,
        }
    }

    /// Ends the overload, if there is one, and logs its counts.
    fn end_overload(&mut self, now: Time) {
        let Some(overload) = self.take_overload() else { return };
        info!(
            "{}: accept overload over after {:.1?}: \
             {} pauses, {} idle connections evicted, {} accepted",
            self.address,
            now.since(overload.started),
            overload.pauses,
            self.evicted - overload.evicted_before,
            self.accepted - overload.accepted_before,
        );
    }

    /// Sets the state to `Accepting`, and returns the overload that it was in.
    fn take_overload(&mut self) -> Option<Overload> {
        match std::mem::replace(&mut self.accept_state, AcceptState::Accepting) {
            AcceptState::Accepting | AcceptState::Counting(_) => None,
            AcceptState::Paused(overload, _) | AcceptState::Recovering(overload, _) => {
                Some(overload)
            }
        }
    }
}

impl From<io::Error> for Accepted {
    fn from(error: io::Error) -> Accepted {
        // Fast path: each batch ends with this one.
        if error.kind() == io::ErrorKind::WouldBlock {
            return Accepted::WouldBlock;
        }
        match errno::classify_accept(&error) {
            AcceptError::WouldBlock => Accepted::WouldBlock,
            AcceptError::Interrupted => Accepted::Interrupted,
            AcceptError::HandshakeFailed => Accepted::HandshakeFailed(error),
            AcceptError::Exhausted => Accepted::Exhausted(error),
            AcceptError::Broken => Accepted::Broken(error),
        }
    }
}

#[cfg(test)]
mod tests;
