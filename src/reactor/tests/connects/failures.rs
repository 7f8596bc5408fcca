//! Connects that fail, one cause at a time: both protocols get the same reason, once.

use super::*;

/// Connects, lets `live_ms` pass, and checks that the connect has failed for the reason `kind`: the
/// protocol is closed with it, and the originator notified of it, each once.
fn check_failed(mut fixture: ConnectFixture, live_ms: u64, kind: ErrorKind) {
    fixture.connect(b'x');
    fixture.world.run_for(live_ms);
    assert_eq!(fixture.close_reason(), Some(CloseReason::ConnectFailed(kind)));
    assert_eq!(fixture.notifications(), [Notification::ConnectFailed(kind)]);
    assert_eq!(fixture.observed.borrow().opened, 0);
    let id = fixture.observed.borrow().last_id.unwrap();
    assert_eq!(fixture.world.reactor().send_to(id, b"x"), Err(SendError::Closed));
    assert_eq!((fixture.world.stats().connected, fixture.world.stats().connects_failed), (0, 1));
    fixture.end();
}

// pitfall: 72
#[test]
fn refused_connect_is_reported_with_its_reason() {
    let refuses = Host::Fails { after_us: 30_000, error: errno::ECONNREFUSED };
    check_failed(ConnectFixture::with_host(refuses, no_action), 31, ErrorKind::ConnectionRefused);
    check_failed(
        ConnectFixture::with_host(refuses, |_, id, cx| cx.connections().send_to(id, b"lost")),
        31,
        ErrorKind::ConnectionRefused,
    );
    check_failed(
        ConnectFixture::new(Limits::default(), Faults::default(), None, no_action),
        1,
        ErrorKind::ConnectionRefused,
    );
}

#[test]
fn connect_fails_alike_whether_the_error_comes_at_once_or_later() {
    for host in [
        Host::Fails { after_us: 3_000_000, error: errno::EHOSTUNREACH },
        Host::Unreachable { error: errno::EHOSTUNREACH },
    ] {
        check_failed(ConnectFixture::with_host(host, no_action), 3001, ErrorKind::HostUnreachable);
    }
}

#[test]
fn connect_times_out_when_the_host_does_not_answer() {
    let limits = Limits::default().with_connect_timeout(Duration::from_millis(700));
    let mut fixture =
        ConnectFixture::new(limits.clone(), Faults::default(), Some(Host::Silent), |_, id, cx| {
            cx.connections().send_to(id, b"lost");
        });
    fixture.connect(b'x');
    let turns = fixture.world.run_for(699);
    assert_eq!((fixture.close_reason(), turns), (None, 1), "the loop only sleeps");
    fixture.world.run_for(2);
    assert_eq!(fixture.close_reason(), Some(CloseReason::ConnectFailed(ErrorKind::TimedOut)));
    fixture.end();
    check_failed(
        ConnectFixture::new(limits, Faults::default(), Some(Host::Silent), no_action),
        702,
        ErrorKind::TimedOut,
    );
}

#[test]
fn late_loop_notices_a_connect_that_completed_before_its_timeout() {
    let limits = Limits::default().with_connect_timeout(Duration::from_millis(700));
    let mut fixture = ConnectFixture::new(limits, Faults::default(), Some(ACCEPTS), no_action);
    fixture.connect(b'x');
    fixture.world.deschedule(1000);
    fixture.world.run_until_blocked();
    assert_eq!(
        (fixture.notifications(), fixture.close_reason()),
        (vec![Notification::Connected], None)
    );
    fixture.end();
}

#[test]
fn connect_without_a_free_descriptor_fails_and_leaves_nothing_open() {
    // The poll, the stop signal, the listener and the accepted connection have theirs. No other is
    // left.
    let faults = Faults { descriptors_max: 5, ..Faults::default() };
    let mut fixture = ConnectFixture::new(Limits::default(), faults, Some(ACCEPTS), no_action);
    let open = fixture.world.kernel().descriptors_open();
    fixture.world.kernel().faults.descriptors_max = open;
    fixture.connect(b'x');
    let Some(CloseReason::ConnectFailed(kind)) = fixture.close_reason() else {
        panic!("{:?}", fixture.close_reason())
    };
    assert_eq!(fixture.notifications(), [Notification::ConnectFailed(kind)]);
    assert_eq!(fixture.world.kernel().descriptors_open(), open);
    fixture.end();
}

