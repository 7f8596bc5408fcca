//! Batches by recvmmsg(2) and sendmmsg(2), joined and cut by the kernel (GRO, GSO).

use std::io;

use super::receive::{BUFFER_BYTES, Batch, Message, STRIDE_BYTES, Sender};
use super::replies::{Recipient, ReplyQueue};
use super::scratch::CallArrays;
use crate::protocol::datagram::Batching;
use crate::sys::linux::{self, Control, RecvBuffers, RecvMessage, SendMessage, SendTo, SockAddr};
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
        let Batch { messages, senders, .. } = batch;
        messages.extend(received.clone().enumerate().map(|(number, message)| {
            let RecvMessage { length, is_truncated, .. } = message;
            Message { offset: number * STRIDE_BYTES, length, segment: length, is_truncated }
        }));
        // Neighbours mostly have one sender, and only the first of them is parsed. Together, the
        // two loops would run out of registers.
        let (mut last, mut segment) = (None, None);
        for (number, RecvMessage { name, control, .. }) in received.enumerate() {
            if last != Some((name, control)) {
                let is_same_peer = last.is_some_and(|(last, _)| last == name);
                segment = add_sender(senders, number, name, is_same_peer, control);
                last = Some((name, control));
            }
            if let Some(segment) = segment {
                messages[number].segment = segment;
            }
        }
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

/// Adds a sender, unless the message before has the same peer and local address. `first` is the
/// number of its message. Returns the size of the datagrams in it, if the kernel has joined any.
#[inline(never)] // the loop over the messages has no registers to spare
fn add_sender(
    senders: &mut Vec<Sender>,
    first: usize,
    name: &SockAddr,
    is_same_peer: bool,
    control: Control<'_>,
) -> Option<usize> {
    let (segment, local) = control.parse();
    if !is_same_peer || senders.last().is_none_or(|last| last.local != local) {
        senders.push(Sender { peer: name.parse(), local, first });
    }
    segment
}
