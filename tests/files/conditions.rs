//! Conditional requests: `If-Modified-Since`, `Last-Modified` and 304.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, SystemTime};

use super::common::connect;
use super::{Place, ask, get, read_answer};

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
