//! Bugs that show in a single protocol without a network, by a [`TestConnection`].

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use mio_reactor::{Advance, CloseReason, Context, Http, Next, Protocol, TestConnection};

use crate::site::Site;

#[test]
fn request_line_with_an_extra_space_is_rejected() {
    // `GET /a b HTTP/1.1` overflowed the stack, which ended the program.
    for request in [&b"GET /a b HTTP/1.1\r\n\r\n"[..], b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut http = TestConnection::new(Http::new(Site::new()));
        http.peer_sends(request);
        assert!(http.take_received().starts_with(b"HTTP/1.0 400 "));
    }
}

/// Sets a timer when the connection opens, and sends `!` when it expires.
struct OneTimer(Duration);

impl Protocol for OneTimer {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.set_timer(self.0);
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(b"!");
        Next::Continue
    }
}

// pitfall: 58
#[test]
fn timer_does_not_expire_early() {
    // The delay was cut to whole milliseconds: a timer of 900 µs expired at once, and one that was
    // set again at each expiry did so for ever.
    for (delay_us, expires_after_ms) in
        [(0, 1), (1, 1), (900, 1), (1_000, 1), (1_001, 2), (1_500, 2)]
    {
        let mut timer = TestConnection::new(OneTimer(Duration::from_micros(delay_us)));
        timer.advance_clock(Duration::from_millis(expires_after_ms - 1));
        assert_eq!(timer.take_received(), b"", "{delay_us} µs");
        timer.advance_clock(Duration::from_millis(1));
        assert_eq!(timer.take_received(), b"!", "{delay_us} µs");
    }
}

#[test]
fn test_connection_calls_closed_once() {
    // It never called `closed`, so what a protocol does there could not be tested.
    struct RecordsClose(Rc<RefCell<Vec<CloseReason>>>);
    impl Protocol for RecordsClose {
        fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
            Advance::consumed(input.len()).then(Next::Abort)
        }

        fn closed(&mut self, why: CloseReason) {
            self.0.borrow_mut().push(why);
        }
    }
    let reasons = Rc::new(RefCell::new(Vec::new()));
    let mut connection = TestConnection::new(RecordsClose(Rc::clone(&reasons)));
    connection.peer_sends(b"x");
    assert_eq!(*reasons.borrow(), [CloseReason::Aborted]);
    connection.peer_sends(b"x");
    drop(connection);
    assert_eq!(*reasons.borrow(), [CloseReason::Aborted], "only once");
}
