//! Random schedules: a seed draws the peers, what they send, how they behave, and the faults.
//!
//! Whatever the seed, the same things must hold, and each is checked where it can be seen:
//!
//! ```text
//!     by the peers    every reply arrives exact, in order and in time     peers, traffic
//!     by the kernel   no socket is left unserved; the loop does not spin,
//!                     does not sleep for ever, and closes what is idle    kernel/checks.rs
//!     at the stop     no slot, deadline, effect or descriptor is left     World::stop
//! ```
//!
//! ```text
//! cargo test schedules                         the first few thousand seeds
//! REACTOR_SEED=17 cargo test schedules         this one, with a trace of every call
//! REACTOR_SEEDS=1000000 cargo test schedules   so many, from REACTOR_SEEDS_FROM on (scripts/soak)
//! ```

use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::datagram_messages::LateEcho;
use super::environment::{DatagramPeer, Disturbances, EchoHost, StopSender};
use super::exchange::{RandomMember, SharedLog, TIMER_MS_MAX, TIMERS_MAX};
use super::exchange_peers::{HostAcceptor, MemberPeer};
use super::late_answers::TextResponder;
use super::layers::Wrapping;
use super::peers::{PeerBehavior, PeerEnding, StreamPeer};
use super::protocols::BulkServer;
use super::traffic::{bulk_traffic, echo_traffic, http_traffic};
use super::*;
use crate::echo::Echo;
use crate::http::protocol::Http;
use crate::protocol::relay::Relay;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Host;

/// How many seeds an ordinary test run tries.
const SEEDS: u64 = 4000;
/// The same for exchanges between connections. Such a run takes longer.
const EXCHANGE_SEEDS: u64 = 1000;

const ECHO: u16 = 2000;
const BULK: u16 = 3000;
const HTTP: u16 = 8080;
const DATAGRAMS: u16 = 2001;
const PROXY: u16 = 7000;
const GROUP: u16 = 4000;

// pitfall: 3, 13, 107
#[test]
fn random_schedules_keep_every_invariant() {
    try_seeds(SEEDS, run_schedule);
}

#[test]
fn random_exchanges_deliver_each_message_once_or_report_it() {
    try_seeds(EXCHANGE_SEEDS, run_exchange);
}

/// Calls `run` for the first `seeds` seeds, or for those that the environment asks for.
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
        "seeds {failed:?} failed; REACTOR_SEED={} cargo test schedules replays one",
        failed[0]
    );
}

/// The host to which the proxy connects.
fn upstream() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], 7))
}

