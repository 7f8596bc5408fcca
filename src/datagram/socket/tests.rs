//! Datagrams over real sockets on loopback.
//!
//! First what both exchanges promise, the one that batches and the one that does not: each story is told over each of
//! them, over IPv4 and IPv6. Then the whole socket, as a reactor drives it, over the exchange of this system.

use std::net::UdpSocket as Peer;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::*;
#[cfg(target_os = "linux")]
use crate::datagram::batched::MmsgIo;
use crate::datagram::portable::PlainIo;
use crate::datagram::receive::Unanswered;
use crate::echo::Echo;
use crate::limits::{
    DATAGRAM_BATCH, DATAGRAM_BYTES_MAX, Limits, REPLIES_BYTES_MAX, REPLIES_HIGH_WATERMARK_BYTES,
    REPLY_OVERHEAD_BYTES,
};
use crate::sys::{self, LocalAddress};

/// The longest that anything here waits.
const PATIENCE: Duration = Duration::from_secs(10);
const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";
const PREFIX: &[u8] = b"echo -> ";

// ---- peers

fn bind(address: &str) -> UdpSocket {
    sys::bind_datagram(address.parse().unwrap(), Limits::default().udp_buffer_bytes).unwrap()
}

/// Somebody who talks with `server` and hears nobody else.
fn peer_of(server: SocketAddr) -> Peer {
    let peer = Peer::bind(SocketAddr::new(server.ip(), 0)).unwrap();
    peer.connect(server).unwrap();
    SockRef::from(&peer).set_recv_buffer_size(Limits::default().udp_buffer_bytes).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    peer
}

/// `length` bytes that no other `number` has.
fn payload(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| ((number + 1) * 0x9E37_79B1 + at * 0x85EB_CA77).to_le_bytes()[3]).collect()
}

/// Each of `datagrams` comes to `peer` behind `prefix`, whole and in order.
#[track_caller]
fn check_replies<'d>(peer: &Peer, prefix: &[u8], datagrams: impl IntoIterator<Item = &'d Vec<u8>>) {
    let mut buffer = vec![0; 65_536];
    for (number, datagram) in datagrams.into_iter().enumerate() {
        let length = peer
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("reply {number} does not come: {error}"));
        assert!(
            buffer[..length] == [prefix, datagram].concat(),
            "reply {number}, of {length} bytes, is another one"
        );
    }
}

/// Waits until `is_done`, and tries again and again.
#[track_caller]
fn wait_until(mut is_done: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_done() {
        assert!(Instant::now() < give_up, "it has waited for {PATIENCE:?}");
        thread::yield_now();
    }
}

/// Returns when all that was sent before has arrived. Loopback delivers in order: so once a witness has heard what was sent
/// last, the others have heard all that came before.
fn let_all_arrive() {
    let witness = Peer::bind(V4).unwrap();
    witness.connect(witness.local_addr().unwrap()).unwrap();
    witness.set_read_timeout(Some(PATIENCE)).unwrap();
    witness.send(b"I am last.").unwrap();
    witness.recv(&mut [0; 16]).unwrap();
}

// ---- what both exchanges promise

trait AnyExchange {
    fn receive(&mut self, socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool>;
    fn send(
        &mut self,
        socket: &UdpSocket,
        batch: &Batch,
        replies: &ReplyQueue,
    ) -> io::Result<usize>;
}

#[cfg(target_os = "linux")]
impl AnyExchange for MmsgIo {
    fn receive(&mut self, socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool> {
        MmsgIo::receive(self, socket, batch)
    }

    fn send(
        &mut self,
        socket: &UdpSocket,
        batch: &Batch,
        replies: &ReplyQueue,
    ) -> io::Result<usize> {
        MmsgIo::send(self, socket, batch, replies)
    }
}

impl AnyExchange for PlainIo {
    fn receive(&mut self, socket: &UdpSocket, batch: &mut Batch) -> io::Result<bool> {
        PlainIo::receive(self, socket, batch)
    }

