//! Listeners with options, sockets that were opened elsewhere, addresses, and stop signals.

use std::cell::Cell;
use std::fs::File;
use std::io::{ErrorKind, Read, Write, pipe};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::time::Duration;

use mio_reactor::{
    Advance, CloseReason, Context, Echo, Limits, ListenOptions, Next, Protocol, Reactor,
    SendStatus, Stopped, Timeout,
};

use crate::common::{TIMEOUT, any_port, check_end, connect, turn_until};
use crate::{byte_commands, exchange, turn_until_stopped};

fn reactor() -> Reactor {
    Reactor::new(Limits::default()).unwrap()
}

/// Reports its local address when it opens, and echoes.
struct LocalAddress(Rc<Cell<Option<SocketAddr>>>);

impl Protocol for LocalAddress {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.0.set(cx.local_address());
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(input);
        Advance::consumed(input.len())
    }
}

// ---- options

#[test]
fn idle_timeout_of_a_listener_closes_its_connections_alone() {
    let mut reactor = reactor();
    let (make, close_log) = byte_commands();
    let options = ListenOptions::default().with_idle_timeout(Duration::from_millis(50));
    let short = reactor.listen_with(any_port(), &options, make).unwrap();
    let long = reactor.listen(any_port(), |_| Echo::new()).unwrap();
    let (mut first, mut second) = (connect(short), connect(long));
    exchange(&mut reactor, &mut first, b"x");
    exchange(&mut reactor, &mut second, b"x");
    turn_until(&mut reactor, "one closes", |stats| stats.closed == 1);
    check_end(first, b"");
    assert_eq!(*close_log.borrow(), [(0, CloseReason::IdleTimeout)]);
    exchange(&mut reactor, &mut second, b"y");
}

#[test]
fn connections_without_an_idle_timeout_outlast_that_of_the_reactor() {
    let limits = Limits::default().with_idle_timeout(Duration::from_millis(20));
    let mut reactor = Reactor::new(limits).unwrap();
    let options = ListenOptions::default().with_idle_timeout(Timeout::Never);
    let endless = reactor.listen_with(any_port(), &options, |_| Echo::new()).unwrap();
    let short = reactor.listen(any_port(), |_| Echo::new()).unwrap();
    let mut stays = connect(endless);
    exchange(&mut reactor, &mut stays, b"x");
    for count in 1..=3 {
        let mut closes = connect(short);
        exchange(&mut reactor, &mut closes, b"x");
        turn_until(&mut reactor, "the other closes", |stats| stats.closed == count);
    }
    exchange(&mut reactor, &mut stays, b"y");
}

#[test]
fn listener_at_its_own_bound_pauses_while_others_accept() {
    let mut reactor = reactor();
    let options = ListenOptions::default().with_connections_max(1);
    let bounded = reactor.listen_with(any_port(), &options, |_| Echo::new()).unwrap();
    let other = reactor.listen(any_port(), |_| Echo::new()).unwrap();
    let mut first = connect(bounded);
    exchange(&mut reactor, &mut first, b"x");
    let mut waiting = connect(bounded);
    waiting.write_all(b"w").unwrap();
    turn_until(&mut reactor, "a pause", |stats| stats.accept_pauses > 0);
    exchange(&mut reactor, &mut connect(other), b"x");
    assert_eq!(reactor.stats().accepted, 2);
    drop(first);
    turn_until(&mut reactor, "the third echo", |stats| stats.bytes_out == 3);
    let mut echo = [0];
    waiting.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"w");
}

#[test]
fn bound_of_zero_admits_one_connection() {
    let mut reactor = reactor();
    let options = ListenOptions::default().with_connections_max(0).with_backlog(0);
    let address = reactor.listen_with(any_port(), &options, |_| Echo::new()).unwrap();
    exchange(&mut reactor, &mut connect(address), b"x");
}

