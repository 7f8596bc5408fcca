//! Connections that we begin, one thing at a time.
mod failures;

use std::io::ErrorKind;

use super::protocols::text_of;
use super::*;
use crate::protocol::notification::Notification;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Host;

const FRONT: u16 = 5000;

/// What has become of those who were called, and what has been heard.
#[derive(Default)]
struct Diary {
    /// Whoever called, and what it was told.
    news: Vec<Notification>,
    opened: u64,
    heard: Vec<u8>,
    last_called: Option<ConnectionId>,
}

type Shared = Rc<RefCell<Diary>>;

/// Calls a host for each word that its peer says, and does what the word says.
struct Caller {
    diary: Shared,
    ledger: Rc<RefCell<Ledger>>,
    word: fn(u8, ConnectionId, &mut Context<'_>),
}

impl Protocol for Caller {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let id = cx.connect(
            host(),
            Witnessed::new(Called { diary: self.diary.clone() }, host(), &self.ledger),
        );
        self.diary.borrow_mut().last_called = Some(id);
        (self.word)(input[0], id, cx);
        Advance::consumed(1)
    }

    fn notified(&mut self, about: ConnectionId, news: Notification, _: &mut Context<'_>) -> Next {
        let mut diary = self.diary.borrow_mut();
        assert_eq!(Some(about), diary.last_called);
        diary.news.push(news);
        Next::Unchanged
    }
}

/// Says hello, and hears what comes.
struct Called {
    diary: Shared,
}

impl Protocol for Called {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.diary.borrow_mut().opened += 1;
        cx.send(b"hello");
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
        self.diary.borrow_mut().heard.extend_from_slice(input);
        Advance::consumed(input.len())
    }
}

/// Who is called.
fn host() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], 80))
}

const ANSWERS: Host = Host::Answers { after_us: 20_000, room_max: 1 << 20 };

/// A world in which a peer has told a caller to call, and what has come of it is seen.
struct Scene {
    world: World,
    peer: usize,
    diary: Shared,
}

