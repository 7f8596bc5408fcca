//! The kernel, as the loop sees it.
//!
//! Everything that the loop, its listeners and its connections ask of the operating system passes through the names in
//! this module. In the product they are mio's types and two clocks. In the library's own tests they are those of a
//! simulated kernel with a simulated clock, so that the whole loop can be led through any hour that a kernel, its peers
//! and its clock could give it, and through the same one again.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) mod errno;

#[cfg_attr(
    test,
    allow(dead_code, unused_imports, reason = "the simulated kernel stands in for most of it")
)]
pub(crate) mod mio;

#[cfg(unix)]
#[cfg_attr(
    test,
    allow(dead_code, unused_imports, reason = "the simulated kernel has no Unix sockets")
)]
pub(crate) mod unix;

#[cfg(not(test))]
use self::mio as chosen;
#[cfg(target_os = "linux")]
#[cfg_attr(test, allow(dead_code, reason = "the simulated kernel stands in for it"))]
pub(crate) mod linux;

#[cfg(test)]
use crate::testing::simulated as chosen;

#[cfg(unix)]
pub(crate) use chosen::UnixListener;
pub(crate) use chosen::{
    Event, Events, Interest, Poll, Registry, Source, TcpListener, TcpStream, Token, UdpSocket,
    Waker,
};
pub(crate) use chosen::{
    bind_datagram, connect, connect_datagram, is_connected, is_own_address, is_priority, listen,
    now, read_interest, reset_on_close, set_nodelay, wall_clock,
};

/// The address of ours that a datagram was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalAddress {
    /// The one address that the socket has.
    Fixed,
    /// This one of several. Replies leave from it. (Two variants, because comparing an `IpAddr` costs more.)
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    /// A multicast group's, or a whole network's.
    Group,
}
