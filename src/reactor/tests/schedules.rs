//! Schedules drawn by lot.
//!
//! A seed decides everything: who comes and when, what they say and how fast, what goes wrong. What must hold, whatever the
//! seed, is said where it is looked at: in the ears of the peers (every answer exact and in order), in the kernel (nobody is
//! left unserved, nothing spins, sleeps for ever or outlives its time) and in `World::stop` (nothing is left).
//!
//! ```text
//! cargo test schedules                         the first few thousand seeds
//! REACTOR_SEED=17 cargo test schedules         that one, with every call told
//! REACTOR_SEEDS=1000000 cargo test schedules   so many, from REACTOR_SEEDS_FROM on (`scripts/soak` does this)
//! ```

use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::environment::{Correspondent, Mirror, Ringer, Weather};
use super::exchange::{Member, Shared};
use super::exchange_peers::{Household, Mate};
use super::expectations::{echo, orders, requests};
use super::peers::{Farewell, Manner, Talker};
use super::protocols::{Feeder, Library, Side};
use super::*;
use crate::echo::Echo;
use crate::http::protocol::Http;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Host;

/// How many seeds an ordinary test run tries.
const SEEDS: u64 = 4000;
/// The same of those in which connections act on each other, which take longer.
const EXCHANGES: u64 = 1000;

const ECHO: u16 = 2000;
const FEEDER: u16 = 3000;
const HTTP: u16 = 8080;
const DATAGRAMS: u16 = 2001;
const PROXY: u16 = 7000;
const ROOM: u16 = 4000;

#[test]
fn whatever_happens_every_promise_is_kept() {
    try_seeds(SEEDS, run);
}

#[test]
fn whatever_connections_do_to_each_other_each_byte_arrives_once_or_its_sender_is_told() {
    try_seeds(EXCHANGES, exchange);
}

/// Runs the schedules of so many seeds, or of those that were asked for.
fn try_seeds(seeds: u64, run: fn(u64, bool)) {
    let number =
        |name: &str| env::var(name).ok().map(|value| value.parse().expect("a seed is a number"));
    if let Some(seed) = number("REACTOR_SEED") {
        run(seed, true);
        return;
    }
    let first = number("REACTOR_SEEDS_FROM").unwrap_or(0);
    let next = AtomicU64::new(first);
    let end = first + number("REACTOR_SEEDS").unwrap_or(seeds);
    let failed: Vec<u64> = thread::scope(|scope| {
        let work = || {
            let mut failed = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end || failed.len() >= 5 {
                    return failed;
                }
                if catch_unwind(AssertUnwindSafe(|| run(seed, false))).is_err() {
                    failed.push(seed);
                }
            }
        };
        let workers: Vec<_> = (0..thread::available_parallelism().map_or(1, usize::from))
            .map(|_| scope.spawn(work))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a failed seed is caught"))
            .collect()
    });
    assert!(
        failed.is_empty(),
        "seeds {failed:?} fail; REACTOR_SEED={} cargo test schedules replays one",
        failed[0]
    );
}

/// Whom the proxy calls.
fn upstream() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], 7))
}

