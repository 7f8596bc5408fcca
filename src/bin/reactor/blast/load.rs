//! What all clients share: whether to send, what has been counted, and how long replies took.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use super::latencies::Latencies;
use super::limits::UNSENT_GROUPS;
use super::outstanding::Reply;
use super::plan::Plan;

/// The load that is being offered.
pub(super) struct Load {
    run: u32,
    started: Instant,
    /// How long messages were sent, once that is over.
    pub(super) sent_for: Option<Duration>,
    /// When the last first reply came, in nanoseconds from the start.
    heard_ns: u64,
    /// In an open loop, messages are due until this moment, in nanoseconds from the start.
    ends_ns: u64,
    pub(super) counts: Counts,
    pub(super) latencies: Latencies,
    /// Clients that have neither reached the server nor failed to (over UDP nobody asks), and those that have not lost it.
    connecting: u32,
    alive: u32,
    /// Clients that have reached the server, whether they have lost it or not. (Over UDP nobody counts.)
    pub(super) reached: u32,
    /// What on this machine has kept a client from so much as trying.
    pub(super) obstacle: Option<io::Error>,
    /// Why nothing more can come back, unless something does.
    pub(super) failure: Option<Failure>,
    /// The clock's last reading, in both forms.
    read: (Instant, u64),
}

/// Messages and replies.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    /// Messages that were due, and that we did not come to send or the kernel did not take.
    pub(super) unsent: u64,
    /// First replies, whole and right.
    pub(super) received: u64,
    /// Messages, sent or due, that had no reply when nobody waited for it any more; but for datagrams that were sent, which are
    /// lost.
    pub(super) unanswered: u64,
    pub(super) duplicates: u64,
    /// First replies to messages after which another had been replied to already.
    pub(super) reordered: u64,
    pub(super) too_late: u64,
    pub(super) corrupt: u64,
    /// Replies on a stream that are not to the message after that of the reply before.
    pub(super) misplaced: u64,
    /// Reports of the kernel that something could not be delivered.
    pub(super) errors: u64,
}

/// What the kernel has said last of why nothing comes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    kind: ErrorKind,
    /// How many replies had come before.
    heard: u64,
}

impl Load {
    /// Of so many clients, for so long, with a histogram for each `interval`.
    pub(super) fn new(clients: u32, duration: Duration, interval: Option<Duration>) -> Load {
        let now = Instant::now();
        let latencies = Latencies::new(interval);
        // Nobody is to be kept from guessing it.
        let run = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        Load {
            run: run ^ std::process::id(),
            started: now,
            sent_for: None,
            heard_ns: 0,
            ends_ns: ns_in(duration),
            counts: Counts::default(),
            connecting: clients,
            alive: clients,
            reached: 0,
            obstacle: None,
            latencies,
            failure: None,
            read: (now, 0),
        }
    }

    /// The load begins now.
    pub(super) fn start(&mut self) -> Instant {
        let now = Instant::now();
        (self.started, self.read) = (now, (now, 0));
        self.latencies.start(now);
        now
    }

    /// No more becomes due.
    pub(super) fn end(&mut self, now: Instant) {
        self.ends_ns = self.ends_ns.min(self.ns(now));
    }

    /// Is what is due at `due_ns` to be sent at `now_ns`, or later than it should have been?
    #[inline]
    pub(super) fn is_due(&self, due_ns: u64, now_ns: u64) -> bool {
        due_ns <= now_ns && due_ns < self.ends_ns
    }

    /// How many messages of all clients have been due in an open loop of so many a second.
    pub(super) fn due(&self, rate: u64) -> u64 {
        u64::try_from((u128::from(self.ends_ns) * u128::from(rate)).div_ceil(1_000_000_000))
            .unwrap_or(u64::MAX)
    }

    /// No more is sent.
    pub(super) fn stop(&mut self, now: Instant) {
        self.sent_for = Some(now.duration_since(self.started));
    }

    /// For how long there was something to reply to: until the last reply, if that came when no more was sent.
    pub(super) fn lasted(&self) -> Duration {
        self.sent_for.unwrap_or_default().max(Duration::from_nanos(self.heard_ns))
    }

    /// Tells this run's messages from those of others.
    pub(super) fn run(&self) -> u32 {
        self.run
    }

    #[inline]
    pub(super) fn is_sending(&self) -> bool {
        self.sent_for.is_none()
    }

    /// `now` in nanoseconds from the start.
    #[inline]
    pub(super) fn ns(&mut self, now: Instant) -> u64 {
        if self.read.0 != now {
            self.read = (now, ns_in(now.duration_since(self.started)));
        }
        self.read.1
    }

    /// Counts a reply that came at `now_ns`.
    #[inline]
    pub(super) fn count(&mut self, reply: Reply, now_ns: u64) {
        match reply {
            Reply::First { sent_ns, is_overtaken } => {
                self.counts.received += 1;
                self.heard_ns = now_ns;
                self.counts.reordered += u64::from(is_overtaken);
                self.latencies.record(now_ns.saturating_sub(sent_ns), 1);
            }
            Reply::Duplicate => self.counts.duplicates += 1,
            Reply::TooLate => self.counts.too_late += 1,
            Reply::Unasked => self.counts.corrupt += 1,
        }
    }

