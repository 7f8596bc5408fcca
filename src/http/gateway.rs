//! What a gateway passes on: the head of a request to a server, and the server's response back.
//!
//! ```text
//!     client ──► Http ──► Request::forwarded_head ──► server
//!            ◄── Http ◄── ServerResponse::pass_on ◄── server
//! ```
//!
//! A gateway is also called a reverse proxy (RFC 9110 section 3.7). It asks with HTTP/1.0, which
//! has no chunks and no interim responses. So a length, or the end of the connection, ends a body.
//!
//! Invariant: each message is written anew, and no field that frames one message, or that is about
//! one connection, becomes a part of the other. Two sides that see different messages are how one
//! client gets the answer to another (RFC 9112 section 11).

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;

use httparse::EMPTY_HEADER;
use memchr::memchr;

use super::content_type::ContentType;
use super::field::HeaderError;
use super::field_lines::{Field, FieldLines};
use super::head::{Framing, list_items};
use super::request::{Method, Request};
use super::response::Response;
use super::status::Status;
use crate::http::limits::{HEAD_BYTES_MAX, HEADERS_MAX};
use crate::protocol::ident::Peer;

/// Fields about one connection (RFC 9110 section 7.6.1), and those that a sender writes itself.
const NOT_PASSED_ON: [&str; 11] = [
    "Connection",
    "Content-Length",
    "Date",
    "Expect",
    "Host",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
];

/// Returns the fields that are passed on, in order. Those that a Connection field names are not. A
/// client may name thousands: each is looked up once, among the few names of fields.
fn passed_on<'i>(fields: &FieldLines<'i>) -> impl Iterator<Item = Field<'i>> + use<'i> {
    let lower = |name: &'i [u8]| name.iter().map(u8::to_ascii_lowercase);
    let mut names: Vec<(&[u8], bool)> = fields.iter().map(|field| (field.name, false)).collect();
    names.sort_by(|(a, _), (b, _)| lower(a).cmp(lower(b)));
    names.dedup_by(|(a, _), (b, _)| a.eq_ignore_ascii_case(b));
    let find = move |names: &[(&'i [u8], bool)], name: &'i [u8]| {
        names.binary_search_by(|(other, _)| lower(other).cmp(lower(name)))
    };
    let connection = fields.iter().filter(|field| field.is_named("Connection"));
    for option in connection.flat_map(|field| list_items(field.value)) {
        if let Ok(index) = find(&names, option) {
            names[index].1 = true;
        }
    }
    fields.iter().filter(move |field| {
        let index = find(&names, field.name);
        let is_option = index.is_ok_and(|index| names[index].1);
        !is_option && !NOT_PASSED_ON.iter().any(|name| field.is_named(name))
    })
}

const VIA: &str = "Via";
const MAX_FORWARDS: &str = "Max-Forwards";

/// Returns the number that a Max-Forwards field has; one above all others is the highest that
/// counts. `None`: it has none.
fn number(value: &[u8]) -> Option<u32> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| str::from_utf8(value).ok()?.parse().ok()).map(|max| max.unwrap_or(u32::MAX))
}

