//! The load on a server, and the checker's own memory, are no more than docs/try.md says.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use super::common::TIMEOUT;
use super::faulty_streams::{echo_without_bound, serve_each};
use super::run_row;

const MIB: usize = 1024 * 1024;

/// What a server has had of its clients.
#[derive(Default)]
struct Load {
    connections: AtomicUsize,
    bytes: AtomicUsize,
    open: AtomicUsize,
}

/// Checks the load of `row` on a server that takes everything, and answers or not.
#[track_caller]
fn check_load(row: &str, answers: bool, connections_max: usize, bytes_max: usize) {
    let load = Arc::new(Load::default());
    let of_server = Arc::clone(&load);
    let url = serve_each(move |mut stream| {
        of_server.open.fetch_add(1, SeqCst);
        of_server.connections.fetch_add(1, SeqCst);
        if answers {
            echo_without_bound(stream, |count| {
                of_server.bytes.fetch_add(count, SeqCst);
            });
        } else {
            let mut bytes = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                of_server.bytes.fetch_add(count, SeqCst);
            }
        }
        of_server.open.fetch_sub(1, SeqCst);
    });
    run_row(&url, row, &[]);
    // What the program has sent is read to its end.
    let deadline = Instant::now() + TIMEOUT;
    while load.open.load(SeqCst) > 0 {
        assert!(Instant::now() < deadline, "{row}: a connection stays open");
        thread::yield_now();
    }
    let (connections, bytes) = (load.connections.load(SeqCst), load.bytes.load(SeqCst));
    assert!((1..=connections_max).contains(&connections), "{row}: {connections} connections");
    assert!((1..=bytes_max).contains(&bytes), "{row}: {bytes} bytes");
}

/// The connection with which the server is found counts, too.
#[test]
fn load_of_a_row_is_what_the_page_says() {
    for answers in [true, false] {
        check_load("silent-crowd", answers, 102, MIB);
        check_load("burst", answers, 65, MIB);
        check_load("short-connections", answers, 201, MIB);
        check_load("pieces", answers, 2, MIB);
        check_load("large-messages", answers, 2, 4 * MIB);
        check_load("half-close-unread", answers, 33, 17 * MIB);
        check_load("never-reads", answers, 2, 64 * MIB);
        check_load("never-reads-narrow", answers, 2, 64 * MIB);
        check_load("never-reads-others", answers, 3, 65 * MIB);
    }
}

// pitfall: 200
#[cfg(target_os = "linux")]
#[test]
fn endless_response_takes_no_memory() {
    use std::io::Write;

    use super::common::{Program, reactor_in_shell};

    // A response of more than this is not read: RESPONSE_BYTES_MAX in docs/limits.md.
    const ADDRESS_SPACE_KIB: usize = 60 * 1024;
    let url = serve_each(|mut stream| {
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while sent.is_ok() {
            sent = stream.write_all(&[b'a'; 64 * 1024]);
        }
    });
    let url = url.replace("tcp://", "http://");
    let line = format!("ulimit -v {ADDRESS_SPACE_KIB}; exec \"$@\"");
    let row = ["try", &url, "--only", "length"];
    let ending = Program::spawn(reactor_in_shell(&line).args(row)).wait();
    assert_eq!(ending.status.code(), Some(1), "{:?}", ending.stderr);
    assert!(ending.stdout[3].starts_with("not ok 1 - length"), "{:?}", ending.stdout);
}
