//! One datagram out, and one back.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mio_reactor::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX_V6};

use super::printer::Output;
use super::{Failure, is_timeout, resolve, tell};

/// Sends all of `input` as one datagram, and prints the one that comes back. An address at which certainly nobody listens gives
/// way to the next; one that is silent does not, since it may have heard us.
pub(super) fn ask(
    host: &str,
    input: Box<dyn Read + Send>,
    patience: Duration,
) -> Result<(), Failure> {
    let mut payload = Vec::new();
    let one_too_many = DATAGRAM_BYTES_MAX_V6 as u64 + 1;
    let read = input.take(one_too_many).read_to_end(&mut payload);
    read.map_err(|error| Failure::Failed(format!("standard input: {error}")))?;
    let mut failures = Vec::new();
    for address in resolve(host)? {
        let bytes_max = if address.is_ipv6() { DATAGRAM_BYTES_MAX_V6 } else { DATAGRAM_BYTES_MAX };
        if payload.len() > bytes_max {
            return Err(Failure::Misused(format!(
                "a datagram to {address} has room for {bytes_max} bytes, and there are more"
            )));
        }
        match open_datagram(address)
            .and_then(|socket| exchange(&socket, address, &payload, patience))
        {
            Ok(reply) => {
                let mut output = Output::new();
                output.print(&reply)?;
                return output.finish();
            }
            Err(error) if is_timeout(&error) => {
                return Err(Failure::Failed(format!(
                    "{address}: no reply came within {} ms",
                    patience.as_millis()
                )));
            }
            Err(error) => failures.push(tell(&address, &error)),
        }
    }
    Err(Failure::Failed(failures.join("; ")))
}

fn open_datagram(peer: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if peer.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0))
}

pub(super) fn exchange(
    socket: &UdpSocket,
    address: SocketAddr,
    payload: &[u8],
    patience: Duration,
) -> io::Result<Vec<u8>> {
    // From now on only this address is heard, and the kernel tells of it if nobody listens there.
    socket.connect(address)?;
    if socket.local_addr()? == socket.peer_addr()? {
        return Err(ErrorKind::ConnectionRefused.into()); // it is our own, as over TCP
    }
    socket.send(payload)?;
    let give_up = Instant::now() + patience;
    let mut reply = vec![0; DATAGRAM_BYTES_MAX_V6];
    loop {
        let left = give_up.saturating_duration_since(Instant::now());
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
