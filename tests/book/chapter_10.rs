//! Chapter 10: the ends of a connection, and what arrives after them.

use super::blocks::check_page;
use super::page::Page;
use super::programs::{check_passes, check_solution};
use super::trace::{Scene, record};

const PAGE: &str = "10-endings.md";
const PROGRAM: &str = "docs/book/programs/10_endings.rs";
const SCENES: [Scene; 2] = [
    Scene { name: "too-long", record: too_long },
    Scene { name: "half-closed", record: half_closed },
];
/// The longest line of the program, in bytes.
const LINE_BYTES_MAX: usize = 65_536;

/// A line becomes too long. The client reads why, says something, and ends.
fn too_long() -> Option<Vec<String>> {
    record("too-long", PROGRAM, "recvfrom(5, \"yyy", |server| {
        let mut client = server.connect_and_settle();
        for _ in 0..2 {
            server.while_suspended(|| client.send(&"x".repeat(LINE_BYTES_MAX / 2)));
            server.wait_until_it_settles();
        }
        server.while_suspended(|| client.send(&"y".repeat(4096)));
        client.expect("error -> the line is too long\n");
        server.wait_until_it_settles();
        server.while_suspended(|| {
            client.send("Hello world\n");
            client.shutdown_write();
        });
        client.expect_end();
    })
}

/// A client sends its FIN, and reads its replies then.
fn half_closed() -> Option<Vec<String>> {
    record("half-closed", PROGRAM, "recvfrom(5", |server| {
        let mut client = server.connect_and_settle();
        server.while_suspended(|| {
            client.send("Hello\nworld");
            client.shutdown_write();
        });
        client.expect("echo -> Hello\necho -> world");
        client.expect_end();
    })
}

#[test]
fn chapter_10_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_10_answers_are_what_its_programs_do() {
    let page = Page::read(PAGE);
    let calls = page.calls("too-long");
    let place = |what: &str| calls.iter().position(|call| call.contains(what)).unwrap();
    let after_fin = &calls[place("shutdown(")..];
    let of_line = after_fin.iter().filter(|call| call.contains("\"yyy")).count();
    let greeting = place("Hello world");
    let is_answered = calls[greeting..].iter().any(|call| call.starts_with("sendto("));
    let broken = page.block("check --row last-words broken/10_endings.rs");
    let (_, seen) = broken.split_once("last-words: ").unwrap();
    let (seen, _) = seen.split_once(" (chapter").unwrap();
    let is_answered = if is_answered { "yes" } else { "no" };
    page.check_answers(&[of_line.to_string(), is_answered.to_owned(), seen.to_owned()]);
}

#[test]
fn chapter_10_program_passes_the_row_that_its_patch_turns_red() {
    check_passes(&["--row", "last-words"], "programs/10_endings.rs", &[]);
}

#[test]
fn chapter_10_exercise_is_passed_by_its_solution() {
    check_solution(10, "10_quit.rs");
}
