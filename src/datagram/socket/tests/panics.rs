//! A panic in the protocol costs the one datagram that it was called with.

use super::*;

// pitfall: 57
#[test]
fn panic_at_any_place_of_a_gro_batch_costs_the_one_datagram() {
    // At the start, at the end, several times, for each datagram: all others are answered, once,
    // and all are counted as received. A reply that was made before the panic is sent.
    let answer = |datagram: &Datagram<'_>, replies: &mut Replies<'_>| {
        replies.echo(if datagram.payload == b"P" { b"before " } else { b"" });
        assert_ne!(datagram.payload, b"P", "on purpose");
    };
    for batch in [&b"P"[..], b"Pabc", b"abcP", b"abPPcdP", b"PPPP"] {
        let mut server = DrivenSocket::new(OnReceived(answer), V4);
        let peer = server.known_peer();
        server.receive_fake(Some(peer.local_addr().unwrap()), LocalAddress::Fixed, 1, batch);
        let panics = batch.iter().filter(|&&byte| byte == b'P').count() as u64;
        let stats = &server.state.stats;
        assert_eq!((stats.datagrams_in, stats.panics), (batch.len() as u64, panics));
        assert!(!server.source.unfinished().datagrams);
        assert_eq!(server.drive(), Outcome::Blocked);
        let expected =
            batch.iter().map(|&byte| if byte == b'P' { b"before P".to_vec() } else { vec![byte] });
        check_replies(&peer, b"", &expected.collect::<Vec<_>>());
    }
}

// pitfall: 57
#[test]
fn panic_on_one_datagram_leaves_its_neighbours_answered() {
    // Three peers send three datagrams each. The protocol panics on one in the middle, which is
    // empty.
    let answer = |datagram: &Datagram<'_>, replies: &mut Replies<'_>| {
        assert!(!datagram.payload.is_empty(), "on purpose");
        replies.echo(PREFIX);
    };
    let mut server = DrivenSocket::new(OnReceived(answer), V4);
    let peers = [0, 1, 2].map(|_| peer_of(server.source.address));
    for (number, peer) in peers.iter().enumerate() {
        let bytes = payload(number, 5);
        for datagram in [&bytes[..], &bytes[..if number == 1 { 0 } else { 5 }], &bytes[..]] {
            assert_eq!(peer.send(datagram).unwrap(), datagram.len());
        }
    }
    server.receive_until(9);
    for (number, peer) in peers.iter().enumerate() {
        check_replies(peer, PREFIX, &vec![payload(number, 5); if number == 1 { 2 } else { 3 }]);
    }
    assert_eq!((server.state.stats.panics, server.counters()), (1, (8, 0, 0, 0)));
}
