//! A request's head: parsed, then checked against the rules that decide where its message ends.
//!
//! ```text
//!     GET /a?b HTTP/1.1     RequestLine: exactly three words
//!     Host: a               ┐ split into names and values by httparse,
//!     Content-Length: 5     ┘ then read for what frames the message: Framing
//!                           the empty line: the head ends
//! ```
//!
//! Invariant: a head that two recipients could read differently is rejected, never guessed at.
//! Request smuggling needs two servers that guess differently (RFC 9112 section 11.2). And the same
//! bytes have the same result, however they are split into reads.

use httparse::{EMPTY_HEADER, Error, Header};

use super::field_lines::FieldLines;
use super::request::{Method, Request};
use super::response::ResponseForm;
use super::scan::{Scan, Scanned};
use super::status::Status;
use super::target::{IS_QUERY_BYTE, IS_TARGET_BYTE, is_host, leading, split_target};
use crate::http::limits::{
    CONTENT_LENGTH_DIGITS_MAX, HEAD_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX,
};

/// How many fields the request of a tool has at most: curl sends three, other libraries up to five
/// or six. (A browser sends ten and more.) To clear space for `HEADERS_MAX` fields would cost as
/// much as parsing them. Beyond: the fields are parsed again, with that space.
const FEW_HEADERS: usize = 6;

/// What the bytes of a head come to that is not a whole and valid one of HTTP/1.
pub(super) enum Examined<'i> {
    /// The head is not complete, and valid so far. Its bytes have been read this far.
    Partial(Scan),
    /// A simple request, and the length of its line in bytes.
    Simple(Request<'i>, usize),
    /// Not a valid request, or one that is too large: the status of the error response.
    Rejected(Status),
}

/// Parses the head at the front of `input`. Returns the request and the length of its head in
/// bytes.
///
/// The result does not depend on how the bytes were split into reads.
///
/// # Errors
///
/// The head is not complete, or it is not a valid one of HTTP/1. [`examine`] tells which. The
/// status is for it.
#[inline(always)] // else each request pays for two more copies of it
pub(super) fn parse(input: &[u8]) -> Result<(Request<'_>, usize), Status> {
    let head = &input[..input.len().min(HEAD_BYTES_MAX)];
    let (line, line_bytes) = RequestLine::parse(head).ok_or(Status::BAD_REQUEST)?;
    let (framing, fields) = Framing::read(&head[line_bytes..])?;
    match line.allows(&framing) {
        true => Ok((Request::new(line, fields, &framing), line_bytes + fields.section_bytes())),
        false => Err(Status::BAD_REQUEST),
    }
}

/// Reads the bytes of a head that [`parse`] has not accepted. `status`: why, if it is complete and
/// no byte of it is invalid.
///
/// The first invalid byte decides, so that the result is the same when the head comes in pieces.
pub(super) fn examine(input: &[u8], status: Status) -> Examined<'_> {
    let mut scan = Scan::NEXT;
    let mut scanned = scan.feed(input, 0);
    if let Scanned::LineEnded(length) = scanned {
        let line = &input[..length];
        if RequestLine::parse(line).is_none() {
            return judge_line(line);
        }
        scanned = scan.feed(input, length);
    }
    match scanned {
        Scanned::Partial => Examined::Partial(scan),
        Scanned::LineEnded(_) | Scanned::HeadEnded => Examined::Rejected(status),
        Scanned::Rejected(status) => Examined::Rejected(status),
    }
}

/// The result for a request line whose bytes are valid, but which is none of HTTP/1 that we serve.
fn judge_line(line: &[u8]) -> Examined<'_> {
    if let Some(request) = simple_request(line) {
        return Examined::Simple(request, line.len());
    }
    let [start @ .., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', _, b'\r', b'\n'] = line
    else {
        return Examined::Rejected(Status::BAD_REQUEST);
    };
    let word = start.split(|&byte| byte == b' ').next().unwrap_or_default();
    Examined::Rejected(if *major != b'1' {
        Status::HTTP_VERSION_NOT_SUPPORTED
    } else if Method::of(word).is_none() {
        Status::NOT_IMPLEMENTED
    } else {
        Status::BAD_REQUEST
    })
}

/// Parses `GET SP target CR LF`, exactly: an HTTP/0.9 Simple-Request (RFC 1945 section 5).
///
/// No recipient can take the line for a request of a later version, because it has no version. The
/// connection closes after the response, so nothing after the line can be taken for another
/// request.
fn simple_request(line: &[u8]) -> Option<Request<'_>> {
    let target = line.strip_prefix(b"GET ")?.strip_suffix(b"\r\n")?;
    let path_end =
        target.iter().position(|&byte| !IS_TARGET_BYTE[usize::from(byte)]).unwrap_or(target.len());
    let query = match target.get(path_end) {
        None => None,
        Some(b'?') => Some(&target[path_end + 1..]),
        Some(_) => return None,
    };
    let is_query = |byte: &u8| IS_QUERY_BYTE[usize::from(*byte)];
    let (_, path) = split_target(Method::Get, &target[..path_end], target)?;
    query.unwrap_or_default().iter().all(is_query).then_some(Request::simple(path, query))
}

