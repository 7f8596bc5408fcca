//! Bounds on effects and notifications: in one call, in one turn, and in memory.
//!
//! A connection may ask for many effects, and each effect costs time. So what is applied and
//! delivered in one turn is bounded; the rest comes in the next turns, and other connections are
//! served in between.

use super::group::*;
use super::protocols::text_of;
use super::*;
use crate::limits::{
    EFFECTS_HIGH_WATERMARK, EFFECTS_HIGH_WATERMARK_BYTES, NOTIFICATIONS_PENDING_DIVISOR,
};
use crate::protocol::notification::Notification;
use crate::testing::simulated::errno;

#[test]
fn pipeline_with_many_effects_is_interrupted_and_goes_on() {
    let (mut world, streams, _) = group(
        2,
        |byte, members, cx| {
            cx.connections().send_to(members[0], byte);
            Next::Continue
        },
        unchanged,
    );
    let input = text_of(1, 0, 3 * EFFECTS_HIGH_WATERMARK + 5);
    world.peer_sends(streams[1], &input);
    let mut received = Vec::new();
    let mut turns = 0;
    while received.len() < input.len() {
        world.turn();
        turns += 1;
        let more = world.peer_receives_all(streams[0]);
        assert!(
            more.len() <= 2 * EFFECTS_HIGH_WATERMARK,
            "{} in turn {turns}: more than the effects of two turns",
            more.len()
        );
        received.extend(more);
    }
    assert_eq!(
        turns, 5,
        "one for each watermark's worth, one for the rest, and the last is delivered in the next; \
         without the watermark it would be 2"
    );
    assert!(received == input);
    reset_and_stop(world, &streams);
}

