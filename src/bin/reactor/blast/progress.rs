//! The progress bar, shown while the load runs if standard error is a terminal.
//!
//! Invariant: it never waits for the terminal. One that is stopped (Ctrl-S), or whose network
//! connection hangs, would stop the load. So nothing is drawn unless poll(2) reports room.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::load::Load;
use super::report;

/// The bar, and how many replies there were when it was drawn last.
pub(super) struct Progress {
    bar: ProgressBar,
    received: u64,
}

impl Progress {
    pub(super) fn new(duration: Duration) -> Progress {
        let length = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        // Each change draws a visible bar, so it is hidden until all is set.
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{bar:30} {elapsed} of {prefix}  {msg}")
            .expect("the template is well-formed");
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(format!("{} s", duration.as_secs_f64()));
        bar.set_draw_target(ProgressDrawTarget::stderr());
        Progress { bar, received: 0 }
    }

    pub(super) fn show(&mut self, load: &Load, elapsed: Duration, since_last: Duration) {
        if self.bar.is_hidden() || !has_room() {
            return;
        }
        let received = load.counts.received;
        let rate = (received - std::mem::replace(&mut self.received, received)) as f64
            / since_last.as_secs_f64();
        self.bar.set_message(format!("{} replies a second", report::grouped(rate.round())));
        // Each of the two draws the bar.
        if has_room() {
            self.bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        }
    }
}

impl Drop for Progress {
    /// Removes the bar, if the terminal takes that.
    fn drop(&mut self) {
        if !has_room() {
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        self.bar.finish_and_clear();
    }
}

/// Returns whether the terminal takes a line now.
#[cfg(unix)]
fn has_room() -> bool {
    crate::log_writer::has_room(&std::io::stderr())
}

/// Without poll(2), a terminal that takes nothing stops the load.
#[cfg(not(unix))]
fn has_room() -> bool {
    true
}
