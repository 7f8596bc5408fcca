//! A Unix stream socket that listens, and the file that stands for it.
//!
//! ```text
//!     bind, listen: a file beside the path
//!       │
//!       └─► link it to the path
//!             nothing there ──────────────────────────────► done: the file is ours
//!             a socket's file, nobody listens behind it ──► removed, and linked again
//!             a socket's file, and somebody listens ──┐
//!             anything else, also a symbolic link ────┴───► AddrInUse, and it is left as it is
//! ```
//!
//! The kernel makes the file on bind(2), and leaves it to us to remove it. So whoever is killed leaves a file behind that
//! nobody answers at, and that keeps everybody from binding again. Nothing is removed here but such a file, and our own.
//!
//! To bind and to listen are two steps, and a file between them looks like one that was left behind. So both are done at a name
//! that nobody else asks about, and link(2) shows it at the path: who finds the file there finds somebody who listens, and we
//! know which file is ours before anybody else can have put another in its place. The name beside it is gone when that is done;
//! whoever is killed before leaves it lying. (It is also what the system shows as the socket's: ss(8) says `PATH.N`.)
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

/// How many names beside the path are tried. Each is taken for as long as somebody starts there, or for good where somebody was
/// killed in that moment. Beyond it: an error.
const NAMES_MAX: u8 = 16;

/// How often the path is tried, where each time the file of somebody who does not listen any more is found there and removed. The
/// second time there is none, unless others come and are killed as fast as we look. Beyond it: an error.
const LOOKS_MAX: u8 = 16;

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
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "a Unix socket needs the path of a file",
            ));
        }
        let address = address_of(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let beside = bind_beside(path, &socket)?;
        // Whatever fails from here on takes the file with it.
        let beside = OwnFile::at(absolute(beside)?)?;
        socket.listen(BACKLOG)?;
        let file = beside.show_at(absolute(path)?, &address, |from, to| fs::hard_link(from, to))?;
        Ok(UnixListener { _file: file, socket: OwnedFd::from(socket).into() })
    }

    /// Accepts one, non-blocking and closed on exec.
    pub(crate) fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.socket.accept()?;
        Ok(OwnedFd::from(stream).into())
    }
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

/// Binds `socket` in the directory of `path`, to a name that nobody has, and returns where that is.
fn bind_beside(path: &Path, socket: &Socket) -> io::Result<PathBuf> {
    for number in 0..NAMES_MAX {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{number:x}"));
        let mut beside = path.with_file_name(name);
        if SockAddr::unix(&beside).is_err() {
            // With these two bytes it is too long; they have to do alone.
            beside.set_file_name(format!(".{number:x}"));
        }
        match socket.bind(&address_of(&beside)?) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            other => return other.map(|()| beside),
        }
    }
    Err(in_use("and so are all names beside it"))
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
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            return Err(in_use("somebody listens there"));
        }
        Err(error) => {
            return Err(in_use(&format!("there is a socket of which nothing is known: {error}")));
        }
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

    /// Has it at `path` from now on, and no longer where it was. `link` is link(2).
    fn show_at(
        self,
        path: PathBuf,
        address: &SockAddr,
        link: impl Fn(&Path, &Path) -> io::Result<()>,
    ) -> io::Result<OwnFile> {
        for _ in 0..LOOKS_MAX {
            match link(&self.path, &path) {
                Ok(()) => return Ok(OwnFile { path, identity: self.identity }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    remove_stale(&path, address)?;
                }
                Err(_) => {
                    // Not every file system has links. To rename is the same, but takes the place of who has come since the look
                    // before. If something else is wrong, it is wrong here too.
                    remove_stale(&path, address)?;
                    fs::rename(&self.path, &path)?;
                    return Ok(OwnFile { path, identity: self.identity });
                }
            }
        }
        Err(in_use("others come and go there"))
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
            log::debug!("unix:{}: socket file not removed: {error}", self.path.display());
        }
    }
}

/// The device and the inode: what the system knows a file by, whatever it is called.
fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net;

    /// A directory of the test's own. It goes with the value.
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

        /// Begins to listen at its path as `UnixListener::bind` does, where link(2) is `link`.
        fn listen(
            &self,
            link: impl Fn(&Path, &Path) -> io::Result<()>,
        ) -> io::Result<(OwnFile, Socket)> {
            let (path, socket) =
                (self.path(), Socket::new(Domain::UNIX, Type::STREAM, None).unwrap());
            let beside = OwnFile::at(bind_beside(&path, &socket)?)?;
            socket.listen(BACKLOG)?;
            let address = address_of(&path)?;
            Ok((beside.show_at(path, &address, link)?, socket))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            // It is only tidiness.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn no_links(_: &Path, _: &Path) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn where_there_are_no_links_a_path_is_taken_and_refused_all_the_same() {
        let directory = Directory::new("no-links");
        for left_behind in [false, true] {
            if left_behind {
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

    #[test]
    fn who_comes_at_the_very_moment_keeps_the_path() {
        // The other one comes when nothing stands in our way any more but the link.
        let directory = Directory::new("moment");
        drop(net::UnixListener::bind(directory.path()).unwrap());
        let (other, looks) = (std::cell::OnceCell::new(), std::cell::Cell::new(0));
        let link = |from: &Path, to: &Path| {
            looks.set(looks.get() + 1);
            if looks.get() == 2 {
                assert!(other.set(net::UnixListener::bind(to).unwrap()).is_ok());
            }
            fs::hard_link(from, to)
        };
        assert_eq!(directory.listen(link).map(drop).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!((looks.get(), directory.names()), (2, vec!["socket".to_string()]));
        net::UnixStream::connect(directory.path()).unwrap();
    }

    #[test]
    fn where_others_come_and_go_without_end_we_do_not_try_without_end() {
        let directory = Directory::new("others");
        let link = |from: &Path, to: &Path| {
            drop(net::UnixListener::bind(to).unwrap());
            fs::hard_link(from, to)
        };
        assert_eq!(directory.listen(link).map(drop).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(
            directory.names(),
            [""; 0],
            "the last of them has been removed, and so has ours"
        );
    }

    #[test]
    fn a_name_beside_the_path_that_somebody_has_is_passed_over() {
        let directory = Directory::new("beside");
        let names =
            |count: u8| (0..count).map(|number| format!("socket.{number:x}")).collect::<Vec<_>>();
        for name in names(NAMES_MAX - 1) {
            fs::write(directory.0.join(name), "").unwrap();
        }
        let ours = UnixListener::bind(&directory.path()).unwrap();
        net::UnixStream::connect(directory.path()).unwrap();
        drop(ours);
        assert_eq!(directory.names(), names(NAMES_MAX - 1));
        fs::write(directory.0.join(&names(NAMES_MAX)[usize::from(NAMES_MAX) - 1]), "").unwrap();
        assert_eq!(
            UnixListener::bind(&directory.path()).map(drop).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        assert_eq!(directory.names(), names(NAMES_MAX));
    }
}
