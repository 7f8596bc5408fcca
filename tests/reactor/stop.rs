//! A graceful stop: idle connections close, work in progress may finish until the drain timeout.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use mio_reactor::{CloseReason, Limits, Stopped};

use crate::common::{
    TIMEOUT, TURN_TIMEOUT, any_port, check_echo, check_end, connect, serve, turn_until,
};
use crate::{ReactorThread, byte_commands, exchange, turn_until_stopped};

// pitfall: 73
#[test]
fn stop_waits_for_connections_with_work_in_progress() {
    // Three connections are idle and one has work in progress when the reactor is stopped. That one
    // is answered, and all close gracefully.
    let (make, close_log) = byte_commands();
    let (mut reactor, address) =
        serve(Limits::default().with_linger_timeout(Duration::from_millis(100)), make);
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
    let log = close_log.borrow();
    assert!(log.iter().all(|&(_, why)| why == CloseReason::Finished), "{log:?}");
    assert_eq!(log.len(), 4);
    for peer in peers {
        check_end(peer, b"");
    }
    assert!(TcpStream::connect_timeout(&address, TIMEOUT).is_err(), "connects are refused");
}

// pitfall: 25, 73
#[test]
fn stop_force_closes_what_is_left_at_the_drain_timeout() {
    // Of five connections, two are idle, and their peers close when they receive our FIN. The other
    // three have work in progress that never ends.
    let limits = Limits::default().with_drain_timeout(Duration::from_millis(300));
    let reactor = ReactorThread::start(limits, |reactor| {
        vec![reactor.listen(any_port(), byte_commands().0).unwrap()]
    });
    let address = reactor.address();
    let peers: Vec<TcpStream> = b"pxpxp"
        .iter()
        .map(|&byte| {
            let mut peer = connect(address);
            check_echo(&mut peer, &[byte]);
            peer
        })
        .collect();
    let closing = thread::spawn(move || {
        let (idle, busy): (Vec<_>, Vec<_>) =
            peers.into_iter().zip(b"pxpxp").partition(|(_, byte)| **byte == b'x');
        idle.into_iter().for_each(|(peer, _)| check_end(peer, b""));
        busy
    });
    let begin = Instant::now();
    let (stopped, stats) = reactor.stop();
    let elapsed = begin.elapsed();
    assert!(elapsed >= Duration::from_millis(299), "too early: after {elapsed:?}");
    assert_eq!(stopped, Stopped::Forced(3));
    assert_eq!((stats.closed, stats.closed_finished, stats.empty_turns), (5, 2, 0));
    for (peer, _) in closing.join().unwrap() {
        check_end(peer, b"");
    }
}

#[test]
fn callers_own_loop_of_turns_stops_and_then_sleeps() {
    // One connection has work in progress that never ends. The turns are few until it is closed by
    // force, and after that they wait their full time again.
    let (make, close_log) = byte_commands();
    let (mut reactor, address) =
        serve(Limits::default().with_drain_timeout(Duration::from_millis(200)), make);
    let mut peer = connect(address);
    exchange(&mut reactor, &mut peer, b"p");
    assert!(!reactor.is_stopped());
    reactor.stop();
    let turns = turn_until_stopped(&mut reactor);
    assert!(turns <= 10, "{turns} turns");
    assert_eq!(*close_log.borrow(), [(0, CloseReason::Stopped)]);
    let begin = Instant::now();
    for _ in 0..5 {
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
    assert!(begin.elapsed() >= 5 * TURN_TIMEOUT, "the turns wait");
    assert!(reactor.is_stopped());
}
