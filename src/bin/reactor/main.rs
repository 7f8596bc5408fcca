//! The program `reactor`: command line, log and signals around the library, and three clients.
//!
//! ```text
//!     reactor [serve]   the server: this file sets up sockets, log and signals, and runs the loop
//!     reactor send      a client for people and scripts (send.rs)
//!     reactor blast     a load generator (blast.rs)
//!     reactor try       a hostile peer, which checks a server (trial.rs)
//! ```
//!
//! Standard output gets the bound addresses, the reply or the report; the log and all error
//! messages go to standard error.

mod address;
mod blast;
mod cli;
#[cfg(unix)]
mod log_writer;
#[cfg(unix)]
mod process;
#[cfg(target_os = "linux")]
mod random;
mod send;
mod site;
mod sockets;
mod standard_streams;
mod trial;
#[cfg(unix)]
mod unix_address;
mod values;

use std::env::{self, VarError};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use env_logger::fmt::ConfigurableFormat;
use env_logger::{Target, TimestampPrecision};
use log::{Level, LevelFilter, debug, info, log_enabled, warn};
use mio_reactor::{ACCESS_LOG, Echo, ListenOptions, Reactor, Stopped};

use blast::Plan;
use cli::{BlastArgs, CliCommand, HttpArgs, LogArgs, Parsed, SendArgs, ServeArgs, TryArgs};
use send::SendError;
use site::Site;
use sockets::{Places, Serving};
use trial::TrialError;

/// Success, or a graceful stop: all connections closed gracefully.
const EXIT_SUCCESS: u8 = 0;
/// A failure at run time: an address in use, no reply, an error of the kernel.
const EXIT_FAILURE: u8 = 1;
/// A usage error: the command line is not valid.
const EXIT_USAGE: u8 = 2;
/// A stop in which connections were closed by force, because the drain timeout was reached.
const EXIT_FORCED: u8 = 3;

fn main() -> ExitCode {
    #[cfg(unix)]
    if let Err(error) = process::prepare() {
        return exit_with_message(EXIT_FAILURE, &format!("signals: {error}"));
    }
    let arguments: Vec<_> = env::args_os().collect();
    match cli::parse(&arguments) {
        Parsed::Command(command) => match *command {
            CliCommand::Serve(arguments) => run_server(arguments),
            CliCommand::Send(arguments) => run_send(&arguments),
            CliCommand::Blast(arguments) => run_blast(&arguments),
            CliCommand::Try(arguments) => run_trial(&arguments),
        },
        Parsed::Text(text) => print_text(&text),
        Parsed::Invalid(line) => exit_with_message(EXIT_USAGE, &line),
    }
}

fn run_server(arguments: ServeArgs) -> ExitCode {
    if let Err(line) = arguments.check_addresses() {
        return exit_with_message(EXIT_USAGE, &format!("{line} (try --help)"));
    }
    match serve(&arguments.with_defaults()) {
        Ok(Stopped::Graceful) => ExitCode::SUCCESS,
        Ok(Stopped::Forced(_)) => ExitCode::from(EXIT_FORCED),
        Err(error) => exit_with_message(EXIT_FAILURE, &error.to_string()),
    }
}

fn run_send(arguments: &SendArgs) -> ExitCode {
    match send::send(arguments) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(note)) => exit_with_message(EXIT_SUCCESS, &note),
        Err(SendError::Usage(why)) => exit_with_message(EXIT_USAGE, &why),
        Err(SendError::Failed(why)) => exit_with_message(EXIT_FAILURE, &why),
        // Without a message, as a program that SIGPIPE ends.
        Err(SendError::OutputClosed) => ExitCode::from(EXIT_FAILURE),
    }
}

fn run_blast(arguments: &BlastArgs) -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Err(line) = random::check() {
        return exit_with_message(EXIT_FAILURE, &line);
    }
    let (server, connect_timeout) = match blast::find_server(&arguments.target) {
        Ok(found) => found,
        Err(line) => return exit_with_message(EXIT_FAILURE, &line),
    };
    let plan = match Plan::new(arguments, server, connect_timeout) {
        Ok(plan) => plan,
        Err(line) => return exit_with_message(EXIT_USAGE, &format!("{line} (try --help)")),
    };
    match blast::run(plan, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => exit_with_message(EXIT_FAILURE, &line),
    }
}

