//! The stop.

use super::*;

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
    assert!(TcpStream::connect_timeout(&address, PATIENCE).is_err(), "nobody listens any more");
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
        reactor.turn(Some(A_MOMENT)).unwrap();
    }
    assert!(begin.elapsed() >= 5 * A_MOMENT, "they wait");
    assert!(reactor.is_stopped());
}
