//! Chapter 4: sockets that never wait, asked in turn without end.

use super::blocks::check_page;
use super::page::Page;
use super::programs::{Server, check_solution};
use super::trace::{Scene, record};

const PAGE: &str = "04-asking.md";
const PROGRAM: &str = "docs/book/programs/04_asking.py";
const SCENES: [Scene; 1] = [Scene { name: "asking", record: asking }];
/// Clock ticks of processor time, in which a pass over few clients happens many times.
const MANY_PASSES: u64 = 3;

/// Two clients that connect, one that sends a line, and much asking before each of it.
fn asking() -> Option<Vec<String>> {
    record("asking", PROGRAM, "accept4(", |server| {
        let first = server.connect();
        server.wait_until_it_has_run(MANY_PASSES);
        let mut second = server.connect();
        server.wait_until_it_has_run(MANY_PASSES);
        second.echo("Hello world");
        server.wait_until_it_has_run(MANY_PASSES);
        second.finish();
        server.wait_until_it_has_run(MANY_PASSES);
        first.finish();
    })
}

#[test]
fn chapter_4_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_4_answers_are_what_its_program_does() {
    let page = Page::read(PAGE);
    let calls = page.calls("asking");
    let empty = calls.iter().find(|call| call.starts_with("recvfrom(") && call.contains("= -1"));
    let error = empty.unwrap().split("= -1 ").nth(1).unwrap().trim_end_matches(" …");
    // With two clients, one pass asks the listening socket and each of them.
    let second = calls.iter().position(|call| call == "accept4(3) = 5").unwrap();
    let asked = calls[second + 1..].iter().filter(|call| !call.starts_with("ioctl"));
    let of_one_pass = asked.take_while(|call| call.contains("= -1 EAGAIN")).count();

    let server = Server::start(PROGRAM);
    let mut client = server.connect();
    client.echo("Hello world");
    let before = server.sleeps();
    // A fifth of a second of processor time in which no client sends.
    server.wait_until_it_has_run(20);
    let sleeps = server.sleeps() - before;
    let how_often = if sleeps < 3 { "never" } else { "sometimes" };
    page.check_answers(&[error.to_owned(), of_one_pass.to_string(), how_often.to_owned()]);
}

#[test]
fn chapter_4_exercise_is_passed_by_its_solution() {
    check_solution(4, "04_rest.py");
}
