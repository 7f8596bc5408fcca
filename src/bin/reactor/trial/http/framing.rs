//! Rows about where responses end, and how long a connection lasts.

use std::thread;
use std::time::Duration;

use super::super::limits::{DRIP_PAUSE_MS, REFUSED_BODY_BYTES, UNREAD_BODY_BYTES};
use super::super::link;
use super::super::row::{Chapter, Fault, Row};
use super::super::subject::{Subject, in_call};
use super::responses::{End, Responses};
use super::{CLOSE, GET, HEAD, Until, read_exchange, row};

pub(super) const ROWS: &[Row] = &[
    row("get", "RFC 9112 section 4", Chapter::Http, "GET gets a whole response", get),
    row("length", "RFC 9112 section 6.3", Chapter::Http, "a body has the declared length", length),
    row("head", "RFC 9110 section 9.3.2", Chapter::Http, "HEAD gets GET's fields, no body", head),
    row(
        "persistence",
        "RFC 9112 section 9.3",
        Chapter::Http,
        "a connection persists if the response does not announce its end",
        persistence,
    ),
    row(
        "close",
        "RFC 9112 section 9.6",
        Chapter::Endings,
        "after a last request there is one whole response, and the server's FIN",
        close,
    ),
    row(
        "pipelining",
        "RFC 9112 section 9.3.2",
        Chapter::Messages,
        "requests sent at once are answered whole and in order",
        pipelining,
    ),
    row(
        "half-close",
        "RFC 9112 section 9.6",
        Chapter::Endings,
        "a request is answered although a FIN is behind it",
        half_close,
    ),
    row(
        "unread-body",
        "RFC 9112 section 9.6",
        Chapter::Endings,
        "a body that the server refuses to read causes no reset, which may destroy the response",
        unread_body,
    ),
    row("drip", "RFC 9112 section 2.2", Chapter::Messages, "a head may come byte by byte", drip),
    row(
        "body",
        "RFC 9112 section 6.3",
        Chapter::Http,
        "a body that looks like a request is not answered",
        body,
    ),
    row(
        "chunked-body",
        "RFC 9112 section 7.1",
        Chapter::Http,
        "a chunked body is decoded or refused, and not answered",
        chunked_body,
    ),
    row(
        "continue",
        "RFC 9110 section 10.1.1",
        Chapter::Http,
        "a client that expects 100 (Continue) is answered before it sends the body",
        expect_continue,
    ),
];

fn get(subject: &Subject<'_>) -> Result<(), Fault> {
    let resource = subject.resource();
    let request = format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", resource.path, resource.host);
    let exchange = subject.ask(request.as_bytes(), &[GET], Until::Answered)?;
    match &exchange.responses[..] {
        [response] if (200..300).contains(&response.status) => Ok(()),
        _ => Err(exchange.differs("a whole response with a status of 2xx to HTTP/1.0")),
    }
}

fn length(subject: &Subject<'_>) -> Result<(), Fault> {
    let request = subject.resource().request("GET", CLOSE);
    let exchange = subject.ask(&request, &[GET], Until::Closed)?;
    match (&exchange.responses[..], &exchange.end) {
        ([_], Some(End::Fin)) => Ok(()),
        _ => Err(exchange.differs("a body as long as declared, and nothing behind it")),
    }
}

fn head(subject: &Subject<'_>) -> Result<(), Fault> {
    let resource = subject.resource();
    let of_get = subject.ask(&resource.request("GET", CLOSE), &[GET], Until::Answered)?;
    let exchange = subject.ask(&resource.request("HEAD", CLOSE), &[HEAD], Until::Closed)?;
    let expected = "the status and the Content-Length of GET, and nothing behind the head";
    match (&of_get.responses[..], &exchange.responses[..], &exchange.end) {
        ([of_get], [of_head], Some(End::Fin)) if of_get.status == of_head.status => {
            if let (Some(one), Some(other)) = (&of_get.length, &of_head.length)
                && one != other
            {
                return Err(Fault::failed(expected, format!("a length of {other}, not {one}")));
            }
        }
        _ => return Err(exchange.differs(expected)),
    }
    let refused = resource.request("HEAD", &format!("X-Space : a\r\n{CLOSE}"));
    let exchange = subject.ask(&refused, &[HEAD], Until::Closed)?;
    match exchange.responses.len() <= 1 && exchange.has_closed() {
        true => Ok(()),
        false => Err(exchange.differs("nothing behind the head of a refusal of HEAD, either")),
    }
}

fn persistence(subject: &Subject<'_>) -> Result<(), Fault> {
    let request = subject.resource().request("GET", "");
    let mut link = subject.connect()?;
    let first = super::ask(&mut link, &request, &[GET], Until::Answered)?;
    match &first.responses[..] {
        [response] if response.persists => {
            let second = super::ask(&mut link, &request, &[GET], Until::Answered)?;
            match second.responses.len() {
                1 => Ok(()),
                _ => Err(second.differs("a second response on the same connection")),
            }
        }
        [_] => {
            let rest = read_exchange(&mut Responses::new(&mut link), &[], Until::Closed);
            match rest.end {
                Some(End::Fin) if rest.responses.is_empty() => Ok(()),
                _ => Err(rest.differs("the FIN that the response announces")),
            }
        }
        _ => Err(first.differs("a whole response")),
    }
}

