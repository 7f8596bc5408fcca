//! HTTP over real sockets: that every answer arrives, whole and in order, however its connection ends.
//!
//! What an answer says, and how a request may be cut, is tested where the protocol is, without sockets.

// The helpers here unwrap as the tests do.
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

/// Reads one answer, which must be whole. What stands there as its date is replaced by `*`.
#[track_caller]
fn read_answer(stream: &mut impl Read) -> String {
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

/// The peer's FIN, which must be next: not another byte, and no reset.
#[track_caller]
fn check_end(stream: &mut impl Read) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.escape_ascii().to_string(), "", "bytes after the last answer");
}

/// Sends `requests` on a connection of their own, and reads as many answers with these statuses, and then the end.
#[track_caller]
fn check(address: SocketAddr, requests: impl AsRef<[u8]>, statuses: &[&str]) {
    let mut stream = connect(address);
    stream.write_all(requests.as_ref()).unwrap();
    for status in statuses {
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "expected {status}: {answer}");
    }
    check_end(&mut stream);
}

/// Asks for `target` and nothing else.
fn fetch(address: SocketAddr, target: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    read_answer(&mut stream)
}

#[test]
fn a_thousand_requests_pass_one_after_the_other() {
    // As a client does that waits for each answer; every tenth request has a body. The last one closes.
    let program = Program::start(&HTTP);
    let mut stream = connect(program.http());
    for index in 0..1000 {
        let (request, status) = match index % 10 {
            9 => ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "405"),
            _ => (PLAIN, "200"),
        };
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "request {index}: {answer}");
        assert!(answer.contains("\r\nConnection: keep-alive\r\n"), "request {index}: {answer}");
    }
    stream.write_all(CLOSING.as_bytes()).unwrap();
    assert!(read_answer(&mut stream).contains("\r\nConnection: close\r\n"));
    check_end(&mut stream);
}

#[test]
fn a_request_may_come_a_byte_at_a_time() {
    // Each byte leaves in a segment of its own, and the kernel may join some of them again.
    let program = Program::start(&HTTP);
    let mut stream = connect(program.http());
    stream.set_nodelay(true).unwrap();
    for byte in CLOSING.as_bytes() {
        stream.write_all(&[*byte]).unwrap();
    }
    assert!(read_answer(&mut stream).ends_with("</html>\n"));
    check_end(&mut stream);
}

#[test]
fn twenty_thousand_pipelined_requests_are_all_answered_in_order() {
    // The client does not read before every buffer on the way is full, or all is written. Targets are mixed, so that
    // a lost, doubled or moved answer shows.
    let program = Program::start(&HTTP);
    let targets = ["/", "/plaintext", "/nowhere"];
    let answers = targets.map(|target| fetch(program.http(), target));
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
        assert_eq!(read_answer(&mut stream), answers[index], "answer {count}");
    }
    assert_eq!(read_answer(&mut stream), answers[0].replace("keep-alive", "close"));
    check_end(&mut stream);
    writing.join().unwrap().unwrap();
}

#[test]
fn a_half_closed_client_gets_all_its_answers_and_then_the_end() {
    // RFC 9112 section 9.6. Three requests and our FIN are there before anything is read. One that is cut short gets 400.
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
                read_answer(&mut stream).starts_with(&format!("HTTP/1.0 {status} ")),
                "{requests:?}"
            );
        }
        check_end(&mut stream);
    }
}

#[test]
fn a_closing_answer_is_followed_by_the_end() {
    // We do not close before the program has; what we sent after the request that closes is not answered.
    let program = Program::start(&HTTP);
    check(program.http(), CLOSING, &["200"]);
    check(program.http(), "GET / HTTP/1.0\r\n\r\n", &["200"]);
    check(program.http(), PLAIN.to_owned() + CLOSING, &["200", "200"]);
    check(program.http(), PLAIN.to_owned() + CLOSING + PLAIN, &["200", "200"]);
    check(program.http(), PLAIN.to_owned() + "nonsense\r\n\r\n", &["200", "400"]);
}

/// Writes `request`, then all of `surplus`, and only then reads. The program, which is done after the first, must take the
/// rest too: what it left unread would turn its close into a reset, which can destroy the answer at our end.
#[track_caller]
fn check_answer_survives(address: SocketAddr, request: &str, surplus: &[u8], status: &str) {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    for piece in surplus.chunks(MIB / 8) {
        stream
            .write_all(piece)
            .unwrap_or_else(|error| panic!("{request:?}: not all was taken: {error}"));
    }
    let answer = read_answer(&mut stream);
    assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "expected {status}: {answer}");
    check_end(&mut stream);
}

