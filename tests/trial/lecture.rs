//! The lecture's servers fail exactly the rows that the book's chapters are about.
//!
//! docs/try.md has the same table.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::common::{Program, any_port};
use super::{HANG, MORE_TIME, Outcome, names, run_rows};

/// One client at a time is served: the others wait while it is silent, or does not read.
const TCP: [&str; 3] = ["two-clients", "silent-crowd", "never-reads-others"];

/// What is beyond its 1,024 bytes is lost, and it answers other echoes.
const UDP: [&str; 4] = ["sizes", "huge", "service-port", "own-port"];

/// It looks for an empty line, and answers whatever is before it.
const WEB: [&str; 17] = [
    "head",
    "unread-body",
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

/// Starts `script` on a port that was free a moment ago, and returns when it answers.
fn start(script: &str) -> (Program, u16) {
    let is_udp = script.starts_with("udp");
    let deadline = Instant::now() + HANG;
    loop {
        let port = match is_udp {
            true => UdpSocket::bind(any_port()).unwrap().local_addr().unwrap().port(),
            false => TcpListener::bind(any_port()).unwrap().local_addr().unwrap().port(),
        };
        let path = format!("{}/docs/lecture/{script}", env!("CARGO_MANIFEST_DIR"));
        let program = Program::spawn(Command::new("python3").args([&path, &port.to_string()]));
        while program.log().is_empty() {
            assert!(Instant::now() < deadline, "{script} does not answer");
            if answers(is_udp, port).unwrap_or(false) {
                return (program, port);
            }
            // Between two questions, the servers that start have the processor.
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn answers(is_udp: bool, port: u16) -> io::Result<bool> {
    const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
    const WAIT: Duration = Duration::from_millis(200);
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    let mut answer = [0; 4096];
    let count = if is_udp {
        let socket = UdpSocket::bind(any_port())?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(WAIT))?;
        socket.send(REQUEST)?;
        socket.recv(&mut answer)?
    } else {
        let mut stream = TcpStream::connect_timeout(&server, WAIT)?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.write_all(REQUEST)?;
        stream.read(&mut answer)?
    };
    let answer = &answer[..count];
    Ok(answer.starts_with(b"echo -> GET") || answer.starts_with(b"HTTP/1.1 200"))
}

/// Checks that `script` fails the rows `failed` alone. The rows of a server run one after the
/// other, since it serves one client at a time. `parts` servers share most of the rows.
///
/// A row that must pass has more time: the server may be busy with a client of the row before.
#[track_caller]
fn check_fails(script: &str, scheme: &str, failed: &[&str], may_skip: &[&str], parts: usize) {
    let prefix: &[&str] = if scheme == "http" { &[] } else { &["--prefix", "echo -> "] };
    let rows = names(&format!("{scheme}://9/"));
    assert!(failed.iter().all(|failed| rows.iter().any(|row| row == failed)), "{failed:?}");
    let expected = |row: &str| match failed.contains(&row) {
        true => Outcome::Failed,
        false => Outcome::Passed,
    };
    // These keep the server busy long after they are over.
    let (alone, shared): (Vec<String>, Vec<String>) =
        rows.into_iter().partition(|row| row.starts_with("endless"));
    let shared = (0..parts).map(|part| shared.iter().skip(part).step_by(parts).cloned().collect());
    let groups: Vec<Vec<String>> = shared.chain(alone.into_iter().map(|row| vec![row])).collect();
    thread::scope(|scope| {
        for names in groups {
            scope.spawn(move || {
                let (_server, port) = start(script);
                let url = format!("{scheme}://127.0.0.1:{port}/");
                let rows = names.into_iter().map(|row| {
                    let must_pass = expected(&row) == Outcome::Passed;
                    let more_time = if must_pass { &MORE_TIME[..] } else { &[] };
                    (row, url.clone(), [prefix, more_time].concat())
                });
                run_rows(rows.collect(), 1, |row, outcome, text| {
                    let is_skipped = outcome == Outcome::Skipped && may_skip.contains(&row);
                    assert!(is_skipped || outcome == expected(row), "{script}: {text}");
                });
            });
        }
    });
}

#[test]
fn lecture_tcp_server_fails_the_rows_with_several_clients() {
    check_fails("tcp_echo_server.py", "tcp", &TCP, &[], 3);
}

#[test]
fn lecture_udp_server_fails_long_datagrams_and_loops() {
    check_fails("udp_echo_server.py", "udp", &UDP, &["port-zero", "service-port"], 1);
}

#[test]
fn lecture_web_server_fails_the_rows_about_what_it_does_not_read() {
    check_fails("web_server.py", "http", &WEB, &[], 3);
}
