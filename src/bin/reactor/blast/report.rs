//! The report at the end: a table for people, or JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use mio_reactor::Batching;
use serde::Serialize;

use super::http::report::HttpReport;
use super::load::Load;
use super::plan::{Pace, Plan, Service};

/// All figures. The field names are the keys of the JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    target: String,
    clients: u32,
    /// How many of them have connected, over streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    connected: Option<u32>,
    /// Of each message or request.
    size_bytes: usize,
    /// Messages in flight per client, in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<u64>,
    /// Messages a second, in an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u64>,
    /// How datagrams cross to the kernel, over UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<&'static str>,
    /// How long messages were to be sent, and how long they were.
    duration_seconds: f64,
    seconds: f64,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Of these, the replies that came after sending had ended.
    received_after_end: u64,
    lost: u64,
    /// `lost` as a share of `sent`.
    loss: f64,
    /// Replies that our own kernel dropped, because the receive buffer was full, over UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<u64>,
    duplicates: u64,
    reordered: u64,
    /// Replies to messages that were no longer remembered.
    expired: u64,
    pub(super) corrupt: u64,
    /// Replies to another message than the next one in order, over TCP.
    pub(super) misplaced: u64,
    /// Datagrams from another address than the server's, or cut short by our kernel.
    foreign: u64,
    /// Messages that were due but not sent in time, or not accepted by the kernel.
    unsent: u64,
    /// Of these, the messages that the kernel did not accept.
    refused: u64,
    /// Messages sent late, in an open loop, and by how much the latest of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_late: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_late_max_us: Option<f64>,
    /// Messages without a reply that are recorded in the latencies, with the time waited so far.
    unanswered: u64,
    errors: u64,
    /// How many there were of each kind.
    error_kinds: BTreeMap<String, u64>,
    sent_per_second: f64,
    received_per_second: f64,
    received_bytes_per_second: f64,
    latency_us: Latency,
    #[serde(flatten)]
    http: Option<HttpReport>,
}

/// Latencies in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    min: f64,
    mean: f64,
    pub(super) p50: f64,
    p90: f64,
    pub(super) p99: f64,
    p99_9: f64,
    p99_99: f64,
    pub(super) max: f64,
}

impl Report {
    pub(super) fn new(plan: &Plan, load: &mut Load) -> Report {
        let latency_us = Latency::of(&load.latencies.total());
        let counts = &load.counts;
        let sent = counts.sent;
        let lost = sent.saturating_sub(counts.received);
        let seconds = load.sent_for.unwrap_or_default().as_secs_f64();
        let per_second =
            |count: u64, seconds: f64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        // Replies that arrive after sending has ended took longer. Dividing by the sending time
        // alone would overstate the rate.
        let received_per_second = per_second(counts.received, load.lasted().as_secs_f64());
        let is_udp = matches!(plan.service, Service::Udp(_));
        let is_open_loop = matches!(plan.pace, Pace::Rate(_));
        let http = match &plan.service {
            Service::Http(http) => Some(HttpReport::new(http, &load.http)),
            Service::Udp(_) | Service::Tcp(_) => None,
        };
        Report {
            target: plan.to_string(),
            clients: plan.clients,
            connected: (!is_udp).then_some(load.connected),
            size_bytes: plan.size,
            window: if let Pace::Window(window) = plan.pace { Some(window) } else { None },
            rate: if let Pace::Rate(rate) = plan.pace { Some(rate) } else { None },
            batch: is_udp.then_some(match plan.batching {
                Batching::Plain => "plain",
                Batching::Mmsg => "mmsg",
                Batching::Gso => "gso",
            }),
            duration_seconds: plan.duration.as_secs_f64(),
            seconds,
            sent,
            received: counts.received,
            received_after_end: counts.received - counts.received_in_time,
            lost,
            loss: if sent > 0 { lost as f64 / sent as f64 } else { 0.0 },
            dropped: counts.dropped,
            duplicates: counts.duplicates,
            reordered: counts.reordered,
            expired: counts.expired,
            corrupt: counts.corrupt,
            misplaced: counts.misplaced,
            foreign: counts.foreign,
            unsent: counts.unsent,
            refused: counts.refused,
            sent_late: is_open_loop.then_some(counts.sent_late),
            sent_late_max_us: is_open_loop.then_some(counts.sent_late_max_ns as f64 / 1000.0),
            unanswered: counts.unanswered,
            errors: counts.errors,
            error_kinds: counts.error_kinds.clone(),
            sent_per_second: per_second(sent, seconds),
            received_per_second,
            received_bytes_per_second: match &http {
                Some(http) => per_second(http.received_bytes, load.lasted().as_secs_f64()),
                None => received_per_second * plan.size as f64,
            },
            latency_us,
            http,
        }
    }

