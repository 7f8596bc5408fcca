//! The example docs/examples/worker.rs, with work that the tests hold up.

// The helpers here unwrap as the tests do, and a test that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "../docs/examples/worker.rs"]
mod worker;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use mio_reactor::Promise;

use common::{TIMEOUT, any_port, connect, reset, run_in_thread};

/// A pool whose work the test lets go on.
struct Pool {
    address: SocketAddr,
    /// The numbers that threads have begun with.
    begun: Receiver<u64>,
    /// One for each job that may be finished.
    go_on: Sender<()>,
}

fn start(threads: usize, jobs_max: usize) -> Pool {
    let (send_begun, begun) = mpsc::channel();
    let (go_on, wait) = mpsc::channel();
    let wait = Arc::new(Mutex::new(wait));
    let work = move |number: u64, _: &Promise| {
        send_begun.send(number).unwrap();
        assert!(number != 13, "the work panics");
        wait.lock().unwrap().recv_timeout(TIMEOUT).unwrap();
        Some(format!("{number} "))
    };
    let address = run_in_thread(move |reactor| {
        worker::listen(reactor, any_port(), (threads, jobs_max), work).unwrap()
    });
    Pool { address, begun, go_on }
}

impl Pool {
    fn ask(&self, path: &str) -> TcpStream {
        let mut client = connect(self.address);
        write!(client, "GET /{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        client
    }

    #[track_caller]
    fn check_begun(&self, number: u64) {
        assert_eq!(self.begun.recv_timeout(TIMEOUT), Ok(number));
    }
}

fn read_answer(client: &mut TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

/// Reads to the end, and checks the status and the body.
#[track_caller]
fn check_answer(mut client: TcpStream, status: &str, body: &str) {
    let answer = read_answer(&mut client);
    assert!(answer.starts_with(&format!("HTTP/1.0 {status}")), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
}

#[test]
fn others_are_served_while_a_thread_works() {
    let pool = start(1, 1);
    let slow = pool.ask("1");
    pool.check_begun(1);
    check_answer(pool.ask("not-a-number"), "404 Not Found", "404 Not Found\n");
    pool.go_on.send(()).unwrap();
    check_answer(slow, "200 OK", "1 ");
}

#[test]
fn work_that_would_never_end_stops_when_its_client_has_left() {
    let (send_begun, begun) = mpsc::channel();
    let work = move |number, promise: &Promise| {
        send_begun.send(number).unwrap();
        worker::count_primes(number, promise)
    };
    let address =
        run_in_thread(move |reactor| worker::listen(reactor, any_port(), (1, 1), work).unwrap());
    let ask = |number: u64| {
        let mut client = connect(address);
        write!(client, "GET /{number} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        client
    };
    let client = ask(u64::MAX);
    assert_eq!(begun.recv_timeout(TIMEOUT), Ok(u64::MAX));
    reset(client);
    check_answer(ask(100), "200 OK", "25\n");
}

#[test]
fn pipelined_requests_are_answered_in_the_order_of_asking() {
    let pool = start(3, 3);
    let mut client = connect(pool.address);
    let get = |path| format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.write_all([get("1"), get("x"), get("2"), get("3")].concat().as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    for number in 1..=3 {
        pool.check_begun(number); // the next request is taken when this one has been answered
        pool.go_on.send(()).unwrap();
    }
    let mut answers = String::new();
    client.read_to_string(&mut answers).unwrap();
    let bodies: Vec<&str> = answers.split("\r\n\r\n").skip(1).collect();
    let starts: Vec<&str> = bodies.iter().map(|body| body.split("HTTP/").next().unwrap()).collect();
    assert_eq!(starts, ["1 ", "404 Not Found\n", "2 ", "3 "]);
}

#[test]
fn full_queue_is_503_at_once_and_takes_jobs_again_later() {
    let pool = start(1, 1);
    let first = pool.ask("1");
    pool.check_begun(1);
    // The queue has room for one of two. Which, the kernel decides.
    let (send_answer, answers) = mpsc::channel();
    for mut client in [pool.ask("2"), pool.ask("3")] {
        let send_answer = send_answer.clone();
        thread::spawn(move || send_answer.send(read_answer(&mut client)).unwrap());
    }
    let rejected = answers.recv_timeout(TIMEOUT).unwrap();
    assert!(rejected.starts_with("HTTP/1.0 503 Service Unavailable\r\n"), "{rejected}");
    assert!(rejected.contains("\r\nRetry-After: 1\r\n"), "{rejected}");
    pool.go_on.send(()).unwrap();
    pool.go_on.send(()).unwrap();
    check_answer(first, "200 OK", "1 ");
    let number = pool.begun.recv_timeout(TIMEOUT).unwrap();
    let accepted = answers.recv_timeout(TIMEOUT).unwrap();
    assert!(accepted.ends_with(&format!("\r\n\r\n{number} ")), "{accepted}");
}

#[test]
fn job_of_a_client_that_has_left_is_skipped() {
    let pool = start(1, 2);
    let first = pool.ask("1");
    pool.check_begun(1);
    reset(pool.ask("2"));
    let third = pool.ask("3");
    // The loop may take both requests in one turn, and see the reset in the next. The answers to
    // two others, one after the other, show that it has had a turn more.
    for _ in 0..2 {
        check_answer(pool.ask("x"), "404 Not Found", "404 Not Found\n");
    }
    pool.go_on.send(()).unwrap();
    pool.go_on.send(()).unwrap();
    check_answer(first, "200 OK", "1 ");
    pool.check_begun(3);
    check_answer(third, "200 OK", "3 ");
}

#[test]
fn work_that_panics_is_500_and_its_thread_goes_on() {
    let pool = start(1, 1);
    check_answer(pool.ask("13"), "500 Internal Server Error", "500 Internal Server Error\n");
    pool.go_on.send(()).unwrap();
    check_answer(pool.ask("2"), "200 OK", "2 ");
}

#[test]
fn curl_gets_the_number_of_primes() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: curl is not installed");
        return;
    }
    let address = run_in_thread(|reactor| {
        worker::listen(reactor, any_port(), (1, 1), worker::count_primes).unwrap()
    });
    let url = format!("http://{address}/1000");
    let run = Command::new("curl").args(["-sS", "--max-time", "10", &url]).output().unwrap();
    assert_eq!(String::from_utf8(run.stdout).unwrap(), "168\n");
}
