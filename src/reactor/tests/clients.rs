//! Stories of datagram protocols that speak without having been asked: clients mostly, and a server that does.
//!
//! Each is told twenty times, so that the simulated socket exchanges its datagrams both by single calls and by batches.

use super::*;
use crate::protocol::datagram::Datagram;
use crate::protocol::datagram::Replies;
use crate::testing::simulated::errno;

const DATAGRAMS: u16 = 2001;

/// What a protocol was called for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Opened,
    Heard(Vec<u8>),
    Elapsed,
    Drained,
    Failed(io::ErrorKind),
}

/// Does what a function says, and writes down what it was called for.
struct Script<F> {
    act: F,
    calls: Rc<RefCell<Vec<Call>>>,
}

impl<F: FnMut(&Call, &mut Replies<'_>)> Script<F> {
    fn play(&mut self, call: &Call, replies: &mut Replies<'_>) {
        self.calls.borrow_mut().push(call.clone());
        (self.act)(call, replies);
    }
}

impl<F: FnMut(&Call, &mut Replies<'_>)> DatagramProtocol for Script<F> {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        self.play(&Call::Opened, replies);
    }

    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        self.play(&Call::Heard(datagram.payload.to_vec()), replies);
    }

    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        self.play(&Call::Elapsed, replies);
    }

    fn writable(&mut self, replies: &mut Replies<'_>) {
        self.play(&Call::Drained, replies);
    }

    fn error_received(&mut self, error: &io::Error, replies: &mut Replies<'_>) {
        self.play(&Call::Failed(error.kind()), replies);
    }
}

/// A world with one client of `peer(7)`, whose address a service that answers everything might have.
struct Told {
    world: World,
    client: SocketAddr,
    calls: Rc<RefCell<Vec<Call>>>,
}

impl Told {
    fn of(seed: u64, faults: Faults, act: impl FnMut(&Call, &mut Replies<'_>) + 'static) -> Told {
        let mut world = World::new(seed, Limits::default(), faults);
        world.kernel().bind_peer(peer(7));
        let calls: Rc<RefCell<Vec<Call>>> = Rc::default();
        let script = Script { act, calls: calls.clone() };
        let client = world.reactor().connect_datagram(peer(7), script).unwrap();
        Told { world, client, calls }
    }

    fn peer_says(&mut self, bytes: &[u8]) {
        self.world.kernel().peer_sends_datagram(peer(7), self.client, bytes.to_vec());
    }

    /// All that the peer has been sent and not heard yet.
    fn peer_hears(&mut self) -> Vec<Vec<u8>> {
        let mut kernel = self.world.kernel();
        std::iter::from_fn(|| kernel.peer_receives_datagram(peer(7))).collect()
    }

    /// The next poll tells of somebody else, and has no room for what happens to the client.
    fn be_in_a_crowd(&mut self) {
        let door = self.world.serve(2000, |_| crate::echo::Echo::new());
        self.world.kernel().faults.events_per_poll_max = 1;
        self.world.connect(door.port(), 1);
    }

    fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.borrow_mut())
    }
}

/// Tells a story of both ways of exchange.
fn tell(story: impl Fn(u64)) {
    (0..20).for_each(story);
}

#[test]
fn a_client_asks_first_hears_the_answer_and_closes_its_socket() {
    // The peer has the port of a small service, at which nobody is answered: but this one we have chosen.
    tell(|seed| {
        let mut told = Told::of(seed, Faults::default(), |call, replies| match call {
            Call::Opened => replies.send(b"What time is it?"),
            Call::Heard(_) => {
                replies.send(b"Thank you.");
                replies.close();
            }
            Call::Elapsed | Call::Drained | Call::Failed(_) => {}
        });
        let open = told.world.kernel().descriptors_open();
        told.world.run_until_blocked();
        assert_eq!(
            (told.calls(), told.peer_hears()),
            (vec![Call::Opened], vec![b"What time is it?".to_vec()])
        );
        told.peer_says(b"Noon.");
        told.world.run_until_blocked();
        assert_eq!(
            (told.calls(), told.peer_hears()),
            (vec![Call::Heard(b"Noon.".to_vec())], vec![b"Thank you.".to_vec()])
        );
        assert_eq!(told.world.kernel().descriptors_open(), open - 1);
        told.world.stop();
    });
}

