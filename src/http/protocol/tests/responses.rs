//! Responses: their bytes, their fields, and what a responder cannot break.

use super::*;

#[test]
fn an_answer_has_exactly_these_bytes() {
    // The one place where nothing is computed: status line, fields in order, empty line, body.
    let page = "HTTP/1.0 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 134\r\nDate: *\r\n\
        Connection: keep-alive\r\n\r\n<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>reactor</title>\
        </head>\n<body>\n<p>Hello world!</p>\n</body>\n</html>\n";
    let plain = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\nDate: *\r\nConnection: close\r\n\r\n\
        Hello, World!";
    let missing = "HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 14\r\nDate: *\r\n\
        Connection: keep-alive\r\n\r\n404 Not Found\n";
    check("the page", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[page.into()], Disconnected);
    check(
        "the plain text",
        "GET /plaintext HTTP/1.0\r\n\r\n",
        &[plain.into()],
        Ours(Next::CloseWithoutLinger),
    );
    check("a 404", "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", &[missing.into()], Disconnected);
}

#[test]
fn head_gets_the_fields_of_get_and_no_body() {
    // 9110 9.3.2. Each row is the answer to GET, which HEAD gets without its body.
    for (target, answer) in
        [("/", page(KEEP)), ("/plaintext", plain(KEEP)), ("/nowhere", error("404 Not Found", KEEP))]
    {
        check(
            "GET",
            line(&format!("GET {target} HTTP/1.1")),
            std::slice::from_ref(&answer),
            Disconnected,
        );
        check(
            "HEAD",
            line(&format!("HEAD {target} HTTP/1.1")),
            &[without_body(&answer)],
            Disconnected,
        );
    }
    check(
        "1945 8.2",
        "HEAD / HTTP/1.0\r\n\r\n",
        &[without_body(&page(CLOSE))],
        Ours(Next::CloseWithoutLinger),
    );
}

#[test]
fn a_refused_head_gets_no_body_either() {
    // 9110 9.3.2: what is answered to HEAD ends with the head, also where the request is found wanting after its method.
    for (request, status) in [
        ("HEAD / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n", "400 Bad Request"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "400 Bad Request"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n", "413 Content Too Large"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "501 Not Implemented"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nName : value\r\n\r\n", "400 Bad Request"),
        ("HEAD * HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
        ("HEAD / HTTP/2.0\r\nHost: a\r\n\r\n", "505 HTTP Version Not Supported"),
    ] {
        check("9110 9.3.2", request, &[without_body(&error(status, CLOSE))], Ours(Next::Close));
    }
    let mut peer = Peer::new(Site::new());
    peer.receive(b"\r");
    peer.wait(head_timeout_ms());
    assert!(
        peer.leave().output.starts_with("HTTP/1.0 408 "),
        "the first half of an empty line is a first byte too"
    );
    for part in ["HEAD ", "HEAD / HTTP/1.1\r\nHos"] {
        let mut peer = Peer::new(Site::new());
        peer.receive(part.as_bytes());
        peer.wait(head_timeout_ms());
        let talk = peer.leave();
        assert!(
            talk.output.starts_with("HTTP/1.0 408 ") && talk.output.ends_with("\r\n\r\n"),
            "{part:?}: {}",
            talk.output
        );
    }
    let with_body = line("HEAD / HTTP/1.1\r\nContent-Length: 5") + "hell";
    check(
        "9110 9.3.2: cut short",
        &with_body,
        &[without_body(&error("400 Bad Request", CLOSE))],
        CutShort,
    );
    let mut peer = Peer::new(Site::default());
    peer.receive(with_body.as_bytes());
    peer.wait(body_timeout_ms());
    let expected = without_body(&error("408 Request Timeout", CLOSE));
    assert_eq!(peer.leave(), Talk { output: expected, end: Ours(Next::Close) });
}

#[test]
fn every_status_has_its_line_and_its_fields() {
    // 1945 6.1: `HTTP/1.0`, three digits and a reason, with a space between each; 9110 6.6.1: and a date; 9110 8.3 and 8.6: and the
    // type and length of a body where there is one.
    struct Says(Status);
    impl Responder for Says {
        fn respond(&mut self, _: &Request<'_>) -> Response<'_> {
            Response::error(self.0)
        }
    }
    use Status::*;
    #[rustfmt::skip]
    let all = [
        Ok, Created, Accepted, NoContent, MovedPermanently, Found, SeeOther, NotModified, TemporaryRedirect, PermanentRedirect,
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, RequestTimeout, Conflict, Gone, PreconditionFailed,
        ContentTooLarge, UriTooLong, UnsupportedMediaType, ExpectationFailed, UnprocessableContent, TooManyRequests,
        HeadersTooLarge, InternalServerError, NotImplemented, BadGateway, ServiceUnavailable, GatewayTimeout, VersionNotSupported,
    ];
    for status in all {
        let mut peer = Peer::new(Says(status));
        peer.receive(PLAIN);
        let output = peer.leave().output;
        let (line, fields) = output.split_once("\r\n").unwrap();
        let [version, code, reason] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("three parts: {line}")
        };
        assert_eq!(version, "HTTP/1.0");
        assert!(code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()), "{line}");
        assert!(
            reason.starts_with(|first: char| first.is_ascii_uppercase()) && !reason.ends_with(' '),
            "{line}"
        );
        assert_eq!(fields.matches("Date: *\r\n").count(), 1, "{line}");
        let body = format!("{code} {reason}\n");
        let framing = format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", body.len());
        let has_body = !["204", "304"].contains(&code);
        assert_eq!(
            fields.starts_with(&framing) && fields.ends_with(&format!("\r\n\r\n{body}")),
            has_body,
            "{output}"
        );
        assert_eq!(fields.contains("Content-"), has_body, "{output}");
    }
}
