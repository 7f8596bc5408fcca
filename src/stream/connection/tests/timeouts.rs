//! Timeouts: first byte, idle and write, and what restarts each of them.

use super::*;
use crate::limits::Limits;
use crate::loop_limits::LoopLimits;

#[test]
fn silent_peer_ends_after_the_first_byte_timeout() {
    // Output that the peer takes restarts this timeout, but does not end it. The peer's first byte
    // does: from then on the idle timeout applies.
    let mut harness = echo();
    assert_eq!(harness.drive([RECV_BLOCKS]), Blocked);
    harness.ends_at(30_000, CloseReason::FirstByteTimeout);
    let mut harness = scripted(ScriptedProtocol {
        opened: "5 timer:10000",
        timer_expired: "5",
        ..ScriptedProtocol::default()
    });
    assert_eq!(harness.open([send_takes(5), RECV_BLOCKS]), Blocked);
    assert_eq!(harness.expire_at(10_000, [send_takes(5)]), Blocked);
    harness.ends_at(40_000, CloseReason::FirstByteTimeout);
    let mut harness = echo();
    harness.at_ms(29_999);
    assert_eq!(harness.drive([recv("x"), send_all("x")]), Blocked);
    harness.ends_at(89_999, CloseReason::IdleTimeout);
}

// rule: timeouts
#[test]
fn idle_timeout_counts_from_the_last_byte_in_either_direction() {
    let mut harness = echo();
    harness.at_ms(10_000);
    assert_eq!(harness.drive([recv("x"), SEND_BLOCKS]), Blocked);
    harness.at_ms(20_000);
    assert_eq!(harness.drive_writable([send_all("x")]), Blocked);
    harness.ends_at(80_000, CloseReason::IdleTimeout);
}

// rule: slow-reader
#[test]
fn write_timeout_counts_from_the_last_byte_taken() {
    // Each byte that the kernel takes restarts the write timeout. A spurious event does not.
    let waiting = || {
        let mut harness = scripted(ScriptedProtocol::default());
        harness.at_ms(1000);
        assert_eq!(harness.drive([recv("9\n"), SEND_BLOCKS]), Blocked);
        harness
    };
    waiting().ends_at(31_000, CloseReason::WriteTimeout);
    let mut harness = waiting();
    harness.at_ms(30_000);
    assert_eq!(harness.drive_writable([send_takes(1)]), Blocked);
    harness.at_ms(40_000);
    assert_eq!(harness.drive_writable([SEND_BLOCKS]), Blocked);
    harness.ends_at(60_000, CloseReason::WriteTimeout);
}

#[test]
fn write_timeout_applies_to_the_last_reply_before_a_close() {
    for line in ["9 close\n", "9 close_without_linger\n"] {
        let mut harness = scripted(ScriptedProtocol::default());
        harness.at_ms(1000);
        assert_eq!(harness.drive([recv(line), SEND_BLOCKS]), Blocked);
        harness.ends_at(31_000, CloseReason::WriteTimeout);
    }
}

