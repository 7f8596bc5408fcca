//! Addresses as people write them, and the socket addresses that they stand for.
//!
//! ```text
//!     8080  :8080                         127.0.0.1:8080
//!     127.0.0.1:8080  [::1]:8080          the same
//!     [fe80::1%eth0]:8080                 the same, on that interface (RFC 4007 section 11)
//!     localhost:8080                      every address of that name
//!     *:8080                              0.0.0.0:8080 and [::]:8080
//! ```
//!
//! Invariant: to read an address needs no network. Only [`NetAddress::resolve`] asks the system's
//! resolver, which may block, and it is called before the loop runs. A client bounds the wait.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// A host and a port, not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetAddress {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    /// A link-local address and its zone, as in `fe80::1%eth0`. Only the system knows the number
    /// of the zone.
    Zoned(String),
    Name(String),
    /// `*`: every address of this machine, over IPv4 and over IPv6.
    Every,
}

/// The host of a port alone. It is that of the default addresses, too: one socket, which no other
/// machine reaches. `localhost` may stand for two.
const LOOPBACK: Host = Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));

const FORMS: &str = "an address is PORT, HOST:PORT, [IPV6]:PORT, *:PORT or, for streams, unix:PATH";

/// The error for `unix:PATH` on a system without Unix sockets.
pub(crate) const NO_UNIX_SOCKETS: &str = "this system has no Unix sockets";

impl NetAddress {
    /// Returns `port` on the loopback interface.
    pub(crate) const fn loopback(port: u16) -> NetAddress {
        NetAddress { host: LOOPBACK, port }
    }

    /// Returns whether `resolve` asks the system's resolver.
    pub(crate) fn needs_resolver(&self) -> bool {
        matches!(self.host, Host::Name(_) | Host::Zoned(_))
    }

    /// Returns the socket addresses that it stands for: at least one, and each once.
    ///
    /// # Errors
    ///
    /// The resolver's error if the system does not know the name or the zone (getaddrinfo(3)).
    pub(crate) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let with_port = |ip| SocketAddr::new(ip, self.port);
        match &self.host {
            Host::Ip(ip) => Ok(vec![with_port(*ip)]),
            Host::Every => Ok(vec![
                with_port(Ipv4Addr::UNSPECIFIED.into()),
                with_port(Ipv6Addr::UNSPECIFIED.into()),
            ]),
            Host::Name(name) | Host::Zoned(name) => {
                let mut addresses = Vec::new();
                for address in (name.as_str(), self.port).to_socket_addrs()? {
                    // An address that the hosts file has twice is returned twice.
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                if addresses.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
                }
                Ok(addresses)
            }
        }
    }
}

impl FromStr for NetAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<NetAddress, String> {
        let text = text.trim(); // a list may have spaces after its commas
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or(FORMS)?;
                let port = match rest {
                    "" => None,
                    _ => Some(rest.strip_prefix(':').ok_or(FORMS)?),
                };
                (parse_ipv6(host)?, port)
            }
            None if text.starts_with("unix:") => {
                return Err("unix:PATH is for streams, and UDP has none".to_string());
            }
            None if is_number(text) => (LOOPBACK, Some(text)),
            None => match text.rsplit_once(':') {
                Some(("", port)) => (LOOPBACK, Some(port)),
                Some((host, port)) => (parse_host(host)?, Some(port)),
                None => (parse_host(text)?, None),
            },
        };
        let port = port.ok_or_else(|| format!("the port is missing, as in {text}:8080"))?;
        // `u16::from_str` alone accepts a sign.
        match port.parse() {
            Ok(port_number) if is_number(port) => Ok(NetAddress { host, port: port_number }),
            _ => Err("a port is a number from 0 to 65535".to_string()),
        }
    }
}

