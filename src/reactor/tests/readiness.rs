//! Edge-triggered readiness: no byte is left behind an edge, and no event is trusted.

use super::protocols::{BulkServer, text_of};
use super::*;
use crate::echo::Echo;
use crate::limits::{HIGH_WATERMARK_BYTES, READ_BYTES_MAX};
use crate::testing::simulated::errno;
use crate::testing::simulated::stream::{ERROR, HANG_UP, IN, OUT};

const ECHO: u16 = 2000;
const DATAGRAMS: u16 = 2001;

#[test]
fn all_who_stand_behind_one_edge_are_served() {
    let mut world = echo_world();
    let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
    let streams: Vec<usize> = (1..=20).map(|number| world.connect(ECHO, number)).collect();
    let peer = bound_peer(&world, 99);
    for (number, &stream) in streams.iter().enumerate() {
        world.peer_sends(stream, b"Anybody there?");
        world.kernel().peer_sends_datagram(peer, datagrams, text_of(1, number, number));
    }
    world.turn();
    world.turn(); // who has come in one turn is heard in the next
    for &stream in &streams {
        assert_eq!(world.peer_receives_all(stream), b"Anybody there?");
        world.kernel().peer_closes(stream);
    }
    for number in 0..20 {
        assert_eq!(world.kernel().peer_receives_datagram(peer), Some(text_of(1, number, number)));
    }
    world.run_until_blocked();
    world.stop();
}

#[test]
fn a_fin_merged_into_the_edge_of_the_last_bytes_ends_the_connection() {
    let (mut world, streams) = echo_world_with(1);
    world.peer_sends(streams[0], b"Bye.");
    world.kernel().peer_shuts_down(streams[0]);
    world.turn();
    assert_eq!(world.peer_receives_all(streams[0]), b"Bye.");
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::Finished));
    assert_eq!(world.peer_receives_end(streams[0]), PeerReceived::Fin);
    world.stop();
}

#[test]
fn what_lies_behind_an_urgent_mark_is_read_without_another_edge() {
    let (mut world, streams) = echo_world_with(1);
    world.peer_sends(streams[0], b"before ");
    world.kernel().peer_sends_urgent_mark(streams[0]);
    world.peer_sends(streams[0], b"behind");
    world.turn();
    assert_eq!(world.peer_receives_all(streams[0]), b"before behind");
    world.kernel().peer_closes(streams[0]);
    world.run_until_blocked();
    world.stop();
}

/// Some kernels tell of an error, or of both ends being closed, and of nothing else.
#[test]
fn an_event_of_an_error_or_a_hang_up_alone_ends_the_connection() {
    for bits in [ERROR, HANG_UP, ERROR | HANG_UP, ERROR | OUT] {
        let (mut world, streams) = echo_world_with(1);
        let descriptor = descriptor_of(&world, streams[0]);
        world.kernel().streams[streams[0]].fail(errno::ECONNRESET);
        world.kernel().queue_spurious_event(descriptor, bits);
        assert_eq!(world.run_until_blocked(), 1, "{bits:#x}");
        assert_eq!(world.close_reason_of(1), Some(CloseReason::PeerReset), "{bits:#x}");
        world.stop();
    }
}

#[test]
fn an_event_for_nothing_costs_one_call_and_ends_nothing() {
    let (mut world, streams) = echo_world_with(1);
    world.serve_datagrams(DATAGRAMS, Echo::new());
    world.run_until_blocked();
    world.take_calls();
    let (stream, descriptors) = (streams[0], world.kernel().descriptors_open());
    for number in 2..descriptors {
        world.kernel().queue_spurious_event(number, IN);
    }
    world.turn();
    let mut calls = world.take_calls();
    calls.sort_unstable();
    assert!(matches!(calls[..], ["accept", "poll", "recv", "recv_from" | "recvmmsg"]), "{calls:?}");
    world.peer_sends(stream, b"Still there?");
    world.turn();
    assert_eq!(world.peer_receives_all(stream), b"Still there?");
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}

#[test]
fn what_came_during_a_pause_is_heard_after_it_without_another_edge() {
    let mut world = World::without_faults();
    world.serve(3000, |peer| BulkServer::new(peer.port(), 1000));
    let stream = world.connect(3000, 7);
    world.peer_sends(stream, &BulkServer::request(100, 5));
    world.run_until_blocked();
    world.peer_sends(stream, &BulkServer::request(0, 5));
    world.run_for(99);
    assert_eq!(
        world.peer_receives_all(stream),
        b"",
        "it still thinks, and the edge of the second order has been told"
    );
    world.run_for(1);
    assert_eq!(world.peer_receives_all(stream), text_of(7, 0, 10));
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}

#[test]
fn a_reader_that_makes_room_bit_by_bit_gets_every_byte() {
    let mut world = echo_world();
    let stream = world.kernel().peer_connects(peer(1), server(ECHO), 1000).unwrap();
    let bytes = text_of(1, 0, 400_000);
    world.peer_sends(stream, &bytes);
    world.run_until_blocked();
    let left = world.kernel().streams[stream].arrived.len();
    assert!(
        left >= bytes.len() - HIGH_WATERMARK_BYTES - 2 * READ_BYTES_MAX,
        "who does not read is not read: {left} bytes left"
    );
    let mut received = Vec::new();
    while received.len() < bytes.len() {
        let more = world.kernel().peer_receives(stream, 900);
        let PeerReceived::Bytes(more) = more else {
            panic!("{more:?} after {} bytes", received.len())
        };
        received.extend(more);
        world.run_until_blocked();
    }
    assert!(received == bytes);
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}
