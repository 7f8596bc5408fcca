//! A load client over HTTP/1.1: it sends one request again and again, and checks the responses.
//!
//! ```text
//!     requests ──► connection ──► responses: framed, status counted, body compared with the first
//!        ▲                             │
//!        └── again, if unanswered ◄── the connection ends between two responses: another one
//! ```
//!
//! Invariant: the end of a connection is an error only within a response, or if no response came on
//! it. Between two responses a server may close at any time (RFC 9112 section 9.3), so the requests
//! in flight are sent again on another connection, and their latencies go on.

mod body;
mod chunked;
pub(super) mod report;
pub(super) mod request;
mod response;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio_reactor::{Advance, CloseReason, Context, Next, Protocol};

use self::body::ExpectedBody;
use self::response::Fault;
pub(crate) use self::response::{AtEof, ResponseReader};
use super::diagnosis::quote;
use super::latencies::empty_histogram;
use super::limits::{CLOSE_WAIT_MS, FRUITLESS_CONNECTIONS_MAX, STATUSES_MAX};
use super::load::Load;
use super::plan::{HttpPlan, Pace};
use super::report::grouped;
use super::stream::{ConnectionStage, LoadConnection, Messages, kind_of};

/// What all clients share: the body that is expected, and what HTTP adds to the counts.
#[derive(Debug, Default)]
pub(super) struct HttpCounts {
    expected_body: ExpectedBody,
    /// Responses by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Responses whose body is not that of the first.
    pub(super) differing: u64,
    /// Responses that the end of their connection has cut off.
    pub(super) cut_off: u64,
    /// Requests sent again, because their connection ended before their response began.
    pub(super) retried: u64,
    /// Bytes of all responses, with their heads.
    pub(super) received_bytes: u64,
    /// How long each connect took, in nanoseconds.
    pub(super) connects: Option<Histogram<u64>>,
}

impl HttpCounts {
    /// Returns how many responses have a status other than 2xx.
    pub(super) fn unsuccessful(&self) -> u64 {
        self.statuses
            .iter()
            .filter(|(status, _)| !is_success(**status))
            .map(|(_, count)| count)
            .sum()
    }

    /// Says what is wrong with the responses, if anything is.
    pub(super) fn describe_failure(&self) -> Option<String> {
        match (self.cut_off, self.unsuccessful(), self.differing) {
            (0, 0, 0) => None,
            (0, 0, count) => Some(format!(
                "{count} responses have another body than the first (--any-body accepts that)"
            )),
            (0, count, _) => Some(format!(
                "{count} responses without success ({})",
                describe_statuses(self.statuses.iter().filter(|(status, _)| !is_success(**status)))
            )),
            (count, _, _) => Some(format!("{count} responses were cut off")),
        }
    }

    fn count_status(&mut self, status: u16) {
        let is_known = self.statuses.contains_key(&status) || self.statuses.len() < STATUSES_MAX;
        *self.statuses.entry(if is_known { status } else { 0 }).or_default() += 1;
    }

    fn record_connect(&mut self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.connects.get_or_insert_with(empty_histogram).saturating_record(ns);
    }
}

/// Lists statuses with their counts, as in `200: 1,234, 503: 5`.
pub(super) fn describe_statuses<'c>(statuses: impl Iterator<Item = (&'c u16, &'c u64)>) -> String {
    let name = |status: u16| if status == 0 { "others".to_owned() } else { status.to_string() };
    let one =
        |(status, count): (&u16, &u64)| format!("{}: {}", name(*status), grouped(*count as f64));
    statuses.map(one).collect::<Vec<_>>().join(", ")
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// The requests of one client.
pub(super) struct Requests {
    plan: Rc<HttpPlan>,
    /// How many were sent on the present connection.
    sent: u64,
}

impl Requests {
    pub(super) fn new(plan: &Rc<HttpPlan>) -> Requests {
        Requests { plan: plan.clone(), sent: 0 }
    }

    /// Returns whether another one may be sent on the present connection.
    #[inline]
    pub(super) fn may_follow(&self) -> bool {
        self.sent < self.plan.requests_per_connection
    }

    /// Sends no other one on the present connection.
    fn end(&mut self) {
        self.sent = u64::MAX;
    }

    #[inline]
    pub(super) fn next(&mut self) -> &[u8] {
        self.sent += 1;
        let request = &self.plan.request;
        if self.may_follow() { &request.persistent } else { &request.last }
    }
}

