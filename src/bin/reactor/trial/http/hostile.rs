//! Rows about clients that send no HTTP, never end, or do not read.
//!
//! Each is answered, or its connection is closed, and the other clients are served.

use super::super::crowds;
use super::super::limits::{
    ENDLESS_BYTES, KERNEL_BYTES_MAX, RESETS, ROW_MS, UNREAD_BYTES_MAX, UNREAD_ROW_MS,
};
use super::super::link::{self, Event, Filled};
use super::super::row::{Chapter, Fault, Row};
use super::super::streams::check_kernel_buffers;
use super::super::subject::{Subject, in_call};
use super::responses::{End, Responses};
use super::{CLOSE, GET, Until, row};

pub(super) const ROWS: &[Row] = &[
    row(
        "simple-request",
        "RFC 1945 section 4.1",
        Chapter::Http,
        "a request without a version (HTTP/0.9) gets an answer or a close",
        simple_request,
    ),
    row(
        "garbage",
        "RFC 9112 section 2.2",
        Chapter::Http,
        "lines that are no request get an error or a close",
        garbage,
    ),
    row(
        "tls",
        "RFC 8446 section 4.1.2",
        Chapter::Http,
        "TLS on this port gets an answer or a close",
        tls,
    ),
    row(
        "http2",
        "RFC 9113 section 3.4",
        Chapter::Http,
        "the preface of HTTP/2 gets an answer or a close",
        http2,
    ),
    row(
        "endless-line",
        "RFC 9112 section 3",
        Chapter::Timers,
        "a mebibyte of a request line gets an error or a close",
        endless_line,
    ),
    row(
        "endless-head",
        "RFC 9110 section 5.4",
        Chapter::Timers,
        "a mebibyte of field lines gets an error or a close",
        endless_head,
    ),
    row(
        "two-clients",
        "RFC 9112 section 9.5",
        Chapter::OneClient,
        "a client is served while another has sent half a head, and that one is, too",
        two_clients,
    ),
    crowds::SILENT_CROWD,
    crowds::BURST,
    crowds::ABANDONED_CLIENTS,
    crowds::SHORT,
    Row {
        name: "reset",
        proves: "a reset in the middle of a request ends that connection alone",
        source: "RFC 9293 section 3.10.7.4",
        chapter: Chapter::Endings,
        bound_ms: ROW_MS,
        check: reset,
    },
    crowds::RESET_UNREAD,
    Row {
        name: "never-reads",
        proves: "a client that asks and never reads is not read without end",
        source: "RFC 9293 section 3.8.6",
        chapter: Chapter::Output,
        bound_ms: UNREAD_ROW_MS,
        check: never_reads,
    },
    crowds::NEVER_READS_OTHERS,
];

/// Sends bytes that are no HTTP/1, and checks that something happens.
fn check_not_ignored(subject: &Subject<'_>, bytes: &[u8], what: &str) -> Result<(), Fault> {
    let mut link = subject.connect()?;
    match link.send(bytes) {
        Err(error) if !link::is_reset(&error) => {
            return Err(Fault::of_call(&format!("{what} is taken"), &error));
        }
        Ok(()) | Err(_) => {}
    }
    let mut answer = [0; 1024];
    match link.receive(&mut answer) {
        Event::Bytes(_) | Event::Fin | Event::Reset => Ok(()),
        event @ (Event::Silence | Event::Error(_)) => {
            let expected = format!("an answer to {what}, or the end of the connection");
            Err(Fault::failed(expected, event.to_string()))
        }
    }
}

fn simple_request(subject: &Subject<'_>) -> Result<(), Fault> {
    let request = format!("GET {}\r\n", subject.resource().path);
    check_not_ignored(subject, request.as_bytes(), "a simple request")
}

/// An answer without a head cannot be told from an error, and is one to a simple request.
fn garbage(subject: &Subject<'_>) -> Result<(), Fault> {
    let exchange = subject.ask(b"\x01no request\r\n\r\n", &[GET], Until::Answered)?;
    match (&exchange.responses[..], &exchange.end) {
        ([response], _) if response.status >= 400 => Ok(()),
        ([], Some(End::Fin | End::Reset | End::Faulty(_))) => Ok(()),
        _ => Err(exchange.differs("an error, or the end of the connection")),
    }
}

