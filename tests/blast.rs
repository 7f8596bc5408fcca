//! The load generator, against our own server and against servers that do what they should not.

// The helpers here unwrap as the tests do, and a test that cannot be made here says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::{Ending, PATIENCE, Program, any_port, be_late, reactor};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

/// Runs `reactor blast` with `arguments` to its end.
fn blast(target: &str, arguments: &[&str]) -> Ending {
    Program::spawn(reactor().args(["blast", target]).args(arguments)).wait()
}

/// The same for a tenth of a second unless `arguments` say otherwise, with a report of figures. Returns the status, too.
fn figures(target: &str, arguments: &[&str]) -> (Value, i32) {
    let duration: &[&str] =
        if arguments.contains(&"--duration") { &[] } else { &["--duration", "0.1"] };
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

/// A UDP server in a thread: `answer` is given each datagram with its number, and says what goes back.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new(mut answer: impl FnMut(usize, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) -> Server {
        let socket = UdpSocket::bind(any_port()).unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (address, stop) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (mut buffer, mut number) = (vec![0; 65_536], 0);
            while !stopped.load(Ordering::Relaxed) {
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
                    // Who has left hears nothing.
                    let _ = socket.send_to(&reply, peer);
                }
                number += 1;
            }
        });
        Server { address, stop, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("udp://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A TCP server in a thread, and its URL: it answers a hundred messages on one connection, and then does as `then` says.
fn answers_a_hundred(then: impl FnOnce(TcpStream) + Send + 'static) -> (JoinHandle<()>, String) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut message = [0; 64];
        for _ in 0..100 {
            stream.read_exact(&mut message).unwrap();
            stream.write_all(&message).unwrap();
        }
        then(stream);
    });
    (server, url)
}

