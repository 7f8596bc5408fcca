//! Datagram protocols that send unasked, on the simulated kernel: clients mostly, and a server.
//!
//! Each test runs with twenty seeds, so that the simulated socket moves its datagrams both by
//! single calls and in batches.

mod connections; // clients that a connection opens

use super::*;
use crate::protocol::datagram::Datagram;
use crate::protocol::datagram::Replies;
use crate::testing::simulated::errno;

const DATAGRAMS: u16 = 2001;

/// A callback of the protocol, with its argument.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Callback {
    Opened,
    Received(Vec<u8>),
    TimerExpired,
    Writable,
    ErrorReceived(io::ErrorKind),
}

/// Records each callback, and passes it to a function.
struct RecordingProtocol<F> {
    act: F,
    calls: Rc<RefCell<Vec<Callback>>>,
}

impl<F: FnMut(&Callback, &mut Replies<'_>)> RecordingProtocol<F> {
    fn record(&mut self, call: &Callback, replies: &mut Replies<'_>) {
        self.calls.borrow_mut().push(call.clone());
        (self.act)(call, replies);
    }
}

impl<F: FnMut(&Callback, &mut Replies<'_>)> DatagramProtocol for RecordingProtocol<F> {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        self.record(&Callback::Opened, replies);
    }

    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        self.record(&Callback::Received(datagram.payload.to_vec()), replies);
    }

    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        self.record(&Callback::TimerExpired, replies);
    }

    fn writable(&mut self, replies: &mut Replies<'_>) {
        self.record(&Callback::Writable, replies);
    }

    fn error_received(&mut self, error: &io::Error, replies: &mut Replies<'_>) {
        self.record(&Callback::ErrorReceived(error.kind()), replies);
    }
}

/// A world with one client of `peer(7)`. Port 7 is that of echo, one of the unanswered ports.
struct ClientFixture {
    world: World,
    client: SocketAddr,
    calls: Rc<RefCell<Vec<Callback>>>,
}

