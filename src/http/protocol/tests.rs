//! HTTP without sockets: what goes in, in pieces of any size, and what comes out.
//!
//! [`check`] is where all rows pass: a conversation has one outcome, however its bytes arrive, whatever was answered before
//! it, and whatever follows it. Rows cite the rule they stand for: 9110 and 9112 are RFC 9110 and RFC 9112, 1945 is RFC 1945.

mod request_line;
mod fields;
mod bodies;
mod persistence;
mod timeouts;
mod responses;
mod responder;
mod streaming;
mod access_log;
mod random;

use std::cell::Cell;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::clock::Time;
use crate::http::site::{FRONT, Site};
use crate::limits::{HEAD_BYTES_MAX, INPUT_BYTES_MAX, Limits, REQUEST_LINE_BYTES_MAX};
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

thread_local! {
    static LOOKED_AT_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// So many bytes of a head are gone through.
pub(in crate::http) fn count_scanned(bytes: usize) {
    LOOKED_AT_BYTES.set(LOOKED_AT_BYTES.get() + bytes);
}
