//! Which connections persist, and what a stop does to them.

use super::*;

#[test]
fn a_connection_persists_as_its_client_says() {
    // 9112 9.3, 9110 7.6.1: options are whole words in any case, in lists and on several lines, and `close` wins.
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
        let (connection, end) =
            if persists { (KEEP, Disconnected) } else { (CLOSE, Ours(Next::CloseWithoutLinger)) };
        check("9112 9.3", request, &[plain(connection)], end);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_until_one_closes() {
    // 9112 9.3.2 and 9.6. Neighbours differ in their answers, so that none can stand for another.
    let (mut requests, mut answers) = (String::new(), Vec::new());
    for index in 0..16 {
        let (target, answer) =
            if index % 3 == 0 { ("/", page(KEEP)) } else { ("/plaintext", plain(KEEP)) };
        requests += &line(&format!("GET {target} HTTP/1.1"));
        answers.push(answer);
    }
    check("sixteen", requests, &answers, Disconnected);
    let closing = line("GET / HTTP/1.1\r\nConnection: close");
    let three = get("") + &closing + &get("");
    check(
        "a, b that closes, c",
        three,
        &[plain(KEEP), page(CLOSE)],
        Ours(Next::CloseWithoutLinger),
    );
    let old = get("") + "GET / HTTP/1.0\r\n\r\n" + &get("");
    check("a, b of 1.0, c", old, &[plain(KEEP), page(CLOSE)], Ours(Next::CloseWithoutLinger));
    let invalid = get("") + "GET / HTTP/1.1\r\n\r\n";
    check(
        "a, b that is invalid",
        invalid,
        &[plain(KEEP), error("400 Bad Request", CLOSE)],
        Ours(Next::Close),
    );
    let cut = get("") + "GET / HT";
    check("a, b that is cut short", cut, &[plain(KEEP), error("400 Bad Request", CLOSE)], CutShort);
}

#[test]
fn a_reactor_that_stops_makes_the_next_answer_the_last() {
    // 9112 9.5 and 9.6: it says so, and does not hear what follows.
    let mut peer = Peer::new(Site::default());
    peer.receive(get("").as_bytes());
    peer.state.stopping = true;
    peer.receive(&[PLAIN, PLAIN].concat());
    assert_eq!(peer.leave(), Talk { output: plain(KEEP) + &plain(CLOSE), end: Ours(Next::Close) });
}

#[test]
fn an_upload_that_a_stop_has_overtaken_is_answered_for_the_last_time() {
    let mut peer = Peer::new(Site::new());
    peer.receive(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    peer.state.stopping = true;
    peer.receive(b"lo");
    let echoed = answer("200 OK", "application/octet-stream", "", CLOSE, "hello");
    assert_eq!(peer.leave(), Talk { output: echoed, end: Ours(Next::Close) });
}

#[test]
fn a_body_that_is_skipped_while_a_stop_comes_is_answered_for_the_last_time_too() {
    // 9112 9.6: it is the last, and so it says.
    let mut peer = Peer::new(Site::new());
    peer.receive((line("POST / HTTP/1.1\r\nContent-Length: 5") + "hel").as_bytes());
    peer.state.stopping = true;
    peer.receive(&[b"lo", PLAIN].concat());
    assert_eq!(peer.leave(), Talk { output: not_allowed(CLOSE), end: Ours(Next::Close) });
}

#[test]
fn a_connection_gives_way_before_and_between_requests_and_not_in_one() {
    // Half a head, and half a body that is being skipped, are requests that have begun.
    let mut peer = Peer::new(Site::new());
    assert!(peer.http.is_evictable(), "nothing has been asked");
    for (piece, is_evictable) in [
        ("GET / HT", false),
        ("TP/1.1\r\nHost: a\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab", false),
        ("cd", true),
    ] {
        peer.receive(piece.as_bytes());
        assert_eq!(peer.http.is_evictable(), is_evictable, "{piece}");
    }
}
