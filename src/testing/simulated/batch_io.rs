//! How a datagram socket's batches cross in the library's own tests: as on this system over a socket of its own, and over a
//! simulated one either by single calls or by whole batches with trains, as on Linux.

use std::io;

use crate::datagram::receive::{BUFFER_BYTES, Batch, STRIDE_BYTES};
use crate::datagram::replies::ReplyQueue;
use crate::datagram::{batch_io, portable};
use crate::limits::DATAGRAM_BATCH;
use crate::protocol::datagram::Batching;
use crate::sys::{LocalAddress, UdpSocket};
use crate::testing::simulated::errno;

pub(crate) enum BatchIo {
    Native(batch_io::BatchIo),
    Plain(portable::PlainIo),
    /// Batches, with trains both ways.
    Gso,
}

impl BatchIo {
    pub(crate) fn new(socket: &UdpSocket, batching: Batching) -> BatchIo {
        match socket {
            UdpSocket::System(_) => BatchIo::Native(batch_io::BatchIo::new(socket, batching)),
            UdpSocket::Simulated(simulated) if simulated.batches() => BatchIo::Gso,
            UdpSocket::Simulated(_) => BatchIo::Plain(portable::PlainIo::new()),
        }
    }

    pub(crate) fn receive(&mut self, socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool> {
        match self {
            BatchIo::Native(io) => io.receive(socket, batch),
            BatchIo::Plain(io) => io.receive(socket, batch),
            BatchIo::Gso => receive_batch(socket, batch),
        }
    }

    pub(crate) fn send(
        &mut self,
        socket: &UdpSocket,
        batch: &Batch,
        replies: &ReplyQueue,
    ) -> io::Result<usize> {
        match self {
            BatchIo::Native(io) => io.send(socket, batch, replies),
            // Where it is at home, its refusal of a train is known by its kind; on Linux, by its number.
            BatchIo::Plain(io) => io.send(socket, batch, replies).map_err(|error| {
                let is_refusal = error.kind() == io::ErrorKind::Unsupported;
                if is_refusal { io::Error::from_raw_os_error(errno::EOPNOTSUPP) } else { error }
            }),
            BatchIo::Gso => send_batch(socket, batch, replies),
        }
    }
}

/// As `recvmmsg` with UDP_GRO: neighbours of one size and one sender come as one message.
fn receive_batch(socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool> {
    let UdpSocket::Simulated(socket) = socket else {
        panic!("batches are simulated over simulated sockets")
    };
    batch.clear();
    let received = socket.receive_many(DATAGRAM_BATCH)?;
    let is_full = received.len() == DATAGRAM_BATCH;
    for (payload, peer) in received {
        let number = batch.messages.len();
        if let (Some(sender), Some(last)) = (batch.senders.last(), batch.messages.last_mut())
            && sender.peer == Some(peer)
            && last.length.is_multiple_of(last.segment.max(1))
            && (1..=last.segment).contains(&payload.len())
            && last.length + payload.len() <= BUFFER_BYTES
        {
            batch.buffers[(number - 1) * STRIDE_BYTES + last.length..][..payload.len()]
                .copy_from_slice(&payload);
            last.length += payload.len();
            continue;
        }
        let length = payload.len();
        batch.buffers[number * STRIDE_BYTES..][..length].copy_from_slice(&payload);
        batch.push_message(Some(peer), LocalAddress::Fixed, length, length, false);
    }
    Ok(is_full)
}

/// As `sendmmsg`: what fails behind the first train is found out by the next call.
fn send_batch(socket: &UdpSocket, batch: &Batch, replies: &ReplyQueue) -> io::Result<usize> {
    let UdpSocket::Simulated(socket) = socket else {
        panic!("batches are simulated over simulated sockets")
    };
    let mut sent = 0;
    for train in replies.pending().iter().take(DATAGRAM_BATCH) {
        let assembled: Vec<u8> = replies.slices(train, batch).flatten().copied().collect();
        let datagrams: Vec<&[u8]> = match train.datagrams() {
            1 => vec![&assembled],
            _ => assembled.chunks(train.segment).collect(),
        };
        assert_eq!(
            datagrams.len(),
            train.datagrams(),
            "a train has as many datagrams as it is cut into"
        );
        let peer =
            replies.peer_of(train.to, &batch.senders).ok_or(io::ErrorKind::AddrNotAvailable)?;
        match socket.send_train(&datagrams, peer) {
            Ok(()) => sent += 1,
            Err(error) if sent == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(sent)
}
