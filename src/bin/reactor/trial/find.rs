//! Finding the server: its address, whether that may be tried, and whether a server is there.
//!
//! Invariant: nothing is sent to an address that is not this machine's own, unless the user allows
//! it. A resolver may be asked.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::limits::{RETRY_MS, START_MS};
use super::link::{Link, is_timeout};
use super::{TrialError, TryTarget};
use crate::address::{NetAddress, StreamAddress};
use crate::blast::{HttpUrl, Server};
use crate::send::{describe_failure, resolve_within};

/// Returns the server of `target`: of several addresses, the first at which there is one.
pub(super) fn find(target: &TryTarget, allow_remote: bool) -> Result<Server, TrialError> {
    let deadline = Instant::now() + Duration::from_millis(START_MS);
    let (servers, is_datagram) = match target {
        TryTarget::Unix(path)
        | TryTarget::Http(HttpUrl { server: StreamAddress::Unix(path), .. }) => {
            (vec![Server::Unix(path.clone())], false)
        }
        TryTarget::Tcp(address)
        | TryTarget::Http(HttpUrl { server: StreamAddress::Net(address), .. }) => {
            (addresses(address, allow_remote)?, false)
        }
        TryTarget::Udp(address) => (addresses(address, allow_remote)?, true),
    };
    let mut failures = Vec::new();
    for (tried, server) in servers.iter().enumerate() {
        let untried = u32::try_from(servers.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / untried;
        let found = match server {
            Server::Net(address) if is_datagram => find_datagram(*address),
            Server::Net(_) | Server::Unix(_) => {
                Link::connect(server, Instant::now() + share).map(drop)
            }
        };
        match found {
            Ok(()) => return Ok(server.clone()),
            Err(error) => failures.push(match server {
                Server::Net(address) => describe_failure(address, &error),
                Server::Unix(path) => describe_failure(&format!("unix:{}", path.display()), &error),
            }),
        }
    }
    Err(TrialError::Failed(failures.join("; ")))
}

fn addresses(address: &NetAddress, allow_remote: bool) -> Result<Vec<Server>, TrialError> {
    let resolved = resolve_within(address, Duration::from_millis(START_MS / 2))
        .map_err(|error| TrialError::Failed(format!("{address}: {error}")))?;
    if let Some(remote) = resolved.iter().find(|found| !is_loopback(found.ip()))
        && !allow_remote
    {
        return Err(TrialError::Usage(format!(
            "{remote} is not a loopback address: for a server of your own, add --allow-remote"
        )));
    }
    Ok(resolved.into_iter().map(Server::Net).collect())
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Sends a datagram. Only a closed port is known to have no server: silence may be a fault,
/// which the rows show.
fn find_datagram(server: SocketAddr) -> io::Result<()> {
    let any: IpAddr = match server.is_ipv6() {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    if socket.local_addr()? == server {
        return Err(ErrorKind::ConnectionRefused.into()); // a self-connect, as over TCP
    }
    socket.set_read_timeout(Some(Duration::from_millis(RETRY_MS)))?;
    socket.send(b"hello")?;
    match socket.recv(&mut [0; 64]) {
        Err(error) if !is_timeout(&error) && error.kind() != ErrorKind::Interrupted => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_loopback() {
        for ip in ["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_loopback(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["192.0.2.1", "0.0.0.0", "::", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert!(!is_loopback(ip.parse().unwrap()), "{ip}");
        }
    }
}
