//! The proxy of docs/examples, over real sockets.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../docs/examples/proxy.rs"]
mod proxy;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread;

use common::{
    Program, TIMEOUT, any_port, assert_same, be_server, check_echo, check_end, connect,
    connect_narrow, fill_buffers, pattern, reset,
};
use mio_reactor::{
    Advance, ConnectionId, Context, Echo, Limits, Next, Notification, Protocol, Reactor,
};
use proxy::Side;

const MIB: usize = 1024 * 1024;

/// A proxy to `server`, in a thread of its own, which goes with the test.
fn proxy_to(server: SocketAddr) -> SocketAddr {
    run(move |reactor| proxy::listen(reactor, any_port(), server).unwrap())
}

/// A reactor with what `listen` makes it serve, in a thread of its own, which goes with the test.
fn run(listen: impl FnOnce(&mut Reactor) -> SocketAddr + Send + 'static) -> SocketAddr {
    let (told, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        told.send(listen(&mut reactor)).unwrap();
        reactor.run().unwrap();
    });
    address.recv_timeout(TIMEOUT).unwrap()
}

/// A server of the test's own: the next connection to it, with timeouts.
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
fn it_stands_between_a_client_and_an_echo_server_of_the_same_reactor() {
    // Both ends of the server's side are the reactor's own.
    let address = run(|reactor| {
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
fn an_end_is_handed_on_and_the_other_direction_goes_on() {
    // In either order: who has said all still hears all.
    let (listener, server) = listen();
    let proxy = proxy_to(server);
    for client_ends_first in [true, false] {
        let client = connect(proxy);
        let server = accept(&listener);
        let (mut first, mut second) =
            if client_ends_first { (client, server) } else { (server, client) };
        first.write_all(b"a question").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        let mut question = Vec::new();
        second.read_to_end(&mut question).unwrap();
        assert_eq!(question, b"a question");
        let answer = pattern(3, 3 * MIB);
        let mut reader = first.try_clone().unwrap();
        let reading = thread::spawn(move || {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).map(|_| received)
        });
        second.write_all(&answer).unwrap();
        drop(second);
        assert_same(&reading.join().unwrap().unwrap(), &answer);
    }
}

#[test]
fn who_breaks_off_is_seen_to_have_broken_off() {
    // A reset is no end: the other one must not take a part for the whole.
    let (listener, server) = listen();
    let proxy = proxy_to(server);
    for client_breaks_off in [true, false] {
        let mut client = connect(proxy);
        let mut server = accept(&listener);
        check_relayed(&mut client, &mut server);
        check_relayed(&mut server, &mut client);
        let (breaks_off, mut other) =
            if client_breaks_off { (client, server) } else { (server, client) };
        reset(breaks_off);
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
fn a_server_that_is_not_there_is_told_as_a_reset() {
    let (listener, server) = listen();
    drop(listener);
    // The reset may come before the client's connect has returned, at its first word, or after it.
    let told = TcpStream::connect_timeout(&proxy_to(server), TIMEOUT).and_then(|mut client| {
        client.set_read_timeout(Some(TIMEOUT))?;
        client.write_all(b"is anybody there?")?;
        client.read(&mut [0])
    });
    let kind = told.map_err(|error| error.kind());
    assert!(matches!(kind, Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)), "{kind:?}");
}

#[test]
fn who_does_not_read_makes_the_other_one_wait() {
    // The sender can get rid of what the kernel's buffers and the proxy's marks hold, and of no more. Nothing of it is lost.
    let (listener, server) = listen();
    let mut client = connect_narrow(proxy_to(server));
    let mut server = accept(&listener);
    let bytes = pattern(5, 64 * MIB);
    let sent = fill_buffers(&mut server, &bytes);
    assert!(sent < 32 * MIB, "{sent} bytes are under way");
    let rest = bytes[sent..].to_vec();
    let writing = thread::spawn(move || server.write_all(&rest));
    let mut received = vec![0; bytes.len()];
    client.read_exact(&mut received).unwrap();
    assert_same(&received, &bytes);
    writing.join().unwrap().unwrap();
}

/// A client's side that says a word of its own when its client has to wait.
struct Polite(Side);

impl Protocol for Polite {
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

    fn notified(&mut self, other: ConnectionId, news: Notification, cx: &mut Context<'_>) -> Next {
        if news == Notification::AboveHighWatermark {
            cx.send(b"one moment\n");
        }
        self.0.notified(other, news, cx)
    }
}

#[test]
fn a_client_waits_for_its_server_even_if_the_proxy_has_a_word_for_it() {
    // The word has gone at once, and so the client's side is asked whether it would go on. The server still does not read.
    let (listener, server) = listen();
    let polite =
        move |_| Polite(Side::Client { server, other: None, one_has_ended: Rc::default() });
    let mut client = connect(run(move |reactor| reactor.listen(any_port(), polite).unwrap()));
    let mut server = accept(&listener);
    let bytes = pattern(6, 64 * MIB);
    let sent = fill_buffers(&mut client, &bytes);
    assert!(sent < 32 * MIB, "{sent} bytes are under way");
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
fn a_gibibyte_passes_unchanged_in_little_memory() {
    // Half of it each way, at the same time. The most memory that the proxy's process has ever had tells that nothing is kept.
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
                    assert!(received == expected, "bytes have changed");
                }
                assert_eq!(to.read(&mut received).unwrap(), 0, "and then the end");
            });
        }
    });
    let peak_kib = program.memory_kib("VmHWM");
    assert!(peak_kib < 16 * 1024, "{peak_kib} KiB");
}
