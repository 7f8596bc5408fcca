//! A connection without a network, for testing a protocol.
//!
//! The protocol runs on the connection that the reactor uses, driven as the reactor drives it
//! (`src/testing/driver.rs`), over a transport that is two vectors.
//!
//! Invariant: each call returns when the connection waits, as it would in a reactor without other
//! sources.

use std::any::Any;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use super::driver::{Driver, TransportMut};
use super::recorded_effect::RecordedEffect;
use crate::limits::{Limits, READ_BYTES_MAX};
use crate::protocol::ident::{CloseReason, ConnectionId};
use crate::protocol::notification::Notification;
use crate::protocol::protocol::Protocol;

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
/// [`advance_clock`](TestConnection::advance_clock). The peer takes every byte at once
/// ([`set_peer_reads`](TestConnection::set_peer_reads)). Effects on other connections are recorded
/// ([`take_effects`](TestConnection::take_effects)). A panic of the protocol is not caught.
///
/// Neither `Send` nor `Sync`, as a reactor.
pub struct TestConnection(pub(super) Driver<MemoryTransport>);

impl fmt::Debug for TestConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestConnection")
            .field("received", &self.0.transport.borrow().sent.escape_ascii().to_string())
            .field("close_reason", &self.close_reason())
            .finish_non_exhaustive()
    }
}

/// A transport whose other end takes every byte at once.
#[derive(Default)]
pub(super) struct MemoryTransport {
    arrived: Vec<u8>,
    read: usize,
    has_fin: bool,
    sent: Vec<u8>,
    /// The peer takes no bytes.
    pub(super) is_full: bool,
    pub(super) local: Option<SocketAddr>,
}