/// The protocol of one connection.
pub(super) struct HttpClient {
    connection: Rc<RefCell<LoadConnection>>,
    load: Rc<RefCell<Load>>,
    responses: Responses,
    end: Option<End>,
}

/// Why no further response is read on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The last one has come.
    Last,
    /// It was cut off.
    CutOff,
    /// It was no response.
    Corrupt,
}

/// The responses of one connection.
struct Responses {
    plan: Rc<HttpPlan>,
    reader: ResponseReader,
    /// Of the body that is being read.
    body_bytes: u64,
    is_body_expected: bool,
    /// Whole responses so far.
    count: u64,
    /// The last of them has said that the connection does not persist.
    is_over: bool,
}

impl HttpClient {
    pub(super) fn new(
        plan: &Rc<HttpPlan>,
        connection: &Rc<RefCell<LoadConnection>>,
        load: &Rc<RefCell<Load>>,
    ) -> HttpClient {
        let responses = Responses {
            plan: plan.clone(),
            reader: ResponseReader::new(),
            body_bytes: 0,
            is_body_expected: true,
            count: 0,
            is_over: false,
        };
        HttpClient { connection: connection.clone(), load: load.clone(), responses, end: None }
    }

    /// The bytes are no response. From here on it is unknown where the next one begins.
    #[cold]
    fn on_fault(&mut self, load: &mut Load, fault: Fault, bytes: &[u8]) {
        self.end = Some(End::Corrupt);
        load.count_wrong(|_| format!("the first wrong one begins with {}: {fault}", quote(bytes)));
    }
}

impl Responses {
    /// Reads responses until more input is needed or the last one on this connection is complete.
    /// Returns how many bytes it has consumed.
    ///
    /// # Errors
    ///
    /// What begins at the offset beside the fault is no response.
    fn read(
        &mut self,
        input: &[u8],
        connection: &mut LoadConnection,
        load: &mut Load,
        now_ns: u64,
    ) -> Result<usize, (usize, Fault)> {
        let mut consumed = 0;
        while consumed < input.len() {
            let at = consumed;
            let step = self.reader.step(&input[at..]).map_err(|fault| (at, fault))?;
            if step.consumed == 0 {
                break;
            }
            if connection.outstanding.in_flight() == 0 {
                return Err((at, Fault::Unexpected)); // at its head, before a request is sent
            }
            consumed += step.consumed;
            if !step.body.is_empty() {
                self.compare(step.body, load);
            }
            if step.is_complete {
                self.complete(connection, load, now_ns);
                if self.is_over {
                    break;
                }
            }
        }
        Ok(consumed)
    }

    fn compare(&mut self, piece: &[u8], load: &mut Load) {
        if self.is_body_expected && self.is_compared() {
            self.is_body_expected = load.http.expected_body.matches(self.body_bytes, piece);
        }
        self.body_bytes += piece.len() as u64;
    }

    /// Returns whether the body is to be that of the first response. Each failure may have its own.
    fn is_compared(&self) -> bool {
        !self.plan.any_body && is_success(self.reader.status)
    }

    /// Counts a whole response.
    fn complete(&mut self, connection: &mut LoadConnection, load: &mut Load, now_ns: u64) {
        load.count(connection.outstanding.record_reply(connection.expected), now_ns);
        connection.expected += 1;
        connection.fruitless = 0;
        self.count += 1;
        self.is_over = !self.reader.persists;
        let http = &mut load.http;
        http.count_status(self.reader.status);
        let is_expected = !self.is_compared()
            || (self.is_body_expected && http.expected_body.has_length(self.body_bytes));
        http.differing += u64::from(!is_expected);
        (self.body_bytes, self.is_body_expected) = (0, true);
    }
}

