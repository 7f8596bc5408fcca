//! HTTP/1.0 as a state machine: where messages begin and end, and whether the connection persists.
//!
//! ```text
//!     ┌──► Head ──────────┬──► respond ──────────────────┬──► close
//!     │     └──► Body ────┘       ├──► StreamingBody ────┤
//!     │                           ├──► Promised ─────────┤
//!     │                           └──► Ongoing ──────────┼──► close
//!     └──────────────────── keep-alive ──────────────────┘
//! ```
//!
//! A request that is invalid, late or cut short gets an error response, and the connection closes.
//!
//! [`Http`] is a [`Protocol`]. It parses heads, skips the bodies that are not taken, and writes the
//! framing fields. The content comes from a [`Responder`], which therefore cannot break the
//! framing.
//!
//! The status line is HTTP/1.0 for every client: chunks are not decoded, so this is no 1.1 server
//! (RFC 9110 section 6.2). A client keeps such a connection open only if the response has
//! `Connection: keep-alive` (RFC 9112 section 9.3). So every response has it but the last.
//!
//! Invariant: nothing after a rejected request is parsed as a request.

use std::any::Any;

use log::debug;

use super::access_log::LogEntry;
use super::context::HttpContext;
use super::exchange::{Exchange, keep_alive_or_close};
use super::foreign::LooksLike;
use super::head::{Examined, examine, parse};
use super::promise::Settled;
use super::request::Request;
use super::responder::Responder;
use super::response::ResponseForm;
use super::scan::{Scan, Scanned};
use super::state::{BodyProgress, BodyUse, HeadProgress, State};
use super::status::Status;
use crate::caught::CaughtDrop;
use crate::http::limits::{BODY_BYTES_MAX, EMPTY_LINES_MAX};
use crate::protocol::context::Context;
use crate::protocol::ident::{CloseReason, ConnectionId};
use crate::protocol::notification::Notification;
use crate::protocol::protocol::{Advance, Next, Protocol};
use crate::time::Time;

/// The HTTP protocol on one connection. `R` gives the responses.
#[derive(Debug)]
pub struct Http<R> {
    pub(super) responder: R,
    pub(super) state: State,
}

impl<R: Responder> Http<R> {
    /// Makes the protocol of a new connection.
    pub fn new(responder: R) -> Http<R> {
        Http { responder, state: State::FIRST }
    }

    fn advance_head(
        &mut self,
        progress: HeadProgress,
        input: &[u8],
        cx: &mut Context<'_>,
    ) -> Advance {
        // Old clients send an empty line after a body. It is not part of the next request (RFC
        // 9112 section 2.2).
        if input[0] == b'\r' {
            match input {
                [_, b'\n', ..] if progress.empty_lines < EMPTY_LINES_MAX => {
                    cx.cancel_timer();
                    self.state = State::Head(HeadProgress {
                        scanned: 0,
                        empty_lines: progress.empty_lines + 1,
                        ..progress
                    });
                    return Advance::consumed(2);
                }
                [_] => return self.need_more_head(progress, progress.scan, input, cx),
                _ => return self.reject_head(Status::BAD_REQUEST, progress, input, cx),
            }
        }
        if progress.scanned > 0
            && let Some(advance) = self.read_piece(progress, input, cx)
        {
            return advance;
        }
        match parse(input) {
            Ok((request, length)) => self.respond_to_head(progress, &request, length, input, cx),
            Err(status) => self.examine_head(status, progress, input, cx),
        }
    }

    /// Responds to a request, with whose head of `length` bytes `input` begins.
    #[inline(always)]
    fn respond_to_head(
        &mut self,
        progress: HeadProgress,
        request: &Request<'_>,
        length: usize,
        input: &[u8],
        cx: &mut Context<'_>,
    ) -> Advance {
        if progress.scanned > 0 || progress.empty_lines > 0 {
            cx.cancel_timer();
        }
        // In place: to assign the whole state would first drop the old one.
        if let State::Head(progress) = &mut self.state {
            *progress = HeadProgress::NEXT;
        }
        Advance { consumed: length, next: self.respond_to(request, &input[..length], cx) }
    }

