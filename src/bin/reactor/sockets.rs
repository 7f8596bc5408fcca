//! The server's sockets: every address of an argument is opened, all with one port.
//!
//! ```text
//!     --http localhost:0 ──► 127.0.0.1:0  opened: the kernel chooses port 40713
//!                            [::1]:40713  opened, or one of three errors:
//!
//!     this machine has no such address    skipped with a warning, if another one was opened
//!     the chosen port is taken here       everything is closed, and opened again
//!     anything else                       an error, and the program ends
//! ```
//!
//! Invariant: either all that was asked for listens, or nothing does.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;

use mio_reactor::{Echo, Http, ListenOptions, Protocol, Reactor};
#[cfg(unix)]
use socket2::{Domain, Socket, Type};

use crate::address::{NetAddress, StreamAddress};
use crate::cli::ListenArgs;
use crate::site::Site;
#[cfg(unix)]
use crate::unix_address::{is_abstract, unix_address};

/// Most attempts to find ports that are free at every address of an argument, where the kernel
/// chooses the first one's. An attempt fails only if another process has that port at another
/// address. Beyond it: an error.
const PORT_ATTEMPTS_MAX: u32 = 16;

#[cfg(unix)]
const EAFNOSUPPORT: i32 = libc::EAFNOSUPPORT;
/// WSAEAFNOSUPPORT.
#[cfg(not(unix))]
const EAFNOSUPPORT: i32 = 10_047;

/// A reactor whose sockets listen.
pub(crate) struct Serving {
    pub(crate) reactor: Reactor,
    /// One line for each socket: its service and the address that was bound.
    pub(crate) lines: String,
    /// One line for each address that this machine lacks.
    pub(crate) skipped: Vec<String>,
}

/// Opens all sockets at `places`, in a reactor from `make_reactor`. Those for HTTP have
/// `http_options`.
///
/// # Errors
///
/// An error that names the service, the argument, and the address if that differs.
pub(crate) fn open(
    places: &Places,
    echo: &Echo,
    site: &Site,
    http_options: &ListenOptions,
    mut make_reactor: impl FnMut() -> io::Result<Reactor>,
) -> io::Result<Serving> {
    retry_while_port_is_taken(|| {
        let mut reactor = make_reactor().map_err(OpenError::Fatal)?;
        let mut opened = Opened::default();
        for place in &places.tcp {
            let echo = echo.clone();
            let options = ListenOptions::default();
            opened.open_stream(&mut reactor, "tcp echo", place, &options, move || echo.clone())?;
        }
        for place in &places.udp {
            let open = |address| reactor.bind_datagram(address, echo.clone());
            opened.open_group("udp echo", place, open)?;
        }
        for place in &places.http {
            let site = site.clone();
            let make = move || Http::new(site.clone());
            opened.open_stream(&mut reactor, "http", place, http_options, make)?;
        }
        Ok(Serving { reactor, lines: opened.lines, skipped: opened.skipped })
    })
}

/// What the arguments name, resolved once.
pub(crate) struct Places {
    tcp: Vec<StreamPlace>,
    udp: Vec<Group>,
    http: Vec<StreamPlace>,
}

enum StreamPlace {
    Net(Group),
    Unix(PathBuf),
}

/// The addresses of one argument.
struct Group {
    argument: String,
    addresses: Vec<SocketAddr>,
}

impl Places {
    /// Resolves all names. It may block for as long as the system's resolver does.
    ///
    /// # Errors
    ///
    /// The resolver's error, with the service and the argument.
    pub(crate) fn resolve(arguments: &ListenArgs) -> io::Result<Places> {
        let group = |service: &str, address: &NetAddress| match address.resolve() {
            Ok(addresses) => Ok(Group { argument: address.to_string(), addresses }),
            Err(error) => Err(describe(service, address, &error)),
        };
        let stream = |service: &str, address: &StreamAddress| match address {
            StreamAddress::Net(address) => group(service, address).map(StreamPlace::Net),
            StreamAddress::Unix(path) => Ok(StreamPlace::Unix(path.clone())),
        };
        let tcp = arguments.tcp.iter().map(|address| stream("tcp echo", address));
        let udp = arguments.udp.iter().map(|address| group("udp echo", address));
        let http = arguments.http.iter().map(|address| stream("http", address));
        Ok(Places {
            tcp: tcp.collect::<io::Result<_>>()?,
            udp: udp.collect::<io::Result<_>>()?,
            http: http.collect::<io::Result<_>>()?,
        })
    }
}

