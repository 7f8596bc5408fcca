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

use httparse::{EMPTY_HEADER, Header};

use super::content_type::ContentType;
use super::field::HeaderError;
use super::head::{Fields, list_items};
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
fn passed_on<'h, 'i>(headers: &'h [Header<'i>]) -> impl Iterator<Item = &'h Header<'i>> {
    let lower = |name: &'h [u8]| name.iter().map(u8::to_ascii_lowercase);
    let mut names: Vec<(&[u8], bool)> =
        headers.iter().map(|field| (field.name.as_bytes(), false)).collect();
    names.sort_by(|(a, _), (b, _)| lower(a).cmp(lower(b)));
    names.dedup_by(|(a, _), (b, _)| a.eq_ignore_ascii_case(b));
    let find = move |names: &[(&'h [u8], bool)], name: &'h [u8]| {
        names.binary_search_by(|(other, _)| lower(other).cmp(lower(name)))
    };
    let connection = headers.iter().filter(|field| field.name.eq_ignore_ascii_case("Connection"));
    for option in connection.flat_map(|field| list_items(field.value)) {
        if let Ok(index) = find(&names, option) {
            names[index].1 = true;
        }
    }
    headers.iter().filter(move |field| {
        let index = find(&names, field.name.as_bytes());
        let is_option = index.is_ok_and(|index| names[index].1);
        !is_option && !NOT_PASSED_ON.iter().any(|name| name.eq_ignore_ascii_case(field.name))
    })
}

impl Request<'_> {
    /// Returns the head of this request as a gateway sends it on to a server. The body, if there is
    /// one, follows it unchanged.
    ///
    /// It is that of HTTP/1.0 and asks for a connection that persists, so the response is one that
    /// [`ServerResponse`] can read. Method, target and Host are the same. `X-Forwarded-For` names
    /// `client` behind those that the request names, which a client can forge. Fields about one
    /// connection are left out (RFC 9110 section 7.6.1).
    pub fn forwarded_head(&self, client: Peer) -> Vec<u8> {
        const FORWARDED_FOR: &str = "X-Forwarded-For";
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
        for field in passed_on(self.headers) {
            if !field.name.eq_ignore_ascii_case(FORWARDED_FOR) {
                add(field.name, field.value);
            }
        }
        head.extend_from_slice(b"\r\n");
        head
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
    headers: Vec<Header<'i>>,
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
        let mut headers = vec![EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let length = match head.parse(&input[..input.len().min(HEAD_BYTES_MAX)]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if input.len() < HEAD_BYTES_MAX => return Ok(None),
            Ok(httparse::Status::Partial) | Err(_) => return Err(ServerResponseError),
        };
        let status = Status::new(head.code.unwrap_or(0)).map_err(|_| ServerResponseError)?;
        let (is_1_1, fields_count) = (head.version == Some(1), head.headers.len());
        headers.truncate(fields_count);
        let fields = Fields::read(&headers, &input[..length]).map_err(|_| ServerResponseError)?;
        Ok(Some(ServerResponse {
            status,
            headers,
            length,
            content_length: fields.body_bytes,
            is_to_head: method == Method::Head,
            keeps_alive: !fields.has_close && (is_1_1 || fields.has_keep_alive),
        }))
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
        let (mut types, fields): (Vec<&Header<'_>>, Vec<_>) = passed_on(&self.headers)
            .partition(|field| field.name.eq_ignore_ascii_case("Content-Type"));
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
        fields.try_fold(response, |response, field| response.with_field(field.name, field.value))
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::{FEW_HEADERS, parse};
    use super::*;

    #[track_caller]
    fn check_forwarded(request: &str, client: Peer, expected: &str) {
        let (mut few, mut many) = ([EMPTY_HEADER; FEW_HEADERS], Vec::new());
        let (request, _) = parse(request.as_bytes(), &mut few, &mut many).unwrap();
        let head = request.forwarded_head(client);
        assert_eq!(head.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
    }

    // pitfall: 181
    #[test]
    fn forwarded_head_has_a_framing_of_its_own_and_names_the_client() {
        let client = Peer::Ip("192.0.2.7:1234".parse().unwrap());
        check_forwarded(
            "GET /a?b=c HTTP/1.1\r\nHost: a\r\nCookie: c\r\n\r\n",
            client,
            "GET /a?b=c HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\
             X-Forwarded-For: 192.0.2.7\r\nCookie: c\r\n\r\n",
        );
        check_forwarded(
            "POST / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 1\r\nContent-Length: 0005\r\n\
             X-Forwarded-For: 2\r\nConnection: close\r\nConnection: x-a , X-B\r\nX-A: 1\r\n\
             x-b: 2\r\nKeep-Alive: 1\r\nTE: a\r\nTrailer: b\r\nUpgrade: c\r\n\
             Proxy-Connection: d\r\nExpect: 100-continue\r\nX-C: 3\r\n\r\n",
            client,
            "POST / HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\
             X-Forwarded-For: 1, 2, 192.0.2.7\r\nContent-Length: 5\r\nX-C: 3\r\n\r\n",
        );
        for (method, length) in [("POST", "Content-Length: 0\r\n"), ("DELETE", "")] {
            check_forwarded(
                &format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"),
                Peer::Unix,
                &format!(
                    "{method} / HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n{length}\r\n"
                ),
            );
        }
        check_forwarded(
            "OPTIONS * HTTP/1.0\r\n\r\n",
            Peer::Unix,
            "OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        );
    }

    #[test]
    fn length_status_and_method_decide_where_the_servers_body_ends() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
        let until_close = "HTTP/1.1 200 OK\r\n\r\n";
        let not_modified = "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n";
        let closes = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: a, Close\r\n\r\n";
        let of_1_0 = "HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n";
        let kept = "HTTP/1.0 200 OK\r\nContent-Length: 7\r\nConnection: keep-alive\r\n\r\n";
        for (method, head, body_bytes, keeps_alive) in [
            (Method::Get, ok, Some(7), true),
            (Method::Head, ok, Some(0), true),
            (Method::Get, until_close, None, false),
            (Method::Head, until_close, Some(0), true),
            (Method::Get, not_modified, Some(0), true),
            (Method::Get, closes, Some(7), false),
            (Method::Get, of_1_0, Some(7), false),
            (Method::Get, kept, Some(7), true),
        ] {
            for end in 0..head.len() {
                let cut = ServerResponse::parse(&head.as_bytes()[..end], method);
                assert!(cut.unwrap().is_none(), "{end} bytes of {head}");
            }
            let input = format!("{head}next");
            let parsed = ServerResponse::parse(input.as_bytes(), method).unwrap().unwrap();
            assert_eq!(parsed.length(), head.len());
            assert_eq!(parsed.body_bytes(), body_bytes, "{method:?} {head}");
            assert_eq!(parsed.keeps_alive(), keeps_alive, "{method:?} {head}");
        }
    }

    // pitfall: 181
    #[test]
    fn server_response_that_can_be_read_in_two_ways_is_an_error() {
        let long = format!("X: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
        let many = "X: x\r\n".repeat(HEADERS_MAX + 1);
        for fields in [
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Content-Length : 1\r\n",
            "X: a\n",
            &long,
            &many,
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            let parsed = ServerResponse::parse(head.as_bytes(), Method::Get);
            assert_eq!(parsed.unwrap_err(), ServerResponseError, "{fields}");
        }
        for line in ["HTTP/1.1 100 Continue", "HTTP/1.1 999 What", "HTTP/2 200 OK", "what"] {
            let head = format!("{line}\r\n\r\n");
            let parsed = ServerResponse::parse(head.as_bytes(), Method::Get);
            assert_eq!(parsed.unwrap_err(), ServerResponseError, "{line}");
        }
    }

    #[test]
    fn response_of_the_server_is_passed_on_without_what_is_about_its_connection() {
        let head = "HTTP/1.1 203 Odd\r\nDate: 1\r\nContent-Type: a/b\r\nConnection: X-A\r\n\
            X-A: 1\r\nSet-Cookie: a\r\nContent-Length: 7\r\nSet-Cookie: b\r\n\r\n";
        for (method, body_bytes) in [(Method::Get, 2), (Method::Head, 7)] {
            let parsed = ServerResponse::parse(head.as_bytes(), method).unwrap().unwrap();
            let response = parsed.pass_on(&b"hi"[..]).unwrap();
            let composed = format!(
                "HTTP/1.0 203 \r\nContent-Type: a/b\r\nContent-Length: {body_bytes}\r\n\
                 Set-Cookie: a\r\nSet-Cookie: b\r\nDate: "
            );
            let composed = composed.as_bytes().escape_ascii().to_string();
            assert_eq!(
                format!("{response:?}"),
                format!("Response {{ {composed:?}, {body_bytes} bytes }}")
            );
        }
        let latin = b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9\r\n\r\n";
        let parsed = ServerResponse::parse(latin, Method::Get).unwrap().unwrap();
        let response = format!("{:?}", parsed.pass_on(&b""[..]).unwrap());
        assert!(response.contains(r"X-Name: caf\\xe9\\r\\n"), "{response}");
        for (field, passed_on) in [
            ("Content-Type: text/html; charset=\r\n", "text/html"),
            ("Content-Type: text/html;\r\n", "text/html"),
            ("Content-Type: html\r\n", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{field}\r\n");
            let parsed = ServerResponse::parse(head.as_bytes(), Method::Get).unwrap().unwrap();
            let response = format!("{:?}", parsed.pass_on(&b"hi"[..]).unwrap());
            let line = format!(r"Content-Type: {passed_on}\\r");
            assert!(response.contains(&line), "{field}: {response}");
        }
        let bare = b"HTTP/1.1 200 OK\r\n\r\n";
        let parsed = ServerResponse::parse(bare, Method::Head).unwrap().unwrap();
        let response = parsed.pass_on(&b""[..]).unwrap();
        assert!(!format!("{response:?}").contains("Content-Length"), "{response:?}");
    }
}
