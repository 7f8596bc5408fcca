//! A graceful stop, seen from a connection: what has begun is finished.

use std::cell::Cell;

use super::*;
use crate::http::protocol::Http;
use crate::http::site::Site;
use crate::limits::READ_BYTES_MAX;
use crate::protocol::notification::Notification;
use crate::reactor::slots::enqueue;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Host;

const HTTP: u16 = 8080;

#[test]
fn stop_signal_that_has_not_come_calls_nothing_and_stops_nothing() {
    let _installed = Installed::new(Kernel::new(1));
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let called = Rc::new(Cell::new(false));
    let flag = Rc::clone(&called);
    reactor.insert_stop_signal(StopSignal::new().unwrap(), move || flag.set(true)).unwrap();
    let token = reactor.slots.iter().next().map(|(token, _)| token).expect("one source");
    enqueue(&mut reactor.run_queue, token, &mut reactor.slots[token]);
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(!reactor.state.stop.is_stopping(), "it was queued without an event");
    reactor.stop();
    assert_eq!(reactor.run().unwrap(), Stopped::Graceful);
    assert!(!called.get(), "the owner has stopped it");
}

#[test]
fn request_deferred_in_the_first_turn_of_a_stop_is_answered() {
    // 200 connections use up the budget of the turn, so the slot of a quiet one is deferred, with a
    // request that has just arrived. In the same turn the deadline of the quiet one expires. It
    // must not be closed as idle.
    let (mut world, streams) = echo_world_with(200);
    world.serve(HTTP, |_| Http::new(Site::new()));
    let quiet = world.connect(HTTP, 1000);
    world.run_for(20_000);
    let request = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";
    world.peer_sends(quiet, request);
    world.run_until_blocked();
    assert!(world.peer_receives_all(quiet).ends_with(b"Hello, World!"));
    streams.iter().for_each(|&stream| world.peer_sends(stream, b"x"));
    world.run_for(9_995);
    streams.iter().for_each(|&stream| world.peer_sends(stream, &vec![b'x'; READ_BYTES_MAX]));
    world.peer_sends(quiet, request);
    world.reactor().stop();
    world.deschedule(10);
    world.turn();
    assert!(world.peer_receives_all(quiet).is_empty(), "it is deferred to the next turn");
    world.run_for(1_000);
    assert!(world.peer_receives_all(quiet).ends_with(b"Hello, World!"));
    for stream in streams.into_iter().chain([quiet]) {
        world.kernel().fail(stream, errno::ECONNRESET);
    }
    world.run_for(3_000);
    world.stop();
}

#[test]
fn reactor_without_sockets_stops_at_once() {
    for has_run_a_turn in [false, true] {
        let _installed = Installed::new(Kernel::new(1));
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        reactor.stop();
        if has_run_a_turn {
            reactor.turn(None).unwrap();
        }
        assert_eq!(reactor.run().unwrap(), Stopped::Graceful);
    }
}

// pitfall: 102
#[test]
fn each_listener_accepts_its_whole_backlog_during_a_stop() {
    const EACH: u16 = 2500; // together more than one backlog
    let mut world = echo_world();
    world.serve(2001, |_| Echo::new());
    let ports = [2000, 2001];
    let streams: Vec<usize> = (0..2 * EACH)
        .map(|number| world.connect(ports[usize::from(number % 2)], number + 1))
        .collect();
    streams.iter().for_each(|&stream| world.peer_sends(stream, b"x"));
    world.reactor().stop();
    for _ in 0..100 {
        world.turn();
    }
    assert_eq!(world.stats().accepted, 2 * u64::from(EACH));
    for stream in streams {
        assert_eq!(world.peer_receives_all(stream), b"x");
        world.kernel().peer_closes(stream);
    }
    world.run_until_blocked();
    world.stop();
}

