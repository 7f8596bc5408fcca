//! Connections that we begin, one thing at a time.

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

const ANSWERS: Host = Host::Accepts { after_us: 20_000, buffer_bytes: 1 << 20 };

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
        world.run_until_blocked();
        Scene { world, peer, diary }
    }

    fn calm(is: Host, word: fn(u8, ConnectionId, &mut Context<'_>)) -> Scene {
        Scene::new(Limits::default(), Faults::default(), Some(is), word)
    }

    fn call(&mut self, word: u8) {
        self.world.peer_sends(self.peer, &[word]);
        self.world.run_until_blocked();
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
        self.world.ledger.borrow().close_reason_of(host())
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
        self.world.run_until_blocked();
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
    scene.world.run_for(20);
    assert_eq!((scene.news(), scene.diary.borrow().opened), (vec![Notification::Connected], 1));
    let stream = scene.called();
    assert_eq!(scene.world.peer_receives_all(stream), b"hello");
    scene.world.peer_sends(stream, b"and hello to you");
    scene.world.run_until_blocked();
    assert_eq!(scene.diary.borrow().heard, b"and hello to you");
    scene.world.kernel().peer_closes(stream);
    scene.world.run_until_blocked();
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
    scene.world.run_for(20);
    let stream = scene.called();
    assert_eq!(scene.world.peer_receives_all(stream), b"early, and earlier than you: hello");
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
    scene.world.run_for(20);
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
        scene.world.run_for(20);
        assert_eq!(scene.news()[1..], [Notification::Connected]);
        let stream = scene.called();
        assert_eq!(scene.world.peer_receives_all(stream), b"only this, and hello");
        assert_eq!(scene.world.kernel().peer_receives(stream, 1), PeerReceived::Fin);
        scene.world.peer_sends(stream, b"a late answer");
        scene.world.run_until_blocked();
        let heard = scene.diary.borrow().heard.clone();
        assert_eq!(
            heard,
            if how == b'f' { &b"a late answer"[..] } else { b"" },
            "who has finished hears on"
        );
        scene.world.run_for(3000);
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
        scene.world.kernel().queue_spurious_event(descriptor, bits);
        scene.world.run_until_blocked();
        assert_eq!((scene.diary.borrow().opened, scene.closed()), (0, None), "{bits:#x}");
    }
    scene.world.run_for(20);
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
        scene.world.deschedule(25);
        // As `note` does.
        let token = scene.world.reactor().effects.slot_of(id).unwrap();
        scene.world.reactor().slots[token].ready.writable = true;
        assert_eq!(
            scene.world.reactor().send_to(id, &text_of(1, 0, 100_000)),
            Some(Notification::AboveHighWatermark)
        );
        let sends = scene.world.take_calls().into_iter().filter(|&call| call == "send").count();
        assert_eq!(sends, 0, "nobody has asked yet whether it has been reached");
        scene.world.run_until_blocked();
        assert_eq!((scene.news(), scene.closed()), (vec![news], why));
        scene.end();
    }
}

// ---- not reached

/// Calls, lives for a while, and looks what came of it: the protocol and the caller are told the same, once.
fn check_unreached(mut scene: Scene, live_ms: u64, kind: ErrorKind) {
    scene.call(b'x');
    scene.world.run_for(live_ms);
    assert_eq!(scene.closed(), Some(CloseReason::ConnectFailed(kind)));
    assert_eq!(scene.news(), [Notification::ConnectFailed(kind)]);
    assert_eq!(scene.diary.borrow().opened, 0);
    let id = scene.diary.borrow().last_called.unwrap();
    assert_eq!(scene.world.reactor().send_to(id, b"x"), Some(Notification::Closed));
    assert_eq!((scene.world.stats().connected, scene.world.stats().connects_failed), (0, 1));
    scene.end();
}

