//! What the loop lends to the source that it drives: clock, budgets, output scratch, counters.
//!
//! One source is driven at a time, so what a source needs only while it is driven exists once. An
//! idle connection owns none of it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::limits::{Limits, OUTPUT_SCRATCH_BYTES};
use crate::loop_limits::LoopLimits;
use crate::memory::Memory;
use crate::peers::Peers;
use crate::protocol::completions::Completions;
use crate::stats::Stats;
use crate::stop_state::StopState;
use crate::time::Time;
use crate::trace::Stage;

pub(crate) struct LoopState {
    /// What the loop is doing, as the trace log shows it: `Owner` while no turn is running.
    pub(crate) stage: Stage,
    pub(crate) clock: Clock,
    pub(crate) budget: Budget,
    pub(crate) stop: StopState,
    /// Replies are appended here and leave with one send. Empty between drives.
    pub(crate) output: Vec<u8>,
    /// What a protocol within a layer sends is appended here, before the layer encodes it. Empty
    /// between calls.
    pub(crate) unencoded: Vec<u8>,
    /// The call that pauses now is to be followed by `output_low` in any case: input waits in a
    /// layer.
    pub(crate) wants_output_low: bool,
    pub(crate) limits: Limits,
    pub(crate) loop_limits: LoopLimits,
    pub(crate) memory: Memory,
    pub(crate) peers: Peers,
    pub(crate) stats: Stats,
    /// Earliest time of the next log line about datagrams that cannot be sent.
    pub(crate) next_send_warning_at: Time,
    /// The addresses of the reactor's datagram sockets. No datagram from one of them is answered,
    /// or two sockets might answer each other for ever.
    pub(crate) datagram_addresses: Vec<SocketAddr>,
    /// What other threads send to connections; made when the first promise is.
    pub(crate) completions: Option<Completions>,
}

impl LoopState {
    pub(crate) fn new(limits: Limits) -> LoopState {
        let limits = limits.at_least_one();
        LoopState {
            stage: Stage::Owner,
            clock: Clock::new(),
            budget: Budget::new(),
            stop: StopState::Running,
            output: Vec::new(),
            unencoded: Vec::new(),
            wants_output_low: false,
            loop_limits: LoopLimits::new(&limits),
            memory: Memory::new(limits.memory_bytes_max),
            peers: Peers::default(),
            limits,
            stats: Stats::default(),
            next_send_warning_at: Time::at(Duration::ZERO),
            datagram_addresses: Vec::new(),
            completions: None,
        }
    }

    /// Empties the output scratch, and gives back the memory that an unusually large reply took.
    pub(crate) fn clear_output(&mut self) {
        if !self.output.is_empty() {
            self.output.clear();
            if self.output.capacity() > OUTPUT_SCRATCH_BYTES {
                self.output.shrink_to(OUTPUT_SCRATCH_BYTES);
            }
        }
    }

    /// Returns whether the call that is over has asked for `output_low`, and forgets it: the next
    /// call is another connection's.
    pub(crate) fn take_wants_output_low(&mut self) -> bool {
        std::mem::take(&mut self.wants_output_low)
    }

    /// Returns the output scratch, and the date to put into it.
    #[cfg(feature = "http")]
    pub(crate) fn compose(&mut self) -> (&mut Vec<u8>, &[u8; 29]) {
        (&mut self.output, self.clock.date())
    }
}
