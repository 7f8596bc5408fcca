//! HTTP over real sockets: every response arrives whole and in order, however its connection ends.
//!
//! The content of responses, and the ways to split a request, are tested without sockets in
//! `src/http/protocol/tests.rs`.

// Helpers of tests may unwrap, as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufReader, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, SystemTime};

use common::{Program, connect, connect_narrow, fill_buffers, pattern, stall};

const HTTP: [&str; 2] = ["--http", "127.0.0.1:0"];
const PLAIN: &str = "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";
const CLOSING: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const MIB: usize = 1024 * 1024;

/// Reads one response, which must be complete, and replaces its date by `*`.
#[track_caller]
fn read_response(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    let (before, date) = head.split_once("Date: ").unwrap();
    format!("{before}Date: *{}{}", &date[29..], String::from_utf8(body).unwrap())
}

/// Checks that the server's FIN comes next: not another byte, and no reset.
#[track_caller]
fn check_end(stream: &mut impl Read) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.escape_ascii().to_string(), "", "bytes after the last response");
}

/// Sends `requests` on a new connection, and reads responses with these statuses, and then the FIN.
#[track_caller]
fn check(address: SocketAddr, requests: impl AsRef<[u8]>, statuses: &[&str]) {
    let mut stream = connect(address);
    stream.write_all(requests.as_ref()).unwrap();
    for status in statuses {
        let response = read_response(&mut stream);
        assert!(
            response.starts_with(&format!("HTTP/1.0 {status} ")),
            "expected {status}: {response}"
        );
    }
    check_end(&mut stream);
}

/// The response to a single request for `target`.
fn fetch(address: SocketAddr, target: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_response(&mut stream)
}

// pitfall: 75
#[test]
fn thousand_sequential_requests_share_one_connection() {
    // The client waits for each response before its next request. Every tenth request has a body.
    // The last one closes.
    let program = Program::start(&HTTP);
    let mut stream = connect(program.http());
    for index in 0..1000 {
        let (request, status) = match index % 10 {
            9 => ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "405"),
            _ => (PLAIN, "200"),
        };
        stream.write_all(request.as_bytes()).unwrap();
        let response = read_response(&mut stream);
        assert!(
            response.starts_with(&format!("HTTP/1.0 {status} ")),
            "request {index}: {response}"
        );
        assert!(response.contains("\r\nConnection: keep-alive\r\n"), "request {index}: {response}");
    }
    stream.write_all(CLOSING.as_bytes()).unwrap();
    assert!(read_response(&mut stream).contains("\r\nConnection: close\r\n"));
    check_end(&mut stream);
}

#[test]
fn request_in_single_bytes_is_answered() {
    // Each byte is sent in a segment of its own. The kernel may join some of them again.
    let program = Program::start(&HTTP);
    let mut stream = connect(program.http());
    stream.set_nodelay(true).unwrap();
    for byte in CLOSING.as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    assert!(read_response(&mut stream).ends_with("</html>\n"));
    check_end(&mut stream);
}

// pitfall: 85
// rule: pipelining
#[test]
fn twenty_thousand_pipelined_requests_are_all_answered_in_order() {
    // The client does not read before every buffer on the way is full, or everything is written.
    // Targets are mixed, so that a lost, repeated or moved response shows.
    let program = Program::start(&HTTP);
    let targets = ["/", "/plaintext", "/nowhere"];
    let responses = targets.map(|target| fetch(program.http(), target));
    let order: Vec<usize> =
        pattern(1, 20_000).into_iter().map(|byte| usize::from(byte) % targets.len()).collect();
    let mut requests = String::new();
    for &index in &order {
        requests += &format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", targets[index]);
    }
    requests += CLOSING;
    let mut stream = connect_narrow(program.http());
    let sent = fill_buffers(&mut stream, requests.as_bytes());
    let mut writer = stream.try_clone().unwrap();
    let rest = requests.split_off(sent);
    let writing = thread::spawn(move || writer.write_all(rest.as_bytes()));
    let mut stream = BufReader::new(stream);
    for (count, &index) in order.iter().enumerate() {
        assert_eq!(read_response(&mut stream), responses[index], "response {count}");
    }
    assert_eq!(read_response(&mut stream), responses[0].replace("keep-alive", "close"));
    check_end(&mut stream);
    writing.join().unwrap().unwrap();
}

