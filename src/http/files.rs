//! Files below a directory, over HTTP.
//!
//! ```text
//!  /a%20b//x/../c?d ──► segments "a b", "c" ──► below the root ─┬─► regular file: 200 or 304
//!                        │                       │              ├─► directory: 301 to /a%20b/c/?d
//!                        ▼                       ▼              └─► pipe, device: no such file
//!                 400, or no such file     no such file, 403, 503, 500
//! ```
//!
//! Invariant: no path leads out of the root, whatever is in it, and whatever is moved or linked
//! meanwhile. The kernel ensures that, or cap-std where the kernel cannot. The checks of segments
//! in this file are for what must not be served *within* the root.
//!
//! Nothing is cached between requests but the root's descriptor, which is opened once. So what is
//! served is what is there now, and a root that is renamed stays the root.

mod reader;
mod fd_reserve;
pub(crate) mod limits;

use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use log::{debug, warn};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::content_type::ContentType;
use super::context::HttpContext;
use super::date::wall_clock;
use super::request::{Method, Request};
use super::responder::Responder;
use super::response::Response;
use super::status::Status;
use crate::http::files::limits::{
    FILE_DATE_MIN_S, FILE_DATE_SETTLES_MS, FILE_LOOKUP_US, FILE_WARNING_GAP_MS,
};
use crate::sys;
use crate::sys::errno::{self, OpenError};
use fd_reserve::{FdReserve, ReservedFd};
use reader::{Disk, Reader};

/// The file that is served for a directory.
const INDEX: &str = "index.html";

/// The characters to encode in a segment of a `Location`: all but the unreserved ones (RFC 3986
/// section 2.3).
const NOT_UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What to encode in the query of a `Location`: the bytes of a query that no URI has (RFC 3986
/// section 2).
const BEYOND_ASCII: &AsciiSet = &CONTROLS.add(b'"').add(b'<').add(b'>');

/// Serves the regular files below a directory to GET and HEAD.
///
/// For a directory it serves the `index.html` in it, and never a listing. A path of a directory
/// without the final `/` is redirected to the path with it (301). Links are followed as long as
/// they stay below the root; an absolute link never does. A name that begins with a dot is not
/// served, except `.well-known` (RFC 8615). That holds for the names in the path, and not for those
/// that a link leads to.
///
/// In a path, `.` and `..` are resolved as RFC 3986 section 5.2.4 does, never beyond the root, and
/// several slashes count as one.
///
/// Files are sent in pieces as the peer takes them, and are never held whole. Each response in
/// progress has one file open. A response has a `Last-Modified`, unless the file's date says
/// nothing (before 1990, as build tools set it, in the future, or younger than two seconds). A
/// client that sends back exactly this date gets 304 (RFC 9110 section 13.1.3). Ranges are ignored:
/// HTTP/1.0 has none, and a full response is always allowed (RFC 9110 section 14.2).
///
/// The content type follows from the extension of the name, and is `application/octet-stream` for
/// an unknown one. A type of text says that its charset is UTF-8.
///
/// A clone shares the root. Neither `Send` nor `Sync`: where each thread has a reactor, each opens
/// the root itself.
#[derive(Clone)]
pub struct Files {
    root: Rc<Root>,
}

struct Root {
    fd_reserve: Rc<FdReserve>,
    disk: Rc<Disk>,
    /// Opens that failed since the last warning.
    failures: Cell<u64>,
    /// Earliest time of the next warning.
    next_warning_at: Cell<Option<Instant>>,
}

impl Files {
    /// Opens the directory `root`, to serve the files below it.
    ///
    /// # Errors
    ///
    /// The system's error, if `root` is not a directory, or if it cannot be opened or searched.
    pub fn below(root: impl AsRef<Path>) -> io::Result<Files> {
        let directory = Dir::open_ambient_dir(root, ambient_authority())?;
        // Opening needs no permission to search (open(2), O_PATH), and without that every response
        // would be a 403.
        rustix::fs::statat(&directory, ".", rustix::fs::AtFlags::empty())?;
        Ok(Files {
            root: Rc::new(Root {
                fd_reserve: FdReserve::new(directory),
                disk: Rc::default(),
                failures: Cell::new(0),
                next_warning_at: Cell::new(None),
            }),
        })
    }

    /// Returns the response to a GET or HEAD whose path exists: the file, a redirect, or an error.
    /// `None`: no such file, or another method. The response is then the caller's.
    pub fn find(
        &self,
        request: &Request<'_>,
        cx: &mut HttpContext<'_, '_>,
    ) -> Option<Response<'static>> {
        if !matches!(request.method(), Method::Get | Method::Head) {
            return None;
        }
        if !is_well_encoded(request.path()) {
            return Some(Response::error(Status::BAD_REQUEST));
        }
        let path = ServedPath::new(request.path())?;
        cx.charge(Duration::from_micros(FILE_LOOKUP_US));
        match self.root.find(&path.file()) {
            Ok(Found::File(file, metadata)) => {
                Some(self.file_response(request, &path.file(), file, &metadata))
            }
            Ok(Found::Directory) if !path.is_directory => Some(path.redirect(request.query())),
            // A directory named `index.html` is not an index.
            Ok(Found::Directory | Found::Other) => None,
            Err(error) => self.root.error_response(&path, &error),
        }
    }
}

