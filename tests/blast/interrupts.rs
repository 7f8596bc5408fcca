//! A signal in each phase: nothing that blocks holds back the end.
//!
//! The load itself never sleeps. So when the process sleeps, it blocks in what is tested.

use std::fs::{self, File};
use std::io::{self, ErrorKind, PipeReader, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use socket2::{Domain, Socket, Type};

use super::UdpServer;
use crate::common::{Program, TIMEOUT, any_port, ignores, reactor};

/// Waits until the program blocks in a system call: until its state in `/proc/PID/stat` is `S`.
#[track_caller]
fn wait_until_it_sleeps(program: &Program) {
    let deadline = Instant::now() + TIMEOUT;
    let sleeps = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", program.pid())).unwrap();
        let (name, rest) = stat.rsplit_once(") ").unwrap();
        name.ends_with("(reactor") && rest.starts_with('S')
    };
    while !sleeps() {
        assert!(Instant::now() < deadline, "it does not block");
        thread::yield_now();
    }
}

/// Fills `output` until it takes no more.
fn fill(output: &mut (impl Write + AsFd)) {
    let flags = fcntl_getfl(&output).unwrap();
    fcntl_setfl(&output, flags | OFlags::NONBLOCK).unwrap();
    loop {
        match output.write(&[b'x'; 256]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    fcntl_setfl(&output, flags).unwrap(); // the program shares it
}

/// Returns a pipe for an output of the program. It is full, and is not read.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = io::pipe().unwrap();
    fill(&mut writer);
    (reader, writer.into())
}

// pitfall: 163
#[test]
fn signal_ends_the_wait_for_the_reader_of_a_named_pipe() {
    let path = std::env::temp_dir().join(format!("reactor-blast-{}.fifo", std::process::id()));
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    for signal in ["INT", "TERM"].into_iter().filter(|signal| !ignores(signal)) {
        let arguments = ["blast", "udp://127.0.0.1:9", "--histogram", path.to_str().unwrap()];
        let program = Program::spawn(reactor().args(arguments));
        wait_until_it_sleeps(&program);
        program.signal(signal);
        let number = if signal == "INT" { 2 } else { 15 };
        assert_eq!(program.wait().status.signal(), Some(number));
    }
    fs::remove_file(path).unwrap();
}

// pitfall: 163
#[test]
fn signal_ends_a_write_of_the_log_or_the_report_to_a_full_pipe() {
    let server = UdpServer::start(|_, datagram| vec![datagram]);
    let (url, duration) = (server.url(), ["--duration", "50ms"]);
    let mut of_log = reactor();
    let (log_reader, log) = full_pipe();
    of_log.args(["blast", &url, "--histogram", "/dev/stderr"]).args(duration);
    of_log.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut of_report = reactor();
    let (report_reader, report) = full_pipe();
    of_report.args(["blast", &url]).args(duration);
    of_report.stdin(Stdio::null()).stdout(report).stderr(Stdio::null());
    for mut command in [of_log, of_report] {
        let program = Program::spawn_as_configured(&mut command);
        wait_until_it_sleeps(&program);
        program.signal("TERM");
        assert_eq!(program.wait().status.code(), Some(143), "{command:?}");
    }
    drop((log_reader, report_reader));
}

// pitfall: 163
#[test]
fn second_signal_ends_a_report_that_the_first_has_begun() {
    let (sender, received) = mpsc::channel();
    let server = UdpServer::start(move |number, datagram| {
        if number == 100 {
            sender.send(()).unwrap();
        }
        vec![datagram]
    });
    let (reader, report) = full_pipe();
    let mut command = reactor();
    command.args(["blast", &server.url(), "--duration", "1h"]);
    command.stdin(Stdio::null()).stdout(report).stderr(Stdio::null());
    let program = Program::spawn_as_configured(&mut command);
    received.recv_timeout(TIMEOUT).unwrap();
    program.signal("TERM");
    wait_until_it_sleeps(&program);
    program.signal("TERM");
    assert_eq!(program.wait().status.code(), Some(143));
    drop(reader);
}

// pitfall: 163
#[test]
fn signal_ends_connecting_and_nothing_is_sent() {
    // The backlog of the listener is full, so further connects wait.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&any_port().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let first = TcpStream::connect_timeout(&address, TIMEOUT).unwrap();
    let url = format!("tcp://{address}");
    let program = Program::spawn(reactor().args(["blast", &url, "--connections", "4"]));
    wait_until_it_sleeps(&program);
    program.signal("TERM");
    let ending = program.wait();
    drop((first, listener));
    let line = format!("reactor: {url}: stopped by a signal while connecting, 0 of 4 ");
    assert_eq!((ending.status.code(), ending.stderr.len()), (Some(1), 1), "{:?}", ending.stderr);
    assert!(ending.stderr[0].starts_with(&line), "{:?}", ending.stderr);
}

// pitfall: 163
#[test]
fn terminal_that_takes_nothing_does_not_hold_up_the_load() {
    // As after Ctrl-S. The bar is due several times.
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::os::unix::fs::OpenOptionsExt;

    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let noctty = OpenptFlags::NOCTTY.bits().cast_signed(); // no controlling terminal
    let mut terminal =
        File::options().write(true).custom_flags(noctty).open(name.to_str().unwrap()).unwrap();
    fill(&mut terminal);
    let server = UdpServer::start(|_, datagram| vec![datagram]);
    let mut command = reactor();
    command.args(["blast", &server.url(), "--duration", "1.2s"]).env("TERM", "xterm");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(terminal);
    let ending = Program::spawn_as_configured(&mut command).wait();
    assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stdout);
    drop(screen);
}
