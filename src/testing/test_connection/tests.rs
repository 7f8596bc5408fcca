//! A protocol in a `TestConnection` is called as in a reactor.

use super::*;
use crate::echo::Echo;
#[cfg(feature = "http")]
use crate::http::{protocol::Http, site::Site};
use crate::limits::EFFECTS_BYTES_MAX;
use crate::protocol::context::Context;
use crate::protocol::effects::Command;
use crate::protocol::protocol::{Advance, Next};

#[cfg(feature = "http")]
#[test]
fn request_in_pieces_is_answered_and_the_connection_closes() {
    let mut http = TestConnection::new(Http::new(Site::new()));
    http.peer_sends(b"GET /plaintext HT");
    assert_eq!(http.take_received(), b"");
    http.peer_sends(b"TP/1.0\r\n\r\n");
    assert!(http.take_received().ends_with(b"\r\n\r\nHello, World!"));
    assert_eq!(http.close_reason(), Some(CloseReason::Finished));
}

#[cfg(feature = "http")]
#[test]
fn clock_moves_only_with_advance_clock() {
    let mut http = TestConnection::new(Http::new(Site::new()));
    http.peer_sends(b"GET /");
    http.advance_clock(Duration::from_millis(9_999));
    assert_eq!(http.take_received(), b"");
    http.advance_clock(Duration::from_millis(1));
    assert!(http.take_received().starts_with(b"HTTP/1.0 408 "));
    assert_eq!(http.close_reason(), None, "it lingers");
    http.peer_shuts_down();
    assert_eq!(http.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn effects_on_others_are_recorded_and_effects_on_itself_are_applied() {
    // Relays its input to another connection, and closes when the other one does.
    struct RelayTo(ConnectionId);
    impl Protocol for RelayTo {
        fn opened(&mut self, cx: &mut Context<'_>) -> Next {
            cx.monitor(self.0);
            Next::Continue
        }
        fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
            cx.connections().send_to(self.0, input);
            let own = cx.id();
            cx.connections().send_to(own, b"noted");
            Advance::consumed(input.len())
        }
        fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
            cx.connections().shutdown_write(self.0);
            Next::Pause
        }
        fn notified(
            &mut self,
            about: ConnectionId,
            notification: Notification,
            cx: &mut Context<'_>,
        ) -> Next {
            assert_eq!((about, notification), (self.0, Notification::Closed));
            let own = cx.id();
            cx.connections().shutdown_write(own);
            Next::Unchanged
        }
    }
    let mut ids = TestConnection::new(Echo::new());
    let (first, other) = (ids.other_connection(), ids.other_connection());
    assert_ne!(first, other);
    let mut relay = TestConnection::new(RelayTo(other));
    assert_eq!(relay.take_effects(), [RecordedEffect::Monitor(other)]);
    relay.peer_sends(b"ab");
    relay.peer_sends(b"c");
    assert_eq!(
        relay.take_effects(),
        [
            RecordedEffect::SendTo(other, b"ab".to_vec()),
            RecordedEffect::SendTo(other, b"c".to_vec())
        ]
    );
    assert_eq!(relay.take_received(), b"notednoted");
    relay.peer_shuts_down();
    assert_eq!(
        (relay.take_effects(), relay.close_reason()),
        (vec![RecordedEffect::Command(other, Command::ShutdownWrite)], None)
    );
    relay.notify(other, Notification::Closed);
    assert_eq!((relay.take_effects(), relay.close_reason()), (vec![], Some(CloseReason::Finished)));
}

