//! The whole loop on a simulated kernel (`src/testing/simulated.rs`), with a simulated clock.
//!
//! ```text
//!     readiness timeouts fairness overload …   one situation each, every step asserted
//!     schedules                                random runs, checked against the same invariants
//!     peers traffic environment …              what is at the other end of the sockets
//!     protocols group exchange                 what the reactor serves
//! ```
//!
//! No test sleeps or opens a real socket, and the same seed always gives the same run.

#![cfg_attr(
    not(feature = "http"),
    allow(dead_code, reason = "the random schedules serve HTTP, too")
)]

mod connects;
mod clients;
#[cfg(feature = "http")]
mod answers;
mod closing;
mod commands;
mod datagram_messages;
mod datagrams;
mod deferred;
#[cfg(feature = "http")]
mod deferred_accept;
mod dialing;
mod effect_bounds;
mod environment;
mod exchange;
mod exchange_peers;
mod fairness;
mod group;
#[cfg(target_os = "linux")]
mod growth;
mod handed_in;
mod layers;
mod listeners;
mod memory;
mod messages;
mod overload;
mod panics;
mod periodic;
mod peers;
mod protocols;
mod readiness;
mod rearming;
mod publish;
mod relays;
#[cfg(feature = "http")]
mod late_answers;
#[cfg(feature = "http")]
mod schedules;
#[cfg(feature = "http")]
mod stop;
#[cfg(feature = "http")]
mod syscalls;
mod tasks;
#[cfg(feature = "http")]
mod test_connection;
mod test_datagram; // a datagram protocol, run by a test and by the loop
#[cfg(feature = "http")]
mod timeouts;
mod traffic;
mod vanished_peers;
mod workers;

