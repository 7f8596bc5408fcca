//! The access log: one line for each response, in the Common Log Format.
//!
//! ```text
//! 127.0.0.1 - - [24/Nov/2026:02:48:08 +0000] "GET /plaintext HTTP/1.1" 200 13
//! ```
//!
//! The time is when the request's head was complete or was rejected. The last number counts the
//! bytes of the body that were written to the connection; `-` is none. A peer on a Unix socket has
//! no address, and is shown as `unix`. The line is written when the response is complete or has
//! been aborted. A promised answer that its connection did not live to see is 499, as in nginx. Of
//! an answer that goes on, the number is `-`: others send its body.
//!
//! Invariant: no byte that a peer sends can end a line, close its quotes or control a terminal.

use std::fmt;
use std::time::Duration;

use log::info;

use crate::http::limits::{ACCESS_LINE_BYTES_MAX, LOG_LINE_US};
use crate::protocol::context::Context;
use crate::protocol::ident::Peer;

/// The target, as the `log` crate uses the word, of the access log. Its lines have level info.
pub const ACCESS_LOG: &str = "reactor::access";

/// The part of a line that is known when the head has been received.
pub(super) struct LogEntry {
    peer: Peer,
    date: [u8; 29],
    line: String,
}

impl LogEntry {
    /// Makes the entry of a response to the request that `input` begins with.
    #[cold]
    pub(super) fn new(input: &[u8], cx: &mut Context<'_>) -> Box<LogEntry> {
        cx.charge(Duration::from_micros(LOG_LINE_US));
        let line = &input[..memchr::memchr(b'\n', input).unwrap_or(input.len())];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (line, is_cut) = match line.get(..ACCESS_LINE_BYTES_MAX) {
            Some(start) => (start, line.len() > ACCESS_LINE_BYTES_MAX),
            None => (line, false),
        };
        let line = match line {
            b"" => "-".to_string(), // the head timed out; its bytes are not known here
            // Escaped, so that it cannot end the line nor move a terminal's cursor. Only an
            // apostrophe needs no escape.
            _ => {
                line.escape_ascii().to_string().replace("\\'", "'")
                    + if is_cut { "..." } else { "" }
            }
        };
        Box::new(LogEntry { peer: cx.peer(), date: cx.date(), line })
    }

    pub(super) fn log(&self, code: [u8; 3], body_bytes: u64) {
        info!(target: ACCESS_LOG, "{}", LogLine { entry: self, code, body_bytes });
    }
}

/// A complete line.
struct LogLine<'e> {
    entry: &'e LogEntry,
    code: [u8; 3],
    body_bytes: u64,
}

impl fmt::Display for LogLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogEntry { peer, date, line } = self.entry;
        // Both are ASCII that this crate has written: `Sun, 06 Nov 1994 08:49:37 GMT` and three
        // digits.
        let date = str::from_utf8(date).map_err(|_| fmt::Error)?;
        let code = str::from_utf8(&self.code).map_err(|_| fmt::Error)?;
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        match peer {
            Peer::Ip(address) => address.ip().fmt(f)?,
            Peer::Unix => peer.fmt(f)?,
        }
        write!(f, " - - [{day}/{month}/{year}:{time} +0000] \"{line}\" {code} ")?;
        match self.body_bytes {
            0 => f.write_str("-"),
            bytes => write!(f, "{bytes}"),
        }
    }
}
