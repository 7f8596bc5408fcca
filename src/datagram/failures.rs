//! What a datagram socket does when a receive or a send fails: it counts, logs, and may wait.
//!
//! Invariant: an error that comes again and again costs a bounded number of calls and log lines.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use log::{debug, warn};

use super::socket::DatagramSocket;
use crate::limits::{DATAGRAM_RETRY_MS, STEP_COST_BYTES};
use crate::loop_state::LoopState;
use crate::overload_limits::{RECEIVE_FAILURES_MAX, SEND_WARNING_MS};
use crate::stream::readiness::Readiness;
use crate::sys::errno::{self, DatagramError, ReceiveDatagramError};
use crate::time::Time;

/// How many receives have failed in `DATAGRAM_RETRY_MS`, which are over at `until`.
pub(super) struct Failures {
    count: u32,
    until: Time,
}

impl Failures {
    pub(super) fn none() -> Failures {
        Failures { count: 0, until: Time::at(Duration::ZERO) }
    }
}

impl<T> DatagramSocket<T> {
    #[cold]
    pub(super) fn on_receive_failed(
        &mut self,
        error: io::Error,
        kind: ReceiveDatagramError,
        ready: &mut Readiness,
        state: &mut LoopState,
    ) {
        state.budget.charge(STEP_COST_BYTES);
        state.stats.datagram_errors += 1;
        debug!("udp {}: receive: {error}", self.address);
        self.failure = Some(error);
        let now = state.clock.now;
        if now >= self.failures.until {
            self.failures = Failures { count: 0, until: now.plus_ms(DATAGRAM_RETRY_MS) };
        }
        self.failures.count += 1;
        // The error of one datagram that comes again and again is no such error.
        if kind == ReceiveDatagramError::Failed || self.failures.count > RECEIVE_FAILURES_MAX {
            ready.set_readable(false); // until the retry or the next event: do not spin
            self.retry_at = now.plus_ms(DATAGRAM_RETRY_MS);
        }
    }
}

/// Returns whether the error of a send may be that of an earlier datagram.
#[cold]
pub(super) fn may_be_of_earlier_send(error: &io::Error) -> bool {
    errno::classify_send_datagram(error) == DatagramError::Unsendable
}

/// Logs that a datagram was not sent although neither it nor its recipient is to blame, in one line
/// at most in `SEND_WARNING_MS`.
#[cold]
pub(super) fn warn_of_sends(address: SocketAddr, error: &io::Error, state: &mut LoopState) {
    if state.clock.now >= state.next_send_warning_at {
        state.next_send_warning_at = state.clock.now.plus_ms(SEND_WARNING_MS);
        let unsent = state.stats.datagrams_unsent;
        warn!("udp {address}: send failed: {error} ({unsent} datagrams unsent so far)");
    }
}
