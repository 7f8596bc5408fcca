//! The command line: its commands and options, and what each argument may be.
//!
//! The doc comments of the arguments are the text of `--help`. The parsers here check one argument
//! at a time; which options of `reactor blast` go together is decided in `blast/plan.rs`.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use mio_reactor::Limits;

/// Event-loop server, one thread: TCP echo, UDP echo and HTTP/1.0.
///
/// Without any address, serves TCP echo and UDP echo on 127.0.0.1:2000 and HTTP on 127.0.0.1:8080.
/// When all sockets listen, prints one line for each, with the bound address.
///
/// SIGINT or SIGTERM stops the server gracefully: idle connections are closed, the others may
/// finish within the drain timeout. A second signal ends the process at once.
///
/// Exit status: 0 after a graceful stop, 1 if an address cannot be served, 2 for a usage error, 3
/// if the drain timeout was reached and connections were closed by force.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, max_term_width = 100)]
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
    /// Over TCP and Unix sockets: sends TEXT, shuts down the sending side (FIN) as the lecture's
    /// client does, and prints what arrives until the server has closed its side, too, and all of
    /// TEXT is sent. A server that has replied but neither sends nor closes is left after the
    /// timeout, with a line on standard error.
    ///
    /// Over UDP: sends one datagram and prints the one that comes back.
    ///
    /// The reply is printed byte for byte. Only on a terminal, a line end is added if the reply has
    /// none.
    ///
    /// Exit status: 0 if a reply was printed; 1 if there was no reply, the reply was cut off or the
    /// server did not accept all of TEXT (standard error says which); 2 for a usage error.
    Send(SendArgs),
    /// Offer load to an echo server, check every reply and report the latencies.
    ///
    /// Compares every byte of every reply with what was sent. Never sleeps, so give it a processor
    /// core of its own. SIGINT or SIGTERM ends the load early, and so does a server that closes all
    /// connections; the report covers the time until then. Datagrams that are lost, duplicated or
    /// reordered are reported, and are no failure.
    ///
    /// Exit status: 1 if this machine cannot open all sockets, if no reply arrives, if a reply is
    /// not what was sent or, over TCP, is out of order in the stream, or if the server is gone (all
    /// TCP connections ended, or the UDP port closed); 2 for a usage error; otherwise 0.
    Blast(BlastArgs),
}

#[derive(Args)]
pub(crate) struct SendArgs {
    /// tcp://HOST:PORT, udp://HOST:PORT or unix:PATH. The addresses of a host are tried one after
    /// the other.
    #[arg(value_name = "SERVER", value_parser = parse_send_target)]
    pub(crate) to: SendTarget,
    /// What to send. Without it, standard input is sent: all of it over a stream, as one datagram
    /// over UDP. Put -- before a text that begins with a dash.
    pub(crate) text: Option<OsString>,
    /// How long connecting may take, and then how long the server may send nothing once all is
    /// sent, or accept none of what is being sent.
    #[arg(long, value_name = "MS", default_value_t = TIMEOUT_MS,
        value_parser = value_parser!(u64).range(1..=MS_MAX))]
    pub(crate) timeout: u64,
}

/// The server of `reactor send`. A host is `HOST:PORT`, not resolved yet.
#[derive(Clone)]
pub(crate) enum SendTarget {
    Tcp(String),
    Udp(String),
    Unix(PathBuf),
}

