//! `reactor send`, against the program's own servers, the lecture's, and some that misbehave.

#![cfg(unix)]
// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod failures;
mod replies;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use socket2::{Domain, Socket, Type};

use common::{TIMEOUT, assert_same, reactor};

const MIB: usize = 1024 * 1024;
const ECHO: [&str; 4] = ["--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0"];

/// How `reactor send` ended, and all that it wrote.
#[derive(Debug)]
struct SendResult {
    status: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

/// A running client. Dropping it kills the process.
struct ClientProcess(Child);

impl Drop for ClientProcess {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns `reactor send` with `arguments` as a command, with empty input and its output in pipes.
fn send_command(arguments: &[&str]) -> Command {
    let mut command = reactor();
    command
        .arg("send")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Collects what comes from `pipe` in a thread of its own, so that waiting for its end can have a
/// timeout.
fn collect(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, collected) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        let _ = sender.send(bytes); // the test may have failed meanwhile
    });
    collected
}

fn run(command: &mut Command) -> SendResult {
    finish(ClientProcess(command.spawn().unwrap()))
}

fn finish(mut client: ClientProcess) -> SendResult {
    let stdout = client.0.stdout.take().map(collect);
    let stderr = collect(client.0.stderr.take().unwrap());
    let stdout = stdout
        .map(|stdout| stdout.recv_timeout(2 * TIMEOUT).expect("the client ends"))
        .unwrap_or_default();
    let stderr =
        String::from_utf8(stderr.recv_timeout(2 * TIMEOUT).expect("the client ends")).unwrap();
    SendResult { status: client.0.wait().unwrap().code(), stdout, stderr }
}

/// Sends `text`, given as an argument.
fn send_text(server: &str, text: &str) -> SendResult {
    run(&mut send_command(&[server, text]))
}

/// Sends `bytes`, given on standard input.
fn send_stdin(arguments: &[&str], bytes: &[u8]) -> SendResult {
    let mut client = ClientProcess(send_command(arguments).stdin(Stdio::piped()).spawn().unwrap());
    let mut stdin = client.0.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    // The write fails if the client ends before it has read all.
    thread::spawn(move || stdin.write_all(&bytes));
    finish(client)
}

#[track_caller]
fn check_reply(sent: &SendResult, reply: &[u8]) {
    assert_eq!(
        (sent.status, sent.stderr.as_str()),
        (Some(0), ""),
        "{:?}",
        sent.stdout.escape_ascii().to_string()
    );
    assert_same(&sent.stdout, reply);
}

/// Checks that nothing was printed, and that standard error has one line that contains `why`.
#[track_caller]
fn check_failure(sent: &SendResult, status: i32, why: &str) {
    assert_eq!((sent.status, sent.stdout.len()), (Some(status), 0), "{sent:?}");
    let lines: Vec<&str> = sent.stderr.lines().collect();
    let [line] = lines[..] else { panic!("one line: {sent:?}") };
    assert!(line.starts_with("reactor: ") && line.contains(why), "{line}");
}

/// Returns a path for a socket of the test's own.
fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("reactor-send-{}-{name}", std::process::id()))
}

/// Starts a server of the test's own in a thread. It accepts one client and calls `exchange`.
fn serve_one(
    exchange: impl FnOnce(TcpStream) + Send + 'static,
) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("tcp://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        exchange(stream);
    });
    (server, serving)
}

/// Binds a port without listening. As long as the socket lives, the kernel gives the port to no
/// other socket, unless that sets SO_REUSEADDR and asks for it.
fn reserve_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}
