//! Batches by single calls, recvfrom(2) and sendto(2): for every system, and for protocols that
//! want no others.

use std::io;
use std::io::ErrorKind;

use super::receive::{BUFFER_BYTES, Batch, STRIDE_BYTES};
use super::replies::{GsoBatch, ReplyQueue};
use super::scratch::CallArrays;
use crate::limits::DATAGRAM_BATCH;
use crate::sys::{LocalAddress, UdpSocket};

pub(crate) struct PlainIo;

impl PlainIo {
    /// Receives a batch. Returns whether it is full, so that there may be more. An error is
    /// returned only if nothing was received before it; otherwise the next call returns it again.
    pub(crate) fn receive(socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool> {
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

    /// Sends what waits. Returns how many GSO batches the kernel took, at least one; otherwise the
    /// error of the first one.
    pub(crate) fn send(
        socket: &UdpSocket,
        batch: &Batch,
        replies: &ReplyQueue,
        arrays: &mut CallArrays,
    ) -> io::Result<usize> {
        for (number, (gso, slices)) in replies.pending_slices(batch).enumerate() {
            match PlainIo::send_one(socket, batch, replies, gso, slices, &mut arrays.assembled) {
                Ok(()) => {}
                Err(error) if number == 0 => return Err(error),
                Err(_) => return Ok(number), // the next call returns it again
            }
        }
        Ok(replies.pending_len())
    }

    fn send_one<'s>(
        socket: &UdpSocket,
        batch: &Batch,
        replies: &ReplyQueue,
        gso: &GsoBatch,
        mut slices: impl Iterator<Item = &'s [u8]>,
        assembled: &mut Vec<u8>,
    ) -> io::Result<()> {
        if gso.datagrams() > 1 {
            return Err(ErrorKind::Unsupported.into()); // the batches are split then, and sent again
        }
        let first = slices.next().unwrap_or_default();
        let payload = match slices.next() {
            None => first,
            Some(second) => {
                assembled.clear();
                let all = [first, second].into_iter().chain(slices);
                all.for_each(|slice| assembled.extend_from_slice(slice));
                &*assembled
            }
        };
        // Some systems refuse an address where the socket has its peer.
        match replies.connected {
            Some(_) => socket.send(payload)?,
            None => {
                let peer = replies.peer_of(gso.to, &batch.senders);
                socket.send_to(payload, peer.ok_or(ErrorKind::AddrNotAvailable)?)?
            }
        };
        Ok(())
    }
}
