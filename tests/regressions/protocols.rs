//! Protocols.

use super::*;

#[test]
fn a_request_line_with_a_space_too_many_is_refused() {
    // `GET /a b HTTP/1.1` overflowed the stack, and ended the program with it.
    for request in [&b"GET /a b HTTP/1.1\r\n\r\n"[..], b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut http = TestConnection::new(Http::new(Site::new()));
        http.peer_sends(request);
        assert!(http.take_received().starts_with(b"HTTP/1.0 400 "));
    }
}

/// Asks for an alarm, and says so when it rings.
struct Alarm(Duration);

impl Protocol for Alarm {
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

#[test]
fn an_alarm_does_not_ring_before_its_time() {
    // The delay was cut to whole milliseconds: one of 900 µs rang at once, and if asked for again, for ever.
    for (delay_us, rings_after_ms) in [(0, 1), (1, 1), (900, 1), (1_000, 1), (1_001, 2), (1_500, 2)]
    {
        let mut alarm = TestConnection::new(Alarm(Duration::from_micros(delay_us)));
        alarm.advance_clock(Duration::from_millis(rings_after_ms - 1));
        assert_eq!(alarm.take_received(), b"", "{delay_us} µs");
        alarm.advance_clock(Duration::from_millis(1));
        assert_eq!(alarm.take_received(), b"!", "{delay_us} µs");
    }
}

#[test]
fn a_rehearsal_tells_the_protocol_of_its_end() {
    // It never called `closed`, so that what a protocol does there could not be tested.
    struct Tells(Rc<RefCell<Vec<CloseReason>>>);
    impl Protocol for Tells {
        fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
            Advance::consumed(input.len()).then(Next::Abort)
        }

        fn closed(&mut self, why: CloseReason) {
            self.0.borrow_mut().push(why);
        }
    }
    let endings = Rc::new(RefCell::new(Vec::new()));
    let mut rehearsal = TestConnection::new(Tells(Rc::clone(&endings)));
    rehearsal.peer_sends(b"x");
    assert_eq!(*endings.borrow(), [CloseReason::Aborted]);
    rehearsal.peer_sends(b"x");
    drop(rehearsal);
    assert_eq!(*endings.borrow(), [CloseReason::Aborted], "only once");
}
