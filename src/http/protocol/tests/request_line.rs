//! Request lines: methods, targets, versions, and the empty lines before them.

use super::*;

#[test]
fn an_encoded_path_is_decoded_once() {
    // 1945 5.1.2 and 3986 6.2.2.2. What is not an encoding, or encodes one, names no page.
    for (target, answer) in [
        ("/%70laintext", plain(KEEP)),
        ("/plaintex%74?x", plain(KEEP)),
        ("/%70%6C%61%69%6e%74%65%78%74", plain(KEEP)),
        ("http://a/%70laintext", plain(KEEP)),
        (
            "/%65cho",
            answer(
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
        check("1945 5.1.2", line(&format!("GET {target} HTTP/1.1")), &[answer], Disconnected);
    }
    let echoed = answer("200 OK", "application/octet-stream", "", KEEP, "hi");
    check(
        "1945 5.1.2",
        line("POST /ech%6f HTTP/1.1\r\nContent-Length: 2") + "hi",
        &[echoed],
        Disconnected,
    );
}

#[test]
fn an_absolute_target_overrides_the_host() {
    // 9112 3.2.2: the field is ignored then, be it empty or another's, as long as there is one that could be. It is not
    // ignored that it could be none: 9112 3.2.
    for host in ["", "a", "b:8080"] {
        check(
            "9112 3.2.2",
            format!("GET http://a/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            &[page(KEEP)],
            Disconnected,
        );
    }
    check_refused("9112 3.2", "GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n", "400 Bad Request");
    check(
        "9112 3.2: empty, without an authority",
        "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
        &[not_allowed(KEEP)],
        Disconnected,
    );
    check(
        "9112 3.2: 1.0 has no Host",
        "GET http://a/ HTTP/1.0\r\n\r\n",
        &[page(CLOSE)],
        Ours(Next::CloseWithoutLinger),
    );
}

#[test]
fn a_method_is_known_or_501_and_served_or_405() {
    // 9110 9.1, 15.5.6 and 15.6.2. Methods are whole words, in upper case.
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        check(
            "9110 15.5.6",
            line(&format!("{method} / HTTP/1.1")),
            &[not_allowed(KEEP)],
            Disconnected,
        );
    }
    check("9110 15.5.6", line("OPTIONS * HTTP/1.1"), &[not_allowed(KEEP)], Disconnected);
    for start in ["CONNECT a:80", "CONNECT [::1]:443"] {
        // 9110 9.3.6: what comes behind it is meant for a tunnel.
        check(
            "9110 15.5.6",
            line(&format!("{start} HTTP/1.1")),
            &[not_allowed(CLOSE)],
            Ours(Next::Close),
        );
        // Also to a client that has announced its end: what it sends then is for the tunnel, and must not turn into a reset.
        let closing = format!("{start} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        check("9112 9.6", closing, &[not_allowed(CLOSE)], Ours(Next::Close));
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
        check_refused("9110 15.6.2", line(&format!("{method} / HTTP/1.1")), "501 Not Implemented");
    }
    for method in ["", "G(T", "G\0T", "G\tT", "GÄT", "GET,", "\"GET\""] {
        check_refused(
            "9112 3.1: no token",
            line(&format!("{method} / HTTP/1.1")),
            "400 Bad Request",
        );
    }
}

#[test]
fn a_target_has_one_of_four_forms() {
    // 9112 3.2. The query does not choose the page, and neither does the authority.
    for (target, answer) in [
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
        ("http://a", page(KEEP)),
        ("http://a/", page(KEEP)),
        ("http://a?x=/plaintext", page(KEEP)),
        ("http://a/plaintext?x", plain(KEEP)),
        ("HTTP://other.example:8080/plaintext", plain(KEEP)),
        ("https://[::1]:443/plaintext", plain(KEEP)),
        ("http://a/nowhere", error("404 Not Found", KEEP)),
    ] {
        check("9112 3.2", line(&format!("GET {target} HTTP/1.1")), &[answer], Disconnected);
    }
    for (rule, target) in [
        ("9112 3.2.4: for OPTIONS only", "*"),
        ("9112 3.2.3: for CONNECT only", "a:80"),
        ("9112 3.2.1: no slash", "plaintext"),
        ("9112 3.2.1: no slash", "?x"),
        ("9110 4.2: another scheme", "ftp://a/"),
        ("9110 4.2.1: no host", "http:///"),
        ("9110 4.2.1: no host", "http://"),
        ("9110 4.2.4: userinfo", "http://user@a/"),
        ("9112 3.2.2: no authority", "http:/plaintext"),
        ("9110 4.2.5: a fragment", "/#top"),
        ("9110 4.2.5: a fragment", "http://a/#top"),
        ("9112 3.2: a control octet", "/\x01"),
        ("9112 3.2: NUL", "/\0"),
        ("9112 3.2: DEL", "/\x7f"),
        ("9112 3.2: a tab", "/\t"),
        ("9112 3.2: LF", "/\n"),
        ("9112 3.2: CR", "/\r"),
        ("9112 3.2: beyond ASCII", "/ä"),
        ("9112 3.2: a control octet in the query", "/?a\x01"),
        ("9112 3.2: beyond ASCII in the query", "/?ä"),
        ("9110 4.2.5: a fragment after the query", "/?a#top"),
        ("9112 3.2: a space in the query", "/?a b"),
    ] {
        check_refused(rule, line(&format!("GET {target} HTTP/1.1")), "400 Bad Request");
    }
    check_refused("9112 3.2.4: no other OPTIONS", line("OPTIONS *x HTTP/1.1"), "400 Bad Request");
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
        check_refused(
            "9112 3.2.3: nothing else for CONNECT",
            line(&format!("CONNECT {target} HTTP/1.1")),
            "400 Bad Request",
        );
    }
}

#[test]
fn a_request_line_has_two_single_spaces() {
    // 9112 3: white space in a target is not mended, and what separates is one space each.
    for target in ["/a b", "/ a", "/ HTTP/1.1", " /", "/ ", "  /", "\t/", "/\t", "", " ", "  "] {
        for version in ["HTTP/1.0", "HTTP/1.1", "HTTP/1.2"] {
            check_refused("9112 3", line(&format!("GET {target} {version}")), "400 Bad Request");
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
        check_refused("9112 3", line(request), "400 Bad Request");
    }
}

#[test]
fn a_version_is_spoken_unsupported_or_none() {
    // 9110 2.5 and 15.6.6, 9112 2.3: `HTTP/` DIGIT `.` DIGIT. Any 1.x above is answered as 1.1.
    for version in ["HTTP/1.1", "HTTP/1.2", "HTTP/1.9"] {
        check("9110 2.5", line(&format!("GET / {version}")), &[page(KEEP)], Disconnected);
        check_refused("9112 3.2", format!("GET / {version}\r\n\r\n"), "400 Bad Request");
    }
    let minor_two =
        line("GET / HTTP/1.2") + &line("POST / HTTP/1.2\r\nContent-Length: 5") + "hello";
    check("9110 2.5: two of 1.2", minor_two, &[page(KEEP), not_allowed(KEEP)], Disconnected);
    for version in ["HTTP/2.0", "HTTP/2.1", "HTTP/0.9", "HTTP/3.0", "HTTP/9.9"] {
        check_refused(
            "9110 15.6.6",
            line(&format!("GET / {version}")),
            "505 HTTP Version Not Supported",
        );
    }
    let near_one = "http/1.1 Http/1.1 HTTP/1.10 HTTP/1.20 HTTP/11 HTTP/1 HTTP/1. HTTP/.1 HTTP/01.1 HTTP/1,1 HTTP/1.x HTTP/x.1";
    let near_others = "HTTP/2 HTTP/2. HTTP/2.00 HTTP/20 HTTP HTTP/ HTTPS/1.1 1.1 ICY \0";
    for version in near_one.split(' ').chain(near_others.split(' ')) {
        check_refused("9112 2.3", line(&format!("GET / {version}")), "400 Bad Request");
    }
    check_refused("9112 2.2: 505 or 400?", "GET / HTTP/2.0\n\n", "400 Bad Request");
}

#[test]
fn a_simple_request_gets_a_simple_answer() {
    // 1945 5 and 6: a body without a head, and then the end. Whatever follows the line is not read.
    for (request, answer) in [
        ("GET /\r\n", FRONT),
        ("GET /plaintext?a?b\r\n", "Hello, World!"),
        ("GET http://a/plaintext\r\n", "Hello, World!"),
        ("GET /nowhere\r\n", "404 Not Found\n"),
        ("GET /plaintext\r\nHost: a\r\n\r\n", "Hello, World!"),
        ("\r\nGET /plaintext\r\n", "Hello, World!"),
    ] {
        check_behind(&[b""], "1945 6", request, &[answer.to_owned()], Ours(Next::Close));
        // A client that has sent a request of HTTP/1 before takes no such answer. What it is served could be made to look like
        // another's, with a head of its own.
        check_behind(
            &[PLAIN],
            "9112 11.1",
            request,
            &[error("400 Bad Request", CLOSE)],
            Ours(Next::Close),
        );
    }
}

#[test]
fn what_is_not_quite_a_simple_request_is_refused_when_its_line_has_come() {
    // 1945 4.1 and 5: there is no other method in HTTP/0.9, and who sends a line without a version must not be left waiting.
    let near = [
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
    for request in near {
        let head_has_no_body = |answer: String| {
            if request.starts_with("HEAD") { without_body(&answer) } else { answer }
        };
        check(
            "1945 5",
            request,
            &[head_has_no_body(error("400 Bad Request", CLOSE))],
            Ours(Next::Close),
        );
    }
    for request in ["GET / \r\n", "POST /\r\n", "GET\r\n", "hello\r\n", "GET / HTTP/1\r\n"] {
        check_refused("1945 5", request, "400 Bad Request");
    }
}

#[test]
fn empty_lines_before_a_request_are_ignored() {
    // 9112 2.2. So one after the last request begins no other, and owes nobody an answer.
    for lines in ["\r\n", "\r\n\r\n", "\r\n\r\n\r\n\r\n"] {
        check_served("9112 2.2", lines.to_owned() + &get(""));
    }
    let many = "\r\n".repeat(usize::from(EMPTY_LINES_MAX) + 1);
    check("9112 2.2", many + &get(""), &[error("400 Bad Request", CLOSE)], Ours(Next::Close));
    let between = line("POST / HTTP/1.1\r\nContent-Length: 5") + "hello\r\n" + &get("");
    check("9112 2.2", between, &[not_allowed(KEEP), plain(KEEP)], Disconnected);
}

#[test]
fn an_empty_line_after_the_last_request_is_not_half_a_request() {
    // 9112 2.2: some clients end a body with a line end that is not counted. It is neither answered nor timed.
    for lines in ["\r\n", "\r\n\r\n"] {
        check("9112 2.2", lines, &[], Disconnected);
        check("9112 2.2", get("") + lines, &[plain(KEEP)], Disconnected);
    }
    for pieces in [&[&b"\r\n"[..]][..], &[b"\r", b"\n"], &[b"\r\n\r", b"\n"]] {
        let mut peer = Peer::new(Site::default());
        peer.receive(PLAIN);
        pieces.iter().for_each(|piece| peer.receive(piece));
        peer.wait(head_timeout_ms());
        peer.receive(PLAIN);
        assert_eq!(peer.leave(), Talk { output: plain(KEEP) + &plain(KEEP), end: Disconnected });
    }
}

#[test]
fn a_long_request_line_is_served_and_a_longer_one_is_414() {
    // 9112 3 asks for 8,000 at least, and 414 beyond. Empty lines before it are no part of it.
    check_served("9112 3", long_line(8000 + "\r\n".len()));
    check_refused(
        "without an end",
        "GET /".to_owned() + &"a".repeat(INPUT_BYTES_MAX),
        "414 URI Too Long",
    );
    for before in ["", "\r\n", "\r\n\r\n"] {
        check_served("the longest", before.to_owned() + &long_line(REQUEST_LINE_BYTES_MAX));
        check_refused(
            "one byte more",
            before.to_owned() + &long_line(REQUEST_LINE_BYTES_MAX + 1),
            "414 URI Too Long",
        );
        check_refused(
            "twice that",
            before.to_owned() + &long_line(2 * REQUEST_LINE_BYTES_MAX),
            "414 URI Too Long",
        );
    }
}

#[test]
fn a_line_too_long_is_414_whatever_else_is_wrong_with_it() {
    // It is refused before its end, when the rest of it is not known yet.
    let long = "a".repeat(REQUEST_LINE_BYTES_MAX);
    for request in [
        line(&format!("GET /{long} HTTP/2.0")),
        line(&format!("GET /{long} HTTP/1.1\r\nName")),
        line(&format!("GET /{long}\x01 HTTP/1.1")),
        line(&format!("GET /\x01{long} HTTP/1.1")),
        line(&format!("GET {long}")),
        line(&format!("\0{long}")),
        long,
    ] {
        check_refused("9112 3", "\r\n".to_owned() + &request, "414 URI Too Long");
        check_refused("9112 3", request, "414 URI Too Long");
    }
}
