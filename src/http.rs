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

use std::rc::Rc;
use std::time::Duration;

use crate::limits::{BODY_BYTES_MAX, EMPTY_LINES_MAX};
use crate::protocol::{Advance, Context, Next, Protocol};

pub use request::{Method, Request};
pub use response::{Response, Status};

use request::{FEW_HEADERS, FewHeaders, Parsed, has_news, parse};

/// What a server has to say.
pub trait Responder {
    /// Answers one request. Length, date and connection fields are added by the caller, and the body is left out where
    /// there must be none, as for HEAD. The call must return soon: while it runs, nobody else is served.
    fn respond(&mut self, request: &Request<'_>) -> Response<'_>;
}

/// An HTTP conversation, answered by `R`.
#[derive(Debug)]
pub struct Http<R> {
    responder: R,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A request's head is awaited, and the first `scanned` bytes of it are known not to hold its end. `is_head`: these say HEAD,
    /// so that no answer to it has a body. So many `empty_lines` came before it.
    Head { scanned: u32, is_head: bool, empty_lines: u8 },
    /// The head has been answered. The answer leaves when the body that follows has been skipped.
    Body(Box<Body>),
}

impl State {
    /// Nothing of the next request has come.
    const NEXT: State = State::Head { scanned: 0, is_head: false, empty_lines: 0 };

    fn partial(input: &[u8], empty_lines: u8) -> State {
        let scanned = u32::try_from(input.len()).expect("no more than INPUT_BYTES_MAX is carried");
        State::Head { scanned, is_head: method_of(input) == Method::Head, empty_lines }
    }
}

#[derive(Debug)]
struct Body {
    method: Method,
    left: u64,
    answer: Vec<u8>,
    next: Next,
}

impl<R: Responder> Http<R> {
    /// A conversation that has not begun.
    pub fn new(responder: R) -> Http<R> {
        Http { responder, state: State::NEXT }
    }

    fn advance_head(&mut self, input: &[u8], scanned: usize, empty_lines: u8, cx: &mut Context<'_>) -> Advance {
        // Old clients send an empty line after a body. It is no part of what follows (RFC 9112 section 2.2).
        if input[0] == b'\r' {
            match input {
                [_, b'\n', ..] if empty_lines < EMPTY_LINES_MAX => {
                    cx.wake_never();
                    self.state = State::Head { scanned: 0, is_head: false, empty_lines: empty_lines + 1 };
                    return Advance::consumed(2);
                }
                [_] => return self.need_more_head(input, scanned, empty_lines, cx),
                _ => return Advance { consumed: input.len(), next: refuse(Status::BadRequest, Method::Get, cx) },
            }
        }
        if scanned > 0 && !has_news(input, scanned) {
            self.state = State::partial(input, empty_lines);
            return Advance::need_more();
        }
        let mut few: FewHeaders<'_> = [httparse::EMPTY_HEADER; FEW_HEADERS];
        let mut many = Vec::new();
        match parse(input, &mut few, &mut many) {
            Parsed::Partial => self.need_more_head(input, scanned, empty_lines, cx),
            Parsed::Whole(request, length) => {
                if scanned > 0 || empty_lines > 0 {
                    cx.wake_never();
                    self.state = State::NEXT;
                }
                Advance { consumed: length, next: self.answer(&request, cx) }
            }
            Parsed::Refused(status) => Advance { consumed: input.len(), next: refuse(status, method_of(input), cx) },
        }
    }

    /// From its first byte on, a head has its time.
    fn need_more_head(&mut self, input: &[u8], scanned: usize, empty_lines: u8, cx: &mut Context<'_>) -> Advance {
        if scanned == 0 {
            cx.wake_after(Duration::from_millis(cx.limits().head_ms_max));
        }
        self.state = State::partial(input, empty_lines);
        Advance::need_more()
    }

