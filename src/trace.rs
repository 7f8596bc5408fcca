//! The trace log: one line for each system call of the loop, with its turn and its stage.
//!
//! ```text
//!     turn 17 wait   epoll_wait(29900 ms) = 1
//!     turn 17 note   slot 4: readable; queued
//!     turn 17 drive  slot 4: recv(69632) = 36; short read
//! ```
//!
//! A line has the words of strace(1) and of the book, and `docs/trace.md` explains each kind. The
//! slot stands in the place of the descriptor. No line has a byte of what is sent or received, so
//! each has a bounded length.
//!
//! Invariant: at any other log level, a line costs a load and a compare of the level. Nothing is
//! kept for it but the stage, by which the loop knows whether a turn is running.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::time::Duration;

use log::{Level, log_enabled, trace};

use crate::loop_state::LoopState;
use crate::protocol::ident::{CloseReason, ConnectionId, Peer};
use crate::stream::readiness::Registered;
use crate::sys::{Event, PeerState, errno, is_priority};

/// What differs between systems: the names of the calls that wait, register and accept.
const HAS_EPOLL: bool = cfg!(all(
    not(mio_unsupported_force_poll_poll), // as in `src/sys/mio.rs`
    any(target_os = "android", target_os = "illumos", target_os = "linux", target_os = "redox"),
));
const WAIT: &str = if HAS_EPOLL { "epoll_wait" } else { "poll" };
const REGISTER: &str = if HAS_EPOLL { "epoll_ctl" } else { "register" };
const ADD: &str = if HAS_EPOLL { "EPOLL_CTL_ADD" } else { "ADD" };
const MODIFY: &str = if HAS_EPOLL { "EPOLL_CTL_MOD" } else { "MOD" };
const ACCEPT: &str = if HAS_EPOLL { "accept4" } else { "accept" };

/// What the loop is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No turn is running: the reactor's owner opens sockets, or sends.
    Owner,
    Wait,
    Note,
    Drive,
    Expire,
    Reap,
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stage::Owner => "owner",
            Stage::Wait => "wait",
            Stage::Note => "note",
            Stage::Drive => "drive",
            Stage::Expire => "expire",
            Stage::Reap => "reap",
        })
    }
}

/// What a call has returned, as strace(1) shows it: a number, or -1 and the name of the errno.
#[derive(Clone, Copy)]
pub(crate) struct Returned<'l>(pub(crate) Result<usize, &'l io::Error>);

impl Display for Returned<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(count) => count.fmt(f),
            Err(error) => match errno::name(error) {
                Some(name) => write!(f, "-1 {name}"),
                None => write!(f, "-1 {error}"),
            },
        }
    }
}

