//! Echo servers over TCP, each with one fault, and the row that shows it.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::check_each_fails;
use super::common::any_port;

/// Returns a listener and its URL. Its backlog is 128, as in most servers.
fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind(any_port()).unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Serves each connection in a thread of its own, until the process ends. Returns the URL.
pub(super) fn serve_each(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let handle = Arc::new(handle);
    serve_while(move |stream| {
        let handle = Arc::clone(&handle);
        thread::spawn(move || handle(stream));
        true
    })
}

/// Serves one connection at a time, until `handle` returns false for one. Then no further one is
/// accepted.
pub(super) fn serve_while(mut handle: impl FnMut(TcpStream) -> bool + Send + 'static) -> String {
    let (listener, url) = listen();
    thread::spawn(move || {
        while listener.accept().is_ok_and(|(stream, _)| handle(stream)) {}
        loop {
            thread::park(); // the listener stays open
        }
    });
    url
}

/// Serves one connection at a time.
pub(super) fn serve_in_turn(handle: impl Fn(TcpStream) + Send + 'static) -> String {
    serve_while(move |stream| {
        handle(stream);
        true
    })
}

/// Accepts ten connections in all, as where an event stands for some of them only.
pub(super) fn accept_ten(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let handle = Arc::new(handle);
    let mut accepted = 0;
    serve_while(move |stream| {
        let handle = Arc::clone(&handle);
        thread::spawn(move || handle(stream));
        accepted += 1;
        accepted < 10
    })
}

/// Returns whether fewer than `count` connections have been counted.
pub(super) fn counter(count: usize) -> impl FnMut() -> bool + Send {
    let mut counted = 0;
    move || {
        counted += 1;
        counted <= count
    }
}

/// Echoes until the end.
fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            count => stream.write_all(&bytes[..count])?,
        }
    }
}

/// Sends `change` of each read back, until the end or an error.
fn echo_changed(mut stream: TcpStream, mut change: impl FnMut(&mut Vec<u8>)) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        let mut reply = bytes[..count].to_vec();
        change(&mut reply);
        if stream.write_all(&reply).is_err() {
            break;
        }
    }
}

/// Echoes the first `bytes_max` bytes, and reads the others.
fn echo_first(bytes_max: usize) -> impl Fn(TcpStream) + Send + Sync {
    move |stream| {
        let mut left = bytes_max;
        echo_changed(stream, |reply| {
            reply.truncate(left);
            left -= reply.len();
        });
    }
}

/// Reads until the FIN, and closes. What was read is lost.
fn lose_at_fin(mut stream: TcpStream) {
    let _ = io::copy(&mut stream, &mut io::sink());
}

/// Loses at the FIN what the kernel has not taken, of which it keeps little.
fn lose_queue_at_fin(stream: TcpStream) {
    SockRef::from(&stream).set_send_buffer_size(16 * 1024).unwrap();
    let second = stream.try_clone().unwrap();
    echo_without_bound(stream, drop);
    let _ = second.shutdown(Shutdown::Write);
}

/// Answers the FIN with nothing: the connection stays open.
fn keep_after_fin(stream: TcpStream) {
    let _ = echo(&stream);
    std::mem::forget(stream);
}

/// Closes after one read, as where the end of what can be read is taken for the end.
fn close_after_a_read(mut stream: TcpStream) {
    let mut bytes = [0; 1024];
    let count = stream.read(&mut bytes).unwrap_or(0);
    let _ = stream.write_all(&bytes[..count]);
}

/// Returns whether the connection has ended without an error.
fn ends_well(stream: &TcpStream) -> bool {
    echo(stream).is_ok()
}

/// Returns whether a byte was sent before the end.
fn sends_something(stream: &TcpStream) -> bool {
    let mut first = [0];
    let has_byte = matches!(stream.peek(&mut first), Ok(1));
    let _ = echo(stream);
    has_byte
}

/// Keeps every reply in memory until the peer reads. `counted` gets the length of each read.
pub(super) fn echo_without_bound(mut stream: TcpStream, counted: impl Fn(usize)) {
    let (queue, replies) = mpsc::channel::<Vec<u8>>();
    let mut writer = stream.try_clone().unwrap();
    thread::spawn(move || replies.iter().try_for_each(|reply| writer.write_all(&reply)));
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        counted(count);
        let _ = queue.send(bytes[..count].to_vec());
    }
}

/// The same with a bound. Beyond it, the connection ends.
fn echo_up_to(bytes_max: usize, stream: TcpStream) {
    let second = stream.try_clone().unwrap();
    let taken = AtomicUsize::new(0);
    echo_without_bound(stream, |count| {
        if taken.fetch_add(count, SeqCst) + count > bytes_max {
            let _ = second.shutdown(Shutdown::Both);
        }
    });
}

/// Serves a peer's address once.
fn serve_address_once() -> String {
    let known = Mutex::new(HashSet::new());
    serve_each(move |stream| {
        let is_new = stream.peer_addr().is_ok_and(|peer| known.lock().unwrap().insert(peer));
        if is_new {
            let _ = echo(&stream);
        }
    })
}

/// The time in which a client may be silent, where one at a time is served.
const PATIENCE: Duration = Duration::from_secs(10);

fn echo_in_turn() -> String {
    serve_in_turn(|stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = echo(&stream);
    })
}

/// Stops accepting after `count` connections, the one with which the server was found among them.
fn accept_at_most(count: usize) -> String {
    let mut goes_on = counter(count);
    serve_while(move |stream| {
        let goes_on = goes_on();
        let _ = echo(&stream);
        goes_on
    })
}

/// Stops accepting after `count` connections without a byte.
fn accept_silent_at_most(count: usize) -> String {
    let mut goes_on = counter(count);
    serve_while(move |stream| sends_something(&stream) || goes_on())
}

// pitfall: 201
#[test]
fn every_row_of_a_stream_echo_is_failed_by_a_server_with_its_fault() {
    let faulty = [
        ("echo", serve_each(|stream| echo_changed(stream, |reply| reply[0] ^= 1))),
        ("half-close", serve_each(lose_at_fin)),
        ("fin-at-once", serve_each(keep_after_fin)),
        ("half-close-unread", serve_each(lose_queue_at_fin)),
        ("drip", serve_each(echo_first(1))),
        ("pieces", serve_each(|stream| echo_changed(stream, |reply| reply.truncate(4096)))),
        ("pipelining", serve_each(echo_first(1000))),
        ("large-messages", serve_each(echo_first(300_000))),
        ("urgent", serve_each(close_after_a_read)),
        ("two-clients", echo_in_turn()),
        ("silent-crowd", echo_in_turn()),
        ("burst", accept_ten(|stream| drop(echo(&stream)))),
        ("abandoned", accept_silent_at_most(10)),
        ("short-connections", accept_at_most(100)),
        ("reset", serve_while(|stream| ends_well(&stream))),
        ("reset-unread", serve_while(|stream| ends_well(&stream))),
        ("same-address", serve_address_once()),
        ("never-reads", serve_each(|stream| echo_without_bound(stream, drop))),
        ("never-reads-narrow", serve_each(|stream| echo_up_to(4 * 1024 * 1024, stream))),
        ("never-reads-others", echo_in_turn()),
    ];
    check_each_fails(&faulty, &[]);
}
