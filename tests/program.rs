//! The program as its operator meets it: its command line, its signals, its log, and what it leaves behind.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, ErrorKind, PipeReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{
    Ending, PATIENCE, Program, assert_same, check_echo, check_end, connect, connect_narrow,
    pattern, persist, reactor, reset, stuff,
};
use mio_reactor::limits::ACCEPT_RETRY_MS;
use socket2::{Domain, Socket, Type};

const TCP: [&str; 2] = ["--tcp", "127.0.0.1:0"];
const MIB: usize = 1024 * 1024;

/// Runs the program with `arguments` that must not make it serve.
fn run(arguments: &[&str]) -> Ending {
    Program::spawn(reactor().args(arguments)).wait()
}

// ---- the command line

#[test]
fn help_tells_every_flag_the_default_addresses_and_what_a_stream_is_not() {
    // How the lines are broken does not matter.
    let ending = run(&["--help"]);
    assert_eq!(ending.status.code(), Some(0));
    assert!(ending.stderr.is_empty(), "{:?}", ending.stderr);
    let help = ending.stdout.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    for told in [
        "--tcp",
        "--udp",
        "--http",
        "--root",
        "--prefix",
        "--answer-all-ports",
        "message boundaries",
        "127.0.0.1:2000",
        "127.0.0.1:8080",
    ] {
        assert!(help.contains(told), "{told} is not in: {help}");
    }
}

#[test]
fn what_makes_no_sense_is_told_in_one_line_with_status_2() {
    let nonsense: [&[&str]; 9] = [
        &["--frob"],
        &["nonsense"],
        &["serve", "--frob"],
        &["--tcp"],
        &["--tcp", "127.0.0.1"],
        &["--udp", "somewhere:2000"],
        &["--http", "127.0.0.1:65536"],
        &["--tcp", "127.0.0.1:0", "--log", "loud"],
        &["--tcp", "127.0.0.1:0", "--root", "."],
    ];
    for arguments in nonsense {
        let ending = run(arguments);
        assert_eq!(ending.status.code(), Some(2), "{arguments:?}: {:?}", ending.stderr);
        assert_eq!(ending.stderr.len(), 1, "{arguments:?}: {:?}", ending.stderr);
        assert!(ending.stderr[0].starts_with("reactor: "), "{arguments:?}: {:?}", ending.stderr);
        assert!(ending.stdout.is_empty(), "{arguments:?}: {:?}", ending.stdout);
    }
}

