//! The key-value store of docs/examples, over real sockets and with the clients it is made for.

// The helpers here unwrap as the tests do, and say why they have nothing to do.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
#[path = "../docs/examples/kv.rs"]
mod kv;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::Command;
use std::thread;

use common::{Program, any_port, be_server, connect, pattern};
use mio_reactor::{Limits, Reactor};

/// A store in a thread of its own, which goes with the test.
fn start() -> SocketAddr {
    start_with(1 << 20)
}

fn start_with(bytes_max: usize) -> SocketAddr {
    let (told, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        told.send(kv::listen(&mut reactor, any_port(), bytes_max).unwrap()).unwrap();
        reactor.run().unwrap();
    });
    address.recv().unwrap()
}

/// `words` as redis-cli sends them.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Sends `requests` in pieces of `piece` bytes, and no more; all that is answered is `answers`.
#[track_caller]
fn check(address: SocketAddr, requests: &[u8], piece: usize, answers: &[u8]) {
    let mut stream = connect(address);
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let pieces: Vec<Vec<u8>> = requests.chunks(piece).map(<[u8]>::to_vec).collect();
    let writing = thread::spawn(move || {
        for piece in pieces {
            if writer.write_all(&piece).is_err() {
                return; // we were not wanted any more
            }
        }
        let _ = writer.shutdown(Shutdown::Write);
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert_eq!(received.escape_ascii().to_string(), answers.escape_ascii().to_string());
}

#[test]
fn what_is_set_can_be_got_until_it_is_deleted() {
    // Over two connections, and binary: the store is one, and a length is all that ends a value.
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
fn pipelined_commands_are_answered_in_order_however_they_are_cut() {
    let address = start();
    let mut requests = b"PING\r\n\r\nping  hello\r\n".to_vec();
    let mut answers = b"+PONG\r\n$5\r\nhello\r\n".to_vec();
    for number in 0..200 {
        let (key, value) = (format!("key {}", number % 7), format!("value {number}"));
        requests.extend(command(&[b"SET", key.as_bytes(), value.as_bytes()]));
        requests.extend(command(&[b"GET", key.as_bytes()]));
        answers.extend(format!("+OK\r\n${}\r\n{value}\r\n", value.len()).as_bytes());
    }
    for piece in [1, 3, 50, requests.len()] {
        check(address, &requests, piece, &answers);
    }
}

#[test]
fn what_makes_no_sense_is_told_and_where_it_cannot_be_overcome_it_is_the_last() {
    let address = start();
    for (request, answer) in [
        (&b"FROB\r\nPING\r\n"[..], &b"-ERR unknown command\r\n+PONG\r\n"[..]),
        (b"GET\r\nPING\r\n", b"-ERR wrong number of arguments\r\n+PONG\r\n"),
        (b"*1\r\n:4\r\nPING\r\n", b"-ERR Protocol error: expected '$'\r\n"),
        (b"*-1\r\nPING\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*17\r\nPING\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$4000000000\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$4\r\nPINGPONG\r\n", b"-ERR Protocol error: a string is longer than it says\r\n"),
        (b"QUIT\r\nPING\r\n", b"+OK\r\n"),
    ] {
        check(address, request, request.len(), answer);
    }
    // Each word is short enough, but all of them together are more than can be waited for.
    let large = [b'x'; 32 * 1024];
    check(
        address,
        &command(&[b"DEL", &large, &large, &large]),
        10_000,
        b"-ERR Protocol error: too big a command\r\n",
    );
    // What would have to be looked through from its beginning with each byte that comes is short.
    check(address, &[b'x'; 1024], 1024, b"-ERR Protocol error: too big inline request\r\n");
    check(
        address,
        &[&b"*1\r\n$"[..], &[b'0'; 1024]].concat(),
        1024,
        b"-ERR Protocol error: too big inline request\r\n",
    );
}

#[test]
fn a_full_store_refuses_what_would_make_it_larger_and_counts_what_each_entry_takes() {
    // Twenty entries of two bytes each are far less than 2,000 bytes, but to keep them takes more.
    let address = start_with(2000);
    let sets: String =
        (0..20).map(|number| format!("SET {} x\r\n", char::from(b'a' + number))).collect();
    let answers = ["+OK\r\n".repeat(6), "-OOM the store is full\r\n".repeat(14)].concat();
    check(address, sets.as_bytes(), 100, answers.as_bytes());
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
    be_server(|reactor, bytes_max| kv::listen(reactor, any_port(), bytes_max.parse().unwrap()));
}

#[test]
#[cfg(target_os = "linux")]
fn a_store_takes_no_more_memory_than_it_may_whatever_it_has_held_before() {
    // It is filled with short values, most of whose cost is the table, and emptied; then it is filled with long ones.
    const BYTES_MAX: usize = 18 << 20;
    const SHORT: usize = 60_000;
    const LONG: usize = 15_500;
    let (store, address) = Program::start_server("be_a_store", &BYTES_MAX.to_string());
    let before_kib = store.memory_kib("VmRSS");
    let check_each = |name: &str, value: &str, count: usize, answer: &str| {
        let requests: String =
            (0..count).map(|number| format!("{name} {number} {value}\r\n")).collect();
        check(address, requests.as_bytes(), requests.len(), answer.repeat(count).as_bytes());
    };
    check_each("SET", "x", SHORT, "+OK\r\n");
    check_each("DEL", "", SHORT, ":1\r\n");
    check_each("SET", &"x".repeat(900), LONG, "+OK\r\n");
    let grown_kib = store.memory_kib("VmRSS") - before_kib;
    assert!(grown_kib * 1024 < BYTES_MAX, "{grown_kib} KiB");
}

#[test]
fn the_common_clients_can_use_it() {
    // Where they are not installed, there is nothing to show; the rows above stand for what they send.
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
        println!("redis-cli is not installed: nothing was tried with it");
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
