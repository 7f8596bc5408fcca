//! What one drive receives and answers, and how both are bounded.

use super::*;

// pitfall: 13
#[test]
fn spurious_readable_event_costs_one_receive() {
    // The kernel has nothing. The socket is then taken for not readable.
    let mut server = DrivenSocket::echo(V4);
    assert_eq!(server.drive_readable(), Outcome::Blocked);
    assert!(!server.ready.readable());
    assert_eq!(server.counters(), (0, 0, 0, 0));
    assert_eq!(server.state.stats.datagram_errors, 0);
}

#[test]
fn short_batch_shows_that_the_socket_is_empty() {
    // No further receive is made before the next event.
    let mut server = DrivenSocket::echo(V4);
    let peer = peer_of(server.source.address);
    peer.send(b"hello").unwrap();
    wait_for_arrival();
    server.ready.set_readable(true);
    server.receive();
    assert_eq!((server.scratch.batch.messages.len(), server.ready.readable()), (1, false));
}

#[test]
fn empty_datagram_is_answered_with_the_prefix_alone() {
    let mut server = DrivenSocket::echo(V4);
    let peer = peer_of(server.source.address);
    peer.send(b"").unwrap();
    server.receive_until(1);
    check_replies(&peer, PREFIX, [&Vec::new()]);
}

// pitfall: 3
#[test]
fn flood_of_datagrams_is_answered_one_budget_per_turn() {
    // 300 have arrived. The budget is four batches of 64. For the other 44 there is no further
    // event, so the socket must be unfinished.
    let mut server = DrivenSocket::echo(V4);
    let peer = peer_of(server.source.address);
    let datagrams: Vec<Vec<u8>> = (0..300).map(|number| payload(number, 10)).collect();
    datagrams.iter().for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), 10));
    wait_for_arrival();
    assert_eq!(server.drive_readable(), Outcome::Unfinished);
    assert_eq!((server.state.stats.datagrams_in, server.counters()), (256, (256, 0, 0, 0)));
    check_replies(&peer, PREFIX, &datagrams[..256]);
    assert_eq!(server.drive(), Outcome::Blocked);
    assert_eq!((server.state.stats.datagrams_in, server.counters()), (300, (300, 0, 0, 0)));
    check_replies(&peer, PREFIX, &datagrams[256..]);
}

// pitfall: 46
#[test]
fn nothing_is_received_while_replies_wait() {
    // The socket is not writable. The second datagram stays in the kernel until the reply to the
    // first is sent.
    let mut server = DrivenSocket::echo(V4);
    let peer = peer_of(server.source.address);
    server.ready.set_writable(false);
    peer.send(b"first").unwrap();
    server.receive_until(1);
    peer.send(b"second").unwrap();
    wait_for_arrival();
    assert_eq!(server.drive_readable(), Outcome::Blocked);
    assert!(server.source.unfinished().replies);
    assert_eq!((server.state.stats.datagrams_in, server.counters()), (1, (0, 0, 0, 0)));
    server.ready.set_writable(true);
    assert_eq!(server.drive(), Outcome::Blocked);
    assert_eq!((server.state.stats.datagrams_in, server.counters()), (2, (2, 0, 0, 0)));
    check_replies(&peer, PREFIX, [&b"first".to_vec(), &b"second".to_vec()]);
}

// pitfall: 46
#[test]
fn queued_replies_are_sent_before_more_datagrams_are_answered() {
    // A GRO batch of 40 datagrams of one byte, each answered with the longest datagram. While the
    // kernel takes nothing, the high watermark is overshot by one reply at most. Once it takes
    // replies again, the rest of the batch is answered part by part, and no reply is lost.
    let large = payload(1, DATAGRAM_BYTES_MAX);
    let mut server = DrivenSocket::new(
        OnReceived(move |_: &Datagram<'_>, replies: &mut Replies<'_>| replies.send(&large)),
        V4,
    );
    let peer = server.known_peer();
    server.ready.set_writable(false);
    server.receive_fake(Some(peer.local_addr().unwrap()), LocalAddress::Fixed, 1, &[1; 40]);
    let copied = server.source.kept.as_ref().unwrap().replies.copied_bytes();
    assert!(copied <= REPLIES_HIGH_WATERMARK_BYTES + DATAGRAM_BYTES_MAX, "{copied} bytes");
    assert_eq!(server.state.stats.datagrams_in, server.pending_len() as u64);
    assert!(server.state.stats.datagrams_in < 40);
    assert_eq!(server.drive(), Outcome::Blocked);
    assert!(!(server.source.unfinished() == Unfinished::NOTHING));
    server.ready.set_writable(true);
    wait_until(|| {
        server.drive() == Outcome::Blocked && (server.source.unfinished() == Unfinished::NOTHING)
    });
    assert_eq!((server.state.stats.datagrams_in, server.counters()), (40, (40, 0, 0, 0)));
}

// pitfall: 46
#[test]
fn replies_to_one_datagram_are_bounded_and_the_rest_is_counted() {
    // The first is answered with 100 datagrams of the greatest length, the second with 1,000,000
    // empty ones, whose overhead counts. Replies beyond the bound are counted as unsent. The third
    // is answered as usual.
    let large = payload(1, DATAGRAM_BYTES_MAX);
    let mut datagrams = 0;
    let answer = move |_: &Datagram<'_>, replies: &mut Replies<'_>| {
        datagrams += 1;
        match datagrams {
            1 => (0..100).for_each(|_| replies.send(&large)),
            2 => (0..1_000_000).for_each(|_| replies.send(b"")),
            _ => replies.send(b"three"),
        }
    };
    let mut server = DrivenSocket::new(OnReceived(answer), V4);
    let peer = server.known_peer();
    let from = Some(peer.local_addr().unwrap());
    server.ready.set_writable(false);
    let mut unsent = 0;
    for (replies, bytes_each) in
        [(100, DATAGRAM_BYTES_MAX + REPLY_OVERHEAD_BYTES), (1_000_000, REPLY_OVERHEAD_BYTES)]
    {
        let fitting = REPLIES_BYTES_MAX / bytes_each;
        server.receive_fake(from, LocalAddress::Fixed, 5, b"hello");
        assert_eq!(server.pending_len(), fitting);
        unsent += (replies - fitting) as u64;
        assert_eq!(server.counters(), (0, 0, 0, unsent));
    }
    server.receive_fake(from, LocalAddress::Fixed, 5, b"hello");
    server.ready.set_writable(true);
    assert_eq!(server.drive(), Outcome::Blocked);
    check_replies(&peer, b"", [&b"three".to_vec()]);
    assert_eq!(server.counters(), (1, 0, 0, unsent));
}
