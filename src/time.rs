//! A moment, counted in milliseconds since the reactor was made.

use std::time::Duration;

/// A moment, in whole milliseconds since the reactor was made, for the first 34 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(u64);

impl Time {
    /// Later than every deadline: the largest number of five bytes.
    pub(crate) const NEVER: Time = Time((1 << 40) - 1);
    /// What is not before this counts as never: so one byte shows it ([`KeptTime::is_never`]).
    const END: u64 = 0xFF << 32;

    /// Returns the moment `since_start` after the reactor was made, rounded down to the
    /// millisecond.
    pub(crate) fn at(since_start: Duration) -> Time {
        let ms = since_start.as_secs().saturating_mul(1000);
        Time(0).plus_ms(ms).plus_ms(since_start.subsec_millis().into())
    }

    pub(crate) fn plus_ms(self, ms: u64) -> Time {
        let sum = self.0.saturating_add(ms);
        if sum < Time::END { Time(sum) } else { Time::NEVER }
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

/// A moment as each connection stores some: in five bytes, which need no alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptTime {
    low: [u8; 4],
    high: u8,
}

impl KeptTime {
    pub(crate) const NEVER: KeptTime = KeptTime { low: [u8::MAX; 4], high: u8::MAX };

    pub(crate) fn is_never(self) -> bool {
        self.high == u8::MAX
    }

    pub(crate) fn get(self) -> Time {
        Time(u64::from(self.high) << 32 | u64::from(u32::from_ne_bytes(self.low)))
    }
}

impl From<Time> for KeptTime {
    #[expect(clippy::cast_possible_truncation, reason = "a `Time` has five bytes")]
    fn from(time: Time) -> KeptTime {
        KeptTime { low: (time.0 as u32).to_ne_bytes(), high: (time.0 >> 32) as u8 }
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

    // pitfall: 232
    #[test]
    fn kept_time_is_the_same_for_34_years_and_then_never() {
        let last = Time::END - 1;
        for ms in [0, 1, u64::from(u32::MAX), 1 << 32, last] {
            let kept = KeptTime::from(at(ms));
            assert_eq!((kept.get(), kept.is_never()), (at(ms), false));
        }
        for time in [at(last).plus_ms(1), at(last).plus_ms(2), at(u64::MAX), Time::NEVER] {
            assert_eq!((time, KeptTime::from(time)), (Time::NEVER, KeptTime::NEVER));
        }
        assert_eq!((KeptTime::NEVER.get(), KeptTime::NEVER.is_never()), (Time::NEVER, true));
        assert!(at(last).since(at(0)) > Duration::from_secs(34 * 365 * 86_400));
    }

    #[test]
    fn time_neither_overflows_nor_goes_negative() {
        assert_eq!(Time::NEVER.plus_ms(1), Time::NEVER);
        assert_eq!(at(5).since(at(9)), Duration::ZERO);
        assert_eq!(at(9).since(at(5)), Duration::from_millis(4));
    }
}
