//! How long a closed loop waits for a reply: the retransmission timeout of TCP (RFC 6298).
//!
//! ```text
//!     before any measurement     1 s                                        (2.1)
//!     from the first reply on    smoothed latency + 4 × its variation       (2.2, 2.3)
//!     each time that it is over  twice as long, until the next measurement  (5.5)
//! ```
//!
//! All clients measure one path, so they share one estimate. One message is measured at a time, so
//! once in each round trip (section 3): the gains of the two averages are made for that.
//!
//! Karn's algorithm forbids to measure a message that was sent twice, because its reply may be to
//! either. Here no number is sent twice: in place of a message that is awaited no longer, another
//! one is sent. So each reply can be measured, also one that comes after its time.
//!
//! Invariant: the patience exceeds the smoothed latency. So on a steady path of any length, once it
//! is measured, no message is replaced that is still under way.

use std::time::Duration;

use super::limits::{
    FIRST_PATIENCE_MS, PATIENCE_MARGIN_MS, PATIENCE_MS_MAX, REPLY_WAIT_MS, REPLY_WAIT_MS_MAX,
};

const NS_PER_MS: u64 = 1_000_000;

/// The patience of all clients. Times are in nanoseconds from the start of the load.
pub(super) struct Patience {
    latency: Option<Latency>,
    /// Only a message that was sent or due from then on is measured: the last measurement ended
    /// then.
    measure_from_ns: u64,
    /// For messages sent from `backed_off_at_ns` on.
    current_ns: u64,
    /// For messages sent before, as long as it was when they were sent.
    before_ns: u64,
    backed_off_at_ns: u64,
}

/// The latency of the path, in nanoseconds: SRTT and RTTVAR of RFC 6298.
#[derive(Clone, Copy)]
struct Latency {
    smoothed_ns: u64,
    variation_ns: u64,
}

impl Patience {
    pub(super) fn new() -> Patience {
        let first_ns = FIRST_PATIENCE_MS * NS_PER_MS;
        Patience {
            latency: None,
            measure_from_ns: 0,
            current_ns: first_ns,
            before_ns: first_ns,
            backed_off_at_ns: 0,
        }
    }

    /// Returns whether the reply to a message sent at `sent_ns` is to be measured.
    #[inline]
    pub(super) fn measures(&self, sent_ns: u64) -> bool {
        sent_ns >= self.measure_from_ns
    }

    /// Measures a reply that was received at `now_ns`. This undoes the doubling.
    #[inline(never)] // once in a round trip
    pub(super) fn measure(&mut self, sent_ns: u64, now_ns: u64) {
        let latency_ns = now_ns.saturating_sub(sent_ns).min(PATIENCE_MS_MAX * NS_PER_MS);
        let latency = match self.latency {
            None => Latency { smoothed_ns: latency_ns, variation_ns: latency_ns / 2 },
            Some(Latency { smoothed_ns, variation_ns }) => Latency {
                variation_ns: (3 * variation_ns + smoothed_ns.abs_diff(latency_ns)) / 4,
                smoothed_ns: (7 * smoothed_ns + latency_ns) / 8,
            },
        };
        self.latency = Some(latency);
        self.measure_from_ns = now_ns;
        self.current_ns = self.estimate_ns();
        self.backed_off_at_ns = 0;
    }

    /// Returns whether a message sent at `sent_ns` is awaited no longer.
    #[inline]
    pub(super) fn is_over(&self, sent_ns: u64, now_ns: u64) -> bool {
        let is_older = sent_ns < self.backed_off_at_ns;
        let patience_ns = if is_older { self.before_ns } else { self.current_ns };
        now_ns.saturating_sub(sent_ns) > patience_ns
    }

    /// Doubles the patience, because it is over for a message sent at `sent_ns`; once for all
    /// messages that were sent before the last doubling, because they are lost together.
    #[cold]
    pub(super) fn back_off(&mut self, sent_ns: u64, now_ns: u64) {
        if sent_ns >= self.backed_off_at_ns {
            self.before_ns = self.current_ns;
            self.current_ns = (2 * self.current_ns).min(PATIENCE_MS_MAX * NS_PER_MS);
            self.backed_off_at_ns = now_ns;
        }
    }

