//! What connections do to each other, one thing at a time.

use super::protocols::text_of;
use super::*;
use crate::limits::{
    EFFECT_BYTES, EFFECTS_HIGH_WATERMARK, EFFECTS_HIGH_WATERMARK_BYTES, EFFECTS_MAX,
    HIGH_WATERMARK_BYTES, LOW_WATERMARK_BYTES, NOTIFICATIONS_PENDING_DIVISOR,
    NOTIFICATIONS_PER_TURN, OUTPUT_BYTES_MAX, TURN_BYTES_MAX,
};
use crate::protocol::notification::Notification;

const ROOM: u16 = 4000;

/// What happens in a room, in the order in which it happens.
#[derive(Default)]
struct Diary {
    /// Those who have come, in order. The first is number 0.
    members: Vec<ConnectionId>,
    /// What each was told, and about whom.
    news: Vec<(usize, usize, Notification)>,
    /// Each time that one has been asked for more.
    drained: Vec<usize>,
}

impl Diary {
    fn number_of(&self, id: ConnectionId) -> usize {
        self.members.iter().position(|&member| member == id).expect("a member of the room")
    }
}

/// What a member does with what it hears, given all members.
type Hears = fn(&[u8], &[ConnectionId], &mut Context<'_>) -> Next;
/// What it does when it is told something of another.
type Told = fn(ConnectionId, Notification, &mut Context<'_>) -> Next;

struct Member {
    diary: Rc<RefCell<Diary>>,
    hears: Hears,
    told: Told,
}

impl Protocol for Member {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.diary.borrow_mut().members.push(cx.id());
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let members = self.diary.borrow().members.clone();
        Advance::consumed(1).then((self.hears)(&input[..1], &members, cx))
    }

    fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
        let members = self.diary.borrow().members.clone();
        (self.hears)(b"", &members, cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        let mut diary = self.diary.borrow_mut();
        let number = diary.number_of(cx.id());
        diary.drained.push(number);
        Next::Unchanged
    }

    fn notified(&mut self, about: ConnectionId, news: Notification, cx: &mut Context<'_>) -> Next {
        {
            let mut diary = self.diary.borrow_mut();
            let (number, about) = (diary.number_of(cx.id()), diary.number_of(about));
            diary.news.push((number, about, news));
        }
        (self.told)(about, news, cx)
    }
}

fn stay(_: ConnectionId, _: Notification, _: &mut Context<'_>) -> Next {
    Next::Unchanged
}

/// A room with `count` members, who have settled.
fn room(count: u16, hears: Hears, told: Told) -> (World, Vec<usize>, Rc<RefCell<Diary>>) {
    let mut world = World::calm();
    let diary: Rc<RefCell<Diary>> = Rc::default();
    let shared = diary.clone();
    let address = world.serve(ROOM, move |_| Member { diary: shared.clone(), hears, told });
    world.kernel().let_pause(address);
    let streams = (1..=count)
        .map(|number| {
            let stream =
                world.kernel().connect(peer(number), address, 10_000).expect("the room is open");
            world.settle();
            stream
        })
        .collect();
    (world, streams, diary)
}

fn leave(mut world: World, streams: &[usize]) {
    for &stream in streams {
        world.kernel().fail(stream, crate::testing::simulated::errno::ECONNRESET);
    }
    world.settle();
    world.stop();
}

// ---- sending

#[test]
fn what_one_sends_to_many_reaches_each_in_order_and_with_one_send_a_turn() {
    let (mut world, streams, diary) = room(
        5,
        |word, members, cx| {
            cx.send_to_all(
                members.iter().copied().filter(|&member| member != cx.id()).collect::<Vec<_>>(),
                word,
            );
            cx.send(b"!");
            Next::Continue
        },
        stay,
    );
    for word in [&b"abc"[..], b"d", b"ef"] {
        world.take_calls();
        world.says(streams[2], word);
        assert_eq!(world.settle(), 2, "heard in one turn, sent on in the next");
        let sends = world.take_calls().into_iter().filter(|&call| call == "send").count();
        assert_eq!(sends, 5, "one for each, however many words");
    }
    for (number, &stream) in streams.iter().enumerate() {
        assert_eq!(
            world.hears(stream),
            if number == 2 { &b"!!!!!!"[..] } else { b"abcdef" },
            "member {number}"
        );
    }
    assert_eq!(diary.borrow().news, [], "success is not told");
    leave(world, &streams);
}

#[test]
fn two_who_send_to_one_in_the_same_turn_do_not_lose_or_mix_a_byte() {
    let (mut world, streams, _) = room(
        3,
        |word, members, cx| {
            cx.send_to(members[0], &[word, word].concat());
            Next::Continue
        },
        stay,
    );
    world.says(streams[1], b"aaaa");
    world.says(streams[2], b"bb");
    world.settle();
    assert_eq!(world.hears(streams[0]), b"aaaaaaaabbbb");
    leave(world, &streams);
}

#[test]
fn a_name_that_is_older_than_its_slot_reaches_nobody() {
    let (mut world, streams, diary) = room(
        2,
        |word, members, cx| {
            cx.send_to(members[0], word);
            Next::Continue
        },
        stay,
    );
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.settle();
    let newcomer = world.connect(ROOM, 3);
    world.settle();
    let (old, new) = (diary.borrow().members[0], diary.borrow().members[2]);
    assert_eq!(old.slot, new.slot, "the slot has been given to the next");
    world.says(streams[1], b"x");
    world.settle();
    assert_eq!(world.hears(newcomer), b"", "it was not meant");
    assert_eq!(diary.borrow().news, [(1, 0, Notification::Closed)]);
    assert_eq!(world.reactor().send_to(old, b"x"), Some(Notification::Closed));
    assert_eq!(world.reactor().send_to(new, b"y"), None);
    world.settle();
    assert_eq!(world.hears(newcomer), b"y");
    leave(world, &[streams[1], newcomer]);
}

#[test]
fn who_closes_takes_nothing_more_but_sends_what_it_took() {
    let (mut world, streams, diary) = room(
        2,
        |_, members, cx| {
            cx.send_to(members[0], &text_of(1, 0, 30_000));
            cx.close(members[0]);
            cx.send_to(members[0], b"too late");
            Next::Continue
        },
        stay,
    );
    world.says(streams[1], b"x");
    world.settle();
    assert_eq!(diary.borrow().news, [(1, 0, Notification::Closed)]);
    assert_eq!(world.ending_of(1), None, "its peer has not read");
    let mut heard = Vec::new();
    loop {
        match world.kernel().peer_hears(streams[0], 1000) {
            Heard::Bytes(bytes) => heard.extend(bytes),
            Heard::Nothing => {}
            end @ (Heard::Fin | Heard::Reset) => break assert_eq!(end, Heard::Fin),
        }
        world.settle();
    }
    assert!(heard == text_of(1, 0, 30_000));
    world.kernel().peer_closes(streams[0]);
    world.settle();
    assert_eq!(world.ending_of(1), Some(CloseReason::Finished));
    leave(world, &streams[1..]);
}

// ---- marks

/// Each word is 20,000 bytes for the first member.
fn much(_: &[u8], members: &[ConnectionId], cx: &mut Context<'_>) -> Next {
    cx.send_to(members[0], &text_of(1, 0, 20_000));
    Next::Continue
}

#[test]
fn a_sender_is_told_once_that_much_waits_and_once_that_it_has_drained() {
    let (mut world, streams, diary) = room(3, much, stay);
    // The peer takes 10,000 bytes, and the others wait here.
    for (words, news) in [
        (3, &[][..]),
        (1, &[(1, 0, Notification::AboveHighWatermark)]),
        (4, &[(1, 0, Notification::AboveHighWatermark)]),
    ] {
        world.says(streams[1], &vec![b'x'; words]);
        world.settle();
        assert_eq!(diary.borrow().news, news, "{words} words more");
    }
    world.says(streams[2], b"x");
    world.settle();
    assert_eq!(
        diary.borrow_mut().news.split_off(1),
        [(2, 0, Notification::AboveHighWatermark)],
        "who is another is told too"
    );
    diary.borrow_mut().news.clear();
    let mut heard = 0;
    while heard < 9 * 20_000 {
        heard += world.hears(streams[0]).len();
        world.settle();
        let waits = 9 * 20_000 - heard.min(9 * 20_000);
        let inside = waits.saturating_sub(10_000);
        let news = if inside <= LOW_WATERMARK_BYTES {
            &[(1, 0, Notification::BelowLowWatermark), (2, 0, Notification::BelowLowWatermark)][..]
        } else {
            &[]
        };
        assert_eq!(diary.borrow().news, news, "{inside} bytes wait");
    }
    assert!(diary.borrow().drained.is_empty(), "its own protocol has not paused");
    leave(world, &streams);
}

#[test]
fn what_would_be_too_much_is_refused_whole() {
    let (mut world, streams, diary) = room(
        2,
        |word, members, cx| {
            match word {
                b"0" => cx.send_to(members[0], &[6; 10_000]), // as much as the peer takes
                b"a" => cx.send_to(members[0], &vec![7; OUTPUT_BYTES_MAX - 1]),
                b"b" => cx.send_to(members[0], &[8; 2]),
                _ => cx.send_to(members[0], &[9; 1]),
            }
            Next::Continue
        },
        stay,
    );
    assert_eq!(world.kernel().streams[streams[0]].room_max, 10_000);
    world.says(streams[1], b"0abc");
    world.settle();
    assert_eq!(
        diary.borrow().news,
        [(1, 0, Notification::AboveHighWatermark), (1, 0, Notification::Rejected)]
    );
    assert_eq!(world.stats().sends_rejected, 1);
    let mut heard = Vec::new();
    while heard.len() < 10_000 + OUTPUT_BYTES_MAX {
        heard.extend(world.hears(streams[0]));
        world.settle();
    }
    let expected = [vec![6; 10_000], vec![7; OUTPUT_BYTES_MAX - 1], vec![9]].concat();
    assert!(heard == expected);
    leave(world, &streams);
}

#[test]
fn who_waits_for_one_to_drain_that_goes_is_told_so() {
    let (mut world, streams, diary) = room(2, much, stay);
    world.says(streams[1], b"xxxxx");
    world.settle();
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.settle();
    assert_eq!(
        diary.borrow().news,
        [(1, 0, Notification::AboveHighWatermark), (1, 0, Notification::Closed)]
    );
    leave(world, &streams[1..]);
}

#[test]
fn news_for_who_has_gone_is_dropped_and_nothing_is_left_of_it() {
    let (mut world, streams, diary) = room(3, much, stay);
    world.says(streams[1], b"xxxxx");
    world.settle();
    world.kernel().fail(streams[1], crate::testing::simulated::errno::ECONNRESET);
    world.settle();
    assert!(
        world.reactor().effects.has_nothing_pending(),
        "it does not wait any more, though much waits there still"
    );
    for _ in 0..30 {
        world.hears(streams[0]);
        world.settle();
    }
    assert_eq!(diary.borrow().news, [(1, 0, Notification::AboveHighWatermark)]);
    assert!(world.reactor().effects.has_nothing_pending());
    leave(world, &[streams[0], streams[2]]);
}

/// Two peers at the ends of a proxy may each read only what the other has read. Found by a proxy to an echo, which stood still.
#[test]
fn who_does_not_read_what_others_send_is_heard_all_the_same() {
    let (mut world, streams, diary) = room(
        2,
        |word, members, cx| {
            match word {
                b"m" => cx.send_to(members[0], &text_of(1, 0, 3 * HIGH_WATERMARK_BYTES)),
                b"e" => cx.send(&text_of(2, 0, HIGH_WATERMARK_BYTES)),
                b"" => return Next::Pause,
                _ => cx.send_to(members[1], word),
            }
            Next::Continue
        },
        stay,
    );
    world.says(streams[1], b"m");
    world.settle();
    world.says(streams[0], b"Hi!");
    world.settle();
    assert_eq!(world.hears(streams[1]), b"Hi!");
    // What its own protocol has said, and it does not read, keeps it from being heard.
    world.says(streams[0], b"eAgain");
    world.settle();
    assert_eq!(world.hears(streams[1]), b"");
    let mut heard = Vec::new();
    while heard.len() < 4 * HIGH_WATERMARK_BYTES {
        heard.extend(world.hears(streams[0]));
        world.settle();
    }
    assert!(heard[..3 * HIGH_WATERMARK_BYTES] == text_of(1, 0, 3 * HIGH_WATERMARK_BYTES));
    assert_eq!(world.hears(streams[1]), b"Again");
    // It finishes while much of another's waits: its own protocol is not asked for more.
    world.says(streams[1], b"m");
    world.kernel().peer_finishes(streams[0]);
    world.settle();
    while !world.hears(streams[0]).is_empty() {
        world.settle();
    }
    assert_eq!((diary.borrow().drained.len(), world.ending_of(1)), (0, None));
    leave(world, &streams);
}

/// Found by a schedule, in which somebody lived on who had long been silent.
#[test]
fn to_be_sent_nothing_does_not_put_off_the_end_of_who_is_idle() {
    let (mut world, streams, _) = room(
        2,
        |word, members, cx| {
            cx.send_to(members[0], b"");
            cx.send(word);
            Next::Continue
        },
        stay,
    );
    let idle_timeout_ms = world.reactor().state.limits.idle_timeout_ms;
    for _ in 0..5 {
        world.live(idle_timeout_ms / 4);
        world.says(streams[1], b"x");
        world.settle();
    }
    assert_eq!(
        (world.ending_of(1), world.ending_of(2)),
        (Some(CloseReason::FirstByteTimeout), None)
    );
    leave(world, &streams[1..]);
}

// ---- wishes

#[test]
fn who_is_paused_by_another_is_not_heard_until_it_is_resumed() {
    let (mut world, streams, _) = room(
        2,
        |word, members, cx| {
            match word {
                b"p" => cx.pause(members[0]),
                b"r" => cx.resume(members[0]),
                _ => cx.send(word),
            }
            Next::Continue
        },
        stay,
    );
    world.says(streams[1], b"p");
    world.settle();
    world.says(streams[0], b"abc");
    world.settle();
    assert_eq!(
        (world.hears(streams[0]), world.kernel().streams[streams[0]].arrived.len()),
        (vec![], 3),
        "not even read"
    );
    world.says(streams[1], b"r");
    world.settle();
    assert_eq!(world.hears(streams[0]), b"abc");
    world.says(streams[0], b"pd"); // itself, behind which it has read more
    world.settle();
    world.says(streams[1], b"r");
    world.settle();
    assert_eq!(world.hears(streams[0]), b"d");
    leave(world, &streams);
}

#[test]
fn a_connection_that_has_sent_its_fin_hears_on_and_takes_nothing() {
    let (mut world, streams, diary) = room(
        2,
        |word, members, cx| {
            match word {
                b"f" => {
                    cx.send_to(members[0], &text_of(1, 0, 15_000));
                    cx.shutdown_write(members[0]);
                }
                b"s" => cx.send_to(members[0], b"too late"),
                b"" => return Next::Close,
                _ => cx.send_to(members[1], word),
            }
            Next::Continue
        },
        stay,
    );
    world.says(streams[1], b"fs");
    world.settle();
    assert_eq!(
        diary.borrow().news,
        [(1, 0, Notification::Closed)],
        "from when the FIN was asked for"
    );
    let mut heard = world.hears(streams[0]);
    assert_eq!(
        world.kernel().peer_hears(streams[0], 1),
        Heard::Nothing,
        "it comes behind the rest"
    );
    world.settle();
    heard.extend(world.hears(streams[0]));
    world.settle();
    assert!(heard == text_of(1, 0, 15_000));
    assert_eq!(world.kernel().peer_hears(streams[0], 1), Heard::Fin);
    world.says(streams[0], b"On and on");
    world.settle();
    assert_eq!(world.hears(streams[1]), b"On and on");
    world.kernel().peer_finishes(streams[0]);
    world.settle();
    assert_eq!(
        world.ending_of(1),
        Some(CloseReason::Finished),
        "both have said all, and it is over at once"
    );
    assert_eq!(world.take_calls().into_iter().filter(|&call| call == "shutdown").count(), 1);
    leave(world, &streams[1..]);
}

/// The end of each direction, in either order: whoever has heard the peer's FIN and pauses is there for what others still send.
#[test]
fn a_connection_ends_when_both_directions_have_and_not_before() {
    for ours_comes_first in [true, false] {
        let (mut world, streams, diary) = room(
            2,
            |word, members, cx| {
                match word {
                    b"f" => cx.shutdown_write(members[0]),
                    b"r" => cx.resume(members[0]),
                    b"w" => cx.monitor(members[0]),
                    b"" => return Next::Pause,
                    _ => cx.send_to(members[0], word),
                }
                Next::Continue
            },
            |_, _, _| Next::Continue,
        );
        let finish = |world: &mut World, is_ours: bool| {
            if is_ours {
                world.says(streams[1], b"f");
            } else {
                world.kernel().peer_finishes(streams[0]);
            }
            world.settle();
        };
        world.says(streams[1], b"w");
        finish(&mut world, ours_comes_first);
        // To resume who hears nothing more, and to tell it news, ends nothing.
        world.says(streams[1], b"ra");
        world.settle();
        assert_eq!(world.ending_of(1), None);
        assert_eq!(world.hears(streams[0]), if ours_comes_first { &b""[..] } else { b"a" });
        finish(&mut world, !ours_comes_first);
        assert_eq!(world.ending_of(1), Some(CloseReason::Finished), "at once");
        assert_eq!(diary.borrow().news.last(), Some(&(1, 0, Notification::Closed)));
        leave(world, &streams[1..]);
    }
}

#[test]
fn a_protocol_that_speaks_after_its_fin_ends_its_connection() {
    let (mut world, streams, _) = room(
        1,
        |word, _, cx| {
            match word {
                b"f" => cx.shutdown_write(cx.id()),
                _ => cx.send(word),
            }
            Next::Continue
        },
        stay,
    );
    world.says(streams[0], b"af");
    world.settle();
    assert_eq!((world.hears(streams[0]), world.ending_of(1)), (b"a".to_vec(), None));
    world.says(streams[0], b"b");
    world.settle();
    assert_eq!(world.ending_of(1), Some(CloseReason::WriteAfterShutdown));
    world.stop();
}

/// Its deadline may come in the very turn in which it is closed, before it has been driven again.
#[test]
fn who_is_closed_in_the_turn_in_which_its_deadline_comes_closes_in_order() {
    let (mut world, streams, _) = room(
        2,
        |_, members, cx| {
            cx.close(members[0]);
            Next::Continue
        },
        stay,
    );
    world.says(streams[1], b"x");
    world.be_held_up(61_000);
    world.settle();
    assert_eq!(
        (world.ending_of(1), world.hears_at_last(streams[0])),
        (None, Heard::Fin),
        "it lingers"
    );
    world.kernel().peer_closes(streams[0]);
    world.settle();
    assert_eq!(world.ending_of(1), Some(CloseReason::Finished));
    leave(world, &streams[1..]);
}

// ---- watching

#[test]
fn who_watches_is_told_once_of_the_end_and_at_once_if_that_was_before() {
    let (mut world, streams, diary) = room(
        3,
        |word, members, cx| {
            if word == b"w" {
                cx.monitor(members[0]);
                cx.monitor(members[0]);
            }
            Next::Continue
        },
        stay,
    );
    world.says(streams[1], b"w");
    world.settle();
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.settle();
    assert_eq!(diary.borrow().news, [(1, 0, Notification::Closed)]);
    world.says(streams[2], b"w");
    world.settle();
    assert_eq!(
        diary.borrow().news[1..],
        [(2, 0, Notification::Closed), (2, 0, Notification::Closed)],
        "each time that it asks"
    );
    leave(world, &streams[1..]);
}

// ---- bounds

/// Two who answer all news with a send to one that has gone would go on for ever, and do: but in each turn once.
#[test]
fn news_that_is_answered_with_effects_holds_up_nobody() {
    let (mut world, streams, diary) = room(
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
    world.settle();
    world.says(streams[1], b"g");
    for turns in 1..=50 {
        world.says(streams[2], b"x");
        world.turn();
        assert_eq!(world.hears(streams[2]), b"x", "in that very turn");
        assert_eq!(diary.borrow().news.len(), turns, "once a turn");
    }
    world.kernel().fail(streams[1], crate::testing::simulated::errno::ECONNRESET);
    leave(world, &streams[2..]);
}

#[test]
fn a_pipeline_that_sets_off_much_is_interrupted_and_goes_on() {
    let (mut world, streams, _) = room(
        2,
        |word, members, cx| {
            cx.send_to(members[0], word);
            Next::Continue
        },
        stay,
    );
    let words = text_of(1, 0, 3 * EFFECTS_HIGH_WATERMARK + 5);
    world.says(streams[1], &words);
    let mut heard = Vec::new();
    let mut turns = 0;
    while heard.len() < words.len() {
        world.turn();
        turns += 1;
        let more = world.hears(streams[0]);
        assert!(
            more.len() <= 2 * EFFECTS_HIGH_WATERMARK,
            "{} in turn {turns}: what two turns may set off",
            more.len()
        );
        heard.extend(more);
    }
    assert_eq!(
        turns, 4,
        "one for each mark's worth, and one for the rest; without the mark it would be two"
    );
    assert!(heard == words);
    leave(world, &streams);
}

#[test]
fn a_call_that_asks_for_more_than_may_be_costs_its_own_connection() {
    let (mut world, streams, diary) = room(
        2,
        |word, members, cx| {
            if word == b"!" {
                cx.send_to_all(std::iter::repeat_n(members[0], EFFECTS_MAX + 1), b"");
            }
            Next::Continue
        },
        stay,
    );
    world.says(streams[1], b"!");
    world.settle();
    assert_eq!(
        (world.ending_of(2), world.stats().panics),
        (Some(CloseReason::ProtocolPanicked), 1)
    );
    assert_eq!((world.ending_of(1), diary.borrow().news.len()), (None, 0));
    leave(world, &streams[..1]);
}

/// Of a name that was never given out nothing may stay behind.
#[test]
fn a_call_that_is_one_effect_too_many_leaves_no_name_behind() {
    let (mut world, streams, _) = room(
        1,
        |_, members, cx| {
            cx.send_to_all(std::iter::repeat_n(members[0], EFFECTS_MAX), b"");
            cx.connect(peer(9), crate::echo::Echo::new());
            Next::Continue
        },
        stay,
    );
    world.says(streams[0], b"!");
    world.settle();
    assert_eq!(world.ending_of(1), Some(CloseReason::ProtocolPanicked));
    world.stop(); // which looks whether anything is left
}

/// What one crowd has had told takes memory while it is told.
#[test]
fn the_memory_of_much_news_is_given_back() {
    let (mut world, streams, _) = room(
        2,
        |_, members, cx| {
            cx.send_to_all(std::iter::repeat_n(members[0], 100_000), b"x");
            Next::Continue
        },
        stay,
    );
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.settle();
    world.says(streams[1], b"x");
    world.turn();
    world.settle();
    assert!(world.reactor().effects.notification_capacity() <= EFFECTS_HIGH_WATERMARK);
    leave(world, &streams[1..]);
}

#[test]
fn what_was_asked_for_before_a_panic_is_done() {
    let (mut world, streams, _) = room(
        3,
        |word, members, cx| {
            cx.send_to_all(members[..2].iter().copied(), b"farewell");
            assert_ne!(word, b"!", "this is the panic");
            Next::Continue
        },
        stay,
    );
    world.says(streams[2], b"!");
    world.settle();
    assert_eq!(world.ending_of(3), Some(CloseReason::ProtocolPanicked));
    assert_eq!([world.hears(streams[0]), world.hears(streams[1])], [b"farewell", b"farewell"]);
    leave(world, &streams[..2]);
}

#[test]
fn a_panic_while_news_is_told_costs_who_was_told_and_the_others_are_told_too() {
    let (mut world, streams, diary) = room(
        4,
        |word, members, cx| {
            if word == b"w" {
                cx.monitor(members[0]);
            }
            Next::Continue
        },
        |_, _, cx| {
            assert_ne!(cx.peer(), peer(3).into(), "this is the panic");
            Next::Unchanged
        },
    );
    for &stream in &streams[1..] {
        world.says(stream, b"w");
    }
    world.settle();
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.settle();
    assert_eq!(
        diary.borrow().news,
        [(1, 0, Notification::Closed), (2, 0, Notification::Closed), (3, 0, Notification::Closed)]
    );
    assert_eq!(
        [2, 3, 4].map(|number| world.ending_of(number)),
        [None, Some(CloseReason::ProtocolPanicked), None]
    );
    leave(world, &[streams[1], streams[3]]);
}

/// The mark at which a sender is told, exactly.
#[test]
fn as_much_as_the_high_mark_is_not_over_it() {
    let (mut world, streams, diary) = room(
        2,
        |word, members, cx| {
            let count = if word == b"a" { HIGH_WATERMARK_BYTES } else { 1 };
            cx.send_to(members[0], &vec![0; count]);
            Next::Continue
        },
        stay,
    );
    world.says(streams[1], b"a");
    world.turn();
    assert_eq!(diary.borrow().news, []);
    world.says(streams[1], b"ab");
    world.settle();
    assert_eq!(diary.borrow().news, [(1, 0, Notification::AboveHighWatermark)]);
    leave(world, &streams);
}

// ---- shares

/// What is for nobody is not kept for anybody, nor does it take the room of what is for somebody.
#[test]
fn what_is_sent_to_nobody_is_forgotten() {
    let (mut world, streams, _) = room(
        2,
        |word, members, cx| {
            match word {
                b"-" => cx.send_to_all([], &vec![0; EFFECTS_HIGH_WATERMARK_BYTES]),
                _ => cx.send_to(members[0], word),
            }
            Next::Continue
        },
        stay,
    );
    for _ in 0..100 {
        world.says(streams[1], b"-");
        world.settle();
        assert!(world.reactor().effects.bytes.is_empty());
    }
    world.says(streams[1], b"x");
    world.settle();
    assert_eq!((world.hears(streams[0]), world.stats().sends_rejected), (b"x".to_vec(), 0));
    leave(world, &streams);
}

/// A pipeline of words, each of which puts a mebibyte to another, is interrupted as one that sets off many effects is. Else
/// the later ones would find no room, though each of them asks for little.
#[test]
fn a_pipeline_that_sends_much_is_interrupted_too() {
    let (mut world, streams, _) = room(
        72,
        |word, members, cx| {
            cx.send_to(members[usize::from(word[0])], &vec![word[0]; EFFECTS_HIGH_WATERMARK_BYTES]);
            Next::Continue
        },
        stay,
    );
    let words: Vec<u8> = (1..72).collect();
    world.says(streams[0], &words);
    world.settle();
    assert_eq!(world.stats().sends_rejected, 0);
    let effects = &world.reactor().effects;
    assert!(
        effects.bytes.capacity() <= 4 * EFFECTS_HIGH_WATERMARK_BYTES,
        "{} bytes were held at once",
        effects.bytes.capacity()
    );
    leave(world, &streams);
}

/// A hundred who each set off as much as one may share a turn as they would share it for bytes. Who has not had its turn has it
/// in the next one, before those who had.
#[test]
fn what_all_set_off_in_one_turn_is_bounded() {
    let (mut world, streams, _) = room(
        100,
        |_, members, cx| {
            cx.send_to(members[0], b"");
            cx.send(b"!");
            Next::Continue
        },
        stay,
    );
    for &stream in &streams {
        world.says(stream, &[b'x'; EFFECTS_HIGH_WATERMARK]);
    }
    let at_most =
        usize::try_from(TURN_BYTES_MAX / EFFECT_BYTES).unwrap().div_ceil(EFFECTS_HIGH_WATERMARK);
    let mut had_their_turn = 0;
    for turns in 1..=100usize.div_ceil(at_most) {
        world.turn();
        let now = streams.iter().filter(|&&stream| !world.hears(stream).is_empty()).count();
        assert!(now <= at_most, "{now} in turn {turns}");
        had_their_turn += now;
    }
    assert_eq!(had_their_turn, 100, "each once");
    leave(world, &streams);
}

/// And so is what comes of news and of alarms, when nobody is left to be put off.
#[test]
fn what_is_set_off_when_everybody_has_been_driven_has_a_bound_of_its_own() {
    let much = |members: &[ConnectionId], cx: &mut Context<'_>| {
        let count = usize::try_from(TURN_BYTES_MAX / EFFECT_BYTES).unwrap();
        cx.send_to_all(std::iter::repeat_n(members[0], count), b"");
    };
    struct Late(Rc<RefCell<Diary>>, fn(&[ConnectionId], &mut Context<'_>));
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
            self.0.borrow_mut().drained.push(0);
            Next::Continue
        }
        fn notified(&mut self, _: ConnectionId, news: Notification, cx: &mut Context<'_>) -> Next {
            if news == Notification::Closed {
                (self.1)(&self.0.borrow().members[1..], cx);
                self.0.borrow_mut().news.push((0, 0, news));
            }
            Next::Unchanged
        }
    }
    let mut world = World::calm();
    let diary: Rc<RefCell<Diary>> = Rc::default();
    let shared = diary.clone();
    world.serve(ROOM, move |_| Late(shared.clone(), much));
    let streams: Vec<usize> = (1..=5).map(|number| world.connect(ROOM, number)).collect();
    world.settle();
    streams[1..].iter().for_each(|&stream| world.says(stream, b"x"));
    world.turn();
    world.be_held_up(10);
    for rung in 1..=4 {
        world.turn();
        assert_eq!(diary.borrow().drained.len(), rung, "one alarm in each turn");
    }
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.settle();
    assert_eq!((diary.borrow().news.len(), world.stats().panics), (4, 0));
    leave(world, &streams[1..]);
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
    let mut world = World::calm();
    let all: Rc<RefCell<Vec<ConnectionId>>> = Rc::default();
    let shared = all.clone();
    world.serve(ROOM, move |_| Herald(shared.clone()));
    let streams: Vec<usize> = (1..=5).map(|number| world.connect(ROOM, number)).collect();
    for come in 1..=5 {
        world.turn();
        assert_eq!(all.borrow().len(), come);
    }
    world.settle();
    leave(world, &streams);
}

/// Where each turn makes more news than one tells, what waits grows no further than to some turns' worth.
#[test]
fn news_that_comes_faster_than_it_is_told_has_a_bound() {
    const OF_ONE_TURN: usize = 20 * NOTIFICATIONS_PER_TURN;
    let (mut world, streams, _) = room(
        2,
        |_, members, cx| {
            cx.send_to_all(std::iter::repeat_n(members[0], OF_ONE_TURN), b"");
            Next::Continue
        },
        stay,
    );
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.settle();
    for turn in 0..100 {
        world.says(streams[1], b"!");
        world.turn();
        let untold = world.reactor().effects.pending_notifications();
        assert!(
            untold <= NOTIFICATIONS_PENDING_DIVISOR * OF_ONE_TURN,
            "{untold} after {turn} turns"
        );
    }
    world.settle();
    leave(world, &streams[1..]);
}

/// So is what is told in one turn.
#[test]
fn much_news_is_told_in_several_turns() {
    let count = 2 * NOTIFICATIONS_PER_TURN + 1;
    let (mut world, streams, diary) = room(
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
        stay,
    );
    world.kernel().fail(streams[0], crate::testing::simulated::errno::ECONNRESET);
    world.settle();
    world.says(streams[1], b"!");
    let mut told = 0;
    while told < count {
        world.says(streams[2], b"x");
        world.turn();
        assert_eq!(world.hears(streams[2]), b"x", "others have their share");
        let more = diary.borrow().news.len() - told;
        assert_eq!(more, NOTIFICATIONS_PER_TURN.min(count - told));
        told += more;
    }
    leave(world, &streams[1..]);
}

// ---- who waits for another

/// Somebody who has paused until another drains does nothing itself for as long as that takes: half an hour, if the other reads
/// slowly but steadily. It is still there then, and not taken for idle.
#[test]
fn who_waits_for_a_slow_but_steady_reader_is_not_idle() {
    let (mut world, streams, diary) = room(
        2,
        |_, members, cx| {
            cx.send_to(members[0], &text_of(1, 0, 1_000_000));
            Next::Pause
        },
        |_, news, _| {
            if news == Notification::BelowLowWatermark { Next::Continue } else { Next::Unchanged }
        },
    );
    world.kernel().silence_us_max = u64::MAX;
    world.says(streams[1], b"x");
    let (mut heard, mut rounds) = (Vec::new(), 0);
    while diary.borrow().news
        != [(1, 0, Notification::AboveHighWatermark), (1, 0, Notification::BelowLowWatermark)]
    {
        heard.extend(world.hears(streams[0]));
        world.live(20_000); // below the time in which some of it must be taken
        rounds += 1;
        assert_eq!(
            (world.ending_of(1), world.ending_of(2)),
            (None, None),
            "after {} s",
            rounds * 20
        );
    }
    assert!(rounds > 30 * 3, "half an hour");
    // And from then on its own time counts again.
    heard.extend(world.hears(streams[0]));
    world.says(streams[1], b"x");
    while diary.borrow().news.len() < 3 {
        world.live(1);
    }
    // The other one reads no more. Who waits for it is told, and from then on has its own time, but not for ever.
    while diary.borrow().news.len() < 4 {
        world.live(1_000);
    }
    world.live(50_000);
    assert_eq!((world.ending_of(1), world.ending_of(2)), (Some(CloseReason::WriteTimeout), None));
    world.live(150_000);
    assert_eq!(
        (world.ending_of(1), world.ending_of(2)),
        (Some(CloseReason::WriteTimeout), Some(CloseReason::IdleTimeout))
    );
    assert_eq!(diary.borrow().news[3..], [(1, 0, Notification::Closed)]);
    leave(world, &[]);
}

// ---- aborting

#[test]
fn who_is_aborted_is_reset_whatever_it_was_about_to_do() {
    let (mut world, streams, diary) = room(
        5,
        |word, members, cx| {
            match word {
                b"m" => (0..3).for_each(|other| cx.send_to(members[other], &text_of(1, 0, 50_000))),
                b"c" => cx.close(members[1]),
                b"w" => (0..4).for_each(|other| cx.monitor(members[other])),
                b"p" => return Next::Pause,
                b"a" => (0..4).for_each(|other| cx.abort(members[other])),
                _ => {}
            }
            Next::Continue
        },
        stay,
    );
    // One listens and much waits, one closes, one has paused, one is idle.
    world.says(streams[2], b"p");
    world.says(streams[4], b"wmc");
    world.settle();
    world.says(streams[4], b"a");
    world.settle();
    for number in 1..=4 {
        assert_eq!(world.ending_of(number), Some(CloseReason::Aborted), "{number}");
    }
    for &stream in &streams[..4] {
        assert_eq!(world.hears_at_last(stream), Heard::Reset);
    }
    assert_eq!(diary.borrow().news, [0, 1, 2, 3].map(|about| (4, about, Notification::Closed)));
    // Who has gone is left alone.
    world.says(streams[4], b"a");
    world.settle();
    assert_eq!(world.ending_of(5), None);
    leave(world, &streams[4..]);
}
