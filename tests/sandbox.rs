//! A sandbox that refuses system calls: the program does without them, or says which one it needs.
//!
//! strace stands in for the sandbox: the kernel does not see the call, and the program gets the
//! error, as with a filter of seccomp(2). Without strace, or without the permission to trace, each
//! test prints that it is skipped, and passes.
//!
//! Over poll(2), mio and we make other calls than these: there is nothing to refuse.

#![cfg(all(target_os = "linux", not(mio_unsupported_force_poll_poll)))]
// The helpers here unwrap as the tests do, and a test that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;

use common::{Program, check_echo, connect, connect_udp, reactor_through, retry_interrupted};

/// What a sandbox answers: the call is unknown, or it is not permitted.
const ERRORS: [&str; 2] = ["ENOSYS", "EPERM"];

fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    let can_trace = traced.is_ok_and(|run| run.status.success());
    if !can_trace {
        println!("skipped: strace is not installed or may not trace");
    }
    can_trace
}

/// Starts the program in a sandbox that answers each of `calls` with `error`.
fn start_without(calls: &str, error: &str, arguments: &[&str]) -> Program {
    // With -D, strace runs as a grandchild. The child, which the test signals and waits for, is the
    // program.
    let fault = format!("inject={calls}:error={error}");
    let mut strace = reactor_through(&["strace", "-D", "-qq", "-o", "/dev/null", "-e", &fault]);
    Program::spawn(strace.args(arguments))
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

/// Uses every service of `program`, which serves `file` from its root.
fn check_services(program: &Program, file: &str) {
    check_echo(&mut connect(program.tcp()), b"hello");
    // More datagrams than one, so that a batch is received where there are batches. The socket is
    // bound to all addresses, and must answer from the one that is asked.
    let asked = SocketAddr::from(([127, 1, 2, 3], program.udp().port()));
    let socket = connect_udp(asked);
    for round in 0..3 {
        let datagrams = [b"one", b"two", b"six"];
        program.while_suspended(|| {
            datagrams.iter().for_each(|datagram| assert_eq!(socket.send(*datagram).unwrap(), 3));
        });
        for datagram in datagrams {
            let mut reply = [0; 16];
            let length = retry_interrupted(|| socket.recv(&mut reply)).unwrap();
            assert_eq!(&reply[..length], datagram, "round {round}");
        }
    }
    assert!(get(program.http(), "/plaintext").ends_with("\r\n\r\nHello, World!"));
    assert!(get(program.http(), "/file.txt").ends_with(file));
}

// pitfall: 114
#[test]
fn each_call_that_has_a_substitute_may_be_refused() {
    if !can_trace() {
        return;
    }
    let root = format!("{}/sandbox", env!("CARGO_TARGET_TMPDIR"));
    let file = "content of the file";
    fs::create_dir_all(&root).unwrap();
    fs::write(format!("{root}/file.txt"), file).unwrap();
    let arguments = [
        ["--tcp", "127.0.0.1:0"],
        ["--udp", "0.0.0.0:0"],
        ["--http", "127.0.0.1:0"],
        ["--root", &root],
        ["--builtin-pages", "--log=info"],
    ]
    .concat();
    // Each with its log line, if the substitute is worse.
    let each = [
        ("recvmmsg", "udp: recvmmsg refused ("),
        ("sendmmsg", "udp: sendmmsg refused ("),
        ("recvmmsg,sendmmsg", "udp: recvmmsg refused ("),
        ("accept4", "accept4 refused: from now on, accept is used"),
        ("prlimit64", "files: getrlimit refused ("),
        ("openat2", ""),
        ("preadv2", ""),
        ("fadvise64", ""),
        ("statx", ""),
        ("getrandom", ""),
        ("ppoll", ""),
        ("recvmmsg,sendmmsg,accept4,openat2,preadv2,statx,ppoll", "udp: recvmmsg refused ("),
    ];
    for (calls, line) in each {
        for error in ERRORS {
            let mut program = start_without(calls, error, &arguments);
            program.read_addresses(&arguments);
            check_services(&program, file);
            let ending = program.stop();
            let log = ending.stderr.join("\n");
            assert_eq!(ending.status.code(), Some(0), "{calls} {error}: {log}");
            let lines = ending.stderr.iter().filter(|found| found.contains(line)).count();
            // Both sockets that accept may say so.
            let expected = if line.contains("accept4") { 1..=2 } else { 1..=1 };
            assert!(line.is_empty() || expected.contains(&lines), "{calls} {error}: {log}");
        }
    }
}

// pitfall: 114
#[test]
fn needed_call_that_is_refused_is_named_and_ends_the_program() {
    if !can_trace() {
        return;
    }
    // Two names where it depends on the processor which one is used.
    for (calls, name) in [
        ("epoll_create1", "epoll_create1"),
        ("epoll_ctl", "epoll_ctl"),
        ("?epoll_wait,?epoll_pwait", "epoll_wait"),
    ] {
        for error in ERRORS {
            let ending = start_without(calls, error, &["--udp", "127.0.0.1:0"]).wait();
            let log = ending.stderr.join("\n");
            assert_eq!(ending.status.code(), Some(1), "{calls} {error}: {log}");
            assert!(log.contains("reactor: ") && log.contains(name), "{calls} {error}: {log}");
        }
    }
}

// pitfall: 114
#[test]
fn refused_receive_without_a_substitute_is_logged_once_and_retried_seldom() {
    if !can_trace() {
        return;
    }
    let arguments = ["--udp", "127.0.0.1:0", "--log", "debug"];
    for error in ["ENOSYS", "EACCES"] {
        let mut program = start_without("recvmmsg,recvmsg", error, &arguments);
        program.read_addresses(&arguments);
        let socket = connect_udp(program.udp());
        for _ in 0..2 {
            socket.send(b"hello").unwrap();
        }
        program.wait_for_log("recvmmsg refused");
        socket.send(b"hello").unwrap();
        program.wait_for_log("recvmsg refused");
        socket.send(b"hello").unwrap();
        let log = program.stop().stderr;
        let lines_with = |text: &str| log.iter().filter(|line| line.contains(text)).count();
        assert_eq!(lines_with("refused"), 2, "{error}: {log:?}");
        assert!(lines_with(": receive: ") < 100, "{error}: it does not spin");
    }
}

// pitfall: 114
#[test]
fn refused_send_without_a_substitute_is_logged_once() {
    if !can_trace() {
        return;
    }
    let arguments = ["--udp", "127.0.0.1:0"];
    for error in ERRORS {
        let mut program = start_without("sendmmsg,sendmsg", error, &arguments);
        program.read_addresses(&arguments);
        let socket = connect_udp(program.udp());
        socket.send(b"hello").unwrap();
        program.wait_for_log("sendmsg refused");
        socket.send(b"hello").unwrap();
        let log = program.stop().stderr; // after the second is answered
        assert_eq!(log.iter().filter(|line| line.contains("refused")).count(), 2, "{log:?}");
    }
}

// pitfall: 114
#[test]
fn reply_that_a_firewall_forbids_does_not_end_the_batches() {
    // A firewall makes a send fail with EPERM, as a sandbox does. Only the second time fails.
    if !can_trace() {
        return;
    }
    let arguments = ["--udp", "127.0.0.1:0", "--log", "debug"];
    let mut program = start_without("sendmmsg", "EPERM:when=2", &arguments);
    program.read_addresses(&arguments);
    let socket = connect_udp(program.udp());
    for (datagram, is_answered) in [(b"one", true), (b"two", false), (b"six", true)] {
        socket.send(datagram).unwrap();
        if is_answered {
            let mut reply = [0; 16];
            let length = retry_interrupted(|| socket.recv(&mut reply)).unwrap();
            assert_eq!(&reply[..length], datagram);
        } else {
            program.wait_for_log("send: Operation not permitted");
        }
    }
    let log = program.stop().stderr;
    assert!(log.iter().all(|line| !line.contains("refused")), "{log:?}");
}
