//! The example docs/examples/signals.rs in a process of its own, and the signals that stop it.

#![cfg(unix)]
// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "../docs/examples/signals.rs"]
mod signals;

use common::{Program, any_port, be_server, check_echo, check_end, connect};

/// What [`Program::start_server`] runs in a process of its own.
#[test]
#[ignore = "is a server, not a test"]
fn be_a_server() {
    be_server(|reactor, _| signals::listen(reactor, any_port()));
}

#[test]
fn either_signal_closes_idle_connections_and_ends_in_order() {
    for signal in ["INT", "TERM"] {
        let (server, address) = Program::start_server("be_a_server", "");
        let mut client = connect(address);
        check_echo(&mut client, b"hello");
        server.signal(signal);
        check_end(client, b"");
        assert_eq!(server.wait().status.code(), Some(0), "SIG{signal}");
    }
}

#[test]
fn second_signal_ends_the_process_while_a_peer_does_not_read() {
    let (server, address) = Program::start_server("be_a_server", "");
    let mut client = common::connect_narrow(address);
    // Output waits for this client, so its connection is not idle and the stop waits for it.
    common::fill_buffers(&mut client, &common::pattern(1, 64 << 20));
    let mut idle = connect(address);
    check_echo(&mut idle, b"hello");
    server.signal("TERM");
    check_end(idle, b""); // the stop has begun
    server.signal("INT");
    assert_eq!(server.wait().status.code(), Some(128 + 2));
}
