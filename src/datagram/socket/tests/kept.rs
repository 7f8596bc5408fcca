//! What a socket keeps from one drive to the next: nothing, unless datagrams or replies wait.

use super::*;

/// How many bytes of receive buffers the socket keeps.
fn kept_bytes(server: &DrivenSocket) -> usize {
    server.source.kept.as_ref().map_or(0, |kept| kept.batch.buffers.capacity())
}

// pitfall: 115
#[test]
fn socket_that_has_answered_owns_no_receive_buffer() {
    let mut server = DrivenSocket::echo(V4);
    let peer = peer_of(server.source.address);
    peer.send(&payload(1, 9000)).unwrap();
    server.receive_until(1);
    assert!(server.source.kept.is_none());
    check_replies(&peer, PREFIX, [&payload(1, 9000)]);
}

// pitfall: 115
#[test]
fn waiting_replies_keep_what_was_received_and_not_a_whole_buffer() {
    // Another socket receives in the same buffers before the replies of the first one can leave.
    // Datagrams of all sizes, also empty ones, and several peers.
    let mut server = DrivenSocket::echo(V4);
    let mut other = DrivenSocket::echo(V4);
    let peers = [0, 1].map(|_| peer_of(server.source.address));
    let other_peer = peer_of(other.source.address);
    let sent = [payload(1, 1000), Vec::new(), payload(2, 1000), payload(3, 5), Vec::new()];
    for datagram in &sent {
        for peer in &peers {
            peer.send(datagram).unwrap();
        }
    }
    wait_for_arrival();
    server.ready.set_writable(false);
    assert_eq!(server.drive_readable(), Outcome::Blocked);
    let bytes = 2 * sent.iter().map(Vec::len).sum::<usize>();
    assert!((bytes..2 * bytes).contains(&kept_bytes(&server)), "{} bytes", kept_bytes(&server));
    other_peer.send(&payload(4, 2000)).unwrap();
    wait_for_arrival();
    std::mem::swap(&mut server.scratch, &mut other.scratch);
    other.drive_readable();
    std::mem::swap(&mut server.scratch, &mut other.scratch);
    check_replies(&other_peer, PREFIX, [&payload(4, 2000)]);
    server.ready.set_writable(true);
    assert_eq!(server.drive(), Outcome::Blocked);
    assert!(server.source.kept.is_none());
    peers.iter().for_each(|peer| check_replies(peer, PREFIX, &sent));
    assert!(!server.scratch.batch.is_copy, "the buffers are back");
}

// pitfall: 115
#[test]
fn unsolicited_replies_that_wait_keep_nothing_of_another_sockets_batch() {
    struct Greeter;
    impl DatagramProtocol for Greeter {
        fn opened(&mut self, replies: &mut Replies<'_>) {
            replies.send(b"hello");
        }
        fn received(&mut self, _: &Datagram<'_>, _: &mut Replies<'_>) {}
    }
    let mut server = DrivenSocket::echo(V4);
    let peer = peer_of(server.source.address);
    peer.send(&payload(1, 9000)).unwrap();
    server.receive_until(1);
    let mut client = DrivenSocket::new(Greeter, V4);
    std::mem::swap(&mut server.scratch, &mut client.scratch);
    client.ready.set_writable(false);
    client.drive();
    assert_eq!((client.pending_len(), kept_bytes(&client)), (1, 0));
}

#[test]
fn meter_has_what_a_socket_keeps_after_each_drive() {
    /// Sends more while the first datagram waits.
    struct Ticker;
    impl DatagramProtocol for Ticker {
        fn opened(&mut self, replies: &mut Replies<'_>) {
            replies.send(b"hello");
        }
        fn timer_expired(&mut self, replies: &mut Replies<'_>) {
            replies.send(&[b'x'; 60_000]);
        }
        fn received(&mut self, _: &Datagram<'_>, _: &mut Replies<'_>) {}
    }
    let mut client = DrivenSocket::new(Ticker, V4);
    client.ready.set_writable(false);
    client.drive();
    let first = client.state.memory.held();
    assert!((1..60_000).contains(&first), "{first}");
    client.source.requests.timer = client.state.clock.now;
    let DrivenSocket { source, ready, state, effects, scratch } = &mut client;
    source.expire(ready, scratch, state, effects);
    assert!(client.state.memory.held() >= 60_000);
    client.ready.set_writable(true);
    client.drive();
    assert_eq!(client.state.memory.held(), 0);
}

// pitfall: 115
#[test]
fn batch_that_is_answered_in_parts_loses_no_datagram() {
    // Each reply of the greatest length is echoed after it, so that the high watermark is reached
    // within the batch and within a GRO message, again and again. Between the drives, other sockets
    // use the buffers.
    let large = payload(1, DATAGRAM_BYTES_MAX - 1);
    let mut server = DrivenSocket::new(
        OnReceived(move |_: &Datagram<'_>, replies: &mut Replies<'_>| replies.echo(&large)),
        V4,
    );
    let peer = server.known_peer();
    let numbers: Vec<u8> = (0..50).collect();
    server.ready.set_writable(false);
    server.receive_fake(Some(peer.local_addr().unwrap()), LocalAddress::Fixed, 1, &numbers);
    server.ready.set_writable(true);
    let large = payload(1, DATAGRAM_BYTES_MAX - 1);
    let mut received = Vec::new();
    while received.len() < numbers.len() {
        server.scratch.batch.buffers.fill(0xFF); // as another socket would
        server.drive();
        let mut buffer = vec![0; 65_536];
        while (received.len() as u64) < server.state.stats.datagrams_out {
            let length = peer.recv(&mut buffer).unwrap();
            assert!(buffer[..length - 1] == large);
            received.push(buffer[length - 1]);
        }
    }
    assert_eq!(received, numbers);
    assert!(server.source.kept.is_none());
}

#[test]
#[cfg(target_os = "linux")]
fn kept_reply_leaves_from_the_address_that_was_asked() {
    let mut server = DrivenSocket::echo("0.0.0.0:0");
    let asked = SocketAddr::from(([127, 1, 2, 3], server.source.address.port()));
    let peer = peer_of(asked);
    peer.send(b"hello").unwrap(); // the peer is connected, so it drops replies of others
    wait_for_arrival();
    server.ready.set_writable(false);
    server.drive_readable();
    server.scratch = DatagramScratch::new();
    server.ready.set_writable(true);
    server.drive();
    check_replies(&peer, PREFIX, [&b"hello".to_vec()]);
}

// pitfall: 171
#[test]
fn replies_that_the_kernel_does_not_take_are_charged_to_the_turn() {
    struct Sender;
    impl DatagramProtocol for Sender {
        fn opened(&mut self, replies: &mut Replies<'_>) {
            (0..60).for_each(|_| replies.send(&[b'x'; 65_000]));
        }
        fn received(&mut self, _: &Datagram<'_>, _: &mut Replies<'_>) {}
    }
    let mut client = DrivenSocket::new(Sender, V4);
    client.ready.set_writable(false);
    client.state.budget.begin_turn(1);
    let mut others = 0;
    while !client.state.budget.is_spent() {
        assert!(others < 3, "so many such sockets take more than the memory of a turn");
        others += 1;
        let mut other = DrivenSocket::new(Sender, V4);
        other.ready.set_writable(false);
        std::mem::swap(&mut client.state.budget, &mut other.state.budget);
        other.drive();
        std::mem::swap(&mut client.state.budget, &mut other.state.budget);
        assert_eq!(other.pending_len(), 60);
    }
}