#[test]
fn write_timeout_is_not_extended_by_input_or_by_a_timer() {
    // The peer sends a byte every twenty seconds, and so is never idle. But its replies wait since
    // the first one.
    let mut harness = echo();
    assert_eq!(harness.drive([recv("x"), SEND_BLOCKS]), Blocked);
    harness.at_ms(20_000);
    assert_eq!(harness.drive_readable([recv("x")]), Blocked);
    harness.ends_at(30_000, CloseReason::WriteTimeout);
    // Nor is it extended by more output, from a timer.
    let mut harness = scripted(ScriptedProtocol {
        timer_expired: "1 timer:20000",
        ..ScriptedProtocol::default()
    });
    assert_eq!(harness.drive([recv("9 timer:20000\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.expire_at(20_000, []), Blocked);
    harness.ends_at(30_000, CloseReason::WriteTimeout);
}

#[test]
fn output_of_a_timer_restarts_the_timeout() {
    // A server that sends something every 40 seconds to a peer that only receives.
    let mut harness = scripted(ScriptedProtocol {
        opened: "timer:40000",
        timer_expired: "5 timer:40000",
        ..ScriptedProtocol::default()
    });
    assert_eq!(harness.open([RECV_BLOCKS]), Blocked);
    assert_eq!(harness.expire_at(40_000, [send_all(bytes(0, 5))]), Blocked);
    assert_eq!(harness.expire_at(60_000, []), Blocked, "the last byte moved 20 seconds ago");
    assert_eq!(harness.expire_at(80_000, [send_all(bytes(5, 5))]), Blocked);
}

#[test]
fn input_in_the_last_probe_does_not_extend_the_write_timeout() {
    // The write timeout is over. The last drive finds more input, but the socket takes no output.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("9\n"), SEND_BLOCKS]), Blocked);
    harness.at_ms(30_000);
    assert_eq!(
        harness.expire_at(30_000, [SEND_BLOCKS, recv("9\n")]),
        Ended(CloseReason::WriteTimeout)
    );
}

#[test]
fn write_timeout_begins_when_output_begins_to_wait() {
    // No byte moves for 40 seconds. Then a timer sends more than the kernel takes.
    for taken in [send_takes(2), SEND_BLOCKS] {
        let mut harness =
            scripted(ScriptedProtocol { timer_expired: "5", ..ScriptedProtocol::default() });
        assert_eq!(harness.drive([recv("timer:40000\n")]), Blocked);
        assert_eq!(harness.expire_at(40_000, [taken]), Blocked);
        harness.ends_at(70_000, CloseReason::WriteTimeout);
    }
    // Or the timer ends a pause, and buffered input is answered.
    for (taken, ends_at, why) in [
        (send_takes(2), 70_000, CloseReason::WriteTimeout),
        (SEND_BLOCKS, 70_000, CloseReason::WriteTimeout),
        (send_takes(5), 100_000, CloseReason::IdleTimeout),
    ] {
        let mut harness =
            scripted(ScriptedProtocol { timer_expired: "", ..ScriptedProtocol::default() });
        assert_eq!(harness.drive([recv("timer:40000 pause\n5\n")]), Blocked);
        assert_eq!(harness.expire_at(40_000, [taken]), Blocked);
        harness.ends_at(ends_at, why);
    }
}

/// Found by a simulated schedule: the filed deadline was in the past, and so due in every turn.
#[test]
fn write_timeout_may_be_longer_than_the_idle_timeout() {
    let mut harness = echo();
    let limits = Limits::default()
        .with_idle_timeout(Duration::from_secs(5))
        .with_write_timeout(Duration::from_secs(20));
    harness.state.loop_limits = LoopLimits::new(&limits);
    assert_eq!(harness.drive([recv("abc"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.expire_at(5_000, []), Blocked);
    let filed =
        harness.connection().filing_time(&harness.state.loop_limits, harness.state.clock.now);
    assert!(
        filed > harness.state.clock.now
            && filed <= harness.connection().deadline(&harness.state.loop_limits)
    );
    harness.ends_at(20_000, CloseReason::WriteTimeout);
}

// pitfall: 105
#[test]
fn first_byte_timeout_applies_again_after_a_pause() {
    // The protocol greets, and pauses until the greeting is sent.
    let mut harness = scripted(ScriptedProtocol {
        opened: "10 pause",
        ..ScriptedProtocol::with_output_low(vec!["0"])
    });
    let limits = Limits::default()
        .with_first_byte_timeout(Duration::from_secs(5))
        .with_idle_timeout(Duration::MAX);
    harness.state.loop_limits = LoopLimits::new(&limits);
    harness.open([send_all(bytes(0, 10)), RECV_BLOCKS]);
    harness.ends_at(5_000, CloseReason::FirstByteTimeout);
}
