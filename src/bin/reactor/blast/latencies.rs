//! Latencies, recorded in one histogram for the whole run or in one for each interval of time.

use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError};

use super::limits::{LATENCY_DIGITS, LATENCY_NS_MAX};

/// Latencies, in nanoseconds.
pub(super) struct Latencies {
    started: Instant,
    started_wall_clock: SystemTime,
    /// The length of an interval. `None`: there is only one.
    interval: Option<Duration>,
    intervals: Vec<Interval>,
    /// A run of equal latencies that is not in the histogram yet: the latency, and how often.
    /// Replies that arrive together were mostly sent together, and are then recorded in one step.
    last_ns: u64,
    last_count: u64,
}

struct Interval {
    from: Instant,
    histogram: Histogram<u64>,
}

impl Latencies {
    pub(super) fn new(interval: Option<Duration>) -> Latencies {
        let now = Instant::now();
        let intervals = vec![Interval { from: now, histogram: empty_histogram() }];
        Latencies {
            started: now,
            started_wall_clock: SystemTime::now(),
            interval,
            intervals,
            last_ns: 0,
            last_count: 0,
        }
    }

    /// Marks `now` as the beginning of the load.
    pub(super) fn start(&mut self, now: Instant) {
        self.started = now;
        self.started_wall_clock = SystemTime::now();
        self.intervals[0].from = now;
    }

    /// Records a latency of `ns`, `count` times.
    #[inline]
    pub(super) fn record(&mut self, ns: u64, count: u64) {
        if ns != self.last_ns {
            self.flush();
            self.last_ns = ns;
        }
        self.last_count += count;
    }

    fn flush(&mut self) {
        if self.last_count > 0 {
            let current = self.intervals.last_mut().expect("there is one from the beginning");
            let count = std::mem::take(&mut self.last_count);
            current.histogram.saturating_record_n(self.last_ns, count);
        }
    }

    /// Begins another interval if the last one is over. Nothing is compressed or written before the
    /// end: that would take longer than what is measured.
    #[inline]
    pub(super) fn begin_interval_if_due(&mut self, now: Instant) {
        let from = self.intervals[self.intervals.len() - 1].from;
        if self.interval.is_some_and(|interval| now.duration_since(from) >= interval) {
            self.flush();
            self.intervals.push(Interval { from: now, histogram: empty_histogram() });
        }
    }

    /// Returns the histogram of the whole run.
    pub(super) fn total(&mut self) -> Histogram<u64> {
        self.flush();
        let mut total = empty_histogram();
        for interval in &self.intervals {
            total.add(&interval.histogram).expect("all have the same bounds");
        }
        total
    }

    /// Writes an interval log in version 2 of HdrHistogram's format. Its values are in nanoseconds.
    /// The maxima beside them, for human readers, are in milliseconds, as other tools for the
    /// format have them.
    pub(super) fn write_log(&mut self, to: &mut impl Write, server: &str) -> io::Result<()> {
        self.flush();
        let now = Instant::now();
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        builder.add_comment(&format!("[Latencies of {server} in nanoseconds, by reactor blast]"));
        builder.with_start_time(self.started_wall_clock).with_base_time(self.started_wall_clock);
        builder.with_max_value_divisor(1_000_000.0);
        let mut log = builder.begin_log_with(to, &mut serializer)?;
        for (number, interval) in self.intervals.iter().enumerate() {
            let until = self.intervals.get(number + 1).map_or(now, |next| next.from);
            let from = interval.from.duration_since(self.started);
            let written = log.write_histogram(
                &interval.histogram,
                from,
                until.duration_since(interval.from),
                None,
            );
            written.map_err(|error| match error {
                IntervalLogWriterError::IoError(error) => error,
                IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
            })?;
        }
        to.flush()
    }
}

pub(super) fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS).expect("the bounds are valid")
}
