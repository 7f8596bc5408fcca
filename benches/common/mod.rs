//! What the benchmarks share: the peer's side, a stopwatch, and limits on descriptors.
//!
//! A benchmark over sockets has both sides in one thread, in turn: the peer sends, the server
//! replies, the peer reads. Only the server's part is timed. On loopback that is the server's
//! system calls, with what the kernel does within them for the peer's end. The peer's own calls are
//! not in it, nor is the wake-up of another thread.

// Each benchmark is a crate of its own and uses a part of this one.
#![allow(dead_code)]

#[path = "../../src/bin/reactor/site.rs"]
#[allow(dead_code, reason = "the program uses the rest of it")]
pub(crate) mod site;

use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use mio_reactor::{Http, Limits, Protocol, Reactor, Stats, TestConnection};
use socket2::{Domain, Socket, Type};

use site::Site;

/// The longest that a turn or a socket waits here. Reaching it is a failure: something was lost.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Any free port of the loopback interface.
pub(crate) const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// One request of 49 bytes.
pub(crate) const REQUEST: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// The same, as the last one of its connection.
pub(crate) const LAST_REQUEST: &[u8] =
    b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\n\r\n";

/// The end of each response.
pub(crate) const RESPONSE_END: &[u8] = b"\r\n\r\nHello, World!";

/// Returns whether this run only checks that the benchmark works (criterion's test mode: `--test`,
/// or no `--bench`, as with `cargo test --benches`). Then nothing is measured, and large fixtures
/// may be small.
pub(crate) fn is_test() -> bool {
    let has = |option| env::args().any(|argument| argument == option);
    has("--test") || !has("--bench")
}

/// Returns the server's response to `requests`, for a baseline that only copies it.
pub(crate) fn response_to(requests: &[u8]) -> Vec<u8> {
    let mut http = TestConnection::new(Http::new(Site::new()));
    http.peer_sends(requests);
    http.take_received()
}

/// Calls `turn` until it returns true, and returns how long that took.
pub(crate) fn time_until_done(mut turn: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !turn() {
        assert!(begun.elapsed() < TIMEOUT, "what was sent arrives");
    }
    begun.elapsed()
}

/// Runs turns until `is_done`, and returns how long that took.
pub(crate) fn time_turns(
    reactor: &mut Reactor,
    mut is_done: impl FnMut(&Stats) -> bool,
) -> Duration {
    time_until_done(|| {
        reactor.turn(Some(TIMEOUT)).expect("the poll works");
        is_done(reactor.stats())
    })
}

/// Returns a reactor that serves one protocol, and its address.
pub(crate) fn listening<P: Protocol + 'static>(
    mut make: impl FnMut() -> P + 'static,
) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new(Limits::default()).expect("a poll can be made");
    let address = reactor.listen(LOOPBACK, move |_| make()).expect("a port is free");
    (reactor, address)
}

/// Returns a plain listener, for a baseline, and its address.
pub(crate) fn bare_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(LOOPBACK).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// Accepts a connection of a baseline, as a non-blocking stream for mio.
pub(crate) fn accept_bare(listener: &TcpListener) -> mio::net::TcpStream {
    let (stream, _) = listener.accept().expect("the peer has connected");
    stream.set_nodelay(true).expect("the socket is open");
    stream.set_nonblocking(true).expect("the socket is open");
    mio::net::TcpStream::from_std(stream)
}

/// Returns loopback address number `number`. On Linux there are many, each with all its ports, so
/// that ports in TIME_WAIT do not run out. Elsewhere only the first one is configured.
pub(crate) fn source(number: usize) -> Ipv4Addr {
    let last = if cfg!(target_os = "linux") { 1 + number % 250 } else { 1 };
    Ipv4Addr::new(127, 0, 0, u8::try_from(last).expect("it is at most 250"))
}

/// Returns a peer connected to `address`, with room for a reply of 64 KiB that it has not read yet.
pub(crate) fn connect(address: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    connect_with_buffers(address, from, 1024 * 1024)
}

/// Returns a peer connected to `address` whose socket buffers have `buffer_bytes`, each way.
pub(crate) fn connect_with_buffers(
    address: SocketAddr,
    from: Ipv4Addr,
    buffer_bytes: usize,
) -> io::Result<TcpStream> {
    let peer = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    peer.set_recv_buffer_size(buffer_bytes)?;
    peer.set_send_buffer_size(buffer_bytes)?;
    peer.set_tcp_nodelay(true)?;
    peer.bind(&SocketAddr::from((from, 0)).into())?;
    peer.connect_timeout(&address.into(), TIMEOUT)?;
    peer.set_read_timeout(Some(TIMEOUT))?;
    peer.set_write_timeout(Some(TIMEOUT))?;
    Ok(peer.into())
}

/// The exit code where the hard limit on descriptors is too low.
pub(crate) const TOO_FEW_DESCRIPTORS: i32 = 99;

/// Returns a command that runs this program again with `arguments` and a soft limit of
/// `descriptors`. It exits with [`TOO_FEW_DESCRIPTORS`] where the hard limit is lower. The limit is
/// raised by a shell, because setrlimit(2) would take unsafe code here.
pub(crate) fn rerun_with_descriptors(
    descriptors: usize,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> io::Result<Command> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        "ulimit -S -n {descriptors} 2>/dev/null || exit {TOO_FEW_DESCRIPTORS}; exec \"$0\" \"$@\""
    ));
    command.arg(env::current_exe()?).args(arguments);
    Ok(command)
}

/// Returns what to do about [`TOO_FEW_DESCRIPTORS`].
pub(crate) fn advice(descriptors: usize) -> String {
    format!(
        "needs {descriptors} descriptors, and `ulimit -H -n` allows fewer; as root, raise the \
         limit of this shell with `prlimit --pid $$ --nofile={descriptors}:{descriptors}`, and try \
         again"
    )
}
