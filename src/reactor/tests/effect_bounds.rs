//! Bounds on what connections may set off at each other.

use super::group::*;
use super::protocols::text_of;
use super::*;
use crate::limits::{
    EFFECT_BYTES, EFFECTS_HIGH_WATERMARK, EFFECTS_HIGH_WATERMARK_BYTES,
    NOTIFICATIONS_PENDING_DIVISOR, NOTIFICATIONS_PER_TURN, TURN_BYTES_MAX,
};
use crate::protocol::notification::Notification;

#[test]
fn a_pipeline_that_sets_off_much_is_interrupted_and_goes_on() {
    let (mut world, streams, _) = group(
        2,
        |word, members, cx| {
            cx.send_to(members[0], word);
            Next::Continue
        },
        unchanged,
    );
    let words = text_of(1, 0, 3 * EFFECTS_HIGH_WATERMARK + 5);
    world.peer_sends(streams[1], &words);
    let mut received = Vec::new();
    let mut turns = 0;
    while received.len() < words.len() {
        world.turn();
        turns += 1;
        let more = world.peer_receives_all(streams[0]);
        assert!(
            more.len() <= 2 * EFFECTS_HIGH_WATERMARK,
            "{} in turn {turns}: what two turns may set off",
            more.len()
        );
        received.extend(more);
    }
    assert_eq!(
        turns, 4,
        "one for each mark's worth, and one for the rest; without the mark it would be two"
    );
    assert!(received == words);
    reset_and_stop(world, &streams);
}

/// A pipeline of words, each of which puts a mebibyte to another, is interrupted as one that sets off many effects is. Else
/// the later ones would find no room, though each of them asks for little.
#[test]
fn a_pipeline_that_sends_much_is_interrupted_too() {
    let (mut world, streams, _) = group(
        72,
        |word, members, cx| {
            cx.send_to(members[usize::from(word[0])], &vec![word[0]; EFFECTS_HIGH_WATERMARK_BYTES]);
            Next::Continue
        },
        unchanged,
    );
    let words: Vec<u8> = (1..72).collect();
    world.peer_sends(streams[0], &words);
    world.run_until_blocked();
    assert_eq!(world.stats().sends_rejected, 0);
    let effects = &world.reactor().effects;
    assert!(
        effects.bytes.capacity() <= 4 * EFFECTS_HIGH_WATERMARK_BYTES,
        "{} bytes were held at once",
        effects.bytes.capacity()
    );
    reset_and_stop(world, &streams);
}

/// What is for nobody is not kept for anybody, nor does it take the room of what is for somebody.
#[test]
fn what_is_sent_to_nobody_is_forgotten() {
    let (mut world, streams, _) = group(
        2,
        |word, members, cx| {
            match word {
                b"-" => cx.send_to_all([], &vec![0; EFFECTS_HIGH_WATERMARK_BYTES]),
                _ => cx.send_to(members[0], word),
            }
            Next::Continue
        },
        unchanged,
    );
    for _ in 0..100 {
        world.peer_sends(streams[1], b"-");
        world.run_until_blocked();
        assert!(world.reactor().effects.bytes.is_empty());
    }
    world.peer_sends(streams[1], b"x");
    world.run_until_blocked();
    assert_eq!(
        (world.peer_receives_all(streams[0]), world.stats().sends_rejected),
        (b"x".to_vec(), 0)
    );
    reset_and_stop(world, &streams);
}

/// A hundred who each set off as much as one may share a turn as they would share it for bytes. Who has not had its turn has it
/// in the next one, before those who had.
#[test]
fn what_all_set_off_in_one_turn_is_bounded() {
    let (mut world, streams, _) = group(
        100,
        |_, members, cx| {
            cx.send_to(members[0], b"");
            cx.send(b"!");
            Next::Continue
        },
        unchanged,
    );
    for &stream in &streams {
        world.peer_sends(stream, &[b'x'; EFFECTS_HIGH_WATERMARK]);
    }
    let at_most =
        usize::try_from(TURN_BYTES_MAX / EFFECT_BYTES).unwrap().div_ceil(EFFECTS_HIGH_WATERMARK);
    let mut had_their_turn = 0;
    for turns in 1..=100usize.div_ceil(at_most) {
        world.turn();
        let now =
            streams.iter().filter(|&&stream| !world.peer_receives_all(stream).is_empty()).count();
        assert!(now <= at_most, "{now} in turn {turns}");
        had_their_turn += now;
    }
    assert_eq!(had_their_turn, 100, "each once");
    reset_and_stop(world, &streams);
}

/// And so is what comes of news and of alarms, when nobody is left to be put off.
#[test]
fn what_is_set_off_when_everybody_has_been_driven_has_a_bound_of_its_own() {
    let much = |members: &[ConnectionId], cx: &mut Context<'_>| {
        let count = usize::try_from(TURN_BYTES_MAX / EFFECT_BYTES).unwrap();
        cx.send_to_all(std::iter::repeat_n(members[0], count), b"");
    };
    struct Late(Rc<RefCell<GroupLog>>, fn(&[ConnectionId], &mut Context<'_>));
    impl Protocol for Late {
        fn opened(&mut self, cx: &mut Context<'_>) -> Next {
            self.0.borrow_mut().members.push(cx.id());
            Next::Continue
        }
        fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
            cx.set_timer(Duration::from_millis(1));
            cx.monitor(self.0.borrow().members[0]);
            Advance::consumed(input.len())
        }
        fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
            (self.1)(&self.0.borrow().members, cx);
            self.0.borrow_mut().output_low_calls.push(0);
            Next::Continue
        }
        fn notified(
            &mut self,
            _: ConnectionId,
            notifications: Notification,
            cx: &mut Context<'_>,
        ) -> Next {
            if notifications == Notification::Closed {
                (self.1)(&self.0.borrow().members[1..], cx);
                self.0.borrow_mut().notifications.push((0, 0, notifications));
            }
            Next::Unchanged
        }
    }
    let mut world = World::without_faults();
    let log: Rc<RefCell<GroupLog>> = Rc::default();
    let shared = log.clone();
    world.serve(GROUP, move |_| Late(shared.clone(), much));
    let streams: Vec<usize> = (1..=5).map(|number| world.connect(GROUP, number)).collect();
    world.run_until_blocked();
    streams[1..].iter().for_each(|&stream| world.peer_sends(stream, b"x"));
    world.turn();
    world.deschedule(10);
    for rung in 1..=4 {
        world.turn();
        assert_eq!(log.borrow().output_low_calls.len(), rung, "one alarm in each turn");
    }
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.run_until_blocked();
    assert_eq!((log.borrow().notifications.len(), world.stats().panics), (4, 0));
    reset_and_stop(world, &streams[1..]);
}

