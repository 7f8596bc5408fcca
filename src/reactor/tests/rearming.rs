//! Selectors that rearm only on `WouldBlock`, as mio has them on Windows and by poll(2).
//!
//! After an event, such a selector reports nothing more of the socket until a call on it returns
//! `WouldBlock`. So whatever the loop takes for "nothing more to do" must have met one, or the
//! readiness stays stored. The random schedules run on these selectors, too.

use super::protocols::text_of;
use super::*;
use crate::echo::Echo;
use crate::limits::{DATAGRAM_RETRY_MS, HIGH_WATERMARK_BYTES};
use crate::protocol::datagram::{Datagram, Replies};
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Host;
use crate::testing::simulated::stream::{IN, OUT};

const ECHO: u16 = 2000;
const DATAGRAMS: u16 = 2001;

/// Runs `check` on each of these selectors, in a world without faults that serves echo.
fn on_each_selector(check: impl Fn(&mut World)) {
    // Several seeds, because each draws how its datagrams cross.
    for (selector, seed) in
        [Selector::Rearming, Selector::Poll].into_iter().flat_map(|each| [(each, 1), (each, 2)])
    {
        let mut world = World::with_selector(selector, seed, Limits::default(), Faults::default());
        world.serve(ECHO, |_| Echo::new());
        check(&mut world);
        world.run_until_blocked();
        world.stop();
    }
}

// pitfall: 107
#[test]
fn every_message_is_served_where_only_would_block_rearms() {
    on_each_selector(|world| {
        let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
        let (stream, peer) = (world.connect(ECHO, 1), bound_peer(world, 2));
        for number in 0..10 {
            let message = text_of(1, number, 20);
            world.peer_sends(stream, &message);
            world.kernel().peer_sends_datagram(peer, datagrams, message.clone());
            world.run_until_blocked();
            assert_eq!(world.peer_receives_all(stream), message, "message {number}");
            assert_eq!(world.kernel().peer_receives_datagram(peer), Some(message));
        }
        world.kernel().peer_closes(stream);
    });
}

// pitfall: 107
#[test]
fn partial_writes_are_continued_where_only_would_block_rearms() {
    on_each_selector(|world| {
        let stream = world.kernel().peer_connects(peer(1), server(ECHO), 1000).unwrap();
        let bytes = text_of(1, 0, 2 * HIGH_WATERMARK_BYTES);
        world.peer_sends(stream, &bytes);
        world.run_until_blocked();
        let mut received = Vec::new();
        while received.len() < bytes.len() {
            let PeerReceived::Bytes(more) = world.kernel().peer_receives(stream, 900) else {
                panic!("nothing after {} bytes", received.len())
            };
            received.extend(more);
            world.run_until_blocked();
        }
        assert!(received == bytes);
        world.kernel().peer_closes(stream);
    });
}

/// The selector reports a FIN again after each `WouldBlock`. Taken for writable, each report would
/// lead to a send that returns `WouldBlock`.
// pitfall: 108
#[test]
fn half_closed_peer_that_does_not_read_leaves_the_loop_asleep() {
    on_each_selector(|world| {
        let stream = world.kernel().peer_connects(peer(1), server(ECHO), 1000).unwrap();
        world.peer_sends(stream, &text_of(1, 0, 5000));
        world.kernel().peer_shuts_down(stream);
        world.run_until_blocked();
        let turns = world.run_for(100);
        assert!(turns <= 2, "{turns} turns in which nothing could be done");
        let mut received = 0;
        while received < 5000 {
            let more = world.peer_receives_all(stream).len();
            assert_ne!(more, 0, "nothing after {received} bytes");
            received += more;
            world.run_until_blocked();
        }
        assert_eq!(world.peer_receives_end(stream), PeerReceived::Fin);
    });
}

// pitfall: 109
#[test]
fn spurious_event_during_a_connect_does_not_hide_its_result() {
    on_each_selector(|world| {
        let host = SocketAddr::from(([10, 0, 0, 9], 7));
        let accepts = Host::Accepts { after_us: 50_000, buffer_bytes: 1000 };
        world.kernel().hosts.insert(host, accepts);
        let ledger = world.ledger.clone();
        world.reactor().connect(host, Witnessed::new(Echo::new(), host, &ledger));
        world.run_until_blocked();
        let descriptor = world.kernel().descriptors_open() - 1;
        for bits in [OUT, IN | OUT] {
            world.kernel().queue_spurious_event(descriptor, bits);
            world.run_until_blocked();
        }
        world.run_for(60);
        assert_eq!(world.stats().connected, 1);
    });
}

/// Counts what a datagram client receives.
struct Counting(Rc<RefCell<(usize, usize)>>);

impl DatagramProtocol for Counting {
    fn received(&mut self, _datagram: &Datagram<'_>, _replies: &mut Replies<'_>) {
        self.0.borrow_mut().0 += 1;
    }

    fn error_received(&mut self, _error: &std::io::Error, _replies: &mut Replies<'_>) {
        self.0.borrow_mut().1 += 1;
    }
}

/// mio's poll(2) selector forgets a descriptor once it has reported its error.
// pitfall: 110
#[test]
fn datagram_client_still_receives_after_an_error_of_its_socket() {
    on_each_selector(|world| {
        let (counts, host) = (Rc::new(RefCell::new((0, 0))), bound_peer(world, 7));
        let client = world.reactor().connect_datagram(host, Counting(counts.clone())).unwrap();
        world.run_until_blocked();
        for number in 1..=3 {
            world.kernel().report_icmp_error(client, errno::ECONNREFUSED);
            world.run_until_blocked();
            world.kernel().peer_sends_datagram(host, client, b"again".to_vec());
            world.run_until_blocked();
            assert_eq!(*counts.borrow(), (number, number));
        }
    });
}

/// As on Windows, where each ICMP message fails one receive of the socket, connected or not.
// pitfall: 111
#[test]
fn datagram_behind_many_icmp_errors_is_answered() {
    for selector in [Selector::Epoll, Selector::Rearming, Selector::Poll] {
        let mut world = World::with_selector(selector, 1, Limits::default(), Faults::default());
        let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
        let peer = bound_peer(&world, 1);
        world.run_until_blocked();
        for _ in 0..1000 {
            world.kernel().report_icmp_error(datagrams, errno::ECONNRESET);
        }
        world.kernel().peer_sends_datagram(peer, datagrams, b"hello".to_vec());
        world.run_until_blocked();
        assert_eq!(world.kernel().peer_receives_datagram(peer), Some(b"hello".to_vec()));
        assert_eq!(world.stats().datagram_errors, 1000);
        world.stop();
    }
}

// pitfall: 112
#[test]
fn receive_that_fails_for_a_while_is_retried_without_spinning() {
    for selector in [Selector::Epoll, Selector::Rearming, Selector::Poll] {
        let mut world = World::with_selector(selector, 1, Limits::default(), Faults::default());
        let datagrams = world.serve_datagrams(DATAGRAMS, Echo::new());
        let peer = bound_peer(&world, 1);
        world.run_until_blocked();
        world.kernel().faults.receive_error = Some(errno::ENOMEM);
        world.kernel().peer_sends_datagram(peer, datagrams, b"hello".to_vec());
        let turns = world.run_for(10 * DATAGRAM_RETRY_MS);
        assert!(turns <= 13, "{turns} turns for ten retries");
        world.kernel().faults.receive_error = None;
        world.run_for(DATAGRAM_RETRY_MS);
        assert_eq!(world.kernel().peer_receives_datagram(peer), Some(b"hello".to_vec()));
        world.stop();
    }
}
