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
//! Such a field is an error when it is added (`field.rs`), so it never becomes part of a head.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;

use super::content_type::ContentType;
use super::context::HttpContext;
use super::exchange::Later;
use super::field::{HeaderError, check_field};
use super::ongoing::{Feed, Start};
use super::promise::Awaited;
use super::status::Status;
use crate::http::limits::{
    ANSWER_DEADLINE_MS_DEFAULT, BODY_READ_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX,
};

/// What a [`Responder`](crate::Responder) returns: a status, fields of its own, and a body.
///
/// [`Http`](crate::Http) does the framing: it writes Content-Length, Date and Connection, and
/// leaves the body out where there must be none.
///
/// Neither `Send` nor `Sync`: a streamed body is read on the thread of its reactor.
#[must_use = "a response is sent only if the responder returns it"]
pub struct Response<'r> {
    /// The part of the head that does not depend on the date or the connection: up to `Date: `.
    pub(super) head: Cow<'r, [u8]>,
    pub(super) body: ResponseBody<'r>,
}

/// What follows the head.
pub(super) enum ResponseBody<'r> {
    Bytes(Cow<'r, [u8]>),
    /// A length in bytes, and what is read as the peer takes them.
    Streamed(u64, Box<dyn io::Read>),
    /// The responder has more to say, now or later. One variant for all of this: a response that
    /// is sent at once pays for no other when it is dropped.
    Pending(Box<Pending<'r>>),
}

/// A response whose body does not follow its head at once.
pub(super) enum Pending<'r> {
    /// There is no response yet, and so no head either.
    Later(Later),
    /// The body begins with this call, and ends with the connection.
    Ongoing(Start<'r>),
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
    /// A body of more than [`BODY_READ_BYTES_MAX`](crate::limits) is sent in pieces as the peer
    /// takes it, and kept until then (a borrowed one as a copy). To avoid holding it whole, use
    /// [`streamed`](Response::streamed). For a status that has no content, such as
    /// [`NO_CONTENT`](Status::NO_CONTENT), the body and its type are left out.
    ///
    /// ```
    /// use mio_reactor::{ContentType, Response, Status};
    ///
    /// let created = Response::new(Status::CREATED, ContentType::TEXT, "made\n".as_bytes())
    ///     .with_header("Location", "/things/7")?;
    /// # Ok::<(), mio_reactor::HeaderError>(())
    /// ```
    pub fn new(
        status: Status,
        content_type: ContentType<'_>,
        body: impl Into<Cow<'r, [u8]>>,
    ) -> Response<'r> {
        if !status.has_content() {
            return Response::empty(status);
        }
        let body = body.into();
        Response {
            head: head(status, content_type, body.len() as u64).into(),
            body: ResponseBody::Bytes(body),
        }
    }

    /// Returns a 200 with this text: [`ContentType::TEXT`], in UTF-8.
    pub fn text(text: impl Into<String>) -> Response<'static> {
        Response::ok(ContentType::TEXT, text.into().into_bytes())
    }

    /// Returns a 200 with a body of type `content_type`.
    pub fn ok(content_type: ContentType<'_>, body: impl Into<Cow<'r, [u8]>>) -> Response<'r> {
        Response::new(Status::OK, content_type, body)
    }

    /// Returns a response of `status` whose body is read from `body` while it is sent.
    ///
    /// It is read in pieces, as the peer takes them. A piece has at most
    /// [`BODY_READ_BYTES_MAX`](crate::limits), gathered in at most
    /// [`BODY_READS_MAX`](crate::limits) reads. Nothing is read while more than
    /// [`LOW_WATERMARK_BYTES`](crate::limits::LOW_WATERMARK_BYTES) wait to be sent.
    ///
    /// A read must return soon. If no bytes are available yet, it returns
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) and is called again after
    /// [`BODY_RETRY_MS`](crate::limits). That time doubles with each read without bytes, up to
    /// [`BODY_RETRY_MS_MAX`](crate::limits) (100 ms), and begins anew with the next bytes. After
    /// [`Interrupted`](io::ErrorKind::Interrupted) it is called again at once, as often as any read
    /// of the piece.
    ///
    /// `length`, in bytes, is sent as Content-Length. Bytes of `body` beyond it are not read. If
    /// `body` ends or fails earlier, has no bytes for longer than
    /// [`idle_timeout`](crate::Limits::idle_timeout), or claims to have read more than its buffer
    /// holds, the connection is reset, so that the client cannot take a part for the whole. This is
    /// counted ([`Stats::bodies_failed`](crate::Stats::bodies_failed)). For a status that has no
    /// content, `body` is dropped.
    pub fn streamed(
        status: Status,
        content_type: ContentType<'_>,
        length: u64,
        body: impl io::Read + 'static,
    ) -> Response<'static> {
        if !status.has_content() {
            return Response::empty(status);
        }
        Response {
            head: head(status, content_type, length).into(),
            body: ResponseBody::Streamed(length, Box::new(body)),
        }
    }

    /// Returns a response without a body. Where `status` allows one, Content-Length is 0.
    pub fn empty(status: Status) -> Response<'static> {
        let mut head = status_line(status);
        if status.has_length() {
            head.extend_from_slice(b"Content-Length: 0\r\n");
        }
        head.extend_from_slice(DATE);
        Response { head: head.into(), body: ResponseBody::Bytes(Cow::Borrowed(&[])) }
    }

    /// Returns a response whose body, in plain text, is the code and the reason phrase.
    pub fn error(status: Status) -> Response<'static> {
        Response::new(status, ContentType::ASCII, format!("{status}\n").into_bytes())
    }

    /// The deadline that a server may use if it has no reason for another: 60 s.
    pub const DEADLINE_DEFAULT: Duration = Duration::from_millis(ANSWER_DEADLINE_MS_DEFAULT);

    /// Returns the promise of a response, which the responder gives in one of its later calls:
    /// [`timer_expired`](crate::Responder::timer_expired),
    /// [`message_received`](crate::Responder::message_received) or
    /// [`notified`](crate::Responder::notified). For an answer from another thread, see
    /// [`HttpContext::promise`](crate::HttpContext::promise).
    ///
    /// The client waits for `deadline` at most, and no longer than a day. Then it gets 504, and the
    /// responder is not asked any more. Meanwhile no further request of this client is taken, so
    /// that the responses keep their order; the connection is not idle; and a stop waits for the
    /// answer. If the response is such a promise again, the wait begins anew.
    ///
    /// It has no head, so [`with_header`](Response::with_header) fails.
    pub fn later(deadline: Duration) -> Response<'static> {
        Response::promised(deadline, None)
    }

    /// Returns a response of `status` whose body goes on for as long as its [`Feed`] does: events,
    /// or a log that is followed.
    ///
    /// The head is sent at once, without Content-Length: the body ends when the connection does
    /// (RFC 1945 section 7.2.2, RFC 9112 section 6.3). Then `start` is called with the feed. It is
    /// not called for HEAD, nor for a status that has no content.
    ///
    /// The connection is not idle, however quiet the body is, for a day at most. A client that
    /// vanishes without a word shows only when something is sent to it. So send something now and
    /// then: [`HttpContext::set_timer`] holds for as long as the body goes on. When a stop begins,
    /// the responder is [notified](crate::Responder::notified) of
    /// [`Stopping`](crate::Notification::Stopping), and may send a last word. Then the body ends.
    ///
    /// ```
    /// use std::time::Duration;
    /// use mio_reactor::{
    ///     ContentType, Feed, HttpContext, Request, Responder, Response, Status,
    /// };
    ///
    /// /// Sends the time every second, as server-sent events.
    /// struct Clock(Option<Feed>);
    ///
    /// impl Responder for Clock {
    ///     fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
    ///         let events = ContentType::new("text/event-stream").expect("a type and a subtype");
    ///         Response::ongoing(Status::OK, events, |feed, cx| {
    ///             self.0 = Some(feed);
    ///             cx.set_timer(Duration::from_secs(1));
    ///         })
    ///     }
    ///
    ///     fn timer_expired(&mut self, cx: &mut HttpContext<'_, '_>) -> Option<Response<'_>> {
    ///         let event = [b"data: ", &cx.date()[..], b"\n\n"].concat();
    ///         if let Some(feed) = &self.0 {
    ///             feed.send(&mut cx.connections(), &event);
    ///             cx.set_timer(Duration::from_secs(1));
    ///         }
    ///         None
    ///     }
    /// }
    /// ```
    ///
    /// [`HttpContext::set_timer`]: crate::HttpContext::set_timer
    pub fn ongoing(
        status: Status,
        content_type: ContentType<'_>,
        start: impl FnOnce(Feed, &mut HttpContext<'_, '_>) + 'r,
    ) -> Response<'r> {
        if !status.has_content() {
            return Response::empty(status);
        }
        let mut head = typed_line(status, content_type);
        head.extend_from_slice(DATE);
        let body = ResponseBody::Pending(Box::new(Pending::Ongoing(Box::new(start))));
        Response { head: head.into(), body }
    }

    pub(super) fn promised(deadline: Duration, waits_for: Option<Awaited>) -> Response<'static> {
        let later = Later { deadline, waits_for };
        let body = ResponseBody::Pending(Box::new(Pending::Later(later)));
        Response { head: Cow::Borrowed(&[]), body }
    }

    /// Adds a header field. Fields of the same name that were added before stay.
    ///
    /// Some statuses require a field that only the application knows (RFC 9110 sections 15.5.2,
    /// 15.5.6 and 10.2.2): `WWW-Authenticate` with 401, `Allow` with 405, `Location` with a
    /// redirect.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if the name or the value has a byte that could end the line or the head, if
    /// the field is one of those that frame the message or that the server writes itself, or if the
    /// head would be longer than clients take (64 KiB). The response is dropped. A responder that
    /// adds what it has received from elsewhere may send another one in its place:
    ///
    /// ```
    /// # use mio_reactor::{ContentType, Response, Status};
    /// # fn respond(note: &str) -> Response<'static> {
    /// Response::ok(ContentType::TEXT, &b"done\n"[..])
    ///     .with_header("X-Note", note)
    ///     .unwrap_or_else(|_| Response::error(Status::INTERNAL_SERVER_ERROR))
    /// # }
    /// ```
    pub fn with_header(self, name: &str, value: &str) -> Result<Response<'r>, HeaderError> {
        self.with_field(name, value.as_bytes())
    }

    /// Adds a header field, of which the value may have bytes beyond ASCII in any encoding.
    pub(super) fn with_field(self, name: &str, value: &[u8]) -> Result<Response<'r>, HeaderError> {
        if let ResponseBody::Pending(pending) = &self.body
            && let Pending::Later(_) = **pending
        {
            return Err(HeaderError::NoHead);
        }
        let mut head = self.head.into_owned();
        add_field(&mut head, name, value)?;
        Ok(Response { head: head.into(), body: self.body })
    }

    /// Returns a response of this head alone.
    pub(super) fn of_head(head: &'r [u8]) -> Response<'r> {
        Response { head: Cow::Borrowed(head), body: ResponseBody::Bytes(Cow::Borrowed(&[])) }
    }

    /// Returns whether the response does not leave at once: the body is streamed, or too long to
    /// follow the head, or the response is promised.
    #[inline]
    pub(super) fn is_streamed(&self) -> bool {
        match &self.body {
            ResponseBody::Bytes(bytes) => bytes.len() > BODY_READ_BYTES_MAX,
            ResponseBody::Streamed(..) | ResponseBody::Pending(_) => true,
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
            body @ (ResponseBody::Bytes(_)
            | ResponseBody::Streamed(..)
            | ResponseBody::Pending(_)) => body,
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
            ResponseBody::Pending(_) => 0,
        }
    }

    /// The memory of the body, in bytes. What a streamed one is read from is not counted.
    pub(super) fn kept_bytes(&self) -> usize {
        match &self.body {
            ResponseBody::Bytes(bytes) => bytes.len(),
            ResponseBody::Streamed(..) | ResponseBody::Pending(_) => 0,
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
        let body: &[u8] = match &self.body {
            ResponseBody::Bytes(bytes) => bytes,
            ResponseBody::Streamed(..) | ResponseBody::Pending(_) => &[],
        };
        output.reserve(self.head.len() + date.len() + PERSISTS.len() + body.len());
        if form != ResponseForm::Simple {
            output.extend_from_slice(&self.head);
            output.extend_from_slice(date);
            match persists {
                true => output.extend_from_slice(PERSISTS),
                false => end_last_head(output),
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

/// Appends the end of the head after which the connection closes.
#[inline(never)] // else both ends become one copy of a length chosen at run time, which costs more
fn end_last_head(output: &mut Vec<u8>) {
    output.extend_from_slice(b"\r\nConnection: close\r\n\r\n");
}

/// The beginning of a head, with room for the rest of nearly every one up to its date.
fn status_line(status: Status) -> Vec<u8> {
    let mut head = Vec::with_capacity(128);
    status.write_line(&mut head);
    head
}

/// The beginning of a head with its content type.
fn typed_line(status: Status, content_type: ContentType<'_>) -> Vec<u8> {
    let mut head = status_line(status);
    head.extend_from_slice(b"Content-Type: ");
    head.extend_from_slice(content_type.as_str().as_bytes());
    head.extend_from_slice(b"\r\n");
    head
}

/// The bytes of a head up to its date.
pub(super) fn head(status: Status, content_type: ContentType<'_>, length: u64) -> Vec<u8> {
    let mut head = typed_line(status, content_type);
    head.extend_from_slice(b"Content-Length: ");
    head.extend_from_slice(length.to_string().as_bytes());
    head.extend_from_slice(b"\r\n");
    head.extend_from_slice(DATE);
    head
}

/// Adds a field to the bytes of a head, before its date.
pub(super) fn add_field(head: &mut Vec<u8>, name: &str, value: &[u8]) -> Result<(), HeaderError> {
    check_field(name, value)?;
    let parts = [name.as_bytes(), b": ", value, b"\r\n"];
    if head.len() + parts.iter().map(|part| part.len()).sum::<usize>() > RESPONSE_HEAD_BYTES_MAX {
        return Err(HeaderError::TooLong { bytes_max: RESPONSE_HEAD_BYTES_MAX });
    }
    head.truncate(head.len() - DATE.len());
    for part in parts {
        head.extend_from_slice(part);
    }
    head.extend_from_slice(DATE);
    Ok(())
}