fn only_reads(mut stream: TcpStream) {
    // Until the other side has had enough.
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

// ---- what it tells

#[test]
fn the_table_tells_of_all_that_was_counted() {
    let program = Program::start(&["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]);
    for (url, clients) in [
        (format!("udp://{}", program.udp()), "1 socket"),
        (format!("tcp://{}/", program.tcp()), "64 connections"),
    ] {
        let ending = blast(&url, &["--duration", "0.1"]);
        assert_eq!((ending.status.code(), &ending.stderr[..]), (Some(0), &[][..]), "{url}");
        let table = ending.stdout.join("\n");
        assert!(
            table.starts_with(&format!("{}: 64 bytes, {clients}, ", url.trim_end_matches('/'))),
            "{table}"
        );
        for row in [
            "sent",
            "received",
            "lost",
            "duplicates",
            "reordered",
            "too late",
            "corrupt",
            "unsent",
            "errors",
        ] {
            assert!(
                ending.stdout.iter().any(|line| line.trim_start().starts_with(row)),
                "{row}: {table}"
            );
        }
        for row in ["p50", "p90", "p99", "p99.9", "p99.99", "max"] {
            assert!(
                ending.stdout.iter().any(|line| line.trim_start().starts_with(&format!("{row} "))),
                "{row}: {table}"
            );
        }
    }
}

#[test]
fn every_way_of_offering_load_gets_all_its_replies() {
    // Over UDP, in both loops and in each way of crossing, from one socket and several; and over TCP. What is lost was
    // received by nobody, and what was received was lost by nobody.
    let program =
        Program::start(&["--udp", "127.0.0.1:0", "--udp", "[::1]:0", "--tcp", "127.0.0.1:0"]);
    let udp: Vec<String> =
        program.addresses("udp echo").iter().map(|address| format!("udp://{address}")).collect();
    let tcp = format!("tcp://{}", program.tcp());
    let ways: [(&str, &[&str]); 11] = [
        (&udp[0], &["--batch", "plain"]),
        (&udp[0], &["--batch", "mmsg", "--window", "200", "--size", "1400"]),
        (&udp[1], &["--batch", "gso", "--sockets", "3"]),
        (&udp[0], &["--window", "1", "--size", "16"]),
        (&udp[0], &["--window", "4", "--size", "65507"]),
        (&udp[0], &["--rate", "5000", "--sockets", "3"]),
        (&udp[1], &["--rate", "5000", "--batch", "plain"]),
        (&tcp, &["--connections", "3"]),
        (&tcp, &["--window", "7", "--size", "9000"]),
        (&tcp, &["--connections", "1", "--size", "65536"]),
        (&tcp, &["--rate", "5000", "--connections", "7"]),
    ];
    for (url, arguments) in ways {
        let (figures, status) = figures(url, arguments);
        assert_eq!(status, 0, "{arguments:?}: {figures}");
        let [sent, received, lost] = ["sent", "received", "lost"].map(|name| count(&figures, name));
        assert!(received > 0 && sent == received + lost, "{arguments:?}: {figures}");
        for name in ["duplicates", "corrupt", "errors"] {
            assert_eq!(count(&figures, name), 0, "{name} of {arguments:?}: {figures}");
        }
        if url == tcp {
            assert_eq!((lost, count(&figures, "reordered")), (0, 0), "{arguments:?}: {figures}");
        }
        let latency = ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"]
            .map(|name| figures["latency_us"][name].as_f64());
        assert!(
            latency.iter().all(Option::is_some) && latency.is_sorted(),
            "{arguments:?}: {figures}"
        );
    }
}

#[test]
fn an_open_loop_sends_what_is_due_and_no_more() {
    // Of 2,000 a second, none is sent before it is due: the first at once, the last before the end, and what could not be sent by
    // then is told.
    let program = Program::start(&["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]);
    for url in [format!("udp://{}", program.udp()), format!("tcp://{}", program.tcp())] {
        let (figures, _) = figures(&url, &["--rate", "2000", "--duration", "0.5"]);
        assert_eq!(count(&figures, "sent") + count(&figures, "unsent"), 1000, "{figures}");
        assert!(count(&figures, "sent") > 1, "{figures}");
    }
}

#[test]
fn a_rate_that_nobody_can_send_shows_in_what_was_not_sent() {
    // A thousand million a second: that is a hundred million in a tenth. All of them are among the latencies, with what they have
    // waited; but what is lost over UDP, where that is told as such.
    let program = Program::start(&["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]);
    for url in [format!("udp://{}", program.udp()), format!("tcp://{}", program.tcp())] {
        let (figures, _) = figures(&url, &["--rate", "1000000000"]);
        let [sent, received, unsent, unanswered] =
            ["sent", "received", "unsent", "unanswered"].map(|name| count(&figures, name));
        assert_eq!(sent + unsent, 100_000_000, "{figures}");
        assert!(unsent > 0, "{figures}");
        if url.starts_with("tcp") {
            assert_eq!(received + unanswered, 100_000_000, "{figures}");
        } else {
            assert!((1..=unsent).contains(&unanswered), "{figures}");
        }
    }
}

#[test]
fn what_a_closed_loop_has_under_way_is_not_more_than_there_is_memory_to_keep_it_in() {
    // 256 of the largest messages are four times what may wait: they are sent some at a time, and all are sent. How many the
    // server's socket has room for is another matter.
    let program = Program::start(&["--udp", "127.0.0.1:0"]);
    let (figures, _) =
        figures(&format!("udp://{}", program.udp()), &["--window", "256", "--size", "65507"]);
    assert!(count(&figures, "received") > 0, "{figures}");
    assert_eq!(count(&figures, "unsent"), 0, "{figures}");
}

#[test]
fn the_histogram_log_holds_every_latency() {
    // Other tools read it so, too.
    let program = Program::start(&["--udp", "127.0.0.1:0"]);
    let path = std::env::temp_dir().join(format!("reactor-blast-{}.hlog", std::process::id()));
    let arguments = ["--duration", "2.5", "--rate", "1000", "--histogram", path.to_str().unwrap()];
    let (figures, _) = figures(&format!("udp://{}", program.udp()), &arguments);
    let log = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(log.starts_with(b"#"));
    let (total, intervals) = total_of(&log);
    assert!(intervals >= 3, "one for each second: {intervals}");
    assert_eq!(total.len(), count(&figures, "received") + count(&figures, "unanswered"));
    let max_us = total.max() as f64 / 1000.0;
    let told_us = figures["latency_us"]["max"].as_f64().unwrap();
    assert!((max_us - told_us).abs() <= told_us / 500.0, "{max_us} and {told_us}");
}

#[test]
fn an_older_log_stays_until_there_is_a_newer_one() {
    // The file is longer than the new log. It is as it was when the server has heard a hundred messages, and a log in the end.
    let path =
        std::env::temp_dir().join(format!("reactor-blast-older-{}.hlog", std::process::id()));
    let older = vec![b'x'; 1 << 20];
    std::fs::write(&path, &older).unwrap();
    let (told, heard) = mpsc::channel();
    let server = Server::new(move |number, datagram| {
        if number == 100 {
            told.send(()).unwrap();
        }
        vec![datagram]
    });
    let arguments = ["--duration", "3600", "--histogram", path.to_str().unwrap()];
    let program = Program::spawn(reactor().args(["blast", &server.url()]).args(arguments));
    heard.recv_timeout(PATIENCE).unwrap();
    let meanwhile = std::fs::read(&path).unwrap();
    program.signal("INT");
    let ending = program.wait();
    let log = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(meanwhile == older, "{} of {} bytes are there", meanwhile.len(), older.len());
    assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stderr);
    assert!(
        !log.contains(&b'\0') && !total_of(&log).0.is_empty(),
        "{}",
        String::from_utf8_lossy(&log)
    );
}

#[cfg(unix)]
#[test]
fn a_log_may_go_to_a_pipe() {
    // There is nothing to truncate in it. Its reader has all of the log, and then the end.
    let program = Program::start(&["--udp", "127.0.0.1:0"]);
    let url = format!("udp://{}", program.udp());
    let ending = blast(&url, &["--duration", "0.1", "--histogram", "/dev/stderr"]);
    assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stderr);
    let log = ending.stderr.join("\n") + "\n";
    assert!(!total_of(log.as_bytes()).0.is_empty(), "{log}");
}

/// All latencies in an interval log together, and how many intervals it has.
fn total_of(log: &[u8]) -> (Histogram<u64>, usize) {
    let mut total = Histogram::new(3).unwrap();
    let mut intervals = 0;
    for entry in IntervalLogIterator::new(log) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            let bytes = decode_base64(interval.encoded_histogram());
            let histogram: Histogram<u64> =
                Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            total.add(histogram).unwrap();
            intervals += 1;
        }
    }
    (total, intervals)
}

/// RFC 4648 section 4.
fn decode_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter(|&byte| byte != b'=') {
        bits = bits << 6
            | u32::try_from(DIGITS.iter().position(|&other| other == digit).unwrap()).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff).try_into().unwrap());
        }
    }
    bytes
}

