//! The protocols.

use super::*;

/// Repeats what it hears in units of `size` bytes, each `times` over. After `last` bytes it does something else.
pub(crate) struct Parrot {
    pub(crate) size: usize,
    pub(crate) times: usize,
    pub(crate) last: Option<usize>,
    pub(crate) next: Next,
    /// Its alarm rings so many times more, each time so many milliseconds after the last.
    pub(crate) rings: usize,
    pub(crate) delay_ms: u64,
    pub(crate) facts: Rc<Facts>,
}

impl Parrot {
    fn say(&self, bytes: &[u8], cx: &mut Context<'_>) {
        self.facts.said.borrow_mut().extend_from_slice(bytes);
        cx.send(bytes);
    }

    fn set_alarm(&mut self, cx: &mut Context<'_>) {
        if self.rings > 0 {
            self.rings -= 1;
            cx.set_timer(Duration::from_millis(self.delay_ms));
        }
    }
}

impl Protocol for Parrot {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.say(b"Hello.", cx);
        self.set_alarm(cx);
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        if input.len() < self.size {
            return Advance::need_more();
        }
        (0..self.times).for_each(|_| self.say(&input[..self.size], cx));
        let has_heard_enough =
            self.last.is_some_and(|last| self.facts.heard.get() + self.size > last);
        if !has_heard_enough {
            return Advance::consumed(self.size);
        }
        if self.next == Next::Pause {
            self.last = None; // once is enough
        }
        Advance::consumed(self.size).then(self.next)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.say(rest, cx);
        if self.times == 3 { Next::Pause } else { Next::Close }
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.say(b"More.", cx);
        Next::Continue
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.say(b"Ring.", cx);
        self.set_alarm(cx);
        if self.size % 2 == 0 { Next::Pause } else { Next::Continue }
    }
}

/// Sees that the protocol within hears every byte once and in order, and of its end once and last.
pub(crate) struct Witness<P> {
    pub(crate) within: P,
    /// Everything it hears is said at once.
    pub(crate) is_echo: bool,
    pub(crate) facts: Rc<Facts>,
}

impl<P> Witness<P> {
    /// What it is offered is what comes next, as far as its first and its last bytes tell: what it consumes is checked whole.
    fn check(&self, input: &[u8]) {
        const SOME: usize = 16;
        assert_eq!(self.facts.closed.get(), 0, "nothing comes after the end");
        let heard = self.facts.heard.get();
        let last = input.len().saturating_sub(SOME);
        self.check_at(heard, &input[..input.len().min(SOME)]);
        self.check_at(heard + last, &input[last..]);
    }

    fn check_at(&self, start: usize, bytes: &[u8]) {
        assert!(
            (start..).zip(bytes).all(|(at, &heard)| heard == byte(at)),
            "it hears what was sent, at {start}"
        );
    }
}

impl<P: Protocol> Protocol for Witness<P> {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.check(b"");
        self.within.opened(cx)
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        assert!(!input.is_empty(), "there is always something to hear");
        self.check(input);
        if self.is_echo {
            self.facts.said.borrow_mut().extend_from_slice(input);
        }
        let step = self.within.advance(input, cx);
        let heard = self.facts.heard.get();
        self.check_at(heard, &input[..step.consumed]);
        self.facts.heard.set(heard + step.consumed);
        step
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.check(rest);
        self.within.eof(rest, cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.check(b"");
        self.within.output_low(cx)
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.check(b"");
        self.within.timer_expired(cx)
    }

    fn closed(&mut self, why: CloseReason) {
        self.facts.closed.set(self.facts.closed.get() + 1);
        self.within.closed(why);
    }
}
