//! A connection over wires that do as they are told.
//!
//! Most tests are scripts: the calls that one drive makes and the kernel's answers to them, as strace would show them. The
//! connection must make these calls, in this order, and no others; so "it does not read" is a script without a `recv`.
//! Where amounts or chance matter, the wire is a `Kernel` instead, which behaves as a TCP socket does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::Outcome::{Blocked, Ended, Unfinished};
use super::*;
use crate::clock::Time;
use crate::echo::Echo;
use crate::limits::{
    HIGH_WATERMARK_BYTES, INPUT_BYTES_MAX, LINGER_BYTES_MAX, LOW_WATERMARK_BYTES, Limits,
    OUTPUT_BYTES_MAX, READ_BYTES_MAX, SOURCE_BYTES_PER_TURN_MAX,
};
use crate::protocol::context::Context;
use crate::protocol::effects::*;
use crate::protocol::ident::*;
use crate::protocol::protocol::{Advance, Next, Protocol};

// ---- the script

/// A call that the connection makes, and the kernel's answer.
#[derive(Debug)]
enum Step {
    /// Brings these bytes; none are the peer's FIN.
    Recv(Result<Vec<u8>, Fault>),
    Send(Result<Taken, Fault>),
    Finish(Result<(), Fault>),
}

/// An error of the kernel: of a kind, or with the number that it really has.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kind(ErrorKind),
    Errno(i32),
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> io::Error {
        match fault {
            Fault::Kind(kind) => kind.into(),
            Fault::Errno(errno) => io::Error::from_raw_os_error(errno),
        }
    }
}

#[derive(Debug)]
enum Taken {
    /// These are offered, and all are taken.
    All(Vec<u8>),
    /// Only so many are taken of those offered, whichever they are.
    First(usize),
}

const FIN: Step = Step::Recv(Ok(Vec::new()));
const RECV_BLOCKS: Step = recv_fails(ErrorKind::WouldBlock);
const SEND_BLOCKS: Step = send_fails(ErrorKind::WouldBlock);
const FINISH: Step = Step::Finish(Ok(()));

fn recv(bytes: impl Into<Vec<u8>>) -> Step {
    Step::Recv(Ok(bytes.into()))
}

const fn recv_fails(kind: ErrorKind) -> Step {
    Step::Recv(Err(Fault::Kind(kind)))
}

fn send_replies(bytes: impl Into<Vec<u8>>) -> Step {
    Step::Send(Ok(Taken::All(bytes.into())))
}

fn send_some(count: usize) -> Step {
    Step::Send(Ok(Taken::First(count)))
}

const fn send_fails(kind: ErrorKind) -> Step {
    Step::Send(Err(Fault::Kind(kind)))
}

#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    calls: usize,
    read: usize,
    /// All that was ever taken.
    sent: Vec<u8>,
}

impl Script {
    fn next(&mut self, call: &str) -> Step {
        self.calls += 1;
        self.steps.pop_front().unwrap_or_else(|| panic!("the script is over, and it calls {call}"))
    }
}

impl Transport for Script {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let step = self.next("recv");
        let Step::Recv(result) = step else { panic!("it calls recv instead of {step:?}") };
        let bytes = result?;
        into[..bytes.len()].copy_from_slice(&bytes);
        self.read += bytes.len();
        Ok(bytes.len())
    }

    fn send(&mut self, offered: &[u8]) -> io::Result<usize> {
        let step = self.next("send");
        let Step::Send(result) = step else { panic!("it calls send instead of {step:?}") };
        let count = match result? {
            Taken::All(bytes) => {
                assert_eq!(offered, bytes, "the bytes offered are not those of the script");
                bytes.len()
            }
            Taken::First(count) => count,
        };
        self.sent.extend_from_slice(&offered[..count]);
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let step = self.next("finish");
        let Step::Finish(result) = step else { panic!("it calls finish instead of {step:?}") };
        Ok(result?)
    }
}

// ---- the kernel

/// A TCP socket: what has arrived is read until there is no more, and what is sent is taken while there is room. News of
/// either come once. Whoever forgets them too early is caught by `Talk::check_that_nothing_is_forgotten`.
#[derive(Default)]
struct Kernel {
    /// Bytes that have arrived so far, and how many of them each read brought. Byte number n is `byte(n)`.
    arrived: usize,
    reads: Vec<usize>,
    read: usize,
    /// Where a read stops short although more has arrived.
    urgent_mark: Option<usize>,
    has_fin: bool,
    /// How many bytes it would take now.
    room: usize,
    sent: Vec<u8>,
    is_finished: bool,
    /// One call in so many is interrupted; zero for none.
    interrupts_every: usize,
    calls: usize,
}

