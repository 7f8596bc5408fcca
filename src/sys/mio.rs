//! mio's types, the socket options and the clocks: what stands behind the names of `net` in the product.

use std::io;
use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

pub(crate) use ::mio::event::{Event, Source};
pub(crate) use ::mio::net::{TcpListener, TcpStream, UdpSocket};
pub(crate) use ::mio::{Events, Interest, Poll, Registry, Token, Waker};

#[cfg(unix)]
pub(crate) use super::unix::UnixListener;

use crate::limits::BACKLOG;

/// The monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The clock on the wall, which people set and step. For the `Date` line only; no deadline ever hangs on it.
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// A listening TCP socket on `address`, non-blocking, closed on exec.
///
/// An IPv6 socket takes IPv6 only, so that `0.0.0.0` and `[::]` can be bound side by side in either order, and no peer
/// is ever shown as an IPv4-mapped address.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // On Unix: a restart may bind while the old connections are still in TIME_WAIT. (On Windows it would mean sharing.)
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // Linux hands this on to every accepted socket, which saves a call per connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// A stream that is being connected to `address`, non-blocking, closed on exec, and without Nagle's delay. Once it has
/// become writable, `is_connected` says what came of it.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Has the peer been reached? An event may come before that is decided, and an error waits on the socket where it is decided
/// against us. (This is what mio asks for after `TcpStream::connect`.)
///
/// Who connects to a port of its own machine at which nobody listens may be given that very port to connect from, and then has
/// reached itself (two SYNs that cross make a connection, RFC 9293 section 3.5). That is nobody, and said to be so.
pub(crate) fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(peer) if stream.local_addr()? == peer => {
            // To close in order would keep the port for a minute (TIME_WAIT) from whoever ought to listen there.
            reset_on_close(stream);
            Err(io::ErrorKind::ConnectionRefused.into())
        }
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        #[cfg(unix)]
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What has to be set on an accepted stream where the listener's settings are not inherited: elsewhere than on Linux.
pub(crate) fn set_nodelay(stream: &TcpStream) -> io::Result<()> {
    if cfg!(target_os = "linux") { Ok(()) } else { stream.set_nodelay(true) }
}

/// Makes closing `stream` send a reset instead of a FIN, and discard what the kernel has not sent yet.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    // It fails only on a socket that is dead already, and then there is nothing left to reset.
    let _ = SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
}

/// A UDP socket on `address`, non-blocking, closed on exec, with `buffer_bytes` asked for in both directions.
pub(crate) fn bind_datagram(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = datagram_socket(address, buffer_bytes)?;
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

/// The same on a port that the system chooses, connected to `peer`: the kernel hands on what comes from there, and tells what ICMP
/// reports of what goes there.
pub(crate) fn connect_datagram(peer: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = datagram_socket(peer, buffer_bytes)?;
    socket.connect(&peer.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

fn datagram_socket(address: SocketAddr, buffer_bytes: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The kernel grants what it allows; some refuse outright what is over their limit. Less is slower, not wrong.
    if let Err(error) = socket
        .set_recv_buffer_size(buffer_bytes)
        .and_then(|()| socket.set_send_buffer_size(buffer_bytes))
    {
        log::debug!("udp buffers of {buffer_bytes} bytes not granted: {error}");
    }
    Ok(socket)
}

/// Is the address of `peer` one of this machine's? To bind a socket to it succeeds only then. (Where the system lets anybody's
/// be bound, as Linux does if `net.ipv4.ip_nonlocal_bind` is set, all are said to be.)
pub(crate) fn is_own_address(mut peer: SocketAddr) -> io::Result<bool> {
    peer.set_port(0);
    let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
    match socket.bind(&peer.into()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error),
    }
}

/// What `mio` wants to be told about a stream from its first wait on. The urgent mark (Linux: EPOLLPRI) cuts a read
/// short without the socket being drained, so the loop must hear of it.
pub(crate) fn read_interest() -> Interest {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return Interest::READABLE | Interest::PRIORITY;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return Interest::READABLE;
}

/// Whether `event` tells of an urgent mark. mio knows of it only where the kernel does.
pub(crate) fn is_priority(event: &Event) -> bool {
    cfg!(any(target_os = "linux", target_os = "android")) && event.is_priority()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_accepted_is_answered_without_delay() {
        // Whether the option is inherited or set anew: nothing waits for the acknowledgement of what went before (Nagle).
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, from) = loop {
            match listener.accept() {
                Ok(accepted) => break accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(), // it is still on its way
                Err(error) => panic!("{error}"),
            }
        };
        set_nodelay(&stream).unwrap();
        assert_eq!((stream.nodelay().unwrap(), from), (true, peer.local_addr().unwrap()));
    }

    #[test]
    fn who_has_reached_itself_has_reached_nobody() {
        // It connects to the port that it is bound to, as the kernel may have it do where it chooses the port. Afterwards who
        // was meant can listen there, as it could not if we had closed in order (TIME_WAIT).
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&any.into()).unwrap();
        let address = socket.local_addr().unwrap();
        socket.connect(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(socket.into());
        assert_eq!(stream.peer_addr().unwrap(), stream.local_addr().unwrap());
        assert_eq!(is_connected(&stream).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        drop(stream);
        listen(address.as_socket().unwrap()).unwrap();
    }
}
