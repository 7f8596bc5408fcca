//! The people in the simulated world.
//!
//! A `Talker` sends what it has to say in pieces, hears what comes back at its own pace, and goes in its own way. Its `Ear`
//! knows what it should hear. A `Correspondent` sends datagrams. `Weather` is all that concerns everybody.

use super::protocols::{Feeder, is_text, text_of};
use super::*;
use crate::testing::simulated::errno;
use crate::testing::simulated::kernel::Actor;
use crate::testing::simulated::stream::{Heard, Stream};
use std::collections::BTreeMap;

/// What a peer expects to hear.
pub(super) trait Ear {
    /// Holds what came against what should have come. A server that stops may have its last word earlier.
    fn hear(&mut self, bytes: &[u8], server_is_stopping: bool);
    /// Has all come that should?
    fn is_content(&self) -> bool;
    fn plight(&self) -> String;
}

/// How a peer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Sends its FIN behind all it has to say, and hears until the server's.
    Finish,
    /// Closes when it has heard all.
    CloseWhenContent,
    /// Hears until the server's FIN.
    HearOut,
    /// Closes in the middle of it, whatever it has not heard.
    CloseEarly,
    /// Resets the connection in the middle of it.
    Reset,
    /// Is never heard of again.
    Vanish,
}

impl Farewell {
    fn is_polite(self) -> bool {
        matches!(self, Farewell::Finish | Farewell::CloseWhenContent | Farewell::HearOut)
    }
}

/// A peer's habits.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) farewell: Farewell,
    pub(super) piece_max: usize,
    pub(super) hear_max: usize,
    pub(super) delay_us_max: u64,
    /// How long it may do nothing, all in all.
    pub(super) naps_us: u64,
    pub(super) room_max: usize,
    /// How often a piece comes behind an urgent mark, in a thousand.
    pub(super) urgent: u32,
}

pub(super) struct Talker {
    pub(super) server: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) says: Vec<u8>,
    pub(super) ear: Box<dyn Ear>,
    pub(super) manner: Manner,
    pub(super) stream: Option<usize>,
    pub(super) said: usize,
    has_finished: bool,
    idle_us: u64,
    /// When it last said or heard something.
    active_us: u64,
    /// It goes, or does not finish, after so many bytes.
    leaves_after: usize,
}

impl Talker {
    pub(super) fn new(
        kernel: &mut Kernel,
        server: SocketAddr,
        peer: SocketAddr,
        says: Vec<u8>,
        ear: Box<dyn Ear>,
        manner: Manner,
    ) -> Talker {
        let leaves_after =
            if manner.farewell.is_polite() { usize::MAX } else { kernel.rng.usize(..=says.len()) };
        Talker {
            server,
            peer,
            says,
            ear,
            manner,
            stream: None,
            said: 0,
            has_finished: false,
            idle_us: 1000,
            active_us: 0,
            leaves_after,
        }
    }

    fn say(&mut self, kernel: &mut Kernel, stream: usize) -> bool {
        const ARRIVED_MAX: usize = 256 * 1024;
        let room = ARRIVED_MAX.saturating_sub(kernel.streams[stream].arrived.len());
        let end = self.says.len().min(self.leaves_after);
        let count = (end - self.said).min(kernel.rng.usize(1..=self.manner.piece_max)).min(room);
        if count > 0 {
            kernel.peer_sends(stream, &self.says[self.said..][..count]);
            self.said += count;
            if kernel.chance(self.manner.urgent) {
                kernel.peer_marks_as_urgent(stream);
            }
        }
        count > 0
    }

    /// Whoever has said all, and has not heard all, is not made to wait without cause. (Its deadline would have the loop look
    /// at it once more, in the end.)
    fn check_that_it_need_not_wait(&self, kernel: &Kernel, stream: usize) {
        let is_owed = self.said == self.says.len()
            && !self.ear.is_content()
            && self.manner.farewell.is_polite();
        let is_inside = kernel.streams[stream].is_accepted
            && !kernel.streams[stream].was_hurt
            && !kernel.is_stopping;
        let waits_us = kernel.now_us() - self.active_us.max(kernel.streams[stream].moved_at);
        let patience_us = 4_000_000 + kernel.faults.held_up_us_max * 100;
        assert!(
            !is_owed || !is_inside || waits_us <= patience_us,
            "{waits_us} us in vain: {}",
            self.plight()
        );
    }
}

