//! Which datagrams are dropped instead of answered.

use super::*;

// pitfall: 43, 50
#[test]
fn unanswerable_datagrams_are_counted_and_their_neighbours_answered() {
    // One datagram from port 0, one of an unknown address family, one truncated, and a GRO batch of
    // three from port 0. All six are dropped and counted, and the protocol is called with none.
    let mut server = DrivenSocket::echo(V4);
    let peer = peer_of(server.source.address);
    peer.send(b"hello").unwrap();
    server.ready.set_writable(false);
    server.receive_until(1);
    let known = peer.local_addr().ok();
    let port_0 = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    server.within_a_drive(|server| {
        for (peer, segment, is_truncated) in
            [(port_0, 5, false), (None, 5, false), (known, 5, true), (port_0, 2, false)]
        {
            let batch = &mut server.scratch.batch;
            batch.push_message(peer, LocalAddress::Fixed, 5, segment, is_truncated);
        }
        server.answer_batch();
    });
    assert_eq!(server.counters(), (0, 6, 0, 0));
    server.ready.set_writable(true);
    assert_eq!(server.drive(), Outcome::Blocked);
    assert_eq!(server.counters(), (1, 6, 0, 0));
    check_replies(&peer, PREFIX, [&b"hello".to_vec()]);
}

// pitfall: 54
// rule: echo-loop
#[test]
fn socket_does_not_answer_its_own_address() {
    // It would answer itself for ever. Anyone can forge such a source address; here it is the true
    // one.
    for address in [V4, V6] {
        let mut server = DrivenSocket::echo(address);
        let own = server.source.address;
        server.source.transport.socket.send_to(b"hello", own).unwrap();
        server.receive_until(1);
        assert_eq!(server.counters(), (0, 1, 0, 0));
    }
}

// pitfall: 54
#[test]
fn two_sockets_of_one_reactor_do_not_answer_each_other() {
    // A datagram to the first socket, with the second one's address as its forged source, would
    // make the two answer each other for ever. Here the source is the true one. If the second is
    // bound to all addresses, every address of this machine with its port is our own.
    for (one, other, own) in [
        (V4, V4, "127.0.0.1"),
        (V4, "0.0.0.0:0", "127.0.0.1"),
        (V6, V6, "::1"),
        (V6, "[::]:0", "::1"),
    ] {
        let mut server = DrivenSocket::echo(one);
        let other = bind(other);
        server.state.datagram_addresses.push(other.local_addr().unwrap());
        other.send_to(b"hello", server.source.address).unwrap();
        server.receive_until(1);
        assert_eq!(server.counters(), (0, 1, 0, 0), "{own}");
        server.state.datagram_addresses.pop();
        other.send_to(b"hello", server.source.address).unwrap();
        server.receive_until(2);
        assert_eq!(server.counters(), (1, 1, 0, 0), "{own}, not a socket of this reactor");
    }
}

#[test]
fn wildcard_socket_answers_a_remote_peer_that_has_its_port() {
    // The addresses are reserved for documentation (RFC 5737, RFC 3849), so they are not of this
    // machine. A system that lets any address be bound cannot tell, and is skipped.
    for (bound, remote) in [("0.0.0.0:0", "192.0.2.1"), ("[::]:0", "2001:db8::1")] {
        let mut server = DrivenSocket::symmetric(bound);
        let remote = SocketAddr::new(remote.parse().unwrap(), server.source.address.port());
        if sys::is_own_address(remote).unwrap() {
            continue;
        }
        server.receive_fake(Some(remote), LocalAddress::Fixed, 5, b"hello");
        assert_eq!((server.counters(), server.pending_len()), ((0, 0, 0, 0), 1), "{remote}");
    }
}

#[test]
fn peer_with_an_address_that_cannot_be_checked_is_dropped() {
    // A link-local address needs an interface, and there is none of this number. So the check
    // whether the address is ours fails with another error.
    let mut server = DrivenSocket::symmetric("[::]:0");
    let port = server.source.address.port();
    let remote = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), port, 0, u32::MAX);
    server.receive_fake(Some(remote.into()), LocalAddress::Fixed, 5, b"hello");
    assert_eq!(server.counters(), (0, 1, 0, 0));
    let (_, why) = server.source.unlogged.last_dropped.unwrap();
    assert!(why.to_string().starts_with("perhaps an own address: "), "{why}");
}

// pitfall: 54
// rule: echo-loop
#[test]
fn unanswered_ports_are_dropped_unless_the_list_is_cleared() {
    // Two echo services would answer each other for ever. An operator may answer such ports
    // nevertheless.
    let mut server = DrivenSocket::echo(V4);
    server.ready.set_writable(false);
    for (count, port) in (1..).zip([7, 11, 13, 17, 19, 37]) {
        server.receive_fake(
            Some(SocketAddr::from(([192, 0, 2, 1], port))),
            LocalAddress::Fixed,
            5,
            b"hello",
        );
        assert_eq!((server.counters(), server.pending_len()), ((0, count, 0, 0), 0));
    }
    server.state.limits.unanswered_ports.clear();
    server.receive_fake(
        Some(SocketAddr::from(([192, 0, 2, 1], 7))),
        LocalAddress::Fixed,
        5,
        b"hello",
    );
    assert_eq!((server.counters(), server.pending_len()), ((0, 6, 0, 0), 1));
    // Port 0 is never answered.
    server.receive_fake(
        Some(SocketAddr::from(([192, 0, 2, 1], 0))),
        LocalAddress::Fixed,
        5,
        b"hello",
    );
    assert_eq!((server.counters(), server.pending_len()), ((0, 7, 0, 0), 0));
}