impl<'i> Request<'i> {
    fn new(line: RequestLine<'i>, fields: FieldLines<'i>, framing: &Framing) -> Request<'i> {
        Request {
            method: line.method,
            path: line.path,
            query: line.query,
            authority: line.authority,
            fields,
            form: if line.method == Method::Head { ResponseForm::Head } else { ResponseForm::Full },
            is_1_1: line.is_1_1,
            keeps_alive: !framing.has_close && (line.is_1_1 || framing.has_keep_alive),
            expects_continue: line.is_1_1 && framing.expects_continue,
            body_bytes: framing.body_bytes.unwrap_or(0),
        }
    }

    /// An HTTP/0.9 request: no fields, and a response without a head (RFC 1945 section 5).
    fn simple(path: &'i [u8], query: Option<&'i [u8]>) -> Request<'i> {
        let (method, form) = (Method::Get, ResponseForm::Simple);
        let (authority, fields) = (None, FieldLines::NONE);
        Request {
            method,
            path,
            query,
            authority,
            fields,
            form,
            is_1_1: false,
            keeps_alive: false,
            expects_continue: false,
            body_bytes: 0,
        }
    }
}

/// A request line: `METHOD SP target SP HTTP/1.x CR LF`, exactly (RFC 9112 section 3).
#[derive(Clone, Copy)]
struct RequestLine<'i> {
    method: Method,
    /// Only in the absolute form and in CONNECT's.
    authority: Option<&'i [u8]>,
    path: &'i [u8],
    query: Option<&'i [u8]>,
    is_1_1: bool,
}

impl<'i> RequestLine<'i> {
    /// Parses the line at the front of `head`, and returns it with its length in bytes. `None`: it
    /// is invalid, incomplete or too long, and [`examine`] tells which.
    #[inline(always)]
    fn parse(head: &'i [u8]) -> Option<(RequestLine<'i>, usize)> {
        let (method, target) = method(head)?;
        let path_end = leading(&IS_TARGET_BYTE, target);
        let target_end = match target.get(path_end)? {
            b'?' => path_end + leading(&IS_QUERY_BYTE, &target[path_end..]),
            _ => path_end,
        };
        let version = target[target_end..].first_chunk::<{ " HTTP/1.1\r\n".len() }>()?;
        let [name @ .., minor, b'\r', b'\n'] = version else { return None };
        if name != b" HTTP/1." || !minor.is_ascii_digit() {
            return None;
        }
        // A higher minor version is served as 1.1 (RFC 9110 section 2.5).
        let is_1_1 = *minor != b'0';
        let (authority, path) = split_target(method, &target[..path_end], &target[..target_end])?;
        let query = (target_end > path_end).then(|| &target[path_end + 1..target_end]);
        let length = head.len() - target.len() + target_end + version.len();
        (length <= REQUEST_LINE_BYTES_MAX)
            .then_some((RequestLine { method, authority, path, query, is_1_1 }, length))
    }

    /// Returns whether a request with this line may have these fields.
    fn allows(&self, framing: &Framing) -> bool {
        match self.is_1_1 {
            true => framing.has_host, // RFC 9112 section 3.2
            // A 1.0 client ends a body without a length by closing the connection, which would
            // leave no way to respond (RFC 1945 section 7.2.2).
            false => {
                framing.body_bytes.is_some() || !matches!(self.method, Method::Post | Method::Put)
            }
        }
    }
}

/// The values of the fields that frame the message or decide whether the connection persists.
#[derive(Default)]
pub(super) struct Framing {
    has_host: bool,
    pub(super) body_bytes: Option<u64>,
    pub(super) has_close: bool,
    pub(super) has_keep_alive: bool,
    expects_continue: bool,
}

impl Framing {
    /// Reads the field lines at the front of `section`, to the empty line behind them.
    ///
    /// # Errors
    ///
    /// They are not complete, or not valid, or one of them leaves the end of the message in doubt.
    #[inline(always)]
    pub(super) fn read(section: &[u8]) -> Result<(Framing, FieldLines<'_>), Status> {
        let mut few = [EMPTY_HEADER; FEW_HEADERS];
        match httparse::parse_headers(section, &mut few) {
            Ok(httparse::Status::Complete((length, fields))) => {
                Framing::read_fields(fields, &section[..length])
            }
            Err(Error::TooManyHeaders) => Framing::read_many(section),
            Ok(httparse::Status::Partial) | Err(_) => Err(Status::BAD_REQUEST),
        }
    }