    fn answer(&mut self, request: &Request<'_>, cx: &mut Context<'_>) -> Next {
        let body_bytes = request.body_bytes();
        if body_bytes > BODY_BYTES_MAX {
            return refuse(Status::ContentTooLarge, request.method(), cx);
        }
        let response = self.responder.respond(request);
        // A client that waits for leave to send its body gets the answer instead (RFC 9110 section 10.1.1). Whether it
        // sends the body all the same cannot be known, so nothing after it can be told apart.
        let body_is_uncertain = body_bytes > 0 && request.expects_continue();
        // What a client sends behind CONNECT is for the tunnel that it does not get, and no request.
        let is_tunnel = request.method() == Method::Connect;
        let persists = request.keeps_alive() && !body_is_uncertain && !is_tunnel && !cx.is_stopping();
        let next = match persists {
            true => Next::Continue,
            false if request.keeps_alive() => Next::Close,
            false if body_is_uncertain => Next::Close,
            false => Next::CloseAgreed,
        };
        if body_bytes == 0 || body_is_uncertain {
            send(&response, request.method(), persists, cx);
            return next;
        }
        let mut answer = Vec::new();
        response.write(request.method(), persists, &cx.date(), &mut answer);
        cx.wake_after(Duration::from_millis(cx.limits().body_ms_max));
        self.state = State::Body(Box::new(Body { method: request.method(), left: body_bytes, answer, next }));
        Next::Continue
    }
}

impl<R: Responder> Protocol for Http<R> {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        match &mut self.state {
            State::Head { scanned, empty_lines, .. } => {
                let (scanned, empty_lines) = (*scanned as usize, *empty_lines);
                self.advance_head(input, scanned, empty_lines, cx)
            }
            State::Body(body) => {
                let skipped = input.len().min(usize::try_from(body.left).unwrap_or(usize::MAX));
                body.left -= skipped as u64;
                let mut next = Next::Continue;
                if body.left == 0 {
                    cx.send(&body.answer);
                    cx.wake_never();
                    next = body.next;
                    self.state = State::NEXT;
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
            State::Body(body) => refuse(Status::BadRequest, body.method, cx),
            State::Head { .. } => refuse(Status::BadRequest, method_of(rest), cx),
        }
    }

    /// Between two requests, and before the first, either side may close (RFC 9112 section 9.5).
    fn gives_way(&self) -> bool {
        matches!(self.state, State::Head { scanned: 0, .. })
    }

    fn elapsed(&mut self, cx: &mut Context<'_>) -> Next {
        let method = match &self.state {
            State::Head { is_head: true, .. } => Method::Head,
            State::Head { is_head: false, .. } => Method::Get, // or another whose answers have bodies
            State::Body(body) => body.method,
        };
        refuse(Status::RequestTimeout, method, cx)
    }
}

/// The last answer to a peer that we do not understand, or no longer want to.
fn refuse(status: Status, method: Method, cx: &mut Context<'_>) -> Next {
    send(&Response::error(status), method, false, cx);
    Next::Close
}

#[inline]
fn send(response: &Response<'_>, method: Method, persists: bool, cx: &mut Context<'_>) {
    let (output, date) = cx.compose();
    response.write(method, persists, date, output);
}

/// Which method a request that is refused may have had, as far as it matters: HEAD is answered without a body.
fn method_of(input: &[u8]) -> Method {
    if input.starts_with(b"HEAD ") { Method::Head } else { Method::Get }
}

/// The lecture's tiny web server: one page, and one line of plain text to measure with.
#[derive(Clone, Debug)]
pub struct Site {
    /// One copy, however many connections.
    pages: Rc<Pages>,
}

#[derive(Debug)]
struct Pages {
    front: Response<'static>,
    plaintext: Response<'static>,
}

/// The page at `/`.
const FRONT: &str = "<!DOCTYPE html>\n\
    <html lang=\"en\">\n\
    <head><meta charset=\"utf-8\"><title>reactor</title></head>\n\
    <body>\n\
    <p>Hello world!</p>\n\
    </body>\n\
    </html>\n";

impl Site {
    /// Composes the pages.
    pub fn new() -> Site {
        let front = Response::ok("text/html; charset=utf-8", FRONT.as_bytes());
        let plaintext = Response::ok("text/plain", &b"Hello, World!"[..]);
        Site { pages: Rc::new(Pages { front, plaintext }) }
    }
}

impl Default for Site {
    fn default() -> Site {
        Site::new()
    }
}

impl Responder for Site {
    fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
        if !matches!(request.method(), Method::Get | Method::Head) {
            return Response::error(Status::MethodNotAllowed).with_header("Allow", "GET, HEAD");
        }
        match request.path() {
            b"/" => self.pages.front.reborrow(),
            b"/plaintext" => self.pages.plaintext.reborrow(),
            _ => Response::error(Status::NotFound),
        }
    }
}

#[cfg(test)]
mod tests;
