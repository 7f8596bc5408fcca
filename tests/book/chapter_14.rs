//! Chapter 14: more clients than there is room for, and a graceful stop.

use super::blocks::check_page;
use super::page::Page;
use super::programs::{check_passes, check_solution};
use super::trace::{Scene, record};

const PAGE: &str = "14-crowds.md";
const PROGRAM: &str = "docs/book/programs/14_crowds.rs";
const SCENES: [Scene; 4] = [
    Scene { name: "level", record: level },
    Scene { name: "edge", record: edge },
    Scene { name: "room", record: room },
    Scene { name: "stop", record: stop },
];

/// When this is reported with a timeout, there is a client already.
const SECOND_CLIENT: &str = "epoll_wait(3, [{EPOLLIN, 0}], TIMEOUT)";
/// So often a traced program sleeps in some tries to accept, ten times a second. It also does so at
/// the begin and end of each call.
const SLEEPS: usize = 40;

/// No descriptor is left for a client, and the poller is level-triggered.
fn level() -> Option<Vec<String>> {
    record("level", "docs/book/programs/06_epoll.py", "accept4(", |server| {
        let client = server.connect_and_settle();
        server.use_up_descriptors();
        let waiting = server.connect();
        server.wait_until_it_has_run(3);
        (client, waiting)
    })
}

/// No descriptor is left for a client. Another one leaves.
fn edge() -> Option<Vec<String>> {
    record("edge", "docs/book/programs/13_http.rs", SECOND_CLIENT, |server| {
        let client = server.connect_and_settle();
        server.use_up_descriptors();
        let waiting = server.connect_and_settle();
        client.finish();
        waiting
    })
}

/// The same with the new server: it tries again, and finds room when another one leaves.
fn room() -> Option<Vec<String>> {
    let calls = record("room", PROGRAM, SECOND_CLIENT, |server| {
        let client = server.connect_and_settle();
        server.use_up_descriptors();
        let mut waiting = server.connect();
        waiting.send("Hello world\n");
        let sleeps = server.sleeps();
        server.wait_until("it has tried again", || server.sleeps() >= sleeps + SLEEPS);
        client.finish();
        waiting.expect("echo -> Hello world\n");
        waiting
    })?;
    let end = calls.iter().rposition(|call| call.starts_with("sendto(")).unwrap();
    Some(without_repeated_retries(&calls[..=end]))
}

/// How often it has tried again depends on the time.
fn without_repeated_retries(calls: &[String]) -> Vec<String> {
    const SLEEP: &str = "epoll_wait(3, [], TIMEOUT) = 0";
    const TRY: &str = "accept4(4) = -1 EMFILE";
    let retries = [SLEEP, TRY].map(|call| format!("{call} …"));
    let mut kept: Vec<String> = Vec::new();
    for call in calls {
        match call.trim_end_matches(" …") {
            SLEEP | TRY if kept.ends_with(&retries) => {}
            SLEEP => kept.extend(retries.clone()),
            other => kept.push(other.to_owned()),
        }
    }
    kept
}

/// SIGTERM, while a client is connected and silent.
fn stop() -> Option<Vec<String>> {
    record("stop", PROGRAM, "epoll_wait(3, [{EPOLLIN, 100}]", |server| {
        let mut client = server.connect_and_settle();
        client.echo("Hello world");
        server.wait_until_it_settles();
        server.signal("TERM");
        client.expect_end();
    })
}

#[test]
fn chapter_14_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_14_answers_are_what_its_programs_do() {
    let page = Page::read(PAGE);
    let is_endless = |call: &String| call.starts_with("epoll_wait(") && call.ends_with('…');
    let waits = if page.calls("level").iter().any(is_endless) { "without end" } else { "once" };
    let calls = page.calls("edge");
    let leaves = calls.iter().position(|call| call.starts_with("close(")).unwrap();
    let is_accepted = calls[leaves..].iter().any(|call| call.starts_with("accept4("));
    let is_served = if is_accepted { "yes" } else { "no" };
    let killed = page.block("check --row stops programs/13_http.rs");
    let old = if killed.contains("the connection is reset") { "a reset" } else { "a reply" };
    let stopped = page.block("check --row stops programs/14_crowds.rs");
    let new = if stopped.contains("\nok 4 stops") { "a reply" } else { "a reset" };
    page.check_answers(&[waits.to_owned(), is_served.to_owned(), format!("{old}, and {new}")]);
}

#[test]
fn chapter_14_program_passes_the_row_that_its_patch_turns_red() {
    check_passes(&["--row", "full"], "programs/14_crowds.rs", &[]);
}

#[test]
fn chapter_14_exercise_is_passed_by_its_solution() {
    check_solution(14, "14_full.rs");
}
