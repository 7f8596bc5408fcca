//! HTTP without sockets: requests in pieces of any size, and the responses to them.
//!
//! Nearly all rows go through [`check`]: the same bytes have the same result, however they are
//! split, whatever request precedes them, and whatever follows them. Rows cite the rule that they
//! show: 9110 is RFC 9110, 9112 is RFC 9112, and 1945 is RFC 1945.

mod request_line;
mod early_refusal;
mod fields;
mod bodies;
mod persistence;
mod timeouts;
mod responses;
mod responder;
mod streaming;
mod late;
mod ongoing;
mod access_log;
mod random;

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::http::content_type::ContentType;
use crate::http::limits::{HEAD_BYTES_MAX, REQUEST_LINE_BYTES_MAX};
use crate::http::response::Response;
use crate::http::site::{FRONT, Site};
use crate::limits::{INPUT_BYTES_MAX, Limits};
use crate::loop_state::LoopState;
use crate::protocol::context::ConnectionMeta;
use crate::protocol::effects::Effects;
use crate::protocol::ident::ConnectionId;
use crate::stream::readiness::Transport;
use crate::time::{KeptTime, Time};

fn head_timeout_ms() -> u64 {
    u64::try_from(Limits::default().head_timeout.as_millis()).unwrap()
}

fn body_timeout_ms() -> u64 {
    u64::try_from(Limits::default().body_timeout.as_millis()).unwrap()
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer sends its FIN between two requests. Until then the connection persisted.
    PeerCloses,
    /// The peer sends its FIN within a request, and gets an error response.
    CutShort,
    /// The server ends it, with this.
    ServerCloses(Next),
}

use End::{CutShort, PeerCloses, ServerCloses};

/// All output of a connection, and its end. Each date has been checked, and `*` replaces its 29
/// bytes.
#[derive(Debug, PartialEq, Eq)]
struct Transcript {
    output: String,
    end: End,
}

/// The protocol on a connection without a socket.
///
/// It offers input as the real [`Connection`](crate::stream::connection::Connection) does: again
/// while the protocol consumes, the rest once more when there is more, and nothing once the
/// protocol has ended the connection.
struct HttpConnection<R> {
    http: Http<R>,
    state: LoopState,
    effects: Effects,
    meta: ConnectionMeta,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The protocol takes no input for now.
    is_paused: bool,
    /// How the protocol has ended the connection, if it has.
    ended: Option<Next>,
}

impl<R: Responder> HttpConnection<R> {
    fn new(responder: R) -> HttpConnection<R> {
        let mut state = LoopState::new(Limits::default());
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 49152));
        let peer = state.peers.keep(peer.into());
        let meta = ConnectionMeta {
            timer: KeptTime::NEVER,
            peer,
            id: ConnectionId { slot: 0, generation: 0 },
        };
        HttpConnection {
            http: Http::new(responder),
            state,
            effects: Effects::default(),
            meta,
            input: Vec::new(),
            output: Vec::new(),
            is_paused: false,
            ended: None,
        }
    }

    fn receive(&mut self, piece: &[u8]) {
        if self.ended.is_some() {
            return;
        }
        self.input.extend_from_slice(piece);
        let mut consumed = 0;
        while consumed < self.input.len() && !self.is_paused {
            let mut cx = context(&mut self.state, &mut self.effects, &mut self.meta);
            let step = self.http.advance(&self.input[consumed..], &mut cx);
            self.output.extend_from_slice(if cx.borrowed.is_empty() {
                &cx.state.output
            } else {
                cx.borrowed
            });
            cx.state.output.clear();
            consumed += step.consumed;
            assert!(consumed <= self.input.len(), "no more is consumed than was offered");
            self.apply_next(step.next);
            if self.ended.is_some() {
                return;
            }
            if step.consumed == 0 {
                assert!(
                    self.input.len() - consumed < INPUT_BYTES_MAX,
                    "the protocol rejects the request before its input is full"
                );
                break;
            }
        }
        self.input.drain(..consumed);
    }

    /// Applies `next`. The peer takes all output at once, so a paused protocol is called for more
    /// as long as it sends any.
    fn apply_next(&mut self, mut next: Next) {
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
        self.ended =
            matches!(next, Next::Close | Next::CloseWithoutLinger | Next::Abort).then_some(next);
    }

    /// Lets `ms` pass. A timer that is due by then expires.
    fn wait(&mut self, ms: u64) {
        self.state.clock.now = self.state.clock.now.plus_ms(ms);
        if self.meta.timer.get() <= self.state.clock.now && self.ended.is_none() {
            self.meta.timer = KeptTime::NEVER;
            let next = self.http.timer_expired(&mut context(
                &mut self.state,
                &mut self.effects,
                &mut self.meta,
            ));
            self.output.append(&mut self.state.output);
            self.apply_next(next);
            self.receive(b""); // input that was held during a pause
        }
    }

    /// The peer sends its FIN, which is the end of the test.
    fn peer_shuts_down(mut self) -> Transcript {
        let end = match self.ended {
            Some(next) => ServerCloses(next),
            None => {
                let next = self.http.eof(
                    &self.input,
                    &mut context(&mut self.state, &mut self.effects, &mut self.meta),
                );
                assert_eq!(next, Next::Close, "nothing is left to do after the peer's FIN");
                if self.state.output.is_empty() { PeerCloses } else { CutShort }
            }
        };
        self.output.append(&mut self.state.output);
        Transcript { output: without_dates(&self.output), end }
    }
}

