//! How far a graceful stop is: running, draining until a deadline, or closed by force.
//!
//! ```text
//!             stop                      drain timeout
//!     Running ───► Draining { until } ───────────────► Forced { closed }
//! ```
//!
//! Every part of the loop that behaves differently during a stop asks here. A reactor has stopped
//! when it drains, or has drained, and no slot is left.

use crate::clock::Time;

/// How a reactor has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// All connections closed in order.
    Graceful,
    /// The drain timeout was over, and this many connections were closed by force.
    Forced(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopState {
    /// Nothing has asked for a stop.
    Running,
    /// What has begun may finish until `until`, and nothing new begins. The listeners accept what
    /// the backlogs held when the stop began, and `accepted` counts these connections.
    Draining { until: Time, accepted: u32 },
    /// The drain timeout was over. All that was left has ended, `closed` connections among it.
    Forced { closed: usize },
}

impl StopState {
    /// Returns whether a stop has begun.
    #[inline]
    pub(crate) fn is_stopping(self) -> bool {
        self != StopState::Running
    }

    /// Returns when all that is left is closed by force; [`Time::NEVER`] unless it drains.
    #[inline]
    pub(crate) fn deadline(self) -> Time {
        match self {
            StopState::Draining { until, .. } => until,
            StopState::Running | StopState::Forced { .. } => Time::NEVER,
        }
    }

    /// Counts a connection that was accepted.
    pub(crate) fn count_accepted(&mut self) {
        if let StopState::Draining { accepted, .. } = self {
            *accepted += 1;
        }
    }

    /// Returns whether more connections were accepted since the stop began than a backlog of this
    /// size can have held then. The others came later, and may be refused.
    pub(crate) fn has_accepted(self, backlog: u32) -> bool {
        matches!(self, StopState::Draining { accepted, .. } if accepted >= backlog)
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
