//! Status codes, and the reason phrases of the common ones.
//!
//! Invariant: a status can be that of a final response. So its code has three digits, and is not an
//! interim one (1xx).

use std::error::Error;
use std::fmt;

/// A status code: that of a final response, from 200 to 599 (RFC 9110 section 15).
///
/// The codes that a server commonly needs are constants, named after their reason phrases. Any
/// other is made with [`Status::new`]. Clients act on the code alone, and take one that they do not
/// know for the first of its class, as in 400 for 499.
///
/// ```
/// use mio_reactor::Status;
///
/// assert_eq!(Status::NOT_FOUND.to_string(), "404 Not Found");
/// assert_eq!(Status::new(404), Ok(Status::NOT_FOUND));
/// assert_eq!(Status::new(418)?.reason(), "");
/// assert!(Status::new(100).is_err());
/// # Ok::<(), mio_reactor::StatusError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u16);

/// The statuses of RFC 1945 section 6.1.1, and those of RFC 9110 section 15 and RFC 6585 that a
/// server needs today.
#[allow(missing_docs)]
impl Status {
    pub const OK: Status = Status(200);
    pub const CREATED: Status = Status(201);
    pub const ACCEPTED: Status = Status(202);
    pub const NO_CONTENT: Status = Status(204);
    pub const MOVED_PERMANENTLY: Status = Status(301);
    pub const FOUND: Status = Status(302);
    pub const SEE_OTHER: Status = Status(303);
    pub const NOT_MODIFIED: Status = Status(304);
    pub const TEMPORARY_REDIRECT: Status = Status(307);
    pub const PERMANENT_REDIRECT: Status = Status(308);
    pub const BAD_REQUEST: Status = Status(400);
    pub const UNAUTHORIZED: Status = Status(401);
    pub const FORBIDDEN: Status = Status(403);
    pub const NOT_FOUND: Status = Status(404);
    pub const METHOD_NOT_ALLOWED: Status = Status(405);
    pub const REQUEST_TIMEOUT: Status = Status(408);
    pub const CONFLICT: Status = Status(409);
    pub const GONE: Status = Status(410);
    pub const PRECONDITION_FAILED: Status = Status(412);
    pub const CONTENT_TOO_LARGE: Status = Status(413);
    pub const URI_TOO_LONG: Status = Status(414);
    pub const UNSUPPORTED_MEDIA_TYPE: Status = Status(415);
    pub const EXPECTATION_FAILED: Status = Status(417);
    pub const UNPROCESSABLE_CONTENT: Status = Status(422);
    pub const TOO_MANY_REQUESTS: Status = Status(429);
    pub const REQUEST_HEADER_FIELDS_TOO_LARGE: Status = Status(431);
    pub const INTERNAL_SERVER_ERROR: Status = Status(500);
    pub const NOT_IMPLEMENTED: Status = Status(501);
    pub const BAD_GATEWAY: Status = Status(502);
    pub const SERVICE_UNAVAILABLE: Status = Status(503);
    pub const GATEWAY_TIMEOUT: Status = Status(504);
    pub const HTTP_VERSION_NOT_SUPPORTED: Status = Status(505);
}

impl Status {
    /// Returns the status with this code.
    ///
    /// # Errors
    ///
    /// [`StatusError`] if the code is not from 200 to 599. An interim response (1xx) does not exist
    /// in HTTP/1.0, and other codes have no class (RFC 9110 section 15).
    pub const fn new(code: u16) -> Result<Status, StatusError> {
        match code {
            200..=599 => Ok(Status(code)),
            _ => Err(StatusError { code }),
        }
    }

