//! What both sides of a relay do once they are connected: pass on bytes, FINs and failures.
//!
//! Invariant: the two sides share one fact, whether a peer has sent its FIN. The side that sees the
//! second one closes both.

use std::cell::Cell;
use std::rc::Rc;

use crate::protocol::context::Context;
use crate::protocol::ident::ConnectionId;
use crate::protocol::notification::Notification;
use crate::protocol::protocol::{Advance, Next, Protocol};

/// The way from one side to the other.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) other: ConnectionId,
    /// One of the two peers has sent its FIN. Both sides share it.
    pub(super) eof_seen: Rc<Cell<bool>>,
}

impl Link {
    pub(super) fn advance(&self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        cx.connections().send_to(self.other, input);
        Advance::consumed(input.len())
    }

    pub(super) fn eof(&self, cx: &mut Context<'_>) -> Next {
        if self.eof_seen.replace(true) {
            cx.connections().close(self.other);
            return Next::Close;
        }
        cx.connections().shutdown_write(self.other);
        Next::Pause // keeps this side open for what the other side still sends to it
    }

    pub(super) fn notified(&self, about: ConnectionId, what: Notification) -> Next {
        match what {
            _ if about != self.other => Next::Unchanged, // an attempt that was given up
            Notification::AboveHighWatermark => Next::Pause,
            Notification::BelowLowWatermark => Next::Continue,
            Notification::Connected | Notification::Stopping | Notification::MailboxFull => {
                Next::Unchanged
            }
            // After two FINs both sides close without a notification. So the other side broke, and
            // a FIN would say that the bytes are complete.
            Notification::Closed | Notification::Rejected | Notification::ConnectFailed(_) => {
                Next::Abort
            }
        }
    }
}

/// The server's side of a relay. It is paused until the client's side resumes it.
#[derive(Debug)]
pub(super) struct ServerSide(pub(super) Link);

impl Protocol for ServerSide {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        // If the client has left meanwhile, this is told at once, and ends this side.
        cx.monitor(self.0.other);
        Next::Pause
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        self.0.advance(input, cx)
    }

    fn eof(&mut self, _rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.0.eof(cx)
    }

    fn output_low(&mut self, _cx: &mut Context<'_>) -> Next {
        Next::Unchanged
    }

    fn notified(&mut self, about: ConnectionId, what: Notification, _: &mut Context<'_>) -> Next {
        self.0.notified(about, what)
    }
}
