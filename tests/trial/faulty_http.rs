//! HTTP servers, each with one fault, and the row that shows it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::faulty_streams::{accept_ten, counter, serve_each, serve_in_turn, serve_while};
use super::{MORE_TIME, Outcome, check_each_fails, run_row};

const BODY: &str = "Hello world!\n";

/// Returns a response that closes or persists.
fn response(persists: bool) -> Vec<u8> {
    let connection = if persists { "keep-alive" } else { "close" };
    let length = BODY.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{BODY}")
        .into_bytes()
}

/// Reads up to the end of a head, and returns it with what is behind it. `None`: the connection has
/// ended before.
fn read_head(mut stream: &TcpStream, mut input: Vec<u8>) -> Option<(String, Vec<u8>)> {
    let mut bytes = [0; 4096];
    loop {
        if let Some(at) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            let behind = input.split_off(at + 4);
            return Some((String::from_utf8_lossy(&input).into_owned(), behind));
        }
        let count = stream.read(&mut bytes).ok().filter(|&count| count > 0)?;
        input.extend_from_slice(&bytes[..count]);
    }
}

/// Answers one request as the lecture's server does: whatever stands before an empty line.
fn answer_once(mut stream: TcpStream) {
    if read_head(&stream, Vec::new()).is_some() {
        let _ = stream.write_all(&response(false));
    }
}

/// Answers every head, until the client asks for the end. Bodies are none of its business.
fn answer_every_head(mut stream: TcpStream) {
    let mut input = Vec::new();
    while let Some((head, behind)) = read_head(&stream, input) {
        let persists = !head.contains("Connection: close");
        if stream.write_all(&response(persists)).is_err() || !persists {
            break;
        }
        input = behind;
    }
}

/// Answers with these bytes, and closes.
fn answer_with(bytes: impl Into<Vec<u8>>) -> String {
    let bytes = bytes.into();
    serve_each(move |mut stream| {
        if read_head(&stream, Vec::new()).is_some() {
            let _ = stream.write_all(&bytes);
        }
    })
}

/// Answers, and leaves the connection open.
fn keep_open(mut stream: TcpStream) {
    if read_head(&stream, Vec::new()).is_some() {
        let _ = stream.write_all(&response(false));
    }
    std::mem::forget(stream);
}

/// Answers the first of several requests that come at once, and forgets the others.
fn answer_the_first(mut stream: TcpStream) {
    while read_head(&stream, Vec::new()).is_some() {
        let _ = stream.write_all(&response(true));
    }
}

/// Takes a FIN for the end of everything.
fn close_at_fin(mut stream: TcpStream) {
    if read_head(&stream, Vec::new()).is_none() {
        return;
    }
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    if !matches!(stream.read(&mut [0; 16]), Ok(0)) {
        let _ = stream.write_all(&response(false));
    }
}

/// Takes one read for a request.
fn answer_a_read(mut stream: TcpStream) {
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).unwrap_or(0);
    let is_whole = bytes[..count].ends_with(b"\r\n\r\n");
    let status = if is_whole { "200 OK" } else { "500 Internal Server Error" };
    let _ = write!(stream, "HTTP/1.0 {status}\r\nContent-Length: 0\r\n\r\n");
    // Unread input would make the close a reset.
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

/// Reads, and never answers.
fn stay_silent(mut stream: TcpStream) {
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

/// Takes each CR and each LF for the end of a line, and each line for a field. It waits for the
/// body.
fn wait_for_any_length(mut stream: TcpStream) {
    let Some((head, behind)) = read_head(&stream, Vec::new()) else { return };
    let mut lengths = head.split(['\r', '\n']).filter_map(|line| {
        let value = line.trim().strip_prefix("Content-Length:")?;
        value.trim().parse().ok()
    });
    let length = lengths.next_back().unwrap_or(0_usize);
    let mut body = vec![0; length.saturating_sub(behind.len())];
    if stream.read_exact(&mut body).is_ok() {
        let _ = stream.write_all(&response(false));
    }
}

/// Keeps every response in memory until the peer reads.
fn answer_without_bound(mut stream: TcpStream) {
    let (queue, responses) = mpsc::channel::<usize>();
    let mut writer = stream.try_clone().unwrap();
    // Long responses: fewer have to be read to see that more has been kept than a kernel would.
    let body = "a".repeat(64 * 1024);
    let length = body.len();
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    thread::spawn(move || {
        let mut responses = responses.into_iter().flat_map(|count| 0..count);
        responses.try_for_each(|_| writer.write_all(response.as_bytes()))
    });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        let _ = queue.send(bytes[..count].iter().filter(|&&byte| byte == b'G').count());
    }
}

