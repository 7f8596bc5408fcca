//! Replies in memory, and what a kernel would make of them.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::datagram::receive::{STRIDE_BYTES, Unanswered};
use crate::datagram::requests::SocketRequests;
use crate::protocol::datagram::Replies;
use crate::protocol::effects::Effects;
use crate::sys::LocalAddress;

/// What a datagram socket has in memory.
struct InMemory {
    batch: Batch,
    replies: ReplyQueue,
    requests: SocketRequests,
    effects: Effects,
}

impl InMemory {
    fn new() -> InMemory {
        InMemory {
            batch: Batch::new(),
            replies: ReplyQueue::new(),
            requests: SocketRequests::new(Instant::now()),
            effects: Effects::default(),
        }
    }

    /// Pretends that the kernel delivered `messages`: the sender's number, the segment size, the
    /// length.
    fn receive(messages: &[(u8, usize, usize)]) -> InMemory {
        let mut memory = InMemory::new();
        for (index, &(from, segment, length)) in messages.iter().enumerate() {
            let start = index * STRIDE_BYTES;
            for (at, byte) in memory.batch.buffers[start..start + length].iter_mut().enumerate() {
                *byte = ((at + index) % 251).to_le_bytes()[0];
            }
            let segment = segment.clamp(1, length.max(1));
            let (peer, local) = (Some(peer(from)), LocalAddress::Fixed);
            memory.batch.push_message(peer, local, length, segment, false);
        }
        memory
    }

    fn answer(&mut self) -> (Unanswered<'_>, &[u8], Replies<'_>) {
        let InMemory { batch, replies, requests, effects } = self;
        Replies::answering(batch, replies, requests, effects)
    }

    /// Echoes all that has arrived with `prefix`, and returns what the peers should receive.
    fn echo_all(&mut self, prefix: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut expected = Vec::new();
        let (unanswered, buffers, mut replies) = self.answer();
        for (number, sender, messages) in unanswered.senders() {
            replies.set_recipient(number);
            for message in messages {
                let mut next = Some(message.first());
                while let Some(span) = next {
                    replies.set_current(span);
                    replies.echo(prefix);
                    next = message.next(span);
                    let reply = [prefix, span.of(buffers)].concat();
                    if reply.len() <= DATAGRAM_BYTES_MAX {
                        expected.push((sender.peer.expect("the test gave one"), reply));
                    }
                }
            }
        }
        expected
    }

    /// What a kernel would make of the batches that wait: the recipient of each datagram, and its
    /// bytes.
    fn as_datagrams(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut datagrams = Vec::new();
        for (gso, slices) in self.replies.pending_slices(&self.batch) {
            let peer = self.replies.peer_of(gso.to, &self.batch.senders);
            let peer = peer.expect("only known peers are answered");
            let bytes = slices.collect::<Vec<_>>().concat();
            assert_eq!(bytes.len(), gso.bytes);
            assert!(gso.bytes <= DATAGRAM_BYTES_MAX && gso.datagrams() <= SEGMENTS_MAX);
            let cut: Vec<Vec<u8>> = match bytes.is_empty() {
                true => vec![bytes],
                false => bytes.chunks(gso.segment).map(<[u8]>::to_vec).collect(),
            };
            assert_eq!(cut.len(), gso.datagrams());
            assert!(cut.len() == 1 || gso.segment <= SEGMENT_BYTES_MAX);
            datagrams.extend(cut.into_iter().map(|datagram| (peer, datagram)));
        }
        datagrams
    }
}

fn peer(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, number], 1000))
}

#[test]
fn echoed_gro_batch_is_one_piece_and_one_gso_batch() {
    let mut memory = InMemory::receive(&[(1, 64, 64 * 50 + 7)]);
    let expected = memory.echo_all(b"");
    assert_eq!(memory.as_datagrams(), expected);
    assert_eq!((memory.replies.pending_len(), memory.replies.iovecs.len()), (1, 1));
    assert_eq!(memory.replies.mark_sent(1).0, 51);
    assert!(memory.replies.is_empty() && memory.replies.iovecs.is_empty());
}

#[test]
fn datagrams_to_one_peer_share_a_gso_batch_but_empty_ones_do_not() {
    let mut memory = InMemory::receive(&[
        (1, 9, 9),
        (1, 9, 9),
        (1, 1, 0),
        (1, 9, 9),
        (2, 9, 9),
        (2, 4, 4),
        (2, 4, 4),
    ]);
    let expected = memory.echo_all(b"");
    assert_eq!(memory.as_datagrams(), expected);
    let sizes: Vec<usize> = memory.replies.pending().iter().map(GsoBatch::datagrams).collect();
    assert_eq!(sizes, [2, 1, 1, 2, 1], "a shorter datagram ends its batch");
}

#[test]
fn reply_too_long_for_a_datagram_is_counted_and_not_sent() {
    let mut memory = InMemory::receive(&[(1, 65_500, 65_500), (1, 65_499, 65_499)]);
    let expected = memory.echo_all(b"echo -> ");
    assert_eq!(expected.len(), 1);
    assert_eq!(memory.as_datagrams(), expected);
    assert_eq!(memory.replies.take_unsendable(), (1, 0));
}

#[test]
fn copied_prefix_is_not_merged_with_received_bytes_at_the_same_offset() {
    // The first datagram ends in the buffers where the second prefix begins in `copied`, and they
    // share a batch.
    let mut memory = InMemory::receive(&[(1, 8, 8), (1, 1, 1)]);
    let expected = memory.echo_all(b"echo -> ");
    assert_eq!(memory.as_datagrams(), expected);
    assert_eq!(memory.replies.pending_len(), 1);
}

#[test]
fn several_replies_to_one_datagram_leave_in_order() {
    let mut memory = InMemory::receive(&[(1, 3, 3)]);
    let (_, _, mut replies) = memory.answer();
    replies.set_recipient(0);
    replies.send(b"one");
    replies.send(b"two");
    replies.send(b"three");
    let sent: Vec<Vec<u8>> = memory.as_datagrams().into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(sent, [&b"one"[..], b"two", b"three"]);
}

proptest! {
    /// However datagrams arrive, whatever the prefix: each leaves once, whole, in order, to its
    /// sender; and a kernel that takes some and then refuses GSO changes nothing about that.
    #[test]
    fn every_datagram_leaves_whole(
        messages in prop::collection::vec(
            (1..4u8, 1..1500usize, prop_oneof![0..200usize, 0..9000usize]),
            1..20,
        ),
        prefix in prop_oneof![Just(&b""[..]), Just(&b"echo -> "[..])],
        taken_first in 0..20usize,
    ) {
        let mut memory = InMemory::receive(&messages);
        let expected = memory.echo_all(prefix);
        prop_assert_eq!(&memory.as_datagrams(), &expected);
        let count = taken_first.min(memory.replies.pending_len() - 1);
        let taken = memory.replies.mark_sent(count).0;
        if memory.replies.split_segments(false) {
            let pending = memory.replies.pending();
            prop_assert!(pending.iter().all(|gso| gso.datagrams() == 1));
            prop_assert!(!memory.replies.split_segments(false), "once is enough");
        }
        prop_assert_eq!(&memory.as_datagrams()[..], &expected[taken..]);
    }
}
