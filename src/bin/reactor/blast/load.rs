//! What all clients share: whether to send, what has been counted, and the latencies so far.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use super::diagnosis::error_words;
use super::http::HttpCounts;
use super::latencies::Latencies;
use super::limits::{ERROR_KINDS_MAX, QUOTED_BYTES_MAX, SENT_LATE_MS, UNSENT_GROUPS};
use super::outstanding::ReplyKind;
use super::patience::Patience;
use super::plan::Plan;

/// The load that is being generated.
pub(super) struct Load {
    run_id: u32,
    started: Instant,
    /// How long messages were sent, once that is over.
    pub(super) sent_for: Option<Duration>,
    /// When the last first reply was received, in nanoseconds from the start.
    last_received_ns: u64,
    /// In an open loop, messages are due until this time, in nanoseconds from the start.
    ends_ns: u64,
    pub(super) counts: Counts,
    pub(super) http: HttpCounts,
    pub(super) latencies: Latencies,
    /// How long a reply is awaited, by the latencies so far.
    pub(super) patience: Patience,
    /// How late the last message was sent. It is no part of the path's latency.
    lateness_ns: u64,
    /// Clients whose connect has neither succeeded nor failed yet (streams only).
    connecting: u32,
    /// Clients that have neither failed to connect nor lost their connection. Over UDP, all of
    /// them.
    alive: u32,
    /// Clients that have connected, including those that have lost their connection since (streams
    /// only).
    pub(super) connected: u32,
    /// The numbers of clients that wait for their connect to be started.
    pub(super) to_connect: Vec<u32>,
    /// The error of this machine that has kept a client from even trying to connect.
    pub(super) local_error: Option<io::Error>,
    /// The error after which no reply can be expected, unless one arrives all the same.
    pub(super) last_error: Option<LastError>,
    /// What the first wrong reply was, in words.
    pub(super) wrong_reply: Option<String>,
    /// The beginning of what arrived over a stream in place of a first reply: over TCP it is too
    /// short for one, over HTTP not known to be whole.
    pub(super) fragment: Vec<u8>,
    /// The last time that was converted, in both forms.
    clock: (Instant, u64),
}

/// Messages and replies.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    /// Messages that were due but not sent in time, or not accepted by the kernel.
    pub(super) unsent: u64,
    /// Of these, the messages that the kernel did not accept.
    pub(super) refused: u64,
    /// Messages of an open loop that were sent late, by how much the latest of them.
    pub(super) sent_late: u64,
    pub(super) sent_late_max_ns: u64,
    /// First replies that are exactly what was sent.
    pub(super) received: u64,
    /// Of these, the replies that came before sending ended.
    pub(super) received_in_time: u64,
    /// Messages, sent or due, that had no reply when the wait for replies ended. Datagrams that
    /// were sent are not among them: they count as lost.
    pub(super) unanswered: u64,
    pub(super) duplicates: u64,
    /// First replies to a message although a later one had a reply already.
    pub(super) reordered: u64,
    /// Replies to messages that are no longer remembered and may have had no reply before.
    pub(super) expired: u64,
    pub(super) corrupt: u64,
    /// Replies on a stream to another message than the next one in order.
    pub(super) misplaced: u64,
    /// Replies that the kernel dropped, because our receive buffer was full. `None`: the system
    /// does not say, or it is TCP, where none is dropped.
    pub(super) dropped: Option<u64>,
    /// Datagrams from another address than the server's, or cut short by our kernel.
    pub(super) foreign: u64,
    /// Errors that the kernel reported, and how many there were of each kind.
    pub(super) errors: u64,
    pub(super) error_kinds: BTreeMap<String, u64>,
}

/// The last error of the kernel that explains missing replies.
#[derive(Debug)]
pub(super) struct LastError {
    kind: ErrorKind,
    words: String,
    /// Replies of any kind received before it.
    replies_before: u64,
}

