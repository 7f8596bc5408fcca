//! An answer that goes on: its head is sent at once, and its body whenever there is more of it.
//!
//! ```text
//!     Response::ongoing ──► head ──► start(feed) ──► Feed::send ──► … ──► Feed::end ──► FIN
//!                                                                  └──► drop ──────────► reset
//! ```
//!
//! Server-sent events, a log that is followed. The body has no length: it ends with the connection
//! (RFC 9112 section 6.3), so the end must say whether it is complete.
//!
//! Invariant: no byte of the body precedes the head, and a body that was not ended is never
//! followed by a FIN, but for a stop and the end of the day (`ONGOING_MS_MAX`).

use std::fmt;

use super::access_log::LogEntry;
use super::context::HttpContext;
use super::exchange::Exchange;
use super::promise::{Awaited, Settled, Ticket};
use super::response::{Response, ResponseForm};
use super::state::State;
use crate::http::limits::ONGOING_MS_MAX;
use crate::protocol::completions::Completer;
use crate::protocol::connections::Connections;
use crate::protocol::context::Context;
use crate::protocol::ident::ConnectionId;
use crate::protocol::protocol::Next;
use crate::protocol::slow_reader::SlowReader;
use crate::time::Time;

/// Called with the feed of an answer, once its head has been written.
pub(super) type Start<'r> = Box<dyn FnOnce(Feed, &mut HttpContext<'_, '_>) + 'r>;

/// The body of an answer that goes on ([`Response::ongoing`]): what is sent to it, its client
/// receives.
///
/// It is `Send`. What may send is whatever has access to the connections of the reactor: a
/// responder, another protocol, or another thread with a task
/// ([`Handle::submit`](crate::Handle::submit), [`Reactor::connections`](crate::Reactor)).
///
/// If it is dropped without [`end`](Feed::end), also by a panic, the connection is reset, so that
/// the client cannot take a part for the whole.
pub struct Feed {
    id: ConnectionId,
    ticket: Ticket,
    completer: Completer,
    has_ended: bool,
}

impl Feed {
    /// Returns the id of the connection, for a [`publish`](Connections::publish) to many.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Sends `bytes` to the client, as [`Connections::send_to`] does. If the client is far behind,
    /// the sender is notified of [`Rejected`](crate::Notification::Rejected), and the bytes are
    /// missing: then drop the feed.
    pub fn send(&self, connections: &mut Connections<'_>, bytes: &[u8]) {
        connections.send_to(self.id, bytes);
    }

    /// Sends `bytes` to the client. If it is behind, does what `slow` says, as
    /// [`Connections::publish`] does.
    pub fn publish(&self, connections: &mut Connections<'_>, bytes: &[u8], slow: SlowReader) {
        connections.publish([self.id], bytes, slow);
    }

    /// Ends the body: after all that was sent, the client gets our FIN.
    pub fn end(mut self, connections: &mut Connections<'_>) {
        self.has_ended = true;
        connections.close(self.id);
    }

    /// Returns whether the client is still there, as far as it is known.
    pub fn is_wanted(&self) -> bool {
        self.ticket.is_wanted()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if !self.has_ended && self.is_wanted() {
            self.completer.send(Box::new(Settled::broken(&self.ticket)));
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("id", &self.id).finish_non_exhaustive()
    }
}

/// An answer whose body goes on.
pub(super) struct Ongoing {
    code: [u8; 3],
    entry: Option<Box<LogEntry>>,
    /// When it is ended.
    until: Time,
    /// When the responder's own timer expires.
    timer: Time,
    waits_for: Awaited,
}

impl State {
    /// Sends the head, and lets the responder begin the body.
    #[cold]
    pub(super) fn begin_ongoing(
        &mut self,
        head: &[u8],
        start: Start<'_>,
        exchange: Exchange,
        timer: Time,
        cx: &mut Context<'_>,
    ) -> Next {
        let Exchange { form, next, entry } = exchange;
        // The body ends with the connection, so no other response follows.
        let next = if next == Next::Continue { Next::Close } else { next };
        cx.set_held_bytes(0); // the memory of the request's body is free
        let response = Response::of_head(head);
        let (output, date) = cx.compose();
        response.write(form, false, date, output);
        let code = response.code();
        if form == ResponseForm::Head {
            if let Some(entry) = entry {
                entry.log(code, 0);
            }
            return next;
        }
        cx.state.stats.answers_ongoing += 1;
        let (ticket, waits_for) = Ticket::new();
        let completer = cx.completer(Settled::broken(&ticket));
        let feed = Feed { id: cx.id(), ticket, completer, has_ended: false };
        let until = cx.state.clock.now.plus_ms(ONGOING_MS_MAX);
        let ongoing = Ongoing { code, entry, until, timer, waits_for };
        *self = State::Ongoing(Box::new(ongoing));
        cx.monitor_stop();
        let mut lent = HttpContext::new(cx, timer);
        start(feed, &mut lent);
        let timer = lent.timer;
        if let State::Ongoing(ongoing) = self {
            ongoing.rearm(timer, cx);
        }
        Next::Pause
    }
}

impl Ongoing {
    /// Returns whether `settled` is about this body.
    pub(super) fn is_settled_by(&self, settled: &Settled) -> bool {
        settled.is_for(&self.waits_for)
    }

    /// When the responder's own timer expires.
    pub(super) fn timer(&self) -> Time {
        self.timer
    }

    /// Returns whether it has gone on for long enough.
    pub(super) fn is_over(&self, cx: &Context<'_>) -> bool {
        self.until <= cx.state.clock.now
    }

    /// The responder's timer expires at `timer` from now on. The one timer of the connection is the
    /// earlier of both, and so always set: a quiet body is not idle.
    pub(super) fn rearm(&mut self, timer: Time, cx: &mut Context<'_>) {
        self.timer = timer;
        cx.meta.timer = self.until.min(timer).into();
    }

    /// Logs the answer, at its end. How much of its body was sent is not known here.
    pub(super) fn log(&self) {
        if let Some(entry) = &self.entry {
            entry.log(self.code, 0);
        }
    }
}
