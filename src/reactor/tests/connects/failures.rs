//! Connects that fail, one cause at a time.

use super::*;

/// Calls, lives for a while, and looks what came of it: the protocol and the caller are told the same, once.
fn check_unreached(mut scene: Scene, live_ms: u64, kind: ErrorKind) {
    scene.call(b'x');
    scene.world.live(live_ms);
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
    let turns = scene.world.live(699);
    assert_eq!((scene.closed(), turns), (None, 1), "it waits, and does nothing else");
    scene.world.live(2);
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
    scene.world.be_held_up(1000);
    scene.world.settle();
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
    scene.world.kernel().faults.failed_watches = 1000;
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
        scene.world.live(100);
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
    scene.world.live(20);
    assert_eq!(first.slot, second.slot, "its place has been given to the next");
    assert_eq!(scene.world.reactor().send_to(first, b"for the first"), Some(Notification::Closed));
    assert_eq!(scene.world.reactor().send_to(second, b"!"), None);
    scene.world.settle();
    let stream = scene.called();
    assert_eq!(scene.world.hears(stream), b"hello!");
    scene.end();
}
