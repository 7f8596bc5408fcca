//! Names and reasons: what identifies a connection, its peer, and why it has ended.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::limits::Limits;
use crate::sys::errno::{self, StreamError};

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// All that we had to say was sent, and the connection closed in order.
    Finished,
    /// The peer of a connection that we began was not reached (see [`Context::connect`](crate::Context::connect)).
    ConnectFailed(io::ErrorKind),
    /// The protocol gave it up with [`Next::Abort`](crate::Next::Abort).
    Aborted,
    /// The peer reset the connection, or was gone when we wrote.
    PeerReset,
    /// The peer has never said anything, and no byte moved for [`first_byte_timeout_ms`](crate::Limits::first_byte_timeout_ms).
    FirstByteTimeout,
    /// No byte moved for [`idle_timeout_ms`](crate::Limits::idle_timeout_ms).
    IdleTimeout,
    /// The peer took none of its bytes for [`write_timeout_ms`](crate::Limits::write_timeout_ms).
    WriteTimeout,
    /// One message filled [`INPUT_BYTES_MAX`](crate::limits::INPUT_BYTES_MAX), and the protocol still wanted more.
    InputTooLong,
    /// The protocol sent more at once than [`OUTPUT_BYTES_MAX`](crate::limits::OUTPUT_BYTES_MAX).
    OutputOverflow,
    /// The protocol sent something when our FIN was out ([`Context::shutdown_write`](crate::Context::shutdown_write)), and so to nobody.
    WriteAfterShutdown,
    /// A call of its protocol panicked.
    ProtocolPanicked,
    /// Cut off: the reactor was asked to stop, and the time to finish was over.
    Stopped,
    /// The kernel reported another error.
    Io(io::ErrorKind),
}

impl CloseReason {
    /// Returns whether a connection that ends so is reset: its peer must not take what it got for the whole.
    pub(crate) fn resets(self) -> bool {
        matches!(
            self,
            CloseReason::Aborted
                | CloseReason::WriteTimeout
                | CloseReason::OutputOverflow
                | CloseReason::ProtocolPanicked
        )
    }
}

/// A close reason with the limit that was reached: `idle timeout after 60 s`.
pub(crate) struct WithLimit<'l>(pub(crate) CloseReason, pub(crate) &'l Limits);

impl fmt::Display for WithLimit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WithLimit(why, limits) = self;
        let ms = match why {
            CloseReason::FirstByteTimeout => limits.first_byte_timeout_ms,
            CloseReason::IdleTimeout => limits.idle_timeout_ms,
            CloseReason::WriteTimeout => limits.write_timeout_ms,
            CloseReason::Finished
            | CloseReason::ConnectFailed(_)
            | CloseReason::Aborted
            | CloseReason::PeerReset
            | CloseReason::InputTooLong
            | CloseReason::OutputOverflow
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

/// What an operator is told: `idle timeout`.
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
            CloseReason::WriteAfterShutdown => f.write_str("protocol wrote after shutdown"),
            CloseReason::ProtocolPanicked => f.write_str("protocol panicked"),
            CloseReason::Stopped => f.write_str("reactor stopped"),
            CloseReason::Io(kind) => write!(f, "{kind}"),
        }
    }
}

/// Names a connection, also after it has ended: no two connections of a reactor are equal (but after 2³² of them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    pub(crate) const MIN: ConnectionId = ConnectionId { slot: 0, generation: 0 };
    pub(crate) const MAX: ConnectionId = ConnectionId { slot: u32::MAX, generation: u32::MAX };
    /// No connection: there are not that many.
    pub(crate) const NONE: ConnectionId = ConnectionId::MAX;
    /// Set where `slot` is a place in the list of outgoing connections, which are named before they have a slot.
    const OUTBOUND: u32 = 1 << 31;

    pub(crate) fn outbound(place: usize, generation: u32) -> ConnectionId {
        let place = u32::try_from(place)
            .expect("fewer calls than EFFECTS_MAX wait, and the others have descriptors");
        assert!(place & ConnectionId::OUTBOUND == 0, "there are fewer than 2³¹ descriptors");
        ConnectionId { slot: place | ConnectionId::OUTBOUND, generation }
    }

    pub(crate) fn outbound_index(self) -> Option<usize> {
        (self.slot & ConnectionId::OUTBOUND != 0)
            .then_some((self.slot & !ConnectionId::OUTBOUND) as usize)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outbound_index() {
            Some(place) => write!(f, "#out{place}.{}", self.generation),
            None => write!(f, "#{}.{}", self.slot, self.generation),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// It is at this address, and reached us over IP.
    Ip(SocketAddr),
    /// It is on this machine, and reached us over a Unix socket. Such peers have no names.
    Unix,
}

const _: () = assert!(
    size_of::<Peer>() == size_of::<SocketAddr>(),
    "that a peer may have no address costs no connection memory"
);

impl Peer {
    /// Its address, if it has one.
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

/// Its address, such as `127.0.0.1:2000`, or `unix`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) => address.fmt(f),
            Peer::Unix => f.pad("unix"),
        }
    }
}
