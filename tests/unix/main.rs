//! Unix sockets: the same protocols as over TCP, and the files that name the sockets.

#![cfg(unix)]
// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

#[cfg(target_os = "linux")]
mod abstract_names;
#[path = "../common/mod.rs"]
mod common;
mod files;
mod streams;

use std::fs;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use common::{Program, TIMEOUT};

const MIB: usize = 1024 * 1024;

/// A directory of the test's own, with a name short enough for socket paths. Dropping it removes
/// the directory.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("reactor-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A directory that stays does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns `unix:PATH`, as the command line has it.
fn at(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// Starts the program with TCP echo on the socket at `path`.
fn serve_echo(path: &Path) -> Program {
    Program::start(&["--tcp", &at(path)])
}

/// Connects to `path`, with timeouts. The type is `TcpStream` as in the server: recv and send do
/// not depend on the address family.
fn connect(path: &Path) -> TcpStream {
    let stream = UnixStream::connect(path)
        .unwrap_or_else(|error| panic!("connect {}: {error}", path.display()));
    let stream = TcpStream::from(OwnedFd::from(stream));
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Returns the inode number of what is at `path`, without following a symbolic link.
fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|found| found.ino())
}
