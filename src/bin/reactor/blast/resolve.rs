//! The server's address. Of several that a name has, it is the first one that works.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::limits::PROBE_TIMEOUT_MS;
use crate::address::{Scheme, Url};

/// Returns the address that gets the load. A single one is not tried: the load itself shows whether
/// it works.
///
/// # Errors
///
/// One line: the name has no address, or no server is at any of them.
pub(crate) fn find_server(url: &Url) -> Result<SocketAddr, String> {
    let addresses = url.address.resolve().map_err(|error| format!("{url}: {error}"))?;
    if let [address] = addresses[..] {
        return Ok(address);
    }
    first_that_works(url.scheme, &addresses).map_err(|error| format!("{url}: {error}"))
}

fn first_that_works(scheme: Scheme, addresses: &[SocketAddr]) -> Result<SocketAddr, String> {
    let mut failures = Vec::new();
    for &address in addresses {
        let tried = match scheme {
            Scheme::Tcp => {
                TcpStream::connect_timeout(&address, Duration::from_millis(PROBE_TIMEOUT_MS))
                    .map(drop)
            }
            Scheme::Udp => probe_datagram(address),
        };
        match tried {
            Ok(()) => return Ok(address),
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    Err(failures.join("; "))
}

/// Sends an empty datagram, and waits for its echo. A closed port is reported by the machine that
/// it is on (ICMP).
fn probe_datagram(address: SocketAddr) -> io::Result<()> {
    let any: IpAddr =
        if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(PROBE_TIMEOUT_MS)))?;
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

    #[test]
    fn first_address_that_works_gets_the_load() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let addresses = [closed_port(), address, closed_port()];
        assert_eq!(first_that_works(Scheme::Tcp, &addresses), Ok(address));
    }

    #[test]
    fn datagram_server_is_the_first_that_replies() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(PROBE_TIMEOUT_MS))).unwrap();
        let address = socket.local_addr().unwrap();
        let echo = thread::spawn(move || {
            let (count, peer) = socket.recv_from(&mut [0; 1]).unwrap();
            assert_eq!(count, 0);
            socket.send_to(&[], peer).unwrap();
        });
        assert_eq!(first_that_works(Scheme::Udp, &[closed_port(), address]), Ok(address));
        echo.join().unwrap();
    }

    #[test]
    fn failure_names_every_address_that_was_tried() {
        let addresses = [closed_port(), closed_port()];
        for scheme in [Scheme::Tcp, Scheme::Udp] {
            let error = first_that_works(scheme, &addresses).unwrap_err();
            assert!(
                addresses.iter().all(|address| error.contains(&address.to_string())),
                "{error}"
            );
        }
    }
}
