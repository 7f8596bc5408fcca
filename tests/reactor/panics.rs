//! A panic in a protocol closes its own connection; other connections and the turn go on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;

use mio_reactor::{Advance, CloseReason, Context, Limits, Next, Protocol, Reactor};

use crate::common::{TURN_TIMEOUT, any_port, connect, turn_until};
use crate::{CloseLog, exchange};

/// Panics in one callback: `m` when it is made, `o` in `opened`, `a` in `advance`, `e` in `eof`,
/// `t` in `timer_expired`, `i` in `is_evictable`, `c` in `closed`, `d` when it is dropped, and a
/// space nowhere. Echoes its input.
struct Panics {
    at: char,
    close_log: CloseLog,
}

impl Panics {
    fn reach(&self, callback: char) {
        assert!(self.at != callback, "a panic at {callback}, as the test requires");
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        self.reach('d');
    }
}

impl Protocol for Panics {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(b"half a wo");
        self.reach('o');
        cx.set_timer(TURN_TIMEOUT);
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(input);
        self.reach('a');
        Advance::consumed(input.len())
    }

    fn eof(&mut self, _: &[u8], _: &mut Context<'_>) -> Next {
        self.reach('e');
        Next::Close
    }

    fn timer_expired(&mut self, _: &mut Context<'_>) -> Next {
        self.reach('t');
        Next::Continue
    }

    fn is_evictable(&self) -> bool {
        self.reach('i');
        false
    }

    fn closed(&mut self, why: CloseReason) {
        self.close_log.borrow_mut().push((0, why));
        self.reach('c');
    }
}

// pitfall: 57
#[test]
fn panicking_protocol_closes_only_its_own_connection() {
    // For each callback, one protocol panics between two that do not and that send in the same
    // turn. These two are not affected, nor is a connection that is accepted afterwards.
    for panics_at in ['m', 'o', 'a', 'e', 't', 'c', 'd'] {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        let close_log = CloseLog::default();
        let (shared, mut made) = (Rc::clone(&close_log), 0);
        let address = reactor
            .listen(any_port(), move |_| {
                made += 1;
                assert!(made != 2 || panics_at != 'm', "a panic at m, as the test requires");
                let at = if made == 2 { panics_at } else { ' ' };
                Panics { at, close_log: Rc::clone(&shared) }
            })
            .unwrap();
        let mut peers: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
        for peer in &mut peers {
            peer.write_all(b"rd").unwrap();
        }
        if panics_at != 't' {
            peers[1].shutdown(Shutdown::Write).unwrap();
        }
        turn_until(&mut reactor, "a panic", |stats| stats.panics == 1);
        let sent_before_panic = match panics_at {
            'm' | 'o' => 0,
            'a' => "half a wo".len(),
            _ => "half a word".len(),
        };
        let sent = (2 * "half a word".len() + sent_before_panic) as u64;
        turn_until(&mut reactor, "two connections are left", |stats| {
            stats.bytes_out == sent && stats.connections == 2
        });
        for peer in [0, 2] {
            let mut received = [0; 11];
            peers[peer].read_exact(&mut received).unwrap();
            assert_eq!(&received, b"half a word", "beside a panic at {panics_at}");
            exchange(&mut reactor, &mut peers[peer], b"still here");
        }
        let sent = reactor.stats().bytes_out;
        let mut next = connect(address);
        next.write_all(b"rd").unwrap();
        let mut received = [0; 11];
        turn_until(&mut reactor, "a new connection is served", |stats| {
            stats.bytes_out == sent + 11
        });
        next.read_exact(&mut received).unwrap();
        assert_eq!(reactor.stats().panics, 1);
        let expected = match panics_at {
            'm' => vec![],
            'c' | 'd' => vec![(0, CloseReason::Finished)],
            _ => vec![(0, CloseReason::ProtocolPanicked)],
        };
        assert_eq!(*close_log.borrow(), expected, "panic at {panics_at}");
    }
}

#[test]
fn panic_in_is_evictable_closes_the_connection_and_frees_its_slot() {
    let mut reactor = Reactor::new(Limits::default().with_connections_max(2)).unwrap();
    let close_log = CloseLog::default();
    let (shared, mut made) = (Rc::clone(&close_log), 0);
    let address = reactor
        .listen(any_port(), move |_| {
            made += 1;
            Panics { at: if made == 1 { 'i' } else { ' ' }, close_log: Rc::clone(&shared) }
        })
        .unwrap();
    let [_panicking, mut sound, mut waiting] = [0, 1, 2].map(|_| connect(address));
    // `is_evictable` is called when the connection has been idle for a while, and no sooner.
    turn_until(&mut reactor, "a panic", |stats| stats.panics == 1);
    turn_until(&mut reactor, "the third is accepted", |stats| stats.accepted == 3);
    assert_eq!(*close_log.borrow(), [(0, CloseReason::ProtocolPanicked)]);
    for peer in [&mut sound, &mut waiting] {
        let mut greeting = [0; 9];
        turn_until(&mut reactor, "three greetings", |stats| stats.bytes_out >= 27);
        peer.read_exact(&mut greeting).unwrap();
        exchange(&mut reactor, peer, b"still here");
    }
}
