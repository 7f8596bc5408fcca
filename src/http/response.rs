//! A response, and how it is written.
//!
//! ```text
//!     HTTP/1.0 200 OK            ┐
//!     Content-Type: text/plain   │ composed once: a `Page` keeps these bytes
//!     Content-Length: 13         │
//!     Date:                      ┘
//!     Sun, 06 Nov 1994 …           from the turn's clock
//!     Connection: keep-alive       what the protocol has decided
//!
//!     Hello, World!                left out for HEAD, 204 and 304
//! ```
//!
//! Invariant: no field of a responder can end its line or the head, and none frames the message.

use std::borrow::Cow;
use std::fmt;
use std::io;

use super::status::Status;
use crate::limits::BODY_READ_BYTES_MAX;

/// What a [`Responder`](crate::Responder) returns: a status, fields of its own, and a body.
///
/// [`Http`](crate::Http) does the framing: it writes Content-Length, Date and Connection, and
/// leaves the body out where there must be none.
pub struct Response<'r> {
    /// The part of the head that does not depend on the date or the connection: up to `Date: `.
    head: Cow<'r, [u8]>,
    pub(super) body: ResponseBody<'r>,
}

/// What follows the head.
pub(super) enum ResponseBody<'r> {
    Bytes(Cow<'r, [u8]>),
    /// A length in bytes, and what is read as the peer takes them.
    Streamed(u64, Box<dyn io::Read>),
}

/// Which parts of a response the client expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseForm {
    /// Head and body.
    Full,
    /// The head alone, with the fields that the response to GET would have (RFC 9110 section
    /// 9.3.2).
    Head,
    /// The body alone, for an HTTP/0.9 client: a Simple-Response (RFC 1945 section 6).
    Simple,
}

/// The end of every composed head: the date follows.
const DATE: &[u8] = b"Date: ";

impl<'r> Response<'r> {
    /// Returns a response of `status` with a body of type `content_type`.
    ///
    /// A body of more than [`BODY_READ_BYTES_MAX`] is sent in pieces as the peer takes it, and kept
    /// until then (a borrowed one as a copy). To avoid holding it whole, use
    /// [`streamed`](Response::streamed). For a status that has no body, such as
    /// [`NoContent`](Status::NoContent), the body and its type are left out. A type that is not a
    /// valid field value makes the response a 500, as in [`with_header`](Response::with_header).
    pub fn new(status: Status, content_type: &str, body: impl Into<Cow<'r, [u8]>>) -> Response<'r> {
        let body = body.into();
        if status.has_no_body() {
            return Response::empty(status);
        }
        if !is_field_value(content_type) {
            return Response::error(Status::InternalServerError);
        }
        Response {
            head: head(status, content_type, body.len() as u64).into(),
            body: ResponseBody::Bytes(body),
        }
    }

    /// Returns a 200 with a body of type `content_type`.
    pub fn ok(content_type: &str, body: impl Into<Cow<'r, [u8]>>) -> Response<'r> {
        Response::new(Status::Ok, content_type, body)
    }

    /// Returns a response of `status` whose body is read from `body` while it is sent.
    ///
    /// It is read in pieces, as the peer takes them. A piece has at most [`BODY_READ_BYTES_MAX`],
    /// gathered in at most [`BODY_READS_MAX`](crate::limits::BODY_READS_MAX) reads. Nothing is read
    /// while more than [`LOW_WATERMARK_BYTES`](crate::limits::LOW_WATERMARK_BYTES) wait to be sent.
    ///
    /// A read must return soon. If no bytes are available yet, it returns
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) and is called again after
    /// [`BODY_RETRY_MS`](crate::limits::BODY_RETRY_MS).
    ///
    /// `length`, in bytes, is sent as Content-Length. Bytes of `body` beyond it are not read. If
    /// `body` ends or fails earlier, the connection is reset, so that the client cannot take a part
    /// for the whole. For a status that has no body, and for an invalid type, `body` is dropped and
    /// the response is the same as from [`new`](Response::new).
    pub fn streamed(
        status: Status,
        content_type: &str,
        length: u64,
        body: impl io::Read + 'static,
    ) -> Response<'static> {
        if status.has_no_body() {
            return Response::empty(status);
        }
        if !is_field_value(content_type) {
            return Response::error(Status::InternalServerError);
        }
        Response {
            head: head(status, content_type, length).into(),
            body: ResponseBody::Streamed(length, Box::new(body)),
        }
    }

