//! What the program inherits: limits, standard streams, and a directory that is gone.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::TCP;
use crate::common::{Program, check_echo, connect, may_open, reactor, reactor_in_shell};

// pitfall: 124
#[test]
fn soft_descriptor_limit_is_raised_to_the_hard_one() {
    if !may_open(1000) {
        return;
    }
    let mut program =
        Program::spawn(reactor_in_shell("ulimit -Sn 64; ulimit -Hn 1000; exec \"$@\"").args(TCP));
    program.read_addresses(&TCP);
    let mut peers: Vec<TcpStream> = (0..300).map(|_| connect(program.tcp())).collect();
    peers.iter_mut().for_each(|peer| check_echo(peer, b"hello"));
    let limits = fs::read_to_string(format!("/proc/{}/limits", program.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert!(line.contains(" 1000 "), "{line}");
    drop(peers);
    assert!(!program.stop().stderr.iter().any(|line| line.contains("paused")));
}

// pitfall: 125
#[test]
fn closed_standard_streams_become_dev_null_and_no_socket() {
    // The log would be written to a client if a connection had number 2.
    let path = std::env::temp_dir().join(format!("reactor-closed-{}", std::process::id()));
    let unix = format!("unix:{}", path.display());
    let arguments = ["--tcp", &unix, "--log", "trace"];
    let program = Program::spawn(reactor_in_shell("exec \"$@\" <&- >&- 2>&-").args(arguments));
    let deadline = std::time::Instant::now() + crate::common::TIMEOUT;
    while !path.exists() {
        assert!(std::time::Instant::now() < deadline, "it does not listen");
        std::thread::yield_now();
    }
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(crate::common::TIMEOUT)).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    for number in 0..3 {
        let target = fs::read_link(format!("/proc/{}/fd/{number}", program.pid())).unwrap();
        assert_eq!(target.to_str(), Some("/dev/null"), "descriptor {number}");
    }
    assert_eq!(program.stop().status.code(), Some(0));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
}

/// Returns a pipe whose write end is non-blocking, as another process may leave it.
fn non_blocking_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
    (reader, writer)
}

// pitfall: 125
#[test]
fn non_blocking_standard_error_keeps_log_lines_whole() {
    let (reader, writer) = non_blocking_pipe();
    let mut command = reactor();
    command.args(["--tcp", "127.0.0.1:0", "--log", "trace"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
    let mut program = Program::spawn_as_configured(&mut command);
    drop(command);
    program.read_address_lines(1);
    // Nothing reads the log yet, and it is more than the pipe holds.
    let mut stream = connect(program.tcp());
    (0..1000).for_each(|_| check_echo(&mut stream, b"hello"));
    let mut reader = io::BufReader::new(reader);
    let mut log = String::new();
    let mut read_line = |log: &mut String| {
        log.clear();
        io::BufRead::read_line(&mut reader, log).unwrap()
    };
    check_echo(&mut stream, b"hello");
    program.signal("TERM");
    let mut lines = 0;
    while read_line(&mut log) > 0 {
        lines += 1;
        assert!(log.starts_with(['[', 'r']) || log.is_empty(), "{log}");
    }
    assert!(lines > 100, "{lines} lines");
    drop(stream);
    assert_eq!(program.wait().status.code(), Some(0));
}

// pitfall: 125
#[test]
fn help_is_printed_whole_to_a_non_blocking_pipe() {
    // The pipe is full at the start.
    let (mut reader, mut writer) = non_blocking_pipe();
    let mut filled = 0;
    while let Ok(count) = writer.write(&[b'x'; 4096]) {
        filled += count;
    }
    let mut command = reactor();
    command.arg("--help").stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let program = Program::spawn_as_configured(&mut command);
    drop(command);
    reader.read_exact(&mut vec![0; filled]).unwrap();
    let mut help = String::new();
    reader.read_to_string(&mut help).unwrap();
    assert!(help.starts_with("Event-loop server") && help.ends_with("64K, 4M.\n"), "{help}");
    assert_eq!(program.wait().status.code(), Some(0));
}

// pitfall: 128
#[test]
fn help_that_cannot_be_written_exits_1_with_the_reason() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = reactor();
    command.arg("--version").stdin(Stdio::null()).stdout(full).stderr(Stdio::piped());
    let ending = Program::spawn_as_configured(&mut command).wait();
    assert_eq!(ending.status.code(), Some(1));
    assert_eq!(ending.stderr, ["reactor: standard output: No space left on device (os error 28)"]);
}

// pitfall: 127
#[test]
fn error_line_does_not_wait_for_a_full_standard_error() {
    let (_reader, mut writer) = non_blocking_pipe();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() - OFlags::NONBLOCK).unwrap();
    for arguments in [&["--tcp", "192.0.2.1:0"][..], &["--frob"]] {
        let mut command = reactor();
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(writer.try_clone().unwrap());
        let ending = Program::spawn_as_configured(&mut command).wait();
        assert!([Some(1), Some(2)].contains(&ending.status.code()), "{:?}", ending.status);
    }
}

// pitfall: 125
#[test]
fn removed_working_directory_is_no_obstacle_to_addresses() {
    let directory = std::env::temp_dir().join(format!("reactor-gone-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let line = format!("cd '{0}' && rmdir '{0}' && exec \"$@\"", directory.display());
    let mut program = Program::spawn(reactor_in_shell(&line).args(TCP));
    program.read_addresses(&TCP);
    check_echo(&mut connect(program.tcp()), b"hello");
    assert_eq!(program.stop().status.code(), Some(0));
    // What is named relative to it is an error, and no panic.
    fs::create_dir(&directory).unwrap();
    let ending = Program::spawn(reactor_in_shell(&line).args(["--tcp", "unix:socket"])).wait();
    assert_eq!(ending.status.code(), Some(1), "{:?}", ending.stderr);
    let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
    assert!(line.starts_with("reactor: tcp echo unix:socket: No such file"), "{line}");
}
