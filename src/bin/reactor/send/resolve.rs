//! Name resolution that ends in time.
//!
//! Nothing can end a call of the system's resolver, whose own timeout is long (resolv.conf(5): ten
//! seconds and more). So another thread looks the name up. If it takes too long, it is left behind
//! and ends with the process.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::address::NetAddress;

/// Returns the addresses of `host`, if they are found within `timeout`.
///
/// # Errors
///
/// The resolver's error; `TimedOut`; the system's error if no thread can be started.
pub(crate) fn resolve_within(host: &NetAddress, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
    if !host.needs_resolver() {
        return host.resolve();
    }
    let (sender, resolved) = mpsc::channel();
    let host = host.clone();
    // Sending fails if the result came too late.
    let look_up = move || drop(sender.send(host.resolve()));
    thread::Builder::new().spawn(look_up).map_err(|error| {
        io::Error::new(error.kind(), format!("no thread could be started: {error}"))
    })?;
    resolved.recv_timeout(timeout).unwrap_or_else(|_| {
        let why = format!("name resolution timeout ({timeout:?})");
        Err(io::Error::new(ErrorKind::TimedOut, why))
    })
}
