//! An answer, and how it is written.

use std::borrow::Cow;
use std::fmt;
use std::io;

use super::status::Status;
use crate::limits::BODY_READ_BYTES_MAX;

/// What a [`Responder`](crate::Responder) has to say: a status, fields of its own, and a body. The framing is not its business:
/// length, date and connection are written by [`Http`](crate::Http), and the body is left out where there must be none.
pub struct Response<'r> {
    /// The head as far as it does not depend on the moment or the connection: up to `Date: `.
    head: Cow<'r, [u8]>,
    pub(super) body: ResponseBody<'r>,
}

/// What follows a head.
pub(super) enum ResponseBody<'r> {
    Bytes(Cow<'r, [u8]>),
    /// So many bytes, which are read as the peer takes them.
    Streamed(u64, Box<dyn io::Read>),
}

/// What of a response the client can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseForm {
    /// Head and body.
    Full,
    /// The head alone, with the fields that the answer to GET would have (RFC 9110 section 9.3.2).
    Head,
    /// The body alone, for a client that speaks HTTP/0.9 (RFC 1945 section 6).
    Simple,
}

/// What comes last in a head, before the date.
const DATE: &[u8] = b"Date: ";

impl<'r> Response<'r> {
    /// A response of `status`, with a body of the type named. A body of more than [`BODY_READ_BYTES_MAX`] leaves in pieces as the
    /// peer takes it, and is kept until then (a borrowed one as a copy): who would rather not hold it whole has
    /// [`streamed`](Response::streamed). A status without a body,
    /// such as [`NoContent`](Status::NoContent), has none, nor a type. A type that is no value of a field makes it a 500, as
    /// [`with_header`](Response::with_header) does.
    pub fn new(status: Status, content_type: &str, body: impl Into<Cow<'r, [u8]>>) -> Response<'r> {
        let body = body.into();
        if status.has_no_body() {
            return Response::empty(status);
        }
        if !is_one_line(content_type) {
            return Response::error(Status::InternalServerError);
        }
        Response {
            head: head(status, content_type, body.len() as u64).into(),
            body: ResponseBody::Bytes(body),
        }
    }

    /// 200 with a body of the type named.
    pub fn ok(content_type: &str, body: impl Into<Cow<'r, [u8]>>) -> Response<'r> {
        Response::new(Status::Ok, content_type, body)
    }

    /// A response of `status`, with a body that is read from `body` piece by piece, as the peer takes it: never more than
    /// [`BODY_READ_BYTES_MAX`] at a time, in at most [`BODY_READS_MAX`](crate::limits::BODY_READS_MAX) reads, and nothing
    /// while more than
    /// [`LOW_WATERMARK_BYTES`](crate::limits::LOW_WATERMARK_BYTES) wait to be sent.
    ///
    /// A read must return soon. If it has nothing yet, it says [`WouldBlock`](io::ErrorKind::WouldBlock), and is tried again
    /// after [`BODY_RETRY_MS`](crate::limits::BODY_RETRY_MS). `length` is in bytes and is what the client is told: what
    /// `body` has beyond it is not read, and if it ends or fails earlier, the connection is reset, so that the client cannot
    /// take a part for the whole. A status without a body has none, and a type that is none makes a 500, as for
    /// [`new`](Response::new); then `body` is dropped.
    pub fn streamed(
        status: Status,
        content_type: &str,
        length: u64,
        body: impl io::Read + 'static,
    ) -> Response<'static> {
        if status.has_no_body() {
            return Response::empty(status);
        }
        if !is_one_line(content_type) {
            return Response::error(Status::InternalServerError);
        }
        Response {
            head: head(status, content_type, length).into(),
            body: ResponseBody::Streamed(length, Box::new(body)),
        }
    }

    /// A status without a body. Where the status allows one, its length is said to be 0.
    pub fn empty(status: Status) -> Response<'static> {
        let mut head = status.line().as_bytes().to_vec();
        if !status.has_no_body() {
            head.extend_from_slice(b"Content-Length: 0\r\n");
        }
        head.extend_from_slice(DATE);
        Response { head: head.into(), body: ResponseBody::Bytes(Cow::Borrowed(&[])) }
    }

    /// A status with its own words as the body.
    pub fn error(status: Status) -> Response<'static> {
        Response::new(status, "text/plain", format!("{}\n", status.as_str()).into_bytes())
    }

    /// Adds a field.
    ///
    /// What frames the message or is written by the server alone (Content-Length, Transfer-Encoding, Connection, Date,
    /// Content-Type) is not an application's to say, and what would end its line or the head is not a field. Such a name or
    /// value turns the response into a 500 without the fields that it had: a mistake of the application's, which it can see,
    /// and which nobody can use.
    ///
    /// Some statuses must come with a field that only the application knows (RFC 9110 sections 15.5.2, 15.5.6 and 10.2.2):
    /// `WWW-Authenticate` with 401, `Allow` with 405, `Location` with those that redirect.
    #[must_use]
    pub fn with_header(self, name: &str, value: &str) -> Response<'r> {
        const OURS: [&str; 5] =
            ["content-length", "transfer-encoding", "connection", "date", "content-type"];
        if !is_token(name.as_bytes())
            || !is_one_line(value)
            || OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
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

    /// Is its body too long to be put behind its head at once?
    #[inline]
    pub(super) fn is_streamed(&self) -> bool {
        match &self.body {
            ResponseBody::Bytes(bytes) => bytes.len() > BODY_READ_BYTES_MAX,
            ResponseBody::Streamed(..) => true,
        }
    }

    /// It, with a body that is streamed if it is long: so a peer that does not read has no more of it waiting than a piece,
    /// beside the body itself.
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

    /// The three digits of its status.
    pub(super) fn code(&self) -> [u8; 3] {
        let digits = self.head["HTTP/1.0 ".len()..].first_chunk();
        *digits.expect("a head begins with a status line")
    }

    /// How many bytes its body has.
    pub(super) fn body_bytes(&self) -> u64 {
        match &self.body {
            ResponseBody::Bytes(bytes) => bytes.len() as u64,
            ResponseBody::Streamed(length, _) => *length,
        }
    }

    /// Writes it to `output`, as far as it is there and the client can take it: not what is streamed.
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
                true => output.extend_from_slice(PERSISTS), // two copies of a known length each cost less than one of either
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

/// Can it be the name of a field, or a method (RFC 9110 section 5.6.2)?
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Can it be the value of a field: is there nothing in it that could end its line (RFC 9110 section 5.5)?
fn is_one_line(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

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

/// A page that is always the same: 200, composed once. Nothing of it is written anew for each request but the date.
#[derive(Clone, Debug)]
pub struct Page {
    head: Vec<u8>,
    body: Cow<'static, [u8]>,
}

impl Page {
    /// A page of the type named, or a 500 as [`Response::new`] has it.
    pub fn new(content_type: &str, body: impl Into<Cow<'static, [u8]>>) -> Page {
        let Response { head, body } = Response::ok(content_type, body);
        let body = match body {
            ResponseBody::Bytes(bytes) => bytes,
            ResponseBody::Streamed(..) => Cow::Borrowed(&[][..]), // which it is not
        };
        Page { head: head.into_owned(), body }
    }

    /// It, as a response.
    #[inline]
    pub fn response(&self) -> Response<'_> {
        Response {
            head: Cow::Borrowed(&self.head),
            body: ResponseBody::Bytes(Cow::Borrowed(&self.body)),
        }
    }
}
