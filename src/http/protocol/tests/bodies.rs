//! Bodies of requests: where they end, and who takes them.

use super::*;
use crate::limits::CONTENT_LENGTH_DIGITS_MAX;

#[test]
fn a_body_is_skipped_whatever_the_answer() {
    // 9112 9.3 and 6.3: what follows the body is the next request, exactly. The body looks like one itself.
    let body = "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";
    let fields = format!("Host: a\r\nContent-Length: {}\r\n", body.len());
    for (start, answer) in [
        ("POST /", not_allowed(KEEP)),
        ("PUT /nowhere", not_allowed(KEEP)),
        ("DELETE /", not_allowed(KEEP)),
        ("GET /plaintext", plain(KEEP)),
        ("GET /nowhere", error("404 Not Found", KEEP)),
        ("HEAD /plaintext", without_body(&plain(KEEP))),
    ] {
        let request = format!("{start} HTTP/1.1\r\n{fields}\r\n{body}");
        check("9112 6.3", &request, std::slice::from_ref(&answer), Disconnected);
        check("9112 6.3", request + &get(""), &[answer, plain(KEEP)], Disconnected);
    }
    let closing = format!("POST / HTTP/1.1\r\n{fields}Connection: close\r\n\r\n{body}");
    check("9112 9.6", closing, &[not_allowed(CLOSE)], Ours(Next::CloseWithoutLinger));
    let old = format!("POST / HTTP/1.0\r\n{fields}\r\n{body}");
    check("1945 8.3", old, &[not_allowed(CLOSE)], Ours(Next::CloseWithoutLinger));
    check("9112 6.3: none", line("POST / HTTP/1.1"), &[not_allowed(KEEP)], Disconnected);
    check(
        "9112 6.3: empty",
        line("POST / HTTP/1.1\r\nContent-Length: 0"),
        &[not_allowed(KEEP)],
        Disconnected,
    );
    check_refused("1945 7.2.2: where does it end?", "POST / HTTP/1.0\r\n\r\n", "400 Bad Request");
    check_refused("1945 7.2.2: where does it end?", "PUT / HTTP/1.0\r\n\r\n", "400 Bad Request");
}

#[test]
fn the_largest_body_is_skipped_and_a_larger_one_refused_at_its_head() {
    // A megabyte is fed to the row that may have one. The other is refused before any of it comes.
    let head = |length: u64| line(&format!("POST / HTTP/1.1\r\nContent-Length: {length}"));
    let body = "x".repeat(usize::try_from(BODY_BYTES_MAX).unwrap());
    check("the largest", head(BODY_BYTES_MAX) + &body, &[not_allowed(KEEP)], Disconnected);
    check_refused("one byte more", head(BODY_BYTES_MAX + 1), "413 Content Too Large");
    check_refused("as far as numbers go", head(u64::MAX), "413 Content Too Large");
}

#[test]
fn a_content_length_is_one_plain_number() {
    // 9110 8.6 and 9112 6.3: 1*DIGIT, once. The body of the valid rows is `hello`. No length needs more than 20 digits; what has
    // more is a number to one reader and too long to another, zeros in front or not.
    let with_zeros = |digits: usize| format!("{:0>digits$}", 5);
    for value in ["5", "05", &with_zeros(CONTENT_LENGTH_DIGITS_MAX), "\t5\t", "  5  "] {
        check(
            "9110 8.6",
            get(&format!("Content-Length:{value}\r\n")) + "hello",
            &[plain(KEEP)],
            Disconnected,
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
    let no_numbers = "+5 -5 -0 5, ,5 5,5 0x5 5h 5.0 5e0 five \"5\" 5; ٥"
        .split(' ')
        .chain(["", "5, 5", "5, 6", "5 5"]);
    for value in no_numbers.chain(too_large) {
        check_refused(
            "9112 6.3",
            get(&format!("Content-Length: {value}\r\n")) + "hello",
            "400 Bad Request",
        );
    }
    for second in ["5", "6"] {
        let twice = format!("Content-Length: 5\r\nX: y\r\ncontent-length: {second}\r\n");
        check_refused("9112 6.3: twice", get(&twice) + "hello", "400 Bad Request");
    }
}

#[test]
fn any_transfer_coding_is_refused_and_nothing_after_it_is_parsed() {
    // 9112 6.1 and 6.3. What follows would be the body to one reader and a request to another.
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
            check_refused(
                "9112 6.1",
                format!("{start}\r\nHost: a\r\n{fields}\r\n{body}"),
                "501 Not Implemented",
            );
        }
    }
}

