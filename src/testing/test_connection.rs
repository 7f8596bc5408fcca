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
/// [`advance_clock`](TestConnection::advance_clock). The peer takes every byte at once, so output
/// never waits, unless the test says otherwise ([`peer_takes`](TestConnection::peer_takes)).
/// Effects on other connections are recorded ([`take_effects`](TestConnection::take_effects)). A
/// panic of the protocol is not caught.
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

/// A transport whose other end takes as many bytes as the test says.
pub(super) struct MemoryTransport {
    arrived: Vec<u8>,
    read: usize,
    has_fin: bool,
    sent: Vec<u8>,
    /// How many more bytes the peer takes.
    pub(super) window: usize,
    /// Our FIN is sent.
    has_shut_down: bool,
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
        if self.has_shut_down {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.window == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(self.window);
        self.window -= count;
        self.sent.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.has_shut_down = true;
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
        let transport = MemoryTransport {
            arrived: Vec::new(),
            read: 0,
            has_fin: false,
            sent: Vec::new(),
            window: usize::MAX,
            has_shut_down: false,
            local: None,
        };
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
mod tests;