impl ClientFixture {
    fn new(
        seed: u64,
        faults: Faults,
        act: impl FnMut(&Callback, &mut Replies<'_>) + 'static,
    ) -> ClientFixture {
        let mut world = World::new(seed, Limits::default(), faults);
        world.kernel().bind_peer(peer(7));
        let calls: Rc<RefCell<Vec<Callback>>> = Rc::default();
        let protocol = RecordingProtocol { act, calls: calls.clone() };
        let client = world.reactor().connect_datagram(peer(7), protocol).unwrap();
        ClientFixture { world, client, calls }
    }

    fn peer_sends(&mut self, bytes: &[u8]) {
        self.world.kernel().peer_sends_datagram(peer(7), self.client, bytes.to_vec());
    }

    /// All that has been sent to the peer and that it has not received yet.
    fn peer_receives(&mut self) -> Vec<Vec<u8>> {
        let mut kernel = self.world.kernel();
        std::iter::from_fn(|| kernel.peer_receives_datagram(peer(7))).collect()
    }

    /// Makes the next poll report an event of another source, and none of the client.
    fn hide_next_event(&mut self) {
        let echo = self.world.serve(2000, |_| crate::echo::Echo::new());
        self.world.kernel().faults.events_per_poll_max = 1;
        self.world.connect(echo.port(), 1);
    }

    fn take_calls(&self) -> Vec<Callback> {
        std::mem::take(&mut *self.calls.borrow_mut())
    }
}

/// Runs `test` with twenty seeds. The seed decides whether the socket's datagrams move by single
/// calls or in batches.
fn for_each_seed(test: impl Fn(u64)) {
    (0..20).for_each(test);
}

#[test]
fn client_sends_first_receives_the_answer_and_closes_its_socket() {
    // The peer has an unanswered port, but a client has chosen its peer itself.
    for_each_seed(|seed| {
        let mut fixture = ClientFixture::new(seed, Faults::default(), |call, replies| match call {
            Callback::Opened => replies.send(b"request"),
            Callback::Received(_) => {
                replies.send(b"thanks");
                replies.close();
            }
            Callback::TimerExpired | Callback::Writable | Callback::ErrorReceived(_) => {}
        });
        let open = fixture.world.kernel().descriptors_open();
        fixture.world.run_until_blocked();
        assert_eq!(
            (fixture.take_calls(), fixture.peer_receives()),
            (vec![Callback::Opened], vec![b"request".to_vec()])
        );
        fixture.peer_sends(b"answer");
        fixture.world.run_until_blocked();
        assert_eq!(
            (fixture.take_calls(), fixture.peer_receives()),
            (vec![Callback::Received(b"answer".to_vec())], vec![b"thanks".to_vec()])
        );
        assert_eq!(fixture.world.kernel().descriptors_open(), open - 1);
        fixture.world.stop();
    });
}

#[test]
fn icmp_error_is_reported_and_costs_no_other_datagram() {
    // The ICMP error about the first datagram is returned by a receive, or by the send of the
    // second datagram, which is sent nevertheless.
    for_each_seed(|seed| {
        for is_sending in [false, true] {
            let mut fixture =
                ClientFixture::new(seed, Faults::default(), move |call, replies| match call {
                    Callback::Opened | Callback::TimerExpired => {
                        replies.send(b"request");
                        replies.set_timer(Duration::from_millis(10));
                    }
                    Callback::ErrorReceived(_) => replies.cancel_timer(),
                    Callback::Received(_) | Callback::Writable => {}
                });
            fixture.world.run_until_blocked();
            assert_eq!(
                (fixture.take_calls(), fixture.peer_receives().len()),
                (vec![Callback::Opened], 1)
            );
            if is_sending {
                fixture.hide_next_event();
                // Late by less than TIMER_LATE_MS, so nothing is received before the timer expires.
                fixture.world.deschedule(20);
            }
            let client = fixture.client;
            fixture.world.kernel().report_icmp_error(client, errno::ECONNREFUSED);
            fixture.world.run_until_blocked();
            let failed = Callback::ErrorReceived(io::ErrorKind::ConnectionRefused);
            let expected =
                if is_sending { vec![Callback::TimerExpired, failed] } else { vec![failed] };
            assert_eq!(
                (fixture.take_calls(), fixture.peer_receives().len()),
                (expected, usize::from(is_sending))
            );
            let (errors, unsent) =
                (fixture.world.stats().datagram_errors, fixture.world.stats().datagrams_unsent);
            assert_eq!((errors, unsent), (1, 0));
            fixture.world.run_for(100);
            assert_eq!(fixture.take_calls(), []);
            fixture.world.stop();
        }
    });
}

#[test]
fn client_that_has_closed_gets_no_error_callback() {
    // An ICMP error is pending when the answer arrives, after which the client closes.
    for_each_seed(|seed| {
        let mut fixture = ClientFixture::new(seed, Faults::default(), |call, replies| match call {
            Callback::Opened => replies.send(b"request"),
            Callback::Received(_) => replies.close(),
            Callback::TimerExpired | Callback::Writable => {}
            Callback::ErrorReceived(_) => panic!("called after close"),
        });
        fixture.world.run_until_blocked();
        let (client, open) = (fixture.client, fixture.world.kernel().descriptors_open());
        fixture.world.kernel().report_icmp_error(client, errno::ECONNREFUSED);
        fixture.peer_sends(b"answer");
        fixture.world.run_until_blocked();
        assert_eq!(
            fixture.take_calls(),
            [Callback::Opened, Callback::Received(b"answer".to_vec())]
        );
        assert_eq!(
            (fixture.world.kernel().descriptors_open(), fixture.world.stats().panics),
            (open - 1, 0)
        );
        fixture.world.stop();
    });
}

#[test]
fn timer_expires_on_time_and_once_each_time_it_is_set() {
    // The request is repeated after 20 and 40 ms. After another 80 ms the client closes.
    for_each_seed(|seed| {
        let mut delay_ms = 20;
        let mut fixture =
            ClientFixture::new(seed, Faults::default(), move |call, replies| match call {
                Callback::Opened | Callback::TimerExpired if delay_ms <= 80 => {
                    replies.send(&[delay_ms]);
                    replies.set_timer(Duration::from_millis(delay_ms.into()));
                    delay_ms *= 2;
                }
                Callback::TimerExpired => replies.close(),
                Callback::Opened
                | Callback::Received(_)
                | Callback::Writable
                | Callback::ErrorReceived(_) => {}
            });
        for (wait_ms, expected) in
            [(18, vec![vec![20]]), (10, vec![vec![40]]), (40, vec![vec![80]])]
        {
            fixture.world.run_for(wait_ms);
            assert_eq!(fixture.peer_receives(), expected);
        }
        let client = fixture.client;
        fixture.world.run_for(85);
        assert_eq!(
            fixture.take_calls(),
            [
                Callback::Opened,
                Callback::TimerExpired,
                Callback::TimerExpired,
                Callback::TimerExpired
            ]
        );
        assert!(
            !fixture.world.kernel().peer_sends_datagram(peer(7), client, vec![1]),
            "the socket is closed"
        );
        fixture.world.stop();
    });
}

#[test]
fn answer_that_arrived_in_time_is_received_before_a_late_timer() {
    // The process does not run until long after the timer is due. The answer cancels the timer.
    for_each_seed(|seed| {
        let mut fixture = ClientFixture::new(seed, Faults::default(), |call, replies| match call {
            Callback::Opened => replies.set_timer(Duration::from_millis(20)),
            Callback::Received(_) => replies.cancel_timer(),
            Callback::TimerExpired | Callback::Writable | Callback::ErrorReceived(_) => {}
        });
        fixture.world.run_until_blocked();
        fixture.hide_next_event();
        fixture.peer_sends(b"in time");
        fixture.world.deschedule(200);
        fixture.world.run_for(50);
        assert_eq!(
            fixture.take_calls(),
            [Callback::Opened, Callback::Received(b"in time".to_vec())]
        );
        fixture.world.stop();
    });
}

#[test]
fn writable_is_called_when_the_kernel_has_taken_all_that_was_sent() {
    // The kernel has room for a few datagrams at a time. All arrive, in order, and no more wait
    // than one callback has sent.
    for_each_seed(|seed| {
        let mut next = 0_u8;
        let faults = Faults { send_queue_bytes_max: 3_000, call_us_max: 20, ..Faults::default() };
        let mut fixture = ClientFixture::new(seed, faults, move |call, replies| match call {
            Callback::Opened | Callback::Writable if next < 200 => {
                for _ in 0..20 {
                    replies.send(&[next; 100]);
                    next += 1;
                }
                replies.wake_when_writable();
            }
            Callback::Writable => replies.close(),
            Callback::Opened
            | Callback::Received(_)
            | Callback::TimerExpired
            | Callback::ErrorReceived(_) => {}
        });
        fixture.world.run_for(1_000);
        let expected: Vec<Vec<u8>> = (0..200).map(|number| vec![number; 100]).collect();
        assert_eq!(fixture.peer_receives(), expected);
        assert_eq!(fixture.take_calls().len(), 11);
        assert_eq!(fixture.world.stats().datagrams_unsent, 0);
        fixture.world.stop();
    });
}

#[test]
fn endless_sender_delays_neither_other_sources_nor_a_stop() {
    for_each_seed(|seed| {
        let mut fixture = ClientFixture::new(seed, Faults::default(), |_, replies| {
            replies.send(b"more");
            replies.wake_when_writable();
            replies.set_timer(Duration::from_secs(1));
        });
        let address = fixture.world.serve(2000, |_| crate::echo::Echo::new());
        let stream = fixture.world.connect(address.port(), 1);
        fixture.world.peer_sends(stream, b"hello");
        for _ in 0..5 {
            fixture.world.reactor().turn(None).unwrap();
        }
        assert_eq!(fixture.world.peer_receives_all(stream), b"hello");
        assert!(fixture.peer_receives().len() >= 5);
        fixture.world.stop();
    });
}

#[test]
fn panic_in_a_callback_cancels_its_requests() {
    // What it sent before the panic is sent, and the next datagram is received.
    for_each_seed(|seed| {
        for bad in [
            Callback::Opened,
            Callback::TimerExpired,
            Callback::Writable,
            Callback::ErrorReceived(io::ErrorKind::ConnectionRefused),
        ] {
            let target = bad.clone();
            let mut fixture = ClientFixture::new(seed, Faults::default(), move |call, replies| {
                if *call == target
                    || (call, &target) == (&Callback::Opened, &Callback::TimerExpired)
                {
                    replies.set_timer(Duration::from_millis(1));
                }
                if *call == target || (call, &target) == (&Callback::Opened, &Callback::Writable) {
                    replies.wake_when_writable();
                }
                if *call == target {
                    replies.send(b"before");
                    panic!("on purpose");
                }
            });
            fixture.world.run_for(5);
            if matches!(bad, Callback::ErrorReceived(_)) {
                let client = fixture.client;
                fixture.world.kernel().report_icmp_error(client, errno::ECONNREFUSED);
            }
            fixture.world.run_for(10);
            let expected =
                if bad == Callback::Opened { vec![bad] } else { vec![Callback::Opened, bad] };
            assert_eq!(fixture.take_calls(), expected);
            assert_eq!(
                (fixture.world.stats().panics, fixture.peer_receives()),
                (1, vec![b"before".to_vec()])
            );
            fixture.peer_sends(b"next");
            fixture.world.run_until_blocked();
            assert_eq!(fixture.take_calls(), [Callback::Received(b"next".to_vec())]);
            fixture.world.stop();
        }
    });
}

#[test]
fn server_sends_unasked_to_named_peers_and_answers_others_in_between() {
    // Twice a second the server sends to two peers, to the first of them two datagrams. Meanwhile a
    // third peer sends a request: it is answered, and the first peer is sent another datagram.
    for_each_seed(|seed| {
        let mut world = World::new(seed, Limits::default(), Faults::default());
        let peers = [1, 2, 3].map(|number| SocketAddr::from(([10, 0, 0, 9], number)));
        peers.iter().for_each(|&peer| world.kernel().bind_peer(peer));
        let act = move |call: &Callback, replies: &mut Replies<'_>| match call {
            Callback::Opened | Callback::TimerExpired => {
                replies.send_to(peers[0], b"tick ");
                replies.send_to(peers[0], b"tock ");
                replies.send_to(peers[1], b"tick ");
                replies.set_timer(Duration::from_millis(500));
            }
            Callback::Received(_) => {
                replies.send(b"one");
                replies.send_to(peers[0], b"extra ");
                replies.send(b"two");
            }
            Callback::Writable | Callback::ErrorReceived(_) => {}
        };
        let server =
            world.serve_datagrams(DATAGRAMS, RecordingProtocol { act, calls: Rc::default() });
        world.run_for(100);
        world.kernel().peer_sends_datagram(peers[2], server, b"request".to_vec());
        world.run_for(1_000);
        let received = peers.map(|peer| {
            std::iter::from_fn(|| world.kernel().peer_receives_datagram(peer))
                .collect::<Vec<_>>()
                .concat()
        });
        assert_eq!(received[0], b"tick tock extra tick tock tick tock ");
        assert_eq!((&received[1][..], &received[2][..]), (&b"tick tick tick "[..], &b"onetwo"[..]));
        world.stop();
    });
}

#[test]
fn send_without_a_recipient_is_counted_and_send_to_another_peer_panics() {
    // On a socket without a peer, `send` outside of `received` has no recipient: the datagram is
    // counted as unsent. On a connected socket, `send_to` another peer is a bug of the protocol.
    for_each_seed(|seed| {
        let mut world = World::new(seed, Limits::default(), Faults::default());
        let recording =
            |act: fn(&Callback, &mut Replies<'_>)| RecordingProtocol { act, calls: Rc::default() };
        world.serve_datagrams(DATAGRAMS, recording(|_, replies| replies.send(b"hello")));
        world
            .reactor()
            .connect_datagram(peer(7), recording(|_, replies| replies.send_to(peer(8), b"hello")))
            .unwrap();
        world.run_until_blocked();
        let stats = world.stats();
        assert_eq!((stats.datagrams_unsent, stats.panics, stats.datagrams_out), (1, 1, 0));
        world.stop();
    });
}
