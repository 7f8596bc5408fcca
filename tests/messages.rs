//! Messages to the protocols of connections, over the public API: from tasks, and from other
//! connections.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::any::Any;
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

use common::{any_port, connect, turn_until};
use mio_reactor::limits::MAILBOX_MESSAGES_MAX;
use mio_reactor::{
    Advance, ConnectionId, Context, Limits, Next, Notification, Protocol, Reactor, SendError,
};

/// What the protocols of a test share: their ids in the order of their opening, and what has
/// happened to them.
#[derive(Default)]
struct Shared {
    ids: Vec<ConnectionId>,
    notified: Vec<Notification>,
    received: usize,
}

/// Sends its peer each number that it is told. A line of its peer makes it send the numbers of that
/// line to the first connection.
struct Teller(Rc<RefCell<Shared>>);

impl Protocol for Teller {
    fn opened(&mut self, cx: &mut Context<'_>) -> Next {
        self.0.borrow_mut().ids.push(cx.id());
        Next::Continue
    }

    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            return Advance::need_more();
        };
        let first = self.0.borrow().ids[0];
        for number in std::str::from_utf8(&input[..end]).unwrap().split(' ') {
            cx.connections().send_message(first, number.parse::<u32>().unwrap());
        }
        Advance::consumed(end + 1)
    }

    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        self.0.borrow_mut().received += 1;
        if let Ok(number) = message.downcast::<u32>() {
            cx.send(format!("{number} ").as_bytes());
        }
        Next::Unchanged
    }

    fn notified(&mut self, _: ConnectionId, what: Notification, _: &mut Context<'_>) -> Next {
        self.0.borrow_mut().notified.push(what);
        Next::Unchanged
    }
}

/// Makes a reactor with `count` connections.
fn tellers(count: usize) -> (Reactor, Vec<TcpStream>, Rc<RefCell<Shared>>) {
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let shared = Rc::new(RefCell::new(Shared::default()));
    let address = listen(&mut reactor, &shared);
    let mut streams = Vec::new();
    for number in 0..count {
        streams.push(connect(address));
        turn_until(&mut reactor, "messages", |_| shared.borrow().ids.len() > number);
    }
    (reactor, streams, shared)
}

fn listen(reactor: &mut Reactor, shared: &Rc<RefCell<Shared>>) -> SocketAddr {
    let shared = shared.clone();
    reactor.listen(any_port(), move |_| Teller(shared.clone())).unwrap()
}

fn read_some(stream: &mut TcpStream, text: &str) {
    let mut received = vec![0; text.len()];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(String::from_utf8(received).unwrap(), text);
}

#[test]
fn messages_of_another_connection_arrive_in_order() {
    let (mut reactor, mut streams, shared) = tellers(2);
    streams[1].write_all(b"1 2 3\n4\n").unwrap();
    turn_until(&mut reactor, "messages", |_| shared.borrow().received == 4);
    turn_until(&mut reactor, "messages", |stats| stats.bytes_out > 0);
    read_some(&mut streams[0], "1 2 3 4 ");
    assert_eq!(shared.borrow().notified, []);
}

#[test]
fn message_to_a_closed_connection_is_an_error_and_is_notified() {
    let (mut reactor, mut streams, shared) = tellers(2);
    let first = shared.borrow().ids[0];
    drop(streams.remove(0));
    turn_until(&mut reactor, "messages", |stats| stats.connections == 1);
    assert_eq!(reactor.send_message(first, 5_u32), Err(SendError::Closed));
    streams[0].write_all(b"6 7\n").unwrap();
    turn_until(&mut reactor, "messages", |_| shared.borrow().notified.len() == 2);
    assert_eq!(shared.borrow().notified, [Notification::Closed; 2]);
    assert_eq!(shared.borrow().received, 0);
}

#[test]
fn full_mailbox_takes_no_more_and_its_sender_is_told() {
    let (mut reactor, mut streams, shared) = tellers(2);
    let first = shared.borrow().ids[0];
    for _ in 0..MAILBOX_MESSAGES_MAX {
        assert_eq!(reactor.send_message(first, "not a number"), Ok(()));
    }
    assert_eq!(reactor.send_message(first, 5_u32), Err(SendError::Rejected));
    turn_until(&mut reactor, "messages", |_| shared.borrow().received == MAILBOX_MESSAGES_MAX);
    assert_eq!(reactor.send_message(first, 6_u32), Ok(()), "there is room again");
    turn_until(&mut reactor, "messages", |_| shared.borrow().received == MAILBOX_MESSAGES_MAX + 1);
    read_some(&mut streams[0], "6 ");
    let line = vec!["8"; MAILBOX_MESSAGES_MAX + 3].join(" ") + "\n";
    streams[1].write_all(line.as_bytes()).unwrap();
    turn_until(&mut reactor, "messages", |_| shared.borrow().notified.len() == 3);
    assert_eq!(shared.borrow().notified, [Notification::MailboxFull; 3]);
    turn_until(&mut reactor, "messages", |_| {
        shared.borrow().received == 2 * MAILBOX_MESSAGES_MAX + 1
    });
    assert_eq!(reactor.stats().messages_rejected, 4);
}

#[test]
fn messages_to_a_connection_that_is_connecting_wait_for_it() {
    let (mut reactor, _streams, shared) = tellers(0);
    let address = listen(&mut reactor, &Rc::default());
    let id = reactor.connect(address, Teller(shared.clone()));
    for number in [1_u32, 2] {
        assert_eq!(reactor.send_message(id, number), Ok(()));
    }
    turn_until(&mut reactor, "messages", |_| shared.borrow().received == 2);
    assert_eq!(shared.borrow().ids, [id], "it was opened before");
}

#[test]
fn messages_that_wait_for_a_failed_connect_are_dropped() {
    let refused = std::net::TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let (mut reactor, _streams, shared) = tellers(0);
    let id = reactor.connect(refused, Teller(shared.clone()));
    let value = Rc::new(());
    if reactor.send_message(id, value.clone()).is_ok() {
        turn_until(&mut reactor, "messages", |_| Rc::strong_count(&value) == 1);
    }
    assert_eq!(shared.borrow().received, 0);
    assert_eq!(reactor.send_message(id, 1_u32), Err(SendError::Closed));
}
