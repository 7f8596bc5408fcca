//! Answers of HTTP requests that other threads give, over the public API.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "http")]

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use common::{TIMEOUT, any_port, connect, run_in_thread};
use mio_reactor::{ContentType, Http, HttpContext, Limits, Promise, Request, Responder, Response};

/// Sends each promise, with the path that was asked for, to a worker.
#[derive(Clone)]
struct ToWorkers(Sender<(String, Promise)>);

impl Responder for ToWorkers {
    fn respond(&mut self, request: &Request<'_>, cx: &mut HttpContext<'_, '_>) -> Response<'_> {
        let (promise, response) = cx.promise(Duration::from_secs(60));
        let path = request.path().escape_ascii().to_string();
        self.0.send((path, promise)).unwrap();
        response
    }
}

/// Sends all promises to one worker thread, which calls `work`.
fn to_worker(work: impl Fn(String, Promise) + Send + 'static) -> ToWorkers {
    let (sender, receiver) = channel();
    thread::spawn(move || receiver.iter().for_each(|(path, promise)| work(path, promise)));
    ToWorkers(sender)
}

/// Serves with such a worker, in a thread of its own.
fn serve(work: impl Fn(String, Promise) + Send + 'static) -> SocketAddr {
    let responder = to_worker(work);
    run_in_thread(|reactor| {
        reactor.listen(any_port(), move |_| Http::new(responder.clone())).unwrap()
    })
}

/// Returns what a client receives that asks for `path` and closes.
fn ask(address: SocketAddr, path: &str) -> String {
    let mut client = connect(address);
    write!(client, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

// pitfall: 175
#[test]
fn promises_are_settled_by_worker_threads() {
    fn crosses_threads<T: Send + 'static>() {}
    crosses_threads::<Promise>();
    let address = serve(|path, promise| match path.as_str() {
        "/panic" => {
            let worker = thread::spawn(move || {
                let _promise = promise;
                panic!("on purpose");
            });
            assert!(worker.join().is_err());
        }
        "/drop" => drop(promise),
        _ => promise.fulfill(move || Response::ok(ContentType::TEXT, path.into_bytes())),
    });
    for number in 0..50 {
        assert!(ask(address, &format!("/{number}")).ends_with(&format!("\r\n\r\n/{number}")));
    }
    for path in ["/panic", "/drop"] {
        assert!(ask(address, path).starts_with("HTTP/1.0 500 "), "{path}");
    }
    let clients: Vec<_> =
        (0..8).map(|number| thread::spawn(move || ask(address, &format!("/{number}")))).collect();
    for (number, client) in clients.into_iter().enumerate() {
        assert!(client.join().unwrap().ends_with(&format!("/{number}")));
    }
}

// pitfall: 174
#[test]
fn worker_learns_that_the_client_has_left() {
    let (left, has_left) = channel();
    let address = serve(move |_, promise| {
        while promise.is_wanted() {
            thread::yield_now();
        }
        left.send(()).unwrap();
    });
    let mut client = connect(address);
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    common::reset(client);
    has_left.recv_timeout(TIMEOUT).unwrap();
}

#[test]
fn promise_outlives_its_reactor() {
    let (sender, receiver) = channel();
    let responder = to_worker(move |_, promise| sender.send(promise).unwrap());
    let (mut reactor, address) =
        common::serve(Limits::default(), move |_| Http::new(responder.clone()));
    let mut client = connect(address);
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    common::turn_until(&mut reactor, "a promise", |stats| stats.answers_promised == 1);
    let promise = receiver.recv_timeout(TIMEOUT).unwrap();
    drop(reactor);
    assert!(!promise.is_wanted());
    promise.fulfill(|| unreachable!("no client waits for it"));
}
