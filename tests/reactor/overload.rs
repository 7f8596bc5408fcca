//! Overload: connects wait in the backlog, idle connections are evicted, freed slots are reused.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::READ_BYTES_MAX;
use crate::overload_limits::{EVICTION_IDLE_MS, EVICTIONS_MAX, UNSENT_BYTES_MAX};
use mio_reactor::{
    Advance, Context, Echo, Http, Limits, ListenOptions, Next, Protocol, Reactor, Stopped,
};

use crate::common::{
    TURN_TIMEOUT, any_port, check_echo, check_end, connect, pattern, reset, serve, turn_until,
};
use crate::site::Site;
use crate::{CloseLog, ReactorThread, SendsOnOpen, exchange};

// pitfall: 34, 35
#[test]
fn full_server_leaves_connects_in_backlog_until_a_slot_frees() {
    // There are two slots. Four peers connect and send at once; then the first two close, one after
    // the other.
    let limits = Limits::default().with_connections_max(2);
    let (mut reactor, address) = serve(limits, |_| Echo::new());
    let mut peers: Vec<TcpStream> = (0..4).map(|_| connect(address)).collect();
    for (peer, byte) in peers.iter_mut().zip(b"0123") {
        peer.write_all(&[*byte]).unwrap();
    }
    turn_until(&mut reactor, "two are served", |stats| stats.bytes_out == 2);
    for _ in 0..10 {
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
    let stats = reactor.stats();
    assert_eq!((stats.accepted, stats.bytes_out), (2, 2), "the others are not accepted");
    assert!(stats.accept_pauses > 0);
    peers[3].set_nonblocking(true).unwrap();
    assert_eq!(peers[3].read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    peers[3].set_nonblocking(false).unwrap();

    let mut peers = peers.into_iter().zip(b"0123");
    let mut accepted: Vec<_> = peers.by_ref().take(2).collect();
    for (served, waiting) in (3..).zip(peers) {
        drop(accepted.remove(0));
        turn_until(&mut reactor, "the next is served", |stats| {
            assert!(stats.connections <= 2, "never more than connections_max");
            stats.bytes_out == served
        });
        accepted.push(waiting);
    }
    for (peer, byte) in &mut accepted {
        let mut reply = [0; 1];
        peer.read_exact(&mut reply).unwrap();
        assert_eq!(reply, [**byte]);
    }
}

const REQUEST: &[u8] = b"GET /plaintext HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";

/// Sends the rest of a request, runs turns until it is answered, and reads the response, after
/// which the connection stays open. Returns how many turns it took.
#[track_caller]
fn request(reactor: &mut Reactor, stream: &mut TcpStream, rest: &[u8]) -> u64 {
    let out_before = reactor.stats().bytes_out;
    stream.write_all(rest).unwrap();
    let turns = turn_until(reactor, "a response", |stats| stats.bytes_out > out_before);
    let mut response = vec![0; usize::try_from(reactor.stats().bytes_out - out_before).unwrap()];
    stream.read_exact(&mut response).unwrap();
    assert!(response.ends_with(b"Hello, World!"), "{}", response.escape_ascii());
    turns
}

// pitfall: 30
#[test]
fn full_server_evicts_only_the_longest_idle_http_connections() {
    // There are 20 slots. Two more HTTP connections than one scan may evict are kept open after a
    // request, and are idle for as long as eviction requires. A request in progress and an echo
    // connection, whose protocol is never evictable, take the last slots. Then two more peers
    // connect.
    let limits = Limits::default().with_connections_max(EVICTIONS_MAX + 4);
    let mut reactor = Reactor::new(limits).unwrap();
    let site = Site::new();
    let http = reactor.listen(any_port(), move |_| Http::new(site.clone())).unwrap();
    // Nothing is reserved for it: its connection stays for the sake of its protocol.
    let options = ListenOptions::default().with_connections_min(0);
    let echo = reactor.listen_with(any_port(), &options, |_| Echo::new()).unwrap();
    let pass = |reactor: &mut Reactor, ms| {
        let later = Instant::now() + Duration::from_millis(ms);
        turn_until(reactor, "time passes", |_| Instant::now() > later);
    };
    let mut echo_peer = connect(echo);
    exchange(&mut reactor, &mut echo_peer, b"x");
    let mut longest_idle: Vec<TcpStream> = (0..EVICTIONS_MAX).map(|_| connect(http)).collect();
    longest_idle.iter_mut().for_each(|stream| _ = request(&mut reactor, stream, REQUEST));
    pass(&mut reactor, 2);
    let mut idle: Vec<TcpStream> = (0..2).map(|_| connect(http)).collect();
    idle.iter_mut().for_each(|stream| _ = request(&mut reactor, stream, REQUEST));
    pass(&mut reactor, EVICTION_IDLE_MS + 2);
    assert_eq!(
        (reactor.stats().evicted, reactor.stats().accept_pauses),
        (0, 0),
        "nothing is evicted while there are free slots"
    );

    let (first, rest) = REQUEST.split_at(9);
    let mut busy = connect(http);
    busy.write_all(first).unwrap();
    let in_before = reactor.stats().bytes_in;
    turn_until(&mut reactor, "half a request is read", |stats| stats.bytes_in > in_before);
    let (mut new_peer, other_new_peer) = (connect(http), connect(http));
    let turns = request(&mut reactor, &mut new_peer, REQUEST);
    assert!(turns < 10, "{turns} turns until the new peer is served");
    let accepted = EVICTIONS_MAX as u64 + 6;
    turn_until(&mut reactor, "both are accepted", |stats| stats.accepted == accepted);
    drop(other_new_peer);
    assert_eq!(reactor.stats().evicted, EVICTIONS_MAX as u64);
    longest_idle.into_iter().for_each(|stream| check_end(stream, b""));
    idle.iter_mut().for_each(|stream| _ = request(&mut reactor, stream, REQUEST));
    request(&mut reactor, &mut busy, rest);
    exchange(&mut reactor, &mut echo_peer, b"y");
}

// pitfall: 30
#[test]
fn connection_is_evicted_only_after_the_minimum_idle_time() {
    // There is one slot. The peer in the backlog is accepted when the connection has been idle for
    // `EVICTION_IDLE_MS`, and no sooner. Until then the loop scans ten times a second, and sleeps.
    let site = Site::new();
    let limits = Limits::default().with_connections_max(1);
    let (mut reactor, address) = serve(limits, move |_| Http::new(site.clone()));
    let mut first = connect(address);
    request(&mut reactor, &mut first, REQUEST);
    let answered = Instant::now();
    let mut second = connect(address);
    let turns = request(&mut reactor, &mut second, REQUEST);
    let waited = answered.elapsed();
    // The reactor's clock may be a millisecond behind, and it sent the response before we read it.
    assert!(waited >= Duration::from_millis(EVICTION_IDLE_MS - 50), "{waited:?}");
    assert!(
        u128::from(turns) <= 20 + 2 * (waited.as_millis() / TURN_TIMEOUT.as_millis()),
        "{turns} turns in {waited:?}"
    );
    check_end(first, b"");
    assert_eq!((reactor.stats().evicted, reactor.stats().connections), (1, 1));
}

// pitfall: 36
// rule: fairness
#[test]
fn connection_burst_does_not_delay_served_clients() {
    // 200 connects wait in the backlog when a connected client sends a byte. No turn accepts more
    // than 64 (a quarter of a turn, `CONNECTION_COST_BYTES` each), and the client is answered long
    // before all are accepted.
    let (mut reactor, address) = serve(Limits::default(), |_| Echo::new());
    let mut client = connect(address);
    exchange(&mut reactor, &mut client, b"x");
    let _burst: Vec<TcpStream> = (0..200).map(|_| connect(address)).collect();
    client.write_all(b"y").unwrap();
    let mut accepted = vec![reactor.stats().accepted];
    while reactor.stats().accepted < 201 {
        turn_until(&mut reactor, "some are accepted", |stats| {
            stats.accepted > *accepted.last().unwrap()
        });
        accepted.push(reactor.stats().accepted);
        if accepted.len() == 3 {
            assert_eq!(reactor.stats().bytes_out, 2, "answered within two turns");
        }
    }
    let steps = accepted.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(steps.max().unwrap() <= 64, "{accepted:?}");
    client.read_exact(&mut [0; 1]).unwrap();
}

// pitfall: 9
#[test]
fn slots_are_reused_without_mixing_up_2000_short_connections() {
    // Four connections at a time, each with bytes of its own. They end with a FIN after the reply,
    // with a FIN before it, or with a reset.
    let ids = Arc::new(Mutex::new(Vec::new()));
    struct EchoWithId(Arc<Mutex<Vec<String>>>);
    impl Protocol for EchoWithId {
        fn opened(&mut self, cx: &mut Context<'_>) -> Next {
            self.0.lock().unwrap().push(cx.id().to_string());
            Next::Continue
        }

        fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
            cx.send(input);
            Advance::consumed(input.len())
        }
    }
    let shared = Arc::clone(&ids);
    let reactor = ReactorThread::start(Limits::default(), |reactor| {
        vec![reactor.listen(any_port(), move |_| EchoWithId(Arc::clone(&shared))).unwrap()]
    });
    let address = reactor.address();
    thread::scope(|scope| {
        for client in 0..4 {
            scope.spawn(move || {
                for (number, size) in (0..500).zip((1..3000).step_by(37).cycle()) {
                    let bytes = pattern(client * 500 + number, size);
                    let mut stream = connect(address);
                    match number % 3 {
                        0 => check_echo(&mut stream, &bytes),
                        1 => {
                            stream.write_all(&bytes).unwrap();
                            stream.shutdown(Shutdown::Write).unwrap();
                            check_end(stream, &bytes);
                        }
                        _ => {
                            check_echo(&mut stream, &bytes);
                            reset(stream);
                        }
                    }
                }
            });
        }
    });
    let (stopped, stats) = reactor.stop();
    assert_eq!(stopped, Stopped::Graceful);
    assert_eq!((stats.accepted, stats.closed, stats.connections), (2000, 2000, 0));
    let ids = ids.lock().unwrap();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 2000, "every id is unique");
    let slots: HashSet<&str> = ids.iter().filter_map(|id| Some(id.split_once('.')?.0)).collect();
    assert!(slots.len() < 200, "{} slots for four connections at a time", slots.len());
}

