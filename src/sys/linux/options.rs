//! Socket options that Linux has and our libraries do not set.
//!
//! None of them is needed: a kernel that has not heard of one, or a sandbox that refuses it, costs
//! speed or memory, and the log says so.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use log::{debug, warn};

use super::super::UdpSocket;
use super::layout::size_of_as_socklen;
use crate::overload_limits::{DEFERRED_ACCEPT_SECONDS, UNSENT_BYTES_MAX};

/// Has the kernel join datagrams of one size and one sender on receiving (GRO). A kernel older than
/// 5.0 has no UDP_GRO: then none are joined, and nothing is lost.
pub(crate) fn enable_gro(socket: &UdpSocket) {
    if let Err(error) = set_option(socket, libc::SOL_UDP, libc::UDP_GRO, ON) {
        debug!("udp: no UDP_GRO: {error}");
    }
}

/// On a socket bound to all addresses: has the kernel report to which of them each datagram was
/// sent.
pub(crate) fn enable_pktinfo(socket: &UdpSocket) {
    let Ok(address) = socket.local_addr() else { return };
    let enabled = if address.ip() == Ipv4Addr::UNSPECIFIED {
        set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, ON)
    } else if address.ip() == Ipv6Addr::UNSPECIFIED {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, ON)
    } else {
        Ok(())
    };
    if let Err(error) = enabled {
        warn!(
            "udp {address}: IP_PKTINFO refused ({error}): replies leave from the address that \
             routing chooses, and datagrams to a group are answered"
        );
    }
}

/// Has the kernel keep a new connection until its first byte has arrived, or for
/// `DEFERRED_ACCEPT_SECONDS`; or no longer. Returns whether it does: a sandbox may refuse the
/// option.
pub(crate) fn defer_accept(listener: &::mio::net::TcpListener, is_deferred: bool) -> bool {
    let seconds = if is_deferred { DEFERRED_ACCEPT_SECONDS } else { 0 };
    let result = set_option(listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds);
    if let Err(error) = &result {
        debug!("tcp: no TCP_DEFER_ACCEPT: {error}");
    }
    result.is_ok()
}

/// Bounds the bytes that the kernel takes of a stream before it can send them, or lifts the bound
/// (TCP_NOTSENT_LOWAT).
pub(crate) fn bound_unsent(socket: &impl AsRawFd, is_bounded: bool) {
    let bytes = if is_bounded { UNSENT_BYTES_MAX } else { 0 }; // 0: as the system is set
    if let Err(error) = set_option(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes) {
        debug!("tcp: no TCP_NOTSENT_LOWAT: {error}");
    }
}

/// The value of an option that is either on or off.
const ON: libc::c_int = 1;

fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives through the call; the
    // descriptor is open, because `socket` is borrowed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_as_socklen::<libc::c_int>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
