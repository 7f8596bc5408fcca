//! The plan of a load: the arguments of `reactor blast`, checked together, with defaults.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use mio_reactor::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX_V6, HIGH_WATERMARK_BYTES};
use mio_reactor::{Batching, Limits};

use super::http::request::Request;
use super::limits::{
    EXTRA_IDLE_MS, HTTP_PIPELINE, INTERVALS_MAX, MEMORY_MESSAGES_MAX, MEMORY_MESSAGES_MIN,
    MEMORY_SECONDS, MEMORY_WINDOWS, MESSAGE_BYTES, TCP_CONNECTIONS, TCP_WINDOW, UDP_SOCKETS,
    UDP_WINDOW,
};
use super::payload::HEAD_BYTES;
use super::target::{Server, Target};
use crate::address::{Scheme, Url};
use crate::cli::{BatchMode, BlastArgs};
use crate::values::SizeArg;

/// What load is generated, and for which server.
pub(crate) struct Plan {
    pub(super) service: Service,
    /// How many clients there are, each with a socket of its own.
    pub(super) clients: u32,
    /// Size of a message or of a request, in bytes.
    pub(super) size: usize,
    pub(super) pace: Pace,
    pub(super) duration: Duration,
    /// The prefix that the server puts before each reply.
    pub(super) prefix: Vec<u8>,
    pub(super) batching: Batching,
    /// How long connecting may take.
    pub(super) connect_timeout: Duration,
}

/// What the server does, and its address.
pub(super) enum Service {
    /// Echo over UDP.
    Udp(SocketAddr),
    /// Echo over TCP.
    Tcp(SocketAddr),
    Http(Rc<HttpPlan>),
}

/// What HTTP adds to a plan.
pub(super) struct HttpPlan {
    pub(super) server: Server,
    pub(super) request: Request,
    /// Path and query, for the report.
    path: String,
    /// Most requests in flight on a connection.
    pipeline: u64,
    /// Most requests on a connection. `u64::MAX` if there is no bound.
    pub(super) requests_per_connection: u64,
    /// Bodies are not compared.
    pub(super) any_body: bool,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// A closed loop: each client keeps this many in flight.
    Window(u64),
    /// An open loop: this many a second, from all clients together.
    Rate(u64),
}

impl Plan {
    /// Checks which arguments go together, and fills in defaults. `server` is the address of the
    /// target, to which connecting may take `connect_timeout`.
    ///
    /// # Errors
    ///
    /// One line that names the arguments and the bound.
    pub(crate) fn new(
        arguments: &BlastArgs,
        server: Server,
        connect_timeout: Duration,
    ) -> Result<Plan, String> {
        let service = Service::new(arguments, server)?;
        let size = match &service {
            Service::Udp(_) | Service::Tcp(_) => arguments.size.map_or(MESSAGE_BYTES, SizeArg::get),
            Service::Http(http) => http.request.last.len(),
        };
        let (clients, size_max, window) = match &service {
            Service::Udp(address) => {
                let size_max =
                    if address.is_ipv4() { DATAGRAM_BYTES_MAX } else { DATAGRAM_BYTES_MAX_V6 };
                (arguments.sockets.unwrap_or(UDP_SOCKETS), size_max, UDP_WINDOW)
            }
            Service::Tcp(_) => {
                (arguments.connections.unwrap_or(TCP_CONNECTIONS), HIGH_WATERMARK_BYTES, TCP_WINDOW)
            }
            Service::Http(http) => (
                arguments.connections.unwrap_or(TCP_CONNECTIONS),
                HIGH_WATERMARK_BYTES,
                http.in_flight_max(),
            ),
        };
        if !(HEAD_BYTES..=size_max).contains(&size) {
            return Err(format!(
                "--size must be {HEAD_BYTES} to {size_max} bytes for {}",
                service.scheme()
            ));
        }
        if arguments.prefix.len() > size_max - size {
            return Err(format!(
                "--prefix and --size together must be at most {size_max} bytes, the size of a reply"
            ));
        }
        if arguments.histogram.as_deref() == Some(Path::new("-")) {
            return Err("--histogram needs a FILE: standard output gets the report (a file of \
                        that name is ./-)"
                .to_string());
        }
        let pace = match arguments.rate {
            Some(rate) => Pace::Rate(rate.get()),
            None => Pace::Window(arguments.window.map_or(window, u64::from)),
        };
        let plan = Plan {
            service,
            clients,
            size,
            pace,
            duration: arguments.duration.get(),
            prefix: arguments.prefix.clone().into_bytes(),
            batching: match arguments.batch {
                Some(BatchMode::Plain) => Batching::Plain,
                Some(BatchMode::Mmsg) => Batching::Mmsg,
                Some(BatchMode::Gso) | None => Batching::Gso,
            },
            connect_timeout,
        };
        let (names, is_stream) = match plan.service {
            Service::Udp(_) => ("", false),
            Service::Tcp(_) => ("--window times --size", true),
            Service::Http(_) => ("--pipeline times the size of a request", true),
        };
        let in_flight_bytes = plan.in_flight_max().saturating_mul(size as u64);
        if is_stream && in_flight_bytes > HIGH_WATERMARK_BYTES as u64 {
            return Err(format!(
                "{names} must be at most {HIGH_WATERMARK_BYTES} bytes for {}",
                plan.service.scheme()
            ));
        }
        Ok(plan)
    }

