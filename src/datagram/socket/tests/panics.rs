//! What a panic in the protocol costs.

use super::*;

#[test]
fn a_panic_costs_the_one_datagram() {
    // At whichever place of a train it happens, or in an empty datagram, or in each: the others are answered, once, and all are
    // counted. What had been replied before the panic is sent.
    let answers = |datagram: &Datagram<'_>, replies: &mut Replies<'_>| {
        replies.echo(if datagram.payload == b"P" { b"before " } else { b"" });
        assert_ne!(datagram.payload, b"P", "on purpose");
    };
    for train in [&b"P"[..], b"Pabc", b"abcP", b"abPPcdP", b"PPPP"] {
        let mut service = Service::of(Answers(answers), V4);
        let peer = service.known_peer();
        service.pretend(Some(peer.local_addr().unwrap()), LocalAddress::Fixed, 1, train);
        let panics = train.iter().filter(|&&byte| byte == b'P').count() as u64;
        let stats = &service.state.stats;
        assert_eq!((stats.datagrams_in, stats.panics), (train.len() as u64, panics));
        assert!(service.source.batch.is_answered());
        assert_eq!(service.drive(), Outcome::Blocked);
        let expected =
            train.iter().map(|&byte| if byte == b'P' { b"before P".to_vec() } else { vec![byte] });
        check_replies(&peer, b"", &expected.collect::<Vec<_>>());
    }
}

#[test]
fn a_panic_harms_no_neighbour() {
    // Three peers and one of them, in the middle, sends what the protocol does not survive: an empty datagram.
    let answers = |datagram: &Datagram<'_>, replies: &mut Replies<'_>| {
        assert!(!datagram.payload.is_empty(), "on purpose");
        replies.echo(PREFIX);
    };
    let mut service = Service::of(Answers(answers), V4);
    let peers = [0, 1, 2].map(|_| peer_of(service.source.address));
    for (number, peer) in peers.iter().enumerate() {
        let bytes = payload(number, 5);
        for datagram in [&bytes[..], &bytes[..if number == 1 { 0 } else { 5 }], &bytes[..]] {
            assert_eq!(peer.send(datagram).unwrap(), datagram.len());
        }
    }
    service.hear(9);
    for (number, peer) in peers.iter().enumerate() {
        check_replies(peer, PREFIX, &vec![payload(number, 5); if number == 1 { 2 } else { 3 }]);
    }
    assert_eq!((service.state.stats.panics, service.counted()), (1, (8, 0, 0, 0)));
}
