//! A connection to the server that is tried: blocking, and bounded in time.
//!
//! Invariant: no call lasts beyond the deadline of its row, whatever the server does. Nothing that
//! is received is kept here.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::limits::{NARROW_BYTES, STALL_MS};
use crate::blast::Server;

/// One connection, over TCP or a Unix socket: no call depends on the address family.
pub(super) struct Link {
    stream: TcpStream,
    deadline: Instant,
}

/// How much the kernel keeps for a connection at our end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffers {
    Usual,
    /// `NARROW_BYTES` for what the server sends: its own buffers are soon full if we do not read.
    NarrowIn,
    /// `NARROW_BYTES` in each direction: the server also gets no more than it reads.
    Narrow,
}

/// What a read came to.
#[derive(Debug)]
pub(super) enum Event {
    /// That many bytes.
    Bytes(usize),
    /// The server has sent its FIN.
    Fin,
    Reset,
    /// The time of the row is over.
    Silence,
    Error(io::Error),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Bytes(count) => write!(f, "{count} bytes"),
            Event::Fin => f.write_str("a FIN"),
            Event::Reset => f.write_str("a reset"),
            Event::Silence => f.write_str("silence"),
            Event::Error(error) => error.fmt(f),
        }
    }
}

/// How sending without reading has ended.
pub(super) enum Filled {
    /// The server has taken no byte for `STALL_MS`.
    Blocked,
    /// All bytes were taken.
    All,
    /// The server has ended the connection.
    Ended,
    /// The time of the row is over.
    OutOfTime,
}

impl Link {
    pub(super) fn connect(server: &Server, deadline: Instant) -> io::Result<Link> {
        Link::connect_with(server, Buffers::Usual, deadline)
    }

    pub(super) fn connect_with(
        server: &Server,
        buffers: Buffers,
        deadline: Instant,
    ) -> io::Result<Link> {
        let domain = match server {
            Server::Net(address) => Domain::for_address(*address),
            Server::Unix(_) => Domain::UNIX,
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        if buffers != Buffers::Usual {
            // Set before connecting: it decides which window is offered (tcp(7)).
            socket.set_recv_buffer_size(NARROW_BYTES)?;
        }
        if buffers == Buffers::Narrow {
            socket.set_send_buffer_size(NARROW_BYTES)?;
        }
        match server {
            Server::Net(address) => socket.connect_timeout(&(*address).into(), left(deadline))?,
            Server::Unix(path) => connect_unix(&socket, path, deadline)?,
        }
        Link::new(socket.into(), deadline)
    }

    /// Connects from the address `own`, which another connection may have had before. With port 0,
    /// the kernel chooses one that no other connection shares.
    pub(super) fn connect_from(
        own: SocketAddr,
        server: SocketAddr,
        deadline: Instant,
    ) -> io::Result<Link> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&own.into())?;
        socket.connect_timeout(&server.into(), left(deadline))?;
        Link::new(socket.into(), deadline)
    }

    fn new(stream: TcpStream, deadline: Instant) -> io::Result<Link> {
        // A self-connect (see send.rs): no server listens there.
        if stream.peer_addr().is_ok_and(|peer| stream.local_addr().is_ok_and(|own| own == peer)) {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            return Err(ErrorKind::ConnectionRefused.into());
        }
        // Without it, pieces would be sent as one. A Unix socket has no such option.
        let _ = stream.set_nodelay(true);
        Ok(Link { stream, deadline })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Returns the same connection, for a thread that only sends.
    pub(super) fn try_clone(&self) -> io::Result<Link> {
        Ok(Link { stream: self.stream.try_clone()?, deadline: self.deadline })
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    ///
    /// `TimedOut` if the server has not taken them by the deadline; the error of send(2).
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(left(self.deadline)))?;
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if !is_timeout(&error) => return Err(error),
                Err(_) if Instant::now() < self.deadline => {}
                Err(_) => {
                    let sent = bytes.len() - rest.len();
                    let why = format!("only {sent} of {} bytes were taken", bytes.len());
                    return Err(io::Error::new(ErrorKind::TimedOut, why));
                }
            }
        }
        Ok(())
    }

    /// Sends one urgent byte (MSG_OOB of send(2)).
    pub(super) fn send_urgent(&mut self, byte: u8) -> io::Result<()> {
        self.stream.set_write_timeout(Some(left(self.deadline)))?;
        SockRef::from(&self.stream).send_out_of_band(&[byte]).map(drop)
    }

    /// Sends `unit` again and again without reading, `bytes_max` bytes at most. Returns how many
    /// were taken, and what ended it.
    pub(super) fn fill(&mut self, unit: &[u8], bytes_max: usize) -> io::Result<(usize, Filled)> {
        let mut sent = 0;
        while sent < bytes_max {
            let rest = &unit[sent % unit.len()..];
            let rest = &rest[..rest.len().min(bytes_max - sent)];
            let wait = left(self.deadline).min(Duration::from_millis(STALL_MS));
            self.stream.set_write_timeout(Some(wait))?;
            match self.stream.write(rest) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Ok((sent, Filled::Blocked)),
                Err(_) => return Ok((sent, Filled::Ended)),
            }
            if Instant::now() >= self.deadline {
                return Ok((sent, Filled::OutOfTime));
            }
        }
        Ok((sent, Filled::All))
    }

    /// Receives what comes next, at most as much as fits `into`.
    pub(super) fn receive(&mut self, into: &mut [u8]) -> Event {
        loop {
            if let Err(error) = self.stream.set_read_timeout(Some(left(self.deadline))) {
                return Event::Error(error);
            }
            return match self.stream.read(into) {
                Ok(0) => Event::Fin,
                // A server that never ends its reply does not extend the time.
                Ok(_) if Instant::now() >= self.deadline => Event::Silence,
                Ok(count) => Event::Bytes(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_timeout(&error) => Event::Silence,
                Err(error) if is_reset(&error) => Event::Reset,
                Err(error) => Event::Error(error),
            };
        }
    }

    /// Sends our FIN.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Closes with a reset in place of a FIN. A Unix socket has no reset of its own, and closes.
    pub(super) fn reset(self) {
        // If the server has reset it before, there is nothing to do.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// Returns the time until `deadline`. A timeout of zero would be none.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// Returns whether a call has reached its timeout: `WouldBlock` on Unix, `TimedOut` on Windows.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Returns whether the peer has ended the connection: a reset, or bytes for a connection that it
/// has closed.
pub(super) fn is_reset(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected].contains(&error.kind())
}

#[cfg(unix)]
fn connect_unix(socket: &Socket, path: &std::path::Path, deadline: Instant) -> io::Result<()> {
    // It also bounds how long connect(2) blocks while the server's backlog is full.
    socket.set_write_timeout(Some(left(deadline)))?;
    socket.connect(&crate::unix_address::unix_address(path)?)
}

#[cfg(not(unix))]
fn connect_unix(_: &Socket, _: &std::path::Path, _: Instant) -> io::Result<()> {
    Err(io::Error::new(ErrorKind::Unsupported, crate::address::NO_UNIX_SOCKETS))
}
