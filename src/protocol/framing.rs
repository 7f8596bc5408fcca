//! Where messages end in a stream: lines, and messages that follow their length.
//!
//! A protocol has one of these as a field, and asks it in each `advance` for the next message. The
//! bytes stay in the connection, so a helper only counts: how far it has searched, and whether a
//! message has begun.
//!
//! Invariant: no byte is searched twice, so input that comes byte by byte takes linear time. A
//! message has a bound and a deadline, and there is no helper without either.

use std::time::Duration;

use super::context::Context;
use super::protocol::{Advance, Next};
use crate::limits::INPUT_BYTES_MAX;

/// One whole message at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'i> {
    /// Its content, without what delimits it.
    pub content: &'i [u8],
    /// How many bytes of the input it takes, with what delimits it.
    pub length: usize,
}

impl Frame<'_> {
    /// Returns the step that consumes this message, and continues with the next one.
    pub fn consumed(&self) -> Advance {
        Advance::consumed(self.length)
    }
}

/// Messages that end with a line feed, which may follow a carriage return.
///
/// ```
/// use std::time::Duration;
/// use mio_reactor::{Advance, Context, Lines, Protocol, TestConnection};
///
/// /// Sends each line back, reversed.
/// struct Reverse(Lines);
///
/// impl Protocol for Reverse {
///     fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
///         let line = match self.0.next(input, cx) {
///             Ok(line) => line,
///             Err(step) => return step,
///         };
///         let reversed: Vec<u8> = line.content.iter().rev().copied().collect();
///         cx.send(&reversed);
///         cx.send(b"\n");
///         line.consumed()
///     }
/// }
///
/// let lines = Lines::new(1000, Duration::from_secs(10));
/// let mut reverse = TestConnection::new(Reverse(lines));
/// reverse.peer_sends(b"Hello\r\nwor");
/// reverse.peer_sends(b"ld\n");
/// assert_eq!(reverse.take_received(), b"olleH\ndlrow\n");
/// ```
#[derive(Clone, Debug)]
pub struct Lines(Framing);

/// Messages that follow their length: a number of one, two or four bytes, the most significant
/// first, that does not count itself. DNS over TCP has two (RFC 1035 section 4.2.2).
///
/// ```
/// use std::time::Duration;
/// use mio_reactor::{Advance, Context, LengthPrefixed, Protocol, TestConnection};
///
/// /// Sends each message back.
/// struct EchoMessages(LengthPrefixed);
///
/// impl Protocol for EchoMessages {
///     fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
///         let message = match self.0.next(input, cx) {
///             Ok(message) => message,
///             Err(step) => return step,
///         };
///         self.0.send(message.content, cx);
///         message.consumed()
///     }
/// }
///
/// let messages = LengthPrefixed::u16(1000, Duration::from_secs(10));
/// let mut echo = TestConnection::new(EchoMessages(messages));
/// echo.peer_sends(b"\0\x02hi\0\0\0");
/// assert_eq!(echo.take_received(), b"\0\x02hi\0\0");
/// ```
#[derive(Clone, Debug)]
pub struct LengthPrefixed {
    framing: Framing,
    prefix_bytes: usize,
}

/// What the helpers share.
#[derive(Clone, Debug)]
struct Framing {
    content_bytes_max: usize,
    deadline: Duration,
    /// The bytes of the present message that have been searched. Above zero, its deadline runs.
    searched: usize,
}

/// Most bytes beside its content that a message takes.
const DELIMITER_BYTES_MAX: usize = 4;

impl Lines {
    /// Makes the helper of one connection. A line has at most `content_bytes_max` bytes before its
    /// end, and arrives within `deadline` of its first byte.
    ///
    /// # Panics
    ///
    /// If `content_bytes_max` is more than
    /// [`INPUT_BYTES_MAX`] - 4: the connection keeps no more.
    pub fn new(content_bytes_max: usize, deadline: Duration) -> Lines {
        Lines(Framing::new(content_bytes_max, deadline))
    }

