//! What stream peers send, and the replies that they check: echo, bulk transfers and HTTP.
//!
//! Each generator draws what a peer sends and returns it with a `ReplyCheck` that knows every byte
//! of the replies. The checks depend on framing alone, never on how the bytes are split into reads.

use super::peers::PeerEnding;
use super::protocols::{BulkServer, is_text, text_of};
use super::*;

/// The replies that a peer expects.
pub(super) trait ReplyCheck {
    /// Checks the next bytes. A server that stops may end the exchange after any reply.
    fn check(&mut self, bytes: &[u8], server_is_stopping: bool);
    /// Returns whether everything that is expected has been received.
    fn is_complete(&self) -> bool;
    fn describe_wait(&self) -> String;
}

/// Expects `left` more bytes of the text `tag`.
pub(super) struct ExpectedText {
    pub(super) tag: u16,
    pub(super) position: usize,
    pub(super) left: usize,
}

impl ReplyCheck for ExpectedText {
    fn check(&mut self, bytes: &[u8], _: bool) {
        assert!(
            bytes.len() <= self.left,
            "text {}: {} bytes too many",
            self.tag,
            bytes.len() - self.left
        );
        assert!(
            is_text(self.tag, self.position, bytes),
            "text {} at {}: wrong bytes",
            self.tag,
            self.position
        );
        self.position += bytes.len();
        self.left -= bytes.len();
    }

    fn is_complete(&self) -> bool {
        self.left == 0
    }

    fn describe_wait(&self) -> String {
        format!("has received {} bytes and waits for {}", self.position, self.left)
    }
}

/// One HTTP response that is expected.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedResponse {
    pub(super) status: u16,
    /// The number and length of the text in its body. `None`: an error page.
    pub(super) text: Option<(u16, usize)>,
    /// It answers a HEAD request, and so has no body.
    pub(super) is_head: bool,
    /// It closes the connection.
    pub(super) is_last: bool,
    /// Its body has no length, and ends with the connection.
    pub(super) is_ongoing: bool,
}

/// Expects HTTP responses, in order. Finds where each ends by its framing alone.
pub(super) struct ExpectedResponses {
    pub(super) expected: Vec<ExpectedResponse>,
    pub(super) received: usize,
    pub(super) partial: Vec<u8>,
}

impl ExpectedResponses {
    /// Checks one whole response and removes it from `partial`. Returns false if none is whole yet.
    fn take_response(&mut self, server_is_stopping: bool) -> bool {
        let Some(head_length) = self.partial.windows(4).position(|four| four == b"\r\n\r\n") else {
            return false;
        };
        let head = std::str::from_utf8(&self.partial[..head_length]).expect("a head is ASCII");
        let number = self.received;
        let response = self
            .expected
            .get(number)
            .unwrap_or_else(|| panic!("a response without a request: {head}"));
        let field = |name: &str| {
            let mut values = head
                .split("\r\n")
                .skip(1)
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let value = values.next().unwrap_or_else(|| panic!("{name} is missing in {head}"));
            assert_eq!(values.next(), None, "{name} occurs once");
            value
        };
        let status =
            head.strip_prefix("HTTP/1.0 ").and_then(|rest| rest.get(..3)).expect("a status line");
        assert_eq!(status, response.status.to_string(), "response {number} is {head}");
        let is_last = field("Connection") == "close";
        assert!(
            is_last == response.is_last || (is_last && server_is_stopping),
            "response {number} is {head}"
        );
        assert_eq!(field("Date").len(), 29);
        let length: usize = match response.text {
            Some((_, length)) if response.is_ongoing => {
                assert!(!head.contains("Content-Length"), "{head}");
                length
            }
            _ => field("Content-Length").parse().expect("a length is a number"),
        };
        let body_length = if response.is_head { 0 } else { length };
        let Some(body) = self.partial.get(head_length + 4..head_length + 4 + body_length) else {
            return false;
        };
        if let Some((tag, expected_length)) = response.text {
            assert_eq!(length, expected_length, "response {number}");
            assert!(is_text(tag, 0, body), "response {number} has the wrong body");
        } else if !response.is_head {
            assert!(
                body.starts_with(status.as_bytes()) && body.ends_with(b"\n"),
                "response {number} has the wrong error page"
            );
        }
        self.partial.drain(..head_length + 4 + body_length);
        self.received += 1;
        if is_last {
            self.expected.truncate(self.received);
        }
        true
    }
}

impl ReplyCheck for ExpectedResponses {
    fn check(&mut self, bytes: &[u8], server_is_stopping: bool) {
        self.partial.extend_from_slice(bytes);
        while self.take_response(server_is_stopping) {}
    }

    fn is_complete(&self) -> bool {
        self.received == self.expected.len() && self.partial.is_empty()
    }

