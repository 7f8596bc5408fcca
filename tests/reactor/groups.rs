//! Multicast and broadcast over loopback, where the kernel can.
//!
//! Each test first sends a datagram between two plain sockets in the same way. If that does not
//! arrive, the machine cannot do it, and the test says so and ends.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use mio_reactor::{Datagram, DatagramOptions, DatagramProtocol, Echo, Limits, Reactor, Replies};
use socket2::SockRef;

use crate::common::{TIMEOUT, turn_until};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ANY: &str = "0.0.0.0:0";
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 1);
const OTHER_GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 2);
/// The loopback interface is the first one, on Linux and elsewhere.
const LOOPBACK_INDEX: u32 = 1;
/// Of this interface only (ff01::/16), and not one that is assigned.
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0x7a, 0x7b);

fn reactor() -> Reactor {
    Reactor::new(Limits::default()).unwrap()
}

fn bind(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

/// Returns whether a datagram from `sender` to `to` arrives at `receiver`.
fn arrives(sender: &UdpSocket, to: SocketAddr, receiver: &UdpSocket) -> bool {
    receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let arrives = sender.send_to(b"probe", to).is_ok() && receiver.recv(&mut [0; 16]).is_ok();
    if !arrives {
        eprintln!("skipped: this machine delivers no datagrams to {to}");
    }
    arrives
}

fn can_multicast() -> bool {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind(ANY));
    let to = SocketAddr::from((GROUP, receiver.local_addr().unwrap().port()));
    receiver.join_multicast_v4(&GROUP, &LOOPBACK).is_ok() && arrives(&sender, to, &receiver)
}

/// Sends `payload` to `to`, runs turns until so many datagrams were processed in all, and returns
/// the reply and its sender.
fn exchange(
    reactor: &mut Reactor,
    peer: &UdpSocket,
    to: SocketAddr,
    payload: &[u8],
    processed: u64,
) -> (Vec<u8>, SocketAddr) {
    peer.send_to(payload, to).unwrap();
    turn_until(reactor, "the datagram is processed", |stats| stats.datagrams_in >= processed);
    let mut reply = [0; 64];
    let (length, from) = peer.recv_from(&mut reply).unwrap();
    (reply[..length].to_vec(), from)
}

// pitfall: 183
#[test]
fn datagram_to_a_joined_group_is_answered_from_a_unicast_address() {
    if !can_multicast() {
        return;
    }
    let mut reactor = reactor();
    let options = DatagramOptions::default().with_group_v4(GROUP, LOOPBACK);
    let port = reactor.bind_datagram_with(ANY, &options, Echo::new()).unwrap().port();
    let peer = bind("127.0.0.1:0");
    let (reply, from) = exchange(&mut reactor, &peer, (GROUP, port).into(), b"hello", 1);
    assert_eq!((&reply[..], from), (&b"hello"[..], (LOOPBACK, port).into()));
    // Unicast is served as ever.
    let (reply, _) = exchange(&mut reactor, &peer, (LOOPBACK, port).into(), b"you", 2);
    assert_eq!(reply, b"you");
}

#[test]
fn datagram_to_a_joined_ipv6_group_is_answered() {
    let sender = UdpSocket::bind("[::1]:0");
    let receiver = UdpSocket::bind("[::]:0");
    let (Ok(sender), Ok(receiver)) = (sender, receiver) else { return };
    let to = |port| SocketAddr::from(SocketAddrV6::new(GROUP_V6, port, 0, LOOPBACK_INDEX));
    if receiver.join_multicast_v6(&GROUP_V6, LOOPBACK_INDEX).is_err()
        || !arrives(&sender, to(receiver.local_addr().unwrap().port()), &receiver)
    {
        return;
    }
    sender.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut reactor = reactor();
    let options = DatagramOptions::default().with_group_v6(GROUP_V6, LOOPBACK_INDEX);
    let port = reactor.bind_datagram_with("[::]:0", &options, Echo::new()).unwrap().port();
    let (reply, from) = exchange(&mut reactor, &sender, to(port), b"hello", 1);
    assert_eq!((&reply[..], from.ip()), (&b"hello"[..], Ipv6Addr::LOCALHOST.into()));
}

/// The options of the socket that joined do not say so here: the standard library did it. Where
/// `recvmmsg` is not used, nothing reports to which address a datagram was sent.
// pitfall: 183
#[test]
#[cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
fn datagram_to_a_group_is_dropped_by_a_socket_that_answers_none() {
    if !can_multicast() {
        return;
    }
    let mut reactor = reactor();
    let socket = bind(ANY);
    socket.join_multicast_v4(&GROUP, &LOOPBACK).unwrap();
    let port = reactor.add_datagram(socket, Echo::new()).unwrap().port();
    let peer = bind("127.0.0.1:0");
    peer.send_to(b"to all", (GROUP, port)).unwrap();
    let (reply, from) = exchange(&mut reactor, &peer, (LOOPBACK, port).into(), b"to you", 2);
    let stats = reactor.stats();
    assert_eq!((&reply[..], from), (&b"to you"[..], (LOOPBACK, port).into()), "{stats:?}");
    assert_eq!(stats.datagrams_dropped, 1);
}