    fn send(
        &mut self,
        socket: &UdpSocket,
        batch: &Batch,
        replies: &ReplyQueue,
    ) -> io::Result<usize> {
        PlainIo::send(self, socket, batch, replies)
    }
}

/// A socket with an exchange, and as much of `DatagramSocket` as it takes to try that.
struct Server {
    socket: UdpSocket,
    exchange: Box<dyn AnyExchange>,
    batch: Batch,
    replies: ReplyQueue,
    requests: SocketRequests,
    effects: Effects,
    /// Datagrams that the kernel took, and that it did not.
    sent: usize,
    skipped: usize,
    /// What `send` was asked.
    calls: usize,
}

/// Tells `story` of each exchange on each of `addresses`.
fn check_exchanges(addresses: &[&str], story: impl Fn(Server)) {
    type Make = fn(&UdpSocket) -> Box<dyn AnyExchange>;
    let exchanges: &[Make] = &[
        |_| Box::new(PlainIo::new()),
        #[cfg(target_os = "linux")]
        |socket| Box::new(MmsgIo::new(socket, Batching::Gso)),
    ];
    for address in addresses {
        for make in exchanges {
            story(Server::on(address, make));
        }
    }
}

impl Server {
    fn on(address: &str, make: impl Fn(&UdpSocket) -> Box<dyn AnyExchange>) -> Server {
        let socket = bind(address);
        Server {
            exchange: make(&socket),
            socket,
            batch: Batch::new(),
            replies: ReplyQueue::new(),
            requests: SocketRequests::new(Instant::now()),
            effects: Effects::default(),
            sent: 0,
            skipped: 0,
            calls: 0,
        }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn begin_answering(&mut self) -> (Unanswered<'_>, &[u8], Replies<'_>) {
        Replies::answering(&self.batch, &mut self.replies, &mut self.requests, &mut self.effects)
    }

    /// Receives what has arrived, at most a batch of it. Returns whether the batch is full.
    fn receive(&mut self) -> bool {
        let mut is_full = false;
        wait_until(|| match self.exchange.receive(&self.socket, &mut self.batch) {
            Ok(result) => {
                is_full = result;
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        });
        is_full
    }

    /// Puts an echo of each datagram of the batch behind what waits. Returns what was heard, and from whom.
    fn answer(&mut self, prefix: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut heard = Vec::new();
        let (unanswered, buffers, mut replies) = self.begin_answering();
        for (number, sender, messages) in unanswered.senders() {
            replies.set_recipient(number);
            for message in messages {
                assert!(!message.is_truncated);
                let mut next = Some(message.first());
                while let Some(place) = next {
                    next = message.next(place);
                    heard.push((sender.peer.unwrap(), place.of(buffers).to_vec()));
                    replies.set_current(place);
                    replies.echo(prefix);
                }
            }
        }
        heard
    }

    /// Sends all that waits, as `DatagramSocket` does.
    fn send(&mut self) {
        while !self.replies.is_empty() {
            self.calls += 1;
            match self.exchange.send(&self.socket, &self.batch, &self.replies) {
                Ok(trains) => self.sent += self.replies.mark_sent(trains),
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) if refuses(&error) && self.replies.split_segments(false) => {}
                Err(_) => self.skipped += self.replies.mark_sent(1),
            }
        }
    }

    /// Echoes `count` datagrams. Returns what was heard.
    fn echo(&mut self, count: usize, prefix: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut heard = Vec::new();
        while heard.len() < count {
            self.receive();
            heard.extend(self.answer(prefix));
            self.send();
        }
        assert_eq!(heard.len(), count);
        heard
    }
}

fn refuses(error: &io::Error) -> bool {
    errno::classify_send_datagram(error) == DatagramError::GsoUnsupported
}

#[test]
fn datagrams_of_all_sizes_from_several_senders_are_heard_and_answered_whole() {
    // Three senders take turns, with datagrams from nothing to the most that UDP can carry, in one batch or several.
    let sizes = [0, 1, 1224, 1225, 9000, 0, DATAGRAM_BYTES_MAX - PREFIX.len(), 7];
    check_exchanges(&[V4, V6], |mut server| {
        let peers = [0, 1, 2].map(|_| peer_of(server.address()));
        let sent = [0, 1, 2].map(|peer| sizes.map(|size| payload(size + peer, size)));
        for number in 0..sizes.len() {
            for (peer, datagrams) in peers.iter().zip(&sent) {
                peer.send(&datagrams[number]).unwrap();
            }
        }
        let heard = server.echo(3 * sizes.len(), PREFIX);
        for (peer, datagrams) in peers.iter().zip(&sent) {
            let own = peer.local_addr().unwrap();
            let heard = heard.iter().filter(|(from, _)| *from == own).map(|(_, datagram)| datagram);
            assert!(heard.eq(datagrams), "all of {own}'s, in order");
            check_replies(peer, PREFIX, datagrams);
        }
        assert_eq!((server.sent, server.skipped), (3 * sizes.len(), 0));
    });
}

#[test]
fn a_full_batch_is_said_to_be_full_and_an_empty_socket_to_be_empty() {
    // The first says nothing of what is left, the second says that nothing is.
    check_exchanges(&[V4], |mut server| {
        let peer = peer_of(server.address());
        (0..=DATAGRAM_BATCH)
            .for_each(|number| assert_eq!(peer.send(&payload(number, 5)).unwrap(), 5));
        let_all_arrive();
        assert!(server.receive());
        assert_eq!(server.batch.messages.len(), DATAGRAM_BATCH);
        assert!(!server.receive());
        assert_eq!(server.batch.messages.len(), 1);
        let result = server.exchange.receive(&server.socket, &mut server.batch);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(server.batch.messages.is_empty(), "nothing is heard twice");
    });
}

#[test]
fn a_train_of_replies_arrives_as_single_datagrams() {
    // 50 replies of one size and a shorter one leave in one train, where there are trains. The peer knows nothing of it.
    check_exchanges(&[V4, V6], |mut server| {
        let peer = peer_of(server.address());
        let datagrams: Vec<Vec<u8>> =
            (0..51).map(|number| payload(number, if number < 50 { 100 } else { 99 })).collect();
        datagrams
            .iter()
            .for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), datagram.len()));
        let_all_arrive();
        server.receive();
        server.answer(PREFIX);
        assert_eq!(server.replies.pending_len(), 1);
        server.send();
        check_replies(&peer, PREFIX, &datagrams);
        assert_eq!((server.sent, server.skipped), (51, 0));
    });
}

