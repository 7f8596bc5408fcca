//! What is sent: bytes that nobody else has sent, so that a reply shows what it answers, and whether it is whole.
//!
//! ```text
//!     run (4) │ client (4) │ number (8) │ pattern, which begins somewhere else for each number
//! ```

/// What every message begins with, in bytes.
pub(super) const HEAD_BYTES: usize = 16;

/// From here the pattern repeats itself, in bytes.
const PERIOD_BYTES: usize = 256;

/// The messages of one client.
pub(super) struct Messages {
    /// What the messages of this client begin with, in this run of the program.
    head: [u8; 8],
    /// So long that a message's share of it can begin anywhere in the first period.
    pattern: Vec<u8>,
    /// The message composed last.
    composed: Vec<u8>,
}

impl Messages {
    /// Of `size` bytes, at least [`HEAD_BYTES`].
    pub(super) fn new(run: u32, client: u32, size: usize) -> Messages {
        let mut head = [0; 8];
        head[..4].copy_from_slice(&run.to_le_bytes());
        head[4..].copy_from_slice(&client.to_le_bytes());
        let pattern = (0..PERIOD_BYTES + size).map(|at| (at % PERIOD_BYTES).wrapping_mul(167).wrapping_add(13).to_le_bytes()[0]);
        let mut composed = vec![0; size];
        composed[..8].copy_from_slice(&head);
        Messages { head, pattern: pattern.collect(), composed }
    }

    /// The message `number`.
    #[inline]
    pub(super) fn compose(&mut self, number: u64) -> &[u8] {
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
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        let (number, body) = rest.split_first_chunk::<8>()?;
        let number = u64::from_le_bytes(*number);
        (*head == self.head && *body == self.pattern[start_of(number)..][..body.len()]).then_some(number)
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
            let mut messages = Messages::new(7, 1, size);
            for number in [0, 1, 255, 256, u64::MAX] {
                let message = messages.compose(number).to_vec();
                assert_eq!(messages.number_of(&message), Some(number));
                assert_eq!(Messages::new(7, 2, size).number_of(&message), None, "another client's");
                assert_eq!(Messages::new(8, 1, size).number_of(&message), None, "of another run");
                assert_eq!(messages.number_of(&message[1..]), None);
                assert_eq!(messages.number_of(&[&message[..], b"x"].concat()), None);
                for at in (0..size).filter(|at| !(8..HEAD_BYTES).contains(at)) {
                    let mut wrong = message.clone();
                    wrong[at] ^= 1;
                    assert_eq!(messages.number_of(&wrong), None, "byte {at} of {size} is wrong");
                }
            }
        }
    }

    #[test]
    fn a_number_that_was_changed_shows_in_the_pattern() {
        // Unless it was changed by a multiple of the period: then it is another message, which was sent or was not.
        let mut messages = Messages::new(7, 1, 64);
        let mut message = messages.compose(1000).to_vec();
        message[8] ^= 1;
        assert_eq!(messages.number_of(&message), None);
    }
}
