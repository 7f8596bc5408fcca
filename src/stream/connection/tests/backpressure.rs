//! Backpressure, budgets and bounds.

use super::*;

#[test]
fn at_the_high_mark_the_peer_is_no_longer_read() {
    // One byte below it is; at the mark it is not, whatever the kernel says, until one byte has gone.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(HIGH_WATERMARK_BYTES, 65_536);
    assert_eq!(talk.drive([recv("65535\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_readable([recv("1\n")]), Blocked);
    assert_eq!(talk.drive_readable([]), Blocked);
    assert_eq!(talk.drive_writable([send_some(1), recv("0\n")]), Blocked);
    assert_eq!(talk.log(), ["65535", "1", "0"]);
}

#[test]
fn at_the_high_mark_orders_are_carried_and_later_come_before_anything_is_read() {
    // The second order reaches the mark, so the third is held. When it is obeyed it reaches the mark again: nothing is read,
    // although the kernel has more (the read was full).
    let mut talk = Talk::with_puppet(Puppet::default());
    let orders = "40000\n40000\n50000\n9\n";
    talk.scratch = vec![0; orders.len()];
    assert_eq!(talk.drive([recv(orders), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.log(), ["40000", "40000"]);
    assert_eq!(talk.drive_writable([send_some(14_464)]), Blocked);
    assert_eq!(talk.log().len(), 2, "the mark is not left yet");
    assert_eq!(talk.drive_writable([send_some(1)]), Blocked);
    assert_eq!(talk.log(), ["40000", "40000", "50000"]);
    assert_eq!(
        talk.drive_writable([
            send_replies(bytes(14_465, 115_535)),
            send_replies(bytes(130_000, 9)),
            RECV_BLOCKS
        ]),
        Blocked
    );
    assert_eq!(talk.log(), ["40000", "40000", "50000", "9"]);
}

#[test]
fn many_small_replies_to_one_read_stop_at_the_high_mark_too() {
    // 8,000 orders of 1,000 bytes each: 65 are obeyed and 66 would be too many. Each time all is taken, so it goes on.
    let mut talk = Talk::with_puppet(Puppet::default());
    let orders = "1000\n".repeat(8000);
    let batch = |number: usize| send_replies(bytes(number * 66_000, 66_000));
    assert_eq!(
        talk.drive([recv(orders), batch(0), batch(1), batch(2), batch(3), batch(4)]),
        Unfinished
    );
    assert_eq!(talk.log().len(), 5 * 66);
    assert_eq!(talk.drive([batch(5), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.connection.output.len(), 66_000);
}

#[test]
fn nobody_spends_more_than_a_budget_in_one_turn() {
    // The peer sends for ever and takes everything; the puppet listens, speaks, or has closed and lingers. Each drive moves
    // one budget, give or take a read and its reply, and leaves it unfinished.
    let long = Puppet::drains(vec!["60000 pause"; 100]);
    let talks = [
        ("echo", Talk::over(Kernel::default(), Echo::new())),
        ("drained", Talk::over_puppet(Kernel::default(), Puppet { opened: "60000 pause", ..long })),
        (
            "lingering",
            Talk::over_puppet(Kernel::default(), Puppet { opened: "1 close", ..Puppet::default() }),
        ),
    ];
    for (name, mut talk) in talks {
        talk.wire.arrived = 100 * READ_BYTES_MAX;
        talk.wire.room = usize::MAX;
        assert_eq!(talk.open_once(), Unfinished, "{name}");
        for _ in 0..5 {
            let before = talk.wire.read + talk.wire.sent.len();
            assert_eq!(talk.drive_once(), Unfinished, "{name}");
            let moved = talk.wire.read + talk.wire.sent.len() - before;
            assert!((4 * READ_BYTES_MAX..=6 * READ_BYTES_MAX).contains(&moved), "{name}: {moved}");
        }
    }
}

#[test]
fn who_says_little_at_a_time_does_not_have_the_turn_for_long_either() {
    // It is asked for more for ever, and has one byte each time. It is not asked a quarter of a million times in one turn.
    let mut talk = Talk::over_puppet(
        Kernel::default(),
        Puppet { opened: "1 pause", ..Puppet::drains(vec!["1 pause"; 2000]) },
    );
    talk.wire.room = usize::MAX;
    let calls_max = usize::try_from(SOURCE_BYTES_PER_TURN_MAX / STEP_BYTES).unwrap();
    assert_eq!(talk.open_once(), Unfinished);
    for _ in 0..5 {
        let before = talk.wire.sent.len();
        assert_eq!(talk.drive_once(), Unfinished);
        let said = talk.wire.sent.len() - before;
        assert!((calls_max / 2..=calls_max).contains(&said), "{said}");
    }
}

#[test]
fn a_budget_spent_with_the_last_byte_leaves_nothing_unfinished() {
    // More than a budget waits and is taken at once. There is nothing left to do, so it must not be queued.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv("300000\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(talk.drive_writable([send_some(300_000)]), Blocked);
}

#[test]
fn a_message_that_never_ends_ends_the_conversation() {
    // One byte less than the most is waited for; there is room for one more, and then it is too long.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv(vec![b'x'; INPUT_BYTES_MAX - 1])]), Blocked);
    assert_eq!(talk.drive_readable([recv("x")]), Ended(CloseReason::InputTooLong));
    // An order that just fits is obeyed.
    let mut talk = Talk::with_puppet(Puppet::default());
    assert_eq!(talk.drive([recv(vec![b' '; INPUT_BYTES_MAX - 1])]), Blocked);
    assert_eq!(talk.drive_readable([recv("\n"), RECV_BLOCKS]), Blocked);
    assert_eq!(talk.log().len(), 1);
}

#[test]
fn who_says_more_at_once_than_may_wait_is_cut_off() {
    // What the kernel takes at once does not wait.
    let check = |order: &'static str, taken: Step| {
        let mut talk = Talk::with_puppet(Puppet { opened: order, ..Puppet::default() });
        talk.open([taken])
    };
    assert_eq!(OUTPUT_BYTES_MAX, 4_194_304);
    assert_eq!(check("4194304", SEND_BLOCKS), Blocked);
    assert_eq!(check("4194305", SEND_BLOCKS), Ended(CloseReason::OutputOverflow));
    assert_eq!(check("4194305", send_some(1)), Blocked);
}
