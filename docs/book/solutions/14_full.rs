//! A solution of exercise 14: a client for which there is no room is told so.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};
use std::{env, mem};

use httparse::Error::TooManyHeaders;
use httparse::{EMPTY_HEADER, Header, Request, Status};
use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token, event};
use slab::Slab;

const PREFIX: &[u8] = b"echo -> ";
/// A longer line ends the connection. The end of the line does not count.
const LINE_BYTES_MAX: usize = 65_536;
const TOO_LONG: &[u8] = b"error -> the line is too long\n";
/// How long a line may take from its first byte on, whatever arrives meanwhile.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to send its FIN, after ours.
const LINGER: Duration = Duration::from_secs(2);
/// The most steps of a source in one turn of the loop. Then the others are next.
const STEPS_MAX: usize = 16;
/// With so much output waiting, in bytes, a client is not read any more,
const HIGH_WATERMARK: usize = 64 * 1024;
/// and with so little, it is read again.
const LOW_WATERMARK: usize = 16 * 1024;

/// With more bytes and no end, a head is too long. Those of browsers mostly have less than 2,000.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const TOO_LARGE: &str = "431 Request Header Fields Too Large";
const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n\r\n";

/// The most sources that are served. Further clients are told so,
const SERVED_MAX: usize = 100;
const FULL: &[u8] = b"error -> the server is full\n";
/// as long as there are not more than so many sources. Then they wait in the backlog.
const SOURCES_MAX: usize = SERVED_MAX + 20;
/// When to accept again, if the kernel has no descriptor or memory for a client.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// The token of SIGTERM, which no slot has.
const STOP: Token = Token(SOURCES_MAX);
/// How long a stop may take, and how long a client may be idle then.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const STOP_IDLE_TIMEOUT: Duration = Duration::from_millis(200);

/// What a kind of clients is served by: it takes input, gives output, and says what follows.
type Protocol = fn(received: &mut Vec<u8>, at_end: bool, output: &mut Vec<u8>) -> Sending;