/// What a line says, after the turn, the stage and the slot.
pub(crate) enum Line<'l> {
    // The calls of the poller.
    Wait { timeout: Option<Duration>, returned: Returned<'l> },
    Register { before: Registered, interest: Registered, returned: Returned<'l> },
    // The calls on a listener.
    Accept { accepted: Acceptance<'l> },
    AcceptAtOnce,
    // The calls on a stream.
    Receive { offered: usize, returned: Returned<'l> },
    Send { offered: usize, flags: &'static str, returned: Returned<'l> },
    Shutdown { returned: Returned<'l> },
    Connect { peer: Peer, returned: Returned<'l> },
    IsConnected { result: &'l io::Result<bool> },
    CheckPeer { peer: &'l io::Result<PeerState> },
    BoundUnsent { bytes: i32 },
    ResetOnClose,
    // The calls on a datagram socket. A message may be several datagrams (GRO, GSO).
    ReceiveBatch { messages: usize, returned: Returned<'l>, datagrams: usize },
    SendBatch { messages: usize, returned: Returned<'l>, datagrams: usize },
    ReceiveOne { bytes: usize, returned: Returned<'l> },
    SendOne { bytes: usize, returned: Returned<'l> },
    DropArrivals { returned: Returned<'l> },
    // The call on every socket.
    Close,
    // What the stages have found and done.
    Source { source: &'l dyn Display },
    Event { event: &'l Event, queue: &'static str },
    Unfinished,
    Ended { why: CloseReason },
    Due,
    NotDue { left: Duration },
    Free { why: CloseReason },
}

/// What has become of an accept.
pub(crate) enum Acceptance<'l> {
    /// The connection has got this id, and the slot in it.
    Slot(ConnectionId, Peer),
    /// After a forced stop: it is counted and reset.
    Counted,
    WouldBlock,
    Interrupted,
    Failed(&'l io::Error),
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Line::Wait { timeout, returned } => {
                let timeout = Timeout(*timeout);
                write!(f, "{WAIT}({timeout}) = {returned}")
            }
            Line::Register { before, interest, returned } => {
                let operation = if *before == Registered::Nothing { ADD } else { MODIFY };
                let interest = words_of_interest(*interest);
                write!(f, "{REGISTER}({operation}, {interest}) = {returned}")
            }
            Line::Accept { accepted } => write!(f, "{ACCEPT}() = {accepted}"),
            Line::AcceptAtOnce => write!(f, "setsockopt(TCP_DEFER_ACCEPT, 0)"),
            Line::Receive { offered, returned } => {
                let then = match returned.0 {
                    Ok(0) => "; end of the stream",
                    Ok(count) if count < *offered => "; short read",
                    Ok(_) | Err(_) => "",
                };
                write!(f, "recv({offered}) = {returned}{then}")
            }
            Line::Send { offered, flags, returned } => {
                let is_partial = returned.0.is_ok_and(|count| count < *offered);
                let then = if is_partial { "; partial write" } else { "" };
                write!(f, "send({offered}{flags}) = {returned}{then}")
            }
            Line::Shutdown { returned } => write!(f, "shutdown(SHUT_WR) = {returned}"),
            Line::Connect { peer, returned } => write!(f, "connect({peer}) = {returned}"),
            Line::IsConnected { result } => {
                let returned = Returned(result.as_ref().map(|_| 0));
                let then = match result {
                    Ok(true) => "connected",
                    Ok(false) => "in progress",
                    Err(_) => "failed",
                };
                write!(f, "getsockopt(SO_ERROR) = {returned}; {then}")
            }
            Line::CheckPeer { peer } => {
                let found = match peer {
                    Ok(PeerState::Present) => "present",
                    Ok(PeerState::Unread) => "gone, and bytes of it are left",
                    Ok(PeerState::Gone) => "gone",
                    Err(_) => "gone, with an error",
                };
                write!(f, "peer check: {found}")
            }
            Line::BoundUnsent { bytes } => write!(f, "setsockopt(TCP_NOTSENT_LOWAT, {bytes})"),
            Line::ResetOnClose => write!(f, "setsockopt(SO_LINGER, 0)"),
            Line::ReceiveBatch { messages, returned, datagrams } => {
                write!(f, "recvmmsg({messages}) = {returned}; datagrams: {datagrams}")
            }
            Line::SendBatch { messages, returned, datagrams } => {
                write!(f, "sendmmsg({messages}) = {returned}; datagrams: {datagrams}")
            }
            Line::ReceiveOne { bytes, returned } => write!(f, "recvfrom({bytes}) = {returned}"),
            Line::SendOne { bytes, returned } => write!(f, "sendto({bytes}) = {returned}"),
            Line::DropArrivals { returned } => {
                write!(f, "setsockopt(SO_ATTACH_FILTER) = {returned}")
            }
            Line::Close => write!(f, "close()"),
            Line::Source { source } => write!(f, "holds {source}"),
            Line::Event { event, queue } => {
                let events = Events(event);
                write!(f, "{events}; {queue}")
            }
            Line::Unfinished => write!(f, "unfinished; queued"),
            Line::Ended { why } => write!(f, "ended: {why}"),
            Line::Due => write!(f, "due"),
            Line::NotDue { left } => {
                let timeout = Timeout(Some(*left));
                write!(f, "not due; filed again: {timeout}")
            }
            Line::Free { why } => write!(f, "free: {why}"),
        }
    }
}

impl Display for Acceptance<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Acceptance::Slot(id, peer) => write!(f, "slot {}; {id} {peer}", id.slot),
            Acceptance::Counted => f.write_str("a connection; reset"),
            Acceptance::WouldBlock => f.write_str("-1 EAGAIN"),
            Acceptance::Interrupted => f.write_str("-1 EINTR"),
            Acceptance::Failed(error) => Returned(Err(error)).fmt(f),
        }
    }
}

/// A timeout of the poll, or a time that is left.
struct Timeout(Option<Duration>);

impl Display for Timeout {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(timeout) => write!(f, "{} ms", timeout.as_millis()),
            None => f.write_str("no timeout"),
        }
    }
}

/// What the kernel reports of a socket.
struct Events<'e>(&'e Event);

impl Display for Events<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Events(event) = self;
        let is_hung_up = event.is_read_closed() && event.is_write_closed();
        let words = [
            (event.is_readable(), "readable"),
            (event.is_writable(), "writable"),
            (is_priority(event), "urgent"),
            (event.is_read_closed() && !is_hung_up, "FIN"),
            (is_hung_up, "hang-up"),
            (event.is_error(), "error"),
        ];
        let mut reported = words.iter().filter(|(is_reported, _)| *is_reported);
        f.write_str(reported.next().map_or("nothing", |(_, word)| word))?;
        reported.try_for_each(|(_, word)| write!(f, ", {word}"))
    }
}

fn words_of_interest(interest: Registered) -> &'static str {
    match interest {
        Registered::Nothing => "nothing",
        Registered::Reading => "readable",
        Registered::ReadingAndWriting => "readable, writable",
    }
}

/// Returns whether the trace log is on.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    log_enabled!(Level::Trace)
}

/// Where a line belongs: the turn, the stage and the slot.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    turn: u64,
    stage: Stage,
    slot: usize,
}

