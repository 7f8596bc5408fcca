//! A body that is read piece by piece, as the peer takes it.

use std::io::{self, ErrorKind};

use super::access::Entry;
use crate::limits::{STREAMED_BYTES_MAX, STREAMED_READS_MAX};
use crate::protocol::Next;

/// An answer whose head is written, and whose body is not yet.
pub(super) struct Stream {
    body: Box<dyn io::Read>,
    /// In bytes: what the client has been told, and what of it has yet to come.
    length: u64,
    left: u64,
    /// What follows the body.
    pub(super) next: Next,
    code: [u8; 3],
    entry: Option<Box<Entry>>,
}

/// What came of reading once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Some bytes, and there are more.
    Some,
    /// All that were left.
    Last,
    /// None yet.
    NotYet,
    /// There are fewer than the client has been told.
    Missing,
}

impl Stream {
    pub(super) fn new(
        body: Box<dyn io::Read>,
        length: u64,
        next: Next,
        code: [u8; 3],
        entry: Option<Box<Entry>>,
    ) -> Stream {
        Stream { body, length, left: length, next, code, entry }
    }

    /// Reads one piece to the end of `output`, in several reads if each brings little.
    pub(super) fn read(&mut self, output: &mut Vec<u8>) -> Piece {
        let start = output.len();
        let room = usize::try_from(self.left)
            .map_or(STREAMED_BYTES_MAX, |left| left.min(STREAMED_BYTES_MAX));
        output.resize(start + room, 0);
        let (mut filled, mut end) = (start, Piece::Some);
        for _ in 0..STREAMED_READS_MAX {
            if filled == output.len() {
                break;
            }
            match self.body.read(&mut output[filled..]) {
                Ok(0) => end = Piece::Missing,
                Ok(count) => {
                    filled = output.len().min(filled + count);
                    continue;
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
                {
                    end = Piece::NotYet
                }
                Err(error) => {
                    log::debug!("a body could not be read: {error}");
                    end = Piece::Missing;
                }
            }
            break;
        }
        output.truncate(filled);
        let count = filled - start;
        self.left -= count as u64;
        if self.left == 0 {
            Piece::Last
        } else if end == Piece::NotYet && count > 0 {
            Piece::Some // when these have left, it is asked again
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
