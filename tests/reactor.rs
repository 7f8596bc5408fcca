//! The loop, over its public API and real sockets: who is served, who is ended, when, and why.
//!
//! Most tests turn the loop in their own thread. What peers have sent is then in the kernel before a turn begins, and what
//! a turn has done can be read from the counters after it. Where a peer has to block, the loop `run`s in a thread of its own.

// The helpers here unwrap as the tests do.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "../src/bin/reactor/site.rs"]
#[allow(dead_code, reason = "the program uses the rest of it")]
mod site;

mod common;

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
    TIMEOUT, TURN_TIMEOUT, any_port, assert_same, check_echo, check_end, connect, connect_narrow,
    connect_udp, pattern, reset, serve, stall, turn_until,
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
    let give_up = Instant::now() + TIMEOUT;
    let turns_before = reactor.stats().turns;
    while !reactor.is_stopped() {
        assert!(Instant::now() < give_up, "it does not stop: {:?}", reactor.stats());
        reactor.turn(Some(TIMEOUT)).unwrap();
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
        Running { addresses: addresses.recv_timeout(TIMEOUT).unwrap(), rope, ending }
    }

    fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Asks it to stop, and waits until it has.
    fn stop(self) -> (Stopped, Stats) {
        drop(self.rope);
        self.ending.recv_timeout(TIMEOUT).expect("it stops")
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
                    b'p' => cx.set_timer(TIMEOUT * 100),
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

/// Asks for an alarm after `delay` when it is opened, and writes down when it was asked and when it rang. `again`: each
/// time it rings, it asks for the next.
struct Alarm {
    delay: Duration,
    again: bool,
    moments: Rc<RefCell<Vec<Instant>>>,
}

impl Protocol for Alarm {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.moments.borrow_mut().push(cx.now());
        cx.set_timer(self.delay);
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.moments.borrow_mut().push(cx.now());
        if self.again {
            cx.set_timer(self.delay);
        }
        Next::Continue
    }
}

/// Answers the peer's FIN (or its first byte, where `at_end` is false) with a long text, piece by piece.
struct Long {
    text: Rc<Vec<u8>>,
    said: Rc<Cell<usize>>,
    at_end: bool,
    endings: Endings,
}

impl Long {
    const PIECE: usize = 10_000;

    fn say_more(&mut self, cx: &mut Context<'_>) -> Next {
        let said = self.said.get();
        let piece = &self.text[said..self.text.len().min(said + Long::PIECE)];
        cx.send(piece);
        self.said.set(said + piece.len());
        if self.said.get() < self.text.len() { Next::Pause } else { Next::Close }
    }
}

impl Protocol for Long {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let next = if self.at_end { Next::Continue } else { self.say_more(cx) };
        Advance::consumed(input.len()).then(next)
    }

    fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
        if self.at_end { self.say_more(cx) } else { Next::Close }
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.say_more(cx)
    }

    fn closed(&mut self, why: CloseReason) {
        self.endings.borrow_mut().push((0, why));
    }
}

// ---- deadlines

#[test]
fn an_idle_connection_ends_and_a_busy_one_beside_it_does_not() {
    // One says something in every turn until the other, who says nothing, has been ended. Then it falls silent too.
    let limits = Limits { idle_timeout_ms: 200, ..Limits::default() };
    let (make, endings) = obedient();
    let (mut reactor, address) = serve(limits, make);
    let begin = Instant::now();
    let silent = connect(address);
    let mut busy = connect(address);
    while endings.borrow().is_empty() {
        exchange(&mut reactor, &mut busy, b"x");
        assert!(begin.elapsed() < TIMEOUT, "the silent one is ended");
    }
    // The loop counts in whole milliseconds.
    assert!(
        begin.elapsed() >= Duration::from_millis(199),
        "not before its time: {:?}",
        begin.elapsed()
    );
    assert_eq!(*endings.borrow(), [(0, CloseReason::IdleTimeout)]);
    check_end(silent, b"");
    exchange(&mut reactor, &mut busy, b"x");
    turn_until(&mut reactor, "the other is idle too", |stats| stats.connections == 0);
    assert_eq!(*endings.borrow(), [(0, CloseReason::IdleTimeout), (1, CloseReason::IdleTimeout)]);
}

#[test]
fn a_peer_that_takes_nothing_ends_as_too_slow() {
    // It is sent more than the kernel holds and reads none of it. The other deadlines are far away.
    let limits = Limits { write_timeout_ms: 200, ..Limits::default() };
    let endings = Endings::default();
    let told = Rc::clone(&endings);
    let (mut reactor, address) =
        serve(limits, move |_| Says { text: vec![0; 4_000_000], endings: Rc::clone(&told) });
    let begin = Instant::now();
    let _peer = connect_narrow(address);
    turn_until(&mut reactor, "it is accepted", |stats| stats.accepted == 1);
    assert!(reactor.stats().bytes_out < 4_000_000, "the kernel does not hold all of it");
    turn_until(&mut reactor, "it ends", |stats| stats.connections == 0);
    assert_eq!(*endings.borrow(), [(0, CloseReason::WriteTimeout)]);
    assert!(
        begin.elapsed() >= Duration::from_millis(199),
        "not before its time: {:?}",
        begin.elapsed()
    );
}