use std::cell::{RefCell, RefMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::echo::Echo;
use crate::limits::{CONNECTION_COST_BYTES, REPLIES_BYTES_MAX, TURN_BYTES_MAX};
use crate::protocol::connections::{SendError, SendStatus};
use crate::protocol::context::Context;
use crate::protocol::datagram::DatagramProtocol;
use crate::protocol::ident::ConnectionId;
use crate::protocol::protocol::{Advance, Next, Protocol};
use crate::stats::Stats;
use crate::stream::listen_options::ListenOptions;
use crate::testing::simulated::kernel::{Faults, Kernel, Selector};
use crate::testing::simulated::stream::PeerReceived;
use crate::testing::simulated::{Installed, StopSignal};
use protocols::{Ledger, Witnessed};

/// What a listener may accept in one turn.
const ACCEPTS_PER_TURN: usize = QUARTER_TURN_BYTES / CONNECTION_COST_BYTES;
/// How many tasks one turn may run.
const TASKS_PER_TURN: usize = ACCEPTS_PER_TURN;
/// How many connections may end in one turn because their deadlines are due.
const EXPIRIES_PER_TURN: usize = TURN_BYTES_MAX / CONNECTION_COST_BYTES;
/// How many effects one turn may apply.
const EFFECTS_PER_TURN: usize = TURN_BYTES_MAX / CALL_COST_BYTES;

/// A reactor on a simulated kernel, and a record of how its connections ended.
///
/// A test drives both sides: it makes peers connect, send and close, and it asks the reactor for
/// turns.
struct World {
    // Dropped in this order: the reactor closes descriptors of the kernel.
    reactor: Option<Reactor>,
    installed: Installed,
    ledger: Rc<RefCell<Ledger>>,
    /// Turns that the test asked for although there was nothing to do. They are no fault of the
    /// loop.
    requested_empty_turns: u64,
    /// The ledger has the ends of outbound connections, too. It has none of a relay's.
    connects_are_witnessed: bool,
}

/// More polls than any run needs: one that reaches it is in an endless loop.
const POLLS_MAX: u64 = 20_000;

impl World {
    fn new(seed: u64, limits: Limits, faults: Faults) -> World {
        World::with_selector(Selector::Epoll, seed, limits, faults)
    }

    fn with_selector(selector: Selector, seed: u64, limits: Limits, faults: Faults) -> World {
        let mut kernel = Kernel::new(seed);
        kernel.selector = selector;
        kernel.faults = faults;
        // A connection that closes because another one timed out lingers after that timeout.
        let close_time_max = limits.idle_timeout.max(limits.write_timeout) + limits.linger_timeout;
        let close_us_max = u64::try_from(close_time_max.as_micros()).unwrap();
        kernel.idle_us_max = close_us_max + kernel.faults.descheduled_us_max * 20 + 1_500_000;
        let installed = Installed::new(kernel);
        let mut reactor = Reactor::new(limits).unwrap();
        reactor.insert_stop_signal(StopSignal::new().unwrap(), || {}).unwrap();
        World {
            reactor: Some(reactor),
            installed,
            ledger: Rc::default(),
            requested_empty_turns: 0,
            connects_are_witnessed: true,
        }
    }

    /// A world with default limits, in which only what the test causes goes wrong.
    fn without_faults() -> World {
        World::new(1, Limits::default(), Faults::default())
    }

    fn kernel(&self) -> RefMut<'_, Kernel> {
        self.installed.0.borrow_mut()
    }

    fn reactor(&mut self) -> &mut Reactor {
        self.reactor.as_mut().expect("the reactor lives until the end of the test")
    }

    fn stats(&self) -> &Stats {
        self.reactor.as_ref().expect("the reactor lives until the end of the test").stats()
    }

    /// Listens on `port`. Each connection gets a protocol from `make`, and the ledger records its
    /// end.
    fn serve<P: Protocol + 'static>(
        &mut self,
        port: u16,
        make: impl FnMut(SocketAddr) -> P + 'static,
    ) -> SocketAddr {
        self.serve_with(port, &ListenOptions::default(), make)
    }

    /// Listens on `port` with `options`.
    fn serve_with<P: Protocol + 'static>(
        &mut self,
        port: u16,
        options: &ListenOptions,
        mut make: impl FnMut(SocketAddr) -> P + 'static,
    ) -> SocketAddr {
        let address = server(port);
        let ledger = self.ledger.clone();
        self.reactor()
            .listen_with(address, options, move |peer| Witnessed::new(make(peer), peer, &ledger))
            .unwrap()
    }

    /// Binds a datagram socket to `port`.
    fn serve_datagrams(
        &mut self,
        port: u16,
        protocol: impl DatagramProtocol + 'static,
    ) -> SocketAddr {
        self.reactor().bind_datagram(server(port), protocol).unwrap()
    }

    /// Runs a turn that waits for at most `ms`.
    fn turn_within(&mut self, ms: u64) {
        let empty_before = self.stats().empty_turns;
        self.reactor().turn(Some(Duration::from_millis(ms))).unwrap();
        self.requested_empty_turns += self.stats().empty_turns - empty_before;
        self.kernel().forgive_empty_turn();
    }

    /// Runs a turn that does not wait.
    fn turn(&mut self) {
        self.turn_within(0);
    }

    /// Runs turns that do not wait, until one finds nothing to do. Returns how many did something.
    fn run_until_blocked(&mut self) -> u64 {
        let turns_before = self.stats().turns;
        loop {
            let empty_before = self.requested_empty_turns;
            self.turn();
            if self.requested_empty_turns > empty_before {
                return self.stats().turns - turns_before - 1;
            }
            if self.reactor().is_stopped() {
                return self.stats().turns - turns_before;
            }
            self.check_poll_count();
        }
    }

    /// Lets `ms` pass, with as many turns as the loop takes for it. Returns how many these were.
    fn run_for(&mut self, ms: u64) -> u64 {
        let turns_before = self.stats().turns;
        let until_us = self.kernel().now_us() + ms * 1000;
        loop {
            let now_us = self.kernel().now_us();
            if now_us >= until_us || self.reactor().is_stopped() {
                return self.stats().turns - turns_before;
            }
            self.turn_within((until_us - now_us).div_ceil(1000));
            self.check_poll_count();
        }
    }

    /// Lets `ms` pass without a turn, as when the operating system runs other processes.
    fn deschedule(&mut self, ms: u64) {
        let until_us = self.kernel().now_us() + ms * 1000;
        self.kernel().advance_time_to(until_us);
    }

    // ---- what a test makes peers do

    /// Connects `peer(number)` to `port`. Its buffers take a mebibyte before it has to read.
    fn connect(&mut self, port: u16, number: u16) -> usize {
        self.kernel()
            .peer_connects(peer(number), server(port), 1 << 20)
            .expect("a listener on that port")
    }

    fn peer_sends(&mut self, stream: usize, bytes: &[u8]) {
        self.kernel().peer_sends(stream, bytes);
    }

    /// Has the peer of `stream` read all that has been sent to it, and returns it.
    fn peer_receives_all(&mut self, stream: usize) -> Vec<u8> {
        match self.kernel().peer_receives(stream, usize::MAX) {
            PeerReceived::Bytes(bytes) => bytes,
            PeerReceived::WouldBlock | PeerReceived::Fin | PeerReceived::Reset => Vec::new(),
        }
    }

    /// The same, and returns what follows those bytes: a FIN, a reset or nothing yet.
    fn peer_receives_end(&mut self, stream: usize) -> PeerReceived {
        self.peer_receives_all(stream);
        self.kernel().peer_receives(stream, usize::MAX)
    }

    fn close_reason_of(&self, number: u16) -> Option<CloseReason> {
        self.ledger.borrow().close_reason_of(peer(number))
    }

    /// The system calls made since this was last called, by name.
    fn take_calls(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.kernel().calls)
    }

    /// Runs turns until all peers are done and all connections have ended by themselves.
    fn run_until_quiescent(&mut self) {
        while !self.kernel().is_quiescent() && !self.reactor().is_stopped() {
            self.reactor().turn(None).unwrap();
            self.check_poll_count();
        }
    }

    /// The memory meter has what each connection holds.
    fn check_memory(&self) {
        let reactor = self.reactor.as_ref().expect("the reactor lives until the end of the test");
        for (token, slot) in &reactor.slots {
            if let Source::Connection(connection) = &slot.source {
                let (held, metered) =
                    (connection.buffer_bytes(), reactor.state.memory.buffers_of(token));
                assert_eq!(held, metered, "of {}", connection.id());
            }
        }
        let held = reactor.state.memory.held();
        let max = reactor.state.memory.max.saturating_add(2 * REPLIES_BYTES_MAX);
        assert!(held <= max, "{held} bytes are held");
    }

    /// Each slot that waits for a deadline is looked at by then (invariant 7).
    fn check_deadlines(&self) {
        let reactor = self.reactor.as_ref().expect("the reactor lives until the end of the test");
        for (token, slot) in &reactor.slots {
            if slot.state == SlotState::Waiting && !reactor.deadlines.is_due(token) {
                let (_, own) = slot.source.interest_and_deadline(&reactor.state);
                let own = own.max(reactor.state.clock.now.plus_ms(1));
                let filed = reactor.deadlines.filed_for(token);
                assert!(filed <= own, "{filed:?} is filed for {own:?} of slot {token}");
            }
        }
    }

    fn check_poll_count(&self) {
        self.check_memory();
        self.check_deadlines();
        let kernel = self.kernel();
        assert!(
            kernel.polls < POLLS_MAX,
            "endless loop; actors not done: {:#?}",
            kernel.describe_waits()
        );
    }

    /// Stops the reactor, and checks that it stops in time and that nothing is left.
    fn stop(mut self) {
        self.kernel().signal_stop();
        let began_us = self.kernel().now_us();
        while !self.reactor().is_stopped() {
            self.reactor().turn(None).unwrap();
            self.check_poll_count();
        }
        let drain_timeout = self.reactor().state.limits.drain_timeout;
        let slack_us = self.kernel().faults.descheduled_us_max * 20 + 1_000_000;
        let took_us = self.kernel().now_us() - began_us;
        assert!(
            u128::from(took_us) <= drain_timeout.as_micros() + u128::from(slack_us),
            "the stop took {took_us} us"
        );
        self.check_nothing_is_left();
    }

    fn check_nothing_is_left(mut self) {
        let reactor = self.reactor.take().expect("it is dropped here");
        assert!(reactor.slots.is_empty() && reactor.listeners.is_empty(), "a slot is left");
        assert!(reactor.run_queue.is_empty() && reactor.ended.is_empty(), "a slot is still queued");
        assert_eq!(reactor.state.memory.held(), 0, "memory is still counted");
        assert_eq!(reactor.state.peers.len(), 0, "an address is still kept");
        assert!(
            reactor.effects.has_nothing_pending(),
            "an effect, a notification or a subscription is left"
        );
        let stats = reactor.stats().clone();
        let begun = stats.accepted + stats.connected + stats.connects_failed;
        assert_eq!((stats.connections, stats.closed), (0, begun), "every connection was closed");
        drop(reactor);
        let kernel = self.kernel();
        assert_eq!(kernel.descriptors_open(), 0, "a descriptor is still open");
        // What a waker announces may have been done in the turn in which it was woken.
        let excused = self.requested_empty_turns + kernel.polls_interrupted + kernel.wakes;
        assert!(stats.empty_turns <= excused, "{} empty turns", stats.empty_turns - excused);
        let ledger = self.ledger.borrow();
        let witnessed = if self.connects_are_witnessed { begun } else { stats.accepted };
        assert_eq!(ledger.close_reasons.len() as u64, witnessed, "each has a protocol");
        for (number, reason) in ledger.close_reasons.iter().enumerate() {
            assert!(reason.is_some(), "closed() of protocol {number} was not called");
        }
    }
}

