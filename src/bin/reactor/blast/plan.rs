//! What load is offered to whom: the command line, made sense of.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use mio_reactor::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX_V6, HIGH_WATERMARK_BYTES};
use mio_reactor::{Batching, Limits};

use super::limits::{
    INTERVALS_MAX, MEMORY_MESSAGES_MAX, MEMORY_MESSAGES_MIN, MEMORY_SECONDS, MEMORY_WINDOWS,
    SILENCE_MS, TCP_CONNECTIONS, TCP_WINDOW, UDP_SOCKETS, UDP_WINDOW,
};
use super::payload::HEAD_BYTES;
use crate::cli::{Batch, Blast, Transport};

/// The load, and the server that it is offered to.
pub(crate) struct Plan {
    pub(super) transport: Transport,
    pub(super) address: SocketAddr,
    /// How many clients there are, each with a socket of its own.
    pub(super) clients: u32,
    /// What a message has, in bytes.
    pub(super) size: usize,
    pub(super) pace: Pace,
    pub(super) duration: Duration,
    /// What the server puts before each reply.
    pub(super) prefix: Vec<u8>,
    pub(super) batching: Batching,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// A closed loop: so many of each client are under way.
    Window(u64),
    /// An open loop: so many a second, of all clients together.
    Rate(u64),
}

impl Plan {
    /// # Errors
    ///
    /// A line that says which options do not go together.
    pub(crate) fn new(options: &Blast) -> Result<Plan, String> {
        let transport = options.target.transport;
        let of_udp = [
            (options.sockets.is_some(), "--sockets"),
            (!options.prefix.is_empty(), "--prefix"),
            (options.batch.is_some(), "--batch"),
        ];
        let (clients, size_max, window) = match transport {
            Transport::Udp => {
                if options.connections.is_some() {
                    return Err("--connections is for tcp://; udp:// has --sockets".to_string());
                }
                let size_max = if options.target.address.is_ipv4() {
                    DATAGRAM_BYTES_MAX
                } else {
                    DATAGRAM_BYTES_MAX_V6
                };
                (options.sockets.unwrap_or(UDP_SOCKETS), size_max, UDP_WINDOW)
            }
            Transport::Tcp => {
                if let Some((_, name)) = of_udp.iter().find(|(is_given, _)| *is_given) {
                    return Err(format!("{name} is for udp://, where replies are datagrams"));
                }
                (options.connections.unwrap_or(TCP_CONNECTIONS), HIGH_WATERMARK_BYTES, TCP_WINDOW)
            }
        };
        if !(HEAD_BYTES..=size_max).contains(&options.size) {
            return Err(format!(
                "--size is {HEAD_BYTES} to {size_max} bytes for {}://",
                transport.name()
            ));
        }
        if options.prefix.len() > size_max - options.size {
            return Err(format!(
                "--prefix and --size are at most {size_max} bytes together, for both are in each reply"
            ));
        }
        let pace = match options.rate {
            Some(rate) => Pace::Rate(rate),
            None => Pace::Window(options.window.unwrap_or(window)),
        };
        if let (Transport::Tcp, Pace::Window(window)) = (transport, pace)
            && window.saturating_mul(options.size as u64) > HIGH_WATERMARK_BYTES as u64
        {
            return Err(format!(
                "--window times --size is at most {HIGH_WATERMARK_BYTES} bytes for tcp://"
            ));
        }
        Ok(Plan {
            transport,
            address: options.target.address,
            clients,
            size: options.size,
            pace,
            duration: options.duration,
            prefix: options.prefix.clone().into_bytes(),
            batching: match options.batch {
                Some(Batch::Plain) => Batching::Plain,
                Some(Batch::Mmsg) => Batching::Mmsg,
                Some(Batch::Gso) | None => Batching::Gso,
            },
        })
    }

    /// The most messages that are under way on one connection over TCP. Together they are no more than the mark above which its peer
    /// is not read.
    pub(super) fn under_way_max(&self) -> u64 {
        match self.pace {
            Pace::Window(window) => window,
            Pace::Rate(_) => (HIGH_WATERMARK_BYTES / self.size) as u64,
        }
    }

    /// How many of the last messages of one client are remembered.
    pub(super) fn memory(&self) -> usize {
        let messages = match (self.transport, self.pace) {
            // On a stream none overtakes another and none is given up, so more than are under way at one time need no memory. There
            // may be a hundred thousand of them.
            (Transport::Tcp, _) => self.under_way_max(),
            (Transport::Udp, Pace::Window(window)) => {
                window.saturating_mul(MEMORY_WINDOWS).max(MEMORY_MESSAGES_MIN)
            }
            (Transport::Udp, Pace::Rate(rate)) => (rate.saturating_mul(MEMORY_SECONDS)
                / u64::from(self.clients))
            .max(MEMORY_MESSAGES_MIN),
        };
        let bounded = messages.min(MEMORY_MESSAGES_MAX).next_power_of_two();
        usize::try_from(bounded).expect("it has just been bounded")
    }

    /// Those of the reactor: nobody is ended for being silent while the load lasts.
    pub(super) fn limits(&self) -> Limits {
        let ms =
            u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX).saturating_add(SILENCE_MS);
        Limits {
            connections_max: usize::try_from(self.clients).unwrap_or(usize::MAX),
            first_byte_timeout_ms: ms,
            idle_timeout_ms: ms,
            write_timeout_ms: ms,
            ..Limits::default()
        }
    }

    /// From one histogram in the log to the next.
    pub(super) fn interval(&self) -> Duration {
        (self.duration / INTERVALS_MAX).max(Duration::from_secs(1))
    }

    /// The place of message `number` of client `client` among those of all in an open loop: the clients take turns.
    pub(super) fn place(&self, client: u32, number: u64) -> u64 {
        number * u64::from(self.clients) + u64::from(client)
    }

    /// The moment at which the message at `place` is due in an open loop, in nanoseconds from the start.
    pub(super) fn due_ns(rate: u64, place: u64) -> u64 {
        u64::try_from(u128::from(place) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.transport.name(), self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(transport: Transport, clients: u32, size: usize, pace: Pace) -> usize {
        let address = SocketAddr::from(([127, 0, 0, 1], 2000));
        let duration = Duration::from_secs(1);
        Plan {
            transport,
            address,
            clients,
            size,
            pace,
            duration,
            prefix: Vec::new(),
            batching: Batching::Gso,
        }
        .memory()
    }

    #[test]
    fn what_is_remembered_is_never_less_than_what_is_under_way_nor_much_more_on_a_stream() {
        assert_eq!(memory(Transport::Tcp, 100_000, 64, Pace::Window(1)), 1);
        assert_eq!(memory(Transport::Tcp, 1, 16, Pace::Window(1000)), 1024);
        assert_eq!(memory(Transport::Tcp, 1, 1000, Pace::Rate(1_000_000)), 128, "65 under way");
        assert_eq!(memory(Transport::Udp, 1, 64, Pace::Window(1)), 4096);
        assert_eq!(memory(Transport::Udp, 1, 64, Pace::Window(65_536)), 1024 * 1024);
        assert_eq!(
            memory(Transport::Udp, 2, 64, Pace::Rate(20_000)),
            32_768,
            "two seconds of each"
        );
        assert_eq!(memory(Transport::Udp, 1, 64, Pace::Rate(u64::MAX)), 1024 * 1024);
    }
}
