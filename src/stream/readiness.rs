//! The remembered readiness of one socket, and what each result of recv(2) and send(2) proves.
//!
//! # The words
//!
//! A socket is **readable** if recv(2) would not have to wait, and **writable** if send(2) would
//! not. All sockets here are non-blocking: a call that would have to wait fails with EAGAIN
//! instead, which Rust names `WouldBlock`.
//!
//! epoll(7) reports readiness in two ways. **Level-triggered**, every epoll_wait(2) reports a
//! socket for as long as it is ready, as select(2) does. **Edge-triggered**, it reports the change:
//! one event (an *edge*) when the socket becomes ready, or when more arrives. What an edge has
//! reported is not reported again. mio registers edge-triggered.
//!
//! A **short read** returns fewer bytes than the buffer has room for. A **partial write** takes
//! fewer bytes than it was offered.
//!
//! # Why readiness is remembered
//!
//! An edge may come while nothing is to be read: the connection is paused, or its output has
//! reached the high watermark. When reading resumes, no second edge comes for the bytes that wait.
//! So the edge is stored, as a boolean for each direction, and resuming costs no system call.
//!
//! ```text
//!                    event: readable                            event: writable
//!     not readable ─────────────────► readable   not writable ─────────────────► writable
//!          ▲                              │           ▲                              │
//!          └──────────────────────────────┘           └──────────────────────────────┘
//!           recv: WouldBlock, short read, FIN          send: WouldBlock, partial write
//! ```
//!
//! Invariant 3: readiness is forgotten only for what the kernel returned: `WouldBlock`, or a count
//! that proves as much. A socket whose readiness is forgotten too early waits for an edge that
//! never comes. A short read is such a proof, and a partial write is too (epoll(7), questions and
//! answers): the socket's buffer is empty, or full. It saves the call that would only return
//! `WouldBlock`.
//!
//! # The holes in the proof
//!
//! A short read proves nothing in four cases. Then the socket is read until `WouldBlock` or the
//! end:
//!
//! - **A FIN or an error in the same edge as the last bytes.** The read returns the bytes, and no
//!   other edge comes for what lies after them. The event shows it.
//! - **The urgent mark** of TCP (tcp(7)): a read stops at it, with more bytes after it. The event
//!   shows it (EPOLLPRI).
//! - **Unix sockets with descriptors** (unix(7), SCM_RIGHTS): a read stops after each message that
//!   carries descriptors, without an edge for the next one. No event shows it, so on a Unix socket
//!   a short read never counts.
//! - **Systems without epoll and kqueue.** There, mio gives no event before a call has returned
//!   `WouldBlock` (`sys::rearms_only_on_would_block`), however empty or full the socket is. So a
//!   short read never counts, and a partial write does not either.
//!
//! # A peer that is gone
//!
//! An error or a hang-up makes both directions ready, and the next call returns what has happened.
//! But a connection that is paused, and has nothing to send, makes no call. So the event is stored
//! for it as well (`PeerCheck`), and it asks the socket. A FIN alone is no such event.
//!
//! A socket that is not registered yet has no edges to lose: epoll looks at its state when it is
//! registered.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use crate::protocol::ident::{CloseReason, Peer};
use crate::sys::errno::{self, StreamError};
use crate::sys::{self, Event, PeerState, TcpStream};

/// A non-blocking byte stream. As with sockets, a shared reference is enough to use it. Tests run a
/// connection over a scripted one instead of a socket.
pub(crate) trait Transport {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize>;
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Sends the last bytes before our FIN. If all are taken, `shutdown_write` is called next, with
    /// nothing between the two. The kernel may keep the end of the bytes back until then, so that
    /// both leave in one segment (MSG_MORE in send(2)).
    fn send_before_fin(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)
    }
    /// Sends our FIN after all that was sent (shutdown(2), SHUT_WR).
    fn shutdown_write(&self) -> io::Result<()>;
    /// For an outbound connection: returns whether the connect has succeeded, or false while it is
    /// still in progress. An error means that it has failed.
    fn is_connected(&self) -> io::Result<bool> {
        Ok(true)
    }
    /// Returns whether the peer can still be heard and reached. Reads and sends nothing. An error
    /// of the socket, such as a reset, is returned as such.
    fn peer_state(&self) -> io::Result<PeerState> {
        Ok(PeerState::Present)
    }
    /// Returns our end's address (getsockname(2)); `None` if it has none.
    fn local_address(&self) -> Option<SocketAddr> {
        None
    }
}

