//! `reactor blast`: offers load to an echo server, holds each reply against what was sent, and tells how long it took.
//!
//! ```text
//!     plan ──► clients, each with ──► messages ──► the server ──► replies ──► checked ──► load: counts, latencies
//!              a socket of its own                                                        │
//!                                                                                         ▼ report: table or JSON, and a
//!                                                                                           log of the latencies
//! ```
//!
//! It is built on the library like any other program. From the first message to the last reply it never sleeps: whoever measures
//! microseconds must not be waited for by the server, nor wait for a scheduler. So give it a processor core of its own.
//!
//! In a **closed loop**, each client has a number of messages under way, and sends another for each reply. A server that stalls
//! is then sent nothing, and what would have come meanwhile is missing from the figures. In an **open loop**, messages are sent
//! at their due times whatever comes back, and a latency counts from the due time: so no stall can hide, neither the server's nor
//! our own. Not even by lasting to the end, for what has no reply by then counts with the time that it has waited; but for
//! datagrams that were sent, of which nobody can tell whether they are late or lost.

mod latencies;
mod limits;
mod load;
mod payload;
mod outstanding;
mod plan;
mod report;
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

use crate::cli::{Blast, Transport};
use limits::{DRAIN_MS, PROGRESS_MS};
use load::Load;
use plan::Pace;
pub(crate) use plan::Plan;
use report::Report;

/// Offers the load that `plan` asks for, and writes the report to standard output.
///
/// # Errors
///
/// A line to complain with: nobody is there, nothing right came back, or something in the way on this machine.
pub(crate) fn run(plan: Plan, options: &Blast) -> Result<(), String> {
    let stop = stop_on_signals().map_err(|error| format!("signals: {error}"))?;
    // Before the load is offered: it would be a pity to learn afterwards that it cannot be written. What is in it stays until then.
    let open = |path| File::options().write(true).create(true).truncate(false).open(path);
    let log = options.histogram.as_ref().map(|path| (path, open(path)));
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
    // Even where there is nothing in it: then it says so. If it cannot be written, there is still a table to print.
    let logged = log.map_or(Ok(()), |(path, file)| {
        let emptied = empty(&file);
        let written = emptied
            .and_then(|()| load.latencies.write_log(&mut BufWriter::new(file), &plan.to_string()));
        written.map_err(|error| format!("{}: {error}", path.display()))
    });
    if report.received == 0 && report.corrupt == 0 {
        return Err(match load.failure {
            Some(failure) => format!("{plan}: {failure}"),
            None => format!("{plan}: nobody answers ({} messages were sent)", report.sent),
        });
    }
    let text = if options.json { report.to_json() } else { report.to_string() };
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {} // nobody reads it, so there is nobody to tell
        Err(error) => return Err(format!("standard output: {error}")),
    }
    logged?;
    match (report.corrupt, load.counts.misplaced, load.departure()) {
        (0, 0, None) => Ok(()),
        (0, 0, Some(why)) => Err(format!("{plan}: the server has left ({why})")),
        (0, count, _) => Err(format!(
            "{plan}: {count} replies are out of place, so the stream is not what was sent"
        )),
        (count, _, _) => Err(format!("{plan}: {count} replies are not what was sent")),
    }
}

/// Takes away what is in `file`, if it is one that keeps anything: a pipe or a device does not.
fn empty(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

/// Takes turns until the time is over or a signal has come, and then until nothing is missing or hope is lost.
fn offer(plan: &Rc<Plan>, load: &Rc<RefCell<Load>>, stop: &AtomicBool) -> io::Result<()> {
    let mut reactor = Reactor::new(plan.limits())?;
    let mut clients = match plan.transport {
        Transport::Udp => {
            for number in 0..plan.clients {
                reactor.connect_datagram(plan.address, udp::Client::new(number, plan, load))?;
            }
            None
        }
        Transport::Tcp => Some(tcp::Clients::connect(&mut reactor, plan, load)),
    };
    if let Some(clients) = &clients {
        // Who does not answer is given up by the reactor.
        while !load.borrow().has_connected() && !stop.load(Ordering::Relaxed) {
            reactor.turn(Some(Duration::from_millis(PROGRESS_MS)))?;
        }
        clients.all_have_tried()?;
    }
    let started = load.borrow_mut().start();
    if let Some(clients) = &clients {
        clients.start(&mut reactor);
    }
    let mut progress = Progress::new(plan.duration);
    let mut told_at = started;
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
            || load.is_hopeless()
        {
            load.end(now);
            break;
        }
        if now.duration_since(told_at) >= Duration::from_millis(PROGRESS_MS) {
            progress.tell(&load, now.duration_since(started), now.duration_since(told_at));
            told_at = now;
        }
    }
    progress.clear();
    // What has come due since this turn began is still sent; what else is due by then was too much for us.
    reactor.turn(Some(Duration::ZERO))?;
    load.borrow_mut().stop(Instant::now());
    let give_up = Instant::now() + Duration::from_millis(DRAIN_MS);
    while load.borrow().misses_replies() {
        // It does not wait even now, for what it takes to wake up would be in the latencies of the last replies.
        reactor.turn(Some(Duration::ZERO))?;
        let now = Instant::now();
        load.borrow_mut().latencies.begin_interval_if_due(now);
        if now >= give_up {
            break;
        }
    }
    let mut load = load.borrow_mut();
    let now_ns = load.ns(Instant::now());
    // Datagrams that have been sent are lost. As the clients take turns, what none has come to are the last ones.
    let untouched = clients.map_or(load.counts.sent, |clients| clients.give_up(&mut load, now_ns));
    let due = match plan.pace {
        Pace::Window(_) => load.counts.sent,
        Pace::Rate(rate) => {
            load.give_up_from(untouched, rate, now_ns);
            load.due(rate)
        }
    };
    let stats = reactor.stats();
    let not_taken = stats.datagrams_unsent + stats.datagrams_too_long;
    let sent = load.counts.sent.saturating_sub(not_taken);
    (load.counts.sent, load.counts.unsent) = (sent, due.saturating_sub(sent));
    Ok(())
}

/// SIGINT and SIGTERM end the load, and the report is of what there was; the second one ends the process at once.
fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let was_asked = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(
            signal,
            128 + signal,
            Arc::clone(&was_asked),
        )?;
        signal_hook::flag::register(signal, Arc::clone(&was_asked))?;
    }
    Ok(was_asked)
}

/// What is shown while the load is offered: nothing, unless standard error is a terminal.
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

    fn tell(&mut self, load: &Load, elapsed: Duration, since_last: Duration) {
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
