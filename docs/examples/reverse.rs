//! A first server: it sends each line back, reversed.
//!
//! ```text
//! cargo run --example reverse            in one terminal
//! nc 127.0.0.1 2000                      in another: type a line
//! ```
//!
//! Each connection has a [`Reverse`], and the reactor calls its `advance` when bytes have arrived.
//! They may be half a line, or three lines and a half. [`Lines`] finds the next whole one, however
//! the bytes arrive.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio_reactor::{Advance, Context, Limits, Lines, Protocol, Reactor};

/// A longer line closes its connection.
const LINE_BYTES_MAX: usize = 4096;

/// A line that takes longer than this, from its first byte to its end, closes its connection.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Reverse {
    lines: Lines,
}

impl Protocol for Reverse {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let line = match self.lines.next(input, cx) {
            Ok(line) => line,
            Err(step) => return step, // no whole line yet
        };
        let reversed: String = String::from_utf8_lossy(line.content).chars().rev().collect();
        cx.send(reversed.as_bytes());
        cx.send(b"\n");
        line.consumed() // the call comes again with the next line
    }
}

/// Serves on `address`. Returns the address bound.
pub(crate) fn listen(reactor: &mut Reactor, address: SocketAddr) -> io::Result<SocketAddr> {
    reactor.listen(address, |_peer| Reverse { lines: Lines::new(LINE_BYTES_MAX, LINE_TIMEOUT) })
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let mut reactor = Reactor::new(Limits::default())?;
    let address = listen(&mut reactor, SocketAddr::from(([127, 0, 0, 1], 2000)))?;
    writeln!(io::stdout(), "reverse {address}")?;
    reactor.run()?;
    Ok(())
}
