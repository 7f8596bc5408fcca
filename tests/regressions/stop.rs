//! The stop.

use super::*;

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
        reactor.turn(Some(A_MOMENT)).unwrap();
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
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let address = reactor.bind_datagram(any_port(), Breeds(Rc::clone(&socket))).unwrap();
    socket.connect(address).unwrap();
    // Several batches, and less than the smallest usual buffer holds.
    for _ in 0..200 {
        socket.send(b"x").unwrap();
    }
    turn_until(&mut reactor, "the flood", |stats| stats.datagrams_in > 2_000);
    reactor.stop();
    let give_up = Instant::now() + PATIENCE;
    while !reactor.is_stopped() {
        assert!(Instant::now() < give_up, "it does not stop");
        reactor.turn(Some(A_MOMENT)).unwrap();
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
    let give_up = Instant::now() + PATIENCE;
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
        cx.set_timer(10 * PATIENCE);
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
    be_late(Duration::from_millis(1_100));
    reactor.stop();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(reactor.stats().connections, 1, "it is still under way");
    peer.write_all(b"2").unwrap();
    assert_eq!(reactor.run().unwrap(), Stopped::Graceful);
    check_end(peer, b"12");
}
