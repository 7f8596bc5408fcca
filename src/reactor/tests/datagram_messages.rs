//! Messages to datagram protocols: they are delivered, bounded and refused as those to connections.

use std::any::Any;
use std::cell::Cell;

use super::protocols::text_of;
use super::*;
use crate::limits::MAILBOX_MESSAGES_MAX;
use crate::protocol::datagram::{Datagram, Replies};
use crate::protocol::notification::Notification;
use crate::workers::{Worker, Workers, WorkersBusyError, job_queue};

const DATAGRAMS: u16 = 2001;
const SENDERS: u16 = 3000;

/// Echoes some datagrams at once, and others when a message to itself brings them back: as if a
/// worker had answered.
pub(super) struct LateEcho {
    prefix: Vec<u8>,
    rng: fastrand::Rng,
    /// Worker threads, which run in a callback now and then.
    workers: Option<(Workers, Worker)>,
    /// How many jobs wait for them.
    jobs: usize,
}

const JOBS_MAX: usize = 3;

/// A datagram that is to be echoed.
struct Late(SocketAddr, Vec<u8>);

impl LateEcho {
    pub(super) fn new(prefix: Vec<u8>, rng: fastrand::Rng) -> LateEcho {
        LateEcho { prefix, rng, workers: None, jobs: 0 }
    }

    /// Returns the same, which has workers now.
    pub(super) fn with_workers(self, reactor: &mut Reactor) -> LateEcho {
        LateEcho { workers: Some(job_queue(JOBS_MAX, reactor.completer().unwrap())), ..self }
    }

    fn work(&mut self) {
        let Some((_, worker)) = &self.workers else { return };
        for _ in 0..self.rng.usize(..=JOBS_MAX) {
            self.jobs -= usize::from(worker.try_run_next());
        }
    }
}

impl DatagramProtocol for LateEcho {
    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        if self.rng.u8(..8) > 0 {
            return replies.echo(&self.prefix);
        }
        let (id, late) = (replies.id(), Late(datagram.peer, datagram.payload.to_vec()));
        match &self.workers {
            Some((workers, _)) if self.rng.bool() => {
                let (peer, payload) = (late.0, late.1.clone());
                match workers.submit_for(id, move || late) {
                    Ok(()) => {
                        self.jobs += 1;
                        replies.set_timer(Duration::from_millis(self.rng.u64(..20)));
                    }
                    Err(WorkersBusyError) => {
                        replies.send_to(peer, &[&self.prefix[..], &payload].concat());
                    }
                }
            }
            _ => replies.connections().send_message(id, late),
        }
    }

    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        self.work();
        if self.jobs > 0 {
            replies.set_timer(Duration::from_millis(self.rng.u64(..20)));
        }
    }

    fn message_received(&mut self, message: Box<dyn Any>, replies: &mut Replies<'_>) {
        let Late(peer, payload) = *message.downcast::<Late>().expect("it sends itself no other");
        replies.send_to(peer, &[&self.prefix[..], &payload].concat());
    }

    fn refuses_own_ports(&self) -> bool {
        true
    }
}

/// What the two kinds of protocols of a test share.
#[derive(Default)]
struct Seen {
    receiver: Cell<Option<ConnectionId>>,
    notified: RefCell<Vec<Notification>>,
    ended: Cell<bool>,
}

/// A datagram protocol that passes the numbers that it is sent on to `peer(1)`.
struct Receiver(Rc<Seen>);

impl DatagramProtocol for Receiver {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        self.0.receiver.set(Some(replies.id()));
    }

    fn received(&mut self, _: &Datagram<'_>, replies: &mut Replies<'_>) {
        replies.close();
    }

    fn message_received(&mut self, message: Box<dyn Any>, replies: &mut Replies<'_>) {
        let number = *message.downcast::<u16>().expect("it is sent numbers");
        assert!(number != 13, "a message on which the protocol panics");
        replies.send_to(peer(1), &number.to_be_bytes());
    }

    fn closed(&mut self, _: CloseReason) {
        self.0.ended.set(true);
    }
}

/// Sends the receiver as many messages as the bytes of its input say, and monitors it.
struct Sender(Rc<Seen>);

impl Protocol for Sender {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let receiver = self.0.receiver.get().expect("it is open");
        let count = u16::from_be_bytes([input[0], input[1]]);
        (0..count).for_each(|number| cx.connections().send_message(receiver, number));
        cx.monitor(receiver);
        cx.connections().send_to(receiver, b"for no peer");
        Advance::consumed(2)
    }

    fn notified(&mut self, about: ConnectionId, what: Notification, _: &mut Context<'_>) -> Next {
        assert_eq!(Some(about), self.0.receiver.get());
        self.0.notified.borrow_mut().push(what);
        Next::Unchanged
    }
}

