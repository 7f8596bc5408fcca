//! Bugs of datagram sockets: reply sizes, multicast, forged sources, and replies with a prefix.

use std::net::UdpSocket;

use mio_reactor::{Echo, Limits, Reactor};

use crate::common::{TIMEOUT, any_port, assert_same, connect_udp, pattern, turn_until};

// pitfall: 44
#[test]
fn largest_datagram_over_ipv6_is_answered() {
    // Replies were bounded by what IPv4 can carry: over IPv6, a reply of 65,508 to 65,527 bytes was
    // dropped as too long.
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = match reactor.bind_datagram("[::1]:0", Echo::new()) {
        Ok(address) => address,
        Err(error) => return eprintln!("skipped: no IPv6: {error}"),
    };
    let peer = connect_udp(address);
    let sent = pattern(1, 65_527);
    peer.send(&sent).unwrap();
    turn_until(&mut reactor, "a reply", |stats| stats.datagrams_out == 1);
    let mut received = vec![0; 70_000];
    let count = peer.recv(&mut received).unwrap();
    assert_same(&received[..count], &sent);
}

#[test]
#[cfg(target_os = "linux")]
fn ipv6_multicast_datagram_is_dropped_and_gso_stays_enabled() {
    // The reply was to leave from the group's address. The kernel refused that, and the socket
    // never sent a GSO batch again. The datagrams go to all nodes, with a hop limit of 0, which
    // keeps them on this host.
    if cfg!(mio_unsupported_force_poll_poll) {
        return eprintln!("skipped: only recvmmsg reports the group");
    }
    use std::net::{Ipv6Addr, SocketAddrV6};

    use crate::common::TURN_TIMEOUT;

    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let Ok(address) = reactor.bind_datagram((Ipv6Addr::UNSPECIFIED, 0), Echo::new()) else {
        return eprintln!("skipped: no IPv6");
    };
    let peer = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    peer.set_write_timeout(Some(TIMEOUT)).unwrap();
    socket2::SockRef::from(&peer).set_multicast_hops_v6(0).unwrap();
    let interfaces = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let is_sent = interfaces.lines().any(|line| {
        // The second field is the interface's index.
        let interface = line
            .split_whitespace()
            .nth(1)
            .and_then(|field| u32::from_str_radix(field, 16).ok())
            .unwrap();
        let all_nodes = SocketAddrV6::new(
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
            address.port(),
            0,
            interface,
        );
        (0..6).all(|_| peer.send_to(b"multicast", all_nodes).is_ok())
    });
    for _ in 0..100 {
        if reactor.stats().datagrams_in < 6 && is_sent {
            reactor.turn(Some(TURN_TIMEOUT)).unwrap();
        }
    }
    if reactor.stats().datagrams_in < 6 {
        return eprintln!("skipped: no multicast over IPv6 here");
    }
    peer.send_to(b"unicast", (Ipv6Addr::LOCALHOST, address.port())).unwrap();
    turn_until(&mut reactor, "a reply", |stats| stats.datagrams_out > 0);
    let mut received = [0; 10];
    let count = peer.recv(&mut received).unwrap();
    assert_eq!(&received[..count], b"unicast");
    let stats = reactor.stats();
    assert_eq!(
        (stats.datagrams_in, stats.datagrams_dropped, stats.datagrams_out, stats.datagrams_unsent),
        (7, 6, 1, 0)
    );
}

// pitfall: 54
#[test]
fn ipv4_multicast_datagram_is_dropped() {
    // Multicast was answered over IPv4, although not over IPv6. A datagram to a group reaches every
    // member, and all of them would reply.
    if cfg!(mio_unsupported_force_poll_poll) {
        return eprintln!("skipped: only recvmmsg reports the group");
    }
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = reactor.bind_datagram("0.0.0.0:0", Echo::new()).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_write_timeout(Some(TIMEOUT)).unwrap();
    socket2::SockRef::from(&peer).set_multicast_if_v4(&std::net::Ipv4Addr::LOCALHOST).unwrap();
    peer.send_to(b"multicast", ("224.0.0.1", address.port())).unwrap();
    while reactor.stats().datagrams_in == 0 {
        reactor.turn(Some(TIMEOUT)).unwrap();
    }
    let stats = reactor.stats();
    assert_eq!((stats.datagrams_in, stats.datagrams_dropped, stats.datagrams_out), (1, 1, 0));
}

// pitfall: 54
#[test]
fn forged_source_does_not_start_a_loop_between_two_own_sockets() {
    // Each socket knew only its own address. The peer's address becomes that of the reactor's
    // second socket before its datagram is read, so to the first socket the second seems to be the
    // sender. Without the check, the two would answer each other for ever.
    for ip in ["127.0.0.1", "0.0.0.0"] {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        let one = reactor.bind_datagram(any_port(), Echo::new()).unwrap();
        let peer = UdpSocket::bind(any_port()).unwrap();
        peer.set_write_timeout(Some(TIMEOUT)).unwrap();
        peer.send_to(b"Is this echoed?", one).unwrap();
        let port = peer.local_addr().unwrap().port();
        drop(peer);
        let other = reactor.bind_datagram((ip, port), Echo::new()).unwrap();
        turn_until(&mut reactor, "the datagram", |stats| stats.datagrams_in > 0);
        let stats = reactor.stats();
        assert_eq!(
            (stats.datagrams_in, stats.datagrams_dropped, stats.datagrams_out),
            (1, 1, 0),
            "{one} and {other}"
        );
    }
}

#[test]
fn datagrams_as_long_as_the_prefix_are_echoed_unchanged() {
    // A reply lists pieces of two buffers, one for prefixes and one for payloads. The second
    // reply's prefix begins in its buffer at the offset at which the first payload ends in the
    // other, and was merged with that payload. So the reply had old bytes of the wrong buffer.
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = reactor.bind_datagram(any_port(), Echo::with_prefix("echo -> ")).unwrap();
    let peer = UdpSocket::bind(any_port()).unwrap();
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    peer.set_write_timeout(Some(TIMEOUT)).unwrap();
    let sent = [b"8 bytes.", b"8 others"];
    sent.iter().for_each(|datagram| assert_eq!(peer.send_to(*datagram, address).unwrap(), 8));
    turn_until(&mut reactor, "the replies", |stats| stats.datagrams_out == 2);
    for datagram in sent {
        let mut received = [0; 100];
        let count = peer.recv(&mut received).unwrap();
        assert_same(&received[..count], &[&b"echo -> "[..], datagram].concat());
    }
}
