//! The example docs/examples/dns.rs between clients and a server that the test plays, and with dig.

// The helpers here unwrap as the tests do, and a test that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "../docs/examples/dns.rs"]
mod dns;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;

use common::{
    Program, TIMEOUT, any_port, be_server, check_end, connect, connect_udp, run_in_thread,
};

/// What [`Program::start_server`] runs in a process of its own.
#[test]
#[ignore = "is a server, not a test"]
fn be_a_server() {
    be_server(|reactor, server| {
        // The port that is free over UDP may be in use over TCP.
        let mut tries =
            (0..20).map(|_| dns::listen(reactor, any_port(), server.parse().unwrap(), any_port()));
        tries.find_map(Result::ok).map(|(address, _)| address).ok_or(ErrorKind::AddrInUse.into())
    });
}

/// A forwarder, and the server that it asks: a socket of the test.
struct Setup {
    _program: Program,
    address: SocketAddr,
    server: UdpSocket,
    tcp_server: TcpListener,
}

fn start() -> Setup {
    // A port that is free over TCP may be in use over UDP, by a test that runs at the same time.
    let mut tries = (0..20).map(|_| {
        let tcp_server = TcpListener::bind(any_port())?;
        UdpSocket::bind(tcp_server.local_addr()?).map(|server| (server, tcp_server))
    });
    let (server, tcp_server) = tries.find_map(Result::ok).unwrap();
    server.set_read_timeout(Some(TIMEOUT)).unwrap();
    let upstream = server.local_addr().unwrap().to_string();
    let (program, address) = Program::start_server("be_a_server", &upstream);
    Setup { _program: program, address, server, tcp_server }
}

impl Setup {
    /// Receives a query as the server.
    fn query(&self) -> (Vec<u8>, SocketAddr) {
        let mut bytes = [0; 2048];
        let (count, from) = self.server.recv_from(&mut bytes).unwrap();
        (bytes[..count].to_vec(), from)
    }
}

/// Returns a query for the address of `name`, with recursion desired (RFC 1035 section 4.1).
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Returns the answer 192.0.2.`host` to `query`.
fn answer(query: &[u8], host: u8) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2] |= 0x80;
    message[7] = 1; // a record: the name is that of the question
    message.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, host]);
    message
}

#[track_caller]
fn check_received(client: &UdpSocket, expected: &[u8]) {
    let mut bytes = [0; 2048];
    let count = client.recv(&mut bytes).unwrap();
    assert_eq!(bytes[..count].escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn clients_with_the_same_id_get_their_own_answers_in_any_order() {
    let setup = start();
    let queries = [query(7, "one.example"), query(7, "two.example"), query(7, "three.example")];
    let clients: Vec<UdpSocket> = queries.iter().map(|_| connect_udp(setup.address)).collect();
    let mut asked = Vec::new();
    for (client, query) in clients.iter().zip(&queries) {
        client.send(query).unwrap();
        asked.push(setup.query());
    }
    for host in [2, 0, 1] {
        let (asked, forwarder) = &asked[usize::from(host)];
        setup.server.send_to(&answer(asked, host), forwarder).unwrap();
    }
    for ((host, client), query) in (0..).zip(&clients).zip(&queries) {
        check_received(client, &answer(query, host));
    }
}

// pitfall: 180
#[test]
fn answer_counts_only_with_the_source_id_and_letters_of_its_query() {
    let setup = start();
    let client = connect_udp(setup.address);
    let asked_by_client = query(0xABCD, "a-name-of-some-length.example");
    client.send(&asked_by_client).unwrap();
    let (asked, forwarder) = setup.query();
    assert!(asked.eq_ignore_ascii_case(&[&asked[..2], &asked_by_client[2..]].concat()));
    let other = UdpSocket::bind(any_port()).unwrap();
    other.send_to(&answer(&asked, 1), forwarder).unwrap();
    let mut other_id = asked.clone();
    other_id[1] ^= 1;
    let mut other_letters = asked.clone();
    other_letters[13] ^= 0x20;
    let other_question = [&asked[..2], &query(0, "b-name-of-some-length.example")[2..]].concat();
    for wrong in [&other_id, &other_letters, &other_question] {
        setup.server.send_to(&answer(wrong, 2), forwarder).unwrap();
    }
    setup.server.send_to(&asked, forwarder).unwrap(); // no answer
    setup.server.send_to(&asked[..5], forwarder).unwrap();
    setup.server.send_to(&answer(&asked, 3), forwarder).unwrap();
    check_received(&client, &answer(&asked_by_client, 3));
}

#[test]
fn ids_and_letters_of_queries_differ_from_one_to_the_next() {
    let setup = start();
    let client = connect_udp(setup.address);
    let queries: Vec<Vec<u8>> = (0..20)
        .map(|_| {
            client.send(&query(1, "the-same-name-each-time.example")).unwrap();
            setup.query().0
        })
        .collect();
    let mut ids: Vec<&[u8]> = queries.iter().map(|query| &query[..2]).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20, "an id is not used twice at a time");
    let mut names: Vec<&[u8]> = queries.iter().map(|query| &query[12..]).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 15, "{} of 2^27 cases", names.len());
}

