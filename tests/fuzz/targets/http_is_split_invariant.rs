//! HTTP's responses depend only on the bytes received, not on the pieces in which they arrive.
//!
//! Complete requests in a row are answered as each would be alone. The number of calls is in
//! proportion to the bytes.
//!
//! The first byte of an input chooses the pieces; the rest is what the peer sends.

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
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use mio_reactor::limits::READ_BYTES_MAX;
use mio_reactor::{Advance, CloseReason, Context, Http, Next, Protocol, TestConnection};

use http_limits::HEAD_BYTES_MAX;
use site::Site;

/// One call of `advance`.
#[derive(Clone, Copy)]
struct Step {
    offered: usize,
    advance: Advance,
}

/// HTTP, with each call of `advance` recorded.
struct Recorder {
    http: Http<Site>,
    steps: Rc<RefCell<Vec<Step>>>,
}

impl Protocol for Recorder {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let advance = self.http.advance(input, cx);
        self.steps.borrow_mut().push(Step { offered: input.len(), advance });
        advance
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.http.eof(rest, cx)
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.http.timer_expired(cx)
    }
}

struct Transcript {
    output: Vec<u8>,
    steps: Vec<Step>,
    /// Every request was answered, the connection stays open, and no empty line is the last.
    is_complete: bool,
}

impl Transcript {
    fn has_closed(&self) -> bool {
        self.steps.last().is_some_and(|step| step.advance.next != Next::Continue)
    }
}

/// Runs a connection whose peer sends `pieces` and then its FIN.
fn exchange<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Transcript {
    let steps = Rc::new(RefCell::new(Vec::new()));
    let mut connection =
        TestConnection::new(Recorder { http: Http::new(Site::new()), steps: Rc::clone(&steps) });
    let mut reads = 0;
    for piece in pieces {
        connection.peer_sends(piece);
        reads += piece.len().div_ceil(READ_BYTES_MAX);
    }
    let mut output = connection.take_received();
    connection.peer_shuts_down();
    let after_fin = connection.take_received();
    output.extend_from_slice(&after_fin);
    assert_eq!(
        connection.close_reason(),
        Some(CloseReason::Finished),
        "the connection closes gracefully, whatever it receives"
    );
    let steps = steps.take();
    check_work(&steps, reads);
    let has_closed = steps.last().is_some_and(|step| step.advance.next != Next::Continue);
    // Empty lines before a request are limited in number, and count across the place of a cut.
    let last_consumed = steps.iter().rev().find(|step| step.advance.consumed > 0);
    let ends_with_empty_line = last_consumed.is_some_and(|step| step.advance.consumed == 2);
    Transcript {
        output: without_dates(&output),
        steps,
        is_complete: !has_closed && after_fin.is_empty() && !ends_with_empty_line,
    }
}

/// Checks the work: a call of `advance` either consumes something or is the last for one read, and
/// then less than a head's most bytes are offered again. So there are at most as many calls as
/// bytes, and each looks at a bounded input.
fn check_work(steps: &[Step], reads: usize) {
    let incomplete = steps.iter().filter(|step| step.advance.consumed == 0);
    assert!(
        incomplete.clone().all(|step| step.offered <= HEAD_BYTES_MAX),
        "input that is too long for a head is rejected"
    );
    assert!(incomplete.count() <= reads, "there is one such call per read");
}

/// Returns `output` without its dates, which depend on the time.
fn without_dates(output: &[u8]) -> Vec<u8> {
    const DATE: &[u8] = b"\r\nDate: ";
    let mut undated = Vec::with_capacity(output.len());
    let mut rest = output;
    while let Some(at) = rest.windows(DATE.len()).position(|window| window == DATE) {
        let (before, date) = rest.split_at(at + DATE.len());
        undated.extend_from_slice(before);
        rest = &date["Sun, 06 Nov 1994 08:49:37 GMT".len()..];
    }
    undated.extend_from_slice(rest);
    undated
}

/// Cuts `input` into pieces whose sizes follow from `seed`, some long and some of a single byte.
fn cut(seed: u8, mut input: &[u8]) -> Vec<&[u8]> {
    let mut state = u64::from(seed) + 1;
    let mut pieces = Vec::new();
    while !input.is_empty() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let longest = 1 << (state >> 60);
        let size = 1 + usize::try_from(state >> 33).expect("31 bits") % longest;
        let (piece, rest) = input.split_at(size.min(input.len()));
        pieces.push(piece);
        input = rest;
    }
    pieces
}

fn assert_same(one: &[u8], other: &[u8], what: &str) {
    assert!(one == other, "{what}:\n{}\n{}", one.escape_ascii(), other.escape_ascii());
}

// pitfall: 71
fuzz_target!(|bytes: &[u8]| {
    let Some((&seed, input)) = bytes.split_first() else { return };
    let whole = exchange([input]);
    assert_same(&exchange(cut(seed, input)).output, &whole.output, "in pieces, and whole");
    if input.len() <= 1024 {
        assert_same(&exchange(input.chunks(1)).output, &whole.output, "byte by byte, and whole");
    }
    // Cut where one call has ended. If no request was incomplete there, the two parts are answered
    // like two connections.
    let ends = whole.steps.iter().scan(0, |end, step| {
        *end += step.advance.consumed;
        Some(*end)
    });
    let ends: Vec<usize> = ends.collect();
    if let Some(&end) = ends.get(usize::from(seed) % ends.len().max(1)) {
        let (first, second) = input.split_at(end);
        let first = exchange([first]);
        if first.is_complete {
            let second = exchange([second]);
            // A request of HTTP/0.9, whose response has no head, is valid only as the first.
            let is_simple = !second.output.is_empty() && !second.output.starts_with(b"HTTP/");
            if end == 0 || !is_simple {
                let both = [first.output, second.output].concat();
                assert_same(&both, &whole.output, "two parts, and whole");
            }
        } else if first.has_closed() {
            assert_same(&first.output, &whole.output, "closed, and what came after it");
        }
    }
    if whole.is_complete {
        let twice = exchange([&[input, input].concat()[..]]);
        assert_same(
            &twice.output,
            &[&whole.output[..], &whole.output].concat(),
            "twice, and once and once",
        );
    }
});
