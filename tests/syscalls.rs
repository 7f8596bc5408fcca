//! What a conversation costs in system calls, as strace counts them.
//!
//! Where strace is not installed, or may not trace, nothing can be counted: then each test says so in one line and passes.

#![cfg(target_os = "linux")]
// The helpers here unwrap as the tests do, and say why they have nothing to do.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use common::{Program, connect, connect_udp, persist, reactor};

const HTTP: [&str; 2] = ["--http", "127.0.0.1:0"];
const UDP: [&str; 2] = ["--udp", "127.0.0.1:0"];
const REPLY_END: &[u8] = b"\r\n\r\nHello, World!";

/// The calls that the program made, one per line, in order.
struct Calls(Vec<String>);

/// Runs the program with `arguments` while strace watches it and `talk` talks to it.
fn trace(name: &str, arguments: &[&str], talk: impl FnOnce(&Program)) -> Option<Calls> {
    if !Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .output()
        .is_ok_and(|run| run.status.success())
    {
        println!("strace is not installed or may not trace: no system call was counted");
        return None;
    }
    // With -D it is strace that runs beside: our child, which we signal and wait for, is the program itself.
    let file = format!("{}/{name}.strace", env!("CARGO_TARGET_TMPDIR"));
    let mut strace = Command::new("strace");
    strace.args([
        "-D",
        "-o",
        &file,
        "-e",
        "trace=accept4,recvfrom,sendto,recvmmsg,sendmmsg,close,epoll_ctl",
    ]);
    strace.arg(reactor().get_program()).args(arguments).env_remove("RUST_LOG");
    let mut program = Program::spawn(&mut strace);
    program.read_addresses(arguments);
    talk(&program);
    assert_eq!(program.stop().status.code(), Some(0));
    Some(Calls(fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()))
}

impl Calls {
    /// From the first call on that begins with `call` and succeeds; and what that returned.
    fn since(self, call: &str) -> (Calls, String) {
        let is_it = |line: &String| line.starts_with(call) && !line.contains("= -1");
        let rest: Vec<String> = self.0.into_iter().skip_while(|line| !is_it(line)).collect();
        let returned = rest
            .first()
            .and_then(|line| line.rsplit_once("= "))
            .expect("the call was made")
            .1
            .to_owned();
        (Calls(rest), returned)
    }

    /// How many begin with `call`.
    fn count(&self, call: &str) -> usize {
        self.0.iter().filter(|line| line.starts_with(call)).count()
    }
}

/// Reads one whole reply.
fn read_reply(stream: &mut TcpStream) {
    let mut reply = Vec::new();
    while !reply.ends_with(REPLY_END) {
        let mut piece = [0; 1024];
        let count = persist(|| stream.read(&mut piece)).unwrap();
        assert_ne!(count, 0, "the end after {:?}", String::from_utf8_lossy(&reply));
        reply.extend_from_slice(&piece[..count]);
    }
}

#[test]
fn a_request_costs_one_recv_and_one_send_and_a_connection_one_epoll_ctl() {
    // A thousand requests on one connection, each sent when the last is answered. Beyond them, a recv or two finds that
    // there is nothing yet, or that the peer has ended. Only calls on the connection's own descriptor are counted, for
    // signals pass through recv and send too; but the one epoll_ctl must be the only one from then on.
    let calls = trace("keep-alive", &HTTP, |program| {
        let mut stream = connect(program.http());
        for _ in 0..1000 {
            stream.write_all(b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            read_reply(&mut stream);
        }
    });
    let Some(calls) = calls else { return };
    let (calls, descriptor) = calls.since("accept4(");
    let receives = calls.count(&format!("recvfrom({descriptor},"));
    assert!((1000..=1003).contains(&receives), "{receives} recv for 1,000 requests");
    assert_eq!(calls.count(&format!("sendto({descriptor},")), 1000, "one send per request");
    assert!(calls.count("epoll_ctl(") <= 1, "one epoll_ctl per connection");
}

#[test]
fn a_short_exchange_that_has_already_arrived_costs_no_epoll_ctl() {
    // The program is held until the request is there. It asks for the end, so that nothing has to be waited for.
    let calls = trace("short", &HTTP, |program| {
        let mut stream = program.while_held(|| {
            let mut stream = connect(program.http());
            stream
                .write_all(
                    b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                )
                .unwrap();
            stream
        });
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        assert!(reply.ends_with(REPLY_END), "{:?}", String::from_utf8_lossy(&reply));
    });
    let Some(calls) = calls else { return };
    let (calls, descriptor) = calls.since("accept4(");
    assert_eq!(calls.count(&format!("sendto({descriptor},")), 1);
    assert_eq!(calls.count(&format!("close({descriptor})")), 1);
    assert_eq!(calls.count("epoll_ctl("), 0);
}

#[test]
fn a_datagram_costs_one_receive_and_one_send_and_no_epoll_ctl() {
    // A thousand, each sent when the last is answered. The socket is watched from the start, for reading; to be told that
    // it can be written would wake the program once more for every reply, when the kernel has delivered it.
    let calls = trace("datagrams", &UDP, |program| {
        let socket = connect_udp(program.udp());
        for _ in 0..1000 {
            socket.send(b"hello").unwrap();
            assert_eq!(persist(|| socket.recv(&mut [0; 10])).unwrap(), 5);
        }
    });
    let Some(calls) = calls else { return };
    let (calls, _) = calls.since("recvmmsg(");
    let receives = calls.count("recvmmsg(");
    assert!((1000..=1001).contains(&receives), "{receives} receives for 1,000 datagrams");
    assert_eq!(calls.count("sendmmsg("), 1000, "one send per datagram");
    assert_eq!(calls.count("epoll_ctl("), 0);
}
