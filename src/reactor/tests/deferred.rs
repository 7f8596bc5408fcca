//! Effects and ends that are more than one turn has time for: spread over turns, and in order.
//!
//! Whatever one call asks for, other connections are served in each turn. All is done in the order
//! in which it was asked for, and before its caller is driven again.

use super::group::*;
use super::*;
use crate::limits::EFFECTS_MAX;
use crate::protocol::notification::Notification;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Host;

/// The most connects that one turn may start: all of its budget, or a share of a later one.
const CONNECTS_PER_TURN: usize = TURN_BYTES_MAX / CONNECTION_COST_BYTES + 1;
const BURST: usize = 3 * CONNECTS_PER_TURN;
const BURSTS: u16 = 6000;

/// What has become of the connects of a `Burster`.
#[derive(Default)]
struct BurstLog {
    begun: Vec<ConnectionId>,
    failed: Vec<ConnectionId>,
    closed: usize,
}

/// Starts `BURST` connects for `!`, panics after that for `p`, and echoes any other byte.
struct Burster(Rc<RefCell<BurstLog>>);

/// The protocol of such a connect.
struct Target(Rc<RefCell<BurstLog>>);

impl Protocol for Burster {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        if matches!(input[0], b'!' | b'p') {
            for _ in 0..BURST {
                let id = cx.connect(peer(999), Target(self.0.clone()));
                self.0.borrow_mut().begun.push(id);
            }
            assert_ne!(input[0], b'p', "on purpose");
        } else {
            cx.send(&input[..1]);
        }
        Advance::consumed(1)
    }

    fn notified(&mut self, about: ConnectionId, what: Notification, _: &mut Context<'_>) -> Next {
        assert_eq!(what, Notification::ConnectFailed(io::ErrorKind::HostUnreachable));
        self.0.borrow_mut().failed.push(about);
        Next::Unchanged
    }
}

impl Protocol for Target {
    fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
        Advance::consumed(input.len())
    }

    fn closed(&mut self, _: CloseReason) {
        self.0.borrow_mut().closed += 1;
    }
}

/// A world with an echo and with bursts of connects, each of which fails at once.
fn burst_world() -> (World, [usize; 2], Rc<RefCell<BurstLog>>) {
    let mut world = echo_world();
    let log: Rc<RefCell<BurstLog>> = Rc::default();
    let shared = log.clone();
    let address = world.serve(BURSTS, move |_| Burster(shared.clone()));
    world.kernel().allow_pauses(address);
    let error = errno::EHOSTUNREACH;
    world.kernel().hosts.insert(peer(999), Host::Unreachable { error });
    let streams = [world.connect(BURSTS, 1), world.connect(2000, 2)];
    world.run_until_blocked();
    (world, streams, log)
}

/// Has the peer of `stream` send `input`, and runs a turn. Returns how many connects that starts.
fn turn_with(world: &mut World, stream: usize, input: &[u8]) -> usize {
    world.take_calls();
    world.peer_sends(stream, input);
    world.turn();
    world.take_calls().iter().filter(|&&call| call == "connect").count()
}

/// The same with an echo, which is served in this turn.
fn turn_with_echo(world: &mut World, echo: usize) -> usize {
    let connects = turn_with(world, echo, b"y");
    assert_eq!(world.peer_receives_all(echo), b"y", "others are served in each turn");
    connects
}

/// Ends the test: the targets of the connects are not in the ledger.
fn stop_after_burst(mut world: World, streams: &[usize], log: &RefCell<BurstLog>) {
    for &stream in streams {
        world.kernel().fail(stream, errno::ECONNRESET);
    }
    world.run_until_blocked();
    assert_eq!(log.borrow().closed, BURST, "each protocol is told of its end");
    let ends = std::iter::repeat_n(Some(CloseReason::Finished), BURST);
    world.ledger.borrow_mut().close_reasons.extend(ends);
    world.stop();
}