    /// Waits for more of a head that was not parsed, or rejects it. Or it is a simple request.
    #[cold]
    fn examine_head(
        &mut self,
        status: Status,
        progress: HeadProgress,
        input: &[u8],
        cx: &mut Context<'_>,
    ) -> Advance {
        match examine(input, status) {
            Examined::Partial(scan) => self.need_more_head(progress, scan, input, cx),
            Examined::Simple(request, length) if progress.is_first => {
                self.respond_to_head(progress, &request, length, input, cx)
            }
            // A client that has sent HTTP/1 before expects a head. If it is a proxy, a client
            // after it could take the content for a whole response (RFC 9112 section 11.1).
            Examined::Simple(..) => self.reject_head(Status::BAD_REQUEST, progress, input, cx),
            Examined::Rejected(status) => self.reject_head(status, progress, input, cx),
        }
    }

    /// Reads the next piece of a head. `None`: its first line or all of it is complete, and can be
    /// parsed.
    #[cold]
    fn read_piece(
        &mut self,
        progress: HeadProgress,
        input: &[u8],
        cx: &mut Context<'_>,
    ) -> Option<Advance> {
        let mut scan = progress.scan;
        match scan.feed(input, progress.scanned.into()) {
            Scanned::Partial => Some(self.need_more_head(progress, scan, input, cx)),
            Scanned::LineEnded(_) | Scanned::HeadEnded => None,
            Scanned::Rejected(status) => Some(self.reject_head(status, progress, input, cx)),
        }
    }

    /// Waits for more of a head, which has been read as far as `scan`. Its timeout starts with its
    /// first byte.
    fn need_more_head(
        &mut self,
        progress: HeadProgress,
        scan: Scan,
        input: &[u8],
        cx: &mut Context<'_>,
    ) -> Advance {
        if progress.scanned == 0 {
            cx.set_timer(cx.limits().head_timeout);
            let seen = LooksLike { input, empty_lines: progress.empty_lines };
            debug!("{} {}: request incomplete: {seen}", cx.id(), cx.peer());
        }
        let scanned = u16::try_from(input.len()).expect("an unfinished head fits HEAD_BYTES_MAX");
        self.state = State::Head(HeadProgress {
            scanned,
            scan,
            is_head: response_form(input) == ResponseForm::Head,
            ..progress
        });
        Advance::need_more()
    }

    /// Rejects a head that begins with `input`. Nothing after it is parsed.
    #[cold]
    fn reject_head(
        &mut self,
        status: Status,
        progress: HeadProgress,
        input: &[u8],
        cx: &mut Context<'_>,
    ) -> Advance {
        // For debugging only: peers can cause one such line with each connection.
        let seen = LooksLike { input, empty_lines: progress.empty_lines };
        debug!("{} {}: request refused: {status}: {seen}", cx.id(), cx.peer());
        let next = self.reject(status, response_form(input), input, cx);
        Advance { consumed: input.len(), next }
    }

    /// Responds to a request whose head, as it was received, is `head`.
    ///
    /// Inlined, although it has two callers: a call would add eight instructions to each request.
    #[inline(always)]
    fn respond_to(&mut self, request: &Request<'_>, head: &[u8], cx: &mut Context<'_>) -> Next {
        if request.body_bytes() > 0 {
            return self.respond_after_body(request, head, cx);
        }
        let (form, next) = (request.form(), keep_alive_or_close(request, cx));
        let logs_access = self.responder.logs_access();
        let mut lent = HttpContext::new(cx, Time::NEVER);
        let response = self.responder.respond(request, &mut lent);
        let timer = lent.timer;
        if logs_access || response.is_streamed() {
            let entry = logs_access.then(|| LogEntry::new(head, cx));
            return self.state.send(response, Exchange { form, next, entry }, timer, cx);
        }
        // Fast path: the body is short, and the response is not logged.
        let (output, date) = cx.compose();
        response.write(form, next == Next::Continue, date, output);
        next
    }

