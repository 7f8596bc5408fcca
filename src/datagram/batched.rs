//! Batches by recvmmsg(2) and sendmmsg(2), joined and cut by the kernel (GRO, GSO).

use std::io;

use super::receive::{BUFFER_BYTES, Batch, Message, STRIDE_BYTES, Sender};
use super::replies::{Recipient, ReplyQueue};
use super::scratch::CallArrays;
use crate::protocol::datagram::Batching;
use crate::sys::linux::{self, RecvBuffers, SendMessage, SendTo};
use crate::sys::{LocalAddress, UdpSocket};

pub(crate) struct MmsgIo {
    is_connected: bool,
}

impl MmsgIo {
    pub(crate) fn new(socket: &UdpSocket, batching: Batching) -> MmsgIo {
        if batching == Batching::Gso {
            linux::enable_gro(socket);
        }
        linux::enable_pktinfo(socket);
        MmsgIo { is_connected: socket.peer_addr().is_ok() }
    }

    /// Receives a batch. Returns whether it is full, so that there may be more.
    #[inline(never)] // so that its loop has the registers for itself
    pub(crate) fn receive(
        socket: &UdpSocket,
        batch: &mut Batch,
        arrays: &mut CallArrays,
    ) -> io::Result<bool> {
        batch.clear();
        let buffers = RecvBuffers {
            memory: &mut batch.buffers,
            bytes_each: BUFFER_BYTES,
            stride_bytes: STRIDE_BYTES,
        };
        let received = arrays.mmsg.receive(socket, buffers)?;
        let mut last = None;
        batch.messages.extend(received.enumerate().map(|(number, message)| {
            if last != Some((message.name, message.local)) {
                last = Some((message.name, message.local));
                let (peer, local) = (message.name.parse(), message.local);
                batch.senders.push(Sender { peer, local, first: number });
            }
            Message {
                offset: number * STRIDE_BYTES,
                length: message.length,
                segment: message.segment.unwrap_or(message.length),
                is_truncated: message.is_truncated,
            }
        }));
        Ok(batch.messages.len() == arrays.mmsg.batch_max())
    }

    /// Sends what waits with one call: at most `DATAGRAM_BATCH` GSO batches. Returns how many the
    /// kernel took, at least one; otherwise the error of the first one.
    pub(crate) fn send(
        &self,
        socket: &UdpSocket,
        batch: &Batch,
        replies: &ReplyQueue,
        arrays: &mut CallArrays,
    ) -> io::Result<usize> {
        let is_connected = self.is_connected;
        arrays.mmsg.send(
            socket,
            replies.pending_slices(batch).map(|(gso, slices)| {
                let (to, local) = match gso.to {
                    Recipient::Sender(_) | Recipient::Connected if is_connected => {
                        (SendTo::Connected, LocalAddress::Fixed)
                    }
                    Recipient::Sender(number) if !batch.is_copy => {
                        let sender = &batch.senders[number];
                        (SendTo::Sender(sender.first), sender.local)
                    }
                    Recipient::Sender(number) => {
                        let sender = &batch.senders[number];
                        (SendTo::Address(sender.peer), sender.local)
                    }
                    Recipient::Named(_) => {
                        let peer = replies.peer_of(gso.to, &batch.senders);
                        (SendTo::Address(peer), LocalAddress::Fixed)
                    }
                    // The socket has no peer, so the kernel refuses this one.
                    Recipient::Connected => (SendTo::Connected, LocalAddress::Fixed),
                };
                let segment = (gso.datagrams() > 1).then_some(gso.segment);
                SendMessage { to, slices, segment, local }
            }),
        )
    }
}
