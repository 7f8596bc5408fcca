//! Beginnings that no request has: each is refused at its first wrong byte, and waits for nothing.

use super::*;
use crate::http::limits::{HEADERS_MAX, METHOD_BYTES_MAX};

// pitfall: 131
// rule: early-refusal
#[test]
fn request_line_is_rejected_at_the_first_byte_that_rules_it_out() {
    // 9112 3 and 2.2. The last byte of each row rules out every request, and the row ends there:
    // the client sends nothing more, and gets its response all the same.
    for (rule, beginning) in [
        ("TLS", &b"\x16"[..]),
        ("SSL 2", b"\x80"),
        ("PROXY protocol 2", b"\r\n\r\n\0"),
        ("PROXY protocol 1", b"PROXY T"),
        ("SMB", b"\0"),
        ("RDP", b"\x03"),
        ("an HTTP response", b"HTTP/"),
        ("a chunk", b"5\r"),
        ("Redis", b"*1\r"),
        ("JSON", b"{"),
        ("9112 3.1: not a token", b"GE("),
        ("9112 3.1: no method", b" "),
        ("9112 3: tab", b"GET\t"),
        ("9112 2.2: LF alone", b"\n"),
        ("9112 2.2: LF alone", b"GET\n"),
        ("9112 2.2: CR alone", b"\rG"),
        ("9112 2.2: CR alone", b"GET /\r/"),
        ("9112 3: two spaces", b"GET  "),
        ("9112 3.2: no form of a target", b"GET a"),
        ("9112 3.2: no form of a target", b"GET ?"),
        ("9112 3.2.4: only for OPTIONS", b"GET *"),
        ("9112 3.2.4: not alone", b"OPTIONS *x"),
        ("9110 4.2: another scheme", b"GET htx"),
        ("9110 4.2: another scheme", b"GET https:a"),
        ("9112 3.2: control octet", b"GET /a\x01"),
        ("9112 3.2: NUL in the query", b"GET /?\0"),
        ("9110 4.2.5: fragment", b"GET /a#"),
        ("9112 3.2: space in the target", b"GET /a b"),
        ("9112 2.3: not a version", b"GET / HTTX"),
        ("9112 2.3: not a version", b"GET / h"),
        ("9112 2.3: two digits", b"GET / HTTP/1.10"),
        ("9112 2.3: LF alone", b"GET / HTTP/1.1\n"),
        ("9112 2.2: CR alone", b"GET / HTTP/1.1\rH"),
    ] {
        check_rejected(rule, beginning, "400 Bad Request");
        let before = &beginning[..beginning.len() - 1];
        if !matches!(before, b"" | b"\r\n\r\n") {
            check("not before", before, &[error("400 Bad Request", CLOSE)], CutShort);
        }
    }
    check_rejected("9113 3.4: HTTP/2", "PRI * HTTP/2.0\r\n", "505 HTTP Version Not Supported");
}

// pitfall: 131
// rule: early-refusal
#[test]
fn method_longer_than_any_is_501_before_its_end() {
    // 9112 3: a method that is longer than any that the server implements.
    let long = "M".repeat(METHOD_BYTES_MAX + 1);
    check_rejected("9112 3", &long, "501 Not Implemented");
    check("may be a method", &long[1..], &[error("400 Bad Request", CLOSE)], CutShort);
    check_rejected(
        "9110 15.6.2",
        line(&format!("{} / HTTP/1.1", &long[1..])),
        "501 Not Implemented",
    );
    check_rejected("9112 3", long.repeat(300), "501 Not Implemented");
}

// pitfall: 131
// rule: early-refusal
#[test]
fn field_line_is_rejected_at_its_first_invalid_byte() {
    // 9112 5 and 9110 5.5. The last byte of each row is wrong, and nothing follows.
    for (rule, lines) in [
        ("9112 2.2: white space before the fields", " "),
        ("9112 5.2: folded line", "Name: value\r\n\t"),
        ("9110 5.1: empty name", ":"),
        ("9112 5.1: space before the colon", "Name "),
        ("9110 5.1: not a token", "Na("),
        ("9110 5.1: beyond ASCII", "N\u{e4}"),
        ("9112 5: no colon", "Name\r"),
        ("9110 5.5: NUL in a value", "Name: val\0"),
        ("9110 5.5: another control in a value", "Name: val\x1b"),
        ("9110 5.5: DEL in a value", "Name: \x7f"),
        ("9112 2.2: LF alone", "Name: value\n"),
        ("9112 2.2: CR alone", "Name: value\rO"),
        ("9112 2.2: LF alone ends the head", "Name: value\r\n\n"),
        ("9112 2.2: CR alone ends the head", "Name: value\r\n\rG"),
        ("a TLS handshake after the request line", "\x16"),
    ] {
        let head = get("");
        let beginning = head.strip_suffix("\r\n").unwrap().to_owned() + lines;
        // A character beyond ASCII has two bytes, of which the first is wrong.
        let is_two = !lines.is_ascii();
        check_rejected(
            rule,
            &beginning.as_bytes()[..beginning.len() - usize::from(is_two)],
            "400 Bad Request",
        );
    }
    let many = "a: b\r\n".repeat(HEADERS_MAX - 1) + "a";
    let head = get(&many);
    check_rejected(
        "one field more",
        head.strip_suffix("\r\n").unwrap(),
        "431 Request Header Fields Too Large",
    );
}