fn run_trial(arguments: &TryArgs) -> ExitCode {
    match trial::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(TrialError::Usage(why)) => {
            exit_with_message(EXIT_USAGE, &format!("{why} (try --help)"))
        }
        Err(TrialError::Failed(why)) => exit_with_message(EXIT_FAILURE, &why),
        Err(TrialError::OutputClosed) => ExitCode::from(EXIT_FAILURE),
    }
}

fn serve(arguments: &ServeArgs) -> io::Result<Stopped> {
    #[cfg(unix)]
    process::allow_background_output()?;
    open_log(&arguments.log);
    for line in cli::describe_unknown(env::vars_os().map(|(name, _)| name)) {
        warn!("{line}");
    }
    #[cfg(unix)]
    if let Some(most) = process::descriptors_max() {
        debug!("at most {most} descriptors (RLIMIT_NOFILE)");
    }
    // Before the signal handlers are set: a resolver may block for seconds, and until then a signal
    // ends the process at once.
    let places = Places::resolve(&arguments.listen)?;
    let limits = arguments.limits();
    let drain_timeout = limits.drain_timeout;
    // For the same reason: the directory may be on another machine.
    let site = make_site(&arguments.http)?;
    // Before the first socket listens, so that an early signal is not lost.
    #[cfg(unix)]
    let stop_signals = process::stop_on_signals().map_err(|error| in_call("signals", &error))?;
    let make_reactor = || {
        #[cfg_attr(not(unix), allow(unused_mut))]
        let mut reactor = Reactor::new(limits.clone())
            .map_err(|error| in_call("poller (epoll_create1, kqueue)", &error))?;
        #[cfg(unix)]
        stop_signals
            .read_end()
            .and_then(|read_end| {
                let stop_signals = stop_signals.clone();
                reactor.stop_on_with(read_end.into(), move || stop_signals.log())
            })
            .map_err(|error| in_call("stop signal (epoll_ctl, kevent)", &error))?;
        Ok(reactor)
    };
    let echo = if arguments.echo.prefix.is_empty() {
        Echo::new()
    } else {
        Echo::with_prefix(arguments.echo.prefix.as_str())
    };
    let echo = if arguments.echo.answer_all_ports { echo.answering_own_ports() } else { echo };
    let http_options =
        ListenOptions::default().with_deferred_accept(arguments.http.deferred_accept);
    let Serving { mut reactor, lines, skipped } =
        sockets::open(&places, &echo, &site, &http_options, make_reactor)?;
    for line in skipped {
        warn!("{line}");
    }
    // Once all sockets listen: a reader of any line may connect to any address.
    if let Err(error) = print_addresses(&lines) {
        warn!("addresses not printed: standard output: {error}");
    }
    info!("serving: pid {}", std::process::id());
    let stopped = reactor.run().map_err(|error| in_call("poll (epoll_wait, kevent)", &error))?;
    #[cfg(unix)]
    stop_signals.log(); // those that have come since
    match stopped {
        Stopped::Graceful => info!("stopped: all connections closed gracefully"),
        Stopped::Forced(left) => {
            let unaccepted = usize::try_from(reactor.stats().unaccepted).unwrap_or(usize::MAX);
            let closed = left.saturating_sub(unaccepted);
            warn!(
                "stopped: drain timeout ({drain_timeout:?}) reached, \
                 {closed} connections closed by force, {unaccepted} never accepted"
            );
        }
    }
    debug!("{:?}", reactor.stats());
    Ok(stopped)
}

/// Names what has failed: a system's message alone ("Operation not permitted") does not.
fn in_call(call: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{call}: {error}"))
}

/// Writes the lines to standard output without blocking.
#[cfg(unix)]
fn print_addresses(lines: &str) -> Result<(), String> {
    log_writer::print_lines(lines)
}

/// Writes the lines to standard output. Without poll(2), one that is not read blocks the start.
#[cfg(not(unix))]
fn print_addresses(lines: &str) -> Result<(), String> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| error.to_string())
}