/// Returns a server that stops accepting after `count` connections of which `counts` is true.
fn accept_at_most(count: usize, counts: impl Fn(&TcpStream) -> bool + Send + 'static) -> String {
    let mut goes_on = counter(count);
    serve_while(move |stream| {
        let goes_on = !counts(&stream) || goes_on();
        answer_every_head(stream);
        goes_on
    })
}

/// Returns whether the peer ends the connection without a byte.
fn is_silent(stream: &TcpStream) -> bool {
    !matches!(stream.peek(&mut [0]), Ok(1))
}

/// Returns whether every head was whole and every response was taken. The connection with which the
/// server was found, without a byte, is none that ends badly.
fn ends_well(mut stream: TcpStream) -> bool {
    if is_silent(&stream) {
        return true;
    }
    let mut input = Vec::new();
    while let Some((head, behind)) = read_head(&stream, input) {
        let persists = !head.contains("Connection: close");
        if stream.write_all(&response(persists)).is_err() {
            return false;
        }
        if !persists {
            return true;
        }
        input = behind;
    }
    false
}

/// Answers HEAD without a Content-Length, as a server may.
fn answer_head_without_length(mut stream: TcpStream) {
    let mut input = Vec::new();
    while let Some((head, behind)) = read_head(&stream, input) {
        let persists = !head.contains("Connection: close");
        let response = match head.starts_with("HEAD ") {
            true => b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
            false => response(persists),
        };
        if stream.write_all(&response).is_err() || !persists {
            break;
        }
        input = behind;
    }
}

// RFC 9110 section 9.3.2: a server may leave out what depends on the body.
#[test]
fn response_to_head_may_lack_a_length() {
    let url = serve_each(answer_head_without_length).replace("tcp://", "http://");
    for row in ["head", "pipelining"] {
        let (outcome, text) = run_row(&url, row, &MORE_TIME);
        assert_eq!(outcome, Outcome::Passed, "{text}");
    }
}

// pitfall: 201
#[test]
fn every_row_of_http_is_failed_by_a_server_with_its_fault() {
    let http = |server: String| server.replace("tcp://", "http://") + "/";
    let once = || serve_each(answer_once);
    let longer = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\nHello world!\n";
    let promise = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok";
    let faulty = [
        ("get", answer_with("HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")),
        ("length", answer_with(longer)),
        ("head", once()),
        ("persistence", answer_with(promise)),
        ("close", serve_each(keep_open)),
        ("pipelining", serve_each(answer_the_first)),
        ("half-close", serve_each(close_at_fin)),
        ("unread-body", once()),
        ("drip", serve_each(answer_a_read)),
        ("body", serve_each(answer_every_head)),
        ("chunked-body", serve_each(answer_every_head)),
        ("continue", serve_each(wait_for_any_length)),
        ("two-lengths", once()),
        ("bad-length", once()),
        ("length-and-coding", serve_each(answer_every_head)),
        ("unknown-coding", once()),
        ("cut-body", once()),
        ("no-host", once()),
        ("space-before-colon", once()),
        ("folded-field", serve_each(wait_for_any_length)),
        ("bare-cr", serve_each(wait_for_any_length)),
        ("bare-lf", once()),
        ("unknown-method", once()),
        ("simple-request", once()),
        ("garbage", once()),
        ("tls", once()),
        ("http2", serve_each(stay_silent)),
        ("endless-line", once()),
        ("endless-head", once()),
        ("two-clients", serve_in_turn(answer_once)),
        ("silent-crowd", serve_in_turn(answer_once)),
        ("burst", accept_ten(answer_once)),
        ("abandoned", accept_at_most(10, is_silent)),
        ("short-connections", accept_at_most(100, |_| true)),
        ("reset", serve_while(ends_well)),
        ("reset-unread", serve_while(ends_well)),
        ("never-reads", serve_each(answer_without_bound)),
        ("never-reads-others", serve_in_turn(answer_every_head)),
    ];
    check_each_fails(&faulty.map(|(row, server)| (row, http(server))), &[]);
}