#[test]
fn a_taken_port_is_told_with_its_service_its_address_and_the_reason() {
    // The test itself holds the ports. Neither is one of the two services announced if the other cannot be had.
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
fn serve_is_what_is_meant_where_no_command_is_named() {
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
fn only_what_is_named_is_opened_and_port_0_becomes_a_real_one() {
    // It prints a line for each socket that it opens; once it has ended, there can be no further line.
    for (flag, service) in [("--tcp", "tcp echo"), ("--udp", "udp echo"), ("--http", "http")] {
        let program = Program::start(&[flag, "127.0.0.1:0"]);
        let [address] = program.addresses(service)[..] else { panic!("one address") };
        assert_ne!(address.port(), 0);
        assert_eq!(program.stop().stdout, [format!("{service} {address}")]);
    }
}

// ---- signals

#[test]
fn a_signal_ends_it_with_status_0_when_nobody_is_there() {
    for signal in ["TERM", "INT"] {
        let program = Program::start(&[
            "--tcp",
            "127.0.0.1:0",
            "--udp",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
        ]);
        program.signal(signal);
        assert_eq!(program.wait().status.code(), Some(0), "SIG{signal}");
    }
}

#[test]
fn a_stop_ends_idle_connections_in_order() {
    // One has never spoken, one has been served: both see an end, not a reset.
    let program = Program::start(&TCP);
    let (silent, mut served) = (connect(program.tcp()), connect(program.tcp()));
    check_echo(&mut served, b"That was all.");
    program.signal("TERM");
    for stream in [silent, served] {
        check_end(stream, b"");
    }
    assert_eq!(program.wait().status.code(), Some(0));
}

/// The peer is stuffed, `last` is done to it, and the program is asked to stop, before it reads anything. All that the
/// program had read by then must come back, and then the end, and it ends well. (It also echoes what it reads later, as
/// long as there is any; what is still on its way when it finds no more, it cannot know of.)
#[track_caller]
fn check_drain(last: impl FnOnce(&TcpStream)) {
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--log", "trace"]);
    let mut stream = connect_narrow(program.tcp());
    let bytes = pattern(20, 8 * MIB);
    let sent = stuff(&mut stream, &bytes);
    last(&stream);
    program.signal("TERM");
    program.logged("stopping: 1 connections");
    let mut received = Vec::new();
    stream
        .read_to_end(&mut received)
        .unwrap_or_else(|error| panic!("{error} after {} of {sent}", received.len()));
    drop(stream);
    let ending = program.wait();
    assert_eq!(ending.status.code(), Some(0));
    let log_before = ending.stderr.iter().take_while(|line| !line.contains("stopping: "));
    let accepted: usize =
        log_before.filter(|line| line.contains(" recv ")).map(|line| count_returned(line)).sum();
    assert!(accepted > 64 * 1024, "only {accepted} bytes were read before the stop");
    assert!(
        (accepted..=sent).contains(&received.len()),
        "{accepted} read before the stop, {} came back",
        received.len()
    );
    assert_same(&received, &bytes[..received.len()]);
}

/// How many bytes the system call of the line moved: it ends with `-> Ok(5)`, or with an error.
fn count_returned(line: &str) -> usize {
    let count = line.rsplit_once("Ok(").and_then(|(_, rest)| rest.strip_suffix(')')?.parse().ok());
    count.unwrap_or(0)
}

#[test]
fn a_stop_lets_a_slow_reader_have_all_that_it_is_owed() {
    // It has half-closed: nothing else can come from it.
    check_drain(|stream| stream.shutdown(Shutdown::Write).unwrap());
}

#[test]
fn a_stop_lets_a_slow_reader_that_could_still_speak_have_all_that_it_is_owed() {
    check_drain(|_| {});
}

#[test]
fn a_stop_does_not_take_a_reply_back_from_a_peer_that_speaks_again() {
    // All of the reply has left the program, but most of it waits in the kernel for a peer that reads slowly. When the
    // other connection has seen its end, ours has been ended too. Now that peer says more, which nobody will hear: this
    // must not turn the end into a reset, for a reset destroys the rest of the reply.
    let program = Program::start(&TCP);
    let (mut stream, mut other) = (connect_narrow(program.tcp()), connect(program.tcp()));
    let bytes = pattern(23, 30_000);
    let mut reply = vec![0; bytes.len()];
    stream.write_all(&bytes).unwrap();
    stream.read_exact(&mut reply[..1]).unwrap();
    check_echo(&mut other, b"I have nothing else to say.");
    program.signal("TERM");
    check_end(other, b"");
    stream.write_all(b"By the way").unwrap();
    stream.read_exact(&mut reply[1..]).unwrap();
    assert_same(&reply, &bytes);
    drop(stream);
    assert_eq!(program.wait().status.code(), Some(0));
}

#[test]
fn a_stop_still_serves_those_who_already_stand_at_the_door() {
    // The program is held while they connect and send, and while it is asked to stop. The kernel has welcomed them in its
    // name, and closing the door on them would reset them all. They are more than one turn accepts.
    let program = Program::start(&TCP);
    let streams: Vec<TcpStream> = program.while_held(|| {
        let mut streams: Vec<TcpStream> = (0..200).map(|_| connect(program.tcp())).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(b"first").unwrap());
        program.signal("TERM");
        streams
    });
    for (number, mut stream) in streams.into_iter().enumerate() {
        let mut reply = String::new();
        stream
            .read_to_string(&mut reply)
            .unwrap_or_else(|error| panic!("number {number}: {error}"));
        assert_eq!(reply, "first", "number {number}");
    }
    assert_eq!(program.wait().status.code(), Some(0));
}

#[test]
fn a_stop_that_has_to_cut_somebody_off_says_so_and_has_a_status_of_its_own() {
    // The peer is owed more than the kernel holds, and does not read.
    let program = Program::start(&["--tcp", "127.0.0.1:0", "--drain-ms", "50"]);
    let mut stream = connect_narrow(program.tcp());
    stuff(&mut stream, &pattern(21, 8 * MIB));
    program.signal("TERM");
    let ending = program.wait();
    assert_eq!(ending.status.code(), Some(3));
    assert!(
        ending
            .stderr
            .iter()
            .any(|line| line
                .contains("stopped: drain timeout reached, 1 connections closed by force")),
        "{:?}",
        ending.stderr
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    // A peer that reads nothing would keep it draining for seconds, and the status would be 0.
    let program = Program::start(&TCP);
    let mut stuck = connect_narrow(program.tcp());
    let bytes = pattern(21, 32 * MIB);
    assert!(stuff(&mut stuck, &bytes) < bytes.len(), "it is stuck");
    program.signal("TERM");
    program.logged("stopping: 1 connections");
    assert_eq!(program.stop().status.code(), Some(128 + 15));
}

// ---- the log, and what is left behind

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
    peer.set_read_timeout(Some(common::PATIENCE)).unwrap();
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

#[test]
#[cfg(target_os = "linux")]
fn no_descriptor_is_inherited_by_another_program() {
    // Each one that it has opened is marked close-on-exec, which is 02000000 (octal) among its flags. The standard streams
    // and what we have too, it has from us.
    let directory = env!("CARGO_MANIFEST_DIR");
    let program = Program::start(&[
        "--tcp",
        "127.0.0.1:0",
        "--udp",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--root",
        directory,
    ]);
    let mut stream = connect(program.tcp());
    check_echo(&mut stream, b"One of them is mine.");
    let opened = |pid: &str| -> Vec<(String, std::path::PathBuf)> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(Result::unwrap);
        let named = entries.map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read_link(entry.path()))
        });
        named.filter_map(|(number, target)| Some((number, target.ok()?))).collect()
    };
    let own = opened("self");
    let pid = program.pid().to_string();
    let mut checked = 0;
    let is_its_own = |number: &str, target: &std::path::PathBuf| {
        number.parse::<u32>().unwrap() > 2 && own.iter().all(|(_, ours)| ours != target)
    };
    for (number, target) in
        opened(&pid).into_iter().filter(|(number, target)| is_its_own(number, target))
    {
        let text = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = u32::from_str_radix(flags, 8).unwrap();
        assert_ne!(flags & 0o2_000_000, 0, "descriptor {number}, {}: {text}", target.display());
        checked += 1;
    }
    // Three sockets that serve, one that is served, the two ends of the bell's rope, and the root of the files.
    assert!(checked >= 7, "{checked} descriptors");
}

