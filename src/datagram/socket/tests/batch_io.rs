//! What each batch I/O promises: the one that batches, and the one that does not.

#[cfg(target_os = "linux")]
use crate::datagram::batched::MmsgIo;
use crate::datagram::portable::PlainIo;

use super::*;

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
