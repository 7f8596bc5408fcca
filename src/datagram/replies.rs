//! Replies that wait to be sent.
//!
//! ```text
//!     copied   │ "echo -> " …                                what protocols wrote themselves
//!     iovecs   │ (copied, 0..8) (buffer 0, 0..64) …          where the bytes of the replies lie
//!     batches  │ to sender 0: 64 datagrams of 72 bytes │ …   consecutive iovecs to one peer
//! ```
//!
//! Replies are not assembled: a GSO batch lists pieces of memory, and the kernel gathers them.
//! Consecutive replies of one size to one peer share a batch, which leaves as one message and is
//! cut into datagrams by the kernel (UDP_SEGMENT, udp(7)). Pieces that lie side by side become one,
//! so that a received GRO batch which is echoed is one piece and one call.
//!
//! Invariant: the pieces of a batch, joined and cut every `segment` bytes, are its datagrams.

use std::net::SocketAddr;

use super::receive::{Batch, Sender, Span};
use crate::limits::{
    DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX_V6, REPLIES_BYTES_MAX, REPLIES_HIGH_WATERMARK_BYTES,
    REPLY_OVERHEAD_BYTES, SEGMENT_BYTES_MAX, SEGMENTS_MAX,
};

/// With fewer bytes left than this, no more is answered before the waiting replies have been sent.
const BYTES_LEFT_WHEN_FULL: usize = REPLIES_BYTES_MAX - REPLIES_HIGH_WATERMARK_BYTES;

/// No offset in the buffers.
const NOT_MERGEABLE: usize = usize::MAX;

/// Replies in the order in which they leave.
pub(crate) struct ReplyQueue {
    copied: Vec<u8>,
    iovecs: Vec<IoVec>,
    /// Where in the buffers the last piece ends, if what follows it there may be merged with it.
    mergeable_end: usize,
    batches: Vec<GsoBatch>,
    /// The recipients that a protocol has named itself.
    named_peers: Vec<SocketAddr>,
    /// The one peer that the socket is connected to, if it is.
    pub(crate) connected: Option<SocketAddr>,
    /// Batches that are done with, from the front.
    sent: usize,
    /// Whether replies may share a batch: if the protocol wants that, until the kernel first
    /// refuses one.
    pub(crate) gso_enabled: bool,
    /// What further replies may take, in bytes, each with its overhead.
    bytes_left: usize,
    /// Where in the buffers lies the datagram that is being answered, or was answered last.
    pub(crate) current: Span,
    /// Where replies go: mostly to the sender of the datagram that is being answered.
    to: Recipient,
    /// The last batch goes there, too.
    continues: bool,
    /// Replies not queued because they are too long for a datagram.
    too_long: u64,
    /// Replies not queued because no bytes were left.
    dropped: u64,
}

/// A stretch of memory that is part of a reply: what the kernel is given as an iovec (readv(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IoVec {
    /// In `copied`, or in the buffers.
    is_copied: bool,
    offset: usize,
    length: usize,
}

/// The recipient of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// To the sender of this number.
    Sender(usize),
    /// To the peer of this number among `named_peers`.
    Named(usize),
    /// To the peer that the socket is connected to.
    Connected,
}

/// Consecutive replies to one peer, all of `segment` bytes but the last, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GsoBatch {
    pub(crate) to: Recipient,
    pub(crate) segment: usize,
    /// Its iovecs are those from here to the first one of the next batch.
    first_iovec: usize,
    bytes: usize,
    /// The most bytes that it may have; 0 once no other datagram may join.
    bytes_max: usize,
}

const _: () = assert!(
    size_of::<GsoBatch>() + 2 * size_of::<IoVec>() + size_of::<SocketAddr>()
        <= REPLY_OVERHEAD_BYTES,
    "queueing a reply costs no more memory than it is charged"
);

