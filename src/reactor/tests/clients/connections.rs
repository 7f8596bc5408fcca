//! Datagram clients that a connection opens, and what they do to that connection.

use super::*;

/// A stream protocol that opens a datagram client of `peer(7)` for each byte that its peer sends.
struct QueryFrontend {
    endings: Rc<RefCell<Vec<CloseReason>>>,
}

/// The datagram client: sends one query, and passes the answer on to the connection. The answer
/// "bye" closes the connection instead, and "away" aborts it.
struct Query {
    byte: u8,
    connection: ConnectionId,
    endings: Rc<RefCell<Vec<CloseReason>>>,
}

impl Protocol for QueryFrontend {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        cx.connect_datagram(
            peer(7),
            Query { byte: input[0], connection: cx.id(), endings: self.endings.clone() },
        );
        Advance::consumed(1)
    }
}

impl DatagramProtocol for Query {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        replies.send(&[self.byte]);
        replies.set_timer(Duration::from_secs(5));
    }

    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        match datagram.payload {
            b"bye" => replies.connections().close(self.connection),
            b"away" => replies.connections().abort(self.connection),
            answer => replies.connections().send_to(self.connection, answer),
        }
        replies.close();
    }

    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        replies.connections().send_to(self.connection, b"timeout ");
        replies.close();
    }

    fn closed(&mut self, why: CloseReason) {
        self.endings.borrow_mut().push(why);
    }
}

/// A world in which one peer has sent `bytes` to a `QueryFrontend`. Returns it with the peer's
/// stream, and with how the queries have ended so far.
fn world_with_queries(
    seed: u64,
    limits: Limits,
    bytes: &[u8],
) -> (World, usize, Rc<RefCell<Vec<CloseReason>>>) {
    let mut world = World::new(seed, limits, Faults::default());
    world.kernel().bind_peer(peer(7));
    let endings: Rc<RefCell<Vec<CloseReason>>> = Rc::default();
    let shared = endings.clone();
    world.serve(2000, move |_| QueryFrontend { endings: shared.clone() });
    let stream = world.connect(2000, 1);
    world.peer_sends(stream, bytes);
    world.run_until_blocked();
    (world, stream, endings)
}

/// Resets the connection of `stream`, and stops the reactor.
fn reset_and_stop(mut world: World, stream: usize) {
    world.kernel().fail(stream, errno::ECONNRESET);
    world.run_until_blocked();
    world.stop();
}

#[test]
fn connection_queries_over_datagrams_and_gets_the_answers() {
    for_each_seed(|seed| {
        let (mut world, stream, endings) = world_with_queries(seed, Limits::default(), b"ab");
        let mut answer = |to_first: &[u8], to_second: &[u8]| {
            for answer in [to_first, to_second] {
                let mut kernel = world.kernel();
                let (query, from) =
                    kernel.peer_receives_datagram_from(peer(7)).expect("both queries were sent");
                assert_eq!(query.len(), 1);
                kernel.peer_sends_datagram(peer(7), from, answer.to_vec());
            }
            world.run_until_blocked();
            world.peer_receives_all(stream)
        };
        let received = answer(b"eleven", b"twelve");
        assert!(
            [&b"eleventwelve"[..], b"twelveeleven"].contains(&&received[..]),
            "{}",
            received.escape_ascii()
        );
        assert_eq!(
            *endings.borrow(),
            [CloseReason::Finished; 2],
            "closed() is called once for each"
        );
        reset_and_stop(world, stream);
    });
}