    /// Returns what the server should be, in words.
    pub(super) fn server_kind(&self) -> &'static str {
        match self.service {
            Service::Udp(_) | Service::Tcp(_) => "echo server",
            Service::Http(_) => "HTTP server",
        }
    }

    /// Returns the most messages in flight on one connection. Together they do not exceed the high
    /// watermark, at which the reactor stops reading from the peer.
    #[inline]
    pub(super) fn in_flight_max(&self) -> u64 {
        match (self.pace, &self.service) {
            (Pace::Window(window), _) => window,
            (Pace::Rate(_), Service::Http(http)) => http.in_flight_max(),
            (Pace::Rate(_), Service::Udp(_) | Service::Tcp(_)) => {
                (HIGH_WATERMARK_BYTES / self.size) as u64
            }
        }
    }

    /// Returns how many of the last messages of one client are remembered, a power of two.
    pub(super) fn memory(&self) -> usize {
        let messages = match (&self.service, self.pace) {
            // On a stream, no message overtakes another and all stay in flight until their reply.
            // So no more than those in flight need memory, which matters: there may be a hundred
            // thousand connections.
            (Service::Tcp(_) | Service::Http(_), _) => self.in_flight_max(),
            (Service::Udp(_), Pace::Window(window)) => {
                window.saturating_mul(MEMORY_WINDOWS).max(MEMORY_MESSAGES_MIN)
            }
            (Service::Udp(_), Pace::Rate(rate)) => (rate.saturating_mul(MEMORY_SECONDS)
                / u64::from(self.clients))
            .max(MEMORY_MESSAGES_MIN),
        };
        let bounded = messages.min(MEMORY_MESSAGES_MAX).next_power_of_two();
        usize::try_from(bounded).expect("it is bounded by MEMORY_MESSAGES_MAX")
    }

    /// Returns the limits of the reactor: no timeout closes a connection while the load lasts.
    pub(super) fn limits(&self) -> Limits {
        let timeout = self.duration.saturating_add(Duration::from_millis(EXTRA_IDLE_MS));
        Limits::default()
            .with_connections_max(usize::try_from(self.clients).unwrap_or(usize::MAX))
            .with_first_byte_timeout(timeout)
            .with_idle_timeout(timeout)
            .with_write_timeout(timeout)
            .with_connect_timeout(self.connect_timeout)
    }

    /// Returns the length of an interval in the log of latencies.
    pub(super) fn interval(&self) -> Duration {
        (self.duration / INTERVALS_MAX).max(Duration::from_secs(1))
    }

    /// Returns the sequence number of a client's message among those of all clients in an open
    /// loop, where the clients send in rotation.
    pub(super) fn sequence(&self, client: u32, number: u64) -> u64 {
        number * u64::from(self.clients) + u64::from(client)
    }

    /// Returns when the message `sequence` is due in an open loop, in nanoseconds from the start.
    pub(super) fn due_ns(rate: u64, sequence: u64) -> u64 {
        u64::try_from(u128::from(sequence) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Service::Udp(address) | Service::Tcp(address) => {
                write!(f, "{}{address}", self.service.scheme())
            }
            Service::Http(http) => match &http.server {
                Server::Net(address) => write!(f, "http://{address}{}", http.path),
                Server::Unix(path) => write!(f, "http://unix:{}:{}", path.display(), http.path),
            },
        }
    }
}

