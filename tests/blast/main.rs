//! `reactor blast`, against the program's own server and against servers that misbehave.

// The helpers here unwrap as the tests do, and a test that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;
mod diagnosis;
mod endings;
mod faults;
mod histogram;
mod http;
mod http_server;
#[cfg(target_os = "linux")]
mod interrupts;
mod latency;
mod path;
mod report;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use common::{Ending, Program, TIMEOUT, any_port, reactor};

/// Runs `reactor blast` with `arguments` until it ends.
fn blast(target: &str, arguments: &[&str]) -> Ending {
    Program::spawn(reactor().args(["blast", target]).args(arguments)).wait()
}

/// Runs `reactor blast --json`, for a tenth of a second unless `arguments` say otherwise. Returns
/// the figures and the exit status.
fn figures(target: &str, arguments: &[&str]) -> (Value, i32) {
    let duration: &[&str] =
        if arguments.contains(&"--duration") { &[] } else { &["--duration", "100ms"] };
    let ending = blast(target, &[arguments, duration, &["--json"]].concat());
    let [line] = &ending.stdout[..] else {
        panic!("one line: {:?}, {:?}", ending.stdout, ending.stderr)
    };
    (serde_json::from_str(line).unwrap(), ending.status.code().unwrap())
}

#[track_caller]
fn count(figures: &Value, name: &str) -> u64 {
    figures[name].as_u64().unwrap_or_else(|| panic!("{name} is a count: {figures}"))
}

/// A UDP server in a thread: `answer` is called with each datagram and its number, and returns the
/// replies.
struct UdpServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpServer {
    fn start(mut answer: impl FnMut(usize, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) -> UdpServer {
        let socket = UdpSocket::bind(any_port()).unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (address, stop) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stop_requested = stop.clone();
        let thread = thread::spawn(move || {
            let (mut buffer, mut number) = (vec![0; 65_536], 0);
            while !stop_requested.load(Ordering::Relaxed) {
                let (length, peer) = match socket.recv_from(&mut buffer) {
                    Ok(received) => received,
                    Err(error)
                        if [ErrorKind::WouldBlock, ErrorKind::Interrupted]
                            .contains(&error.kind()) =>
                    {
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
                for reply in answer(number, buffer[..length].to_vec()) {
                    // It fails if the client is gone.
                    let _ = socket.send_to(&reply, peer);
                }
                number += 1;
            }
        });
        UdpServer { address, stop, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("udp://{}", self.address)
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Starts a TCP server in a thread: it answers a hundred messages on one connection, and then calls
/// `then`. Returns the thread and the URL.
fn answer_a_hundred(then: impl FnOnce(TcpStream) + Send + 'static) -> (JoinHandle<()>, String) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut message = [0; 64];
        for _ in 0..100 {
            stream.read_exact(&mut message).unwrap();
            stream.write_all(&message).unwrap();
        }
        then(stream);
    });
    (server, url)
}

/// Reads and discards until the client closes.
fn discard(mut stream: TcpStream) {
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}
