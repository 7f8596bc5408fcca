//! What a peer expects to hear.

use super::peers::Farewell;
use super::protocols::{Feeder, is_text, text_of};
use super::*;

/// What a peer expects to hear.
pub(super) trait Ear {
    /// Holds what came against what should have come. A server that stops may have its last word earlier.
    fn hear(&mut self, bytes: &[u8], server_is_stopping: bool);
    /// Has all come that should?
    fn is_content(&self) -> bool;
    fn describe_wait(&self) -> String;
}

/// Hears `left` bytes of the text `tag`.
pub(super) struct Text {
    pub(super) tag: u16,
    pub(super) position: usize,
    pub(super) left: usize,
}

impl Ear for Text {
    fn hear(&mut self, bytes: &[u8], _: bool) {
        assert!(
            bytes.len() <= self.left,
            "text {}: {} bytes too many",
            self.tag,
            bytes.len() - self.left
        );
        assert!(
            is_text(self.tag, self.position, bytes),
            "text {} at {}: other bytes",
            self.tag,
            self.position
        );
        self.position += bytes.len();
        self.left -= bytes.len();
    }

    fn is_content(&self) -> bool {
        self.left == 0
    }

    fn describe_wait(&self) -> String {
        format!("has heard {} bytes and waits for {}", self.position, self.left)
    }
}

/// One answer that is expected.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The text and its length, where it is one.
    pub(super) text: Option<(u16, usize)>,
    pub(super) is_head: bool,
    pub(super) is_last: bool,
}

/// Hears HTTP answers, and believes nothing but their framing.
pub(super) struct Answers {
    pub(super) expected: Vec<Answer>,
    pub(super) heard: usize,
    pub(super) partial: Vec<u8>,
}

impl Answers {
    /// Takes one whole answer off the front, if there is one.
    fn take(&mut self, server_is_stopping: bool) -> bool {
        let Some(head_length) = self.partial.windows(4).position(|four| four == b"\r\n\r\n") else {
            return false;
        };
        let head = std::str::from_utf8(&self.partial[..head_length]).expect("a head is ASCII");
        let answer = self
            .expected
            .get(self.heard)
            .unwrap_or_else(|| panic!("an answer that nobody has asked for: {head}"));
        let field = |name: &str| {
            let mut values = head
                .split("\r\n")
                .skip(1)
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let value = values.next().unwrap_or_else(|| panic!("{name} is missing in {head}"));
            assert_eq!(values.next(), None, "{name} stands once");
            value
        };
        let status =
            head.strip_prefix("HTTP/1.0 ").and_then(|rest| rest.get(..3)).expect("a status line");
        assert_eq!(status, answer.status.to_string(), "answer {} is {head}", self.heard);
        let is_last = field("Connection") == "close";
        assert!(
            is_last == answer.is_last || (is_last && server_is_stopping),
            "answer {} is {head}",
            self.heard
        );
        assert_eq!(field("Date").len(), 29);
        let length: usize = field("Content-Length").parse().expect("a length is a number");
        let body_length = if answer.is_head { 0 } else { length };
        let Some(body) = self.partial.get(head_length + 4..head_length + 4 + body_length) else {
            return false;
        };
        if let Some((tag, expected_length)) = answer.text {
            assert_eq!(length, expected_length, "answer {}", self.heard);
            assert!(is_text(tag, 0, body), "the body of answer {} is another one", self.heard);
        } else if !answer.is_head {
            assert!(
                body.starts_with(status.as_bytes()) && body.ends_with(b"\n"),
                "the words of answer {}",
                self.heard
            );
        }
        self.partial.drain(..head_length + 4 + body_length);
        self.heard += 1;
        if is_last {
            self.expected.truncate(self.heard);
        }
        true
    }
}

impl Ear for Answers {
    fn hear(&mut self, bytes: &[u8], server_is_stopping: bool) {
        self.partial.extend_from_slice(bytes);
        while self.take(server_is_stopping) {}
    }

    fn is_content(&self) -> bool {
        self.heard == self.expected.len() && self.partial.is_empty()
    }

