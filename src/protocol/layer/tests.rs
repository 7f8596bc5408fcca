//! Layers: what passes through one, and in which order.

mod choosing; // the protocol inside is chosen late
mod early; // messages before the protocol inside is open
mod ending; // what is left of the input at its end

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::echo::Echo;
use crate::limits::MAILBOX_MESSAGES_MAX;
use crate::protocol::effects::Command;
use crate::testing::recorded_effect::RecordedEffect;
use crate::testing::test_connection::TestConnection;

/// Changes nothing.
struct Identity;

impl Layer for Identity {}

/// Adds one to each byte of the output, and takes one from each byte of the input. `HELLO` from the
/// peer opens it, and its end is announced by `.` (in place of a byte 45).
#[derive(Default)]
struct Shift {
    is_open: bool,
}

impl Encoder for Shift {
    fn encode(&mut self, output: &[u8], encoded: &mut Vec<u8>) {
        encoded.extend(output.iter().map(|byte| byte.wrapping_add(1)));
    }

    fn finish(&mut self, encoded: &mut Vec<u8>) {
        encoded.push(b'.');
    }
}

impl Layer for Shift {
    fn encoder(&mut self) -> Option<&mut dyn Encoder> {
        Some(self)
    }

    fn opened<P: Protocol>(&mut self, _: &mut Inner<P>, cx: &mut Context<'_>) -> Next {
        cx.set_timer(Duration::from_secs(1));
        Next::Continue
    }

    fn advance<'i, P: Protocol>(
        &mut self,
        input: &'i [u8],
        inner: &mut Inner<P>,
        cx: &mut Context<'i>,
    ) -> Advance {
        if !self.is_open {
            let Some(_) = input.strip_prefix(b"HELLO") else { return Advance::need_more() };
            self.is_open = true;
            cx.cancel_timer();
            cx.send(b"hello");
            return Advance::consumed(5).then(inner.open(self, cx));
        }
        let end = input.iter().position(|byte| *byte == b'.');
        let decoded: Vec<u8> =
            input[..end.unwrap_or(input.len())].iter().map(|byte| byte.wrapping_sub(1)).collect();
        let next = inner.receive(self, &decoded, cx);
        if end.is_some() && matches!(next, Next::Continue | Next::Pause) {
            return Advance::consumed(input.len()).then(inner.eof(self, cx));
        }
        Advance::consumed(input.len()).then(next)
    }

    fn eof<P: Protocol>(&mut self, _: &[u8], _: &mut Inner<P>, _: &mut Context<'_>) -> Next {
        Next::Abort // the end was not announced
    }
}

/// Keeps a record of its callbacks, and answers as its input says.
#[derive(Default)]
struct Recorder(Rc<RefCell<Vec<String>>>);

impl Recorder {
    fn record(&self, event: impl Into<String>) {
        self.0.borrow_mut().push(event.into());
    }
}

impl Protocol for Recorder {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.record("opened");
        cx.send(b"hi ");
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
            return Advance::need_more();
        };
        let line = std::str::from_utf8(&input[..end]).expect("the test sends text");
        self.record(line);
        let step = Advance::consumed(end + 1);
        match line {
            "pause" => step.then(Next::Pause),
            "close" => {
                cx.send(b"bye");
                step.then(Next::Close)
            }
            "timer" => {
                cx.set_timer(Duration::from_secs(5));
                step
            }
            _ => {
                cx.send_borrowed(&input[..=end]);
                step
            }
        }
    }

    fn eof(&mut self, rest: &[u8], _: &mut Context<'_>) -> Next {
        self.record(format!("eof {}", rest.escape_ascii()));
        Next::Close
    }

    fn timer_expired(&mut self, _: &mut Context<'_>) -> Next {
        self.record("timer_expired");
        Next::Continue
    }

    fn notified(&mut self, _: ConnectionId, what: Notification, _: &mut Context<'_>) -> Next {
        self.record(format!("{what:?}"));
        Next::Continue
    }

    fn closed(&mut self, why: CloseReason) {
        self.record(format!("closed {why:?}"));
    }
}

