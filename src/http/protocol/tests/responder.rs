//! Responders: what they see, when they are called, and that they cannot break the framing.

use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::http::response::Page;

/// Responds with a description of the request.
struct DescribeRequest;

impl Responder for DescribeRequest {
    fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
        let seen = request.header("X-SEEN").map(|value| value.escape_ascii().to_string());
        let (method, path, body_bytes) =
            (request.method(), request.path().escape_ascii(), request.body_bytes());
        let query = request.query().map(|query| query.escape_ascii().to_string());
        let flags = (request.keeps_alive(), request.expects_continue());
        Response::ok(
            "text/plain",
            format!("{method:?} {path} {query:?} {seen:?} {body_bytes} {flags:?}").into_bytes(),
        )
    }
}

// rule: any-valid-request
#[test]
fn responder_sees_every_part_of_the_request() {
    // 1945 3.1: in every version.
    for (request, seen) in [
        (
            "GET /a/b?c?d HTTP/1.1\r\nHost: a\r\n\r\n",
            r#"Get /a/b Some("c?d") None 0 (true, false)"#,
        ),
        (
            "GET / HTTP/1.0\r\nx-Seen: \t one \r\nX-Seen: two\r\n\r\n",
            r#"Get / None Some("one") 0 (false, false)"#,
        ),
        (
            "DELETE http://a?b HTTP/1.2\r\nHost: a\r\nX-Seen:\r\n\r\n",
            r#"Delete / Some("b") Some("") 0 (true, false)"#,
        ),
        (
            "PATCH /%2F HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            "Patch /%2F None None 2 (true, false)",
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
            "Put / None None 2 (true, true)",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "Options * None None 0 (false, false)",
        ),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "Connect a:80 None None 0 (true, false)"),
    ] {
        let mut connection = HttpConnection::new(DescribeRequest);
        connection.receive(request.as_bytes());
        let output = connection.peer_shuts_down().output;
        assert_eq!(output.split("\r\n\r\n").nth(1), Some(seen), "{request:?}");
    }
}