impl fmt::Display for NetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Zoned(host) => write!(f, "[{host}]:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Every => write!(f, "*:{}", self.port),
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads a host that is not in brackets.
fn parse_host(text: &str) -> Result<Host, String> {
    if text == "*" {
        return Ok(Host::Every);
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(ip.into()));
    }
    if text.contains(':') && text.chars().all(|c| c.is_ascii_hexdigit() || [':', '.'].contains(&c))
    {
        return Err("an IPv6 address is in brackets, as in [::1]:8080".to_string());
    }
    let is_name = |c: char| c.is_alphanumeric() || ['-', '.', '_'].contains(&c);
    if text.is_empty() || !text.chars().all(is_name) {
        return Err(FORMS.to_string());
    }
    Ok(Host::Name(text.to_string()))
}

/// Reads what is in the brackets. A link-local address means something only on an interface, so it
/// needs a zone, and no other address can have one.
fn parse_ipv6(text: &str) -> Result<Host, String> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let ip: Ipv6Addr = address.parse().map_err(|_| format!("{address} is no IPv6 address"))?;
    match (zone, ip.is_unicast_link_local()) {
        (None, false) => Ok(Host::Ip(ip.into())),
        (Some(zone), true) if !zone.is_empty() && !zone.contains(char::is_whitespace) => {
            Ok(Host::Zoned(text.to_string()))
        }
        (Some(_), false) => Err(format!("only a link-local address (fe80::/10) has a zone: {ip}")),
        (_, true) => Err(format!("a link-local address needs its interface, as in [{ip}%eth0]")),
    }
}

/// Where streams are accepted: an address of a network, or the file of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamAddress {
    Net(NetAddress),
    Unix(PathBuf),
}

impl FromStr for StreamAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<StreamAddress, String> {
        match text.trim_start().strip_prefix("unix:") {
            Some(path) => parse_unix(path).map(StreamAddress::Unix),
            None => text.parse().map(StreamAddress::Net),
        }
    }
}

/// Reads what follows `unix:`.
pub(crate) fn parse_unix(path: &str) -> Result<PathBuf, String> {
    match path {
        _ if cfg!(not(unix)) => Err(NO_UNIX_SOCKETS.to_string()),
        "" => Err("unix: needs the path of a file, as in unix:/tmp/echo".to_string()),
        "@" => Err("unix:@ needs a name, as in unix:@echo".to_string()),
        _ if path.starts_with('@') && cfg!(not(target_os = "linux")) => Err(format!(
            "names without a file are for Linux (a file of that name is unix:./{path})"
        )),
        _ => Ok(PathBuf::from(path)),
    }
}

impl fmt::Display for StreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamAddress::Net(address) => address.fmt(f),
            StreamAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The scheme of a URL, which names the transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Udp,
    Tcp,
}

impl Scheme {
    /// Returns the scheme as a URL has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scheme::Udp => "udp",
            Scheme::Tcp => "tcp",
        }
    }
}

