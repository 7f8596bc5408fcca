//! Servers that do what they should not.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::thread;

use super::{Server, answers_a_hundred, blast, count, figures, only_reads};
use crate::common::{PATIENCE, Program, any_port};
use serde_json::Value;

#[test]
fn every_tenth_reply_that_is_not_what_was_sent_is_noticed() {
    // One byte is wrong, in another place each time; or the reply is a byte too short, or too long.
    let server = Server::new(|number, mut datagram| {
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
    let (figures, status) = figures(&server.url(), &["--rate", "2000", "--duration", "0.5"]);
    let [sent, received, corrupt] =
        ["sent", "received", "corrupt"].map(|name| count(&figures, name));
    assert_eq!((status, sent / 10), (1, corrupt), "{figures}");
    assert_eq!(received + corrupt, sent, "{figures}");
}

#[test]
fn a_stream_with_a_wrong_byte_in_it_is_not_believed_any_further() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut message, mut number) = ([0; 64], 0);
        // Until the other side has had enough.
        while stream.read_exact(&mut message).is_ok() {
            message[40] ^= u8::from(number == 100);
            number += 1;
            if stream.write_all(&message).is_err() {
                break;
            }
        }
        number
    });
    let (figures, status) = figures(&url, &["--connections", "1", "--duration", "60"]);
    assert_eq!(
        (status, count(&figures, "received"), count(&figures, "corrupt")),
        (1, 100, 1),
        "{figures}"
    );
    assert_eq!(server.join().unwrap(), 101);
}

#[test]
fn a_window_stays_as_it_is_although_each_reply_comes_twice() {
    // Over TCP, in one piece each: a message is answered by two of it. There is one under way, so one comes for each answer.
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
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

/// Four messages are under way on one connection, and `answer` says what goes back for each four. Returns the figures, and the
/// line that it complains with.
fn complaint_about(answer: impl Fn([&[u8]; 4]) -> Vec<u8> + Send + 'static) -> (Value, String) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut messages = [0; 4 * 64];
        // Until the other side has had enough.
        while stream.read_exact(&mut messages).is_ok() {
            let each = std::array::from_fn(|place| &messages[place * 64..][..64]);
            if stream.write_all(&answer(each)).is_err() {
                break;
            }
        }
    });
    let ending =
        blast(&url, &["--connections", "1", "--window", "4", "--duration", "0.1", "--json"]);
    server.join().unwrap();
    let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
    assert_eq!(ending.status.code(), Some(1), "{line}");
    assert!(line.starts_with(&format!("reactor: {url}: ")), "{line}");
    (serde_json::from_str(&ending.stdout[0]).unwrap(), line.clone())
}

#[test]
fn a_stream_is_not_what_was_sent_if_whole_messages_come_twice_or_out_of_order_or_are_missing() {
    // Each message is right, to the last byte; but on a stream the order is part of what was sent. It is counted as over UDP.
    let (figures, line) = complaint_about(|[a, b, c, d]| [a, a, b, c, d].concat());
    assert!(
        count(&figures, "duplicates") > 0 && line.contains("not what was sent"),
        "{line}: {figures}"
    );
    assert!(
        line.contains(&format!("{} replies ", count(&figures, "duplicates"))),
        "{line}: {figures}"
    );
    let (figures, line) = complaint_about(|[a, b, c, d]| [b, a, c, d].concat());
    assert!(
        count(&figures, "reordered") > 0 && line.contains("not what was sent"),
        "{line}: {figures}"
    );
    // One is missing; what comes behind it is right, and in order.
    let (figures, line) = complaint_about(|[a, _, c, d]| [a, c, d].concat());
    assert!(count(&figures, "lost") > 0 && line.contains("not what was sent"), "{line}: {figures}");
    assert_eq!(
        ["duplicates", "reordered", "corrupt"].map(|name| count(&figures, name)),
        [0; 3],
        "{figures}"
    );
}

