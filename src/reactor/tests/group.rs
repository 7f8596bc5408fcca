//! A group of connections that act on each other, for the tests of effects.

use super::*;
use crate::protocol::notification::Notification;

pub(super) const ROOM: u16 = 4000;

/// What happens in a room, in the order in which it happens.
#[derive(Default)]
pub(super) struct Diary {
    /// Those who have come, in order. The first is number 0.
    pub(super) members: Vec<ConnectionId>,
    /// What each was told, and about whom.
    pub(super) news: Vec<(usize, usize, Notification)>,
    /// Each time that one has been asked for more.
    pub(super) drained: Vec<usize>,
}

impl Diary {
    fn number_of(&self, id: ConnectionId) -> usize {
        self.members.iter().position(|&member| member == id).expect("a member of the room")
    }
}

/// What a member does with what it hears, given all members.
pub(super) type Hears = fn(&[u8], &[ConnectionId], &mut Context<'_>) -> Next;

/// What it does when it is told something of another.
pub(super) type Told = fn(ConnectionId, Notification, &mut Context<'_>) -> Next;

pub(super) struct Member {
    diary: Rc<RefCell<Diary>>,
    hears: Hears,
    told: Told,
}

impl Protocol for Member {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.diary.borrow_mut().members.push(cx.id());
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let members = self.diary.borrow().members.clone();
        Advance::consumed(1).then((self.hears)(&input[..1], &members, cx))
    }

    fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
        let members = self.diary.borrow().members.clone();
        (self.hears)(b"", &members, cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        let mut diary = self.diary.borrow_mut();
        let number = diary.number_of(cx.id());
        diary.drained.push(number);
        Next::Unchanged
    }

    fn notified(&mut self, about: ConnectionId, news: Notification, cx: &mut Context<'_>) -> Next {
        {
            let mut diary = self.diary.borrow_mut();
            let (number, about) = (diary.number_of(cx.id()), diary.number_of(about));
            diary.news.push((number, about, news));
        }
        (self.told)(about, news, cx)
    }
}

pub(super) fn stay(_: ConnectionId, _: Notification, _: &mut Context<'_>) -> Next {
    Next::Unchanged
}

/// A room with `count` members, who have settled.
pub(super) fn room(
    count: u16,
    hears: Hears,
    told: Told,
) -> (World, Vec<usize>, Rc<RefCell<Diary>>) {
    let mut world = World::without_faults();
    let diary: Rc<RefCell<Diary>> = Rc::default();
    let shared = diary.clone();
    let address = world.serve(ROOM, move |_| Member { diary: shared.clone(), hears, told });
    world.kernel().allow_pauses(address);
    let streams = (1..=count)
        .map(|number| {
            let stream = world
                .kernel()
                .peer_connects(peer(number), address, 10_000)
                .expect("the room is open");
            world.run_until_blocked();
            stream
        })
        .collect();
    (world, streams, diary)
}

pub(super) fn leave(mut world: World, streams: &[usize]) {
    for &stream in streams {
        world.kernel().fail(stream, crate::testing::simulated::errno::ECONNRESET);
    }
    world.run_until_blocked();
    world.stop();
}
