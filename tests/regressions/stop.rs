//! Bugs of the graceful stop: what counts as idle, floods, and the drain timeout.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use mio_reactor::{Advance, Context, Echo, Http, Limits, Next, Protocol, Reactor, Stopped};

use crate::common::{
    TIMEOUT, TURN_TIMEOUT, check_end, connect, flood_itself, serve, stall, turn_until,
};
use crate::site::Site;

#[test]
fn stop_waits_for_a_request_whose_body_is_incomplete() {
    // The head had been consumed and no input was left over, so a stop took the connection for idle
    // and closed it.
    let (mut reactor, address) = serve(Limits::default(), |_| Http::new(Site::new()));
    let mut peer = connect(address);
    let begun = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345";
    peer.write_all(begun).unwrap();
    turn_until(&mut reactor, "it is read", |stats| stats.bytes_in == begun.len() as u64);
    reactor.stop();
    for _ in 0..5 {
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
    peer.write_all(b"67890").unwrap();
    let reader = thread::spawn(move || {
        let mut response = Vec::new();
        peer.read_to_end(&mut response).unwrap();
        response
    });
    assert_eq!(reactor.run().unwrap(), Stopped::Graceful);
    assert!(reader.join().unwrap().starts_with(b"HTTP/1.0 200 "));
}

// pitfall: 56
#[test]
fn datagram_flood_does_not_delay_a_stop() {
    // A socket that always had one more datagram never counted as drained, and every stop lasted
    // for the whole drain timeout (a minute here).
    let mut reactor =
        Reactor::new(Limits::default().with_drain_timeout(Duration::from_secs(60))).unwrap();
    flood_itself(&mut reactor);
    reactor.stop();
    let give_up = Instant::now() + TIMEOUT;
    while !reactor.is_stopped() {
        assert!(Instant::now() < give_up, "the reactor does not stop");
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
}

#[test]
fn drain_timeout_ends_a_stop_in_single_turns_without_spinning() {
    // Only `run` checked the drain timeout: once it had passed, turns that the caller ran one by
    // one returned at once, and the stop never ended.
    let limits = Limits::default()
        .with_drain_timeout(Duration::from_millis(200))
        .with_linger_timeout(Duration::from_secs(60));
    let (mut reactor, address) = serve(limits, |_| Echo::new());
    let _peer = connect(address); // never closes
    turn_until(&mut reactor, "the connection is accepted", |stats| stats.accepted == 1);
    reactor.stop();
    let turns_before = reactor.stats().turns;
    let give_up = Instant::now() + TIMEOUT;
    while !reactor.is_stopped()
        && Instant::now() < give_up
        && reactor.stats().turns < turns_before + 20
    {
        reactor.turn(Some(Duration::from_millis(100))).unwrap();
    }
    assert!(reactor.is_stopped(), "after {} turns", reactor.stats().turns - turns_before);
}

/// Echoes two bytes. After the first it has work in progress (a timer), and after the second it
/// closes.
struct EchoesTwoBytes {
    has_echoed: bool,
}

impl Protocol for EchoesTwoBytes {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(&input[..1]);
        cx.set_timer(10 * TIMEOUT);
        let is_second = std::mem::replace(&mut self.has_echoed, true);
        Advance::consumed(1).then(if is_second { Next::Close } else { Next::Continue })
    }
}

#[test]
fn drain_timeout_begins_when_the_stop_is_requested() {
    // It began at the time of the last turn: after a long quiet period, a stop closed work in
    // progress by force at once.
    let limits = Limits::default()
        .with_drain_timeout(Duration::from_secs(1))
        .with_linger_timeout(Duration::from_millis(100));
    let (mut reactor, address) = serve(limits, |_| EchoesTwoBytes { has_echoed: false });
    let mut peer = connect(address);
    peer.write_all(b"1").unwrap();
    turn_until(&mut reactor, "the first echo", |stats| stats.bytes_out == 1);
    stall(Duration::from_millis(1_100));
    reactor.stop();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(reactor.stats().connections, 1, "the connection is still open");
    peer.write_all(b"2").unwrap();
    assert_eq!(reactor.run().unwrap(), Stopped::Graceful);
    check_end(peer, b"12");
}
