//! Every kind of line in the trace log, made by real sockets and compared with docs/trace.md.
//!
//! A logger collects the lines. Reactor and peers share the test's thread, so each test reads its
//! own.

#![cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};
use mio_reactor::{
    Advance, Batching, CloseReason, Context, Datagram, DatagramProtocol, Echo, Limits,
    ListenOptions, Next, Protocol, Reactor, Replies,
};

use common::{TIMEOUT, any_port, connect, connect_udp, reset, turn_until};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps each line for the thread that has written it.
struct Collector;

impl Log for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "mio_reactor::trace"
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

fn reactor() -> Reactor {
    static COLLECTS: Once = Once::new();
    COLLECTS.call_once(|| {
        log::set_logger(&Collector).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    Reactor::new(Limits::default()).unwrap()
}

/// Returns the first line so far that contains `text`.
fn find(text: &str) -> Option<String> {
    LINES.with_borrow(|lines| lines.iter().find(|line| line.contains(text)).cloned())
}

/// Runs turns, and `step` after each, until a line contains `text`.
#[track_caller]
fn turn_until_logged(reactor: &mut Reactor, text: &str, mut step: impl FnMut()) {
    let deadline = Instant::now() + TIMEOUT;
    while find(text).is_none() {
        assert!(Instant::now() < deadline, "no {text:?}: {:#?}", LINES.take());
        reactor.turn(Some(Duration::from_millis(1))).unwrap();
        step();
    }
}

/// Waits for nothing, sets its timer when it is opened, and does with its first byte as it says:
/// `a` aborts, `p` pauses.
struct OnByte;

impl Protocol for OnByte {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.set_timer(Duration::from_millis(1));
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        let next = if input[0] == b'a' { Next::Abort } else { Next::Pause };
        Advance { next, ..Advance::consumed(input.len()) }
    }
}

/// Echoes datagrams, one in each call.
struct Single;

impl DatagramProtocol for Single {
    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        replies.send(datagram.payload);
    }

    fn batching(&self) -> Batching {
        Batching::Plain
    }
}

/// A stream is opened, echoed and closed.
fn echo(reactor: &mut Reactor) {
    let address = reactor.listen(any_port(), |_| Echo::new()).unwrap();
    let mut peer = connect(address);
    peer.write_all(b"hello").unwrap();
    turn_until_logged(reactor, "send(5) = 5", || {});
    peer.shutdown(Shutdown::Write).unwrap();
    turn_until_logged(reactor, "free: finished", || {});
}

/// A peer does not read, and then does.
fn slow_reader(reactor: &mut Reactor) {
    let address = reactor.listen(any_port(), |_| Echo::new()).unwrap();
    let mut peer = connect(address);
    peer.set_nonblocking(true).unwrap();
    let block = vec![7; 1 << 20];
    turn_until_logged(reactor, "EPOLL_CTL_MOD", || match peer.write(&block) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    });
    let mut room = vec![0; 1 << 20];
    turn_until_logged(reactor, "TCP_NOTSENT_LOWAT", || {
        while peer.read(&mut room).is_ok_and(|count| count > 0) {}
    });
}

/// A protocol aborts; and the peer of one that has paused resets.
fn aborts(reactor: &mut Reactor) {
    let address = reactor.listen(any_port(), |_| OnByte).unwrap();
    let mut peer = connect(address);
    peer.write_all(b"a").unwrap();
    turn_until_logged(reactor, "SO_LINGER", || {});
    let mut peer = connect(address);
    peer.write_all(b"p").unwrap();
    let bytes_before = reactor.stats().bytes_in;
    turn_until(reactor, "it has paused", |stats| stats.bytes_in > bytes_before);
    reset(peer);
    turn_until_logged(reactor, "peer check", || {});
}

/// The timer of one connection is due, and that of its neighbour is not.
fn timers(reactor: &mut Reactor) {
    let echoing = reactor.listen(any_port(), |_| Echo::new()).unwrap();
    let _silent = connect(echoing);
    turn_until_logged(reactor, "accept4() = slot", || {});
    let timed = reactor.listen(any_port(), |_| OnByte).unwrap();
    let _peer = connect(timed);
    turn_until_logged(reactor, ": due", || {});
    turn_until_logged(reactor, "not due", || {});
    reactor.run_every(Duration::from_millis(1), |_| ControlFlow::Break(()));
    turn_until_logged(reactor, "unfinished", || {});
}

fn outbound(reactor: &mut Reactor) {
    let server = TcpListener::bind(any_port()).unwrap();
    reactor.connect(server.local_addr().unwrap(), Echo::new());
    turn_until_logged(reactor, "getsockopt(SO_ERROR)", || {});
}

fn datagrams(reactor: &mut Reactor) {
    let check = |reactor: &mut Reactor, address: SocketAddr, call: &str| {
        let peer: UdpSocket = connect_udp(address);
        peer.send(b"hello").unwrap();
        turn_until_logged(reactor, call, || {});
    };
    let batches = reactor.bind_datagram(any_port(), Echo::new()).unwrap();
    check(reactor, batches, "sendmmsg(1) = 1");
    let single = reactor.bind_datagram(any_port(), Single).unwrap();
    check(reactor, single, "sendto(5) = 5");
}

