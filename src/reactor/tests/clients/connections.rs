//! Datagram clients that a connection opens, and what they do to it.

use super::*;

/// Has each byte that its peer says resolved over datagrams by `peer(7)`, and goes when it is told "bye".
struct Asks {
    endings: Rc<RefCell<Vec<CloseReason>>>,
}

/// Puts one question, and hands the answer on to the connection that wants it.
struct Question {
    asked: u8,
    by: ConnectionId,
    endings: Rc<RefCell<Vec<CloseReason>>>,
}

impl Protocol for Asks {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        cx.connect_datagram(
            peer(7),
            Question { asked: input[0], by: cx.id(), endings: self.endings.clone() },
        );
        Advance::consumed(1)
    }
}

impl DatagramProtocol for Question {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        replies.send(&[self.asked]);
        replies.set_timer(Duration::from_secs(5));
    }

    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        match datagram.payload {
            b"bye" => replies.connections().close(self.by),
            b"away" => replies.connections().abort(self.by),
            answer => replies.connections().send_to(self.by, answer),
        }
        replies.close();
    }

    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        replies.connections().send_to(self.by, b"nobody knows");
        replies.close();
    }

    fn closed(&mut self, why: CloseReason) {
        self.endings.borrow_mut().push(why);
    }
}

/// A world in which one peer has said `words` to a connection that asks over datagrams.
fn asked(seed: u64, limits: Limits, words: &[u8]) -> (World, usize, Rc<RefCell<Vec<CloseReason>>>) {
    let mut world = World::new(seed, limits, Faults::default());
    world.kernel().open_mailbox(peer(7));
    let endings: Rc<RefCell<Vec<CloseReason>>> = Rc::default();
    let shared = endings.clone();
    world.serve(2000, move |_| Asks { endings: shared.clone() });
    let stream = world.connect(2000, 1);
    world.says(stream, words);
    world.settle();
    (world, stream, endings)
}

fn leave(mut world: World, stream: usize) {
    world.kernel().fail(stream, errno::ECONNRESET);
    world.settle();
    world.stop();
}

#[test]
fn a_connection_asks_over_datagrams_and_gets_the_answer() {
    tell(|seed| {
        let (mut world, stream, endings) = asked(seed, Limits::default(), b"ab");
        let mut answer = |to_first: &[u8], to_second: &[u8]| {
            for answer in [to_first, to_second] {
                let mut kernel = world.kernel();
                let (question, from) =
                    kernel.take_mail_and_sender(peer(7)).expect("both have asked");
                assert_eq!(question.len(), 1);
                kernel.peer_sends_datagram(peer(7), from, answer.to_vec());
            }
            world.settle();
            world.hears(stream)
        };
        let heard = answer(b"eleven", b"twelve");
        assert!(
            [&b"eleventwelve"[..], b"twelveeleven"].contains(&&heard[..]),
            "{}",
            heard.escape_ascii()
        );
        assert_eq!(*endings.borrow(), [CloseReason::Finished; 2], "each is told of its end, once");
        leave(world, stream);
    });
}

#[test]
fn what_a_datagram_protocol_asks_of_a_connection_is_done_and_of_one_that_has_gone_is_not() {
    tell(|seed| {
        for (answer, ending) in [(&b"bye"[..], None), (b"away", Some(CloseReason::Aborted))] {
            let (mut world, stream, _) = asked(seed, Limits::default(), b"a");
            let (_, from) = world.kernel().take_mail_and_sender(peer(7)).expect("it has asked");
            world.kernel().peer_sends_datagram(peer(7), from, answer.to_vec());
            world.settle();
            assert_eq!(world.ending_of(1), ending);
            let last = if ending.is_none() { Heard::Fin } else { Heard::Reset };
            assert_eq!(world.hears_at_last(stream), last);
            leave(world, stream);
        }
        // The connection goes before the answer comes, and another takes its place: that one hears nothing.
        let (mut world, stream, endings) = asked(seed, Limits::default(), b"a");
        world.kernel().fail(stream, errno::ECONNRESET);
        world.settle();
        let newcomer = world.connect(2000, 2);
        world.settle();
        world.live(6_000);
        assert_eq!(
            (world.hears(newcomer), &endings.borrow()[..]),
            (vec![], &[CloseReason::Finished][..])
        );
        assert_eq!(world.reactor().effects.pending_notifications(), 0, "nobody is told of it");
        leave(world, newcomer);
    });
}

#[test]
fn a_datagram_client_for_which_there_is_no_room_is_told_of_its_end() {
    // One connection and two clients are all that there may be: the third is not opened.
    tell(|seed| {
        let limits = Limits { connections_max: 3, ..Limits::default() };
        let (mut world, stream, endings) = asked(seed, limits, b"abc");
        assert_eq!(*endings.borrow(), [CloseReason::ConnectFailed(io::ErrorKind::QuotaExceeded)]);
        world.live(6_000);
        assert_eq!(world.hears(stream), b"nobody knowsnobody knows");
        // Now there is room again.
        world.says(stream, b"d");
        world.settle();
        assert_eq!(endings.borrow().len(), 3);
        leave(world, stream);
        assert_eq!(endings.borrow()[3..], [CloseReason::Stopped]);
    });
}

#[test]
fn a_batch_of_datagrams_that_sets_off_much_is_interrupted_and_goes_on() {
    // Each datagram sends as many words to a connection as one may set off before they are done.
    struct Relays(Rc<RefCell<Option<ConnectionId>>>);
    impl DatagramProtocol for Relays {
        fn received(&mut self, _: &Datagram<'_>, replies: &mut Replies<'_>) {
            let to = self.0.borrow().expect("it has come first");
            let count = crate::limits::EFFECTS_HIGH_WATERMARK;
            replies.connections().send_to_all(std::iter::repeat_n(to, count), b"x");
        }
    }
    struct Hears(Rc<RefCell<Option<ConnectionId>>>);
    impl Protocol for Hears {
        fn opened(&mut self, cx: &mut Context<'_>) -> Next {
            *self.0.borrow_mut() = Some(cx.id());
            Next::Continue
        }
        fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
            Advance::consumed(input.len())
        }
    }
    tell(|seed| {
        let mut world = World::new(seed, Limits::default(), Faults::default());
        let id: Rc<RefCell<Option<ConnectionId>>> = Rc::default();
        let shared = Rc::clone(&id);
        world.serve(2000, move |_| Hears(shared.clone()));
        let server = world.answer(DATAGRAMS, Relays(id));
        let stream = world.connect(2000, 1);
        world.settle();
        for _ in 0..5 {
            world.kernel().peer_sends_datagram(peer(7), server, b"!".to_vec());
        }
        for _ in 0..5 {
            world.turn();
            assert!(
                world.hears(stream).len() <= 2 * crate::limits::EFFECTS_HIGH_WATERMARK,
                "the mark, overshot by one call"
            );
        }
        world.settle();
        assert_eq!(world.stats().datagrams_in, 5);
        leave(world, stream);
    });
}
