//! A batch of datagrams received, and the replies to them, waiting to be sent.
//!
//! ```text
//!     buffers   │ message 0 ........ │ message 1 ........ │ …      one per datagram, or per train of equal ones
//!     copied    │ "echo -> " …                                   what protocols wrote themselves
//!     pieces    │ (copied, 0..8) (buffer 0, 0..64) …              where the bytes of the replies lie
//!     trains    │ to message 0's sender: 64 datagrams of 72 bytes │ …
//! ```
//!
//! Replies are not assembled: a train lists pieces of memory, and the kernel gathers them. Consecutive replies of one
//! size to one peer share a train, and pieces that lie side by side become one, so that a received train which is echoed
//! is one piece and one call.
//!
//! A batch need not be answered in one go. What was answered is behind `answered`, and all of that waits or has been sent.
//!
//! Invariant: the pieces of a train, joined and cut every `segment` bytes, are its datagrams. The buffers do not change
//! while a train waits.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::client::SocketRequests;
use crate::limits::{
    DATAGRAM_BATCH, DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX_V6, REPLIES_BYTES_MAX,
    REPLIES_HIGH_WATERMARK_BYTES, REPLY_OVERHEAD_BYTES, SEGMENT_BYTES_MAX, SEGMENTS_MAX,
};
use crate::protocol::effects::{Connections, Effects};

/// Room for one message: the largest datagram, or train of them, that the kernel hands out.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;
/// From one buffer to the next. A few cache lines more than a buffer, lest the first bytes of all of them, which are
/// mostly the only ones in use, compete for the same set of the processor's cache.
pub(crate) const STRIDE_BYTES: usize = BUFFER_BYTES + 5 * 64;

/// With less room than this, more is not answered before what waits is gone.
const BYTES_LEFT_WHEN_FULL: usize = REPLIES_BYTES_MAX - REPLIES_HIGH_WATERMARK_BYTES;

/// No offset in the buffers.
const NOT_MERGEABLE: usize = usize::MAX;

pub(crate) struct Batch {
    /// Touched only as far as datagrams reach, so it costs address space rather than memory.
    pub(crate) buffers: Vec<u8>,
    pub(crate) messages: Vec<Message>,
    /// Whom they come from, in their order. Messages that follow one another from one peer share an entry.
    pub(crate) senders: Vec<Sender>,
    /// How many of the messages have been answered, from the front. One that was answered in part has been shortened.
    answered: usize,
    pub(crate) replies: ReplyQueue,
}

/// One datagram, or several of one size and one sender that the kernel has joined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Where it begins in the buffers.
    pub(crate) offset: usize,
    pub(crate) length: usize,
    /// The size of each datagram but the last, which may be shorter. Equal to `length` for a single one.
    pub(crate) segment: usize,
    /// The kernel had more of it than fitted.
    pub(crate) is_truncated: bool,
}

/// Who has sent one message, or several in a row, and to which of our addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    /// `None`: of no address family we know.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) local: LocalAddress,
    /// The first of the messages. They go on to the next sender's, or to the last of all.
    pub(crate) first: usize,
}

/// Whom a datagram was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalAddress {
    /// The one address that the socket has.
    Fixed,
    /// This one of several. Replies leave from it. (Two variants, as an `IpAddr` in here would cost more to compare.)
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    /// A group of hosts, or all of a network.
    Group,
}

/// Replies that wait.
pub(crate) struct ReplyQueue {
    pub(crate) copied: Vec<u8>,
    pub(crate) iovecs: Vec<IoVec>,
    /// Where in the buffers the last piece ends, if what follows it there may be added to it; [`NOT_MERGEABLE`] otherwise.
    mergeable_end: usize,
    pub(crate) batches: Vec<GsoBatch>,
    /// Whom trains go to that answer nobody.
    named_peers: Vec<SocketAddr>,
    /// The one peer that the socket is connected to, if it is.
    pub(crate) connected: Option<SocketAddr>,
    /// Trains that are done with, from the front.
    sent: usize,
    /// Whether replies may share a train: where that is wanted, and until the kernel first refuses one.
    pub(crate) gso_enabled: bool,
    /// What further replies may take, in bytes, each with its listing.
    bytes_left: usize,
    /// Where in the buffers lies what is being answered, or was last: a message, or a part of it.
    current: Span,
    /// Replies that were not taken down, since they are too long, or since there was no room.
    too_long: u64,
    dropped: u64,
    /// What it has asked to be done to connections.
    effects: Effects,
    /// What the protocol has asked for. It stands here because this is what a protocol is lent.
    pub(crate) requests: SocketRequests,
}