/// A world with a receiver, and `peer(1)` to which it sends.
fn world_with_receiver(seed: u64) -> (World, Rc<Seen>, SocketAddr) {
    let mut world = World::new(seed, Limits::default(), Faults::default());
    let seen: Rc<Seen> = Rc::default();
    let address = world.serve_datagrams(DATAGRAMS, Receiver(seen.clone()));
    let shared = seen.clone();
    world.serve(SENDERS, move |_| Sender(shared.clone()));
    bound_peer(&world, 1);
    world.run_until_blocked();
    (world, seen, address)
}

fn received_by_peer(world: &World) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| world.kernel().peer_receives_datagram(peer(1))).collect()
}

// pitfall: 210
#[test]
fn messages_to_a_datagram_protocol_arrive_in_order_and_a_panic_costs_one() {
    for seed in 0..4 {
        let (mut world, seen, _) = world_with_receiver(seed);
        let id = seen.receiver.get().unwrap();
        for number in 10..16_u16 {
            assert_eq!(world.reactor().send_message(id, number), Ok(()));
        }
        world.run_until_blocked();
        let expected: Vec<_> = [10_u16, 11, 12, 14, 15].map(|it| it.to_be_bytes().to_vec()).into();
        assert_eq!(received_by_peer(&world), expected, "seed {seed}");
        assert_eq!(world.stats().panics, 1);
        world.stop();
    }
}

// pitfall: 210
#[test]
fn full_mailbox_and_ended_datagram_socket_are_told_to_the_sender() {
    let (mut world, seen, address) = world_with_receiver(1);
    let sender = world.connect(SENDERS, 2);
    let count = u16::try_from(MAILBOX_MESSAGES_MAX).unwrap() + 3;
    world.peer_sends(sender, &count.to_be_bytes());
    world.run_until_blocked();
    use Notification::{Closed, MailboxFull};
    // The last is about the bytes: a datagram socket has no peer that they could be for.
    assert_eq!(seen.notified.take(), [MailboxFull, MailboxFull, MailboxFull, Closed]);
    assert_eq!(received_by_peer(&world).len(), MAILBOX_MESSAGES_MAX - 1, "one panic");
    let id = seen.receiver.get().unwrap();
    assert_eq!(world.reactor().send_to(id, b"for no peer"), Err(SendError::Closed));
    world.reactor().connections().abort(id);
    world.kernel().peer_sends_datagram(peer(1), address, b"close".to_vec());
    world.run_until_blocked();
    assert!(seen.ended.get(), "by its own close, and not by the command");
    assert_eq!(seen.notified.take(), [Closed], "it was monitored");
    assert_eq!(world.reactor().send_message(id, 1_u16), Err(SendError::Closed));
    world.peer_sends(sender, &1_u16.to_be_bytes());
    world.run_until_blocked();
    assert_eq!(seen.notified.take(), [Closed; 3], "of the message, the monitor and the bytes");
    world.kernel().peer_closes(sender);
    world.run_until_blocked();
    assert!(world.reactor().effects.has_nothing_pending());
    world.stop();
}

/// Closes its socket, and sends itself a message before and after that.
struct Closer(Rc<Cell<u32>>);

impl DatagramProtocol for Closer {
    fn received(&mut self, _: &Datagram<'_>, replies: &mut Replies<'_>) {
        let id = replies.id();
        replies.send(&text_of(1, 0, 10));
        replies.connections().send_message(id, ());
        replies.close();
        replies.connections().send_message(id, ());
    }

    fn message_received(&mut self, _: Box<dyn Any>, _: &mut Replies<'_>) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn closing_datagram_socket_gets_no_message_and_sends_its_replies() {
    for seed in 0..4 {
        let mut world = World::new(seed, Limits::default(), Faults::default());
        let calls: Rc<Cell<u32>> = Rc::default();
        let address = world.serve_datagrams(DATAGRAMS, Closer(calls.clone()));
        let sender = bound_peer(&world, 1);
        world.kernel().peer_sends_datagram(sender, address, b"?".to_vec());
        world.run_until_blocked();
        assert_eq!((calls.get(), received_by_peer(&world)), (0, vec![text_of(1, 0, 10)]));
        assert!(world.reactor().effects.has_nothing_pending());
        world.stop();
    }
}
