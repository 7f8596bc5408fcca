//! What one listener does otherwise than its reactor: its backlog, its timeouts and its bound.
//!
//! These are the public types. The loop reads a converted copy (`src/loop_limits.rs`), and the
//! socket options are set by `src/sys/mio.rs`.

use std::time::Duration;

use crate::limits::BACKLOG;

/// The options of one listener, for [`Reactor::listen_with`](crate::Reactor::listen_with). What is
/// not set is as the reactor's [`Limits`](crate::Limits) say.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// use mio_reactor::{Echo, Limits, ListenOptions, Reactor, Timeout};
///
/// let mut reactor = Reactor::new(Limits::default())?;
/// // Few operators, who may think for as long as they like.
/// let options = ListenOptions::default()
///     .with_connections_max(8)
///     .with_first_byte_timeout(Duration::from_secs(5))
///     .with_idle_timeout(Timeout::Never);
/// reactor.listen_with("127.0.0.1:0", &options, |_peer| Echo::new())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Connections that may wait in the kernel's backlog (listen(2)). The kernel caps it at
    /// `net.core.somaxconn`, and raises 0 to its smallest backlog. Default: 4096.
    pub backlog: u32,
    /// The first byte timeout of its connections, instead of
    /// [`Limits::first_byte_timeout`](crate::Limits::first_byte_timeout).
    pub first_byte_timeout: Timeout,
    /// The idle timeout of its connections, instead of
    /// [`Limits::idle_timeout`](crate::Limits::idle_timeout).
    ///
    /// With [`Timeout::Never`], TCP keepalive is switched on to find the peers that have vanished.
    /// A peer's kernel is probed after 60 seconds of silence, and every 20 seconds from then on. If
    /// it leaves 3 probes unanswered, the connection ends. The first byte timeout still applies.
    pub idle_timeout: Timeout,
    /// The write timeout of its connections, instead of
    /// [`Limits::write_timeout`](crate::Limits::write_timeout). With [`Timeout::Never`], a peer
    /// that reads nothing keeps its connection, and up to
    /// [`OUTPUT_BYTES_MAX`](crate::limits::OUTPUT_BYTES_MAX) of output, until its kernel is gone.
    pub write_timeout: Timeout,
    /// Most connections of this listener at one time. On reaching it this listener pauses, as all
    /// do at [`Limits::connections_max`](crate::Limits::connections_max), which applies as well.
    /// `None`: no bound of its own. 0 counts as 1.
    pub connections_max: Option<usize>,
    /// Connections that this listener can always have, whatever others have: so many of
    /// [`Limits::connections_max`](crate::Limits::connections_max), and of the descriptors that the
    /// process may have (RLIMIT_NOFILE on Unix, read when a listener is opened), are reserved for
    /// it. The rest is shared. `None`: an equal share of a quarter of all connections. If all
    /// minimums together are more than `connections_max`, those of later listeners are less.
    pub connections_min: Option<usize>,
    /// Whether a socket on an IPv6 address accepts IPv6 only (IPV6_V6ONLY). Default: `true`, so
    /// that `0.0.0.0` and `[::]` can be bound side by side in either order. With `false`, `[::]`
    /// accepts IPv4, too, and such a peer has an IPv4-mapped address (`::ffff:192.0.2.7`). For an
    /// IPv4 address it has no effect.
    pub ipv6_only: bool,
    /// Whether a connection stays in the kernel until its first byte has arrived
    /// (TCP_DEFER_ACCEPT, tcp(7)). For protocols whose peers speak first, such as HTTP: the
    /// connection is accepted, read and answered in one turn. Default: `false`. A protocol that
    /// greets its peers must leave it so, or they wait a second for the greeting.
    ///
    /// A peer that stays silent is accepted after about a second, and from then on the first byte
    /// timeout counts. A peer that closes without a byte is accepted, too. While the kernel keeps
    /// [`backlog`](ListenOptions::backlog) connections of silent peers, further peers are accepted
    /// at once with `net.ipv4.tcp_syncookies` = 1, and have to wait with 0.
    ///
    /// A stop accepts for 100 ms more: a peer that has just connected may have its first bytes on
    /// the way. One that speaks later gets a reset.
    ///
    /// On Linux and for TCP only. Elsewhere it has no effect. On a socket that was handed in, it
    /// stays set for other processes that share the socket.
    pub deferred_accept: bool,
}

/// A timeout of a listener's connections.
///
/// Made from a [`Duration`] where only that is needed: `with_idle_timeout(Duration::from_secs(5))`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timeout {
    /// The timeout of the reactor's [`Limits`](crate::Limits).
    #[default]
    Inherit,
    /// This time, rounded up to whole milliseconds. 0 counts as 1 ms.
    After(Duration),
    /// No timeout.
    Never,
}

impl From<Duration> for Timeout {
    fn from(time: Duration) -> Timeout {
        Timeout::After(time)
    }
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions {
            backlog: BACKLOG,
            first_byte_timeout: Timeout::Inherit,
            idle_timeout: Timeout::Inherit,
            write_timeout: Timeout::Inherit,
            connections_max: None,
            connections_min: None,
            ipv6_only: true,
            deferred_accept: false,
        }
    }
}

impl ListenOptions {
    /// Sets [`backlog`](ListenOptions::backlog), in connections.
    #[must_use]
    pub fn with_backlog(self, value: u32) -> ListenOptions {
        ListenOptions { backlog: value, ..self }
    }

    /// Sets [`first_byte_timeout`](ListenOptions::first_byte_timeout).
    #[must_use]
    pub fn with_first_byte_timeout(self, value: impl Into<Timeout>) -> ListenOptions {
        ListenOptions { first_byte_timeout: value.into(), ..self }
    }

    /// Sets [`idle_timeout`](ListenOptions::idle_timeout).
    #[must_use]
    pub fn with_idle_timeout(self, value: impl Into<Timeout>) -> ListenOptions {
        ListenOptions { idle_timeout: value.into(), ..self }
    }

    /// Sets [`write_timeout`](ListenOptions::write_timeout).
    #[must_use]
    pub fn with_write_timeout(self, value: impl Into<Timeout>) -> ListenOptions {
        ListenOptions { write_timeout: value.into(), ..self }
    }

    /// Sets [`connections_max`](ListenOptions::connections_max).
    #[must_use]
    pub fn with_connections_max(self, value: usize) -> ListenOptions {
        ListenOptions { connections_max: Some(value), ..self }
    }

    /// Sets [`connections_min`](ListenOptions::connections_min). With 0, nothing is reserved.
    #[must_use]
    pub fn with_connections_min(self, value: usize) -> ListenOptions {
        ListenOptions { connections_min: Some(value), ..self }
    }

    /// Sets [`ipv6_only`](ListenOptions::ipv6_only).
    #[must_use]
    pub fn with_ipv6_only(self, value: bool) -> ListenOptions {
        ListenOptions { ipv6_only: value, ..self }
    }

    /// Sets [`deferred_accept`](ListenOptions::deferred_accept).
    #[must_use]
    pub fn with_deferred_accept(self, value: bool) -> ListenOptions {
        ListenOptions { deferred_accept: value, ..self }
    }

    /// Returns the backlog as listen(2) takes it.
    pub(crate) fn backlog_as_int(&self) -> i32 {
        i32::try_from(self.backlog).unwrap_or(i32::MAX)
    }

    /// Returns whether its sockets probe silent peers: nothing else would find those that have
    /// vanished.
    pub(crate) fn needs_keepalive(&self) -> bool {
        self.idle_timeout == Timeout::Never
    }
}
