//! HTTP accepts no request whose framing another parser could read differently.
//!
//! The head of each accepted request (that is, each one that reaches the responder) is checked
//! against the RFCs a second time, by code that shares nothing with the parser and is as simple and
//! strict as possible. The responses are read as a strict client reads them: there must be as many
//! as there were requests.

#![no_main]

#[path = "../../../src/bin/reactor/site.rs"]
#[allow(dead_code, reason = "the program uses the rest of it")]
mod site;

#[path = "../../../src/limits.rs"]
#[allow(dead_code, reason = "a copy, for the numbers that are not public")]
mod limits;

#[path = "../../../src/http/limits.rs"]
#[allow(dead_code, reason = "a copy, for the numbers that are not public")]
mod http_limits;

use std::cell::RefCell;
use std::net::Ipv6Addr;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use mio_reactor::{
    Advance, Context, Http, HttpContext, Method, Next, Protocol, Request, Responder, Response,
    TestConnection, Upload,
};

use http_limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX};
use site::Site;

/// A request as the responder received it.
#[derive(Clone, Debug, PartialEq)]
struct Received {
    method: Method,
    path: Vec<u8>,
    query: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    keeps_alive: bool,
    expects_continue: bool,
    body_bytes: u64,
    /// HTTP/0.9: it has no version and no fields, and its response has no head.
    is_simple: bool,
}

impl Received {
    fn new(request: &Request<'_>) -> Received {
        Received {
            method: request.method(),
            path: request.path().to_vec(),
            query: request.query().map(<[u8]>::to_vec),
            host: request.header("host").map(<[u8]>::to_vec),
            keeps_alive: request.keeps_alive(),
            expects_continue: request.expects_continue(),
            body_bytes: request.body_bytes(),
            is_simple: false,
        }
    }
}

/// The site, which records every request that it receives.
struct Recorder {
    site: Site,
    received: Rc<RefCell<Vec<Received>>>,
}

impl Responder for Recorder {
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        let request_now = Received::new(request);
        let mut received = self.received.borrow_mut();
        if request.body_bytes() == 0 {
            received.push(request_now);
        } else {
            let last = received.last().expect("`receive` was called when the head arrived");
            assert_eq!(request_now, *last, "the request is the same after its body");
        }
        drop(received);
        self.site.respond(request, cx)
    }

    /// Called as soon as the head has arrived, if a body follows.
    fn receive(
        &mut self,
        request: &Request<'_>,
        cx: &mut HttpContext<'_, '_>,
    ) -> Option<Box<dyn Upload>> {
        self.received.borrow_mut().push(Received::new(request));
        self.site.receive(request, cx)
    }
}

/// HTTP, with each call of `advance` checked.
struct Audited {
    http: Http<Recorder>,
    received: Rc<RefCell<Vec<Received>>>,
    /// Bytes of the last request's body that have not been consumed yet.
    body_left: u64,
}

impl Protocol for Audited {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let received_before = self.received.borrow().len();
        let step = self.http.advance(input, cx);
        let mut received = self.received.borrow_mut();
        let (goes_on, consumed) = (step.next == Next::Continue, &input[..step.consumed]);
        match received.len() - received_before {
            1 => {
                assert_eq!(self.body_left, 0, "a body is not parsed as a request");
                let request = &mut received[received_before];
                request.is_simple = !consumed.ends_with(b"\r\n\r\n");
                if request.is_simple {
                    assert_eq!(received_before, 0, "only the first request may be a simple one");
                    check_simple(consumed, request);
                } else {
                    check_head(consumed, request);
                }
                let is_undecided = request.expects_continue && request.body_bytes > 0;
                assert!(
                    !(goes_on && is_undecided),
                    "the connection closes where it is unknown whether a body follows"
                );
                let ends = !request.keeps_alive || request.method == Method::Connect;
                assert!(
                    !(goes_on && ends && request.body_bytes == 0),
                    "the connection closes after its last request"
                );
                self.body_left = if goes_on { request.body_bytes } else { 0 };
            }
            0 if self.body_left > 0 => {
                assert_eq!(
                    consumed.len() as u64,
                    self.body_left.min(input.len() as u64),
                    "exactly the body is skipped"
                );
                self.body_left -= consumed.len() as u64;
                let request = received.last().expect("a body follows a request");
                let ends = !request.keeps_alive || request.method == Method::Connect;
                assert_eq!(
                    goes_on,
                    self.body_left > 0 || !ends,
                    "the connection persists as the request's head says"
                );
            }
            0 => assert!(
                !goes_on || consumed.is_empty() || consumed == b"\r\n",
                "nothing but an empty line is skipped"
            ),
            count => panic!("{count} requests in one call"),
        }
        step
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.http.eof(rest, cx)
    }
}

/// Checks a request of HTTP/0.9: `GET`, a space, the target and CRLF (RFC 1945 section 5).
fn check_simple(head: &[u8], request: &Received) {
    let details = || format!("{request:?} was parsed from {:?}", head.escape_ascii().to_string());
    let line = head.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("no end: {}", details()));
    let [b"GET", target] = split(line, b" ")[..] else { panic!("not simple: {}", details()) };
    check_target(target, request, &details);
    let is_plain = !request.keeps_alive && !request.expects_continue && request.body_bytes == 0;
    assert!(request.method == Method::Get && is_plain && request.host.is_none(), "{}", details());
}

