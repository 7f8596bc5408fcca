//! A DNS forwarder: passes queries over UDP and TCP on to one server, and its answers back.
//!
//! ```text
//! cargo run --example dns 127.0.0.1:5300 9.9.9.9:53 127.0.0.1:5301
//! dig @127.0.0.1 -p 5300 example.com
//! dig @127.0.0.1 -p 5300 +tcp example.com
//! curl http://127.0.0.1:5301/              what has become of the queries
//! ```
//!
//! Over UDP, anyone can send an answer with a forged source (RFC 5452). So each query goes on with
//! a random id, and with capitals at random places of its name, which servers repeat. An answer is
//! taken only if all of it fits. (A resolver also takes a random port for each query. Here, all
//! leave from one socket.) A query that is not answered in time is answered all the same: the
//! server has failed.
//!
//! Over TCP, there is nothing to guess and nothing to change: it is relayed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio_reactor::{Datagram, DatagramProtocol, Http, Limits, Reactor, Relay, Replies, Response};

/// After this time without an answer, and at most `TIMER_PERIOD` more, a query is answered with
/// SERVFAIL. A TCP connection ends if so long no byte moves.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
const TIMER_PERIOD: Duration = Duration::from_secs(1);
/// The most queries that await an answer. Further ones are answered with SERVFAIL.
const PENDING_MAX: usize = 4096;

/// Where the question begins: behind the header (RFC 1035 section 4.1.1).
const HEADER_BYTES: usize = 12;
/// In the third byte of the header: this is an answer.
const IS_ANSWER: u8 = 0x80;
/// Response codes in the fourth byte.
const FORMAT_ERROR: u8 = 1;
const SERVER_FAILURE: u8 = 2;

/// The UDP socket, for the clients and for the server.
struct Forwarder {
    server: SocketAddr,
    /// The queries that await an answer, by the ids that they have been given.
    pending: HashMap<u16, Pending>,
    random: RandomState,
    hashed: u64,
    counts: Rc<RefCell<Counts>>,
}

/// What has become of the queries over UDP.
#[derive(Clone, Debug, Default)]
struct Counts {
    asked: u64,
    answered: u64,
    /// Answered with SERVFAIL: late, or too many.
    failed: u64,
    /// From the server's address, and no answer to a pending query.
    unexpected: u64,
}

struct Pending {
    client: SocketAddr,
    /// Header and question, as they came and as they went on.
    query: Vec<u8>,
    sent: Vec<u8>,
    deadline: Instant,
}

impl DatagramProtocol for Forwarder {
    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        if datagram.peer == self.server {
            self.answer(datagram.payload, replies);
        } else {
            self.ask(datagram, replies);
        }
    }

    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        let now = replies.now();
        for (_, late) in self.pending.extract_if(|_, pending| pending.deadline <= now) {
            self.counts.borrow_mut().failed += 1;
            replies.send_to(late.client, &failure(&late.query, SERVER_FAILURE));
        }
        if !self.pending.is_empty() {
            replies.set_timer(TIMER_PERIOD);
        }
    }
}

impl Forwarder {
    fn ask(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        let query = datagram.payload;
        let Some(end) = question_end(query) else {
            if let Some(header) = query.get(..HEADER_BYTES).filter(|header| is_query(header)) {
                replies.send(&failure(header, FORMAT_ERROR));
            }
            return; // two servers that answer what is no query may answer each other for ever
        };
        self.counts.borrow_mut().asked += 1;
        if self.pending.len() >= PENDING_MAX {
            self.counts.borrow_mut().failed += 1;
            return replies.send(&failure(&query[..end], SERVER_FAILURE));
        }
        let (id, capitals) = loop {
            // A hash with a secret key of random bytes: no peer can guess the next one.
            let random = self.random.hash_one(self.hashed).to_be_bytes();
            self.hashed += 1;
            let id = u16::from_be_bytes([random[0], random[1]]);
            if !self.pending.contains_key(&id) {
                break (id, u64::from_be_bytes(random)); // the id is the upper end
            }
        };
        let mut sent = query.to_vec();
        sent[..2].copy_from_slice(&id.to_be_bytes());
        let name = sent[HEADER_BYTES..end - 4].iter_mut();
        for (number, letter) in name.filter(|byte| byte.is_ascii_alphabetic()).enumerate() {
            *letter ^= if capitals >> (number % 48) & 1 == 1 { 0x20 } else { 0 };
        }
        replies.send_to(self.server, &sent);
        if self.pending.is_empty() {
            replies.set_timer(TIMER_PERIOD);
        }
        sent.truncate(end);
        let (client, query) = (datagram.peer, query[..end].to_vec());
        let deadline = replies.now() + QUERY_TIMEOUT;
        self.pending.insert(id, Pending { client, query, sent, deadline });
    }

