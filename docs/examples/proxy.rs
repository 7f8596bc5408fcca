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
//! Each sends its input to the other. Four cases need care:
//!
//! - **Backpressure.** Too much output waits on the other side
//!   ([`Notification::AboveHighWatermark`]): this side pauses its input until that has fallen. So a
//!   client that does not read makes the server wait, and the other way round, with a bounded
//!   number of bytes between them.
//! - **Half-close.** This side's peer has sent its FIN: the other side sends one too
//!   ([`Connections::shutdown_write`]). The other direction goes on until it has a FIN of its own.
//! - **Close.** Both peers have sent their FINs: both sides close, after the output that still
//!   waits.
//! - **Reset.** The other side has failed, or was never connected: this side is aborted. Its peer
//!   receives a reset, because a FIN would say that the bytes are complete.

use std::cell::Cell;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use mio_reactor::{Advance, ConnectionId, Context, Limits, Next, Notification, Protocol, Reactor};

/// One side of a proxied connection. The client's side is accepted, and connects the server's side.
pub(crate) enum Side {
    Client { server: SocketAddr, other: Option<ConnectionId>, eof_seen: Rc<Cell<bool>> },
    Server { other: ConnectionId, eof_seen: Rc<Cell<bool>> },
}

impl Side {
    /// Returns the other side, and whether one of the two peers has sent its FIN.
    fn pair(&self) -> (Option<ConnectionId>, &Cell<bool>) {
        match self {
            Side::Client { other, eof_seen, .. } => (*other, eof_seen),
            Side::Server { other, eof_seen } => (Some(*other), eof_seen),
        }
    }
}

impl Protocol for Side {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        match self {
            // What the client sends meanwhile waits on the server's side until it is connected.
            Side::Client { server, other, eof_seen } => {
                let server_side = Side::Server { other: cx.id(), eof_seen: Rc::clone(eof_seen) };
                let id = cx.connect(*server, server_side);
                cx.monitor(id);
                *other = Some(id);
            }
            // If the client's side has ended meanwhile, this side is notified of `Closed` at once.
            // It could not be earlier: a connection that has ended can no longer close another, and
            // one that is still connecting is not notified. So when a client leaves early, the
            // connect goes on, for `connect_timeout` at most.
            Side::Server { other, .. } => cx.monitor(*other),
        }
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let (Some(other), _) = self.pair() else { return Advance::need_more() };
        cx.connections().send_to(other, input);
        Advance::consumed(input.len())
    }

    fn eof(&mut self, _rest: &[u8], cx: &mut Context<'_>) -> Next {
        let (Some(other), eof_seen) = self.pair() else { return Next::Close };
        if eof_seen.replace(true) {
            cx.connections().close(other);
            return Next::Close;
        }
        cx.connections().shutdown_write(other);
        Next::Pause // keeps this side open for what the other side still sends to it
    }

    /// A side pauses on behalf of the other side's output, so its own low output changes nothing.
    fn output_low(&mut self, _cx: &mut Context<'_>) -> Next {
        Next::Unchanged
    }

    fn notified(
        &mut self,
        _other: ConnectionId,
        notification: Notification,
        _cx: &mut Context<'_>,
    ) -> Next {
        match notification {
            Notification::AboveHighWatermark => Next::Pause,
            Notification::BelowLowWatermark => Next::Continue,
            Notification::Connected => Next::Unchanged,
            Notification::Closed | Notification::Rejected | Notification::ConnectFailed(_) | _ => {
                Next::Abort
            }
        }
    }
}

/// Relays connections to `address` to `server`. Returns the address bound.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    server: SocketAddr,
) -> io::Result<SocketAddr> {
    reactor.listen(address, move |_peer| Side::Client {
        server,
        other: None,
        eof_seen: Rc::default(),
    })
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
