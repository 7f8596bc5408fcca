//! Clients over datagrams, and servers that speak unasked, over real sockets.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use common::{TIMEOUT, pattern, turn_until};
use mio_reactor::{Batching, Datagram, DatagramProtocol, Echo, Limits, Reactor, Replies};

const ADDRESSES: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];
const BATCHINGS: [Batching; 3] = [Batching::Plain, Batching::Mmsg, Batching::Gso];
/// Of the datagrams that are exchanged: some of one size in a row, and others.
const COUNT: usize = 500;

fn question(number: usize) -> Vec<u8> {
    pattern(number as u64, if number % 50 < 40 { 100 } else { number })
}

#[derive(Default)]
struct Heard {
    answers: Vec<Vec<u8>>,
    errors: Vec<ErrorKind>,
    elapsed: usize,
}

/// Sends its questions, some dozens at a time.
struct Client {
    batching: Batching,
    asked: usize,
    heard: Rc<RefCell<Heard>>,
}

impl Client {
    fn ask(&mut self, replies: &mut Replies<'_>) {
        let until = COUNT.min(self.heard.borrow().answers.len() + 60);
        for number in self.asked..until {
            replies.send(&question(number));
        }
        self.asked = self.asked.max(until);
        if self.asked < COUNT {
            replies.wake_when_writable();
        }
    }
}

impl DatagramProtocol for Client {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        self.ask(replies);
    }

    fn writable(&mut self, replies: &mut Replies<'_>) {
        self.ask(replies);
    }

    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        let mut heard = self.heard.borrow_mut();
        heard.answers.push(datagram.payload.to_vec());
        if heard.answers.len() == COUNT {
            replies.close();
        }
    }

    fn batching(&self) -> Batching {
        self.batching
    }
}

#[test]
fn a_client_exchanges_all_its_datagrams_however_they_cross() {
    // Client and server live in one reactor. All questions come back whole, in order and once.
    for address in ADDRESSES {
        for batching in BATCHINGS {
            let mut reactor = Reactor::new(Limits::default()).unwrap();
            let server = reactor
                .bind_datagram(address.parse().unwrap(), Echo::with_prefix("echo -> "))
                .unwrap();
            let heard: Rc<RefCell<Heard>> = Rc::default();
            let client = Client { batching, asked: 0, heard: heard.clone() };
            reactor.connect_datagram(server, client).unwrap();
            turn_until(&mut reactor, "all answers", |_| heard.borrow().answers.len() == COUNT);
            for (number, answer) in heard.borrow().answers.iter().enumerate() {
                assert!(
                    *answer == [&b"echo -> "[..], &question(number)].concat(),
                    "{batching:?} {address}: answer {number}"
                );
            }
            assert_eq!(reactor.stats().datagrams_unsent, 0);
        }
    }
}

/// Asks one question, and again every few milliseconds.
struct Asks(Rc<RefCell<Heard>>, Batching);

impl DatagramProtocol for Asks {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        replies.send(b"Is anybody there?");
        replies.send(b"Hello?");
        replies.set_timer(Duration::from_millis(5));
    }

    fn received(&mut self, datagram: &Datagram<'_>, _: &mut Replies<'_>) {
        self.0.borrow_mut().answers.push(datagram.payload.to_vec());
    }

    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        self.0.borrow_mut().elapsed += 1;
        self.opened(replies);
    }

    fn error_received(&mut self, error: &io::Error, _: &mut Replies<'_>) {
        self.0.borrow_mut().errors.push(error.kind());
    }

    fn batching(&self) -> Batching {
        self.1
    }
}

#[test]
fn a_client_is_told_that_nobody_has_the_port_and_finds_who_takes_it_later() {
    // The port is free: it has just been given back. Then somebody has it, and hears both questions and answers one.
    for batching in BATCHINGS {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        let heard: Rc<RefCell<Heard>> = Rc::default();
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        reactor.connect_datagram(address, Asks(heard.clone(), batching)).unwrap();
        turn_until(&mut reactor, "the refusal", |_| !heard.borrow().errors.is_empty());
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        let elapsed = heard.borrow().elapsed;
        turn_until(&mut reactor, "the alarm", |_| heard.borrow().elapsed > elapsed + 1);
        let mut buffer = [0; 64];
        let (length, client) = socket.recv_from(&mut buffer).unwrap();
        assert!(buffer[..length].ends_with(b"?"));
        socket.send_to(b"Yes.", client).unwrap();
        turn_until(&mut reactor, "the answer", |_| !heard.borrow().answers.is_empty());
        let heard = heard.borrow();
        assert_eq!(heard.answers, [b"Yes."]);
        assert!(
            heard.errors.iter().all(|error| *error == ErrorKind::ConnectionRefused),
            "{:?}",
            heard.errors
        );
        assert_eq!((reactor.stats().datagrams_unsent, reactor.stats().panics), (0, 0));
    }
}

