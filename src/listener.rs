//! Where connections come from.
//!
//! A listener accepts until the kernel has no more, its budget is spent, or the house is full. Nothing that a peer can bring
//! about ends it: one that has left again is skipped, and when descriptors or memory run out the listener rests until
//! one of our connections ends or a moment has passed. It neither spins nor dies. Only a socket that does not listen at all
//! is given up, and the reactor serves on with the others.

use std::io;
use std::net::SocketAddr;

use log::error;

use crate::deadline::Time;
use crate::errno::{self, AcceptError};
use crate::net::{TcpListener, TcpStream};
use crate::protocol::Protocol;

pub(crate) struct Listener {
    /// `None` once it is closed: at a stop, or because it is broken.
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
    /// The call was interrupted.
    Again,
    /// This one failed; the next may not.
    Lost(io::Error),
    /// No descriptor or no memory for it: it stays in the backlog.
    Exhausted(io::Error),
    /// The socket does not listen.
    Broken(io::Error),
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
            Err(error) => Accepted::from(error),
        }
    }

    /// It cannot be mended, and somebody must act; those whom others let in are served all the same.
    pub(crate) fn give_up(&mut self, why: &io::Error) {
        error!("{} does not listen any more, and is closed: {why}", self.address);
        self.close();
    }
}

impl From<io::Error> for Accepted {
    fn from(error: io::Error) -> Accepted {
        match errno::of_accept(&error) {
            AcceptError::NobodyThere => Accepted::Nothing,
            AcceptError::Again => Accepted::Again,
            AcceptError::Lost => Accepted::Lost(error),
            AcceptError::Exhausted => Accepted::Exhausted(error),
            AcceptError::Broken => Accepted::Broken(error),
        }
    }
}
