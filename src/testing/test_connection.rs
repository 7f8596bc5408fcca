//! A connection without a network, for testing a protocol.
//!
//! The protocol runs on the connection that the reactor uses, over a transport that is two vectors.
//! Everything else that a reactor would do is done here: drive until blocked, expire, apply
//! effects.

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

/// A connection without a network, for testing a protocol. The test is its peer.
///
/// ```
/// use mio_reactor::{Echo, TestConnection};
///
/// let mut echo = TestConnection::new(Echo::new());
/// echo.peer_sends(b"Hello ");
/// echo.peer_sends(b"world");
/// assert_eq!(echo.take_received(), b"Hello world");
/// echo.peer_shuts_down();
/// assert!(echo.close_reason().is_some());
/// ```
///
/// The protocol runs on the connection that the reactor uses, so that messages in pieces, pauses,
/// closing and timeouts are the real ones. The clock moves only with
/// [`advance_clock`](TestConnection::advance_clock). The peer takes every byte at once, so output
/// never waits. Effects on other connections are recorded
/// ([`take_effects`](TestConnection::take_effects)).
pub struct TestConnection {
    /// `None` once it has ended.
    connection: Option<Connection>,
    transport: MemoryTransport,
    ready: Readiness,
    scratch: Box<[u8]>,
    state: LoopState,
    effects: Effects,
    recorded: Vec<RecordedEffect>,
    ended: Option<CloseReason>,
}

/// An effect of a protocol on another connection, named after the method of
/// [`Context`](crate::Context) that queues it.
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
    /// Converts `effect`, whose bytes are in `bytes`. `None`: a send that is rejected.
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
            Effect::Connect(connect) => RecordedEffect::Connect(connect.id, connect.address),
            Effect::ConnectDatagram(connect) => RecordedEffect::ConnectDatagram(connect.0),
        })
    }
}

/// A transport whose other end takes every byte at once.
#[derive(Default)]
struct MemoryTransport {
    arrived: Vec<u8>,
    read: usize,
    has_fin: bool,
    sent: Vec<u8>,
    local: Option<SocketAddr>,
}

impl Transport for MemoryTransport {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let waiting = &self.arrived[self.read..];
        if waiting.is_empty() && !self.has_fin {
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

    fn local_address(&self) -> Option<SocketAddr> {
        self.local
    }
}

impl TestConnection {
    /// Makes a connection that has just been accepted, with the default limits, and calls
    /// [`Protocol::opened`].
    pub fn new(protocol: impl Protocol + 'static) -> TestConnection {
        let mut state = LoopState::new(Limits::default());
        let id = ConnectionId { slot: 0, generation: 0 };
        let peer = Peer::Ip(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let mut connection = Connection::new(Box::new(protocol), id, peer, state.clock.now);
        let (mut transport, mut ready) = (MemoryTransport::default(), Readiness::UNKNOWN);
        let mut effects = Effects::default();
        connection.open(&mut transport, &mut ready, &mut state, &mut effects);
        let scratch = vec![0; READ_BYTES_MAX].into_boxed_slice();
        let mut test = TestConnection {
            connection: Some(connection),
            transport,
            ready,
            scratch,
            state,
            effects,
            recorded: Vec::new(),
            ended: None,
        };
        test.drive();
        test
    }

    /// Sends `bytes` from the peer, and drives the connection until it waits.
    pub fn peer_sends(&mut self, bytes: &[u8]) {
        self.transport.arrived.extend_from_slice(bytes);
        self.drive();
    }

    /// Sends the peer's FIN, and drives the connection until it waits.
    pub fn peer_shuts_down(&mut self) {
        self.transport.has_fin = true;
        self.drive();
    }

    /// Moves the clock by `time`, in whole milliseconds, and acts on a timer or timeout that is due
    /// then.
    pub fn advance_clock(&mut self, time: Duration) {
        self.state.clock.now =
            self.state.clock.now.plus_ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        if let Some(connection) = &mut self.connection {
            let outcome = connection.expire(
                &mut self.transport,
                &mut self.ready,
                &mut self.scratch,
                &mut self.state,
                &mut self.effects,
            );
            self.finish_drive(outcome);
        }
    }

    /// Sets what [`Context::local_address`](crate::Context::local_address) returns from now on.
    /// Before, it is `None`.
    pub fn set_local_address(&mut self, address: Option<SocketAddr>) {
        self.transport.local = address;
    }

    /// Returns the id of another connection, for the protocol. Each call returns a new one.
    pub fn other_connection(&mut self) -> ConnectionId {
        ConnectionId { slot: 1, generation: self.effects.next_generation() }
    }

    /// Takes the effects on other connections that the protocol has queued since the last call, in
    /// order. Effects on its own connection are not among them: they have been applied.
    pub fn take_effects(&mut self) -> Vec<RecordedEffect> {
        std::mem::take(&mut self.recorded)
    }

    /// Notifies the protocol of `notification` about the connection `about`.
    pub fn notify(&mut self, about: ConnectionId, notification: Notification) {
        if let Some(connection) = &mut self.connection {
            let to = connection.id();
            let ends_wait = notification == Notification::BelowLowWatermark;
            let pending = PendingNotification { to, about, notification, ends_wait };
            connection.deliver(
                &pending,
                &mut self.transport,
                &mut self.ready,
                &mut self.state,
                &mut self.effects,
            );
            self.drive();
        }
    }

    /// Takes the bytes that the peer has received since the last call.
    pub fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.transport.sent)
    }

