//! Accepting under overload: no descriptors, no memory, no free slot, or failing accepts.
//!
//! Connections that cannot be accepted stay in the backlog. A listener that has paused accepts them
//! once there is room, without a further edge.

use super::*;
use crate::echo::Echo;
use crate::protocol::datagram::{Datagram, Replies};
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Host;

const ECHO: u16 = 2000;
const HTTP: u16 = 8080;

#[test]
fn listener_without_descriptors_pauses_and_resumes() {
    for error in [errno::EMFILE, errno::ENFILE, errno::ENOBUFS, errno::ENOMEM] {
        let (mut world, streams) = echo_world_with(1);
        world.kernel().faults.accept_error = Some(error);
        let waiting = world.connect(ECHO, 2);
        world.peer_sends(waiting, b"waiting");
        let turns = world.run_for(1000);
        assert!(turns <= 20, "{turns} turns in a second: one retry takes 100 ms");
        assert!(
            (9..=11).contains(&world.stats().accept_pauses),
            "{} pauses",
            world.stats().accept_pauses
        );
        world.peer_sends(streams[0], b"accepted");
        world.turn();
        assert_eq!(world.peer_receives_all(streams[0]), b"accepted");
        world.kernel().faults.accept_error = None;
        world.run_for(101);
        assert_eq!(world.peer_receives_all(waiting), b"waiting", "accepted without a new edge");
        // It also resumes as soon as a connection closes.
        world.kernel().faults.accept_error = Some(error);
        let third = world.connect(ECHO, 3);
        world.run_until_blocked();
        world.kernel().faults.accept_error = None;
        world.kernel().peer_closes(streams[0]);
        world.run_until_blocked();
        assert_eq!(world.stats().accepted, 3);
        world.kernel().peer_closes(waiting);
        world.kernel().peer_closes(third);
        world.run_until_blocked();
        world.stop();
    }
}

// pitfall: 33
#[test]
fn accept_error_of_one_connection_does_not_stop_the_listener() {
    use errno::{
        ECONNABORTED, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENONET, ENOPROTOOPT,
        EOPNOTSUPP, EPERM, EPROTO, ETIMEDOUT,
    };
    const UNKNOWN_ERRNO: i32 = 4000;
    for error in [
        ECONNABORTED,
        EHOSTDOWN,
        EHOSTUNREACH,
        ENETDOWN,
        ENETUNREACH,
        ENONET,
        ENOPROTOOPT,
        EOPNOTSUPP,
        EPERM,
        EPROTO,
        ETIMEDOUT,
        UNKNOWN_ERRNO,
    ] {
        let mut world = echo_world();
        world.kernel().faults.accept_error = Some(error);
        let stream = world.connect(ECHO, 1);
        world.peer_sends(stream, b"hello");
        world.turn();
        assert_eq!(
            world.stats().accepts_failed,
            ACCEPTS_PER_TURN as u64,
            "errno {error}: each failure is counted, and accept is called again"
        );
        world.kernel().faults.accept_error = None;
        world.run_for(200);
        assert_eq!(world.peer_receives_all(stream), b"hello", "errno {error}");
        world.kernel().peer_closes(stream);
        world.run_until_blocked();
        world.stop();
    }
}

// pitfall: 33
#[test]
fn broken_listener_is_closed_and_others_keep_serving() {
    for error in [errno::EINVAL, errno::EBADF, errno::ENOTSOCK] {
        let mut world = echo_world();
        world.serve(HTTP, |_| Echo::new());
        world.kernel().faults.accept_error = Some(error);
        world.connect(ECHO, 1);
        world.run_until_blocked();
        world.kernel().faults.accept_error = None;
        assert!(
            world.kernel().peer_connects(peer(2), server(ECHO), 1000).is_none(),
            "errno {error}: the socket is closed"
        );
        let stream = world.connect(HTTP, 3);
        world.peer_sends(stream, b"hello");
        world.run_until_blocked();
        assert_eq!(world.peer_receives_all(stream), b"hello", "errno {error}");
        world.kernel().peer_closes(stream);
        world.run_until_blocked();
        world.stop();
    }
}

#[test]
fn full_server_accepts_from_the_backlog_as_slots_free() {
    let mut world = World::new(1, Limits::default().with_connections_max(2), Faults::default());
    world.serve(ECHO, |_| Echo::new());
    let streams: Vec<usize> = (1..=50).map(|number| world.connect(ECHO, number)).collect();
    for &stream in &streams {
        world.peer_sends(stream, b"hello");
        world.kernel().peer_shuts_down(stream);
    }
    let mut turns = 0;
    while world.stats().closed < 50 {
        world.turn();
        turns += 1;
        assert!(
            world.stats().connections <= 2 && turns < 100,
            "{} connections in turn {turns}",
            world.stats().connections
        );
    }
    for stream in streams {
        assert_eq!(world.peer_receives_all(stream), b"hello");
    }
    world.stop();
}

