//! A group of connections that act on each other: the fixture for the tests of effects.
//!
//! A test gives the group two functions. One is called for each byte that a member receives, the
//! other for each notification. Peers make members act by sending them bytes: `b"p"` may mean
//! "pause member 0".

use super::*;
use crate::protocol::notification::Notification;
use crate::testing::simulated::errno;

pub(super) const GROUP: u16 = 4000;

/// What happened in a group, in order.
#[derive(Default)]
pub(super) struct GroupLog {
    /// The members, in the order in which they were accepted. The first is number 0.
    pub(super) members: Vec<ConnectionId>,
    /// Each notification: the member that received it, the one that it is about, and what it is.
    pub(super) notifications: Vec<(usize, usize, Notification)>,
    /// The member of each call of `output_low`.
    pub(super) output_low_calls: Vec<usize>,
}

impl GroupLog {
    fn number_of(&self, id: ConnectionId) -> usize {
        self.members.iter().position(|&member| member == id).expect("a member of the group")
    }
}

/// What a member does with one byte of input, or with the end of it (`b""`). Gets the ids of all
/// members.
pub(super) type OnByte = fn(&[u8], &[ConnectionId], &mut Context<'_>) -> Next;

/// What a member does when it is notified about another.
pub(super) type OnNotification = fn(ConnectionId, Notification, &mut Context<'_>) -> Next;

pub(super) struct ScriptedMember {
    log: Rc<RefCell<GroupLog>>,
    on_byte: OnByte,
    on_notification: OnNotification,
}

impl Protocol for ScriptedMember {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.log.borrow_mut().members.push(cx.id());
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let members = self.log.borrow().members.clone();
        Advance::consumed(1).then((self.on_byte)(&input[..1], &members, cx))
    }

    fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
        let members = self.log.borrow().members.clone();
        (self.on_byte)(b"", &members, cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        let mut log = self.log.borrow_mut();
        let number = log.number_of(cx.id());
        log.output_low_calls.push(number);
        Next::Unchanged
    }

    fn notified(
        &mut self,
        about: ConnectionId,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Next {
        {
            let mut log = self.log.borrow_mut();
            let (number, about) = (log.number_of(cx.id()), log.number_of(about));
            log.notifications.push((number, about, notification));
        }
        (self.on_notification)(about, notification, cx)
    }
}

/// For members that only record their notifications.
pub(super) fn unchanged(_: ConnectionId, _: Notification, _: &mut Context<'_>) -> Next {
    Next::Unchanged
}

/// A group with `count` members, which have been accepted and registered.
///
/// Returns the streams to their peers. Each takes 10,000 bytes before its peer has to read.
pub(super) fn group(
    count: u16,
    on_byte: OnByte,
    on_notification: OnNotification,
) -> (World, Vec<usize>, Rc<RefCell<GroupLog>>) {
    let mut world = World::without_faults();
    let log: Rc<RefCell<GroupLog>> = Rc::default();
    let shared = log.clone();
    let address = world.serve(GROUP, move |_| ScriptedMember {
        log: shared.clone(),
        on_byte,
        on_notification,
    });
    world.kernel().allow_pauses(address);
    let streams = (1..=count)
        .map(|number| {
            let stream = world
                .kernel()
                .peer_connects(peer(number), address, 10_000)
                .expect("the group's listener is open");
            world.run_until_blocked();
            stream
        })
        .collect();
    (world, streams, log)
}

/// Resets `streams`, and stops the reactor.
pub(super) fn reset_and_stop(mut world: World, streams: &[usize]) {
    for &stream in streams {
        world.kernel().fail(stream, errno::ECONNRESET);
    }
    world.run_until_blocked();
    world.stop();
}
