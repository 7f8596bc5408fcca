//! The program's echo over TCP and UDP: every byte in order, every datagram whole.
//!
//! `streams` and `datagrams` have the tests of one protocol each. The tests in this file are about
//! both, and about their addresses.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "echo/datagrams.rs"]
mod datagrams;
#[path = "echo/streams.rs"]
mod streams;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};

use common::{
    Program, assert_same, check_echo, check_end, connect, connect_udp, pattern, retry_interrupted,
};

const MIB: usize = 1024 * 1024;

// ---- addresses

// pitfall: 39
#[test]
fn both_wildcards_can_have_the_same_port() {
    // The first program takes any port of IPv4, and the second takes the same port of IPv6. Each
    // serves its own family.
    let any_ports = ["--tcp", "0.0.0.0:0", "--udp", "0.0.0.0:0"];
    let (first, second) = Program::start_pair(&any_ports, |first| {
        let addresses = [first.tcp(), first.udp()].map(|own| format!("[::]:{}", own.port()));
        let [tcp, udp] = addresses.each_ref().map(String::as_str);
        ["--tcp", tcp, "--udp", udp, "--prefix", "six: "].map(str::to_owned).to_vec()
    });
    let (tcp, udp) = (first.tcp().port(), first.udp().port());
    assert_eq!((second.tcp().port(), second.udp().port()), (tcp, udp));
    check_echo(&mut connect(SocketAddr::from(([127, 0, 0, 1], tcp))), b"four");
    let mut six = connect(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], tcp)));
    six.write_all(b"hello").unwrap();
    six.shutdown(Shutdown::Write).unwrap();
    check_end(six, b"six: hello");
    check_datagrams(&connect_udp(SocketAddr::from(([127, 0, 0, 1], udp))), &[b"four"], b"");
    check_datagrams(
        &connect_udp(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], udp))),
        &[b"hello"],
        b"six: ",
    );
}

// pitfall: 39
#[test]
fn either_wildcard_may_come_first() {
    // As above, the other way round: the IPv6 wildcard does not take the IPv4 port.
    let (first, second) = Program::start_pair(&["--tcp", "[::]:0"], |first| {
        let address = format!("0.0.0.0:{}", first.tcp().port());
        ["--tcp", &address, "--prefix", "four: "].map(str::to_owned).to_vec()
    });
    let port = first.tcp().port();
    check_echo(&mut connect(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))), b"six");
    let mut four = connect(SocketAddr::from(([127, 0, 0, 1], port)));
    four.write_all(b"hello").unwrap();
    four.shutdown(Shutdown::Write).unwrap();
    check_end(four, b"four: hello");
    assert_eq!(second.tcp().port(), port);
}

// ---- datagrams

/// The next datagram received is `prefix` and `datagram`, whole.
#[track_caller]
fn check_reply(socket: &UdpSocket, datagram: &[u8], prefix: &[u8]) {
    let mut reply = vec![0; 65_536];
    let count = retry_interrupted(|| socket.recv(&mut reply)).unwrap();
    assert_same(&reply[..count], &[prefix, datagram].concat());
}

/// Sends all `datagrams`. Each must come back with `prefix` before it, whole, and in order.
#[track_caller]
fn check_datagrams(socket: &UdpSocket, datagrams: &[&[u8]], prefix: &[u8]) {
    for datagram in datagrams {
        assert_eq!(socket.send(datagram).unwrap(), datagram.len());
    }
    for datagram in datagrams {
        check_reply(socket, datagram, prefix);
    }
}

// ---- the whole program

#[test]
fn one_program_serves_three_protocols_at_once() {
    let program =
        Program::start(&["--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let (mut stream, socket) = (connect(program.tcp()), connect_udp(program.udp()));
    for round in 0..20 {
        check_echo(&mut stream, &pattern(round, 1000));
        check_datagrams(&socket, &[&pattern(round, 1000)], b"");
        let mut browser = connect(program.http());
        browser.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        browser.read_to_string(&mut page).unwrap();
        assert!(page.starts_with("HTTP/1.0 200 OK\r\n") && page.contains("Hello world!"), "{page}");
    }
}

#[test]
fn repeated_flags_open_one_socket_each() {
    // Each address is served, and printed in the order of the command line.
    let (v4, v6) = ("127.0.0.1:0", "[::1]:0");
    let program = Program::start(&["--tcp", v4, "--udp", v6, "--tcp", v6, "--udp", v4]);
    let (tcp, udp) = (program.addresses("tcp echo"), program.addresses("udp echo"));
    assert_eq!(tcp.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [false, true]);
    assert_eq!(udp.iter().map(SocketAddr::is_ipv6).collect::<Vec<_>>(), [true, false]);
    tcp.iter().for_each(|&address| check_echo(&mut connect(address), b"stream"));
    udp.iter().for_each(|&address| check_datagrams(&connect_udp(address), &[b"datagram"], b""));
}
