//! HTTP without sockets: what goes in, in pieces of any size, and what comes out.
//!
//! [`check`] is where all rows pass: a conversation has one outcome, however its bytes arrive, whatever was answered before
//! it, and whatever follows it. Rows cite the rule they stand for: 9110 and 9112 are RFC 9110 and RFC 9112, 1945 is RFC 1945.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Once;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::clock::Time;
use crate::http::access_log::ACCESS_LOG;
use crate::http::response::Page;
use crate::http::site::{FRONT, Site};
use crate::limits::{
    ACCESS_LINE_BYTES_MAX, BODY_READ_BYTES_MAX, BODY_READS_MAX, CONTENT_LENGTH_DIGITS_MAX,
    EMPTY_LINES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, INPUT_BYTES_MAX, Limits, REQUEST_LINE_BYTES_MAX,
};
use crate::loop_state::LoopState;
use crate::protocol::context::ConnectionMeta;
use crate::protocol::effects::Effects;
use crate::protocol::ident::ConnectionId;

fn head_timeout_ms() -> u64 {
    Limits::default().head_timeout_ms
}

fn body_timeout_ms() -> u64 {
    Limits::default().body_timeout_ms
}

/// How a conversation came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer left, and owed nothing: until then the connection persisted.
    Disconnected,
    /// The peer left in the middle of a request, and was told so.
    CutShort,
    /// We ended it, with this.
    Ours(Next),
}

use End::{CutShort, Disconnected, Ours};

/// A whole conversation. The 29 bytes of each date have been checked, and stand here as `*`.
#[derive(Debug, PartialEq, Eq)]
struct Talk {
    output: String,
    end: End,
}

/// A connection without a socket. It offers the protocol what has arrived as a [`Connection`](crate::connection) does:
/// step by step while it consumes, what is left again when there is more, and nothing after its last word.
struct Peer<R> {
    http: Http<R>,
    state: LoopState,
    effects: Effects,
    meta: ConnectionMeta,
    input: Vec<u8>,
    output: Vec<u8>,
    /// It takes no input for now.
    is_paused: bool,
    last_word: Option<Next>,
}

impl<R: Responder> Peer<R> {
    fn new(responder: R) -> Peer<R> {
        let state = LoopState::new(Limits::default());
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 49152)).into();
        let meta = ConnectionMeta {
            timer: Time::NEVER,
            peer,
            id: ConnectionId { slot: 0, generation: 0 },
        };
        Peer {
            http: Http::new(responder),
            state,
            effects: Effects::default(),
            meta,
            input: Vec::new(),
            output: Vec::new(),
            is_paused: false,
            last_word: None,
        }
    }

    fn receive(&mut self, piece: &[u8]) {
        if self.last_word.is_some() {
            return;
        }
        self.input.extend_from_slice(piece);
        let mut heard = 0;
        while heard < self.input.len() && !self.is_paused {
            let mut cx = context(&mut self.state, &mut self.effects, &mut self.meta);
            let step = self.http.advance(&self.input[heard..], &mut cx);
            self.output.extend_from_slice(if cx.borrowed.is_empty() {
                &cx.state.output
            } else {
                cx.borrowed
            });
            cx.state.output.clear();
            heard += step.consumed;
            assert!(heard <= self.input.len(), "it consumes no more than it was offered");
            self.follow(step.next);
            if self.last_word.is_some() {
                return;
            }
            if step.consumed == 0 {
                assert!(
                    self.input.len() - heard < INPUT_BYTES_MAX,
                    "it refuses before the connection has to"
                );
                break;
            }
        }
        self.input.drain(..heard);
    }

    /// A connection whose peer takes all at once asks for more as long as there is any.
    fn follow(&mut self, mut next: Next) {
        let mut output_before = 0;
        while next == Next::Pause && self.output.len() > output_before {
            output_before = self.output.len();
            next = self.http.output_low(&mut context(
                &mut self.state,
                &mut self.effects,
                &mut self.meta,
            ));
            self.output.append(&mut self.state.output);
        }
        self.is_paused = next == Next::Pause;
        self.last_word =
            matches!(next, Next::Close | Next::CloseWithoutLinger | Next::Abort).then_some(next);
    }

    /// Lets `ms` pass, and rings the alarm if it is due by then.
    fn wait(&mut self, ms: u64) {
        self.state.clock.now = self.state.clock.now.plus_ms(ms);
        if self.meta.timer <= self.state.clock.now && self.last_word.is_none() {
            self.meta.timer = Time::NEVER;
            let next = self.http.timer_expired(&mut context(
                &mut self.state,
                &mut self.effects,
                &mut self.meta,
            ));
            self.output.append(&mut self.state.output);
            self.follow(next);
            self.receive(b""); // what was held meanwhile
        }
    }

    fn leave(mut self) -> Talk {
        let end = match self.last_word {
            Some(next) => Ours(next),
            None => {
                let next = self.http.eof(
                    &self.input,
                    &mut context(&mut self.state, &mut self.effects, &mut self.meta),
                );
                assert_eq!(
                    next,
                    Next::Close,
                    "after the peer's FIN there is nothing to go on with"
                );
                if self.state.output.is_empty() { Disconnected } else { CutShort }
            }
        };
        self.output.append(&mut self.state.output);
        Talk { output: without_dates(&self.output), end }
    }
}

fn context<'i>(
    state: &'i mut LoopState,
    effects: &'i mut Effects,
    meta: &'i mut ConnectionMeta,
) -> Context<'i> {
    Context { state, effects, borrowed: &[], meta }
}

/// Checks that each date is one (9110 5.6.7: IMF-fixdate), and puts `*` in its place.
fn without_dates(output: &[u8]) -> String {
    let mut pieces = std::str::from_utf8(output).unwrap().split("\r\nDate: ");
    let mut undated = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (date, rest) = piece.split_at(29);
        let moment = httpdate::parse_http_date(date).unwrap();
        assert_eq!(httpdate::fmt_http_date(moment), date, "a date in the form of our choice");
        undated = undated + "\r\nDate: *" + rest;
    }
    undated
}

fn converse<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Talk {
    let mut peer = Peer::new(Site::default());
    pieces.into_iter().for_each(|piece| peer.receive(piece));
    peer.leave()
}

/// A request that can stand before and after any other.
const PLAIN: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";

/// Holds the conversation about `input` against `answers` and `end`: whole, byte by byte, and cut in two anywhere; alone,
/// and behind another request. Another request after it is answered if the connection persists, and else is not.
#[track_caller]
fn check(rule: &str, input: impl AsRef<[u8]>, answers: &[String], end: End) {
    check_behind(&[b"", PLAIN], rule, input, answers, end);
}

/// The same, where what comes before it is nothing, or is `PLAIN`.
#[track_caller]
fn check_behind(
    befores: &[&[u8]],
    rule: &str,
    input: impl AsRef<[u8]>,
    answers: &[String],
    end: End,
) {
    let input = input.as_ref();
    for &before in befores {
        let answer_before = if before.is_empty() { String::new() } else { plain(KEEP) };
        let input = [before, input].concat();
        let story =
            |way: &str| format!("{rule}: {}… {way}", input[..input.len().min(300)].escape_ascii());
        let expected = Talk { output: answer_before + &answers.concat(), end };
        assert_eq!(converse([&input[..]]), expected, "{}", story("whole"));
        assert_eq!(converse(input.chunks(1)), expected, "{}", story("byte by byte"));
        for cut in cuts(before.len(), input.len()) {
            assert_eq!(
                converse([&input[..cut], &input[cut..]]),
                expected,
                "{}",
                story(&format!("cut at {cut}"))
            );
        }
        if end != CutShort {
            let answer_after = if end == Disconnected { plain(KEEP) } else { String::new() };
            let expected = Talk { output: expected.output + &answer_after, end };
            let input = [&input, PLAIN].concat();
            assert_eq!(
                converse([&input[..]]),
                expected,
                "{}",
                story("whole, and another after it")
            );
            assert_eq!(
                converse(input.chunks(1)),
                expected,
                "{}",
                story("byte by byte, and another after it")
            );
        }
    }
}

/// Where an input of `length` bytes is cut in two, of which the request begins at `start`: everywhere, or if it is too long
/// for that, near its ends, near what we measure heads by, and here and there.
fn cuts(start: usize, length: usize) -> impl Iterator<Item = usize> {
    let places = [start, start + REQUEST_LINE_BYTES_MAX, start + HEAD_BYTES_MAX, length];
    let is_telling = move |cut: usize| {
        cut.is_multiple_of(length / 20) || places.iter().any(|place| place.abs_diff(cut) <= 12)
    };
    (1..length).filter(move |&cut| length <= 1000 || is_telling(cut))
}

/// A request that is served: the connection persists.
#[track_caller]
fn check_served(rule: &str, input: impl AsRef<[u8]>) {
    check(rule, input, &[plain(KEEP)], Disconnected);
}

/// A request that is refused, and the last that is heard.
#[track_caller]
fn check_refused(rule: &str, input: impl AsRef<[u8]>, status: &str) {
    check(rule, input, &[error(status, CLOSE)], Ours(Next::Close));
}

const KEEP: &str = "keep-alive";
const CLOSE: &str = "close";

fn answer(status: &str, content_type: &str, fields: &str, connection: &str, body: &str) -> String {
    let length = body.len();
    let head = format!(
        "HTTP/1.0 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{fields}"
    );
    head + &format!("Date: *\r\nConnection: {connection}\r\n\r\n{body}")
}

fn page(connection: &str) -> String {
    answer("200 OK", "text/html; charset=utf-8", "", connection, FRONT)
}

fn plain(connection: &str) -> String {
    answer("200 OK", "text/plain", "", connection, "Hello, World!")
}

fn error(status: &str, connection: &str) -> String {
    answer(status, "text/plain", "", connection, &format!("{status}\n"))
}

fn not_allowed(connection: &str) -> String {
    answer(
        "405 Method Not Allowed",
        "text/plain",
        "Allow: GET, HEAD\r\n",
        connection,
        "405 Method Not Allowed\n",
    )
}

/// The same answer as HEAD gets it.
fn without_body(answer: &str) -> String {
    answer[..answer.find("\r\n\r\n").unwrap() + 4].to_owned()
}

