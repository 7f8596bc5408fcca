//! Whatever HTTP accepts as a request (that is, puts to its responder) is one beyond doubt: its head is held against the
//! RFCs once more, by code that shares nothing with the parser's and is as simple and as strict as it can be. And the answers
//! are framed so that a client reads as many as were asked for.

#![no_main]

#[path = "../../../src/bin/reactor/site.rs"]
#[allow(dead_code, reason = "the program uses the rest of it")]
mod site;

use std::cell::RefCell;
use std::net::Ipv6Addr;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use mio_reactor::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX};
use mio_reactor::{
    Advance, Context, Http, Method, Next, Protocol, Request, Responder, Response, TestConnection,
};

use site::Site;

/// A request as the responder saw it.
#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    path: Vec<u8>,
    query: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    keeps_alive: bool,
    expects_continue: bool,
    body_bytes: u64,
}

/// The site, with all that it was asked written down.
struct Noted {
    site: Site,
    asked: Rc<RefCell<Vec<Asked>>>,
}

impl Responder for Noted {
    fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
        self.asked.borrow_mut().push(Asked {
            method: request.method(),
            path: request.path().to_vec(),
            query: request.query().map(<[u8]>::to_vec),
            host: request.header("host").map(<[u8]>::to_vec),
            keeps_alive: request.keeps_alive(),
            expects_continue: request.expects_continue(),
            body_bytes: request.body_bytes(),
        });
        self.site.respond(request)
    }
}

/// HTTP, with each step checked.
struct Audited {
    http: Http<Noted>,
    asked: Rc<RefCell<Vec<Asked>>>,
    /// The rest of the body of the last request.
    body_left: u64,
}

impl Protocol for Audited {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let asked_before = self.asked.borrow().len();
        let step = self.http.advance(input, cx);
        let asked = self.asked.borrow();
        let (goes_on, consumed) = (step.next == Next::Continue, &input[..step.consumed]);
        match asked.len() - asked_before {
            1 => {
                assert_eq!(self.body_left, 0, "a body is no request");
                let request = &asked[asked_before];
                check_head(consumed, request);
                let is_uncertain = request.expects_continue && request.body_bytes > 0;
                assert!(!(goes_on && is_uncertain), "whether a body follows is not known");
                let ends = !request.keeps_alive || request.method == Method::Connect;
                assert!(
                    !(goes_on && ends && request.body_bytes == 0),
                    "nothing follows the last request"
                );
                self.body_left = if goes_on { request.body_bytes } else { 0 };
            }
            0 if self.body_left > 0 => {
                assert_eq!(
                    consumed.len() as u64,
                    self.body_left.min(input.len() as u64),
                    "a body is skipped, exactly"
                );
                self.body_left -= consumed.len() as u64;
                let request = asked.last().expect("who has a body has been heard");
                let ends = !request.keeps_alive || request.method == Method::Connect;
                assert_eq!(
                    goes_on,
                    self.body_left > 0 || !ends,
                    "it goes on as the request's head said"
                );
            }
            0 => assert!(
                !goes_on || consumed.is_empty() || consumed == b"\r\n",
                "nothing else is passed over"
            ),
            count => panic!("{count} requests in one step"),
        }
        step
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.http.eof(rest, cx)
    }
}

/// RFC 9112 sections 2 to 6, as far as they say where a message ends.
fn check_head(head: &[u8], asked: &Asked) {
    let story = || format!("{asked:?} was read from {:?}", head.escape_ascii().to_string());
    assert!(head.len() <= HEAD_BYTES_MAX, "{}", story());
    let head_text = head.strip_suffix(b"\r\n\r\n").unwrap_or_else(|| panic!("no end: {}", story()));
    let is_text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    let lines: Vec<&[u8]> = split(head_text, b"\r\n");
    assert!(
        lines.iter().all(|line| !line.is_empty() && line.iter().all(|&byte| is_text(byte))),
        "a line: {}",
        story()
    );
    let (request_line, fields) = lines.split_first().expect("a split has a first part");
    assert!(
        request_line.len() + 2 <= REQUEST_LINE_BYTES_MAX && fields.len() <= HEADERS_MAX,
        "too much: {}",
        story()
    );

    let [method, target, version] = split(request_line, b" ")[..] else {
        panic!("three words: {}", story())
    };
    assert_eq!(
        method.escape_ascii().to_string(),
        format!("{:?}", asked.method).to_uppercase(),
        "{}",
        story()
    );
    assert!(
        !target.is_empty()
            && target.iter().all(|byte| (b'!'..=b'~').contains(byte) && *byte != b'#'),
        "{}",
        story()
    );
    let minor =
        version.strip_prefix(b"HTTP/1.").unwrap_or_else(|| panic!("no version: {}", story()));
    assert!(matches!(minor, [b'0'..=b'9']), "no version: {}", story());
    check_target(target, asked, &story);

    let mut pairs = Vec::new();
    for line in fields {
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or_else(|| panic!("no colon: {}", story()));
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        let is_token =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        assert!(!name.is_empty() && name.iter().all(is_token), "a name: {}", story());
        pairs.push((name.to_ascii_lowercase(), value));
    }
    let all = |wanted: &[u8]| -> Vec<&[u8]> {
        pairs.iter().filter(|(name, _)| name == wanted).map(|&(_, value)| value).collect()
    };
    let lists = |wanted: &[u8]| -> Vec<Vec<u8>> {
        all(wanted)
            .iter()
            .flat_map(|value| split(value, b","))
            .map(|word| trim(word).to_ascii_lowercase())
            .collect()
    };
    assert!(all(b"transfer-encoding").is_empty(), "a coding: {}", story());
    let hosts = all(b"host");
    assert!(hosts.len() <= 1 && (hosts.len() == 1 || minor == b"0"), "one host: {}", story());
    assert_eq!(hosts.first().copied(), asked.host.as_deref(), "{}", story());
    assert!(hosts.iter().all(|host| is_authority(host)), "a host: {}", story());
    let lengths = all(b"content-length");
    assert!(lengths.len() <= 1, "one length: {}", story());
    let length = lengths.first().map(|digits| {
        assert!(
            !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
            "a length: {}",
            story()
        );
        std::str::from_utf8(digits).expect("digits").parse::<u64>().expect("it fits")
    });
    assert!(
        length.is_some() || minor != b"0" || !matches!(asked.method, Method::Post | Method::Put),
        "{}",
        story()
    );
    assert_eq!(length.unwrap_or(0), asked.body_bytes, "{}", story());
    assert!(asked.body_bytes <= BODY_BYTES_MAX, "{}", story());
    let options = lists(b"connection");
    let has = |option: &[u8]| options.iter().any(|has| has == option);
    assert_eq!(
        asked.keeps_alive,
        !has(b"close") && (minor != b"0" || has(b"keep-alive")),
        "{}",
        story()
    );
    let expects = lists(b"expect").iter().any(|expectation| expectation == b"100-continue");
    assert_eq!(asked.expects_continue, minor != b"0" && expects, "{}", story());
}