impl Service {
    fn new(arguments: &BlastArgs, server: Server) -> Result<Service, String> {
        let service = match (&arguments.target, server) {
            (Target::Echo(Url { scheme: Scheme::Udp, .. }), Server::Net(address)) => {
                Service::Udp(address)
            }
            (Target::Echo(Url { scheme: Scheme::Tcp, .. }), Server::Net(address)) => {
                Service::Tcp(address)
            }
            (Target::Http(url), server) => Service::Http(Rc::new(HttpPlan {
                server,
                request: Request::compose(url, &arguments.header)?,
                path: url.path.clone(),
                pipeline: arguments.pipeline.map_or(HTTP_PIPELINE, u64::from),
                requests_per_connection: arguments
                    .requests_per_connection
                    .map_or(u64::MAX, u64::from),
                any_body: arguments.any_body,
            })),
            (Target::Echo(_), Server::Unix(_)) => {
                unreachable!("only an HTTP server is looked for at a Unix socket")
            }
        };
        check_placement(arguments, service.scheme())?;
        Ok(service)
    }

    fn scheme(&self) -> &'static str {
        match self {
            Service::Udp(_) => "udp://",
            Service::Tcp(_) => "tcp://",
            Service::Http(_) => "http://",
        }
    }
}

impl HttpPlan {
    /// Returns the most requests in flight on a connection.
    pub(super) fn in_flight_max(&self) -> u64 {
        self.pipeline.min(self.requests_per_connection)
    }
}

/// Fails if an argument is given that is not for this scheme.
fn check_placement(arguments: &BlastArgs, scheme: &str) -> Result<(), String> {
    let placed = [
        (arguments.sockets.is_some(), "--sockets", "udp://"),
        (!arguments.prefix.is_empty(), "--prefix", "udp://"),
        (arguments.batch.is_some(), "--batch", "udp://"),
        (arguments.connections.is_some(), "--connections", "tcp:// and http://"),
        (arguments.window.is_some(), "--window", "udp:// and tcp://"),
        (arguments.size.is_some(), "--size", "udp:// and tcp://"),
        (arguments.pipeline.is_some(), "--pipeline", "http://"),
        (arguments.requests_per_connection.is_some(), "--requests-per-connection", "http://"),
        (!arguments.header.is_empty(), "--header", "http://"),
        (arguments.any_body, "--any-body", "http://"),
    ];
    let instead = match scheme {
        "udp://" => "--sockets and --window",
        "tcp://" => "--connections and --window",
        _ => "--connections and --pipeline",
    };
    match placed.into_iter().find(|(is_given, _, is_for)| *is_given && !is_for.contains(scheme)) {
        None => Ok(()),
        Some((_, name, is_for)) => {
            Err(format!("{name} is for {is_for} only; {scheme} has {instead}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2000);

    fn memory(service: Service, clients: u32, size: usize, pace: Pace) -> usize {
        let duration = Duration::from_secs(1);
        Plan {
            service,
            clients,
            size,
            pace,
            duration,
            prefix: Vec::new(),
            batching: Batching::Gso,
            connect_timeout: duration,
        }
        .memory()
    }

    #[test]
    fn memory_covers_the_messages_in_flight_and_little_more_over_tcp() {
        assert_eq!(memory(Service::Tcp(SERVER), 100_000, 64, Pace::Window(1)), 1);
        assert_eq!(memory(Service::Tcp(SERVER), 1, 16, Pace::Window(1000)), 1024);
        assert_eq!(
            memory(Service::Tcp(SERVER), 1, 1000, Pace::Rate(1_000_000)),
            128,
            "65 in flight"
        );
        assert_eq!(memory(Service::Udp(SERVER), 1, 64, Pace::Window(1)), 4096);
        assert_eq!(memory(Service::Udp(SERVER), 1, 64, Pace::Window(65_536)), 1024 * 1024);
        assert_eq!(
            memory(Service::Udp(SERVER), 2, 64, Pace::Rate(20_000)),
            32_768,
            "two seconds of each"
        );
        assert_eq!(memory(Service::Udp(SERVER), 1, 64, Pace::Rate(u64::MAX)), 1024 * 1024);
    }
}