    /// Returns the code.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Returns the reason phrase, such as `Not Found`; for a code that has no constant here, an
    /// empty one, which the syntax allows (RFC 9112 section 4).
    pub const fn reason(self) -> &'static str {
        match self {
            Status::OK => "OK",
            Status::CREATED => "Created",
            Status::ACCEPTED => "Accepted",
            Status::NO_CONTENT => "No Content",
            Status::MOVED_PERMANENTLY => "Moved Permanently",
            Status::FOUND => "Found",
            Status::SEE_OTHER => "See Other",
            Status::NOT_MODIFIED => "Not Modified",
            Status::TEMPORARY_REDIRECT => "Temporary Redirect",
            Status::PERMANENT_REDIRECT => "Permanent Redirect",
            Status::BAD_REQUEST => "Bad Request",
            Status::UNAUTHORIZED => "Unauthorized",
            Status::FORBIDDEN => "Forbidden",
            Status::NOT_FOUND => "Not Found",
            Status::METHOD_NOT_ALLOWED => "Method Not Allowed",
            Status::REQUEST_TIMEOUT => "Request Timeout",
            Status::CONFLICT => "Conflict",
            Status::GONE => "Gone",
            Status::PRECONDITION_FAILED => "Precondition Failed",
            Status::CONTENT_TOO_LARGE => "Content Too Large",
            Status::URI_TOO_LONG => "URI Too Long",
            Status::UNSUPPORTED_MEDIA_TYPE => "Unsupported Media Type",
            Status::EXPECTATION_FAILED => "Expectation Failed",
            Status::UNPROCESSABLE_CONTENT => "Unprocessable Content",
            Status::TOO_MANY_REQUESTS => "Too Many Requests",
            Status::REQUEST_HEADER_FIELDS_TOO_LARGE => "Request Header Fields Too Large",
            Status::INTERNAL_SERVER_ERROR => "Internal Server Error",
            Status::NOT_IMPLEMENTED => "Not Implemented",
            Status::BAD_GATEWAY => "Bad Gateway",
            Status::SERVICE_UNAVAILABLE => "Service Unavailable",
            Status::GATEWAY_TIMEOUT => "Gateway Timeout",
            Status::HTTP_VERSION_NOT_SUPPORTED => "HTTP Version Not Supported",
            _ => "",
        }
    }

    /// Returns whether a response of this status may have content: not 204, 205 and 304 (RFC 9110
    /// sections 15.3.5, 15.3.6 and 15.4.5).
    pub(super) fn has_content(self) -> bool {
        !matches!(self.0, 204 | 205 | 304)
    }

    /// Returns whether a response of this status has a Content-Length. 204 and 304 end with their
    /// head, so they have no field that frames a body (RFC 9112 section 6.3).
    pub(super) fn has_length(self) -> bool {
        !matches!(self.0, 204 | 304)
    }

    /// Appends the status line with its line end.
    pub(super) fn write_line(self, head: &mut Vec<u8>) {
        head.extend_from_slice(b"HTTP/1.0 ");
        head.extend_from_slice(&self.digits());
        head.push(b' ');
        head.extend_from_slice(self.reason().as_bytes());
        head.extend_from_slice(b"\r\n");
    }

    #[expect(clippy::cast_possible_truncation, reason = "each value is one digit")]
    fn digits(self) -> [u8; 3] {
        [self.0 / 100, self.0 / 10 % 10, self.0 % 10].map(|digit| b'0' + digit as u8)
    }
}

/// The code and the reason phrase, such as `404 Not Found`; the code alone if it has none.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            "" => write!(f, "{}", self.0),
            reason => write!(f, "{} {reason}", self.0),
        }
    }
}

impl TryFrom<u16> for Status {
    type Error = StatusError;

    fn try_from(code: u16) -> Result<Status, StatusError> {
        Status::new(code)
    }
}

impl From<Status> for u16 {
    fn from(status: Status) -> u16 {
        status.0
    }
}

/// A code that no final response has: it is not from 200 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusError {
    code: u16,
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {} is not from 200 to 599", self.code)
    }
}

impl Error for StatusError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_made_of_any_final_code_and_no_other() {
        // RFC 9110 section 15.
        for code in 0..=u16::MAX {
            let is_final = (200..=599).contains(&code);
            assert_eq!(
                Status::new(code).map(Status::code),
                is_final.then_some(code).ok_or(StatusError { code })
            );
        }
        assert_eq!(Status::new(199).unwrap_err().to_string(), "status 199 is not from 200 to 599");
    }

    #[test]
    fn every_constant_is_named_after_its_reason_phrase() {
        let source = include_str!("status.rs");
        let lines = source.lines().filter_map(|line| line.strip_prefix("    pub const "));
        let constants = lines.filter_map(|line| line.split_once(": Status = Status("));
        let mut count = 0;
        for (name, rest) in constants {
            let code: u16 = rest.strip_suffix(");").unwrap().parse().unwrap();
            let reason = Status::new(code).unwrap().reason();
            assert_eq!(reason.to_uppercase().replace(' ', "_"), name);
            count += 1;
        }
        let reasons = (200..=599).filter(|&code| !Status(code).reason().is_empty());
        assert_eq!(count, reasons.count());
    }

    #[test]
    fn status_without_reason_has_a_valid_line() {
        // RFC 9112 section 4: the space before the reason is there even if the reason is empty.
        let mut line = Vec::new();
        let teapot = Status::new(418).unwrap();
        teapot.write_line(&mut line);
        assert_eq!(line, b"HTTP/1.0 418 \r\n");
        assert_eq!(teapot.to_string(), "418");
    }
}
