//! What a turn lends to whoever is driven.
//!
//! One turn drives one source at a time, so what a source needs only while it works exists once: the clock's reading, the
//! output scratch, the date line, the counters. A connection at rest owns none of it.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use crate::deadline::Time;
use crate::effects::Effects;
use crate::limits::{
    Limits, OUTPUT_SCRATCH_BYTES, READ_BYTES_MAX, SOURCE_BYTES_PER_TURN_MAX, TURN_BYTES_MAX,
};
use crate::net;
use crate::stats::Stats;

/// So few can move a full budget each.
const SHARERS_FEW: u64 = TURN_BYTES_MAX / SOURCE_BYTES_PER_TURN_MAX;

pub(crate) struct LoopState {
    /// When this turn began. The clock is read once a turn, so all that happens in it happens at one moment.
    pub(crate) now: Time,
    /// The reactor has been asked to stop: answers under way are finished, nothing new begins.
    pub(crate) stopping: bool,
    /// Replies are appended here and leave with one send. Empty between drives.
    pub(crate) output: Vec<u8>,
    /// The budget of each connection, in bytes.
    pub(crate) bytes_each: u64,
    /// When so many bytes have been moved since the reactor was made, this turn has had its share.
    moved_max: u64,
    pub(crate) limits: Limits,
    pub(crate) stats: Stats,
    /// What connections want done to each other.
    pub(crate) effects: Effects,
    /// Where all datagram sockets of the reactor are bound. Who has one of these addresses is not answered by any of them.
    pub(crate) datagram_addresses: Vec<SocketAddr>,
    started: Instant,
    /// Until then `now`, which counts milliseconds, stays as it is.
    now_holds_until: Instant,
    date: Date,
}

impl LoopState {
    pub(crate) fn new(limits: Limits) -> LoopState {
        let started = net::now();
        LoopState {
            now: Time::at(std::time::Duration::ZERO),
            stopping: false,
            output: Vec::new(),
            bytes_each: SOURCE_BYTES_PER_TURN_MAX,
            moved_max: 0,
            limits: limits.at_least_one(),
            stats: Stats::default(),
            effects: Effects::default(),
            datagram_addresses: Vec::new(),
            started,
            now_holds_until: started,
            date: Date { text: [0; 29], fresh_until: Time::at(std::time::Duration::ZERO) },
        }
    }

    /// Divides what a turn may move among so many. Each may move a read at least; so of very many not all have their share, and
    /// the rest of them waits for the next turn.
    #[inline]
    pub(crate) fn share(&mut self, sources: usize) {
        self.moved_max = self.stats.bytes_moved() + TURN_BYTES_MAX;
        self.bytes_each = match sources as u64 {
            0..SHARERS_FEW => SOURCE_BYTES_PER_TURN_MAX,
            sources => (TURN_BYTES_MAX / sources).max(READ_BYTES_MAX as u64),
        };
    }

    /// Has as much been moved as a turn may move?
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.stats.bytes_moved() >= self.moved_max
    }

    /// Reads the clock.
    pub(crate) fn begin(&mut self) {
        let now = net::now();
        if now >= self.now_holds_until {
            self.now = Time::at(now.duration_since(self.started));
            self.now_holds_until =
                self.started + self.now.plus_ms(1).since(Time::at(std::time::Duration::ZERO));
        }
    }

    /// Empties the output scratch, and gives back what an unusually large reply took.
    #[inline]
    pub(crate) fn clear_output(&mut self) {
        if !self.output.is_empty() {
            self.output.clear();
            if self.output.capacity() > OUTPUT_SCRATCH_BYTES {
                self.output.shrink_to(OUTPUT_SCRATCH_BYTES);
            }
        }
    }

    /// When the reactor was made: `now` counts from there.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn now_as_instant(&self) -> Instant {
        self.started + self.now.since(Time::at(std::time::Duration::ZERO))
    }

    /// The moment of this turn as an HTTP date, 29 bytes (RFC 9110 section 5.6.7).
    pub(crate) fn date(&mut self) -> [u8; 29] {
        *self.date.at(self.now)
    }

    /// The output and the date.
    #[inline]
    pub(crate) fn compose(&mut self) -> (&mut Vec<u8>, &[u8; 29]) {
        (&mut self.output, self.date.at(self.now))
    }
}

/// The date line, formatted at most about once a second.
///
/// How long it stays fresh is measured on the monotonic clock, never by comparing wall-clock times: so a step of the wall
/// clock, back or forth, shows within a second.
struct Date {
    text: [u8; 29],
    fresh_until: Time,
}

impl Date {
    #[inline]
    fn at(&mut self, now: Time) -> &[u8; 29] {
        if now >= self.fresh_until {
            self.refresh(now, net::wall_clock());
        }
        &self.text
    }

    #[cold]
    fn refresh(&mut self, now: Time, wall_clock: SystemTime) {
        // Before 1970 there is no HTTP date to give; the epoch is then as good as any.
        let wall_clock = wall_clock.max(SystemTime::UNIX_EPOCH);
        let of_second = wall_clock
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_millis());
        self.text.copy_from_slice(httpdate::fmt_http_date(wall_clock).as_bytes());
        self.fresh_until = now.plus_ms(u64::from(1000 - of_second));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_turn_is_shared_among_many_and_nobody_has_less_than_a_read() {
        let mut turn = LoopState::new(Limits::default());
        for (sources, bytes_each) in [
            (0, SOURCE_BYTES_PER_TURN_MAX),
            (1, SOURCE_BYTES_PER_TURN_MAX),
            (32, SOURCE_BYTES_PER_TURN_MAX),
            (64, 128 * 1024),
            (100_000, READ_BYTES_MAX as u64),
        ] {
            turn.share(sources);
            assert_eq!(turn.bytes_each, bytes_each, "{sources}");
        }
    }

    #[test]
    fn the_date_has_29_bytes_and_follows_the_wall_clock_both_ways() {
        // RFC 9110 section 5.6.7.
        let mut date = Date { text: [0; 29], fresh_until: Time::at(Duration::ZERO) };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        date.refresh(
            Time::at(Duration::from_millis(5)),
            at(784_111_777) + Duration::from_millis(400),
        );
        assert_eq!(&date.text, b"Sun, 06 Nov 1994 08:49:37 GMT", "the RFC's own example");
        assert_eq!(
            date.fresh_until,
            Time::at(Duration::from_millis(605)),
            "until the second is over"
        );
        date.refresh(Time::at(Duration::from_millis(605)), at(784_108_177));
        assert_eq!(&date.text, b"Sun, 06 Nov 1994 07:49:37 GMT", "an hour back");
        date.refresh(Time::at(Duration::from_millis(1605)), at(1_772_323_199));
        assert_eq!(&date.text, b"Sat, 28 Feb 2026 23:59:59 GMT");
    }
}
