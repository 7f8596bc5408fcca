//! `reactor send`: a blocking client for people and scripts that sends a text and prints the reply.
//!
//! ```text
//!                     writer thread                  main thread
//!     input, text ──► write ... FIN ──► server ──► read ──► standard output
//! ```
//!
//! A client that first writes everything and then reads would deadlock with a server that replies
//! while it reads: with all buffers full, each side would wait for the other to read. So a thread
//! of its own writes to the stream. This client may block where the server never does; it shares
//! nothing with the loop.

mod datagram;
mod printer;
mod resolve;

use std::fmt::Display;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use self::datagram::exchange_datagram;
use self::printer::ReplyPrinter;
pub(crate) use self::resolve::resolve_within;
use crate::address::NetAddress;
use crate::cli::{SendArgs, SendTarget};
use crate::standard_streams;

/// Most bytes in one read or write: the capacity of a pipe. For more, there is another call.
const CHUNK_BYTES: usize = 64 * 1024;

/// How long our input may give nothing, once the server has sent its FIN, before it is no longer
/// waited for: it may be a terminal. A program that writes into a pipe is mostly faster.
const INPUT_TIMEOUT: Duration = Duration::from_millis(500);

/// Why there is no reply, or not all of it.
pub(crate) enum SendError {
    /// The arguments or the input are not valid.
    Usage(String),
    /// Something outside the program failed.
    Failed(String),
    /// The reader of our standard output has closed it.
    OutputClosed,
}

/// Sends the text and prints the reply. Returns a note if the reply was printed but may be
/// incomplete.
pub(crate) fn send(arguments: &SendArgs) -> Result<Option<String>, SendError> {
    let timeout = arguments.timeout.get();
    let input: Box<dyn Read + Send> = match &arguments.text {
        Some(text) => Box::new(Cursor::new(text.as_encoded_bytes().to_vec())),
        None => Box::new(
            standard_streams::stdin().map_err(|error| SendError::Failed(describe_input(&error)))?,
        ),
    };
    match &arguments.to {
        SendTarget::Tcp(host) => exchange_stream(&connect_tcp(host, timeout)?, input, timeout),
        SendTarget::Unix(path) => exchange_stream(&connect_unix(path, timeout)?, input, timeout),
        SendTarget::Udp(host) => exchange_datagram(host, input, timeout).map(|()| None),
    }
}

// ---- connecting

/// Looks up `host` and tries its addresses one after the other, each for its share of the time that
/// is left.
fn connect_tcp(host: &NetAddress, timeout: Duration) -> Result<TcpStream, SendError> {
    let deadline = Instant::now() + timeout;
    let addresses = resolve(host, timeout)?;
    let mut failures = Vec::new();
    for (tried, address) in addresses.iter().enumerate() {
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / untried;
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1)))
            .and_then(refuse_self_connect)
        {
            Ok(stream) => return Ok(stream),
            Err(error) => failures.push(describe_failure(address, &error)),
        }
    }
    Err(SendError::Failed(failures.join("; ")))
}

