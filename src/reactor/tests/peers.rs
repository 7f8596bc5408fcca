//! Stream peers: each connects, sends, reads and leaves in its own way and at its own pace.
//!
//! What it expects to receive is a `ReplyCheck` (`traffic`), which fails the run at the first wrong
//! byte. A peer also fails the run if it is owed a reply and waits too long for it.

use super::traffic::ReplyCheck;
use super::*;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Actor;
use crate::testing::simulated::stream::PeerReceived;

/// How a stream peer leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerEnding {
    /// Sends its FIN after everything, and reads until the server's FIN.
    ShutDown,
    /// Closes when it has received everything that it expects.
    CloseWhenComplete,
    /// Reads until the server's FIN, and sends none before.
    ReadToFin,
    /// Closes in the middle, with replies unread.
    CloseEarly,
    /// Resets the connection in the middle.
    Reset,
    /// Stops in the middle without a FIN or a reset.
    Vanish,
}

impl PeerEnding {
    /// Returns whether the peer waits for every reply that it is owed.
    fn is_orderly(self) -> bool {
        use PeerEnding::{CloseWhenComplete, ReadToFin, ShutDown};
        matches!(self, ShutDown | CloseWhenComplete | ReadToFin)
    }
}

/// How a stream peer behaves: its sizes, its pace and its end.
#[derive(Clone, Debug)]
pub(super) struct PeerBehavior {
    pub(super) ending: PeerEnding,
    pub(super) send_bytes_max: usize,
    pub(super) read_bytes_max: usize,
    pub(super) delay_us_max: u64,
    /// How long it may still do nothing at all, in microseconds, in all its breaks together.
    pub(super) breaks_us: u64,
    pub(super) buffer_bytes: usize,
    /// How often an urgent mark follows what it sends, in thousandths.
    pub(super) urgent: u32,
}

pub(super) struct StreamPeer {
    pub(super) server: SocketAddr,
    pub(super) peer: SocketAddr,
    /// Everything that it sends.
    pub(super) output: Vec<u8>,
    pub(super) replies: Box<dyn ReplyCheck>,
    pub(super) behavior: PeerBehavior,
    pub(super) stream: Option<usize>,
    /// How much of `output` has been sent.
    pub(super) sent: usize,
    has_shut_down: bool,
    idle_us: u64,
    /// When it last sent or received something.
    active_us: u64,
    /// It leaves after so many bytes, if it leaves in the middle.
    leaves_after: usize,
}

impl StreamPeer {
    pub(super) fn new(
        kernel: &mut Kernel,
        server: SocketAddr,
        peer: SocketAddr,
        output: Vec<u8>,
        replies: Box<dyn ReplyCheck>,
        behavior: PeerBehavior,
    ) -> StreamPeer {
        let leaves_after = if behavior.ending.is_orderly() {
            usize::MAX
        } else {
            kernel.rng.usize(..=output.len())
        };
        StreamPeer {
            server,
            peer,
            output,
            replies,
            behavior,
            stream: None,
            sent: 0,
            has_shut_down: false,
            idle_us: 1000,
            active_us: 0,
            leaves_after,
        }
    }

    /// Sends the next bytes, and returns whether there were any.
    fn send(&mut self, kernel: &mut Kernel, stream: usize) -> bool {
        const ARRIVED_MAX: usize = 256 * 1024;
        let room = ARRIVED_MAX.saturating_sub(kernel.streams[stream].arrived.len());
        let end = self.output.len().min(self.leaves_after);
        let count_max = kernel.rng.usize(1..=self.behavior.send_bytes_max);
        let count = (end - self.sent).min(count_max).min(room);
        if count > 0 {
            kernel.peer_sends(stream, &self.output[self.sent..][..count]);
            self.sent += count;
            if kernel.chance(self.behavior.urgent) {
                kernel.peer_sends_urgent_mark(stream);
            }
        }
        count > 0
    }

