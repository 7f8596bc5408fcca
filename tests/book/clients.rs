//! Runs the programs of the book that are clients, each to its end.

use std::ffi::OsString;

use super::programs::{read_to_end, start};

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
