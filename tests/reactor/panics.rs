//! Panics.

use super::*;

/// Panics where it is told to: `m` when it is made, `o` when it is opened, `a` when it hears an `a`, `e` at the peer's end, `l`
/// when its alarm rings, `g` when it is asked whether it gives way, `c` when it is closed, `d` when it is dropped. Echoes
/// everything else.
struct Fragile {
    breaks: char,
    endings: Endings,
}

impl Fragile {
    fn may_break(&self, at: char) {
        assert!(self.breaks != at, "it breaks at {at}, as it was told");
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        self.may_break('d');
    }
}

impl Protocol for Fragile {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(b"half a wo");
        self.may_break('o');
        cx.set_timer(A_MOMENT);
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(input);
        self.may_break('a');
        Advance::consumed(input.len())
    }

    fn eof(&mut self, _: &[u8], _: &mut Context<'_>) -> Next {
        self.may_break('e');
        Next::Close
    }

    fn timer_expired(&mut self, _: &mut Context<'_>) -> Next {
        self.may_break('l');
        Next::Continue
    }

    fn is_evictable(&self) -> bool {
        self.may_break('g');
        false
    }

    fn closed(&mut self, why: CloseReason) {
        self.endings.borrow_mut().push((0, why));
        self.may_break('c');
    }
}

#[test]
fn a_protocol_that_panics_ends_its_own_connection_and_nobody_elses() {
    // At each point at which a protocol is called, one breaks, between two that do not and that speak in the same turn. They
    // never notice, and neither does whoever comes next.
    for breaks in ['m', 'o', 'a', 'e', 'l', 'c', 'd'] {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        let endings = Endings::default();
        let (told, mut made) = (Rc::clone(&endings), 0);
        let address = reactor
            .listen(any_port(), move |_| {
                made += 1;
                assert!(made != 2 || breaks != 'm', "it breaks at m, as it was told");
                let breaks = if made == 2 { breaks } else { ' ' };
                Fragile { breaks, endings: Rc::clone(&told) }
            })
            .unwrap();
        let mut peers: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
        for peer in &mut peers {
            peer.write_all(b"rd").unwrap();
        }
        if breaks != 'l' {
            peers[1].shutdown(Shutdown::Write).unwrap();
        }
        turn_until(&mut reactor, "a panic", |stats| stats.panics == 1);
        let said_by_it = match breaks {
            'm' | 'o' => 0,
            'a' => "half a wo".len(),
            _ => "half a word".len(),
        };
        let said = (2 * "half a word".len() + said_by_it) as u64;
        turn_until(&mut reactor, "two who are left", |stats| {
            stats.bytes_out == said && stats.connections == 2
        });
        for peer in [0, 2] {
            let mut heard = [0; 11];
            peers[peer].read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"half a word", "beside one who breaks at {breaks}");
            exchange(&mut reactor, &mut peers[peer], b"still here");
        }
        let said = reactor.stats().bytes_out;
        let mut next = connect(address);
        next.write_all(b"rd").unwrap();
        let mut heard = [0; 11];
        turn_until(&mut reactor, "a newcomer who is served", |stats| stats.bytes_out == said + 11);
        next.read_exact(&mut heard).unwrap();
        assert_eq!(reactor.stats().panics, 1);
        let expected = match breaks {
            'm' => vec![],
            'c' | 'd' => vec![(0, CloseReason::Finished)],
            _ => vec![(0, CloseReason::ProtocolPanicked)],
        };
        assert_eq!(*endings.borrow(), expected, "who breaks at {breaks}");
    }
}

#[test]
fn a_protocol_that_panics_when_it_is_asked_to_give_way_has_made_room() {
    let mut reactor = Reactor::new(Limits { connections_max: 2, ..Limits::default() }).unwrap();
    let endings = Endings::default();
    let (told, mut made) = (Rc::clone(&endings), 0);
    let address = reactor
        .listen(any_port(), move |_| {
            made += 1;
            Fragile { breaks: if made == 1 { 'g' } else { ' ' }, endings: Rc::clone(&told) }
        })
        .unwrap();
    let [_fragile, mut sound, mut newcomer] = [0, 1, 2].map(|_| connect(address));
    // It is asked when it has been quiet for a while, and no sooner.
    turn_until(&mut reactor, "a panic", |stats| stats.panics == 1);
    turn_until(&mut reactor, "the newcomer", |stats| stats.accepted == 3);
    assert_eq!(*endings.borrow(), [(0, CloseReason::ProtocolPanicked)]);
    for peer in [&mut sound, &mut newcomer] {
        let mut greeting = [0; 9];
        turn_until(&mut reactor, "three greetings", |stats| stats.bytes_out >= 27);
        peer.read_exact(&mut greeting).unwrap();
        exchange(&mut reactor, peer, b"still here");
    }
}
