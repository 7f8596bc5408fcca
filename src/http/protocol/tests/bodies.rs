//! Bodies of requests: where they end, which are skipped, and which are taken.

use super::*;
use crate::http::limits::{BODY_READ_BYTES_MAX, CONTENT_LENGTH_DIGITS_MAX};
use crate::memory::Memory;

// pitfall: 78
// rule: unread-body, body-without-length, bytes-behind-body, close
#[test]
fn request_body_is_skipped_whatever_the_response() {
    // 9112 9.3 and 6.3: the next request begins exactly after the body. The body looks like a
    // request itself.
    let body = "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";
    let fields = format!("Host: a\r\nContent-Length: {}\r\n", body.len());
    for (start, response) in [
        ("POST /", not_allowed(KEEP)),
        ("PUT /nowhere", not_allowed(KEEP)),
        ("DELETE /", not_allowed(KEEP)),
        ("GET /plaintext", plain(KEEP)),
        ("GET /nowhere", error("404 Not Found", KEEP)),
        ("HEAD /plaintext", without_body(&plain(KEEP))),
    ] {
        let request = format!("{start} HTTP/1.1\r\n{fields}\r\n{body}");
        check("9112 6.3", &request, std::slice::from_ref(&response), PeerCloses);
        check("9112 6.3", request + &get(""), &[response, plain(KEEP)], PeerCloses);
    }
    let closing = format!("POST / HTTP/1.1\r\n{fields}Connection: close\r\n\r\n{body}");
    check("9112 9.6", closing, &[not_allowed(CLOSE)], ServerCloses(Next::CloseWithoutLinger));
    let old = format!("POST / HTTP/1.0\r\n{fields}\r\n{body}");
    check("1945 8.3", old, &[not_allowed(CLOSE)], ServerCloses(Next::CloseWithoutLinger));
    check("9112 6.3: no body", line("POST / HTTP/1.1"), &[not_allowed(KEEP)], PeerCloses);
    check(
        "9112 6.3: empty body",
        line("POST / HTTP/1.1\r\nContent-Length: 0"),
        &[not_allowed(KEEP)],
        PeerCloses,
    );
    check_rejected(
        "1945 7.2.2: body without a length",
        "POST / HTTP/1.0\r\n\r\n",
        "400 Bad Request",
    );
    check_rejected(
        "1945 7.2.2: body without a length",
        "PUT / HTTP/1.0\r\n\r\n",
        "400 Bad Request",
    );
}

// pitfall: 153
// rule: no-memory
#[test]
fn body_for_which_there_is_no_memory_is_503_before_it_comes() {
    // 9110 15.6.4: the server cannot handle the request at present.
    let upload = |bytes: usize| {
        let fields = format!("Content-Length: {bytes}\r\nConnection: keep-alive");
        line(&format!("POST /echo HTTP/1.1\r\n{fields}"))
    };
    let mut connection = HttpConnection::new(Site::new());
    connection.state.memory = Memory::new(80_000);
    // All of a body counts from its beginning, so that one that has begun is not refused.
    connection.receive(upload(60_000).as_bytes());
    connection.receive(&[b'x'; 30_000]);
    assert_eq!(connection.state.memory.held(), 60_000);
    connection.receive(&[b'x'; 30_000]);
    assert_eq!(connection.state.memory.held(), 0, "it was sent at once");
    connection.output.clear();
    connection.receive(upload(60_001).as_bytes());
    let output = String::from_utf8_lossy(&connection.output);
    assert!(output.starts_with("HTTP/1.0 503 "), "{output}");
    assert_eq!(connection.ended, Some(Next::Close));
    assert_eq!(connection.state.stats.memory_refusals, 1);
}

#[test]
fn memory_of_a_long_response_counts_until_it_is_sent() {
    let length = 2 * BODY_READ_BYTES_MAX;
    let mut connection = HttpConnection::new(Site::new());
    let request = line(&format!("POST /echo HTTP/1.1\r\nContent-Length: {length}"));
    connection.receive(request.as_bytes());
    let HttpConnection { http, state, effects, meta, .. } = &mut connection;
    let body = vec![b'x'; length];
    let mut next = http.advance(&body, &mut context(state, effects, meta)).next;
    assert_eq!((next, state.memory.held()), (Next::Pause, length));
    while next == Next::Pause {
        assert_eq!(state.memory.held(), length);
        next = http.output_low(&mut context(state, effects, meta));
    }
    assert_eq!(state.memory.held(), 0);
}

