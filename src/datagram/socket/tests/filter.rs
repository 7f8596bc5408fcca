//! Which datagrams are dropped instead of answered.

use super::*;

#[test]
fn who_cannot_be_answered_is_refused_and_the_neighbours_are_answered() {
    // A datagram from port 0, one from nobody we know, one cut short, and a train of three from port 0. None is put to the
    // protocol, and all are counted.
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    peer.send(b"hello").unwrap();
    service.ready.writable = false;
    service.hear(1);
    let known = service.source.batch.senders[0].peer;
    let port_0 = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    service.source.batch.clear();
    for (peer, segment, is_cut) in
        [(port_0, 5, false), (None, 5, false), (known, 5, true), (port_0, 2, false)]
    {
        service.source.batch.push_message(peer, LocalAddress::Fixed, 5, segment, is_cut);
    }
    service.source.answer_batch(&mut service.state, &mut service.effects);
    assert_eq!(service.counted(), (0, 6, 0, 0));
    service.ready.writable = true;
    assert_eq!(service.drive(), Outcome::Blocked);
    assert_eq!(service.counted(), (1, 6, 0, 0));
    check_replies(&peer, PREFIX, [&b"hello".to_vec()]);
}

#[test]
fn a_socket_does_not_answer_itself() {
    // It would never stop. The sender is forged easily; here it is true.
    for address in [V4, V6] {
        let mut service = Service::on(address);
        let own = service.source.address;
        service.source.socket.send_to(b"Is anybody there?", own).unwrap();
        service.hear(1);
        assert_eq!(service.counted(), (0, 1, 0, 0));
    }
}

#[test]
fn two_sockets_of_one_reactor_do_not_answer_each_other() {
    // One datagram, forged in the name of the second, would set them talking. Here it is true. The second may have all addresses,
    // which are ours then, as long as they have its port.
    for (one, other, own) in [
        (V4, V4, "127.0.0.1"),
        (V4, "0.0.0.0:0", "127.0.0.1"),
        (V6, V6, "::1"),
        (V6, "[::]:0", "::1"),
    ] {
        let mut service = Service::on(one);
        let other = bind(other);
        service.state.datagram_addresses.push(other.local_addr().unwrap());
        other.send_to(b"Is anybody there?", service.source.address).unwrap();
        service.hear(1);
        assert_eq!(service.counted(), (0, 1, 0, 0), "{own}");
        service.state.datagram_addresses.pop();
        other.send_to(b"Is anybody there?", service.source.address).unwrap();
        service.hear(2);
        assert_eq!(service.counted(), (1, 1, 0, 0), "{own}, when it is somebody else's");
    }
}

#[test]
fn a_stranger_with_the_port_of_a_socket_on_all_addresses_is_answered() {
    // The system knows that the address is none of this machine's: it is kept for examples (RFC 5737, RFC 3849). Where it
    // lets anybody's address be bound, nobody can tell.
    for (on, stranger) in [("0.0.0.0:0", "192.0.2.1"), ("[::]:0", "2001:db8::1")] {
        let mut service = Service::on(on);
        let stranger = SocketAddr::new(stranger.parse().unwrap(), service.source.address.port());
        if sys::is_own_address(stranger).unwrap() {
            continue;
        }
        service.pretend(Some(stranger), LocalAddress::Fixed, 5, b"hello");
        assert_eq!(
            (service.counted(), service.source.replies.pending_len()),
            ((0, 0, 0, 0), 1),
            "{stranger}"
        );
    }
}

#[test]
fn whose_address_cannot_be_told_from_ours_is_refused() {
    // A link-local address is bound on an interface, and there is none of that number: the trial fails, for another reason
    // than that the address is not ours.
    let mut service = Service::on("[::]:0");
    let port = service.source.address.port();
    let stranger = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), port, 0, u32::MAX);
    service.pretend(Some(stranger.into()), LocalAddress::Fixed, 5, b"hello");
    assert_eq!(service.counted(), (0, 1, 0, 0));
    let (_, why) = service.source.last_dropped.unwrap();
    assert!(why.to_string().starts_with("perhaps an own address: "), "{why}");
}

