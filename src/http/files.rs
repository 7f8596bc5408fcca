//! Files below a directory, over HTTP.
//!
//! ```text
//!   /a%20b/c?d ──► segments "a b", "c" ──► found below the root ──► a regular file ──► opened: 200 or 304
//!                        │                        │            ├──► a directory: 301 to /a%20b/c/?d
//!                        ▼                        ▼            └──► a pipe, a device: as if it were not there
//!                  400, or no such file     no such file, 403, 503, 500
//! ```
//!
//! Invariant: no path leads out of the root, whatever it says and whatever anybody moves or links meanwhile. The kernel sees
//! to that, or cap-std where the kernel cannot: our own look at the segments is for what must not be served *within* the
//! root.
//!
//! Nothing is kept from one request to the next but the root itself, which is opened once: so what is served is what is
//! there, and a root that is renamed stays the root.

mod reader;
mod fd_reserve;

use std::borrow::Cow;
use std::cell::Cell;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use log::{debug, warn};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::request::{Method, Request};
use super::responder::Responder;
use super::response::Response;
use super::status::Status;
use crate::limits::FILE_WARNING_GAP_MS;
use crate::sys;
use crate::sys::errno::{self, OpenError};
use fd_reserve::{FdReserve, ReservedFd};
use reader::{Disk, Reader};

/// What is served for a directory.
const INDEX: &str = "index.html";

/// What of a segment stands for itself in a `Location`: the unreserved characters (RFC 3986 section 2.3).
const NOT_UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Serves the regular files below a directory to GET and HEAD.
///
/// For a directory it serves the `index.html` in it, and never a listing; if the path lacks the final `/`, the client is
/// sent to where it has one (301). Links are followed as long as they stay below the root; an absolute link never does. A
/// name that begins with a dot is not served, but for `.well-known` (RFC 8615).
///
/// Files are sent piece by piece as the peer takes them, and never held whole. Each answer under way has one file open. An
/// answer has a `Last-Modified`, and a client that has the file since then is told so (304, RFC 9110 section 13.1.3). There
/// are no ranges: HTTP/1.0 has none, and to answer in full is always allowed (RFC 9110 section 14.2).
///
/// The type follows from the name's ending, and is `application/octet-stream` where that says nothing.
///
/// A clone is the same root.
#[derive(Clone)]
pub struct Files {
    root: Rc<Root>,
}

struct Root {
    fd_reserve: Rc<FdReserve>,
    disk: Rc<Disk>,
    /// What could not be opened since it was last logged, and until when no more is logged about it.
    failures: Cell<u64>,
    silent_until: Cell<Option<Instant>>,
}

impl Files {
    /// Serves what is below `root`.
    ///
    /// # Errors
    ///
    /// `root` is no directory, or may not be opened.
    pub fn below(root: impl AsRef<Path>) -> io::Result<Files> {
        let directory = Dir::open_ambient_dir(root, ambient_authority())?;
        Ok(Files {
            root: Rc::new(Root {
                fd_reserve: FdReserve::of(directory),
                disk: Rc::default(),
                failures: Cell::new(0),
                silent_until: Cell::new(None),
            }),
        })
    }