/// A protocol of these functions.
struct Calls {
    advance: fn(&mut Context<'_>) -> Next,
    notified: fn(Notification, &mut Context<'_>) -> Next,
    timer_expired: fn(&mut Context<'_>) -> Next,
}

impl Default for Calls {
    fn default() -> Calls {
        Calls {
            advance: |_| Next::Continue,
            notified: |_, _| Next::Unchanged,
            timer_expired: |_| Next::Close,
        }
    }
}

impl Protocol for Calls {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        Advance::consumed(input.len()).then((self.advance)(cx))
    }

    fn notified(
        &mut self,
        _: ConnectionId,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Next {
        (self.notified)(notification, cx)
    }

    fn timer_expired(&mut self, cx: &mut Context<'_>) -> Next {
        (self.timer_expired)(cx)
    }
}

const OTHER: ConnectionId = ConnectionId { slot: 1, generation: 9 };

#[test]
fn connection_is_notified_of_a_send_to_itself_that_fails() {
    let mut connection = TestConnection::new(Calls {
        advance: |cx| {
            let own = cx.id();
            cx.connections().shutdown_write(own);
            cx.connections().send_to(own, b"late");
            Next::Continue
        },
        notified: |notification, _| {
            assert_eq!(notification, Notification::Closed);
            Next::Abort
        },
        ..Calls::default()
    });
    connection.peer_sends(b"x");
    assert_eq!(connection.close_reason(), Some(CloseReason::Aborted));
}

#[test]
fn all_effects_of_a_call_are_applied_before_a_notification() {
    let mut connection = TestConnection::new(Calls {
        advance: |cx| {
            cx.connections().send_to(OTHER, &vec![0; EFFECTS_BYTES_MAX + 1]);
            let own = cx.id();
            cx.connections().send_to(own, b"1");
            Next::Continue
        },
        notified: |notification, cx| {
            assert_eq!(notification, Notification::Rejected);
            cx.send(b"2");
            Next::Unchanged
        },
        ..Calls::default()
    });
    connection.peer_sends(b"x");
    assert_eq!(connection.take_received(), b"12");
}

#[test]
fn effects_on_itself_after_its_end_are_dropped() {
    let mut connection = TestConnection::new(Calls {
        advance: |cx| {
            cx.monitor(cx.id());
            let own = cx.id();
            cx.connections().send_to(own, b"1");
            cx.connections().pause(own);
            cx.connections().close(OTHER);
            Next::Abort
        },
        ..Calls::default()
    });
    connection.peer_sends(b"x");
    assert_eq!(connection.take_effects(), [RecordedEffect::Command(OTHER, Command::Close)]);
    assert_eq!(connection.close_reason(), Some(CloseReason::Aborted));
}

#[test]
fn close_without_linger_in_notified_ends_at_once() {
    // Nothing is unread, and no event has reported anything.
    let mut connection = TestConnection::new(Calls {
        notified: |_, _| Next::CloseWithoutLinger,
        ..Calls::default()
    });
    connection.notify(OTHER, Notification::Closed);
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn fin_behind_bytes_that_arrived_in_a_pause_is_found() {
    // No further event comes for it when the bytes are read.
    let mut connection = TestConnection::new(Calls {
        notified: |notification, _| {
            let is_above = notification == Notification::AboveHighWatermark;
            if is_above { Next::Pause } else { Next::Continue }
        },
        ..Calls::default()
    });
    connection.notify(OTHER, Notification::AboveHighWatermark);
    connection.peer_sends(b"x");
    connection.peer_shuts_down();
    assert_eq!(connection.close_reason(), None);
    connection.notify(OTHER, Notification::BelowLowWatermark);
    assert_eq!(connection.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn idle_timeout_begins_when_the_wait_for_another_connection_ends() {
    for end in [Notification::BelowLowWatermark, Notification::Closed] {
        let mut connection = TestConnection::new(Calls {
            notified: |notification, _| {
                let is_above = notification == Notification::AboveHighWatermark;
                if is_above { Next::Pause } else { Next::Unchanged }
            },
            ..Calls::default()
        });
        connection.peer_sends(b"x");
        connection.notify(OTHER, Notification::AboveHighWatermark);
        connection.advance_clock(Duration::from_secs(600));
        connection.notify(OTHER, end);
        connection.advance_clock(Duration::from_millis(59_999));
        assert_eq!(connection.close_reason(), None, "{end:?}");
        connection.advance_clock(Duration::from_millis(1));
        assert_eq!(connection.close_reason(), Some(CloseReason::IdleTimeout), "{end:?}");
    }
}

#[test]
fn timer_that_is_set_again_expires_at_each_of_its_times() {
    let tick = |cx: &mut Context<'_>| {
        cx.send(b".");
        cx.set_timer(Duration::from_secs(1));
        Next::Continue
    };
    let mut connection =
        TestConnection::new(Calls { advance: tick, timer_expired: tick, ..Calls::default() });
    connection.peer_sends(b"x");
    connection.advance_clock(Duration::from_millis(3_999));
    assert_eq!(connection.take_received(), b"....");
    connection.advance_clock(Duration::from_millis(1));
    assert_eq!(connection.take_received(), b".");
}

#[test]
fn limits_of_a_test_are_those_of_the_connection() {
    let limits = Limits::default().with_first_byte_timeout(Duration::from_millis(5));
    let mut echo = TestConnection::with_limits(Echo::new(), limits);
    echo.advance_clock(Duration::from_millis(4));
    assert_eq!(echo.close_reason(), None);
    echo.advance_clock(Duration::from_millis(1));
    assert_eq!(echo.close_reason(), Some(CloseReason::FirstByteTimeout));
}
