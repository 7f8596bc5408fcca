//! What the program serves over HTTP: the lecture's page, one line of plain text to measure with, and an echo.

use std::rc::Rc;

use super::{Method, Page, Request, Responder, Response, Status, Upload};

/// The lecture's tiny web server: one page at `/`, one line of plain text at `/plaintext`, and `/echo`, which answers a POST with
/// the body that it got.
#[derive(Clone, Debug)]
pub struct Site {
    /// One copy, however many connections.
    pages: Rc<Pages>,
}

#[derive(Clone, Debug)]
struct Pages {
    front: Page,
    plaintext: Page,
    logs_access: bool,
}

/// The page at `/`.
pub(super) const FRONT: &str = "<!DOCTYPE html>\n\
    <html lang=\"en\">\n\
    <head><meta charset=\"utf-8\"><title>reactor</title></head>\n\
    <body>\n\
    <p>Hello world!</p>\n\
    </body>\n\
    </html>\n";

impl Site {
    /// Composes the pages.
    pub fn new() -> Site {
        let front = Page::new("text/html; charset=utf-8", FRONT.as_bytes());
        let plaintext = Page::new("text/plain", &b"Hello, World!"[..]);
        Site { pages: Rc::new(Pages { front, plaintext, logs_access: false }) }
    }

    /// The same, whose answers are logged under [`ACCESS_LOG`](super::ACCESS_LOG), or are not.
    #[must_use]
    pub fn with_access_log(mut self, logs_access: bool) -> Site {
        Rc::make_mut(&mut self.pages).logs_access = logs_access;
        self
    }
}

impl Default for Site {
    fn default() -> Site {
        Site::new()
    }
}

impl Responder for Site {
    #[inline]
    fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
        match (request.path(), request.method()) {
            (b"/", Method::Get | Method::Head) => self.pages.front.response(),
            (b"/plaintext", Method::Get | Method::Head) => self.pages.plaintext.response(),
            (b"/echo", Method::Post) => Box::new(Echoed::default()).respond(), // there was no body
            (b"/echo", _) => not_allowed("POST"),
            (_, Method::Get | Method::Head) => Response::error(Status::NotFound),
            (_, _) => not_allowed("GET, HEAD"),
        }
    }

    fn receive(&mut self, request: &Request<'_>) -> Option<Box<dyn Upload>> {
        let is_echoed = request.method() == Method::Post && request.path() == b"/echo";
        is_echoed.then(|| Box::new(Echoed::default()) as Box<dyn Upload>)
    }

    #[inline]
    fn logs_access(&self) -> bool {
        self.pages.logs_access
    }
}

fn not_allowed(methods: &str) -> Response<'static> {
    Response::error(Status::MethodNotAllowed).with_header("Allow", methods)
}

/// A body that is sent back.
#[derive(Default)]
struct Echoed(Vec<u8>);

impl Upload for Echoed {
    fn take(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    fn respond(self: Box<Self>) -> Response<'static> {
        // Not the type that the client gave it: a page of somebody else's must not become one of ours.
        Response::ok("application/octet-stream", self.0)
    }
}
