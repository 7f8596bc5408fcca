//! A conversation without a network, for testing a protocol.
//!
//! ```
//! use mio_reactor::{Echo, TestConnection};
//!
//! let mut echo = TestConnection::new(Echo::new());
//! echo.peer_sends(b"Hello ");
//! echo.peer_sends(b"world");
//! assert_eq!(echo.take_received(), b"Hello world");
//! echo.peer_shuts_down();
//! assert!(echo.close_reason().is_some());
//! ```
//!
//! The protocol is driven by the very connection that the reactor uses, over a wire that is two vectors, with a clock that
//! moves only when told. So messages in pieces, pauses, closing and deadlines are as they are in earnest. The peer takes
//! everything at once, so that no output ever waits. There are no other connections: what is asked of them is written down for
//! the test ([`TestConnection::take_effects`]), which can tell the protocol what came of it ([`TestConnection::notify`]).

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::limits::{Limits, READ_BYTES_MAX};
use crate::loop_state::LoopState;
use crate::protocol::effects::{Command, Effect, Effects};
use crate::protocol::ident::{CloseReason, ConnectionId, Peer};
use crate::protocol::notification::{Notification, PendingNotification};
use crate::protocol::outcome::Outcome;
use crate::protocol::protocol::Protocol;
use crate::stream::connection::Connection;
use crate::stream::readiness::{Readiness, Transport};

/// One connection, and the peer at its other end, who is the test.
pub struct TestConnection {
    /// `None` once it has ended.
    connection: Option<Connection>,
    wire: MemoryTransport,
    ready: Readiness,
    scratch: Box<[u8]>,
    state: LoopState,
    effects: Effects,
    asked: Vec<RecordedEffect>,
    ended: Option<CloseReason>,
}

/// What a protocol has asked to be done to another connection, by the call of [`Context`](crate::Context) that asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum RecordedEffect {
    SendTo(ConnectionId, Vec<u8>),
    Close(ConnectionId),
    ShutdownWrite(ConnectionId),
    Abort(ConnectionId),
    Pause(ConnectionId),
    Resume(ConnectionId),
    Monitor(ConnectionId),
    Connect(ConnectionId, SocketAddr),
    ConnectDatagram(SocketAddr),
}

impl RecordedEffect {
    /// What `effect` asks for, whose bytes are among these. `None`: it has been refused.
    fn from(effect: Effect, bytes: &[u8]) -> Option<RecordedEffect> {
        Some(match effect {
            Effect::Send(id, range) => RecordedEffect::SendTo(id, bytes[range].to_vec()),
            Effect::SendOverflow(_) => return None,
            Effect::Command(id, Command::Close) => RecordedEffect::Close(id),
            Effect::Command(id, Command::ShutdownWrite) => RecordedEffect::ShutdownWrite(id),
            Effect::Command(id, Command::Pause) => RecordedEffect::Pause(id),
            Effect::Command(id, Command::Resume) => RecordedEffect::Resume(id),
            Effect::Abort(id) => RecordedEffect::Abort(id),
            Effect::Monitor(id) => RecordedEffect::Monitor(id),
            Effect::Connect(call) => RecordedEffect::Connect(call.id, call.address),
            Effect::ConnectDatagram(call) => RecordedEffect::ConnectDatagram(call.0),
        })
    }
}

/// A wire whose other end takes everything at once.
#[derive(Default)]
struct MemoryTransport {
    arrived: Vec<u8>,
    read: usize,
    peer_has_finished: bool,
    sent: Vec<u8>,
}

