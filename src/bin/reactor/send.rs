//! `reactor send`: the lecture's two clients, for any server.
//!
//! ```text
//!                     writing thread                 this thread
//!     input, text ──► write ... FIN ──► server ──► read ──► standard output
//! ```
//!
//! A client that first writes everything and then reads would lock up with a server that answers while it reads: each would wait
//! for the other to read, with all buffers full. So a stream is written by a thread of its own. This is a client for people
//! and their scripts, which blocks where the server never does; it shares nothing with the loop.

mod datagram;
mod printer;

use std::fmt::Display;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use self::datagram::ask;
use self::printer::Output;
use crate::cli::{Destination, Message};

/// What is read or written at a time, in bytes: as much as a pipe holds. For more, there is another call.
const PIECE_BYTES: usize = 64 * 1024;

/// How long our input may give nothing when the server has said all, before nobody waits for it any more: somebody may sit at a
/// terminal. A program that writes into a pipe is mostly faster.
const INPUT_PATIENCE: Duration = Duration::from_millis(500);

/// Why there is no reply, or not all of it.
pub(crate) enum Failure {
    /// What was asked for makes no sense.
    Misused(String),
    /// Something outside the program stood in the way.
    Failed(String),
    /// Whoever read our output has left, and wants to hear no more.
    NobodyReads,
}

/// Sends the message and prints the reply. `Ok` with a text: it was printed, and there is something to say about it.
pub(crate) fn send(message: &Message) -> Result<Option<String>, Failure> {
    let patience = Duration::from_millis(message.timeout);
    let input: Box<dyn Read + Send> = match &message.text {
        Some(text) => Box::new(Cursor::new(text.as_encoded_bytes().to_vec())),
        None => Box::new(io::stdin()),
    };
    match &message.to {
        Destination::Tcp(host) => converse(&connect(host, patience)?, input, patience),
        Destination::Unix(path) => converse(&connect_unix(path, patience)?, input, patience),
        Destination::Udp(host) => ask(host, input, patience).map(|()| None),
    }
}

// ---- streams

/// Tries the addresses of `host` one after the other, each for its share of the time.
fn connect(host: &str, patience: Duration) -> Result<TcpStream, Failure> {
    let addresses = resolve(host)?;
    let give_up = Instant::now() + patience;
    let mut failures = Vec::new();
    for (tried, address) in addresses.iter().enumerate() {
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = give_up.saturating_duration_since(Instant::now()) / untried;
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1)))
            .and_then(reached)
        {
            Ok(stream) => return Ok(stream),
            Err(error) => failures.push(tell(address, &error)),
        }
    }
    Err(Failure::Failed(failures.join("; ")))
}

/// Who connects to a port of its own machine at which nobody listens may be given that very port to connect from, and then has
/// reached itself (two SYNs that cross make a connection, RFC 9293 section 3.5). That is nobody.
fn reached(stream: TcpStream) -> io::Result<TcpStream> {
    // Where it has been reset already there is no peer to ask for, and whoever reads is told.
    let is_with_itself =
        stream.peer_addr().is_ok_and(|peer| stream.local_addr().is_ok_and(|own| own == peer));
    if is_with_itself {
        // To close in order would keep the port for a minute (TIME_WAIT) from whoever ought to listen there.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

#[cfg(unix)]
fn connect_unix(path: &Path, patience: Duration) -> Result<TcpStream, Failure> {
    use socket2::{Domain, SockAddr, Socket, Type};

    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // It is also how long connect(2) waits where the server's queue is full.
        socket.set_write_timeout(Some(patience))?;
        socket.connect(&SockAddr::unix(path)?)?;
        Ok(TcpStream::from(socket)) // nothing that we do asks for its family
    };
    connect().map_err(|error| Failure::Failed(tell(&format!("unix:{}", path.display()), &error)))
}

#[cfg(not(unix))]
fn connect_unix(_path: &Path, _patience: Duration) -> Result<TcpStream, Failure> {
    Err(Failure::Misused("this system has no Unix sockets".to_string()))
}

/// What one thread has to know of the other.
struct Talk {
    sending: Sending,
    /// When a byte last moved, in either direction.
    moved: Instant,
    /// Nothing is read, since our own output is not taken.
    is_printing: bool,
}

enum Sending {
    /// All that our input has given is sent, and it may give more.
    AwaitsInput,
    /// The server is to take some.
    UnderWay,
    /// All is sent, and our FIN with it.
    Done,
    Failed(String),
}

/// Sends all of `input` and then our FIN. Meanwhile, and until the server's FIN, prints what comes. A server that has sent its FIN
/// may still listen: so what there is to send is sent then, too.
fn converse(
    stream: &TcpStream,
    input: Box<dyn Read + Send>,
    patience: Duration,
) -> Result<Option<String>, Failure> {
    let fails = |error: io::Error| Failure::Failed(error.to_string());
    stream.set_read_timeout(Some(patience)).map_err(fails)?;
    stream.set_write_timeout(Some(patience)).map_err(fails)?;
    let talk = Talk { sending: Sending::AwaitsInput, moved: Instant::now(), is_printing: false };
    let talk = Arc::new(Mutex::new(talk));
    let (writer, shared) = (stream.try_clone().map_err(fails)?, Arc::clone(&talk));
    let reader = thread::current();
    // Nobody joins this thread. When the server has said all, it may still sit in a read of the terminal; it ends with us.
    thread::spawn(move || {
        let result = write_all_of(input, &writer, &shared, patience);
        let mut talk = lock(&shared);
        talk.moved = Instant::now();
        // Where the shutdown fails the server has left, and a read says so. After a failure it wakes who sits in that read.
        let _ = match result {
            Ok(()) => {
                talk.sending = Sending::Done;
                writer.shutdown(Shutdown::Write)
            }
            Err(why) => {
                talk.sending = Sending::Failed(why);
                writer.shutdown(Shutdown::Both)
            }
        };
        reader.unpark();
    });
    print_all_of(stream, &talk, patience)
}

/// Waits until all is sent that our input gives. The other thread sees to it that the server takes it.
fn wait_for_the_rest(talk: &Mutex<Talk>) -> Result<(), Failure> {
    loop {
        let talk = lock(talk);
        match &talk.sending {
            Sending::Done => return Ok(()),
            Sending::Failed(why) => return Err(Failure::Failed(why.clone())),
            Sending::AwaitsInput if talk.moved.elapsed() >= INPUT_PATIENCE => return Ok(()),
            Sending::AwaitsInput | Sending::UnderWay => {}
        }
        drop(talk);
        thread::park_timeout(INPUT_PATIENCE);
    }
}

fn write_all_of(
    mut input: Box<dyn Read + Send>,
    mut stream: &TcpStream,
    talk: &Mutex<Talk>,
    patience: Duration,
) -> Result<(), String> {
    let becomes = |sending| {
        let mut talk = lock(talk);
        (talk.sending, talk.moved) = (sending, Instant::now());
    };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = match input.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("standard input: {error}")),
        };
        becomes(Sending::UnderWay);
        let mut rest = &piece[..count];
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(written) => {
                    rest = &rest[written..];
                    lock(talk).moved = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => {
                    // It may be we who hold it up: a server that cannot send its replies need not take more.
                    let talk = lock(talk);
                    if !talk.is_printing && talk.moved.elapsed() >= patience {
                        return Err(format!(
                            "the server takes no more, for {} ms",
                            patience.as_millis()
                        ));
                    }
                }
                Err(error) => return Err(format!("not all could be sent: {error}")),
            }
        }
        becomes(Sending::AwaitsInput);
    }
}

