//! One test for each bug that was once here; its first lines say what the bug did.
//!
//! A bug that made the loop hang is tested in a thread of its own, so that the test fails instead
//! of hanging with it.

// The helpers here unwrap as the tests do, and a test that cannot run here prints that it is
// skipped.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../../src/bin/reactor/site.rs"]
#[allow(dead_code, reason = "the program uses the rest of it")]
mod site;

#[path = "../common/mod.rs"]
mod common;

mod datagrams; // UDP: the largest replies, multicast, forged sources, prefixes
mod protocols; // single protocols, without a network
mod stop; // graceful stop
mod streams; // pauses, timeouts and late turns of stream connections
