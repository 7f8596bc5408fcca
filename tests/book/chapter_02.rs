//! Chapter 2: a stream is not messages, in either direction.

use std::net::TcpListener;

use super::blocks::check_page;
use super::clients::run_client;
use super::page::Page;
use super::programs::check_solution;
use super::trace::{Scene, record, record_client};

const PAGE: &str = "02-messages.md";
const PROGRAM: &str = "docs/book/programs/02_lines.py";
const SHORT_SEND: &str = "docs/book/programs/02_short_send.py";
const SCENES: [Scene; 2] =
    [Scene { name: "cut", record: cut }, Scene { name: "short-send", record: short_send }];

/// Two and a half lines in one send, then the other half, then a line that is longer than a recv.
fn cut() -> Option<Vec<String>> {
    record("cut", PROGRAM, "accept4(", |server| {
        let mut client = server.connect();
        client.send("one\ntwo\nthr");
        client.expect("echo -> one\necho -> two\n");
        client.send("ee\n");
        client.expect("echo -> three\n");
        client.echo(&"x".repeat(3000));
        client.finish();
    })
}

/// A client that sends 8 MiB to a server that never reads.
fn short_send() -> Option<Vec<String>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    record_client("short-send", SHORT_SEND, |strace| {
        run_client(strace, SHORT_SEND, listener.local_addr().unwrap().port());
    })
}

#[test]
fn chapter_2_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_2_answers_are_what_its_programs_do() {
    let page = Page::read(PAGE);
    let calls = page.calls("cut");
    let first_send = calls.iter().find(|call| call.starts_with("sendto")).unwrap();
    let replies = first_send.matches("echo ->").count();
    let pieces = calls.iter().filter(|call| call.contains("\"xxx") && call.starts_with("recv"));
    // The end of the long line is a piece, too.
    let last = calls.iter().filter(|call| call.starts_with("recv") && call.ends_with("= 953"));
    assert_eq!(last.clone().count(), 1);
    let receives = pieces.count();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let printed = run_client(&[], SHORT_SEND, listener.local_addr().unwrap().port());
    let words: Vec<&str> = printed.split_whitespace().collect();
    let (taken, asked): (u64, u64) = (words[0].parse().unwrap(), words[2].parse().unwrap());
    let is_short = if 0 < taken && taken < asked { "a smaller number" } else { "all or nothing" };
    page.check_answers(&[receives.to_string(), replies.to_string(), is_short.to_owned()]);
}

#[test]
fn chapter_2_exercise_is_passed_by_its_solution() {
    check_solution(2, "02_bound.py");
}