    /// Nobody waits after `now_ns` for the replies to `count` messages, sent or due at `since_ns`. Any reply would have come
    /// later: to leave them out would make the latencies the better the longer the server stalls. So they count with what they
    /// have waited.
    pub(super) fn give_up(&mut self, since_ns: u64, count: u64, now_ns: u64) {
        self.counts.unanswered += count;
        self.latencies.record(now_ns.saturating_sub(since_ns), count);
    }

    /// The same for all from `place` on that were due in an open loop of so many a second, and that no client has come to. There
    /// may be thousands of millions, so they count by the group, all with what the youngest of it has waited.
    pub(super) fn give_up_from(&mut self, mut place: u64, rate: u64, now_ns: u64) {
        let due = self.due(rate);
        let group = due.saturating_sub(place).div_ceil(UNSENT_GROUPS).max(1);
        while place < due {
            let count = group.min(due - place);
            place += count;
            self.give_up(Plan::due_ns(rate, place - 1), count, now_ns);
        }
    }

    /// The kernel reports an error.
    pub(super) fn fail(&mut self, error: &io::Error) {
        self.counts.errors += 1;
        self.failure = Some(Failure { kind: error.kind(), heard: self.counts.heard() });
    }

    /// A client has reached the server.
    pub(super) fn connect(&mut self) {
        self.connecting -= 1;
        self.reached += 1;
    }

    /// A client has not reached the server: it was not let in, or there was no way there; or it could not even try.
    pub(super) fn fail_to_connect(&mut self, why: ErrorKind) {
        let has_tried = matches!(
            why,
            ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::TimedOut
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::NetworkDown
        );
        if !has_tried {
            // Want of descriptors has no kind of its own. Who asks for one more is told.
            let ask = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).err().unwrap_or(why.into());
            self.obstacle.get_or_insert_with(ask);
        }
        self.connecting -= 1;
        self.lose_connection(why);
    }

    /// A client has lost the server.
    pub(super) fn lose_connection(&mut self, why: ErrorKind) {
        self.counts.errors += 1;
        self.alive -= 1;
        if self.alive == 0 {
            self.failure = Some(Failure { kind: why, heard: self.counts.heard() });
        }
    }

    /// Have all clients reached the server, or failed to?
    pub(super) fn has_connected(&self) -> bool {
        self.connecting == 0
    }

    /// Nobody is left to talk to; or nothing has come, and the kernel has said that nothing will.
    pub(super) fn is_hopeless(&self) -> bool {
        self.alive == 0
            || (self.failure.is_some() && self.counts.received == 0 && self.counts.corrupt == 0)
    }

    /// Why the server has left, if it has: all connections are lost; or, over UDP, its port was closed when it was last heard of.
    /// A reply that has come since tells that it is back, and other errors may be those of the way there.
    pub(super) fn departure(&self) -> Option<ErrorKind> {
        let Failure { kind, heard } = self.failure?;
        let is_closed = kind == ErrorKind::ConnectionRefused && heard == self.counts.heard();
        (self.alive == 0 || is_closed).then_some(kind)
    }

    /// May replies still come?
    pub(super) fn misses_replies(&self) -> bool {
        self.counts.received < self.counts.sent && !self.is_hopeless()
    }
}

impl Counts {
    /// All replies.
    fn heard(&self) -> u64 {
        self.received + self.duplicates + self.too_late + self.corrupt
    }
}

fn ns_in(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind;
        if kind == ErrorKind::ConnectionRefused {
            f.write_str("nobody is there (connection refused)")
        } else {
            kind.fmt(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_lost_early_does_not_stand_for_one_that_still_connects() {
        let mut load = Load::new(4, Duration::from_secs(1), None);
        (0..2).for_each(|_| load.connect());
        (0..2).for_each(|_| load.lose_connection(ErrorKind::ConnectionReset));
        assert!(!load.has_connected(), "two of four");
        load.fail_to_connect(ErrorKind::ConnectionRefused);
        assert!(!load.has_connected(), "three of four");
        load.connect();
        assert!(load.has_connected() && !load.is_hopeless());
    }

    #[test]
    fn who_is_not_let_in_is_told_from_who_cannot_even_try() {
        let mut load = Load::new(3, Duration::from_secs(1), None);
        load.connect();
        load.fail_to_connect(ErrorKind::ConnectionRefused);
        assert!(load.obstacle.is_none(), "that is the server's choice");
        load.fail_to_connect(ErrorKind::AddrNotAvailable);
        assert_eq!(
            load.obstacle.as_ref().map(io::Error::kind),
            Some(ErrorKind::AddrNotAvailable),
            "we have run out of ports"
        );
        assert!(load.has_connected() && load.reached == 1 && !load.is_hopeless());
    }

    #[test]
    fn a_server_has_left_if_nothing_is_heard_after_its_port_was_closed() {
        let reply = Reply::First { sent_ns: 1, is_overtaken: false };
        let mut load = Load::new(1, Duration::from_secs(1), None);
        load.count(reply, 2);
        assert_eq!(load.departure(), None);
        load.fail(&ErrorKind::ConnectionRefused.into());
        assert_eq!(load.departure(), Some(ErrorKind::ConnectionRefused));
        load.count(reply, 3);
        assert_eq!(load.departure(), None, "it is back");
        load.fail(&ErrorKind::HostUnreachable.into());
        assert_eq!(load.departure(), None, "the way is lost, for now");
    }
}
