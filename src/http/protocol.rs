//! HTTP/1.0, correctly framed.
//!
//! [`Http`] is a [`Protocol`] that owns everything about where a message begins and ends: it parses, decides whether the
//! connection persists, skips bodies nobody wants, and writes the framing fields itself. What to say it asks of a
//! [`Responder`], which therefore cannot get the framing wrong.
//!
//! Our status line says HTTP/1.0 to everyone (RFC 9110 section 6.2: we do not decode chunks, so we are no 1.1 server).
//! A client keeps such a connection open only if told so: hence `Connection: keep-alive` on every answer that is not the
//! last (RFC 9112 section 9.3).

use std::time::Duration;

use crate::limits::{BODY_BYTES_MAX, BODY_RETRY_MS, EMPTY_LINES_MAX};
use crate::protocol::context::Context;
use crate::protocol::ident::CloseReason;
use crate::protocol::protocol::{Advance, Next, Protocol};

use super::access_log::LogEntry;
use super::body::{BodyStream, ReadOutcome};
use super::head::{FEW_HEADERS, FewHeaders, Parsed, has_new_line, parse};
use super::request::{Method, Request};
use super::responder::{Responder, Upload};
use super::response::{Response, ResponseBody, ResponseForm};
use super::status::Status;

/// An HTTP conversation, answered by `R`.
pub struct Http<R> {
    responder: R,
    state: State,
}

enum State {
    /// A request's head is to come.
    Head(HeadProgress),
    /// The body of a request arrives. The answer leaves behind its last byte.
    Body(Box<BodyProgress>),
    /// The body of an answer leaves. No input is taken meanwhile.
    StreamingBody(Box<BodyStream>),
}

impl State {
    /// Nothing of the next request has come.
    const NEXT: State = State::Head(HeadProgress::NEXT);
    /// Nothing has come at all.
    const FIRST: State = State::Head(HeadProgress { is_first: true, ..HeadProgress::NEXT });
}

/// What is known of a head that has not come yet.
#[derive(Clone, Copy)]
struct HeadProgress {
    /// So many bytes of it are known not to hold its end.
    scanned: u32,
    /// These say HEAD, so that no answer to it has a body.
    is_head: bool,
    /// How many came before it.
    empty_lines: u8,
    /// It is the first on its connection.
    is_first: bool,
}

impl HeadProgress {
    /// Nothing of the next one.
    const NEXT: HeadProgress =
        HeadProgress { scanned: 0, is_head: false, empty_lines: 0, is_first: false };
}

/// A body, of which `left` bytes are still to come.
struct BodyProgress {
    left: u64,
    form: ResponseForm,
    next: Next,
    body_use: BodyUse,
    entry: Option<Box<LogEntry>>,
}

/// What becomes of a body, and who answers behind it.
enum BodyUse {
    /// It is skipped, for nobody wants it. Behind it, the request with this head is answered as if it had had none.
    Skip(Box<[u8]>),
    /// It is taken by somebody, who will answer.
    Upload(Box<dyn Upload>),
}

impl<R: Responder> Http<R> {
    /// A conversation that has not begun.
    pub fn new(responder: R) -> Http<R> {
        Http { responder, state: State::FIRST }
    }

