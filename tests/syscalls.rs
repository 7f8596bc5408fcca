//! The system calls that connections and datagrams cost, counted with strace.
//!
//! Without strace, or without the permission to trace, each test prints that it is skipped, and
//! passes.

#![cfg(target_os = "linux")]
// The helpers here unwrap as the tests do, and a test that is skipped says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use common::{Program, check_echo, connect, connect_udp, reactor_through, retry_interrupted};

const HTTP: [&str; 2] = ["--http", "127.0.0.1:0"];
const UDP: [&str; 2] = ["--udp", "127.0.0.1:0"];
/// With poll(2), mio gives no event before a call has returned EAGAIN. So each message is followed
/// by another receive, which returns that or the next message. And datagrams take the calls that
/// mio sees.
const POLL: bool = cfg!(mio_unsupported_force_poll_poll);
const RESPONSE_END: &[u8] = b"\r\n\r\nHello, World!";

/// The system calls of the program, one per line, in order.
struct Calls(Vec<String>);

/// Runs the program under strace while `load` uses it. Returns its calls, or `None` if strace
/// cannot be used.
fn trace(name: &str, arguments: &[&str], load: impl FnOnce(&Program)) -> Option<Calls> {
    trace_with_log(name, arguments, load).map(|(calls, _)| calls)
}

/// The same, and the lines of its log.
fn trace_with_log(
    name: &str,
    arguments: &[&str],
    load: impl FnOnce(&Program),
) -> Option<(Calls, Vec<String>)> {
    if !Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .output()
        .is_ok_and(|run| run.status.success())
    {
        println!("skipped: strace is not installed or may not trace");
        return None;
    }
    // With -D, strace runs as a grandchild. The child, which the test signals and waits for, is the
    // program.
    let file = format!("{}/{name}.strace", env!("CARGO_TARGET_TMPDIR"));
    let trace = "trace=accept4,recvfrom,sendto,recvmmsg,sendmmsg,close,epoll_ctl,epoll_wait,\
                 epoll_pwait,shutdown,setsockopt";
    let mut strace = reactor_through(&["strace", "-D", "-o", &file, "-e", trace]);
    let mut program = Program::spawn(strace.args(arguments));
    program.read_addresses(arguments);
    load(&program);
    let ending = program.stop();
    assert_eq!(ending.status.code(), Some(0));
    let calls = fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
    Some((Calls(calls), ending.stderr))
}

impl Calls {
    /// Returns the calls from the first one on that begins with `call` and succeeds, and what that
    /// one returned.
    fn since(self, call: &str) -> (Calls, String) {
        let is_start = |line: &String| line.starts_with(call) && !line.contains("= -1");
        let rest: Vec<String> = self.0.into_iter().skip_while(|line| !is_start(line)).collect();
        let returned = rest
            .first()
            .and_then(|line| line.rsplit_once("= "))
            .expect("the call was made")
            .1
            .to_owned();
        (Calls(rest), returned)
    }

    /// Returns how many begin with `call`.
    fn count(&self, call: &str) -> usize {
        self.0.iter().filter(|line| line.starts_with(call)).count()
    }
}

/// Returns whether the first argument of the call is `descriptor`.
fn is_on(line: &str, descriptor: &str) -> bool {
    let arguments = line.split_once('(').map_or("", |(_, arguments)| arguments);
    arguments.split([',', ')']).next() == Some(descriptor)
}

/// Reads one whole response.
fn read_response(stream: &mut TcpStream) {
    let mut response = Vec::new();
    while !response.ends_with(RESPONSE_END) {
        let mut chunk = [0; 1024];
        let count = retry_interrupted(|| stream.read(&mut chunk)).unwrap();
        assert_ne!(count, 0, "end of file after {:?}", String::from_utf8_lossy(&response));
        response.extend_from_slice(&chunk[..count]);
    }
}

