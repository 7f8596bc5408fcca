//! How replies leave, and what an error of a send costs.

use super::*;

#[test]
fn reply_too_long_for_a_datagram_is_counted_and_the_others_are_sent() {
    let mut server = DrivenSocket::echo(V4);
    let peer = peer_of(server.source.address);
    let datagrams =
        [payload(1, 5), payload(2, DATAGRAM_BYTES_MAX - PREFIX.len() + 1), payload(3, 5)];
    datagrams.iter().for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), datagram.len()));
    server.receive_until(3);
    check_replies(&peer, PREFIX, [&datagrams[0], &datagrams[2]]);
    assert_eq!(server.counters(), (2, 0, 1, 0));
}

// pitfall: 54
#[test]
#[cfg(target_os = "linux")]
fn reply_leaves_from_the_address_that_the_request_was_sent_to() {
    // The socket is bound to all addresses. One peer sends to several of them; what it sends to a
    // broadcast address is not answered. A GSO batch has one source address, so only replies from
    // the same one share it.
    let check = |bound: &str, requested: &[&str], answering: &[&str], batches: usize| {
        let mut server = DrivenSocket::echo(bound);
        let port = server.source.address.port();
        let peer = Peer::bind(SocketAddr::new(server.source.address.ip(), 0)).unwrap();
        peer.set_read_timeout(Some(TIMEOUT)).unwrap();
        peer.set_broadcast(true).unwrap();
        for round in 1..=2 {
            server.ready.set_writable(false);
            for ip in requested {
                peer.send_to(b"hello", SocketAddr::new(ip.parse().unwrap(), port)).unwrap();
            }
            wait_for_arrival();
            assert_eq!(server.drive_readable(), Outcome::Blocked);
            assert_eq!(server.pending_len(), batches, "GSO is still on in round {round}");
            server.ready.set_writable(true);
            assert_eq!(server.drive(), Outcome::Blocked);
            assert_eq!(
                server.state.stats.datagrams_dropped,
                round * (requested.len() - answering.len()) as u64
            );
            for ip in answering {
                let mut reply = [0; 64];
                let (length, from) = peer.recv_from(&mut reply).unwrap();
                assert_eq!(
                    (from, &reply[..length]),
                    (SocketAddr::new(ip.parse().unwrap(), port), &b"echo -> hello"[..])
                );
            }
        }
    };
    let requested = ["127.1.2.3", "127.0.0.1", "127.1.2.3", "127.1.2.3", "127.255.255.255"];
    check("0.0.0.0:0", &requested, &requested[..4], 3);
    check("[::]:0", &["::1", "::1"], &["::1", "::1"], 1);
}

// pitfall: 48
#[test]
#[cfg(target_os = "linux")]
fn unsendable_gso_batch_is_dropped_whole_and_gso_stays_on() {
    // The batch is addressed to a peer without an address, so its error is no refusal of GSO.
    let mut server = DrivenSocket::echo(V4);
    let peer = peer_of(server.source.address);
    server.ready.set_writable(false);
    peer.send(b"hello").unwrap();
    server.receive_until(1);
    server.within_a_drive(|server| {
        server.scratch.batch.push_message(None, LocalAddress::Fixed, 5, 5, false);
        let (_, _, mut replies) = server.begin_answering();
        for number in [1, 1, 1, 0, 0] {
            replies.set_recipient(number);
            replies.send(b"the same size");
        }
    });
    server.ready.set_writable(true);
    assert_eq!(server.pending_len(), 3);
    assert_eq!(server.drive(), Outcome::Blocked);
    assert_eq!(server.counters(), (3, 1, 0, 3), "the datagram without a sender is dropped, too");
    check_replies(
        &peer,
        b"",
        [&b"echo -> hello".to_vec(), &b"the same size".to_vec(), &b"the same size".to_vec()],
    );
    assert!(server.source.gso_enabled);
}

// pitfall: 52
#[test]
#[cfg(target_os = "linux")]
fn gso_batch_that_the_kernel_refuses_is_sent_as_single_datagrams() {
    // Without checksums the kernel refuses GSO (udp_send_skb), as some devices do. All datagrams
    // arrive nevertheless, and GSO is not tried again.
    let mut server = DrivenSocket::echo(V4);
    set_option(&server.source.transport.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    let peer = peer_of(server.source.address);
    let datagrams: Vec<Vec<u8>> = (0..20).map(|number| payload(number, 100)).collect();
    for (round, batches) in [(1, 1), (2, 20)] {
        server.ready.set_writable(false);
        datagrams.iter().for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), 100));
        wait_for_arrival();
        assert_eq!(server.drive_readable(), Outcome::Blocked);
        assert_eq!(server.pending_len(), batches, "in round {round}");
        server.ready.set_writable(true);
        assert_eq!(server.drive(), Outcome::Blocked);
        check_replies(&peer, PREFIX, &datagrams);
        assert_eq!(server.counters(), (20 * round, 0, 0, 0));
    }
}

