//! The end of a connection.

use super::*;

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
    reactor.turn(Some(A_MOMENT)).unwrap();
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
