//! Unix sockets: the same conversations as over TCP, and what becomes of the files.

#![cfg(unix)]
// The helpers here unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Barrier, mpsc};
use std::thread;

use common::{
    Ending, PATIENCE, Program, any_port, assert_same, check_echo, check_end, pattern, reactor,
    stuff, turn_until,
};
use mio_reactor::{Advance, Context, Echo, Limits, Peer, Protocol, Reactor};
use socket2::{Domain, MsgHdr, SockAddr, SockRef, Socket, Type};

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

// ---- conversations

#[test]
fn every_byte_comes_back_over_a_unix_socket_and_then_the_end() {
    // Sizes around those of the server's read and of the kernel's buffers. The end of our side follows the last byte at once.
    let directory = Directory::new("echo");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    for size in [0, 1, 4096, 65_536, 69_632, 69_633, 212_992, 8 * MIB] {
        let bytes = pattern(1, size);
        let stream = connect(&path);
        let mut writer = stream.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&bytes).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            check_end(stream, &bytes);
        });
    }
    let mut stream = connect(&path);
    (0..100).for_each(|round| check_echo(&mut stream, &pattern(round, 1000)));
    assert_eq!(program.stop().status.code(), Some(0));
}

#[test]
fn a_peer_that_does_not_read_is_waited_for_and_loses_nothing() {
    // All buffers are full, and then it reads. Room in a Unix socket is told of only when it is three quarters empty again.
    let directory = Directory::new("slow");
    let path = directory.path("socket");
    let _program = serve_echo(&path);
    let mut stream = connect(&path);
    let bytes = pattern(2, 4 * MIB);
    let sent = stuff(&mut stream, &bytes);
    assert!(sent < bytes.len(), "it is held up");
    let mut reply = vec![0; sent];
    stream.read_exact(&mut reply).unwrap();
    assert_same(&reply, &bytes[..sent]);
    check_echo(&mut stream, b"And on it goes.");
}

#[test]
fn two_hundred_who_came_before_anyone_was_served_are_all_served() {
    // One event stands for all of them.
    let directory = Directory::new("crowd");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    let mut streams: Vec<TcpStream> =
        program.while_held(|| (0..200).map(|_| connect(&path)).collect());
    streams.iter_mut().for_each(|stream| check_echo(stream, b"Here I am."));
}

#[test]
fn http_over_a_unix_socket_keeps_its_connection_and_ends_in_order() {
    // A hundred pipelined requests, the last of which closes, and then the client's end.
    let directory = Directory::new("http");
    let path = directory.path("socket");
    let program = Program::start(&["--http", &at(&path), "--access-log"]);
    let mut stream = connect(&path);
    let requests = "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n".repeat(99)
        + "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(requests.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.0 200 OK\r\n").count(), 100, "{answers}");
    assert_eq!(answers.matches("Hello, World!").count(), 99, "{answers}");
    assert!(answers.ends_with("</html>\n"), "{answers}");
    let ending = program.stop();
    assert_eq!(ending.status.code(), Some(0));
    assert_eq!(
        ending.stderr.iter().filter(|line| line.starts_with("unix - - [")).count(),
        100,
        "{:?}",
        ending.stderr
    );
}

/// Sends `bytes` and one of our descriptors along with them (unix(7), SCM_RIGHTS).
#[cfg(target_os = "linux")]
fn send_with_descriptor(stream: &TcpStream, bytes: &[u8], descriptor: &impl AsRawFd) {
    // cmsg(3): the length of the whole, the level, the type, and then the descriptor, filled up to a whole word.
    let length = size_of::<libc::cmsghdr>() + size_of::<i32>();
    let mut control = length.to_ne_bytes().to_vec();
    for number in [libc::SOL_SOCKET, libc::SCM_RIGHTS, descriptor.as_raw_fd()] {
        control.extend(number.to_ne_bytes());
    }
    control.resize(length.next_multiple_of(size_of::<usize>()), 0);
    let pieces = [IoSlice::new(bytes)];
    let message = MsgHdr::new().with_buffers(&pieces).with_control(&control);
    assert_eq!(SockRef::from(stream).sendmsg(&message, 0).unwrap(), bytes.len());
}