/// A sandbox may refuse accept(2) altogether.
// pitfall: 102
#[test]
fn listener_that_can_never_accept_does_not_hold_a_forced_stop() {
    let mut world = echo_world();
    let address = server(2000);
    world.kernel().allow_pauses(address);
    world.connect(2000, 1);
    world.kernel().faults.accept_error = Some(errno::EPERM);
    world.run_for(1_000);
    world.reactor().stop();
    world.run_for(10_000);
    assert!(world.reactor().is_stopped());
    assert_eq!(world.reactor().run().unwrap(), Stopped::Forced(1));
    assert_eq!(world.stats().unaccepted, 1, "so many are known");
    world.kernel().faults.accept_error = None;
    world.stop();
}

#[test]
fn connection_opened_after_a_forced_stop_ends_at_once() {
    let (mut world, streams) = echo_world_with(1);
    world.peer_sends(streams[0], &vec![7; 3 << 20]); // the echo is never read
    world.run_until_blocked();
    world.reactor().stop();
    assert_eq!(world.reactor().run().unwrap(), Stopped::Forced(1));
    world.kernel().hosts.insert(peer(7), Host::Silent);
    let id = world.reactor().connect(peer(7), Echo::new());
    assert_eq!(world.reactor().run().unwrap(), Stopped::Forced(2));
    assert_eq!(world.reactor().send_to(id, b"late"), Err(SendError::Closed));
}

// pitfall: 102
#[test]
fn stop_without_room_ends_lingering_connections_and_accepts_the_rest() {
    let mut world = World::new(1, Limits::default().with_connections_max(3), Faults::default());
    world.serve(2000, |_| Echo::new());
    let streams: Vec<usize> = (1..=20).map(|number| world.connect(2000, number)).collect();
    for &stream in &streams {
        world.peer_sends(stream, b"hey");
    }
    world.reactor().stop();
    assert_eq!(world.reactor().run().unwrap(), Stopped::Graceful, "well before the drain timeout");
    for stream in streams {
        assert_eq!(world.peer_receives_all(stream), b"hey");
    }
    world.check_nothing_is_left();
}

// pitfall: 102
#[test]
fn stop_that_leaves_a_backlog_is_forced() {
    let mut world = World::new(1, Limits::default().with_connections_max(1), Faults::default());
    world.serve(2000, |_| Echo::new());
    let stuck = world.connect(2000, 1);
    world.peer_sends(stuck, &vec![7; 3 << 20]); // the echo is never read
    world.run_until_blocked();
    world.connect(2000, 2);
    world.run_until_blocked();
    world.reactor().stop();
    assert_eq!(world.reactor().run().unwrap(), Stopped::Forced(2), "one is cut off, one waited");
}

// pitfall: 120
#[test]
fn forced_stop_counts_every_connection_never_accepted() {
    // There are descriptors for three connections, and 20 peers connect to two listeners.
    let faults = Faults { descriptors_max: 6, ..Faults::default() };
    let mut world = World::new(1, Limits::default(), faults);
    for number in 1..=20 {
        let port = 2000 + number % 2;
        if number <= 2 {
            world.serve(port, |_| Echo::new());
        }
        let stream = world.connect(port, number);
        world.peer_sends(stream, &vec![7; 3 << 20]); // the echo is never read
        world.run_until_blocked();
    }
    world.reactor().stop();
    assert_eq!(world.reactor().run().unwrap(), Stopped::Forced(20));
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.unaccepted), (3, 17));
    world.check_nothing_is_left();
}

// pitfall: 167
#[test]
fn forced_stop_counts_a_long_backlog_over_several_turns() {
    const WAITING: u16 = 300; // more than a listener accepts in one turn
    let mut world = World::new(1, Limits::default().with_connections_max(1), Faults::default());
    world.serve(2000, |_| Echo::new());
    let stuck = world.connect(2000, 1);
    world.peer_sends(stuck, &vec![7; 3 << 20]); // the echo is never read
    world.run_until_blocked();
    for number in 0..WAITING {
        world.connect(2000, 2 + number);
    }
    world.run_until_blocked();
    world.reactor().stop();
    while !world.reactor().is_stopped() {
        world.kernel().calls.clear();
        world.turn_within(1000);
        let accepts = world.kernel().calls.iter().filter(|&&call| call == "accept").count();
        assert!(accepts <= ACCEPTS_PER_TURN, "{accepts} in one turn");
    }
    assert_eq!(world.stats().unaccepted, u64::from(WAITING));
    assert_eq!(world.reactor().run().unwrap(), Stopped::Forced(usize::from(WAITING) + 1));
    world.check_nothing_is_left();
}

