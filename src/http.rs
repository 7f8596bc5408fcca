//! HTTP/1.0, correctly framed.
//!
//! [`Http`] is a [`Protocol`] that owns everything about where a message begins and ends: it parses, decides whether the
//! connection persists, skips bodies nobody wants, and writes the framing fields itself. What to say it asks of a
//! [`Responder`], which therefore cannot get the framing wrong.
//!
//! Our status line says HTTP/1.0 to everyone (RFC 9110 section 6.2: we do not decode chunks, so we are no 1.1 server).
//! A client keeps such a connection open only if told so: hence `Connection: keep-alive` on every answer that is not the
//! last (RFC 9112 section 9.3).

mod request;
mod response;

use std::time::Duration;

use crate::limits::{BODY_BYTES_MAX, BODY_MS_MAX, HEAD_MS_MAX};
use crate::protocol::{Advance, Context, Next, Protocol};

pub use request::{Method, Request};
pub use response::{Response, Status};

use request::{HeaderRoom, Parsed, has_end, parse};
use response::render;

/// What a server has to say.
pub trait Responder {
    /// Answers one request. Length, date and connection fields are added by the caller, and the body is left out where
    /// there must be none, as for HEAD. The call must return soon: while it runs, nobody else is served.
    fn respond(&mut self, request: &Request<'_>) -> Response;
}

/// An HTTP conversation, answered by `R`.
#[derive(Debug)]
pub struct Http<R> {
    responder: R,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A request's head is awaited, and the first `scanned` bytes of it are known not to hold its end.
    Head { scanned: usize },
    /// The head has been answered. The answer leaves when the body that follows has been skipped.
    Body(Box<Body>),
}

#[derive(Debug)]
struct Body {
    left: u64,
    answer: Vec<u8>,
    next: Next,
}

impl<R: Responder> Http<R> {
    /// A conversation that has not begun.
    pub fn new(responder: R) -> Http<R> {
        Http { responder, state: State::Head { scanned: 0 } }
    }

    fn advance_head(&mut self, input: &[u8], scanned: usize, cx: &mut Context<'_>) -> Advance {
        // A head that comes in many pieces is parsed twice, not once per piece: the second time when its end is there.
        if scanned > 0 && !has_end(input, scanned) {
            self.state = State::Head { scanned: input.len() };
            return Advance::need_more();
        }
        let mut room = HeaderRoom::new();
        match parse(input, &mut room) {
            Parsed::Partial => {
                if scanned == 0 {
                    cx.wake_after(Duration::from_millis(HEAD_MS_MAX));
                }
                self.state = State::Head { scanned: input.len() };
                Advance::need_more()
            }
            Parsed::Whole(request, length) => {
                if scanned > 0 {
                    cx.wake_never();
                    self.state = State::Head { scanned: 0 };
                }
                Advance { consumed: length, next: self.answer(&request, cx) }
            }
            // A later minor version is answered as 1.1 (RFC 9110 section 2.5), which the parser must be told.
            Parsed::LaterMinor(at) => {
                let mut as_1_1 = input.to_vec();
                as_1_1[at] = b'1';
                self.advance_head(&as_1_1, scanned, cx)
            }
            Parsed::Refused(status) => Advance { consumed: input.len(), next: refuse(status, cx) },
        }
    }

    fn answer(&mut self, request: &Request<'_>, cx: &mut Context<'_>) -> Next {
        let body_bytes = request.body_bytes();
        if body_bytes > BODY_BYTES_MAX {
            let response = Response::error(Status::ContentTooLarge);
            render(&response, request.method(), false, &cx.date(), |bytes| cx.send(bytes));
            return Next::Close;
        }
        let response = self.responder.respond(request);
        // A client that waits for leave to send its body gets the answer instead (RFC 9110 section 10.1.1). Whether it
        // sends the body all the same cannot be known, so nothing after it can be told apart.
        let body_is_uncertain = body_bytes > 0 && request.expects_continue();
        let persists = request.keeps_alive() && !body_is_uncertain && !cx.is_stopping();
        let next = match persists {
            true => Next::Continue,
            false if request.keeps_alive() => Next::Close,
            false if body_is_uncertain => Next::Close,
            false => Next::CloseAgreed,
        };
        if body_bytes == 0 || body_is_uncertain {
            render(&response, request.method(), persists, &cx.date(), |bytes| cx.send(bytes));
            return next;
        }
        let mut answer = Vec::new();
        render(&response, request.method(), persists, &cx.date(), |bytes| answer.extend_from_slice(bytes));
        cx.wake_after(Duration::from_millis(BODY_MS_MAX));
        self.state = State::Body(Box::new(Body { left: body_bytes, answer, next }));
        Next::Continue
    }
}

impl<R: Responder> Protocol for Http<R> {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        match &mut self.state {
            State::Head { scanned } => {
                let scanned = *scanned;
                self.advance_head(input, scanned, cx)
            }
            State::Body(body) => {
                let skipped = input.len().min(usize::try_from(body.left).unwrap_or(usize::MAX));
                body.left -= skipped as u64;
                let mut next = Next::Continue;
                if body.left == 0 {
                    cx.send(&body.answer);
                    cx.wake_never();
                    next = body.next;
                    self.state = State::Head { scanned: 0 };
                }
                Advance { consumed: skipped, next }
            }
        }
    }

    /// A client that only shuts its write side still gets every answer that it asked for in full. A request cut short gets
    /// 400, and is not served (RFC 9112 section 8).
    fn ended(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        match &self.state {
            State::Head { .. } if rest.is_empty() => Next::Close,
            State::Head { .. } | State::Body(_) => refuse(Status::BadRequest, cx),
        }
    }

    fn elapsed(&mut self, cx: &mut Context<'_>) -> Next {
        refuse(Status::RequestTimeout, cx)
    }
}

/// The last answer to a peer that we do not understand, or no longer want to.
fn refuse(status: Status, cx: &mut Context<'_>) -> Next {
    render(&Response::error(status), Method::Get, false, &cx.date(), |bytes| cx.send(bytes));
    Next::Close
}

/// The lecture's tiny web server: one page, and one line of plain text to measure with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Site;

/// The page at `/`.
const PAGE: &str = "<!DOCTYPE html>\n\
    <html lang=\"en\">\n\
    <head><meta charset=\"utf-8\"><title>reactor</title></head>\n\
    <body>\n\
    <p>Hello world!</p>\n\
    </body>\n\
    </html>\n";

impl Responder for Site {
    fn respond(&mut self, request: &Request<'_>) -> Response {
        if !matches!(request.method(), Method::Get | Method::Head) {
            return Response::error(Status::MethodNotAllowed).with_header("Allow", "GET, HEAD");
        }
        match request.path() {
            "/" => Response::ok("text/html; charset=utf-8", PAGE.as_bytes()),
            "/plaintext" => Response::ok("text/plain", &b"Hello, World!"[..]),
            _ => Response::error(Status::NotFound),
        }
    }
}

#[cfg(test)]
mod tests;