    fn describe_wait(&self) -> String {
        let waiting =
            String::from_utf8_lossy(&self.partial[..self.partial.len().min(300)]).into_owned();
        format!(
            "has heard {} answers of {}, and of the next {waiting:?}",
            self.heard,
            self.expected.len()
        )
    }
}

pub(super) fn echo(tag: u16, count: usize) -> (Vec<u8>, Box<dyn Ear>) {
    (text_of(tag, 0, count), Box::new(Text { tag, position: 0, left: count }))
}

/// Orders for a [`Feeder`].
pub(super) fn orders(
    kernel: &mut Kernel,
    tag: u16,
    total_max: usize,
    farewell: Farewell,
) -> (Vec<u8>, Box<dyn Ear>) {
    let (mut says, mut total) = (Vec::new(), 0);
    for _ in 0..kernel.rng.usize(1..6) {
        let think_ms = if kernel.rng.bool() { 0 } else { kernel.rng.u8(1..40) };
        let count = kernel.rng.usize(1..=total_max / 5);
        says.extend(Feeder::order(think_ms, count));
        total += count;
    }
    if farewell == Farewell::Finish {
        total += Feeder::farewell(tag);
    }
    (says, Box::new(Text { tag, position: 0, left: total }))
}

/// Requests for a [`Library`], and how the conversation ends.
pub(super) fn requests(
    kernel: &mut Kernel,
    tag: u16,
    total_max: usize,
) -> (Vec<u8>, Box<dyn Ear>, Farewell) {
    let (mut says, mut expected) = (Vec::new(), Vec::new());
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
        let plain =
            Answer { status: 200, text: Some((tag, length)), is_head: false, is_last: false };
        let host = "Host: somewhere\r\n";
        match kernel.rng.u8(..8) {
            0 => {
                says.extend(format!("HEAD {path} HTTP/1.1\r\n{host}\r\n").bytes());
                expected.push(Answer { is_head: true, ..plain });
            }
            1 => {
                let body = "GET /1/1 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(kernel.rng.usize(..20));
                says.extend(
                    format!(
                        "POST {path} HTTP/1.1\r\n{host}Content-Length: {}\r\n\r\n{body}",
                        body.len()
                    )
                    .bytes(),
                );
                expected.push(plain);
            }
            2 => {
                says.extend(format!("GET /nothing/here HTTP/1.1\r\n{host}\r\n").bytes());
                expected.push(Answer { status: 404, text: None, ..plain });
            }
            3 => {
                says.extend(
                    format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").bytes(),
                );
                expected.push(plain);
            }
            _ => {
                says.extend(format!("GET {path} HTTP/1.1\r\n{host}Accept: */*\r\n\r\n").bytes());
                expected.push(plain);
            }
        }
        if is_last {
            return match kernel.rng.u8(..5) {
                0 => (says, answers(expected), Farewell::Finish),
                1 => (says, answers(expected), Farewell::CloseWhenContent),
                2 => {
                    says.extend(
                        format!("GET /{tag}/5 HTTP/1.1\r\n{host}Connection: close\r\n\r\n").bytes(),
                    );
                    expected.push(Answer {
                        status: 200,
                        text: Some((tag, 5)),
                        is_head: false,
                        is_last: true,
                    });
                    (says, answers(expected), Farewell::HearOut)
                }
                3 => {
                    // What follows a request that makes no sense is discarded, and must not destroy the answer to it.
                    says.extend(b"What is this?\r\n\r\n");
                    says.extend(text_of(tag, 0, kernel.rng.usize(..5000)));
                    expected.push(Answer {
                        status: 400,
                        text: None,
                        is_head: false,
                        is_last: true,
                    });
                    (says, answers(expected), Farewell::HearOut)
                }
                _ => {
                    says.extend(format!("GET {path} HTT").bytes());
                    expected.push(Answer {
                        status: 400,
                        text: None,
                        is_head: false,
                        is_last: true,
                    });
                    (says, answers(expected), Farewell::Finish)
                }
            };
        }
    }
    unreachable!("the last one returns")
}

fn answers(expected: Vec<Answer>) -> Box<dyn Ear> {
    Box::new(Answers { expected, heard: 0, partial: Vec::new() })
}
