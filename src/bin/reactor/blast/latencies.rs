//! How long replies took: a histogram for all, or one for each interval of time.

use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError};

use super::limits::{LATENCY_DIGITS, LATENCY_NS_MAX};

/// Latencies, in nanoseconds.
pub(super) struct Latencies {
    started: Instant,
    started_on_the_wall: SystemTime,
    /// How long an interval is; `None`: there is only one.
    interval: Option<Duration>,
    intervals: Vec<Interval>,
    /// The latency recorded last, and how often it was: replies that come together were mostly sent together, and are then put down
    /// in one go.
    last_ns: u64,
    times: u64,
}

struct Interval {
    from: Instant,
    histogram: Histogram<u64>,
}

impl Latencies {
    pub(super) fn new(interval: Option<Duration>) -> Latencies {
        let now = Instant::now();
        let intervals = vec![Interval { from: now, histogram: empty() }];
        Latencies {
            started: now,
            started_on_the_wall: SystemTime::now(),
            interval,
            intervals,
            last_ns: 0,
            times: 0,
        }
    }

    /// The load begins now.
    pub(super) fn start(&mut self, now: Instant) {
        self.started = now;
        self.started_on_the_wall = SystemTime::now();
        self.intervals[0].from = now;
    }

    /// So many of them took `ns`.
    #[inline]
    pub(super) fn record(&mut self, ns: u64, times: u64) {
        if ns != self.last_ns {
            self.flush();
            self.last_ns = ns;
        }
        self.times += times;
    }

    fn flush(&mut self) {
        if self.times > 0 {
            let current = self.intervals.last_mut().expect("there is one from the beginning");
            current.histogram.saturating_record_n(self.last_ns, std::mem::take(&mut self.times));
        }
    }

    /// Begins another interval if the last one is over. Nothing is compressed or written before the end, for that would take
    /// longer than what is measured.
    #[inline]
    pub(super) fn begin_interval_if_due(&mut self, now: Instant) {
        let from = self.intervals[self.intervals.len() - 1].from;
        if self.interval.is_some_and(|interval| now.duration_since(from) >= interval) {
            self.flush();
            self.intervals.push(Interval { from: now, histogram: empty() });
        }
    }

    /// All of them together.
    pub(super) fn total(&mut self) -> Histogram<u64> {
        self.flush();
        let mut total = empty();
        for interval in &self.intervals {
            total.add(&interval.histogram).expect("all have the same bounds");
        }
        total
    }

    /// Writes an interval log in version 2 of HdrHistogram's format, with values in nanoseconds and the maxima that are there
    /// for the eye in milliseconds, as all tools for it have them.
    pub(super) fn write_log(&mut self, to: &mut impl Write, of: &str) -> io::Result<()> {
        self.flush();
        let now = Instant::now();
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        builder.add_comment(&format!("[Latencies of {of} in nanoseconds, by reactor blast]"));
        builder.with_start_time(self.started_on_the_wall).with_base_time(self.started_on_the_wall);
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

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS).expect("the bounds make sense")
}