const _: () = assert!(
    size_of::<GsoBatch>() + 2 * size_of::<IoVec>() + size_of::<SocketAddr>()
        <= REPLY_OVERHEAD_BYTES,
    "a reply is listed in so much"
);

/// What has been received and not been answered yet.
#[derive(Clone, Copy)]
pub(crate) struct Unanswered<'b> {
    messages: &'b [Message],
    senders: &'b [Sender],
    /// The first message to be answered.
    from: usize,
}

/// A stretch of memory that is part of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IoVec {
    /// In `copied`, or in `buffers`.
    pub(crate) is_copied: bool,
    pub(crate) offset: usize,
    pub(crate) length: usize,
}

/// A stretch of the buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) offset: usize,
    pub(crate) length: usize,
}

/// Whom a train goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// Who has sent something: the number of the sender.
    Sender(usize),
    /// Who was named: the number among `named_peers`.
    Peer(usize),
    /// Whom the socket is connected to.
    Connected,
}

/// Consecutive replies to one peer, all of `segment` bytes but the last, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GsoBatch {
    pub(crate) to: Recipient,
    pub(crate) first_iovec: usize,
    pub(crate) iovec_count: usize,
    pub(crate) segment: usize,
    bytes: usize,
    /// How many bytes it may come to have: 0 once no other datagram may join.
    bytes_max: usize,
}

