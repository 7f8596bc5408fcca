//! Random schedules of a model socket: nothing is lost, repeated or forgotten.

use super::*;

/// Repeats its input in units: all that there is, a byte at a time, or a line at a time. Each unit
/// is sent `times` times.
#[derive(Clone, Copy, Debug)]
enum Repeater {
    All,
    Bytes { times: usize },
    Lines { times: usize },
}

impl Repeater {
    /// Returns the length of the first unit of `input`, if it is complete.
    fn unit(self, input: &[u8]) -> Option<usize> {
        match self {
            Repeater::All => Some(input.len()),
            Repeater::Bytes { .. } => Some(1),
            Repeater::Lines { .. } => {
                input.iter().position(|&byte| byte == b'\n').map(|end| end + 1)
            }
        }
    }

    fn times(self) -> usize {
        match self {
            Repeater::All => 1,
            Repeater::Bytes { times } | Repeater::Lines { times } => times,
        }
    }

    /// Returns what the peer should receive for `input`.
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

impl Protocol for Repeater {
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
enum SocketEvent {
    /// So many bytes arrive, perhaps with the urgent mark after so many of them.
    Arrives(usize, Option<usize>),
    /// The peer takes so many bytes, which makes room for as many.
    Takes(usize),
    /// Readable and writable are reported without reason.
    Spurious,
}

impl Harness<ModelSocket> {
    fn on_event(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::Arrives(count, urgent) => {
                self.transport.get_mut().urgent_mark = urgent
                    .map(|at| self.transport.get_mut().arrived + at.min(count))
                    .or(self.transport.get_mut().urgent_mark);
                self.transport.get_mut().arrived += count;
                let ready = &mut self.ready;
                ready.set_readable(ready.readable() || count > 0);
                ready
                    .set_read_until_would_block(ready.read_until_would_block() || urgent.is_some());
            }
            SocketEvent::Takes(count) => {
                self.transport.get_mut().room += count;
                let ready = &mut self.ready;
                ready.set_writable(ready.writable() || count > 0);
            }
            SocketEvent::Spurious => self.ready.set_both(),
        }
        self.drive_until_blocked();
    }

    fn drive_until_blocked(&mut self) -> Outcome {
        let mut outcome = Unfinished;
        while outcome == Unfinished {
            outcome = self.drive_once();
            // The most that can wait: the high watermark, overshot by one reply.
            assert!(
                self.connection().buffers.output().len()
                    <= HIGH_WATERMARK_BYTES + READ_BYTES_MAX + PREFIX.len()
            );
        }
        if outcome == Blocked {
            self.check_that_an_edge_follows();
        }
        outcome
    }

    /// Whatever the connection waits for, the kernel must still have an edge to report.
    fn check_that_an_edge_follows(&self) {
        let has_input = self.transport.borrow().read < self.transport.borrow().arrived
            || self.transport.borrow().has_fin;
        assert!(
            !(self.connection().wants_read() && has_input),
            "no edge follows for input that has arrived"
        );
        assert!(
            !(self.connection().wants_write() && self.transport.borrow().room > 0),
            "no edge follows for room that there is"
        );
    }

    /// The peer sends its FIN, and takes `at_a_time` bytes at a time until the connection ends.
    fn run_to_end(&mut self, at_a_time: usize) {
        self.transport.get_mut().has_fin = true;
        self.ready.set_readable(true);
        self.ready.set_read_until_would_block(true);
        while self.drive_until_blocked() == Blocked {
            assert!(self.transport.get_mut().room == 0, "a blocked connection has used all room");
            self.transport.get_mut().room = at_a_time;
            self.ready.set_writable(true);
        }
    }
}

const PREFIX: &[u8] = b"echo -> ";

fn any_event() -> impl Strategy<Value = SocketEvent> {
    let arrives = |most: usize| (0..most).prop_map(|count| SocketEvent::Arrives(count, None));
    let marked = (1..3000usize, 0..3000usize)
        .prop_map(|(count, urgent)| SocketEvent::Arrives(count, Some(urgent)));
    prop_oneof![
        4 => arrives(20),
        2 => arrives(3000),
        1 => arrives(100_000),
        1 => marked,
        4 => (0..20usize).prop_map(SocketEvent::Takes),
        2 => (0..100_000usize).prop_map(SocketEvent::Takes),
        1 => Just(SocketEvent::Spurious),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the input is cut, however little the kernel takes at a time, and whenever it
    /// interrupts: every byte is consumed once and in order, every reply arrives whole, no edge is
    /// forgotten, and no more output waits than may.
    // pitfall: 17
    #[test]
    fn every_byte_is_consumed_and_every_reply_arrives(
        repeater in prop_oneof![
            Just(Repeater::All),
            (1..4usize).prop_map(|times| Repeater::Bytes { times }),
            Just(Repeater::Bytes { times: 300 }),
            (1..20usize).prop_map(|times| Repeater::Lines { times }),
        ],
        events in prop::collection::vec(any_event(), 0..30),
        interrupts_every in prop_oneof![Just(0usize), 2..5usize],
        at_a_time in prop_oneof![900..1100usize, 1..200_000usize],
    ) {
        let socket = ModelSocket { interrupts_every, ..ModelSocket::default() };
        let mut harness = Harness::new(socket, repeater);
        // Bounds the output, so that the test does not take long, whatever the repeater.
        let scale = |event| match event {
            SocketEvent::Arrives(count, urgent) => {
                SocketEvent::Arrives(count.min(100_000 / repeater.times()), urgent)
            }
            SocketEvent::Takes(_) | SocketEvent::Spurious => event,
        };
        events.into_iter().for_each(|event| harness.on_event(scale(event)));
        harness.run_to_end(at_a_time);
        prop_assert_eq!(harness.transport.get_mut().read, harness.transport.get_mut().arrived);
        let expected = repeater.expected(&bytes(0, harness.transport.get_mut().arrived));
        let sent = &harness.transport.get_mut().sent;
        prop_assert!(
            *sent == expected,
            "{} bytes sent, {} expected",
            sent.len(),
            expected.len(),
        );
    }

    /// The same for the echo, with and without its prefix, which stands before the bytes of each
    /// read and nowhere else.
    #[test]
    fn echo_is_exact(
        has_prefix in any::<bool>(),
        events in prop::collection::vec(any_event(), 0..30),
        at_a_time in prop_oneof![900..1100usize, 1..200_000usize],
    ) {
        let prefix = if has_prefix { PREFIX } else { b"" };
        let mut harness = Harness::new(ModelSocket::default(), Echo::with_prefix(prefix));
        events.into_iter().for_each(|event| harness.on_event(event));
        harness.run_to_end(at_a_time);
        let (mut expected, mut echoed) = (Vec::new(), 0);
        for &count in &harness.transport.get_mut().reads {
            expected.extend_from_slice(prefix);
            expected.extend(bytes(echoed, count));
            echoed += count;
        }
        prop_assert_eq!(echoed, harness.transport.get_mut().arrived);
        let sent = &harness.transport.get_mut().sent;
        prop_assert!(
            *sent == expected,
            "{} bytes sent, {} expected",
            sent.len(),
            expected.len(),
        );
    }
}
