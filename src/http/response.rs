//! An answer, and how it is written.

use std::borrow::Cow;

use super::request::{Method, is_token};

/// The status codes that we use (RFC 9110 section 15, RFC 6585).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    ContentTooLarge,
    UriTooLong,
    HeadersTooLarge,
    InternalServerError,
    NotImplemented,
    VersionNotSupported,
}

impl Status {
    /// The code and the reason phrase.
    pub fn as_str(self) -> &'static str {
        let line = self.line();
        &line["HTTP/1.0 ".len()..line.len() - "\r\n".len()]
    }

    fn line(self) -> &'static str {
        match self {
            Status::Ok => "HTTP/1.0 200 OK\r\n",
            Status::BadRequest => "HTTP/1.0 400 Bad Request\r\n",
            Status::NotFound => "HTTP/1.0 404 Not Found\r\n",
            Status::MethodNotAllowed => "HTTP/1.0 405 Method Not Allowed\r\n",
            Status::RequestTimeout => "HTTP/1.0 408 Request Timeout\r\n",
            Status::ContentTooLarge => "HTTP/1.0 413 Content Too Large\r\n",
            Status::UriTooLong => "HTTP/1.0 414 URI Too Long\r\n",
            Status::HeadersTooLarge => "HTTP/1.0 431 Request Header Fields Too Large\r\n",
            Status::InternalServerError => "HTTP/1.0 500 Internal Server Error\r\n",
            Status::NotImplemented => "HTTP/1.0 501 Not Implemented\r\n",
            Status::VersionNotSupported => "HTTP/1.0 505 HTTP Version Not Supported\r\n",
        }
    }
}

/// What a [`Responder`](super::Responder) has to say. The framing is not its business.
///
/// A response that is always the same can be made once, and lent each time with [`reborrow`](Response::reborrow): then
/// nothing of it is composed anew but the date.
#[derive(Clone, Debug)]
pub struct Response<'r> {
    /// The head as far as it does not depend on the moment or the connection: up to `Date: `.
    head: Cow<'r, [u8]>,
    body: Cow<'r, [u8]>,
}

/// What comes last in a head, before the date.
const DATE: &[u8] = b"Date: ";

impl<'r> Response<'r> {
    /// A response of `status`, with a body of the type named.
    pub fn new(status: Status, content_type: &'static str, body: impl Into<Cow<'r, [u8]>>) -> Response<'r> {
        let body = body.into();
        let mut head = status.line().as_bytes().to_vec();
        head.extend_from_slice(b"Content-Type: ");
        head.extend_from_slice(content_type.as_bytes());
        head.extend_from_slice(b"\r\nContent-Length: ");
        head.extend_from_slice(body.len().to_string().as_bytes());
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(DATE);
        Response { head: head.into(), body }
    }

    /// 200 with a body of the type named.
    pub fn ok(content_type: &'static str, body: impl Into<Cow<'r, [u8]>>) -> Response<'r> {
        Response::new(Status::Ok, content_type, body)
    }

    /// A status with its own words as the body.
    pub fn error(status: Status) -> Response<'static> {
        Response::new(status, "text/plain", format!("{}\n", status.as_str()).into_bytes())
    }

    /// Adds a field. What frames the message is written by the server alone, and a field that would end its line or the
    /// head is not a field: such names and values are dropped, whoever they came from.
    #[must_use]
    pub fn with_header(self, name: &str, value: &str) -> Response<'r> {
        const OURS: [&str; 5] = ["content-length", "transfer-encoding", "connection", "date", "content-type"];
        let is_one_line = value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
        if !is_token(name.as_bytes()) || !is_one_line || OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            return self;
        }
        let mut head = self.head.into_owned();
        head.truncate(head.len() - DATE.len());
        for part in [name, ": ", value, "\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        head.extend_from_slice(DATE);
        Response { head: head.into(), body: self.body }
    }

    /// The same, lent.
    pub fn reborrow(&self) -> Response<'_> {
        Response { head: Cow::Borrowed(&self.head), body: Cow::Borrowed(&self.body) }
    }

    /// Writes it to `output`, without its body where that must be left out (RFC 9110 section 9.3.2: HEAD has the fields of
    /// GET).
    #[inline(always)]
    pub(super) fn write(&self, method: Method, persists: bool, date: &[u8; 29], output: &mut Vec<u8>) {
        const PERSISTS: &[u8] = b"\r\nConnection: keep-alive\r\n\r\n";
        const CLOSES: &[u8] = b"\r\nConnection: close\r\n\r\n";
        output.reserve(self.head.len() + date.len() + PERSISTS.len() + self.body.len());
        output.extend_from_slice(&self.head);
        output.extend_from_slice(date);
        match persists {
            true => output.extend_from_slice(PERSISTS), // two copies of a known length each cost less than one of either
            false => output.extend_from_slice(CLOSES),
        }
        if method != Method::Head {
            output.extend_from_slice(&self.body);
        }
    }
}