/// Runs the schedule of one seed: servers, and peers that do not know of each other.
fn run_schedule(seed: u64, is_traced: bool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let limits = draw_limits(&mut rng);
    let faults = draw_faults(&mut rng);
    let is_lossless = faults.failed_datagrams == 0 && faults.icmp_errors == 0;
    // A fault on the stream behind a proxy would reach the peer before it, which does not expect
    // one.
    let has_proxy = faults.failed_streams == 0
        && faults.failed_registrations == 0
        && faults.descriptors_max > 100;
    let has_proxy = has_proxy && limits.connections_max > 200 && rng.u8(..3) == 0;
    let tight = draw_memory(seed).filter(|_| !has_proxy);
    let memory_bytes_max = tight.unwrap_or(limits.memory_bytes_max);
    let limits = limits.with_memory_bytes_max(memory_bytes_max);
    let has_disturbances = !has_proxy && faults.call_us_max > 0 && rng.bool();
    let mut world = World::with_selector(draw_selector(seed), seed, limits, faults);
    world.kernel().is_traced = is_traced;
    world.kernel().trace(|| format!("seed {seed}"));
    world.kernel().memory_is_tight = tight.is_some();

    let options = draw_options(seed);
    let echo_wrapping = Wrapping::draw(seed); // an echo undoes what it encodes
    world.serve_with(ECHO, &options, move |_| echo_wrapping.wrap(Echo::new()));
    let may_promise = world.kernel().faults.descriptors_max > 100; // a promise needs a waker
    let mut answers = fastrand::Rng::with_seed(seed ^ 0x5a5a); // a seed keeps its other choices
    let http = world.serve_with(HTTP, &options, move |_| {
        Http::new(TextResponder::new(may_promise, answers.fork()))
    });
    world.kernel().allow_pauses(http);
    let chunk_bytes = rng.usize(1000..100_000);
    let bulk = world.serve(BULK, move |peer| BulkServer::new(peer.port(), chunk_bytes));
    world.kernel().allow_pauses(bulk);
    let prefix = if rng.bool() { b"echo -> ".to_vec() } else { Vec::new() };
    let mut late = fastrand::Rng::with_seed(seed ^ 0xa5a5); // a seed keeps its other choices
    // The queue of messages keeps its memory, which is more than a tight bound.
    let datagrams = match late.bool() && tight.is_none() {
        true => {
            let mut late_echo = LateEcho::new(prefix.clone(), late);
            if may_promise {
                late_echo = late_echo.with_workers(world.reactor());
            }
            world.serve_datagrams(DATAGRAMS, late_echo)
        }
        false => world.serve_datagrams(DATAGRAMS, Echo::with_prefix(prefix.clone())),
    };

    if has_proxy {
        let host =
            Host::Accepts { after_us: rng.u64(..100_000), buffer_bytes: rng.usize(500..100_000) };
        world.kernel().hosts.insert(upstream(), host);
        let (addresses, deadline) = draw_addresses(seed, &mut world);
        let proxy = world.serve(PROXY, move |_| Relay::to(&addresses[..], deadline));
        world.connects_are_witnessed = false;
        world.kernel().allow_pauses(proxy);
    }
    let count = if rng.u8(..25) == 0 { rng.u16(20..60) } else { rng.u16(1..6) };
    for number in 1..=count {
        let mut kernel = world.kernel();
        let stream_peer = draw_stream_peer(&mut rng, &mut kernel, number, has_proxy);
        let delay_us = if rng.bool() { 0 } else { rng.u64(..50_000) };
        kernel.add(stream_peer, delay_us);
    }
    for number in 0..rng.u16(..3) {
        let peer = SocketAddr::from(([10, 0, 0, 2], 1 + number));
        let count_max = if rng.u8(..8) == 0 { 400 } else { 30 };
        world.kernel().bind_peer(peer);
        let datagram_peer = DatagramPeer {
            server: datagrams,
            peer,
            prefix: prefix.clone(),
            left: rng.usize(1..count_max),
            length_max: [30, 1400, 9000][rng.usize(..3)],
            is_lossless: is_lossless && !has_disturbances,
            unanswered: Vec::new(),
            waits_left: 20,
        };
        world.kernel().add(datagram_peer, rng.u64(..50_000));
    }
    if has_disturbances {
        let disturbances = Disturbances { left: rng.u32(1..20), datagrams_at: datagrams };
        world.kernel().add(disturbances, rng.u64(..100_000));
    }
    if rng.u8(..8) == 0 {
        world.kernel().add(StopSender, rng.u64(..500_000));
    }
    if has_proxy {
        let held_max = rng.usize(100..20_000);
        let host = EchoHost { address: upstream(), held: BTreeMap::new(), held_max };
        world.kernel().add(host, 0); // the last actor: it is done when all others are
    }
    world.run_until_quiescent();
    world.stop();
}

