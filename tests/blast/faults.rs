//! Servers that misbehave: corrupt, lost, duplicated or reordered replies, and early ends.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::thread;

use serde_json::Value;

use super::{UdpServer, answer_a_hundred, blast, count, discard, figures};
use crate::common::{Program, TIMEOUT, any_port, stay_where_refusals_arrive};

#[test]
fn every_corrupt_reply_is_counted_and_exits_1() {
    // One byte is wrong, at another offset each time, or the reply is one byte too short or too
    // long.
    let server = UdpServer::start(|number, mut datagram| {
        if number % 10 == 9 {
            match number / 10 % 3 {
                0 => {
                    let at = number / 10 % datagram.len();
                    datagram[at] ^= 0x55;
                }
                1 => drop(datagram.pop()),
                _ => datagram.push(0),
            }
        }
        vec![datagram]
    });
    let (figures, status) = figures(&server.url(), &["--rate", "2000", "--duration", "500ms"]);
    let [sent, received, corrupt] =
        ["sent", "received", "corrupt"].map(|name| count(&figures, name));
    assert_eq!((status, sent / 10), (1, corrupt), "{figures}");
    assert_eq!(received + corrupt, sent, "{figures}");
}

#[test]
fn wrong_byte_on_a_stream_aborts_the_connection() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let (mut message, mut number) = ([0; 64], 0);
        // Until the client closes.
        while stream.read_exact(&mut message).is_ok() {
            message[40] ^= u8::from(number == 100);
            number += 1;
            if stream.write_all(&message).is_err() {
                break;
            }
        }
        number
    });
    let (figures, status) = figures(&url, &["--connections", "1", "--duration", "60s"]);
    assert_eq!(
        (status, count(&figures, "received"), count(&figures, "corrupt")),
        (1, 100, 1),
        "{figures}"
    );
    assert_eq!(server.join().unwrap(), 101);
}

#[test]
fn duplicated_replies_do_not_widen_the_window() {
    // Over TCP, each message is answered twice in one write. With one in flight, one message comes
    // per answer.
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut buffer = [0; 64 * 1024];
        let mut read_max = 0;
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            read_max = read_max.max(length);
            if stream.write_all(&buffer[..length].repeat(2)).is_err() {
                break;
            }
        }
        read_max
    });
    let (figures, _) = figures(&url, &["--connections", "1"]);
    assert!(count(&figures, "duplicates") > 1, "{figures}");
    assert_eq!(server.join().unwrap(), 64, "{figures}");
}

/// Runs a load with four messages in flight on one connection. `answer` returns the replies to each
/// four. Returns the figures and the error line.
fn error_for(answer: impl Fn([&[u8]; 4]) -> Vec<u8> + Send + 'static) -> (Value, String) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut messages = [0; 4 * 64];
        // Until the client closes.
        while stream.read_exact(&mut messages).is_ok() {
            let four = std::array::from_fn(|index| &messages[index * 64..][..64]);
            if stream.write_all(&answer(four)).is_err() {
                break;
            }
        }
    });
    let ending =
        blast(&url, &["--connections", "1", "--window", "4", "--duration", "100ms", "--json"]);
    server.join().unwrap();
    let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
    assert_eq!(ending.status.code(), Some(1), "{line}");
    assert!(line.starts_with(&format!("reactor: {url}: ")), "{line}");
    (serde_json::from_str(&ending.stdout[0]).unwrap(), line.clone())
}

#[test]
fn duplicated_reordered_or_missing_replies_on_a_stream_exit_1() {
    // Each reply is right to the last byte, but on a stream the order is part of what was sent.
    // Duplicates and reordered replies are counted as over UDP.
    let (figures, line) = error_for(|[a, b, c, d]| [a, a, b, c, d].concat());
    assert!(
        count(&figures, "duplicates") > 0 && line.contains("not what was sent"),
        "{line}: {figures}"
    );
    assert!(
        line.contains(&format!("{} replies ", count(&figures, "duplicates"))),
        "{line}: {figures}"
    );
    assert_eq!(count(&figures, "misplaced"), count(&figures, "duplicates"), "{figures}");
    let (figures, line) = error_for(|[a, b, c, d]| [b, a, c, d].concat());
    assert!(
        count(&figures, "reordered") > 0 && line.contains("not what was sent"),
        "{line}: {figures}"
    );
    assert!(count(&figures, "misplaced") > 0, "{figures}");
    // One reply is missing. Those after it are right, and in order.
    let (figures, line) = error_for(|[a, _, c, d]| [a, c, d].concat());
    assert!(count(&figures, "lost") > 0 && line.contains("not what was sent"), "{line}: {figures}");
    assert!(count(&figures, "misplaced") > 0, "{figures}");
    assert_eq!(
        ["duplicates", "reordered", "corrupt"].map(|name| count(&figures, name)),
        [0; 3],
        "{figures}"
    );
}