/// Reports a connection with itself as `ConnectionRefused`.
///
/// A connect to a local port on which nothing listens may be given that very port as its ephemeral
/// port. Then two SYNs cross and make a connection (simultaneous open, RFC 9293 section 3.5), but
/// there is no server.
fn refuse_self_connect(stream: TcpStream) -> io::Result<TcpStream> {
    // A connection that has been reset already has no peer address. The next read reports the
    // reset.
    let is_self_connect =
        stream.peer_addr().is_ok_and(|peer| stream.local_addr().is_ok_and(|own| own == peer));
    if is_self_connect {
        // An orderly close would keep the port in TIME_WAIT for a minute, and the server could not
        // bind it.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

#[cfg(unix)]
fn connect_unix(path: &Path, timeout: Duration) -> Result<TcpStream, SendError> {
    use crate::unix_address::unix_address;
    use socket2::{Domain, Socket, Type};

    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // It also bounds how long connect(2) blocks while the server's backlog is full.
        socket.set_write_timeout(Some(timeout))?;
        socket.connect(&unix_address(path)?)?;
        Ok(TcpStream::from(socket)) // no call that follows depends on the address family
    };
    connect().map_err(|error| {
        SendError::Failed(describe_failure(&format!("unix:{}", path.display()), &error))
    })
}

#[cfg(not(unix))]
fn connect_unix(_path: &Path, _timeout: Duration) -> Result<TcpStream, SendError> {
    Err(SendError::Usage(crate::address::NO_UNIX_SOCKETS.to_string()))
}

// ---- the exchange over a stream

/// What the two threads share.
struct ExchangeState {
    sending: Sending,
    /// When a byte last moved, in either direction.
    last_progress: Instant,
    /// The main thread is writing to standard output, which may block, so it does not read from the
    /// stream.
    is_printing: bool,
}

/// How far the writer thread has come.
enum Sending {
    /// All input so far is sent; more may come.
    AwaitingInput,
    /// The server has not accepted all of the input that was read.
    Writing,
    /// All is sent, with our FIN.
    Done,
    Failed(String),
}

/// Sends all of `input` and then our FIN. Meanwhile, and until the server's FIN, prints what
/// arrives.
///
/// A server that has sent its FIN may still read, so the rest of the input is sent after that, too.
fn exchange_stream(
    stream: &TcpStream,
    input: Box<dyn Read + Send>,
    timeout: Duration,
) -> Result<Option<String>, SendError> {
    let failed = |error: io::Error| SendError::Failed(error.to_string());
    stream.set_read_timeout(Some(timeout)).map_err(failed)?;
    stream.set_write_timeout(Some(timeout)).map_err(failed)?;
    let state = Arc::new(Mutex::new(ExchangeState {
        sending: Sending::AwaitingInput,
        last_progress: Instant::now(),
        is_printing: false,
    }));
    let (writer, shared) = (stream.try_clone().map_err(failed)?, Arc::clone(&state));
    let reader = thread::current();
    // The thread is never joined. After the server's FIN it may still block in a read of the
    // terminal; it ends with the process.
    let started = thread::Builder::new().spawn(move || {
        let result = write_input(input, &writer, &shared, timeout);
        let mut state = lock(&shared);
        state.last_progress = Instant::now();
        // A shutdown fails if the server is gone, which a read reports. After a failure, shutting
        // down both sides wakes the main thread from its read.
        let _ = match result {
            Ok(()) => {
                state.sending = Sending::Done;
                writer.shutdown(Shutdown::Write)
            }
            Err(why) => {
                state.sending = Sending::Failed(why);
                writer.shutdown(Shutdown::Both)
            }
        };
        reader.unpark();
    });
    started.map_err(|error| SendError::Failed(format!("no thread could be started: {error}")))?;
    print_reply(stream, &state, timeout)
}

/// Waits until all input is sent, or no more comes. The writer thread enforces the write timeout.
fn wait_for_writer(state: &Mutex<ExchangeState>) -> Result<(), SendError> {
    loop {
        let state = lock(state);
        let since_progress = state.last_progress.elapsed();
        match &state.sending {
            Sending::Done => return Ok(()),
            Sending::Failed(why) => return Err(SendError::Failed(why.clone())),
            Sending::AwaitingInput if since_progress >= INPUT_TIMEOUT => return Ok(()),
            Sending::AwaitingInput | Sending::Writing => {}
        }
        drop(state);
        thread::park_timeout(INPUT_TIMEOUT);
    }
}

/// Writes all of `input` to the stream: the writer thread's work.
fn write_input(
    mut input: Box<dyn Read + Send>,
    mut stream: &TcpStream,
    state: &Mutex<ExchangeState>,
    timeout: Duration,
) -> Result<(), String> {
    let set_sending = |sending| {
        let mut state = lock(state);
        (state.sending, state.last_progress) = (sending, Instant::now());
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = match input.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(describe_input(&error)),
        };
        set_sending(Sending::Writing);
        let mut rest = &chunk[..count];
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(written) => {
                    rest = &rest[written..];
                    lock(state).last_progress = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => {
                    // While our own output blocks, a server that cannot send its replies need not
                    // read.
                    let state = lock(state);
                    if !state.is_printing && state.last_progress.elapsed() >= timeout {
                        return Err(format!(
                            "write timeout: the server accepted no data for {timeout:?}"
                        ));
                    }
                }
                Err(error) => return Err(format!("not all data was sent: {error}")),
            }
        }
        set_sending(Sending::AwaitingInput);
    }
}

