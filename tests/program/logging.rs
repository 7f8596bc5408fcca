//! The log, the access log, and a standard output or error that is not read.

use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use crate::common::{Program, TIMEOUT, check_echo, connect, reactor, reactor_in_shell, reset};

#[test]
fn debug_level_logs_one_line_per_connection_with_its_close_reason() {
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--log", "debug"]);
    let (mut closing, mut resetting) = (connect(program.tcp()), connect(program.tcp()));
    let addresses = [closing.local_addr().unwrap(), resetting.local_addr().unwrap()];
    check_echo(&mut closing, b"hello");
    check_echo(&mut resetting, b"hello");
    closing.shutdown(Shutdown::Write).unwrap();
    reset(resetting);
    for (address, reason) in addresses.into_iter().zip(["finished", "reset by peer"]) {
        let line = program.wait_for_log(&address.to_string());
        assert!(line.contains("DEBUG") && line.ends_with(reason), "{line}");
    }
    let ending = program.stop();
    for address in addresses {
        let lines = ending.stderr.iter().filter(|line| line.contains(&address.to_string()));
        assert_eq!(lines.count(), 1, "{:?}", ending.stderr);
    }
}

#[test]
fn echo_port_is_answered_only_with_its_flag_and_debug_says_why() {
    // To bind such a port may take a privilege. Without it the test passes untried. The address is
    // this process's own, since another run of the tests may have bound its port 7.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = SocketAddr::from(([127, 7, high, low], 7));
    let Ok(peer) = UdpSocket::bind(address) else { return };
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    for (flags, is_answered) in [(&["--log", "debug"][..], false), (&["--answer-all-ports"], true)]
    {
        let arguments = [&["--udp", "127.0.0.1:0"], flags].concat();
        let program = Program::start(&arguments);
        peer.send_to(b"hello", program.udp()).unwrap();
        if is_answered {
            assert_eq!(peer.recv(&mut [0; 64]).unwrap(), 5);
        } else {
            let line = program.wait_for_log(&address.to_string());
            assert!(line.contains("DEBUG") && line.contains("this port is not answered"), "{line}");
        }
        assert_eq!(program.stop().status.code(), Some(0));
    }
}

// pitfall: 113
#[test]
#[cfg(target_os = "linux")]
fn two_servers_alike_echo_to_each_other_only_with_the_flag() {
    // The peer sits where another server with the same options would: at another address, with the
    // same port number. On Linux, all of 127.0.0.0/8 is this machine.
    for (flags, is_answered) in [(&["--log", "debug"][..], false), (&["--answer-all-ports"], true)]
    {
        let program = Program::start(&[&["--udp", "127.0.0.1:0"], flags].concat());
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = SocketAddr::from(([127, 8, high, low], program.udp().port()));
        let peer = UdpSocket::bind(address).unwrap();
        peer.set_read_timeout(Some(TIMEOUT)).unwrap();
        peer.send_to(b"hello", program.udp()).unwrap();
        if is_answered {
            assert_eq!(peer.recv(&mut [0; 64]).unwrap(), 5);
        } else {
            let line = program.wait_for_log(&address.to_string());
            assert!(line.contains("this port number is our own"), "{line}");
        }
        assert_eq!(program.stop().status.code(), Some(0));
    }
}

