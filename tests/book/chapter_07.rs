//! Chapter 7: an edge is reported once, so it is remembered; and what can go on is queued.

use super::blocks::check_page;
use super::page::{Page, read};
use super::programs::{Server, check_passes, check_solution};
use super::trace::{Scene, record};

const PAGE: &str = "07-edges.md";
const PROGRAM: &str = "docs/book/programs/07_ready.rs";
const BROKEN: &str = "docs/book/broken/07_ready.rs";
const SCENES: [Scene; 2] =
    [Scene { name: "burst", record: burst }, Scene { name: "forgotten", record: forgotten }];
/// So many lines arrive at once: forty times what one recv takes, and one line more.
const LINES: usize = 40 * 1024 / LINE_BYTES + 1;
const LINE_BYTES: usize = 128;

fn line() -> String {
    format!("{}\n", "x".repeat(LINE_BYTES - 1))
}

/// Much arrives from one client, and a line from another, at the same moment.
fn burst() -> Option<Vec<String>> {
    record("burst", PROGRAM, "epoll_wait(", |server| {
        let mut clients = [(); 2].map(|()| server.connect_and_settle());
        let [first, second] = &mut clients;
        server.while_suspended(|| {
            first.send(&line().repeat(LINES));
            second.send("Hello world\n");
        });
        first.expect(&format!("echo -> {}", line()).repeat(LINES));
        second.expect("echo -> Hello world\n");
        server.wait_until_it_settles();
        let [first, mut second] = clients;
        server.while_suspended(|| {
            second.send("The end");
            second.shutdown_write();
        });
        second.expect("echo -> The end");
        second.expect_end();
        first
    })
}

/// Much arrives at once, and the program has no run queue.
fn forgotten() -> Option<Vec<String>> {
    record("forgotten", BROKEN, "epoll_wait(", |server| {
        let mut client = server.connect_and_settle();
        server.while_suspended(|| client.send(&line().repeat(LINES)));
        client
    })
}

#[test]
fn chapter_7_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_7_answers_are_what_its_programs_do() {
    let page = Page::read(PAGE);
    let calls = page.calls("burst");
    let place = |what: &str| calls.iter().position(|call| call.contains(what)).unwrap();
    let asked = calls[place("1024) = 1024")..].iter().find(|call| call.starts_with("epoll_wait"));
    let reported = asked.unwrap().rsplit(" = ").next().unwrap();
    let short = &calls[place("1024) = 128")..];
    let until_sleep = short.iter().take_while(|call| !call.contains("], -1)"));
    let more = until_sleep.filter(|call| call.starts_with("recvfrom")).count() - 1;

    let server = Server::start(BROKEN);
    let mut client = server.connect_and_settle();
    server.while_suspended(|| client.send(&line().repeat(LINES)));
    server.wait_until_it_settles();
    let replies = client.received_already() / (LINE_BYTES + "echo -> ".len());
    page.check_answers(&[
        format!("{reported} events"),
        more.to_string(),
        format!("{replies} of {LINES}"),
    ]);
}

/// The first quotation is from our program, the second from the middle of a function of the server.
#[test]
fn chapter_7_quotes_the_lines_in_which_a_short_read_counts() {
    let page = Page::read(PAGE);
    let quoted = page.text.split("\n\n```rust\n").skip(1);
    let quoted: Vec<&str> = quoted.map(|from| from.split("```").next().unwrap()).collect();
    let [ours, of_server] = quoted[..] else { panic!("{quoted:?}") };
    assert!(ours.starts_with("self.readable = "), "{ours}");
    assert!(of_server.contains("count < into.len()"), "{of_server}");
    let trimmed =
        |text: &str| text.lines().flat_map(|line| [line.trim(), "\n"]).collect::<String>();
    for (lines, path) in [(ours, PROGRAM), (of_server, "src/stream/readiness.rs")] {
        let count = trimmed(&read(path)).matches(&trimmed(lines)).count();
        assert_eq!(count, 1, "{path} has once:\n{lines}");
    }
}

#[test]
fn chapter_7_program_passes_the_row_that_its_patch_turns_red() {
    check_passes(&["--row", "burst"], "programs/07_ready.rs", &[]);
}

#[test]
fn chapter_7_exercise_is_passed_by_its_solution() {
    check_solution(7, "07_bound.rs");
}