impl Load {
    /// Makes a load of `clients` clients for `duration`, with a histogram for each `interval`.
    pub(super) fn new(clients: u32, duration: Duration, interval: Option<Duration>) -> Load {
        let now = Instant::now();
        let latencies = Latencies::new(interval);
        // It need not be unpredictable, only different from run to run.
        let nanos = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        Load {
            run_id: nanos ^ std::process::id(),
            started: now,
            sent_for: None,
            last_received_ns: 0,
            ends_ns: ns_in(duration),
            counts: Counts::default(),
            http: HttpCounts::default(),
            to_connect: Vec::new(),
            connecting: clients,
            alive: clients,
            connected: 0,
            local_error: None,
            latencies,
            patience: Patience::new(),
            lateness_ns: 0,
            last_error: None,
            wrong_reply: None,
            fragment: Vec::new(),
            clock: (now, 0),
        }
    }

    /// Begins the load. Returns its start time.
    pub(super) fn start(&mut self) -> Instant {
        let now = Instant::now();
        (self.started, self.clock) = (now, (now, 0));
        self.latencies.start(now);
        now
    }

    /// Makes no further message due.
    pub(super) fn end(&mut self, now: Instant) {
        self.ends_ns = self.ends_ns.min(self.ns(now));
    }

    /// Returns whether a message that is due at `due_ns` is to be sent at `now_ns`, be it late.
    #[inline]
    pub(super) fn is_due(&self, due_ns: u64, now_ns: u64) -> bool {
        due_ns <= now_ns && due_ns < self.ends_ns
    }

    /// Returns how many messages of all clients have been due in an open loop of `rate` a second.
    pub(super) fn due(&self, rate: u64) -> u64 {
        u64::try_from((u128::from(self.ends_ns) * u128::from(rate)).div_ceil(1_000_000_000))
            .unwrap_or(u64::MAX)
    }

    /// Ends sending.
    pub(super) fn stop(&mut self, now: Instant) {
        self.sent_for = Some(now.duration_since(self.started));
        self.counts.received_in_time = self.counts.received;
    }

    /// Returns the time in which the replies were received: until sending ended, or until the last
    /// reply if that was later.
    pub(super) fn lasted(&self) -> Duration {
        self.sent_for.unwrap_or_default().max(Duration::from_nanos(self.last_received_ns))
    }

    /// Returns the number that distinguishes the messages of this run from those of others.
    pub(super) fn run_id(&self) -> u32 {
        self.run_id
    }

    #[inline]
    pub(super) fn is_sending(&self) -> bool {
        self.sent_for.is_none()
    }

    /// Returns `now` in nanoseconds from the start.
    #[inline]
    pub(super) fn ns(&mut self, now: Instant) -> u64 {
        if self.clock.0 != now {
            self.clock = (now, ns_in(now.duration_since(self.started)));
        }
        self.clock.1
    }

    /// Counts a reply that was received at `now_ns`.
    #[inline]
    pub(super) fn count(&mut self, reply: ReplyKind, now_ns: u64) {
        match reply {
            ReplyKind::First { sent_ns, is_overtaken } => {
                self.counts.received += 1;
                self.last_received_ns = now_ns;
                self.counts.reordered += u64::from(is_overtaken);
                self.latencies.record(now_ns.saturating_sub(sent_ns), 1);
                if self.patience.measures(sent_ns) {
                    self.patience.measure(sent_ns + self.lateness_ns, now_ns);
                }
            }
            ReplyKind::Duplicate => self.counts.duplicates += 1,
            ReplyKind::Expired => self.counts.expired += 1,
            ReplyKind::Unexpected => self.counts.corrupt += 1,
        }
    }

    /// Counts a message that is sent. In an open loop it was due at `due_ns`.
    #[inline]
    pub(super) fn count_sent(&mut self, due_ns: u64, now_ns: u64) {
        self.counts.sent += 1;
        let late_ns = now_ns.saturating_sub(due_ns);
        self.lateness_ns = late_ns;
        if late_ns > SENT_LATE_MS * 1_000_000 {
            self.counts.sent_late += 1;
            self.counts.sent_late_max_ns = self.counts.sent_late_max_ns.max(late_ns);
        }
    }

    /// Counts a reply that is not what was sent. `describe` is called for the first one.
    #[cold]
    pub(super) fn count_wrong(&mut self, describe: impl FnOnce(&Counts) -> String) {
        self.counts.corrupt += 1;
        if self.wrong_reply.is_none() {
            self.wrong_reply = Some(describe(&self.counts));
        }
    }

