//! `reactor blast`: a load generator that checks every reply and reports the latencies.
//!
//! ```text
//!     plan ──► clients, each with ──► messages ──► server ──► replies ──► checked
//!              a socket of its own                                           │
//!                                                                            ▼
//!              table or JSON, and a log of the latencies ◄── report ◄── load: counts, latencies
//! ```
//!
//! It is built on the library, like any other program. From the first message to the last reply it
//! never sleeps: the figures are microseconds, so the client must not be asleep when the server's
//! reply arrives. So give it a processor core of its own.
//!
//! In a **closed loop**, each client keeps a number of messages in flight, and sends another for
//! each reply. While the server stalls, nothing is sent, so the figures lack what would have been
//! sent meanwhile. In an **open loop**, messages are sent at their due times whatever comes back,
//! and a latency counts from the due time. So no stall is hidden, neither the server's nor our own
//! (no coordinated omission). A stall that lasts to the end is not hidden either: messages
//! unanswered at the end are recorded with the time waited so far. Only a datagram that was sent
//! and has no reply is left out of the latencies. It counts as lost, because late and lost look the
//! same.

mod diagnosis;
mod drops;
mod http;
mod latencies;
mod limits;
mod load;
mod outstanding;
mod patience;
mod payload;
mod plan;
mod progress;
mod report;
mod resolve;
mod stream;
mod target;
mod tcp;
mod udp;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio_reactor::Reactor;

use crate::cli::BlastArgs;
use diagnosis::{describe_parts, describe_silence, quote};
pub(crate) use http::{AtEof, ResponseReader};
use limits::{PROGRESS_MS, UNIX_RETRY_MS};
use load::{Counts, Load};
pub(crate) use plan::Plan;
use plan::{Pace, Service};
use progress::Progress;
use report::Report;
pub(crate) use resolve::find_server;
use stream::StreamClients;
pub(crate) use target::{HttpUrl, Server, Target};

/// Generates the load of `plan`, and writes the report to standard output.
///
/// # Errors
///
/// One line for standard error: no reply arrived, a reply was wrong or out of order, the server is
/// gone, or this machine lacked a resource or could not write the log or the report.
pub(crate) fn run(plan: Plan, arguments: &BlastArgs) -> Result<(), String> {
    // Opened before the load begins, so that a log that cannot be written fails at once. The old
    // content stays until there is something new to write. And before the signal handlers are set:
    // a pipe without a reader blocks here, and until then a signal ends the process.
    let open = |path| File::options().write(true).create(true).truncate(false).open(path);
    let log = arguments.histogram.as_ref().map(|path| (path, open(path)));
    let log = match log {
        Some((path, Err(error))) => return Err(format!("{}: {error}", path.display())),
        Some((path, Ok(file))) if is_standard_output(&file) => {
            return Err(format!("{}: standard output gets the report", path.display()));
        }
        Some((path, Ok(file))) => Some((path, file)),
        None => None,
    };
    let stop = stop_on_signals().map_err(|error| format!("signals: {error}"))?;
    let plan = Rc::new(plan);
    let interval = log.as_ref().map(|_| plan.interval());
    let load = Rc::new(RefCell::new(Load::new(plan.clients, plan.duration, interval)));
    offer(&plan, &load, &stop).map_err(|error| format!("{plan}: {error}"))?;
    // From here on, only writing is left, which blocks while a pipe is full or a terminal is
    // stopped. So the next signal ends the process, also if it is the first one.
    stop.store(true, Ordering::Relaxed);

    let mut load = load.borrow_mut();
    let report = Report::new(&plan, &mut load);
    // A log without latencies is written, too. If writing fails, the table is still printed.
    let logged = log.map_or(Ok(()), |(path, file)| {
        let truncated = truncate(&file);
        let written = truncated
            .and_then(|()| load.latencies.write_log(&mut BufWriter::new(file), &plan.to_string()));
        written.map_err(|error| format!("{}: {error}", path.display()))
    });
    if report.received == 0 && report.corrupt == 0 {
        return Err(format!("{plan}: {}", describe_no_reply(&plan, &load)));
    }
    let text = if arguments.json { report.to_json() } else { report.to_string() };
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {} // its reader has closed it
        Err(error) => return Err(format!("standard output: {error}")),
    }
    logged?;
    match describe_failure(&plan, &load) {
        None => Ok(()),
        Some(why) => Err(format!("{plan}: {why}")),
    }
}

/// Says what is wrong with the replies or the server, if anything is.
fn describe_failure(plan: &Plan, load: &Load) -> Option<String> {
    let Counts { corrupt, misplaced, .. } = load.counts;
    let because = load.wrong_reply.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    match (&plan.service, corrupt, misplaced) {
        (_, 0, 0) => load
            .http
            .describe_failure()
            .or_else(|| load.server_gone().map(|why| format!("server gone ({why})"))),
        (_, 0, count) => {
            Some(format!("{count} replies out of order: the stream is not what was sent"))
        }
        (Service::Udp(_) | Service::Tcp(_), count, _) => {
            Some(format!("{count} replies are not what was sent{because}"))
        }
        (Service::Http(_), count, _) => Some(format!("{count} responses are corrupt{because}")),
    }
}

/// Says why no reply has come, as far as is known.
fn describe_no_reply(plan: &Plan, load: &Load) -> String {
    let fragment = &load.fragment[..];
    if matches!(plan.service, Service::Http(_)) && !fragment.is_empty() {
        return describe_parts(load.counts.sent, load.http.cut_off, fragment);
    }
    match load.last_error.as_ref().map(|last| last.describe(plan.server_kind())) {
        None => describe_silence(plan, load.counts.sent, fragment),
        Some(line) if fragment.is_empty() => line,
        Some(line) => format!("{line}; it sent {}", quote(fragment)),
    }
}

