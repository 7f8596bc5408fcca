//! Idle, write and first byte timeouts, and protocols' timers: none early, none lost, no spinning.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio_reactor::{Advance, CloseReason, Context, Echo, Limits, Next, Protocol, Reactor};

use crate::common::{
    TIMEOUT, TURN_TIMEOUT, any_port, check_end, connect, connect_narrow, serve, turn_until,
};
#[cfg(target_os = "linux")]
use crate::common::{may_open, stall};
use crate::{CloseLog, SendsOnOpen, byte_commands, exchange};

/// At least `at_least` has passed since `begin`, give or take the resolution of the clock.
#[track_caller]
fn assert_elapsed(begin: Instant, at_least: Duration) {
    let elapsed = begin.elapsed();
    // The reactor's clock counts whole milliseconds.
    assert!(elapsed >= at_least - Duration::from_millis(1), "too early: after {elapsed:?}");
}

#[test]
fn idle_connection_times_out_while_a_busy_one_stays_open() {
    // One connection exchanges a byte in every turn until the other, which is silent, has timed
    // out. Then it sends nothing more, either.
    let limits = Limits::default().with_idle_timeout(Duration::from_millis(200));
    let (make, close_log) = byte_commands();
    let (mut reactor, address) = serve(limits, make);
    let begin = Instant::now();
    let silent = connect(address);
    let mut busy = connect(address);
    while close_log.borrow().is_empty() {
        exchange(&mut reactor, &mut busy, b"x");
        assert!(begin.elapsed() < TIMEOUT, "the silent connection does not time out");
    }
    assert_elapsed(begin, Duration::from_millis(200));
    assert_eq!(*close_log.borrow(), [(0, CloseReason::IdleTimeout)]);
    check_end(silent, b"");
    exchange(&mut reactor, &mut busy, b"x");
    turn_until(&mut reactor, "the other times out, too", |stats| stats.connections == 0);
    let expected = [(0, CloseReason::IdleTimeout), (1, CloseReason::IdleTimeout)];
    assert_eq!(*close_log.borrow(), expected);
}

// pitfall: 20
#[test]
fn peer_that_never_reads_is_closed_by_write_timeout() {
    // The peer is sent more than the kernel's buffers hold. All other timeouts are far away.
    let limits = Limits::default().with_write_timeout(Duration::from_millis(200));
    let close_log = CloseLog::default();
    let shared = Rc::clone(&close_log);
    let (mut reactor, address) = serve(limits, move |_| SendsOnOpen {
        text: vec![0; 4_000_000],
        close_log: Rc::clone(&shared),
    });
    let begin = Instant::now();
    let _peer = connect_narrow(address);
    turn_until(&mut reactor, "the connection is accepted", |stats| stats.accepted == 1);
    assert!(reactor.stats().bytes_out < 4_000_000, "the kernel's buffers do not hold all of it");
    turn_until(&mut reactor, "the connection closes", |stats| stats.connections == 0);
    assert_eq!(*close_log.borrow(), [(0, CloseReason::WriteTimeout)]);
    assert_elapsed(begin, Duration::from_millis(200));
}

// pitfall: 61
#[test]
fn busy_connections_deadline_expires_once_per_idle_timeout() {
    // I/O only moves the deadline later, and does not refile it. So the loop checks a busy
    // connection about once per idle timeout, not once per byte.
    let limits = Limits::default().with_idle_timeout(Duration::from_millis(100));
    let (mut reactor, address) = serve(limits, |_| Echo::new());
    let mut peer = connect(address);
    let begin = Instant::now();
    let mut exchanges = 0;
    while begin.elapsed() < Duration::from_millis(450) {
        exchange(&mut reactor, &mut peer, b"x");
        exchanges += 1;
    }
    let idle_times = u64::try_from(begin.elapsed().as_millis() / 100).unwrap();
    let expired = reactor.stats().deadlines_expired;
    assert!(
        expired <= idle_times + 1,
        "{expired} expiries in {exchanges} exchanges and {idle_times} idle timeouts"
    );
    assert_eq!(reactor.stats().connections, 1);
}

// pitfall: 62
#[test]
#[cfg(target_os = "linux")]
fn simultaneous_timeouts_are_spread_over_turns() {
    // 300 connections are accepted together and time out together. One turn closes at most 256 of
    // them (`CONNECTION_COST_BYTES` each), and in the end all are closed.
    const COUNT: usize = 300;
    if !may_open(4 * COUNT) {
        return;
    }
    let (make, close_log) = byte_commands();
    let (mut reactor, address) =
        serve(Limits::default().with_idle_timeout(Duration::from_millis(500)), make);
    let peers: Vec<TcpStream> = (0..COUNT).map(|_| connect(address)).collect();
    turn_until(&mut reactor, "all are accepted", |stats| stats.accepted == COUNT as u64);
    stall(Duration::from_millis(600)); // the next turn finds all of them due
    let mut closed_in_turns = Vec::new();
    while reactor.stats().connections > 0 {
        let closed_before = reactor.stats().closed;
        turn_until(&mut reactor, "some close", |stats| stats.closed > closed_before);
        closed_in_turns.push(reactor.stats().closed - closed_before);
    }
    assert!(closed_in_turns.iter().all(|&closed| closed <= 256), "{closed_in_turns:?}");
    assert!(close_log.borrow().iter().all(|&(_, why)| why == CloseReason::IdleTimeout));
    assert_eq!(close_log.borrow().len(), COUNT);
    peers.into_iter().for_each(|peer| check_end(peer, b""));
}

