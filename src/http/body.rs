//! A body that is read piece by piece, as the peer takes it.

use std::io::{self, ErrorKind};

use super::access_log::LogEntry;
use crate::limits::{BODY_READ_BYTES_MAX, BODY_READS_MAX};
use crate::protocol::protocol::Next;

/// An answer whose head is written, and whose body is not yet.
pub(super) struct BodyStream {
    body: Box<dyn io::Read>,
    /// In bytes: what the client has been told, and what of it has yet to come.
    length: u64,
    left: u64,
    /// What follows the body.
    pub(super) next: Next,
    code: [u8; 3],
    entry: Option<Box<LogEntry>>,
}

/// What came of reading once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// Some bytes, and there are more.
    Data,
    /// All that were left.
    Last,
    /// None yet.
    WouldBlock,
    /// There are fewer than the client has been told.
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
        BodyStream { body, length, left: length, next, code, entry }
    }

    /// Reads one piece to the end of `output`, in several reads if each brings little.
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
            ReadOutcome::Data // when these have left, it is asked again
        } else {
            end
        }
    }

    /// It is complete, or broken off.
    pub(super) fn log(&self) {
        if let Some(entry) = &self.entry {
            entry.log(self.code, self.length - self.left);
        }
    }
}