    /// The answer to GET or HEAD, where there is something at this path: the file, or why it cannot be had. `None`: no such
    /// file, or another method. Whoever asks has an answer of his own then.
    pub fn find(&self, request: &Request<'_>) -> Option<Response<'static>> {
        if !matches!(request.method(), Method::Get | Method::Head) {
            return None;
        }
        if !is_well_encoded(request.path()) {
            return Some(Response::error(Status::BadRequest));
        }
        let target = Target::of(request.path())?;
        match self.root.find(&target.file()) {
            Ok(Found::File(file, metadata)) => {
                Some(self.answer(request, &target.file(), file, &metadata))
            }
            Ok(Found::Directory) if !target.is_directory => Some(target.redirect(request.query())),
            // A directory that is called like an index is no index.
            Ok(Found::Directory | Found::Other) => None,
            Err(error) => self.root.error_response(&target, &error),
        }
    }
}

impl Files {
    /// The file, or that it is still the one which the client has.
    fn answer(
        &self,
        request: &Request<'_>,
        path: &Path,
        file: OpenFile,
        metadata: &Metadata,
    ) -> Response<'static> {
        let now = sys::wall_clock();
        let modified = metadata.modified().ok();
        let response = match modified {
            Some(modified) if is_unchanged(request, modified, now) => {
                Response::empty(Status::NotModified)
            }
            _ => {
                let reader = Reader::new(file.file, Rc::clone(&self.root.disk));
                Response::streamed(
                    Status::Ok,
                    type_of(path),
                    metadata.len(),
                    FileBody { reader, _loan: file.fd },
                )
            }
        };
        match modified {
            Some(modified) => response.with_header(
                "Last-Modified",
                &httpdate::fmt_http_date(clamp_last_modified(modified, now)),
            ),
            None => response,
        }
    }
}

impl Responder for Files {
    fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
        match request.method() {
            Method::Get | Method::Head => {
                self.find(request).unwrap_or_else(|| Response::error(Status::NotFound))
            }
            Method::Post
            | Method::Put
            | Method::Delete
            | Method::Connect
            | Method::Options
            | Method::Trace
            | Method::Patch => {
                Response::error(Status::MethodNotAllowed).with_header("Allow", "GET, HEAD")
            }
        }
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files {{ {:?} }}", self.root.fd_reserve.root)
    }
}

/// What a path names.
enum Found {
    /// A regular file, open.
    File(OpenFile, Metadata),
    Directory,
    /// A pipe, a socket or a device.
    Other,
}

/// An open file. The loan comes last, so that it ends when the file is closed.
struct OpenFile {
    file: File,
    fd: ReservedFd,
}

/// One that is being sent.
struct FileBody {
    reader: Reader,
    _loan: ReservedFd,
}

impl Read for FileBody {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.read(into)
    }
}

impl Root {
    /// Finds what `path` names, and opens it if it is a regular file. Nothing else is opened, for that can be felt elsewhere: a
    /// pipe's writer would take us for its reader, and a device may begin to work. (If it becomes one of these between the two
    /// calls, we do not wait for who would write to a pipe, and make no terminal ours.)
    fn find(&self, path: &Path) -> io::Result<Found> {
        let loan = ReservedFd::of(&self.fd_reserve);
        let metadata = self.fd_reserve.open(|root| root.metadata(path))?;
        if metadata.is_dir() {
            return Ok(Found::Directory);
        }
        if !metadata.is_file() {
            return Ok(Found::Other);
        }
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = self.fd_reserve.open(|root| root.open_with(path, &options))?.into_std();
        let metadata = file.metadata()?;
        Ok(if metadata.is_file() {
            Found::File(OpenFile { file, fd: loan }, metadata)
        } else {
            Found::Other
        })
    }

    #[cold]
    fn error_response(&self, target: &Target<'_>, error: &io::Error) -> Option<Response<'static>> {
        let status = match errno::classify_open(error) {
            OpenError::NotFound => return None,
            OpenError::Forbidden => Status::Forbidden,
            OpenError::NoDescriptor | OpenError::TryLater => Status::ServiceUnavailable,
            OpenError::Failed => Status::InternalServerError,
        };
        debug!("open {:?}: {error}", target.file());
        if status != Status::Forbidden {
            self.warn_rate_limited(error);
        }
        Some(Response::error(status))
    }

    /// Somebody should know, but not at each request.
    fn warn_rate_limited(&self, error: &io::Error) {
        let failures = self.failures.get() + 1;
        self.failures.set(failures);
        let now = sys::now();
        if self.silent_until.get().is_none_or(|until| until <= now) {
            warn!("opening files failed {failures} times since the last such line: {error}");
            self.failures.set(0);
            self.silent_until
                .set(Some(now + std::time::Duration::from_millis(FILE_WARNING_GAP_MS)));
        }
    }
}

/// Where a path leads, below the root.
struct Target<'r> {
    segments: Vec<Cow<'r, [u8]>>,
    /// The path ends with `/`: so what is served is the index in there.
    is_directory: bool,
}

