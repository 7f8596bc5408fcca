//! What the tests share: the program under a guard, sockets with timeouts, and bytes that can be told apart.
//!
//! Nothing here sleeps. To wait is to read a socket, or to wait for a line or for the end of what the program writes, and
//! every wait gives up after [`PATIENCE`].

// Each test file is a crate of its own and uses a part of this one; a helper of tests may unwrap as tests do, and say why
// there is nothing to do.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stderr)]

mod program;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use mio_reactor::{Limits, Protocol, Reactor, Stats};
use socket2::{Domain, SockRef, Socket, Type};

#[allow(unused_imports)]
pub(crate) use program::{Ending, Program, be_server, reactor};

/// The longest that anything here or any socket waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A TCP connection to `address` that does not wait for ever.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .unwrap_or_else(|error| panic!("connect {address}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The same with a receive buffer of a few KiB, so that it soon holds all that it can hold of what it does not read.
pub(crate) fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    // Before the connection is made: it decides which window is offered.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect_timeout(&address.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Closes `stream` with a reset instead of a FIN.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Makes `call` until no signal interrupts it. A call that waits with a timeout is not restarted by the kernel (signal(7)).
pub(crate) fn persist<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Sends `bytes` until they are all gone, or until nobody has taken any for a moment: then every buffer between us and the
/// program is full, and so is the program. Returns how many went. (Were the moment too short, there would be fewer.)
pub(crate) fn stuff(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(250))).unwrap();
    let mut sent = 0;
    while sent < bytes.len() {
        match persist(|| stream.write(&bytes[sent..])) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("write: {error}"),
        }
    }
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    sent
}

/// A UDP socket on a port of its own that sends to `address`, hears of nobody else, and does not wait for ever.
pub(crate) fn connect_udp(address: SocketAddr) -> UdpSocket {
    let own = SocketAddr::new(address.ip(), 0);
    let socket = UdpSocket::bind(own).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// `count` bytes that are the same on each run, and in which a piece that is lost, doubled or moved shows (xorshift64).
pub(crate) fn pattern(seed: u64, count: usize) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Fails where `received` is not `sent`, and says from where on, rather than print a million bytes.
#[track_caller]
pub(crate) fn assert_same(received: &[u8], sent: &[u8]) {
    let differs_at = received.iter().zip(sent).position(|(one, other)| one != other);
    assert_eq!(
        differs_at,
        None,
        "the first byte that differs (of {} received, {} sent)",
        received.len(),
        sent.len()
    );
    assert_eq!(received.len(), sent.len(), "bytes received, bytes sent");
}

/// One exchange: sends `bytes`, and reads as many back, which must be the same.
#[track_caller]
pub(crate) fn check_echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut reply = vec![0; bytes.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_same(&reply, bytes);
}

/// What is still to come is `bytes`, and then the end.
#[track_caller]
pub(crate) fn check_end(mut stream: TcpStream, bytes: &[u8]) {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_same(&received, bytes);
}

// ---- a reactor in the test's own thread

/// Lets time pass in which the loop takes no turn. Nobody is waited for: it is the lateness that is tested.
pub(crate) fn be_late(how_long: Duration) {
    thread::sleep(how_long);
}

/// The longest that a turn here waits for nothing.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(10);

pub(crate) fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A reactor that serves one protocol, and its address.
pub(crate) fn serve<P: Protocol + 'static>(
    limits: Limits,
    make: impl FnMut(SocketAddr) -> P + 'static,
) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new(limits).unwrap();
    let address = reactor.listen(any_port(), make).unwrap();
    (reactor, address)
}

/// May `count` files be open in this process at once? Where they may not, says so, for the test cannot be made here.
#[cfg(target_os = "linux")]
pub(crate) fn may_open(count: usize) -> bool {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let most = line.split_whitespace().next().unwrap();
    let is_enough = most.parse().map_or(true, |most: usize| most >= count);
    if !is_enough {
        eprintln!("skipped: only {most} files may be open");
    }
    is_enough
}

/// Takes turns until `done`, and returns how many it took.
#[track_caller]
pub(crate) fn turn_until(
    reactor: &mut Reactor,
    what: &str,
    mut done: impl FnMut(&Stats) -> bool,
) -> u64 {
    let give_up = Instant::now() + PATIENCE;
    let turns_before = reactor.stats().turns;
    while !done(reactor.stats()) {
        assert!(Instant::now() < give_up, "in vain: {what}; {:?}", reactor.stats());
        reactor.turn(Some(A_MOMENT)).unwrap();
    }
    reactor.stats().turns - turns_before
}