    /// Returns the line at the front of `input`, if it is whole. It may be empty.
    ///
    /// The helper sets the timer of the connection when a line has begun, and cancels it when the
    /// line has ended. So a protocol that uses it has no other timer; by default,
    /// [`timer_expired`](crate::Protocol::timer_expired) closes the connection.
    ///
    /// # Errors
    ///
    /// The step to return from `advance` if there is no whole line yet, or if the line is too long.
    /// The latter closes the connection.
    pub fn next<'i>(
        &mut self,
        input: &'i [u8],
        cx: &mut Context<'_>,
    ) -> Result<Frame<'i>, Advance> {
        let framing = &mut self.0;
        let new = &input[framing.searched..];
        let Some(end) = new.iter().position(|&byte| byte == b'\n') else {
            let ends_with_return = input.last() == Some(&b'\r');
            let content = input.len() - usize::from(ends_with_return);
            return Err(framing.need_more(input, content, cx));
        };
        let end = framing.searched + end;
        let content = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        framing.complete(input, content, end + 1, cx)
    }
}

impl LengthPrefixed {
    /// Makes the helper of one connection, for lengths of one byte. A message has at most
    /// `content_bytes_max` bytes after its length, and arrives within `deadline` of its first byte.
    ///
    /// # Panics
    ///
    /// If `content_bytes_max` is more than 255: no length is above that.
    pub fn u8(content_bytes_max: usize, deadline: Duration) -> LengthPrefixed {
        LengthPrefixed::new(1, content_bytes_max, deadline)
    }

    /// Makes the helper of one connection, as [`u8`](LengthPrefixed::u8) does, for lengths of two
    /// bytes.
    ///
    /// # Panics
    ///
    /// If `content_bytes_max` is more than 65,535: no length is above that.
    pub fn u16(content_bytes_max: usize, deadline: Duration) -> LengthPrefixed {
        LengthPrefixed::new(2, content_bytes_max, deadline)
    }

    /// Makes the helper of one connection, as [`u8`](LengthPrefixed::u8) does, for lengths of four
    /// bytes.
    ///
    /// # Panics
    ///
    /// If `content_bytes_max` is more than
    /// [`INPUT_BYTES_MAX`] - 4: the connection keeps no more.
    pub fn u32(content_bytes_max: usize, deadline: Duration) -> LengthPrefixed {
        LengthPrefixed::new(4, content_bytes_max, deadline)
    }

    fn new(prefix_bytes: usize, content_bytes_max: usize, deadline: Duration) -> LengthPrefixed {
        let framing = Framing::new(content_bytes_max, deadline);
        assert!(fits(content_bytes_max, prefix_bytes), "no length is above the highest that fits");
        LengthPrefixed { framing, prefix_bytes }
    }

    /// Returns the message at the front of `input`, if it is whole. It may be empty.
    ///
    /// It uses the timer of the connection as [`Lines::next`] does.
    ///
    /// # Errors
    ///
    /// The step to return from `advance` if there is no whole message yet, or if its length is
    /// above the bound. The latter closes the connection, before any of the message is awaited.
    pub fn next<'i>(
        &mut self,
        input: &'i [u8],
        cx: &mut Context<'_>,
    ) -> Result<Frame<'i>, Advance> {
        let LengthPrefixed { framing, prefix_bytes } = self;
        let Some((prefix, rest)) = input.split_at_checked(*prefix_bytes) else {
            return Err(framing.need_more(input, 0, cx));
        };
        let length = prefix.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        match rest.get(..length) {
            Some(content) => framing.complete(input, content, prefix.len() + length, cx),
            None => Err(framing.need_more(input, length, cx)),
        }
    }

    /// Sends `content` after its length. It may be longer than what is received may be.
    ///
    /// # Panics
    ///
    /// If it is longer than the highest length: 255, 65,535 or 2³² - 1 bytes.
    pub fn send(&self, content: &[u8], cx: &mut Context<'_>) {
        let prefix = (content.len() as u64).to_be_bytes();
        assert!(fits(content.len(), self.prefix_bytes), "no length is above the highest that fits");
        cx.send(&prefix[prefix.len() - self.prefix_bytes..]);
        cx.send(content);
    }
}