#[derive(Args, Clone)]
pub(crate) struct ServeArgs {
    /// Serve TCP echo on this address, e.g. 127.0.0.1:2000 or [::1]:2000. Port 0 picks a free port.
    /// unix:PATH serves it on a Unix socket instead, whose file is created at PATH and removed at
    /// the end. May be repeated. If any address is named, only the named ones are served.
    #[arg(long, value_name = "ADDR", value_parser = parse_listen_address)]
    pub(crate) tcp: Vec<ListenAddress>,
    /// Serve UDP echo on this address. May be repeated.
    #[arg(long, value_name = "ADDR", value_parser = parse_ip_address)]
    pub(crate) udp: Vec<SocketAddr>,
    /// Serve HTTP/1.0 on this address: a page at /, 13 bytes at /plaintext, and the body of a POST
    /// at /echo. unix:PATH is possible as well. May be repeated.
    #[arg(long, value_name = "ADDR", value_parser = parse_listen_address)]
    pub(crate) http: Vec<ListenAddress>,
    /// Serve the files below this directory over HTTP, and index.html for a directory. The built-in
    /// pages remain where there is no such file. Names that begin with a dot are not served, nor
    /// links that lead outside.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Put TEXT before each UDP reply, and before the bytes of each TCP read. A TCP stream has no
    /// message boundaries: two sends may arrive in one read and one send in two, so only UDP
    /// replies are exact.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// Answer UDP from every port but 0. Without this flag, datagrams from the ports of small
    /// services that answer everything (7, 13, 17, 19 and 37) get no reply: one forged datagram
    /// would make two such services answer each other without end.
    #[arg(long)]
    pub(crate) answer_all_ports: bool,
    /// Log to standard error from this level on: off, error, warn, info (start, stop and overload),
    /// debug (one line for each connection), trace (one line for each system call). RUST_LOG, if
    /// set, overrides it.
    #[arg(long, value_name = "LEVEL", default_value = "info",
        value_parser = ["off", "error", "warn", "info", "debug", "trace"],
        hide_possible_values = true)]
    pub(crate) log: String,
    /// Log one line for each HTTP response, in the Common Log Format, at level info under the
    /// target mio_reactor::access.
    #[arg(long)]
    pub(crate) access_log: bool,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Args, Clone)]
pub(crate) struct BlastArgs {
    /// The server: udp://IP:PORT or tcp://IP:PORT.
    #[arg(value_name = "URL", value_parser = parse_blast_target)]
    pub(crate) target: BlastTarget,
    /// Closed loop: keep COUNT messages in flight on each socket, and send another for each reply.
    /// [default: 64 for UDP, 1 for TCP]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u64).range(1..=WINDOW_MAX),
        conflicts_with = "rate")]
    pub(crate) window: Option<u64>,
    /// Open loop: send PER_SECOND messages a second on all sockets together, whatever comes back. A
    /// latency counts from the time at which its message was due, so a server that stalls cannot
    /// hide it. Messages unanswered at the end are recorded with the time waited so far; sent
    /// datagrams count as lost instead.
    #[arg(long, value_name = "PER_SECOND", value_parser = value_parser!(u64).range(1..=RATE_MAX))]
    pub(crate) rate: Option<u64>,
    /// Size of each message, at least 16.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub(crate) size: usize,
    /// Number of sockets that send, over UDP. [default: 1]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..=SOCKETS_MAX))]
    pub(crate) sockets: Option<u32>,
    /// Number of connections that send, over TCP. [default: 64]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub(crate) connections: Option<u32>,
    /// How long to send.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    pub(crate) duration: Duration,
    /// The prefix that the server puts before each reply, over UDP.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// How datagrams are sent and received: one per call, many per call, or many per call with GSO
    /// and GRO. [default: gso]
    #[arg(long, value_name = "HOW", value_enum)]
    pub(crate) batch: Option<BatchMode>,
    /// Print one line of JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write all latencies to FILE, as an HdrHistogram log with one interval per second.
    #[arg(long, value_name = "FILE")]
    pub(crate) histogram: Option<PathBuf>,
}

/// The server of `reactor blast`.
#[derive(Clone, Copy)]
pub(crate) struct BlastTarget {
    pub(crate) scheme: Scheme,
    pub(crate) address: SocketAddr,
}

/// The scheme of a URL, which names the transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Udp,
    Tcp,
}

impl Scheme {
    /// Returns the scheme as a URL has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scheme::Udp => "udp",
            Scheme::Tcp => "tcp",
        }
    }
}

/// How datagrams cross to the kernel and back, by the names of the system calls.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BatchMode {
    /// recv and send
    Plain,
    /// recvmmsg and sendmmsg
    Mmsg,
    /// recvmmsg and sendmmsg with UDP_GRO and UDP_SEGMENT
    Gso,
}