impl Scene {
    fn new(
        limits: Limits,
        faults: Faults,
        is: Option<Host>,
        word: fn(u8, ConnectionId, &mut Context<'_>),
    ) -> Scene {
        let mut world = World::new(1, limits, faults);
        if let Some(is) = is {
            world.kernel().hosts.insert(host(), is);
        }
        let diary = Shared::default();
        let shared = diary.clone();
        let ledger = world.ledger.clone();
        world.serve(FRONT, move |_| Caller { diary: shared.clone(), ledger: ledger.clone(), word });
        let peer = world.connect(FRONT, 1);
        world.settle();
        Scene { world, peer, diary }
    }

    fn calm(is: Host, word: fn(u8, ConnectionId, &mut Context<'_>)) -> Scene {
        Scene::new(Limits::default(), Faults::default(), Some(is), word)
    }

    fn call(&mut self, word: u8) {
        self.world.says(self.peer, &[word]);
        self.world.settle();
    }

    /// The stream to who was called.
    fn called(&self) -> usize {
        self.world
            .kernel()
            .streams
            .iter()
            .position(|stream| stream.peer == host())
            .expect("it was called")
    }

    fn closed(&self) -> Option<CloseReason> {
        self.world.ledger.borrow().ending_of(host())
    }

    fn news(&self) -> Vec<Notification> {
        self.diary.borrow().news.clone()
    }

    /// Everybody goes, and nothing is left.
    fn end(mut self) {
        let streams = self.world.kernel().streams.len();
        for stream in 0..streams {
            let is_open = self.world.kernel().streams[stream].descriptor.is_some();
            if is_open {
                self.world.kernel().fail(stream, errno::ECONNRESET);
            }
        }
        self.world.settle();
        self.world.stop();
    }
}

fn nothing(_: u8, _: ConnectionId, _: &mut Context<'_>) {}

// ---- reached

#[test]
fn who_is_called_is_spoken_to_when_it_answers_and_the_caller_is_told() {
    let mut scene = Scene::calm(ANSWERS, nothing);
    scene.call(b'x');
    assert_eq!((scene.news(), scene.diary.borrow().opened), (vec![], 0), "it has not answered yet");
    scene.world.live(20);
    assert_eq!((scene.news(), scene.diary.borrow().opened), (vec![Notification::Connected], 1));
    let stream = scene.called();
    assert_eq!(scene.world.hears(stream), b"hello");
    scene.world.says(stream, b"and hello to you");
    scene.world.settle();
    assert_eq!(scene.diary.borrow().heard, b"and hello to you");
    scene.world.kernel().peer_closes(stream);
    scene.world.settle();
    assert_eq!(scene.closed(), Some(CloseReason::Finished));
    assert_eq!((scene.world.stats().connected, scene.world.stats().connects_failed), (1, 0));
    scene.end();
}

#[test]
fn what_is_sent_before_the_answer_waits_and_leaves_first() {
    let mut scene = Scene::calm(ANSWERS, |_, id, cx| {
        cx.send_to(id, b"early, ");
        cx.send_to(id, b"and earlier than ");
    });
    scene.call(b'x');
    let id = scene.diary.borrow().last_called.unwrap();
    assert_eq!(scene.world.reactor().send_to(id, b"you: "), None);
    scene.world.live(20);
    let stream = scene.called();
    assert_eq!(scene.world.hears(stream), b"early, and earlier than you: hello");
    scene.end();
}

#[test]
fn the_marks_hold_for_who_has_not_answered_yet() {
    let mut scene = Scene::calm(ANSWERS, |_, id, cx| {
        cx.send_to(id, &text_of(1, 0, crate::limits::HIGH_WATERMARK_BYTES + 1));
        cx.send_to(id, &vec![0; crate::limits::OUTPUT_BYTES_MAX]);
    });
    scene.call(b'x');
    assert_eq!(scene.news(), [Notification::AboveHighWatermark, Notification::Rejected]);
    scene.world.live(20);
    assert_eq!(scene.news()[2..], [Notification::Connected, Notification::BelowLowWatermark]);
    scene.end();
}

#[test]
fn who_is_closed_before_it_answers_still_gets_what_was_sent_to_it() {
    for (how, at_last) in [(b'c', Some(CloseReason::Finished)), (b'f', None)] {
        let mut scene = Scene::calm(ANSWERS, |how, id, cx| {
            cx.send_to(id, b"only this, and ");
            if how == b'c' {
                cx.close(id);
            } else {
                cx.shutdown_write(id);
            }
            cx.send_to(id, b"not this");
        });
        scene.call(how);
        assert_eq!(scene.news(), [Notification::Closed], "what was sent too late");
        scene.world.live(20);
        assert_eq!(scene.news()[1..], [Notification::Connected]);
        let stream = scene.called();
        assert_eq!(scene.world.hears(stream), b"only this, and hello");
        assert_eq!(scene.world.kernel().peer_hears(stream, 1), Heard::Fin);
        scene.world.says(stream, b"a late answer");
        scene.world.settle();
        let heard = scene.diary.borrow().heard.clone();
        assert_eq!(
            heard,
            if how == b'f' { &b"a late answer"[..] } else { b"" },
            "who has finished hears on"
        );
        scene.world.live(3000);
        assert_eq!(scene.closed(), at_last);
        scene.end();
    }
}

#[test]
fn an_event_that_decides_nothing_is_no_answer() {
    use crate::testing::simulated::stream::{IN, OUT};
    let mut scene = Scene::calm(ANSWERS, nothing);
    scene.call(b'x');
    let stream = scene.called();
    let descriptor = scene.world.kernel().streams[stream].descriptor.unwrap();
    for bits in [IN, OUT, IN | OUT] {
        scene.world.kernel().raise_false_alarm(descriptor, bits);
        scene.world.settle();
        assert_eq!((scene.diary.borrow().opened, scene.closed()), (0, None), "{bits:#x}");
    }
    scene.world.live(20);
    assert_eq!(scene.diary.borrow().opened, 1);
    scene.end();
}

/// The kernel tells of the answer and of the peer's words at once, and the peer is driven first.
#[test]
fn what_is_sent_between_the_answer_and_its_drive_goes_the_same_way() {
    let fails = Host::Fails { after_us: 20_000, error: errno::ECONNREFUSED };
    for (is, news, why) in [
        (ANSWERS, Notification::Connected, None),
        (
            fails,
            Notification::ConnectFailed(ErrorKind::ConnectionRefused),
            Some(CloseReason::ConnectFailed(ErrorKind::ConnectionRefused)),
        ),
    ] {
        let mut scene = Scene::calm(is, |word, id, cx| {
            if word == b'x' {
                cx.send_to(id, b"early");
            }
        });
        scene.call(b'x');
        let id = scene.diary.borrow().last_called.unwrap();
        scene.world.be_held_up(25);
        // As `note` does.
        let token = scene.world.reactor().effects.slot_of(id).unwrap();
        scene.world.reactor().slots[token].ready.writable = true;
        assert_eq!(
            scene.world.reactor().send_to(id, &text_of(1, 0, 100_000)),
            Some(Notification::AboveHighWatermark)
        );
        let sends = scene.world.take_calls().into_iter().filter(|&call| call == "send").count();
        assert_eq!(sends, 0, "nobody has asked yet whether it has been reached");
        scene.world.settle();
        assert_eq!((scene.news(), scene.closed()), (vec![news], why));
        scene.end();
    }
}

// ---- at a stop

#[test]
fn a_stop_ends_a_call_to_which_nothing_was_said_and_waits_for_the_others() {
    for (host, word, hears, why) in [
        (
            Host::Silent,
            nothing as fn(u8, ConnectionId, &mut Context<'_>),
            None,
            CloseReason::Stopped,
        ),
        (
            ANSWERS,
            |_, id, cx| cx.send_to(id, b"I stop. "),
            Some(b"I stop. hello"),
            CloseReason::Finished,
        ),
    ] {
        let mut scene = Scene::calm(host, word);
        scene.call(b'x');
        let stream = scene.called();
        scene.world.kernel().ring();
        scene.world.live(150);
        match hears {
            Some(bytes) => {
                assert_eq!(scene.world.hears(stream), bytes);
                assert_eq!(scene.world.kernel().peer_hears(stream, 1), Heard::Fin);
                scene.world.kernel().peer_closes(stream);
                scene.world.settle();
            }
            None => {
                assert_eq!(scene.world.kernel().streams[stream].descriptor, None, "it is closed");
            }
        }
        assert_eq!(scene.closed(), Some(why));
        let peer = scene.peer;
        scene.world.kernel().peer_closes(peer);
        scene.world.settle();
        assert!(scene.world.reactor().is_stopped());
        assert_eq!(scene.world.reactor().run().unwrap(), Stopped::Graceful);
        scene.world.stop();
    }
}

// ---- from outside

#[test]
fn a_reactor_calls_before_its_first_turn() {
    for (is, kind) in [
        (ANSWERS, None),
        (Host::Unreachable { error: errno::ENETUNREACH }, Some(ErrorKind::NetworkUnreachable)),
    ] {
        let mut world = World::calm();
        world.kernel().hosts.insert(host(), is);
        let diary = Shared::default();
        let ledger = world.ledger.clone();
        let protocol = Witnessed::new(Called { diary: diary.clone() }, host(), &ledger);
        let id = world.reactor().connect(host(), protocol);
        let news = if kind.is_some() { Some(Notification::Closed) } else { None };
        assert_eq!(world.reactor().send_to(id, b"Well, "), news);
        world.live(21);
        assert_eq!(diary.borrow().opened, u64::from(kind.is_none()));
        assert_eq!(ledger.borrow().ending_of(host()), kind.map(CloseReason::ConnectFailed));
        if kind.is_none() {
            let stream =
                world.kernel().streams.iter().position(|stream| stream.peer == host()).unwrap();
            assert_eq!(world.hears(stream), b"Well, hello");
            world.kernel().peer_closes(stream);
            world.settle();
        }
        world.stop();
    }
}
