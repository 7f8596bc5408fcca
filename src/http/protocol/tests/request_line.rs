//! Request lines: methods, targets, versions, lengths, and the empty lines before them.

use super::*;

// rule: percent-decoding
#[test]
fn percent_encoded_path_is_decoded_once() {
    // 1945 5.1.2 and 3986 6.2.2.2. An invalid encoding, or an encoded `%`, names no page.
    for (target, response_to_get) in [
        ("/%70laintext", plain(KEEP)),
        ("/plaintex%74?x", plain(KEEP)),
        ("/%70%6C%61%69%6e%74%65%78%74", plain(KEEP)),
        ("http://a/%70laintext", plain(KEEP)),
        (
            "/%65cho",
            response(
                "405 Method Not Allowed",
                "text/plain",
                "Allow: POST\r\n",
                KEEP,
                "405 Method Not Allowed\n",
            ),
        ),
        ("/%2570laintext", error("404 Not Found", KEEP)),
        ("/%2Fplaintext", error("404 Not Found", KEEP)),
        ("/plaintext%3F", error("404 Not Found", KEEP)),
        ("/plaintext%00", error("404 Not Found", KEEP)),
        ("/%+7laintext", error("404 Not Found", KEEP)),
        ("/plaintext%", error("404 Not Found", KEEP)),
        ("/plaintext%7", error("404 Not Found", KEEP)),
        ("/plaintext%zz", error("404 Not Found", KEEP)),
        ("/%FF", error("404 Not Found", KEEP)),
    ] {
        check(
            "1945 5.1.2",
            line(&format!("GET {target} HTTP/1.1")),
            &[response_to_get],
            PeerCloses,
        );
    }
    let echoed = response("200 OK", "application/octet-stream", "", KEEP, "hi");
    check(
        "1945 5.1.2",
        line("POST /ech%6f HTTP/1.1\r\nContent-Length: 2") + "hi",
        &[echoed],
        PeerCloses,
    );
}

