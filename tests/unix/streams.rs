//! Connections over Unix sockets: echo, HTTP, passed descriptors and the stop.

use std::cell::RefCell;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;

use mio_reactor::{Advance, ConnectionId, Context, Echo, Limits, Next, Peer, Protocol, Reactor};
use socket2::{Domain, MsgHdr, SockRef, Socket, Type};

use super::{Directory, MIB, at, connect, serve_echo};
use crate::common::{
    Program, TIMEOUT, any_port, assert_same, check_echo, check_end, fill_buffers, pattern,
    turn_until,
};

#[test]
fn echo_over_a_unix_socket_returns_every_byte_and_then_eof() {
    // Sizes around those of the server's read and of the kernel's buffers. The FIN follows the last
    // byte at once.
    let directory = Directory::new("echo");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    for size in [0, 1, 4096, 65_536, 69_632, 69_633, 212_992, 8 * MIB] {
        let bytes = pattern(1, size);
        let stream = connect(&path);
        let mut writer = stream.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&bytes).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            check_end(stream, &bytes);
        });
    }
    let mut stream = connect(&path);
    (0..100).for_each(|round| check_echo(&mut stream, &pattern(round, 1000)));
    assert_eq!(program.stop().status.code(), Some(0));
}

#[test]
fn slow_reader_on_a_unix_socket_loses_no_byte() {
    // All buffers are full before the peer reads. The kernel reports a Unix socket as writable only
    // when it is three quarters empty again.
    let directory = Directory::new("slow");
    let path = directory.path("socket");
    let _program = serve_echo(&path);
    let mut stream = connect(&path);
    let bytes = pattern(2, 4 * MIB);
    let sent = fill_buffers(&mut stream, &bytes);
    assert!(sent < bytes.len(), "the buffers are full");
    let mut reply = vec![0; sent];
    stream.read_exact(&mut reply).unwrap();
    assert_same(&reply, &bytes[..sent]);
    check_echo(&mut stream, b"hello");
}

#[test]
fn connections_reported_by_one_event_are_all_accepted() {
    // One event reports all of them.
    let directory = Directory::new("burst");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    let mut streams: Vec<TcpStream> =
        program.while_suspended(|| (0..200).map(|_| connect(&path)).collect());
    streams.iter_mut().for_each(|stream| check_echo(stream, b"hello"));
}

#[test]
fn http_over_a_unix_socket_keeps_alive_and_closes_in_order() {
    // A hundred pipelined requests, the last with `Connection: close`, and then the client's FIN.
    let directory = Directory::new("http");
    let path = directory.path("socket");
    let program = Program::start(&["--http", &at(&path), "--access-log"]);
    let mut stream = connect(&path);
    let requests = "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n".repeat(99)
        + "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(requests.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut responses = String::new();
    stream.read_to_string(&mut responses).unwrap();
    assert_eq!(responses.matches("HTTP/1.0 200 OK\r\n").count(), 100, "{responses}");
    assert_eq!(responses.matches("Hello, World!").count(), 99, "{responses}");
    assert!(responses.ends_with("</html>\n"), "{responses}");
    let ending = program.stop();
    assert_eq!(ending.status.code(), Some(0));
    assert_eq!(
        ending.stderr.iter().filter(|line| line.starts_with("unix - - [")).count(),
        100,
        "{:?}",
        ending.stderr
    );
}

/// Sends `bytes` and a descriptor with them (SCM_RIGHTS, unix(7)).
#[cfg(target_os = "linux")]
fn send_with_descriptor(stream: &TcpStream, bytes: &[u8], descriptor: &impl AsRawFd) {
    // cmsg(3): the total length, the level, the type, then the descriptor, padded to a whole word.
    let length = size_of::<libc::cmsghdr>() + size_of::<i32>();
    let mut control = length.to_ne_bytes().to_vec();
    for number in [libc::SOL_SOCKET, libc::SCM_RIGHTS, descriptor.as_raw_fd()] {
        control.extend(number.to_ne_bytes());
    }
    control.resize(length.next_multiple_of(size_of::<usize>()), 0);
    let buffers = [IoSlice::new(bytes)];
    let message = MsgHdr::new().with_buffers(&buffers).with_control(&control);
    assert_eq!(SockRef::from(stream).sendmsg(&message, 0).unwrap(), bytes.len());
}

// pitfall: 91
#[test]
#[cfg(target_os = "linux")]
fn passed_descriptor_hides_no_input_and_is_not_kept() {
    // The kernel ends a read at a passed descriptor, although more input follows, and may report
    // all of it with one edge. The program is suspended meanwhile, first before it has accepted the
    // connection, then after. The descriptor itself is not received.
    let directory = Directory::new("passed");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    let send_three = |stream: &mut TcpStream| {
        for _ in 0..2 {
            send_with_descriptor(stream, b"one, ", stream);
        }
        stream.write_all(b"two").unwrap();
    };
    let check = |stream: &mut TcpStream| {
        let mut reply = [0; 13];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"one, one, two");
    };
    let mut stream = program.while_suspended(|| {
        let mut stream = connect(&path);
        send_three(&mut stream);
        stream
    });
    check(&mut stream);
    let before = program.descriptors();
    for _ in 0..3 {
        program.while_suspended(|| send_three(&mut stream));
        check(&mut stream);
    }
    assert_eq!(program.descriptors(), before);
}

