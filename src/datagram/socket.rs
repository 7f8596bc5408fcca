//! A UDP socket: it receives a batch of datagrams, and sends the replies to them as a batch.
//!
//! ```text
//!     kernel ──receive──► batch ──answer, one by one──► replies ──send──► kernel
//!                          ▲                               │
//!                          └──── nothing is received ◄─────┘ what the kernel did not take
//!                                while replies wait
//! ```
//!
//! Invariant: a socket that cannot send does not receive. When its receive buffer is full, the
//! kernel drops what arrives, and counts it.
//!
//! A reply that cannot be sent is dropped and counted. It costs no other reply, and never ends the
//! loop. The same holds for a datagram on which the protocol panics. When the replies to a part of
//! the batch take much memory, they are sent before the rest is answered.
//!
//! A protocol may also send without having received anything, and a socket may be connected to one
//! peer. `client.rs` has what that takes.

use std::io;
use std::net::SocketAddr;

use log::{debug, info};

use crate::caught::{CaughtDrop, Panicked, catch};
use crate::limits::{DATAGRAM_COST_BYTES, STEP_COST_BYTES};
use crate::loop_state::LoopState;
use crate::protocol::datagram::{Batching, Datagram, DatagramProtocol, Replies};
use crate::protocol::effects::Effects;
use crate::protocol::ident::CloseReason;
use crate::protocol::outcome::Outcome;
use crate::stream::readiness::Readiness;
use crate::sys::errno::{self, ReceiveDatagramError};
use crate::sys::{self, UdpSocket};
use crate::time::Time;
use crate::trace::{self, Place};

use super::failures::Failures;
use super::filter::{AnswerRules, DropReason};
use super::kept::Kept;
use super::receive::Message;
use super::requests::{SocketPhase, SocketRequests};
use super::scratch::{DatagramScratch, Unfinished};
use super::sending::count_unsendable;
use super::traced::write_receive;
use super::transport::{DatagramTransport, SystemSocket};
use super::unlogged::Unlogged;

/// A UDP socket with the protocol that answers on it.
pub(crate) struct DatagramSocket<T = SystemSocket> {
    pub(crate) transport: T,
    pub(crate) address: SocketAddr,
    pub(super) protocol: Box<dyn DatagramProtocol>,
    /// The peer that the socket is connected to, if it is.
    pub(super) peer: Option<SocketAddr>,
    /// Whether replies may share a GSO batch: if the protocol wants that, until the kernel first
    /// refuses one.
    pub(super) gso_enabled: bool,
    /// Which datagrams it answers, as far as that differs between sockets.
    rules: AnswerRules,
    /// What an earlier drive could not answer or send.
    pub(super) kept: Option<Box<Kept>>,
    pub(crate) requests: SocketRequests,
    /// What is to be logged at the end of the drive.
    pub(super) unlogged: Unlogged,
    /// The last error that the kernel reported, until the protocol is called with it.
    pub(super) failure: Option<io::Error>,
    pub(super) failures: Failures,
    /// When to receive again after a failure that concerns no single datagram; else `NEVER`.
    pub(super) retry_at: Time,
    /// A stop has begun, and the kernel drops what arrives: the receive queue has an end.
    takes_no_more: bool,
    /// The slot that it is in, for the trace log.
    pub(crate) slot: usize,
    /// What the memory meter has counted for it, in bytes.
    pub(crate) metered: usize,
}

impl DatagramSocket {
    /// Makes a source of `socket`. With a `peer`, to which `socket` is connected already, it
    /// receives from that peer only. Without one, it answers any sender that the filter permits.
    ///
    /// # Panics
    ///
    /// If `protocol` does when it is asked how to serve it.
    pub(crate) fn new(
        socket: UdpSocket,
        address: SocketAddr,
        peer: Option<SocketAddr>,
        protocol: Box<dyn DatagramProtocol>,
        state: &LoopState,
    ) -> DatagramSocket {
        let open = |batching| SystemSocket::new(socket, batching);
        DatagramSocket::over(address, peer, protocol, state, open)
    }

    /// A stop has begun: what waits in the receive queue is still answered, and nothing that comes
    /// later. In a flood the queue would never be empty otherwise.
    ///
    /// # Errors
    ///
    /// The system cannot drop what arrives: what waits when the socket is driven next is answered.
    pub(crate) fn begin_drain(&mut self) -> io::Result<()> {
        let result = sys::stop_receiving(&self.transport.socket);
        self.takes_no_more = result.is_ok();
        result
    }
}

