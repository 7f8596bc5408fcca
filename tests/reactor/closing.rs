//! How a connection ends: FIN or reset for the peer, one call of `closed` for the protocol.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use mio_reactor::{Advance, CloseReason, ConnectionId, Context, Limits, Next, Protocol, Reactor};

use crate::common::{
    TURN_TIMEOUT, any_port, check_end, connect, connect_narrow, pattern, reset, serve, turn_until,
};
use crate::{CloseLog, SendsOnOpen, byte_commands, exchange, turn_until_stopped};

// pitfall: 6
#[test]
fn reset_is_detected_while_the_peer_is_not_read() {
    // So much output waits that we do not read from the peer, although it has sent something. Then
    // the peer resets. We neither read nor have room to write, so only the error event itself
    // reports the reset. The connection closes at once, and not at the write timeout.
    let close_log = CloseLog::default();
    let shared = Rc::clone(&close_log);
    let (mut reactor, address) = serve(Limits::default(), move |_| SendsOnOpen {
        text: vec![0; 4_000_000],
        close_log: Rc::clone(&shared),
    });
    let mut peer = connect_narrow(address);
    turn_until(&mut reactor, "the connection is accepted", |stats| stats.accepted == 1);
    peer.write_all(b"This is not read.").unwrap();
    reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    let empty_turns_before = reactor.stats().empty_turns;
    reset(peer);
    let turns = turn_until(&mut reactor, "the connection closes", |stats| stats.connections == 0);
    assert_eq!(*close_log.borrow(), [(0, CloseReason::PeerReset)]);
    assert!(turns <= 5 + reactor.stats().empty_turns - empty_turns_before, "{turns} turns");
}

/// The id of a connection, and how many bytes it has received after its pause.
type Seen = Rc<RefCell<(Option<ConnectionId>, usize)>>;

/// Pauses at its first byte, of which `s` also sends our FIN. Counts what else it receives.
struct PausesFirst(Seen);

impl Protocol for PausesFirst {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let mut seen = self.0.borrow_mut();
        let id = cx.id();
        if seen.0.replace(id).is_none() {
            if input[0] == b's' {
                cx.connections().shutdown_write(id);
            }
            return Advance::consumed(1).then(Next::Pause);
        }
        seen.1 += input.len();
        Advance::consumed(input.len())
    }
}

/// A reactor with one paused connection, and its peer.
fn paused_after(command: &[u8]) -> (Reactor, TcpStream, Seen) {
    let seen = Seen::default();
    let shared = Rc::clone(&seen);
    let (mut reactor, address) = serve(Limits::default(), move |_| PausesFirst(Rc::clone(&shared)));
    let mut peer = connect(address);
    peer.write_all(command).unwrap();
    turn_until(&mut reactor, "it is paused", |_| seen.borrow().0.is_some());
    (reactor, peer, seen)
}

/// Answers each byte with two, and closes.
struct AnswersOnce(Next);

impl Protocol for AnswersOnce {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        cx.send(b"ok");
        Advance::consumed(input.len()).then(self.0)
    }
}

// pitfall: 270
#[test]
#[cfg(target_os = "linux")]
fn answer_and_fin_arrive_together() {
    // A hundred times: a peer that has waited for the answer finds the FIN there, too. If they were
    // two segments, it would mostly have to wait for the second one.
    for next in [Next::Close, Next::CloseWithoutLinger] {
        let (mut reactor, address) = serve(Limits::default(), move |_| AnswersOnce(next));
        let peers = std::thread::spawn(move || {
            for _ in 0..100 {
                let mut peer = connect(address);
                peer.write_all(b"?").unwrap();
                let mut answer = [0; 10];
                assert_eq!(peer.read(&mut answer).unwrap(), 2);
                peer.set_nonblocking(true).unwrap();
                assert_eq!(peer.read(&mut answer).unwrap(), 0, "the FIN is there");
            }
        });
        turn_until(&mut reactor, "all are closed", |stats| stats.closed == 100);
        peers.join().unwrap();
    }
}

