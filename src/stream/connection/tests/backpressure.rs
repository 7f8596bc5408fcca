//! Backpressure at the watermarks, the budget of a turn, and the bounds on input and output.

use super::*;

// pitfall: 20
#[test]
fn peer_is_not_read_while_output_is_at_the_high_watermark() {
    // One byte below the watermark it is read. At the watermark it is not, whatever events report,
    // until one byte has been sent.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(HIGH_WATERMARK_BYTES, 65_536);
    assert_eq!(harness.drive([recv("65535\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.drive_readable([recv("1\n")]), Blocked);
    assert_eq!(harness.drive_readable([]), Blocked);
    assert_eq!(harness.drive_writable([send_takes(1), recv("0\n")]), Blocked);
    assert_eq!(harness.calls(), ["65535", "1", "0"]);
}

// pitfall: 8
#[test]
fn input_buffered_at_the_high_watermark_is_offered_before_more_is_read() {
    // The second line raises the output above the watermark, so the third stays in the buffer. When
    // it is offered, the output is above the watermark again: nothing is read, although the socket
    // may have more (the read was full).
    let mut harness = scripted(ScriptedProtocol::default());
    let lines = "40000\n40000\n50000\n9\n";
    harness.scratch = vec![0; lines.len()];
    assert_eq!(harness.drive([recv(lines), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.calls(), ["40000", "40000"]);
    assert_eq!(harness.drive_writable([send_takes(14_464)]), Blocked);
    assert_eq!(harness.calls().len(), 2, "the output is still at the watermark");
    assert_eq!(harness.drive_writable([send_takes(1)]), Blocked);
    assert_eq!(harness.calls(), ["40000", "40000", "50000"]);
    assert_eq!(
        harness.drive_writable([
            send_all(bytes(14_465, 115_535)),
            send_all(bytes(130_000, 9)),
            RECV_BLOCKS
        ]),
        Blocked
    );
    assert_eq!(harness.calls(), ["40000", "40000", "50000", "9"]);
}

// pitfall: 85
// rule: slow-reader
#[test]
fn many_small_replies_to_one_read_stop_at_the_high_watermark() {
    // 8,000 lines with 1,000 bytes of reply each: 66 replies reach the watermark. The kernel takes
    // them all, so the next 66 follow.
    let mut harness = scripted(ScriptedProtocol::default());
    let lines = "1000\n".repeat(8000);
    let batch = |number: usize| send_all(bytes(number * 66_000, 66_000));
    assert_eq!(
        harness.drive([recv(lines), batch(0), batch(1), batch(2), batch(3), batch(4)]),
        Unfinished
    );
    assert_eq!(harness.calls().len(), 5 * 66);
    assert_eq!(harness.drive([batch(5), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.connection().buffers.output().len(), 66_000);
}

// pitfall: 2
#[test]
fn one_turn_never_exceeds_a_sources_budget() {
    // The peer sends without end and takes every byte. The protocol echoes, or produces a long
    // reply, or has closed and lingers. Each drive moves one budget, give or take a read and its
    // reply, and its outcome is unfinished.
    let long = ScriptedProtocol::with_output_low(vec!["60000 pause"; 100]);
    let harnesses = [
        ("echo", Harness::new(ModelSocket::default(), Echo::new())),
        (
            "output_low",
            Harness::with_log(
                ModelSocket::default(),
                ScriptedProtocol { opened: "60000 pause", ..long },
            ),
        ),
        (
            "lingering",
            Harness::with_log(
                ModelSocket::default(),
                ScriptedProtocol { opened: "1 close", ..ScriptedProtocol::default() },
            ),
        ),
    ];
    for (name, mut harness) in harnesses {
        harness.transport.get_mut().arrived = 100 * READ_BYTES_MAX;
        harness.transport.get_mut().room = usize::MAX;
        assert_eq!(harness.open_once(), Unfinished, "{name}");
        for _ in 0..5 {
            let before = harness.transport.get_mut().read + harness.transport.get_mut().sent.len();
            assert_eq!(harness.drive_once(), Unfinished, "{name}");
            let moved =
                harness.transport.get_mut().read + harness.transport.get_mut().sent.len() - before;
            assert!((4 * READ_BYTES_MAX..=6 * READ_BYTES_MAX).contains(&moved), "{name}: {moved}");
        }
    }
}

#[test]
fn many_one_byte_steps_do_not_exceed_the_budget() {
    // `output_low` is called again and again, and sends one byte each time. A quarter of a million
    // such calls fit the budget in bytes; `STEP_COST_BYTES` for each step bounds them.
    let mut harness = Harness::with_log(
        ModelSocket::default(),
        ScriptedProtocol {
            opened: "1 pause",
            ..ScriptedProtocol::with_output_low(vec!["1 pause"; 2000])
        },
    );
    harness.transport.get_mut().room = usize::MAX;
    let calls_max = STREAM_BYTES_PER_TURN_MAX / STEP_COST_BYTES;
    assert_eq!(harness.open_once(), Unfinished);
    for _ in 0..5 {
        let before = harness.transport.get_mut().sent.len();
        assert_eq!(harness.drive_once(), Unfinished);
        let sent = harness.transport.get_mut().sent.len() - before;
        assert!((calls_max / 2..=calls_max).contains(&sent), "{sent}");
    }
}

#[test]
fn budget_spent_with_the_last_byte_leaves_nothing_unfinished() {
    // More than a budget waits and is taken by one send. Nothing is left to do, so the slot must
    // not be queued.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("300000\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.drive_writable([send_takes(300_000)]), Blocked);
}

#[test]
fn endless_message_ends_as_input_too_long() {
    // One byte less than the bound is kept. With one more, the message is too long.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv(vec![b'x'; INPUT_BYTES_MAX - 1])]), Blocked);
    assert_eq!(harness.drive_readable([recv("x")]), Ended(CloseReason::InputTooLong));
    // A line that just fits is consumed.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv(vec![b' '; INPUT_BYTES_MAX - 1])]), Blocked);
    assert_eq!(harness.drive_readable([recv("\n"), RECV_BLOCKS]), Blocked);
    assert_eq!(harness.calls().len(), 1);
}

#[test]
fn output_beyond_the_bound_ends_as_output_overflow() {
    // The bound is on the bytes that wait, not on those that the kernel takes at once.
    let check = |opened: &'static str, taken: Syscall| {
        let mut harness = scripted(ScriptedProtocol { opened, ..ScriptedProtocol::default() });
        harness.open([taken])
    };
    assert_eq!(OUTPUT_BYTES_MAX, 4_194_304);
    assert_eq!(check("4194304", SEND_BLOCKS), Blocked);
    assert_eq!(check("4194305", SEND_BLOCKS), Ended(CloseReason::OutputOverflow));
    assert_eq!(check("4194305", send_takes(1)), Blocked);
}