/// What a socket lends its protocol for one call: where it puts its replies, and all else that it has to say.
///
/// What is put here leaves together, in as few calls as possible, when all that has arrived is answered. A reply of more than 65,507 bytes (65,527 over IPv6) is not sent (it would not fit a datagram), and is counted in
/// [`Stats::datagrams_too_long`](crate::Stats::datagrams_too_long). What one datagram is answered with beyond
/// [`REPLIES_BYTES_MAX`] is not sent either, and is counted in [`Stats::datagrams_unsent`](crate::Stats::datagrams_unsent).
pub struct Replies<'b> {
    pub(crate) outgoing: &'b mut ReplyQueue,
    senders: &'b [Sender],
    /// Who is spoken to: the one that is being answered.
    to: Recipient,
    /// The last train goes to the same peer.
    continues: bool,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch {
            buffers: vec![0; DATAGRAM_BATCH * STRIDE_BYTES],
            messages: Vec::with_capacity(DATAGRAM_BATCH),
            senders: Vec::with_capacity(DATAGRAM_BATCH),
            answered: 0,
            replies: ReplyQueue {
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
                too_long: 0,
                dropped: 0,
                effects: Effects::default(),
                requests: SocketRequests::new(),
            },
        }
    }

    /// Forgets what was received.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.senders.clear();
        self.answered = 0;
        self.replies.requests.received_at = None;
    }

    /// Takes in a message of `length` bytes, which lies in the next of the buffers.
    pub(crate) fn push_message(
        &mut self,
        peer: Option<SocketAddr>,
        asked: LocalAddress,
        length: usize,
        segment: usize,
        is_cut: bool,
    ) {
        let number = self.messages.len();
        if self.senders.last().is_none_or(|last| last.peer != peer || last.local != asked) {
            self.senders.push(Sender { peer, local: asked, first: number });
        }
        self.messages.push(Message {
            offset: number * STRIDE_BYTES,
            length,
            segment,
            is_truncated: is_cut,
        });
    }

    /// What is to be answered, the memory it lies in, and a place for the replies to it.
    pub(crate) fn begin_answering(&mut self) -> (Unanswered<'_>, &[u8], Replies<'_>) {
        let unanswered =
            Unanswered { messages: &self.messages, senders: &self.senders, from: self.answered };
        let replies = Replies {
            outgoing: &mut self.replies,
            senders: &self.senders,
            to: Recipient::Connected,
            continues: false,
        };
        (unanswered, &self.buffers, replies)
    }

    /// A place for what is said without having been asked.
    pub(crate) fn begin_unsolicited(&mut self) -> Replies<'_> {
        self.replies.current = Span::NONE;
        let continues =
            self.replies.batches.last().is_some_and(|train| train.to == Recipient::Connected);
        Replies {
            outgoing: &mut self.replies,
            senders: &self.senders,
            to: Recipient::Connected,
            continues,
        }
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answered == self.messages.len()
    }

    /// All of it has been answered.
    pub(crate) fn finish_answering(&mut self) {
        self.answered = self.messages.len();
    }

    /// All up to the datagram that was answered last has been answered; what is left comes next time. Returns how many
    /// datagrams these were.
    pub(crate) fn finish_through_last(&mut self) -> usize {
        let last = self.replies.current;
        let number = last.offset / STRIDE_BYTES;
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

    /// Hands over what was asked to be done to connections.
    #[inline]
    pub(crate) fn hand_over_effects(&mut self, effects: &mut Effects) {
        if !self.replies.effects.is_empty() {
            effects.take_from(&mut self.replies.effects);
            if self.is_sent() {
                self.replies.bytes_left = REPLIES_BYTES_MAX;
            }
        }
    }

    /// Shall what waits be sent before any more is answered?
    pub(crate) fn is_full(&self) -> bool {
        self.replies.is_full()
    }

    /// The replies not taken down since this was last asked: those too long, and those without room.
    pub(crate) fn take_unsendable(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.replies.too_long), std::mem::take(&mut self.replies.dropped))
    }

    #[inline]
    pub(crate) fn has_unsendable(&self) -> bool {
        self.replies.too_long | self.replies.dropped != 0
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.replies.batches.is_empty()
    }

    /// How many trains wait.
    pub(crate) fn pending_len(&self) -> usize {
        self.pending().len()
    }

    /// Whom trains `to` go to. `None`: to nobody that we could name.
    pub(crate) fn peer_of(&self, to: Recipient) -> Option<SocketAddr> {
        self.replies.peer_of(to, &self.senders)
    }

    /// The trains that wait.
    pub(crate) fn pending(&self) -> &[GsoBatch] {
        &self.replies.batches[self.replies.sent..]
    }

    /// The bytes of `piece`.
    pub(crate) fn bytes(&self, piece: &IoVec) -> &[u8] {
        let memory = if piece.is_copied { &self.replies.copied } else { &self.buffers };
        &memory[piece.offset..][..piece.length]
    }

    /// The first `batches` that wait are done with: sent, or given up. Returns how many datagrams these were.
    pub(crate) fn mark_sent(&mut self, trains: usize) -> usize {
        let outgoing = &mut self.replies;
        let datagrams: usize =
            outgoing.batches[outgoing.sent..][..trains].iter().map(GsoBatch::datagrams).sum();
        outgoing.sent += trains;
        if outgoing.sent == outgoing.batches.len() {
            outgoing.batches.clear();
            outgoing.iovecs.clear();
            outgoing.named_peers.clear();
            outgoing.copied.clear();
            if outgoing.copied.capacity() > REPLIES_HIGH_WATERMARK_BYTES {
                outgoing.copied.shrink_to(REPLIES_HIGH_WATERMARK_BYTES);
            }
            outgoing.sent = 0;
            outgoing.bytes_left = REPLIES_BYTES_MAX;
        }
        datagrams
    }

    /// Cuts all that waits into single datagrams, and joins none from now on unless `joins_again`. Returns false where the
    /// first that waits is single already, so that the fault must be its own.
    pub(crate) fn split_segments(&mut self, joins_again: bool) -> bool {
        if self.pending().first().is_none_or(|train| train.datagrams() == 1) {
            return false;
        }
        let outgoing = &mut self.replies;
        outgoing.gso_enabled = false;
        let pieces = std::mem::take(&mut outgoing.iovecs);
        let trains = std::mem::take(&mut outgoing.batches);
        for train in &trains[std::mem::take(&mut outgoing.sent)..] {
            let mut room = 0;
            for mut piece in pieces[train.first_iovec..][..train.iovec_count].iter().copied() {
                while piece.length > 0 {
                    if room == 0 {
                        outgoing.begin_batch(train.to, train.segment.min(train.bytes));
                        room = train.segment;
                    }
                    let taken = piece.length.min(room);
                    outgoing.push_iovec(IoVec { length: taken, ..piece });
                    piece.offset += taken;
                    piece.length -= taken;
                    room -= taken;
                }
            }
            if train.bytes == 0 {
                outgoing.begin_batch(train.to, 0);
            }
        }
        outgoing.gso_enabled = joins_again;
        true
    }
}

