//! The rows of an echo over a stream (RFC 862): what comes back, and how a connection ends.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::crowds;
use super::echo::{EchoReader, MESSAGE_BYTES};
use super::limits::{
    DRIP_BYTES, DRIP_PAUSE_MS, HALF_CLOSE_BYTES, HALF_CLOSE_PAUSE_MS, HALF_CLOSE_STEP_BYTES,
    HALF_CLOSE_STEPS, KERNEL_BYTES_MAX, LARGE_BYTES, LARGE_MESSAGES, PIECE_BYTES_MAX, PIECES_BYTES,
    PIPELINED, PIPELINED_BYTES, RESETS, ROW_MS, SAME_ADDRESS_TRIES, UNREAD_BYTES_MAX,
    UNREAD_ROW_MS,
};
use super::link::{Buffers, Event, Filled, Link};
use super::row::{Chapter, Fault, Row, quote};
use super::subject::{Subject, in_call};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "echo",
        proves: "a message comes back byte for byte",
        source: "RFC 862",
        chapter: Chapter::OneClient,
        bound_ms: ROW_MS,
        check: echo,
    },
    Row {
        name: "half-close",
        proves: "all that was sent before a FIN comes back, and then the server's FIN",
        source: "RFC 9293 section 3.6",
        chapter: Chapter::Endings,
        bound_ms: ROW_MS,
        check: half_close,
    },
    Row {
        name: "fin-at-once",
        proves: "a FIN without a byte before it is answered with a FIN",
        source: "RFC 9293 section 3.6",
        chapter: Chapter::Endings,
        bound_ms: ROW_MS,
        check: fin_at_once,
    },
    Row {
        name: "half-close-unread",
        proves: "a FIN that comes while replies wait for a client costs it none of them",
        source: "RFC 9293 section 3.6",
        chapter: Chapter::Endings,
        bound_ms: ROW_MS,
        check: half_close_unread,
    },
    Row {
        name: "drip",
        proves: "bytes that come one by one come back",
        source: "RFC 9293 section 3.8",
        chapter: Chapter::Messages,
        bound_ms: ROW_MS,
        check: drip,
    },
    Row {
        name: "pieces",
        proves: "a mebibyte in pieces of any size comes back while it is sent",
        source: "RFC 862",
        chapter: Chapter::Messages,
        bound_ms: ROW_MS,
        check: pieces,
    },
    Row {
        name: "pipelining",
        proves: "messages that are sent before any reply is read come back in order",
        source: "RFC 862",
        chapter: Chapter::Messages,
        bound_ms: ROW_MS,
        check: pipelining,
    },
    Row {
        name: "large-messages",
        proves: "each of 16 messages of 256 KiB comes back whole before the next is sent",
        source: "epoll(7)",
        chapter: Chapter::Edges,
        bound_ms: ROW_MS,
        check: large_messages,
    },
    Row {
        name: "urgent",
        proves: "an out-of-band byte neither ends the stream nor stops it",
        source: "RFC 6093 section 3",
        chapter: Chapter::Edges,
        bound_ms: ROW_MS,
        check: urgent,
    },
    Row {
        name: "two-clients",
        proves: "a client is served while another's connection stays open, and that one is, too",
        source: "RFC 862",
        chapter: Chapter::OneClient,
        bound_ms: ROW_MS,
        check: two_clients,
    },
    crowds::SILENT_CROWD,
    crowds::BURST,
    crowds::ABANDONED_CLIENTS,
    crowds::SHORT,
    Row {
        name: "reset",
        proves: "a reset in the middle of an exchange ends that connection alone",
        source: "RFC 9293 section 3.10.7.4",
        chapter: Chapter::Endings,
        bound_ms: ROW_MS,
        check: reset,
    },
    crowds::RESET_UNREAD,
    Row {
        name: "same-address",
        proves: "a client is served that connects again from the same port after a reset",
        source: "RFC 9293 section 3.10.7.4",
        chapter: Chapter::Slots,
        bound_ms: ROW_MS,
        check: same_address,
    },
    Row {
        name: "never-reads",
        proves: "replies that are not read are kept up to a bound, and all of them come later",
        source: "RFC 9293 section 3.8.6",
        chapter: Chapter::Output,
        bound_ms: UNREAD_ROW_MS,
        check: never_reads,
    },
    Row {
        name: "never-reads-narrow",
        proves: "replies to a client with small buffers are kept up to a bound, and come later",
        source: "RFC 9293 section 3.8.6",
        chapter: Chapter::Output,
        bound_ms: UNREAD_ROW_MS,
        check: never_reads_narrow,
    },
    crowds::NEVER_READS_OTHERS,
];

