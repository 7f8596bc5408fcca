//! A listening Unix stream socket, and the file that is its address.
//!
//! ```text
//!     bind, listen: a socket file with a temporary name beside the path
//!       │
//!       └─► link it to the path
//!             nothing there ─────────────────────────────────► done: the file is ours
//!             a socket file, no process listens (stale) ─────► removed, and linked again
//!             a socket file, and a process listens ──┐
//!             anything else, also a symbolic link ───┴───────► AddrInUse, and it is left as it is
//! ```
//!
//! The kernel creates the file on bind(2), and leaves its removal to us. So a process that is
//! killed leaves a stale file: no process listens, but bind(2) fails as long as the file exists.
//! Nothing is removed here but a stale file and our own.
//!
//! bind(2) and listen(2) are two steps, and between them a socket file looks stale. So both are
//! done under a temporary name that no other process uses, and link(2) then makes the file appear
//! at the path. A client that finds the file there can connect. And we know which file is ours
//! before another process can have replaced it. The temporary name is removed when the link is
//! made. A process that is killed before that leaves it behind. (It is also the name that the
//! system reports for the socket: ss(8) shows `PATH.N`.)
//!
//! An accepted socket is returned as a TCP stream. Both are descriptors, and recv, send and
//! shutdown do not depend on the address family. So nothing that is done for each message has to
//! distinguish the two.

use std::fs;
use std::io::{self, ErrorKind};
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf, absolute};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use socket2::{Domain, SockAddr, Socket, Type};

#[cfg(target_os = "linux")]
use super::errno::is_refused_call;
use super::errno::{self, AcceptError};
use crate::stream::listen_options::ListenOptions;

/// Most temporary names that are tried. Each is taken while another process starts on the same
/// path, or for good if that process was killed meanwhile. Beyond it: an error.
const TEMPORARY_NAMES_MAX: u8 = 16;

/// Most attempts to link the file to the path. Each attempt that finds a stale file removes it. The
/// second one succeeds, unless other processes leave stale files as fast as we retry. Beyond it: an
/// error.
const LINK_ATTEMPTS_MAX: u8 = 16;

/// Returns how many descriptors this process may have: the soft limit of RLIMIT_NOFILE
/// (getrlimit(2)), or `usize::MAX` if there is none.
///
/// # Errors
///
/// Only that of a sandbox, which refuses prlimit(2) on Linux.
pub(crate) fn descriptors_max() -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    let limit = Some(super::linux::descriptors_max()?);
    #[cfg(not(target_os = "linux"))]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Ok(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX))
}

/// Returns how many more descriptors this process may open: its limit, less the lowest number that
/// is free, which a new socket gets. Numbers above that one may be in use, too; then it is less.
/// `usize::MAX` if there is no such limit, or if it is not known.
pub(crate) fn descriptors_left() -> usize {
    let limit = descriptors_max().unwrap_or_else(|error| {
        log::warn!("getrlimit refused ({error}): no descriptors are kept for single listeners");
        usize::MAX
    });
    match Socket::new(Domain::IPV4, Type::DGRAM, None) {
        Ok(socket) => limit.saturating_sub(usize::try_from(socket.as_raw_fd()).unwrap_or(0)),
        Err(error) if errno::classify_accept(&error) == AcceptError::Exhausted => 0,
        Err(_) => usize::MAX, // not known
    }
}

pub(crate) struct UnixListener {
    /// Dropped first, while the socket still holds its inode: until then no other file can have the
    /// same inode number.
    /// `None`: the file belongs to the process that has bound the socket.
    _file: Option<SocketFile>,
    socket: mio::net::UnixListener,
}

impl UnixListener {
    /// Opens a socket that listens at `path`, non-blocking, closed on exec.
    pub(crate) fn bind(path: &Path, options: &ListenOptions) -> io::Result<UnixListener> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            // The kernel takes these for names without a file (unix(7)).
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "a Unix socket needs the path of a file",
            ));
        }
        let address = address_of(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let temporary = bind_temporary(path, &socket)?;
        // If a later step fails, dropping this removes the file.
        let temporary = SocketFile::at(absolute(temporary)?)?;
        socket.listen(options.backlog_as_int())?;
        let file =
            temporary.move_to(absolute(path)?, &address, |from, to| fs::hard_link(from, to))?;
        Ok(UnixListener { _file: Some(file), socket: OwnedFd::from(socket).into() })
    }

    /// Takes over a socket that listens already, and makes it non-blocking.
    pub(crate) fn adopt(socket: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
        socket.set_nonblocking(true)?;
        Ok(UnixListener { _file: None, socket: mio::net::UnixListener::from_std(socket) })
    }

    /// Accepts a connection, non-blocking and closed on exec, as `sys::accept` does.
    pub(crate) fn accept(&self, accept4_refused: &mut bool) -> io::Result<TcpStream> {
        let accept = || self.socket.accept().map(|(stream, _)| OwnedFd::from(stream).into());
        #[cfg(target_os = "linux")]
        return accept_with(&self.socket, accept4_refused, accept, |socket, _| {
            Ok(OwnedFd::from(socket).into())
        });
        #[cfg(not(target_os = "linux"))]
        {
            let _ = accept4_refused;
            accept()
        }
    }
}