    /// Notes the beginning of what may become a first reply.
    #[cold]
    pub(super) fn note_fragment(&mut self, bytes: &[u8]) {
        // One byte more than is quoted shows that there is more.
        self.fragment = bytes[..bytes.len().min(QUOTED_BYTES_MAX + 1)].to_vec();
    }

    /// Records `count` messages, sent or due at `since_ns`, whose replies are not awaited after
    /// `now_ns`.
    ///
    /// Any reply would have come later, so leaving them out would improve the latencies the longer
    /// the server stalls. They are recorded with the time waited so far.
    pub(super) fn record_unanswered(&mut self, since_ns: u64, count: u64, now_ns: u64) {
        self.counts.unanswered += count;
        self.latencies.record(now_ns.saturating_sub(since_ns), count);
    }

    /// Records all messages from `sequence` on that were due in an open loop of `rate` a second and
    /// that no client has sent. There may be billions, so they are recorded in groups, each with
    /// the time that its youngest message has waited.
    pub(super) fn record_unsent_from(&mut self, mut sequence: u64, rate: u64, now_ns: u64) {
        let due = self.due(rate);
        let group = due.saturating_sub(sequence).div_ceil(UNSENT_GROUPS).max(1);
        while sequence < due {
            let count = group.min(due - sequence);
            sequence += count;
            self.record_unanswered(Plan::due_ns(rate, sequence - 1), count, now_ns);
        }
    }

    /// The kernel reported an error on a datagram socket.
    pub(super) fn on_error(&mut self, error: &io::Error) {
        let words = self.count_error(error);
        let replies_before = self.counts.all_replies();
        self.last_error = Some(LastError { kind: error.kind(), words, replies_before });
    }

    /// Counts an error, and returns it in words.
    pub(super) fn count_error(&mut self, error: &io::Error) -> String {
        let Counts { errors, error_kinds, .. } = &mut self.counts;
        *errors += 1;
        let words = error_words(error);
        if error_kinds.len() < ERROR_KINDS_MAX || error_kinds.contains_key(&words) {
            *error_kinds.entry(words.clone()).or_default() += 1;
        } else {
            *error_kinds.entry("others".to_owned()).or_default() += 1;
        }
        words
    }

    /// A client has connected.
    pub(super) fn on_connected(&mut self) {
        self.connecting -= 1;
        self.connected += 1;
    }

    /// A connect failed: the server or the network refused it, or this machine could not even try.
    pub(super) fn on_connect_failed(&mut self, why: ErrorKind) {
        let was_attempted = matches!(
            why,
            ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::TimedOut
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NetworkDown
                | ErrorKind::NotFound // no Unix socket has this path
        );
        if !was_attempted {
            // EMFILE has no ErrorKind of its own. Opening one more socket returns it with its full
            // text.
            let probe = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).err().unwrap_or(why.into());
            self.local_error.get_or_insert_with(probe);
        }
        self.connecting -= 1;
        self.on_connection_lost(why);
    }

    /// A client has lost its connection, and gets no other.
    pub(super) fn on_connection_lost(&mut self, why: ErrorKind) {
        let words = self.count_error(&why.into());
        self.alive -= 1;
        if self.alive == 0 {
            let replies_before = self.counts.all_replies();
            self.last_error = Some(LastError { kind: why, words, replies_before });
        }
    }

    /// Returns whether every connect has succeeded or failed.
    pub(super) fn has_finished_connecting(&self) -> bool {
        self.connecting == 0
    }

    /// Returns whether the load is pointless from here on: no connection is left, or the kernel has
    /// reported an error and no reply has ever arrived.
    pub(super) fn has_failed(&self) -> bool {
        self.alive == 0
            || (self.last_error.is_some() && self.counts.received == 0 && self.counts.corrupt == 0)
    }

    /// Returns why the server is gone, if it is: all connections are lost or, over UDP, its port
    /// was reported closed and no reply has arrived since. Other errors over UDP may concern the
    /// network in between.
    pub(super) fn server_gone(&self) -> Option<&str> {
        let LastError { kind, words, replies_before } = self.last_error.as_ref()?;
        let is_port_closed =
            *kind == ErrorKind::ConnectionRefused && *replies_before == self.counts.all_replies();
        (self.alive == 0 || is_port_closed).then_some(words)
    }

    /// Returns whether messages are unanswered whose replies may still arrive.
    pub(super) fn expects_replies(&self) -> bool {
        self.counts.received < self.counts.sent && !self.has_failed()
    }
}

