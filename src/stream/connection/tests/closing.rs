//! Closing: half-close, lingering and aborts.

use super::*;
use crate::protocol::effects::Command;

#[test]
fn half_closed_peer_receives_whole_reply() {
    // The peer's FIN arrives after half a line, and while a reply waits. Whether the protocol
    // continues or closes, the rest is sent. Then the connection ends at once: after the peer's FIN
    // there is nothing to linger for.
    for eof in ["3", "3 close", "3 close_without_linger"] {
        let mut harness = scripted(ScriptedProtocol { eof, ..ScriptedProtocol::default() });
        assert_eq!(harness.drive([recv("5\nhalf"), SEND_BLOCKS]), Blocked);
        assert_eq!(harness.drive_readable([FIN]), Blocked);
        assert_eq!(harness.calls(), ["5", "eof half"]);
        assert_eq!(harness.drive_readable([]), Blocked, "nothing is read after the FIN");
        assert_eq!(harness.drive_writable([send_takes(7)]), Blocked);
        assert_eq!(harness.drive_writable([send_all(bytes(7, 1))]), Ended(CloseReason::Finished));
    }
}

#[test]
fn fin_without_input_closes_at_once() {
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([FIN]), Ended(CloseReason::Finished));
    assert_eq!(harness.calls(), ["eof "]);
}

// rule: staged-close
#[test]
fn close_sends_all_output_then_fin_and_waits_for_the_peers_fin() {
    // What the peer still sends is read, so that it does not lead to a reset, and discarded.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("5 close\n6\n"), send_takes(3)]), Blocked);
    assert_eq!(harness.drive_readable([]), Blocked, "output goes before reading");
    assert_eq!(harness.drive_writable([send_all(bytes(3, 2)), SHUTDOWN, recv("7\n")]), Blocked);
    assert_eq!(harness.drive_readable([recv("8\n")]), Blocked);
    assert_eq!(harness.drive_writable([]), Blocked);
    assert_eq!(harness.drive_readable([FIN]), Ended(CloseReason::Finished));
    assert_eq!(harness.calls(), ["5 close"]);
}

// pitfall: 23
// rule: staged-close
#[test]
fn lingering_is_bounded_in_time() {
    // Input does not extend the linger timeout.
    let mut harness = scripted(ScriptedProtocol::default());
    harness.at_ms(1000);
    assert_eq!(harness.drive([recv("close\n"), SHUTDOWN]), Blocked);
    harness.at_ms(2500);
    assert_eq!(harness.drive_readable([recv("still here")]), Blocked);
    harness.ends_at(3000, CloseReason::Finished);
}

// pitfall: 23
#[test]
fn lingering_is_bounded_in_bytes() {
    let mut harness = Harness::with_log(
        ModelSocket::default(),
        ScriptedProtocol { opened: "close", ..ScriptedProtocol::default() },
    );
    harness.scratch = vec![0; 65_536]; // of which the bound is a multiple
    harness.transport.get_mut().arrived = usize::MAX / 2;
    let linger_bytes_max = usize::from(LINGER_BLOCKS_MAX) * LINGER_BLOCK_BYTES;
    let mut outcome = harness.open_once();
    while outcome == Unfinished {
        assert!(harness.transport.get_mut().read <= linger_bytes_max);
        outcome = harness.drive_once();
    }
    assert_eq!(
        (outcome, harness.transport.get_mut().read),
        (Ended(CloseReason::Finished), linger_bytes_max)
    );
}

#[test]
fn close_without_linger_does_not_wait_for_the_peers_fin() {
    // All input has been read (the read was short), so nothing can lead to a reset.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("5 close_without_linger\n"), send_takes(3)]), Blocked);
    let script = [send_all(bytes(3, 2)), SHUTDOWN];
    assert_eq!(harness.drive_writable(script), Ended(CloseReason::Finished));
}

// pitfall: 270
#[test]
fn last_bytes_of_the_output_leave_in_one_segment_with_our_fin() {
    let with_fin = |harness: &mut Harness<_>| {
        let transport: &mut ScriptedTransport = harness.transport.get_mut();
        (transport.with_fin, transport.held_back)
    };
    // With the reply of the call that closes, and with the rest that the kernel had no room for.
    for close in ["close", "close_without_linger"] {
        let mut harness = scripted(ScriptedProtocol::default());
        let line = recv(format!("5 {close}\n"));
        assert_ne!(harness.drive([line, send_all(bytes(0, 5)), SHUTDOWN]), Unfinished);
        assert_eq!(with_fin(&mut harness), (5, 0));
        let mut harness = scripted(ScriptedProtocol::default());
        let line = recv(format!("5 {close}\n"));
        assert_eq!(harness.drive([line, send_takes(3)]), Blocked);
        assert_eq!(with_fin(&mut harness), (0, 0), "more follows before the FIN");
        assert_ne!(harness.drive_writable([send_all(bytes(3, 2)), SHUTDOWN]), Unfinished);
        assert_eq!(with_fin(&mut harness), (2, 0));
    }
    // A FIN that other connections have asked for while output waits.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("5\n"), send_takes(3)]), Blocked);
    let Driver { connection, transport, state, .. } = &mut *harness;
    connection.as_mut().unwrap().apply(Command::ShutdownWrite, transport, state);
    assert_eq!(harness.drive_writable([send_all(bytes(3, 2)), SHUTDOWN]), Blocked);
    assert_eq!(with_fin(&mut harness), (2, 0));
    // The reply of a connection that goes on waits for nothing.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("5\n"), send_all(bytes(0, 5))]), Blocked);
    assert_eq!(with_fin(&mut harness), (0, 0));
}

