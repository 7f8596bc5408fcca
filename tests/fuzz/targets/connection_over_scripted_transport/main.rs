//! One connection over a scripted transport that behaves as badly as a TCP socket can.
//!
//! Bytes arrive and leave in any amounts. The urgent mark, a FIN and errors come at any point.
//! Calls are interrupted, some events are spurious, and time passes.
//!
//! What must hold:
//!
//! - Every byte is consumed once and in order, and what is sent is what the protocol wrote.
//! - Nothing is read while more output waits than the high watermark.
//! - No edge is forgotten, and the loop would not spin.
//! - The connection ends, and `closed` is called once, last.
//!
//! The first four bytes of an input choose the protocol and the limits. After them, each two bytes
//! are an event and its amount.

#![no_main]

#[path = "../../../../src/limits.rs"]
#[allow(dead_code, reason = "a copy, for the numbers that are not public")]
mod limits;
mod protocols; // echo and `Repeater`, and `Checked` around them
mod transport; // the transport that the events script

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mio_reactor::fuzzing::Driver;
use mio_reactor::{CloseReason, Echo, Limits, Next};

use limits::{HIGH_WATERMARK_BYTES, READ_BYTES_MAX, STEP_COST_BYTES, STREAM_BYTES_PER_TURN_MAX};
use protocols::{Checked, Repeater};
use transport::FuzzTransport;

/// The most bytes that arrive for an echo: enough to pass every watermark and the budget of a turn.
const BYTES_MAX: usize = 300_000;
/// The most units that arrive for a repeater. It is called for each, which takes long.
const UNITS_MAX: usize = 1000;
/// More turns in a row than any event can need. With reads of one byte, each of which is charged
/// `STEP_COST_BYTES`, one turn moves 16 bytes.
const TURNS_MAX: usize = 2 * BYTES_MAX / (STREAM_BYTES_PER_TURN_MAX / STEP_COST_BYTES);
/// More deadlines in a row than there are: up to 15 timers, and the timeouts.
const EXPIRIES_MAX: usize = 20;

/// Returns byte number `at` of what the peer sends. A piece that is lost, doubled or moved shows.
fn byte(at: usize) -> u8 {
    (at.wrapping_mul(0x9E37_79B1) >> 13).to_le_bytes()[0]
}

/// What the protocol did, which the transport checks, and the other way round.
#[derive(Default)]
struct Record {
    /// How many bytes the protocol has consumed.
    consumed: Cell<usize>,
    /// All bytes that the protocol has written.
    written: RefCell<Vec<u8>>,
    /// How often `closed` was called.
    closed: Cell<usize>,
}

struct Scenario {
    connection: Driver<FuzzTransport>,
    record: Rc<Record>,
    /// The most output that may wait: the high watermark, overshot by one read or one reply.
    waiting_max: usize,
}

impl Scenario {
    fn transport(&mut self) -> &mut FuzzTransport {
        self.connection.transport.get_mut()
    }

    /// Runs turns until the connection can make no progress.
    fn drive(&mut self) {
        let mut turns = 0;
        while self.connection.turn() {
            turns += 1;
            assert!(turns < TURNS_MAX, "the connection does not block");
        }
        self.check();
    }

    /// Lets time pass, and drives the connection where a reactor would: at a further deadline one
    /// millisecond later.
    fn wait(&mut self, ms: u64) {
        let mut can_progress = self.connection.wait(ms);
        let mut expiries = 0;
        loop {
            if can_progress {
                self.drive();
            }
            if !self.connection.is_due() {
                break;
            }
            expiries += 1;
            assert!(expiries < EXPIRIES_MAX, "the deadline stays due: the loop would spin");
            can_progress = self.connection.wait(1);
        }
        self.check();
    }

    fn check(&mut self) {
        let close_reason = self.connection.close_reason();
        let is_closed = close_reason.is_some();
        let wants_read = self.connection.wants_read();
        let wants_write = self.connection.wants_write();
        let transport = self.connection.transport.borrow();
        assert!(is_closed || !transport.has_failed, "an error closes the connection");
        assert!(
            !(wants_read && transport.has_input()),
            "there is input, and no edge will be reported for it"
        );
        assert!(
            !(wants_write && transport.room > 0),
            "there is room, and no edge will be reported for it"
        );
        if close_reason == Some(CloseReason::Finished) {
            assert!(
                transport.is_shut || transport.read == transport.arrived,
                "a close with unread input resets the connection"
            );
        }
        let waiting = self.record.written.borrow().len() - transport.sent;
        assert!(waiting <= self.waiting_max, "{waiting} bytes wait");
        assert_eq!(self.record.closed.get(), usize::from(is_closed), "`closed` is called once");
    }

    // ---- events

    fn bytes_arrive(&mut self, count: usize, urgent_mark: Option<usize>) {
        let transport = self.transport();
        if transport.has_fin || transport.arrived + count > transport.arrived_max {
            return;
        }
        let arrived = transport.arrived;
        transport.urgent_mark = urgent_mark.map(|mark| arrived + mark).or(transport.urgent_mark);
        transport.arrived += count;
        self.connection.note(count > 0, false, urgent_mark.is_some());
    }

    fn room_grows(&mut self, count: usize) {
        self.transport().room += count;
        self.connection.note(false, count > 0, false);
    }