    /// A peer that has sent everything and is owed a reply must not wait without cause. Without
    /// this check a forgotten connection would pass: its timeout has it driven once more, at the
    /// very end.
    fn check_reply_is_not_late(&self, kernel: &Kernel, stream: usize) {
        let is_owed = self.sent == self.output.len()
            && !self.replies.is_complete()
            && self.behavior.ending.is_orderly();
        let is_served = kernel.streams[stream].is_accepted
            && !kernel.streams[stream].was_faulted
            && !kernel.is_stopping;
        let wait_us = kernel.now_us() - self.active_us.max(kernel.streams[stream].moved_at_us);
        let wait_us_max = 4_000_000 + kernel.faults.descheduled_us_max * 100;
        assert!(
            !is_owed || !is_served || wait_us <= wait_us_max,
            "no reply for {wait_us} us: {}",
            self.describe_wait()
        );
    }
}

impl Actor for StreamPeer {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        let stream = match self.stream {
            Some(stream) => stream,
            None => {
                let stream =
                    kernel.peer_connects(self.peer, self.server, self.behavior.buffer_bytes)?;
                kernel.trace(|| {
                    format!("         {} is stream {stream}: {:?}", self.peer, self.behavior)
                });
                self.stream = Some(stream);
                stream
            }
        };
        let mut is_active = false;
        // In bursts: several sends at a time, and then none for a while.
        while kernel.rng.u8(..4) > 0 && self.send(kernel, stream) {
            is_active = true;
        }
        if self.sent >= self.leaves_after {
            match self.behavior.ending {
                PeerEnding::CloseEarly => kernel.peer_closes(stream),
                PeerEnding::Reset => kernel.fail(stream, errno::ECONNRESET),
                PeerEnding::Vanish
                | PeerEnding::ShutDown
                | PeerEnding::CloseWhenComplete
                | PeerEnding::ReadToFin => {}
            }
            return None;
        }
        if self.sent == self.output.len()
            && self.behavior.ending == PeerEnding::ShutDown
            && !self.has_shut_down
            && kernel.rng.bool()
        {
            self.has_shut_down = true;
            kernel.peer_shuts_down(stream);
        }
        if kernel.rng.u8(..4) > 0 {
            let count_max = kernel.rng.usize(1..=self.behavior.read_bytes_max);
            match kernel.peer_receives(stream, count_max) {
                PeerReceived::Bytes(bytes) => {
                    self.replies.check(&bytes, kernel.is_stopping);
                    is_active = true;
                }
                PeerReceived::WouldBlock => {}
                end @ (PeerReceived::Fin | PeerReceived::Reset) => {
                    let is_excused = kernel.is_stopping
                        || (kernel.memory_is_tight && end == PeerReceived::Reset)
                        || (kernel.streams[stream].was_starved && end == PeerReceived::Reset)
                        || kernel.streams[stream].was_faulted
                        || !self.behavior.ending.is_orderly();
                    let is_expected = end == PeerReceived::Fin && self.replies.is_complete();
                    assert!(
                        is_expected || is_excused,
                        "{} receives {end:?} too early: {}",
                        self.peer,
                        self.describe_wait()
                    );
                    kernel.peer_closes(stream);
                    return None;
                }
            }
            if self.behavior.ending == PeerEnding::CloseWhenComplete
                && self.sent == self.output.len()
                && self.replies.is_complete()
            {
                kernel.peer_closes(stream);
                return None;
            }
        }
        if self.behavior.breaks_us > 0 && kernel.chance(20) {
            self.active_us = kernel.now_us();
            let break_us = kernel.rng.u64(..=self.behavior.breaks_us.min(1_000_000));
            self.behavior.breaks_us -= break_us;
            return Some(break_us);
        }
        if is_active {
            self.active_us = kernel.now_us();
        }
        self.check_reply_is_not_late(kernel, stream);
        // A peer that only waits acts less often, so that the run is short.
        self.idle_us = if is_active { 1000 } else { (self.idle_us * 2).min(400_000) };
        Some(
            kernel.rng.u64(..=self.behavior.delay_us_max.min(self.idle_us * 10))
                + if is_active { 0 } else { self.idle_us / 2 },
        )
    }

    fn describe_wait(&self) -> String {
        let StreamPeer { peer, server, sent, output, behavior, stream, .. } = self;
        let ending = behavior.ending;
        format!(
            "{peer} at {server} (stream {stream:?}, {ending:?}) has sent {sent} of {} bytes, {}",
            output.len(),
            self.replies.describe_wait()
        )
    }
}