/// A ClientHello with one cipher suite and no extension.
fn tls(subject: &Subject<'_>) -> Result<(), Fault> {
    let mut hello = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03".to_vec();
    hello.extend([0x55; 32]);
    hello.extend(b"\x00\x00\x02\x13\x01\x01\x00");
    check_not_ignored(subject, &hello, "a ClientHello of TLS")
}

fn http2(subject: &Subject<'_>) -> Result<(), Fault> {
    const SETTINGS: &str = "\0\0\0\x04\0\0\0\0\0";
    let preface = format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{SETTINGS}");
    check_not_ignored(subject, preface.as_bytes(), "the preface of HTTP/2")
}

fn endless_line(subject: &Subject<'_>) -> Result<(), Fault> {
    check_endless(subject, &format!("GET /{}", "a".repeat(ENDLESS_BYTES)))
}

fn endless_head(subject: &Subject<'_>) -> Result<(), Fault> {
    let resource = subject.resource();
    let mut head = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", resource.path, resource.host);
    let mut number = 0;
    while head.len() < ENDLESS_BYTES {
        head += &format!("X-{number}: {}\r\n", "a".repeat(100));
        number += 1;
    }
    check_endless(subject, &head)
}

/// Sends a head that does not end. The reset behind an answer may destroy it, so a reset counts as
/// one.
fn check_endless(subject: &Subject<'_>, head: &str) -> Result<(), Fault> {
    let mut link = subject.connect()?;
    let expected = "an error or the end of the connection, before a head has ended";
    match link.send(head.as_bytes()) {
        Err(error) if link::is_reset(&error) => return Ok(()),
        Err(error) => return Err(Fault::of_call(expected, &error)),
        Ok(()) => {}
    }
    match Responses::new(&mut link).next(GET) {
        Ok(response) if response.status >= 400 => Ok(()),
        Err(End::Fin | End::Reset) => Ok(()),
        Ok(response) => Err(Fault::failed(expected, format!("a response {}", response.status))),
        Err(end) => Err(Fault::failed(expected, end.to_string())),
    }
}

fn two_clients(subject: &Subject<'_>) -> Result<(), Fault> {
    let request = subject.resource().request("GET", CLOSE);
    let (half, rest) = request.split_at(request.len() / 2);
    let mut slow = subject.connect()?;
    in_call(slow.send(half), "half a head is taken")?;
    subject.check_served("while another client has sent half a head")?;
    let exchange = super::ask(&mut slow, rest, &[GET], Until::Answered)?;
    match &exchange.responses[..] {
        [response] if response.is_served() => Ok(()),
        _ => Err(exchange.differs("a whole response once the head is whole")),
    }
}

fn reset(subject: &Subject<'_>) -> Result<(), Fault> {
    let request = subject.resource().request("GET", CLOSE);
    for number in 0..RESETS {
        let length = request.len() / (1 + number % 2);
        let mut link = subject.connect()?;
        in_call(link.send(&request[..length]), "a request is taken")?;
        link.reset();
    }
    subject.check_served("after other clients' resets")
}

/// A server that ends the connection bounds it, too. Behind its FIN it may read and discard what
/// comes, for a while (RFC 9112 section 9.6): then it has taken everything, and answered a part.
fn never_reads(subject: &Subject<'_>) -> Result<(), Fault> {
    check_kernel_buffers()?;
    let mut link = subject.connect()?;
    let requests = subject.resource().request("GET", "").repeat(64);
    let expected = "a server that stops reading while its responses are not read";
    let filled = in_call(link.fill(&requests, UNREAD_BYTES_MAX), expected)?;
    match filled {
        (_, Filled::Blocked | Filled::Ended) => Ok(()),
        (sent, Filled::All) => match has_ended(&mut Responses::new(&mut link)) {
            true => Ok(()),
            false => Err(Fault::failed(expected, format!("it has taken {sent} bytes"))),
        },
        (sent, Filled::OutOfTime) => Err(Fault::Skipped(format!(
            "the server took {sent} bytes in time: neither all of them nor none"
        ))),
    }
}

/// Reads responses until the server ends the connection, or announces that it does. Returns false
/// if it does not in time, or has kept more than the kernel would.
fn has_ended(responses: &mut Responses<'_>) -> bool {
    loop {
        if responses.received as u64 > KERNEL_BYTES_MAX {
            return false;
        }
        match responses.next(GET) {
            Ok(response) if response.persists => {}
            Ok(_) | Err(End::Fin | End::Reset) => return true,
            Err(End::Silence | End::Faulty(_)) => return false,
        }
    }
}