// pitfall: 113
// rule: echo-loop
#[test]
fn echo_refuses_peers_at_the_port_numbers_of_its_reactor() {
    // On another host, a server that is configured alike has sockets at the same port numbers. Here
    // these are the echo's own and that of a second socket.
    for bound in [V4, "0.0.0.0:0"] {
        let ports = |server: &mut DrivenSocket| {
            server.state.datagram_addresses.push(SocketAddr::from(([127, 0, 0, 1], 2001)));
            [server.source.address.port(), 2001].into_iter().zip(1..)
        };
        let mut server = DrivenSocket::echo(bound);
        for (port, count) in ports(&mut server) {
            let peer = SocketAddr::from(([192, 0, 2, 1], port));
            server.receive_fake(Some(peer), LocalAddress::Fixed, 5, b"hello");
            assert_eq!((server.counters(), server.pending_len()), ((0, count, 0, 0), 0), "{port}");
        }
        let echo = Echo::new().answering_own_ports();
        for mut server in [DrivenSocket::symmetric(bound), DrivenSocket::new(echo, bound)] {
            for (port, _) in ports(&mut server) {
                let peer = SocketAddr::from(([192, 0, 2, 1], port));
                server.receive_fake(Some(peer), LocalAddress::Fixed, 5, b"hello");
                assert_eq!((server.counters(), server.pending_len()), ((0, 0, 0, 0), 1), "{port}");
            }
        }
    }
}

#[test]
fn multicast_broadcast_and_unspecified_addresses_are_not_answered() {
    let host = SocketAddr::from(([192, 0, 2, 1], 1000));
    let mut server = DrivenSocket::echo(V4);
    server.receive_fake(Some(host), LocalAddress::Group, 5, b"hello");
    assert_eq!(server.counters(), (0, 1, 0, 0));
    for (count, ip) in (2..).zip(["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"]) {
        server.receive_fake(
            Some(SocketAddr::new(ip.parse().unwrap(), 1000)),
            LocalAddress::Fixed,
            5,
            b"hello",
        );
        assert_eq!((server.counters(), server.pending_len()), ((0, count, 0, 0), 0), "{ip}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn peer_with_our_port_on_another_local_address_is_answered() {
    let mut server = DrivenSocket::symmetric(V4);
    let address = server.source.address;
    let peer = Peer::bind(SocketAddr::from(([127, 0, 0, 2], address.port()))).unwrap();
    peer.connect(address).unwrap();
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    peer.send(b"hello").unwrap();
    server.receive_until(1);
    check_replies(&peer, PREFIX, [&b"hello".to_vec()]);
}

// pitfall: 54
#[test]
fn wildcard_socket_does_not_answer_any_of_its_own_addresses() {
    // Its own address is not the one that it was bound to, but any address of this machine with its
    // port.
    for (address, own) in
        [("0.0.0.0:0", "127.0.0.1"), ("0.0.0.0:0", "127.1.2.3"), ("[::]:0", "::1")]
    {
        let mut server = DrivenSocket::echo(address);
        let own = SocketAddr::new(own.parse().unwrap(), server.source.address.port());
        server.source.transport.socket.send_to(b"hello", own).unwrap();
        server.receive_until(1);
        assert_eq!(server.counters(), (0, 1, 0, 0), "{own}");
    }
}

#[test]
fn connected_socket_accepts_its_peer_at_any_port_and_drops_all_others() {
    // A datagram of another peer may have arrived just before the socket was connected. The peer
    // has the port of echo, which is one of the unanswered ports, and an address of our own.
    let peer = SocketAddr::from(([127, 0, 0, 1], 7));
    let mut state = LoopState::new(Limits::default());
    let socket = sys::connect_datagram(peer, Limits::default().udp_buffer_bytes).unwrap();
    let address = socket.local_addr().unwrap();
    let source = DatagramSocket::new(socket, address, Some(peer), Box::new(Echo::new()), &state);
    state.datagram_addresses.push(peer);
    let mut client = DrivenSocket::of(source, state);
    let others = [SocketAddr::from(([127, 0, 0, 1], 8)), SocketAddr::from(([127, 0, 0, 2], 7))];
    for (count, other) in (1..).zip(others.map(Some).into_iter().chain([None])) {
        client.receive_fake(other, LocalAddress::Fixed, 5, b"hello");
        assert_eq!((client.counters(), client.pending_len()), ((0, count, 0, 0), 0), "{other:?}");
    }
    client.receive_fake(Some(peer), LocalAddress::Fixed, 5, b"hello");
    assert_eq!((client.counters(), client.pending_len()), ((0, 3, 0, 0), 1));
}