#[test]
fn that_nobody_is_there_is_told_and_costs_no_other_datagram() {
    // ICMP's report of the first datagram is met by a receive, or by the send of the second, which leaves all the same.
    tell(|seed| {
        for is_sending in [false, true] {
            let mut told = Told::of(seed, Faults::default(), move |call, replies| match call {
                Call::Opened | Call::Elapsed => {
                    replies.send(b"Is anybody there?");
                    replies.set_timer(Duration::from_millis(10));
                }
                Call::Failed(_) => replies.cancel_timer(),
                Call::Heard(_) | Call::Drained => {}
            });
            told.world.run_until_blocked();
            assert_eq!((told.calls(), told.peer_hears().len()), (vec![Call::Opened], 1));
            if is_sending {
                told.be_in_a_crowd();
                told.world.deschedule(20); // less than makes it look before the alarm rings
            }
            let client = told.client;
            told.world.kernel().report_icmp_error(client, errno::ECONNREFUSED);
            told.world.run_until_blocked();
            let failed = Call::Failed(io::ErrorKind::ConnectionRefused);
            let expected = if is_sending { vec![Call::Elapsed, failed] } else { vec![failed] };
            assert_eq!(
                (told.calls(), told.peer_hears().len()),
                (expected, usize::from(is_sending))
            );
            let (errors, unsent) =
                (told.world.stats().datagram_errors, told.world.stats().datagrams_unsent);
            assert_eq!((errors, unsent), (1, 0));
            told.world.run_for(100);
            assert_eq!(told.calls(), []);
            told.world.stop();
        }
    });
}

#[test]
fn who_has_closed_is_told_nothing_more() {
    // The answer after which it closes has come behind a report that somebody was not there.
    tell(|seed| {
        let mut told = Told::of(seed, Faults::default(), |call, replies| match call {
            Call::Opened => replies.send(b"What time is it?"),
            Call::Heard(_) => replies.close(),
            Call::Elapsed | Call::Drained => {}
            Call::Failed(_) => panic!("it may have nothing left to work with"),
        });
        told.world.run_until_blocked();
        let (client, open) = (told.client, told.world.kernel().descriptors_open());
        told.world.kernel().report_icmp_error(client, errno::ECONNREFUSED);
        told.peer_says(b"Noon.");
        told.world.run_until_blocked();
        assert_eq!(told.calls(), [Call::Opened, Call::Heard(b"Noon.".to_vec())]);
        assert_eq!(
            (told.world.kernel().descriptors_open(), told.world.stats().panics),
            (open - 1, 0)
        );
        told.world.stop();
    });
}

#[test]
fn an_alarm_rings_at_its_time_and_as_often_as_it_is_set() {
    // The question is repeated after 20, 40 and 80 ms. Then it is given up.
    tell(|seed| {
        let mut delay_ms = 20;
        let mut told = Told::of(seed, Faults::default(), move |call, replies| match call {
            Call::Opened | Call::Elapsed if delay_ms <= 80 => {
                replies.send(&[delay_ms]);
                replies.set_timer(Duration::from_millis(delay_ms.into()));
                delay_ms *= 2;
            }
            Call::Elapsed => replies.close(),
            Call::Opened | Call::Heard(_) | Call::Drained | Call::Failed(_) => {}
        });
        for (wait_ms, expected) in
            [(18, vec![vec![20]]), (10, vec![vec![40]]), (40, vec![vec![80]])]
        {
            told.world.run_for(wait_ms);
            assert_eq!(told.peer_hears(), expected);
        }
        let client = told.client;
        told.world.run_for(85);
        assert_eq!(told.calls(), [Call::Opened, Call::Elapsed, Call::Elapsed, Call::Elapsed]);
        assert!(
            !told.world.kernel().peer_sends_datagram(peer(7), client, vec![1]),
            "the socket is closed"
        );
        told.world.stop();
    });
}

#[test]
fn an_answer_that_has_come_in_time_is_heard_before_a_late_alarm() {
    // The process is held up until long after the alarm. The answer takes the alarm back.
    tell(|seed| {
        let mut told = Told::of(seed, Faults::default(), |call, replies| match call {
            Call::Opened => replies.set_timer(Duration::from_millis(20)),
            Call::Heard(_) => replies.cancel_timer(),
            Call::Elapsed | Call::Drained | Call::Failed(_) => {}
        });
        told.world.run_until_blocked();
        told.be_in_a_crowd();
        told.peer_says(b"in time");
        told.world.deschedule(200);
        told.world.run_for(50);
        assert_eq!(told.calls(), [Call::Opened, Call::Heard(b"in time".to_vec())]);
        told.world.stop();
    });
}

