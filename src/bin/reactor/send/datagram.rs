//! `reactor send` over UDP: one datagram is sent, and the one that comes back is printed.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mio_reactor::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX_V6};

use super::printer::ReplyPrinter;
use super::{SendError, describe_failure, describe_input, is_timeout, resolve};
use crate::address::NetAddress;

/// Sends all of `input` as one datagram, and prints the reply.
///
/// The next address of the host is tried only if the kernel reports that nothing listens at this
/// one. An address that does not reply may have received the datagram, so it is the last.
pub(super) fn exchange_datagram(
    host: &NetAddress,
    input: Box<dyn Read + Send>,
    timeout: Duration,
) -> Result<(), SendError> {
    let mut payload = Vec::new();
    let one_too_many = DATAGRAM_BYTES_MAX_V6 as u64 + 1;
    let read = input.take(one_too_many).read_to_end(&mut payload);
    read.map_err(|error| SendError::Failed(describe_input(&error)))?;
    let mut failures = Vec::new();
    for address in resolve(host, timeout)? {
        let bytes_max = if address.is_ipv6() { DATAGRAM_BYTES_MAX_V6 } else { DATAGRAM_BYTES_MAX };
        if payload.len() > bytes_max {
            return Err(SendError::Usage(format!(
                "input too long: a datagram to {address} holds {bytes_max} bytes"
            )));
        }
        match open_datagram(address)
            .and_then(|socket| exchange_with(&socket, address, &payload, timeout))
        {
            Ok(reply) => {
                let mut printer = ReplyPrinter::new()?;
                printer.print(&reply)?;
                return printer.finish();
            }
            Err(error) if is_timeout(&error) => {
                return Err(SendError::Failed(format!("{address}: no reply within {timeout:?}")));
            }
            Err(error) => failures.push(describe_failure(&address, &error)),
        }
    }
    Err(SendError::Failed(failures.join("; ")))
}

fn open_datagram(peer: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if peer.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0))
}

/// Sends `payload` to `address` and returns the first datagram that comes back from there.
pub(super) fn exchange_with(
    socket: &UdpSocket,
    address: SocketAddr,
    payload: &[u8],
    timeout: Duration,
) -> io::Result<Vec<u8>> {
    // A connected socket receives from this address only, and the kernel reports ICMP errors on it
    // (udp(7)).
    socket.connect(address)?;
    if socket.local_addr()? == socket.peer_addr()? {
        return Err(ErrorKind::ConnectionRefused.into()); // a self-connect, as over TCP
    }
    let deadline = Instant::now() + timeout;
    socket.set_write_timeout(Some(timeout))?;
    socket.send(payload)?;
    let mut reply = vec![0; DATAGRAM_BYTES_MAX_V6];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match socket.recv(&mut reply) {
            Ok(count) => {
                reply.truncate(count);
                return Ok(reply);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
