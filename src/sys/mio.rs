//! mio's types, the socket options and the clocks: what the names of `sys` mean in production.
//!
//! Invariant: every socket that it returns is non-blocking (invariant 1), and closed on exec.

use std::io::{self, Write};
use std::net::SocketAddr;
#[cfg(feature = "http")]
use std::time::SystemTime;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

pub(crate) use ::mio::event::{Event, Source};
pub(crate) use ::mio::net::{TcpListener, TcpStream, UdpSocket};
pub(crate) use ::mio::{Events, Interest, Poll, Registry, Token, Waker};

#[cfg(unix)]
pub(crate) use super::unix::{UnixListener, descriptors_left};
/// Any descriptor as a source of events, such as the end of a pipe: mio registers its number,
/// whatever it is, and no other method of the type is called.
#[cfg(unix)]
pub(crate) use ::mio::net::UnixStream as Descriptor;

use super::{AcceptedOptions, multicast};
use crate::datagram::options::DatagramOptions;
use crate::limits::{KEEPALIVE_IDLE_SECONDS, KEEPALIVE_INTERVAL_SECONDS, KEEPALIVE_PROBES};
use crate::stream::listen_options::ListenOptions;
use crate::sys::PeerState;

/// Reads the monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Reads the wall clock, which people set and step. It is for the `Date` line only: no deadline
/// depends on it.
#[cfg(feature = "http")]
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// No limit is known.
#[cfg(not(unix))]
pub(crate) fn descriptors_left() -> usize {
    usize::MAX
}

/// Opens a listening TCP socket on `address`, non-blocking, closed on exec.
///
/// Unless the options say otherwise, an IPv6 socket accepts IPv6 only (IPV6_V6ONLY). So `0.0.0.0`
/// and `[::]` can be bound side by side in either order, and no peer has an IPv4-mapped address.
pub(crate) fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(options.ipv6_only)?;
    }
    // On Unix, a restarted server may bind while its old connections are in TIME_WAIT. (On Windows
    // the option would share the port.)
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // On Linux accepted sockets inherit these options, which saves a call or two per connection.
    set_stream_options(&socket, options.needs_keepalive())?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog_as_int())?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Has the kernel keep a new connection until its first byte has arrived, or no longer. Returns
/// whether it does.
pub(crate) fn defer_accept(listener: &TcpListener, is_deferred: bool) -> bool {
    #[cfg(target_os = "linux")]
    return super::linux::defer_accept(listener, is_deferred);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (listener, is_deferred);
        false
    }
}

/// Accepts a connection, non-blocking and closed on exec.
///
/// mio does so with accept4(2). A sandbox may refuse that (seccomp(2)). Then accept(2) and fcntl(2)
/// do the same, and `accept4_refused` is set.
pub(crate) fn accept(
    listener: &TcpListener,
    accept4_refused: &mut bool,
) -> io::Result<(TcpStream, SocketAddr)> {
    #[cfg(target_os = "linux")]
    return super::unix::accept_with(
        listener,
        accept4_refused,
        || listener.accept(),
        |socket, peer| {
            let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
            Ok((TcpStream::from_std(socket.into()), peer))
        },
    );
    #[cfg(not(target_os = "linux"))]
    {
        let _ = accept4_refused;
        listener.accept()
    }
}

/// Takes over a socket that listens already, and makes it non-blocking.
pub(crate) fn adopt_listener(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket))
}

/// Takes over a connected stream: makes it non-blocking, without Nagle's delay. Returns it with its
/// peer's address.
pub(crate) fn adopt_stream(stream: std::net::TcpStream) -> io::Result<(TcpStream, SocketAddr)> {
    let peer = stream.peer_addr()?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok((TcpStream::from_std(stream), peer))
}

/// Takes over a connected Unix stream, and makes it non-blocking. It is a TCP stream to us, as an
/// accepted one is (`src/sys/unix.rs`).
#[cfg(unix)]
pub(crate) fn adopt_unix_stream(stream: std::os::unix::net::UnixStream) -> io::Result<TcpStream> {
    stream.peer_addr()?; // or it is not connected
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(std::os::fd::OwnedFd::from(stream).into()))
}

/// Takes over a UDP socket, and makes it non-blocking.
///
/// An IPv6 socket that receives IPv4, too, is refused: its peers would have IPv4-mapped addresses,
/// and those of our own sockets would not be recognised.
pub(crate) fn adopt_datagram(
    socket: std::net::UdpSocket,
    options: &DatagramOptions,
) -> io::Result<UdpSocket> {
    let is_ipv6 = socket.local_addr()?.is_ipv6();
    if is_ipv6 && !SockRef::from(&socket).only_v6()? {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a datagram socket over IPv6 must not receive IPv4 (IPV6_V6ONLY)",
        ));
    }
    socket.set_nonblocking(true)?;
    multicast::set_options(&SockRef::from(&socket), is_ipv6, options)?;
    Ok(UdpSocket::from_std(socket))
}

