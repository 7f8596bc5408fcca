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

mod batch;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
mod refusal;
#[cfg(test)]
mod simulated;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::{debug, error, trace};

use crate::connection::Outcome;
use crate::errno::{self, DatagramError, StreamError};
use crate::limits::DATAGRAM_BATCHES_PER_TURN;
use crate::net::UdpSocket;
use crate::stats::Stats;
use crate::turn::Turn;
use crate::wire::Ready;

pub use batch::Replies;
use batch::{Batch, Message};
#[cfg(all(target_os = "linux", not(test)))]
use linux::Exchange;
#[cfg(all(not(target_os = "linux"), not(test)))]
use portable::Exchange;
use refusal::Refusal;
#[cfg(test)]
use simulated::Exchange;

/// A service over datagrams: each is answered for itself, with none, one or several.
pub trait DatagramProtocol {
    /// Answers `datagram`. The call must return soon: while it runs, nobody else is served.
    ///
    /// If it panics, that is counted in [`Stats::panics`](crate::Stats::panics), and the next datagram is put to the same
    /// protocol. Replies that were given before are sent.
    fn answer(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>);
}

/// One datagram that has arrived whole.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Datagram<'a> {
    /// What it carries: 0 to 65,507 bytes, or 65,527 over IPv6. An empty one is a datagram like any other.
    pub payload: &'a [u8],
    /// Who sent it, or says so: unlike a stream's, a datagram's source is not verified by anyone.
    pub peer: SocketAddr,
}

/// One UDP socket with the protocol that answers on it.
pub(crate) struct DatagramSocket {
    pub(crate) socket: UdpSocket,
    pub(crate) address: SocketAddr,
    protocol: Box<dyn DatagramProtocol>,
    exchange: Exchange,
    batch: Batch,
    /// Who was refused last, and why, since this was last logged.
    refused: Option<(Option<SocketAddr>, Refusal)>,
}

impl DatagramSocket {
    pub(crate) fn new(socket: UdpSocket, protocol: Box<dyn DatagramProtocol>) -> io::Result<DatagramSocket> {
        let address = socket.local_addr()?;
        Ok(DatagramSocket { exchange: Exchange::new(&socket), batch: Batch::new(), refused: None, socket, address, protocol })
    }

    /// Receives, answers and sends, batch by batch, until the kernel has no more or the budget is spent.
    #[inline(never)]
    pub(crate) fn drive(&mut self, ready: &mut Ready, turn: &mut Turn) -> Outcome {
        let (refused_before, panics_before) = (turn.stats.datagrams_refused, turn.stats.panics);
        let outcome = self.exchange_some(ready, turn);
        if self.refused.is_some() || turn.stats.panics != panics_before {
            self.tell(turn.stats.datagrams_refused - refused_before, turn.stats.panics - panics_before);
        }
        outcome
    }

    /// Logs what was refused and what the protocol did not survive, a line for each.
    #[cold]
    fn tell(&mut self, refused: u64, panics: u64) {
        if let Some((peer, why)) = self.refused.take() {
            let peer: &dyn fmt::Debug = peer.as_ref().map_or(&"nobody", |peer| peer);
            debug!("{} refuses {peer:?}: {why} (in this turn: {refused})", self.address);
        }
        if panics > 0 {
            error!("{} the protocol panics (in this turn: {panics})", self.address);
        }
    }

    fn exchange_some(&mut self, ready: &mut Ready, turn: &mut Turn) -> Outcome {
        let errors_before = turn.stats.datagram_errors;
        for _ in 0..DATAGRAM_BATCHES_PER_TURN {
            self.send(ready, &mut turn.stats);
            if !self.can_progress(ready) {
                return Outcome::Blocked;
            }
            if self.batch.is_answered() {
                self.receive(ready, &mut turn.stats);
            }
            self.answer(turn);
        }
        self.send(ready, &mut turn.stats);
        if turn.stats.datagram_errors - errors_before == DATAGRAM_BATCHES_PER_TURN as u64 {
            ready.readable = false; // a lasting error: the next arrival is the next occasion
        }
        if self.can_progress(ready) { Outcome::Unfinished } else { Outcome::Blocked }
    }

    /// Do replies wait that the kernel has not taken?
    pub(crate) fn wants_write(&self) -> bool {
        !self.batch.is_sent()
    }

    /// Has all that was received been answered, and the answers taken by the kernel?
    pub(crate) fn is_done(&self) -> bool {
        self.batch.is_answered() && !self.wants_write()
    }

    pub(crate) fn can_progress(&self, ready: &Ready) -> bool {
        if self.wants_write() { ready.writable } else { ready.readable || !self.batch.is_answered() }
    }