impl TransportMut for MemoryTransport {
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
        if self.is_full {
            return Err(ErrorKind::WouldBlock.into());
        }
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
        TestConnection::with_limits(protocol, Limits::default())
    }

    /// The same, with these limits.
    pub fn with_limits(protocol: impl Protocol + 'static, limits: Limits) -> TestConnection {
        let transport = MemoryTransport::default();
        let mut driver = Driver::new(Box::new(protocol), transport, limits, READ_BYTES_MAX);
        driver.open();
        driver.run();
        TestConnection(driver)
    }

    /// Sends `bytes` from the peer, and drives the connection until it waits.
    pub fn peer_sends(&mut self, bytes: &[u8]) {
        self.0.transport.get_mut().arrived.extend_from_slice(bytes);
        self.0.note(!bytes.is_empty(), false, false);
        self.0.run();
    }

    /// Sends the peer's FIN, and drives the connection until it waits.
    pub fn peer_shuts_down(&mut self) {
        self.0.transport.get_mut().has_fin = true;
        self.0.note(true, true, true);
        self.0.run();
    }

    /// Advances the clock by `time`, in whole milliseconds. Each timer and timeout that is due on
    /// the way is acted on at its own time.
    pub fn advance_clock(&mut self, time: Duration) {
        self.0.advance_clock(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    /// Returns the id of another connection, for the protocol. Each call returns a new one.
    pub fn other_connection(&mut self) -> ConnectionId {
        ConnectionId { slot: 1, generation: self.0.effects.next_generation() }
    }

    /// Takes the effects on other connections that the protocol has queued since the last call, in
    /// order. Effects on its own connection are not among them: they have been applied.
    pub fn take_effects(&mut self) -> Vec<RecordedEffect> {
        std::mem::take(&mut self.0.recorded)
    }

    /// Notifies the protocol of `notification` about the connection `about`, and drives the
    /// connection until it waits.
    pub fn notify(&mut self, about: ConnectionId, notification: Notification) {
        self.0.notify(about, notification);
        self.0.run();
    }

    /// Sends the protocol `message`, as another connection or a task does, and drives the
    /// connection until it waits. A message that was taken from another test
    /// ([`take_messages`](TestConnection::take_messages)) arrives as it was sent.
    pub fn send_message(&mut self, message: Box<dyn Any>) {
        self.0.send_message(message);
        self.0.run();
    }

    /// Takes the messages to other connections that the protocol has sent since the last call, in
    /// order. ([`take_effects`](TestConnection::take_effects) does not return them.)
    pub fn take_messages(&mut self) -> Vec<(ConnectionId, Box<dyn Any>)> {
        std::mem::take(&mut self.0.recorded_messages)
    }

    /// Takes the bytes that the peer has received since the last call.
    pub fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0.transport.get_mut().sent)
    }

    /// Drops the bytes that the peer has received, and keeps the memory. For benchmarks.
    pub fn clear_received(&mut self) {
        self.0.transport.get_mut().sent.clear();
    }

    /// Returns why the connection has ended; `None` while it has not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.0.close_reason()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::Echo;
    #[cfg(feature = "http")]
    use crate::http::{protocol::Http, site::Site};
    use crate::limits::EFFECTS_BYTES_MAX;
    use crate::protocol::context::Context;
    use crate::protocol::effects::Command;
    use crate::protocol::protocol::{Advance, Next};

    #[cfg(feature = "http")]
    #[test]
    fn request_in_pieces_is_answered_and_the_connection_closes() {
        let mut http = TestConnection::new(Http::new(Site::new()));
        http.peer_sends(b"GET /plaintext HT");
        assert_eq!(http.take_received(), b"");
        http.peer_sends(b"TP/1.0\r\n\r\n");
        assert!(http.take_received().ends_with(b"\r\n\r\nHello, World!"));
        assert_eq!(http.close_reason(), Some(CloseReason::Finished));
    }

    #[cfg(feature = "http")]
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
                cx.connections().send_to(self.0, input);
                let own = cx.id();
                cx.connections().send_to(own, b"noted");
                Advance::consumed(input.len())
            }
            fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
                cx.connections().shutdown_write(self.0);
                Next::Pause
            }
            fn notified(
                &mut self,
                about: ConnectionId,
                notification: Notification,
                cx: &mut Context<'_>,
            ) -> Next {
                assert_eq!((about, notification), (self.0, Notification::Closed));
                let own = cx.id();
                cx.connections().shutdown_write(own);
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
            (vec![RecordedEffect::Command(other, Command::ShutdownWrite)], None)
        );
        relay.notify(other, Notification::Closed);
        assert_eq!(
            (relay.take_effects(), relay.close_reason()),
            (vec![], Some(CloseReason::Finished))
        );
    }

    /// A protocol of these functions.
    struct Calls {
        advance: fn(&mut Context<'_>) -> Next,
        notified: fn(Notification, &mut Context<'_>) -> Next,
        timer_expired: fn(&mut Context<'_>) -> Next,
    }

    impl Default for Calls {
        fn default() -> Calls {
            Calls {
                advance: |_| Next::Continue,
                notified: |_, _| Next::Unchanged,
                timer_expired: |_| Next::Close,
            }
        }
    }

    impl Protocol for Calls {
        fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
            Advance::consumed(input.len()).then((self.advance)(cx))
        }

        fn notified(
            &mut self,
            _: ConnectionId,
            notification: Notification,
            cx: &mut Context<'_>,
        ) -> Next {
            (self.notified)(notification, cx)
        }

        fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
            (self.timer_expired)(cx)
        }
    }

    const OTHER: ConnectionId = ConnectionId { slot: 1, generation: 9 };

    #[test]
    fn connection_is_notified_of_a_send_to_itself_that_fails() {
        let mut connection = TestConnection::new(Calls {
            advance: |cx| {
                let own = cx.id();
                cx.connections().shutdown_write(own);
                cx.connections().send_to(own, b"late");
                Next::Continue
            },
            notified: |notification, _| {
                assert_eq!(notification, Notification::Closed);
                Next::Abort
            },
            ..Calls::default()
        });
        connection.peer_sends(b"x");
        assert_eq!(connection.close_reason(), Some(CloseReason::Aborted));
    }

    #[test]
    fn all_effects_of_a_call_are_applied_before_a_notification() {
        let mut connection = TestConnection::new(Calls {
            advance: |cx| {
                cx.connections().send_to(OTHER, &vec![0; EFFECTS_BYTES_MAX + 1]);
                let own = cx.id();
                cx.connections().send_to(own, b"1");
                Next::Continue
            },
            notified: |notification, cx| {
                assert_eq!(notification, Notification::Rejected);
                cx.send(b"2");
                Next::Unchanged
            },
            ..Calls::default()
        });
        connection.peer_sends(b"x");
        assert_eq!(connection.take_received(), b"12");
    }

    #[test]
    fn effects_on_itself_after_its_end_are_dropped() {
        let mut connection = TestConnection::new(Calls {
            advance: |cx| {
                cx.monitor(cx.id());
                let own = cx.id();
                cx.connections().send_to(own, b"1");
                cx.connections().pause(own);
                cx.connections().close(OTHER);
                Next::Abort
            },
            ..Calls::default()
        });
        connection.peer_sends(b"x");
        assert_eq!(connection.take_effects(), [RecordedEffect::Command(OTHER, Command::Close)]);
        assert_eq!(connection.close_reason(), Some(CloseReason::Aborted));
    }

    #[test]
    fn close_without_linger_in_notified_ends_at_once() {
        // Nothing is unread, and no event has reported anything.
        let mut connection = TestConnection::new(Calls {
            notified: |_, _| Next::CloseWithoutLinger,
            ..Calls::default()
        });
        connection.notify(OTHER, Notification::Closed);
        assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
    }

    #[test]
    fn fin_behind_bytes_that_arrived_in_a_pause_is_found() {
        // No further event comes for it when the bytes are read.
        let mut connection = TestConnection::new(Calls {
            notified: |notification, _| {
                let is_above = notification == Notification::AboveHighWatermark;
                if is_above { Next::Pause } else { Next::Continue }
            },
            ..Calls::default()
        });
        connection.notify(OTHER, Notification::AboveHighWatermark);
        connection.peer_sends(b"x");
        connection.peer_shuts_down();
        assert_eq!(connection.close_reason(), None);
        connection.notify(OTHER, Notification::BelowLowWatermark);
        assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
    }

    #[test]
    fn idle_timeout_begins_when_the_wait_for_another_connection_ends() {
        for end in [Notification::BelowLowWatermark, Notification::Closed] {
            let mut connection = TestConnection::new(Calls {
                notified: |notification, _| {
                    let is_above = notification == Notification::AboveHighWatermark;
                    if is_above { Next::Pause } else { Next::Unchanged }
                },
                ..Calls::default()
            });
            connection.peer_sends(b"x");
            connection.notify(OTHER, Notification::AboveHighWatermark);
            connection.advance_clock(Duration::from_secs(600));
            connection.notify(OTHER, end);
            connection.advance_clock(Duration::from_millis(59_999));
            assert_eq!(connection.close_reason(), None, "{end:?}");
            connection.advance_clock(Duration::from_millis(1));
            assert_eq!(connection.close_reason(), Some(CloseReason::IdleTimeout), "{end:?}");
        }
    }

    #[test]
    fn timer_that_is_set_again_expires_at_each_of_its_times() {
        let tick = |cx: &mut Context<'_>| {
            cx.send(b".");
            cx.set_timer(Duration::from_secs(1));
            Next::Continue
        };
        let mut connection =
            TestConnection::new(Calls { advance: tick, timer_expired: tick, ..Calls::default() });
        connection.peer_sends(b"x");
        connection.advance_clock(Duration::from_millis(3_999));
        assert_eq!(connection.take_received(), b"....");
        connection.advance_clock(Duration::from_millis(1));
        assert_eq!(connection.take_received(), b".");
    }

    #[test]
    fn limits_of_a_test_are_those_of_the_connection() {
        let limits = Limits::default().with_first_byte_timeout(Duration::from_millis(5));
        let mut echo = TestConnection::with_limits(Echo::new(), limits);
        echo.advance_clock(Duration::from_millis(4));
        assert_eq!(echo.close_reason(), None);
        echo.advance_clock(Duration::from_millis(1));
        assert_eq!(echo.close_reason(), Some(CloseReason::FirstByteTimeout));
    }
}
