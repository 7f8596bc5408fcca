//! Paused protocols, and when they are called again.

use super::*;

#[test]
fn a_paused_protocol_is_asked_for_more_when_its_output_has_fallen_to_the_low_mark() {
    // One byte above it is too early. It is asked again as long as it says something, and no more once it says nothing.
    // Meanwhile nothing is read, although there is something (the read was full).
    let mut talk =
        Talk::with_puppet(Puppet::drains(["1000 pause", "2000 pause", "pause", "abort"]));
    assert_eq!(LOW_WATERMARK_BYTES, 16_384);
    talk.scratch = vec![0; 12];
    assert_eq!(talk.drive([recv("20000 pause\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_writable([send_some(3615)]), Blocked);
    assert_eq!(talk.log(), ["20000 pause"]);
    assert_eq!(talk.drive_writable([send_some(1)]), Blocked);
    assert_eq!(talk.log(), ["20000 pause", "drained"]);
    let steps = [send_replies(bytes(3616, 17_384)), send_replies(bytes(21_000, 2000))];
    assert_eq!(talk.drive_writable(steps), Blocked);
    assert_eq!(talk.log(), ["20000 pause", "drained", "drained", "drained"]);
    assert_eq!(talk.drive_writable([]), Blocked);
    assert_eq!(talk.drive_readable([]), Blocked);
    assert_eq!(talk.log().len(), 4);
}

#[test]
fn who_had_nothing_to_say_is_not_asked_again_and_again() {
    // Its output is below the low mark and has not gone yet. It may have nothing to add until its alarm rings; the loop must
    // not go in circles meanwhile.
    let mut talk = Talk::with_puppet(Puppet { elapsed: "pause", ..Puppet::drains(["pause"; 9]) });
    assert_eq!(talk.drive([recv("20000 wake:500 pause\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_writable([send_some(10_000)]), Blocked);
    assert_eq!(talk.log(), ["20000 wake:500 pause", "drained"]);
    assert_eq!(talk.expire_at(500, []), Blocked);
    assert_eq!(talk.drive_writable([send_some(10_000)]), Blocked);
    assert_eq!(talk.log(), ["20000 wake:500 pause", "drained", "elapsed"]);
}

#[test]
fn a_pause_ends_with_what_was_carried_and_then_with_what_the_kernel_has() {
    // The order behind the pause comes before anything is read; all the while no edge was needed.
    let mut talk = Talk::with_puppet(Puppet::drains([""]));
    talk.scratch = vec![0; 10];
    assert_eq!(talk.drive([recv("5 pause\n6\n"), SEND_BLOCKS, RECV_BLOCKS]), Blocked);
    assert_eq!(talk.log(), ["5 pause", "drained", "6"], "so little is below the low mark already");
    let mut talk = Talk::with_puppet(Puppet::drains([""]));
    talk.scratch = vec![0; 14];
    assert_eq!(talk.drive([recv("20000 pause\n6\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(
        talk.drive_writable([
            send_some(20_000),
            send_replies(bytes(20_000, 6)),
            recv("7\n"),
            send_some(7)
        ]),
        Blocked
    );
    assert_eq!(talk.log(), ["20000 pause", "drained", "6", "7"]);
}

#[test]
fn a_long_answer_to_a_half_closed_peer_is_produced_to_its_end() {
    // It is asked for more after the FIN as before it, and the end comes when it has no more.
    for last in ["", "close", "agree"] {
        let mut talk = Talk::with_puppet(Puppet {
            ended: "20000 pause",
            ..Puppet::drains(["20000 pause", last])
        });
        assert_eq!(talk.drive([FIN, SEND_BLOCKS]), Blocked);
        assert_eq!(talk.drive_writable([send_some(20_000), send_some(100)]), Blocked);
        assert_eq!(talk.log(), ["ended ", "drained"]);
        assert_eq!(talk.drive_writable([send_some(10_000)]), Blocked);
        assert_eq!(
            talk.drive_writable([send_replies(bytes(30_100, 9900))]),
            Ended(CloseReason::Finished)
        );
        assert_eq!(talk.log(), ["ended ", "drained", "drained"]);
    }
}

#[test]
fn ten_mebibytes_are_produced_piece_by_piece_in_the_memory_of_one() {
    // The kernel takes a little or much at a time. No more ever waits than the low mark and one piece.
    for room in [1000, LOW_WATERMARK_BYTES, LOW_WATERMARK_BYTES + 1, 65_536, 3_000_000] {
        let pieces = ["65536 pause"; 159].into_iter().chain(["close"]);
        let mut talk = Talk::over_puppet(
            Kernel::default(),
            Puppet { opened: "65536 pause", ..Puppet::drains(pieces) },
        );
        talk.wire.has_fin = true;
        let mut outcome = talk.open_once();
        while !matches!(outcome, Ended(_)) {
            assert!(talk.connection.output.len() <= LOW_WATERMARK_BYTES + 65_536);
            (talk.wire.room, talk.ready.writable) = (room, true);
            outcome = talk.drive_once();
        }
        assert_eq!(outcome, Ended(CloseReason::Finished));
        assert!(
            talk.wire.is_finished && talk.wire.sent == bytes(0, 10 * 1024 * 1024),
            "all of it, and then the FIN"
        );
    }
}

#[test]
fn a_pause_behind_older_output_ends_when_that_has_drained() {
    // The protocol pauses because a reply waits, not to say more. When the reply has gone it must be told.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("60000\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_readable([recv("pause\n")]), Blocked);
    assert_eq!(talk.drive_writable([send_replies(bytes(0, 60_000))]), Blocked);
    assert_eq!(talk.log(), ["60000", "pause", "drained"]);
    // The same where it pauses because the peer has ended.
    let mut talk = Talk::with_puppet(Puppet { ended: "pause", ..Puppet::drains(["5 close"]) });
    assert_eq!(talk.drive([recv("60000\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_readable([FIN]), Blocked);
    assert_eq!(
        talk.drive_writable([send_some(60_000), send_replies(bytes(60_000, 5))]),
        Ended(CloseReason::Finished)
    );
    assert_eq!(talk.log(), ["60000", "ended ", "drained"]);
}

#[test]
fn a_pause_means_the_same_whether_its_order_came_alone_or_with_others() {
    // Bytes are not messages. In both cases the kernel has taken the reply before it at once, so nothing has to drain.
    let mut together = Talk::with_puppet(Puppet::drains(["pause"]));
    assert_eq!(together.drive([recv("5\npause\n"), send_some(5)]), Blocked);
    let mut apart = Talk::with_puppet(Puppet::drains(["pause"]));
    assert_eq!(apart.drive([recv("5\n"), send_some(5)]), Blocked);
    assert_eq!(apart.drive_readable([recv("pause\n")]), Blocked);
    assert_eq!(together.log(), apart.log());
}
