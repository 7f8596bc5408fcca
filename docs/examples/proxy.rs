//! A TCP proxy: relays the bytes of each client to a server, and the server's bytes back.
//!
//! ```text
//! cargo run --release --example proxy 127.0.0.1:8000 127.0.0.1:8080
//!
//!     client ──bytes──► one side ──send_to──► other side ──bytes──► server
//!            ◄─bytes───          ◄─send_to──             ◄─bytes───
//! ```
//!
//! A proxied connection is two connections of one reactor, the client's side and the server's side.
//! Each sends its input to the other: that is a [`Relay`]. It takes care of backpressure, of FINs
//! and of failures. So a client that does not read makes the server wait, one that has sent its FIN
//! still gets its answer, and what breaks is no regular end.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio_reactor::{Limits, Reactor, Relay};

/// The longest that the server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Relays connections to `address` to `server`. Returns the address bound.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    server: SocketAddr,
) -> io::Result<SocketAddr> {
    reactor.listen(address, move |_peer| Relay::to([server], CONNECT_TIMEOUT))
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let mut addresses = std::env::args().skip(1).map(|text| text.parse());
    let (Some(Ok(address)), Some(Ok(server)), None) =
        (addresses.next(), addresses.next(), addresses.next())
    else {
        return Err(io::Error::other("usage: proxy LISTEN SERVER, each an IP:PORT"));
    };
    // How long the peers may be idle is not the proxy's decision. Besides, a side that is idle
    // for too long closes with a FIN, and its peer might take that for the end of a reply. So these
    // timeouts are long, and only remove peers that have vanished.
    let limits = Limits::default()
        .with_first_byte_timeout(Duration::from_secs(3_600))
        .with_idle_timeout(Duration::from_secs(3_600));
    let mut reactor = Reactor::new(limits)?;
    writeln!(io::stdout(), "proxy {} -> {server}", listen(&mut reactor, address, server)?)?;
    reactor.run()?;
    Ok(())
}
