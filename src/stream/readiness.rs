//! One socket's readiness, and what each answer of the kernel says about it.
//!
//! epoll is asked for edges: it tells once that a socket has become ready, and tells again only after the socket has been
//! emptied. So readiness has to be remembered here, and may be forgotten only for what the kernel said or showed
//! (invariant 3): `WouldBlock`, or a count shorter than what we offered.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use log::{Level, log_enabled, trace};

use crate::protocol::ident::{CloseReason, ConnectionId};
use crate::sys::errno::{self, StreamError};
use crate::sys::{self, Event, TcpStream};

/// A byte stream that never blocks. A seam: the connection's behaviour can be tested over a scripted one.
pub(crate) trait Transport {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize>;
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Sends our FIN behind all that was sent.
    fn shutdown_write(&mut self) -> io::Result<()>;
    /// Of one that we have begun: has the peer been reached? An error says that it will not be.
    fn is_connected(&mut self) -> io::Result<bool> {
        Ok(true)
    }
}

impl Transport for TcpStream {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read(into)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn is_connected(&mut self) -> io::Result<bool> {
        sys::is_connected(self)
    }
}

/// What we believe the kernel would say. A wrong `true` costs one call; a wrong `false` would cost the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// An edge told of a FIN, an error or an urgent mark. Then no further edge comes for what lies behind it, and a
    /// short read does not prove that the socket is empty: read on, to the end or to `WouldBlock`.
    pub(crate) read_until_would_block: bool,
    /// Reads may be cut short at any time, with more behind and no edge for it: those of a Unix socket end behind each
    /// descriptor that the peer passes along (unix(7)). So `read_until_would_block` is never taken back.
    pub(crate) short_read_inconclusive: bool,
}

impl Readiness {
    /// Of a socket that the kernel has told nothing about yet: try both.
    pub(crate) const UNKNOWN: Readiness = Readiness {
        readable: true,
        writable: true,
        read_until_would_block: false,
        short_read_inconclusive: false,
    };
    /// The same, of a Unix socket.
    pub(crate) const UNKNOWN_UNIX: Readiness = Readiness {
        read_until_would_block: true,
        short_read_inconclusive: true,
        ..Readiness::UNKNOWN
    };
    pub(crate) const NOT_READY: Readiness = Readiness {
        readable: false,
        writable: false,
        read_until_would_block: false,
        short_read_inconclusive: false,
    };

    /// Adds what `event` tells. An error or a hang-up means: try both directions, and believe what they return.
    #[inline]
    pub(crate) fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable();
        let is_closed = event.is_error() || event.is_read_closed() || event.is_write_closed();
        if event.is_writable() || sys::is_priority(event) || is_closed {
            self.readable |= is_closed;
            self.writable |= event.is_writable() || is_closed;
            self.read_until_would_block |= sys::is_priority(event) || is_closed;
        }
    }
}

/// What the kernel has been asked to tell of a source. For a stream it only ever grows: each step is one system call, and in
/// a conversation that never waits for its peer to read, there is one such call or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Registered {
    Nothing,
    Reading,
    ReadingAndWriting,
}

/// What one read brought.
pub(crate) enum Received {
    Bytes(usize),
    /// The peer's FIN: nothing comes any more.
    Eof,
    WouldBlock,
}

/// Reads once, if there may be something. `id` is for the trace log.
#[inline(always)]
pub(crate) fn receive<W: Transport>(
    wire: &mut W,
    ready: &mut Readiness,
    id: ConnectionId,
    into: &mut [u8],
) -> Result<Received, CloseReason> {
    if !ready.readable {
        return Ok(Received::WouldBlock);
    }
    loop {
        let result = wire.receive(into);
        if log_enabled!(Level::Trace) {
            trace_call(id, "recv", into.len(), result.as_ref().copied().map_err(io::Error::kind));
        }
        match result {
            Ok(0) => {
                ready.readable = false; // for good
                return Ok(Received::Eof);
            }
            Ok(count) => {
                if count < into.len() && !ready.read_until_would_block {
                    ready.readable = false;
                }
                return Ok(Received::Bytes(count));
            }
            Err(error) => match errno::classify_receive(&error) {
                StreamError::WouldBlock => {
                    ready.readable = false;
                    ready.read_until_would_block = ready.short_read_inconclusive;
                    return Ok(Received::WouldBlock);
                }
                StreamError::Interrupted => {}
                StreamError::Disconnected => return Err(CloseReason::PeerReset),
                StreamError::Failed => return Err(CloseReason::Io(error.kind())),
            },
        }
    }
}

/// Sends what the kernel takes of `bytes`, and returns how many that were.
#[inline(always)]
pub(crate) fn send<W: Transport>(
    wire: &mut W,
    ready: &mut Readiness,
    id: ConnectionId,
    bytes: &[u8],
) -> Result<usize, CloseReason> {
    if !ready.writable {
        return Ok(0);
    }
    loop {
        let result = wire.send(bytes);
        if log_enabled!(Level::Trace) {
            trace_call(id, "send", bytes.len(), result.as_ref().copied().map_err(io::Error::kind));
        }
        match result {
            Ok(0) => return Err(CloseReason::Io(ErrorKind::WriteZero)),
            Ok(count) => {
                if count < bytes.len() {
                    ready.writable = false;
                }
                return Ok(count);
            }
            Err(error) => match errno::classify_send(&error) {
                StreamError::WouldBlock => {
                    ready.writable = false;
                    return Ok(0);
                }
                StreamError::Interrupted => {}
                StreamError::Disconnected => return Err(CloseReason::PeerReset),
                StreamError::Failed => return Err(CloseReason::Io(error.kind())),
            },
        }
    }
}

/// One line in the trace log. Kept out of the way of those who do not read it.
#[cold]
#[inline(never)]
fn trace_call(id: ConnectionId, call: &str, offered: usize, result: Result<usize, ErrorKind>) {
    trace!("{id} {call} {offered} -> {result:?}");
}