/// Prints what the server sends, until its FIN and the end of our input: the main thread's work.
fn print_reply(
    mut stream: &TcpStream,
    state: &Mutex<ExchangeState>,
    timeout: Duration,
) -> Result<Option<String>, SendError> {
    let mut printer = ReplyPrinter::new()?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => {
                printer.finish()?;
                wait_for_writer(state)?;
                return printer.result_at_eof();
            }
            Ok(count) => {
                lock(state).is_printing = true;
                printer.print(&chunk[..count])?;
                let mut state = lock(state);
                (state.is_printing, state.last_progress) = (false, Instant::now());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => {
                let state = lock(state);
                match state.sending {
                    // Our input is awaited, or the server accepts nothing, which the writer thread
                    // watches.
                    Sending::AwaitingInput | Sending::Writing | Sending::Failed(_) => {}
                    Sending::Done => {
                        let left = timeout.saturating_sub(state.last_progress.elapsed());
                        if left.is_zero() {
                            printer.finish()?;
                            return printer.result_at_timeout(timeout);
                        }
                        let left = left.max(Duration::from_millis(1));
                        stream
                            .set_read_timeout(Some(left))
                            .map_err(|error| SendError::Failed(error.to_string()))?;
                    }
                }
            }
            Err(error) => {
                printer.finish()?;
                return Err(SendError::Failed(format!("reply cut off: {error}")));
            }
        }
    }
}

fn lock(state: &Mutex<ExchangeState>) -> MutexGuard<'_, ExchangeState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- shared with datagrams

/// Returns all addresses of `host`, if they are found within `timeout`.
fn resolve(host: &NetAddress, timeout: Duration) -> Result<Vec<SocketAddr>, SendError> {
    resolve_within(host, timeout).map_err(|error| SendError::Failed(format!("{host}: {error}")))
}

fn describe_input(error: &io::Error) -> String {
    format!("standard input: {error}")
}

/// Returns the line for a server at `address` that was not reached.
pub(crate) fn describe_failure(address: &impl Display, error: &io::Error) -> String {
    match () {
        () if error.kind() == ErrorKind::ConnectionRefused => {
            format!("{address}: nothing listens there ({error})")
        }
        () if is_timeout(error) => format!("{address}: connect timeout"),
        () => format!("{address}: {error}"),
    }
}

/// Returns whether a read or a write has reached its timeout: `WouldBlock` on Unix, `TimedOut` on
/// Windows.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use socket2::{Domain, Socket, Type};

    use super::datagram::exchange_with;
    use super::*;

    #[test]
    fn self_connect_counts_as_refused_and_frees_the_port() {
        // Each socket connects to the port that it is bound to, as may happen where the kernel
        // picks the port. Afterwards the server can listen there, which TIME_WAIT would prevent.
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&any.into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).unwrap();
        let error = refuse_self_connect(socket.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        TcpListener::bind(own.as_socket().unwrap()).unwrap();
        let socket = UdpSocket::bind(any).unwrap();
        let own = socket.local_addr().unwrap();
        let error = exchange_with(&socket, own, b"hello", Duration::from_secs(10)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}
