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

/// Messages that follow their length: a number of four bytes, the most significant first, that does
/// not count itself.
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
///         LengthPrefixed::send(message.content, cx);
///         message.consumed()
///     }
/// }
///
/// let messages = LengthPrefixed::new(1000, Duration::from_secs(10));
/// let mut echo = TestConnection::new(EchoMessages(messages));
/// echo.peer_sends(b"\0\0\0\x02hi\0\0\0\0\0");
/// assert_eq!(echo.take_received(), b"\0\0\0\x02hi\0\0\0\0");
/// ```
#[derive(Clone, Debug)]
pub struct LengthPrefixed(Framing);

/// What the helpers share.
#[derive(Clone, Debug)]
struct Framing {
    content_bytes_max: usize,
    deadline: Duration,
    /// The bytes of the present message that have been searched. Above zero, its deadline runs.
    searched: usize,
}

/// Bytes of the length before a message.
const PREFIX_BYTES: usize = 4;

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
    /// Makes the helper of one connection. A message has at most `content_bytes_max` bytes after
    /// its length, and arrives within `deadline` of its first byte.
    ///
    /// # Panics
    ///
    /// If `content_bytes_max` is more than
    /// [`INPUT_BYTES_MAX`] - 4: the connection keeps no more.
    pub fn new(content_bytes_max: usize, deadline: Duration) -> LengthPrefixed {
        LengthPrefixed(Framing::new(content_bytes_max, deadline))
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
        let Some((prefix, rest)) = input.split_first_chunk::<PREFIX_BYTES>() else {
            return Err(self.0.need_more(input, 0, cx));
        };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        match rest.get(..length) {
            Some(content) => self.0.complete(input, content, PREFIX_BYTES + length, cx),
            None => Err(self.0.need_more(input, length, cx)),
        }
    }

    /// Sends `content` after its length.
    ///
    /// # Panics
    ///
    /// If it has 2³² bytes or more.
    pub fn send(content: &[u8], cx: &mut Context<'_>) {
        let length = u32::try_from(content.len()).expect("a message has less than 2^32 bytes");
        cx.send(&length.to_be_bytes());
        cx.send(content);
    }
}

impl Framing {
    fn new(content_bytes_max: usize, deadline: Duration) -> Framing {
        assert!(
            content_bytes_max <= INPUT_BYTES_MAX - PREFIX_BYTES,
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
            LengthPrefixed::send(message.content, cx);
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

    #[test]
    fn prefixed_messages_in_pieces_of_any_size_are_the_same_messages() {
        let bytes = b"\0\0\0\x03one\0\0\0\0\0\0\0\x05three\0\0\0\x01";
        for size in 1..=bytes.len() {
            let mut connection =
                TestConnection::new(Prefixed(LengthPrefixed::new(5, Duration::from_secs(3))));
            for piece in bytes.chunks(size) {
                connection.peer_sends(piece);
            }
            assert_eq!(connection.take_received(), bytes[..bytes.len() - 4], "{size}");
        }
    }

    #[test]
    fn length_above_the_bound_closes_the_connection_at_once() {
        let mut connection =
            TestConnection::new(Prefixed(LengthPrefixed::new(5, Duration::from_secs(3))));
        connection.peer_sends(b"\0\0\0\x06");
        connection.peer_sends(b"\0\0\0\0");
        connection.peer_shuts_down();
        assert_eq!(connection.take_received(), b"");
        assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
    }

    #[test]
    #[should_panic(expected = "no more bytes than a connection keeps")]
    fn bound_above_what_a_connection_keeps_is_refused() {
        let _ = Lines::new(INPUT_BYTES_MAX - 3, Duration::from_secs(1));
    }
}
