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

mod latencies;
mod limits;
mod load;
mod outstanding;
mod payload;
mod plan;
mod report;
mod resolve;
mod tcp;
mod udp;

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mio_reactor::Reactor;

use crate::address::Scheme;
use crate::cli::BlastArgs;
use limits::{PROGRESS_MS, REPLY_WAIT_MS};
use load::Load;
use plan::Pace;
pub(crate) use plan::Plan;
use report::Report;
pub(crate) use resolve::find_server;

/// Generates the load of `plan`, and writes the report to standard output.
///
/// # Errors
///
/// One line for standard error: no reply arrived, a reply was wrong or out of order, the server is
/// gone, or this machine lacked a resource or could not write the log or the report.
pub(crate) fn run(plan: Plan, arguments: &BlastArgs) -> Result<(), String> {
    let stop = stop_on_signals().map_err(|error| format!("signals: {error}"))?;
    // Opened before the load begins, so that a log that cannot be written fails at once. The old
    // content stays until there is something new to write.
    let open = |path| File::options().write(true).create(true).truncate(false).open(path);
    let log = arguments.histogram.as_ref().map(|path| (path, open(path)));
    let log = match log {
        Some((path, Err(error))) => return Err(format!("{}: {error}", path.display())),
        Some((path, Ok(file))) => Some((path, file)),
        None => None,
    };
    let plan = Rc::new(plan);
    let interval = log.as_ref().map(|_| plan.interval());
    let load = Rc::new(RefCell::new(Load::new(plan.clients, plan.duration, interval)));
    offer(&plan, &load, &stop).map_err(|error| format!("{plan}: {error}"))?;

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
        return Err(match load.last_error {
            Some(error) => format!("{plan}: {error}"),
            None => format!("{plan}: no reply ({} messages sent)", report.sent),
        });
    }
    let text = if arguments.json { report.to_json() } else { report.to_string() };
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {} // its reader has closed it
        Err(error) => return Err(format!("standard output: {error}")),
    }
    logged?;
    match (report.corrupt, report.misplaced, load.server_gone()) {
        (0, 0, None) => Ok(()),
        (0, 0, Some(why)) => Err(format!("{plan}: server gone ({why})")),
        (0, count, _) => {
            Err(format!("{plan}: {count} replies out of order: the stream is not what was sent"))
        }
        (count, _, _) => Err(format!("{plan}: {count} replies are not what was sent")),
    }
}

/// Truncates `file` if it is a regular one. A pipe or a device cannot be truncated.
fn truncate(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

/// Runs the load: connects, sends until the duration is over or a signal arrives, then waits for
/// replies.
fn offer(plan: &Rc<Plan>, load: &Rc<RefCell<Load>>, stop: &AtomicBool) -> io::Result<()> {
    let mut reactor = Reactor::new(plan.limits())?;
    let mut clients = match plan.scheme {
        Scheme::Udp => {
            for number in 0..plan.clients {
                reactor.connect_datagram(plan.address, udp::UdpClient::new(number, plan, load))?;
            }
            None
        }
        Scheme::Tcp => Some(tcp::TcpClients::connect(&mut reactor, plan, load)),
    };
    if let Some(clients) = &clients {
        // The reactor's connect timeout ends the wait for a server that does not answer.
        while !load.borrow().has_finished_connecting() && !stop.load(Ordering::Relaxed) {
            reactor.turn(Some(Duration::from_millis(PROGRESS_MS)))?;
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
    progress.clear();
    // Messages that came due during the last turn are still sent. All others that are due now count
    // as unsent: we were too slow or, over TCP, their connection was lost or had as many messages
    // in flight as it may have.
    reactor.turn(Some(Duration::ZERO))?;
    load.borrow_mut().stop(Instant::now());
    let deadline = Instant::now() + Duration::from_millis(REPLY_WAIT_MS);
    while load.borrow().expects_replies() {
        // Even now it does not sleep: the time to wake up would be in the latencies of the last
        // replies.
        reactor.turn(Some(Duration::ZERO))?;
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
    let dropped = stats.datagrams_unsent + stats.datagrams_too_long;
    let sent = load.counts.sent.saturating_sub(dropped);
    (load.counts.sent, load.counts.unsent) = (sent, due.saturating_sub(sent));
    Ok(())
}

/// Makes the first SIGINT or SIGTERM end the load; the report covers the time until then. The
/// second one ends the process at once.
fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop_requested = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(
            signal,
            128 + signal,
            Arc::clone(&stop_requested),
        )?;
        signal_hook::flag::register(signal, Arc::clone(&stop_requested))?;
    }
    Ok(stop_requested)
}

/// The progress bar, shown while the load runs if standard error is a terminal.
struct Progress {
    bar: ProgressBar,
    received: u64,
}

impl Progress {
    fn new(duration: Duration) -> Progress {
        let bar = ProgressBar::new(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        let style = ProgressStyle::with_template("{bar:30} {elapsed} of {prefix}  {msg}")
            .expect("the template is well-formed");
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(format!("{} s", duration.as_secs_f64()));
        Progress { bar, received: 0 }
    }

    fn show(&mut self, load: &Load, elapsed: Duration, since_last: Duration) {
        if self.bar.is_hidden() {
            return;
        }
        let received = load.counts.received;
        let rate = (received - std::mem::replace(&mut self.received, received)) as f64
            / since_last.as_secs_f64();
        self.bar.set_message(format!("{} replies a second", report::grouped(rate.round())));
        self.bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
