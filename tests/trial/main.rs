//! `reactor try`: which rows which servers pass, fail and skip.
//!
//! The servers here that fail rows are small, and each has one fault. A row that no server fails
//! would prove nothing, so a test compares the faults with `--list`.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod faulty_datagrams;
mod faulty_http;
mod faulty_streams;
mod lecture;
mod load;
mod output;
mod ours;

use std::process::Stdio;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::{Ending, Program, reactor};

/// What a row came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Runs `reactor try`, which ends in less than `TIMEOUT`.
fn run(arguments: &[&str]) -> Ending {
    Program::spawn(reactor().arg("try").args(arguments)).wait()
}

/// How much longer than usual a row may take that must pass: on a busy machine, servers pause. Also
/// the row with the longest bound then ends before `HANG`.
const MORE_TIME: [&str; 2] = ["--time-factor", "7"];

/// When a trial counts as one that does not end.
const HANG: Duration = Duration::from_secs(60);

/// Returns the names of the rows for `url`.
#[track_caller]
fn names(url: &str) -> Vec<String> {
    let ending = run(&[url, "--list"]);
    assert_eq!((ending.status.code(), &ending.stderr[..]), (Some(0), &[][..]));
    let name = |line: &String| line.trim().split_once(": ").map(|(name, _)| name.to_string());
    let names: Vec<String> = ending.stdout.iter().map(|line| name(line).unwrap()).collect();
    assert!(names.len() > 10, "{names:?}");
    names
}

/// Runs one row, and returns what it came to and its lines.
#[track_caller]
fn run_row(url: &str, row: &str, further: &[&str]) -> (Outcome, String) {
    let mut command = reactor();
    command.args(["try", url, "--only", row]).args(further).stdin(Stdio::null());
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(command.output()));
    let output = ended.recv_timeout(HANG).unwrap_or_else(|_| panic!("{row} does not end")).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains(&format!("ok 1 - {row}: ")));
    let error = String::from_utf8_lossy(&output.stderr);
    let line = line.unwrap_or_else(|| panic!("{row}: {text} {error}"));
    let outcome = match (line.starts_with("not ok"), line.contains("# SKIP")) {
        (true, _) => Outcome::Failed,
        (false, true) => Outcome::Skipped,
        (false, false) => Outcome::Passed,
    };
    let code = if outcome == Outcome::Failed { 1 } else { 0 };
    assert_eq!(output.status.code(), Some(code), "{text}");
    (outcome, text)
}

/// Runs each of `rows`, a name, a URL and further arguments, in a process of its own. `check` gets
/// what each came to.
fn run_rows(
    rows: Vec<(String, String, Vec<&str>)>,
    at_once: usize,
    check: impl Fn(&str, Outcome, &str) + Sync,
) {
    let left = Mutex::new(rows);
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().pop();
                    let Some((row, url, further)) = next else { break };
                    let (outcome, text) = run_row(&url, &row, &further);
                    check(&row, outcome, &text);
                }
            });
        }
    });
}

/// Checks that each server of `faulty`, a row's name and a URL, fails that row, and that every row
/// is among them. Rows that cannot be run here may be skipped.
#[track_caller]
fn check_each_fails(faulty: &[(&str, String)], may_skip: &[&str]) {
    let mut expected = names(&faulty[0].1);
    let mut tried: Vec<&str> = faulty.iter().map(|(row, _)| *row).collect();
    expected.sort();
    tried.sort_unstable();
    assert_eq!(tried, expected, "a row without a server that fails it proves nothing");
    let row = |(row, url): &(&str, String)| {
        // Most rows fail because time passes in which nothing comes. These move megabytes.
        let is_long =
            ["never-reads", "never-reads-narrow"].contains(row) && !url.starts_with("udp");
        let further = if is_long { MORE_TIME.to_vec() } else { Vec::new() };
        (row.to_string(), url.clone(), further)
    };
    run_rows(faulty.iter().map(row).collect(), 16, |row, outcome, text| {
        let is_skipped = outcome == Outcome::Skipped && may_skip.contains(&row);
        assert!(is_skipped || outcome == Outcome::Failed, "{row}: {text}");
    });
}
