//! The command line.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use mio_reactor::Limits;

/// One thread, one poll loop: TCP echo, UDP echo and HTTP/1.0.
///
/// Without any address, serves TCP echo and UDP echo on 127.0.0.1:2000 and HTTP on 127.0.0.1:8080. When all sockets
/// listen, prints one line for each, with the address bound. SIGINT or SIGTERM finishes what is under way and ends with
/// status 0, or 3 if conversations had to be cut off; a second one ends at once.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve. This is what is meant where no command is named.
    Serve(Serve),
    /// Send TEXT to a server, and print its reply.
    ///
    /// Over TCP and Unix sockets: sends it, shuts our side as the lecture's client does, and prints all that comes until the
    /// server closes too and all is sent. A server that has replied, stays silent and does not close is left after the
    /// timeout, with a line about that on standard error. Over UDP: sends one datagram, and prints the one that comes back.
    /// The reply is printed byte for byte; only on a terminal a line end is added where it has none. Ends with status 0 when
    /// a reply has been printed, 1 if there was none, it broke off or the server did not take all (standard error says
    /// which), and 2 when the command line makes no sense.
    Send(Message),
    /// Offer load to an echo server, check every reply, and tell how long it took.
    ///
    /// Every byte of every reply is held against what was sent. It never sleeps, so give it a processor core of its own. SIGINT
    /// or SIGTERM ends it with what there is to tell, and so does a server that ends all connections. The status is 1 if this
    /// machine has no room for all sockets, if nobody answers, if a reply is not what was sent or, over TCP, not in its place
    /// in the stream, or if the server has left so or, over UDP, has closed its port, and 2 when the command line makes no
    /// sense. What is lost, doubled or overtaken over UDP is told, and is no failure.
    Blast(Blast),
}

#[derive(Args)]
pub(crate) struct Message {
    /// tcp://HOST:PORT, udp://HOST:PORT or unix:PATH. The addresses of a host are tried one after the other.
    #[arg(value_name = "SERVER", value_parser = destination)]
    pub(crate) to: Destination,
    /// What to send. Without it: all that comes from standard input, however much over a stream, and as one datagram over
    /// UDP. Put -- before a text that begins with a dash.
    pub(crate) text: Option<OsString>,
    /// How long connecting may take, and how long the server may then be silent when all has been sent, or take none of what
    /// is to be sent.
    #[arg(long, value_name = "MS", default_value_t = TIMEOUT_MS, value_parser = value_parser!(u64).range(1..=MS_MAX))]
    pub(crate) timeout: u64,
}

/// Where a message goes.
#[derive(Clone)]
pub(crate) enum Destination {
    /// `HOST:PORT`.
    Tcp(String),
    Udp(String),
    Unix(PathBuf),
}

#[derive(Args, Clone)]
pub(crate) struct Serve {
    /// Serve TCP echo on this address, e.g. 127.0.0.1:2000 or [::1]:2000. Port 0 takes a free one. unix:PATH serves it on a
    /// Unix socket instead, whose file is made at PATH and removed at the end. May be repeated; naming any address means
    /// that only those named are served.
    #[arg(long, value_name = "ADDR", value_parser = place)]
    pub(crate) tcp: Vec<Place>,
    /// Serve UDP echo on this address. May be repeated.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) udp: Vec<SocketAddr>,
    /// Serve HTTP/1.0 on this address: a page at /, 13 bytes at /plaintext, and what is posted to /echo. unix:PATH is possible
    /// as well. May be repeated.
    #[arg(long, value_name = "ADDR", value_parser = place)]
    pub(crate) http: Vec<Place>,
    /// Serve the files below this directory over HTTP, and index.html for a directory. The page at / and the others are still
    /// there where it has no such file. Names that begin with a dot are not served, nor links that lead out.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Put TEXT before each UDP reply, and before what each TCP read brought. A TCP stream has no message boundaries: what
    /// was sent in two pieces may be read as one, and the other way round, so only UDP replies are exact.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// Answer UDP from every port but 0. Without this flag, nobody is answered at the ports of the small services which answer
    /// whatever comes (7, 13, 17, 19 and 37): two of them, once set on each other by a forged datagram, never stop.
    #[arg(long)]
    pub(crate) answer_all_ports: bool,
    /// Log to standard error from this level on: error, warn, info (start and stop), debug (a line for each
    /// conversation), trace (a line for each system call). The variable RUST_LOG, if set, overrides it.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["off", "error", "warn", "info", "debug", "trace"], hide_possible_values = true)]
    pub(crate) log: String,
    /// Log a line for each HTTP answer, in the Common Log Format, at level info under the target mio_reactor::access.
    #[arg(long)]
    pub(crate) access_log: bool,
    #[command(flatten)]
    bounds: Bounds,
}

