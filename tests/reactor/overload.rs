//! More connections than there is room for.

use super::*;

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
        reactor.turn(Some(A_MOMENT)).unwrap();
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
        u128::from(turns) <= 20 + 2 * (waited.as_millis() / A_MOMENT.as_millis()),
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
