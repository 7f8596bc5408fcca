//! Reading responses: where a head ends, what it says of the body, and where that ends (RFC 9112).
//!
//! ```text
//!     head ──► no body (1xx, 204, 304) │ length │ chunked │ until the server closes ──► complete
//! ```
//!
//! Invariant: the same bytes have the same result, however they are cut into reads. A response
//! whose end two clients could see at different places is a fault, never guessed at.

use std::fmt;

use httparse::Header;

use super::chunked::Chunked;
use crate::blast::limits::{RESPONSE_FIELDS_MAX, RESPONSE_HEAD_BYTES_MAX};

/// The responses of one connection, one after the other.
#[derive(Debug)]
pub(crate) struct ResponseReader {
    state: State,
    /// The status of the response whose head was read last. 0: of none.
    pub(crate) status: u16,
    /// Whether the connection persists after that response (RFC 9112 section 9.3).
    pub(crate) persists: bool,
}

#[derive(Debug)]
enum State {
    /// The head is not whole: its end is not in the first `searched` bytes of the input. The first
    /// `parsed` bytes of it are valid.
    Head {
        searched: usize,
        parsed: usize,
    },
    Length {
        left: u64,
    },
    Chunked(Chunked),
    UntilClose,
}

impl State {
    const NEXT_HEAD: State = State::Head { searched: 0, parsed: 0 };
}

/// One step through the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step<'i> {
    /// Bytes consumed from the front of the input. 0: more input is needed.
    pub(crate) consumed: usize,
    /// The part of the body among them.
    pub(crate) body: &'i [u8],
    /// The response ends with them.
    pub(crate) is_complete: bool,
}

/// What the end of the stream means for the response that is being read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AtEof {
    /// No response has begun.
    Between,
    /// It ends the body.
    Complete,
    /// It cuts the response off.
    Cut,
}

/// Why bytes are no valid response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    NotHttp,
    HeadTooLong,
    TooManyFields,
    Upgrade,
    ContentLength,
    TransferEncoding,
    ChunkLine,
    ChunkSize,
    ChunkEnd,
    ChunkLineTooLong,
    TrailerTooLong,
    Unexpected,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotHttp => f.write_str("it is no response of HTTP/1"),
            Fault::HeadTooLong => {
                write!(f, "its head has more than {RESPONSE_HEAD_BYTES_MAX} bytes")
            }
            Fault::TooManyFields => write!(f, "it has more than {RESPONSE_FIELDS_MAX} fields"),
            Fault::Upgrade => f.write_str("it switches protocols (101), and nothing asked for it"),
            Fault::ContentLength => f.write_str("its Content-Length is not one number"),
            Fault::TransferEncoding => {
                f.write_str("it has a Transfer-Encoding beside a Content-Length, or in HTTP/1.0")
            }
            Fault::ChunkLine => f.write_str("a chunk does not begin with its size and a line end"),
            Fault::ChunkSize => f.write_str("the size of a chunk is above 64 bits"),
            Fault::ChunkEnd => f.write_str("a chunk is longer than its size"),
            Fault::ChunkLineTooLong => f.write_str("the line of a chunk's size is too long"),
            Fault::TrailerTooLong => f.write_str("the fields after the last chunk are too long"),
            Fault::Unexpected => f.write_str("it answers no request"),
        }
    }
}

impl ResponseReader {
    pub(crate) fn new() -> ResponseReader {
        ResponseReader { state: State::NEXT_HEAD, status: 0, persists: true }
    }