impl Request<'_> {
    /// Returns the head of this request as a gateway sends it on to a server. The body, if there is
    /// one, follows it unchanged.
    ///
    /// It is that of HTTP/1.0 and asks for a connection that persists, so the response is one that
    /// [`ServerResponse`] can read. Method, target and Host are the same. `X-Forwarded-For` names
    /// `client` behind those that the request names, which a client can forge. Fields about one
    /// connection are left out (RFC 9110 section 7.6.1). `Via` names this gateway behind
    /// those that the request has passed (section 7.6.3), as `mio-reactor`, with the version of the
    /// request.
    ///
    /// `None`: it is not to be forwarded. CONNECT is for another kind of proxy, and an OPTIONS or
    /// TRACE whose `Max-Forwards` is 0 is for this server itself (section 7.6.2). Answer with
    /// [`NOT_IMPLEMENTED`](Status::NOT_IMPLEMENTED), if there is no other answer.
    pub fn forwarded_head(&self, client: Peer) -> Option<Vec<u8>> {
        const FORWARDED_FOR: &str = "X-Forwarded-For";
        let max_forwards = match self.method() {
            Method::Connect => return None,
            Method::Options | Method::Trace => self.header(MAX_FORWARDS).and_then(number),
            Method::Get
            | Method::Head
            | Method::Post
            | Method::Put
            | Method::Delete
            | Method::Patch => None,
        };
        let max_forwards = match max_forwards {
            Some(max) => Some(max.checked_sub(1)?),
            None => None,
        };
        let method = self.method().as_str().as_bytes();
        let query = self.query().map_or_else(Vec::new, |query| [b"?", query].concat());
        let version = b" HTTP/1.0\r\nConnection: keep-alive\r\n";
        let mut head = [method, b" ", self.path(), &query, version].concat();
        let mut add = |name: &str, value: &[u8]| {
            head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        };
        if let Some(host) = self.host() {
            add("Host", host);
        }
        let own: &[u8] = if self.is_1_1 { b"1.1 mio-reactor" } else { b"1.0 mio-reactor" };
        let via: Vec<&[u8]> = self.header_values(VIA).chain([own]).collect();
        add(VIA, &via.join(&b", "[..]));
        if let Some(max) = max_forwards {
            add(MAX_FORWARDS, max.to_string().as_bytes());
        }
        let client = client.address().map(|client| client.ip().to_string());
        let mut clients: Vec<&[u8]> = self.header_values(FORWARDED_FOR).collect();
        clients.extend(client.as_ref().map(String::as_bytes));
        if !clients.is_empty() {
            add(FORWARDED_FOR, &clients.join(&b", "[..]));
        }
        // Without a length, HTTP/1.1 means no body, but HTTP/1.0 has no such POST (RFC 1945 section
        // 8.3). Servers refuse one.
        let has_length = self.header("Content-Length").is_some();
        if has_length || matches!(self.method(), Method::Post | Method::Put) {
            add("Content-Length", self.body_bytes().to_string().as_bytes());
        }
        for field in passed_on(&self.fields) {
            let is_written = [FORWARDED_FOR, VIA]
                .into_iter()
                .chain(max_forwards.map(|_| MAX_FORWARDS))
                .any(|name| field.is_named(name));
            if !is_written {
                add(field.name_as_str(), field.value);
            }
        }
        head.extend_from_slice(b"\r\n");
        Some(head)
    }
}

/// The head of a server's response to a request of HTTP/1.0, as a gateway receives it.
///
/// ```
/// use mio_reactor::{Method, ServerResponse};
///
/// let received = b"HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nContent-Length: 2\r\n\r\nhi";
/// let head = ServerResponse::parse(received, Method::Get)?.expect("the head is whole");
/// let body = &received[head.length()..];
/// assert_eq!(head.body_bytes(), Some(body.len() as u64));
/// let for_the_client = head.pass_on(body);
/// # let _ = for_the_client;
/// # Ok::<(), mio_reactor::ServerResponseError>(())
/// ```
#[derive(Debug)]
pub struct ServerResponse<'i> {
    status: Status,
    fields: FieldLines<'i>,
    length: usize,
    content_length: Option<u64>,
    is_to_head: bool,
    keeps_alive: bool,
}

/// The bytes are no valid response to a request of HTTP/1.0, or its head is too long. What the
/// client should get is [`BAD_GATEWAY`](Status::BAD_GATEWAY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerResponseError;

impl fmt::Display for ServerResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no valid response to a request of HTTP/1.0")
    }
}

impl Error for ServerResponseError {}

