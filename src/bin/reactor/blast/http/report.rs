//! What HTTP adds to the report: statuses, bodies, connections.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{HttpCounts, describe_statuses};
use crate::blast::latencies::empty_histogram;
use crate::blast::plan::HttpPlan;
use crate::blast::report::{Latency, row};

/// The figures of HTTP. The field names are keys of the JSON, beside those of all loads.
#[derive(Debug, Serialize)]
pub(in crate::blast) struct HttpReport {
    /// Most requests in flight on a connection.
    pipeline: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_connection: Option<u64>,
    /// Responses by status. `0`: those of further ones, where there are very many.
    statuses: BTreeMap<u16, u64>,
    /// Responses with a status other than 2xx.
    unsuccessful: u64,
    /// Responses whose body is not that of the first.
    differing: u64,
    /// Responses that the end of their connection has cut off.
    cut_off: u64,
    /// Requests sent again, because their connection ended before their response began.
    retried: u64,
    /// Of all responses, with their heads.
    pub(in crate::blast) received_bytes: u64,
    connects: u64,
    /// How long they took.
    connect_us: Latency,
}

impl HttpReport {
    pub(in crate::blast) fn new(plan: &HttpPlan, counts: &HttpCounts) -> HttpReport {
        let none = empty_histogram();
        let connects = counts.connects.as_ref().unwrap_or(&none);
        let per_connection = plan.requests_per_connection;
        HttpReport {
            pipeline: plan.in_flight_max(),
            requests_per_connection: (per_connection < u64::MAX).then_some(per_connection),
            statuses: counts.statuses.clone(),
            unsuccessful: counts.unsuccessful(),
            differing: counts.differing,
            cut_off: counts.cut_off,
            retried: counts.retried,
            received_bytes: counts.received_bytes,
            connects: connects.len(),
            connect_us: Latency::of(connects),
        }
    }
}

impl fmt::Display for HttpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses = format!("  {}", describe_statuses(self.statuses.iter()));
        row(f, "non-2xx", self.unsuccessful as f64, &statuses)?;
        row(f, "differing", self.differing as f64, "")?;
        row(f, "cut off", self.cut_off as f64, "")?;
        row(f, "retried", self.retried as f64, "")?;
        let Latency { p50, p99, max, .. } = self.connect_us;
        let took = format!("  in µs: p50 {p50:.1}, p99 {p99:.1}, max {max:.1}");
        row(f, "connects", self.connects as f64, &took)
    }
}
