//! Growth: what a turn costs beside very many idle connections, and when very many do one thing.
//!
//! Two things must not depend on how many connections are open: the cost of an operation on those
//! that are active, and the longest turn, because they wait for one or a few. The tests count what
//! one turn does. `scripts/growth` measures, with up to a million connections on the simulated
//! kernel:
//!
//! ```text
//! REACTOR_GROWTH=1000000,stop cargo test --release --lib growth_is_measured -- --nocapture
//! ```
//!
//! The times are those of the thread's CPU clock, so that other work on the machine does not count.
//! What the simulated kernel does within the calls is in them.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::*;
use crate::echo::Echo;
use crate::limits::{BATCH_SLOTS_MAX, DRAIN_QUIET_MS};
use crate::overload_limits::{ACCEPT_RETRY_MS, EVICTION_IDLE_MS, EVICTIONS_MAX, SLOTS_WALKED_MAX};
use crate::testing::simulated::kernel::Host;

const PORT: u16 = 2000;

/// How many connections are active beside the idle ones.
const ACTIVE: usize = 64;

const MESSAGE: [u8; 64] = [b'x'; 64];

/// How often each of the active connections has a message echoed.
const ROUNDS: usize = 3000;

/// Echoes, and may be evicted.
struct Idle(Echo);

impl Protocol for Idle {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        Protocol::advance(&mut self.0, input, cx)
    }

    fn is_evictable(&self) -> bool {
        true
    }
}

/// A reactor with very many connections, which are idle.
struct Many {
    reactor: Reactor,
    installed: Installed,
    streams: Vec<usize>,
    /// The longest turn so far, in nanoseconds of CPU time.
    longest: u64,
}

/// The CPU time of this thread, in nanoseconds.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).expect("the clock runs forward")
}

impl Many {
    /// Opens `count` connections, of as many as there may be.
    fn new(count: usize) -> Many {
        Many::with_room(count, 0)
    }

    fn with_room(count: usize, room: usize) -> Many {
        let mut kernel = Kernel::new(1);
        kernel.is_measured = true;
        kernel.faults.descriptors_max = usize::MAX;
        let installed = Installed::new(kernel);
        let limits = Limits::default().with_connections_max(count + room);
        let mut reactor = Reactor::new(limits).unwrap();
        reactor.listen(server(PORT), |_| Idle(Echo::new())).unwrap();
        let mut many = Many { reactor, installed, streams: Vec::new(), longest: 0 };
        while many.streams.len() < count {
            many.connect();
            if many.streams.len().is_multiple_of(ACCEPTS_PER_TURN) {
                many.turn();
            }
        }
        many.run_until_blocked();
        assert_eq!(many.reactor.stats().connections, count);
        many
    }

    fn kernel(&self) -> RefMut<'_, Kernel> {
        self.installed.0.borrow_mut()
    }

    fn connect(&mut self) {
        let stream = self.kernel().peer_connects(peer(1), server(PORT), 1 << 20);
        self.streams.push(stream.expect("a listener on that port"));
    }

    /// Runs a turn that does not wait. Returns its CPU time in nanoseconds.
    fn turn(&mut self) -> u64 {
        let began = cpu_ns();
        self.reactor.turn(Some(Duration::ZERO)).unwrap();
        let took = cpu_ns() - began;
        self.longest = self.longest.max(took);
        took
    }

    fn run_until_blocked(&mut self) {
        let mut empty = self.reactor.stats().empty_turns;
        loop {
            self.turn();
            if self.reactor.stats().empty_turns > empty || self.reactor.is_stopped() {
                return;
            }
            empty = self.reactor.stats().empty_turns;
        }
    }

    fn let_pass(&mut self, ms: u64) {
        let until_us = self.kernel().now_us() + ms * 1000;
        self.kernel().advance_time_to(until_us);
    }

    /// Runs turns until `events` are over, and returns the longest, in nanoseconds.
    fn longest_turn(&mut self, events: impl FnOnce(&mut Many)) -> u64 {
        self.longest = 0;
        events(self);
        self.run_until_blocked();
        self.longest
    }

    fn stop(&mut self) {
        let began = cpu_ns();
        self.reactor.stop();
        self.longest = self.longest.max(cpu_ns() - began);
    }

    fn close(&mut self, streams: &[usize]) {
        streams.iter().for_each(|&stream| self.kernel().peer_closes(stream));
    }

    /// Has a message echoed on each of `active`. Returns the CPU time of the turns, in nanoseconds.
    fn exchange(&mut self, active: &[usize]) -> u64 {
        for &stream in active {
            self.kernel().peer_sends(stream, &MESSAGE);
        }
        let target = self.reactor.stats().bytes_out + (active.len() * MESSAGE.len()) as u64;
        let mut took = 0;
        while self.reactor.stats().bytes_out < target {
            took += self.turn();
        }
        for &stream in active {
            let received = self.kernel().peer_receives(stream, usize::MAX);
            assert_eq!(received, PeerReceived::Bytes(MESSAGE.to_vec()));
        }
        took
    }

    /// Returns the least cost of an operation of active connections that lie among the idle ones,
    /// in nanoseconds.
    fn cost_per_operation(&mut self, rounds: usize) -> u64 {
        let apart = self.streams.len() / ACTIVE;
        let active: Vec<usize> = self.streams.iter().copied().step_by(apart).take(ACTIVE).collect();
        let least = (0..rounds).map(|_| self.exchange(&active)).min();
        least.expect("there are rounds") / ACTIVE as u64
    }
}