#[derive(Args, Clone)]
pub(crate) struct Blast {
    /// The server: udp://IP:PORT or tcp://IP:PORT.
    #[arg(value_name = "URL", value_parser = target)]
    pub(crate) target: Target,
    /// Keep so many messages under way on each socket, and send another for each reply (a closed loop). [default: 64 for UDP, 1
    /// for TCP]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u64).range(1..=WINDOW_MAX), conflicts_with = "rate")]
    pub(crate) window: Option<u64>,
    /// Send so many messages a second on all sockets together, whatever comes back (an open loop). Latencies count from the moment
    /// at which a message is due, so that a server that stalls cannot hide it. What has no reply at the end counts with the time
    /// that it has waited, but for datagrams, which are lost.
    #[arg(long, value_name = "PER_SECOND", value_parser = value_parser!(u64).range(1..=RATE_MAX))]
    pub(crate) rate: Option<u64>,
    /// The size of each message, 16 or more.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub(crate) size: usize,
    /// How many sockets send, over UDP. [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..=SOCKETS_MAX))]
    pub(crate) sockets: Option<u32>,
    /// How many connections send, over TCP. [default: 64]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub(crate) connections: Option<u32>,
    /// For how long.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// What the server puts before each reply, over UDP.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// How datagrams cross to and from the kernel: one by one, many in one call, or as trains besides. [default: gso]
    #[arg(long, value_name = "HOW", value_enum)]
    pub(crate) batch: Option<Batch>,
    /// Print one line of JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write all latencies to FILE, as an HdrHistogram log with an interval for each second.
    #[arg(long, value_name = "FILE")]
    pub(crate) histogram: Option<PathBuf>,
}

/// Whom load is offered to.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    /// As in a URL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }
}

/// By the names of the system calls.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Batch {
    /// recv and send
    Plain,
    /// recvmmsg and sendmmsg
    Mmsg,
    /// The same with UDP_GRO and UDP_SEGMENT
    Gso,
}