impl ReplyQueue {
    pub(crate) fn new() -> ReplyQueue {
        ReplyQueue {
            copied: Vec::new(),
            iovecs: Vec::new(),
            mergeable_end: NOT_MERGEABLE,
            batches: Vec::new(),
            named_peers: Vec::new(),
            connected: None,
            sent: 0,
            gso_enabled: true,
            bytes_left: REPLIES_BYTES_MAX,
            current: Span::NONE,
            to: Recipient::Connected,
            continues: false,
            too_long: 0,
            dropped: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns whether the waiting replies are to be sent before any more is answered.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes_left < BYTES_LEFT_WHEN_FULL
    }

    /// Makes the queue full, whatever it holds, until it has been sent.
    pub(crate) fn set_full(&mut self) {
        self.bytes_left = self.bytes_left.min(BYTES_LEFT_WHEN_FULL - 1);
    }

    /// Begins a drive of a socket that is connected to `connected`, if it is. Undoes
    /// [`set_full`](ReplyQueue::set_full), if nothing waits.
    pub(crate) fn begin(&mut self, connected: Option<SocketAddr>, gso_enabled: bool) {
        self.connected = connected;
        self.gso_enabled = gso_enabled;
        if self.is_empty() {
            self.bytes_left = REPLIES_BYTES_MAX;
        }
    }

    /// Makes the pieces that lie in the buffers of `received` lie in those of `copy` instead.
    pub(crate) fn move_to_copy(&mut self, received: &Batch, copy: &Batch) {
        self.mergeable_end = NOT_MERGEABLE;
        for iovec in self.iovecs.iter_mut().filter(|iovec| !iovec.is_copied) {
            iovec.offset = received.offset_in_copy(iovec.offset, copy);
        }
    }

    // ---- adding

    /// What is queued from now on goes to `to`.
    pub(crate) fn set_recipient(&mut self, to: Recipient) {
        self.to = to;
        self.continues = self.last_recipient() == Some(to);
    }

    /// The recipient of what is queued.
    pub(crate) fn recipient(&self) -> Recipient {
        self.to
    }

    /// The recipient of the last batch.
    fn last_recipient(&self) -> Option<Recipient> {
        self.batches.last().map(|batch| batch.to)
    }

    /// Queues one datagram to the recipient: `head`, and after it `body`, a part of the buffers.
    #[inline(always)]
    pub(crate) fn push(&mut self, head: &[u8], body: Span, senders: &[Sender]) {
        let bytes = head.len() + body.length;
        if bytes > DATAGRAM_BYTES_MAX && !self.is_v6_and_fits(bytes, senders) {
            self.too_long += 1;
            return;
        }
        let Some(bytes_left) = self.bytes_left.checked_sub(head.len() + REPLY_OVERHEAD_BYTES)
        else {
            self.dropped += 1;
            return;
        };
        self.bytes_left = bytes_left;
        match self.batches.last_mut() {
            Some(batch) if self.continues && batch.accepts(bytes) => batch.join(bytes),
            _ => {
                self.begin_batch(self.to, bytes);
                self.continues = true;
            }
        }
        if !head.is_empty() {
            self.push_copied(head);
        }
        if body.length > 0 {
            self.push_iovec(IoVec { is_copied: false, offset: body.offset, length: body.length });
        }
    }

    #[cold]
    fn is_v6_and_fits(&self, bytes: usize, senders: &[Sender]) -> bool {
        let peer = self.peer_of(self.to, senders);
        bytes <= DATAGRAM_BYTES_MAX_V6 && peer.is_some_and(|peer| peer.is_ipv6())
    }

    /// Queues `bytes` to `peer`, whether or not it has sent anything.
    pub(crate) fn push_to(&mut self, peer: SocketAddr, bytes: &[u8], senders: &[Sender]) {
        let named_before = self.named_peers.len();
        if self.named_peers.last() != Some(&peer) {
            self.named_peers.push(peer);
        }
        let to = Recipient::Named(self.named_peers.len() - 1);
        let answered = self.to;
        self.set_recipient(to);
        self.push(bytes, Span::NONE, senders);
        if self.last_recipient() != Some(to) {
            self.named_peers.truncate(named_before); // the reply was not queued
        }
        self.set_recipient(answered);
    }

    /// Begins a batch with a datagram of `bytes`, whose pieces are added next.
    #[inline(never)] // most replies join one
    fn begin_batch(&mut self, to: Recipient, bytes: usize) {
        let is_open = self.gso_enabled && bytes <= SEGMENT_BYTES_MAX;
        let bytes_max = if is_open { DATAGRAM_BYTES_MAX.min(bytes * SEGMENTS_MAX) } else { 0 };
        self.mergeable_end = NOT_MERGEABLE;
        self.batches.push(GsoBatch {
            to,
            segment: bytes,
            first_iovec: self.iovecs.len(),
            bytes,
            bytes_max,
        });
    }

    /// Adds `bytes`, which must be copied, to the last batch.
    #[inline(never)]
    fn push_copied(&mut self, bytes: &[u8]) {
        let offset = self.copied.len();
        self.copied.extend_from_slice(bytes);
        let first_iovec = self.batches.last().map_or(0, |batch| batch.first_iovec);
        if let Some(last) = self.iovecs[first_iovec..].last_mut()
            && last.is_copied
            && last.offset + last.length == offset
        {
            last.length += bytes.len();
        } else {
            self.push_iovec(IoVec { is_copied: true, offset, length: bytes.len() });
        }
    }

    /// Adds `iovec` to the last batch. Inlined, because each datagram that is echoed adds one.
    #[inline(always)]
    fn push_iovec(&mut self, iovec: IoVec) {
        if !iovec.is_copied
            && self.mergeable_end == iovec.offset
            && let Some(last) = self.iovecs.last_mut()
        {
            last.length += iovec.length;
        } else {
            self.iovecs.push(iovec);
        }
        self.mergeable_end =
            if iovec.is_copied { NOT_MERGEABLE } else { iovec.offset + iovec.length };
    }

    // ---- sending

    /// The batches that wait.
    pub(crate) fn pending(&self) -> &[GsoBatch] {
        &self.batches[self.sent..]
    }

    /// How many batches wait.
    pub(crate) fn pending_len(&self) -> usize {
        self.pending().len()
    }

    /// The address of `to`. `None`: the socket is connected to no peer, and none was named.
    pub(crate) fn peer_of(&self, to: Recipient, senders: &[Sender]) -> Option<SocketAddr> {
        match to {
            Recipient::Sender(number) => senders[number].peer,
            Recipient::Named(number) => Some(self.named_peers[number]),
            Recipient::Connected => self.connected,
        }
    }

    /// The batches that wait, each with its pieces, whose bytes are in `received` where they were
    /// not copied.
    pub(crate) fn pending_slices<'q>(
        &'q self,
        received: &'q Batch,
    ) -> impl Iterator<Item = (&'q GsoBatch, impl Iterator<Item = &'q [u8]>)> {
        with_iovecs(self.pending(), &self.iovecs).map(|(batch, iovecs)| {
            let slices = iovecs.iter().map(|iovec| {
                let memory = if iovec.is_copied { &self.copied } else { &received.buffers };
                &memory[iovec.offset..][..iovec.length]
            });
            (batch, slices)
        })
    }