/// The same for a group of connections that act on each other, and on hosts to which they connect.
fn run_exchange(seed: u64, is_traced: bool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let limits = draw_limits(&mut rng).with_connect_timeout(Duration::from_secs(5));
    let faults = draw_faults(&mut rng);
    let mut world = World::with_selector(draw_selector(seed), seed, limits, faults);
    world.kernel().is_traced = is_traced;
    world.kernel().trace(|| format!("seed {seed}"));

    let hosts: Rc<[SocketAddr]> =
        (1..=3).map(|number| SocketAddr::from(([10, 0, 0, 9], number))).collect();
    for &host in &*hosts {
        let after_us = rng.u64(..100_000);
        let behavior = match rng.u8(..6) {
            0 => Host::Fails { after_us, error: errno::EHOSTUNREACH },
            1 => Host::Unreachable { error: errno::ENETUNREACH },
            2 => Host::Silent,
            _ => Host::Accepts { after_us, buffer_bytes: [500, 60_000][rng.usize(..2)] },
        };
        world.kernel().hosts.insert(host, behavior);
    }
    let log = SharedLog::default();
    let (shared, ledger) = (log.clone(), world.ledger.clone());
    let mut members_rng = rng.fork();
    let wrapping = Wrapping::draw(seed);
    let group = world.serve(GROUP, move |_| {
        wrapping.wrap(RandomMember::new(&shared, &ledger, &hosts, members_rng.fork()))
    });
    world.kernel().allow_pauses(group);
    // While it is paused and has a timer set, a member is not idle.
    world.kernel().idle_us_max += u64::from(TIMERS_MAX) * TIMER_MS_MAX * 1000;
    for number in 1..=rng.u16(1..8) {
        let mut kernel = world.kernel();
        let place = Err((peer(number), group));
        let member_peer =
            MemberPeer { key: wrapping.key(), ..MemberPeer::draw(&mut kernel, &log, place) };
        kernel.add(member_peer, rng.u64(..50_000));
    }
    world.kernel().add(HostAcceptor { log: log.clone(), seen: 0 }, 0);
    if rng.u8(..8) == 0 {
        world.kernel().add(StopSender, rng.u64(..500_000));
    }
    while !world.kernel().is_quiescent() && !world.reactor().is_stopped() {
        let calls_before = log.borrow().calls;
        world.reactor().turn(None).unwrap();
        if log.borrow().calls > calls_before {
            world.kernel().forgive_empty_turn(); // it delivered a notification: not an empty turn
        }
        world.check_poll_count();
    }
    log.borrow().check();
    world.kernel().trace(|| {
        format!(
            "{} members, {} messages received by peers that received everything",
            log.borrow().member_count(),
            log.borrow().complete_message_count()
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
        (limits.idle_timeout, limits.write_timeout) =
            [(8_000, 6_000), (6_000, 9_000), (20_000, 5_500)]
                .map(|(idle, write)| (Duration::from_millis(idle), Duration::from_millis(write)))
                [rng.usize(..3)];
    }
    limits
}

/// Half of the schedules run on epoll, a quarter on each of the selectors that rearm only on
/// `WouldBlock`.
fn draw_selector(seed: u64) -> Selector {
    [Selector::Epoll, Selector::Rearming, Selector::Epoll, Selector::Poll][(seed % 4) as usize]
}

/// In half of the schedules some listeners have options of their own. Drawn apart, so that a seed
/// keeps all its other choices.
fn draw_options(seed: u64) -> ListenOptions {
    let mut rng = fastrand::Rng::with_seed(!seed);
    let mut options = ListenOptions::default();
    if rng.u8(..4) == 0 {
        options = options.with_connections_max(rng.usize(1..4));
    }
    if rng.u8(..3) == 0 {
        options = options.with_idle_timeout(Duration::from_secs(6));
    }
    options.with_deferred_accept(rng.u8(..3) == 0)
}

/// In an eighth of the schedules there is less memory than all peers together may need. Drawn
/// apart, as the options are.
fn draw_memory(seed: u64) -> Option<usize> {
    let mut rng = fastrand::Rng::with_seed(seed.rotate_left(32));
    (rng.u8(..8) == 0).then(|| rng.usize(1_000..30_000))
}

/// The addresses of the host behind a proxy, and the deadline for a connect. None of those before
/// the host's own can be connected to.
fn draw_addresses(seed: u64, world: &mut World) -> (Vec<SocketAddr>, Duration) {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x3c3c); // drawn apart, as the options are
    let mut addresses = Vec::new();
    for number in 0..rng.u16(..3) {
        let after_us = rng.u64(..100_000);
        let behavior = match rng.u8(..3) {
            0 => Host::Fails { after_us, error: errno::EHOSTUNREACH },
            1 => Host::Unreachable { error: errno::ENETUNREACH },
            _ => Host::Silent,
        };
        let address = SocketAddr::from(([10, 0, 0, 8], 1 + number));
        world.kernel().hosts.insert(address, behavior);
        addresses.push(address);
    }
    addresses.push(upstream());
    (addresses, Duration::from_secs(2))
}

/// In a quarter of the schedules there is no fault, and time passes only in polls. In the others,
/// each kind of fault occurs in about one of three.
fn draw_faults(rng: &mut fastrand::Rng) -> Faults {
    if rng.u8(..4) == 0 {
        return Faults::default();
    }
    let mut often =
        |per_mille_max: u32| if rng.u8(..3) == 0 { rng.u32(1..=per_mille_max) } else { 0 };
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
        refuses_socket_filters: rng.u8(..3) == 0,
        shuffles: rng.bool(),
        events_per_poll_max: if rng.u8(..3) == 0 { rng.usize(1..4) } else { usize::MAX },
        call_us_max: [1, 20, 300][rng.usize(..3)],
        descheduled_us_max: if faults.descheduled > 0 { rng.u64(1..120_000) } else { 0 },
        send_queue_bytes_max: if rng.u8(..3) == 0 { rng.usize(600..20_000) } else { 1 << 20 },
        descriptors_max: if rng.u8(..8) == 0 { rng.usize(7..12) } else { 1 << 20 },
        ..faults
    }
}

