//! How a load ends: signals, missing servers, missing resources, and the exit status of each.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::mpsc;

use super::{UdpServer, blast};
use crate::common::{
    Program, TIMEOUT, any_port, ignores, reactor, reactor_in_shell, reactor_through,
    stay_where_refusals_arrive,
};

#[test]
fn signal_ends_the_load_with_the_table_so_far() {
    // The load would run for an hour. The signal is sent when the server has received a hundred
    // messages.
    for signal in ["INT", "TERM"].into_iter().filter(|signal| !ignores(signal)) {
        let (sender, received) = mpsc::channel();
        let server = UdpServer::start(move |number, datagram| {
            if number == 100 {
                sender.send(()).unwrap();
            }
            vec![datagram]
        });
        let program = Program::spawn(reactor().args(["blast", &server.url(), "--duration", "1h"]));
        received.recv_timeout(TIMEOUT).unwrap();
        program.signal(signal);
        let ending = program.wait();
        assert_eq!((ending.status.code(), &ending.stderr[..]), (Some(0), &[][..]), "{signal}");
        assert!(ending.stdout.iter().any(|line| line.contains("p99.99")), "{:?}", ending.stdout);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn ignored_interrupt_stays_ignored_and_term_ends_the_load() {
    // As in a script that runs the load in the background: Ctrl-C is not meant for it.
    let (sender, received) = mpsc::channel();
    let server = UdpServer::start(move |number, datagram| {
        if number == 100 {
            sender.send(()).unwrap();
        }
        vec![datagram]
    });
    let mut command = reactor_in_shell("trap '' INT; exec \"$@\"");
    let program = Program::spawn(command.args(["blast", &server.url(), "--duration", "1h"]));
    received.recv_timeout(TIMEOUT).unwrap();
    // Were both handled, the second would end the process at once. Of signals that wait, the one
    // with the lower number comes first.
    program.while_suspended(|| ["INT", "TERM"].map(|signal| program.signal(signal)));
    let ending = program.wait();
    assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stderr);
    assert!(ending.stdout.iter().any(|line| line.contains("p99.99")), "{:?}", ending.stdout);
}

#[cfg(target_os = "linux")]
#[test]
fn load_generator_never_sleeps_in_epoll_wait() {
    // One message has no reply, so replies are awaited at the end. strace shows the timeout of each
    // epoll_wait(2).
    if cfg!(mio_unsupported_force_poll_poll) {
        return println!("skipped: there is no epoll_wait");
    }
    if !Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .output()
        .is_ok_and(|run| run.status.success())
    {
        println!("skipped: strace is not installed or may not trace");
        return;
    }
    let server =
        UdpServer::start(|number, datagram| if number == 0 { vec![] } else { vec![datagram] });
    let file = format!("{}/blast.strace", env!("CARGO_TARGET_TMPDIR"));
    let trace = "trace=?epoll_wait,?epoll_pwait";
    let mut strace = reactor_through(&["strace", "-D", "-o", &file, "-e", trace]);
    let ending =
        Program::spawn(strace.args(["blast", &server.url(), "--duration", "100ms"])).wait();
    assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stderr);
    let calls = std::fs::read_to_string(file).unwrap();
    // epoll_wait(3, [...], 1024, 0) = 1: the timeout follows the number of events.
    let may_wait =
        |call: &&str| call.rsplit_once("], ").is_some_and(|(_, rest)| !rest.contains(", 0"));
    assert_eq!(calls.lines().find(may_wait), None);
    assert!(calls.contains("], "), "{calls}");
}

#[test]
fn load_without_any_reply_exits_1_with_the_reason() {
    if !stay_where_refusals_arrive() {
        return;
    }
    // The port is not bound, or it is bound and never replies.
    let silent = UdpSocket::bind(any_port()).unwrap();
    let free = UdpSocket::bind(any_port()).unwrap().local_addr().unwrap();
    let closed = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let silent = silent.local_addr().map(|address| (address, silent)).unwrap();
    let cases = [
        (format!("udp://{free}"), "connection refused"),
        (format!("tcp://{closed}"), "connection refused"),
        (format!("udp://{}", silent.0), "no reply"),
    ];
    for (url, why) in cases {
        let ending = blast(&url, &["--duration", "200ms"]);
        let [line] = &ending.stderr[..] else { panic!("{url}: one line: {:?}", ending.stderr) };
        assert!(line.starts_with(&format!("reactor: {url}: ")) && line.contains(why), "{line}");
        assert_eq!((ending.status.code(), &ending.stdout[..]), (Some(1), &[][..]), "{url}");
    }
}

