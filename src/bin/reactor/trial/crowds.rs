//! The rows that echo and HTTP have in common: other clients are served, whatever one does.

use std::time::{Duration, Instant};

use super::limits::{
    ABANDONED, BURST_CONNECTIONS, CROWD, RESET_BYTES, ROW_MS, SHORT_CONNECTIONS, UNREAD_BYTES_MAX,
    UNREAD_ROW_MS,
};
use super::link::Link;
use super::row::{Chapter, Fault, Row};
use super::streams::check_kernel_buffers;
use super::subject::{Service, Subject, in_call};

pub(super) const SILENT_CROWD: Row = Row {
    name: "silent-crowd",
    proves: "a client is served while 100 others are connected and silent",
    source: "accept(2)",
    chapter: Chapter::Overload,
    bound_ms: ROW_MS,
    check: silent_crowd,
};

pub(super) const BURST: Row = Row {
    name: "burst",
    proves: "64 clients are served that connect before the first of them sends",
    source: "accept(2)",
    chapter: Chapter::Edges,
    bound_ms: ROW_MS,
    check: burst,
};

pub(super) const ABANDONED_CLIENTS: Row = Row {
    name: "abandoned",
    proves: "a client is served after 50 connections that ended without a byte",
    source: "accept(2)",
    chapter: Chapter::Endings,
    bound_ms: ROW_MS,
    check: abandoned,
};

pub(super) const SHORT: Row = Row {
    name: "short-connections",
    proves: "200 clients are served one after the other",
    source: "close(2)",
    chapter: Chapter::Overload,
    bound_ms: ROW_MS,
    check: short_connections,
};

pub(super) const RESET_UNREAD: Row = Row {
    name: "reset-unread",
    proves: "a client that resets while it is sent a reply ends that connection alone",
    source: "send(2)",
    chapter: Chapter::Endings,
    bound_ms: ROW_MS,
    check: reset_unread,
};

pub(super) const NEVER_READS_OTHERS: Row = Row {
    name: "never-reads-others",
    proves: "a client is served while another sends and never reads",
    source: "RFC 9293 section 3.8.6",
    chapter: Chapter::Output,
    bound_ms: UNREAD_ROW_MS,
    check: never_reads_others,
};

/// Opens `count` connections that are silent.
fn open(subject: &Subject<'_>, count: usize) -> Result<Vec<Link>, Fault> {
    (0..count).map(|_| subject.connect()).collect()
}

fn silent_crowd(subject: &Subject<'_>) -> Result<(), Fault> {
    let crowd = open(subject, CROWD)?;
    let served = subject.check_served("while 100 others are silent");
    drop(crowd);
    served
}

fn burst(subject: &Subject<'_>) -> Result<(), Fault> {
    let links = open(subject, BURST_CONNECTIONS)?;
    links.into_iter().enumerate().try_for_each(|(served, mut link)| {
        subject.visit(&mut link, &format!("after {served} of {BURST_CONNECTIONS} clients"))
    })
}

fn abandoned(subject: &Subject<'_>) -> Result<(), Fault> {
    for number in 0..ABANDONED {
        let link = subject.connect()?;
        if number % 2 == 0 {
            link.reset();
        }
    }
    subject.check_served("after connections without a byte")
}

fn short_connections(subject: &Subject<'_>) -> Result<(), Fault> {
    (0..SHORT_CONNECTIONS)
        .try_for_each(|number| subject.check_served(&format!("as client number {}", number + 1)))
}

/// Returns what a client sends again and again.
fn unit(subject: &Subject<'_>) -> Vec<u8> {
    match subject.service {
        Service::Echo { .. } => subject.payload(11, 65_521),
        Service::Http(resource) => resource.request("GET", "").repeat(64),
    }
}

fn reset_unread(subject: &Subject<'_>) -> Result<(), Fault> {
    let mut link = subject.connect()?;
    // However it ends: what counts is the next client.
    in_call(link.fill(&unit(subject), RESET_BYTES), "bytes are taken")?;
    link.reset();
    subject.check_served("after a reset with unread replies")
}

fn never_reads_others(subject: &Subject<'_>) -> Result<(), Fault> {
    check_kernel_buffers()?;
    let mut link = subject.connect()?;
    in_call(link.fill(&unit(subject), UNREAD_BYTES_MAX), "bytes are taken")?;
    // The other client waits no longer than in other rows.
    let deadline =
        subject.deadline.min(Instant::now() + Duration::from_millis(ROW_MS) * subject.time_factor);
    let served =
        Subject { deadline, ..*subject }.check_served("while another client does not read");
    link.reset();
    served
}
