//! A response body that is read in pieces while it is sent, as the peer takes it.
//!
//! Invariant: no more than one piece of `BODY_READ_BYTES_MAX` is read at a time, whatever the size
//! of the body. A body that is shorter than its Content-Length is never completed: its connection
//! is reset.

use std::io::{self, ErrorKind};

use super::access_log::LogEntry;
use crate::caught::CaughtDrop;
use crate::http::limits::{BODY_READ_BYTES_MAX, BODY_READS_MAX};
use crate::protocol::protocol::Next;

/// A response whose head is written, and whose body is still being read.
pub(super) struct BodyStream {
    body: CaughtDrop<Box<dyn io::Read>>,
    /// The Content-Length that was sent, and how much of it is still to be read, in bytes.
    length: u64,
    left: u64,
    /// What follows the body.
    pub(super) next: Next,
    code: [u8; 3],
    entry: Option<Box<LogEntry>>,
}

/// The result of reading one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// Some bytes, but not the last.
    Data,
    /// The last bytes.
    Last,
    /// No bytes yet.
    WouldBlock,
    /// The body has ended or failed before its Content-Length.
    TooShort,
}

impl BodyStream {
    pub(super) fn new(
        body: Box<dyn io::Read>,
        length: u64,
        next: Next,
        code: [u8; 3],
        entry: Option<Box<LogEntry>>,
    ) -> BodyStream {
        BodyStream { body: CaughtDrop::new(body), length, left: length, next, code, entry }
    }

    /// Appends one piece to `output`, in up to `BODY_READS_MAX` reads if each returns little.
    pub(super) fn read(&mut self, output: &mut Vec<u8>) -> ReadOutcome {
        let start = output.len();
        let room = usize::try_from(self.left)
            .map_or(BODY_READ_BYTES_MAX, |left| left.min(BODY_READ_BYTES_MAX));
        output.resize(start + room, 0);
        let (mut filled, mut end) = (start, ReadOutcome::Data);
        for _ in 0..BODY_READS_MAX {
            if filled == output.len() {
                break;
            }
            match self.body.read(&mut output[filled..]) {
                Ok(0) => end = ReadOutcome::TooShort,
                Ok(count) => {
                    filled = output.len().min(filled + count);
                    continue;
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
                {
                    end = ReadOutcome::WouldBlock;
                }
                Err(error) => {
                    log::debug!("reading a response body failed: {error}");
                    end = ReadOutcome::TooShort;
                }
            }
            break;
        }
        output.truncate(filled);
        let count = filled - start;
        self.left -= count as u64;
        if self.left == 0 {
            ReadOutcome::Last
        } else if end == ReadOutcome::WouldBlock && count > 0 {
            ReadOutcome::Data // the next piece is read once this one has been sent
        } else {
            end
        }
    }

    /// Logs the response, which is complete or aborted.
    pub(super) fn log(&self) {
        if let Some(entry) = &self.entry {
            entry.log(self.code, self.length - self.left);
        }
    }
}
