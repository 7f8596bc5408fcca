//! An HTTP conversation is a function of its bytes, however they are cut; complete requests in a row are answered as each
//! would be alone; and the work is in proportion to the bytes.
//!
//! The first byte of an input says how it is cut, the rest is what the peer sends.

#![no_main]

#[path = "../../../src/bin/reactor/site.rs"]
#[allow(dead_code, reason = "the program uses the rest of it")]
mod site;

use std::cell::RefCell;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use mio_reactor::limits::{HEAD_BYTES_MAX, READ_BYTES_MAX};
use mio_reactor::{Advance, CloseReason, Context, Http, Next, Protocol, TestConnection};

use site::Site;

/// One call of `advance`.
#[derive(Clone, Copy)]
struct Step {
    offered: usize,
    advance: Advance,
}

/// HTTP, with each step written down.
struct Noted {
    http: Http<Site>,
    steps: Rc<RefCell<Vec<Step>>>,
}

impl Protocol for Noted {
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

struct Talk {
    output: Vec<u8>,
    steps: Vec<Step>,
    /// All was answered, and the peer could go on.
    is_complete: bool,
}

impl Talk {
    fn has_closed(&self) -> bool {
        self.steps.last().is_some_and(|step| step.advance.next != Next::Continue)
    }
}

/// The peer sends `pieces`, and then its FIN.
fn converse<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Talk {
    let steps = Rc::new(RefCell::new(Vec::new()));
    let mut rehearsal =
        TestConnection::new(Noted { http: Http::new(Site::new()), steps: Rc::clone(&steps) });
    let mut reads = 0;
    for piece in pieces {
        rehearsal.peer_sends(piece);
        reads += piece.len().div_ceil(READ_BYTES_MAX);
    }
    let mut output = rehearsal.take_received();
    rehearsal.peer_shuts_down();
    let at_the_end = rehearsal.take_received();
    output.extend_from_slice(&at_the_end);
    assert_eq!(
        rehearsal.close_reason(),
        Some(CloseReason::Finished),
        "whatever it was sent, it ends in order"
    );
    let steps = steps.take();
    check_work(&steps, reads);
    let has_closed = steps.last().is_some_and(|step| step.advance.next != Next::Continue);
    Talk {
        output: without_dates(&output),
        steps,
        is_complete: !has_closed && at_the_end.is_empty(),
    }
}

/// A call either consumes something, or is the last for what one read has brought; and then what is offered again with the
/// next one is less than a head may have. So the calls are as many as the bytes at most, and what they look at is bounded.
fn check_work(steps: &[Step], reads: usize) {
    let in_vain = steps.iter().filter(|step| step.advance.consumed == 0);
    assert!(
        in_vain.clone().all(|step| step.offered <= HEAD_BYTES_MAX),
        "what cannot be a head is refused"
    );
    assert!(in_vain.count() <= reads, "it is asked again only when there is more");
}

/// `output` with its dates, which depend on the moment, left out.
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

/// `input` in pieces of sizes that follow from `seed`, some long and some of a single byte.
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

fn assert_same(one: &[u8], other: &[u8], story: &str) {
    assert!(one == other, "{story}:\n{}\n{}", one.escape_ascii(), other.escape_ascii());
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&seed, input)) = bytes.split_first() else { return };
    let whole = converse([input]);
    assert_same(&converse(cut(seed, input)).output, &whole.output, "in pieces, and whole");
    if input.len() <= 1024 {
        assert_same(&converse(input.chunks(1)).output, &whole.output, "byte by byte, and whole");
    }
    // Cut where one step has ended: if nothing was begun there, the two parts are two conversations.
    let ends = whole.steps.iter().scan(0, |end, step| {
        *end += step.advance.consumed;
        Some(*end)
    });
    let ends: Vec<usize> = ends.collect();
    if let Some(&end) = ends.get(usize::from(seed) % ends.len().max(1)) {
        let (first, second) = input.split_at(end);
        let first = converse([first]);
        if first.is_complete {
            assert_same(
                &[first.output, converse([second]).output].concat(),
                &whole.output,
                "two parts, and whole",
            );
        } else if first.has_closed() {
            assert_same(&first.output, &whole.output, "closed, and what came after it");
        }
    }
    if whole.is_complete {
        let twice = converse([&[input, input].concat()[..]]);
        assert_same(
            &twice.output,
            &[&whole.output[..], &whole.output].concat(),
            "twice, and once and once",
        );
    }
});
