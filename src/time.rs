//! A moment, counted in milliseconds since the reactor was made.

use std::time::Duration;

/// A moment, in whole milliseconds since the reactor was made. It has half the size of an
/// `Instant`, which matters because every connection stores some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(u64);

impl Time {
    /// Later than every deadline.
    pub(crate) const NEVER: Time = Time(u64::MAX);

    /// Returns the moment `since_start` after the reactor was made, rounded down to the
    /// millisecond.
    pub(crate) fn at(since_start: Duration) -> Time {
        Time(since_start.as_secs() * 1000 + u64::from(since_start.subsec_millis()))
    }

    pub(crate) fn plus_ms(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms))
    }

    /// Returns the moment that is `later` than this one, rounded up to the millisecond.
    pub(crate) fn plus(self, later: Duration) -> Time {
        self.plus_ms(ms_rounded_up(later))
    }

    /// Returns the time from `earlier` to this moment; zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Returns `time` in milliseconds, rounded up. What is longer than 584 million years counts as
/// `u64::MAX`, which is never.
pub(crate) fn ms_rounded_up(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::at(Duration::from_millis(ms))
    }

    #[test]
    fn time_neither_overflows_nor_goes_negative() {
        assert_eq!(Time::NEVER.plus_ms(1), Time::NEVER);
        assert_eq!(at(5).since(at(9)), Duration::ZERO);
        assert_eq!(at(9).since(at(5)), Duration::from_millis(4));
    }
}
