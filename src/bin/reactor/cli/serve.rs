//! The options of `reactor serve`, in the groups of its help.
//!
//! The doc comments of the fields are the text of the help: the first line is what `-h` shows, and
//! `--help` has all of it. Every option has an environment variable, `REACTOR_` and its name.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgAction, Args};
use mio_reactor::{ACCESS_LOG, Limits};

use crate::address::{NetAddress, StreamAddress};
use crate::values::{
    DurationArg, PREFIX_BYTES_MAX, SizeArg, count_to, parse_memory, parse_prefix, parse_switch,
};

/// More connections than there can be descriptors.
const CONNECTIONS_MAX: u32 = u32::MAX;

const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What the help says below its options.
const AFTER_HELP: &str = "\
Addresses:
  127.0.0.1:8080, [::1]:8080   an IP address and a port; port 0 picks a free one
  [fe80::1%eth0]:8080          a link-local address and its interface
  localhost:8080               every address that the name has at the start
  *:8080                       every address of this machine: 0.0.0.0 and [::]
  8080, :8080                  a port alone: 127.0.0.1
  unix:PATH                    a Unix socket, for --tcp and --http; its file is created at PATH and
                               removed at the end
  unix:@NAME                   the same without a file, on Linux: a name in the abstract namespace

  All addresses of a name, or of *, get one port. Those that this machine lacks, for example without
  IPv6, are skipped with a warning; if none is left, the program ends. Commas separate several
  addresses.

Environment:
  Each option can be set by the variable that is named beside it. The command line replaces the
  variable of the same option. An empty variable counts as not set.

Units:
  A DURATION is a number with ms, s, m or h: 500ms, 60s, 1h30m. The least is 1ms, the most 8760h.
  A SIZE is a number of bytes, or of KiB, MiB or GiB with K, M or G: 65536, 64K, 4M.";

#[derive(Args, Clone)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    #[command(flatten)]
    pub(crate) echo: EchoArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Listening")]
pub(crate) struct ListenArgs {
    /// Serve TCP echo at this address.
    ///
    /// May be repeated. If any address is named, by whichever option, only the named ones are
    /// served.
    #[arg(long, env = "REACTOR_TCP", value_name = "ADDR", value_delimiter = ',')]
    pub(crate) tcp: Vec<StreamAddress>,
    /// Serve UDP echo at this address.
    ///
    /// May be repeated.
    #[arg(long, env = "REACTOR_UDP", value_name = "ADDR", value_delimiter = ',')]
    pub(crate) udp: Vec<NetAddress>,
    /// Serve HTTP/1.0 at this address.
    ///
    /// There is a page at /, 13 bytes at /plaintext, and the body of a POST at /echo. May be
    /// repeated.
    #[arg(long, env = "REACTOR_HTTP", value_name = "ADDR", value_delimiter = ',')]
    pub(crate) http: Vec<StreamAddress>,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Echo")]
pub(crate) struct EchoArgs {
    /// Put TEXT before each reply.
    #[arg(
        long,
        long_help = prefix_help(),
        env = "REACTOR_PREFIX",
        value_name = "TEXT",
        value_parser = parse_prefix,
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) prefix: String,
    /// Answer UDP from every port but 0.
    ///
    /// Without it, datagrams from the ports of small services that answer everything (7, 11, 13,
    /// 17, 19 and 37) get no reply, nor those from the port numbers of this server's own UDP
    /// sockets: one forged datagram would make two such services answer each other without end.
    #[arg(long, env = "REACTOR_ANSWER_ALL_PORTS", value_name = "BOOL", action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, value_parser = parse_switch,
        default_value = "false", default_missing_value = "true")]
    pub(crate) answer_all_ports: bool,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "HTTP")]
pub(crate) struct HttpArgs {
    /// Serve the files below this directory.
    ///
    /// For a directory, its index.html is served. Names that begin with a dot are not served, nor
    /// links that lead outside. The built-in pages (/, /plaintext and /echo) are off.
    #[arg(long, env = "REACTOR_ROOT", value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Serve the built-in pages beside --root.
    ///
    /// A file comes first. Without --root, the pages are always served.
    #[arg(long, env = "REACTOR_BUILTIN_PAGES", value_name = "BOOL", action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, value_parser = parse_switch,
        default_value = "false", default_missing_value = "true")]
    pub(crate) builtin_pages: bool,
    /// Accept a connection only with its first byte.
    ///
    /// The kernel keeps it until then, or for a second (TCP_DEFER_ACCEPT). So a request needs fewer
    /// system calls. On Linux, and over TCP. With false, a connection is accepted at once.
    #[arg(long, env = "REACTOR_DEFERRED_ACCEPT", value_name = "BOOL", action = ArgAction::Set,
        num_args = 0..=1, require_equals = true, value_parser = parse_switch,
        default_value = "true", default_missing_value = "true")]
    pub(crate) deferred_accept: bool,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Logging")]
