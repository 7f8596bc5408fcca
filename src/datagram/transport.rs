//! What a datagram socket receives from and sends to: a socket of the system, or memory in a test.
//!
//! A datagram socket is written for any transport, as a connection is.

use std::io;

#[cfg(not(test))]
use super::batch_io::BatchIo;
use super::receive::Batch;
use super::replies::ReplyQueue;
use super::scratch::CallArrays;
use crate::protocol::datagram::Batching;
use crate::sys::UdpSocket;
#[cfg(test)]
use crate::testing::simulated::batch_io::BatchIo;

/// What a datagram socket receives from and sends to.
pub(crate) trait DatagramTransport {
    /// Receives a batch. Returns whether it is full, so that there may be more.
    fn receive(&mut self, batch: &mut Batch, arrays: &mut CallArrays) -> io::Result<bool>;

    /// Returns whether a batch takes one system call, or one for each message: for the trace log.
    fn is_batched(&self) -> bool {
        true
    }

    /// Sends what waits in `replies`. Returns how many GSO batches the kernel took, at least one;
    /// otherwise the error of the first one.
    fn send(
        &mut self,
        batch: &Batch,
        replies: &ReplyQueue,
        arrays: &mut CallArrays,
    ) -> io::Result<usize>;
}

/// A socket of the system, and how batches cross to it.
pub(crate) struct SystemSocket {
    pub(crate) socket: UdpSocket,
    io: BatchIo,
}

impl SystemSocket {
    pub(super) fn new(socket: UdpSocket, batching: Batching) -> SystemSocket {
        let io = BatchIo::new(&socket, batching);
        SystemSocket { socket, io }
    }
}

impl DatagramTransport for SystemSocket {
    #[inline(always)] // it has one caller
    fn receive(&mut self, batch: &mut Batch, arrays: &mut CallArrays) -> io::Result<bool> {
        self.io.receive(&self.socket, batch, arrays)
    }

    fn is_batched(&self) -> bool {
        self.io.is_batched()
    }

    #[inline(always)] // as above
    fn send(
        &mut self,
        batch: &Batch,
        replies: &ReplyQueue,
        arrays: &mut CallArrays,
    ) -> io::Result<usize> {
        self.io.send(&self.socket, batch, replies, arrays)
    }
}