#[test]
fn trace_level_logs_one_line_per_system_call() {
    // The exchange has five bytes each way, and so have the calls.
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--log", "trace"]);
    check_echo(&mut connect(program.tcp()), b"hello");
    let ending = program.stop();
    for call in ["recv(69632) = 5; short read", "send(5) = 5"] {
        let mut lines = ending.stderr.iter().filter(|line| line.ends_with(call));
        let line = lines.next().unwrap_or_else(|| panic!("{call}: {:?}", ending.stderr));
        assert!(line.contains(" TRACE] turn ") && line.contains(" drive  slot 2: "), "{line}");
        assert_eq!(lines.next(), None, "one line");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn broken_pipe_on_standard_output_does_not_stop_the_server() {
    // Standard output is a pipe without a reader, so the port must be known beforehand. The test
    // binds it without listening. The program can still bind it, since both set SO_REUSEADDR. Other
    // processes cannot.
    let reserved = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    reserved.set_reuse_address(true).unwrap();
    reserved.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = reserved.local_addr().unwrap().as_socket().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = reactor();
    command.args(["--tcp", &address.to_string()]).stdout(writer).stderr(Stdio::piped());
    let program = Program::spawn_as_configured(&mut command);
    program.wait_for_log("serving");
    check_echo(&mut connect(address), b"hello");
    assert_eq!(program.stop().status.code(), Some(0));
}

#[test]
fn access_log_has_one_line_per_response_and_no_other_line() {
    // The Common Log Format. Bytes from a peer are escaped: they can neither end the line nor
    // control a terminal.
    let program = Program::start(&["--http", "127.0.0.1:0", "--log", "off", "--access-log"]);
    for request in [
        "GET /plaintext HTTP/1.0\r\n\r\n",
        "HEAD / HTTP/1.0\r\n\r\n",
        "POST /echo HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
        "GET /\x1b\" HTTP/1.0\r\n\r\n",
        "GET /plaintext\r\n",
    ] {
        let mut stream = connect(program.http());
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    let lines = program.stop().stderr;
    let expected = [
        "\"GET /plaintext HTTP/1.0\" 200 13",
        "\"HEAD / HTTP/1.0\" 200 -",
        "\"POST /echo HTTP/1.0\" 200 5",
        "\"GET /\\x1b\\\" HTTP/1.0\" 400 16",
        "\"GET /plaintext\" 200 13",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, expected) in lines.iter().zip(expected) {
        let (before, rest) = line.split_once('[').unwrap();
        let (date, after) = rest.split_once("] ").unwrap();
        assert_eq!((before, after), ("127.0.0.1 - - ", expected));
        let shape: String =
            date.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
        assert!(
            shape.starts_with("00/")
                && shape.ends_with("/0000:00:00:00 +0000")
                && shape.len() == 26,
            "{date}"
        );
    }
}

#[test]
fn access_log_is_off_by_default() {
    let program = Program::start(&["--http", "127.0.0.1:0"]);
    let mut stream = connect(program.http());
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let lines = program.stop().stderr;
    assert!(!lines.iter().any(|line| line.contains("GET")), "{lines:?}");
}

/// Starts the program with its standard error in a pipe that only the test may read.
#[cfg(target_os = "linux")]
fn start_with_unread_log(arguments: &[&str]) -> (Program, PipeReader) {
    let (log, writer) = std::io::pipe().unwrap();
    let mut command = reactor();
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
    let mut program = Program::spawn_as_configured(&mut command);
    drop(command); // and with it the test's own write end
    program.read_addresses(arguments);
    (program, log)
}

/// Sends one request on a connection of its own, and checks the response.
#[cfg(target_os = "linux")]
fn check_http(address: SocketAddr) {
    let mut stream = connect(address);
    stream.write_all(b"GET /plaintext HTTP/1.0\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.ends_with("Hello, World!"), "{response}");
}

// pitfall: 70
#[test]
#[cfg(target_os = "linux")]
fn default_level_logs_nothing_that_many_peers_can_cause() {
    // A thousand peers send an invalid request and a reset. At the default level none of them is
    // logged.
    let (program, mut log) = start_with_unread_log(&["--http", "127.0.0.1:0"]);
    for _ in 0..1000 {
        let mut stream = connect(program.http());
        stream.write_all(b"invalid\r\n\r\n").unwrap();
        reset(stream);
    }
    check_http(program.http());
    assert_eq!(program.stop().status.code(), Some(0));
    let mut lines = String::new();
    log.read_to_string(&mut lines).unwrap();
    assert!(lines.lines().count() < 10, "{lines}");
}

// pitfall: 69
#[test]
#[cfg(target_os = "linux")]
fn unread_log_blocks_neither_service_nor_stop() {
    // Standard error is a pipe that is never read. A line or more for each of two thousand
    // connections is more than it holds (64 KiB), and a blocking write would never return.
    for flags in [
        &["--log", "off", "--access-log"][..],
        &["--log", "debug"],
        &["--log", "trace", "--access-log"],
    ] {
        let (program, _log) = start_with_unread_log(&[&["--http", "127.0.0.1:0"], flags].concat());
        (0..2000).for_each(|_| check_http(program.http()));
        assert_eq!(program.stop().status.code(), Some(0), "{flags:?}");
    }
}

// pitfall: 69
#[test]
#[cfg(target_os = "linux")]
fn late_log_reader_finds_the_count_of_dropped_lines() {
    // Each response is one log line, and there are no others. The log is not read until there have
    // been two thousand. Then it is read, and responses follow until a line with a count arrives.
    // In the end every response has either a whole line or is counted.
    let (program, log) =
        start_with_unread_log(&["--http", "127.0.0.1:0", "--log", "off", "--access-log"]);
    let mut responses = 2000;
    (0..responses).for_each(|_| check_http(program.http()));
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(log).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let dropped_lines = |line: &str| {
        let count = line
            .strip_prefix("reactor: ")?
            .strip_suffix(" log lines dropped: no room to write them")?;
        count.parse::<usize>().ok()
    };
    let deadline = Instant::now() + TIMEOUT;
    let (mut written, mut dropped) = (0, 0);
    let mut count = |line: String| match dropped_lines(&line) {
        Some(count) => dropped += count,
        None => {
            assert!(
                line.starts_with("127.0.0.1 - - [") && line.ends_with(" HTTP/1.0\" 200 13"),
                "{line}"
            );
            written += 1;
        }
    };
    let mut has_count = false;
    while !has_count {
        assert!(Instant::now() < deadline, "timeout waiting for the count of dropped lines");
        check_http(program.http());
        responses += 1;
        let new_lines: Vec<String> = lines.try_iter().collect();
        has_count = new_lines.iter().any(|line| dropped_lines(line).is_some());
        new_lines.into_iter().for_each(&mut count);
    }
    // Lines dropped while the reader was beginning are counted with the next response, as there is
    // room now.
    check_http(program.http());
    responses += 1;
    assert_eq!(program.stop().status.code(), Some(0));
    lines.iter().for_each(&mut count); // until end of file: the pipe has no writer any more
    assert!(dropped > 0 && written > 500, "{written} written, {dropped} dropped");
    assert_eq!(written + dropped, responses, "{written} written, {dropped} dropped");
}

// pitfall: 69
#[test]
#[cfg(target_os = "linux")]
fn closed_or_full_log_blocks_neither_service_nor_stop() {
    // Standard error is closed, or is a file on a full disk.
    for redirection in ["2>&-", "2>/dev/full"] {
        let arguments = ["--http", "127.0.0.1:0", "--log", "trace", "--access-log"];
        let mut command = reactor_in_shell(&format!("exec \"$@\" {redirection}"));
        let mut program = Program::spawn(command.args(arguments));
        program.read_addresses(&arguments);
        (0..100).for_each(|_| check_http(program.http()));
        let ending = program.stop();
        assert_eq!((ending.status.code(), ending.stderr), (Some(0), vec![]), "{redirection}");
    }
}
