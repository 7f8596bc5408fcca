//! What the benchmarks share: the peer's side of a conversation, a stopwatch, and room for many sockets.
//!
//! A benchmark over sockets has both sides in one thread, which take turns: the peer sends, the server answers, the peer
//! reads. Only the server's part is timed. On loopback that is its calls, and what the kernel does at once for the peer's
//! end of them; but it is neither the peer's own calls nor the wake-up of another thread.

// Each benchmark is a crate of its own and uses a part of this one.
#![allow(dead_code)]

#[path = "../../src/bin/reactor/site.rs"]
#[allow(dead_code, reason = "the program uses the rest of it")]
pub(crate) mod site;

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use mio_reactor::{Http, TestConnection};

use site::Site;
use socket2::{Domain, Socket, Type};

/// The longest that any turn or socket here waits. Whoever waits so long has lost something, and says so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Any port of this machine's own.
pub(crate) const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// One request of 49 bytes.
pub(crate) const REQUEST: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// The same, and the last on its connection.
pub(crate) const LAST_REQUEST: &[u8] =
    b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\n\r\n";

/// What each answer ends with.
pub(crate) const ANSWER_END: &[u8] = b"\r\n\r\nHello, World!";

/// What the server answers to `requests`, for a floor that has only to copy it.
pub(crate) fn answer_to(requests: &[u8]) -> Vec<u8> {
    let mut http = TestConnection::new(Http::new(Site::new()));
    http.peer_sends(requests);
    http.take_received()
}

/// Takes turns until one says that all is done, and returns how long that took.
pub(crate) fn time_until_done(mut turn: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !turn() {
        assert!(begun.elapsed() < PATIENCE, "what was sent arrives");
    }
    begun.elapsed()
}

/// The loopback address of this number. On Linux there are many, each with all its ports, so that those which wait in
/// TIME_WAIT are not missed. Elsewhere only the first one is set up.
pub(crate) fn source(number: usize) -> Ipv4Addr {
    let last = if cfg!(target_os = "linux") { 1 + number % 250 } else { 1 };
    Ipv4Addr::new(127, 0, 0, u8::try_from(last).expect("it is at most 250"))
}

/// A peer connected to `address`. It has room for a reply of 64 KiB that nobody reads yet.
pub(crate) fn connect(address: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    let peer = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    peer.set_recv_buffer_size(1024 * 1024)?;
    peer.set_send_buffer_size(1024 * 1024)?;
    peer.set_tcp_nodelay(true)?;
    peer.bind(&SocketAddr::from((from, 0)).into())?;
    peer.connect_timeout(&address.into(), PATIENCE)?;
    peer.set_read_timeout(Some(PATIENCE))?;
    peer.set_write_timeout(Some(PATIENCE))?;
    Ok(peer.into())
}

/// The exit code of a program for which there is no room.
pub(crate) const NO_ROOM: i32 = 99;

/// This program, to be run once more with `arguments` and with room for so many descriptors, through a shell: to raise
/// the limit ourselves would take unsafe code. It ends with [`NO_ROOM`] where the hard limit is lower.
pub(crate) fn once_more(
    descriptors: usize,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> io::Result<Command> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        "ulimit -S -n {descriptors} 2>/dev/null || exit {NO_ROOM}; exec \"$0\" \"$@\""
    ));
    command.arg(std::env::current_exe()?).args(arguments);
    Ok(command)
}

/// What to do about [`NO_ROOM`].
pub(crate) fn advice(descriptors: usize) -> String {
    format!(
        "needs {descriptors} descriptors, and `ulimit -H -n` allows fewer; as root, raise it for this shell with \
         `prlimit --pid $$ --nofile={descriptors}:{descriptors}`, and try again"
    )
}
