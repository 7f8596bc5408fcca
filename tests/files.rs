//! Files over HTTP, as clients of the program see them: what is served, what is not, and at whose cost.

#![cfg(unix)]
// The helpers here unwrap as the tests do, and say why they have nothing to do.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::{
    Program, TIMEOUT, assert_same, check_echo, connect, connect_narrow, pattern, reactor,
};

const MIB: usize = 1024 * 1024;
const SECRET: &[u8] = b"Nobody may see this.";

/// A directory with the root in it, and beside the root a secret. It goes with the value.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place); // of a process that had our number and was killed
        fs::create_dir_all(place.join("root")).unwrap();
        fs::write(place.join("secret"), SECRET).unwrap();
        Place(place)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn file(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> PathBuf {
        let path = self.root().join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn serve(&self, flags: &[&str]) -> Program {
        let root = self.root();
        Program::start(
            &[&["--http", "127.0.0.1:0", "--root", root.to_str().unwrap()], flags].concat(),
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> &str {
        &self.head["HTTP/1.0 ".len()..][..3]
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Reads a head, and as many bytes behind it as `length` makes of it.
#[track_caller]
fn read_answer(stream: &mut impl Read, has_body: bool) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let mut answer = Answer { head: String::from_utf8(head).unwrap(), body: Vec::new() };
    let length = answer
        .field("Content-Length")
        .filter(|_| has_body)
        .map_or(0, |length| length.parse().unwrap());
    answer.body.resize(length, 0);
    stream.read_exact(&mut answer.body).unwrap();
    answer
}

/// One request on a connection of its own. `line` is all that stands before the version; behind the answer, the connection
/// ends.
#[track_caller]
fn ask(address: SocketAddr, line: &str, fields: &str) -> Answer {
    let mut stream = connect(address);
    write!(stream, "{line} HTTP/1.0\r\n{fields}\r\n").unwrap();
    let answer = read_answer(&mut stream, !line.starts_with("HEAD"));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.escape_ascii().to_string(), "", "{line}: bytes after the answer");
    answer
}

fn get(address: SocketAddr, target: &str) -> Answer {
    ask(address, &format!("GET {target}"), "")
}

// ---- what is served

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

// ---- what is not

#[test]
fn no_path_leads_out_of_the_root() {
    // RFC 1945 section 12.5, RFC 9110 section 17.3. The secret lies beside the root, and the same name within it would be found
    // by whoever cuts dots away. What does exist outside and what does not are answered alike.
    let place = Place::new("traversal");
    place.file("sub/a.txt", b"hello");
    place.file(".hidden", SECRET);
    place.file("sub/.git/config", SECRET);
    place.file("sub/back\\slash", SECRET);
    let program = place.serve(&[]);
    let up = "../".repeat(20);
    let outside = place.0.to_str().unwrap();
    for (target, status) in [
        ("/../secret", "404"),
        ("/..", "404"),
        ("/../", "404"),
        ("/.", "404"),
        ("/sub/..", "404"),
        ("/sub/../../secret", "404"),
        ("/sub/../sub/a.txt", "404"),
        ("/./sub/a.txt", "404"),
        ("/%2e%2e/secret", "404"),
        ("/%2E./secret", "404"),
        ("/.%2e/secret", "404"),
        ("/..%2fsecret", "404"),
        ("/..%2Fsecret", "404"),
        ("/%2e%2e%2fsecret", "404"),
        ("/sub%2f..%2f..%2fsecret", "404"),
        ("/sub%2fa.txt", "404"),
        ("/%252e%252e/secret", "404"),
        ("/%252e%252e%252fsecret", "404"),
        ("/..\\secret", "404"),
        ("/..%5csecret", "404"),
        ("/sub\\..\\..\\secret", "404"),
        ("/sub/back%5cslash", "404"),
        ("/..%00/secret", "404"),
        ("/sub/a.txt%00", "404"),
        ("/sub/a.txt%00.html", "404"),
        ("/%c0%ae%c0%ae/secret", "404"),
        ("/..%c0%afsecret", "404"),
        ("/%u002e%u002e/secret", "400"),
        ("/%", "400"),
        ("/%2", "400"),
        ("/%zz/secret", "400"),
        ("/sub/a.txt%", "400"),
        ("/.hidden", "404"),
        ("/%2ehidden", "404"),
        ("/sub/.git/config", "404"),
        ("//etc/passwd", "404"),
        ("/%2fetc/passwd", "404"),
        ("/%2Fetc%2Fpasswd", "404"),
        ("///secret", "404"),
        ("/sub//a.txt", "404"),
        ("/sub/./a.txt", "404"),
        (&format!("/{up}{outside}/secret"), "404"),
        (&format!("/{up}etc/passwd"), "404"),
        (&format!("/{outside}/secret"), "404"),
        (&format!("/{}", "a/".repeat(3000)), "404"),
        (&format!("/{}", "a".repeat(6000)), "404"),
        ("/sub/a.txt", "200"),
    ] {
        let answer = get(program.http(), target);
        assert_eq!(answer.status(), status, "{target}");
        assert!(!answer.body.windows(SECRET.len()).any(|window| window == SECRET), "{target}");
        assert!(!answer.body.windows(5).any(|window| window == b"root:"), "{target}");
    }
}

#[test]
fn a_link_is_followed_as_long_as_it_stays_below_the_root() {
    let place = Place::new("links");
    place.file("sub/a.txt", b"hello");
    let link = |target: &str, name: &str| symlink(target, place.root().join(name)).unwrap();
    link("sub/a.txt", "file");
    link("sub", "directory");
    link("sub/../sub/../directory/a.txt", "winding");
    link("../secret", "out");
    link("..", "above");
    link("../root/sub/a.txt", "out-and-in");
    link("/etc/passwd", "absolute");
    link(place.root().join("sub/a.txt").to_str().unwrap(), "absolute-inside");
    link("/proc/self/cwd", "magic");
    link("loop", "loop");
    link("nothing", "dangling");
    let program = place.serve(&[]);
    for (target, status) in [
        ("/file", "200"),
        ("/directory/a.txt", "200"),
        ("/winding", "200"),
        ("/directory", "301"),
        ("/out", "403"),
        ("/above/secret", "403"),
        ("/above/", "403"),
        ("/out-and-in", "403"),
        ("/absolute", "403"),
        ("/absolute-inside", "403"),
        ("/magic/", "403"),
        ("/loop", "404"),
        ("/dangling", "404"),
    ] {
        let answer = get(program.http(), target);
        assert_eq!(answer.status(), status, "{target}");
        assert!(status != "200" || answer.body == b"hello", "{target}");
    }
}

#[test]
fn a_link_that_is_moved_at_the_wrong_moment_does_not_lead_out_either() {
    // A directory on the path is now a link to the inside and now one to the outside, as fast as another thread can make
    // them.
    let place = Place::new("race");
    place.file("inside/secret", b"There is nothing secret in here.");
    symlink("inside", place.root().join("way")).unwrap();
    let program = place.serve(&[]);
    let (next, way) = (place.root().join("next"), place.root().join("way"));
    let exchanging = thread::spawn(move || {
        for _ in 0..5000 {
            for target in ["..", "inside"] {
                symlink(target, &next).unwrap();
                fs::rename(&next, &way).unwrap();
            }
        }
    });
    let mut stream = connect(program.http());
    while !exchanging.is_finished() {
        stream.write_all(b"GET /way/secret HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let answer = read_answer(&mut stream, true);
        match answer.status() {
            "200" => assert_eq!(answer.body, b"There is nothing secret in here."),
            status => assert_eq!(status, "403"),
        }
    }
    exchanging.join().unwrap();
}

#[test]
fn what_is_no_regular_file_is_not_there_and_holds_up_nobody() {
    // To open a pipe waits for somebody who writes to it, if one is not careful.
    let place = Place::new("specials");
    let made = |command: &str, arguments: &[&str]| {
        let status = Command::new(command)
            .args(arguments)
            .current_dir(place.root())
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    assert!(made("mkfifo", &["pipe"]), "mkfifo is a part of any system");
    let _listener = std::os::unix::net::UnixListener::bind(place.root().join("socket")).unwrap();
    if !made("mknod", &["zero", "c", "1", "5"]) {
        eprintln!("no device was tried: it takes a privilege to make one");
    }
    let program = place.serve(&[]);
    for target in ["/pipe", "/socket", "/zero", "/pipe/", "/zero/"] {
        for method in ["GET", "HEAD"] {
            assert_eq!(
                ask(program.http(), &format!("{method} {target}"), "").status(),
                "404",
                "{method} {target}"
            );
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn whoever_writes_to_a_pipe_does_not_take_us_for_its_reader() {
    // Were the pipe opened to see what it is, the writer would go on, and lose what it writes, or its life.
    let place = Place::new("writer");
    let pipe = place.root().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let program = place.serve(&[]);
    let writing = thread::spawn({
        let pipe = pipe.clone();
        move || File::options().write(true).open(pipe).unwrap().write_all(b"hello")
    });
    for _ in 0..100 {
        assert_eq!(get(program.http(), "/pipe").status(), "404");
    }
    // Opened for both, it opens at once, whether the writer is still there or not.
    let (told, result) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut received = [0; 5];
        let mut reader = File::options().read(true).write(true).open(pipe).unwrap();
        told.send(reader.read_exact(&mut received).map(|()| received)).unwrap();
    });
    assert_eq!(
        &result.recv_timeout(TIMEOUT).expect("the writer has waited for us").unwrap(),
        b"hello"
    );
    writing.join().unwrap().unwrap();
}

#[test]
fn what_may_not_be_read_is_forbidden() {
    let place = Place::new("forbidden");
    let paths = [place.file("file", SECRET), place.file("directory/file", SECRET)];
    let without_rights = fs::Permissions::from_mode(0o000);
    fs::set_permissions(&paths[0], without_rights.clone()).unwrap();
    let directory = place.root().join("directory");
    fs::set_permissions(&directory, without_rights).unwrap();
    // Whoever may do anything meets no such bound, and neither does the program then.
    let is_privileged = File::open(&paths[0]).is_ok();
    let program = place.serve(&[]);
    let statuses = ["/file", "/directory/file", "/directory/"]
        .map(|target| get(program.http(), target).status().to_owned());
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    if is_privileged {
        eprintln!("nothing is forbidden to this user");
    } else {
        assert_eq!(statuses, ["403", "403", "403"]);
    }
}

#[test]
fn a_directory_that_may_be_passed_but_not_listed_is_one_all_the_same() {
    let place = Place::new("passage");
    place.file("directory/index.html", b"hello");
    let directory = place.root().join("directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o111)).unwrap();
    let program = place.serve(&[]);
    let statuses =
        ["/directory", "/directory/"].map(|target| get(program.http(), target).status().to_owned());
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(statuses, ["301", "200"]);
}

// ---- whether it has changed

#[test]
fn who_has_the_file_since_it_was_changed_is_told_so() {
    // RFC 1945 sections 3.3, 8.2 and 10.9, RFC 9110 sections 5.6.7 and 13.1.3. The file was changed at 08:49:37 and a half.
    let place = Place::new("conditions");
    let path = place.file("a.txt", b"hello");
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_500);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    let program = place.serve(&[]);
    let tomorrow = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(86_400));
    let an_hour_ago = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(3600));
    for (fields, status) in [
        // The three forms of a date.
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "304"),
        ("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n", "304"),
        ("If-Modified-Since: Sun Nov  6 08:49:37 1994\r\n", "304"),
        ("if-modified-since:   Sun, 06 Nov 1994 08:49:38 GMT  \r\n", "304"),
        (&format!("If-Modified-Since: {an_hour_ago}\r\n"), "304"),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", "200"),
        ("If-Modified-Since: Sunday, 06-Nov-94 08:49:36 GMT\r\n", "200"),
        ("If-Modified-Since: Sun Nov  6 08:49:36 1994\r\n", "200"),
        ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "200"),
        // What is no date, or none that can be: the condition is not there.
        ("If-Modified-Since: \r\n", "200"),
        ("If-Modified-Since: yesterday\r\n", "200"),
        ("If-Modified-Since: 0\r\n", "200"),
        ("If-Modified-Since: Sun, 06 Nov 1994 25:49:37 GMT\r\n", "200"),
        ("If-Modified-Since: Sun, 31 Feb 1994 08:49:37 GMT\r\n", "200"),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT; length=5\r\n", "200"),
        ("If-Modified-Since: \u{fc}\r\n", "200"),
        (&format!("If-Modified-Since: {tomorrow}\r\n"), "200"),
        // A tag decides, where there is one, and we give none: so whatever it is, the client has not got it from us.
        ("If-None-Match: \"a\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "200"),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\nIf-None-Match: *\r\n", "200"),
        ("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", "200"),
    ] {
        let answer = ask(program.http(), "GET /a.txt", fields);
        assert_eq!(answer.status(), status, "{fields}");
        assert_eq!(
            answer.field("Last-Modified"),
            Some("Sun, 06 Nov 1994 08:49:37 GMT"),
            "{fields}"
        );
        let (length, body) =
            if status == "200" { (Some("5"), &b"hello"[..]) } else { (None, &b""[..]) };
        assert_eq!((answer.field("Content-Length"), &answer.body[..]), (length, body), "{fields}");
        // HEAD has no conditions.
        assert_eq!(ask(program.http(), "HEAD /a.txt", fields).status(), "200", "{fields}");
    }
    // Nor has what is no file.
    let condition = "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_eq!(ask(program.http(), "GET /plaintext", condition).status(), "200");
    assert_eq!(ask(program.http(), "GET /nothing", condition).status(), "404");
}

#[test]
fn a_304_ends_with_its_head_and_the_connection_goes_on() {
    let place = Place::new("not-modified");
    let path = place.file("a.txt", b"hello");
    // Of a file that has been changed in this very second, a date is said at which it was older.
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(10))
        .unwrap();
    let program = place.serve(&[]);
    let date = get(program.http(), "/a.txt").field("Last-Modified").unwrap().to_owned();
    let mut stream = connect(program.http());
    for status in ["304", "200", "304"] {
        let field =
            if status == "304" { format!("If-Modified-Since: {date}\r\n") } else { String::new() };
        write!(stream, "GET /a.txt HTTP/1.1\r\nHost: a\r\n{field}\r\n").unwrap();
        assert_eq!(read_answer(&mut stream, true).status(), status);
    }
}

#[test]
fn a_file_from_another_time_has_a_date_that_can_be_said() {
    // RFC 9110 section 8.8.2.1: not later than the answer; and HTTP's calendar begins in 1970, as far as we are concerned.
    let place = Place::new("times");
    let file = |name: &str, time: SystemTime| {
        let path = place.file(name, b"hello");
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    file("future", SystemTime::now() + Duration::from_secs(1_000_000));
    file("past", SystemTime::UNIX_EPOCH - Duration::from_secs(1_000_000));
    let program = place.serve(&[]);
    let future = get(program.http(), "/future");
    let moment = |field| httpdate::parse_http_date(future.field(field).unwrap()).unwrap();
    let ahead = moment("Date")
        .duration_since(moment("Last-Modified"))
        .expect("it is not later than the answer");
    assert!(ahead <= Duration::from_secs(2), "{}", future.head);
    assert_eq!(
        get(program.http(), "/past").field("Last-Modified"),
        Some("Thu, 01 Jan 1970 00:00:00 GMT")
    );
}

#[test]
fn what_is_changed_again_in_the_same_second_is_sent_again() {
    // RFC 9110 section 8.8.2.2. A date counts seconds. If the file's own were said while its second lasts, whoever asks later
    // whether it has changed since would be told that it has not.
    let place = Place::new("twice");
    let path = place.file("a.txt", b"hello");
    let program = place.serve(&[]);
    let first = get(program.http(), "/a.txt");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let condition = format!("If-Modified-Since: {}\r\n", first.field("Last-Modified").unwrap());
    fs::write(&path, b"world").unwrap();
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    assert_eq!(ask(program.http(), "GET /a.txt", &condition).body, b"world");
}

// ---- large ones, and many

/// Reads what `path` has from `stream`, and compares as it comes.
#[track_caller]
fn check_bytes_of(path: &Path, stream: &mut impl Read) -> usize {
    let (mut file, mut count) = (File::open(path).unwrap(), 0);
    let (mut expected, mut received) = (vec![0; MIB], vec![0; MIB]);
    loop {
        let length = file.read(&mut expected).unwrap();
        if length == 0 {
            return count;
        }
        stream
            .read_exact(&mut received[..length])
            .unwrap_or_else(|error| panic!("{error} after {count}"));
        assert!(
            received[..length] == expected[..length],
            "another byte than in the file, after {count}"
        );
        count += length;
    }
}

#[test]
fn a_hundred_mebibytes_are_sent_exactly_and_never_held() {
    let place = Place::new("large");
    let path = place.file("large.bin", b"");
    let (mut file, piece) = (File::create(&path).unwrap(), pattern(1, 1_000_003));
    (0..105).for_each(|_| file.write_all(&piece).unwrap());
    let length = file.metadata().unwrap().len();
    assert!(length > 100 * MIB as u64);
    let program = place.serve(&[]);
    assert_eq!(get(program.http(), "/nothing").status(), "404"); // what it takes for any answer, it has now
    #[cfg(target_os = "linux")]
    let before = program.memory_kib("VmHWM");
    let mut stream = connect(program.http());
    stream
        .write_all(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\nGET /plaintext HTTP/1.0\r\n\r\n")
        .unwrap();
    let head = read_answer(&mut stream, false);
    assert_eq!(head.field("Content-Length"), Some(&*length.to_string()));
    assert_eq!(check_bytes_of(&path, &mut stream) as u64, length);
    assert_eq!(read_answer(&mut stream, true).body, b"Hello, World!");
    #[cfg(target_os = "linux")]
    {
        let grown = program.memory_kib("VmHWM") - before;
        assert!(grown < 4 * 1024, "{grown} KiB more than before");
    }
}

#[test]
fn a_slow_reader_gets_its_file_and_keeps_nobody_waiting() {
    // Ten ask for a file and do not read, until five hundred others have been answered.
    let place = Place::new("slow");
    let path = place.file("large.bin", &pattern(2, 8 * MIB));
    place.file("small.txt", b"hello");
    let program = place.serve(&[]);
    assert_eq!(get(program.http(), "/nothing").status(), "404"); // what it takes for any answer, it has now
    #[cfg(target_os = "linux")]
    let before = program.memory_kib("VmHWM");
    let mut slow: Vec<TcpStream> = (0..10).map(|_| connect_narrow(program.http())).collect();
    slow.iter_mut()
        .for_each(|stream| stream.write_all(b"GET /large.bin HTTP/1.0\r\n\r\n").unwrap());
    let mut quick = connect(program.http());
    for _ in 0..500 {
        quick.write_all(b"GET /small.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut quick, true).body, b"hello");
    }
    for stream in &mut slow {
        assert_eq!(read_answer(stream, false).status(), "200");
        check_bytes_of(&path, stream);
    }
    // No more than a piece and what waits for each, in vectors that have grown to twice that.
    #[cfg(target_os = "linux")]
    {
        let grown = program.memory_kib("VmHWM") - before;
        assert!(grown < 4 * 1024, "{grown} KiB more than before for 80 MiB");
    }
}

#[test]
fn pipelined_requests_for_files_are_answered_in_order() {
    let place = Place::new("pipelined");
    let files = [pattern(3, 10), pattern(4, 70_000), pattern(5, 300_000), Vec::new()];
    for (number, bytes) in files.iter().enumerate() {
        place.file(number.to_string(), bytes);
    }
    let program = place.serve(&[]);
    let order: Vec<usize> = pattern(6, 200).into_iter().map(|byte| usize::from(byte) % 5).collect();
    let requests: String =
        order.iter().map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    let mut stream = connect(program.http());
    stream.write_all(requests.as_bytes()).unwrap();
    for (count, &number) in order.iter().enumerate() {
        let answer = read_answer(&mut stream, true);
        match files.get(number) {
            Some(bytes) => assert!(answer.body == *bytes, "answer {count}"),
            None => assert_eq!(answer.status(), "404", "answer {count}"),
        }
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_ends_in_a_reset() {
    // The client has been told a length, and must not take what comes for all of it. The file is far larger than what can be
    // on the way.
    let place = Place::new("shrinks");
    let path = place.file("large.bin", b"");
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(64 * MIB as u64).unwrap();
    let program = place.serve(&[]);
    let mut stream = connect_narrow(program.http());
    stream.write_all(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream, false).status(), "200");
    file.set_len(1000).unwrap();
    let error = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(get(program.http(), "/large.bin").body.len(), 1000);
}

#[test]
fn of_a_file_that_grows_while_it_is_sent_comes_what_was_said() {
    let place = Place::new("grows");
    let path = place.file("large.bin", b"");
    let mut file = File::options().append(true).open(path).unwrap();
    file.set_len(32 * MIB as u64).unwrap();
    let program = place.serve(&[]);
    let mut stream = connect_narrow(program.http());
    stream
        .write_all(b"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\nGET /plaintext HTTP/1.0\r\n\r\n")
        .unwrap();
    let head = read_answer(&mut stream, false);
    assert_eq!(head.field("Content-Length"), Some(&*(32 * MIB).to_string()));
    file.write_all(&pattern(7, MIB)).unwrap();
    let mut bytes = vec![1; 32 * MIB];
    stream.read_exact(&mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0), "what was there when it began");
    assert_eq!(read_answer(&mut stream, true).body, b"Hello, World!");
}

// ---- when something is lacking

#[test]
#[cfg(target_os = "linux")]
fn when_descriptors_run_out_files_are_sent_all_the_same_and_in_the_end_one_line_says_that_they_are_not()
 {
    // It may have 32 files open, of which it keeps an eighth for files; peers of echo take all the others. Four who have begun to ask
    // before want a large file, and take it slowly.
    let place = Place::new("descriptors");
    place.file("a.txt", b"hello");
    let large = place.file("large.bin", &pattern(4, 16 * MIB));
    let root = place.root();
    let arguments =
        ["--http", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--root", root.to_str().unwrap()];
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 32 && exec \"$0\" \"$@\""])
        .arg(reactor().get_program())
        .args(arguments);
    let mut program = Program::spawn(command.env_remove("RUST_LOG"));
    program.read_addresses(&arguments);
    let begin = |name: &str| {
        let mut stream = connect_narrow(program.http());
        write!(stream, "GET /{name} HTTP/1.1\r\nHost: a\r\n").unwrap();
        stream
    };
    let end = |stream: &mut TcpStream| {
        stream.write_all(b"\r\n").unwrap();
        read_answer(stream, false).status().to_owned()
    };
    let mut slow: Vec<TcpStream> = (0..4).map(|_| begin("large.bin")).collect();
    let (mut late, mut quick) = (begin("large.bin"), begin("nothing"));
    // All of these have been accepted when the last one is answered. Who has begun to ask is not idle, and keeps its place.
    assert_eq!(end(&mut quick), "404");
    quick.read_exact(&mut [0; "404 Not Found\n".len()]).unwrap();
    quick.write_all(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n").unwrap();
    // (What the test's own process has left it from 32 on does not count.)
    let taken = || {
        let names = fs::read_dir(format!("/proc/{}/fd", program.pid()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().parse::<u32>().unwrap() < 32).count()
    };
    let mut peers = Vec::new();
    while taken() < 32 {
        let mut peer = connect(program.tcp());
        check_echo(&mut peer, b"I take the place of a file.");
        peers.push(peer);
    }

    // Files that are sent at once need one descriptor, for a moment.
    quick.write_all(b"\r\n").unwrap();
    assert_eq!(read_answer(&mut quick, true).body, b"hello");
    let mut ask = || {
        quick.write_all(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        read_answer(&mut quick, true).status().to_owned()
    };
    (0..100).for_each(|_| assert_eq!(ask(), "200"));
    // Then there is nothing left.
    slow.iter_mut().for_each(|stream| assert_eq!(end(stream), "200"));
    assert_eq!(end(&mut late), "503");
    (0..10).for_each(|_| assert_eq!(ask(), "503"));
    let line = program.wait_for_log("opening files failed");
    assert!(line.contains("WARN"), "{line}");
    // A file that has been sent leaves its descriptor to the next one, and not to whoever waits at the door.
    let mut at_the_door = connect(program.tcp());
    check_bytes_of(&large, &mut slow[0]);
    let several_looks_at_the_door =
        Instant::now() + Duration::from_millis(5 * mio_reactor::limits::ACCEPT_RETRY_MS);
    while Instant::now() < several_looks_at_the_door {
        assert_eq!(ask(), "200");
    }
    drop(peers);
    check_echo(&mut at_the_door, b"Now there is room for me.");

    drop((slow, late, quick, at_the_door));
    let ending = program.stop();
    let lines = ending.stderr.iter().filter(|line| line.contains("opening files failed")).count();
    assert!((1..=2).contains(&lines), "{:?}", ending.stderr); // two, if this takes more than ten seconds
}

#[test]
#[cfg(target_os = "linux")]
fn no_answer_leaves_its_file_open() {
    // Complete ones, heads alone, conditions, refusals; and some of which the client has had enough.
    let place = Place::new("leaks");
    place.file("a.txt", b"hello");
    place.file("sub/b.txt", b"hello");
    File::create(place.root().join("large.bin")).unwrap().set_len(64 * MIB as u64).unwrap();
    let program = place.serve(&[]);
    let date = get(program.http(), "/a.txt").field("Last-Modified").unwrap().to_owned();
    let before = program.descriptors();
    for _ in 0..20 {
        for line in [
            "GET /a.txt",
            "HEAD /a.txt",
            "GET /sub",
            "GET /sub/",
            "HEAD /large.bin",
            "GET /nothing",
        ] {
            ask(program.http(), line, "");
            ask(program.http(), line, &format!("If-Modified-Since: {date}\r\n"));
        }
        let mut stream = connect(program.http());
        stream.write_all(b"GET /large.bin HTTP/1.0\r\n\r\n").unwrap();
        read_answer(&mut stream, false);
        common::reset(stream);
    }
    // It is told of the last reset no later than of whoever connects behind it.
    for _ in 0..1000 {
        get(program.http(), "/a.txt");
        if program.descriptors() == before {
            return;
        }
    }
    panic!("{before} descriptors before, {} after", program.descriptors());
}

#[test]
fn a_root_that_cannot_be_served_is_told_in_one_line_with_status_1() {
    let place = Place::new("no-root");
    for root in [place.0.join("nothing"), place.0.join("secret")] {
        let root = root.to_str().unwrap();
        let ending =
            Program::spawn(reactor().args(["--http", "127.0.0.1:0", "--root", root])).wait();
        assert_eq!(ending.status.code(), Some(1), "{root}");
        assert!(ending.stdout.is_empty(), "{:?}", ending.stdout);
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        assert!(line.starts_with(&format!("reactor: root {root}: ")), "{line}");
    }
}
