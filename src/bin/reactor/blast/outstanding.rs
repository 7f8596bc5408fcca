//! The messages of one client that have no reply yet, in a ring indexed by message number.
//!
//! ```text
//!     forgotten │ remembered ................................ │ not sent yet
//!               next - memory      oldest                     next
//! ```
//!
//! The ring has an entry for each of the last messages. Nothing is searched: a message's index
//! follows from its number. Of the forgotten messages, only the last one without a reply is known:
//! every later one had a reply.

/// The messages of one client to which replies may arrive.
pub(super) struct Outstanding {
    /// When each message was sent or due, in nanoseconds from the start but never 0, plus
    /// `NOT_AWAITED` if it is no longer in flight. 0: it has had its reply, or was never sent.
    ring: Vec<u64>,
    /// The number of the next message.
    next: u64,
    /// No message before this one is in flight.
    oldest: u64,
    in_flight: u64,
    /// One more than the highest number that had a reply.
    answered_up_to: u64,
    /// One more than the highest number that was forgotten without a reply.
    expired_up_to: u64,
}

const NOT_AWAITED: u64 = 1 << 63;

/// What a reply turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyKind {
    /// The first one to a message that was sent or due at `sent_ns`. Overtaken: a later message had
    /// its reply before.
    First { sent_ns: u64, is_overtaken: bool },
    /// Not the first one.
    Duplicate,
    /// To a message so old that it is forgotten, as is whether it had a reply before.
    Expired,
    /// To a message that was never sent.
    Unexpected,
}

impl Outstanding {
    /// Makes a ring for the last `memory` messages, a power of two.
    pub(super) fn new(memory: usize) -> Outstanding {
        assert!(memory.is_power_of_two(), "an index is the low bits of a message's number");
        Outstanding {
            ring: vec![0; memory],
            next: 0,
            oldest: 0,
            in_flight: 0,
            answered_up_to: 0,
            expired_up_to: 0,
        }
    }

    /// Returns the number of the next message.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// Returns how many messages are in flight: sent, and their replies still awaited.
    #[inline]
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    #[inline]
    fn index_of(&self, number: u64) -> usize {
        usize::try_from(number & (self.ring.len() as u64 - 1))
            .expect("it is less than the length of the ring")
    }

    /// Records that the next message is sent, with its send or due time. Returns its number.
    #[inline]
    pub(super) fn record_sent(&mut self, at_ns: u64) -> u64 {
        let number = self.next;
        let index = self.index_of(number);
        let forgotten = self.ring[index];
        if forgotten != 0 {
            self.expired_up_to = number - self.ring.len() as u64 + 1;
            self.in_flight -= u64::from(forgotten & NOT_AWAITED == 0);
        }
        self.ring[index] = at_ns.clamp(1, NOT_AWAITED - 1);
        self.next += 1;
        self.in_flight += 1;
        number
    }

    /// Records a reply to message `number`. Returns what it is.
    #[inline]
    pub(super) fn record_reply(&mut self, number: u64) -> ReplyKind {
        if number >= self.next {
            return ReplyKind::Unexpected;
        }
        if self.next - number > self.ring.len() as u64 {
            // Over a stream, replies arrive in order, so no message is forgotten without one. A
            // memory of a single message is enough there.
            let is_expired = number < self.expired_up_to;
            return if is_expired { ReplyKind::Expired } else { ReplyKind::Duplicate };
        }
        let index = self.index_of(number);
        let sent_ns = std::mem::take(&mut self.ring[index]);
        if sent_ns == 0 {
            return ReplyKind::Duplicate;
        }
        self.in_flight -= u64::from(sent_ns & NOT_AWAITED == 0);
        let is_overtaken = number < self.answered_up_to;
        self.answered_up_to = self.answered_up_to.max(number + 1);
        ReplyKind::First { sent_ns: sent_ns & !NOT_AWAITED, is_overtaken }
    }

