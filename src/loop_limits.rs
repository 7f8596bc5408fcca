//! The limits as the loop reads them: in milliseconds, and with those of each listener.
//!
//! ```text
//!     connection ──► ListenerIndex ──► LoopLimits.of ──┬─ 0: the reactor's own limits
//!      (2 bytes)                                       └─ 1 …: its listener's
//! ```
//!
//! A connection has the index of its listener, not the listener's limits: the index takes two bytes
//! that would be padding otherwise. It is used where a deadline is computed, and where a connection
//! is accepted or freed. A connection whose deadline is not looked at does not touch the table.
//!
//! Each listener is guaranteed a minimum of connections, so that the clients of one cannot keep out
//! those of the others:
//!
//! ```text
//!     all connections   │ minimum of A │ minimum of B │ shared by A, B and outbound connections │
//!                         25 of 200      25 of 200      150
//! ```
//!
//! A listener below its minimum accepts. Above it, it accepts only while what is free is more than
//! what the others' minimums still reserve.
//!
//! Invariant: an entry stays as long as the reactor, so an index is never stale. A listener's
//! connections may outlive it.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::limits::Limits;
use crate::overload_limits::LISTENERS_MINIMUM_DIVISOR;
use crate::stream::listen_options::{ListenOptions, Timeout};
use crate::time::{Time, ms_rounded_up};
use crate::walk::Walk;

/// Whose limits a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerIndex(u16);

impl ListenerIndex {
    /// The limits of the reactor: those of connections that no listener has accepted.
    pub(crate) const REACTOR: ListenerIndex = ListenerIndex(0);

    /// The index of the listener that was opened after so many others.
    #[cfg(test)]
    pub(crate) fn of_nth_listener(others: u16) -> ListenerIndex {
        ListenerIndex(1 + others)
    }

    /// Its place among the entries.
    pub(crate) fn place(self) -> usize {
        usize::from(self.0)
    }
}

pub(crate) struct LoopLimits {
    pub(crate) connect_ms: u64,
    pub(crate) linger_ms: u64,
    /// Never empty: the first entry has the reactor's own limits.
    entries: Vec<ListenerLimits>,
    /// Most connections, of all listeners and outbound.
    connections_max: usize,
    /// How many connections the descriptors of the process are enough for.
    descriptors_max: usize,
    /// How many connections the listeners below their minimum are still guaranteed.
    reserved: usize,
}

/// A bound that keeps a listener from accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptBound {
    /// So many connections of all.
    Reactor(usize),
    /// So many connections of its own.
    Listener(usize),
    /// What is left of so many connections is reserved for other listeners.
    Reserved(usize, usize),
    /// The same, of so many connections that the descriptors are enough for.
    ReservedDescriptors(usize, usize),
}

impl fmt::Display for AcceptBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcceptBound::Reactor(max) => write!(f, "connections_max ({max}) reached"),
            AcceptBound::Listener(max) => write!(f, "its connections_max ({max}) reached"),
            AcceptBound::Reserved(max, reserved) => {
                write!(f, "connections_max ({max}) reached, less {reserved} for other listeners")
            }
            AcceptBound::ReservedDescriptors(max, reserved) => {
                write!(f, "descriptors for {max} connections, less {reserved} for other listeners")
            }
        }
    }
}

/// The limits of the connections of one listener. A timeout of `u64::MAX` never comes.
pub(crate) struct ListenerLimits {
    pub(crate) first_byte_ms: u64,
    pub(crate) idle_ms: u64,
    pub(crate) write_ms: u64,
    /// Most connections of this listener. For the reactor's own entry there is no such bound: the
    /// bound on all connections is checked beside it.
    connections_max: usize,
    /// Connections that it can always have. The reactor's own entry has none.
    connections_min: usize,
    /// The same, as its options say.
    own_min: Option<usize>,
    /// It has not been closed.
    listens: bool,
    /// Its connections that are open now. In the reactor's own entry they are not counted.
    connections: usize,
    /// Earliest time of the next eviction scan on its behalf, and where that goes on.
    pub(crate) next_eviction_at: Time,
    pub(crate) eviction_walk: Walk,
    /// Where lingering connections are looked for during a stop.
    pub(crate) lingering_walk: Walk,
}

