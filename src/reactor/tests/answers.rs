//! Late answers in the loop: what wakes it, what a stop waits for, and clients that leave.

use super::*;
use crate::http::content_type::ContentType;
use crate::http::context::HttpContext;
use crate::http::ongoing::Feed;
use crate::http::promise::Promise;
use crate::http::protocol::Http;
use crate::http::request::Request;
use crate::http::responder::Responder;
use crate::http::response::Response;
use crate::http::status::Status;
use crate::limits::MAILBOX_MESSAGES_MAX;
use crate::testing::simulated::errno;

const HTTP: u16 = 8080;

const DEADLINE: Duration = Duration::from_secs(30);

/// Promises every answer, and hands the promises out.
struct Office(Rc<RefCell<Vec<Promise>>>);

impl Responder for Office {
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        let (promise, response) = cx.promise(DEADLINE);
        match request.path() {
            b"/early" => promise.fulfill(hello),
            _ => self.0.borrow_mut().push(promise),
        }
        response
    }
}

fn hello() -> Response<'static> {
    Response::ok(ContentType::TEXT, &b"hello"[..])
}

/// A world with one client for each path, which has sent its request.
fn world_with(selector: Selector, paths: &[&str]) -> (World, Rc<RefCell<Vec<Promise>>>) {
    let mut world = World::with_selector(selector, 1, Limits::default(), Faults::default());
    let promises = Rc::new(RefCell::new(Vec::new()));
    let office = Rc::clone(&promises);
    world.serve(HTTP, move |_| Http::new(Office(Rc::clone(&office))));
    for (index, path) in paths.iter().enumerate() {
        let stream = world.connect(HTTP, u16::try_from(index).unwrap() + 1);
        world.peer_sends(stream, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    }
    (world, promises)
}

fn code_of(world: &mut World, stream: usize) -> String {
    let bytes = world.peer_receives_all(stream);
    bytes.get(9..12).map(|code| String::from_utf8(code.to_vec()).unwrap()).unwrap_or_default()
}

// pitfall: 175
#[test]
fn settled_promise_wakes_a_sleeping_loop() {
    for selector in [Selector::Epoll, Selector::Poll, Selector::Rearming] {
        let (mut world, promises) = world_with(selector, &["/", "/"]);
        world.run_until_blocked();
        promises.borrow_mut().remove(0).fulfill(hello);
        world.reactor().turn(None).unwrap(); // without a wake it would sleep until a deadline
        world.run_until_blocked();
        assert_eq!(code_of(&mut world, 0), "200");
        promises.borrow_mut().clear();
        world.reactor().turn(None).unwrap();
        world.run_until_blocked();
        assert_eq!(code_of(&mut world, 1), "500");
        assert!(world.kernel().now_us() < 1_000_000, "it has not slept");
    }
}

/// The task queue ends when a stop begins. mio's poll(2) selector may lose a wake after that, too.
// pitfall: 175
#[test]
fn lost_wake_of_a_promise_during_a_stop_delays_no_answer() {
    let (mut world, promises) = world_with(Selector::Poll, &["/"]);
    world.run_until_blocked();
    world.reactor().stop();
    world.run_until_blocked();
    promises.borrow_mut().remove(0).fulfill(hello);
    world.kernel().lose_wakes();
    world.reactor().turn(None).unwrap();
    world.run_until_blocked();
    assert_eq!(code_of(&mut world, 0), "200");
    assert!(world.kernel().now_us() < 1_000_000, "it has not slept");
}

// pitfall: 175
#[test]
fn promise_settled_before_the_waker_is_open_is_not_forgotten() {
    let (mut world, _) = world_with(Selector::Epoll, &["/early"]);
    world.run_until_blocked();
    assert_eq!(code_of(&mut world, 0), "200");
    assert!(world.kernel().now_us() < 1_000_000, "it has not slept");
}

// pitfall: 175
#[test]
fn promise_without_a_descriptor_for_a_waker_is_answered_with_500() {
    let (mut world, promises) = world_with(Selector::Epoll, &["/"]);
    world.turn(); // accepts
    let open = world.kernel().descriptors_open();
    world.kernel().faults.descriptors_max = open;
    world.run_until_blocked();
    assert_eq!(code_of(&mut world, 0), "500");
    assert!(!promises.borrow()[0].is_wanted());
    // With a descriptor, the next promise can be kept.
    world.kernel().faults.descriptors_max = usize::MAX;
    world.peer_sends(0, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    world.run_until_blocked();
    promises.borrow_mut().remove(1).fulfill(hello);
    world.run_until_blocked();
    assert_eq!(code_of(&mut world, 0), "200");
}

#[test]
fn answer_is_delivered_to_a_connection_whose_mailbox_is_full() {
    let (mut world, promises) = world_with(Selector::Epoll, &["/"]);
    world.run_until_blocked();
    let id = connection_ids(world.reactor())[0];
    for _ in 0..MAILBOX_MESSAGES_MAX {
        world.reactor().send_message(id, ()).unwrap();
    }
    assert_eq!(world.reactor().send_message(id, ()), Err(SendError::Rejected));
    promises.borrow_mut().remove(0).fulfill(hello);
    world.run_until_blocked();
    assert_eq!(code_of(&mut world, 0), "200");
    assert!(world.reactor().send_message(id, ()).is_ok());
    world.run_until_blocked();
    world.kernel().peer_closes(0);
    world.stop();
}

// pitfall: 174
#[test]
fn client_that_is_gone_wants_no_answer_and_frees_its_slot() {
    let (mut world, promises) = world_with(Selector::Epoll, &["/", "/"]);
    world.run_until_blocked();
    world.kernel().fail(0, errno::ECONNRESET);
    world.kernel().peer_closes(1);
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::PeerReset));
    assert!(!promises.borrow()[0].is_wanted());
    assert!(promises.borrow()[1].is_wanted(), "its FIN alone may be a half-close");
    promises.borrow_mut().drain(..).for_each(|promise| promise.fulfill(hello));
    world.run_until_blocked();
    assert_eq!(world.stats().connections, 0);
}

