//! What is served: files, indexes, redirects, and the pages behind them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use super::common::{assert_same, connect, pattern};
use super::{Answer, Place, ask, get};

#[test]
fn a_file_is_served_with_its_type_its_length_and_its_date() {
    // The type goes by the ending alone. A name may have any bytes, and is decoded once.
    let place = Place::new("types");
    let program = place.serve(&[]);
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_900);
    for (name, target, content_type) in [
        (&b"a.html"[..], "/a.html", "text/html"),
        (b"a.css", "/a.css", "text/css"),
        (b"sub/deep/a.png", "/sub/deep/a.png", "image/png"),
        (b"a b.TXT", "/a%20b.TXT?query=none", "text/plain"),
        (b"100%.svg", "/100%25.svg", "image/svg+xml"),
        (b"%2e%2e.json", "/%252e%252e.json", "application/json"),
        (b"caf\xe9.wasm", "/caf%E9.wasm", "application/wasm"),
        ("größe.pdf".as_bytes(), "/gr%c3%b6%C3%9Fe.pdf", "application/pdf"),
        (b"a.unheardof", "/a.unheardof", "application/octet-stream"),
        (b"README", "/README", "application/octet-stream"),
        (b"sub/index.htm", "/sub/index.htm", "text/html"),
        (
            b".well-known/acme-challenge/x",
            "/.well-known/acme-challenge/x",
            "application/octet-stream",
        ),
    ] {
        let bytes = pattern(name.len() as u64, 300 * name.len());
        let path = place.file(OsStr::from_bytes(name), &bytes);
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        let answer = get(program.http(), target);
        assert_eq!(answer.status(), "200", "{target}");
        assert_eq!(answer.field("Content-Type"), Some(content_type), "{target}");
        assert_eq!(
            answer.field("Last-Modified"),
            Some("Sun, 06 Nov 1994 08:49:37 GMT"),
            "{target}"
        );
        assert_same(&answer.body, &bytes);
    }
    place.file("empty.js", b"");
    let answer = get(program.http(), "/empty.js");
    assert_eq!((answer.status(), answer.field("Content-Length")), ("200", Some("0")));
}

#[test]
fn head_gets_the_fields_of_get_and_a_client_of_http_0_9_the_bytes_alone() {
    let place = Place::new("forms");
    place.file("a.txt", b"hello");
    let program = place.serve(&[]);
    let without_date = |answer: Answer| {
        answer.head.lines().filter(|line| !line.starts_with("Date")).collect::<String>()
    };
    let head = ask(program.http(), "HEAD /a.txt", "");
    assert!(head.body.is_empty());
    assert_eq!(without_date(head), without_date(get(program.http(), "/a.txt")));
    let mut stream = connect(program.http());
    stream.write_all(b"GET /a.txt\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"hello");
}

#[test]
fn a_range_is_not_heeded() {
    // RFC 9110 section 14.2: whoever has no ranges answers in full.
    let place = Place::new("range");
    place.file("a.txt", b"hello");
    let program = place.serve(&[]);
    let answer = ask(program.http(), "GET /a.txt", "Range: bytes=1-2\r\n");
    assert_eq!((answer.status(), &answer.body[..]), ("200", &b"hello"[..]));
}

#[test]
fn a_directory_is_its_index_and_without_the_final_slash_the_way_there() {
    // RFC 1945 section 9.3, RFC 9110 section 15.4.2. Each address is encoded anew from what was decoded, and leads to this
    // server.
    let place = Place::new("directories");
    place.file("index.html", b"root");
    place.file("sub/index.html", b"sub");
    place.file("a b%/\u{fc}/index.html", b"deep");
    place.file("bare/file", b"file");
    place.file("odd/index.html/file", b"file");
    place.file("plaintext/index.html", b"not the line of plain text");
    let program = place.serve(&[]);
    for (target, body) in
        [("/", "root"), ("/?a", "root"), ("/sub/", "sub"), ("/a%20b%25/%C3%BC/", "deep")]
    {
        assert_eq!(get(program.http(), target).body, body.as_bytes(), "{target}");
    }
    for (target, location) in [
        ("/sub", "/sub/"),
        ("/%73ub", "/sub/"),
        ("/sub?x=/../%zz&y", "/sub/?x=/../%zz&y"),
        ("/sub?", "/sub/?"),
        ("/a%20b%25", "/a%20b%25/"),
        ("/a%20b%25/%c3%bc", "/a%20b%25/%C3%BC/"),
        ("http://elsewhere.example/sub", "/sub/"),
        ("/plaintext", "/plaintext/"),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = ask(program.http(), &format!("{method} {target}"), "");
            assert_eq!(
                (answer.status(), answer.field("Location")),
                ("301", Some(location)),
                "{method} {target}"
            );
        }
    }
    for target in [
        "//sub",
        "//sub/",
        "/sub//",
        "/bare/",
        "/odd/",
        "/bare/file/",
        "/bare/nothing",
        "/sub/index.html/",
    ] {
        assert_eq!(get(program.http(), target).status(), "404", "{target}");
    }
}

#[test]
fn where_there_is_no_such_file_the_pages_are_still_there() {
    let place = Place::new("pages");
    place.file("a.txt", b"hello");
    let program = place.serve(&[]);
    assert!(get(program.http(), "/").body.starts_with(b"<!DOCTYPE html>"));
    assert_eq!(get(program.http(), "/plaintext").body, b"Hello, World!");
    assert_eq!(ask(program.http(), "POST /echo", "Content-Length: 0\r\n").status(), "200");
    assert_eq!(get(program.http(), "/nothing").status(), "404");
    for (line, allowed) in [
        ("POST /a.txt", "GET, HEAD"),
        ("DELETE /a.txt", "GET, HEAD"),
        ("PUT /new", "GET, HEAD"),
        ("OPTIONS /echo", "POST"),
    ] {
        let answer = ask(program.http(), line, "Content-Length: 0\r\n");
        assert_eq!((answer.status(), answer.field("Allow")), ("405", Some(allowed)), "{line}");
    }
    // What comes and goes is seen at once.
    place.file("plaintext", b"mine");
    place.file("echo", b"echo");
    assert_eq!(get(program.http(), "/plaintext").body, b"mine");
    assert_eq!(get(program.http(), "/echo").body, b"echo");
    fs::remove_file(place.root().join("plaintext")).unwrap();
    assert_eq!(get(program.http(), "/plaintext").body, b"Hello, World!");
}

#[test]
fn a_root_that_is_renamed_stays_the_root() {
    let place = Place::new("renamed");
    place.file("a.txt", b"hello");
    let program = place.serve(&[]);
    fs::rename(place.root(), place.0.join("elsewhere")).unwrap();
    assert_eq!(get(program.http(), "/a.txt").body, b"hello");
}