    /// Returns one line of JSON.
    pub(super) fn to_json(&self) -> String {
        let mut line =
            serde_json::to_string(self).expect("all keys are strings, and all figures numbers");
        line.push('\n');
        line
    }
}

impl Latency {
    pub(super) fn of(ns: &Histogram<u64>) -> Latency {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile: f64| us(ns.value_at_quantile(quantile));
        Latency {
            min: us(ns.min()),
            mean: ns.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: us(ns.max()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pace = match (self.window, self.rate) {
            (Some(window), _) => format!("{} in flight on each", grouped(window as f64)),
            (None, rate) => format!("{} a second", grouped(rate.unwrap_or_default() as f64)),
        };
        let batch = self.batch.map(|batch| format!(", {batch}")).unwrap_or_default();
        let kind = if self.batch.is_some() { "socket" } else { "connection" };
        let connected = match self.connected {
            Some(count) if count < self.clients => format!("{count} of "),
            Some(_) | None => String::new(),
        };
        let clients = format!(
            "{connected}{} {kind}{}",
            self.clients,
            if self.clients == 1 { "" } else { "s" }
        );
        let of_duration = format!(" of {:.1} s", self.duration_seconds);
        writeln!(
            f,
            "{}: {} bytes{}, {clients}, {pace}{batch}, for {:.1} s{}\n",
            self.target,
            self.size_bytes,
            if self.http.is_some() { " a request" } else { "" },
            self.seconds,
            if self.seconds < self.duration_seconds { of_duration } else { String::new() }
        )?;
        row(
            f,
            "sent",
            self.sent as f64,
            &format!("{:>15} a second", grouped(self.sent_per_second)),
        )?;
        let megabytes = self.received_bytes_per_second / 1e6;
        let rates =
            format!("{:>15} a second, {megabytes:.1} MB/s", grouped(self.received_per_second));
        row(f, "received", self.received as f64, &rates)?;
        row(f, "after end", self.received_after_end as f64, "")?;
        row(f, "lost", self.lost as f64, &format!("{:>15.4} %", self.loss * 100.0))?;
        if let Some(dropped) = self.dropped {
            let why = if dropped > 0 { "  by our kernel: the receive buffer was full" } else { "" };
            row(f, "dropped", dropped as f64, why)?;
        }
        match &self.http {
            Some(http) => {
                row(f, "corrupt", self.corrupt as f64, "")?;
                http.fmt(f)?;
            }
            None => {
                row(f, "duplicates", self.duplicates as f64, "")?;
                row(f, "reordered", self.reordered as f64, "")?;
                row(f, "expired", self.expired as f64, "")?;
                row(f, "corrupt", self.corrupt as f64, "")?;
                row(f, "misplaced", self.misplaced as f64, "")?;
            }
        }
        if self.batch.is_some() {
            row(f, "foreign", self.foreign as f64, "")?;
        }
        let refused = match self.refused {
            0 => String::new(),
            count => format!("  {} of them refused by the kernel", grouped(count as f64)),
        };
        row(f, "unsent", self.unsent as f64, &refused)?;
        if let (Some(late), Some(max_us)) = (self.sent_late, self.sent_late_max_us) {
            let share = late as f64 / self.sent.max(1) as f64 * 100.0;
            let more = format!("{share:>15.4} %, up to {:.1} ms", max_us / 1000.0);
            row(f, "sent late", late as f64, if late > 0 { &more } else { "" })?;
        }
        let kinds: Vec<String> = self
            .error_kinds
            .iter()
            .map(|(kind, &count)| format!("{kind}: {}", grouped(count as f64)))
            .collect();
        row(f, "errors", self.errors as f64, &format!("  {}", kinds.join(", ")))?;
        let since = if self.rate.is_some() { "from the due time" } else { "from the send" };
        let unanswered = match self.unanswered {
            0 => String::new(),
            count => format!(" ({} without a reply: time waited so far)", grouped(count as f64)),
        };
        writeln!(f, "\n  latency in µs, {since}{unanswered}")?;
        let latency = &self.latency_us;
        let rows = [
            ("min", latency.min),
            ("mean", latency.mean),
            ("p50", latency.p50),
            ("p90", latency.p90),
            ("p99", latency.p99),
            ("p99.9", latency.p99_9),
            ("p99.99", latency.p99_99),
            ("max", latency.max),
        ];
        for (name, us) in rows {
            writeln!(
                f,
                "  {name:<12}{:>17}",
                format!("{}.{:01}", grouped(us.trunc()), (us.fract() * 10.0).trunc())
            )?;
        }
        Ok(())
    }
}

/// Writes a row of the table.
pub(super) fn row(f: &mut fmt::Formatter<'_>, name: &str, value: f64, more: &str) -> fmt::Result {
    let line = format!("  {name:<12}{:>15}{more}", grouped(value));
    writeln!(f, "{}", line.trim_end())
}

/// Returns a whole number with its digits in groups of three: `1,234,567`.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2000);

    fn plan(service: Service, pace: Pace) -> Plan {
        Plan {
            service,
            clients: 3,
            size: 64,
            pace,
            duration: SECOND,
            prefix: Vec::new(),
            batching: Batching::Gso,
            connect_timeout: SECOND,
        }
    }

    // pitfall: 161
    #[test]
    fn table_says_where_messages_and_replies_went() {
        let plan = plan(Service::Udp(SERVER), Pace::Rate(1000));
        let mut load = Load::new(3, SECOND, None);
        load.count_sent(0, 900_000); // less than 1 ms late
        load.count_sent(1_000_000, 4_500_000);
        for kind in [ErrorKind::ConnectionRefused, ErrorKind::HostUnreachable] {
            load.on_error(&kind.into());
            load.on_error(&kind.into());
        }
        load.counts.dropped = Some(1234);
        (load.counts.unsent, load.counts.refused) = (998, 5);
        let table = Report::new(&plan, &mut load).to_string();
        for line in [
            "  dropped               1,234  by our kernel: the receive buffer was full",
            "  unsent                  998  5 of them refused by the kernel",
            "  sent late                 1        50.0000 %, up to 3.5 ms",
            "  errors                    4  connection refused: 2, host unreachable: 2",
        ] {
            assert!(table.lines().any(|other| other == line), "{line}: {table}");
        }
    }

    #[test]
    fn table_shows_how_many_clients_connected() {
        let plan = plan(Service::Tcp(SERVER), Pace::Window(1));
        let mut load = Load::new(3, SECOND, None);
        (0..2).for_each(|_| load.on_connected());
        load.on_connect_failed(ErrorKind::TimedOut);
        let report = Report::new(&plan, &mut load);
        assert!(
            report.to_string().starts_with("tcp://127.0.0.1:2000: 64 bytes, 2 of 3 connections, "),
            "{report}"
        );
        assert!(report.to_json().contains(r#""clients":3,"connected":2,"#), "{}", report.to_json());
    }

    #[test]
    fn digits_are_grouped_by_three() {
        let expected = [(0.0, "0"), (999.0, "999"), (1000.0, "1,000"), (1_234_567.4, "1,234,567")];
        expected.iter().for_each(|&(number, text)| assert_eq!(grouped(number), text));
    }
}
