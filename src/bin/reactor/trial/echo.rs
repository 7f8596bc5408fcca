//! What an echo must send back: every byte, in order, with the server's prefix anywhere between.
//!
//! A stream has no message boundaries, so a server with a prefix puts it before whatever one read
//! returned. No payload has the prefix's first byte, so it shows where a prefix begins.

use super::limits::DIAGNOSTIC_BYTES_MAX;
use super::link::{Event, Link};
use super::row::{Fault, quote};

/// Bytes of the message of an ordinary client.
pub(super) const MESSAGE_BYTES: usize = 100;

/// Returns `count` bytes that are the same on each run (xorshift64). A part that is lost,
/// duplicated or moved shows. The first byte of `prefix` is not among them.
pub(super) fn payload(seed: u64, count: usize, prefix: &[u8]) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    if let Some(&first) = prefix.first() {
        bytes.iter_mut().filter(|byte| **byte == first).for_each(|byte| *byte ^= 1);
    }
    bytes
}

/// Compares what comes back with what was sent.
pub(super) struct EchoReader<'a> {
    /// What was sent is this, again and again.
    unit: &'a [u8],
    /// The length of what was sent, in bytes.
    total: usize,
    /// How much of it has come back.
    at: usize,
    prefix: &'a [u8],
    prefix_at: usize,
    /// A prefix may begin: the last byte was none of another's.
    prefix_may_begin: bool,
}

impl<'a> EchoReader<'a> {
    pub(super) fn new(unit: &'a [u8], total: usize, prefix: &'a [u8]) -> EchoReader<'a> {
        EchoReader { unit, total, at: 0, prefix, prefix_at: 0, prefix_may_begin: true }
    }

    /// Reads until everything has come back.
    pub(super) fn read_all(mut self, link: &mut Link, when: &str) -> Result<(), Fault> {
        let expected = format!("the {} bytes that were sent come back {when}", self.total);
        let mut chunk = vec![0; 64 * 1024];
        while self.at < self.total {
            let count = match link.receive(&mut chunk) {
                Event::Bytes(count) => count,
                event @ (Event::Fin | Event::Reset | Event::Silence | Event::Error(_)) => {
                    return Err(Fault::failed(
                        expected,
                        format!("{event} after {} bytes", self.at),
                    ));
                }
            };
            if let Some(wrong) = self.take(&chunk[..count]) {
                let at = self.at % self.unit.len();
                let awaited = &self.unit[at..(at + DIAGNOSTIC_BYTES_MAX).min(self.unit.len())];
                let came = quote(&chunk[wrong..count]);
                let came = match self.at < self.total {
                    true => format!("{came} after {} bytes, not {}", self.at, quote(awaited)),
                    false => format!("{came} behind them"),
                };
                return Err(Fault::failed(expected, came));
            }
        }
        Ok(())
    }

    /// Takes bytes that have come. Returns where the first wrong one is.
    fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        bytes.iter().position(|&byte| !self.take_byte(byte))
    }

    fn take_byte(&mut self, byte: u8) -> bool {
        let is_in_prefix =
            self.prefix_at > 0 || (self.prefix_may_begin && self.prefix.first() == Some(&byte));
        if is_in_prefix {
            if self.prefix[self.prefix_at] != byte {
                return false;
            }
            self.prefix_may_begin = false; // a byte of the payload comes before the next one
            self.prefix_at = (self.prefix_at + 1) % self.prefix.len();
            return true;
        }
        let is_right = self.at < self.total && self.unit[self.at % self.unit.len()] == byte;
        self.at += usize::from(is_right);
        self.prefix_may_begin |= is_right;
        is_right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many bytes of `sent` came back in `received`, and where the first wrong byte is.
    fn read(sent: &[u8], prefix: &str, received: &str) -> (usize, Option<usize>) {
        let mut reader = EchoReader::new(sent, sent.len(), prefix.as_bytes());
        let wrong = reader.take(received.as_bytes());
        (reader.at, wrong)
    }

    #[test]
    fn prefix_may_stand_before_any_part_of_an_echo_and_not_alone() {
        for received in ["-> abcd", "abcd", "-> a-> b-> c-> d", "ab-> cd"] {
            assert_eq!(read(b"abcd", "-> ", received), (4, None), "{received}");
        }
        for (received, at, wrong) in [
            ("-> -> abcd", 0, Some(3)),
            ("-= abcd", 0, Some(1)),
            ("abdc", 2, Some(2)),
            ("abcde", 4, Some(4)),
            ("-> ab", 2, None),
        ] {
            assert_eq!(read(b"abcd", "-> ", received), (at, wrong), "{received}");
        }
        assert_eq!(read(b"abcd", "", "ab-> cd"), (2, Some(2)));
    }

    #[test]
    fn payload_has_no_byte_with_which_the_prefix_begins() {
        let bytes = payload(7, 10_000, b"echo -> ");
        assert_eq!(bytes.len(), 10_000);
        assert!(!bytes.contains(&b'e') && bytes.contains(&b'f'));
        assert_eq!(bytes, payload(7, 10_000, b"echo -> "));
    }

    #[test]
    fn unit_is_awaited_again_and_again() {
        let mut reader = EchoReader::new(b"abc", 7, b"");
        assert_eq!(reader.take(b"abcabca"), None);
        assert_eq!((reader.at, reader.take(b"b")), (7, Some(0)));
    }
}