#[test]
fn an_unsendable_reply_is_skipped_alone() {
    // There is one whose peer the kernel never named, between two that can be sent.
    check_exchanges(&[V4, V6], |mut server| {
        let peer = peer_of(server.address());
        peer.send(b"hello").unwrap();
        server.receive();
        server.batch.push_message(None, LocalAddress::Fixed, 0, 0, false);
        let (_, _, mut replies) = server.begin_answering();
        for (number, reply) in [(0, &b"before"[..]), (1, b"to nobody"), (0, b"behind")] {
            replies.set_recipient(number);
            replies.send(reply);
        }
        server.send();
        assert_eq!((server.sent, server.skipped), (2, 1));
        check_replies(&peer, b"", [&b"before".to_vec(), &b"behind".to_vec()]);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_batch_costs_one_call_each_way_and_a_train_is_received_in_one_piece() {
    // One server is the other's peer. One datagram goes there and back; then 64 of one size, which come back as a train that
    // the kernel does not cut for one who can take it whole; then 64 of different sizes, which no train can hold.
    for address in [V4, V6] {
        let server = || Server::on(address, |socket| Box::new(MmsgIo::new(socket, Batching::Gso)));
        let (mut one, mut other) = (server(), server());
        let sizes = [vec![64], vec![64; DATAGRAM_BATCH], (64..64 + DATAGRAM_BATCH).collect()];
        for (round, (sizes, messages)) in sizes.into_iter().zip([1, 1, DATAGRAM_BATCH]).enumerate()
        {
            let datagrams: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(number, &size)| payload(number, size)).collect();
            for datagram in &datagrams {
                assert_eq!(one.socket.send_to(datagram, other.address()).unwrap(), datagram.len());
            }
            let_all_arrive();
            assert_eq!(other.echo(datagrams.len(), PREFIX).len(), datagrams.len());
            assert_eq!(other.calls, round + 1);
            one.receive();
            assert_eq!(one.batch.messages.len(), messages);
            let heard = one.answer(b"");
            assert!(heard.iter().all(|(from, _)| *from == other.address()));
            let expected = datagrams.iter().map(|datagram| [PREFIX, datagram].concat());
            assert!(heard.into_iter().map(|(_, datagram)| datagram).eq(expected));
            one.replies.mark_sent(one.replies.pending_len());
        }
    }
}

// ---- the whole socket

/// A socket that echoes with a prefix, and what a reactor would lend it.
struct Service {
    source: DatagramSocket,
    ready: Readiness,
    state: LoopState,
    effects: Effects,
}

impl Service {
    fn on(address: &str) -> Service {
        Service::of(Echo::with_prefix(PREFIX), address)
    }

    fn of(protocol: impl DatagramProtocol + 'static, address: &str) -> Service {
        let mut state = LoopState::new(Limits::default());
        let socket = bind(address);
        let bound = socket.local_addr().unwrap();
        let source = DatagramSocket::new(socket, bound, None, Box::new(protocol), &state);
        state.datagram_addresses.push(source.address);
        let ready = Readiness { writable: true, ..Readiness::NOT_READY };
        Service { source, ready, state, effects: Effects::default() }
    }

    fn begin_answering(&mut self) -> (Unanswered<'_>, &[u8], Replies<'_>) {
        let DatagramSocket { batch, replies, requests, .. } = &mut self.source;
        Replies::answering(batch, replies, requests, &mut self.effects)
    }

    /// Somebody whom the kernel has named as the sender of a datagram, which is forgotten: so what is pretended to come from
    /// there can be answered.
    fn known_peer(&mut self) -> Peer {
        let peer = peer_of(self.source.address);
        peer.send(b"It is me.").unwrap();
        let_all_arrive();
        self.ready.readable = true;
        self.source.receive(&mut self.ready, &mut self.state.stats);
        assert_eq!(self.source.batch.senders[0].peer, Some(peer.local_addr().unwrap()));
        peer
    }

    /// Puts `bytes` to the protocol as if `peer` had sent them, in datagrams of `segment` that the kernel has joined. The
    /// replies wait.
    fn pretend(
        &mut self,
        peer: Option<SocketAddr>,
        asked: LocalAddress,
        segment: usize,
        bytes: &[u8],
    ) {
        self.source.batch.clear();
        self.source.batch.buffers[..bytes.len()].copy_from_slice(bytes);
        self.source.batch.push_message(peer, asked, bytes.len(), segment, false);
        self.source.answer_batch(&mut self.state, &mut self.effects);
    }

    /// Drives it once. Whatever the test: what it says of itself afterwards is true.
    fn drive(&mut self) -> Outcome {
        let outcome = self.source.drive(&mut self.ready, &mut self.state, &mut self.effects);
        assert_eq!(
            outcome == Outcome::Unfinished,
            self.source.can_progress(&self.ready),
            "{outcome:?}"
        );
        assert!(!(self.source.wants_write() && self.ready.writable), "it sends what it can");
        outcome
    }

    /// The kernel says that it can be read, and it is driven.
    fn drive_readable(&mut self) -> Outcome {
        self.ready.readable = true;
        self.drive()
    }

    /// Drives it until it has heard `count` datagrams in all.
    fn hear(&mut self, count: u64) {
        wait_until(|| {
            self.drive_readable();
            self.state.stats.datagrams_in >= count
        });
        assert_eq!(self.state.stats.datagrams_in, count);
    }

    /// What was counted: replies sent, datagrams refused, replies too long, replies that the kernel refused.
    fn counted(&self) -> (u64, u64, u64, u64) {
        let stats = &self.state.stats;
        (
            stats.datagrams_out,
            stats.datagrams_dropped,
            stats.datagrams_too_long,
            stats.datagrams_unsent,
        )
    }
}

#[test]
fn an_empty_socket_is_asked_once() {
    // Spurious news: the kernel has nothing, and that is remembered.
    let mut service = Service::on(V4);
    assert_eq!(service.drive_readable(), Outcome::Blocked);
    assert!(!service.ready.readable);
    assert_eq!(service.counted(), (0, 0, 0, 0));
    assert_eq!(service.state.stats.datagram_errors, 0);
}

#[test]
fn a_short_batch_shows_that_the_socket_is_empty() {
    // It is not asked again before the kernel says so.
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    peer.send(b"hello").unwrap();
    let_all_arrive();
    service.ready.readable = true;
    service.source.receive(&mut service.ready, &mut service.state.stats);
    assert_eq!((service.source.batch.messages.len(), service.ready.readable), (1, false));
}

#[test]
fn the_empty_datagram_gets_the_bare_prefix() {
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    peer.send(b"").unwrap();
    service.hear(1);
    check_replies(&peer, PREFIX, [&Vec::new()]);
}

#[test]
fn a_flood_is_served_one_budget_at_a_time() {
    // 300 have arrived. Four batches of 64 are answered, then it is somebody else's turn; no edge comes for the other 44.
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    let datagrams: Vec<Vec<u8>> = (0..300).map(|number| payload(number, 10)).collect();
    datagrams.iter().for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), 10));
    let_all_arrive();
    assert_eq!(service.drive_readable(), Outcome::Unfinished);
    assert_eq!((service.state.stats.datagrams_in, service.counted()), (256, (256, 0, 0, 0)));
    check_replies(&peer, PREFIX, &datagrams[..256]);
    assert_eq!(service.drive(), Outcome::Blocked);
    assert_eq!((service.state.stats.datagrams_in, service.counted()), (300, (300, 0, 0, 0)));
    check_replies(&peer, PREFIX, &datagrams[256..]);
}