/// Where streams are accepted.
#[derive(Clone)]
pub(crate) enum ListenAddress {
    Ip(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Ip(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The fields of [`Limits`] that an operator may set. The defaults are those of
/// [`Limits::default`].
#[derive(Args, Clone)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Most connections at one time. Further connections wait in the kernel's backlog.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections_max as u64,
        value_parser = value_parser!(u64).range(1..=COUNT_MAX))]
    max_connections: u64,
    /// First byte timeout: how long a peer may send nothing after it has connected.
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().first_byte_timeout),
        value_parser = value_parser!(u64).range(1..=MS_MAX))]
    silent_ms: u64,
    /// Idle timeout: how long a connection may move no byte.
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().idle_timeout),
        value_parser = value_parser!(u64).range(1..=MS_MAX))]
    idle_ms: u64,
    /// Write timeout: how long a peer may accept none of the bytes that wait for it.
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().write_timeout),
        value_parser = value_parser!(u64).range(1..=MS_MAX))]
    stall_ms: u64,
    /// Head timeout: how long the head of an HTTP request may take to arrive.
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().head_timeout),
        value_parser = value_parser!(u64).range(1..=MS_MAX))]
    head_ms: u64,
    /// Body timeout: how long the body of an HTTP request may take to arrive.
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().body_timeout),
        value_parser = value_parser!(u64).range(1..=MS_MAX))]
    body_ms: u64,
    /// Linger timeout: how long input is read and discarded after our FIN, until the peer's.
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().linger_timeout),
        value_parser = value_parser!(u64).range(1..=MS_MAX))]
    linger_ms: u64,
    /// Drain timeout: how long a stop waits for connections to finish before it closes them by
    /// force.
    #[arg(long, value_name = "MS", default_value_t = ms(Limits::default().drain_timeout),
        value_parser = value_parser!(u64).range(1..=MS_MAX))]
    drain_ms: u64,
    /// Kernel buffer requested for each UDP socket, in each direction. The kernel grants at most
    /// net.core.rmem_max and net.core.wmem_max.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().udp_buffer_bytes as u64,
        value_parser = value_parser!(u64).range(1..=BUFFER_BYTES_MAX))]
    udp_buffer: u64,
}

/// As many slots as a `ConnectionId` can number.
const COUNT_MAX: u64 = u32::MAX as u64;
/// The default timeout of `reactor send`, in milliseconds: that of the lecture's clients. On
/// reaching it the command ends, with status 1 if there was no reply.
const TIMEOUT_MS: u64 = 5000;
/// More messages in flight on one socket than any kernel's buffers hold.
const WINDOW_MAX: u64 = 65_536;
/// More sockets than keep a core busy. Each has memory of its own for what it has sent.
const SOCKETS_MAX: i64 = 1024;
/// As many connections as our server accepts by default.
const CONNECTIONS_MAX: i64 = 100_000;
/// More messages a second than one core can send.
const RATE_MAX: u64 = 1_000_000_000;
/// One year, in milliseconds: in practice no timeout at all.
const MS_MAX: u64 = 365 * 24 * 60 * 60 * 1000;
/// The largest value of the kernel's own type for it (socket(7)).
const BUFFER_BYTES_MAX: u64 = i32::MAX as u64;

/// Returns a default timeout in the unit of its option.
fn ms(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).expect("a default is short")
}

/// The error for `unix:PATH` on a system without Unix sockets.
pub(crate) const NO_UNIX_SOCKETS: &str = "this system has no Unix sockets";

impl Cli {
    pub(crate) fn into_command(self) -> CliCommand {
        self.command.unwrap_or(CliCommand::Serve(self.serve))
    }
}

impl ServeArgs {
    pub(crate) fn limits(&self) -> Limits {
        let args = &self.limits;
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let mut limits = Limits::default(); // the server never connects: connect_timeout stays
        limits.connections_max = count(args.max_connections);
        limits.first_byte_timeout = Duration::from_millis(args.silent_ms);
        limits.idle_timeout = Duration::from_millis(args.idle_ms);
        limits.write_timeout = Duration::from_millis(args.stall_ms);
        limits.head_timeout = Duration::from_millis(args.head_ms);
        limits.body_timeout = Duration::from_millis(args.body_ms);
        limits.linger_timeout = Duration::from_millis(args.linger_ms);
        limits.drain_timeout = Duration::from_millis(args.drain_ms);
        limits.udp_buffer_bytes = count(args.udp_buffer);
        if self.answer_all_ports {
            limits.unanswered_ports.clear();
        }
        limits
    }

