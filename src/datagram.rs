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
//! that cannot be sent is dropped and counted, alone: never a neighbour, and never the loop.

mod batch;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
#[cfg(test)]
mod simulated;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use log::{debug, trace};

use crate::connection::Outcome;
use crate::errno::{self, DatagramError};
use crate::limits::DATAGRAM_BATCHES_PER_TURN;
use crate::net::UdpSocket;
use crate::stats::Stats;
use crate::turn::Turn;
use crate::wire::Ready;

pub use batch::Replies;
use batch::{Batch, Sender, messages_of};
#[cfg(all(target_os = "linux", not(test)))]
use linux::Exchange;
#[cfg(all(not(target_os = "linux"), not(test)))]
use portable::Exchange;
#[cfg(test)]
use simulated::Exchange;

/// A service over datagrams: each is answered for itself, with none, one or several.
pub trait DatagramProtocol {
    /// Answers `datagram`. The call must return soon: while it runs, nobody else is served.
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
}

impl DatagramSocket {
    pub(crate) fn new(socket: UdpSocket, protocol: Box<dyn DatagramProtocol>) -> io::Result<DatagramSocket> {
        let address = socket.local_addr()?;
        Ok(DatagramSocket { exchange: Exchange::new(&socket), batch: Batch::new(), socket, address, protocol })
    }

    /// Receives, answers and sends, batch by batch, until the kernel has no more or the budget is spent.
    #[inline(never)]
    pub(crate) fn drive(&mut self, ready: &mut Ready, turn: &mut Turn) -> Outcome {
        let errors_before = turn.stats.datagram_errors;
        for _ in 0..DATAGRAM_BATCHES_PER_TURN {
            self.send(ready, &mut turn.stats);
            if self.wants_write() || !ready.readable {
                return Outcome::Blocked;
            }
            self.receive(ready, &mut turn.stats);
            self.answer(&mut turn.stats);
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

    pub(crate) fn can_progress(&self, ready: &Ready) -> bool {
        if self.wants_write() { ready.writable } else { ready.readable }
    }

    fn receive(&mut self, ready: &mut Ready, stats: &mut Stats) {
        let result = self.exchange.receive(&self.socket, &mut self.batch);
        trace!("{} receive -> {result:?}", self.address);
        match result {
            // Less than was asked for: the call itself met the end of the queue.
            Ok(is_full) => ready.readable = is_full,
            Err(error) if error.kind() == ErrorKind::WouldBlock => ready.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // What a receive can fail with on an unconnected socket (an old send's ICMP error, memory) concerns one
            // datagram, and reading the error clears it.
            Err(error) => {
                stats.datagram_errors += 1;
                debug!("{} receive: {error}", self.address);
            }
        }
    }

    fn answer(&mut self, stats: &mut Stats) {
        let (messages, senders, buffers, mut replies) = self.batch.open();
        let (mut heard, mut refused) = (0, 0);
        for (number, sender) in senders.iter().enumerate() {
            let mut datagram = sender.peer_to_answer(&self.address).map(|peer| Datagram { payload: &[], peer });
            replies.turn_to(number);
            for message in messages_of(number, senders, messages) {
                let count = message.datagrams();
                heard += count;
                let Some(datagram) = datagram.as_mut().filter(|_| !message.is_cut) else {
                    refused += count;
                    continue;
                };
                for index in 0..count {
                    let place = message.place(index);
                    replies.answer(place);
                    datagram.payload = place.of(buffers);
                    self.protocol.answer(datagram, &mut replies);
                }
            }
        }
        stats.datagrams_in += heard as u64;
        stats.datagrams_refused += refused as u64;
        stats.datagrams_too_long += replies.too_long();
    }

    fn send(&mut self, ready: &mut Ready, stats: &mut Stats) {
        while self.wants_write() && ready.writable {
            let result = self.exchange.send(&self.socket, &self.batch);
            trace!("{} send {} messages -> {result:?}", self.address, self.batch.unsent());
            match result {
                Ok(messages) => stats.datagrams_out += self.batch.strike(messages) as u64,
                Err(error) => match errno::of_send_datagram(&error) {
                    DatagramError::Blocked => ready.writable = false,
                    DatagramError::Again => {}
                    DatagramError::NoTrain if self.batch.break_train(false) => {
                        debug!("{} sends no more trains: {error}", self.address);
                    }
                    DatagramError::NoTrainOnThisPath if self.batch.break_train(true) => {
                        debug!("{} sends this train one by one: {error}", self.address);
                    }
                    // It was no train.
                    DatagramError::NoTrain | DatagramError::NoTrainOnThisPath | DatagramError::Unsendable => {
                        stats.datagrams_unsent += self.batch.strike(1) as u64;
                        debug!("{} send: {error}", self.address);
                    }
                },
            }
        }
    }
}

impl Sender {
    /// The peer, unless it must not be answered. Port 0 cannot be, and what was sent to a group is not for us alone. Our own
    /// address would have us talk to ourselves for ever. A socket on all addresses cannot tell which of them are its own:
    /// there, no peer with its port is answered (elsewhere, that may be such a service too, and the same would come of it).
    fn peer_to_answer(&self, own: &SocketAddr) -> Option<SocketAddr> {
        let asked_many = self.local.is_some_and(|asked| asked.is_multicast());
        let is_own = |peer: &SocketAddr| peer.port() == own.port() && (peer.ip() == own.ip() || own.ip().is_unspecified());
        self.peer.filter(|peer| !asked_many && peer.port() != 0 && !is_own(peer))
    }
}

#[cfg(test)]
mod tests;