// pitfall: 21
// rule: half-close
#[test]
fn half_closed_client_receives_every_response_and_then_fin() {
    // RFC 9112 section 9.6. All requests and the FIN are sent before any response is read. A
    // request that is cut short gets 400.
    let program = Program::start(&HTTP);
    for (requests, statuses) in [
        (PLAIN.repeat(3), &["200", "200", "200"][..]),
        (PLAIN.repeat(2) + &CLOSING[..20], &["200", "200", "400"]),
        (String::new(), &[]),
    ] {
        let mut stream = connect(program.http());
        stream.write_all(requests.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        for status in statuses {
            assert!(
                read_response(&mut stream).starts_with(&format!("HTTP/1.0 {status} ")),
                "{requests:?}"
            );
        }
        check_end(&mut stream);
    }
}

// pitfall: 76, 77
#[test]
fn closing_response_is_followed_by_fin() {
    // The client does not close first. A request after the closing one gets no response.
    let program = Program::start(&HTTP);
    check(program.http(), CLOSING, &["200"]);
    check(program.http(), "GET / HTTP/1.0\r\n\r\n", &["200"]);
    check(program.http(), PLAIN.to_owned() + CLOSING, &["200", "200"]);
    check(program.http(), PLAIN.to_owned() + CLOSING + PLAIN, &["200", "200"]);
    check(program.http(), PLAIN.to_owned() + "nonsense\r\n\r\n", &["200", "400"]);
}

/// Writes `request`, then all of `surplus`, and only then reads. The program closes after
/// `request`, but must read the rest too: bytes that it left unread would turn its close into a
/// reset, which can destroy the response in the client's receive buffer.
#[track_caller]
fn check_response_survives(address: SocketAddr, request: &str, surplus: &[u8], status: &str) {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    for piece in surplus.chunks(MIB / 8) {
        stream
            .write_all(piece)
            .unwrap_or_else(|error| panic!("{request:?}: not everything was taken: {error}"));
    }
    let response = read_response(&mut stream);
    assert!(response.starts_with(&format!("HTTP/1.0 {status} ")), "expected {status}: {response}");
    check_end(&mut stream);
}

// pitfall: 22, 83
// rule: request-line-length, chunked, staged-close
#[test]
fn last_response_survives_whatever_is_sent_after_it() {
    // RFC 9112 section 9.6. In each row megabytes are still being sent when the program has sent
    // its last response.
    let program = Program::start(&HTTP);
    let surplus = pattern(2, 10 * MIB);
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", surplus.len());
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na00000\r\n";
    check_response_survives(program.http(), &post, &surplus, "413");
    check_response_survives(program.http(), chunked, &surplus, "501");
    check_response_survives(program.http(), "nonsense\r\n\r\n", &surplus[..MIB], "400");
    check_response_survives(program.http(), "GET /", &b"a".repeat(MIB), "414");
}

/// Requests that are rejected because they are ambiguous or invalid, and the status of each.
fn rejected_requests() -> Vec<(String, &'static str)> {
    let posts = [
        ("Transfer-Encoding: chunked\r\n", "501"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "501"),
        ("Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n", "501"),
        ("Transfer-Encoding:\r\nContent-Length: 0\r\n", "501"),
        ("Transfer-Encoding : chunked\r\n", "400"),
        ("Transfer-Encoding: chunked\r\n identity\r\n", "400"),
        ("Content-Length: 5\r\nContent-Length: 0\r\n", "400"),
        ("Content-Length: 0\r\ncontent-length: 0\r\n", "400"),
        ("Content-Length: 5, 5\r\n", "400"),
        ("Content-Length: +5\r\n", "400"),
        ("Content-Length: 0x5\r\n", "400"),
        ("Content-Length: 18446744073709551621\r\n", "400"),
        ("Content-Length: 1048577\r\n", "413"),
        ("Content-Length: 5\n", "400"),
        ("X: y\rContent-Length: 5\r\n", "400"),
        ("X: y\0\r\nContent-Length: 5\r\n", "400"),
        ("Content-Length 5\r\n", "400"),
        ("Host: b\r\n", "400"),
        (&"X: y\r\n".repeat(100), "431"),
        (&format!("X: {}\r\n", "y".repeat(20_000)), "431"),
    ]
    .map(|(fields, status)| {
        (format!("POST /echo HTTP/1.1\r\nHost: a\r\n{fields}\r\n0\r\n\r\n"), status)
    });
    let others = [
        ("POST /echo HTTP/1.0\r\n\r\nhello", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\n\n", "400"),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", "501"),
        (&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(10_000)), "414"),
        (&"\r\n".repeat(20), "400"),
        ("\n", "400"),
    ]
    .map(|(request, status)| (request.to_owned(), status));
    posts.into_iter().chain(others).collect()
}

