//! Where connections come from.
//!
//! A listener accepts until the kernel has no more, its budget is spent, or the house is full. Nothing that accept(2) can
//! answer ends it: a peer that has left again is skipped, and when descriptors or memory run out the listener rests until
//! one of our connections ends or a moment has passed. It neither spins nor dies.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use crate::deadline::Time;
use crate::net::{TcpListener, TcpStream};
use crate::protocol::Protocol;

pub(crate) struct Listener {
    /// `None` once it is closed, at a stop.
    pub(crate) socket: Option<TcpListener>,
    pub(crate) address: SocketAddr,
    /// It has more to accept, and waits for room.
    pub(crate) resting: bool,
    /// Until then, nothing more is said in the log of its resting.
    pub(crate) quiet_until: Time,
    /// Makes the protocol of each connection.
    pub(crate) make: Box<dyn FnMut(SocketAddr) -> Box<dyn Protocol>>,
}

/// What one call of accept(2) came to.
pub(crate) enum Accepted {
    Stream(TcpStream, SocketAddr),
    /// The kernel has no more.
    Nothing,
    /// This one failed; the next may not.
    Failed(io::Error),
    /// No descriptor or no memory for it: it stays in the backlog.
    Exhausted(io::Error),
}

impl Listener {
    /// Closes the socket, so that whoever comes now is refused at once.
    pub(crate) fn close(&mut self) {
        self.socket = None;
    }

    pub(crate) fn accept(&mut self) -> Accepted {
        let Some(socket) = &self.socket else { return Accepted::Nothing };
        match socket.accept() {
            Ok((stream, peer)) => Accepted::Stream(stream, peer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Accepted::Nothing,
            Err(error) if is_exhaustion(&error) => Accepted::Exhausted(error),
            Err(error) => Accepted::Failed(error),
        }
    }
}

/// Is it the process (EMFILE) or the system (ENFILE, ENOBUFS, ENOMEM) that has no room? Everything else that accept(2)
/// lists concerns the one connection: it was aborted, its network failed, a firewall forbade it.
fn is_exhaustion(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_listed = {
        // The numbers are the same on every Unix, but for ENOBUFS.
        const ENOMEM: i32 = 12;
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        const ENOBUFS: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 105 } else { 55 };
        matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
    };
    #[cfg(not(unix))]
    let is_listed = error.kind() == ErrorKind::OutOfMemory;
    is_listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn only_a_full_house_makes_a_listener_rest() {
        for (errno, rests) in [(24, true), (23, true), (12, true), (103, false), (71, false), (1, false), (113, false)] {
            assert_eq!(is_exhaustion(&io::Error::from_raw_os_error(errno)), rests, "errno {errno}");
        }
    }
}