impl Counts {
    fn all_replies(&self) -> u64 {
        self.received + self.duplicates + self.expired + self.corrupt
    }
}

fn ns_in(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl LastError {
    /// Says why there is no reply at all, if this is the last that was heard of the server. `kind`:
    /// what the server should be.
    pub(super) fn describe(&self, kind: &str) -> String {
        let words = &self.words;
        match () {
            () if [ErrorKind::ConnectionRefused, ErrorKind::NotFound].contains(&self.kind) => {
                format!("nothing listens there ({words})")
            }
            () if self.kind == ErrorKind::TimedOut => format!("no answer ({words})"),
            () if [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&self.kind) => {
                format!("no reply ({words}): the server may be no {kind}, or refuse clients")
            }
            () => format!("no reply ({words})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_connection_loss_does_not_count_as_a_finished_connect() {
        let mut load = Load::new(4, Duration::from_secs(1), None);
        (0..2).for_each(|_| load.on_connected());
        (0..2).for_each(|_| load.on_connection_lost(ErrorKind::ConnectionReset));
        assert!(!load.has_finished_connecting(), "two of four");
        load.on_connect_failed(ErrorKind::ConnectionRefused);
        assert!(!load.has_finished_connecting(), "three of four");
        load.on_connected();
        assert!(load.has_finished_connecting() && !load.has_failed());
    }

    #[test]
    fn refused_connect_is_no_local_error() {
        let mut load = Load::new(3, Duration::from_secs(1), None);
        load.on_connected();
        load.on_connect_failed(ErrorKind::ConnectionRefused);
        assert!(load.local_error.is_none(), "the server refused it");
        load.on_connect_failed(ErrorKind::AddrNotAvailable);
        assert_eq!(
            load.local_error.as_ref().map(io::Error::kind),
            Some(ErrorKind::AddrNotAvailable),
            "no ephemeral port is left"
        );
        assert!(load.has_finished_connecting() && load.connected == 1 && !load.has_failed());
    }

    #[test]
    fn lateness_of_an_open_loop_does_not_prolong_the_wait_at_the_end() {
        // Each message is sent 8 s after it is due, and its reply comes a millisecond later.
        const S: u64 = 1_000_000_000;
        let mut load = Load::new(1, Duration::from_secs(60), None);
        for due_ns in (0..10 * S).step_by(100_000_000) {
            let now_ns = due_ns + 8 * S;
            load.count_sent(due_ns, now_ns);
            load.count(
                ReplyKind::First { sent_ns: due_ns, is_overtaken: false },
                now_ns + 1_000_000,
            );
        }
        assert_eq!(load.patience.reply_wait(), Duration::from_secs(1));
        assert_eq!((load.counts.sent_late, load.counts.received), (100, 100));
    }

    #[test]
    fn error_kinds_are_counted_up_to_a_bound() {
        let mut load = Load::new(1, Duration::from_secs(1), None);
        let kinds = u64::try_from(ERROR_KINDS_MAX).unwrap() + 3;
        (0..kinds).for_each(|kind| load.on_error(&io::Error::other(format!("error {kind}"))));
        load.on_error(&io::Error::other("error 0"));
        assert_eq!(load.counts.error_kinds.len(), ERROR_KINDS_MAX + 1);
        assert_eq!((load.counts.error_kinds["error 0"], load.counts.error_kinds["others"]), (2, 3));
        assert_eq!(load.counts.errors, kinds + 1);
    }

    #[test]
    fn closed_port_means_server_gone_until_the_next_reply() {
        let reply = ReplyKind::First { sent_ns: 1, is_overtaken: false };
        let mut load = Load::new(1, Duration::from_secs(1), None);
        load.count(reply, 2);
        assert_eq!(load.server_gone(), None);
        load.on_error(&ErrorKind::ConnectionRefused.into());
        assert_eq!(load.server_gone(), Some("connection refused"));
        load.count(reply, 3);
        assert_eq!(load.server_gone(), None, "it replies again");
        load.on_error(&ErrorKind::HostUnreachable.into());
        assert_eq!(load.server_gone(), None, "the network may recover");
    }
}
