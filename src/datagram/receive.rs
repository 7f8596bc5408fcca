//! A batch of datagrams received, and how much of it has been answered.
//!
//! ```text
//!     buffers   │ message 0 ........ │ message 1 ........ │ …    one per datagram or GRO batch
//!     messages  │ 64 × 72 bytes      │ 1 × 9 bytes        │ …    where each begins, how it is cut
//!     senders   │ 192.0.2.7:1000: from 0 │ 192.0.2.8:1000: from 2 │    neighbours share an entry
//! ```
//!
//! A batch need not be answered in one drive: when the replies to a part of it take much memory,
//! they are sent first. `answered` counts the messages that have been answered.
//!
//! The buffers exist once for all sockets (`scratch.rs`). A socket that cannot answer its batch in
//! one drive, or cannot send the replies, keeps a copy.
//!
//! Invariant: the buffers do not change while replies wait, because replies list pieces of them.

use std::net::SocketAddr;

use crate::limits::DATAGRAM_BATCH;
use crate::sys::LocalAddress;

/// Room for one message: the largest datagram, or GRO batch of them, that the kernel hands out.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;
/// From one buffer to the next. A few cache lines more than a buffer: otherwise the first bytes of
/// all buffers, mostly the only ones in use, would compete for the same set of the processor's
/// cache.
pub(crate) const STRIDE_BYTES: usize = BUFFER_BYTES + 5 * 64;

/// What one receive brought.
pub(crate) struct Batch {
    /// Touched only as far as datagrams reach, so it costs address space rather than memory.
    pub(crate) buffers: Vec<u8>,
    pub(crate) messages: Vec<Message>,
    /// In the order of their messages. Neighbouring messages from one peer share an entry.
    pub(crate) senders: Vec<Sender>,
    /// How many messages have been answered, from the front. A message answered in part is
    /// shortened.
    answered: usize,
    /// It is a copy that a socket keeps: its messages lie side by side, and the kernel's form of
    /// the senders' addresses is gone.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "for sendmmsg(2)"))]
    pub(crate) is_copy: bool,
}

/// One datagram, or several of one size and one sender that the kernel has joined (UDP_GRO).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Where it begins in the buffers.
    pub(crate) offset: usize,
    pub(crate) length: usize,
    /// The size of each datagram but the last, which may be shorter. Equal to `length` for a single
    /// one.
    pub(crate) segment: usize,
    /// The kernel had more of it than fitted.
    pub(crate) is_truncated: bool,
}

/// The source address of one message, or of several in a row, and the address of ours they were
/// sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    /// `None`: of no address family we know.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: LocalAddress,
    /// The first of its messages. The others follow, up to those of the next sender, or to the last
    /// of all.
    pub(crate) first: usize,
}

/// What has been received and not been answered yet.
#[derive(Clone, Copy)]
pub(crate) struct Unanswered<'b> {
    messages: &'b [Message],
    senders: &'b [Sender],
    /// The first message to be answered.
    from: usize,
}