#[test]
fn a_busy_connection_is_looked_at_once_in_an_idle_time() {
    // It says something in every turn, and its deadline only moves: the loop does not look at it for each byte.
    let limits = Limits { idle_timeout_ms: 100, ..Limits::default() };
    let (mut reactor, address) = serve(limits, |_| Echo::new());
    let mut peer = connect(address);
    let begin = Instant::now();
    let mut exchanges = 0;
    while begin.elapsed() < Duration::from_millis(450) {
        exchange(&mut reactor, &mut peer, b"x");
        exchanges += 1;
    }
    let idle_times = u64::try_from(begin.elapsed().as_millis() / 100).unwrap();
    let looks = reactor.stats().deadlines_expired;
    assert!(
        looks <= idle_times + 1,
        "{looks} looks in {exchanges} exchanges and {idle_times} idle times"
    );
    assert_eq!(reactor.stats().connections, 1);
}

#[test]
#[cfg(target_os = "linux")]
fn those_who_are_late_together_are_ended_a_few_at_a_time() {
    // 300 have come together and are idle together. No turn ends more than its share; and all of them are ended.
    const COUNT: usize = 300;
    if !may_open(4 * COUNT) {
        return;
    }
    let (make, endings) = obedient();
    let (mut reactor, address) = serve(Limits { idle_timeout_ms: 500, ..Limits::default() }, make);
    let peers: Vec<TcpStream> = (0..COUNT).map(|_| connect(address)).collect();
    turn_until(&mut reactor, "all are accepted", |stats| stats.accepted == COUNT as u64);
    // Nobody is waited for: no turn is taken until all of them are late.
    stall(Duration::from_millis(600));
    let mut turns = Vec::new();
    while reactor.stats().connections > 0 {
        let closed_before = reactor.stats().closed;
        turn_until(&mut reactor, "some end", |stats| stats.closed > closed_before);
        turns.push(reactor.stats().closed - closed_before);
    }
    assert!(turns.iter().all(|&closed| closed <= EXPIRIES_PER_TURN as u64), "{turns:?}");
    assert!(
        endings.borrow().iter().all(|&(_, why)| why == CloseReason::IdleTimeout)
            && endings.borrow().len() == COUNT
    );
    peers.into_iter().for_each(|peer| check_end(peer, b""));
}

#[test]
fn an_alarm_rings_once_and_not_before_its_time() {
    // One asks for one alarm; a second, beside it, rings ten times, the last of them long after the first's only one.
    let once = Rc::new(RefCell::new(Vec::new()));
    let often = Rc::new(RefCell::new(Vec::new()));
    let (of_once, of_often) = (Rc::clone(&once), Rc::clone(&often));
    let delay = Duration::from_millis(30);
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let one = reactor
        .listen(any_port(), move |_| Alarm { delay, again: false, moments: Rc::clone(&of_once) })
        .unwrap();
    let other = reactor
        .listen(any_port(), move |_| Alarm { delay, again: true, moments: Rc::clone(&of_often) })
        .unwrap();
    let _peers = [connect(one), connect(other)];
    turn_until(&mut reactor, "ten alarms", |_| often.borrow().len() > 10);
    let moments = once.borrow();
    assert_eq!(moments.len(), 2, "opened, and one alarm");
    for moments in [&moments, &often.borrow()] {
        assert!(moments.windows(2).all(|pair| pair[1] - pair[0] >= delay), "{moments:?}");
    }
}

#[test]
fn an_alarm_of_less_than_a_millisecond_does_not_make_the_loop_spin() {
    // It asks for the next each time: they are a millisecond apart at least, and no turn is taken but for one of them.
    let moments = Rc::new(RefCell::new(Vec::new()));
    let told = Rc::clone(&moments);
    let delay = Duration::from_micros(10);
    let (mut reactor, address) =
        serve(Limits::default(), move |_| Alarm { delay, again: true, moments: Rc::clone(&told) });
    let _peer = connect(address);
    turn_until(&mut reactor, "it is accepted", |stats| stats.accepted == 1);
    let turns = turn_until(&mut reactor, "100 alarms", |_| moments.borrow().len() > 100);
    let moments = moments.borrow();
    assert!(
        moments.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(1)),
        "{moments:?}"
    );
    assert!(turns <= 110, "{turns} turns for 100 alarms");
}

// ---- the door