impl Message {
    /// How many datagrams it holds: one, also where it is empty, unless the kernel joined several.
    #[inline]
    pub(crate) fn datagrams(&self) -> usize {
        if self.segment >= self.length { 1 } else { self.length.div_ceil(self.segment) }
    }

    /// Where its first datagram lies in the buffers.
    #[inline]
    pub(crate) fn first(&self) -> Span {
        Span { offset: self.offset, length: self.segment.min(self.length) }
    }

    /// Where the datagram behind the one at `place` lies, if there is another.
    #[inline]
    pub(crate) fn next(&self, place: Span) -> Option<Span> {
        let offset = place.offset + place.length;
        let left = self.offset + self.length - offset;
        (left > 0).then(|| Span { offset, length: self.segment.min(left) })
    }
}

impl Span {
    const NONE: Span = Span { offset: 0, length: 0 };

    #[inline]
    pub(crate) fn of<'b>(&self, buffers: &'b [u8]) -> &'b [u8] {
        &buffers[self.offset..][..self.length]
    }
}

impl<'b> Unanswered<'b> {
    /// Each sender, with its number and with its messages that are to be answered.
    #[inline]
    pub(crate) fn senders(self) -> impl Iterator<Item = (usize, &'b Sender, &'b [Message])> {
        let Unanswered { messages, senders, from } = self;
        let first =
            if from == 0 { 0 } else { senders.partition_point(|sender| sender.first <= from) - 1 };
        (first..senders.len()).map(move |number| {
            let sender = &senders[number];
            let end = senders.get(number + 1).map_or(messages.len(), |next| next.first);
            (number, sender, &messages[sender.first.max(from)..end])
        })
    }
}

