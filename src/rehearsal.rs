//! A conversation without a network, for testing a protocol.
//!
//! ```
//! use reactor::{Echo, Rehearsal};
//!
//! let mut echo = Rehearsal::of(Echo::new());
//! echo.peer_sends(b"Hello ");
//! echo.peer_sends(b"world");
//! assert_eq!(echo.peer_received(), b"Hello world");
//! echo.peer_finishes();
//! assert!(echo.ended().is_some());
//! ```
//!
//! The protocol is driven by the very connection that the reactor uses, over a wire that is two vectors, with a clock that
//! moves only when told. So messages in pieces, pauses, closing and deadlines are as they are in earnest. (The peer takes
//! everything at once, so that no output ever waits; and there are no other connections, so what is asked of them is not done.)

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::connection::{Connection, Outcome};
use crate::effects::{Effects, News};
use crate::limits::{Limits, READ_BYTES_MAX};
use crate::protocol::{CloseReason, ConnectionId, Peer, Protocol};
use crate::turn::Turn;
use crate::wire::{Ready, Wire};

/// One connection, and the peer at its other end, who is the test.
pub struct Rehearsal {
    /// `None` once it has ended.
    connection: Option<Connection>,
    wire: Memory,
    ready: Ready,
    scratch: Box<[u8]>,
    turn: Turn,
    ended: Option<CloseReason>,
}

/// A wire whose other end takes everything at once.
#[derive(Default)]
struct Memory {
    arrived: Vec<u8>,
    read: usize,
    peer_has_finished: bool,
    sent: Vec<u8>,
}

impl Wire for Memory {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let waiting = &self.arrived[self.read..];
        if waiting.is_empty() && !self.peer_has_finished {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = waiting.len().min(into.len());
        into[..count].copy_from_slice(&waiting[..count]);
        self.read += count;
        if self.read == self.arrived.len() {
            self.arrived.clear();
            self.read = 0;
        }
        Ok(count)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sent.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Rehearsal {
    /// A connection that has just been accepted, with the default limits.
    pub fn of(protocol: impl Protocol + 'static) -> Rehearsal {
        let mut turn = Turn::new(Limits::default());
        let id = ConnectionId { slot: 0, generation: 0 };
        let peer = Peer::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let mut connection = Connection::new(Box::new(protocol), id, peer, turn.now);
        let (mut wire, mut ready) = (Memory::default(), Ready::UNKNOWN);
        connection.open(&mut wire, &mut ready, &mut turn);
        let scratch = vec![0; READ_BYTES_MAX].into_boxed_slice();
        let mut rehearsal = Rehearsal { connection: Some(connection), wire, ready, scratch, turn, ended: None };
        rehearsal.drive();
        rehearsal
    }

    /// The peer sends `bytes`, and the protocol answers what it can.
    pub fn peer_sends(&mut self, bytes: &[u8]) {
        self.wire.arrived.extend_from_slice(bytes);
        self.drive();
    }

    /// The peer sends its FIN.
    pub fn peer_finishes(&mut self) {
        self.wire.peer_has_finished = true;
        self.drive();
    }

    /// Time passes, and who is late by then is dealt with.
    pub fn wait(&mut self, time: Duration) {
        self.turn.now = self.turn.now.plus_ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        if let Some(connection) = &mut self.connection {
            let outcome = connection.expire(&mut self.wire, &mut self.ready, &mut self.scratch, &mut self.turn);
            self.follow(outcome);
        }
    }

    /// The protocol is told `news` of another connection.
    pub fn tell(&mut self, about: ConnectionId, news: News) {
        if let Some(connection) = &mut self.connection {
            connection.hear_of(about, news, &mut self.wire, &mut self.ready, &mut self.turn);
            self.drive();
        }
    }

    /// Takes what the peer has received since this was last asked.
    pub fn peer_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.wire.sent)
    }

    /// Forgets what the peer has received, and keeps the memory. For benchmarks.
    pub fn peer_forgets(&mut self) {
        self.wire.sent.clear();
    }

    /// Why the connection has ended, if it has.
    pub fn ended(&self) -> Option<CloseReason> {
        self.ended
    }

    fn drive(&mut self) {
        self.ready.readable = true;
        if let Some(connection) = &mut self.connection {
            let outcome = connection.drive(&mut self.wire, &mut self.ready, &mut self.scratch, &mut self.turn);
            self.follow(outcome);
        }
    }

    fn follow(&mut self, outcome: Outcome) {
        self.turn.effects = Effects::default(); // there is nobody else here
        match outcome {
            Outcome::Blocked | Outcome::Idle => {}
            Outcome::Unfinished => self.drive(),
            Outcome::Ended(why) => {
                self.ended = Some(why);
                if let Some(mut connection) = self.connection.take() {
                    connection.tell_closed(why);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Http, Site};

    #[test]
    fn a_conversation_in_pieces_is_answered_and_ends() {
        let mut http = Rehearsal::of(Http::new(Site::new()));
        http.peer_sends(b"GET /plaintext HT");
        assert_eq!(http.peer_received(), b"");
        http.peer_sends(b"TP/1.0\r\n\r\n");
        assert!(http.peer_received().ends_with(b"\r\n\r\nHello, World!"));
        assert_eq!(http.ended(), Some(CloseReason::Finished));
    }

    #[test]
    fn time_passes_only_when_told() {
        let mut http = Rehearsal::of(Http::new(Site::new()));
        http.peer_sends(b"GET /");
        http.wait(Duration::from_millis(9_999));
        assert_eq!(http.peer_received(), b"");
        http.wait(Duration::from_millis(1));
        assert!(http.peer_received().starts_with(b"HTTP/1.0 408 "));
        assert_eq!(http.ended(), None, "it lingers");
        http.peer_finishes();
        assert_eq!(http.ended(), Some(CloseReason::Finished));
    }
}
