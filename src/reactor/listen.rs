//! Opening listeners: on an address, on a path, or from a socket that listens already.
//!
//! Each is registered with the poller under the number of the next vacant slot, and then put into
//! that slot. The options of a listener become an entry in `src/loop_limits.rs`.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
#[cfg(unix)]
use std::path::Path;

use super::Reactor;
use super::sources::Source;
use crate::protocol::ident::Peer;
use crate::protocol::protocol::Protocol;
use crate::stream::listen_options::ListenOptions;
use crate::stream::listener::{Listener, MakeProtocol, Socket};
use crate::stream::readiness::Registered;
use crate::sys::{self, AcceptedOptions, Interest, TcpListener};

impl Reactor {
    /// Serves TCP connections on `address`, and returns the bound address, with the real port in
    /// place of port 0.
    ///
    /// `make` is called for each accepted connection, with its peer's address, and makes its
    /// protocol. Several addresses (a name may have more than one) are tried in order until one can
    /// be bound. Looking up a name blocks: in a task or a running loop, pass a
    /// [`SocketAddr`] or an address in figures.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use mio_reactor::{Echo, Limits, Reactor};
    ///
    /// let mut reactor = Reactor::new(Limits::default())?;
    /// let address = reactor.listen("127.0.0.1:0", |_peer| Echo::new())?;
    /// assert_ne!(address.port(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The kernel's error for the last address if it is in use, is not one of this machine's, or is
    /// not permitted (bind(2)). The resolver's error if a name is not known.
    pub fn listen<P: Protocol + 'static>(
        &mut self,
        address: impl ToSocketAddrs,
        make: impl FnMut(SocketAddr) -> P + 'static,
    ) -> io::Result<SocketAddr> {
        self.listen_with(address, &ListenOptions::default(), make)
    }

    /// Serves TCP connections on `address`, as [`listen`](Reactor::listen) does, with options of
    /// its own: [`ListenOptions`] has an example.
    ///
    /// # Errors
    ///
    /// As for [`listen`](Reactor::listen), and
    /// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded) if there have been 65,535 listeners already.
    pub fn listen_with<P: Protocol + 'static>(
        &mut self,
        address: impl ToSocketAddrs,
        options: &ListenOptions,
        make: impl FnMut(SocketAddr) -> P + 'static,
    ) -> io::Result<SocketAddr> {
        let socket = first_that_opens(address, |address| sys::listen(address, options))?;
        self.serve_tcp(socket, true, options, make)
    }

    /// Serves TCP connections on a socket that listens already, for example one that another
    /// process has passed on (socket activation). Returns its address.
    ///
    /// Makes the socket non-blocking. Of `options`, the timeouts, the bounds on connections and
    /// `deferred_accept` apply. The backlog and the address family stay as they are. If the backlog
    /// is longer than the default of 4096, say so in `options`: a stop accepts no more than
    /// `options.backlog`.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use mio_reactor::{Echo, Limits, ListenOptions, Reactor};
    ///
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let mut reactor = Reactor::new(Limits::default())?;
    /// reactor.add_listener(listener, &ListenOptions::default(), |_peer| Echo::new())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The kernel's error if the socket cannot be made non-blocking or registered with the poller,
    /// and `QuotaExceeded` as for [`listen_with`](Reactor::listen_with). A socket that does not
    /// listen shows later: it is closed, with a line in the log.
    pub fn add_listener<P: Protocol + 'static>(
        &mut self,
        listener: std::net::TcpListener,
        options: &ListenOptions,
        make: impl FnMut(SocketAddr) -> P + 'static,
    ) -> io::Result<SocketAddr> {
        let socket = sys::adopt_listener(listener)?;
        self.serve_tcp(socket, false, options, make)
    }

    fn serve_tcp<P: Protocol + 'static>(
        &mut self,
        socket: TcpListener,
        had_before_listen: bool,
        options: &ListenOptions,
        mut make: impl FnMut(SocketAddr) -> P + 'static,
    ) -> io::Result<SocketAddr> {
        let address = socket.local_addr()?;
        let make = move |peer: Peer| -> Box<dyn Protocol> {
            Box::new(make(peer.address().expect("a TCP socket accepts from addresses only")))
        };
        let accepted = AcceptedOptions {
            keepalive: options.needs_keepalive(),
            had_before_listen,
            is_deferred: options.deferred_accept && sys::defer_accept(&socket, true),
        };
        let socket = Socket::Tcp(socket, accepted);
        self.insert_listener(socket, address.to_string(), options, Box::new(make))?;
        Ok(address)
    }

    /// Serves connections on a Unix stream socket at `path`, as [`listen`](Reactor::listen) does
    /// over TCP.
    ///
    /// `make` is called for each accepted connection and makes its protocol, which need not know
    /// the difference.
    ///
    /// The file at `path` belongs to the socket. It is removed when the reactor stops or is
    /// dropped, unless another file has replaced it. A client that finds the file can connect: the
    /// socket is bound and listens under a temporary name first, `PATH.0` or similar, which is also
    /// the name that tools such as ss(8) show. A process that is killed leaves a stale file, behind
    /// which no process listens. Such a file is removed here, and `path` is taken over. (If two
    /// processes take over the same stale file at the same moment, one of them may get a socket
    /// that no client can reach: probing the file and removing it are two steps.)
    ///
    /// Write permission for the file allows a user to connect. With the usual umask of 022, that is
    /// only the user who runs this process. To permit others, set the umask before, or the file's
    /// mode afterwards. To exclude others reliably, put the file into a directory that only
    /// permitted users can enter.
    ///
    /// A Unix socket has no reset. Where a TCP peer would get one
    /// ([`Next::Abort`](crate::Next::Abort)), a Unix peer gets an end of file.
    ///
    /// # Errors
    ///
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if a process listens at `path`, or if something
    /// other than a socket is there; it is left as it is.
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if `path` is empty, too long (on Linux, over
    /// 107 bytes) or contains a zero byte. Otherwise the kernel's error, if the directory does not
    /// exist or is not writable.
    #[cfg(unix)]
    pub fn listen_unix<P: Protocol + 'static>(
        &mut self,
        path: impl AsRef<Path>,
        make: impl FnMut() -> P + 'static,
    ) -> io::Result<()> {
        self.listen_unix_with(path, &ListenOptions::default(), make)
    }

    /// Serves connections on a Unix stream socket at `path`, as
    /// [`listen_unix`](Reactor::listen_unix) does, with options of its own. `ipv6_only` has no
    /// effect, and no keepalive is needed: the kernel knows when a local peer is gone.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use mio_reactor::{Echo, Limits, ListenOptions, Reactor};
    ///
    /// let path = std::env::temp_dir().join(format!("echo-{}", std::process::id()));
    /// let mut reactor = Reactor::new(Limits::default())?;
    /// let options = ListenOptions::default().with_connections_max(8);
    /// reactor.listen_unix_with(&path, &options, Echo::new)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`listen_unix`](Reactor::listen_unix), and `QuotaExceeded` as for
    /// [`listen_with`](Reactor::listen_with).
    #[cfg(unix)]
    pub fn listen_unix_with<P: Protocol + 'static>(
        &mut self,
        path: impl AsRef<Path>,
        options: &ListenOptions,
        mut make: impl FnMut() -> P + 'static,
    ) -> io::Result<()> {
        let path = path.as_ref();
        let socket = Socket::Unix(sys::UnixListener::bind(path, options)?);
        let make = move |_: Peer| -> Box<dyn Protocol> { Box::new(make()) };
        self.insert_listener(socket, format!("unix:{}", path.display()), options, Box::new(make))
    }

    /// Serves connections on a Unix socket that listens already, as
    /// [`add_listener`](Reactor::add_listener) does over TCP. Its file, if it has one, is not
    /// removed at the end: it belongs to the process that has bound the socket.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::os::unix::net::UnixListener;
    /// use mio_reactor::{Echo, Limits, ListenOptions, Reactor};
    ///
    /// let path = std::env::temp_dir().join(format!("bound-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let mut reactor = Reactor::new(Limits::default())?;
    /// reactor.add_unix_listener(listener, &ListenOptions::default(), Echo::new)?;
    /// std::fs::remove_file(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`add_listener`](Reactor::add_listener).
    #[cfg(unix)]
    pub fn add_unix_listener<P: Protocol + 'static>(
        &mut self,
        listener: std::os::unix::net::UnixListener,
        options: &ListenOptions,
        mut make: impl FnMut() -> P + 'static,
    ) -> io::Result<()> {
        let name = unix_name(&listener.local_addr()?);
        let socket = Socket::Unix(sys::UnixListener::adopt(listener)?);
        let make = move |_: Peer| -> Box<dyn Protocol> { Box::new(make()) };
        self.insert_listener(socket, name, options, Box::new(make))
    }

    fn insert_listener(
        &mut self,
        mut socket: Socket,
        address: String,
        options: &ListenOptions,
        make: MakeProtocol,
    ) -> io::Result<()> {
        self.register_next(socket.source(), Interest::READABLE)?;
        // Of the descriptors that are left, and those that are connections already.
        let open = self.open_connections();
        let descriptors_max = sys::descriptors_left().saturating_add(open);
        // Last, because it stays for good.
        let index = self.state.loop_limits.add(options, descriptors_max)?;
        let listener = Box::new(Listener::new(socket, address, index, options, make));
        let token = self.insert(Source::Listener(listener), Registered::Reading);
        self.listeners.push(token);
        if self.state.stop.is_stopping() {
            self.begin_drain(token);
        }
        Ok(())
    }
}

/// Returns what `open` makes of the first address for which it succeeds, or its last error.
pub(super) fn first_that_opens<T>(
    addresses: impl ToSocketAddrs,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
    for address in addresses.to_socket_addrs()? {
        match open(address) {
            Ok(opened) => return Ok(opened),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Returns the name of a Unix socket for the log. One in Linux's abstract namespace has an `@` and
/// no path (unix(7)).
#[cfg(unix)]
fn unix_name(address: &std::os::unix::net::SocketAddr) -> String {
    if let Some(path) = address.as_pathname() {
        return format!("unix:{}", path.display());
    }
    #[cfg(target_os = "linux")]
    if let Some(name) = std::os::linux::net::SocketAddrExt::as_abstract_name(address) {
        return format!("unix:@{}", name.escape_ascii());
    }
    "unix:(no path)".to_owned()
}
