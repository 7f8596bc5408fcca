//! How replies leave, and what an error of a send costs.

use super::*;

#[test]
fn a_reply_that_no_datagram_can_hold_is_counted_and_its_neighbours_arrive() {
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    let datagrams =
        [payload(1, 5), payload(2, DATAGRAM_BYTES_MAX - PREFIX.len() + 1), payload(3, 5)];
    datagrams.iter().for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), datagram.len()));
    service.hear(3);
    check_replies(&peer, PREFIX, [&datagrams[0], &datagrams[2]]);
    assert_eq!(service.counted(), (2, 0, 1, 0));
}

#[test]
#[cfg(target_os = "linux")]
fn a_reply_leaves_from_the_address_that_was_asked() {
    // The socket has all addresses. One peer asks several in turn. A question to everybody is not answered at all.
    // Nothing but the address tells which of them has replied, so only replies from the same one may share a train.
    let check = |on: &str, asked: &[&str], answers: &[&str], trains: usize| {
        let mut service = Service::on(on);
        let port = service.source.address.port();
        let peer = Peer::bind(SocketAddr::new(service.source.address.ip(), 0)).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.set_broadcast(true).unwrap();
        for round in 1..=2 {
            service.ready.writable = false;
            for ip in asked {
                peer.send_to(b"Who are you?", SocketAddr::new(ip.parse().unwrap(), port)).unwrap();
            }
            let_all_arrive();
            assert_eq!(service.drive_readable(), Outcome::Blocked);
            assert_eq!(
                service.source.replies.pending_len(),
                trains,
                "trains, which the kernel has not refused"
            );
            service.ready.writable = true;
            assert_eq!(service.drive(), Outcome::Blocked);
            assert_eq!(
                service.state.stats.datagrams_dropped,
                round * (asked.len() - answers.len()) as u64
            );
            for ip in answers {
                let mut reply = [0; 64];
                let (length, from) = peer.recv_from(&mut reply).unwrap();
                assert_eq!(
                    (from, &reply[..length]),
                    (SocketAddr::new(ip.parse().unwrap(), port), &b"echo -> Who are you?"[..])
                );
            }
        }
    };
    let asked = ["127.1.2.3", "127.0.0.1", "127.1.2.3", "127.1.2.3", "127.255.255.255"];
    check("0.0.0.0:0", &asked, &asked[..4], 3);
    check("[::]:0", &["::1", "::1"], &["::1", "::1"], 1);
}

#[test]
#[cfg(target_os = "linux")]
fn a_train_that_cannot_be_sent_at_all_is_given_up_as_a_whole() {
    // There is one to a peer whom the kernel never named. That is no reason to send no more trains.
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    service.ready.writable = false;
    peer.send(b"hello").unwrap();
    service.hear(1);
    service.source.batch.push_message(None, LocalAddress::Fixed, 5, 5, false);
    let (_, _, mut replies) = service.begin_answering();
    for number in [1, 1, 1, 0, 0] {
        replies.set_recipient(number);
        replies.send(b"the same size");
    }
    service.ready.writable = true;
    assert_eq!(service.source.replies.pending_len(), 3);
    assert_eq!(service.drive(), Outcome::Blocked);
    assert_eq!(
        service.counted(),
        (3, 1, 0, 3),
        "nor is what the nameless one has sent put to the protocol"
    );
    check_replies(
        &peer,
        b"",
        [&b"echo -> hello".to_vec(), &b"the same size".to_vec(), &b"the same size".to_vec()],
    );
    let (_, _, mut replies) = service.begin_answering();
    replies.set_recipient(0);
    (0..2).for_each(|_| replies.send(b"the same size"));
    assert_eq!(service.source.replies.pending_len(), 1);
}

