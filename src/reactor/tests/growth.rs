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
use crate::limits::DRAIN_QUIET_MS;
use crate::overload_limits::{ACCEPT_RETRY_MS, EVICTION_IDLE_MS, EVICTIONS_MAX, SLOTS_WALKED_MAX};

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

/// A reactor with very many connections, all of which are idle.
struct Crowd {
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

impl Crowd {
    fn new(count: usize) -> Crowd {
        let mut kernel = Kernel::new(1);
        kernel.is_measured = true;
        kernel.faults.descriptors_max = usize::MAX;
        let installed = Installed::new(kernel);
        let limits = Limits::default().with_connections_max(count);
        let mut reactor = Reactor::new(limits).unwrap();
        reactor.listen(server(PORT), |_| Idle(Echo::new())).unwrap();
        let mut crowd = Crowd { reactor, installed, streams: Vec::new(), longest: 0 };
        while crowd.streams.len() < count {
            crowd.connect();
            if crowd.streams.len().is_multiple_of(ACCEPTS_PER_TURN) {
                crowd.turn();
            }
        }
        crowd.run_until_blocked();
        assert_eq!(crowd.reactor.stats().connections, count);
        crowd
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
    fn longest_turn(&mut self, events: impl FnOnce(&mut Crowd)) -> u64 {
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

/// What is measured in a crowd, which returns nanoseconds of CPU time. The names are those of
/// `scripts/growth`.
type Measure = fn(&mut Crowd) -> u64;
const MEASURES: [(&str, Measure); 8] = [
    ("operation", |crowd| crowd.cost_per_operation(ROUNDS)),
    ("open", |crowd| crowd.longest), // the slab grows meanwhile
    ("evict", |crowd| {
        crowd.let_pass(EVICTION_IDLE_MS);
        crowd.longest_turn(Crowd::connect)
    }),
    ("expire", |crowd| {
        let timeout = Limits::default().idle_timeout;
        crowd.longest_turn(|crowd| crowd.let_pass(ms(timeout) + 1))
    }),
    ("leave", |crowd| crowd.longest_turn(|crowd| crowd.close(&crowd.streams.clone()))),
    ("operation-after", |crowd| {
        let leaving = crowd.streams.split_off(ACTIVE);
        crowd.longest_turn(|crowd| crowd.close(&leaving));
        crowd.cost_per_operation(ROUNDS)
    }),
    ("stop", |crowd| {
        crowd.let_pass(DRAIN_QUIET_MS);
        crowd.longest_turn(|crowd| {
            crowd.stop();
            crowd.run_until_blocked(); // now each waits for its peer's FIN
            crowd.close(&crowd.streams.clone());
        })
    }),
    ("force", |crowd| {
        crowd.let_pass(DRAIN_QUIET_MS);
        crowd.reactor.stop();
        crowd.turn();
        let timeout = Limits::default().drain_timeout;
        crowd.longest_turn(|crowd| crowd.let_pass(ms(timeout) + 1))
    }),
];

#[test]
#[expect(clippy::print_stderr, reason = "the figure that scripts/growth reads")]
fn growth_is_measured() {
    let Ok(wanted) = std::env::var("REACTOR_GROWTH") else {
        for (_, measure) in MEASURES {
            measure(&mut Crowd::new(ACTIVE + 1));
        }
        return;
    };
    let (idle, name) = wanted.split_once(',').expect("how many idle connections, and what");
    let idle: usize = idle.parse().expect("how many idle connections");
    let (_, measure) = MEASURES.into_iter().find(|(other, _)| *other == name).expect("a measure");
    eprintln!("growth: {} ns", measure(&mut Crowd::new(ACTIVE + idle)));
}

// pitfall: 260
#[test]
fn turn_of_a_stop_queues_no_more_slots_than_one_part_has() {
    let mut crowd = Crowd::new(SLOTS_WALKED_MAX + 100);
    let last = crowd.streams[SLOTS_WALKED_MAX + 99];
    crowd.let_pass(DRAIN_QUIET_MS);
    crowd.kernel().peer_sends(last, &MESSAGE);
    crowd.reactor.stop();
    assert_eq!(crowd.reactor.run_queue.len(), SLOTS_WALKED_MAX);
    crowd.turn();
    crowd.run_until_blocked();
    let received = crowd.kernel().peer_receives(last, usize::MAX);
    assert_eq!(received, PeerReceived::Bytes(MESSAGE.to_vec()), "it came before the stop");
    let idle = crowd.streams[SLOTS_WALKED_MAX + 98];
    let received = crowd.kernel().peer_receives(idle, usize::MAX);
    assert_eq!(received, PeerReceived::Fin, "a later turn has told it of the stop");
    crowd.close(&crowd.streams.clone());
    crowd.run_until_blocked();
    assert_eq!(crowd.reactor.run().unwrap(), Stopped::Graceful, "all have ended");
}

// pitfall: 260
#[test]
fn turn_of_a_forced_stop_ends_no_more_slots_than_one_part_has() {
    let count = SLOTS_WALKED_MAX + 100;
    let mut crowd = Crowd::new(count);
    crowd.let_pass(DRAIN_QUIET_MS);
    crowd.reactor.stop();
    crowd.let_pass(ms(Limits::default().drain_timeout));
    crowd.turn();
    let open = crowd.reactor.connections - crowd.reactor.ended.len();
    assert!((100..count).contains(&open), "{open} of {count} are still open");
    crowd.run_until_blocked();
    let Stopped::Forced(closed) = crowd.reactor.run().unwrap() else { panic!("it was forced") };
    assert!((SLOTS_WALKED_MAX / 2..=count).contains(&closed), "{closed} were cut off");
}

// pitfall: 260
#[test]
fn forced_stop_finds_the_connection_behind_a_part_of_vacant_slots() {
    let mut crowd = Crowd::new(SLOTS_WALKED_MAX + 100);
    let last = crowd.streams.pop().expect("there are many");
    crowd.kernel().peer_sends(last, &vec![b'x'; 3 << 20]); // its echo is never read
    crowd.close(&crowd.streams.clone());
    crowd.run_until_blocked();
    crowd.reactor.stop();
    let began_us = crowd.kernel().now_us();
    assert_eq!(crowd.reactor.run().unwrap(), Stopped::Forced(1));
    let took_ms = (crowd.kernel().now_us() - began_us) / 1000;
    assert_eq!(took_ms, ms(Limits::default().drain_timeout), "the loop has not slept meanwhile");
}

// pitfall: 261
#[test]
fn eviction_scan_looks_at_one_part_and_goes_on_with_the_next() {
    let mut crowd = Crowd::new(SLOTS_WALKED_MAX + 100);
    crowd.let_pass(EVICTION_IDLE_MS - ACCEPT_RETRY_MS);
    for busy in crowd.streams[..SLOTS_WALKED_MAX].to_vec().chunks(4096) {
        crowd.exchange(busy);
    }
    crowd.let_pass(ACCEPT_RETRY_MS);
    crowd.run_until_blocked();
    assert_eq!(crowd.reactor.stats().evicted, 0, "in this part, none has been idle for so long");
    crowd.let_pass(ACCEPT_RETRY_MS);
    crowd.run_until_blocked();
    assert_eq!(crowd.reactor.stats().evicted, EVICTIONS_MAX as u64);
}

// pitfall: 263
#[test]
fn slots_of_a_burst_are_kept_for_the_next_one() {
    let mut crowd = Crowd::new(2000);
    let slots = crowd.reactor.slots.capacity();
    crowd.close(&crowd.streams.clone());
    crowd.run_until_blocked();
    assert_eq!(crowd.reactor.connections, 0);
    assert_eq!(crowd.reactor.slots.capacity(), slots);
}
