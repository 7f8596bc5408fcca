//! A request's head: parsed by httparse, then held against the rules that decide where messages end.
//!
//! What can be read in two ways is refused, never guessed: two servers that guess differently are how requests are
//! smuggled (RFC 9112 section 11.2).

use std::mem::MaybeUninit;

use httparse::{Error, Header};
use memchr::memmem;

use super::response::Status;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX};

/// The methods of RFC 9110 section 9 and RFC 5789. Another one is answered 501, without asking the responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

/// A request whose head has arrived, and whose framing is beyond doubt.
#[derive(Debug)]
pub struct Request<'i> {
    method: Method,
    path: &'i str,
    query: Option<&'i str>,
    headers: &'i [Header<'i>],
    keeps_alive: bool,
    expects_continue: bool,
    body_bytes: u64,
}

impl<'i> Request<'i> {
    /// What is to be done.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The target's path as it was sent, percent-encoding and all: it begins with `/` (or is the `*` of OPTIONS, or the
    /// authority of CONNECT).
    pub fn path(&self) -> &'i str {
        self.path
    }

    /// What follows the first `?` of the target.
    pub fn query(&self) -> Option<&'i str> {
        self.query
    }

    /// The value of the first field called `name`, in any case, without white space around it.
    pub fn header(&self, name: &str) -> Option<&'i [u8]> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// Whether the client will send another request on this connection.
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// Whether the client waits for leave before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The length of the body, in bytes. 0: none.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}

/// Where the parser puts the fields it finds.
pub(super) struct HeaderRoom<'i>([MaybeUninit<Header<'i>>; HEADERS_MAX]);

impl HeaderRoom<'_> {
    pub(super) fn new() -> Self {
        HeaderRoom([const { MaybeUninit::uninit() }; HEADERS_MAX])
    }
}

pub(super) enum Parsed<'i> {
    /// The head has not arrived yet, and what has is in order.
    Partial,
    /// A request, and the length of its head.
    Whole(Request<'i>, usize),
    /// A head of HTTP/1.2 or later; where the minor version's digit stands.
    LaterMinor(usize),
    Refused(Status),
}

/// Might `input` hold the end of a head, or be too long for one? Nothing is looked at again that was `scanned` before.
pub(super) fn has_end(input: &[u8], scanned: usize) -> bool {
    let fresh = &input[scanned.saturating_sub(3)..];
    memmem::find(fresh, b"\n\r\n").is_some()
        || memmem::find(fresh, b"\n\n").is_some()
        || input.len() > HEAD_BYTES_MAX
        || (input.len() > REQUEST_LINE_BYTES_MAX && scanned <= REQUEST_LINE_BYTES_MAX)
}

/// Parses the head at the front of `input`. The same bytes have the same outcome however they arrive.
pub(super) fn parse<'i>(input: &'i [u8], room: &'i mut HeaderRoom<'i>) -> Parsed<'i> {
    let head = &input[..input.len().min(HEAD_BYTES_MAX + 1)];
    let mut raw = httparse::Request::new(&mut []);
    let length = match raw.parse_with_uninit_headers(head, &mut room.0) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
        Ok(_) => return unfinished(head),
        Err(Error::TooManyHeaders) => return Parsed::Refused(Status::HeadersTooLarge),
        Err(Error::Version) => return other_version(head),
        Err(Error::HeaderName | Error::HeaderValue | Error::NewLine | Error::Status | Error::Token) => {
            return Parsed::Refused(Status::BadRequest);
        }
    };
    let (Some(method), Some(target), Some(minor)) = (raw.method, raw.path, raw.version) else {
        return Parsed::Refused(Status::BadRequest);
    };
    let line_bytes = method.len() + target.len() + " ".len() + " HTTP/1.0".len();
    if line_bytes > REQUEST_LINE_BYTES_MAX {
        return Parsed::Refused(Status::UriTooLong);
    }
    match check(method, target, minor, raw.headers, &head[..length]) {
        Ok(request) => Parsed::Whole(request, length),
        Err(status) => Parsed::Refused(status),
    }
}

/// A head without an end: is it too long already, and in which part?
fn unfinished(head: &[u8]) -> Parsed<'_> {
    let line = head.trim_ascii_start();
    if line.len() > REQUEST_LINE_BYTES_MAX && !line[..=REQUEST_LINE_BYTES_MAX].contains(&b'\n') {
        return Parsed::Refused(Status::UriTooLong);
    }
    if head.len() > HEAD_BYTES_MAX { Parsed::Refused(Status::HeadersTooLarge) } else { Parsed::Partial }
}