/// What is measured in a many, which returns nanoseconds of CPU time. The names are those of
/// `scripts/growth`.
type Measure = fn(&mut Many) -> u64;
const MEASURES: [(&str, Measure); 8] = [
    ("operation", |many| many.cost_per_operation(ROUNDS)),
    ("open", |many| many.longest), // the slab grows meanwhile
    ("evict", |many| {
        many.let_pass(EVICTION_IDLE_MS);
        many.longest_turn(Many::connect)
    }),
    ("expire", |many| {
        let timeout = Limits::default().idle_timeout;
        many.longest_turn(|many| many.let_pass(ms(timeout) + 1))
    }),
    ("leave", |many| many.longest_turn(|many| many.close(&many.streams.clone()))),
    ("operation-after", |many| {
        let leaving = many.streams.split_off(ACTIVE);
        many.longest_turn(|many| many.close(&leaving));
        many.cost_per_operation(ROUNDS)
    }),
    ("stop", |many| {
        many.let_pass(DRAIN_QUIET_MS);
        many.longest_turn(|many| {
            many.stop();
            many.run_until_blocked(); // now each waits for its peer's FIN
            many.close(&many.streams.clone());
        })
    }),
    ("force", |many| {
        many.let_pass(DRAIN_QUIET_MS);
        many.reactor.stop();
        many.turn();
        let timeout = Limits::default().drain_timeout;
        many.longest_turn(|many| many.let_pass(ms(timeout) + 1))
    }),
];

#[test]
#[expect(clippy::print_stderr, reason = "the figure that scripts/growth reads")]
fn growth_is_measured() {
    let Ok(wanted) = std::env::var("REACTOR_GROWTH") else {
        for (_, measure) in MEASURES {
            measure(&mut Many::new(ACTIVE + 1));
        }
        return;
    };
    let (idle, name) = wanted.split_once(',').expect("how many idle connections, and what");
    let idle: usize = idle.parse().expect("how many idle connections");
    let (_, measure) = MEASURES.into_iter().find(|(other, _)| *other == name).expect("a measure");
    eprintln!("growth: {} ns", measure(&mut Many::new(ACTIVE + idle)));
}

// pitfall: 260
#[test]
fn turn_of_a_stop_queues_no_more_slots_than_one_part_has() {
    let mut many = Many::new(BATCH_SLOTS_MAX + 100);
    let last = many.streams[BATCH_SLOTS_MAX + 99];
    many.let_pass(DRAIN_QUIET_MS);
    many.kernel().peer_sends(last, &MESSAGE);
    many.reactor.stop();
    assert_eq!(many.reactor.run_queue.len(), BATCH_SLOTS_MAX);
    many.turn();
    many.run_until_blocked();
    let received = many.kernel().peer_receives(last, usize::MAX);
    assert_eq!(received, PeerReceived::Bytes(MESSAGE.to_vec()), "it came before the stop");
    let idle = many.streams[BATCH_SLOTS_MAX + 98];
    let received = many.kernel().peer_receives(idle, usize::MAX);
    assert_eq!(received, PeerReceived::Fin, "a later turn has told it of the stop");
    many.close(&many.streams.clone());
    many.run_until_blocked();
    assert_eq!(many.reactor.run().unwrap(), Stopped::Graceful, "all have ended");
}

// pitfall: 260
#[test]
fn event_during_a_stop_does_not_wait_for_all_slots_to_be_told() {
    let mut many = Many::new(10 * BATCH_SLOTS_MAX);
    let active = many.streams[10 * BATCH_SLOTS_MAX - 1];
    many.let_pass(DRAIN_QUIET_MS);
    many.exchange(&[active]);
    many.reactor.stop();
    many.turn();
    many.kernel().peer_sends(active, &MESSAGE);
    for _ in 0..3 {
        many.turn();
    }
    let received = many.kernel().peer_receives(active, usize::MAX);
    assert_eq!(received, PeerReceived::Bytes(MESSAGE.to_vec()));
    many.close(&many.streams.clone());
    assert_eq!(many.reactor.run().unwrap(), Stopped::Graceful);
}

