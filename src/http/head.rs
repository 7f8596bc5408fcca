//! A request's head: parsed by httparse, then held against the rules that decide where messages end.
//!
//! What can be read in two ways is refused, never guessed: two servers that guess differently are how requests are
//! smuggled (RFC 9112 section 11.2).

use httparse::{EMPTY_HEADER, Error, Header};

use super::request::{Method, Request};
use super::response::{ResponseForm, is_token};
use super::status::Status;
use super::target::{IS_TARGET_BYTE, is_host, split_target};
use crate::limits::{
    CONTENT_LENGTH_DIGITS_MAX, HEAD_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX,
};

/// Room for the fields of nearly every request. Clearing room for all that may come would cost as much as parsing them.
pub(super) type FewHeaders<'i> = [Header<'i>; FEW_HEADERS];
pub(super) const FEW_HEADERS: usize = 8;

pub(super) enum Parsed<'i> {
    /// The head has not arrived yet, and what has is in order.
    Partial,
    /// A request, and the length of its head.
    Complete(Request<'i>, usize),
    Rejected(Status),
}

/// Can anything more be said of a head now than when it had only `scanned` bytes? Only when a line has ended or a limit is
/// reached: so a head that drips is parsed at most once per line, of which there are few, and not once per byte.
pub(super) fn has_new_line(input: &[u8], scanned: usize) -> bool {
    #[cfg(test)]
    super::protocol::tests::look_at(input.len() - scanned);
    let reaches = |limit: usize| scanned < limit && input.len() >= limit;
    memchr::memchr(b'\n', &input[scanned..]).is_some()
        || reaches(REQUEST_LINE_BYTES_MAX)
        || reaches(HEAD_BYTES_MAX + 1)
}

/// Parses the head at the front of `input`. The same bytes have the same outcome however they arrive.
///
/// Its fields are put into `few`, or into `many` if they are.
pub(super) fn parse<'i>(
    input: &'i [u8],
    few: &'i mut FewHeaders<'i>,
    many: &'i mut Vec<Header<'i>>,
) -> Parsed<'i> {
    #[cfg(test)]
    super::protocol::tests::look_at(input.len());
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
        Ok(httparse::Status::Partial) => return Parsed::Rejected(Status::HeadersTooLarge),
        Err(Error::TooManyHeaders) => return Parsed::Rejected(Status::HeadersTooLarge),
        Err(_) => return Parsed::Rejected(Status::BadRequest),
    };
    let head_bytes = line_bytes + length;
    if head_bytes > HEAD_BYTES_MAX {
        return Parsed::Rejected(Status::HeadersTooLarge);
    }
    match Fields::read(headers, &section[..length]) {
        Ok(fields) if line.allows(&fields) => {
            Parsed::Complete(Request::new(line, headers, &fields), head_bytes)
        }
        Ok(_) => Parsed::Rejected(Status::BadRequest),
        Err(status) => Parsed::Rejected(status),
    }
}

/// What is to be said of a head that does not begin with a whole and valid request line.
#[cold]
fn reject_line(head: &[u8]) -> Parsed<'_> {
    let Some(end) = memchr::memchr(b'\n', &head[..head.len().min(REQUEST_LINE_BYTES_MAX)]) else {
        let is_too_long = head.len() >= REQUEST_LINE_BYTES_MAX;
        return if is_too_long { Parsed::Rejected(Status::UriTooLong) } else { Parsed::Partial };
    };
    let line = &head[..end];
    if let Some(request) = simple_request(line) {
        return Parsed::Complete(request, end + 1);
    }
    let [words @ .., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r'] = line else {
        return Parsed::Rejected(Status::BadRequest);
    };
    let word =
        words.iter().position(|&byte| byte == b' ').map_or(&b""[..], |space| &words[..space]);
    Parsed::Rejected(if !major.is_ascii_digit() || !minor.is_ascii_digit() {
        Status::BadRequest
    } else if *major != b'1' {
        Status::VersionNotSupported
    } else if is_token(word) && method(line).is_none() {
        Status::NotImplemented
    } else {
        Status::BadRequest
    })
}

/// `GET SP target CR LF`, exactly, and nothing more (RFC 1945 section 5). A line that ends like this is a request of a later
/// version for nobody: it has no version. The answer is the last, so nothing that follows it can be taken for another request.
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
            keeps_alive: !fields.says_close && (line.is_1_1 || fields.says_keep_alive),
            expects_continue: line.is_1_1 && fields.expects_continue,
            body_bytes: fields.body_bytes.unwrap_or(0),
        }
    }

    /// HTTP/0.9: no fields, and an answer without a head (RFC 1945 section 5).
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
        }
    }
}

