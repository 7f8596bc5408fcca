//! The server of chapter 6 in Rust: mio says what is ready, and it is driven until it would block.

use std::collections::HashMap;
use std::env;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const PREFIX: &[u8] = b"echo -> ";

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
}

impl Client {
    fn new(stream: TcpStream) -> Client {
        Client { stream, received: Vec::new(), output: Vec::new(), at_end: false }
    }

    /// Does what can be done now. `WouldBlock` means: nothing can, wait for an event.
    fn step(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            let mut buffer = [0; 1024];
            let count = self.stream.read(&mut buffer)?;
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
        if !self.output.is_empty() {
            // What the kernel does not take stays for the next step.
            let count = self.stream.write(&self.output)?;
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
}

impl Server {
    fn open(port: &str) -> io::Result<Server> {
        let address = format!("127.0.0.1:{port}").parse().map_err(io::Error::other)?;
        // socket(), SO_REUSEADDR, bind() and listen(). The socket does not block.
        let mut listener = TcpListener::bind(address)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
        let sources = HashMap::from([(0, Source::Listener(listener))]);
        Ok(Server { poll, events: Events::with_capacity(1024), sources, next_token: 1 })
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            self.drive();
        }
    }

    /// The only place where the program sleeps: until one of the sources is ready.
    fn wait(&mut self) -> io::Result<()> {
        match self.poll.poll(&mut self.events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.wait(), // by a signal
            result => result,
        }
    }

    /// Lets each source that is ready go on until it would block: nothing reports what is left.
    fn drive(&mut self) {
        let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
        for token in ready {
            while self.step(token) {}
        }
    }

    /// Lets a source go a step further. Returns whether it can go on.
    fn step(&mut self, token: usize) -> bool {
        let client = match self.sources.get_mut(&token) {
            Some(Source::Client(client)) => client,
            Some(Source::Listener(listener)) => {
                let accepted = listener.accept();
                return accepted.and_then(|(stream, _)| self.insert(stream)).is_ok();
            }
            None => return false,
        };
        match client.step() {
            Ok(()) if !client.is_finished() => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            _ => {
                // After its last step, or because its connection failed. This closes its socket.
                self.sources.remove(&token);
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