impl Protocol for HttpClient {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        let (connection, load) = (&mut *self.connection.borrow_mut(), &mut *self.load.borrow_mut());
        let now = Instant::now();
        let since = connection.on_connected(load);
        load.http.record_connect(now.duration_since(since));
        connection.messages = Messages::Http(Requests::new(&self.responses.plan));
        load.http.retried += connection.resend(|request| cx.send(request));
        // In a closed loop, the latency of the first request has the connect in it, as its user has
        // waited for both.
        let from = match connection.plan.pace {
            Pace::Window(_) => since,
            Pace::Rate(_) => now,
        };
        let from_ns = load.ns(from);
        connection.send_owed(load, from_ns, |request| cx.send(request));
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        if self.end.is_some() {
            return Advance::consumed(input.len()); // what follows the last response means nothing
        }
        let (connection, load) = (self.connection.clone(), self.load.clone());
        let (connection, load) = (&mut *connection.borrow_mut(), &mut *load.borrow_mut());
        let now_ns = load.ns(Instant::now());
        if load.counts.received == 0 && load.fragment.is_empty() {
            load.note_fragment(input);
        }
        let consumed = match self.responses.read(input, connection, load, now_ns) {
            Ok(consumed) => consumed,
            Err((at, fault)) => {
                self.on_fault(load, fault, &input[at..]);
                return Advance::consumed(input.len()).then(Next::Abort);
            }
        };
        load.http.received_bytes += consumed as u64;
        if self.responses.is_over {
            self.end = Some(End::Last);
            // RFC 9112 section 9.6: no request follows, also none that falls due until the close.
            if let Messages::Http(requests) = &mut connection.messages {
                requests.end();
            }
            // The server closes first: see the limit.
            cx.set_timer(Duration::from_millis(CLOSE_WAIT_MS));
            return Advance::consumed(input.len());
        }
        if connection.outstanding.in_flight() == 0 && !connection.messages.may_follow() {
            // The server was asked to close, and its last response does not say that it will.
            self.end = Some(End::Last);
            return Advance::consumed(input.len()).then(Next::Abort);
        }
        if let Pace::Window(window) = connection.plan.pace {
            connection.owed = window.saturating_sub(connection.outstanding.in_flight());
        }
        connection.send_owed(load, now_ns, |request| cx.send(request));
        Advance::consumed(consumed)
    }

    fn eof(&mut self, rest: &[u8], _: &mut Context<'_>) -> Next {
        let (connection, load) = (self.connection.clone(), self.load.clone());
        let (connection, load) = (&mut *connection.borrow_mut(), &mut *load.borrow_mut());
        if self.end.is_none() {
            let now_ns = load.ns(Instant::now());
            match self.responses.reader.at_eof(rest) {
                Ok(AtEof::Between) => {}
                Ok(AtEof::Complete) => {
                    self.responses.complete(connection, load, now_ns);
                    self.end = Some(End::Last);
                }
                Ok(AtEof::Cut) => self.end = Some(End::CutOff),
                Err(fault) => self.on_fault(load, fault, rest),
            }
        }
        // Requests that wait in our output would only delay the end.
        if connection.outstanding.in_flight() == 0 { Next::Close } else { Next::Abort }
    }

    /// The server has not closed the connection, although it said so.
    fn timer_expired(&mut self, _: &mut Context<'_>) -> Next {
        Next::Abort
    }

    fn closed(&mut self, why: CloseReason) {
        let (connection, load) = (&mut *self.connection.borrow_mut(), &mut *self.load.borrow_mut());
        assert_ne!(connection.stage, ConnectionStage::Closed, "a connection closes once");
        if connection.stage == ConnectionStage::Connecting {
            return connection.give_up(load, kind_of(why));
        }
        let kind = match self.end {
            Some(End::CutOff) | None if why == CloseReason::Aborted => ErrorKind::UnexpectedEof,
            Some(_) | None => kind_of(why),
        };
        let now_ns = load.ns(Instant::now());
        let is_cut_off = self.end == Some(End::CutOff)
            || (self.end.is_none() && self.responses.reader.is_within_response());
        let is_fruitless = self.responses.count == 0 && connection.outstanding.in_flight() > 0;
        if is_cut_off || self.end == Some(End::Corrupt) {
            connection.lose_reply(load, now_ns);
            load.http.cut_off += u64::from(is_cut_off);
        }
        connection.fruitless += u32::from(is_fruitless);
        if connection.fruitless >= FRUITLESS_CONNECTIONS_MAX {
            return connection.give_up(load, kind);
        }
        if is_cut_off || (is_fruitless && self.end.is_none()) {
            load.count_error(&kind.into());
        }
        if let Pace::Window(window) = connection.plan.pace
            && connection.outstanding.next_number() > 0
        {
            connection.owed = window.saturating_sub(connection.outstanding.in_flight());
        }
        connection.stage = ConnectionStage::Unconnected;
        connection.reconnect_if_needed(load);
    }
}