    /// Drops the bytes that the peer has received, and keeps the memory. For benchmarks.
    pub fn clear_received(&mut self) {
        self.transport.sent.clear();
    }

    /// Returns why the connection has ended; `None` while it has not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.ended
    }

    fn drive(&mut self) {
        self.finish_drive(Outcome::Unfinished);
    }

    /// Drives the connection until it is blocked, and applies the effects on itself.
    fn finish_drive(&mut self, mut outcome: Outcome) {
        while let Some(connection) = &mut self.connection {
            if let Outcome::Ended(why) = outcome {
                connection.call_closed(why);
                (self.ended, self.connection) = (Some(why), None);
            }
            let has_applied = self.apply_effects();
            if outcome != Outcome::Unfinished && !has_applied {
                return;
            }
            if let Some(connection) = &mut self.connection {
                self.ready.readable = true;
                outcome = connection.drive(
                    &mut self.transport,
                    &mut self.ready,
                    &mut self.scratch,
                    &mut self.state,
                    &mut self.effects,
                );
            }
        }
    }

    /// Records the effects on others, and applies those on the connection itself. Returns whether
    /// there were any of the latter.
    fn apply_effects(&mut self) -> bool {
        let mut has_applied = false;
        let (transport, ready, state) = (&mut self.transport, &mut self.ready, &mut self.state);
        let (queued, bytes) =
            (std::mem::take(&mut self.effects.queued), std::mem::take(&mut self.effects.bytes));
        for (own, effect) in queued {
            has_applied |= match (effect, &mut self.connection) {
                (Effect::SendOverflow(id), Some(connection)) => {
                    let pending = PendingNotification {
                        to: own,
                        about: id,
                        notification: Notification::Rejected,
                        ends_wait: false,
                    };
                    connection.deliver(&pending, transport, ready, state, &mut self.effects);
                    true
                }
                (Effect::Send(id, range), Some(connection)) if id == own => {
                    connection.push_relayed(
                        &bytes[range],
                        transport,
                        ready,
                        state,
                        &mut self.effects,
                    );
                    true
                }
                (Effect::Command(id, command), Some(connection)) if id == own => {
                    connection.apply(command, transport, state);
                    true
                }
                (Effect::Abort(id), Some(connection)) if id == own => {
                    connection.abort();
                    true
                }
                (effect, _) => {
                    self.recorded.extend(RecordedEffect::from(effect, &bytes));
                    false
                }
            };
        }
        has_applied
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
    fn request_in_pieces_is_answered_and_the_connection_closes() {
        let mut http = TestConnection::new(Http::new(Site::new()));
        http.peer_sends(b"GET /plaintext HT");
        assert_eq!(http.take_received(), b"");
        http.peer_sends(b"TP/1.0\r\n\r\n");
        assert!(http.take_received().ends_with(b"\r\n\r\nHello, World!"));
        assert_eq!(http.close_reason(), Some(CloseReason::Finished));
    }

    #[test]
    fn clock_moves_only_with_advance_clock() {
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
    fn effects_on_others_are_recorded_and_effects_on_itself_are_applied() {
        // Relays its input to another connection, and closes when the other one does.
        struct RelayTo(ConnectionId);
        impl Protocol for RelayTo {
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
                notification: Notification,
                cx: &mut Context<'_>,
            ) -> Next {
                assert_eq!((about, notification), (self.0, Notification::Closed));
                cx.shutdown_write(cx.id());
                Next::Unchanged
            }
        }
        let mut ids = TestConnection::new(Echo::new());
        let (first, other) = (ids.other_connection(), ids.other_connection());
        assert_ne!(first, other);
        let mut relay = TestConnection::new(RelayTo(other));
        assert_eq!(relay.take_effects(), [RecordedEffect::Monitor(other)]);
        relay.peer_sends(b"ab");
        relay.peer_sends(b"c");
        assert_eq!(
            relay.take_effects(),
            [
                RecordedEffect::SendTo(other, b"ab".to_vec()),
                RecordedEffect::SendTo(other, b"c".to_vec())
            ]
        );
        assert_eq!(relay.take_received(), b"notednoted");
        relay.peer_shuts_down();
        assert_eq!(
            (relay.take_effects(), relay.close_reason()),
            (vec![RecordedEffect::ShutdownWrite(other)], None)
        );
        relay.notify(other, Notification::Closed);
        assert_eq!(
            (relay.take_effects(), relay.close_reason()),
            (vec![], Some(CloseReason::Finished))
        );
    }
}