#[test]
fn reset_before_our_fin_is_the_close_reason() {
    for close in ["close", "close_without_linger"] {
        let mut harness = scripted(ScriptedProtocol::default());
        let line = recv(format!("5 {close}\n"));
        let shutdown = Syscall::Shutdown(Err(SyscallError::Kind(ErrorKind::NotConnected)));
        let outcome = harness.drive([line, send_all(bytes(0, 5)), shutdown]);
        assert_eq!(outcome, Ended(CloseReason::PeerReset));
    }
}

#[test]
fn close_without_linger_asks_where_a_short_read_proves_nothing() {
    // On a Unix socket, and without epoll and kqueue: one more read shows whether anything is
    // unread.
    let line = "5 close_without_linger\n";
    for (read, ending) in [
        (RECV_BLOCKS, Ended(CloseReason::Finished)),
        (FIN, Ended(CloseReason::Finished)),
        (recv_fails(ErrorKind::ConnectionReset), Ended(CloseReason::PeerReset)),
    ] {
        let mut harness = scripted(ScriptedProtocol::default());
        harness.ready = Readiness::of_stream(Peer::Unix).with_both();
        assert_eq!(harness.drive([recv(line), send_all(bytes(0, 5)), SHUTDOWN, read]), ending);
    }
    let mut harness = scripted(ScriptedProtocol::default());
    harness.ready = Readiness::of_stream(Peer::Unix).with_both();
    let script = [recv(line), send_all(bytes(0, 5)), SHUTDOWN, recv("6\n"), RECV_BLOCKS];
    assert_eq!(harness.drive(script), Blocked);
    assert_eq!(harness.drive_readable([FIN]), Ended(CloseReason::Finished));
}

// rule: staged-close
#[test]
fn input_behind_a_close_without_linger_makes_it_linger() {
    // More input was read with it, or may be in the socket because the read was full.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(
        harness.drive([recv("5 close_without_linger\n6\n"), send_all(bytes(0, 5)), SHUTDOWN]),
        Blocked
    );
    assert_eq!(harness.drive_readable([FIN]), Ended(CloseReason::Finished));
    let mut harness = scripted(ScriptedProtocol::default());
    let line = "5 close_without_linger\n";
    harness.scratch = vec![0; line.len()];
    assert_eq!(
        harness.drive([recv(line), send_all(bytes(0, 5)), SHUTDOWN, FIN]),
        Ended(CloseReason::Finished)
    );
}

#[test]
fn input_during_the_flush_makes_a_close_without_linger_linger() {
    // All input had been read when the protocol closed. More arrived while the reply waited.
    // Unread, it would reset the connection and destroy the end of the reply.
    let mut harness = scripted(ScriptedProtocol::default());
    assert_eq!(harness.drive([recv("5 close_without_linger\n"), send_takes(3)]), Blocked);
    assert_eq!(harness.drive_readable([]), Blocked);
    assert_eq!(harness.drive_writable([send_all(bytes(3, 2)), SHUTDOWN, recv("6\n")]), Blocked);
    assert_eq!(harness.drive_readable([FIN]), Ended(CloseReason::Finished));
}

// pitfall: 24
#[test]
fn abort_ends_at_once_from_every_callback() {
    let aborted = Ended(CloseReason::Aborted);
    let protocol = || ScriptedProtocol {
        opened: "",
        output_low: ["abort"].into(),
        timer_expired: "abort",
        eof: "abort",
        ..ScriptedProtocol::default()
    };
    assert_eq!(scripted(ScriptedProtocol { opened: "abort", ..protocol() }).open([]), aborted);
    assert_eq!(scripted(protocol()).drive([recv("abort\n")]), aborted);
    assert_eq!(scripted(protocol()).drive([FIN]), aborted);
    assert_eq!(scripted(protocol()).drive([recv("1 pause\n"), send_takes(1)]), aborted);
    let mut harness = scripted(protocol());
    assert_eq!(harness.drive([recv("9 timer:5\n"), SEND_BLOCKS]), Blocked);
    assert_eq!(harness.expire_at(5, []), aborted);
}

#[test]
fn closed_is_called_once_and_last() {
    for (line, why) in
        [("1 close_without_linger", CloseReason::Finished), ("1 abort", CloseReason::Aborted)]
    {
        let mut harness = scripted(ScriptedProtocol::default());
        harness.transport.get_mut().script =
            [recv(format!("{line}\n")), send_takes(1), SHUTDOWN].into();
        assert!(!harness.turn(), "nothing is left to do");
        harness.turn();
        assert_eq!(harness.calls(), [line.to_owned(), format!("closed {why:?}")]);
    }
}

// pitfall: 270
#[test]
fn fin_follows_last_bytes_also_where_they_spend_the_budget() {
    // Otherwise the end of a long reply waits for the next drive, behind all other bulk transfers.
    let count = STREAM_BYTES_PER_TURN_MAX + 5;
    let mut harness = scripted(ScriptedProtocol::default());
    let line = recv(format!("{count} close\n"));
    assert_eq!(harness.drive([line, send_takes(3)]), Blocked);
    harness.drive_writable([send_all(bytes(3, count - 3)), SHUTDOWN]);
    assert_eq!(harness.transport.get_mut().held_back, 0);
}
