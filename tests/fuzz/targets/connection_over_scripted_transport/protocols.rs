//! The fuzzed protocols: one that repeats its input, and one that checks every call of another.

use std::rc::Rc;
use std::time::Duration;

use mio_reactor::{Advance, CloseReason, Context, Next, Protocol};

use crate::{Record, byte};

/// Consumes units of `unit` bytes, and sends each `times` over.
pub(crate) struct Repeater {
    pub(crate) unit: usize,
    pub(crate) times: usize,
    /// After so many bytes it returns `next`.
    pub(crate) stops_after: Option<usize>,
    pub(crate) next: Next,
    /// How many more timers it sets, each `delay_ms` after the one before.
    pub(crate) timers: usize,
    pub(crate) delay_ms: u64,
    pub(crate) record: Rc<Record>,
}

impl Repeater {
    fn send(&self, bytes: &[u8], cx: &mut Context<'_>) {
        self.record.written.borrow_mut().extend_from_slice(bytes);
        cx.send(bytes);
    }

    fn set_timer(&mut self, cx: &mut Context<'_>) {
        if self.timers > 0 {
            self.timers -= 1;
            cx.set_timer(Duration::from_millis(self.delay_ms));
        }
    }
}

impl Protocol for Repeater {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.send(b"opened", cx);
        self.set_timer(cx);
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        if input.len() < self.unit {
            return Advance::need_more();
        }
        (0..self.times).for_each(|_| self.send(&input[..self.unit], cx));
        let consumed = self.record.consumed.get() + self.unit;
        if self.stops_after.is_none_or(|bytes| consumed <= bytes) {
            return Advance::consumed(self.unit);
        }
        if self.next == Next::Pause {
            self.stops_after = None; // it pauses only once
        }
        Advance::consumed(self.unit).then(self.next)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.send(rest, cx);
        if self.times == 3 { Next::Pause } else { Next::Close }
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.send(b"more", cx);
        Next::Continue
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.send(b"timer", cx);
        self.set_timer(cx);
        if self.unit % 2 == 0 { Next::Pause } else { Next::Continue }
    }
}

/// Checks that the inner protocol is offered every byte once and in order, and is closed once,
/// last.
pub(crate) struct Checked<P> {
    pub(crate) inner: P,
    /// The inner protocol sends all of its input at once.
    pub(crate) is_echo: bool,
    pub(crate) record: Rc<Record>,
}

impl<P> Checked<P> {
    /// Checks the first and the last bytes of an input. What is consumed of it is checked whole.
    fn check(&self, input: &[u8]) {
        const SOME: usize = 16;
        assert_eq!(self.record.closed.get(), 0, "no call after `closed`");
        let consumed = self.record.consumed.get();
        let last = input.len().saturating_sub(SOME);
        self.check_at(consumed, &input[..input.len().min(SOME)]);
        self.check_at(consumed + last, &input[last..]);
    }

    fn check_at(&self, start: usize, bytes: &[u8]) {
        assert!(
            (start..).zip(bytes).all(|(at, &offered)| offered == byte(at)),
            "the input at {start} is what the peer sent"
        );
    }
}

impl<P: Protocol> Protocol for Checked<P> {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.check(b"");
        self.inner.opened(cx)
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        assert!(!input.is_empty(), "the input is never empty");
        self.check(input);
        if self.is_echo {
            self.record.written.borrow_mut().extend_from_slice(input);
        }
        let advance = self.inner.advance(input, cx);
        let consumed = self.record.consumed.get();
        self.check_at(consumed, &input[..advance.consumed]);
        self.record.consumed.set(consumed + advance.consumed);
        advance
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.check(rest);
        self.inner.eof(rest, cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.check(b"");
        self.inner.output_low(cx)
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.check(b"");
        self.inner.timer_expired(cx)
    }

    fn closed(&mut self, why: CloseReason) {
        self.record.closed.set(self.record.closed.get() + 1);
        self.inner.closed(why);
    }
}