/// Each byte of the pipeline sends a mebibyte to another member. The pipeline must be interrupted
/// at the watermark in bytes, or later sends would be rejected although each of them is small.
#[test]
fn pipeline_with_large_sends_is_interrupted_and_loses_none() {
    let (mut world, streams, _) = group(
        72,
        |byte, members, cx| {
            let bytes = vec![byte[0]; EFFECTS_HIGH_WATERMARK_BYTES];
            cx.connections().send_to(members[usize::from(byte[0])], &bytes);
            Next::Continue
        },
        unchanged,
    );
    let input: Vec<u8> = (1..72).collect();
    world.peer_sends(streams[0], &input);
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

/// Bytes without a recipient are not kept, and take no room from bytes that have one.
#[test]
fn send_to_no_recipients_holds_no_bytes() {
    let (mut world, streams, _) = group(
        2,
        |byte, members, cx| {
            match byte {
                b"-" => cx.connections().send_to_all([], &vec![0; EFFECTS_HIGH_WATERMARK_BYTES]),
                _ => cx.connections().send_to(members[0], byte),
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

/// 100 connections each ask for as many effects as one may. They share the turn as they share it
/// for bytes: slots that were not driven are the first in the next turn.
#[test]
fn effects_of_all_connections_in_one_turn_are_bounded() {
    let (mut world, streams, _) = group(
        100,
        |_, members, cx| {
            cx.connections().send_to(members[0], b"");
            cx.send(b"!");
            Next::Continue
        },
        unchanged,
    );
    for &stream in &streams {
        world.peer_sends(stream, &[b'x'; EFFECTS_HIGH_WATERMARK]);
    }
    let driven_max = EFFECTS_PER_TURN.div_ceil(EFFECTS_HIGH_WATERMARK);
    let mut driven = 0;
    for turns in 1..=100usize.div_ceil(driven_max) {
        world.turn();
        let now =
            streams.iter().filter(|&&stream| !world.peer_receives_all(stream).is_empty()).count();
        assert!(now <= driven_max, "{now} in turn {turns}");
        driven += now;
    }
    assert_eq!(driven, 100, "each connection once");
    reset_and_stop(world, &streams);
}

/// Effects of timers and notifications are bounded, too, although no slot of the batch is left to
/// defer.
#[test]
fn effects_of_timers_and_notifications_have_a_bound_of_their_own() {
    #[derive(Default)]
    struct BurstLog {
        members: Vec<ConnectionId>,
        timers_expired: usize,
        closes_notified: usize,
    }
    /// Sends a turn's worth of effects when its timer expires, and when member 0 has closed.
    struct Burst(Rc<RefCell<BurstLog>>);
    impl Burst {
        fn send_burst(to: ConnectionId, cx: &mut Context<'_>) {
            let count = EFFECTS_PER_TURN;
            cx.connections().send_to_all(std::iter::repeat_n(to, count), b"");
        }
    }
    impl Protocol for Burst {
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
            let mut log = self.0.borrow_mut();
            Burst::send_burst(log.members[0], cx);
            log.timers_expired += 1;
            Next::Continue
        }
        fn notified(
            &mut self,
            _: ConnectionId,
            notification: Notification,
            cx: &mut Context<'_>,
        ) -> Next {
            if notification == Notification::Closed {
                let mut log = self.0.borrow_mut();
                Burst::send_burst(log.members[1], cx);
                log.closes_notified += 1;
            }
            Next::Unchanged
        }
    }
    let mut world = World::without_faults();
    let log: Rc<RefCell<BurstLog>> = Rc::default();
    let shared = log.clone();
    world.serve(GROUP, move |_| Burst(shared.clone()));
    let streams: Vec<usize> = (1..=5).map(|number| world.connect(GROUP, number)).collect();
    world.run_until_blocked();
    streams[1..].iter().for_each(|&stream| world.peer_sends(stream, b"x"));
    world.turn();
    world.deschedule(10);
    for turns in 1..=4 {
        world.turn();
        assert_eq!(log.borrow().timers_expired, turns, "one timer in each turn");
    }
    world.kernel().fail(streams[0], errno::ECONNRESET);
    world.run_until_blocked();
    assert_eq!((log.borrow().closes_notified, world.stats().panics), (4, 0));
    reset_and_stop(world, &streams[1..]);
}

/// The effects of `opened` count as well, so connections with many are accepted one in each turn.
#[test]
fn accepts_with_many_effects_are_spread_over_turns() {
    struct BurstOnOpen(Rc<RefCell<Vec<ConnectionId>>>);
    impl Protocol for BurstOnOpen {
        fn opened(&mut self, cx: &mut Context<'_>) -> Next {
            self.0.borrow_mut().push(cx.id());
            let count = EFFECTS_PER_TURN;
            cx.connections().send_to_all(std::iter::repeat_n(self.0.borrow()[0], count), b"");
            Next::Continue
        }
        fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
            Advance::consumed(input.len())
        }
    }
    let mut world = World::without_faults();
    let all: Rc<RefCell<Vec<ConnectionId>>> = Rc::default();
    let shared = all.clone();
    world.serve(GROUP, move |_| BurstOnOpen(shared.clone()));
    let streams: Vec<usize> = (1..=5).map(|number| world.connect(GROUP, number)).collect();
    for turns in 1..=5 {
        world.turn();
        assert_eq!(all.borrow().len(), turns);
    }
    world.run_until_blocked();
    reset_and_stop(world, &streams);
}

/// A connection that answers each notification with a send to a closed one is notified again, for
/// ever. That happens once in each turn, and others are served meanwhile.
#[test]
fn notifications_answered_with_effects_delay_no_other_connection() {
    let (mut world, streams, log) = group(
        3,
        |byte, members, cx| {
            match byte {
                b"g" => cx.connections().send_to(members[0], byte),
                _ => cx.send(byte),
            }
            Next::Continue
        },
        |about, _, cx| {
            cx.connections().send_to(about, b"again");
            Next::Unchanged
        },
    );
    world.kernel().fail(streams[0], errno::ECONNRESET);
    world.run_until_blocked();
    world.peer_sends(streams[1], b"g");
    for turns in 1..=50 {
        world.peer_sends(streams[2], b"x");
        world.turn();
        assert_eq!(world.peer_receives_all(streams[2]), b"x", "in the same turn");
        assert_eq!(log.borrow().notifications.len(), turns, "once in each turn");
    }
    world.kernel().fail(streams[1], errno::ECONNRESET);
    reset_and_stop(world, &streams[2..]);
}

/// If each turn produces more notifications than one delivers by default, a turn delivers a share
/// of those that wait. So their number stays bounded by some turns' worth.
#[test]
fn notifications_produced_faster_than_delivered_are_bounded() {
    const PER_TURN: usize = 2 * EFFECTS_PER_TURN;
    let (mut world, streams, _) = group(
        2,
        |_, members, cx| {
            cx.connections().send_to_all(std::iter::repeat_n(members[0], PER_TURN), b"");
            Next::Continue
        },
        unchanged,
    );
    world.kernel().fail(streams[0], errno::ECONNRESET);
    world.run_until_blocked();
    for turn in 0..30 {
        world.peer_sends(streams[1], b"!");
        world.turn();
        let pending = world.reactor().effects.pending_notifications();
        assert!(
            pending <= NOTIFICATIONS_PENDING_DIVISOR * PER_TURN,
            "{pending} after {turn} turns"
        );
    }
    world.run_until_blocked();
    reset_and_stop(world, &streams[1..]);
}

/// The notifications of one call are delivered over several turns, and others are served meanwhile.
/// The first is delivered when all effects of the call are applied.
#[test]
fn many_notifications_are_delivered_over_several_turns() {
    let count = 2 * EFFECTS_PER_TURN;
    let (mut world, streams, log) = group(
        3,
        |byte, members, cx| {
            match byte {
                b"!" => {
                    cx.connections()
                        .send_to_all(std::iter::repeat_n(members[0], 2 * EFFECTS_PER_TURN), b"");
                }
                _ => cx.send(byte),
            }
            Next::Continue
        },
        unchanged,
    );
    world.kernel().fail(streams[0], errno::ECONNRESET);
    world.run_until_blocked();
    world.peer_sends(streams[1], b"!");
    world.turn(); // the effects take this whole turn
    let mut delivered = log.borrow().notifications.len();
    assert!(delivered < count / 2, "{delivered} in the turn of the burst");
    while delivered < count {
        let is_applied = world.reactor().deferred.is_empty();
        world.peer_sends(streams[2], b"x");
        world.turn();
        assert_eq!(world.peer_receives_all(streams[2]), b"x", "others are served in each turn");
        let more = log.borrow().notifications.len() - delivered;
        if !is_applied {
            assert!(world.reactor().deferred.is_empty() || more == 0, "its caller is held");
            delivered += more;
            continue;
        }
        assert!(more >= (EFFECTS_PER_TURN / 4).min(count - delivered), "{more} in one turn");
        assert!(more <= EFFECTS_PER_TURN, "{more} in one turn");
        delivered += more;
    }
    reset_and_stop(world, &streams[1..]);
}

/// A burst of notifications takes memory only until it is delivered.
#[test]
fn memory_of_many_notifications_is_given_back() {
    let (mut world, streams, _) = group(
        2,
        |_, members, cx| {
            cx.connections().send_to_all(std::iter::repeat_n(members[0], 100_000), b"x");
            Next::Continue
        },
        unchanged,
    );
    world.kernel().fail(streams[0], errno::ECONNRESET);
    world.run_until_blocked();
    world.peer_sends(streams[1], b"x");
    world.turn();
    world.run_until_blocked();
    assert!(world.reactor().effects.notification_capacity() <= EFFECTS_HIGH_WATERMARK);
    reset_and_stop(world, &streams[1..]);
}