#[test]
fn who_has_much_to_say_is_asked_for_more_when_the_kernel_has_taken_what_there_was() {
    // The kernel has room for a few at a time. All arrive, in order, and what waits is never more than was said at once.
    tell(|seed| {
        let mut next = 0_u8;
        let faults = Faults { send_queue_bytes_max: 3_000, call_us_max: 20, ..Faults::default() };
        let mut told = Told::of(seed, faults, move |call, replies| match call {
            Call::Opened | Call::Drained if next < 200 => {
                for _ in 0..20 {
                    replies.send(&[next; 100]);
                    next += 1;
                }
                replies.wake_when_writable();
            }
            Call::Drained => replies.close(),
            Call::Opened | Call::Heard(_) | Call::Elapsed | Call::Failed(_) => {}
        });
        told.world.run_for(1_000);
        let expected: Vec<Vec<u8>> = (0..200).map(|number| vec![number; 100]).collect();
        assert_eq!(told.peer_hears(), expected);
        assert_eq!(told.calls().len(), 11);
        assert_eq!(told.world.stats().datagrams_unsent, 0);
        told.world.stop();
    });
}

#[test]
fn who_always_has_more_to_say_keeps_nobody_waiting_nor_a_stop() {
    tell(|seed| {
        let mut told = Told::of(seed, Faults::default(), |_, replies| {
            replies.send(b"And another thing:");
            replies.wake_when_writable();
            replies.set_timer(Duration::from_secs(1));
        });
        let address = told.world.serve(2000, |_| crate::echo::Echo::new());
        let stream = told.world.connect(address.port(), 1);
        told.world.peer_sends(stream, b"May I?");
        for _ in 0..5 {
            told.world.reactor().turn(None).unwrap();
        }
        assert_eq!(told.world.peer_receives_all(stream), b"May I?");
        assert!(told.peer_hears().len() >= 5);
        told.world.stop();
    });
}

#[test]
fn a_panic_in_any_call_costs_what_was_asked_for_in_it() {
    // What was sent before it has gone out, and what comes next is heard.
    tell(|seed| {
        for bad in [
            Call::Opened,
            Call::Elapsed,
            Call::Drained,
            Call::Failed(io::ErrorKind::ConnectionRefused),
        ] {
            let of_script = bad.clone();
            let mut told = Told::of(seed, Faults::default(), move |call, replies| {
                if *call == of_script || (call, &of_script) == (&Call::Opened, &Call::Elapsed) {
                    replies.set_timer(Duration::from_millis(1));
                }
                if *call == of_script || (call, &of_script) == (&Call::Opened, &Call::Drained) {
                    replies.wake_when_writable();
                }
                if *call == of_script {
                    replies.send(b"before");
                    panic!("on purpose");
                }
            });
            told.world.run_for(5);
            if matches!(bad, Call::Failed(_)) {
                let client = told.client;
                told.world.kernel().report_icmp_error(client, errno::ECONNREFUSED);
            }
            told.world.run_for(10);
            let expected = if bad == Call::Opened { vec![bad] } else { vec![Call::Opened, bad] };
            assert_eq!(told.calls(), expected);
            assert_eq!(
                (told.world.stats().panics, told.peer_hears()),
                (1, vec![b"before".to_vec()])
            );
            told.peer_says(b"Are you well?");
            told.world.run_until_blocked();
            assert_eq!(told.calls(), [Call::Heard(b"Are you well?".to_vec())]);
            told.world.stop();
        }
    });
}

