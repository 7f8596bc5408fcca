//! Datagrams: received by the batch, answered by the batch.
//!
//! ```text
//!     kernel ──receive──► batch ──answer, one by one──► replies ──send──► kernel
//!                          ▲                               │
//!                          └──── nothing is received ◄─────┘ what the kernel did not take
//!                                while replies wait
//! ```
//!
//! A socket that cannot send does not receive: the kernel then drops what comes (and counts it), rather than we. A reply
//! that cannot be sent is dropped and counted, alone: never a neighbour, and never the loop. The same holds for a datagram on
//! which the protocol panics. When the replies to a part of the batch take much memory, they are sent before the rest is
//! answered.
//!
//! A protocol may also speak without having been asked, and a socket may have one peer only: `speech` has what that takes.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::{debug, error, info, trace};

use crate::limits::DATAGRAM_BATCHES_PER_TURN;
use crate::loop_state::LoopState;
use crate::protocol::datagram::{Batching, Datagram, DatagramProtocol, Replies};
use crate::protocol::effects::Effects;
use crate::protocol::ident::CloseReason;
use crate::protocol::outcome::Outcome;
use crate::stats::Stats;
use crate::stream::readiness::Readiness;
use crate::sys::UdpSocket;
use crate::sys::errno::{self, DatagramError, StreamError};

#[cfg(not(test))]
use super::batch_io::BatchIo;
use super::filter::DropReason;
use super::receive::{Batch, Message};
use super::replies::ReplyQueue;
use super::requests::{SocketPhase, SocketRequests};
#[cfg(test)]
use crate::testing::simulated::batch_io::BatchIo;

/// One UDP socket with the protocol that answers on it.
pub(crate) struct DatagramSocket {
    pub(crate) socket: UdpSocket,
    pub(crate) address: SocketAddr,
    pub(super) protocol: Box<dyn DatagramProtocol>,
    io: BatchIo,
    pub(super) batch: Batch,
    pub(super) replies: ReplyQueue,
    pub(super) requests: SocketRequests,
    /// Who was refused last, and why, since this was last logged.
    last_dropped: Option<(Option<SocketAddr>, DropReason)>,
    /// What the kernel has reported last, if the protocol has not been told yet.
    pub(super) failure: Option<io::Error>,
}

impl DatagramSocket {
    /// A socket that answers whoever asks; or one that has been connected to `peer`, and hears nobody else.
    pub(crate) fn new(
        socket: UdpSocket,
        address: SocketAddr,
        peer: Option<SocketAddr>,
        protocol: Box<dyn DatagramProtocol>,
        state: &LoopState,
    ) -> DatagramSocket {
        let batching = protocol.batching();
        let mut replies = ReplyQueue::new();
        replies.connected = peer;
        replies.gso_enabled = batching == Batching::Gso;
        DatagramSocket {
            io: BatchIo::new(&socket, batching),
            batch: Batch::new(),
            replies,
            requests: SocketRequests::new(state.clock.started()),
            last_dropped: None,
            failure: None,
            socket,
            address,
            protocol,
        }
    }