    /// Returns a response without a body. Where `status` allows one, Content-Length is 0.
    pub fn empty(status: Status) -> Response<'static> {
        let mut head = status.line().as_bytes().to_vec();
        if !status.has_no_body() {
            head.extend_from_slice(b"Content-Length: 0\r\n");
        }
        head.extend_from_slice(DATE);
        Response { head: head.into(), body: ResponseBody::Bytes(Cow::Borrowed(&[])) }
    }

    /// Returns a response whose body, in plain text, is the code and the reason phrase.
    pub fn error(status: Status) -> Response<'static> {
        Response::new(status, "text/plain", format!("{}\n", status.as_str()).into_bytes())
    }

    /// Adds a field.
    ///
    /// Content-Length, Transfer-Encoding, Connection, Date and Content-Type frame the message or
    /// are written by the server, so an application cannot set them. A name or value with bytes
    /// that could end the line or the head is not a field. Either turns the response into a 500
    /// without the fields added so far: the application sees its mistake, and no peer can use it.
    ///
    /// Some statuses require a field that only the application knows (RFC 9110 sections 15.5.2,
    /// 15.5.6 and 10.2.2): `WWW-Authenticate` with 401, `Allow` with 405, `Location` with a
    /// redirect.
    #[must_use]
    pub fn with_header(self, name: &str, value: &str) -> Response<'r> {
        const RESERVED: [&str; 5] =
            ["content-length", "transfer-encoding", "connection", "date", "content-type"];
        if !is_token(name.as_bytes())
            || !is_field_value(value)
            || RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
        {
            return Response::error(Status::InternalServerError);
        }
        let mut head = self.head.into_owned();
        head.truncate(head.len() - DATE.len());
        for part in [name, ": ", value, "\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        head.extend_from_slice(DATE);
        Response { head: head.into(), body: self.body }
    }

    /// Returns whether the body is sent in pieces: it is streamed, or too long to follow at once.
    #[inline]
    pub(super) fn is_streamed(&self) -> bool {
        match &self.body {
            ResponseBody::Bytes(bytes) => bytes.len() > BODY_READ_BYTES_MAX,
            ResponseBody::Streamed(..) => true,
        }
    }

    /// The same response, with a long body turned into a streamed one. So no more than one piece of
    /// it waits in the output of a peer that does not read, beside the body itself.
    pub(super) fn into_streamed(self) -> Response<'r> {
        let body = match self.body {
            ResponseBody::Bytes(bytes) if bytes.len() > BODY_READ_BYTES_MAX => {
                ResponseBody::Streamed(
                    bytes.len() as u64,
                    Box::new(io::Cursor::new(bytes.into_owned())),
                )
            }
            body @ (ResponseBody::Bytes(_) | ResponseBody::Streamed(..)) => body,
        };
        Response { head: self.head, body }
    }

    /// The three digits of the status.
    pub(super) fn code(&self) -> [u8; 3] {
        let digits = self.head["HTTP/1.0 ".len()..].first_chunk();
        *digits.expect("a head begins with a status line")
    }

    /// The length of the body, in bytes.
    pub(super) fn body_bytes(&self) -> u64 {
        match &self.body {
            ResponseBody::Bytes(bytes) => bytes.len() as u64,
            ResponseBody::Streamed(length, _) => *length,
        }
    }

    /// Appends to `output` the parts that `form` asks for. A streamed body is not among them.
    #[inline(always)]
    pub(super) fn write(
        &self,
        form: ResponseForm,
        persists: bool,
        date: &[u8; 29],
        output: &mut Vec<u8>,
    ) {
        const PERSISTS: &[u8] = b"\r\nConnection: keep-alive\r\n\r\n";
        const CLOSES: &[u8] = b"\r\nConnection: close\r\n\r\n";
        let body: &[u8] = match &self.body {
            ResponseBody::Bytes(bytes) => bytes,
            ResponseBody::Streamed(..) => &[],
        };
        output.reserve(self.head.len() + date.len() + PERSISTS.len() + body.len());
        if form != ResponseForm::Simple {
            output.extend_from_slice(&self.head);
            output.extend_from_slice(date);
            match persists {
                // Two copies of a known length cost less than one copy of a length chosen at run
                // time.
                true => output.extend_from_slice(PERSISTS),
                false => output.extend_from_slice(CLOSES),
            }
        }
        if form != ResponseForm::Head {
            output.extend_from_slice(body);
        }
    }
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Response {{ {:?}, {} bytes }}",
            self.head.escape_ascii().to_string(),
            self.body_bytes()
        )
    }
}

/// Returns whether `bytes` can be a field name or a method (RFC 9110 section 5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Returns whether `value` can be a field value: no byte of it could end the line (RFC 9110 section
/// 5.5).
fn is_field_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

/// The bytes of a head up to its date.
fn head(status: Status, content_type: &str, length: u64) -> Vec<u8> {
    let mut head = status.line().as_bytes().to_vec();
    head.extend_from_slice(b"Content-Type: ");
    head.extend_from_slice(content_type.as_bytes());
    head.extend_from_slice(b"\r\nContent-Length: ");
    head.extend_from_slice(length.to_string().as_bytes());
    head.extend_from_slice(b"\r\n");
    head.extend_from_slice(DATE);
    head
}

/// A 200 whose content never changes. It is composed once; only the date and the Connection field
/// are written for each request.
#[derive(Clone, Debug)]
pub struct Page {
    head: Vec<u8>,
    body: Cow<'static, [u8]>,
}

impl Page {
    /// Composes a page with a body of type `content_type`. An invalid type makes it a 500, as in
    /// [`Response::new`].
    pub fn new(content_type: &str, body: impl Into<Cow<'static, [u8]>>) -> Page {
        let Response { head, body } = Response::ok(content_type, body);
        let body = match body {
            ResponseBody::Bytes(bytes) => bytes,
            ResponseBody::Streamed(..) => Cow::Borrowed(&[][..]), // `ok` never returns one
        };
        Page { head: head.into_owned(), body }
    }

    /// Returns the page as a response.
    #[inline]
    pub fn response(&self) -> Response<'_> {
        Response {
            head: Cow::Borrowed(&self.head),
            body: ResponseBody::Bytes(Cow::Borrowed(&self.body)),
        }
    }
}
