//! What an application hands in is not believed: foreign ids, other reactors, panics in drop.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::limits::{EFFECTS_MAX, MAILBOX_MESSAGES_MAX};
use crate::protocol::datagram::{Batching, Datagram, Replies};
use crate::protocol::effects::Command;
use crate::protocol::notification::Notification;
use crate::testing::simulated::kernel::Host;

const ECHO: u16 = 2000;

/// Two reactors on one kernel, each with one connection. Those have the same slot.
fn two_worlds() -> (World, Reactor, [ConnectionId; 2]) {
    let (mut world, _) = echo_world_with(1);
    let mut other = Reactor::new(Limits::default()).unwrap();
    other.insert_stop_signal(StopSignal::new().unwrap(), || {}).unwrap();
    other.listen(server(2001), |_| Echo::new()).unwrap();
    world.connect(2001, 2);
    (0..3).for_each(|_| other.turn(Some(Duration::ZERO)).unwrap());
    world.kernel().forgive_empty_turn();
    let ids = [only_id(world.reactor()), only_id(&other)];
    (world, other, ids)
}

/// Runs enough turns for all that is under way. (The counters of two reactors do not compare.)
fn run_turns(world: &mut World) {
    for _ in 0..8 {
        world.reactor().turn(Some(Duration::ZERO)).unwrap();
        world.kernel().forgive_empty_turn();
    }
}

fn only_id(reactor: &Reactor) -> ConnectionId {
    let ids = connection_ids(reactor);
    assert_eq!(ids.len(), 1);
    ids[0]
}

// pitfall: 143
#[test]
fn id_of_another_reactor_is_that_of_a_closed_connection() {
    let (mut world, mut other, [own, foreign]) = two_worlds();
    assert_eq!(own.slot, foreign.slot, "they differ only in their generation");
    assert_eq!(world.reactor().send_to(foreign, b"secret"), Err(SendError::Closed));
    for command in [Command::Close, Command::Abort, Command::Pause, Command::ShutdownWrite] {
        world.reactor().connections().command(foreign, command);
    }
    world.run_until_blocked();
    assert_eq!((world.peer_receives_all(0), world.close_reason_of(1)), (Vec::new(), None));
    // The same for a connect, whose id leads to its slot by another way.
    let mine = world.reactor().connect(peer(9), Echo::new());
    let theirs = other.connect(peer(9), Echo::new());
    assert_eq!(mine.outbound_index(), theirs.outbound_index());
    assert_eq!(world.reactor().send_to(theirs, b"secret"), Err(SendError::Closed));
    assert_eq!(world.reactor().send_to(mine, b"own"), Ok(SendStatus::Accepted));
    world.kernel().peer_closes(0);
    drop(other);
    world.run_until_blocked();
}

/// A protocol is told so like of any closed connection.
// pitfall: 143
#[test]
fn foreign_id_is_notified_as_closed_once_for_each_use() {
    struct UsesForeignId(ConnectionId, Rc<RefCell<Vec<Notification>>>);
    impl Protocol for UsesForeignId {
        fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
            match input[0] {
                b'm' => cx.monitor(self.0),
                _ => cx.connections().send_to(self.0, input),
            }
            Advance::consumed(1)
        }
        fn notified(&mut self, _: ConnectionId, what: Notification, _: &mut Context<'_>) -> Next {
            self.1.borrow_mut().push(what);
            Next::Unchanged
        }
    }
    let (mut world, other, [_, foreign]) = two_worlds();
    let seen: Rc<RefCell<Vec<Notification>>> = Rc::default();
    let shared = seen.clone();
    world.serve(3000, move |_| UsesForeignId(foreign, shared.clone()));
    let stream = world.connect(3000, 3);
    world.peer_sends(stream, b"ms");
    world.run_until_blocked();
    assert_eq!(*seen.borrow(), [Notification::Closed, Notification::Closed]);
    [0, stream].into_iter().for_each(|stream| world.kernel().peer_closes(stream));
    drop(other);
    world.run_until_blocked();
    world.stop();
}

// pitfall: 144
#[test]
fn task_that_replaces_the_reactor_makes_the_loop_run_the_new_one() {
    for panics in [false, true] {
        let (mut world, streams) = echo_world_with(2);
        let handle = world.reactor().handle().unwrap();
        let task = move |reactor: &mut Reactor| {
            let mut new = Reactor::new(Limits::default()).unwrap();
            new.listen(server(2222), |_| Echo::new()).unwrap();
            *reactor = new;
            assert!(!panics, "on purpose");
        };
        handle.submit(task).unwrap();
        streams.iter().for_each(|&stream| world.peer_sends(stream, b"to the old one"));
        run_turns(&mut world);
        let stream = world.connect(2222, 3);
        world.peer_sends(stream, b"hello");
        run_turns(&mut world);
        assert_eq!(world.peer_receives_all(stream), b"hello");
        assert_eq!(world.stats().panics, u64::from(panics));
        assert!(handle.submit(|_| {}).is_err(), "its reactor is gone");
        let _ = world.reactor.take();
    }
}

