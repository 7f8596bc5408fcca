//! What only the fuzz targets in `tests/fuzz` need of the driver.
//!
//! They are a crate of their own and see only what is public. Compiled with `--cfg fuzzing` only,
//! as cargo-fuzz does. It decides nothing.

pub use super::driver::{Driver, TransportMut};
use crate::stream::connection::Connection;

impl<T: TransportMut> Driver<T> {
    /// Moves the clock by `ms` milliseconds at once, as for a loop that is late, and runs one turn.
    /// Returns whether there is more work to do without an event.
    pub fn wait(&mut self, ms: u64) -> bool {
        self.state.clock.now = self.state.clock.now.plus_ms(ms);
        self.turn()
    }

    /// Returns whether a deadline of the connection is due now.
    pub fn is_due(&self) -> bool {
        let now = self.state.clock.now;
        self.connection
            .as_ref()
            .is_some_and(|it| it.filing_time(&self.state.loop_limits, now) <= now)
    }

    /// Returns whether the connection would read more input.
    pub fn wants_read(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::wants_read)
    }

    /// Returns whether output waits.
    pub fn wants_write(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::wants_write)
    }
}
