//! The bytes of a request's head, checked one by one as they arrive.
//!
//! ```text
//!     GET     /a?b     HTTP/1.1  CR LF    Host     : a    CR LF    CR LF
//!     Method  Target…  Version            Name     Value           HeadEnd
//! ```
//!
//! A head that arrives whole and is valid never gets here: `head.rs` parses it. One that arrives in
//! pieces, or is refused, is read here, each byte once. So a byte after which no request is
//! possible is found when it arrives, and not at the end of its line or by a timeout.
//!
//! Invariant: what `head.rs` accepts is never rejected here, and the status depends on nothing
//! behind the byte that decides. So it is the same however the bytes are split into reads.

use super::field::is_token_byte;
use super::request::Method;
use super::status::Status;
use super::target::IS_TARGET_BYTE;
use crate::http::limits::{HEAD_BYTES_MAX, HEADERS_MAX, METHOD_BYTES_MAX, REQUEST_LINE_BYTES_MAX};

/// How far a head is that is not complete yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    place: Place,
    /// Field lines that have begun.
    fields: u8,
}

/// What the bytes so far come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// The beginning of a head.
    Partial,
    /// The request line has just ended, and has this length in bytes. What follows is not read yet.
    LineEnded(usize),
    /// The head has ended.
    HeadEnded,
    /// No request can begin with these bytes.
    Rejected(Status),
}

/// The part of a head that the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The method, of which this many bytes are read.
    Method(u8),
    /// The first byte of a target: of any form but the authority form, and perhaps not of the
    /// asterisk form.
    TargetStart {
        may_be_asterisk: bool,
    },
    /// After the asterisk.
    TargetEnd,
    /// The scheme of a target in the absolute form: this position in `https://`.
    Scheme(u8),
    /// The rest of a target, or the whole target of CONNECT.
    Target,
    /// The version and its line end: this position in [`VERSION`].
    Version(u8),
    /// The line feed of a line without a version.
    SimpleEnd,
    /// The first byte of a field line, or of the empty line.
    FieldStart,
    Name,
    Value,
    /// The line feed of a field line.
    FieldEnd,
    /// The line feed of the empty line.
    HeadEnd,
    /// Behind the head.
    Ended,
}

/// The version in a request line, with the line end. A `0` is any digit.
const VERSION: &[u8; 10] = b"HTTP/0.0\r\n";
const SCHEME: &[u8; 8] = b"https://";

impl Scan {
    /// No byte has been read.
    pub(super) const NEXT: Scan = Scan { place: Place::Method(0), fields: 0 };

    /// Reads on in `input`, which begins with the head and of which `scanned` bytes are read
    /// already: to the end of the request line, to the end of the head, or to the end of `input`.
    pub(super) fn feed(&mut self, input: &[u8], scanned: usize) -> Scanned {
        let head = &input[..input.len().min(HEAD_BYTES_MAX)];
        for (at, &byte) in head.iter().enumerate().skip(scanned) {
            let was_in_line = self.is_in_request_line();
            match self.next(byte, &head[..at]) {
                Ok(place) => self.place = place,
                Err(status) => return Scanned::Rejected(status),
            }
            if self.place == Place::Ended {
                return Scanned::HeadEnded;
            }
            if was_in_line && !self.is_in_request_line() {
                return Scanned::LineEnded(at + 1);
            }
            if was_in_line && at + 1 == REQUEST_LINE_BYTES_MAX {
                return Scanned::Rejected(Status::URI_TOO_LONG);
            }
        }
        if input.len() > HEAD_BYTES_MAX {
            return Scanned::Rejected(Status::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        Scanned::Partial
    }

    fn is_in_request_line(self) -> bool {
        match self.place {
            Place::Method(_)
            | Place::TargetStart { .. }
            | Place::TargetEnd
            | Place::Scheme(_)
            | Place::Target
            | Place::Version(_)
            | Place::SimpleEnd => true,
            Place::FieldStart
            | Place::Name
            | Place::Value
            | Place::FieldEnd
            | Place::HeadEnd
            | Place::Ended => false,
        }
    }

    /// Returns the place after `byte`, or the status if no request has this byte here. `before` is
    /// the head up to it.
    fn next(&mut self, byte: u8, before: &[u8]) -> Result<Place, Status> {
        let is_value = byte == b'\t' || !byte.is_ascii_control();
        match self.place {
            Place::Method(length) if is_token_byte(byte) => match usize::from(length) {
                METHOD_BYTES_MAX.. => Err(Status::NOT_IMPLEMENTED),
                _ => Ok(Place::Method(length + 1)),
            },
            Place::Method(1..) if byte == b' ' => {
                Ok(match Method::of(before) {
                    Some(Method::Connect) => Place::Target,
                    // An unknown method is answered at the end of its line: 501, or 505.
                    Some(Method::Options) | None => Place::TargetStart { may_be_asterisk: true },
                    Some(_) => Place::TargetStart { may_be_asterisk: false },
                })
            }
            Place::TargetStart { may_be_asterisk } => match byte {
                b'/' => Ok(Place::Target),
                b'h' | b'H' => Ok(Place::Scheme(1)),
                b'*' if may_be_asterisk => Ok(Place::TargetEnd),
                _ => Err(Status::BAD_REQUEST),
            },
            // The `s` of `https` may be missing.
            Place::Scheme(4) if byte == b':' => Ok(Place::Scheme(6)),
            Place::Scheme(at) if byte.to_ascii_lowercase() == SCHEME[usize::from(at)] => {
                Ok(match usize::from(at + 1) {
                    after if after == SCHEME.len() => Place::Target,
                    _ => Place::Scheme(at + 1),
                })
            }
            Place::Target if byte == b'?' || IS_TARGET_BYTE[usize::from(byte)] => Ok(Place::Target),
            Place::Target if byte == b'\r' => Ok(Place::SimpleEnd),
            Place::Target if byte == b' ' && before.last() != Some(&b' ') => Ok(Place::Version(0)),
            Place::TargetEnd if byte == b' ' => Ok(Place::Version(0)),
            Place::Version(at) => match VERSION[usize::from(at)] {
                b'0' if byte.is_ascii_digit() => Ok(Place::Version(at + 1)),
                b'\n' if byte == b'\n' => Ok(Place::FieldStart),
                expected if expected == byte && byte != b'0' => Ok(Place::Version(at + 1)),
                _ => Err(Status::BAD_REQUEST),
            },
            Place::SimpleEnd if byte == b'\n' => Ok(Place::FieldStart),
            Place::FieldStart if byte == b'\r' => Ok(Place::HeadEnd),
            Place::FieldStart if is_token_byte(byte) => match usize::from(self.fields) {
                HEADERS_MAX.. => Err(Status::REQUEST_HEADER_FIELDS_TOO_LARGE),
                _ => {
                    self.fields += 1;
                    Ok(Place::Name)
                }
            },
            Place::Name if is_token_byte(byte) => Ok(Place::Name),
            Place::Name if byte == b':' => Ok(Place::Value),
            Place::Value if is_value => Ok(Place::Value),
            Place::Value if byte == b'\r' => Ok(Place::FieldEnd),
            Place::FieldEnd if byte == b'\n' => Ok(Place::FieldStart),
            Place::HeadEnd if byte == b'\n' => Ok(Place::Ended),
            Place::Method(_)
            | Place::TargetEnd
            | Place::Scheme(_)
            | Place::Target
            | Place::SimpleEnd
            | Place::FieldStart
            | Place::Name
            | Place::Value
            | Place::FieldEnd
            | Place::HeadEnd
            | Place::Ended => Err(Status::BAD_REQUEST),
        }
    }
}