    /// Responds to a request with a body: after it, unless the client waits for a response first.
    #[cold]
    fn respond_after_body(
        &mut self,
        request: &Request<'_>,
        head: &[u8],
        cx: &mut Context<'_>,
    ) -> Next {
        let (form, left) = (request.form(), request.body_bytes());
        if left > BODY_BYTES_MAX {
            return self.reject(Status::CONTENT_TOO_LARGE, form, head, cx);
        }
        let next = keep_alive_or_close(request, cx);
        let upload = self.responder.receive(request, &mut HttpContext::new(cx, Time::NEVER));
        let entry = self.responder.logs_access().then(|| LogEntry::new(head, cx));
        let mut exchange = Exchange { form, next, entry };
        let body_use = match upload {
            // HTTP/1.0 has no interim response. The client may send the request without the
            // expectation (RFC 9110 section 10.1.1).
            Some(_) if request.expects_continue() => {
                exchange.next = Next::Close;
                return self.state.send_error(Status::EXPECTATION_FAILED, exchange, cx);
            }
            Some(upload) => BodyUse::Upload(CaughtDrop::new(upload)),
            // The client waits for a 100 before it sends its body. It gets the final response
            // instead (RFC 9110 section 10.1.1). It may send the body all the same, so nothing
            // after the head can be parsed, and the connection closes.
            None if request.expects_continue() => {
                exchange.next = Next::Close;
                return self.respond_whole(request, exchange, cx);
            }
            None => BodyUse::Skip(head.into()),
        };
        let held = match &body_use {
            BodyUse::Upload(upload) => upload.held_bytes(left),
            BodyUse::Skip(head) => head.len(),
        };
        if !cx.has_memory_for(held) {
            exchange.next = Next::Close;
            return self.state.send_error(Status::SERVICE_UNAVAILABLE, exchange, cx);
        }
        cx.set_held_bytes(held); // all of it now, so that a body that has begun is not refused
        cx.set_timer(cx.limits().body_timeout);
        self.state = State::Body(Box::new(BodyProgress { left, body_use, exchange }));
        Next::Continue
    }

    /// Responds to a request of which nothing more is received.
    fn respond_whole(
        &mut self,
        request: &Request<'_>,
        exchange: Exchange,
        cx: &mut Context<'_>,
    ) -> Next {
        let mut lent = HttpContext::new(cx, Time::NEVER);
        let response = self.responder.respond(request, &mut lent);
        let timer = lent.timer;
        self.state.send(response, exchange, timer, cx)
    }

    /// Takes or skips the next bytes of a request's body.
    fn advance_body(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let State::Body(body) = &mut self.state else { unreachable!("a body is in progress") };
        let count = usize::try_from(body.left).map_or(input.len(), |left| left.min(input.len()));
        body.left -= count as u64;
        if let BodyUse::Upload(upload) = &mut body.body_use {
            upload.take(&input[..count]);
        }
        if body.left > 0 {
            return Advance::consumed(count);
        }
        cx.cancel_timer();
        let State::Body(body) = self.take_state() else { unreachable!("a body is in progress") };
        let BodyProgress { mut exchange, body_use, .. } = *body;
        if cx.is_stopping() && exchange.next == Next::Continue {
            exchange.next = Next::Close; // the stop began after the head was received
        }
        let next = match body_use {
            BodyUse::Upload(upload) => {
                let mut lent = HttpContext::new(cx, Time::NEVER);
                let response = upload.into_inner().respond(&mut lent);
                let timer = lent.timer;
                self.state.send(response, exchange, timer, cx)
            }
            BodyUse::Skip(head) => {
                let Ok((request, _)) = parse(&head) else {
                    unreachable!("a head that was complete still is")
                };
                self.respond_whole(&request, exchange, cx)
            }
        };
        Advance { consumed: count, next }
    }