/// Starts connecting a stream to `address`: non-blocking, closed on exec, and without Nagle's
/// delay. Once it is writable, `is_connected` returns the result.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Returns whether a connect has succeeded. `false`: it is not decided yet, since an event may come
/// before that.
///
/// If the connect has failed, its error was pending on the socket, and is returned. (These are the
/// checks that mio asks for after `TcpStream::connect`.)
///
/// A socket that connects to a port of its own machine, on which no server listens, may get that
/// same port as its ephemeral port. Then it is connected to itself: two SYNs that cross make a
/// connection (RFC 9293 section 3.5). It has no peer, so this is reported as `ConnectionRefused`.
pub(crate) fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(peer) if stream.local_addr()? == peer => {
            // Closed gracefully, the socket would stay in TIME_WAIT for a minute, and the server
            // that should listen on the port could not bind it.
            reset_on_close(stream);
            Err(io::ErrorKind::ConnectionRefused.into())
        }
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        #[cfg(unix)]
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
        // The kernel has returned an address that is not one of IP. Only a Unix socket has one, and
        // it was connected when it was adopted.
        #[cfg(unix)]
        Err(error) if error.raw_os_error().is_none() => Ok(true),
        Err(error) => Err(error),
    }
}

/// Sends the last bytes before our FIN. Where send(2) has MSG_MORE, the kernel keeps the end of
/// them back until the FIN comes. (If none came, it would send them after 200 ms or so.)
#[inline]
pub(crate) fn send_before_fin(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    return stream.try_io(|| {
        SockRef::from(stream).send_with_flags(bytes, libc::MSG_MORE | libc::MSG_NOSIGNAL)
    });
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    (&mut &*stream).write(bytes)
}

/// Returns what is left of the peer, without reading or sending anything. An error that is pending
/// on the socket (SO_ERROR), such as a reset, is returned.
pub(crate) fn peer_state(stream: &TcpStream) -> io::Result<PeerState> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    // To send no bytes fails only where no byte could be sent: after our FIN, and on a Unix socket
    // also after the peer's close.
    match (&mut &*stream).write(&[]) {
        Err(error) if !is_transient(&error) => {}
        Ok(_) | Err(_) => return Ok(PeerState::Present),
    }
    match stream.peek(&mut [0]) {
        Ok(0) => Ok(PeerState::Gone),
        Ok(_) => Ok(PeerState::Unread),
        Err(error) if is_transient(&error) => Ok(PeerState::Present),
        Err(error) => Err(error),
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Sets the options of an accepted stream that it has not inherited from its listener.
pub(crate) fn set_accepted_options(stream: &TcpStream, options: AcceptedOptions) -> io::Result<()> {
    if cfg!(target_os = "linux") && options.had_before_listen {
        return Ok(());
    }
    set_stream_options(&SockRef::from(stream), options.keepalive)
}

/// Sets TCP_NODELAY: no reply waits for the acknowledgement of the one before (Nagle). Bounds what
/// the kernel takes for a peer that does not read. With `keepalive`, lets the kernel probe a silent
/// peer.
fn set_stream_options(socket: &Socket, keepalive: bool) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    super::linux::bound_unsent(socket, true);
    if !keepalive {
        return Ok(());
    }
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(KEEPALIVE_IDLE_SECONDS));
    // Other systems have probes, but do not let a program choose how many and how often.
    #[cfg(any(
        target_os = "android",
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "illumos",
        target_os = "ios",
        target_os = "linux",
        target_os = "macos",
        target_os = "netbsd",
        windows
    ))]
    let probes = probes
        .with_interval(Duration::from_secs(KEEPALIVE_INTERVAL_SECONDS))
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&probes)
}

/// Bounds the bytes that the kernel takes of a TCP stream before it can send them, or lifts the
/// bound. Only Linux has one.
pub(crate) fn bound_unsent(stream: &TcpStream, is_bounded: bool) {
    #[cfg(target_os = "linux")]
    super::linux::bound_unsent(stream, is_bounded);
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, is_bounded);
}