impl<T: DatagramTransport> DatagramSocket<T> {
    /// Makes a source of what `open` returns for the way in which the protocol wants its batches.
    /// The rest is as for [`new`](DatagramSocket::new).
    pub(crate) fn over(
        address: SocketAddr,
        peer: Option<SocketAddr>,
        protocol: Box<dyn DatagramProtocol>,
        state: &LoopState,
        open: impl FnOnce(Batching) -> T,
    ) -> DatagramSocket<T> {
        let protocol = CaughtDrop::new(protocol); // it is dropped if one of the next calls panics
        let (batching, refuses_own_ports) = (protocol.batching(), protocol.refuses_own_ports());
        DatagramSocket {
            transport: open(batching),
            peer,
            gso_enabled: batching == Batching::Gso,
            rules: AnswerRules::new(refuses_own_ports),
            kept: None,
            requests: SocketRequests::new(state.clock.started()),
            unlogged: Unlogged::default(),
            failure: None,
            failures: Failures::none(),
            retry_at: Time::NEVER,
            takes_no_more: false,
            slot: usize::MAX, // until it is in one
            metered: 0,
            address,
            protocol: protocol.into_inner(),
        }
    }

    /// From now on, it also answers what was sent to a multicast or broadcast address.
    pub(crate) fn answer_groups(&mut self) {
        self.rules = self.rules.with_groups();
    }

    /// The peer that the socket is connected to, if it is a client.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Calls the protocol for the last time.
    pub(crate) fn call_closed(&mut self, why: CloseReason) {
        self.protocol.closed(why);
    }

    /// Receives, answers and sends, batch by batch, until the kernel has no more datagrams or the
    /// budget is spent.
    #[inline(never)]
    pub(crate) fn drive(
        &mut self,
        ready: &mut Readiness,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        self.requests.now = state.clock.now;
        self.begin_in(scratch);
        let outcome = self.drive_in(ready, scratch, state, effects);
        self.end_in(scratch, state);
        outcome
    }

    /// What a drive does between the loan of the scratch and its return.
    #[inline(always)] // it has one caller
    fn drive_in(
        &mut self,
        ready: &mut Readiness,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        if self.phase() != SocketPhase::Receiving
            && let Some(outcome) = self.begin_drive(ready, scratch, state, effects)
        {
            return outcome;
        }
        let outcome = self.drive_batches(ready, scratch, state, effects);
        if !self.unlogged.is_empty() {
            self.unlogged.log(self.address);
        }
        if self.phase() != SocketPhase::Receiving || self.failure.is_some() {
            return self.call_pending(ready, scratch, state, effects);
        }
        outcome
    }

    fn drive_batches(
        &mut self,
        ready: &mut Readiness,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        let share = state.budget.quarter_share();
        loop {
            self.send(ready, scratch, state);
            if !scratch.unfinished().can_answer(ready) {
                return Outcome::Blocked;
            }
            // From the high watermark of effects on, they are applied before more is answered.
            if state.budget.share_is_spent(share) || effects.is_above_high_watermark() {
                break;
            }
            if scratch.batch.is_answered() {
                self.receive(ready, scratch, state);
            }
            self.answer_batch(scratch, state, effects);
        }
        if scratch.unfinished().can_answer(ready) { Outcome::Unfinished } else { Outcome::Blocked }
    }

    /// Logs the end of the socket: at `info` for a server, on which others rely, at `debug` for a
    /// client.
    pub(crate) fn log_closed(&self, why: CloseReason) {
        match self.peer() {
            None => info!("udp {}: socket closed", self.address),
            Some(peer) => debug!("udp {} {peer}: closed: {why}", self.address),
        }
    }

    /// What earlier drives have left. (During a drive, the scratch has it.)
    pub(crate) fn unfinished(&self) -> Unfinished {
        self.kept.as_ref().map_or(Unfinished::NOTHING, |kept| kept.unfinished())
    }

    /// Returns whether a stop may end it although it could go on: unless that is to receive what
    /// waits. Where the system cannot stop what arrives, there may be more for ever.
    pub(crate) fn may_stop_unfinished(&self, ready: &Readiness) -> bool {
        !(self.takes_no_more && ready.readable())
    }

    /// Returns whether it could do something now, without a further event.
    pub(crate) fn can_progress(&self, ready: &Readiness) -> bool {
        self.can_progress_with(self.unfinished(), ready)
    }

