//! Servers that are no echo servers: the one error line says what came instead.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::{Ending, UdpServer, blast};
use crate::common::{TIMEOUT, any_port, reset};

/// Runs a load over one TCP connection against a server that calls `serve` with it.
fn against_tcp(serve: impl FnOnce(TcpStream) + Send + 'static) -> Ending {
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        serve(stream);
    });
    let ending = blast(&url, &["--connections", "1", "--duration", "200ms"]);
    server.join().unwrap();
    ending
}

/// Checks that the load has failed, with one line that has all of `words`.
#[track_caller]
fn check_line(ending: &Ending, words: &[&str]) {
    let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
    assert_eq!(ending.status.code(), Some(1), "{line}");
    for word in words {
        assert!(line.contains(word), "{word:?} is missing: {line}");
    }
}

// pitfall: 162
#[test]
fn tcp_server_that_is_no_echo_is_named_as_such() {
    check_line(&against_tcp(drop), &["no reply (connection ", "by the server)", "no echo server"]);
    check_line(
        &against_tcp(reset),
        &["no reply (connection reset by the server)", "no echo server"],
    );
    // A short text that is no whole reply, and then the end, or nothing more.
    let banner = |mut stream: TcpStream| stream.write_all(b"220 mail ready\r\n").unwrap();
    let closes = against_tcp(move |mut stream| {
        stream.read_exact(&mut [0; 64]).unwrap();
        banner(stream);
    });
    check_line(&closes, &["closed by the server", "no echo server", r#"220 mail ready\r\n"#]);
    let stays = against_tcp(move |stream| {
        banner(stream.try_clone().unwrap());
        super::discard(stream);
    });
    check_line(&stays, &["no reply (1 messages sent)", "no echo server", r#"220 mail ready\r\n"#]);
    // As long as a reply, or longer.
    let other = against_tcp(|mut stream| {
        stream.write_all("HTTP/1.1 400 Bad Request\r\n".repeat(9).as_bytes()).unwrap();
        super::discard(stream);
    });
    check_line(
        &other,
        &["1 replies are not", "no echo server", r#""HTTP/1.1 400 Bad Request\r\n"#],
    );
    check_line(&against_tcp(super::discard), &["no reply (1 messages sent)", "sends nothing back"]);
}

// pitfall: 162
#[test]
fn tcp_server_with_a_prefix_is_told_from_one_that_is_no_echo() {
    let ending = against_tcp(|mut stream| {
        let mut message = [0; 64];
        stream.read_exact(&mut message).unwrap();
        stream.write_all(&[b"echo -> ", &message[..]].concat()).unwrap();
        super::discard(stream);
    });
    check_line(&ending, &["sends a prefix", "over TCP", "\"echo -> "]);
}

// pitfall: 162
#[test]
fn wrong_datagrams_are_described_by_the_first_one() {
    type Answer = fn(usize, Vec<u8>) -> Vec<Vec<u8>>;
    let cases: [(Answer, &[&str], &[&str]); 6] = [
        (
            |_, _| vec![b"hello".to_vec()],
            &[],
            &["no echo server", "5 bytes instead of 64", "\"hello\""],
        ),
        (|_, sent| vec![[b"echo -> ", &sent[..]].concat()], &[], &["try --prefix \"echo -> \""]),
        (|_, sent| vec![sent], &["--prefix", "echo -> "], &["leave --prefix out"]),
        (|_, sent| vec![sent[..40].to_vec()], &[], &["cuts messages short", "40 bytes"]),
        (|_, sent| vec![[&sent[..], b"!"].concat()], &[], &["adds bytes", "65 bytes"]),
        (|_, _| vec![], &[], &["no reply (", "dropped on the way"]),
    ];
    for (answer, arguments, words) in cases {
        let server = UdpServer::start(answer);
        let ending = blast(&server.url(), &[arguments, &["--duration", "100ms"]].concat());
        check_line(&ending, words);
    }
}
