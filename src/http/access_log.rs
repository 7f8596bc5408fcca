//! The access log: a line for each answer, in the Common Log Format, as web servers have written it since the first ones.
//!
//! ```text
//! 127.0.0.1 - - [24/Nov/2026:02:48:08 +0000] "GET /plaintext HTTP/1.1" 200 13
//! ```
//!
//! The moment is that at which the request's head was complete, or was refused, and the last number is that of the body's bytes
//! which were given to the connection; `-` stands for none. A peer over a Unix socket has no address, and is called `unix`. A
//! line is written when the answer is complete, or has been broken off.

use std::fmt;

use log::info;

use crate::limits::ACCESS_LINE_BYTES_MAX;
use crate::protocol::context::Context;
use crate::protocol::ident::Peer;

/// The target, in the sense of the `log` crate, under which answers are logged, at level info.
pub const ACCESS_LOG: &str = "reactor::access";

/// What is known when a head has come.
pub(super) struct LogEntry {
    peer: Peer,
    date: [u8; 29],
    line: String,
}

impl LogEntry {
    /// For the answer to what `input` begins with.
    #[cold]
    pub(super) fn new(input: &[u8], cx: &mut Context<'_>) -> Box<LogEntry> {
        let line = &input[..memchr::memchr(b'\n', input).unwrap_or(input.len())];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (line, is_cut) = match line.get(..ACCESS_LINE_BYTES_MAX) {
            Some(beginning) => (beginning, line.len() > ACCESS_LINE_BYTES_MAX),
            None => (line, false),
        };
        // What a peer says is put down so that it cannot end our line, nor move a terminal's cursor.
        let line = match line {
            b"" => "-".to_string(), // it did not say all of it in time, and what it has said is not known here
            // (An apostrophe ends nothing, and is the one character that would be escaped in vain.)
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

struct LogLine<'e> {
    entry: &'e LogEntry,
    code: [u8; 3],
    body_bytes: u64,
}

impl fmt::Display for LogLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogEntry { peer, date, line } = self.entry;
        // Both are digits and letters, which we have written ourselves: `Sun, 06 Nov 1994 08:49:37 GMT`.
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
