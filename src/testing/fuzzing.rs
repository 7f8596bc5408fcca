//! A connection over a scripted transport, for the fuzz targets in `tests/fuzz`.
//!
//! They are a crate of their own and see only what is public. Compiled with `--cfg fuzzing` only,
//! as cargo-fuzz does. It decides nothing: `src/testing/driver.rs` drives the connection.

use super::driver::Driver;
use crate::limits::Limits;
use crate::protocol::ident::CloseReason;
use crate::protocol::protocol::Protocol;
use crate::stream::connection::Connection;
pub use crate::stream::readiness::Transport;

/// One connection over a scripted transport.
pub struct ScriptedConnection<T>(Driver<T>);

impl<T: Transport> ScriptedConnection<T> {
    /// Makes a connection that has just been accepted and not been driven yet. One read returns at
    /// most `read_bytes`.
    pub fn new(
        protocol: impl Protocol + 'static,
        transport: T,
        limits: Limits,
        read_bytes: usize,
    ) -> ScriptedConnection<T> {
        let mut driver = Driver::new(Box::new(protocol), transport, limits, read_bytes);
        driver.open();
        ScriptedConnection(driver)
    }

    /// Returns the transport, to change what it does next.
    pub fn wire(&mut self) -> &mut T {
        &mut self.0.transport
    }

    /// Notes an event, as the loop does. `read_until_would_block`: it reports a FIN, an error or
    /// the urgent mark, so a short read proves nothing.
    pub fn note(&mut self, readable: bool, writable: bool, read_until_would_block: bool) {
        self.0.note(readable, writable, read_until_would_block);
    }

    /// Runs one turn, and returns whether the connection is unfinished.
    ///
    /// # Panics
    ///
    /// If the connection waits and could go on, or is unfinished and could not.
    pub fn turn(&mut self) -> bool {
        self.0.turn();
        self.0.has_work()
    }

    /// Moves the clock by `ms` milliseconds at once, as for a loop that is late, and runs one turn.
    /// Returns whether the connection is unfinished.
    pub fn wait(&mut self, ms: u64) -> bool {
        self.0.state.clock.now = self.0.state.clock.now.plus_ms(ms);
        self.turn()
    }

    /// Returns whether its deadline is due now, without a further event.
    pub fn is_due(&self) -> bool {
        let (limits, now) = (&self.0.state.limits, self.0.state.clock.now);
        self.0.connection.as_ref().is_some_and(|it| it.filing_time(limits, now) <= now)
    }

    /// Returns whether it would read more input.
    pub fn wants_read(&self) -> bool {
        self.0.connection.as_ref().is_some_and(Connection::wants_read)
    }

    /// Returns whether output waits.
    pub fn wants_write(&self) -> bool {
        self.0.connection.as_ref().is_some_and(Connection::wants_write)
    }

    /// Returns why it has ended; `None` while it has not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.0.close_reason()
    }
}
