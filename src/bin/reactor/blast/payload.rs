//! What is sent: bytes that nobody else has sent, so that a reply shows what it answers, and whether it is whole.
//!
//! ```text
//!     mark (8) │ number (8) │ pattern, which begins somewhere else for each number
//! ```
//!
//! The mark is that of the run and the client, and changes with the number: so neither of the two can be wrong alone.

/// What every message begins with, in bytes.
pub(super) const HEAD_BYTES: usize = 16;

/// From here the pattern repeats itself, in bytes.
const PERIOD_BYTES: usize = 256;

/// Spreads a number over all bits of a mark. It is odd, so that each number has a mark of its own.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The messages of one client.
pub(super) struct Payloads {
    /// The mark of this client's message 0 in this run of the program.
    mark: u64,
    /// So long that a message's share of it can begin anywhere in the first period.
    pattern: Vec<u8>,
    /// The message composed last.
    composed: Vec<u8>,
}

impl Payloads {
    /// Of `size` bytes, at least [`HEAD_BYTES`].
    pub(super) fn new(run: u32, client: u32, size: usize) -> Payloads {
        let mark = u64::from(run) << 32 | u64::from(client);
        let pattern = (0..PERIOD_BYTES + size)
            .map(|at| (at % PERIOD_BYTES).wrapping_mul(167).wrapping_add(13).to_le_bytes()[0]);
        Payloads { mark, pattern: pattern.collect(), composed: vec![0; size] }
    }

    /// The message `number`.
    #[inline]
    pub(super) fn compose(&mut self, number: u64) -> &[u8] {
        let mark = self.mark_of(number);
        self.composed[..8].copy_from_slice(&mark.to_le_bytes());
        self.composed[8..HEAD_BYTES].copy_from_slice(&number.to_le_bytes());
        let length = self.composed.len() - HEAD_BYTES;
        self.composed[HEAD_BYTES..].copy_from_slice(&self.pattern[start_of(number)..][..length]);
        &self.composed
    }

    /// The number of the message that `bytes` are, if they are one of this client's, to the last byte.
    #[inline]
    pub(super) fn number_of(&self, bytes: &[u8]) -> Option<u64> {
        if bytes.len() != self.composed.len() {
            return None;
        }
        let (mark, rest) = bytes.split_first_chunk::<8>()?;
        let (number, body) = rest.split_first_chunk::<8>()?;
        let number = u64::from_le_bytes(*number);
        let is_whole = u64::from_le_bytes(*mark) == self.mark_of(number)
            && *body == self.pattern[start_of(number)..][..body.len()];
        is_whole.then_some(number)
    }

    #[inline]
    fn mark_of(&self, number: u64) -> u64 {
        self.mark ^ number.wrapping_mul(SPREAD)
    }
}

#[inline]
fn start_of(number: u64) -> usize {
    usize::from(number.to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_its_client_alone_and_only_if_it_is_whole() {
        for size in [HEAD_BYTES, HEAD_BYTES + 1, 64, 1500] {
            let mut messages = Payloads::new(7, 1, size);
            for number in [0, 1, 255, 256, u64::MAX] {
                let message = messages.compose(number).to_vec();
                assert_eq!(messages.number_of(&message), Some(number));
                assert_eq!(Payloads::new(7, 2, size).number_of(&message), None, "another client's");
                assert_eq!(Payloads::new(8, 1, size).number_of(&message), None, "of another run");
                assert_eq!(messages.number_of(&message[1..]), None);
                assert_eq!(messages.number_of(&[&message[..], b"x"].concat()), None);
                for at in 0..size {
                    let mut wrong = message.clone();
                    wrong[at] ^= 1;
                    assert_eq!(messages.number_of(&wrong), None, "byte {at} of {size} is wrong");
                }
            }
        }
    }

    #[test]
    fn no_message_becomes_another_by_its_number_alone() {
        // Not even the shortest, which have no pattern, nor where both have the same one.
        for size in [HEAD_BYTES, 64] {
            let mut messages = Payloads::new(7, 1, size);
            let message = messages.compose(1000).to_vec();
            for other in [0, 999, 1000 - 256, 1000 + 256, 1000 + (1 << 32)] {
                let mut changed = message.clone();
                changed[8..HEAD_BYTES].copy_from_slice(&u64::to_le_bytes(other));
                assert_eq!(messages.number_of(&changed), None, "{other}");
            }
        }
    }
}