// pitfall: 145
#[test]
fn connects_of_one_call_are_started_over_turns_that_serve_others() {
    let (mut world, streams, log) = burst_world();
    let (mut begun, mut turns) = (turn_with(&mut world, streams[0], b"!"), 1);
    world.peer_sends(streams[0], b"x");
    assert!((1..=CONNECTS_PER_TURN).contains(&begun), "{begun} in the first turn");
    while begun < BURST {
        let more = turn_with_echo(&mut world, streams[1]);
        turns += 1;
        assert!(more <= CONNECTS_PER_TURN, "{more} in turn {turns}");
        begun += more;
        assert!(
            begun == BURST || world.peer_receives_all(streams[0]).is_empty(),
            "its caller is not driven before all are started"
        );
    }
    assert!(turns > 3, "{turns}");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[0]), b"x", "then it goes on");
    assert_eq!(world.stats().connects_failed, BURST as u64);
    assert_eq!(log.borrow().failed, log.borrow().begun, "in order");
    stop_after_burst(world, &streams, &log);
}

/// The budget of a turn may be spent between two notifications of a connection that is held.
// pitfall: 147
#[test]
fn notifications_of_a_held_connection_are_delivered_in_order() {
    let (mut world, streams, log) = burst_world();
    turn_with(&mut world, streams[0], b"!");
    let reactor = world.reactor();
    assert!(!reactor.deferred.is_empty());
    reactor.state.budget.begin_stage(TURN_BYTES_MAX);
    reactor.notifications_left = 1;
    reactor.deliver_notifications();
    world.run_until_blocked();
    assert_eq!(log.borrow().failed, log.borrow().begun);
    stop_after_burst(world, &streams, &log);
}

/// The caller panics in the same call, and another connection gets its slot.
#[test]
fn effects_of_a_caller_that_has_ended_are_still_applied() {
    let (mut world, streams, log) = burst_world();
    turn_with(&mut world, streams[0], b"p");
    assert_eq!(world.close_reason_of(1), Some(CloseReason::ProtocolPanicked));
    let third = world.connect(2000, 3);
    world.turn();
    world.turn();
    turn_with_echo(&mut world, third);
    assert!(!world.reactor().deferred.is_empty());
    world.run_until_blocked();
    assert_eq!(world.stats().connects_failed, BURST as u64);
    stop_after_burst(world, &[streams[1], third], &log);
}

#[test]
fn stop_during_a_burst_ends_each_of_its_connects() {
    let (mut world, streams, log) = burst_world();
    turn_with(&mut world, streams[0], b"!");
    let ends = std::iter::repeat_n(Some(CloseReason::Finished), BURST);
    world.ledger.borrow_mut().close_reasons.extend(ends);
    world.kernel().is_stopping = true;
    world.stop();
    assert_eq!(log.borrow().closed, BURST);
}

