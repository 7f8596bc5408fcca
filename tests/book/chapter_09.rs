//! Chapter 9: output that waits, and how much of it may.

use super::blocks::check_page;
use super::page::{Page, read};
use super::programs::{check_passes, check_solution};
use super::trace::{Scene, record};

const PAGE: &str = "09-output.md";
const PROGRAM: &str = "docs/book/programs/09_watermarks.rs";
const SCENES: [Scene; 1] = [Scene { name: "together", record: together }];
/// So many lines arrive at once: forty times what one recv takes, and one line more.
const LINES: usize = 40 * 1024 / LINE_BYTES + 1;
const LINE_BYTES: usize = 128;

/// Much arrives at once, as in chapter 7.
fn together() -> Option<Vec<String>> {
    record("together", PROGRAM, "accept4(", |server| {
        let mut client = server.connect_and_settle();
        let line = format!("{}\n", "x".repeat(LINE_BYTES - 1));
        server.while_suspended(|| client.send(&line.repeat(LINES)));
        client.expect(&format!("echo -> {line}").repeat(LINES));
        client
    })
}

#[test]
fn chapter_9_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_9_answers_are_what_its_programs_do() {
    let page = Page::read(PAGE);
    let calls = page.calls("together");
    let sends = calls.iter().filter(|call| call.starts_with("sendto(")).count();
    let low = watermark("LOW_WATERMARK");
    assert!(watermark("HIGH_WATERMARK") > 60);
    let is_read = if low < 60 { "no" } else { "yes" };
    let broken = page.block("check --row stops-reading broken/09_watermarks.rs");
    let (_, taken) = broken.split_once("it has taken ").unwrap();
    let (taken, _) = taken.split_once(" for").unwrap();
    page.check_answers(&[sends.to_string(), is_read.to_owned(), taken.to_owned()]);
}

/// Returns a watermark of the program, in KiB.
fn watermark(name: &str) -> usize {
    let text = read(PROGRAM);
    let (_, value) = text.split_once(&format!("const {name}: usize = ")).unwrap();
    value.split_once(" * 1024;").unwrap().0.parse().unwrap()
}

#[test]
fn chapter_9_program_passes_the_row_that_its_patch_turns_red() {
    check_passes(&["--row", "stops-reading"], "programs/09_watermarks.rs", &[]);
}

#[test]
fn chapter_9_exercise_is_passed_by_its_solution() {
    check_solution(9, "09_timeout.rs");
}
