//! Fairness: no source keeps the others waiting, however much it has to do.
//!
//! Each source has a budget for a turn, and the turn has one for all. A source that has spent its
//! budget goes to the end of its queue.

use super::protocols::BulkServer;
use super::*;
use crate::echo::Echo;
use crate::limits::{EVENTS_PER_TURN, READ_BYTES_MAX, STREAM_BYTES_PER_TURN_MAX, TURN_BYTES_MAX};
use crate::testing::simulated::errno;

const ECHO: u16 = 2000;
const DATAGRAMS: u16 = 2001;

fn bytes_moved(world: &World) -> usize {
    usize::try_from(world.stats().bytes_in + world.stats().bytes_out).unwrap()
}

#[test]
fn connects_beyond_the_accept_budget_need_no_further_edge() {
    let mut world = echo_world();
    let count = u16::try_from(5 * ACCEPTS_PER_TURN).unwrap();
    let streams: Vec<usize> = (1..=count).map(|number| world.connect(ECHO, number)).collect();
    for turns in 1..=5 {
        world.turn();
        assert_eq!(
            world.stats().accepted,
            turns * ACCEPTS_PER_TURN as u64,
            "one budget in each turn"
        );
    }
    for stream in streams {
        world.kernel().peer_closes(stream);
    }
    world.run_until_blocked();
    world.stop();
}

#[test]
fn connection_burst_does_not_delay_served_connections() {
    let (mut world, streams) = echo_world_with(1);
    let burst: Vec<usize> = (2..=2000).map(|number| world.connect(ECHO, number)).collect();
    for _ in 0..10 {
        world.peer_sends(streams[0], b"hello");
        world.turn();
        assert_eq!(world.peer_receives_all(streams[0]), b"hello", "in the same turn");
    }
    for stream in burst.into_iter().chain(streams) {
        world.kernel().peer_closes(stream);
    }
    world.run_until_blocked();
    world.stop();
}

#[test]
fn each_of_1000_ready_connections_is_served_before_any_twice() {
    let (mut world, streams) = echo_world_with(1000);
    for &stream in &streams {
        world.peer_sends(stream, b"first");
    }
    let mut waiting = streams.clone();
    while !waiting.is_empty() {
        let waiting_before = waiting.len();
        world.turn();
        for &stream in &streams {
            let received = world.peer_receives_all(stream);
            if !received.is_empty() {
                world.peer_sends(stream, b"second");
                match waiting.iter().position(|&other| other == stream) {
                    Some(index) => drop(waiting.remove(index)),
                    None => assert!(
                        waiting_before < EVENTS_PER_TURN,
                        "served twice before all others were served once"
                    ),
                }
            }
        }
        assert_eq!(
            waiting_before - waiting.len(),
            waiting_before.min(EVENTS_PER_TURN),
            "each turn serves as many as its events allow"
        );
    }
    for &stream in &streams {
        world.kernel().peer_closes(stream);
    }
    world.run_until_blocked();
    world.stop();
}

#[test]
fn endless_sender_and_datagram_flood_delay_no_other_connection() {
    let (mut world, streams) = echo_world_with(101);
    let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
    let flood = vec![7; 2 << 20];
    for _ in 0..10 {
        world.peer_sends(streams[0], &flood);
        for _ in 0..1000 {
            world.kernel().peer_sends_datagram(peer(999), datagrams, b"datagram".to_vec());
        }
        for &stream in &streams[1..] {
            world.peer_sends(stream, b"hello");
        }
        let moved_before = bytes_moved(&world);
        world.turn();
        let moved = bytes_moved(&world) - moved_before;
        assert!(moved < 2 * STREAM_BYTES_PER_TURN_MAX, "{moved} bytes in one turn");
        world.peer_receives_all(streams[0]);
        for &stream in &streams[1..] {
            assert_eq!(world.peer_receives_all(stream), b"hello", "in the same turn");
        }
    }
    for stream in streams {
        world.kernel().peer_closes(stream);
    }
    world.run_until_blocked();
    world.stop();
}