// pitfall: 176
#[test]
fn stop_waits_for_a_promised_answer_and_closes_after_it() {
    let (mut world, promises) = world_with(Selector::Epoll, &["/"]);
    world.run_until_blocked();
    world.reactor().stop();
    world.run_for(2_000);
    assert!(!world.reactor().is_stopped());
    promises.borrow_mut().remove(0).fulfill(hello);
    world.run_until_blocked();
    let answer = world.peer_receives_all(0);
    assert!(answer.windows(17).any(|part| part == b"Connection: close"));
    world.kernel().peer_closes(0);
    world.run_until_blocked();
    assert!(world.reactor().is_stopped());
    assert_eq!(world.reactor().run().unwrap(), Stopped::Graceful);
}

// pitfall: 176
#[test]
fn stop_is_forced_if_a_promised_answer_does_not_come() {
    let (mut world, promises) = world_with(Selector::Epoll, &["/"]);
    world.run_until_blocked();
    world.reactor().stop();
    world.run_for(20_000);
    assert_eq!(world.reactor().run().unwrap(), Stopped::Forced(1));
    assert!(!promises.borrow()[0].is_wanted());
}

#[test]
fn connection_that_awaits_an_answer_is_not_evicted() {
    let (mut world, promises) = world_with(Selector::Epoll, &["/"]);
    world.run_until_blocked();
    world.run_for(5_000);
    let open = world.kernel().descriptors_open();
    world.kernel().faults.descriptors_max = open;
    world.connect(HTTP, 2);
    world.run_for(2_000);
    assert_eq!((world.stats().evicted, world.stats().accepted), (0, 1));
    promises.borrow_mut().remove(0).fulfill(hello);
    world.run_for(100);
    assert_eq!(code_of(&mut world, 0), "200");
}

#[test]
fn answers_are_counted_by_how_they_end() {
    let (mut world, promises) = world_with(Selector::Epoll, &["/", "/", "/"]);
    world.run_until_blocked();
    promises.borrow_mut().remove(0).fulfill(hello);
    drop(promises.borrow_mut().remove(0));
    world.run_for(ms(DEADLINE) + 1_000);
    let stats = world.stats();
    assert_eq!((stats.answers_promised, stats.answers_dropped, stats.answers_late), (3, 1, 1));
}

/// Begins a body for each request, and hands the feeds out.
struct Viewers(Rc<RefCell<Vec<Feed>>>);

impl Responder for Viewers {
    fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
        Response::ongoing(Status::OK, ContentType::TEXT, |feed, _| self.0.borrow_mut().push(feed))
    }
}

/// A world with two viewers, which have received the head.
fn world_with_viewers() -> (World, Rc<RefCell<Vec<Feed>>>) {
    let mut world = World::without_faults();
    let feeds = Rc::new(RefCell::new(Vec::new()));
    let viewers = Rc::clone(&feeds);
    world.serve(HTTP, move |_| Http::new(Viewers(Rc::clone(&viewers))));
    for number in 1..=2 {
        let stream = world.connect(HTTP, number);
        world.peer_sends(stream, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    world.run_until_blocked();
    for stream in 0..2 {
        assert!(world.peer_receives_all(stream).ends_with(b"Connection: close\r\n\r\n"));
    }
    (world, feeds)
}

// pitfall: 177
// rule: body-to-close
#[test]
fn only_a_body_that_was_ended_is_followed_by_a_fin() {
    let (mut world, feeds) = world_with_viewers();
    let [first, second] = <[Feed; 2]>::try_from(feeds.take()).unwrap();
    let mut connections = world.reactor().connections();
    first.send(&mut connections, b"whole");
    first.end(&mut connections);
    second.send(&mut connections, b"part");
    drop(second);
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(0), b"whole");
    assert_eq!(world.peer_receives_end(0), PeerReceived::Fin);
    assert_eq!(world.peer_receives_end(1), PeerReceived::Reset);
    let stats = world.stats();
    assert_eq!((stats.answers_ongoing, stats.feeds_dropped), (2, 1));
}

// pitfall: 176
#[test]
fn stop_ends_bodies_that_go_on_and_is_graceful() {
    let (mut world, feeds) = world_with_viewers();
    world.kernel().idle_us_max = u64::MAX;
    world.run_for(100_000);
    assert_eq!(world.stats().closed, 0, "a quiet body is not idle");
    feeds.borrow()[0].send(&mut world.reactor().connections(), b"before");
    world.reactor().stop();
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(0), b"before");
    for stream in 0..2 {
        assert_eq!(world.peer_receives_end(stream), PeerReceived::Fin);
        world.kernel().peer_closes(stream);
    }
    world.run_until_blocked();
    assert!(feeds.borrow().iter().all(|feed| !feed.is_wanted()));
    assert_eq!(world.reactor().run().unwrap(), Stopped::Graceful);
}