#[test]
fn the_last_answer_survives_whatever_is_sent_after_it() {
    // RFC 9112 section 9.6. In each row megabytes are under way when the program has said its last word.
    let program = Program::start(&HTTP);
    let surplus = pattern(2, 10 * MIB);
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", surplus.len());
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na00000\r\n";
    check_answer_survives(program.http(), &post, &surplus, "413");
    check_answer_survives(program.http(), chunked, &surplus, "501");
    check_answer_survives(program.http(), "nonsense\r\n\r\n", &surplus[..MIB], "400");
    check_answer_survives(program.http(), "GET /", &b"a".repeat(MIB), "414");
}

/// Requests that are refused since they can be read in two ways, or not at all, and with what.
fn refused() -> Vec<(String, &'static str)> {
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

#[test]
fn nothing_behind_a_refused_request_is_read_as_one() {
    // RFC 9112 sections 6.1, 6.3 and 9.6. There is one answer and then the end, whether the valid requests behind come with the
    // refused one, or when we have read that it is refused and the program has only to discard what we send.
    let program = Program::start(&HTTP);
    for (request, status) in refused() {
        check(program.http(), request.clone() + PLAIN + CLOSING, &[status]);
        check(program.http(), PLAIN.to_owned() + &request + PLAIN, &["200", status]);
        let mut stream = connect(program.http());
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{request:?}: {answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{request:?}: {answer}");
        stream.write_all(PLAIN.repeat(3).as_bytes()).unwrap();
        check_end(&mut stream);
    }
}

#[test]
fn a_body_that_is_a_request_is_never_served() {
    // RFC 9112 section 6.3. The body is a request for a page that does not exist, and comes in a segment of its own. What is behind
    // it is served.
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
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{start}: {answer}");
        assert_eq!(answer.ends_with(body), start == "POST /echo", "{start}: {answer}");
        assert!(read_answer(&mut stream).ends_with("</html>\n"), "{start}");
        check_end(&mut stream);
    }
}

#[test]
fn the_date_is_that_of_the_answer_also_after_a_pause() {
    // RFC 9110 section 6.6.1. On one connection, with nothing in between that could have kept a clock going.
    let program = Program::start(&HTTP);
    let mut stream = connect(program.http());
    for pause_ms in [0, 2_100] {
        stall(Duration::from_millis(pause_ms));
        let asked = SystemTime::now();
        stream.write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(0);
            let end = head.len() - 1;
            stream.read_exact(&mut head[end..]).unwrap();
        }
        let answered = SystemTime::now();
        let head = String::from_utf8(head).unwrap();
        let date =
            httpdate::parse_http_date(head.split("Date: ").nth(1).unwrap().lines().next().unwrap())
                .unwrap();
        // It has no fraction of a second, and the program's clock may be read a little before ours.
        assert!(
            date + Duration::from_secs(1) > asked - Duration::from_secs(1) && date <= answered,
            "{asked:?}: {head}"
        );
    }
}

#[test]
fn a_client_that_waits_for_leave_is_answered_before_it_sends_its_body() {
    // RFC 9110 section 10.1.1: no body is sent here, and the final answer comes all the same.
    let program = Program::start(&HTTP);
    for (length, status) in [(5, "405"), (10 * MIB, "413")] {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        );
        check(program.http(), head, &[status]);
    }
}

#[test]
fn no_request_stops_the_program() {
    // Each is refused on a connection of its own, as a whole and in two halves; then another one is served as ever.
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
        // While another conversation comes and goes, the first half is read on its own.
        check(program.http(), CLOSING, &["200"]);
        stream.write_all(second.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")), "{request:?}: {answer}");
        check_end(&mut stream);
    }
    assert!(fetch(program.http(), "/plaintext").ends_with("Hello, World!"));
}

#[test]
fn http_is_served_over_ipv6() {
    // Where the machine has no IPv6, there is nothing to show.
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
fn who_only_says_that_much_will_come_is_not_believed() {
    // Six hundred announce a mebibyte each, and send nothing of it. The process may have less than half of that in all, and an
    // allocation that fails would be its end.
    let arguments = ["--http", "127.0.0.1:0"];
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -v 250000 && exec \"$0\" \"$@\""])
        .arg(common::reactor().get_program())
        .args(arguments);
    let mut program = Program::spawn(command.env_remove("RUST_LOG"));
    program.read_addresses(&arguments);
    let announce = |_| {
        let mut stream = connect(program.http());
        stream
            .write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n")
            .unwrap();
        stream
    };
    let _all: Vec<TcpStream> = (0..600).map(announce).collect();
    let mut stream = connect(program.http());
    stream.write_all(b"GET /plaintext HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(b"Hello, World!"));
}