fn print_all_of(
    mut stream: &TcpStream,
    talk: &Mutex<Talk>,
    patience: Duration,
) -> Result<Option<String>, Failure> {
    let mut output = Output::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => {
                output.finish()?;
                wait_for_the_rest(talk)?;
                return output.is_all();
            }
            Ok(count) => {
                lock(talk).is_printing = true;
                output.print(&piece[..count])?;
                let mut talk = lock(talk);
                (talk.is_printing, talk.moved) = (false, Instant::now());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => {
                let talk = lock(talk);
                match talk.sending {
                    // It is the input that we wait for, or the server is to take some, which the other thread watches.
                    Sending::AwaitsInput | Sending::UnderWay | Sending::Failed(_) => {}
                    Sending::Done => {
                        let left = patience.saturating_sub(talk.moved.elapsed());
                        if left.is_zero() {
                            output.finish()?;
                            return output.is_not_all(patience);
                        }
                        let left = left.max(Duration::from_millis(1));
                        stream
                            .set_read_timeout(Some(left))
                            .map_err(|error| Failure::Failed(error.to_string()))?;
                    }
                }
            }
            Err(error) => {
                output.finish()?;
                return Err(Failure::Failed(format!("the reply broke off: {error}")));
            }
        }
    }
}

// ---- what both share

/// All addresses of `HOST:PORT`. The system's resolver has its own idea of how long that may take (resolv.conf(5)).
fn resolve(host: &str) -> Result<Vec<SocketAddr>, Failure> {
    match host.to_socket_addrs().map(Iterator::collect::<Vec<_>>) {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(Failure::Failed(format!("{host}: the host has no address"))),
        Err(error) => Err(Failure::Failed(format!("{host}: {error}"))),
    }
}

fn tell(place: &impl Display, error: &io::Error) -> String {
    match () {
        () if error.kind() == ErrorKind::ConnectionRefused => {
            format!("{place}: nobody listens there ({error})")
        }
        () if is_timeout(error) => format!("{place}: nobody has let us in in time"),
        () => format!("{place}: {error}"),
    }
}

/// A read or a write has waited for as long as it may. (Unix says the first, Windows the second.)
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn lock(talk: &Mutex<Talk>) -> MutexGuard<'_, Talk> {
    talk.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use socket2::{Domain, Socket, Type};

    use super::datagram::exchange;
    use super::*;

    #[test]
    fn who_has_reached_itself_has_reached_nobody() {
        // Each connects to the port that it is bound to, as the kernel may have it do where it chooses the port. Afterwards who was
        // meant can listen there, as it could not if we had closed in order (TIME_WAIT).
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&any.into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).unwrap();
        assert_eq!(reached(socket.into()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        TcpListener::bind(own.as_socket().unwrap()).unwrap();
        let socket = UdpSocket::bind(any).unwrap();
        let own = socket.local_addr().unwrap();
        let error = exchange(&socket, own, b"hello", Duration::from_secs(10)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}
