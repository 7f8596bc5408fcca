//! Paused connections: when `output_low` is called, and how a pause ends.

use super::*;

#[test]
fn output_low_is_called_when_output_falls_to_the_low_watermark() {
    // One byte above the low watermark is too early. The call is repeated as long as each call
    // sends something, and not after one that sends nothing. Nothing is read meanwhile, although
    // the socket may have more (the read was full).
    let mut harness =
        scripted(ScriptedProtocol::with_output_low(["1000 pause", "2000 pause", "pause", "abort"]));
    assert_eq!(LOW_WATERMARK_BYTES, 16_384);
    harness.scratch = vec![0; 12];
    assert_eq!(harness.drive([recv("20000 pause\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.drive_writable([send_takes(3615)]), Blocked);
    assert_eq!(harness.calls(), ["20000 pause"]);
    assert_eq!(harness.drive_writable([send_takes(1)]), Blocked);
    assert_eq!(harness.calls(), ["20000 pause", "output_low"]);
    let script = [send_all(bytes(3616, 17_384)), send_all(bytes(21_000, 2000))];
    assert_eq!(harness.drive_writable(script), Blocked);
    assert_eq!(harness.calls(), ["20000 pause", "output_low", "output_low", "output_low"]);
    assert_eq!(harness.drive_writable([]), Blocked);
    assert_eq!(harness.drive_readable([]), Blocked);
    assert_eq!(harness.calls().len(), 4);
}

#[test]
fn output_low_is_not_repeated_if_nothing_was_sent() {
    // The output is below the low watermark and still waits. The protocol may have nothing to add
    // until its timer expires. The loop must not spin meanwhile.
    let mut harness = scripted(ScriptedProtocol {
        timer_expired: "pause",
        ..ScriptedProtocol::with_output_low(["pause"; 9])
    });
    assert_eq!(harness.drive([recv("20000 timer:500 pause\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.drive_writable([send_takes(10_000)]), Blocked);
    assert_eq!(harness.calls(), ["20000 timer:500 pause", "output_low"]);
    assert_eq!(harness.expire_at(500, []), Blocked);
    assert_eq!(harness.drive_writable([send_takes(10_000)]), Blocked);
    assert_eq!(harness.calls(), ["20000 timer:500 pause", "output_low", "timer_expired"]);
}

#[test]
fn resume_offers_buffered_input_before_it_reads() {
    // The line after the pause is offered before anything is read, and no event is needed for it.
    let mut harness = scripted(ScriptedProtocol::with_output_low([""]));
    harness.scratch = vec![0; 10];
    assert_eq!(harness.drive([recv("5 pause\n6\n"), SEND_BLOCKS, RECV_BLOCKS]), Blocked);
    assert_eq!(
        harness.calls(),
        ["5 pause", "output_low", "6"],
        "5 bytes are below the low watermark from the start"
    );
    let mut harness = scripted(ScriptedProtocol::with_output_low([""]));
    harness.scratch = vec![0; 14];
    assert_eq!(harness.drive([recv("20000 pause\n6\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(
        harness.drive_writable([
            send_takes(20_000),
            send_all(bytes(20_000, 6)),
            recv("7\n"),
            send_takes(7)
        ]),
        Blocked
    );
    assert_eq!(harness.calls(), ["20000 pause", "output_low", "6", "7"]);
}

#[test]
fn long_reply_to_a_half_closed_peer_is_produced_to_its_end() {
    // `output_low` is called after the peer's FIN as before it. The connection ends when the
    // protocol has no more to send.
    for last in ["", "close", "close_without_linger"] {
        let mut harness = scripted(ScriptedProtocol {
            eof: "20000 pause",
            ..ScriptedProtocol::with_output_low(["20000 pause", last])
        });
        assert_eq!(harness.drive([FIN, SEND_BLOCKS]), Blocked);
        assert_eq!(harness.drive_writable([send_takes(20_000), send_takes(100)]), Blocked);
        assert_eq!(harness.calls(), ["eof ", "output_low"]);
        assert_eq!(harness.drive_writable([send_takes(10_000)]), Blocked);
        assert_eq!(
            harness.drive_writable([send_all(bytes(30_100, 9900))]),
            Ended(CloseReason::Finished)
        );
        assert_eq!(harness.calls(), ["eof ", "output_low", "output_low"]);
    }
}

#[test]
fn ten_mebibytes_are_produced_in_the_memory_of_one_piece() {
    // However much the kernel takes at a time, no more waits than the low watermark and one piece.
    for room in [1000, LOW_WATERMARK_BYTES, LOW_WATERMARK_BYTES + 1, 65_536, 3_000_000] {
        let pieces = ["65536 pause"; 159].into_iter().chain(["close"]);
        let mut harness = Harness::with_log(
            ModelSocket::default(),
            ScriptedProtocol { opened: "65536 pause", ..ScriptedProtocol::with_output_low(pieces) },
        );
        harness.transport.get_mut().has_fin = true;
        let mut outcome = harness.open_once();
        while !matches!(outcome, Ended(_)) {
            assert!(harness.connection().buffers.output().len() <= LOW_WATERMARK_BYTES + 65_536);
            harness.transport.get_mut().room = room;
            harness.ready.set_writable(true);
            outcome = harness.drive_once();
        }
        assert_eq!(outcome, Ended(CloseReason::Finished));
        assert!(
            harness.transport.get_mut().is_shut_down
                && harness.transport.get_mut().sent == bytes(0, 10 * 1024 * 1024),
            "all bytes are sent, and then the FIN"
        );
    }
}

#[test]
fn pause_behind_older_output_ends_when_that_is_sent() {
    // The protocol pauses because a reply waits, not to produce more. When the reply has been sent,
    // `output_low` must be called.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("60000\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.drive_readable([recv("pause\n")]), Blocked);
    assert_eq!(harness.drive_writable([send_all(bytes(0, 60_000))]), Blocked);
    assert_eq!(harness.calls(), ["60000", "pause", "output_low"]);
    // The same if it pauses in `eof`.
    let mut harness = scripted(ScriptedProtocol {
        eof: "pause",
        ..ScriptedProtocol::with_output_low(["5 close"])
    });
    assert_eq!(harness.drive([recv("60000\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.drive_readable([FIN]), Blocked);
    assert_eq!(
        harness.drive_writable([send_takes(60_000), send_all(bytes(60_000, 5))]),
        Ended(CloseReason::Finished)
    );
    assert_eq!(harness.calls(), ["60000", "eof ", "output_low"]);
}

#[test]
fn pause_is_the_same_whether_input_came_in_one_piece_or_two() {
    // Bytes are not messages. In both cases the kernel has taken the earlier reply at once, so no
    // output waits and no `output_low` is due.
    let mut together = scripted(ScriptedProtocol::with_output_low(["pause"]));
    assert_eq!(together.drive([recv("5\npause\n"), send_takes(5)]), Blocked);
    let mut apart = scripted(ScriptedProtocol::with_output_low(["pause"]));
    assert_eq!(apart.drive([recv("5\n"), send_takes(5)]), Blocked);
    assert_eq!(apart.drive_readable([recv("pause\n")]), Blocked);
    assert_eq!(together.calls(), apart.calls());
}
