//! Answers that go on: their head, their end, and what their client can tell from it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::http::ongoing::Feed;
use crate::http::promise::Promise;
use crate::protocol::notification::Notification;
use crate::protocol::slow_reader::SlowReader;
use crate::testing::test_connection::TestConnection;

const EVENTS: ContentType<'static> = ContentType::from_static("text/event-stream");

/// Where the feed of a test is.
type FeedCell = Rc<RefCell<Option<Feed>>>;

/// Begins a body for each request, and sends a word in it: at once, every ten seconds, and last.
#[derive(Default)]
struct Events {
    feed: FeedCell,
    calls: Rc<Cell<u32>>,
    promise: Rc<RefCell<Option<Promise>>>,
}

impl Events {
    fn response(&mut self) -> Response<'_> {
        Response::ongoing(Status::OK, EVENTS, |feed, cx| {
            self.calls.set(self.calls.get() + 1);
            feed.send(&mut cx.connections(), b"first;");
            cx.set_timer(Duration::from_secs(10));
            *self.feed.borrow_mut() = Some(feed);
        })
    }
}

impl Responder for Events {
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        match request.path() {
            b"/later" => {
                let (promise, response) = cx.promise(Duration::from_secs(5));
                *self.promise.borrow_mut() = Some(promise);
                response
            }
            _ => self.response(),
        }
    }

    fn timer_expired(&mut self, cx: &mut HttpContext<'_, '_>) -> Option<Response<'_>> {
        if let Some(feed) = &*self.feed.borrow() {
            feed.publish(&mut cx.connections(), b"tick;", SlowReader::DropNewest);
        }
        cx.set_timer(Duration::from_secs(10));
        None
    }

    fn message_received(
        &mut self,
        _: Box<dyn Any>,
        cx: &mut HttpContext<'_, '_>,
    ) -> Option<Response<'_>> {
        let feed = self.feed.borrow_mut().take()?;
        feed.send(&mut cx.connections(), b"end;");
        feed.end(&mut cx.connections());
        None
    }

    fn notified(
        &mut self,
        about: ConnectionId,
        what: Notification,
        cx: &mut HttpContext<'_, '_>,
    ) -> Option<Response<'_>> {
        assert_eq!((about, what), (cx.id(), Notification::Stopping));
        if let Some(feed) = &*self.feed.borrow() {
            feed.send(&mut cx.connections(), b"last");
        }
        None
    }

    fn logs_access(&self) -> bool {
        true
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

const HEAD: &str = "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\nDate: *\r\nConnection: \
                    close\r\n\r\n";

/// A connection that has sent `request`, and what is at its other end.
fn begun(request: &[u8]) -> (FeedCell, Rc<Cell<u32>>, TestConnection) {
    let events = Events::default();
    let (feed, calls) = (Rc::clone(&events.feed), Rc::clone(&events.calls));
    let mut connection = TestConnection::new(Http::new(events));
    connection.peer_sends(request);
    (feed, calls, connection)
}

fn received(connection: &mut TestConnection) -> String {
    without_dates(&connection.take_received())
}

// pitfall: 177
// rule: body-to-close
#[test]
fn head_precedes_what_is_sent_when_the_body_begins() {
    // 9112 6.3 and 1945 7.2.2: without a length, the body ends with the connection.
    let (_, calls, mut connection) = begun(&REQUEST.repeat(2));
    assert_eq!(received(&mut connection), format!("{HEAD}first;"));
    connection.advance_clock(Duration::from_secs(20));
    assert_eq!(received(&mut connection), "tick;tick;");
    assert_eq!((calls.get(), connection.close_reason()), (1, None), "no other request is served");
}

#[test]
fn body_does_not_begin_for_head_or_a_status_without_content() {
    let (_, calls, mut connection) = begun(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((received(&mut connection), calls.get()), (HEAD.to_owned(), 0));
    connection.peer_shuts_down();
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
    let empty = Response::ongoing(Status::NO_CONTENT, EVENTS, |_, _| unreachable!("no content"));
    assert!(!empty.is_streamed());
    let (_, _, mut connection) = begun(b"GET /\r\n");
    assert_eq!(received(&mut connection), "first;", "1945 6: a simple response");
}

// pitfall: 177
#[test]
fn ended_body_is_followed_by_a_fin_and_a_dropped_one_by_a_reset() {
    let (_, _, mut connection) = begun(REQUEST);
    received(&mut connection);
    connection.send_message(Box::new("end"));
    assert_eq!(received(&mut connection), "end;");
    connection.peer_shuts_down();
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));

    let (feed, _, mut connection) = begun(REQUEST);
    assert!(feed.borrow().as_ref().unwrap().is_wanted());
    drop(feed.borrow_mut().take());
    connection.run();
    assert_eq!(connection.close_reason(), Some(CloseReason::Aborted), "a reset, never a FIN");
}

