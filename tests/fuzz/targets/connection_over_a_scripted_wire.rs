//! A connection over a wire that behaves as a TCP socket does, but as badly as one can: bytes come and go in any amounts, the
//! urgent mark, a FIN or an error stands anywhere, calls are interrupted, news come that are none, and time passes.
//!
//! Whatever happens: every byte is heard once and in order; what is sent is what was said; nothing is read above the high mark;
//! no edge is forgotten; the loop would not spin; it ends, and the protocol is told so once, and last.
//!
//! The first four bytes of an input choose the protocol and the limits; after them, each two bytes are an event.

#![no_main]

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mio_reactor::fuzzing::{ScriptedConnection, Transport};
use mio_reactor::limits::{HIGH_WATERMARK_BYTES, READ_BYTES_MAX};
use mio_reactor::{Advance, CloseReason, Context, Echo, Limits, Next, Protocol};

/// The most that arrives for an echo: enough to pass every mark, and the budget of a turn.
const BYTES_MAX: usize = 300_000;
/// The most that arrives for a parrot, in its units: so that it is not called too often, for that takes long.
const UNITS_MAX: usize = 1000;
/// More drives than any of the events here can need.
const DRIVES_MAX: usize = 200;

/// Byte number `at` of what the peer sends: one in which a piece that is lost, doubled or moved shows.
fn byte(at: usize) -> u8 {
    (at.wrapping_mul(0x9E37_79B1) >> 13).to_le_bytes()[0]
}

/// What the protocol and the wire know of each other's side.
#[derive(Default)]
struct Facts {
    heard: Cell<usize>,
    said: RefCell<Vec<u8>>,
    /// How often the protocol was told of the end.
    closed: Cell<usize>,
}

// ---- the wire

struct Kernel {
    facts: Rc<Facts>,
    arrived: usize,
    arrived_max: usize,
    read: usize,
    /// Where a read stops short although more has arrived.
    urgent_mark: Option<usize>,
    has_fin: bool,
    fin_is_read: bool,
    /// How many bytes it would take now.
    room: usize,
    sent: usize,
    is_finished: bool,
    /// One call in so many is interrupted; zero for none.
    interrupts_every: usize,
    calls: usize,
    fails_receive: Option<ErrorKind>,
    fails_send: Option<ErrorKind>,
    fails_finish: Option<ErrorKind>,
    /// It has failed: nothing may be asked of it any more.
    has_failed: bool,
}