/// Answers one request, as soon as its head is whole. Its body is discarded.
fn answer_http(received: &mut Vec<u8>, at_end: bool, output: &mut Vec<u8>) -> Sending {
    let mut headers = [EMPTY_HEADER; 64];
    let mut request = Request::new(&mut headers);
    let (status, body) = match request.parse(received) {
        Ok(Status::Complete(_)) if !is_clear(request.headers) => ("400 Bad Request", "unclear\n"),
        Ok(Status::Complete(_)) if request.method == Some("GET") => ("200 OK", "Hello wörld!\n"),
        Ok(Status::Complete(_)) => ("501 Not Implemented", "only GET\n"),
        Ok(Status::Partial) if received.len() > HEAD_BYTES_MAX => (TOO_LARGE, "too long\n"),
        Ok(Status::Partial) if !at_end || received.is_empty() => return Sending::Replies,
        Err(TooManyHeaders) => (TOO_LARGE, "too many headers\n"),
        Ok(Status::Partial) | Err(_) => ("400 Bad Request", "no request\n"),
    };
    received.clear();
    let length = body.len(); // in bytes, and ö has two
    let head = format!("HTTP/1.0 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    output.extend([&head, TEXT, body].concat().bytes());
    Sending::Rest
}

/// Returns whether the head says one thing about the length of the body, and not two.
fn is_clear(headers: &[Header<'_>]) -> bool {
    let named = |name| headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    let mut lengths = named("Content-Length").map(|header| header.value);
    let first = lengths.next().unwrap_or(b"0");
    let is_number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
    is_number && lengths.all(|length| length == first) && named("Transfer-Encoding").count() == 0
}

/// Takes all whole lines out of `received`. Their replies go into `output`. Returns what follows.
fn answer(received: &mut Vec<u8>, at_end: bool, output: &mut Vec<u8>) -> Sending {
    if received.split(|&byte| byte == b'\n').any(|line| line.len() > LINE_BYTES_MAX) {
        output.extend(TOO_LONG);
        return Sending::Rest;
    }
    let end = received.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let lines = received[..end].split_inclusive(|&byte| byte == b'\n');
    output.extend(lines.flat_map(|line| [PREFIX, line]).collect::<Vec<_>>().concat());
    received.drain(..end);
    // The end of the stream ends the last line.
    if at_end && !received.is_empty() {
        output.extend([PREFIX, received].concat());
    }
    Sending::Replies
}

/// What is sent to a client. Our direction of its connection ends with a FIN, as its own does.
#[derive(PartialEq)]
enum Sending {
    /// Replies, as long as lines come.
    Replies,
    /// The rest of the output. Until it has been sent, nothing is received.
    Rest,
    /// Nothing: our FIN has been sent. What arrives is discarded, until the client's FIN.
    Nothing,
}

/// A connection, and all that has to be known of it while it waits.
struct Client {
    stream: TcpStream,
    protocol: Protocol,
    received: Vec<u8>,
    output: Vec<u8>,
    /// Its output has reached the high watermark, and not fallen to the low one since.
    paused: bool,
    sending: Sending,
    at_end: bool,
    /// What events have reported, and no call has disproved since.
    readable: bool,
    writable: bool,
    /// The end of the stream has arrived: after a short read, more is to be read.
    closed: bool,
    /// When its last step was done: a line, the beginning of one, or output that the kernel took.
    since: Instant,
    /// When its deadline is looked at: in time, and perhaps too early.
    filed: Instant,
}

impl Client {
    fn new(stream: TcpStream, protocol: Protocol, deadline: Instant) -> Client {
        Client {
            stream,
            protocol,
            received: Vec::new(),
            output: Vec::new(),
            paused: false,
            sending: Sending::Replies,
            at_end: false,
            readable: false,
            writable: false,
            closed: false,
            since: Instant::now(),
            filed: deadline,
        }
    }

    fn can_read(&self) -> bool {
        self.readable && !self.paused && !self.at_end && self.sending != Sending::Rest
    }

    fn can_write(&self) -> bool {
        self.writable && !self.output.is_empty()
    }

    /// Returns when it is closed, if it does no step until then.
    fn deadline(&self, idle_timeout: Duration) -> Instant {
        let is_within_line = !self.received.is_empty() && self.output.is_empty();
        let timeout = match self.sending {
            Sending::Nothing => LINGER,
            Sending::Replies if is_within_line => LINE_TIMEOUT.min(idle_timeout),
            Sending::Replies | Sending::Rest => idle_timeout,
        };
        self.since + timeout
    }

    /// Receives once, and puts the replies behind the output that waits.
    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        let count = self.stream.read(&mut buffer)?;
        // A short read proves that nothing is left.
        self.readable = count == buffer.len() || self.closed;
        self.at_end = count == 0;
        if self.sending == Sending::Nothing {
            return Ok(()); // What has been received is discarded.
        }
        let (begins, waiting) = (self.received.is_empty(), self.output.len());
        self.received.extend(&buffer[..count]);
        self.sending = (self.protocol)(&mut self.received, self.at_end, &mut self.output);
        if begins || self.output.len() > waiting {
            self.since = Instant::now(); // A byte within a line does not move it.
        }
        self.paused |= self.output.len() >= HIGH_WATERMARK;
        Ok(())
    }

    /// Sends once. What the kernel does not take stays in the output.
    fn send(&mut self) -> io::Result<()> {
        let count = self.stream.write(&self.output)?;
        self.since = Instant::now();
        self.writable = count == self.output.len();
        self.output.drain(..count);
        self.paused &= self.output.len() > LOW_WATERMARK;
        if self.output.is_empty() && self.sending == Sending::Rest {
            self.stream.shutdown(Shutdown::Write)?; // sends our FIN
            self.sending = Sending::Nothing;
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.at_end && self.output.is_empty()
    }
}

/// Below it are mostly ports of servers, such as that of echo, which is 7.
const CLIENT_PORT_MIN: u16 = 1024;

/// The socket for datagrams. There are no connections, so nothing is kept of a client.
struct Datagrams {
    socket: UdpSocket,
    /// Our port: a sender that has it is probably a server like us.
    port: u16,
    /// The prefix, and behind it room for the longest datagram. So each is received into its reply.
    buffer: Vec<u8>,
}

impl Datagrams {
    fn bind(address: SocketAddr) -> io::Result<Datagrams> {
        let buffer = [PREFIX, &[0; 65_535]].concat();
        Ok(Datagrams { socket: UdpSocket::bind(address)?, port: address.port(), buffer })
    }

    /// Answers one datagram. Returns whether there may be a further one.
    fn step(&mut self) -> bool {
        match self.socket.recv_from(&mut self.buffer[PREFIX.len()..]) {
            Ok((count, sender)) => {
                if self.is_client(sender) {
                    // If there is no room for it, the reply is lost, as it may be on its way.
                    let _ = self.socket.send_to(&self.buffer[..PREFIX.len() + count], sender);
                }
                true
            }
            // Some systems report here that an earlier reply was refused. Only its client has left.
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Two servers that answer each other would never end.
    fn is_client(&self, sender: SocketAddr) -> bool {
        sender.port() >= CLIENT_PORT_MIN && sender.port() != self.port
    }
}

/// What can have events.
enum Source {
    Listener(TcpListener, Protocol),
    Datagrams(Datagrams),
    Client(Client),
}

struct Server {
    poll: Poll,
    events: Events,
    /// The number of a source's slot is its token, which the kernel returns with each event.
    slots: Slab<Source>,
    /// The sources that can go on without a further event.
    run_queue: BTreeSet<usize>,
    idle_timeout: Duration,
    /// When to look at the deadline of which client.
    deadlines: BTreeSet<(Instant, usize)>,
    /// The listeners that have found no room.
    paused: BTreeSet<usize>,
    /// The sources that have ended in this turn.
    ended: Vec<usize>,
}

impl Server {
    fn open(port: &str, idle_timeout: Duration) -> io::Result<Server> {
        let address = format!("127.0.0.1:{port}").parse().map_err(io::Error::other)?;
        let (poll, slots) = (Poll::new()?, Slab::new());
        let (events, run_queue) = (Events::with_capacity(1024), BTreeSet::new());
        let (deadlines, paused, ended) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let mut server =
            Server { poll, events, slots, run_queue, idle_timeout, deadlines, paused, ended };
        // socket(), SO_REUSEADDR, bind() and listen(). The socket does not block.
        server.add(Source::Listener(TcpListener::bind(address)?, answer))?;
        server.add(Source::Datagrams(Datagrams::bind(address)?))?;
        Ok(server)
    }

    /// Gives a source a slot, and registers it under the slot's number.
    fn add(&mut self, mut source: Source) -> io::Result<usize> {
        let (socket, interest): (&mut dyn event::Source, Interest) = match &mut source {
            Source::Listener(listener, _) => (listener, Interest::READABLE),
            Source::Datagrams(datagrams) => (&mut datagrams.socket, Interest::READABLE),
            Source::Client(client) => (&mut client.stream, Interest::READABLE | Interest::WRITABLE),
        };
        let token = self.slots.vacant_key();
        self.poll.registry().register(socket, Token(token), interest)?;
        Ok(self.slots.insert(source))
    }

    fn run(&mut self) -> io::Result<()> {
        let mut until = None;
        while !self.slots.is_empty() && until.is_none_or(|until| Instant::now() < until) {
            self.wait()?;
            self.note();
            self.drive();
            self.expire();
            self.reap();
            if self.events.iter().any(|event| event.token() == STOP) {
                self.stop();
                until = until.or(Some(Instant::now() + STOP_TIMEOUT));
            }
        }
        Ok(())
    }

    /// Accepts the clients that have waited, and no others. All have a short time to finish.
    fn stop(&mut self) {
        self.idle_timeout = self.idle_timeout.min(STOP_IDLE_TIMEOUT);
        for token in self.slots.iter().map(|(token, _)| token).collect::<Vec<_>>() {
            if let Source::Client(client) = &mut self.slots[token] {
                client.since = Instant::now();
                self.file(token, Instant::now() + self.idle_timeout);
            } else {
                let _all = (0..SOURCES_MAX).all(|_| self.step(token));
                self.end(token);
            }
        }
        self.paused.clear();
        self.reap();
    }

    /// The only place where the program sleeps, and only if nothing can go on.
    fn wait(&mut self) -> io::Result<()> {
        let is_refused = !self.paused.is_empty() && self.slots.len() < SOURCES_MAX;
        let due = self.deadlines.first().map(|(due, _)| *due - Instant::now());
        let due = due.into_iter().chain(is_refused.then_some(ACCEPT_RETRY)).min();
        let timeout = if self.run_queue.is_empty() { due } else { Some(Duration::ZERO) };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.wait(), // by a signal
            result => result,
        }
    }

    /// Remembers what the events report. They will not report it again.
    fn note(&mut self) {
        self.run_queue.append(&mut self.paused);
        for event in self.events.iter().filter(|event| event.token() != STOP) {
            let token = event.token().0;
            self.run_queue.insert(token);
            if let Source::Client(client) = &mut self.slots[token] {
                client.readable |= event.is_readable();
                client.writable |= event.is_writable();
                client.closed |= event.is_read_closed();
            }
        }
    }

    /// Lets each source in the run queue go some steps.
    fn drive(&mut self) {
        for token in mem::take(&mut self.run_queue) {
            let can_go_on = (0..STEPS_MAX).all(|_| self.step(token));
            if can_go_on {
                self.run_queue.insert(token);
            }
        }
    }

    /// Looks at the clients that are due, and ends those whose deadline has come.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(&(_, token)) = self.deadlines.first().filter(|(due, _)| *due <= now) {
            match &self.slots[token] {
                Source::Client(client) if client.deadline(self.idle_timeout) > now => {
                    self.file(token, client.deadline(self.idle_timeout));
                }
                Source::Client(_) | Source::Listener(..) | Source::Datagrams(_) => self.end(token),
            }
        }
    }

    /// Sets when to look at the deadline of a client.
    fn file(&mut self, token: usize, due: Instant) {
        if let Source::Client(client) = &mut self.slots[token] {
            self.deadlines.remove(&(client.filed, token));
            client.filed = due;
            self.deadlines.insert((due, token));
        }
    }

    /// Frees the slots of the sources that have ended. Nothing else does.
    fn reap(&mut self) {
        for token in mem::take(&mut self.ended) {
            self.run_queue.remove(&token);
            self.slots.remove(token); // closes its socket
            self.run_queue.append(&mut self.paused); // Now there is room.
        }
    }

    /// Marks a client as ended. Its slot stays as it is until the end of the turn.
    fn end(&mut self, token: usize) {
        if let Source::Client(client) = &self.slots[token] {
            self.deadlines.remove(&(client.filed, token));
        }
        self.ended.push(token);
    }

    /// Lets a source go a step further. Returns whether it can go on.
    fn step(&mut self, token: usize) -> bool {
        let is_full = self.slots.len() >= SOURCES_MAX;
        let client = match &mut self.slots[token] {
            Source::Client(client) => client,
            Source::Listener(..) if is_full => return !self.paused.insert(token),
            Source::Listener(listener, protocol) => {
                let (accepted, protocol) = (listener.accept(), *protocol);
                let inserted = accepted.and_then(|(stream, _)| self.insert(stream, protocol));
                return match inserted.map_err(|error| error.kind()) {
                    Ok(()) | Err(ErrorKind::ConnectionAborted) => true,
                    Err(ErrorKind::WouldBlock) => false, // the backlog is empty
                    Err(_) => !self.paused.insert(token), // no descriptor or memory (EMFILE)
                };
            }
            Source::Datagrams(datagrams) => return datagrams.step(),
        };
        let is_read = client.can_read();
        if !is_read && !client.can_write() {
            return false;
        }
        let result = if is_read { client.receive() } else { client.send() };
        match result {
            Ok(()) if !client.is_finished() => {
                let can_go_on = client.can_read() || client.can_write();
                let deadline = client.deadline(self.idle_timeout);
                if deadline < client.filed {
                    self.file(token, deadline);
                }
                can_go_on
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                *if is_read { &mut client.readable } else { &mut client.writable } = false;
                client.can_write()
            }
            _ => {
                // After its last step, or because its connection failed.
                self.end(token);
                false
            }
        }
    }

    fn insert(&mut self, stream: TcpStream, protocol: Protocol) -> io::Result<()> {
        let deadline = Instant::now() + self.idle_timeout;
        let mut client = Client::new(stream, protocol, deadline);
        if self.slots.len() >= SERVED_MAX {
            // Our FIN follows, and what the client has sent is discarded (chapter 10).
            client.output.extend(FULL);
            client.sending = Sending::Rest;
        }
        let token = self.add(Source::Client(client))?;
        self.deadlines.insert((deadline, token));
        Ok(())
    }
}

/// Wakes the loop when SIGTERM comes. A signal handler may do very little, so a thread does it.
#[cfg(unix)]
fn wake_on_sigterm(waker: mio::Waker) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM])?;
    std::thread::spawn(move || signals.forever().try_for_each(|_| waker.wake()));
    Ok(())
}

/// Its arguments: how long a client may be idle, in milliseconds, the port for HTTP, and the port.
pub(crate) fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1).rev();
    let port = arguments.next().unwrap_or_else(|| "2000".to_owned());
    let http_port = arguments.next().and_then(|argument| argument.parse::<u16>().ok());
    let idle_timeout = arguments.next().and_then(|argument| argument.parse().ok());
    let idle_timeout = idle_timeout.unwrap_or(600_000);
    let mut server = Server::open(&port, Duration::from_millis(idle_timeout))?;
    if let Some(port) = http_port {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port).into())?;
        server.add(Source::Listener(listener, answer_http))?;
    }
    #[cfg(unix)]
    wake_on_sigterm(mio::Waker::new(server.poll.registry(), STOP)?)?;
    server.run()
}