// pitfall: 180
#[test]
fn query_that_is_never_answered_gets_servfail() {
    let setup = start();
    let client = connect_udp(setup.address);
    let asked = query(9, "silent.example");
    client.send(&asked).unwrap();
    let mut failure = asked;
    failure[2] |= 0x80;
    failure[3] = 2;
    check_received(&client, &failure);
}

// pitfall: 217
#[test]
fn format_error_without_a_question_is_passed_on_at_once() {
    let setup = start();
    let client = connect_udp(setup.address);
    let asked = query(9, "odd.example");
    client.send(&asked).unwrap();
    let (sent, from) = setup.query();
    let error = |id: &[u8], code| [id, &[0x80, code, 0, 0, 0, 0, 0, 0, 0, 0][..]].concat();
    let other_id = (u16::from_be_bytes([sent[0], sent[1]]) ^ 1).to_be_bytes();
    setup.server.send_to(&error(&other_id, 1), from).unwrap(); // of another query
    setup.server.send_to(&error(&sent[..2], 2), from).unwrap(); // with a question, or not at all
    setup.server.send_to(&error(&sent[..2], 1), from).unwrap();
    let mut failure = asked;
    failure[2] |= 0x80;
    failure[3] = 1;
    check_received(&client, &failure);
}

#[test]
fn query_that_finds_too_many_pending_gets_servfail_at_once() {
    let setup = start();
    let (crowd, client) = (connect_udp(setup.address), connect_udp(setup.address));
    let asked = query(9, "one-of-many.example");
    for _ in 0..4096 / 64 {
        (0..64).for_each(|_| assert_eq!(crowd.send(&asked).unwrap(), asked.len()));
        (0..64).for_each(|_| drop(setup.query()));
    }
    client.send(&asked).unwrap();
    let mut failure = asked;
    failure[2] |= 0x80;
    failure[3] = 2;
    check_received(&client, &failure);
    setup.server.set_nonblocking(true).unwrap();
    assert!(setup.server.recv(&mut [0]).is_err(), "the server is not asked");
}

#[test]
fn truncated_answer_and_what_follows_the_question_pass_unchanged() {
    let setup = start();
    let client = connect_udp(setup.address);
    let mut with_option = query(5, "long.example");
    with_option[11] = 1;
    with_option.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]); // EDNS: takes 1232 bytes
    client.send(&with_option).unwrap();
    let (asked, forwarder) = setup.query();
    assert!(asked.ends_with(&with_option[26..]));
    let mut truncated = answer(&asked[..asked.len() - 11], 0);
    truncated[2] |= 2;
    setup.server.send_to(&truncated, forwarder).unwrap();
    let mut expected = answer(&with_option[..with_option.len() - 11], 0);
    expected[2] |= 2;
    check_received(&client, &expected);
}

