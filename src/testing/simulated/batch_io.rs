//! How a datagram socket receives and sends batches in the library's own tests.
//!
//! Over a socket of the system: as in the program. Over a simulated one: either one datagram in
//! each call (`Plain`), or whole batches with GRO and GSO as on Linux (`Gso`). Which of the two is
//! drawn from the seed, since a protocol must not see the difference.

use std::io;

use crate::datagram::batch_io;
use crate::datagram::portable::PlainIo;
use crate::datagram::receive::{BUFFER_BYTES, Batch, STRIDE_BYTES};
use crate::datagram::replies::ReplyQueue;
use crate::datagram::scratch::CallArrays;
use crate::limits::DATAGRAM_BATCH;
use crate::protocol::datagram::Batching;
use crate::sys::{LocalAddress, UdpSocket};
use crate::testing::simulated::errno;

pub(crate) enum BatchIo {
    Native(batch_io::BatchIo),
    Plain,
    /// recvmmsg(2) with UDP_GRO and sendmmsg(2) with UDP_SEGMENT, simulated.
    Gso,
}

impl BatchIo {
    pub(crate) fn new(socket: &UdpSocket, batching: Batching) -> BatchIo {
        match socket {
            UdpSocket::System(_) => BatchIo::Native(batch_io::BatchIo::new(socket, batching)),
            UdpSocket::Simulated(simulated)
                if simulated.draw_batching() && batch_io::may_pass_by_mio() =>
            {
                BatchIo::Gso
            }
            UdpSocket::Simulated(_) => BatchIo::Plain,
        }
    }

    pub(crate) fn is_batched(&self) -> bool {
        match self {
            BatchIo::Native(io) => io.is_batched(),
            BatchIo::Plain => false,
            BatchIo::Gso => true,
        }
    }

    pub(crate) fn receive(
        &mut self,
        socket: &UdpSocket,
        batch: &mut Batch,
        arrays: &mut CallArrays,
    ) -> io::Result<bool> {
        match self {
            BatchIo::Native(io) => io.receive(socket, batch, arrays),
            BatchIo::Plain => PlainIo::receive(socket, batch),
            BatchIo::Gso => receive_batch(socket, batch),
        }
    }

    pub(crate) fn send(
        &mut self,
        socket: &UdpSocket,
        batch: &Batch,
        replies: &ReplyQueue,
        arrays: &mut CallArrays,
    ) -> io::Result<usize> {
        match self {
            BatchIo::Native(io) => io.send(socket, batch, replies, arrays),
            // `PlainIo` refuses a GSO batch with `ErrorKind::Unsupported`, which is how the systems
            // that use it classify the refusal. The tests run on Linux, which classifies by errno.
            BatchIo::Plain => PlainIo::send(socket, batch, replies, arrays).map_err(|error| {
                let is_refusal = error.kind() == io::ErrorKind::Unsupported;
                if is_refusal { io::Error::from_raw_os_error(errno::EOPNOTSUPP) } else { error }
            }),
            BatchIo::Gso => send_batch(socket, batch, replies),
        }
    }
}

/// As recvmmsg(2) with UDP_GRO: consecutive datagrams of one size and one sender become one
/// message.
fn receive_batch(socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool> {
    let UdpSocket::Simulated(socket) = socket else {
        panic!("only a simulated socket has simulated batches")
    };
    batch.clear();
    let received = socket.receive_batch(DATAGRAM_BATCH)?;
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

/// As sendmmsg(2): an error after the first message is left for the next call.
fn send_batch(socket: &UdpSocket, batch: &Batch, replies: &ReplyQueue) -> io::Result<usize> {
    let UdpSocket::Simulated(socket) = socket else {
        panic!("only a simulated socket has simulated batches")
    };
    let mut sent = 0;
    for (gso_batch, slices) in replies.pending_slices(batch).take(DATAGRAM_BATCH) {
        let assembled: Vec<u8> = slices.flatten().copied().collect();
        let datagrams: Vec<&[u8]> = match gso_batch.datagrams() {
            1 => vec![&assembled],
            _ => assembled.chunks(gso_batch.segment).collect(),
        };
        assert_eq!(
            datagrams.len(),
            gso_batch.datagrams(),
            "a GSO batch counts as many datagrams as it is split into"
        );
        let peer =
            replies.peer_of(gso_batch.to, &batch.senders).ok_or(io::ErrorKind::AddrNotAvailable)?;
        match socket.send_segments(&datagrams, peer) {
            Ok(()) => sent += 1,
            Err(error) if sent == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(sent)
}
