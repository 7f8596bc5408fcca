//! Echo servers over UDP, each with one fault, and the row that shows it.

use std::net::{SocketAddr, UdpSocket};
use std::thread;

use super::check_each_fails;
use super::common::any_port;

/// Calls `handle` for each datagram until it returns false. Then the socket stays open, and nothing
/// is answered any more. Returns the URL.
fn serve(mut handle: impl FnMut(&UdpSocket, &[u8], SocketAddr) -> bool + Send + 'static) -> String {
    let socket = UdpSocket::bind(any_port()).unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let received = socket.recv_from(&mut bytes);
            let goes_on =
                received.is_ok_and(|(count, peer)| handle(&socket, &bytes[..count], peer));
            if !goes_on {
                thread::park();
            }
        }
    });
    url
}

/// Answers each datagram with what `change` makes of it.
fn answer(mut change: impl FnMut(Vec<u8>) -> Vec<u8> + Send + 'static) -> String {
    serve(move |socket, datagram, peer| {
        let _ = socket.send_to(&change(datagram.to_vec()), peer);
        true
    })
}

fn flip(mut datagram: Vec<u8>) -> Vec<u8> {
    datagram.iter_mut().for_each(|byte| *byte ^= 1);
    datagram
}

fn truncate(bytes_max: usize) -> impl FnMut(Vec<u8>) -> Vec<u8> {
    move |mut datagram| {
        datagram.truncate(bytes_max);
        datagram
    }
}

fn ignore_empty() -> String {
    serve(|socket, datagram, peer| {
        if !datagram.is_empty() {
            let _ = socket.send_to(datagram, peer);
        }
        true
    })
}

fn answer_twice() -> String {
    serve(|socket, datagram, peer| {
        for _ in 0..2 {
            let _ = socket.send_to(datagram, peer);
        }
        true
    })
}

/// Answers the last peer but one.
fn answer_the_peer_before() -> String {
    let mut before = None;
    serve(move |socket, datagram, peer| {
        let _ = socket.send_to(datagram, before.replace(peer).unwrap_or(peer));
        true
    })
}

/// Ends at the datagram `last`, as a server ends at an error that one peer has caused.
fn end_at(last: impl Fn(&[u8]) -> bool + Send + 'static) -> String {
    serve(move |socket, datagram, peer| {
        let _ = socket.send_to(datagram, peer);
        !last(datagram)
    })
}

fn end_at_a_failed_send() -> String {
    serve(|socket, datagram, peer| socket.send_to(datagram, peer).is_ok())
}

// pitfall: 201
#[test]
fn every_row_of_a_udp_echo_is_failed_by_a_server_with_its_fault() {
    let faulty = [
        ("datagram", answer(flip)),
        ("empty", ignore_empty()),
        ("sizes", answer(truncate(1024))),
        ("huge", answer(truncate(60_000))),
        ("burst", answer_twice()),
        ("two-clients", answer_the_peer_before()),
        ("refused", end_at(|datagram| datagram == b"gone")),
        ("never-reads", end_at(|datagram| datagram.len() == 1000)),
        ("port-zero", end_at_a_failed_send()),
        ("service-port", answer(|datagram| datagram)),
        ("own-port", answer(|datagram| datagram)),
    ];
    // Only root may send from port 0 and from ports below 1024. Elsewhere than on Linux, this
    // machine has no second loopback address.
    let may_skip: &[&str] = match cfg!(target_os = "linux") {
        true => &["port-zero", "service-port"],
        false => &["port-zero", "service-port", "own-port"],
    };
    check_each_fails(&faulty, may_skip);
}
