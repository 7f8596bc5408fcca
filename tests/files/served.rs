//! What is served: files, indexes, redirects, and the pages where there is no file.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use super::common::{assert_same, connect, pattern};
use super::{HttpResponse, TempDir, get, request};

// pitfall: 132, 135
// rule: content-type, target-characters
#[test]
fn file_is_served_with_type_length_and_date() {
    // RFC 9110 section 8.3: the content type follows from the extension alone. A name may have any
    // bytes, also ones that a target should not have (RFC 9112 section 3.2), and is decoded once.
    let temp = TempDir::new("types");
    let program = temp.serve(&[]);
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_900);
    for (name, target, content_type) in [
        (&b"a.html"[..], "/a.html", "text/html; charset=utf-8"),
        (b"a.css", "/a.css", "text/css; charset=utf-8"),
        (b"a.js", "/a.js", "text/javascript; charset=utf-8"),
        (b"a.mjs", "/a.mjs", "text/javascript; charset=utf-8"),
        (b"a.xml", "/a.xml", "text/xml"), // it names its encoding itself
        (b"a.csv", "/a.csv", "text/csv; charset=utf-8"),
        (b"a.md", "/a.md", "text/markdown; charset=utf-8"),
        (b"sub/deep/a.png", "/sub/deep/a.png", "image/png"),
        (b"a b.TXT", "/a%20b.TXT?query=none", "text/plain; charset=utf-8"),
        (b"100%.svg", "/100%25.svg", "image/svg+xml"),
        (b"%2e%2e.json", "/%252e%252e.json", "application/json"),
        (b"caf\xe9.wasm", "/caf%E9.wasm", "application/wasm"),
        ("größe.pdf".as_bytes(), "/gr%c3%b6%C3%9Fe.pdf", "application/pdf"),
        ("grüße.pdf".as_bytes(), "/grüße.pdf", "application/pdf"), // not encoded
        (b"a.unheardof", "/a.unheardof", "application/octet-stream"),
        (b"README", "/README", "application/octet-stream"),
        (b"sub/index.htm", "/sub/index.htm", "text/html; charset=utf-8"),
        (
            b".well-known/acme-challenge/x",
            "/.well-known/acme-challenge/x",
            "application/octet-stream",
        ),
    ] {
        let bytes = pattern(name.len() as u64, 300 * name.len());
        let path = temp.file(OsStr::from_bytes(name), &bytes);
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        let response = get(program.http(), target);
        assert_eq!(response.status(), "200", "{target}");
        assert_eq!(response.field("Content-Type"), Some(content_type), "{target}");
        assert_eq!(
            response.field("Last-Modified"),
            Some("Sun, 06 Nov 1994 08:49:37 GMT"),
            "{target}"
        );
        assert_same(&response.body, &bytes);
    }
    temp.file("empty.js", b"");
    let response = get(program.http(), "/empty.js");
    assert_eq!((response.status(), response.field("Content-Length")), ("200", Some("0")));
}

