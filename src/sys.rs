//! The kernel, as the loop sees it.
//!
//! Everything that the loop, its listeners and its connections ask of the operating system passes through the names in
//! this module. In the product they are mio's types and two clocks. In the library's own tests they are those of a
//! simulated kernel with a simulated clock, so that the whole loop can be led through any hour that a kernel, its peers
//! and its clock could give it, and through the same one again.

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
    now, reading, reset_on_close, set_nodelay, wall_clock,
};