fn echo(subject: &Subject<'_>) -> Result<(), Fault> {
    let mut link = subject.connect()?;
    let message = subject.payload(0, MESSAGE_BYTES);
    let when = "while the connection is open";
    subject.send(&mut link, &message, when)?;
    subject.expect_echo(&mut link, &message, when)
}

fn half_close(subject: &Subject<'_>) -> Result<(), Fault> {
    let mut link = subject.connect()?;
    let bytes = subject.payload(2, HALF_CLOSE_BYTES);
    let when = "after our FIN";
    subject.send(&mut link, &bytes, "before our FIN")?;
    subject.half_close(&link, "before our FIN")?;
    subject.expect_echo(&mut link, &bytes, when)?;
    subject.expect_fin(&mut link, when)
}

fn fin_at_once(subject: &Subject<'_>) -> Result<(), Fault> {
    let mut link = subject.connect()?;
    subject.half_close(&link, "after the connect")?;
    subject.expect_fin(&mut link, "after ours, without a byte")
}

/// A server holds replies while a FIN comes only if the kernel's buffers are full and its own are
/// not. How much that is differs between servers. So each client sends a little more than the one
/// before it.
fn half_close_unread(subject: &Subject<'_>) -> Result<(), Fault> {
    let bytes = subject.payload(12, HALF_CLOSE_STEPS * HALF_CLOSE_STEP_BYTES);
    let before = "while no reply is read";
    let mut unread = Vec::new();
    for step in 1..=HALF_CLOSE_STEPS {
        let mut link = subject.connect_with(Buffers::NarrowIn)?;
        let filled = link.fill(&bytes, step * HALF_CLOSE_STEP_BYTES);
        let (sent, filled) = in_call(filled, "bytes are taken")?;
        subject.half_close(&link, before)?;
        unread.push((link, sent));
        match filled {
            Filled::All => {}
            Filled::Blocked => break, // nothing takes more: it would only last longer
            Filled::Ended => {
                let came = format!("the end of the connection after {sent} bytes");
                return Err(Fault::failed(format!("the connection is open {before}"), came));
            }
            Filled::OutOfTime => {
                return Err(Fault::Skipped(format!("the server took {step} clients in time")));
            }
        }
    }
    thread::sleep(Duration::from_millis(HALF_CLOSE_PAUSE_MS));
    let when = "to a client that reads them after its FIN";
    unread.into_iter().try_for_each(|(mut link, sent)| {
        EchoReader::new(&bytes, sent, subject.prefix()).read_all(&mut link, when)?;
        subject.expect_fin(&mut link, when)
    })
}

fn drip(subject: &Subject<'_>) -> Result<(), Fault> {
    let mut link = subject.connect()?;
    let bytes = subject.payload(3, DRIP_BYTES);
    for byte in bytes.chunks(1) {
        subject.send(&mut link, byte, "one by one")?;
        thread::sleep(Duration::from_millis(DRIP_PAUSE_MS));
    }
    let when = "after they were sent one by one";
    subject.half_close(&link, when)?;
    subject.expect_echo(&mut link, &bytes, when)
}

/// A client that sends everything before it reads would deadlock with a server that replies while
/// it reads. So a thread of its own sends.
fn pieces(subject: &Subject<'_>) -> Result<(), Fault> {
    let mut link = subject.connect()?;
    let bytes = subject.payload(4, PIECES_BYTES);
    let when = "in pieces";
    let mut sender = in_call(link.try_clone(), "a second descriptor")?;
    thread::scope(|scope| {
        let sending = scope.spawn(|| send_pieces(&mut sender, &bytes));
        let read = subject.expect_echo(&mut link, &bytes, when);
        // The reader's fault says more: a server that has closed takes no more bytes.
        let sent = sending.join().expect("sending does not panic");
        read.and(in_call(sent, "a mebibyte is taken in pieces"))
    })?;
    subject.expect_fin(&mut link, when)
}