/// Its filed deadline is due while a stop has not come to its slot, and its event comes with a
/// later turn.
// pitfall: 260
#[test]
fn request_that_came_before_a_stop_is_answered_in_a_slot_that_it_has_not_come_to() {
    const SHORT: u16 = 2001;
    let mut many = Many::with_room(4 * BATCH_SLOTS_MAX, 100);
    let options = ListenOptions::default().with_idle_timeout(Duration::from_secs(10));
    many.reactor.listen_with(server(SHORT), &options, |_| Echo::new()).unwrap();
    many.run_until_blocked();
    let quiet = many.kernel().peer_connects(peer(2), server(SHORT), 1 << 20).unwrap();
    many.run_until_blocked();
    many.let_pass(5_000);
    many.exchange(&[quiet]); // later than its deadline was filed
    many.let_pass(4_990);
    many.run_until_blocked();
    let first = many.streams[0];
    many.kernel().faults.events_per_poll_max = 1;
    many.kernel().peer_sends(first, b"x");
    many.kernel().peer_sends(quiet, b"before");
    many.reactor.stop();
    many.let_pass(20);
    many.turn();
    many.kernel().faults.events_per_poll_max = usize::MAX;
    many.run_until_blocked();
    let received = many.kernel().peer_receives(quiet, usize::MAX);
    assert_eq!(received, PeerReceived::Bytes(b"before".to_vec()));
    many.kernel().peer_closes(quiet);
    many.close(&many.streams.clone());
    assert_eq!(many.reactor.run().unwrap(), Stopped::Graceful);
}

// pitfall: 260
#[test]
fn turn_of_a_forced_stop_ends_no_more_slots_than_one_part_has() {
    let count = SLOTS_WALKED_MAX + 100;
    let mut many = Many::new(count);
    many.let_pass(DRAIN_QUIET_MS);
    many.reactor.stop();
    many.let_pass(ms(Limits::default().drain_timeout));
    many.turn();
    let open = many.reactor.connections - many.reactor.ended.len();
    assert!((100..count).contains(&open), "{open} of {count} are still open");
    many.run_until_blocked();
    let Stopped::Forced(closed) = many.reactor.run().unwrap() else { panic!("it was forced") };
    assert!((SLOTS_WALKED_MAX / 2..=count).contains(&closed), "{closed} were cut off");
}

// pitfall: 260
#[test]
fn forced_stop_finds_the_connection_behind_a_part_of_vacant_slots() {
    let mut many = Many::new(SLOTS_WALKED_MAX + 100);
    let last = many.streams.pop().expect("there are many");
    many.kernel().peer_sends(last, &vec![b'x'; 3 << 20]); // its echo is never read
    many.close(&many.streams.clone());
    many.run_until_blocked();
    many.reactor.stop();
    let began_us = many.kernel().now_us();
    assert_eq!(many.reactor.run().unwrap(), Stopped::Forced(1));
    let took_ms = (many.kernel().now_us() - began_us) / 1000;
    assert_eq!(took_ms, ms(Limits::default().drain_timeout), "the loop has not slept meanwhile");
}

// pitfall: 260
#[test]
fn forced_stop_ends_a_connect_that_begins_behind_its_walk() {
    let mut many = Many::new(SLOTS_WALKED_MAX + 100);
    let last = many.streams.pop().expect("there are many");
    many.kernel().peer_sends(last, &vec![b'x'; 3 << 20]); // its echo is never read
    many.close(&many.streams.clone());
    many.run_until_blocked();
    many.reactor.stop();
    many.run_until_blocked();
    many.let_pass(ms(Limits::default().drain_timeout) + 1);
    let began_us = many.kernel().now_us();
    many.turn();
    let far = SocketAddr::from(([10, 9, 9, 9], 99));
    many.kernel().hosts.insert(far, Host::Silent);
    many.reactor.connect(far, Echo::new());
    assert!(matches!(many.reactor.run().unwrap(), Stopped::Forced(_)));
    assert_eq!(many.kernel().now_us(), began_us, "it has waited for nothing");
}

// pitfall: 261
#[test]
fn eviction_scan_looks_at_one_part_and_goes_on_with_the_next() {
    let mut many = Many::new(SLOTS_WALKED_MAX + 100);
    many.let_pass(EVICTION_IDLE_MS - ACCEPT_RETRY_MS);
    for busy in many.streams[..SLOTS_WALKED_MAX].to_vec().chunks(4096) {
        many.exchange(busy);
    }
    many.let_pass(ACCEPT_RETRY_MS);
    many.run_until_blocked();
    assert_eq!(many.reactor.stats().evicted, 0, "in this part, none has been idle for so long");
    many.let_pass(ACCEPT_RETRY_MS);
    many.run_until_blocked();
    assert_eq!(many.reactor.stats().evicted, EVICTIONS_MAX as u64);
}

// pitfall: 263
#[test]
fn slots_of_a_burst_are_kept_for_the_next_one() {
    let mut many = Many::new(2000);
    let slots = many.reactor.slots.capacity();
    many.close(&many.streams.clone());
    many.run_until_blocked();
    assert_eq!(many.reactor.connections, 0);
    assert_eq!(many.reactor.slots.capacity(), slots);
}