fn shifted(text: &str) -> Vec<u8> {
    text.bytes().map(|byte| byte.wrapping_add(1)).collect()
}

fn recorded() -> (TestConnection, Rc<RefCell<Vec<String>>>) {
    let recorder = Recorder::default();
    let events = recorder.0.clone();
    (TestConnection::new(Layered::new(Shift::default(), recorder)), events)
}

#[test]
fn inner_protocol_is_opened_after_the_handshake_and_sees_decoded_bytes() {
    let (mut connection, events) = recorded();
    connection.peer_sends(b"HEL");
    assert!(events.borrow().is_empty());
    connection.peer_sends(b"LO");
    assert_eq!(connection.take_received(), [b"hello".to_vec(), shifted("hi ")].concat());
    connection.peer_sends(&shifted("one\ntw"));
    connection.peer_sends(&shifted("o\n"));
    assert_eq!(connection.take_received(), shifted("one\ntwo\n"));
    assert_eq!(*events.borrow(), ["opened", "one", "two"]);
}

#[test]
fn announced_end_is_the_end_of_the_input_and_is_announced_before_our_fin() {
    let (mut connection, events) = recorded();
    connection.peer_sends(b"HELLO");
    connection.take_received();
    connection.peer_sends(&[shifted("a\nb"), b".".to_vec()].concat());
    assert_eq!(connection.take_received(), [shifted("a\n"), b".".to_vec()].concat());
    connection.peer_shuts_down();
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
    assert_eq!(*events.borrow(), ["opened", "a", "eof b", "closed Finished"]);
}

#[test]
fn end_without_announcement_aborts() {
    let (mut connection, events) = recorded();
    connection.peer_sends(b"HELLO");
    connection.peer_sends(&shifted("a\n"));
    connection.peer_shuts_down();
    assert_eq!(connection.close_reason(), Some(CloseReason::Aborted));
    assert_eq!(*events.borrow(), ["opened", "a", "closed Aborted"]);
}

#[test]
fn input_behind_a_pause_waits_until_the_inner_protocol_continues() {
    let (mut connection, events) = recorded();
    let other = connection.other_connection();
    connection.peer_sends(b"HELLO");
    connection.peer_sends(&[shifted("a\npause\nb\nc\n"), b".".to_vec()].concat());
    assert_eq!(*events.borrow(), ["opened", "a", "pause", "b", "c", "eof "], "output was low");
    let (mut connection, events) = recorded();
    connection.peer_sends(b"HELLO");
    connection.peer_sends(&[shifted("pause\nb\n"), b".".to_vec()].concat());
    assert_eq!(*events.borrow(), ["opened", "pause"]);
    connection.notify(other, Notification::BelowLowWatermark);
    assert_eq!(*events.borrow(), ["opened", "pause", "BelowLowWatermark", "b", "eof "]);
}

#[test]
fn layer_and_inner_protocol_have_a_timer_each() {
    let (mut connection, events) = recorded();
    connection.peer_sends(b"HELLO");
    connection.peer_sends(&shifted("timer\n"));
    connection.advance_clock(Duration::from_millis(4_999));
    assert_eq!(*events.borrow(), ["opened", "timer"], "the handshake's timer was cancelled");
    connection.advance_clock(Duration::from_millis(1));
    assert_eq!(*events.borrow(), ["opened", "timer", "timer_expired"]);
    let (mut late, events) = recorded();
    late.peer_sends(b"HEL");
    late.advance_clock(Duration::from_secs(1));
    late.peer_shuts_down();
    assert_eq!(late.close_reason(), Some(CloseReason::Finished));
    assert_eq!(*events.borrow(), ["closed Finished"]);
}

#[test]
fn large_decoded_input_is_offered_as_output_leaves() {
    let (mut connection, events) = recorded();
    connection.peer_sends(b"HELLO");
    connection.take_received();
    let line = format!("{}\n", "x".repeat(999));
    let text = line.repeat(200);
    connection.peer_sends(&shifted(&text));
    assert_eq!(connection.take_received(), shifted(&text));
    assert_eq!(events.borrow().len(), 201);
}

