//! Time, as the loop sees it: read once a turn, passed on as an argument, counted in milliseconds.
//!
//! Deadlines depend on the monotonic clock alone. The wall clock, which people set and step, is
//! read for the HTTP date line (`src/http/date.rs`) and for nothing else.

use std::time::{Duration, Instant};

#[cfg(feature = "http")]
use crate::http::date::Date;
use crate::sys;

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

/// The clock, read once a turn. Everything in one turn happens at one moment.
pub(crate) struct Clock {
    /// When this turn began.
    pub(crate) now: Time,
    started: Instant,
    /// Before this moment `now`, which counts milliseconds, does not change.
    now_valid_until: Instant,
    #[cfg(feature = "http")]
    date: Date,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        let started = sys::now();
        Clock {
            now: Time::at(Duration::ZERO),
            started,
            now_valid_until: started,
            #[cfg(feature = "http")]
            date: Date::new(),
        }
    }

    /// Reads the monotonic clock.
    pub(crate) fn read(&mut self) {
        let now = sys::now();
        if now >= self.now_valid_until {
            self.now = Time::at(now.duration_since(self.started));
            let next_millisecond = self.now.plus_ms(1).since(Time::at(Duration::ZERO));
            self.now_valid_until = self.started + next_millisecond;
        }
    }

    /// Returns when the reactor was made: `now` counts from then.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn now_as_instant(&self) -> Instant {
        self.started + self.now.since(Time::at(Duration::ZERO))
    }

    /// Returns the moment of this turn as an HTTP date, 29 bytes (RFC 9110 section 5.6.7).
    #[cfg(feature = "http")]
    pub(crate) fn date(&mut self) -> &[u8; 29] {
        self.date.at(self.now)
    }
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
