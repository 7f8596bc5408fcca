//! HTTP: the resource that is asked for, one client's visit, and what an exchange came to.

mod framing;
mod hostile;
mod refusals;
mod responses;

use std::fmt;

use self::responses::{End, Response, Responses};
use super::limits::{RESPONSES_MAX, ROW_MS};
use super::link::{self, Link};
use super::row::{Chapter, Fault, Row};
use super::subject::Subject;

/// All rows of an HTTP server.
pub(super) const ROWS: [&[Row]; 3] = [framing::ROWS, refusals::ROWS, hostile::ROWS];

/// Returns a row with the bound that most of them have.
const fn row(
    name: &'static str,
    source: &'static str,
    chapter: Chapter,
    proves: &'static str,
    check: fn(&Subject<'_>) -> Result<(), Fault>,
) -> Row {
    Row { name, proves, source, chapter, bound_ms: ROW_MS, check }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    /// The value of Host.
    pub(super) host: String,
    /// Path and query.
    pub(super) path: String,
}

/// A request of HTTP/1.1 that asks the server to close.
const CLOSE: &str = "Connection: close\r\n";

impl Resource {
    /// Returns a request of HTTP/1.1 with these further field lines.
    pub(super) fn request(&self, method: &str, fields: &str) -> Vec<u8> {
        let Resource { host, path } = self;
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").into_bytes()
    }

    /// Returns a POST with these further field lines, and what follows its head.
    fn post(&self, fields: &str, behind: &str) -> Vec<u8> {
        [self.request("POST", fields).as_slice(), behind.as_bytes()].concat()
    }
}

/// Sends the last request on `link`, and checks that a whole response comes.
pub(super) fn visit(resource: &Resource, link: &mut Link, when: &str) -> Result<(), Fault> {
    let exchange = ask(link, &resource.request("GET", CLOSE), &[GET], Until::Answered)?;
    match &exchange.responses[..] {
        [response] if response.is_served() => Ok(()),
        _ => Err(exchange.differs(&format!("a whole response {when}"))),
    }
}

/// Whether a request is answered by a head alone.
type IsHead = bool;
const GET: IsHead = false;
const HEAD: IsHead = true;

/// How long an exchange is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Until each request has its final response.
    Answered,
    /// Until the server ends the connection. What comes behind the last response is seen.
    Closed,
}

/// What came on one connection.
struct Exchange {
    /// The final responses.
    responses: Vec<Response>,
    /// What came in place of a further one.
    end: Option<End>,
}

impl Exchange {
    /// Returns whether the server has ended the connection after whole responses.
    fn has_closed(&self) -> bool {
        matches!(self.end, Some(End::Fin | End::Reset))
    }

    /// Returns whether no response announces the end before the last one, and the last one does, or
    /// all `requests` are answered.
    fn is_whole(&self, requests: usize) -> bool {
        let Some((last, before)) = self.responses.split_last() else { return false };
        before.iter().all(|response| response.persists || response.answers_head)
            && (self.responses.len() == requests || !last.persists)
            && self.responses.len() <= requests
    }

    fn differs(&self, expected: &str) -> Fault {
        Fault::failed(expected, self.to_string())
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        for Response { status, persists, .. } in &self.responses {
            let announced = if *persists { "" } else { " that announces the end" };
            parts.push(format!("a response {status}{announced}"));
        }
        if let Some(end) = &self.end {
            parts.push(end.to_string());
        }
        f.write_str(&parts.join(", then "))
    }
}

/// Sends `bytes`, the requests of which are answered with a head alone or not as `heads` says, and
/// reads what comes.
///
/// A server may refuse a request before it has all of it, and then the rest is not taken. So what
/// it takes is not checked, only what comes.
fn ask(link: &mut Link, bytes: &[u8], heads: &[IsHead], until: Until) -> Result<Exchange, Fault> {
    match link.send(bytes) {
        Err(error) if !link::is_reset(&error) => {
            Err(Fault::of_call("the request is taken", &error))
        }
        Ok(()) | Err(_) => Ok(read_exchange(&mut Responses::new(link), heads, until)),
    }
}

fn read_exchange(responses: &mut Responses<'_>, heads: &[IsHead], until: Until) -> Exchange {
    let mut exchange = Exchange { responses: Vec::new(), end: None };
    let mut interim = 0;
    while until == Until::Closed || exchange.responses.len() < heads.len() {
        let is_head = heads.get(exchange.responses.len()).copied().unwrap_or(GET);
        match responses.next(is_head) {
            Ok(response) if response.is_interim() => interim += 1,
            Ok(response) => exchange.responses.push(response),
            Err(end) => {
                exchange.end = Some(end);
                break;
            }
        }
        if exchange.responses.len() + interim > RESPONSES_MAX {
            exchange.end = Some(End::Faulty("more responses than requests".to_string()));
            break;
        }
    }
    exchange
}

impl Subject<'_> {
    /// Returns the resource. Only an HTTP server has rows that ask for it.
    fn resource(&self) -> &Resource {
        match self.service {
            super::subject::Service::Http(resource) => resource,
            super::subject::Service::Echo { .. } => unreachable!("an echo has no rows of HTTP"),
        }
    }

    /// Sends `bytes` on another connection, and reads what comes.
    fn ask(&self, bytes: &[u8], heads: &[IsHead], until: Until) -> Result<Exchange, Fault> {
        ask(&mut self.connect()?, bytes, heads, until)
    }
}