#[test]
fn who_finds_the_house_full_waits_outside_and_is_served_when_somebody_leaves() {
    // Room for two. Four come and speak at once; then the first two leave, one after the other.
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let (mut reactor, address) = serve(limits, |_| Echo::new());
    let mut peers: Vec<TcpStream> = (0..4).map(|_| connect(address)).collect();
    for (peer, byte) in peers.iter_mut().zip(b"0123") {
        peer.write_all(&[*byte]).unwrap();
    }
    turn_until(&mut reactor, "two are served", |stats| stats.bytes_out == 2);
    for _ in 0..10 {
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
    assert_eq!(
        (reactor.stats().accepted, reactor.stats().bytes_out),
        (2, 2),
        "nobody else is let in"
    );
    assert!(reactor.stats().accept_pauses > 0);
    peers[3].set_nonblocking(true).unwrap();
    assert_eq!(peers[3].read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    peers[3].set_nonblocking(false).unwrap();

    let mut peers = peers.into_iter().zip(b"0123");
    let mut inside: Vec<_> = peers.by_ref().take(2).collect();
    for (served, outside) in (3..).zip(peers) {
        drop(inside.remove(0));
        turn_until(&mut reactor, "the next is served", |stats| {
            assert!(stats.connections <= 2, "never more than there is room for");
            stats.bytes_out == served
        });
        inside.push(outside);
    }
    for (peer, byte) in &mut inside {
        let mut reply = [0; 1];
        peer.read_exact(&mut reply).unwrap();
        assert_eq!(reply, [**byte]);
    }
}

const REQUEST: &[u8] = b"GET /plaintext HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";

/// Sends what is left of a request, takes turns until it has been answered, and reads the answer, which is not the last one.
/// Returns how many turns it took.
#[track_caller]
fn ask(reactor: &mut Reactor, stream: &mut TcpStream, rest_of_request: &[u8]) -> u64 {
    let out_before = reactor.stats().bytes_out;
    stream.write_all(rest_of_request).unwrap();
    let turns = turn_until(reactor, "an answer", |stats| stats.bytes_out > out_before);
    let mut answer = vec![0; usize::try_from(reactor.stats().bytes_out - out_before).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer.ends_with(b"Hello, World!"), "{}", answer.escape_ascii());
    turns
}

#[test]
fn when_the_house_is_full_the_longest_idle_give_way_at_once_and_nobody_else_does() {
    // There is room for 20. Two more than may give way at one time keep their connections after a request, and are quiet for as
    // long as that takes. A busy client and one of echo, which expects no such end, fill the house, and another knocks.
    let mut reactor =
        Reactor::new(Limits { connections_max: EVICTIONS_MAX + 4, ..Limits::default() }).unwrap();
    let site = Site::new();
    let http = reactor.listen(any_port(), move |_| Http::new(site.clone())).unwrap();
    let echo = reactor.listen(any_port(), |_| Echo::new()).unwrap();
    let pass = |reactor: &mut Reactor, ms| {
        let later = Instant::now() + Duration::from_millis(ms);
        turn_until(reactor, "time passes", |_| Instant::now() > later);
    };
    let mut echoed = connect(echo);
    exchange(&mut reactor, &mut echoed, b"x");
    let mut longest_idle: Vec<TcpStream> = (0..EVICTIONS_MAX).map(|_| connect(http)).collect();
    longest_idle.iter_mut().for_each(|stream| _ = ask(&mut reactor, stream, REQUEST));
    pass(&mut reactor, 2);
    let mut idle: Vec<TcpStream> = (0..2).map(|_| connect(http)).collect();
    idle.iter_mut().for_each(|stream| _ = ask(&mut reactor, stream, REQUEST));
    pass(&mut reactor, EVICTION_IDLE_MS + 2);
    assert_eq!(
        (reactor.stats().evicted, reactor.stats().accept_pauses),
        (0, 0),
        "as long as there is room, nobody has to go"
    );

    let (first, rest) = REQUEST.split_at(9);
    let mut busy = connect(http);
    busy.write_all(first).unwrap();
    let in_before = reactor.stats().bytes_in;
    turn_until(&mut reactor, "half a request is heard", |stats| stats.bytes_in > in_before);
    let (mut newcomer, guest) = (connect(http), connect(http));
    let turns = ask(&mut reactor, &mut newcomer, REQUEST);
    assert!(turns < 10, "{turns} turns until it is served");
    turn_until(&mut reactor, "both are let in", |stats| stats.accepted == EVICTIONS_MAX as u64 + 6);
    drop(guest);
    assert_eq!(reactor.stats().evicted, EVICTIONS_MAX as u64);
    longest_idle.into_iter().for_each(|stream| check_end(stream, b""));
    idle.iter_mut().for_each(|stream| _ = ask(&mut reactor, stream, REQUEST));
    ask(&mut reactor, &mut busy, rest);
    exchange(&mut reactor, &mut echoed, b"y");
}

#[test]
fn who_is_quiet_for_too_short_a_time_does_not_give_way_yet() {
    // There is room for one. Who waits outside is let in when that one has been quiet for long enough, and no sooner; until
    // then the loop looks ten times a second, and sleeps.
    let site = Site::new();
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let (mut reactor, address) = serve(limits, move |_| Http::new(site.clone()));
    let mut first = connect(address);
    ask(&mut reactor, &mut first, REQUEST);
    let answered = Instant::now();
    let mut second = connect(address);
    let turns = ask(&mut reactor, &mut second, REQUEST);
    let waited = answered.elapsed();
    // The clock of the loop may be a millisecond behind, and the answer was there before we had read it.
    assert!(waited >= Duration::from_millis(EVICTION_IDLE_MS - 50), "{waited:?}");
    assert!(
        u128::from(turns) <= 20 + 2 * (waited.as_millis() / TURN_TIMEOUT.as_millis()),
        "{turns} turns in {waited:?}"
    );
    check_end(first, b"");
    assert_eq!((reactor.stats().evicted, reactor.stats().connections), (1, 1));
}

#[test]
fn a_crowd_at_the_door_does_not_keep_others_waiting() {
    // 200 wait to be accepted, and somebody who is already here says something. No turn accepts more than its share, and the
    // answer comes before the crowd is in.
    let (mut reactor, address) = serve(Limits::default(), |_| Echo::new());
    let mut guest = connect(address);
    exchange(&mut reactor, &mut guest, b"x");
    let _crowd: Vec<TcpStream> = (0..200).map(|_| connect(address)).collect();
    guest.write_all(b"y").unwrap();
    let mut accepted = vec![reactor.stats().accepted];
    while reactor.stats().accepted < 201 {
        turn_until(&mut reactor, "some are accepted", |stats| {
            stats.accepted > *accepted.last().unwrap()
        });
        accepted.push(reactor.stats().accepted);
        if accepted.len() == 3 {
            assert_eq!(reactor.stats().bytes_out, 2, "within two turns");
        }
    }
    let steps = accepted.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(steps.max().unwrap() <= ACCEPTS_PER_TURN as u64, "{accepted:?}");
    guest.read_exact(&mut [0; 1]).unwrap();
}

#[test]
fn two_thousand_short_connections_reuse_the_slots_and_each_gets_its_own_bytes() {
    // Four at a time, with bytes that no other has; they end with a FIN after the answer, before it, or with a reset.
    let ids = Arc::new(Mutex::new(Vec::new()));
    struct Named(Arc<Mutex<Vec<String>>>);
    impl Protocol for Named {
        fn opened(&mut self, cx: &mut Context<'_>) -> Next {
            self.0.lock().unwrap().push(cx.id().to_string());
            Next::Continue
        }

        fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
            cx.send(input);
            Advance::consumed(input.len())
        }
    }
    let told = Arc::clone(&ids);
    let running = Running::start(Limits::default(), |reactor| {
        vec![reactor.listen(any_port(), move |_| Named(Arc::clone(&told))).unwrap()]
    });
    let address = running.address();
    thread::scope(|scope| {
        for client in 0..4 {
            scope.spawn(move || {
                for (number, size) in (0..500).zip((1..3000).step_by(37).cycle()) {
                    let bytes = pattern(client * 500 + number, size);
                    let mut stream = connect(address);
                    match number % 3 {
                        0 => check_echo(&mut stream, &bytes),
                        1 => {
                            stream.write_all(&bytes).unwrap();
                            stream.shutdown(Shutdown::Write).unwrap();
                            check_end(stream, &bytes);
                        }
                        _ => {
                            check_echo(&mut stream, &bytes);
                            reset(stream);
                        }
                    }
                }
            });
        }
    });
    let (stopped, stats) = running.stop();
    assert_eq!(stopped, Stopped::Graceful);
    assert_eq!((stats.accepted, stats.closed, stats.connections), (2000, 2000, 0));
    let ids = ids.lock().unwrap();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 2000, "no two are named alike");
    let slots: HashSet<&str> = ids.iter().filter_map(|id| Some(id.split_once('.')?.0)).collect();
    assert!(slots.len() < 200, "{} slots for four at a time", slots.len());
}