    /// Takes one step through `input`: a head, or a part of a body.
    ///
    /// A part of a body is consumed as it comes. A head is not consumed before it is whole, so the
    /// next call has it in front again.
    ///
    /// # Errors
    ///
    /// The bytes are no response. It is unknown where the next one begins.
    pub(crate) fn step<'i>(&mut self, input: &'i [u8]) -> Result<Step<'i>, Fault> {
        let step = match &mut self.state {
            State::Head { searched, parsed } => {
                // Fast path: the head is whole at first sight. If not, it is parsed again when it
                // is, and each time that it has become twice as long. So garbage shows early, and a
                // head that comes byte by byte takes linear time.
                let is_parsed_again = input.len() >= (2 * *parsed).min(RESPONSE_HEAD_BYTES_MAX)
                    || has_head_end(input, *searched);
                *searched = input.len();
                return if is_parsed_again { self.read_head(input) } else { Ok(NEED_MORE) };
            }
            State::Length { left } => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= count as u64;
                Step { consumed: count, body: &input[..count], is_complete: *left == 0 }
            }
            State::Chunked(chunked) => chunked.step(input)?,
            State::UntilClose => Step { consumed: input.len(), body: input, is_complete: false },
        };
        if step.is_complete {
            self.state = State::NEXT_HEAD;
        }
        Ok(step)
    }

    /// Returns what the end of the stream means, after `rest`, the input that is not consumed.
    ///
    /// # Errors
    ///
    /// `rest` is no beginning of a response.
    pub(crate) fn at_eof(&mut self, rest: &[u8]) -> Result<AtEof, Fault> {
        match self.state {
            State::Head { .. } if rest.is_empty() => Ok(AtEof::Between),
            State::Head { .. } => self.read_head(rest).map(|_| AtEof::Cut),
            State::UntilClose => Ok(AtEof::Complete),
            State::Length { .. } | State::Chunked(_) => Ok(AtEof::Cut),
        }
    }

    /// Returns whether a response has begun and is not complete.
    pub(crate) fn is_within_response(&self) -> bool {
        !matches!(self.state, State::Head { searched: 0, .. })
    }

    fn read_head<'i>(&mut self, input: &'i [u8]) -> Result<Step<'i>, Fault> {
        // The bound holds however much has come at once.
        let head = &input[..input.len().min(RESPONSE_HEAD_BYTES_MAX)];
        let Some((minor, status, line_bytes)) = parse_status_line(head)? else {
            return self.wait_for_head(input);
        };
        let mut fields = [httparse::EMPTY_HEADER; RESPONSE_FIELDS_MAX];
        let (length, fields) = match httparse::parse_headers(&head[line_bytes..], &mut fields) {
            Ok(httparse::Status::Complete((length, fields))) => (line_bytes + length, fields),
            Ok(httparse::Status::Partial) => return self.wait_for_head(input),
            Err(httparse::Error::TooManyHeaders) => return Err(Fault::TooManyFields),
            Err(_) => return Err(Fault::NotHttp),
        };
        self.status = status;
        if self.status == 101 {
            return Err(Fault::Upgrade);
        }
        let is_interim = (100..200).contains(&self.status);
        let framing = Framing::of(minor, fields)?;
        if !is_interim {
            self.persists = framing.persists;
            self.state = framing.body(self.status);
        }
        let is_complete = !is_interim && matches!(self.state, State::Length { left: 0 });
        if is_interim || is_complete {
            self.state = State::NEXT_HEAD;
        } else if matches!(self.state, State::UntilClose) {
            self.persists = false;
        }
        Ok(Step { consumed: length, body: &[], is_complete })
    }

    #[cold]
    fn wait_for_head<'i>(&mut self, input: &'i [u8]) -> Result<Step<'i>, Fault> {
        if input.len() >= RESPONSE_HEAD_BYTES_MAX {
            return Err(Fault::HeadTooLong);
        }
        self.state = State::Head { searched: input.len(), parsed: input.len() };
        Ok(NEED_MORE)
    }
}

const NEED_MORE: Step<'static> = Step { consumed: 0, body: &[], is_complete: false };

