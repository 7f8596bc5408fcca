//! An echo server that stops gracefully on SIGINT (Ctrl-C) or SIGTERM, and at once on a second one.
//!
//! It shows how a program stops its reactor from outside. A signal handler may do very little, so a
//! thread waits for signals and does the rest: the first one calls [`Handle::stop`], which any
//! thread may. The reactor then drains: idle connections are closed, others may finish for
//! [`Limits::drain_timeout`]. Signals belong to the whole process, so the library leaves them
//! alone, and this is the program's part.
//!
//! Without a thread, a handler can write to a socket whose other end the reactor watches
//! ([`Reactor::stop_on`], the self-pipe trick). The program `reactor` does so.

use std::io::{self, Write};
use std::net::SocketAddr;
#[cfg(unix)]
use std::thread;

#[cfg(unix)]
use mio_reactor::Handle;
use mio_reactor::{Echo, Limits, Reactor, Stopped};
#[cfg(unix)]
use signal_hook::consts::{SIGINT, SIGTERM};
#[cfg(unix)]
use signal_hook::iterator::Signals;

/// The exit status if connections were closed by force.
const EXIT_FORCED: i32 = 3;

/// Makes the first signal stop the reactor of `handle`, and the second one end the process.
#[cfg(unix)]
pub(crate) fn stop_on_signals(handle: Handle) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        let mut received = signals.forever();
        if received.next().is_some() {
            handle.stop();
        }
        if let Some(signal) = received.next() {
            std::process::exit(128 + signal); // as a shell reports a process that a signal ended
        }
    });
    Ok(())
}

/// Serves echo on `address`, and stops on signals. Returns the address bound.
pub(crate) fn listen(reactor: &mut Reactor, address: SocketAddr) -> io::Result<SocketAddr> {
    #[cfg(unix)]
    stop_on_signals(reactor.handle()?)?; // before the first socket listens: no signal is missed
    reactor.listen(address, |_peer| Echo::new())
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2000".to_string());
    let address =
        address.parse().map_err(|_| io::Error::other(format!("{address}: not an IP:PORT")))?;
    let mut reactor = Reactor::new(Limits::default())?;
    writeln!(io::stdout(), "echo {}", listen(&mut reactor, address)?)?;
    match reactor.run()? {
        Stopped::Graceful => Ok(()),
        Stopped::Forced(_) => std::process::exit(EXIT_FORCED),
    }
}
