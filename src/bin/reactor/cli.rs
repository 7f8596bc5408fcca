//! The command line: its commands and options, and what each argument may be.
//!
//! The doc comments of the arguments are the text of the help: the first line is what `-h` shows,
//! and `--help` has all of it. The types of the arguments check one argument at a time; which
//! options of `reactor blast` go with which scheme is decided in `blast/plan.rs`.

mod environment;
mod serve;
mod usage_error;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::address::{NetAddress, Scheme, Url, parse_unix};
use crate::blast::Target;
use crate::trial::TryTarget;
use crate::values::{DurationArg, RateArg, SizeArg, count_to, parse_prefix, parse_unbounded_size};

pub(crate) use environment::describe_unknown;
pub(crate) use serve::{HttpArgs, ListenArgs, LogArgs, ServeArgs};
pub(crate) use usage_error::escape_controls;

/// Event-loop server, one thread: TCP echo, UDP echo and HTTP/1.0.
///
/// Without any address, serves TCP echo and UDP echo on 127.0.0.1:2000 and HTTP on 127.0.0.1:8080.
/// Once all sockets are bound, prints one line for each, with the bound address.
///
/// SIGINT, SIGTERM or SIGHUP stops the server gracefully: idle connections are closed, the others
/// may finish within the drain timeout. A second SIGINT or SIGTERM ends the process at once.
///
/// Exit status: 0 after a graceful stop, 1 if an address cannot be served, 2 for a usage error, 3
/// if the drain timeout was reached and connections were closed by force or never accepted.
#[derive(Parser)]
#[command(name = "reactor", version, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<CliCommand>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
pub(crate) enum CliCommand {
    /// Serve echo and HTTP. This is the default command.
    Serve(ServeArgs),
    /// Send TEXT to a server and print its reply.
    ///
    /// Over TCP and Unix sockets: sends TEXT, shuts down the sending side (FIN), and prints what
    /// arrives until the server has closed its side, too, and all of TEXT is sent. If a server has
    /// replied, and then neither sends more nor closes, the client ends after the timeout, with a
    /// line on standard error.
    ///
    /// Over UDP: sends one datagram and prints the one that comes back.
    ///
    /// The reply is printed byte for byte. Only on a terminal, a line end is added if the reply has
    /// none.
    ///
    /// Exit status: 0 if a reply was printed; 1 if there was no reply, the reply was cut off or the
    /// server did not accept all of TEXT (standard error says which); 2 for a usage error.
    Send(SendArgs),
    /// Generate load for an echo or HTTP server, check every reply and report the latencies.
    ///
    /// Compares every byte of every reply with what was sent or, over HTTP, with the body of the
    /// first response. Never sleeps, so give it a processor core of its own. SIGINT or SIGTERM ends
    /// the load early, and so does a server that closes all connections; the report covers the time
    /// until then. A second signal ends the process at once. Datagrams that are lost, duplicated or
    /// reordered are reported, and are no failure. So are replies that the kernel has dropped
    /// because our receive buffer was full.
    ///
    /// Exit status: 1 if this machine cannot open all sockets, if no reply arrives, if a reply is
    /// not what was sent or, over TCP, is out of order in the stream, if a response over HTTP is
    /// corrupt, cut off, not 2xx or has another body than the first, or if the server is gone (all
    /// TCP connections ended, or the UDP port closed); 2 for a usage error; otherwise 0.
    Blast(BlastArgs),
    /// Try a server with hostile clients, and print row by row what it does.
    ///
    /// Each row is one kind of client: one that sends its FIN first, drips its bytes, resets, never
    /// reads, sends what is no request. The output is TAP (Test Anything Protocol) 14; a row that
    /// fails says what was expected, what came, and which chapter of the book explains it. The
    /// trial takes 60 s at most, and a few if all is well. docs/try.md has the rows and the load.
    ///
    /// Exit status: 0 if no row failed; 1 if a row failed or the server is not reached; 2 for a
    /// usage error.
    Try(TryArgs),
}

