//! What has gone wrong once: a test for each bug, with its story in its first lines.
//!
//! A bug that made the loop hang is met in a thread of its own, so that the test fails rather than hang with it.

// The helpers here unwrap as the tests do, and a test that cannot be made here says so.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../src/bin/reactor/site.rs"]
#[allow(dead_code, reason = "the program uses the rest of it")]
mod site;

mod common;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    TIMEOUT, TURN_TIMEOUT, any_port, assert_same, check_end, connect, connect_narrow, connect_udp,
    may_open, pattern, serve, stall, turn_until,
};
use mio_reactor::{
    Advance, CloseReason, Context, Datagram, DatagramProtocol, Echo, Http, Limits, Next, Protocol,
    Reactor, Replies, Stopped, TestConnection,
};

use site::Site;

/// Fails if `story` does not come to its end.
#[track_caller]
fn check_ends(story: impl FnOnce() + Send + 'static) {
    let (tell_end, end) = mpsc::channel();
    thread::spawn(move || {
        story();
        tell_end.send(()).unwrap();
    });
    end.recv_timeout(2 * TIMEOUT).expect("it comes to its end");
}

// ---- streams

/// Answers `x` with a page of zeros, and pauses once on `p`, without a word, until its alarm rings. `eats`: then, or only
/// when it has rung, is the `p` consumed.
struct Naps {
    eats: bool,
    rung: Rc<Cell<usize>>,
}

impl Naps {
    const PAGE: usize = 4096;
}

impl Protocol for Naps {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        match input[0] {
            b'x' => cx.send(&[0; Naps::PAGE]),
            _ if self.rung.get() > 0 => {}
            _ => {
                cx.set_timer(Duration::from_millis(50));
                return Advance::consumed(usize::from(self.eats)).then(Next::Pause);
            }
        }
        Advance::consumed(1)
    }

    fn output_low(&mut self, _: &mut Context<'_>) -> Next {
        if self.eats { Next::Pause } else { Next::Continue }
    }

    fn timer_expired(&mut self, _: &mut Context<'_>) -> Next {
        self.rung.set(self.rung.get() + 1);
        Next::Continue
    }
}

#[test]
fn a_pause_behind_a_little_output_waits() {
    // With less than the low mark waiting, a pause counted as drained at once, and the drive went round for ever.
    for eats in [true, false] {
        check_ends(move || {
            let rung = Rc::new(Cell::new(0));
            let told = Rc::clone(&rung);
            let (mut reactor, address) =
                serve(Limits::default(), move |_| Naps { eats, rung: Rc::clone(&told) });
            let mut peer = connect_narrow(address);
            let (mut asked, mut said) = (0, 0);
            while reactor.stats().bytes_out == said {
                peer.write_all(b"x").unwrap();
                asked += 1;
                said += Naps::PAGE as u64;
                turn_until(&mut reactor, "it is heard", |stats| stats.bytes_in == asked);
            }
            peer.write_all(b"p").unwrap();
            turn_until(&mut reactor, "the alarm", |_| rung.get() == 1);
            let reader = thread::spawn(move || {
                let mut pages = vec![0; usize::try_from(said).unwrap()];
                peer.read_exact(&mut pages).unwrap();
            });
            turn_until(&mut reactor, "the rest", |stats| stats.bytes_out == said);
            reader.join().unwrap();
        });
    }
}

/// Says a lot as soon as it is met, and tells how it ends.
struct Says(Rc<RefCell<Vec<CloseReason>>>);

impl Says {
    const BYTES: usize = 4_000_000;
}

