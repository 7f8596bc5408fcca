//! The whole loop on a simulated kernel (`src/net/simulated`), with a simulated clock.
//!
//! `stories` are scripts: one thing happens, and what the loop does about it is looked at. `schedules` are drawn by lot: a
//! seed decides who comes, what they want, how they behave and what goes wrong, and each run is held against the same
//! promises. `clients` are stories of datagram protocols that speak first. `peers` are the people in all of them, and `protocols`
//! what they talk to.

mod calls;
mod clients;
mod closing;
mod commands;
mod datagrams;
mod effect_bounds;
mod environment;
mod exchange;
mod exchange_peers;
mod expectations;
mod fairness;
mod group;
mod handles;
mod overload;
mod panics;
mod peers;
mod protocols;
mod readiness;
mod relays;
mod schedules;
mod stop;
mod syscalls;
mod timeouts;

use std::cell::{RefCell, RefMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::echo::Echo;
use crate::protocol::context::Context;
use crate::protocol::datagram::DatagramProtocol;
use crate::protocol::ident::ConnectionId;
use crate::protocol::protocol::{Advance, Next, Protocol};
use crate::testing::simulated::kernel::{Faults, Kernel};
use crate::testing::simulated::stream::Heard;
use crate::testing::simulated::{Bell, Installed};
use protocols::{Ledger, Witnessed};

/// A reactor, the kernel under it, and what its protocols have been told.
struct World {
    // In the order in which they must go: the reactor closes descriptors of the kernel's.
    reactor: Option<Reactor>,
    installed: Installed,
    ledger: Rc<RefCell<Ledger>>,
    /// Turns that the test itself has asked for although there was nothing to do.
    turns_for_nothing: u64,
}

/// No schedule takes more turns, so one that does goes round and round.
const POLLS_MAX: u64 = 20_000;

impl World {
    fn new(seed: u64, limits: Limits, faults: Faults) -> World {
        let mut kernel = Kernel::new(seed);
        kernel.faults = faults;
        // Who goes because another has gone lingers when that one's time is over.
        let patience_ms =
            limits.idle_timeout_ms.max(limits.write_timeout_ms) + limits.linger_timeout_ms;
        kernel.silence_us_max = patience_ms * 1000 + kernel.faults.held_up_us_max * 20 + 1_500_000;
        let installed = Installed::new(kernel);
        let mut reactor = Reactor::new(limits).unwrap();
        reactor.stop_on(Bell::new().unwrap()).unwrap();
        World { reactor: Some(reactor), installed, ledger: Rc::default(), turns_for_nothing: 0 }
    }

    /// Nothing goes wrong that the story does not tell.
    fn calm() -> World {
        World::new(1, Limits::default(), Faults::default())
    }

    fn kernel(&self) -> RefMut<'_, Kernel> {
        self.installed.0.borrow_mut()
    }

    fn reactor(&mut self) -> &mut Reactor {
        self.reactor.as_mut().expect("it is dropped at the end")
    }

    fn stats(&self) -> &Stats {
        self.reactor.as_ref().expect("it is dropped at the end").stats()
    }

    fn serve<P: Protocol + 'static>(
        &mut self,
        port: u16,
        mut make: impl FnMut(SocketAddr) -> P + 'static,
    ) -> SocketAddr {
        let address = server(port);
        let ledger = self.ledger.clone();
        self.reactor()
            .listen(address, move |peer| Witnessed::new(make(peer), peer, &ledger))
            .unwrap()
    }

    fn answer(&mut self, port: u16, protocol: impl DatagramProtocol + 'static) -> SocketAddr {
        self.reactor().bind_datagram(server(port), protocol).unwrap()
    }

    /// A turn that waits for no longer than `ms`.
    fn turn_within(&mut self, ms: u64) {
        let empty_before = self.stats().empty_turns;
        self.reactor().turn(Some(Duration::from_millis(ms))).unwrap();
        self.turns_for_nothing += self.stats().empty_turns - empty_before; // for which the test has asked
        self.kernel().excuse_idleness();
    }

    /// A turn that does not wait.
    fn turn(&mut self) {
        self.turn_within(0);
    }

    /// Turns until there is nothing more to do at this moment. Returns how many it took.
    fn settle(&mut self) -> u64 {
        let turns_before = self.stats().turns;
        loop {
            let empty_before = self.turns_for_nothing;
            self.turn();
            if self.turns_for_nothing > empty_before {
                return self.stats().turns - turns_before - 1;
            }
            self.check_polls();
        }
    }

    /// Lets `ms` pass, with as many turns as that takes. Returns how many these were.
    fn live(&mut self, ms: u64) -> u64 {
        let turns_before = self.stats().turns;
        let until_us = self.kernel().now_us() + ms * 1000;
        loop {
            let now_us = self.kernel().now_us();
            if now_us >= until_us {
                return self.stats().turns - turns_before;
            }
            self.turn_within((until_us - now_us).div_ceil(1000));
            self.check_polls();
        }
    }

    /// Lets `ms` pass without a turn: the process is held up.
    fn be_held_up(&mut self, ms: u64) {
        let until_us = self.kernel().now_us() + ms * 1000;
        self.kernel().pass_until(until_us);
    }

    // ---- what a peer does in a story

    /// Somebody connects to `port`, with much room for what we send.
    fn connect(&mut self, port: u16, number: u16) -> usize {
        self.kernel().connect(peer(number), server(port), 1 << 20).expect("somebody listens there")
    }

    fn says(&mut self, stream: usize, bytes: &[u8]) {
        self.kernel().peer_sends(stream, bytes);
    }

    /// All that `stream`'s peer has been sent and not heard yet.
    fn hears(&mut self, stream: usize) -> Vec<u8> {
        match self.kernel().peer_hears(stream, usize::MAX) {
            Heard::Bytes(bytes) => bytes,
            Heard::Nothing | Heard::Fin | Heard::Reset => Vec::new(),
        }
    }

    /// What there is to hear behind all bytes.
    fn hears_at_last(&mut self, stream: usize) -> Heard {
        self.hears(stream);
        self.kernel().peer_hears(stream, usize::MAX)
    }

    fn ending_of(&self, number: u16) -> Option<CloseReason> {
        self.ledger.borrow().ending_of(peer(number))
    }

    fn take_calls(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.kernel().calls)
    }

    /// Turns until all in the world are done and all conversations have ended by themselves.
    fn run(&mut self) {
        while !self.kernel().is_deserted() && !self.reactor().is_stopped() {
            self.reactor().turn(None).unwrap();
            self.check_polls();
        }
    }

    fn check_polls(&self) {
        let kernel = self.kernel();
        assert!(
            kernel.polls < POLLS_MAX,
            "it goes round and round; in the world: {:#?}",
            kernel.plights()
        );
    }

    /// Stops the reactor, and looks whether anything is left.
    fn stop(mut self) {
        self.kernel().ring();
        let began_us = self.kernel().now_us();
        while !self.reactor().is_stopped() {
            self.reactor().turn(None).unwrap();
            self.check_polls();
        }
        let drain_timeout_ms = self.reactor().state.limits.drain_timeout_ms;
        let slack_us = self.kernel().faults.held_up_us_max * 20 + 1_000_000;
        let took_us = self.kernel().now_us() - began_us;
        assert!(took_us <= drain_timeout_ms * 1000 + slack_us, "the stop took {took_us} us");
        self.check_that_nothing_is_left();
    }

    fn check_that_nothing_is_left(mut self) {
        let reactor = self.reactor.take().expect("it is dropped here");
        assert!(reactor.slots.is_empty() && reactor.listeners.is_empty(), "no slot is left");
        assert!(
            reactor.run_queue.is_empty() && reactor.batch.is_empty() && reactor.ended.is_empty(),
            "nobody is queued"
        );
        assert_eq!(reactor.deadlines.soonest(), Time::NEVER, "no deadline is filed");
        assert!(reactor.effects.has_nothing_pending(), "nobody waits for anybody");
        let stats = reactor.stats().clone();
        let begun = stats.accepted + stats.connected + stats.connects_failed;
        assert_eq!((stats.connections, stats.closed), (0, begun), "who came has gone");
        drop(reactor);
        let kernel = self.kernel();
        assert_eq!(kernel.descriptors_open(), 0, "every descriptor is closed");
        let excused = self.turns_for_nothing + kernel.polls_interrupted;
        assert!(stats.empty_turns <= excused, "{} turns for nothing", stats.empty_turns - excused);
        let ledger = self.ledger.borrow();
        assert_eq!(ledger.endings.len() as u64, begun, "each connection has a protocol");
        for (number, ending) in ledger.endings.iter().enumerate() {
            assert!(ending.is_some(), "protocol {number} was not told of its end");
        }
    }
}

/// Where we serve.
fn server(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Somebody in the world.
fn peer(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

/// A calm world with an echo in it.
fn echoing() -> World {
    let mut world = World::calm();
    world.serve(2000, |_| Echo::new());
    world
}

/// The same, with `count` connections that have been accepted and are waited for.
fn echoing_to(count: u16) -> (World, Vec<usize>) {
    let mut world = echoing();
    let streams = (1..=count).map(|number| world.connect(2000, number)).collect();
    world.settle();
    (world, streams)
}

/// Where the one connection of `world` has its descriptor.
fn descriptor_of(world: &World, stream: usize) -> usize {
    world.kernel().streams[stream].descriptor.expect("it is open")
}

fn mailbox(world: &World, number: u16) -> SocketAddr {
    world.kernel().open_mailbox(peer(number));
    peer(number)
}
