//! Datagram peers, hosts that we connect to, and what concerns everybody.

use std::collections::BTreeMap;

use super::protocols::text_of;
use super::*;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Actor;
use crate::testing::simulated::stream::{PeerReceived, Stream};

/// Sends datagrams, each unlike all others, and holds the answers against them.
pub(super) struct Correspondent {
    pub(super) server: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) prefix: Vec<u8>,
    pub(super) left: usize,
    pub(super) length_max: usize,
    /// Nothing is lost on the way.
    pub(super) is_exact: bool,
    pub(super) waiting: Vec<Vec<u8>>,
    pub(super) patience: u32,
}

impl Actor for Correspondent {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        while let Some(mail) = kernel.peer_receives_datagram(self.peer) {
            let payload = mail.strip_prefix(&self.prefix[..]).expect("an answer has its prefix");
            let place = self.waiting.iter().position(|waiting| waiting == payload);
            self.waiting.swap_remove(
                place.unwrap_or_else(|| panic!("{} hears what it has not asked", self.peer)),
            );
        }
        if self.left == 0 {
            self.patience -= 1;
            let is_done = self.patience == 0 || self.waiting.is_empty();
            assert!(
                !is_done || self.waiting.is_empty() || !self.is_exact || kernel.is_stopping,
                "{}: an answer is missing",
                self.peer
            );
            return if is_done { None } else { Some(200_000) };
        }
        let is_train = kernel.rng.bool();
        let length = kernel.rng.usize(..=self.length_max);
        for number in 0..kernel.rng.usize(1..=self.left.min(100)) {
            let length = if is_train { length } else { kernel.rng.usize(..=self.length_max) };
            let tag = u16::try_from(self.left % 60_000).expect("it is below 60,000");
            let payload = text_of(tag, number * 7, length);
            let arrives = kernel.peer_sends_datagram(self.peer, self.server, payload.clone());
            if arrives {
                self.waiting.push(payload);
            }
            self.left -= 1;
        }
        Some(kernel.rng.u64(..20_000))
    }

    fn describe_wait(&self) -> String {
        format!(
            "{} waits for {} datagrams and will send {}",
            self.peer,
            self.waiting.len(),
            self.left
        )
    }
}

pub(super) struct Weather {
    pub(super) changes: u32,
    pub(super) datagrams_at: SocketAddr,
}

impl Actor for Weather {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        self.changes = self.changes.saturating_sub(1);
        if self.changes == 0 {
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
        format!("the weather changes {} times more", self.changes)
    }
}

/// Rings the bell.
pub(super) struct Ringer;

impl Actor for Ringer {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        kernel.is_stopping = true;
        kernel.signal_stop();
        None
    }

    fn describe_wait(&self) -> String {
        "the bell will ring".to_string()
    }
}

/// Somebody in the world whom we call, and who sends back what it hears; but it hears no more while much of that waits.
pub(super) struct Mirror {
    pub(super) address: SocketAddr,
    /// What each stream has still to be sent, and how far its end has come.
    pub(super) owed: BTreeMap<usize, (Vec<u8>, MirrorsEnd)>,
    pub(super) held_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MirrorsEnd {
    NotYet,
    PeerReceived,
    Said,
}

impl Mirror {
    fn reflect(&mut self, kernel: &mut Kernel, stream: usize) {
        const ARRIVED_MAX: usize = 10_000;
        let (bytes, end) = self.owed.entry(stream).or_insert((Vec::new(), MirrorsEnd::NotYet));
        if bytes.len() < self.held_max && *end == MirrorsEnd::NotYet {
            let count_max = kernel.rng.usize(1..=self.held_max);
            match kernel.peer_receives(stream, count_max) {
                PeerReceived::Bytes(more) => bytes.extend(more),
                PeerReceived::WouldBlock => {}
                PeerReceived::Fin => *end = MirrorsEnd::PeerReceived,
                PeerReceived::Reset => *end = MirrorsEnd::Said,
            }
        }
        let room = ARRIVED_MAX.saturating_sub(kernel.streams[stream].arrived.len());
        let count = kernel.rng.usize(..=room.min(bytes.len()));
        if count > 0 {
            kernel.peer_sends(stream, &bytes[..count]);
            bytes.drain(..count);
        }
        if bytes.is_empty() && *end == MirrorsEnd::PeerReceived {
            *end = MirrorsEnd::Said;
            kernel.peer_shuts_down(stream);
        }
    }
}

impl Actor for Mirror {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        let name_is = |stream: &Stream| {
            stream.peer == self.address && stream.descriptor.is_some() && !stream.is_connecting
        };
        let called: Vec<usize> =
            (0..kernel.streams.len()).filter(|&number| name_is(&kernel.streams[number])).collect();
        for &stream in &called {
            self.reflect(kernel, stream);
        }
        let is_done = kernel.other_actors_are_done() && called.is_empty();
        (!is_done).then(|| kernel.rng.u64(1..3000))
    }

    fn describe_wait(&self) -> String {
        let owed: Vec<_> =
            self.owed.iter().map(|(stream, (bytes, end))| (stream, bytes.len(), end)).collect();
        format!("{} owes {owed:?}", self.address)
    }
}