/// Starts the program with `arguments` where no more than 64 files may be open.
#[cfg(target_os = "linux")]
fn start_with_64_files(arguments: &[&str]) -> Program {
    let mut command = std::process::Command::new("sh");
    let path = reactor().get_program().to_owned();
    command
        .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
        .arg(path)
        .args(arguments)
        .env_remove("RUST_LOG");
    let mut program = Program::spawn(&mut command);
    program.read_addresses(arguments);
    program
}

/// The counter `name` in the line of statistics that the program logs at its end.
#[cfg(target_os = "linux")]
fn counted(ending: &Ending, name: &str) -> u64 {
    let stats = ending.stderr.iter().find(|line| line.contains("Stats {")).unwrap();
    let from =
        stats.split([' ', '{']).skip_while(|word| *word != format!("{name}:")).nth(1).unwrap();
    from.trim_end_matches([',', '}']).parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn when_descriptors_run_out_it_serves_those_it_has_and_later_the_others() {
    // It may have 64 files open, and 200 peers come and speak. Some are served; the others wait, and cost neither turns nor
    // lines of the log. When those who have been served leave, the others are. Nobody is turned away.
    let program = start_with_64_files(&["--tcp", "127.0.0.1:0", "--log", "debug"]);
    let began = Instant::now();
    let mut peers: Vec<TcpStream> = (0..200).map(|_| connect(program.tcp())).collect();
    peers.iter_mut().for_each(|peer| peer.write_all(b"first").unwrap());
    program.logged("accept paused");
    // For two seconds the last of them hears nothing, neither an answer nor an end.
    peers[199].set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let error = persist(|| peers[199].read(&mut [0; 1])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    peers[199].set_read_timeout(Some(PATIENCE)).unwrap();
    for (number, mut peer) in peers.into_iter().enumerate() {
        // They are let in in the order in which they came: whoever leaves makes room for the next.
        let mut reply = [0; 5];
        peer.read_exact(&mut reply).unwrap_or_else(|error| panic!("number {number}: {error}"));
        assert_eq!(&reply, b"first");
        check_echo(&mut peer, b"And again, although there is no room for anybody else.");
    }
    let mut last = connect(program.tcp());
    check_echo(&mut last, b"There is room again.");
    drop(last);
    let line = program.logged("accept overload over");
    let told = |count: u64, what: &str| line.contains(&format!(" {count} {what}"));
    assert!(line.contains("INFO") && told(0, "idle connections evicted"), "{line}");
    let took = began.elapsed();
    let ending = program.stop();
    assert_eq!(ending.status.code(), Some(0));
    let of_the_episode = ending
        .stderr
        .iter()
        .filter(|line| line.contains("accept paused") || line.contains("accept overload over"));
    assert_eq!(
        of_the_episode.count(),
        2,
        "one line at its beginning, one at its end: {:?}",
        ending.stderr
    );
    let count = |name: &str| counted(&ending, name);
    assert_eq!(
        (count("accepted"), count("connections"), count("evicted")),
        (201, 0, 0),
        "{:?}",
        ending.stderr
    );
    assert!(told(count("accept_pauses"), "pauses"), "{line}");
    // Each conversation is worth a few turns, the signal an empty one, and it looks ten times a second for room; a loop that
    // spins takes hundreds of thousands in these seconds.
    let turns_max = 8 * 201 + u64::try_from(took.as_millis()).unwrap() / ACCEPT_RETRY_MS + 20;
    assert!(
        count("turns") < turns_max && count("empty_turns") <= 2,
        "at most {turns_max} turns: {:?}",
        ending.stderr
    );
}

#[test]
#[cfg(target_os = "linux")]
fn when_descriptors_run_out_idle_http_connections_give_way_and_no_others() {
    // 200 clients of HTTP keep their connections after a request, where only some 50 can be held. Every one is served, since
    // those who have been idle longest give way. Before them came a peer of echo, which is idle all the time, and a client
    // that has sent half a request: neither has to go.
    let program =
        start_with_64_files(&["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "debug"]);
    let request = b"GET /plaintext HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let read_answer = |stream: &mut TcpStream| {
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"Hello, World!") {
            stream
                .read_exact(&mut byte)
                .unwrap_or_else(|error| panic!("{error} after {}", answer.escape_ascii()));
            answer.push(byte[0]);
        }
    };
    let mut echoed = connect(program.tcp());
    check_echo(&mut echoed, b"I stay.");
    let mut busy = connect(program.http());
    busy.write_all(&request[..9]).unwrap();
    let clients: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut client = connect(program.http());
            client.write_all(request).unwrap();
            read_answer(&mut client);
            client
        })
        .collect();
    busy.write_all(&request[9..]).unwrap();
    read_answer(&mut busy);
    check_echo(&mut echoed, b"I am still here.");
    // The first of them have had to go, and saw an end and no reset.
    clients.into_iter().take(100).for_each(|client| check_end(client, b""));
    let ending = program.stop();
    assert_eq!(ending.status.code(), Some(0));
    let evicted = counted(&ending, "evicted");
    assert!((140..=200).contains(&evicted), "{evicted} gave way");
    assert_eq!(
        counted(&ending, "closed_finished"),
        counted(&ending, "closed"),
        "{:?}",
        ending.stderr
    );
    let beginnings = ending.stderr.iter().filter(|line| line.contains("accept paused")).count();
    let ends = ending.stderr.iter().filter(|line| line.contains("accept overload over")).count();
    // One, unless this machine is so slow that there was room for a while in between.
    assert!(beginnings == ends && (1..=3).contains(&beginnings), "{:?}", ending.stderr);
}

#[test]
#[cfg(target_os = "linux")]
fn a_thousand_connections_leave_no_descriptor_behind() {
    // They leave in every way there is. Then one exchange after the other gives it the time to notice; when such a one
    // has seen its end, its own descriptor is closed already.
    let program = Program::start(&TCP);
    let exchange = || {
        let mut stream = connect(program.tcp());
        check_echo(&mut stream, b"hello");
        stream.shutdown(Shutdown::Write).unwrap();
        check_end(stream, b"");
    };
    exchange();
    let before = program.descriptors();
    for _ in 0..250 {
        exchange();
        drop(connect(program.tcp()));
        reset(connect(program.tcp()));
        connect(program.tcp()).write_all(&pattern(22, 10_000)).unwrap();
    }
    let mut after = program.descriptors();
    for _ in 0..1000 {
        if after == before {
            return;
        }
        exchange();
        after = program.descriptors();
    }
    panic!("{before} descriptors before, {after} after");
}