impl Place {
    pub(crate) fn new(state: &LoopState, slot: usize) -> Place {
        Place { turn: state.stats.turns, stage: state.stage, slot }
    }

    /// The same in another stage.
    pub(crate) fn in_stage(self, stage: Stage) -> Place {
        Place { stage, ..self }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn write(&self, line: &Line<'_>) {
        let Place { turn, stage, slot } = self;
        trace!("turn {turn} {stage:6} slot {slot}: {line}");
    }
}

/// Writes a line about the source in `slot`, if the trace log is on.
#[inline(always)]
pub(crate) fn log<'l>(state: &LoopState, slot: usize, line: impl FnOnce() -> Line<'l>) {
    if is_on() {
        Place::new(state, slot).write(&line());
    }
}

/// Writes what the poll has returned.
#[cold]
#[inline(never)]
pub(crate) fn write_wait(state: &LoopState, line: &Line<'_>) {
    let (turn, stage) = (state.stats.turns, Stage::Wait);
    trace!("turn {turn} {stage:6} {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_lines_are_short_whatever_a_peer_does() {
        const LINE_BYTES_MAX: usize = 200;
        let peer =
            Peer::Ip("[2001:db8:2001:db8:2001:db8:2001:db8%4294967295]:65535".parse().unwrap());
        let id = ConnectionId { slot: u32::MAX, generation: u32::MAX };
        let error = io::Error::from_raw_os_error(1_000_000); // has no name
        let returned = Returned(Err(&error));
        let lines = [
            Line::Accept { accepted: Acceptance::Slot(id, peer) },
            Line::Connect { peer, returned },
            Line::Wait { timeout: Some(Duration::from_millis(u64::MAX)), returned },
            Line::Receive { offered: usize::MAX, returned: Returned(Ok(usize::MAX - 1)) },
            Line::ReceiveBatch { messages: usize::MAX, returned, datagrams: usize::MAX },
            Line::Ended { why: CloseReason::ConnectFailed(io::ErrorKind::AddrNotAvailable) },
        ];
        for line in &lines {
            let place = format!("turn {} expire slot {}: ", u64::MAX, usize::MAX);
            let line = format!("{place}{line}");
            assert!(line.len() <= LINE_BYTES_MAX && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn results_have_the_form_of_strace() {
        let shown = |result: io::Result<usize>| Returned(result.as_ref().copied()).to_string();
        assert_eq!(shown(Ok(36)), "36");
        assert_eq!(shown(Err(io::Error::from_raw_os_error(libc::EAGAIN))), "-1 EAGAIN");
        assert_eq!(shown(Err(io::ErrorKind::WouldBlock.into())), "-1 EAGAIN");
        assert_eq!(shown(Err(io::ErrorKind::InvalidData.into())), "-1 invalid data");
    }
}