/// One of the four forms of RFC 9112 section 3.2, and what it asks for.
fn check_target(target: &[u8], asked: &Asked, story: &impl Fn() -> String) {
    if asked.method == Method::Connect {
        return; // never served, and always the last
    }
    let rest = match target {
        [b'/', ..] => target,
        b"*" => {
            assert_eq!(asked.method, Method::Options, "{}", story());
            assert_eq!((&asked.path[..], &asked.query), (&b"*"[..], &None), "{}", story());
            return;
        }
        _ => {
            let lower = target.to_ascii_lowercase();
            let scheme = [&b"http://"[..], b"https://"]
                .into_iter()
                .find(|&scheme| lower.starts_with(scheme));
            let scheme = scheme.unwrap_or_else(|| panic!("no form: {}", story()));
            let rest = &target[scheme.len()..];
            let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
            assert!(
                is_authority(&rest[..end]) && !matches!(rest[..end], [] | [b':', ..]),
                "an authority: {}",
                story()
            );
            &rest[end..]
        }
    };
    let question = rest.iter().position(|&byte| byte == b'?');
    let path = &rest[..question.unwrap_or(rest.len())];
    assert_eq!(asked.path, if path.is_empty() { b"/" } else { path }, "{}", story());
    assert_eq!(asked.query.as_deref(), question.map(|at| &rest[at + 1..]), "{}", story());
}

/// RFC 3986 section 3.2, without the user. It may be empty.
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

/// Reads the answers as a strict client does, which knows what it has asked. Returns their status codes.
fn read_answers(mut output: &[u8], asked: &[Asked], input: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !output.is_empty() {
        let story = || format!("{} answers {}", input.escape_ascii(), output.escape_ascii());
        let end = output
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no end: {}", story()));
        let head =
            std::str::from_utf8(&output[..end]).unwrap_or_else(|_| panic!("no text: {}", story()));
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.0 "))
            .unwrap_or_else(|| panic!("{}", story()));
        let status: u16 = status[..3].parse().expect("a status has three digits");
        let fields: Vec<(&str, &str)> =
            lines.map(|line| line.split_once(": ").expect("a field has a name")).collect();
        let field = |wanted: &str| {
            let mut found = fields.iter().filter(|(name, _)| *name == wanted);
            let (_, value) = found.next().unwrap_or_else(|| panic!("no {wanted}: {}", story()));
            assert!(found.next().is_none(), "{wanted} twice: {}", story());
            *value
        };
        let length: usize = field("Content-Length").parse().expect("a length is a number");
        assert_eq!(field("Date").len(), 29);
        output = &output[end + 4..];
        let is_refused = !matches!(status, 200 | 404 | 405);
        let has_no_body = match asked.get(statuses.len()) {
            // A refusal is the last answer, so that either is in order; but not a part of it.
            _ if is_refused => output.is_empty(),
            asked => asked.expect("what is answered was asked").method == Method::Head,
        };
        let body = if has_no_body { 0 } else { length };
        assert!(body <= output.len(), "cut short: {}", story());
        output = &output[body..];
        let goes_on = match field("Connection") {
            "keep-alive" => true,
            "close" => false,
            other => panic!("{other}: {}", story()),
        };
        assert!(goes_on || output.is_empty(), "an answer after the last: {}", story());
        assert!(!(goes_on && is_refused), "who is not understood is not heard any further");
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

fuzz_target!(|input: &[u8]| {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let http = Http::new(Noted { site: Site::new(), asked: Rc::clone(&asked) });
    let mut rehearsal =
        TestConnection::new(Audited { http, asked: Rc::clone(&asked), body_left: 0 });
    rehearsal.peer_sends(input);
    rehearsal.peer_shuts_down();
    assert!(rehearsal.close_reason().is_some(), "it ends");
    let asked = asked.borrow();
    let statuses = read_answers(&rehearsal.take_received(), &asked, input);
    let answered = statuses.iter().filter(|status| matches!(status, 200 | 404 | 405)).count();
    // The body of the last may have been cut short: then it is refused after all.
    assert!(
        answered == asked.len() || answered + 1 == asked.len(),
        "{answered} of {} answered",
        asked.len()
    );
    assert!(statuses.len() <= answered + 1, "one refusal at most");
    assert!(statuses.len() >= asked.len(), "nobody is left without an answer");
});