#[derive(Debug)]
enum OpenError {
    /// The port that the kernel has chosen for the first address is taken at another one. The
    /// kernel may choose another port next time.
    ChosenPortTaken(io::Error),
    Fatal(io::Error),
}

/// Calls `attempt` until it succeeds or fails for good. A failed attempt has dropped its reactor,
/// and with it the sockets that were open already. Their ports had not been printed yet.
fn retry_while_port_is_taken<T>(
    mut attempt: impl FnMut() -> Result<T, OpenError>,
) -> io::Result<T> {
    let mut attempts = 1;
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(OpenError::ChosenPortTaken(_)) if attempts < PORT_ATTEMPTS_MAX => attempts += 1,
            Err(OpenError::ChosenPortTaken(error) | OpenError::Fatal(error)) => return Err(error),
        }
    }
}

/// What has been opened so far.
#[derive(Default)]
struct Opened {
    lines: String,
    skipped: Vec<String>,
}

impl Opened {
    /// Listens for streams at `place`. Each connection gets a protocol from `make`.
    fn open_stream<P: Protocol + 'static>(
        &mut self,
        reactor: &mut Reactor,
        service: &str,
        place: &StreamPlace,
        options: &ListenOptions,
        make: impl FnMut() -> P + Clone + 'static,
    ) -> Result<(), OpenError> {
        match place {
            StreamPlace::Net(group) => self.open_group(service, group, |address| {
                let mut make = make.clone();
                reactor.listen_with(address, options, move |_| make())
            }),
            StreamPlace::Unix(path) => {
                let name = format!("unix:{}", path.display());
                match listen_unix(reactor, path, options, make) {
                    Ok(()) => self.lines += &format!("{service} {name}\n"),
                    Err(error) => return Err(OpenError::Fatal(describe(service, &name, &error))),
                }
                Ok(())
            }
        }
    }

    /// Opens the addresses of one argument with `open`, which returns the address that was bound.
    fn open_group(
        &mut self,
        service: &str,
        group: &Group,
        mut open: impl FnMut(SocketAddr) -> io::Result<SocketAddr>,
    ) -> Result<(), OpenError> {
        let mut port = None;
        let mut missing = Vec::new();
        for &(mut address) in &group.addresses {
            let is_chosen = address.port() == 0 && port.is_some();
            address.set_port(port.unwrap_or(address.port()));
            match open(address) {
                Ok(bound) => {
                    port = Some(bound.port());
                    self.lines += &format!("{service} {bound}\n");
                }
                Err(error) if is_missing(&error) => missing.push((address, error)),
                Err(error) => {
                    let is_taken = is_chosen && error.kind() == ErrorKind::AddrInUse;
                    let error = describe_address(service, group, address, &error);
                    return Err(if is_taken {
                        OpenError::ChosenPortTaken(error)
                    } else {
                        OpenError::Fatal(error)
                    });
                }
            }
        }
        if port.is_none()
            && let Some((address, error)) = missing.pop()
        {
            return Err(OpenError::Fatal(describe_address(service, group, address, &error)));
        }
        self.skipped.extend(missing.into_iter().map(|(address, error)| {
            format!("{service} {}: {address} skipped: {error}", group.argument)
        }));
        Ok(())
    }
}

/// Returns whether this machine lacks the address or, as without IPv6, its whole family.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Names the argument, and the address where the argument does not.
fn describe_address(
    service: &str,
    group: &Group,
    address: SocketAddr,
    error: &io::Error,
) -> io::Error {
    if group.argument == address.to_string() {
        describe(service, &address, error)
    } else {
        describe(service, &format!("{}: {address}", group.argument), error)
    }
}

fn describe(service: &str, place: &impl std::fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{service} {place}: {error}"))
}

