//! The key-value store of docs/examples, over real sockets and with redis-cli and redis-benchmark.

// The helpers here unwrap as the tests do, and a test that cannot run here prints that it is
// skipped.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "../docs/examples/kv.rs"]
mod kv;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::Command;
use std::thread;

use common::{
    Program, any_port, be_server, check_layered, connect, is_layered, listen_layered, pattern,
};
use mio_reactor::{Limits, Reactor};

/// Runs a store in a thread of its own, which ends with the test. Returns its address.
fn start() -> SocketAddr {
    start_with(1 << 20)
}

fn start_with(bytes_max: usize) -> SocketAddr {
    let (send_address, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        send_address.send(listen(&mut reactor, bytes_max).unwrap()).unwrap();
        reactor.run().unwrap();
    });
    address.recv().unwrap()
}

fn listen(reactor: &mut Reactor, bytes_max: usize) -> io::Result<SocketAddr> {
    if is_layered() {
        listen_layered(reactor, kv::store(bytes_max))
    } else {
        kv::listen(reactor, any_port(), bytes_max)
    }
}

/// Returns a command in the form in which redis-cli sends it.
fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Sends `requests` in pieces of `piece` bytes, and then a FIN. The replies are exactly `replies`.
#[track_caller]
fn check(address: SocketAddr, requests: &[u8], piece: usize, replies: &[u8]) {
    let mut stream = connect(address);
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let pieces: Vec<Vec<u8>> = requests.chunks(piece).map(<[u8]>::to_vec).collect();
    let writing = thread::spawn(move || {
        for piece in pieces {
            if writer.write_all(&piece).is_err() {
                return; // the store has closed the connection after an error
            }
        }
        let _ = writer.shutdown(Shutdown::Write);
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert_eq!(received.escape_ascii().to_string(), replies.escape_ascii().to_string());
}

#[test]
fn store_inside_a_layer_passes_the_same_tests() {
    check_layered("store_inside_a_layer_passes_the_same_tests");
}

#[test]
fn set_values_are_returned_until_they_are_deleted() {
    // Over several connections, since all share one store, and with binary keys and values, since
    // only their length ends them.
    let address = start();
    let value = pattern(7, 20_000);
    check(address, &command(&[b"SET", b"a\r\n", &value]), 5000, b"+OK\r\n");
    let expected = [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
    check(address, &command(&[b"get", b"a\r\n"]), 5000, &expected);
    check(address, &command(&[b"SET", b"b", b""]), 5000, b"+OK\r\n");
    check(address, &command(&[b"GET", b"b"]), 5000, b"$0\r\n\r\n");
    check(address, &command(&[b"DEL", b"a\r\n", b"b", b"c", b"b"]), 5000, b":2\r\n");
    check(address, &command(&[b"GET", b"a\r\n"]), 5000, b"$-1\r\n");
}

#[test]
fn pipelined_commands_are_answered_in_order_in_any_pieces() {
    let address = start();
    let mut requests = b"PING\r\n\r\nping  hello\r\n".to_vec();
    let mut replies = b"+PONG\r\n$5\r\nhello\r\n".to_vec();
    for number in 0..200 {
        let (key, value) = (format!("key {}", number % 7), format!("value {number}"));
        requests.extend(command(&[b"SET", key.as_bytes(), value.as_bytes()]));
        requests.extend(command(&[b"GET", key.as_bytes()]));
        replies.extend(format!("+OK\r\n${}\r\n{value}\r\n", value.len()).as_bytes());
    }
    for piece in [1, 3, 50, requests.len()] {
        check(address, &requests, piece, &replies);
    }
}

#[test]
fn errors_are_replied_and_protocol_errors_close_the_connection() {
    let address = start();
    for (request, reply) in [
        (&b"FROB\r\nPING\r\n"[..], &b"-ERR unknown command\r\n+PONG\r\n"[..]),
        (b"GET\r\nPING\r\n", b"-ERR wrong number of arguments\r\n+PONG\r\n"),
        (b"*1\r\n:4\r\nPING\r\n", b"-ERR Protocol error: expected '$'\r\n"),
        (b"*-1\r\nPING\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*17\r\nPING\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$4000000000\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (
            b"*1\r\n$4\r\nPINGPONG\r\n",
            b"-ERR Protocol error: a string is longer than its length\r\n",
        ),
        (b"QUIT\r\nPING\r\n", b"+OK\r\n"),
    ] {
        check(address, request, request.len(), reply);
    }
    // Each argument is short enough, but the whole command is more than INPUT_BYTES_MAX.
    let large = [b'x'; 32 * 1024];
    check(
        address,
        &command(&[b"DEL", &large, &large, &large]),
        10_000,
        b"-ERR Protocol error: too big a command\r\n",
    );
    // A line is searched from its beginning for each byte that arrives, so it has to be short.
    check(address, &[b'x'; 1024], 1024, b"-ERR Protocol error: too big inline request\r\n");
    check(
        address,
        &[&b"*1\r\n$"[..], &[b'0'; 1024]].concat(),
        1024,
        b"-ERR Protocol error: too big inline request\r\n",
    );
}

#[test]
fn full_store_rejects_set_and_counts_the_overhead_of_entries() {
    // Twenty entries of two bytes each are far less than 2,000 bytes, but each has an overhead.
    let address = start_with(2000);
    let sets: String =
        (0..20).map(|number| format!("SET {} x\r\n", char::from(b'a' + number))).collect();
    let replies = ["+OK\r\n".repeat(6), "-OOM the store is full\r\n".repeat(14)].concat();
    check(address, sets.as_bytes(), 100, replies.as_bytes());
    check(
        address,
        b"SET a y\r\nGET a\r\nDEL b t\r\nSET t x\r\n",
        100,
        b"+OK\r\n$1\r\ny\r\n:1\r\n+OK\r\n",
    );
}

#[test]
#[ignore = "the store in a process of its own, which another test starts"]
fn be_a_store() {
    be_server(|reactor, bytes_max| listen(reactor, bytes_max.parse().unwrap()));
}

#[test]
#[cfg(target_os = "linux")]
fn memory_stays_below_the_bound_whatever_was_stored_before() {
    // The store is filled with short values, most of whose cost is the table, and emptied. Then it
    // is filled with long ones.
    const BYTES_MAX: usize = 18 << 20;
    const SHORT: usize = 60_000;
    const LONG: usize = 15_500;
    let (store, address) = Program::start_server("be_a_store", &BYTES_MAX.to_string());
    let before_kib = store.memory_kib("VmRSS");
    let check_each = |name: &str, value: &str, count: usize, reply: &str| {
        let requests: String =
            (0..count).map(|number| format!("{name} {number} {value}\r\n")).collect();
        check(address, requests.as_bytes(), requests.len(), reply.repeat(count).as_bytes());
    };
    check_each("SET", "x", SHORT, "+OK\r\n");
    check_each("DEL", "", SHORT, ":1\r\n");
    check_each("SET", &"x".repeat(900), LONG, "+OK\r\n");
    let grown_kib = store.memory_kib("VmRSS") - before_kib;
    assert!(grown_kib * 1024 < BYTES_MAX, "{grown_kib} KiB");
}

#[test]
fn redis_cli_and_redis_benchmark_can_use_the_store() {
    // Where they are not installed, the tests above stand for what they send.
    let address = start();
    let run = |program: &str, arguments: &[&str]| {
        let port = address.port().to_string();
        let output = Command::new(program)
            .args(["-h", "127.0.0.1", "-p", &port])
            .args(arguments)
            .output()
            .ok()?;
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        Some(String::from_utf8(output.stdout).unwrap())
    };
    let Some(set) = run("redis-cli", &["SET", "greeting", "Hello world"]) else {
        println!("skipped: redis-cli is not installed");
        return;
    };
    assert_eq!(set, "OK\n");
    assert_eq!(run("redis-cli", &["GET", "greeting"]).unwrap(), "Hello world\n");
    assert_eq!(run("redis-cli", &["DEL", "greeting"]).unwrap(), "1\n");
    assert_eq!(run("redis-cli", &["PING"]).unwrap(), "PONG\n");
    let figures =
        run("redis-benchmark", &["-t", "get,set", "-P", "16", "-n", "20000", "-q"]).unwrap();
    assert!(figures.contains("SET: ") && figures.contains("GET: "), "{figures}");
}