#[test]
fn while_replies_wait_nothing_is_received() {
    // The kernel cannot be written. The second datagram stays with it until the reply to the first is gone.
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    service.ready.writable = false;
    peer.send(b"first").unwrap();
    service.hear(1);
    peer.send(b"second").unwrap();
    let_all_arrive();
    assert_eq!(service.drive_readable(), Outcome::Blocked);
    assert!(service.source.wants_write());
    assert_eq!((service.state.stats.datagrams_in, service.counted()), (1, (0, 0, 0, 0)));
    service.ready.writable = true;
    assert_eq!(service.drive(), Outcome::Blocked);
    assert_eq!((service.state.stats.datagrams_in, service.counted()), (2, (2, 0, 0, 0)));
    check_replies(&peer, PREFIX, [&b"first".to_vec(), &b"second".to_vec()]);
}

#[test]
fn a_reply_that_no_datagram_can_hold_is_counted_and_its_neighbours_arrive() {
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    let datagrams =
        [payload(1, 5), payload(2, DATAGRAM_BYTES_MAX - PREFIX.len() + 1), payload(3, 5)];
    datagrams.iter().for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), datagram.len()));
    service.hear(3);
    check_replies(&peer, PREFIX, [&datagrams[0], &datagrams[2]]);
    assert_eq!(service.counted(), (2, 0, 1, 0));
}

#[test]
fn who_cannot_be_answered_is_refused_and_the_neighbours_are_answered() {
    // A datagram from port 0, one from nobody we know, one cut short, and a train of three from port 0. None is put to the
    // protocol, and all are counted.
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    peer.send(b"hello").unwrap();
    service.ready.writable = false;
    service.hear(1);
    let known = service.source.batch.senders[0].peer;
    let port_0 = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    service.source.batch.clear();
    for (peer, segment, is_cut) in
        [(port_0, 5, false), (None, 5, false), (known, 5, true), (port_0, 2, false)]
    {
        service.source.batch.push_message(peer, LocalAddress::Fixed, 5, segment, is_cut);
    }
    service.source.answer_batch(&mut service.state, &mut service.effects);
    assert_eq!(service.counted(), (0, 6, 0, 0));
    service.ready.writable = true;
    assert_eq!(service.drive(), Outcome::Blocked);
    assert_eq!(service.counted(), (1, 6, 0, 0));
    check_replies(&peer, PREFIX, [&b"hello".to_vec()]);
}