/// Pauses at its first byte and at the peer's FIN, and records what else it receives.
struct PausesFirst(Rc<RefCell<(Option<ConnectionId>, Vec<u8>)>>);

impl Protocol for PausesFirst {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let mut seen = self.0.borrow_mut();
        if seen.0.replace(cx.id()).is_none() {
            return Advance::consumed(1).then(Next::Pause);
        }
        seen.1.extend(input);
        Advance::consumed(input.len())
    }

    fn eof(&mut self, _: &[u8], _: &mut Context<'_>) -> Next {
        Next::Pause
    }
}

// pitfall: 141
#[test]
fn unix_peer_that_has_closed_is_noticed_once_its_bytes_are_read() {
    // The connection is paused when its peer writes and closes. The event is processed, and what
    // was written stays. The end follows the last byte at once.
    for written in [&b"the rest"[..], b""] {
        let directory = Directory::new("gone");
        let path = directory.path("socket");
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        let seen = Rc::default();
        let shared = Rc::clone(&seen);
        reactor.listen_unix(&path, move || PausesFirst(Rc::clone(&shared))).unwrap();
        let mut peer = connect(&path);
        peer.write_all(b"p").unwrap();
        turn_until(&mut reactor, "it is paused", |_| seen.borrow().0.is_some());
        peer.write_all(written).unwrap();
        drop(peer);
        if !written.is_empty() {
            reactor.turn(None).unwrap();
            assert_eq!((reactor.stats().connections, seen.borrow().1.len()), (1, 0));
            reactor.connections().resume(seen.borrow().0.unwrap());
        }
        turn_until(&mut reactor, "its peer is gone", |stats| stats.connections == 0);
        assert_eq!(seen.borrow().1, written);
    }
}

#[test]
fn stop_serves_unix_connections_waiting_in_the_backlog() {
    let directory = Directory::new("backlog");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    let streams: Vec<TcpStream> = program.while_suspended(|| {
        let mut streams: Vec<TcpStream> = (0..100).map(|_| connect(&path)).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(b"first").unwrap());
        program.signal("TERM");
        streams
    });
    streams.into_iter().for_each(|stream| check_end(stream, b"first"));
    assert_eq!(program.wait().status.code(), Some(0));
}

/// Echoes, and records the peer of each call.
struct PeerRecorder(Rc<RefCell<Vec<Peer>>>);

impl Protocol for PeerRecorder {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        self.0.borrow_mut().push(cx.peer());
        cx.send(input);
        Advance::consumed(input.len())
    }
}

#[test]
fn protocol_can_tell_unix_peers_from_tcp_peers() {
    let directory = Directory::new("both");
    let path = directory.path("socket");
    let peers = Rc::new(RefCell::new(Vec::new()));
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let (of_tcp, of_unix) = (Rc::clone(&peers), Rc::clone(&peers));
    let tcp = reactor.listen(any_port(), move |_| PeerRecorder(Rc::clone(&of_tcp))).unwrap();
    reactor.listen_unix(&path, move || PeerRecorder(Rc::clone(&of_unix))).unwrap();
    let (mut over_tcp, mut over_unix) = (crate::common::connect(tcp), connect(&path));
    for (stream, bytes_out) in [(&mut over_tcp, 5), (&mut over_unix, 10)] {
        stream.write_all(b"hello").unwrap();
        turn_until(&mut reactor, "a reply", |stats| stats.bytes_out == bytes_out);
    }
    let address = over_tcp.local_addr().unwrap();
    assert_eq!(*peers.borrow(), [Peer::Ip(address), Peer::Unix]);
    let displayed: Vec<String> = peers.borrow().iter().map(Peer::to_string).collect();
    assert_eq!(displayed, [address.to_string(), "unix".to_string()]);
    assert_eq!((Peer::from(address).address(), Peer::Unix.address()), (Some(address), None));
}

#[test]
fn connected_unix_stream_that_is_handed_in_is_served_like_an_accepted_one() {
    let (stream, mut peer) = UnixStream::pair().unwrap();
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    reactor.add_unix_stream(stream, Echo::new()).unwrap();
    peer.write_all(b"hello").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, "the end of the connection", |stats| stats.connections == 0);
    let mut reply = String::new();
    peer.read_to_string(&mut reply).unwrap();
    assert_eq!((reply.as_str(), reactor.stats().connected), ("hello", 1));
    let unconnected = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let error = reactor.add_unix_stream(OwnedFd::from(unconnected).into(), Echo::new());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotConnected);
}
