//! A response body that is read in pieces while it is sent, as the peer takes it.
//!
//! Invariant: no more than one piece of `BODY_READ_BYTES_MAX` is read at a time, whatever the size
//! of the body. A body that is shorter than its Content-Length is never completed: its connection
//! is reset.

use std::io::{self, ErrorKind};
use std::time::Duration;

use log::{debug, error};

use super::access_log::LogEntry;
use crate::caught::CaughtDrop;
use crate::http::limits::{BODY_READ_BYTES_MAX, BODY_READS_MAX, BODY_RETRY_MS, BODY_RETRY_MS_MAX};
use crate::protocol::protocol::Next;

/// A response whose head is written, and whose body is still being read.
pub(super) struct BodyStream {
    body: CaughtDrop<Box<dyn io::Read>>,
    /// The Content-Length that was sent, and how much of it is still to be read, in bytes.
    length: u64,
    left: u64,
    /// How long it is left alone if the next read has no bytes, in milliseconds.
    retry_ms: u64,
    /// How long no read has had any bytes, in milliseconds.
    stalled_ms: u64,
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
    /// No bytes yet: read again after this time.
    WouldBlock(Duration),
    /// The body has ended or failed before its Content-Length, or is wrong about its bytes.
    Failed,
}

impl BodyStream {
    pub(super) fn new(
        body: Box<dyn io::Read>,
        length: u64,
        next: Next,
        code: [u8; 3],
        entry: Option<Box<LogEntry>>,
    ) -> BodyStream {
        let body = CaughtDrop::new(body);
        BodyStream {
            body,
            length,
            left: length,
            retry_ms: BODY_RETRY_MS,
            stalled_ms: 0,
            next,
            code,
            entry,
        }
    }

    /// Appends one piece to `output`, in up to `BODY_READS_MAX` reads if each returns little.
    pub(super) fn read(&mut self, output: &mut Vec<u8>) -> ReadOutcome {
        let start = output.len();
        let room = usize::try_from(self.left)
            .map_or(BODY_READ_BYTES_MAX, |left| left.min(BODY_READ_BYTES_MAX));
        output.resize(start + room, 0);
        let (mut filled, mut has_failed) = (start, false);
        for _ in 0..BODY_READS_MAX {
            let into = &mut output[filled..];
            if into.is_empty() {
                break;
            }
            let room = into.len();
            match self.body.read(into) {
                Ok(0) => has_failed = true,
                // Which of the bytes it has written, if any, cannot be known.
                Ok(count) if count > room => {
                    error!("a response body claims {count} bytes of a buffer of {room}");
                    has_failed = true;
                }
                Ok(count) => {
                    filled += count;
                    continue;
                }
                // By the contract of `Read`, the next read goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    debug!("reading a response body failed: {error}");
                    has_failed = true;
                }
            }
            break;
        }
        output.truncate(filled);
        let count = filled - start;
        self.left -= count as u64;
        if count > 0 {
            (self.retry_ms, self.stalled_ms) = (BODY_RETRY_MS, 0);
        }
        match (has_failed, count) {
            _ if self.left == 0 => ReadOutcome::Last,
            (true, _) => ReadOutcome::Failed,
            (false, 0) => {
                let retry = Duration::from_millis(self.retry_ms);
                self.stalled_ms += self.retry_ms;
                self.retry_ms = BODY_RETRY_MS_MAX.min(2 * self.retry_ms);
                ReadOutcome::WouldBlock(retry)
            }
            (false, _) => ReadOutcome::Data, // the next piece is read once this one has been sent
        }
    }

    /// If the connection is to close after the body, it lingers: the end of a long body lies in the
    /// kernel's send buffer for a while, and a reset would destroy it. A client has promised not to
    /// send anything meanwhile, but some do.
    pub(super) fn linger_at_end(&mut self) {
        if self.next == Next::CloseWithoutLinger {
            self.next = Next::Close;
        }
    }

    /// Returns whether no read will have had any bytes for longer than `limit` at the next one.
    pub(super) fn has_stalled(&self, limit: Duration) -> bool {
        Duration::from_millis(self.stalled_ms) > limit
    }

    /// Logs the response, which is complete or aborted.
    pub(super) fn log(&self) {
        if let Some(entry) = &self.entry {
            entry.log(self.code, self.length - self.left);
        }
    }
}
