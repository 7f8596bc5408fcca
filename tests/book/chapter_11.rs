//! Chapter 11: deadlines, what moves them, and when they are looked at.

use std::thread;
use std::time::Duration;

use super::blocks::check_page;
use super::page::{Page, read};
use super::programs::check_passes;
use super::trace::{Scene, record};

const PAGE: &str = "11-time.md";
const PROGRAM: &str = "docs/book/programs/11_time.rs";
/// The same, with the limit of the checker's rows, in milliseconds.
const WITH_LIMIT: &str = "docs/book/programs/11_time.rs 2000";
const SCENES: [Scene; 1] = [Scene { name: "looks", record: looks }];

/// A client sends a line after half of its time, and is silent then, until it is closed.
fn looks() -> Option<Vec<String>> {
    record("looks", WITH_LIMIT, "accept4(", |server| {
        let mut client = server.connect_and_settle();
        thread::sleep(Duration::from_secs(1)); // so that a late first look is still too early
        client.echo("Hello world");
        client.expect_end();
    })
}

#[test]
fn chapter_11_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_11_answers_are_what_its_programs_do() {
    let page = Page::read(PAGE);
    let calls = page.calls("looks");
    let looks = calls.iter().filter(|call| call.contains("[], TIMEOUT) = 0")).count();
    let text = read(PROGRAM);
    let (_, limit) =
        text.split_once("const LINE_TIMEOUT: Duration = Duration::from_secs(").unwrap();
    let (limit, _) = limit.split_once(");").unwrap();
    let outcome = |program: &str| {
        let made = page.block(&format!("check --row talks {program} 2000"));
        if made.contains("not ok") { "closed" } else { "served" }
    };
    let outcomes = ["programs/10_endings.rs", "programs/11_time.rs"].map(outcome);
    page.check_answers(&[
        format!("{} by the one, {} by the other", outcomes[0], outcomes[1]),
        format!("{limit} seconds"),
        looks.to_string(),
    ]);
}

#[test]
fn chapter_11_program_passes_the_row_that_its_patch_turns_red() {
    check_passes(&["--row", "drips"], "programs/11_time.rs", &["2000"]);
}

#[test]
fn chapter_11_exercise_is_passed_by_its_solution() {
    check_passes(&["--exercise", "11"], "solutions/11_reason.rs", &["2000"]);
}
