//! What a gateway writes to each side, and what it takes for an error.

use super::super::head::parse;
use super::*;

#[track_caller]
fn check_forwarded(request: &str, client: Peer, expected: &str) {
    let (request, _) = parse(request.as_bytes()).unwrap();
    let head = request.forwarded_head(client).expect("it is to be forwarded");
    assert_eq!(head.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
}

// pitfall: 181
#[test]
fn forwarded_head_has_a_framing_of_its_own_and_names_the_client() {
    let client = Peer::Ip("192.0.2.7:1234".parse().unwrap());
    check_forwarded(
        "GET /a?b=c HTTP/1.1\r\nHost: a\r\nCookie: c\r\n\r\n",
        client,
        "GET /a?b=c HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\
         Via: 1.1 mio-reactor\r\nX-Forwarded-For: 192.0.2.7\r\nCookie: c\r\n\r\n",
    );
    check_forwarded(
        "POST / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 1\r\nContent-Length: 0005\r\n\
         X-Forwarded-For: 2\r\nConnection: close\r\nConnection: x-a , X-B\r\nX-A: 1\r\n\
         x-b: 2\r\nKeep-Alive: 1\r\nTE: a\r\nTrailer: b\r\nUpgrade: c\r\n\
         Proxy-Connection: d\r\nExpect: 100-continue\r\nX-C: 3\r\n\r\n",
        client,
        "POST / HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\
         Via: 1.1 mio-reactor\r\nX-Forwarded-For: 1, 2, 192.0.2.7\r\nContent-Length: 5\r\n\
         X-C: 3\r\n\r\n",
    );
    for (method, length) in [("POST", "Content-Length: 0\r\n"), ("DELETE", "")] {
        check_forwarded(
            &format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Peer::Unix,
            &format!(
                "{method} / HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\
                 Via: 1.1 mio-reactor\r\n{length}\r\n"
            ),
        );
    }
    check_forwarded(
        "OPTIONS * HTTP/1.0\r\n\r\n",
        Peer::Unix,
        "OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\nVia: 1.0 mio-reactor\r\n\r\n",
    );
    for (target, forwarded) in [("http://a", "*"), ("http://a/", "/"), ("http://a?b", "/?b")] {
        check_forwarded(
            &format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
            Peer::Unix,
            &format!(
                "OPTIONS {forwarded} HTTP/1.0\r\nConnection: keep-alive\r\nHost: a\r\n\
                 Via: 1.1 mio-reactor\r\n\r\n"
            ),
        );
    }
}

// pitfall: 214
#[test]
fn gateway_names_itself_and_counts_the_forwards_that_are_left() {
    let host = "Host: a\r\n";
    let named = |via: &str| format!("{host}Via: {via}1.1 mio-reactor\r\n");
    for (method, fields, forwarded) in [
        ("GET", "Via: 1.0 a\r\nvia: 2 b\r\n", Some(named("1.0 a, 2 b, "))),
        ("OPTIONS", "Max-Forwards: 2\r\n", Some(named("") + "Max-Forwards: 1\r\n")),
        ("TRACE", "Max-Forwards: 1\r\n", Some(named("") + "Max-Forwards: 0\r\n")),
        ("TRACE", "max-forwards: 0\r\n", None),
        ("OPTIONS", "Max-Forwards: 0\r\n", None),
        (
            "OPTIONS",
            "Max-Forwards: 99999999999\r\n",
            Some(named("") + "Max-Forwards: 4294967294\r\n"),
        ),
        ("OPTIONS", "Max-Forwards: x\r\n", Some(named("") + "Max-Forwards: x\r\n")),
        ("GET", "Max-Forwards: 0\r\n", Some(named("") + "Max-Forwards: 0\r\n")),
    ] {
        let request = format!("{method} / HTTP/1.1\r\n{host}{fields}\r\n");
        let (request, _) = parse(request.as_bytes()).unwrap();
        let head = request.forwarded_head(Peer::Unix);
        let expected = forwarded
            .map(|fields| format!("{method} / HTTP/1.0\r\nConnection: keep-alive\r\n{fields}\r\n"));
        assert_eq!(head.map(|head| String::from_utf8(head).unwrap()), expected, "{fields}");
    }
    let connect = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n";
    let (request, _) = parse(connect).unwrap();
    assert_eq!(request.forwarded_head(Peer::Unix), None);
}

#[test]
fn length_status_and_method_decide_where_the_servers_body_ends() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
    let until_close = "HTTP/1.1 200 OK\r\n\r\n";
    let not_modified = "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n";
    let closes = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: a, Close\r\n\r\n";
    let of_1_0 = "HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n";
    let kept = "HTTP/1.0 200 OK\r\nContent-Length: 7\r\nConnection: keep-alive\r\n\r\n";
    for (method, head, body_bytes, keeps_alive) in [
        (Method::Get, ok, Some(7), true),
        (Method::Head, ok, Some(0), true),
        (Method::Get, until_close, None, false),
        (Method::Head, until_close, Some(0), true),
        (Method::Get, not_modified, Some(0), true),
        (Method::Get, closes, Some(7), false),
        (Method::Get, of_1_0, Some(7), false),
        (Method::Get, kept, Some(7), true),
    ] {
        for end in 0..head.len() {
            let cut = ServerResponse::parse(&head.as_bytes()[..end], method);
            assert!(cut.unwrap().is_none(), "{end} bytes of {head}");
        }
        let input = format!("{head}next");
        let parsed = ServerResponse::parse(input.as_bytes(), method).unwrap().unwrap();
        assert_eq!(parsed.length(), head.len());
        assert_eq!(parsed.body_bytes(), body_bytes, "{method:?} {head}");
        assert_eq!(parsed.keeps_alive(), keeps_alive, "{method:?} {head}");
    }
}

