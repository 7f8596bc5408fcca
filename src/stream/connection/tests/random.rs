//! Random schedules of the kernel, over protocols that repeat their input.

use super::*;

/// Repeats what it hears, in units: all that there is, a byte at a time, or a line at a time, each `times` over.
#[derive(Clone, Copy, Debug)]
enum Parrot {
    All,
    Bytes { times: usize },
    Lines { times: usize },
}

impl Parrot {
    /// The first unit of `input`, if it is there.
    fn unit(self, input: &[u8]) -> Option<usize> {
        match self {
            Parrot::All => Some(input.len()),
            Parrot::Bytes { .. } => Some(1),
            Parrot::Lines { .. } => input.iter().position(|&byte| byte == b'\n').map(|end| end + 1),
        }
    }

    fn times(self) -> usize {
        match self {
            Parrot::All => 1,
            Parrot::Bytes { times } | Parrot::Lines { times } => times,
        }
    }

    /// What the peer of a parrot should hear.
    fn expected(self, mut input: &[u8]) -> Vec<u8> {
        let mut expected = Vec::new();
        while !input.is_empty() {
            let (unit, rest) = input.split_at(self.unit(input).unwrap_or(input.len()));
            (0..self.times()).for_each(|_| expected.extend_from_slice(unit));
            input = rest;
        }
        expected
    }
}

impl Protocol for Parrot {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let Some(count) = self.unit(input) else { return Advance::need_more() };
        (0..self.times()).for_each(|_| cx.send_borrowed(&input[..count]));
        Advance::consumed(count)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        (0..self.times()).for_each(|_| cx.send(rest));
        Next::Close
    }
}

#[derive(Clone, Copy, Debug)]
enum News {
    /// So many bytes arrive; with an urgent mark before so many of them.
    Arrives(usize, Option<usize>),
    /// The peer takes so many bytes, which makes room for as many.
    Takes(usize),
    /// The kernel says readable and writable for no reason.
    Nothing,
}

impl Talk<Kernel> {
    fn hear(&mut self, news: News) {
        match news {
            News::Arrives(count, mark) => {
                self.wire.urgent_mark =
                    mark.map(|mark| self.wire.arrived + mark.min(count)).or(self.wire.urgent_mark);
                self.wire.arrived += count;
                self.ready.readable |= count > 0;
                self.ready.read_until_would_block |= mark.is_some();
            }
            News::Takes(count) => {
                self.wire.room += count;
                self.ready.writable |= count > 0;
            }
            News::Nothing => (self.ready.readable, self.ready.writable) = (true, true),
        }
        self.drive_until_blocked();
    }

    fn drive_until_blocked(&mut self) -> Outcome {
        let mut outcome = Unfinished;
        while outcome == Unfinished {
            outcome = self.drive_once();
            // The most that can wait: the high mark, overshot by one reply.
            assert!(
                self.connection.output.len()
                    <= HIGH_WATERMARK_BYTES + READ_BYTES_MAX + PREFIX.len()
            );
        }
        if outcome == Blocked {
            self.check_that_nothing_is_forgotten();
        }
        outcome
    }

    /// It waits for the kernel, so the kernel must still have an edge to give.
    fn check_that_nothing_is_forgotten(&self) {
        let has_input = self.wire.read < self.wire.arrived || self.wire.has_fin;
        assert!(
            !(self.connection.wants_read() && has_input),
            "there is input, and no edge will come for it"
        );
        assert!(
            !(self.connection.wants_write() && self.wire.room > 0),
            "there is room, and no edge will come for it"
        );
    }

    /// The peer sends its FIN and takes what comes until the end, `at_a_time` bytes at a time.
    fn hear_out(&mut self, at_a_time: usize) {
        self.wire.has_fin = true;
        (self.ready.readable, self.ready.read_until_would_block) = (true, true);
        while self.drive_until_blocked() == Blocked {
            assert!(self.wire.room == 0, "all room was used, and it waits for more");
            self.wire.room = at_a_time;
            self.ready.writable = true;
        }
    }
}

const PREFIX: &[u8] = b"echo -> ";

fn any_news() -> impl Strategy<Value = News> {
    let arrives = |most: usize| (0..most).prop_map(|count| News::Arrives(count, None));
    let marked =
        (1..3000usize, 0..3000usize).prop_map(|(count, mark)| News::Arrives(count, Some(mark)));
    prop_oneof![
        4 => arrives(20),
        2 => arrives(3000),
        1 => arrives(100_000),
        1 => marked,
        4 => (0..20usize).prop_map(News::Takes),
        2 => (0..100_000usize).prop_map(News::Takes),
        1 => Just(News::Nothing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the input is cut, however little the kernel takes at a time, whenever it interrupts: every byte is heard
    /// once and in order, every reply arrives whole, nothing is forgotten, and no more waits than may.
    #[test]
    fn every_byte_is_heard_and_every_reply_arrives(
        parrot in prop_oneof![
            Just(Parrot::All),
            (1..4usize).prop_map(|times| Parrot::Bytes { times }),
            Just(Parrot::Bytes { times: 300 }),
            (1..20usize).prop_map(|times| Parrot::Lines { times }),
        ],
        news in prop::collection::vec(any_news(), 0..30),
        interrupts_every in prop_oneof![Just(0usize), 2..5usize],
        at_a_time in prop_oneof![900..1100usize, 1..200_000usize],
    ) {
        let mut talk = Talk::over(Kernel { interrupts_every, ..Kernel::default() }, parrot);
        // As much output from all of them, and not so much that the test takes long.
        let scale = |news| match news {
            News::Arrives(count, mark) => News::Arrives(count.min(100_000 / parrot.times()), mark),
            News::Takes(_) | News::Nothing => news,
        };
        news.into_iter().for_each(|news| talk.hear(scale(news)));
        talk.hear_out(at_a_time);
        prop_assert_eq!(talk.wire.read, talk.wire.arrived);
        let expected = parrot.expected(&bytes(0, talk.wire.arrived));
        prop_assert!(talk.wire.sent == expected, "{} bytes sent, {} expected", talk.wire.sent.len(), expected.len());
    }

    /// The same for the echo, with and without its prefix: which stands before what each read brought, and nowhere else.
    #[test]
    fn an_echo_is_exact(
        has_prefix in any::<bool>(),
        news in prop::collection::vec(any_news(), 0..30),
        at_a_time in prop_oneof![900..1100usize, 1..200_000usize],
    ) {
        let prefix = if has_prefix { PREFIX } else { b"" };
        let mut talk = Talk::over(Kernel::default(), Echo::with_prefix(prefix));
        news.into_iter().for_each(|news| talk.hear(news));
        talk.hear_out(at_a_time);
        let (mut expected, mut heard) = (Vec::new(), 0);
        for &count in &talk.wire.reads {
            expected.extend_from_slice(prefix);
            expected.extend(bytes(heard, count));
            heard += count;
        }
        prop_assert_eq!(heard, talk.wire.arrived);
        prop_assert!(talk.wire.sent == expected, "{} bytes sent, {} expected", talk.wire.sent.len(), expected.len());
    }
}