// ---- servers that do what they should not

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
fn no_stall_of_the_server_can_hide_in_an_open_loop() {
    // It stalls once for 300 ms, in a second in which 2,000 are due. So about 600 are late: one in ten at least by 100 ms.
    const STALL: Duration = Duration::from_millis(300);
    let server = Server::new(|number, datagram| {
        if number == 200 {
            be_late(STALL);
        }
        vec![datagram]
    });
    let (figures, _) = figures(&server.url(), &["--rate", "2000", "--duration", "1"]);
    let latency_us = |name: &str| figures["latency_us"][name].as_f64().unwrap();
    assert!(latency_us("max") >= 300_000.0, "{figures}");
    assert!(latency_us("p90") >= 100_000.0, "{figures}");
}

#[test]
fn no_reply_that_comes_late_makes_the_server_faster() {
    // In a tenth of a second a hundred are due. The server does nothing for 300 ms from the first on, and answers them all when no
    // more is sent: however fast that was, it was no thousand a second.
    const STALL: Duration = Duration::from_millis(300);
    let server = Server::new(|number, datagram| {
        if number == 0 {
            be_late(STALL);
        }
        vec![datagram]
    });
    let (figures, _) = figures(&server.url(), &["--rate", "1000"]);
    let [received, a_second] =
        ["received", "received_per_second"].map(|name| figures[name].as_f64().unwrap());
    assert!(received > 0.0 && a_second <= received / STALL.as_secs_f64(), "{figures}");
}