/// A stop, with an idle connection, a datagram socket, and a listener that defers.
fn stop(reactor: &mut Reactor) {
    let options = ListenOptions::default().with_deferred_accept(true);
    reactor.listen_with(any_port(), &options, |_| Echo::new()).unwrap();
    reactor.bind_datagram(any_port(), Echo::new()).unwrap();
    let address = reactor.listen(any_port(), |_| Echo::new()).unwrap();
    let peer = connect(address);
    turn_until_logged(reactor, "accept4() = slot", || {});
    reactor.stop();
    turn_until_logged(reactor, "shutdown(SHUT_WR)", || {});
    drop(peer);
    reactor.run().unwrap();
}

/// Returns the patterns of the legend: the fixed parts between what stands in angle brackets.
fn legend() -> Vec<(String, Vec<String>)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/trace.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let fixed = |row: &str| {
        let mut parts = vec![String::new()];
        for (number, part) in row.split(['<', '>']).enumerate() {
            match number % 2 {
                0 => parts.last_mut().unwrap().push_str(part),
                _ => parts.push(String::new()),
            }
        }
        parts
    };
    rows.map(|(row, _)| (row.to_owned(), fixed(row))).collect()
}

/// Returns whether `text` consists of the `parts`, with anything in between.
fn matches(parts: &[String], text: &str) -> bool {
    let Some((first, rest)) = parts.split_first() else { return false };
    let Some(text) = text.strip_prefix(first.as_str()) else { return false };
    let Some((last, between)) = rest.split_last() else { return text.is_empty() };
    let Some(mut text) = text.strip_suffix(last.as_str()) else { return false };
    between.iter().all(|part| match text.split_once(part.as_str()) {
        Some((_, behind)) => {
            text = behind;
            true
        }
        None => false,
    })
}

/// Returns what a line says behind the turn, the stage and the slot.
fn said(line: &str) -> &str {
    let words = line.strip_prefix("turn ").and_then(|rest| rest.split_once(' '));
    let (turn, rest) = words.unwrap_or_else(|| panic!("no turn: {line}"));
    assert!(turn.parse::<u64>().is_ok(), "{line}");
    let (stage, rest) = rest.split_at(7);
    let stages = ["owner", "wait", "note", "drive", "expire", "reap"];
    assert!(stages.contains(&stage.trim_end()) && stage.ends_with(' '), "{line}");
    match rest.strip_prefix("slot ").and_then(|rest| rest.split_once(": ")) {
        Some((slot, said)) => {
            assert!(slot.parse::<usize>().is_ok(), "{line}");
            said
        }
        None => rest,
    }
}

// pitfall: 242
#[test]
fn each_line_of_the_legend_is_written_and_no_other() {
    let scenes = [echo, slow_reader, aborts, timers, outbound, datagrams, stop];
    let mut written = Vec::new();
    for scene in scenes {
        scene(&mut reactor());
        written.extend(LINES.take());
    }
    let legend = legend();
    // The row of the events begins with what differs, so it is tried last.
    let (events, fixed): (Vec<_>, Vec<_>) =
        legend.iter().partition(|(row, _)| row.starts_with('<'));
    let mut missing: Vec<&str> = legend.iter().map(|(row, _)| row.as_str()).collect();
    for line in &written {
        let said = said(line);
        let row = fixed.iter().chain(&events).find(|(_, parts)| matches(parts, said));
        let (row, _) = row.unwrap_or_else(|| panic!("the legend has no row for: {line}"));
        let is_of_events = row.starts_with('<');
        assert_eq!(is_of_events, line.contains(" note   slot ") && !said.contains('('), "{line}");
        missing.retain(|missing| missing != row);
    }
    assert!(missing.is_empty(), "no scene has written: {missing:#?}\n{written:#?}");
}

#[test]
fn turn_is_traced_in_the_order_of_its_stages() {
    let mut reactor = reactor();
    echo(&mut reactor);
    let lines = LINES.take();
    let mut last = (0, 0);
    for line in &lines {
        let mut words = line.split_whitespace().skip(1);
        let (turn, stage) = (words.next().unwrap().parse::<u64>().unwrap(), words.next().unwrap());
        let stages = ["wait", "note", "drive", "expire", "reap", "owner"];
        let at = (turn, stages.iter().position(|it| *it == stage).unwrap());
        assert!(last <= at, "{lines:#?}");
        last = at;
    }
}

#[test]
fn lines_of_expire_and_reap_name_their_stage() {
    let mut reactor = reactor();
    timers(&mut reactor);
    echo(&mut reactor);
    for (text, stage) in
        [(": due", "expire"), ("not due", "expire"), ("close()", "reap"), ("free: ", "reap")]
    {
        let line = find(text).unwrap();
        assert!(line.contains(&format!(" {stage} ")), "{line}");
    }
}

/// Panics when it is closed.
struct NoClose;

impl Protocol for NoClose {
    fn advance(&mut self, _: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::need_more()
    }

    fn closed(&mut self, _: CloseReason) {
        panic!("a panic for the test");
    }
}

#[test]
fn call_of_the_owner_between_turns_belongs_to_no_stage() {
    // Also after a turn in whose last stage a protocol has panicked.
    let mut reactor = reactor();
    let address = reactor.listen(any_port(), |_| NoClose).unwrap();
    drop(TcpStream::connect(address).unwrap());
    turn_until_logged(&mut reactor, "free: ", || {});
    LINES.take();
    reactor.listen(any_port(), |_| Echo::new()).unwrap();
    let lines = LINES.take();
    assert!(lines.iter().all(|line| line.contains(" owner  slot ")), "{lines:#?}");
    assert_eq!(lines.len(), 2, "{lines:#?}");
}
