//! Datagrams.

use super::*;

#[test]
fn the_largest_datagram_over_ipv6_is_answered() {
    // Replies were bounded by what IPv4 can carry: over IPv6, one of 65,508 to 65,527 bytes was dropped as too long.
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = match reactor.bind_datagram("[::1]:0".parse().unwrap(), Echo::new()) {
        Ok(address) => address,
        Err(error) => return eprintln!("skipped: no IPv6: {error}"),
    };
    let peer = connect_udp(address);
    let sent = pattern(1, 65_527);
    peer.send(&sent).unwrap();
    turn_until(&mut reactor, "an answer", |stats| stats.datagrams_out == 1);
    let mut received = vec![0; 70_000];
    let count = peer.recv(&mut received).unwrap();
    assert_same(&received[..count], &sent);
}

#[test]
#[cfg(target_os = "linux")]
fn a_datagram_to_many_is_not_answered_and_spoils_nothing() {
    // The answer was to leave from the group's address; the kernel refused, and we never sent a train again.
    // Over IPv6, to all nodes; with a hop limit of 0, which keeps it on this host.
    use std::net::{Ipv6Addr, SocketAddrV6};

    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let Ok(address) = reactor.bind_datagram((Ipv6Addr::UNSPECIFIED, 0).into(), Echo::new()) else {
        return eprintln!("skipped: no IPv6");
    };
    let peer = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    socket2::SockRef::from(&peer).set_multicast_hops_v6(0).unwrap();
    // The second field is the number of an interface.
    let interfaces = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let many_are_asked = interfaces.lines().any(|line| {
        let interface = line
            .split_whitespace()
            .nth(1)
            .and_then(|field| u32::from_str_radix(field, 16).ok())
            .unwrap();
        let many = SocketAddrV6::new(
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
            address.port(),
            0,
            interface,
        );
        (0..6).all(|_| peer.send_to(b"many", many).is_ok())
    });
    for _ in 0..100 {
        if reactor.stats().datagrams_in < 6 && many_are_asked {
            reactor.turn(Some(A_MOMENT)).unwrap();
        }
    }
    if reactor.stats().datagrams_in < 6 {
        return eprintln!("skipped: no multicast over IPv6 here");
    }
    peer.send_to(b"one", (Ipv6Addr::LOCALHOST, address.port())).unwrap();
    turn_until(&mut reactor, "an answer", |stats| stats.datagrams_out > 0);
    let mut received = [0; 10];
    let count = peer.recv(&mut received).unwrap();
    assert_eq!(&received[..count], b"one");
    let stats = reactor.stats();
    assert_eq!(
        (stats.datagrams_in, stats.datagrams_dropped, stats.datagrams_out, stats.datagrams_unsent),
        (7, 6, 1, 0)
    );
}

#[test]
fn a_datagram_to_many_over_ipv4_is_not_answered() {
    // The story: it was answered over IPv4, although not over IPv6. A question to a group reaches all who listen there.
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = reactor.bind_datagram(([0, 0, 0, 0], 0).into(), Echo::new()).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    socket2::SockRef::from(&peer).set_multicast_if_v4(&std::net::Ipv4Addr::LOCALHOST).unwrap();
    peer.send_to(b"many", ("224.0.0.1", address.port())).unwrap();
    while reactor.stats().datagrams_in == 0 {
        reactor.turn(Some(PATIENCE)).unwrap();
    }
    let stats = reactor.stats();
    assert_eq!((stats.datagrams_in, stats.datagrams_dropped, stats.datagrams_out), (1, 1, 0));
}

#[test]
fn a_forged_datagram_does_not_set_two_sockets_of_one_reactor_talking() {
    // The story: each knew its own address alone. The first asker's address becomes that of the reactor's second socket before
    // its question is read; to the first socket, it looks as if the second had asked.
    for ip in [[127, 0, 0, 1], [0, 0, 0, 0]] {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        let one = reactor.bind_datagram(any_port(), Echo::new()).unwrap();
        let asker = UdpSocket::bind(any_port()).unwrap();
        asker.set_write_timeout(Some(PATIENCE)).unwrap();
        asker.send_to(b"Is anybody there?", one).unwrap();
        let port = asker.local_addr().unwrap().port();
        drop(asker);
        let other = reactor.bind_datagram((ip, port).into(), Echo::new()).unwrap();
        turn_until(&mut reactor, "the question", |stats| stats.datagrams_in > 0);
        let stats = reactor.stats();
        assert_eq!(
            (stats.datagrams_in, stats.datagrams_dropped, stats.datagrams_out),
            (1, 1, 0),
            "{one} and {other}"
        );
    }
}

#[test]
fn two_datagrams_as_long_as_the_prefix_come_back_as_they_were_sent() {
    // The story: the second's prefix was to be found in one place of memory, at the same offset at which the first's bytes ended
    // in another. It was taken for what follows them there, and the reply had somebody's old bytes instead.
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = reactor.bind_datagram(any_port(), Echo::with_prefix("echo -> ")).unwrap();
    let peer = UdpSocket::bind(any_port()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    let sent = [b"8 bytes.", b"8 others"];
    sent.iter().for_each(|datagram| assert_eq!(peer.send_to(*datagram, address).unwrap(), 8));
    turn_until(&mut reactor, "the replies", |stats| stats.datagrams_out == 2);
    for datagram in sent {
        let mut received = [0; 100];
        let count = peer.recv(&mut received).unwrap();
        assert_same(&received[..count], &[&b"echo -> "[..], datagram].concat());
    }
}
