//! A body that is read piece by piece, as the peer takes it.

use std::io::{self, ErrorKind};

use super::access::Entry;
use crate::limits::STREAMED_BYTES_MAX;
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
    pub(super) fn new(body: Box<dyn io::Read>, length: u64, next: Next, code: [u8; 3], entry: Option<Box<Entry>>) -> Stream {
        Stream { body, length, left: length, next, code, entry }
    }

    /// Reads one piece to the end of `output`.
    pub(super) fn read(&mut self, output: &mut Vec<u8>) -> Piece {
        let written = output.len();
        let room = usize::try_from(self.left).map_or(STREAMED_BYTES_MAX, |left| left.min(STREAMED_BYTES_MAX));
        output.resize(written + room, 0);
        let result = if room == 0 { Ok(0) } else { self.body.read(&mut output[written..]) };
        let count = result.as_ref().map_or(0, |&count| count.min(room));
        output.truncate(written + count);
        self.left -= count as u64;
        match result {
            _ if self.left == 0 => Piece::Last,
            Ok(0) => Piece::Missing,
            Ok(_) => Piece::Some,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Piece::NotYet,
            Err(error) => {
                log::debug!("a body could not be read: {error}");
                Piece::Missing
            }
        }
    }

    /// It is complete, or broken off.
    pub(super) fn log(&self) {
        if let Some(entry) = &self.entry {
            entry.log(self.code, self.length - self.left);
        }
    }
}