impl Files {
    /// Returns a 200 with the file, or a 304 if the client has it.
    fn file_response(
        &self,
        request: &Request<'_>,
        path: &Path,
        file: OpenFile,
        metadata: &Metadata,
    ) -> Response<'static> {
        let date = metadata.modified().ok().and_then(|time| last_modified(time, wall_clock()));
        let response = match date {
            Some(date) if has_this_version(request, date) => Response::empty(Status::NOT_MODIFIED),
            _ => {
                let reader = Reader::new(file.file, Rc::clone(&self.root.disk));
                Response::streamed(
                    Status::OK,
                    ContentType::new(&content_type_of(path)).unwrap_or(ContentType::OCTET_STREAM),
                    metadata.len(),
                    FileBody { reader, _fd: file.fd },
                )
            }
        };
        match date {
            Some(date) => response
                .with_header("Last-Modified", &httpdate::fmt_http_date(date))
                .expect("a date is visible ASCII and spaces"),
            None => response,
        }
    }
}

impl Responder for Files {
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        match request.method() {
            Method::Get | Method::Head => {
                self.find(request, cx).unwrap_or_else(|| Response::error(Status::NOT_FOUND))
            }
            Method::Post
            | Method::Put
            | Method::Delete
            | Method::Connect
            | Method::Options
            | Method::Trace
            | Method::Patch => Response::error(Status::METHOD_NOT_ALLOWED)
                .with_header("Allow", "GET, HEAD")
                .expect("a list of methods is a field value"),
        }
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files {{ {:?} }}", self.root.fd_reserve.root)
    }
}

/// What a path leads to.
#[allow(clippy::large_enum_variant, reason = "it stays on the stack; only some systems notice")]
enum Found {
    /// A regular file, open.
    File(OpenFile, Metadata),
    Directory,
    /// A pipe, a socket or a device.
    Other,
}

/// An open file. `fd` is dropped last, when the file has been closed.
struct OpenFile {
    file: File,
    fd: ReservedFd,
}

/// A file that is being sent.
struct FileBody {
    reader: Reader,
    _fd: ReservedFd,
}

impl Read for FileBody {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.read(into)
    }
}

