//! The state of a stop: running, beginning, draining until a deadline, or forced.
//!
//! ```text
//!             stop            all slots queued            drain timeout
//!     Running ───► Beginning ─────────────────► Draining ───────────────► Forced { closed }
//! ```
//!
//! Every part of the loop that behaves differently during a stop asks here. A reactor has stopped
//! once a stop has begun and no slot is left.

use std::time::Duration;

use crate::time::Time;
use crate::walk::Walk;

/// How a reactor has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// All connections closed gracefully.
    Graceful,
    /// The drain timeout has passed, and this many connections were closed by force. Those that
    /// still waited in a backlog are among them, and [`Stats::unaccepted`](crate::Stats) has their
    /// number alone. A datagram socket with replies that the kernel has not taken counts as one.
    Forced(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopState {
    /// Nothing has asked for a stop.
    Running,
    /// As `Draining`, while a walk queues all slots, a part in each turn: each source is read once
    /// more before it counts as idle. One that the walk has not come to does not count as idle.
    Beginning { until: Time, walk: Walk },
    /// What has begun may finish until `until`, and nothing new begins. Each listener accepts what
    /// its backlog held when the stop began.
    Draining { until: Time },
    /// The drain timeout has passed, and all that was left ends, some in each turn: `closed`
    /// connections were cut off. What is opened now ends with them.
    Forced { closed: usize, walk: Walk },
}

impl StopState {
    /// Returns whether a stop has begun.
    pub(crate) fn is_stopping(self) -> bool {
        self != StopState::Running
    }

    /// Returns whether the walk of a stop has come to this slot.
    pub(crate) fn has_queued(self, slot: usize) -> bool {
        match self {
            StopState::Beginning { walk, .. } => walk.has_passed(slot),
            StopState::Running => false,
            StopState::Draining { .. } | StopState::Forced { .. } => true,
        }
    }

    /// Returns when a stop has something to do by itself; [`Time::NEVER`] if nothing.
    /// `has_sources`: any slot is used.
    pub(crate) fn deadline(self, has_sources: bool) -> Time {
        match self {
            StopState::Draining { until } => until,
            // A walk goes on in each turn, and a forced stop waits for nothing that is open.
            StopState::Beginning { .. } => Time::at(Duration::ZERO),
            StopState::Forced { .. } if has_sources => Time::at(Duration::ZERO),
            StopState::Running | StopState::Forced { .. } => Time::NEVER,
        }
    }

    /// Returns whether all that is open is to be closed by force.
    pub(crate) fn must_force(self, now: Time) -> bool {
        match self {
            StopState::Running => false,
            StopState::Beginning { until, .. } | StopState::Draining { until } => until <= now,
            StopState::Forced { .. } => true,
        }
    }

    /// The state after this many connections have been closed by force.
    pub(crate) fn forced(self, closed: usize) -> StopState {
        let StopState::Forced { closed: before, walk } = self else {
            return StopState::Forced { closed, walk: Walk::default() };
        };
        StopState::Forced { closed: before + closed, walk }
    }

    /// Returns how the reactor has stopped, once it has.
    pub(crate) fn result(self) -> Stopped {
        match self {
            StopState::Running
            | StopState::Beginning { .. }
            | StopState::Draining { .. }
            | StopState::Forced { closed: 0, .. } => Stopped::Graceful,
            StopState::Forced { closed, .. } => Stopped::Forced(closed),
        }
    }
}