fn send_pieces(link: &mut Link, bytes: &[u8]) -> std::io::Result<()> {
    let (mut rest, mut length) = (bytes, 1);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(length));
        link.send(piece)?;
        (rest, length) = (behind, (length * 7) % PIECE_BYTES_MAX + 1);
    }
    link.finish()
}

/// No byte and no FIN comes behind a message. So a server that waits for an event although it has
/// something left to do waits for ever.
fn large_messages(subject: &Subject<'_>) -> Result<(), Fault> {
    let mut link = subject.connect()?;
    let message = subject.payload(13, LARGE_BYTES);
    let mut sender = in_call(link.try_clone(), "a second descriptor")?;
    (1..=LARGE_MESSAGES).try_for_each(|number| {
        let when = format!("as message number {number}");
        thread::scope(|scope| {
            let sending = scope.spawn(|| subject.send(&mut sender, &message, &when));
            let read = subject.expect_echo(&mut link, &message, &when);
            read.and(sending.join().expect("sending does not panic"))
        })
    })
}

fn pipelining(subject: &Subject<'_>) -> Result<(), Fault> {
    let mut link = subject.connect()?;
    let bytes = subject.payload(5, PIPELINED * PIPELINED_BYTES);
    let when = "without reading a reply";
    for message in bytes.chunks(PIPELINED_BYTES) {
        subject.send(&mut link, message, when)?;
    }
    subject.expect_echo(&mut link, &bytes, "before we have read any")
}

/// The kernel hands an urgent byte out of the stream, or in it (SO_OOBINLINE of socket(7)). Both
/// are right.
fn urgent(subject: &Subject<'_>) -> Result<(), Fault> {
    subject.net_address()?;
    let prefix = subject.prefix();
    let urgent = if prefix.first() == Some(&b'!') { b'?' } else { b'!' };
    let without = subject.payload(6, MESSAGE_BYTES);
    let (before, behind) = without.split_at(MESSAGE_BYTES / 2);
    let with = [before, &[urgent][..], behind].concat();
    let mut link = subject.connect()?;
    let when = "around an urgent byte";
    subject.send(&mut link, before, when)?;
    in_call(link.send_urgent(urgent), "an urgent byte is taken")?;
    subject.send(&mut link, behind, when)?;
    subject.half_close(&link, when)?;
    let mut received = Vec::new();
    let mut chunk = [0; 1024];
    let bytes_max = with.len() * (1 + prefix.len());
    let end = loop {
        match link.receive(&mut chunk) {
            Event::Bytes(count) if received.len() + count <= bytes_max => {
                received.extend_from_slice(&chunk[..count]);
            }
            end @ (Event::Bytes(_)
            | Event::Fin
            | Event::Reset
            | Event::Silence
            | Event::Error(_)) => break end,
        }
    };
    let came = without_prefixes(&received, prefix);
    let is_whole = came == without || came == with;
    if is_whole && matches!(end, Event::Fin) {
        return Ok(());
    }
    Err(Fault::failed(
        format!("the {} bytes around the urgent one, and a FIN", without.len()),
        format!("{} bytes ({}), and {end}", came.len(), quote(&came)),
    ))
}

/// Returns `bytes` without each occurrence of `prefix`.
fn without_prefixes(mut bytes: &[u8], prefix: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    while let [first, rest @ ..] = bytes {
        match bytes.strip_prefix(prefix).filter(|_| !prefix.is_empty()) {
            Some(behind) => bytes = behind,
            None => {
                kept.push(*first);
                bytes = rest;
            }
        }
    }
    kept
}

