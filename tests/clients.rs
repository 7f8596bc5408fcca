//! Datagram clients, and datagram servers that send unasked, over real sockets.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use common::{TIMEOUT, pattern, stay_where_refusals_arrive, turn_until};
use mio_reactor::{Batching, Datagram, DatagramProtocol, Echo, Limits, Reactor, Replies};

const ADDRESSES: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];
const BATCHINGS: [Batching; 3] = [Batching::Plain, Batching::Mmsg, Batching::Gso];
/// How many requests a client sends.
const COUNT: usize = 500;

/// The request of this number. Of every 50, 40 in a row have one size, and the others differ.
fn request(number: usize) -> Vec<u8> {
    pattern(number as u64, if number % 50 < 40 { 100 } else { number })
}

/// What a client has been called with.
#[derive(Default)]
struct Observed {
    answers: Vec<Vec<u8>>,
    errors: Vec<ErrorKind>,
    timers_expired: usize,
}

/// Sends `COUNT` requests, with at most 60 unanswered.
struct WindowClient {
    batching: Batching,
    sent: usize,
    observed: Rc<RefCell<Observed>>,
}

impl WindowClient {
    fn send_requests(&mut self, replies: &mut Replies<'_>) {
        let until = COUNT.min(self.observed.borrow().answers.len() + 60);
        for number in self.sent..until {
            replies.send(&request(number));
        }
        self.sent = self.sent.max(until);
        if self.sent < COUNT {
            replies.wake_when_writable();
        }
    }
}

impl DatagramProtocol for WindowClient {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        self.send_requests(replies);
    }

    fn writable(&mut self, replies: &mut Replies<'_>) {
        self.send_requests(replies);
    }

    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        let mut observed = self.observed.borrow_mut();
        observed.answers.push(datagram.payload.to_vec());
        if observed.answers.len() == COUNT {
            replies.close();
        }
    }

    fn batching(&self) -> Batching {
        self.batching
    }
}

#[test]
fn client_gets_every_answer_in_order_with_every_batching() {
    // The client and the server share a reactor. Every request is echoed whole, in order and once.
    for address in ADDRESSES {
        for batching in BATCHINGS {
            let mut reactor = Reactor::new(Limits::default()).unwrap();
            let server = reactor.bind_datagram(address, Echo::with_prefix("echo -> ")).unwrap();
            let observed: Rc<RefCell<Observed>> = Rc::default();
            let client = WindowClient { batching, sent: 0, observed: observed.clone() };
            reactor.connect_datagram(server, client).unwrap();
            turn_until(&mut reactor, "all answers", |_| observed.borrow().answers.len() == COUNT);
            for (number, answer) in observed.borrow().answers.iter().enumerate() {
                assert!(
                    *answer == [&b"echo -> "[..], &request(number)].concat(),
                    "{batching:?} {address}: answer {number}"
                );
            }
            assert_eq!(reactor.stats().datagrams_unsent, 0);
        }
    }
}

/// Sends two requests, and sends them again every 5 ms.
struct RetryClient(Rc<RefCell<Observed>>, Batching);

impl DatagramProtocol for RetryClient {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        replies.send(b"hello?");
        replies.send(b"are you there?");
        replies.set_timer(Duration::from_millis(5));
    }

    fn received(&mut self, datagram: &Datagram<'_>, _: &mut Replies<'_>) {
        self.0.borrow_mut().answers.push(datagram.payload.to_vec());
    }

    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        self.0.borrow_mut().timers_expired += 1;
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
fn client_gets_connection_refused_and_recovers_when_the_port_opens() {
    if !stay_where_refusals_arrive() {
        return;
    }
    // The port is closed, because it has just been released. Then a socket binds it, receives a
    // request and answers.
    for batching in BATCHINGS {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        let observed: Rc<RefCell<Observed>> = Rc::default();
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        reactor.connect_datagram(address, RetryClient(observed.clone(), batching)).unwrap();
        turn_until(&mut reactor, "the error", |_| !observed.borrow().errors.is_empty());
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        let expired = observed.borrow().timers_expired;
        turn_until(&mut reactor, "the timer", |_| observed.borrow().timers_expired > expired + 1);
        let mut buffer = [0; 64];
        let (length, client) = socket.recv_from(&mut buffer).unwrap();
        assert!(buffer[..length].ends_with(b"?"));
        socket.send_to(b"answer", client).unwrap();
        turn_until(&mut reactor, "the answer", |_| !observed.borrow().answers.is_empty());
        let observed = observed.borrow();
        assert_eq!(observed.answers, [b"answer"]);
        assert!(
            observed.errors.iter().all(|error| *error == ErrorKind::ConnectionRefused),
            "{:?}",
            observed.errors
        );
        assert_eq!((reactor.stats().datagrams_unsent, reactor.stats().panics), (0, 0));
    }
}