impl Replies<'_> {
    /// Replies with `bytes` to the sender of the datagram being answered; where none is, sends them to the peer that the socket is
    /// connected to. If it is connected to nobody either, they cannot be sent, which is counted in
    /// [`Stats::datagrams_unsent`](crate::Stats::datagrams_unsent): [`send_to`](Replies::send_to) says to whom.
    pub fn send(&mut self, bytes: &[u8]) {
        self.reply(bytes, Span::NONE);
    }

    /// Replies with `prefix` and, behind it, the datagram being answered, which is not copied. Where none is, the prefix is all.
    #[inline]
    pub fn echo(&mut self, prefix: &[u8]) {
        self.reply(prefix, self.outgoing.current);
    }

    /// What comes now is for the sender number `to`.
    #[inline]
    pub(crate) fn set_recipient(&mut self, to: usize) {
        self.to = Recipient::Sender(to);
        let sender = &self.senders[to];
        self.continues = self.outgoing.batches.last().is_some_and(|train| match train.to {
            Recipient::Sender(last) => {
                self.senders[last].peer == sender.peer && self.senders[last].local == sender.local
            }
            Recipient::Peer(_) | Recipient::Connected => false,
        });
    }

    /// Sends `bytes` to `peer`, whom it need not have heard of. On a socket on all addresses, the system chooses the one that it
    /// leaves from.
    ///
    /// # Panics
    ///
    /// On a socket that is connected to another peer.
    pub fn send_to(&mut self, peer: SocketAddr, bytes: &[u8]) {
        match self.outgoing.connected {
            Some(connected) => {
                assert_eq!(
                    peer, connected,
                    "a connected socket speaks to the peer that it is connected to"
                );
                self.send(bytes);
            }
            None => {
                let (answered, named_before) = (self.to, self.outgoing.named_peers.len());
                (self.to, self.continues) = self.outgoing.recipient_for(peer);
                self.reply(bytes, Span::NONE);
                if self.outgoing.batches.last().is_none_or(|train| train.to != self.to) {
                    self.outgoing.named_peers.truncate(named_before); // it was not taken down, so nothing goes there
                }
                self.to = answered;
                self.continues = false; // the last train goes to somebody else
            }
        }
    }

    /// The connections of the same reactor. What is asked of them is done when this call is over, and all others that come with it.
    pub fn connections(&mut self) -> Connections<'_> {
        if self.outgoing.effects.is_above_high_watermark() {
            self.outgoing.bytes_left = self.outgoing.bytes_left.min(BYTES_LEFT_WHEN_FULL - 1); // asked here, and not for each datagram
        }
        Connections::anonymous(&mut self.outgoing.effects)
    }

    /// What comes now answers the datagram at `current`.
    #[inline]
    pub(crate) fn set_current(&mut self, payload: Span) {
        self.outgoing.current = payload;
    }

    /// Whether so much waits ([`REPLIES_HIGH_WATERMARK_BYTES`]) that it is sent before anything else is answered, or so much is asked of
    /// [`connections`](Replies::connections) that it is done before. Who has much to say
    /// stops here, and goes on in the call that it asks for with [`wake_when_writable`](Replies::wake_when_writable).
    #[inline]
    pub fn is_full(&self) -> bool {
        self.outgoing.is_full()
    }

    #[cold]
    fn is_v6_and_fits(&self, bytes: usize) -> bool {
        let peer = self.outgoing.peer_of(self.to, self.senders);
        bytes <= DATAGRAM_BYTES_MAX_V6 && peer.is_some_and(|peer| peer.is_ipv6())
    }

    #[inline(always)]
    fn reply(&mut self, head: &[u8], body: Span) {
        let bytes = head.len() + body.length;
        if bytes > DATAGRAM_BYTES_MAX && !self.is_v6_and_fits(bytes) {
            self.outgoing.too_long += 1;
            return;
        }
        let outgoing = &mut *self.outgoing;
        let Some(room) = outgoing.bytes_left.checked_sub(head.len() + REPLY_OVERHEAD_BYTES) else {
            outgoing.dropped += 1;
            return;
        };
        outgoing.bytes_left = room;
        match outgoing.batches.last_mut() {
            Some(train) if self.continues && train.accepts(bytes) => {
                train.bytes_max *= usize::from(bytes == train.segment);
            }
            _ => {
                outgoing.begin_batch(self.to, bytes);
                self.continues = true;
            }
        }
        if !head.is_empty() {
            outgoing.push_copied(head);
        }
        if body.length > 0 {
            outgoing.push_iovec(IoVec {
                is_copied: false,
                offset: body.offset,
                length: body.length,
            });
        }
    }
}

impl GsoBatch {
    /// How many datagrams it is: one, also where it is empty.
    #[inline]
    pub(crate) fn datagrams(&self) -> usize {
        if self.bytes <= self.segment { 1 } else { self.bytes.div_ceil(self.segment) }
    }

    /// May a datagram of so many bytes join? None without bytes: it would have no end to be cut at.
    #[inline]
    fn accepts(&self, bytes: usize) -> bool {
        bytes > 0 && bytes <= self.segment && self.bytes + bytes <= self.bytes_max
    }
}

impl ReplyQueue {
    #[inline]
    fn is_full(&self) -> bool {
        self.bytes_left < BYTES_LEFT_WHEN_FULL
    }

    fn peer_of(&self, to: Recipient, senders: &[Sender]) -> Option<SocketAddr> {
        match to {
            Recipient::Sender(number) => senders[number].peer,
            Recipient::Peer(number) => Some(self.named_peers[number]),
            Recipient::Connected => self.connected,
        }
    }

    /// How a train to `peer` is addressed, and whether the last one is.
    fn recipient_for(&mut self, peer: SocketAddr) -> (Recipient, bool) {
        let is_last = self.named_peers.last() == Some(&peer);
        if !is_last {
            self.named_peers.push(peer);
        }
        let to = Recipient::Peer(self.named_peers.len() - 1);
        (to, self.batches.last().is_some_and(|train| train.to == to))
    }