#[test]
fn response_is_whole_with_its_last_byte_and_bounded_before() {
    let get = |input: &str, bytes_max| {
        let parsed = ServerResponse::parse_whole(input.as_bytes(), Method::Get, bytes_max);
        parsed.map(|whole| whole.map(|(_, length)| length))
    };
    let with_length = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n1234567";
    let length = with_length.len();
    for end in 0..length {
        assert_eq!(get(&with_length[..end], length), Ok(None), "{end} bytes");
    }
    assert_eq!(get(with_length, length), Ok(Some(length)));
    assert_eq!(get(&format!("{with_length}next"), length), Ok(Some(length)));
    let head = &with_length[..length - 7];
    assert_eq!(get(head, length - 1), Err(ServerResponseError), "before its end is awaited");
    let huge = head.replace("7", "18446744073709551615");
    assert_eq!(get(&huge, usize::MAX), Err(ServerResponseError));
    let until_close = "HTTP/1.1 200 OK\r\n\r\nbody";
    assert_eq!(get(until_close, until_close.len()), Ok(None));
    assert_eq!(get(until_close, until_close.len() - 1), Err(ServerResponseError));
}

// pitfall: 181
#[test]
fn server_response_that_can_be_read_in_two_ways_is_an_error() {
    let long = format!("X: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
    let many = "X: x\r\n".repeat(HEADERS_MAX + 1);
    for fields in [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length : 1\r\n",
        "X: a\n",
        &long,
        &many,
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let parsed = ServerResponse::parse(head.as_bytes(), Method::Get);
        assert_eq!(parsed.unwrap_err(), ServerResponseError, "{fields}");
    }
    for line in ["HTTP/1.1 100 Continue", "HTTP/1.1 999 What", "HTTP/2 200 OK", "what"] {
        let head = format!("{line}\r\n\r\n");
        let parsed = ServerResponse::parse(head.as_bytes(), Method::Get);
        assert_eq!(parsed.unwrap_err(), ServerResponseError, "{line}");
    }
}

#[test]
fn response_of_the_server_is_passed_on_without_what_is_about_its_connection() {
    let head = "HTTP/1.1 203 Odd\r\nDate: 1\r\nContent-Type: a/b\r\nConnection: X-A\r\n\
        X-A: 1\r\nSet-Cookie: a\r\nContent-Length: 7\r\nSet-Cookie: b\r\n\r\n";
    for (method, body_bytes) in [(Method::Get, 2), (Method::Head, 7)] {
        let parsed = ServerResponse::parse(head.as_bytes(), method).unwrap().unwrap();
        let response = parsed.pass_on(&b"hi"[..]).unwrap();
        let composed = format!(
            "HTTP/1.0 203 \r\nContent-Type: a/b\r\nContent-Length: {body_bytes}\r\n\
             Set-Cookie: a\r\nSet-Cookie: b\r\nDate: "
        );
        let composed = composed.as_bytes().escape_ascii().to_string();
        assert_eq!(
            format!("{response:?}"),
            format!("Response {{ {composed:?}, {body_bytes} bytes }}")
        );
    }
    let latin = b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9\r\n\r\n";
    let parsed = ServerResponse::parse(latin, Method::Get).unwrap().unwrap();
    let response = format!("{:?}", parsed.pass_on(&b""[..]).unwrap());
    assert!(response.contains(r"X-Name: caf\\xe9\\r\\n"), "{response}");
    for (field, passed_on) in [
        ("Content-Type: text/html; charset=\r\n", "text/html"),
        ("Content-Type: text/html;\r\n", "text/html"),
        ("Content-Type: html\r\n", "application/octet-stream"),
        ("", "application/octet-stream"),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{field}\r\n");
        let parsed = ServerResponse::parse(head.as_bytes(), Method::Get).unwrap().unwrap();
        let response = format!("{:?}", parsed.pass_on(&b"hi"[..]).unwrap());
        let line = format!(r"Content-Type: {passed_on}\\r");
        assert!(response.contains(&line), "{field}: {response}");
    }
    let bare = b"HTTP/1.1 200 OK\r\n\r\n";
    let parsed = ServerResponse::parse(bare, Method::Head).unwrap().unwrap();
    let response = parsed.pass_on(&b""[..]).unwrap();
    assert!(!format!("{response:?}").contains("Content-Length"), "{response:?}");
}

#[test]
fn fields_are_found_behind_empty_lines_before_the_status_line() {
    for line in ["HTTP/1.1 200 OK\r\n", "\r\n\nHTTP/1.1 200 OK\r\n", "HTTP/1.1 200\n"] {
        let head = format!("{line}Content-Length: 0\r\nA: b\r\n\r\n");
        let parsed = ServerResponse::parse(head.as_bytes(), Method::Get).unwrap().unwrap();
        let names: Vec<_> = parsed.fields.iter().map(|field| field.name_as_str()).collect();
        assert_eq!(names, ["Content-Length", "A"], "{line:?}");
        assert_eq!(parsed.length(), head.len());
    }
}
