//! The operating system, as the loop sees it: sockets, the poller and the clocks.
//!
//! All calls of the loop, its listeners and its connections to the operating system go through the
//! names in this module. In production the names are mio's types and two clocks. In the library's
//! own tests they are a simulated kernel with a simulated clock. So tests can run the whole loop
//! through any sequence of events that a kernel, its peers and its clock could produce, and run the
//! same sequence again.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) mod errno;

#[cfg_attr(
    test,
    allow(dead_code, unused_imports, reason = "the simulated kernel stands in for most of it")
)]
pub(crate) mod mio;

mod multicast;

#[cfg(unix)]
#[cfg_attr(
    test,
    allow(dead_code, unused_imports, reason = "the simulated kernel has no Unix sockets")
)]
pub(crate) mod unix;

#[cfg(target_os = "linux")]
#[cfg_attr(test, allow(dead_code, reason = "the simulated kernel stands in for it"))]
pub(crate) mod linux;

#[cfg(not(test))]
use self::mio as backend;
#[cfg(test)]
use crate::testing::simulated as backend;

#[cfg(feature = "http")]
pub(crate) use backend::wall_clock;
#[cfg(unix)]
pub(crate) use backend::{Descriptor, UnixListener, adopt_unix_stream};
pub(crate) use backend::{
    Event, Events, Interest, Poll, Registry, Source, TcpListener, TcpStream, Token, UdpSocket,
    Waker,
};
pub(crate) use backend::{
    accept, adopt_datagram, adopt_listener, adopt_stream, bind_datagram, bound_unsent, connect,
    connect_datagram, defer_accept, descriptors_left, is_connected, is_own_address, is_priority,
    listen, now, peer_state, read_interest, rearms_only_on_would_block, reset_on_close,
    send_before_fin, set_accepted_options, stop_receiving,
};

/// Whether send(2) has a flag that says that more follows: that of `send_before_fin`.
pub(crate) const HAS_MSG_MORE: bool = cfg!(any(target_os = "android", target_os = "linux"));

/// What is left of a peer, by the state of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerState {
    /// Bytes may still move in at least one direction.
    Present,
    /// Nothing more can be sent, and what the peer has sent is not read yet.
    Unread,
    /// Nothing more can be sent, and nothing but the peer's FIN is left to read.
    Gone,
}

/// What the streams of a listener have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AcceptedOptions {
    /// Silent peers are probed (SO_KEEPALIVE).
    pub(crate) keepalive: bool,
    /// The listener has had its options since before it listened. Where the system lets accepted
    /// sockets inherit them (Linux), nothing is left to do.
    pub(crate) had_before_listen: bool,
    /// Accepting is deferred: a connection comes with its first bytes, or has kept silent for
    /// `DEFERRED_ACCEPT_SECONDS`.
    pub(crate) is_deferred: bool,
}

/// The local address that a datagram was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalAddress {
    /// The only address of the socket.
    Fixed,
    /// One of several. Replies leave from it. There are two variants because comparing an `IpAddr`
    /// costs more.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "recvmmsg(2) reports it"))]
    V4(Ipv4Addr),
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "recvmmsg(2) reports it"))]
    V6(Ipv6Addr),
    /// The address of a multicast group, or a broadcast address.
    Group,
}
