//! What a responder is given, and what it cannot break.

use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::http::response::Page;

/// Says what it was asked, in a few words.
struct Mirror;

impl Responder for Mirror {
    fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
        let seen = request.header("X-SEEN").map(|value| value.escape_ascii().to_string());
        let (method, path, body_bytes) =
            (request.method(), request.path().escape_ascii(), request.body_bytes());
        let query = request.query().map(|query| query.escape_ascii().to_string());
        let manners = (request.keeps_alive(), request.expects_continue());
        Response::ok(
            "text/plain",
            format!("{method:?} {path} {query:?} {seen:?} {body_bytes} {manners:?}").into_bytes(),
        )
    }
}

#[test]
fn a_responder_sees_what_was_asked() {
    // 1945 3.1: whatever the version.
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
        let mut peer = Peer::new(Mirror);
        peer.receive(request.as_bytes());
        let output = peer.leave().output;
        assert_eq!(output.split("\r\n\r\n").nth(1), Some(seen), "{request:?}");
    }
}

#[test]
fn the_host_that_is_asked_is_the_one_in_the_target_if_it_has_one() {
    // 9112 3.2.2: whatever the field says then. 9112 3.2.3: CONNECT names it alone.
    struct Hosts;
    impl Responder for Hosts {
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
        let mut peer = Peer::new(Hosts);
        peer.receive(request.as_bytes());
        let output = peer.leave().output;
        assert_eq!(output.split("\r\n\r\n").nth(1), Some(seen), "{request:?}");
    }
    let mut peer = Peer::new(Hosts);
    peer.receive(b"GET http://a/\r\n");
    assert_eq!(peer.leave().output, "None None []", "1945 5: a simple request has a path alone");
}

#[test]
fn nobody_is_asked_to_answer_a_request_before_all_of_it_is_there() {
    // 9112 8: a request whose body is cut short is not served, so that who acts on one does not act on half of one. Nor does
    // an answer that waits for a body hold anything of its own.
    struct Asked(Rc<Cell<u32>>);
    impl Responder for Asked {
        fn respond(&mut self, request: &Request<'_>) -> Response<'_> {
            self.0.set(self.0.get() + 1);
            Response::ok(
                "text/plain",
                format!("{:?} {}", request.method(), request.path().escape_ascii()).into_bytes(),
            )
        }
    }
    let request = b"DELETE /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let asked = Rc::new(Cell::new(0));
    let mut peer = Peer::new(Asked(asked.clone()));
    peer.receive(&request[..request.len() - 1]);
    assert_eq!((asked.get(), peer.leave().end), (0, CutShort));

    let mut peer = Peer::new(Asked(asked.clone()));
    peer.receive(&request[..request.len() - 1]);
    peer.wait(body_timeout_ms());
    assert_eq!((asked.get(), peer.leave().end), (0, Ours(Next::Close)));

    let mut peer = Peer::new(Asked(asked.clone()));
    request.iter().for_each(|&byte| peer.receive(&[byte]));
    assert_eq!(peer.leave().output, answer("200 OK", "text/plain", "", KEEP, "Delete /x"));
    assert_eq!(asked.get(), 1);
}

#[test]
fn a_responder_cannot_break_the_frame() {
    // 9110 5.5. A field that frames the message, or that would end its line, makes the answer a 500, whatever comes behind it.
    // Others stand between ours.
    struct Careless(&'static str, &'static str);
    impl Responder for Careless {
        fn respond(&mut self, _: &Request<'_>) -> Response<'_> {
            Response::ok("text/plain", Vec::new())
                .with_header(self.0, self.1)
                .with_header("X-Fine", "a\tb, \"c\"")
        }
    }
    let answer_of = |name, value| {
        let mut peer = Peer::new(Careless(name, value));
        peer.receive(PLAIN);
        peer.leave()
    };
    for value in ["a\r\nX: y", "a\n", "a\r", "a\0", "a\x7f"] {
        let expected = answer(
            "500 Internal Server Error",
            "text/plain",
            "X-Fine: a\tb, \"c\"\r\n",
            KEEP,
            "500 Internal Server Error\n",
        );
        assert_eq!(
            answer_of("X-Split", value),
            Talk { output: expected, end: Disconnected },
            "{value:?}"
        );
    }
    let ours = ["content-LENGTH", "Transfer-Encoding", "Connection", "Date", "Content-Type"];
    for name in ours.into_iter().chain(["", "Na me", "X-Split: a\r\nX", "N\u{e4}me"]) {
        assert!(answer_of(name, "5").output.starts_with("HTTP/1.0 500 "), "{name:?}");
    }
    let expected = answer("200 OK", "text/plain", "X-Good: 1\r\nX-Fine: a\tb, \"c\"\r\n", KEEP, "");
    assert_eq!(answer_of("X-Good", "1"), Talk { output: expected, end: Disconnected });
}

#[test]
fn a_responder_cannot_break_the_frame_with_a_type_either() {
    // 9110 5.5. Not in an answer, nor in one that is streamed, nor in a page.
    struct Typed(&'static str, usize, Page);
    impl Responder for Typed {
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
            let mut peer = Peer::new(Typed(content_type, kind, Page::new("", "".as_bytes())));
            peer.receive(PLAIN);
            assert_eq!(
                peer.leave(),
                Talk { output: error("500 Internal Server Error", KEEP), end: Disconnected },
                "{content_type:?}"
            );
        }
        let mut peer =
            Peer::new(Typed("text/plain; charset=\"utf-8\"", kind, Page::new("", "".as_bytes())));
        peer.receive(PLAIN);
        let expected = answer("200 OK", "text/plain; charset=\"utf-8\"", "", KEEP, "abc");
        assert_eq!(peer.leave(), Talk { output: expected, end: Disconnected });
    }
}

#[test]
fn an_answer_that_can_have_no_body_has_none_whatever_its_responder_says() {
    // 9112 6.3 and 9110 8.6: 204 and 304 end with their head, and have no field that frames a body.
    struct Wordy(Status, bool);
    impl Responder for Wordy {
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
        let mut peer = Peer::new(Wordy(status, is_streamed));
        peer.receive(&[PLAIN, PLAIN].concat());
        let answer =
            format!("HTTP/1.0 {}\r\nDate: *\r\nConnection: keep-alive\r\n\r\n", status.as_str());
        assert_eq!(peer.leave(), Talk { output: answer.repeat(2), end: Disconnected });
    }
}