#[test]
#[cfg(target_os = "linux")]
fn a_descriptor_that_a_peer_passes_along_hides_nothing_behind_it_and_is_not_kept() {
    // Behind it, the kernel ends a read with more to come, and all of that may have come with one edge: the program is held
    // meanwhile, once before it has accepted, and once after. What is passed along goes nowhere.
    let directory = Directory::new("passed");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    let send_three = |stream: &mut TcpStream| {
        for _ in 0..2 {
            send_with_descriptor(stream, b"one, ", stream);
        }
        stream.write_all(b"two").unwrap();
    };
    let check = |stream: &mut TcpStream| {
        let mut reply = [0; 13];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"one, one, two");
    };
    let mut stream = program.while_held(|| {
        let mut stream = connect(&path);
        send_three(&mut stream);
        stream
    });
    check(&mut stream);
    let before = program.descriptors();
    for _ in 0..3 {
        program.while_held(|| send_three(&mut stream));
        check(&mut stream);
    }
    assert_eq!(program.descriptors(), before);
}

#[test]
fn a_stop_serves_those_who_stand_at_the_door() {
    let directory = Directory::new("door");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    let streams: Vec<TcpStream> = program.while_held(|| {
        let mut streams: Vec<TcpStream> = (0..100).map(|_| connect(&path)).collect();
        streams.iter_mut().for_each(|stream| stream.write_all(b"first").unwrap());
        program.signal("TERM");
        streams
    });
    streams.into_iter().for_each(|stream| check_end(stream, b"first"));
    assert_eq!(program.wait().status.code(), Some(0));
}

// ---- the files

#[test]
fn its_start_line_names_the_path_and_its_file_goes_when_it_stops() {
    // A path may be relative, also to the last.
    let directory = Directory::new("line");
    for (name, place) in [("one", at(&directory.path("one"))), ("two", "unix:two".to_string())] {
        let arguments = ["--tcp", &place, "--log", "debug"];
        let mut command = reactor();
        let mut program = Program::spawn(command.args(arguments).current_dir(&directory.0));
        program.read_addresses(&arguments);
        let path = directory.path(name);
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        assert_eq!(neighbours(&path), [name]);
        check_echo(&mut connect(&path), b"hello");
        let line = program.logged("closed: ");
        assert!(line.contains(" unix: closed: finished"), "{line}");
        let ending = program.stop();
        assert_eq!(
            (ending.status.code(), ending.stdout),
            (Some(0), vec![format!("tcp echo {place}")])
        );
        assert_eq!(inode(&path), None);
    }
}

#[test]
fn the_file_of_one_who_was_killed_is_taken_over() {
    let directory = Directory::new("stale");
    let path = directory.path("socket");
    let killed = serve_echo(&path);
    killed.signal("KILL");
    killed.wait();
    assert!(inode(&path).is_some(), "it could not remove its file");
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let program = serve_echo(&path);
    check_echo(&mut connect(&path), b"hello");
    assert_eq!(program.stop().status.code(), Some(0));
    assert_eq!(inode(&path), None);
}