#[test]
fn a_refusal_is_told() {
    let refuses = Host::Fails { after_us: 30_000, error: errno::ECONNREFUSED };
    check_unreached(Scene::calm(refuses, nothing), 31, ErrorKind::ConnectionRefused);
    check_unreached(
        Scene::calm(refuses, |_, id, cx| cx.send_to(id, b"lost")),
        31,
        ErrorKind::ConnectionRefused,
    );
    check_unreached(
        Scene::new(Limits::default(), Faults::default(), None, nothing),
        1,
        ErrorKind::ConnectionRefused,
    );
}

#[test]
fn who_cannot_be_reached_is_told_whether_that_is_known_at_once_or_later() {
    for host in [
        Host::Fails { after_us: 3_000_000, error: errno::EHOSTUNREACH },
        Host::Unreachable { error: errno::EHOSTUNREACH },
    ] {
        check_unreached(Scene::calm(host, nothing), 3001, ErrorKind::HostUnreachable);
    }
}

#[test]
fn who_never_answers_is_given_up_in_time() {
    let limits = Limits { connect_timeout_ms: 700, ..Limits::default() };
    let mut scene =
        Scene::new(limits.clone(), Faults::default(), Some(Host::Silent), |_, id, cx| {
            cx.send_to(id, b"lost");
        });
    scene.call(b'x');
    let turns = scene.world.run_for(699);
    assert_eq!((scene.closed(), turns), (None, 1), "it waits, and does nothing else");
    scene.world.run_for(2);
    assert_eq!(scene.closed(), Some(CloseReason::ConnectFailed(ErrorKind::TimedOut)));
    scene.end();
    check_unreached(
        Scene::new(limits, Faults::default(), Some(Host::Silent), nothing),
        702,
        ErrorKind::TimedOut,
    );
}

#[test]
fn an_answer_in_time_to_a_loop_that_is_late_is_heard() {
    let limits = Limits { connect_timeout_ms: 700, ..Limits::default() };
    let mut scene = Scene::new(limits, Faults::default(), Some(ANSWERS), nothing);
    scene.call(b'x');
    scene.world.deschedule(1000);
    scene.world.run_until_blocked();
    assert_eq!((scene.news(), scene.closed()), (vec![Notification::Connected], None));
    scene.end();
}

#[test]
fn a_call_without_a_descriptor_fails_and_leaves_nothing() {
    // The poll, the bell, the listener, and the caller.
    let faults = Faults { descriptors_max: 5, ..Faults::default() };
    let mut scene = Scene::new(Limits::default(), faults, Some(ANSWERS), nothing);
    let open = scene.world.kernel().descriptors_open();
    scene.world.kernel().faults.descriptors_max = open;
    scene.call(b'x');
    let Some(CloseReason::ConnectFailed(kind)) = scene.closed() else {
        panic!("{:?}", scene.closed())
    };
    assert_eq!(scene.news(), [Notification::ConnectFailed(kind)]);
    assert_eq!(scene.world.kernel().descriptors_open(), open);
    scene.end();
}

#[test]
fn a_call_that_cannot_be_watched_fails_and_leaves_nothing() {
    let mut scene = Scene::calm(ANSWERS, nothing);
    scene.world.kernel().faults.failed_registrations = 1000;
    let open = scene.world.kernel().descriptors_open();
    scene.call(b'x');
    let Some(CloseReason::ConnectFailed(kind)) = scene.closed() else {
        panic!("{:?}", scene.closed())
    };
    assert_eq!(
        (scene.news(), scene.world.kernel().descriptors_open()),
        (vec![Notification::ConnectFailed(kind)], open)
    );
    scene.end();
}

#[test]
fn a_full_house_calls_nobody() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    check_unreached(
        Scene::new(limits, Faults::default(), Some(ANSWERS), nothing),
        30,
        ErrorKind::QuotaExceeded,
    );
}