/// Makes closing `stream` send a reset instead of a FIN, and discard the bytes that the kernel has
/// not sent yet (SO_LINGER with a timeout of 0).
pub(crate) fn reset_on_close(stream: &TcpStream) {
    // It fails only on a socket that is closed already, and then there is nothing left to reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Opens a UDP socket on `address`, non-blocking, closed on exec. Asks for kernel buffers of
/// `buffer_bytes` in each direction.
pub(crate) fn bind_datagram(
    address: SocketAddr,
    options: &DatagramOptions,
    buffer_bytes: usize,
) -> io::Result<UdpSocket> {
    let socket = datagram_socket(address, buffer_bytes)?;
    if options.reuse_address {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    multicast::set_options(&SockRef::from(&socket), address.is_ipv6(), options)?;
    Ok(UdpSocket::from_std(socket.into()))
}

/// Opens the same on an ephemeral port, connected to `peer`. The kernel then delivers only the
/// peer's datagrams, and reports the ICMP errors of those that are sent to it.
pub(crate) fn connect_datagram(peer: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = datagram_socket(peer, buffer_bytes)?;
    socket.connect(&peer.into())?;
    if is_connected_to_itself(&socket)? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(UdpSocket::from_std(socket.into()))
}

/// Returns whether the ephemeral port is the one that the socket is connected to, as may happen
/// over TCP (`is_connected`). Then no server has this port, and the socket would answer itself.
fn is_connected_to_itself(socket: &Socket) -> io::Result<bool> {
    Ok(socket.local_addr()?.as_socket() == socket.peer_addr()?.as_socket())
}

fn datagram_socket(address: SocketAddr, buffer_bytes: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let buffer_bytes = buffer_bytes.min(i32::MAX as usize); // setsockopt(2) takes an int
    // Some kernels grant as much as they allow, others reject a size above their limit. Less is
    // slower, not wrong.
    if let Err(error) = socket
        .set_recv_buffer_size(buffer_bytes)
        .and_then(|()| socket.set_send_buffer_size(buffer_bytes))
    {
        log::debug!("udp buffers of {buffer_bytes} bytes not granted: {error}");
    }
    Ok(socket)
}

/// Has the kernel drop every datagram that arrives from now on. What waits in the receive queue
/// stays there. Only Linux has a filter for that (SO_ATTACH_FILTER, socket(7)), and a sandbox may
/// forbid it.
pub(crate) fn stop_receiving(socket: &UdpSocket) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        const RETURN: u16 = 0x06; // BPF_RET | BPF_K (linux/bpf_common.h)
        let drop_all = socket2::SockFilter::new(RETURN, 0, 0, 0); // "keep 0 bytes"
        SockRef::from(socket).attach_filter(&[drop_all])
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = socket;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Returns whether the address of `peer` is one of this machine's: only then can a socket be bound
/// to it. (Where the system allows binding to any address, as Linux does if
/// `net.ipv4.ip_nonlocal_bind` is set, this is true for all of them.)
pub(crate) fn is_own_address(mut peer: SocketAddr) -> io::Result<bool> {
    peer.set_port(0);
    let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
    match socket.bind(&peer.into()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether mio's poller reports a source again only after a call on it has returned `WouldBlock`.
///
/// epoll and kqueue report every edge. On all other systems mio derives edges from a selector that
/// has none: it withdraws the interest that an event has answered, and renews it when it sees a
/// call of its own socket types return `WouldBlock`. So there a short count is no reason to wait,
/// and no call may go past mio. (The list is that of mio's `src/sys`; a system that is missing in
/// it is slower, not wrong.)
const REARMS_ONLY_ON_WOULD_BLOCK: bool = !cfg!(all(
    not(mio_unsupported_force_poll_poll), // which is how CI tests such a selector on Linux
    any(
        // epoll
        target_os = "android",
        target_os = "illumos",
        target_os = "linux",
        target_os = "redox",
        // kqueue
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "ios",
        target_os = "macos",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "tvos",
        target_os = "visionos",
        target_os = "watchos",
    )
));

/// Returns [`REARMS_ONLY_ON_WOULD_BLOCK`]. In the library's own tests, the simulated kernel
/// decides.
#[inline(always)]
pub(crate) const fn rearms_only_on_would_block() -> bool {
    REARMS_ONLY_ON_WOULD_BLOCK
}

/// Returns the interest of a stream that is only read. It includes TCP urgent data (Linux:
/// EPOLLPRI): the urgent mark ends a read early although more bytes follow, so the loop must get an
/// event for it.
pub(crate) fn read_interest() -> Interest {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return Interest::READABLE | Interest::PRIORITY;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return Interest::READABLE;
}

/// Returns whether `event` reports TCP urgent data. mio has this event only where the kernel has
/// it.
pub(crate) fn is_priority(event: &Event) -> bool {
    cfg!(any(target_os = "linux", target_os = "android")) && event.is_priority()
}

#[cfg(test)]
mod tests;
