//! Shared by all tests: the program under a guard, sockets with timeouts, and recognisable bytes.
//!
//! Nothing here sleeps to synchronise. To wait is to read a socket, or to wait for a line or for
//! the end of what the program writes. Every wait fails after [`TIMEOUT`].

// Each test file is a crate of its own and uses a part of this one. Helpers may unwrap as tests do,
// and print why a test is skipped.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stderr)]

#[cfg(feature = "cli")]
mod program;
mod refusals;

use std::env;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mio_reactor::{
    Datagram, DatagramProtocol, Layer, Layered, Limits, Protocol, Reactor, Replies, Stats,
};
use socket2::{Domain, SockRef, Socket, Type};

#[cfg(feature = "cli")]
#[allow(unused_imports)]
pub(crate) use program::{
    Ending, Program, be_server, ignores, reactor, reactor_in_shell, reactor_through,
};

#[allow(unused_imports)]
pub(crate) use refusals::stay_where_refusals_arrive;

/// The timeout of every socket and of every wait.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

// ---- sockets

/// Connects over TCP to `address`, with timeouts.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .unwrap_or_else(|error| panic!("connect {address}: {error}"));
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Connects with a receive buffer of a few KiB, which is soon full if the test does not read.
pub(crate) fn connect_narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    // Set before connecting: it decides which window is offered.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect_timeout(&address.into(), TIMEOUT).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Closes `stream` with a reset instead of a FIN.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Repeats `call` while it fails with EINTR: the kernel does not restart a call with a timeout
/// (signal(7)).
pub(crate) fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Sends `bytes` until all are sent, or until none is accepted for 250 ms: then every buffer
/// between the test and the program is full, and so are the program's own. Returns how many were
/// sent. (With a shorter time, there would be fewer.)
pub(crate) fn fill_buffers(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(250))).unwrap();
    let mut sent = 0;
    while sent < bytes.len() {
        match retry_interrupted(|| stream.write(&bytes[sent..])) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("write: {error}"),
        }
    }
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    sent
}

/// Opens a UDP socket, connected to `address`: it receives from there only, and has timeouts.
pub(crate) fn connect_udp(address: SocketAddr) -> UdpSocket {
    let own = SocketAddr::new(address.ip(), 0);
    let socket = UdpSocket::bind(own).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket.set_write_timeout(Some(TIMEOUT)).unwrap();
    socket
}

// ---- bytes

/// Returns `count` bytes that are the same on each run. A part that is lost, duplicated or moved
/// shows (xorshift64).
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

/// Checks that `received` equals `sent`. A failure names the first byte that differs, and does not
/// print megabytes.
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

/// Sends `bytes`, reads as many back, and checks that they are the same.
#[track_caller]
pub(crate) fn check_echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut reply = vec![0; bytes.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_same(&reply, bytes);
}

/// Reads until end of file, and checks that exactly `bytes` came before it.
#[track_caller]
pub(crate) fn check_end(mut stream: TcpStream, bytes: &[u8]) {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_same(&received, bytes);
}

// ---- a reactor in the test's own thread

/// Lets time pass in which the loop runs no turn. This is no synchronisation: the delay itself is
/// tested.
pub(crate) fn stall(how_long: Duration) {
    thread::sleep(how_long);
}

/// The longest that one turn of [`turn_until`] sleeps.
pub(crate) const TURN_TIMEOUT: Duration = Duration::from_millis(10);

pub(crate) fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Returns a reactor that serves one protocol, and its address.
pub(crate) fn serve<P: Protocol + 'static>(
    limits: Limits,
    make: impl FnMut(SocketAddr) -> P + 'static,
) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new(limits).unwrap();
    let address = reactor.listen(any_port(), make).unwrap();
    (reactor, address)
}

/// Runs a reactor in a thread of its own, which ends with the test. `listen` returns the address
/// that it serves.
pub(crate) fn run_in_thread(
    listen: impl FnOnce(&mut Reactor) -> SocketAddr + Send + 'static,
) -> SocketAddr {
    let (send_address, address) = mpsc::channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        send_address.send(listen(&mut reactor)).unwrap();
        reactor.run().unwrap();
    });
    address.recv_timeout(TIMEOUT).unwrap()
}

/// A layer that changes nothing.
struct Identity;

impl Layer for Identity {}

/// If this is set, servers of tests put their protocols inside [`Identity`].
const LAYERED: &str = "REACTOR_TEST_LAYERED";

pub(crate) fn is_layered() -> bool {
    env::var_os(LAYERED).is_some()
}

/// Serves protocols inside a layer that changes nothing.
pub(crate) fn listen_layered<P: Protocol + 'static>(
    reactor: &mut Reactor,
    mut make: impl FnMut(SocketAddr) -> P + 'static,
) -> io::Result<SocketAddr> {
    reactor.listen(any_port(), move |peer| Layered::new(Identity, make(peer)))
}

/// Runs all tests of this executable but `this_test` again, where [`is_layered`] is true.
pub(crate) fn check_layered(this_test: &str) {
    if is_layered() {
        return;
    }
    let mut tests = Command::new(env::current_exe().unwrap());
    let output = tests.args(["--skip", this_test]).env(LAYERED, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Returns whether this process may have `count` files open. If not, prints that the test is
/// skipped.
#[cfg(target_os = "linux")]
pub(crate) fn may_open(count: usize) -> bool {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let most = line.split_whitespace().next().unwrap();
    let is_enough = most.parse().map_or(true, |most: usize| most >= count);
    if !is_enough {
        eprintln!("skipped: RLIMIT_NOFILE is {most}, {count} files are needed");
    }
    is_enough
}

/// Runs turns until `done`, and returns how many.
#[track_caller]
pub(crate) fn turn_until(
    reactor: &mut Reactor,
    what: &str,
    mut done: impl FnMut(&Stats) -> bool,
) -> u64 {
    let deadline = Instant::now() + TIMEOUT;
    let turns_before = reactor.stats().turns;
    while !done(reactor.stats()) {
        assert!(Instant::now() < deadline, "timeout waiting for: {what}; {:?}", reactor.stats());
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
    reactor.stats().turns - turns_before
}

/// For each datagram that it receives, sends another to its own socket, so that there is always one
/// more to receive.
struct FeedsItself(Rc<UdpSocket>);

impl DatagramProtocol for FeedsItself {
    fn received(&mut self, datagram: &Datagram<'_>, _: &mut Replies<'_>) {
        self.0.send(datagram.payload).unwrap();
    }
}

/// Opens a datagram socket to which datagrams come without end, and returns when they do.
pub(crate) fn flood_itself(reactor: &mut Reactor) {
    let socket = Rc::new(UdpSocket::bind(any_port()).unwrap());
    socket.set_write_timeout(Some(TIMEOUT)).unwrap();
    let address = reactor.bind_datagram(any_port(), FeedsItself(Rc::clone(&socket))).unwrap();
    socket.connect(address).unwrap();
    // Several batches, and less than the smallest usual socket buffer holds.
    for _ in 0..200 {
        socket.send(b"x").unwrap();
    }
    turn_until(reactor, "the flood", |stats| stats.datagrams_in > 2_000);
}
