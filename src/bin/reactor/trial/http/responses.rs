//! The responses of one connection, read as strictly as the load generator reads them.
//!
//! Invariant: a body is counted and not kept, so a response takes no more memory than its head.

use std::fmt;

use super::super::limits::RESPONSE_BYTES_MAX;
use super::super::link::{Event, Link};
use super::super::row::quote;
use crate::blast::{AtEof, ResponseReader};

/// A response, whole.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    /// Whether the connection persists after it, as it announces.
    pub(super) persists: bool,
    /// It answers HEAD, so its head is all of it. Without a length, it says less about its end.
    pub(super) answers_head: bool,
    /// The value of its Content-Length.
    pub(super) length: Option<String>,
}

impl Response {
    /// Returns whether the request was understood and handled, if perhaps not found.
    pub(super) fn is_served(&self) -> bool {
        self.status < 500 && ![400, 408].contains(&self.status)
    }

    pub(super) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status)
    }
}

/// What came in place of another response.
#[derive(Debug)]
pub(super) enum End {
    Fin,
    Reset,
    Silence,
    /// What came is no whole response; why.
    Faulty(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Fin => f.write_str("a FIN"),
            End::Reset => f.write_str("a reset"),
            End::Silence => f.write_str("silence"),
            End::Faulty(why) => f.write_str(why),
        }
    }
}

/// Reads one response after the other.
pub(super) struct Responses<'l> {
    link: &'l mut Link,
    reader: ResponseReader,
    /// What has come: a part of a head and one read at most.
    input: Vec<u8>,
    /// How much of it is consumed.
    at: usize,
    /// Bytes that have come in all.
    pub(super) received: usize,
    chunk: Vec<u8>,
}

impl<'l> Responses<'l> {
    pub(super) fn new(link: &'l mut Link) -> Responses<'l> {
        let chunk = vec![0; 64 * 1024];
        Responses {
            link,
            reader: ResponseReader::new(),
            input: Vec::new(),
            at: 0,
            received: 0,
            chunk,
        }
    }

    pub(super) fn link(&mut self) -> &mut Link {
        self.link
    }

    /// Reads the next response, which may be an interim one. The response to HEAD ends with its
    /// head (RFC 9112 section 6.3).
    pub(super) fn next(&mut self, answers_head: bool) -> Result<Response, End> {
        let mut response: Option<Response> = None;
        let mut body_bytes = 0;
        loop {
            let step = match self.reader.step(&self.input[self.at..]) {
                Ok(step) => step,
                Err(fault) => {
                    return Err(End::Faulty(format!("{}: {fault}", quote(&self.input[self.at..]))));
                }
            };
            let (consumed, is_complete) = (step.consumed, step.is_complete);
            body_bytes += step.body.len();
            if response.is_none() && consumed > 0 {
                let head = &self.input[self.at..self.at + consumed];
                let read = Response {
                    status: self.reader.status,
                    persists: self.reader.persists,
                    answers_head,
                    length: content_length(head),
                };
                if read.is_interim() || is_complete || answers_head {
                    self.at += consumed;
                    if answers_head && !read.is_interim() {
                        self.reader = ResponseReader::new();
                    }
                    return Ok(read);
                }
                response = Some(read);
            }
            self.at += consumed;
            match response {
                Some(read) if is_complete => return Ok(read),
                _ if consumed > 0 => continue,
                _ => {}
            }
            if body_bytes > RESPONSE_BYTES_MAX {
                return Err(End::Faulty(format!("more than {RESPONSE_BYTES_MAX} bytes of a body")));
            }
            let event = self.link.receive(&mut self.chunk);
            if let Event::Bytes(count) = event {
                self.input.drain(..self.at);
                self.at = 0;
                self.input.extend_from_slice(&self.chunk[..count]);
                self.received += count;
                continue;
            }
            return self.at_end(&event, response, body_bytes);
        }
    }

    /// Returns what the end of the stream means for the response that is being read.
    fn at_end(
        &mut self,
        event: &Event,
        response: Option<Response>,
        body_bytes: usize,
    ) -> Result<Response, End> {
        let is_between = response.is_none() && self.input.len() == self.at;
        match (event, response) {
            (Event::Fin, Some(read)) if self.reader.at_eof(&[]) == Ok(AtEof::Complete) => Ok(read),
            (Event::Fin, _) if is_between => Err(End::Fin),
            (Event::Reset, _) if is_between => Err(End::Reset),
            (Event::Silence, _) if is_between => Err(End::Silence),
            (_, Some(Response { status, length, .. })) => {
                let declared = length.map_or_else(String::new, |length| format!(" of {length}"));
                let body = format!("{body_bytes}{declared} bytes of a body");
                Err(End::Faulty(format!("status {status}, {body}, and {event}")))
            }
            (_, None) => {
                Err(End::Faulty(format!("{}, and {event}", quote(&self.input[self.at..]))))
            }
        }
    }
}

/// Returns the value of Content-Length in a head. The reader has found the head valid.
fn content_length(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().to_string())
    })
}
