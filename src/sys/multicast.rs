//! The options of a datagram socket: multicast groups, broadcast.
//!
//! Invariant: a socket receives only what is sent to the groups that it has joined itself.

use std::io::{self, ErrorKind};

use socket2::SockRef;

use crate::datagram::options::DatagramOptions;

/// Sets `options` on a bound socket, but for the one that must be set before.
pub(super) fn set_options(
    socket: &SockRef<'_>,
    is_ipv6: bool,
    options: &DatagramOptions,
) -> io::Result<()> {
    let wrong_family =
        if is_ipv6 { !options.groups_v4.is_empty() } else { !options.groups_v6.is_empty() };
    if wrong_family {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "a group of the other IP version than the socket",
        ));
    }
    if options.broadcast {
        socket.set_broadcast(true)?;
    }
    for (group, interface) in &options.groups_v4 {
        socket.join_multicast_v4(group, interface)?;
    }
    for (group, interface) in &options.groups_v6 {
        socket.join_multicast_v6(group, *interface)?;
    }
    if options.answers_groups() {
        receive_own_groups_only(socket, is_ipv6)?;
    }
    if let Some(hops) = options.multicast_hops {
        match is_ipv6 {
            true => socket.set_multicast_hops_v6(hops.into())?,
            false => socket.set_multicast_ttl_v4(hops.into())?,
        }
    }
    match (options.multicast_loopback, is_ipv6) {
        (Some(value), true) => socket.set_multicast_loop_v6(value),
        (Some(value), false) => socket.set_multicast_loop_v4(value),
        (None, _) => Ok(()),
    }
}

/// By default, a Linux socket that is bound to all addresses also receives what is sent to groups
/// that other sockets of the machine have joined (IP_MULTICAST_ALL, ip(7)).
#[cfg(target_os = "linux")]
fn receive_own_groups_only(socket: &SockRef<'_>, is_ipv6: bool) -> io::Result<()> {
    if is_ipv6 { socket.set_multicast_all_v6(false) } else { socket.set_multicast_all_v4(false) }
}

#[cfg(not(target_os = "linux"))]
fn receive_own_groups_only(_: &SockRef<'_>, _: bool) -> io::Result<()> {
    Ok(())
}