#[test]
#[cfg(target_os = "linux")]
fn a_train_that_the_kernel_refuses_leaves_datagram_by_datagram() {
    // Without checksums the kernel cuts no trains (udp_send_skb), as is the case with some devices. All arrives nevertheless,
    // and no further train is tried.
    let mut service = Service::on(V4);
    set_option(&service.source.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    let peer = peer_of(service.source.address);
    let datagrams: Vec<Vec<u8>> = (0..20).map(|number| payload(number, 100)).collect();
    for (round, trains) in [(1, 1), (2, 20)] {
        service.ready.writable = false;
        datagrams.iter().for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), 100));
        let_all_arrive();
        assert_eq!(service.drive_readable(), Outcome::Blocked);
        assert_eq!(service.source.replies.pending_len(), trains, "in round {round}");
        service.ready.writable = true;
        assert_eq!(service.drive(), Outcome::Blocked);
        check_replies(&peer, PREFIX, &datagrams);
        assert_eq!(service.counted(), (20 * round, 0, 0, 0));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_single_reply_that_the_kernel_refuses_is_skipped_although_it_looks_like_a_refused_train() {
    // The socket is told to cut all it sends every 8 bytes. The kernel does not cut 2,000 bytes in that many (EINVAL); what is
    // no longer than 8, with its prefix, is not cut at all.
    let mut service = Service::on(V4);
    set_option(&service.source.socket, libc::SOL_UDP, libc::UDP_SEGMENT, 8);
    let peer = peer_of(service.source.address);
    let datagrams = [Vec::new(), payload(1, 2000), Vec::new(), payload(2, 2000), Vec::new()];
    datagrams.iter().for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), datagram.len()));
    service.hear(5);
    assert_eq!(service.counted(), (3, 0, 0, 2));
    check_replies(&peer, PREFIX, [&Vec::new(), &Vec::new(), &Vec::new()]);
    // And trains are still tried.
    service.ready.writable = false;
    (0..2).for_each(|_| assert_eq!(peer.send(b"").unwrap(), 0));
    let_all_arrive();
    assert_eq!(service.drive_readable(), Outcome::Blocked);
    assert_eq!(service.source.replies.pending_len(), 1);
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // neither std nor socket2 has these options
fn set_option(socket: &UdpSocket, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    use std::os::fd::AsRawFd;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap();
    // SAFETY: the pointer and the length describe `value`, which lives through the call; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    assert_eq!(result, 0, "option {level}/{name}: {}", io::Error::last_os_error());
}

#[test]
#[cfg(target_os = "linux")]
fn whatever_a_send_fails_with_costs_one_reply() {
    // The third of ten replies, each to another peer, meets each error in turn. If it is only a matter of waiting, all arrive.
    for errno in 1..=133 {
        let mut service = Service::on(V4);
        let address = service.source.address;
        let batch = &mut service.source.batch;
        for number in 1..=10 {
            batch.push_message(
                Some(SocketAddr::from(([192, 0, 2, number], 1000))),
                LocalAddress::Fixed,
                5,
                5,
                false,
            );
        }
        service.source.answer_batch(&mut service.state, &mut service.effects);
        let (mut taken, mut calls) = (0, 0);
        let mut fails = true;
        let mut kernel = |replies: &ReplyQueue| {
            calls += 1;
            assert!(calls < 10, "it spins on error {errno}");
            if taken == 2 && std::mem::take(&mut fails) {
                return Err(io::Error::from_raw_os_error(errno));
            }
            let some = if fails { 2 } else { replies.pending_len() };
            taken += some;
            Ok(some)
        };
        let stats = &mut service.state.stats;
        send_replies(&mut service.source.replies, &mut service.ready, stats, address, &mut kernel);
        let waits = service.source.wants_write();
        assert_eq!(
            waits,
            io::Error::from_raw_os_error(errno).kind() == ErrorKind::WouldBlock,
            "error {errno}"
        );
        service.ready.writable = true;
        send_replies(&mut service.source.replies, &mut service.ready, stats, address, &mut kernel);
        let is_lost = !waits && errno != libc::EINTR;
        let expected = if is_lost { (9, 0, 0, 1) } else { (10, 0, 0, 0) };
        assert_eq!(service.counted(), expected, "error {errno}");
    }
}