// rule: space-before-colon, folded-line, head-size, one-length, repeated-length, coding-and-length
// rule: behind-refusal
#[test]
fn nothing_after_a_rejected_request_is_parsed() {
    // RFC 9112 sections 6.1, 6.3 and 9.6. There is one response and then the FIN. The valid
    // requests after the rejected one are sent with it, or once its response has been read. Then
    // the program only has to discard them.
    let program = Program::start(&HTTP);
    for (request, status) in rejected_requests() {
        check(program.http(), request.clone() + PLAIN + CLOSING, &[status]);
        check(program.http(), PLAIN.to_owned() + &request + PLAIN, &["200", status]);
        let mut stream = connect(program.http());
        stream.write_all(request.as_bytes()).unwrap();
        let response = read_response(&mut stream);
        assert!(response.starts_with(&format!("HTTP/1.0 {status} ")), "{request:?}: {response}");
        assert!(response.contains("\r\nConnection: close\r\n"), "{request:?}: {response}");
        stream.write_all(PLAIN.repeat(3).as_bytes()).unwrap();
        check_end(&mut stream);
    }
}

// rule: bytes-behind-body
#[test]
fn body_that_looks_like_a_request_is_not_served() {
    // RFC 9112 section 6.3. The body is a request for a page that does not exist, and is sent in a
    // segment of its own. The request after it is served.
    let program = Program::start(&HTTP);
    let body = "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";
    for (start, status) in [
        ("POST /", "405"),
        ("PUT /nowhere", "405"),
        ("DELETE /echo", "405"),
        ("GET /plaintext", "200"),
        ("POST /echo", "200"),
    ] {
        let mut stream = connect(program.http());
        stream.set_nodelay(true).unwrap();
        write!(stream, "{start} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())
            .unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        stream.write_all(CLOSING.as_bytes()).unwrap();
        let response = read_response(&mut stream);
        assert!(response.starts_with(&format!("HTTP/1.0 {status} ")), "{start}: {response}");
        assert_eq!(response.ends_with(body), start == "POST /echo", "{start}: {response}");
        assert!(read_response(&mut stream).ends_with("</html>\n"), "{start}");
        check_end(&mut stream);
    }
}

// rule: date
#[test]
fn date_is_that_of_the_response_also_after_a_pause() {
    // RFC 9110 section 6.6.1. On one connection, and without other events in between that would
    // update a clock.
    let program = Program::start(&HTTP);
    let mut stream = connect(program.http());
    for pause_ms in [0, 2_100] {
        stall(Duration::from_millis(pause_ms));
        let before = SystemTime::now();
        stream.write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(0);
            let end = head.len() - 1;
            stream.read_exact(&mut head[end..]).unwrap();
        }
        let after = SystemTime::now();
        let head = String::from_utf8(head).unwrap();
        let date =
            httpdate::parse_http_date(head.split("Date: ").nth(1).unwrap().lines().next().unwrap())
                .unwrap();
        // It has no fraction of a second, and the program may read its clock a little before the
        // test does.
        assert!(
            date + Duration::from_secs(1) > before - Duration::from_secs(1) && date <= after,
            "{before:?}: {head}"
        );
    }
}

