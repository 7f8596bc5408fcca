//! Chapter 13: HTTP/1.0, and where a message ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;

use super::blocks::check_page;
use super::clients::rows_failed;
use super::page::Page;
use super::peer::Client;
use super::programs::{Server, TIMEOUT, check_passes, check_solution, python};
use super::sockets::hold_port;
use super::trace::{Scene, record};

const PAGE: &str = "13-http.md";
const PROGRAM: &str = "docs/book/programs/13_http.rs";
const SCENES: [Scene; 2] =
    [Scene { name: "head", record: head }, Scene { name: "unread", record: unread }];
const BODY: &str = "Hello wörld!\n";
const POST: &str = "POST / HTTP/1.0\r\nContent-Length: 6000\r\n\r\n";

/// Returns a response of the program.
fn response(status: &str, body: &str) -> String {
    let head = format!("HTTP/1.0 {status}\r\nConnection: close\r\nContent-Length: {}", body.len());
    format!("{head}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}")
}

/// Records what the program does for a client of its port for HTTP, from the call on that begins
/// with `first`.
fn record_http(
    name: &str,
    first: &str,
    client: impl FnOnce(&Server, Client),
) -> Option<Vec<String>> {
    let (_holder, address) = hold_port();
    let program = format!("{PROGRAM} {}", address.port());
    record(name, &program, first, |server| {
        let connected = server.connect_to(address);
        server.wait_until_it_settles();
        client(server, connected);
    })
}

/// A head that comes in two pieces.
fn head() -> Option<Vec<String>> {
    record_http("head", "accept4(6)", |server, mut client| {
        client.send("GET / HTTP/1.0\r\nHo");
        server.wait_until_it_settles();
        client.send("st: localhost\r\n\r\n");
        client.expect(&response("200 OK", BODY));
        server.wait_until_it_settles();
        client.finish();
    })
}

/// A request whose body the server does not want. A third of it comes after the response.
fn unread() -> Option<Vec<String>> {
    record_http("unread", "recvfrom(7", |server, mut client| {
        server.while_suspended(|| client.send(&format!("{POST}{}", "x".repeat(4000))));
        client.expect(&response("501 Not Implemented", "only GET\n"));
        server.wait_until_it_settles();
        server.while_suspended(|| {
            client.send(&"y".repeat(2000));
            client.shutdown_write();
        });
        client.expect_end();
    })
}

#[test]
fn chapter_13_shows_what_its_files_and_programs_give() {
    check_page(PAGE, &SCENES);
}

#[test]
fn chapter_13_answers_are_what_its_program_does() {
    let (_holder, address) = hold_port();
    let server = Server::start(&format!("{PROGRAM} {}", address.port()));
    drop(server.connect_to(address)); // now it listens
    let (length, _) = read_by_python(address);

    let page = Page::read(PAGE);
    let calls = page.calls("unread");
    let received = calls.iter().filter(|call| call.starts_with("recvfrom("));
    let counts = received.filter_map(|call| call.rsplit(" = ").next()?.parse::<usize>().ok());
    let of_body = counts.sum::<usize>() - POST.len();
    let (_, outcome) = read_by_python(serve_once(BODY.len() + 1));
    page.check_answers(&[
        length,
        format!("{},{:03} bytes", of_body / 1000, of_body % 1000),
        outcome,
    ]);
}

#[test]
fn chapter_13_clients_take_wrong_lengths_as_its_table_says() {
    let page = Page::read(PAGE);
    for length in [BODY.len() - 1, BODY.len(), BODY.len() + 1] {
        let (_, outcome) = read_by_python(serve_once(length));
        let row = format!("| {length} | {outcome}");
        assert!(page.text.contains(&row), "{}: a row begins {row:?}", page.path);
    }
}

/// Serves one response, with a length of its own. Returns where.
fn serve_once(length: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut received = [0; 4096];
        let mut count = 0;
        while !received[..count].ends_with(b"\r\n\r\n") {
            count += client.read(&mut received[count..]).unwrap();
        }
        let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n");
        client.write_all((head + BODY).as_bytes()).unwrap();
    });
    address
}

/// Reads a page with Python's http.client. Returns its Content-Length, and what reading comes to.
fn read_by_python(address: SocketAddr) -> (String, String) {
    const SCRIPT: &str = "import http.client, sys\n\
        client = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=30)\n\
        client.request('GET', '/')\n\
        response = client.getresponse()\n\
        print(response.getheader('Content-Length'))\n\
        try:\n    print(len(response.read()), 'bytes')\n\
        except http.client.HTTPException as error:\n    print(type(error).__name__)\n";
    let mut command = Command::new(python());
    let output = command.args(["-c", SCRIPT, &address.port().to_string()]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    let [length, outcome] = lines[..] else {
        panic!("{printed} {}", String::from_utf8_lossy(&output.stderr));
    };
    (length.to_owned(), outcome.to_owned())
}

#[test]
fn chapter_13_smuggled_request_is_as_long_as_the_second_length_says() {
    let page = Page::read(PAGE);
    let (_, from) = page.text.split_once("```text\nGET / HTTP/1.0\n").unwrap();
    let (request, _) = from.split_once("```").unwrap();
    let (head, body) = request.split_once("\n\n").unwrap();
    let lengths: Vec<usize> = head
        .lines()
        .filter_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok())
        .collect();
    assert_eq!(lengths, [0, body.replace('\n', "\r\n").len()], "{body}");
}

#[test]
fn chapter_13_program_passes_the_row_that_its_patch_turns_red() {
    check_passes(&["--row", "two-lengths"], "programs/13_http.rs", &[]);
}

#[test]
fn chapter_13_program_fails_the_two_rows_of_reactor_try_that_it_names() {
    let (_holder, address) = hold_port();
    let server = Server::start(&format!("{PROGRAM} {}", address.port()));
    drop(server.connect_to(address)); // now it listens
    let Some(failed) = rows_failed(&[&format!("http://{address}")]) else { return };
    assert_eq!(failed, ["head", "no-host"]);
    let page = Page::read(PAGE);
    let named = failed.iter().all(|row| page.text.contains(&format!("`{row}`")));
    assert!(named, "{} names {failed:?}", page.path);
}

#[test]
fn chapter_13_exercise_is_passed_by_its_solution() {
    check_solution(13, "13_keep_alive.rs");
    for row in ["http", "two-lengths"] {
        check_passes(&["--row", row], "solutions/13_keep_alive.rs", &[]);
    }
}