    fn fin_arrives(&mut self) {
        self.transport().has_fin = true;
        self.connection.note(true, false, true);
    }

    /// Makes the next receive, send or shutdown fail.
    fn fail_next(&mut self, which: usize) {
        use ErrorKind::{BrokenPipe, ConnectionReset, HostUnreachable, OutOfMemory, TimedOut};
        let kind =
            Some([BrokenPipe, ConnectionReset, HostUnreachable, OutOfMemory, TimedOut][which % 5]);
        let transport = self.transport();
        match which % 3 {
            0 => transport.fails_receive = kind,
            1 => transport.fails_send = kind,
            _ => transport.fails_shutdown = kind,
        }
        self.connection.note(true, true, true);
    }
}

// pitfall: 5, 13, 17, 20, 22, 24
fuzz_target!(|bytes: &[u8]| {
    let Some((&[kind, unit, last, settings], events)) = bytes.split_first_chunk() else { return };
    let record = Rc::new(Record::default());
    let is_echo = kind % 2 == 0;
    let arrived_max = if is_echo { BYTES_MAX } else { UNITS_MAX * (1 + usize::from(unit)) };
    let transport = FuzzTransport::new(Rc::clone(&record), arrived_max);
    let limits = match settings % 4 {
        0 => Limits::default(),
        1 => Limits::default().with_idle_timeout(Duration::from_millis(100)),
        2 => Limits::default()
            .with_write_timeout(Duration::from_millis(100))
            .with_linger_timeout(Duration::from_secs(100)),
        _ => Limits::default()
            .with_idle_timeout(Duration::from_millis(500))
            .with_write_timeout(Duration::from_millis(700))
            .with_linger_timeout(Duration::from_millis(900)),
    };
    let longest_timeout = limits.idle_timeout.max(limits.write_timeout).max(limits.linger_timeout);
    let read_bytes = if settings & 4 == 0 { READ_BYTES_MAX } else { 1 + usize::from(unit) };
    let timers = usize::from(kind / 16);
    let connection = if is_echo {
        let protocol = Checked { inner: Echo::new(), is_echo, record: Rc::clone(&record) };
        Driver::new(Box::new(protocol), transport, limits, read_bytes)
    } else {
        let repeater = Repeater {
            unit: 1 + usize::from(unit),
            times: usize::from(kind / 2 % 4),
            stops_after: (last > 0).then(|| usize::from(last) * 100),
            next: [Next::Close, Next::CloseWithoutLinger, Next::Abort, Next::Pause]
                [usize::from(settings / 8 % 4)],
            timers,
            delay_ms: u64::from(last) * 200,
            record: Rc::clone(&record),
        };
        let protocol = Checked { inner: repeater, is_echo, record: Rc::clone(&record) };
        Driver::new(Box::new(protocol), transport, limits, read_bytes)
    };
    let waiting_max = HIGH_WATERMARK_BYTES + READ_BYTES_MAX.max(4 * 256);
    let mut scenario = Scenario { connection, record, waiting_max };
    scenario.connection.open();
    scenario.drive();
    let mut only_bytes_moved = is_echo;
    for event in events.as_chunks().0 {
        let &[event, amount] = event;
        let amount = usize::from(amount);
        match event % 12 {
            0 => scenario.bytes_arrive(amount, None),
            1 => scenario.bytes_arrive(amount * 300, None),
            2 => scenario.room_grows(amount),
            3 => scenario.room_grows(amount * 600),
            4 => scenario.connection.note(true, true, false),
            5 => scenario.bytes_arrive(amount + 1, Some(amount / 2)),
            6 => scenario.fin_arrives(),
            7 => {
                only_bytes_moved = false;
                scenario.wait(amount as u64 * 250);
            }
            8 => {
                only_bytes_moved = false;
                scenario.fail_next(amount);
            }
            9 => scenario.transport().interrupts_every = [0, 2, 3, 4][amount % 4],
            10 => scenario.bytes_arrive(READ_BYTES_MAX, None),
            _ => {
                scenario.bytes_arrive(amount, None);
                scenario.room_grows(amount * 3);
            }
        }
        scenario.drive();
        if scenario.connection.close_reason().is_some() {
            break;
        }
    }
    // The end: the peer sends its FIN and reads everything, or does nothing any more.
    if settings & 128 == 0 {
        scenario.fin_arrives();
        scenario.drive();
        for _ in 0..10 {
            scenario.room_grows(4 * BYTES_MAX);
            scenario.drive();
        }
        if only_bytes_moved {
            assert_eq!(scenario.connection.close_reason(), Some(CloseReason::Finished));
            let transport = scenario.transport();
            assert_eq!(
                (transport.read, transport.sent),
                (transport.arrived, transport.arrived),
                "everything was read and echoed"
            );
        }
    }
    for _ in 0..timers + 10 {
        scenario.wait(u64::try_from(longest_timeout.as_millis()).unwrap());
    }
    let close_reason = scenario.connection.close_reason().expect("the connection has ended");
    if matches!(close_reason, CloseReason::Finished | CloseReason::IdleTimeout) {
        let written = scenario.record.written.borrow().len();
        let sent = scenario.connection.transport.get_mut().sent;
        assert_eq!(sent, written, "all output has been sent");
    }
});