// ---- turns

#[test]
fn a_quiet_loop_sleeps() {
    // A peer speaks once, and is then silent until it is ended: every turn of that time had its reason.
    let limits = Limits { idle_timeout_ms: 300, ..Limits::default() };
    let running = Running::start(limits, |reactor| {
        vec![reactor.listen(any_port(), |_| Echo::new()).unwrap()]
    });
    let mut peer = connect(running.address());
    check_echo(&mut peer, b"hello");
    check_end(peer, b"");
    let (stopped, stats) = running.stop();
    assert_eq!((stopped, stats.closed), (Stopped::Graceful, 1));
    assert_eq!(stats.empty_turns, 0);
    assert!(stats.turns <= 20, "{} turns", stats.turns);
}

#[test]
fn a_turn_whose_time_is_up_is_an_empty_one() {
    // Nobody is there. Each turn waits as long as it may, and is counted.
    let (mut reactor, _) = serve(Limits::default(), |_| Echo::new());
    let begin = Instant::now();
    for _ in 0..5 {
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
    assert!(begin.elapsed() >= 5 * TURN_TIMEOUT);
    assert_eq!((reactor.stats().turns, reactor.stats().empty_turns), (5, 5));
}

#[test]
fn an_endless_sender_does_not_keep_others_waiting() {
    // It sends as fast as the loop reads. No turn reads much more of it than the budget, and an echo beside it comes soon.
    let (make, _) = obedient();
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let echo = reactor.listen(any_port(), make).unwrap();
    let sink = reactor
        .listen(any_port(), |_| Says { text: Vec::new(), endings: Endings::default() })
        .unwrap();
    let mut sender = connect(sink);
    // It ends when the reactor does, at the latest.
    thread::spawn(move || while sender.write_all(&[0; READ_BYTES_MAX]).is_ok() {});
    turn_until(&mut reactor, "the flood", |stats| stats.bytes_in > 16 * SOURCE_BYTES_PER_TURN_MAX);
    for _ in 0..100 {
        let in_before = reactor.stats().bytes_in;
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
        let count = reactor.stats().bytes_in - in_before;
        assert!(
            count <= SOURCE_BYTES_PER_TURN_MAX + 2 * READ_BYTES_MAX as u64,
            "{count} bytes in one turn"
        );
    }
    let mut client = connect(echo);
    for _ in 0..100 {
        // One or two would do, but the kernel may be late to deliver.
        let turns = exchange(&mut reactor, &mut client, b"x");
        assert!(turns <= 100, "{turns} turns");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn more_speakers_than_events_in_a_turn_are_served_in_their_order() {
    // 300 say something at once; whoever has been answered speaks again at once. Nobody is answered for the second time
    // before everybody has been for the first.
    const COUNT: usize = 300;
    const { assert!(COUNT > EVENTS_PER_TURN) };
    if !may_open(4 * COUNT) {
        return;
    }
    let answered = Rc::new(RefCell::new(Vec::new()));
    struct Counted(usize, Rc<RefCell<Vec<usize>>>);
    impl Protocol for Counted {
        fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
            self.1.borrow_mut()[self.0] += 1;
            cx.send(&input[..1]);
            Advance::consumed(1)
        }
    }
    let told = Rc::clone(&answered);
    let (mut reactor, address) = serve(Limits::default(), move |_| {
        told.borrow_mut().push(0);
        Counted(told.borrow().len() - 1, Rc::clone(&told))
    });
    // They are numbered as they come.
    let mut peers: Vec<TcpStream> = (0..COUNT).map(|_| connect(address)).collect();
    turn_until(&mut reactor, "all are accepted", |stats| stats.accepted == COUNT as u64);
    peers.iter_mut().for_each(|peer| peer.write_all(b"x").unwrap());
    let mut heard = vec![0; COUNT];
    let give_up = Instant::now() + TIMEOUT;
    while heard.contains(&0) {
        assert!(
            Instant::now() < give_up,
            "{} are never answered",
            heard.iter().filter(|&&heard| heard == 0).count()
        );
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
        for (number, peer) in peers.iter_mut().enumerate() {
            if answered.borrow()[number] > heard[number] {
                heard[number] += 1;
                peer.write_all(b"x").unwrap();
            }
        }
        let answered = answered.borrow();
        assert!(
            answered.iter().all(|&answers| answers < 2) || !answered.contains(&0),
            "{answered:?}"
        );
    }
}

/// Sends a datagram to its own service for each that it hears of: so they never become fewer.
struct Breeds(Rc<UdpSocket>);

impl DatagramProtocol for Breeds {
    fn received(&mut self, datagram: &Datagram<'_>, _: &mut Replies<'_>) {
        self.0.send(datagram.payload).unwrap();
    }
}

#[test]
fn a_flood_of_datagrams_does_not_keep_streams_waiting() {
    // There is always another datagram. An echo over a stream beside it comes soon all the same.
    let (mut reactor, stream_address) = serve(Limits::default(), |_| Echo::new());
    let socket = Rc::new(UdpSocket::bind(any_port()).unwrap());
    socket.set_write_timeout(Some(TIMEOUT)).unwrap();
    let address = reactor.bind_datagram(any_port(), Breeds(Rc::clone(&socket))).unwrap();
    socket.connect(address).unwrap();
    // Several batches, and less than the smallest usual buffer holds.
    for _ in 0..200 {
        socket.send(b"x").unwrap();
    }
    turn_until(&mut reactor, "the flood", |stats| stats.datagrams_in > 2_000);
    let mut peer = connect(stream_address);
    for _ in 0..100 {
        let turns = exchange(&mut reactor, &mut peer, b"x");
        assert!(turns <= 100, "{turns} turns"); // one or two would do, but the kernel may be late to deliver
    }
    let in_before = reactor.stats().datagrams_in;
    turn_until(&mut reactor, "the flood goes on", |stats| stats.datagrams_in > in_before + 200);
}

// ---- protocols

#[test]
fn one_reactor_serves_several_protocols_each_at_its_address() {
    // Two kinds of streams and one of datagrams: each peer is answered in the words of what it has turned to.
    let running = Running::start(Limits::default(), |reactor| {
        let echo = reactor.listen(any_port(), |_| Echo::new()).unwrap();
        let http = reactor.listen(any_port(), |_| Http::new(Site::new())).unwrap();
        let datagrams = reactor.bind_datagram(any_port(), Echo::new()).unwrap();
        vec![echo, http, datagrams]
    });
    let request = b"GET /plaintext HTTP/1.0\r\n\r\n";
    check_echo(&mut connect(running.addresses[0]), request);

    let mut http = connect(running.addresses[1]);
    http.write_all(request).unwrap();
    let mut answer = Vec::new();
    http.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 200 ") && answer.ends_with(b"Hello, World!"));

    let datagrams = connect_udp(running.addresses[2]);
    datagrams.send(request).unwrap();
    let mut reply = [0; 100];
    let count = datagrams.recv(&mut reply).unwrap();
    assert_same(&reply[..count], request);
    assert_eq!(running.stop().0, Stopped::Graceful);
}

#[test]
fn a_protocol_may_speak_first() {
    // The peer says nothing until it has been greeted, and then only its end.
    let running = Running::start(Limits::default(), |reactor| {
        let make =
            |_| Says { text: b"220 at your service\r\n".to_vec(), endings: Endings::default() };
        vec![reactor.listen(any_port(), make).unwrap()]
    });
    let mut peer = connect(running.address());
    let mut greeting = [0; 21];
    peer.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 at your service\r\n");
    peer.shutdown(Shutdown::Write).unwrap();
    check_end(peer, b"");
    assert_eq!(running.stop().1.closed_finished, 1);
}

/// A text of 6 MiB (more than the kernel holds), asked for by `ask`, reaches a peer that reads in odd pieces; and no more of it waits than must.
#[track_caller]
fn check_long_answer(at_end: bool, ask: impl FnOnce(&mut TcpStream)) {
    let text = Rc::new(pattern(7, 6 * 1024 * 1024));
    let said = Rc::new(Cell::new(0));
    let endings = Endings::default();
    let protocol = (Rc::clone(&text), Rc::clone(&said), Rc::clone(&endings));
    let (mut reactor, address) = serve(Limits::default(), move |_| {
        let (text, said, endings) = protocol.clone();
        Long { text, said, at_end, endings }
    });
    let mut peer = connect_narrow(address);
    ask(&mut peer);
    // Nobody reads yet: it stops when the kernel takes no more.
    let mut quiet_turns = 0;
    while quiet_turns < 5 {
        let out_before = reactor.stats().bytes_out;
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
        quiet_turns = if reactor.stats().bytes_out == out_before && out_before > 0 {
            quiet_turns + 1
        } else {
            0
        };
    }
    assert!(said.get() < text.len(), "it waits for its peer");
    let reader = thread::spawn(move || {
        let mut received = Vec::new();
        let mut piece = [0; 4099];
        for size in [1, 3, 1447, 4099].into_iter().cycle() {
            match peer.read(&mut piece[..size]).unwrap() {
                0 => return received,
                count => received.extend_from_slice(&piece[..count]),
            }
        }
        received
    });
    turn_until(&mut reactor, "the end", |stats| {
        let waiting = said.get() - usize::try_from(stats.bytes_out).unwrap();
        assert!(waiting <= LOW_WATERMARK_BYTES + Long::PIECE, "{waiting} bytes wait");
        stats.connections == 0
    });
    assert_same(&reader.join().unwrap(), &text);
    assert_eq!(*endings.borrow(), [(0, CloseReason::Finished)]);
}

#[test]
fn a_long_answer_in_pieces_reaches_a_slow_reader_whole() {
    // The protocol says a piece whenever the last has drained. The peer reads nothing at first, and then a little at a time.
    check_long_answer(false, |peer| peer.write_all(b"x").unwrap());
}

#[test]
fn a_half_closed_peer_gets_an_answer_that_only_begins_with_its_fin() {
    // The same, but it is the peer's FIN that is answered, by a protocol that pauses then.
    check_long_answer(true, |peer| {
        peer.write_all(b"x").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
    });
}

// ---- the end

#[test]
fn a_reset_is_noticed_although_nothing_is_read_of_its_peer() {
    // So much waits for the peer that it is not read; then it resets. Nothing is readable that anybody wanted to read, nor is
    // there any room: only the error itself tells, and the connection ends at once, not when the peer's time is up.
    let endings = Endings::default();
    let told = Rc::clone(&endings);
    let (mut reactor, address) = serve(Limits::default(), move |_| Says {
        text: vec![0; 4_000_000],
        endings: Rc::clone(&told),
    });
    let mut peer = connect_narrow(address);
    turn_until(&mut reactor, "it is accepted", |stats| stats.accepted == 1);
    peer.write_all(b"This is not read.").unwrap();
    reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    let empty_turns_before = reactor.stats().empty_turns;
    reset(peer);
    let turns = turn_until(&mut reactor, "it ends", |stats| stats.connections == 0);
    assert_eq!(*endings.borrow(), [(0, CloseReason::PeerReset)]);
    assert!(turns <= 5 + reactor.stats().empty_turns - empty_turns_before, "{turns} turns");
}

#[test]
fn only_who_is_given_up_is_reset() {
    // A peer sees an end where the conversation ends in order or in silence, and a reset where it was broken off.
    let endings = Endings::default();
    let told = Rc::clone(&endings);
    let limits = Limits { idle_timeout_ms: 300, write_timeout_ms: 200, ..Limits::default() };
    let (mut reactor, obeys) = serve(limits, obedient().0);
    let says = reactor
        .listen(any_port(), move |_| Says { text: vec![0; 4_000_000], endings: Rc::clone(&told) })
        .unwrap();
    let mut closed = connect(obeys);
    closed.write_all(b"c").unwrap();
    let idle = connect(obeys);
    let mut aborted = connect(obeys);
    aborted.write_all(b"a").unwrap();
    let stuck = connect_narrow(says);
    turn_until(&mut reactor, "all have ended", |stats| stats.closed == 4);
    assert_eq!(*endings.borrow(), [(0, CloseReason::WriteTimeout)]);
    check_end(closed, b"");
    check_end(idle, b"");
    for mut peer in [aborted, stuck] {
        let result = peer.read_to_end(&mut Vec::new());
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_stop_waits_for_what_is_under_way() {
    // Three are idle, and one is under way when the loop is stopped. That one is answered, and all end in order.
    let (make, endings) = obedient();
    let (mut reactor, address) =
        serve(Limits { linger_timeout_ms: 100, ..Limits::default() }, make);
    let mut peers: Vec<TcpStream> = (0..4).map(|_| connect(address)).collect();
    for peer in &mut peers {
        exchange(&mut reactor, peer, b"x");
    }
    exchange(&mut reactor, &mut peers[3], b"p");
    reactor.stop();
    turn_until(&mut reactor, "the idle ones are closed", |stats| stats.connections == 1);
    assert!(!reactor.is_stopped());
    exchange(&mut reactor, &mut peers[3], b"x");
    assert_eq!(reactor.run().unwrap(), Stopped::Graceful);
    assert!(reactor.is_stopped());
    assert!(endings.borrow().iter().all(|&(_, why)| why == CloseReason::Finished), "{endings:?}");
    assert_eq!(endings.borrow().len(), 4);
    for peer in peers {
        check_end(peer, b"");
    }
    assert!(TcpStream::connect_timeout(&address, TIMEOUT).is_err(), "nobody listens any more");
}

#[test]
fn a_stop_cuts_off_what_has_not_ended_in_time() {
    // Of five, two are idle and leave when they are told; three stay under way for ever.
    let running =
        Running::start(Limits { drain_timeout_ms: 300, ..Limits::default() }, |reactor| {
            vec![reactor.listen(any_port(), obedient().0).unwrap()]
        });
    let address = running.address();
    let peers: Vec<TcpStream> = b"pxpxp"
        .iter()
        .map(|&byte| {
            let mut peer = connect(address);
            check_echo(&mut peer, &[byte]);
            peer
        })
        .collect();
    let leaving = thread::spawn(move || {
        let (idle, under_way): (Vec<_>, Vec<_>) =
            peers.into_iter().zip(b"pxpxp").partition(|(_, byte)| **byte == b'x');
        idle.into_iter().for_each(|(peer, _)| check_end(peer, b""));
        under_way
    });
    let begin = Instant::now();
    let (stopped, stats) = running.stop();
    assert!(
        begin.elapsed() >= Duration::from_millis(299),
        "not before its time: {:?}",
        begin.elapsed()
    );
    assert_eq!(stopped, Stopped::Forced(3));
    assert_eq!((stats.closed, stats.closed_finished, stats.empty_turns), (5, 2, 0));
    for (peer, _) in leaving.join().unwrap() {
        check_end(peer, b"");
    }
}

#[test]
fn who_brings_a_loop_of_their_own_sees_it_stop_and_then_rest() {
    // One conversation is under way for ever. The turns are few until it is cut off, and wait again after that.
    let (make, endings) = obedient();
    let (mut reactor, address) = serve(Limits { drain_timeout_ms: 200, ..Limits::default() }, make);
    let mut peer = connect(address);
    exchange(&mut reactor, &mut peer, b"p");
    assert!(!reactor.is_stopped());
    reactor.stop();
    let turns = turn_until_stopped(&mut reactor);
    assert!(turns <= 10, "{turns} turns");
    assert_eq!(*endings.borrow(), [(0, CloseReason::Stopped)]);
    let begin = Instant::now();
    for _ in 0..5 {
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
    assert!(begin.elapsed() >= 5 * TURN_TIMEOUT, "they wait");
    assert!(reactor.is_stopped());
}

#[test]
fn every_connection_is_told_of_its_end_exactly_once() {
    // 300 end in six ways in a random order, with a few turns between them or none; then the loop is stopped.
    const SEED: u64 = 11;
    let limits = Limits {
        idle_timeout_ms: 1_000,
        linger_timeout_ms: 50,
        drain_timeout_ms: 50,
        ..Limits::default()
    };
    let (make, endings) = obedient();
    let (mut reactor, address) = serve(limits, make);
    let mut kept = Vec::new();
    let mut expected = Vec::new();
    for random in pattern(SEED, 300) {
        // Once it has begun to end, its time cannot run out before a turn has seen that.
        let mut peer = connect(address);
        if random & 0x80 != 0 {
            exchange(&mut reactor, &mut peer, b"x");
        }
        expected.push(match random % 6 {
            0 => {
                drop(peer);
                CloseReason::Finished
            }
            1 => {
                reset(peer);
                CloseReason::PeerReset
            }
            2 => {
                peer.write_all(b"c").unwrap();
                drop(peer);
                CloseReason::Finished
            }
            3 => {
                peer.write_all(b"c").unwrap();
                kept.push(peer);
                CloseReason::Finished
            }
            4 => {
                peer.write_all(b"a").unwrap();
                kept.push(peer);
                CloseReason::Aborted
            }
            _ => {
                kept.push(peer);
                CloseReason::IdleTimeout
            }
        });
        for _ in 0..(random >> 3) % 4 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
    }
    turn_until(&mut reactor, "all have ended", |stats| {
        stats.accepted == 300 && stats.connections == 0
    });
    for _ in 0..10 {
        let mut peer = connect(address);
        exchange(&mut reactor, &mut peer, b"p");
        kept.push(peer);
        expected.push(CloseReason::Stopped);
    }
    reactor.stop();
    turn_until_stopped(&mut reactor);
    let mut endings = endings.take();
    endings.sort_unstable_by_key(|&(number, _)| number);
    assert_eq!(endings, expected.into_iter().enumerate().collect::<Vec<_>>(), "seed {SEED}");
    assert_eq!((reactor.stats().accepted, reactor.stats().closed), (310, 310));
}

// ---- panics

/// Panics where it is told to: `m` when it is made, `o` when it is opened, `a` when it hears an `a`, `e` at the peer's end, `l`
/// when its alarm rings, `g` when it is asked whether it gives way, `c` when it is closed, `d` when it is dropped. Echoes
/// everything else.
struct Fragile {
    breaks: char,
    endings: Endings,
}

impl Fragile {
    fn may_break(&self, at: char) {
        assert!(self.breaks != at, "it breaks at {at}, as it was told");
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        self.may_break('d');
    }
}

impl Protocol for Fragile {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(b"half a wo");
        self.may_break('o');
        cx.set_timer(TURN_TIMEOUT);
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(input);
        self.may_break('a');
        Advance::consumed(input.len())
    }

    fn eof(&mut self, _: &[u8], _: &mut Context<'_>) -> Next {
        self.may_break('e');
        Next::Close
    }

    fn timer_expired(&mut self, _: &mut Context<'_>) -> Next {
        self.may_break('l');
        Next::Continue
    }

    fn is_evictable(&self) -> bool {
        self.may_break('g');
        false
    }

    fn closed(&mut self, why: CloseReason) {
        self.endings.borrow_mut().push((0, why));
        self.may_break('c');
    }
}

#[test]
fn a_protocol_that_panics_ends_its_own_connection_and_nobody_elses() {
    // At each point at which a protocol is called, one breaks, between two that do not and that speak in the same turn. They
    // never notice, and neither does whoever comes next.
    for breaks in ['m', 'o', 'a', 'e', 'l', 'c', 'd'] {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        let endings = Endings::default();
        let (told, mut made) = (Rc::clone(&endings), 0);
        let address = reactor
            .listen(any_port(), move |_| {
                made += 1;
                assert!(made != 2 || breaks != 'm', "it breaks at m, as it was told");
                let breaks = if made == 2 { breaks } else { ' ' };
                Fragile { breaks, endings: Rc::clone(&told) }
            })
            .unwrap();
        let mut peers: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
        for peer in &mut peers {
            peer.write_all(b"rd").unwrap();
        }
        if breaks != 'l' {
            peers[1].shutdown(Shutdown::Write).unwrap();
        }
        turn_until(&mut reactor, "a panic", |stats| stats.panics == 1);
        let said_by_it = match breaks {
            'm' | 'o' => 0,
            'a' => "half a wo".len(),
            _ => "half a word".len(),
        };
        let said = (2 * "half a word".len() + said_by_it) as u64;
        turn_until(&mut reactor, "two who are left", |stats| {
            stats.bytes_out == said && stats.connections == 2
        });
        for peer in [0, 2] {
            let mut heard = [0; 11];
            peers[peer].read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"half a word", "beside one who breaks at {breaks}");
            exchange(&mut reactor, &mut peers[peer], b"still here");
        }
        let said = reactor.stats().bytes_out;
        let mut next = connect(address);
        next.write_all(b"rd").unwrap();
        let mut heard = [0; 11];
        turn_until(&mut reactor, "a newcomer who is served", |stats| stats.bytes_out == said + 11);
        next.read_exact(&mut heard).unwrap();
        assert_eq!(reactor.stats().panics, 1);
        let expected = match breaks {
            'm' => vec![],
            'c' | 'd' => vec![(0, CloseReason::Finished)],
            _ => vec![(0, CloseReason::ProtocolPanicked)],
        };
        assert_eq!(*endings.borrow(), expected, "who breaks at {breaks}");
    }
}

#[test]
fn a_protocol_that_panics_when_it_is_asked_to_give_way_has_made_room() {
    let mut reactor = Reactor::new(Limits { connections_max: 2, ..Limits::default() }).unwrap();
    let endings = Endings::default();
    let (told, mut made) = (Rc::clone(&endings), 0);
    let address = reactor
        .listen(any_port(), move |_| {
            made += 1;
            Fragile { breaks: if made == 1 { 'g' } else { ' ' }, endings: Rc::clone(&told) }
        })
        .unwrap();
    let [_fragile, mut sound, mut newcomer] = [0, 1, 2].map(|_| connect(address));
    // It is asked when it has been quiet for a while, and no sooner.
    turn_until(&mut reactor, "a panic", |stats| stats.panics == 1);
    turn_until(&mut reactor, "the newcomer", |stats| stats.accepted == 3);
    assert_eq!(*endings.borrow(), [(0, CloseReason::ProtocolPanicked)]);
    for peer in [&mut sound, &mut newcomer] {
        let mut greeting = [0; 9];
        turn_until(&mut reactor, "three greetings", |stats| stats.bytes_out >= 27);
        peer.read_exact(&mut greeting).unwrap();
        exchange(&mut reactor, peer, b"still here");
    }
}

#[test]
fn those_who_wait_at_two_doors_take_turns() {
    // The house has one place. Twenty wait at each door; whoever is inside says a word, hears it, and leaves.
    let mut reactor = Reactor::new(Limits { connections_max: 1, ..Limits::default() }).unwrap();
    let doors = [0, 1].map(|_| reactor.listen(any_port(), |_| Echo::new()).unwrap());
    let mut waiting = doors.map(|door| (0..20).map(|_| connect(door)).collect::<Vec<TcpStream>>());
    waiting.iter_mut().flatten().for_each(|peer| peer.write_all(b"x").unwrap());
    let mut served = [0, 0];
    for count in 1..=20 {
        turn_until(&mut reactor, "a word", |stats| stats.bytes_out == count);
        let mut word = [0];
        for (door, peers) in waiting.iter_mut().enumerate() {
            let inside = peers.iter_mut().position(|peer| {
                peer.set_nonblocking(true).unwrap();
                matches!(peer.read(&mut word), Ok(1))
            });
            if let Some(inside) = inside {
                peers.remove(inside);
                served[door] += 1;
            }
        }
    }
    assert!(served.iter().all(|&door| door >= 8), "{served:?} of twenty");
}

/// Echoes, and says `rang` a moment after each word.
struct Rings;

impl Protocol for Rings {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(input);
        cx.set_timer(TURN_TIMEOUT);
        Advance::consumed(input.len())
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(b"rang");
        Next::Continue
    }
}

#[test]
fn an_alarm_that_is_set_by_the_last_of_many_words_rings_in_its_time() {
    // By then the connection has long been watched, and has a deadline filed, a later one.
    let (mut reactor, address) = serve(Limits::default(), |_| Rings);
    let mut peer = connect(address);
    for _ in 0..3 {
        let out_before = reactor.stats().bytes_out;
        peer.write_all(b"word").unwrap();
        turn_until(&mut reactor, "a word and its alarm", |stats| stats.bytes_out == out_before + 8);
        let mut heard = [0; 8];
        peer.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"wordrang");
    }
}

#[test]
fn who_is_silent_after_it_has_connected_is_ended_sooner_than_who_has_spoken() {
    let limits =
        Limits { first_byte_timeout_ms: 50, idle_timeout_ms: 3_600_000, ..Limits::default() };
    let mut reactor = Reactor::new(limits).unwrap();
    let (make, endings) = obedient();
    let address = reactor.listen(any_port(), make).unwrap();
    let mut speaker = connect(address);
    exchange(&mut reactor, &mut speaker, b"x");
    let silent = connect(address);
    turn_until(&mut reactor, "the end of one", |stats| stats.closed == 1);
    check_end(silent, b"");
    assert_eq!(*endings.borrow(), [(1, CloseReason::FirstByteTimeout)]);
    exchange(&mut reactor, &mut speaker, b"y");
}

#[test]
fn limits_of_zero_do_not_make_the_loop_spin() {
    // A peer that does not read has no time at all to do so, and is ended after a millisecond rather than looked at for ever.
    let limits = Limits { connections_max: 0, write_timeout_ms: 0, ..Limits::default() };
    let mut reactor = Reactor::new(limits).unwrap();
    let endings = Endings::default();
    let told = Rc::clone(&endings);
    let address = reactor
        .listen(any_port(), move |_| Says { text: vec![7; 3 << 20], endings: Rc::clone(&told) })
        .unwrap();
    let _peer = connect_narrow(address);
    turn_until(&mut reactor, "the end of one", |stats| stats.closed == 1);
    assert_eq!(*endings.borrow(), [(0, CloseReason::WriteTimeout)]);
    assert!(reactor.stats().turns < 20, "{:?}", reactor.stats());
}
