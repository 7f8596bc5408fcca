//! Timers: `set_timer`, `cancel_timer` and `timer_expired`.

use super::*;

#[test]
fn timer_expires_at_its_time_and_once() {
    // A second `set_timer` replaces the first.
    let mut harness =
        scripted(ScriptedProtocol { timer_expired: "3", ..ScriptedProtocol::default() });
    harness.at_ms(1000);
    assert_eq!(harness.drive([recv("timer:500\ntimer:700\n")]), Blocked);
    assert_eq!(harness.expire_at(1500, []), Blocked);
    assert_eq!(harness.expire_at(1699, []), Blocked);
    assert_eq!(harness.calls().len(), 2);
    assert_eq!(harness.expire_at(1700, [send_all(bytes(0, 3))]), Blocked);
    assert_eq!(harness.calls(), ["timer:500", "timer:700", "timer_expired"]);
    assert_eq!(harness.expire_at(20_000, []), Blocked);
    assert_eq!(harness.calls().len(), 3);
}

#[test]
fn cancelled_timer_does_not_expire() {
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("timer:500\ncancel_timer\n")]), Blocked);
    assert_eq!(harness.expire_at(500, []), Blocked);
    harness.ends_at(60_000, CloseReason::IdleTimeout);
}

#[test]
fn timer_can_be_set_again_when_it_expires() {
    let mut harness = scripted(ScriptedProtocol {
        opened: "timer:100",
        timer_expired: "1 timer:100",
        ..ScriptedProtocol::default()
    });
    assert_eq!(harness.open([RECV_BLOCKS]), Blocked);
    for ms in [100, 200, 300] {
        assert_eq!(harness.expire_at(ms - 1, []), Blocked);
        assert_eq!(harness.expire_at(ms, [send_takes(1)]), Blocked);
    }
}

// pitfall: 8
#[test]
fn timer_ends_a_pause_and_input_that_arrived_meanwhile_is_read() {
    // Nothing was sent, so `output_low` is not called: only the timer can end the pause.
    let mut harness =
        scripted(ScriptedProtocol { timer_expired: "", ..ScriptedProtocol::default() });
    assert_eq!(harness.drive([recv("timer:500 pause\n1\n")]), Blocked);
    assert_eq!(harness.drive_readable([]), Blocked);
    assert_eq!(harness.expire_at(500, [send_takes(1), recv("2\n"), send_takes(2)]), Blocked);
    assert_eq!(harness.calls(), ["timer:500 pause", "timer_expired", "1", "2"]);
}

#[test]
fn timer_that_prolongs_a_pause_keeps_the_pending_output_low_call() {
    // `timer_expired` sends nothing. The output from before the pause still waits, and `output_low`
    // is still due.
    let mut harness =
        scripted(ScriptedProtocol { timer_expired: "pause", ..ScriptedProtocol::default() });
    assert_eq!(harness.drive([recv("20000 timer:500 pause\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.expire_at(500, []), Blocked);
    assert_eq!(harness.drive_writable([send_takes(20_000)]), Blocked);
    assert_eq!(harness.calls(), ["20000 timer:500 pause", "timer_expired", "output_low"]);
}

// pitfall: 18
#[test]
fn output_of_a_timer_does_not_overtake_waiting_output() {
    // The timer expires in the turn in which the socket is writable again.
    let mut harness =
        scripted(ScriptedProtocol { timer_expired: "5", ..ScriptedProtocol::default() });
    assert_eq!(harness.drive([recv("9 timer:500\n"), send_takes(2)]), Blocked);
    harness.ready.set_writable(true);
    assert_eq!(harness.expire_at(500, [send_all(bytes(2, 12))]), Blocked);
}

#[test]
fn timer_may_close_the_connection() {
    // As the default of `timer_expired` does. The waiting reply is still sent whole, and the
    // connection lingers.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("9 timer:500\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.expire_at(500, []), Blocked);
    assert_eq!(harness.drive_writable([send_all(bytes(0, 9)), SHUTDOWN]), Blocked);
    assert_eq!(harness.drive_readable([FIN]), Ended(CloseReason::Finished));
}

// pitfall: 63
#[test]
fn timer_does_not_expire_after_close() {
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("9 timer:500 close\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.expire_at(500, []), Blocked);
    assert_eq!(harness.drive_writable([send_all(bytes(0, 9)), SHUTDOWN]), Blocked);
    harness.ends_at(2500, CloseReason::Finished);
    assert_eq!(harness.calls(), ["9 timer:500 close"]);
}

/// Found by a simulated schedule: the connection was resumed after its end and received the peer's
/// FIN twice.
#[test]
fn late_timer_does_not_expire_after_eof_or_close() {
    // The loop is late. It drives the connection before the timer expires, and finds the peer's
    // FIN, or a line that closes.
    for (last, last_call) in [(FIN, "eof "), (recv("9 close\n"), "9 close")] {
        let mut harness = scripted(ScriptedProtocol {
            eof: "9",
            timer_expired: "",
            ..ScriptedProtocol::default()
        });
        assert_eq!(harness.drive([recv("timer:500\n")]), Blocked);
        assert_eq!(harness.expire_at(600, [last, SEND_BLOCKS]), Blocked);
        assert_eq!(harness.calls(), ["timer:500", last_call]);
        assert!(!harness.connection().wants_read());
    }
}