#[test]
fn a_client_hears_its_peer_and_no_stranger() {
    // The stranger speaks first.
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let heard: Rc<RefCell<Heard>> = Rc::default();
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let client = reactor
        .connect_datagram(peer.local_addr().unwrap(), Asks(heard.clone(), Batching::Gso))
        .unwrap();
    stranger.send_to(b"Buy now!", client).unwrap();
    peer.send_to(b"Yes.", client).unwrap();
    turn_until(&mut reactor, "the answer", |_| !heard.borrow().answers.is_empty());
    assert_eq!(heard.borrow().answers, [b"Yes."]);
}

/// Tells those who are named, and nobody who asks.
struct News(Vec<SocketAddr>, Batching);

impl DatagramProtocol for News {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        for &peer in &self.0 {
            (0..3_u8).for_each(|number| replies.send_to(peer, &[number; 50]));
        }
    }

    fn received(&mut self, _: &Datagram<'_>, _: &mut Replies<'_>) {}

    fn batching(&self) -> Batching {
        self.1
    }
}

#[test]
fn a_server_speaks_to_whom_it_names_without_having_heard_of_them() {
    for address in ADDRESSES {
        for batching in BATCHINGS {
            let peers: Vec<UdpSocket> =
                (0..100).map(|_| UdpSocket::bind(address).unwrap()).collect();
            let named = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
            let mut reactor = Reactor::new(Limits::default()).unwrap();
            let server =
                reactor.bind_datagram(address.parse().unwrap(), News(named, batching)).unwrap();
            turn_until(&mut reactor, "all news", |stats| stats.datagrams_out == 300);
            for peer in peers {
                peer.set_read_timeout(Some(TIMEOUT)).unwrap();
                for number in 0..3 {
                    let mut buffer = [0; 64];
                    assert_eq!(peer.recv_from(&mut buffer).unwrap(), (50, server), "{batching:?}");
                    assert_eq!(buffer[..50], [number; 50]);
                }
            }
        }
    }
}

/// Notes when its batches came, and what `now` was.
struct Clocks(Rc<RefCell<Vec<(std::time::Instant, std::time::Instant)>>>);

impl DatagramProtocol for Clocks {
    fn received(&mut self, _: &Datagram<'_>, replies: &mut Replies<'_>) {
        self.0.borrow_mut().push((replies.received_at(), replies.now()));
    }
}

#[test]
fn all_of_a_batch_was_received_at_one_moment_and_another_batch_later() {
    let moments: Rc<RefCell<Vec<_>>> = Rc::default();
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let server =
        reactor.bind_datagram("127.0.0.1:0".parse().unwrap(), Clocks(moments.clone())).unwrap();
    let peer = common::connect_udp(server);
    for count in [2, 4] {
        peer.send(b"one").unwrap();
        peer.send(b"and another").unwrap();
        turn_until(&mut reactor, "two datagrams", |stats| stats.datagrams_in == count);
    }
    let moments = moments.borrow();
    assert!(moments.is_sorted());
    assert!(moments[0].0 < moments[3].0, "it is later than at first");
    assert!(
        moments.iter().all(|(received, now)| received >= now),
        "a turn begins before what is received in it"
    );
}

#[test]
fn who_asks_this_machine_without_naming_an_address_of_it_hears_the_answer() {
    // connect(2) takes 0.0.0.0 for 127.0.0.1, and what comes from there is not a stranger's.
    for (bound, named) in [("127.0.0.1:0", "0.0.0.0"), ("[::1]:0", "::")] {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        let server = reactor.bind_datagram(bound.parse().unwrap(), Echo::new()).unwrap();
        let heard: Rc<RefCell<Heard>> = Rc::default();
        let client = Client { batching: Batching::Gso, asked: 0, heard: heard.clone() };
        reactor
            .connect_datagram(SocketAddr::new(named.parse().unwrap(), server.port()), client)
            .unwrap();
        turn_until(&mut reactor, "all answers", |_| heard.borrow().answers.len() == COUNT);
    }
}