/// And what newcomers do to others as soon as they have come.
#[test]
fn newcomers_who_set_off_much_are_let_in_one_by_one() {
    struct Herald(Rc<RefCell<Vec<ConnectionId>>>);
    impl Protocol for Herald {
        fn opened(&mut self, cx: &mut Context<'_>) -> Next {
            self.0.borrow_mut().push(cx.id());
            let count = usize::try_from(TURN_BYTES_MAX / EFFECT_BYTES).unwrap();
            cx.send_to_all(std::iter::repeat_n(self.0.borrow()[0], count), b"");
            Next::Continue
        }
        fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
            Advance::consumed(input.len())
        }
    }
    let mut world = World::without_faults();
    let all: Rc<RefCell<Vec<ConnectionId>>> = Rc::default();
    let shared = all.clone();
    world.serve(GROUP, move |_| Herald(shared.clone()));
    let streams: Vec<usize> = (1..=5).map(|number| world.connect(GROUP, number)).collect();
    for come in 1..=5 {
        world.turn();
        assert_eq!(all.borrow().len(), come);
    }
    world.run_until_blocked();
    reset_and_stop(world, &streams);
}

/// Two who answer all news with a send to one that has gone would go on for ever, and do: but in each turn once.
#[test]
fn news_that_is_answered_with_effects_holds_up_nobody() {
    let (mut world, streams, log) = group(
        3,
        |word, members, cx| {
            match word {
                b"g" => cx.send_to(members[0], word),
                _ => cx.send(word),
            }
            Next::Continue
        },
        |about, _, cx| {
            cx.send_to(about, b"Are you there?");
            Next::Unchanged
        },
    );
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.run_until_blocked();
    world.peer_sends(streams[1], b"g");
    for turns in 1..=50 {
        world.peer_sends(streams[2], b"x");
        world.turn();
        assert_eq!(world.peer_receives_all(streams[2]), b"x", "in that very turn");
        assert_eq!(log.borrow().notifications.len(), turns, "once a turn");
    }
    world.kernel().fail(streams[1], crate::testing::simulated::errno::ECONNRESET);
    reset_and_stop(world, &streams[2..]);
}

/// Where each turn makes more news than one tells, what waits grows no further than to some turns' worth.
#[test]
fn news_that_comes_faster_than_it_is_told_has_a_bound() {
    const OF_ONE_TURN: usize = 20 * NOTIFICATIONS_PER_TURN;
    let (mut world, streams, _) = group(
        2,
        |_, members, cx| {
            cx.send_to_all(std::iter::repeat_n(members[0], OF_ONE_TURN), b"");
            Next::Continue
        },
        unchanged,
    );
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.run_until_blocked();
    for turn in 0..100 {
        world.peer_sends(streams[1], b"!");
        world.turn();
        let pending = world.reactor().effects.pending_notifications();
        assert!(
            pending <= NOTIFICATIONS_PENDING_DIVISOR * OF_ONE_TURN,
            "{pending} after {turn} turns"
        );
    }
    world.run_until_blocked();
    reset_and_stop(world, &streams[1..]);
}

/// So is what is told in one turn.
#[test]
fn much_news_is_told_in_several_turns() {
    let count = 2 * NOTIFICATIONS_PER_TURN + 1;
    let (mut world, streams, log) = group(
        3,
        |word, members, cx| {
            match word {
                b"!" => cx.send_to_all(
                    std::iter::repeat_n(members[0], 2 * NOTIFICATIONS_PER_TURN + 1),
                    b"",
                ),
                _ => cx.send(word),
            }
            Next::Continue
        },
        unchanged,
    );
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.run_until_blocked();
    world.peer_sends(streams[1], b"!");
    let mut delivered = 0;
    while delivered < count {
        world.peer_sends(streams[2], b"x");
        world.turn();
        assert_eq!(world.peer_receives_all(streams[2]), b"x", "others have their share");
        let more = log.borrow().notifications.len() - delivered;
        assert_eq!(more, NOTIFICATIONS_PER_TURN.min(count - delivered));
        delivered += more;
    }
    reset_and_stop(world, &streams[1..]);
}

/// What one crowd has had told takes memory while it is told.
#[test]
fn the_memory_of_much_news_is_given_back() {
    let (mut world, streams, _) = group(
        2,
        |_, members, cx| {
            cx.send_to_all(std::iter::repeat_n(members[0], 100_000), b"x");
            Next::Continue
        },
        unchanged,
    );
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.run_until_blocked();
    world.peer_sends(streams[1], b"x");
    world.turn();
    world.run_until_blocked();
    assert!(world.reactor().effects.notification_capacity() <= EFFECTS_HIGH_WATERMARK);
    reset_and_stop(world, &streams[1..]);
}