/// Calls `accept4`, or, where that is refused, makes a stream of what accept(2) returns.
///
/// The error alone does not tell, because accept4(2) also fails with EPERM where a firewall forbids
/// the connection. So `refused` is set only if accept(2) succeeds.
#[cfg(target_os = "linux")]
pub(super) fn accept_with<T>(
    listener: &impl AsFd,
    refused: &mut bool,
    accept4: impl FnOnce() -> io::Result<T>,
    stream: impl FnOnce(Socket, SockAddr) -> io::Result<T>,
) -> io::Result<T> {
    if !*refused {
        match accept4() {
            Err(error) if is_refused_call(&error) => {}
            other => return other,
        }
    }
    let (socket, peer) = SockRef::from(listener).accept_raw()?;
    *refused = true;
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    stream(socket, peer)
}

impl Source for UnixListener {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.socket.register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.socket.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

fn address_of(path: &Path) -> io::Result<SockAddr> {
    let too_long = |_| {
        io::Error::new(
            ErrorKind::InvalidInput,
            "the path is too long for a Unix socket (on Linux: 107 bytes)",
        )
    };
    SockAddr::unix(path).map_err(too_long)
}

/// Binds `socket` to an unused temporary name in the directory of `path`, and returns the name's
/// path.
fn bind_temporary(path: &Path, socket: &Socket) -> io::Result<PathBuf> {
    for number in 0..TEMPORARY_NAMES_MAX {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{number:x}"));
        let mut temporary = path.with_file_name(name);
        if SockAddr::unix(&temporary).is_err() {
            // With these two bytes the path is too long, so they are the whole name.
            temporary.set_file_name(format!(".{number:x}"));
        }
        match socket.bind(&address_of(&temporary)?) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            other => return other.map(|()| temporary),
        }
    }
    Err(in_use("so are all temporary names beside it"))
}

/// Removes a stale socket file from `path`. Anything else at `path` is left as it is, and is the
/// error.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()), // already removed
        other => other?,
    };
    if found.is_symlink() {
        return Err(in_use("a symbolic link is there, which is not followed"));
    }
    if !found.file_type().is_socket() {
        return Err(in_use("a file that is not a socket is there"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // EAGAIN: a process listens, and its backlog is full. (The BSDs report ECONNREFUSED for
        // that, as for a stale file.)
        Ok(()) => return Err(in_use("a process listens there")),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            return Err(in_use("a process listens there"));
        }
        Err(error) => {
            return Err(in_use(&format!("a socket of unknown state is there: {error}")));
        }
    }
    // Only the file that was probed is removed.
    if fs::symlink_metadata(path).is_ok_and(|now| identity(&now) == identity(&found)) {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn in_use(why: &str) -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, format!("address in use: {why}"))
}

/// The file of our own socket, which is removed when this is dropped.
struct SocketFile {
    /// An absolute path, because the process may change its directory.
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: PathBuf) -> io::Result<SocketFile> {
        let identity = identity(&fs::symlink_metadata(&path)?);
        Ok(SocketFile { path, identity })
    }

    /// Moves the file to `path`, where it replaces nothing but a stale socket file. `link` is
    /// link(2).
    fn move_to(
        self,
        path: PathBuf,
        address: &SockAddr,
        link: impl Fn(&Path, &Path) -> io::Result<()>,
    ) -> io::Result<SocketFile> {
        for _ in 0..LINK_ATTEMPTS_MAX {
            match link(&self.path, &path) {
                Ok(()) => return Ok(SocketFile { path, identity: self.identity }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    remove_stale(&path, address)?;
                }
                Err(_) => {
                    // Not every file system has links. rename(2) does the same, but it also
                    // replaces a file that was created since `remove_stale` looked. If the error
                    // had another cause, rename(2) fails, too.
                    remove_stale(&path, address)?;
                    fs::rename(&self.path, &path)?;
                    return Ok(SocketFile { path, identity: self.identity });
                }
            }
        }
        Err(in_use("other processes keep creating the file"))
    }

    /// Returns whether the file at the path is still this one, and not another of the same name.
    fn is_at_path(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If this fails, the file is left stale, as if the process had been killed.
        if self.is_at_path()
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::debug!("unix:{}: socket file not removed: {error}", self.path.display());
        }
    }
}

