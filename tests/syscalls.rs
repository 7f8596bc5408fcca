//! What a conversation costs in system calls, as strace counts them.
//!
//! Where strace is not installed, or may not trace, nothing can be counted: then each test says so in one line and passes.

#![cfg(target_os = "linux")]
// The helpers here unwrap as the tests do, and say why they have nothing to do.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use common::{Program, connect, reactor};

const HTTP: [&str; 2] = ["--http", "127.0.0.1:0"];
const REPLY_END: &[u8] = b"\r\n\r\nHello, World!";

/// Lets `talk` talk to the program while strace watches that. Returns the calls made from the first connection on, one
/// per line, and the number of its descriptor.
fn trace(name: &str, talk: impl FnOnce(&Program)) -> Option<(Vec<String>, String)> {
    if !Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output().is_ok_and(|run| run.status.success()) {
        println!("strace is not installed or may not trace: no system call was counted");
        return None;
    }
    // With -D it is strace that runs beside: our child, which we signal and wait for, is the program itself.
    let file = format!("{}/{name}.strace", env!("CARGO_TARGET_TMPDIR"));
    let program = reactor();
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-o", &file, "-e", "trace=accept4,recvfrom,sendto,shutdown,close,epoll_ctl"]);
    strace.arg(program.get_program()).args(HTTP).env_remove("RUST_LOG");
    let mut program = Program::spawn(&mut strace);
    program.read_addresses(&HTTP);
    talk(&program);
    assert_eq!(program.stop().status.code(), Some(0));
    let trace = fs::read_to_string(file).unwrap();
    let lines = trace.lines().skip_while(|line| !is_accept(line)).map(str::to_owned).collect::<Vec<_>>();
    let (_, descriptor) = lines.first().and_then(|accept| accept.rsplit_once("= ")).expect("a connection was accepted");
    let descriptor = descriptor.to_owned();
    Some((lines, descriptor))
}

fn is_accept(line: &str) -> bool {
    line.contains(" accept4(") && !line.contains("= -1")
}

/// How many of `calls` begin with `call`, behind the process's number.
fn count(calls: &[String], call: &str) -> usize {
    calls.iter().filter(|line| line.split_once(' ').is_some_and(|(_, made)| made.trim_start().starts_with(call))).count()
}

/// Reads one whole reply.
fn read_reply(stream: &mut TcpStream) {
    let mut reply = Vec::new();
    while !reply.ends_with(REPLY_END) {
        let mut piece = [0; 1024];
        let count = stream.read(&mut piece).unwrap();
        assert_ne!(count, 0, "the end after {:?}", String::from_utf8_lossy(&reply));
        reply.extend_from_slice(&piece[..count]);
    }
}

#[test]
fn a_request_costs_one_recv_and_one_send_and_a_connection_one_epoll_ctl() {
    // A thousand requests on one connection, each sent when the last is answered. Beyond them, a recv or two finds that
    // there is nothing yet, or that the peer has ended. The descriptors of signals and of the poll are not counted.
    let traced = trace("keep-alive", |program| {
        let mut stream = connect(program.http());
        for _ in 0..1000 {
            stream.write_all(b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            read_reply(&mut stream);
        }
    });
    let Some((calls, descriptor)) = traced else { return };
    let receives = count(&calls, &format!("recvfrom({descriptor},"));
    let sends = count(&calls, &format!("sendto({descriptor},"));
    let watches = calls.iter().filter(|call| call.contains(" epoll_ctl(")).count();
    assert!((1000..=1003).contains(&receives), "{receives} recv for 1,000 requests");
    assert_eq!(sends, 1000, "one send per request");
    assert!(watches <= 1, "{watches} epoll_ctl for one connection");
}

#[test]
fn a_short_exchange_that_has_already_arrived_costs_no_epoll_ctl() {
    // The program is held until the request is there. It asks for the end, so that nothing has to be waited for.
    let traced = trace("short", |program| {
        let mut stream = program.while_held(|| {
            let mut stream = connect(program.http());
            stream.write_all(b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            stream
        });
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        assert!(reply.ends_with(REPLY_END), "{:?}", String::from_utf8_lossy(&reply));
    });
    let Some((calls, descriptor)) = traced else { return };
    assert_eq!(count(&calls, &format!("sendto({descriptor},")), 1, "{calls:#?}");
    assert_eq!(count(&calls, &format!("close({descriptor})")), 1, "{calls:#?}");
    assert_eq!(count(&calls, "epoll_ctl("), 0, "{calls:#?}");
}