// pitfall: 145
#[test]
fn large_broadcast_is_copied_over_turns_and_arrives_whole() {
    const RECIPIENTS: u16 = 30;
    const BYTES: usize = 1024 * 1024;
    let (mut world, streams, log) = group(
        RECIPIENTS,
        |byte, members, cx| {
            match byte {
                b"!" => {
                    cx.connections().send_to_all(members[1..].iter().copied(), &[b'x'; BYTES]);
                    cx.connections().send_to_all(members[1..].iter().copied(), b"end");
                }
                _ => cx.send(byte),
            }
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[0], b"!");
    let begun_max = TURN_BYTES_MAX / BYTES + 1;
    let mut turns = 0;
    loop {
        world.turn();
        turns += 1;
        let begun = world.reactor().slots.iter().filter(|(_, slot)| {
            matches!(&slot.source, Source::Connection(connection) if connection.wants_write())
        });
        assert!(begun.count() <= turns * begun_max, "in turn {turns}");
        if world.reactor().deferred.is_empty() {
            break;
        }
    }
    assert!(turns > 3, "{turns}");
    for &stream in &streams[1..] {
        let mut received = Vec::new();
        while received.len() < BYTES + 3 {
            received.extend(world.peer_receives_all(stream));
            world.run_until_blocked();
        }
        assert!(received.ends_with(b"xend") && received.len() == BYTES + 3);
    }
    assert_eq!(log.borrow().notifications.len(), 2 * usize::from(RECIPIENTS - 1));
    reset_and_stop(world, &streams);
}

/// What the owner asks for between two turns is spread, too. A direct send comes after it.
#[test]
fn bursts_of_the_owner_are_spread_and_stay_in_order() {
    let (mut world, streams) = echo_world_with(2);
    let ids = connection_ids(world.reactor());
    let most = std::iter::repeat_n(ids[0], 2 * EFFECTS_PER_TURN);
    world.reactor().connections().send_to_all(most, b"1");
    world.turn();
    assert!(!world.reactor().deferred.is_empty());
    world.reactor().connections().send_to(ids[0], b"2");
    turn_with_echo(&mut world, streams[1]);
    assert!(!world.peer_receives_all(streams[0]).contains(&b'2'), "it waits for its turn");
    assert_eq!(world.reactor().send_to(ids[0], b"3"), Ok(SendStatus::Accepted));
    assert!(world.reactor().deferred.is_empty());
    world.run_until_blocked();
    assert!(world.peer_receives_all(streams[0]).ends_with(b"123"));
    streams.iter().for_each(|&stream| world.kernel().peer_closes(stream));
    world.run_until_blocked();
    world.stop();
}

/// More than may be deferred is applied at once, and nothing is lost.
#[test]
fn effects_beyond_the_bound_are_applied_at_once() {
    let (mut world, streams, log) = group(
        3,
        |byte, members, cx| {
            match byte {
                b"!" => {
                    let most = std::iter::repeat_n(members[0], EFFECTS_MAX * 3 / 4);
                    cx.connections().send_to_all(most, b"");
                    cx.connections().send_to(members[0], byte);
                }
                _ => cx.send(byte),
            }
            Next::Continue
        },
        unchanged,
    );
    streams[1..].iter().for_each(|&stream| world.peer_sends(stream, b"!"));
    world.turn();
    world.turn();
    let deferred: usize = world.reactor().deferred.iter().map(|other| other.queued.len()).sum();
    assert!(deferred <= EFFECTS_MAX, "{deferred}");
    world.run_until_blocked();
    assert_eq!(world.peer_receives_all(streams[0]), b"!!");
    assert_eq!((world.stats().panics, log.borrow().notifications.len()), (0, 0));
    reset_and_stop(world, &streams);
}

// pitfall: 145
#[test]
fn effects_on_thousands_delay_no_other_connection() {
    for request in [b"s", b"c", b"a", b"w"] {
        let (mut world, streams, log) = group(
            2000,
            |byte, members, cx| {
                for &member in &members[2..] {
                    match byte {
                        b"s" => cx.connections().send_to(member, byte),
                        b"c" => cx.connections().close(member),
                        b"a" => cx.connections().abort(member),
                        b"w" => cx.connections().shutdown_write(member),
                        _ => {
                            return {
                                cx.send(byte);
                                Next::Continue
                            };
                        }
                    }
                }
                Next::Continue
            },
            unchanged,
        );
        world.peer_sends(streams[1], request);
        world.turn();
        for _ in 0..20 {
            world.peer_sends(streams[0], b"y");
            let mut turns = 0;
            while world.peer_receives_all(streams[0]).is_empty() {
                world.turn();
                turns += 1;
                assert!(turns <= 3, "{request:?}: others are served within a few turns");
            }
        }
        world.run_until_blocked();
        assert!(world.reactor().deferred.is_empty(), "all is done by then");
        assert_eq!(log.borrow().notifications, []);
        reset_and_stop(world, &streams);
    }
}

#[test]
fn output_that_waits_counts_towards_the_turn() {
    const REPLY_BYTES: usize = 3 << 20;
    let (mut world, streams, _) = group(
        20,
        |_, _, cx| {
            cx.send(&vec![b'x'; REPLY_BYTES]);
            Next::Continue
        },
        unchanged,
    );
    streams.iter().for_each(|&stream| world.peer_sends(stream, b"!"));
    world.take_calls();
    world.turn();
    let replies = world.take_calls().iter().filter(|&&call| call == "send").count();
    assert!((1..=TURN_BYTES_MAX / REPLY_BYTES + 1).contains(&replies), "{replies} in one turn");
    world.run_until_blocked();
    reset_and_stop(world, &streams);
}

/// What one turn frees, at most.
const FREED_PER_TURN: u64 = (TURN_BYTES_MAX / CONNECTION_COST_BYTES) as u64;

// pitfall: 146
#[test]
fn connections_that_end_together_are_freed_over_turns() {
    // Each has a timer, so a stop waits for it, and ends all of them at the drain timeout.
    let count = u16::try_from(FREED_PER_TURN).unwrap() * 3;
    let (mut world, streams, _) = group(
        count,
        |_, _, cx| {
            cx.set_timer(Duration::from_secs(600));
            Next::Continue
        },
        unchanged,
    );
    streams.iter().for_each(|&stream| world.peer_sends(stream, b"!"));
    world.run_until_blocked();
    world.kernel().signal_stop();
    let mut turns = 0;
    while !world.reactor().is_stopped() {
        let before = world.stats().closed;
        world.reactor().turn(None).unwrap();
        let more = world.stats().closed - before;
        assert!(more <= FREED_PER_TURN, "{more} in one turn");
        turns += u32::from(more > 0);
    }
    assert!(turns >= 3, "{turns}");
    assert_eq!(world.reactor().run().unwrap(), Stopped::Forced(usize::from(count)));
    world.stop();
}

// pitfall: 146
#[test]
fn connections_that_monitor_each_other_may_all_end_together() {
    const COUNT: u16 = 120;
    for survivors in [0, 20] {
        let (mut world, streams, log) = group(
            COUNT,
            |_, members, cx| {
                members.iter().for_each(|&member| cx.monitor(member));
                Next::Continue
            },
            unchanged,
        );
        streams.iter().for_each(|&stream| world.peer_sends(stream, b"m"));
        world.run_until_blocked();
        for &stream in &streams[survivors..] {
            world.kernel().fail(stream, errno::ECONNRESET);
        }
        world.turn();
        let pending = world.reactor().effects.pending_notifications();
        assert!(pending > 0, "not all in the turn in which they end");
        world.run_until_blocked();
        let notified = survivors * (usize::from(COUNT) - survivors);
        assert_eq!(log.borrow().notifications.len(), notified, "each survivor of each end");
        reset_and_stop(world, &streams[..survivors]);
    }
}

/// Sends a reply, asks for more than a turn has time for, and closes.
struct AsksAndCloses;

impl Protocol for AsksAndCloses {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let own = cx.id();
        cx.send(b"bye");
        cx.connections().send_to_all(std::iter::repeat_n(own, 60_000), b"");
        Advance::consumed(input.len()).then(Next::Close)
    }
}

// pitfall: 270
#[test]
fn last_reply_of_a_held_connection_does_not_wait_for_its_effects() {
    // A held connection is not driven until all its effects are applied. The reply must not be kept
    // back for that.
    let mut world = World::without_faults();
    world.serve(2000, |_| AsksAndCloses);
    let stream = world.connect(2000, 1);
    world.run_until_blocked();
    world.peer_sends(stream, b"?");
    world.turn();
    assert!(!world.reactor().deferred.is_empty(), "a turn is not enough for its effects");
    assert_eq!(world.peer_receives_all(stream), b"bye");
    world.run_until_blocked();
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}