    fn advance_head(
        &mut self,
        coming: HeadProgress,
        input: &[u8],
        cx: &mut Context<'_>,
    ) -> Advance {
        // Old clients send an empty line after a body. It is no part of what follows (RFC 9112 section 2.2).
        if input[0] == b'\r' {
            match input {
                [_, b'\n', ..] if coming.empty_lines < EMPTY_LINES_MAX => {
                    cx.cancel_timer();
                    self.state = State::Head(HeadProgress {
                        scanned: 0,
                        empty_lines: coming.empty_lines + 1,
                        ..coming
                    });
                    return Advance::consumed(2);
                }
                [_] => return self.need_more_head(coming, input, cx),
                _ => {
                    return Advance {
                        consumed: input.len(),
                        next: self.reject(Status::BadRequest, ResponseForm::Full, input, cx),
                    };
                }
            }
        }
        if coming.scanned > 0 && !has_new_line(input, coming.scanned as usize) {
            return self.need_more_head(coming, input, cx);
        }
        let mut few: FewHeaders<'_> = [httparse::EMPTY_HEADER; FEW_HEADERS];
        let mut many = Vec::new();
        match parse(input, &mut few, &mut many) {
            Parsed::Partial => self.need_more_head(coming, input, cx),
            // Who has spoken HTTP/1 takes no answer without a head, and somebody behind it might take the file for one.
            Parsed::Complete(request, _)
                if request.form() == ResponseForm::Simple && !coming.is_first =>
            {
                Advance {
                    consumed: input.len(),
                    next: self.reject(Status::BadRequest, ResponseForm::Full, input, cx),
                }
            }
            Parsed::Complete(request, length) => {
                if coming.scanned > 0 || coming.empty_lines > 0 {
                    cx.cancel_timer();
                }
                if let State::Head(coming) = &mut self.state {
                    *coming = HeadProgress::NEXT; // in place, for the state as a whole would have to be dropped
                }
                Advance { consumed: length, next: self.respond_to(&request, &input[..length], cx) }
            }
            Parsed::Rejected(status) => Advance {
                consumed: input.len(),
                next: self.reject(status, response_form(input), input, cx),
            },
        }
    }

    /// From its first byte on, a head has its time.
    fn need_more_head(
        &mut self,
        coming: HeadProgress,
        input: &[u8],
        cx: &mut Context<'_>,
    ) -> Advance {
        if coming.scanned == 0 {
            cx.set_timer(Duration::from_millis(cx.limits().head_timeout_ms));
        }
        let scanned = u32::try_from(input.len()).expect("no more than INPUT_BYTES_MAX is carried");
        self.state = State::Head(HeadProgress {
            scanned,
            is_head: response_form(input) == ResponseForm::Head,
            ..coming
        });
        Advance::need_more()
    }

    /// Answers the request that `head` says.
    fn respond_to(&mut self, request: &Request<'_>, head: &[u8], cx: &mut Context<'_>) -> Next {
        if request.body_bytes() > 0 {
            return self.respond_after_body(request, head, cx);
        }
        let next = keep_alive_or_close(request, cx);
        let logs_access = self.responder.logs_access();
        let response = self.responder.respond(request);
        if logs_access || response.is_streamed() {
            let entry = logs_access.then(|| LogEntry::new(head, cx));
            return send(&mut self.state, response, request.form(), next, entry, cx);
        }
        // As nearly always: it is short, and nobody wants to know.
        let (output, date) = cx.compose();
        response.write(request.form(), next == Next::Continue, date, output);
        next
    }

    /// The same, where the answer has to wait until the request's body has come.
    #[cold]
    fn respond_after_body(
        &mut self,
        request: &Request<'_>,
        head: &[u8],
        cx: &mut Context<'_>,
    ) -> Next {
        let (form, left) = (request.form(), request.body_bytes());
        if left > BODY_BYTES_MAX {
            return self.reject(Status::ContentTooLarge, form, head, cx);
        }
        let next = keep_alive_or_close(request, cx);
        let upload = self.responder.receive(request);
        let entry = self.responder.logs_access().then(|| LogEntry::new(head, cx));
        let then = match upload {
            // RFC 9110 section 10.1.1. There is no interim answer in HTTP/1.0; the client may ask without expecting one.
            Some(_) if request.expects_continue() => {
                return send_last(Status::ExpectationFailed, form, entry, cx);
            }
            Some(upload) => BodyUse::Upload(upload),
            // A client that waits for leave to send its body gets the answer instead (RFC 9110 section 10.1.1). Whether it
            // sends the body all the same cannot be known, so nothing after it can be told apart.
            None if request.expects_continue() => {
                let response = self.responder.respond(request);
                return send(&mut self.state, response, form, Next::Close, entry, cx);
            }
            None => BodyUse::Skip(head.into()),
        };
        cx.set_timer(Duration::from_millis(cx.limits().body_timeout_ms));
        self.state =
            State::Body(Box::new(BodyProgress { left, form, next, body_use: then, entry }));
        Next::Continue
    }

