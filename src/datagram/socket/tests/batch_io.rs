//! What both kinds of batch I/O promise: many datagrams in a call, and one by one.

#[cfg(target_os = "linux")]
use crate::datagram::batched::MmsgIo;
use crate::datagram::portable::PlainIo;

use super::*;
use crate::datagram::receive::Batch;
use crate::datagram::scratch::CallArrays;

trait AnyBatchIo {
    fn receive(
        &self,
        socket: &UdpSocket,
        batch: &mut Batch,
        arrays: &mut CallArrays,
    ) -> io::Result<bool>;
    fn send(
        &self,
        socket: &UdpSocket,
        batch: &Batch,
        replies: &ReplyQueue,
        arrays: &mut CallArrays,
    ) -> io::Result<usize>;
}

#[cfg(target_os = "linux")]
impl AnyBatchIo for MmsgIo {
    fn receive(
        &self,
        socket: &UdpSocket,
        batch: &mut Batch,
        arrays: &mut CallArrays,
    ) -> io::Result<bool> {
        MmsgIo::receive(socket, batch, arrays)
    }

    fn send(
        &self,
        socket: &UdpSocket,
        batch: &Batch,
        replies: &ReplyQueue,
        arrays: &mut CallArrays,
    ) -> io::Result<usize> {
        MmsgIo::send(self, socket, batch, replies, arrays)
    }
}

impl AnyBatchIo for PlainIo {
    fn receive(
        &self,
        socket: &UdpSocket,
        batch: &mut Batch,
        _: &mut CallArrays,
    ) -> io::Result<bool> {
        PlainIo::receive(socket, batch)
    }

    fn send(
        &self,
        socket: &UdpSocket,
        batch: &Batch,
        replies: &ReplyQueue,
        arrays: &mut CallArrays,
    ) -> io::Result<usize> {
        PlainIo::send(socket, batch, replies, arrays)
    }
}

/// A socket with one kind of batch I/O, and as much of `DatagramSocket` as it takes to use that.
struct BatchServer {
    socket: UdpSocket,
    io: Box<dyn AnyBatchIo>,
    batch: Batch,
    replies: ReplyQueue,
    arrays: CallArrays,
    requests: SocketRequests,
    effects: Effects,
    /// Datagrams that the kernel took.
    sent: usize,
    /// Datagrams that the kernel refused.
    skipped: usize,
    /// Calls of `AnyBatchIo::send`.
    send_calls: usize,
}

/// Runs `test` over each kind of batch I/O on each of `addresses`.
fn check_batch_io(addresses: &[&str], test: impl Fn(BatchServer)) {
    type Make = fn(&UdpSocket) -> Box<dyn AnyBatchIo>;
    let makes: &[Make] = &[
        |_| Box::new(PlainIo),
        #[cfg(target_os = "linux")]
        |socket| Box::new(MmsgIo::new(socket, Batching::Gso)),
    ];
    for address in addresses {
        for make in makes {
            test(BatchServer::on(address, make));
        }
    }
}