/// Where streams are served.
#[derive(Clone)]
pub(crate) enum Place {
    Ip(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Ip(address) => address.fmt(f),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What an operator may want other than [`Limits::default`] has it.
#[derive(Args, Clone)]
#[command(next_help_heading = "Limits")]
struct Bounds {
    /// The most connections at one time. Beyond it, newcomers wait in the kernel's queue.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections_max as u64, value_parser = value_parser!(u64).range(1..=COUNT_MAX))]
    max_connections: u64,
    /// How long a peer may be silent after it has connected.
    #[arg(long, value_name = "MS", default_value_t = Limits::default().first_byte_timeout_ms, value_parser = value_parser!(u64).range(1..=MS_MAX))]
    silent_ms: u64,
    /// How long a connection may be without a byte moving.
    #[arg(long, value_name = "MS", default_value_t = Limits::default().idle_timeout_ms, value_parser = value_parser!(u64).range(1..=MS_MAX))]
    idle_ms: u64,
    /// How long a peer may take none of the bytes that wait for it.
    #[arg(long, value_name = "MS", default_value_t = Limits::default().write_timeout_ms, value_parser = value_parser!(u64).range(1..=MS_MAX))]
    stall_ms: u64,
    /// How long the head of an HTTP request may take to arrive.
    #[arg(long, value_name = "MS", default_value_t = Limits::default().head_timeout_ms, value_parser = value_parser!(u64).range(1..=MS_MAX))]
    head_ms: u64,
    /// How long the body of an HTTP request may take to arrive.
    #[arg(long, value_name = "MS", default_value_t = Limits::default().body_timeout_ms, value_parser = value_parser!(u64).range(1..=MS_MAX))]
    body_ms: u64,
    /// How long what a peer still sends after our last word is read and discarded.
    #[arg(long, value_name = "MS", default_value_t = Limits::default().linger_timeout_ms, value_parser = value_parser!(u64).range(1..=MS_MAX))]
    linger_ms: u64,
    /// How long a stop waits for conversations under way. Then they are cut off.
    #[arg(long, value_name = "MS", default_value_t = Limits::default().drain_timeout_ms, value_parser = value_parser!(u64).range(1..=MS_MAX))]
    drain_ms: u64,
    /// What the kernel is asked to hold for each UDP socket, each way. It grants what net.core.rmem_max and wmem_max allow.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().udp_buffer_bytes as u64, value_parser = value_parser!(u64).range(1..=BUFFER_BYTES_MAX))]
    udp_buffer: u64,
}

/// As many slots as a connection's name can tell apart.
const COUNT_MAX: u64 = u32::MAX as u64;
/// How long `reactor send` waits, in milliseconds: as long as the lecture's clients. Then it gives up, with status 1.
const TIMEOUT_MS: u64 = 5000;
/// More under way on one socket than any kernel's buffers hold.
const WINDOW_MAX: u64 = 65_536;
/// More sockets than a core keeps busy; each has memory of its own for what it has sent.
const SOCKETS_MAX: i64 = 1024;
/// As many connections as a server of ours takes.
const CONNECTIONS_MAX: i64 = 100_000;
/// More messages a second than any one core sends.
const RATE_MAX: u64 = 1_000_000_000;
/// A year: who wants no bound at all has one that he will not meet.
const MS_MAX: u64 = 365 * 24 * 60 * 60 * 1000;
/// What the kernel's own type for it holds (socket(7)).
const BUFFER_BYTES_MAX: u64 = i32::MAX as u64;

impl Cli {
    pub(crate) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

impl Serve {
    pub(crate) fn limits(&self) -> Limits {
        let bounds = &self.bounds;
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Limits {
            connections_max: count(bounds.max_connections),
            first_byte_timeout_ms: bounds.silent_ms,
            connect_timeout_ms: Limits::default().connect_timeout_ms, // the program begins no connections
            idle_timeout_ms: bounds.idle_ms,
            write_timeout_ms: bounds.stall_ms,
            head_timeout_ms: bounds.head_ms,
            body_timeout_ms: bounds.body_ms,
            linger_timeout_ms: bounds.linger_ms,
            drain_timeout_ms: bounds.drain_ms,
            unanswered_ports: if self.answer_all_ports {
                Vec::new()
            } else {
                Limits::default().unanswered_ports
            },
            udp_buffer_bytes: count(bounds.udp_buffer),
        }
    }

    /// Are there files to be served, and nowhere to serve them?
    pub(crate) fn has_root_for_nobody(&self) -> bool {
        self.root.is_some() && self.http.is_empty() && !(self.tcp.is_empty() && self.udp.is_empty())
    }

    /// The addresses to serve: those named, or the lecture's if none is.
    pub(crate) fn with_defaults(mut self) -> Serve {
        if self.tcp.is_empty() && self.udp.is_empty() && self.http.is_empty() {
            self.tcp.push(Place::Ip(SocketAddr::from(([127, 0, 0, 1], 2000))));
            self.udp.push(SocketAddr::from(([127, 0, 0, 1], 2000)));
            self.http.push(Place::Ip(SocketAddr::from(([127, 0, 0, 1], 8080))));
        }
        self
    }
}

fn place(text: &str) -> Result<Place, String> {
    match text.strip_prefix("unix:") {
        Some("") => Err("unix: needs the path of a file, such as unix:/tmp/echo".to_string()),
        Some(_) if cfg!(not(unix)) => Err("this system has no Unix sockets".to_string()),
        Some(path) => Ok(Place::Unix(PathBuf::from(path))),
        None => match text.parse() {
            Ok(address) => Ok(Place::Ip(address)),
            Err(_) => {
                Err("an address is IP:PORT, such as 127.0.0.1:2000 or [::1]:2000, or unix:PATH"
                    .to_string())
            }
        },
    }
}

fn destination(text: &str) -> Result<Destination, String> {
    let names_a_port = |host: &str| {
        // A number that Rust reads may have a sign.
        let is_port = |text: &str| text.parse::<u16>().is_ok() && !text.starts_with('+');
        host.rsplit_once(':')
            .is_some_and(|(name, port)| !name.is_empty() && !name.contains('/') && is_port(port))
    };
    let host_of = |scheme| text.strip_prefix(scheme).map(without_slash);
    match (host_of("tcp://"), host_of("udp://"), text.strip_prefix("unix:")) {
        (Some(host), _, _) if names_a_port(host) => Ok(Destination::Tcp(host.to_string())),
        (_, Some(host), _) if names_a_port(host) => Ok(Destination::Udp(host.to_string())),
        (_, _, Some(path)) if !path.is_empty() => Ok(Destination::Unix(PathBuf::from(path))),
        _ => Err("a server is tcp://HOST:PORT, udp://HOST:PORT or unix:PATH".to_string()),
    }
}

/// A URL may end with a slash, where there is no path.
fn without_slash(text: &str) -> &str {
    text.strip_suffix('/').unwrap_or(text)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address is IP:PORT, such as 127.0.0.1:2000 or [::1]:2000".to_string())
}

fn target(text: &str) -> Result<Target, String> {
    let (transport, rest) = [Transport::Udp, Transport::Tcp]
        .iter()
        .find_map(|transport| {
            Some((*transport, text.strip_prefix(transport.name())?.strip_prefix("://")?))
        })
        .ok_or("a server is udp://IP:PORT or tcp://IP:PORT")?;
    let address = address(without_slash(rest))?;
    if address.port() == 0 {
        Err("nobody is at port 0".to_string())
    } else {
        Ok(Target { transport, address })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|seconds| {
            (Duration::from_millis(1)..=Duration::from_millis(MS_MAX)).contains(seconds)
        })
        .ok_or_else(|| {
            "a duration is a number of seconds from 0.001 to a year's, such as 10 or 0.5"
                .to_string()
        })
}
