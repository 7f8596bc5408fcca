//! The program `reactor`: command line, log and signals around the library, and two clients.
//!
//! ```text
//!     reactor [serve]   the server: this file sets up sockets, log and signals, and runs the loop
//!     reactor send      a client for people and scripts (send.rs)
//!     reactor blast     a load generator (blast.rs)
//! ```
//!
//! Standard output gets the bound addresses, the reply or the report; the log and all error
//! messages go to standard error.

mod address;
mod blast;
mod cli;
#[cfg(unix)]
mod log_writer;
mod send;
mod site;
mod sockets;
mod values;

use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use env_logger::fmt::ConfigurableFormat;
use env_logger::{Target, TimestampPrecision};
use log::{Level, LevelFilter, debug, info, log_enabled, warn};
use mio_reactor::{ACCESS_LOG, Echo, Reactor, Stopped};

use blast::Plan;
use cli::{BlastArgs, CliCommand, LogArgs, Parsed, SendArgs, ServeArgs};
use send::SendError;
use site::Site;
use sockets::Serving;

/// Success, or a graceful stop: all connections closed gracefully.
const EXIT_SUCCESS: u8 = 0;
/// A failure at run time: an address in use, no reply, an error of the kernel.
const EXIT_FAILURE: u8 = 1;
/// A usage error: the command line is not valid.
const EXIT_USAGE: u8 = 2;
/// A stop in which connections were closed by force, because the drain timeout was reached.
const EXIT_FORCED: u8 = 3;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().collect();
    match cli::parse(&arguments) {
        Parsed::Command(command) => match *command {
            CliCommand::Serve(arguments) => run_server(arguments),
            CliCommand::Send(arguments) => run_send(&arguments),
            CliCommand::Blast(arguments) => run_blast(&arguments),
        },
        Parsed::Text(text) => {
            // If standard output is closed, there is no place to report that to.
            let _ = text.print();
            ExitCode::SUCCESS
        }
        Parsed::Invalid(line) => exit_with_message(EXIT_USAGE, &line),
    }
}

fn run_server(arguments: ServeArgs) -> ExitCode {
    if arguments.has_root_without_http() {
        let line = "--root (REACTOR_ROOT) requires --http ADDR (try --help)";
        return exit_with_message(EXIT_USAGE, line);
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
    let address = match blast::find_server(&arguments.target) {
        Ok(address) => address,
        Err(line) => return exit_with_message(EXIT_FAILURE, &line),
    };
    let plan = match Plan::new(arguments, address) {
        Ok(plan) => plan,
        Err(line) => return exit_with_message(EXIT_USAGE, &format!("{line} (try --help)")),
    };
    match blast::run(plan, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => exit_with_message(EXIT_FAILURE, &line),
    }
}

fn serve(arguments: &ServeArgs) -> io::Result<Stopped> {
    open_log(&arguments.log);
    for line in cli::describe_unknown(env::vars_os().map(|(name, _)| name)) {
        warn!("{line}");
    }
    let limits = arguments.limits();
    let drain_timeout = limits.drain_timeout;
    // Before the first socket listens, so that an early signal is not lost.
    #[cfg(unix)]
    let stop_signal = stop_on_signals()?;
    // Owns the original, so that no second descriptor of it is left once the sockets listen.
    let make_reactor = move || {
        #[cfg_attr(not(unix), allow(unused_mut))]
        let mut reactor = Reactor::new(limits.clone())?;
        #[cfg(unix)]
        reactor.stop_on(stop_signal.try_clone()?.into())?;
        Ok(reactor)
    };
    let echo = if arguments.echo.prefix.is_empty() {
        Echo::new()
    } else {
        Echo::with_prefix(arguments.echo.prefix.as_str())
    };
    let site = Site::new().with_access_log(log_enabled!(target: ACCESS_LOG, Level::Info));
    let site = match &arguments.http.root {
        Some(root) => serve_files(site, root)?,
        None => site,
    };
    let Serving { mut reactor, lines, skipped } =
        sockets::open(&arguments.listen, &echo, &site, make_reactor)?;
    for line in skipped {
        warn!("{line}");
    }
    // One write, once all sockets listen: a reader of any line may connect to any address.
    if let Err(error) = io::stdout().write_all(lines.as_bytes()).and_then(|()| io::stdout().flush())
    {
        info!("addresses not printed: standard output: {error}");
    }
    info!("serving: pid {}", std::process::id());
    let stopped = reactor.run()?;
    match stopped {
        Stopped::Graceful => info!("stopped: all connections closed gracefully"),
        Stopped::Forced(left) => {
            warn!(
                "stopped: drain timeout ({drain_timeout:?}) reached, \
                 {left} connections closed by force"
            );
        }
    }
    debug!("{:?}", reactor.stats());
    Ok(stopped)
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
    env_logger::Builder::new()
        .filter_level(arguments.level.parse().unwrap_or(LevelFilter::Info))
        .filter_module(
            ACCESS_LOG,
            if arguments.access_log { LevelFilter::Info } else { LevelFilter::Off },
        )
        // mio's trace lines repeat ours. The colons matter: "mio" alone would also match
        // "mio_reactor".
        .filter_module("mio::", LevelFilter::Info)
        .parse_default_env()
        .target(target)
        // An access log line has its own date, and the tools that parse it expect nothing before
        // it.
        .format(move |line, record| match record.target() {
            ACCESS_LOG => writeln!(line, "{}", record.args()),
            _ => format.format(line, record),
        })
        .init();
}

/// Adds the files below `root` to the site.
#[cfg(unix)]
fn serve_files(site: Site, root: &Path) -> io::Result<Site> {
    match mio_reactor::Files::below(root) {
        Ok(files) => Ok(site.with_files(files)),
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("root {}: {error}", root.display())))
        }
    }
}

#[cfg(not(unix))]
fn serve_files(_: Site, root: &Path) -> io::Result<Site> {
    let error = "files are served on Unix only";
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("root {}: {error}", root.display())))
}

/// Makes the first SIGINT or SIGTERM write to a socket pair, and returns its read end: the stop
/// signal of a reactor, which then stops gracefully.
///
/// The second one ends the process at once, with the status that a shell reports for a process
/// killed by that signal (128 + its number).
#[cfg(unix)]
fn stop_on_signals() -> io::Result<std::os::unix::net::UnixStream> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::{flag, low_level::pipe};
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, atomic::AtomicBool};

    let (read_end, write_end) = UnixStream::pair()?;
    let stop_requested = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The handlers run in this order: the first signal finds the flag unset, sets it, and
        // writes.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop_requested))?;
        flag::register(signal, Arc::clone(&stop_requested))?;
        pipe::register(signal, write_end.try_clone()?)?;
    }
    Ok(read_end)
}

fn exit_with_message(status: u8, message: &str) -> ExitCode {
    // If standard error is closed, the exit status must do.
    let _ = writeln!(io::stderr(), "reactor: {message}");
    ExitCode::from(status)
}