/// `METHOD SP target SP HTTP/1.x CR LF`, exactly (RFC 9112 section 3).
#[derive(Clone, Copy)]
struct RequestLine<'i> {
    method: Method,
    /// Of the absolute form, and of CONNECT's.
    authority: Option<&'i [u8]>,
    path: &'i [u8],
    query: Option<&'i [u8]>,
    is_1_1: bool,
}

impl<'i> RequestLine<'i> {
    /// The line at the front of `head`, and its length. Whatever is not one, is not one yet, or is too long is for
    /// [`reject_line`] to judge.
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
        let is_1_1 = *minor != b'0'; // a later minor version is answered as 1.1 (RFC 9110 section 2.5)
        let (authority, path) = split_target(method, &target[..path_end], &target[..target_end])?;
        let query = (target_end > path_end).then(|| &target[path_end + 1..target_end]);
        let length = head.len() - target.len() + target_end + version.len();
        (length <= REQUEST_LINE_BYTES_MAX)
            .then_some((RequestLine { method, authority, path, query, is_1_1 }, length))
    }

    /// Are the fields such as a request with this line must have?
    fn allows(&self, fields: &Fields) -> bool {
        match self.is_1_1 {
            true => fields.has_host, // RFC 9112 section 3.2
            // A 1.0 client ends a body without a length by closing, so that its request could not be answered (RFC 1945
            // section 7.2.2).
            false => {
                fields.body_bytes.is_some() || !matches!(self.method, Method::Post | Method::Put)
            }
        }
    }
}

/// What the fields say that concerns the framing.
#[derive(Default)]
struct Fields {
    has_host: bool,
    body_bytes: Option<u64>,
    says_close: bool,
    says_keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    fn read(headers: &[Header<'_>], section: &[u8]) -> Result<Fields, Status> {
        let mut fields = Fields::default();
        if !section.ends_with(b"\r\n") {
            return Err(Status::BadRequest);
        }
        for Header { name, value } in headers {
            if !ends_with_crlf(value, section) {
                return Err(Status::BadRequest);
            }
            // The length tells most names apart before a letter is compared.
            match name.len() {
                4 if name_is(name.as_bytes(), b"host") => {
                    if fields.has_host || !is_host(value) {
                        return Err(Status::BadRequest);
                    }
                    fields.has_host = true;
                }
                10 if name_is(name.as_bytes(), b"connection") => {
                    fields.read_connection_options(value);
                }
                14 if name_is(name.as_bytes(), b"content-length") => {
                    if fields.body_bytes.is_some() {
                        return Err(Status::BadRequest); // even if both say the same (RFC 9112 section 6.3)
                    }
                    fields.body_bytes = Some(content_length(value).ok_or(Status::BadRequest)?);
                }
                // We decode no coding, so where the message ends cannot be known (RFC 9112 section 6.1).
                17 if name_is(name.as_bytes(), b"transfer-encoding") => {
                    return Err(Status::NotImplemented);
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

    /// Notes what a Connection field asks for. Mostly it is one thing.
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
        self.says_close |= name_is(option, b"close");
        self.says_keep_alive |= name_is(option, b"keep-alive");
    }
}

/// Is `name` the same as `lower` but for the case of its letters? That bit is set in each byte that `lower` has. Beside the
/// letters in question, only CR becomes one of them (`-`) by setting it, and there is none in a name or a value.
#[inline(always)]
fn name_is<const N: usize>(name: &[u8], lower: &[u8; N]) -> bool {
    let Some(name) = name.first_chunk::<N>().filter(|_| name.len() == N) else { return false };
    name.map(|byte| byte | 0x20) == *lower
}

/// The elements of a list (RFC 9110 section 5.6.1).
fn list_items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Is the value followed by CR LF? httparse, which has found it in `section`, takes a line feed alone for the end of a line
/// too. Others do not, and so could see another message.
fn ends_with_crlf(value: &[u8], section: &[u8]) -> bool {
    let end = value.as_ptr().addr() + value.len() - section.as_ptr().addr();
    match section.get(end) {
        Some(b' ' | b'\t') => {
            section[end..].iter().find(|&&byte| byte != b' ' && byte != b'\t') == Some(&b'\r')
        }
        after => after == Some(&b'\r'),
    }
}

/// The method that `head` begins with, if we know it, and what follows its space.
#[inline(always)]
fn method(head: &[u8]) -> Option<(Method, &[u8])> {
    if let Some(target) = head.strip_prefix(b"GET ") {
        return Some((Method::Get, target)); // as nearly always
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

/// 1*DIGIT that fits a u64, and not many more than it needs: no sign, no list, no space (RFC 9110 section 8.6).
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > CONTENT_LENGTH_DIGITS_MAX {
        return None;
    }
    value.iter().try_fold(0u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}