#[test]
fn turn_budget_is_kept_when_400_connections_move_full_reads() {
    // Each of 400 connections has sent as much as one read takes, and gets it back. All of that in
    // one turn would keep a new connection waiting for longer than a tenth of a second.
    let (mut world, streams) = echo_world_with(400);
    streams.iter().for_each(|&stream| world.peer_sends(stream, &vec![b'x'; READ_BYTES_MAX]));
    let bytes_each = 2 * READ_BYTES_MAX;
    let mut served = vec![0; streams.len()];
    let mut turns = 0;
    while served.iter().any(|&bytes| bytes < READ_BYTES_MAX) {
        let before = bytes_moved(&world);
        world.turn();
        let moved = bytes_moved(&world) - before;
        assert!(moved < TURN_BYTES_MAX + bytes_each, "{moved} bytes in turn {turns}");
        for (&stream, served) in streams.iter().zip(&mut served) {
            *served += world.peer_receives_all(stream).len();
        }
        turns += 1;
    }
    assert!(
        turns <= 2 + (400 * bytes_each).div_ceil(TURN_BYTES_MAX),
        "{turns} turns: more than the bytes need"
    );
    assert!(served.iter().all(|&bytes| bytes == READ_BYTES_MAX));
    for stream in streams {
        world.kernel().fail(stream, errno::ECONNRESET);
    }
    world.run_until_blocked();
    world.stop();
}

/// The same load twice: with all statistics overwritten before each turn, and without. If any of
/// them decided anything, the system calls or what the peers receive would differ.
#[test]
fn scrambled_statistics_change_no_system_call() {
    fn run(is_scrambled: bool) -> (Vec<&'static str>, Vec<Vec<u8>>) {
        let limits =
            Limits::default().with_connections_max(40).with_idle_timeout(Duration::from_secs(2));
        let mut world = World::new(7, limits, Faults::default());
        world.serve(2000, |_| Echo::new());
        let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
        world.kernel().bind_peer(peer(999));
        let streams: Vec<usize> = (1..=60).map(|number| world.connect(2000, number)).collect();
        let mut received = vec![Vec::new(); streams.len()];
        for turn in 0..120u64 {
            if is_scrambled {
                let connections = usize::try_from(turn * 7 % 50).unwrap();
                world.reactor().state.stats = scrambled_stats(turn << 30, connections);
            }
            if turn < 40 {
                world.peer_sends(streams[0], &vec![7; 300_000]);
                world.peer_sends(streams[usize::try_from(turn).unwrap()], b"hello");
                let datagram = vec![b'd'; usize::try_from(turn).unwrap() * 30];
                world.kernel().peer_sends_datagram(peer(999), datagrams, datagram);
            }
            world.turn_within(100);
            for (&stream, received) in streams.iter().zip(&mut received) {
                received.extend(world.peer_receives_all(stream));
            }
        }
        (world.take_calls(), received)
    }
    fn scrambled_stats(value: u64, connections: usize) -> Stats {
        Stats {
            connections,
            turns: value,
            empty_turns: value,
            accepted: value,
            accepts_failed: value,
            accept_pauses: value,
            unaccepted: value,
            evicted: value,
            evicted_for_memory: value,
            memory_refusals: value,
            connected: value,
            connects_failed: value,
            closed: value,
            closed_finished: value,
            panics: value,
            bodies_failed: value,
            answers_promised: value,
            answers_late: value,
            answers_dropped: value,
            answers_ongoing: value,
            feeds_dropped: value,
            tasks_run: value,
            bytes_in: value,
            bytes_out: value,
            sends_rejected: value,
            publishes_dropped: value,
            publishes_replaced: value,
            slow_readers_aborted: value,
            messages_rejected: value,
            deadlines_expired: value,
            datagrams_in: value,
            datagrams_out: value,
            datagrams_dropped: value,
            datagrams_too_long: value,
            datagrams_unsent: value,
            datagram_errors: value,
        }
    }
    let (calls, received) = run(false);
    assert!(received[0].len() > 10_000_000 && received[39] == b"hello", "the load is served");
    let (scrambled_calls, scrambled_received) = run(true);
    assert!(scrambled_calls == calls && scrambled_received == received);
}