// rule: absolute-target
#[test]
fn host_in_the_target_overrides_the_host_field() {
    // 9112 3.2.2: a host in the target overrides the field. 9112 3.2.3: the target of CONNECT is a
    // host and a port.
    struct DescribeHost;
    impl Responder for DescribeHost {
        fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
            let named = |host: Option<&[u8]>| host.map(|host| host.escape_ascii().to_string());
            let forwarded: Vec<_> =
                request.header_values("x-forwarded-for").map(|value| named(Some(value))).collect();
            let seen = format!(
                "{:?} {:?} {forwarded:?}",
                named(request.host()),
                named(request.header("Host"))
            );
            Response::ok("text/plain", seen.into_bytes())
        }
    }
    for (request, seen) in [
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", r#"Some("a") Some("b") []"#),
        ("GET http://a:80?x HTTP/1.1\r\nHost:\r\n\r\n", r#"Some("a:80") Some("") []"#),
        ("GET http://a/ HTTP/1.0\r\n\r\n", r#"Some("a") None []"#),
        ("GET / HTTP/1.1\r\nHost: b:8080\r\n\r\n", r#"Some("b:8080") Some("b:8080") []"#),
        ("GET / HTTP/1.0\r\n\r\n", "None None []"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: b\r\n\r\n", r#"Some("a:443") Some("b") []"#),
        // 9110 5.3: several fields of one name are one list.
        (
            "GET / HTTP/1.0\r\nX-Forwarded-For: c, d\r\nX-Other: 1\r\nx-forwarded-for: e\r\n\r\n",
            r#"None None [Some("c, d"), Some("e")]"#,
        ),
    ] {
        let mut connection = HttpConnection::new(DescribeHost);
        connection.receive(request.as_bytes());
        let output = connection.peer_shuts_down().output;
        assert_eq!(output.split("\r\n\r\n").nth(1), Some(seen), "{request:?}");
    }
    let mut connection = HttpConnection::new(DescribeHost);
    connection.receive(b"GET http://a/\r\n");
    assert_eq!(
        connection.peer_shuts_down().output,
        "None None []",
        "1945 5: a simple request has only a path"
    );
}

// rule: body-cut-short
#[test]
fn responder_is_called_only_for_a_complete_request() {
    // 9112 8: a request whose body is cut short is not served, so that an application never acts on
    // part of a request. Nor does a response exist before the body is complete.
    struct CountCalls(Rc<Cell<u32>>);
    impl Responder for CountCalls {
        fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
            self.0.set(self.0.get() + 1);
            Response::ok(
                "text/plain",
                format!("{:?} {}", request.method(), request.path().escape_ascii()).into_bytes(),
            )
        }
    }
    let request = b"DELETE /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let calls = Rc::new(Cell::new(0));
    let mut connection = HttpConnection::new(CountCalls(calls.clone()));
    connection.receive(&request[..request.len() - 1]);
    assert_eq!((calls.get(), connection.peer_shuts_down().end), (0, CutShort));

    let mut connection = HttpConnection::new(CountCalls(calls.clone()));
    connection.receive(&request[..request.len() - 1]);
    connection.wait(body_timeout_ms());
    assert_eq!((calls.get(), connection.peer_shuts_down().end), (0, ServerCloses(Next::Close)));

    let mut connection = HttpConnection::new(CountCalls(calls.clone()));
    request.iter().for_each(|&byte| connection.receive(&[byte]));
    assert_eq!(
        connection.peer_shuts_down().output,
        response("200 OK", "text/plain", "", KEEP, "Delete /x")
    );
    assert_eq!(calls.get(), 1);
}

// pitfall: 82
// rule: response-field
#[test]
fn responder_field_cannot_break_the_framing() {
    // 9110 5.5. A field that frames the message, or that would end its line, makes the response a
    // 500, whatever is added after it. Other fields stand between those of the server.
    struct WithField(&'static str, &'static str);
    impl Responder for WithField {
        fn respond(&mut self, _: &Request<'_>) -> Response<'_> {
            Response::ok("text/plain", Vec::new())
                .with_header(self.0, self.1)
                .with_header("X-Fine", "a\tb, \"c\"")
        }
    }
    let transcript_of = |name, value| {
        let mut connection = HttpConnection::new(WithField(name, value));
        connection.receive(PLAIN);
        connection.peer_shuts_down()
    };
    for value in ["a\r\nX: y", "a\n", "a\r", "a\0", "a\x7f"] {
        let expected = response(
            "500 Internal Server Error",
            "text/plain",
            "X-Fine: a\tb, \"c\"\r\n",
            KEEP,
            "500 Internal Server Error\n",
        );
        assert_eq!(
            transcript_of("X-Split", value),
            Transcript { output: expected, end: PeerCloses },
            "{value:?}"
        );
    }
    let reserved = ["content-LENGTH", "Transfer-Encoding", "Connection", "Date", "Content-Type"];
    for name in reserved.into_iter().chain(["", "Na me", "X-Split: a\r\nX", "N\u{e4}me"]) {
        assert!(transcript_of(name, "5").output.starts_with("HTTP/1.0 500 "), "{name:?}");
    }
    let expected =
        response("200 OK", "text/plain", "X-Good: 1\r\nX-Fine: a\tb, \"c\"\r\n", KEEP, "");
    assert_eq!(transcript_of("X-Good", "1"), Transcript { output: expected, end: PeerCloses });
}

// rule: response-field
#[test]
fn responder_content_type_cannot_break_the_framing() {
    // 9110 5.5. Neither in a plain response, nor in a streamed one, nor in a page.
    struct WithType(&'static str, usize, Page);
    impl Responder for WithType {
        fn respond(&mut self, _: &Request<'_>) -> Response<'_> {
            match self.1 {
                0 => Response::ok(self.0, &b"abc"[..]),
                1 => Response::streamed(Status::Ok, self.0, 3, &b"abc"[..]),
                _ => {
                    self.2 = Page::new(self.0, &b"abc"[..]);
                    self.2.response()
                }
            }
        }
    }
    for kind in 0..3 {
        for content_type in ["text/plain\r\nX: y", "text/plain\n\nabc", "\0"] {
            let mut connection =
                HttpConnection::new(WithType(content_type, kind, Page::new("", "".as_bytes())));
            connection.receive(PLAIN);
            assert_eq!(
                connection.peer_shuts_down(),
                Transcript { output: error("500 Internal Server Error", KEEP), end: PeerCloses },
                "{content_type:?}"
            );
        }
        let mut connection = HttpConnection::new(WithType(
            "text/plain; charset=\"utf-8\"",
            kind,
            Page::new("", "".as_bytes()),
        ));
        connection.receive(PLAIN);
        let expected = response("200 OK", "text/plain; charset=\"utf-8\"", "", KEEP, "abc");
        assert_eq!(connection.peer_shuts_down(), Transcript { output: expected, end: PeerCloses });
    }
}

// rule: bodyless-status
#[test]
fn response_204_or_304_never_has_a_body() {
    // 9112 6.3 and 9110 8.6: 204 and 304 end with their head, and have no field that frames a body.
    struct WithBody(Status, bool);
    impl Responder for WithBody {
        fn respond(&mut self, _: &Request<'_>) -> Response<'_> {
            match self.1 {
                true => Response::streamed(self.0, "text/plain", 8, &b"too much"[..]),
                false => Response::new(self.0, "text/plain", &b"too much"[..]),
            }
        }
    }
    for (status, is_streamed) in [Status::NoContent, Status::NotModified]
        .map(|status| [(status, false), (status, true)])
        .concat()
    {
        let mut connection = HttpConnection::new(WithBody(status, is_streamed));
        connection.receive(&[PLAIN, PLAIN].concat());
        let response =
            format!("HTTP/1.0 {}\r\nDate: *\r\nConnection: keep-alive\r\n\r\n", status.as_str());
        assert_eq!(
            connection.peer_shuts_down(),
            Transcript { output: response.repeat(2), end: PeerCloses }
        );
    }
}
