//! A TCP proxy: what comes to the first address is handed on to the second, and the answers back.
//!
//! ```text
//! cargo run --release --example proxy 127.0.0.1:8000 127.0.0.1:8080
//!
//!     client ──bytes──► one side ──send_to──► other side ──bytes──► server
//!            ◄─bytes───          ◄─send_to──             ◄─bytes───
//! ```
//!
//! Two connections of one reactor, which do the same: each sends on what it hears. All that a proxy can get wrong is in four
//! answers:
//!
//! - The other side does not keep up ([`Notification::AboveHighWatermark`]): nothing is heard until it has caught up. So a client that does not read
//!   makes the server wait, and the other way round, with a bounded amount of bytes between them.
//! - This side's peer has ended: its end is handed on ([`Context::shutdown_write`]), and the other direction goes on for as long as it
//!   likes.
//! - Both have ended: both are closed, behind what is still to be sent.
//! - The other side has broken off, or was never reached: so does this one. With a reset, for an end would say that all has come.

use std::cell::Cell;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use mio_reactor::{Advance, ConnectionId, Context, Limits, Next, Notification, Protocol, Reactor};

/// The client's side, which begins, and the server's.
pub(crate) enum Side {
    Client { server: SocketAddr, other: Option<ConnectionId>, one_has_ended: Rc<Cell<bool>> },
    Server { other: ConnectionId, one_has_ended: Rc<Cell<bool>> },
}

impl Side {
    /// The other side, and whether one of the two has ended.
    fn pair(&self) -> (Option<ConnectionId>, &Cell<bool>) {
        match self {
            Side::Client { other, one_has_ended, .. } => (*other, one_has_ended),
            Side::Server { other, one_has_ended } => (Some(*other), one_has_ended),
        }
    }
}

impl Protocol for Side {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        match self {
            // What the client says meanwhile waits on the side that is being connected.
            Side::Client { server, other, one_has_ended } => {
                let server_side =
                    Side::Server { other: cx.id(), one_has_ended: Rc::clone(one_has_ended) };
                let id = cx.connect(*server, server_side);
                cx.monitor(id);
                *other = Some(id);
            }
            // If the client has broken off meanwhile, that is told at once. Nobody could tell before: who ends has no say in others
            // any more, and who is being connected is told nothing. So a call for nobody lasts for `connect_timeout_ms` at most.
            Side::Server { other, .. } => cx.monitor(*other),
        }
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let (Some(other), _) = self.pair() else { return Advance::need_more() };
        cx.send_to(other, input);
        Advance::consumed(input.len())
    }

    fn eof(&mut self, _rest: &[u8], cx: &mut Context<'_>) -> Next {
        let (Some(other), one_has_ended) = self.pair() else { return Next::Close };
        if one_has_ended.replace(true) {
            cx.close(other);
            return Next::Close;
        }
        cx.shutdown_write(other);
        Next::Pause
    }

    /// It has paused for the other side's sake, whatever becomes of its own output.
    fn output_low(&mut self, _cx: &mut Context<'_>) -> Next {
        Next::Unchanged
    }

    fn notified(
        &mut self,
        _other: ConnectionId,
        news: Notification,
        _cx: &mut Context<'_>,
    ) -> Next {
        match news {
            Notification::AboveHighWatermark => Next::Pause,
            Notification::BelowLowWatermark => Next::Continue,
            Notification::Connected => Next::Unchanged,
            Notification::Closed | Notification::Rejected | Notification::ConnectFailed(_) | _ => {
                Next::Abort
            }
        }
    }
}

/// Hands on what comes to `address` to `server`. Returns the address bound.
pub(crate) fn listen(
    reactor: &mut Reactor,
    address: SocketAddr,
    server: SocketAddr,
) -> io::Result<SocketAddr> {
    reactor.listen(address, move |_peer| Side::Client {
        server,
        other: None,
        one_has_ended: Rc::default(),
    })
}

#[allow(dead_code, reason = "the test of this example has a main function of its own")]
fn main() -> io::Result<()> {
    let mut addresses = std::env::args().skip(1).map(|text| text.parse());
    let (Some(Ok(address)), Some(Ok(server)), None) =
        (addresses.next(), addresses.next(), addresses.next())
    else {
        return Err(io::Error::other(
            "say where to listen and where the server is, each as IP:PORT",
        ));
    };
    // Not the proxy's to say how long the two may be silent; and a side that its own deadline ends closes in order, which the other's
    // peer must not take for the end of an answer. So these are there for who has vanished.
    let limits = Limits {
        first_byte_timeout_ms: 3_600_000,
        idle_timeout_ms: 3_600_000,
        ..Limits::default()
    };
    let mut reactor = Reactor::new(limits)?;
    writeln!(io::stdout(), "proxy {} -> {server}", listen(&mut reactor, address, server)?)?;
    reactor.run()?;
    Ok(())
}