    /// Passes an answer on if it fits a query. Its TC bit, which makes the client ask again over
    /// TCP, and everything else behind the question is the server's.
    fn answer(&mut self, message: &[u8], replies: &mut Replies<'_>) {
        let Some(id) = message.first_chunk().map(|id| u16::from_be_bytes(*id)) else { return };
        let is_refused = is_format_error(message);
        let is_expected = |asked: &&Pending| is_refused || is_answer(message, &asked.sent);
        let Some(pending) = self.pending.get(&id).filter(is_expected) else {
            self.counts.borrow_mut().unexpected += 1; // late, repeated or forged
            return;
        };
        let (query, mut answer) = (&pending.query, message.to_vec());
        if is_refused {
            answer = failure(query, FORMAT_ERROR);
        } else {
            answer[..2].copy_from_slice(&query[..2]);
            answer[HEADER_BYTES..query.len()].copy_from_slice(&query[HEADER_BYTES..]);
        }
        replies.send_to(pending.client, &answer);
        self.pending.remove(&id);
        self.counts.borrow_mut().answered += 1;
    }
}

fn is_query(header: &[u8]) -> bool {
    header[2] & IS_ANSWER == 0
}

/// Returns where the question of a query ends. `None`: this is no query with one question.
fn question_end(query: &[u8]) -> Option<usize> {
    if query.get(4..6)? != [0, 1] || !is_query(query) {
        return None;
    }
    let mut at = HEADER_BYTES;
    while *query.get(at)? != 0 {
        let label = usize::from(query[at]);
        at += 1 + Some(label).filter(|length| *length < 64)?; // 64 and more are no lengths
    }
    let end = at + 1 + 4; // behind the name: a type and a class
    (end <= query.len()).then_some(end)
}

/// Returns whether `message` answers the query of which header and question are `asked`.
fn is_answer(message: &[u8], asked: &[u8]) -> bool {
    message.len() >= asked.len()
        && message[..2] == asked[..2]
        && !is_query(message)
        && message[4..6] == [0, 1]
        && message[HEADER_BYTES..asked.len()] == asked[HEADER_BYTES..]
}

/// Returns whether a server says that it cannot read a query, and so does not repeat the question.
/// Only the id tells which query. An attacker that guesses it can make one fail, and no more.
fn is_format_error(message: &[u8]) -> bool {
    let is_bare = message.len() == HEADER_BYTES && message[4..] == [0; 8];
    is_bare && !is_query(message) && message[3] & 0x0F == FORMAT_ERROR
}

/// Returns an answer without records to a query of which `query` is the header, or also the
/// question.
fn failure(query: &[u8], code: u8) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= IS_ANSWER;
    answer[3] = code;
    let questions = u8::from(query.len() > HEADER_BYTES);
    answer[4..HEADER_BYTES].copy_from_slice(&[0, questions, 0, 0, 0, 0, 0, 0]);
    answer
}

/// Serves over UDP and TCP at `address`, and asks `server`. At `status`, counts are served over
/// HTTP. Returns both addresses.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    server: SocketAddr,
    status: SocketAddr,
) -> io::Result<(SocketAddr, SocketAddr)> {
    let (pending, random) = (HashMap::new(), RandomState::new());
    let counts: Rc<RefCell<Counts>> = Rc::default();
    let shown = Rc::clone(&counts);
    let forwarder = Forwarder { server, pending, random, hashed: 0, counts };
    let address = reactor.bind_datagram(address, forwarder)?;
    reactor.listen(address, move |_peer| Relay::to([server], QUERY_TIMEOUT))?;
    let status = reactor.listen(
        status,
        Http::each(move |_, _| Response::text(format!("{:?}\n", shown.borrow()))),
    )?;
    Ok((address, status))
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let addresses: Vec<_> = std::env::args().skip(1).map(|text| text.parse()).collect();
    let [Ok(address), Ok(server), Ok(status)] = addresses[..] else {
        return Err(io::Error::other("usage: dns LISTEN SERVER STATUS, each an IP:PORT"));
    };
    let limits = Limits::default()
        .with_connect_timeout(QUERY_TIMEOUT)
        .with_first_byte_timeout(QUERY_TIMEOUT)
        .with_idle_timeout(QUERY_TIMEOUT);
    let mut reactor = Reactor::new(limits)?;
    let (address, status) = listen(&mut reactor, address, server, status)?;
    writeln!(io::stdout(), "dns {address} -> {server}\nhttp {status}")?;
    reactor.run()?;
    Ok(())
}
