//! The lecture's servers fail exactly the rows that the book's chapters are about.
//!
//! docs/try.md has the same table.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Instant;

use super::common::{Program, TIMEOUT, any_port};
use super::{Outcome, names, run_rows};

/// One client at a time is served: the others wait while it is silent, or does not read.
const TCP: [&str; 3] = ["two-clients", "silent-crowd", "never-reads-others"];

/// What is beyond its 1,024 bytes is lost, and it answers other echoes.
const UDP: [&str; 4] = ["sizes", "huge", "service-port", "own-port"];

/// It looks for an empty line, and answers whatever is before it.
const WEB: [&str; 16] = [
    "head",
    "two-lengths",
    "bad-length",
    "unknown-coding",
    "cut-body",
    "no-host",
    "space-before-colon",
    "bare-lf",
    "unknown-method",
    "simple-request",
    "garbage",
    "tls",
    "endless-line",
    "endless-head",
    "two-clients",
    "silent-crowd",
];

/// Starts `script` on a port that was free a moment ago.
fn start(script: &str) -> (Program, u16) {
    let is_udp = script.starts_with("udp");
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let port = match is_udp {
            true => UdpSocket::bind(any_port()).unwrap().local_addr().unwrap().port(),
            false => TcpListener::bind(any_port()).unwrap().local_addr().unwrap().port(),
        };
        let path = format!("{}/docs/lecture/{script}", env!("CARGO_MANIFEST_DIR"));
        let program = Program::spawn(Command::new("python3").args([&path, &port.to_string()]));
        while program.log().is_empty() {
            assert!(Instant::now() < deadline, "{script} does not listen");
            if is_listening(is_udp, port) {
                return (program, port);
            }
            thread::yield_now();
        }
    }
}

/// A UDP port is in use once it cannot be bound. A TCP server accepts.
fn is_listening(is_udp: bool, port: u16) -> bool {
    match is_udp {
        true => UdpSocket::bind(("127.0.0.1", port)).is_err(),
        false => TcpStream::connect(("127.0.0.1", port)).is_ok(),
    }
}

/// Checks that `script` fails the rows `failed` alone. Each part of the rows gets a server of its
/// own, and its rows run one after the other: the server serves one client at a time.
#[track_caller]
fn check_fails(script: &str, scheme: &str, failed: &[&str], may_skip: &[&str], parts: usize) {
    let prefix: &[&str] = if scheme == "http" { &[] } else { &["--prefix", "echo -> "] };
    let rows = names(&format!("{scheme}://9/"));
    thread::scope(|scope| {
        for part in 0..parts {
            let rows: Vec<String> = rows.iter().skip(part).step_by(parts).cloned().collect();
            scope.spawn(move || {
                let (program, port) = start(script);
                let url = format!("{scheme}://127.0.0.1:{port}/");
                for (row, (outcome, text)) in run_rows(&url, rows, prefix, 1) {
                    let expected = match failed.contains(&row.as_str()) {
                        true => Outcome::Failed,
                        false => Outcome::Passed,
                    };
                    let is_skipped =
                        outcome == Outcome::Skipped && may_skip.contains(&row.as_str());
                    assert!(is_skipped || outcome == expected, "{script}: {text}");
                }
                drop(program);
            });
        }
    });
}

#[test]
fn lecture_tcp_server_fails_the_rows_with_several_clients() {
    check_fails("tcp_echo_server.py", "tcp", &TCP, &[], 4);
}

#[test]
fn lecture_udp_server_fails_long_datagrams_and_loops() {
    check_fails("udp_echo_server.py", "udp", &UDP, &["port-zero", "service-port"], 1);
}

#[test]
fn lecture_web_server_fails_the_rows_about_what_it_does_not_read() {
    check_fails("web_server.py", "http", &WEB, &[], 4);
}
