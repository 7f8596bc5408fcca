//! The server's address. Of several that a name has, it is the first one that works.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::limits::{CONNECT_TIMEOUT_MS, PROBE_TIMEOUT_MS};
use super::target::{HttpUrl, Server, Target};
use crate::address::{Scheme, StreamAddress, Url};

/// Returns the address that gets the load, and how long connecting to it may take: what the choice
/// has left of `CONNECT_TIMEOUT_MS`. A single address is not tried: the load itself shows whether
/// it works.
///
/// # Errors
///
/// One line: the name has no address, or no server is at any of them.
pub(crate) fn find_server(target: &Target) -> Result<(Server, Duration), String> {
    let timeout = Duration::from_millis(CONNECT_TIMEOUT_MS);
    let (scheme, address) = match target {
        Target::Echo(Url { scheme, address }) => (*scheme, address),
        Target::Http(HttpUrl { server: StreamAddress::Net(address), .. }) => (Scheme::Tcp, address),
        Target::Http(HttpUrl { server: StreamAddress::Unix(path), .. }) => {
            return Ok((Server::Unix(path.clone()), timeout));
        }
    };
    let addresses = address.resolve().map_err(|error| format!("{target}: {error}"))?;
    if let [address] = addresses[..] {
        return Ok((Server::Net(address), timeout));
    }
    let started = Instant::now();
    let address = first_that_works(scheme, &addresses, started + timeout)
        .map_err(|error| format!("{target}: {error}"))?;
    Ok((
        Server::Net(address),
        timeout.saturating_sub(started.elapsed()).max(Duration::from_millis(1)),
    ))
}

/// Tries one address after the other. Each, and the load's own connections, gets an equal share of
/// the time until `deadline`, but no address more than `PROBE_TIMEOUT_MS`.
fn first_that_works(
    scheme: Scheme,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<SocketAddr, String> {
    let mut failures = Vec::new();
    for (tried, &address) in addresses.iter().enumerate() {
        let shares = u32::try_from(addresses.len() - tried + 1).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / shares;
        let timeout =
            share.clamp(Duration::from_millis(1), Duration::from_millis(PROBE_TIMEOUT_MS));
        let probed = match scheme {
            Scheme::Tcp => TcpStream::connect_timeout(&address, timeout).map(drop),
            Scheme::Udp => probe_datagram(address, timeout),
        };
        match probed {
            Ok(()) => return Ok(address),
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    Err(failures.join("; "))
}

/// Sends an empty datagram, and waits for its echo. A closed port is reported by the machine that
/// it is on (ICMP).
fn probe_datagram(address: SocketAddr, timeout: Duration) -> io::Result<()> {
    let any: IpAddr =
        if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.send(&[])?;
    match socket.recv(&mut [0; 1]) {
        Ok(_) => Ok(()),
        // recv(2) with a timeout ends with `WouldBlock` on Unix, and with `TimedOut` on Windows.
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
            Err(io::Error::new(ErrorKind::TimedOut, "no reply"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Returns an address at which nothing listens. The sockets of other tests are at 127.0.0.1, so
    /// none of them gets the port; not every system has a second loopback address.
    fn closed_port() -> SocketAddr {
        let last = if cfg!(target_os = "linux") { 2 } else { 1 };
        let unused = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0)).unwrap();
        unused.local_addr().unwrap()
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn first_address_that_works_gets_the_load() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let addresses = [closed_port(), address, closed_port()];
        assert_eq!(first_that_works(Scheme::Tcp, &addresses, in_a_minute()), Ok(address));
    }

    #[test]
    fn datagram_server_is_the_first_that_replies() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // Longer than a closed port is probed for that the kernel does not report as closed.
        socket.set_read_timeout(Some(Duration::from_millis(10 * PROBE_TIMEOUT_MS))).unwrap();
        let address = socket.local_addr().unwrap();
        let echo = thread::spawn(move || {
            let (count, peer) = socket.recv_from(&mut [0; 1]).unwrap();
            assert_eq!(count, 0);
            socket.send_to(&[], peer).unwrap();
        });
        let addresses = [closed_port(), address];
        assert_eq!(first_that_works(Scheme::Udp, &addresses, in_a_minute()), Ok(address));
        echo.join().unwrap();
    }

    #[test]
    fn silent_addresses_share_the_time_for_connecting() {
        // With `PROBE_TIMEOUT_MS` for each of them, this would take eight seconds.
        let silent: [UdpSocket; 8] =
            std::array::from_fn(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let addresses = silent.each_ref().map(|socket| socket.local_addr().unwrap());
        let started = Instant::now();
        let deadline = started + Duration::from_millis(200);
        let error = first_that_works(Scheme::Udp, &addresses, deadline).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(error.matches("no reply").count(), silent.len(), "{error}");
    }

    #[test]
    fn failure_names_every_address_that_was_tried() {
        let addresses = [closed_port(), closed_port()];
        for scheme in [Scheme::Tcp, Scheme::Udp] {
            let error = first_that_works(scheme, &addresses, in_a_minute()).unwrap_err();
            assert!(
                addresses.iter().all(|address| error.contains(&address.to_string())),
                "{error}"
            );
        }
    }
}