    /// Continues a message in progress: a request's body, or a response's.
    #[cold]
    fn continue_message(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        match self.state {
            State::Body(_) => self.advance_body(input, cx),
            State::StreamingBody(_) => Advance::need_more().then(self.state.stream_more(cx)),
            // Another connection has resumed this one. The answer comes first all the same.
            State::Promised(_) | State::Ongoing(_) => Advance::need_more().then(Next::Pause),
            State::Head(_) => unreachable!("a head is no message in progress"),
        }
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::NEXT)
    }

    /// Sends an error response to a request that is invalid, too large or too late, and closes.
    #[cold]
    fn reject(
        &mut self,
        status: Status,
        form: ResponseForm,
        input: &[u8],
        cx: &mut Context<'_>,
    ) -> Next {
        let entry = self.responder.logs_access().then(|| LogEntry::new(input, cx));
        self.state.send_error(status, Exchange { form, next: Next::Close, entry }, cx)
    }

    /// Does the same to a request whose body is cut short or late.
    fn reject_body(&mut self, status: Status, cx: &mut Context<'_>) -> Next {
        let State::Body(body) = self.take_state() else { unreachable!("a body is in progress") };
        let exchange = Exchange { next: Next::Close, ..body.exchange };
        self.state.send_error(status, exchange, cx)
    }
}

impl<R: Responder> Protocol for Http<R> {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        match self.state {
            State::Head(progress) => self.advance_head(progress, input, cx),
            State::Body(_) | State::StreamingBody(_) | State::Promised(_) | State::Ongoing(_) => {
                self.continue_message(input, cx)
            }
        }
    }

    /// The peer has sent its FIN. A response in progress is still sent in full. A request that is
    /// cut short gets 400, and is not served (RFC 9112 section 8).
    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        match &mut self.state {
            State::Head(_) if rest.is_empty() => Next::Close,
            State::Head(progress) => {
                let progress = *progress;
                self.reject_head(Status::BAD_REQUEST, progress, rest, cx).next
            }
            State::Body(_) => self.reject_body(Status::BAD_REQUEST, cx),
            State::StreamingBody(_) => self.state.stream_more(cx),
            State::Promised(promised) => {
                promised.exchange.next = Next::Close;
                Next::Pause
            }
            State::Ongoing(_) => Next::Pause,
        }
    }

    /// The output has fallen to the low watermark: read more of the body that is being sent.
    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        match &self.state {
            State::StreamingBody(_) => self.state.stream_more(cx),
            State::Promised(_) | State::Ongoing(_) => Next::Pause,
            State::Head(_) | State::Body(_) => Next::Continue,
        }
    }

    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        match message.downcast::<Settled>() {
            Ok(settled) => self.settle(*settled, cx),
            Err(message) => {
                self.call_responder(cx, |responder, cx| responder.message_received(message, cx))
            }
        }
    }

    fn notified(
        &mut self,
        about: ConnectionId,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Next {
        let next =
            self.call_responder(cx, |responder, cx| responder.notified(about, notification, cx));
        if notification == Notification::Stopping && matches!(self.state, State::Ongoing(_)) {
            // As an effect: what the responder has sent just now comes before it.
            let own = cx.id();
            cx.connections().close(own);
        }
        next
    }

    /// Before the first request and between two, either side may close (RFC 9112 section 9.5).
    fn is_evictable(&self) -> bool {
        matches!(self.state, State::Head(HeadProgress { scanned: 0, .. }))
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        match &self.state {
            State::Head(progress) => {
                let form = if progress.is_head { ResponseForm::Head } else { ResponseForm::Full };
                debug!("{} {}: request late: {} bytes read", cx.id(), cx.peer(), progress.scanned);
                self.state = State::NEXT;
                self.reject(Status::REQUEST_TIMEOUT, form, b"", cx)
            }
            State::Body(_) => self.reject_body(Status::REQUEST_TIMEOUT, cx),
            State::StreamingBody(_) => self.state.stream_more(cx),
            State::Promised(_) | State::Ongoing(_) => self.wait_expired(cx),
        }
    }

    fn closed(&mut self, _why: CloseReason) {
        match &self.state {
            State::StreamingBody(stream) => stream.log(),
            State::Promised(promised) => promised.log(),
            State::Ongoing(ongoing) => ongoing.log(),
            State::Head(_) | State::Body(_) => {}
        }
    }
}

/// The form of the response to a rejected request: without a body if the method is HEAD.
fn response_form(input: &[u8]) -> ResponseForm {
    if input.starts_with(b"HEAD ") { ResponseForm::Head } else { ResponseForm::Full }
}

#[cfg(test)]
pub(super) mod tests;
