//! Connections that act on each other, over real sockets: a proxy, a chat room, and a client.

// The helpers here unwrap as the tests do.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use common::{TIMEOUT, any_port, assert_same, check_echo, connect, pattern, reset, turn_until};
use mio_reactor::{
    Advance, CloseReason, ConnectionId, Context, Echo, Limits, Next, Notification, Protocol,
    Reactor,
};

// ---- a proxy

/// One connection of a proxied pair. What it receives is sent on the other one, and so is the end
/// of its input.
struct ProxySide {
    /// The server to connect to; `None` for the connection to the server itself.
    upstream: Option<SocketAddr>,
    other: Option<ConnectionId>,
}

impl Protocol for ProxySide {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        if let Some(upstream) = self.upstream {
            self.other =
                Some(cx.connect(upstream, ProxySide { upstream: None, other: Some(cx.id()) }));
        }
        if let Some(other) = self.other {
            cx.monitor(other);
        }
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        if let Some(other) = self.other {
            cx.connections().send_to(other, input);
        }
        Advance::consumed(input.len())
    }

    fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
        if let Some(other) = self.other {
            cx.connections().shutdown_write(other);
        }
        Next::Pause // the other direction is still open
    }

    fn output_low(&mut self, _: &mut Context<'_>) -> Next {
        Next::Unchanged
    }

    fn notified(
        &mut self,
        _: ConnectionId,
        notification: Notification,
        _: &mut Context<'_>,
    ) -> Next {
        match notification {
            Notification::AboveHighWatermark => Next::Pause,
            Notification::BelowLowWatermark => Next::Continue,
            Notification::Closed | Notification::ConnectFailed(_) => Next::Close,
            Notification::Rejected => Next::Abort,
            Notification::Connected => Next::Unchanged,
            other @ (Notification::MailboxFull | _) => panic!("unknown notification {other:?}"),
        }
    }
}

/// Why the connections of a test have ended.
type CloseReasons = Rc<RefCell<Vec<CloseReason>>>;

/// A reactor that runs in a thread of its own until `stop`, or until the value is dropped. It
/// serves echo, and a proxy to `upstream`, or without one to that echo.
struct ProxyServer {
    echo: SocketAddr,
    address: SocketAddr,
    /// The write end of the stop signal. When it is closed, the reactor stops.
    stop_writer: Option<std::os::unix::net::UnixStream>,
    thread: Option<thread::JoinHandle<mio_reactor::Stats>>,
}

impl ProxyServer {
    fn start(upstream: Option<SocketAddr>) -> ProxyServer {
        let (stop_reader, stop_writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new(Limits::default()).unwrap();
            reactor.stop_on(stop_reader.into()).unwrap();
            let echo = reactor.listen(any_port(), |_| Echo::new()).unwrap();
            let upstream = upstream.unwrap_or(echo);
            let address = reactor
                .listen(any_port(), move |_| ProxySide { upstream: Some(upstream), other: None })
                .unwrap();
            sender.send((echo, address)).unwrap();
            reactor.run().unwrap();
            reactor.stats().clone()
        });
        let (echo, address) = receiver.recv_timeout(TIMEOUT).unwrap();
        ProxyServer { echo, address, stop_writer: Some(stop_writer), thread: Some(thread) }
    }

    fn stop(mut self) -> mio_reactor::Stats {
        drop(self.stop_writer.take());
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Sends `bytes` and then the FIN. Meanwhile reads all that comes back, up to the peer's FIN.
fn send_all_and_read_all(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    let mut writer = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        received
    })
}

#[test]
fn proxy_forwards_every_byte_and_the_end_of_each_direction() {
    // 8 MiB each way, through watermarks of 64 KiB: both sides pause and resume many times.
    let proxy = ProxyServer::start(None);
    let bytes = pattern(1, 8 << 20);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_same(&send_all_and_read_all(proxy.address, &bytes), &bytes));
        }
    });
    check_echo(&mut connect(proxy.echo), b"without the proxy");
    let stats = proxy.stop();
    assert_eq!((stats.connected, stats.connects_failed, stats.sends_rejected), (2, 0, 0));
    assert_eq!(stats.closed_finished, stats.closed, "all closed gracefully: {stats:?}");
}

#[test]
fn proxy_forwards_an_answer_that_is_sent_after_the_clients_fin() {
    let server = TcpListener::bind(any_port()).unwrap();
    let proxy = ProxyServer::start(Some(server.local_addr().unwrap()));
    let answering = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(format!("{} bytes", request.len()).as_bytes()).unwrap();
    });
    let answer = send_all_and_read_all(proxy.address, &pattern(2, 100_000));
    assert_eq!(answer, b"100000 bytes");
    answering.join().unwrap();
    proxy.stop();
}

#[test]
fn proxy_closes_its_client_when_the_upstream_connect_fails() {
    let closed_port = TcpListener::bind(any_port()).unwrap().local_addr().unwrap(); // dropped here
    let proxy = ProxyServer::start(Some(closed_port));
    let mut stream = connect(proxy.address);
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
    drop(stream);
    let stats = proxy.stop();
    assert_eq!((stats.connected, stats.connects_failed), (0, 1));
}