    /// Begins a train whose first datagram has `bytes`.
    #[inline(never)] // most replies join one
    fn begin_batch(&mut self, to: Recipient, bytes: usize) {
        let is_open = self.gso_enabled && bytes <= SEGMENT_BYTES_MAX;
        let bytes_max = if is_open { DATAGRAM_BYTES_MAX.min(bytes * SEGMENTS_MAX) } else { 0 };
        self.mergeable_end = NOT_MERGEABLE;
        self.batches.push(GsoBatch {
            to,
            first_iovec: self.iovecs.len(),
            iovec_count: 0,
            segment: bytes,
            bytes: 0,
            bytes_max,
        });
    }

    /// Puts `bytes`, which must be copied, behind the last train's pieces.
    #[inline(never)]
    fn push_copied(&mut self, bytes: &[u8]) {
        let offset = self.copied.len();
        self.copied.extend_from_slice(bytes);
        if let (Some(train), Some(last)) = (self.batches.last_mut(), self.iovecs.last_mut())
            && train.iovec_count > 0
            && last.is_copied
            && last.offset + last.length == offset
        {
            train.bytes += bytes.len();
            last.length += bytes.len();
        } else {
            self.push_iovec(IoVec { is_copied: true, offset, length: bytes.len() });
        }
    }

    /// Puts `piece` behind the last train's.
    #[inline]
    fn push_iovec(&mut self, piece: IoVec) {
        let train = self.batches.last_mut().expect("a train was started for the piece");
        train.bytes += piece.length;
        if !piece.is_copied
            && self.mergeable_end == piece.offset
            && let Some(last) = self.iovecs.last_mut()
        {
            last.length += piece.length;
        } else {
            train.iovec_count += 1;
            self.iovecs.push(piece);
        }
        self.mergeable_end =
            if piece.is_copied { NOT_MERGEABLE } else { piece.offset + piece.length };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a kernel would make of the trains that wait: whom each datagram goes to, and its bytes.
    fn on_the_wire(batch: &Batch) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut datagrams = Vec::new();
        for train in batch.pending() {
            let peer = batch.peer_of(train.to).expect("only known peers are answered");
            let pieces = &batch.replies.iovecs[train.first_iovec..][..train.iovec_count];
            let bytes: Vec<u8> =
                pieces.iter().flat_map(|piece| batch.bytes(piece)).copied().collect();
            assert_eq!(bytes.len(), train.bytes);
            assert!(train.bytes <= DATAGRAM_BYTES_MAX && train.datagrams() <= SEGMENTS_MAX);
            let cut: Vec<Vec<u8>> = if bytes.is_empty() {
                vec![bytes]
            } else {
                bytes.chunks(train.segment).map(<[u8]>::to_vec).collect()
            };
            assert_eq!(cut.len(), train.datagrams());
            assert!(cut.len() == 1 || train.segment <= SEGMENT_BYTES_MAX);
            datagrams.extend(cut.into_iter().map(|datagram| (peer, datagram)));
        }
        datagrams
    }