impl<'i> ServerResponse<'i> {
    /// Parses the head at the front of `input`, which responds to a request of this `method`.
    /// `None`: it is not whole yet.
    ///
    /// A head has at most 16 KiB and 64 fields, as that of a request does.
    ///
    /// # Errors
    ///
    /// The head is invalid or too long, it is an interim response, it has a Transfer-Encoding, or
    /// its Content-Length is not one number. Where its body ends is not guessed.
    pub fn parse(
        input: &'i [u8],
        method: Method,
    ) -> Result<Option<ServerResponse<'i>>, ServerResponseError> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let length = match head.parse(&input[..input.len().min(HEAD_BYTES_MAX)]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES_MAX => return Ok(None),
            Ok(httparse::Status::Partial) | Err(_) => return Err(ServerResponseError),
        };
        let status = Status::new(head.code.unwrap_or(0)).map_err(|_| ServerResponseError)?;
        let is_1_1 = head.version == Some(1);
        // Empty lines may precede the status line.
        let line = input.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
        let line_end = memchr(b'\n', &input[line..length]).ok_or(ServerResponseError)?;
        let section = &input[line + line_end + 1..length];
        let (framing, fields) =
            Framing::read_fields(head.headers, section).map_err(|_| ServerResponseError)?;
        Ok(Some(ServerResponse {
            status,
            fields,
            length,
            content_length: framing.body_bytes,
            is_to_head: method == Method::Head,
            keeps_alive: !framing.has_close && (is_1_1 || framing.has_keep_alive),
        }))
    }

    /// Parses the response at the front of `input`, which is a response to a request of this
    /// `method`, and has at most `bytes_max`. Returns it with its length, once it is whole. A body
    /// that ends with the connection is not whole before that.
    ///
    /// # Errors
    ///
    /// As for [`parse`](ServerResponse::parse), or it has more than `bytes_max`, or will have.
    pub fn parse_whole(
        input: &'i [u8],
        method: Method,
        bytes_max: usize,
    ) -> Result<Option<(ServerResponse<'i>, usize)>, ServerResponseError> {
        let Some(head) = ServerResponse::parse(input, method)? else { return Ok(None) };
        let end = match head.body_bytes() {
            None => None,
            Some(body) => {
                let body = usize::try_from(body).map_err(|_| ServerResponseError)?;
                Some(body.checked_add(head.length).ok_or(ServerResponseError)?)
            }
        };
        // What follows a response that is whole is not part of it.
        match end.unwrap_or(input.len()) > bytes_max {
            true => Err(ServerResponseError),
            false => Ok(end.filter(|end| input.len() >= *end).map(|end| (head, end))),
        }
    }

    /// Returns the response for the client to the whole response `received` of a server: as
    /// [`pass_on`](ServerResponse::pass_on), or 502 if it is not valid.
    pub fn pass_on_whole(received: &[u8], method: Method) -> Response<'static> {
        let response = ServerResponse::parse(received, method).ok().flatten();
        let response = response.map(|head| head.pass_on(received[head.length..].to_vec()));
        response.and_then(Result::ok).unwrap_or_else(|| Response::error(Status::BAD_GATEWAY))
    }

    /// Returns the length of the head, in bytes. The body follows it.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Returns the status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Returns the length of the body, in bytes; 0 for a response to HEAD and for a status without
    /// content. `None`: it ends when the server ends the connection (RFC 9112 section 6.3).
    pub fn body_bytes(&self) -> Option<u64> {
        match self.is_to_head || !self.status.has_length() {
            true => Some(0),
            false => self.content_length,
        }
    }

    /// Returns whether the server keeps the connection open for another request, once the body is
    /// complete.
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive && self.body_bytes().is_some()
    }

    /// Returns the response for the client: this status, type and fields, with the body `body`.
    /// What is about the server's connection is left out. If the request was HEAD, there is no
    /// body, but the length of that which GET would get, if the server has sent it. A type without
    /// valid parameters loses them; without a type, the body is one of unknown type.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if one of the fields is not valid. The client should then get
    /// [`BAD_GATEWAY`](Status::BAD_GATEWAY).
    pub fn pass_on<'r>(&self, body: impl Into<Cow<'r, [u8]>>) -> Result<Response<'r>, HeaderError> {
        let (mut types, fields): (Vec<Field<'_>>, Vec<_>) =
            passed_on(&self.fields).partition(|field| field.is_named("Content-Type"));
        let written = types.pop().and_then(|field| str::from_utf8(field.value).ok());
        let written = written.unwrap_or_default();
        // Of a type with invalid parameters, such as an empty charset, the rest is kept: browsers
        // show such a page, and would save one of an unknown type.
        let bare = written.split(';').next().unwrap_or_default().trim_end();
        let content_type = ContentType::new(written)
            .or_else(|_| ContentType::new(bare))
            .unwrap_or(ContentType::OCTET_STREAM);
        let response = match self.content_length {
            _ if !self.is_to_head => Response::new(self.status, content_type, body),
            Some(length) => Response::streamed(self.status, content_type, length, io::empty()),
            None => Response::ongoing(self.status, content_type, |_, _| {}), // of unknown length
        };
        let mut fields = fields.iter();
        fields.try_fold(response, |response, field| {
            response.with_field(field.name_as_str(), field.value)
        })
    }
}

#[cfg(test)]
mod tests;