// rule: head
#[test]
fn head_gets_the_fields_of_a_file_and_http_0_9_its_bytes() {
    let temp = TempDir::new("forms");
    temp.file("a.txt", b"hello");
    let program = temp.serve(&[]);
    let without_date = |response: HttpResponse| {
        response.head.lines().filter(|line| !line.starts_with("Date")).collect::<String>()
    };
    let head = request(program.http(), "HEAD /a.txt", "");
    assert!(head.body.is_empty());
    assert_eq!(without_date(head), without_date(get(program.http(), "/a.txt")));
    let mut stream = connect(program.http());
    stream.write_all(b"GET /a.txt\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"hello");
}

// rule: range
#[test]
fn range_is_ignored() {
    // RFC 9110 section 14.2: a server without ranges sends the whole file.
    let temp = TempDir::new("range");
    temp.file("a.txt", b"hello");
    let program = temp.serve(&[]);
    let response = request(program.http(), "GET /a.txt", "Range: bytes=1-2\r\n");
    assert_eq!((response.status(), &response.body[..]), ("200", &b"hello"[..]));
}

// pitfall: 95, 132
// rule: redirect, dot-segments
#[test]
fn directory_serves_its_index_or_redirects_to_the_final_slash() {
    // RFC 1945 section 9.3, RFC 9110 section 15.4.2, RFC 3986 section 5.2.4. Each location is made
    // from the decoded and normalised path, encoded again, and leads to this server.
    let temp = TempDir::new("directories");
    temp.file("index.html", b"root");
    temp.file("sub/index.html", b"sub");
    temp.file("a b%/\u{fc}/index.html", b"deep");
    temp.file("bare/file", b"file");
    temp.file("evil.example/index.html", b"evil");
    temp.file("odd/index.html/file", b"file");
    temp.file("plaintext/index.html", b"not the line of plain text");
    let program = temp.serve(&[]);
    for (target, body) in [
        ("/", "root"),
        ("/?a", "root"),
        ("/sub/", "sub"),
        ("/a%20b%25/%C3%BC/", "deep"),
        ("/a%20b%25/\u{fc}/", "deep"),
        ("//", "root"),
        ("/.", "root"),
        ("/..", "root"),
        ("/sub/..", "root"),
        ("/sub/../", "root"),
        ("/sub/.", "sub"),
        ("/sub//", "sub"),
        ("//sub/", "sub"),
        ("/sub/./", "sub"),
        ("/sub/x/..", "sub"),
        ("http://a/..", "root"),
    ] {
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
        ("//sub", "/sub/"),
        ("///sub", "/sub/"),
        ("/./sub", "/sub/"),
        ("/../sub", "/sub/"),
        ("/bare/../sub", "/sub/"),
        ("/bare//..//sub?//x", "/sub/?//x"),
        ("//evil.example", "/evil.example/"),
        ("/.//evil.example", "/evil.example/"),
        ("//evil.example/%2e%2e//evil.example", "/evil.example/"),
        ("http://a//evil.example", "/evil.example/"),
        ("/sub?ä=\"<x>", "/sub/?%C3%A4=%22%3Cx%3E"),
        ("/plaintext", "/plaintext/"),
    ] {
        for method in ["GET", "HEAD"] {
            let response = request(program.http(), &format!("{method} {target}"), "");
            assert_eq!(
                (response.status(), response.field("Location")),
                ("301", Some(location)),
                "{method} {target}"
            );
        }
    }
    for target in [
        "/bare/",
        "/bare/.",
        "/bare/x/..",
        "/bare/file/.",
        "/\\evil.example",
        "/%5cevil.example",
        "/%2fevil.example",
        "//nowhere.example",
        "/odd/",
        "/bare/file/",
        "/bare/nothing",
        "/sub/index.html/",
    ] {
        assert_eq!(get(program.http(), target).status(), "404", "{target}");
    }
}

#[test]
fn root_alone_has_no_builtin_pages() {
    let temp = TempDir::new("no-pages");
    temp.file("a.txt", b"hello");
    let program = temp.serve(&[]);
    assert_eq!(get(program.http(), "/a.txt").body, b"hello");
    for path in ["/", "/plaintext", "/echo"] {
        assert_eq!(get(program.http(), path).status(), "404", "{path}");
    }
    let response = request(program.http(), "POST /echo", "Content-Length: 0\r\n");
    assert_eq!((response.status(), response.field("Allow")), ("405", Some("GET, HEAD")));
}

#[test]
fn builtin_pages_are_served_where_no_file_exists() {
    let temp = TempDir::new("pages");
    temp.file("a.txt", b"hello");
    let program = temp.serve(&["--builtin-pages"]);
    assert!(get(program.http(), "/").body.starts_with(b"<!DOCTYPE html>"));
    assert_eq!(get(program.http(), "/plaintext").body, b"Hello, World!");
    assert_eq!(request(program.http(), "POST /echo", "Content-Length: 0\r\n").status(), "200");
    assert_eq!(get(program.http(), "/nothing").status(), "404");
    for (line, allowed) in [
        ("POST /a.txt", "GET, HEAD"),
        ("DELETE /a.txt", "GET, HEAD"),
        ("PUT /new", "GET, HEAD"),
        ("OPTIONS /echo", "POST"),
    ] {
        let response = request(program.http(), line, "Content-Length: 0\r\n");
        assert_eq!((response.status(), response.field("Allow")), ("405", Some(allowed)), "{line}");
    }
    // A file that is created or removed takes effect at once.
    temp.file("plaintext", b"mine");
    temp.file("echo", b"echo");
    assert_eq!(get(program.http(), "/plaintext").body, b"mine");
    assert_eq!(get(program.http(), "/echo").body, b"echo");
    fs::remove_file(temp.root().join("plaintext")).unwrap();
    assert_eq!(get(program.http(), "/plaintext").body, b"Hello, World!");
}

#[test]
fn renamed_root_is_still_served() {
    let temp = TempDir::new("renamed");
    temp.file("a.txt", b"hello");
    let program = temp.serve(&[]);
    fs::rename(temp.root(), temp.0.join("elsewhere")).unwrap();
    assert_eq!(get(program.http(), "/a.txt").body, b"hello");
}