/// Checks a head against RFC 9112 sections 2 to 6, as far as they decide where the message ends.
fn check_head(head: &[u8], request: &Received) {
    let details = || format!("{request:?} was parsed from {:?}", head.escape_ascii().to_string());
    assert!(head.len() <= HEAD_BYTES_MAX, "{}", details());
    let head_text =
        head.strip_suffix(b"\r\n\r\n").unwrap_or_else(|| panic!("no end: {}", details()));
    let is_text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    let lines: Vec<&[u8]> = split(head_text, b"\r\n");
    assert!(
        lines.iter().all(|line| !line.is_empty() && line.iter().all(|&byte| is_text(byte))),
        "bad line: {}",
        details()
    );
    let (request_line, fields) = lines.split_first().expect("a split has a first part");
    assert!(
        request_line.len() + 2 <= REQUEST_LINE_BYTES_MAX && fields.len() <= HEADERS_MAX,
        "too large: {}",
        details()
    );

    let [method, target, version] = split(request_line, b" ")[..] else {
        panic!("not three parts: {}", details())
    };
    assert_eq!(
        method.escape_ascii().to_string(),
        format!("{:?}", request.method).to_uppercase(),
        "{}",
        details()
    );
    let minor =
        version.strip_prefix(b"HTTP/1.").unwrap_or_else(|| panic!("no version: {}", details()));
    assert!(matches!(minor, [b'0'..=b'9']), "no version: {}", details());
    check_target(target, request, &details);

    let mut pairs = Vec::new();
    for line in fields {
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or_else(|| panic!("no colon: {}", details()));
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        let is_token =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        assert!(!name.is_empty() && name.iter().all(is_token), "bad field name: {}", details());
        pairs.push((name.to_ascii_lowercase(), value));
    }
    let all = |wanted: &[u8]| -> Vec<&[u8]> {
        pairs.iter().filter(|(name, _)| name == wanted).map(|&(_, value)| value).collect()
    };
    let lists = |wanted: &[u8]| -> Vec<Vec<u8>> {
        all(wanted)
            .iter()
            .flat_map(|value| split(value, b","))
            .map(|part| trim(part).to_ascii_lowercase())
            .collect()
    };
    assert!(all(b"transfer-encoding").is_empty(), "transfer coding: {}", details());
    let hosts = all(b"host");
    assert!(
        hosts.len() <= 1 && (hosts.len() == 1 || minor == b"0"),
        "number of hosts: {}",
        details()
    );
    assert_eq!(hosts.first().copied(), request.host.as_deref(), "{}", details());
    assert!(hosts.iter().all(|host| is_authority(host)), "bad host: {}", details());
    let lengths = all(b"content-length");
    assert!(lengths.len() <= 1, "several lengths: {}", details());
    let length = lengths.first().map(|digits| {
        assert!(
            !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
            "bad length: {}",
            details()
        );
        std::str::from_utf8(digits).expect("digits").parse::<u64>().expect("it fits")
    });
    assert!(
        length.is_some() || minor != b"0" || !matches!(request.method, Method::Post | Method::Put),
        "{}",
        details()
    );
    assert_eq!(length.unwrap_or(0), request.body_bytes, "{}", details());
    assert!(request.body_bytes <= BODY_BYTES_MAX, "{}", details());
    let options = lists(b"connection");
    let has = |option: &[u8]| options.iter().any(|has| has == option);
    assert_eq!(
        request.keeps_alive,
        !has(b"close") && (minor != b"0" || has(b"keep-alive")),
        "{}",
        details()
    );
    let expects = lists(b"expect").iter().any(|expectation| expectation == b"100-continue");
    assert_eq!(request.expects_continue, minor != b"0" && expects, "{}", details());
}

/// Checks the request target against the four forms of RFC 9112 section 3.2.
fn check_target(target: &[u8], request: &Received, details: &impl Fn() -> String) {
    let is_target_byte = |byte: &u8| *byte > b' ' && *byte != 0x7f && *byte != b'#';
    assert!(!target.is_empty() && target.iter().all(is_target_byte), "{}", details());
    if request.method == Method::Connect {
        return; // never served, and always the last request
    }
    let rest = match target {
        [b'/', ..] => target,
        b"*" => {
            assert_eq!(request.method, Method::Options, "{}", details());
            assert_eq!((&request.path[..], &request.query), (&b"*"[..], &None), "{}", details());
            return;
        }
        _ => {
            let lower = target.to_ascii_lowercase();
            let scheme = [&b"http://"[..], b"https://"]
                .into_iter()
                .find(|&scheme| lower.starts_with(scheme));
            let scheme = scheme.unwrap_or_else(|| panic!("unknown form: {}", details()));
            let rest = &target[scheme.len()..];
            let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
            assert!(
                is_authority(&rest[..end]) && !matches!(rest[..end], [] | [b':', ..]),
                "bad authority: {}",
                details()
            );
            &rest[end..]
        }
    };
    let question = rest.iter().position(|&byte| byte == b'?');
    let path = &rest[..question.unwrap_or(rest.len())];
    assert_eq!(request.path, if path.is_empty() { b"/" } else { path }, "{}", details());
    assert_eq!(request.query.as_deref(), question.map(|at| &rest[at + 1..]), "{}", details());
}