impl Kernel {
    fn call(&mut self) -> io::Result<()> {
        assert!(!self.has_failed, "after an error nothing is asked any more");
        self.calls += 1;
        let is_interrupted =
            self.interrupts_every > 0 && self.calls.is_multiple_of(self.interrupts_every);
        if is_interrupted { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    fn fail(&mut self, kind: ErrorKind) -> io::Error {
        self.has_failed = true;
        kind.into()
    }

    fn has_input(&self) -> bool {
        self.read < self.arrived || (self.has_fin && !self.fin_is_read)
    }
}

impl Transport for Kernel {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.call()?;
        assert!(!into.is_empty(), "there is room to read into");
        assert!(!self.fin_is_read, "nothing comes after the FIN");
        let waiting = self.facts.said.borrow().len() - self.sent;
        assert!(
            self.is_finished || waiting < HIGH_WATERMARK_BYTES,
            "it reads with {waiting} bytes waiting"
        );
        if let Some(kind) = self.fails_receive.take() {
            return Err(self.fail(kind));
        }
        let mark = self
            .urgent_mark
            .take_if(|mark| *mark <= self.read + into.len())
            .filter(|&mark| mark > self.read);
        let count = (mark.unwrap_or(self.arrived).min(self.arrived) - self.read).min(into.len());
        if count == 0 {
            self.fin_is_read = self.has_fin;
            return if self.has_fin { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        for (at, into) in (self.read..).zip(&mut into[..count]) {
            *into = byte(at);
        }
        self.read += count;
        Ok(count)
    }

    fn send(&mut self, offered: &[u8]) -> io::Result<usize> {
        self.call()?;
        assert!(!self.is_finished, "nothing is sent behind our FIN");
        let facts = Rc::clone(&self.facts);
        let said = facts.said.borrow();
        assert!(
            !offered.is_empty() && said[self.sent..].starts_with(offered),
            "what is sent is what was said"
        );
        if let Some(kind) = self.fails_send.take() {
            return Err(self.fail(kind));
        }
        let count = offered.len().min(self.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.sent += count;
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        assert!(!self.has_failed && !self.is_finished, "it finishes once");
        assert_eq!(self.sent, self.facts.said.borrow().len(), "all goes before the FIN");
        if let Some(kind) = self.fails_finish.take() {
            return Err(self.fail(kind));
        }
        self.is_finished = true;
        Ok(())
    }
}

// ---- the protocols

/// Repeats what it hears in units of `size` bytes, each `times` over. After `last` bytes it does something else.
struct Parrot {
    size: usize,
    times: usize,
    last: Option<usize>,
    next: Next,
    /// Its alarm rings so many times more, each time so many milliseconds after the last.
    rings: usize,
    delay_ms: u64,
    facts: Rc<Facts>,
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
struct Witness<P> {
    within: P,
    /// Everything it hears is said at once.
    is_echo: bool,
    facts: Rc<Facts>,
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

// ---- the story

struct Story {
    conversation: ScriptedConnection<Kernel>,
    facts: Rc<Facts>,
    /// The most that may wait: the high mark, overshot by one read or one reply.
    waiting_max: usize,
}

impl Story {
    /// Drives it until it can do no more.
    fn drive(&mut self) {
        let mut drives = 0;
        while self.conversation.drive() {
            drives += 1;
            assert!(drives < DRIVES_MAX, "it goes in circles");
        }
        self.check();
    }

    /// Time passes, and it is looked at as often as a reactor would.
    fn wait(&mut self, ms: u64) {
        let mut could_go_on = self.conversation.wait(ms);
        let mut looks = 0;
        loop {
            if could_go_on {
                self.drive();
            }
            if !self.conversation.is_due() {
                break;
            }
            looks += 1;
            assert!(looks < 4, "it is due again and again: the loop would spin");
            could_go_on = self.conversation.wait(0);
        }
        self.check();
    }

    fn check(&mut self) {
        let is_over = self.conversation.close_reason().is_some();
        let (wants_read, wants_write) =
            (self.conversation.wants_read(), self.conversation.wants_write());
        let kernel = self.conversation.wire();
        assert!(is_over || !kernel.has_failed, "an error is the end");
        assert!(
            !(wants_read && kernel.has_input()),
            "there is input, and no edge will come for it"
        );
        assert!(!(wants_write && kernel.room > 0), "there is room, and no edge will come for it");
        if self.conversation.close_reason() == Some(CloseReason::Finished) {
            let kernel = self.conversation.wire();
            assert!(
                kernel.is_finished || kernel.read == kernel.arrived,
                "to close with unread input resets"
            );
        }
        let kernel = self.conversation.wire();
        let waiting = self.facts.said.borrow().len() - kernel.sent;
        assert!(waiting <= self.waiting_max, "{waiting} bytes wait");
        assert_eq!(self.facts.closed.get(), usize::from(is_over), "it is told of the end once");
    }

    fn arrives(&mut self, count: usize, mark: Option<usize>) {
        let kernel = self.conversation.wire();
        if kernel.has_fin || kernel.arrived + count > kernel.arrived_max {
            return;
        }
        kernel.urgent_mark = mark.map(|mark| kernel.arrived + mark).or(kernel.urgent_mark);
        kernel.arrived += count;
        self.conversation.note(count > 0, false, mark.is_some());
    }

    fn takes(&mut self, count: usize) {
        self.conversation.wire().room += count;
        self.conversation.note(false, count > 0, false);
    }

    fn finishes(&mut self) {
        self.conversation.wire().has_fin = true;
        self.conversation.note(true, false, true);
    }

    fn fails(&mut self, which: usize) {
        use ErrorKind::{BrokenPipe, ConnectionReset, HostUnreachable, OutOfMemory, TimedOut};
        let kind =
            Some([BrokenPipe, ConnectionReset, HostUnreachable, OutOfMemory, TimedOut][which % 5]);
        let kernel = self.conversation.wire();
        match which % 3 {
            0 => kernel.fails_receive = kind,
            1 => kernel.fails_send = kind,
            _ => kernel.fails_finish = kind,
        }
        self.conversation.note(true, true, true);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[kind, unit, last, manners], events)) = bytes.split_first_chunk() else { return };
    let facts = Rc::new(Facts::default());
    let is_echo = kind % 2 == 0;
    let kernel = Kernel {
        facts: Rc::clone(&facts),
        arrived: 0,
        arrived_max: if is_echo { BYTES_MAX } else { UNITS_MAX * (1 + usize::from(unit)) },
        read: 0,
        urgent_mark: None,
        has_fin: false,
        fin_is_read: false,
        room: 0,
        sent: 0,
        is_finished: false,
        interrupts_every: 0,
        calls: 0,
        fails_receive: None,
        fails_send: None,
        fails_finish: None,
        has_failed: false,
    };
    let limits = match manners % 4 {
        0 => Limits::default(),
        1 => Limits { idle_timeout_ms: 100, ..Limits::default() },
        2 => Limits { write_timeout_ms: 100, linger_timeout_ms: 100_000, ..Limits::default() },
        _ => Limits {
            idle_timeout_ms: 500,
            write_timeout_ms: 700,
            linger_timeout_ms: 900,
            ..Limits::default()
        },
    };
    let patience_ms =
        limits.idle_timeout_ms.max(limits.write_timeout_ms).max(limits.linger_timeout_ms);
    let read_bytes = if manners & 4 == 0 { READ_BYTES_MAX } else { 1 + usize::from(unit) };
    let rings = usize::from(kind / 16);
    let conversation = if is_echo {
        let witness = Witness { within: Echo::new(), is_echo, facts: Rc::clone(&facts) };
        ScriptedConnection::new(witness, kernel, limits, read_bytes)
    } else {
        let parrot = Parrot {
            size: 1 + usize::from(unit),
            times: usize::from(kind / 2 % 4),
            last: (last > 0).then(|| usize::from(last) * 100),
            next: [Next::Close, Next::CloseWithoutLinger, Next::Abort, Next::Pause]
                [usize::from(manners / 8 % 4)],
            rings,
            delay_ms: u64::from(last) * 200,
            facts: Rc::clone(&facts),
        };
        ScriptedConnection::new(
            Witness { within: parrot, is_echo, facts: Rc::clone(&facts) },
            kernel,
            limits,
            read_bytes,
        )
    };
    let mut story = Story {
        conversation,
        facts,
        waiting_max: HIGH_WATERMARK_BYTES + READ_BYTES_MAX.max(4 * 256),
    };
    story.drive();
    let mut only_bytes_moved = is_echo;
    for event in events.as_chunks().0 {
        let &[event, amount] = event;
        let amount = usize::from(amount);
        match event % 12 {
            0 => story.arrives(amount, None),
            1 => story.arrives(amount * 300, None),
            2 => story.takes(amount),
            3 => story.takes(amount * 600),
            4 => story.conversation.note(true, true, false),
            5 => story.arrives(amount + 1, Some(amount / 2)),
            6 => story.finishes(),
            7 => {
                only_bytes_moved = false;
                story.wait(amount as u64 * 250);
            }
            8 => {
                only_bytes_moved = false;
                story.fails(amount);
            }
            9 => story.conversation.wire().interrupts_every = [0, 2, 3, 4][amount % 4],
            10 => story.arrives(READ_BYTES_MAX, None),
            _ => {
                story.arrives(amount, None);
                story.takes(amount * 3);
            }
        }
        story.drive();
        if story.conversation.close_reason().is_some() {
            break;
        }
    }
    // The end: the peer hears us out, or it falls silent.
    if manners & 128 == 0 {
        story.finishes();
        story.drive();
        for _ in 0..10 {
            story.takes(4 * BYTES_MAX);
            story.drive();
        }
        if only_bytes_moved {
            assert_eq!(story.conversation.close_reason(), Some(CloseReason::Finished));
            let kernel = story.conversation.wire();
            assert_eq!(
                (kernel.read, kernel.sent),
                (kernel.arrived, kernel.arrived),
                "all was read, and all came back"
            );
        }
    }
    for _ in 0..rings + 10 {
        story.wait(patience_ms);
    }
    let why = story.conversation.close_reason().expect("it has ended");
    if matches!(why, CloseReason::Finished | CloseReason::IdleTimeout) {
        assert_eq!(
            story.conversation.wire().sent,
            story.facts.said.borrow().len(),
            "all that was said has been sent"
        );
    }
});