/// A server, as a URL: `tcp://ADDRESS` or `udp://ADDRESS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: Scheme,
    pub(crate) address: NetAddress,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let (scheme, rest) = [Scheme::Udp, Scheme::Tcp]
            .into_iter()
            .find_map(|scheme| Some((scheme, text.strip_prefix(scheme.name())?)))
            .and_then(|(scheme, rest)| Some((scheme, rest.strip_prefix("://")?)))
            .ok_or("a server is tcp://HOST:PORT, udp://HOST:PORT or, for send, unix:PATH")?;
        if rest.starts_with("unix:") {
            return Err("for send, a Unix socket is unix:PATH, and no scheme is before it".into());
        }
        // A URL without a path may end with a slash.
        let address: NetAddress = rest.strip_suffix('/').unwrap_or(rest).parse()?;
        match (&address.host, address.port) {
            (Host::Every, _) => Err("* is for listening, and a server has one address".to_string()),
            (_, 0) => Err("no server has port 0".to_string()),
            (Host::Ip(_) | Host::Zoned(_) | Host::Name(_), _) => Ok(Url { scheme, address }),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    fn parse(text: &str) -> Result<NetAddress, String> {
        text.parse()
    }

    /// Checks that `text` stands for these socket addresses, and prints as `printed`.
    #[track_caller]
    fn check_resolves(text: &str, printed: &str, addresses: &[&str]) {
        let address = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(address.to_string(), printed);
        let resolved = address.resolve().unwrap_or_else(|error| panic!("{text:?}: {error}"));
        let resolved: Vec<String> = resolved.iter().map(SocketAddr::to_string).collect();
        assert_eq!(resolved, addresses, "{text:?}");
    }

    #[test]
    fn literal_addresses_and_stars_need_no_resolver() {
        for (text, printed, addresses) in [
            ("8080", "127.0.0.1:8080", &["127.0.0.1:8080"][..]),
            (":8080", "127.0.0.1:8080", &["127.0.0.1:8080"]),
            ("0", "127.0.0.1:0", &["127.0.0.1:0"]),
            ("65535", "127.0.0.1:65535", &["127.0.0.1:65535"]),
            ("127.0.0.1:8080", "127.0.0.1:8080", &["127.0.0.1:8080"]),
            ("0.0.0.0:1", "0.0.0.0:1", &["0.0.0.0:1"]),
            ("[::1]:8080", "[::1]:8080", &["[::1]:8080"]),
            ("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.1]:1", &["[::ffff:192.0.2.1]:1"]),
            ("*:8080", "*:8080", &["0.0.0.0:8080", "[::]:8080"]),
            (" 127.0.0.1:8080 ", "127.0.0.1:8080", &["127.0.0.1:8080"]),
        ] {
            check_resolves(text, printed, addresses);
        }
    }

    #[test]
    fn names_and_zones_are_kept_for_the_resolver() {
        for text in [
            "localhost:8080",
            "a-host.example.net:1",
            "under_score:1",
            "bücher.example:1",
            "[fe80::1%eth0]:8080",
            "[fe80::1%2]:8080",
        ] {
            let address = parse(text).unwrap();
            assert_eq!(address.to_string(), text);
            assert!(matches!(address.host, Host::Name(_) | Host::Zoned(_)), "{text}");
        }
    }

    #[test]
    fn localhost_resolves_to_loopback_addresses_each_once() {
        let resolved = parse("localhost:80").unwrap().resolve().unwrap();
        let loopback: [SocketAddr; 2] =
            [([127, 0, 0, 1], 80).into(), (Ipv6Addr::LOCALHOST, 80).into()];
        assert!(!resolved.is_empty() && resolved.iter().all(|one| loopback.contains(one)));
        assert!(resolved.len() == 1 || resolved[0] != resolved[1], "{resolved:?}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn zone_is_an_interface_by_name_or_by_number() {
        // The loopback interface has the number 1 on Linux.
        for text in ["[fe80::1%lo]:80", "[fe80::1%1]:80"] {
            let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 0, 1);
            assert_eq!(parse(text).unwrap().resolve().unwrap(), [SocketAddr::V6(scoped)], "{text}");
        }
        let error = parse("[fe80::1%nowhere]:80").unwrap().resolve().unwrap_err();
        assert!(!error.to_string().is_empty());
    }

    #[test]
    fn invalid_address_is_rejected_with_the_reason() {
        for (text, words) in [
            ("", FORMS),
            (" ", FORMS),
            ("localhost", "the port is missing, as in localhost:8080"),
            ("127.0.0.1", "the port is missing, as in 127.0.0.1:8080"),
            ("[::1]", "the port is missing, as in [::1]:8080"),
            ("*", "the port is missing, as in *:8080"),
            (":", "a port is a number"),
            ("127.0.0.1:", "a port is a number"),
            ("65536", "a port is a number from 0 to 65535"),
            ("127.0.0.1:65536", "a port is a number"),
            ("127.0.0.1:+80", "a port is a number"),
            ("127.0.0.1:-1", "a port is a number"),
            ("127.0.0.1:http", "a port is a number"),
            ("127.0.0.1:80 81", "a port is a number"),
            ("::1:8080", "an IPv6 address is in brackets"),
            ("::1", "an IPv6 address is in brackets"),
            ("[::1", FORMS),
            ("[::1]8080", FORMS),
            ("[127.0.0.1]:80", "127.0.0.1 is no IPv6 address"),
            ("[localhost]:80", "localhost is no IPv6 address"),
            ("[]:80", "is no IPv6 address"),
            ("[*]:80", "* is no IPv6 address"),
            ("[fe80::1]:80", "a link-local address needs its interface, as in [fe80::1%eth0]"),
            ("[fe80::1%]:80", "a link-local address needs its interface"),
            ("[::1%lo]:80", "only a link-local address (fe80::/10) has a zone: ::1"),
            ("http://127.0.0.1:80", "PORT, HOST:PORT"),
            ("127.0.0.1:80/", "a port is a number"),
            ("*.example.net:80", FORMS),
            ("two words:80", FORMS),
            ("unix:/tmp/socket", "unix:PATH is for streams"),
        ] {
            let error = parse(text).err().unwrap_or_else(|| panic!("{text:?} is read"));
            assert!(error.contains(words) && !error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn stream_address_may_be_the_path_of_a_unix_socket() {
        let read = |text: &str| text.parse::<StreamAddress>();
        assert_eq!(read("8080"), Ok(StreamAddress::Net(NetAddress::loopback(8080))));
        assert!(read("unix:").is_err() && read("unix").is_err());
        if cfg!(unix) {
            let address = read("unix:/tmp/a socket").unwrap();
            assert_eq!(address, StreamAddress::Unix(PathBuf::from("/tmp/a socket")));
            assert_eq!(address.to_string(), "unix:/tmp/a socket");
        }
        // A file of that name has a path, too.
        assert!(read("unix:@").is_err());
        assert_eq!(read("unix:@name").is_ok(), cfg!(target_os = "linux"));
        assert_eq!(read("unix:./@name").is_ok(), cfg!(unix));
    }

    #[test]
    fn url_is_a_scheme_and_the_address_of_one_server() {
        for (text, scheme, address) in [
            ("tcp://127.0.0.1:2000", Scheme::Tcp, "127.0.0.1:2000"),
            ("udp://127.0.0.1:2000/", Scheme::Udp, "127.0.0.1:2000"),
            ("tcp://localhost:2000", Scheme::Tcp, "localhost:2000"),
            ("udp://[::1]:2000", Scheme::Udp, "[::1]:2000"),
            ("udp://[fe80::1%eth0]:2000", Scheme::Udp, "[fe80::1%eth0]:2000"),
            ("tcp://2000", Scheme::Tcp, "127.0.0.1:2000"),
            ("tcp://:2000", Scheme::Tcp, "127.0.0.1:2000"),
        ] {
            let url: Url = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((url.scheme, url.address.to_string().as_str()), (scheme, address));
        }
        for (text, words) in [
            ("", "a server is tcp://HOST:PORT"),
            ("127.0.0.1:2000", "a server is tcp://HOST:PORT"),
            ("http://127.0.0.1:2000", "a server is tcp://HOST:PORT"),
            ("tcp:127.0.0.1:2000", "a server is tcp://HOST:PORT"),
            ("udp://", FORMS),
            ("tcp://127.0.0.1", "the port is missing"),
            ("tcp://127.0.0.1:0", "no server has port 0"),
            ("tcp://0", "no server has port 0"),
            ("tcp://*:2000", "* is for listening"),
            ("tcp://unix:@echo", "for send, a Unix socket is unix:PATH"),
            ("tcp://127.0.0.1:2000//", "a port is a number"),
            ("tcp:///127.0.0.1:2000", FORMS),
        ] {
            let error = text.parse::<Url>().err().unwrap_or_else(|| panic!("{text:?} is read"));
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
