//! The date of a response, formatted about once a second at most.
//!
//! Invariant: how long it is fresh is measured on the monotonic clock, never by comparing
//! wall-clock times. So a step of the wall clock, back or forth, shows within a second.

use std::time::{Duration, SystemTime};

use crate::sys;
use crate::time::Time;

/// The date of the present moment, as text.
pub(crate) struct Date {
    text: [u8; 29],
    fresh_until: Time,
}

impl Date {
    /// A date that is formatted when it is first asked for.
    pub(crate) fn new() -> Date {
        Date { text: [0; 29], fresh_until: Time::at(Duration::ZERO) }
    }

    /// Returns the date at `now`, 29 bytes.
    #[inline]
    pub(crate) fn at(&mut self, now: Time) -> &[u8; 29] {
        if now >= self.fresh_until {
            self.refresh(now, wall_clock());
        }
        &self.text
    }

    #[cold]
    fn refresh(&mut self, now: Time, wall_clock: SystemTime) {
        let since_epoch = wall_clock.duration_since(SystemTime::UNIX_EPOCH);
        let ms_of_second = since_epoch.map_or(0, |since| since.subsec_millis());
        self.text.copy_from_slice(httpdate::fmt_http_date(wall_clock).as_bytes());
        self.fresh_until = now.plus_ms(u64::from(1000 - ms_of_second));
    }
}

/// Reads the wall clock, as far as an HTTP date can show it: httpdate panics beyond.
pub(crate) fn wall_clock() -> SystemTime {
    representable(sys::wall_clock())
}

/// Returns `time`, or the next time that an HTTP date can show: of the years 1970 to 9999.
fn representable(time: SystemTime) -> SystemTime {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
    time.clamp(SystemTime::UNIX_EPOCH, last)
}

/// The last second of the year 9999, in seconds since 1970.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::at(Duration::from_millis(ms))
    }

    // pitfall: 60, 88
    // rule: date
    #[test]
    fn date_line_follows_wall_clock_both_ways() {
        // RFC 9110 section 5.6.7.
        let mut date = Date::new();
        let wall = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        date.refresh(at(5), wall(784_111_777) + Duration::from_millis(400));
        assert_eq!(&date.text, b"Sun, 06 Nov 1994 08:49:37 GMT", "the RFC's own example");
        assert_eq!(date.fresh_until, at(605), "until the second is over");
        date.refresh(at(605), wall(784_108_177));
        assert_eq!(&date.text, b"Sun, 06 Nov 1994 07:49:37 GMT", "an hour back");
        date.refresh(at(1605), wall(1_772_323_199));
        assert_eq!(&date.text, b"Sat, 28 Feb 2026 23:59:59 GMT");
    }

    #[test]
    fn date_of_a_clock_that_is_far_off_is_the_nearest_possible() {
        let mut date = Date::new();
        let seconds = Duration::from_secs;
        for (wall_clock, text) in [
            (SystemTime::UNIX_EPOCH - seconds(1), b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (SystemTime::UNIX_EPOCH + seconds(LAST_SECOND + 1), b"Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            date.refresh(at(0), representable(wall_clock));
            assert_eq!(&date.text, text);
        }
    }
}