pub(crate) struct LogArgs {
    /// Log from this level on: off, error, warn, info, debug or trace.
    ///
    /// The log goes to standard error. info has start, stop and overload, debug one line for each
    /// connection, trace also the system calls on sockets. RUST_LOG overrides it, for all or for
    /// the modules that it names.
    #[arg(long = "log", env = "REACTOR_LOG", value_name = "LEVEL", default_value = "info",
        value_parser = PossibleValuesParser::new(LOG_LEVELS), hide_possible_values = true)]
    pub(crate) level: String,
    /// Log one line for each HTTP response.
    #[arg(long, long_help = access_log_help(), env = "REACTOR_ACCESS_LOG", value_name = "BOOL",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        value_parser = parse_switch, default_value = "false", default_missing_value = "true")]
    pub(crate) access_log: bool,
}

/// The fields of [`Limits`] that an operator may set. The defaults are those of
/// [`Limits::default`].
#[derive(Args, Clone)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Most connections at one time.
    ///
    /// Idle HTTP connections are closed to make room. If none is idle for long, one is closed each
    /// second, between two requests. Further connections wait in the kernel's backlog. A quarter is
    /// split among the listening addresses, each of which can always have its part. The rest is
    /// shared.
    #[arg(long, env = "REACTOR_MAX_CONNECTIONS", value_name = "COUNT",
        default_value_t = default_connections(),
        value_parser = count_to(CONNECTIONS_MAX))]
    max_connections: u32,
    /// Most memory for all connections together.
    ///
    /// It is for what waits in them: uploads, input, output, and the queues of the loop. Near it, a
    /// request body is answered with 503, and new connections wait in the backlog. Above it, the
    /// connection that holds the most is reset. The kernel's buffers do not count. The least is 1M.
    #[arg(long, env = "REACTOR_MAX_MEMORY", value_name = "SIZE", value_parser = parse_memory,
        default_value_t = SizeArg::new(Limits::default().memory_bytes_max))]
    max_memory: SizeArg,
    /// Longest wait for a peer's first byte.
    ///
    /// It is counted from the accept. When it is over, the connection is closed.
    #[arg(long, env = "REACTOR_FIRST_BYTE_TIMEOUT", value_name = "DURATION",
        default_value_t = DurationArg::new(Limits::default().first_byte_timeout))]
    first_byte_timeout: DurationArg,
    /// Longest time without a byte in either direction.
    ///
    /// When it is over, the connection is closed.
    #[arg(long, env = "REACTOR_IDLE_TIMEOUT", value_name = "DURATION",
        default_value_t = DurationArg::new(Limits::default().idle_timeout))]
    idle_timeout: DurationArg,
    /// Longest time in which a peer takes no output.
    ///
    /// It counts while bytes wait for the peer. When it is over, the connection is closed.
    #[arg(long, env = "REACTOR_WRITE_TIMEOUT", value_name = "DURATION",
        default_value_t = DurationArg::new(Limits::default().write_timeout))]
    write_timeout: DurationArg,
    /// Longest time for the head of an HTTP request.
    ///
    /// When it is over, the request is answered with 408.
    #[arg(long, env = "REACTOR_HEAD_TIMEOUT", value_name = "DURATION",
        default_value_t = DurationArg::new(Limits::default().head_timeout))]
    head_timeout: DurationArg,
    /// Longest time for the body of an HTTP request.
    ///
    /// When it is over, the request is answered with 408.
    #[arg(long, env = "REACTOR_BODY_TIMEOUT", value_name = "DURATION",
        default_value_t = DurationArg::new(Limits::default().body_timeout))]
    body_timeout: DurationArg,
    /// Longest wait for the peer's FIN after ours.
    ///
    /// Meanwhile its input is read and discarded. When it is over, the connection is closed without
    /// the FIN.
    #[arg(long, env = "REACTOR_LINGER_TIMEOUT", value_name = "DURATION",
        default_value_t = DurationArg::new(Limits::default().linger_timeout))]
    linger_timeout: DurationArg,
    /// Longest wait of a graceful stop.
    ///
    /// Connections that have work in progress may finish within it. When it is over, they are
    /// closed by force.
    #[arg(long, env = "REACTOR_DRAIN_TIMEOUT", value_name = "DURATION",
        default_value_t = DurationArg::new(Limits::default().drain_timeout))]
    drain_timeout: DurationArg,
    /// Kernel buffer of each UDP socket, each way.
    ///
    /// The kernel grants at most net.core.rmem_max and net.core.wmem_max.
    #[arg(long, env = "REACTOR_UDP_BUFFER", value_name = "SIZE",
        default_value_t = SizeArg::new(Limits::default().udp_buffer_bytes))]
    udp_buffer: SizeArg,
}