/// Returns whether an empty line ends in `input` after its first `searched` bytes.
fn has_head_end(input: &[u8], searched: usize) -> bool {
    let new = &input[searched.saturating_sub(2)..];
    new.windows(2).any(|two| two == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

/// Parses a status line (RFC 9112 section 4): the minor version, the status, and the length of the
/// line in bytes. `None`: `input` has only a beginning of it.
fn parse_status_line(input: &[u8]) -> Result<Option<(u8, u16, usize)>, Fault> {
    const VERSION: &[u8] = b"HTTP/1.";
    let Some(length) = input.iter().position(|&byte| byte == b'\n').map(|end| end + 1) else {
        let begins = input.iter().zip(VERSION).all(|(one, other)| one == other);
        return if begins { Ok(None) } else { Err(Fault::NotHttp) };
    };
    let line = &input[..length - 1];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.strip_prefix(VERSION) {
        Some([minor @ (b'0' | b'1'), b' ', code @ ..]) => {
            let (digits, reason) = code.split_at_checked(3).ok_or(Fault::NotHttp)?;
            let is_text = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
            let has_end = reason.is_empty() || reason.starts_with(b" ");
            if !has_end || !reason.iter().all(is_text) {
                return Err(Fault::NotHttp);
            }
            let status = number(digits).and_then(|code| u16::try_from(code).ok());
            let status = status.filter(|&code| code >= 100); // RFC 9110 section 15
            Ok(Some((minor - b'0', status.ok_or(Fault::NotHttp)?, length)))
        }
        _ => Err(Fault::NotHttp),
    }
}

/// What the fields of a head say of its message (RFC 9112 section 6).
struct Framing {
    content_length: Option<u64>,
    transfer_coding: TransferCoding,
    persists: bool,
}

/// The last of the transfer codings, which decides where the body ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TransferCoding {
    None,
    Chunked,
    Other,
}

impl Framing {
    fn of(minor: u8, fields: &[Header<'_>]) -> Result<Framing, Fault> {
        let is_1_1 = minor == 1;
        let mut framing = Framing {
            content_length: None,
            transfer_coding: TransferCoding::None,
            persists: is_1_1,
        };
        let mut has_close = false;
        for field in fields {
            // Fast path: few names are as long as one of the three.
            match field.name.len() {
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    for option in items(field.value) {
                        has_close |= option.eq_ignore_ascii_case(b"close");
                        framing.persists |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    for item in items(field.value) {
                        let length = number(item).ok_or(Fault::ContentLength)?;
                        if framing.content_length.is_some_and(|other| other != length) {
                            return Err(Fault::ContentLength);
                        }
                        framing.content_length = Some(length);
                    }
                    framing.content_length.ok_or(Fault::ContentLength)?;
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    if !is_1_1 {
                        return Err(Fault::TransferEncoding);
                    }
                    for item in items(field.value) {
                        framing.transfer_coding = if item.eq_ignore_ascii_case(b"chunked") {
                            TransferCoding::Chunked
                        } else {
                            TransferCoding::Other
                        };
                    }
                }
                _ => {}
            }
        }
        framing.persists &= !has_close;
        let has_both =
            framing.transfer_coding != TransferCoding::None && framing.content_length.is_some();
        if has_both { Err(Fault::TransferEncoding) } else { Ok(framing) }
    }

    /// Returns where the body ends (RFC 9112 section 6.3).
    fn body(&self, status: u16) -> State {
        match (self.transfer_coding, self.content_length) {
            _ if [204, 304].contains(&status) => State::Length { left: 0 },
            (TransferCoding::Chunked, _) => State::Chunked(Chunked::new()),
            (TransferCoding::Other, _) | (TransferCoding::None, None) => State::UntilClose,
            (TransferCoding::None, Some(left)) => State::Length { left },
        }
    }
}

/// Returns the items of a comma-separated list. Empty ones count for nothing (RFC 9110 section
/// 5.6.1).
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// Reads digits alone. `None`: they are no number, or one above 64 bits.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests;