/// Sends what it receives to its own connection, as another connection would, and then gives it a
/// command.
struct ToItself(Option<Command>);

impl Protocol for ToItself {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let own = cx.id();
        cx.connections().send_to(own, input);
        if let Some(command) = self.0 {
            cx.connections().command(own, command);
        }
        Advance::consumed(input.len())
    }
}

#[test]
fn bytes_of_other_connections_are_encoded_and_the_end_comes_after_them() {
    for (command, end) in [
        (None, &b""[..]),
        (Some(Command::Close), b"."),
        (Some(Command::ShutdownWrite), b"."),
        (Some(Command::Abort), b""),
    ] {
        let layered = Layered::new(Shift { is_open: false }, ToItself(command));
        let mut connection = TestConnection::new(layered);
        connection.peer_sends(b"HELLO");
        connection.take_received();
        connection.peer_sends(&shifted("abc"));
        let sent = if command == Some(Command::Abort) { vec![] } else { shifted("abc") };
        assert_eq!(connection.take_received(), [sent, end.to_vec()].concat(), "{command:?}");
    }
}

#[test]
fn layers_inside_each_other_encode_from_the_innermost_outwards() {
    let inner = Layered::new(Shift { is_open: true }, Echo::new());
    let mut connection = TestConnection::new(Layered::new(Identity, inner));
    connection.peer_sends(b"xyz");
    assert_eq!(connection.take_received(), b"", "an inner layer is opened, too");
    let mut connection =
        TestConnection::new(Layered::new(Identity, Layered::new(Shift::default(), Echo::new())));
    connection.peer_sends(b"HELLO");
    connection.peer_sends(b"xyz.");
    assert_eq!(connection.take_received(), b"helloxyz.");
    let twice = Layered::new(Shift::default(), Layered::new(Shift::default(), Echo::new()));
    let mut connection = TestConnection::new(twice);
    connection.peer_sends(b"HELLO");
    connection.peer_sends(&shifted("HELLO"));
    assert_eq!(connection.take_received(), [b"hello".to_vec(), shifted("hello")].concat());
    connection.peer_sends(&shifted("xyz"));
    assert_eq!(connection.take_received(), shifted("xyz"));
}

#[test]
fn resume_by_another_connection_reaches_input_that_waits_in_a_layer() {
    struct PausesOnce(bool);
    impl Protocol for PausesOnce {
        fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
            if !std::mem::replace(&mut self.0, true) {
                let own = cx.id();
                cx.connections().resume(own);
                return Advance::consumed(1).then(Next::Pause);
            }
            cx.send(input);
            Advance::consumed(input.len())
        }
    }
    let mut connection = TestConnection::new(Layered::new(Shift::default(), PausesOnce(false)));
    connection.peer_sends(b"HELLO");
    connection.take_received();
    connection.peer_sends(&shifted("abc"));
    assert_eq!(connection.take_received(), shifted("bc"));
}

#[test]
fn messages_wait_until_the_inner_protocol_is_open() {
    struct Told;
    impl Protocol for Told {
        fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
            Advance::consumed(input.len())
        }

        fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
            let text = message.downcast::<&str>().expect("the test sends text");
            cx.send(text.as_bytes());
            Next::Unchanged
        }
    }
    let mut connection = TestConnection::new(Layered::new(Shift::default(), Told));
    for _ in 0..MAILBOX_MESSAGES_MAX {
        connection.send_message(Box::new("early "));
    }
    connection.send_message(Box::new("one too many"));
    connection.peer_sends(b"HELLO");
    connection.send_message(Box::new("abc"));
    let replies = "early ".repeat(MAILBOX_MESSAGES_MAX) + "abc";
    assert_eq!(connection.take_received(), [b"hello".to_vec(), shifted(&replies)].concat());
}

