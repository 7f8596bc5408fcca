//! Publishing to readers that do not keep up: what they miss, and what it costs.

use super::*;
use crate::limits::{HIGH_WATERMARK_BYTES, OUTPUT_BYTES_MAX};
use crate::protocol::notification::Notification;
use crate::protocol::slow_reader::SlowReader;

const PORT: u16 = 2000;

/// Publishes each piece of its input to the members, and records what it is notified of.
struct Publisher {
    members: Rc<RefCell<Vec<ConnectionId>>>,
    notified: Rc<RefCell<Vec<Notification>>>,
    slow: SlowReader,
}

impl Protocol for Publisher {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.members.borrow_mut().push(cx.id());
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let members = self.members.borrow();
        let others = members[1..].iter().copied();
        match input[0] {
            b'c' => others.for_each(|id| cx.connections().close(id)),
            _ => cx.connections().publish(others, input, self.slow),
        }
        Advance::consumed(input.len())
    }

    fn notified(&mut self, _: ConnectionId, what: Notification, _: &mut Context<'_>) -> Next {
        self.notified.borrow_mut().push(what);
        Next::Unchanged
    }
}

/// A publisher, and one reader of it whose buffers hold only `room` bytes.
struct Stage {
    world: World,
    publisher: usize,
    reader: usize,
    notified: Rc<RefCell<Vec<Notification>>>,
}

impl Stage {
    fn new(slow: SlowReader) -> Stage {
        let mut world = World::without_faults();
        let (members, notified) = (Rc::default(), Rc::new(RefCell::default()));
        let told = Rc::clone(&notified);
        world.serve(PORT, move |_| Publisher {
            members: Rc::clone(&members),
            notified: Rc::clone(&told),
            slow,
        });
        let publisher = world.connect(PORT, 1);
        world.run_until_blocked();
        let reader = world.kernel().peer_connects(peer(2), server(PORT), 1000).unwrap();
        world.run_until_blocked();
        Stage { world, publisher, reader, notified }
    }

    fn publish(&mut self, bytes: &[u8]) {
        self.world.peer_sends(self.publisher, bytes);
        self.world.run_until_blocked();
    }

    /// Publishes until the reader is behind. Returns what was sent.
    fn fall_behind(&mut self) -> Vec<u8> {
        let bulk = vec![b'.'; HIGH_WATERMARK_BYTES / 2];
        let mut sent = Vec::new();
        while sent.len() <= HIGH_WATERMARK_BYTES + 2000 {
            self.publish(&bulk);
            sent.extend_from_slice(&bulk);
        }
        sent
    }

    /// Lets the reader take all that is sent to it.
    fn read_all(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        loop {
            let bytes = self.world.peer_receives_all(self.reader);
            self.world.run_until_blocked();
            if bytes.is_empty() {
                return received;
            }
            received.extend(bytes);
        }
    }
}

// pitfall: 178
#[test]
fn newest_bytes_are_dropped_while_a_reader_is_behind() {
    let mut stage = Stage::new(SlowReader::DropNewest);
    let sent = stage.fall_behind();
    stage.publish(b"missed");
    assert_eq!(stage.world.stats().publishes_dropped, 1);
    assert_eq!(stage.read_all(), sent, "whole, and without the bytes that were dropped");
    stage.publish(b"seen");
    assert_eq!(stage.read_all(), b"seen");
    assert_eq!(*stage.notified.borrow(), [], "the publisher is not concerned");
}

// pitfall: 178
#[test]
fn latest_value_is_sent_once_a_slow_reader_has_caught_up() {
    let mut stage = Stage::new(SlowReader::KeepLatest);
    let sent = stage.fall_behind();
    for value in [&b"one"[..], b"two", b"three"] {
        stage.publish(value);
    }
    assert_eq!(stage.world.stats().publishes_replaced, 2);
    assert_eq!(stage.read_all(), [&sent[..], b"three"].concat());
    stage.publish(b"four");
    assert_eq!(stage.read_all(), b"four");
    assert_eq!(*stage.notified.borrow(), []);
    assert!(!stage.world.reactor().effects.keeps_for(ConnectionId::NONE));
}

