//! Outgoing connections on the simulated kernel, one event at a time.
//!
//! A peer connects to us and sends a byte. The protocol of its connection then connects to
//! `host()`, and calls the action of the test with the new connection.

mod failures; // connects that fail

use std::io::ErrorKind;

use super::environment::StopSender;
use super::group::{group, unchanged};
use super::protocols::text_of;
use super::*;
use crate::protocol::notification::Notification;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Host;

const FRONT: u16 = 5000;

/// What the protocols of a test have been called with.
#[derive(Default)]
struct Observations {
    /// What `Connector` was notified of.
    notifications: Vec<Notification>,
    /// Calls of `Greeter::opened`.
    opened: u64,
    /// What `Greeter` received.
    received: Vec<u8>,
    /// The connection that was begun last.
    last_id: Option<ConnectionId>,
}

type SharedObservations = Rc<RefCell<Observations>>;

/// What a test does with a new connection, given the byte for which it was begun.
type ConnectAction = fn(u8, ConnectionId, &mut Context<'_>);

/// Connects to `host()` for each byte that its peer sends, and calls the action with the new
/// connection.
struct Connector {
    observed: SharedObservations,
    ledger: Rc<RefCell<Ledger>>,
    action: ConnectAction,
}

impl Protocol for Connector {
    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let id = cx.connect(
            host(),
            Witnessed::new(Greeter { observed: self.observed.clone() }, host(), &self.ledger),
        );
        self.observed.borrow_mut().last_id = Some(id);
        (self.action)(input[0], id, cx);
        Advance::consumed(1)
    }

    fn notified(
        &mut self,
        about: ConnectionId,
        notification: Notification,
        _: &mut Context<'_>,
    ) -> Next {
        let mut observed = self.observed.borrow_mut();
        assert_eq!(Some(about), observed.last_id);
        observed.notifications.push(notification);
        Next::Unchanged
    }
}

/// The protocol of the new connection: sends "hello", and stores what it receives.
struct Greeter {
    observed: SharedObservations,
}

impl Protocol for Greeter {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.observed.borrow_mut().opened += 1;
        cx.send(b"hello");
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
        self.observed.borrow_mut().received.extend_from_slice(input);
        Advance::consumed(input.len())
    }
}

/// The address that is connected to.
fn host() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], 80))
}

/// A host that accepts the connection after 20 ms.
const ACCEPTS: Host = Host::Accepts { after_us: 20_000, buffer_bytes: 1 << 20 };

/// A world with one peer, which is connected to a `Connector`.
struct ConnectFixture {
    world: World,
    peer: usize,
    observed: SharedObservations,
}

impl ConnectFixture {
    fn new(
        limits: Limits,
        faults: Faults,
        behaviour: Option<Host>,
        action: ConnectAction,
    ) -> ConnectFixture {
        let mut world = World::new(1, limits, faults);
        if let Some(behaviour) = behaviour {
            world.kernel().hosts.insert(host(), behaviour);
        }
        let observed = SharedObservations::default();
        let shared = observed.clone();
        let ledger = world.ledger.clone();
        world.serve(FRONT, move |_| Connector {
            observed: shared.clone(),
            ledger: ledger.clone(),
            action,
        });
        let peer = world.connect(FRONT, 1);
        world.run_until_blocked();
        ConnectFixture { world, peer, observed }
    }

    /// With no faults but those of the host itself.
    fn with_host(behaviour: Host, action: ConnectAction) -> ConnectFixture {
        ConnectFixture::new(Limits::default(), Faults::default(), Some(behaviour), action)
    }

    /// Has the peer send `byte`, for which `Connector` connects to the host.
    fn connect(&mut self, byte: u8) {
        self.world.peer_sends(self.peer, &[byte]);
        self.world.run_until_blocked();
    }

    /// The stream to the host.
    fn outbound_stream(&self) -> usize {
        self.world
            .kernel()
            .streams
            .iter()
            .position(|stream| stream.peer == host())
            .expect("a connect was begun")
    }