/// Returns the device and the inode number, which identify a file whatever its name.
fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net;

    /// A directory for one test, removed on drop.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("reactor-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Directory(path)
        }

        fn path(&self) -> PathBuf {
            self.0.join("socket")
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        /// Listens at the path as `UnixListener::bind` does, with `link` in place of link(2).
        fn listen(
            &self,
            link: impl Fn(&Path, &Path) -> io::Result<()>,
        ) -> io::Result<(SocketFile, Socket)> {
            let (path, socket) =
                (self.path(), Socket::new(Domain::UNIX, Type::STREAM, None).unwrap());
            let temporary = SocketFile::at(bind_temporary(&path, &socket)?)?;
            socket.listen(ListenOptions::default().backlog_as_int())?;
            let address = address_of(&path)?;
            Ok((temporary.move_to(path, &address, link)?, socket))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            // If this fails, only a temporary directory is left.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn no_links(_: &Path, _: &Path) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn path_is_bound_and_refused_on_a_file_system_without_links() {
        let directory = Directory::new("no-links");
        for is_stale in [false, true] {
            if is_stale {
                drop(net::UnixListener::bind(directory.path()).unwrap());
            }
            let ours = directory.listen(no_links).unwrap();
            net::UnixStream::connect(directory.path()).unwrap();
            assert_eq!(
                directory.listen(no_links).map(drop).unwrap_err().kind(),
                ErrorKind::AddrInUse
            );
            assert_eq!(directory.names(), ["socket"]);
            drop(ours);
            assert_eq!(directory.names(), [""; 0]);
        }
    }

    // pitfall: 89
    #[test]
    fn path_stays_with_a_socket_bound_just_before_our_link() {
        // The other socket binds the path after we removed the stale file, and just before our
        // second link.
        let directory = Directory::new("raced");
        drop(net::UnixListener::bind(directory.path()).unwrap());
        let (other, attempts) = (std::cell::OnceCell::new(), std::cell::Cell::new(0));
        let link = |from: &Path, to: &Path| {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 2 {
                assert!(other.set(net::UnixListener::bind(to).unwrap()).is_ok());
            }
            fs::hard_link(from, to)
        };
        assert_eq!(directory.listen(link).map(drop).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!((attempts.get(), directory.names()), (2, vec!["socket".to_string()]));
        net::UnixStream::connect(directory.path()).unwrap();
    }

    #[test]
    fn link_attempts_end_although_stale_files_keep_appearing() {
        let directory = Directory::new("endless");
        let link = |from: &Path, to: &Path| {
            drop(net::UnixListener::bind(to).unwrap());
            fs::hard_link(from, to)
        };
        assert_eq!(directory.listen(link).map(drop).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(
            directory.names(),
            [""; 0],
            "the last stale file has been removed, and so has ours"
        );
    }

    #[test]
    fn used_temporary_names_are_skipped_until_none_is_left() {
        let directory = Directory::new("temporary");
        let names =
            |count: u8| (0..count).map(|number| format!("socket.{number:x}")).collect::<Vec<_>>();
        for name in names(TEMPORARY_NAMES_MAX - 1) {
            fs::write(directory.0.join(name), "").unwrap();
        }
        let ours = UnixListener::bind(&directory.path(), &ListenOptions::default()).unwrap();
        net::UnixStream::connect(directory.path()).unwrap();
        drop(ours);
        assert_eq!(directory.names(), names(TEMPORARY_NAMES_MAX - 1));
        fs::write(
            directory.0.join(&names(TEMPORARY_NAMES_MAX)[usize::from(TEMPORARY_NAMES_MAX) - 1]),
            "",
        )
        .unwrap();
        assert_eq!(
            UnixListener::bind(&directory.path(), &ListenOptions::default())
                .map(drop)
                .unwrap_err()
                .kind(),
            ErrorKind::AddrInUse
        );
        assert_eq!(directory.names(), names(TEMPORARY_NAMES_MAX));
    }
}
