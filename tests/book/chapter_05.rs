//! Chapter 5: one call that waits for all sockets, and its price.

use super::blocks::check_page;
use super::page::{Page, read};
use super::programs::{Server, check_idle, check_solution};
use super::trace::{Scene, record};

const PAGE: &str = "05-select.md";
const PROGRAM: &str = "docs/book/programs/05_select.py";
const SCENES: [Scene; 1] = [Scene { name: "select", record: select }];

/// Three clients: one sends, then two at the same moment.
fn select() -> Option<Vec<String>> {
    record("select", PROGRAM, "select(", |server| {
        let mut clients = [(); 3].map(|()| {
            let mut client = server.connect();
            client.echo("Hello");
            client
        });
        clients[1].echo("only me");
        let [first, _, third] = &mut clients;
        server.while_suspended(|| {
            first.send("first\n");
            third.send("third\n");
        });
        first.expect("echo -> first\n");
        third.expect("echo -> third\n");
        let [first, others @ ..] = clients;
        first.finish();
        others
    })
}

#[test]
fn chapter_5_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_5_answers_are_what_its_program_does() {
    let page = Page::read(PAGE);
    let calls = page.calls("select");
    let at = calls.iter().position(|call| call.contains("only me")).unwrap();
    let asked = calls[at - 1].split(['[', ']']).nth(1).unwrap().split(' ').count();
    let ready = calls[at - 1].split(" = ").nth(1).unwrap().split(' ').next().unwrap();
    let first = calls.iter().position(|call| call.contains("recvfrom") && call.contains("first"));
    let third = calls.iter().position(|call| call.contains("recvfrom") && call.contains("third"));
    let between = &calls[first.unwrap()..third.unwrap()];
    let wakes = 1 + between.iter().filter(|call| call.starts_with("select")).count();
    let errors = errors_at_descriptor_1024();
    let error = errors.as_deref().and_then(|errors| errors.lines().last()?.split_once(": "));
    let ends = error.is_some_and(|(kind, message)| {
        page.text.contains(&format!("Python raises {kind}, `{message}`"))
    });
    page.check_answers(&[
        format!("{asked} and {ready}"),
        wakes.to_string(),
        if ends { "the server ends" } else { "it is served" }.to_owned(),
    ]);
}

/// The shell opens descriptors up to 1,019, so that the program's own begin at 1,020.
fn errors_at_descriptor_1024() -> Option<String> {
    let line = "ulimit -n 1100; n=3; while [ $n -lt 1020 ]; do eval \"exec $n</dev/null\"; \
                n=$((n+1)); done; exec \"$@\"";
    let wrapper = ["bash", "-c", line, "bash"];
    let mut server = Server::start_through(&wrapper.map(Into::into), PROGRAM);
    let mut clients = [(); 3].map(|()| server.connect()); // 1,021 to 1,023
    for client in &mut clients {
        client.echo("Hello");
    }
    let _one_more = server.connect();
    server.errors_at_end()
}

#[test]
fn chapter_5_loop_has_less_than_fifty_lines_of_code() {
    let text = read(PROGRAM);
    let (before, after) = text.split_once("\nsignal.signal(").unwrap();
    let parts = [before.split_once("\nclass ").unwrap().1, after.split_once("}\")\n").unwrap().1];
    let lines = parts.iter().flat_map(|part| part.lines()).map(str::trim);
    let code = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '"'])).count();
    assert!((30..50).contains(&code), "{code} lines");
}

#[test]
fn chapter_5_idle_clients_are_counted_as_the_page_shows() {
    check_idle(&Page::read(PAGE), "programs/05_select.py", 20, 1);
}

#[test]
fn chapter_5_exercise_is_passed_by_its_solution() {
    check_solution(5, "05_poll.py");
}
