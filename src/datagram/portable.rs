//! Batches by single calls: recv_from and send_to, for every system, and for protocols that want no others.

use std::io;
use std::io::ErrorKind;

use super::batch::{BUFFER_BYTES, Batch, GsoBatch, LocalAddress, STRIDE_BYTES};
use crate::limits::DATAGRAM_BATCH;
use crate::sys::UdpSocket;

pub(crate) struct PlainIo {
    /// A reply of several pieces is put together here, since send_to takes one slice.
    assembled: Vec<u8>,
}

impl PlainIo {
    pub(crate) fn new() -> PlainIo {
        PlainIo { assembled: Vec::new() }
    }

    /// Receives a batch. Says whether it is full, so that there may be more. An error is returned only if nothing
    /// was received before it; otherwise the next call meets it again.
    pub(crate) fn receive(&mut self, socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool> {
        batch.clear();
        for index in 0..DATAGRAM_BATCH {
            let buffer = &mut batch.buffers[index * STRIDE_BYTES..][..BUFFER_BYTES];
            match socket.recv_from(buffer) {
                Ok((length, peer)) => {
                    batch.push_message(Some(peer), LocalAddress::Fixed, length, length, false);
                }
                Err(error) if batch.messages.is_empty() => return Err(error),
                Err(error) => return Ok(error.kind() != ErrorKind::WouldBlock),
            }
        }
        Ok(true)
    }

    /// Sends what waits. Returns how many the kernel took, at least one; what the first one failed with otherwise.
    pub(crate) fn send(&mut self, socket: &UdpSocket, batch: &Batch) -> io::Result<usize> {
        for (number, train) in batch.pending().iter().enumerate() {
            match self.send_one(socket, batch, train) {
                Ok(()) => {}
                Err(error) if number == 0 => return Err(error),
                Err(_) => return Ok(number), // the next call meets it again
            }
        }
        Ok(batch.pending_len())
    }

    fn send_one(&mut self, socket: &UdpSocket, batch: &Batch, train: &GsoBatch) -> io::Result<()> {
        if train.datagrams() > 1 {
            return Err(ErrorKind::Unsupported.into()); // then trains are broken, and it is asked again
        }
        let payload = match &batch.replies.iovecs[train.first_iovec..][..train.iovec_count] {
            [piece] => batch.bytes(piece),
            pieces => {
                self.assembled.clear();
                pieces
                    .iter()
                    .for_each(|piece| self.assembled.extend_from_slice(batch.bytes(piece)));
                &self.assembled
            }
        };
        // Some systems refuse an address where the socket has its peer.
        match batch.replies.connected {
            Some(_) => socket.send(payload)?,
            None => socket
                .send_to(payload, batch.peer_of(train.to).ok_or(ErrorKind::AddrNotAvailable)?)?,
        };
        Ok(())
    }
}
