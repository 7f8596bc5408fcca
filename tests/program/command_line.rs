//! The command line: what it accepts, what it rejects, and with which exit status.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};

use mio_reactor::ACCESS_LOG;

use super::run;
use crate::common::{Program, connect};

/// Checks that the program rejects `arguments` with one line, which has these words.
#[track_caller]
fn check_rejected(arguments: &[&str], words: &[&str]) {
    let ending = run(arguments);
    assert_eq!(ending.status.code(), Some(2), "{arguments:?}: {:?}", ending.stderr);
    assert!(ending.stdout.is_empty(), "{arguments:?}: {:?}", ending.stdout);
    let [line] = &ending.stderr[..] else { panic!("{arguments:?}: {:?}", ending.stderr) };
    assert!(line.starts_with("reactor: ") && line.ends_with(" (try --help)"), "{line}");
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

#[test]
fn help_has_default_addresses_message_boundaries_and_the_log_target() {
    // Line breaks do not matter.
    for command in [&["--help"][..], &["serve", "--help"], &["help", "serve"]] {
        let ending = run(command);
        assert_eq!(ending.status.code(), Some(0));
        assert!(ending.stderr.is_empty(), "{:?}", ending.stderr);
        let help = ending.stdout.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        for text in ["message boundaries", ACCESS_LOG, "REACTOR_IDLE_TIMEOUT", "*:8080"] {
            assert!(help.contains(text), "{text} is not in: {help}");
        }
        if command == ["--help"] {
            assert!(help.contains("127.0.0.1:2000 and HTTP on 127.0.0.1:8080"), "{help}");
        }
    }
}

#[test]
fn version_has_the_name_of_the_program() {
    let ending = run(&["--version"]);
    assert_eq!(ending.status.code(), Some(0));
    assert_eq!(ending.stdout, [format!("reactor {}", env!("CARGO_PKG_VERSION"))]);
}

#[test]
fn short_help_has_one_screen() {
    // A wide terminal is not assumed, and 60 lines fit on many.
    let ending = run(&["-h"]);
    assert_eq!(ending.status.code(), Some(0));
    assert!(ending.stdout.len() <= 60, "{} lines", ending.stdout.len());
    assert!(!ending.stdout.iter().any(|line| line.contains("REACTOR_")));
}

// pitfall: 129
#[test]
fn invalid_serve_arguments_exit_2_with_one_line() {
    check_rejected(&["--tcp"], &["'--tcp <ADDR>'"]);
    check_rejected(&["--idle-timeout", "--tcp", "0"], &["a value is required", "--idle-timeout"]);
    check_rejected(&["--tcp", "127.0.0.1"], &["the port is missing"]);
    check_rejected(&["--udp", "somewhere"], &["the port is missing"]);
    check_rejected(&["--http", "127.0.0.1:65536"], &["from 0 to 65535"]);
    check_rejected(&["--tcp", "127.0.0.1:0", "--root", "."], &["--http"]);
    check_rejected(&["--udp", "127.0.0.1:0", "--builtin-pages"], &["--http"]);
    check_rejected(&["--http", "127.0.0.1:0", "--prefix", "a"], &["--tcp", "--udp"]);
    check_rejected(&["--tcp", "127.0.0.1:0", "--answer-all-ports"], &["--udp"]);
    check_rejected(&["--log", "info", "--log", "info"], &["multiple times"]);
    check_rejected(&["--tcp", "127.0.0.1:0", "send", "tcp://127.0.0.1:9"], &["'send'"]);
}

#[test]
fn wrong_value_is_rejected_with_what_is_allowed() {
    for option in [
        "--first-byte-timeout",
        "--idle-timeout",
        "--write-timeout",
        "--head-timeout",
        "--body-timeout",
        "--linger-timeout",
        "--drain-timeout",
    ] {
        check_rejected(&[option, "60"], &[option, "60 has no unit: 60s or 60ms?"]);
        check_rejected(&[option, "0s"], &[option, "from 1ms to 8760h"]);
        check_rejected(&[option, "9000h"], &[option, "from 1ms to 8760h"]);
        check_rejected(&[option, "99999999999999999999s"], &["from 1ms to 8760h"]);
        check_rejected(&[option, "-1s"], &[option, "from 1ms to 8760h"]);
        check_rejected(&[option, "soon"], &[option, "the unit ms, s, m or h", "60s"]);
    }
    check_rejected(&["--udp-buffer", "0"], &["from 1 to 2147483647 bytes"]);
    check_rejected(&["--udp-buffer", "2G"], &["from 1 to 2147483647 bytes"]);
    check_rejected(&["--udp-buffer", "4X"], &["K, M or G"]);
    check_rejected(&["--max-connections", "0"], &["from 1 to 4294967295"]);
    check_rejected(&["--max-connections", "many"], &["from 1 to 4294967295"]);
    check_rejected(&["--max-connections", "-1"], &["from 1 to 4294967295"]);
    check_rejected(&["--prefix", &"x".repeat(1025)], &["a prefix has at most 1024 bytes"]);
    check_rejected(&["--log", "loud"], &["off, error, warn, info, debug, trace"]);
    check_rejected(&["--tcp", "::1:80"], &["[::1]:8080"]);
    check_rejected(&["--tcp", "host/80"], &["PORT, HOST:PORT, [IPV6]:PORT, *:PORT", "unix:PATH"]);
    check_rejected(&["blast", "udp://9", "--window", "0"], &["from 1 to 65536"]);
    check_rejected(&["blast", "udp://9", "--window", "-1"], &["from 1 to 65536"]);
    for size in ["0", "-0", "2G", "99999999999999999999"] {
        let words = if size == "-0" { "K, M or G" } else { "16 to 65507 bytes for udp://" };
        check_rejected(&["blast", "udp://9", "--size", size], &[words]);
    }
    check_rejected(&["blast", "udp://9", "--batch", "all"], &["plain, mmsg, gso"]);
}

#[test]
fn near_flag_command_or_value_is_suggested() {
    check_rejected(&["--idel-timeout", "60s"], &["'--idel-timeout'", "similar: '--idle-timeout'"]);
    check_rejected(&["serve", "--acess-log"], &["similar: '--access-log'"]);
    check_rejected(&["send", "tcp://9", "--timeot", "1s"], &["similar: '--timeout'"]);
    check_rejected(&["blast", "udp://9", "--duraton=1s"], &["similar: '--duration'"]);
    check_rejected(&["sevre"], &["similar: 'serve'"]);
    check_rejected(&["--log", "warm"], &["similar: 'warn'"]);
    // The names of options in milliseconds, as they were once.
    check_rejected(&["--idle-ms", "1"], &["similar: '--idle-timeout'"]);
    check_rejected(&["--drain-ms", "1"], &["similar: '--drain-timeout'"]);
    check_rejected(&["--frob"], &["unexpected argument '--frob' (try"]);
}

#[test]
fn timeouts_and_sizes_with_units_are_accepted() {
    // The address ends the program: by then, all options have been read.
    let ending = run(&[
        "--idle-timeout=1h30m",
        "--head-timeout=1500ms",
        "--drain-timeout=0.5s",
        "--udp-buffer=64K",
        "--max-connections=10",
        "--tcp=192.0.2.1:0",
    ]);
    assert_eq!(ending.status.code(), Some(1), "{:?}", ending.stderr);
    let program = Program::start(&["--udp", "0", "--first-byte-timeout", "1m", "--access-log"]);
    assert_eq!(program.stop().status.code(), Some(0));
}

#[test]
fn port_in_use_exits_1_naming_service_address_and_reason() {
    // The test itself has bound the ports. If one address cannot be served, no address is printed.
    let (stream, datagram) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (stream, datagram) =
        (stream.local_addr().unwrap().to_string(), datagram.local_addr().unwrap().to_string());
    for (flag, service, address) in [("--tcp", "tcp echo", stream), ("--udp", "udp echo", datagram)]
    {
        let ending = run(&["--http", "127.0.0.1:0", flag, &address]);
        assert_eq!(ending.status.code(), Some(1));
        assert!(ending.stdout.is_empty(), "{:?}", ending.stdout);
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        assert!(
            line.contains(&format!("{service} {address}: ")) && line.contains("in use"),
            "{line}"
        );
    }
}

#[test]
fn serve_command_serves_like_no_command() {
    let program = Program::start(&["serve", "--tcp", "127.0.0.1:0", "--prefix", "echo -> "]);
    let mut stream = connect(program.tcp());
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "echo -> hello");
    assert_eq!(program.stop().status.code(), Some(0));
}

#[test]
fn only_named_addresses_are_served_and_port_0_becomes_real() {
    // The program prints one line for each socket that it opens. After its end no further line can
    // follow.
    for (flag, service) in [("--tcp", "tcp echo"), ("--udp", "udp echo"), ("--http", "http")] {
        let program = Program::start(&[flag, "127.0.0.1:0"]);
        let [address] = program.addresses(service)[..] else { panic!("one address") };
        assert_ne!(address.port(), 0);
        assert_eq!(program.stop().stdout, [format!("{service} {address}")]);
    }
}
