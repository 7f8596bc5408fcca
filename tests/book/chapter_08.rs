//! Chapter 8: slots and their numbers, and the five stages of a turn.

use super::blocks::check_page;
use super::page::{Page, read};
use super::programs::{check_passes, check_solution};
use super::trace::{Scene, record};

const PAGE: &str = "08-stages.md";
const PROGRAM: &str = "docs/book/programs/08_stages.rs";
const SCENES: [Scene; 1] = [Scene { name: "slots", record: slots }];

/// One client leaves while another sends; then a third one connects.
fn slots() -> Option<Vec<String>> {
    record("slots", PROGRAM, "epoll_wait(", |server| {
        let first = server.connect_and_settle();
        let mut second = server.connect_and_settle();
        server.while_suspended(|| {
            first.shutdown_write();
            second.send("Hello world\n");
        });
        second.expect("echo -> Hello world\n");
        first.expect_end();
        let mut third = server.connect_and_settle();
        third.echo("Who am I?");
        (second, third)
    })
}

#[test]
fn chapter_8_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_8_answers_are_what_its_program_does() {
    let page = Page::read(PAGE);
    let calls = page.calls("slots");
    let place = |what: &str| calls.iter().position(|call| call.contains(what)).unwrap();
    let sooner =
        if place("Hello world\\n\", 20") < place("close(") { "the reply" } else { "the close" };
    let third = calls.iter().rfind(|call| call.contains("EPOLL_CTL_ADD")).unwrap();
    let token = third.rsplit(", ").next().unwrap().split('}').next().unwrap();
    let waits: Vec<&String> = calls.iter().filter(|call| call.starts_with("epoll_wait")).collect();
    let limits = [waits[0], waits[1]].map(|wait| {
        let is_limited = wait.contains("], TIMEOUT)");
        assert!(is_limited || wait.contains("], -1)"), "{wait}");
        if is_limited { "until its deadline" } else { "without limit" }
    });
    page.check_answers(&[
        sooner.to_owned(),
        token.to_owned(),
        format!("{}, and {}", limits[0], limits[1]),
    ]);
}

#[test]
fn chapter_8_loop_has_about_120_lines_of_code() {
    let text = read(PROGRAM);
    let (_, from) = text.split_once("\nenum Source {").unwrap();
    let (of_loop, _) = from.split_once("\n/// Its arguments").unwrap();
    let lines = of_loop.lines().map(str::trim);
    let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    assert!((110..=130).contains(&code), "{code} lines");
}

#[test]
fn chapter_8_program_passes_the_row_that_its_patch_turns_red() {
    check_passes(&["--row", "ends-busy"], "programs/08_stages.rs", &["500"]);
}

#[test]
fn chapter_8_exercise_is_passed_by_its_solution() {
    check_solution(8, "08_evict.rs");
}
