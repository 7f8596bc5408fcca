//! The limits as the loop reads them: in milliseconds, and with those of each listener.
//!
//! ```text
//!     connection ──► ListenerIndex ──► LoopLimits.of ──┬─ 0: the reactor's own limits
//!      (2 bytes)                                       └─ 1 …: a listener with options of its own
//! ```
//!
//! A connection has the index of its listener, not the listener's limits: the index takes two bytes
//! that would be padding otherwise. It is used where a deadline is computed, and where a connection
//! is accepted or freed. A connection whose deadline is not looked at does not touch the table.
//!
//! Invariant: an entry stays as long as the reactor, so an index is never stale. A listener's
//! connections may outlive it.

use std::io;
use std::time::Duration;

use crate::limits::Limits;
use crate::stream::listen_options::{ListenOptions, Timeout};
use crate::time::{Time, ms_rounded_up};

/// Whose limits a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerIndex(u16);

impl ListenerIndex {
    /// The limits of the reactor: of outbound connections, and of those from listeners without
    /// options of their own.
    pub(crate) const REACTOR: ListenerIndex = ListenerIndex(0);
}

pub(crate) struct LoopLimits {
    pub(crate) connect_ms: u64,
    pub(crate) linger_ms: u64,
    /// Never empty: the first entry has the reactor's own limits.
    entries: Vec<ListenerLimits>,
}

/// The limits of the connections of one listener. A timeout of `u64::MAX` never comes.
pub(crate) struct ListenerLimits {
    pub(crate) first_byte_ms: u64,
    pub(crate) idle_ms: u64,
    pub(crate) write_ms: u64,
    /// Most connections of this listener. For the reactor's own entry there is no such bound: the
    /// bound on all connections is checked beside it.
    pub(crate) connections_max: usize,
    /// Its connections that are open now. In the reactor's own entry they are not counted.
    connections: usize,
    /// Earliest time of the next eviction scan on its behalf: one scan costs O(slots).
    pub(crate) next_eviction_at: Time,
}

impl LoopLimits {
    pub(crate) fn new(limits: &Limits) -> LoopLimits {
        let own = ListenerLimits {
            first_byte_ms: ms_rounded_up(limits.first_byte_timeout),
            idle_ms: ms_rounded_up(limits.idle_timeout),
            write_ms: ms_rounded_up(limits.write_timeout),
            connections_max: usize::MAX,
            connections: 0,
            next_eviction_at: Time::at(Duration::ZERO),
        };
        LoopLimits {
            connect_ms: ms_rounded_up(limits.connect_timeout),
            linger_ms: ms_rounded_up(limits.linger_timeout),
            entries: vec![own],
        }
    }

    /// Adds the limits of a listener, unless its options leave them to the reactor.
    ///
    /// # Errors
    ///
    /// `QuotaExceeded` if 65,535 listeners have limits of their own already.
    pub(crate) fn add(&mut self, options: &ListenOptions) -> io::Result<ListenerIndex> {
        if !options.has_own_limits() {
            return Ok(ListenerIndex::REACTOR);
        }
        let too_many = |_| io::Error::from(io::ErrorKind::QuotaExceeded);
        let index = u16::try_from(self.entries.len()).map_err(too_many)?;
        let own = &self.entries[0];
        self.entries.push(ListenerLimits {
            first_byte_ms: options.first_byte_timeout.ms_or(own.first_byte_ms),
            idle_ms: options.idle_timeout.ms_or(own.idle_ms),
            write_ms: options.write_timeout.ms_or(own.write_ms),
            connections_max: options.connections_max.unwrap_or(usize::MAX).max(1),
            connections: 0,
            next_eviction_at: Time::at(Duration::ZERO),
        });
        Ok(ListenerIndex(index))
    }

    pub(crate) fn of(&self, listener: ListenerIndex) -> &ListenerLimits {
        &self.entries[usize::from(listener.0)]
    }

    pub(crate) fn of_mut(&mut self, listener: ListenerIndex) -> &mut ListenerLimits {
        &mut self.entries[usize::from(listener.0)]
    }

    /// Counts a connection of `listener`.
    pub(crate) fn on_accepted(&mut self, listener: ListenerIndex) {
        if listener != ListenerIndex::REACTOR {
            self.of_mut(listener).connections += 1;
        }
    }

    /// A connection of `listener` has ended.
    pub(crate) fn on_closed(&mut self, listener: ListenerIndex) {
        if listener != ListenerIndex::REACTOR {
            self.of_mut(listener).connections -= 1;
        }
    }
}

impl ListenerLimits {
    /// Returns whether the listener may have no further connection.
    pub(crate) fn is_full(&self) -> bool {
        self.connections >= self.connections_max
    }
}

impl Timeout {
    fn ms_or(self, inherited: u64) -> u64 {
        match self {
            Timeout::Inherit => inherited,
            Timeout::After(time) => ms_rounded_up(time.max(Duration::from_millis(1))),
            Timeout::Never => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_rounded_up_to_whole_milliseconds() {
        for (time, ms) in [
            (Duration::ZERO, 1),
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(1_500), 2),
            (Duration::from_secs(60), 60_000),
            (Duration::MAX, u64::MAX),
        ] {
            let limits = Limits::default().with_idle_timeout(time).at_least_one();
            let mut loop_limits = LoopLimits::new(&limits);
            assert_eq!(loop_limits.of(ListenerIndex::REACTOR).idle_ms, ms, "{time:?}");
            let options = ListenOptions::default().with_idle_timeout(time);
            let index = loop_limits.add(&options).unwrap();
            assert_eq!(loop_limits.of(index).idle_ms, ms, "{time:?} of a listener");
        }
    }

    #[test]
    fn listener_inherits_what_its_options_leave_open() {
        let limits = Limits::default().with_write_timeout(Duration::from_secs(7));
        let mut loop_limits = LoopLimits::new(&limits);
        assert_eq!(loop_limits.add(&ListenOptions::default()).unwrap(), ListenerIndex::REACTOR);
        let options = ListenOptions::default().with_first_byte_timeout(Timeout::Never);
        let index = loop_limits.add(&options).unwrap();
        let own = loop_limits.of(index);
        assert_eq!((own.first_byte_ms, own.idle_ms, own.write_ms), (u64::MAX, 60_000, 7_000));
    }

    #[test]
    fn listener_beyond_the_last_index_is_an_error() {
        let mut loop_limits = LoopLimits::new(&Limits::default());
        let options = ListenOptions::default().with_connections_max(1);
        for _ in 0..u16::MAX {
            loop_limits.add(&options).unwrap();
        }
        let error = loop_limits.add(&options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        assert_eq!(loop_limits.add(&ListenOptions::default()).unwrap(), ListenerIndex::REACTOR);
    }
}