impl Transport for TcpStream {
    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        (&mut &*self).read(into)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        (&mut &*self).write(bytes)
    }

    fn send_before_fin(&self, bytes: &[u8]) -> io::Result<usize> {
        sys::send_before_fin(self, bytes)
    }

    fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn is_connected(&self) -> io::Result<bool> {
        sys::is_connected(self)
    }

    fn peer_state(&self) -> io::Result<PeerState> {
        sys::peer_state(self)
    }

    fn local_address(&self) -> Option<SocketAddr> {
        self.local_addr().ok() // a Unix socket has no such address
    }
}

/// Whether the socket is to be asked for its `PeerState`. While it is read or written, the calls
/// themselves show an error. A connection that does neither would not notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerCheck {
    NotNeeded,
    /// An event has reported an error, or that nothing more can be sent.
    Due,
    /// The peer is gone, but its bytes are still unread. To be asked again after its FIN.
    AtEof,
}

/// What is believed of a socket, in one byte: each slot has one. A wrong `true` costs one system
/// call. A wrong `false` costs the connection, which then waits for an edge that never comes.
#[derive(Clone, Copy)]
pub(crate) struct Readiness(u8);

const READABLE: u8 = 1;
const WRITABLE: u8 = 1 << 1;
/// An event reported a FIN, an error or the urgent mark. No further edge comes for what lies after
/// it, so a short read does not prove that the socket is empty: read to the end, or to
/// `WouldBlock`.
const READ_UNTIL_WOULD_BLOCK: u8 = 1 << 2;
/// A short read is never a reason to wait for an event: on a Unix socket, reads stop after each
/// descriptor that the peer passes (unix(7)), and where the poller rearms only on `WouldBlock` no
/// event would come. `READ_UNTIL_WOULD_BLOCK` stays set.
const SHORT_READ_INCONCLUSIVE: u8 = 1 << 3;
/// `PeerCheck::Due` and `PeerCheck::AtEof`, of which one is set at most.
const PEER_CHECK_DUE: u8 = 1 << 4;
const PEER_CHECK_AT_EOF: u8 = 1 << 5;

impl Readiness {
    pub(crate) const NOT_READY: Readiness = Readiness(0);
    /// A datagram socket before its first event: it is writable until a send would block.
    pub(crate) const WRITABLE: Readiness = Readiness(WRITABLE);

    /// A stream to `peer`, before its first event.
    pub(crate) fn of_stream(peer: Peer) -> Readiness {
        match peer == Peer::Unix || sys::rearms_only_on_would_block() {
            true => Readiness(READ_UNTIL_WOULD_BLOCK | SHORT_READ_INCONCLUSIVE),
            false => Readiness::NOT_READY,
        }
    }

    pub(crate) fn readable(self) -> bool {
        self.0 & READABLE != 0
    }

    pub(crate) fn writable(self) -> bool {
        self.0 & WRITABLE != 0
    }

    pub(crate) fn read_until_would_block(self) -> bool {
        self.0 & READ_UNTIL_WOULD_BLOCK != 0
    }

    pub(crate) fn short_read_inconclusive(self) -> bool {
        self.0 & SHORT_READ_INCONCLUSIVE != 0
    }

    pub(crate) fn peer_check(self) -> PeerCheck {
        match self.0 & (PEER_CHECK_DUE | PEER_CHECK_AT_EOF) {
            0 => PeerCheck::NotNeeded,
            PEER_CHECK_DUE => PeerCheck::Due,
            _ => PeerCheck::AtEof,
        }
    }

    #[inline(always)]
    fn set(&mut self, flag: u8, is_set: bool) {
        self.0 = if is_set { self.0 | flag } else { self.0 & !flag };
    }

    pub(crate) fn set_readable(&mut self, is_readable: bool) {
        self.set(READABLE, is_readable);
    }

    pub(crate) fn set_writable(&mut self, is_writable: bool) {
        self.set(WRITABLE, is_writable);
    }

    pub(crate) fn set_read_until_would_block(&mut self, is_set: bool) {
        self.set(READ_UNTIL_WOULD_BLOCK, is_set);
    }

    pub(crate) fn set_peer_check(&mut self, check: PeerCheck) {
        self.set(PEER_CHECK_DUE, check == PeerCheck::Due);
        self.set(PEER_CHECK_AT_EOF, check == PeerCheck::AtEof);
    }

    /// Sets both directions: it is not known whether they are ready, and a call shows it.
    pub(crate) fn set_both(&mut self) {
        self.0 |= READABLE | WRITABLE;
    }