#[test]
fn a_socket_does_not_answer_itself() {
    // It would never stop. The sender is forged easily; here it is true.
    for address in [V4, V6] {
        let mut service = Service::on(address);
        let own = service.source.address;
        service.source.socket.send_to(b"Is anybody there?", own).unwrap();
        service.hear(1);
        assert_eq!(service.counted(), (0, 1, 0, 0));
    }
}

#[test]
fn two_sockets_of_one_reactor_do_not_answer_each_other() {
    // One datagram, forged in the name of the second, would set them talking. Here it is true. The second may have all addresses,
    // which are ours then, as long as they have its port.
    for (one, other, own) in [
        (V4, V4, "127.0.0.1"),
        (V4, "0.0.0.0:0", "127.0.0.1"),
        (V6, V6, "::1"),
        (V6, "[::]:0", "::1"),
    ] {
        let mut service = Service::on(one);
        let other = bind(other);
        service.state.datagram_addresses.push(other.local_addr().unwrap());
        other.send_to(b"Is anybody there?", service.source.address).unwrap();
        service.hear(1);
        assert_eq!(service.counted(), (0, 1, 0, 0), "{own}");
        service.state.datagram_addresses.pop();
        other.send_to(b"Is anybody there?", service.source.address).unwrap();
        service.hear(2);
        assert_eq!(service.counted(), (1, 1, 0, 0), "{own}, when it is somebody else's");
    }
}

#[test]
fn a_stranger_with_the_port_of_a_socket_on_all_addresses_is_answered() {
    // The system knows that the address is none of this machine's: it is kept for examples (RFC 5737, RFC 3849). Where it
    // lets anybody's address be bound, nobody can tell.
    for (on, stranger) in [("0.0.0.0:0", "192.0.2.1"), ("[::]:0", "2001:db8::1")] {
        let mut service = Service::on(on);
        let stranger = SocketAddr::new(stranger.parse().unwrap(), service.source.address.port());
        if sys::is_own_address(stranger).unwrap() {
            continue;
        }
        service.pretend(Some(stranger), LocalAddress::Fixed, 5, b"hello");
        assert_eq!(
            (service.counted(), service.source.replies.pending_len()),
            ((0, 0, 0, 0), 1),
            "{stranger}"
        );
    }
}

#[test]
fn whose_address_cannot_be_told_from_ours_is_refused() {
    // A link-local address is bound on an interface, and there is none of that number: the trial fails, for another reason
    // than that the address is not ours.
    let mut service = Service::on("[::]:0");
    let port = service.source.address.port();
    let stranger = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), port, 0, u32::MAX);
    service.pretend(Some(stranger.into()), LocalAddress::Fixed, 5, b"hello");
    assert_eq!(service.counted(), (0, 1, 0, 0));
    let (_, why) = service.source.last_dropped.unwrap();
    assert!(why.to_string().starts_with("perhaps an own address: "), "{why}");
}

#[test]
fn nobody_is_answered_at_the_ports_of_small_services_unless_all_are_to_be() {
    // Echo answers echo without end. Whoever has such a port for another reason can be let in.
    let mut service = Service::on(V4);
    service.ready.writable = false;
    for (count, port) in [(1, 7), (2, 13), (3, 17), (4, 19)] {
        service.pretend(
            Some(SocketAddr::from(([192, 0, 2, 1], port))),
            LocalAddress::Fixed,
            5,
            b"hello",
        );
        assert_eq!(
            (service.counted(), service.source.replies.pending_len()),
            ((0, count, 0, 0), 0)
        );
    }
    service.state.limits.unanswered_ports.clear();
    service.pretend(Some(SocketAddr::from(([192, 0, 2, 1], 7))), LocalAddress::Fixed, 5, b"hello");
    assert_eq!((service.counted(), service.source.replies.pending_len()), ((0, 4, 0, 0), 1));
    // Port 0 is not a matter of choice.
    service.pretend(Some(SocketAddr::from(([192, 0, 2, 1], 0))), LocalAddress::Fixed, 5, b"hello");
    assert_eq!((service.counted(), service.source.replies.pending_len()), ((0, 5, 0, 0), 1));
}