fn two_clients(subject: &Subject<'_>) -> Result<(), Fault> {
    let mut first = subject.connect()?;
    let message = subject.payload(7, MESSAGE_BYTES);
    let before = "before another client comes";
    subject.send(&mut first, &message, before)?;
    subject.expect_echo(&mut first, &message, before)?;
    subject.check_served("while another connection is open and idle")?;
    let after = "after another client was served";
    subject.send(&mut first, &message, after)?;
    subject.expect_echo(&mut first, &message, after)
}

fn reset(subject: &Subject<'_>) -> Result<(), Fault> {
    let message = subject.payload(8, MESSAGE_BYTES);
    let when = "before a reset";
    for _ in 0..RESETS {
        let mut link = subject.connect()?;
        subject.send(&mut link, &message, when)?;
        subject.expect_echo(&mut link, &message, when)?;
        subject.send(&mut link, &message[..1], when)?;
        link.reset();
    }
    subject.check_served("after other clients' resets")
}

/// A server that finds connections by their peers' addresses takes the new one for the old one.
fn same_address(subject: &Subject<'_>) -> Result<(), Fault> {
    let server = subject.net_address()?;
    let mut result = Ok(());
    for _ in 0..SAME_ADDRESS_TRIES {
        result = connect_twice(subject, server);
        // Another process may have taken the port between the two.
        if !matches!(result, Err(Fault::Skipped(_))) {
            break;
        }
    }
    result
}

fn connect_twice(subject: &Subject<'_>, server: SocketAddr) -> Result<(), Fault> {
    let any = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let any = any.parse().expect("an address is written here");
    let connect = |own, when: &str| {
        Link::connect_from(own, server, subject.deadline)
            .map_err(|error| Fault::of_call(&format!("a connection {when}"), &error))
    };
    let message = subject.payload(9, MESSAGE_BYTES);
    let when = "before the reset";
    let mut link = connect(any, when)?;
    subject.send(&mut link, &message, when)?;
    subject.expect_echo(&mut link, &message, when)?;
    let own = in_call(link.local_addr(), "an address of our own")?;
    link.reset();
    let when = "from the port of a connection that was reset";
    subject.visit(&mut connect(own, when)?, when)
}

fn never_reads(subject: &Subject<'_>) -> Result<(), Fault> {
    check_unread(subject, Buffers::Usual)
}

fn never_reads_narrow(subject: &Subject<'_>) -> Result<(), Fault> {
    check_unread(subject, Buffers::Narrow)
}

/// A server that ends the connection keeps within a bound, too, but a client that reads late loses
/// its replies.
fn check_unread(subject: &Subject<'_>, buffers: Buffers) -> Result<(), Fault> {
    check_kernel_buffers()?;
    let mut link = subject.connect_with(buffers)?;
    let unit = subject.payload(10, 65_521); // no multiple of it is a usual buffer
    let filled = link.fill(&unit, UNREAD_BYTES_MAX);
    let expected = "a server that stops reading while its replies are not read";
    let (sent, filled) = in_call(filled, expected)?;
    match filled {
        Filled::Blocked => {}
        Filled::All => {
            return Err(Fault::failed(expected, format!("it has taken {sent} bytes")));
        }
        Filled::Ended => {
            let came = format!("the end of the connection after {sent} bytes");
            return Err(Fault::failed(expected, came));
        }
        Filled::OutOfTime => {
            return Err(Fault::Skipped(format!(
                "the server took {sent} bytes in time: neither all of them nor none"
            )));
        }
    }
    let when = "once we read them";
    subject.half_close(&link, when)?;
    EchoReader::new(&unit, sent, subject.prefix()).read_all(&mut link, when)?;
    subject.expect_fin(&mut link, when)
}

/// Skips the row if the kernel's own buffers could hold what is sent.
pub(super) fn check_kernel_buffers() -> Result<(), Fault> {
    let largest = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?;
        text.split_whitespace().next_back()?.parse::<u64>().ok()
    };
    // Elsewhere than on Linux, buffers are smaller.
    let bytes = largest("tcp_rmem").unwrap_or(0) + largest("tcp_wmem").unwrap_or(0);
    if bytes <= KERNEL_BYTES_MAX {
        return Ok(());
    }
    Err(Fault::Skipped(format!("the kernel may keep {bytes} bytes (tcp_rmem, tcp_wmem)")))
}