impl LoopLimits {
    pub(crate) fn new(limits: &Limits) -> LoopLimits {
        let own = ListenerLimits {
            first_byte_ms: ms_rounded_up(limits.first_byte_timeout),
            idle_ms: ms_rounded_up(limits.idle_timeout),
            write_ms: ms_rounded_up(limits.write_timeout),
            connections_max: usize::MAX,
            connections_min: 0,
            own_min: Some(0),
            connections: 0,
            listens: false,
            next_eviction_at: Time::at(Duration::ZERO),
            eviction_walk: Walk::default(),
            lingering_walk: Walk::default(),
        };
        LoopLimits {
            connect_ms: ms_rounded_up(limits.connect_timeout),
            linger_ms: ms_rounded_up(limits.linger_timeout),
            entries: vec![own],
            connections_max: limits.connections_max,
            descriptors_max: usize::MAX,
            reserved: 0,
        }
    }

    /// Adds the limits of a listener. The descriptors are enough for `descriptors_max` connections.
    ///
    /// # Errors
    ///
    /// `QuotaExceeded` if there have been 65,535 listeners already.
    pub(crate) fn add(
        &mut self,
        options: &ListenOptions,
        descriptors_max: usize,
    ) -> io::Result<ListenerIndex> {
        let too_many = |_| io::Error::from(io::ErrorKind::QuotaExceeded);
        let index = u16::try_from(self.entries.len()).map_err(too_many)?;
        let own = &self.entries[0];
        self.entries.push(ListenerLimits {
            first_byte_ms: options.first_byte_timeout.ms_or(own.first_byte_ms),
            idle_ms: options.idle_timeout.ms_or(own.idle_ms),
            write_ms: options.write_timeout.ms_or(own.write_ms),
            connections_max: options.connections_max.unwrap_or(usize::MAX).max(1),
            connections_min: 0,
            own_min: options.connections_min,
            connections: 0,
            listens: true,
            next_eviction_at: Time::at(Duration::ZERO),
            eviction_walk: Walk::default(),
            lingering_walk: Walk::default(),
        });
        self.descriptors_max = descriptors_max;
        self.set_minimums();
        Ok(ListenerIndex(index))
    }

    /// A listener has been closed: it needs no minimum any more.
    pub(crate) fn on_listener_closed(&mut self, listener: ListenerIndex) {
        self.of_mut(listener).listens = false;
        self.set_minimums();
    }

    /// Sets each listener's minimum: what its options say, or an equal share of a quarter of all
    /// connections. Those of listeners that were opened first come first, if there are not as many
    /// connections.
    fn set_minimums(&mut self) {
        let mut left = self.connections_max.min(self.descriptors_max);
        let listening = self.entries.iter().filter(|entry| entry.listens);
        let (listeners, sharing) = listening.fold((0, 0), |(all, sharing), entry| {
            (all + 1, sharing + usize::from(entry.own_min.is_none()))
        });
        // One at least, if one that is shared is left then.
        let least = usize::from(listeners < left);
        let share = (left / LISTENERS_MINIMUM_DIVISOR / sharing.max(1)).max(least);
        for entry in &mut self.entries {
            let wanted = if entry.listens { entry.own_min.unwrap_or(share) } else { 0 };
            entry.connections_min = wanted.min(entry.connections_max).min(left);
            left -= entry.connections_min;
        }
        self.reserved = self.entries.iter().map(ListenerLimits::reserved).sum();
    }

    pub(crate) fn of(&self, listener: ListenerIndex) -> &ListenerLimits {
        &self.entries[listener.place()]
    }