#[test]
fn connect_that_cannot_be_registered_fails_and_leaves_nothing_open() {
    let mut fixture = ConnectFixture::with_host(ACCEPTS, no_action);
    fixture.world.kernel().faults.failed_registrations = 1000;
    let open = fixture.world.kernel().descriptors_open();
    fixture.connect(b'x');
    let Some(CloseReason::ConnectFailed(kind)) = fixture.close_reason() else {
        panic!("{:?}", fixture.close_reason())
    };
    assert_eq!(
        (fixture.notifications(), fixture.world.kernel().descriptors_open()),
        (vec![Notification::ConnectFailed(kind)], open)
    );
    fixture.end();
}

#[test]
fn connect_fails_when_connections_max_is_reached() {
    let limits = Limits::default().with_connections_max(1);
    check_failed(
        ConnectFixture::new(limits, Faults::default(), Some(ACCEPTS), no_action),
        30,
        ErrorKind::QuotaExceeded,
    );
}

/// The reason is the first notification, however early the connect fails. A protocol that stops at
/// `Closed` would otherwise never get it.
#[test]
fn connect_failed_is_notified_before_closed() {
    let full = Limits::default().with_connections_max(1);
    for (limits, kind) in
        [(full, ErrorKind::QuotaExceeded), (Limits::default(), ErrorKind::ConnectionRefused)]
    {
        let refuses = Some(Host::Fails { after_us: 20_000, error: errno::ECONNREFUSED });
        let mut fixture = ConnectFixture::new(limits, Faults::default(), refuses, |_, id, cx| {
            cx.monitor(id);
            cx.connections().send_to(id, b"hello");
        });
        fixture.connect(b'x');
        fixture.world.run_for(100);
        let notifications = fixture.notifications();
        assert_eq!(notifications[0], Notification::ConnectFailed(kind));
        let mut rest = notifications[1..].iter();
        assert!(
            rest.len() > 0 && rest.all(|&other| other == Notification::Closed),
            "{notifications:?}"
        );
        fixture.end();
    }
}

#[test]
fn abort_cancels_a_connect_in_progress() {
    let mut fixture = ConnectFixture::with_host(Host::Silent, |byte, id, cx| {
        cx.connections().send_to(id, b"hello");
        if byte == b'a' {
            cx.connections().abort(id);
        }
    });
    fixture.connect(b'a');
    assert_eq!(
        (fixture.close_reason(), fixture.notifications()),
        (Some(CloseReason::Aborted), vec![Notification::Closed])
    );
    fixture.end();
}

#[test]
fn id_of_a_failed_connect_does_not_reach_the_next_one_in_its_slot() {
    let mut fixture =
        ConnectFixture::with_host(Host::Unreachable { error: errno::ENETUNREACH }, no_action);
    fixture.connect(b'x');
    let first = fixture.observed.borrow().last_id.unwrap();
    fixture.world.kernel().hosts.insert(host(), ACCEPTS);
    fixture.connect(b'x');
    let second = fixture.observed.borrow().last_id.unwrap();
    fixture.world.run_for(20);
    assert_eq!(first.slot, second.slot, "the second reuses the slot of the first");
    assert_eq!(fixture.world.reactor().send_to(first, b"for the first"), Err(SendError::Closed));
    assert_eq!(fixture.world.reactor().send_to(second, b"!"), Ok(SendStatus::Accepted));
    fixture.world.run_until_blocked();
    let stream = fixture.outbound_stream();
    assert_eq!(fixture.world.peer_receives_all(stream), b"hello!");
    fixture.end();
}
