//! Late answers: what gives them, when the client gets an error instead, and what comes after.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::http::promise::Promise;
use crate::http::responder::Upload;
use crate::protocol::layer::{Encoder, Layer, Layered};
use crate::protocol::notification::Notification;
use crate::testing::test_connection::TestConnection;

/// Promises what the path says; `/now` is answered at once.
#[derive(Default)]
struct Later {
    promises: Rc<RefCell<Vec<Promise>>>,
    ticks: Rc<Cell<u32>>,
    /// Is fulfilled when the timer expires.
    tardy: Option<Promise>,
}

fn text_of(text: &'static str) -> Response<'static> {
    Response::ok(ContentType::ASCII, text.as_bytes())
}

const DEADLINE: Duration = Duration::from_secs(5);

impl Responder for Later {
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        match request.path() {
            b"/now" => text_of("now"),
            b"/promise" => {
                let (promise, response) = cx.promise(DEADLINE);
                self.promises.borrow_mut().push(promise);
                response
            }
            b"/tardy" => {
                let (promise, response) = cx.promise(DEADLINE);
                cx.set_timer(DEADLINE);
                self.tardy = Some(promise);
                response
            }
            b"/forgotten" => {
                let (promise, _) = cx.promise(DEADLINE);
                self.promises.borrow_mut().push(promise);
                text_of("forgotten")
            }
            b"/early" => {
                let (promise, response) = cx.promise(DEADLINE);
                promise.fulfill(|| text_of("early"));
                response
            }
            b"/timer" => {
                cx.set_timer(Duration::from_secs(2));
                Response::later(DEADLINE)
            }
            b"/timer-for-nothing" => {
                cx.set_timer(Duration::from_secs(2));
                text_of("at once")
            }
            b"/self" => {
                let own = cx.id();
                cx.connections().send_message(own, "message");
                Response::later(DEADLINE)
            }
            _ => Response::later(DEADLINE),
        }
    }

    fn receive(
        &mut self,
        request: &Request<'_>,
        _: &mut HttpContext<'_, '_>,
    ) -> Option<Box<dyn Upload>> {
        (request.path() == b"/upload").then(|| Box::new(Collect) as Box<dyn Upload>)
    }

    fn timer_expired(&mut self, cx: &mut HttpContext<'_, '_>) -> Option<Response<'_>> {
        if let Some(promise) = self.tardy.take() {
            promise.fulfill(|| text_of("tardy"));
            return None;
        }
        self.ticks.set(self.ticks.get() + 1);
        if self.ticks.get().is_multiple_of(2) {
            return Some(text_of("timer"));
        }
        cx.set_timer(Duration::from_secs(1));
        None
    }

    fn message_received(
        &mut self,
        message: Box<dyn Any>,
        _: &mut HttpContext<'_, '_>,
    ) -> Option<Response<'_>> {
        let text = *message.downcast::<&'static str>().unwrap();
        match text {
            "renew" => Some(Response::later(DEADLINE)),
            _ => Some(text_of(text)),
        }
    }

    fn notified(
        &mut self,
        _: ConnectionId,
        what: Notification,
        _: &mut HttpContext<'_, '_>,
    ) -> Option<Response<'_>> {
        (what == Notification::Closed).then(|| text_of("closed"))
    }
}

impl Later {
    /// The responder of a connection, which hands its promises to this one.
    fn shared(&self) -> Later {
        Later { promises: Rc::clone(&self.promises), ticks: Rc::clone(&self.ticks), tardy: None }
    }
}

/// Takes a body, and answers late.
struct Collect;

impl Upload for Collect {
    fn take(&mut self, _: &[u8]) {}