#[derive(Args)]
pub(crate) struct SendArgs {
    /// tcp://HOST:PORT, udp://HOST:PORT, unix:PATH or, on Linux, unix:@NAME.
    ///
    /// HOST is a name, an IPv4 address, or an IPv6 address in brackets, with its interface if it is
    /// link-local: [fe80::1%eth0]. A port alone means 127.0.0.1. The addresses of a name are tried
    /// one after the other.
    #[arg(value_name = "SERVER", value_parser = parse_send_target)]
    pub(crate) to: SendTarget,
    /// What to send. Without it, standard input is sent.
    ///
    /// All of the input is sent over a stream, and as one datagram over UDP. Put -- before a text
    /// that begins with a dash.
    pub(crate) text: Option<OsString>,
    /// Longest wait for the server, at each step.
    ///
    /// It ends name resolution and connect together if they take longer. It also ends an exchange
    /// in which no byte moves for so long, in either direction, while TEXT waits to be accepted or
    /// after all of it is sent. The wait for standard input is not counted.
    #[arg(long, value_name = "DURATION", default_value_t = SEND_TIMEOUT)]
    pub(crate) timeout: DurationArg,
}

/// The server of `reactor send`.
#[derive(Clone)]
pub(crate) enum SendTarget {
    Tcp(NetAddress),
    Udp(NetAddress),
    Unix(PathBuf),
}

#[derive(Args)]
pub(crate) struct TryArgs {
    /// The server: tcp://HOST:PORT, udp://HOST:PORT, unix:PATH or http://HOST:PORT/PATH.
    ///
    /// HOST is written as for `reactor send`. The first three are echo servers. An HTTP server has
    /// a resource at PATH that GET gets; its default port is 80. Over a Unix socket, it is
    /// http://unix:SOCKET:/PATH.
    #[arg(value_name = "URL", required_unless_present = "list")]
    pub(crate) target: Option<TryTarget>,
    /// Run only the row of this name.
    ///
    /// It may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Print the rows, and run none.
    ///
    /// With a URL, those for such a server; each with its source, its chapter and its longest
    /// duration.
    #[arg(long)]
    pub(crate) list: bool,
    /// How many times longer each row may take.
    ///
    /// For a busy machine or a long path. With 1, all rows together take 60 s at most.
    #[arg(long, value_name = "FACTOR", value_parser = count_to(TIME_FACTOR_MAX),
        default_value = "1")]
    pub(crate) time_factor: u32,
    /// What an echo server puts before each reply.
    ///
    /// Over a stream it may stand before the bytes of each read, wherever that began.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true,
        value_parser = parse_prefix)]
    pub(crate) prefix: String,
    /// Try a server on another machine.
    ///
    /// The rows are an attack on a server that is not your own. Without it, an address that is not
    /// a loopback address is a usage error.
    #[arg(long)]
    pub(crate) allow_remote: bool,
}

