//! The log, the access log, and a standard error or output that nobody reads.

use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Instant;

use crate::common::{PATIENCE, Program, check_echo, connect, reactor, reset};
use socket2::{Domain, Socket, Type};

#[test]
fn debug_logs_one_line_per_conversation_with_its_reason() {
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--log", "debug"]);
    let (mut polite, mut rude) = (connect(program.tcp()), connect(program.tcp()));
    let (polite_name, rude_name) = (polite.local_addr().unwrap(), rude.local_addr().unwrap());
    check_echo(&mut polite, b"hello");
    check_echo(&mut rude, b"hello");
    polite.shutdown(Shutdown::Write).unwrap();
    reset(rude);
    for (name, reason) in [(polite_name, "finished"), (rude_name, "reset by peer")] {
        let line = program.logged(&name.to_string());
        assert!(line.contains("DEBUG") && line.ends_with(reason), "{line}");
    }
    let ending = program.stop();
    for name in [polite_name, rude_name] {
        let lines = ending.stderr.iter().filter(|line| line.contains(&name.to_string()));
        assert_eq!(lines.count(), 1, "{:?}", ending.stderr);
    }
}

#[test]
fn the_echo_port_is_answered_only_if_asked_for_and_debug_says_why_not() {
    // It may take a privilege to be at such a port; who has none cannot try this. The address is this process's own: another
    // run of the tests may be at its port 7.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = SocketAddr::from(([127, 7, high, low], 7));
    let Ok(peer) = UdpSocket::bind(address) else { return };
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    for (flags, is_answered) in [(&["--log", "debug"][..], false), (&["--answer-all-ports"], true)]
    {
        let arguments = [&["--udp", "127.0.0.1:0"], flags].concat();
        let program = Program::start(&arguments);
        peer.send_to(b"hello", program.udp()).unwrap();
        if is_answered {
            assert_eq!(peer.recv(&mut [0; 64]).unwrap(), 5);
        } else {
            let line = program.logged(&address.to_string());
            assert!(line.contains("DEBUG") && line.contains("this port is not answered"), "{line}");
        }
        assert_eq!(program.stop().status.code(), Some(0));
    }
}