/// Runs the schedule that `seed` stands for.
fn run(seed: u64, is_traced: bool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let limits = draw_limits(&mut rng);
    let faults = draw_faults(&mut rng);
    let is_lossless = faults.failed_datagrams == 0 && faults.icmp_errors == 0;
    // What hurts the stream behind a proxy hurts who is before it, which is not to know.
    let has_proxy = faults.failed_streams == 0
        && faults.failed_registrations == 0
        && faults.descriptors_max > 100;
    let has_proxy = has_proxy && limits.connections_max > 200 && rng.u8(..3) == 0;
    let has_weather = !has_proxy && faults.call_us_max > 0 && rng.bool();
    let mut world = World::new(seed, limits, faults);
    world.kernel().is_traced = is_traced;
    world.kernel().trace(|| format!("seed {seed}"));

    world.serve(ECHO, |_| Echo::new());
    world.serve(HTTP, |_| Http::new(Library));
    let piece = rng.usize(1000..100_000);
    let feeder = world.serve(FEEDER, move |peer| Feeder::new(peer.port(), piece));
    world.kernel().allow_pauses(feeder);
    let prefix = if rng.bool() { b"echo -> ".to_vec() } else { Vec::new() };
    let datagrams = world.serve_datagrams(DATAGRAMS, Echo::with_prefix(prefix.clone()));

    if has_proxy {
        let host =
            Host::Accepts { after_us: rng.u64(..100_000), buffer_bytes: rng.usize(500..100_000) };
        world.kernel().hosts.insert(upstream(), host);
        let ledger = world.ledger.clone();
        let proxy = world.serve(PROXY, move |_| Side {
            upstream: Some(upstream()),
            other: None,
            ledger: ledger.clone(),
        });
        world.kernel().allow_pauses(proxy);
    }
    let count = if rng.u8(..25) == 0 { rng.u16(20..60) } else { rng.u16(1..6) };
    for number in 1..=count {
        let mut kernel = world.kernel();
        let talker = draw_talker(&mut rng, &mut kernel, number, has_proxy);
        let delay_us = if rng.bool() { 0 } else { rng.u64(..50_000) };
        kernel.add(talker, delay_us);
    }
    for number in 0..rng.u16(..3) {
        let peer = SocketAddr::from(([10, 0, 0, 2], 1 + number));
        let count_max = if rng.u8(..8) == 0 { 400 } else { 30 };
        world.kernel().bind_peer(peer);
        let correspondent = Correspondent {
            server: datagrams,
            peer,
            prefix: prefix.clone(),
            left: rng.usize(1..count_max),
            length_max: [30, 1400, 9000][rng.usize(..3)],
            is_exact: is_lossless && !has_weather,
            waiting: Vec::new(),
            patience: 20,
        };
        world.kernel().add(correspondent, rng.u64(..50_000));
    }
    if has_weather {
        world
            .kernel()
            .add(Weather { changes: rng.u32(1..20), datagrams_at: datagrams }, rng.u64(..100_000));
    }
    if rng.u8(..8) == 0 {
        world.kernel().add(Ringer, rng.u64(..500_000));
    }
    if has_proxy {
        let mirror =
            Mirror { address: upstream(), owed: BTreeMap::new(), held_max: rng.usize(100..20_000) };
        world.kernel().add(mirror, 0); // when all are there: it goes with the last of them
    }
    world.run_until_quiescent();
    world.stop();
}

/// The same for members of a room, who act on each other and on hosts that they call (see `exchange`).
fn exchange(seed: u64, is_traced: bool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let limits = Limits { connect_timeout_ms: 5_000, ..draw_limits(&mut rng) };
    let faults = draw_faults(&mut rng);
    let mut world = World::new(seed, limits, faults);
    world.kernel().is_traced = is_traced;
    world.kernel().trace(|| format!("seed {seed}"));

    let hosts: Rc<[SocketAddr]> =
        (1..=3).map(|number| SocketAddr::from(([10, 0, 0, 9], number))).collect();
    for &host in &*hosts {
        let after_us = rng.u64(..100_000);
        let is = match rng.u8(..6) {
            0 => Host::Fails { after_us, error: errno::EHOSTUNREACH },
            1 => Host::Unreachable { error: errno::ENETUNREACH },
            2 => Host::Silent,
            _ => Host::Accepts { after_us, buffer_bytes: [500, 60_000][rng.usize(..2)] },
        };
        world.kernel().hosts.insert(host, is);
    }
    let books = Shared::default();
    let (shared, ledger) = (books.clone(), world.ledger.clone());
    let mut lots = rng.fork();
    let room = world.serve(ROOM, move |_| Member::new(&shared, &ledger, &hosts, lots.fork()));
    world.kernel().allow_pauses(room);
    for number in 1..=rng.u16(1..8) {
        let mut kernel = world.kernel();
        let mate = Mate::draw(&mut kernel, &books, Err((peer(number), room)));
        kernel.add(mate, rng.u64(..50_000));
    }
    world.kernel().add(Household { books: books.clone(), seen: 0 }, 0);
    if rng.u8(..8) == 0 {
        world.kernel().add(Ringer, rng.u64(..500_000));
    }
    while !world.kernel().is_quiescent() && !world.reactor().is_stopped() {
        let calls_before = books.borrow().calls;
        world.reactor().turn(None).unwrap();
        if books.borrow().calls > calls_before {
            world.kernel().forgive_empty_turn(); // news may be answered with what causes news
        }
        world.check_poll_count();
    }
    books.borrow().check();
    world.kernel().trace(|| {
        format!(
            "of {} members, {} letters were heard",
            books.borrow().count(),
            books.borrow().letters_heard_out()
        )
    });
    world.stop();
}

