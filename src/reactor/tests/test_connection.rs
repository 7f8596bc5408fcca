//! The two ways to run a protocol, by a [`TestConnection`] and by the loop, call it alike.

use super::*;
use crate::limits::EFFECTS_BYTES_MAX;
use crate::protocol::notification::Notification;
use crate::testing::test_connection::TestConnection;

/// Does what each byte of its input says, and records its calls.
struct Actor {
    calls: Rc<RefCell<Vec<String>>>,
    ticks_left: u32,
}

impl Actor {
    fn record(&self, call: String) {
        self.calls.borrow_mut().push(call);
    }
}

impl Protocol for Actor {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        self.record(format!("advance {}", input.escape_ascii()));
        let mut next = Next::Unchanged;
        let own = cx.id();
        for action in input {
            match action {
                b's' => cx.connections().send_to(own, b"s"),
                b'd' => cx.send(b"d"),
                b'o' => cx.connections().send_to(own, &vec![0; EFFECTS_BYTES_MAX + 1]),
                b'f' => cx.connections().shutdown_write(own),
                b'p' => cx.connections().pause(own),
                b'r' => cx.connections().resume(own),
                b'm' => cx.monitor(own),
                b't' => cx.set_timer(Duration::from_secs(1)),
                b'c' => cx.connections().close(own),
                b'x' => cx.connections().abort(own),
                b'P' => next = Next::Pause,
                b'C' => next = Next::CloseWithoutLinger,
                _ => next = Next::Abort,
            }
        }
        Advance::consumed(input.len()).then(next)
    }

    fn notified(&mut self, _: ConnectionId, what: Notification, cx: &mut Context<'_>) -> Next {
        self.record(format!("notified {what:?}"));
        cx.set_timer(Duration::from_millis(500));
        Next::Unchanged
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.record("timer".to_owned());
        if self.ticks_left > 0 {
            self.ticks_left -= 1;
            cx.set_timer(Duration::from_secs(1));
        }
        Next::Continue
    }

    fn eof(&mut self, rest: &[u8], _: &mut Context<'_>) -> Next {
        self.record(format!("eof {}", rest.escape_ascii()));
        Next::Close
    }

    fn closed(&mut self, why: CloseReason) {
        self.record(format!("closed {why:?}"));
    }
}

/// The calls of each step, and what the peer has received in all.
type Steps = (Vec<Vec<String>>, Vec<u8>);

fn in_the_loop(actions: &[u8]) -> Steps {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let mut world = World::without_faults();
    let log = calls.clone();
    world.serve(2000, move |_| Actor { calls: log.clone(), ticks_left: 2 });
    let stream = world.connect(2000, 1);
    world.kernel().streams[stream].may_be_paused = true;
    world.run_until_blocked();
    let (mut steps, mut received) = (Vec::new(), Vec::new());
    for step in 0..4 {
        match step {
            _ if world.close_reason_of(1).is_some() => {}
            0 => world.peer_sends(stream, actions),
            1 => world.peer_sends(stream, b"s"),
            2 => {
                world.run_for(2_900);
            }
            _ => world.kernel().peer_shuts_down(stream),
        }
        world.run_until_blocked();
        received.extend(world.peer_receives_all(stream));
        steps.push(calls.take());
    }
    world.kernel().peer_closes(stream);
    world.stop();
    (steps, received)
}

fn in_a_test(actions: &[u8]) -> Steps {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let mut connection = TestConnection::new(Actor { calls: calls.clone(), ticks_left: 2 });
    let mut steps = Vec::new();
    for step in 0..4 {
        match step {
            0 => connection.peer_sends(actions),
            1 => connection.peer_sends(b"s"),
            2 => connection.advance_clock(Duration::from_millis(2_900)),
            _ => connection.peer_shuts_down(),
        }
        steps.push(calls.take());
    }
    assert_eq!(connection.take_effects(), [], "all effects are on the connection itself");
    (steps, connection.take_received())
}

