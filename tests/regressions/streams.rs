//! Bugs of stream connections: pauses behind output, filed deadlines, and a late loop.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mio_reactor::{Advance, CloseReason, Context, Limits, Next, Protocol};

use crate::common::{
    TIMEOUT, TURN_TIMEOUT, check_end, connect, connect_narrow, serve, stall, turn_until,
};

/// Runs `test` in a thread of its own, and fails if it does not end.
#[track_caller]
fn check_ends(test: impl FnOnce() + Send + 'static) {
    let (send_end, end) = mpsc::channel();
    thread::spawn(move || {
        test();
        send_end.send(()).unwrap();
    });
    end.recv_timeout(2 * TIMEOUT).expect("the test ends");
}

/// Answers `x` with a page of zeros. At the first `p` it pauses without sending anything, until its
/// timer expires. The `p` is consumed then if `consumes_first`, else only after the timer has
/// expired.
struct PausesOnP {
    consumes_first: bool,
    expiries: Rc<Cell<usize>>,
}

impl PausesOnP {
    const PAGE: usize = 4096;
}

impl Protocol for PausesOnP {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        match input[0] {
            b'x' => cx.send(&[0; PausesOnP::PAGE]),
            _ if self.expiries.get() > 0 => {}
            _ => {
                cx.set_timer(Duration::from_millis(50));
                return Advance::consumed(usize::from(self.consumes_first)).then(Next::Pause);
            }
        }
        Advance::consumed(1)
    }

    fn output_low(&mut self, _: &mut Context<'_>) -> Next {
        if self.consumes_first { Next::Pause } else { Next::Continue }
    }

    fn timer_expired(&mut self, _: &mut Context<'_>) -> Next {
        self.expiries.set(self.expiries.get() + 1);
        Next::Continue
    }
}

#[test]
fn pause_behind_output_below_the_low_watermark_does_not_spin() {
    // With less output waiting than the low watermark, a pause counted as drained at once, and the
    // drive never ended.
    for consumes_first in [true, false] {
        check_ends(move || {
            let expiries = Rc::new(Cell::new(0));
            let shared = Rc::clone(&expiries);
            let (mut reactor, address) = serve(Limits::default(), move |_| PausesOnP {
                consumes_first,
                expiries: Rc::clone(&shared),
            });
            let mut peer = connect_narrow(address);
            let (mut requests, mut bytes) = (0, 0);
            while reactor.stats().bytes_out == bytes {
                peer.write_all(b"x").unwrap();
                requests += 1;
                bytes += PausesOnP::PAGE as u64;
                turn_until(&mut reactor, "it is read", |stats| stats.bytes_in == requests);
            }
            peer.write_all(b"p").unwrap();
            turn_until(&mut reactor, "the timer expires", |_| expiries.get() == 1);
            let reader = thread::spawn(move || {
                let mut pages = vec![0; usize::try_from(bytes).unwrap()];
                peer.read_exact(&mut pages).unwrap();
            });
            turn_until(&mut reactor, "all is sent", |stats| stats.bytes_out == bytes);
            reader.join().unwrap();
        });
    }
}

/// Sends `BYTES` bytes when the connection opens, and records why it closes.
struct SendsALot(Rc<RefCell<Vec<CloseReason>>>);

impl SendsALot {
    const BYTES: usize = 4_000_000;
}

impl Protocol for SendsALot {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(&[0; SendsALot::BYTES]);
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }

    fn closed(&mut self, why: CloseReason) {
        self.0.borrow_mut().push(why);
    }
}

#[test]
fn idle_timeout_holds_again_after_a_slow_write() {
    // The deadline filed while output waited (a minute) was kept when a nearer one (100 ms) came to
    // hold.
    let limits = Limits::default()
        .with_idle_timeout(Duration::from_millis(100))
        .with_write_timeout(Duration::from_secs(60));
    let reasons = Rc::new(RefCell::new(Vec::new()));
    let shared = Rc::clone(&reasons);
    let (mut reactor, address) = serve(limits, move |_| SendsALot(Rc::clone(&shared)));
    let mut peer = connect_narrow(address);
    turn_until(&mut reactor, "the connection is accepted", |stats| stats.accepted == 1);
    let all = SendsALot::BYTES as u64;
    assert!(reactor.stats().bytes_out < all, "the kernel's buffers do not hold all of it");
    let reader = thread::spawn(move || {
        peer.read_exact(&mut vec![0; SendsALot::BYTES]).unwrap();
        peer
    });
    turn_until(&mut reactor, "all is sent", |stats| stats.bytes_out == all);
    turn_until(&mut reactor, "the connection times out", |stats| stats.connections == 0);
    assert_eq!(*reasons.borrow(), [CloseReason::IdleTimeout]);
    check_end(reader.join().unwrap(), b"");
}

// pitfall: 64
#[test]
fn idle_timeout_that_passes_during_a_slow_write_does_not_spin() {
    // While output waits, the write timeout holds, which is the longer one here. But the idle
    // timeout was filed, and from its time on every turn found it due and ended at once, until the
    // write timeout had passed, too.
    let limits = Limits::default()
        .with_idle_timeout(Duration::from_millis(50))
        .with_write_timeout(Duration::from_secs(60));
    let (mut reactor, address) = serve(limits, |_| SendsALot(Rc::default()));
    let _peer = connect_narrow(address); // never reads
    turn_until(&mut reactor, "the connection is accepted", |stats| stats.accepted == 1);
    stall(Duration::from_millis(60));
    let begin = Instant::now();
    for _ in 0..10 {
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
    assert_eq!(reactor.stats().connections, 1);
    assert!(begin.elapsed() >= 5 * TURN_TIMEOUT, "ten turns in {:?}", begin.elapsed());
}

// pitfall: 65
#[test]
#[cfg(target_os = "linux")]
fn late_loop_does_not_time_out_connections_with_unread_input() {
    // With more than 1,024 events waiting, a late loop closed connections as idle whose input epoll
    // had not reported yet.
    use mio_reactor::Echo;

    use crate::common::may_open;

    const COUNT: usize = 1_200;
    if !may_open(3 * COUNT) {
        return;
    }
    let limits = Limits::default().with_idle_timeout(Duration::from_millis(1_500));
    let (mut reactor, address) = serve(limits, |_| Echo::new());
    let mut peers = Vec::new();
    for _ in 0..COUNT {
        peers.push(connect(address));
        if peers.len() % 50 == 0 {
            turn_until(&mut reactor, "they are accepted", |stats| {
                stats.accepted == peers.len() as u64
            });
        }
    }
    assert_eq!(reactor.stats().connections, COUNT);
    // The first to connect are the last to send, so that epoll reports them last.
    for peer in peers.iter_mut().rev() {
        peer.write_all(b"x").unwrap();
    }
    stall(Duration::from_millis(1_600));
    turn_until(&mut reactor, "all are answered", |stats| {
        stats.bytes_out + stats.closed >= COUNT as u64
    });
    assert_eq!(reactor.stats().closed, 0);
    for peer in &mut peers {
        peer.read_exact(&mut [0; 1]).unwrap();
    }
}
