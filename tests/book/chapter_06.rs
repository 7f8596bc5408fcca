//! Chapter 6: epoll, which reports for as long as something is ready, and mio, which reports once.

use super::blocks::{break_program, check_page};
use super::page::Page;
use super::programs::{Folder, Server, check_idle, check_solution};
use super::trace::{Scene, record};

const PAGE: &str = "06-epoll.md";
const PROGRAM: &str = "docs/book/programs/06_epoll.py";
const IN_RUST: &str = "docs/book/programs/06_mio.rs";
const SCENES: [Scene; 3] = [
    Scene { name: "epoll", record: epoll },
    Scene { name: "spin", record: spin },
    Scene { name: "mio", record: mio },
];
/// Eight of these lines fill what one recv takes.
const LINE_BYTES: usize = 128;

/// A client that sends a line, then one that sends many and reads its replies late. The recording
/// ends where the interest is changed back.
fn epoll() -> Option<Vec<String>> {
    const TRIES: usize = 5;
    let mut calls = Vec::new();
    for _ in 0..TRIES {
        calls = record("epoll", PROGRAM, "epoll_create1() = 4", |server| {
            let mut first = server.connect();
            first.echo("Hello world");
            let mut late = server.connect_narrow();
            server.wait_until_it_settles();
            let line = format!("{}\n", "x".repeat(LINE_BYTES - 1));
            let sent = late.fill(server, &line);
            late.expect(&format!("echo -> {line}").repeat(sent));
            (first, late)
        })?;
        let place = |is_it: &dyn Fn(&String) -> bool| calls.iter().position(is_it);
        let last_of_first_group = place(&|call| call.ends_with("1088 …"));
        let short_send = place(&|call| call.ends_with("1088) = FEWER"));
        let end = place(&|call| call.contains("EPOLL_CTL_MOD") && call.contains("{EPOLLIN,"));
        if let (Some(group), Some(short), Some(end)) = (last_of_first_group, short_send, end) {
            // Between them, some pieces are smaller: the program has been faster than the client.
            return Some([&calls[..=group], &calls[short..=end]].concat());
        }
    }
    Some(calls)
}

/// EPOLLOUT is left on, and a client that has sent a line is silent.
fn spin() -> Option<Vec<String>> {
    let folder = Folder::new("spin");
    let broken = break_program(&Page::read(PAGE), &folder).unwrap();
    record("spin", broken.to_str().unwrap(), "accept4(", |server| {
        let mut client = server.connect();
        client.echo("Hello world");
        server.wait_until_it_has_run(3);
        client
    })
}

/// One client that sends a line and leaves.
fn mio() -> Option<Vec<String>> {
    record("mio", IN_RUST, "epoll_ctl(", |server| {
        let mut client = server.connect();
        server.wait_until_it_settles();
        client.echo("Hello world");
        server.wait_until_it_settles();
        client.finish();
    })
}

#[test]
fn chapter_6_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_6_answers_are_what_its_programs_do() {
    let page = Page::read(PAGE);
    let calls = page.calls("epoll");
    let place = |what: &str| calls.iter().position(|call| call.contains(what)).unwrap();
    let behind = &calls[place("Hello world")..];
    let until_wait = behind.iter().take_while(|call| !call.starts_with("epoll_wait"));
    let told = until_wait.filter(|call| call.starts_with("epoll_ctl")).count();
    let waits = calls[place("FEWER")..place("REST")].iter();
    let reports = waits.filter(|call| call.starts_with("epoll_wait") && call.contains("EPOLLIN"));
    let is_reported = if reports.count() == 0 { "no" } else { "yes" };

    let folder = Folder::new("answers-6");
    let broken = break_program(&page, &folder).unwrap();
    let server = Server::start(broken.to_str().unwrap());
    let mut client = server.connect();
    client.echo("Hello world");
    let before = server.sleeps();
    // A fifth of a second of processor time in which no client sends.
    server.wait_until_it_has_run(20);
    let sleeps = server.sleeps() - before;
    let how_often = if sleeps < 3 { "without end" } else { "sometimes" };
    page.check_answers(&[told.to_string(), is_reported.to_owned(), how_often.to_owned()]);
}

#[test]
fn chapter_6_idle_clients_are_counted_as_the_page_shows() {
    check_idle(&Page::read(PAGE), "programs/06_epoll.py", 20, 1);
}

#[test]
fn chapter_6_exercise_is_passed_by_its_solution() {
    check_solution(6, "06_bound.py");
}