#[cfg(unix)]
fn listen_unix<P: Protocol + 'static>(
    reactor: &mut Reactor,
    path: &PathBuf,
    options: &ListenOptions,
    make: impl FnMut() -> P + 'static,
) -> io::Result<()> {
    if !is_abstract(path) {
        return reactor.listen_unix_with(path, options, make);
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&unix_address(path)?)?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    reactor.add_unix_listener(std::os::fd::OwnedFd::from(socket).into(), options, make)
}

#[cfg(not(unix))]
fn listen_unix<P>(
    _: &mut Reactor,
    _: &PathBuf,
    _: &ListenOptions,
    _: impl FnMut() -> P,
) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into()) // refused by address.rs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn star(port: u16) -> Group {
        let addresses = vec![([0, 0, 0, 0], port).into(), ([0; 8], port).into()];
        Group { argument: format!("*:{port}"), addresses }
    }

    /// Opens `group` on a machine where `bind` has the result of each bind(2). Port 0 becomes 7000.
    fn open_on(
        group: &Group,
        bind: impl Fn(SocketAddr) -> io::Result<()>,
    ) -> Result<Opened, OpenError> {
        let mut opened = Opened::default();
        opened.open_group("http", group, |mut address| {
            bind(address)?;
            if address.port() == 0 {
                address.set_port(7000);
            }
            Ok(address)
        })?;
        Ok(opened)
    }

    fn without_ipv6(address: SocketAddr) -> io::Result<()> {
        if address.is_ipv6() { Err(io::Error::from_raw_os_error(EAFNOSUPPORT)) } else { Ok(()) }
    }

    #[test]
    fn all_addresses_of_an_argument_get_the_port_of_the_first() {
        let opened = open_on(&star(0), |_| Ok(())).unwrap();
        assert_eq!(opened.lines, "http 0.0.0.0:7000\nhttp [::]:7000\n");
        assert!(opened.skipped.is_empty());
    }

    #[test]
    fn address_that_the_machine_lacks_is_skipped_with_a_line() {
        let opened = open_on(&star(80), without_ipv6).unwrap();
        assert_eq!(opened.lines, "http 0.0.0.0:80\n");
        let [line] = &opened.skipped[..] else { panic!("{:?}", opened.skipped) };
        assert!(line.starts_with("http *:80: [::]:80 skipped: "), "{line}");
        // A missing first address leaves the choice of the port to the next.
        let reversed =
            Group { addresses: star(0).addresses.into_iter().rev().collect(), ..star(0) };
        let opened = open_on(&reversed, without_ipv6).unwrap();
        assert_eq!((opened.lines.as_str(), opened.skipped.len()), ("http 0.0.0.0:7000\n", 1));
    }

    #[test]
    fn argument_of_which_the_machine_lacks_every_address_is_an_error() {
        let missing = |_| Err(ErrorKind::AddrNotAvailable.into());
        let Err(OpenError::Fatal(error)) = open_on(&star(80), missing) else { panic!("an error") };
        assert!(error.to_string().starts_with("http *:80: [::]:80: "), "{error}");
    }

    #[test]
    fn taken_port_may_be_chosen_anew_only_if_the_kernel_chose_it() {
        let taken_over_ipv6 = |address: SocketAddr| {
            if address.is_ipv6() { Err(ErrorKind::AddrInUse.into()) } else { Ok(()) }
        };
        let result = open_on(&star(0), taken_over_ipv6);
        assert!(matches!(result, Err(OpenError::ChosenPortTaken(_))));
        let result = open_on(&star(80), taken_over_ipv6);
        assert!(matches!(result, Err(OpenError::Fatal(_))));
    }

    #[test]
    fn sockets_are_opened_anew_until_the_attempts_are_used_up() {
        let taken = || OpenError::ChosenPortTaken(ErrorKind::AddrInUse.into());
        let mut attempts = 0;
        let third = retry_while_port_is_taken(|| {
            attempts += 1;
            if attempts < 3 { Err(taken()) } else { Ok(attempts) }
        });
        assert_eq!(third.unwrap(), 3);
        let mut attempts = 0;
        let never: io::Result<()> = retry_while_port_is_taken(|| {
            attempts += 1;
            Err(taken())
        });
        assert_eq!(
            (never.unwrap_err().kind(), attempts),
            (ErrorKind::AddrInUse, PORT_ATTEMPTS_MAX)
        );
    }
}