    /// Returns the send or due times of the remembered messages without a reply.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = u64> {
        self.ring.iter().filter(|&&sent_ns| sent_ns != 0).map(|sent_ns| sent_ns & !NOT_AWAITED)
    }

    /// Takes messages out of flight for whose send time `is_over` is true. The scan begins at the
    /// oldest and ends at the first that is still awaited. Returns the last such send time.
    pub(super) fn stop_awaiting(&mut self, is_over: impl Fn(u64) -> bool) -> Option<u64> {
        let mut last = None;
        self.oldest = self.oldest.max(self.next.saturating_sub(self.ring.len() as u64));
        while self.oldest < self.next {
            let index = self.index_of(self.oldest);
            let sent_ns = self.ring[index];
            if sent_ns != 0 && sent_ns & NOT_AWAITED == 0 {
                if !is_over(sent_ns) {
                    break;
                }
                self.ring[index] |= NOT_AWAITED;
                self.in_flight -= 1;
                last = Some(sent_ns);
            }
            self.oldest += 1;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(sent_ns: u64, is_overtaken: bool) -> ReplyKind {
        ReplyKind::First { sent_ns, is_overtaken }
    }

    #[test]
    fn reply_is_first_duplicate_or_unexpected() {
        let mut outstanding = Outstanding::new(8);
        assert_eq!(outstanding.record_reply(0), ReplyKind::Unexpected);
        assert_eq!([10, 20, 30].map(|now| outstanding.record_sent(now)), [0, 1, 2]);
        assert_eq!(outstanding.record_reply(1), first(20, false));
        assert_eq!(
            outstanding.record_reply(0),
            first(10, true),
            "a later one had its reply before"
        );
        assert_eq!(
            [0, 1, 3].map(|number| outstanding.record_reply(number)),
            [ReplyKind::Duplicate, ReplyKind::Duplicate, ReplyKind::Unexpected]
        );
        assert_eq!(outstanding.in_flight(), 1);
        assert_eq!(outstanding.record_reply(2), first(30, false));
        assert_eq!(outstanding.in_flight(), 0);
    }

    #[test]
    fn message_not_awaited_leaves_flight_and_may_still_get_its_reply() {
        let mut outstanding = Outstanding::new(8);
        (1..=6).for_each(|number| assert_eq!(outstanding.record_sent(number * 10), number - 1));
        outstanding.record_reply(1);
        assert_eq!(outstanding.stop_awaiting(|sent_ns| sent_ns < 40), Some(30));
        assert_eq!(outstanding.in_flight(), 3, "40, 50 and 60");
        assert_eq!(outstanding.record_reply(2), first(30, false));
        assert_eq!(outstanding.in_flight(), 3, "it was not in flight any more");
        assert_eq!(outstanding.record_reply(2), ReplyKind::Duplicate);
        assert_eq!(outstanding.stop_awaiting(|_| true), Some(60));
        assert_eq!(outstanding.in_flight(), 0);
        assert!(outstanding.unanswered().eq([10, 40, 50, 60]), "though none is awaited");
    }

    #[test]
    fn forgotten_unanswered_message_is_expired_and_not_in_flight() {
        let mut outstanding = Outstanding::new(4);
        (0..10).for_each(|number| assert_eq!(outstanding.record_sent(0), number));
        assert_eq!(outstanding.in_flight(), 4);
        assert_eq!(
            [5, 6].map(|number| outstanding.record_reply(number)),
            [ReplyKind::Expired, first(1, false)]
        );
        outstanding.stop_awaiting(|_| true);
        assert_eq!(outstanding.in_flight(), 0);
    }

    #[test]
    fn reply_to_forgotten_message_is_duplicate_if_all_since_were_answered() {
        let mut outstanding = Outstanding::new(1);
        for number in 0..10 {
            assert_eq!(outstanding.record_sent(1), number);
            if number != 4 {
                assert_eq!(outstanding.record_reply(number), first(1, false));
            }
        }
        assert_eq!(
            [3, 4].map(|number| outstanding.record_reply(number)),
            [ReplyKind::Expired; 2],
            "either may be the first"
        );
        assert_eq!(
            [5, 8, 9].map(|number| outstanding.record_reply(number)),
            [ReplyKind::Duplicate; 3]
        );
        assert_eq!(outstanding.record_reply(10), ReplyKind::Unexpected);
    }
}
