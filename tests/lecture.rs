//! The lecture's programs: its clients against this program, and how each of them fails.

mod common;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::thread;

use common::{Ending, Program, TIMEOUT, any_port, stay_where_refusals_arrive};

const ARGUMENTS: [&str; 6] =
    ["--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--prefix", "echo -> "];

/// Starts `script` of docs/lecture.
fn start(script: &str, arguments: &[&str]) -> Program {
    let has_python = Command::new("python3")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    assert!(has_python, "python3 is not installed or does not run");
    let mut command = Command::new("python3");
    command.arg(format!("{}/docs/lecture/{script}", env!("CARGO_MANIFEST_DIR")));
    Program::spawn(command.args(arguments))
}

fn run_client(script: &str, address: SocketAddr) -> Ending {
    start(script, &[&address.ip().to_string(), &address.port().to_string()]).wait()
}

/// Runs `script` against `address`, and checks that it prints what it prints in the lecture.
#[track_caller]
fn check_client(script: &str, address: SocketAddr) {
    let ending = run_client(script, address);
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

/// Checks that a script has ended with status 1 and one sentence that has `words`.
#[track_caller]
fn check_sentence(ending: &Ending, words: &str) {
    let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
    assert!(line.contains(words), "{words:?} is missing: {line}");
    assert_eq!((ending.status.code(), &ending.stdout[..]), (Some(1), &[][..]), "{line}");
}

// pitfall: 164
#[test]
fn lecture_client_without_a_reply_ends_in_a_sentence() {
    // Each server listens and does nothing.
    let tcp = TcpListener::bind(any_port()).unwrap();
    let udp = UdpSocket::bind(any_port()).unwrap();
    for (script, address) in [
        ("tcp_echo_client.py", tcp.local_addr().unwrap()),
        ("udp_echo_client.py", udp.local_addr().unwrap()),
    ] {
        check_sentence(&run_client(script, address), "5 seconds");
    }
}

// pitfall: 164
#[test]
fn lecture_client_names_what_is_wrong_with_its_server() {
    if !stay_where_refusals_arrive() {
        return;
    }
    let free = |is_tcp: bool| match is_tcp {
        true => TcpListener::bind(any_port()).unwrap().local_addr().unwrap(),
        false => UdpSocket::bind(any_port()).unwrap().local_addr().unwrap(),
    };
    for (script, is_tcp) in [("tcp_echo_client.py", true), ("udp_echo_client.py", false)] {
        check_sentence(&run_client(script, free(is_tcp)), "refused");
        for (host, port) in [("nowhere.invalid", "9"), ("127.0.0.1", "70000"), ("127.0.0.1", "x")] {
            check_sentence(&start(script, &[host, port]).wait(), &format!("{host}:{port}"));
        }
    }
    // A server that closes or resets the connection without a reply.
    for (close, words) in [(drop as fn(_), "without a reply"), (common::reset, "reset")] {
        let listener = TcpListener::bind(any_port()).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
            close(stream);
        });
        check_sentence(&run_client("tcp_echo_client.py", address), words);
        server.join().unwrap();
    }
}

// pitfall: 164
#[test]
fn lecture_server_whose_port_is_in_use_ends_in_a_sentence() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let udp = UdpSocket::bind(any_port()).unwrap();
    let udp_port = udp.local_addr().unwrap().port();
    for (script, port) in [
        ("tcp_echo_server.py", listener.local_addr().unwrap().port()),
        ("web_server.py", listener.local_addr().unwrap().port()),
        ("udp_echo_server.py", udp_port),
    ] {
        check_sentence(&start(script, &[&port.to_string()]).wait(), "in use");
        check_sentence(&start(script, &["70000"]).wait(), "70000");
        check_sentence(&start(script, &["x"]).wait(), "x");
    }
}

// pitfall: 164
#[cfg(unix)]
#[test]
fn ctrl_c_ends_lecture_server_without_traceback() {
    use std::io::{Read, Write};
    use std::os::unix::process::ExitStatusExt;

    // The kernel has chosen a port that is free now. Once the server answers there, it listens.
    let address = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let program = start("tcp_echo_server.py", &[&address.port().to_string()]);
    let deadline = std::time::Instant::now() + TIMEOUT;
    let mut stream = loop {
        match std::net::TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(_) => assert!(std::time::Instant::now() < deadline, "{}", program.log()),
        }
    };
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut reply = [0; 13];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"echo -> hello");
    program.signal("INT");
    let ending = program.wait();
    assert_eq!((ending.status.signal(), ending.stderr.len()), (Some(2), 0), "{:?}", ending.stderr);
}