#[test]
fn datagram_protocol_commands_reach_an_open_connection_and_no_other() {
    for_each_seed(|seed| {
        for (answer, ending) in [(&b"bye"[..], None), (b"away", Some(CloseReason::Aborted))] {
            let (mut world, stream, _) = world_with_queries(seed, Limits::default(), b"a");
            let (_, from) =
                world.kernel().peer_receives_datagram_from(peer(7)).expect("a query was sent");
            world.kernel().peer_sends_datagram(peer(7), from, answer.to_vec());
            world.run_until_blocked();
            assert_eq!(world.close_reason_of(1), ending);
            let last = if ending.is_none() { PeerReceived::Fin } else { PeerReceived::Reset };
            assert_eq!(world.peer_receives_end(stream), last);
            reset_and_stop(world, stream);
        }
        // The connection closes before the query ends, and another one takes its slot. That one
        // receives nothing.
        let (mut world, stream, endings) = world_with_queries(seed, Limits::default(), b"a");
        world.kernel().fail(stream, errno::ECONNRESET);
        world.run_until_blocked();
        let other = world.connect(2000, 2);
        world.run_until_blocked();
        world.run_for(6_000);
        assert_eq!(
            (world.peer_receives_all(other), &endings.borrow()[..]),
            (vec![], &[CloseReason::Finished][..])
        );
        assert_eq!(
            world.reactor().effects.pending_notifications(),
            0,
            "none for a datagram protocol"
        );
        reset_and_stop(world, other);
    });
}

#[test]
fn datagram_client_beyond_connections_max_ends_as_connect_failed() {
    // One connection and two clients reach the limit. The third client is not opened.
    for_each_seed(|seed| {
        let limits = Limits::default().with_connections_max(3);
        let (mut world, stream, endings) = world_with_queries(seed, limits, b"abc");
        assert_eq!(*endings.borrow(), [CloseReason::ConnectFailed(io::ErrorKind::QuotaExceeded)]);
        world.run_for(6_000);
        assert_eq!(world.peer_receives_all(stream), b"timeout timeout ");
        // Both clients have ended, so another may be opened.
        world.peer_sends(stream, b"d");
        world.run_until_blocked();
        assert_eq!(endings.borrow().len(), 3);
        reset_and_stop(world, stream);
        assert_eq!(endings.borrow()[3..], [CloseReason::Stopped]);
    });
}

#[test]
fn datagram_batch_that_queues_many_effects_resumes_in_the_next_turn() {
    // Each datagram queues as many effects as may wait before they are applied.
    struct Relay(Rc<RefCell<Option<ConnectionId>>>);
    impl DatagramProtocol for Relay {
        fn received(&mut self, _: &Datagram<'_>, replies: &mut Replies<'_>) {
            let to = self.0.borrow().expect("the connection was opened before");
            let count = crate::limits::EFFECTS_HIGH_WATERMARK;
            replies.connections().send_to_all(std::iter::repeat_n(to, count), b"x");
        }
    }
    struct IdRecorder(Rc<RefCell<Option<ConnectionId>>>);
    impl Protocol for IdRecorder {
        fn opened(&mut self, cx: &mut Context<'_>) -> Next {
            *self.0.borrow_mut() = Some(cx.id());
            Next::Continue
        }
        fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
            Advance::consumed(input.len())
        }
    }
    for_each_seed(|seed| {
        let mut world = World::new(seed, Limits::default(), Faults::default());
        let id: Rc<RefCell<Option<ConnectionId>>> = Rc::default();
        let shared = Rc::clone(&id);
        world.serve(2000, move |_| IdRecorder(shared.clone()));
        let server = world.serve_datagrams(DATAGRAMS, Relay(id));
        let stream = world.connect(2000, 1);
        world.run_until_blocked();
        for _ in 0..5 {
            world.kernel().peer_sends_datagram(peer(7), server, b"!".to_vec());
        }
        for _ in 0..5 {
            world.turn();
            assert!(
                world.peer_receives_all(stream).len() <= 2 * crate::limits::EFFECTS_HIGH_WATERMARK,
                "the high watermark, overshot by one call"
            );
        }
        world.run_until_blocked();
        assert_eq!(world.stats().datagrams_in, 5);
        reset_and_stop(world, stream);
    });
}