    fn describe_wait(&self) -> String {
        let partial =
            String::from_utf8_lossy(&self.partial[..self.partial.len().min(300)]).into_owned();
        format!(
            "has received {} of {} responses, and of the next one {partial:?}",
            self.received,
            self.expected.len()
        )
    }
}

/// Text for an echo server.
pub(super) fn echo_traffic(tag: u16, count: usize) -> (Vec<u8>, Box<dyn ReplyCheck>) {
    (text_of(tag, 0, count), Box::new(ExpectedText { tag, position: 0, left: count }))
}

/// Requests for a [`BulkServer`].
pub(super) fn bulk_traffic(
    kernel: &mut Kernel,
    tag: u16,
    total_max: usize,
    ending: PeerEnding,
) -> (Vec<u8>, Box<dyn ReplyCheck>) {
    let (mut output, mut total) = (Vec::new(), 0);
    for _ in 0..kernel.rng.usize(1..6) {
        let wait_ms = if kernel.rng.bool() { 0 } else { kernel.rng.u8(1..40) };
        let count = kernel.rng.usize(1..=total_max / 5);
        output.extend(BulkServer::request(wait_ms, count));
        total += count;
    }
    if ending == PeerEnding::ShutDown {
        total += BulkServer::trailer_bytes(tag);
    }
    (output, Box::new(ExpectedText { tag, position: 0, left: total }))
}

/// HTTP requests for a `TextResponder` (`schedules.rs`), and how the connection ends.
pub(super) fn http_traffic(
    kernel: &mut Kernel,
    tag: u16,
    total_max: usize,
) -> (Vec<u8>, Box<dyn ReplyCheck>, PeerEnding) {
    let (mut output, mut expected) = (Vec::new(), Vec::new());
    let count = kernel.rng.u16(1..12);
    for number in 0..count {
        let is_last = number + 1 == count;
        let length = if kernel.rng.u8(..8) == 0 {
            kernel.rng.usize(..=total_max)
        } else {
            kernel.rng.usize(..400)
        };
        let tag = tag + number;
        let path = format!("/{tag}/{length}");
        let text = Some((tag, length));
        let plain = ExpectedResponse {
            status: 200,
            text,
            is_head: false,
            is_last: false,
            is_ongoing: false,
        };
        let bad_request = ExpectedResponse { status: 400, text: None, is_last: true, ..plain };
        let host = "Host: somewhere\r\n";
        match kernel.rng.u8(..8) {
            0 => {
                output.extend(format!("HEAD {path} HTTP/1.1\r\n{host}\r\n").bytes());
                expected.push(ExpectedResponse { is_head: true, ..plain });
            }
            1 => {
                let body = "GET /1/1 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(kernel.rng.usize(..20));
                output.extend(
                    format!(
                        "POST {path} HTTP/1.1\r\n{host}Content-Length: {}\r\n\r\n{body}",
                        body.len()
                    )
                    .bytes(),
                );
                expected.push(plain);
            }
            2 => {
                output.extend(format!("GET /nothing/here HTTP/1.1\r\n{host}\r\n").bytes());
                expected.push(ExpectedResponse { status: 404, text: None, ..plain });
            }
            3 => {
                output.extend(
                    format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").bytes(),
                );
                expected.push(plain);
            }
            _ => {
                output.extend(format!("GET {path} HTTP/1.1\r\n{host}Accept: */*\r\n\r\n").bytes());
                expected.push(plain);
            }
        }
        if is_last {
            let ending = match kernel.rng.u8(..5) {
                0 => PeerEnding::ShutDown,
                1 => PeerEnding::CloseWhenComplete,
                2 => {
                    // A body that goes on needs a waker, and so a descriptor.
                    let is_ongoing = tag.is_multiple_of(2) && kernel.faults.descriptors_max > 100;
                    let start = if is_ongoing { "/ongoing" } else { "" };
                    output.extend(
                        format!("GET {start}/{tag}/5 HTTP/1.1\r\n{host}Connection: close\r\n\r\n")
                            .bytes(),
                    );
                    let text = Some((tag, 5));
                    expected.push(ExpectedResponse { text, is_last: true, is_ongoing, ..plain });
                    PeerEnding::ReadToFin
                }
                3 => {
                    // What follows a malformed request is discarded, and must not turn the close
                    // into a reset that destroys the response (RFC 9112 section 9.6).
                    output.extend(b"What is this?\r\n\r\n");
                    output.extend(text_of(tag, 0, kernel.rng.usize(..5000)));
                    expected.push(bad_request);
                    PeerEnding::ReadToFin
                }
                _ => {
                    output.extend(format!("GET {path} HTT").bytes());
                    expected.push(bad_request);
                    PeerEnding::ShutDown
                }
            };
            let check = ExpectedResponses { expected, received: 0, partial: Vec::new() };
            return (output, Box::new(check), ending);
        }
    }
    unreachable!("the last request returns")
}
