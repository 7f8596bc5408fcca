//! The stream peers in the simulated world.

use super::expectations::Ear;
use super::*;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Actor;
use crate::testing::simulated::stream::PeerReceived;

/// How a peer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Sends its FIN behind all it has to say, and hears until the server's.
    Finish,
    /// Closes when it has heard all.
    CloseWhenContent,
    /// Hears until the server's FIN.
    HearOut,
    /// Closes in the middle of it, whatever it has not heard.
    CloseEarly,
    /// Resets the connection in the middle of it.
    Reset,
    /// Is never heard of again.
    Vanish,
}

impl Farewell {
    fn is_polite(self) -> bool {
        matches!(self, Farewell::Finish | Farewell::CloseWhenContent | Farewell::HearOut)
    }
}

/// A peer's habits.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) farewell: Farewell,
    pub(super) piece_max: usize,
    pub(super) hear_max: usize,
    pub(super) delay_us_max: u64,
    /// How long it may do nothing, all in all.
    pub(super) naps_us: u64,
    pub(super) buffer_bytes: usize,
    /// How often a piece comes behind an urgent mark, in a thousand.
    pub(super) urgent: u32,
}

pub(super) struct Talker {
    pub(super) server: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) says: Vec<u8>,
    pub(super) ear: Box<dyn Ear>,
    pub(super) manner: Manner,
    pub(super) stream: Option<usize>,
    pub(super) said: usize,
    has_shut_down: bool,
    idle_us: u64,
    /// When it last said or heard something.
    active_us: u64,
    /// It goes, or does not finish, after so many bytes.
    leaves_after: usize,
}

impl Talker {
    pub(super) fn new(
        kernel: &mut Kernel,
        server: SocketAddr,
        peer: SocketAddr,
        says: Vec<u8>,
        ear: Box<dyn Ear>,
        manner: Manner,
    ) -> Talker {
        let leaves_after =
            if manner.farewell.is_polite() { usize::MAX } else { kernel.rng.usize(..=says.len()) };
        Talker {
            server,
            peer,
            says,
            ear,
            manner,
            stream: None,
            said: 0,
            has_shut_down: false,
            idle_us: 1000,
            active_us: 0,
            leaves_after,
        }
    }

    fn say(&mut self, kernel: &mut Kernel, stream: usize) -> bool {
        const ARRIVED_MAX: usize = 256 * 1024;
        let room = ARRIVED_MAX.saturating_sub(kernel.streams[stream].arrived.len());
        let end = self.says.len().min(self.leaves_after);
        let count = (end - self.said).min(kernel.rng.usize(1..=self.manner.piece_max)).min(room);
        if count > 0 {
            kernel.peer_sends(stream, &self.says[self.said..][..count]);
            self.said += count;
            if kernel.chance(self.manner.urgent) {
                kernel.peer_sends_urgent_mark(stream);
            }
        }
        count > 0
    }

    /// Whoever has said all, and has not heard all, is not made to wait without cause. (Its deadline would have the loop look
    /// at it once more, in the end.)
    fn check_that_it_need_not_wait(&self, kernel: &Kernel, stream: usize) {
        let is_owed = self.said == self.says.len()
            && !self.ear.is_content()
            && self.manner.farewell.is_polite();
        let is_inside = kernel.streams[stream].is_accepted
            && !kernel.streams[stream].was_faulted
            && !kernel.is_stopping;
        let waits_us = kernel.now_us() - self.active_us.max(kernel.streams[stream].moved_at_us);
        let patience_us = 4_000_000 + kernel.faults.descheduled_us_max * 100;
        assert!(
            !is_owed || !is_inside || waits_us <= patience_us,
            "{waits_us} us in vain: {}",
            self.describe_wait()
        );
    }
}

impl Actor for Talker {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        let stream = match self.stream {
            Some(stream) => stream,
            None => {
                let stream =
                    kernel.peer_connects(self.peer, self.server, self.manner.buffer_bytes)?;
                kernel.trace(|| {
                    format!("         {} is stream {stream}: {:?}", self.peer, self.manner)
                });
                self.stream = Some(stream);
                stream
            }
        };
        let mut is_active = false;
        // Some say several things at a time, and then nothing for a while.
        while kernel.rng.u8(..4) > 0 && self.say(kernel, stream) {
            is_active = true;
        }
        if self.said >= self.leaves_after {
            match self.manner.farewell {
                Farewell::CloseEarly => kernel.peer_closes(stream),
                Farewell::Reset => kernel.fail(stream, errno::ECONNRESET),
                Farewell::Vanish
                | Farewell::Finish
                | Farewell::CloseWhenContent
                | Farewell::HearOut => {}
            }
            return None;
        }
        if self.said == self.says.len()
            && self.manner.farewell == Farewell::Finish
            && !self.has_shut_down
            && kernel.rng.bool()
        {
            self.has_shut_down = true;
            kernel.peer_shuts_down(stream);
        }
        if kernel.rng.u8(..4) > 0 {
            let count_max = kernel.rng.usize(1..=self.manner.hear_max);
            match kernel.peer_receives(stream, count_max) {
                PeerReceived::Bytes(bytes) => {
                    self.ear.hear(&bytes, kernel.is_stopping);
                    is_active = true;
                }
                PeerReceived::WouldBlock => {}
                end @ (PeerReceived::Fin | PeerReceived::Reset) => {
                    let is_excused = kernel.is_stopping
                        || kernel.streams[stream].was_faulted
                        || !self.manner.farewell.is_polite();
                    let is_well = end == PeerReceived::Fin && self.ear.is_content();
                    assert!(
                        is_well || is_excused,
                        "{} hears {end:?}: {}",
                        self.peer,
                        self.describe_wait()
                    );
                    kernel.peer_closes(stream);
                    return None;
                }
            }
            if self.manner.farewell == Farewell::CloseWhenContent
                && self.said == self.says.len()
                && self.ear.is_content()
            {
                kernel.peer_closes(stream);
                return None;
            }
        }
        if self.manner.naps_us > 0 && kernel.chance(20) {
            self.active_us = kernel.now_us();
            let nap_us = kernel.rng.u64(..=self.manner.naps_us.min(1_000_000));
            self.manner.naps_us -= nap_us;
            return Some(nap_us);
        }
        if is_active {
            self.active_us = kernel.now_us();
        }
        self.check_that_it_need_not_wait(kernel, stream);
        // Who waits for somebody else need not look so often.
        self.idle_us = if is_active { 1000 } else { (self.idle_us * 2).min(400_000) };
        Some(
            kernel.rng.u64(..=self.manner.delay_us_max.min(self.idle_us * 10))
                + if is_active { 0 } else { self.idle_us / 2 },
        )
    }

    fn describe_wait(&self) -> String {
        let Talker { peer, server, said, says, manner, stream, .. } = self;
        let farewell = manner.farewell;
        format!(
            "{peer} at {server} (stream {stream:?}, {farewell:?}) has said {said} of {}, {}",
            says.len(),
            self.ear.describe_wait()
        )
    }
}
