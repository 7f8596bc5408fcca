//! The plan of a load: the arguments of `reactor blast`, checked together, with defaults.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mio_reactor::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX_V6, HIGH_WATERMARK_BYTES};
use mio_reactor::{Batching, Limits};

use super::limits::{
    EXTRA_IDLE_MS, INTERVALS_MAX, MEMORY_MESSAGES_MAX, MEMORY_MESSAGES_MIN, MEMORY_SECONDS,
    MEMORY_WINDOWS, TCP_CONNECTIONS, TCP_WINDOW, UDP_SOCKETS, UDP_WINDOW,
};
use super::payload::HEAD_BYTES;
use crate::address::Scheme;
use crate::cli::{BatchMode, BlastArgs};

/// What load is generated, and for which server.
pub(crate) struct Plan {
    pub(super) scheme: Scheme,
    pub(super) address: SocketAddr,
    /// How many clients there are, each with a socket of its own.
    pub(super) clients: u32,
    /// Size of a message, in bytes.
    pub(super) size: usize,
    pub(super) pace: Pace,
    pub(super) duration: Duration,
    /// The prefix that the server puts before each reply.
    pub(super) prefix: Vec<u8>,
    pub(super) batching: Batching,
    /// How long connecting may take.
    pub(super) connect_timeout: Duration,
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
    /// Checks which arguments go together, and fills in defaults. `address` is the server's, to
    /// which connecting may take `connect_timeout`.
    ///
    /// # Errors
    ///
    /// One line that names the arguments and the bound.
    pub(crate) fn new(
        arguments: &BlastArgs,
        address: SocketAddr,
        connect_timeout: Duration,
    ) -> Result<Plan, String> {
        let scheme = arguments.target.scheme;
        let size = arguments.size.get();
        let udp_only = [
            (arguments.sockets.is_some(), "--sockets"),
            (!arguments.prefix.is_empty(), "--prefix"),
            (arguments.batch.is_some(), "--batch"),
        ];
        let (clients, size_max, window) = match scheme {
            Scheme::Udp => {
                if arguments.connections.is_some() {
                    return Err(
                        "--connections is for tcp:// only; use --sockets for udp://".to_string()
                    );
                }
                let size_max =
                    if address.is_ipv4() { DATAGRAM_BYTES_MAX } else { DATAGRAM_BYTES_MAX_V6 };
                (arguments.sockets.unwrap_or(UDP_SOCKETS), size_max, UDP_WINDOW)
            }
            Scheme::Tcp => {
                if let Some((_, name)) = udp_only.iter().find(|(is_given, _)| *is_given) {
                    return Err(format!("{name} is for udp:// only"));
                }
                (arguments.connections.unwrap_or(TCP_CONNECTIONS), HIGH_WATERMARK_BYTES, TCP_WINDOW)
            }
        };
        if !(HEAD_BYTES..=size_max).contains(&size) {
            return Err(format!(
                "--size must be {HEAD_BYTES} to {size_max} bytes for {}://",
                scheme.name()
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
        if let (Scheme::Tcp, Pace::Window(window)) = (scheme, pace)
            && window.saturating_mul(size as u64) > HIGH_WATERMARK_BYTES as u64
        {
            return Err(format!(
                "--window times --size must be at most {HIGH_WATERMARK_BYTES} bytes for tcp://"
            ));
        }
        Ok(Plan {
            scheme,
            address,
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
        })
    }

    /// Returns the most messages in flight on one connection over TCP. Together they do not exceed
    /// the high watermark, at which the reactor stops reading from the peer.
    pub(super) fn in_flight_max(&self) -> u64 {
        match self.pace {
            Pace::Window(window) => window,
            Pace::Rate(_) => (HIGH_WATERMARK_BYTES / self.size) as u64,
        }
    }

    /// Returns how many of the last messages of one client are remembered, a power of two.
    pub(super) fn memory(&self) -> usize {
        let messages = match (self.scheme, self.pace) {
            // On a stream, no message overtakes another and all stay in flight until their reply.
            // So no more than those in flight need memory, which matters: there may be a hundred
            // thousand connections.
            (Scheme::Tcp, _) => self.in_flight_max(),
            (Scheme::Udp, Pace::Window(window)) => {
                window.saturating_mul(MEMORY_WINDOWS).max(MEMORY_MESSAGES_MIN)
            }
            (Scheme::Udp, Pace::Rate(rate)) => (rate.saturating_mul(MEMORY_SECONDS)
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
        write!(f, "{}://{}", self.scheme.name(), self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(scheme: Scheme, clients: u32, size: usize, pace: Pace) -> usize {
        let address = SocketAddr::from(([127, 0, 0, 1], 2000));
        let duration = Duration::from_secs(1);
        Plan {
            scheme,
            address,
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
        assert_eq!(memory(Scheme::Tcp, 100_000, 64, Pace::Window(1)), 1);
        assert_eq!(memory(Scheme::Tcp, 1, 16, Pace::Window(1000)), 1024);
        assert_eq!(memory(Scheme::Tcp, 1, 1000, Pace::Rate(1_000_000)), 128, "65 in flight");
        assert_eq!(memory(Scheme::Udp, 1, 64, Pace::Window(1)), 4096);
        assert_eq!(memory(Scheme::Udp, 1, 64, Pace::Window(65_536)), 1024 * 1024);
        assert_eq!(memory(Scheme::Udp, 2, 64, Pace::Rate(20_000)), 32_768, "two seconds of each");
        assert_eq!(memory(Scheme::Udp, 1, 64, Pace::Rate(u64::MAX)), 1024 * 1024);
    }
}