thread_local! {
    static KEPT: RefCell<Option<Reactor>> = const { RefCell::new(None) };
}

/// The first reactor is replaced in the middle of its turn, and comes back in a turn of the second.
// pitfall: 144
#[test]
fn replaced_reactor_that_is_put_back_serves_its_connections() {
    let (mut world, streams) = echo_world_with(3);
    let handle = world.reactor().handle().unwrap();
    run_turns(&mut world);
    handle
        .submit(|reactor| {
            let mut new = Reactor::new(Limits::default()).unwrap();
            let second = new.handle().unwrap();
            KEPT.set(Some(mem::replace(reactor, new)));
            second
                .submit(|reactor| {
                    let first = KEPT.take().expect("the first task has kept it");
                    KEPT.set(Some(mem::replace(reactor, first)));
                })
                .unwrap();
        })
        .unwrap();
    streams.iter().for_each(|&stream| world.peer_sends(stream, b"hello"));
    run_turns(&mut world);
    for &stream in &streams {
        assert_eq!(world.peer_receives_all(stream), b"hello");
        world.kernel().peer_closes(stream);
    }
    handle.submit(Reactor::stop).unwrap();
    run_turns(&mut world);
    assert_eq!((world.stats().panics, world.stats().connections), (0, 0));
    KEPT.take();
    drop(handle);
    let _ = world.reactor.take();
}

/// Panics when it is dropped, and perhaps in `closed` before that.
struct PanicsInDrop {
    in_closed: bool,
    dropped: Rc<RefCell<usize>>,
}

impl Protocol for PanicsInDrop {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let (in_closed, dropped) = (true, self.dropped.clone());
        match input[0] {
            b'c' => drop(cx.connect(peer(9), PanicsInDrop { in_closed, dropped }).slot),
            b'f' => {
                let own = cx.id();
                let most = std::iter::repeat_n(own, EFFECTS_MAX);
                cx.connections().send_to_all(most, b"");
                cx.connect(peer(9), PanicsInDrop { in_closed, dropped });
            }
            _ => panic!("on purpose"),
        }
        Advance::consumed(1)
    }

    fn closed(&mut self, _: CloseReason) {
        assert!(!self.in_closed, "on purpose");
    }
}

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        *self.dropped.borrow_mut() += 1;
        panic!("on purpose");
    }
}

/// `x` panics itself, `c` starts a connect that fails at once, and `f` one that panics because too
/// many effects are queued: the protocol is dropped while that unwinds.
// pitfall: 142
#[test]
fn panics_in_drop_are_caught_wherever_a_protocol_ends() {
    for (input, dropped_before, panics_before) in [("x", 1, 2), ("c", 1, 2), ("f", 2, 2)] {
        let mut world = World::without_faults();
        let dropped: Rc<RefCell<usize>> = Rc::default();
        let shared = dropped.clone();
        let make = move |_| PanicsInDrop { in_closed: false, dropped: shared.clone() };
        world.reactor().listen(server(ECHO), make).unwrap();
        world.kernel().hosts.insert(peer(9), Host::Unreachable { error: 113 });
        let streams = [1, 2].map(|number| world.connect(ECHO, number));
        world.peer_sends(streams[0], input.as_bytes());
        world.run_until_blocked();
        assert_eq!(*dropped.borrow(), dropped_before, "{input}");
        assert_eq!(world.stats().panics, panics_before, "{input}");
        // The other is still open. The reactor is dropped while the frame of a panic unwinds.
        let open = world.stats().connections;
        let reactor = world.reactor.take();
        let result = catch_unwind(AssertUnwindSafe(move || {
            let _reactor = reactor;
            panic!("on purpose");
        }));
        assert!(result.is_err());
        assert_eq!(*dropped.borrow(), dropped_before + open, "{input}");
    }
}

/// Panics when it is asked how to batch, and when it is dropped while that unwinds.
struct PanicsWhenMade;

impl DatagramProtocol for PanicsWhenMade {
    fn received(&mut self, _: &Datagram<'_>, _: &mut Replies<'_>) {}

    fn batching(&self) -> Batching {
        panic!("on purpose")
    }
}

impl Drop for PanicsWhenMade {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

/// Starts such a datagram client, after as many sends to itself as its input says in thousands.
struct StartsOne;

impl Protocol for StartsOne {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let own = cx.id();
        cx.connections().send_to_all(std::iter::repeat_n(own, usize::from(input[0]) * 1000), b"");
        cx.connect_datagram(peer(9), PanicsWhenMade);
        cx.connections().send_to(own, b"done");
        Advance::consumed(1)
    }
}

// pitfall: 142
#[test]
fn datagram_protocol_that_panics_when_its_socket_is_made_costs_no_other_effect() {
    for thousands in [0, 60] {
        let mut world = World::without_faults();
        let address = world.serve(ECHO, |_| StartsOne);
        world.kernel().allow_pauses(address);
        let stream = world.connect(ECHO, 1);
        world.peer_sends(stream, &[thousands]);
        world.run_until_blocked();
        assert_eq!(world.peer_receives_all(stream), b"done");
        assert_eq!((world.stats().panics, world.stats().connections), (1, 1));
        world.kernel().peer_closes(stream);
        world.run_until_blocked();
        world.stop();
    }
}

