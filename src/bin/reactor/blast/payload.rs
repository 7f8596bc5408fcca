//! Payloads: unique bytes, so that a reply shows what it answers and whether it is whole.
//!
//! ```text
//!     tag (8) │ number (8) │ pattern, which begins at another offset for each number
//! ```
//!
//! The tag identifies the run and the client, and changes with the number. So an error in either of
//! the two is detected.

/// Length of tag and number, with which every message begins, in bytes.
pub(super) const HEAD_BYTES: usize = 16;

/// The pattern repeats after this length, in bytes.
const PERIOD_BYTES: usize = 256;

/// Spreads a number over all bits of a tag. It is odd, so no two numbers have the same tag.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The payloads of one client.
pub(super) struct Payloads {
    /// The tag of message 0 of this client in this run of the program.
    tag: u64,
    /// One period longer than a message, so that its part of the pattern may begin anywhere in the
    /// first.
    pattern: Vec<u8>,
    /// The message composed last.
    composed: Vec<u8>,
}

impl Payloads {
    /// Makes payloads of `size` bytes, at least [`HEAD_BYTES`].
    pub(super) fn new(run_id: u32, client: u32, size: usize) -> Payloads {
        let tag = u64::from(run_id) << 32 | u64::from(client);
        let pattern = (0..PERIOD_BYTES + size)
            .map(|at| (at % PERIOD_BYTES).wrapping_mul(167).wrapping_add(13).to_le_bytes()[0]);
        Payloads { tag, pattern: pattern.collect(), composed: vec![0; size] }
    }

    /// Returns the payload of message `number`.
    #[inline]
    pub(super) fn compose(&mut self, number: u64) -> &[u8] {
        let tag = self.tag_of(number);
        self.composed[..8].copy_from_slice(&tag.to_le_bytes());
        self.composed[8..HEAD_BYTES].copy_from_slice(&number.to_le_bytes());
        let length = self.composed.len() - HEAD_BYTES;
        self.composed[HEAD_BYTES..].copy_from_slice(&self.pattern[start_of(number)..][..length]);
        &self.composed
    }

    /// Returns the number of the message that `bytes` are, if they are one of this client's, to the
    /// last byte.
    #[inline]
    pub(super) fn number_of(&self, bytes: &[u8]) -> Option<u64> {
        if bytes.len() != self.composed.len() {
            return None;
        }
        let (tag, rest) = bytes.split_first_chunk::<8>()?;
        let (number, body) = rest.split_first_chunk::<8>()?;
        let number = u64::from_le_bytes(*number);
        let is_whole = u64::from_le_bytes(*tag) == self.tag_of(number)
            && *body == self.pattern[start_of(number)..][..body.len()];
        is_whole.then_some(number)
    }

    /// Returns where in `bytes` one of this client's messages begins, be it whole or not.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<usize> {
        (0..bytes.len()).find(|&at| self.begins_message(&bytes[at..]))
    }

    fn begins_message(&self, bytes: &[u8]) -> bool {
        let Some((tag, rest)) = bytes.split_first_chunk::<8>() else { return false };
        let Some((number, body)) = rest.split_first_chunk::<8>() else { return false };
        let number = u64::from_le_bytes(*number);
        let pattern = &self.pattern[start_of(number)..];
        u64::from_le_bytes(*tag) == self.tag_of(number)
            && body.iter().zip(&pattern[..self.composed.len() - HEAD_BYTES]).all(|(a, b)| a == b)
    }

    #[inline]
    fn tag_of(&self, number: u64) -> u64 {
        self.tag ^ number.wrapping_mul(SPREAD)
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
    fn payload_is_recognised_only_whole_and_by_its_own_client() {
        for size in [HEAD_BYTES, HEAD_BYTES + 1, 64, 1500] {
            let mut payloads = Payloads::new(7, 1, size);
            for number in [0, 1, 255, 256, u64::MAX] {
                let message = payloads.compose(number).to_vec();
                assert_eq!(payloads.number_of(&message), Some(number));
                assert_eq!(Payloads::new(7, 2, size).number_of(&message), None, "another client's");
                assert_eq!(Payloads::new(8, 1, size).number_of(&message), None, "another run's");
                assert_eq!(payloads.number_of(&message[1..]), None);
                assert_eq!(payloads.number_of(&[&message[..], b"x"].concat()), None);
                for at in 0..size {
                    let mut wrong = message.clone();
                    wrong[at] ^= 1;
                    assert_eq!(payloads.number_of(&wrong), None, "byte {at} of {size} is wrong");
                }
            }
        }
    }

    #[test]
    fn changed_number_alone_never_makes_another_valid_payload() {
        // Neither for the shortest payload, which has no pattern, nor for numbers with the same
        // pattern.
        for size in [HEAD_BYTES, 64] {
            let mut payloads = Payloads::new(7, 1, size);
            let message = payloads.compose(1000).to_vec();
            for other in [0, 999, 1000 - 256, 1000 + 256, 1000 + (1 << 32)] {
                let mut changed = message.clone();
                changed[8..HEAD_BYTES].copy_from_slice(&u64::to_le_bytes(other));
                assert_eq!(payloads.number_of(&changed), None, "{other}");
            }
        }
    }

    #[test]
    fn message_is_found_behind_a_prefix_and_where_it_is_cut_short() {
        let mut payloads = Payloads::new(7, 1, 64);
        let message = payloads.compose(300).to_vec();
        assert_eq!(payloads.find(&message), Some(0));
        assert_eq!(payloads.find(&message[..HEAD_BYTES]), Some(0), "the head is enough");
        assert_eq!(payloads.find(&message[..HEAD_BYTES - 1]), None);
        assert_eq!(payloads.find(&[b"echo -> ", &message[..30]].concat()), Some(8));
        assert_eq!(payloads.find(b"HTTP/1.1 400 Bad Request\r\n\r\n"), None);
        assert_eq!(payloads.find(b""), None);
        let mut wrong = message;
        wrong[40] ^= 1;
        assert_eq!(payloads.find(&wrong), None);
    }
}
