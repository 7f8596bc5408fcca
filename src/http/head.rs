//! A request's head: parsed, then checked against the rules that decide where its message ends.
//!
//! ```text
//!     GET /a?b HTTP/1.1     RequestLine: parsed here, exactly
//!     Host: a               ┐ split into names and values by httparse,
//!     Content-Length: 5     ┘ then read for what frames the message: Fields
//!                           the empty line: the head ends
//! ```
//!
//! Invariant: a head that two recipients could read differently is rejected, never guessed at.
//! Request smuggling needs two servers that guess differently (RFC 9112 section 11.2). And the same
//! bytes have the same result, however they are split into reads.

use std::cell::Cell;

use httparse::{EMPTY_HEADER, Error, Header};

use super::field::is_token;
use super::request::{Method, Request};
use super::response::ResponseForm;
use super::status::Status;
use super::target::{IS_TARGET_BYTE, is_host, split_target};
use crate::http::limits::{
    CONTENT_LENGTH_DIGITS_MAX, HEAD_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX,
};

/// Space on the stack for the fields of nearly every request. To clear space for `HEADERS_MAX`
/// fields would cost as much as parsing them.
pub(super) type FewHeaders<'i> = [Header<'i>; FEW_HEADERS];
pub(super) const FEW_HEADERS: usize = 8;

/// The result of parsing a head.
pub(super) enum Parsed<'i> {
    /// The head is not complete, and valid so far.
    Partial,
    /// A request, and the length of its head in bytes.
    Complete(Request<'i>, usize),
    /// Not a valid request, or one that is too large: the status of the error response.
    Rejected(Status),
}

/// Returns whether parsing can tell more of a head than when it had only `scanned` bytes: a line
/// has ended since then, or a limit is reached. So a head that arrives byte by byte is parsed at
/// most once per line, of which there are few, and not once per byte.
pub(super) fn has_new_line(input: &[u8], scanned: usize) -> bool {
    let reaches = |limit: usize| scanned < limit && input.len() >= limit;
    memchr::memchr(b'\n', &input[scanned..]).is_some()
        || reaches(REQUEST_LINE_BYTES_MAX)
        || reaches(HEAD_BYTES_MAX + 1)
}