    /// Returns the same, with both directions set.
    pub(crate) fn with_both(mut self) -> Readiness {
        self.set_both();
        self
    }

    /// Adds what `event` reports.
    pub(crate) fn note(&mut self, event: &Event) {
        self.0 |= u8::from(event.is_readable()) * READABLE;
        let is_closed = event.is_error() || event.is_read_closed() || event.is_write_closed();
        if event.is_writable() || sys::is_priority(event) || is_closed {
            self.note_more(event, is_closed);
        }
    }

    /// An error or a hang-up counts as ready in both directions: the calls then return what has
    /// happened. A FIN alone says nothing of the other direction. (Where the poller rearms only on
    /// `WouldBlock`, it reports the FIN again after each: taken for writable, a half-closed peer
    /// that does not read would keep the loop spinning.)
    #[cold]
    #[inline(never)] // so that most events cost no more than the questions above
    fn note_more(&mut self, event: &Event, is_closed: bool) {
        let is_broken = event.is_error() || event.is_write_closed();
        self.set_readable(self.readable() || is_closed);
        self.set_writable(self.writable() || event.is_writable() || is_broken);
        if sys::is_priority(event) || is_closed {
            self.set_read_until_would_block(true);
        }
        if is_broken {
            self.set_peer_check(PeerCheck::Due);
        }
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("readable", &self.readable())
            .field("writable", &self.writable())
            .field("read_until_would_block", &self.read_until_would_block())
            .field("short_read_inconclusive", &self.short_read_inconclusive())
            .field("peer_check", &self.peer_check())
            .finish()
    }
}

/// Which events of a source are registered with the poller. For a stream it only ever grows: each
/// step is one system call, and a connection whose output never waits makes one such call or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Registered {
    Nothing,
    Reading,
    ReadingAndWriting,
}

/// The result of one read.
pub(crate) enum Received {
    Bytes(usize),
    /// The peer's FIN: no more bytes will arrive.
    Eof,
    WouldBlock,
}

/// Reads once, unless the socket is known not to be readable.
#[inline(always)]
pub(crate) fn receive<T: Transport>(
    transport: &T,
    ready: &mut Readiness,
    into: &mut [u8],
) -> Result<Received, CloseReason> {
    if !ready.readable() {
        return Ok(Received::WouldBlock);
    }
    loop {
        match transport.receive(into) {
            Ok(count) => {
                if count == 0 {
                    ready.set_readable(false); // for good: nothing follows a FIN
                    return Ok(Received::Eof);
                }
                if count < into.len() && !ready.read_until_would_block() {
                    ready.set_readable(false);
                }
                return Ok(Received::Bytes(count));
            }
            Err(error) => match errno::classify_receive(&error) {
                StreamError::WouldBlock => {
                    ready.set_readable(false);
                    ready.set_read_until_would_block(ready.short_read_inconclusive());
                    return Ok(Received::WouldBlock);
                }
                StreamError::Interrupted => {}
                StreamError::Disconnected => return Err(CloseReason::PeerReset),
                StreamError::Failed => return Err(CloseReason::Io(error.kind())),
            },
        }
    }
}

/// Sends `bytes` once, unless the socket is known not to be writable. Returns how many bytes the
/// kernel has taken: all, some (a partial write), or none. Where a partial write brings no event,
/// sends the rest until `WouldBlock`. `fin_follows`: our FIN is sent next, if all bytes are taken.
#[inline(always)]
pub(crate) fn send<T: Transport>(
    transport: &T,
    ready: &mut Readiness,
    bytes: &[u8],
    fin_follows: bool,
) -> Result<usize, CloseReason> {
    if !ready.writable() {
        return Ok(0);
    }
    let mut sent = 0;
    loop {
        let rest = &bytes[sent..];
        let result =
            if fin_follows { transport.send_before_fin(rest) } else { transport.send(rest) };
        match result {
            Ok(count) => {
                if count == 0 {
                    return Err(CloseReason::Io(ErrorKind::WriteZero));
                }
                sent += count;
                if sent < bytes.len() {
                    if sys::rearms_only_on_would_block() {
                        continue;
                    }
                    ready.set_writable(false);
                }
                return Ok(sent);
            }
            Err(error) => match errno::classify_send(&error) {
                StreamError::WouldBlock => {
                    ready.set_writable(false);
                    return Ok(sent);
                }
                StreamError::Interrupted => {}
                StreamError::Disconnected => return Err(CloseReason::PeerReset),
                StreamError::Failed => return Err(CloseReason::Io(error.kind())),
            },
        }
    }
}
