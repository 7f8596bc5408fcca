//! Connections over Unix sockets.

use std::cell::RefCell;
use std::io::{IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::thread;

use super::{Directory, MIB, at, connect, serve_echo};
use crate::common::{
    Program, any_port, assert_same, check_echo, check_end, pattern, stuff, turn_until,
};
use mio_reactor::{Advance, Context, Limits, Peer, Protocol, Reactor};
use socket2::{MsgHdr, SockRef};

#[test]
fn every_byte_comes_back_over_a_unix_socket_and_then_the_end() {
    // Sizes around those of the server's read and of the kernel's buffers. The end of our side follows the last byte at once.
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
fn a_peer_that_does_not_read_is_waited_for_and_loses_nothing() {
    // All buffers are full, and then it reads. Room in a Unix socket is told of only when it is three quarters empty again.
    let directory = Directory::new("slow");
    let path = directory.path("socket");
    let _program = serve_echo(&path);
    let mut stream = connect(&path);
    let bytes = pattern(2, 4 * MIB);
    let sent = stuff(&mut stream, &bytes);
    assert!(sent < bytes.len(), "it is held up");
    let mut reply = vec![0; sent];
    stream.read_exact(&mut reply).unwrap();
    assert_same(&reply, &bytes[..sent]);
    check_echo(&mut stream, b"And on it goes.");
}

#[test]
fn two_hundred_who_came_before_anyone_was_served_are_all_served() {
    // One event stands for all of them.
    let directory = Directory::new("crowd");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    let mut streams: Vec<TcpStream> =
        program.while_held(|| (0..200).map(|_| connect(&path)).collect());
    streams.iter_mut().for_each(|stream| check_echo(stream, b"Here I am."));
}

#[test]
fn http_over_a_unix_socket_keeps_its_connection_and_ends_in_order() {
    // A hundred pipelined requests, the last of which closes, and then the client's end.
    let directory = Directory::new("http");
    let path = directory.path("socket");
    let program = Program::start(&["--http", &at(&path), "--access-log"]);
    let mut stream = connect(&path);
    let requests = "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n".repeat(99)
        + "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(requests.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.0 200 OK\r\n").count(), 100, "{answers}");
    assert_eq!(answers.matches("Hello, World!").count(), 99, "{answers}");
    assert!(answers.ends_with("</html>\n"), "{answers}");
    let ending = program.stop();
    assert_eq!(ending.status.code(), Some(0));
    assert_eq!(
        ending.stderr.iter().filter(|line| line.starts_with("unix - - [")).count(),
        100,
        "{:?}",
        ending.stderr
    );
}

/// Sends `bytes` and one of our descriptors along with them (unix(7), SCM_RIGHTS).
#[cfg(target_os = "linux")]
fn send_with_descriptor(stream: &TcpStream, bytes: &[u8], descriptor: &impl AsRawFd) {
    // cmsg(3): the length of the whole, the level, the type, and then the descriptor, filled up to a whole word.
    let length = size_of::<libc::cmsghdr>() + size_of::<i32>();
    let mut control = length.to_ne_bytes().to_vec();
    for number in [libc::SOL_SOCKET, libc::SCM_RIGHTS, descriptor.as_raw_fd()] {
        control.extend(number.to_ne_bytes());
    }
    control.resize(length.next_multiple_of(size_of::<usize>()), 0);
    let pieces = [IoSlice::new(bytes)];
    let message = MsgHdr::new().with_buffers(&pieces).with_control(&control);
    assert_eq!(SockRef::from(stream).sendmsg(&message, 0).unwrap(), bytes.len());
}

#[test]
#[cfg(target_os = "linux")]
fn a_descriptor_that_a_peer_passes_along_hides_nothing_behind_it_and_is_not_kept() {
    // Behind it, the kernel ends a read with more to come, and all of that may have come with one edge: the program is held
    // meanwhile, once before it has accepted, and once after. What is passed along goes nowhere.
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
    let mut stream = program.while_held(|| {
        let mut stream = connect(&path);
        send_three(&mut stream);
        stream
    });
    check(&mut stream);
    let before = program.descriptors();
    for _ in 0..3 {
        program.while_held(|| send_three(&mut stream));
        check(&mut stream);
    }
    assert_eq!(program.descriptors(), before);
}

#[test]
fn a_stop_serves_those_who_stand_at_the_door() {
    let directory = Directory::new("door");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    let streams: Vec<TcpStream> = program.while_held(|| {
        let mut streams: Vec<TcpStream> = (0..100).map(|_| connect(&path)).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(b"first").unwrap());
        program.signal("TERM");
        streams
    });
    streams.into_iter().for_each(|stream| check_end(stream, b"first"));
    assert_eq!(program.wait().status.code(), Some(0));
}

/// Tells who it talks with.
struct Tells(Rc<RefCell<Vec<Peer>>>);

impl Protocol for Tells {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        self.0.borrow_mut().push(cx.peer());
        cx.send(input);
        Advance::consumed(input.len())
    }
}

#[test]
fn one_reactor_serves_both_kinds_of_peers_and_a_protocol_can_tell_them_apart() {
    let directory = Directory::new("both");
    let path = directory.path("socket");
    let peers = Rc::new(RefCell::new(Vec::new()));
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let (of_tcp, of_unix) = (Rc::clone(&peers), Rc::clone(&peers));
    let address = reactor.listen(any_port(), move |_| Tells(Rc::clone(&of_tcp))).unwrap();
    reactor.listen_unix(&path, move || Tells(Rc::clone(&of_unix))).unwrap();
    let (mut over_tcp, mut over_unix) = (crate::common::connect(address), connect(&path));
    for (stream, bytes_out) in [(&mut over_tcp, 5), (&mut over_unix, 10)] {
        stream.write_all(b"hello").unwrap();
        turn_until(&mut reactor, "an answer", |stats| stats.bytes_out == bytes_out);
    }
    let name = over_tcp.local_addr().unwrap();
    assert_eq!(*peers.borrow(), [Peer::Ip(name), Peer::Unix]);
    let told: Vec<String> = peers.borrow().iter().map(Peer::to_string).collect();
    assert_eq!(told, [name.to_string(), "unix".to_string()]);
    assert_eq!((Peer::from(name).address(), Peer::Unix.address()), (Some(name), None));
}
