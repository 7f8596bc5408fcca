//! Responses: their exact bytes, their fields, and which of them have no body.

use super::*;

// rule: status-line
#[test]
fn responses_have_exactly_these_bytes() {
    // The only place where nothing is computed: status line, fields in order, empty line, body.
    let page = "HTTP/1.0 200 OK\r\n\
        Content-Type: text/html; charset=utf-8\r\n\
        Content-Length: 134\r\n\
        Date: *\r\n\
        Connection: keep-alive\r\n\r\n\
        <!DOCTYPE html>\n<html lang=\"en\">\n\
        <head><meta charset=\"utf-8\"><title>reactor</title></head>\n\
        <body>\n<p>Hello world!</p>\n</body>\n</html>\n";
    let plain = "HTTP/1.0 200 OK\r\n\
        Content-Type: text/plain\r\n\
        Content-Length: 13\r\n\
        Date: *\r\n\
        Connection: close\r\n\r\n\
        Hello, World!";
    let missing = "HTTP/1.0 404 Not Found\r\n\
        Content-Type: text/plain\r\n\
        Content-Length: 14\r\n\
        Date: *\r\n\
        Connection: keep-alive\r\n\r\n\
        404 Not Found\n";
    check("the page", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[page.into()], PeerCloses);
    check(
        "the plain text",
        "GET /plaintext HTTP/1.0\r\n\r\n",
        &[plain.into()],
        ServerCloses(Next::CloseWithoutLinger),
    );
    check("a 404", "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", &[missing.into()], PeerCloses);
}

// pitfall: 81
// rule: head
#[test]
fn head_response_has_the_fields_of_get_and_no_body() {
    // 9110 9.3.2. Each row is the response to GET, which HEAD gets without its body.
    for (target, response) in
        [("/", page(KEEP)), ("/plaintext", plain(KEEP)), ("/nowhere", error("404 Not Found", KEEP))]
    {
        check(
            "GET",
            line(&format!("GET {target} HTTP/1.1")),
            std::slice::from_ref(&response),
            PeerCloses,
        );
        check(
            "HEAD",
            line(&format!("HEAD {target} HTTP/1.1")),
            &[without_body(&response)],
            PeerCloses,
        );
    }
    check(
        "1945 8.2",
        "HEAD / HTTP/1.0\r\n\r\n",
        &[without_body(&page(CLOSE))],
        ServerCloses(Next::CloseWithoutLinger),
    );
}

// pitfall: 81
// rule: head
#[test]
fn rejected_head_request_gets_no_body() {
    // 9110 9.3.2: the response to HEAD ends with its head, also if the request proves invalid after
    // its method.
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
        check(
            "9110 9.3.2",
            request,
            &[without_body(&error(status, CLOSE))],
            ServerCloses(Next::Close),
        );
    }
    let mut connection = HttpConnection::new(Site::new());
    connection.receive(b"\r");
    connection.wait(head_timeout_ms());
    assert!(
        connection.peer_shuts_down().output.starts_with("HTTP/1.0 408 "),
        "the first half of an empty line starts the timeout, too"
    );
    for part in ["HEAD ", "HEAD / HTTP/1.1\r\nHos"] {
        let mut connection = HttpConnection::new(Site::new());
        connection.receive(part.as_bytes());
        connection.wait(head_timeout_ms());
        let output = connection.peer_shuts_down().output;
        assert!(
            output.starts_with("HTTP/1.0 408 ") && output.ends_with("\r\n\r\n"),
            "{part:?}: {output}"
        );
    }
    let with_body = line("HEAD / HTTP/1.1\r\nContent-Length: 5") + "hell";
    check(
        "9110 9.3.2: cut short",
        &with_body,
        &[without_body(&error("400 Bad Request", CLOSE))],
        CutShort,
    );
    let mut connection = HttpConnection::new(Site::default());
    connection.receive(with_body.as_bytes());
    connection.wait(body_timeout_ms());
    let expected = without_body(&error("408 Request Timeout", CLOSE));
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: expected, end: ServerCloses(Next::Close) }
    );
}

// rule: any-valid-request, status-line, date, content-length, content-type
#[test]
fn every_status_has_its_line_and_its_fields() {
    // 1945 6.1: `HTTP/1.0`, three digits and a reason, separated by single spaces. 9110 6.6.1: a
    // date. 9110 8.3 and 8.6: the type and length of the body, where there is one.
    struct WithStatus(Status);
    impl Responder for WithStatus {
        fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
            Response::error(self.0)
        }
    }
    for code in 200..=599 {
        let status = Status::new(code).unwrap();
        let mut connection = HttpConnection::new(WithStatus(status));
        connection.receive(PLAIN);
        let output = connection.peer_shuts_down().output;
        let (line, fields) = output.split_once("\r\n").unwrap();
        let [version, code, reason] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("three parts: {line}")
        };
        assert_eq!(version, "HTTP/1.0");
        assert_eq!((code.parse(), reason), (Ok(status.code()), status.reason()), "{line}");
        assert_eq!(fields.matches("Date: *\r\n").count(), 1, "{line}");
        let body = format!("{status}\n");
        let framing = format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", body.len());
        let has_body = !["204", "205", "304"].contains(&code);
        assert_eq!(
            fields.starts_with(&framing) && fields.ends_with(&format!("\r\n\r\n{body}")),
            has_body,
            "{output}"
        );
        assert_eq!(fields.contains("Content-Length"), has_body || code == "205", "{output}");
        assert_eq!(fields.contains("Content-Type"), has_body, "{output}");
    }
}
