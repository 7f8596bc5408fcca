//! Runs clients to their end: those of the book, and `reactor try`.

use std::ffi::OsString;
use std::process::Command;

use super::addresses::between;
use super::programs::{REACTOR_PATH, read_to_end, start};

/// Runs a client of the book to its end, and returns what it prints.
pub(super) fn run_client(wrapper: &[OsString], program: &str, port: u16) -> String {
    let mut child = start(wrapper, program, port);
    let errors = read_to_end(&mut child);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a client of the book that fails, and returns what it writes to standard error.
pub(super) fn run_failing_client(wrapper: &[OsString], program: &str, port: u16) -> String {
    let mut child = start(wrapper, program, port);
    let errors = read_to_end(&mut child);
    assert!(!child.wait().unwrap().success(), "{program} does not fail");
    errors
}

/// Returns the names of the rows of `reactor try` that a server fails. `None`: it is not built.
pub(super) fn rows_failed(arguments: &[&str]) -> Option<Vec<String>> {
    let mut command = Command::new(REACTOR_PATH?);
    let output = command.args(["try", "--time-factor", "10"]).args(arguments).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(printed.lines().any(|line| line.starts_with("ok 1 - ")), "{printed}{errors}");
    let failed = printed.lines().filter_map(|line| line.strip_prefix("not ok "));
    Some(failed.map(|line| between(line, " - ", ":").to_owned()).collect())
}