/// Returns whether `length` is a number of `prefix_bytes`.
fn fits(length: usize, prefix_bytes: usize) -> bool {
    (length as u64) >> (8 * prefix_bytes) == 0
}

impl Framing {
    fn new(content_bytes_max: usize, deadline: Duration) -> Framing {
        assert!(
            content_bytes_max <= INPUT_BYTES_MAX - DELIMITER_BYTES_MAX,
            "a message has no more bytes than a connection keeps"
        );
        Framing { content_bytes_max, deadline, searched: 0 }
    }

    /// The message is not whole. It will have at least `content` bytes.
    fn need_more(&mut self, input: &[u8], content: usize, cx: &mut Context<'_>) -> Advance {
        if content > self.content_bytes_max {
            return Framing::refuse(input);
        }
        if self.searched == 0 {
            cx.set_timer(self.deadline);
        }
        self.searched = input.len();
        Advance::need_more()
    }

    /// The message is whole: `content`, in the first `length` bytes of `input`.
    fn complete<'i>(
        &mut self,
        input: &[u8],
        content: &'i [u8],
        length: usize,
        cx: &mut Context<'_>,
    ) -> Result<Frame<'i>, Advance> {
        if content.len() > self.content_bytes_max {
            return Err(Framing::refuse(input));
        }
        if std::mem::take(&mut self.searched) > 0 {
            cx.cancel_timer();
        }
        Ok(Frame { content, length })
    }

    #[cold]
    fn refuse(input: &[u8]) -> Advance {
        Advance::consumed(input.len()).then(Next::Close)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ident::CloseReason;
    use crate::protocol::protocol::Protocol;
    use crate::testing::test_connection::TestConnection;

    struct Brackets(Lines);

    impl Protocol for Brackets {
        fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
            let line = match self.0.next(input, cx) {
                Ok(line) => line,
                Err(step) => return step,
            };
            cx.send(b"[");
            cx.send(line.content);
            cx.send(b"]");
            line.consumed()
        }
    }

    struct Prefixed(LengthPrefixed);

    impl Protocol for Prefixed {
        fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
            let message = match self.0.next(input, cx) {
                Ok(message) => message,
                Err(step) => return step,
            };
            self.0.send(message.content, cx);
            message.consumed()
        }
    }

    fn brackets() -> TestConnection {
        TestConnection::new(Brackets(Lines::new(5, Duration::from_secs(3))))
    }

    #[test]
    fn lines_in_pieces_of_any_size_are_the_same_lines() {
        let text = b"one\r\n\n\r\r\ntwo\n\r\n12345\r\nx";
        for size in 1..=text.len() {
            let mut connection = brackets();
            for piece in text.chunks(size) {
                connection.peer_sends(piece);
            }
            assert_eq!(connection.take_received(), b"[one][][\r][two][][12345]", "{size}");
        }
    }

    #[test]
    fn line_that_is_too_long_closes_the_connection_before_its_end() {
        for (input, closes) in
            [(&b"12345"[..], false), (b"12345\r", false), (b"123456", true), (b"123456\n", true)]
        {
            let mut connection = brackets();
            connection.peer_sends(input);
            connection.peer_shuts_down();
            assert_eq!(connection.take_received(), b"", "{}", input.escape_ascii());
            let mut open = brackets();
            open.peer_sends(input);
            open.peer_sends(b"\n");
            let received = open.take_received();
            assert_eq!(received.is_empty(), closes, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn deadline_runs_from_the_first_byte_of_a_message_and_no_byte_extends_it() {
        let mut connection = brackets();
        connection.peer_sends(b"a");
        connection.advance_clock(Duration::from_secs(2));
        connection.peer_sends(b"b\nc");
        connection.advance_clock(Duration::from_secs(2));
        connection.peer_sends(b"d");
        assert_eq!(connection.take_received(), b"[ab]");
        connection.advance_clock(Duration::from_secs(1));
        connection.peer_sends(b"\n");
        assert_eq!(connection.take_received(), b"", "too late");
        connection.peer_shuts_down();
        assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
    }

    /// The helpers for every width, with a bound of 5 bytes and a deadline of 3 s.
    fn helpers() -> [LengthPrefixed; 3] {
        let make: [fn(usize, Duration) -> LengthPrefixed; 3] =
            [LengthPrefixed::u8, LengthPrefixed::u16, LengthPrefixed::u32];
        make.map(|make| make(5, Duration::from_secs(3)))
    }

    #[test]
    fn prefixed_messages_in_pieces_of_any_size_are_the_same_messages() {
        for (helper, zeros) in helpers().into_iter().zip([&b""[..], b"\0", b"\0\0\0"]) {
            let whole = [zeros, b"\x03one", zeros, b"\0", zeros, b"\x05three"].concat();
            let bytes = [&whole[..], zeros, b"\x01"].concat();
            for size in 1..=bytes.len() {
                let mut connection = TestConnection::new(Prefixed(helper.clone()));
                for piece in bytes.chunks(size) {
                    connection.peer_sends(piece);
                }
                assert_eq!(connection.take_received(), whole, "{helper:?}, {size}");
            }
        }
    }

    #[test]
    fn length_above_the_bound_closes_the_connection_at_once() {
        for helper in helpers() {
            let last = helper.prefix_bytes - 1;
            for (at, byte) in [(0, 0xFF), (0, 6), (last, 6), (last, 0xFF)] {
                let mut prefix = vec![0; helper.prefix_bytes];
                prefix[at] = byte;
                let mut connection = TestConnection::new(Prefixed(helper.clone()));
                connection.peer_sends(&prefix);
                connection.peer_sends(&vec![0; helper.prefix_bytes]);
                connection.peer_shuts_down();
                assert_eq!(connection.take_received(), b"", "{prefix:?}");
                assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
            }
        }
    }

    #[test]
    fn bytes_of_a_length_are_sent_and_read_most_significant_first() {
        let mut connection =
            TestConnection::new(Prefixed(LengthPrefixed::u16(0xFFFF, Duration::from_secs(3))));
        for length in [0xFF, 0x100, 0x1234, 0xFFFF_u16] {
            let message = [&length.to_be_bytes()[..], &vec![b'x'; length.into()]].concat();
            connection.peer_sends(&message);
            assert!(connection.take_received() == message, "{length:#x}");
        }
    }

    #[test]
    #[should_panic(expected = "no length is above the highest that fits")]
    fn bound_above_the_highest_length_is_refused() {
        let _ = LengthPrefixed::u8(256, Duration::from_secs(1));
    }

    /// Greets with more bytes than the length has a number for.
    struct TooLong(LengthPrefixed);

    impl Protocol for TooLong {
        fn opened(&mut self, cx: &mut Context<'_>) -> Next {
            self.0.send(&[0; 256], cx);
            Next::Continue
        }

        fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
            Advance::consumed(input.len())
        }
    }

    #[test]
    #[should_panic(expected = "no length is above the highest that fits")]
    fn message_above_the_highest_length_is_not_sent() {
        let _ = TestConnection::new(TooLong(LengthPrefixed::u8(5, Duration::from_secs(1))));
    }

    #[test]
    #[should_panic(expected = "no more bytes than a connection keeps")]
    fn bound_above_what_a_connection_keeps_is_refused() {
        let _ = Lines::new(INPUT_BYTES_MAX - 3, Duration::from_secs(1));
    }
}