/// Why it failed comes first, however soon that is known: who gives up when it hears that the other has gone would else never
/// learn it.
#[test]
fn why_a_call_has_failed_is_told_before_that_it_is_over() {
    let full = Limits { connections_max: 1, ..Limits::default() };
    for (limits, kind) in
        [(full, ErrorKind::QuotaExceeded), (Limits::default(), ErrorKind::ConnectionRefused)]
    {
        let is = Some(Host::Fails { after_us: 20_000, error: errno::ECONNREFUSED });
        let mut scene = Scene::new(limits, Faults::default(), is, |_, id, cx| {
            cx.monitor(id);
            cx.send_to(id, b"hello");
        });
        scene.call(b'x');
        scene.world.run_for(100);
        let news = scene.news();
        assert_eq!(news[0], Notification::ConnectFailed(kind));
        assert!(
            news.len() > 1 && news[1..].iter().all(|&news| news == Notification::Closed),
            "{news:?}"
        );
        scene.end();
    }
}

#[test]
fn who_is_aborted_before_it_answers_is_given_up() {
    let mut scene = Scene::calm(Host::Silent, |word, id, cx| {
        cx.send_to(id, b"hello");
        if word == b'a' {
            cx.abort(id);
        }
    });
    scene.call(b'a');
    assert_eq!(
        (scene.closed(), scene.news()),
        (Some(CloseReason::Aborted), vec![Notification::Closed])
    );
    scene.end();
}

#[test]
fn a_name_of_a_call_that_failed_is_not_the_next_ones() {
    let mut scene = Scene::calm(Host::Unreachable { error: errno::ENETUNREACH }, nothing);
    scene.call(b'x');
    let first = scene.diary.borrow().last_called.unwrap();
    scene.world.kernel().hosts.insert(host(), ANSWERS);
    scene.call(b'x');
    let second = scene.diary.borrow().last_called.unwrap();
    scene.world.run_for(20);
    assert_eq!(first.slot, second.slot, "its place has been given to the next");
    assert_eq!(scene.world.reactor().send_to(first, b"for the first"), Some(Notification::Closed));
    assert_eq!(scene.world.reactor().send_to(second, b"!"), None);
    scene.world.run_until_blocked();
    let stream = scene.called();
    assert_eq!(scene.world.peer_receives_all(stream), b"hello!");
    scene.end();
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
        scene.world.kernel().signal_stop();
        scene.world.run_for(150);
        match hears {
            Some(bytes) => {
                assert_eq!(scene.world.peer_receives_all(stream), bytes);
                assert_eq!(scene.world.kernel().peer_receives(stream, 1), PeerReceived::Fin);
                scene.world.kernel().peer_closes(stream);
                scene.world.run_until_blocked();
            }
            None => {
                assert_eq!(scene.world.kernel().streams[stream].descriptor, None, "it is closed");
            }
        }
        assert_eq!(scene.closed(), Some(why));
        let peer = scene.peer;
        scene.world.kernel().peer_closes(peer);
        scene.world.run_until_blocked();
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
        let mut world = World::without_faults();
        world.kernel().hosts.insert(host(), is);
        let diary = Shared::default();
        let ledger = world.ledger.clone();
        let protocol = Witnessed::new(Called { diary: diary.clone() }, host(), &ledger);
        let id = world.reactor().connect(host(), protocol);
        let news = if kind.is_some() { Some(Notification::Closed) } else { None };
        assert_eq!(world.reactor().send_to(id, b"Well, "), news);
        world.run_for(21);
        assert_eq!(diary.borrow().opened, u64::from(kind.is_none()));
        assert_eq!(ledger.borrow().close_reason_of(host()), kind.map(CloseReason::ConnectFailed));
        if kind.is_none() {
            let stream =
                world.kernel().streams.iter().position(|stream| stream.peer == host()).unwrap();
            assert_eq!(world.peer_receives_all(stream), b"Well, hello");
            world.kernel().peer_closes(stream);
            world.run_until_blocked();
        }
        world.stop();
    }
}