/// A stretch of the buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) offset: usize,
    pub(crate) length: usize,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch {
            buffers: vec![0; DATAGRAM_BATCH * STRIDE_BYTES],
            messages: Vec::with_capacity(DATAGRAM_BATCH),
            senders: Vec::with_capacity(DATAGRAM_BATCH),
            answered: 0,
            is_copy: false,
        }
    }

    /// Returns a copy that has memory for what was received, and not for more.
    pub(crate) fn to_size(&self) -> Batch {
        let bytes = |message: &Message| message.offset % STRIDE_BYTES + message.length + 1;
        let mut buffers = Vec::with_capacity(self.messages.iter().map(bytes).sum());
        let mut messages = self.messages.clone();
        for (number, message) in messages.iter_mut().enumerate() {
            // What is answered already is copied, too, because replies may list parts of it.
            let begin = number * STRIDE_BYTES;
            let end = message.offset + message.length;
            message.offset = buffers.len() + (message.offset - begin);
            buffers.extend_from_slice(&self.buffers[begin..end]);
            buffers.push(0); // so that no two messages begin at one offset, even if one is empty
        }
        let (senders, answered) = (self.senders.clone(), self.answered);
        Batch { buffers, messages, senders, answered, is_copy: true }
    }

    /// Returns the memory that it takes, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.buffers.capacity()
            + self.messages.capacity() * size_of::<Message>()
            + self.senders.capacity() * size_of::<Sender>()
    }

    /// Returns where the byte at `offset` of this batch lies in `copy`, a copy of it.
    pub(crate) fn offset_in_copy(&self, offset: usize, copy: &Batch) -> usize {
        let number = offset / STRIDE_BYTES;
        copy.messages[number].offset + offset - self.messages[number].offset
    }

    /// Removes what was received.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.senders.clear();
        self.answered = 0;
    }

    /// Adds a message of `length` bytes, which lies in the next of the buffers.
    pub(crate) fn push_message(
        &mut self,
        peer: Option<SocketAddr>,
        local: LocalAddress,
        length: usize,
        segment: usize,
        is_truncated: bool,
    ) {
        let number = self.messages.len();
        if self.senders.last().is_none_or(|last| last.peer != peer || last.local != local) {
            self.senders.push(Sender { peer, local, first: number });
        }
        let offset = number * STRIDE_BYTES;
        self.messages.push(Message { offset, length, segment, is_truncated });
    }

    /// What is still to be answered.
    pub(crate) fn unanswered(&self) -> Unanswered<'_> {
        Unanswered { messages: &self.messages, senders: &self.senders, from: self.answered }
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answered == self.messages.len()
    }

    /// Marks all of it as answered.
    pub(crate) fn finish_answering(&mut self) {
        self.answered = self.messages.len();
    }

    /// Marks all up to the datagram at `last` as answered; the rest is answered later. Returns how
    /// many datagrams these were.
    pub(crate) fn finish_through(&mut self, last: Span) -> usize {
        let number = self.messages.partition_point(|message| message.offset <= last.offset) - 1;
        let before: usize =
            self.messages[self.answered..number].iter().map(Message::datagrams).sum();
        let message = &mut self.messages[number];
        let taken = last.offset + last.length - message.offset;
        let of_message =
            if taken == message.length { message.datagrams() } else { taken / message.segment };
        message.offset += taken;
        message.length -= taken;
        self.answered = number + usize::from(message.length == 0);
        before + of_message
    }
}

impl Message {
    /// How many datagrams it holds: one, also where it is empty, unless the kernel joined several.
    pub(crate) fn datagrams(&self) -> usize {
        if self.segment >= self.length { 1 } else { self.length.div_ceil(self.segment) }
    }

    /// Where its first datagram lies in the buffers.
    pub(crate) fn first(&self) -> Span {
        Span { offset: self.offset, length: self.segment.min(self.length) }
    }

    /// Where the datagram after the one at `span` lies, if there is another.
    pub(crate) fn next(&self, span: Span) -> Option<Span> {
        let offset = span.offset + span.length;
        let left = self.offset + self.length - offset;
        (left > 0).then(|| Span { offset, length: self.segment.min(left) })
    }
}

impl Span {
    pub(crate) const NONE: Span = Span { offset: 0, length: 0 };

    pub(crate) fn of<'b>(&self, buffers: &'b [u8]) -> &'b [u8] {
        &buffers[self.offset..][..self.length]
    }
}

impl<'b> Unanswered<'b> {
    /// Each sender, with its number and with its messages that are to be answered.
    pub(crate) fn senders(self) -> impl Iterator<Item = (usize, &'b Sender, &'b [Message])> {
        let Unanswered { messages, senders, from } = self;
        let first = match from {
            0 => 0,
            from => senders.partition_point(|sender| sender.first <= from) - 1,
        };
        (first..senders.len()).map(move |number| {
            let sender = &senders[number];
            let end = senders.get(number + 1).map_or(messages.len(), |next| next.first);
            (number, sender, &messages[sender.first.max(from)..end])
        })
    }
}