    pub(crate) fn of_mut(&mut self, listener: ListenerIndex) -> &mut ListenerLimits {
        &mut self.entries[listener.place()]
    }

    /// Returns how many more connections `listener` may have, at least one, while `open`
    /// connections and datagram clients are open.
    ///
    /// # Errors
    ///
    /// The bound that is reached.
    pub(crate) fn room(&self, listener: ListenerIndex, open: usize) -> Result<usize, AcceptBound> {
        let (own, reserved) = (self.of(listener), self.reserved);
        if open >= self.connections_max {
            return Err(AcceptBound::Reactor(self.connections_max));
        }
        if own.is_full() {
            return Err(AcceptBound::Listener(own.connections_max));
        }
        let most = (self.connections_max - open).min(own.connections_max - own.connections);
        if own.reserved() > 0 {
            Ok(most.min(own.reserved()))
        } else if reserved == 0 {
            Ok(most)
        } else if open + reserved >= self.connections_max {
            Err(AcceptBound::Reserved(self.connections_max, reserved))
        } else if open + reserved >= self.descriptors_max {
            Err(AcceptBound::ReservedDescriptors(self.descriptors_max, reserved))
        } else {
            let all = self.connections_max.min(self.descriptors_max);
            Ok(most.min(all - open - reserved))
        }
    }

    /// Returns for each listener how many connections it has above its minimum, by index: so many
    /// can be evicted for another. Those that no listener has accepted have no minimum.
    pub(crate) fn above_minimum(&self) -> Vec<usize> {
        let above =
            |entry: &ListenerLimits| entry.connections.saturating_sub(entry.connections_min);
        let mut above: Vec<usize> = self.entries.iter().map(above).collect();
        above[0] = usize::MAX;
        above
    }

    /// Counts a connection of `listener`.
    pub(crate) fn on_accepted(&mut self, listener: ListenerIndex) {
        if listener != ListenerIndex::REACTOR {
            self.reserved -= usize::from(self.of(listener).reserved() > 0);
            self.of_mut(listener).connections += 1;
        }
    }

    /// A connection of `listener` has ended.
    pub(crate) fn on_closed(&mut self, listener: ListenerIndex) {
        if listener != ListenerIndex::REACTOR {
            self.of_mut(listener).connections -= 1;
            self.reserved += usize::from(self.of(listener).reserved() > 0);
        }
    }
}

impl ListenerLimits {
    /// Returns whether the listener may have no further connection.
    pub(crate) fn is_full(&self) -> bool {
        self.connections >= self.connections_max
    }

    /// How many more connections it is guaranteed.
    fn reserved(&self) -> usize {
        self.connections_min.saturating_sub(self.connections)
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
            let index = loop_limits.add(&options, usize::MAX).unwrap();
            assert_eq!(loop_limits.of(index).idle_ms, ms, "{time:?} of a listener");
        }
    }

    #[test]
    fn listener_inherits_what_its_options_leave_open() {
        let limits = Limits::default().with_write_timeout(Duration::from_secs(7));
        let mut loop_limits = LoopLimits::new(&limits);
        let options = ListenOptions::default().with_first_byte_timeout(Timeout::Never);
        let index = loop_limits.add(&options, usize::MAX).unwrap();
        let own = loop_limits.of(index);
        assert_eq!((own.first_byte_ms, own.idle_ms, own.write_ms), (u64::MAX, 60_000, 7_000));
    }

    #[test]
    fn listener_beyond_the_last_index_is_an_error() {
        let mut loop_limits = LoopLimits::new(&Limits::default());
        let entry = || LoopLimits::new(&Limits::default()).entries.remove(0);
        loop_limits.entries.extend((1..u16::MAX).map(|_| entry()));
        loop_limits.add(&ListenOptions::default(), usize::MAX).unwrap();
        let error = loop_limits.add(&ListenOptions::default(), usize::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    }
}
