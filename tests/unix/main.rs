//! Unix sockets: the same conversations as over TCP, and what becomes of the files.

#![cfg(unix)]
// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

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

use common::{PATIENCE, Program};

const MIB: usize = 1024 * 1024;

/// A directory of the test's own, with a name short enough for sockets. It goes with the value.
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
        // It is only tidiness.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `unix:PATH`, as the command line has it.
fn at(path: &Path) -> String {
    format!("unix:{}", path.display())
}

fn serve_echo(path: &Path) -> Program {
    Program::start(&["--tcp", &at(path)])
}

/// A connection that does not wait for ever. As in the server, recv and send do not ask for its family.
fn connect(path: &Path) -> TcpStream {
    let stream = UnixStream::connect(path)
        .unwrap_or_else(|error| panic!("connect {}: {error}", path.display()));
    let stream = TcpStream::from(OwnedFd::from(stream));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What is at `path` itself, and not behind a link: the same file has the same number.
fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|found| found.ino())
}
