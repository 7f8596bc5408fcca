//! Handshakes, addresses and look-ups of a relay, without a network.

use super::*;
use crate::protocol::completions::Completions;
use crate::protocol::effects::Command;
use crate::protocol::framing::Lines;
use crate::protocol::ident::CloseReason;
use crate::testing::recorded_effect::RecordedEffect;
use crate::testing::test_connection::TestConnection;
use crate::workers::{Workers, job_queue};

const DEADLINE: Duration = Duration::from_secs(12);

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 80))
}

/// Dials the addresses whose numbers a line has, or looks up the name that it has. Says what comes
/// of it.
struct Switchboard {
    lines: Lines,
    names: Workers,
    after_failure: Next,
}

impl Dialer for Switchboard {
    fn advance(&mut self, input: &[u8], dial: &mut Dial, cx: &mut Context<'_>) -> Option<Advance> {
        let line = match self.lines.next(input, cx) {
            Ok(line) => line,
            Err(step) => return Some(step),
        };
        match line.content {
            b"wait" => {}
            b"close" => {
                dial.to([address(1)]);
                return Some(line.consumed().then(Next::Close));
            }
            name @ [b'a'..=b'z', ..] => {
                dial.to_name(&self.names, str::from_utf8(name).unwrap(), 80);
            }
            numbers => dial.to(numbers.iter().map(|digit| address(digit - b'0'))),
        }
        Some(line.consumed())
    }

    fn connected(&mut self, server: SocketAddr, cx: &mut Context<'_>) {
        cx.send(format!("to {server}\n").as_bytes());
    }

    fn failed(&mut self, error: ErrorKind, cx: &mut Context<'_>) -> Next {
        cx.send(format!("{error:?}\n").as_bytes());
        self.after_failure
    }

    fn message_received(
        &mut self,
        message: Box<dyn Any>,
        dial: &mut Dial,
        _: &mut Context<'_>,
    ) -> Next {
        dial.to([*message.downcast::<SocketAddr>().unwrap()]);
        Next::Unchanged
    }
}

/// A client of a switchboard, whose names wait in a queue of `jobs_max` jobs.
fn client(jobs_max: usize, after_failure: Next) -> TestConnection {
    let completer = Completions::new().completer(ConnectionId::NONE);
    let (names, worker) = job_queue(jobs_max, completer);
    std::mem::forget(worker); // no thread takes the jobs
    let lines = Lines::new(100, Duration::from_secs(5));
    let switchboard = Switchboard { lines, names, after_failure };
    TestConnection::new(Relay::new(switchboard, DEADLINE))
}

/// Takes the effects, and returns the connects among them.
fn connects(client: &mut TestConnection) -> Vec<(ConnectionId, SocketAddr)> {
    let mut connects = Vec::new();
    for effect in client.take_effects() {
        if let RecordedEffect::Connect(id, address) = effect {
            connects.push((id, address));
        }
    }
    connects
}

#[track_caller]
fn connecting_to(client: &mut TestConnection, number: u8) -> ConnectionId {
    match connects(client)[..] {
        [(id, to)] if to == address(number) => id,
        ref other => panic!("{other:?}"),
    }
}

// pitfall: 212
#[test]
fn client_is_told_of_the_success_before_its_early_bytes_are_relayed() {
    let mut client = client(1, Next::Close);
    client.peer_sends(b"1\nearly");
    let server = connecting_to(&mut client, 1);
    client.peer_sends(b" bytes");
    assert_eq!((client.take_received(), client.take_effects()), (vec![], vec![]));
    client.notify(server, Notification::Connected);
    assert_eq!(client.take_received(), b"to 192.0.2.1:80\n");
    assert_eq!(
        client.take_effects(),
        [
            RecordedEffect::Monitor(server),
            RecordedEffect::Command(server, Command::Resume),
            RecordedEffect::SendTo(server, b"early".to_vec()),
            RecordedEffect::SendTo(server, b" bytes".to_vec()),
        ]
    );
    client.advance_clock(DEADLINE);
    assert_eq!(client.close_reason(), None, "the deadline is that of the dial");
    client.peer_shuts_down();
    assert_eq!(client.take_effects(), [RecordedEffect::Command(server, Command::ShutdownWrite)]);
    client.notify(server, Notification::Closed);
    assert_eq!(client.close_reason(), Some(CloseReason::Aborted));
}

// pitfall: 213
#[test]
fn addresses_are_tried_in_order_each_for_its_part_of_the_time() {
    let mut client = client(1, Next::Close);
    client.peer_sends(b"1234\n");
    let first = connecting_to(&mut client, 1);
    client.advance_clock(Duration::from_millis(2_999));
    assert_eq!(client.take_effects(), []);
    client.advance_clock(Duration::from_millis(1)); // a quarter of the twelve seconds
    assert_eq!(
        client.take_effects().first(),
        Some(&RecordedEffect::Command(first, Command::Abort))
    );
    client.notify(first, Notification::Closed); // of the attempt that was given up
    client.advance_clock(Duration::from_millis(500));
    client.peer_sends(b"?");
    assert_eq!(client.take_effects(), []);
}