    /// Returns how long replies are awaited at the end.
    pub(super) fn reply_wait(&self) -> Duration {
        Duration::from_nanos(self.estimate_ns())
            .clamp(Duration::from_millis(REPLY_WAIT_MS), Duration::from_millis(REPLY_WAIT_MS_MAX))
    }

    /// Returns the patience as the last measurement has it, without any doubling.
    fn estimate_ns(&self) -> u64 {
        match self.latency {
            None => FIRST_PATIENCE_MS * NS_PER_MS,
            Some(Latency { smoothed_ns, variation_ns }) => {
                let margin_ns = (4 * variation_ns).max(PATIENCE_MARGIN_MS * NS_PER_MS);
                (smoothed_ns + margin_ns).min(PATIENCE_MS_MAX * NS_PER_MS)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = NS_PER_MS;

    /// Returns the patience after messages with these latencies, each sent when the reply to the
    /// one before was received. Returns the time, too.
    fn after(latencies_ms: &[u64]) -> (Patience, u64) {
        let (mut patience, mut now_ns) = (Patience::new(), 0);
        for latency_ms in latencies_ms {
            let sent_ns = now_ns;
            now_ns += latency_ms * MS;
            assert!(patience.measures(sent_ns));
            patience.measure(sent_ns, now_ns);
        }
        (patience, now_ns)
    }

    /// Checks how long a message that is sent now is awaited, in milliseconds.
    #[track_caller]
    fn check_waits(patience: &Patience, now_ns: u64, ms: u64) {
        assert!(!patience.is_over(now_ns, now_ns + ms * MS), "over before {ms} ms");
        assert!(patience.is_over(now_ns, now_ns + ms * MS + 1), "not over after {ms} ms");
    }

    #[test]
    fn patience_is_a_second_and_then_grows_with_the_path() {
        check_waits(&Patience::new(), 0, 1000);
        for (latencies_ms, ms) in [
            (&[300][..], 900),  // 300 + 4 × 150
            (&[300, 300], 750), // the variation shrinks by a quarter
            (&[300; 40], 400),  // the margin is left
            (&[0], 100),
            (&[5000], 15_000),
            (&[0, 800], 900),    // 800 / 8 + 4 × 800 / 4
            (&[40_000], 60_000), // the maximum
        ] {
            let (patience, now_ns) = after(latencies_ms);
            check_waits(&patience, now_ns, ms);
        }
    }

    #[test]
    fn patience_doubles_once_per_lost_window_until_a_reply_comes() {
        // Each window is two messages, sent 1 ms apart, and is lost whole.
        let (mut patience, mut sent_ns) = (Patience::new(), 0);
        for ms in [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000] {
            check_waits(&patience, sent_ns, ms);
            let now_ns = sent_ns + ms * MS + 1;
            patience.back_off(sent_ns, now_ns);
            assert!(!patience.is_over(sent_ns + MS, now_ns), "the second is as old 1 ms later");
            assert!(
                patience.is_over(sent_ns + MS, now_ns + MS),
                "it has the patience of the first"
            );
            patience.back_off(sent_ns + MS, now_ns + MS);
            sent_ns = now_ns + MS;
        }
        // The reply to a message that was given up is a measurement like any other.
        let (mut patience, sent_ns) = after(&[10; 100]);
        patience.back_off(sent_ns, sent_ns + 120 * MS);
        check_waits(&patience, sent_ns + 120 * MS, 220);
        patience.measure(sent_ns, sent_ns + 130 * MS);
        check_waits(&patience, sent_ns + 130 * MS, 145); // (7 × 10 + 130) / 8 + 4 × 120 / 4
    }

    #[test]
    fn one_message_is_measured_in_each_round_trip() {
        let (patience, now_ns) = after(&[300]);
        assert!(!patience.measures(now_ns - 1) && patience.measures(now_ns));
    }

    #[test]
    fn replies_are_awaited_at_the_end_as_long_as_the_path_asks_for() {
        for (latencies_ms, ms) in
            [(&[][..], 1000), (&[1], 1000), (&[2000], 6000), (&[50_000], 10_000)]
        {
            let (patience, _) = after(latencies_ms);
            assert_eq!(patience.reply_wait(), Duration::from_millis(ms), "{latencies_ms:?}");
        }
    }
}