/// Returns the long help of `--prefix`, with its bound.
fn prefix_help() -> String {
    format!(
        "Put TEXT before each reply.\n\n\
         It is put before each UDP reply, and before the bytes of each TCP read. A TCP stream has \
         no message boundaries: two sends may arrive in one read and one send in two, so only UDP \
         replies are exact. TEXT has at most {PREFIX_BYTES_MAX} bytes."
    )
}

/// Returns the long help of `--access-log`: the target is a constant of the library.
fn access_log_help() -> String {
    format!(
        "Log one line for each HTTP response.\n\n\
         It is in the Common Log Format, at level info under the target {ACCESS_LOG}."
    )
}

fn default_connections() -> u32 {
    u32::try_from(Limits::default().connections_max).unwrap_or(CONNECTIONS_MAX)
}

impl ServeArgs {
    pub(crate) fn limits(&self) -> Limits {
        let args = &self.limits;
        let mut limits = Limits::default(); // the server never connects: connect_timeout stays
        limits.connections_max = usize::try_from(args.max_connections).unwrap_or(usize::MAX);
        limits.memory_bytes_max = args.max_memory.get();
        limits.first_byte_timeout = args.first_byte_timeout.get();
        limits.idle_timeout = args.idle_timeout.get();
        limits.write_timeout = args.write_timeout.get();
        limits.head_timeout = args.head_timeout.get();
        limits.body_timeout = args.body_timeout.get();
        limits.linger_timeout = args.linger_timeout.get();
        limits.drain_timeout = args.drain_timeout.get();
        limits.udp_buffer_bytes = args.udp_buffer.get();
        if self.echo.answer_all_ports {
            limits.unanswered_ports.clear();
        }
        limits
    }

    /// Returns an error for an option that would have no effect, since none of the addresses is for
    /// the service that it is about. Without any address, all services are served.
    pub(crate) fn check_addresses(&self) -> Result<(), &'static str> {
        let ListenArgs { tcp, udp, http } = &self.listen;
        let has_echo = !(tcp.is_empty() && udp.is_empty());
        if !has_echo && http.is_empty() {
            return Ok(());
        }
        if self.http.root.is_some() && http.is_empty() {
            return Err("--root (REACTOR_ROOT) requires --http ADDR");
        }
        if self.http.builtin_pages && http.is_empty() {
            return Err("--builtin-pages (REACTOR_BUILTIN_PAGES) requires --http ADDR");
        }
        if !has_echo && !self.echo.prefix.is_empty() {
            return Err("--prefix (REACTOR_PREFIX) requires --tcp ADDR or --udp ADDR");
        }
        if self.echo.answer_all_ports && udp.is_empty() {
            return Err("--answer-all-ports (REACTOR_ANSWER_ALL_PORTS) requires --udp ADDR");
        }
        Ok(())
    }

    /// Fills in the lecture's addresses if none is named.
    pub(crate) fn with_defaults(mut self) -> ServeArgs {
        let ListenArgs { tcp, udp, http } = &mut self.listen;
        if tcp.is_empty() && udp.is_empty() && http.is_empty() {
            tcp.push(StreamAddress::Net(NetAddress::loopback(2000)));
            udp.push(NetAddress::loopback(2000));
            http.push(StreamAddress::Net(NetAddress::loopback(8080)));
        }
        self
    }
}