    /// Returns whether `--root` is given, but no address at which its files would be served.
    pub(crate) fn has_root_without_http(&self) -> bool {
        self.root.is_some() && self.http.is_empty() && !(self.tcp.is_empty() && self.udp.is_empty())
    }

    /// Fills in the lecture's addresses if none is named.
    pub(crate) fn with_defaults(mut self) -> ServeArgs {
        if self.tcp.is_empty() && self.udp.is_empty() && self.http.is_empty() {
            self.tcp.push(ListenAddress::Ip(SocketAddr::from(([127, 0, 0, 1], 2000))));
            self.udp.push(SocketAddr::from(([127, 0, 0, 1], 2000)));
            self.http.push(ListenAddress::Ip(SocketAddr::from(([127, 0, 0, 1], 8080))));
        }
        self
    }
}

fn parse_listen_address(text: &str) -> Result<ListenAddress, String> {
    match text.strip_prefix("unix:") {
        Some("") => Err("unix: requires the path of a file, such as unix:/tmp/echo".to_string()),
        Some(_) if cfg!(not(unix)) => Err(NO_UNIX_SOCKETS.to_string()),
        Some(path) => Ok(ListenAddress::Unix(PathBuf::from(path))),
        None => match text.parse() {
            Ok(address) => Ok(ListenAddress::Ip(address)),
            Err(_) => {
                Err("an address is IP:PORT, such as 127.0.0.1:2000 or [::1]:2000, or unix:PATH"
                    .to_string())
            }
        },
    }
}

fn parse_send_target(text: &str) -> Result<SendTarget, String> {
    let has_port = |host: &str| {
        // `u16::from_str` accepts a sign.
        let is_port = |text: &str| text.parse::<u16>().is_ok() && !text.starts_with('+');
        host.rsplit_once(':')
            .is_some_and(|(name, port)| !name.is_empty() && !name.contains('/') && is_port(port))
    };
    let host_of = |scheme| text.strip_prefix(scheme).map(without_slash);
    match (host_of("tcp://"), host_of("udp://"), text.strip_prefix("unix:")) {
        (Some(host), _, _) if has_port(host) => Ok(SendTarget::Tcp(host.to_string())),
        (_, Some(host), _) if has_port(host) => Ok(SendTarget::Udp(host.to_string())),
        (_, _, Some(path)) if !path.is_empty() => Ok(SendTarget::Unix(PathBuf::from(path))),
        _ => Err("a server is tcp://HOST:PORT, udp://HOST:PORT or unix:PATH".to_string()),
    }
}

/// Removes the slash with which a URL without a path may end.
fn without_slash(text: &str) -> &str {
    text.strip_suffix('/').unwrap_or(text)
}

fn parse_ip_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address is IP:PORT, such as 127.0.0.1:2000 or [::1]:2000".to_string())
}

fn parse_blast_target(text: &str) -> Result<BlastTarget, String> {
    let (scheme, rest) = [Scheme::Udp, Scheme::Tcp]
        .iter()
        .find_map(|scheme| Some((*scheme, text.strip_prefix(scheme.name())?.strip_prefix("://")?)))
        .ok_or("a server is udp://IP:PORT or tcp://IP:PORT")?;
    let address = parse_ip_address(without_slash(rest))?;
    if address.port() == 0 {
        Err("port 0 cannot be a server's".to_string())
    } else {
        Ok(BlastTarget { scheme, address })
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|seconds| {
            (Duration::from_millis(1)..=Duration::from_millis(MS_MAX)).contains(seconds)
        })
        .ok_or_else(|| {
            "a duration is a number of seconds, such as 10 or 0.5: at least 0.001, at most one year"
                .to_string()
        })
}
