//! The command line.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};

/// One thread, one poll loop: TCP echo, UDP echo and HTTP/1.0.
///
/// Without any address, serves TCP echo and UDP echo on 127.0.0.1:2000 and HTTP on 127.0.0.1:8080. When all sockets
/// listen, prints one line for each, with the address bound. SIGINT or SIGTERM finishes what is under way and ends with
/// status 0; a second one ends at once.
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
}

#[derive(Args, Clone)]
pub(crate) struct Serve {
    /// Serve TCP echo on this address, e.g. 127.0.0.1:2000 or [::1]:2000. Port 0 takes a free one. May be repeated;
    /// naming any address means that only those named are served.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) tcp: Vec<SocketAddr>,
    /// Serve UDP echo on this address. May be repeated.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) udp: Vec<SocketAddr>,
    /// Serve HTTP/1.0 on this address: a page at / and 13 bytes at /plaintext. May be repeated.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) http: Vec<SocketAddr>,
    /// Put TEXT before each UDP reply, and before what each TCP read brought. A TCP stream has no message boundaries: what
    /// was sent in two pieces may be read as one, and the other way round, so only UDP replies are exact.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// Log to standard error from this level on: error, warn, info (start and stop), debug (a line for each
    /// conversation), trace (a line for each system call). The variable RUST_LOG, if set, overrides it.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["off", "error", "warn", "info", "debug", "trace"], hide_possible_values = true)]
    pub(crate) log: String,
}

impl Cli {
    pub(crate) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

impl Serve {
    /// The addresses to serve: those named, or the lecture's if none is.
    pub(crate) fn with_defaults(mut self) -> Serve {
        if self.tcp.is_empty() && self.udp.is_empty() && self.http.is_empty() {
            self.tcp.push(SocketAddr::from(([127, 0, 0, 1], 2000)));
            self.udp.push(SocketAddr::from(([127, 0, 0, 1], 2000)));
            self.http.push(SocketAddr::from(([127, 0, 0, 1], 8080)));
        }
        self
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address is IP:PORT, such as 127.0.0.1:2000 or [::1]:2000".to_string())
}