#[test]
fn who_waits_for_leave_to_send_a_body_gets_a_last_answer_instead() {
    // 9110 10.1.1. After it one cannot know whether the body comes, so nothing after it is read.
    let head =
        |version: &str, fields: &str| format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
    for expect in [
        "Expect: 100-continue\r\n",
        "expect:100-Continue\r\n",
        "Expect: foo\r\nExpect: 100-continue\r\n",
    ] {
        let waits = head("1.1", &format!("Content-Length: 5\r\n{expect}"));
        check("9110 10.1.1", &waits, &[not_allowed(CLOSE)], Ours(Next::Close));
        check(
            "9110 10.1.1: sent all the same",
            waits + "hello",
            &[not_allowed(CLOSE)],
            Ours(Next::Close),
        );
        let closes = head("1.1", &format!("Content-Length: 5\r\nConnection: close\r\n{expect}"));
        check("9110 10.1.1: and closes", closes, &[not_allowed(CLOSE)], Ours(Next::Close));
        let too_large = head("1.1", &format!("Content-Length: 1048577\r\n{expect}"));
        check_refused("9110 10.1.1: and too large", too_large, "413 Content Too Large");
        let empty = head("1.1", &format!("Content-Length: 0\r\n{expect}"));
        check("9110 10.1.1: no body, no doubt", empty, &[not_allowed(KEEP)], Disconnected);
        let old = head("1.0", &format!("Content-Length: 5\r\nConnection: keep-alive\r\n{expect}"))
            + "hello";
        check("9110 10.1.1: ignored in 1.0", old, &[not_allowed(KEEP)], Disconnected);
    }
    let other = head("1.1", "Content-Length: 5\r\nExpect: 100-continuex\r\n") + "hello";
    check("9110 10.1.1: another expectation", other, &[not_allowed(KEEP)], Disconnected);
}

#[test]
fn an_expectation_may_stand_in_a_list() {
    // 9110 10.1.1: Expect = #expectation.
    for expect in ["foo, 100-continue", "100-continue,foo", ",100-Continue"] {
        let waits =
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: {expect}\r\n\r\n");
        check("9110 10.1.1", waits, &[not_allowed(CLOSE)], Ours(Next::Close));
    }
}

#[test]
fn a_request_that_is_cut_short_gets_400_and_is_not_served() {
    // 9112 8 and 6.3. Nothing at all is no request.
    check("nothing", "", &[], Disconnected);
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

#[test]
fn what_is_posted_to_echo_comes_back() {
    // 1945 8.3. Up to the largest body, and behind it the connection goes on.
    let request = |method, length: usize| {
        format!("{method} /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
    };
    let echoed = |body: &str| answer("200 OK", "application/octet-stream", "", KEEP, body);
    for body in ["", "hello", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        check("1945 8.3", request("POST", body.len()) + body, &[echoed(body)], Disconnected);
    }
    let bytes_max = usize::try_from(BODY_BYTES_MAX).unwrap();
    let largest = text(bytes_max);
    let mut peer = Peer::new(Site::new());
    peer.receive(request("POST", largest.len()).as_bytes());
    largest.as_bytes().chunks(50_000).for_each(|piece| peer.receive(piece));
    peer.receive(PLAIN);
    assert_eq!(peer.leave(), Talk { output: echoed(&largest) + &plain(KEEP), end: Disconnected });
    check_refused("9110 15.5.14", request("POST", bytes_max + 1), "413 Content Too Large");
    let not_allowed = answer(
        "405 Method Not Allowed",
        "text/plain",
        "Allow: POST\r\n",
        KEEP,
        "405 Method Not Allowed\n",
    );
    check(
        "9110 15.5.6",
        request("PUT", 2) + "hi",
        std::slice::from_ref(&not_allowed),
        Disconnected,
    );
    check("9110 15.5.6", line("GET /echo HTTP/1.1"), &[not_allowed], Disconnected);
}

#[test]
fn a_body_that_is_wanted_is_asked_for_without_an_expectation() {
    // 9110 10.1.1: there is no interim answer in HTTP/1.0, so a final one says that the expectation cannot be met. A client of 1.0
    // has no expectations.
    let request = |version| {
        format!(
            "POST /echo HTTP/{version}\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    check_refused("9110 10.1.1", request("1.1"), "417 Expectation Failed");
    let echoed = answer("200 OK", "application/octet-stream", "", CLOSE, "hello");
    check("9110 10.1.1", request("1.0") + "hello", &[echoed], Ours(Next::CloseWithoutLinger));
}

#[test]
fn an_upload_that_is_cut_short_or_late_is_dropped() {
    // 9112 8: it is not answered as if it were whole.
    let half = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello";
    let mut peer = Peer::new(Site::new());
    peer.receive(half);
    assert_eq!(peer.leave(), Talk { output: error("400 Bad Request", CLOSE), end: CutShort });
    let mut peer = Peer::new(Site::new());
    peer.receive(half);
    peer.wait(body_timeout_ms());
    assert_eq!(
        peer.leave(),
        Talk { output: error("408 Request Timeout", CLOSE), end: Ours(Next::Close) }
    );
}