    /// Removes the first `count` batches that wait, which were sent or cannot be sent. Returns how
    /// many datagrams these were, and how many bytes they had.
    pub(crate) fn mark_sent(&mut self, count: usize) -> (usize, usize) {
        let removed = &self.pending()[..count];
        let datagrams = removed.iter().map(GsoBatch::datagrams).sum();
        let bytes = removed.iter().map(|batch| batch.bytes).sum();
        self.sent += count;
        if self.sent == self.batches.len() {
            self.batches.clear();
            self.iovecs.clear();
            self.named_peers.clear();
            self.copied.clear();
            if self.copied.capacity() > REPLIES_HIGH_WATERMARK_BYTES {
                self.copied.shrink_to(REPLIES_HIGH_WATERMARK_BYTES);
            }
            self.sent = 0;
            self.bytes_left = REPLIES_BYTES_MAX;
        }
        (datagrams, bytes)
    }

    /// Cuts all that waits into single datagrams, and joins none from now on unless `joins_again`.
    /// Returns false if the first that waits is a single datagram already: then the error must be
    /// its own.
    pub(crate) fn split_segments(&mut self, joins_again: bool) -> bool {
        if self.pending().first().is_none_or(|batch| batch.datagrams() == 1) {
            return false;
        }
        self.gso_enabled = false;
        let all_iovecs = std::mem::take(&mut self.iovecs);
        let batches = std::mem::take(&mut self.batches);
        let pending = &batches[std::mem::take(&mut self.sent)..];
        for (batch, iovecs) in with_iovecs(pending, &all_iovecs) {
            let (mut left, mut room) = (batch.bytes, 0);
            for mut iovec in iovecs.iter().copied() {
                while iovec.length > 0 {
                    if room == 0 {
                        room = batch.segment.min(left);
                        left -= room;
                        self.begin_batch(batch.to, room);
                    }
                    let taken = iovec.length.min(room);
                    self.push_iovec(IoVec { length: taken, ..iovec });
                    iovec.offset += taken;
                    iovec.length -= taken;
                    room -= taken;
                }
            }
            if batch.bytes == 0 {
                self.begin_batch(batch.to, 0);
            }
        }
        self.gso_enabled = joins_again;
        true
    }

    // ---- counting

    /// Returns the memory that it takes, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.copied.capacity()
            + self.iovecs.capacity() * size_of::<IoVec>()
            + self.batches.capacity() * size_of::<GsoBatch>()
            + self.named_peers.capacity() * size_of::<SocketAddr>()
    }

    /// How many bytes of the waiting replies were copied from protocols.
    #[cfg(test)]
    pub(crate) fn copied_bytes(&self) -> usize {
        self.copied.len()
    }

    pub(crate) fn has_unsendable(&self) -> bool {
        self.too_long | self.dropped != 0
    }

    /// Takes the counts of replies that were not queued: those too long, and those without bytes
    /// left.
    pub(crate) fn take_unsendable(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.too_long), std::mem::take(&mut self.dropped))
    }
}

impl GsoBatch {
    /// How many datagrams it is: one, also where it is empty.
    pub(crate) fn datagrams(&self) -> usize {
        if self.bytes <= self.segment { 1 } else { self.bytes.div_ceil(self.segment) }
    }

    /// How many bytes it is, in all datagrams together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether a datagram of `bytes` may join. An empty one may not: a batch cannot be cut
    /// around it.
    fn accepts(&self, bytes: usize) -> bool {
        bytes > 0 && bytes <= self.segment && self.bytes + bytes <= self.bytes_max
    }

    /// Adds a datagram of `bytes`, whose pieces are added next. A shorter one is the last.
    fn join(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.bytes_max *= usize::from(bytes == self.segment);
    }
}

/// Pairs each batch with its iovecs, which reach to those of the next one, or to the end.
fn with_iovecs<'q>(
    batches: &'q [GsoBatch],
    iovecs: &'q [IoVec],
) -> impl Iterator<Item = (&'q GsoBatch, &'q [IoVec])> {
    batches.iter().enumerate().map(|(number, batch)| {
        let end = batches.get(number + 1).map_or(iovecs.len(), |next| next.first_iovec);
        (batch, &iovecs[batch.first_iovec..end])
    })
}

#[cfg(test)]
mod tests;
