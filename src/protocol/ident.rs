//! Connection ids, peers and close reasons.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::limits::GENERATIONS_PER_BLOCK;
use crate::loop_limits::ListenerLimits;
use crate::sys::errno::{self, StreamError};

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// All output was sent, and the connection closed gracefully.
    Finished,
    /// The connect failed (see [`Context::connect`](crate::Context::connect)).
    ConnectFailed(io::ErrorKind),
    /// A protocol aborted it, with [`Next::Abort`](crate::Next::Abort) or
    /// [`Connections::abort`](crate::Connections::abort).
    Aborted,
    /// The peer reset the connection, or had closed it when we sent.
    PeerReset,
    /// The peer has never sent a byte on the accepted connection, and no byte moved for
    /// [`first_byte_timeout`](crate::Limits::first_byte_timeout).
    FirstByteTimeout,
    /// No byte moved for [`idle_timeout`](crate::Limits::idle_timeout).
    IdleTimeout,
    /// The peer took none of its bytes for [`write_timeout`](crate::Limits::write_timeout).
    WriteTimeout,
    /// One message filled [`INPUT_BYTES_MAX`](crate::limits::INPUT_BYTES_MAX), and the protocol
    /// still needed more.
    InputTooLong,
    /// The protocol sent more at once than [`OUTPUT_BYTES_MAX`](crate::limits::OUTPUT_BYTES_MAX).
    OutputOverflow,
    /// All connections together held more than
    /// [`memory_bytes_max`](crate::Limits::memory_bytes_max), and this one held the most.
    MemoryOverflow,
    /// The protocol sent bytes after our FIN
    /// ([`Connections::shutdown_write`](crate::Connections::shutdown_write)).
    WriteAfterShutdown,
    /// The protocol panicked.
    ProtocolPanicked,
    /// The reactor stopped: the drain timeout was over before the connection had finished, or its
    /// connect was still in progress.
    Stopped,
    /// The kernel reported another error.
    Io(io::ErrorKind),
}

impl CloseReason {
    /// Returns whether a connection that ends for this reason is reset (RST). After a FIN, the peer
    /// would take the part that it has received for the whole.
    pub(crate) fn resets(self) -> bool {
        matches!(
            self,
            CloseReason::Aborted
                | CloseReason::WriteTimeout
                | CloseReason::OutputOverflow
                | CloseReason::MemoryOverflow
                | CloseReason::ProtocolPanicked
        )
    }
}

/// A close reason with the limit that was reached, for the log: `idle timeout after 60s`.
pub(crate) struct WithLimit<'l>(pub(crate) CloseReason, pub(crate) &'l ListenerLimits);

impl fmt::Display for WithLimit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WithLimit(why, limits) = self;
        let ms = match why {
            CloseReason::FirstByteTimeout => limits.first_byte_ms,
            CloseReason::IdleTimeout => limits.idle_ms,
            CloseReason::WriteTimeout => limits.write_ms,
            CloseReason::Finished
            | CloseReason::ConnectFailed(_)
            | CloseReason::Aborted
            | CloseReason::PeerReset
            | CloseReason::InputTooLong
            | CloseReason::OutputOverflow
            | CloseReason::MemoryOverflow
            | CloseReason::WriteAfterShutdown
            | CloseReason::ProtocolPanicked
            | CloseReason::Stopped
            | CloseReason::Io(_) => return why.fmt(f),
        };
        write!(f, "{why} after {:?}", Duration::from_millis(ms))
    }
}

impl From<io::Error> for CloseReason {
    fn from(error: io::Error) -> CloseReason {
        match errno::classify_send(&error) {
            StreamError::Disconnected => CloseReason::PeerReset,
            StreamError::WouldBlock | StreamError::Interrupted | StreamError::Failed => {
                CloseReason::Io(error.kind())
            }
        }
    }
}