#[test]
fn a_server_that_leaves_in_the_middle_is_told_with_the_table_so_far() {
    // It answers a hundred messages and ends the stream, where both loops would go on for an hour. To close it might reset it, if
    // there is more to read, and destroy the last replies.
    for pace in [["--window", "1"], ["--rate", "1000"]] {
        let (server, url) = answers_a_hundred(|stream| {
            stream.shutdown(Shutdown::Write).unwrap();
            only_reads(stream);
        });
        let ending = blast(
            &url,
            &[&pace[..], &["--connections", "1", "--duration", "3600", "--json"]].concat(),
        );
        server.join().unwrap();
        let figures: Value = serde_json::from_str(&ending.stdout[0]).unwrap();
        assert_eq!((count(&figures, "received"), count(&figures, "errors")), (100, 1), "{figures}");
        assert_eq!(ending.status.code(), Some(1), "{figures}");
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        assert!(line.starts_with(&format!("reactor: {url}: the server has left")), "{line}");
    }
}

#[test]
fn a_reply_that_comes_again_later_is_a_duplicate_although_its_message_is_long_forgotten() {
    // Over TCP each message is answered by itself and the one before. There is one under way, and no more is remembered.
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut message, mut before) = ([0; 64], Vec::new());
        while stream.read_exact(&mut message).is_ok() {
            if stream.write_all(&[&message[..], &before].concat()).is_err() {
                break;
            }
            before = message.to_vec();
        }
    });
    let (figures, status) = figures(&url, &["--connections", "1"]);
    server.join().unwrap();
    assert_eq!((status, count(&figures, "too_late")), (1, 0), "{figures}");
    assert!(count(&figures, "duplicates") > 1, "{figures}");
}

#[test]
fn a_server_whose_port_is_closed_in_the_middle_is_told_with_the_table() {
    // Over UDP it answers a hundred messages and is gone. What is sent then is refused, up to the end of both loops.
    for pace in [["--window", "4"], ["--rate", "1000"]] {
        let socket = UdpSocket::bind(any_port()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("udp://{}", socket.local_addr().unwrap());
        let server = thread::spawn(move || {
            let mut message = [0; 64];
            for _ in 0..100 {
                let (_, peer) = socket.recv_from(&mut message).unwrap();
                socket.send_to(&message, peer).unwrap();
            }
        });
        let ending = blast(&url, &[&pace[..], &["--duration", "1", "--json"]].concat());
        server.join().unwrap();
        let figures: Value = serde_json::from_str(&ending.stdout[0]).unwrap();
        assert_eq!(count(&figures, "received"), 100, "{figures}");
        assert!(count(&figures, "errors") > 0, "{figures}");
        let [line] = &ending.stderr[..] else { panic!("one line: {:?}", ending.stderr) };
        assert_eq!(line, &format!("reactor: {url}: the server has left (connection refused)"));
        assert_eq!(ending.status.code(), Some(1), "{figures}");
    }
}

#[test]
fn what_is_lost_doubled_or_overtaken_is_counted_and_no_failure() {
    // Of each ten datagrams, one has no reply, one has two, and one is overtaken by the next.
    let mut held = None;
    let server = Server::new(move |number, datagram| match number % 10 {
        3 => vec![],
        5 => vec![datagram.clone(), datagram],
        7 => {
            held = Some(datagram);
            vec![]
        }
        _ => [Some(datagram), held.take()].into_iter().flatten().collect(),
    });
    let (figures, status) = figures(&server.url(), &["--rate", "4000", "--duration", "0.5"]);
    let sent = count(&figures, "sent");
    let of_each_ten = |place: u64| (sent + 9 - place) / 10;
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
fn a_closed_loop_goes_on_although_all_that_was_under_way_is_lost() {
    // The first 50 have no reply, and there are never more than 10 under way.
    let server = Server::new(|number, datagram| if number < 50 { vec![] } else { vec![datagram] });
    let (figures, status) = figures(&server.url(), &["--window", "10", "--duration", "1.5"]);
    assert_eq!((status, count(&figures, "lost")), (0, 50), "{figures}");
    assert!(count(&figures, "received") > 0);
}

#[test]
fn a_prefix_is_part_of_each_reply_if_it_is_asked_for_and_wrong_if_not() {
    let program = Program::start(&["--udp", "127.0.0.1:0", "--prefix", "echo -> "]);
    let url = format!("udp://{}", program.udp());
    let (asked_for, status) = figures(&url, &["--prefix", "echo -> "]);
    assert_eq!((status, count(&asked_for, "corrupt")), (0, 0), "{asked_for}");
    let (wrong, status) = figures(&url, &[]);
    assert_eq!((status, count(&wrong, "received")), (1, 0), "{wrong}");
    assert!(count(&wrong, "corrupt") > 0, "{wrong}");
}
