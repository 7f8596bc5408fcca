//! Panics in a protocol: each ends its own connection, and effects requested before it are applied.

use super::group::*;
use super::*;
use crate::limits::EFFECTS_MAX;
use crate::protocol::notification::Notification;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Host;

#[test]
fn effects_requested_before_a_panic_are_applied() {
    let (mut world, streams, _) = group(
        3,
        |byte, members, cx| {
            cx.connections().send_to_all(members[..2].iter().copied(), b"sent before");
            assert_ne!(byte, b"!", "panics on purpose");
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[2], b"!");
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(3), Some(CloseReason::ProtocolPanicked));
    assert_eq!(
        [world.peer_receives_all(streams[0]), world.peer_receives_all(streams[1])],
        [b"sent before", b"sent before"]
    );
    reset_and_stop(world, &streams[..2]);
}

#[test]
fn panic_in_notified_costs_only_its_own_connection() {
    let (mut world, streams, log) = group(
        4,
        |byte, members, cx| {
            if byte == b"w" {
                cx.monitor(members[0]);
            }
            Next::Continue
        },
        |_, _, cx| {
            assert_ne!(cx.peer(), peer(3).into(), "panics on purpose");
            Next::Unchanged
        },
    );
    for &stream in &streams[1..] {
        world.peer_sends(stream, b"w");
    }
    world.run_until_blocked();
    world.kernel().fail(streams[0], errno::ECONNRESET);
    world.run_until_blocked();
    assert_eq!(
        log.borrow().notifications,
        [(1, 0, Notification::Closed), (2, 0, Notification::Closed), (3, 0, Notification::Closed)]
    );
    assert_eq!(
        [2, 3, 4].map(|number| world.close_reason_of(number)),
        [None, Some(CloseReason::ProtocolPanicked), None]
    );
    reset_and_stop(world, &[streams[1], streams[3]]);
}

#[test]
fn call_with_too_many_effects_costs_only_its_own_connection() {
    let (mut world, streams, log) = group(
        2,
        |byte, members, cx| {
            if byte == b"!" {
                cx.connections().send_to_all(std::iter::repeat_n(members[0], EFFECTS_MAX + 1), b"");
            }
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[1], b"!");
    world.run_until_blocked();
    assert_eq!(
        (world.close_reason_of(2), world.stats().panics),
        (Some(CloseReason::ProtocolPanicked), 1)
    );
    assert_eq!((world.close_reason_of(1), log.borrow().notifications.len()), (None, 0));
    reset_and_stop(world, &streams[..1]);
}

/// The call panics in `connect`, so the new id is never returned, and nothing may be left of it.
#[test]
fn connect_beyond_the_effect_limit_leaves_no_id_behind() {
    let (mut world, streams, _) = group(
        1,
        |_, members, cx| {
            cx.connections().send_to_all(std::iter::repeat_n(members[0], EFFECTS_MAX), b"");
            cx.connect(peer(9), crate::echo::Echo::new());
            Next::Continue
        },
        unchanged,
    );
    world.peer_sends(streams[0], b"!");
    world.run_until_blocked();
    assert_eq!(world.close_reason_of(1), Some(CloseReason::ProtocolPanicked));
    world.stop(); // checks that nothing is left
}

/// A message that panics when it is dropped.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("panics on purpose, in drop");
    }
}

// pitfall: 57
#[test]
fn message_that_waits_for_a_failed_connect_is_dropped_in_a_catch() {
    let mut world = World::without_faults();
    let fails = Host::Fails { after_us: 20_000, error: errno::ECONNREFUSED };
    world.kernel().hosts.insert(peer(9), fails);
    let id = world.reactor().connect(peer(9), crate::echo::Echo::new());
    for _ in 0..2 {
        world.reactor().send_message(id, PanicsInDrop).unwrap();
    }
    world.run_for(25);
    assert_eq!((world.stats().connects_failed, world.stats().panics), (1, 2));
}

// pitfall: 57
#[test]
fn messages_that_wait_when_the_reactor_is_dropped_are_dropped_in_a_catch() {
    let (mut world, _, log) = group(1, |_, _, _| Next::Continue, unchanged);
    let id = log.borrow().members[0];
    for _ in 0..2 {
        world.reactor().send_message(id, PanicsInDrop).unwrap();
    }
    drop(world.reactor.take()); // a panic that leaves it fails the test
}

/// What an application hands to HTTP panics where it is used, and again where it is dropped. A
/// second panic while the first unwinds would end the process.
#[cfg(feature = "http")]
// pitfall: 57, 133
#[test]
fn body_or_upload_that_panics_twice_costs_only_its_own_connection() {
    use crate::http::content_type::ContentType;
    use crate::http::context::HttpContext;
    use crate::http::request::Request;
    use crate::http::responder::{Responder, Upload};
    use crate::http::{protocol::Http, response::Response, status::Status};

    struct PanicsTwice;
    impl Drop for PanicsTwice {
        fn drop(&mut self) {
            panic!("panics on purpose, in drop");
        }
    }
    impl std::io::Read for PanicsTwice {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("panics on purpose, in read");
        }
    }
    impl Upload for PanicsTwice {
        fn take(&mut self, _: &[u8]) {
            panic!("panics on purpose, in take");
        }
        fn respond(self: Box<Self>, _: &mut HttpContext<'_, '_>) -> Response<'static> {
            unreachable!("it panics before")
        }
    }
    struct Site;
    impl Responder for Site {
        fn respond(&mut self, request: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
            match request.path() {
                b"/good" => Response::ok(ContentType::TEXT, &b"good"[..]),
                _ => Response::streamed(Status::OK, ContentType::TEXT, 5, PanicsTwice),
            }
        }
        fn receive(
            &mut self,
            _: &Request<'_>,
            _: &mut HttpContext<'_, '_>,
        ) -> Option<Box<dyn Upload>> {
            Some(Box::new(PanicsTwice))
        }
    }
    let mut world = World::without_faults();
    world.serve(2000, |_| Http::new(Site));
    let streams: Vec<usize> = (1..=3).map(|number| world.connect(2000, number)).collect();
    world.run_until_blocked();
    world.peer_sends(streams[0], b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    world.peer_sends(streams[1], b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    world.run_until_blocked();
    assert_eq!(world.stats().panics, 4, "each in its call, and in its drop");
    assert_eq!(world.stats().connections, 1);
    world.peer_sends(streams[2], b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n");
    world.run_until_blocked();
    assert!(world.peer_receives_all(streams[2]).ends_with(b"\r\n\r\ngood"));
    world.kernel().fail(streams[2], errno::ECONNRESET);
    world.run_until_blocked();
    world.stop();
}