#[test]
fn quiet_body_is_not_idle_for_a_day() {
    struct Quiet;
    impl Responder for Quiet {
        fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
            Response::ongoing(Status::OK, EVENTS, |feed, _| std::mem::forget(feed))
        }
    }
    let mut connection = TestConnection::new(Http::new(Quiet));
    connection.peer_sends(REQUEST);
    connection.advance_clock(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(connection.close_reason(), None);
    connection.advance_clock(Duration::from_secs(1));
    connection.peer_shuts_down();
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
}

// pitfall: 176
#[test]
fn stop_lets_a_body_say_its_last_word_and_ends_it() {
    let (_, _, mut connection) = begun(REQUEST);
    received(&mut connection);
    connection.begin_stop();
    assert_eq!(received(&mut connection), "last");
    connection.peer_shuts_down();
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
}

// pitfall: 176
#[test]
fn body_that_begins_during_a_stop_ends_at_once() {
    let events = Events::default();
    let promise = Rc::clone(&events.promise);
    let mut connection = TestConnection::new(Http::new(events));
    connection.peer_sends(b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.begin_stop();
    promise.borrow_mut().take().unwrap().fulfill(|| {
        Response::ongoing(Status::OK, EVENTS, |feed, cx| {
            feed.send(&mut cx.connections(), b"only");
            std::mem::forget(feed);
        })
    });
    connection.run();
    assert_eq!(received(&mut connection), format!("{HEAD}only"));
    connection.peer_shuts_down();
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
}

// pitfall: 178
#[test]
fn quiet_client_that_takes_nothing_ends_by_the_write_timeout() {
    let (_, _, mut connection) = begun(REQUEST);
    connection.peer_takes(0);
    connection.advance_clock(Duration::from_secs(39));
    assert_eq!(connection.close_reason(), None);
    connection.advance_clock(Duration::from_secs(2));
    assert_eq!(connection.close_reason(), Some(CloseReason::WriteTimeout));
}

/// A record of `RECORD` bytes that names how it was sent, and its number.
const RECORD: usize = 20_000;

struct Publishes(FeedCell);

impl Responder for Publishes {
    fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
        Response::ongoing(Status::OK, EVENTS, |feed, _| *self.0.borrow_mut() = Some(feed))
    }

    fn message_received(
        &mut self,
        message: Box<dyn Any>,
        cx: &mut HttpContext<'_, '_>,
    ) -> Option<Response<'_>> {
        let (slow, number) = *message.downcast::<(SlowReader, usize)>().unwrap();
        let record = format!("{:<RECORD$}", format!("{slow:?} {number}\n"));
        self.0.borrow().as_ref()?.publish(&mut cx.connections(), record.as_bytes(), slow);
        None
    }
}

// pitfall: 178
#[test]
fn whatever_a_slow_client_reads_it_misses_only_what_may_be_missed() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let policies = [SlowReader::Queue, SlowReader::DropNewest, SlowReader::KeepLatest];
        let mut connection = TestConnection::new(Http::new(Publishes(FeedCell::default())));
        connection.peer_sends(REQUEST);
        connection.take_received();
        let mut sent = Vec::new();
        for number in 0..rng.usize(..40) {
            if rng.u8(..4) == 0 {
                connection.peer_takes(if rng.bool() { usize::MAX } else { 0 });
            }
            let slow = policies[rng.usize(..policies.len())];
            sent.push((slow, number));
            connection.send_message(Box::new((slow, number)));
        }
        connection.peer_takes(usize::MAX);
        let bytes = connection.take_received();
        let received: Vec<String> = bytes
            .chunks(RECORD)
            .map(|record| String::from_utf8(record.to_vec()).unwrap().trim().to_owned())
            .collect();
        for &(slow, number) in &sent {
            let times =
                received.iter().filter(|seen| **seen == format!("{slow:?} {number}")).count();
            let is_last = sent.iter().rfind(|(other, _)| *other == slow) == Some(&(slow, number));
            match slow {
                SlowReader::Queue => assert_eq!(times, 1, "seed {seed}: {number}"),
                SlowReader::KeepLatest if is_last => assert_eq!(times, 1, "seed {seed}: {number}"),
                SlowReader::DropNewest | SlowReader::KeepLatest | SlowReader::Abort => {
                    assert!(times <= 1, "seed {seed}: {number}");
                }
            }
        }
        for slow in policies {
            let of_one = |seen: &&String| seen.starts_with(&format!("{slow:?}"));
            let numbers: Vec<usize> = received
                .iter()
                .filter(of_one)
                .map(|seen| seen.split(' ').nth(1).unwrap().parse().unwrap())
                .collect();
            assert!(numbers.is_sorted(), "seed {seed}: {slow:?} {numbers:?}");
        }
        assert_eq!(connection.close_reason(), None);
    }
}
