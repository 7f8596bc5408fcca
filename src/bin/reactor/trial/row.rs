//! A row of a trial: one named check, and what it came to.
//!
//! Invariant: a row that cannot be decided on this machine is skipped, with the reason. It neither
//! passes nor fails.

use std::fmt::Write;
use std::io::{self, ErrorKind};

use super::limits::DIAGNOSTIC_BYTES_MAX;
use super::subject::Subject;

/// One check of a server.
pub(super) struct Row {
    /// What `--only` takes.
    pub(super) name: &'static str,
    /// What it proves, as one line.
    pub(super) proves: &'static str,
    /// What asks for it: a section of an RFC, or a man page.
    pub(super) source: &'static str,
    /// The chapter of the book that explains it.
    pub(super) chapter: Chapter,
    /// Its longest duration, in milliseconds.
    pub(super) bound_ms: u64,
    pub(super) check: fn(&Subject<'_>) -> Result<(), Fault>,
}

/// Returns how long `rows` may take together, in milliseconds.
pub(super) const fn total_ms(rows: &[Row]) -> u64 {
    let (mut total, mut at) = (0, 0);
    while at < rows.len() {
        total += rows[at].bound_ms;
        at += 1;
    }
    total
}

/// Why a row has not passed.
#[derive(Debug)]
pub(super) enum Fault {
    Failed {
        expected: String,
        came: String,
    },
    /// This machine or the kind of server does not allow the check.
    Skipped(String),
}

impl Fault {
    pub(super) fn failed(expected: impl Into<String>, came: impl Into<String>) -> Fault {
        Fault::Failed { expected: expected.into(), came: came.into() }
    }

    /// Returns what a failed call means: a fault of the server, unless this machine has run out of
    /// something.
    pub(super) fn of_call(expected: &str, error: &io::Error) -> Fault {
        let is_ours = matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable)
            || is_out_of_descriptors(error);
        match is_ours {
            true => Fault::Skipped(format!("this machine: {error}")),
            false => Fault::failed(expected, error.to_string()),
        }
    }
}

/// EMFILE and ENFILE: no descriptor is left.
#[cfg(unix)]
fn is_out_of_descriptors(error: &io::Error) -> bool {
    [libc::EMFILE, libc::ENFILE].map(Some).contains(&error.raw_os_error())
}

#[cfg(not(unix))]
fn is_out_of_descriptors(_: &io::Error) -> bool {
    false
}

/// Returns the beginning of `bytes` for a diagnostic line.
pub(super) fn quote(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(DIAGNOSTIC_BYTES_MAX)];
    let mut text = format!("\"{}\"", shown.escape_ascii());
    if shown.len() < bytes.len() {
        let _ = write!(text, " and {} bytes more", bytes.len() - shown.len());
    }
    text
}

/// The chapters of the book that explain rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chapter {
    OneClient,
    Messages,
    Edges,
    Slots,
    Output,
    Endings,
    Timers,
    Datagrams,
    Http,
    Overload,
}

impl Chapter {
    /// Returns its number and title.
    pub(super) fn title(self) -> &'static str {
        match self {
            Chapter::OneClient => "1, One client at a time",
            Chapter::Messages => "2, A stream is not messages",
            Chapter::Edges => "7, What is reported only once",
            Chapter::Slots => "8, A turn has five stages",
            Chapter::Output => "9, Output that does not fit",
            Chapter::Endings => "10, How a connection ends",
            Chapter::Timers => "11, Time, and what counts as progress",
            Chapter::Datagrams => "12, Datagrams",
            Chapter::Http => "13, HTTP/1.0",
            Chapter::Overload => "14, Crowds and ends",
        }
    }
}
