//! What the program serves over HTTP: a page, a line of plain text for benchmarks, and an echo.

use std::borrow::Cow;
use std::rc::Rc;

use percent_encoding::percent_decode;

#[cfg(all(unix, feature = "files"))]
use mio_reactor::Files;
use mio_reactor::limits::READ_BYTES_MAX;
use mio_reactor::{
    ContentType, HttpContext, Method, Page, Request, Responder, Response, Status, Upload,
};

/// The lecture's tiny web server: one page at `/`, one line of plain text at `/plaintext`, and
/// `/echo`, which responds to a POST with the body of the request.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// One copy for all connections.
    pages: Rc<Pages>,
}

#[derive(Clone, Debug)]
struct Pages {
    front: Page,
    plaintext: Page,
    logs_access: bool,
    /// A path without a file may be one of the pages.
    has_pages: bool,
    #[cfg(all(unix, feature = "files"))]
    files: Option<Files>,
}

/// The type of ASCII text, as the usual benchmarks expect it.
const PLAIN: ContentType<'static> = ContentType::from_static("text/plain");

/// The page at `/`.
pub(crate) const FRONT: &str = "<!DOCTYPE html>\n\
    <html lang=\"en\">\n\
    <head><meta charset=\"utf-8\"><title>reactor</title></head>\n\
    <body>\n\
    <p>Hello world!</p>\n\
    </body>\n\
    </html>\n";

impl Site {
    /// Composes the pages.
    pub(crate) fn new() -> Site {
        let front = Page::new(ContentType::HTML, FRONT.as_bytes());
        let plaintext = Page::new(PLAIN, &b"Hello, World!"[..]);
        Site {
            pages: Rc::new(Pages {
                front,
                plaintext,
                logs_access: false,
                has_pages: true,
                #[cfg(all(unix, feature = "files"))]
                files: None,
            }),
        }
    }

    /// Sets whether responses are logged, under [`ACCESS_LOG`](mio_reactor::ACCESS_LOG).
    #[must_use]
    pub(crate) fn with_access_log(mut self, logs_access: bool) -> Site {
        Rc::make_mut(&mut self.pages).logs_access = logs_access;
        self
    }

    /// Serves files. Where there is none, serves a page, if it keeps its pages.
    #[cfg(all(unix, feature = "files"))]
    #[must_use]
    pub(crate) fn with_files(mut self, files: Files, keeps_pages: bool) -> Site {
        let pages = Rc::make_mut(&mut self.pages);
        (pages.files, pages.has_pages) = (Some(files), keeps_pages);
        self
    }

    #[inline(always)]
    fn page(&self, request: &Request<'_>) -> Response<'_> {
        let (path, method) = (request.path(), request.method());
        let is_read = matches!(method, Method::Get | Method::Head);
        // Fast path. (A pattern would compare a path byte by byte.)
        if is_read && path == b"/" {
            self.pages.front.response()
        } else if is_read && path == b"/plaintext" {
            self.pages.plaintext.response()
        } else {
            self.pages.respond(PageName::of(path), method)
        }
    }

    /// Apart from `respond`, so that a site without files pays only for the check.
    #[cfg(all(unix, feature = "files"))]
    #[cold]
    fn file_or_page(&self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        let file = self.pages.files.as_ref().and_then(|files| files.find(request, cx));
        file.unwrap_or_else(|| match self.pages.has_pages {
            true => self.page(request),
            false => self.pages.respond(None, request.method()),
        })
    }
}

impl Default for Site {
    fn default() -> Site {
        Site::new()
    }
}

/// The pages, by their paths.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PageName {
    Front,
    Plaintext,
    Echo,
}

impl PageName {
    /// Finds the page of `path`, in which characters may be percent-encoded (RFC 1945 section
    /// 5.1.2).
    fn of(path: &[u8]) -> Option<PageName> {
        PageName::of_plain(path).or_else(|| PageName::of_plain(&Cow::from(percent_decode(path))))
    }

    fn of_plain(path: &[u8]) -> Option<PageName> {
        match path {
            b"/" => Some(PageName::Front),
            b"/plaintext" => Some(PageName::Plaintext),
            b"/echo" => Some(PageName::Echo),
            _ => None,
        }
    }
}

impl Pages {
    #[cold]
    fn respond(&self, name: Option<PageName>, method: Method) -> Response<'_> {
        match (name, method) {
            (Some(PageName::Front), Method::Get | Method::Head) => self.front.response(),
            (Some(PageName::Plaintext), Method::Get | Method::Head) => self.plaintext.response(),
            // Without a body: otherwise `receive` has taken the request.
            (Some(PageName::Echo), Method::Post) => EchoUpload::default().response(),
            (Some(PageName::Echo), _) => not_allowed("POST"),
            (None, Method::Get | Method::Head) => Response::error(Status::NOT_FOUND),
            (_, _) => not_allowed("GET, HEAD"),
        }
    }
}

impl Responder for Site {
    #[inline]
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        #[cfg(all(unix, feature = "files"))]
        if self.pages.files.is_some() {
            return self.file_or_page(request, cx);
        }
        let _ = cx;
        self.page(request)
    }

    fn receive(
        &mut self,
        request: &Request<'_>,
        _: &mut HttpContext<'_, '_>,
    ) -> Option<Box<dyn Upload>> {
        let is_echoed = self.pages.has_pages
            && request.method() == Method::Post
            && PageName::of(request.path()) == Some(PageName::Echo);
        // At most one read: a Content-Length alone proves nothing, and must not allocate much
        // memory.
        let length = usize::try_from(request.body_bytes()).unwrap_or(0);
        let bytes = Vec::with_capacity(length.min(READ_BYTES_MAX));
        is_echoed.then(|| Box::new(EchoUpload { bytes, length }) as Box<dyn Upload>)
    }

    #[inline]
    fn logs_access(&self) -> bool {
        self.pages.logs_access
    }
}

fn not_allowed(methods: &str) -> Response<'static> {
    Response::error(Status::METHOD_NOT_ALLOWED)
        .with_header("Allow", methods)
        .expect("a list of methods is a field value")
}

/// Collects a body, and sends it back.
#[derive(Default)]
struct EchoUpload {
    bytes: Vec<u8>,
    length: usize,
}

impl Upload for EchoUpload {
    fn take(&mut self, piece: &[u8]) {
        let count = self.bytes.len() + piece.len();
        if count > self.bytes.capacity() {
            // Twice the memory, but no more than the body takes: that is what it counts for.
            let capacity = (2 * count).min(self.length);
            self.bytes.reserve_exact(capacity.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(piece);
    }

    fn respond(self: Box<Self>, _: &mut HttpContext<'_, '_>) -> Response<'static> {
        self.response()
    }
}

impl EchoUpload {
    fn response(self) -> Response<'static> {
        // Not with the type that the client sent: another site's page must not become one of ours.
        Response::ok(ContentType::OCTET_STREAM, self.bytes)
    }
}