impl Actor for Talker {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        let stream = match self.stream {
            Some(stream) => stream,
            None => {
                let stream = kernel.connect(self.peer, self.server, self.manner.room_max)?;
                kernel.tell(|| {
                    format!("         {} is stream {stream}: {:?}", self.peer, self.manner)
                });
                self.stream = Some(stream);
                stream
            }
        };
        let mut is_active = false;
        // Some say several things at a time, and then nothing for a while.
        while kernel.rng.u8(..4) > 0 && self.say(kernel, stream) {
            is_active = true;
        }
        if self.said >= self.leaves_after {
            match self.manner.farewell {
                Farewell::CloseEarly => kernel.peer_closes(stream),
                Farewell::Reset => kernel.fail(stream, errno::ECONNRESET),
                Farewell::Vanish
                | Farewell::Finish
                | Farewell::CloseWhenContent
                | Farewell::HearOut => {}
            }
            return None;
        }
        if self.said == self.says.len()
            && self.manner.farewell == Farewell::Finish
            && !self.has_finished
            && kernel.rng.bool()
        {
            self.has_finished = true;
            kernel.peer_finishes(stream);
        }
        if kernel.rng.u8(..4) > 0 {
            let count_max = kernel.rng.usize(1..=self.manner.hear_max);
            match kernel.peer_hears(stream, count_max) {
                Heard::Bytes(bytes) => {
                    self.ear.hear(&bytes, kernel.is_stopping);
                    is_active = true;
                }
                Heard::Nothing => {}
                end @ (Heard::Fin | Heard::Reset) => {
                    let is_excused = kernel.is_stopping
                        || kernel.streams[stream].was_hurt
                        || !self.manner.farewell.is_polite();
                    let is_well = end == Heard::Fin && self.ear.is_content();
                    assert!(
                        is_well || is_excused,
                        "{} hears {end:?}: {}",
                        self.peer,
                        self.plight()
                    );
                    kernel.peer_closes(stream);
                    return None;
                }
            }
            if self.manner.farewell == Farewell::CloseWhenContent
                && self.said == self.says.len()
                && self.ear.is_content()
            {
                kernel.peer_closes(stream);
                return None;
            }
        }
        if self.manner.naps_us > 0 && kernel.chance(20) {
            self.active_us = kernel.now_us();
            let nap_us = kernel.rng.u64(..=self.manner.naps_us.min(1_000_000));
            self.manner.naps_us -= nap_us;
            return Some(nap_us);
        }
        if is_active {
            self.active_us = kernel.now_us();
        }
        self.check_that_it_need_not_wait(kernel, stream);
        // Who waits for somebody else need not look so often.
        self.idle_us = if is_active { 1000 } else { (self.idle_us * 2).min(400_000) };
        Some(
            kernel.rng.u64(..=self.manner.delay_us_max.min(self.idle_us * 10))
                + if is_active { 0 } else { self.idle_us / 2 },
        )
    }

    fn plight(&self) -> String {
        let Talker { peer, server, said, says, manner, stream, .. } = self;
        let farewell = manner.farewell;
        format!(
            "{peer} at {server} (stream {stream:?}, {farewell:?}) has said {said} of {}, {}",
            says.len(),
            self.ear.plight()
        )
    }
}

// ---- ears

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

    fn plight(&self) -> String {
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

    fn plight(&self) -> String {
        let waiting =
            String::from_utf8_lossy(&self.partial[..self.partial.len().min(300)]).into_owned();
        format!(
            "has heard {} answers of {}, and of the next {waiting:?}",
            self.heard,
            self.expected.len()
        )
    }
}

// ---- what they say

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

// ---- datagrams

/// Sends datagrams, each unlike all others, and holds the answers against them.
pub(super) struct Correspondent {
    pub(super) server: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) prefix: Vec<u8>,
    pub(super) left: usize,
    pub(super) length_max: usize,
    /// Nothing is lost on the way.
    pub(super) is_exact: bool,
    pub(super) waiting: Vec<Vec<u8>>,
    pub(super) patience: u32,
}

impl Actor for Correspondent {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        while let Some(mail) = kernel.take_mail(self.peer) {
            let payload = mail.strip_prefix(&self.prefix[..]).expect("an answer has its prefix");
            let place = self.waiting.iter().position(|waiting| waiting == payload);
            self.waiting.swap_remove(
                place.unwrap_or_else(|| panic!("{} hears what it has not asked", self.peer)),
            );
        }
        if self.left == 0 {
            self.patience -= 1;
            let is_done = self.patience == 0 || self.waiting.is_empty();
            assert!(
                !is_done || self.waiting.is_empty() || !self.is_exact || kernel.is_stopping,
                "{}: an answer is missing",
                self.peer
            );
            return if is_done { None } else { Some(200_000) };
        }
        let is_train = kernel.rng.bool();
        let length = kernel.rng.usize(..=self.length_max);
        for number in 0..kernel.rng.usize(1..=self.left.min(100)) {
            let length = if is_train { length } else { kernel.rng.usize(..=self.length_max) };
            let tag = u16::try_from(self.left % 60_000).expect("it is below 60,000");
            let payload = text_of(tag, number * 7, length);
            let arrives = kernel.peer_sends_datagram(self.peer, self.server, payload.clone());
            if arrives {
                self.waiting.push(payload);
            }
            self.left -= 1;
        }
        Some(kernel.rng.u64(..20_000))
    }

    fn plight(&self) -> String {
        format!(
            "{} waits for {} datagrams and will send {}",
            self.peer,
            self.waiting.len(),
            self.left
        )
    }
}

