//! `--histogram FILE`: the HdrHistogram log of all latencies.

use std::net::UdpSocket;
use std::sync::mpsc;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::{UdpServer, blast, count, figures};
use crate::common::{Program, TIMEOUT, any_port, reactor};

#[test]
fn histogram_log_holds_every_latency() {
    // It is read as other tools read it.
    let program = Program::start(&["--udp", "127.0.0.1:0"]);
    let path = std::env::temp_dir().join(format!("reactor-blast-{}.hlog", std::process::id()));
    let arguments = ["--duration", "2.5s", "--rate", "1000", "--histogram", path.to_str().unwrap()];
    let (figures, _) = figures(&format!("udp://{}", program.udp()), &arguments);
    let log = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(log.starts_with(b"#"));
    let (total, intervals) = total_of(&log);
    assert!(intervals >= 3, "one per second: {intervals}");
    assert_eq!(total.len(), count(&figures, "received") + count(&figures, "unanswered"));
    let max_us = total.max() as f64 / 1000.0;
    let reported_us = figures["latency_us"]["max"].as_f64().unwrap();
    assert!((max_us - reported_us).abs() <= reported_us / 500.0, "{max_us} and {reported_us}");
}

#[test]
fn older_histogram_log_stays_until_the_new_one_is_written() {
    // The file is longer than the new log. It is unchanged after the server has received a hundred
    // messages, and is a valid log in the end.
    let path =
        std::env::temp_dir().join(format!("reactor-blast-older-{}.hlog", std::process::id()));
    let older = vec![b'x'; 1 << 20];
    std::fs::write(&path, &older).unwrap();
    let (sender, received) = mpsc::channel();
    let server = UdpServer::start(move |number, datagram| {
        if number == 100 {
            sender.send(()).unwrap();
        }
        vec![datagram]
    });
    let arguments = ["--duration", "1h", "--histogram", path.to_str().unwrap()];
    let program = Program::spawn(reactor().args(["blast", &server.url()]).args(arguments));
    received.recv_timeout(TIMEOUT).unwrap();
    let meanwhile = std::fs::read(&path).unwrap();
    program.signal("TERM");
    let ending = program.wait();
    let log = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(meanwhile == older, "{} of {} bytes are left", meanwhile.len(), older.len());
    assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stderr);
    assert!(
        !log.contains(&b'\0') && !total_of(&log).0.is_empty(),
        "{}",
        String::from_utf8_lossy(&log)
    );
}

#[cfg(unix)]
#[test]
fn histogram_log_may_go_to_a_pipe() {
    // A pipe cannot be truncated. Its reader gets all of the log, then end of file.
    let program = Program::start(&["--udp", "127.0.0.1:0"]);
    let url = format!("udp://{}", program.udp());
    let ending = blast(&url, &["--duration", "100ms", "--histogram", "/dev/stderr"]);
    assert_eq!(ending.status.code(), Some(0), "{:?}", ending.stderr);
    let log = ending.stderr.join("\n") + "\n";
    assert!(!total_of(log.as_bytes()).0.is_empty(), "{log}");
}

// pitfall: 166
#[cfg(unix)]
#[test]
fn histogram_log_is_refused_where_the_report_goes() {
    // A pipe would have both, and a file would lose what was written first. Nothing is sent.
    let silent = UdpSocket::bind(any_port()).unwrap();
    let url = format!("udp://{}", silent.local_addr().unwrap());
    let path = std::env::temp_dir().join(format!("reactor-blast-out-{}", std::process::id()));
    let file = std::fs::File::create(&path).unwrap();
    let to_a_pipe = reactor().args(["blast", &url, "--histogram", "/dev/stdout"]).output().unwrap();
    let to_a_file = reactor()
        .args(["blast", &url, "--histogram", path.to_str().unwrap()])
        .stdout(file)
        .output()
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    for output in [to_a_pipe, to_a_file] {
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(line.ends_with(": standard output gets the report\n"), "{line}");
    }
    silent.set_nonblocking(true).unwrap();
    assert!(silent.recv(&mut [0; 64]).is_err(), "nothing was sent");
}

/// Returns all latencies of an interval log in one histogram, and how many intervals it has.
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

/// Decodes base64 (RFC 4648 section 4).
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
fn histogram_log_is_valid_even_without_replies() {
    let silent = UdpSocket::bind(any_port()).unwrap();
    let path =
        std::env::temp_dir().join(format!("reactor-blast-silent-{}.hlog", std::process::id()));
    let arguments = ["--duration", "50ms", "--histogram", path.to_str().unwrap()];
    let ending = blast(&format!("udp://{}", silent.local_addr().unwrap()), &arguments);
    let log = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(ending.status.code(), Some(1));
    let (total, intervals) = total_of(&log);
    assert!(total.is_empty() && intervals > 0, "{}", String::from_utf8_lossy(&log));
}

#[test]
fn unwritable_histogram_log_exits_1_before_any_load() {
    let ending = blast("udp://127.0.0.1:9", &["--histogram", "/nowhere/at/all"]);
    assert_eq!(ending.status.code(), Some(1));
    assert!(ending.stderr[0].contains("/nowhere/at/all"), "{:?}", ending.stderr);
}
