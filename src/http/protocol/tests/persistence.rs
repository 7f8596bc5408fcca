//! Persistence: which connections persist, the order of pipelined responses, and stops.

use super::*;
use crate::stop_state::StopState;
use crate::time::Time;

// pitfall: 75
// rule: keep-alive
#[test]
fn version_and_connection_options_decide_persistence() {
    // 9112 9.3, 9110 7.6.1: options are whole tokens in any case, in lists and in several fields.
    // `close` overrides `keep-alive`.
    for (version, fields, persists) in [
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "connection: Keep-ALIVE\r\n", true),
        ("1.0", "Connection: foo, keep-alive\r\n", true),
        ("1.0", "Connection: foo\r\nConnection: keep-alive\r\n", true),
        ("1.0", "Connection:\tfoo\t,\tkeep-alive\t\r\n", true),
        ("1.0", "Connection: ,,keep-alive,\r\n", true),
        ("1.0", "Connection: keep-alivex\r\n", false),
        ("1.0", "Connection: xkeep-alive\r\n", false),
        ("1.0", "Connection: keep alive\r\n", false),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Connection: close\r\nConnection: keep-alive\r\n", false),
        ("1.0", "Keep-Alive: timeout=5\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
        ("1.1", "", true),
        ("1.1", "Connection:\r\n", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", true),
        ("1.1", "Connection: xclose\r\n", true),
        ("1.1", "Connection: closex\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "CONNECTION: CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive,close\r\n", false),
        ("1.1", "Connection: close, keep-alive\r\n", false),
        ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", false),
        ("1.1", "Connection: foo\r\nConnection: bar , Close\r\n", false),
    ] {
        let request = format!("GET /plaintext HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        let (connection, end) = if persists {
            (KEEP, PeerCloses)
        } else {
            (CLOSE, ServerCloses(Next::CloseWithoutLinger))
        };
        check("9112 9.3", request, &[plain(connection)], end);
    }
}

// pitfall: 76, 77
// rule: close, pipelining
#[test]
fn pipelined_requests_are_answered_in_order_until_one_closes() {
    // 9112 9.3.2 and 9.6. Some neighbours differ in their responses, so that swapped ones show.
    let (mut requests, mut responses) = (String::new(), Vec::new());
    for index in 0..16 {
        let (target, response) =
            if index % 3 == 0 { ("/", page(KEEP)) } else { ("/plaintext", plain(KEEP)) };
        requests += &line(&format!("GET {target} HTTP/1.1"));
        responses.push(response);
    }
    check("sixteen", requests, &responses, PeerCloses);
    let closing = line("GET / HTTP/1.1\r\nConnection: close");
    let three = get("") + &closing + &get("");
    check(
        "a, b with close, c",
        three,
        &[plain(KEEP), page(CLOSE)],
        ServerCloses(Next::CloseWithoutLinger),
    );
    let old = get("") + "GET / HTTP/1.0\r\n\r\n" + &get("");
    check(
        "a, b in 1.0, c",
        old,
        &[plain(KEEP), page(CLOSE)],
        ServerCloses(Next::CloseWithoutLinger),
    );
    let invalid = get("") + "GET / HTTP/1.1\r\n\r\n";
    check(
        "a, invalid b",
        invalid,
        &[plain(KEEP), error("400 Bad Request", CLOSE)],
        ServerCloses(Next::Close),
    );
    let cut = get("") + "GET / HT";
    check("a, b cut short", cut, &[plain(KEEP), error("400 Bad Request", CLOSE)], CutShort);
}

// rule: stop
#[test]
fn stop_makes_the_next_response_the_last() {
    // 9112 9.5 and 9.6: the response has `close`, and later input is not parsed.
    let mut connection = HttpConnection::new(Site::default());
    connection.receive(get("").as_bytes());
    connection.state.stop = StopState::Draining { until: Time::NEVER };
    connection.receive(&[PLAIN, PLAIN].concat());
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: plain(KEEP) + &plain(CLOSE), end: ServerCloses(Next::Close) }
    );
}

#[test]
fn stop_during_an_upload_makes_its_response_the_last() {
    let mut connection = HttpConnection::new(Site::new());
    connection.receive(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    connection.state.stop = StopState::Draining { until: Time::NEVER };
    connection.receive(b"lo");
    let echoed = response("200 OK", "application/octet-stream", "", CLOSE, "hello");
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: echoed, end: ServerCloses(Next::Close) }
    );
}

// rule: stop
#[test]
fn stop_during_a_skipped_body_makes_its_response_the_last() {
    // 9112 9.6: the last response has `close`.
    let mut connection = HttpConnection::new(Site::new());
    connection.receive((line("POST / HTTP/1.1\r\nContent-Length: 5") + "hel").as_bytes());
    connection.state.stop = StopState::Draining { until: Time::NEVER };
    connection.receive(&[b"lo", PLAIN].concat());
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: not_allowed(CLOSE), end: ServerCloses(Next::Close) }
    );
}

#[test]
fn connection_is_evictable_only_before_and_between_requests() {
    // Part of a head, and part of a body that is being skipped, are requests in progress.
    let mut connection = HttpConnection::new(Site::new());
    assert!(connection.http.is_evictable(), "before the first request");
    for (piece, is_evictable) in [
        ("GET / HT", false),
        ("TP/1.1\r\nHost: a\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab", false),
        ("cd", true),
    ] {
        connection.receive(piece.as_bytes());
        assert_eq!(connection.http.is_evictable(), is_evictable, "{piece}");
    }
}
