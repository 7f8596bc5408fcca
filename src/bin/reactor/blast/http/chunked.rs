//! The chunked transfer coding (RFC 9112 section 7.1), decoded as the bytes come.
//!
//! ```text
//!     5;extension CR LF   hello CR LF   0 CR LF   trailer fields   CR LF
//!     size                data          last      are skipped      end
//! ```
//!
//! Invariant: it keeps no byte, only where it is. So the same bytes have the same result, however
//! they are cut. A bare line feed is a fault: two readers could disagree on the end of its line.

use super::response::{Fault, Step};
use crate::blast::limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

/// How far a chunked body has been read.
#[derive(Debug)]
pub(super) struct Chunked {
    at: At,
    /// Bytes of the present size line, or of all trailer fields.
    line_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// In the digits of a chunk's size.
    Size {
        size: u64,
        has_digit: bool,
    },
    /// In what follows the size, up to its line end. Extensions are skipped.
    Extension {
        size: u64,
    },
    /// After the CR of the size line.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// In a trailer field, or at the beginning of its line.
    Trailer {
        is_line_empty: bool,
    },
    /// After the CR of such a line.
    TrailerEnd {
        is_line_empty: bool,
    },
}

const AT_SIZE: At = At::Size { size: 0, has_digit: false };

impl Chunked {
    pub(super) fn new() -> Chunked {
        Chunked { at: AT_SIZE, line_bytes: 0 }
    }

    /// Takes one step: up to the end of a part of the data, of the body or of the input.
    pub(super) fn step<'i>(&mut self, input: &'i [u8]) -> Result<Step<'i>, Fault> {
        for (consumed, &byte) in input.iter().enumerate() {
            if let At::Data { left } = self.at {
                let rest = &input[consumed..];
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                let left = left - count as u64;
                self.at = if left == 0 { At::DataCr } else { At::Data { left } };
                return Ok(Step {
                    consumed: consumed + count,
                    body: &rest[..count],
                    is_complete: false,
                });
            }
            if self.read_framing(byte)? {
                return Ok(Step { consumed: consumed + 1, body: &[], is_complete: true });
            }
        }
        Ok(Step { consumed: input.len(), body: &[], is_complete: false })
    }

    /// Reads a byte that is no data. Returns whether the body ends with it.
    fn read_framing(&mut self, byte: u8) -> Result<bool, Fault> {
        self.line_bytes += 1;
        self.at = match (self.at, byte) {
            (At::Size { .. } | At::Extension { .. }, _)
                if self.line_bytes > CHUNK_LINE_BYTES_MAX =>
            {
                return Err(Fault::ChunkLineTooLong);
            }
            (At::Trailer { .. }, _) if self.line_bytes > TRAILER_BYTES_MAX => {
                return Err(Fault::TrailerTooLong);
            }
            (At::Size { size, has_digit: true } | At::Extension { size }, b'\r') => {
                At::SizeEnd { size }
            }
            (At::Size { size, has_digit: true }, b';' | b' ' | b'\t') => At::Extension { size },
            (At::Size { size, .. }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(Fault::ChunkLine)?;
                let size = size.checked_mul(16).ok_or(Fault::ChunkSize)? + u64::from(digit);
                At::Size { size, has_digit: true }
            }
            (At::Extension { .. }, b'\n') => return Err(Fault::ChunkLine),
            (At::Extension { size }, _) => At::Extension { size },
            (At::SizeEnd { size: 0 }, b'\n') => {
                self.line_bytes = 0;
                At::Trailer { is_line_empty: true }
            }
            (At::SizeEnd { size }, b'\n') => At::Data { left: size },
            (At::SizeEnd { .. }, _) => return Err(Fault::ChunkLine),
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => {
                self.line_bytes = 0;
                AT_SIZE
            }
            (At::DataCr | At::DataLf, _) => return Err(Fault::ChunkEnd),
            (At::Trailer { is_line_empty }, b'\r') => At::TrailerEnd { is_line_empty },
            (At::Trailer { .. }, b'\n') => return Err(Fault::ChunkLine),
            (At::Trailer { .. }, _) => At::Trailer { is_line_empty: false },
            (At::TrailerEnd { is_line_empty: true }, b'\n') => return Ok(true),
            (At::TrailerEnd { is_line_empty: false }, b'\n') => At::Trailer { is_line_empty: true },
            (At::TrailerEnd { .. }, _) => return Err(Fault::ChunkLine),
            (At::Data { .. }, _) => unreachable!("data is no framing"),
        };
        Ok(false)
    }
}
