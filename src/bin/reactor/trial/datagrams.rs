//! The rows of an echo over UDP (RFC 862): one datagram, one reply, and no peer that can end that.
//!
//! A datagram may be lost, but not between two sockets of one machine whose buffers have room. So
//! a reply that does not come is a fault there, except where a row fills a buffer.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mio_reactor::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX_V6};

use super::echo;
use super::limits::{
    BURST_DATAGRAMS, REFUSED_CLIENTS, RETRY_MS, ROW_MS, UNREAD_DATAGRAMS, UNWANTED_MS,
};
use super::link::is_timeout;
use super::port_zero;
use super::row::{Chapter, Fault, Row, quote};
use super::subject::{Subject, in_call};

/// Returns a row with the chapter and the bound that all of them have.
const fn row(
    name: &'static str,
    source: &'static str,
    proves: &'static str,
    check: fn(&Subject<'_>) -> Result<(), Fault>,
) -> Row {
    Row { name, proves, source, chapter: Chapter::Datagrams, bound_ms: ROW_MS, check }
}

pub(super) const ROWS: &[Row] = &[
    row("datagram", "RFC 862", "a datagram comes back byte for byte", datagram),
    row("empty", "RFC 768", "an empty datagram is answered, too", empty),
    row("sizes", "RFC 862", "a datagram of any size comes back whole", sizes),
    row("huge", "RFC 768", "the largest datagram comes back whole", huge),
    row("burst", "RFC 862", "each of 64 datagrams sent at once is answered once", burst),
    row("two-clients", "RFC 862", "each of two clients gets its own replies", two_clients),
    row("refused", "udp(7)", "a client is served after 20 that have closed their sockets", refused),
    row("never-reads", "udp(7)", "a client is served while another reads no reply", never_reads),
    row(
        "port-zero",
        "RFC 768",
        "a client is served after a datagram from port 0",
        port_zero::check,
    ),
    row("service-port", LOOPS, "a datagram from port 7, an echo's own, is not answered", service),
    row(
        "own-port",
        LOOPS,
        "a datagram from the server's own port number is not answered",
        own_port,
    ),
];

/// On two services that answer each other without end.
const LOOPS: &str = "CERT CA-1996-01, VU#417980";

/// The ports of services that answer whatever they get: echo, chargen, quote of the day, daytime.
const SERVICE_PORTS: [u16; 4] = [7, 19, 17, 13];

/// One client: its socket receives from the server only.
struct Client {
    socket: UdpSocket,
    deadline: Instant,
}

impl Client {
    fn new(subject: &Subject<'_>) -> Result<Client, Fault> {
        let server = subject.net_address()?;
        let any: IpAddr = match server.is_ipv6() {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        in_call(Client::bound(subject, (any, 0).into()), "a socket")
    }

    fn bound(subject: &Subject<'_>, own: SocketAddr) -> io::Result<Client> {
        let socket = UdpSocket::bind(own)?;
        if let Ok(server) = subject.net_address() {
            socket.connect(server)?;
        }
        Ok(Client { socket, deadline: subject.deadline })
    }

    fn send(&self, payload: &[u8]) -> Result<(), Fault> {
        let timeout = Some(Duration::from_millis(ROW_MS));
        let sent = self.socket.set_write_timeout(timeout).and_then(|()| self.socket.send(payload));
        sent.map(drop).map_err(|error| call_failed(&error))
    }

    /// Returns the next datagram, if one comes before `deadline`.
    fn receive(&self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; DATAGRAM_BYTES_MAX_V6 + 1];
        loop {
            let left = deadline.min(self.deadline).saturating_duration_since(Instant::now());
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.socket.recv(&mut bytes) {
                Ok(count) => {
                    bytes.truncate(count);
                    return Ok(Some(bytes));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Checks that the next datagram is the reply to `payload`.
    fn expect(&self, subject: &Subject<'_>, payload: &[u8], when: &str) -> Result<(), Fault> {
        let expected = || format!("the datagram of {} bytes comes back {when}", payload.len());
        match self.receive(self.deadline) {
            Ok(Some(reply)) if is_reply(subject, &reply, payload) => Ok(()),
            Ok(Some(reply)) => {
                let came = format!("{} bytes: {}", reply.len(), quote(&reply));
                Err(Fault::failed(expected(), came))
            }
            Ok(None) => Err(Fault::failed(expected(), "silence")),
            Err(error) => Err(Fault::of_call(&expected(), &error)),
        }
    }

    fn exchange(&self, subject: &Subject<'_>, payload: &[u8], when: &str) -> Result<(), Fault> {
        self.send(payload)?;
        self.expect(subject, payload, when)
    }
}

/// Returns what a failed send means. Another error than the report of a closed port is this
/// machine's: it has no memory, or sends no datagram of that size.
fn call_failed(error: &io::Error) -> Fault {
    match error.kind() == ErrorKind::ConnectionRefused {
        true => Fault::of_call("a server at that port", error),
        false => Fault::Skipped(format!("this machine: {error}")),
    }
}

fn is_reply(subject: &Subject<'_>, reply: &[u8], payload: &[u8]) -> bool {
    reply.strip_prefix(subject.prefix()) == Some(payload)
}

/// Checks that another client is served.
pub(super) fn check_served(subject: &Subject<'_>, when: &str) -> Result<(), Fault> {
    let payload = subject.payload(20, echo::MESSAGE_BYTES);
    Client::new(subject)?.exchange(subject, &payload, when)
}

fn datagram(subject: &Subject<'_>) -> Result<(), Fault> {
    check_served(subject, "to its sender")
}

fn empty(subject: &Subject<'_>) -> Result<(), Fault> {
    Client::new(subject)?.exchange(subject, b"", "as a datagram")
}

/// The sizes at which buffers commonly end, and those of the usual MTUs.
fn sizes(subject: &Subject<'_>) -> Result<(), Fault> {
    const SIZES: [usize; 12] =
        [1, 511, 512, 513, 1023, 1024, 1025, 1472, 1473, 4096, 8973, 32 * 1024];
    let client = Client::new(subject)?;
    SIZES
        .into_iter()
        .try_for_each(|size| client.exchange(subject, &subject.payload(21, size), "whole"))
}

fn huge(subject: &Subject<'_>) -> Result<(), Fault> {
    let most = match subject.net_address()?.is_ipv6() {
        true => DATAGRAM_BYTES_MAX_V6,
        false => DATAGRAM_BYTES_MAX,
    };
    let payload = subject.payload(22, most.saturating_sub(subject.prefix().len()));
    Client::new(subject)?.exchange(subject, &payload, "whole")
}

/// In which order they come back is not said (RFC 768).
fn burst(subject: &Subject<'_>) -> Result<(), Fault> {
    let client = Client::new(subject)?;
    let payload = subject.payload(23, BURST_DATAGRAMS * 16);
    let mut awaited: Vec<&[u8]> = payload.chunks(16).collect();
    awaited.iter().try_for_each(|datagram| client.send(datagram))?;
    let expected = format!("{BURST_DATAGRAMS} replies, one to each datagram, and no other");
    while !awaited.is_empty() {
        let came = match client.receive(client.deadline) {
            Ok(Some(reply)) => {
                let found = awaited.iter().position(|sent| is_reply(subject, &reply, sent));
                match found {
                    Some(at) => {
                        awaited.swap_remove(at);
                        continue;
                    }
                    None => format!("{} bytes: {}", reply.len(), quote(&reply)),
                }
            }
            Ok(None) => format!("{} replies", BURST_DATAGRAMS - awaited.len()),
            Err(error) => return Err(Fault::of_call(&expected, &error)),
        };
        return Err(Fault::failed(expected, came));
    }
    expect_nothing(&client, &expected)
}

/// Checks that no datagram comes.
fn expect_nothing(client: &Client, expected: &str) -> Result<(), Fault> {
    let until = Instant::now() + Duration::from_millis(UNWANTED_MS);
    match client.receive(until) {
        Ok(None) => Ok(()),
        Ok(Some(more)) => Err(Fault::failed(
            expected,
            format!("a datagram of {} bytes: {}", more.len(), quote(&more)),
        )),
        Err(error) => Err(Fault::of_call(expected, &error)),
    }
}

/// A server that connects its socket to the first client, or keeps the address of the last one,
/// fails it.
fn two_clients(subject: &Subject<'_>) -> Result<(), Fault> {
    let clients = [Client::new(subject)?, Client::new(subject)?];
    let payloads = [24, 25].map(|seed| subject.payload(seed, echo::MESSAGE_BYTES));
    for _ in 0..2 {
        for (client, payload) in clients.iter().zip(&payloads) {
            client.send(payload)?;
        }
        for (client, payload) in clients.iter().zip(&payloads) {
            client.expect(subject, payload, "to its own sender")?;
        }
    }
    Ok(())
}

/// The reply to a closed socket comes back as an ICMP error, which fails a later call of the server
/// (ECONNREFUSED).
fn refused(subject: &Subject<'_>) -> Result<(), Fault> {
    for _ in 0..REFUSED_CLIENTS {
        Client::new(subject)?.send(b"gone")?;
    }
    check_served(subject, "after clients that have closed their sockets")
}

/// The server's own receive buffer may be full for a while and drop the other client's datagram. So
/// it is sent again.
fn never_reads(subject: &Subject<'_>) -> Result<(), Fault> {
    let deaf = Client::new(subject)?;
    let payload = subject.payload(26, 1000);
    for _ in 0..UNREAD_DATAGRAMS {
        deaf.send(&payload)?;
    }
    let client = Client::new(subject)?;
    let payload = subject.payload(27, echo::MESSAGE_BYTES);
    let expected = "a reply to another client";
    while Instant::now() < subject.deadline {
        client.send(&payload)?;
        match client.receive(Instant::now() + Duration::from_millis(RETRY_MS)) {
            Ok(Some(reply)) if is_reply(subject, &reply, &payload) => return Ok(()),
            Ok(Some(reply)) => return Err(Fault::failed(expected, quote(&reply))),
            Ok(None) => {}
            Err(error) => return Err(Fault::of_call(expected, &error)),
        }
    }
    Err(Fault::failed(expected, "silence"))
}

fn service(subject: &Subject<'_>) -> Result<(), Fault> {
    let ports = SERVICE_PORTS.into_iter().flat_map(|port| {
        own_addresses(subject).into_iter().map(move |ip| SocketAddr::new(ip, port))
    });
    check_unanswered(subject, ports, "another echo there would answer, and so on without end")
}

fn own_port(subject: &Subject<'_>) -> Result<(), Fault> {
    let server = subject.net_address()?;
    let ports = own_addresses(subject)
        .into_iter()
        .filter(|ip| *ip != server.ip())
        .map(|ip| SocketAddr::new(ip, server.port()));
    check_unanswered(subject, ports, "the same server on another machine would answer it")
}

/// Returns the addresses from which a datagram may be sent. On Linux all of 127.0.0.0/8 is this
/// machine, and one that is this process's own is free.
fn own_addresses(subject: &Subject<'_>) -> Vec<IpAddr> {
    match subject.net_address().map(|server| server.ip()) {
        Ok(IpAddr::V4(ip)) if ip.is_loopback() => {
            let [_, high, middle, low] = std::process::id().to_be_bytes();
            vec![Ipv4Addr::new(127, high | 0x80, middle, low | 1).into(), ip.into()]
        }
        Ok(IpAddr::V4(_)) => vec![Ipv4Addr::UNSPECIFIED.into()],
        Ok(ip @ IpAddr::V6(_)) if ip.is_loopback() => vec![ip],
        Ok(IpAddr::V6(_)) | Err(_) => vec![Ipv6Addr::UNSPECIFIED.into()],
    }
}

/// Checks that a datagram from one of `addresses` is not answered, and that the server serves on.
///
/// The other client's datagram is sent later and is answered. So the one before has been handled.
fn check_unanswered(
    subject: &Subject<'_>,
    addresses: impl Iterator<Item = SocketAddr>,
    why: &str,
) -> Result<(), Fault> {
    let mut failure = "there is no other address of this machine".to_string();
    for own in addresses {
        match Client::bound(subject, own) {
            Ok(client) => {
                client.send(b"loop")?;
                check_served(subject, "after it")?;
                return expect_nothing(&client, &format!("no reply to {own}: {why}"));
            }
            Err(error) => failure = format!("{own}: {error}"),
        }
    }
    Err(Fault::Skipped(failure))
}