/// Returns whether `file` is the file or the pipe that standard output goes to. The log would be
/// mixed with the report, or overwritten by it. A device may be both: a terminal, or `/dev/null`.
#[cfg(unix)]
fn is_standard_output(file: &File) -> bool {
    use std::os::fd::AsFd;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let (Ok(one), Ok(other)) = (file.metadata(), stdout.and_then(|stdout| stdout.metadata()))
    else {
        return false;
    };
    let is_one_file = (one.dev(), one.ino()) == (other.dev(), other.ino());
    is_one_file && !one.file_type().is_char_device()
}

#[cfg(not(unix))]
fn is_standard_output(_: &File) -> bool {
    false
}

/// Truncates `file` if it is a regular one. A pipe or a device cannot be truncated.
fn truncate(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

/// Runs the load: connects, sends until the duration is over or a signal arrives, then waits for
/// replies.
fn offer(plan: &Rc<Plan>, load: &Rc<RefCell<Load>>, stop: &AtomicBool) -> io::Result<()> {
    let mut reactor = Reactor::new(plan.limits())?;
    let mut clients = match &plan.service {
        Service::Udp(address) => {
            for number in 0..plan.clients {
                reactor.connect_datagram(*address, udp::UdpClient::new(number, plan, load))?;
            }
            None
        }
        Service::Tcp(_) | Service::Http(_) => {
            Some(StreamClients::connect(&mut reactor, plan, load))
        }
    };
    if let Some(clients) = &mut clients {
        // The reactor's connect timeout ends the wait for a server that does not answer.
        while !load.borrow().has_finished_connecting() {
            let is_retrying = !load.borrow().to_connect.is_empty();
            let wait_ms = if is_retrying { UNIX_RETRY_MS } else { PROGRESS_MS };
            reactor.turn(Some(Duration::from_millis(wait_ms)))?;
            clients.reconnect(&mut reactor);
            if stop.load(Ordering::Relaxed) {
                return Err(clients.interrupted());
            }
        }
        clients.check_connected()?;
    }
    let started = load.borrow_mut().start();
    if let Some(clients) = &clients {
        clients.start(&mut reactor);
    }
    let mut progress = Progress::new(plan.duration);
    let mut shown_at = started;
    loop {
        reactor.turn(Some(Duration::ZERO))?;
        let now = Instant::now();
        if let Some(clients) = &mut clients {
            clients.send_due(&mut reactor, now);
            clients.reconnect(&mut reactor);
        }
        let mut load = load.borrow_mut();
        load.latencies.begin_interval_if_due(now);
        if now.duration_since(started) >= plan.duration
            || stop.load(Ordering::Relaxed)
            || load.has_failed()
        {
            load.end(now);
            break;
        }
        if now.duration_since(shown_at) >= Duration::from_millis(PROGRESS_MS) {
            progress.show(&load, now.duration_since(started), now.duration_since(shown_at));
            shown_at = now;
        }
    }
    drop(progress); // which removes the bar
    // Messages that came due during the last turn are still sent. All others that are due now count
    // as unsent: we were too slow or, over TCP, their connection was lost or had as many messages
    // in flight as it may have.
    reactor.turn(Some(Duration::ZERO))?;
    load.borrow_mut().stop(Instant::now());
    let deadline = Instant::now() + load.borrow().patience.reply_wait();
    // A signal that has ended the sending does not end this wait; the next one would end the
    // process. A first signal ends the wait.
    let is_stopped = stop.load(Ordering::Relaxed);
    while load.borrow().expects_replies() && stop.load(Ordering::Relaxed) == is_stopped {
        // Even now it does not sleep: the time to wake up would be in the latencies of the last
        // replies.
        reactor.turn(Some(Duration::ZERO))?;
        if let Some(clients) = &mut clients {
            clients.reconnect(&mut reactor);
        }
        let now = Instant::now();
        load.borrow_mut().latencies.begin_interval_if_due(now);
        if now >= deadline {
            break;
        }
    }
    let mut load = load.borrow_mut();
    let now_ns = load.ns(Instant::now());
    // Over UDP, what was sent and not answered is lost. The clients send in rotation. So what was
    // due and not tried by any client is the end of the sequence, from `first_unsent` on.
    let first_unsent =
        clients.map_or(load.counts.sent, |clients| clients.record_unanswered(&mut load, now_ns));
    let due = match plan.pace {
        Pace::Window(_) => load.counts.sent,
        Pace::Rate(rate) => {
            load.record_unsent_from(first_unsent, rate, now_ns);
            load.due(rate)
        }
    };
    let stats = reactor.stats();
    let refused = stats.datagrams_unsent + stats.datagrams_too_long;
    let sent = load.counts.sent.saturating_sub(refused);
    (load.counts.sent, load.counts.unsent) = (sent, due.saturating_sub(sent));
    (load.counts.refused, load.counts.foreign) = (refused, stats.datagrams_dropped);
    if matches!(plan.service, Service::Udp(_)) {
        load.counts.dropped = drops::receive_drops(); // while the sockets are open
    }
    if stats.panics > 0 {
        return Err(io::Error::other("internal error, the figures would be wrong"));
    }
    Ok(())
}

/// Makes the first SIGINT or SIGTERM end the load; the report covers the time until then. The
/// second one ends the process at once.
fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop_requested = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    for signal in crate::process::client_stop_signals() {
        signal_hook::flag::register_conditional_shutdown(
            signal,
            128 + signal,
            Arc::clone(&stop_requested),
        )?;
        signal_hook::flag::register(signal, Arc::clone(&stop_requested))?;
    }
    Ok(stop_requested)
}