#[derive(Args, Clone)]
pub(crate) struct BlastArgs {
    /// The server: udp://HOST:PORT, tcp://HOST:PORT or http://HOST:PORT/PATH.
    ///
    /// HOST is written as for `reactor send`. Of several addresses of a name, the first that works
    /// gets all the load. The first two are echo servers. An HTTP server gets GET requests of
    /// HTTP/1.1; its default port is 80. Over a Unix socket, it is http://unix:SOCKET:/PATH.
    #[arg(value_name = "URL")]
    pub(crate) target: Target,
    /// Closed loop: messages in flight on each socket.
    ///
    /// Another message is sent for each reply. The default is 64 over UDP and 1 over TCP. A
    /// datagram without a reply is replaced after 1 s; once the latency of the path is known, after
    /// that latency and at least 100 ms more, doubled each time (RFC 6298).
    #[arg(long, value_name = "COUNT", value_parser = count_to(WINDOW_MAX),
        conflicts_with = "rate")]
    pub(crate) window: Option<u32>,
    /// Open loop: messages a second on all sockets together.
    ///
    /// They are sent whatever comes back. k, M and G are thousands, millions and billions: 100k. A
    /// latency counts from the time at which its message was due, so that no stall is hidden (no
    /// coordinated omission). Messages unanswered at the end are in the latencies with the time
    /// waited so far, except datagrams that were sent: those are only counted as lost.
    #[arg(long, value_name = "RATE")]
    pub(crate) rate: Option<RateArg>,
    /// Size of each message, at least 16.
    ///
    /// It is a number of bytes, or of KiB with K. The default is 64.
    #[arg(long, value_name = "SIZE", value_parser = parse_unbounded_size)]
    pub(crate) size: Option<SizeArg>,
    /// Number of sockets that send, over UDP.
    ///
    /// The default is 1.
    #[arg(long, value_name = "COUNT", value_parser = count_to(SOCKETS_MAX))]
    pub(crate) sockets: Option<u32>,
    /// Number of connections that send, over TCP and HTTP.
    ///
    /// The default is 64.
    #[arg(long, value_name = "COUNT", value_parser = count_to(CONNECTIONS_MAX))]
    pub(crate) connections: Option<u32>,
    /// Requests in flight on each connection, over HTTP.
    ///
    /// In a closed loop, another one is sent for each response. In an open loop, one that is due
    /// waits while there are as many, and its latency counts from its due time. The default is 1.
    #[arg(long, value_name = "COUNT", value_parser = count_to(WINDOW_MAX))]
    pub(crate) pipeline: Option<u32>,
    /// Requests on each connection, over HTTP.
    ///
    /// The last one asks the server to close, and the next is sent on another connection. Without
    /// it, a connection is used until the server closes it.
    #[arg(long, value_name = "COUNT", value_parser = count_to(u32::MAX))]
    pub(crate) requests_per_connection: Option<u32>,
    /// Another field of each request, over HTTP.
    ///
    /// It may be given several times. A Host replaces that of the URL.
    #[arg(long, value_name = "FIELD")]
    pub(crate) header: Vec<String>,
    /// Accept bodies that differ from the first, over HTTP.
    ///
    /// For resources that are not the same each time. By default, such a response is a failure.
    #[arg(long)]
    pub(crate) any_body: bool,
    /// How long to send, from the first message on.
    ///
    /// Connecting comes before, and may take 10 s. Replies are awaited after it, for 1 s, or on a
    /// long path for up to 10 s.
    #[arg(long, value_name = "DURATION", default_value_t = BLAST_DURATION)]
    pub(crate) duration: DurationArg,
    /// The prefix of each reply, over UDP.
    ///
    /// It is the one that the server was started with.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// How datagrams are sent and received.
    ///
    /// The default is gso.
    #[arg(long, value_name = "HOW", value_enum)]
    pub(crate) batch: Option<BatchMode>,
    /// Print one line of JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write all latencies to FILE.
    ///
    /// It becomes an HdrHistogram log with one interval per second, or longer ones if there would
    /// be more than 600. A named pipe is opened when it has a reader. Standard output gets the
    /// report, so FILE may be neither - nor the same file.
    #[arg(long, value_name = "FILE")]
    pub(crate) histogram: Option<PathBuf>,
}

/// How datagrams cross to the kernel and back.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BatchMode {
    /// One per call: recvfrom and send
    Plain,
    /// Many per call: recvmmsg and sendmmsg
    Mmsg,
    /// Many per call, with UDP_GRO and UDP_SEGMENT
    Gso,
}

/// The default timeout of `reactor send`: that of the clients in docs/lecture. On reaching it the
/// command ends, with status 1 if there was no reply or not all of TEXT was accepted.
const SEND_TIMEOUT: DurationArg = DurationArg::new(Duration::from_secs(5));
/// The default duration of `reactor blast`: long enough for a figure that can be repeated.
const BLAST_DURATION: DurationArg = DurationArg::new(Duration::from_secs(10));
/// More messages in flight on one socket than any kernel's buffers hold.
const WINDOW_MAX: u32 = 65_536;
/// More sockets than are needed to keep one core busy. Each has memory of its own for what it has
/// sent.
const SOCKETS_MAX: u32 = 1024;
/// As many connections as our server accepts by default.
const CONNECTIONS_MAX: u32 = 100_000;

/// Enough for a machine that is ten times slower or busier.
const TIME_FACTOR_MAX: u32 = 10;

/// What the arguments ask for.
pub(crate) enum Parsed {
    Command(Box<CliCommand>),
    /// A text for standard output: the help, or the version.
    Text(clap::Error),
    /// A usage error, as one line.
    Invalid(String),
}

/// Reads the arguments, the first of which is the program's name, and the environment.
pub(crate) fn parse(arguments: &[OsString]) -> Parsed {
    let matches = environment::command_for(arguments).try_get_matches_from(arguments);
    match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => {
            let command = cli.command.unwrap_or(CliCommand::Serve(cli.serve));
            Parsed::Command(Box::new(command))
        }
        Err(error) if error.use_stderr() => {
            Parsed::Invalid(usage_error::describe(error, arguments))
        }
        Err(error) => Parsed::Text(error),
    }
}

fn parse_send_target(text: &str) -> Result<SendTarget, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return parse_unix(path).map(SendTarget::Unix);
    }
    let url: Url = text.parse()?;
    Ok(match url.scheme {
        Scheme::Tcp => SendTarget::Tcp(url.address),
        Scheme::Udp => SendTarget::Udp(url.address),
    })
}
