//! The program as a client: `reactor send`, against its own servers, the lecture's, and some that do not behave.

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

use common::{PATIENCE, assert_same, reactor};
use socket2::{Domain, Socket, Type};

const MIB: usize = 1024 * 1024;
const ECHO: [&str; 4] = ["--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0"];

/// What `reactor send` came to.
#[derive(Debug)]
struct Sent {
    status: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

/// A client that runs. It ends with the value.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn client(arguments: &[&str]) -> Command {
    let mut command = reactor();
    command
        .arg("send")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Collects what comes from `pipe`, and waits no longer than is patient for its end.
fn collect(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        let _ = tell.send(bytes); // the test may have given up
    });
    told
}

fn run(command: &mut Command) -> Sent {
    finish(Client(command.spawn().unwrap()))
}

fn finish(mut client: Client) -> Sent {
    let stdout = client.0.stdout.take().map(collect);
    let stderr = collect(client.0.stderr.take().unwrap());
    let stdout = stdout
        .map(|stdout| stdout.recv_timeout(2 * PATIENCE).expect("it ends"))
        .unwrap_or_default();
    let stderr = String::from_utf8(stderr.recv_timeout(2 * PATIENCE).expect("it ends")).unwrap();
    Sent { status: client.0.wait().unwrap().code(), stdout, stderr }
}

/// Sends what it is given as a text.
fn send(server: &str, text: &str) -> Sent {
    run(&mut client(&[server, text]))
}

/// Sends what it is given through standard input.
fn pipe(arguments: &[&str], bytes: &[u8]) -> Sent {
    let mut client = Client(client(arguments).stdin(Stdio::piped()).spawn().unwrap());
    let mut stdin = client.0.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    // Who has given up does not read the rest.
    thread::spawn(move || stdin.write_all(&bytes));
    finish(client)
}

#[track_caller]
fn check_reply(sent: &Sent, reply: &[u8]) {
    assert_eq!(
        (sent.status, sent.stderr.as_str()),
        (Some(0), ""),
        "{:?}",
        sent.stdout.escape_ascii().to_string()
    );
    assert_same(&sent.stdout, reply);
}

/// Nothing was printed, and standard error has one line with `why` in it.
#[track_caller]
fn check_failure(sent: &Sent, status: i32, why: &str) {
    assert_eq!((sent.status, sent.stdout.len()), (Some(status), 0), "{sent:?}");
    let lines: Vec<&str> = sent.stderr.lines().collect();
    let [line] = lines[..] else { panic!("one line: {sent:?}") };
    assert!(line.starts_with("reactor: ") && line.contains(why), "{line}");
}

/// The path of a socket of the test's own.
fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("reactor-send-{}-{name}", std::process::id()))
}

/// A server of the test's own that talks with one client.
fn serve_one(talk: impl FnOnce(TcpStream) + Send + 'static) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("tcp://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        talk(stream);
    });
    (server, serving)
}

/// A port that nobody listens at, and nobody else is given as long as the value lives. Only who says SO_REUSEADDR may use it.
fn hold_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}
