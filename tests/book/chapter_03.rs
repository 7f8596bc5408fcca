//! Chapter 3: a thread for each client, and what a thread costs.

use super::blocks::check_page;
use super::page::Page;
use super::programs::{Server, check_idle, check_solution};
use super::trace::{Scene, record};

const PAGE: &str = "03-threads.md";
const PROGRAM: &str = "docs/book/programs/03_threads.py";
const SCENES: [Scene; 1] = [Scene { name: "threads", record: threads }];
const CLIENTS: usize = 20;

/// A silent client, and a second one that is served meanwhile.
fn threads() -> Option<Vec<String>> {
    record("threads", PROGRAM, "accept4(", |server| {
        let mut first = server.connect();
        let mut second = server.connect();
        second.echo("Hello world");
        second.echo("Hello again");
        first.echo("At last");
        second.finish();
        first.finish();
    })
}

#[test]
fn chapter_3_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

/// Few clients are enough: each thread costs as much as the one before.
#[test]
fn chapter_3_answers_are_what_its_program_does() {
    // One memory arena: how many glibc makes depends on the processors. A stack is 8 MiB.
    let wrapper = ["sh", "-c", r#"ulimit -s 8192; MALLOC_ARENA_MAX=1 exec "$@""#, "sh"];
    let server = Server::start_through(&wrapper.map(Into::into), PROGRAM);
    let mut clients = vec![server.connect()];
    clients[0].echo("Hello world");
    let before = server.status("VmSize");
    clients.extend((1..=CLIENTS).map(|_| server.connect()));
    let sleeps_before = server.sleeps();
    for client in &mut clients {
        client.echo("Hello world");
    }
    let mib_each = (server.status("VmSize") - before) / CLIENTS / 1024;
    let gb_of_a_thousand = mib_each * 1000 / 1000;
    let threads_of_a_thousand = 1000 + server.threads() - clients.len();
    server.wait_until_it_settles();
    let sleeps = server.sleeps() - sleeps_before;
    let at_least = if sleeps < clients.len() { "fewer" } else { "a thousand" };
    Page::read(PAGE).check_answers(&[
        threads_of_a_thousand.to_string(),
        format!("{gb_of_a_thousand} GB"),
        at_least.to_owned(),
    ]);
}

#[test]
fn chapter_3_idle_clients_are_counted_as_the_page_shows() {
    check_idle(&Page::read(PAGE), "programs/03_threads.py", CLIENTS, CLIENTS + 1);
}

#[test]
fn chapter_3_exercise_is_passed_by_its_solution() {
    check_solution(3, "03_bound.py");
}