#[test]
fn error_of_the_last_address_or_the_deadline_is_what_has_failed() {
    use Notification::ConnectFailed;
    let mut client = client(1, Next::Close);
    client.peer_sends(b"12\n");
    let first = connecting_to(&mut client, 1);
    client.notify(first, ConnectFailed(ErrorKind::NetworkUnreachable));
    let second = connecting_to(&mut client, 2);
    client.notify(first, ConnectFailed(ErrorKind::HostUnreachable)); // told twice
    assert_eq!(client.take_received(), b"");
    client.notify(second, ConnectFailed(ErrorKind::ConnectionRefused));
    assert_eq!(client.take_received(), b"ConnectionRefused\n");
    client.peer_shuts_down();
    assert_eq!(client.close_reason(), Some(CloseReason::Finished));

    for (words, error) in [(&b"1\n"[..], "TimedOut\n"), (b"name\n", "TimedOut\n")] {
        let mut late = self::client(1, Next::Continue);
        late.peer_sends(words);
        late.advance_clock(DEADLINE);
        assert_eq!(late.take_received(), error.as_bytes());
    }
    let mut busy = self::client(0, Next::Continue);
    busy.peer_sends(b"name\n");
    assert_eq!(busy.take_received(), b"ResourceBusy\n");
}

// pitfall: 213
#[test]
fn name_that_was_found_too_late_is_not_taken_for_the_next() {
    let mut client = client(9, Next::Continue);
    client.peer_sends(b"slow\n");
    client.advance_clock(DEADLINE);
    assert_eq!(client.take_received(), b"TimedOut\n");
    client.peer_sends(b"fast\n");
    let found = |lookup, number| Box::new(Found { lookup, addresses: vec![address(number)] });
    client.send_message(found(1, 1));
    assert_eq!(client.take_effects(), [], "it is the answer to the first");
    client.send_message(found(2, 2));
    let server = connecting_to(&mut client, 2);
    client.send_message(found(2, 3)); // no look-up is in progress
    assert_eq!(client.take_effects(), []);
    client.notify(server, Notification::Connected);
    assert_eq!(client.take_received(), b"to 192.0.2.2:80\n");

    let mut unknown = self::client(9, Next::Continue);
    unknown.peer_sends(b"unknown\n");
    unknown.send_message(Box::new(Found { lookup: 1, addresses: vec![] }));
    assert_eq!(unknown.take_received(), b"NotFound\n");
}

#[test]
fn deadline_of_the_handshake_holds_whatever_timer_its_dialer_sets() {
    // The first line ends within the deadline of lines, and cancels the timer.
    let mut client = client(1, Next::Close);
    client.peer_sends(b"w");
    client.advance_clock(Duration::from_secs(4));
    client.peer_sends(b"ait\n");
    client.advance_clock(DEADLINE - Duration::from_secs(4));
    client.peer_shuts_down();
    assert_eq!(client.close_reason(), Some(CloseReason::Finished));
    assert_eq!((client.take_received(), client.take_effects()), (vec![], vec![]));
}

#[test]
fn dialer_that_closes_or_leaves_early_dials_nowhere() {
    let mut closing = client(1, Next::Close);
    closing.peer_sends(b"close\n");
    assert_eq!(closing.take_effects(), []);
    let mut leaving = client(1, Next::Close);
    leaving.peer_sends(b"12");
    leaving.peer_shuts_down();
    assert_eq!(leaving.take_effects(), []);
    assert_eq!(leaving.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn message_of_the_application_may_make_the_dialer_dial() {
    let mut client = client(1, Next::Close);
    client.peer_sends(b"wait\n");
    client.send_message(Box::new(address(7)));
    let server = connecting_to(&mut client, 7);
    client.send_message(Box::new(address(8)));
    assert_eq!(client.take_effects(), [], "it comes after the dial");
    client.notify(server, Notification::Connected);
    assert_eq!(client.take_received(), b"to 192.0.2.7:80\n");
    client.take_effects();
    client.notify(server, Notification::AboveHighWatermark);
    client.send_message(Box::new(address(9)));
    client.peer_sends(b"bytes");
    assert_eq!(client.take_effects(), [], "it ends no pause, and dials nowhere");
}

#[test]
fn no_more_addresses_than_eight_are_tried() {
    let addresses: Vec<SocketAddr> = (1..=9).map(address).collect();
    let mut client = TestConnection::new(Relay::to(addresses, DEADLINE));
    for number in 1..=8 {
        let id = connecting_to(&mut client, number);
        client.notify(id, Notification::ConnectFailed(ErrorKind::ConnectionRefused));
    }
    assert_eq!(client.take_effects(), []);
    assert_eq!(client.close_reason(), Some(CloseReason::Aborted));
}

#[test]
fn relay_is_paused_and_resumed_by_the_output_of_the_other_side() {
    let mut client = TestConnection::new(Relay::to([address(1)], DEADLINE));
    let server = connecting_to(&mut client, 1);
    client.notify(server, Notification::Connected);
    client.take_effects();
    client.notify(server, Notification::AboveHighWatermark);
    client.peer_sends(b"bytes");
    assert_eq!(client.take_effects(), []);
    client.notify(server, Notification::BelowLowWatermark);
    assert_eq!(client.take_effects(), [RecordedEffect::SendTo(server, b"bytes".to_vec())]);
}
