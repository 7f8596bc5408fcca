//! Worker threads over the public API: results come late, and only to what has asked.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::any::Any;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::sync::mpsc;

use common::{TIMEOUT, any_port, connect, run_in_thread};
use mio_reactor::{
    Advance, Context, Datagram, DatagramProtocol, JobPanicked, Limits, Next, Protocol, Reactor,
    Replies, Workers,
};

/// Answers each byte with the next one, which a thread computes. On 255, that panics.
struct Successor(Workers);

impl Protocol for Successor {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        let byte = input[0];
        self.0.submit_for(cx.id(), move || byte.checked_add(1).unwrap()).unwrap();
        Advance::consumed(1).then(Next::Pause)
    }

    fn message_received(&mut self, message: Box<dyn Any>, cx: &mut Context<'_>) -> Next {
        match message.downcast_ref::<u8>() {
            Some(byte) => cx.send(&[*byte]),
            None if message.is::<JobPanicked>() => cx.send(b"panicked"),
            None => return Next::Abort,
        }
        Next::Continue
    }
}

/// The same over datagrams.
struct SuccessorOfDatagrams(Workers);

impl DatagramProtocol for SuccessorOfDatagrams {
    fn received(&mut self, datagram: &Datagram<'_>, replies: &mut Replies<'_>) {
        let (peer, byte) = (datagram.peer, datagram.payload[0]);
        self.0.submit_for(replies.id(), move || (peer, [byte + 1])).unwrap();
    }

    fn message_received(&mut self, message: Box<dyn Any>, replies: &mut Replies<'_>) {
        let (peer, reply) = *message.downcast::<(std::net::SocketAddr, [u8; 1])>().unwrap();
        replies.send_to(peer, &reply);
    }
}

#[test]
fn results_of_threads_arrive_in_order_and_a_panic_is_told() {
    let address = run_in_thread(|reactor| {
        let workers = reactor.workers(4, 10).unwrap();
        reactor.listen(any_port(), move |_| Successor(workers.clone())).unwrap()
    });
    let mut stream = connect(address);
    stream.write_all(b"\x01\x02\xff\x03").unwrap();
    let mut received = [0; 11];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"\x02\x03panicked\x04");
}

// pitfall: 210
#[test]
fn result_of_a_thread_answers_a_datagram() {
    let address = run_in_thread(|reactor| {
        let workers = reactor.workers(2, 10).unwrap();
        reactor.bind_datagram(any_port(), SuccessorOfDatagrams(workers)).unwrap()
    });
    let socket = UdpSocket::bind(any_port()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    for byte in 0..20 {
        socket.send_to(&[byte], address).unwrap();
        let mut received = [0; 2];
        assert_eq!(socket.recv(&mut received).unwrap(), 1);
        assert_eq!(received[0], byte + 1);
    }
}

#[test]
fn threads_end_with_the_last_clone_after_the_jobs_that_wait() {
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let workers = reactor.workers(1, 2).unwrap();
    let (started, has_started) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (done, is_done) = mpsc::channel();
    let first = done.clone();
    workers
        .submit(move || {
            started.send(()).unwrap();
            let _ = may_go_on.recv();
            first.send(1).unwrap();
        })
        .unwrap();
    has_started.recv_timeout(TIMEOUT).unwrap();
    let second = done.clone();
    workers.submit(move || second.send(2).unwrap()).unwrap();
    workers.submit(move || drop(done)).unwrap();
    assert!(workers.submit(|| ()).is_err(), "two wait already");
    drop((workers, reactor, go_on));
    assert_eq!(is_done.recv_timeout(TIMEOUT), Ok(1));
    assert_eq!(is_done.recv_timeout(TIMEOUT), Ok(2));
    assert!(is_done.recv_timeout(TIMEOUT).is_err(), "no thread is left that could send");
}