impl Kernel {
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        let is_interrupted =
            self.interrupts_every > 0 && self.calls.is_multiple_of(self.interrupts_every);
        if is_interrupted { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

impl Transport for Kernel {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.call()?;
        let mark = self
            .urgent_mark
            .take_if(|mark| *mark <= self.read + into.len())
            .filter(|&mark| mark > self.read);
        let count = (mark.unwrap_or(self.arrived).min(self.arrived) - self.read).min(into.len());
        if count == 0 {
            return if self.has_fin { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        into[..count].copy_from_slice(&bytes(self.read, count));
        self.read += count;
        self.reads.push(count);
        Ok(count)
    }

    fn send(&mut self, offered: &[u8]) -> io::Result<usize> {
        self.call()?;
        assert!(!self.is_finished, "nothing is sent behind the FIN");
        let count = offered.len().min(self.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.sent.extend_from_slice(&offered[..count]);
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.calls += 1;
        assert!(!self.is_finished, "it finishes once");
        self.is_finished = true;
        Ok(())
    }
}

/// Bytes `from`, `from + 1`, … of a sequence in which a piece that is lost, doubled or moved shows.
fn bytes(from: usize, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count + 16);
    for word in from / 8..(from + count).div_ceil(8) {
        bytes.extend_from_slice(
            &(word as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes(),
        );
    }
    bytes.drain(..from % 8);
    bytes.truncate(count);
    bytes
}

// ---- the conversation

/// A connection with all that a reactor would lend it.
struct Talk<W> {
    connection: Connection,
    wire: W,
    ready: Readiness,
    scratch: Vec<u8>,
    state: LoopState,
    effects: Effects,
    log: Log,
}

/// What a puppet has obeyed, in the order in which it did.
type Log = Rc<RefCell<Vec<String>>>;

/// Wires that count their calls, and the bytes that they have given and taken.
trait Counted: Transport {
    fn count(&self) -> (usize, usize, usize);
}

impl Counted for Script {
    fn count(&self) -> (usize, usize, usize) {
        (self.calls, self.read, self.sent.len())
    }
}

impl Counted for Kernel {
    fn count(&self) -> (usize, usize, usize) {
        (self.calls, self.read, self.sent.len())
    }
}

impl<W: Counted> Talk<W> {
    fn over(wire: W, protocol: impl Protocol + 'static) -> Talk<W> {
        let state = LoopState::new(Limits::default());
        let id = ConnectionId { slot: 1, generation: 1 };
        let connection = Connection::new(
            Box::new(protocol),
            id,
            SocketAddr::from(([127, 0, 0, 1], 1000)).into(),
            state.clock.now,
        );
        Talk {
            connection,
            wire,
            ready: Readiness::UNKNOWN,
            scratch: vec![0; READ_BYTES_MAX],
            state,
            effects: Effects::default(),
            log: Log::default(),
        }
    }

    fn over_puppet(wire: W, puppet: Puppet) -> Talk<W> {
        let log = Rc::clone(&puppet.log);
        Talk { log, ..Talk::over(wire, puppet) }
    }

    /// Drives it once. Whatever the test: it does something exactly if it said that it could, and says so again if it stopped
    /// before it had to.
    fn drive_once(&mut self) -> Outcome {
        let could_progress = self.connection.can_progress(&self.ready);
        let before = (self.wire.count(), self.progress());
        let outcome = match self.connection.drive(
            &mut self.wire,
            &mut self.ready,
            &mut self.scratch,
            &mut self.state,
            &mut self.effects,
        ) {
            Outcome::Idle => {
                assert!(self.connection.is_idle(), "it says that nothing is begun");
                Blocked
            }
            outcome @ (Blocked | Unfinished | Ended(_)) => outcome,
        };
        let has_progressed = before != (self.wire.count(), self.progress()) || outcome != Blocked;
        assert_eq!(
            has_progressed, could_progress,
            "it can progress exactly when a drive does something"
        );
        self.check(outcome)
    }

    /// Opens it, and then drives it, as a reactor does.
    fn open_once(&mut self) -> Outcome {
        self.connection.open(&mut self.wire, &mut self.ready, &mut self.state, &mut self.effects);
        self.drive_once()
    }

    fn check(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Blocked | Outcome::Idle => assert!(
                !self.connection.can_progress(&self.ready),
                "it is blocked, but could progress"
            ),
            Unfinished => assert!(
                self.connection.can_progress(&self.ready),
                "it is unfinished, but could not progress"
            ),
            Ended(_) => {}
        }
        let (_, read, sent) = self.wire.count();
        let stats = &self.state.stats;
        assert_eq!(
            (stats.bytes_in, stats.bytes_out),
            (read as u64, sent as u64),
            "what moves is counted"
        );
        assert!(self.state.output.is_empty(), "the scratch is empty between drives");
        assert!(self.connection.input.len() <= INPUT_BYTES_MAX, "carried input is bounded");
        if !matches!(outcome, Ended(_)) {
            let held = self.connection.input.capacity() + self.connection.output.capacity();
            let limits = Limits { connections_max: 1, ..Limits::default() };
            assert!(
                held as u64 <= limits.bytes_max(),
                "it holds {held} bytes, more than was promised"
            );
        }
        outcome
    }

    fn progress(&self) -> (Phase, usize, usize) {
        (self.connection.phase, self.connection.input.len(), self.connection.output.len())
    }

    fn at_ms(&mut self, ms: u64) {
        self.state.clock.now = Time::at(Duration::from_millis(ms));
    }

    fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }
}

impl Talk<Script> {
    fn with(protocol: impl Protocol + 'static) -> Talk<Script> {
        Talk::over(Script::default(), protocol)
    }

    fn with_puppet(puppet: Puppet) -> Talk<Script> {
        Talk::over_puppet(Script::default(), puppet)
    }

    /// Drives it through exactly `steps`.
    #[track_caller]
    fn drive<const N: usize>(&mut self, steps: [Step; N]) -> Outcome {
        self.wire.steps = steps.into();
        let outcome = self.drive_once();
        assert!(self.wire.steps.is_empty(), "it stops before {:?}", self.wire.steps);
        outcome
    }

    /// The kernel says that it can be read, and it is driven.
    #[track_caller]
    fn drive_readable<const N: usize>(&mut self, steps: [Step; N]) -> Outcome {
        self.ready.readable = true;
        self.drive(steps)
    }

    /// The kernel says that it can be written, and it is driven.
    #[track_caller]
    fn drive_writable<const N: usize>(&mut self, steps: [Step; N]) -> Outcome {
        self.ready.writable = true;
        self.drive(steps)
    }

    /// Opens and drives it.
    #[track_caller]
    fn open<const N: usize>(&mut self, steps: [Step; N]) -> Outcome {
        self.wire.steps = steps.into();
        let outcome = self.open_once();
        assert!(self.wire.steps.is_empty(), "it stops before {:?}", self.wire.steps);
        outcome
    }

    /// A filed deadline comes due at `ms`. It is acted upon exactly if that is its deadline, or later.
    #[track_caller]
    fn expire_at<const N: usize>(&mut self, ms: u64, steps: [Step; N]) -> Outcome {
        self.expire_with(ms, steps.into())
    }

    fn expire_with(&mut self, ms: u64, steps: Vec<Step>) -> Outcome {
        self.at_ms(ms);
        self.wire.steps = steps.into();
        let is_due = self.connection.deadline(&self.state.limits) <= self.state.clock.now;
        let logged = self.log.borrow().len();
        let outcome = self.connection.expire(
            &mut self.wire,
            &mut self.ready,
            &mut self.scratch,
            &mut self.state,
            &mut self.effects,
        );
        assert!(self.wire.steps.is_empty(), "it stops before {:?}", self.wire.steps);
        let has_acted = outcome != Blocked || self.log.borrow().len() > logged;
        assert_eq!(has_acted, is_due, "it acts exactly when it is due");
        self.check(outcome)
    }

    /// Nothing happens until `ms`, and then it ends for the reason `why`.
    #[track_caller]
    fn ends_at(&mut self, ms: u64, why: CloseReason) {
        assert_eq!(self.expire_at(ms - 1, []), Blocked, "one millisecond early");
        // Before it gives up, it looks once more whether the kernel has news.
        let last_look = match (why, self.connection.wants_write(), self.connection.wants_read()) {
            (CloseReason::Finished, ..) => vec![],
            (_, false, false) => vec![],
            (_, false, true) => vec![RECV_BLOCKS],
            (_, true, false) => vec![SEND_BLOCKS],
            (_, true, true) => vec![SEND_BLOCKS, RECV_BLOCKS],
        };
        assert_eq!(self.expire_with(ms, last_look), Ended(why));
    }
}

// ---- the puppet

/// A protocol that obeys. Each line of its input is an order, and so is each field below when its call comes. The order
/// `500 wake:9 pause` is to say 500 bytes, ask for a call in 9 ms, and pause; the empty one is to go on.
struct Puppet {
    opened: &'static str,
    /// One after the other.
    drained: VecDeque<&'static str>,
    elapsed: &'static str,
    ended: &'static str,
    /// How much it has said. It says `bytes(0, ..)`.
    said: usize,
    log: Log,
}

impl Default for Puppet {
    /// The defaults of `Protocol`.
    fn default() -> Puppet {
        let drained = VecDeque::new();
        Puppet {
            opened: "",
            drained,
            elapsed: "close",
            ended: "close",
            said: 0,
            log: Log::default(),
        }
    }
}

impl Puppet {
    fn drains(orders: impl IntoIterator<Item = &'static str>) -> Puppet {
        Puppet { drained: orders.into_iter().collect(), ..Puppet::default() }
    }

    fn obey(&mut self, call: &str, order: &str, cx: &mut Context<'_>) -> Next {
        self.log.borrow_mut().push(call.to_owned());
        let mut next = Next::Continue;
        for word in order.split_whitespace() {
            match word.split_once(':').unwrap_or((word, "")) {
                ("pause", _) => next = Next::Pause,
                ("close", _) => next = Next::Close,
                ("agree", _) => next = Next::CloseWithoutLinger,
                ("abort", _) => next = Next::Abort,
                ("wake", ms) => cx.set_timer(Duration::from_millis(ms.parse().unwrap())),
                ("sleep", _) => cx.cancel_timer(),
                (number, _) => {
                    let count = number.parse().unwrap();
                    cx.send(&bytes(self.said, count));
                    self.said += count;
                }
            }
        }
        next
    }
}

impl Protocol for Puppet {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.obey("opened", self.opened, cx)
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        assert!(!input.is_empty(), "there is always something to hear");
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            return Advance::need_more();
        };
        let order = std::str::from_utf8(&input[..end]).unwrap();
        let next = self.obey(order, order, cx);
        Advance::consumed(end + 1).then(next)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.obey(&format!("ended {}", std::str::from_utf8(rest).unwrap()), self.ended, cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        let order = self.drained.pop_front().unwrap_or("");
        self.obey("drained", order, cx)
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.obey("elapsed", self.elapsed, cx)
    }

    fn closed(&mut self, why: CloseReason) {
        self.log.borrow_mut().push(format!("closed {why:?}"));
    }
}

// ---- readiness

#[test]
fn one_message_costs_one_recv_and_one_send() {
    // A short read shows that the socket is drained: it is not read again until the kernel says so.
    let mut talk = Talk::with(Echo::new());
    assert_eq!(talk.drive([recv("hello"), send_replies("hello")]), Blocked);
    assert_eq!(talk.drive([]), Blocked);
    assert_eq!(talk.drive_readable([recv("again"), send_replies("again")]), Blocked);
}

#[test]
fn a_full_read_is_followed_by_another() {
    // Five bytes of room, five bytes read: there may be more. Only the kernel's word ends it.
    let mut talk = Talk::with(Echo::new());
    talk.scratch = vec![0; 5];
    assert_eq!(
        talk.drive([
            recv("hello"),
            send_replies("hello"),
            recv("world"),
            send_replies("world"),
            RECV_BLOCKS
        ]),
        Blocked
    );
    assert_eq!(talk.drive([]), Blocked);
}

#[test]
fn a_fin_merged_into_the_edge_of_the_last_bytes_is_found() {
    // No further edge comes for it, so a short read proves nothing here.
    let mut talk = Talk::with(Echo::new());
    talk.ready.read_until_would_block = true;
    assert_eq!(
        talk.drive([recv("hello"), send_replies("hello"), FIN]),
        Ended(CloseReason::Finished)
    );
}

#[test]
fn an_urgent_mark_does_not_hide_what_lies_behind_it() {
    // The mark cuts a read short, so it is read on until the kernel says that this was all. Then a short read counts again.
    let mut talk = Talk::with(Echo::new());
    talk.ready.read_until_would_block = true;
    assert_eq!(
        talk.drive([
            recv("before"),
            send_replies("before"),
            recv("behind"),
            send_replies("behind"),
            RECV_BLOCKS
        ]),
        Blocked
    );
    assert_eq!(talk.drive_readable([recv("later"), send_replies("later")]), Blocked);
}

#[test]
fn a_short_read_of_a_unix_socket_never_proves_that_it_is_empty() {
    // A descriptor that the peer passes along cuts the read behind its bytes, at any time and without an edge of its own.
    let mut talk = Talk::with(Echo::new());
    talk.ready = Readiness::UNKNOWN_UNIX;
    assert_eq!(
        talk.drive([
            recv("before"),
            send_replies("before"),
            recv("behind"),
            send_replies("behind"),
            RECV_BLOCKS
        ]),
        Blocked
    );
    assert_eq!(
        talk.drive_readable([
            recv("one"),
            send_replies("one"),
            recv("two"),
            send_replies("two"),
            RECV_BLOCKS
        ]),
        Blocked
    );
}

#[test]
fn a_signal_interrupts_nothing() {
    // EINTR says nothing of the socket: the same call is made again.
    let mut talk = Talk::with(Echo::new());
    let again = || ErrorKind::Interrupted;
    let steps = [
        recv_fails(again()),
        recv("x"),
        send_fails(again()),
        send_fails(again()),
        send_replies("x"),
    ];
    assert_eq!(talk.drive(steps), Blocked);
    assert_eq!(
        talk.drive_readable([recv_fails(again()), recv_fails(again()), FIN]),
        Ended(CloseReason::Finished)
    );
    let mut lingering = Talk::with_puppet(Puppet::default());
    assert_eq!(lingering.drive([recv("close\n"), FINISH]), Blocked);
    assert_eq!(lingering.drive_readable([recv_fails(again()), recv("x")]), Blocked);
}

#[test]
fn news_that_were_none_do_no_harm() {
    // The kernel says readable and writable, and then that it is neither.
    let mut talk = Talk::with(Echo::new());
    assert_eq!(talk.drive([RECV_BLOCKS]), Blocked);
    assert_eq!(talk.drive_writable([]), Blocked);
    assert_eq!(talk.drive_readable([RECV_BLOCKS]), Blocked);
    assert_eq!(talk.drive_readable([recv("x"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_writable([SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_writable([send_replies("x")]), Blocked);
}

// ---- sending

#[test]
fn a_short_send_at_any_byte_loses_and_repeats_nothing() {
    // The kernel takes one part, and the rest when it says that it can be written; not before.
    for taken in 0..5 {
        let mut talk = Talk::with(Echo::new());
        let first = if taken == 0 { SEND_BLOCKS } else { send_some(taken) };
        assert_eq!(talk.drive([recv("hello"), first]), Blocked);
        assert_eq!(talk.drive([]), Blocked);
        assert_eq!(talk.drive_writable([send_replies(&b"hello"[taken..])]), Blocked);
        assert_eq!(talk.wire.sent, b"hello");
    }
}

#[test]
fn a_reply_does_not_overtake_an_older_one() {
    // The older waits. The newer is not even tried before it, also where the kernel could be written by now.
    let mut talk = Talk::with(Echo::new());
    assert_eq!(talk.drive([recv("hello"), send_some(4)]), Blocked);
    assert_eq!(talk.drive_readable([recv(" wor")]), Blocked);
    talk.ready.readable = true;
    assert_eq!(talk.drive_writable([send_some(1), recv("ld")]), Blocked);
    assert_eq!(talk.drive_writable([send_replies(" world")]), Blocked);
}

#[test]
fn replies_to_all_that_one_read_brought_leave_together() {
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(
        talk.drive([recv("3\n4\n5\nand half of an ord"), send_replies(bytes(0, 12))]),
        Blocked
    );
    assert_eq!(talk.log(), ["3", "4", "5"]);
}

#[test]
fn a_server_may_speak_first() {
    // What the kernel does not take of the greeting waits like any other reply; then the peer is heard.
    let mut talk = Talk::with_puppet(Puppet { opened: "9", ..Puppet::default() });
    assert_eq!(talk.open([send_some(2), recv("1\n")]), Blocked);
    assert_eq!(talk.drive_writable([send_replies(bytes(2, 8))]), Blocked);
    assert_eq!(talk.log(), ["opened", "1"]);
    let mut talk = Talk::with_puppet(Puppet { opened: "9", ..Puppet::default() });
    assert_eq!(talk.open([send_fails(ErrorKind::BrokenPipe)]), Ended(CloseReason::PeerReset));
}

#[test]
fn every_error_of_the_kernel_is_the_reason_of_the_end() {
    // Each in every place where it can come: on receiving, on sending at once, on sending the rest, on our FIN, and after.
    use ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, OutOfMemory, TimedOut,
    };
    let kinds = [
        BrokenPipe,
        ConnectionAborted,
        ConnectionReset,
        HostUnreachable,
        OutOfMemory,
        TimedOut,
        ErrorKind::Other,
    ];
    for kind in kinds {
        let peer_has_left = matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset);
        let expected =
            Ended(if peer_has_left { CloseReason::PeerReset } else { CloseReason::Io(kind) });
        let talk = || Talk::with_puppet(Puppet::default());
        assert_eq!(talk().drive([recv_fails(kind)]), expected);
        assert_eq!(talk().drive([recv("1\n"), send_fails(kind)]), expected);
        let mut slow = talk();
        assert_eq!(slow.drive([recv("9\n"), send_some(4)]), Blocked);
        assert_eq!(slow.drive_writable([send_fails(kind)]), expected);
        assert_eq!(
            talk().drive([recv("1 close\n"), send_some(1), Step::Finish(Err(Fault::Kind(kind)))]),
            expected
        );
        let mut lingering = talk();
        assert_eq!(lingering.drive([recv("close\n"), FINISH]), Blocked);
        assert_eq!(lingering.drive_readable([recv_fails(kind)]), expected);
    }
}

#[test]
#[cfg(unix)]
fn every_errno_of_recv_and_send_leads_to_what_it_should() {
    // What the peer brought about is told from what happened to us; to be blocked or interrupted is no end. All rows of the
    // tables are tried, and an errno that they do not have. What follows is said here once more, by number and kind.
    use crate::sys::errno::tests::{UNKNOWN_ERRNO, all_of_receive, all_of_send};
    let left = [libc::ECONNRESET, libc::ECONNABORTED, libc::EPIPE, libc::ENOTCONN];
    let io = |errno: i32| Ended(CloseReason::Io(io::Error::from_raw_os_error(errno).kind()));
    let talk = || Talk::with_puppet(Puppet::default());
    for errno in all_of_receive().chain(left).chain([libc::EWOULDBLOCK, UNKNOWN_ERRNO]) {
        let fails = || Step::Recv(Err(Fault::Errno(errno)));
        match errno {
            libc::EWOULDBLOCK => assert_eq!(talk().drive([fails()]), Blocked),
            libc::EINTR => {
                assert_eq!(
                    talk().drive([fails(), recv("1\n"), send_replies(bytes(0, 1))]),
                    Blocked
                );
            }
            errno if left.contains(&errno) => {
                assert_eq!(talk().drive([fails()]), Ended(CloseReason::PeerReset), "{errno}");
            }
            errno => assert_eq!(talk().drive([fails()]), io(errno), "{errno}"),
        }
    }
    for errno in
        all_of_send().chain(left).chain([libc::EPROTOTYPE, libc::EWOULDBLOCK, UNKNOWN_ERRNO])
    {
        let fails = || Step::Send(Err(Fault::Errno(errno)));
        let ends = |why: Outcome| {
            assert_eq!(talk().drive([recv("1\n"), fails()]), why, "{errno}");
            let mut slow = talk();
            assert_eq!(slow.drive([recv("9\n"), send_some(4)]), Blocked);
            assert_eq!(slow.drive_writable([fails()]), why, "{errno}");
        };
        match errno {
            libc::EWOULDBLOCK => {
                let mut blocked = talk();
                assert_eq!(blocked.drive([recv("1\n"), fails()]), Blocked);
                assert_eq!(
                    blocked.drive_writable([send_replies(bytes(0, 1))]),
                    Blocked,
                    "nothing is lost"
                );
            }
            libc::EINTR => {
                assert_eq!(
                    talk().drive([recv("1\n"), fails(), send_replies(bytes(0, 1))]),
                    Blocked
                );
            }
            libc::EPROTOTYPE => ends(Ended(CloseReason::PeerReset)),
            errno if left.contains(&errno) => ends(Ended(CloseReason::PeerReset)),
            errno => ends(io(errno)),
        }
    }
}

#[test]
fn who_gives_way_is_closed_at_once_unless_its_peer_is_just_speaking() {
    // Nothing is unread: it is over without another call. If there is news, what is unread would destroy what may still be on
    // its way: so it is read and discarded behind our FIN.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("1\n"), send_replies(bytes(0, 1))]), Blocked);
    talk.connection.evict();
    assert_eq!(talk.drive([]), Ended(CloseReason::Finished));

    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([RECV_BLOCKS]), Blocked);
    talk.connection.evict();
    assert_eq!(talk.drive_readable([FINISH, recv("1\n")]), Blocked);
    assert!(talk.log().is_empty(), "nobody hears it");
    assert_eq!(talk.drive_readable([FIN]), Ended(CloseReason::Finished));
}

#[test]
fn nobody_is_quiet_while_something_is_under_way() {
    // Half an order, a reply that waits, an alarm, a pause. (And a protocol gives way only if it says so.)
    let idle_since = |orders: &'static str, steps: Vec<Step>| {
        let mut talk = Talk::with_puppet(Puppet::default());
        talk.at_ms(7);
        talk.wire.steps = [vec![recv(orders)], steps].into_iter().flatten().collect();
        assert_eq!(talk.drive_once(), Blocked);
        assert!(!talk.connection.is_evictable());
        talk.connection.idle_since()
    };
    assert_eq!(
        idle_since("1\n", vec![send_replies(bytes(0, 1))]),
        Some(Time::at(Duration::from_millis(7)))
    );
    assert_eq!(idle_since("half", vec![]), None);
    assert_eq!(idle_since("2\n", vec![send_some(1)]), None);
    assert_eq!(idle_since("wake:100\n", vec![]), None);
    assert_eq!(idle_since("pause\n", vec![]), None);
}

#[test]
fn a_send_that_takes_nothing_and_gives_no_reason_is_an_error() {
    // Otherwise it would be tried for ever.
    let ended = Talk::with(Echo::new()).drive([recv("x"), send_some(0)]);
    assert_eq!(ended, Ended(CloseReason::Io(ErrorKind::WriteZero)));
}

#[test]
fn who_is_idle_owns_no_buffer() {
    // Much has waited, in both directions. When it has gone, its memory has gone too.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("60000\n60000\n      "), SEND_BLOCKS]), Blocked);
    assert!(!talk.connection.input.is_empty() && talk.connection.output.len() == 120_000);
    assert_eq!(talk.drive_writable([send_replies(bytes(0, 120_000))]), Blocked);
    assert_eq!(talk.drive_readable([recv("\n")]), Blocked);
    assert!(
        talk.connection.input.is_empty() && talk.connection.output.is_empty(),
        "an empty one is a null pointer"
    );
    assert!(size_of::<Connection>() <= 128, "{} bytes for each", size_of::<Connection>());
}

// ---- too much output, too much input, too much time

#[test]
fn at_the_high_mark_the_peer_is_no_longer_read() {
    // One byte below it is; at the mark it is not, whatever the kernel says, until one byte has gone.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(HIGH_WATERMARK_BYTES, 65_536);
    assert_eq!(talk.drive([recv("65535\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_readable([recv("1\n")]), Blocked);
    assert_eq!(talk.drive_readable([]), Blocked);
    assert_eq!(talk.drive_writable([send_some(1), recv("0\n")]), Blocked);
    assert_eq!(talk.log(), ["65535", "1", "0"]);
}

#[test]
fn at_the_high_mark_orders_are_carried_and_later_come_before_anything_is_read() {
    // The second order reaches the mark, so the third is held. When it is obeyed it reaches the mark again: nothing is read,
    // although the kernel has more (the read was full).
    let mut talk = Talk::with_puppet(Puppet::default());
    let orders = "40000\n40000\n50000\n9\n";
    talk.scratch = vec![0; orders.len()];
    assert_eq!(talk.drive([recv(orders), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.log(), ["40000", "40000"]);
    assert_eq!(talk.drive_writable([send_some(14_464)]), Blocked);
    assert_eq!(talk.log().len(), 2, "the mark is not left yet");
    assert_eq!(talk.drive_writable([send_some(1)]), Blocked);
    assert_eq!(talk.log(), ["40000", "40000", "50000"]);
    assert_eq!(
        talk.drive_writable([
            send_replies(bytes(14_465, 115_535)),
            send_replies(bytes(130_000, 9)),
            RECV_BLOCKS
        ]),
        Blocked
    );
    assert_eq!(talk.log(), ["40000", "40000", "50000", "9"]);
}

#[test]
fn many_small_replies_to_one_read_stop_at_the_high_mark_too() {
    // 8,000 orders of 1,000 bytes each: 65 are obeyed and 66 would be too many. Each time all is taken, so it goes on.
    let mut talk = Talk::with_puppet(Puppet::default());
    let orders = "1000\n".repeat(8000);
    let batch = |number: usize| send_replies(bytes(number * 66_000, 66_000));
    assert_eq!(
        talk.drive([recv(orders), batch(0), batch(1), batch(2), batch(3), batch(4)]),
        Unfinished
    );
    assert_eq!(talk.log().len(), 5 * 66);
    assert_eq!(talk.drive([batch(5), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.connection.output.len(), 66_000);
}

#[test]
fn nobody_spends_more_than_a_budget_in_one_turn() {
    // The peer sends for ever and takes everything; the puppet listens, speaks, or has closed and lingers. Each drive moves
    // one budget, give or take a read and its reply, and leaves it unfinished.
    let long = Puppet::drains(vec!["60000 pause"; 100]);
    let talks = [
        ("echo", Talk::over(Kernel::default(), Echo::new())),
        ("drained", Talk::over_puppet(Kernel::default(), Puppet { opened: "60000 pause", ..long })),
        (
            "lingering",
            Talk::over_puppet(Kernel::default(), Puppet { opened: "1 close", ..Puppet::default() }),
        ),
    ];
    for (name, mut talk) in talks {
        talk.wire.arrived = 100 * READ_BYTES_MAX;
        talk.wire.room = usize::MAX;
        assert_eq!(talk.open_once(), Unfinished, "{name}");
        for _ in 0..5 {
            let before = talk.wire.read + talk.wire.sent.len();
            assert_eq!(talk.drive_once(), Unfinished, "{name}");
            let moved = talk.wire.read + talk.wire.sent.len() - before;
            assert!((4 * READ_BYTES_MAX..=6 * READ_BYTES_MAX).contains(&moved), "{name}: {moved}");
        }
    }
}

#[test]
fn who_says_little_at_a_time_does_not_have_the_turn_for_long_either() {
    // It is asked for more for ever, and has one byte each time. It is not asked a quarter of a million times in one turn.
    let mut talk = Talk::over_puppet(
        Kernel::default(),
        Puppet { opened: "1 pause", ..Puppet::drains(vec!["1 pause"; 2000]) },
    );
    talk.wire.room = usize::MAX;
    let calls_max = usize::try_from(SOURCE_BYTES_PER_TURN_MAX / STEP_BYTES).unwrap();
    assert_eq!(talk.open_once(), Unfinished);
    for _ in 0..5 {
        let before = talk.wire.sent.len();
        assert_eq!(talk.drive_once(), Unfinished);
        let said = talk.wire.sent.len() - before;
        assert!((calls_max / 2..=calls_max).contains(&said), "{said}");
    }
}

#[test]
fn a_budget_spent_with_the_last_byte_leaves_nothing_unfinished() {
    // More than a budget waits and is taken at once. There is nothing left to do, so it must not be queued.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("300000\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_writable([send_some(300_000)]), Blocked);
}

#[test]
fn a_message_that_never_ends_ends_the_conversation() {
    // One byte less than the most is waited for; there is room for one more, and then it is too long.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv(vec![b'x'; INPUT_BYTES_MAX - 1])]), Blocked);
    assert_eq!(talk.drive_readable([recv("x")]), Ended(CloseReason::InputTooLong));
    // An order that just fits is obeyed.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv(vec![b' '; INPUT_BYTES_MAX - 1])]), Blocked);
    assert_eq!(talk.drive_readable([recv("\n"), RECV_BLOCKS]), Blocked);
    assert_eq!(talk.log().len(), 1);
}

#[test]
fn who_says_more_at_once_than_may_wait_is_cut_off() {
    // What the kernel takes at once does not wait.
    let check = |order: &'static str, taken: Step| {
        let mut talk = Talk::with_puppet(Puppet { opened: order, ..Puppet::default() });
        talk.open([taken])
    };
    assert_eq!(OUTPUT_BYTES_MAX, 4_194_304);
    assert_eq!(check("4194304", SEND_BLOCKS), Blocked);
    assert_eq!(check("4194305", SEND_BLOCKS), Ended(CloseReason::OutputOverflow));
    assert_eq!(check("4194305", send_some(1)), Blocked);
}

// ---- the end

#[test]
fn half_closed_peer_still_gets_its_reply() {
    // Its FIN comes with half an order left over, and while the reply waits. Whether the protocol goes on or closes: the rest
    // is sent, and that is the end, without a FIN of ours to linger behind.
    for ended in ["3", "3 close", "3 agree"] {
        let mut talk = Talk::with_puppet(Puppet { ended, ..Puppet::default() });
        assert_eq!(talk.drive([recv("5\nhalf"), SEND_BLOCKS]), Blocked);
        assert_eq!(talk.drive_readable([FIN]), Blocked);
        assert_eq!(talk.log(), ["5", "ended half"]);
        assert_eq!(talk.drive_readable([]), Blocked, "nothing comes any more");
        assert_eq!(talk.drive_writable([send_some(7)]), Blocked);
        assert_eq!(talk.drive_writable([send_replies(bytes(7, 1))]), Ended(CloseReason::Finished));
    }
}

#[test]
fn a_peer_that_only_ends_is_let_go_at_once() {
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([FIN]), Ended(CloseReason::Finished));
    assert_eq!(talk.log(), ["ended "]);
}

#[test]
fn who_closes_first_sends_all_then_its_fin_and_waits_for_the_peers() {
    // What the peer says meanwhile is read, lest it becomes a reset, and heard by nobody.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("5 close\n6\n"), send_some(3)]), Blocked);
    assert_eq!(talk.drive_readable([]), Blocked, "first things first");
    assert_eq!(talk.drive_writable([send_replies(bytes(3, 2)), FINISH, recv("7\n")]), Blocked);
    assert_eq!(talk.drive_readable([recv("8\n")]), Blocked);
    assert_eq!(talk.drive_writable([]), Blocked);
    assert_eq!(talk.drive_readable([FIN]), Ended(CloseReason::Finished));
    assert_eq!(talk.log(), ["5 close"]);
}

#[test]
fn lingering_has_an_end_in_time() {
    // Bytes that come meanwhile do not move it.
    let mut talk = Talk::with_puppet(Puppet::default());
    talk.at_ms(1000);
    assert_eq!(talk.drive([recv("close\n"), FINISH]), Blocked);
    talk.at_ms(2500);
    assert_eq!(talk.drive_readable([recv("still here")]), Blocked);
    talk.ends_at(3000, CloseReason::Finished);
}

#[test]
fn lingering_has_an_end_in_bytes() {
    let mut talk =
        Talk::over_puppet(Kernel::default(), Puppet { opened: "close", ..Puppet::default() });
    talk.scratch = vec![0; 65_536]; // of which the bound is a multiple
    talk.wire.arrived = usize::MAX / 2;
    let mut outcome = talk.open_once();
    while outcome == Unfinished {
        assert!(talk.wire.read <= LINGER_BYTES_MAX as usize);
        outcome = talk.drive_once();
    }
    assert_eq!(
        (outcome, talk.wire.read),
        (Ended(CloseReason::Finished), LINGER_BYTES_MAX as usize)
    );
}

#[test]
fn an_agreed_end_is_not_waited_for() {
    // All has been read (the read was short), so nothing can become a reset.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("5 agree\n"), send_some(3)]), Blocked);
    assert_eq!(talk.drive_writable([send_replies(bytes(3, 2))]), Ended(CloseReason::Finished));
}

#[test]
fn a_peer_that_says_more_after_an_agreed_end_is_lingered_for() {
    // More that was read with it, or that may be in the kernel, for the read was full.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("5 agree\n6\n"), send_replies(bytes(0, 5)), FINISH]), Blocked);
    assert_eq!(talk.drive_readable([FIN]), Ended(CloseReason::Finished));
    let mut talk = Talk::with_puppet(Puppet::default());
    talk.scratch = vec![0; 8];
    assert_eq!(
        talk.drive([recv("5 agree\n"), send_replies(bytes(0, 5)), FINISH, FIN]),
        Ended(CloseReason::Finished)
    );
}

#[test]
fn a_peer_that_says_more_while_the_agreed_ends_answer_leaves_is_lingered_for_too() {
    // All had been read when the end was agreed. More came while the answer waited: unread, it would reset the connection
    // and destroy the answer's last part.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("5 agree\n"), send_some(3)]), Blocked);
    assert_eq!(talk.drive_readable([]), Blocked);
    assert_eq!(talk.drive_writable([send_replies(bytes(3, 2)), FINISH, recv("6\n")]), Blocked);
    assert_eq!(talk.drive_readable([FIN]), Ended(CloseReason::Finished));
}

#[test]
fn who_aborts_leaves_at_once_from_anywhere() {
    let aborted = Ended(CloseReason::Aborted);
    let puppet = || Puppet {
        opened: "",
        drained: ["abort"].into(),
        elapsed: "abort",
        ended: "abort",
        ..Puppet::default()
    };
    assert_eq!(Talk::with_puppet(Puppet { opened: "abort", ..puppet() }).open([]), aborted);
    assert_eq!(Talk::with_puppet(puppet()).drive([recv("abort\n")]), aborted);
    assert_eq!(Talk::with_puppet(puppet()).drive([FIN]), aborted);
    assert_eq!(Talk::with_puppet(puppet()).drive([recv("1 pause\n"), send_some(1)]), aborted);
    let mut talk = Talk::with_puppet(puppet());
    assert_eq!(talk.drive([recv("9 wake:5\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(5, []), aborted);
}

#[test]
fn the_protocol_is_told_of_the_end_once_and_last() {
    for why in [CloseReason::Finished, CloseReason::Aborted, CloseReason::Stopped] {
        let mut talk = Talk::with_puppet(Puppet::default());
        assert_eq!(talk.drive([recv("1\n"), send_some(1)]), Blocked);
        talk.connection.call_closed(why);
        assert_eq!(*talk.log.borrow(), ["1".to_owned(), format!("closed {why:?}")]);
    }
}

// ---- pauses

#[test]
fn a_paused_protocol_is_asked_for_more_when_its_output_has_fallen_to_the_low_mark() {
    // One byte above it is too early. It is asked again as long as it says something, and no more once it says nothing.
    // Meanwhile nothing is read, although there is something (the read was full).
    let mut talk =
        Talk::with_puppet(Puppet::drains(["1000 pause", "2000 pause", "pause", "abort"]));
    assert_eq!(LOW_WATERMARK_BYTES, 16_384);
    talk.scratch = vec![0; 12];
    assert_eq!(talk.drive([recv("20000 pause\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_writable([send_some(3615)]), Blocked);
    assert_eq!(talk.log(), ["20000 pause"]);
    assert_eq!(talk.drive_writable([send_some(1)]), Blocked);
    assert_eq!(talk.log(), ["20000 pause", "drained"]);
    let steps = [send_replies(bytes(3616, 17_384)), send_replies(bytes(21_000, 2000))];
    assert_eq!(talk.drive_writable(steps), Blocked);
    assert_eq!(talk.log(), ["20000 pause", "drained", "drained", "drained"]);
    assert_eq!(talk.drive_writable([]), Blocked);
    assert_eq!(talk.drive_readable([]), Blocked);
    assert_eq!(talk.log().len(), 4);
}

#[test]
fn who_had_nothing_to_say_is_not_asked_again_and_again() {
    // Its output is below the low mark and has not gone yet. It may have nothing to add until its alarm rings; the loop must
    // not go in circles meanwhile.
    let mut talk = Talk::with_puppet(Puppet { elapsed: "pause", ..Puppet::drains(["pause"; 9]) });
    assert_eq!(talk.drive([recv("20000 wake:500 pause\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_writable([send_some(10_000)]), Blocked);
    assert_eq!(talk.log(), ["20000 wake:500 pause", "drained"]);
    assert_eq!(talk.expire_at(500, []), Blocked);
    assert_eq!(talk.drive_writable([send_some(10_000)]), Blocked);
    assert_eq!(talk.log(), ["20000 wake:500 pause", "drained", "elapsed"]);
}

#[test]
fn a_pause_ends_with_what_was_carried_and_then_with_what_the_kernel_has() {
    // The order behind the pause comes before anything is read; all the while no edge was needed.
    let mut talk = Talk::with_puppet(Puppet::drains([""]));
    talk.scratch = vec![0; 10];
    assert_eq!(talk.drive([recv("5 pause\n6\n"), SEND_BLOCKS, RECV_BLOCKS]), Blocked);
    assert_eq!(talk.log(), ["5 pause", "drained", "6"], "so little is below the low mark already");
    let mut talk = Talk::with_puppet(Puppet::drains([""]));
    talk.scratch = vec![0; 14];
    assert_eq!(talk.drive([recv("20000 pause\n6\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(
        talk.drive_writable([
            send_some(20_000),
            send_replies(bytes(20_000, 6)),
            recv("7\n"),
            send_some(7)
        ]),
        Blocked
    );
    assert_eq!(talk.log(), ["20000 pause", "drained", "6", "7"]);
}

#[test]
fn a_long_answer_to_a_half_closed_peer_is_produced_to_its_end() {
    // It is asked for more after the FIN as before it, and the end comes when it has no more.
    for last in ["", "close", "agree"] {
        let mut talk = Talk::with_puppet(Puppet {
            ended: "20000 pause",
            ..Puppet::drains(["20000 pause", last])
        });
        assert_eq!(talk.drive([FIN, SEND_BLOCKS]), Blocked);
        assert_eq!(talk.drive_writable([send_some(20_000), send_some(100)]), Blocked);
        assert_eq!(talk.log(), ["ended ", "drained"]);
        assert_eq!(talk.drive_writable([send_some(10_000)]), Blocked);
        assert_eq!(
            talk.drive_writable([send_replies(bytes(30_100, 9900))]),
            Ended(CloseReason::Finished)
        );
        assert_eq!(talk.log(), ["ended ", "drained", "drained"]);
    }
}

#[test]
fn ten_mebibytes_are_produced_piece_by_piece_in_the_memory_of_one() {
    // The kernel takes a little or much at a time. No more ever waits than the low mark and one piece.
    for room in [1000, LOW_WATERMARK_BYTES, LOW_WATERMARK_BYTES + 1, 65_536, 3_000_000] {
        let pieces = ["65536 pause"; 159].into_iter().chain(["close"]);
        let mut talk = Talk::over_puppet(
            Kernel::default(),
            Puppet { opened: "65536 pause", ..Puppet::drains(pieces) },
        );
        talk.wire.has_fin = true;
        let mut outcome = talk.open_once();
        while !matches!(outcome, Ended(_)) {
            assert!(talk.connection.output.len() <= LOW_WATERMARK_BYTES + 65_536);
            (talk.wire.room, talk.ready.writable) = (room, true);
            outcome = talk.drive_once();
        }
        assert_eq!(outcome, Ended(CloseReason::Finished));
        assert!(
            talk.wire.is_finished && talk.wire.sent == bytes(0, 10 * 1024 * 1024),
            "all of it, and then the FIN"
        );
    }
}

#[test]
fn a_pause_behind_older_output_ends_when_that_has_drained() {
    // The protocol pauses because a reply waits, not to say more. When the reply has gone it must be told.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("60000\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_readable([recv("pause\n")]), Blocked);
    assert_eq!(talk.drive_writable([send_replies(bytes(0, 60_000))]), Blocked);
    assert_eq!(talk.log(), ["60000", "pause", "drained"]);
    // The same where it pauses because the peer has ended.
    let mut talk = Talk::with_puppet(Puppet { ended: "pause", ..Puppet::drains(["5 close"]) });
    assert_eq!(talk.drive([recv("60000\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_readable([FIN]), Blocked);
    assert_eq!(
        talk.drive_writable([send_some(60_000), send_replies(bytes(60_000, 5))]),
        Ended(CloseReason::Finished)
    );
    assert_eq!(talk.log(), ["60000", "ended ", "drained"]);
}

#[test]
fn a_pause_means_the_same_whether_its_order_came_alone_or_with_others() {
    // Bytes are not messages. In both cases the kernel has taken the reply before it at once, so nothing has to drain.
    let mut together = Talk::with_puppet(Puppet::drains(["pause"]));
    assert_eq!(together.drive([recv("5\npause\n"), send_some(5)]), Blocked);
    let mut apart = Talk::with_puppet(Puppet::drains(["pause"]));
    assert_eq!(apart.drive([recv("5\n"), send_some(5)]), Blocked);
    assert_eq!(apart.drive_readable([recv("pause\n")]), Blocked);
    assert_eq!(together.log(), apart.log());
}

// ---- alarms

#[test]
fn an_alarm_rings_at_its_time_and_once() {
    // What was asked for last counts.
    let mut talk = Talk::with_puppet(Puppet { elapsed: "3", ..Puppet::default() });
    talk.at_ms(1000);
    assert_eq!(talk.drive([recv("wake:500\nwake:700\n")]), Blocked);
    assert_eq!(talk.expire_at(1500, []), Blocked);
    assert_eq!(talk.expire_at(1699, []), Blocked);
    assert_eq!(talk.log().len(), 2);
    assert_eq!(talk.expire_at(1700, [send_replies(bytes(0, 3))]), Blocked);
    assert_eq!(talk.log(), ["wake:500", "wake:700", "elapsed"]);
    assert_eq!(talk.expire_at(20_000, []), Blocked);
    assert_eq!(talk.log().len(), 3);
}

#[test]
fn an_alarm_that_was_taken_back_does_not_ring() {
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("wake:500\nsleep\n")]), Blocked);
    assert_eq!(talk.expire_at(500, []), Blocked);
    talk.ends_at(60_000, CloseReason::IdleTimeout);
}

#[test]
fn an_alarm_can_be_set_again_and_again() {
    let mut talk = Talk::with_puppet(Puppet {
        opened: "wake:100",
        elapsed: "1 wake:100",
        ..Puppet::default()
    });
    assert_eq!(talk.open([RECV_BLOCKS]), Blocked);
    for ms in [100, 200, 300] {
        assert_eq!(talk.expire_at(ms - 1, []), Blocked);
        assert_eq!(talk.expire_at(ms, [send_some(1)]), Blocked);
    }
}

#[test]
fn an_alarm_ends_a_pause_and_reads_what_has_come_meanwhile() {
    // Nothing was said, so nothing drains: only the alarm is left.
    let mut talk = Talk::with_puppet(Puppet { elapsed: "", ..Puppet::default() });
    assert_eq!(talk.drive([recv("wake:500 pause\n1\n")]), Blocked);
    assert_eq!(talk.drive_readable([]), Blocked);
    assert_eq!(talk.expire_at(500, [send_some(1), recv("2\n"), send_some(2)]), Blocked);
    assert_eq!(talk.log(), ["wake:500 pause", "elapsed", "1", "2"]);
}

#[test]
fn an_alarm_that_keeps_up_a_pause_does_not_cost_it_its_call() {
    // It has nothing to add. What was said before the pause still waits, and so does the protocol.
    let mut talk = Talk::with_puppet(Puppet { elapsed: "pause", ..Puppet::default() });
    assert_eq!(talk.drive([recv("20000 wake:500 pause\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(500, []), Blocked);
    assert_eq!(talk.drive_writable([send_some(20_000)]), Blocked);
    assert_eq!(talk.log(), ["20000 wake:500 pause", "elapsed", "drained"]);
}

#[test]
fn what_an_alarm_says_does_not_overtake_what_waits() {
    // It rings in the same turn in which the kernel can be written again.
    let mut talk = Talk::with_puppet(Puppet { elapsed: "5", ..Puppet::default() });
    assert_eq!(talk.drive([recv("9 wake:500\n"), send_some(2)]), Blocked);
    talk.ready.writable = true;
    assert_eq!(talk.expire_at(500, [send_replies(bytes(2, 12))]), Blocked);
}

#[test]
fn an_alarm_may_end_the_conversation() {
    // As `Protocol` does unless it is told otherwise. It keeps the peer's answer whole, and its own time.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("9 wake:500\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(500, []), Blocked);
    assert_eq!(talk.drive_writable([send_replies(bytes(0, 9)), FINISH]), Blocked);
    assert_eq!(talk.drive_readable([FIN]), Ended(CloseReason::Finished));
}

#[test]
fn an_alarm_does_not_ring_for_who_has_closed() {
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("9 wake:500 close\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(500, []), Blocked);
    assert_eq!(talk.drive_writable([send_replies(bytes(0, 9)), FINISH]), Blocked);
    talk.ends_at(2500, CloseReason::Finished);
    assert_eq!(talk.log(), ["9 wake:500 close"]);
}

/// Found by a simulated schedule, in which the conversation came to life again and heard the peer's FIN twice.
#[test]
fn a_late_alarm_does_not_ring_once_the_last_word_has_been_said() {
    // The loop was held up. Looking at the connection before it rings, it meets the peer's FIN, or an order to close.
    for (last, farewell) in [(FIN, "ended "), (recv("9 close\n"), "9 close")] {
        let mut talk = Talk::with_puppet(Puppet { ended: "9", elapsed: "", ..Puppet::default() });
        assert_eq!(talk.drive([recv("wake:500\n")]), Blocked);
        assert_eq!(talk.expire_at(600, [last, SEND_BLOCKS]), Blocked);
        assert_eq!(talk.log(), ["wake:500", farewell]);
        assert!(!talk.connection.wants_read());
    }
}

// ---- its own deadlines

#[test]
fn a_peer_that_never_says_anything_is_ended_after_half_a_minute() {
    // Whatever it is told meanwhile, if it takes that. Its first byte ends this, and begins the minute of the others.
    let mut talk = Talk::with(Echo::new());
    assert_eq!(talk.drive([RECV_BLOCKS]), Blocked);
    talk.ends_at(30_000, CloseReason::FirstByteTimeout);
    let mut talk =
        Talk::with_puppet(Puppet { opened: "5 wake:10000", elapsed: "5", ..Puppet::default() });
    assert_eq!(talk.open([send_some(5), RECV_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(10_000, [send_some(5)]), Blocked);
    talk.ends_at(40_000, CloseReason::FirstByteTimeout);
    let mut talk = Talk::with(Echo::new());
    talk.at_ms(29_999);
    assert_eq!(talk.drive([recv("x"), send_replies("x")]), Blocked);
    talk.ends_at(89_999, CloseReason::IdleTimeout);
}

#[test]
fn a_peer_that_falls_silent_is_idle_after_a_minute() {
    // The minute begins with the last byte, either way.
    let mut talk = Talk::with(Echo::new());
    talk.at_ms(10_000);
    assert_eq!(talk.drive([recv("x"), SEND_BLOCKS]), Blocked);
    talk.at_ms(20_000);
    assert_eq!(talk.drive_writable([send_replies("x")]), Blocked);
    talk.ends_at(80_000, CloseReason::IdleTimeout);
}

#[test]
fn a_peer_that_takes_nothing_is_too_slow_after_half_a_minute() {
    // Each byte that it takes gives it another one. Nothing else does, such as a look of the kernel's that was for nothing.
    let wait = || {
        let mut talk = Talk::with_puppet(Puppet::default());
        talk.at_ms(1000);
        assert_eq!(talk.drive([recv("9\n"), SEND_BLOCKS]), Blocked);
        talk
    };
    wait().ends_at(31_000, CloseReason::WriteTimeout);
    let mut talk = wait();
    talk.at_ms(30_000);
    assert_eq!(talk.drive_writable([send_some(1)]), Blocked);
    talk.at_ms(40_000);
    assert_eq!(talk.drive_writable([SEND_BLOCKS]), Blocked);
    talk.ends_at(60_000, CloseReason::WriteTimeout);
}

#[test]
fn a_peer_that_takes_nothing_of_the_last_answer_is_too_slow_as_well() {
    for order in ["9 close\n", "9 agree\n"] {
        let mut talk = Talk::with_puppet(Puppet::default());
        talk.at_ms(1000);
        assert_eq!(talk.drive([recv(order), SEND_BLOCKS]), Blocked);
        talk.ends_at(31_000, CloseReason::WriteTimeout);
    }
}

#[test]
fn a_peer_that_takes_nothing_is_too_slow_whoever_talks() {
    // It sends a little every twenty seconds, and so is never idle; but its replies wait since the first.
    let mut talk = Talk::with(Echo::new());
    assert_eq!(talk.drive([recv("x"), SEND_BLOCKS]), Blocked);
    talk.at_ms(20_000);
    assert_eq!(talk.drive_readable([recv("x")]), Blocked);
    talk.ends_at(30_000, CloseReason::WriteTimeout);
    // Nor does it help that an alarm says more.
    let mut talk = Talk::with_puppet(Puppet { elapsed: "1 wake:20000", ..Puppet::default() });
    assert_eq!(talk.drive([recv("9 wake:20000\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(20_000, []), Blocked);
    talk.ends_at(30_000, CloseReason::WriteTimeout);
}

#[test]
fn what_an_alarm_has_sent_counts_as_a_byte_that_moved() {
    // A server that pushes something every 40 seconds to a peer that only listens.
    let mut talk = Talk::with_puppet(Puppet {
        opened: "wake:40000",
        elapsed: "5 wake:40000",
        ..Puppet::default()
    });
    assert_eq!(talk.open([RECV_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(40_000, [send_replies(bytes(0, 5))]), Blocked);
    assert_eq!(talk.expire_at(60_000, []), Blocked, "the last byte moved 20 seconds ago");
    assert_eq!(talk.expire_at(80_000, [send_replies(bytes(5, 5))]), Blocked);
}

#[test]
fn who_takes_nothing_is_not_excused_by_what_it_sends() {
    // Its time is up, and in the last look there are orders without end, but no room for their answers.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("9\n"), SEND_BLOCKS]), Blocked);
    talk.at_ms(30_000);
    assert_eq!(
        talk.expire_at(30_000, [SEND_BLOCKS, recv("9\n")]),
        Ended(CloseReason::WriteTimeout)
    );
}

#[test]
fn a_peer_is_given_its_time_from_when_something_waits_for_it() {
    // Nothing moved for 40 seconds; then an alarm says more than the kernel takes.
    for taken in [send_some(2), SEND_BLOCKS] {
        let mut talk = Talk::with_puppet(Puppet { elapsed: "5", ..Puppet::default() });
        assert_eq!(talk.drive([recv("wake:40000\n")]), Blocked);
        assert_eq!(talk.expire_at(40_000, [taken]), Blocked);
        talk.ends_at(70_000, CloseReason::WriteTimeout);
    }
    // Or it ends a pause, and what was carried is answered.
    for (taken, ends_at, why) in [
        (send_some(2), 70_000, CloseReason::WriteTimeout),
        (SEND_BLOCKS, 70_000, CloseReason::WriteTimeout),
        (send_some(5), 100_000, CloseReason::IdleTimeout),
    ] {
        let mut talk = Talk::with_puppet(Puppet { elapsed: "", ..Puppet::default() });
        assert_eq!(talk.drive([recv("wake:40000 pause\n5\n")]), Blocked);
        assert_eq!(talk.expire_at(40_000, [taken]), Blocked);
        talk.ends_at(ends_at, why);
    }
}

/// Found by a simulated schedule: it was to be looked at in a moment that had passed, and so in every turn.
#[test]
fn a_peer_may_be_given_longer_to_read_than_to_speak() {
    let mut talk = Talk::with(Echo::new());
    (talk.state.limits.idle_timeout_ms, talk.state.limits.write_timeout_ms) = (5_000, 20_000);
    assert_eq!(talk.drive([recv("abc"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.expire_at(5_000, []), Blocked);
    let look_at = talk.connection.filing_time(&talk.state.limits, talk.state.clock.now);
    assert!(
        look_at > talk.state.clock.now && look_at <= talk.connection.deadline(&talk.state.limits)
    );
    talk.ends_at(20_000, CloseReason::WriteTimeout);
}

// ---- the stop

#[test]
fn only_who_has_begun_nothing_is_idle() {
    // These are closed without further ado when the reactor stops.
    let is_idle = |steps: [Step; 2]| {
        let mut talk = Talk::with_puppet(Puppet::default());
        assert_eq!(talk.drive(steps), Blocked);
        talk.connection.is_idle()
    };
    assert!(is_idle([recv("5\n"), send_some(5)]));
    assert!(!is_idle([recv("5\n"), send_some(4)]), "output waits");
    assert!(!is_idle([recv("5\nhal"), send_some(5)]), "half an order is here");
    assert!(!is_idle([recv("wake:9 5 pause\n"), SEND_BLOCKS]), "it pauses");
    assert!(!is_idle([recv("close\n"), FINISH]), "it lingers");
}

#[test]
fn who_is_idle_can_be_ended_from_our_side() {
    // As when the protocol closes: a FIN, and what was under way towards us is discarded.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("1\n"), send_some(1)]), Blocked);
    talk.at_ms(10_000);
    talk.connection.close_idle();
    assert_eq!(talk.drive([FINISH]), Blocked);
    assert_eq!(talk.drive_readable([recv("2\n")]), Blocked);
    assert_eq!(talk.log(), ["1"]);
    talk.ends_at(12_000, CloseReason::Finished);
}

// ---- whatever the kernel does

/// Repeats what it hears, in units: all that there is, a byte at a time, or a line at a time, each `times` over.
#[derive(Clone, Copy, Debug)]
enum Parrot {
    All,
    Bytes { times: usize },
    Lines { times: usize },
}

impl Parrot {
    /// The first unit of `input`, if it is there.
    fn unit(self, input: &[u8]) -> Option<usize> {
        match self {
            Parrot::All => Some(input.len()),
            Parrot::Bytes { .. } => Some(1),
            Parrot::Lines { .. } => input.iter().position(|&byte| byte == b'\n').map(|end| end + 1),
        }
    }

    fn times(self) -> usize {
        match self {
            Parrot::All => 1,
            Parrot::Bytes { times } | Parrot::Lines { times } => times,
        }
    }

    /// What the peer of a parrot should hear.
    fn expected(self, mut input: &[u8]) -> Vec<u8> {
        let mut expected = Vec::new();
        while !input.is_empty() {
            let (unit, rest) = input.split_at(self.unit(input).unwrap_or(input.len()));
            (0..self.times()).for_each(|_| expected.extend_from_slice(unit));
            input = rest;
        }
        expected
    }
}

impl Protocol for Parrot {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let Some(count) = self.unit(input) else { return Advance::need_more() };
        (0..self.times()).for_each(|_| cx.send_borrowed(&input[..count]));
        Advance::consumed(count)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        (0..self.times()).for_each(|_| cx.send(rest));
        Next::Close
    }
}

#[derive(Clone, Copy, Debug)]
enum News {
    /// So many bytes arrive; with an urgent mark before so many of them.
    Arrives(usize, Option<usize>),
    /// The peer takes so many bytes, which makes room for as many.
    Takes(usize),
    /// The kernel says readable and writable for no reason.
    Nothing,
}

impl Talk<Kernel> {
    fn hear(&mut self, news: News) {
        match news {
            News::Arrives(count, mark) => {
                self.wire.urgent_mark =
                    mark.map(|mark| self.wire.arrived + mark.min(count)).or(self.wire.urgent_mark);
                self.wire.arrived += count;
                self.ready.readable |= count > 0;
                self.ready.read_until_would_block |= mark.is_some();
            }
            News::Takes(count) => {
                self.wire.room += count;
                self.ready.writable |= count > 0;
            }
            News::Nothing => (self.ready.readable, self.ready.writable) = (true, true),
        }
        self.drive_until_blocked();
    }

    fn drive_until_blocked(&mut self) -> Outcome {
        let mut outcome = Unfinished;
        while outcome == Unfinished {
            outcome = self.drive_once();
            // The most that can wait: the high mark, overshot by one reply.
            assert!(
                self.connection.output.len()
                    <= HIGH_WATERMARK_BYTES + READ_BYTES_MAX + PREFIX.len()
            );
        }
        if outcome == Blocked {
            self.check_that_nothing_is_forgotten();
        }
        outcome
    }

    /// It waits for the kernel, so the kernel must still have an edge to give.
    fn check_that_nothing_is_forgotten(&self) {
        let has_input = self.wire.read < self.wire.arrived || self.wire.has_fin;
        assert!(
            !(self.connection.wants_read() && has_input),
            "there is input, and no edge will come for it"
        );
        assert!(
            !(self.connection.wants_write() && self.wire.room > 0),
            "there is room, and no edge will come for it"
        );
    }

    /// The peer sends its FIN and takes what comes until the end, `at_a_time` bytes at a time.
    fn hear_out(&mut self, at_a_time: usize) {
        self.wire.has_fin = true;
        (self.ready.readable, self.ready.read_until_would_block) = (true, true);
        while self.drive_until_blocked() == Blocked {
            assert!(self.wire.room == 0, "all room was used, and it waits for more");
            self.wire.room = at_a_time;
            self.ready.writable = true;
        }
    }
}

const PREFIX: &[u8] = b"echo -> ";

fn any_news() -> impl Strategy<Value = News> {
    let arrives = |most: usize| (0..most).prop_map(|count| News::Arrives(count, None));
    let marked =
        (1..3000usize, 0..3000usize).prop_map(|(count, mark)| News::Arrives(count, Some(mark)));
    prop_oneof![
        4 => arrives(20),
        2 => arrives(3000),
        1 => arrives(100_000),
        1 => marked,
        4 => (0..20usize).prop_map(News::Takes),
        2 => (0..100_000usize).prop_map(News::Takes),
        1 => Just(News::Nothing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the input is cut, however little the kernel takes at a time, whenever it interrupts: every byte is heard
    /// once and in order, every reply arrives whole, nothing is forgotten, and no more waits than may.
    #[test]
    fn every_byte_is_heard_and_every_reply_arrives(
        parrot in prop_oneof![
            Just(Parrot::All),
            (1..4usize).prop_map(|times| Parrot::Bytes { times }),
            Just(Parrot::Bytes { times: 300 }),
            (1..20usize).prop_map(|times| Parrot::Lines { times }),
        ],
        news in prop::collection::vec(any_news(), 0..30),
        interrupts_every in prop_oneof![Just(0usize), 2..5usize],
        at_a_time in prop_oneof![900..1100usize, 1..200_000usize],
    ) {
        let mut talk = Talk::over(Kernel { interrupts_every, ..Kernel::default() }, parrot);
        // As much output from all of them, and not so much that the test takes long.
        let scale = |news| match news {
            News::Arrives(count, mark) => News::Arrives(count.min(100_000 / parrot.times()), mark),
            News::Takes(_) | News::Nothing => news,
        };
        news.into_iter().for_each(|news| talk.hear(scale(news)));
        talk.hear_out(at_a_time);
        prop_assert_eq!(talk.wire.read, talk.wire.arrived);
        let expected = parrot.expected(&bytes(0, talk.wire.arrived));
        prop_assert!(talk.wire.sent == expected, "{} bytes sent, {} expected", talk.wire.sent.len(), expected.len());
    }

    /// The same for the echo, with and without its prefix: which stands before what each read brought, and nowhere else.
    #[test]
    fn an_echo_is_exact(
        has_prefix in any::<bool>(),
        news in prop::collection::vec(any_news(), 0..30),
        at_a_time in prop_oneof![900..1100usize, 1..200_000usize],
    ) {
        let prefix = if has_prefix { PREFIX } else { b"" };
        let mut talk = Talk::over(Kernel::default(), Echo::with_prefix(prefix));
        news.into_iter().for_each(|news| talk.hear(news));
        talk.hear_out(at_a_time);
        let (mut expected, mut heard) = (Vec::new(), 0);
        for &count in &talk.wire.reads {
            expected.extend_from_slice(prefix);
            expected.extend(bytes(heard, count));
            heard += count;
        }
        prop_assert_eq!(heard, talk.wire.arrived);
        prop_assert!(talk.wire.sent == expected, "{} bytes sent, {} expected", talk.wire.sent.len(), expected.len());
    }
}