fn draw_stream_peer(
    rng: &mut fastrand::Rng,
    kernel: &mut Kernel,
    number: u16,
    has_proxy: bool,
) -> StreamPeer {
    const ENDINGS: [PeerEnding; 8] = [
        PeerEnding::ShutDown,
        PeerEnding::ShutDown,
        PeerEnding::ShutDown,
        PeerEnding::CloseWhenComplete,
        PeerEnding::CloseWhenComplete,
        PeerEnding::CloseEarly,
        PeerEnding::Reset,
        PeerEnding::Vanish,
    ];
    let mut ending = ENDINGS[rng.usize(..ENDINGS.len())];
    let total_max =
        if rng.u8(..16) == 0 { rng.usize(10_000..400_000) } else { rng.usize(10..3_000) };
    let (port, (output, replies)) = match rng.u8(..3) {
        0 if has_proxy => (PROXY, echo_traffic(number, rng.usize(..=total_max))),
        0 => (ECHO, echo_traffic(number, rng.usize(..=total_max))),
        // A request body that gets 503 would be no reply that its peer expects.
        2 if kernel.memory_is_tight => (ECHO, echo_traffic(number, rng.usize(..=total_max))),
        1 => (BULK, bulk_traffic(kernel, number, total_max, ending)),
        _ => {
            let (output, replies, http_ending) = http_traffic(kernel, number, total_max);
            if matches!(ending, PeerEnding::ShutDown | PeerEnding::CloseWhenComplete) {
                ending = http_ending;
            }
            (HTTP, (output, replies))
        }
    };
    let behavior = PeerBehavior {
        ending,
        send_bytes_max: (output.len() / rng.usize(1..40)).max(1),
        read_bytes_max: (total_max / rng.usize(1..40)).max(1).max(output.len() / 40),
        delay_us_max: [100, 2_000, 20_000][rng.usize(..3)],
        // Such a peer sends after its last request. It must do so while the server still lingers.
        breaks_us: if ending == PeerEnding::ReadToFin || rng.bool() { 0 } else { 3_000_000 },
        buffer_bytes: [500, 5_000, 60_000, 300_000][rng.usize(..4)],
        urgent: if rng.u8(..6) == 0 { 200 } else { 0 },
    };
    StreamPeer::new(kernel, server(port), peer(number), output, replies, behavior)
}
