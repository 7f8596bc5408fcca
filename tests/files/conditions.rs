//! Conditional requests: `If-Modified-Since`, `Last-Modified` and 304.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, SystemTime};

use super::common::connect;
use super::{TempDir, get, read_response, request};

// pitfall: 98
// rule: date-forms, not-modified, head-conditions
#[test]
fn unchanged_file_is_304_and_invalid_dates_are_ignored() {
    // RFC 1945 sections 3.3, 8.2 and 10.9, RFC 9110 sections 5.6.7 and 13.1.3. The file was
    // modified at 08:49:37.5.
    let temp = TempDir::new("conditions");
    let path = temp.file("a.txt", b"hello");
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_500);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    let program = temp.serve(&["--builtin-pages"]);
    let tomorrow = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(86_400));
    let an_hour_ago = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(3600));
    for (fields, status) in [
        // The three forms of a date.
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "304"),
        ("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n", "304"),
        ("If-Modified-Since: Sun Nov  6 08:49:37 1994\r\n", "304"),
        ("if-modified-since:   Sun, 06 Nov 1994 08:49:37 GMT  \r\n", "304"),
        // Another date, earlier or later, is that of another version.
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:38 GMT\r\n", "200"),
        ("If-Modified-Since: Sunday, 06-Nov-94 08:49:38 GMT\r\n", "200"),
        ("If-Modified-Since: Sun Nov  6 08:49:38 1994\r\n", "200"),
        (&format!("If-Modified-Since: {an_hour_ago}\r\n"), "200"),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", "200"),
        ("If-Modified-Since: Sunday, 06-Nov-94 08:49:36 GMT\r\n", "200"),
        ("If-Modified-Since: Sun Nov  6 08:49:36 1994\r\n", "200"),
        ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "200"),
        // Not a date, or an impossible one: the field is ignored.
        ("If-Modified-Since: \r\n", "200"),
        ("If-Modified-Since: yesterday\r\n", "200"),
        ("If-Modified-Since: 0\r\n", "200"),
        ("If-Modified-Since: Sun, 06 Nov 1994 25:49:37 GMT\r\n", "200"),
        ("If-Modified-Since: Sun, 31 Feb 1994 08:49:37 GMT\r\n", "200"),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT; length=5\r\n", "200"),
        ("If-Modified-Since: \u{fc}\r\n", "200"),
        ("If-Modified-Since: Mon, 06 Nov 1994 08:49:37 GMT\r\n", "200"), // it was a Sunday
        (
            "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            "200",
        ),
        (
            "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            "200",
        ),
        (&format!("If-Modified-Since: {tomorrow}\r\n"), "200"),
        // An entity tag takes precedence. No response has one, so the client cannot have it from
        // this server.
        ("If-None-Match: \"a\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "200"),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\nIf-None-Match: *\r\n", "200"),
        ("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", "200"),
    ] {
        let response = request(program.http(), "GET /a.txt", fields);
        assert_eq!(response.status(), status, "{fields}");
        assert_eq!(
            response.field("Last-Modified"),
            Some("Sun, 06 Nov 1994 08:49:37 GMT"),
            "{fields}"
        );
        let (length, body) =
            if status == "200" { (Some("5"), &b"hello"[..]) } else { (None, &b""[..]) };
        assert_eq!(
            (response.field("Content-Length"), &response.body[..]),
            (length, body),
            "{fields}"
        );
        // HEAD is not conditional.
        assert_eq!(request(program.http(), "HEAD /a.txt", fields).status(), "200", "{fields}");
    }
    // Nor is a page that is not a file.
    let condition = "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_eq!(request(program.http(), "GET /plaintext", condition).status(), "200");
    assert_eq!(request(program.http(), "GET /nothing", condition).status(), "404");
}

// rule: not-modified
#[test]
fn response_304_ends_with_its_head_and_the_connection_persists() {
    let temp = TempDir::new("not-modified");
    let path = temp.file("a.txt", b"hello");
    // The file is older than two seconds. Otherwise it would have no Last-Modified.
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(10))
        .unwrap();
    let program = temp.serve(&[]);
    let date = get(program.http(), "/a.txt").field("Last-Modified").unwrap().to_owned();
    let mut stream = connect(program.http());
    for status in ["304", "200", "304"] {
        let field =
            if status == "304" { format!("If-Modified-Since: {date}\r\n") } else { String::new() };
        write!(stream, "GET /a.txt HTTP/1.1\r\nHost: a\r\n{field}\r\n").unwrap();
        assert_eq!(read_response(&mut stream, true).status(), status);
    }
}

