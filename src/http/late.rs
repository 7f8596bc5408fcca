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
        let timer = self.state.responder_timer();
        let mut lent = HttpContext::new(cx, timer);
        let response = call(&mut self.responder, &mut lent);
        let timer = lent.timer;
        match response {
            Some(response) if matches!(self.state, State::Promised(_)) => {
                return self.state.answer(response, timer, cx);
            }
            Some(_) => debug!("{} {}: response dropped: none was promised", cx.id(), cx.peer()),
            None => {}
        }
        self.state.rearm(timer, cx);
        Next::Unchanged
    }

    /// A promise was fulfilled or dropped, or a feed was dropped. It may be one that nothing awaits
    /// any more.
    #[cold]
    pub(super) fn settle(&mut self, settled: Settled, cx: &mut Context<'_>) -> Next {
        match &self.state {
            State::Promised(promised) if promised.is_settled_by(&settled) => match settled.answer {
                Some(answer) => self.state.answer(answer(), Time::NEVER, cx),
                None => {
                    cx.state.stats.answers_dropped += 1;
                    self.state.answer_error(Status::INTERNAL_SERVER_ERROR, cx)
                }
            },
            State::Ongoing(ongoing) if ongoing.is_settled_by(&settled) => {
                cx.state.stats.feeds_dropped += 1;
                Next::Abort
            }
            State::Promised(_)
            | State::Ongoing(_)
            | State::Head(_)
            | State::Body(_)
            | State::StreamingBody(_) => Next::Unchanged,
        }
    }

    /// The timer of an answer that is promised or goes on has expired: the responder's own, the
    /// deadline, or both.
    #[cold]
    pub(super) fn wait_expired(&mut self, cx: &mut Context<'_>) -> Next {
        let now = cx.state.clock.now;
        let timer = self.state.responder_timer();
        if timer <= now {
            self.state.rearm(Time::NEVER, cx);
            let next = self.call_responder(cx, |responder, cx| responder.timer_expired(cx));
            if next != Next::Unchanged {
                return next;
            }
        } else {
            self.state.rearm(timer, cx);
        }
        match &self.state {
            State::Promised(promised) if promised.is_late(cx) => {
                cx.state.stats.answers_late += 1;
                self.state.answer_error(Status::GATEWAY_TIMEOUT, cx)
            }
            State::Ongoing(ongoing) if ongoing.is_over(cx) => Next::Close,
            State::Promised(_)
            | State::Ongoing(_)
            | State::Head(_)
            | State::Body(_)
            | State::StreamingBody(_) => Next::Unchanged,
        }
    }
}
