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
mod output;
mod ours;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use common::{Ending, Program, reactor};

/// What a row came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Runs `reactor try`.
fn run(arguments: &[&str]) -> Ending {
    Program::spawn(reactor().arg("try").args(arguments)).wait()
}

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
    let ending = run(&[&[url, "--only", row], further].concat());
    let text = ending.stdout.join("\n");
    let line = ending.stdout.iter().find(|line| line.contains(&format!("ok 1 - {row}: ")));
    let line = line.unwrap_or_else(|| panic!("{row}: {text} {:?}", ending.stderr));
    let outcome = match (line.starts_with("not ok"), line.contains("# SKIP")) {
        (true, _) => Outcome::Failed,
        (false, true) => Outcome::Skipped,
        (false, false) => Outcome::Passed,
    };
    let code = if outcome == Outcome::Failed { 1 } else { 0 };
    assert_eq!(ending.status.code(), Some(code), "{text}");
    (outcome, text)
}

/// Runs each of `rows` in a process of its own, `at_once` at a time, and returns what each came to.
fn run_rows(
    url: &str,
    rows: Vec<String>,
    further: &[&str],
    at_once: usize,
) -> BTreeMap<String, (Outcome, String)> {
    let left = Mutex::new(rows);
    let done = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let Some(row) = left.lock().unwrap().pop() else { break };
                    let result = run_row(url, &row, further);
                    done.lock().unwrap().insert(row, result);
                }
            });
        }
    });
    done.into_inner().unwrap()
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
    thread::scope(|scope| {
        // Most rows fail because time passes in which nothing comes.
        let running: Vec<_> = faulty
            .chunks(3)
            .map(|part| {
                scope.spawn(move || {
                    for (row, url) in part {
                        let (outcome, text) = run_row(url, row, &[]);
                        let is_skipped = outcome == Outcome::Skipped && may_skip.contains(row);
                        assert!(is_skipped || outcome == Outcome::Failed, "{row}: {text}");
                    }
                })
            })
            .collect();
        running.into_iter().for_each(|part| part.join().unwrap());
    });
}
