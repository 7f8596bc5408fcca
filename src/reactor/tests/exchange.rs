//! Connections that act on each other at random, and the log that their messages are checked with.
//!
//! A member of the group sends messages to others by id: to open connections, to closed ones, and
//! to those that are still being established. It also pauses, resumes, shuts down, closes and
//! monitors them, and connects to hosts. Each message names its sender, its recipient and its
//! number between the two:
//!
//! ```text
//!     member 3 ──send_to(5, [3, 5, number, length, text])──► member 5 ──socket──► its peer
//!        │                                                                            │
//!        └── sent, rejected, accepted ──────► MessageLog ◄────────── received ────────┘
//! ```
//!
//! Invariant: each message is received whole, once and in order, or its sender is notified that it
//! was not taken.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::protocols::text_of;
use super::*;
use crate::protocol::notification::Notification;
use crate::protocol::slow_reader::SlowReader;

/// The member that sends, and the one that it sends to.
type Pair = (usize, usize);

#[derive(Default)]
pub(super) struct MessageLog {
    /// How many callbacks the members have had. A turn that makes one is not empty.
    pub(super) calls: u64,
    pub(super) members: Vec<ConnectionId>,
    /// How many messages have been sent.
    pub(super) sent: BTreeMap<Pair, u32>,
    /// How many of them were not taken, as their sender was notified; perhaps one or two too many.
    pub(super) rejected: BTreeMap<Pair, u32>,
    /// How many were taken, at least: their sender has had every notification about them.
    pub(super) accepted: BTreeMap<Pair, u32>,
    /// How many the peer has received.
    pub(super) received: BTreeMap<Pair, u32>,
    /// `AboveHighWatermark` was delivered, and `BelowLowWatermark` not yet.
    pub(super) above_watermark: BTreeSet<Pair>,
    /// The same for values that are sent to the protocol of a member.
    pub(super) values_sent: BTreeMap<Pair, u32>,
    /// The number of the last one that was received.
    pub(super) values_received: BTreeMap<Pair, u32>,
    /// The members that were begun by `connect`, and whether the result has been delivered.
    pub(super) connects: BTreeMap<usize, bool>,
    /// The members whose peers have received our FIN, and so everything before it.
    pub(super) complete: BTreeSet<usize>,
}

pub(super) type SharedLog = Rc<RefCell<MessageLog>>;

impl MessageLog {
    /// Checks the counts against each other, once all connections have ended.
    pub(super) fn check(&self) {
        for (&(from, to), &received) in &self.received {
            assert!(
                received <= self.sent[&(from, to)],
                "{to} has received more from {from} than was sent"
            );
        }
        for (&(from, to), &accepted) in &self.accepted {
            let received = self.received.get(&(from, to)).copied().unwrap_or(0);
            assert!(
                received >= accepted || !self.complete.contains(&to),
                "{to} has received {received} of {accepted} messages from {from}, and then a FIN"
            );
        }
    }

    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// How many messages were received by peers that have received everything.
    pub(super) fn complete_message_count(&self) -> u32 {
        self.received
            .iter()
            .filter(|((_, to), _)| self.complete.contains(to))
            .map(|(_, count)| count)
            .sum()
    }
}

/// A message: a head of 12 bytes, and a text.
fn encode_message((from, to): Pair, number: u32, length: u16) -> Vec<u8> {
    let (from, to) = (
        u16::try_from(from).expect("a group is small"),
        u16::try_from(to).expect("a group is small"),
    );
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.extend(number.to_be_bytes());
    bytes.extend(u32::from(length).to_be_bytes());
    bytes.extend(text_of(from, number as usize, length.into()));
    bytes
}

/// The id of no connection. Monitoring it is answered with `Closed` at once, but in order after
/// every earlier notification: a barrier.
const BARRIER: ConnectionId = ConnectionId { slot: 0, generation: 0 };

/// How often a member sets its timer at most, and how long each time at most, in milliseconds.
pub(super) const TIMERS_MAX: u32 = 20;
pub(super) const TIMER_MS_MAX: u64 = 1000;

/// A member of the group. Each byte of input, each timer and some notifications make it act at
/// random.
pub(super) struct RandomMember {
    number: Option<usize>,
    log: SharedLog,
    ledger: Rc<RefCell<Ledger>>,
    hosts: Rc<[SocketAddr]>,
    rng: fastrand::Rng,
    length_max: u16,
    /// How often it still sets its timer. Without a bound, two members whose peers send nothing
    /// would keep each other alive for long.
    timers_left: u32,
    /// For each barrier that is not answered yet: how many messages had been sent before it, and to
    /// which member. When the answer comes, every notification about those messages has been
    /// delivered.
    barriers: VecDeque<Vec<(usize, u32)>>,
}

impl RandomMember {
    pub(super) fn new(
        log: &SharedLog,
        ledger: &Rc<RefCell<Ledger>>,
        hosts: &Rc<[SocketAddr]>,
        mut rng: fastrand::Rng,
    ) -> RandomMember {
        let length_max = [10, 300, 3_000, 20_000][rng.usize(..4)];
        let (log, ledger, hosts) = (log.clone(), ledger.clone(), hosts.clone());
        RandomMember {
            number: None,
            log,
            ledger,
            hosts,
            rng,
            length_max,
            timers_left: TIMERS_MAX,
            barriers: VecDeque::new(),
        }
    }

