//! `reactor try`: a hostile peer for a server, which reports row by row what the server does.
//!
//! ```text
//!     find the server ──► for each row: clients with sockets of their own ──► its result
//!                                                                                 │
//!                                              standard output ◄── a line of TAP ◄┘
//! ```
//!
//! A row is one kind of client: one that sends its FIN first, drips its bytes, resets, never reads.
//! It knows the server only by what a peer can see, so it fits a server in any language. The rows
//! are blocking code with deadlines, one after the other: nothing is measured here, and each can be
//! read on its own.
//!
//! Invariant: the trial ends in time with bounded memory, whatever the server sends or leaves out,
//! and sends no more than `limits.rs` says.

mod crowds;
mod datagrams;
mod echo;
mod find;
mod http;
mod limits;
mod link;
mod port_zero;
mod row;
mod streams;
mod subject;
mod tap;
mod target;

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

use crate::cli::TryArgs;
use crate::standard_streams;
use limits::{START_MS, TOTAL_MS};
use row::{Fault, Row, total_ms};
use subject::{Service, Subject};
pub(crate) use target::TryTarget;

/// Why a trial has not passed.
pub(crate) enum TrialError {
    /// The arguments are not valid.
    Usage(String),
    /// A row has failed, or the server is not reached.
    Failed(String),
    /// The reader of our standard output has closed it.
    OutputClosed,
}

/// The rows of each kind of server.
const STREAM_ROWS: &[&[Row]] = &[streams::ROWS];
const DATAGRAM_ROWS: &[&[Row]] = &[datagrams::ROWS];
const HTTP_ROWS: &[&[Row]] = &http::ROWS;

const _: () = {
    let [framing, refusals, hostile] = http::ROWS;
    assert!(START_MS + total_ms(streams::ROWS) <= TOTAL_MS);
    assert!(START_MS + total_ms(datagrams::ROWS) <= TOTAL_MS);
    assert!(START_MS + total_ms(framing) + total_ms(refusals) + total_ms(hostile) <= TOTAL_MS);
};

/// Runs the rows for the server of `arguments`, and writes them to standard output.
pub(crate) fn run(arguments: &TryArgs) -> Result<(), TrialError> {
    let Some(target) = &arguments.target else { return print(&list_all()) };
    let rows = select(target, &arguments.only).map_err(TrialError::Usage)?;
    if arguments.list {
        return print(&list(&rows));
    }
    let service = match target {
        TryTarget::Http(_) if !arguments.prefix.is_empty() => {
            return Err(TrialError::Usage("--prefix is for echo servers".to_string()));
        }
        TryTarget::Http(url) => {
            Service::Http(http::Resource { host: url.host.clone(), path: url.path.clone() })
        }
        TryTarget::Tcp(_) | TryTarget::Udp(_) | TryTarget::Unix(_) => {
            Service::Echo { prefix: arguments.prefix.clone().into_bytes() }
        }
    };
    let server = find::find(target, arguments.allow_remote)?;
    let mut out = standard_streams::stdout().map_err(|error| output_failed(&error))?;
    tap::write_head(&mut out, &target.to_string(), rows.len())
        .map_err(|error| output_failed(&error))?;
    let mut failed = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let bound = Duration::from_millis(row.bound_ms) * arguments.time_factor;
        let subject = Subject {
            server: &server,
            service: &service,
            deadline: Instant::now() + bound,
            time_factor: arguments.time_factor,
        };
        let result = (row.check)(&subject);
        if matches!(result, Err(Fault::Failed { .. })) {
            failed.push(row.name);
        }
        tap::write_row(&mut out, at + 1, row, &result).map_err(|error| output_failed(&error))?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    let (count, names) = (failed.len(), failed.join(", "));
    Err(TrialError::Failed(format!("{target}: {count} of {} rows failed: {names}", rows.len())))
}

/// Returns the rows for `target` that are among the `names`, or all of them if there are none.
fn select(target: &TryTarget, names: &[String]) -> Result<Vec<&'static Row>, String> {
    let rows = match target {
        TryTarget::Tcp(_) | TryTarget::Unix(_) => STREAM_ROWS,
        TryTarget::Udp(_) => DATAGRAM_ROWS,
        TryTarget::Http(_) => HTTP_ROWS,
    };
    let rows = rows.iter().copied().flatten();
    let is_known = |name: &&String| rows.clone().any(|row| row.name == name.as_str());
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let unknown = crate::cli::escape_controls(unknown);
        return Err(format!("--only: {target} has no row '{unknown}' (--list prints them)"));
    }
    let is_chosen = |row: &&Row| names.is_empty() || names.iter().any(|name| name == row.name);
    Ok(rows.filter(is_chosen).collect())
}

/// Returns the rows of every kind of server, each below a heading.
fn list_all() -> String {
    let mut text = String::new();
    for (kind, rows) in [
        ("tcp://HOST:PORT, unix:PATH", STREAM_ROWS),
        ("udp://HOST:PORT", DATAGRAM_ROWS),
        ("http://HOST:PORT/PATH", HTTP_ROWS),
    ] {
        let rows: Vec<&Row> = rows.iter().copied().flatten().collect();
        let _ = write!(text, "{kind}\n{}", list(&rows));
    }
    text
}

/// Returns a line for each row: its name, what it proves, the source, the chapter and the bound.
fn list(rows: &[&Row]) -> String {
    let mut text = String::new();
    for Row { name, proves, source, chapter, bound_ms, .. } in rows {
        let bound = Duration::from_millis(*bound_ms);
        let chapter = chapter.title();
        let _ = writeln!(text, "  {name}: {proves} ({source}; chapter {chapter}; {bound:?})");
    }
    text
}

fn print(text: &str) -> Result<(), TrialError> {
    let written =
        standard_streams::stdout().and_then(|mut stdout| stdout.write_all(text.as_bytes()));
    written.map_err(|error| output_failed(&error))
}

fn output_failed(error: &io::Error) -> TrialError {
    match error.kind() == ErrorKind::BrokenPipe {
        true => TrialError::OutputClosed,
        false => TrialError::Failed(format!("standard output: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_of_rows_are_unique_for_each_kind_of_server() {
        for rows in [STREAM_ROWS, DATAGRAM_ROWS, HTTP_ROWS] {
            let rows: Vec<&Row> = rows.iter().copied().flatten().collect();
            let names: BTreeSet<&str> = rows.iter().map(|row| row.name).collect();
            assert_eq!(names.len(), rows.len(), "{names:?}");
        }
    }

    #[test]
    fn row_is_one_line_that_tap_can_hold() {
        for row in [STREAM_ROWS, DATAGRAM_ROWS, HTTP_ROWS].concat().into_iter().flatten() {
            // In TAP, # begins a directive.
            assert!(!row.proves.contains(['#', '\n', '\\']), "{}", row.proves);
            assert!(
                row.name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-2".contains(&byte))
            );
            assert!(!row.proves.ends_with('.'), "{}", row.proves);
        }
    }
}