// pitfall: 178
#[test]
fn values_reach_a_slow_reader_in_order_and_the_last_one_last() {
    // One value in each turn, also in that in which the reader has caught up: the kept value must
    // not follow the one that was published then.
    let mut stage = Stage::new(SlowReader::KeepLatest);
    let sent = stage.fall_behind();
    let (mut received, mut value) = (Vec::new(), 0);
    while received.len() < sent.len() + 100 {
        received.extend(stage.world.peer_receives_all(stage.reader));
        value += 1;
        stage.world.peer_sends(stage.publisher, format!("{value:05} ").as_bytes());
        stage.world.turn();
    }
    received.extend(stage.read_all());
    let text = String::from_utf8(received[sent.len()..].to_vec()).unwrap();
    let values: Vec<u32> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(values.is_sorted(), "{values:?}");
    assert_eq!(values.last(), Some(&value));
    assert!(values.len() < value as usize, "some were replaced");
}

// pitfall: 178
#[test]
fn slow_reader_is_reset_if_nothing_may_be_left_out() {
    let mut stage = Stage::new(SlowReader::Abort);
    stage.fall_behind();
    stage.publish(b"x");
    assert_eq!(stage.world.close_reason_of(2), Some(CloseReason::Aborted));
    assert_eq!(stage.world.stats().slow_readers_aborted, 1);
    assert_eq!(stage.world.peer_receives_end(stage.reader), PeerReceived::Reset);
}

#[test]
fn queued_bytes_notify_the_publisher_as_a_send_does() {
    let mut stage = Stage::new(SlowReader::Queue);
    let sent = stage.fall_behind();
    assert_eq!(*stage.notified.borrow(), [Notification::AboveHighWatermark]);
    assert_eq!(stage.read_all(), sent);
    assert_eq!(stage.notified.borrow().last(), Some(&Notification::BelowLowWatermark));
}

#[test]
fn kept_value_precedes_a_close_and_ends_with_its_connection() {
    let mut stage = Stage::new(SlowReader::KeepLatest);
    let sent = stage.fall_behind();
    stage.publish(b"final");
    stage.publish(b"c");
    assert_eq!(stage.read_all(), [&sent[..], b"final"].concat());

    let mut stage = Stage::new(SlowReader::KeepLatest);
    stage.fall_behind();
    stage.publish(&[b'k'; 10_000]);
    stage.world.check_memory();
    let held = stage.world.reactor().state.memory.held();
    assert!(held > HIGH_WATERMARK_BYTES + 10_000, "{held}: it is metered");
    stage.world.kernel().peer_closes(stage.reader);
    stage.world.kernel().peer_closes(stage.publisher);
    stage.world.run_for(60_000);
    stage.world.stop();
}

#[test]
fn value_that_no_output_can_hold_is_rejected() {
    const HUGE: usize = OUTPUT_BYTES_MAX;
    struct Once(Rc<RefCell<Vec<Notification>>>, ConnectionId);
    impl Protocol for Once {
        fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
            cx.connections().publish([self.1], &vec![0; 70_000], SlowReader::KeepLatest);
            cx.connections().publish([self.1], &vec![0; HUGE], SlowReader::KeepLatest);
            Advance::consumed(input.len())
        }
        fn notified(&mut self, _: ConnectionId, what: Notification, _: &mut Context<'_>) -> Next {
            self.0.borrow_mut().push(what);
            Next::Unchanged
        }
    }
    let mut stage = Stage::new(SlowReader::KeepLatest);
    let reader = connection_ids(stage.world.reactor())[1];
    let notified = Rc::clone(&stage.notified);
    stage.world.serve(PORT + 1, move |_| Once(Rc::clone(&notified), reader));
    let huge = stage.world.connect(PORT + 1, 3);
    stage.world.peer_sends(huge, b"x");
    stage.world.run_until_blocked();
    assert_eq!(*stage.notified.borrow(), [Notification::Rejected]);
}
