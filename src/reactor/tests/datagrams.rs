//! Datagram errors: each costs the datagram that it is about, and no other.
//!
//! A test runs with several seeds where both ways of sending matter: the seed decides whether a
//! simulated socket sends single datagrams or GSO batches.

use super::protocols::text_of;
use super::*;
use crate::echo::Echo;
use crate::overload_limits::RECEIVE_FAILURES_MAX;
use crate::protocol::datagram::{Datagram, Replies};
use crate::testing::simulated::errno;

const DATAGRAMS: u16 = 2001;

// pitfall: 47
#[test]
fn unreachable_peer_costs_no_other_peer_its_reply() {
    let errors = [
        errno::EPERM,
        errno::EACCES,
        errno::EINVAL,
        errno::EMSGSIZE,
        errno::ENETUNREACH,
        errno::EHOSTUNREACH,
    ];
    for error in
        errors.into_iter().chain([errno::ENOBUFS, errno::ENOMEM, errno::EIO, errno::EADDRNOTAVAIL])
    {
        for seed in 1..=4 {
            let mut world = World::new(seed, Limits::default(), Faults::default());
            let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
            world.kernel().faults.unreachable = Some((peer(103), error));
            for number in 101..=110 {
                let peer = bound_peer(&world, number);
                world.kernel().peer_sends_datagram(peer, datagrams, text_of(number, 0, 20));
            }
            assert_eq!(world.run_until_blocked(), 1, "errno {error}");
            for number in 101..=110 {
                let reply = (number != 103).then(|| text_of(number, 0, 20));
                assert_eq!(
                    world.kernel().peer_receives_datagram(peer(number)),
                    reply,
                    "errno {error}"
                );
            }
            assert_eq!((world.stats().datagrams_out, world.stats().datagrams_unsent), (9, 1));
            world.stop();
        }
    }
}

#[test]
fn refused_gso_batch_is_sent_as_single_datagrams() {
    for seed in 1..=8 {
        let mut world =
            World::new(seed, Limits::default(), Faults { refuses_gso: true, ..Faults::default() });
        let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
        let peer = bound_peer(&world, 1);
        for number in 0..30 {
            world.kernel().peer_sends_datagram(peer, datagrams, text_of(number, 0, 100));
        }
        world.run_until_blocked();
        for number in 0..30 {
            assert_eq!(world.kernel().peer_receives_datagram(peer), Some(text_of(number, 0, 100)));
        }
        world.stop();
    }
}

#[test]
fn replies_beyond_the_send_buffer_wait_and_leave_in_order() {
    for seed in 1..=4 {
        let mut world = World::new(
            seed,
            Limits::default(),
            Faults { send_queue_bytes_max: 2_000, ..Faults::default() },
        );
        let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
        let peer = bound_peer(&world, 1);
        for number in 0..500 {
            world.kernel().peer_sends_datagram(
                peer,
                datagrams,
                text_of(number, 0, 300 + usize::from(number % 7)),
            );
        }
        world.run_until_blocked();
        for number in 0..500 {
            assert_eq!(
                world.kernel().peer_receives_datagram(peer),
                Some(text_of(number, 0, 300 + usize::from(number % 7)))
            );
        }
        world.stop();
    }
}

#[test]
fn datagrams_from_port_0_or_our_own_address_get_no_reply() {
    let mut world = World::without_faults();
    let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
    for peer in [peer(0), datagrams] {
        world.kernel().bind_peer(peer);
        world.kernel().peer_sends_datagram(peer, datagrams, b"hello".to_vec());
        world.run_until_blocked();
        assert_eq!(world.kernel().peer_receives_datagram(peer), None);
    }
    assert_eq!(world.stats().datagrams_dropped, 2);
    world.stop();
}

// pitfall: 45
#[test]
fn icmp_error_of_an_old_datagram_hides_no_new_one() {
    for seed in 1..=4 {
        let mut world = World::new(seed, Limits::default(), Faults::default());
        let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
        let peer = bound_peer(&world, 1);
        for round in 0..20 {
            world.kernel().report_icmp_error(datagrams, errno::ECONNREFUSED);
            world.kernel().peer_sends_datagram(peer, datagrams, vec![round; 9]);
            world.run_until_blocked();
            assert_eq!(world.kernel().peer_receives_datagram(peer), Some(vec![round; 9]));
        }
        assert_eq!(world.stats().datagram_errors, 20);
        world.stop();
    }
}

/// A datagram protocol that sends to a connection for each datagram. Above the high watermark of
/// effects, they are applied before more is answered; the rest of the batch comes in later turns.
// pitfall: 103
#[test]
fn datagrams_with_many_effects_are_answered_over_several_turns() {
    const SENDS: usize = 200;
    struct Fan(Rc<RefCell<Option<ConnectionId>>>);
    impl DatagramProtocol for Fan {
        fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
            let to = self.0.borrow().expect("the connection is open");
            for _ in 0..SENDS {
                replies.connections().send_to(to, datagram.payload);
            }
        }
    }
    struct Sink(Rc<RefCell<Option<ConnectionId>>>);
    impl Protocol for Sink {
        fn opened(&mut self, cx: &mut Context<'_>) -> Next {
            *self.0.borrow_mut() = Some(cx.id());
            Next::Continue
        }
        fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
            Advance::consumed(input.len())
        }
    }
    let mut world = World::without_faults();
    let id = Rc::new(RefCell::new(None));
    let shared = id.clone();
    world.serve(2000, move |_| Sink(shared.clone()));
    let datagrams = world.serve_datagrams(DATAGRAMS, Fan(id));
    let stream = world.connect(2000, 1);
    world.run_until_blocked();
    let from = bound_peer(&world, 2);
    for _ in 0..20 {
        world.kernel().peer_sends_datagram(from, datagrams, b"x".to_vec());
    }
    let turns = world.run_until_blocked();
    assert_eq!(world.peer_receives_all(stream), vec![b'x'; 20 * SENDS]);
    assert!(turns > 2, "{turns} turns: the effects of one are bounded");
    world.kernel().fail(stream, errno::ECONNRESET);
    world.run_until_blocked();
    world.stop();
}

// pitfall: 172
#[test]
fn receive_that_fails_without_end_does_not_keep_the_loop_busy() {
    for error in [errno::EPROTO, errno::ECONNREFUSED, errno::ENOMEM] {
        let mut world = World::without_faults();
        let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
        let client = peer(1);
        world.kernel().bind_peer(client);
        world.run_until_blocked();
        world.kernel().faults.receive_error = Some(error);
        assert!(world.kernel().peer_sends_datagram(client, datagrams, b"hello".to_vec()));
        let turns = world.run_for(1000);
        assert!(turns <= 150, "errno {error}: {turns} turns in a second: one retry takes 100 ms");
        let failures = world.stats().datagram_errors;
        let most = 11 * u64::from(RECEIVE_FAILURES_MAX);
        assert!((9..=most).contains(&failures), "errno {error}: {failures} calls");
        world.kernel().faults.receive_error = None;
        world.run_for(101);
        let reply = world.kernel().peer_receives_datagram(client);
        assert_eq!(reply.as_deref(), Some(&b"hello"[..]), "answered without a new event");
        world.stop();
    }
}
