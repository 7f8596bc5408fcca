//! Chapter 1: one client at a time, and what the others wait for.

use super::blocks::check_page;
use super::page::Page;
use super::programs::{Server, check_solution};
use super::trace::{Scene, record};

const PAGE: &str = "01-one-at-a-time.md";
const PROGRAM: &str = "docs/lecture/tcp_echo_server.py";
const SCENES: [Scene; 1] = [Scene { name: "silent", record: silent }];

/// A silent client, and a second one that sends a line at once.
fn silent() -> Option<Vec<String>> {
    record("silent", PROGRAM, "socket(", |server| {
        let first = server.connect();
        let mut second = server.connect();
        second.send("Hello world\n");
        first.finish();
        second.expect("echo -> Hello world\n");
        second.finish();
    })
}

#[test]
fn chapter_1_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_1_answers_are_what_its_program_does() {
    let server = Server::start(PROGRAM);
    let first = server.connect();
    // `connect` returns although the server never accepts while the first client is silent.
    let mut second = server.connect();
    second.send("Hello world\n");
    server.wait_until("it has accepted the first", || server.sockets() == 2);
    let of_clients = server.sockets() - 1;
    first.finish();
    second.expect("echo -> Hello world\n"); // sent once
    Page::read(PAGE).check_answers(&["yes".to_owned(), of_clients.to_string(), "no".to_owned()]);
}

#[test]
fn chapter_1_exercise_is_passed_by_its_solution() {
    check_solution(1, "01_patience.py");
}