#[test]
fn no_stall_can_hide_by_lasting_to_the_end() {
    // Over TCP it answers a hundred messages of an open loop and then only reads. 4,900 more are due, most of which are never sent.
    // Even the last of them has waited as long as we wait at the end: a second.
    let (server, url) = answers_a_hundred(only_reads);
    let path =
        std::env::temp_dir().join(format!("reactor-blast-stall-{}.hlog", std::process::id()));
    let arguments = [
        "--rate",
        "5000",
        "--connections",
        "1",
        "--duration",
        "1",
        "--histogram",
        path.to_str().unwrap(),
    ];
    let (figures, _) = figures(&url, &arguments);
    server.join().unwrap();
    let log = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        (count(&figures, "received"), count(&figures, "unanswered")),
        (100, 4900),
        "{figures}"
    );
    assert!(figures["latency_us"]["p50"].as_f64().unwrap() >= 1_000_000.0, "{figures}");
    assert_eq!(total_of(&log).0.len(), 5000, "the log holds them, too");
}

#[test]
fn no_stall_can_hide_in_the_end_of_its_connection() {
    // It answers a hundred messages, does nothing for 300 ms, in which 600 are due, and leaves.
    const STALL: Duration = Duration::from_millis(300);
    let (server, url) = answers_a_hundred(|_| be_late(STALL));
    let (figures, status) =
        figures(&url, &["--rate", "2000", "--connections", "1", "--duration", "3600"]);
    server.join().unwrap();
    assert_eq!(status, 1, "{figures}");
    assert!(count(&figures, "unanswered") > 0, "{figures}");
    assert!(figures["latency_us"]["p90"].as_f64().unwrap() >= 100_000.0, "{figures}");
}

