//! Listeners with options of their own: timeouts, and a bound on their connections.

use super::*;
use crate::echo::Echo;
use crate::loop_limits::ListenerIndex;
use crate::overload_limits::{ACCEPT_RETRY_MS, EVICTION_IDLE_MS, STARVED_LISTENER_MS};
use crate::stream::listen_options::{ListenOptions, Timeout};
use crate::testing::simulated::kernel::Host;

const PLAIN: u16 = 2000;
const OWN: u16 = 2001;

/// A world that serves echo on `PLAIN` with default options, and on `OWN` with these.
fn world_with(options: &ListenOptions) -> World {
    let mut world = World::without_faults();
    world.serve(PLAIN, |_| Echo::new());
    world.serve_with(OWN, options, |_| Echo::new());
    world
}

/// Connects to `port`, and has five bytes echoed.
fn exchange(world: &mut World, port: u16, number: u16) -> usize {
    let stream = world.connect(port, number);
    world.peer_sends(stream, b"hello");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(stream), b"hello");
    stream
}

#[test]
fn timeouts_of_a_listener_apply_to_its_connections_alone() {
    let options = ListenOptions::default()
        .with_first_byte_timeout(Duration::from_secs(1))
        .with_idle_timeout(Duration::from_secs(2));
    let mut world = world_with(&options);
    exchange(&mut world, PLAIN, 1);
    exchange(&mut world, OWN, 2);
    world.connect(PLAIN, 3);
    world.connect(OWN, 4);
    world.run_until_blocked();
    for (ms, left) in [(990, 4), (20, 3), (980, 3), (20, 2), (27_000, 2), (1_000, 1)] {
        world.run_for(ms);
        assert_eq!(world.stats().connections, left, "{} ms later", ms);
    }
    world.stop();
}

#[test]
fn connections_without_an_idle_timeout_outlast_all_others() {
    let mut world = world_with(&ListenOptions::default().with_idle_timeout(Timeout::Never));
    exchange(&mut world, PLAIN, 1);
    let stream = exchange(&mut world, OWN, 2);
    world.kernel().idle_us_max = u64::MAX; // the checks know the reactor's limits only
    world.run_for(24 * 3_600_000);
    assert_eq!(world.stats().connections, 1);
    world.peer_sends(stream, b"again");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(stream), b"again");
    world.stop();
}

#[test]
fn bound_of_a_listener_pauses_it_and_no_other() {
    let mut world = world_with(&ListenOptions::default().with_connections_max(2));
    let first = exchange(&mut world, OWN, 1);
    exchange(&mut world, OWN, 2);
    let waiting = world.connect(OWN, 3);
    world.peer_sends(waiting, b"hello");
    world.run_until_blocked();
    let pauses = world.stats().accept_pauses;
    assert!(pauses > 0 && world.stats().connections == 2);
    // Slots that other listeners free make no room here.
    for number in 10..13 {
        let other = exchange(&mut world, PLAIN, number);
        world.kernel().peer_closes(other);
        world.run_until_blocked();
    }
    assert_eq!((world.stats().connections, world.stats().accept_pauses), (2, pauses));
    world.kernel().peer_closes(first);
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(waiting), b"hello");
    assert_eq!(world.stats().connections, 2);
    world.stop();
}

#[test]
fn bound_of_a_listener_evicts_only_its_own_connections() {
    let mut world = World::without_faults();
    let options = ListenOptions::default().with_connections_max(1);
    // Without the ledger, whose wrapper does not allow evictions.
    world.reactor().listen(server(PLAIN), |_| Evictable).unwrap();
    world.reactor().listen_with(server(OWN), &options, |_| Evictable).unwrap();
    let other = exchange(&mut world, PLAIN, 1); // the longest idle
    let own = exchange(&mut world, OWN, 2);
    world.run_for(EVICTION_IDLE_MS + 1);
    let waiting = world.connect(OWN, 3);
    world.peer_sends(waiting, b"hello");
    world.run_until_blocked();
    world.run_for(2 * ACCEPT_RETRY_MS);
    assert_eq!(world.peer_receives_all(waiting), b"hello");
    assert_eq!(world.stats().evicted, 1);
    let ends = |stream| world.kernel().peer_receives(stream, 1);
    assert_eq!((ends(own), ends(other)), (PeerReceived::Fin, PeerReceived::WouldBlock));
}