impl BatchServer {
    fn on(address: &str, make: impl Fn(&UdpSocket) -> Box<dyn AnyBatchIo>) -> BatchServer {
        let socket = bind(address);
        BatchServer {
            io: make(&socket),
            socket,
            batch: Batch::new(),
            replies: ReplyQueue::new(),
            arrays: CallArrays::new(),
            requests: SocketRequests::new(Instant::now()),
            effects: Effects::default(),
            sent: 0,
            skipped: 0,
            send_calls: 0,
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
        wait_until(|| match self.io.receive(&self.socket, &mut self.batch, &mut self.arrays) {
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

    /// Queues an echo of each datagram of the batch. Returns the datagrams, each with its sender.
    fn answer(&mut self, prefix: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut received = Vec::new();
        let (unanswered, buffers, mut replies) = self.begin_answering();
        for (number, sender, messages) in unanswered.senders() {
            replies.set_recipient(number);
            for message in messages {
                assert!(!message.is_truncated);
                let mut next = Some(message.first());
                while let Some(span) = next {
                    next = message.next(span);
                    received.push((sender.peer.unwrap(), span.of(buffers).to_vec()));
                    replies.set_current(span);
                    replies.echo(prefix);
                }
            }
        }
        received
    }

    /// Sends all that waits, as `DatagramSocket` does.
    fn send(&mut self) {
        while !self.replies.is_empty() {
            self.send_calls += 1;
            match self.io.send(&self.socket, &self.batch, &self.replies, &mut self.arrays) {
                Ok(batches) => self.sent += self.replies.mark_sent(batches).0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) if is_gso_refusal(&error) && self.replies.split_segments(false) => {}
                Err(_) => self.skipped += self.replies.mark_sent(1).0,
            }
        }
    }

    /// Echoes `count` datagrams. Returns them, each with its sender.
    fn echo(&mut self, count: usize, prefix: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut received = Vec::new();
        while received.len() < count {
            self.receive();
            received.extend(self.answer(prefix));
            self.send();
        }
        assert_eq!(received.len(), count);
        received
    }
}

fn is_gso_refusal(error: &io::Error) -> bool {
    errno::classify_send_datagram(error) == DatagramError::GsoUnsupported
}

#[test]
fn datagrams_of_all_sizes_and_senders_are_answered_whole() {
    // Three senders alternate. The sizes range from 0 to the most that UDP can carry. The datagrams
    // arrive in one batch or in several.
    let sizes = [0, 1, 1224, 1225, 9000, 0, DATAGRAM_BYTES_MAX - PREFIX.len(), 7];
    check_batch_io(&[V4, V6], |mut server| {
        let peers = [0, 1, 2].map(|_| peer_of(server.address()));
        let sent = [0, 1, 2].map(|peer| sizes.map(|size| payload(size + peer, size)));
        for number in 0..sizes.len() {
            for (peer, datagrams) in peers.iter().zip(&sent) {
                peer.send(&datagrams[number]).unwrap();
            }
        }
        let received = server.echo(3 * sizes.len(), PREFIX);
        for (peer, datagrams) in peers.iter().zip(&sent) {
            let own = peer.local_addr().unwrap();
            let from_peer = received.iter().filter(|(from, _)| *from == own);
            assert!(from_peer.map(|(_, datagram)| datagram).eq(datagrams), "from {own}, in order");
            check_replies(peer, PREFIX, datagrams);
        }
        assert_eq!((server.sent, server.skipped), (3 * sizes.len(), 0));
    });
}

#[test]
fn receive_reports_a_full_batch_a_short_one_and_an_empty_socket() {
    // After a full batch more datagrams may wait. After a short one none do.
    check_batch_io(&[V4], |mut server| {
        let peer = peer_of(server.address());
        (0..=DATAGRAM_BATCH)
            .for_each(|number| assert_eq!(peer.send(&payload(number, 5)).unwrap(), 5));
        wait_for_arrival();
        assert!(server.receive());
        assert_eq!(server.batch.messages.len(), DATAGRAM_BATCH);
        assert!(!server.receive());
        assert_eq!(server.batch.messages.len(), 1);
        let result = server.io.receive(&server.socket, &mut server.batch, &mut server.arrays);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(server.batch.messages.is_empty(), "no datagram is received twice");
    });
}

// pitfall: 27
#[test]
fn gso_batch_of_replies_arrives_as_single_datagrams() {
    // 50 replies of one size and a shorter one share a GSO batch, where there is GSO. The peer does
    // not see it.
    check_batch_io(&[V4, V6], |mut server| {
        let peer = peer_of(server.address());
        let datagrams: Vec<Vec<u8>> =
            (0..51).map(|number| payload(number, if number < 50 { 100 } else { 99 })).collect();
        datagrams
            .iter()
            .for_each(|datagram| assert_eq!(peer.send(datagram).unwrap(), datagram.len()));
        wait_for_arrival();
        server.receive();
        server.answer(PREFIX);
        assert_eq!(server.replies.pending_len(), 1);
        server.send();
        check_replies(&peer, PREFIX, &datagrams);
        assert_eq!((server.sent, server.skipped), (51, 0));
    });
}

// pitfall: 42, 48
#[test]
fn unsendable_reply_is_skipped_and_the_others_are_sent() {
    // Between two replies that can be sent is one to a peer without an address.
    check_batch_io(&[V4, V6], |mut server| {
        let peer = peer_of(server.address());
        peer.send(b"hello").unwrap();
        server.receive();
        server.batch.push_message(None, LocalAddress::Fixed, 0, 0, false);
        let (_, _, mut replies) = server.begin_answering();
        for (number, reply) in [(0, &b"before"[..]), (1, b"unsendable"), (0, b"after")] {
            replies.set_recipient(number);
            replies.send(reply);
        }
        server.send();
        assert_eq!((server.sent, server.skipped), (2, 1));
        check_replies(&peer, b"", [&b"before".to_vec(), &b"after".to_vec()]);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn batch_costs_one_call_each_way_and_gro_receives_it_as_one_message() {
    // One server is the other's peer. First one datagram is echoed. Then 64 of one size: their
    // replies come back as one GSO batch, which the kernel does not cut for a receiver with GRO.
    // Then 64 of different sizes, which cannot share a GSO batch.
    for address in [V4, V6] {
        let server =
            || BatchServer::on(address, |socket| Box::new(MmsgIo::new(socket, Batching::Gso)));
        let (mut one, mut other) = (server(), server());
        let sizes = [vec![64], vec![64; DATAGRAM_BATCH], (64..64 + DATAGRAM_BATCH).collect()];
        for (round, (sizes, messages)) in sizes.into_iter().zip([1, 1, DATAGRAM_BATCH]).enumerate()
        {
            let datagrams: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(number, &size)| payload(number, size)).collect();
            for datagram in &datagrams {
                assert_eq!(one.socket.send_to(datagram, other.address()).unwrap(), datagram.len());
            }
            wait_for_arrival();
            assert_eq!(other.echo(datagrams.len(), PREFIX).len(), datagrams.len());
            assert_eq!(other.send_calls, round + 1);
            one.receive();
            assert_eq!(one.batch.messages.len(), messages);
            let received = one.answer(b"");
            assert!(received.iter().all(|(from, _)| *from == other.address()));
            let expected = datagrams.iter().map(|datagram| [PREFIX, datagram].concat());
            assert!(received.into_iter().map(|(_, datagram)| datagram).eq(expected));
            one.replies.mark_sent(one.replies.pending_len());
        }
    }
}
