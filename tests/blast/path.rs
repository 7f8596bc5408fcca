//! Paths whose replies come late, and replies that this machine itself drops.

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{count, figures};
use crate::common::any_port;

/// Runs `load` against a UDP echo server at the end of a path whose round trip takes `latency`.
fn at_the_end_of_a_path<T>(latency: Duration, load: impl FnOnce(&str) -> T) -> T {
    let socket = UdpSocket::bind(any_port()).unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let stop_requested = stop.clone();
    let server = thread::spawn(move || {
        let (mut buffer, mut under_way) = (vec![0; 65_536], VecDeque::new());
        while !stop_requested.load(Ordering::Relaxed) {
            let next_at = under_way.front().map(|&(arrives_at, _, _)| arrives_at);
            let wait = next_at.map_or(latency, |at: Instant| at.duration_since(Instant::now()));
            socket.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).unwrap();
            // Otherwise the timeout is over.
            if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                under_way.push_back((Instant::now() + latency, buffer[..length].to_vec(), peer));
            }
            while let Some((arrives_at, reply, peer)) = under_way.pop_front() {
                if arrives_at > Instant::now() {
                    under_way.push_front((arrives_at, reply, peer));
                    break;
                }
                let _ = socket.send_to(&reply, peer); // it fails if the client is gone
            }
        }
    });
    let result = load(&url);
    stop.store(true, Ordering::Relaxed);
    server.join().unwrap();
    result
}

// pitfall: 160
#[test]
fn long_path_carries_no_more_than_its_window() {
    // In 2 s, seven windows of 4 fit the path. One window more may be sent if this machine holds up
    // the server for longer than the patience is above the latency. With a patience of 100 ms it
    // would be 20 windows.
    at_the_end_of_a_path(Duration::from_millis(300), |url| {
        let (figures, status) = figures(url, &["--window", "4", "--duration", "2s"]);
        assert_eq!(status, 0, "{figures}");
        assert!((8..=32).contains(&count(&figures, "sent")), "{figures}");
        assert_eq!((count(&figures, "lost"), count(&figures, "duplicates")), (0, 0), "{figures}");
    });
}

// pitfall: 160
#[test]
fn first_replies_are_awaited_on_a_path_longer_than_the_load() {
    // The replies come after the end, when they are still awaited.
    at_the_end_of_a_path(Duration::from_millis(400), |url| {
        let (figures, status) = figures(url, &["--window", "3", "--duration", "100ms"]);
        assert_eq!((status, count(&figures, "sent")), (0, 3), "{figures}");
        let received = ["received", "received_after_end"].map(|name| count(&figures, name));
        assert_eq!(received, [3, 3], "{figures}");
    });
}

// pitfall: 161
#[cfg(target_os = "linux")]
#[test]
fn replies_dropped_by_our_own_kernel_are_counted() {
    use crate::common::{Program, TIMEOUT, reactor};

    // While the load generator is suspended, its first message is answered so often that no receive
    // buffer holds all replies. Each of them either arrives, or is dropped and counted.
    const REPLIES: u64 = 4000;
    let socket = UdpSocket::bind(any_port()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    let arguments = ["--window", "1", "--size", "60000", "--duration", "1h", "--json"];
    let program = Program::spawn(reactor().args(["blast", &url]).args(arguments));
    let mut message = vec![0; 65_536];
    let (length, peer) = socket.recv_from(&mut message).unwrap();
    program.while_suspended(|| {
        for _ in 0..REPLIES {
            socket.send_to(&message[..length], peer).unwrap();
        }
    });
    // The second message shows that the first reply was received. Those behind it follow while the
    // reply to the second is awaited.
    socket.recv_from(&mut message).unwrap();
    program.signal("TERM");
    let ending = program.wait();
    let figures: serde_json::Value = serde_json::from_str(&ending.stdout[0]).unwrap();
    let [received, duplicates, dropped] =
        ["received", "duplicates", "dropped"].map(|name| count(&figures, name));
    assert!(dropped > 0, "{figures}");
    assert_eq!(received + duplicates + dropped, REPLIES, "{figures}");
}