    /// The same, if there are more than `FEW_HEADERS`.
    #[inline(never)]
    fn read_many(section: &[u8]) -> Result<(Framing, FieldLines<'_>), Status> {
        let mut many = [EMPTY_HEADER; HEADERS_MAX];
        match httparse::parse_headers(section, &mut many) {
            Ok(httparse::Status::Complete((length, fields))) => {
                Framing::read_fields(fields, &section[..length])
            }
            Ok(httparse::Status::Partial) | Err(_) => Err(Status::BAD_REQUEST),
        }
    }

    /// Reads the fields that httparse has found in `section`, which the empty line ends.
    #[inline(always)]
    pub(super) fn read_fields<'i>(
        fields: &[Header<'_>],
        section: &'i [u8],
    ) -> Result<(Framing, FieldLines<'i>), Status> {
        let mut framing = Framing::default();
        let lines = section.strip_suffix(b"\r\n").ok_or(Status::BAD_REQUEST)?;
        for Header { name, value } in fields {
            if !ends_with_crlf(value, section) {
                return Err(Status::BAD_REQUEST);
            }
            let name = name.as_bytes();
            // The length tells most names apart before a letter is compared.
            match name.len() {
                4 if name_is(name, b"host") => {
                    if framing.has_host || !is_host(value) {
                        return Err(Status::BAD_REQUEST);
                    }
                    framing.has_host = true;
                }
                10 if name_is(name, b"connection") => {
                    framing.read_connection_options(value);
                }
                14 if name_is(name, b"content-length") => {
                    if framing.body_bytes.is_some() {
                        // Two of them, even if they are equal (RFC 9112 section 6.3).
                        return Err(Status::BAD_REQUEST);
                    }
                    framing.body_bytes = Some(content_length(value).ok_or(Status::BAD_REQUEST)?);
                }
                // No coding is decoded here, so the end of the message cannot be known (RFC 9112
                // section 6.1).
                17 if name_is(name, b"transfer-encoding") => {
                    return Err(Status::NOT_IMPLEMENTED);
                }
                6 if name_is(name, b"expect") => {
                    framing.expects_continue |=
                        list_items(value).any(|word| word.eq_ignore_ascii_case(b"100-continue"));
                }
                _ => {}
            }
        }
        Ok((framing, FieldLines::new(lines)))
    }

    /// Reads a Connection field. It nearly always has one option, so the list is split only if the
    /// value as a whole is none that we know.
    #[inline]
    fn read_connection_options(&mut self, value: &[u8]) {
        if !self.read_connection_option(value) {
            list_items(value).for_each(|option| _ = self.read_connection_option(option));
        }
    }

    /// Returns whether `option` is one that we know.
    #[inline(always)]
    fn read_connection_option(&mut self, option: &[u8]) -> bool {
        let (is_close, is_keep_alive) = (name_is(option, b"close"), name_is(option, b"keep-alive"));
        self.has_close |= is_close;
        self.has_keep_alive |= is_keep_alive;
        is_close || is_keep_alive
    }
}

/// Returns whether `name` equals `lower` in any case.
///
/// The case bit, 0x20, is set in every byte of `lower`: in the letters and in `-`. Setting it in
/// `name` cannot make another byte equal: beside the upper-case letters only CR changes into one of
/// these bytes (`-`), and httparse leaves no CR in a name or a value.
#[inline(always)]
fn name_is<const N: usize>(name: &[u8], lower: &[u8; N]) -> bool {
    let Ok(name) = <&[u8; N]>::try_from(name) else { return false };
    // Without a branch for each byte, so that the compiler compares many at a time.
    name.iter().zip(lower).fold(0, |differs, (byte, lower)| differs | ((byte | 0x20) ^ lower)) == 0
}

/// Returns the elements of a list (RFC 9110 section 5.6.1).
pub(super) fn list_items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Returns whether `value`, which httparse has found in `section`, is followed by CR LF.
///
/// httparse also takes a line feed alone for the end of a line. Other recipients do not, and could
/// see another message.
fn ends_with_crlf(value: &[u8], section: &[u8]) -> bool {
    let end = value.as_ptr().addr() + value.len() - section.as_ptr().addr();
    match section.get(end) {
        Some(b' ' | b'\t') => {
            section[end..].iter().find(|&&byte| byte != b' ' && byte != b'\t') == Some(&b'\r')
        }
        after => after == Some(&b'\r'),
    }
}

/// Returns the method that `head` begins with, if it is a known one, and what follows the space
/// after it.
#[inline(always)]
fn method(head: &[u8]) -> Option<(Method, &[u8])> {
    if let Some(target) = head.strip_prefix(b"GET ") {
        return Some((Method::Get, target)); // fast path: nearly every request
    }
    let space = head.iter().position(|&byte| byte == b' ')?;
    let method = Method::of(&head[..space])?;
    Some((method, &head[space + 1..]))
}

/// Parses 1*DIGIT that fits a u64, with at most `CONTENT_LENGTH_DIGITS_MAX` digits: no sign, no
/// list, no space (RFC 9110 section 8.6).
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > CONTENT_LENGTH_DIGITS_MAX {
        return None;
    }
    value.iter().try_fold(0u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}
