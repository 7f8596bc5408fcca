//! The legend of the trace log in docs/trace.md, and the recorded turn in docs/architecture.md.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;

use super::files::{read, root};
use super::markdown::{blocks, rows, section, without_backticks};
use crate::common::{Program, connect, retry_interrupted};

const PAGE: &str = "docs/architecture.md";
const HEADING: &str = "One request, followed";
const REQUEST: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";
/// The slot of the first connection, behind a stop signal and three services.
const SLOT: &str = "slot 4: ";
/// The number of the recorded turn on the page. In the recording it may be one less: the program
/// may accept the connection in its first turn or in its second.
const TURN: u64 = 4;

/// Returns the value of the constant `name` where there is epoll.
fn constant(source: &str, name: &str) -> String {
    let start = format!("const {name}: &str = if HAS_EPOLL {{ \"");
    let behind = source.split_once(&start).map(|(_, behind)| behind);
    let value = behind.and_then(|behind| behind.split('"').next());
    value.unwrap_or_else(|| panic!("src/trace.rs defines {name}")).to_owned()
}

/// Returns a format of the source as the legend has it: `<name>` for `{name}`, and the value of a
/// constant for its name.
fn as_in_legend(format: &str, source: &str) -> String {
    let mut shown = String::new();
    for (number, part) in format.split(['{', '}']).enumerate() {
        let is_constant = part.chars().all(|c| c.is_ascii_uppercase());
        match number % 2 {
            0 => shown += part,
            _ if is_constant => shown += &constant(source, part),
            _ => shown.extend(["<", part, ">"]),
        }
    }
    shown
}

#[test]
fn legend_has_each_line_that_the_code_can_write() {
    let source = read("src/trace.rs");
    let (_, behind) = source.split_once("impl Display for Line").expect("the lines are displayed");
    let display = behind.split("\n}\n").next().expect("a split has a first part");
    let formats = display.split("write!(").skip(1).map(|call| {
        let format = call.split('"').nth(1).expect("a call of write! has a format");
        as_in_legend(format, &source)
    });
    let written: BTreeSet<String> = formats.collect();
    let page = read("docs/trace.md");
    let rows = rows(section(&page, "The lines"));
    let explained: Vec<&str> =
        rows.iter().map(|row| without_backticks(row[0], "the legend")).collect();
    assert_eq!(explained.len(), written.len(), "one row for each line");
    let explained: BTreeSet<String> = explained.into_iter().map(str::to_owned).collect();
    assert_eq!(explained, written, "docs/trace.md (left) explains what src/trace.rs writes");
}

/// Returns the lines of the turn that serves a request, and the wait after it.
fn record() -> Vec<String> {
    let any = "127.0.0.1:0";
    let program = Program::start(&[
        "--tcp",
        any,
        "--udp",
        any,
        "--http",
        any,
        "--deferred-accept=false",
        "--log",
        "trace",
    ]);
    let mut peer = connect(program.http());
    program.wait_for_log(&format!("{SLOT}epoll_ctl"));
    peer.write_all(REQUEST).expect("the request is sent");
    let mut reply = Vec::new();
    while !reply.ends_with(b"Hello, World!") {
        let mut chunk = [0; 1024];
        let count = retry_interrupted(|| peer.read(&mut chunk)).expect("there is a reply");
        assert_ne!(count, 0, "{}", reply.escape_ascii());
        reply.extend_from_slice(&chunk[..count]);
    }
    peer.shutdown(Shutdown::Write).expect("the connection is open");
    program.wait_for_log("FIN; queued");
    let log = program.log();
    let lines: Vec<&str> =
        log.lines().filter_map(|line| line.split_once(" TRACE] ").map(|(_, line)| line)).collect();
    let is_noted = |line: &&str| line.contains(" note ") && line.contains(SLOT);
    let noted = lines.iter().position(is_noted).expect("the event is noted");
    let next = lines[noted..].iter().position(|line| line.contains(" wait ")).expect("it waits");
    let first = turn_of(lines[noted]);
    lines[noted - 1..=noted + next].iter().map(|line| normalised(line, first)).collect()
}

fn turn_of(line: &str) -> u64 {
    let number = line.strip_prefix("turn ").and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no turn: {line}"))
}

/// Returns the line with the turn counted from `first`, and without the timeout, which depends on
/// the time.
fn normalised(line: &str, first: u64) -> String {
    let turn = turn_of(line);
    let rest = &line[format!("turn {turn}").len()..];
    let rest = match rest.split_once("epoll_wait(").and_then(|(before, behind)| {
        let (timeout, behind) = behind.split_once(')')?;
        (timeout != "0 ms").then(|| format!("{before}epoll_wait(TIMEOUT){behind}"))
    }) {
        Some(without_timeout) => without_timeout,
        None => rest.to_owned(),
    };
    format!("turn {}{rest}", turn - first + TURN)
}

/// Returns the recorded lines, each with what the page says below it.
fn annotated(recorded: &[String], old: &str) -> String {
    let mut made = String::new();
    for line in recorded {
        made.extend([line, "\n"]);
        let below = old.lines().skip_while(|old| old != line).skip(1);
        made.extend(below.take_while(|old| old.starts_with(' ')).flat_map(|old| [old, "\n"]));
    }
    made
}

// pitfall: 243
#[test]
fn followed_request_is_a_recording_of_the_program() {
    if cfg!(any(not(target_os = "linux"), mio_unsupported_force_poll_poll)) {
        return; // kqueue and poll(2) take other calls
    }
    let page = read(PAGE);
    let old = blocks(section(&page, HEADING), "text")[0];
    let made = annotated(&record(), old);
    if env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(root().join(PAGE), page.replace(old, &made)).expect("it can be written");
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let hint = "docs/architecture.md (left) is stale: run UPDATE_DOCS=1 cargo test --test docs";
    assert_eq!(lines(old), lines(&made), "{hint}");
}

#[test]
fn recorded_lines_are_compared_without_what_differs_between_runs() {
    assert_eq!(
        normalised("turn 3 wait   epoll_wait(29998 ms) = 1", 3),
        "turn 4 wait   epoll_wait(TIMEOUT) = 1"
    );
    assert_eq!(
        normalised("turn 5 wait   epoll_wait(0 ms) = 1", 4),
        "turn 5 wait   epoll_wait(0 ms) = 1"
    );
    let recorded = ["turn 4 b".to_owned(), "turn 4 c".to_owned()];
    let old = "turn 4 a\n    # old\nturn 4 b\n    # one\n    # two\n";
    assert_eq!(annotated(&recorded, old), "turn 4 b\n    # one\n    # two\nturn 4 c\n");
}
