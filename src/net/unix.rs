//! A Unix stream socket that listens, and the file that stands for it.
//!
//! ```text
//!                nothing there ──────────────────────────────► bind: the file is ours
//!     path ──►   a socket's file, nobody listens behind it ──► removed, then bound anew
//!                a socket's file, and somebody listens ──┐
//!                anything else, also a symbolic link ────┴───► AddrInUse, and it is left as it is
//! ```
//!
//! The kernel makes the file on bind(2), and leaves it to us to remove it. So whoever is killed leaves a file behind that
//! nobody answers at, and that keeps everybody from binding again. Nothing is removed here but such a file, and our own.
//!
//! Whoever is accepted is handed on as a TCP stream: a descriptor is one, and recv, send and shutdown do not ask for its family.
//! So nothing that is done for each message has to tell the two apart.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf, absolute};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::limits::BACKLOG;

pub(crate) struct UnixListener {
    /// Dropped first, while the socket still holds its inode: until then no other file can have the same number.
    _file: OwnFile,
    socket: mio::net::UnixListener,
}

impl UnixListener {
    /// A socket that listens at `path`, non-blocking, closed on exec.
    pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            // To the kernel these would be names without a file.
            return Err(io::Error::new(ErrorKind::InvalidInput, "a Unix socket needs the path of a file"));
        }
        let too_long =
            |_| io::Error::new(ErrorKind::InvalidInput, "the path is too long for a Unix socket (on Linux: 107 bytes)");
        let address = SockAddr::unix(path).map_err(too_long)?;
        let path = absolute(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.bind(&address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                remove_stale(&path, &address)?;
                socket.bind(&address)?;
            }
            other => other?,
        }
        // Whatever fails from here on takes the file with it.
        let file = OwnFile::at(path)?;
        socket.listen(BACKLOG)?;
        if !file.is_there() {
            // Before we listened, somebody else may have found nobody behind it.
            return Err(in_use("somebody else has taken it at the same moment"));
        }
        Ok(UnixListener { _file: file, socket: OwnedFd::from(socket).into() })
    }

    /// Accepts one, non-blocking and closed on exec.
    pub(crate) fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.socket.accept()?;
        Ok(OwnedFd::from(stream).into())
    }
}

impl Source for UnixListener {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

/// Removes the file of a socket at which nobody listens any more. What else is at `path` stays, and is the error.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()), // somebody else has removed it
        other => other?,
    };
    if found.is_symlink() {
        return Err(in_use("there is a symbolic link, which is not followed"));
    }
    if !found.file_type().is_socket() {
        return Err(in_use("there is a file which is not a socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // Also where so many wait already that nobody else may (EAGAIN; the BSDs say ECONNREFUSED then, and cannot be asked).
        Ok(()) => return Err(in_use("somebody listens there")),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(in_use("somebody listens there")),
        Err(error) => return Err(in_use(&format!("there is a socket of which nothing is known: {error}"))),
    }
    // Only what has been asked is removed.
    if fs::symlink_metadata(path).is_ok_and(|now| identity(&now) == identity(&found)) {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn in_use(why: &str) -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, format!("address in use, {why}"))
}

/// The file of our own socket, which is removed when this is dropped.
struct OwnFile {
    /// Where it is, also if the process changes its directory.
    path: PathBuf,
    identity: (u64, u64),
}

impl OwnFile {
    fn at(path: PathBuf) -> io::Result<OwnFile> {
        let identity = identity(&fs::symlink_metadata(&path)?);
        Ok(OwnFile { path, identity })
    }

    /// Is what is at its path still this file, and not another of the same name?
    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity)
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        // Where this fails, what is left is a file like that of somebody who was killed.
        if self.is_there()
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::debug!("unix:{}: its file stays: {error}", self.path.display());
        }
    }
}

/// The device and the inode: what the system knows a file by, whatever it is called.
fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