    /// Takes the next bytes of a request's body.
    fn advance_body(
        &mut self,
        mut body: Box<BodyProgress>,
        input: &[u8],
        cx: &mut Context<'_>,
    ) -> Advance {
        let count = usize::try_from(body.left).map_or(input.len(), |left| left.min(input.len()));
        body.left -= count as u64;
        if let BodyUse::Upload(upload) = &mut body.body_use {
            upload.take(&input[..count]);
        }
        if body.left > 0 {
            self.state = State::Body(body);
            return Advance::consumed(count);
        }
        cx.cancel_timer();
        let BodyProgress { form, mut next, body_use: then, entry, .. } = *body;
        if cx.is_stopping() && next == Next::Continue {
            next = Next::Close; // since the head came
        }
        let next = match then {
            BodyUse::Upload(upload) => {
                send(&mut self.state, upload.respond(), form, next, entry, cx)
            }
            BodyUse::Skip(head) => {
                let mut few: FewHeaders<'_> = [httparse::EMPTY_HEADER; FEW_HEADERS];
                let mut many = Vec::new();
                match parse(&head, &mut few, &mut many) {
                    Parsed::Complete(request, _) => send(
                        &mut self.state,
                        self.responder.respond(&request),
                        form,
                        next,
                        entry,
                        cx,
                    ),
                    Parsed::Partial | Parsed::Rejected(_) => {
                        unreachable!("what was a whole head still is one")
                    }
                }
            }
        };
        Advance { consumed: count, next }
    }

    /// Goes on with what has begun: a request's body, or an answer's.
    #[cold]
    fn continue_message(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        match std::mem::replace(&mut self.state, State::NEXT) {
            State::Body(body) => self.advance_body(body, input, cx),
            State::StreamingBody(stream) => {
                Advance::need_more().then(stream_more(&mut self.state, stream, cx))
            }
            State::Head(_) => unreachable!("between two messages, nothing has begun"),
        }
    }

    /// The last answer to a peer that we do not understand, or no longer want to.
    #[cold]
    fn reject(
        &mut self,
        status: Status,
        form: ResponseForm,
        input: &[u8],
        cx: &mut Context<'_>,
    ) -> Next {
        let entry = self.responder.logs_access().then(|| LogEntry::new(input, cx));
        send_last(status, form, entry, cx)
    }
}

impl<R: Responder> Protocol for Http<R> {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        match self.state {
            State::Head(coming) => self.advance_head(coming, input, cx),
            State::Body(_) | State::StreamingBody(_) => self.continue_message(input, cx),
        }
    }

    /// A client that only shuts its write side still gets every answer that it asked for in full. A request cut short gets
    /// 400, and is not served (RFC 9112 section 8).
    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        match std::mem::replace(&mut self.state, State::NEXT) {
            State::Head(_) if rest.is_empty() => Next::Close,
            State::Head(_) => self.reject(Status::BadRequest, response_form(rest), rest, cx),
            State::Body(body) => send_last(Status::BadRequest, body.form, body.entry, cx),
            State::StreamingBody(stream) => stream_more(&mut self.state, stream, cx),
        }
    }

    /// What was streamed has mostly left: there is room for more.
    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        match std::mem::replace(&mut self.state, State::NEXT) {
            State::StreamingBody(stream) => stream_more(&mut self.state, stream, cx),
            state @ (State::Head(_) | State::Body(_)) => {
                self.state = state;
                Next::Continue
            }
        }
    }

    /// Between two requests, and before the first, either side may close (RFC 9112 section 9.5).
    fn is_evictable(&self) -> bool {
        matches!(self.state, State::Head(HeadProgress { scanned: 0, .. }))
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        let form = match std::mem::replace(&mut self.state, State::NEXT) {
            State::Head(coming) => {
                if coming.is_head {
                    ResponseForm::Head
                } else {
                    ResponseForm::Full
                }
            }
            State::Body(body) => {
                return send_last(Status::RequestTimeout, body.form, body.entry, cx);
            }
            State::StreamingBody(stream) => return stream_more(&mut self.state, stream, cx),
        };
        self.reject(Status::RequestTimeout, form, b"", cx)
    }

    fn closed(&mut self, why: CloseReason) {
        let _ = why;
        if let State::StreamingBody(stream) = &self.state {
            stream.log();
        }
    }
}

