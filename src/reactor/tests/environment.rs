//! The other actors of a random schedule: datagram peers, an echo host, disturbances and a stop.

use std::collections::BTreeMap;

use super::protocols::text_of;
use super::*;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Actor;
use crate::testing::simulated::stream::{PeerReceived, Stream};

/// Sends datagrams to an echo server, no two of them alike, and checks that each comes back once.
pub(super) struct DatagramPeer {
    pub(super) server: SocketAddr,
    pub(super) peer: SocketAddr,
    /// What the server puts before each echo.
    pub(super) prefix: Vec<u8>,
    /// How many it has still to send.
    pub(super) left: usize,
    pub(super) length_max: usize,
    /// No fault of this run loses datagrams, so each must be answered.
    pub(super) is_lossless: bool,
    pub(super) unanswered: Vec<Vec<u8>>,
    /// How often it still looks for answers after its last datagram.
    pub(super) waits_left: u32,
}

impl Actor for DatagramPeer {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        while let Some(reply) = kernel.peer_receives_datagram(self.peer) {
            let payload = reply.strip_prefix(&self.prefix[..]).expect("a reply has its prefix");
            let index = self.unanswered.iter().position(|sent| sent == payload);
            self.unanswered.swap_remove(
                index.unwrap_or_else(|| panic!("{} receives an unexpected reply", self.peer)),
            );
        }
        if self.left == 0 {
            self.waits_left -= 1;
            let is_done = self.waits_left == 0 || self.unanswered.is_empty();
            assert!(
                !is_done || self.unanswered.is_empty() || !self.is_lossless || kernel.is_stopping,
                "{}: a reply is missing",
                self.peer
            );
            return if is_done { None } else { Some(200_000) };
        }
        let has_one_length = kernel.rng.bool(); // so that the server can answer with GSO batches
        let length = kernel.rng.usize(..=self.length_max);
        for number in 0..kernel.rng.usize(1..=self.left.min(100)) {
            let length = if has_one_length { length } else { kernel.rng.usize(..=self.length_max) };
            let tag = u16::try_from(self.left % 60_000).expect("it is below 60,000");
            let payload = text_of(tag, number * 7, length);
            let arrives = kernel.peer_sends_datagram(self.peer, self.server, payload.clone());
            if arrives {
                self.unanswered.push(payload);
            }
            self.left -= 1;
        }
        Some(kernel.rng.u64(..20_000))
    }

    fn describe_wait(&self) -> String {
        format!(
            "{} waits for {} datagrams and will send {}",
            self.peer,
            self.unanswered.len(),
            self.left
        )
    }
}

/// Changes what concerns the whole machine: descriptors, memory, the wall clock, stray events and
/// errors.
pub(super) struct Disturbances {
    /// How many are still to come. The last one ends the shortage of descriptors or memory, if
    /// there is one.
    pub(super) left: u32,
    /// The datagram socket to which ICMP errors are reported.
    pub(super) datagrams_at: SocketAddr,
}

impl Actor for Disturbances {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            kernel.faults.accept_error = None;
            return None;
        }
        match kernel.rng.u8(..5) {
            0 => {
                kernel.faults.accept_error = Some(kernel.pick_error(&[
                    errno::EMFILE,
                    errno::ENFILE,
                    errno::ENOBUFS,
                    errno::ENOMEM,
                ]));
            }
            1 => kernel.faults.accept_error = None,
            2 => kernel.wall_us = kernel.rng.i64(-1_000_000_000_000_000..3_000_000_000_000_000),
            3 => kernel.queue_random_spurious_event(),
            _ => {
                let error = kernel.pick_error(&[
                    errno::ECONNREFUSED,
                    errno::EHOSTUNREACH,
                    errno::ENETUNREACH,
                ]);
                kernel.report_icmp_error(self.datagrams_at, error);
            }
        }
        Some(kernel.rng.u64(..300_000))
    }

    fn describe_wait(&self) -> String {
        format!("{} disturbances to come", self.left)
    }
}

/// Asks the reactor to stop, once.
pub(super) struct StopSender;

impl Actor for StopSender {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        kernel.is_stopping = true;
        kernel.signal_stop();
        None
    }

    fn describe_wait(&self) -> String {
        "the stop signal is still to be sent".to_string()
    }
}

/// A host to which the reactor connects, and which echoes. It stops reading while it holds many
/// bytes.
pub(super) struct EchoHost {
    pub(super) address: SocketAddr,
    /// Of each stream: what it has received and not sent back yet, and how far the stream has come.
    pub(super) held: BTreeMap<usize, (Vec<u8>, EchoPhase)>,
    pub(super) held_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EchoPhase {
    Open,
    /// The reactor's FIN has arrived, and ours follows when everything is sent back.
    FinReceived,
    Done,
}

impl EchoHost {
    fn echo(&mut self, kernel: &mut Kernel, stream: usize) {
        const ARRIVED_MAX: usize = 10_000;
        let (bytes, phase) = self.held.entry(stream).or_insert((Vec::new(), EchoPhase::Open));
        if bytes.len() < self.held_max && *phase == EchoPhase::Open {
            let count_max = kernel.rng.usize(1..=self.held_max);
            match kernel.peer_receives(stream, count_max) {
                PeerReceived::Bytes(more) => bytes.extend(more),
                PeerReceived::WouldBlock => {}
                PeerReceived::Fin => *phase = EchoPhase::FinReceived,
                PeerReceived::Reset => *phase = EchoPhase::Done,
            }
        }
        let room = ARRIVED_MAX.saturating_sub(kernel.streams[stream].arrived.len());
        let count = kernel.rng.usize(..=room.min(bytes.len()));
        if count > 0 {
            kernel.peer_sends(stream, &bytes[..count]);
            bytes.drain(..count);
        }
        if bytes.is_empty() && *phase == EchoPhase::FinReceived {
            *phase = EchoPhase::Done;
            kernel.peer_shuts_down(stream);
        }
    }
}

impl Actor for EchoHost {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        let is_established = |stream: &Stream| {
            stream.peer == self.address && stream.descriptor.is_some() && !stream.is_connecting
        };
        let established: Vec<usize> = (0..kernel.streams.len())
            .filter(|&number| is_established(&kernel.streams[number]))
            .collect();
        for &stream in &established {
            self.echo(kernel, stream);
        }
        let is_done = kernel.other_actors_are_done() && established.is_empty();
        (!is_done).then(|| kernel.rng.u64(1..3000))
    }

    fn describe_wait(&self) -> String {
        let held: Vec<_> =
            self.held.iter().map(|(stream, (bytes, phase))| (stream, bytes.len(), phase)).collect();
        format!("{} holds {held:?}", self.address)
    }
}
