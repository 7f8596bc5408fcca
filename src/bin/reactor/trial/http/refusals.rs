//! Rows about requests that two readers could understand differently: they are refused.
//!
//! What one reader takes for a body and another for a request lets an attacker send a request in a
//! client's name (request smuggling, RFC 9112 section 11.2).

use super::super::row::{Chapter, Fault, Row};
use super::super::subject::{Subject, in_call};
use super::responses::{End, Responses};
use super::{CLOSE, Exchange, GET, Until, read_exchange, row};

pub(super) const ROWS: &[Row] = &[
    row(
        "two-lengths",
        "RFC 9112 section 6.3",
        Chapter::Http,
        "two different Content-Lengths are refused, and the connection closes",
        two_lengths,
    ),
    row(
        "bad-length",
        "RFC 9112 section 6.3",
        Chapter::Http,
        "a Content-Length that is no number is refused, and the connection closes",
        bad_length,
    ),
    row(
        "length-and-coding",
        "RFC 9112 section 6.1",
        Chapter::Http,
        "after a Content-Length beside a Transfer-Encoding the connection closes",
        length_and_coding,
    ),
    row(
        "unknown-coding",
        "RFC 9112 section 6.3",
        Chapter::Http,
        "an unknown transfer coding is refused, and the connection closes",
        unknown_coding,
    ),
    row(
        "cut-body",
        "RFC 9112 section 8",
        Chapter::Endings,
        "a body that a FIN cuts short is not taken for the whole",
        cut_body,
    ),
    row(
        "no-host",
        "RFC 9112 section 3.2",
        Chapter::Http,
        "HTTP/1.1 without Host is refused",
        no_host,
    ),
    row(
        "space-before-colon",
        "RFC 9112 section 5.1",
        Chapter::Http,
        "a space between a field's name and its colon is refused",
        space_before_colon,
    ),
    row(
        "folded-field",
        "RFC 9112 section 5.2",
        Chapter::Http,
        "a folded line is refused, or belongs to the field before it",
        folded_field,
    ),
    row(
        "bare-cr",
        "RFC 9112 section 2.2",
        Chapter::Http,
        "a CR without LF is refused, or ends no line",
        bare_cr,
    ),
    row(
        "bare-lf",
        "RFC 9112 section 2.2",
        Chapter::Http,
        "lines that end with LF alone are answered, and do not hang",
        bare_lf,
    ),
    row(
        "unknown-method",
        "RFC 9110 section 9.1",
        Chapter::Http,
        "an unknown method gets an error",
        unknown_method,
    ),
];

/// Whether the connection must end after the refusal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Close,
    Any,
}

/// Checks that the answer is an error, or that the server closes without one.
fn check_refused(exchange: &Exchange, then: Then, what: &str) -> Result<(), Fault> {
    let is_refused = match &exchange.responses[..] {
        [] => exchange.has_closed(),
        [response] => response.status >= 400 && (then == Then::Any || exchange.has_closed()),
        _ => false,
    };
    let and = if then == Then::Close { ", and the end of the connection" } else { "" };
    match is_refused {
        true => Ok(()),
        false => Err(exchange.differs(&format!("an error for {what}{and}"))),
    }
}

/// Sends `request`, which the server must refuse.
fn refuse(subject: &Subject<'_>, request: &[u8], then: Then, what: &str) -> Result<(), Fault> {
    let until = if then == Then::Close { Until::Closed } else { Until::Answered };
    check_refused(&subject.ask(request, &[GET], until)?, then, what)
}

fn two_lengths(subject: &Subject<'_>) -> Result<(), Fault> {
    let fields = "Content-Length: 5\r\nContent-Length: 6\r\n";
    refuse(subject, &subject.resource().post(fields, "hello!"), Then::Close, "lengths of 5 and 6")
}

fn bad_length(subject: &Subject<'_>) -> Result<(), Fault> {
    for value in ["-1", "+5", "5x", "0x5", "5, 6", "5 5", "18446744073709551621"] {
        let fields = format!("Content-Length: {value}\r\n");
        let request = subject.resource().post(&fields, "hello");
        refuse(subject, &request, Then::Close, &format!("a length of {value}"))?;
    }
    Ok(())
}

/// The chunks end at once, and a request follows. A reader that goes by the length takes a part of
/// it for the body.
fn length_and_coding(subject: &Subject<'_>) -> Result<(), Fault> {
    let resource = subject.resource();
    let fields = "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n";
    let mut bytes = resource.post(fields, "0\r\n\r\n");
    bytes.extend(resource.request("GET", ""));
    let exchange = subject.ask(&bytes, &[GET], Until::Closed)?;
    match exchange.responses.len() <= 1 && exchange.has_closed() {
        true => Ok(()),
        false => Err(exchange.differs("one response at most, and the end of the connection")),
    }
}

fn unknown_coding(subject: &Subject<'_>) -> Result<(), Fault> {
    let request = subject.resource().post("Transfer-Encoding: wibble\r\n", "hello");
    refuse(subject, &request, Then::Close, "the coding wibble")
}

fn cut_body(subject: &Subject<'_>) -> Result<(), Fault> {
    let mut link = subject.connect()?;
    let request = subject.resource().post("Content-Length: 10\r\n", "hello");
    in_call(link.send(&request), "a request is taken")?;
    // A server that has refused it already may have closed.
    let _ = link.finish();
    let exchange = read_exchange(&mut Responses::new(&mut link), &[GET], Until::Closed);
    check_refused(&exchange, Then::Close, "5 of 10 bytes of a body")
}

fn no_host(subject: &Subject<'_>) -> Result<(), Fault> {
    let request = format!("GET {} HTTP/1.1\r\n\r\n", subject.resource().path);
    refuse(subject, request.as_bytes(), Then::Any, "a request without Host")
}

fn space_before_colon(subject: &Subject<'_>) -> Result<(), Fault> {
    let request = subject.resource().request("GET", "X-Space : a\r\n");
    refuse(subject, &request, Then::Any, "a space before the colon")
}

/// Sends a head in which `line` contains a Content-Length that is none. A server that takes it for
/// one waits for a body.
fn check_no_field(subject: &Subject<'_>, line: &str) -> Result<(), Fault> {
    let request = subject.resource().request("GET", &format!("{line}{CLOSE}"));
    let exchange = subject.ask(&request, &[GET], Until::Closed)?;
    match exchange.responses.len() <= 1 && exchange.has_closed() {
        true => Ok(()),
        false => Err(exchange.differs("one whole response, without waiting for a body")),
    }
}

fn folded_field(subject: &Subject<'_>) -> Result<(), Fault> {
    check_no_field(subject, "X-Folded: a\r\n Content-Length: 50\r\n")
}

fn bare_cr(subject: &Subject<'_>) -> Result<(), Fault> {
    check_no_field(subject, "X-Bare: a\rContent-Length: 50\r\n")
}

fn bare_lf(subject: &Subject<'_>) -> Result<(), Fault> {
    let request = subject.resource().request("GET", CLOSE);
    let request: Vec<u8> = request.into_iter().filter(|&byte| byte != b'\r').collect();
    let exchange = subject.ask(&request, &[GET], Until::Answered)?;
    match (exchange.responses.len(), &exchange.end) {
        (1, _) | (0, Some(End::Fin | End::Reset)) => Ok(()),
        _ => Err(exchange.differs("a whole response, or the end of the connection")),
    }
}

fn unknown_method(subject: &Subject<'_>) -> Result<(), Fault> {
    refuse(subject, &subject.resource().request("BREW", ""), Then::Any, "the method BREW")
}