// pitfall: 84
// rule: expect-continue
#[test]
fn expect_continue_is_answered_before_the_body() {
    // RFC 9110 section 10.1.1: the final response is sent although no body is.
    let program = Program::start(&HTTP);
    for (length, status) in [(5, "405"), (10 * MIB, "413")] {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        );
        check(program.http(), head, &[status]);
    }
}

// pitfall: 71
// rule: space-in-target
#[test]
fn no_request_ends_the_program() {
    // Each is rejected on a connection of its own, whole and in two halves. In the end another
    // request is served.
    let program = Program::start(&HTTP);
    for (request, status) in [
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET / HTTP/1.1 HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.2 HTTP/1.2\r\n\r\n", "400"),
        ("GET / HTTP/2.0\r\n\r\n", "505"),
        ("POST /\r\n", "400"),
        ("\0\0\0\0\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n", "413"),
    ] {
        check(program.http(), request, &[status]);
        let (first, second) = request.split_at(request.len() / 2);
        let mut stream = connect(program.http());
        stream.write_all(first.as_bytes()).unwrap();
        // By the end of this exchange, the program has read the first half on its own.
        check(program.http(), CLOSING, &["200"]);
        stream.write_all(second.as_bytes()).unwrap();
        let response = read_response(&mut stream);
        assert!(response.starts_with(&format!("HTTP/1.0 {status} ")), "{request:?}: {response}");
        check_end(&mut stream);
    }
    assert!(fetch(program.http(), "/plaintext").ends_with("Hello, World!"));
}

#[test]
fn http_is_served_over_ipv6() {
    // A machine without IPv6 skips this test.
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    let program = Program::start(&["--http", "[::1]:0", "--http", "127.0.0.1:0"]);
    let addresses = program.addresses("http");
    assert!(
        addresses[0].is_ipv6() && addresses[1].is_ipv4(),
        "in the order of the command line: {addresses:?}"
    );
    assert_eq!(fetch(addresses[0], "/"), fetch(addresses[1], "/"));
    check(addresses[0], PLAIN.to_owned() + CLOSING, &["200", "200"]);
}

#[test]
#[cfg(target_os = "linux")]
fn announced_body_allocates_no_memory() {
    // Six hundred clients announce a mebibyte each, and send none of it. The process may use less
    // than half of that in total, and a failed allocation would end it.
    let arguments = ["--http", "127.0.0.1:0"];
    let mut command = common::reactor_in_shell("ulimit -v 250000 && exec \"$@\"");
    let mut program = Program::spawn(command.args(arguments));
    program.read_addresses(&arguments);
    let announce = |_| {
        let mut stream = connect(program.http());
        stream
            .write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n")
            .unwrap();
        stream
    };
    let _connections: Vec<TcpStream> = (0..600).map(announce).collect();
    let mut stream = connect(program.http());
    stream.write_all(b"GET /plaintext HTTP/1.0\r\n\r\n").unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    assert!(response.ends_with(b"Hello, World!"));
}

// pitfall: 131
// rule: early-refusal
#[test]
fn what_is_no_http_is_refused_at_once_and_named_in_the_log() {
    // RFC 9112 section 3. Each client sends what its protocol begins with, and waits for an answer.
    let program = Program::start(&[&HTTP[..], &["--log", "debug"]].concat());
    for (first_bytes, status, name) in [
        (&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], "400", "a TLS handshake"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505", "HTTP/2 with prior knowledge"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "400", "a PROXY protocol header, version 1"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "400", "a PROXY protocol header, version 2"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "400", "SSH"),
        (b"\0\0\0\x85\xffSMBr\0\0\0\0", "400", "SMB"),
        (b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0", "400", "RDP"),
    ] {
        let mut stream = connect(program.http());
        stream.write_all(first_bytes).unwrap();
        let response = read_response(&mut stream);
        assert!(response.starts_with(&format!("HTTP/1.0 {status} ")), "{name}: {response}");
        check_end(&mut stream);
        let line = program.wait_for_log(&format!("looks like {name}"));
        assert!(line.contains("request refused: ") && line.contains("DEBUG"), "{line}");
    }
}