// pitfall: 98
// rule: last-modified
#[test]
fn last_modified_is_never_in_the_future_and_not_of_a_build_tool() {
    // RFC 9110 section 8.8.2.1: not later than the Date of the response. A file without a date that
    // says something has none, and is never 304. Nor has it another date in its place: a file that
    // replaces it might have that one.
    let temp = TempDir::new("times");
    let file = |name: &str, time: SystemTime| {
        let path = temp.file(name, b"hello");
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    let modified = SystemTime::now() + Duration::from_secs(1_000_000);
    file("future", modified);
    let program = temp.serve(&[]);
    let future = get(program.http(), "/future");
    assert_eq!((future.status(), future.field("Last-Modified")), ("200", None));
    let condition = format!("If-Modified-Since: {}\r\n", httpdate::fmt_http_date(modified));
    assert_eq!(request(program.http(), "GET /future", &condition).status(), "200");
    let epoch = SystemTime::UNIX_EPOCH;
    for (name, time, date) in [
        ("before", epoch - Duration::from_secs(1_000_000), "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("ostree", epoch, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("nix", epoch + Duration::from_secs(1), "Thu, 01 Jan 1970 00:00:01 GMT"),
        ("zip", epoch + Duration::from_secs(315_532_800), "Tue, 01 Jan 1980 00:00:00 GMT"),
        ("npm", epoch + Duration::from_secs(499_162_500), "Sat, 26 Oct 1985 08:15:00 GMT"),
    ] {
        file(name, time);
        let condition = format!("If-Modified-Since: {date}\r\n");
        let response = request(program.http(), &format!("GET /{name}"), &condition);
        assert_eq!((response.status(), response.field("Last-Modified")), ("200", None), "{name}");
    }
}

// pitfall: 130
// rule: not-modified
#[test]
fn file_replaced_by_an_older_one_is_sent_again() {
    // A rollback, or `cp -p`. And forward again.
    let temp = TempDir::new("rollback");
    let replace = |bytes: &[u8], seconds: u64| {
        let next = temp.file("next", bytes);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
        File::options().write(true).open(&next).unwrap().set_modified(time).unwrap();
        fs::rename(next, temp.root().join("a.txt")).unwrap();
    };
    replace(b"new", 1000);
    let program = temp.serve(&[]);
    let mut date = get(program.http(), "/a.txt").field("Last-Modified").unwrap().to_owned();
    for (bytes, seconds) in
        [(&b"old"[..], 0_u64), (b"new", 1000), (b"newer", 1001), (b"older", 999)]
    {
        replace(bytes, seconds);
        let condition = format!("If-Modified-Since: {date}\r\n");
        let response = request(program.http(), "GET /a.txt", &condition);
        assert_eq!((response.status(), &response.body[..]), ("200", bytes));
        date = response.field("Last-Modified").unwrap().to_owned();
        let condition = format!("If-Modified-Since: {date}\r\n");
        assert_eq!(request(program.http(), "GET /a.txt", &condition).status(), "304");
    }
}

// rule: last-modified
#[test]
fn file_changed_again_in_the_same_second_is_sent_again() {
    // RFC 9110 section 8.8.2.2. A date has whole seconds. If Last-Modified were in the second that
    // is not over, a client that asks later would get a 304 although the file has changed since.
    // An earlier date would be no better: the next version may have been written then, elsewhere.
    let temp = TempDir::new("twice");
    let path = temp.file("a.txt", b"hello");
    // As if it had just been written. A second ahead, so that a slow machine changes nothing.
    let modified = SystemTime::now() + Duration::from_secs(1);
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let program = temp.serve(&[]);
    assert_eq!(get(program.http(), "/a.txt").field("Last-Modified"), None);
    let condition = format!("If-Modified-Since: {}\r\n", httpdate::fmt_http_date(modified));
    fs::write(&path, b"world").unwrap();
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    assert_eq!(request(program.http(), "GET /a.txt", &condition).body, b"world");
}