#[test]
fn a_server_speaks_unasked_to_whom_it_names_and_answers_who_asks_in_between() {
    // Twice a second two peers are told the news, one of them in two datagrams. A third asks meanwhile, and is answered, as the
    // first are told something more.
    tell(|seed| {
        let mut world = World::new(seed, Limits::default(), Faults::default());
        let peers = [1, 2, 3].map(|number| SocketAddr::from(([10, 0, 0, 9], number)));
        peers.iter().for_each(|&peer| world.kernel().bind_peer(peer));
        let act = move |call: &Call, replies: &mut Replies<'_>| match call {
            Call::Opened | Call::Elapsed => {
                replies.send_to(peers[0], b"news");
                replies.send_to(peers[0], b"more");
                replies.send_to(peers[1], b"news");
                replies.set_timer(Duration::from_millis(500));
            }
            Call::Heard(_) => {
                replies.send(b"one");
                replies.send_to(peers[0], b"asked");
                replies.send(b"two");
            }
            Call::Drained | Call::Failed(_) => {}
        };
        let server = world.serve_datagrams(DATAGRAMS, Script { act, calls: Rc::default() });
        world.run_for(100);
        world.kernel().peer_sends_datagram(peers[2], server, b"And me?".to_vec());
        world.run_for(1_000);
        let mail = peers.map(|peer| {
            std::iter::from_fn(|| world.kernel().peer_receives_datagram(peer))
                .collect::<Vec<_>>()
                .concat()
        });
        assert_eq!(mail[0], b"newsmoreaskednewsmorenewsmore");
        assert_eq!((&mail[1][..], &mail[2][..]), (&b"newsnewsnews"[..], &b"onetwo"[..]));
        world.stop();
    });
}

#[test]
fn who_speaks_to_nobody_or_past_its_only_peer_is_not_heard() {
    // On a socket with many peers nobody is meant where nobody has asked: that is counted. On one with a single peer nobody else
    // can be: that is a mistake.
    tell(|seed| {
        let mut world = World::new(seed, Limits::default(), Faults::default());
        let script = |act: fn(&Call, &mut Replies<'_>)| Script { act, calls: Rc::default() };
        world.serve_datagrams(DATAGRAMS, script(|_, replies| replies.send(b"Hello?")));
        world
            .reactor()
            .connect_datagram(peer(7), script(|_, replies| replies.send_to(peer(8), b"Hello?")))
            .unwrap();
        world.run_until_blocked();
        let stats = world.stats();
        assert_eq!((stats.datagrams_unsent, stats.panics, stats.datagrams_out), (1, 1, 0));
        world.stop();
    });
}

// ---- between streams and datagrams

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
    world.kernel().bind_peer(peer(7));
    let endings: Rc<RefCell<Vec<CloseReason>>> = Rc::default();
    let shared = endings.clone();
    world.serve(2000, move |_| Asks { endings: shared.clone() });
    let stream = world.connect(2000, 1);
    world.peer_sends(stream, words);
    world.run_until_blocked();
    (world, stream, endings)
}

fn leave(mut world: World, stream: usize) {
    world.kernel().fail(stream, errno::ECONNRESET);
    world.run_until_blocked();
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
                    kernel.peer_receives_datagram_from(peer(7)).expect("both have asked");
                assert_eq!(question.len(), 1);
                kernel.peer_sends_datagram(peer(7), from, answer.to_vec());
            }
            world.run_until_blocked();
            world.peer_receives_all(stream)
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
            let (_, from) =
                world.kernel().peer_receives_datagram_from(peer(7)).expect("it has asked");
            world.kernel().peer_sends_datagram(peer(7), from, answer.to_vec());
            world.run_until_blocked();
            assert_eq!(world.close_reason_of(1), ending);
            let last = if ending.is_none() { PeerReceived::Fin } else { PeerReceived::Reset };
            assert_eq!(world.peer_receives_end(stream), last);
            leave(world, stream);
        }
        // The connection goes before the answer comes, and another takes its place: that one hears nothing.
        let (mut world, stream, endings) = asked(seed, Limits::default(), b"a");
        world.kernel().fail(stream, errno::ECONNRESET);
        world.run_until_blocked();
        let newcomer = world.connect(2000, 2);
        world.run_until_blocked();
        world.run_for(6_000);
        assert_eq!(
            (world.peer_receives_all(newcomer), &endings.borrow()[..]),
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
        world.run_for(6_000);
        assert_eq!(world.peer_receives_all(stream), b"nobody knowsnobody knows");
        // Now there is room again.
        world.peer_sends(stream, b"d");
        world.run_until_blocked();
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
        let server = world.serve_datagrams(DATAGRAMS, Relays(id));
        let stream = world.connect(2000, 1);
        world.run_until_blocked();
        for _ in 0..5 {
            world.kernel().peer_sends_datagram(peer(7), server, b"!".to_vec());
        }
        for _ in 0..5 {
            world.turn();
            assert!(
                world.peer_receives_all(stream).len() <= 2 * crate::limits::EFFECTS_HIGH_WATERMARK,
                "the mark, overshot by one call"
            );
        }
        world.run_until_blocked();
        assert_eq!(world.stats().datagrams_in, 5);
        leave(world, stream);
    });
}
