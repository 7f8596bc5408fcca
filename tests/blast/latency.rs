//! No stall can hide.

use std::io::Read;
use std::sync::mpsc;
use std::time::Duration;

use super::histogram::total_of;
use super::{Server, answers_a_hundred, count, figures, only_reads};
use crate::common::{PATIENCE, Program, be_late, reactor};

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