impl Root {
    /// Looks up `path`, and opens it if it is a regular file.
    ///
    /// Nothing else is opened, because an open can have effects: the writer of a pipe would take
    /// this process for its reader, and a device may start to work. If the file becomes one of
    /// these between the two calls, `O_NONBLOCK` keeps the open from waiting for the other end of a
    /// pipe, and `O_NOCTTY` from making a terminal the controlling one.
    fn find(&self, path: &Path) -> io::Result<Found> {
        let fd = ReservedFd::new(&self.fd_reserve);
        let metadata = self.fd_reserve.open(|root| root.metadata(path))?;
        if metadata.is_dir() {
            return Ok(Found::Directory);
        }
        if !metadata.is_file() {
            return Ok(Found::Other);
        }
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = self
            .fd_reserve
            .open_file(|root| root.open_with(path, &options).map(cap_std::fs::File::into_std))?;
        let metadata = file.metadata()?;
        Ok(if metadata.is_file() {
            Found::File(OpenFile { file, fd }, metadata)
        } else {
            Found::Other
        })
    }

    #[cold]
    fn error_response(
        &self,
        path: &ServedPath<'_>,
        error: &io::Error,
    ) -> Option<Response<'static>> {
        let status = match errno::classify_open(error) {
            OpenError::NotFound => return None,
            OpenError::Forbidden => Status::FORBIDDEN,
            OpenError::NoDescriptor | OpenError::TryLater => Status::SERVICE_UNAVAILABLE,
            OpenError::Failed => Status::INTERNAL_SERVER_ERROR,
        };
        debug!("open {:?}: {error}", path.file());
        if status != Status::FORBIDDEN {
            self.warn_rate_limited(error);
        }
        Some(Response::error(status))
    }

    /// Logs a failed open, but at most once in `FILE_WARNING_GAP_MS`: a peer can cause one with
    /// each request.
    fn warn_rate_limited(&self, error: &io::Error) {
        let failures = self.failures.get() + 1;
        self.failures.set(failures);
        let now = sys::now();
        if self.next_warning_at.get().is_none_or(|due| due <= now) {
            warn!("opening files failed {failures} times since the last such line: {error}");
            self.failures.set(0);
            self.next_warning_at
                .set(Some(now + std::time::Duration::from_millis(FILE_WARNING_GAP_MS)));
        }
    }
}

/// The path of a request, decoded into names below the root.
struct ServedPath<'r> {
    segments: Vec<Cow<'r, [u8]>>,
    /// The path ends with `/`, so its index is served.
    is_directory: bool,
}

impl<'r> ServedPath<'r> {
    /// Decodes a path, and resolves its dot segments and empty segments. `None`: no file can have
    /// such a name, or none is served under it.
    ///
    /// `%2e` is a dot (RFC 3986 section 6.2.2.2), and a `..` at the root stays there (section
    /// 5.2.4). Empty segments are left out first, so `..` never takes away one of them.
    fn new(path: &'r [u8]) -> Option<ServedPath<'r>> {
        let (mut segments, mut is_directory) = (Vec::<Cow<'r, [u8]>>::new(), false);
        for segment in path.strip_prefix(b"/")?.split(|&byte| byte == b'/') {
            let segment = Cow::from(percent_decode(segment));
            is_directory = matches!(&*segment, b"" | b"." | b"..");
            match &*segment {
                b"" | b"." => {}
                b".." => {
                    segments.pop();
                }
                // Not even if `..` takes it away again: a proxy that takes the byte for a
                // separator would resolve the path to another name.
                name if has_separator(name) => return None,
                _ => segments.push(segment),
            }
        }
        segments
            .iter()
            .all(|segment| is_served(segment))
            .then_some(ServedPath { segments, is_directory })
    }

    /// The path of the file, relative to the root.
    fn file(&self) -> PathBuf {
        let mut path: PathBuf =
            self.segments.iter().map(|segment| OsStr::from_bytes(segment)).collect();
        if self.is_directory {
            path.push(INDEX);
        }
        path
    }

    /// Returns a 301 to the path with a final `/`. Without that, relative links in the index would
    /// lead elsewhere.
    ///
    /// There is at least one segment, since the root ends with `/`, and none is empty. So the
    /// location never begins with `//`, which would name another host.
    fn redirect(&self, query: Option<&[u8]>) -> Response<'static> {
        let mut location = String::from("/");
        for segment in &self.segments {
            location.extend(percent_encode(segment, NOT_UNRESERVED));
            location.push('/');
        }
        if let Some(query) = query {
            // A `%` stays, so what is encoded already is not encoded again.
            location.push('?');
            location.extend(percent_encode(query, BEYOND_ASCII));
        }
        Response::error(Status::MOVED_PERMANENTLY)
            .with_header("Location", &location)
            .expect("it is visible ASCII, and at most three times as long as a request line")
    }
}

/// Returns whether each `%` is followed by two hexadecimal digits (RFC 3986 section 2.1).
fn is_well_encoded(path: &[u8]) -> bool {
    let mut after_percent = path.split(|&byte| byte == b'%').skip(1);
    after_percent
        .all(|rest| matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()))
}

