//! The state of a stop: running, draining until a deadline, or forced.
//!
//! ```text
//!             stop                      drain timeout
//!     Running ───► Draining { until } ───────────────► Forced { closed }
//! ```
//!
//! Every part of the loop that behaves differently during a stop asks here. A reactor has stopped
//! once it is draining or forced and no slot is left.

use crate::time::Time;

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
    /// What has begun may finish until `until`, and nothing new begins. Each listener accepts what
    /// its backlog held when the stop began.
    Draining { until: Time },
    /// The drain timeout has passed, and all that was left has ended: `closed` connections were cut
    /// off. What is opened now ends at once.
    Forced { closed: usize },
}

impl StopState {
    /// Returns whether a stop has begun.
    pub(crate) fn is_stopping(self) -> bool {
        self != StopState::Running
    }

    /// Returns when a drain ends; [`Time::NEVER`] unless there is one.
    pub(crate) fn deadline(self) -> Time {
        match self {
            StopState::Draining { until } => until,
            StopState::Running | StopState::Forced { .. } => Time::NEVER,
        }
    }

    /// Returns whether all that is open is to be closed by force.
    pub(crate) fn must_force(self, now: Time) -> bool {
        match self {
            StopState::Running => false,
            StopState::Draining { until } => until <= now,
            StopState::Forced { .. } => true,
        }
    }

    /// The state after this many connections have been closed by force.
    pub(crate) fn forced(self, closed: usize) -> StopState {
        let StopState::Forced { closed: before } = self else {
            return StopState::Forced { closed };
        };
        StopState::Forced { closed: before + closed }
    }

    /// Returns how the reactor has stopped, once it has.
    pub(crate) fn result(self) -> Stopped {
        match self {
            StopState::Running | StopState::Draining { .. } | StopState::Forced { closed: 0 } => {
                Stopped::Graceful
            }
            StopState::Forced { closed } => Stopped::Forced(closed),
        }
    }
}