// pitfall: 154
#[test]
fn connections_of_one_listener_leave_the_others_their_minimum() {
    let limits = Limits::default().with_connections_max(40);
    let mut world = World::new(1, limits, Faults::default());
    world.serve(PLAIN, |_| Echo::new());
    world.serve(OWN, |_| Echo::new());
    for number in 1..=60 {
        world.connect(PLAIN, number); // silent, and not evictable
    }
    world.run_until_blocked();
    assert_eq!(world.stats().connections, 35, "a quarter of 40, split between two, is kept");
    for number in 101..=105 {
        exchange(&mut world, OWN, number);
    }
    world.connect(OWN, 106);
    world.run_for(2 * ACCEPT_RETRY_MS);
    assert_eq!(world.stats().connections, 40);
    world.stop();
}

// pitfall: 155
#[test]
fn descriptors_are_shared_as_connections_are() {
    let mut world = World::without_faults();
    let open = world.kernel().descriptors_open();
    world.kernel().faults.descriptors_max = open + 2 + 40; // two listeners
    world.serve(PLAIN, |_| Echo::new());
    world.serve(OWN, |_| Echo::new());
    for number in 1..=60 {
        world.connect(PLAIN, number);
    }
    world.run_until_blocked();
    assert_eq!(world.stats().connections, 35);
    for number in 101..=105 {
        exchange(&mut world, OWN, number);
    }
    world.stop();
}

#[test]
fn outbound_connections_leave_the_listeners_their_minimum() {
    let limits = Limits::default().with_connections_max(8);
    let mut world = World::new(1, limits, Faults::default());
    world.serve(PLAIN, |_| Echo::new());
    let host = SocketAddr::from(([10, 0, 0, 9], 7));
    let behavior = Host::Accepts { after_us: 0, buffer_bytes: 500 };
    world.kernel().hosts.insert(host, behavior);
    for _ in 0..8 {
        world.reactor().connect(host, Evictable);
    }
    world.run_until_blocked();
    assert_eq!((world.stats().connected, world.stats().connects_failed), (6, 2));
    exchange(&mut world, PLAIN, 1);
    exchange(&mut world, PLAIN, 2);
}

#[test]
fn own_minimum_replaces_the_share_and_ends_with_the_listener() {
    let limits = Limits::default().with_connections_max(10);
    let mut world = World::new(1, limits, Faults::default());
    world.serve(PLAIN, |_| Echo::new());
    let options = ListenOptions::default().with_connections_min(6);
    world.serve_with(OWN, &options, |_| Echo::new());
    for number in 1..=10 {
        world.connect(PLAIN, number);
    }
    world.run_until_blocked();
    assert_eq!(world.stats().connections, 4);
    let index = ListenerIndex::of_nth_listener(1);
    world.reactor().state.loop_limits.on_listener_closed(index);
    world.run_for(2 * ACCEPT_RETRY_MS);
    assert_eq!(world.stats().connections, 10);
    world.stop();
}

#[test]
fn eviction_spares_the_minimum_of_other_listeners() {
    let limits = Limits::default().with_connections_max(16);
    let mut world = World::new(1, limits, Faults::default());
    world.reactor().listen(server(PLAIN), |_| Evictable).unwrap();
    world.reactor().listen(server(OWN), |_| Evictable).unwrap();
    let longest_idle = exchange(&mut world, PLAIN, 1); // within the minimum of two
    for number in 2..=15 {
        exchange(&mut world, OWN, number);
    }
    world.run_for(EVICTION_IDLE_MS + 1);
    let waiting = world.connect(OWN, 16);
    world.peer_sends(waiting, b"hello");
    world.run_for(2 * ACCEPT_RETRY_MS);
    assert_eq!(world.peer_receives_all(waiting), b"hello");
    assert_eq!(world.kernel().peer_receives(longest_idle, 1), PeerReceived::WouldBlock);
}