#[test]
fn reset_of_one_side_of_a_proxy_ends_the_other() {
    let server = TcpListener::bind(any_port()).unwrap();
    let proxy = ProxyServer::start(Some(server.local_addr().unwrap()));
    // First the client, then the server.
    for is_client_reset in [true, false] {
        let mut client = connect(proxy.address);
        client.write_all(b"hello").unwrap();
        let (mut upstream, _) = server.accept().unwrap();
        upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
        upstream.read_exact(&mut [0; 5]).unwrap();
        let mut other = if is_client_reset {
            reset(client);
            upstream
        } else {
            reset(upstream);
            client
        };
        match other.read(&mut [0; 10]) {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    proxy.stop();
}

#[test]
fn proxy_buffers_a_bounded_amount_when_its_upstream_does_not_read() {
    let server = TcpListener::bind(any_port()).unwrap();
    let proxy = ProxyServer::start(Some(server.local_addr().unwrap()));
    let mut client = connect(proxy.address);
    let (mut upstream, _) = server.accept().unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let bytes = pattern(3, 64 << 20);
    let sent = common::fill_buffers(&mut client, &bytes);
    assert!(sent < bytes.len(), "backpressure reaches the client");
    client.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    upstream.read_to_end(&mut received).unwrap();
    assert_same(&received, &bytes[..sent]);
    drop((client, upstream));
    proxy.stop();
}

// ---- a chat room, in the test's thread

/// Sends what its peer sends to all other members.
struct ChatMember {
    members: Rc<RefCell<Vec<ConnectionId>>>,
    close_reasons: CloseReasons,
}

impl Protocol for ChatMember {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.members.borrow_mut().push(cx.id());
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let own = cx.id();
        let members = self.members.clone();
        cx.connections()
            .send_to_all(members.borrow().iter().copied().filter(|&member| member != own), input);
        Advance::consumed(input.len())
    }

    fn notified(
        &mut self,
        about: ConnectionId,
        notification: Notification,
        _: &mut Context<'_>,
    ) -> Next {
        if notification == Notification::Closed {
            self.members.borrow_mut().retain(|&member| member != about);
        }
        Next::Unchanged
    }

    fn closed(&mut self, why: CloseReason) {
        self.close_reasons.borrow_mut().push(why);
    }
}

#[test]
fn broadcast_reaches_ninety_members_and_removes_those_that_have_closed() {
    let members = Rc::new(RefCell::new(Vec::new()));
    let close_reasons = CloseReasons::default();
    let shared = (members.clone(), close_reasons.clone());
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = reactor
        .listen(any_port(), move |_| ChatMember {
            members: shared.0.clone(),
            close_reasons: shared.1.clone(),
        })
        .unwrap();
    let mut streams: Vec<TcpStream> = (0..101).map(|_| connect(address)).collect();
    turn_until(&mut reactor, "101 connections accepted", |stats| stats.accepted == 101);
    drop(streams.drain(60..70));
    turn_until(&mut reactor, "10 connections closed", |stats| stats.closed == 10);
    let message = pattern(4, 10_000);
    streams[5].write_all(&message).unwrap();
    turn_until(&mut reactor, "the broadcast", |stats| stats.bytes_out == 90 * 10_000);
    for (number, stream) in streams.iter_mut().enumerate().filter(|&(number, _)| number != 5) {
        let mut received = vec![0; message.len()];
        stream.read_exact(&mut received).unwrap_or_else(|error| panic!("member {number}: {error}"));
        assert_same(&received, &message);
    }
    turn_until(&mut reactor, "all notifications", |_| members.borrow().len() == 91);
    assert_eq!(*close_reasons.borrow(), [CloseReason::Finished; 10]);
}

// ---- a client

/// Sends one request and the FIN, and stores the answer.
struct RequestClient {
    answer: Rc<RefCell<Vec<u8>>>,
    close_reasons: CloseReasons,
}

impl Protocol for RequestClient {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(b"request");
        let own = cx.id();
        cx.connections().shutdown_write(own);
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
        self.answer.borrow_mut().extend_from_slice(input);
        Advance::consumed(input.len())
    }

    fn closed(&mut self, why: CloseReason) {
        self.close_reasons.borrow_mut().push(why);
    }
}

#[test]
fn client_and_its_server_can_share_a_reactor() {
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let echo = reactor.listen(any_port(), |_| Echo::new()).unwrap();
    let (answer, close_reasons) = (Rc::default(), CloseReasons::default());
    let client = RequestClient { answer: Rc::clone(&answer), close_reasons: close_reasons.clone() };
    reactor.connect(echo, client);
    turn_until(&mut reactor, "both connections closed", |stats| stats.closed == 2);
    assert_eq!(*answer.borrow(), b"request");
    assert_eq!(*close_reasons.borrow(), [CloseReason::Finished]);
    assert_eq!((reactor.stats().accepted, reactor.stats().connected), (1, 1));
}

#[test]
fn client_of_a_closed_port_ends_as_connect_failed() {
    let closed_port = TcpListener::bind(any_port()).unwrap().local_addr().unwrap(); // dropped here
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let close_reasons = CloseReasons::default();
    let client = RequestClient { answer: Rc::default(), close_reasons: close_reasons.clone() };
    reactor.connect(closed_port, client);
    turn_until(&mut reactor, "the connection closed", |stats| stats.closed == 1);
    assert_eq!(*close_reasons.borrow(), [CloseReason::ConnectFailed(ErrorKind::ConnectionRefused)]);
}
