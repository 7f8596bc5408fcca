//! The output, the command line, and servers that would keep a checker for ever.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

#[cfg(unix)]
use super::common::reactor_in_shell;
use super::common::{Program, any_port};
use super::faulty_streams::serve_each;
use super::{MORE_TIME, Outcome, run, run_row, run_rows};

/// Checks that `arguments` end with `code` and one line on standard error that has `words`.
#[track_caller]
fn check_error(arguments: &[&str], code: i32, words: &str) {
    let ending = run(arguments);
    let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
    assert!(line.starts_with("reactor: ") && line.contains(words), "{words:?}: {line}");
    assert_eq!((ending.status.code(), &ending.stdout[..]), (Some(code), &[][..]), "{line}");
}

#[test]
fn wrong_command_line_is_a_usage_error() {
    check_error(&[], 2, "URL");
    check_error(&["127.0.0.1:2000"], 2, "a server is tcp://HOST:PORT");
    check_error(&["https://localhost/"], 2, "needs TLS");
    check_error(&["tcp://127.0.0.1"], 2, "the port is missing");
    check_error(&["tcp://2000", "--only", "wibble"], 2, "no row 'wibble' (--list prints them)");
    check_error(&["udp://2000", "--only", "half-close"], 2, "no row 'half-close'");
    check_error(&["http://2000/", "--prefix", "x"], 2, "--prefix is for echo servers");
    check_error(&["tcp://2000", "--onyl", "echo"], 2, "similar: '--only'");
}

#[test]
fn remote_server_is_refused_before_anything_is_sent() {
    // TEST-NET-1 (RFC 5737): if anything were sent, there would be another error.
    for url in ["tcp://192.0.2.1:9", "udp://192.0.2.1:9", "http://192.0.2.1/"] {
        check_error(&[url], 2, "is not a loopback address: for a server of your own");
    }
    check_error(&["tcp://0.0.0.0:9"], 2, "0.0.0.0:9 is not a loopback address");
}

#[test]
fn absent_server_is_one_line_and_no_rows() {
    let port = TcpListener::bind(any_port()).unwrap().local_addr().unwrap().port();
    check_error(&[&format!("tcp://127.0.0.1:{port}")], 1, "nothing listens there");
    check_error(&[&format!("http://127.0.0.1:{port}/")], 1, "nothing listens there");
    check_error(&["tcp://nowhere.invalid:9"], 1, "nowhere.invalid:9: ");
    if cfg!(unix) {
        check_error(&["unix:/nowhere/socket"], 1, "unix:/nowhere/socket: ");
    }
}

#[test]
fn list_has_every_row_of_every_kind_with_its_chapter() {
    let ending = run(&["--list"]);
    assert_eq!(ending.status.code(), Some(0));
    let headings = ending.stdout.iter().filter(|line| !line.starts_with(' ')).count();
    assert_eq!((headings, ending.stderr.len()), (3, 0));
    for row in ending.stdout.iter().filter(|line| line.starts_with(' ')) {
        assert!(row.contains("; chapter ") && row.ends_with("s)"), "{row}");
    }
}

#[test]
fn failed_row_says_what_was_expected_and_what_came() {
    let server = serve_each(|mut stream| {
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            let _ = stream.write_all(b"not ok 2 - \x1b[31m\n").map(|()| count);
        }
    });
    let (outcome, text) = run_row(&server, "echo", &[]);
    assert_eq!(outcome, Outcome::Failed);
    let lines: Vec<&str> = text.lines().skip(3).collect();
    assert_eq!(lines[0], "not ok 1 - echo: a message comes back byte for byte");
    assert_eq!(lines[1], "  ---");
    assert!(lines[2].starts_with("  expected: \"the 100 bytes that were sent come back"));
    // What a server sends is quoted: it forges no row, and does not reach the terminal.
    let quoted = r#"  came: "\"not ok 2 - \\x1b[31m\\n\" after 0 bytes"#;
    assert!(lines[3].starts_with(quoted), "{}", lines[3]);
    assert_eq!(
        lines[4..],
        ["  source: \"RFC 862\"", "  chapter: \"1, One client at a time\"", "  ..."]
    );
}

/// Rows whose clients wait for a byte, for an end and for room.
const WAITING: [&str; 4] = ["echo", "half-close", "fin-at-once", "pieces"];

// pitfall: 200
#[test]
fn trial_ends_at_a_server_that_never_answers() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let rows = WAITING.map(|row| (row.to_string(), url.clone(), Vec::new())).to_vec();
    run_rows(rows, WAITING.len(), |row, outcome, text| {
        assert_eq!(outcome, Outcome::Failed, "{row}: {text}");
    });
    let udp = UdpSocket::bind(any_port()).unwrap();
    let url = format!("udp://{}", udp.local_addr().unwrap());
    assert_eq!(run_row(&url, "never-reads", &[]).0, Outcome::Failed);
}

// pitfall: 200
#[test]
fn trial_ends_at_a_server_that_sends_without_end() {
    let endless = |unit: &'static [u8], greeting: &'static [u8]| {
        serve_each(move |mut stream: TcpStream| {
            let unit = unit.repeat(64 * 1024 / unit.len());
            let mut sent = stream.write_all(greeting);
            while sent.is_ok() {
                sent = stream.write_all(&unit);
            }
        })
    };
    let noise = endless(b"noise", b"");
    for row in WAITING {
        assert_eq!(run_row(&noise, row, &[]).0, Outcome::Failed, "{row}");
    }
    let http = |server: String| server.replace("tcp://", "http://") + "/";
    for (server, row) in [
        (endless(b"noise", b""), "get"),
        (endless(b"X-A: a\r\n", b"HTTP/1.1 200 OK\r\n"), "get"),
        (endless(b"body", b"HTTP/1.1 200 OK\r\n\r\n"), "length"),
        (endless(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""), "close"),
        (endless(b"HTTP/1.1 100 Continue\r\n\r\n", b""), "get"),
    ] {
        assert_eq!(run_row(&http(server), row, &[]).0, Outcome::Failed, "{row}");
    }
}

#[test]
fn trial_ends_at_a_server_that_closes_at_once() {
    let server = serve_each(drop);
    for row in ["echo", "half-close", "pieces", "never-reads", "never-reads-others", "burst"] {
        assert_eq!(run_row(&server, row, &[]).0, Outcome::Failed, "{row}");
    }
}

#[cfg(unix)]
#[test]
fn closed_standard_output_ends_the_trial_without_a_message() {
    let program = Program::start(&["--udp", "127.0.0.1:0"]);
    let url = format!("udp://{}", program.udp());
    let line = "{ \"$@\"; echo $? >&2; } | head -n 1";
    let ending = Program::spawn(reactor_in_shell(line).args(["try", &url])).wait();
    assert_eq!(ending.stdout, ["TAP version 14"]);
    assert!(["0", "1"].contains(&ending.stderr.join(" ").as_str()), "{:?}", ending.stderr);
}

/// A server whose name has several addresses is found at the one where it listens.
#[test]
fn address_of_a_name_that_has_the_server_is_tried() {
    let program = Program::start(&["--tcp", "127.0.0.1:0"]);
    let url = format!("tcp://localhost:{}", program.tcp().port());
    assert_eq!(run_row(&url, "echo", &MORE_TIME).0, Outcome::Passed);
}
