//! The report at the end: what is counted, in closed and open loops, over UDP and TCP.

use super::{blast, count, figures};
use crate::common::Program;

#[test]
fn table_has_every_count_and_percentile() {
    let program = Program::start(&["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]);
    for (url, clients) in [
        (format!("udp://{}", program.udp()), "1 socket"),
        (format!("tcp://{}/", program.tcp()), "64 connections"),
    ] {
        let ending = blast(&url, &["--duration", "100ms"]);
        assert_eq!((ending.status.code(), &ending.stderr[..]), (Some(0), &[][..]), "{url}");
        let table = ending.stdout.join("\n");
        assert!(
            table.starts_with(&format!("{}: 64 bytes, {clients}, ", url.trim_end_matches('/'))),
            "{table}"
        );
        for row in [
            "sent",
            "received",
            "after end",
            "lost",
            "duplicates",
            "reordered",
            "expired",
            "corrupt",
            "misplaced",
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
fn every_kind_of_load_accounts_for_all_messages() {
    // Over UDP: both loops and each batch mode, one socket and several. Over TCP: both loops. Every
    // message is either received or lost.
    let program =
        Program::start(&["--udp", "127.0.0.1:0", "--udp", "[::1]:0", "--tcp", "127.0.0.1:0"]);
    let udp: Vec<String> =
        program.addresses("udp echo").iter().map(|address| format!("udp://{address}")).collect();
    let tcp = format!("tcp://{}", program.tcp());
    let loads: [(&str, &[&str]); 11] = [
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
    for (url, arguments) in loads {
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
fn open_loop_sends_what_is_due_and_no_more() {
    // Of 2,000 a second, none is sent before it is due: the first at once, the last before the end.
    // Messages not sent by then count as unsent.
    let program = Program::start(&["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]);
    for url in [format!("udp://{}", program.udp()), format!("tcp://{}", program.tcp())] {
        let (figures, _) = figures(&url, &["--rate", "2000", "--duration", "500ms"]);
        assert_eq!(count(&figures, "sent") + count(&figures, "unsent"), 1000, "{figures}");
        assert!(count(&figures, "sent") > 1, "{figures}");
    }
}

#[test]
fn rate_beyond_capacity_shows_as_unsent() {
    // A billion a second, which is a hundred million in a tenth. All are recorded in the latencies,
    // with the time waited so far. The exception is datagrams that were sent, which count as lost.
    let program = Program::start(&["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]);
    for url in [format!("udp://{}", program.udp()), format!("tcp://{}", program.tcp())] {
        let (figures, _) = figures(&url, &["--rate", "1000000000"]);
        let [sent, received, unsent, unanswered] =
            ["sent", "received", "unsent", "unanswered"].map(|name| count(&figures, name));
        assert_eq!(sent + unsent, 100_000_000, "{figures}");
        assert!(unsent > 0, "{figures}");
        // At this rate, the tenth message is due 9 ns after the first.
        assert!(count(&figures, "sent_late") > 0, "{figures}");
        if url.starts_with("tcp") {
            assert_eq!(received + unanswered, 100_000_000, "{figures}");
        } else {
            assert!((1..=unsent).contains(&unanswered), "{figures}");
        }
    }
}

#[test]
fn window_larger_than_the_reply_memory_is_sent_in_parts() {
    // 256 of the largest messages are four times what may wait in the reactor. They are sent a part
    // at a time, and all are sent. How many of them the server's socket buffer holds does not
    // matter here.
    let program = Program::start(&["--udp", "127.0.0.1:0"]);
    let (figures, _) =
        figures(&format!("udp://{}", program.udp()), &["--window", "256", "--size", "65507"]);
    assert!(count(&figures, "received") > 0, "{figures}");
    assert_eq!(count(&figures, "unsent"), 0, "{figures}");
}
