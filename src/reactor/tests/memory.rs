//! The bound on memory: what counts, when accepting pauses, and which connection is evicted.

use super::*;
use crate::echo::Echo;
use crate::overload_limits::{ACCEPT_RETRY_MS, SUBSCRIPTION_BYTES};

const ECHO: u16 = 2000;
const HOLDERS: u16 = 3000;

/// A world in which connections may hold `max` bytes, and the kernel takes nearly nothing for a
/// peer that does not read.
fn world_with_memory(max: usize) -> World {
    let faults = Faults { send_queue_bytes_max: 600, ..Faults::default() };
    let mut world = World::new(1, Limits::default().with_memory_bytes_max(max), faults);
    world.serve(ECHO, |_| Echo::new());
    world.serve(HOLDERS, |_| Holder);
    world
}

/// Connects a peer that sends `bytes` and reads nothing.
fn connect_without_reading(world: &mut World, number: u16, bytes: usize) -> usize {
    let stream = world.kernel().peer_connects(peer(number), server(ECHO), 500).unwrap();
    world.peer_sends(stream, &vec![b'x'; bytes]);
    world.run_until_blocked();
    stream
}

/// Says that it holds as many thousand bytes as its last byte of input.
struct Holder;

impl Protocol for Holder {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.set_held_bytes(usize::from(input[input.len() - 1]) * 1000);
        Advance::consumed(input.len())
    }
}

/// Tells the test its id.
struct Named(Rc<RefCell<Vec<ConnectionId>>>);

impl Protocol for Named {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.0.borrow_mut().push(cx.id());
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }
}

// pitfall: 150
#[test]
fn connection_that_holds_the_most_is_reset_above_the_bound() {
    let mut world = world_with_memory(100_000);
    for (number, bytes) in [(1, 30_000), (2, 40_000)] {
        connect_without_reading(&mut world, number, bytes);
    }
    let last = connect_without_reading(&mut world, 3, 0);
    assert_eq!((world.stats().evicted_for_memory, world.stats().connections), (0, 3));
    world.peer_sends(last, &[b'x'; 34_000]);
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(2), Some(CloseReason::MemoryOverflow));
    assert_eq!((world.stats().evicted_for_memory, world.stats().connections), (1, 2));
    // What is free again is used again.
    connect_without_reading(&mut world, 4, 20_000);
    assert_eq!((world.stats().evicted_for_memory, world.stats().connections), (1, 3));
    world.stop();
}

#[test]
fn relayed_output_counts_and_its_receiver_is_evicted() {
    let mut world = world_with_memory(100_000);
    let ids: Rc<RefCell<Vec<ConnectionId>>> = Rc::default();
    let shared = ids.clone();
    world.serve(4000, move |_| Named(shared.clone()));
    let stream = world.kernel().peer_connects(peer(1), server(4000), 500).unwrap();
    world.run_until_blocked();
    let to = ids.borrow()[0];
    let sent = (0..5).map(|_| world.reactor().send_to(to, &[b'x'; 30_000]));
    let sent: Vec<_> = sent.collect();
    assert_eq!((sent[1].is_ok(), sent[4]), (true, Err(SendError::Closed)));
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::MemoryOverflow));
    assert_eq!(world.peer_receives_end(stream), PeerReceived::Reset);
    world.stop();
}

// pitfall: 151
#[test]
fn what_a_protocol_says_that_it_holds_counts() {
    let mut world = world_with_memory(100_000);
    let streams: Vec<usize> = (1..=3).map(|number| world.connect(HOLDERS, number)).collect();
    for (&stream, thousands) in streams.iter().zip([30, 50, 10]) {
        world.peer_sends(stream, &[thousands]);
    }
    world.run_until_blocked();
    assert_eq!(world.stats().evicted_for_memory, 0);
    world.peer_sends(streams[0], &[41]); // replaces the 30
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(2), Some(CloseReason::MemoryOverflow));
    assert_eq!((world.stats().evicted_for_memory, world.stats().connections), (1, 2));
    // It ends with the connection.
    world.kernel().peer_closes(streams[0]);
    world.run_until_blocked();
    assert_eq!(world.reactor().state.memory.held(), 10_000);
    world.stop();
}

#[test]
fn protocol_that_holds_too_much_is_evicted_beside_the_most_effects() {
    struct Greedy;
    impl Protocol for Greedy {
        fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
            let own = cx.id();
            let most = std::iter::repeat_n(own, crate::limits::EFFECTS_MAX);
            cx.connections().send_to_all(most, b"");
            cx.set_held_bytes(200_000);
            Advance::consumed(input.len())
        }
    }
    let mut world = world_with_memory(100_000);
    world.serve(4000, |_| Greedy);
    let stream = world.connect(4000, 1);
    world.peer_sends(stream, b"!");
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::MemoryOverflow));
    assert_eq!((world.stats().evicted_for_memory, world.stats().panics), (1, 0));
    world.stop();
}