    /// Whom it is connected to, if it is a client.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.replies.connected
    }

    /// The end, told to the protocol.
    pub(crate) fn call_closed(&mut self, why: CloseReason) {
        self.protocol.closed(why);
    }

    /// Receives, answers and sends, batch by batch, until the kernel has no more or the budget is spent.
    #[inline(never)]
    pub(crate) fn drive(
        &mut self,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        self.requests.now = state.clock.now;
        self.replies.clear_full();
        if self.phase() != SocketPhase::Receiving
            && let Some(outcome) = self.begin_drive(ready, state, effects)
        {
            return outcome;
        }
        let (refused_before, panics_before) = (state.stats.datagrams_dropped, state.stats.panics);
        let outcome = self.drive_batches(ready, state, effects);
        if self.last_dropped.is_some() || state.stats.panics != panics_before {
            self.log_dropped(
                state.stats.datagrams_dropped - refused_before,
                state.stats.panics - panics_before,
            );
        }
        if self.phase() != SocketPhase::Receiving || self.failure.is_some() {
            return self.call_pending(ready, state, effects);
        }
        outcome
    }

    /// Logs what was refused and what the protocol did not survive, a line for each.
    #[cold]
    pub(super) fn log_dropped(&mut self, refused: u64, panics: u64) {
        if let Some((peer, why)) = self.last_dropped.take() {
            let peer: &dyn fmt::Display = peer.as_ref().map_or(&"an unknown address", |peer| peer);
            debug!(
                "udp {}: dropped a datagram from {peer}: {why} ({refused} this turn)",
                self.address
            );
        }
        if panics > 0 {
            error!("udp {}: protocol panicked ({panics} times this turn)", self.address);
        }
    }

    fn drive_batches(
        &mut self,
        ready: &mut Readiness,
        state: &mut LoopState,
        effects: &mut Effects,
    ) -> Outcome {
        let errors_before = state.stats.datagram_errors;
        for _ in 0..DATAGRAM_BATCHES_PER_TURN {
            self.send(ready, &mut state.stats);
            if !self.can_answer(ready) {
                return Outcome::Blocked;
            }
            if self.batch.is_answered() {
                self.receive(ready, &mut state.stats);
            }
            self.answer_batch(state, effects);
        }
        self.send(ready, &mut state.stats);
        if state.stats.datagram_errors - errors_before == DATAGRAM_BATCHES_PER_TURN as u64 {
            ready.readable = false; // a lasting error: the next arrival is the next occasion
        }
        if self.can_answer(ready) { Outcome::Unfinished } else { Outcome::Blocked }
    }

    /// Logs that it ends: at `info` where others relied on it.
    pub(crate) fn log_closed(&self, why: CloseReason) {
        match self.peer() {
            None => info!("udp {}: socket closed", self.address),
            Some(peer) => debug!("udp {} {peer}: closed: {why}", self.address),
        }
    }

    /// Do replies wait that the kernel has not taken?
    pub(crate) fn wants_write(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Has all that was received been answered, and the answers taken by the kernel?
    pub(crate) fn is_done(&self) -> bool {
        self.batch.is_answered() && !self.wants_write()
    }

    pub(crate) fn can_progress(&self, ready: &Readiness) -> bool {
        match self.phase() {
            SocketPhase::Receiving => self.can_answer(ready) || self.failure.is_some(),
            SocketPhase::AwaitingWritable | SocketPhase::New => {
                !self.wants_write() || ready.writable
            }
            SocketPhase::Closing => ready.writable,
        }
    }

    #[inline]
    fn can_answer(&self, ready: &Readiness) -> bool {
        if self.wants_write() {
            ready.writable
        } else {
            ready.readable || !self.batch.is_answered()
        }
    }

    fn receive(&mut self, ready: &mut Readiness, stats: &mut Stats) {
        self.requests.received_at = None;
        let result = self.io.receive(&self.socket, &mut self.batch);
        trace!("udp {} receive -> {result:?}", self.address);
        match result {
            // Less than was asked for: the call itself met the end of the queue.
            Ok(is_full) => ready.readable = is_full,
            Err(error) => match errno::classify_receive(&error) {
                StreamError::WouldBlock => ready.readable = false,
                StreamError::Interrupted => {}
                // What a receive can fail with on an unconnected socket (an old send's ICMP error, memory) concerns one
                // datagram, and reading the error clears it.
                StreamError::Disconnected | StreamError::Failed => {
                    stats.datagram_errors += 1;
                    debug!("udp {}: receive: {error}", self.address);
                    self.failure = Some(error);
                }
            },
        }
    }

    /// Answers the batch, or as much of it as there is room for replies to. A datagram on which the protocol panics is passed
    /// over.
    fn answer_batch(&mut self, state: &mut LoopState, effects: &mut Effects) {
        while !self.batch.is_answered() && !self.replies.is_full() {
            // Whatever state the protocol has left itself in: ours is sound, for it is called between any two changes.
            match catch_unwind(AssertUnwindSafe(|| self.answer_until_full(state, effects))) {
                Ok(Some(heard)) => {
                    state.stats.datagrams_in += heard as u64;
                    self.batch.finish_answering();
                }
                Ok(None) => {
                    state.stats.datagrams_in +=
                        self.batch.finish_through(self.replies.current) as u64;
                }
                Err(_) => {
                    state.stats.panics += 1;
                    state.stats.datagrams_in +=
                        self.batch.finish_through(self.replies.current) as u64;
                }
            }
        }
        self.count_unsendable(state);
    }

    /// Counts what could not be taken down.
    #[inline]
    pub(super) fn count_unsendable(&mut self, state: &mut LoopState) {
        if !self.replies.has_unsendable() {
            return;
        }
        let (too_long, dropped) = self.replies.take_unsendable();
        state.stats.datagrams_too_long += too_long;
        state.stats.datagrams_unsent += dropped;
    }

    /// Returns how many datagrams it has come past, if it has come to the end of the batch.
    #[inline(never)] // so that its loop has the registers for itself
    fn answer_until_full(&mut self, state: &mut LoopState, effects: &mut Effects) -> Option<usize> {
        let mut heard = 0;
        let DatagramSocket { protocol, batch, replies, requests, last_dropped, .. } = self;
        let (unanswered, buffers, mut replies) =
            Replies::answering(batch, replies, requests, effects);
        for (number, sender, messages) in unanswered.senders() {
            let peer = match replies.connected() {
                None => sender.permitted_peer(state),
                Some(connected) => sender.expected_peer(connected),
            };
            let mut datagram = match peer {
                Ok(peer) => Datagram::new(&[], peer),
                Err(why) => {
                    let count: usize = messages.iter().map(Message::datagrams).sum();
                    heard += count;
                    state.stats.datagrams_dropped += count as u64;
                    *last_dropped = Some((sender.peer, why));
                    continue;
                }
            };
            replies.set_recipient(number);
            for message in messages {
                if message.is_truncated {
                    heard += message.datagrams();
                    state.stats.datagrams_dropped += message.datagrams() as u64;
                    *last_dropped = Some((sender.peer, DropReason::Truncated));
                    continue;
                }
                let mut next = Some(message.first());
                while let Some(place) = next {
                    heard += 1;
                    replies.set_current(place);
                    datagram.payload = place.of(buffers);
                    protocol.received(&datagram, &mut replies);
                    if replies.is_full() {
                        return None;
                    }
                    next = message.next(place);
                }
            }
        }
        Some(heard)
    }

    #[inline]
    pub(super) fn send(&mut self, ready: &mut Readiness, stats: &mut Stats) {
        if self.wants_write() {
            self.flush(ready, stats);
        }
    }

    #[inline(never)] // mostly nothing waits where it is asked
    fn flush(&mut self, ready: &mut Readiness, stats: &mut Stats) {
        let DatagramSocket { socket, io, failure, batch, replies, .. } = self;
        // On a connected socket, what a send fails with is mostly said of an earlier datagram, and to have said it clears it: then
        // this one is sent again. Only once, as it may concern this one after all.
        let may_concern_another = replies.connected.is_some() && failure.is_none();
        send_replies(replies, ready, stats, self.address, |replies| {
            match io.send(socket, batch, replies) {
                Err(error)
                    if may_concern_another
                        && failure.is_none()
                        && may_be_of_earlier_send(&error) =>
                {
                    *failure = Some(error);
                    Err(ErrorKind::Interrupted.into())
                }
                other => other,
            }
        });
        stats.datagram_errors += u64::from(may_concern_another && failure.is_some());
    }
}

