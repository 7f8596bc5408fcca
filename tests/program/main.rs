//! The program as an operator meets it: command line, signals, log, and what it leaves behind.

// The helpers here unwrap as the tests do, and a test that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod addresses;
#[cfg(target_os = "linux")]
mod blocked;
mod command_line;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../src/limits.rs"]
#[allow(dead_code, unreachable_pub, reason = "a copy, for the numbers that are not public")]
mod limits;
#[path = "../../src/overload_limits.rs"]
#[allow(dead_code, unreachable_pub, reason = "a copy, for the numbers that are not public")]
mod overload_limits;
#[cfg(target_os = "linux")]
mod descriptors;
mod environment;
#[cfg(target_os = "linux")]
mod inherited;
mod logging;
mod shared;
#[cfg(target_os = "linux")]
mod signals;
mod stop;

use common::{Ending, Program, ignores, reactor};

const TCP: [&str; 2] = ["--tcp", "127.0.0.1:0"];
const MIB: usize = 1024 * 1024;

/// Runs the program with `arguments` that make it end by itself.
fn run(arguments: &[&str]) -> Ending {
    Program::spawn(reactor().args(arguments)).wait()
}
