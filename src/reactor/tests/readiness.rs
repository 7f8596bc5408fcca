//! Edge-triggered readiness: nothing is left behind an edge, and no event is taken at its word.
//!
//! epoll reports an edge once. So the loop reads or accepts until `WouldBlock`, or remembers that
//! there may be more. And an event may be spurious or merged, so only the calls themselves show
//! what is there.

use super::protocols::{BulkServer, text_of};
use super::*;
use crate::echo::Echo;
use crate::limits::{HIGH_WATERMARK_BYTES, READ_BYTES_MAX};
use crate::testing::simulated::errno;
use crate::testing::simulated::stream::{ERROR, HANG_UP, IN, OUT};

const ECHO: u16 = 2000;
const DATAGRAMS: u16 = 2001;

#[test]
fn all_connects_and_datagrams_behind_one_edge_are_served() {
    let mut world = echo_world();
    let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
    let streams: Vec<usize> = (1..=20).map(|number| world.connect(ECHO, number)).collect();
    let peer = bound_peer(&world, 99);
    for (number, &stream) in streams.iter().enumerate() {
        world.peer_sends(stream, b"hello");
        world.kernel().peer_sends_datagram(peer, datagrams, text_of(1, number, number));
    }
    world.turn();
    world.turn(); // a connection that was accepted in one turn is driven in the next
    for &stream in &streams {
        assert_eq!(world.peer_receives_all(stream), b"hello");
        world.kernel().peer_closes(stream);
    }
    for number in 0..20 {
        assert_eq!(world.kernel().peer_receives_datagram(peer), Some(text_of(1, number, number)));
    }
    world.run_until_blocked();
    world.stop();
}

#[test]
fn fin_merged_into_the_edge_of_the_last_bytes_ends_the_connection() {
    let (mut world, streams) = echo_world_with(1);
    world.peer_sends(streams[0], b"the end");
    world.kernel().peer_shuts_down(streams[0]);
    world.turn();
    assert_eq!(world.peer_receives_all(streams[0]), b"the end");
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::Finished));
    assert_eq!(world.peer_receives_end(streams[0]), PeerReceived::Fin);
    world.stop();
}

#[test]
fn bytes_behind_urgent_mark_are_read_without_another_edge() {
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

/// Some kernels report an error or a hang-up without readable or writable.
// pitfall: 6
#[test]
fn event_with_only_error_or_hang_up_ends_the_connection() {
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
fn spurious_event_costs_one_call_and_closes_nothing() {
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
    world.peer_sends(stream, b"again");
    world.turn();
    assert_eq!(world.peer_receives_all(stream), b"again");
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}

#[test]
fn input_received_while_paused_is_fed_after_it_without_another_edge() {
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
        "the protocol is paused, and the edge of the second request is over"
    );
    world.run_for(1);
    assert_eq!(world.peer_receives_all(stream), text_of(7, 0, 10));
    world.kernel().peer_closes(stream);
    world.run_until_blocked();
    world.stop();
}

#[test]
fn slow_reader_receives_every_byte_of_its_echo() {
    let mut world = echo_world();
    let stream = world.kernel().peer_connects(peer(1), server(ECHO), 1000).unwrap();
    let bytes = text_of(1, 0, 400_000);
    world.peer_sends(stream, &bytes);
    world.run_until_blocked();
    let left = world.kernel().streams[stream].arrived.len();
    assert!(
        left >= bytes.len() - HIGH_WATERMARK_BYTES - 2 * READ_BYTES_MAX,
        "a peer that does not read is not read: {left} bytes left"
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