#[test]
fn input_before_the_inner_protocol_is_open_waits_for_it() {
    /// Opens the inner protocol at the first `!`.
    struct OpensLate;
    impl Layer for OpensLate {
        fn opened<P: Protocol>(&mut self, _: &mut Inner<P>, _: &mut Context<'_>) -> Next {
            Next::Continue
        }

        fn advance<'i, P: Protocol>(
            &mut self,
            input: &'i [u8],
            inner: &mut Inner<P>,
            cx: &mut Context<'i>,
        ) -> Advance {
            let mut next = inner.receive(self, input, cx);
            if !inner.is_open() && input.contains(&b'!') {
                next = inner.open(self, cx);
            }
            Advance::consumed(input.len()).then(next)
        }
    }
    let mut connection = TestConnection::new(Layered::new(OpensLate, Echo::new()));
    for piece in [&b"Hello"[..], b" wor", b"ld"] {
        connection.peer_sends(piece);
        assert_eq!(connection.take_received(), b"");
    }
    connection.peer_sends(b"!");
    assert_eq!(connection.take_received(), b"Hello world!");
    let mut flooded = TestConnection::new(Layered::new(OpensLate, Echo::new()));
    flooded.peer_sends(&vec![b'x'; 200_000]);
    assert_eq!(flooded.close_reason(), Some(CloseReason::Aborted));
}

#[test]
fn effects_of_the_inner_protocol_pass_through() {
    struct Closes(ConnectionId);
    impl Protocol for Closes {
        fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
            cx.connections().close(self.0);
            Advance::consumed(input.len())
        }
    }
    let other = TestConnection::new(Echo::new()).other_connection();
    let mut connection = TestConnection::new(Layered::new(Identity, Closes(other)));
    connection.peer_sends(b"x");
    assert_eq!(connection.take_effects(), [RecordedEffect::Command(other, Command::Close)]);
}

/// What a peer does.
#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    Wait(u64),
}

fn steps(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..texts.len(), any::<prop::sample::Index>()).prop_map(move |(text, cut)| {
            let bytes = texts[text].as_bytes();
            Step::Send(bytes[..=cut.index(bytes.len())].to_vec())
        }),
        4 => (0..texts.len()).prop_map(move |text| Step::Send(texts[text].as_bytes().to_vec())),
        1 => (0..70_000u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..12)
}

/// Returns what the peer receives at each step, and why the connection ends.
fn run(protocol: impl Protocol + 'static, steps: &[Step]) -> (Vec<Vec<u8>>, Option<CloseReason>) {
    let mut connection = TestConnection::new(protocol);
    let mut received = Vec::new();
    for step in steps {
        match step {
            Step::Send(bytes) => connection.peer_sends(bytes),
            Step::Wait(ms) => connection.advance_clock(Duration::from_millis(*ms)),
        }
        received.push(without_dates(connection.take_received()));
    }
    connection.peer_shuts_down();
    received.push(without_dates(connection.take_received()));
    (received, connection.close_reason())
}

/// Removes what the wall clock decides, since a second may end between two runs.
fn without_dates(mut bytes: Vec<u8>) -> Vec<u8> {
    const DATE: &[u8] = b"Date: Sun, 29 Nov 2026 02:55:18 GMT\r\n";
    while let Some(at) = bytes.windows(6).position(|start| start == &DATE[..6]) {
        bytes.drain(at..at + DATE.len());
    }
    bytes
}

proptest! {
    #[test]
    fn identity_layer_over_echo_changes_nothing(steps in steps(&["Hello world", "x", "\n"])) {
        let plain = run(Echo::new(), &steps);
        prop_assert_eq!(run(Layered::new(Identity, Echo::new()), &steps), plain.clone());
        let twice = Layered::new(Identity, Layered::new(Identity, Echo::new()));
        prop_assert_eq!(run(twice, &steps), plain);
    }

    #[cfg(feature = "http")]
    #[test]
    fn identity_layer_over_http_changes_nothing(
        steps in steps(&[
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /plaintext HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "bad\r\n\r\n",
        ]),
    ) {
        use crate::http::{protocol::Http, site::Site};
        let plain = run(Http::new(Site::new()), &steps);
        prop_assert_eq!(run(Layered::new(Identity, Http::new(Site::new())), &steps), plain);
    }
}