impl<'r> Target<'r> {
    /// `None`: there can be no file of such a name, or none that is served.
    fn of(path: &'r [u8]) -> Option<Target<'r>> {
        let mut segments: Vec<Cow<'r, [u8]>> = path
            .strip_prefix(b"/")?
            .split(|&byte| byte == b'/')
            .map(|segment| percent_decode(segment).into())
            .collect();
        let is_directory = segments.last().is_some_and(|last| last.is_empty());
        if is_directory {
            segments.pop();
        }
        segments.iter().all(|segment| is_name(segment)).then_some(Target { segments, is_directory })
    }

    /// As the system is asked for it.
    fn file(&self) -> PathBuf {
        let mut path: PathBuf =
            self.segments.iter().map(|segment| OsStr::from_bytes(segment)).collect();
        if self.is_directory {
            path.push(INDEX);
        }
        path
    }

    /// To where it has the final `/`, without which what is relative in the index would lead elsewhere. There is always a
    /// segment before that, and none is empty, so it never begins with `//`, which would name another host.
    fn redirect(&self, query: Option<&[u8]>) -> Response<'static> {
        let mut location = String::from("/");
        for segment in &self.segments {
            location.extend(percent_encode(segment, NOT_UNRESERVED));
            location.push('/');
        }
        if let Some(query) = query {
            location.push('?');
            location.extend(query.iter().map(|&byte| char::from(byte))); // visible ASCII, as all of a target is
        }
        Response::error(Status::MovedPermanently).with_header("Location", &location)
    }
}

/// Is each `%` followed by two hexadecimal digits (RFC 3986 section 2.1)?
fn is_well_encoded(path: &[u8]) -> bool {
    let mut behind = path.split(|&byte| byte == b'%').skip(1);
    behind.all(|rest| matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()))
}

/// Can a decoded segment be the name of what is served? What begins with a dot leads up, or has been hidden on purpose. A
/// slash that was encoded separates nothing. A backslash does on some systems; files called so are lost on the others.
fn is_name(segment: &[u8]) -> bool {
    let is_hidden = segment.starts_with(b".") && segment != b".well-known";
    !segment.is_empty() && !is_hidden && memchr::memchr3(b'/', b'\\', b'\0', segment).is_none()
}

/// Has the client what it asks for? Only GET is conditional (RFC 1945 section 8.2). The field means nothing where there is
/// an `If-None-Match`, which we do not evaluate since we give no entity tags, nor if it is no date (RFC 9110 section 13.1.3)
/// or one that lies ahead (RFC 1945 section 10.9).
fn is_unchanged(request: &Request<'_>, modified: SystemTime, now: SystemTime) -> bool {
    if request.method() != Method::Get || request.header("If-None-Match").is_some() {
        return false;
    }
    let field = request.header("If-Modified-Since").and_then(|value| str::from_utf8(value).ok());
    let since = field.and_then(|value| httpdate::parse_http_date(value).ok());
    since.is_some_and(|since| since <= now && whole_seconds(modified) <= since)
}

/// What a client can be told, and say again: whole seconds, of which a fraction is not yet another.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(since_epoch.as_secs())
}

/// A moment as it may be said: not one that lies ahead of the answer's date (RFC 9110 section 8.8.2.1), nor one before HTTP's
/// calendar begins. Nor one of this second, which is not over: a file that changes in it once more could not be told from the
/// one that the client has. (And the answer's date is that of a turn that began a little earlier.)
fn clamp_last_modified(modified: SystemTime, now: SystemTime) -> SystemTime {
    modified.min(now - std::time::Duration::from_secs(1)).max(SystemTime::UNIX_EPOCH)
}

/// By the ending of its name alone: a file's content is not looked at.
fn type_of(path: &Path) -> &'static str {
    mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream")
}

#[cfg(test)]
mod tests;
