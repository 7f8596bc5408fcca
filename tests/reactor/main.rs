//! The event loop over its public API and real sockets: fairness, overload, timeouts, stop.
//!
//! Most tests run the turns in their own thread. What a peer has sent is then in the kernel before
//! a turn begins, and what the turn did can be read from the counters after it. Where a peer has to
//! block, the reactor runs in a thread of its own ([`ReactorThread`]).

// The helpers here unwrap as the tests do.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../../src/bin/reactor/site.rs"]
#[allow(dead_code, reason = "the program uses the rest of it")]
mod site;

#[path = "../common/mod.rs"]
mod common;
#[path = "../../src/limits.rs"]
#[allow(dead_code, unreachable_pub, reason = "a copy, for the numbers that are not public")]
mod limits;
#[path = "../../src/overload_limits.rs"]
#[allow(dead_code, reason = "a copy, as above")]
mod overload_limits;

mod closing; // how a connection ends, and what its peer and its protocol learn of it
mod deferred_accept; // connections that the kernel keeps until their peers speak
mod fairness; // what one turn may cost, and in which order sources are served
mod groups; // multicast and broadcast
mod openings; // listeners with options, sockets from the standard library, stop signals
mod overload; // connections_max reached: backlog, eviction, connection bursts, slot reuse
mod panics; // a panic in a protocol
mod protocols; // several protocols, first byte from the server, long replies
mod stop; // graceful stop, and the drain timeout
mod timeouts; // idle, write and first byte timeouts, and protocols' timers

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use common::{TIMEOUT, assert_same, turn_until};
use mio_reactor::{Advance, CloseReason, Context, Limits, Next, Protocol, Reactor, Stats, Stopped};

// ---- the reactor in the test's thread

/// Runs turns after a stop until the reactor has drained, and returns how many it took.
#[track_caller]
fn turn_until_stopped(reactor: &mut Reactor) -> u64 {
    let give_up = Instant::now() + TIMEOUT;
    let turns_before = reactor.stats().turns;
    while !reactor.is_stopped() {
        assert!(Instant::now() < give_up, "the reactor does not stop: {:?}", reactor.stats());
        reactor.turn(Some(TIMEOUT)).unwrap();
    }
    reactor.stats().turns - turns_before
}

/// Sends `bytes`, runs turns until as many bytes have been sent back, and reads them. Returns how
/// many turns it took.
#[track_caller]
fn exchange(reactor: &mut Reactor, stream: &mut TcpStream, bytes: &[u8]) -> u64 {
    let out_before = reactor.stats().bytes_out;
    stream.write_all(bytes).unwrap();
    let turns = turn_until(reactor, "the reply is sent", |stats| {
        stats.bytes_out >= out_before + bytes.len() as u64
    });
    let mut reply = vec![0; bytes.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_same(&reply, bytes);
    turns
}

// ---- the reactor in a thread of its own

/// A reactor that runs in its own thread until its stop signal's other end is dropped.
struct ReactorThread {
    addresses: Vec<SocketAddr>,
    /// The write end of the stop signal (the self-pipe trick): dropping it stops the reactor.
    stop_signal: UnixStream,
    result: mpsc::Receiver<(Stopped, Stats)>,
}

impl ReactorThread {
    /// Starts it. `set_up` runs in the reactor's thread and returns the addresses that it has
    /// bound.
    fn start(
        limits: Limits,
        set_up: impl FnOnce(&mut Reactor) -> Vec<SocketAddr> + Send + 'static,
    ) -> ReactorThread {
        let (read_end, write_end) = UnixStream::pair().unwrap();
        let (send_addresses, addresses) = mpsc::channel();
        let (send_result, result) = mpsc::channel();
        thread::spawn(move || {
            let mut reactor = Reactor::new(limits).unwrap();
            reactor.stop_on(read_end.into()).unwrap();
            send_addresses.send(set_up(&mut reactor)).unwrap();
            let stopped = reactor.run().unwrap();
            // The receiver is gone if the test has failed meanwhile.
            let _ = send_result.send((stopped, reactor.stats().clone()));
        });
        let addresses = addresses.recv_timeout(TIMEOUT).unwrap();
        ReactorThread { addresses, stop_signal: write_end, result }
    }

    fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Stops it, and returns how it stopped and its final counters.
    fn stop(self) -> (Stopped, Stats) {
        drop(self.stop_signal);
        self.result.recv_timeout(TIMEOUT).expect("the reactor stops")
    }
}

// ---- protocols that several files use

/// Why connections closed, in that order: each connection's number, and the reason.
type CloseLog = Rc<RefCell<Vec<(usize, CloseReason)>>>;

/// Executes one-byte commands: `c` closes, `a` aborts. `p` is echoed and leaves work in progress (a
/// timer that is far away) until the next byte. Every other byte is echoed.
struct ByteCommands {
    /// How many of them were made before this one.
    number: usize,
    close_log: CloseLog,
}

/// Returns a factory of [`ByteCommands`] and the log that they share.
fn byte_commands() -> (impl FnMut(SocketAddr) -> ByteCommands + 'static, CloseLog) {
    let close_log = CloseLog::default();
    let shared = Rc::clone(&close_log);
    let mut made = 0;
    let make = move |_| {
        made += 1;
        ByteCommands { number: made - 1, close_log: Rc::clone(&shared) }
    };
    (make, close_log)
}

impl Protocol for ByteCommands {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let next = match input[0] {
            b'c' => Next::Close,
            b'a' => Next::Abort,
            byte => {
                cx.send(&[byte]);
                match byte {
                    b'p' => cx.set_timer(TIMEOUT * 100),
                    _ => cx.cancel_timer(),
                }
                Next::Continue
            }
        };
        Advance::consumed(1).then(next)
    }

    fn closed(&mut self, why: CloseReason) {
        self.close_log.borrow_mut().push((self.number, why));
    }
}

/// Sends `text` when the connection opens, discards its input, and sends nothing else.
struct SendsOnOpen {
    text: Vec<u8>,
    close_log: CloseLog,
}

impl Protocol for SendsOnOpen {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(&self.text);
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }

    fn closed(&mut self, why: CloseReason) {
        self.close_log.borrow_mut().push((0, why));
    }
}