/// Two sockets share the port, and each has joined a group of its own.
// pitfall: 183
#[test]
#[cfg(target_os = "linux")]
fn group_that_another_socket_has_joined_is_not_received() {
    if !can_multicast() {
        return;
    }
    let (mut first, mut second) = (reactor(), reactor());
    let options =
        |group| DatagramOptions::default().with_group_v4(group, LOOPBACK).with_reuse_address(true);
    let port = first.bind_datagram_with(ANY, &options(GROUP), Echo::new()).unwrap().port();
    let address = format!("0.0.0.0:{port}");
    second.bind_datagram_with(address, &options(OTHER_GROUP), Echo::with_prefix("2: ")).unwrap();
    let peer = bind("127.0.0.1:0");
    peer.send_to(b"for the first", (GROUP, port)).unwrap();
    let (reply, _) = exchange(&mut second, &peer, (OTHER_GROUP, port).into(), b"b", 1);
    assert_eq!((&reply[..], second.stats().datagrams_in), (&b"2: b"[..], 1));
    turn_until(&mut first, "its datagram is processed", |stats| stats.datagrams_in == 1);
}

#[test]
fn group_is_left_by_a_clone_of_the_socket() {
    if !can_multicast() {
        return;
    }
    let mut reactor = reactor();
    let socket = bind(ANY);
    let clone = socket.try_clone().unwrap();
    let options = DatagramOptions::default().with_group_v4(GROUP, LOOPBACK);
    let port = reactor.add_datagram_with(socket, &options, Echo::new()).unwrap().port();
    let peer = bind("127.0.0.1:0");
    exchange(&mut reactor, &peer, (GROUP, port).into(), b"a", 1);
    clone.leave_multicast_v4(&GROUP, &LOOPBACK).unwrap();
    peer.send_to(b"to a group without members", (GROUP, port)).unwrap();
    let (reply, _) = exchange(&mut reactor, &peer, (LOOPBACK, port).into(), b"b", 2);
    assert_eq!((&reply[..], reactor.stats().datagrams_in), (&b"b"[..], 2));
}

#[test]
fn hops_loopback_and_broadcast_are_set_on_the_socket() {
    let mut reactor = reactor();
    let options = DatagramOptions::default()
        .with_multicast_hops(7)
        .with_multicast_loopback(false)
        .with_broadcast(true);
    let socket = bind(ANY);
    let clone = socket.try_clone().unwrap();
    reactor.add_datagram_with(socket, &options, Echo::new()).unwrap();
    assert_eq!(clone.multicast_ttl_v4().unwrap(), 7);
    assert!(!clone.multicast_loop_v4().unwrap() && clone.broadcast().unwrap());
    let Ok(socket) = UdpSocket::bind("[::1]:0") else { return };
    let clone = socket.try_clone().unwrap();
    reactor.add_datagram_with(socket, &options, Echo::new()).unwrap();
    assert_eq!(SockRef::from(&clone).multicast_hops_v6().unwrap(), 7);
    assert!(!clone.multicast_loop_v6().unwrap());
}

#[test]
fn group_that_cannot_be_joined_is_an_error() {
    let mut reactor = reactor();
    let unicast = DatagramOptions::default().with_group_v4(Ipv4Addr::new(192, 0, 2, 1), LOOPBACK);
    let other_version = DatagramOptions::default().with_group_v6(GROUP_V6, 0);
    for options in [unicast, other_version] {
        let error = reactor.bind_datagram_with("127.0.0.1:0", &options, Echo::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    }
}

/// Sends one datagram to a broadcast address.
struct Announcer(SocketAddr);

impl DatagramProtocol for Announcer {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        replies.send_to(self.0, b"I am here");
    }

    fn received(&mut self, _: &Datagram<'_>, _: &mut Replies<'_>) {}
}

#[test]
fn broadcast_is_sent_only_if_the_options_permit_it() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind(ANY));
    sender.set_broadcast(true).unwrap();
    let port = receiver.local_addr().unwrap().port();
    let to = SocketAddr::from(([127, 255, 255, 255], port));
    if !arrives(&sender, to, &receiver) {
        return;
    }
    let mut reactor = reactor();
    reactor.bind_datagram("127.0.0.1:0", Announcer(to)).unwrap();
    turn_until(&mut reactor, "it is refused", |stats| stats.datagrams_unsent == 1);
    let options = DatagramOptions::default().with_broadcast(true);
    reactor.bind_datagram_with("127.0.0.1:0", &options, Announcer(to)).unwrap();
    turn_until(&mut reactor, "it is sent", |stats| stats.datagrams_out == 1);
    let mut announcement = [0; 16];
    let length = receiver.recv(&mut announcement).unwrap();
    assert_eq!(&announcement[..length], b"I am here");
}