#[test]
fn client_receives_from_its_peer_and_from_no_other() {
    // Another socket sends first.
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let observed: Rc<RefCell<Observed>> = Rc::default();
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let client = reactor
        .connect_datagram(peer.local_addr().unwrap(), RetryClient(observed.clone(), Batching::Gso))
        .unwrap();
    other.send_to(b"forged", client).unwrap();
    peer.send_to(b"answer", client).unwrap();
    turn_until(&mut reactor, "the answer", |_| !observed.borrow().answers.is_empty());
    assert_eq!(observed.borrow().answers, [b"answer"]);
}

/// Sends three datagrams to each of the named peers when opened, and answers none.
struct Announcer(Vec<SocketAddr>, Batching);

impl DatagramProtocol for Announcer {
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
fn server_sends_to_peers_that_have_sent_nothing() {
    for address in ADDRESSES {
        for batching in BATCHINGS {
            let peers: Vec<UdpSocket> =
                (0..100).map(|_| UdpSocket::bind(address).unwrap()).collect();
            let named = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
            let mut reactor = Reactor::new(Limits::default()).unwrap();
            let server = reactor.bind_datagram(address, Announcer(named, batching)).unwrap();
            turn_until(&mut reactor, "all datagrams", |stats| stats.datagrams_out == 300);
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

/// Stores `received_at` and `now` for each datagram.
struct ClockRecorder(Rc<RefCell<Vec<(std::time::Instant, std::time::Instant)>>>);

impl DatagramProtocol for ClockRecorder {
    fn received(&mut self, _: &Datagram<'_>, replies: &mut Replies<'_>) {
        self.0.borrow_mut().push((replies.received_at(), replies.now()));
    }
}

#[test]
fn received_at_advances_from_batch_to_batch() {
    let moments: Rc<RefCell<Vec<_>>> = Rc::default();
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let server = reactor.bind_datagram("127.0.0.1:0", ClockRecorder(moments.clone())).unwrap();
    let peer = common::connect_udp(server);
    for count in [2, 4] {
        peer.send(b"one").unwrap();
        peer.send(b"another").unwrap();
        turn_until(&mut reactor, "two datagrams", |stats| stats.datagrams_in == count);
    }
    let moments = moments.borrow();
    assert!(moments.is_sorted());
    assert!(moments[0].0 < moments[3].0, "the second batch was received later");
    assert!(
        moments.iter().all(|(received, now)| received >= now),
        "a turn begins before what is received in it"
    );
}

#[test]
fn client_of_the_unspecified_address_accepts_answers_from_loopback() {
    // connect(2) takes 0.0.0.0 for 127.0.0.1. So the answers, which come from there, are those of
    // the peer.
    for (bound, named) in [("127.0.0.1:0", "0.0.0.0"), ("[::1]:0", "::")] {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        let server = reactor.bind_datagram(bound, Echo::new()).unwrap();
        let observed: Rc<RefCell<Observed>> = Rc::default();
        let client = WindowClient { batching: Batching::Gso, sent: 0, observed: observed.clone() };
        reactor
            .connect_datagram(SocketAddr::new(named.parse().unwrap(), server.port()), client)
            .unwrap();
        turn_until(&mut reactor, "all answers", |_| observed.borrow().answers.len() == COUNT);
    }
}