/// Opens the log on standard error.
fn open_log(arguments: &LogArgs) {
    // Without poll(2), a standard error that is not read blocks the loop.
    #[cfg(unix)]
    let target = Target::Pipe(Box::new(log_writer::LogWriter::new(io::stderr())));
    #[cfg(not(unix))]
    let target = Target::Stderr;
    let mut format = ConfigurableFormat::default();
    format.timestamp(Some(TimestampPrecision::Millis)).target(false);
    let mut without_time = ConfigurableFormat::default();
    without_time.timestamp(None).target(false);
    let (directives, warning) = match env::var("RUST_LOG").map(check_directives) {
        Ok(Ok(directives)) => (directives, None),
        Ok(Err(error)) => (String::new(), Some(error)),
        Err(VarError::NotPresent) => (String::new(), None),
        Err(VarError::NotUnicode(_)) => (String::new(), Some("it is not valid UTF-8".to_string())),
    };
    env_logger::Builder::new()
        .filter_level(arguments.level.parse().unwrap_or(LevelFilter::Info))
        .filter_module(
            ACCESS_LOG,
            if arguments.access_log { LevelFilter::Info } else { LevelFilter::Off },
        )
        // mio's trace lines repeat ours. The colons matter: "mio" alone would also match
        // "mio_reactor".
        .filter_module("mio::", LevelFilter::Info)
        .parse_filters(&directives)
        .target(target)
        // An access log line has its own date, and the tools that parse it expect nothing before
        // it.
        .format(move |line, record| match record.target() {
            ACCESS_LOG => writeln!(line, "{}", record.args()),
            _ if has_timestamp(SystemTime::now()) => format.format(line, record),
            _ => without_time.format(line, record),
        })
        .init();
    if let Some(warning) = warning {
        warn!("environment: RUST_LOG ignored: {warning}");
    }
}

/// Returns whether env_logger can write this time. Otherwise it panics, as in the year 10,000.
fn has_timestamp(time: SystemTime) -> bool {
    const YEARS: Duration = Duration::from_secs(8000 * 365 * 86_400);
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_else(|error| error.duration()) < YEARS
}

/// Returns the directives if env_logger can read them all. Where it cannot, it would print to
/// standard error itself, and panic if that fails.
fn check_directives(directives: String) -> Result<String, String> {
    match env_filter::Builder::new().try_parse(&directives) {
        Ok(_) => Ok(directives),
        Err(error) => Err(cli::escape_controls(&error.to_string())),
    }
}

fn make_site(arguments: &HttpArgs) -> io::Result<Site> {
    let site = Site::new().with_access_log(log_enabled!(target: ACCESS_LOG, Level::Info));
    match &arguments.root {
        Some(root) => serve_files(site, root, arguments.builtin_pages),
        None => Ok(site),
    }
}

/// Adds the files below `root` to the site.
#[cfg(unix)]
fn serve_files(site: Site, root: &Path, keeps_pages: bool) -> io::Result<Site> {
    match mio_reactor::Files::below(root) {
        Ok(files) => Ok(site.with_files(files, keeps_pages)),
        Err(error) => Err(in_call(&format!("root {}", root.display()), &error)),
    }
}

#[cfg(not(unix))]
fn serve_files(_: Site, root: &Path, _: bool) -> io::Result<Site> {
    let error = "files are served on Unix only";
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("root {}: {error}", root.display())))
}

/// Prints the help or the version.
fn print_text(text: &clap::Error) -> ExitCode {
    let styled = text.render();
    let is_plain = env::var_os("NO_COLOR").is_some()
        || env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    let has_color = !is_plain && io::stdout().is_terminal();
    let text = if has_color { styled.ansi().to_string() } else { styled.to_string() };
    match standard_streams::stdout().and_then(|mut stdout| stdout.write_all(text.as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has read enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => exit_with_message(EXIT_FAILURE, &format!("standard output: {error}")),
    }
}

fn exit_with_message(status: u8, message: &str) -> ExitCode {
    standard_streams::write_exit_line(&format!("reactor: {message}"));
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_line_has_a_time_only_if_the_clock_can_be_written() {
        let epoch = SystemTime::UNIX_EPOCH;
        let year_10_000 = Duration::from_secs(253_402_300_800);
        assert!(has_timestamp(SystemTime::now()));
        assert!(has_timestamp(epoch - Duration::from_secs(1)));
        assert!(!has_timestamp(epoch + year_10_000));
        assert!(!has_timestamp(epoch - year_10_000));
    }
}