#[cfg(unix)]
#[test]
fn too_few_descriptors_exit_1_before_any_load() {
    // The shell limits the client to twenty open files, some of which are open already. The server
    // would accept all connections.
    let program = Program::start(&["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]);
    let (udp, tcp) = (format!("udp://{}", program.udp()), format!("tcp://{}", program.tcp()));
    let cases: [(&str, &[&str]); 3] = [
        (&udp, &["--sockets", "100"]),
        (&tcp, &["--connections", "100"]),
        (&tcp, &["--connections", "100", "--rate", "1000"]),
    ];
    for (url, arguments) in cases {
        let mut shell = reactor_in_shell("ulimit -n 20; exec \"$@\"");
        let ending = Program::spawn(shell.args(["blast", url]).args(arguments)).wait();
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
fn unwritable_report_exits_1_with_the_reason() {
    // The device is full. (A pipe that its reader has closed is no failure.)
    let program = Program::start(&["--udp", "127.0.0.1:0"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let url = format!("udp://{}", program.udp());
    let ending =
        reactor().args(["blast", &url, "--duration", "50ms"]).stdout(full).output().unwrap();
    let line = String::from_utf8(ending.stderr).unwrap();
    assert_eq!(ending.status.code(), Some(1), "{line}");
    assert!(line.starts_with("reactor: standard output: "), "{line}");
}

#[test]
fn server_may_be_a_port_a_name_or_an_ipv6_address_in_brackets() {
    let program = Program::start(&["--udp", "0", "--tcp", "0"]);
    let (udp, tcp) = (program.udp().port(), program.tcp().port());
    for url in [
        format!("udp://{udp}"),
        format!("tcp://:{tcp}/"),
        format!("udp://localhost:{udp}"),
        format!("tcp://localhost:{tcp}"),
    ] {
        let ending = blast(&url, &["--duration", "50ms"]);
        assert_eq!(ending.status.code(), Some(0), "{url}: {:?}", ending.stderr);
    }
    drop(program);
    if TcpListener::bind("[::1]:0").is_ok() {
        let program = Program::start(&["--udp", "[::1]:0"]);
        let ending = blast(&format!("udp://{}", program.udp()), &["--duration", "50ms"]);
        assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stderr);
    }
}

#[test]
fn unknown_server_exits_1_and_is_named() {
    for url in ["tcp://nowhere.invalid:9", "udp://[fe80::1%nowhere]:9"] {
        let ending = blast(url, &[]);
        assert_eq!(ending.status.code(), Some(1), "{url}: {:?}", ending.stderr);
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        assert!(line.starts_with(&format!("reactor: {url}: ")), "{line}");
    }
}

#[test]
fn quantities_may_have_units() {
    let program = Program::start(&["--udp", "0"]);
    let url = format!("udp://{}", program.udp());
    let arguments = ["--rate", "1.5k", "--size", "1K", "--duration", "0.05s", "--json"];
    let ending = blast(&url, &arguments);
    assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stderr);
    let figures: serde_json::Value = serde_json::from_str(&ending.stdout[0]).unwrap();
    assert_eq!(figures["size_bytes"].as_u64(), Some(1024), "{figures}");
    assert_eq!(figures["rate"].as_u64(), Some(1500), "{figures}");
}

// pitfall: 166
#[test]
fn invalid_blast_arguments_exit_2_with_one_line() {
    let invalid: [(&str, &[&str]); 38] = [
        ("127.0.0.1:2000", &[]),
        ("https://127.0.0.1:2000", &[]),
        ("http://127.0.0.1:0/", &[]),
        ("http://127.0.0.1:9/a b", &[]),
        ("http://127.0.0.1:9/", &["--window", "2"]),
        ("http://127.0.0.1:9/", &["--size", "64"]),
        ("http://127.0.0.1:9/", &["--prefix", "a"]),
        ("http://127.0.0.1:9/", &["--pipeline", "65536"]),
        ("http://127.0.0.1:9/", &["--requests-per-connection", "0"]),
        ("http://127.0.0.1:9/", &["--header", "A: b\r\nC: d"]),
        ("http://127.0.0.1:9/", &["--header", "Connection: close"]),
        ("tcp://127.0.0.1:9", &["--pipeline", "2"]),
        ("tcp://127.0.0.1:9", &["--any-body"]),
        ("udp://*:2000", &[]),
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
        ("udp://127.0.0.1:9", &["--duration", "10"]),
        ("udp://127.0.0.1:9", &["--duration", "999us"]),
        ("udp://127.0.0.1:9", &["--rate", "2G"]),
        ("tcp://127.0.0.1:9", &["--sockets", "2"]),
        ("tcp://127.0.0.1:9", &["--prefix", "echo -> "]),
        ("tcp://127.0.0.1:9", &["--window", "1000", "--size", "1000"]),
        ("udp://127.0.0.1:9", &["--histogram", "-"]),
        ("udp://127.0.0.1:9", &["--histogram", ""]),
        ("unix:@echo", &[]),
    ];
    for (url, arguments) in invalid {
        let ending = blast(url, arguments);
        assert_eq!(ending.status.code(), Some(2), "{url} {arguments:?}: {:?}", ending.stderr);
        assert_eq!(ending.stderr.len(), 1, "{url} {arguments:?}: {:?}", ending.stderr);
        assert!(ending.stderr[0].starts_with("reactor: "), "{:?}", ending.stderr);
        assert!(ending.stdout.is_empty(), "{:?}", ending.stdout);
    }
}
