//! Messages that come before the protocol inside a layer is open.

use super::*;

/// Sends so many bytes for each message. Its input waits until a message says otherwise.
struct Sender {
    bytes: usize,
    opened: Next,
}

/// The answer to a message, and what is sent for it beside the bytes.
struct Told(Next, &'static str);

impl Protocol for Sender {
    fn opened(&mut self, _: &mut Context<'_>) -> Next {
        self.opened
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.send(input);
        Advance::consumed(input.len())
    }

    fn output_low(&mut self, _: &mut Context<'_>) -> Next {
        Next::Unchanged
    }

    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        let told = message.downcast::<Told>().expect("the test sends it");
        cx.send(&vec![b'-'; self.bytes]);
        cx.send(told.1.as_bytes());
        told.0
    }
}

#[test]
fn early_messages_are_delivered_as_their_output_leaves() {
    const BYTES: usize = 8 * 1024;
    for opened in [Next::Continue, Next::Unchanged, Next::Pause] {
        let sender = Sender { bytes: BYTES, opened };
        let mut connection = TestConnection::new(Layered::new(Shift::default(), sender));
        for _ in 0..MAILBOX_MESSAGES_MAX {
            connection.send_message(Box::new(Told(Next::Unchanged, "")));
        }
        connection.peer_takes(0);
        connection.peer_sends(b"HELLO");
        connection.send_message(Box::new(Told(Next::Continue, "last")));
        connection.peer_takes(usize::MAX);
        connection.run();
        let received = connection.take_received();
        let count = received.iter().filter(|byte| **byte == b'.').count() / BYTES;
        assert_eq!(count, MAILBOX_MESSAGES_MAX + 1, "{opened:?}");
        assert!(received.ends_with(&shifted("last")), "{opened:?}");
        assert_eq!(connection.close_reason(), None, "{opened:?}");
        connection.send_message(Box::new(Told(Next::Unchanged, "end")));
        assert!(connection.take_received().ends_with(&shifted("end")), "{opened:?}");
    }
}

#[test]
fn early_messages_come_in_order_and_end_the_pause_of_opened() {
    let sender = Sender { bytes: 0, opened: Next::Pause };
    let mut connection = TestConnection::new(Layered::new(Shift::default(), sender));
    for told in [Told(Next::Unchanged, "a"), Told(Next::Continue, "b"), Told(Next::Pause, "c")] {
        connection.send_message(Box::new(told));
    }
    connection.peer_sends(&[b"HELLO", &shifted("input")[..]].concat());
    assert_eq!(connection.take_received(), [b"hello", &shifted("abc")[..]].concat());
    connection.send_message(Box::new(Told(Next::Continue, "d")));
    assert_eq!(connection.take_received(), shifted("dinput"));
}

#[test]
fn early_message_that_closes_is_the_last_one() {
    let sender = Sender { bytes: 0, opened: Next::Continue };
    let mut connection = TestConnection::new(Layered::new(Shift::default(), sender));
    for told in [Told(Next::Close, "a"), Told(Next::Continue, "b")] {
        connection.send_message(Box::new(told));
    }
    connection.peer_sends(b"HELLO");
    assert!(connection.take_received().starts_with(&[b"hello", &shifted("a")[..]].concat()));
    connection.peer_shuts_down();
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
}
