//! Chapter 12: datagrams, what their senders are, and what an error of one of them means.

use super::blocks::check_page;
use super::clients::{rows_failed, run_failing_client};
use super::page::Page;
use super::programs::{REACTOR, REACTOR_PATH, Server, check_passes, check_solution};
use super::refusals::stay_where_refusals_arrive;
use super::sockets::DatagramClient;
use super::trace::{Scene, record, record_client};

const PAGE: &str = "12-datagrams.md";
const PROGRAM: &str = "docs/book/programs/12_datagrams.rs";
const BROKEN: &str = "docs/book/broken/12_datagrams.rs";
/// The client of the lecture, and an address at which nothing is served.
const WITHOUT_SERVER: &str = "docs/lecture/udp_echo_client.py 127.0.0.5";
const SCENES: [Scene; 3] = [
    Scene { name: "datagrams", record: datagrams },
    Scene { name: "refused", record: refused },
    Scene { name: "batch", record: batch },
];

/// Binds a client to a free port of its own address.
fn client(server: &Server) -> DatagramClient {
    DatagramClient::bind(2, 0, server.address())
}

/// A client at another address, with the port of the server: another server of the same kind.
fn other_server(server: &Server) -> DatagramClient {
    DatagramClient::bind(3, server.address().port(), server.address())
}

/// One datagram; three at once; one from a client that has left; one from another echo server.
fn datagrams() -> Option<Vec<String>> {
    if !stay_where_refusals_arrive() {
        return None;
    }
    record("datagrams", PROGRAM, "epoll_wait(3, [{EPOLLIN, 1}]", |server| {
        let stream = server.connect_and_settle();
        let first = client(server);
        first.echo(b"Hello world");
        server.wait_until_it_settles();
        let three: [&[u8]; 3] = [b"one", b"", b"two"];
        server.while_suspended(|| three.into_iter().for_each(|one| first.send(one)));
        three.into_iter().for_each(|one| first.expect(one));
        server.wait_until_it_settles();
        server.while_suspended(|| client(server).send(b"I leave"));
        server.wait_until_it_settles();
        first.echo(b"I stay");
        server.wait_until_it_settles();
        server.while_suspended(|| {
            other_server(server).send(b"echo -> Hello");
            first.send(b"Hello again");
        });
        first.expect(b"Hello again");
        stream
    })
}

/// The client of the lecture, without a server.
fn refused() -> Option<Vec<String>> {
    if !stay_where_refusals_arrive() {
        return None;
    }
    record_client("refused", WITHOUT_SERVER, |strace| {
        let errors = run_failing_client(strace, WITHOUT_SERVER, 2000);
        assert!(errors.contains("Connection refused"), "{errors}");
    })
}

/// Twenty datagrams at once, received by the program of this repository.
fn batch() -> Option<Vec<String>> {
    REACTOR_PATH?;
    record("batch", REACTOR, "recvmmsg(", |server| {
        let stream = server.connect_and_settle();
        let client = client(server);
        server.while_suspended(|| (0..20).for_each(|_| client.send(b"Hello world")));
        (0..20).for_each(|_| client.expect(b"Hello world"));
        stream
    })
}

#[test]
fn chapter_12_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_12_answers_are_what_its_programs_do() {
    let page = Page::read(PAGE);
    let calls = page.calls("datagrams");
    let empty = calls.iter().position(|call| call.starts_with("recvfrom(5, \"\"")).unwrap();
    let result = calls[empty].rsplit(" = ").next().unwrap();
    let is_answered = calls[empty + 1].starts_with("sendto(5, \"echo -> \", 8");
    let is_answered = if is_answered { "it is answered" } else { "it is not answered" };
    assert!(calls.iter().any(|call| call.contains("I leave")));
    let told = calls.iter().filter(|call| call.contains("ECONNREFUSED")).count();
    let told = if told == 0 { "none" } else { "a call" };
    let exchanged = exchanged_in_a_loop();
    page.check_answers(&[
        format!("{result}, and {is_answered}"),
        told.to_owned(),
        format!("{},{:03} datagrams", exchanged / 1000, exchanged % 1000),
    ]);
}

/// Plays a second server for the one that trusts its senders. Returns how many datagrams the two
/// send, until one of them cannot be sent.
fn exchanged_in_a_loop() -> usize {
    let server = Server::start(BROKEN);
    let _stream = server.connect_and_settle();
    let (other, client) = (other_server(&server), client(&server));
    let mut exchanged = 0;
    other.send(b"");
    loop {
        client.echo(b"?"); // now what was sent before it has been answered, or never will be
        let Some(mut reply) = other.received_already() else { return exchanged };
        exchanged += 1;
        reply.splice(..0, *b"echo -> ");
        if !other.can_send(&reply) {
            return exchanged;
        }
        exchanged += 1;
    }
}

#[test]
fn chapter_12_program_passes_the_row_that_its_patch_turns_red() {
    check_passes(&["--row", "loop"], "programs/12_datagrams.rs", &[]);
}

#[test]
fn chapter_12_program_passes_every_row_of_reactor_try() {
    let server = Server::start(PROGRAM);
    let _stream = server.connect_and_settle();
    let url = format!("udp://{}", server.address());
    let failed = rows_failed(&[&url, "--prefix", "echo -> "]).unwrap_or_default();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn chapter_12_exercise_is_passed_by_its_solution() {
    check_solution(12, "12_rate.rs");
}