/// Tasks that never run are dropped with their queue, each with what it has captured.
// pitfall: 142
#[test]
fn panic_in_drop_of_a_task_keeps_no_other_task_from_being_dropped() {
    struct PanicsInDrop(std::sync::Arc<std::sync::atomic::AtomicUsize>);
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            panic!("on purpose");
        }
    }
    let mut world = World::without_faults();
    let handle = world.reactor().handle().unwrap();
    let dropped = std::sync::Arc::default();
    for _ in 0..3 {
        let captured = PanicsInDrop(std::sync::Arc::clone(&dropped));
        assert!(handle.submit(move |_| drop(captured)).is_ok());
    }
    drop(world.reactor.take());
    assert_eq!(dropped.load(std::sync::atomic::Ordering::Relaxed), 3);
}

/// Panics when it is dropped, and counts that.
struct Bomb(Rc<RefCell<usize>>);

impl Drop for Bomb {
    fn drop(&mut self) {
        *self.0.borrow_mut() += 1;
        panic!("on purpose");
    }
}

/// Sends two messages to a connection that its input names.
struct SendsBombs(ConnectionId, Rc<RefCell<usize>>);

impl Protocol for SendsBombs {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let own = cx.id();
        let to = match input[0] {
            b'c' => self.0,                           // it is closed
            b'u' => cx.connect(peer(9), Echo::new()), // it fails later
            b'd' => {
                cx.connections().send_to_all(std::iter::repeat_n(own, 60_000), b""); // deferred
                self.0
            }
            b'o' => {
                cx.connections().send_to_all(std::iter::repeat_n(own, EFFECTS_MAX), b"");
                self.0
            }
            b'p' => self.0,
            _ => {
                // Its mailbox is full.
                (0..MAILBOX_MESSAGES_MAX).for_each(|_| cx.connections().send_message(own, ()));
                own
            }
        };
        (0..2).for_each(|_| cx.connections().send_message(to, Bomb(self.1.clone())));
        cx.connections().send_to(own, b"done");
        assert!(input[0] != b'p', "on purpose");
        Advance::consumed(1)
    }

    fn message_received(&mut self, _: Box<dyn std::any::Any>, _: &mut Context<'_>) -> Next {
        Next::Unchanged
    }
}

/// A message that is not received costs its sender's connection nothing, and never the process.
// pitfall: 142
#[test]
fn panic_in_drop_of_a_message_is_caught_wherever_it_is_dropped() {
    for (input, panics) in [("c", 2), ("u", 2), ("d", 2), ("f", 2), ("p", 3), ("o", 1)] {
        let mut world = World::without_faults();
        let closed = ConnectionId { slot: 9, generation: 9 };
        let dropped: Rc<RefCell<usize>> = Rc::default();
        let shared = dropped.clone();
        let make = move |_| SendsBombs(closed, shared.clone());
        let address = world.reactor().listen(server(ECHO), make).unwrap();
        world.kernel().allow_pauses(address);
        world.kernel().hosts.insert(peer(9), Host::Fails { after_us: 10, error: 111 });
        let stream = world.connect(ECHO, 1);
        world.peer_sends(stream, input.as_bytes());
        world.run_for(10);
        let expected = if input == "o" { 1 } else { 2 }; // the first one is one too many
        assert_eq!((*dropped.borrow(), world.stats().panics), (expected, panics), "{input}");
        if !matches!(input, "p" | "o") {
            assert_eq!(world.peer_receives_all(stream), b"done", "{input}");
        }
        drop(world.reactor.take());
    }
}

/// The reactor is dropped before they are delivered: to a connection that is open or is held, or
/// to a connect that is under way, or with effects that are not applied yet.
// pitfall: 142
#[test]
fn panic_in_drop_of_a_message_that_waits_is_caught_when_the_reactor_is_dropped() {
    for input in ["o", "u", "d"] {
        let mut world = World::without_faults();
        let dropped: Rc<RefCell<usize>> = Rc::default();
        let shared = dropped.clone();
        let closed = ConnectionId { slot: 9, generation: 9 };
        world.serve(ECHO, move |_| SendsBombs(closed, shared.clone()));
        let stream = world.connect(ECHO, 1);
        world.run_until_blocked();
        let id = only_id(world.reactor());
        if input != "o" {
            world.kernel().hosts.insert(peer(9), Host::Silent);
            world.peer_sends(stream, input.as_bytes());
            world.reactor().turn(Some(Duration::ZERO)).unwrap();
        }
        for _ in 0..2 {
            let _ = world.reactor().send_message(id, Bomb(dropped.clone()));
        }
        if input == "d" {
            world.reactor().turn(Some(Duration::ZERO)).unwrap();
        }
        let sent = if input == "o" { 2 } else { 4 };
        assert_eq!(*dropped.borrow(), 0, "{input}: they wait");
        drop(world.reactor.take());
        assert_eq!(*dropped.borrow(), sent, "{input}");
    }
}
