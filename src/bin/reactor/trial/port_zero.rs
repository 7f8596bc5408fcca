//! The row with a datagram from port 0, which no reply can be sent to.
//!
//! Port 0 means that no reply is wanted (RFC 768). No socket can be bound to it, so the UDP header
//! is written here, and a raw socket sends it (raw(7)). Only root may open one.

use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use super::datagrams::check_served;
use super::row::Fault;
use super::subject::Subject;

pub(super) fn check(subject: &Subject<'_>) -> Result<(), Fault> {
    let server = subject.net_address()?;
    send_from_port_zero(server, b"from port 0").map_err(Fault::Skipped)?;
    check_served(subject, "after a datagram from port 0")
}

fn send_from_port_zero(server: SocketAddr, payload: &[u8]) -> Result<(), String> {
    if server.is_ipv6() {
        // Over IPv6 there has to be a checksum.
        return Err("a datagram from port 0 is sent over IPv4 only".to_string());
    }
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))
        .map_err(|error| format!("a raw socket needs root: {error}"))?;
    let to = SocketAddr::new(server.ip(), 0);
    let sent = socket.send_to(&datagram(server.port(), payload), &to.into());
    sent.map(drop).map_err(|error| format!("a raw socket: {error}"))
}

/// Returns a UDP header without a checksum, and the payload (RFC 768).
fn datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("the payload is short");
    let words = [0, port, length, 0];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_has_port_zero_the_servers_port_and_the_length() {
        assert_eq!(datagram(2000, b"ab"), b"\0\0\x07\xd0\0\x0a\0\0ab");
    }
}
