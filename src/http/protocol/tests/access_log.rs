//! The access log: one line per response, and nothing in it that a peer can forge.

use std::cell::RefCell;
use std::sync::Once;
use std::time::Duration;

use super::*;
use crate::http::access_log::ACCESS_LOG;
use crate::http::limits::ACCESS_LINE_BYTES_MAX;

/// A logger that keeps the lines of the access log, for each thread its own.
struct LogCapture;

thread_local! {
    static CAPTURED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl log::Log for LogCapture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target() == ACCESS_LOG {
            CAPTURED.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Runs `exchange` on a connection. Checks the start of each line of the access log, up to its
/// time, and returns the rest of each.
fn access_log_of<R: Responder>(
    responder: R,
    exchange: impl FnOnce(&mut HttpConnection<R>),
) -> Vec<String> {
    static IS_SET: Once = Once::new();
    IS_SET.call_once(|| {
        log::set_logger(&LogCapture).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
    CAPTURED.take();
    let mut connection = HttpConnection::new(responder);
    exchange(&mut connection);
    if connection.ended.is_none() {
        connection.http.eof(
            &connection.input,
            &mut context(&mut connection.state, &mut connection.effects, &mut connection.meta),
        );
    }
    connection.http.closed(CloseReason::Finished);
    let date = *connection.state.clock.date();
    let after_time = |line: &String| {
        // `127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] `, from `Sun, 06 Nov 1994 08:49:37 GMT`.
        let (start, rest) = line.split_once("] ").unwrap();
        let date = str::from_utf8(&date).unwrap();
        let (day, month, year) = (&date[5..7], &date[8..11], &date[12..16]);
        let expected = format!("127.0.0.1 - - [{day}/{month}/{year}:");
        assert!(start.starts_with(&expected) && start.ends_with(" +0000"), "{line} at {date}");
        assert_eq!(start.len(), expected.len() + "08:49:37 +0000".len(), "{line}");
        rest.to_owned()
    };
    CAPTURED.take().iter().map(after_time).collect()
}

#[test]
fn access_log_has_one_line_per_response() {
    // The Common Log Format: the request line as it was received, the status, and the bytes of the
    // body, or `-` for none.
    let site = || Site::new().with_access_log(true);
    for (request, lines) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &[r#""GET / HTTP/1.1" 200 134"#][..]),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &[r#""HEAD / HTTP/1.1" 200 -"#]),
        ("GET /?a=b HTTP/1.0\r\n\r\n", &[r#""GET /?a=b HTTP/1.0" 200 134"#]),
        ("GET /plaintext\r\n", &[r#""GET /plaintext" 200 13"#]),
        (
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            &[r#""POST /echo HTTP/1.1" 200 2"#],
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            &[r#""POST /echo HTTP/1.1" 200 -"#],
        ),
        ("\r\nFOO / HTTP/1.1\r\nHost: a\r\n\r\n", &[r#""FOO / HTTP/1.1" 501 20"#]),
        ("GET /a b\r\n", &[r#""GET /a b" 400 16"#]),
        ("GE", &[r#""GE" 400 16"#]),
        ("", &[]),
        (
            "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
            &[r#""GET /plaintext HTTP/1.1" 200 13"#, r#""GET /nowhere HTTP/1.1" 404 14"#],
        ),
    ] {
        assert_eq!(
            access_log_of(site(), |connection| connection.receive(request.as_bytes())),
            lines,
            "{request:?}"
        );
        assert_eq!(
            access_log_of(Site::new(), |connection| connection.receive(request.as_bytes())),
            [""; 0],
            "only if the responder asks for it"
        );
    }
    let late = |connection: &mut HttpConnection<Site>| {
        connection.receive(b"GET /");
        connection.wait(head_timeout_ms());
    };
    assert_eq!(access_log_of(site(), late), [r#""-" 408 20"#]);
}

#[test]
fn access_log_has_one_line_for_an_incomplete_body() {
    // Whether the body is taken or skipped, the line has the request and the error response.
    for start in ["POST /", "POST /echo"] {
        let cut_short = format!("{start} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell");
        let late = |connection: &mut HttpConnection<Site>| {
            connection.receive(cut_short.as_bytes());
            connection.wait(body_timeout_ms());
        };
        let site = || Site::new().with_access_log(true);
        assert_eq!(access_log_of(site(), late), [format!("\"{start} HTTP/1.1\" 408 20")]);
        assert_eq!(
            access_log_of(site(), |connection| connection.receive(cut_short.as_bytes())),
            [format!("\"{start} HTTP/1.1\" 400 16")]
        );
    }
}

#[test]
fn access_log_escapes_what_a_peer_sends() {
    // Bytes that could end the line, close its quotes or move a cursor are escaped, and a long line
    // is cut.
    let site = || Site::new().with_access_log(true);
    for (line, shown) in [
        (&b"GET /\"quoted\" HTTP/1.1"[..], r#""GET /\"quoted\" HTTP/1.1" 404 14"#),
        (b"GET /\\ HTTP/1.1", r#""GET /\\ HTTP/1.1" 404 14"#),
        (b"GET /it's\\'s HTTP/1.1", r#""GET /it's\\'s HTTP/1.1" 404 14"#),
        (b"GET /\x1b[2J HTTP/1.1", r#""GET /\x1b[2J HTTP/1.1" 400 16"#),
        (b"GET /\r200 HTTP/1.1", r#""GET /\r200 HTTP/1.1" 400 16"#),
        (b"GET /\xe4\0 HTTP/1.1", r#""GET /\xe4\x00 HTTP/1.1" 400 16"#),
    ] {
        let request = [line, b"\r\nHost: a\r\n\r\n"].concat();
        assert_eq!(access_log_of(site(), |connection| connection.receive(&request)), [shown]);
    }
    for (bytes, end) in [(ACCESS_LINE_BYTES_MAX, ""), (ACCESS_LINE_BYTES_MAX + 1, "...")] {
        let around = "GET / HTTP/1.1".len();
        let line = format!("GET /{} HTTP/1.1", "a".repeat(bytes - around));
        let shown = format!("\"{}{end}\" 404 14", &line[..ACCESS_LINE_BYTES_MAX]);
        assert_eq!(
            access_log_of(site(), |connection| connection
                .receive(format!("{line}\r\nHost: a\r\n\r\n").as_bytes())),
            [shown]
        );
    }
}

#[test]
fn streamed_response_is_logged_at_its_end_with_the_bytes_sent() {
    struct LoggingResponder(StreamingResponder);
    impl Responder for LoggingResponder {
        fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
            self.0.respond(request, cx)
        }
        fn logs_access(&self) -> bool {
            true
        }
    }
    let streaming = |length, pieces: &[usize]| {
        LoggingResponder(StreamingResponder {
            bytes: text(100_000).into(),
            pieces: pieces.to_vec(),
            length,
        })
    };
    let line = r#""GET /plaintext HTTP/1.1" 200"#;
    assert_eq!(
        access_log_of(streaming(100_000, &[7_000]), |connection| connection.receive(PLAIN)),
        [format!("{line} 100000")]
    );
    // The body is shorter than its Content-Length.
    assert_eq!(
        access_log_of(streaming(100_001, &[7_000]), |connection| connection.receive(PLAIN)),
        [format!("{line} 100000")]
    );
    // The connection ends while a read returns `WouldBlock`: no line before, and one then.
    let reset = |connection: &mut HttpConnection<LoggingResponder>| {
        connection.receive(PLAIN);
        assert!(connection.is_paused && CAPTURED.with_borrow(Vec::is_empty));
        connection.http.closed(CloseReason::PeerReset);
        connection.ended = Some(Next::Abort);
        assert_eq!(CAPTURED.with_borrow(Vec::len), 1);
        connection.http.state = State::NEXT;
    };
    assert_eq!(
        access_log_of(streaming(100_000, &[30_000, 0, 0]), reset),
        [format!("{line} 30000")]
    );
}

#[test]
fn late_and_ongoing_answers_are_logged_at_their_end() {
    struct Late;
    impl Responder for Late {
        fn respond(&mut self, request: &Request<'_>, _: &mut HttpContext<'_, '_>) -> Response<'_> {
            match request.path() {
                b"/late" => Response::later(Duration::from_secs(5)),
                _ => Response::ongoing(Status::OK, ContentType::ASCII, |feed, _| {
                    std::mem::forget(feed);
                }),
            }
        }
        fn logs_access(&self) -> bool {
            true
        }
    }
    let get = |path: &str| format!("GET {path} HTTP/1.0\r\n\r\n");
    let waits = |connection: &mut HttpConnection<Late>| {
        connection.receive(get("/late").as_bytes());
        assert!(CAPTURED.with_borrow(Vec::is_empty));
    };
    let left = |connection: &mut HttpConnection<Late>| {
        waits(connection);
        connection.ended = Some(Next::Abort);
    };
    let expired = |connection: &mut HttpConnection<Late>| {
        waits(connection);
        connection.wait(5_000);
    };
    assert_eq!(access_log_of(Late, left), [r#""GET /late HTTP/1.0" 499 -"#]);
    assert_eq!(access_log_of(Late, expired), [r#""GET /late HTTP/1.0" 504 20"#]);
    let ongoing = |connection: &mut HttpConnection<Late>| {
        connection.receive(get("/").as_bytes());
        connection.ended = Some(Next::Abort);
    };
    assert_eq!(access_log_of(Late, ongoing), [r#""GET / HTTP/1.0" 200 -"#]);
}
