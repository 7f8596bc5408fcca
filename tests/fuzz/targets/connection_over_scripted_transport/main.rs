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

mod protocols;
mod transport;

use libfuzzer_sys::fuzz_target;
use mio_reactor::fuzzing::{ScriptedConnection, Transport};
use mio_reactor::limits::{HIGH_WATERMARK_BYTES, READ_BYTES_MAX};
use mio_reactor::{Advance, CloseReason, Context, Echo, Limits, Next, Protocol};

use protocols::{Parrot, Witness};
use transport::Kernel;

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