#[test]
fn trace_logs_a_line_per_system_call() {
    // The exchange has five bytes; so have the calls.
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--log", "trace"]);
    check_echo(&mut connect(program.tcp()), b"hello");
    let ending = program.stop();
    for call in ["recv ", "send "] {
        let line =
            ending.stderr.iter().find(|line| line.contains(call) && line.ends_with("-> Ok(5)"));
        assert!(line.is_some_and(|line| line.contains("TRACE")), "{call}: {:?}", ending.stderr);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn it_serves_although_nobody_reads_its_standard_output() {
    // Its standard output is a pipe whose reader has gone. So the port has to be known beforehand: we hold it without
    // listening on it, which does not keep it from the program (both say SO_REUSEADDR), but from everybody else.
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    held.set_reuse_address(true).unwrap();
    held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = held.local_addr().unwrap().as_socket().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = reactor();
    command.args(["--tcp", &address.to_string()]).stdout(writer).stderr(Stdio::piped());
    let program = Program::spawn_as_it_is(&mut command);
    program.logged("serving");
    check_echo(&mut connect(address), b"hello");
    assert_eq!(program.stop().status.code(), Some(0));
}

#[test]
fn the_access_log_has_a_line_for_each_answer_and_nothing_else_in_it() {
    // The Common Log Format. What a peer has sent can neither end the line nor reach a terminal as it is.
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
fn the_access_log_is_off_by_default() {
    let program = Program::start(&["--http", "127.0.0.1:0"]);
    let mut stream = connect(program.http());
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let lines = program.stop().stderr;
    assert!(!lines.iter().any(|line| line.contains("GET")), "{lines:?}");
}

/// Starts the program with its standard error in a pipe that nobody empties unless the test does.
#[cfg(target_os = "linux")]
fn start_with_unread_log(arguments: &[&str]) -> (Program, PipeReader) {
    let (log, writer) = std::io::pipe().unwrap();
    let mut command = reactor();
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
    let mut program = Program::spawn_as_it_is(&mut command);
    drop(command); // and with it our own end for writing
    program.read_addresses(arguments);
    (program, log)
}

/// One request on a connection of its own, and its answer.
#[cfg(target_os = "linux")]
fn check_http(address: SocketAddr) {
    let mut stream = connect(address);
    stream.write_all(b"GET /plaintext HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("Hello, World!"), "{answer}");
}

#[test]
#[cfg(target_os = "linux")]
fn what_peers_can_do_in_great_number_is_not_logged_by_default() {
    // A thousand peers give every occasion to complain, by nonsense and by resets; nobody else is told of it.
    let (program, mut log) = start_with_unread_log(&["--http", "127.0.0.1:0"]);
    for _ in 0..1000 {
        let mut stream = connect(program.http());
        stream.write_all(b"nonsense\r\n\r\n").unwrap();
        reset(stream);
    }
    check_http(program.http());
    assert_eq!(program.stop().status.code(), Some(0));
    let mut lines = String::new();
    log.read_to_string(&mut lines).unwrap();
    assert!(lines.lines().count() < 10, "{lines}");
}

#[test]
#[cfg(target_os = "linux")]
fn it_serves_and_stops_although_nobody_reads_its_log() {
    // Its standard error is a pipe that is never emptied. A line or more for each of two thousand conversations is more than it
    // holds (64 KiB), and whoever waited for it would wait for ever.
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

#[test]
#[cfg(target_os = "linux")]
fn who_reads_its_log_at_last_finds_how_many_lines_are_missing() {
    // Each answer is a line of the log, and nothing else is. Nobody reads until there are two thousand; then somebody does, and
    // there are more until that reader has been told. In the end every answer is either there, whole, or has been counted.
    let (program, log) =
        start_with_unread_log(&["--http", "127.0.0.1:0", "--log", "off", "--access-log"]);
    let mut answers = 2000;
    (0..answers).for_each(|_| check_http(program.http()));
    let (read, lines) = mpsc::channel();
    std::thread::spawn(move || {
        BufReader::new(log).lines().map_while(Result::ok).try_for_each(|line| read.send(line))
    });
    let count_unsendable = |line: &str| {
        let count = line
            .strip_prefix("reactor: ")?
            .strip_suffix(" lines of the log are missing here, for which there was no room")?;
        count.parse::<usize>().ok()
    };
    let give_up = Instant::now() + PATIENCE;
    let (mut there, mut lost) = (0, 0);
    let mut count = |line: String| match count_unsendable(&line) {
        Some(count) => lost += count,
        None => {
            assert!(
                line.starts_with("127.0.0.1 - - [") && line.ends_with(" HTTP/1.0\" 200 13"),
                "{line}"
            );
            there += 1;
        }
    };
    let mut is_told = false;
    while !is_told {
        assert!(Instant::now() < give_up, "nobody says what is missing");
        check_http(program.http());
        answers += 1;
        let news: Vec<String> = lines.try_iter().collect();
        is_told = news.iter().any(|line| count_unsendable(line).is_some());
        news.into_iter().for_each(&mut count);
    }
    // What there was no room for while that reader began, is told now that there is.
    check_http(program.http());
    answers += 1;
    assert_eq!(program.stop().status.code(), Some(0));
    lines.iter().for_each(&mut count); // until the pipe ends, as it has no writer any more
    assert!(lost > 0 && there > 500, "{there} lines, {lost} lost");
    assert_eq!(there + lost, answers, "{there} lines, {lost} lost");
}

#[test]
#[cfg(target_os = "linux")]
fn it_serves_and_stops_although_its_log_can_go_nowhere() {
    // Standard error is closed, or is a file on a full disk.
    for nowhere in ["2>&-", "2>/dev/full"] {
        let arguments = ["--http", "127.0.0.1:0", "--log", "trace", "--access-log"];
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", &format!("exec \"$0\" \"$@\" {nowhere}")])
            .arg(reactor().get_program())
            .args(arguments);
        let mut program = Program::spawn(command.env_remove("RUST_LOG"));
        program.read_addresses(&arguments);
        (0..100).for_each(|_| check_http(program.http()));
        let ending = program.stop();
        assert_eq!((ending.status.code(), ending.stderr), (Some(0), vec![]), "{nowhere}");
    }
}