/// May an error of a send be that of an earlier datagram?
#[cold]
fn may_be_of_earlier_send(error: &io::Error) -> bool {
    errno::classify_send_datagram(error) == DatagramError::Unsendable
}

/// Sends what waits, as `send` puts it to the kernel, until it is gone or the kernel takes no more.
fn send_replies(
    replies: &mut ReplyQueue,
    ready: &mut Readiness,
    stats: &mut Stats,
    address: SocketAddr,
    mut send: impl FnMut(&ReplyQueue) -> io::Result<usize>,
) {
    while !replies.is_empty() && ready.writable {
        let result = send(replies);
        trace!("udp {address} send {} messages -> {result:?}", replies.pending_len());
        match result {
            Ok(messages) => stats.datagrams_out += replies.mark_sent(messages) as u64,
            Err(error) => match errno::classify_send_datagram(&error) {
                DatagramError::WouldBlock => ready.writable = false,
                DatagramError::Interrupted => {}
                DatagramError::GsoUnsupported if replies.split_segments(false) => {
                    debug!("udp {address}: GSO is off from now on: {error}");
                }
                DatagramError::GsoTooLargeForPath if replies.split_segments(true) => {
                    debug!("udp {address}: GSO batch sent as single datagrams: {error}");
                }
                // It was no train.
                DatagramError::GsoUnsupported
                | DatagramError::GsoTooLargeForPath
                | DatagramError::Unsendable => {
                    stats.datagrams_unsent += replies.mark_sent(1) as u64;
                    debug!("udp {address}: send: {error}");
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