/// Requests whose responder reads a file, or computes something: `HttpContext::charge` says how
/// long it takes.
#[cfg(feature = "http")]
// pitfall: 100
#[test]
fn pipelined_requests_with_much_work_are_spread_over_turns() {
    use crate::http::content_type::ContentType;
    use crate::http::{
        context::HttpContext, protocol::Http, request::Request, responder::Responder,
        response::Response,
    };
    struct Worker;
    impl Responder for Worker {
        fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
            cx.charge(Duration::from_micros(500));
            Response::ok(ContentType::TEXT, request.path().to_vec())
        }
    }
    let mut world = World::without_faults();
    world.serve(2000, |_| Http::new(Worker));
    let streams: Vec<usize> = (1..=4).map(|number| world.connect(2000, number)).collect();
    world.run_until_blocked();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for &stream in &streams[1..] {
        world.peer_sends(stream, &request.repeat(100));
    }
    world.turn();
    let served = |world: &mut World| -> usize {
        let all = streams[1..].iter().map(|&stream| world.peer_receives_all(stream));
        all.map(|bytes| bytes.windows(9).filter(|part| part == b"HTTP/1.0 ").count()).sum()
    };
    let in_one_turn = served(&mut world);
    assert!((1..=8).contains(&in_one_turn), "{in_one_turn} in one turn of about 2 ms");
    world.peer_sends(streams[0], request);
    let mut turns = 0;
    while world.peer_receives_all(streams[0]).is_empty() {
        world.turn();
        turns += 1;
    }
    assert!(turns <= 3, "{turns} turns: each connection has a share of each round");
    world.run_until_blocked();
    assert!(in_one_turn + served(&mut world) > 250, "the rest is served later");
    for stream in streams {
        world.kernel().fail(stream, errno::ECONNRESET);
    }
    world.run_until_blocked();
    world.stop();
}

// pitfall: 170
#[test]
fn new_event_is_served_in_its_turn_however_many_slots_wait() {
    const WAITING: u16 = 1000; // more than ten turns can drive
    let (mut world, streams) = echo_world_with(WAITING + 1);
    let (probe, waiting) = streams.split_last().unwrap();
    for &stream in waiting {
        world.peer_sends(stream, &vec![b'x'; READ_BYTES_MAX]);
    }
    // The kernel reports so many in several turns.
    for _ in 0..=usize::from(WAITING) / EVENTS_PER_TURN {
        world.turn();
    }
    world.peer_sends(*probe, b"new");
    world.turn();
    assert_eq!(world.peer_receives_all(*probe), b"new");
    // A new event in every turn does not keep those waiting either: half of each turn is theirs.
    let mut turns = 0;
    while world.stats().bytes_in < u64::from(WAITING) * READ_BYTES_MAX as u64 {
        world.peer_sends(*probe, b"new");
        world.turn();
        turns += 1;
        waiting.iter().for_each(|&stream| drop(world.peer_receives_all(stream)));
    }
    let alone = usize::from(WAITING) * 2 * READ_BYTES_MAX / TURN_BYTES_MAX;
    assert!(turns <= 2 * alone + 2, "{turns} turns");
    streams.iter().for_each(|&stream| world.kernel().fail(stream, errno::ECONNRESET));
    world.run_until_blocked();
    world.stop();
}

/// What is new goes before the downloads, and they have half of the turn.
// pitfall: 195
#[test]
fn new_connection_is_answered_in_its_turn_among_a_crowd_of_downloads() {
    const DOWNLOADS: u16 = 200;
    const BULK: u16 = 3000;
    const BUFFER_BYTES: usize = 100_000; // all of them together are more than a turn moves
    let mut world = World::without_faults();
    let options = ListenOptions::default().with_deferred_accept(true);
    world.serve_with(ECHO, &options, |_| Echo::new());
    let bulk = world.serve(BULK, |peer| BulkServer::new(peer.port(), BUFFER_BYTES));
    world.kernel().allow_pauses(bulk);
    let downloads: Vec<usize> = (1..=DOWNLOADS)
        .map(|number| world.kernel().peer_connects(peer(number), bulk, BUFFER_BYTES).unwrap())
        .collect();
    for &download in &downloads {
        world.peer_sends(download, &BulkServer::request(0, 10_000_000));
    }
    world.run_until_blocked(); // the buffers of all peers are full
    for number in 1..=10 {
        downloads.iter().for_each(|&download| drop(world.peer_receives_all(download)));
        let probe = world.connect(ECHO, DOWNLOADS + number);
        world.peer_sends(probe, b"hello");
        let moved_before = bytes_moved(&world);
        world.turn();
        assert_eq!(world.peer_receives_all(probe), b"hello", "in the same turn");
        let moved = bytes_moved(&world) - moved_before;
        assert!(moved >= TURN_BYTES_MAX / 2, "{moved} bytes: the downloads go on");
        world.run_until_blocked();
    }
    downloads.iter().for_each(|&stream| world.kernel().fail(stream, errno::ECONNRESET));
    world.run_until_blocked();
    world.stop();
}
