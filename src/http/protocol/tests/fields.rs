//! Fields: their syntax, the Host field, and how large a head may be.

use super::*;
use crate::http::limits::HEADERS_MAX;

// pitfall: 80
// rule: bare-lf, bare-cr, space-before-fields, space-before-colon, folded-line, field-line
// rule: control-characters
#[test]
fn ambiguous_line_is_rejected() {
    // Each row is part of a head that would be valid without it.
    for (rule, lines) in [
        ("9112 5.1: space before the colon", "Name : value\r\n"),
        ("9112 5.1: tab before the colon", "Content-Length\t: 5\r\n"),
        ("9112 5.2: folded line", "Name: value\r\n more\r\n"),
        ("9112 5.2: folded with a tab", "Name: value\r\n\tmore\r\n"),
        ("9112 5.2: folded to nothing", "Name: value\r\n \r\n"),
        ("9112 2.2: LF alone ends a line", "Name: value\n"),
        ("9112 2.2: LF alone ends a line without a value", "Name:\n"),
        ("9112 2.2: LF alone ends a line of white space", "Name: \t\n"),
        ("9112 2.2: LF alone ends a line, CR LF the next", "Name: value\nOther: value\r\n"),
        ("9112 2.2: CR alone in a value", "Name: val\rue\r\n"),
        ("9112 2.2: CR alone ends a line", "Name: value\rOther: value\r\n"),
        ("9112 2.2: CR alone in a name", "Na\rme: value\r\n"),
        ("9112 2.2: CR twice", "Name: value\r\r\n"),
        ("9110 5.5: NUL in a value", "Name: val\0ue\r\n"),
        ("9110 5.5: another control in a value", "Name: val\x01ue\r\n"),
        ("9110 5.5: DEL in a value", "Name: val\x7fue\r\n"),
        ("9110 5.1: NUL in a name", "Na\0me: value\r\n"),
        ("9110 5.1: space in a name", "Na me: value\r\n"),
        ("9110 5.1: name that is no token", "Na(me: value\r\n"),
        ("9110 5.1: name beyond ASCII", "Näme: value\r\n"),
        ("9110 5.1: empty name", ": value\r\n"),
        ("9112 5: no colon", "Name\r\n"),
        ("9112 5: no colon, and a space", "Name value\r\n"),
    ] {
        check_rejected(rule, get(lines), "400 Bad Request");
    }
    for (rule, head) in [
        ("9112 2.2: white space after the request line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        ("9112 2.2: tab after the request line", "GET / HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n"),
        ("9112 2.2: line of white space there", "GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n"),
        ("9112 2.2: LF alone ends the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        ("9112 2.2: CR alone ends the request line", "GET / HTTP/1.1\rHost: a\r\n\r\n"),
        ("9112 2.2: LF alone ends the head", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        ("9112 2.2: LF alone ends all lines", "GET / HTTP/1.1\nHost: a\n\n"),
        ("9112 2.2: LF alone before the request line", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("9112 2.2: CR alone before the request line", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        check_rejected(rule, head, "400 Bad Request");
    }
}

// rule: field-line, beyond-ascii, space-around-value, upgrade, undated-resource, range
#[test]
fn unusual_but_valid_fields_are_served() {
    for (rule, fields) in [
        ("9110 5.5: obs-text in a value", &b"Name: caf\xe9 \xff\x80\r\n"[..]),
        ("9112 5.1: OWS is space or tab", b"Name: \t value\t \r\n"),
        ("9112 5.1: no OWS", b"Name:value\r\n"),
        ("9110 5.5: tab within a value", b"Name: a\tb\r\n"),
        ("9110 5.5: empty value", b"Name:\r\nOther: \t\r\n"),
        ("9110 5.1: every character of a token", b"!#$%&'*+-.^_`|~09azAZ: value\r\n"),
        (
            "9110 5.5: every visible character",
            b"Name: !\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~\r\n",
        ),
        (
            "1945 10.9: condition on a page without a date",
            b"If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        ),
        ("9110 13.1.2: or without a tag", b"If-None-Match: \"a\"\r\n"),
        ("9110 14.2: range", b"Range: bytes=0-3\r\n"),
        ("9110 7.8: unsupported upgrade", b"Upgrade: websocket\r\nConnection: upgrade\r\n"),
    ] {
        check_served(rule, [b"GET /plaintext HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n"].concat());
    }
}

// pitfall: 80
// rule: one-host, host-syntax
#[test]
fn request_has_exactly_one_valid_host() {
    // 9112 3.2, with the grammar of 3986 3.2.2.
    let host = |value: &str| format!("GET /plaintext HTTP/1.1\r\nHost: {value}\r\n\r\n");
    for value in "a a: a:80 :80 A.example:8080 under_score a-b.~c a!$&'()*+;=b %41%2F 127.0.0.1:80"
        .split(' ')
        .chain([""])
    {
        check_served("9112 3.2: valid", host(value));
    }
    for value in ["[::1]", "[::1]:80", "[::1]:", "[::ffff:192.0.2.1]:80", "[v1.a:b]"] {
        check_served("9112 3.2: valid", host(value));
    }
    check_served("9112 3.2: OWS", "GET /plaintext HTTP/1.1\r\nhost:\ta \t\r\n\r\n");
    for value in "a/b a?b a#b user@a a\"b a\\b <a> a^b a`b {a} a|b café http://a"
        .split(' ')
        .chain(["a b", "a, b", "a\tb"])
    {
        check_rejected("9112 3.2: not a host", host(value), "400 Bad Request");
    }
    check_rejected("9112 3.2: missing", "GET / HTTP/1.1\r\n\r\n", "400 Bad Request");
    check_rejected(
        "9112 3.2: missing, with an absolute target",
        "GET http://a/ HTTP/1.1\r\n\r\n",
        "400 Bad Request",
    );
    check(
        "9112 3.2: missing, in 1.0",
        "GET / HTTP/1.0\r\n\r\n",
        &[page(CLOSE)],
        ServerCloses(Next::CloseWithoutLinger),
    );
    for version in ["1.0", "1.1"] {
        let two = |first, second| {
            format!("GET / HTTP/{version}\r\nHost: {first}\r\nX: y\r\nhOST: {second}\r\n\r\n")
        };
        check_rejected("9112 3.2: two", two("a", "b"), "400 Bad Request");
        check_rejected("9112 3.2: two equal ones", two("a", "a"), "400 Bad Request");
        check_rejected("9112 3.2: two empty ones", two("", ""), "400 Bad Request");
        check_rejected(
            "9112 3.2: not a host",
            format!("GET / HTTP/{version}\r\nHost: a b\r\n\r\n"),
            "400 Bad Request",
        );
    }
}

// rule: host-syntax
#[test]
fn comma_may_be_part_of_a_host() {
    // 3986 3.2.2: a reg-name may have any sub-delim, and the comma is one.
    check_served("3986 3.2.2", "GET /plaintext HTTP/1.1\r\nHost: a,b\r\n\r\n");
}

// rule: host-syntax
#[test]
fn malformed_host_or_port_is_rejected() {
    // 3986 3.2.2: brackets only around an IPv6 or later address, one port of digits only, and %
    // before two hex digits.
    let names = "a:b a:8o a:+80 a:-1 a:80:80 a::80 ::1 a[b] a] % %4 %4g a%zz";
    let literals = "[::1 ::1] [] [a] [1.2.3.4] [::1]80 [::1]a [::1]:a [[::1]] [:::1] [::12345] \
        [v.a] [v1.] [vx.a] [v1a]";
    for value in names.split(' ').chain(literals.split(' ')) {
        check_rejected(
            "3986 3.2.2",
            format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n"),
            "400 Bad Request",
        );
    }
    for target in ["http://a:b/", "http://::1/", "http://[::1/", "http://:80/", "http://%zz/"] {
        check_rejected("9110 4.2.1", line(&format!("GET {target} HTTP/1.1")), "400 Bad Request");
    }
}

// pitfall: 83
// rule: head-size
#[test]
fn longest_head_is_served_and_a_longer_one_is_431() {
    // 9110 5.4, 6585 5: counted in bytes and in fields.
    let fields = |count| get(&"Name: value\r\n".repeat(count - 1)); // and Host
    check_served("longest head", long_head(HEAD_BYTES_MAX));
    check_rejected(
        "one byte more",
        long_head(HEAD_BYTES_MAX + 1),
        "431 Request Header Fields Too Large",
    );
    check_rejected(
        "without an end",
        long_head(INPUT_BYTES_MAX).trim_end(),
        "431 Request Header Fields Too Large",
    );
    let endless = long_head(2 * HEAD_BYTES_MAX);
    check(
        "could still end",
        &endless[..HEAD_BYTES_MAX],
        &[error("400 Bad Request", CLOSE)],
        CutShort,
    );
    check_rejected(
        "cannot end within the limit",
        &endless[..=HEAD_BYTES_MAX],
        "431 Request Header Fields Too Large",
    );
    check_served("as many fields as allowed", fields(HEADERS_MAX));
    check_rejected(
        "one field more",
        fields(HEADERS_MAX + 1),
        "431 Request Header Fields Too Large",
    );
    check_rejected("many more fields", fields(1000), "431 Request Header Fields Too Large");
}

#[test]
fn rejection_of_an_unfinished_head_is_the_same_however_split() {
    // Each row is rejected by the bytes that are there, although the head has not ended. Then the
    // peer sends its FIN.
    let many_fields = "a: b\r\n".repeat(HEADERS_MAX + 1);
    for (start, status) in [
        ("GET / HTTP/2.0\r\n", "505 HTTP Version Not Supported"),
        ("GET / HTTP/2.0\r\nHost: a\r\n", "505 HTTP Version Not Supported"),
        (&format!("GET / HTTP/1.1\r\n{many_fields}"), "431 Request Header Fields Too Large"),
        (&format!("GET / HTTP/1.2\r\n{many_fields}"), "431 Request Header Fields Too Large"),
        ("GET / HTTP/1.1\r\nName : value\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\n folded\r\n", "400 Bad Request"),
    ] {
        for cut in 1..start.len() {
            let whole = run([start.as_bytes()]);
            assert_eq!(whole.output, error(status, CLOSE), "{start:?} whole");
            let pieces = run([&start.as_bytes()[..cut], &start.as_bytes()[cut..]]);
            assert_eq!(pieces.output, error(status, CLOSE), "{start:?} cut at {cut}");
        }
    }
}

// pitfall: 87
#[test]
fn head_in_small_pieces_is_scanned_once_per_line() {
    // Eight bytes are received at a time. The earlier ones may be scanned again only if a line has
    // ended or a limit is reached. While neither is so, they are replaced by line feeds: had one of
    // them been looked at, the request would be rejected.
    for (kind, head, lines) in [
        ("one long value", long_head(HEAD_BYTES_MAX), 3),
        ("one long line", long_line(REQUEST_LINE_BYTES_MAX), 3),
        (
            "many fields",
            get(&format!("Name: {}\r\n", "v".repeat(HEAD_BYTES_MAX / 60)).repeat(55)),
            58,
        ),
    ] {
        let mut connection = HttpConnection::new(Site::default());
        let mut scans = 0;
        for piece in head.as_bytes().chunks(8) {
            let received = connection.input.len();
            let reaches = |limit| received < limit && received + piece.len() >= limit;
            if piece.contains(&b'\n')
                || reaches(REQUEST_LINE_BYTES_MAX)
                || reaches(HEAD_BYTES_MAX + 1)
            {
                connection.input.copy_from_slice(&head.as_bytes()[..received]);
                scans += 1;
            } else {
                connection.input.fill(b'\n');
            }
            connection.receive(piece);
            assert_eq!(connection.ended, None, "{kind}: scanned after {received} bytes");
        }
        assert_eq!(without_dates(&connection.output), plain(KEEP), "{kind}");
        assert!(scans <= lines + 2, "{kind}: {scans} scans");
    }
}
