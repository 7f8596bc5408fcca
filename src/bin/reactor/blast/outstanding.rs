//! Which messages of one client have no reply yet, and since when.
//!
//! ```text
//!     forgotten │ remembered ................................ │ not sent yet
//!               next - memory      oldest                     next
//! ```
//!
//! A ring with a place for each of the last messages. Nothing is searched: a message's place follows from its number. Of what is
//! forgotten no more is known than which was the last without a reply: to all after it there was one.

/// The messages of one client that replies may come to.
pub(super) struct Outstanding {
    /// When each was sent or due, in nanoseconds from the start but never 0; `GIVEN_UP` is added if it is not waited for any more.
    /// 0: it has been replied to, or was never sent.
    places: Vec<u64>,
    /// The number of the next message.
    next: u64,
    /// No message before this one is waited for.
    oldest: u64,
    under_way: u64,
    /// The highest number that a reply has come to, and one more.
    heard_up_to: u64,
    /// The highest number that was forgotten without a reply, and one more.
    missed_up_to: u64,
}

const GIVEN_UP: u64 = 1 << 63;

/// What a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The first one to a message that was sent or due at this time. Was a later one replied to before?
    First { sent_ns: u64, is_overtaken: bool },
    /// Not the first one.
    Duplicate,
    /// To a message so old that it is forgotten, as is whether there was a reply before.
    TooLate,
    /// To a message that was never sent.
    Unasked,
}

impl Outstanding {
    /// Remembers the last `memory` messages, a power of two.
    pub(super) fn new(memory: usize) -> Outstanding {
        assert!(memory.is_power_of_two(), "a message's place is cut from its number");
        Outstanding {
            places: vec![0; memory],
            next: 0,
            oldest: 0,
            under_way: 0,
            heard_up_to: 0,
            missed_up_to: 0,
        }
    }

    /// The number of the next message.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How many messages are waited for.
    #[inline]
    pub(super) fn under_way(&self) -> u64 {
        self.under_way
    }

    #[inline]
    fn place_of(&self, number: u64) -> usize {
        usize::try_from(number & (self.places.len() as u64 - 1))
            .expect("it is less than the number of places")
    }

    /// The next message is sent, at `now_ns` or for that time. Returns its number.
    #[inline]
    pub(super) fn send(&mut self, now_ns: u64) -> u64 {
        let number = self.next;
        let place = self.place_of(number);
        let forgotten = self.places[place];
        if forgotten != 0 {
            self.missed_up_to = number - self.places.len() as u64 + 1;
            self.under_way -= u64::from(forgotten & GIVEN_UP == 0);
        }
        self.places[place] = now_ns.clamp(1, GIVEN_UP - 1);
        self.next += 1;
        self.under_way += 1;
        number
    }

    /// A reply to message `number` has come.
    #[inline]
    pub(super) fn settle(&mut self, number: u64) -> Reply {
        if number >= self.next {
            return Reply::Unasked;
        }
        if self.next - number > self.places.len() as u64 {
            // Over a stream replies come in order, so none is forgotten without one, and a memory of a single message is enough.
            return if number < self.missed_up_to { Reply::TooLate } else { Reply::Duplicate };
        }
        let place = self.place_of(number);
        let sent_ns = std::mem::take(&mut self.places[place]);
        if sent_ns == 0 {
            return Reply::Duplicate;
        }
        self.under_way -= u64::from(sent_ns & GIVEN_UP == 0);
        let is_overtaken = number < self.heard_up_to;
        self.heard_up_to = self.heard_up_to.max(number + 1);
        Reply::First { sent_ns: sent_ns & !GIVEN_UP, is_overtaken }
    }

    /// When those were sent or due that are remembered and have no reply.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = u64> {
        self.places.iter().filter(|&&sent_ns| sent_ns != 0).map(|sent_ns| sent_ns & !GIVEN_UP)
    }

    /// What was sent before `before_ns` is not waited for any more. The oldest is looked at first, and no further than the first
    /// that is young enough.
    pub(super) fn give_up(&mut self, before_ns: u64) {
        self.oldest = self.oldest.max(self.next.saturating_sub(self.places.len() as u64));
        while self.oldest < self.next {
            let place = self.place_of(self.oldest);
            let sent_ns = self.places[place];
            if sent_ns != 0 && sent_ns & GIVEN_UP == 0 {
                if sent_ns >= before_ns {
                    return;
                }
                self.places[place] |= GIVEN_UP;
                self.under_way -= 1;
            }
            self.oldest += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(sent_ns: u64, is_overtaken: bool) -> Reply {
        Reply::First { sent_ns, is_overtaken }
    }

    #[test]
    fn each_reply_is_first_or_a_duplicate_or_to_nothing() {
        let mut outstanding = Outstanding::new(8);
        assert_eq!(outstanding.settle(0), Reply::Unasked);
        assert_eq!([10, 20, 30].map(|now| outstanding.send(now)), [0, 1, 2]);
        assert_eq!(outstanding.settle(1), first(20, false));
        assert_eq!(outstanding.settle(0), first(10, true), "a later one came before");
        assert_eq!(
            [0, 1, 3].map(|number| outstanding.settle(number)),
            [Reply::Duplicate, Reply::Duplicate, Reply::Unasked]
        );
        assert_eq!(outstanding.under_way(), 1);
        assert_eq!(outstanding.settle(2), first(30, false));
        assert_eq!(outstanding.under_way(), 0);
    }

    #[test]
    fn who_is_given_up_makes_room_and_may_still_reply() {
        let mut outstanding = Outstanding::new(8);
        (1..=6).for_each(|number| assert_eq!(outstanding.send(number * 10), number - 1));
        outstanding.settle(1);
        outstanding.give_up(40);
        assert_eq!(outstanding.under_way(), 3, "40, 50 and 60");
        assert_eq!(outstanding.settle(2), first(30, false));
        assert_eq!(outstanding.under_way(), 3, "it had been given up");
        assert_eq!(outstanding.settle(2), Reply::Duplicate);
        outstanding.give_up(1000);
        assert_eq!(outstanding.under_way(), 0);
        assert!(outstanding.unanswered().eq([10, 40, 50, 60]), "though some are not waited for");
    }

    #[test]
    fn what_is_older_than_the_memory_is_too_late_and_not_under_way() {
        let mut outstanding = Outstanding::new(4);
        (0..10).for_each(|number| assert_eq!(outstanding.send(0), number));
        assert_eq!(outstanding.under_way(), 4);
        assert_eq!(
            [5, 6].map(|number| outstanding.settle(number)),
            [Reply::TooLate, first(1, false)]
        );
        outstanding.give_up(2);
        assert_eq!(outstanding.under_way(), 0);
    }

    #[test]
    fn what_is_older_than_the_memory_is_a_duplicate_where_all_from_then_on_had_a_reply() {
        let mut outstanding = Outstanding::new(1);
        for number in 0..10 {
            assert_eq!(outstanding.send(1), number);
            if number != 4 {
                assert_eq!(outstanding.settle(number), first(1, false));
            }
        }
        assert_eq!(
            [3, 4].map(|number| outstanding.settle(number)),
            [Reply::TooLate; 2],
            "either may be the first"
        );
        assert_eq!([5, 8, 9].map(|number| outstanding.settle(number)), [Reply::Duplicate; 3]);
        assert_eq!(outstanding.settle(10), Reply::Unasked);
    }
}
