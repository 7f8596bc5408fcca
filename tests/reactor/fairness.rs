//! Fairness: no source exceeds its budget in a turn, and the loop sleeps when it has nothing to do.

use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::{READ_BYTES_MAX, STREAM_BYTES_PER_TURN_MAX};
use mio_reactor::{Echo, Limits, Reactor, Stopped};

use crate::common::{
    TIMEOUT, TURN_TIMEOUT, any_port, check_echo, check_end, connect, flood_itself, serve,
    turn_until,
};
use crate::{CloseLog, ReactorThread, SendsOnOpen, byte_commands, exchange};

// pitfall: 12
#[test]
fn idle_loop_sleeps() {
    // A peer exchanges one message and is then silent until it times out. Every turn meanwhile has
    // an event or a deadline.
    let limits = Limits::default().with_idle_timeout(Duration::from_millis(300));
    let reactor = ReactorThread::start(limits, |reactor| {
        vec![reactor.listen(any_port(), |_| Echo::new()).unwrap()]
    });
    let mut peer = connect(reactor.address());
    check_echo(&mut peer, b"hello");
    check_end(peer, b"");
    let (stopped, stats) = reactor.stop();
    assert_eq!((stopped, stats.closed), (Stopped::Graceful, 1));
    assert_eq!(stats.empty_turns, 0);
    assert!(stats.turns <= 20, "{} turns", stats.turns);
}

#[test]
fn turn_without_events_waits_its_full_time_and_counts_as_empty() {
    let (mut reactor, _) = serve(Limits::default(), |_| Echo::new());
    let begin = Instant::now();
    for _ in 0..5 {
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
    assert!(begin.elapsed() >= 5 * TURN_TIMEOUT);
    assert_eq!((reactor.stats().turns, reactor.stats().empty_turns), (5, 5));
}

/// Exchanges a byte a hundred times. Each exchange has to end within 100 turns: one or two would
/// do, but the kernel may be late to deliver.
#[track_caller]
fn check_exchanges_are_prompt(reactor: &mut Reactor, address: SocketAddr) {
    let mut peer = connect(address);
    for _ in 0..100 {
        let turns = exchange(reactor, &mut peer, b"x");
        assert!(turns <= 100, "{turns} turns");
    }
}

// pitfall: 2
// rule: fairness
#[test]
fn endless_sender_does_not_delay_other_connections() {
    // The peer sends as fast as the loop reads. No turn reads much more from it than the budget of
    // a source, and an echo on another connection is prompt.
    let (make, _) = byte_commands();
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let echo = reactor.listen(any_port(), make).unwrap();
    let sink = reactor
        .listen(any_port(), |_| SendsOnOpen { text: Vec::new(), close_log: CloseLog::default() })
        .unwrap();
    let mut sender = connect(sink);
    // The thread ends when the reactor is dropped, at the latest.
    thread::spawn(move || while sender.write_all(&[0; READ_BYTES_MAX]).is_ok() {});
    turn_until(&mut reactor, "the flood", |stats| {
        stats.bytes_in > 16 * STREAM_BYTES_PER_TURN_MAX as u64
    });
    for _ in 0..100 {
        let in_before = reactor.stats().bytes_in;
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
        let count = reactor.stats().bytes_in - in_before;
        assert!(
            count <= (STREAM_BYTES_PER_TURN_MAX + 2 * READ_BYTES_MAX) as u64,
            "{count} bytes in one turn"
        );
    }
    check_exchanges_are_prompt(&mut reactor, echo);
}

// pitfall: 15
#[test]
#[cfg(target_os = "linux")]
fn more_ready_connections_than_events_are_served_round_robin() {
    // 300 peers send at once, which is more than one epoll_wait reports. Each sends again as soon
    // as it has been served. No peer is served twice before all have been served once.
    use std::cell::RefCell;
    use std::net::TcpStream;

    use crate::common::may_open;
    use crate::limits::EVENTS_PER_TURN;
    use mio_reactor::{Advance, Context, Protocol};

    const COUNT: usize = 300;
    const { assert!(COUNT > EVENTS_PER_TURN) };
    if !may_open(4 * COUNT) {
        return;
    }
    /// Echoes, and counts its calls at its own index, which is the order of accepting.
    struct CountsCalls(usize, Rc<RefCell<Vec<usize>>>);
    impl Protocol for CountsCalls {
        fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
            self.1.borrow_mut()[self.0] += 1;
            cx.send(&input[..1]);
            Advance::consumed(1)
        }
    }
    let served = Rc::new(RefCell::new(Vec::new()));
    let shared = Rc::clone(&served);
    let (mut reactor, address) = serve(Limits::default(), move |_| {
        shared.borrow_mut().push(0);
        CountsCalls(shared.borrow().len() - 1, Rc::clone(&shared))
    });
    let mut peers: Vec<TcpStream> = (0..COUNT).map(|_| connect(address)).collect();
    turn_until(&mut reactor, "all are accepted", |stats| stats.accepted == COUNT as u64);
    peers.iter_mut().for_each(|peer| peer.write_all(b"x").unwrap());
    let mut noticed = vec![0; COUNT];
    let give_up = Instant::now() + TIMEOUT;
    while noticed.contains(&0) {
        assert!(
            Instant::now() < give_up,
            "{} peers are never served",
            noticed.iter().filter(|&&count| count == 0).count()
        );
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
        for (number, peer) in peers.iter_mut().enumerate() {
            if served.borrow()[number] > noticed[number] {
                noticed[number] += 1;
                peer.write_all(b"x").unwrap();
            }
        }
        let served = served.borrow();
        assert!(served.iter().all(|&count| count < 2) || !served.contains(&0), "{served:?}");
    }
}

// pitfall: 56
// rule: fairness
#[test]
fn datagram_flood_does_not_delay_streams() {
    // There is always another datagram. An echo over a stream is prompt all the same.
    let (mut reactor, stream_address) = serve(Limits::default(), |_| Echo::new());
    flood_itself(&mut reactor);
    check_exchanges_are_prompt(&mut reactor, stream_address);
    let in_before = reactor.stats().datagrams_in;
    turn_until(&mut reactor, "the flood goes on", |stats| stats.datagrams_in > in_before + 200);
}