fn draw_limits(rng: &mut fastrand::Rng) -> Limits {
    let mut limits = Limits::default();
    if rng.u8(..4) == 0 {
        limits.connections_max = rng.usize(1..5);
    }
    if rng.bool() {
        (limits.idle_timeout_ms, limits.write_timeout_ms) =
            [(8_000, 6_000), (6_000, 9_000), (20_000, 5_500)][rng.usize(..3)];
    }
    limits
}

/// In one schedule of four, time passes only where the loop waits and nothing goes wrong. In the others, each thing goes wrong
/// in about one of three.
fn draw_faults(rng: &mut fastrand::Rng) -> Faults {
    if rng.u8(..4) == 0 {
        return Faults::default();
    }
    let mut often =
        |in_a_thousand_max: u32| if rng.u8(..3) == 0 { rng.u32(1..=in_a_thousand_max) } else { 0 };
    let faults = Faults {
        interrupted_polls: often(300),
        interrupted_calls: often(200),
        short_sends: often(500),
        failed_accepts: often(200),
        failed_streams: often(20),
        failed_registrations: often(100),
        failed_datagrams: often(200),
        icmp_errors: often(100),
        bad_checksums: often(200),
        spurious_events: often(300),
        descheduled: often(20),
        ..Faults::default()
    };
    Faults {
        refuses_gso: rng.u8(..3) == 0,
        shuffles: rng.bool(),
        events_per_poll_max: if rng.u8(..3) == 0 { rng.usize(1..4) } else { usize::MAX },
        call_us_max: [1, 20, 300][rng.usize(..3)],
        descheduled_us_max: if faults.descheduled > 0 { rng.u64(1..120_000) } else { 0 },
        send_queue_bytes_max: if rng.u8(..3) == 0 { rng.usize(600..20_000) } else { 1 << 20 },
        descriptors_max: if rng.u8(..8) == 0 { rng.usize(7..12) } else { 1 << 20 },
        ..faults
    }
}

fn draw_talker(
    rng: &mut fastrand::Rng,
    kernel: &mut Kernel,
    number: u16,
    has_proxy: bool,
) -> Talker {
    const FAREWELLS: [Farewell; 8] = [
        Farewell::Finish,
        Farewell::Finish,
        Farewell::Finish,
        Farewell::CloseWhenContent,
        Farewell::CloseWhenContent,
        Farewell::CloseEarly,
        Farewell::Reset,
        Farewell::Vanish,
    ];
    let mut farewell = FAREWELLS[rng.usize(..FAREWELLS.len())];
    let total_max =
        if rng.u8(..16) == 0 { rng.usize(10_000..400_000) } else { rng.usize(10..3_000) };
    let (port, (says, ear)) = match rng.u8(..3) {
        0 if has_proxy => (PROXY, echo(number, rng.usize(..=total_max))),
        0 => (ECHO, echo(number, rng.usize(..=total_max))),
        1 => (FEEDER, orders(kernel, number, total_max, farewell)),
        _ => {
            let (says, ear, ending) = requests(kernel, number, total_max);
            if matches!(farewell, Farewell::Finish | Farewell::CloseWhenContent) {
                farewell = ending;
            }
            (HTTP, (says, ear))
        }
    };
    let manner = Manner {
        farewell,
        piece_max: (says.len() / rng.usize(1..40)).max(1),
        hear_max: (total_max / rng.usize(1..40)).max(1).max(says.len() / 40),
        delay_us_max: [100, 2_000, 20_000][rng.usize(..3)],
        // What is said behind the end must be said while it still is discarded.
        naps_us: if farewell == Farewell::HearOut || rng.bool() { 0 } else { 3_000_000 },
        buffer_bytes: [500, 5_000, 60_000, 300_000][rng.usize(..4)],
        urgent: if rng.u8(..6) == 0 { 200 } else { 0 },
    };
    Talker::new(kernel, server(port), peer(number), says, ear, manner)
}