/// What follows the answer to a request.
#[inline]
fn keep_alive_or_close(request: &Request<'_>, cx: &Context<'_>) -> Next {
    if request.method() == Method::Connect {
        Next::Close // what its client sends behind it is for the tunnel that it does not get, and no request
    } else if request.keeps_alive() {
        if cx.is_stopping() { Next::Close } else { Next::Continue }
    } else if request.form() == ResponseForm::Simple {
        Next::Close // it has said nothing about its end
    } else {
        Next::CloseWithoutLinger
    }
}

/// Sends a response, behind which `next` is to follow, and says what follows for now: what leaves in pieces has only begun then,
/// and stands in `state`.
#[inline(never)]
fn send(
    state: &mut State,
    response: Response<'_>,
    form: ResponseForm,
    next: Next,
    entry: Option<Box<LogEntry>>,
    cx: &mut Context<'_>,
) -> Next {
    let response = if form == ResponseForm::Head { response } else { response.into_streamed() };
    let (output, date) = cx.compose();
    response.write(form, next == Next::Continue, date, output);
    let code = response.code();
    let body_bytes = if form == ResponseForm::Head { 0 } else { response.body_bytes() };
    match response.body {
        ResponseBody::Streamed(length, body) if body_bytes > 0 => {
            stream_more(state, Box::new(BodyStream::new(body, length, next, code, entry)), cx)
        }
        ResponseBody::Streamed(..) | ResponseBody::Bytes(_) => {
            if let Some(entry) = entry {
                entry.log(code, body_bytes);
            }
            next
        }
    }
}

/// Sends an error, behind which we close.
fn send_last(
    status: Status,
    form: ResponseForm,
    entry: Option<Box<LogEntry>>,
    cx: &mut Context<'_>,
) -> Next {
    let mut untouched = State::NEXT; // for an error is too short to leave in pieces
    send(&mut untouched, Response::error(status), form, Next::Close, entry, cx)
}

/// Goes on with an answer's body.
#[cold]
fn stream_more(state: &mut State, mut stream: Box<BodyStream>, cx: &mut Context<'_>) -> Next {
    cx.cancel_timer();
    let piece = stream.read(cx.compose().0);
    match piece {
        ReadOutcome::Data => {}
        ReadOutcome::WouldBlock => cx.set_timer(Duration::from_millis(BODY_RETRY_MS)),
        ReadOutcome::Last => {
            stream.log();
            return stream.next;
        }
        // The client has been told a length, and must not take less for the whole.
        ReadOutcome::TooShort => {
            stream.log();
            return Next::Abort;
        }
    }
    *state = State::StreamingBody(stream);
    Next::Pause
}

/// What of an answer the sender of a refused request can take, as far as it can be told: none to HEAD has a body.
fn response_form(input: &[u8]) -> ResponseForm {
    if input.starts_with(b"HEAD ") { ResponseForm::Head } else { ResponseForm::Full }
}

#[cfg(test)]
pub(super) mod tests;