// rule: unread-body
#[test]
fn largest_body_is_skipped_and_a_larger_one_is_413_at_its_head() {
    // The larger body is rejected before any of it is received.
    let head = |length: u64| line(&format!("POST / HTTP/1.1\r\nContent-Length: {length}"));
    let body = "x".repeat(usize::try_from(BODY_BYTES_MAX).unwrap());
    check("largest body", head(BODY_BYTES_MAX) + &body, &[not_allowed(KEEP)], PeerCloses);
    check_rejected("one byte more", head(BODY_BYTES_MAX + 1), "413 Content Too Large");
    check_rejected("largest number", head(u64::MAX), "413 Content Too Large");
}

// pitfall: 79
// rule: space-around-value, one-length, repeated-length
#[test]
fn content_length_is_one_plain_number() {
    // 9110 8.6 and 9112 6.3: 1*DIGIT, once. The body of the valid rows is `hello`. No length needs
    // more than 20 digits. One that has more, even leading zeros, is a number to one recipient and
    // too long for another.
    let with_zeros = |digits: usize| format!("{:0>digits$}", 5);
    for value in ["5", "05", &with_zeros(CONTENT_LENGTH_DIGITS_MAX), "\t5\t", "  5  "] {
        check(
            "9110 8.6",
            get(&format!("Content-Length:{value}\r\n")) + "hello",
            &[plain(KEEP)],
            PeerCloses,
        );
    }
    let many_zeros = [with_zeros(CONTENT_LENGTH_DIGITS_MAX + 1), with_zeros(300)];
    let too_large = [
        "18446744073709551616",
        "18446744073709551619",
        "99999999999999999999999999",
        &many_zeros[0],
        &many_zeros[1],
    ];
    let not_numbers = "+5 -5 -0 5, ,5 5,5 0x5 5h 5.0 5e0 five \"5\" 5; ٥"
        .split(' ')
        .chain(["", "5, 5", "5, 6", "5 5"]);
    for value in not_numbers.chain(too_large) {
        check_rejected(
            "9112 6.3",
            get(&format!("Content-Length: {value}\r\n")) + "hello",
            "400 Bad Request",
        );
    }
    for second in ["5", "6"] {
        let twice = format!("Content-Length: 5\r\nX: y\r\ncontent-length: {second}\r\n");
        check_rejected("9112 6.3: twice", get(&twice) + "hello", "400 Bad Request");
    }
}

// pitfall: 79
// rule: coding-in-http-1.0, coding-and-length, unknown-coding, chunked
#[test]
fn transfer_coding_is_rejected_and_nothing_after_it_is_parsed() {
    // 9112 6.1 and 6.3. What follows would be the body to one recipient and a request to another.
    let body = "0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for fields in [
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: CHUNKED\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\tchunked\r\n",
        "Transfer-Encoding:\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        for start in [
            "POST / HTTP/1.1",
            "POST / HTTP/1.0",
            "GET / HTTP/1.1",
            "GET / HTTP/1.0\r\nConnection: keep-alive",
        ] {
            check_rejected(
                "9112 6.1",
                format!("{start}\r\nHost: a\r\n{fields}\r\n{body}"),
                "501 Not Implemented",
            );
        }
    }
}

// pitfall: 84
// rule: expect-continue
#[test]
fn expect_continue_for_a_skipped_body_gets_the_final_response() {
    // 9110 10.1.1. After the final response the client may or may not send the body, so nothing
    // after it is parsed.
    let head =
        |version: &str, fields: &str| format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
    for expect in [
        "Expect: 100-continue\r\n",
        "expect:100-Continue\r\n",
        "Expect: foo\r\nExpect: 100-continue\r\n",
    ] {
        let waiting = head("1.1", &format!("Content-Length: 5\r\n{expect}"));
        check("9110 10.1.1", &waiting, &[not_allowed(CLOSE)], ServerCloses(Next::Close));
        check(
            "9110 10.1.1: body sent all the same",
            waiting + "hello",
            &[not_allowed(CLOSE)],
            ServerCloses(Next::Close),
        );
        let closing = head("1.1", &format!("Content-Length: 5\r\nConnection: close\r\n{expect}"));
        check("9110 10.1.1: with close", closing, &[not_allowed(CLOSE)], ServerCloses(Next::Close));
        let too_large = head("1.1", &format!("Content-Length: 1048577\r\n{expect}"));
        check_rejected("9110 10.1.1: body too large", too_large, "413 Content Too Large");
        let empty = head("1.1", &format!("Content-Length: 0\r\n{expect}"));
        check("9110 10.1.1: empty body", empty, &[not_allowed(KEEP)], PeerCloses);
        let old = head("1.0", &format!("Content-Length: 5\r\nConnection: keep-alive\r\n{expect}"))
            + "hello";
        check("9110 10.1.1: ignored in 1.0", old, &[not_allowed(KEEP)], PeerCloses);
    }
    let other = head("1.1", "Content-Length: 5\r\nExpect: 100-continuex\r\n") + "hello";
    check("9110 10.1.1: another expectation", other, &[not_allowed(KEEP)], PeerCloses);
}

