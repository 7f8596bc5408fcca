//! Connections that reach each other, over the public API and real sockets: a proxy, and a room.

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

/// One side of a proxy: all that comes goes to the other, and so does the end.
struct Side {
    /// Who is asked for what the clients want; `None` for the side that faces it.
    upstream: Option<SocketAddr>,
    other: Option<ConnectionId>,
}

impl Protocol for Side {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        if let Some(upstream) = self.upstream {
            self.other = Some(cx.connect(upstream, Side { upstream: None, other: Some(cx.id()) }));
        }
        if let Some(other) = self.other {
            cx.monitor(other);
        }
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        if let Some(other) = self.other {
            cx.send_to(other, input);
        }
        Advance::consumed(input.len())
    }

    fn eof(&mut self, _: &[u8], cx: &mut Context<'_>) -> Next {
        if let Some(other) = self.other {
            cx.shutdown_write(other);
        }
        Next::Pause // what the other still says is to come through
    }

    fn output_low(&mut self, _: &mut Context<'_>) -> Next {
        Next::Unchanged
    }

    fn notified(&mut self, _: ConnectionId, news: Notification, _: &mut Context<'_>) -> Next {
        match news {
            Notification::AboveHighWatermark => Next::Pause,
            Notification::BelowLowWatermark => Next::Continue,
            Notification::Closed | Notification::ConnectFailed(_) => Next::Close,
            Notification::Rejected => Next::Abort,
            Notification::Connected => Next::Unchanged,
            other => panic!("{other:?} is new"),
        }
    }
}

/// How the proxies and servers of a test have ended.
type Endings = Rc<RefCell<Vec<CloseReason>>>;

/// A reactor that runs in a thread of its own until the value goes. It serves an echo, and a proxy to `upstream`, or to that
/// echo.
struct Running {
    echo: SocketAddr,
    proxy: SocketAddr,
    rope: Option<std::os::unix::net::UnixStream>,
    thread: Option<thread::JoinHandle<mio_reactor::Stats>>,
}

impl Running {
    fn start(upstream: Option<SocketAddr>) -> Running {
        let (bell, rope) = std::os::unix::net::UnixStream::pair().unwrap();
        bell.set_nonblocking(true).unwrap();
        let (tell, addresses) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut reactor = Reactor::new(Limits::default()).unwrap();
            reactor.stop_on(mio::net::UnixStream::from_std(bell)).unwrap();
            let echo = reactor.listen(any_port(), |_| Echo::new()).unwrap();
            let upstream = upstream.unwrap_or(echo);
            let proxy = reactor
                .listen(any_port(), move |_| Side { upstream: Some(upstream), other: None })
                .unwrap();
            tell.send((echo, proxy)).unwrap();
            reactor.run().unwrap();
            reactor.stats().clone()
        });
        let (echo, proxy) = addresses.recv_timeout(TIMEOUT).unwrap();
        Running { echo, proxy, rope: Some(rope), thread: Some(thread) }
    }

    fn stop(mut self) -> mio_reactor::Stats {
        drop(self.rope.take());
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Sends `bytes` and then the FIN, while all that comes back is read to its end.
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
fn a_proxy_hands_on_every_byte_and_the_end_of_each_direction() {
    // Eight MiB there and back, through marks that hold 64 KiB: both sides pause and go on many times.
    let running = Running::start(None);
    let bytes = pattern(1, 8 << 20);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_same(&send_all_and_read_all(running.proxy, &bytes), &bytes));
        }
    });
    check_echo(&mut connect(running.echo), b"the echo itself");
    let stats = running.stop();
    assert_eq!((stats.connected, stats.connects_failed, stats.sends_rejected), (2, 0, 0));
    assert_eq!(stats.closed_finished, stats.closed, "all ended in order: {stats:?}");
}

#[test]
fn a_server_that_answers_only_after_the_end_is_heard_through_a_proxy() {
    let server = TcpListener::bind(any_port()).unwrap();
    let running = Running::start(Some(server.local_addr().unwrap()));
    let answering = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap();
        stream.write_all(format!("{} bytes", question.len()).as_bytes()).unwrap();
    });
    let answer = send_all_and_read_all(running.proxy, &pattern(2, 100_000));
    assert_eq!(answer, b"100000 bytes");
    answering.join().unwrap();
    running.stop();
}

#[test]
fn a_client_of_a_proxy_to_nobody_is_closed() {
    let nobody = TcpListener::bind(any_port()).unwrap().local_addr().unwrap(); // and closed again
    let running = Running::start(Some(nobody));
    let mut stream = connect(running.proxy);
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
    drop(stream);
    let stats = running.stop();
    assert_eq!((stats.connected, stats.connects_failed), (0, 1));
}