/// Parses the head at the front of `input`.
///
/// Its fields are stored in `few`, or in `many` if there are more than fit. The result does not
/// depend on how the bytes were split into reads.
pub(super) fn parse<'i>(
    input: &'i [u8],
    few: &'i mut FewHeaders<'i>,
    many: &'i mut Vec<Header<'i>>,
) -> Parsed<'i> {
    let head = &input[..input.len().min(HEAD_BYTES_MAX + 1)];
    let (line, line_bytes) = match RequestLine::parse(head) {
        Some(parsed) => parsed,
        None => return reject_line(head),
    };
    let section = &head[line_bytes..];
    let mut parsed = httparse::parse_headers(section, few);
    if parsed == Err(Error::TooManyHeaders) {
        *many = vec![EMPTY_HEADER; HEADERS_MAX];
        parsed = httparse::parse_headers(section, many);
    }
    let (length, headers) = match parsed {
        Ok(httparse::Status::Complete(complete)) => complete,
        Ok(httparse::Status::Partial) if head.len() <= HEAD_BYTES_MAX => return Parsed::Partial,
        Ok(httparse::Status::Partial) => {
            return Parsed::Rejected(Status::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        Err(Error::TooManyHeaders) => {
            return Parsed::Rejected(Status::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        Err(_) => return Parsed::Rejected(Status::BAD_REQUEST),
    };
    let head_bytes = line_bytes + length;
    if head_bytes > HEAD_BYTES_MAX {
        return Parsed::Rejected(Status::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    match Fields::read(headers, &section[..length]) {
        Ok(fields) if line.allows(&fields) => {
            Parsed::Complete(Request::new(line, headers, &fields), head_bytes)
        }
        Ok(_) => Parsed::Rejected(Status::BAD_REQUEST),
        Err(status) => Parsed::Rejected(status),
    }
}

/// The result for a head that does not begin with a complete and valid request line of HTTP/1.
#[cold]
fn reject_line(head: &[u8]) -> Parsed<'_> {
    let Some(end) = memchr::memchr(b'\n', &head[..head.len().min(REQUEST_LINE_BYTES_MAX)]) else {
        let is_too_long = head.len() >= REQUEST_LINE_BYTES_MAX;
        return if is_too_long { Parsed::Rejected(Status::URI_TOO_LONG) } else { Parsed::Partial };
    };
    let line = &head[..end];
    if let Some(request) = simple_request(line) {
        return Parsed::Complete(request, end + 1);
    }
    let [before_version @ .., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r'] = line
    else {
        return Parsed::Rejected(Status::BAD_REQUEST);
    };
    let word = before_version
        .iter()
        .position(|&byte| byte == b' ')
        .map_or(&b""[..], |space| &before_version[..space]);
    Parsed::Rejected(if !major.is_ascii_digit() || !minor.is_ascii_digit() {
        Status::BAD_REQUEST
    } else if *major != b'1' {
        Status::HTTP_VERSION_NOT_SUPPORTED
    } else if is_token(word) && method(line).is_none() {
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
    let target = line.strip_prefix(b"GET ")?.strip_suffix(b"\r")?;
    let path_end =
        target.iter().position(|&byte| !IS_TARGET_BYTE[usize::from(byte)]).unwrap_or(target.len());
    let query = match target.get(path_end) {
        None => None,
        Some(b'?') => Some(&target[path_end + 1..]),
        Some(_) => return None,
    };
    let is_query = |byte: &u8| *byte == b'?' || IS_TARGET_BYTE[usize::from(*byte)];
    let (_, path) = split_target(Method::Get, &target[..path_end], target)?;
    query.unwrap_or_default().iter().all(is_query).then_some(Request::simple(path, query))
}

impl<'i> Request<'i> {
    fn new(line: RequestLine<'i>, headers: &'i [Header<'i>], fields: &Fields) -> Request<'i> {
        Request {
            method: line.method,
            path: line.path,
            query: line.query,
            authority: line.authority,
            headers,
            form: if line.method == Method::Head { ResponseForm::Head } else { ResponseForm::Full },
            keeps_alive: !fields.has_close && (line.is_1_1 || fields.has_keep_alive),
            expects_continue: line.is_1_1 && fields.expects_continue,
            body_bytes: fields.body_bytes.unwrap_or(0),
            work_us: Cell::new(0),
        }
    }

    /// An HTTP/0.9 request: no fields, and a response without a head (RFC 1945 section 5).
    fn simple(path: &'i [u8], query: Option<&'i [u8]>) -> Request<'i> {
        let (method, form) = (Method::Get, ResponseForm::Simple);
        let (authority, headers) = (None, &[][..]);
        Request {
            method,
            path,
            query,
            authority,
            headers,
            form,
            keeps_alive: false,
            expects_continue: false,
            body_bytes: 0,
            work_us: Cell::new(0),
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
    /// is invalid, incomplete or too long, and [`reject_line`] tells which.
    #[inline(always)]
    fn parse(head: &'i [u8]) -> Option<(RequestLine<'i>, usize)> {
        let (method, target) = method(head)?;
        let path_end = target.iter().position(|&byte| !IS_TARGET_BYTE[usize::from(byte)])?;
        let target_end = match target[path_end] {
            b'?' => {
                path_end
                    + target[path_end..]
                        .iter()
                        .position(|&byte| !IS_TARGET_BYTE[usize::from(byte)] && byte != b'?')?
            }
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
    fn allows(&self, fields: &Fields) -> bool {
        match self.is_1_1 {
            true => fields.has_host, // RFC 9112 section 3.2
            // A 1.0 client ends a body without a length by closing the connection, which would
            // leave no way to respond (RFC 1945 section 7.2.2).
            false => {
                fields.body_bytes.is_some() || !matches!(self.method, Method::Post | Method::Put)
            }
        }
    }
}

/// The values of the fields that frame the message or decide whether the connection persists.
#[derive(Default)]
struct Fields {
    has_host: bool,
    body_bytes: Option<u64>,
    has_close: bool,
    has_keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    fn read(headers: &[Header<'_>], section: &[u8]) -> Result<Fields, Status> {
        let mut fields = Fields::default();
        if !section.ends_with(b"\r\n") {
            return Err(Status::BAD_REQUEST);
        }
        for Header { name, value } in headers {
            if !ends_with_crlf(value, section) {
                return Err(Status::BAD_REQUEST);
            }
            // The length tells most names apart before a letter is compared.
            match name.len() {
                4 if name_is(name.as_bytes(), b"host") => {
                    if fields.has_host || !is_host(value) {
                        return Err(Status::BAD_REQUEST);
                    }
                    fields.has_host = true;
                }
                10 if name_is(name.as_bytes(), b"connection") => {
                    fields.read_connection_options(value);
                }
                14 if name_is(name.as_bytes(), b"content-length") => {
                    if fields.body_bytes.is_some() {
                        // Two of them, even if they are equal (RFC 9112 section 6.3).
                        return Err(Status::BAD_REQUEST);
                    }
                    fields.body_bytes = Some(content_length(value).ok_or(Status::BAD_REQUEST)?);
                }
                // No coding is decoded here, so the end of the message cannot be known (RFC 9112
                // section 6.1).
                17 if name_is(name.as_bytes(), b"transfer-encoding") => {
                    return Err(Status::NOT_IMPLEMENTED);
                }
                6 if name_is(name.as_bytes(), b"expect") => {
                    fields.expects_continue |=
                        list_items(value).any(|word| word.eq_ignore_ascii_case(b"100-continue"));
                }
                _ => {}
            }
        }
        Ok(fields)
    }

    /// Reads a Connection field. It nearly always has one option, so there is no list to split.
    #[inline]
    fn read_connection_options(&mut self, value: &[u8]) {
        if value.contains(&b',') {
            list_items(value).for_each(|option| self.read_connection_option(option));
        } else {
            self.read_connection_option(value);
        }
    }

    #[inline]
    fn read_connection_option(&mut self, option: &[u8]) {
        self.has_close |= name_is(option, b"close");
        self.has_keep_alive |= name_is(option, b"keep-alive");
    }
}

/// Returns whether `name` equals `lower` in any case.
///
/// The case bit, 0x20, is set in every byte of `lower`: in the letters and in `-`. Setting it in
/// `name` cannot make another byte equal: beside the upper-case letters only CR changes into one of
/// these bytes (`-`), and httparse leaves no CR in a name or a value.
#[inline(always)]
fn name_is<const N: usize>(name: &[u8], lower: &[u8; N]) -> bool {
    let Some(name) = name.first_chunk::<N>().filter(|_| name.len() == N) else { return false };
    name.map(|byte| byte | 0x20) == *lower
}

/// Returns the elements of a list (RFC 9110 section 5.6.1).
fn list_items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
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
    let method = match &head[..space] {
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        b"PUT" => Method::Put,
        b"DELETE" => Method::Delete,
        b"CONNECT" => Method::Connect,
        b"OPTIONS" => Method::Options,
        b"TRACE" => Method::Trace,
        b"PATCH" => Method::Patch,
        _ => return None,
    };
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
