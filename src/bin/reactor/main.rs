//! The program `reactor`: a command line, a logger and two signals around the library, and a client.

mod blast;
mod cli;
#[cfg(unix)]
mod log_writer;
mod send;
mod site;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use env_logger::fmt::ConfigurableFormat;
use env_logger::{Target, TimestampPrecision};
use log::{Level, LevelFilter, debug, info, log_enabled, warn};
use mio_reactor::{ACCESS_LOG, Echo, Http, Protocol, Reactor, Stopped};

use blast::Plan;
use cli::{Blast, Cli, Command, Place, Serve};
use send::Failure;
use site::Site;

/// It did what it was asked to.
const SUCCEEDED: u8 = 0;
/// Something outside the program stood in the way.
const FAILED: u8 = 1;
/// The command line made no sense.
const MISUSED: u8 = 2;
/// It stopped as it was asked to, but not every conversation could be finished.
const CUT_OFF: u8 = 3;

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.into_command(),
        Err(error) if !error.use_stderr() => {
            // --help or --version. If nobody reads it, there is nobody to tell.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return exit_with_error(MISUSED, &first_line(&error)),
    };
    match command {
        Command::Serve(arguments) if arguments.has_root_for_nobody() => {
            exit_with_error(MISUSED, "--root needs an address: --http ADDR")
        }
        Command::Serve(arguments) => match serve(&arguments.with_defaults()) {
            Ok(Stopped::Graceful) => ExitCode::SUCCESS,
            Ok(Stopped::Forced(_)) => ExitCode::from(CUT_OFF),
            Err(error) => exit_with_error(FAILED, &error.to_string()),
        },
        Command::Send(message) => match send::send(&message) {
            Ok(None) => ExitCode::SUCCESS,
            Ok(Some(note)) => exit_with_error(SUCCEEDED, &note),
            Err(Failure::Misused(why)) => exit_with_error(MISUSED, &why),
            Err(Failure::Failed(why)) => exit_with_error(FAILED, &why),
            Err(Failure::NobodyReads) => ExitCode::from(FAILED), // as quietly as others die of SIGPIPE
        },
        Command::Blast(options) => offer_load(&options),
    }
}

fn offer_load(options: &Blast) -> ExitCode {
    let plan = match Plan::new(options) {
        Ok(plan) => plan,
        Err(line) => return exit_with_error(MISUSED, &format!("{line} (try --help)")),
    };
    match blast::run(plan, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => exit_with_error(FAILED, &line),
    }
}

fn serve(arguments: &Serve) -> io::Result<Stopped> {
    open_log(arguments);
    let mut reactor = Reactor::new(arguments.limits())?;
    // Before anything listens, so that a signal which comes early is not lost either.
    #[cfg(unix)]
    stop_on_signals(&mut reactor)?;
    let echo = if arguments.prefix.is_empty() {
        Echo::new()
    } else {
        Echo::with_prefix(arguments.prefix.as_str())
    };
    let site = Site::new().with_access_log(log_enabled!(target: ACCESS_LOG, Level::Info));
    let site = match &arguments.root {
        Some(root) => serve_files(site, root)?,
        None => site,
    };
    let mut lines = String::new();
    for place in &arguments.tcp {
        let echo = echo.clone();
        let bound = listen(&mut reactor, place, move || echo.clone());
        lines += &announce("tcp echo", place, bound)?;
    }
    for address in &arguments.udp {
        let bound = reactor.bind_datagram(*address, echo.clone());
        lines += &announce("udp echo", address, bound)?;
    }
    for place in &arguments.http {
        let site = site.clone();
        let bound = listen(&mut reactor, place, move || Http::new(site.clone()));
        lines += &announce("http", place, bound)?;
    }
    // All at once, when all listen: who reads the last line may connect to any.
    if let Err(error) = io::stdout().write_all(lines.as_bytes()).and_then(|()| io::stdout().flush())
    {
        info!("standard output: {error}");
    }
    info!("serving, process {}", std::process::id());
    let stopped = reactor.run()?;
    match stopped {
        Stopped::Graceful => info!("stopped: all connections closed in order"),
        Stopped::Forced(left) => {
            warn!("stopped: drain timeout reached, {left} connections closed by force")
        }
    }
    debug!("{:?}", reactor.stats());
    Ok(stopped)
}

/// Opens the log on standard error.
fn open_log(arguments: &Serve) {
    // Where poll(2) is not to be had, a log that nobody reads holds up everybody.
    #[cfg(unix)]
    let target = Target::Pipe(Box::new(log_writer::LogWriter::new(io::stderr())));
    #[cfg(not(unix))]
    let target = Target::Stderr;
    let mut format = ConfigurableFormat::default();
    format.timestamp(Some(TimestampPrecision::Millis)).target(false);
    env_logger::Builder::new()
        .filter_level(arguments.log.parse().unwrap_or(LevelFilter::Info))
        .filter_module(
            ACCESS_LOG,
            if arguments.access_log { LevelFilter::Info } else { LevelFilter::Off },
        )
        // We log the same calls as mio does. (The colons: "mio" alone would match "mio_reactor".)
        .filter_module("mio::", LevelFilter::Info)
        .parse_default_env()
        .target(target)
        // A line of the access log has a date of its own, and tools that read it want nothing else.
        .format(move |line, record| match record.target() {
            ACCESS_LOG => writeln!(line, "{}", record.args()),
            _ => format.format(line, record),
        })
        .init();
}

/// Serves streams at `place`. Returns where that is now that port 0 has become a real one.
fn listen<P: Protocol + 'static>(
    reactor: &mut Reactor,
    place: &Place,
    mut make: impl FnMut() -> P + 'static,
) -> io::Result<Place> {
    match place {
        Place::Ip(address) => reactor.listen(*address, move |_| make()).map(Place::Ip),
        #[cfg(unix)]
        Place::Unix(path) => reactor.listen_unix(path, make).map(|()| place.clone()),
        #[cfg(not(unix))]
        Place::Unix(_) => Err(io::ErrorKind::Unsupported.into()), // which the command line has refused
    }
}

/// The site, with the files below `root`.
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

/// The line that says where a service listens, or the error that says why it does not.
fn announce<A: Display>(service: &str, asked: &A, bound: io::Result<A>) -> io::Result<String> {
    match bound {
        Ok(bound) => Ok(format!("{service} {bound}\n")),
        Err(error) => Err(io::Error::new(error.kind(), format!("{service} {asked}: {error}"))),
    }
}

/// SIGINT and SIGTERM ring the reactor's bell, which lets it finish what is under way; the second one ends the process at
/// once, with the status a shell shows for a process that died of it.
#[cfg(unix)]
fn stop_on_signals(reactor: &mut Reactor) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::{flag, low_level::pipe};
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, atomic::AtomicBool};

    let (bell, rope) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    let was_asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In the order in which they act: the first signal finds the flag unset, sets it, and rings.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&was_asked))?;
        flag::register(signal, Arc::clone(&was_asked))?;
        pipe::register(signal, rope.try_clone()?)?;
    }
    reactor.stop_on(mio::net::UnixStream::from_std(bell))
}

/// What clap has to say, in one line.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    format!("{} (try --help)", line.strip_prefix("error: ").unwrap_or(line))
}

fn exit_with_error(status: u8, message: &str) -> ExitCode {
    // If standard error is closed too, the status has to do.
    let _ = writeln!(io::stderr(), "reactor: {message}");
    ExitCode::from(status)
}