#[test]
fn two_paused_listeners_accept_in_turn() {
    // There is one slot, and each of two listeners has twenty connects in its backlog. The accepted
    // peer sends a byte, reads the echo, and closes.
    let mut reactor = Reactor::new(Limits::default().with_connections_max(1)).unwrap();
    let addresses = [0, 1].map(|_| reactor.listen(any_port(), |_| Echo::new()).unwrap());
    let mut waiting =
        addresses.map(|address| (0..20).map(|_| connect(address)).collect::<Vec<TcpStream>>());
    waiting.iter_mut().flatten().for_each(|peer| peer.write_all(b"x").unwrap());
    let mut served = [0, 0];
    for count in 1..=20 {
        turn_until(&mut reactor, "an echo", |stats| stats.bytes_out == count);
        let mut echo = [0];
        for (listener, peers) in waiting.iter_mut().enumerate() {
            let answered = peers.iter_mut().position(|peer| {
                peer.set_nonblocking(true).unwrap();
                matches!(peer.read(&mut echo), Ok(1))
            });
            if let Some(answered) = answered {
                peers.remove(answered);
                served[listener] += 1;
            }
        }
    }
    assert!(served.iter().all(|&count| count >= 8), "{served:?} of twenty");
}

/// The bytes that the kernel keeps for the server's ends of these connections, by /proc/net/tcp:
/// what was sent and is not acknowledged, and what is not sent yet.
#[cfg(target_os = "linux")]
fn kept_by_kernel(server: SocketAddr) -> Vec<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", server.port());
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns[1].ends_with(&port) && columns[3] == "01")
        .map(|columns| usize::from_str_radix(columns[4].split(':').next().unwrap(), 16).unwrap())
        .collect()
}

/// Without a bound, the kernel keeps some megabytes for each of them.
// pitfall: 196
#[cfg(target_os = "linux")]
#[test]
fn peers_that_read_nothing_cost_the_kernel_a_bounded_buffer() {
    const PEERS: usize = 10;
    let text = pattern(1, 3 << 20);
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = reactor
        .listen(any_port(), move |_| SendsOnOpen {
            text: text.clone(),
            close_log: CloseLog::default(),
        })
        .unwrap();
    let peers: Vec<TcpStream> = (0..PEERS).map(|_| connect(address)).collect();
    turn_until(&mut reactor, "all have connected", |stats| stats.accepted == PEERS as u64);
    // Nothing moves any more: each turn finds that its time has passed.
    while reactor.stats().empty_turns < 20 {
        reactor.turn(Some(TURN_TIMEOUT)).unwrap();
    }
    let kept = kept_by_kernel(address);
    assert_eq!(kept.len(), PEERS);
    let most = usize::try_from(UNSENT_BYTES_MAX).unwrap() + READ_BYTES_MAX;
    assert!(kept.iter().all(|&bytes| bytes > 0 && bytes <= most), "{kept:?}");
    drop(peers);
}
