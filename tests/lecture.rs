//! The lecture's clients, unchanged, against the program in place of the lecture's servers.

mod common;

use std::net::SocketAddr;
use std::process::Command;

use common::Program;

const ARGUMENTS: [&str; 6] =
    ["--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--prefix", "echo -> "];

/// Runs `script` of docs/lecture against `address`, and checks that it prints what it prints in the
/// lecture.
#[track_caller]
fn check_client(script: &str, address: SocketAddr) {
    let has_python = Command::new("python3")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    assert!(has_python, "python3 is not installed or does not run");
    let mut command = Command::new("python3");
    command.arg(format!("{}/docs/lecture/{script}", env!("CARGO_MANIFEST_DIR")));
    command.args([address.ip().to_string(), address.port().to_string()]);
    let ending = Program::spawn(&mut command).wait();
    assert_eq!(ending.status.code(), Some(0), "{script}: {:?}", ending.stderr);
    assert_eq!(ending.stdout, ["echo -> Hello world"], "{script}");
}

#[test]
fn lecture_tcp_client_gets_the_lectures_reply() {
    let program = Program::start(&ARGUMENTS);
    check_client("tcp_echo_client.py", program.tcp());
}

#[test]
fn lecture_udp_client_gets_the_lectures_reply() {
    let program = Program::start(&ARGUMENTS);
    check_client("udp_echo_client.py", program.udp());
}