    /// Does something to a random member, perhaps to itself.
    fn act(&mut self, cx: &mut Context<'_>) {
        let own = self.number.expect("it has been opened");
        let log = self.log.clone();
        let mut log = log.borrow_mut();
        log.calls += 1;
        let other = self.rng.usize(..log.members.len());
        let id = log.members[other];
        match self.rng.u8(..100) {
            0..5 => cx.connections().pause(id),
            5..10 => cx.connections().resume(id),
            10..14 => cx.monitor(id),
            14..15 => cx.connections().shutdown_write(id),
            15..16 => cx.connections().close(id),
            16..20 if log.members.len() < 15 => {
                let number = log.members.len();
                let host = self.hosts[self.rng.usize(..self.hosts.len())];
                let member = RandomMember {
                    number: Some(number),
                    ..RandomMember::new(&self.log, &self.ledger, &self.hosts, self.rng.fork())
                };
                let id = cx.connect(host, Witnessed::new(member, host, &self.ledger));
                log.members.push(id);
                log.connects.insert(number, false);
            }
            20..25 => {
                // No bytes, so nothing that is dropped or kept is missed.
                let slow =
                    [SlowReader::Queue, SlowReader::DropNewest, SlowReader::KeepLatest][own % 3];
                cx.connections().publish(log.members.clone(), b"", slow);
            }
            25..28 => {
                let number = log.values_sent.entry((own, other)).or_default();
                *number += 1;
                cx.connections().send_message(id, ((own, other), *number));
            }
            _ => {
                let number = log.sent.entry((own, other)).or_default();
                *number += 1;
                let length = self.rng.u16(..=self.length_max);
                cx.connections().send_to(id, &encode_message((own, other), *number, length));
            }
        }
        if self.rng.u8(..4) == 0 {
            let sent = log.sent.iter().filter(|((from, _), _)| *from == own);
            self.barriers.push_back(sent.map(|(&(_, to), &count)| (to, count)).collect());
            cx.monitor(BARRIER);
        }
    }

    /// The barrier is answered: messages sent before it, and not reported by now, were taken.
    fn pass_barrier(&mut self, own: usize) {
        let mut log = self.log.borrow_mut();
        for (to, sent) in self.barriers.pop_front().expect("it has set a barrier") {
            let rejected = log.rejected.get(&(own, to)).copied().unwrap_or(0);
            log.accepted.insert((own, to), sent.saturating_sub(rejected));
        }
    }
}

impl Protocol for RandomMember {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        let own = *self.number.get_or_insert_with(|| {
            let mut log = self.log.borrow_mut();
            log.members.push(cx.id());
            log.members.len() - 1
        });
        assert_eq!(self.log.borrow().members[own], cx.id());
        cx.send(&encode_message((own, own), 0, 0)); // so that the peer knows the member's number
        cx.set_timer(Duration::from_millis(self.rng.u64(1..TIMER_MS_MAX)));
        Next::Continue
    }

    fn advance<'i>(&mut self, _: &'i [u8], cx: &mut Context<'i>) -> Advance {
        self.act(cx);
        Advance::consumed(1).then(if self.rng.u8(..50) == 0 {
            Next::Pause
        } else {
            Next::Unchanged
        })
    }

    fn output_low(&mut self, _: &mut Context<'_>) -> Next {
        Next::Unchanged
    }

    fn notified(
        &mut self,
        about: ConnectionId,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Next {
        let own = self.number.expect("it has been opened");
        self.log.borrow_mut().calls += 1;
        if about == BARRIER {
            assert_eq!(notification, Notification::Closed);
            self.pass_barrier(own);
            return Next::Unchanged;
        }
        {
            let mut log = self.log.borrow_mut();
            let other = log
                .members
                .iter()
                .position(|&member| member == about)
                .expect("only members are known");
            match notification {
                Notification::AboveHighWatermark => {
                    assert!(log.above_watermark.insert((own, other)), "delivered twice");
                }
                Notification::BelowLowWatermark => {
                    assert!(
                        log.above_watermark.remove(&(own, other)),
                        "it comes only after `AboveHighWatermark`"
                    );
                }
                Notification::Connected | Notification::ConnectFailed(_) => {
                    let was_delivered = log.connects.insert(other, true);
                    assert_eq!(was_delivered, Some(false), "once, and only of a connect");
                }
                Notification::Rejected => panic!("messages are too short to be rejected"),
                Notification::Stopping => panic!("no protocol has asked for it"),
                Notification::MailboxFull => panic!("few messages are sent to a protocol"),
                // Mostly of a message. It may also come once more for a connection that was
                // monitored, connected to, or above its watermark.
                Notification::Closed => *log.rejected.entry((own, other)).or_default() += 1,
            }
        }
        if self.rng.u8(..8) == 0 {
            self.act(cx);
        }
        [Next::Unchanged, Next::Unchanged, Next::Pause, Next::Continue][self.rng.usize(..4)]
    }

    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        {
            let mut log = self.log.borrow_mut();
            log.calls += 1;
            let (pair, number): (Pair, u32) = *message.downcast().expect("no other is sent");
            assert_eq!(log.members[pair.1], cx.id(), "it is for another member");
            let last = log.values_received.insert(pair, number).unwrap_or(0);
            assert_eq!(number, last + 1, "not once and in order");
        }
        if self.rng.u8(..2) == 0 {
            self.act(cx);
        }
        Next::Unchanged
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        self.act(cx);
        self.timers_left -= 1;
        if self.timers_left > 0 {
            cx.set_timer(Duration::from_millis(self.rng.u64(1..TIMER_MS_MAX)));
        }
        Next::Continue // ends a pause, whichever member asked for it
    }
}
