//! What a test does to a connection beside sending to it: a stop, a slow reader, a promise settled.

use std::net::SocketAddr;

use super::test_connection::TestConnection;
#[cfg(doc)]
use crate::Notification;

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

    /// Sets whether the peer takes the bytes that are sent to it. While it does not, they wait in
    /// the connection, as with a slow reader.
    pub fn set_peer_reads(&mut self, reads: bool) {
        self.0.transport.get_mut().is_full = !reads;
        self.0.note(false, reads, false);
        self.0.run();
    }

    /// Sets what [`Context::local_address`](crate::Context::local_address) returns from now on.
    /// Before, it is `None`.
    pub fn set_local_address(&mut self, address: Option<SocketAddr>) {
        self.0.transport.get_mut().local = address;
    }
}