#[test]
fn what_is_sent_to_many_or_in_the_name_of_no_host_is_not_answered() {
    let host = SocketAddr::from(([192, 0, 2, 1], 1000));
    let mut service = Service::on(V4);
    service.pretend(Some(host), LocalAddress::Group, 5, b"hello");
    assert_eq!(service.counted(), (0, 1, 0, 0));
    for (count, ip) in (2..).zip(["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"]) {
        service.pretend(
            Some(SocketAddr::new(ip.parse().unwrap(), 1000)),
            LocalAddress::Fixed,
            5,
            b"hello",
        );
        assert_eq!(
            (service.counted(), service.source.replies.pending_len()),
            ((0, count, 0, 0), 0),
            "{ip}"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_neighbour_with_the_same_port_is_somebody_else() {
    // It has another address, on the same machine.
    let mut service = Service::on(V4);
    let address = service.source.address;
    let peer = Peer::bind(SocketAddr::from(([127, 0, 0, 2], address.port()))).unwrap();
    peer.connect(address).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.send(b"hello").unwrap();
    service.hear(1);
    check_replies(&peer, PREFIX, [&b"hello".to_vec()]);
}

#[test]
fn a_socket_on_all_addresses_does_not_answer_itself_either() {
    // Its own address is not the one that it was bound to, but any of this machine, with its port.
    for (address, own) in
        [("0.0.0.0:0", "127.0.0.1"), ("0.0.0.0:0", "127.1.2.3"), ("[::]:0", "::1")]
    {
        let mut service = Service::on(address);
        let own = SocketAddr::new(own.parse().unwrap(), service.source.address.port());
        service.source.socket.send_to(b"Is anybody there?", own).unwrap();
        service.hear(1);
        assert_eq!(service.counted(), (0, 1, 0, 0), "{own}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_reply_leaves_from_the_address_that_was_asked() {
    // The socket has all addresses. One peer asks several in turn. A question to everybody is not answered at all.
    // Nothing but the address tells which of them has replied, so only replies from the same one may share a train.
    let check = |on: &str, asked: &[&str], answers: &[&str], trains: usize| {
        let mut service = Service::on(on);
        let port = service.source.address.port();
        let peer = Peer::bind(SocketAddr::new(service.source.address.ip(), 0)).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.set_broadcast(true).unwrap();
        for round in 1..=2 {
            service.ready.writable = false;
            for ip in asked {
                peer.send_to(b"Who are you?", SocketAddr::new(ip.parse().unwrap(), port)).unwrap();
            }
            let_all_arrive();
            assert_eq!(service.drive_readable(), Outcome::Blocked);
            assert_eq!(
                service.source.replies.pending_len(),
                trains,
                "trains, which the kernel has not refused"
            );
            service.ready.writable = true;
            assert_eq!(service.drive(), Outcome::Blocked);
            assert_eq!(
                service.state.stats.datagrams_dropped,
                round * (asked.len() - answers.len()) as u64
            );
            for ip in answers {
                let mut reply = [0; 64];
                let (length, from) = peer.recv_from(&mut reply).unwrap();
                assert_eq!(
                    (from, &reply[..length]),
                    (SocketAddr::new(ip.parse().unwrap(), port), &b"echo -> Who are you?"[..])
                );
            }
        }
    };
    let asked = ["127.1.2.3", "127.0.0.1", "127.1.2.3", "127.1.2.3", "127.255.255.255"];
    check("0.0.0.0:0", &asked, &asked[..4], 3);
    check("[::]:0", &["::1", "::1"], &["::1", "::1"], 1);
}

#[test]
#[cfg(target_os = "linux")]
fn a_train_that_cannot_be_sent_at_all_is_given_up_as_a_whole() {
    // There is one to a peer whom the kernel never named. That is no reason to send no more trains.
    let mut service = Service::on(V4);
    let peer = peer_of(service.source.address);
    service.ready.writable = false;
    peer.send(b"hello").unwrap();
    service.hear(1);
    service.source.batch.push_message(None, LocalAddress::Fixed, 5, 5, false);
    let (_, _, mut replies) = service.begin_answering();
    for number in [1, 1, 1, 0, 0] {
        replies.set_recipient(number);
        replies.send(b"the same size");
    }
    service.ready.writable = true;
    assert_eq!(service.source.replies.pending_len(), 3);
    assert_eq!(service.drive(), Outcome::Blocked);
    assert_eq!(
        service.counted(),
        (3, 1, 0, 3),
        "nor is what the nameless one has sent put to the protocol"
    );
    check_replies(
        &peer,
        b"",
        [&b"echo -> hello".to_vec(), &b"the same size".to_vec(), &b"the same size".to_vec()],
    );
    let (_, _, mut replies) = service.begin_answering();
    replies.set_recipient(0);
    (0..2).for_each(|_| replies.send(b"the same size"));
    assert_eq!(service.source.replies.pending_len(), 1);
}

#[test]
#[cfg(target_os = "linux")]
fn a_train_that_the_kernel_refuses_leaves_datagram_by_datagram() {
    // Without checksums the kernel cuts no trains (udp_send_skb), as is the case with some devices. All arrives nevertheless,
    // and no further train is tried.
    let mut service = Service::on(V4);
    set_option(&service.source.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1);
    let peer = peer_of(service.source.address);
    let datagrams: Vec<Vec<u8>> = (0..20).map(|number| payload(number, 100)).collect();
    for (round, trains) in [(1, 1), (2, 20)] {
        service.ready.writable = false;
        datagrams.iter().for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), 100));
        let_all_arrive();
        assert_eq!(service.drive_readable(), Outcome::Blocked);
        assert_eq!(service.source.replies.pending_len(), trains, "in round {round}");
        service.ready.writable = true;
        assert_eq!(service.drive(), Outcome::Blocked);
        check_replies(&peer, PREFIX, &datagrams);
        assert_eq!(service.counted(), (20 * round, 0, 0, 0));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_single_reply_that_the_kernel_refuses_is_skipped_although_it_looks_like_a_refused_train() {
    // The socket is told to cut all it sends every 8 bytes. The kernel does not cut 2,000 bytes in that many (EINVAL); what is
    // no longer than 8, with its prefix, is not cut at all.
    let mut service = Service::on(V4);
    set_option(&service.source.socket, libc::SOL_UDP, libc::UDP_SEGMENT, 8);
    let peer = peer_of(service.source.address);
    let datagrams = [Vec::new(), payload(1, 2000), Vec::new(), payload(2, 2000), Vec::new()];
    datagrams.iter().for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), datagram.len()));
    service.hear(5);
    assert_eq!(service.counted(), (3, 0, 0, 2));
    check_replies(&peer, PREFIX, [&Vec::new(), &Vec::new(), &Vec::new()]);
    // And trains are still tried.
    service.ready.writable = false;
    (0..2).for_each(|_| assert_eq!(peer.send(b"").unwrap(), 0));
    let_all_arrive();
    assert_eq!(service.drive_readable(), Outcome::Blocked);
    assert_eq!(service.source.replies.pending_len(), 1);
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // neither std nor socket2 has these options
fn set_option(socket: &UdpSocket, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    use std::os::fd::AsRawFd;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap();
    // SAFETY: the pointer and the length describe `value`, which lives through the call; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    assert_eq!(result, 0, "option {level}/{name}: {}", io::Error::last_os_error());
}

#[test]
#[cfg(target_os = "linux")]
fn whatever_a_send_fails_with_costs_one_reply() {
    // The third of ten replies, each to another peer, meets each error in turn. If it is only a matter of waiting, all arrive.
    for errno in 1..=133 {
        let mut service = Service::on(V4);
        let address = service.source.address;
        let batch = &mut service.source.batch;
        for number in 1..=10 {
            batch.push_message(
                Some(SocketAddr::from(([192, 0, 2, number], 1000))),
                LocalAddress::Fixed,
                5,
                5,
                false,
            );
        }
        service.source.answer_batch(&mut service.state, &mut service.effects);
        let (mut taken, mut calls) = (0, 0);
        let mut fails = true;
        let mut kernel = |replies: &ReplyQueue| {
            calls += 1;
            assert!(calls < 10, "it spins on error {errno}");
            if taken == 2 && std::mem::take(&mut fails) {
                return Err(io::Error::from_raw_os_error(errno));
            }
            let some = if fails { 2 } else { replies.pending_len() };
            taken += some;
            Ok(some)
        };
        let stats = &mut service.state.stats;
        send_replies(&mut service.source.replies, &mut service.ready, stats, address, &mut kernel);
        let waits = service.source.wants_write();
        assert_eq!(
            waits,
            io::Error::from_raw_os_error(errno).kind() == ErrorKind::WouldBlock,
            "error {errno}"
        );
        service.ready.writable = true;
        send_replies(&mut service.source.replies, &mut service.ready, stats, address, &mut kernel);
        let is_lost = !waits && errno != libc::EINTR;
        let expected = if is_lost { (9, 0, 0, 1) } else { (10, 0, 0, 0) };
        assert_eq!(service.counted(), expected, "error {errno}");
    }
}

// ---- what a protocol may do

/// Calls a function for each datagram.
struct Answers<F>(F);

impl<F: FnMut(&Datagram<'_>, &mut Replies<'_>)> DatagramProtocol for Answers<F> {
    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        self.0(datagram, replies);
    }
}

#[test]
fn what_waits_is_sent_before_more_is_answered() {
    // Each of 40 bytes is answered with as much as a datagram can hold. As long as the kernel takes nothing, the high mark is
    // overshot by one reply at most; after that, none is lost. All came as one train, which is answered bit by bit.
    let large = payload(1, DATAGRAM_BYTES_MAX);
    let mut service = Service::of(
        Answers(move |_: &Datagram<'_>, replies: &mut Replies<'_>| replies.send(&large)),
        V4,
    );
    let peer = service.known_peer();
    service.ready.writable = false;
    service.pretend(Some(peer.local_addr().unwrap()), LocalAddress::Fixed, 1, &[1; 40]);
    let composed = service.source.replies.copied_bytes();
    assert!(composed <= REPLIES_HIGH_WATERMARK_BYTES + DATAGRAM_BYTES_MAX, "{composed} bytes");
    assert_eq!(service.state.stats.datagrams_in, service.source.replies.pending_len() as u64);
    assert!(service.state.stats.datagrams_in < 40);
    assert_eq!(service.drive(), Outcome::Blocked);
    assert!(!service.source.is_done());
    service.ready.writable = true;
    wait_until(|| service.drive() == Outcome::Blocked && service.source.is_done());
    assert_eq!((service.state.stats.datagrams_in, service.counted()), (40, (40, 0, 0, 0)));
}

#[test]
fn one_datagram_is_not_answered_without_end() {
    // The first is answered 100 times with as much as fits, the second 1,000,000 times with nothing, which has to be listed
    // all the same. What is beyond the bound is counted, and the third is answered as if nothing had been.
    let large = payload(1, DATAGRAM_BYTES_MAX);
    let mut datagrams = 0;
    let answers = move |_: &Datagram<'_>, replies: &mut Replies<'_>| {
        datagrams += 1;
        match datagrams {
            1 => (0..100).for_each(|_| replies.send(&large)),
            2 => (0..1_000_000).for_each(|_| replies.send(b"")),
            _ => replies.send(b"three"),
        }
    };
    let mut service = Service::of(Answers(answers), V4);
    let peer = service.known_peer();
    let from = Some(peer.local_addr().unwrap());
    service.ready.writable = false;
    let mut lost = 0;
    for (replies, listed) in
        [(100, DATAGRAM_BYTES_MAX + REPLY_OVERHEAD_BYTES), (1_000_000, REPLY_OVERHEAD_BYTES)]
    {
        let fitting = REPLIES_BYTES_MAX / listed;
        service.pretend(from, LocalAddress::Fixed, 5, b"hello");
        assert_eq!(service.source.replies.pending_len(), fitting);
        lost += (replies - fitting) as u64;
        assert_eq!(service.counted(), (0, 0, 0, lost));
        service.source.replies.mark_sent(fitting);
    }
    service.pretend(from, LocalAddress::Fixed, 5, b"hello");
    service.ready.writable = true;
    assert_eq!(service.drive(), Outcome::Blocked);
    check_replies(&peer, b"", [&b"three".to_vec()]);
    assert_eq!(service.counted(), (1, 0, 0, lost));
}

#[test]
fn a_panic_costs_the_one_datagram() {
    // At whichever place of a train it happens, or in an empty datagram, or in each: the others are answered, once, and all are
    // counted. What had been replied before the panic is sent.
    let answers = |datagram: &Datagram<'_>, replies: &mut Replies<'_>| {
        replies.echo(if datagram.payload == b"P" { b"before " } else { b"" });
        assert_ne!(datagram.payload, b"P", "on purpose");
    };
    for train in [&b"P"[..], b"Pabc", b"abcP", b"abPPcdP", b"PPPP"] {
        let mut service = Service::of(Answers(answers), V4);
        let peer = service.known_peer();
        service.pretend(Some(peer.local_addr().unwrap()), LocalAddress::Fixed, 1, train);
        let panics = train.iter().filter(|&&byte| byte == b'P').count() as u64;
        let stats = &service.state.stats;
        assert_eq!((stats.datagrams_in, stats.panics), (train.len() as u64, panics));
        assert!(service.source.batch.is_answered());
        assert_eq!(service.drive(), Outcome::Blocked);
        let expected =
            train.iter().map(|&byte| if byte == b'P' { b"before P".to_vec() } else { vec![byte] });
        check_replies(&peer, b"", &expected.collect::<Vec<_>>());
    }
}

#[test]
fn a_panic_harms_no_neighbour() {
    // Three peers and one of them, in the middle, sends what the protocol does not survive: an empty datagram.
    let answers = |datagram: &Datagram<'_>, replies: &mut Replies<'_>| {
        assert!(!datagram.payload.is_empty(), "on purpose");
        replies.echo(PREFIX);
    };
    let mut service = Service::of(Answers(answers), V4);
    let peers = [0, 1, 2].map(|_| peer_of(service.source.address));
    for (number, peer) in peers.iter().enumerate() {
        let bytes = payload(number, 5);
        for datagram in [&bytes[..], &bytes[..if number == 1 { 0 } else { 5 }], &bytes[..]] {
            assert_eq!(peer.send(datagram).unwrap(), datagram.len());
        }
    }
    service.hear(9);
    for (number, peer) in peers.iter().enumerate() {
        check_replies(peer, PREFIX, &vec![payload(number, 5); if number == 1 { 2 } else { 3 }]);
    }
    assert_eq!((service.state.stats.panics, service.counted()), (1, (8, 0, 0, 0)));
}

// ---- one peer only

#[test]
fn a_connected_socket_hears_its_peer_at_whatever_port_and_refuses_a_stranger() {
    // A stranger's datagram may have come in the moment before the socket was connected. The peer is a small service.
    let peer = SocketAddr::from(([127, 0, 0, 1], 7));
    let mut state = LoopState::new(Limits::default());
    let socket = sys::connect_datagram(peer, Limits::default().udp_buffer_bytes).unwrap();
    let address = socket.local_addr().unwrap();
    let source = DatagramSocket::new(socket, address, Some(peer), Box::new(Echo::new()), &state);
    state.datagram_addresses.push(peer);
    let mut service =
        Service { source, ready: Readiness::NOT_READY, state, effects: Effects::default() };
    let strangers = [SocketAddr::from(([127, 0, 0, 1], 8)), SocketAddr::from(([127, 0, 0, 2], 7))];
    for (count, stranger) in (1..).zip(strangers.map(Some).into_iter().chain([None])) {
        service.pretend(stranger, LocalAddress::Fixed, 5, b"hello");
        assert_eq!(
            (service.counted(), service.source.replies.pending_len()),
            ((0, count, 0, 0), 0),
            "{stranger:?}"
        );
    }
    service.pretend(Some(peer), LocalAddress::Fixed, 5, b"hello");
    assert_eq!((service.counted(), service.source.replies.pending_len()), ((0, 3, 0, 0), 1));
}
