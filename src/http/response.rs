//! An answer, and how it is written.

use std::borrow::Cow;

use super::request::Method;

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
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::UriTooLong => "414 URI Too Long",
            Status::HeadersTooLarge => "431 Request Header Fields Too Large",
            Status::InternalServerError => "500 Internal Server Error",
            Status::NotImplemented => "501 Not Implemented",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// What a [`Responder`](super::Responder) has to say. The framing is not its business.
#[derive(Clone, Debug)]
pub struct Response {
    status: Status,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Cow<'static, [u8]>,
}

impl Response {
    /// 200 with a body of the type named.
    pub fn ok(content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Response {
        Response { status: Status::Ok, content_type, headers: Vec::new(), body: body.into() }
    }

    /// A status with its own words as the body.
    pub fn error(status: Status) -> Response {
        let body = format!("{}\n", status.as_str()).into_bytes();
        Response { status, content_type: "text/plain", headers: Vec::new(), body: body.into() }
    }

    /// Adds a field. What frames the message is written by the server alone, and a field that would end the line or the
    /// head is not a field: such names and values are dropped, whoever they came from.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Response {
        const OURS: [&str; 5] = ["content-length", "transfer-encoding", "connection", "date", "content-type"];
        let value = value.into();
        let is_token =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        let is_one_line = value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
        if is_token && is_one_line && !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            self.headers.push((name, value));
        }
        self
    }
}

/// Writes `response` to `out` in a few pieces: the status line, what every answer has, and the body unless it must be
/// left out (RFC 9110 section 9.3.2: HEAD has the fields of GET).
#[inline]
pub(super) fn render(response: &Response, method: Method, persists: bool, date: &[u8; 29], mut out: impl FnMut(&[u8])) {
    out(b"HTTP/1.0 ");
    out(response.status.as_str().as_bytes());
    out(b"\r\nDate: ");
    out(date);
    out(b"\r\nContent-Type: ");
    out(response.content_type.as_bytes());
    out(b"\r\nContent-Length: ");
    out(itoa::Buffer::new().format(response.body.len()).as_bytes());
    for (name, value) in &response.headers {
        out(b"\r\n");
        out(name.as_bytes());
        out(b": ");
        out(value.as_bytes());
    }
    out(if persists { b"\r\nConnection: keep-alive\r\n\r\n" } else { b"\r\nConnection: close\r\n\r\n" });
    if method != Method::Head {
        out(&response.body);
    }
}
