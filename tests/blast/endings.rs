//! How it ends.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::mpsc;

use super::{Server, blast};
use crate::common::{PATIENCE, Program, any_port, reactor};

#[test]
fn a_signal_ends_it_with_the_table_so_far() {
    // It would go on for an hour; it is asked to end when the server has heard something of it.
    for signal in ["INT", "TERM"] {
        let (told, heard) = mpsc::channel();
        let server = Server::new(move |number, datagram| {
            if number == 100 {
                told.send(()).unwrap();
            }
            vec![datagram]
        });
        let program =
            Program::spawn(reactor().args(["blast", &server.url(), "--duration", "3600"]));
        heard.recv_timeout(PATIENCE).unwrap();
        program.signal(signal);
        let ending = program.wait();
        assert_eq!((ending.status.code(), &ending.stderr[..]), (Some(0), &[][..]), "{signal}");
        assert!(ending.stdout.iter().any(|line| line.contains("p99.99")), "{:?}", ending.stdout);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn no_reply_is_waited_for_in_the_kernel_not_even_the_last() {
    // One message has no reply, so that it is waited for at the end. strace tells of each call that may wait, and how long.
    if !Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .output()
        .is_ok_and(|run| run.status.success())
    {
        println!("strace is not installed or may not trace: no call was looked at");
        return;
    }
    let server = Server::new(|number, datagram| if number == 0 { vec![] } else { vec![datagram] });
    let file = format!("{}/blast.strace", env!("CARGO_TARGET_TMPDIR"));
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-o", &file, "-e", "trace=?epoll_wait,?epoll_pwait"])
        .arg(reactor().get_program());
    let ending = Program::spawn(
        strace.args(["blast", &server.url(), "--duration", "0.1"]).env_remove("RUST_LOG"),
    )
    .wait();
    assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stderr);
    let calls = std::fs::read_to_string(file).unwrap();
    // epoll_wait(3, [...], 1024, 0) = 1: the time follows the room for events.
    let may_wait =
        |call: &&str| call.rsplit_once("], ").is_some_and(|(_, rest)| !rest.contains(", 0"));
    assert_eq!(calls.lines().find(may_wait), None);
    assert!(calls.contains("], "), "{calls}");
}

#[test]
fn where_nobody_answers_it_says_so_and_fails() {
    // Nobody has the port; or somebody has it and never says a word.
    let silent = UdpSocket::bind(any_port()).unwrap();
    let free = UdpSocket::bind(any_port()).unwrap().local_addr().unwrap();
    let closed = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let silent = silent.local_addr().map(|address| (address, silent)).unwrap();
    let cases = [
        (format!("udp://{free}"), "connection refused"),
        (format!("tcp://{closed}"), "connection refused"),
        (format!("udp://{}", silent.0), "nobody answers"),
    ];
    for (url, why) in cases {
        let ending = blast(&url, &["--duration", "0.2"]);
        let [line] = &ending.stderr[..] else { panic!("{url}: one line: {:?}", ending.stderr) };
        assert!(line.starts_with(&format!("reactor: {url}: ")) && line.contains(why), "{line}");
        assert_eq!((ending.status.code(), &ending.stdout[..]), (Some(1), &[][..]), "{url}");
    }
}

#[cfg(unix)]
#[test]
fn who_may_not_open_what_the_load_needs_says_so_before_it_is_offered() {
    // The shell lets it have twenty files, some of which it has already. The server would let all of them in.
    let program = Program::start(&["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]);
    let (udp, tcp) = (format!("udp://{}", program.udp()), format!("tcp://{}", program.tcp()));
    let cases: [(&str, &[&str]); 3] = [
        (&udp, &["--sockets", "100"]),
        (&tcp, &["--connections", "100"]),
        (&tcp, &["--connections", "100", "--rate", "1000"]),
    ];
    for (url, arguments) in cases {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 20; exec \"$@\"", "sh"]).arg(reactor().get_program());
        let ending =
            Program::spawn(shell.args(["blast", url]).args(arguments).env_remove("RUST_LOG"))
                .wait();
        let [line] = &ending.stderr[..] else {
            panic!("{url}: one line: {:?}, {:?}", ending.stderr, ending.stdout)
        };
        assert!(
            line.starts_with(&format!("reactor: {url}: ")) && line.contains("Too many open files"),
            "{line}"
        );
        assert_eq!(line.contains(" of 100 connections "), url == tcp, "{line}");
        assert_eq!((ending.status.code(), &ending.stdout[..]), (Some(1), &[][..]), "{url}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_that_cannot_be_written_is_told_and_a_failure() {
    // The device is full; who has closed the other end of a pipe does not want to know.
    let program = Program::start(&["--udp", "127.0.0.1:0"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let url = format!("udp://{}", program.udp());
    let ending =
        reactor().args(["blast", &url, "--duration", "0.05"]).stdout(full).output().unwrap();
    let line = String::from_utf8(ending.stderr).unwrap();
    assert_eq!(ending.status.code(), Some(1), "{line}");
    assert!(line.starts_with("reactor: standard output: "), "{line}");
}

#[test]
fn what_makes_no_sense_is_told_in_one_line_with_status_2() {
    let nonsense: [(&str, &[&str]); 22] = [
        ("127.0.0.1:2000", &[]),
        ("http://127.0.0.1:2000", &[]),
        ("udp://somewhere:2000", &[]),
        ("udp://127.0.0.1", &[]),
        ("udp://127.0.0.1:0", &[]),
        ("udp://127.0.0.1:+2000", &[]),
        ("udp://127.0.0.1:2000//", &[]),
        ("tcp://127.0.0.1:2000///", &["--connections", "2"]),
        ("udp://127.0.0.1:9", &["--window", "0"]),
        ("udp://127.0.0.1:9", &["--rate", "0"]),
        ("udp://127.0.0.1:9", &["--rate", "1000", "--window", "1"]),
        ("udp://127.0.0.1:9", &["--size", "15"]),
        ("udp://127.0.0.1:9", &["--size", "65508"]),
        ("udp://127.0.0.1:9", &["--size", "65507", "--prefix", "e"]),
        ("udp://127.0.0.1:9", &["--connections", "2"]),
        ("udp://127.0.0.1:9", &["--batch", "all"]),
        ("udp://127.0.0.1:9", &["--duration", "-1"]),
        ("udp://127.0.0.1:9", &["--duration", "nan"]),
        ("udp://127.0.0.1:9", &["--duration", "0.0009"]),
        ("tcp://127.0.0.1:9", &["--sockets", "2"]),
        ("tcp://127.0.0.1:9", &["--prefix", "echo -> "]),
        ("tcp://127.0.0.1:9", &["--window", "1000", "--size", "1000"]),
    ];
    for (url, arguments) in nonsense {
        let ending = blast(url, arguments);
        assert_eq!(ending.status.code(), Some(2), "{url} {arguments:?}: {:?}", ending.stderr);
        assert_eq!(ending.stderr.len(), 1, "{url} {arguments:?}: {:?}", ending.stderr);
        assert!(ending.stderr[0].starts_with("reactor: "), "{:?}", ending.stderr);
        assert!(ending.stdout.is_empty(), "{:?}", ending.stdout);
    }
}
