//! The program as its operator meets it: its command line, its signals, its log, and what it leaves behind.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod command_line;
#[cfg(target_os = "linux")]
mod descriptors;
mod logging;
mod stop;

use common::{Ending, Program, reactor};

const TCP: [&str; 2] = ["--tcp", "127.0.0.1:0"];
const MIB: usize = 1024 * 1024;

/// Runs the program with `arguments` that must not make it serve.
fn run(arguments: &[&str]) -> Ending {
    Program::spawn(reactor().args(arguments)).wait()
}
