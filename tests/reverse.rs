//! The example docs/examples/reverse.rs, in a process of its own.

// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../docs/examples/reverse.rs"]
mod reverse;

use std::io::Write;

use common::{Program, any_port, be_server, check_end, connect};

/// What [`Program::start_server`] runs in a process of its own.
#[test]
#[ignore = "is a server, not a test"]
fn be_a_server() {
    be_server(|reactor, _| reverse::listen(reactor, any_port()));
}

#[test]
fn each_line_comes_back_reversed_however_it_arrives() {
    let (_server, address) = Program::start_server("be_a_server", "");
    let mut client = connect(address);
    for piece in ["Hello wor", "ld\n", "\n", "Grüße\r\nab", "c\nhalf"] {
        client.write_all(piece.as_bytes()).unwrap();
    }
    client.shutdown(std::net::Shutdown::Write).unwrap();
    check_end(client, "dlrow olleH\n\neßürG\ncba\n".as_bytes());
}

#[test]
fn line_without_end_closes_its_connection() {
    let (_server, address) = Program::start_server("be_a_server", "");
    let mut client = connect(address);
    client.write_all(&[b'x'; 5000]).unwrap();
    check_end(client, b"");
}
