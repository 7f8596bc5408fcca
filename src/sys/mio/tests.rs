//! The options that the sockets of the system are opened with.

use super::*;

/// Opens a listener with `options`, connects to it, and returns the accepted stream. What Linux
/// lets it inherit is set on other systems by the same call as here.
fn accepted(options: &ListenOptions) -> (TcpStream, SocketAddr, std::net::TcpStream) {
    let listener = listen(([127, 0, 0, 1], 0).into(), options).unwrap();
    let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, from) = loop {
        match listener.accept() {
            Ok(accepted) => break accepted,
            // The connection is not in the backlog yet.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    let keepalive = options.needs_keepalive();
    set_accepted_options(
        &stream,
        AcceptedOptions { keepalive, had_before_listen: true, is_deferred: false },
    )
    .unwrap();
    (stream, from, peer)
}

// pitfall: 28
#[test]
fn accepted_streams_have_tcp_nodelay_set() {
    let (stream, from, peer) = accepted(&ListenOptions::default());
    assert_eq!((stream.nodelay().unwrap(), from), (true, peer.local_addr().unwrap()));
    assert!(!SockRef::from(&stream).keepalive().unwrap(), "only without an idle timeout");
}

#[test]
fn streams_without_an_idle_timeout_have_keepalive_set() {
    let options = ListenOptions::default().with_idle_timeout(crate::Timeout::Never);
    let (stream, _, _peer) = accepted(&options);
    let socket = SockRef::from(&stream);
    assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
    #[cfg(target_os = "linux")]
    assert_eq!(
        (
            socket.tcp_keepalive_time().unwrap(),
            socket.tcp_keepalive_interval().unwrap(),
            socket.tcp_keepalive_retries().unwrap()
        ),
        (
            Duration::from_secs(KEEPALIVE_IDLE_SECONDS),
            Duration::from_secs(KEEPALIVE_INTERVAL_SECONDS),
            KEEPALIVE_PROBES
        )
    );
}

// pitfall: 72
#[test]
fn self_connected_datagram_socket_is_recognised() {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.bind(&any.into()).unwrap();
    socket.connect(&socket.local_addr().unwrap()).unwrap();
    assert!(is_connected_to_itself(&socket).unwrap());
    let other = std::net::UdpSocket::bind(any).unwrap();
    socket.connect(&other.local_addr().unwrap().into()).unwrap();
    assert!(!is_connected_to_itself(&socket).unwrap());
}

// pitfall: 72
#[test]
fn self_connected_stream_is_refused_and_frees_its_port() {
    // The socket connects to the port that it is bound to. The kernel may cause the same when
    // it chooses the ephemeral port. Afterwards a server can listen on the port, which it could
    // not if the socket had been closed gracefully (TIME_WAIT).
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
    listen(address.as_socket().unwrap(), &ListenOptions::default()).unwrap();
}
