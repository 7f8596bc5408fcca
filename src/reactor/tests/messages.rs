//! Very many messages to one connection: what they may take of a turn, and of the memory.

use std::any::Any;
use std::cell::Cell;

use super::*;
use crate::budget::QUARTER_TURN_BYTES;
use crate::echo::Echo;
use crate::limits::{CALL_COST_BYTES, MAILBOX_MESSAGES_MAX};
use crate::protocol::notification::Notification;
use crate::testing::simulated::kernel::Host;

const ECHO: u16 = 2000;
const MEMBERS: u16 = 3000;
/// What a flood sends in one callback.
const FLOOD: usize = 10_000;

/// What the members of a test have seen.
#[derive(Default)]
struct Seen {
    id: Cell<Option<ConnectionId>>,
    delivered: Cell<usize>,
    mailbox_full: Cell<usize>,
    closed: Cell<usize>,
}

/// The first one receives messages. For each byte of its input, each sends it a flood.
struct Member(Rc<Seen>);

impl Protocol for Member {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.0.id.set(self.0.id.get().or(Some(cx.id())));
        Next::Continue
    }

    fn advance(&mut self, _: &[u8], cx: &mut Context<'_>) -> Advance {
        let id = self.0.id.get().expect("the first one is open, or being connected");
        (0..FLOOD).for_each(|number| cx.connections().send_message(id, number));
        Advance::consumed(1)
    }

    fn message_received(&mut self, _: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        self.0.delivered.set(self.0.delivered.get() + 1);
        cx.send(b".");
        Next::Unchanged
    }

    fn notified(&mut self, _: ConnectionId, what: Notification, _: &mut Context<'_>) -> Next {
        let count = match what {
            Notification::MailboxFull => &self.0.mailbox_full,
            Notification::Closed => &self.0.closed,
            Notification::AboveHighWatermark
            | Notification::BelowLowWatermark
            | Notification::Rejected
            | Notification::Connected
            | Notification::ConnectFailed(_)
            | Notification::Stopping => panic!("{what:?}"),
        };
        count.set(count.get() + 1);
        Next::Unchanged
    }
}

// pitfall: 187
#[test]
fn ten_thousand_messages_a_turn_to_one_connection_delay_no_other() {
    let mut world = World::without_faults();
    let seen: Rc<Seen> = Rc::default();
    let shared = seen.clone();
    world.serve(MEMBERS, move |_| Member(shared.clone()));
    world.serve(ECHO, |_| Echo::new());
    let receiver = world.connect(MEMBERS, 1);
    world.run_until_blocked();
    let (sender, probe) = (world.connect(MEMBERS, 2), world.connect(ECHO, 3));
    world.run_until_blocked();
    let called = |seen: &Seen| seen.delivered.get() + seen.mailbox_full.get();
    for turn in 0..50 {
        world.peer_sends(sender, b"f");
        world.peer_sends(probe, b"p");
        let before = called(&seen);
        world.turn();
        assert_eq!(world.peer_receives_all(probe), b"p", "turn {turn}: the probe waits");
        // Some of the calls are made a turn later, so the bound is one of every turn.
        let calls = called(&seen) - before;
        assert!(calls * CALL_COST_BYTES <= 2 * QUARTER_TURN_BYTES, "turn {turn}: {calls} calls");
        world.peer_receives_all(receiver);
    }
    world.run_until_blocked();
    assert_eq!(called(&seen), 50 * FLOOD, "each is delivered, or its sender is notified");
    assert!(seen.delivered.get() >= 50 * MAILBOX_MESSAGES_MAX / 2, "{}", seen.delivered.get());
    [receiver, sender, probe].into_iter().for_each(|stream| world.kernel().peer_closes(stream));
    world.run_until_blocked();
    assert!(world.reactor().effects.has_nothing_pending());
    world.stop();
}

// pitfall: 187
#[test]
fn mailbox_of_a_connection_that_is_connecting_or_has_ended_is_bounded() {
    let mut world = World::without_faults();
    let seen: Rc<Seen> = Rc::default();
    let shared = seen.clone();
    world.serve(MEMBERS, move |_| Member(shared.clone()));
    let host = peer(99);
    let accepts = Host::Accepts { after_us: 20_000, buffer_bytes: 1 << 20 };
    world.kernel().hosts.insert(host, accepts);
    let member = Witnessed::new(Member(seen.clone()), host, &world.ledger);
    let id = world.reactor().connect(host, member);
    seen.id.set(Some(id));
    let sender = world.connect(MEMBERS, 2);
    world.peer_sends(sender, b"ff");
    world.run_until_blocked();
    assert_eq!(
        (seen.delivered.get(), seen.mailbox_full.get()),
        (0, 2 * FLOOD - MAILBOX_MESSAGES_MAX)
    );
    world.run_for(100); // it is connected now
    assert_eq!(seen.delivered.get(), MAILBOX_MESSAGES_MAX);
    world.reactor().connections().abort(id);
    world.peer_sends(sender, b"f");
    world.run_until_blocked();
    assert_eq!((seen.delivered.get(), seen.closed.get()), (MAILBOX_MESSAGES_MAX, FLOOD));
    world.kernel().peer_closes(sender);
    world.run_until_blocked();
    assert!(world.reactor().effects.has_nothing_pending());
    world.stop();
}