#[test]
fn when_one_side_of_a_proxy_is_reset_the_other_ends() {
    let server = TcpListener::bind(any_port()).unwrap();
    let running = Running::start(Some(server.local_addr().unwrap()));
    // First the client, then the server.
    for who in 0..2 {
        let mut client = connect(running.proxy);
        client.write_all(b"hello").unwrap();
        let (mut upstream, _) = server.accept().unwrap();
        upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
        upstream.read_exact(&mut [0; 5]).unwrap();
        let mut other = if who == 0 {
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
    running.stop();
}

#[test]
fn a_proxy_to_a_server_that_does_not_read_holds_a_bounded_part() {
    let server = TcpListener::bind(any_port()).unwrap();
    let running = Running::start(Some(server.local_addr().unwrap()));
    let mut client = connect(running.proxy);
    let (mut upstream, _) = server.accept().unwrap();
    upstream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let bytes = pattern(3, 64 << 20);
    let sent = common::fill_buffers(&mut client, &bytes);
    assert!(sent < bytes.len(), "it is held up");
    client.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    upstream.read_to_end(&mut received).unwrap();
    assert_same(&received, &bytes[..sent]);
    drop((client, upstream));
    running.stop();
}

// ---- a room, in the test's thread

/// Says to all others what one says.
struct Guest {
    room: Rc<RefCell<Vec<ConnectionId>>>,
    endings: Endings,
}

impl Protocol for Guest {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.room.borrow_mut().push(cx.id());
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], cx: &mut Context<'i>) -> Advance {
        let own = cx.id();
        let room = self.room.clone();
        cx.send_to_all(room.borrow().iter().copied().filter(|&guest| guest != own), input);
        Advance::consumed(input.len())
    }

    fn notified(&mut self, about: ConnectionId, news: Notification, _: &mut Context<'_>) -> Next {
        if news == Notification::Closed {
            self.room.borrow_mut().retain(|&guest| guest != about);
        }
        Next::Unchanged
    }

    fn closed(&mut self, why: CloseReason) {
        self.endings.borrow_mut().push(why);
    }
}

#[test]
fn what_a_guest_says_reaches_a_hundred_others_and_those_who_have_left_are_forgotten() {
    let room = Rc::new(RefCell::new(Vec::new()));
    let endings = Endings::default();
    let shared = (room.clone(), endings.clone());
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let address = reactor
        .listen(any_port(), move |_| Guest { room: shared.0.clone(), endings: shared.1.clone() })
        .unwrap();
    let mut guests: Vec<TcpStream> = (0..101).map(|_| connect(address)).collect();
    turn_until(&mut reactor, "all are in", |stats| stats.accepted == 101);
    drop(guests.drain(60..70));
    turn_until(&mut reactor, "some leave", |stats| stats.closed == 10);
    let speech = pattern(4, 10_000);
    guests[5].write_all(&speech).unwrap();
    turn_until(&mut reactor, "all have heard", |stats| stats.bytes_out == 90 * 10_000);
    for (number, guest) in guests.iter_mut().enumerate().filter(|&(number, _)| number != 5) {
        let mut heard = vec![0; speech.len()];
        guest.read_exact(&mut heard).unwrap_or_else(|error| panic!("guest {number}: {error}"));
        assert_same(&heard, &speech);
    }
    turn_until(&mut reactor, "the news is told", |_| room.borrow().len() == 91);
    assert_eq!(*endings.borrow(), [CloseReason::Finished; 10]);
}

// ---- a client

/// Asks one question, and keeps the answer.
struct Question {
    answer: Rc<RefCell<Vec<u8>>>,
    endings: Endings,
}

impl Protocol for Question {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        cx.send(b"Is anybody there?");
        cx.shutdown_write(cx.id());
        Next::Continue
    }

    fn advance<'i>(&mut self, input: &'i [u8], _: &mut Context<'i>) -> Advance {
        self.answer.borrow_mut().extend_from_slice(input);
        Advance::consumed(input.len())
    }

    fn closed(&mut self, why: CloseReason) {
        self.endings.borrow_mut().push(why);
    }
}

#[test]
fn a_client_and_its_server_can_live_in_one_reactor() {
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let echo = reactor.listen(any_port(), |_| Echo::new()).unwrap();
    let (answer, endings) = (Rc::default(), Endings::default());
    reactor.connect(echo, Question { answer: Rc::clone(&answer), endings: endings.clone() });
    turn_until(&mut reactor, "both end", |stats| stats.closed == 2);
    assert_eq!(*answer.borrow(), b"Is anybody there?");
    assert_eq!(*endings.borrow(), [CloseReason::Finished]);
    assert_eq!((reactor.stats().accepted, reactor.stats().connected), (1, 1));
}

#[test]
fn a_client_of_nobody_is_told_that_it_was_refused() {
    let nobody = TcpListener::bind(any_port()).unwrap().local_addr().unwrap(); // and closed again
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let endings = Endings::default();
    reactor.connect(nobody, Question { answer: Rc::default(), endings: endings.clone() });
    turn_until(&mut reactor, "it ends", |stats| stats.closed == 1);
    assert_eq!(*endings.borrow(), [CloseReason::ConnectFailed(ErrorKind::ConnectionRefused)]);
}
