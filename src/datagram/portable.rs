//! Batches by single calls: recv_from and send_to, for every system.

use std::io;
use std::io::ErrorKind;

use super::batch::{Asked, BUFFER_BYTES, Batch, STRIDE_BYTES};
use crate::limits::DATAGRAM_BATCH;
use crate::net::UdpSocket;

pub(super) struct Exchange {
    /// A reply is put together here, since send_to takes one slice.
    assembled: Vec<u8>,
}

impl Exchange {
    pub(super) fn new(_socket: &UdpSocket) -> Exchange {
        Exchange { assembled: Vec::new() }
    }

    /// Receives a batch. Says whether it is full, so that there may be more. An error is returned only if nothing
    /// was received before it; otherwise the next call meets it again.
    pub(super) fn receive(&mut self, socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool> {
        batch.clear();
        for index in 0..DATAGRAM_BATCH {
            let buffer = &mut batch.buffers[index * STRIDE_BYTES..][..BUFFER_BYTES];
            match socket.recv_from(buffer) {
                Ok((length, peer)) => batch.take_in(Some(peer), Asked::Only, length, length, false),
                Err(error) if batch.messages.is_empty() => return Err(error),
                Err(error) => return Ok(error.kind() != ErrorKind::WouldBlock),
            }
        }
        Ok(true)
    }

    /// Sends the first reply that waits.
    pub(super) fn send(&mut self, socket: &UdpSocket, batch: &Batch) -> io::Result<usize> {
        let train = batch.waiting()[0];
        if train.datagrams() > 1 {
            return Err(ErrorKind::Unsupported.into()); // then trains are broken, and it is asked again
        }
        self.assembled.clear();
        for piece in &batch.outgoing.pieces[train.first_piece..][..train.pieces] {
            self.assembled.extend_from_slice(batch.bytes(piece));
        }
        let peer = batch.senders[train.to].peer.ok_or(ErrorKind::AddrNotAvailable)?;
        socket.send_to(&self.assembled, peer)?;
        Ok(1)
    }
}