    /// Why the connection to the host has ended, if it has.
    fn close_reason(&self) -> Option<CloseReason> {
        self.world.ledger.borrow().close_reason_of(host())
    }

    fn notifications(&self) -> Vec<Notification> {
        self.observed.borrow().notifications.clone()
    }

    /// Resets all connections, and checks that nothing is left.
    fn end(mut self) {
        let streams = self.world.kernel().streams.len();
        for stream in 0..streams {
            let is_open = self.world.kernel().streams[stream].descriptor.is_some();
            if is_open {
                self.world.kernel().fail(stream, errno::ECONNRESET);
            }
        }
        self.world.run_until_blocked();
        self.world.stop();
    }
}

fn no_action(_: u8, _: ConnectionId, _: &mut Context<'_>) {}

// ---- connects that succeed

#[test]
fn successful_connect_opens_its_protocol_and_notifies_its_originator() {
    let mut fixture = ConnectFixture::with_host(ACCEPTS, no_action);
    fixture.connect(b'x');
    assert_eq!(
        (fixture.notifications(), fixture.observed.borrow().opened),
        (vec![], 0),
        "not connected yet"
    );
    fixture.world.run_for(20);
    assert_eq!(
        (fixture.notifications(), fixture.observed.borrow().opened),
        (vec![Notification::Connected], 1)
    );
    let stream = fixture.outbound_stream();
    assert_eq!(fixture.world.peer_receives_all(stream), b"hello");
    fixture.world.peer_sends(stream, b"and hello to you");
    fixture.world.run_until_blocked();
    assert_eq!(fixture.observed.borrow().received, b"and hello to you");
    fixture.world.kernel().peer_closes(stream);
    fixture.world.run_until_blocked();
    assert_eq!(fixture.close_reason(), Some(CloseReason::Finished));
    assert_eq!((fixture.world.stats().connected, fixture.world.stats().connects_failed), (1, 0));
    fixture.end();
}

#[test]
fn bytes_sent_before_the_connect_completes_wait_and_are_sent_first() {
    let mut fixture = ConnectFixture::with_host(ACCEPTS, |_, id, cx| {
        cx.connections().send_to(id, b"first, ");
        cx.connections().send_to(id, b"second, ");
    });
    fixture.connect(b'x');
    let id = fixture.observed.borrow().last_id.unwrap();
    assert_eq!(fixture.world.reactor().send_to(id, b"third, "), Ok(SendStatus::Accepted));
    fixture.world.run_for(20);
    let stream = fixture.outbound_stream();
    assert_eq!(fixture.world.peer_receives_all(stream), b"first, second, third, hello");
    fixture.end();
}

#[test]
fn watermarks_apply_while_the_connect_is_in_progress() {
    let mut fixture = ConnectFixture::with_host(ACCEPTS, |_, id, cx| {
        cx.connections().send_to(id, &text_of(1, 0, crate::limits::HIGH_WATERMARK_BYTES + 1));
        cx.connections().send_to(id, &vec![0; crate::limits::OUTPUT_BYTES_MAX]);
    });
    fixture.connect(b'x');
    assert_eq!(fixture.notifications(), [Notification::AboveHighWatermark, Notification::Rejected]);
    fixture.world.run_for(20);
    assert_eq!(
        fixture.notifications()[2..],
        [Notification::Connected, Notification::BelowLowWatermark]
    );
    fixture.end();
}

#[test]
fn close_during_a_connect_delivers_what_was_sent_before() {
    for (how, reason) in [(b'c', Some(CloseReason::Finished)), (b'f', None)] {
        let mut fixture = ConnectFixture::with_host(ACCEPTS, |how, id, cx| {
            cx.connections().send_to(id, b"only this, and ");
            if how == b'c' {
                cx.connections().close(id);
            } else {
                cx.connections().shutdown_write(id);
            }
            cx.connections().send_to(id, b"not this");
        });
        fixture.connect(how);
        assert_eq!(fixture.notifications(), [Notification::Closed], "for what was sent too late");
        fixture.world.run_for(20);
        assert_eq!(fixture.notifications()[1..], [Notification::Connected]);
        let stream = fixture.outbound_stream();
        assert_eq!(fixture.world.peer_receives_all(stream), b"only this, and hello");
        assert_eq!(fixture.world.kernel().peer_receives(stream, 1), PeerReceived::Fin);
        fixture.world.peer_sends(stream, b"a late answer");
        fixture.world.run_until_blocked();
        let received = fixture.observed.borrow().received.clone();
        assert_eq!(
            received,
            if how == b'f' { &b"a late answer"[..] } else { b"" },
            "only its write side is shut down"
        );
        fixture.world.run_for(3000);
        assert_eq!(fixture.close_reason(), reason);
        fixture.end();
    }
}

#[test]
fn spurious_event_does_not_complete_a_connect() {
    use crate::testing::simulated::stream::{IN, OUT};
    let mut fixture = ConnectFixture::with_host(ACCEPTS, no_action);
    fixture.connect(b'x');
    let stream = fixture.outbound_stream();
    let descriptor = fixture.world.kernel().streams[stream].descriptor.unwrap();
    for bits in [IN, OUT, IN | OUT] {
        fixture.world.kernel().queue_spurious_event(descriptor, bits);
        fixture.world.run_until_blocked();
        assert_eq!(
            (fixture.observed.borrow().opened, fixture.close_reason()),
            (0, None),
            "{bits:#x}"
        );
    }
    fixture.world.run_for(20);
    assert_eq!(fixture.observed.borrow().opened, 1);
    fixture.end();
}

/// The kernel reports in one batch that the connect is over and that the peer has sent something,
/// and the peer's connection is driven first.
// pitfall: 72
#[test]
fn send_between_the_connect_event_and_its_drive_only_buffers() {
    let fails = Host::Fails { after_us: 20_000, error: errno::ECONNREFUSED };
    for (behaviour, notification, why) in [
        (ACCEPTS, Notification::Connected, None),
        (
            fails,
            Notification::ConnectFailed(ErrorKind::ConnectionRefused),
            Some(CloseReason::ConnectFailed(ErrorKind::ConnectionRefused)),
        ),
    ] {
        let mut fixture = ConnectFixture::with_host(behaviour, |byte, id, cx| {
            if byte == b'x' {
                cx.connections().send_to(id, b"early");
            }
        });
        fixture.connect(b'x');
        let id = fixture.observed.borrow().last_id.unwrap();
        fixture.world.deschedule(25);
        // As `note` does.
        let token = fixture.world.reactor().effects.slot_of(id).unwrap();
        fixture.world.reactor().slots[token].ready.set_writable(true);
        assert_eq!(
            fixture.world.reactor().send_to(id, &text_of(1, 0, 100_000)),
            Ok(SendStatus::AboveHighWatermark)
        );
        let sends = fixture.world.take_calls().into_iter().filter(|&call| call == "send").count();
        assert_eq!(sends, 0, "the result of the connect has not been read yet");
        fixture.world.run_until_blocked();
        assert_eq!((fixture.notifications(), fixture.close_reason()), (vec![notification], why));
        fixture.end();
    }
}

// ---- connects during a stop

#[test]
fn stop_cancels_connects_without_output_and_waits_for_the_others() {
    for (behaviour, action, received, why) in [
        (Host::Silent, no_action as ConnectAction, None, CloseReason::Stopped),
        (
            ACCEPTS,
            |_, id, cx| cx.connections().send_to(id, b"bye, "),
            Some(b"bye, hello"),
            CloseReason::Finished,
        ),
    ] {
        let mut fixture = ConnectFixture::with_host(behaviour, action);
        fixture.connect(b'x');
        let stream = fixture.outbound_stream();
        fixture.world.kernel().signal_stop();
        fixture.world.run_for(150);
        match received {
            Some(bytes) => {
                assert_eq!(fixture.world.peer_receives_all(stream), bytes);
                assert_eq!(fixture.world.kernel().peer_receives(stream, 1), PeerReceived::Fin);
                fixture.world.kernel().peer_closes(stream);
                fixture.world.run_until_blocked();
            }
            None => {
                assert_eq!(fixture.world.kernel().streams[stream].descriptor, None, "it is closed");
            }
        }
        assert_eq!(fixture.close_reason(), Some(why));
        let peer = fixture.peer;
        fixture.world.kernel().peer_closes(peer);
        fixture.world.run_until_blocked();
        assert!(fixture.world.reactor().is_stopped());
        assert_eq!(fixture.world.reactor().run().unwrap(), Stopped::Graceful);
        fixture.world.stop();
    }
}

// ---- connects of the reactor itself

#[test]
fn reactor_connects_before_its_first_turn() {
    for (behaviour, kind) in [
        (ACCEPTS, None),
        (Host::Unreachable { error: errno::ENETUNREACH }, Some(ErrorKind::NetworkUnreachable)),
    ] {
        let mut world = World::without_faults();
        world.kernel().hosts.insert(host(), behaviour);
        let observed = SharedObservations::default();
        let ledger = world.ledger.clone();
        let protocol = Witnessed::new(Greeter { observed: observed.clone() }, host(), &ledger);
        let id = world.reactor().connect(host(), protocol);
        let result = if kind.is_some() { Err(SendError::Closed) } else { Ok(SendStatus::Accepted) };
        assert_eq!(world.reactor().send_to(id, b"early, "), result);
        world.run_for(21);
        assert_eq!(observed.borrow().opened, u64::from(kind.is_none()));
        assert_eq!(ledger.borrow().close_reason_of(host()), kind.map(CloseReason::ConnectFailed));
        if kind.is_none() {
            let stream =
                world.kernel().streams.iter().position(|stream| stream.peer == host()).unwrap();
            assert_eq!(world.peer_receives_all(stream), b"early, hello");
            world.kernel().peer_closes(stream);
            world.run_until_blocked();
        }
        world.stop();
    }
}

// pitfall: 104
#[test]
fn connect_timeout_counts_from_the_call_even_if_the_loop_begins_late() {
    let mut world = World::new(
        1,
        Limits::default().with_connect_timeout(Duration::from_secs(2)),
        Faults::default(),
    );
    world.kernel().hosts.insert(host(), Host::Silent);
    let ledger = world.ledger.clone();
    let greeter = Greeter { observed: SharedObservations::default() };
    world.reactor().connect(host(), Witnessed::new(greeter, host(), &ledger));
    world.deschedule(1800); // the program sets up other things
    world.kernel().add(StopSender, 300_000);
    world.reactor().run().unwrap();
    let timed_out = CloseReason::ConnectFailed(ErrorKind::TimedOut);
    assert_eq!(ledger.borrow().close_reason_of(host()), Some(timed_out), "before the stop");
    world.check_nothing_is_left();
}

/// 4000 connects cost milliseconds. They are charged like accepted connections, so the members
/// that ask for them share the turns.
#[test]
fn connects_of_one_turn_are_bounded() {
    let (mut world, streams, _) = group(
        8,
        |_, _, cx| {
            cx.connect(host(), Echo::new());
            Next::Continue
        },
        unchanged,
    );
    world.kernel().hosts.insert(host(), Host::Silent);
    streams.iter().for_each(|&stream| world.peer_sends(stream, &[b'c'; 500]));
    let before = world.stats().connections;
    world.turn();
    let begun = world.stats().connections - before;
    assert!(begun <= EXPIRIES_PER_TURN + 500, "{begun} in one turn");
    world.run_until_blocked();
    assert_eq!(world.stats().connections - before, 4000);
}