// pitfall: 42
#[test]
#[cfg(target_os = "linux")]
fn single_reply_refused_with_a_gso_error_is_skipped_and_gso_stays_on() {
    // UDP_SEGMENT makes the kernel cut all that the socket sends every 8 bytes. It does not cut
    // 2,000 bytes into that many segments (EINVAL). A reply of 8 bytes, the prefix alone, is not
    // cut at all.
    let mut server = DrivenSocket::echo(V4);
    set_option(&server.source.transport.socket, libc::SOL_UDP, libc::UDP_SEGMENT, 8);
    let peer = peer_of(server.source.address);
    let datagrams = [Vec::new(), payload(1, 2000), Vec::new(), payload(2, 2000), Vec::new()];
    datagrams.iter().for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), datagram.len()));
    server.receive_until(5);
    assert_eq!(server.counters(), (3, 0, 0, 2));
    check_replies(&peer, PREFIX, [&Vec::new(), &Vec::new(), &Vec::new()]);
    // Replies still share a GSO batch.
    server.ready.set_writable(false);
    (0..2).for_each(|_| assert_eq!(peer.send(b"").unwrap(), 0));
    wait_for_arrival();
    assert_eq!(server.drive_readable(), Outcome::Blocked);
    assert_eq!(server.pending_len(), 1);
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // neither std nor socket2 has these options
fn set_option(socket: &UdpSocket, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    use std::os::fd::AsRawFd;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap();
    // SAFETY: the pointer and the length describe `value`, which lives through the call; the
    // descriptor is open.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    assert_eq!(result, 0, "option {level}/{name}: {}", io::Error::last_os_error());
}

// pitfall: 42, 47
// rule: unanswerable-peer
#[test]
#[cfg(target_os = "linux")]
fn any_error_of_a_send_costs_one_reply_at_most() {
    // The third of ten replies, each to another peer, fails with one error after another. On EAGAIN
    // and EINTR all ten are sent.
    for errno in 1..=133 {
        let mut server = DrivenSocket::echo(V4);
        let address = server.source.address;
        let batch = &mut server.scratch.batch;
        for number in 1..=10 {
            batch.push_message(
                Some(SocketAddr::from(([192, 0, 2, number], 1000))),
                LocalAddress::Fixed,
                5,
                5,
                false,
            );
        }
        server.answer_batch();
        let (mut taken, mut calls) = (0, 0);
        let mut fails = true;
        let mut kernel = |replies: &ReplyQueue, _: &LoopState| {
            calls += 1;
            assert!(calls < 10, "the loop spins on error {errno}");
            if taken == 2 && std::mem::take(&mut fails) {
                return Err(io::Error::from_raw_os_error(errno));
            }
            let count = if fails { 2 } else { replies.pending_len() };
            taken += count;
            Ok(count)
        };
        let state = &mut server.state;
        send_replies(&mut server.scratch.replies, &mut server.ready, state, address, &mut kernel);
        let is_blocked = server.scratch.unfinished().replies;
        assert_eq!(
            is_blocked,
            io::Error::from_raw_os_error(errno).kind() == ErrorKind::WouldBlock,
            "error {errno}"
        );
        server.ready.set_writable(true);
        let state = &mut server.state;
        send_replies(&mut server.scratch.replies, &mut server.ready, state, address, &mut kernel);
        let is_lost = !is_blocked && errno != libc::EINTR;
        let expected = if is_lost { (9, 0, 0, 1) } else { (10, 0, 0, 0) };
        assert_eq!(server.counters(), expected, "error {errno}");
        // An operator must know of some: one line in a while.
        let is_warned = server.state.next_send_warning_at > server.state.clock.now;
        let is_our_call =
            [libc::EINVAL, libc::EIO, libc::EOPNOTSUPP, libc::ENOSYS].contains(&errno);
        assert_eq!(is_warned, is_our_call, "error {errno}");
    }
}
