//! The second half of an exchange: a response that is sent at once, in pieces, or later.
//!
//! ```text
//!     response ──► bytes ────────────────────────────► sent
//!              ──► streamed ──► StreamingBody ──► … ──► sent
//!              ──► later ──► Promised ──► answer ──► response
//!                               └──► deadline ──► 504
//!              ──► ongoing ──► Ongoing (`ongoing.rs`)
//! ```
//!
//! Invariant: each request has one response. While it is promised, no input is consumed: so the
//! responses keep the order of the requests.

use std::fmt;
use std::time::Duration;

use super::access_log::LogEntry;
use super::body::BodyStream;
use super::promise::{Awaited, Settled};
use super::request::{Method, Request};
use super::response::{Pending, Response, ResponseBody, ResponseForm};
use super::state::State;
use super::status::Status;
use crate::http::limits::ANSWER_DEADLINE_MS_MAX;
use crate::protocol::context::Context;
use crate::protocol::protocol::Next;
use crate::time::Time;

/// What is known of a response before its content is.
pub(super) struct Exchange {
    pub(super) form: ResponseForm,
    /// What follows the response.
    pub(super) next: Next,
    pub(super) entry: Option<Box<LogEntry>>,
}

/// Decides what follows the response to `request`.
#[inline]
pub(super) fn keep_alive_or_close(request: &Request<'_>, cx: &Context<'_>) -> Next {
    if request.method() == Method::Connect {
        Next::Close // later bytes are for the tunnel that was not opened, and are no request
    } else if request.keeps_alive() {
        if cx.is_stopping() { Next::Close } else { Next::Continue }
    } else if request.form() == ResponseForm::Simple {
        Next::Close // HTTP/0.9 announces no last request, so the peer may still be sending
    } else {
        Next::CloseWithoutLinger // it has announced this request as its last
    }
}

/// A response that is not there yet.
pub(super) struct Later {
    pub(super) deadline: Duration,
    /// The promise that gives it. `None`: the responder does, in one of its callbacks.
    pub(super) waits_for: Option<Awaited>,
}

/// An exchange whose answer is promised.
pub(super) struct Promised {
    pub(super) exchange: Exchange,
    /// When the client gets 504.
    deadline: Time,
    /// When the responder's own timer expires.
    timer: Time,
    waits_for: Option<Awaited>,
}

/// The code in the access log of a request whose connection has ended before its answer, as nginx
/// has it. No client sees it.
const CLIENT_LEFT: [u8; 3] = *b"499";

impl State {
    /// Sends a response. Returns what follows now: a pause if a part of it is still to come, which
    /// this state then has. `timer` is that of the responder.
    #[inline(never)]
    pub(super) fn send(
        &mut self,
        response: Response<'_>,
        exchange: Exchange,
        timer: Time,
        cx: &mut Context<'_>,
    ) -> Next {
        if let ResponseBody::Pending(pending) = response.body {
            return match *pending {
                Pending::Later(later) => self.promise(later, exchange, timer, cx),
                Pending::Ongoing(start) => {
                    self.begin_ongoing(&response.head, start, exchange, timer, cx)
                }
            };
        }
        let Exchange { form, next, entry } = exchange;
        // The memory of the request's body is free. That of a long body that is sent in pieces is
        // not.
        let is_kept = form != ResponseForm::Head && response.is_streamed();
        cx.set_held_bytes(if is_kept { response.kept_bytes() } else { 0 });
        let response = if form == ResponseForm::Head { response } else { response.into_streamed() };
        let (output, date) = cx.compose();
        response.write(form, next == Next::Continue, date, output);
        let code = response.code();
        let body_bytes = if form == ResponseForm::Head { 0 } else { response.body_bytes() };
        match response.body {
            ResponseBody::Streamed(length, body) if body_bytes > 0 => {
                let stream = BodyStream::new(body, length, next, code, entry);
                *self = State::StreamingBody(Box::new(stream));
                self.stream_more(cx)
            }
            ResponseBody::Streamed(..) | ResponseBody::Bytes(_) | ResponseBody::Pending(_) => {
                if let Some(entry) = entry {
                    entry.log(code, body_bytes);
                }
                next
            }
        }
    }

    /// Sends an error response, in plain text.
    pub(super) fn send_error(
        &mut self,
        status: Status,
        exchange: Exchange,
        cx: &mut Context<'_>,
    ) -> Next {
        self.send(Response::error(status), exchange, Time::NEVER, cx)
    }

    /// Waits for the answer, without taking further input.
    #[cold]
    fn promise(
        &mut self,
        later: Later,
        exchange: Exchange,
        timer: Time,
        cx: &mut Context<'_>,
    ) -> Next {
        let Later { deadline, waits_for } = later;
        let deadline_max = Duration::from_millis(ANSWER_DEADLINE_MS_MAX);
        let deadline = cx.state.clock.now.plus(deadline.min(deadline_max));
        cx.state.stats.answers_promised += 1;
        cx.set_held_bytes(0); // the memory of the request's body is free
        let promised = Promised { exchange, deadline, timer, waits_for };
        promised.set_timer(cx);
        *self = State::Promised(Box::new(promised));
        Next::Pause
    }

    /// Sends the answer that was promised.
    #[cold]
    pub(super) fn answer(
        &mut self,
        response: Response<'_>,
        timer: Time,
        cx: &mut Context<'_>,
    ) -> Next {
        let exchange = self.take_exchange(cx);
        self.send(response, exchange, timer, cx)
    }

    /// Sends an error in place of the answer that was promised.
    #[cold]
    pub(super) fn answer_error(&mut self, status: Status, cx: &mut Context<'_>) -> Next {
        let exchange = self.take_exchange(cx);
        self.send_error(status, exchange, cx)
    }

    /// Ends the wait for an answer.
    fn take_exchange(&mut self, cx: &mut Context<'_>) -> Exchange {
        let State::Promised(promised) = std::mem::replace(self, State::NEXT) else {
            unreachable!("an answer is promised")
        };
        cx.cancel_timer();
        let mut exchange = promised.exchange;
        if cx.is_stopping() && exchange.next == Next::Continue {
            exchange.next = Next::Close; // the stop began after the request was received
        }
        exchange
    }
}

impl Promised {
    /// Returns whether `settled` is about this promise.
    pub(super) fn is_settled_by(&self, settled: &Settled) -> bool {
        self.waits_for.as_ref().is_some_and(|awaited| settled.is_for(awaited))
    }

    /// When the responder's own timer expires.
    pub(super) fn timer(&self) -> Time {
        self.timer
    }

    /// Returns whether the client has waited long enough.
    pub(super) fn is_late(&self, cx: &Context<'_>) -> bool {
        self.deadline <= cx.state.clock.now
    }

    /// The responder's timer expires at `timer` from now on.
    pub(super) fn rearm(&mut self, timer: Time, cx: &mut Context<'_>) {
        self.timer = timer;
        self.set_timer(cx);
    }

    /// Sets the one timer of the connection to the earlier of both.
    fn set_timer(&self, cx: &mut Context<'_>) {
        cx.meta.timer = self.deadline.min(self.timer).into();
    }

    /// Logs a request that is left without an answer.
    pub(super) fn log(&self) {
        if let Some(entry) = &self.exchange.entry {
            entry.log(CLIENT_LEFT, 0);
        }
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Later").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