#[test]
fn nobody_is_answered_at_the_ports_of_small_services_unless_all_are_to_be() {
    // Echo answers echo without end. Whoever has such a port for another reason can be let in.
    let mut service = Service::on(V4);
    service.ready.writable = false;
    for (count, port) in [(1, 7), (2, 13), (3, 17), (4, 19)] {
        service.pretend(
            Some(SocketAddr::from(([192, 0, 2, 1], port))),
            LocalAddress::Fixed,
            5,
            b"hello",
        );
        assert_eq!(
            (service.counted(), service.source.replies.pending_len()),
            ((0, count, 0, 0), 0)
        );
    }
    service.state.limits.unanswered_ports.clear();
    service.pretend(Some(SocketAddr::from(([192, 0, 2, 1], 7))), LocalAddress::Fixed, 5, b"hello");
    assert_eq!((service.counted(), service.source.replies.pending_len()), ((0, 4, 0, 0), 1));
    // Port 0 is not a matter of choice.
    service.pretend(Some(SocketAddr::from(([192, 0, 2, 1], 0))), LocalAddress::Fixed, 5, b"hello");
    assert_eq!((service.counted(), service.source.replies.pending_len()), ((0, 5, 0, 0), 1));
}

#[test]
fn what_is_sent_to_many_or_in_the_name_of_no_host_is_not_answered() {
    let host = SocketAddr::from(([192, 0, 2, 1], 1000));
    let mut service = Service::on(V4);
    service.pretend(Some(host), LocalAddress::Group, 5, b"hello");
    assert_eq!(service.counted(), (0, 1, 0, 0));
    for (count, ip) in (2..).zip(["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"]) {
        service.pretend(
            Some(SocketAddr::new(ip.parse().unwrap(), 1000)),
            LocalAddress::Fixed,
            5,
            b"hello",
        );
        assert_eq!(
            (service.counted(), service.source.replies.pending_len()),
            ((0, count, 0, 0), 0),
            "{ip}"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_neighbour_with_the_same_port_is_somebody_else() {
    // It has another address, on the same machine.
    let mut service = Service::on(V4);
    let address = service.source.address;
    let peer = Peer::bind(SocketAddr::from(([127, 0, 0, 2], address.port()))).unwrap();
    peer.connect(address).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.send(b"hello").unwrap();
    service.hear(1);
    check_replies(&peer, PREFIX, [&b"hello".to_vec()]);
}

#[test]
fn a_socket_on_all_addresses_does_not_answer_itself_either() {
    // Its own address is not the one that it was bound to, but any of this machine, with its port.
    for (address, own) in
        [("0.0.0.0:0", "127.0.0.1"), ("0.0.0.0:0", "127.1.2.3"), ("[::]:0", "::1")]
    {
        let mut service = Service::on(address);
        let own = SocketAddr::new(own.parse().unwrap(), service.source.address.port());
        service.source.socket.send_to(b"Is anybody there?", own).unwrap();
        service.hear(1);
        assert_eq!(service.counted(), (0, 1, 0, 0), "{own}");
    }
}

#[test]
fn a_connected_socket_hears_its_peer_at_whatever_port_and_refuses_a_stranger() {
    // A stranger's datagram may have come in the moment before the socket was connected. The peer is a small service.
    let peer = SocketAddr::from(([127, 0, 0, 1], 7));
    let mut state = LoopState::new(Limits::default());
    let socket = sys::connect_datagram(peer, Limits::default().udp_buffer_bytes).unwrap();
    let address = socket.local_addr().unwrap();
    let source = DatagramSocket::new(socket, address, Some(peer), Box::new(Echo::new()), &state);
    state.datagram_addresses.push(peer);
    let mut service =
        Service { source, ready: Readiness::NOT_READY, state, effects: Effects::default() };
    let strangers = [SocketAddr::from(([127, 0, 0, 1], 8)), SocketAddr::from(([127, 0, 0, 2], 7))];
    for (count, stranger) in (1..).zip(strangers.map(Some).into_iter().chain([None])) {
        service.pretend(stranger, LocalAddress::Fixed, 5, b"hello");
        assert_eq!(
            (service.counted(), service.source.replies.pending_len()),
            ((0, count, 0, 0), 0),
            "{stranger:?}"
        );
    }
    service.pretend(Some(peer), LocalAddress::Fixed, 5, b"hello");
    assert_eq!((service.counted(), service.source.replies.pending_len()), ((0, 3, 0, 0), 1));
}
