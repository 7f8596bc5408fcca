//! One socket's readiness, and what each answer of the kernel says about it.
//!
//! epoll is asked for edges: it tells once that a socket has become ready, and tells again only after the socket has been
//! emptied. So readiness has to be remembered here, and may be forgotten only for what the kernel said or showed
//! (invariant 3): `WouldBlock`, or a count shorter than what we offered.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use log::{Level, log_enabled, trace};

use crate::errno::{self, StreamError};
use crate::net::{self, Event, TcpStream};
use crate::protocol::{CloseReason, ConnectionId};

/// A byte stream that never blocks. A seam: the connection's behaviour can be tested over a scripted one.
pub(crate) trait Wire {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize>;
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Sends our FIN behind all that was sent.
    fn finish(&mut self) -> io::Result<()>;
    /// Of one that we have begun: has the peer been reached? An error says that it will not be.
    fn is_connected(&mut self) -> io::Result<bool> {
        Ok(true)
    }
}

impl Wire for TcpStream {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read(into)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn is_connected(&mut self) -> io::Result<bool> {
        net::is_connected(self)
    }
}

/// What we believe the kernel would say. A wrong `true` costs one call; a wrong `false` would cost the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// An edge told of a FIN, an error or an urgent mark. Then no further edge comes for what lies behind it, and a
    /// short read does not prove that the socket is empty: read on, to the end or to `WouldBlock`.
    pub(crate) closing: bool,
    /// Reads may be cut short at any time, with more behind and no edge for it: those of a Unix socket end behind each
    /// descriptor that the peer passes along (unix(7)). So `closing` is never taken back.
    pub(crate) cuts_reads: bool,
}

impl Ready {
    /// Of a socket that the kernel has told nothing about yet: try both.
    pub(crate) const UNKNOWN: Ready =
        Ready { readable: true, writable: true, closing: false, cuts_reads: false };
    /// The same, of a Unix socket.
    pub(crate) const UNKNOWN_UNIX: Ready =
        Ready { closing: true, cuts_reads: true, ..Ready::UNKNOWN };
    pub(crate) const NEITHER: Ready =
        Ready { readable: false, writable: false, closing: false, cuts_reads: false };

    /// Adds what `event` tells. An error or a hang-up means: try both directions, and believe what they return.
    #[inline]
    pub(crate) fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable();
        let is_closed = event.is_error() || event.is_read_closed() || event.is_write_closed();
        if event.is_writable() || net::is_priority(event) || is_closed {
            self.readable |= is_closed;
            self.writable |= event.is_writable() || is_closed;
            self.closing |= net::is_priority(event) || is_closed;
        }
    }
}

/// What the kernel has been asked to tell of a source. For a stream it only ever grows: each step is one system call, and in
/// a conversation that never waits for its peer to read, there is one such call or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Watched {
    Nothing,
    Reading,
    ReadingAndWriting,
}

/// What one read brought.
pub(crate) enum Received {
    Bytes(usize),
    /// The peer's FIN: nothing comes any more.
    End,
    Nothing,
}

/// Reads once, if there may be something. `id` is for the trace log.
#[inline(always)]
pub(crate) fn receive<W: Wire>(
    wire: &mut W,
    ready: &mut Ready,
    id: ConnectionId,
    into: &mut [u8],
) -> Result<Received, CloseReason> {
    if !ready.readable {
        return Ok(Received::Nothing);
    }
    loop {
        let result = wire.receive(into);
        if log_enabled!(Level::Trace) {
            tell(id, "recv", into.len(), result.as_ref().copied().map_err(io::Error::kind));
        }
        match result {
            Ok(0) => {
                ready.readable = false; // for good
                return Ok(Received::End);
            }
            Ok(count) => {
                if count < into.len() && !ready.closing {
                    ready.readable = false;
                }
                return Ok(Received::Bytes(count));
            }
            Err(error) => match errno::classify_receive(&error) {
                StreamError::WouldBlock => {
                    ready.readable = false;
                    ready.closing = ready.cuts_reads;
                    return Ok(Received::Nothing);
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
pub(crate) fn send<W: Wire>(
    wire: &mut W,
    ready: &mut Ready,
    id: ConnectionId,
    bytes: &[u8],
) -> Result<usize, CloseReason> {
    if !ready.writable {
        return Ok(0);
    }
    loop {
        let result = wire.send(bytes);
        if log_enabled!(Level::Trace) {
            tell(id, "send", bytes.len(), result.as_ref().copied().map_err(io::Error::kind));
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
fn tell(id: ConnectionId, call: &str, offered: usize, result: Result<usize, ErrorKind>) {
    trace!("{id} {call} {offered} -> {result:?}");
}
