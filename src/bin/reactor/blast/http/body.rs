//! The body that every response should have: that of the first one.
//!
//! Invariant: the bytes are kept once for all connections. Where several first responses arrive at
//! the same time, whichever comes first to an offset says what the byte there is.

use crate::blast::limits::BODY_KEPT_BYTES_MAX;

/// What is known of the body.
#[derive(Debug, Default)]
pub(super) struct ExpectedBody {
    /// Its first bytes.
    known: Vec<u8>,
    /// Its length, once a response was complete.
    length: Option<u64>,
}

impl ExpectedBody {
    /// Returns whether `piece`, which begins at `offset` of a response's body, is as expected. All
    /// of the body before it was.
    pub(super) fn matches(&mut self, offset: u64, piece: &[u8]) -> bool {
        let kept_max = BODY_KEPT_BYTES_MAX;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let piece = &piece[..piece.len().min(kept_max.saturating_sub(offset))];
        if piece.is_empty() {
            return true; // only the length of so long a body is compared
        }
        let known = &self.known[offset..];
        let (old, new) = piece.split_at(piece.len().min(known.len()));
        if *old != known[..old.len()] || (!new.is_empty() && self.length.is_some()) {
            return false;
        }
        self.known.extend_from_slice(new);
        true
    }

    /// Returns whether a body of `length` bytes has the expected length.
    pub(super) fn has_length(&mut self, length: u64) -> bool {
        *self.length.get_or_insert(length) == length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_equals_the_first_one_in_pieces_of_any_size() {
        let mut body = ExpectedBody::default();
        // Two first responses arrive together.
        assert!(body.matches(0, b"hel") && body.matches(0, b"hello") && body.matches(3, b"lo"));
        assert!(body.has_length(5) && body.has_length(5));
        assert!(body.matches(0, b"h") && body.matches(1, b"ello"));
        assert!(!body.matches(0, b"help") && !body.matches(4, b"a"));
        assert!(!body.matches(5, b"!"), "longer");
        assert!(!body.has_length(4), "shorter");
    }

    #[test]
    fn body_beyond_what_is_kept_differs_by_its_length_alone() {
        let mut body = ExpectedBody::default();
        assert!(body.matches(0, &vec![1; BODY_KEPT_BYTES_MAX + 10]));
        assert!(body.has_length(BODY_KEPT_BYTES_MAX as u64 + 10));
        assert_eq!(body.known.len(), BODY_KEPT_BYTES_MAX);
        assert!(body.matches(BODY_KEPT_BYTES_MAX as u64, &[2; 10]));
        assert!(!body.matches(BODY_KEPT_BYTES_MAX as u64 - 1, &[2; 11]));
        assert!(!body.has_length(BODY_KEPT_BYTES_MAX as u64 + 9));
    }
}
