//! Files over HTTP, as clients of the program see them: what is served, what is not, and at whose cost.

#![cfg(unix)]
// The helpers here unwrap as the tests do, and say why they have nothing to do.
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
const SECRET: &[u8] = b"Nobody may see this.";

/// A directory with the root in it, and beside the root a secret. It goes with the value.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place); // of a process that had our number and was killed
        fs::create_dir_all(place.join("root")).unwrap();
        fs::write(place.join("secret"), SECRET).unwrap();
        Place(place)
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

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> &str {
        &self.head["HTTP/1.0 ".len()..][..3]
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Reads a head, and as many bytes behind it as `length` makes of it.
#[track_caller]
fn read_answer(stream: &mut impl Read, has_body: bool) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let mut answer = Answer { head: String::from_utf8(head).unwrap(), body: Vec::new() };
    let length = answer
        .field("Content-Length")
        .filter(|_| has_body)
        .map_or(0, |length| length.parse().unwrap());
    answer.body.resize(length, 0);
    stream.read_exact(&mut answer.body).unwrap();
    answer
}

/// One request on a connection of its own. `line` is all that stands before the version; behind the answer, the connection
/// ends.
#[track_caller]
fn ask(address: SocketAddr, line: &str, fields: &str) -> Answer {
    let mut stream = connect(address);
    write!(stream, "{line} HTTP/1.0\r\n{fields}\r\n").unwrap();
    let answer = read_answer(&mut stream, !line.starts_with("HEAD"));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.escape_ascii().to_string(), "", "{line}: bytes after the answer");
    answer
}

fn get(address: SocketAddr, target: &str) -> Answer {
    ask(address, &format!("GET {target}"), "")
}

/// Reads what `path` has from `stream`, and compares as it comes.
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
            "another byte than in the file, after {count}"
        );
        count += length;
    }
}