#[test]
fn dual_stack_listener_accepts_both_families_and_the_default_only_ipv6() {
    let mut reactor = reactor();
    let any = (Ipv6Addr::UNSPECIFIED, 0);
    let local = Rc::new(Cell::new(None));
    let shared = Rc::clone(&local);
    let options = ListenOptions::default().with_ipv6_only(false);
    let make = move |_| LocalAddress(Rc::clone(&shared));
    let Ok(address) = reactor.listen_with(any, &options, make) else {
        return; // no IPv6 here
    };
    exchange(&mut reactor, &mut connect((Ipv4Addr::LOCALHOST, address.port()).into()), b"x");
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    assert_eq!(local.get(), Some((mapped, address.port()).into()));
    exchange(&mut reactor, &mut connect((Ipv6Addr::LOCALHOST, address.port()).into()), b"x");

    let ipv6_only = reactor.listen(any, |_| Echo::new()).unwrap();
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, ipv6_only.port()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

// ---- addresses

#[test]
fn first_address_that_can_be_bound_is_used() {
    let taken = TcpListener::bind(any_port()).unwrap();
    let addresses = [taken.local_addr().unwrap(), any_port()];
    let mut reactor = reactor();
    let bound = reactor.listen(&addresses[..], |_| Echo::new()).unwrap();
    assert_ne!(bound, addresses[0]);
    exchange(&mut reactor, &mut connect(bound), b"x");
    let all_taken = reactor.listen(&addresses[..1], |_| Echo::new());
    assert_eq!(all_taken.unwrap_err().kind(), ErrorKind::AddrInUse);
    let none = reactor.listen(&[][..], |_| Echo::new());
    assert_eq!(none.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(
        reactor.bind_datagram("127.0.0.1", Echo::new()).unwrap_err().kind(),
        ErrorKind::InvalidInput,
        "no port"
    );
}

#[test]
fn connection_behind_a_wildcard_listener_knows_its_local_address() {
    let mut reactor = reactor();
    let local = Rc::new(Cell::new(None));
    let shared = Rc::clone(&local);
    let make = move |_| LocalAddress(Rc::clone(&shared));
    let address = reactor.listen("0.0.0.0:0", make).unwrap();
    let reached = SocketAddr::from(([127, 0, 0, 1], address.port()));
    exchange(&mut reactor, &mut connect(reached), b"x");
    assert_eq!(local.get(), Some(reached));
}

// ---- sockets that were opened elsewhere

#[test]
fn listener_opened_elsewhere_is_served_with_its_backlog() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let mut early = connect(listener.local_addr().unwrap());
    let mut reactor = reactor();
    let (make, close_log) = byte_commands();
    let options = ListenOptions::default().with_idle_timeout(Duration::from_millis(50));
    reactor.add_listener(listener, &options, make).unwrap();
    exchange(&mut reactor, &mut early, b"x");
    turn_until(&mut reactor, "the idle timeout", |stats| stats.closed == 1);
    assert_eq!(*close_log.borrow(), [(0, CloseReason::IdleTimeout)]);
}

#[test]
fn unix_listener_opened_elsewhere_keeps_its_file() {
    let path = std::env::temp_dir().join(format!("reactor-adopted-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let local = Rc::new(Cell::new(Some(any_port())));
    let shared = Rc::clone(&local);
    let make = move || LocalAddress(Rc::clone(&shared));
    let mut reactor = reactor();
    reactor.add_unix_listener(listener, &ListenOptions::default(), make).unwrap();
    let mut peer = UnixStream::connect(&path).unwrap();
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    peer.write_all(b"x").unwrap();
    turn_until(&mut reactor, "the echo", |stats| stats.bytes_out == 1);
    peer.read_exact(&mut [0]).unwrap();
    assert_eq!(local.get(), None, "a Unix socket has no IP address");
    drop(reactor);
    std::fs::remove_file(&path).expect("the file is still there");
}

#[test]
fn stream_opened_elsewhere_is_served_from_the_next_turn_on() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let mut peer = connect(listener.local_addr().unwrap());
    let (stream, _) = listener.accept().unwrap();
    let mut reactor = Reactor::new(Limits::default().with_connections_max(1)).unwrap();
    let local = Rc::new(Cell::new(None));
    let id = reactor.add_stream(stream, LocalAddress(Rc::clone(&local))).unwrap();
    assert_eq!((local.get(), reactor.stats().connections), (None, 1), "not called yet");
    assert_eq!(reactor.send_to(id, b"first "), Ok(SendStatus::Accepted));
    exchange_after(&mut reactor, &mut peer, b"first ", b"x");
    assert_eq!(local.get(), Some(listener.local_addr().unwrap()));

    let full = reactor.add_stream(connect(listener.local_addr().unwrap()), Echo::new());
    assert_eq!(full.unwrap_err().kind(), ErrorKind::QuotaExceeded);
    drop(peer);
    turn_until(&mut reactor, "the end", |stats| stats.closed == 1);
}

/// Sends `bytes`, and expects `before` and then the echo.
fn exchange_after(reactor: &mut Reactor, peer: &mut TcpStream, before: &[u8], bytes: &[u8]) {
    peer.write_all(bytes).unwrap();
    let expected = [before, bytes].concat();
    turn_until(reactor, "the echo", |stats| stats.bytes_out == expected.len() as u64);
    let mut received = vec![0; expected.len()];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(received, expected);
}

#[test]
fn datagram_socket_opened_elsewhere_answers() {
    let socket = UdpSocket::bind(any_port()).unwrap();
    let mut reactor = reactor();
    let address = reactor.add_datagram(socket, Echo::new()).unwrap();
    let peer = UdpSocket::bind(any_port()).unwrap();
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    peer.send_to(b"hello", address).unwrap();
    turn_until(&mut reactor, "the reply", |stats| stats.datagrams_out == 1);
    let mut received = [0; 8];
    assert_eq!(peer.recv_from(&mut received).unwrap(), (5, address));
}

#[test]
fn dual_stack_datagram_socket_opened_elsewhere_is_refused() {
    let Ok(socket) = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) else {
        return; // no IPv6 here
    };
    let error = reactor().add_datagram(socket, Echo::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

// ---- stop signals

#[test]
fn pipe_stops_the_reactor_when_readable_and_when_closed() {
    for closes in [false, true] {
        let (read_end, mut write_end) = pipe().unwrap();
        let mut reactor = reactor();
        reactor.stop_on(read_end.into()).unwrap();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert!(!reactor.is_stopped());
        if closes {
            drop(write_end);
        } else {
            write_end.write_all(b"x").unwrap();
        }
        turn_until_stopped(&mut reactor);
        assert_eq!(reactor.run().unwrap(), Stopped::Graceful);
    }
}

#[test]
fn stop_signal_calls_once_before_the_stop_even_if_that_panics() {
    for panics in [false, true] {
        let (read_end, write_end) = pipe().unwrap();
        let calls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&calls);
        let mut reactor = reactor();
        let on_signal = move || {
            counted.set(counted.get() + 1);
            assert!(!panics, "a panic for the test");
        };
        reactor.stop_on_with(read_end.into(), on_signal).unwrap();
        reactor.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(calls.get(), 0);
        drop(write_end);
        turn_until_stopped(&mut reactor);
        assert_eq!(reactor.run().unwrap(), Stopped::Graceful);
        assert_eq!((calls.get(), reactor.stats().panics), (1, u64::from(panics)));
    }
}

#[test]
fn file_on_disk_is_refused_as_a_stop_signal() {
    if cfg!(mio_unsupported_force_poll_poll) {
        return; // poll(2) takes a file for readable
    }
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    let error = reactor().stop_on(file.into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}