// pitfall: 120
#[test]
fn stop_ends_and_is_forced_although_every_accept_fails() {
    const ENOSYS: i32 = 38; // a sandbox refuses the call
    for error in [ENOSYS, errno::EPERM] {
        let mut world = World::without_faults();
        world.serve(2000, |_| Echo::new());
        world.kernel().faults.accept_error = Some(error);
        world.connect(2000, 1);
        world.run_until_blocked();
        world.reactor().stop();
        assert_eq!(world.reactor().run().unwrap(), Stopped::Forced(1), "errno {error}");
        assert_eq!(world.stats().unaccepted, 1, "as many as are known");
    }
}

// pitfall: 121
#[test]
fn datagrams_received_before_a_stop_are_answered_and_later_ones_are_not() {
    const WAITING: u16 = 3000; // more than one turn answers
    let mut world = World::without_faults();
    let datagrams = world.serve_datagrams(2001, Echo::new());
    let client = peer(1);
    world.kernel().bind_peer(client);
    for number in 0..WAITING {
        world.kernel().peer_sends_datagram(client, datagrams, number.to_be_bytes().to_vec());
    }
    world.reactor().stop();
    for number in 0..WAITING {
        let arrives = world.kernel().peer_sends_datagram(client, datagrams, vec![9; 9]);
        assert!(!arrives, "number {number} has come after the stop");
    }
    assert_eq!(world.reactor().run().unwrap(), Stopped::Graceful);
    for number in 0..WAITING {
        let reply = world.kernel().peer_receives_datagram(client);
        assert_eq!(reply, Some(number.to_be_bytes().to_vec()));
    }
    world.check_nothing_is_left();
}

// pitfall: 176
#[test]
fn idle_connection_is_closed_only_after_it_was_notified_of_the_stop() {
    /// Sends a last message when a stop begins.
    struct Polite(bool);
    impl Protocol for Polite {
        fn opened(&mut self, cx: &mut Context<'_>) -> Next {
            if self.0 {
                cx.monitor_stop();
            }
            Next::Continue
        }
        fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
            cx.monitor_stop(); // asking again changes nothing
            Advance::consumed(input.len())
        }
        fn notified(
            &mut self,
            about: ConnectionId,
            what: Notification,
            cx: &mut Context<'_>,
        ) -> Next {
            assert_eq!((about, what), (cx.id(), Notification::Stopping));
            cx.send(b"last");
            Next::Unchanged
        }
    }
    const COUNT: u16 = 300; // more than one turn delivers and closes
    let mut world = World::without_faults();
    world.serve(2000, |peer| Polite(peer.port() % 2 == 0));
    let streams: Vec<usize> = (0..COUNT).map(|number| world.connect(2000, number + 1)).collect();
    world.run_until_blocked();
    world.peer_sends(streams[1], b"x");
    world.run_for(10_000); // none has moved a byte for long: all are idle
    world.reactor().stop();
    let late = world.kernel().peer_connects(peer(COUNT + 2), server(2000), 1000);
    assert!(late.is_some());
    world.run_for(2_000);
    for (index, &stream) in streams.iter().enumerate() {
        let told: &[u8] = if index % 2 == 1 { b"last" } else { b"" };
        assert_eq!(world.peer_receives_all(stream), told, "{index}");
        world.kernel().peer_closes(stream);
    }
    world.run_for(100);
    assert_eq!(world.reactor().run().unwrap(), Stopped::Graceful);
    world.check_nothing_is_left();
}

// pitfall: 271
#[test]
fn listener_opened_during_a_stop_does_not_prolong_it() {
    let (mut world, streams) = echo_world_with(1);
    world.peer_sends(streams[0], b"hello");
    world.run_until_blocked();
    world.reactor().stop();
    world.serve(HTTP, |_| Http::new(Site::new()));
    world.kernel().peer_closes(streams[0]);
    world.run_for(10);
    assert!(world.reactor().is_stopped());
    world.stop();
}
