//! Time, as the loop sees it: read once a turn, passed on as an argument, counted in milliseconds.
//!
//! Deadlines depend on the monotonic clock alone. The wall clock, which people set and step, is
//! read for the HTTP date line (`src/http/date.rs`) and for nothing else.

use std::time::{Duration, Instant};

#[cfg(feature = "http")]
use crate::http::date::Date;
use crate::sys;
use crate::time::Time;

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
