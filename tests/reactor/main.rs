//! The loop, over its public API and real sockets: who is served, who is ended, when, and why.
//!
//! Most tests turn the loop in their own thread. What peers have sent is then in the kernel before a turn begins, and what
//! a turn has done can be read from the counters after it. Where a peer has to block, the loop `run`s in a thread of its own.

// The helpers here unwrap as the tests do.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "../../src/bin/reactor/site.rs"]
#[allow(dead_code, reason = "the program uses the rest of it")]
mod site;

#[path = "../common/mod.rs"]
mod common;
mod closing;
mod fairness;
mod overload;
mod panics;
mod protocols;
mod stop;
mod timeouts;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use common::may_open;
use common::{
    A_MOMENT, PATIENCE, any_port, assert_same, be_late, check_echo, check_end, connect,
    connect_narrow, connect_udp, pattern, reset, serve, turn_until,
};
use mio_reactor::limits::{
    ACCEPTS_PER_TURN, EVICTION_IDLE_MS, EVICTIONS_MAX, LOW_WATERMARK_BYTES, READ_BYTES_MAX,
    SOURCE_BYTES_PER_TURN_MAX,
};
#[cfg(target_os = "linux")]
use mio_reactor::limits::{EVENTS_PER_TURN, EXPIRIES_PER_TURN};
use mio_reactor::{
    Advance, CloseReason, Context, Datagram, DatagramProtocol, Echo, Http, Limits, Next, Protocol,
    Reactor, Replies, Stats, Stopped,
};

use site::Site;

// ---- the loop, in the test's thread

/// Takes turns until all has drained after a stop, and returns how many it took.
#[track_caller]
fn turn_until_stopped(reactor: &mut Reactor) -> u64 {
    let give_up = Instant::now() + PATIENCE;
    let turns_before = reactor.stats().turns;
    while !reactor.is_stopped() {
        assert!(Instant::now() < give_up, "it does not stop: {:?}", reactor.stats());
        reactor.turn(Some(PATIENCE)).unwrap();
    }
    reactor.stats().turns - turns_before
}

/// Sends `bytes`, takes turns until as many have been answered, and reads them. Returns how many turns it took.
#[track_caller]
fn exchange(reactor: &mut Reactor, stream: &mut TcpStream, bytes: &[u8]) -> u64 {
    let out_before = reactor.stats().bytes_out;
    stream.write_all(bytes).unwrap();
    let turns = turn_until(reactor, "an answer", |stats| {
        stats.bytes_out >= out_before + bytes.len() as u64
    });
    let mut reply = vec![0; bytes.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_same(&reply, bytes);
    turns
}

// ---- the loop, in a thread of its own

/// A reactor that runs until it is stopped by its rope.
struct Running {
    addresses: Vec<SocketAddr>,
    rope: UnixStream,
    ending: mpsc::Receiver<(Stopped, Stats)>,
}

impl Running {
    /// `set_up` is called in the loop's thread, and returns the addresses that it has bound.
    fn start(
        limits: Limits,
        set_up: impl FnOnce(&mut Reactor) -> Vec<SocketAddr> + Send + 'static,
    ) -> Running {
        let (bell, rope) = UnixStream::pair().unwrap();
        bell.set_nonblocking(true).unwrap();
        let (tell_addresses, addresses) = mpsc::channel();
        let (tell_ending, ending) = mpsc::channel();
        thread::spawn(move || {
            let mut reactor = Reactor::new(limits).unwrap();
            reactor.stop_on(mio::net::UnixStream::from_std(bell)).unwrap();
            tell_addresses.send(set_up(&mut reactor)).unwrap();
            let stopped = reactor.run().unwrap();
            // Nobody listens any more where the test has failed meanwhile.
            let _ = tell_ending.send((stopped, reactor.stats().clone()));
        });
        Running { addresses: addresses.recv_timeout(PATIENCE).unwrap(), rope, ending }
    }

    fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Asks it to stop, and waits until it has.
    fn stop(self) -> (Stopped, Stats) {
        drop(self.rope);
        self.ending.recv_timeout(PATIENCE).expect("it stops")
    }
}

// ---- little protocols

/// Why connections ended, in the order in which they did: which of them it was (they are numbered as they come), and why.
type Endings = Rc<RefCell<Vec<(usize, CloseReason)>>>;

/// Does what it is told, byte by byte: `c` closes, `a` aborts, `p` is answered and then the conversation stays under way until
/// another byte comes; every other byte is answered with itself. Tells how it ends.
struct Obedient {
    number: usize,
    endings: Endings,
}

/// A maker of those, and where they tell how they ended.
fn obedient() -> (impl FnMut(SocketAddr) -> Obedient + 'static, Endings) {
    let endings = Endings::default();
    let told = Rc::clone(&endings);
    let mut made = 0;
    let make = move |_| {
        made += 1;
        Obedient { number: made - 1, endings: Rc::clone(&told) }
    };
    (make, endings)
}

impl Protocol for Obedient {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let next = match input[0] {
            b'c' => Next::Close,
            b'a' => Next::Abort,
            byte => {
                cx.send(&[byte]);
                match byte {
                    b'p' => cx.set_timer(PATIENCE * 100),
                    _ => cx.cancel_timer(),
                }
                Next::Continue
            }
        };
        Advance::consumed(1).then(next)
    }

    fn closed(&mut self, why: CloseReason) {
        self.endings.borrow_mut().push((self.number, why));
    }
}

/// Says a whole text as soon as it is met, and never anything else.
struct Says {
    text: Vec<u8>,
    endings: Endings,
}

impl Protocol for Says {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(&self.text);
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }

    fn closed(&mut self, why: CloseReason) {
        self.endings.borrow_mut().push((0, why));
    }
}