    fn receive(&mut self, ready: &mut Ready, stats: &mut Stats) {
        let result = self.exchange.receive(&self.socket, &mut self.batch);
        trace!("{} receive -> {result:?}", self.address);
        match result {
            // Less than was asked for: the call itself met the end of the queue.
            Ok(is_full) => ready.readable = is_full,
            Err(error) => match errno::of_receive(&error) {
                StreamError::Blocked => ready.readable = false,
                StreamError::Again => {}
                // What a receive can fail with on an unconnected socket (an old send's ICMP error, memory) concerns one
                // datagram, and reading the error clears it.
                StreamError::PeerLeft | StreamError::Failed => {
                    stats.datagram_errors += 1;
                    debug!("{} receive: {error}", self.address);
                }
            },
        }
    }

    /// Answers the batch, or as much of it as there is room for replies to. A datagram on which the protocol panics is passed
    /// over.
    fn answer(&mut self, turn: &mut Turn) {
        while !self.batch.is_answered() && !self.batch.is_full() {
            // Whatever state the protocol has left itself in: ours is sound, for it is called between any two changes.
            match catch_unwind(AssertUnwindSafe(|| self.answer_while_there_is_room(turn))) {
                Ok(Some(heard)) => {
                    turn.stats.datagrams_in += heard as u64;
                    self.batch.close();
                }
                Ok(None) => turn.stats.datagrams_in += self.batch.close_behind_last() as u64,
                Err(_) => {
                    turn.stats.panics += 1;
                    turn.stats.datagrams_in += self.batch.close_behind_last() as u64;
                }
            }
        }
        let (too_long, dropped) = self.batch.take_lost();
        turn.stats.datagrams_too_long += too_long;
        turn.stats.datagrams_unsent += dropped;
    }

    /// Returns how many datagrams it has come past, if it has come to the end of the batch.
    #[inline(never)] // so that its loop has the registers for itself
    fn answer_while_there_is_room(&mut self, turn: &mut Turn) -> Option<usize> {
        let mut heard = 0;
        let (unanswered, buffers, mut replies) = self.batch.open();
        for (number, sender, messages) in unanswered.senders() {
            let mut datagram = match sender.peer_to_answer(turn) {
                Ok(peer) => Datagram { payload: &[], peer },
                Err(why) => {
                    let count: usize = messages.iter().map(Message::datagrams).sum();
                    heard += count;
                    turn.stats.datagrams_refused += count as u64;
                    self.refused = Some((sender.peer, why));
                    continue;
                }
            };
            replies.turn_to(number);
            for message in messages {
                if message.is_cut {
                    heard += message.datagrams();
                    turn.stats.datagrams_refused += message.datagrams() as u64;
                    self.refused = Some((sender.peer, Refusal::Cut));
                    continue;
                }
                let mut next = Some(message.first());
                while let Some(place) = next {
                    heard += 1;
                    replies.answer(place);
                    datagram.payload = place.of(buffers);
                    self.protocol.answer(&datagram, &mut replies);
                    if replies.is_full() {
                        return None;
                    }
                    next = message.next(place);
                }
            }
        }
        Some(heard)
    }

    fn send(&mut self, ready: &mut Ready, stats: &mut Stats) {
        let DatagramSocket { socket, exchange, .. } = self;
        send_all(&mut self.batch, ready, stats, self.address, |batch| exchange.send(socket, batch));
    }
}

/// Sends what waits, as `send` puts it to the kernel, until it is gone or the kernel takes no more.
fn send_all(
    batch: &mut Batch,
    ready: &mut Ready,
    stats: &mut Stats,
    address: SocketAddr,
    mut send: impl FnMut(&Batch) -> io::Result<usize>,
) {
    while !batch.is_sent() && ready.writable {
        let result = send(batch);
        trace!("{address} send {} messages -> {result:?}", batch.unsent());
        match result {
            Ok(messages) => stats.datagrams_out += batch.strike(messages) as u64,
            Err(error) => match errno::of_send_datagram(&error) {
                DatagramError::Blocked => ready.writable = false,
                DatagramError::Again => {}
                DatagramError::NoTrain if batch.break_train(false) => {
                    debug!("{address} sends no more trains: {error}");
                }
                DatagramError::NoTrainOnThisPath if batch.break_train(true) => {
                    debug!("{address} sends this train one by one: {error}");
                }
                // It was no train.
                DatagramError::NoTrain | DatagramError::NoTrainOnThisPath | DatagramError::Unsendable => {
                    stats.datagrams_unsent += batch.strike(1) as u64;
                    debug!("{address} send: {error}");
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
