//! A protocol in a `TestDatagram` is called as in a reactor.

use super::*;
use crate::echo::Echo;
use crate::limits::REPLIES_HIGH_WATERMARK_BYTES;
use crate::protocol::datagram::{Datagram, Replies};
use crate::protocol::effects::Command;

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 7], port))
}

/// A client: it asks, asks again each second until it is answered, and gives up after a refusal.
struct Asker {
    report_to: ConnectionId,
    asked: u32,
}

impl DatagramProtocol for Asker {
    fn opened(&mut self, replies: &mut Replies<'_>) {
        self.timer_expired(replies);
    }

    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        replies.connections().send_to(self.report_to, datagram.payload);
        replies.connections().send_message(self.report_to, self.asked);
        replies.close();
    }

    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        self.asked += 1;
        replies.send(format!("question {}", self.asked).as_bytes());
        replies.set_timer(Duration::from_secs(1));
    }

    fn error_received(&mut self, error: &io::Error, replies: &mut Replies<'_>) {
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        replies.connections().close(self.report_to);
        replies.close();
    }
}

#[test]
fn client_asks_again_by_its_timer_and_ends_with_the_answer() {
    let report_to = TestDatagram::new(Echo::new()).other_connection();
    let mut asker = TestDatagram::connected_to(peer(53), Asker { report_to, asked: 0 });
    asker.advance_clock(Duration::from_millis(999));
    assert_eq!(asker.take_sent(), [(peer(53), b"question 1".to_vec())]);
    asker.advance_clock(Duration::from_millis(1));
    assert_eq!(asker.take_sent(), [(peer(53), b"question 2".to_vec())]);
    asker.peer_sends(peer(54), b"of another peer");
    assert_eq!((asker.take_effects(), asker.stats().datagrams_dropped), (vec![], 1));
    asker.peer_sends(peer(53), b"answer");
    assert_eq!(asker.take_effects(), [RecordedEffect::SendTo(report_to, b"answer".to_vec())]);
    let messages = asker.take_messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].1.downcast_ref::<u32>(), Some(&2));
    assert_eq!(asker.close_reason(), Some(CloseReason::Finished));
    asker.advance_clock(Duration::from_secs(5));
    asker.peer_sends(peer(53), b"late");
    assert_eq!((asker.take_sent(), asker.take_effects()), (vec![], vec![]));
}

#[test]
fn refused_peer_is_an_error_of_the_client() {
    let report_to = TestDatagram::new(Echo::new()).other_connection();
    let mut asker = TestDatagram::connected_to(peer(53), Asker { report_to, asked: 0 });
    asker.report_error(ErrorKind::ConnectionRefused.into());
    assert_eq!(asker.take_effects(), [RecordedEffect::Command(report_to, Command::Close)]);
    assert_eq!(asker.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn replies_wait_for_the_kernel_and_nothing_is_received_meanwhile() {
    let mut echo = TestDatagram::new(Echo::with_prefix("-> "));
    echo.kernel_takes(1);
    echo.peers_send([(peer(1), &b"a"[..]), (peer(2), b"b"), (peer(1), b"c")]);
    echo.peer_sends(peer(3), b"d");
    assert_eq!(echo.take_sent(), [(peer(1), b"-> a".to_vec())]);
    assert_eq!(echo.stats().datagrams_in, 3);
    echo.kernel_takes(usize::MAX);
    let rest = [(2, "-> b"), (1, "-> c"), (3, "-> d")];
    assert_eq!(echo.take_sent(), rest.map(|(port, text)| (peer(port), text.as_bytes().to_vec())));
}

#[test]
fn peers_that_the_reactor_does_not_answer_get_no_reply() {
    let mut echo = TestDatagram::new(Echo::new());
    let own_port = SocketAddr::from(([198, 51, 100, 7], 2000));
    let group = SocketAddr::from(([224, 0, 0, 1], 4000));
    echo.peers_send([(peer(0), &b"x"[..]), (own_port, b"x"), (group, b"x")]);
    assert_eq!((echo.take_sent(), echo.stats().datagrams_dropped), (vec![], 3));
}

/// Sends for as long as it may.
struct Flood;

impl DatagramProtocol for Flood {
    fn received(&mut self, _: &Datagram<'_>, _: &mut Replies<'_>) {}

    fn opened(&mut self, replies: &mut Replies<'_>) {
        replies.set_timer(Duration::from_millis(1));
    }

    fn timer_expired(&mut self, replies: &mut Replies<'_>) {
        self.writable(replies);
    }

    fn writable(&mut self, replies: &mut Replies<'_>) {
        while !replies.is_full() {
            replies.send_to(peer(9), &[0; 60_000]);
        }
        replies.wake_when_writable();
    }
}

#[test]
fn protocol_that_sends_without_end_waits_for_the_kernel() {
    let mut flood = TestDatagram::new(Flood);
    flood.kernel_takes(100);
    flood.advance_clock(Duration::from_millis(1));
    assert_eq!(flood.take_sent().len(), 100);
    flood.kernel_takes(REPLIES_HIGH_WATERMARK_BYTES / 60_000 * 3);
    assert_eq!(flood.take_sent().len(), REPLIES_HIGH_WATERMARK_BYTES / 60_000 * 3);
}

#[test]
#[should_panic(expected = "never stops sending")]
fn protocol_that_never_waits_fails_its_test() {
    struct Restless;
    impl DatagramProtocol for Restless {
        fn received(&mut self, _: &Datagram<'_>, _: &mut Replies<'_>) {}

        fn opened(&mut self, replies: &mut Replies<'_>) {
            replies.wake_when_writable();
        }

        fn writable(&mut self, replies: &mut Replies<'_>) {
            replies.wake_when_writable();
        }
    }
    TestDatagram::new(Restless);
}

#[test]
#[should_panic(expected = "the protocol has panicked")]
fn panic_of_the_protocol_fails_its_test() {
    struct Panics;
    impl DatagramProtocol for Panics {
        fn received(&mut self, _: &Datagram<'_>, _: &mut Replies<'_>) {
            panic!("in the protocol");
        }
    }
    TestDatagram::new(Panics).peer_sends(peer(1), b"x");
}

#[test]
fn clock_that_advances_without_bound_meets_no_timer_that_is_not_set() {
    let mut echo = TestDatagram::new(Echo::new());
    echo.advance_clock(Duration::MAX);
    assert_eq!(echo.close_reason(), None);
}