impl Transport for MemoryTransport {
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

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TestConnection {
    /// A connection that has just been accepted, with the default limits.
    pub fn new(protocol: impl Protocol + 'static) -> TestConnection {
        let mut state = LoopState::new(Limits::default());
        let id = ConnectionId { slot: 0, generation: 0 };
        let peer = Peer::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let mut connection = Connection::new(Box::new(protocol), id, peer, state.clock.now);
        let (mut wire, mut ready) = (MemoryTransport::default(), Readiness::UNKNOWN);
        let mut effects = Effects::default();
        connection.open(&mut wire, &mut ready, &mut state, &mut effects);
        let scratch = vec![0; READ_BYTES_MAX].into_boxed_slice();
        let mut rehearsal = TestConnection {
            connection: Some(connection),
            wire,
            ready,
            scratch,
            state,
            effects,
            asked: Vec::new(),
            ended: None,
        };
        rehearsal.drive();
        rehearsal
    }

    /// The peer sends `bytes`, and the protocol answers what it can.
    pub fn peer_sends(&mut self, bytes: &[u8]) {
        self.wire.arrived.extend_from_slice(bytes);
        self.drive();
    }

    /// The peer sends its FIN.
    pub fn peer_shuts_down(&mut self) {
        self.wire.peer_has_finished = true;
        self.drive();
    }

    /// Time passes, and who is late by then is dealt with.
    pub fn advance_clock(&mut self, time: Duration) {
        self.state.clock.now =
            self.state.clock.now.plus_ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        if let Some(connection) = &mut self.connection {
            let outcome = connection.expire(
                &mut self.wire,
                &mut self.ready,
                &mut self.scratch,
                &mut self.state,
                &mut self.effects,
            );
            self.follow(outcome);
        }
    }

    /// The name of another connection, to be given to the protocol. Never the same twice.
    pub fn other_connection(&mut self) -> ConnectionId {
        ConnectionId { slot: 1, generation: self.effects.next_generation() }
    }

    /// Takes what the protocol has asked to be done to others since this was last asked, in its order. What it has asked to be
    /// done to its own connection has been done.
    pub fn take_effects(&mut self) -> Vec<RecordedEffect> {
        std::mem::take(&mut self.asked)
    }

    /// The protocol is told `notification` of another connection.
    pub fn notify(&mut self, about: ConnectionId, news: Notification) {
        if let Some(connection) = &mut self.connection {
            let to = connection.id();
            let ends_wait = news == Notification::BelowLowWatermark;
            let tiding = PendingNotification { to, about, notification: news, ends_wait };
            connection.deliver(
                &tiding,
                &mut self.wire,
                &mut self.ready,
                &mut self.state,
                &mut self.effects,
            );
            self.drive();
        }
    }

    /// Takes what the peer has received since this was last asked.
    pub fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.wire.sent)
    }

    /// Forgets what the peer has received, and keeps the memory. For benchmarks.
    pub fn clear_received(&mut self) {
        self.wire.sent.clear();
    }

    /// Why the connection has ended, if it has.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.ended
    }

    fn drive(&mut self) {
        self.follow(Outcome::Unfinished);
    }

    /// Goes on until there is nothing more to do.
    fn follow(&mut self, mut outcome: Outcome) {
        while let Some(connection) = &mut self.connection {
            if let Outcome::Ended(why) = outcome {
                connection.call_closed(why);
                (self.ended, self.connection) = (Some(why), None);
            }
            let has_changed_itself = self.apply_effects();
            if outcome != Outcome::Unfinished && !has_changed_itself {
                return;
            }
            if let Some(connection) = &mut self.connection {
                self.ready.readable = true;
                outcome = connection.drive(
                    &mut self.wire,
                    &mut self.ready,
                    &mut self.scratch,
                    &mut self.state,
                    &mut self.effects,
                );
            }
        }
    }

    /// Writes down what was asked to be done to others, and does what was asked to be done to itself. Says whether that was
    /// anything.
    fn apply_effects(&mut self) -> bool {
        let mut has_changed_itself = false;
        let (wire, ready, state) = (&mut self.wire, &mut self.ready, &mut self.state);
        let (queued, bytes) =
            (std::mem::take(&mut self.effects.queued), std::mem::take(&mut self.effects.bytes));
        for (own, effect) in queued {
            has_changed_itself |= match (effect, &mut self.connection) {
                (Effect::SendOverflow(id), Some(connection)) => {
                    let tiding = PendingNotification {
                        to: own,
                        about: id,
                        notification: Notification::Rejected,
                        ends_wait: false,
                    };
                    connection.deliver(&tiding, wire, ready, state, &mut self.effects);
                    true
                }
                (Effect::Send(id, range), Some(connection)) if id == own => {
                    connection.push_relayed(&bytes[range], wire, ready, state, &mut self.effects);
                    true
                }
                (Effect::Command(id, wish), Some(connection)) if id == own => {
                    connection.apply(wish, wire, state);
                    true
                }
                (Effect::Abort(id), Some(connection)) if id == own => {
                    connection.abort();
                    true
                }
                (effect, _) => {
                    self.asked.extend(RecordedEffect::from(effect, &bytes));
                    false
                }
            };
        }
        has_changed_itself
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::Echo;
    use crate::http::protocol::Http;
    use crate::http::site::Site;
    use crate::protocol::context::Context;
    use crate::protocol::protocol::{Advance, Next};

    #[test]
    fn a_conversation_in_pieces_is_answered_and_ends() {
        let mut http = TestConnection::new(Http::new(Site::new()));
        http.peer_sends(b"GET /plaintext HT");
        assert_eq!(http.take_received(), b"");
        http.peer_sends(b"TP/1.0\r\n\r\n");
        assert!(http.take_received().ends_with(b"\r\n\r\nHello, World!"));
        assert_eq!(http.close_reason(), Some(CloseReason::Finished));
    }

    #[test]
    fn time_passes_only_when_told() {
        let mut http = TestConnection::new(Http::new(Site::new()));
        http.peer_sends(b"GET /");
        http.advance_clock(Duration::from_millis(9_999));
        assert_eq!(http.take_received(), b"");
        http.advance_clock(Duration::from_millis(1));
        assert!(http.take_received().starts_with(b"HTTP/1.0 408 "));
        assert_eq!(http.close_reason(), None, "it lingers");
        http.peer_shuts_down();
        assert_eq!(http.close_reason(), Some(CloseReason::Finished));
    }

    #[test]
    fn what_is_asked_of_others_is_written_down_and_what_is_asked_of_itself_is_done() {
        // Hands on what it hears, and ends as the other does.
        struct Half(ConnectionId);
        impl Protocol for Half {
            fn opened(&mut self, cx: &mut Context<'_>) -> Next {
                cx.monitor(self.0);
                Next::Continue
            }
            fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
                cx.send_to(self.0, input);
                cx.send_to(cx.id(), b"noted");
                Advance::consumed(input.len())
            }
            fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
                cx.shutdown_write(self.0);
                Next::Pause
            }
            fn notified(
                &mut self,
                about: ConnectionId,
                news: Notification,
                cx: &mut Context<'_>,
            ) -> Next {
                assert_eq!((about, news), (self.0, Notification::Closed));
                cx.shutdown_write(cx.id());
                Next::Unchanged
            }
        }
        let mut names = TestConnection::new(Echo::new());
        let (first, other) = (names.other_connection(), names.other_connection());
        assert_ne!(first, other);
        let mut half = TestConnection::new(Half(other));
        assert_eq!(half.take_effects(), [RecordedEffect::Monitor(other)]);
        half.peer_sends(b"ab");
        half.peer_sends(b"c");
        assert_eq!(
            half.take_effects(),
            [
                RecordedEffect::SendTo(other, b"ab".to_vec()),
                RecordedEffect::SendTo(other, b"c".to_vec())
            ]
        );
        assert_eq!(half.take_received(), b"notednoted");
        half.peer_shuts_down();
        assert_eq!(
            (half.take_effects(), half.close_reason()),
            (vec![RecordedEffect::ShutdownWrite(other)], None)
        );
        half.notify(other, Notification::Closed);
        assert_eq!(
            (half.take_effects(), half.close_reason()),
            (vec![], Some(CloseReason::Finished))
        );
    }
}