// ---- what concerns everybody

pub(super) struct Weather {
    pub(super) changes: u32,
    pub(super) datagrams_at: SocketAddr,
}

impl Actor for Weather {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        self.changes = self.changes.saturating_sub(1);
        if self.changes == 0 {
            kernel.faults.exhausted = None;
            return None;
        }
        match kernel.rng.u8(..5) {
            0 => {
                kernel.faults.exhausted = Some(kernel.one_of(&[
                    errno::EMFILE,
                    errno::ENFILE,
                    errno::ENOBUFS,
                    errno::ENOMEM,
                ]));
            }
            1 => kernel.faults.exhausted = None,
            2 => kernel.wall_us = kernel.rng.i64(-1_000_000_000_000_000..3_000_000_000_000_000),
            3 => kernel.raise_any_false_alarm(),
            _ => {
                let error =
                    kernel.one_of(&[errno::ECONNREFUSED, errno::EHOSTUNREACH, errno::ENETUNREACH]);
                kernel.report_to_datagrams(self.datagrams_at, error);
            }
        }
        Some(kernel.rng.u64(..300_000))
    }

    fn plight(&self) -> String {
        format!("the weather changes {} times more", self.changes)
    }
}

/// Rings the bell.
pub(super) struct Ringer;

impl Actor for Ringer {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        kernel.is_stopping = true;
        kernel.ring();
        None
    }

    fn plight(&self) -> String {
        "the bell will ring".to_string()
    }
}

/// Somebody in the world whom we call, and who sends back what it hears; but it hears no more while much of that waits.
pub(super) struct Mirror {
    pub(super) address: SocketAddr,
    /// What each stream has still to be sent, and how far its end has come.
    pub(super) owed: BTreeMap<usize, (Vec<u8>, MirrorsEnd)>,
    pub(super) held_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MirrorsEnd {
    NotYet,
    Heard,
    Said,
}

impl Mirror {
    fn reflect(&mut self, kernel: &mut Kernel, stream: usize) {
        const ARRIVED_MAX: usize = 10_000;
        let (bytes, end) = self.owed.entry(stream).or_insert((Vec::new(), MirrorsEnd::NotYet));
        if bytes.len() < self.held_max && *end == MirrorsEnd::NotYet {
            let count_max = kernel.rng.usize(1..=self.held_max);
            match kernel.peer_hears(stream, count_max) {
                Heard::Bytes(more) => bytes.extend(more),
                Heard::Nothing => {}
                Heard::Fin => *end = MirrorsEnd::Heard,
                Heard::Reset => *end = MirrorsEnd::Said,
            }
        }
        let room = ARRIVED_MAX.saturating_sub(kernel.streams[stream].arrived.len());
        let count = kernel.rng.usize(..=room.min(bytes.len()));
        if count > 0 {
            kernel.peer_sends(stream, &bytes[..count]);
            bytes.drain(..count);
        }
        if bytes.is_empty() && *end == MirrorsEnd::Heard {
            *end = MirrorsEnd::Said;
            kernel.peer_finishes(stream);
        }
    }
}

impl Actor for Mirror {
    fn act(&mut self, kernel: &mut Kernel) -> Option<u64> {
        let name_is = |stream: &Stream| {
            stream.peer == self.address && stream.descriptor.is_some() && !stream.is_connecting
        };
        let called: Vec<usize> =
            (0..kernel.streams.len()).filter(|&number| name_is(&kernel.streams[number])).collect();
        for &stream in &called {
            self.reflect(kernel, stream);
        }
        let is_done = kernel.others_are_done() && called.is_empty();
        (!is_done).then(|| kernel.rng.u64(1..3000))
    }

    fn plight(&self) -> String {
        let owed: Vec<_> =
            self.owed.iter().map(|(stream, (bytes, end))| (stream, bytes.len(), end)).collect();
        format!("{} owes {owed:?}", self.address)
    }
}
