//! Responders: what they see, when they are called, and that they cannot break the framing.

use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::http::field::HeaderError;
use crate::http::limits::{CONTENT_TYPE_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX};
use crate::http::page::Page;

/// Responds with a description of the request.
struct DescribeRequest;

impl Responder for DescribeRequest {
    fn respond(&mut self, request: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
        let seen = request.header("X-SEEN").map(|value| value.escape_ascii().to_string());
        let (method, path, body_bytes) =
            (request.method(), request.path().escape_ascii(), request.body_bytes());
        let query = request.query().map(|query| query.escape_ascii().to_string());
        let flags = (request.keeps_alive(), request.expects_continue());
        Response::ok(
            ContentType::ASCII,
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
        fn respond(&mut self, request: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
            let named = |host: Option<&[u8]>| host.map(|host| host.escape_ascii().to_string());
            let forwarded: Vec<_> =
                request.header_values("x-forwarded-for").map(|value| named(Some(value))).collect();
            let seen = format!(
                "{:?} {:?} {forwarded:?}",
                named(request.host()),
                named(request.header("Host"))
            );
            Response::ok(ContentType::ASCII, seen.into_bytes())
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
        fn respond(&mut self, request: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
            self.0.set(self.0.get() + 1);
            Response::ok(
                ContentType::ASCII,
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
    // 9110 5.5. A field that frames the message, or that would end its line, is an error at the
    // call. Other fields stand between those of the server.
    struct WithField(&'static str, &'static str);
    impl Responder for WithField {
        fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
            let fine = Response::ok(ContentType::ASCII, Vec::new())
                .with_header("X-Fine", "a\tb, \"c\"")
                .unwrap();
            fine.with_header(self.0, self.1).unwrap_or_else(|error| {
                Response::ok(ContentType::ASCII, format!("{error:?}").into_bytes())
            })
        }
    }
    let transcript_of = |name, value| {
        let mut connection = HttpConnection::new(WithField(name, value));
        connection.receive(PLAIN);
        connection.peer_shuts_down()
    };
    for (name, value, error) in [
        ("X-Split", "a\r\nX: y", "InvalidValue { byte: 13, at: 1 }"),
        ("X-Split: a\r\nX", "y", "InvalidName { byte: 58, at: 7 }"),
        ("Content-Length", "5", "ReservedName"),
    ] {
        let output = response("200 OK", "text/plain", "", KEEP, error);
        assert_eq!(transcript_of(name, value), Transcript { output, end: PeerCloses });
    }
    let fields = "X-Fine: a\tb, \"c\"\r\nX-Good: 1\r\n";
    let output = response("200 OK", "text/plain", fields, KEEP, "");
    assert_eq!(transcript_of("X-Good", "1"), Transcript { output, end: PeerCloses });
}

// rule: response-field
#[test]
fn responder_content_type_cannot_break_the_framing() {
    // 9110 5.5 and 8.3.1. Only a valid type exists. Each is sent as it is, in a plain response, in
    // a streamed one and in a page.
    for content_type in ["text/plain\r\nX: y", "text/plain\n\nabc", "\0", ""] {
        assert!(ContentType::new(content_type).is_err(), "{content_type:?}");
    }
    const QUOTED: &str = "text/plain; charset=\"utf-8\"";
    struct WithType(ContentType<'static>, usize, Page);
    impl Responder for WithType {
        fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
            match self.1 {
                0 => Response::ok(self.0, &b"abc"[..]),
                1 => Response::streamed(Status::OK, self.0, 3, &b"abc"[..]),
                _ => self.2.response(),
            }
        }
    }
    for kind in 0..3 {
        let content_type = ContentType::new(QUOTED).unwrap();
        let page = Page::new(content_type, &b"abc"[..]);
        let mut connection = HttpConnection::new(WithType(content_type, kind, page));
        connection.receive(PLAIN);
        let output = response("200 OK", QUOTED, "", KEEP, "abc");
        assert_eq!(connection.peer_shuts_down(), Transcript { output, end: PeerCloses });
    }
}

// rule: response-field
#[test]
fn page_sends_the_fields_that_it_was_given() {
    // 9110 5.5: by the same rules as a response.
    struct WithPage(Page);
    impl Responder for WithPage {
        fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
            self.0.response()
        }
    }
    let page = Page::new(ContentType::ASCII, &b"abc"[..]);
    assert!(page.clone().with_header("Date", "today").is_err());
    let page = page.with_header("Cache-Control", "max-age=60").unwrap();
    let mut connection = HttpConnection::new(WithPage(page));
    connection.receive(&[PLAIN, PLAIN].concat());
    let output = response("200 OK", "text/plain", "Cache-Control: max-age=60\r\n", KEEP, "abc");
    assert_eq!(
        connection.peer_shuts_down(),
        Transcript { output: output.repeat(2), end: PeerCloses }
    );
}

// rule: bodyless-status
#[test]
fn response_204_or_304_never_has_a_body() {
    // 9112 6.3 and 9110 8.6: 204 and 304 end with their head, and have no field that frames a body.
    // 9110 15.3.6: a 205 has no content either, and says so.
    struct WithBody(Status, bool);
    impl Responder for WithBody {
        fn respond(&mut self, _: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
            match self.1 {
                true => Response::streamed(self.0, ContentType::ASCII, 8, &b"too much"[..]),
                false => Response::new(self.0, ContentType::ASCII, &b"too much"[..]),
            }
        }
    }
    for (code, framing) in [(204, ""), (205, "Content-Length: 0\r\n"), (304, "")] {
        for is_streamed in [false, true] {
            let status = Status::new(code).unwrap();
            let mut connection = HttpConnection::new(WithBody(status, is_streamed));
            connection.receive(&[PLAIN, PLAIN].concat());
            let line = format!("HTTP/1.0 {code} {}\r\n", status.reason());
            let response = line + framing + "Date: *\r\nConnection: keep-alive\r\n\r\n";
            assert_eq!(
                connection.peer_shuts_down(),
                Transcript { output: response.repeat(2), end: PeerCloses }
            );
        }
    }
}

// pitfall: 133
// rule: response-field
#[test]
fn head_longer_than_clients_take_is_an_error_of_the_field() {
    // 9110 5.4. Large fields are sent; what is too large is an error when it is added, however many
    // fields it has.
    let value = "v".repeat(RESPONSE_HEAD_BYTES_MAX);
    let is_too_long = |error| matches!(error, HeaderError::TooLong { .. });
    let response = || Response::ok(ContentType::ASCII, &b"abc"[..]);
    let page = Page::new(ContentType::ASCII, &b"abc"[..]);
    assert!(response().with_header("X", &value).is_err_and(is_too_long));
    assert!(page.with_header("X", &value).is_err_and(is_too_long));
    assert!(response().with_header(&value, "X").is_err_and(is_too_long));
    assert!(response().with_header("X", &value[..RESPONSE_HEAD_BYTES_MAX / 2]).is_ok());
    let mut many = response();
    let error = loop {
        match many.with_header("X", &value[..1000]) {
            Ok(longer) => many = longer,
            Err(error) => break error,
        }
    };
    assert!(is_too_long(error), "{error}");
    let long_type = format!("text/plain; a={}", "b".repeat(CONTENT_TYPE_BYTES_MAX));
    assert_eq!(ContentType::new(&long_type).unwrap_err().position(), CONTENT_TYPE_BYTES_MAX);
}
