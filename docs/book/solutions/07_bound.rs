//! A solution of exercise 7: twenty clients at a time. Others wait in the backlog.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;
use std::{env, mem};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const PREFIX: &[u8] = b"echo -> ";
/// The most steps of a source in one turn of the loop. Then the others are next.
const STEPS_MAX: usize = 16;
/// The most clients at a time.
const CLIENTS_MAX: usize = 20;

/// Takes all whole lines out of `received`, and returns the replies to them.
fn answer(received: &mut Vec<u8>) -> Vec<u8> {
    let end = received.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let lines = received[..end].split_inclusive(|&byte| byte == b'\n');
    let replies = lines.flat_map(|line| [PREFIX, line]).collect::<Vec<_>>().concat();
    received.drain(..end);
    replies
}

/// A connection, and all that has to be known of it while it waits.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    output: Vec<u8>,
    at_end: bool,
    /// What events have reported, and no call has disproved since.
    readable: bool,
    writable: bool,
    /// The end of the stream has arrived: after a short read, more is to be read.
    closed: bool,
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        let (received, output) = (Vec::new(), Vec::new());
        let (at_end, readable, writable, closed) = (false, false, false, false);
        Client { stream, received, output, at_end, readable, writable, closed }
    }

    /// Returns what the next step needs.
    fn needed(&mut self) -> &mut bool {
        if self.output.is_empty() { &mut self.readable } else { &mut self.writable }
    }

    /// Does what can be done now. `WouldBlock` means: nothing can, wait for an event.
    fn step(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            let mut buffer = [0; 1024];
            let count = self.stream.read(&mut buffer)?;
            // A short read proves that nothing is left.
            self.readable = count == buffer.len() || self.closed;
            self.received.extend(&buffer[..count]);
            self.output = answer(&mut self.received);
            if count == 0 {
                // The end of the stream ends the last line.
                self.at_end = true;
                if !self.received.is_empty() {
                    self.output = [PREFIX, &self.received].concat();
                }
            }
        }
        if !self.output.is_empty() && self.writable {
            // What the kernel does not take stays for the next step.
            let count = self.stream.write(&self.output)?;
            self.writable = count == self.output.len();
            self.output.drain(..count);
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.at_end && self.output.is_empty()
    }
}

/// What can have events.
enum Source {
    Listener(TcpListener),
    Client(Client),
}

struct Server {
    poll: Poll,
    events: Events,
    /// By token: the number that the kernel returns with each event.
    sources: HashMap<usize, Source>,
    next_token: usize,
    /// The sources that can go on without a further event.
    run_queue: BTreeSet<usize>,
}

impl Server {
    fn open(port: &str) -> io::Result<Server> {
        let address = format!("127.0.0.1:{port}").parse().map_err(io::Error::other)?;
        // socket(), SO_REUSEADDR, bind() and listen(). The socket does not block.
        let mut listener = TcpListener::bind(address)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
        let sources = HashMap::from([(0, Source::Listener(listener))]);
        let (events, run_queue) = (Events::with_capacity(1024), BTreeSet::new());
        Ok(Server { poll, events, sources, next_token: 1, run_queue })
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            self.note();
            self.drive();
        }
    }

    /// The only place where the program sleeps, and only if nothing can go on.
    fn wait(&mut self) -> io::Result<()> {
        let timeout = if self.run_queue.is_empty() { None } else { Some(Duration::ZERO) };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.wait(), // by a signal
            result => result,
        }
    }

    /// Remembers what the events report. They will not report it again.
    fn note(&mut self) {
        for event in &self.events {
            let token = event.token().0;
            self.run_queue.insert(token);
            if let Some(Source::Client(client)) = self.sources.get_mut(&token) {
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

    /// Lets a source go a step further. Returns whether it can go on.
    fn step(&mut self, token: usize) -> bool {
        let is_full = self.sources.len() > CLIENTS_MAX; // the listener is one of them
        let client = match self.sources.get_mut(&token) {
            Some(Source::Client(client)) => client,
            Some(Source::Listener(_)) if is_full => return false,
            Some(Source::Listener(listener)) => {
                let accepted = listener.accept();
                return accepted.and_then(|(stream, _)| self.insert(stream)).is_ok();
            }
            None => return false,
        };
        if !*client.needed() {
            return false;
        }
        match client.step() {
            Ok(()) if !client.is_finished() => *client.needed(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                *client.needed() = false;
                false
            }
            _ => {
                // After its last step, or because its connection failed. This closes its socket.
                self.sources.remove(&token);
                self.run_queue.insert(0); // the listener may have been ready for long
                false
            }
        }
    }

    fn insert(&mut self, mut stream: TcpStream) -> io::Result<()> {
        let token = self.next_token;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(token), interest)?;
        self.sources.insert(token, Source::Client(Client::new(stream)));
        self.next_token += 1;
        Ok(())
    }
}

pub(crate) fn main() -> io::Result<()> {
    let port = env::args().skip(1).last().unwrap_or_else(|| "2000".to_owned());
    Server::open(&port)?.run()
}