#[test]
fn what_is_no_query_is_an_error_or_nothing() {
    let setup = start();
    let client = connect_udp(setup.address);
    client.send(&answer(&query(1, "x.example"), 1)).unwrap(); // nothing
    client.send(&[0; 11]).unwrap(); // nothing
    let mut two_questions = query(2, "x.example");
    two_questions[5] = 2;
    let mut pointer = query(3, "x.example");
    pointer[12] = 0xC0;
    let cut = &query(4, "x.example")[..20];
    for wrong in [&two_questions[..], &pointer, cut] {
        client.send(wrong).unwrap();
        let expected = [&wrong[..2], &[0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        check_received(&client, &expected);
    }
}

#[test]
fn counts_are_shown_over_http() {
    let server = UdpSocket::bind(any_port()).unwrap();
    server.set_read_timeout(Some(TIMEOUT)).unwrap();
    let upstream = server.local_addr().unwrap();
    let (send_address, address) = mpsc::channel();
    let status = run_in_thread(move |reactor| {
        let mut tries = (0..20).map(|_| dns::listen(reactor, any_port(), upstream, any_port()));
        let (address, status) = tries.find_map(Result::ok).unwrap();
        send_address.send(address).unwrap();
        status
    });
    let client = connect_udp(address.recv_timeout(TIMEOUT).unwrap());
    let asked = query(1, "a.example");
    client.send(&asked).unwrap();
    let mut bytes = [0; 512];
    let (count, forwarder) = server.recv_from(&mut bytes).unwrap();
    server.send_to(&answer(&query(0, "b.example"), 1), forwarder).unwrap();
    server.send_to(&answer(&bytes[..count], 2), forwarder).unwrap();
    check_received(&client, &answer(&asked, 2));
    let mut browser = connect(status);
    browser.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    browser.read_to_string(&mut page).unwrap();
    let counts = "Counts { asked: 1, answered: 1, failed: 0, unexpected: 1 }\n";
    assert!(page.ends_with(counts), "{page}");
}

/// Serves queries over TCP at the server's port.
fn serve_tcp(setup: &Setup, serve: impl Fn(TcpStream) + Send + 'static) {
    let listener = setup.tcp_server.try_clone().unwrap();
    thread::spawn(move || listener.incoming().for_each(|stream| serve(stream.unwrap())));
}

fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

fn with_length(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

#[test]
fn queries_over_tcp_are_answered_over_tcp() {
    let setup = start();
    serve_tcp(&setup, |mut stream| {
        for host in 0..2 {
            let query = read_message(&mut stream);
            stream.write_all(&with_length(&answer(&query, host))).unwrap();
        }
    });
    let mut client = connect(setup.address);
    let queries = [query(1, "one.example"), query(2, "two.example")];
    client.write_all(&[with_length(&queries[0]), with_length(&queries[1])].concat()).unwrap();
    let answers = [with_length(&answer(&queries[0], 0)), with_length(&answer(&queries[1], 1))];
    check_end(client, &answers.concat());
}

/// Runs dig. `None`, aloud: it is not installed.
fn dig(address: SocketAddr, options: &[&str]) -> Option<Output> {
    let (host, port) = (format!("@{}", address.ip()), address.port().to_string());
    let output = Command::new("dig")
        .args([&host, "-p", &port, "+time=9", "+tries=1", "+noall", "+answer", "a.example"])
        .args(options)
        .output();
    if output.is_err() {
        println!("skipped: dig is not installed");
    }
    output.ok()
}

#[test]
fn dig_gets_an_answer_over_udp_and_tcp() {
    let setup = start();
    serve_tcp(&setup, |mut stream| {
        let query = read_message(&mut stream);
        stream.write_all(&with_length(&answer(&query[..27], 80))).unwrap();
    });
    let Some(output) = dig(setup.address, &["+tcp", "+noedns"]) else { return };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("a.example.\t\t60\tIN\tA\t192.0.2.80"), "{text}");
    let address = setup.address;
    let asking = thread::spawn(move || dig(address, &["+noedns"]).unwrap());
    let (asked, forwarder) = setup.query();
    setup.server.send_to(&answer(&asked, 53), forwarder).unwrap();
    let text = String::from_utf8(asking.join().unwrap().stdout).unwrap();
    assert!(text.contains("a.example.\t\t60\tIN\tA\t192.0.2.53"), "{text}");
}