/// Returns whether a decoded segment has a byte that separates names somewhere, or ends them.
///
/// An encoded slash is no separator here, but it may be one to a proxy. A backslash is one on some
/// systems, so names with one are not served on any.
fn has_separator(segment: &[u8]) -> bool {
    memchr::memchr3(b'/', b'\\', b'\0', segment).is_some()
}

/// Returns whether files and directories of this name are served. A name that begins with a dot
/// hides a file on purpose.
fn is_served(name: &[u8]) -> bool {
    !name.starts_with(b".") || name == b".well-known"
}

/// Returns the `Last-Modified` of a file that was modified at `modified`. `None`: its date does not
/// say which version of the file this is.
///
/// A build tool has set it, or it is in the future or younger than `FILE_DATE_SETTLES_MS`. Then the
/// file may change again and keep it, and the client's copy would still seem current. No other date
/// is sent in its place, as RFC 9110 section 8.8.2.1 would have it for one in the future: whatever
/// it is, it may be that of the next version, which was written then and moved here since.
fn last_modified(modified: SystemTime, now: SystemTime) -> Option<SystemTime> {
    let earliest = SystemTime::UNIX_EPOCH + Duration::from_secs(FILE_DATE_MIN_S);
    let settled_until = now - Duration::from_millis(FILE_DATE_SETTLES_MS);
    (earliest..=settled_until).contains(&modified).then(|| whole_seconds(modified))
}

/// Returns whether the client has the version of the file with this date, according to
/// `If-Modified-Since`.
///
/// Only exactly the date that was sent says so. A file may have been replaced by an older one: by a
/// rollback, or by `cp -p`. Only GET is conditional (RFC 1945 section 8.2). The field is ignored
/// beside an `If-None-Match`, which is not evaluated since responses have no entity tags. It is
/// also ignored if it is not one date (RFC 9110 section 13.1.3).
fn has_this_version(request: &Request<'_>, date: SystemTime) -> bool {
    if request.method() != Method::Get || request.header("If-None-Match").is_some() {
        return false;
    }
    let mut fields = request.header_values("If-Modified-Since");
    let (Some(value), None) = (fields.next(), fields.next()) else { return false };
    let since = str::from_utf8(value).ok().and_then(|value| httpdate::parse_http_date(value).ok());
    since == Some(date)
}

/// `time` in whole seconds, as an HTTP date has them.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs())
}

/// The content type, by the extension of the name alone. The file's content is not examined.
///
/// A text gets a charset: without one, a browser guesses it from the language of its user. JSON is
/// always UTF-8 (RFC 8259 section 8.1), and XML, with SVG, names its encoding itself (RFC 7303).
fn content_type_of(path: &Path) -> Cow<'static, str> {
    match mime_guess::from_path(path).first_raw() {
        // The old name of text/javascript (RFC 9239 section 6).
        Some("application/javascript") => "text/javascript; charset=utf-8".into(),
        Some(text) if text.starts_with("text/") && text != "text/xml" => {
            format!("{text}; charset=utf-8").into()
        }
        Some(other) => other.into(),
        None => ContentType::OCTET_STREAM.as_str().into(),
    }
}

#[cfg(test)]
mod tests;