#[test]
fn tcp_server_gone_midway_is_reported_with_the_figures_so_far() {
    // The server answers a hundred messages and sends its FIN, where both loops would run for an
    // hour. It does not close: with unread input that would be a reset, and might destroy the last
    // replies.
    for pace in [["--window", "1"], ["--rate", "1000"]] {
        let (server, url) = answer_a_hundred(|stream| {
            stream.shutdown(Shutdown::Write).unwrap();
            discard(stream);
        });
        let ending = blast(
            &url,
            &[&pace[..], &["--connections", "1", "--duration", "1h", "--json"]].concat(),
        );
        server.join().unwrap();
        let figures: Value = serde_json::from_str(&ending.stdout[0]).unwrap();
        assert_eq!((count(&figures, "received"), count(&figures, "errors")), (100, 1), "{figures}");
        assert_eq!(ending.status.code(), Some(1), "{figures}");
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        assert!(line.starts_with(&format!("reactor: {url}: server gone (")), "{line}");
    }
}

#[test]
fn repeated_reply_to_a_forgotten_message_is_a_duplicate() {
    // Over TCP, each message is answered by itself and the one before. One is in flight, and no
    // more is remembered.
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let (mut message, mut before) = ([0; 64], Vec::new());
        while stream.read_exact(&mut message).is_ok() {
            if stream.write_all(&[&message[..], &before].concat()).is_err() {
                break;
            }
            before = message.to_vec();
        }
    });
    let (figures, status) = figures(&url, &["--connections", "1", "--duration", "1s"]);
    server.join().unwrap();
    assert_eq!((status, count(&figures, "expired")), (1, 0), "{figures}");
    assert!(count(&figures, "duplicates") > 1, "{figures}");
}

#[test]
fn udp_server_gone_midway_is_reported_with_the_figures_so_far() {
    if !stay_where_refusals_arrive() {
        return;
    }
    // Over UDP, the server answers a hundred messages and closes its socket. Later messages are
    // answered with ICMP port unreachable, until the load ends.
    for pace in [["--window", "4"], ["--rate", "1000"]] {
        let socket = UdpSocket::bind(any_port()).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        let url = format!("udp://{}", socket.local_addr().unwrap());
        let server = thread::spawn(move || {
            let mut message = [0; 64];
            for _ in 0..100 {
                let (_, peer) = socket.recv_from(&mut message).unwrap();
                socket.send_to(&message, peer).unwrap();
            }
        });
        let ending = blast(&url, &[&pace[..], &["--duration", "1s", "--json"]].concat());
        server.join().unwrap();
        let figures: Value = serde_json::from_str(&ending.stdout[0]).unwrap();
        assert_eq!(count(&figures, "received"), 100, "{figures}");
        let errors = count(&figures, "errors");
        assert!(errors > 0, "{figures}");
        assert_eq!(count(&figures["error_kinds"], "connection refused"), errors, "{figures}");
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        assert_eq!(line, &format!("reactor: {url}: server gone (connection refused)"));
        assert_eq!(ending.status.code(), Some(1), "{figures}");
    }
}

#[test]
fn lost_duplicated_or_reordered_datagrams_are_counted_and_exit_0() {
    // Of each ten datagrams, one has no reply, one has two, and one is overtaken by the next.
    let mut delayed = None;
    let server = UdpServer::start(move |number, datagram| match number % 10 {
        3 => vec![],
        5 => vec![datagram.clone(), datagram],
        7 => {
            delayed = Some(datagram);
            vec![]
        }
        _ => [Some(datagram), delayed.take()].into_iter().flatten().collect(),
    });
    let (figures, status) = figures(&server.url(), &["--rate", "4000", "--duration", "500ms"]);
    let sent = count(&figures, "sent");
    let of_each_ten = |digit: u64| (sent + 9 - digit) / 10; // numbers sent that end with it
    assert_eq!(status, 0);
    assert_eq!(count(&figures, "duplicates"), of_each_ten(5), "{figures}");
    assert_eq!(count(&figures, "reordered"), of_each_ten(8), "{figures}");
    assert_eq!(
        count(&figures, "lost"),
        of_each_ten(3) + of_each_ten(7) - of_each_ten(8),
        "{figures}"
    );
    assert_eq!(count(&figures, "corrupt"), 0, "{figures}");
}

#[test]
fn closed_loop_continues_after_losing_a_whole_window() {
    // Three windows of 10 have no reply, one after the other, and never more than 10 are in flight.
    let server =
        UdpServer::start(
            |number, datagram| {
                if (100..130).contains(&number) { vec![] } else { vec![datagram] }
            },
        );
    let (figures, status) = figures(&server.url(), &["--window", "10", "--duration", "2s"]);
    assert_eq!((status, count(&figures, "lost")), (0, 30), "{figures}");
    assert!(count(&figures, "received") > 100, "{figures}");
}

#[test]
fn reply_prefix_is_expected_if_named_and_corrupt_if_not() {
    let program = Program::start(&["--udp", "127.0.0.1:0", "--prefix", "echo -> "]);
    let url = format!("udp://{}", program.udp());
    let (matching, status) = figures(&url, &["--prefix", "echo -> "]);
    assert_eq!((status, count(&matching, "corrupt")), (0, 0), "{matching}");
    let (wrong, status) = figures(&url, &[]);
    assert_eq!((status, count(&wrong, "received")), (1, 0), "{wrong}");
    assert!(count(&wrong, "corrupt") > 0, "{wrong}");
}
