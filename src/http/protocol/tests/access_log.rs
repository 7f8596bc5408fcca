//! What the access log says.

use std::cell::RefCell;
use std::sync::Once;

use super::*;
use crate::http::access_log::ACCESS_LOG;
use crate::limits::ACCESS_LINE_BYTES_MAX;

/// Keeps, for each thread, the lines of the access log that it has caused.
struct Lines;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target() == ACCESS_LOG {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Has a conversation, and returns what of each line of the access log follows the moment, which is checked.
fn logged<R: Responder>(responder: R, story: impl FnOnce(&mut Peer<R>)) -> Vec<String> {
    static IS_SET: Once = Once::new();
    IS_SET.call_once(|| {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
    LINES.take();
    let mut peer = Peer::new(responder);
    story(&mut peer);
    if peer.last_word.is_none() {
        peer.http
            .eof(&peer.input, &mut context(&mut peer.state, &mut peer.effects, &mut peer.meta));
    }
    peer.http.closed(CloseReason::Finished);
    let date = *peer.state.clock.date();
    let of_line = |line: &String| {
        // `127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] `, of the date `Sun, 06 Nov 1994 08:49:37 GMT`.
        let (moment, rest) = line.split_once("] ").unwrap();
        let date = str::from_utf8(&date).unwrap();
        let (day, month, year) = (&date[5..7], &date[8..11], &date[12..16]);
        let expected = format!("127.0.0.1 - - [{day}/{month}/{year}:");
        assert!(moment.starts_with(&expected) && moment.ends_with(" +0000"), "{line} at {date}");
        assert_eq!(moment.len(), expected.len() + "08:49:37 +0000".len(), "{line}");
        rest.to_owned()
    };
    LINES.take().iter().map(of_line).collect()
}

#[test]
fn each_answer_is_a_line_in_the_access_log() {
    // The Common Log Format: the request line as it came, the status, and the bytes of the body, or `-` where there are none.
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
        assert_eq!(logged(site(), |peer| peer.receive(request.as_bytes())), lines, "{request:?}");
        assert_eq!(
            logged(Site::new(), |peer| peer.receive(request.as_bytes())),
            [""; 0],
            "not unless it is asked for"
        );
    }
    let late = |peer: &mut Peer<Site>| {
        peer.receive(b"GET /");
        peer.wait(head_timeout_ms());
    };
    assert_eq!(logged(site(), late), [r#""-" 408 20"#]);
}

#[test]
fn a_request_whose_body_does_not_come_is_one_line_in_the_access_log() {
    // Whether somebody takes the body or nobody does: what is logged is the answer that it got, and what it had asked.
    for start in ["POST /", "POST /echo"] {
        let cut_short = format!("{start} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell");
        let late = |peer: &mut Peer<Site>| {
            peer.receive(cut_short.as_bytes());
            peer.wait(body_timeout_ms());
        };
        let site = || Site::new().with_access_log(true);
        assert_eq!(logged(site(), late), [format!("\"{start} HTTP/1.1\" 408 20")]);
        assert_eq!(
            logged(site(), |peer| peer.receive(cut_short.as_bytes())),
            [format!("\"{start} HTTP/1.1\" 400 16")]
        );
    }
}

#[test]
fn a_peer_cannot_write_what_it_likes_into_the_access_log() {
    // What could end the line, close its quotes or move a cursor is escaped, and a long line is cut.
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
        assert_eq!(logged(site(), |peer| peer.receive(&request)), [shown]);
    }
    for (bytes, end) in [(ACCESS_LINE_BYTES_MAX, ""), (ACCESS_LINE_BYTES_MAX + 1, "...")] {
        let around = "GET / HTTP/1.1".len();
        let line = format!("GET /{} HTTP/1.1", "a".repeat(bytes - around));
        let shown = format!("\"{}{end}\" 404 14", &line[..ACCESS_LINE_BYTES_MAX]);
        assert_eq!(
            logged(site(), |peer| peer.receive(format!("{line}\r\nHost: a\r\n\r\n").as_bytes())),
            [shown]
        );
    }
}

#[test]
fn a_streamed_answer_is_logged_when_it_is_over_with_the_bytes_that_it_gave() {
    struct Logged(Springs);
    impl Responder for Logged {
        fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
            self.0.respond(request)
        }
        fn logs_access(&self) -> bool {
            true
        }
    }
    let springs = |length, pieces: &[usize]| {
        Logged(Springs { bytes: text(100_000).into(), pieces: pieces.to_vec(), length })
    };
    let line = r#""GET /plaintext HTTP/1.1" 200"#;
    assert_eq!(
        logged(springs(100_000, &[7_000]), |peer| peer.receive(PLAIN)),
        [format!("{line} 100000")]
    );
    // It has less than it said.
    assert_eq!(
        logged(springs(100_001, &[7_000]), |peer| peer.receive(PLAIN)),
        [format!("{line} 100000")]
    );
    // The connection ends while it has nothing: no line before, and one then.
    let cut_off = |peer: &mut Peer<Logged>| {
        peer.receive(PLAIN);
        assert!(peer.is_paused && LINES.with_borrow(Vec::is_empty));
        peer.http.closed(CloseReason::PeerReset);
        peer.last_word = Some(Next::Abort);
        assert_eq!(LINES.with_borrow(Vec::len), 1);
        peer.http.state = State::NEXT;
    };
    assert_eq!(logged(springs(100_000, &[30_000, 0, 0]), cut_off), [format!("{line} 30000")]);
}
