//! Latencies: no stall of the server is hidden, whenever it happens and however long it lasts.

use std::io::Read;
use std::sync::mpsc;
use std::time::Duration;

use super::histogram::total_of;
use super::{UdpServer, answer_a_hundred, count, discard, figures};
use crate::common::{Program, TIMEOUT, reactor, stall};

#[test]
fn stall_in_an_open_loop_shows_in_the_latencies() {
    // The server stalls once for 300 ms, in a second in which 2,000 messages are due. So about 600
    // are late, and at least one in ten by 100 ms.
    const STALL: Duration = Duration::from_millis(300);
    let server = UdpServer::start(|number, datagram| {
        if number == 200 {
            stall(STALL);
        }
        vec![datagram]
    });
    let (figures, _) = figures(&server.url(), &["--rate", "2000", "--duration", "1s"]);
    let latency_us = |name: &str| figures["latency_us"][name].as_f64().unwrap();
    assert!(latency_us("max") >= 300_000.0, "{figures}");
    assert!(latency_us("p90") >= 100_000.0, "{figures}");
}

#[test]
fn late_replies_lower_the_received_rate() {
    // In a tenth of a second, a hundred messages are due. The server stalls for 300 ms from the
    // first on, and answers all of them after sending has ended. However fast that was, the rate
    // was not a thousand a second.
    const STALL: Duration = Duration::from_millis(300);
    let server = UdpServer::start(|number, datagram| {
        if number == 0 {
            stall(STALL);
        }
        vec![datagram]
    });
    let (figures, _) = figures(&server.url(), &["--rate", "1000"]);
    let [received, per_second] =
        ["received", "received_per_second"].map(|name| figures[name].as_f64().unwrap());
    assert!(received > 0.0 && per_second <= received / STALL.as_secs_f64(), "{figures}");
}

#[test]
fn stall_until_the_end_shows_in_the_latencies() {
    // Over TCP, the server answers a hundred messages of an open loop and then only reads. 4,900
    // more are due, most of which are never sent. Even the last of them has waited for the second
    // in which replies are awaited at the end.
    let (server, url) = answer_a_hundred(discard);
    let path =
        std::env::temp_dir().join(format!("reactor-blast-stall-{}.hlog", std::process::id()));
    let arguments = [
        "--rate",
        "5000",
        "--connections",
        "1",
        "--duration",
        "1s",
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
    assert_eq!(total_of(&log).0.len(), 5000, "the log has them, too");
}

#[test]
fn stall_before_a_close_shows_in_the_latencies() {
    // The server answers a hundred messages, stalls for 300 ms, in which 600 are due, and closes.
    const STALL: Duration = Duration::from_millis(300);
    let (server, url) = answer_a_hundred(|_| stall(STALL));
    let (figures, status) =
        figures(&url, &["--rate", "2000", "--connections", "1", "--duration", "1h"]);
    server.join().unwrap();
    assert_eq!(status, 1, "{figures}");
    assert!(count(&figures, "unanswered") > 0, "{figures}");
    assert!(figures["latency_us"]["p90"].as_f64().unwrap() >= 100_000.0, "{figures}");
}

#[test]
fn table_shows_how_many_latencies_lack_a_reply() {
    // A closed loop with one message in flight ends by a signal, after the server has read the
    // message. Its reply is awaited for a second.
    let (sender, message_read) = mpsc::channel();
    let (server, url) = answer_a_hundred(move |mut stream| {
        stream.read_exact(&mut [0; 64]).unwrap();
        sender.send(()).unwrap();
        discard(stream);
    });
    let program =
        Program::spawn(reactor().args(["blast", &url, "--connections", "1", "--duration", "1h"]));
    message_read.recv_timeout(TIMEOUT).unwrap();
    program.signal("TERM");
    let ending = program.wait();
    server.join().unwrap();
    let line = "  latency in µs, from the send (1 without a reply: time waited so far)";
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
