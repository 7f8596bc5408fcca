//! Files over HTTP, as a client of the program sees them: what is served, and at what cost.

#![cfg(unix)]
// Helpers of tests may unwrap, as tests do, and print why a test is skipped.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;
#[path = "files/served.rs"]
mod served;
#[path = "files/not_served.rs"]
mod not_served;
#[path = "files/conditions.rs"]
mod conditions;
#[path = "files/transfer.rs"]
mod transfer;
#[path = "files/resources.rs"]
mod resources;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use common::{Program, connect};

const MIB: usize = 1024 * 1024;
const SECRET: &[u8] = b"This must never be served.";

/// A temporary directory with the root in it, and a secret beside the root. It is removed when the
/// value is dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let temp = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&temp); // left by a killed process with the same id
        fs::create_dir_all(temp.join("root")).unwrap();
        fs::write(temp.join("secret"), SECRET).unwrap();
        TempDir(temp)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn file(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> PathBuf {
        let path = self.root().join(name.as_ref());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn serve(&self, flags: &[&str]) -> Program {
        let root = self.root();
        Program::start(
            &[&["--http", "127.0.0.1:0", "--root", root.to_str().unwrap()], flags].concat(),
        )
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A response that was received.
struct HttpResponse {
    head: String,
    body: Vec<u8>,
}

impl HttpResponse {
    fn status(&self) -> &str {
        &self.head["HTTP/1.0 ".len()..][..3]
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Reads a head, and the body after it if `has_body`.
#[track_caller]
fn read_response(stream: &mut impl Read, has_body: bool) -> HttpResponse {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let mut response = HttpResponse { head: String::from_utf8(head).unwrap(), body: Vec::new() };
    let length = response
        .field("Content-Length")
        .filter(|_| has_body)
        .map_or(0, |length| length.parse().unwrap());
    response.body.resize(length, 0);
    stream.read_exact(&mut response.body).unwrap();
    response
}

/// The response to one HTTP/1.0 request on a connection of its own. `line` is the request line up
/// to the version. Checks that the connection ends after the response.
#[track_caller]
fn request(address: SocketAddr, line: &str, fields: &str) -> HttpResponse {
    let mut stream = connect(address);
    write!(stream, "{line} HTTP/1.0\r\n{fields}\r\n").unwrap();
    let response = read_response(&mut stream, !line.starts_with("HEAD"));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.escape_ascii().to_string(), "", "{line}: bytes after the response");
    response
}

fn get(address: SocketAddr, target: &str) -> HttpResponse {
    request(address, &format!("GET {target}"), "")
}

/// Reads from `stream` as many bytes as the file at `path` has, and compares them piece by piece.
/// Returns their count.
#[track_caller]
fn check_bytes_of(path: &Path, stream: &mut impl Read) -> usize {
    let (mut file, mut count) = (File::open(path).unwrap(), 0);
    let (mut expected, mut received) = (vec![0; MIB], vec![0; MIB]);
    loop {
        let length = file.read(&mut expected).unwrap();
        if length == 0 {
            return count;
        }
        stream
            .read_exact(&mut received[..length])
            .unwrap_or_else(|error| panic!("{error} after {count}"));
        assert!(
            received[..length] == expected[..length],
            "a byte differs from the file, after {count}"
        );
        count += length;
    }
}