/// The address of the reactor's socket on `port`.
fn server(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The address of a simulated peer.
fn peer(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

/// A world without faults that serves TCP echo on port 2000.
fn echo_world() -> World {
    let mut world = World::without_faults();
    world.serve(2000, |_| Echo::new());
    world
}

/// The same, with `count` connections that have been accepted and registered.
fn echo_world_with(count: u16) -> (World, Vec<usize>) {
    let mut world = echo_world();
    let streams = (1..=count).map(|number| world.connect(2000, number)).collect();
    world.run_until_blocked();
    (world, streams)
}

/// The ids of the open connections of `reactor`, in the order of their slots.
fn connection_ids(reactor: &Reactor) -> Vec<ConnectionId> {
    let id = |slot: &Slot| match &slot.source {
        Source::Connection(connection) => Some(connection.id()),
        Source::Listener(_)
        | Source::Datagram(_)
        | Source::Tasks(_)
        | Source::Periodic(_)
        | Source::StopSignal(_) => None,
    };
    reactor.slots.iter().filter_map(|(_, slot)| id(slot)).collect()
}

/// The reactor's descriptor of `stream`.
fn descriptor_of(world: &World, stream: usize) -> usize {
    world.kernel().streams[stream].descriptor.expect("the stream is open")
}

/// Binds a datagram socket for `peer(number)` in the simulated kernel, and returns its address.
fn bound_peer(world: &World, number: u16) -> SocketAddr {
    world.kernel().bind_peer(peer(number));
    peer(number)
}

/// Returns `time` in milliseconds.
fn ms(time: Duration) -> u64 {
    crate::time::ms_rounded_up(time)
}