fn close(subject: &Subject<'_>) -> Result<(), Fault> {
    let resource = subject.resource();
    let http_1_0 = format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", resource.path, resource.host);
    for request in [resource.request("GET", CLOSE), http_1_0.into_bytes()] {
        let exchange = subject.ask(&request, &[GET], Until::Closed)?;
        match (exchange.responses.len(), &exchange.end) {
            (1, Some(End::Fin)) => {}
            _ => return Err(exchange.differs("one whole response, and a FIN")),
        }
    }
    Ok(())
}

fn pipelining(subject: &Subject<'_>) -> Result<(), Fault> {
    let resource = subject.resource();
    let requests = [
        resource.request("GET", ""),
        resource.request("HEAD", ""),
        resource.request("GET", ""),
        resource.request("HEAD", CLOSE),
    ];
    let exchange = subject.ask(&requests.concat(), &[GET, HEAD, GET, HEAD], Until::Closed)?;
    match exchange.is_whole(requests.len()) && exchange.has_closed() {
        true => Ok(()),
        false => Err(exchange.differs("four whole responses, or fewer of which the last says so")),
    }
}

fn half_close(subject: &Subject<'_>) -> Result<(), Fault> {
    let request = subject.resource().request("GET", "");
    let mut link = subject.connect()?;
    in_call(link.send(&request), "a request is taken")?;
    in_call(link.finish(), "the connection is open")?;
    let exchange = read_exchange(&mut Responses::new(&mut link), &[GET], Until::Closed);
    match (&exchange.responses[..], &exchange.end) {
        ([response], Some(End::Fin)) if response.is_served() => Ok(()),
        _ => Err(exchange.differs("a whole response, and the server's FIN, after ours")),
    }
}

/// The whole of a body is sent, and then a part of a larger one and our FIN.
fn unread_body(subject: &Subject<'_>) -> Result<(), Fault> {
    for length in [UNREAD_BODY_BYTES, REFUSED_BODY_BYTES] {
        let fields = format!("Content-Length: {length}\r\n{CLOSE}");
        let bytes = subject.resource().post(&fields, &"a".repeat(UNREAD_BODY_BYTES));
        let mut link = subject.connect()?;
        match link.send(&bytes) {
            Err(error) if !link::is_reset(&error) => {
                return Err(Fault::of_call("a body is read or refused", &error));
            }
            Ok(()) | Err(_) => {}
        }
        let is_cut = length > UNREAD_BODY_BYTES;
        if is_cut {
            let _ = link.finish(); // a server that has refused it may have closed
        }
        let exchange = read_exchange(&mut Responses::new(&mut link), &[GET], Until::Closed);
        match (exchange.responses.len(), &exchange.end) {
            (1, Some(End::Fin)) => {}
            (0, Some(End::Fin)) if is_cut => {}
            _ => return Err(exchange.differs("a whole response, and a FIN and no reset")),
        }
    }
    Ok(())
}

fn drip(subject: &Subject<'_>) -> Result<(), Fault> {
    let request = subject.resource().request("GET", CLOSE);
    let mut link = subject.connect()?;
    // Every byte on its own up to a bound, for a long path.
    let at = request.len().min(200);
    for byte in request[..at].chunks(1) {
        in_call(link.send(byte), "a request is taken byte by byte")?;
        thread::sleep(Duration::from_millis(DRIP_PAUSE_MS));
    }
    let exchange = super::ask(&mut link, &request[at..], &[GET], Until::Answered)?;
    match &exchange.responses[..] {
        [response] if response.is_served() => Ok(()),
        _ => Err(exchange.differs("a whole response without an error")),
    }
}

/// A second request follows, so that a body that is neither read nor answered shows, too.
fn check_body(subject: &Subject<'_>, post: &[u8]) -> Result<(), Fault> {
    let requests = [post, &subject.resource().request("GET", CLOSE)].concat();
    let exchange = subject.ask(&requests, &[GET, GET], Until::Closed)?;
    match exchange.is_whole(2) && exchange.has_closed() {
        true => Ok(()),
        false => Err(exchange.differs("two responses, or one that announces the end")),
    }
}

fn body(subject: &Subject<'_>) -> Result<(), Fault> {
    let resource = subject.resource();
    let inner = String::from_utf8(resource.request("GET", "")).expect("a request is ASCII");
    check_body(subject, &resource.post(&format!("Content-Length: {}\r\n", inner.len()), &inner))
}

fn chunked_body(subject: &Subject<'_>) -> Result<(), Fault> {
    let resource = subject.resource();
    let inner = String::from_utf8(resource.request("GET", "")).expect("a request is ASCII");
    let chunks = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    check_body(subject, &resource.post("Transfer-Encoding: chunked\r\n", &chunks))
}

fn expect_continue(subject: &Subject<'_>) -> Result<(), Fault> {
    let fields = format!("Content-Length: 5\r\nExpect: 100-continue\r\n{CLOSE}");
    let mut link = subject.connect()?;
    in_call(link.send(&subject.resource().post(&fields, "")), "a request is taken")?;
    let mut responses = Responses::new(&mut link);
    let expected = "100 (Continue) or a final response before the body is sent";
    match responses.next(GET) {
        Ok(response) if response.status == 100 => {
            in_call(responses.link().send(b"hello"), "the body is taken after 100")?;
            match responses.next(GET) {
                Ok(response) if !response.is_interim() => Ok(()),
                Ok(response) => Err(Fault::failed("a final response", response.status.to_string())),
                Err(end) => Err(Fault::failed("a final response after the body", end.to_string())),
            }
        }
        Ok(response) if !response.is_interim() => Ok(()),
        Ok(response) => Err(Fault::failed(expected, format!("a response {}", response.status))),
        Err(end) => Err(Fault::failed(expected, end.to_string())),
    }
}