/// A request for the plain text with `fields`, each with its line end.
fn get(fields: &str) -> String {
    format!("GET /plaintext HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A request which only its `line` could be wrong with.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

#[test]
fn an_answer_has_exactly_these_bytes() {
    // The one place where nothing is computed: status line, fields in order, empty line, body.
    let page = "HTTP/1.0 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 134\r\nDate: *\r\n\
        Connection: keep-alive\r\n\r\n<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>reactor</title>\
        </head>\n<body>\n<p>Hello world!</p>\n</body>\n</html>\n";
    let plain = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\nDate: *\r\nConnection: close\r\n\r\n\
        Hello, World!";
    let missing = "HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 14\r\nDate: *\r\n\
        Connection: keep-alive\r\n\r\n404 Not Found\n";
    check("the page", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[page.into()], Disconnected);
    check(
        "the plain text",
        "GET /plaintext HTTP/1.0\r\n\r\n",
        &[plain.into()],
        Ours(Next::CloseWithoutLinger),
    );
    check("a 404", "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", &[missing.into()], Disconnected);
}

#[test]
fn head_gets_the_fields_of_get_and_no_body() {
    // 9110 9.3.2. Each row is the answer to GET, which HEAD gets without its body.
    for (target, answer) in
        [("/", page(KEEP)), ("/plaintext", plain(KEEP)), ("/nowhere", error("404 Not Found", KEEP))]
    {
        check(
            "GET",
            line(&format!("GET {target} HTTP/1.1")),
            std::slice::from_ref(&answer),
            Disconnected,
        );
        check(
            "HEAD",
            line(&format!("HEAD {target} HTTP/1.1")),
            &[without_body(&answer)],
            Disconnected,
        );
    }
    check(
        "1945 8.2",
        "HEAD / HTTP/1.0\r\n\r\n",
        &[without_body(&page(CLOSE))],
        Ours(Next::CloseWithoutLinger),
    );
}

#[test]
fn a_refused_head_gets_no_body_either() {
    // 9110 9.3.2: what is answered to HEAD ends with the head, also where the request is found wanting after its method.
    for (request, status) in [
        ("HEAD / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 Bad Request"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "400 Bad Request"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n", "413 Content Too Large"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "501 Not Implemented"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nName : value\r\n\r\n", "400 Bad Request"),
        ("HEAD * HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
        ("HEAD / HTTP/2.0\r\nHost: a\r\n\r\n", "505 HTTP Version Not Supported"),
    ] {
        check("9110 9.3.2", request, &[without_body(&error(status, CLOSE))], Ours(Next::Close));
    }
    let mut peer = Peer::new(Site::new());
    peer.receive(b"\r");
    peer.wait(head_timeout_ms());
    assert!(
        peer.leave().output.starts_with("HTTP/1.0 408 "),
        "the first half of an empty line is a first byte too"
    );
    for part in ["HEAD ", "HEAD / HTTP/1.1\r\nHos"] {
        let mut peer = Peer::new(Site::new());
        peer.receive(part.as_bytes());
        peer.wait(head_timeout_ms());
        let talk = peer.leave();
        assert!(
            talk.output.starts_with("HTTP/1.0 408 ") && talk.output.ends_with("\r\n\r\n"),
            "{part:?}: {}",
            talk.output
        );
    }
    let with_body = line("HEAD / HTTP/1.1\r\nContent-Length: 5") + "hell";
    check(
        "9110 9.3.2: cut short",
        &with_body,
        &[without_body(&error("400 Bad Request", CLOSE))],
        CutShort,
    );
    let mut peer = Peer::new(Site::default());
    peer.receive(with_body.as_bytes());
    peer.wait(body_timeout_ms());
    let expected = without_body(&error("408 Request Timeout", CLOSE));
    assert_eq!(peer.leave(), Talk { output: expected, end: Ours(Next::Close) });
}

#[test]
fn a_connection_persists_as_its_client_says() {
    // 9112 9.3, 9110 7.6.1: options are whole words in any case, in lists and on several lines, and `close` wins.
    for (version, fields, persists) in [
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "connection: Keep-ALIVE\r\n", true),
        ("1.0", "Connection: foo, keep-alive\r\n", true),
        ("1.0", "Connection: foo\r\nConnection: keep-alive\r\n", true),
        ("1.0", "Connection:\tfoo\t,\tkeep-alive\t\r\n", true),
        ("1.0", "Connection: ,,keep-alive,\r\n", true),
        ("1.0", "Connection: keep-alivex\r\n", false),
        ("1.0", "Connection: xkeep-alive\r\n", false),
        ("1.0", "Connection: keep alive\r\n", false),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Connection: close\r\nConnection: keep-alive\r\n", false),
        ("1.0", "Keep-Alive: timeout=5\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
        ("1.1", "", true),
        ("1.1", "Connection:\r\n", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", true),
        ("1.1", "Connection: xclose\r\n", true),
        ("1.1", "Connection: closex\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "CONNECTION: CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive,close\r\n", false),
        ("1.1", "Connection: close, keep-alive\r\n", false),
        ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", false),
        ("1.1", "Connection: foo\r\nConnection: bar , Close\r\n", false),
    ] {
        let request = format!("GET /plaintext HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        let (connection, end) =
            if persists { (KEEP, Disconnected) } else { (CLOSE, Ours(Next::CloseWithoutLinger)) };
        check("9112 9.3", request, &[plain(connection)], end);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_until_one_closes() {
    // 9112 9.3.2 and 9.6. Neighbours differ in their answers, so that none can stand for another.
    let (mut requests, mut answers) = (String::new(), Vec::new());
    for index in 0..16 {
        let (target, answer) =
            if index % 3 == 0 { ("/", page(KEEP)) } else { ("/plaintext", plain(KEEP)) };
        requests += &line(&format!("GET {target} HTTP/1.1"));
        answers.push(answer);
    }
    check("sixteen", requests, &answers, Disconnected);
    let closing = line("GET / HTTP/1.1\r\nConnection: close");
    let three = get("") + &closing + &get("");
    check(
        "a, b that closes, c",
        three,
        &[plain(KEEP), page(CLOSE)],
        Ours(Next::CloseWithoutLinger),
    );
    let old = get("") + "GET / HTTP/1.0\r\n\r\n" + &get("");
    check("a, b of 1.0, c", old, &[plain(KEEP), page(CLOSE)], Ours(Next::CloseWithoutLinger));
    let invalid = get("") + "GET / HTTP/1.1\r\n\r\n";
    check(
        "a, b that is invalid",
        invalid,
        &[plain(KEEP), error("400 Bad Request", CLOSE)],
        Ours(Next::Close),
    );
    let cut = get("") + "GET / HT";
    check("a, b that is cut short", cut, &[plain(KEEP), error("400 Bad Request", CLOSE)], CutShort);
}

#[test]
fn a_body_is_skipped_whatever_the_answer() {
    // 9112 9.3 and 6.3: what follows the body is the next request, exactly. The body looks like one itself.
    let body = "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";
    let fields = format!("Host: a\r\nContent-Length: {}\r\n", body.len());
    for (start, answer) in [
        ("POST /", not_allowed(KEEP)),
        ("PUT /nowhere", not_allowed(KEEP)),
        ("DELETE /", not_allowed(KEEP)),
        ("GET /plaintext", plain(KEEP)),
        ("GET /nowhere", error("404 Not Found", KEEP)),
        ("HEAD /plaintext", without_body(&plain(KEEP))),
    ] {
        let request = format!("{start} HTTP/1.1\r\n{fields}\r\n{body}");
        check("9112 6.3", &request, std::slice::from_ref(&answer), Disconnected);
        check("9112 6.3", request + &get(""), &[answer, plain(KEEP)], Disconnected);
    }
    let closing = format!("POST / HTTP/1.1\r\n{fields}Connection: close\r\n\r\n{body}");
    check("9112 9.6", closing, &[not_allowed(CLOSE)], Ours(Next::CloseWithoutLinger));
    let old = format!("POST / HTTP/1.0\r\n{fields}\r\n{body}");
    check("1945 8.3", old, &[not_allowed(CLOSE)], Ours(Next::CloseWithoutLinger));
    check("9112 6.3: none", line("POST / HTTP/1.1"), &[not_allowed(KEEP)], Disconnected);
    check(
        "9112 6.3: empty",
        line("POST / HTTP/1.1\r\nContent-Length: 0"),
        &[not_allowed(KEEP)],
        Disconnected,
    );
    check_refused("1945 7.2.2: where does it end?", "POST / HTTP/1.0\r\n\r\n", "400 Bad Request");
    check_refused("1945 7.2.2: where does it end?", "PUT / HTTP/1.0\r\n\r\n", "400 Bad Request");
}

#[test]
fn the_largest_body_is_skipped_and_a_larger_one_refused_at_its_head() {
    // A megabyte is fed to the row that may have one. The other is refused before any of it comes.
    let head = |length: u64| line(&format!("POST / HTTP/1.1\r\nContent-Length: {length}"));
    let body = "x".repeat(usize::try_from(BODY_BYTES_MAX).unwrap());
    check("the largest", head(BODY_BYTES_MAX) + &body, &[not_allowed(KEEP)], Disconnected);
    check_refused("one byte more", head(BODY_BYTES_MAX + 1), "413 Content Too Large");
    check_refused("as far as numbers go", head(u64::MAX), "413 Content Too Large");
}

#[test]
fn a_content_length_is_one_plain_number() {
    // 9110 8.6 and 9112 6.3: 1*DIGIT, once. The body of the valid rows is `hello`. No length needs more than 20 digits; what has
    // more is a number to one reader and too long to another, zeros in front or not.
    let with_zeros = |digits: usize| format!("{:0>digits$}", 5);
    for value in ["5", "05", &with_zeros(CONTENT_LENGTH_DIGITS_MAX), "\t5\t", "  5  "] {
        check(
            "9110 8.6",
            get(&format!("Content-Length:{value}\r\n")) + "hello",
            &[plain(KEEP)],
            Disconnected,
        );
    }
    let many_zeros = [with_zeros(CONTENT_LENGTH_DIGITS_MAX + 1), with_zeros(300)];
    let too_large = [
        "18446744073709551616",
        "18446744073709551619",
        "99999999999999999999999999",
        &many_zeros[0],
        &many_zeros[1],
    ];
    let no_numbers = "+5 -5 -0 5, ,5 5,5 0x5 5h 5.0 5e0 five \"5\" 5; ٥"
        .split(' ')
        .chain(["", "5, 5", "5, 6", "5 5"]);
    for value in no_numbers.chain(too_large) {
        check_refused(
            "9112 6.3",
            get(&format!("Content-Length: {value}\r\n")) + "hello",
            "400 Bad Request",
        );
    }
    for second in ["5", "6"] {
        let twice = format!("Content-Length: 5\r\nX: y\r\ncontent-length: {second}\r\n");
        check_refused("9112 6.3: twice", get(&twice) + "hello", "400 Bad Request");
    }
}

#[test]
fn any_transfer_coding_is_refused_and_nothing_after_it_is_parsed() {
    // 9112 6.1 and 6.3. What follows would be the body to one reader and a request to another.
    let body = "0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for fields in [
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: CHUNKED\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\tchunked\r\n",
        "Transfer-Encoding:\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        for start in [
            "POST / HTTP/1.1",
            "POST / HTTP/1.0",
            "GET / HTTP/1.1",
            "GET / HTTP/1.0\r\nConnection: keep-alive",
        ] {
            check_refused(
                "9112 6.1",
                format!("{start}\r\nHost: a\r\n{fields}\r\n{body}"),
                "501 Not Implemented",
            );
        }
    }
}

#[test]
fn a_line_that_can_be_read_in_two_ways_is_refused() {
    // Each row is a part of a head that would be in order without it.
    for (rule, lines) in [
        ("9112 5.1: space before the colon", "Name : value\r\n"),
        ("9112 5.1: tab before the colon", "Content-Length\t: 5\r\n"),
        ("9112 5.2: a folded line", "Name: value\r\n more\r\n"),
        ("9112 5.2: folded with a tab", "Name: value\r\n\tmore\r\n"),
        ("9112 5.2: folded to nothing", "Name: value\r\n \r\n"),
        ("9112 2.2: LF alone ends a line", "Name: value\n"),
        ("9112 2.2: LF alone ends a line without a value", "Name:\n"),
        ("9112 2.2: LF alone ends a line of white space", "Name: \t\n"),
        ("9112 2.2: LF alone ends a line, later a whole one", "Name: value\nOther: value\r\n"),
        ("9112 2.2: CR alone in a value", "Name: val\rue\r\n"),
        ("9112 2.2: CR alone ends a line", "Name: value\rOther: value\r\n"),
        ("9112 2.2: CR alone in a name", "Na\rme: value\r\n"),
        ("9112 2.2: CR twice", "Name: value\r\r\n"),
        ("9110 5.5: NUL in a value", "Name: val\0ue\r\n"),
        ("9110 5.5: another control in a value", "Name: val\x01ue\r\n"),
        ("9110 5.5: DEL in a value", "Name: val\x7fue\r\n"),
        ("9110 5.1: NUL in a name", "Na\0me: value\r\n"),
        ("9110 5.1: space in a name", "Na me: value\r\n"),
        ("9110 5.1: a name that is no token", "Na(me: value\r\n"),
        ("9110 5.1: a name beyond ASCII", "Näme: value\r\n"),
        ("9110 5.1: an empty name", ": value\r\n"),
        ("9112 5: no colon", "Name\r\n"),
        ("9112 5: no colon, and a space", "Name value\r\n"),
    ] {
        check_refused(rule, get(lines), "400 Bad Request");
    }
    for (rule, head) in [
        ("9112 2.2: white space after the request line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        ("9112 2.2: a tab after the request line", "GET / HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n"),
        ("9112 2.2: a line of white space there", "GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n"),
        ("9112 2.2: LF alone ends the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        ("9112 2.2: CR alone ends the request line", "GET / HTTP/1.1\rHost: a\r\n\r\n"),
        ("9112 2.2: LF alone ends the head", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        ("9112 2.2: LF alone ends all lines", "GET / HTTP/1.1\nHost: a\n\n"),
        ("9112 2.2: LF alone before the request line", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("9112 2.2: CR alone before the request line", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        check_refused(rule, head, "400 Bad Request");
    }
}

#[test]
fn what_is_unusual_and_legal_is_served() {
    for (rule, fields) in [
        ("9110 5.5: obs-text in a value", &b"Name: caf\xe9 \xff\x80\r\n"[..]),
        ("9112 5.1: OWS is space or tab", b"Name: \t value\t \r\n"),
        ("9112 5.1: no OWS", b"Name:value\r\n"),
        ("9110 5.5: tab within a value", b"Name: a\tb\r\n"),
        ("9110 5.5: an empty value", b"Name:\r\nOther: \t\r\n"),
        ("9110 5.1: every character of a token", b"!#$%&'*+-.^_`|~09azAZ: value\r\n"),
        (
            "9110 5.5: every visible character",
            b"Name: !\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~\r\n",
        ),
        (
            "1945 10.9: a condition on what has no date",
            b"If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        ),
        ("9110 13.1.2: or no tag", b"If-None-Match: \"a\"\r\n"),
        ("9110 14.2: a range", b"Range: bytes=0-3\r\n"),
        (
            "9110 7.8: an upgrade that is not on offer",
            b"Upgrade: websocket\r\nConnection: upgrade\r\n",
        ),
    ] {
        check_served(rule, [b"GET /plaintext HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n"].concat());
    }
}

#[test]
fn there_is_one_host_and_it_could_be_one() {
    // 9112 3.2, with the grammar of 3986 3.2.2.
    let host = |value: &str| format!("GET /plaintext HTTP/1.1\r\nHost: {value}\r\n\r\n");
    for value in "a a: a:80 :80 A.example:8080 under_score a-b.~c a!$&'()*+;=b %41%2F 127.0.0.1:80"
        .split(' ')
        .chain([""])
    {
        check_served("9112 3.2: valid", host(value));
    }
    for value in ["[::1]", "[::1]:80", "[::1]:", "[::ffff:192.0.2.1]:80", "[v1.a:b]"] {
        check_served("9112 3.2: valid", host(value));
    }
    check_served("9112 3.2: OWS", "GET /plaintext HTTP/1.1\r\nhost:\ta \t\r\n\r\n");
    for value in "a/b a?b a#b user@a a\"b a\\b <a> a^b a`b {a} a|b café http://a"
        .split(' ')
        .chain(["a b", "a, b", "a\tb"])
    {
        check_refused("9112 3.2: no host", host(value), "400 Bad Request");
    }
    check_refused("9112 3.2: none", "GET / HTTP/1.1\r\n\r\n", "400 Bad Request");
    check_refused(
        "9112 3.2: none, but an absolute target",
        "GET http://a/ HTTP/1.1\r\n\r\n",
        "400 Bad Request",
    );
    check(
        "9112 3.2: none, in 1.0",
        "GET / HTTP/1.0\r\n\r\n",
        &[page(CLOSE)],
        Ours(Next::CloseWithoutLinger),
    );
    for version in ["1.0", "1.1"] {
        let two = |first, second| {
            format!("GET / HTTP/{version}\r\nHost: {first}\r\nX: y\r\nhOST: {second}\r\n\r\n")
        };
        check_refused("9112 3.2: two", two("a", "b"), "400 Bad Request");
        check_refused("9112 3.2: twice the same", two("a", "a"), "400 Bad Request");
        check_refused("9112 3.2: twice nothing", two("", ""), "400 Bad Request");
        check_refused(
            "9112 3.2: no host",
            format!("GET / HTTP/{version}\r\nHost: a b\r\n\r\n"),
            "400 Bad Request",
        );
    }
}

#[test]
fn a_comma_may_be_part_of_a_host() {
    // 3986 3.2.2: reg-name has all sub-delims, and the comma is one.
    check_served("3986 3.2.2", "GET /plaintext HTTP/1.1\r\nHost: a,b\r\n\r\n");
}

#[test]
fn the_parts_of_a_host_stand_in_their_places() {
    // 3986 3.2.2: brackets only around an address of IPv6 or later, one port of digits only, and % before two hex digits.
    let names = "a:b a:8o a:+80 a:-1 a:80:80 a::80 ::1 a[b] a] % %4 %4g a%zz";
    let literals = "[::1 ::1] [] [a] [1.2.3.4] [::1]80 [::1]a [::1]:a [[::1]] [:::1] [::12345] [v.a] [v1.] [vx.a] [v1a]";
    for value in names.split(' ').chain(literals.split(' ')) {
        check_refused(
            "3986 3.2.2",
            format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n"),
            "400 Bad Request",
        );
    }
    for target in ["http://a:b/", "http://::1/", "http://[::1/", "http://:80/", "http://%zz/"] {
        check_refused("9110 4.2.1", line(&format!("GET {target} HTTP/1.1")), "400 Bad Request");
    }
}

#[test]
fn an_encoded_path_is_decoded_once() {
    // 1945 5.1.2 and 3986 6.2.2.2. What is not an encoding, or encodes one, names no page.
    for (target, answer) in [
        ("/%70laintext", plain(KEEP)),
        ("/plaintex%74?x", plain(KEEP)),
        ("/%70%6C%61%69%6e%74%65%78%74", plain(KEEP)),
        ("http://a/%70laintext", plain(KEEP)),
        (
            "/%65cho",
            answer(
                "405 Method Not Allowed",
                "text/plain",
                "Allow: POST\r\n",
                KEEP,
                "405 Method Not Allowed\n",
            ),
        ),
        ("/%2570laintext", error("404 Not Found", KEEP)),
        ("/%2Fplaintext", error("404 Not Found", KEEP)),
        ("/plaintext%3F", error("404 Not Found", KEEP)),
        ("/plaintext%00", error("404 Not Found", KEEP)),
        ("/%+7laintext", error("404 Not Found", KEEP)),
        ("/plaintext%", error("404 Not Found", KEEP)),
        ("/plaintext%7", error("404 Not Found", KEEP)),
        ("/plaintext%zz", error("404 Not Found", KEEP)),
        ("/%FF", error("404 Not Found", KEEP)),
    ] {
        check("1945 5.1.2", line(&format!("GET {target} HTTP/1.1")), &[answer], Disconnected);
    }
    let echoed = answer("200 OK", "application/octet-stream", "", KEEP, "hi");
    check(
        "1945 5.1.2",
        line("POST /ech%6f HTTP/1.1\r\nContent-Length: 2") + "hi",
        &[echoed],
        Disconnected,
    );
}

#[test]
fn an_absolute_target_overrides_the_host() {
    // 9112 3.2.2: the field is ignored then, be it empty or another's, as long as there is one that could be. It is not
    // ignored that it could be none: 9112 3.2.
    for host in ["", "a", "b:8080"] {
        check(
            "9112 3.2.2",
            format!("GET http://a/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            &[page(KEEP)],
            Disconnected,
        );
    }
    check_refused("9112 3.2", "GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n", "400 Bad Request");
    check(
        "9112 3.2: empty, without an authority",
        "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
        &[not_allowed(KEEP)],
        Disconnected,
    );
    check(
        "9112 3.2: 1.0 has no Host",
        "GET http://a/ HTTP/1.0\r\n\r\n",
        &[page(CLOSE)],
        Ours(Next::CloseWithoutLinger),
    );
}

#[test]
fn a_method_is_known_or_501_and_served_or_405() {
    // 9110 9.1, 15.5.6 and 15.6.2. Methods are whole words, in upper case.
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        check(
            "9110 15.5.6",
            line(&format!("{method} / HTTP/1.1")),
            &[not_allowed(KEEP)],
            Disconnected,
        );
    }
    check("9110 15.5.6", line("OPTIONS * HTTP/1.1"), &[not_allowed(KEEP)], Disconnected);
    for start in ["CONNECT a:80", "CONNECT [::1]:443"] {
        // 9110 9.3.6: what comes behind it is meant for a tunnel.
        check(
            "9110 15.5.6",
            line(&format!("{start} HTTP/1.1")),
            &[not_allowed(CLOSE)],
            Ours(Next::Close),
        );
        // Also to a client that has announced its end: what it sends then is for the tunnel, and must not turn into a reset.
        let closing = format!("{start} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        check("9112 9.6", closing, &[not_allowed(CLOSE)], Ours(Next::Close));
    }
    for method in [
        "get",
        "Get",
        "GETS",
        "GE",
        "HEADER",
        "FOO",
        "PRI",
        "G*T",
        "!#$%&'*+-.^_`|~",
        &"M".repeat(100),
    ] {
        check_refused("9110 15.6.2", line(&format!("{method} / HTTP/1.1")), "501 Not Implemented");
    }
    for method in ["", "G(T", "G\0T", "G\tT", "GÄT", "GET,", "\"GET\""] {
        check_refused(
            "9112 3.1: no token",
            line(&format!("{method} / HTTP/1.1")),
            "400 Bad Request",
        );
    }
}

#[test]
fn a_target_has_one_of_four_forms() {
    // 9112 3.2. The query does not choose the page, and neither does the authority.
    for (target, answer) in [
        ("/", page(KEEP)),
        ("/?", page(KEEP)),
        ("/?a=b&c=/plaintext?", page(KEEP)),
        ("/plaintext?x", plain(KEEP)),
        ("/plaintext/", error("404 Not Found", KEEP)),
        ("/Plaintext", error("404 Not Found", KEEP)),
        ("//", error("404 Not Found", KEEP)),
        ("/../plaintext", error("404 Not Found", KEEP)),
        ("/%2e%2e/etc/passwd", error("404 Not Found", KEEP)),
        ("/%00", error("404 Not Found", KEEP)),
        ("/%0d%0aX:%20y", error("404 Not Found", KEEP)),
        ("http://a", page(KEEP)),
        ("http://a/", page(KEEP)),
        ("http://a?x=/plaintext", page(KEEP)),
        ("http://a/plaintext?x", plain(KEEP)),
        ("HTTP://other.example:8080/plaintext", plain(KEEP)),
        ("https://[::1]:443/plaintext", plain(KEEP)),
        ("http://a/nowhere", error("404 Not Found", KEEP)),
    ] {
        check("9112 3.2", line(&format!("GET {target} HTTP/1.1")), &[answer], Disconnected);
    }
    for (rule, target) in [
        ("9112 3.2.4: for OPTIONS only", "*"),
        ("9112 3.2.3: for CONNECT only", "a:80"),
        ("9112 3.2.1: no slash", "plaintext"),
        ("9112 3.2.1: no slash", "?x"),
        ("9110 4.2: another scheme", "ftp://a/"),
        ("9110 4.2.1: no host", "http:///"),
        ("9110 4.2.1: no host", "http://"),
        ("9110 4.2.4: userinfo", "http://user@a/"),
        ("9112 3.2.2: no authority", "http:/plaintext"),
        ("9110 4.2.5: a fragment", "/#top"),
        ("9110 4.2.5: a fragment", "http://a/#top"),
        ("9112 3.2: a control octet", "/\x01"),
        ("9112 3.2: NUL", "/\0"),
        ("9112 3.2: DEL", "/\x7f"),
        ("9112 3.2: a tab", "/\t"),
        ("9112 3.2: LF", "/\n"),
        ("9112 3.2: CR", "/\r"),
        ("9112 3.2: beyond ASCII", "/ä"),
        ("9112 3.2: a control octet in the query", "/?a\x01"),
        ("9112 3.2: beyond ASCII in the query", "/?ä"),
        ("9110 4.2.5: a fragment after the query", "/?a#top"),
        ("9112 3.2: a space in the query", "/?a b"),
    ] {
        check_refused(rule, line(&format!("GET {target} HTTP/1.1")), "400 Bad Request");
    }
    check_refused("9112 3.2.4: no other OPTIONS", line("OPTIONS *x HTTP/1.1"), "400 Bad Request");
    for target in [
        "/",
        "*",
        "a",
        "a:",
        ":80",
        "http://a:80/",
        "a:80/",
        "a:80?x",
        "u@a:80",
        "[::1",
        "[::1]",
        "a b:80",
    ] {
        check_refused(
            "9112 3.2.3: nothing else for CONNECT",
            line(&format!("CONNECT {target} HTTP/1.1")),
            "400 Bad Request",
        );
    }
}

#[test]
fn a_request_line_has_two_single_spaces() {
    // 9112 3: white space in a target is not mended, and what separates is one space each.
    for target in ["/a b", "/ a", "/ HTTP/1.1", " /", "/ ", "  /", "\t/", "/\t", "", " ", "  "] {
        for version in ["HTTP/1.0", "HTTP/1.1", "HTTP/1.2"] {
            check_refused("9112 3", line(&format!("GET {target} {version}")), "400 Bad Request");
        }
    }
    for request in [
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET HTTP/1.1",
        "GET",
    ] {
        check_refused("9112 3", line(request), "400 Bad Request");
    }
}

#[test]
fn a_version_is_spoken_unsupported_or_none() {
    // 9110 2.5 and 15.6.6, 9112 2.3: `HTTP/` DIGIT `.` DIGIT. Any 1.x above is answered as 1.1.
    for version in ["HTTP/1.1", "HTTP/1.2", "HTTP/1.9"] {
        check("9110 2.5", line(&format!("GET / {version}")), &[page(KEEP)], Disconnected);
        check_refused("9112 3.2", format!("GET / {version}\r\n\r\n"), "400 Bad Request");
    }
    let minor_two =
        line("GET / HTTP/1.2") + &line("POST / HTTP/1.2\r\nContent-Length: 5") + "hello";
    check("9110 2.5: two of 1.2", minor_two, &[page(KEEP), not_allowed(KEEP)], Disconnected);
    for version in ["HTTP/2.0", "HTTP/2.1", "HTTP/0.9", "HTTP/3.0", "HTTP/9.9"] {
        check_refused(
            "9110 15.6.6",
            line(&format!("GET / {version}")),
            "505 HTTP Version Not Supported",
        );
    }
    let near_one = "http/1.1 Http/1.1 HTTP/1.10 HTTP/1.20 HTTP/11 HTTP/1 HTTP/1. HTTP/.1 HTTP/01.1 HTTP/1,1 HTTP/1.x HTTP/x.1";
    let near_others = "HTTP/2 HTTP/2. HTTP/2.00 HTTP/20 HTTP HTTP/ HTTPS/1.1 1.1 ICY \0";
    for version in near_one.split(' ').chain(near_others.split(' ')) {
        check_refused("9112 2.3", line(&format!("GET / {version}")), "400 Bad Request");
    }
    check_refused("9112 2.2: 505 or 400?", "GET / HTTP/2.0\n\n", "400 Bad Request");
}

#[test]
fn a_simple_request_gets_a_simple_answer() {
    // 1945 5 and 6: a body without a head, and then the end. Whatever follows the line is not read.
    for (request, answer) in [
        ("GET /\r\n", FRONT),
        ("GET /plaintext?a?b\r\n", "Hello, World!"),
        ("GET http://a/plaintext\r\n", "Hello, World!"),
        ("GET /nowhere\r\n", "404 Not Found\n"),
        ("GET /plaintext\r\nHost: a\r\n\r\n", "Hello, World!"),
        ("\r\nGET /plaintext\r\n", "Hello, World!"),
    ] {
        check_behind(&[b""], "1945 6", request, &[answer.to_owned()], Ours(Next::Close));
        // A client that has sent a request of HTTP/1 before takes no such answer. What it is served could be made to look like
        // another's, with a head of its own.
        check_behind(
            &[PLAIN],
            "9112 11.1",
            request,
            &[error("400 Bad Request", CLOSE)],
            Ours(Next::Close),
        );
    }
}

#[test]
fn what_is_not_quite_a_simple_request_is_refused_when_its_line_has_come() {
    // 1945 4.1 and 5: there is no other method in HTTP/0.9, and who sends a line without a version must not be left waiting.
    let near = [
        "GET /\n",
        "GET \r\n",
        "GET  /\r\n",
        "GET /#a\r\n",
        "GET /?#\r\n",
        "GET /\x01\r\n",
        "GET *\r\n",
        "GET a:80\r\n",
        "get /\r\n",
        "HEAD /\r\n",
    ];
    for request in near {
        let head_has_no_body = |answer: String| {
            if request.starts_with("HEAD") { without_body(&answer) } else { answer }
        };
        check(
            "1945 5",
            request,
            &[head_has_no_body(error("400 Bad Request", CLOSE))],
            Ours(Next::Close),
        );
    }
    for request in ["GET / \r\n", "POST /\r\n", "GET\r\n", "hello\r\n", "GET / HTTP/1\r\n"] {
        check_refused("1945 5", request, "400 Bad Request");
    }
}

#[test]
fn empty_lines_before_a_request_are_ignored() {
    // 9112 2.2. So one after the last request begins no other, and owes nobody an answer.
    for lines in ["\r\n", "\r\n\r\n", "\r\n\r\n\r\n\r\n"] {
        check_served("9112 2.2", lines.to_owned() + &get(""));
    }
    let many = "\r\n".repeat(usize::from(EMPTY_LINES_MAX) + 1);
    check("9112 2.2", many + &get(""), &[error("400 Bad Request", CLOSE)], Ours(Next::Close));
    let between = line("POST / HTTP/1.1\r\nContent-Length: 5") + "hello\r\n" + &get("");
    check("9112 2.2", between, &[not_allowed(KEEP), plain(KEEP)], Disconnected);
}

#[test]
fn an_empty_line_after_the_last_request_is_not_half_a_request() {
    // 9112 2.2: some clients end a body with a line end that is not counted. It is neither answered nor timed.
    for lines in ["\r\n", "\r\n\r\n"] {
        check("9112 2.2", lines, &[], Disconnected);
        check("9112 2.2", get("") + lines, &[plain(KEEP)], Disconnected);
    }
    for pieces in [&[&b"\r\n"[..]][..], &[b"\r", b"\n"], &[b"\r\n\r", b"\n"]] {
        let mut peer = Peer::new(Site::default());
        peer.receive(PLAIN);
        pieces.iter().for_each(|piece| peer.receive(piece));
        peer.wait(head_timeout_ms());
        peer.receive(PLAIN);
        assert_eq!(peer.leave(), Talk { output: plain(KEEP) + &plain(KEEP), end: Disconnected });
    }
}

/// A request for the plain text whose request line, with its line end, has `bytes` bytes.
fn long_line(bytes: usize) -> String {
    let around = "GET /plaintext? HTTP/1.1\r\n".len();
    line(&format!("GET /plaintext?{} HTTP/1.1", "q".repeat(bytes - around)))
}

/// A request for the plain text whose head has `bytes` bytes.
fn long_head(bytes: usize) -> String {
    let around = get("Name: \r\n").len();
    get(&format!("Name: {}\r\n", "v".repeat(bytes - around)))
}

#[test]
fn a_long_request_line_is_served_and_a_longer_one_is_414() {
    // 9112 3 asks for 8,000 at least, and 414 beyond. Empty lines before it are no part of it.
    check_served("9112 3", long_line(8000 + "\r\n".len()));
    check_refused(
        "without an end",
        "GET /".to_owned() + &"a".repeat(INPUT_BYTES_MAX),
        "414 URI Too Long",
    );
    for before in ["", "\r\n", "\r\n\r\n"] {
        check_served("the longest", before.to_owned() + &long_line(REQUEST_LINE_BYTES_MAX));
        check_refused(
            "one byte more",
            before.to_owned() + &long_line(REQUEST_LINE_BYTES_MAX + 1),
            "414 URI Too Long",
        );
        check_refused(
            "twice that",
            before.to_owned() + &long_line(2 * REQUEST_LINE_BYTES_MAX),
            "414 URI Too Long",
        );
    }
}

#[test]
fn a_line_too_long_is_414_whatever_else_is_wrong_with_it() {
    // It is refused before its end, when the rest of it is not known yet.
    let long = "a".repeat(REQUEST_LINE_BYTES_MAX);
    for request in [
        line(&format!("GET /{long} HTTP/2.0")),
        line(&format!("GET /{long} HTTP/1.1\r\nName")),
        line(&format!("GET /{long}\x01 HTTP/1.1")),
        line(&format!("GET /\x01{long} HTTP/1.1")),
        line(&format!("GET {long}")),
        line(&format!("\0{long}")),
        long,
    ] {
        check_refused("9112 3", "\r\n".to_owned() + &request, "414 URI Too Long");
        check_refused("9112 3", request, "414 URI Too Long");
    }
}

#[test]
fn a_long_head_is_served_and_a_longer_one_is_431() {
    // 9110 5.4, 6585 5: counted in bytes and in fields.
    let fields = |count| get(&"Name: value\r\n".repeat(count - 1)); // and Host
    check_served("the longest", long_head(HEAD_BYTES_MAX));
    check_refused(
        "one byte more",
        long_head(HEAD_BYTES_MAX + 1),
        "431 Request Header Fields Too Large",
    );
    check_refused(
        "without an end",
        long_head(INPUT_BYTES_MAX).trim_end(),
        "431 Request Header Fields Too Large",
    );
    let endless = long_head(2 * HEAD_BYTES_MAX);
    check(
        "it could still end",
        &endless[..HEAD_BYTES_MAX],
        &[error("400 Bad Request", CLOSE)],
        CutShort,
    );
    check_refused(
        "it cannot end any more",
        &endless[..=HEAD_BYTES_MAX],
        "431 Request Header Fields Too Large",
    );
    check_served("as many fields as there may be", fields(HEADERS_MAX));
    check_refused("one field more", fields(HEADERS_MAX + 1), "431 Request Header Fields Too Large");
    check_refused("many more", fields(1000), "431 Request Header Fields Too Large");
}

#[test]
fn who_waits_for_leave_to_send_a_body_gets_a_last_answer_instead() {
    // 9110 10.1.1. After it one cannot know whether the body comes, so nothing after it is read.
    let head =
        |version: &str, fields: &str| format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
    for expect in [
        "Expect: 100-continue\r\n",
        "expect:100-Continue\r\n",
        "Expect: foo\r\nExpect: 100-continue\r\n",
    ] {
        let waits = head("1.1", &format!("Content-Length: 5\r\n{expect}"));
        check("9110 10.1.1", &waits, &[not_allowed(CLOSE)], Ours(Next::Close));
        check(
            "9110 10.1.1: sent all the same",
            waits + "hello",
            &[not_allowed(CLOSE)],
            Ours(Next::Close),
        );
        let closes = head("1.1", &format!("Content-Length: 5\r\nConnection: close\r\n{expect}"));
        check("9110 10.1.1: and closes", closes, &[not_allowed(CLOSE)], Ours(Next::Close));
        let too_large = head("1.1", &format!("Content-Length: 1048577\r\n{expect}"));
        check_refused("9110 10.1.1: and too large", too_large, "413 Content Too Large");
        let empty = head("1.1", &format!("Content-Length: 0\r\n{expect}"));
        check("9110 10.1.1: no body, no doubt", empty, &[not_allowed(KEEP)], Disconnected);
        let old = head("1.0", &format!("Content-Length: 5\r\nConnection: keep-alive\r\n{expect}"))
            + "hello";
        check("9110 10.1.1: ignored in 1.0", old, &[not_allowed(KEEP)], Disconnected);
    }
    let other = head("1.1", "Content-Length: 5\r\nExpect: 100-continuex\r\n") + "hello";
    check("9110 10.1.1: another expectation", other, &[not_allowed(KEEP)], Disconnected);
}

#[test]
fn an_expectation_may_stand_in_a_list() {
    // 9110 10.1.1: Expect = #expectation.
    for expect in ["foo, 100-continue", "100-continue,foo", ",100-Continue"] {
        let waits =
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: {expect}\r\n\r\n");
        check("9110 10.1.1", waits, &[not_allowed(CLOSE)], Ours(Next::Close));
    }
}

#[test]
fn a_request_that_is_cut_short_gets_400_and_is_not_served() {
    // 9112 8 and 6.3. Nothing at all is no request.
    check("nothing", "", &[], Disconnected);
    let whole = get("");
    for length in 1..whole.len() {
        check("9112 8", &whole[..length], &[error("400 Bad Request", CLOSE)], CutShort);
    }
    let head = line("POST / HTTP/1.1\r\nContent-Length: 5");
    for body in ["", "h", "hell"] {
        check(
            "9112 8: in the body",
            head.clone() + body,
            &[error("400 Bad Request", CLOSE)],
            CutShort,
        );
    }
}

#[test]
fn a_refusal_does_not_wait_for_more_to_be_the_same() {
    // Each row is refused by what has come, although the head has not ended, and then the peer leaves.
    let many_fields = "a: b\r\n".repeat(HEADERS_MAX + 1);
    for (start, status) in [
        ("GET / HTTP/2.0\r\n", "505 HTTP Version Not Supported"),
        ("GET / HTTP/2.0\r\nHost: a\r\n", "505 HTTP Version Not Supported"),
        (&format!("GET / HTTP/1.1\r\n{many_fields}"), "431 Request Header Fields Too Large"),
        (&format!("GET / HTTP/1.2\r\n{many_fields}"), "431 Request Header Fields Too Large"),
        ("GET / HTTP/1.1\r\nName : value\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\n folded\r\n", "400 Bad Request"),
    ] {
        for cut in 1..start.len() {
            let whole = converse([start.as_bytes()]);
            assert_eq!(whole.output, error(status, CLOSE), "{start:?} whole");
            let pieces = converse([&start.as_bytes()[..cut], &start.as_bytes()[cut..]]);
            assert_eq!(pieces.output, error(status, CLOSE), "{start:?} cut at {cut}");
        }
    }
}

#[test]
fn a_head_has_one_deadline_however_it_drips() {
    // 9112 9.5. Byte by byte and line by line, each well within the deadline: together they exceed it.
    let pieces = [
        "G",
        "ET / HTTP/1.1",
        "\r\n",
        "Host:",
        " a\r\n",
        "Name",
        ": value\r",
        "\nOther:",
        "value",
        "\r\n",
    ];
    let mut peer = Peer::new(Site::default());
    assert_eq!(peer.meta.timer, Time::NEVER, "before its first byte a request has no deadline");
    for piece in pieces {
        assert_eq!(peer.last_word, None);
        peer.receive(piece.as_bytes());
        peer.wait(head_timeout_ms() / 10);
    }
    assert_eq!(
        peer.leave(),
        Talk { output: error("408 Request Timeout", CLOSE), end: Ours(Next::Close) }
    );
}

#[test]
fn empty_lines_that_drip_have_an_end_too() {
    // 9112 9.5 and 2.2. Each begins the time anew, or who sends one behind a body would be taken for somebody with half a head. But
    // there are few of them; and half a line begins it as any other byte does.
    let mut peer = Peer::new(Site::default());
    for _ in 0..EMPTY_LINES_MAX {
        peer.receive(b"\r");
        peer.wait(head_timeout_ms() - 1);
        peer.receive(b"\n");
        peer.wait(head_timeout_ms() + 1); // nothing is begun: this is for the idle deadline to end
        assert_eq!(peer.last_word, None);
    }
    peer.receive(b"\r");
    peer.wait(head_timeout_ms());
    assert_eq!(
        peer.leave(),
        Talk { output: error("408 Request Timeout", CLOSE), end: Ours(Next::Close) }
    );
}

#[test]
fn a_body_has_a_deadline_of_its_own() {
    // The head takes most of its time, and the body all of its own. The answer to the whole request is then 408.
    let mut peer = Peer::new(Site::default());
    let head = line("POST / HTTP/1.1\r\nContent-Length: 9");
    peer.receive(&head.as_bytes()[..10]);
    peer.wait(head_timeout_ms() - 1);
    peer.receive(&head.as_bytes()[10..]);
    peer.receive(b"body");
    peer.wait(body_timeout_ms() - 1);
    assert_eq!(peer.last_word, None);
    peer.receive(b"body");
    peer.wait(1);
    assert_eq!(
        peer.leave(),
        Talk { output: error("408 Request Timeout", CLOSE), end: Ours(Next::Close) }
    );
}

#[test]
fn an_answered_request_leaves_no_deadline_behind() {
    // In pieces, so that deadlines are set; the next request then starts with a deadline of its own.
    let mut peer = Peer::new(Site::default());
    for request in
        [get(""), line("POST / HTTP/1.1\r\nContent-Length: 5") + "hello", line("GET / HTTP/1.2")]
    {
        for byte in request.as_bytes().chunks(1) {
            peer.receive(byte);
            peer.wait(1);
        }
        assert_eq!(peer.meta.timer, Time::NEVER, "{request:?}");
        peer.wait(head_timeout_ms() + body_timeout_ms());
    }
    assert_eq!(
        peer.leave(),
        Talk { output: plain(KEEP) + &not_allowed(KEEP) + &page(KEEP), end: Disconnected }
    );
}

#[test]
fn a_reactor_that_stops_makes_the_next_answer_the_last() {
    // 9112 9.5 and 9.6: it says so, and does not hear what follows.
    let mut peer = Peer::new(Site::default());
    peer.receive(get("").as_bytes());
    peer.state.stopping = true;
    peer.receive(&[PLAIN, PLAIN].concat());
    assert_eq!(peer.leave(), Talk { output: plain(KEEP) + &plain(CLOSE), end: Ours(Next::Close) });
}

/// Says what it was asked, in a few words.
struct Mirror;

impl Responder for Mirror {
    fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
        let seen = request.header("X-SEEN").map(|value| value.escape_ascii().to_string());
        let (method, path, body_bytes) =
            (request.method(), request.path().escape_ascii(), request.body_bytes());
        let query = request.query().map(|query| query.escape_ascii().to_string());
        let manners = (request.keeps_alive(), request.expects_continue());
        Response::ok(
            "text/plain",
            format!("{method:?} {path} {query:?} {seen:?} {body_bytes} {manners:?}").into_bytes(),
        )
    }
}

#[test]
fn a_responder_sees_what_was_asked() {
    // 1945 3.1: whatever the version.
    for (request, seen) in [
        (
            "GET /a/b?c?d HTTP/1.1\r\nHost: a\r\n\r\n",
            r#"Get /a/b Some("c?d") None 0 (true, false)"#,
        ),
        (
            "GET / HTTP/1.0\r\nx-Seen: \t one \r\nX-Seen: two\r\n\r\n",
            r#"Get / None Some("one") 0 (false, false)"#,
        ),
        (
            "DELETE http://a?b HTTP/1.2\r\nHost: a\r\nX-Seen:\r\n\r\n",
            r#"Delete / Some("b") Some("") 0 (true, false)"#,
        ),
        (
            "PATCH /%2F HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            "Patch /%2F None None 2 (true, false)",
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
            "Put / None None 2 (true, true)",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "Options * None None 0 (false, false)",
        ),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "Connect a:80 None None 0 (true, false)"),
    ] {
        let mut peer = Peer::new(Mirror);
        peer.receive(request.as_bytes());
        let output = peer.leave().output;
        assert_eq!(output.split("\r\n\r\n").nth(1), Some(seen), "{request:?}");
    }
}

#[test]
fn the_host_that_is_asked_is_the_one_in_the_target_if_it_has_one() {
    // 9112 3.2.2: whatever the field says then. 9112 3.2.3: CONNECT names it alone.
    struct Hosts;
    impl Responder for Hosts {
        fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
            let named = |host: Option<&[u8]>| host.map(|host| host.escape_ascii().to_string());
            let forwarded: Vec<_> =
                request.header_values("x-forwarded-for").map(|value| named(Some(value))).collect();
            let seen = format!(
                "{:?} {:?} {forwarded:?}",
                named(request.host()),
                named(request.header("Host"))
            );
            Response::ok("text/plain", seen.into_bytes())
        }
    }
    for (request, seen) in [
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", r#"Some("a") Some("b") []"#),
        ("GET http://a:80?x HTTP/1.1\r\nHost:\r\n\r\n", r#"Some("a:80") Some("") []"#),
        ("GET http://a/ HTTP/1.0\r\n\r\n", r#"Some("a") None []"#),
        ("GET / HTTP/1.1\r\nHost: b:8080\r\n\r\n", r#"Some("b:8080") Some("b:8080") []"#),
        ("GET / HTTP/1.0\r\n\r\n", "None None []"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: b\r\n\r\n", r#"Some("a:443") Some("b") []"#),
        // 9110 5.3: several fields of one name are one list.
        (
            "GET / HTTP/1.0\r\nX-Forwarded-For: c, d\r\nX-Other: 1\r\nx-forwarded-for: e\r\n\r\n",
            r#"None None [Some("c, d"), Some("e")]"#,
        ),
    ] {
        let mut peer = Peer::new(Hosts);
        peer.receive(request.as_bytes());
        let output = peer.leave().output;
        assert_eq!(output.split("\r\n\r\n").nth(1), Some(seen), "{request:?}");
    }
    let mut peer = Peer::new(Hosts);
    peer.receive(b"GET http://a/\r\n");
    assert_eq!(peer.leave().output, "None None []", "1945 5: a simple request has a path alone");
}

#[test]
fn nobody_is_asked_to_answer_a_request_before_all_of_it_is_there() {
    // 9112 8: a request whose body is cut short is not served, so that who acts on one does not act on half of one. Nor does
    // an answer that waits for a body hold anything of its own.
    struct Asked(Rc<Cell<u32>>);
    impl Responder for Asked {
        fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
            self.0.set(self.0.get() + 1);
            Response::ok(
                "text/plain",
                format!("{:?} {}", request.method(), request.path().escape_ascii()).into_bytes(),
            )
        }
    }
    let request = b"DELETE /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let asked = Rc::new(Cell::new(0));
    let mut peer = Peer::new(Asked(asked.clone()));
    peer.receive(&request[..request.len() - 1]);
    assert_eq!((asked.get(), peer.leave().end), (0, CutShort));

    let mut peer = Peer::new(Asked(asked.clone()));
    peer.receive(&request[..request.len() - 1]);
    peer.wait(body_timeout_ms());
    assert_eq!((asked.get(), peer.leave().end), (0, Ours(Next::Close)));

    let mut peer = Peer::new(Asked(asked.clone()));
    request.iter().for_each(|&byte| peer.receive(&[byte]));
    assert_eq!(peer.leave().output, answer("200 OK", "text/plain", "", KEEP, "Delete /x"));
    assert_eq!(asked.get(), 1);
}

#[test]
fn a_responder_cannot_break_the_frame() {
    // 9110 5.5. A field that frames the message, or that would end its line, makes the answer a 500, whatever comes behind it.
    // Others stand between ours.
    struct Careless(&'static str, &'static str);
    impl Responder for Careless {
        fn respond(&mut self, _: &Request<'_>) -> Response<'_> {
            Response::ok("text/plain", Vec::new())
                .with_header(self.0, self.1)
                .with_header("X-Fine", "a\tb, \"c\"")
        }
    }
    let answer_of = |name, value| {
        let mut peer = Peer::new(Careless(name, value));
        peer.receive(PLAIN);
        peer.leave()
    };
    for value in ["a\r\nX: y", "a\n", "a\r", "a\0", "a\x7f"] {
        let expected = answer(
            "500 Internal Server Error",
            "text/plain",
            "X-Fine: a\tb, \"c\"\r\n",
            KEEP,
            "500 Internal Server Error\n",
        );
        assert_eq!(
            answer_of("X-Split", value),
            Talk { output: expected, end: Disconnected },
            "{value:?}"
        );
    }
    let ours = ["content-LENGTH", "Transfer-Encoding", "Connection", "Date", "Content-Type"];
    for name in ours.into_iter().chain(["", "Na me", "X-Split: a\r\nX", "N\u{e4}me"]) {
        assert!(answer_of(name, "5").output.starts_with("HTTP/1.0 500 "), "{name:?}");
    }
    let expected = answer("200 OK", "text/plain", "X-Good: 1\r\nX-Fine: a\tb, \"c\"\r\n", KEEP, "");
    assert_eq!(answer_of("X-Good", "1"), Talk { output: expected, end: Disconnected });
}

#[test]
fn a_responder_cannot_break_the_frame_with_a_type_either() {
    // 9110 5.5. Not in an answer, nor in one that is streamed, nor in a page.
    struct Typed(&'static str, usize, Page);
    impl Responder for Typed {
        fn respond(&mut self, _: &Request<'_>) -> Response<'_> {
            match self.1 {
                0 => Response::ok(self.0, &b"abc"[..]),
                1 => Response::streamed(Status::Ok, self.0, 3, &b"abc"[..]),
                _ => {
                    self.2 = Page::new(self.0, &b"abc"[..]);
                    self.2.response()
                }
            }
        }
    }
    for kind in 0..3 {
        for content_type in ["text/plain\r\nX: y", "text/plain\n\nabc", "\0"] {
            let mut peer = Peer::new(Typed(content_type, kind, Page::new("", "".as_bytes())));
            peer.receive(PLAIN);
            assert_eq!(
                peer.leave(),
                Talk { output: error("500 Internal Server Error", KEEP), end: Disconnected },
                "{content_type:?}"
            );
        }
        let mut peer =
            Peer::new(Typed("text/plain; charset=\"utf-8\"", kind, Page::new("", "".as_bytes())));
        peer.receive(PLAIN);
        let expected = answer("200 OK", "text/plain; charset=\"utf-8\"", "", KEEP, "abc");
        assert_eq!(peer.leave(), Talk { output: expected, end: Disconnected });
    }
}

#[test]
fn an_answer_that_can_have_no_body_has_none_whatever_its_responder_says() {
    // 9112 6.3 and 9110 8.6: 204 and 304 end with their head, and have no field that frames a body.
    struct Wordy(Status, bool);
    impl Responder for Wordy {
        fn respond(&mut self, _: &Request<'_>) -> Response<'_> {
            match self.1 {
                true => Response::streamed(self.0, "text/plain", 8, &b"too much"[..]),
                false => Response::new(self.0, "text/plain", &b"too much"[..]),
            }
        }
    }
    for (status, is_streamed) in [Status::NoContent, Status::NotModified]
        .map(|status| [(status, false), (status, true)])
        .concat()
    {
        let mut peer = Peer::new(Wordy(status, is_streamed));
        peer.receive(&[PLAIN, PLAIN].concat());
        let answer =
            format!("HTTP/1.0 {}\r\nDate: *\r\nConnection: keep-alive\r\n\r\n", status.as_str());
        assert_eq!(peer.leave(), Talk { output: answer.repeat(2), end: Disconnected });
    }
}

#[test]
fn every_status_has_its_line_and_its_fields() {
    // 1945 6.1: `HTTP/1.0`, three digits and a reason, with a space between each; 9110 6.6.1: and a date; 9110 8.3 and 8.6: and the
    // type and length of a body where there is one.
    struct Says(Status);
    impl Responder for Says {
        fn respond(&mut self, _: &Request<'_>) -> Response<'_> {
            Response::error(self.0)
        }
    }
    use Status::*;
    #[rustfmt::skip]
    let all = [
        Ok, Created, Accepted, NoContent, MovedPermanently, Found, SeeOther, NotModified, TemporaryRedirect, PermanentRedirect,
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, RequestTimeout, Conflict, Gone, PreconditionFailed,
        ContentTooLarge, UriTooLong, UnsupportedMediaType, ExpectationFailed, UnprocessableContent, TooManyRequests,
        HeadersTooLarge, InternalServerError, NotImplemented, BadGateway, ServiceUnavailable, GatewayTimeout, VersionNotSupported,
    ];
    for status in all {
        let mut peer = Peer::new(Says(status));
        peer.receive(PLAIN);
        let output = peer.leave().output;
        let (line, fields) = output.split_once("\r\n").unwrap();
        let [version, code, reason] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("three parts: {line}")
        };
        assert_eq!(version, "HTTP/1.0");
        assert!(code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()), "{line}");
        assert!(
            reason.starts_with(|first: char| first.is_ascii_uppercase()) && !reason.ends_with(' '),
            "{line}"
        );
        assert_eq!(fields.matches("Date: *\r\n").count(), 1, "{line}");
        let body = format!("{code} {reason}\n");
        let framing = format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", body.len());
        let has_body = !["204", "304"].contains(&code);
        assert_eq!(
            fields.starts_with(&framing) && fields.ends_with(&format!("\r\n\r\n{body}")),
            has_body,
            "{output}"
        );
        assert_eq!(fields.contains("Content-"), has_body, "{output}");
    }
}

/// Gives its bytes in pieces of these lengths, over and over. A piece of 0: it has nothing for now.
struct Spring {
    bytes: io::Cursor<Vec<u8>>,
    pieces: std::iter::Cycle<std::vec::IntoIter<usize>>,
}

impl Read for Spring {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.pieces.next().unwrap().min(into.len()) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            room => self.bytes.read(&mut into[..room]),
        }
    }
}

/// Streams `bytes` in such pieces, and says that there are `length`.
struct Springs {
    bytes: Vec<u8>,
    pieces: Vec<usize>,
    length: u64,
}

impl Responder for Springs {
    fn respond(&mut self, _: &Request<'_>) -> Response<'_> {
        let bytes = io::Cursor::new(self.bytes.clone());
        Response::streamed(
            Status::Ok,
            "text/plain",
            self.length,
            Spring { bytes, pieces: self.pieces.clone().into_iter().cycle() },
        )
    }
}

fn text(length: usize) -> String {
    "0123456789abcdefghijklmnopqrstuvwxyz\n".chars().cycle().take(length).collect()
}

#[test]
fn a_streamed_body_is_complete_however_its_pieces_come() {
    // And the requests behind it are answered, in their order. The alarm rings whenever there is nothing for now.
    for length in
        [0, 1, 5, BODY_READ_BYTES_MAX - 1, BODY_READ_BYTES_MAX, BODY_READ_BYTES_MAX + 1, 300_000]
    {
        for pieces in
            [vec![usize::MAX], vec![70_000, 0, 9_000], vec![0, 0, 30_000], vec![100_000, 1]]
        {
            let body = text(length);
            let mut peer =
                Peer::new(Springs { bytes: body.clone().into(), pieces, length: length as u64 });
            peer.receive(&[PLAIN, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", PLAIN].concat());
            while peer.is_paused {
                peer.wait(BODY_RETRY_MS);
            }
            let full = answer("200 OK", "text/plain", "", KEEP, &body);
            let output = [full.clone(), without_body(&full), full].concat();
            assert_eq!(peer.leave(), Talk { output, end: Disconnected }, "{length} bytes");
        }
    }
}

#[test]
fn a_streamed_body_leaves_behind_the_body_of_its_request_and_may_be_the_last() {
    // A GET may have a body, too. It is skipped first.
    let mut peer =
        Peer::new(Springs { bytes: text(200_000).into(), pieces: vec![50_000], length: 200_000 });
    peer.receive(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    assert!(peer.output.is_empty(), "the request is not complete");
    peer.receive(b"loGET / HTTP/1.0\r\n\r\n");
    let body = text(200_000);
    let output = answer("200 OK", "text/plain", "", KEEP, &body)
        + &answer("200 OK", "text/plain", "", CLOSE, &body);
    assert_eq!(peer.leave(), Talk { output, end: Ours(Next::CloseWithoutLinger) });
}

#[test]
fn a_streamed_body_that_is_not_as_long_as_said_cannot_be_taken_for_the_whole() {
    // What is beyond the length is not sent. Where something is missing, the connection is reset.
    let mut peer = Peer::new(Springs { bytes: text(100).into(), pieces: vec![7], length: 90 });
    peer.receive(PLAIN);
    assert_eq!(
        peer.leave(),
        Talk { output: answer("200 OK", "text/plain", "", KEEP, &text(90)), end: Disconnected }
    );
    let mut peer = Peer::new(Springs { bytes: text(100).into(), pieces: vec![7], length: 101 });
    peer.receive(&[PLAIN, PLAIN].concat());
    let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 101\r\nDate: *\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(peer.leave(), Talk { output: head.to_owned() + &text(100), end: Ours(Next::Abort) });
}

#[test]
fn a_piece_is_made_of_a_bounded_number_of_reads() {
    // A body that comes by the byte would else hold up everybody for the 65,536 reads of a whole piece.
    let mut peer = Peer::new(Springs { bytes: text(1000).into(), pieces: vec![1], length: 1000 });
    let mut cx = context(&mut peer.state, &mut peer.effects, &mut peer.meta);
    let mut next = peer.http.advance(PLAIN, &mut cx).next;
    let (_, first) = split_head(&cx.state.output);
    assert_eq!(first, BODY_READS_MAX);
    let mut pieces = 1;
    while next == Next::Pause {
        next =
            peer.http.output_low(&mut context(&mut peer.state, &mut peer.effects, &mut peer.meta));
        pieces += 1;
    }
    assert_eq!(pieces, 1000usize.div_ceil(BODY_READS_MAX));
}

/// The lengths of the head and of what follows it.
fn split_head(output: &[u8]) -> (usize, usize) {
    let end =
        output.windows(4).position(|window| window == b"\r\n\r\n").expect("a head has an end") + 4;
    (end, output.len() - end)
}

#[test]
fn a_long_body_leaves_in_pieces_although_nobody_asked_for_that() {
    // So a peer that reads slowly costs the body once, and no application has to think about it. Borrowed or not, on
    // its own or behind others.
    struct Long(usize, Vec<u8>);
    impl Responder for Long {
        fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
            match request.path() {
                b"/borrowed" => Response::ok("text/plain", &self.1[..self.0]),
                _ => Response::ok("text/plain", self.1[..self.0].to_vec()),
            }
        }
    }
    for length in [BODY_READ_BYTES_MAX - 1, BODY_READ_BYTES_MAX, BODY_READ_BYTES_MAX + 1, 5_000_000]
    {
        let request = b"GET /borrowed HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut peer = Peer::new(Long(length, text(length).into()));
        let next = peer
            .http
            .advance(request, &mut context(&mut peer.state, &mut peer.effects, &mut peer.meta))
            .next;
        let (_, first) = split_head(&peer.state.output);
        assert_eq!(first, length.min(BODY_READ_BYTES_MAX));
        assert_eq!(next == Next::Pause, length > BODY_READ_BYTES_MAX);

        let mut peer = Peer::new(Long(length, text(length).into()));
        peer.receive(request);
        let output = answer("200 OK", "text/plain", "", KEEP, &text(length)).repeat(2);
        assert_eq!(peer.leave(), Talk { output, end: Disconnected });
    }
}

#[test]
fn a_simple_answer_may_be_streamed() {
    let mut peer =
        Peer::new(Springs { bytes: text(100_000).into(), pieces: vec![30_000], length: 100_000 });
    peer.receive(b"GET /\r\n");
    assert_eq!(peer.leave(), Talk { output: text(100_000), end: Ours(Next::Close) });
}

#[test]
fn what_is_posted_to_echo_comes_back() {
    // 1945 8.3. Up to the largest body, and behind it the connection goes on.
    let request = |method, length: usize| {
        format!("{method} /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
    };
    let echoed = |body: &str| answer("200 OK", "application/octet-stream", "", KEEP, body);
    for body in ["", "hello", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        check("1945 8.3", request("POST", body.len()) + body, &[echoed(body)], Disconnected);
    }
    let bytes_max = usize::try_from(BODY_BYTES_MAX).unwrap();
    let largest = text(bytes_max);
    let mut peer = Peer::new(Site::new());
    peer.receive(request("POST", largest.len()).as_bytes());
    largest.as_bytes().chunks(50_000).for_each(|piece| peer.receive(piece));
    peer.receive(PLAIN);
    assert_eq!(peer.leave(), Talk { output: echoed(&largest) + &plain(KEEP), end: Disconnected });
    check_refused("9110 15.5.14", request("POST", bytes_max + 1), "413 Content Too Large");
    let not_allowed = answer(
        "405 Method Not Allowed",
        "text/plain",
        "Allow: POST\r\n",
        KEEP,
        "405 Method Not Allowed\n",
    );
    check(
        "9110 15.5.6",
        request("PUT", 2) + "hi",
        std::slice::from_ref(&not_allowed),
        Disconnected,
    );
    check("9110 15.5.6", line("GET /echo HTTP/1.1"), &[not_allowed], Disconnected);
}

#[test]
fn a_body_that_is_wanted_is_asked_for_without_an_expectation() {
    // 9110 10.1.1: there is no interim answer in HTTP/1.0, so a final one says that the expectation cannot be met. A client of 1.0
    // has no expectations.
    let request = |version| {
        format!(
            "POST /echo HTTP/{version}\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    check_refused("9110 10.1.1", request("1.1"), "417 Expectation Failed");
    let echoed = answer("200 OK", "application/octet-stream", "", CLOSE, "hello");
    check("9110 10.1.1", request("1.0") + "hello", &[echoed], Ours(Next::CloseWithoutLinger));
}

#[test]
fn an_upload_that_is_cut_short_or_late_is_dropped() {
    // 9112 8: it is not answered as if it were whole.
    let half = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello";
    let mut peer = Peer::new(Site::new());
    peer.receive(half);
    assert_eq!(peer.leave(), Talk { output: error("400 Bad Request", CLOSE), end: CutShort });
    let mut peer = Peer::new(Site::new());
    peer.receive(half);
    peer.wait(body_timeout_ms());
    assert_eq!(
        peer.leave(),
        Talk { output: error("408 Request Timeout", CLOSE), end: Ours(Next::Close) }
    );
}

#[test]
fn an_upload_that_a_stop_has_overtaken_is_answered_for_the_last_time() {
    let mut peer = Peer::new(Site::new());
    peer.receive(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    peer.state.stopping = true;
    peer.receive(b"lo");
    let echoed = answer("200 OK", "application/octet-stream", "", CLOSE, "hello");
    assert_eq!(peer.leave(), Talk { output: echoed, end: Ours(Next::Close) });
}

#[test]
fn a_body_that_is_skipped_while_a_stop_comes_is_answered_for_the_last_time_too() {
    // 9112 9.6: it is the last, and so it says.
    let mut peer = Peer::new(Site::new());
    peer.receive((line("POST / HTTP/1.1\r\nContent-Length: 5") + "hel").as_bytes());
    peer.state.stopping = true;
    peer.receive(&[b"lo", PLAIN].concat());
    assert_eq!(peer.leave(), Talk { output: not_allowed(CLOSE), end: Ours(Next::Close) });
}

thread_local! {
    static LOOKED_AT_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// So many bytes of a head are gone through.
pub(in crate::http) fn look_at(bytes: usize) {
    LOOKED_AT_BYTES.set(LOOKED_AT_BYTES.get() + bytes);
}

#[test]
fn a_head_that_drips_costs_as_much_as_it_is_long() {
    // Eight bytes come at a time. What has been looked at is looked at again only for a line that has ended, or for the limit
    // that is reached in the end.
    let looked_at = |head: &str| {
        LOOKED_AT_BYTES.set(0);
        let mut peer = Peer::new(Site::default());
        head.as_bytes().chunks(8).for_each(|piece| peer.receive(piece));
        LOOKED_AT_BYTES.get()
    };
    for (kind, head, lines) in [
        ("one long value", long_head(HEAD_BYTES_MAX), 3),
        ("a long line", long_line(HEAD_BYTES_MAX / 2), 1),
        (
            "many fields",
            get(&format!("Name: {}\r\n", "v".repeat(HEAD_BYTES_MAX / 60)).repeat(55)),
            58,
        ),
    ] {
        let (looked_at, most) = (looked_at(&head), (lines + 2) * head.len());
        assert!(
            (8..=most).contains(&looked_at),
            "{kind}: {looked_at} bytes, and at most {most} are allowed"
        );
    }
}

/// Keeps, for each thread, the lines of the access log that it has caused.
struct Lines;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target() == ACCESS_LOG {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Has a conversation, and returns what of each line of the access log follows the moment, which is checked.
fn logged<R: Responder>(responder: R, story: impl FnOnce(&mut Peer<R>)) -> Vec<String> {
    static IS_SET: Once = Once::new();
    IS_SET.call_once(|| {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
    LINES.take();
    let mut peer = Peer::new(responder);
    story(&mut peer);
    if peer.last_word.is_none() {
        peer.http
            .eof(&peer.input, &mut context(&mut peer.state, &mut peer.effects, &mut peer.meta));
    }
    peer.http.closed(CloseReason::Finished);
    let date = *peer.state.clock.date();
    let of_line = |line: &String| {
        // `127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] `, of the date `Sun, 06 Nov 1994 08:49:37 GMT`.
        let (moment, rest) = line.split_once("] ").unwrap();
        let date = str::from_utf8(&date).unwrap();
        let (day, month, year) = (&date[5..7], &date[8..11], &date[12..16]);
        let expected = format!("127.0.0.1 - - [{day}/{month}/{year}:");
        assert!(moment.starts_with(&expected) && moment.ends_with(" +0000"), "{line} at {date}");
        assert_eq!(moment.len(), expected.len() + "08:49:37 +0000".len(), "{line}");
        rest.to_owned()
    };
    LINES.take().iter().map(of_line).collect()
}

#[test]
fn each_answer_is_a_line_in_the_access_log() {
    // The Common Log Format: the request line as it came, the status, and the bytes of the body, or `-` where there are none.
    let site = || Site::new().with_access_log(true);
    for (request, lines) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[r#""GET / HTTP/1.1" 200 134"#][..]),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &[r#""HEAD / HTTP/1.1" 200 -"#]),
        ("GET /?a=b HTTP/1.0\r\n\r\n", &[r#""GET /?a=b HTTP/1.0" 200 134"#]),
        ("GET /plaintext\r\n", &[r#""GET /plaintext" 200 13"#]),
        (
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            &[r#""POST /echo HTTP/1.1" 200 2"#],
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            &[r#""POST /echo HTTP/1.1" 200 -"#],
        ),
        ("\r\nFOO / HTTP/1.1\r\nHost: a\r\n\r\n", &[r#""FOO / HTTP/1.1" 501 20"#]),
        ("GET /a b\r\n", &[r#""GET /a b" 400 16"#]),
        ("GE", &[r#""GE" 400 16"#]),
        ("", &[]),
        (
            "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
            &[r#""GET /plaintext HTTP/1.1" 200 13"#, r#""GET /nowhere HTTP/1.1" 404 14"#],
        ),
    ] {
        assert_eq!(logged(site(), |peer| peer.receive(request.as_bytes())), lines, "{request:?}");
        assert_eq!(
            logged(Site::new(), |peer| peer.receive(request.as_bytes())),
            [""; 0],
            "not unless it is asked for"
        );
    }
    let late = |peer: &mut Peer<Site>| {
        peer.receive(b"GET /");
        peer.wait(head_timeout_ms());
    };
    assert_eq!(logged(site(), late), [r#""-" 408 20"#]);
}

#[test]
fn a_request_whose_body_does_not_come_is_one_line_in_the_access_log() {
    // Whether somebody takes the body or nobody does: what is logged is the answer that it got, and what it had asked.
    for start in ["POST /", "POST /echo"] {
        let cut_short = format!("{start} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell");
        let late = |peer: &mut Peer<Site>| {
            peer.receive(cut_short.as_bytes());
            peer.wait(body_timeout_ms());
        };
        let site = || Site::new().with_access_log(true);
        assert_eq!(logged(site(), late), [format!("\"{start} HTTP/1.1\" 408 20")]);
        assert_eq!(
            logged(site(), |peer| peer.receive(cut_short.as_bytes())),
            [format!("\"{start} HTTP/1.1\" 400 16")]
        );
    }
}

#[test]
fn a_peer_cannot_write_what_it_likes_into_the_access_log() {
    // What could end the line, close its quotes or move a cursor is escaped, and a long line is cut.
    let site = || Site::new().with_access_log(true);
    for (line, shown) in [
        (&b"GET /\"quoted\" HTTP/1.1"[..], r#""GET /\"quoted\" HTTP/1.1" 404 14"#),
        (b"GET /\\ HTTP/1.1", r#""GET /\\ HTTP/1.1" 404 14"#),
        (b"GET /it's\\'s HTTP/1.1", r#""GET /it's\\'s HTTP/1.1" 404 14"#),
        (b"GET /\x1b[2J HTTP/1.1", r#""GET /\x1b[2J HTTP/1.1" 400 16"#),
        (b"GET /\r200 HTTP/1.1", r#""GET /\r200 HTTP/1.1" 400 16"#),
        (b"GET /\xe4\0 HTTP/1.1", r#""GET /\xe4\x00 HTTP/1.1" 400 16"#),
    ] {
        let request = [line, b"\r\nHost: a\r\n\r\n"].concat();
        assert_eq!(logged(site(), |peer| peer.receive(&request)), [shown]);
    }
    for (bytes, end) in [(ACCESS_LINE_BYTES_MAX, ""), (ACCESS_LINE_BYTES_MAX + 1, "...")] {
        let around = "GET / HTTP/1.1".len();
        let line = format!("GET /{} HTTP/1.1", "a".repeat(bytes - around));
        let shown = format!("\"{}{end}\" 404 14", &line[..ACCESS_LINE_BYTES_MAX]);
        assert_eq!(
            logged(site(), |peer| peer.receive(format!("{line}\r\nHost: a\r\n\r\n").as_bytes())),
            [shown]
        );
    }
}

#[test]
fn a_streamed_answer_is_logged_when_it_is_over_with_the_bytes_that_it_gave() {
    struct Logged(Springs);
    impl Responder for Logged {
        fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
            self.0.respond(request)
        }
        fn logs_access(&self) -> bool {
            true
        }
    }
    let springs = |length, pieces: &[usize]| {
        Logged(Springs { bytes: text(100_000).into(), pieces: pieces.to_vec(), length })
    };
    let line = r#""GET /plaintext HTTP/1.1" 200"#;
    assert_eq!(
        logged(springs(100_000, &[7_000]), |peer| peer.receive(PLAIN)),
        [format!("{line} 100000")]
    );
    // It has less than it said.
    assert_eq!(
        logged(springs(100_001, &[7_000]), |peer| peer.receive(PLAIN)),
        [format!("{line} 100000")]
    );
    // The connection ends while it has nothing: no line before, and one then.
    let cut_off = |peer: &mut Peer<Logged>| {
        peer.receive(PLAIN);
        assert!(peer.is_paused && LINES.with_borrow(Vec::is_empty));
        peer.http.closed(CloseReason::PeerReset);
        peer.last_word = Some(Next::Abort);
        assert_eq!(LINES.with_borrow(Vec::len), 1);
        peer.http.state = State::NEXT;
    };
    assert_eq!(logged(springs(100_000, &[30_000, 0, 0]), cut_off), [format!("{line} 30000")]);
}

/// A valid request, with its body.
fn valid_request() -> impl Strategy<Value = Vec<u8>> {
    let methods = select(vec!["GET", "HEAD", "POST", "PUT", "OPTIONS", "PATCH"]);
    let targets =
        select(vec!["/", "/plaintext", "/nowhere", "/?a=b", "http://a/plaintext", "/%20"]);
    let versions = select(vec!["HTTP/1.0", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.7"]);
    let options = select(vec![
        "",
        "Connection: keep-alive\r\n",
        "Connection: foo, Keep-Alive\r\n",
        "Connection: close\r\n",
    ]);
    let before = select(vec!["", "", "", "\r\n"]);
    let body = prop::collection::vec(any::<u8>(), 0..40);
    (before, methods, targets, versions, options, body).prop_map(|(before, method, target, version, option, body)| {
        let length = body.len();
        let head = format!("{before}{method} {target} {version}\r\nHost: a\r\n{option}Content-Length: {length}\r\n\r\n");
        [head.as_bytes(), &body].concat()
    })
}

/// Bytes that often come near to a request.
fn any_input() -> impl Strategy<Value = Vec<u8>> {
    let words = "GET |HEAD |POST |foo |/|/plaintext|*|http://a|?| |\t|:|,|2|3|\r\n|\r\n|\r\n\r\n|\n|\r|\0|HTTP/|HTTP/1.|HTTP/2.0|\
        Host:|Host: a\r\n|Connection: close\r\n|Content-Length: |Transfer-Encoding: chunked\r\n|Expect: 100-continue\r\n|\
        GET / HTTP/1.1\r\nHost: a\r\n|GET / HTTP/1.2\r\nHost: a\r\n|GET / HTTP/2.0\r\n|GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let word = select(words.split('|').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
    let word = prop_oneof![20 => word, 1 => prop::collection::vec(any::<u8>(), 1..4)];
    prop::collection::vec(word, 0..14).prop_map(|words| words.concat())
}

/// `input` in the pieces between `cuts`.
fn cut_at(input: &[u8], cuts: &[Index]) -> Talk {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    cuts.sort_unstable();
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([input.len()]);
    converse(
        starts.zip(ends).map(|(start, end)| &input[start..end]).filter(|piece| !piece.is_empty()),
    )
}

proptest! {
    // A failing input is printed, shrunk; keeping its seed in a file would add nothing to that.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn many_requests_are_answered_as_each_alone(
        requests in prop::collection::vec(valid_request(), 1..=6),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        // Up to the first answer that closes, for after it there is no other.
        let mut expected = Talk { output: String::new(), end: Disconnected };
        for request in &requests {
            if expected.end == Disconnected {
                let alone = converse([&request[..]]);
                expected = Talk { output: expected.output + &alone.output, end: alone.end };
            }
        }
        let input = requests.concat();
        prop_assert_eq!(&converse([&input[..]]), &expected);
        prop_assert_eq!(&converse(input.chunks(1)), &expected);
        prop_assert_eq!(&cut_at(&input, &cuts), &expected);
    }

    #[test]
    fn any_bytes_have_one_answer_however_they_come(input in any_input(), cuts in prop::collection::vec(any::<Index>(), 0..6)) {
        // Whole, byte by byte and cut: no panic, and the same output. (In pieces it may come later, at the peer's FIN.)
        let whole = converse([&input[..]]).output;
        prop_assert_eq!(&converse(input.chunks(1)).output, &whole);
        prop_assert_eq!(&cut_at(&input, &cuts).output, &whole);
    }
}

#[test]
fn a_connection_gives_way_before_and_between_requests_and_not_in_one() {
    // Half a head, and half a body that is being skipped, are requests that have begun.
    let mut peer = Peer::new(Site::new());
    assert!(peer.http.is_evictable(), "nothing has been asked");
    for (piece, is_evictable) in [
        ("GET / HT", false),
        ("TP/1.1\r\nHost: a\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab", false),
        ("cd", true),
    ] {
        peer.receive(piece.as_bytes());
        assert_eq!(peer.http.is_evictable(), is_evictable, "{piece}");
    }
}