fn context<'i>(
    state: &'i mut LoopState,
    effects: &'i mut Effects,
    meta: &'i mut ConnectionMeta,
) -> Context<'i> {
    Context { state, effects, borrowed: &[], meta, transport: &NoTransport }
}

/// HTTP is called without a connection here, so nothing is sent or received.
struct NoTransport;

impl Transport for NoTransport {
    fn receive(&self, _: &mut [u8]) -> std::io::Result<usize> {
        unreachable!("a protocol does no I/O")
    }

    fn send(&self, _: &[u8]) -> std::io::Result<usize> {
        unreachable!("a protocol does no I/O")
    }

    fn shutdown_write(&self) -> std::io::Result<()> {
        unreachable!("a protocol does no I/O")
    }
}

/// Checks that each date is an IMF-fixdate (9110 5.6.7), and replaces it by `*`.
fn without_dates(output: &[u8]) -> String {
    let mut pieces = std::str::from_utf8(output).unwrap().split("\r\nDate: ");
    let mut undated = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (date, rest) = piece.split_at(29);
        let time = httpdate::parse_http_date(date).unwrap();
        assert_eq!(httpdate::fmt_http_date(time), date, "an IMF-fixdate");
        undated = undated + "\r\nDate: *" + rest;
    }
    undated
}

/// The transcript of a connection to the program's site that receives `pieces`, and then a FIN.
fn run<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Transcript {
    let mut connection = HttpConnection::new(Site::default());
    pieces.into_iter().for_each(|piece| connection.receive(piece));
    connection.peer_shuts_down()
}

/// A request that is valid before and after any other.
const PLAIN: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";

/// Checks that `input` gets `responses` and leads to `end`: whole, byte by byte, and cut in two
/// anywhere; alone, and after another request. A request after it is served if the connection
/// persists, and ignored if it does not.
#[track_caller]
fn check(rule: &str, input: impl AsRef<[u8]>, responses: &[String], end: End) {
    check_after(&[b"", PLAIN], rule, input, responses, end);
}

/// The same after each of `preceding`, which are empty or `PLAIN`.
#[track_caller]
fn check_after(
    preceding: &[&[u8]],
    rule: &str,
    input: impl AsRef<[u8]>,
    responses: &[String],
    end: End,
) {
    let input = input.as_ref();
    for &before in preceding {
        let response_before = if before.is_empty() { String::new() } else { plain(KEEP) };
        let input = [before, input].concat();
        let describe =
            |how: &str| format!("{rule}: {}… {how}", input[..input.len().min(300)].escape_ascii());
        let expected = Transcript { output: response_before + &responses.concat(), end };
        assert_eq!(run([&input[..]]), expected, "{}", describe("whole"));
        assert_eq!(run(input.chunks(1)), expected, "{}", describe("byte by byte"));
        for cut in cuts(before.len(), input.len()) {
            assert_eq!(
                run([&input[..cut], &input[cut..]]),
                expected,
                "{}",
                describe(&format!("cut at {cut}"))
            );
        }
        if end != CutShort {
            let response_after = if end == PeerCloses { plain(KEEP) } else { String::new() };
            let expected = Transcript { output: expected.output + &response_after, end };
            let input = [&input, PLAIN].concat();
            assert_eq!(run([&input[..]]), expected, "{}", describe("whole, and another request"));
            assert_eq!(
                run(input.chunks(1)),
                expected,
                "{}",
                describe("byte by byte, and another request")
            );
        }
    }
}