#[test]
fn failed_accepts_do_not_keep_out_the_next_connection() {
    let mut world = echo_world();
    world.kernel().faults.failed_accepts = 1000;
    for number in 1..=12 {
        world.connect(ECHO, number);
    }
    world.run_until_blocked();
    assert_eq!(world.stats().accepts_failed, 12);
    world.kernel().faults.failed_accepts = 0;
    let stream = world.connect(ECHO, 13);
    world.peer_sends(stream, b"hello");
    world.turn();
    world.turn();
    assert_eq!(world.peer_receives_all(stream), b"hello");
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}

// pitfall: 37
#[test]
fn connection_that_cannot_be_registered_is_closed_and_counted() {
    let mut world = echo_world();
    world.kernel().faults.failed_registrations = 1000;
    let descriptors = world.kernel().descriptors_open();
    let stream = world.connect(ECHO, 1);
    world.run_until_blocked();
    assert_eq!((world.stats().accepts_failed, world.stats().connections), (1, 0));
    assert!(matches!(world.close_reason_of(1), Some(CloseReason::Io(_))));
    assert_eq!(world.kernel().descriptors_open(), descriptors, "the descriptor was not closed");
    assert_eq!(world.peer_receives_end(stream), PeerReceived::Fin);
    world.stop();
}

/// The backlog of a firewalled listener: every handshake fails, and yet there is room.
#[cfg(feature = "http")]
// pitfall: 101
#[test]
fn failing_handshakes_evict_no_idle_connection() {
    use crate::http::{protocol::Http, site::Site};
    let mut world = World::without_faults();
    world.reactor().listen(server(HTTP), |_| Http::new(Site::new())).unwrap();
    let streams: Vec<usize> = (1..=20).map(|number| world.connect(HTTP, number)).collect();
    let request = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";
    streams.iter().for_each(|&stream| world.peer_sends(stream, request));
    world.run_until_blocked();
    world.run_for(1_000); // all are idle, and could be evicted
    world.kernel().faults.accept_error = Some(errno::ECONNABORTED);
    world.connect(HTTP, 21);
    world.run_for(300);
    assert_eq!((world.stats().connections, world.stats().evicted), (20, 0));
    world.kernel().faults.accept_error = None;
    world.run_for(1_000);
    assert_eq!(world.stats().connections, 21, "the listener goes on");
}

/// A datagram client that closes its socket after 50 ms.
struct ShortClient;

impl DatagramProtocol for ShortClient {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        replies.set_timer(Duration::from_millis(50));
    }

    fn received(&mut self, _: &Datagram<'_>, _: &mut Replies<'_>) {}

    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        replies.close();
    }
}

// pitfall: 168
#[test]
fn datagram_client_counts_towards_connections_max_and_makes_room() {
    let mut world = World::new(1, Limits::default().with_connections_max(2), Faults::default());
    world.serve(ECHO, |_| Echo::new());
    world.reactor().connect_datagram(peer(7), ShortClient).unwrap();
    let streams = [1, 2].map(|number| world.connect(ECHO, number));
    streams.iter().for_each(|&stream| world.peer_sends(stream, b"x"));
    world.run_until_blocked();
    assert_eq!((world.stats().accepted, world.stats().accept_pauses), (1, 1));
    world.run_for(60);
    assert_eq!(world.stats().accepted, 2, "its end has resumed the listener");
    for stream in streams {
        assert_eq!(world.peer_receives_all(stream), b"x");
        world.kernel().peer_closes(stream);
    }
    world.run_until_blocked();
    world.stop();
}

/// Opens another connection when it is accepted.
struct OpensAnother;

impl Protocol for OpensAnother {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.connect(peer(7), Echo::new());
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], _: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len())
    }
}

#[test]
fn listener_counts_what_the_protocols_it_has_just_made_open() {
    let mut world = World::new(1, Limits::default().with_connections_max(5), Faults::default());
    world.serve(ECHO, |_| OpensAnother);
    world.kernel().hosts.insert(peer(7), Host::Silent);
    for number in 1..=5 {
        world.connect(ECHO, number);
    }
    world.turn();
    assert_eq!((world.stats().accepted, world.stats().connections), (3, 5));
    assert_eq!(world.stats().connects_failed, 1, "the third was refused");
}