// pitfall: 12, 16, 28
#[test]
fn request_costs_one_recv_and_one_send_connection_one_epoll_ctl() {
    // A thousand requests on one connection, each sent when the one before is answered. Beyond
    // them, a recv or two returns EAGAIN or end of file. Only recv and send on the connection's own
    // descriptor are counted, because the stop signal uses them, too. The one epoll_ctl must be the
    // only one from the accept on.
    let calls = trace("keep-alive", &HTTP, |program| {
        let mut stream = connect(program.http());
        for _ in 0..1000 {
            stream.write_all(b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            read_response(&mut stream);
        }
    });
    let Some(calls) = calls else { return };
    let (calls, descriptor) = calls.since("accept4(");
    let receives = calls.count(&format!("recvfrom({descriptor},"));
    let most = if POLL { 2003 } else { 1003 };
    assert!((1000..=most).contains(&receives), "{receives} recv for 1,000 requests");
    assert_eq!(calls.count(&format!("sendto({descriptor},")), 1000, "one send per request");
    assert!(calls.count("epoll_ctl(") <= 1, "one epoll_ctl per connection");
}

#[test]
fn short_exchange_that_has_already_arrived_costs_no_epoll_ctl() {
    // The program is suspended until the request is in the kernel. The request asks to close, so no
    // event has to be awaited.
    let calls = trace("short", &HTTP, |program| {
        let mut stream = program.while_suspended(|| {
            let mut stream = connect(program.http());
            stream
                .write_all(
                    b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                )
                .unwrap();
            stream
        });
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        assert!(response.ends_with(RESPONSE_END), "{:?}", String::from_utf8_lossy(&response));
    });
    let Some(calls) = calls else { return };
    let (calls, descriptor) = calls.since("accept4(");
    let on_it: Vec<&String> = calls.0.iter().filter(|line| is_on(line, &descriptor)).collect();
    // With poll(2), another recv shows whether anything is unread. No other call is between the
    // send that announces the FIN and the FIN.
    let receives = on_it.iter().filter(|line| line.starts_with("recvfrom(")).count();
    assert_eq!(receives, if POLL { 2 } else { 1 }, "{on_it:?}");
    let others: Vec<_> = on_it.iter().filter(|line| !line.starts_with("recvfrom(")).collect();
    let [send, shutdown, close] = &others[..] else { panic!("three other calls: {on_it:?}") };
    assert!(send.starts_with("sendto(") && send.contains("MSG_MORE"), "{send}");
    assert!(shutdown.starts_with("shutdown(") && close.starts_with("close("), "{on_it:?}");
    assert_eq!(calls.count("epoll_ctl("), 0);
}

// pitfall: 16
#[test]
fn datagram_costs_one_recvmmsg_one_sendmmsg_and_no_epoll_ctl() {
    // A thousand datagrams, each sent when the one before is answered. The socket is registered
    // once, for reading. Registered for writing, too, it would wake the program once more for every
    // reply that the kernel has sent.
    let calls = trace("datagrams", &UDP, |program| {
        let socket = connect_udp(program.udp());
        for _ in 0..1000 {
            socket.send(b"hello").unwrap();
            assert_eq!(retry_interrupted(|| socket.recv(&mut [0; 10])).unwrap(), 5);
        }
    });
    let Some(calls) = calls else { return };
    let (receive, send, most) =
        if POLL { ("recvfrom", "sendto", 2001) } else { ("recvmmsg", "sendmmsg", 1001) };
    let (calls, _) = calls.since(receive);
    // Both calls begin with the descriptor: the stop signal uses sendto, too.
    let socket = calls.0[0].split_once(',').expect("a call has arguments").0.replace(receive, "");
    let receives = calls.count(&format!("{receive}{socket},"));
    assert!((1000..=most).contains(&receives), "{receives} receives for 1,000 datagrams");
    assert_eq!(calls.count(&format!("{send}{socket},")), 1000, "one send per datagram");
    assert_eq!(calls.count("epoll_ctl("), 0);
}

// pitfall: 242
#[test]
fn trace_log_has_the_calls_that_strace_has_in_the_same_order() {
    if POLL {
        return; // poll(2) takes other calls
    }
    let arguments = [&HTTP[..], &UDP, &["--tcp", "127.0.0.1:0", "--log", "trace"]].concat();
    let traced = trace_with_log("trace-log", &arguments, |program| {
        let mut stream = connect(program.tcp());
        check_echo(&mut stream, b"hello");
        let mut stream = connect(program.http());
        stream.write_all(b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        read_response(&mut stream);
        let socket = connect_udp(program.udp());
        socket.send(b"hello").unwrap();
        assert_eq!(retry_interrupted(|| socket.recv(&mut [0; 10])).unwrap(), 5);
    });
    let Some((Calls(calls), log)) = traced else { return };
    // The signal's handler and its reader use the same calls, on a socket pair of their own. A
    // socket is also opened for a moment, to see how many descriptors are left.
    let is_wait =
        |line: &&String| line.starts_with("epoll_wait(") || line.starts_with("epoll_pwait(");
    let made: Vec<&str> = calls
        .iter()
        .skip_while(|line| !is_wait(line))
        .filter(|line| !line.contains("MSG_DONTWAIT"))
        .filter_map(|line| line.split_once('('))
        .map(|(call, _)| if call == "epoll_pwait" { "epoll_wait" } else { call })
        .filter(|call| {
            call.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b'4')
        })
        .collect();
    let logged: Vec<&str> = log
        .iter()
        .filter_map(|line| line.split_once(" TRACE] ")?.1.split_once('('))
        .map(|(before, _)| match before.rsplit(' ').next().unwrap() {
            "recv" => "recvfrom",
            "send" => "sendto",
            call => call,
        })
        .skip_while(|call| *call != "epoll_wait")
        .collect();
    assert!(logged.len() > 20, "{log:#?}");
    assert_eq!(made[..logged.len()], logged, "what follows is closed at the exit");
    assert!(made[logged.len()..].iter().all(|call| *call == "close"), "{made:?}");
}