/// What is in the directory in which `path` is.
fn neighbours(path: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(path.parent().unwrap()).into_iter().flatten();
    let mut names: Vec<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// Starts the program at `path`, where it must not serve. It says why, and leaves what is there as it is, and nothing beside it.
#[track_caller]
fn check_refused(path: &Path, why: &str) {
    let (inode_before, neighbours_before) = (inode(path), neighbours(path));
    for (flag, service) in [("--tcp", "tcp echo"), ("--http", "http")] {
        let Ending { status, stdout, stderr } =
            Program::spawn(reactor().args([flag, &at(path)])).wait();
        assert_eq!((status.code(), stdout.len()), (Some(1), 0), "{stderr:?}");
        let [line] = &stderr[..] else { panic!("one line: {stderr:?}") };
        assert!(
            line.starts_with(&format!("reactor: {service} {}: ", at(path))) && line.contains(why),
            "{line}"
        );
    }
    assert_eq!(inode(path), inode_before, "it has not been touched");
    assert_eq!(neighbours(path), neighbours_before);
}

#[test]
fn where_somebody_listens_nothing_is_taken_over() {
    // One who accepts, and one who listens for datagrams.
    let directory = Directory::new("live");
    let path = directory.path("program");
    let program = serve_echo(&path);
    check_refused(&path, "in use: a process listens there");
    check_echo(&mut connect(&path), b"I am still here.");
    assert_eq!(program.stop().status.code(), Some(0));

    let path = directory.path("datagrams");
    let _datagrams = UnixDatagram::bind(&path).unwrap();
    check_refused(&path, "in use: a socket of unknown state is there");
}

#[test]
#[cfg(target_os = "linux")]
fn one_with_a_full_queue_listens_too() {
    // So many wait there that nobody can be let in, to ask.
    let directory = Directory::new("full");
    let path = directory.path("socket");
    let address = SockAddr::unix(&path).unwrap();
    let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    full.bind(&address).unwrap();
    full.listen(0).unwrap();
    let come = || {
        let peer = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        peer.set_nonblocking(true).unwrap();
        peer.connect(&address).map(|()| peer)
    };
    let _waiting: Vec<Socket> = std::iter::from_fn(|| come().ok()).take(1000).collect();
    assert_eq!(come().unwrap_err().kind(), ErrorKind::WouldBlock);
    check_refused(&path, "in use: a process listens there");
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    // Also a symbolic link, wherever it leads: to somebody who listens, to one who does not, to a file, or to nothing.
    let directory = Directory::new("other");
    let file = directory.path("file");
    fs::write(&file, "mine").unwrap();
    check_refused(&file, "in use: a file that is not a socket is there");
    check_refused(&directory.0, "in use: a file that is not a socket is there");
    let (live, stale) = (directory.path("live"), directory.path("stale"));
    let _live = UnixListener::bind(&live).unwrap();
    drop(UnixListener::bind(&stale).unwrap());
    for (number, target) in
        [&live, &stale, &file, &directory.path("nothing")].into_iter().enumerate()
    {
        let (link, target_before) = (directory.path(&format!("link {number}")), inode(target));
        symlink(target, &link).unwrap();
        check_refused(&link, "in use: a symbolic link is there");
        assert_eq!((fs::read_link(&link).unwrap(), inode(target)), (target.clone(), target_before));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn a_file_that_has_taken_the_place_of_ours_stays_when_we_stop() {
    // Somebody has removed the program's file and has put something else there: a socket, or any other file.
    let directory = Directory::new("replaced");
    let path = directory.path("socket");
    let program = serve_echo(&path);
    fs::remove_file(&path).unwrap();
    let others = UnixListener::bind(&path).unwrap();
    let before = inode(&path);
    assert_eq!(program.stop().status.code(), Some(0));
    assert_eq!(inode(&path), before);
    UnixStream::connect(&path).unwrap();
    drop(others);

    fs::remove_file(&path).unwrap();
    let program = serve_echo(&path);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "mine").unwrap();
    assert_eq!(program.stop().status.code(), Some(0));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");

    fs::remove_file(&path).unwrap();
    let program = serve_echo(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(
        program.stop().status.code(),
        Some(0),
        "that there is nothing to remove does not matter"
    );
}

#[test]
fn who_finds_the_file_finds_somebody_who_listens() {
    // Somebody asks without pause, from before there is a file until there is an answer, which must not be that nobody listens.
    // (Were there such a moment, some of these rounds would meet it.)
    let directory = Directory::new("asked");
    let (round, rounds) = mpsc::channel::<PathBuf>();
    let (answer, answers) = mpsc::channel();
    thread::spawn(move || {
        let knock = |path: &PathBuf| loop {
            match UnixStream::connect(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => return other.map(drop).map_err(|error| error.kind()),
            }
        };
        rounds.iter().try_for_each(|path| answer.send(knock(&path)))
    });
    for number in 0..1000 {
        let path = directory.path(&number.to_string());
        round.send(path.clone()).unwrap();
        let mut reactor = Reactor::new(Limits::default()).unwrap();
        reactor.listen_unix(&path, Echo::new).unwrap();
        assert_eq!(answers.recv_timeout(PATIENCE).unwrap(), Ok(()), "round {number}");
    }
}

#[test]
fn of_those_who_start_at_once_one_has_the_path_and_the_others_are_told() {
    // Whoever has it can be reached, also when the others have gone.
    let directory = Directory::new("race");
    let path = directory.path("socket");
    let all = Barrier::new(3);
    for number in 0..1000 {
        let begin = || {
            let mut reactor = Reactor::new(Limits::default()).unwrap();
            all.wait();
            let result = reactor.listen_unix(&path, Echo::new).map_err(|error| error.kind());
            let _reactor = result.is_ok().then_some(reactor); // who has lost goes at once
            all.wait();
            let is_reached = UnixStream::connect(&path).is_ok();
            all.wait();
            (result, is_reached)
        };
        let endings: Vec<_> = thread::scope(|scope| {
            let three: Vec<_> = (0..3).map(|_| scope.spawn(begin)).collect();
            three.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let count = |result| endings.iter().filter(|ending| **ending == (result, true)).count();
        assert_eq!(
            (count(Ok(())), count(Err(ErrorKind::AddrInUse))),
            (1, 2),
            "round {number}: {endings:?}"
        );
        assert_eq!(neighbours(&path), [""; 0]);
    }
}

#[test]
fn a_path_that_cannot_be_a_sockets_is_refused_with_the_reason() {
    // One that is as long as it may be is not.
    let directory = Directory::new("paths");
    let longest = directory.path(&"x".repeat(106 - directory.0.as_os_str().len()));
    let program = serve_echo(&longest);
    check_echo(&mut connect(&longest), b"hello");
    assert_eq!((program.stop().status.code(), neighbours(&longest)), (Some(0), vec![]));
    check_refused(&directory.path(&"x".repeat(108)), "too long");
    check_refused(&directory.path("nowhere/socket"), "No such file or directory");
    for arguments in
        [["--tcp", "unix:"], ["--http", "unix:"], ["--udp", "unix:/tmp/socket"], ["--tcp", "unix"]]
    {
        let Ending { status, stderr, .. } = Program::spawn(reactor().args(arguments)).wait();
        assert_eq!((status.code(), stderr.len()), (Some(2), 1), "{arguments:?}: {stderr:?}");
    }
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    for path in ["", "\0name", "a\0b"] {
        assert_eq!(
            reactor.listen_unix(path, Echo::new).unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "{path:?}"
        );
    }
}

// ---- the library

/// Tells who it talks with.
struct Tells(Rc<RefCell<Vec<Peer>>>);

impl Protocol for Tells {
    fn advance(&mut self, input: &[u8], cx: &mut Context<'_>) -> Advance {
        self.0.borrow_mut().push(cx.peer());
        cx.send(input);
        Advance::consumed(input.len())
    }
}

#[test]
fn one_reactor_serves_both_kinds_of_peers_and_a_protocol_can_tell_them_apart() {
    let directory = Directory::new("both");
    let path = directory.path("socket");
    let peers = Rc::new(RefCell::new(Vec::new()));
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    let (of_tcp, of_unix) = (Rc::clone(&peers), Rc::clone(&peers));
    let address = reactor.listen(any_port(), move |_| Tells(Rc::clone(&of_tcp))).unwrap();
    reactor.listen_unix(&path, move || Tells(Rc::clone(&of_unix))).unwrap();
    let (mut over_tcp, mut over_unix) = (common::connect(address), connect(&path));
    for (stream, bytes_out) in [(&mut over_tcp, 5), (&mut over_unix, 10)] {
        stream.write_all(b"hello").unwrap();
        turn_until(&mut reactor, "an answer", |stats| stats.bytes_out == bytes_out);
    }
    let name = over_tcp.local_addr().unwrap();
    assert_eq!(*peers.borrow(), [Peer::Ip(name), Peer::Unix]);
    let told: Vec<String> = peers.borrow().iter().map(Peer::to_string).collect();
    assert_eq!(told, [name.to_string(), "unix".to_string()]);
    assert_eq!((Peer::from(name).address(), Peer::Unix.address()), (Some(name), None));
}

#[test]
fn a_reactor_that_is_dropped_takes_its_file_along() {
    let directory = Directory::new("dropped");
    let path = directory.path("socket");
    let mut reactor = Reactor::new(Limits::default()).unwrap();
    reactor.listen_unix(&path, Echo::new).unwrap();
    let error = reactor.listen_unix(&path, Echo::new).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "also from the same reactor: {error}");
    assert!(inode(&path).is_some());
    drop(reactor);
    assert_eq!(inode(&path), None);
}
