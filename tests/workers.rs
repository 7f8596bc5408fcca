//! Worker threads over the public API: results come late, and only to what has asked.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::any::Any;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::sync::{Arc, Mutex, mpsc};
#[cfg(feature = "http")]
use std::thread;

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

// pitfall: 211
#[test]
fn reply_of_a_thread_is_sent_later_and_others_meanwhile() {
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let address = run_in_thread(move |reactor| {
        let workers = reactor.workers(1, 0).unwrap();
        let mut may_go_on = Some(may_go_on);
        let respond = move |datagram: &Datagram<'_>, replies: &mut Replies<'_>| {
            let payload = datagram.payload.to_vec();
            // Only the first one is worked for. The thread may not wait yet, so this asks again.
            let Some(may_go_on) = may_go_on.take() else { return replies.send(b"at once") };
            let may_go_on = Arc::new(Mutex::new(may_go_on));
            loop {
                let (payload, may_go_on) = (payload.clone(), Arc::clone(&may_go_on));
                let job = move || {
                    let _ = may_go_on.lock().unwrap().recv();
                    payload
                };
                if replies.send_later(&workers, job).is_ok() {
                    break;
                }
            }
        };
        reactor.bind_datagram(any_port(), respond).unwrap()
    });
    let socket = UdpSocket::bind(any_port()).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut received = [0; 10];
    socket.send_to(b"later", address).unwrap();
    socket.send_to(b"now", address).unwrap();
    let count = socket.recv(&mut received).unwrap();
    assert_eq!(&received[..count], b"at once");
    go_on.send(()).unwrap();
    let count = socket.recv(&mut received).unwrap();
    assert_eq!(&received[..count], b"later");
}

/// Sends a request for `path`, and returns the status of the response and its body.
#[cfg(feature = "http")]
fn get(address: std::net::SocketAddr, path: &str) -> (String, String) {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head[9..12].to_owned(), body.to_owned())
}

// pitfall: 211
#[test]
#[cfg(feature = "http")]
fn promised_job_answers_or_fails_and_one_too_many_gets_503() {
    use mio_reactor::{Http, Response};
    use std::time::Duration;

    let (started, has_started) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Arc::new(Mutex::new(may_go_on));
    let address = run_in_thread(move |reactor| {
        let workers = reactor.workers(1, 1).unwrap();
        let respond = Http::each(move |request, cx| {
            let (path, started) = (request.path().to_vec(), started.clone());
            let may_go_on = Arc::clone(&may_go_on);
            let job = move || match &path[..] {
                b"/panic" => panic!("a job that panics"),
                b"/wait" => {
                    started.send(()).unwrap();
                    let _ = may_go_on.lock().unwrap().recv();
                    6 * 7
                }
                _ => 6 * 7,
            };
            let deadline = match request.path() {
                b"/late" => Duration::from_millis(1),
                _ => TIMEOUT,
            };
            cx.promise_job(&workers, deadline, job, |result: u32| {
                Response::text(result.to_string())
            })
        });
        reactor.listen(any_port(), respond).unwrap()
    });
    assert_eq!(get(address, "/"), ("200".to_owned(), "42".to_owned()));
    assert_eq!(get(address, "/panic").0, "500");
    let waiting = thread::spawn(move || get(address, "/wait"));
    has_started.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(get(address, "/late").0, "504", "it waits in the queue, and is skipped then");
    assert_eq!(get(address, "/").0, "503", "the one that is late still has the place");
    go_on.send(()).unwrap();
    assert_eq!(waiting.join().unwrap().0, "200");
}
