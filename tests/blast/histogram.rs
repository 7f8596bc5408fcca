//! The log of latencies.

use std::net::UdpSocket;
use std::sync::mpsc;

use super::{Server, blast, count, figures};
use crate::common::{PATIENCE, Program, any_port, reactor};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

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
pub(crate) fn total_of(log: &[u8]) -> (Histogram<u64>, usize) {
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

#[test]
fn a_log_that_cannot_be_written_is_told_before_any_load_is_offered() {
    let ending = blast("udp://127.0.0.1:9", &["--histogram", "/nowhere/at/all"]);
    assert_eq!(ending.status.code(), Some(1));
    assert!(ending.stderr[0].contains("/nowhere/at/all"), "{:?}", ending.stderr);
}
