//! How connections end: `closed` is called once, and the slot is free from the next turn on.

use super::*;

const ECHO: u16 = 2000;

/// A protocol that ends in one of its callbacks.
struct EndsAt {
    call: &'static str,
    how: Next,
}

impl EndsAt {
    fn next(&self, call: &str, otherwise: Next) -> Next {
        if self.call == call { self.how } else { otherwise }
    }
}

impl Protocol for EndsAt {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.set_timer(Duration::from_secs(1));
        self.next("opened", Next::Continue)
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        cx.send(input);
        Advance::consumed(input.len()).then(self.next("advance", Next::Pause))
    }

    fn eof(&mut self, _: &[u8], _: &mut Context<'_>) -> Next {
        self.next("eof", Next::Close)
    }

    fn output_low(&mut self, _: &mut Context<'_>) -> Next {
        self.next("output_low", Next::Continue)
    }

    fn timer_expired(&mut self, _: &mut Context<'_>) -> Next {
        self.next("timer_expired", Next::Continue)
    }
}

#[test]
fn end_from_any_callback_calls_closed_once_and_leaves_nothing() {
    for call in ["opened", "advance", "output_low", "timer_expired", "eof"] {
        for (how, why) in [
            (Next::Close, CloseReason::Finished),
            (Next::CloseWithoutLinger, CloseReason::Finished),
            (Next::Abort, CloseReason::Aborted),
        ] {
            let mut world = World::without_faults();
            world.serve(ECHO, move |_| EndsAt { call, how });
            let streams: Vec<usize> = (1..=3).map(|number| world.connect(ECHO, number)).collect();
            for &stream in &streams {
                world.peer_sends(stream, b"Hello");
            }
            world.run_for(1001);
            for &stream in &streams {
                world.kernel().peer_shuts_down(stream);
            }
            world.run_for(3000);
            for (number, &stream) in (1..).zip(&streams) {
                assert_eq!(world.close_reason_of(number), Some(why), "{how:?} in {call}");
                let end = if how == Next::Abort { PeerReceived::Reset } else { PeerReceived::Fin };
                assert_eq!(world.peer_receives_end(stream), end, "{how:?} in {call}");
            }
            world.stop();
        }
    }
}

// pitfall: 9
#[test]
fn slot_is_not_reused_in_the_turn_in_which_its_connection_ends() {
    let (mut world, streams) = echo_world_with(2);
    let slots = |world: &World| {
        let slots = &world.reactor.as_ref().unwrap().slots;
        slots
            .iter()
            .filter(|(_, slot)| matches!(slot.source, Source::Connection(..)))
            .map(|(token, _)| token)
            .collect::<Vec<_>>()
    };
    let before = slots(&world);
    // In one batch of events: the first closes, the second sends, and a third connects.
    world.kernel().peer_closes(streams[0]);
    world.peer_sends(streams[1], b"two");
    let third = world.connect(ECHO, 3);
    world.peer_sends(third, b"three");
    world.turn();
    let after = slots(&world);
    assert!(!after.contains(&before[0]), "{before:?}, then {after:?}");
    // In the next turn a fourth gets the slot and the descriptor of the first.
    let fourth = world.connect(ECHO, 4);
    world.peer_sends(fourth, b"four");
    world.turn();
    assert_eq!(slots(&world).len(), 3);
    assert!(slots(&world).contains(&before[0]));
    world.turn();
    assert_eq!(
        [
            world.peer_receives_all(streams[1]),
            world.peer_receives_all(third),
            world.peer_receives_all(fourth)
        ],
        [&b"two"[..], b"three", b"four"]
    );
    for stream in [streams[1], third, fourth] {
        world.kernel().peer_closes(stream);
    }
    world.run_until_blocked();
    world.stop();
}

/// Greets, and closes, as the daytime protocol does (RFC 867).
struct Greets;

impl Protocol for Greets {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(b"Sunday");
        Next::Close
    }

    fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
        Advance::consumed(input.len())
    }
}

// pitfall: 270
#[test]
fn greeting_before_a_close_does_not_wait_for_the_next_turn() {
    // `opened` is called outside of a drive. In a program with a loop of its own, the next turn may
    // be much later: the greeting must not be kept back for it.
    let mut world = World::without_faults();
    world.serve(ECHO, |_| Greets);
    let stream = world.connect(ECHO, 1);
    world.turn();
    assert_eq!(world.peer_receives_all(stream), b"Sunday");
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}
