//! Deadlines and alarms.

use super::*;

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
        assert!(begin.elapsed() < PATIENCE, "the silent one is ended");
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
    be_late(Duration::from_millis(600));
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

/// Echoes, and says `rang` a moment after each word.
struct Rings;

impl Protocol for Rings {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(input);
        cx.set_timer(A_MOMENT);
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
