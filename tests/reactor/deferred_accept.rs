//! Deferred accept on a real kernel: who speaks late, never, or only connects.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use mio_reactor::{Echo, Limits, ListenOptions, Reactor, Stopped};

use crate::common::{check_end, connect, may_open, reset, turn_until};
use crate::{exchange, turn_until_stopped};

fn deferred() -> ListenOptions {
    ListenOptions::default().with_deferred_accept(true)
}

/// Serves echo with deferred accept at `address`.
fn serve_at(address: &str, options: &ListenOptions) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = reactor.listen_with(address, options, |_| Echo::new()).unwrap();
    (reactor, address)
}

fn serve() -> (Reactor, SocketAddr) {
    serve_at("127.0.0.1:0", &deferred())
}

/// Connects a silent peer, has another one served, and returns whether the silent one was left in
/// the kernel. `None`: it took so long that the kernel may have given up waiting.
fn stays_in_kernel(reactor: &mut Reactor, address: SocketAddr) -> Option<(bool, TcpStream)> {
    let begin = Instant::now();
    let accepted_before = reactor.stats().accepted;
    let silent = connect(address);
    exchange(reactor, &mut connect(address), b"hello");
    let stays = reactor.stats().accepted == accepted_before + 1;
    (begin.elapsed() < Duration::from_millis(500)).then_some((stays, silent))
}

// pitfall: 192
#[test]
fn silent_peer_stays_in_the_kernel_until_it_speaks() {
    for ip in ["127.0.0.1:0", "[::1]:0"] {
        if TcpListener::bind(ip).is_err() {
            eprintln!("skipped: this machine has no address {ip}");
            continue;
        }
        // Also on a socket that has listened before.
        for adopted in [false, true] {
            let (mut reactor, address) = match adopted {
                false => serve_at(ip, &deferred()),
                true => {
                    let mut reactor = Reactor::new(Limits::default()).unwrap();
                    let listener = TcpListener::bind(ip).unwrap();
                    let address =
                        reactor.add_listener(listener, &deferred(), |_| Echo::new()).unwrap();
                    (reactor, address)
                }
            };
            let (stays, mut silent) = (0..20)
                .find_map(|_| stays_in_kernel(&mut reactor, address))
                .expect("one of twenty attempts takes less than half a second");
            assert!(stays, "{ip}, adopted: {adopted}");
            exchange(&mut reactor, &mut silent, b"late");
        }
    }
}

// pitfall: 192
#[test]
fn peer_that_never_speaks_is_closed_in_bounded_time() {
    let options = deferred().with_first_byte_timeout(Duration::from_millis(50));
    let (mut reactor, address) = serve_at("127.0.0.1:0", &options);
    let silent = connect(address);
    turn_until(&mut reactor, "it is closed", |stats| stats.closed == 1);
    check_end(silent, b"");
}

// pitfall: 192
#[test]
fn health_check_that_only_connects_finds_the_server_there() {
    let (mut reactor, address) = serve();
    drop(connect(address));
    turn_until(&mut reactor, "its FIN is received", |stats| stats.closed_finished == 1);
    reset(connect(address));
    exchange(&mut reactor, &mut connect(address), b"hello");
}

/// The kernel keeps a backlog of silent peers. For those beyond it, it stores nothing (SYN
/// cookies), and a peer that speaks is served.
// pitfall: 193
#[test]
fn silent_crowd_in_the_kernel_keeps_out_no_peer_that_speaks() {
    const SILENT: usize = 5000;
    if !may_open(2 * SILENT) {
        return;
    }
    let cookies = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies");
    if !matches!(cookies.as_deref().map(str::trim), Ok("1" | "2")) {
        eprintln!("skipped: net.ipv4.tcp_syncookies is not 1: {cookies:?}");
        return;
    }
    let (mut reactor, address) = serve();
    let crowd: Vec<TcpStream> = (0..SILENT).map(|_| connect(address)).collect();
    exchange(&mut reactor, &mut connect(address), b"hello");
    turn_until(&mut reactor, "all are accepted", |stats| stats.accepted > SILENT as u64);
    exchange(&mut reactor, &mut connect(address), b"hello");
    drop(crowd);
}

// pitfall: 194
#[test]
fn peer_connected_before_a_stop_is_served_if_it_speaks_at_once() {
    let (mut reactor, address) = serve();
    let (mut peer, mut silent) = (connect(address), connect(address));
    reactor.stop();
    exchange(&mut reactor, &mut peer, b"just in time");
    drop(peer);
    turn_until_stopped(&mut reactor);
    assert_eq!(reactor.run().unwrap(), Stopped::Graceful);
    // The kernel refuses it when it speaks.
    let spoken = silent.write_all(b"late").and_then(|()| silent.read(&mut [0; 8]));
    assert!(spoken.is_err(), "{spoken:?}");
    assert!(TcpStream::connect(address).is_err());
}