    fn respond(self: Box<Self>, cx: &mut HttpContext<'_, '_>) -> Response<'static> {
        cx.set_timer(Duration::from_secs(2));
        Response::later(DEADLINE)
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

/// A connection that has sent `request`, and has not been answered.
fn waiting(request: &[u8]) -> (Later, TestConnection) {
    let later = Later::default();
    let mut connection = TestConnection::new(Http::new(later.shared()));
    connection.peer_sends(request);
    assert_eq!(connection.take_received().escape_ascii().to_string(), "");
    (later, connection)
}

/// The status and the body of each response that has been received, and whether it persists.
fn received(connection: &mut TestConnection) -> Vec<(u16, String, bool)> {
    let bytes = String::from_utf8(connection.take_received()).unwrap();
    let parts = bytes.split("HTTP/1.0 ").skip(1);
    let response = |part: &str| {
        let (head, body) = part.split_once("\r\n\r\n").expect("a whole head");
        let persists = head.ends_with("Connection: keep-alive");
        (head[..3].parse().unwrap(), body.to_owned(), persists)
    };
    parts.map(response).collect()
}

fn answered(body: &str) -> Vec<(u16, String, bool)> {
    vec![(200, body.to_owned(), true)]
}

// pitfall: 173
#[test]
fn each_callback_can_give_the_answer() {
    let (_, mut connection) = waiting(&get("/timer"));
    connection.advance_clock(Duration::from_millis(2_999));
    assert_eq!(received(&mut connection), []);
    connection.advance_clock(Duration::from_millis(1));
    assert_eq!(received(&mut connection), answered("timer"), "at the second of its ticks");

    let (_, mut connection) = waiting(&get("/"));
    connection.send_message(Box::new("message"));
    assert_eq!(received(&mut connection), answered("message"));

    let (_, mut connection) = waiting(&get("/"));
    let other = connection.other_connection();
    connection.notify(other, Notification::Connected);
    assert_eq!(received(&mut connection), []);
    connection.notify(other, Notification::Closed);
    assert_eq!(received(&mut connection), answered("closed"));

    let (later, mut connection) = waiting(&get("/promise"));
    let promise = later.promises.borrow_mut().pop().unwrap();
    assert!(promise.is_wanted());
    promise.fulfill(|| text_of("promise"));
    connection.run();
    assert_eq!(received(&mut connection), answered("promise"));
    connection.peer_sends(&get("/now"));
    assert_eq!(received(&mut connection), answered("now"), "the connection persists");
}

#[test]
fn answer_given_before_the_request_is_over_is_sent() {
    for path in ["/early", "/self"] {
        let mut connection = TestConnection::new(Http::new(Later::default()));
        connection.peer_sends(&get(path));
        let bodies = received(&mut connection);
        assert_eq!(bodies.len(), 1, "{path}: {bodies:?}");
        assert_eq!(bodies[0].0, 200);
    }
}

// pitfall: 174
// rule: late-answer
#[test]
fn unanswered_promise_gets_504_at_its_deadline_and_the_connection_persists() {
    // 9110 15.6.5; 9112 9.3.2: the response to the next request is another one.
    let (later, mut connection) = waiting(&get("/promise"));
    connection.advance_clock(DEADLINE - Duration::from_millis(1));
    assert_eq!(received(&mut connection), []);
    connection.advance_clock(Duration::from_millis(1));
    assert_eq!(received(&mut connection), [(504, "504 Gateway Timeout\n".into(), true)]);
    // The answer comes too late, and the next request has a promise of its own.
    let late = later.promises.borrow_mut().pop().unwrap();
    assert!(!late.is_wanted());
    connection.peer_sends(&get("/promise"));
    late.fulfill(|| unreachable!("no client waits for it"));
    connection.run();
    assert_eq!(received(&mut connection), []);
    let promise = later.promises.borrow_mut().pop().unwrap();
    promise.fulfill(|| text_of("second"));
    connection.run();
    assert_eq!(received(&mut connection), answered("second"));
}

// pitfall: 174
#[test]
fn answer_that_meets_its_504_is_not_that_of_the_next_request() {
    // It is sent when the deadline is due, and still wanted. It waits in the channel when the 504
    // is sent, and the next request is taken before it is delivered.
    let (later, mut connection) = waiting(&[get("/tardy"), get("/promise")].concat());
    connection.advance_clock(DEADLINE);
    let received = received(&mut connection);
    assert_eq!(received, [(504, "504 Gateway Timeout\n".into(), true)]);
    assert!(later.promises.borrow()[0].is_wanted(), "the second still waits");
}

// pitfall: 175
#[test]
fn dropped_promise_is_answered_with_500() {
    let (later, mut connection) = waiting(&get("/promise"));
    later.promises.borrow_mut().clear();
    connection.run();
    assert_eq!(received(&mut connection), [(500, "500 Internal Server Error\n".into(), true)]);
}

#[test]
fn promise_whose_response_was_not_returned_is_not_wanted() {
    let later = Later::default();
    let mut connection = TestConnection::new(Http::new(later.shared()));
    connection.peer_sends(&get("/forgotten"));
    let promise = later.promises.borrow_mut().pop().unwrap();
    assert!(!promise.is_wanted());
    drop(promise);
    connection.run();
    assert_eq!(received(&mut connection), answered("forgotten"));
}

// pitfall: 173
// rule: late-answer
#[test]
fn pipelined_responses_keep_their_order_around_a_late_one() {
    // 9112 9.3.2.
    let (later, mut connection) =
        waiting(&[get("/promise"), get("/now"), get("/promise"), get("/now")].concat());
    for body in ["first", "third"] {
        connection.advance_clock(Duration::from_secs(1));
        let promise = later.promises.borrow_mut().pop().unwrap();
        promise.fulfill(move || text_of(body));
        connection.run();
        let bodies: Vec<String> =
            received(&mut connection).into_iter().map(|(_, body, _)| body).collect();
        assert_eq!(bodies, [body, "now"]);
    }
}

#[test]
fn late_answer_has_the_form_that_its_request_asked_for() {
    for (request, persists, has_body) in [
        ("HEAD /timer HTTP/1.1\r\nHost: a\r\n\r\n", true, false),
        ("GET /timer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false, true),
        ("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", true, true),
        ("PUT /timer HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", true, true),
        (
            "PUT /timer HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
            false,
            true,
        ),
    ] {
        let (_, mut connection) = waiting(request.as_bytes());
        connection.advance_clock(Duration::from_secs(3));
        let body = if has_body { "timer" } else { "" };
        assert_eq!(received(&mut connection), [(200, body.into(), persists)], "{request:?}");
    }
    let (_, mut connection) = waiting(b"GET /timer\r\n");
    connection.advance_clock(Duration::from_secs(3));
    assert_eq!(connection.take_received(), b"timer", "1945 6: a simple response");
}

// pitfall: 173
#[test]
fn half_closed_client_gets_its_late_answer() {
    let (_, mut connection) = waiting(&get("/timer"));
    connection.peer_shuts_down();
    assert_eq!(connection.close_reason(), None);
    connection.advance_clock(Duration::from_secs(3));
    assert_eq!(received(&mut connection), answered("timer"));
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn connection_that_awaits_an_answer_is_not_idle() {
    struct Patient;
    impl Responder for Patient {
        fn respond(&mut self, _: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
            cx.set_timer(Duration::from_secs(3_000));
            Response::later(Duration::from_secs(3_600))
        }
        fn timer_expired(&mut self, _: &mut HttpContext<'_, '_>) -> Option<Response<'_>> {
            Some(text_of("at last"))
        }
    }
    let mut connection = TestConnection::new(Http::new(Patient));
    connection.peer_sends(&get("/"));
    connection.advance_clock(Duration::from_secs(2_999));
    assert_eq!((received(&mut connection), connection.close_reason()), (vec![], None));
    connection.advance_clock(Duration::from_secs(1));
    assert_eq!(received(&mut connection), answered("at last"));
    connection.advance_clock(Duration::from_secs(60));
    assert_eq!(connection.close_reason(), Some(CloseReason::IdleTimeout));
}

#[test]
fn promise_can_be_renewed() {
    let (_, mut connection) = waiting(&get("/"));
    for _ in 0..4 {
        connection.advance_clock(DEADLINE - Duration::from_millis(1));
        connection.send_message(Box::new("renew"));
        assert_eq!(received(&mut connection), []);
    }
    connection.advance_clock(DEADLINE);
    assert_eq!(received(&mut connection)[0].0, 504);
}

#[test]
fn timer_without_a_promise_and_answer_without_a_request_change_nothing() {
    let later = Later::default();
    let mut connection = TestConnection::new(Http::new(later.shared()));
    connection.peer_sends(&get("/timer-for-nothing"));
    connection.send_message(Box::new("unasked"));
    connection.advance_clock(Duration::from_secs(30));
    assert_eq!((received(&mut connection), later.ticks.get()), (answered("at once"), 0));
    connection.peer_sends(b"GET /no");
    connection.send_message(Box::new("unasked"));
    connection.peer_sends(b"w HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(received(&mut connection), answered("now"));
}

#[test]
fn promised_response_has_no_head_to_add_a_field_to() {
    let refused = Response::later(DEADLINE).with_header("X-A", "b");
    assert_eq!(refused.unwrap_err(), crate::http::field::HeaderError::NoHead);
}

#[test]
fn late_answer_passes_through_a_layer() {
    let later = Later::default();
    let http = Layered::new(Shout, Http::new(later.shared()));
    let mut connection = TestConnection::new(http);
    connection.peer_sends(&[get("/promise"), get("/timer")].concat());
    later.promises.borrow_mut().pop().unwrap().fulfill(|| text_of("promise"));
    connection.run();
    let answer = connection.take_received();
    assert!(answer.ends_with(b"\r\n\r\nPROMISE"), "{}", answer.escape_ascii());
    connection.advance_clock(Duration::from_secs(3));
    assert!(connection.take_received().ends_with(b"\r\n\r\nTIMER"));
}

/// A layer that sends everything in capital letters.
struct Shout;

impl Encoder for Shout {
    fn encode(&mut self, output: &[u8], encoded: &mut Vec<u8>) {
        encoded.extend(output.iter().map(u8::to_ascii_uppercase));
    }
}

impl Layer for Shout {
    fn encoder(&mut self) -> Option<&mut dyn Encoder> {
        Some(self)
    }
}