/// Where to cut an input of `length` bytes whose request begins at `start`: everywhere, or in a
/// long one near its ends, near the limits of a head, and here and there.
fn cuts(start: usize, length: usize) -> impl Iterator<Item = usize> {
    let boundaries = [start, start + REQUEST_LINE_BYTES_MAX, start + HEAD_BYTES_MAX, length];
    let is_relevant = move |cut: usize| {
        cut.is_multiple_of(length / 20)
            || boundaries.iter().any(|boundary| boundary.abs_diff(cut) <= 12)
    };
    (1..length).filter(move |&cut| length <= 1000 || is_relevant(cut))
}

/// Checks that a request is served with the plain text, and that the connection persists.
#[track_caller]
fn check_served(rule: &str, input: impl AsRef<[u8]>) {
    check(rule, input, &[plain(KEEP)], PeerCloses);
}

/// Checks that a request is rejected with `status`, and that nothing after it is parsed.
#[track_caller]
fn check_rejected(rule: &str, input: impl AsRef<[u8]>, status: &str) {
    check(rule, input, &[error(status, CLOSE)], ServerCloses(Next::Close));
}

const KEEP: &str = "keep-alive";
const CLOSE: &str = "close";

/// A response with these parts, as [`without_dates`] leaves it.
fn response(
    status: &str,
    content_type: &str,
    fields: &str,
    connection: &str,
    body: &str,
) -> String {
    let length = body.len();
    let head = format!(
        "HTTP/1.0 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{fields}"
    );
    head + &format!("Date: *\r\nConnection: {connection}\r\n\r\n{body}")
}

fn page(connection: &str) -> String {
    response("200 OK", "text/html; charset=utf-8", "", connection, FRONT)
}

fn plain(connection: &str) -> String {
    response("200 OK", "text/plain", "", connection, "Hello, World!")
}

fn error(status: &str, connection: &str) -> String {
    response(status, "text/plain", "", connection, &format!("{status}\n"))
}

fn not_allowed(connection: &str) -> String {
    response(
        "405 Method Not Allowed",
        "text/plain",
        "Allow: GET, HEAD\r\n",
        connection,
        "405 Method Not Allowed\n",
    )
}

/// The response to HEAD instead of GET.
fn without_body(response: &str) -> String {
    response[..response.find("\r\n\r\n").unwrap() + 4].to_owned()
}

/// A request for the plain text with `fields`, each of which includes its line end.
fn get(fields: &str) -> String {
    format!("GET /plaintext HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// A request with `line` as its request line, and otherwise valid.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
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

/// A body that is read in pieces of these lengths, over and over. A length of 0 is a `WouldBlock`.
struct PiecewiseBody {
    bytes: io::Cursor<Vec<u8>>,
    pieces: std::iter::Cycle<std::vec::IntoIter<usize>>,
}

impl Read for PiecewiseBody {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.pieces.next().unwrap().min(into.len()) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            room => self.bytes.read(&mut into[..room]),
        }
    }
}

/// Responds with a streamed body of `bytes` in such pieces, and a Content-Length of `length`.
struct StreamingResponder {
    bytes: Vec<u8>,
    pieces: Vec<usize>,
    length: u64,
}

impl Responder for StreamingResponder {
    fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
        let bytes = io::Cursor::new(self.bytes.clone());
        Response::streamed(
            Status::OK,
            ContentType::ASCII,
            self.length,
            PiecewiseBody { bytes, pieces: self.pieces.clone().into_iter().cycle() },
        )
    }
}

/// `length` bytes of text.
fn text(length: usize) -> String {
    "0123456789abcdefghijklmnopqrstuvwxyz\n".chars().cycle().take(length).collect()
}
