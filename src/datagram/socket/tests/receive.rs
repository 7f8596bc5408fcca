//! What a drive receives, and how much it answers before it sends.

use super::*;

#[test]
fn an_empty_socket_is_asked_once() {
    // Spurious news: the kernel has nothing, and that is remembered.
    let mut service = Service::on(V4);
    assert_eq!(service.drive_readable(), Outcome::Blocked);
    assert!(!service.ready.readable);
    assert_eq!(service.counted(), (0, 0, 0, 0));
    assert_eq!(service.state.stats.datagram_errors, 0);
}

#[test]
fn a_short_batch_shows_that_the_socket_is_empty() {
    // It is not asked again before the kernel says so.
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    peer.send(b"hello").unwrap();
    let_all_arrive();
    service.ready.readable = true;
    service.source.receive(&mut service.ready, &mut service.state.stats);
    assert_eq!((service.source.batch.messages.len(), service.ready.readable), (1, false));
}

#[test]
fn the_empty_datagram_gets_the_bare_prefix() {
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    peer.send(b"").unwrap();
    service.hear(1);
    check_replies(&peer, PREFIX, [&Vec::new()]);
}

#[test]
fn a_flood_is_served_one_budget_at_a_time() {
    // 300 have arrived. Four batches of 64 are answered, then it is somebody else's turn; no edge comes for the other 44.
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    let datagrams: Vec<Vec<u8>> = (0..300).map(|number| payload(number, 10)).collect();
    datagrams.iter().for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), 10));
    let_all_arrive();
    assert_eq!(service.drive_readable(), Outcome::Unfinished);
    assert_eq!((service.state.stats.datagrams_in, service.counted()), (256, (256, 0, 0, 0)));
    check_replies(&peer, PREFIX, &datagrams[..256]);
    assert_eq!(service.drive(), Outcome::Blocked);
    assert_eq!((service.state.stats.datagrams_in, service.counted()), (300, (300, 0, 0, 0)));
    check_replies(&peer, PREFIX, &datagrams[256..]);
}

#[test]
fn while_replies_wait_nothing_is_received() {
    // The kernel cannot be written. The second datagram stays with it until the reply to the first is gone.
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    service.ready.writable = false;
    peer.send(b"first").unwrap();
    service.hear(1);
    peer.send(b"second").unwrap();
    let_all_arrive();
    assert_eq!(service.drive_readable(), Outcome::Blocked);
    assert!(service.source.wants_write());
    assert_eq!((service.state.stats.datagrams_in, service.counted()), (1, (0, 0, 0, 0)));
    service.ready.writable = true;
    assert_eq!(service.drive(), Outcome::Blocked);
    assert_eq!((service.state.stats.datagrams_in, service.counted()), (2, (2, 0, 0, 0)));
    check_replies(&peer, PREFIX, [&b"first".to_vec(), &b"second".to_vec()]);
}

#[test]
fn what_waits_is_sent_before_more_is_answered() {
    // Each of 40 bytes is answered with as much as a datagram can hold. As long as the kernel takes nothing, the high mark is
    // overshot by one reply at most; after that, none is lost. All came as one train, which is answered bit by bit.
    let large = payload(1, DATAGRAM_BYTES_MAX);
    let mut service = Service::of(
        Answers(move |_: &Datagram<'_>, replies: &mut Replies<'_>| replies.send(&large)),
        V4,
    );
    let peer = service.known_peer();
    service.ready.writable = false;
    service.pretend(Some(peer.local_addr().unwrap()), LocalAddress::Fixed, 1, &[1; 40]);
    let composed = service.source.replies.copied_bytes();
    assert!(composed <= REPLIES_HIGH_WATERMARK_BYTES + DATAGRAM_BYTES_MAX, "{composed} bytes");
    assert_eq!(service.state.stats.datagrams_in, service.source.replies.pending_len() as u64);
    assert!(service.state.stats.datagrams_in < 40);
    assert_eq!(service.drive(), Outcome::Blocked);
    assert!(!service.source.is_done());
    service.ready.writable = true;
    wait_until(|| service.drive() == Outcome::Blocked && service.source.is_done());
    assert_eq!((service.state.stats.datagrams_in, service.counted()), (40, (40, 0, 0, 0)));
}

#[test]
fn one_datagram_is_not_answered_without_end() {
    // The first is answered 100 times with as much as fits, the second 1,000,000 times with nothing, which has to be listed
    // all the same. What is beyond the bound is counted, and the third is answered as if nothing had been.
    let large = payload(1, DATAGRAM_BYTES_MAX);
    let mut datagrams = 0;
    let answers = move |_: &Datagram<'_>, replies: &mut Replies<'_>| {
        datagrams += 1;
        match datagrams {
            1 => (0..100).for_each(|_| replies.send(&large)),
            2 => (0..1_000_000).for_each(|_| replies.send(b"")),
            _ => replies.send(b"three"),
        }
    };
    let mut service = Service::of(Answers(answers), V4);
    let peer = service.known_peer();
    let from = Some(peer.local_addr().unwrap());
    service.ready.writable = false;
    let mut lost = 0;
    for (replies, listed) in
        [(100, DATAGRAM_BYTES_MAX + REPLY_OVERHEAD_BYTES), (1_000_000, REPLY_OVERHEAD_BYTES)]
    {
        let fitting = REPLIES_BYTES_MAX / listed;
        service.pretend(from, LocalAddress::Fixed, 5, b"hello");
        assert_eq!(service.source.replies.pending_len(), fitting);
        lost += (replies - fitting) as u64;
        assert_eq!(service.counted(), (0, 0, 0, lost));
        service.source.replies.mark_sent(fitting);
    }
    service.pretend(from, LocalAddress::Fixed, 5, b"hello");
    service.ready.writable = true;
    assert_eq!(service.drive(), Outcome::Blocked);
    check_replies(&peer, b"", [&b"three".to_vec()]);
    assert_eq!(service.counted(), (1, 0, 0, lost));
}