impl Protocol for Says {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(&[0; Says::BYTES]);
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
fn a_connection_that_was_slow_is_idle_in_time_afterwards() {
    // The deadline filed while output waited (a minute) was kept when a nearer one (a tenth of a second) came to hold.
    let limits = Limits { idle_timeout_ms: 100, write_timeout_ms: 60_000, ..Limits::default() };
    let endings = Rc::new(RefCell::new(Vec::new()));
    let told = Rc::clone(&endings);
    let (mut reactor, address) = serve(limits, move |_| Says(Rc::clone(&told)));
    let mut peer = connect_narrow(address);
    turn_until(&mut reactor, "it is accepted", |stats| stats.accepted == 1);
    assert!(reactor.stats().bytes_out < Says::BYTES as u64, "the kernel does not hold all of it");
    let reader = thread::spawn(move || {
        peer.read_exact(&mut vec![0; Says::BYTES]).unwrap();
        peer
    });
    turn_until(&mut reactor, "all is sent", |stats| stats.bytes_out == Says::BYTES as u64);
    turn_until(&mut reactor, "it is idle", |stats| stats.connections == 0);
    assert_eq!(*endings.borrow(), [CloseReason::IdleTimeout]);
    check_end(reader.join().unwrap(), b"");
}

#[test]
fn a_stuck_connection_that_would_be_idle_by_now_does_not_make_the_loop_spin() {
    // While output waits, the longer time counts. But the loop was to look when the shorter one was over, and from then on
    // looked again and again, without a pause, until the longer one was over too.
    let limits = Limits { idle_timeout_ms: 50, write_timeout_ms: 60_000, ..Limits::default() };
    let (mut reactor, address) = serve(limits, |_| Says(Rc::default()));
    let _peer = connect_narrow(address); // it reads nothing
    turn_until(&mut reactor, "it is accepted", |stats| stats.accepted == 1);
    stall(Duration::from_millis(60));
    let begin = Instant::now();
    for _ in 0..10 {
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
    assert_eq!(reactor.stats().connections, 1);
    assert!(begin.elapsed() >= 5 * TURN_TIMEOUT, "ten turns in {:?}", begin.elapsed());
}

#[test]
#[cfg(target_os = "linux")]
fn a_late_loop_does_not_end_who_has_spoken_in_time() {
    // With more than 1,024 events waiting, a late loop ended clients as idle whose request it had not yet heard of.
    const COUNT: usize = 1_200;
    if !may_open(3 * COUNT) {
        return;
    }
    let limits = Limits { idle_timeout_ms: 1_500, ..Limits::default() };
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
    // The first to come are the last to speak, so that they are those whom the kernel tells of last.
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

// ---- HTTP

#[test]
fn a_request_line_with_a_space_too_many_is_refused() {
    // `GET /a b HTTP/1.1` overflowed the stack, and ended the program with it.
    for request in [&b"GET /a b HTTP/1.1\r\n\r\n"[..], b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut http = TestConnection::new(Http::new(Site::new()));
        http.peer_sends(request);
        assert!(http.take_received().starts_with(b"HTTP/1.0 400 "));
    }
}

// ---- the stop

#[test]
fn a_request_whose_body_is_on_its_way_is_answered_at_a_stop() {
    // Its head had been heard and no input was left over, so a stop took the connection for an idle one and closed it.
    let (mut reactor, address) = serve(Limits::default(), |_| Http::new(Site::new()));
    let mut peer = connect(address);
    let begun = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345";
    peer.write_all(begun).unwrap();
    turn_until(&mut reactor, "it is heard", |stats| stats.bytes_in == begun.len() as u64);
    reactor.stop();
    for _ in 0..5 {
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
    peer.write_all(b"67890").unwrap();
    let reader = thread::spawn(move || {
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        answer
    });
    assert_eq!(reactor.run().unwrap(), Stopped::Graceful);
    assert!(reader.join().unwrap().starts_with(b"HTTP/1.0 200 "));
}

/// Sends a datagram to its own service for each that it hears of: so they never become fewer.
struct Breeds(Rc<UdpSocket>);

impl DatagramProtocol for Breeds {
    fn received(&mut self, datagram: &Datagram<'_>, _: &mut Replies<'_>) {
        self.0.send(datagram.payload).unwrap();
    }
}

#[test]
fn a_flood_of_datagrams_does_not_hold_up_a_stop() {
    // A socket that always had one more datagram was never done, and every stop lasted as long as it may (here, a minute).
    let mut reactor =
        Reactor::new(Limits { drain_timeout_ms: 60_000, ..Limits::default() }).unwrap();
    let socket = Rc::new(UdpSocket::bind(any_port()).unwrap());
    socket.set_write_timeout(Some(TIMEOUT)).unwrap();
    let address = reactor.bind_datagram(any_port(), Breeds(Rc::clone(&socket))).unwrap();
    socket.connect(address).unwrap();
    // Several batches, and less than the smallest usual buffer holds.
    for _ in 0..200 {
        socket.send(b"x").unwrap();
    }
    turn_until(&mut reactor, "the flood", |stats| stats.datagrams_in > 2_000);
    reactor.stop();
    let give_up = Instant::now() + TIMEOUT;
    while !reactor.is_stopped() {
        assert!(Instant::now() < give_up, "it does not stop");
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
}

#[test]
fn a_loop_of_ones_own_does_not_spin_after_a_stop() {
    // The drain deadline was acted on in `run` only: turns taken one by one returned at once when it had passed.
    let limits = Limits { drain_timeout_ms: 200, linger_timeout_ms: 60_000, ..Limits::default() };
    let (mut reactor, address) = serve(limits, |_| Echo::new());
    let _peer = connect(address); // it never leaves
    turn_until(&mut reactor, "it is accepted", |stats| stats.accepted == 1);
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

/// Answers each byte with itself. After the first it is under way, and after the second it has no more to say.
struct TwoWords(bool);

impl Protocol for TwoWords {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(&input[..1]);
        cx.set_timer(10 * TIMEOUT);
        let next = if std::mem::replace(&mut self.0, true) { Next::Close } else { Next::Continue };
        Advance::consumed(1).then(next)
    }
}

#[test]
fn the_time_to_drain_begins_when_the_stop_is_asked_for() {
    // It was counted from the last turn: after a long quiet stretch a stop cut off at once what was under way.
    let limits = Limits { drain_timeout_ms: 1_000, linger_timeout_ms: 100, ..Limits::default() };
    let (mut reactor, address) = serve(limits, |_| TwoWords(false));
    let mut peer = connect(address);
    peer.write_all(b"1").unwrap();
    turn_until(&mut reactor, "the first word", |stats| stats.bytes_out == 1);
    stall(Duration::from_millis(1_100));
    reactor.stop();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(reactor.stats().connections, 1, "it is still under way");
    peer.write_all(b"2").unwrap();
    assert_eq!(reactor.run().unwrap(), Stopped::Graceful);
    check_end(peer, b"12");
}

// ---- alarms

/// Asks for an alarm, and says so when it rings.
struct Alarm(Duration);

impl Protocol for Alarm {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.set_timer(self.0);
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(b"!");
        Next::Continue
    }
}

#[test]
fn an_alarm_does_not_ring_before_its_time() {
    // The delay was cut to whole milliseconds: one of 900 µs rang at once, and if asked for again, for ever.
    for (delay_us, rings_after_ms) in [(0, 1), (1, 1), (900, 1), (1_000, 1), (1_001, 2), (1_500, 2)]
    {
        let mut alarm = TestConnection::new(Alarm(Duration::from_micros(delay_us)));
        alarm.advance_clock(Duration::from_millis(rings_after_ms - 1));
        assert_eq!(alarm.take_received(), b"", "{delay_us} µs");
        alarm.advance_clock(Duration::from_millis(1));
        assert_eq!(alarm.take_received(), b"!", "{delay_us} µs");
    }
}

// ---- rehearsals

#[test]
fn a_rehearsal_tells_the_protocol_of_its_end() {
    // It never called `closed`, so that what a protocol does there could not be tested.
    struct Tells(Rc<RefCell<Vec<CloseReason>>>);
    impl Protocol for Tells {
        fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
            Advance::consumed(input.len()).then(Next::Abort)
        }

        fn closed(&mut self, why: CloseReason) {
            self.0.borrow_mut().push(why);
        }
    }
    let endings = Rc::new(RefCell::new(Vec::new()));
    let mut rehearsal = TestConnection::new(Tells(Rc::clone(&endings)));
    rehearsal.peer_sends(b"x");
    assert_eq!(*endings.borrow(), [CloseReason::Aborted]);
    rehearsal.peer_sends(b"x");
    drop(rehearsal);
    assert_eq!(*endings.borrow(), [CloseReason::Aborted], "only once");
}

// ---- datagrams

#[test]
fn the_largest_datagram_over_ipv6_is_answered() {
    // Replies were bounded by what IPv4 can carry: over IPv6, one of 65,508 to 65,527 bytes was dropped as too long.
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = match reactor.bind_datagram("[::1]:0".parse().unwrap(), Echo::new()) {
        Ok(address) => address,
        Err(error) => return eprintln!("skipped: no IPv6: {error}"),
    };
    let peer = connect_udp(address);
    let sent = pattern(1, 65_527);
    peer.send(&sent).unwrap();
    turn_until(&mut reactor, "an answer", |stats| stats.datagrams_out == 1);
    let mut received = vec![0; 70_000];
    let count = peer.recv(&mut received).unwrap();
    assert_same(&received[..count], &sent);
}

#[test]
#[cfg(target_os = "linux")]
fn a_datagram_to_many_is_not_answered_and_spoils_nothing() {
    // The answer was to leave from the group's address; the kernel refused, and we never sent a train again.
    // Over IPv6, to all nodes; with a hop limit of 0, which keeps it on this host.
    use std::net::{Ipv6Addr, SocketAddrV6};

    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let Ok(address) = reactor.bind_datagram((Ipv6Addr::UNSPECIFIED, 0).into(), Echo::new()) else {
        return eprintln!("skipped: no IPv6");
    };
    let peer = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    peer.set_write_timeout(Some(TIMEOUT)).unwrap();
    socket2::SockRef::from(&peer).set_multicast_hops_v6(0).unwrap();
    // The second field is the number of an interface.
    let interfaces = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let many_are_asked = interfaces.lines().any(|line| {
        let interface = line
            .split_whitespace()
            .nth(1)
            .and_then(|field| u32::from_str_radix(field, 16).ok())
            .unwrap();
        let many = SocketAddrV6::new(
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
            address.port(),
            0,
            interface,
        );
        (0..6).all(|_| peer.send_to(b"many", many).is_ok())
    });
    for _ in 0..100 {
        if reactor.stats().datagrams_in < 6 && many_are_asked {
            reactor.turn(Some(TURN_TIMEOUT)).unwrap();
        }
    }
    if reactor.stats().datagrams_in < 6 {
        return eprintln!("skipped: no multicast over IPv6 here");
    }
    peer.send_to(b"one", (Ipv6Addr::LOCALHOST, address.port())).unwrap();
    turn_until(&mut reactor, "an answer", |stats| stats.datagrams_out > 0);
    let mut received = [0; 10];
    let count = peer.recv(&mut received).unwrap();
    assert_eq!(&received[..count], b"one");
    let stats = reactor.stats();
    assert_eq!(
        (stats.datagrams_in, stats.datagrams_dropped, stats.datagrams_out, stats.datagrams_unsent),
        (7, 6, 1, 0)
    );
}

#[test]
fn a_datagram_to_many_over_ipv4_is_not_answered() {
    // The story: it was answered over IPv4, although not over IPv6. A question to a group reaches all who listen there.
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = reactor.bind_datagram(([0, 0, 0, 0], 0).into(), Echo::new()).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_write_timeout(Some(TIMEOUT)).unwrap();
    socket2::SockRef::from(&peer).set_multicast_if_v4(&std::net::Ipv4Addr::LOCALHOST).unwrap();
    peer.send_to(b"many", ("224.0.0.1", address.port())).unwrap();
    while reactor.stats().datagrams_in == 0 {
        reactor.turn(Some(TIMEOUT)).unwrap();
    }
    let stats = reactor.stats();
    assert_eq!((stats.datagrams_in, stats.datagrams_dropped, stats.datagrams_out), (1, 1, 0));
}

#[test]
fn a_forged_datagram_does_not_set_two_sockets_of_one_reactor_talking() {
    // The story: each knew its own address alone. The first asker's address becomes that of the reactor's second socket before
    // its question is read; to the first socket, it looks as if the second had asked.
    for ip in [[127, 0, 0, 1], [0, 0, 0, 0]] {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        let one = reactor.bind_datagram(any_port(), Echo::new()).unwrap();
        let asker = UdpSocket::bind(any_port()).unwrap();
        asker.set_write_timeout(Some(TIMEOUT)).unwrap();
        asker.send_to(b"Is anybody there?", one).unwrap();
        let port = asker.local_addr().unwrap().port();
        drop(asker);
        let other = reactor.bind_datagram((ip, port).into(), Echo::new()).unwrap();
        turn_until(&mut reactor, "the question", |stats| stats.datagrams_in > 0);
        let stats = reactor.stats();
        assert_eq!(
            (stats.datagrams_in, stats.datagrams_dropped, stats.datagrams_out),
            (1, 1, 0),
            "{one} and {other}"
        );
    }
}

#[test]
fn two_datagrams_as_long_as_the_prefix_come_back_as_they_were_sent() {
    // The story: the second's prefix was to be found in one place of memory, at the same offset at which the first's bytes ended
    // in another. It was taken for what follows them there, and the reply had somebody's old bytes instead.
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = reactor.bind_datagram(any_port(), Echo::with_prefix("echo -> ")).unwrap();
    let peer = UdpSocket::bind(any_port()).unwrap();
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    peer.set_write_timeout(Some(TIMEOUT)).unwrap();
    let sent = [b"8 bytes.", b"8 others"];
    sent.iter().for_each(|datagram| assert_eq!(peer.send_to(*datagram, address).unwrap(), 8));
    turn_until(&mut reactor, "the replies", |stats| stats.datagrams_out == 2);
    for datagram in sent {
        let mut received = [0; 100];
        let count = peer.recv(&mut received).unwrap();
        assert_same(&received[..count], &[&b"echo -> "[..], datagram].concat());
    }
}
