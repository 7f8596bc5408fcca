//! What a test does to a connection beside sending to it: a stop, a slow reader, a promise settled.

use std::net::SocketAddr;

use super::test_connection::TestConnection;
#[cfg(doc)]
use crate::{Notification, Protocol};

impl TestConnection {
    /// Drives the connection until it waits. Every other method does so itself. It is for what
    /// happens outside of the connection: a promise is fulfilled, or dropped.
    pub fn run(&mut self) {
        self.0.run();
    }

    /// Begins a graceful stop: [`is_stopping`](crate::Context::is_stopping) is true from now on,
    /// and a protocol that has asked for it is [notified](Notification::Stopping). Unlike in a
    /// reactor, an idle connection is not closed.
    pub fn begin_stop(&mut self) {
        self.0.begin_stop();
        self.0.run();
    }

    /// From now on, the peer takes `bytes` more bytes and no others: first of the output that
    /// waits, then of what is sent later. Drives the connection until it waits. Before the first
    /// call, the peer takes every byte, as after `peer_takes(usize::MAX)`.
    ///
    /// So a test sees what a slow peer does to a protocol: above
    /// [`HIGH_WATERMARK_BYTES`](crate::limits::HIGH_WATERMARK_BYTES) it gets no input,
    /// [`output_low`](Protocol::output_low) comes later, and the write timeout may pass.
    ///
    /// ```
    /// use std::time::Duration;
    /// use mio_reactor::limits::HIGH_WATERMARK_BYTES;
    /// use mio_reactor::{CloseReason, Echo, TestConnection};
    ///
    /// let mut echo = TestConnection::new(Echo::new());
    /// echo.peer_takes(0);
    /// echo.peer_sends(&[b'a'; HIGH_WATERMARK_BYTES]);
    /// echo.peer_sends(b"b"); // is not read while so much output waits
    /// echo.peer_takes(HIGH_WATERMARK_BYTES - 1);
    /// assert_eq!(echo.take_received().len(), HIGH_WATERMARK_BYTES - 1);
    /// echo.peer_takes(2);
    /// assert_eq!(echo.take_received(), b"ab");
    ///
    /// echo.peer_sends(b"c");
    /// echo.advance_clock(Duration::from_secs(30));
    /// assert_eq!(echo.close_reason(), Some(CloseReason::WriteTimeout));
    /// ```
    pub fn peer_takes(&mut self, bytes: usize) {
        self.0.transport.get_mut().window = bytes;
        self.0.note(false, bytes > 0, false);
        self.0.run();
    }

    /// Sets what [`Context::local_address`](crate::Context::local_address) returns from now on.
    /// Before, it is `None`.
    pub fn set_local_address(&mut self, address: Option<SocketAddr>) {
        self.0.transport.get_mut().local = address;
    }
}
