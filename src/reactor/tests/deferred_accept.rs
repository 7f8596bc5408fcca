//! Deferred accept: the kernel keeps a connection until its first byte has arrived.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::http::protocol::Http;
use crate::http::site::Site;
use crate::limits::DRAIN_QUIET_MS;
use crate::overload_limits::DEFERRED_ACCEPT_SECONDS;

const HTTP: u16 = 8080;
const REQUEST: &[u8] = b"GET /plaintext HTTP/1.0\r\n\r\n";

/// A world with a listener that defers, and with nothing left to do.
fn world() -> World {
    let mut world = World::without_faults();
    let options = ListenOptions::default()
        .with_deferred_accept(true)
        .with_first_byte_timeout(Duration::from_secs(5));
    world.serve_with(HTTP, &options, |_| Http::new(Site::new()));
    world.run_until_blocked();
    world.take_calls();
    world
}

fn assert_is_answered(world: &mut World, stream: usize) {
    assert!(world.peer_receives_all(stream).ends_with(b"Hello, World!"));
}

#[test]
fn connection_that_comes_with_its_request_is_answered_in_that_turn() {
    let mut world = world();
    let stream = world.connect(HTTP, 1);
    world.turn();
    assert_eq!(world.take_calls(), ["poll"], "a silent peer is not accepted");
    world.peer_sends(stream, REQUEST);
    world.turn();
    let calls = ["poll", "accept", "accept", "recv", "send", "shutdown", "close"];
    assert_eq!(world.take_calls(), calls);
    assert_is_answered(&mut world, stream);
    world.stop();
}

// pitfall: 192
#[test]
fn silent_peer_is_accepted_in_the_end_and_then_has_its_first_byte_timeout() {
    let mut world = world();
    let stream = world.connect(HTTP, 1);
    world.run_for(DEFERRED_ACCEPT_SECONDS as u64 * 1000 + 10);
    assert_eq!(world.stats().connections, 1);
    world.run_for(4_900);
    assert_eq!(world.stats().connections, 1);
    world.run_for(100);
    assert_eq!(world.stats().connections, 0);
    assert_eq!(world.peer_receives_end(stream), PeerReceived::Fin);
    world.stop();
}

// pitfall: 194
#[test]
fn peer_that_connected_before_a_stop_may_speak_for_a_while() {
    let mut world = world();
    let in_time = world.connect(HTTP, 1);
    let late = world.connect(HTTP, 2);
    world.reactor().stop();
    world.run_for(DRAIN_QUIET_MS - 10);
    world.peer_sends(in_time, REQUEST);
    world.run_for(5);
    assert_is_answered(&mut world, in_time);
    assert!(!world.reactor().is_stopped(), "another one may speak");
    // A peer that connects now is accepted at once, and so is not refused at the end.
    let new = world.connect(HTTP, 3);
    world.run_for(DRAIN_QUIET_MS / 2);
    world.peer_sends(new, REQUEST);
    world.run_for(DRAIN_QUIET_MS);
    assert_is_answered(&mut world, new);
    assert!(world.reactor().is_stopped());
    assert_eq!(world.peer_receives_end(late), PeerReceived::Reset);
    assert_eq!(world.reactor().run().unwrap(), Stopped::Graceful);
}

#[test]
fn wait_for_peers_to_speak_does_not_make_a_stop_a_forced_one() {
    let mut world = World::without_faults();
    world.reactor().state.limits.drain_timeout = Duration::from_millis(DRAIN_QUIET_MS / 2);
    let options = ListenOptions::default().with_deferred_accept(true);
    world.serve_with(HTTP, &options, |_| Http::new(Site::new()));
    world.reactor().stop();
    world.run_for(DRAIN_QUIET_MS / 2 + 10);
    assert!(world.reactor().is_stopped());
    assert_eq!(world.reactor().run().unwrap(), Stopped::Graceful);
}

/// Asks for more effects than a turn has time for when it opens, and then answers one byte.
struct AsksForMuch(Rc<RefCell<Vec<ConnectionId>>>);

impl Protocol for AsksForMuch {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        let others = self.0.borrow().clone();
        for id in &others {
            cx.connections().send_to(*id, &[b'x'; 4000]);
        }
        self.0.borrow_mut().push(cx.id());
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(b"done");
        Advance::consumed(input.len()).then(Next::Close)
    }
}

// pitfall: 198
#[test]
fn connection_with_much_to_do_when_it_opens_is_driven_afterwards_and_freed_once() {
    for others in [540, 600, 900] {
        check_that_much_to_do_comes_first(others);
    }
}

fn check_that_much_to_do_comes_first(others: u16) {
    let mut world = World::without_faults();
    let options = ListenOptions::default().with_deferred_accept(true);
    let ids = Rc::new(RefCell::new(Vec::new()));
    let (plain, much) = (ids.clone(), ids.clone());
    world.serve(2000, move |_| Records(plain.clone()));
    world.serve_with(HTTP, &options, move |_| AsksForMuch(much.clone()));
    let peers: Vec<usize> = (1..=others).map(|number| world.connect(2000, number)).collect();
    world.run_until_blocked();
    assert_eq!(ids.borrow().len(), usize::from(others));
    let stream = world.connect(HTTP, others + 1);
    world.peer_sends(stream, b"x");
    world.turn();
    assert!(!world.reactor().deferred.is_empty(), "a turn is not enough for it");
    while !world.reactor().deferred.is_empty() {
        assert_eq!(world.peer_receives_all(stream), b"", "it is held until all is done");
        world.turn();
    }
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(stream), b"done");
    for &other in &peers {
        assert_eq!(world.peer_receives_all(other).len(), 4000);
        world.kernel().peer_closes(other);
    }
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}

/// Records its id, and reads nothing.
struct Records(Rc<RefCell<Vec<ConnectionId>>>);

impl Protocol for Records {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.0.borrow_mut().push(cx.id());
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }
}