// pitfall: 152
#[test]
fn accepting_pauses_near_the_bound_and_the_largest_makes_room() {
    let mut world = world_with_memory(100_000);
    let holders: Vec<usize> = (1..=3).map(|number| world.connect(HOLDERS, number)).collect();
    world.run_until_blocked();
    for &holder in &holders {
        world.peer_sends(holder, &[30]);
    }
    world.run_until_blocked();
    let waiting = world.connect(ECHO, 9);
    world.peer_sends(waiting, b"hello");
    world.run_until_blocked();
    assert_eq!((world.stats().connections, world.stats().accept_pauses), (3, 1));
    world.run_for(3 * ACCEPT_RETRY_MS);
    assert_eq!(world.peer_receives_all(waiting), b"hello");
    assert_eq!((world.stats().evicted_for_memory, world.stats().connections), (1, 3));
    world.stop();
}

#[test]
fn many_small_holders_delay_a_new_connection_by_few_retries() {
    let mut world = world_with_memory(1_000_000);
    let holders: Vec<usize> = (1..=60).map(|number| world.connect(HOLDERS, number)).collect();
    world.run_until_blocked();
    for &holder in &holders {
        world.peer_sends(holder, &[16]);
    }
    world.run_until_blocked();
    let waiting = world.connect(ECHO, 99);
    world.peer_sends(waiting, b"hello");
    world.run_for(2 * ACCEPT_RETRY_MS);
    assert_eq!(world.peer_receives_all(waiting), b"hello");
    // 60 of them hold 960,000 bytes, and 54 no more than seven eighths of a million.
    assert_eq!(world.stats().evicted_for_memory, 6);
    world.stop();
}

#[test]
fn accepting_resumes_when_memory_is_freed_without_an_eviction() {
    let mut world = world_with_memory(100_000);
    let holder = world.connect(HOLDERS, 1);
    world.peer_sends(holder, &[90]);
    world.run_until_blocked();
    let waiting = world.connect(ECHO, 9);
    world.peer_sends(waiting, b"hello");
    world.run_until_blocked();
    world.peer_sends(holder, &[1]);
    world.run_for(2 * ACCEPT_RETRY_MS);
    assert_eq!(world.peer_receives_all(waiting), b"hello");
    assert_eq!(world.stats().evicted_for_memory, 0);
    world.stop();
}

#[test]
fn peer_whose_output_is_read_is_served_near_the_bound() {
    let mut world = world_with_memory(100_000);
    let served = world.connect(ECHO, 1);
    let holder = world.connect(HOLDERS, 2);
    world.peer_sends(holder, &[99]);
    world.run_until_blocked();
    let mut echoed = 0;
    for _ in 0..50 {
        world.peer_sends(served, &[b'x'; 500]);
        world.run_until_blocked();
        echoed += world.peer_receives_all(served).len();
    }
    assert_eq!((echoed, world.stats().evicted_for_memory), (25_000, 0));
    world.stop();
}

#[test]
fn replies_of_a_datagram_socket_count_only_while_they_wait() {
    // Memory that a socket keeps from one batch to the next must not pause accepting for ever.
    let mut world = world_with_memory(100_000);
    let datagrams = world.serve_datagrams(2001, Echo::with_prefix("echo -> "));
    world.kernel().faults.call_us_max = 20; // a datagram takes its time to leave
    let peer = bound_peer(&world, 1);
    for number in 0..40 {
        // Of different lengths, so that none share a GSO batch.
        world.kernel().peer_sends_datagram(peer, datagrams, vec![b'x'; 200 + number]);
    }
    let mut most = 0;
    for _ in 0..20 {
        world.turn();
        most = most.max(world.reactor().state.memory.held());
    }
    assert!(most > 0, "the kernel takes 600 bytes at a time");
    world.run_for(1_000);
    assert_eq!((world.stats().datagrams_out, world.reactor().state.memory.held()), (40, 0));
    world.stop();
}

/// Monitors each connection of the list that is open, for each byte of input.
struct Monitor(Rc<RefCell<Vec<ConnectionId>>>);

impl Protocol for Monitor {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        for &id in self.0.borrow().iter() {
            cx.monitor(id);
        }
        Advance::consumed(input.len())
    }
}

#[test]
fn subscriptions_count_for_the_connection_that_has_them() {
    let mut world = world_with_memory((10 * 20 + 19) * SUBSCRIPTION_BYTES);
    let ids: Rc<RefCell<Vec<ConnectionId>>> = Rc::default();
    let (named, monitored) = (ids.clone(), ids.clone());
    world.serve(4000, move |_| Named(named.clone()));
    world.serve(4001, move |_| Monitor(monitored.clone()));
    let subjects: Vec<usize> = (1..=20).map(|number| world.connect(4000, number)).collect();
    let monitors: Vec<usize> = (21..=31).map(|number| world.connect(4001, number)).collect();
    world.run_until_blocked();
    for &monitor in &monitors[..10] {
        world.peer_sends(monitor, b"mm"); // the same pairs again are no more pairs
        world.run_until_blocked();
    }
    let held = world.reactor().state.memory.held();
    assert_eq!((held, world.stats().evicted_for_memory), (10 * 20 * SUBSCRIPTION_BYTES, 0));
    world.peer_sends(monitors[10], b"m");
    world.run_until_blocked();
    assert_eq!((world.stats().evicted_for_memory, world.stats().connections), (1, 30));
    // They end with those that are monitored.
    for &subject in &subjects[..15] {
        world.kernel().peer_closes(subject);
    }
    world.run_until_blocked();
    assert_eq!(world.reactor().state.memory.held(), 10 * 5 * SUBSCRIPTION_BYTES);
    world.stop();
}
