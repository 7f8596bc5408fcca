//! The two ways to run a datagram protocol, by a [`TestDatagram`] and by the loop, call it alike.

use std::any::Any;
use std::io;

use super::*;
use crate::protocol::datagram::{Datagram, Replies};
use crate::testing::simulated::errno;
use crate::testing::test_datagram::TestDatagram;

const DATAGRAMS: u16 = 2001;

/// Does what each byte of a datagram says, and records its calls.
struct Actor {
    calls: Rc<RefCell<Vec<String>>>,
    ticks_left: u32,
}

impl Actor {
    fn record(&self, call: impl Into<String>) {
        self.calls.borrow_mut().push(call.into());
    }
}

impl DatagramProtocol for Actor {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        self.record("opened");
        replies.send_to(peer(2), b"opened");
    }

    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        self.record(format!("received {}", datagram.payload.escape_ascii()));
        for action in datagram.payload {
            match action {
                b'e' => replies.echo(b"-> "),
                b's' => replies.send(b"sent"),
                b'n' => replies.send_to(peer(2), b"named"),
                b'l' => replies.send(&[0; 65_508]),
                b't' => replies.set_timer(Duration::from_secs(1)),
                b'w' => replies.wake_when_writable(),
                b'm' => {
                    let id = replies.id();
                    replies.connections().send_message(id, 7_u8);
                }
                _ => replies.close(),
            }
        }
    }

    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        self.record("timer");
        replies.send_to(peer(1), b"timer");
        if self.ticks_left > 0 {
            self.ticks_left -= 1;
            replies.set_timer(Duration::from_secs(1));
        }
    }

    fn message_received(&mut self, message: Box<dyn Any>, replies: &mut Replies<'_>) {
        self.record(format!("message {:?}", message.downcast_ref::<u8>()));
        replies.send_to(peer(1), b"message");
        replies.wake_when_writable();
    }

    fn writable(&mut self, replies: &mut Replies<'_>) {
        self.record("writable");
        replies.send_to(peer(1), b"writable");
    }

    fn error_received(&mut self, error: &io::Error, _: &mut Replies<'_>) {
        self.record(format!("error {:?}", error.kind()));
    }

    fn closed(&mut self, why: CloseReason) {
        self.record(format!("closed {why:?}"));
    }
}

/// The calls of each step, what each of the two peers has received, and how many replies were too
/// long.
type Steps = (Vec<Vec<String>>, [Vec<Vec<u8>>; 2], u64);

fn in_the_loop(actions: &[u8], seed: u64) -> Steps {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let mut world = World::new(seed, Limits::default(), Faults::default());
    let peers = [bound_peer(&world, 1), bound_peer(&world, 2)];
    let actor = Actor { calls: calls.clone(), ticks_left: 1 };
    let datagrams = world.serve_datagrams(DATAGRAMS, actor);
    world.run_until_blocked();
    let mut steps = Vec::new();
    for step in 0..5 {
        match step {
            0 => {
                world.kernel().peer_sends_datagram(peers[0], datagrams, actions.to_vec());
            }
            2 => world.kernel().report_icmp_error(datagrams, errno::ECONNREFUSED),
            3 => {
                world.kernel().peer_sends_datagram(peers[1], datagrams, b"s".to_vec());
            }
            _ => {
                world.run_for(1_900);
            }
        }
        world.run_until_blocked();
        steps.push(calls.take());
    }
    let too_long = world.stats().datagrams_too_long;
    let received = peers.map(|peer| {
        std::iter::from_fn(|| world.kernel().peer_receives_datagram(peer)).collect::<Vec<_>>()
    });
    world.stop();
    (steps, received, too_long)
}

fn in_a_test(actions: &[u8]) -> Steps {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let mut socket = TestDatagram::new(Actor { calls: calls.clone(), ticks_left: 1 });
    let mut steps = Vec::new();
    for step in 0..5 {
        match step {
            0 => socket.peer_sends(peer(1), actions),
            2 => socket.report_error(io::ErrorKind::ConnectionRefused.into()),
            3 => socket.peer_sends(peer(2), b"s"),
            _ => socket.advance_clock(Duration::from_millis(1_900)),
        }
        steps.push(calls.take());
    }
    let sent = socket.take_sent();
    let of = |number| {
        let to = sent.iter().filter(|(to, _)| *to == peer(number));
        to.map(|(_, payload)| payload.clone()).collect()
    };
    (steps, [of(1), of(2)], socket.stats().datagrams_too_long)
}

// pitfall: 182
#[test]
fn test_datagram_calls_a_protocol_as_the_loop_does() {
    // All sequences of three actions.
    let actions = b"esnltwmC";
    for number in 0..actions.len().pow(3) {
        let place = |power| actions[number / actions.len().pow(power) % actions.len()];
        let sequence = [place(2), place(1), place(0)];
        let (shown, seed) = (sequence.escape_ascii(), number as u64);
        assert_eq!(in_a_test(&sequence), in_the_loop(&sequence, seed), "{shown}");
    }
}