    fn peer(number: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, number], 1000))
    }

    /// Pretends that the kernel delivered `messages`: the sender's number, the segment size, the length.
    fn arrive(batch: &mut Batch, messages: &[(u8, usize, usize)]) {
        batch.clear();
        for (index, &(from, segment, length)) in messages.iter().enumerate() {
            let start = index * STRIDE_BYTES;
            for (at, byte) in batch.buffers[start..start + length].iter_mut().enumerate() {
                *byte = ((at + index) % 251).to_le_bytes()[0];
            }
            batch.push_message(
                Some(peer(from)),
                LocalAddress::Fixed,
                length,
                segment.clamp(1, length.max(1)),
                false,
            );
        }
    }

    /// Echoes all that has arrived with `prefix`, and returns what the peers should see.
    fn echo_all(batch: &mut Batch, prefix: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut expected = Vec::new();
        let (unanswered, buffers, mut replies) = batch.begin_answering();
        for (number, sender, messages) in unanswered.senders() {
            replies.set_recipient(number);
            for message in messages {
                let mut next = Some(message.first());
                while let Some(place) = next {
                    replies.set_current(place);
                    replies.echo(prefix);
                    next = message.next(place);
                    let reply = [prefix, place.of(buffers)].concat();
                    if reply.len() <= DATAGRAM_BYTES_MAX {
                        expected.push((sender.peer.expect("the test gave one"), reply));
                    }
                }
            }
        }
        expected
    }

    #[test]
    fn an_echoed_train_is_one_piece_and_one_train() {
        let mut batch = Batch::new();
        arrive(&mut batch, &[(1, 64, 64 * 50 + 7)]);
        let expected = echo_all(&mut batch, b"");
        assert_eq!(on_the_wire(&batch), expected);
        assert_eq!((batch.pending_len(), batch.replies.iovecs.len()), (1, 1));
        assert_eq!(batch.mark_sent(1), 51);
        assert!(batch.is_sent() && batch.replies.iovecs.is_empty());
    }

    #[test]
    fn separate_datagrams_to_one_peer_share_a_train_and_empty_ones_go_alone() {
        let mut batch = Batch::new();
        arrive(
            &mut batch,
            &[(1, 9, 9), (1, 9, 9), (1, 1, 0), (1, 9, 9), (2, 9, 9), (2, 4, 4), (2, 4, 4)],
        );
        let expected = echo_all(&mut batch, b"");
        assert_eq!(on_the_wire(&batch), expected);
        let sizes: Vec<usize> = batch.pending().iter().map(GsoBatch::datagrams).collect();
        assert_eq!(sizes, [2, 1, 1, 2, 1], "a shorter datagram ends its train");
    }

    #[test]
    fn a_reply_too_long_for_a_datagram_is_counted_and_not_sent() {
        let mut batch = Batch::new();
        arrive(&mut batch, &[(1, 65_500, 65_500), (1, 65_499, 65_499)]);
        let expected = echo_all(&mut batch, b"echo -> ");
        assert_eq!(expected.len(), 1);
        assert_eq!(on_the_wire(&batch), expected);
        assert_eq!(batch.replies.too_long, 1);
    }

    #[test]
    fn a_prefix_is_not_taken_for_what_lies_behind_the_last_piece() {
        // The first datagram ends in the buffers where the second prefix begins among what is copied, and they share a train.
        let mut batch = Batch::new();
        arrive(&mut batch, &[(1, 8, 8), (1, 1, 1)]);
        let expected = echo_all(&mut batch, b"echo -> ");
        assert_eq!(on_the_wire(&batch), expected);
        assert_eq!(batch.pending_len(), 1);
    }

    #[test]
    fn a_protocols_own_bytes_are_sent_as_they_were_given() {
        let mut batch = Batch::new();
        arrive(&mut batch, &[(1, 3, 3)]);
        let (_, _, mut replies) = batch.begin_answering();
        replies.set_recipient(0);
        replies.send(b"one");
        replies.send(b"two");
        replies.send(b"three");
        let sent: Vec<Vec<u8>> = on_the_wire(&batch).into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(sent, [&b"one"[..], b"two", b"three"]);
    }

    proptest! {
        /// However datagrams arrive, whatever the prefix: each leaves once, whole, in order, to its sender; and a
        /// kernel that takes some and then refuses trains changes nothing about that.
        #[test]
        fn every_datagram_leaves_whole(
            messages in prop::collection::vec((1..4u8, 1..1500usize, prop_oneof![0..200usize, 0..9000usize]), 1..20),
            prefix in prop_oneof![Just(&b""[..]), Just(&b"echo -> "[..])],
            taken_first in 0..20usize,
        ) {
            let mut batch = Batch::new();
            arrive(&mut batch, &messages);
            let expected = echo_all(&mut batch, prefix);
            prop_assert_eq!(&on_the_wire(&batch), &expected);
            let taken = batch.mark_sent(taken_first.min(batch.pending_len() - 1));
            if batch.split_segments(false) {
                prop_assert!(batch.pending().iter().all(|train| train.datagrams() == 1));
                prop_assert!(!batch.split_segments(false), "once is enough");
            }
            prop_assert_eq!(&on_the_wire(&batch)[..], &expected[taken..]);
        }
    }
}