// pitfall: 250
#[test]
fn clients_that_send_again_and_again_do_not_keep_out_a_new_one() {
    let limits = Limits::default().with_connections_max(2);
    let mut world = World::new(1, limits, Faults::default());
    world.reactor().listen(server(PLAIN), |_| Evictable).unwrap();
    let busy = [1, 2].map(|number| exchange(&mut world, PLAIN, number));
    let waiting = world.connect(PLAIN, 3);
    world.peer_sends(waiting, b"hello");
    let again_ms = EVICTION_IDLE_MS / 2;
    for times in 0..STARVED_LISTENER_MS / again_ms {
        assert_eq!(world.stats().evicted, 0, "after {} ms", times * again_ms);
        for stream in busy {
            world.peer_sends(stream, b"again");
            world.run_until_blocked();
            assert_eq!(world.peer_receives_all(stream), b"again");
        }
        world.run_for(again_ms);
    }
    world.run_for(2 * ACCEPT_RETRY_MS);
    assert_eq!(world.peer_receives_all(waiting), b"hello");
}

/// Has each of `streams` send and be answered, so that none of them is idle. Those that have ended
/// connect again. Returns how many have.
fn keep_busy(world: &mut World, streams: &mut [usize], number: &mut u16) -> usize {
    streams.iter().for_each(|&stream| world.peer_sends(stream, b"again"));
    world.run_until_blocked();
    let mut ended = 0;
    for stream in streams {
        if world.peer_receives_all(*stream).is_empty() {
            world.kernel().peer_closes(*stream);
            *number += 1;
            *stream = world.connect(PLAIN, *number);
            ended += 1;
        }
    }
    ended
}

// pitfall: 250
#[test]
fn full_server_for_which_no_client_waits_closes_one_busy_connection_a_second() {
    const FULL: usize = 20;
    let limits = Limits::default().with_connections_max(FULL);
    let mut world = World::new(1, limits, Faults::default());
    world.reactor().listen(server(PLAIN), |_| Evictable).unwrap();
    let mut streams: Vec<usize> =
        (1..=20).map(|number| exchange(&mut world, PLAIN, number)).collect();
    let (mut number, mut ended) = (20, 0);
    for _ in 0..130 {
        ended += keep_busy(&mut world, &mut streams, &mut number);
        world.run_for(77);
    }
    assert!((1..=10).contains(&ended), "{ended} in ten seconds");
}

// pitfall: 250
#[test]
fn listener_whose_backlog_was_empty_meanwhile_is_not_starved() {
    let limits = Limits::default().with_connections_max(2);
    let mut world = World::new(1, limits, Faults::default());
    for port in [PLAIN, OWN] {
        world.reactor().listen(server(port), |_| Evictable).unwrap();
    }
    let mut streams = [1, 2].map(|number| exchange(&mut world, PLAIN, number));
    for _ in 0..4 {
        world.run_for(200);
        keep_busy(&mut world, &mut streams, &mut 2);
    }
    world.kernel().peer_closes(streams[0]);
    world.run_for(ACCEPT_RETRY_MS); // it accepts again, and its backlog is empty
    exchange(&mut world, OWN, 3);
    world.run_for(150);
    keep_busy(&mut world, &mut streams[1..], &mut 2);
    let waiting = world.connect(PLAIN, 4);
    world.peer_sends(waiting, b"hello");
    world.run_for(ACCEPT_RETRY_MS);
    assert_eq!(world.stats().evicted, 0, "it has waited for a tenth of a second");
}

/// Echoes, and may be evicted.
struct Evictable;

impl Protocol for Evictable {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(input);
        Advance::consumed(input.len())
    }

    fn is_evictable(&self) -> bool {
        true
    }
}