/// The words of the log, such as `idle timeout`.
impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Finished => f.write_str("finished"),
            CloseReason::ConnectFailed(kind) => write!(f, "connect failed: {kind}"),
            CloseReason::Aborted => f.write_str("aborted by the protocol"),
            CloseReason::PeerReset => f.write_str("reset by peer"),
            CloseReason::FirstByteTimeout => f.write_str("first byte timeout"),
            CloseReason::IdleTimeout => f.write_str("idle timeout"),
            CloseReason::WriteTimeout => f.write_str("write timeout"),
            CloseReason::InputTooLong => f.write_str("message too long"),
            CloseReason::OutputOverflow => f.write_str("output overflow"),
            CloseReason::MemoryOverflow => f.write_str("memory overflow"),
            CloseReason::WriteAfterShutdown => f.write_str("protocol wrote after shutdown"),
            CloseReason::ProtocolPanicked => f.write_str("protocol panicked"),
            CloseReason::Stopped => f.write_str("reactor stopped"),
            CloseReason::Io(kind) => write!(f, "{kind}"),
        }
    }
}

/// Identifies a connection of one reactor, also after it has ended. A datagram socket has one, too
/// ([`Replies::id`](crate::Replies::id)): messages can be sent to it, and it can be monitored.
///
/// An id is not used again in the process, unless some 2³² others have been issued since. Another
/// reactor treats it as that of a closed connection. It is a plain value: another
/// thread may keep it, and act on the connection in a task
/// ([`Handle::submit`](crate::Handle::submit)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    /// No connection: there are not that many.
    pub(crate) const NONE: ConnectionId = ConnectionId { slot: u32::MAX, generation: u32::MAX };
    /// Stands for the reactor itself, where a connection monitors its stop.
    pub(crate) const REACTOR: ConnectionId =
        ConnectionId { slot: u32::MAX, generation: u32::MAX - 1 };
    /// Set if `slot` is an index among the outbound connections, which need an id before they have
    /// a slot.
    const OUTBOUND: u32 = 1 << 31;

    pub(crate) fn outbound(index: usize, generation: u32) -> ConnectionId {
        let index = u32::try_from(index)
            .expect("fewer than EFFECTS_MAX connects are pending, and each other has a descriptor");
        assert!(index & ConnectionId::OUTBOUND == 0, "there are fewer than 2³¹ descriptors");
        ConnectionId { slot: index | ConnectionId::OUTBOUND, generation }
    }

    pub(crate) fn outbound_index(self) -> Option<usize> {
        (self.slot & ConnectionId::OUTBOUND != 0)
            .then_some((self.slot & !ConnectionId::OUTBOUND) as usize)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outbound_index() {
            Some(index) => write!(f, "#out{index}.{}", self.generation),
            None => write!(f, "#{}.{}", self.slot, self.generation),
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// A peer over IP, at this address.
    Ip(SocketAddr),
    /// A peer on this machine, over a Unix socket. Such peers have no address.
    Unix,
}

const _: () = assert!(
    size_of::<Peer>() == size_of::<SocketAddr>(),
    "a peer without an address costs no memory"
);

impl Peer {
    /// Returns the IP address and port; `None` for a Unix socket.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Peer::Ip(address) => Some(address),
            Peer::Unix => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer::Ip(address)
    }
}

/// The address, such as `127.0.0.1:2000`, or `unix`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) => address.fmt(f),
            Peer::Unix => f.pad("unix"),
        }
    }
}

/// The generations that no reactor of this process has drawn yet. All reactors draw from here, a
/// block at a time. So an id of one is never an id of another: it is that of a closed connection.
static NEXT_GENERATIONS: AtomicU32 = AtomicU32::new(0);

/// Issues the generations of the ids of one reactor.
#[derive(Default)]
pub(super) struct Generations {
    /// The last one that was issued.
    last: u32,
}

impl Generations {
    pub(super) fn next(&mut self) -> u32 {
        if self.last.is_multiple_of(GENERATIONS_PER_BLOCK) {
            self.last = NEXT_GENERATIONS.fetch_add(GENERATIONS_PER_BLOCK, Ordering::Relaxed);
        }
        self.last = self.last.wrapping_add(1);
        self.last
    }
}