/// Returns whether `text` is an authority (RFC 3986 section 3.2) without user information. It may
/// be empty.
fn is_authority(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c);
    let (host_is_valid, port) = match text.strip_prefix('[') {
        Some(literal) => {
            let Some((inner, port)) = literal.split_once(']') else { return false };
            let is_future = inner
                .strip_prefix(['v', 'V'])
                .and_then(|future| future.split_once('.'))
                .is_some_and(|(version, rest)| {
                    !version.is_empty()
                        && version.chars().all(|c| c.is_ascii_hexdigit())
                        && !rest.is_empty()
                        && rest.chars().all(|c| is_name(c) || c == ':')
                });
            (is_future || inner.parse::<Ipv6Addr>().is_ok(), port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let mut parts = name.split('%');
            let is_plain = parts.next().is_some_and(|part| part.chars().all(is_name));
            let mut encoded = parts.map(|part| part.as_bytes());
            let is_encoded = encoded.all(|part| {
                part.len() >= 2
                    && part[..2].iter().all(u8::is_ascii_hexdigit)
                    && part[2..].iter().all(|&byte| is_name(char::from(byte)))
            });
            (is_plain && is_encoded, port)
        }
    };
    let port_is_valid = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    host_is_valid && port_is_valid
}

/// Reads the responses as a strict client does, which knows its requests. Returns their status
/// codes.
fn read_responses(mut output: &[u8], requests: &[Received], input: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !output.is_empty() {
        let details =
            || format!("{} is the response to {}", output.escape_ascii(), input.escape_ascii());
        let end = output
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no end: {}", details()));
        let head = std::str::from_utf8(&output[..end])
            .unwrap_or_else(|_| panic!("no text: {}", details()));
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.0 "))
            .unwrap_or_else(|| panic!("{}", details()));
        let status: u16 = status[..3].parse().expect("a status has three digits");
        let fields: Vec<(&str, &str)> =
            lines.map(|line| line.split_once(": ").expect("a field has a name")).collect();
        let field = |wanted: &str| {
            let mut found = fields.iter().filter(|(name, _)| *name == wanted);
            let (_, value) = found.next().unwrap_or_else(|| panic!("no {wanted}: {}", details()));
            assert!(found.next().is_none(), "{wanted} twice: {}", details());
            *value
        };
        let length: usize = field("Content-Length").parse().expect("a length is a number");
        assert_eq!(field("Date").len(), 29);
        output = &output[end + 4..];
        let is_rejected = !matches!(status, 200 | 404 | 405);
        let has_no_body = match requests.get(statuses.len()) {
            // A rejection is the last response. It may come with its body or without, but not with
            // a part.
            _ if is_rejected => output.is_empty(),
            request => request.expect("a response has a request").method == Method::Head,
        };
        let body = if has_no_body { 0 } else { length };
        assert!(body <= output.len(), "cut short: {}", details());
        output = &output[body..];
        let goes_on = match field("Connection") {
            "keep-alive" => true,
            "close" => false,
            other => panic!("{other}: {}", details()),
        };
        assert!(goes_on || output.is_empty(), "a response after the last: {}", details());
        assert!(!(goes_on && is_rejected), "a rejected request is the last");
        statuses.push(status);
    }
    statuses
}

fn split<'t>(text: &'t [u8], separator: &[u8]) -> Vec<&'t [u8]> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(separator.len()).position(|window| window == separator) {
        parts.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    parts.push(rest);
    parts
}

fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let start = text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

// pitfall: 71, 79, 80
fuzz_target!(|input: &[u8]| {
    let requests = Rc::new(RefCell::new(Vec::new()));
    let http = Http::new(Recorder { site: Site::new(), received: Rc::clone(&requests) });
    let mut connection =
        TestConnection::new(Audited { http, received: Rc::clone(&requests), body_left: 0 });
    connection.peer_sends(input);
    connection.peer_shuts_down();
    assert!(connection.close_reason().is_some(), "the connection closes");
    let (requests, output) = (requests.borrow(), connection.take_received());
    if requests.first().is_some_and(|request| request.is_simple) {
        assert_eq!(requests.len(), 1, "the connection closes after a simple request");
        assert!(!output.starts_with(b"HTTP/"), "a simple response has no head");
        return;
    }
    let statuses = read_responses(&output, &requests, input);
    let answered = statuses.iter().filter(|status| matches!(status, 200 | 404 | 405)).count();
    // The last request is rejected after all if its body is cut short.
    assert!(
        answered == requests.len() || answered + 1 == requests.len(),
        "{answered} of {} answered",
        requests.len()
    );
    assert!(statuses.len() <= answered + 1, "one rejection at most");
    assert!(statuses.len() >= requests.len(), "every request has a response");
});
