//! The proxy of docs/examples over real sockets: half-close, reset, backpressure and memory.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../docs/examples/proxy.rs"]
mod proxy;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use common::{
    Program, TIMEOUT, any_port, assert_same, be_server, check_echo, check_end, connect,
    connect_narrow, fill_buffers, pattern, reset, run_in_thread,
};
use mio_reactor::{Advance, ConnectionId, Context, Echo, Next, Notification, Protocol, Relay};

const MIB: usize = 1024 * 1024;

/// Runs a proxy to `server` in a thread of its own, which ends with the test. Returns its address.
fn proxy_to(server: SocketAddr) -> SocketAddr {
    run_in_thread(move |reactor| proxy::listen(reactor, any_port(), server).unwrap())
}

/// Accepts the next connection to a server of the test's own, and sets timeouts on it.
fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn proxy_relays_to_an_echo_server_of_the_same_reactor() {
    // The server's side has both of its ends in this reactor.
    let address = run_in_thread(|reactor| {
        let server = reactor.listen(any_port(), |_| Echo::new()).unwrap();
        proxy::listen(reactor, any_port(), server).unwrap()
    });
    let mut stream = connect(address);
    for length in [1, 100, 100_000] {
        check_echo(&mut stream, &pattern(length as u64, length));
    }
    stream.write_all(b"the last").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    check_end(stream, b"the last");
}

#[test]
fn half_close_is_relayed_and_the_other_direction_goes_on() {
    // In either direction: the peer that has sent its FIN still receives everything.
    let (listener, server) = listen();
    let proxy = proxy_to(server);
    for client_shuts_down in [true, false] {
        let client = connect(proxy);
        let server = accept(&listener);
        let (mut first, mut second) =
            if client_shuts_down { (client, server) } else { (server, client) };
        first.write_all(b"a request").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        let mut request = Vec::new();
        second.read_to_end(&mut request).unwrap();
        assert_eq!(request, b"a request");
        let reply = pattern(3, 3 * MIB);
        let mut reader = first.try_clone().unwrap();
        let reading = thread::spawn(move || {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).map(|_| received)
        });
        second.write_all(&reply).unwrap();
        drop(second);
        assert_same(&reading.join().unwrap().unwrap(), &reply);
    }
}

#[test]
fn reset_is_relayed_as_a_reset() {
    // A FIN instead would let the other peer take a part for the whole.
    let (listener, server) = listen();
    let proxy = proxy_to(server);
    for client_resets in [true, false] {
        let mut client = connect(proxy);
        let mut server = accept(&listener);
        check_relayed(&mut client, &mut server);
        check_relayed(&mut server, &mut client);
        let (resetting, mut other) =
            if client_resets { (client, server) } else { (server, client) };
        reset(resetting);
        assert_eq!(other.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[track_caller]
fn check_relayed(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"some bytes").unwrap();
    let mut received = [0; 10];
    to.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"some bytes");
}

#[test]
fn refused_server_connect_resets_the_client() {
    let (listener, server) = listen();
    drop(listener);
    // The reset may arrive before the client's connect returns, while it writes, or while it reads.
    let result = TcpStream::connect_timeout(&proxy_to(server), TIMEOUT).and_then(|mut client| {
        client.set_read_timeout(Some(TIMEOUT))?;
        client.write_all(b"a request")?;
        client.read(&mut [0])
    });
    let kind = result.map_err(|error| error.kind());
    assert!(matches!(kind, Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)), "{kind:?}");
}

#[test]
fn peer_that_does_not_read_blocks_the_other_peer() {
    // The sender can write what the kernel's buffers and the proxy's watermarks allow, and no more.
    // Nothing is lost.
    let (listener, server) = listen();
    let mut client = connect_narrow(proxy_to(server));
    let mut server = accept(&listener);
    let bytes = pattern(5, 64 * MIB);
    let sent = fill_buffers(&mut server, &bytes);
    assert!(sent < 32 * MIB, "{sent} bytes are in flight");
    let rest = bytes[sent..].to_vec();
    let writing = thread::spawn(move || server.write_all(&rest));
    let mut received = vec![0; bytes.len()];
    client.read_exact(&mut received).unwrap();
    assert_same(&received, &bytes);
    writing.join().unwrap().unwrap();
}

/// A client's side that sends a line of its own to its client when it pauses the client's input.
struct SendsWhenPaused(Relay<Vec<SocketAddr>>);

impl Protocol for SendsWhenPaused {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.0.opened(cx)
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        self.0.advance(input, cx)
    }

    fn output_low(&mut self, cx: &mut Context<'_>) -> Next {
        self.0.output_low(cx)
    }

    fn eof(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Next {
        self.0.eof(rest, cx)
    }

    fn notified(
        &mut self,
        other: ConnectionId,
        notification: Notification,
        cx: &mut Context<'_>,
    ) -> Next {
        if notification == Notification::AboveHighWatermark {
            cx.send(b"one moment\n");
        }
        self.0.notified(other, notification, cx)
    }
}

#[test]
fn paused_client_stays_paused_when_its_own_output_is_low() {
    // The line leaves at once, so `output_low` is called on the client's side, which must stay
    // paused: the server still does not read.
    let (listener, server) = listen();
    let make = move |_| SendsWhenPaused(Relay::to([server], TIMEOUT));
    let mut client =
        connect(run_in_thread(move |reactor| reactor.listen(any_port(), make).unwrap()));
    let mut server = accept(&listener);
    let bytes = pattern(6, 64 * MIB);
    let sent = fill_buffers(&mut client, &bytes);
    assert!(sent < 32 * MIB, "{sent} bytes are in flight");
    client.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    server.read_to_end(&mut received).unwrap();
    assert_same(&received, &bytes[..sent]);
}

#[test]
#[ignore = "the proxy in a process of its own, which another test starts"]
fn be_a_proxy() {
    be_server(|reactor, server| proxy::listen(reactor, any_port(), server.parse().unwrap()));
}

#[test]
#[cfg(target_os = "linux")]
fn gibibyte_is_relayed_unchanged_in_little_memory() {
    // Half of it each way, at the same time. The peak memory of the proxy's process shows that
    // nothing is kept.
    let (listener, server) = listen();
    let (program, proxy) = Program::start_server("be_a_proxy", &server.to_string());
    let client = connect(proxy);
    let server = accept(&listener);
    thread::scope(|scope| {
        for (seed, mut from, mut to) in
            [(9, client.try_clone().unwrap(), server.try_clone().unwrap()), (10, server, client)]
        {
            let sent = pattern(seed, MIB);
            let expected = sent.clone();
            scope.spawn(move || {
                (0..512).for_each(|_| from.write_all(&sent).unwrap());
                from.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let mut received = vec![0; MIB];
                for _ in 0..512 {
                    to.read_exact(&mut received).unwrap();
                    assert!(received == expected, "the bytes are unchanged");
                }
                assert_eq!(to.read(&mut received).unwrap(), 0, "and then a FIN");
            });
        }
    });
    let peak_kib = program.memory_kib("VmHWM");
    assert!(peak_kib < 16 * 1024, "{peak_kib} KiB");
}
