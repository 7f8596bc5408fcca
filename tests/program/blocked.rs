//! What the program waits for at its start: nothing that does not come.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use crate::common::{Program, TIMEOUT, check_echo, connect, reactor, reactor_in_shell};

/// Binds a port without listening, so that the program gets it although it does not tell the test:
/// both set SO_REUSEADDR.
fn reserve_port() -> (Socket, SocketAddr) {
    let reserved = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    reserved.set_reuse_address(true).unwrap();
    reserved.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = reserved.local_addr().unwrap().as_socket().unwrap();
    (reserved, address)
}

/// Returns a path of the test's own.
fn test_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("reactor-blocked-{}-{name}", std::process::id()))
}

// pitfall: 106
#[test]
fn full_standard_output_loses_address_lines_and_serving_begins() {
    // The pipe is filled, and nothing reads it.
    let (_reserved, address) = reserve_port();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    while poll(&mut [PollFd::new(&writer, PollFlags::OUT)], Some(&now)).unwrap() > 0 {
        writer.write_all(&[b'x'; 4096]).unwrap(); // a page: for less there is no POLLOUT
    }
    let mut command = reactor();
    command.args(["--tcp", &address.to_string(), "--udp", "127.0.0.1:0"]);
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let program = Program::spawn_as_configured(&mut command);
    program.wait_for_log("serving");
    check_echo(&mut connect(address), b"hello");
    let line = "addresses not printed: standard output: 2 of 2 lines lost: no room to write them";
    program.wait_for_log(line);
    assert_eq!(program.stop().status.code(), Some(0));
}

// pitfall: 106, 128
#[test]
fn invalid_rust_log_with_unwritable_standard_error_is_served() {
    // Standard error is a full disk, or a pipe without a reader.
    let (reader, unread) = std::io::pipe().unwrap();
    drop(reader);
    let full = File::options().write(true).open("/dev/full").unwrap();
    for stderr in [Stdio::from(full), Stdio::from(unread)] {
        let arguments = ["--tcp", "127.0.0.1:0"];
        let mut command = reactor();
        command.args(arguments).env("RUST_LOG", "garbage===");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut program = Program::spawn_as_configured(&mut command);
        program.read_addresses(&arguments);
        check_echo(&mut connect(program.tcp()), b"hello");
        assert_eq!(program.stop().status.code(), Some(0));
    }
}

// pitfall: 127
#[test]
fn signal_during_name_resolution_ends_the_process_at_once() {
    // The resolver reads the file HOSTALIASES (hostname(7)). Here that is a FIFO, in which there is
    // nothing to read: the resolver blocks. Our end can be opened once the other is open.
    let fifo = test_path("aliases");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut command = reactor();
    let program = Program::spawn(command.args(["--tcp", "alias:0"]).env("HOSTALIASES", &fifo));
    let open = || OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&fifo);
    let deadline = Instant::now() + TIMEOUT;
    let mut writer = open();
    while writer.is_err() && program.log().is_empty() && Instant::now() < deadline {
        thread::yield_now();
        writer = open();
    }
    fs::remove_file(&fifo).unwrap();
    let Ok(_writer) = writer else {
        println!("skipped: this resolver reads no HOSTALIASES");
        return;
    };
    assert_eq!(program.stop().status.signal(), Some(libc::SIGTERM));
}

// pitfall: 106
#[test]
fn log_file_at_its_size_limit_drops_lines_and_counts_them() {
    // ulimit -f 1 is 512 or 1024 bytes. When the file is emptied, there is room again.
    let path = test_path("log");
    let arguments = ["--http", "127.0.0.1:0", "--log", "off", "--access-log"];
    let line = format!("ulimit -f 1; exec \"$@\" 2>>'{}'", path.display());
    let mut program = Program::spawn(reactor_in_shell(&line).args(arguments));
    program.read_addresses(&arguments);
    let request = || {
        let mut stream = connect(program.http());
        stream.write_all(b"GET /plaintext HTTP/1.0\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    };
    (0..100).for_each(|_| request());
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    request();
    assert_eq!(program.stop().status.code(), Some(0));
    let log = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(log.contains("log lines dropped: no room to write them\n"), "{log}");
    assert_eq!(log.matches("GET /plaintext").count(), 1, "{log}");
}

// pitfall: 106
#[test]
fn output_file_at_its_size_limit_does_not_stop_the_server() {
    // The file already has all that it may have.
    let (_reserved, address) = reserve_port();
    let path = test_path("output");
    fs::write(&path, [b'x'; 1024]).unwrap();
    let line = format!("ulimit -f 1; exec \"$@\" >>'{}'", path.display());
    let program = Program::spawn(reactor_in_shell(&line).args(["--tcp", &address.to_string()]));
    program.wait_for_log("addresses not printed: standard output: 1 of 1 lines lost: File too");
    check_echo(&mut connect(address), b"hello");
    fs::remove_file(&path).unwrap();
    assert_eq!(program.stop().status.code(), Some(0));
}