/// Sets a timer of `delay` when the connection opens, and again at each expiry if it `repeats`.
/// Records when it was first set and when it expired.
struct RecordsTimer {
    delay: Duration,
    repeats: bool,
    times: Rc<RefCell<Vec<Instant>>>,
}

impl Protocol for RecordsTimer {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.times.borrow_mut().push(cx.now());
        cx.set_timer(self.delay);
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.times.borrow_mut().push(cx.now());
        if self.repeats {
            cx.set_timer(self.delay);
        }
        Next::Continue
    }
}

/// Each of `times` is at least `delay` after the one before it.
#[track_caller]
fn assert_apart(times: &[Instant], delay: Duration) {
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= delay), "{times:?}");
}

#[test]
fn timer_expires_once_and_never_early() {
    // One connection sets a single timer. Another sets ten in a row, the last of them long after
    // the first connection's only one.
    let once = Rc::new(RefCell::new(Vec::new()));
    let repeated = Rc::new(RefCell::new(Vec::new()));
    let (of_once, of_repeated) = (Rc::clone(&once), Rc::clone(&repeated));
    let delay = Duration::from_millis(30);
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let one = reactor
        .listen(any_port(), move |_| RecordsTimer {
            delay,
            repeats: false,
            times: Rc::clone(&of_once),
        })
        .unwrap();
    let other = reactor
        .listen(any_port(), move |_| RecordsTimer {
            delay,
            repeats: true,
            times: Rc::clone(&of_repeated),
        })
        .unwrap();
    let _peers = [connect(one), connect(other)];
    turn_until(&mut reactor, "ten expiries", |_| repeated.borrow().len() > 10);
    assert_eq!(once.borrow().len(), 2, "opened, and one expiry");
    assert_apart(&once.borrow(), delay);
    assert_apart(&repeated.borrow(), delay);
}

// pitfall: 58
#[test]
fn sub_millisecond_timer_does_not_make_the_loop_spin() {
    // The protocol sets a timer of 10 µs at each expiry. Delays are rounded up to whole
    // milliseconds, so the expiries are at least 1 ms apart, and no turn runs without one.
    let times = Rc::new(RefCell::new(Vec::new()));
    let shared = Rc::clone(&times);
    let delay = Duration::from_micros(10);
    let (mut reactor, address) = serve(Limits::default(), move |_| RecordsTimer {
        delay,
        repeats: true,
        times: Rc::clone(&shared),
    });
    let _peer = connect(address);
    turn_until(&mut reactor, "the connection is accepted", |stats| stats.accepted == 1);
    let turns = turn_until(&mut reactor, "100 expiries", |_| times.borrow().len() > 100);
    assert_apart(&times.borrow(), Duration::from_millis(1));
    assert!(turns <= 110, "{turns} turns for 100 expiries");
}

/// Echoes each message, and sends `timer` a moment after it.
struct EchoThenTimer;

impl Protocol for EchoThenTimer {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(input);
        cx.set_timer(TURN_TIMEOUT);
        Advance::consumed(input.len())
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(b"timer");
        Next::Continue
    }
}

#[test]
fn timer_earlier_than_the_filed_deadline_expires_on_time() {
    // From the second message on, the connection is registered with epoll and has a deadline filed,
    // which is later than the new timer.
    let (mut reactor, address) = serve(Limits::default(), |_| EchoThenTimer);
    let mut peer = connect(address);
    for _ in 0..3 {
        let out_before = reactor.stats().bytes_out;
        peer.write_all(b"hello").unwrap();
        turn_until(&mut reactor, "the echo and the timer", |stats| {
            stats.bytes_out == out_before + 10
        });
        let mut received = [0; 10];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"hellotimer");
    }
}

#[test]
fn first_byte_timeout_closes_only_connections_without_input() {
    let limits = Limits::default()
        .with_first_byte_timeout(Duration::from_millis(50))
        .with_idle_timeout(Duration::from_secs(3_600));
    let mut reactor = Reactor::new(limits).unwrap();
    let (make, close_log) = byte_commands();
    let address = reactor.listen(any_port(), make).unwrap();
    let mut sender = connect(address);
    exchange(&mut reactor, &mut sender, b"x");
    let silent = connect(address);
    turn_until(&mut reactor, "one closes", |stats| stats.closed == 1);
    check_end(silent, b"");
    assert_eq!(*close_log.borrow(), [(1, CloseReason::FirstByteTimeout)]);
    exchange(&mut reactor, &mut sender, b"y");
}

#[test]
fn limits_of_zero_do_not_make_the_loop_spin() {
    // A write timeout of 0 is taken for 1 ms. A peer that does not read is closed after that, and
    // not checked again and again.
    let limits =
        Limits::default().with_connections_max(0).with_write_timeout(Duration::from_millis(0));
    let mut reactor = Reactor::new(limits).unwrap();
    let close_log = CloseLog::default();
    let shared = Rc::clone(&close_log);
    let address = reactor
        .listen(any_port(), move |_| SendsOnOpen {
            text: vec![7; 3 << 20],
            close_log: Rc::clone(&shared),
        })
        .unwrap();
    let _peer = connect_narrow(address);
    turn_until(&mut reactor, "the connection closes", |stats| stats.closed == 1);
    assert_eq!(*close_log.borrow(), [(0, CloseReason::WriteTimeout)]);
    assert!(reactor.stats().turns < 20, "{:?}", reactor.stats());
}
