//! What gives a late answer: the responder's own callbacks, a promise, or the deadline.
//!
//! Invariant: of these the first one answers. What comes after it finds another state, or another
//! ticket, and changes nothing.

use log::debug;

use super::context::HttpContext;
use super::promise::Settled;
use super::protocol::Http;
use super::responder::Responder;
use super::response::Response;
use super::state::State;
use super::status::Status;
use crate::protocol::context::Context;
use crate::protocol::protocol::Next;
use crate::time::Time;

impl<R: Responder> Http<R> {
    /// Lets the responder act on what is not a request. If an answer is promised, it may give it.
    #[cold]
    pub(super) fn call_responder(
        &mut self,
        cx: &mut Context<'_>,
        call: impl for<'r> FnOnce(&'r mut R, &mut HttpContext<'_, '_>) -> Option<Response<'r>>,
    ) -> Next {
        let timer = if let State::Promised(it) = &self.state { it.timer() } else { Time::NEVER };
        let mut lent = HttpContext::new(cx, timer);
        let response = call(&mut self.responder, &mut lent);
        let timer = lent.timer;
        match (&mut self.state, response) {
            (State::Promised(_), Some(response)) => self.state.answer(response, timer, cx),
            (State::Promised(promised), None) => {
                promised.rearm(timer, cx);
                Next::Unchanged
            }
            (State::Head(_) | State::Body(_) | State::StreamingBody(_), response) => {
                if response.is_some() {
                    debug!("{} {}: response dropped: none was promised", cx.id(), cx.peer());
                }
                Next::Unchanged
            }
        }
    }

    /// A promise was fulfilled or dropped. It may be one that nobody awaits any more.
    #[cold]
    pub(super) fn settle(&mut self, settled: Settled, cx: &mut Context<'_>) -> Next {
        match &self.state {
            State::Promised(promised) if promised.awaits(&settled) => match settled.answer {
                Some(answer) => self.state.answer(answer(), Time::NEVER, cx),
                None => {
                    cx.state.stats.answers_dropped += 1;
                    self.state.answer_error(Status::INTERNAL_SERVER_ERROR, cx)
                }
            },
            State::Promised(_) | State::Head(_) | State::Body(_) | State::StreamingBody(_) => {
                Next::Unchanged
            }
        }
    }

    /// The timer of a promised answer has expired: the responder's own, the deadline, or both.
    #[cold]
    pub(super) fn promise_expired(&mut self, cx: &mut Context<'_>) -> Next {
        let State::Promised(promised) = &mut self.state else {
            unreachable!("an answer is promised")
        };
        let is_due = promised.timer() <= cx.state.clock.now;
        promised.rearm(if is_due { Time::NEVER } else { promised.timer() }, cx);
        if is_due {
            let next = self.call_responder(cx, |responder, cx| responder.timer_expired(cx));
            if next != Next::Unchanged {
                return next;
            }
        }
        let State::Promised(promised) = &self.state else {
            unreachable!("it has not been answered")
        };
        if !promised.is_late(cx) {
            return Next::Unchanged;
        }
        cx.state.stats.answers_late += 1;
        self.state.answer_error(Status::GATEWAY_TIMEOUT, cx)
    }
}