// pitfall: 140
#[test]
fn reset_ends_a_paused_connection_at_once() {
    for command in ["p", "s"] {
        let (mut reactor, peer, _) = paused_after(command.as_bytes());
        reset(peer);
        turn_until(&mut reactor, "it ends", |stats| stats.connections == 0);
    }
}

// pitfall: 141
#[test]
fn paused_half_closed_connection_keeps_a_mebibyte_of_unread_input() {
    let (mut reactor, mut peer, seen) = paused_after(b"s");
    let sender = std::thread::spawn(move || {
        peer.write_all(&vec![b'x'; 1 << 20]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        check_end(peer, b"");
    });
    turn_until(&mut reactor, "events of the peer come", |stats| stats.turns >= 5);
    assert_eq!((reactor.stats().connections, seen.borrow().1), (1, 0));
    reactor.connections().resume(seen.borrow().0.unwrap());
    turn_until(&mut reactor, "it ends", |stats| stats.connections == 0);
    assert_eq!((seen.borrow().1, reactor.stats().closed_finished), (1 << 20, 1));
    sender.join().unwrap();
}

// pitfall: 25
#[test]
fn only_aborted_connections_are_reset() {
    // A peer receives a FIN where the connection is closed gracefully or is idle for too long. It
    // receives a reset where the protocol aborts, or where output waits at the write timeout.
    let close_log = CloseLog::default();
    let shared = Rc::clone(&close_log);
    let limits = Limits::default()
        .with_idle_timeout(Duration::from_millis(300))
        .with_write_timeout(Duration::from_millis(200));
    let (mut reactor, commands) = serve(limits, byte_commands().0);
    let flood = reactor
        .listen(any_port(), move |_| SendsOnOpen {
            text: vec![0; 4_000_000],
            close_log: Rc::clone(&shared),
        })
        .unwrap();
    let mut closed = connect(commands);
    closed.write_all(b"c").unwrap();
    let idle = connect(commands);
    let mut aborted = connect(commands);
    aborted.write_all(b"a").unwrap();
    let stuck = connect_narrow(flood);
    turn_until(&mut reactor, "all four close", |stats| stats.closed == 4);
    assert_eq!(*close_log.borrow(), [(0, CloseReason::WriteTimeout)]);
    check_end(closed, b"");
    check_end(idle, b"");
    for mut peer in [aborted, stuck] {
        let result = peer.read_to_end(&mut Vec::new());
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

// pitfall: 24
#[test]
fn closed_is_called_exactly_once_for_every_connection() {
    // 300 connections end in six ways in a random order, with a few turns between them or none. Ten
    // more have work in progress when the reactor is stopped.
    const SEED: u64 = 11;
    let limits = Limits::default()
        .with_idle_timeout(Duration::from_secs(1))
        .with_linger_timeout(Duration::from_millis(50))
        .with_drain_timeout(Duration::from_millis(50));
    let (make, close_log) = byte_commands();
    let (mut reactor, address) = serve(limits, make);
    let mut kept = Vec::new();
    let mut expected = Vec::new();
    for random in pattern(SEED, 300) {
        // Turns come often enough to notice what a peer does long before the idle timeout.
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
    turn_until(&mut reactor, "all close", |stats| stats.accepted == 300 && stats.connections == 0);
    for _ in 0..10 {
        let mut peer = connect(address);
        exchange(&mut reactor, &mut peer, b"p");
        kept.push(peer);
        expected.push(CloseReason::Stopped);
    }
    reactor.stop();
    turn_until_stopped(&mut reactor);
    let mut log = close_log.take();
    log.sort_unstable_by_key(|&(number, _)| number);
    assert_eq!(log, expected.into_iter().enumerate().collect::<Vec<_>>(), "seed {SEED}");
    assert_eq!((reactor.stats().accepted, reactor.stats().closed), (310, 310));
}
