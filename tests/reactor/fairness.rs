//! Turns.

use super::*;

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
        reactor.turn(Some(A_MOMENT)).unwrap();
    }
    assert!(begin.elapsed() >= 5 * A_MOMENT);
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
        reactor.turn(Some(A_MOMENT)).unwrap();
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
    let give_up = Instant::now() + PATIENCE;
    while heard.contains(&0) {
        assert!(
            Instant::now() < give_up,
            "{} are never answered",
            heard.iter().filter(|&&heard| heard == 0).count()
        );
        reactor.turn(Some(A_MOMENT)).unwrap();
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
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
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