// rule: expect-continue
#[test]
fn expectation_may_be_in_a_list() {
    // 9110 10.1.1: Expect = #expectation.
    for expect in ["foo, 100-continue", "100-continue,foo", ",100-Continue"] {
        let waiting =
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: {expect}\r\n\r\n");
        check("9110 10.1.1", waiting, &[not_allowed(CLOSE)], ServerCloses(Next::Close));
    }
}

// rule: body-cut-short
#[test]
fn request_cut_short_gets_400_and_is_not_served() {
    // 9112 8 and 6.3. A FIN without any bytes is no request.
    check("no bytes", "", &[], PeerCloses);
    let whole = get("");
    for length in 1..whole.len() {
        check("9112 8", &whole[..length], &[error("400 Bad Request", CLOSE)], CutShort);
    }
    let head = line("POST / HTTP/1.1\r\nContent-Length: 5");
    for body in ["", "h", "hell"] {
        check(
            "9112 8: in the body",
            head.clone() + body,
            &[error("400 Bad Request", CLOSE)],
            CutShort,
        );
    }
}

// rule: allowed-methods
#[test]
fn echo_returns_the_posted_body() {
    // 1945 8.3. Up to the largest body; the connection persists.
    let request = |method, length: usize| {
        format!("{method} /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
    };
    let echoed = |body: &str| response("200 OK", "application/octet-stream", "", KEEP, body);
    for body in ["", "hello", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        check("1945 8.3", request("POST", body.len()) + body, &[echoed(body)], PeerCloses);
    }
    let bytes_max = usize::try_from(BODY_BYTES_MAX).unwrap();
    let largest = text(bytes_max);
    let mut connection = HttpConnection::new(Site::new());
    connection.receive(request("POST", largest.len()).as_bytes());
    largest.as_bytes().chunks(50_000).for_each(|piece| connection.receive(piece));
    connection.receive(PLAIN);
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: echoed(&largest) + &plain(KEEP), end: PeerCloses }
    );
    check_rejected("9110 15.5.14", request("POST", bytes_max + 1), "413 Content Too Large");
    let not_allowed = response(
        "405 Method Not Allowed",
        "text/plain",
        "Allow: POST\r\n",
        KEEP,
        "405 Method Not Allowed\n",
    );
    check("9110 15.5.6", request("PUT", 2) + "hi", std::slice::from_ref(&not_allowed), PeerCloses);
    check("9110 15.5.6", line("GET /echo HTTP/1.1"), &[not_allowed], PeerCloses);
}

// rule: expect-continue
#[test]
fn expect_continue_for_an_upload_gets_417() {
    // 9110 10.1.1: HTTP/1.0 has no interim response, so the expectation cannot be met. An
    // expectation in a 1.0 request is ignored.
    let request = |version| {
        let fields = "Host: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n";
        format!("POST /echo HTTP/{version}\r\n{fields}\r\n")
    };
    check_rejected("9110 10.1.1", request("1.1"), "417 Expectation Failed");
    let echoed = response("200 OK", "application/octet-stream", "", CLOSE, "hello");
    check(
        "9110 10.1.1",
        request("1.0") + "hello",
        &[echoed],
        ServerCloses(Next::CloseWithoutLinger),
    );
}

// rule: body-cut-short
#[test]
fn upload_cut_short_or_late_is_dropped() {
    // 9112 8: the upload does not respond as if the body were complete.
    let half = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello";
    let mut connection = HttpConnection::new(Site::new());
    connection.receive(half);
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: error("400 Bad Request", CLOSE), end: CutShort }
    );
    let mut connection = HttpConnection::new(Site::new());
    connection.receive(half);
    connection.wait(body_timeout_ms());
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: error("408 Request Timeout", CLOSE), end: ServerCloses(Next::Close) }
    );
}