/// The version is not 1.0 or 1.1. Is it one at all? `HTTP/` DIGIT `.` DIGIT, exactly (RFC 9112 section 2.3).
fn other_version(head: &[u8]) -> Parsed<'_> {
    let line_end = memchr::memchr(b'\r', head.trim_ascii_start()).map(|at| at + (head.len() - head.trim_ascii_start().len()));
    let line = &head[..line_end.unwrap_or(head.len())];
    let Some(start) = memchr::memrchr(b' ', line).map(|space| space + 1) else { return Parsed::Refused(Status::BadRequest) };
    match line[start..] {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => Parsed::LaterMinor(start + 7),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Parsed::Refused(Status::VersionNotSupported)
        }
        _ => Parsed::Refused(Status::BadRequest),
    }
}

fn check<'i>(method: &'i str, target: &'i str, minor: u8, headers: &'i [Header<'i>], head: &[u8]) -> Result<Request<'i>, Status> {
    // httparse takes a line feed alone for the end of a line. Others do not, and so could see another message.
    if memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r') {
        return Err(Status::BadRequest);
    }
    let fields = Fields::read(headers)?;
    if minor == 1 && fields.hosts == 0 {
        return Err(Status::BadRequest); // RFC 9112 section 3.2
    }
    let method = known_method(method)?;
    let (path, query) = split(target, method).ok_or(Status::BadRequest)?;
    // A 1.0 client ends a body without a length by closing, so that its request could not be answered (RFC 1945 section 7.2.2).
    if minor == 0 && fields.body_bytes.is_none() && matches!(method, Method::Post | Method::Put) {
        return Err(Status::BadRequest);
    }
    Ok(Request {
        method,
        path,
        query,
        headers,
        keeps_alive: !fields.says_close && (minor == 1 || fields.says_keep_alive),
        expects_continue: minor == 1 && fields.expects_continue,
        body_bytes: fields.body_bytes.unwrap_or(0),
    })
}

/// What the fields say that concerns the framing.
#[derive(Default)]
struct Fields {
    hosts: usize,
    body_bytes: Option<u64>,
    says_close: bool,
    says_keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    fn read(headers: &[Header<'_>]) -> Result<Fields, Status> {
        let mut fields = Fields::default();
        for Header { name, value } in headers {
            // The length tells most names apart before a letter is compared.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => {
                    fields.hosts += 1;
                    if fields.hosts > 1 || !is_host(value) {
                        return Err(Status::BadRequest);
                    }
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                        fields.says_close |= option.eq_ignore_ascii_case(b"close");
                        fields.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    if fields.body_bytes.is_some() {
                        return Err(Status::BadRequest); // even if both say the same (RFC 9112 section 6.3)
                    }
                    fields.body_bytes = Some(content_length(value).ok_or(Status::BadRequest)?);
                }
                // We decode no coding, so where the message ends cannot be known (RFC 9112 section 6.1).
                17 if name.eq_ignore_ascii_case("transfer-encoding") => return Err(Status::NotImplemented),
                6 if name.eq_ignore_ascii_case("expect") => {
                    fields.expects_continue |= value.eq_ignore_ascii_case(b"100-continue")
                }
                _ => {}
            }
        }
        Ok(fields)
    }
}

fn known_method(method: &str) -> Result<Method, Status> {
    Ok(match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        _ => return Err(Status::NotImplemented),
    })
}

/// 1*DIGIT that fits a u64: no sign, no list, no space (RFC 9110 section 8.6).
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// A host and perhaps a port (RFC 3986 section 3.2.2). Empty is legal where the target has no authority.
fn is_host(value: &[u8]) -> bool {
    let is_host_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
    value.iter().all(is_host_byte)
}

/// The path and query of a target, in the four forms of RFC 9112 section 3.2. `None`: in none of them.
fn split(target: &str, method: Method) -> Option<(&str, Option<&str>)> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let path_and_query = match target.as_bytes() {
        [b'/', ..] => target,
        b"*" if method == Method::Options => target,
        _ if method == Method::Connect => target,
        _ => {
            // The absolute form. Its authority overrides the Host field, and we serve the same to all.
            let (scheme, rest) = target.split_once("://")?;
            if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
                return None;
            }
            let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
            if authority_end == 0 || !is_host(&rest.as_bytes()[..authority_end]) {
                return None;
            }
            match &rest[authority_end..] {
                "" => "/",
                path_and_query => path_and_query,
            }
        }
    };
    if target.contains('#') {
        return None; // a fragment is never sent
    }
    match path_and_query.split_once('?') {
        Some(("", query)) => Some(("/", Some(query))),
        Some((path, query)) => Some((path, Some(query))),
        None => Some((path_and_query, None)),
    }
}