    /// The same of a socket on which so much is left.
    pub(super) fn can_progress_with(&self, left: Unfinished, ready: &Readiness) -> bool {
        match self.phase() {
            SocketPhase::Receiving => left.can_answer(ready) || self.failure.is_some(),
            SocketPhase::AwaitingWritable | SocketPhase::New => !left.replies || ready.writable(),
            SocketPhase::Closing => ready.writable(),
        }
    }

    fn receive(
        &mut self,
        ready: &mut Readiness,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
    ) {
        if self.kept.is_some() {
            self.return_buffers(scratch, &mut state.memory);
        }
        self.requests.received_at = None;
        let DatagramScratch { batch, arrays, .. } = scratch;
        let result = self.transport.receive(batch, arrays);
        if trace::is_on() {
            let place = Place::new(state, self.slot);
            write_receive(place, self.transport.is_batched(), batch, &result);
        }
        match result {
            // A short batch: the call itself has reached the end of the kernel's queue.
            Ok(is_full) => {
                ready.set_readable(is_full);
                let bytes: usize = batch.messages.iter().map(|message| message.length).sum();
                state.budget.charge(batch.messages.len() * DATAGRAM_COST_BYTES + bytes);
            }
            Err(error) => match errno::classify_receive_datagram(&error) {
                ReceiveDatagramError::WouldBlock => ready.set_readable(false),
                ReceiveDatagramError::Interrupted => state.budget.charge(STEP_COST_BYTES),
                kind @ (ReceiveDatagramError::OfOneDatagram | ReceiveDatagramError::Failed) => {
                    self.on_receive_failed(error, kind, ready, state);
                }
            },
        }
    }

    /// Answers the batch, or as much of it as there is memory for replies. A datagram on which the
    /// protocol panics is skipped.
    fn answer_batch(
        &mut self,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
        effects: &mut Effects,
    ) {
        while !scratch.batch.is_answered() && !scratch.replies.is_full() {
            // Unwind safe: a panic may leave the protocol's own state inconsistent, but not ours,
            // because no change of ours is half done while the protocol is called.
            match catch(|| self.answer_until_full(scratch, state, effects)) {
                Ok(Some(processed)) => {
                    state.stats.datagrams_in += processed as u64;
                    scratch.batch.finish_answering();
                }
                Ok(None) => {
                    state.stats.datagrams_in +=
                        scratch.batch.finish_through(scratch.replies.current) as u64;
                }
                Err(Panicked) => {
                    self.unlogged.panics += 1;
                    state.stats.panics += 1;
                    state.stats.datagrams_in +=
                        scratch.batch.finish_through(scratch.replies.current) as u64;
                }
            }
        }
        count_unsendable(&mut scratch.replies, state);
    }

    /// Answers datagrams until the batch ends or the replies are full. At the end of the batch,
    /// returns how many datagrams it has processed, answered or dropped; `None` if the replies are
    /// full.
    #[inline(never)] // so that its loop has the registers for itself
    fn answer_until_full(
        &mut self,
        scratch: &mut DatagramScratch,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Option<usize> {
        let mut processed = 0;
        let &mut DatagramSocket { rules, .. } = self;
        let DatagramSocket { protocol, requests, unlogged, .. } = self;
        let DatagramScratch { batch, replies, .. } = scratch;
        let (unanswered, buffers, mut replies) =
            Replies::answering(batch, replies, requests, effects);
        for (number, sender, messages) in unanswered.senders() {
            let peer = match replies.connected() {
                None => sender.permitted_peer(state, rules),
                Some(connected) => sender.expected_peer(connected),
            };
            let mut datagram = match peer {
                Ok(peer) => Datagram::new(&[], peer),
                Err(why) => {
                    let count: usize = messages.iter().map(Message::datagrams).sum();
                    processed += count;
                    state.stats.datagrams_dropped += count as u64;
                    unlogged.add_dropped(count, sender.peer, why);
                    continue;
                }
            };
            replies.set_recipient(number);
            for message in messages {
                if message.is_truncated {
                    processed += message.datagrams();
                    state.stats.datagrams_dropped += message.datagrams() as u64;
                    unlogged.add_dropped(message.datagrams(), sender.peer, DropReason::Truncated);
                    continue;
                }
                let mut next = Some(message.first());
                while let Some(span) = next {
                    processed += 1;
                    replies.set_current(span);
                    datagram.payload = span.of(buffers);
                    protocol.received(&datagram, &mut replies);
                    if replies.is_full() {
                        return None;
                    }
                    next = message.next(span);
                }
            }
        }
        Some(processed)
    }
}

#[cfg(test)]
mod tests;