// rule: absolute-target
#[test]
fn absolute_target_overrides_the_host() {
    // 9112 3.2.2: beside an absolute target, the value of the field is ignored, even an empty one
    // or another host. But a 1.1 request must have the field, and with a valid value: 9112 3.2. By
    // 9110 7.2 and 3986 3.2.2, an empty host is a valid value, with or without a port.
    for host in ["", ":80", "a", "b:8080"] {
        check(
            "9112 3.2.2",
            format!("GET http://a/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            &[page(KEEP)],
            PeerCloses,
        );
    }
    check_rejected("9112 3.2", "GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n", "400 Bad Request");
    check(
        "9112 3.2: empty, without an authority",
        "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
        &[not_allowed(KEEP)],
        PeerCloses,
    );
    check(
        "9112 3.2: 1.0 has no Host",
        "GET http://a/ HTTP/1.0\r\n\r\n",
        &[page(CLOSE)],
        ServerCloses(Next::CloseWithoutLinger),
    );
}

// rule: unknown-method, allowed-methods, method-token
#[test]
fn unknown_method_is_501_and_unserved_method_is_405() {
    // 9110 9.1, 15.5.6 and 15.6.2. Methods are case-sensitive tokens.
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        check(
            "9110 15.5.6",
            line(&format!("{method} / HTTP/1.1")),
            &[not_allowed(KEEP)],
            PeerCloses,
        );
    }
    check("9110 15.5.6", line("OPTIONS * HTTP/1.1"), &[not_allowed(KEEP)], PeerCloses);
    for start in ["CONNECT a:80", "CONNECT [::1]:443"] {
        // 9110 9.3.6: bytes after the request are for a tunnel.
        check(
            "9110 15.5.6",
            line(&format!("{start} HTTP/1.1")),
            &[not_allowed(CLOSE)],
            ServerCloses(Next::Close),
        );
        // With `close`, too, the connection lingers: bytes for the tunnel must not cause a reset.
        let closing = format!("{start} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        check("9112 9.6", closing, &[not_allowed(CLOSE)], ServerCloses(Next::Close));
    }
    for method in [
        "get",
        "Get",
        "GETS",
        "GE",
        "HEADER",
        "FOO",
        "PRI",
        "G*T",
        "!#$%&'*+-.^_`|~",
        &"M".repeat(100),
    ] {
        check_rejected("9110 15.6.2", line(&format!("{method} / HTTP/1.1")), "501 Not Implemented");
    }
    for method in ["", "G(T", "G\0T", "G\tT", "GÄT", "GET,", "\"GET\""] {
        check_rejected(
            "9112 3.1: not a token",
            line(&format!("{method} / HTTP/1.1")),
            "400 Bad Request",
        );
    }
}

// rule: space-in-target, absolute-target, target-forms, target-characters, target-fragment
#[test]
fn target_has_one_of_four_forms() {
    // 9112 3.2. Neither the query nor the authority selects the page.
    for (target, response) in [
        ("/", page(KEEP)),
        ("/?", page(KEEP)),
        ("/?a=b&c=/plaintext?", page(KEEP)),
        ("/plaintext?x", plain(KEEP)),
        ("/plaintext/", error("404 Not Found", KEEP)),
        ("/Plaintext", error("404 Not Found", KEEP)),
        ("//", error("404 Not Found", KEEP)),
        ("/../plaintext", error("404 Not Found", KEEP)),
        ("/%2e%2e/etc/passwd", error("404 Not Found", KEEP)),
        ("/%00", error("404 Not Found", KEEP)),
        ("/%0d%0aX:%20y", error("404 Not Found", KEEP)),
        // 3986 2.5: bytes beyond ASCII that are not encoded, in the path and in the query.
        ("/ä", error("404 Not Found", KEEP)),
        ("/plaintext?ä", plain(KEEP)),
        ("/?ä", page(KEEP)),
        ("http://a/plaintext?\u{ff}\u{80}", plain(KEEP)),
        ("http://a", page(KEEP)),
        ("http://a/", page(KEEP)),
        ("http://a?x=/plaintext", page(KEEP)),
        ("http://a/plaintext?x", plain(KEEP)),
        ("HTTP://other.example:8080/plaintext", plain(KEEP)),
        ("https://[::1]:443/plaintext", plain(KEEP)),
        ("http://a/nowhere", error("404 Not Found", KEEP)),
    ] {
        check("9112 3.2", line(&format!("GET {target} HTTP/1.1")), &[response], PeerCloses);
    }
    for (rule, target) in [
        ("9112 3.2.4: only for OPTIONS", "*"),
        ("9112 3.2.3: only for CONNECT", "a:80"),
        ("9112 3.2.1: no slash", "plaintext"),
        ("9112 3.2.1: no slash", "?x"),
        ("9110 4.2: another scheme", "ftp://a/"),
        ("9110 4.2.1: no host", "http:///"),
        ("9110 4.2.1: no host", "http://"),
        ("9110 4.2.4: userinfo", "http://user@a/"),
        ("9112 3.2.2: no authority", "http:/plaintext"),
        ("9110 4.2.5: fragment", "/#top"),
        ("9110 4.2.5: fragment", "http://a/#top"),
        ("9112 3.2: control octet", "/\x01"),
        ("9112 3.2: NUL", "/\0"),
        ("9112 3.2: DEL", "/\x7f"),
        ("9112 3.2: tab", "/\t"),
        ("9112 3.2: LF", "/\n"),
        ("9112 3.2: CR", "/\r"),
        ("9112 3.2: control octet in the query", "/?a\x01"),
        ("3986 3.2.2: beyond ASCII in the host", "http://ä/"),
        ("9110 4.2.5: fragment after the query", "/?a#top"),
        ("9112 3.2: space in the query", "/?a b"),
    ] {
        check_rejected(rule, line(&format!("GET {target} HTTP/1.1")), "400 Bad Request");
    }
    check_rejected(
        "9112 3.2.4: not an asterisk alone",
        line("OPTIONS *x HTTP/1.1"),
        "400 Bad Request",
    );
    for target in [
        "/",
        "*",
        "a",
        "a:",
        ":80",
        "http://a:80/",
        "a:80/",
        "a:80?x",
        "u@a:80",
        "[::1",
        "[::1]",
        "a b:80",
    ] {
        check_rejected(
            "9112 3.2.3: not a host and a port",
            line(&format!("CONNECT {target} HTTP/1.1")),
            "400 Bad Request",
        );
    }
}

// rule: single-spaces, target-characters
#[test]
fn request_line_has_two_single_spaces() {
    // 9112 3: single spaces separate the three parts, and white space within a target is not
    // repaired.
    for target in ["/a b", "/ a", "/ HTTP/1.1", " /", "/ ", "  /", "\t/", "/\t", "", " ", "  "] {
        for version in ["HTTP/1.0", "HTTP/1.1", "HTTP/1.2"] {
            check_rejected("9112 3", line(&format!("GET {target} {version}")), "400 Bad Request");
        }
    }
    for request in [
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET HTTP/1.1",
        "GET",
    ] {
        check_rejected("9112 3", line(request), "400 Bad Request");
    }
}

// rule: version-form, other-versions
#[test]
fn version_is_served_unsupported_or_invalid() {
    // 9110 2.5 and 15.6.6, 9112 2.3: `HTTP/` DIGIT `.` DIGIT. Any 1.x above 1.1 is served as 1.1.
    for version in ["HTTP/1.1", "HTTP/1.2", "HTTP/1.9"] {
        check("9110 2.5", line(&format!("GET / {version}")), &[page(KEEP)], PeerCloses);
        check_rejected("9112 3.2", format!("GET / {version}\r\n\r\n"), "400 Bad Request");
    }
    let minor_two =
        line("GET / HTTP/1.2") + &line("POST / HTTP/1.2\r\nContent-Length: 5") + "hello";
    check("9110 2.5: two requests in 1.2", minor_two, &[page(KEEP), not_allowed(KEEP)], PeerCloses);
    for version in ["HTTP/2.0", "HTTP/2.1", "HTTP/0.9", "HTTP/3.0", "HTTP/9.9"] {
        check_rejected(
            "9110 15.6.6",
            line(&format!("GET / {version}")),
            "505 HTTP Version Not Supported",
        );
    }
    let near_one = "http/1.1 Http/1.1 HTTP/1.10 HTTP/1.20 HTTP/11 HTTP/1 HTTP/1. HTTP/.1 HTTP/01.1 \
        HTTP/1,1 HTTP/1.x HTTP/x.1";
    let near_others = "HTTP/2 HTTP/2. HTTP/2.00 HTTP/20 HTTP HTTP/ HTTPS/1.1 1.1 ICY \0";
    for version in near_one.split(' ').chain(near_others.split(' ')) {
        check_rejected("9112 2.3", line(&format!("GET / {version}")), "400 Bad Request");
    }
    check_rejected("9112 2.2: LF alone, in 2.0", "GET / HTTP/2.0\n\n", "400 Bad Request");
}

// rule: simple-request
#[test]
fn simple_request_gets_a_simple_response() {
    // 1945 5 and 6: the response is a body without a head. Then the connection closes, and nothing
    // after the line is parsed.
    for (request, body) in [
        ("GET /\r\n", FRONT),
        ("GET /plaintext?a?b\r\n", "Hello, World!"),
        ("GET http://a/plaintext\r\n", "Hello, World!"),
        ("GET /nowhere\r\n", "404 Not Found\n"),
        ("GET /plaintext\r\nHost: a\r\n\r\n", "Hello, World!"),
        ("\r\nGET /plaintext\r\n", "Hello, World!"),
    ] {
        check_after(&[b""], "1945 6", request, &[body.to_owned()], ServerCloses(Next::Close));
        // After an HTTP/1 request, the client expects no response without a head. The body could be
        // made to look like a whole response.
        check_after(
            &[PLAIN],
            "9112 11.1",
            request,
            &[error("400 Bad Request", CLOSE)],
            ServerCloses(Next::Close),
        );
    }
}

// rule: simple-request-method
#[test]
fn malformed_simple_request_is_rejected_at_its_line_end() {
    // 1945 4.1 and 5: HTTP/0.9 has no other method. A line without a version is rejected at its
    // end, not after a timeout.
    let near_simple_requests = [
        "GET /\n",
        "GET \r\n",
        "GET  /\r\n",
        "GET /#a\r\n",
        "GET /?#\r\n",
        "GET /\x01\r\n",
        "GET *\r\n",
        "GET a:80\r\n",
        "get /\r\n",
        "HEAD /\r\n",
    ];
    for request in near_simple_requests {
        let for_its_method = |response: String| {
            if request.starts_with("HEAD") { without_body(&response) } else { response }
        };
        check(
            "1945 5",
            request,
            &[for_its_method(error("400 Bad Request", CLOSE))],
            ServerCloses(Next::Close),
        );
    }
    for request in ["GET / \r\n", "POST /\r\n", "GET\r\n", "hello\r\n", "GET / HTTP/1\r\n"] {
        check_rejected("1945 5", request, "400 Bad Request");
    }
}

// rule: empty-line
#[test]
fn empty_lines_before_a_request_are_ignored() {
    // 9112 2.2. Up to a bound, before the first request and between two.
    for lines in ["\r\n", "\r\n\r\n", "\r\n\r\n\r\n\r\n"] {
        check_served("9112 2.2", lines.to_owned() + &get(""));
    }
    let many = "\r\n".repeat(usize::from(EMPTY_LINES_MAX) + 1);
    check(
        "9112 2.2",
        many + &get(""),
        &[error("400 Bad Request", CLOSE)],
        ServerCloses(Next::Close),
    );
    let between = line("POST / HTTP/1.1\r\nContent-Length: 5") + "hello\r\n" + &get("");
    check("9112 2.2", between, &[not_allowed(KEEP), plain(KEEP)], PeerCloses);
}

// rule: empty-line
#[test]
fn empty_line_after_the_last_request_begins_no_request() {
    // 9112 2.2: some clients end a body with a line end that Content-Length does not count. It gets
    // no response, and sets no timer.
    for lines in ["\r\n", "\r\n\r\n"] {
        check("9112 2.2", lines, &[], PeerCloses);
        check("9112 2.2", get("") + lines, &[plain(KEEP)], PeerCloses);
    }
    for pieces in [&[&b"\r\n"[..]][..], &[b"\r", b"\n"], &[b"\r\n\r", b"\n"]] {
        let mut connection = HttpConnection::new(Site::default());
        connection.receive(PLAIN);
        pieces.iter().for_each(|piece| connection.receive(piece));
        connection.wait(head_timeout_ms());
        connection.receive(PLAIN);
        assert_eq!(
            connection.peer_shuts_down(),
            Transcript { output: plain(KEEP) + &plain(KEEP), end: PeerCloses }
        );
    }
}

// pitfall: 83
// rule: request-line-length
#[test]
fn longest_request_line_is_served_and_a_longer_one_is_414() {
    // 9112 3 recommends at least 8,000 bytes, and requires 414 for more than is supported. Empty
    // lines before it do not count.
    check_served("9112 3", long_line(8000 + "\r\n".len()));
    check_rejected(
        "without an end",
        "GET /".to_owned() + &"a".repeat(INPUT_BYTES_MAX),
        "414 URI Too Long",
    );
    for before in ["", "\r\n", "\r\n\r\n"] {
        check_served("longest line", before.to_owned() + &long_line(REQUEST_LINE_BYTES_MAX));
        check_rejected(
            "one byte more",
            before.to_owned() + &long_line(REQUEST_LINE_BYTES_MAX + 1),
            "414 URI Too Long",
        );
        check_rejected(
            "twice as many",
            before.to_owned() + &long_line(2 * REQUEST_LINE_BYTES_MAX),
            "414 URI Too Long",
        );
    }
}

// rule: request-line-length
#[test]
fn overlong_request_line_is_414_whatever_follows() {
    // The line is rejected before its end has been received, so nothing behind can be known of it.
    let long = "a".repeat(REQUEST_LINE_BYTES_MAX);
    for request in [
        line(&format!("GET /{long} HTTP/2.0")),
        line(&format!("GET /{long} HTTP/1.1\r\nName")),
        line(&format!("GET /{long}\x01 HTTP/1.1")),
        line(&format!("GET http://{long}")),
        line(&format!("FOO /{long}")),
    ] {
        check_rejected("9112 3", "\r\n".to_owned() + &request, "414 URI Too Long");
        check_rejected("9112 3", request, "414 URI Too Long");
    }
}