#[test]
fn test_connection_calls_a_protocol_as_the_loop_does() {
    // All sequences of three actions.
    let actions = b"sdofprmtcxPCA";
    for number in 0..actions.len().pow(3) {
        let place = |power| actions[number / actions.len().pow(power) % actions.len()];
        let sequence = [place(2), place(1), place(0)];
        let shown = sequence.escape_ascii();
        let (steps, received) = in_a_test(&sequence);
        let (loop_steps, loop_received) = in_the_loop(&sequence);
        assert_eq!(steps, loop_steps, "{shown}");
        // A reset destroys what the peer has not read, which a test's peer always has.
        let is_reset = steps.iter().flatten().any(|call| call == "closed Aborted");
        assert!(is_reset || received == loop_received, "{shown}: {received:?}");
    }
}

/// Does what each byte of its input says, a byte at a time, and sends much.
struct Sender(Rc<RefCell<Vec<String>>>);

impl Sender {
    fn record(&self, call: String) {
        self.0.borrow_mut().push(call);
    }
}

impl Protocol for Sender {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        self.record(format!("advance {}", input.escape_ascii()));
        let own = cx.id();
        let mut next = Next::Continue;
        match input[0] {
            b's' => cx.send(&[0; 5_000]),
            b'l' => cx.send(&[0; 60_000]),
            b'h' => cx.send(&[0; 100_000]),
            b'o' => cx.connections().send_to(own, &[0; 50_000]),
            b'f' => cx.connections().shutdown_write(own),
            b'P' => next = Next::Pause,
            b'C' => next = Next::Close,
            _ => next = Next::CloseWithoutLinger,
        }
        Advance::consumed(1).then(next)
    }

    fn output_low(&mut self, _: &mut Context<'_>) -> Next {
        self.record("output_low".to_owned());
        Next::Continue
    }

    fn notified(&mut self, _: ConnectionId, what: Notification, _: &mut Context<'_>) -> Next {
        self.record(format!("notified {what:?}"));
        Next::Unchanged
    }

    fn eof(&mut self, _: &[u8], _: &mut Context<'_>) -> Next {
        self.record("eof".to_owned());
        Next::Close
    }

    fn closed(&mut self, why: CloseReason) {
        self.record(format!("closed {why:?}"));
    }
}

/// What the peer takes at each step, in bytes.
const WINDOW: usize = 40_000;

/// The calls of a step, and how many bytes the peer received in it.
type SlowSteps = Vec<(Vec<String>, usize)>;

fn slowly_in_the_loop(actions: &[u8]) -> SlowSteps {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let mut world = World::without_faults();
    let log = calls.clone();
    world.serve(2000, move |_| Sender(log.clone()));
    let stream = world.connect(2000, 1);
    world.kernel().streams[stream].may_be_paused = true;
    world.kernel().streams[stream].buffer_bytes = WINDOW;
    world.run_until_blocked();
    world.peer_sends(stream, actions);
    let mut steps = Vec::new();
    for step in 0..6 {
        match step {
            4 => drop(world.run_for(29_900)),
            5 => drop(world.run_for(200)),
            _ => {}
        }
        world.run_until_blocked();
        // What the peer reads makes room, for the next step.
        let received = if step < 4 { world.peer_receives_all(stream).len() } else { 0 };
        steps.push((calls.take(), received));
    }
    world.kernel().peer_closes(stream);
    world.stop();
    steps
}

fn slowly_in_a_test(actions: &[u8]) -> SlowSteps {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let mut connection = TestConnection::new(Sender(calls.clone()));
    connection.peer_takes(WINDOW);
    connection.peer_sends(actions);
    let mut steps = Vec::new();
    for step in 0..6 {
        if (1..5).contains(&step) {
            connection.peer_takes(WINDOW);
        }
        match step {
            4 => connection.advance_clock(Duration::from_millis(29_900)),
            5 => connection.advance_clock(Duration::from_millis(200)),
            _ => {}
        }
        let received = if step < 4 { connection.take_received().len() } else { 0 };
        steps.push((calls.take(), received));
    }
    steps
}

// pitfall: 182
#[test]
fn slow_peer_of_a_test_connection_has_the_effects_of_one_in_the_loop() {
    let actions = b"slhofPCX";
    for number in 0..actions.len().pow(3) {
        let place = |power| actions[number / actions.len().pow(power) % actions.len()];
        let sequence = [place(2), place(1), place(0), b's'];
        let shown = sequence.escape_ascii();
        assert_eq!(slowly_in_a_test(&sequence), slowly_in_the_loop(&sequence), "{shown}");
    }
}