#[test]
fn the_table_says_that_a_latency_is_of_a_message_without_a_reply() {
    // In a closed loop it is one, and we are asked to end when the server has read it. It is waited for, for a second.
    let (told, heard) = mpsc::channel();
    let (server, url) = answers_a_hundred(move |mut stream| {
        stream.read_exact(&mut [0; 64]).unwrap();
        told.send(()).unwrap();
        only_reads(stream);
    });
    let program =
        Program::spawn(reactor().args(["blast", &url, "--connections", "1", "--duration", "3600"]));
    heard.recv_timeout(PATIENCE).unwrap();
    program.signal("INT");
    let ending = program.wait();
    server.join().unwrap();
    let line = "  latency in µs, from the send (1 without a reply: the time waited)";
    assert!(ending.stdout.iter().any(|other| other == line), "{:?}", ending.stdout);
    let max_us = ending
        .stdout
        .last()
        .unwrap()
        .trim_start()
        .strip_prefix("max")
        .unwrap()
        .trim()
        .replace(',', "");
    assert!(max_us.parse::<f64>().unwrap() >= 1_000_000.0, "{:?}", ending.stdout);
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

// ---- how it ends

#[test]
fn a_signal_ends_it_with_the_table_so_far() {
    // It would go on for an hour; it is asked to end when the server has heard something of it.
    for signal in ["INT", "TERM"] {
        let (told, heard) = mpsc::channel();
        let server = Server::new(move |number, datagram| {
            if number == 100 {
                told.send(()).unwrap();
            }
            vec![datagram]
        });
        let program =
            Program::spawn(reactor().args(["blast", &server.url(), "--duration", "3600"]));
        heard.recv_timeout(PATIENCE).unwrap();
        program.signal(signal);
        let ending = program.wait();
        assert_eq!((ending.status.code(), &ending.stderr[..]), (Some(0), &[][..]), "{signal}");
        assert!(ending.stdout.iter().any(|line| line.contains("p99.99")), "{:?}", ending.stdout);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn no_reply_is_waited_for_in_the_kernel_not_even_the_last() {
    // One message has no reply, so that it is waited for at the end. strace tells of each call that may wait, and how long.
    if !Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .output()
        .is_ok_and(|run| run.status.success())
    {
        println!("strace is not installed or may not trace: no call was looked at");
        return;
    }
    let server = Server::new(|number, datagram| if number == 0 { vec![] } else { vec![datagram] });
    let file = format!("{}/blast.strace", env!("CARGO_TARGET_TMPDIR"));
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-o", &file, "-e", "trace=?epoll_wait,?epoll_pwait"])
        .arg(reactor().get_program());
    let ending = Program::spawn(
        strace.args(["blast", &server.url(), "--duration", "0.1"]).env_remove("RUST_LOG"),
    )
    .wait();
    assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stderr);
    let calls = std::fs::read_to_string(file).unwrap();
    // epoll_wait(3, [...], 1024, 0) = 1: the time follows the room for events.
    let may_wait =
        |call: &&str| call.rsplit_once("], ").is_some_and(|(_, rest)| !rest.contains(", 0"));
    assert_eq!(calls.lines().find(may_wait), None);
    assert!(calls.contains("], "), "{calls}");
}

#[test]
fn where_nobody_answers_it_says_so_and_fails() {
    // Nobody has the port; or somebody has it and never says a word.
    let silent = UdpSocket::bind(any_port()).unwrap();
    let free = UdpSocket::bind(any_port()).unwrap().local_addr().unwrap();
    let closed = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let silent = silent.local_addr().map(|address| (address, silent)).unwrap();
    let cases = [
        (format!("udp://{free}"), "connection refused"),
        (format!("tcp://{closed}"), "connection refused"),
        (format!("udp://{}", silent.0), "nobody answers"),
    ];
    for (url, why) in cases {
        let ending = blast(&url, &["--duration", "0.2"]);
        let [line] = &ending.stderr[..] else { panic!("{url}: one line: {:?}", ending.stderr) };
        assert!(line.starts_with(&format!("reactor: {url}: ")) && line.contains(why), "{line}");
        assert_eq!((ending.status.code(), &ending.stdout[..]), (Some(1), &[][..]), "{url}");
    }
}

#[cfg(unix)]
#[test]
fn who_may_not_open_what_the_load_needs_says_so_before_it_is_offered() {
    // The shell lets it have twenty files, some of which it has already. The server would let all of them in.
    let program = Program::start(&["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]);
    let (udp, tcp) = (format!("udp://{}", program.udp()), format!("tcp://{}", program.tcp()));
    let cases: [(&str, &[&str]); 3] = [
        (&udp, &["--sockets", "100"]),
        (&tcp, &["--connections", "100"]),
        (&tcp, &["--connections", "100", "--rate", "1000"]),
    ];
    for (url, arguments) in cases {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 20; exec \"$@\"", "sh"]).arg(reactor().get_program());
        let ending =
            Program::spawn(shell.args(["blast", url]).args(arguments).env_remove("RUST_LOG"))
                .wait();
        let [line] = &ending.stderr[..] else {
            panic!("{url}: one line: {:?}, {:?}", ending.stderr, ending.stdout)
        };
        assert!(
            line.starts_with(&format!("reactor: {url}: ")) && line.contains("Too many open files"),
            "{line}"
        );
        assert_eq!(line.contains(" of 100 connections "), url == tcp, "{line}");
        assert_eq!((ending.status.code(), &ending.stdout[..]), (Some(1), &[][..]), "{url}");
    }
}

#[test]
fn a_log_is_one_even_if_nobody_has_answered() {
    let silent = UdpSocket::bind(any_port()).unwrap();
    let path =
        std::env::temp_dir().join(format!("reactor-blast-silent-{}.hlog", std::process::id()));
    let arguments = ["--duration", "0.05", "--histogram", path.to_str().unwrap()];
    let ending = blast(&format!("udp://{}", silent.local_addr().unwrap()), &arguments);
    let log = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(ending.status.code(), Some(1));
    let (total, intervals) = total_of(&log);
    assert!(total.is_empty() && intervals > 0, "{}", String::from_utf8_lossy(&log));
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_that_cannot_be_written_is_told_and_a_failure() {
    // The device is full; who has closed the other end of a pipe does not want to know.
    let program = Program::start(&["--udp", "127.0.0.1:0"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let url = format!("udp://{}", program.udp());
    let ending =
        reactor().args(["blast", &url, "--duration", "0.05"]).stdout(full).output().unwrap();
    let line = String::from_utf8(ending.stderr).unwrap();
    assert_eq!(ending.status.code(), Some(1), "{line}");
    assert!(line.starts_with("reactor: standard output: "), "{line}");
}

#[test]
fn what_makes_no_sense_is_told_in_one_line_with_status_2() {
    let nonsense: [(&str, &[&str]); 22] = [
        ("127.0.0.1:2000", &[]),
        ("http://127.0.0.1:2000", &[]),
        ("udp://somewhere:2000", &[]),
        ("udp://127.0.0.1", &[]),
        ("udp://127.0.0.1:0", &[]),
        ("udp://127.0.0.1:+2000", &[]),
        ("udp://127.0.0.1:2000//", &[]),
        ("tcp://127.0.0.1:2000///", &["--connections", "2"]),
        ("udp://127.0.0.1:9", &["--window", "0"]),
        ("udp://127.0.0.1:9", &["--rate", "0"]),
        ("udp://127.0.0.1:9", &["--rate", "1000", "--window", "1"]),
        ("udp://127.0.0.1:9", &["--size", "15"]),
        ("udp://127.0.0.1:9", &["--size", "65508"]),
        ("udp://127.0.0.1:9", &["--size", "65507", "--prefix", "e"]),
        ("udp://127.0.0.1:9", &["--connections", "2"]),
        ("udp://127.0.0.1:9", &["--batch", "all"]),
        ("udp://127.0.0.1:9", &["--duration", "-1"]),
        ("udp://127.0.0.1:9", &["--duration", "nan"]),
        ("udp://127.0.0.1:9", &["--duration", "0.0009"]),
        ("tcp://127.0.0.1:9", &["--sockets", "2"]),
        ("tcp://127.0.0.1:9", &["--prefix", "echo -> "]),
        ("tcp://127.0.0.1:9", &["--window", "1000", "--size", "1000"]),
    ];
    for (url, arguments) in nonsense {
        let ending = blast(url, arguments);
        assert_eq!(ending.status.code(), Some(2), "{url} {arguments:?}: {:?}", ending.stderr);
        assert_eq!(ending.stderr.len(), 1, "{url} {arguments:?}: {:?}", ending.stderr);
        assert!(ending.stderr[0].starts_with("reactor: "), "{:?}", ending.stderr);
        assert!(ending.stdout.is_empty(), "{:?}", ending.stdout);
    }
}

#[test]
fn a_log_that_cannot_be_written_is_told_before_any_load_is_offered() {
    let ending = blast("udp://127.0.0.1:9", &["--histogram", "/nowhere/at/all"]);
    assert_eq!(ending.status.code(), Some(1));
    assert!(ending.stderr[0].contains("/nowhere/at/all"), "{:?}", ending.stderr);
}
